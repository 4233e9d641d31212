/* The host's side of attaching: an ivshmem server for one VM's QEMU, and the local attach socket.
 *
 * Both are state machines without threads: the mediator's epoll loop calls them. Neither ever blocks. */
#ifndef IVGPU_SERVER_H
#define IVGPU_SERVER_H

#include "ivgpu/region.h"
#include <sys/socket.h>
#include <sys/types.h>

struct ucred; /* from sys/socket.h where _GNU_SOURCE is defined */

/* ---- ivshmem server (QEMU docs/specs/ivshmem-spec.rst, section "ivshmem client-server protocol") ---- */

/* One VM: host eventfds (guest rings, host reads; index = vector) and guest eventfds (host writes, guest is
 * interrupted). */
struct ivg_doorbells {
        uint32_t vector_count;
        int to_host[IVG_VECTORS_MAX];
        int to_guest[IVG_VECTORS_MAX];
};
/* Makes both eventfds (close-on-exec, non-blocking) of 2..IVG_VECTORS_MAX vectors. -EINVAL, or eventfd's -errno, with
 * words and nothing left open. */
int ivg_doorbells_create(struct ivg_doorbells *doorbells, uint32_t vector_count, struct ivg_error *error);
void ivg_doorbells_close(struct ivg_doorbells *doorbells);

/* Binds a listening, non-blocking UNIX socket of `socket_type` (SOCK_STREAM for QEMU, SOCK_SEQPACKET for local attach)
 * at `path` with exactly `mode` (e.g. 0660); replaces a stale one, refuses a live one (-EADDRINUSE) and any other kind
 * of file (-ENOTSOCK). Returns the descriptor or -errno. Two servers must not start on one path at the same instant. */
int ivg_server_listen(const char *path, mode_t mode, int socket_type, struct ivg_error *error);

/* Sends a connected QEMU everything it needs: version 0, client id 1, the memfd, host's eventfds as peer 0, its own as
 * peer 1. `socket` stays open: its end-of-file is QEMU's end. The greeting fits the socket's buffer; when it does not
 * (-EAGAIN), or QEMU has gone (-EPIPE), the connection is of no use: close it. */
int ivg_ivshmem_greet(int socket, int memfd, const struct ivg_doorbells *doorbells, struct ivg_error *error);

/* ---- local attach (SOCK_SEQPACKET; one message each way, then the socket is only a sign of life) ---- */

#define IVG_LOCAL_MAGIC 0x4c475649u /* "IVGL" */
struct ivg_local_hello {
        uint32_t magic;
        uint32_t layout_version;
        uint64_t call_table_fingerprint;
};
struct ivg_local_welcome { /* with four descriptors: memfd, eventfd to the mediator (control), doorbell eventfd
                            * to the executor, interrupt eventfd to the guest; in this order */
        uint32_t magic;
        uint32_t code; /* enum ivg_error_code; not NONE: no descriptors, `text` says why */
        uint32_t layout_version;
        uint32_t reserved;
        uint64_t call_table_fingerprint;
        uint64_t region_bytes;
        char text[192];
};
/* Receives one hello without blocking (-EAGAIN: later). Checks length, magic, version, fingerprint; on a mismatch the
 * refusal with both values has been sent and -EPROTO is returned; -EPIPE: the client has closed. Fills the peer's
 * credentials (SO_PEERCRED). A forked child of the client holds the same socket: watch the peer's pid (pidfd) as well.
 */
int ivg_local_receive_hello(int socket, uint64_t call_table_fingerprint, struct ucred *peer, struct ivg_error *error);
/* The fingerprint in the welcome is the one in the region's page. */
int ivg_local_send_welcome(int socket, int memfd, int control_eventfd, int doorbell_eventfd, int interrupt_eventfd,
                           uint64_t region_bytes, struct ivg_error *error);
/* `code` is not IVG_ERROR_NONE (-EINVAL); `text` is cut to the welcome's field. */
int ivg_local_send_refusal(int socket, enum ivg_error_code code, const char *text);

#endif
