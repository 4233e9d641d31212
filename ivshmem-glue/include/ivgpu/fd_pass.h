/* Descriptors over UNIX sockets: one message with its descriptors, never blocking. */
#ifndef IVG_FD_PASS_H
#define IVG_FD_PASS_H

#include <stddef.h>
#include <stdint.h>

#define IVG_FDS_PER_MESSAGE_MAX 12u

/* Sends all of `data` with `fd_count` descriptors. 0 or -errno (-EAGAIN: the socket's buffer is full). */
int ivg_fds_send(int socket, const void *data, size_t bytes, const int *fds, uint32_t fd_count);

/* Receives one message of at most `capacity` bytes and up to IVG_FDS_PER_MESSAGE_MAX descriptors (close-on-exec).
 * Returns the message's length, which may exceed `capacity` on a SOCK_SEQPACKET socket (the rest is lost), 0 at
 * end-of-file, or -errno. On failure and end-of-file no descriptor is left open. */
long ivg_fds_receive(int socket, void *data, size_t capacity, int *fds, uint32_t *fd_count);

#endif
