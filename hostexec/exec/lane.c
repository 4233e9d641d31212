/* Lanes: one thread for each guest thread that makes calls which may block, so that a wait of one guest thread stops no
 * other's launches.
 *
 * Order. The consumer hands a call over when it comes to its record, so every earlier record of the channel has been
 * executed or given to the reaper. The lane then waits for the reaper to finish what the same guest thread had given it
 * (asynchronous frees and unloads). So a guest thread's blocking calls see all its own earlier calls done, in order.
 *
 * Uses and destroys. An object is destroyed by the consumer, the reaper or a lane while others may use it. A use by an
 * earlier record is over, or runs on a lane, whose guest thread has not got its answer yet: then the program itself
 * destroys what another of its threads is using. A use by a later record is a use after the destroy, and finds no
 * number or a dying object, as it would natively. RCU keeps the table's node; nothing keeps the driver's object, and
 * nothing needs to.
 *
 *   consumer                                        lane
 *   L1 slot, then `submitted` (exchange)     ->     L2 `submitted` (acquire), then slot
 *   L4 `finished` (acquire), slot is free    <-     L3 `finished` (release) after the call
 *   L1, then L5 `state`, `sleeping`  (seq_cst)      L6 `state` or `sleeping` (exchange), then L7 `submitted` (seq_cst)
 * L5 to L7: one of the two sees the other (store buffering), so no call is left behind by a lane that ends or sleeps.
 */
#include "exec_internal.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum ivg_lane_state { IVG_LANE_NONE = 0, IVG_LANE_RUNNING = 1 };

struct ivg_lane_slot {
        struct ivg_exec_request request; /* .bytes points at `bytes` */
        uint64_t after;                  /* the reaper's ticket to wait for */
        uint64_t trace_taken_ns;
        _Alignas(16) uint8_t bytes[IVG_RECORD_PAYLOAD_BYTES_MAX];
};

struct ivg_lane {
        struct ivg_exec *exec;
        uint32_t producer;
        _Alignas(64) _Atomic(uint32_t) submitted; /* calls so far, modulo 2^32; the consumer's; futex */
        _Atomic(uint32_t) ending;                 /* the guest thread is gone */
        _Alignas(64) _Atomic(uint32_t) finished;  /* the lane's */
        _Atomic(uint32_t) sleeping;
        _Alignas(64) _Atomic(uint32_t) state; /* enum ivg_lane_state: is there a thread */
        struct ivg_lane_slot slots[IVG_LANE_SLOTS];
};

static struct ivg_lane *lane_of(const struct ivg_exec *exec, uint32_t producer)
{
        /* Acquire: pairs with the release in lane_make, for threads other than the consumer. */
        return (struct ivg_lane *)(uintptr_t)ivg_load_acquire_u64(&exec->producers[producer].lane);
}

/* ---- the lane's thread ---- */

static bool has_work(struct ivg_lane *lane, uint32_t finished)
{
        return ivg_load_acquire_u32(&lane->submitted) != finished; /* L2 */
}

static void run_next(struct ivg_lane *lane, uint32_t finished)
{
        struct ivg_exec *exec = lane->exec;
        const struct ivg_lane_slot *slot = &lane->slots[finished % IVG_LANE_SLOTS];

        while (ivg_reaper_wait(exec, slot->after, IVG_LANE_IDLE_MS) == -ETIMEDOUT) /* ends with the executor at last */
                ivg_log(IVG_LOG_INFO, "lane %u waits for earlier frees", lane->producer);
        /* Relaxed: for the mediator's watchdog, which looks now and then. */
        ivg_store_relaxed_u64(&exec->board->counters.lane_since_ns[lane->producer], ivg_clock_ns());
        if (!ivg_load_acquire_u32(&exec->stop))
                ivg_exec_run_traced(exec, &slot->request, slot->trace_taken_ns, IVG_TRACE_LANE);
        ivg_store_relaxed_u64(&exec->board->counters.lane_since_ns[lane->producer], 0);
        ivg_store_release_u32(&lane->finished, finished + 1); /* L3 */
}

/* Gives the lane up. False: a call came in between and this thread keeps it. */
static bool leave(struct ivg_lane *lane, uint32_t finished)
{
        uint32_t none = IVG_LANE_NONE;

        ivg_store_relaxed_u32(&lane->ending, 0); /* before L6: a next owner of the line starts afresh */
        (void)ivg_exchange_seq_cst_u32(&lane->state, IVG_LANE_NONE);                                       /* L6 */
        if (ivg_load_seq_cst_u32(&lane->submitted) == finished || ivg_load_acquire_u32(&lane->exec->stop)) /* L7 */
                return true;
        /* Either this thread or the consumer takes the lane up again. */
        return !ivg_compare_exchange_acq_rel_u32(&lane->state, &none, IVG_LANE_RUNNING);
}

/* Spins, then sleeps. False: nothing came for long, or nothing will. */
static bool wait_for_work(struct ivg_lane *lane, uint32_t finished)
{
        const uint64_t begin = ivg_clock_ns();
        uint64_t now = begin;

        while (now - begin < IVG_LANE_SPIN_NS) {
                for (uint32_t look = 0; look < 32; look++) {
                        if (has_work(lane, finished))
                                return true;
                        ivg_cpu_relax();
                }
                now = ivg_clock_ns();
        }
        while (now - begin < IVG_LANE_IDLE_MS * 1000000ull) {
                if (ivg_load_acquire_u32(&lane->exec->stop) || ivg_load_acquire_u32(&lane->ending))
                        return has_work(lane, finished);
                (void)ivg_exchange_seq_cst_u32(&lane->sleeping, 1);       /* L6 */
                if (ivg_load_seq_cst_u32(&lane->submitted) == finished && /* L7 */
                    !ivg_load_seq_cst_u32(&lane->ending) && !ivg_load_seq_cst_u32(&lane->exec->stop))
                        ivg_futex_wait(&lane->submitted, finished, IVG_LANE_IDLE_MS);
                ivg_store_relaxed_u32(&lane->sleeping, 0); /* a wake too many is harmless */
                if (has_work(lane, finished))
                        return true;
                now = ivg_clock_ns();
        }
        return false;
}

static void *lane_main(void *argument)
{
        struct ivg_lane *lane = argument;
        struct ivg_exec *exec = lane->exec;
        char name[16];

        snprintf(name, sizeof(name), "ivgpu-lane-%u", lane->producer);
        ivg_exec_thread_begins(name);
        ivg_thread_may_wait = true;
        for (;;) {
                /* Own word, but a thread before this one may have written it: ordered by `state`. */
                const uint32_t finished = ivg_load_relaxed_u32(&lane->finished);

                if (!ivg_load_acquire_u32(&exec->stop) && (has_work(lane, finished) || wait_for_work(lane, finished))) {
                        run_next(lane, finished);
                        continue;
                }
                /* Only this thread may end the captures that it began; idle again, it sleeps another turn. */
                if (ivg_thread_captures > 0 && !ivg_load_acquire_u32(&exec->stop) &&
                    !ivg_load_acquire_u32(&lane->ending))
                        continue;
                if (leave(lane, finished))
                        break; /* from here on the lane is another's */
        }
        ivg_exec_thread_ends();
        atomic_fetch_sub_explicit(&exec->threads_alive, 1, memory_order_release); /* last touch of `exec` */
        return NULL;
}

/* ---- the consumer ---- */

static bool start_thread(struct ivg_lane *lane)
{
        pthread_attr_t attributes;
        pthread_t thread;
        int error;

        atomic_fetch_add_explicit(&lane->exec->threads_alive, 1, memory_order_relaxed);
        pthread_attr_init(&attributes);
        pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
        error = pthread_create(&thread, &attributes, lane_main, lane);
        pthread_attr_destroy(&attributes);
        if (error) {
                atomic_fetch_sub_explicit(&lane->exec->threads_alive, 1, memory_order_relaxed);
                ivg_log(IVG_LOG_ERROR, "lane %u cannot start: %s", lane->producer, strerror(error));
        }
        return error == 0;
}

static struct ivg_lane *lane_make(struct ivg_exec *exec, uint32_t producer)
{
        struct ivg_lane *lane = lane_of(exec, producer);

        if (lane)
                return lane;
        lane = aligned_alloc(64, sizeof(*lane));
        if (!lane)
                return NULL;
        memset(lane, 0, sizeof(*lane));
        lane->exec = exec;
        lane->producer = producer;
        ivg_store_release_u64(&exec->producers[producer].lane, (uint64_t)(uintptr_t)lane);
        return lane;
}

int ivg_lane_submit(struct ivg_exec *exec, const struct ivg_exec_request *request)
{
        struct ivg_lane *lane = lane_make(exec, request->producer);
        struct ivg_lane_slot *slot;
        uint32_t submitted, none = IVG_LANE_NONE;

        if (!lane)
                return -ENOMEM;
        submitted = ivg_load_relaxed_u32(&lane->submitted);                      /* own word */
        if (submitted - ivg_load_acquire_u32(&lane->finished) >= IVG_LANE_SLOTS) /* L4 */
                return -EPROTO;
        slot = &lane->slots[submitted % IVG_LANE_SLOTS];
        slot->request = *request;
        memcpy(slot->bytes, request->bytes, request->bytes_count);
        slot->request.bytes = slot->bytes;
        slot->request.record = NULL;
        slot->after = exec->producers[request->producer].reaper_last;
        slot->trace_taken_ns = exec->trace_taken_ns;
        (void)ivg_exchange_seq_cst_u32(&lane->submitted, submitted + 1); /* L1 */
        if (ivg_load_seq_cst_u32(&lane->state) == IVG_LANE_NONE &&       /* L5 */
            ivg_compare_exchange_acq_rel_u32(&lane->state, &none, IVG_LANE_RUNNING)) {
                if (start_thread(lane))
                        return 0;
                /* Nobody else touches a lane without a thread. */
                ivg_store_relaxed_u32(&lane->submitted, submitted);
                ivg_store_release_u32(&lane->state, IVG_LANE_NONE);
                return -ENOMEM;
        }
        if (ivg_load_seq_cst_u32(&lane->sleeping)) /* L5 */
                ivg_futex_wake_all(&lane->submitted);
        return 0;
}

uint32_t ivg_lane_pending(const struct ivg_exec *exec, uint32_t producer)
{
        const struct ivg_lane *lane = lane_of(exec, producer);

        if (!lane)
                return 0;
        /* L4: at 0 the lane's last answer is complete, so the mailbox has no writer. */
        return ivg_load_relaxed_u32(&lane->submitted) - ivg_load_acquire_u32(&lane->finished);
}

void ivg_lane_end(struct ivg_exec *exec, uint32_t producer)
{
        struct ivg_lane *lane = lane_of(exec, producer);

        if (!lane || ivg_load_seq_cst_u32(&lane->state) == IVG_LANE_NONE)
                return;
        (void)ivg_exchange_seq_cst_u32(&lane->ending, 1);
        ivg_futex_wake_all(&lane->submitted);
}

void ivg_lanes_wake(struct ivg_exec *exec)
{
        for (uint32_t producer = 0; producer < IVG_RING_PRODUCERS; producer++) {
                struct ivg_lane *lane = lane_of(exec, producer);

                if (lane)
                        ivg_futex_wake_all(&lane->submitted);
        }
}

void ivg_lanes_destroy(struct ivg_exec *exec)
{
        for (uint32_t producer = 0; producer < IVG_RING_PRODUCERS; producer++) {
                free(lane_of(exec, producer));
                ivg_store_relaxed_u64(&exec->producers[producer].lane, 0);
        }
}
