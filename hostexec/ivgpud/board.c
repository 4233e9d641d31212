/* Boards (hostexec/common/board.h): one memory file for each executor that has a channel. */
#include "mediator.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

int ivg_board_create(struct ivg_board **out)
{
        struct ivg_board *board = MAP_FAILED;
        int fd = memfd_create("ivgpu-board", MFD_CLOEXEC | MFD_ALLOW_SEALING), error;

        if (fd < 0)
                return -errno;
        /* Sealed: an executor that shrinks it would end the mediator by SIGBUS. */
        if (ftruncate(fd, sizeof(*board)) == 0 &&
            fcntl(fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) == 0)
                board = mmap(NULL, sizeof(*board), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (board == MAP_FAILED) {
                error = -errno;
                close(fd);
                return error;
        }
        ivg_board_format(board);
        *out = board;
        return fd;
}

void ivg_board_close(struct ivg_board *board, int fd)
{
        if (!board)
                return;
        munmap(board, sizeof(*board));
        close(fd);
}
