/* The gate: what of the device's time this executor may use now, and how many calls a second it may make.
 *
 * Before a call that gives the device work the consumer has a number of such calls that may go without a look
 * (`free_calls`); at 0, when the mediator has changed something (seen once a batch, by the board's `wake`), or with
 * another context, it looks: at the grant, at the work on the device, at the limits. A closed gate holds up the
 * consumer and with it whatever follows in the ring, as the ring's order is the program's; it never holds up what was
 * taken before: lanes, the reaper, answers, ends. Lanes wait at the same grant for the device work that they do
 * themselves. Every wait ends with the channel. */
#include "chain.h"
#include "meter.h"
#include <errno.h>
#include <poll.h>
#include <time.h>
#include <unistd.h>

/* Calls between two looks: without any limit, and with one. */
#define FREE_CALLS_OPEN 4096u
#define FREE_CALLS_MAX 64u
/* Where a watchdog is to know of kernels' progress, calls of so long are measured as one. */
#define WATCHED_PERIOD_NS 10000000u
/* Calls on the device before one has been measured: they may be of any length. */
#define UNKNOWN_CALLS_MAX 16u
/* A wait for room in the queue looks at the device at these distances. */
#define ROOM_PAUSE_NS 50000
/* Waits are woken; these only bound them. */
#define GRANT_WAIT_NS 100000000u
#define RATE_WAIT_MS_MAX 100u
/* A full bucket, when the mediator names no size: calls of so long, and a batch at least. */
#define RATE_BURST_MS 10u
#define RATE_BURST_CALLS_MIN 64.0

static bool goes_on(const struct ivg_exec *exec)
{
        return !ivg_load_acquire_u32(&exec->stop) && !ivg_load_acquire_u32(&exec->fault);
}

/* The executor's counters: each has one writer, or several that add. */
static void add(_Atomic(uint64_t) *counter, uint64_t n)
{
        atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

static void kick(struct ivg_exec *exec)
{
        const uint64_t one = 1;

        /* EAGAIN: it has more kicks than it can count, and will look. */
        if (exec->kick_fd >= 0 && write(exec->kick_fd, &one, sizeof(one)) == (ssize_t)sizeof(one))
                add(&exec->board->counters.kicks, 1);
}

bool ivg_gate_is_asked(const struct ivg_exec *exec, uint32_t device, enum ivg_board_ask what)
{
        const uint32_t asked = ivg_load_relaxed_u32(&exec->board->grants[device].announce);

        return asked != ivg_load_relaxed_u32(&exec->board->uses[device].announced) && (asked & 1) == (uint32_t)what;
}

void ivg_gate_answer(struct ivg_exec *exec, uint32_t device, enum ivg_board_ask what)
{
        if (!ivg_gate_is_asked(exec, device, what))
                return;
        /* Twice, when two threads are here, does no harm; the same word as was asked, or a later one. */
        ivg_store_relaxed_u32(&exec->board->uses[device].announced,
                              ivg_load_relaxed_u32(&exec->board->grants[device].announce));
        kick(exec);
}

/* ---- grants ---- */

static bool is_open(const struct ivg_exec *exec, uint32_t device, uint64_t used_ns)
{
        return ivg_load_relaxed_u32(&exec->board->orders.state) != IVG_BOARD_PAUSE &&
               used_ns < ivg_load_relaxed_u64(&exec->board->grants[device].granted_ns);
}

/* Until the mediator says something new. While some of our work is on the device it waits, as a rule, for its end, and
 * nobody sees that sooner than who looks: so this ends soon, too. */
static void wait_for_word(struct ivg_exec *exec, uint32_t device, uint32_t seen)
{
        const struct ivg_meter_view view = ivg_meter_look(exec, device);
        struct ivg_board_counters *counters = &exec->board->counters;
        _Atomic(uint64_t) *waiting = &exec->board->uses[device].waiting_ns;
        const uint64_t begin_ns = ivg_clock_ns();

        if (ivg_load_relaxed_u64(waiting) == 0) {
                /* Q3, release, pairs with Q4: whoever is kicked sees that we wait, and on what. */
                ivg_store_release_u64(waiting, begin_ns);
                add(&counters->gates, 1);
                kick(exec);
        }
        if (view.inflight == 0)
                ivg_gate_answer(exec, device, IVG_BOARD_ASK_IDLE);
        ivg_futex_wait_shared(&exec->board->grants[device].wake, seen,
                              view.inflight ? IVG_METER_LOOK_SOON_NS : GRANT_WAIT_NS);
        add(&counters->gated_ns, ivg_clock_ns() - begin_ns);
}

static void wait_ends(struct ivg_exec *exec, uint32_t device)
{
        _Atomic(uint64_t) *waiting = &exec->board->uses[device].waiting_ns;

        if (ivg_load_relaxed_u64(waiting) != 0)
                ivg_store_relaxed_u64(waiting, 0);
}

static uint32_t word_of(const struct ivg_exec *exec, uint32_t device)
{
        /* Q2, acquire, pairs with Q1: what the grant is now is not older than this. */
        return ivg_load_acquire_u32(&exec->board->grants[device].wake);
}

/* ---- the consumer ---- */

/* The device of the record's context, which is current afterwards. */
static bool find_device(struct ivg_exec *exec, ivg_id context)
{
        CUdevice device = 0;

        if (ivg_context_enter(exec, context) != CUDA_SUCCESS)
                return false;
        if (exec->driver.cuCtxGetDevice && exec->driver.cuCtxGetDevice(&device) != CUDA_SUCCESS)
                device = 0;
        ivg_gate_settle(exec);
        exec->gate.context = context;
        exec->gate.epoch = ivg_load_acquire_u32(&exec->context_epoch);
        exec->gate.device = device >= 0 && device < (CUdevice)IVG_BOARD_DEVICES_MAX ? (uint32_t)device : 0;
        exec->gate.given = ivg_load_relaxed_u64(&exec->meter->devices[exec->gate.device].given);
        return true;
}

void ivg_gate_settle(struct ivg_exec *exec)
{
        _Atomic(uint64_t) *given = &exec->meter->devices[exec->gate.device].given;
        struct ivg_gate *gate = &exec->gate;

        gate->gpu_calls += gate->given - ivg_load_relaxed_u64(given);
        ivg_store_relaxed_u64(&exec->board->counters.gpu_calls, gate->gpu_calls);
        ivg_store_relaxed_u64(given, gate->given);
}

struct limits {
        uint64_t granted_ns, queue_ns, calls;
        bool watched;
};

static struct limits limits_now(const struct ivg_exec *exec, uint32_t device)
{
        const struct ivg_board_grant *grant = &exec->board->grants[device];

        return (struct limits){.granted_ns = ivg_load_relaxed_u64(&grant->granted_ns),
                               .queue_ns = ivg_load_relaxed_u64(&grant->queue_ns),
                               .calls = ivg_load_relaxed_u32(&exec->board->orders.inflight_calls),
                               .watched = ivg_load_relaxed_u32(&exec->board->orders.watched)};
}

static bool is_limited(const struct limits *limits)
{
        return limits->granted_ns != IVG_BOARD_NO_LIMIT || limits->queue_ns != 0 || limits->calls != 0;
}

static uint64_t at_most(uint64_t calls, uint64_t more)
{
        return more < calls ? more : calls;
}

/* Calls that the grant and the queue on the device have room for. One is always under way, however long it is. */
static uint64_t room(const struct ivg_exec *exec, const struct limits *limits, const struct ivg_meter_view *view)
{
        const bool known = exec->meter->devices[exec->gate.device].measured_any;
        const uint64_t queued_ns = view->inflight * view->call_ns;
        uint64_t calls = FREE_CALLS_MAX;

        if (limits->granted_ns != IVG_BOARD_NO_LIMIT)
                calls = at_most(calls, (limits->granted_ns - view->used_ns) / view->call_ns + 1);
        if (limits->queue_ns != 0)
                calls = at_most(calls,
                                queued_ns < limits->queue_ns ? (limits->queue_ns - queued_ns) / view->call_ns + 1 : 0);
        if (!known) /* they may be of any length */
                calls = at_most(calls, view->inflight < UNKNOWN_CALLS_MAX ? UNKNOWN_CALLS_MAX - view->inflight : 0);
        if (limits->calls != 0)
                calls = at_most(calls, view->inflight < limits->calls ? limits->calls - view->inflight : 0);
        return calls == 0 && view->inflight == 0 ? 1 : calls;
}

/* How many of them at once: a period for each half of a window, so that one half runs while the other is filled. */
static uint64_t at_once(const struct ivg_exec *exec, const struct limits *limits, const struct ivg_meter_view *view,
                        uint64_t calls)
{
        const uint64_t half = limits->calls > 1 ? limits->calls / 2 : 1;

        if (limits->calls != 0)
                calls = at_most(calls, half);
        if (limits->watched)
                calls = at_most(calls, exec->meter->devices[exec->gate.device].measured_any
                                               ? WATCHED_PERIOD_NS / view->call_ns + 1
                                               : 1);
        return calls;
}

/* A watchdog of calls has no business with a consumer that waits here. */
static void watchdog_off(struct ivg_exec *exec)
{
        ivg_store_relaxed_u64(&exec->board->counters.call_since_ns, 0);
}

static struct ivg_meter_view wait_for_room(struct ivg_exec *exec, uint32_t device)
{
        const struct timespec pause = {.tv_nsec = ROOM_PAUSE_NS};
        const uint64_t begin_ns = ivg_clock_ns();
        const struct ivg_meter_view view = ivg_meter_look(exec, device);

        nanosleep(&pause, NULL);
        add(&exec->board->counters.gated_ns, ivg_clock_ns() - begin_ns);
        return view;
}

/* Whether this call's period is to be measured although nothing limits it. */
static bool sample(struct ivg_exec *exec)
{
        struct ivg_gate *gate = &exec->gate;

        if (gate->sampling && ivg_clock_ns() - gate->sample_ns < IVG_METER_SAMPLE_NS)
                return true;
        gate->sampling = ivg_load_relaxed_u32(&exec->meter->sample_due) != 0;
        if (gate->sampling) {
                ivg_store_relaxed_u32(&exec->meter->sample_due, 0);
                gate->sample_ns = ivg_clock_ns();
        }
        return gate->sampling;
}

bool ivg_gate_look(struct ivg_exec *exec, ivg_id context)
{
        struct ivg_gate *gate = &exec->gate;
        const bool same = gate->context == context && gate->epoch == ivg_load_relaxed_u32(&exec->context_epoch);
        struct ivg_meter_view view;
        struct limits limits;
        uint64_t calls;
        bool limited, close;

        ivg_chains_issue(exec);
        if (!same && !find_device(exec, context))
                return true; /* the call will say what is wrong */
        ivg_gate_settle(exec);
        gate->legacy_dirty = false;
        for (;;) {
                if (!goes_on(exec))
                        return false;
                gate->wake_seen = word_of(exec, gate->device);
                limits = limits_now(exec, gate->device);
                limited = is_limited(&limits);
                gate->metering = limited || limits.watched || sample(exec);
                gate->windowed = limits.calls != 0;
                close = gate->windowed || limits.watched;
                view = ivg_meter_update(exec, context, gate->device, gate->metering, close, false);
                if (!is_open(exec, gate->device, view.used_ns)) {
                        /* Nothing more comes now: the period need not go on for IVG_METER_GAP_NS. */
                        if (!close)
                                (void)ivg_meter_update(exec, context, gate->device, gate->metering, true, false);
                        watchdog_off(exec);
                        wait_for_word(exec, gate->device, gate->wake_seen);
                        continue;
                }
                calls = limited ? room(exec, &limits, &view) : FREE_CALLS_OPEN;
                if (calls > 0)
                        break;
                watchdog_off(exec);
                (void)wait_for_room(exec, gate->device);
        }
        if (ivg_load_relaxed_u64(&exec->board->counters.call_since_ns) == 0)
                ivg_store_relaxed_u64(&exec->board->counters.call_since_ns, ivg_clock_coarse_ns());
        wait_ends(exec, gate->device);
        gate->given++;
        ivg_gate_settle(exec);
        if (gate->metering) /* the board shows the call before the mediator is told to look */
                (void)ivg_meter_update(exec, context, gate->device, true, false, true);
        ivg_gate_answer(exec, gate->device, IVG_BOARD_ASK_BEGIN);
        calls = at_once(exec, &limits, &view, calls);
        gate->free_calls = (int32_t)(gate->metering && calls > FREE_CALLS_MAX ? FREE_CALLS_MAX : calls) - 1;
        return true;
}

void ivg_gate_batch_ends(struct ivg_exec *exec)
{
        struct ivg_gate *gate = &exec->gate;
        const uint64_t before = ivg_load_relaxed_u64(&exec->meter->devices[gate->device].given);

        if (gate->given != before) {
                ivg_gate_settle(exec);
                if (ivg_load_relaxed_u32(&exec->meter->sleeping) ==
                    IVG_METER_SLEEPS) /* the next batch makes a miss good */
                        ivg_meter_wake(exec);
                if (!gate->metering && ivg_load_relaxed_u32(&exec->meter->sample_due))
                        gate->free_calls = 0;
        }
        /* Relaxed: the look that follows a change orders itself. */
        if (ivg_load_relaxed_u32(&exec->board->grants[gate->device].wake) != gate->wake_seen)
                gate->free_calls = 0;
}

void ivg_gate_consumer_woke(struct ivg_exec *exec)
{
        /* W3, pairs with W2 (ivgpud/watchdog.c): the consumer's `sleep_at` of 0 is seen before ... */
        ivg_fence_seq_cst();
        /* W4, pairs with W1: ... this is looked at, or the mediator and the consumer miss each other. */
        if (ivg_load_seq_cst_u32(&exec->board->orders.unwatched))
                kick(exec);
}

void ivg_gate_wake(struct ivg_exec *exec)
{
        for (uint32_t i = 0; i < IVG_BOARD_DEVICES_MAX; i++)
                if (ivg_load_relaxed_u64(&exec->board->uses[i].waiting_ns) != 0)
                        ivg_futex_wake_shared(&exec->board->grants[i].wake);
}

/* ---- lanes ---- */

bool ivg_gate_lane(struct ivg_exec *exec, uint32_t *device)
{
        CUdevice of_context = 0;

        if (exec->driver.cuCtxGetDevice && exec->driver.cuCtxGetDevice(&of_context) != CUDA_SUCCESS)
                of_context = 0;
        *device = of_context >= 0 && of_context < (CUdevice)IVG_BOARD_DEVICES_MAX ? (uint32_t)of_context : 0;
        for (;;) {
                const uint32_t seen = word_of(exec, *device);

                if (!goes_on(exec))
                        return false;
                if (is_open(exec, *device, ivg_meter_look(exec, *device).used_ns))
                        break;
                wait_for_word(exec, *device, seen);
        }
        wait_ends(exec, *device);
        ivg_gate_answer(exec, *device, IVG_BOARD_ASK_BEGIN);
        return true;
}

/* ---- calls a second ---- */

/* Tokens are calls; what is taken beyond the bucket is owed. */
static void rate_refill(struct ivg_exec *exec, uint64_t calls_per_s)
{
        struct ivg_gate *gate = &exec->gate;
        const uint64_t now_ns = ivg_clock_ns(), asked = ivg_load_relaxed_u64(&exec->board->orders.rate_burst_calls);

        gate->burst = asked ? (double)asked : (double)calls_per_s * RATE_BURST_MS / 1000;
        if (!asked && gate->burst < RATE_BURST_CALLS_MIN)
                gate->burst = RATE_BURST_CALLS_MIN;
        if (gate->rate_calls_per_s != calls_per_s) { /* it has just been set */
                gate->rate_calls_per_s = calls_per_s;
                gate->tokens = gate->burst;
        } else {
                gate->tokens += (double)(now_ns - gate->rate_ns) * (double)calls_per_s / 1e9;
        }
        gate->rate_ns = now_ns;
        if (gate->tokens > gate->burst)
                gate->tokens = gate->burst;
}

void ivg_gate_rate(struct ivg_exec *exec)
{
        const uint64_t calls_per_s = ivg_load_relaxed_u64(&exec->board->orders.rate_calls_per_s);
        struct ivg_gate *gate = &exec->gate;
        struct pollfd stop = {.fd = exec->stop_fd, .events = POLLIN};
        uint64_t begin_ns, wait_ms;
        double least;

        gate->over_rate = false;
        if (calls_per_s == 0) {
                gate->rate_calls_per_s = 0;
                return;
        }
        rate_refill(exec, calls_per_s);
        gate->over_rate = ivg_load_relaxed_u32(&exec->board->orders.rate_fails) && gate->tokens <= 0;
        /* What cannot fail (copies have somebody waiting, frees must be) is slowed all the same, a bucket later. */
        least = gate->over_rate ? -gate->burst : 0;
        if (gate->tokens > least)
                return;
        ivg_meter_flush(exec); /* the wait is no use of the device */
        begin_ns = ivg_clock_ns();
        add(&exec->board->counters.throttles, 1);
        while (goes_on(exec) && gate->tokens <= least &&
               ivg_load_relaxed_u64(&exec->board->orders.rate_calls_per_s) == calls_per_s) {
                wait_ms = (uint64_t)((least - gate->tokens) * 1000 / (double)calls_per_s) + 1;
                (void)poll(&stop, 1, (int)(wait_ms < RATE_WAIT_MS_MAX ? wait_ms : RATE_WAIT_MS_MAX));
                rate_refill(exec, calls_per_s);
        }
        add(&exec->board->counters.throttled_ns, ivg_clock_ns() - begin_ns);
}
