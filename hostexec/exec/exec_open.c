/* An executor's beginning and end, in mirror order. */
#include "chain.h"
#include "exec_internal.h"
#include "rcu.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define IVG_STOP_POLL_MS 1u

void ivg_exec_thread_begins(const char *name)
{
        pthread_setname_np(pthread_self(), name);
        urcu_memb_register_thread();
}

void ivg_exec_thread_ends(void)
{
        urcu_memb_unregister_thread();
}

/* ---- creation ---- */

static int check_region(struct ivg_exec *exec, struct ivg_error *error)
{
        struct stat status;
        void *page;
        int result;

        if (fstat(exec->region_fd, &status) < 0) {
                ivg_error_set(error, "region descriptor %d: %s", exec->region_fd, strerror(errno));
                return -errno;
        }
        if (status.st_size < (off_t)IVG_PAGE_BYTES) {
                ivg_error_set(error, "region of %lld bytes is below one page", (long long)status.st_size);
                return -EINVAL;
        }
        page = mmap(NULL, IVG_PAGE_BYTES, PROT_READ, MAP_SHARED, exec->region_fd, 0);
        if (page == MAP_FAILED) {
                ivg_error_set(error, "region page: %s", strerror(errno));
                return -errno;
        }
        result = ivg_region_check(page, (uint64_t)status.st_size, IVG_CALL_TABLE_FINGERPRINT, &exec->region, error);
        munmap(page, IVG_PAGE_BYTES);
        return result;
}

static int map_region(struct ivg_exec *exec, struct ivg_error *error)
{
        int result = check_region(exec, error);

        if (result)
                return result;
        if (exec->channel >= exec->region.channel_count) {
                ivg_error_set(error, "channel %u of a region with %u", exec->channel, exec->region.channel_count);
                return -EINVAL;
        }
        result = ivg_region_map(&exec->region, exec->region_fd, IVG_SIDE_HOST_EXECUTOR, exec->channel, error);
        if (result)
                return result;
        /* Guest memory in no core dump, whatever the limits. */
        (void)madvise(exec->region.base, exec->region.mapped_bytes, MADV_DONTDUMP);
        exec->host_channel = &ivg_region_host_pages(&exec->region)->channels[exec->channel];
        exec->completions = ivg_region_completions(&exec->region, exec->channel);
        ivg_ranges_show(exec->ranges, ivg_region_host_pages(&exec->region)->device_bytes[exec->channel]);
        return 0;
}

int ivg_exec_create(const struct ivg_exec_config *config, struct ivg_exec **out, struct ivg_error *error)
{
        struct ivg_exec *exec = aligned_alloc(64, (sizeof(*exec) + 63) & ~(size_t)63);
        int result;

        if (!exec) {
                ivg_error_set(error, "no memory for an executor");
                return -ENOMEM;
        }
        memset(exec, 0, sizeof(*exec));
        exec->channel = config->channel;
        exec->generation = config->generation;
        exec->region_fd = config->region_fd;
        exec->doorbell_fd = config->doorbell_fd;
        exec->interrupt_fd = config->interrupt_fd;
        exec->warm_device = -1;
        for (uint32_t i = 0; i < IVG_RING_PRODUCERS; i++)
                exec->producers[i].sequence = UINT32_MAX; /* the first thread's sequences start at 2^32 + 1 */
        exec->share_fd = config->share_fd;
        exec->kick_fd = config->kick_fd;
        exec->board = ivg_board_map(config->board_fd);
        exec->ipc = config->ipc_fd >= 0 ? ivg_ipc_map(config->ipc_fd) : NULL;
        exec->images = ivg_images_create(config->images_fd);
        exec->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        exec->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        exec->handles = ivg_handles_create();
        exec->ranges = ivg_ranges_create();
        exec->pinned = ivg_pinned_create();
        exec->callbacks = ivg_callbacks_create();
        exec->graph_things = ivg_graph_things_create();
        if (exec->stop_fd < 0 || exec->event_fd < 0 || !exec->handles || !exec->ranges || !exec->pinned ||
            !exec->callbacks || !exec->images || !exec->graph_things || !exec->board) {
                ivg_error_set(error, "tables or event descriptors: %s", strerror(errno));
                result = -ENOMEM;
        } else {
                result = ivg_meter_create(exec);
                if (result == 0)
                        result = map_region(exec, error);
        }
        if (result) {
                ivg_exec_destroy(exec);
                return result;
        }
        *out = exec;
        return 0;
}

int ivg_exec_start(struct ivg_exec *exec, struct ivg_error *error)
{
        int result = ivg_reaper_start(exec);

        exec->chains = ivg_chains_create(&exec->driver);
        if (result == 0)
                result = ivg_meter_start(exec);
        if (result) {
                ivg_error_set(error, "reaper or meter: %s", strerror(-result));
                return result;
        }
        /* The claimant waits for READY, so nobody else uses the guest part now; nothing that an earlier owner of the
         * channel left there may be taken for a record. From then on this process writes answers into its slots and
         * nothing else. */
        ivg_ring_format(ivg_region_ring_guest(&exec->region, exec->channel), 0);
        /* Completion words only grow within one process's life: an earlier owner's would look like copies already done.
         * Relaxed: the ring's opening, which the guest waits for, orders them. */
        for (uint32_t i = 0; i < IVG_COMPLETION_WORDS; i++)
                ivg_store_relaxed_u64(&exec->completions[i], 0);
        result = ivg_consumer_open(&exec->consumer, ivg_region_ring_guest(&exec->region, exec->channel),
                                   ivg_region_ring_host(&exec->region, exec->channel), exec->generation, 0);
        if (result == 0)
                result = ivg_region_seal_guest_part(&exec->region, exec->channel);
        if (result) {
                ivg_error_set(error, "ring of channel %u, generation %u: %s", exec->channel, exec->generation,
                              strerror(-result));
                return result;
        }
        result = -pthread_create(&exec->consumer_thread, NULL, ivg_consumer_main, exec);
        if (result)
                ivg_error_set(error, "consumer: %s", strerror(-result));
        exec->consumer_started = result == 0;
        return result;
}

/* ---- end ---- */

static void pause_shortly(void)
{
        const struct timespec pause = {.tv_nsec = IVG_STOP_POLL_MS * 1000000l};

        nanosleep(&pause, NULL);
}

/* Wakes again and again: a thread that was just about to sleep when `stop` was set gets the next wake. */
static bool lanes_gone(struct ivg_exec *exec, uint64_t end_ns)
{
        /* Acquire: pairs with the lane's last decrement, after which it touches nothing. */
        while (ivg_load_acquire_u32(&exec->threads_alive) > 0) {
                if (ivg_clock_ns() >= end_ns)
                        return false;
                ivg_lanes_wake(exec);
                ivg_reaper_wake(exec);
                ivg_gate_wake(exec);
                pause_shortly();
        }
        return true;
}

static bool reaper_gone(struct ivg_exec *exec, uint64_t end_ns)
{
        while (exec->reaper.started) {
                ivg_reaper_wake(exec);
                if (pthread_tryjoin_np(exec->reaper.thread, NULL) == 0)
                        exec->reaper.started = false;
                else if (ivg_clock_ns() >= end_ns)
                        return false;
                else
                        pause_shortly();
        }
        return true;
}

static bool consumer_gone(struct ivg_exec *exec, uint64_t end_ns)
{
        while (exec->consumer_started) {
                ivg_gate_wake(exec); /* it may be waiting there */
                if (pthread_tryjoin_np(exec->consumer_thread, NULL) == 0)
                        exec->consumer_started = false;
                else if (ivg_clock_ns() >= end_ns)
                        return false;
                else
                        pause_shortly();
        }
        return true;
}

static bool meter_gone(struct ivg_exec *exec, uint64_t end_ns)
{
        while (!ivg_meter_gone(exec)) {
                if (ivg_clock_ns() >= end_ns)
                        return false;
                pause_shortly();
        }
        return true;
}

int ivg_exec_stop(struct ivg_exec *exec, enum ivg_ring_state state, uint32_t timeout_ms)
{
        const uint64_t end_ns = ivg_clock_ns() + timeout_ms * 1000000ull;
        const uint64_t one = 1;

        if (exec->consumer_started) {
                ivg_consumer_close(&exec->consumer, state, IVG_FAULT_NONE, 0);
                ivg_exec_interrupt(exec);
        }
        (void)ivg_exchange_seq_cst_u32(&exec->stop, 1);
        if (write(exec->stop_fd, &one, sizeof(one)) < 0)
                ivg_log(IVG_LOG_ERROR, "the consumer could not be told to stop");
        /* The consumer first: it starts lanes. */
        return consumer_gone(exec, end_ns) && lanes_gone(exec, end_ns) && reaper_gone(exec, end_ns) &&
                               meter_gone(exec, end_ns)
                       ? 0
                       : -ETIMEDOUT;
}

struct context_list {
        ivg_id ids[64];
        uint32_t count;
};

static void collect_context(void *arg, ivg_id id, void *handle)
{
        struct context_list *list = arg;

        (void)handle;
        if (list->count < sizeof(list->ids) / sizeof(list->ids[0]))
                list->ids[list->count++] = id;
}

void ivg_exec_close_contexts(struct ivg_exec *exec)
{
        struct context_list list = {.count = 0};

        ivg_handles_visit(exec, IVG_KIND_CONTEXT, collect_context, &list);
        for (uint32_t i = 0; i < list.count; i++)
                ivg_context_close(exec, list.ids[i]);
}

void ivg_exec_destroy(struct ivg_exec *exec)
{
        uint8_t *arena = (uint8_t *)(uintptr_t)ivg_load_relaxed_u64(&exec->arena); /* one thread is left */

        if (arena)
                munmap(arena, exec->region.arena_bytes);
        ivg_chains_destroy(exec->chains);
        ivg_meter_destroy(exec);
        ivg_reaper_destroy(exec);
        ivg_lanes_destroy(exec);
        if (exec->region.base)
                ivg_region_unmap(&exec->region);
        ivg_user_objects_destroy(exec);
        ivg_graph_things_destroy(exec->graph_things);
        ivg_callbacks_destroy(exec->callbacks);
        ivg_ipc_unmap(exec->ipc);
        ivg_board_unmap(exec->board);
        ivg_images_destroy(exec->images);
        ivg_pinned_destroy(exec->pinned);
        ivg_ranges_destroy(exec->ranges);
        ivg_handles_destroy(exec->handles);
        if (exec->event_fd >= 0)
                close(exec->event_fd);
        if (exec->stop_fd >= 0)
                close(exec->stop_fd);
        free(exec);
}
