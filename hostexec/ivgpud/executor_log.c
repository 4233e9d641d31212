/* What an executor writes on its standard error. Where ivgpud's leads to the journal it comes through here and becomes
 * entries about the executor's VM, bounded like all others; else both write to the same file. */
#include "mediator.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* At its end what it wrote last is read: as much as a pipe holds, by pieces. */
#define PIECES_AT_END (65536u / IVG_EXECUTOR_LINE_BYTES + 1u)

/* The executor's own lines: "ivgpu-exec[vm=1 channel=0 pid=2]: WARNING ...". Others are the driver's. */
static enum ivg_log_level level_of(const char *line)
{
        const char *words = strncmp(line, "ivgpu-exec[", strlen("ivgpu-exec[")) == 0 ? strstr(line, "]: ") : NULL;

        if (words && strncmp(words + 3, "ERROR ", 6) == 0)
                return IVG_LOG_ERROR;
        return words && strncmp(words + 3, "WARNING ", 8) == 0 ? IVG_LOG_WARNING : IVG_LOG_INFO;
}

static void line_end(struct ivg_executor *executor)
{
        struct ivg_executor_words *words = &executor->words;

        words->line[words->used] = '\0';
        if (words->used > 0)
                ivg_log_at(level_of(words->line), IVG_EVENT_EXECUTOR_SAYS, ivg_about_executor(executor), words->line);
        words->used = 0;
}

/* One piece. False: nothing more for now, or ever. */
static bool read_piece(struct ivg_executor *executor)
{
        struct ivg_executor_words *words = &executor->words;
        char piece[IVG_EXECUTOR_LINE_BYTES];
        const ssize_t bytes = read(words->source.fd, piece, sizeof(piece));

        if (bytes == 0 || (bytes < 0 && errno != EAGAIN && errno != EINTR))
                ivg_loop_close(executor->mediator, &words->source);
        for (ssize_t i = 0; i < bytes; i++) {
                if (piece[i] == '\n') {
                        line_end(executor);
                        continue;
                }
                if (words->used == sizeof(words->line) - 1) /* a longer line goes on in the next entry */
                        line_end(executor);
                words->line[words->used++] = piece[i];
        }
        return bytes > 0;
}

static void words_ready(struct ivg_mediator *mediator, struct ivg_source *source, uint32_t events)
{
        (void)mediator;
        (void)events;
        (void)read_piece((void *)((char *)source - offsetof(struct ivg_executor, words.source)));
}

int ivg_executor_words_open(struct ivg_executor *executor, int *their_end)
{
        int ends[2], rc;

        executor->words.source = (struct ivg_source){.fd = -1, .ready = words_ready};
        *their_end = -1;
        if (!ivg_log_is_journal())
                return 0;
        if (pipe2(ends, O_CLOEXEC) < 0)
                return -errno;
        executor->words.source.fd = ends[0];
        rc = fcntl(ends[0], F_SETFL, O_NONBLOCK) < 0 ? -errno
                                                     : ivg_loop_watch(executor->mediator, &executor->words.source);
        if (rc < 0) {
                ivg_loop_close(executor->mediator, &executor->words.source);
                close(ends[1]);
                return rc;
        }
        *their_end = ends[1];
        return 0;
}

void ivg_executor_words_end(struct ivg_executor *executor)
{
        for (uint32_t i = 0; i < PIECES_AT_END && executor->words.source.fd >= 0 && read_piece(executor); i++)
                ;
        line_end(executor);
        ivg_loop_close(executor->mediator, &executor->words.source);
}
