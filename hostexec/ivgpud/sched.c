/* The scheduler: carries out what the policy (hostexec/sched/policy.h) decides, by the executors' boards.
 *
 *   READY ─► a seat for each device of the pool ─► policy
 *   kick (an executor waits, or begins) ─┐
 *   timer, while VMs compete ────────────┴─► read boards ─► policy ─► grants, and a wake for whoever waits
 *
 * Nothing of a VM's goes through here: an executor that may run runs without us. An executor that is killed or hangs
 * holds nobody up: its seat goes with it, and work that it leaves on a device is waited for within a bound. */
#include "mediator.h"
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

/* A device of a pool on which executors have seats. */
struct ivg_sched_domain {
        struct ivg_sched_device device;
        uint64_t next_ns;
        struct ivg_sched_share *shares;
};

/* A member's part of it: there while it has executors. */
struct ivg_sched_share {
        struct ivg_sched_vm vm;
        struct ivg_sched_share *next;
        struct ivg_member *member;
        uint32_t seats;
};

struct ivg_sched_seat {
        struct ivg_sched_client client;
        struct ivg_sched_share *share;
        struct ivg_sched_client told; /* what stands on the board */
};

/* ---- the executor's words, each read once and bounded ---- */

static void read_board(const struct ivg_board *board, uint32_t device, struct ivg_sched_client *client, uint64_t now)
{
        const struct ivg_board_use *use = &board->uses[device];
        /* Q4, acquire, pairs with Q3: the rest is not older than the wait. */
        const uint64_t waiting_ns = ivg_load_acquire_u64(&use->waiting_ns);
        const uint64_t busy_since_ns = ivg_load_relaxed_u64(&use->busy_since_ns);

        client->waiting = waiting_ns != 0;
        client->used_ns = ivg_load_relaxed_u64(&use->used_ns);
        if (client->used_ns > UINT64_MAX / 2) /* so that a grant can be added */
                client->used_ns = UINT64_MAX / 2;
        client->gpu_ns = ivg_load_relaxed_u64(&use->gpu_ns);
        if (busy_since_ns != 0 && busy_since_ns < now)
                client->gpu_ns += now - busy_since_ns;
        client->calls = ivg_load_relaxed_u64(&use->calls);
        client->busy = ivg_load_relaxed_u64(&use->inflight) != 0;
}

static void tell(struct ivg_board *board, uint32_t device, struct ivg_sched_seat *seat)
{
        struct ivg_board_grant *grant = &board->grants[device];
        const struct ivg_sched_client *client = &seat->client;
        const bool asks = client->ask != IVG_SCHED_ASK_NOTHING && client->ask != seat->told.ask;

        if (client->granted_ns == seat->told.granted_ns && client->queue_ns == seat->told.queue_ns &&
            client->ask == seat->told.ask)
                return;
        seat->told = *client;
        ivg_store_relaxed_u64(&grant->granted_ns, client->granted_ns);
        ivg_store_relaxed_u64(&grant->queue_ns, client->queue_ns);
        if (asks)
                ivg_store_relaxed_u32(
                        &grant->announce,
                        ((ivg_load_relaxed_u32(&grant->announce) | 1) + 1) |
                                (client->ask == IVG_SCHED_ASK_IDLE ? IVG_BOARD_ASK_IDLE : IVG_BOARD_ASK_BEGIN));
        /* Q1, pairs with Q2: whoever sees it move sees these. A full barrier, for Q5. */
        atomic_fetch_add_explicit(&grant->wake, 1, memory_order_seq_cst);
        /* Q5, pairs with Q3: who began to wait since Q4, and slept before Q1. No later look would wake it: to that one
         * nothing changes. */
        if (ivg_load_seq_cst_u64(&board->uses[device].waiting_ns) != 0)
                (void)syscall(SYS_futex, &grant->wake, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

/* ---- a look at a domain ---- */

static struct ivg_sched_domain *domain_of(struct ivg_mediator *mediator, uint32_t pool, uint32_t device)
{
        return mediator->sched.domains[pool] ? &mediator->sched.domains[pool][device] : NULL;
}

static void look_at_domain(struct ivg_mediator *mediator, uint32_t pool, uint32_t device)
{
        struct ivg_sched_domain *domain = domain_of(mediator, pool, device);
        const uint64_t now = ivg_loop_now_ns();

        for (struct ivg_executor *executor = mediator->executors; executor; executor = executor->next)
                if (executor->pool == pool && device < executor->seat_count)
                        read_board(executor->board, device, &executor->seats[device].client, now);
        for (struct ivg_sched_share *share = domain->shares; share; share = share->next) {
                share->vm.priority = share->member->limits->priority;
                share->vm.weight = share->member->limits->weight;
                share->vm.paused = share->member->paused;
        }
        domain->next_ns = ivg_sched_run(&domain->device, now);
        for (struct ivg_executor *executor = mediator->executors; executor; executor = executor->next)
                if (executor->pool == pool && device < executor->seat_count)
                        tell(executor->board, device, &executor->seats[device]);
}

static void timer_set(struct ivg_mediator *mediator)
{
        uint64_t next_ns = IVG_SCHED_NEVER;
        struct itimerspec when = {.it_value = {0}};

        for (uint32_t pool = 0; pool < IVG_POOLS_MAX; pool++)
                for (uint32_t device = 0; mediator->sched.domains[pool] && device < IVG_BOARD_DEVICES_MAX; device++)
                        if (domain_of(mediator, pool, device)->shares &&
                            domain_of(mediator, pool, device)->next_ns < next_ns)
                                next_ns = domain_of(mediator, pool, device)->next_ns;
        if (next_ns == mediator->sched.timer_ns)
                return;
        mediator->sched.timer_ns = next_ns;
        if (next_ns != IVG_SCHED_NEVER) { /* else all zero: off */
                when.it_value.tv_sec = (time_t)(next_ns / 1000000000u);
                when.it_value.tv_nsec = (long)(next_ns % 1000000000u);
        }
        if (timerfd_settime(mediator->sched.timer.fd, TFD_TIMER_ABSTIME, &when, NULL) < 0)
                ivg_log(IVG_EVENT_SCHED_FAILED, IVG_ABOUT_NOBODY, "[SCHED] timer: %s", strerror(errno));
}

/* All that are due, or all that are used. */
static void look(struct ivg_mediator *mediator, bool all)
{
        const uint64_t now = ivg_loop_now_ns();

        for (uint32_t pool = 0; pool < IVG_POOLS_MAX; pool++)
                for (uint32_t device = 0; mediator->sched.domains[pool] && device < IVG_BOARD_DEVICES_MAX; device++) {
                        const struct ivg_sched_domain *domain = domain_of(mediator, pool, device);

                        if (domain->shares && (all || domain->next_ns <= now))
                                look_at_domain(mediator, pool, device);
                }
        timer_set(mediator);
}

static void drain(int fd)
{
        uint64_t count;

        if (read(fd, &count, sizeof(count)) < 0) /* nothing there is as good as something */
                return;
}

static void timer_ready(struct ivg_mediator *mediator, struct ivg_source *source, uint32_t events)
{
        (void)events;
        drain(source->fd);
        mediator->sched.timer_ns = IVG_SCHED_NEVER; /* it has run out */
        look(mediator, false);
}

static void kicked(struct ivg_mediator *mediator, struct ivg_source *source, uint32_t events)
{
        (void)events;
        drain(source->fd);
        ivg_watchdog_kicked(mediator);
        look(mediator, true);
}

/* ---- limits that executors keep by themselves ---- */

/* A rate is the member's: its executors divide it. */
static void orders_write(struct ivg_mediator *mediator, const struct ivg_member *member)
{
        const struct ivg_limits *limits = member->limits;
        uint64_t executors = 0;

        for (struct ivg_executor *executor = mediator->executors; executor; executor = executor->next)
                executors += executor->seat_count > 0 && executor->channel->tenant->member == member;
        for (struct ivg_executor *executor = mediator->executors; executor; executor = executor->next) {
                struct ivg_board_orders *orders;
                uint64_t rate = 0;

                if (executor->seat_count == 0 || executor->channel->tenant->member != member)
                        continue;
                orders = &executor->board->orders;
                if (limits->calls_per_s != 0)
                        rate = limits->calls_per_s > executors ? limits->calls_per_s / executors : 1;
                ivg_store_relaxed_u32(&orders->inflight_calls, limits->inflight);
                ivg_store_relaxed_u32(&orders->rate_fails, limits->rate == IVG_RATE_FAIL);
                ivg_store_relaxed_u32(&orders->watched, limits->kernel_timeout_ms != 0);
                ivg_store_relaxed_u64(&orders->rate_calls_per_s, rate);
                ivg_store_relaxed_u32(&orders->state, member->paused ? IVG_BOARD_PAUSE : IVG_BOARD_RUN);
                for (uint32_t i = 0; i < executor->seat_count; i++) {
                        /* Q1: the word moves, then whoever waits is woken; the system call is a full barrier. */
                        atomic_fetch_add_explicit(&executor->board->grants[i].wake, 1, memory_order_release);
                        (void)syscall(SYS_futex, &executor->board->grants[i].wake, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
                }
        }
}

void ivg_sched_limits_changed(struct ivg_mediator *mediator, const struct ivg_member *member)
{
        orders_write(mediator, member);
        look(mediator, true);
}

/* ---- seats ---- */

static int domains_make(struct ivg_mediator *mediator, uint32_t pool)
{
        if (!mediator->sched.domains[pool])
                mediator->sched.domains[pool] = calloc(IVG_BOARD_DEVICES_MAX, sizeof(struct ivg_sched_domain));
        return mediator->sched.domains[pool] ? 0 : -ENOMEM;
}

enum ivg_policy ivg_sched_policy(const struct ivg_mediator *mediator, uint32_t pool)
{
        const enum ivg_policy policy = (enum ivg_policy)mediator->config.pools[pool].policy;

        if (policy != IVG_POLICY_AUTO)
                return policy;
        return ivg_mps_is_used(mediator, pool) ? IVG_POLICY_FAIR : IVG_POLICY_TURNS;
}

static const struct ivg_sched_settings *settings_of(const struct ivg_mediator *mediator, uint32_t pool)
{
        return ivg_sched_policy(mediator, pool) == IVG_POLICY_TURNS ? &ivg_sched_turns : &ivg_sched_fair;
}

void ivg_sched_policy_changed(struct ivg_mediator *mediator, uint32_t pool)
{
        for (uint32_t device = 0; mediator->sched.domains[pool] && device < IVG_BOARD_DEVICES_MAX; device++)
                if (domain_of(mediator, pool, device)->shares)
                        ivg_sched_device_change(&domain_of(mediator, pool, device)->device,
                                                settings_of(mediator, pool));
        look(mediator, true);
}

static struct ivg_sched_share *share_take(struct ivg_mediator *mediator, uint32_t pool, uint32_t device,
                                          struct ivg_member *member)
{
        struct ivg_sched_domain *domain = domain_of(mediator, pool, device);
        struct ivg_sched_share *share = domain->shares;

        if (!share) { /* the first: as the pool is configured now */
                ivg_sched_device_init(&domain->device, settings_of(mediator, pool), ivg_loop_now_ns());
                domain->next_ns = IVG_SCHED_NEVER;
        }
        while (share && share->member != member)
                share = share->next;
        if (!share) {
                share = calloc(1, sizeof(*share));
                if (!share)
                        return NULL;
                share->member = member;
                share->vm.priority = member->limits->priority;
                share->vm.weight = member->limits->weight;
                ivg_sched_vm_add(&domain->device, &share->vm);
                share->next = domain->shares;
                domain->shares = share;
        }
        share->seats++;
        return share;
}

static void share_give(struct ivg_sched_domain *domain, struct ivg_sched_share *share)
{
        struct ivg_sched_share **link = &domain->shares;

        if (--share->seats > 0)
                return;
        while (*link != share)
                link = &(*link)->next;
        *link = share->next;
        ivg_sched_vm_remove(&domain->device, &share->vm);
        free(share);
}

void ivg_sched_join(struct ivg_executor *executor, uint32_t devices)
{
        struct ivg_mediator *mediator = executor->mediator;
        struct ivg_member *member = executor->channel->tenant->member;

        if (devices > IVG_BOARD_DEVICES_MAX)
                devices = IVG_BOARD_DEVICES_MAX;
        if (executor->seats || devices == 0 || domains_make(mediator, executor->pool) < 0)
                return;
        executor->seats = calloc(devices, sizeof(*executor->seats));
        for (uint32_t i = 0; executor->seats && i < devices; i++) {
                struct ivg_sched_seat *seat = &executor->seats[i];

                seat->share = share_take(mediator, executor->pool, i, member);
                if (!seat->share)
                        break;
                seat->client.granted_ns = seat->told.granted_ns = IVG_SCHED_NO_LIMIT;
                ivg_sched_client_add(&domain_of(mediator, executor->pool, i)->device, &seat->share->vm, &seat->client);
                executor->seat_count++;
        }
        if (executor->seat_count < devices)
                ivg_log(IVG_EVENT_SCHED_FAILED, ivg_about_executor(executor),
                        "[SCHED] executor %d: no memory: it runs unscheduled on %u devices", (int)executor->pid,
                        devices - executor->seat_count);
        ivg_sched_limits_changed(mediator, member);
}

void ivg_sched_leave(struct ivg_executor *executor)
{
        struct ivg_mediator *mediator = executor->mediator;

        for (uint32_t i = 0; i < executor->seat_count; i++) {
                struct ivg_sched_domain *domain = domain_of(mediator, executor->pool, i);

                ivg_sched_client_remove(&domain->device, &executor->seats[i].client);
                share_give(domain, executor->seats[i].share);
        }
        free(executor->seats);
        executor->seats = NULL;
        if (executor->seat_count == 0)
                return;
        executor->seat_count = 0;
        ivg_sched_limits_changed(mediator, executor->channel->tenant->member);
}

/* ---- begin and end ---- */

int ivg_sched_open(struct ivg_mediator *mediator, struct ivg_error *error)
{
        struct ivg_sched *sched = &mediator->sched;
        int rc;

        sched->timer_ns = IVG_SCHED_NEVER;
        sched->kick = (struct ivg_source){.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), .ready = kicked};
        sched->timer = (struct ivg_source){.fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK),
                                           .ready = timer_ready};
        rc = sched->kick.fd < 0 || sched->timer.fd < 0 ? -errno : ivg_loop_watch(mediator, &sched->kick);
        if (rc == 0)
                rc = ivg_loop_watch(mediator, &sched->timer);
        if (rc < 0)
                ivg_error_set(error, "scheduler: %s", strerror(-rc));
        return rc;
}

void ivg_sched_close(struct ivg_mediator *mediator)
{
        ivg_loop_close(mediator, &mediator->sched.kick);
        ivg_loop_close(mediator, &mediator->sched.timer);
        for (uint32_t pool = 0; pool < IVG_POOLS_MAX; pool++)
                free(mediator->sched.domains[pool]);
}
