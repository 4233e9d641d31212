/* The driver transport: a channel of /dev/ivgpuN. The guest's kernel claims it, keeps the processes apart, tells the
 * host of our death, and interrupts.
 *
 * The descriptor takes the place of a region file (offsets are the region's) and of the socket: it hangs up when the
 * device goes. Interrupts come by an eventfd that the driver signals. */
#include "ivgpu_uapi.h"
#include "link_internal.h"
#include <assert.h>
#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

/* Raw: not a cancellation point, and errno is the caller's. */
static int driver_ioctl(const struct ivg_link *link, unsigned long request, void *argument)
{
        const int saved_errno = errno;
        const int rc = syscall(SYS_ioctl, link->region_fd, request, argument) < 0 ? -errno : 0;

        errno = saved_errno;
        return rc;
}

/* ---- open ---- */

static int node_open(struct ivg_link *link, const char *path, struct ivg_link_request *request)
{
        /* Blocks while the host ends an earlier owner's executor; the driver bounds it. */
        link->region_fd = open(path, O_RDWR | O_CLOEXEC);
        if (link->region_fd >= 0)
                return 0;
        switch (errno) {
        case EBUSY:
                request->code = IVG_ERROR_QUEUE_FULL;
                ivg_error_set(request->error, "all channels are in use");
                return -EBUSY;
        case ETIMEDOUT:
                request->code = IVG_ERROR_TIMEOUT;
                ivg_error_set(request->error, "no channel came free: the host does not answer the driver");
                return -ETIMEDOUT;
        case EACCES:
        case EPERM:
                ivg_error_set(request->error, "permission denied: this user is not in the device's group");
                return -EACCES;
        case ENOENT:
        case ENXIO:
        case ENODEV:
                ivg_error_set(request->error, "absent: the kernel driver ivgpu has no such device");
                return -ENOENT;
        default:
                ivg_error_set(request->error, "open: %s", strerror(errno));
                return -errno;
        }
}

/* The first device there is; one that is forbidden is remembered, another may be ours. */
static int node_search(struct ivg_link *link, struct ivg_link_request *request)
{
        int rc = -ENOENT;

        ivg_error_set(request->error, "no device of the kernel driver ivgpu");
        if (request->device_prefix == NULL)
                return rc;
        for (unsigned int i = 0; i < IVG_LINK_DEVICES_MAX; i++) {
                struct ivg_error error = {""};
                struct ivg_error *outer = request->error;
                char path[64];
                int opened;

                snprintf(path, sizeof(path), "%s%u", request->device_prefix, i);
                request->error = &error;
                opened = node_open(link, path, request);
                request->error = outer;
                if (opened == 0)
                        snprintf(link->name, sizeof(link->name), "driver:%s", path);
                if (opened == -ENOENT)
                        continue;
                *outer = error;
                ivg_error_prefix(outer, "%s", path);
                rc = opened;
                if (opened != -EACCES && opened != -EBUSY)
                        return opened;
        }
        return rc;
}

static int info_get(struct ivg_link *link, struct ivgpu_info *info, struct ivg_link_request *request)
{
        const int rc = driver_ioctl(link, IVGPU_IOC_INFO, info);

        if (rc < 0) {
                ivg_error_set(request->error, "asking the driver: %s", strerror(-rc));
                return rc;
        }
        if (info->abi_version != IVGPU_ABI_VERSION) {
                ivg_error_set(request->error, "the kernel driver speaks version %u, this program %u: update one",
                              info->abi_version, IVGPU_ABI_VERSION);
                return -EPROTO;
        }
        link->channel = info->channel;
        link->generation = info->generation;
        link->claimed = true;
        return 0;
}

static int region_attach(struct ivg_link *link, uint64_t region_bytes, struct ivg_link_request *request)
{
        void *page = mmap(NULL, IVG_PAGE_BYTES, PROT_READ, MAP_SHARED, link->region_fd, 0);
        int rc;

        if (page == MAP_FAILED) {
                rc = -errno;
                ivg_error_set(request->error, "mapping the region page: %s", strerror(errno));
                return rc;
        }
        rc = ivg_region_check(page, region_bytes, request->call_table_fingerprint, &link->region, request->error);
        munmap(page, IVG_PAGE_BYTES);
        if (rc == 0 && link->channel >= link->region.channel_count) {
                ivg_error_set(request->error, "channel %u of %u", link->channel, link->region.channel_count);
                rc = -EPROTO;
        }
        if (rc == 0)
                rc = ivg_region_map(&link->region, link->region_fd, IVG_SIDE_GUEST_BY_DRIVER, link->channel,
                                    request->error);
        return rc;
}

static int interrupts_start(struct ivg_link *link, uint32_t flags, struct ivg_link_request *request)
{
        struct ivgpu_eventfd argument = {.fd = -1};
        int rc;

        link->socket_fd = fcntl(link->region_fd, F_DUPFD_CLOEXEC, 0);
        if (link->socket_fd < 0) {
                ivg_error_set(request->error, "duplicating the descriptor: %s", strerror(errno));
                return -errno;
        }
        if ((flags & IVGPU_INFO_INTERRUPTS) == 0)
                return 0; /* the guest has run out of vectors: sleepers poll */
        link->interrupt_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (link->interrupt_fd < 0) {
                ivg_error_set(request->error, "eventfd: %s", strerror(errno));
                return -errno;
        }
        argument.fd = link->interrupt_fd;
        rc = driver_ioctl(link, IVGPU_IOC_EVENTFD, &argument);
        if (rc < 0)
                ivg_error_set(request->error, "registering an eventfd: %s", strerror(-rc));
        return rc;
}

static int driver_open(struct ivg_link *link, const char *path, struct ivg_link_request *request)
{
        struct ivgpu_info info = {0};
        int rc = path != NULL ? node_open(link, path, request) : node_search(link, request);

        if (rc == 0)
                rc = info_get(link, &info, request);
        if (rc == 0)
                rc = region_attach(link, info.region_bytes, request);
        if (rc == 0)
                rc = interrupts_start(link, info.flags, request);
        if (rc < 0)
                return rc;
        atomic_store(&link->heartbeat_looked_ns, ivg_now_ns());
        link->wait_slice_ns = IVG_LINK_TOLD_SLICE_NS;
        return ivg_link_channel_wait_ready(link, request);
}

/* ---- in use ---- */

/* The driver rings control itself whenever it has stored a state word. */
static void driver_ring_control(struct ivg_link *link)
{
        (void)link;
}

static void driver_ring_channel(struct ivg_link *link)
{
        /* Fails only when the device is gone, which alive() tells. */
        (void)driver_ioctl(link, IVGPU_IOC_DOORBELL, NULL);
}

static int driver_alive(struct ivg_link *link)
{
        return atomic_load(&link->mediator_gone) != 0 ? -EPIPE : ivg_link_heartbeat_check(link);
}

static int driver_extents_claim(struct ivg_link *link, uint32_t count, uint32_t *first)
{
        struct ivgpu_extents extents = {.count = count};
        const int rc = driver_ioctl(link, IVGPU_IOC_EXTENTS_CLAIM, &extents);

        if (rc == 0)
                *first = extents.first;
        return rc;
}

static void driver_extents_release(struct ivg_link *link, uint32_t first, uint32_t count)
{
        struct ivgpu_extents extents = {.first = first, .count = count};
        const int rc = driver_ioctl(link, IVGPU_IOC_EXTENTS_RELEASE, &extents);

        assert(rc != -ENXIO && rc != -EINVAL); /* what is not owned is our own mistake; -ENODEV: gone with the device */
        (void)rc;
}

/* ---- end ---- */

static void driver_channel_close(struct ivg_link *link)
{
        (void)driver_ioctl(link, IVGPU_IOC_CLOSE, NULL);
}

static void driver_close(struct ivg_link *link, bool in_order)
{
        if (in_order)
                return; /* unmapping and closing, which come next, are all that the driver waits for */
        /* A forked child has inherited no mapping, and others may lie there now: nothing is to be unmapped. */
        link->arena = NULL;
        link->region.base = NULL;
}

const struct ivg_link_transport ivg_link_transport_driver = {
        .scheme = "driver",
        .has_interrupts = true,
        .open = driver_open,
        .ring_control = driver_ring_control,
        .ring_channel = driver_ring_channel,
        .alive = driver_alive,
        .close = driver_close,
        .channel_close = driver_channel_close,
        .extents_claim = driver_extents_claim,
        .extents_release = driver_extents_release,
};
