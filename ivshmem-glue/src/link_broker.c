/* The broker transport: a channel of an ivshmem device that vfio-pci has, handed out by ivgpu-broker in this guest.
 *
 * The broker has claimed the channel and closes it when our socket ends, by our death too. The descriptor is the whole
 * device, so what keeps the processes apart are the rights of mappings only. */
#include "ivgpu/broker.h"
#include "link_internal.h"
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>

enum { FD_DEVICE, FD_INTERRUPT };

static int region_attach(struct ivg_link *link, const struct ivg_broker_welcome *welcome,
                         struct ivg_link_request *request)
{
        void *page =
                mmap(NULL, IVG_PAGE_BYTES, PROT_READ, MAP_SHARED, link->region_fd, (off_t)welcome->region_file_offset);
        int rc;

        if (page == MAP_FAILED) {
                rc = -errno;
                ivg_error_set(request->error, "mapping the region page: %s", strerror(errno));
                return rc;
        }
        rc = ivg_region_check(page, welcome->common.region_bytes, request->call_table_fingerprint, &link->region,
                              request->error);
        munmap(page, IVG_PAGE_BYTES);
        if (rc == 0 && (welcome->channel >= link->region.channel_count || welcome->doorbell_vector == 0 ||
                        welcome->doorbell_vector >= link->region.vector_count)) {
                ivg_error_set(request->error, "channel %u of %u, vector %u of %u", welcome->channel,
                              link->region.channel_count, welcome->doorbell_vector, link->region.vector_count);
                rc = -EPROTO;
        }
        if (rc < 0)
                return rc;
        link->region.file_offset = welcome->region_file_offset;
        return ivg_region_map(&link->region, link->region_fd, IVG_SIDE_GUEST, welcome->channel, request->error);
}

static int broker_open(struct ivg_link *link, const char *path, struct ivg_link_request *request)
{
        struct ivg_broker_welcome welcome;
        int fds[IVG_BROKER_FDS] = {-1, -1};
        int rc;

        if (path == NULL) {
                ivg_error_set(request->error, "no place for a broker's socket");
                return -ENOENT;
        }
        rc = ivg_link_welcome(link, path, "broker", &welcome, sizeof(welcome), fds, IVG_BROKER_FDS, request);
        link->region_fd = fds[FD_DEVICE];
        link->interrupt_fd = fds[FD_INTERRUPT];
        if (rc == 0)
                rc = ivg_link_interrupts_prepare(link, request);
        if (rc == 0)
                rc = region_attach(link, &welcome, request);
        if (rc < 0)
                return rc;
        link->channel = welcome.channel;
        link->generation = welcome.generation;
        link->claimed = true;
        link->doorbell_file_offset = welcome.doorbell_file_offset;
        link->doorbell_channel_word = link->region.doorbell_peer << 16 | welcome.doorbell_vector;
        atomic_store(&link->heartbeat_looked_ns, ivg_now_ns());
        link->wait_slice_ns = IVG_LINK_TOLD_SLICE_NS;
        return ivg_link_channel_wait_ready(link, request);
}

/* The broker rings control itself whenever it has stored a state word. */
static void broker_ring_control(struct ivg_link *link)
{
        (void)link;
}

static void broker_ring_channel(struct ivg_link *link)
{
        /* Raw: not a cancellation point. Fails only when the device is going, which alive() tells. */
        (void)!syscall(SYS_pwrite64, link->region_fd, &link->doorbell_channel_word, sizeof(link->doorbell_channel_word),
                       link->doorbell_file_offset);
}

static int broker_alive(struct ivg_link *link)
{
        const int rc = ivg_link_socket_alive(link);

        return rc < 0 ? rc : ivg_link_heartbeat_check(link);
}

/* By the end of the socket, whoever still holds it; the broker stores CLOSED. */
static void broker_channel_close(struct ivg_link *link)
{
        shutdown(link->socket_fd, SHUT_RDWR);
}

const struct ivg_link_transport ivg_link_transport_broker = {
        .scheme = "broker",
        .has_interrupts = true,
        .cost = "without the kernel driver, through vfio-pci: memory is mapped uncached, direct I/O into pinned memory "
                "fails, and every program here can reach the others' memory",
        .open = broker_open,
        .ring_control = broker_ring_control,
        .ring_channel = broker_ring_channel,
        .alive = broker_alive,
        .channel_close = broker_channel_close,
};
