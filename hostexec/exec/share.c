/* The driver's descriptors of shared memory, left with the mediator and fetched there (share_protocol.h). */
#include "exec_internal.h"
#include "ivgpu/fd_pass.h"
#include "share_protocol.h"
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

/* One request at a time: the socket has one conversation. */
static pthread_mutex_t share_mutex = PTHREAD_MUTEX_INITIALIZER;
static uint32_t share_sequence; /* under the mutex */

/* The answer to `sequence`, later than which nothing is waited for. Returns 0 or -errno; *fd: what came along, or -1.
 */
static int answer_take(int socket, uint32_t sequence, uint64_t end_ns, struct ivg_share_message *answer, int *fd)
{
        struct pollfd wait = {.fd = socket, .events = POLLIN};

        for (;;) {
                const uint64_t now_ns = ivg_clock_ns();
                int fds[IVG_FDS_PER_MESSAGE_MAX];
                uint32_t count = 0;
                long bytes;

                if (now_ns >= end_ns)
                        return -ETIMEDOUT;
                if (poll(&wait, 1, (int)((end_ns - now_ns) / 1000000u) + 1) < 0 && errno != EINTR)
                        return -errno;
                bytes = ivg_fds_receive(socket, answer, sizeof(*answer), fds, &count);
                if (bytes == -EAGAIN)
                        continue;
                if (bytes <= 0)
                        return bytes == 0 ? -EPIPE : (int)bytes;
                *fd = count > 0 ? fds[--count] : -1;
                while (count > 0)
                        close(fds[--count]);
                if (bytes == (long)sizeof(*answer) && answer->magic == IVG_SHARE_MAGIC && answer->sequence == sequence)
                        return 0;
                if (*fd >= 0) /* of a request that was given up */
                        close(*fd);
                *fd = -1;
        }
}

static CUresult ask(struct ivg_exec *exec, enum ivg_share_request request, uint32_t place, int given_fd, int *fetched)
{
        struct ivg_share_message message = {.magic = IVG_SHARE_MAGIC, .request = (uint32_t)request, .place = place};
        struct ivg_share_message answer = {.error = EIO};
        int fd = -1, rc;

        if (exec->share_fd < 0)
                return CUDA_ERROR_NOT_SUPPORTED;
        pthread_mutex_lock(&share_mutex);
        message.sequence = ++share_sequence;
        rc = ivg_fds_send(exec->share_fd, &message, sizeof(message), &given_fd, given_fd >= 0 ? 1 : 0);
        if (rc == 0)
                rc = answer_take(exec->share_fd, message.sequence, ivg_clock_ns() + IVG_SHARE_ANSWER_MS * 1000000ull,
                                 &answer, &fd);
        pthread_mutex_unlock(&share_mutex);
        if (rc == 0)
                rc = -answer.error;
        if (rc == 0 && fetched && fd < 0)
                rc = -EBADF;
        if (rc == 0 && fetched) {
                *fetched = fd;
        } else if (fd >= 0) {
                close(fd);
        }
        if (rc != 0 && rc != -ENOENT)
                ivg_log(IVG_LOG_WARNING, "sharing: request %u for place %u: %s", (unsigned)request, place,
                        strerror(-rc));
        return rc == 0 ? CUDA_SUCCESS : rc == -ENOENT ? CUDA_ERROR_INVALID_VALUE : CUDA_ERROR_OPERATING_SYSTEM;
}

CUresult ivg_share_keep(struct ivg_exec *exec, uint32_t place, int fd)
{
        return ask(exec, IVG_SHARE_KEEP, place, fd, NULL);
}

CUresult ivg_share_let_go(struct ivg_exec *exec, uint32_t place)
{
        return ask(exec, IVG_SHARE_LET_GO, place, -1, NULL);
}

CUresult ivg_share_fetch(struct ivg_exec *exec, uint32_t place, int *fd)
{
        return ask(exec, IVG_SHARE_FETCH, place, -1, fd);
}
