/* Sleeping until the host interrupts: one thread, the leader, watches the eventfd for all; the others sleep on a futex.
 *
 * Why no wake-up is lost. Per sleeper: the host stores the answer, then writes the eventfd. The leader reads the
 * eventfd (the counter stays non-zero until then), then moves `wait_sequence` (W2), then wakes. A follower loads the
 * sequence (W1) before it asks done(), and sleeps only while the sequence is what it loaded.
 *   - Answer before the read that drained its interrupt, W2 before W1: done() after W1 sees the answer.
 *   - W1 before W2: the sequence differs when the kernel compares it, or the wake reaches the sleeper.
 *   - The leader itself asks done() after it took the lead (W3) and after each read, before it polls: an answer that
 *     comes later leaves the eventfd readable.
 *   - A leader that leaves first clears `wait_leader` (W4), then W2: a follower that found the lead taken has loaded an
 *     older sequence, so it does not sleep, or is woken, and tries for the lead again.
 * Only W2's futex call is spared, when `wait_followers` is 0: follower F1 counts itself, then the kernel compares the
 * sequence; leader moves the sequence, then loads the count (all seq_cst): one of the two sees the other.
 *
 * System calls are made raw: not one of them is a cancellation point, so pthread_cancel cannot take a leader away. A
 * leader that ends all the same (pthread_exit out of a signal handler) is found by its followers within a slice. */
#include "link_internal.h"
#include <linux/futex.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>

static struct timespec timespec_of(uint64_t duration_ns)
{
        return (struct timespec){.tv_sec = (time_t)(duration_ns / 1000000000ull),
                                 .tv_nsec = (long)(duration_ns % 1000000000ull)};
}

void ivg_sleep_ns(uint64_t duration_ns)
{
        struct timespec duration = timespec_of(duration_ns);

        syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &duration, NULL);
}

/* How long to sleep next; 0: the time is up. */
static uint64_t slice_ns(uint64_t deadline_ns, uint64_t most_ns)
{
        const uint64_t now_ns = ivg_now_ns();

        return now_ns >= deadline_ns ? 0 : ivg_min_u64(deadline_ns - now_ns, most_ns);
}

/* 1: go on waiting. */
static int wait_over(struct ivg_link *link, bool (*done)(void *arg), void *arg)
{
        int rc;

        if (done(arg))
                return 0;
        rc = ivg_link_alive(link);
        if (rc == 0)
                return 1;
        return done(arg) ? 0 : rc; /* the answer may have come just before the end */
}

static void followers_wake(struct ivg_link *link)
{
        atomic_fetch_add(&link->wait_sequence, 1); /* W2 */
        if (atomic_load(&link->wait_followers) != 0)
                syscall(SYS_futex, &link->wait_sequence, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
}

static void follow(struct ivg_link *link, uint32_t sequence, uint64_t duration_ns)
{
        const struct timespec duration = timespec_of(duration_ns);
        uint32_t leader;
        long rc;

        atomic_fetch_add(&link->wait_followers, 1); /* F1 */
        rc = syscall(SYS_futex, &link->wait_sequence, FUTEX_WAIT_PRIVATE, sequence, &duration, NULL, 0);
        if (rc < 0 && errno == ETIMEDOUT) {
                leader = atomic_load(&link->wait_leader);
                if (leader != 0 && syscall(SYS_tgkill, getpid(), leader, 0) < 0 && errno == ESRCH)
                        atomic_compare_exchange_strong(&link->wait_leader, &leader, 0);
        }
        atomic_fetch_sub(&link->wait_followers, 1);
}

static void leader_sleep(struct ivg_link *link, uint64_t duration_ns)
{
        struct pollfd watched[2] = {{.fd = link->interrupt_fd, .events = POLLIN},
                                    {.fd = link->socket_fd, .events = POLLRDHUP}};
        struct timespec duration = timespec_of(duration_ns);
        uint64_t drained;

        if (syscall(SYS_ppoll, watched, 2, &duration, NULL, 0) <= 0)
                return;
        if (watched[1].revents != 0)
                atomic_store(&link->mediator_gone, 1);
        if (watched[0].revents != 0)
                (void)!syscall(SYS_read, link->interrupt_fd, &drained, sizeof(drained));
        followers_wake(link);
}

static int lead(struct ivg_link *link, bool (*done)(void *arg), void *arg, uint64_t deadline_ns)
{
        for (;;) {
                const int rc = wait_over(link, done, arg); /* after W3 and after each drain */
                uint64_t duration_ns;

                if (rc != 1)
                        return rc;
                duration_ns = slice_ns(deadline_ns, link->wait_slice_ns);
                if (duration_ns == 0)
                        return -ETIMEDOUT;
                leader_sleep(link, duration_ns);
        }
}

static int wait_interrupts(struct ivg_link *link, bool (*done)(void *arg), void *arg, uint64_t deadline_ns)
{
        const uint32_t self = (uint32_t)syscall(SYS_gettid);

        for (;;) {
                const uint32_t sequence = atomic_load(&link->wait_sequence); /* W1 */
                const int rc = wait_over(link, done, arg);
                uint32_t none = 0;
                uint64_t duration_ns;

                if (rc != 1)
                        return rc;
                if (atomic_compare_exchange_strong(&link->wait_leader, &none, self)) { /* W3 */
                        const int led = lead(link, done, arg, deadline_ns);

                        atomic_store(&link->wait_leader, 0); /* W4 */
                        followers_wake(link);
                        return led;
                }
                duration_ns = slice_ns(deadline_ns, link->wait_slice_ns);
                if (duration_ns == 0)
                        return -ETIMEDOUT;
                follow(link, sequence, duration_ns);
        }
}

static int wait_polling(struct ivg_link *link, bool (*done)(void *arg), void *arg, uint64_t deadline_ns)
{
        uint64_t step_ns = IVG_LINK_STEP_NS_MIN;

        for (;;) {
                const int rc = wait_over(link, done, arg);
                uint64_t duration_ns;

                if (rc != 1)
                        return rc;
                duration_ns = slice_ns(deadline_ns, step_ns);
                if (duration_ns == 0)
                        return -ETIMEDOUT;
                ivg_sleep_ns(duration_ns);
                step_ns = ivg_min_u64(step_ns * 2, IVG_LINK_STEP_NS_MAX);
        }
}

int ivg_link_wait(struct ivg_link *link, bool (*done)(void *arg), void *arg, uint32_t timeout_ms)
{
        const uint64_t deadline_ns = ivg_now_ns() + timeout_ms * IVG_NS_PER_MS;

        if (link->transport->has_interrupts && link->interrupt_fd >= 0)
                return wait_interrupts(link, done, arg, deadline_ns);
        return wait_polling(link, done, arg, deadline_ns);
}
