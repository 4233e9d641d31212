/* The loop: descriptors, signals, the tick, and the end. */
#include "manager.h"
#include "mediator.h"
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

int ivg_process_open(pid_t pid)
{
        struct pollfd process = {.fd = (int)syscall(SYS_pidfd_open, pid, 0), .events = POLLIN};

        if (process.fd < 0)
                return -errno;
        if (poll(&process, 1, 0) == 0)
                return process.fd;
        close(process.fd);
        return -ESRCH;
}

uint64_t ivg_loop_now_ns(void)
{
        struct timespec now;

        clock_gettime(CLOCK_MONOTONIC, &now);
        return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* The loop turns at the next tick at the latest. A turn that comes much later means that the mediator stood still:
 * stopped, frozen with others, or in a machine that was itself stopped and whose clock then jumped. Others may have
 * stood still with it, or their answers lie unread: that time counts for no deadline. */
#define STOOD_STILL_MS (4 * IVG_HEARTBEAT_MS)

static struct {
        uint64_t tick_ms; /* when the timer runs out, of the clock as it is */
        uint64_t skipped_ms;
        uint64_t resumed_ns;
} turns;

static void turn_begin(void)
{
        const uint64_t now_ns = ivg_loop_now_ns(), now_ms = now_ns / 1000000;

        if (now_ms > turns.tick_ms + STOOD_STILL_MS) {
                turns.skipped_ms += now_ms - turns.tick_ms;
                turns.resumed_ns = now_ns;
                turns.tick_ms = now_ms;
        }
}

uint64_t ivg_loop_resumed_ns(void)
{
        return turns.resumed_ns;
}

uint64_t ivg_loop_now_ms(void)
{
        return ivg_loop_now_ns() / 1000000 - turns.skipped_ms;
}

/* ---- sources and garbage ---- */

int ivg_loop_watch(struct ivg_mediator *mediator, struct ivg_source *source)
{
        struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP, .data.ptr = source};

        return epoll_ctl(mediator->epoll_fd, EPOLL_CTL_ADD, source->fd, &event) < 0 ? -errno : 0;
}

int ivg_loop_watch_for(struct ivg_mediator *mediator, struct ivg_source *source, uint32_t events)
{
        struct epoll_event event = {.events = events | EPOLLRDHUP, .data.ptr = source};

        return epoll_ctl(mediator->epoll_fd, EPOLL_CTL_MOD, source->fd, &event) < 0 ? -errno : 0;
}

void ivg_loop_unwatch(struct ivg_mediator *mediator, struct ivg_source *source)
{
        if (source->fd < 0)
                return;
        /* Not left to close(): others hold the same open file (a guest's eventfds), and then it would stay watched. */
        epoll_ctl(mediator->epoll_fd, EPOLL_CTL_DEL, source->fd, NULL);
        source->fd = -1;
}

void ivg_loop_close(struct ivg_mediator *mediator, struct ivg_source *source)
{
        const int fd = source->fd;

        ivg_loop_unwatch(mediator, source);
        if (fd >= 0)
                close(fd);
}

void ivg_loop_free(struct ivg_mediator *mediator, struct ivg_garbage *garbage)
{
        garbage->next = mediator->garbage;
        mediator->garbage = garbage;
}

static void garbage_collect(struct ivg_mediator *mediator)
{
        while (mediator->garbage) {
                struct ivg_garbage *garbage = mediator->garbage;

                mediator->garbage = garbage->next;
                free(garbage);
        }
}

/* ---- the tick ---- */

static uint64_t heartbeat_log_tick(struct ivg_mediator *mediator, uint64_t now_ms)
{
        if (mediator->config.heartbeat_log_s == 0)
                return IVG_TICK_NEVER;
        if (now_ms >= mediator->next_heartbeat_log_ms) {
                mediator->next_heartbeat_log_ms = now_ms + mediator->config.heartbeat_log_s * 1000ull;
                ivg_log(IVG_EVENT_HEARTBEAT, IVG_ABOUT_NOBODY, "[HEARTBEAT] alive");
        }
        return mediator->next_heartbeat_log_ms;
}

/* Does what is due. Returns when the first of them wants to be called again. */
static uint64_t tick_all(struct ivg_mediator *mediator, uint64_t now_ms)
{
        uint64_t next_ms = IVG_TICK_NEVER;

        for (struct ivg_executor *executor = mediator->executors; executor; executor = executor->next)
                next_ms = ivg_tick_earlier(next_ms, ivg_watchdog_tick(executor, now_ms));
        for (struct ivg_member *member = ivg_member_next(mediator, NULL); member;
             member = ivg_member_next(mediator, member))
                next_ms = ivg_tick_earlier(next_ms, ivg_member_tick(member, now_ms));
        ivg_removed_tick(mediator);
        next_ms = ivg_tick_earlier(next_ms, ivg_local_tick(mediator, &mediator->local, now_ms));
        for (uint32_t slot = 0; slot < mediator->config.vm_count; slot++)
                next_ms = ivg_tick_earlier(next_ms, ivg_local_tick(mediator, &mediator->vms[slot].local, now_ms));
        next_ms = ivg_tick_earlier(next_ms, ivg_control_tick(mediator, now_ms));
        next_ms = ivg_tick_earlier(next_ms, ivg_metrics_tick(mediator, now_ms));
        next_ms = ivg_tick_earlier(next_ms, ivg_mps_tick(mediator, now_ms));
        next_ms = ivg_tick_earlier(next_ms, ivg_warm_tick(mediator, now_ms));
        next_ms = ivg_tick_earlier(next_ms, ivg_log_tick(mediator, now_ms));
        next_ms = ivg_tick_earlier(next_ms, ivg_manager_alive(now_ms));
        next_ms = ivg_tick_earlier(next_ms, heartbeat_log_tick(mediator, now_ms));
        /* At last: the others may have started or ended some, which have a deadline then. */
        for (struct ivg_executor *executor = mediator->executors; executor; executor = executor->next)
                next_ms = ivg_tick_earlier(next_ms, ivg_executor_tick(executor, now_ms));
        return next_ms;
}

static void timer_set(struct ivg_mediator *mediator, uint64_t pause_ms)
{
        const struct itimerspec once = {
                .it_value = {.tv_sec = (time_t)(pause_ms / 1000), .tv_nsec = (long)(pause_ms % 1000) * 1000000l}};

        turns.tick_ms = ivg_loop_now_ns() / 1000000 + pause_ms;
        if (timerfd_settime(mediator->timer.fd, 0, &once, NULL) < 0)
                ivg_log(IVG_EVENT_START_FAILED, IVG_ABOUT_NOBODY, "the timer: %s", strerror(errno));
}

static void tick(struct ivg_mediator *mediator)
{
        const uint64_t now_ms = ivg_loop_now_ms();
        uint64_t next_ms, pause_ms = IVG_HEARTBEAT_SLOW_MS;

        for (struct ivg_tenant *tenant = mediator->tenants; tenant; tenant = tenant->next)
                ivg_tenant_beat(tenant);
        next_ms = tick_all(mediator, now_ms);
        if (next_ms < now_ms + pause_ms)
                pause_ms = next_ms > now_ms + IVG_HEARTBEAT_MS ? next_ms - now_ms : IVG_HEARTBEAT_MS;
        for (struct ivg_tenant *tenant = mediator->tenants; tenant; tenant = tenant->next)
                ivg_tenant_tell_pace(tenant, pause_ms);
        timer_set(mediator, pause_ms);
}

static void timer_ready(struct ivg_mediator *mediator, struct ivg_source *source, uint32_t events)
{
        uint64_t expirations;

        (void)events;
        if (read(source->fd, &expirations, sizeof(expirations)) == (ssize_t)sizeof(expirations))
                tick(mediator);
}

/* Something has happened: whatever that means to whom, it is looked at soon. */
static void tick_soon(struct ivg_mediator *mediator)
{
        if (mediator->timer.fd >= 0 && turns.tick_ms > ivg_loop_now_ns() / 1000000 + IVG_HEARTBEAT_MS)
                timer_set(mediator, IVG_HEARTBEAT_MS);
}

static int timer_open(struct ivg_mediator *mediator)
{
        mediator->timer = (struct ivg_source){.fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK),
                                              .ready = timer_ready};
        if (mediator->timer.fd < 0)
                return -errno;
        timer_set(mediator, IVG_HEARTBEAT_MS);
        return ivg_loop_watch(mediator, &mediator->timer);
}

/* ---- signals ---- */

static void reload(struct ivg_mediator *mediator)
{
        struct ivg_error error = {""};

        if (ivg_reload(mediator, &error) < 0)
                ivg_log(IVG_EVENT_RELOAD_FAILED, IVG_ABOUT_NOBODY, "SIGHUP: nothing changed: %s", error.text);
}

static void signals_ready(struct ivg_mediator *mediator, struct ivg_source *source, uint32_t events)
{
        struct signalfd_siginfo info;

        (void)events;
        while (source->fd >= 0 && read(source->fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
                if (info.ssi_signo == SIGUSR1)
                        ivg_stats_log(mediator);
                else if (info.ssi_signo == SIGHUP)
                        reload(mediator);
                else
                        ivg_loop_end(mediator, info.ssi_signo == SIGINT ? "SIGINT" : "SIGTERM");
        }
}

static void signals_set(sigset_t *set)
{
        sigemptyset(set);
        sigaddset(set, SIGTERM);
        sigaddset(set, SIGINT);
        sigaddset(set, SIGUSR1);
        sigaddset(set, SIGHUP);
}

void ivg_loop_hold_signals(void)
{
        sigset_t set;

        signals_set(&set);
        sigprocmask(SIG_BLOCK, &set, NULL);
}

static int signals_open(struct ivg_mediator *mediator)
{
        sigset_t set;

        signals_set(&set);
        mediator->signals =
                (struct ivg_source){.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK), .ready = signals_ready};
        return mediator->signals.fd < 0 ? -errno : ivg_loop_watch(mediator, &mediator->signals);
}

/* ---- run and end ---- */

void ivg_loop_end(struct ivg_mediator *mediator, const char *why)
{
        if (mediator->ending) {
                ivg_log(IVG_EVENT_ENDS, IVG_ABOUT_NOBODY, "%s again: executors are killed", why);
                for (struct ivg_executor *executor = mediator->executors; executor; executor = executor->next)
                        (void)ivg_executor_tick(executor, UINT64_MAX);
                return;
        }
        mediator->ending = true;
        ivg_log(IVG_EVENT_ENDS, IVG_ABOUT_NOBODY, "ends: %s", why);
        for (uint32_t i = 0; i < mediator->config.vm_count; i++)
                if (ivg_config_has_vm(&mediator->config, i))
                        ivg_vm_close(&mediator->vms[i]);
        ivg_local_close(mediator, &mediator->local);
        ivg_control_close(mediator);
        ivg_warm_end(mediator);
}

static int loop_open(struct ivg_mediator *mediator)
{
        int rc = signals_open(mediator);

        if (rc == 0)
                rc = timer_open(mediator);
        mediator->next_heartbeat_log_ms = ivg_loop_now_ms() + mediator->config.heartbeat_log_s * 1000ull;
        if (rc == 0)
                (void)ivg_warm_tick(mediator, ivg_loop_now_ms());
        return rc;
}

int ivg_loop_run(struct ivg_mediator *mediator, struct ivg_error *error)
{
        struct epoll_event events[IVG_EVENTS_PER_TURN];
        int rc = loop_open(mediator);

        while (rc == 0 && !(mediator->ending && !mediator->executors && !mediator->tenants)) {
                const int count = epoll_wait(mediator->epoll_fd, events, IVG_EVENTS_PER_TURN, -1);

                turn_begin();
                if (count < 0 && errno != EINTR)
                        rc = -errno;
                for (int i = 0; i < count; i++) {
                        struct ivg_source *source = events[i].data.ptr;

                        if (source->fd < 0) /* closed by an earlier event of this turn */
                                continue;
                        source->ready(mediator, source, events[i].events);
                        if (source != &mediator->timer)
                                tick_soon(mediator);
                }
                garbage_collect(mediator);
        }
        if (rc < 0)
                ivg_error_set(error, "event loop: %s", strerror(-rc));
        ivg_loop_close(mediator, &mediator->timer);
        ivg_loop_close(mediator, &mediator->signals);
        return rc;
}
