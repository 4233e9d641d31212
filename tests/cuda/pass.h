/* Descriptors from one process to another, each with some bytes. */
#ifndef IVG_TEST_PASS_H
#define IVG_TEST_PASS_H

#include "check.h"
#include <sys/socket.h>
#include <sys/uio.h>

static inline void test_send_fd(int socket, int fd, const void *data, size_t bytes)
{
        struct iovec vector = {.iov_base = (void *)(uintptr_t)data, .iov_len = bytes};
        _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {0};
        struct msghdr message = {
                .msg_iov = &vector, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);

        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(header), &fd, sizeof(fd));
        CHECK(sendmsg(socket, &message, 0) == (ssize_t)bytes, "sendmsg");
}

static inline int test_receive_fd(int socket, void *data, size_t bytes)
{
        struct iovec vector = {.iov_base = data, .iov_len = bytes};
        _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))];
        struct msghdr message = {
                .msg_iov = &vector, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
        int fd = -1;

        CHECK(recvmsg(socket, &message, MSG_WAITALL) == (ssize_t)bytes && CMSG_FIRSTHDR(&message) != NULL, "recvmsg");
        memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(fd));
        return fd;
}

#endif
