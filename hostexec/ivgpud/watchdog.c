/* What takes too long. Looked at in each tick, on words that the executor writes anyway; the mediator waits for
 * nothing.
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

/* Two questions within silent_timeout_ms, so that an answer that comes counts. */
static void ask(struct ivg_executor *executor, uint64_t now_ms)
{
        const struct ivg_exec_message ping = {.magic = IVG_EXEC_CONTROL_MAGIC, .type = IVG_EXEC_PING};
        const uint32_t limit_ms = executor->mediator->config.silent_timeout_ms;

        if (limit_ms == 0 || executor->control.fd < 0)
                return;
        if (executor->asked_ms != 0) {
                if (now_ms - executor->asked_ms > limit_ms)
                        too_late(executor, IVG_FAULT_KIND_SILENT, "the executor does not answer",
                                 now_ms - executor->asked_ms, "silent_timeout_ms", limit_ms);
                return;
        }
        if (now_ms < executor->next_ping_ms)
                return;
        executor->next_ping_ms = now_ms + limit_ms / 2;
        /* No room is no answer either. */
        if (send(executor->control.fd, &ping, sizeof(ping), MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)sizeof(ping) ||
            errno == EAGAIN)
                executor->asked_ms = now_ms;
}

void ivg_watchdog_tick(struct ivg_executor *executor, uint64_t now_ms)
{
        const struct ivg_limits *limits;
        const struct ivg_member *member;

        if (executor->phase != IVG_EXECUTOR_READY || !executor->channel)
                return;
        member = executor->channel->tenant->member;
        limits = member->limits;
        if (member->paused) { /* what stands still then does so by order */
                ask(executor, now_ms);
                return;
        }
        if (limits->call_timeout_ms != 0 && !calls_look(executor, limits))
                return;
        if (limits->kernel_timeout_ms != 0 && !kernels_look(executor, limits))
                return;
        ask(executor, now_ms);
}
