/* How executors reach the keeper of module images (ivgpu-images): fixed-size messages on SOCK_SEQPACKET pairs.
 *
 * The keeper is a process of its own that only stores and hashes: an executor that a guest has taken over can tell it
 * lies, but what others are given under a name has been found to have that name.
 *
 *   mediator -> keeper   CONNECT with one end of a pair: an executor's, of `tenant`, looking into `space`
 *   executor -> keeper   FIND name, bytes                         answered by FOUND with a descriptor, or MISSING
 *   executor -> keeper   KEEP name, bytes, with a descriptor      not answered: taken or dropped
 * Descriptors are memfds sealed against every change (IVG_IMAGES_SEALS), as long as the image. */
#ifndef IVG_IMAGE_CONTROL_H
#define IVG_IMAGE_CONTROL_H

#include "ivgpu/digest.h"
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define IVG_IMAGES_MAGIC 0x4d495649u        /* "IVIM" */
#define IVG_IMAGES_BYTES_MAX (256ull << 20) /* of one image: the limit of the rows that bring them */
#define IVG_IMAGES_SEALS (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

enum ivg_images_type {
        IVG_IMAGES_CONNECT = 1,
        IVG_IMAGES_FIND = 2,
        IVG_IMAGES_KEEP = 3,
        IVG_IMAGES_FOUND = 4,
        IVG_IMAGES_MISSING = 5,
};

struct ivg_images_message {
        uint32_t magic, type; /* enum ivg_images_type */
        uint64_t sequence;    /* of a FIND, and of its answer */
        struct ivg_digest digest;
        uint64_t bytes;
        uint32_t tenant; /* CONNECT: whose store is charged */
        uint32_t space;  /* CONNECT: names of other spaces are not found; 0: shared by all tenants */
};
_Static_assert(sizeof(struct ivg_images_message) == 64, "one message, one size: both ends are of one build");

/* Sends a message and, unless -1, a descriptor. Does not block. 0 or -errno. */
static inline int ivg_images_send(int socket_fd, const struct ivg_images_message *message, int fd)
{
        struct iovec part = {.iov_base = (void *)(uintptr_t)message, .iov_len = sizeof(*message)};
        union {
                struct cmsghdr align;
                char bytes[CMSG_SPACE(sizeof(int))];
        } control;
        struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1};

        if (fd >= 0) {
                memset(&control, 0, sizeof(control));
                header.msg_control = control.bytes;
                header.msg_controllen = sizeof(control.bytes);
                CMSG_FIRSTHDR(&header)->cmsg_level = SOL_SOCKET;
                CMSG_FIRSTHDR(&header)->cmsg_type = SCM_RIGHTS;
                CMSG_FIRSTHDR(&header)->cmsg_len = CMSG_LEN(sizeof(int));
                memcpy(CMSG_DATA(CMSG_FIRSTHDR(&header)), &fd, sizeof(fd));
        }
        return sendmsg(socket_fd, &header, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

/* Receives a message and the descriptor that came with it, or -1 in *fd. Does not block. 0; -EAGAIN; -EPIPE at the end;
 * -EPROTO for what is none of ours, which is consumed. */
static inline int ivg_images_receive(int socket_fd, struct ivg_images_message *message, int *fd)
{
        struct iovec part = {.iov_base = message, .iov_len = sizeof(*message)};
        union {
                struct cmsghdr align;
                char bytes[CMSG_SPACE(sizeof(int))];
        } control;
        /* CMSG_LEN: in CMSG_SPACE's padding a second descriptor would fit, unseen and never closed. */
        struct msghdr header = {.msg_iov = &part,
                                .msg_iovlen = 1,
                                .msg_control = control.bytes,
                                .msg_controllen = CMSG_LEN(sizeof(int))};
        const struct cmsghdr *cmsg;
        ssize_t bytes;

        *fd = -1;
        do
                bytes = recvmsg(socket_fd, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        while (bytes < 0 && errno == EINTR);
        if (bytes <= 0)
                return bytes == 0 ? -EPIPE : -errno;
        cmsg = CMSG_FIRSTHDR(&header);
        if (cmsg && cmsg->cmsg_level == SOL_SOCKET && cmsg->cmsg_type == SCM_RIGHTS &&
            cmsg->cmsg_len == CMSG_LEN(sizeof(int)))
                memcpy(fd, CMSG_DATA(cmsg), sizeof(*fd));
        if (bytes == (ssize_t)sizeof(*message) && !(header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) &&
            message->magic == IVG_IMAGES_MAGIC)
                return 0;
        if (*fd >= 0)
                close(*fd);
        *fd = -1;
        return -EPROTO;
}

/* True when `fd` is memory of exactly `bytes` bytes that nobody can change any more. */
static inline bool ivg_images_sealed(int fd, uint64_t bytes)
{
        const int seals = fcntl(fd, F_GET_SEALS); /* fails for everything but such memory: nothing else is read */
        struct stat status;

        return seals >= 0 && (seals & IVG_IMAGES_SEALS) == IVG_IMAGES_SEALS && fstat(fd, &status) == 0 &&
               S_ISREG(status.st_mode) && status.st_size >= 0 && (uint64_t)status.st_size == bytes;
}

#endif
