/* What takes too long. Looked at in each tick, on words that the executor writes anyway; the mediator waits for
 * nothing. An executor that has done nothing for UNWATCHED_AFTER_MS causes no ticks: its consumer, which sleeps, kicks
 * the mediator when it wakes (W1 to W4, board.h).
 *
 * An executor is ended for it, with its program, which prints error 4 (TIMEOUT); its VM has a fault more. So the
 * longest that something goes on beyond its limit is a tick and the time in which the executor ends: IVG_HEARTBEAT_MS,
 * IVG_EXECUTOR_TERM_MS, and what the kernel needs to end a killed process. */
#include "mediator.h"
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#define NS_PER_MS 1000000ull
/* A kick costs the executor a system call beside its wake-up: not for pauses shorter than this. */
#define UNWATCHED_AFTER_MS 1000u

/* The clock of the executor's stamps (ivg_clock_ns). */
static uint64_t now_ns(void)
{
        struct timespec now;

        clock_gettime(CLOCK_MONOTONIC, &now);
        return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

static void too_late(struct ivg_executor *executor, enum ivg_fault_kind kind, const char *what, uint64_t ms,
                     const char *limit, uint32_t limit_ms)
{
        struct ivg_channel *channel = executor->channel;

        ivg_log(IVG_EVENT_TIME_LIMIT, ivg_about_channel(channel, IVG_ERROR_TIMEOUT),
                "[WATCHDOG] %s, channel %u: error %d (%s): %s for %llu ms, %s = %u", channel->tenant->name,
                channel->index, (int)IVG_ERROR_TIMEOUT, ivg_error_code_name(IVG_ERROR_TIMEOUT), what,
                (unsigned long long)ms, limit, limit_ms);
        ivg_channel_stop(channel, IVG_ERROR_TIMEOUT);
        ivg_member_fault(channel->tenant, kind);
}

/* ---- time limits: each word is read once; a stamp that makes no sense is no call ---- */

/* From when the mediator last stood still, if that was later: who is looked at may have stood still with it. */
static uint64_t elapsed_ms(uint64_t since_ns, uint64_t at_ns)
{
        if (since_ns != 0 && since_ns < ivg_loop_resumed_ns())
                since_ns = ivg_loop_resumed_ns();
        return since_ns != 0 && since_ns < at_ns ? (at_ns - since_ns) / NS_PER_MS : 0;
}

static bool calls_look(struct ivg_executor *executor, const struct ivg_limits *limits)
{
        const struct ivg_board_counters *counters = &executor->board->counters;
        const uint64_t at_ns = now_ns();
        uint64_t longest_ms = elapsed_ms(ivg_load_relaxed_u64(&counters->call_since_ns), at_ns);

        for (uint32_t i = 0; i < IVG_RING_PRODUCERS; i++) {
                const uint64_t ms = elapsed_ms(ivg_load_relaxed_u64(&counters->lane_since_ns[i]), at_ns);

                longest_ms = ms > longest_ms ? ms : longest_ms;
        }
        if (longest_ms <= limits->call_timeout_ms)
                return true;
        too_late(executor, IVG_FAULT_KIND_CALL, "a call runs", longest_ms, "call_timeout_ms", limits->call_timeout_ms);
        return false;
}

static bool kernels_look(struct ivg_executor *executor, const struct ivg_limits *limits)
{
        const uint64_t at_ns = now_ns();
        uint64_t longest_ms = 0;

        for (uint32_t i = 0; i < IVG_BOARD_DEVICES_MAX; i++) {
                const struct ivg_board_use *use = &executor->board->uses[i];
                const uint64_t busy_ms = elapsed_ms(ivg_load_relaxed_u64(&use->busy_since_ns), at_ns);
                const uint64_t progress_ns = ivg_load_relaxed_u64(&use->progress_ns);
                const uint64_t still_ms = elapsed_ms(progress_ns, at_ns);
                /* The later of the two, as the shorter time since. */
                const uint64_t ms = progress_ns != 0 && still_ms < busy_ms ? still_ms : busy_ms;

                longest_ms = ms > longest_ms ? ms : longest_ms;
        }
        if (longest_ms <= limits->kernel_timeout_ms)
                return true;
        too_late(executor, IVG_FAULT_KIND_KERNEL, "the GPU is with its work without progress", longest_ms,
                 "kernel_timeout_ms", limits->kernel_timeout_ms);
        return false;
}

/* ---- does it answer ---- */

/* Two questions within silent_timeout_ms, so that an answer that comes counts; of all executors at the same times, so
 * that they cost one tick. Returns as a tick does. */
static uint64_t ask(struct ivg_executor *executor, uint64_t now_ms)
{
        const struct ivg_exec_message ping = {.magic = IVG_EXEC_CONTROL_MAGIC, .type = IVG_EXEC_PING};
        const uint32_t limit_ms = executor->mediator->config.silent_timeout_ms;
        const uint64_t period_ms = limit_ms > 1 ? limit_ms / 2 : 1;

        if (limit_ms == 0 || executor->control.fd < 0)
                return IVG_TICK_NEVER;
        if (executor->asked_ms != 0) {
                if (now_ms - executor->asked_ms <= limit_ms)
                        return executor->asked_ms + limit_ms + 1;
                too_late(executor, IVG_FAULT_KIND_SILENT, "the executor does not answer", now_ms - executor->asked_ms,
                         "silent_timeout_ms", limit_ms);
                return IVG_TICK_NEVER;
        }
        if (now_ms < executor->next_ping_ms)
                return executor->next_ping_ms;
        executor->next_ping_ms = (now_ms / period_ms + 1) * period_ms;
        /* No room is no answer either. */
        if (send(executor->control.fd, &ping, sizeof(ping), MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)sizeof(ping) ||
            errno == EAGAIN)
                executor->asked_ms = now_ms;
        return executor->next_ping_ms;
}

/* ---- does it do anything ---- */

static bool is_at_work(const struct ivg_executor *executor)
{
        const struct ivg_board_counters *counters = &executor->board->counters;
        uint64_t stamps = ivg_load_relaxed_u64(&counters->call_since_ns);

        for (uint32_t i = 0; i < IVG_RING_PRODUCERS; i++)
                stamps |= ivg_load_relaxed_u64(&counters->lane_since_ns[i]);
        for (uint32_t i = 0; i < executor->seat_count; i++)
                stamps |= ivg_load_relaxed_u64(&executor->board->uses[i].busy_since_ns);
        return stamps != 0;
}

static bool consumer_sleeps(const struct ivg_executor *executor)
{
        const struct ivg_channel *channel = executor->channel;

        /* W2, pairs with W3 (exec/gate.c): must not pass W1, or a consumer wakes that nobody watches and that has not
         * seen it. */
        return ivg_load_seq_cst_u64(&ivg_region_ring_host(&channel->tenant->region, channel->index)->sleep_at) != 0;
}

static void set_unwatched(struct ivg_executor *executor, bool unwatched)
{
        executor->unwatched = unwatched;
        /* W1, pairs with W4 (exec/gate.c). */
        (void)ivg_exchange_seq_cst_u32(&executor->board->orders.unwatched, unwatched);
}

/* Returns as a tick does: never, when the executor will say that it goes on. */
static uint64_t activity_look(struct ivg_executor *executor, uint64_t now_ms)
{
        const uint64_t batches = ivg_load_relaxed_u64(&executor->board->counters.batches);

        if (batches != executor->batches_seen || executor->still_ms == 0 || is_at_work(executor)) {
                executor->batches_seen = batches;
                executor->still_ms = now_ms;
                if (executor->unwatched)
                        set_unwatched(executor, false);
        } else if (!executor->unwatched && now_ms - executor->still_ms >= UNWATCHED_AFTER_MS) {
                set_unwatched(executor, true);
                if (!consumer_sleeps(executor))
                        set_unwatched(executor, false);
        }
        return executor->unwatched ? IVG_TICK_NEVER : now_ms;
}

void ivg_watchdog_kicked(struct ivg_mediator *mediator)
{
        for (struct ivg_executor *executor = mediator->executors; executor; executor = executor->next) {
                if (!executor->unwatched)
                        continue;
                set_unwatched(executor, false);
                executor->still_ms = ivg_loop_now_ms();
        }
}

uint64_t ivg_watchdog_tick(struct ivg_executor *executor, uint64_t now_ms)
{
        const struct ivg_limits *limits;
        const struct ivg_member *member;

        if (executor->phase != IVG_EXECUTOR_READY || !executor->channel)
                return IVG_TICK_NEVER;
        member = executor->channel->tenant->member;
        limits = member->limits;
        if (!member->paused) { /* else what stands still does so by order */
                if (limits->call_timeout_ms != 0 && !calls_look(executor, limits))
                        return IVG_TICK_NEVER;
                if (limits->kernel_timeout_ms != 0 && !kernels_look(executor, limits))
                        return IVG_TICK_NEVER;
        }
        return ivg_tick_earlier(ask(executor, now_ms), activity_look(executor, now_ms));
}
