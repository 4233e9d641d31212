/* The executor's end of its board. */
#include "exec_internal.h"
#include <errno.h>
#include <sys/mman.h>
#include <sys/stat.h>

/* As without a mediator: everything may run. */
static struct ivg_board *private_board(void)
{
        struct ivg_board *board =
                mmap(NULL, sizeof(*board), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        if (board == MAP_FAILED)
                return NULL;
        ivg_board_format(board);
        return board;
}

struct ivg_board *ivg_board_map(int fd)
{
        struct ivg_board *board;
        struct stat status;

        if (fd < 0)
                return private_board();
        if (fstat(fd, &status) < 0)
                return NULL;
        if (status.st_size != (off_t)sizeof(*board)) {
                errno = EINVAL;
                return NULL;
        }
        board = mmap(NULL, sizeof(*board), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (board == MAP_FAILED)
                return NULL;
        if (board->orders.magic != IVG_BOARD_MAGIC || board->orders.bytes != sizeof(*board)) {
                munmap(board, sizeof(*board));
                errno = EPROTO;
                return NULL;
        }
        return board;
}

void ivg_board_unmap(struct ivg_board *board)
{
        if (board)
                munmap(board, sizeof(*board));
}
