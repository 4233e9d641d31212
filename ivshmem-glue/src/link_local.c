/* The local transport: a mediator on this machine hands out a region of one channel over a UNIX socket.
 *
 * Opening: connect, hello, welcome with four descriptors, full check of the region, then the guest driver's part: boot
 * epoch, claim of channel 0, wait for READY. Afterwards the socket carries nothing; its hang-up is the mediator's end,
 * and ours for the mediator. */
#include "ivgpu/server.h"
#include "link_internal.h"
#include <fcntl.h>
#include <string.h>
#include <sys/random.h>
#include <sys/syscall.h>

enum { FD_REGION, FD_CONTROL, FD_DOORBELL, FD_INTERRUPT, FDS }; /* of a welcome */

static int region_attach(struct ivg_link *link, const struct ivg_local_welcome *welcome,
                         struct ivg_link_request *request)
{
        const int seals = fcntl(link->region_fd, F_GET_SEALS);
        int rc;

        if (seals < 0 || (seals & F_SEAL_SHRINK) == 0) {
                ivg_error_set(request->error, "region: its file is not sealed against shrinking");
                return -EPROTO;
        }
        rc = ivg_region_check_fd(link->region_fd, request->call_table_fingerprint, &link->region, request->error);
        if (rc == 0 && link->region.region_bytes != welcome->region_bytes) {
                ivg_error_set(request->error, "%llu bytes, the welcome said %llu",
                              (unsigned long long)link->region.region_bytes, (unsigned long long)welcome->region_bytes);
                rc = -EPROTO;
        }
        if (rc == 0)
                rc = ivg_region_map(&link->region, link->region_fd, IVG_SIDE_GUEST, 0, request->error);
        if (rc < 0)
                ivg_error_prefix(request->error, "region");
        return rc;
}

static int local_open(struct ivg_link *link, const char *path, struct ivg_link_request *request)
{
        struct ivg_local_welcome welcome;
        uint64_t epoch;
        int fds[FDS] = {-1, -1, -1, -1};
        int rc = ivg_link_welcome(link, path, "mediator", &welcome, sizeof(welcome), fds, FDS, request);

        link->region_fd = fds[FD_REGION];
        link->control_fd = fds[FD_CONTROL];
        link->doorbell_fd = fds[FD_DOORBELL];
        link->interrupt_fd = fds[FD_INTERRUPT];
        if (rc == 0)
                rc = ivg_link_interrupts_prepare(link, request);
        if (rc == 0)
                rc = region_attach(link, &welcome, request);
        if (rc < 0)
                return rc;
        if (getrandom(&epoch, sizeof(epoch), 0) != sizeof(epoch)) {
                ivg_error_set(request->error, "boot epoch: getrandom: %s", strerror(errno));
                return -EIO;
        }
        /* B1, release: the mediator, which reads it when control rings, finds only words of this boot after it. */
        ivg_store_release_u64(&ivg_region_guest_pages(&link->region)->boot_epoch, epoch | 1);
        link->channel = 0;
        ivg_link_channel_claim(link);
        return ivg_link_channel_wait_ready(link, request);
}

static void eventfd_ring(int fd)
{
        const uint64_t one = 1;

        /* Fails only when the counter is about to overflow: then it is non-zero, which is all a doorbell says. Raw: a
         * cancellation point here would leave a committed record without its doorbell. */
        (void)!syscall(SYS_write, fd, &one, sizeof(one));
}

static void local_ring_control(struct ivg_link *link)
{
        eventfd_ring(link->control_fd);
}

static void local_ring_channel(struct ivg_link *link)
{
        eventfd_ring(link->doorbell_fd);
}

const struct ivg_link_transport ivg_link_transport_local = {
        .scheme = "local",
        .has_interrupts = true,
        .open = local_open,
        .ring_control = local_ring_control,
        .ring_channel = local_ring_channel,
        .alive = ivg_link_socket_alive,
        /* Extents stay marked at its close: the region ends with this channel, and the executor may still be reading.
         */
};
