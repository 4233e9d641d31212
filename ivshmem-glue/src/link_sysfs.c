/* The sysfs transport: BAR2 and BAR0 of an ivshmem device mapped by root, for bring-up without our kernel driver.
 *
 * The processes of the guest are the driver together. POSIX record locks on BAR2's file (bytes beyond its content) say
 * who lives: byte 0 is held around boot epoch and claiming, byte 1 + c by the process that owns channel c, for its
 * life. The kernel drops them with the process and does not hand them to a forked child, so a channel whose byte is
 * free has no owner any more, whatever its state word says; the next claimant closes it and waits until the host has
 * freed it. Such locks belong to the process: one link per process (sysfs_link_held), one descriptor of that file. */
#include "link_internal.h"
#include "sysfs_device.h"
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

#define DRIVER_LOCK_BYTE 0
#define CHANNEL_LOCK_BYTE(channel) (1 + (off_t)(channel))
#define CLOSE_WAIT_MS 1000u /* for the host to free the channel; after that the next claimant does the rest */
#define BOOT_ID_PATH "/proc/sys/kernel/random/boot_id"

static _Atomic(uint32_t) sysfs_link_held;

/* ---- locks ---- */

static struct flock lock_of(off_t byte, short type)
{
        return (struct flock){.l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};
}

static int lock_take(struct ivg_link *link, off_t byte)
{
        struct flock lock = lock_of(byte, F_WRLCK);

        if (fcntl(link->region_fd, F_SETLK, &lock) == 0)
                return 0;
        return errno == EACCES ? -EAGAIN : -errno;
}

static void lock_drop(struct ivg_link *link, off_t byte)
{
        struct flock lock = lock_of(byte, F_UNLCK);

        fcntl(link->region_fd, F_SETLK, &lock);
}

static bool lock_is_held_elsewhere(const struct ivg_link *link, off_t byte)
{
        struct flock lock = lock_of(byte, F_WRLCK);

        return fcntl(link->region_fd, F_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

static int driver_lock(struct ivg_link *link, struct ivg_link_request *request)
{
        uint64_t step_ns = IVG_LINK_STEP_NS_MIN;
        int rc;

        while ((rc = lock_take(link, DRIVER_LOCK_BYTE)) == -EAGAIN && ivg_now_ns() < request->deadline_ns)
                ivg_link_step(link, &step_ns);
        if (rc == -EAGAIN) {
                request->code = IVG_ERROR_TIMEOUT;
                ivg_error_set(request->error, "another process has been claiming a channel for too long");
                return -ETIMEDOUT;
        }
        if (rc < 0)
                ivg_error_set(request->error, "locking resource2: %s", strerror(-rc));
        return rc;
}

/* ---- boot epoch ---- */

/* FNV-1a over the kernel's boot id: every process of one boot comes to the same value, the next boot to another. */
static int boot_epoch(uint64_t *epoch, struct ivg_error *error)
{
        char text[64];
        int fd = open(BOOT_ID_PATH, O_RDONLY | O_CLOEXEC);
        const ssize_t bytes = fd < 0 ? -1 : read(fd, text, sizeof(text));
        uint64_t hash = 0xcbf29ce484222325ull;

        if (bytes <= 0) {
                ivg_error_set(error, "%s: %s", BOOT_ID_PATH, bytes == 0 ? "empty" : strerror(errno));
                ivg_close_fd(&fd);
                return -EIO;
        }
        ivg_close_fd(&fd);
        for (ssize_t i = 0; i < bytes; i++)
                hash = (hash ^ (uint8_t)text[i]) * 0x100000001b3ull;
        *epoch = hash == 0 ? 1 : hash;
        return 0;
}

static int boot_epoch_adopt(struct ivg_link *link, struct ivg_link_request *request)
{
        uint64_t step_ns = IVG_LINK_STEP_NS_MIN;
        uint64_t epoch = 0;
        const int rc = boot_epoch(&epoch, request->error);

        if (rc < 0)
                return rc;
        if (ivg_load_acquire_u64(&ivg_region_guest_pages(&link->region)->boot_epoch) != epoch)
                ivg_guest_epoch_begin(&link->region, epoch, 0);
        if (!ivg_guest_epoch_is_seen(&link->region, epoch))
                link->transport->ring_control(link); /* even if another stored it: it may have died before it rang */
        while (!ivg_guest_epoch_is_seen(&link->region, epoch)) {
                if (link->transport->alive(link) < 0 || ivg_now_ns() >= request->deadline_ns) {
                        ivg_error_set(request->error,
                                      "the mediator does not answer (no heartbeat, or boot epoch not seen)");
                        return -EPIPE;
                }
                ivg_link_step(link, &step_ns);
        }
        return 0;
}

/* ---- channels ---- */

struct channel_census {
        uint32_t claimable; /* index or IVG_CHANNEL_NONE */
        uint32_t ending;    /* dead owner, host not done yet */
        uint32_t in_use;
};

/* Looks at every channel without an owner; closes those whose owner died. Callers hold the driver lock. */
static struct channel_census channels_survey(struct ivg_link *link)
{
        struct channel_census census = {.claimable = IVG_CHANNEL_NONE};
        const struct ivg_guest_pages *guest = ivg_region_guest_pages(&link->region);
        bool closed_one = false;

        for (uint32_t i = 0; i < link->region.channel_count; i++) {
                uint64_t word, closed;

                if (lock_is_held_elsewhere(link, CHANNEL_LOCK_BYTE(i))) {
                        census.in_use++;
                        continue;
                }
                word = ivg_guest_channel_host_word(&link->region, i);
                if (ivg_channel_word_state(word) == IVG_HOST_CHANNEL_FREE) {
                        if (census.claimable == IVG_CHANNEL_NONE)
                                census.claimable = i;
                        continue;
                }
                census.ending++;
                closed = ivg_channel_word(ivg_channel_word_generation(word), IVG_GUEST_CHANNEL_CLOSED);
                if (ivg_load_relaxed_u64(&guest->channels[i].state) != closed) {
                        ivg_guest_channel_store(&link->region, i, ivg_channel_word_generation(word),
                                                IVG_GUEST_CHANNEL_CLOSED);
                        closed_one = true;
                }
        }
        if (closed_one)
                link->transport->ring_control(link);
        return census;
}

static int channel_choose(struct ivg_link *link, struct ivg_link_request *request)
{
        uint64_t step_ns = IVG_LINK_STEP_NS_MIN;

        for (;;) {
                const struct channel_census census = channels_survey(link);

                if (census.claimable != IVG_CHANNEL_NONE) {
                        link->channel = census.claimable;
                        return 0;
                }
                if (census.ending == 0) {
                        request->code = IVG_ERROR_QUEUE_FULL;
                        ivg_error_set(request->error, "all %u channels are in use", census.in_use);
                        return -EBUSY;
                }
                if (ivg_now_ns() >= request->deadline_ns) {
                        request->code = IVG_ERROR_TIMEOUT;
                        ivg_error_set(request->error, "%u channels in use, %u of dead processes not freed by the host",
                                      census.in_use, census.ending);
                        return -ETIMEDOUT;
                }
                ivg_link_step(link, &step_ns);
        }
}

static int channel_take(struct ivg_link *link, struct ivg_link_request *request)
{
        int rc = channel_choose(link, request);

        if (rc == 0)
                rc = lock_take(link, CHANNEL_LOCK_BYTE(link->channel));
        if (rc == -EAGAIN) {
                ivg_error_set(request->error, "channel %u: its lock was taken without the driver lock", link->channel);
                return -EBUSY;
        }
        if (rc == 0)
                rc = ivg_region_map_channel(&link->region, link->region_fd, IVG_SIDE_GUEST, link->channel,
                                            request->error);
        if (rc < 0)
                return rc;
        /* The host word is FREE: no executor uses what an earlier owner left. */
        ivg_guest_extents_release_all(&link->region, link->channel);
        link->doorbell_channel_word =
                link->region.doorbell_peer << 16 | ivg_channel_vector(link->channel, link->region.vector_count);
        ivg_link_channel_claim(link);
        return 0;
}

/* ---- transport ---- */

static int device_find(const char *name, struct ivg_link_request *request, struct ivg_sysfs_device *device,
                       struct ivg_link *link)
{
        char names[IVG_SYSFS_DEVICES_MAX][IVG_SYSFS_NAME_BYTES];
        int count, rc = -ENOENT;

        if (name != NULL)
                return ivg_sysfs_device_open(request->sysfs_root, name, request->call_table_fingerprint, device,
                                             request->error);
        count = ivg_sysfs_device_list(request->sysfs_root, names, IVG_SYSFS_DEVICES_MAX);
        if (count <= 0) {
                ivg_error_set(request->error, "%s: %s", request->sysfs_root,
                              count == 0 ? "no ivshmem device" : strerror(-count));
                return -ENOENT;
        }
        for (int i = 0; i < count; i++) {
                rc = ivg_sysfs_device_open(request->sysfs_root, names[i], request->call_table_fingerprint, device,
                                           request->error);
                if (rc == 0) {
                        snprintf(link->name, sizeof(link->name), "sysfs:%.63s", names[i]);
                        return 0;
                }
                ivg_error_prefix(request->error, "%s", names[i]);
        }
        return rc; /* of the last one; with a single device, the usual case, of the only one */
}

static int sysfs_open_device(struct ivg_link *link, const char *path, struct ivg_link_request *request)
{
        struct ivg_sysfs_device device;
        int rc = device_find(path, request, &device, link);

        if (rc < 0)
                return rc;
        link->region = device.region;
        link->region_fd = device.region_fd;
        link->register_page = device.register_page;
        link->doorbell_register = device.doorbell;
        link->doorbell_control_word = link->region.doorbell_peer << 16;
        atomic_store(&link->heartbeat_looked_ns, ivg_now_ns());
        return ivg_region_map(&link->region, link->region_fd, IVG_SIDE_GUEST, IVG_CHANNEL_NONE, request->error);
}

static int sysfs_open(struct ivg_link *link, const char *path, struct ivg_link_request *request)
{
        uint32_t unheld = 0;
        int rc;

        if (!atomic_compare_exchange_strong(&sysfs_link_held, &unheld, 1)) {
                ivg_error_set(request->error, "this process has a link through sysfs already");
                return -EBUSY;
        }
        rc = sysfs_open_device(link, path, request);
        if (rc == 0)
                rc = driver_lock(link, request);
        if (rc == 0) {
                rc = boot_epoch_adopt(link, request);
                if (rc == 0)
                        rc = channel_take(link, request);
                lock_drop(link, DRIVER_LOCK_BYTE);
        }
        if (rc == 0)
                rc = ivg_link_channel_wait_ready(link, request);
        if (rc < 0 && link->register_page == NULL)
                atomic_store(&sysfs_link_held, 0); /* close() below has nothing else to undo */
        return rc;
}

static void doorbell_store(struct ivg_link *link, uint32_t word)
{
        /* Keeps the compiler from moving shared-memory stores behind the doorbell; x86 keeps stores in order by itself,
         * and those that must be visible before a look at the other side were exchanges. */
        atomic_signal_fence(memory_order_seq_cst);
        *link->doorbell_register = word;
}

static void sysfs_ring_control(struct ivg_link *link)
{
        doorbell_store(link, link->doorbell_control_word);
}

static void sysfs_ring_channel(struct ivg_link *link)
{
        doorbell_store(link, link->doorbell_channel_word);
}

/* Waits for the host to free the channel, so that its extents can go back; gives up in favour of the next claimant. */
static void channel_finish(struct ivg_link *link)
{
        const uint64_t deadline_ns = ivg_now_ns() + CLOSE_WAIT_MS * IVG_NS_PER_MS;
        uint64_t step_ns = IVG_LINK_STEP_NS_MIN;

        while (!ivg_guest_channel_is_done(&link->region, link->channel, link->generation)) {
                if (ivg_link_heartbeat_check(link) < 0 || ivg_now_ns() >= deadline_ns)
                        return;
                ivg_link_step(link, &step_ns);
        }
        ivg_guest_extents_release_all(&link->region, link->channel);
        ivg_guest_channel_store(&link->region, link->channel, link->generation, IVG_GUEST_CHANNEL_FREE);
}

static void sysfs_close(struct ivg_link *link, bool in_order)
{
        if (link->register_page == NULL)
                return;
        if (in_order && link->claimed) {
                ivg_link_channel_close(link);
                channel_finish(link);
        }
        munmap(link->register_page, IVG_PAGE_BYTES);
        link->register_page = NULL;
        /* Locks go with region_fd, which link_end() closes next. */
        atomic_store(&sysfs_link_held, 0);
}

const struct ivg_link_transport ivg_link_transport_sysfs = {
        .scheme = "sysfs",
        .has_interrupts = false,
        .cost = "without kernel driver and broker, through sysfs: root only, memory is mapped uncached, waiting "
                "threads poll, and "
                "every program here can reach the others' memory",
        .open = sysfs_open,
        .ring_control = sysfs_ring_control,
        .ring_channel = sysfs_ring_channel,
        .alive = ivg_link_heartbeat_check,
        .close = sysfs_close,
};
