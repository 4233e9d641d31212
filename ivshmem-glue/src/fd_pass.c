#include "ivgpu/fd_pass.h"
#include "glue_internal.h"
#include <assert.h>
#include <string.h>
#include <sys/socket.h>

#define CONTROL_BYTES CMSG_SPACE(sizeof(int) * IVG_FDS_PER_MESSAGE_MAX)

int ivg_fds_send(int socket, const void *data, size_t bytes, const int *fds, uint32_t fd_count)
{
        _Alignas(struct cmsghdr) char control[CONTROL_BYTES] = {0};
        struct iovec vector = {.iov_base = (void *)(uintptr_t)data, .iov_len = bytes};
        struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};
        ssize_t sent;

        assert(fd_count <= IVG_FDS_PER_MESSAGE_MAX);
        if (fd_count > 0) {
                struct cmsghdr *header;

                message.msg_control = control;
                message.msg_controllen = CMSG_SPACE(sizeof(int) * fd_count);
                header = CMSG_FIRSTHDR(&message);
                header->cmsg_level = SOL_SOCKET;
                header->cmsg_type = SCM_RIGHTS;
                header->cmsg_len = CMSG_LEN(sizeof(int) * fd_count);
                memcpy(CMSG_DATA(header), fds, sizeof(int) * fd_count);
        }
        do {
                sent = sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
        } while (sent < 0 && errno == EINTR);
        if (sent < 0)
                return -errno;
        return (size_t)sent == bytes ? 0 : -EMSGSIZE;
}

static uint32_t fds_take(struct msghdr *message, int *fds)
{
        uint32_t count = 0;

        for (struct cmsghdr *header = CMSG_FIRSTHDR(message); header != NULL; header = CMSG_NXTHDR(message, header)) {
                const size_t bytes = header->cmsg_len - CMSG_LEN(0);

                if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS)
                        continue;
                assert(bytes <= sizeof(int) * (IVG_FDS_PER_MESSAGE_MAX - count));
                memcpy(fds + count, CMSG_DATA(header), bytes);
                count += (uint32_t)(bytes / sizeof(int));
        }
        return count;
}

long ivg_fds_receive(int socket, void *data, size_t capacity, int *fds, uint32_t *fd_count)
{
        _Alignas(struct cmsghdr) char control[CONTROL_BYTES];
        struct iovec vector = {.iov_base = data, .iov_len = capacity};
        struct msghdr message = {
                .msg_iov = &vector, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
        ssize_t received;

        *fd_count = 0;
        do {
                received = recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC | MSG_TRUNC);
        } while (received < 0 && errno == EINTR);
        if (received < 0)
                return -errno;
        *fd_count = fds_take(&message, fds);
        if (received == 0) {
                while (*fd_count > 0)
                        ivg_close_fd(&fds[--*fd_count]);
        }
        return received;
}
