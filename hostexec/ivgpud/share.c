/* The descriptors that a tenant's executors share (share_protocol.h): kept here, so that they end with the executor
 * that brought them, and reach no other tenant. */
#include "ipc_table.h"
#include "ivgpu/fd_pass.h"
#include "mediator.h"
#include "share_protocol.h"
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

struct ivg_shares {
        struct {
                const struct ivg_executor *owner; /* NULL: empty */
                int fd;
        } places[IVG_IPC_SLOTS];
};

struct ivg_shares *ivg_shares_create(void)
{
        return calloc(1, sizeof(struct ivg_shares));
}

void ivg_shares_destroy(struct ivg_shares *shares)
{
        for (uint32_t i = 0; shares && i < IVG_IPC_SLOTS; i++)
                if (shares->places[i].owner)
                        close(shares->places[i].fd);
        free(shares);
}

static int let_go(struct ivg_shares *shares, const struct ivg_executor *executor, uint32_t place)
{
        if (shares->places[place].owner != executor)
                return ENOENT;
        close(shares->places[place].fd);
        shares->places[place].owner = NULL;
        return 0;
}

void ivg_shares_end_of(struct ivg_shares *shares, const struct ivg_executor *executor)
{
        for (uint32_t i = 0; i < IVG_IPC_SLOTS; i++)
                (void)let_go(shares, executor, i);
}

/* Takes the descriptor (*fd is -1 then) when it is kept. */
static int keep(struct ivg_shares *shares, const struct ivg_executor *executor, uint32_t place, int *fd)
{
        const struct ivg_executor *owner = shares->places[place].owner;

        if (*fd < 0)
                return EBADF;
        if (owner && owner != executor)
                return EBUSY;
        (void)let_go(shares, executor, place); /* an earlier object of that place */
        shares->places[place].owner = executor;
        shares->places[place].fd = *fd;
        *fd = -1;
        return 0;
}

/* Carries out one request; *fd is what came with it, and what goes with the answer. */
static void handle(struct ivg_shares *shares, const struct ivg_executor *executor, struct ivg_share_message *message,
                   int *fd, int *answer_fd)
{
        if (message->place >= IVG_IPC_SLOTS) {
                message->error = EINVAL;
                return;
        }
        switch (message->request) {
        case IVG_SHARE_KEEP:
                message->error = keep(shares, executor, message->place, fd);
                return;
        case IVG_SHARE_LET_GO:
                message->error = let_go(shares, executor, message->place);
                return;
        case IVG_SHARE_FETCH:
                message->error = shares->places[message->place].owner ? 0 : ENOENT;
                if (message->error == 0)
                        *answer_fd = shares->places[message->place].fd;
                return;
        default:
                message->error = EINVAL;
        }
}

/* 1: there may be more; 0: nothing now; below 0: nothing more will come. */
static int serve_one(struct ivg_executor *executor)
{
        struct ivg_share_message message;
        int fds[IVG_FDS_PER_MESSAGE_MAX], fd = -1, answer_fd = -1, rc;
        uint32_t count = 0;
        const long bytes = ivg_fds_receive(executor->share.fd, &message, sizeof(message), fds, &count);

        if (bytes <= 0)
                return bytes == -EAGAIN ? 0 : -1;
        if (count > 0)
                fd = fds[--count];
        while (count > 0)
                close(fds[--count]);
        if (bytes != (long)sizeof(message) || message.magic != IVG_SHARE_MAGIC) {
                ivg_log(IVG_EVENT_EXECUTOR_ODD, ivg_about_executor(executor),
                        "executor %d: a request of %ld bytes to share is none of ours", (int)executor->pid, bytes);
                rc = -EPROTO;
        } else {
                handle(executor->channel->tenant->shares, executor, &message, &fd, &answer_fd);
                rc = ivg_fds_send(executor->share.fd, &message, sizeof(message), &answer_fd, answer_fd >= 0 ? 1 : 0);
        }
        if (fd >= 0)
                close(fd);
        if (rc < 0 && rc != -EPROTO)
                ivg_log(IVG_EVENT_EXECUTOR_ODD, ivg_about_executor(executor),
                        "executor %d: a request to share could not be answered: error %d", (int)executor->pid, -rc);
        return rc == 0 ? 1 : -1; /* one that breaks the protocol is not listened to again */
}

void ivg_shares_ready(struct ivg_mediator *mediator, struct ivg_source *source, uint32_t events)
{
        struct ivg_executor *executor = (void *)((char *)source - offsetof(struct ivg_executor, share));
        int more = 1;

        (void)events;
        for (uint32_t i = 0; more > 0 && i < IVG_EXECUTOR_MESSAGES_PER_TURN; i++)
                more = serve_one(executor);
        if (more < 0)
                ivg_loop_close(mediator, source);
}
