/* The host as an ivshmem server of one QEMU, and as that QEMU's only peer.
 *
 * On the wire each message is a signed 64-bit little-endian number with at most one descriptor: protocol version, the
 * client's id, -1 with the memory, then for each peer its id once per vector, each with an eventfd. The peer that the
 * client itself is comes with the eventfds that interrupt it. Nothing travels the other way. */
#include "glue_internal.h"
#include "ivgpu/fd_pass.h"
#include "ivgpu/server.h"
#include <endian.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#define IVSHMEM_PROTOCOL_VERSION 0
#define IVSHMEM_MEMORY (-1)
#define IVSHMEM_PEER_HOST 0 /* what struct ivg_region_page.doorbell_peer says */
#define IVSHMEM_PEER_GUEST 1

/* Room for the whole greeting in the socket: each message costs the kernel under 2 KiB of accounting. */
#define GREETING_SEND_BUFFER_BYTES ((int)((3 + 2 * IVG_VECTORS_MAX) * 2048))

int ivg_doorbells_create(struct ivg_doorbells *doorbells, uint32_t vector_count, struct ivg_error *error)
{
        *doorbells = (struct ivg_doorbells){0};
        if (vector_count < 2 || vector_count > IVG_VECTORS_MAX) {
                ivg_error_set(error, "vector_count %u outside 2..%u", vector_count, IVG_VECTORS_MAX);
                return -EINVAL;
        }
        for (uint32_t i = 0; i < vector_count; i++) {
                doorbells->to_host[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
                doorbells->to_guest[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
                doorbells->vector_count = i + 1;
                if (doorbells->to_host[i] < 0 || doorbells->to_guest[i] < 0) {
                        const int rc = -errno;

                        ivg_error_set(error, "eventfd for vector %u of %u: %s", i, vector_count, strerror(errno));
                        ivg_doorbells_close(doorbells);
                        return rc;
                }
        }
        return 0;
}

void ivg_doorbells_close(struct ivg_doorbells *doorbells)
{
        for (uint32_t i = 0; i < doorbells->vector_count; i++) {
                ivg_close_fd(&doorbells->to_host[i]);
                ivg_close_fd(&doorbells->to_guest[i]);
        }
        doorbells->vector_count = 0;
}

static int greeting_send(int socket, int64_t value, int fd)
{
        const int64_t wire = (int64_t)htole64((uint64_t)value);

        return ivg_fds_send(socket, &wire, sizeof(wire), &fd, fd >= 0 ? 1 : 0);
}

static int greeting_send_peer(int socket, int64_t peer, const int *eventfds, uint32_t count, struct ivg_error *error)
{
        for (uint32_t i = 0; i < count; i++) {
                const int rc = greeting_send(socket, peer, eventfds[i]);

                if (rc < 0) {
                        ivg_error_set(error, "ivshmem greeting: eventfd of peer %lld, vector %u: %s", (long long)peer,
                                      i, strerror(-rc));
                        return rc;
                }
        }
        return 0;
}

int ivg_ivshmem_greet(int socket, int memfd, const struct ivg_doorbells *doorbells, struct ivg_error *error)
{
        const int send_buffer_bytes = GREETING_SEND_BUFFER_BYTES;
        int rc;

        /* QEMU reads the first three messages inside its start-up and the rest in its main loop; all must fit, since we
         * do not wait. A failure here only leaves the default size, and then a full socket is told as such. */
        setsockopt(socket, SOL_SOCKET, SO_SNDBUF, &send_buffer_bytes, sizeof(send_buffer_bytes));
        rc = greeting_send(socket, IVSHMEM_PROTOCOL_VERSION, -1);
        if (rc == 0)
                rc = greeting_send(socket, IVSHMEM_PEER_GUEST, -1);
        if (rc == 0)
                rc = greeting_send(socket, IVSHMEM_MEMORY, memfd);
        if (rc < 0) {
                ivg_error_set(error, "ivshmem greeting: version, id or memory: %s", strerror(-rc));
                return rc;
        }
        rc = greeting_send_peer(socket, IVSHMEM_PEER_HOST, doorbells->to_host, doorbells->vector_count, error);
        if (rc == 0)
                rc = greeting_send_peer(socket, IVSHMEM_PEER_GUEST, doorbells->to_guest, doorbells->vector_count,
                                        error);
        return rc;
}
