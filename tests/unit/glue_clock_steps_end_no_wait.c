/* Clocks that jump, as a machine's do that was stopped, suspended or set: no wait hangs on them, and nobody is taken
 * for dead. The test is linked so that the library's clock_gettime is its own. */
#include "glue_fake_mediator.h"
#include <pthread.h>
#include <sys/syscall.h>

#define NS_PER_S 1000000000ll
#define WAITERS 4u
#define ROUNDS 200u
#define WAIT_MS 3600000u /* by a clock that jumps by less */

static _Atomic(int64_t) monotonic_ahead_ns, realtime_ahead_ns;

int __wrap_clock_gettime(clockid_t clock, struct timespec *now);
int __wrap_clock_gettime(clockid_t clock, struct timespec *now)
{
        const long rc = syscall(SYS_clock_gettime, clock, now);
        const int64_t ahead_ns =
                clock == CLOCK_REALTIME ? atomic_load(&realtime_ahead_ns) : atomic_load(&monotonic_ahead_ns);
        const int64_t ns = (int64_t)now->tv_sec * NS_PER_S + now->tv_nsec + ahead_ns;

        now->tv_sec = (time_t)(ns / NS_PER_S);
        now->tv_nsec = (long)(ns % NS_PER_S);
        return (int)rc;
}

static uint64_t real_ns(void)
{
        struct timespec now;

        syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now);
        return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

/* ---- the heartbeat ---- */

static struct ivg_link *heartbeat_link(_Atomic(uint64_t) **beat)
{
        static struct ivg_link link;
        static struct ivg_region region;
        const int fd = test_region(1, 2);

        memset(&link, 0, sizeof(link));
        region = test_map(fd, IVG_SIDE_HOST_MEDIATOR, 0);
        link.region = region;
        *beat = &ivg_region_host_pages(&region)->heartbeat;
        ivg_store_relaxed_u64(&ivg_region_host_pages(&region)->silence_ms, 0);
        close(fd);
        atomic_store(&link.heartbeat_looked_ns, ivg_now_ns());
        return &link;
}

static void a_clock_that_jumps_ends_no_heartbeat(void **state)
{
        _Atomic(uint64_t) *beat;
        struct ivg_link *link = heartbeat_link(&beat);

        (void)state;
        /* The first look after each jump comes before the mediator's next beat: it slept, too. */
        for (int64_t jump_s = 1; jump_s < 100000; jump_s *= 10) {
                assert_int_equal(ivg_link_heartbeat_check(link), 0);
                atomic_fetch_add(&monotonic_ahead_ns, jump_s * NS_PER_S);
                assert_int_equal(ivg_link_heartbeat_check(link), 0);
                ivg_store_relaxed_u64(beat, ivg_load_relaxed_u64(beat) + 1);
        }
        assert_int_equal(ivg_link_heartbeat_check(link), 0);
        /* CLOCK_MONOTONIC does not go back; should a hypervisor's, nobody is dead for it either. */
        atomic_fetch_sub(&monotonic_ahead_ns, 5000 * NS_PER_S);
        assert_int_equal(ivg_link_heartbeat_check(link), 0);
        assert_int_equal(ivg_link_heartbeat_check(link), 0);
        ivg_region_unmap(&link->region);
}

/* Looks, a gap apart, until the mediator counts as gone. */
static uint32_t looks_until_lost(struct ivg_link *link)
{
        uint32_t looks = 0;

        while (looks < 100 && ivg_link_heartbeat_check(link) == 0) {
                atomic_fetch_add(&monotonic_ahead_ns, (int64_t)IVG_HEARTBEAT_GAP_NS);
                looks++;
        }
        return looks;
}

static void a_silent_mediator_is_still_noticed(void **state)
{
        _Atomic(uint64_t) *beat;
        struct ivg_link *link = heartbeat_link(&beat);
        const uint32_t looks = looks_until_lost(link);

        (void)state;
        /* Looks take real time as well, little or, on a loaded machine, much. */
        assert_true(looks >= 1 && looks <= IVG_HEARTBEAT_LOST_MS * IVG_NS_PER_MS / IVG_HEARTBEAT_GAP_NS);
        assert_int_equal(ivg_link_heartbeat_check(link), -EPIPE);
        ivg_store_relaxed_u64(beat, ivg_load_relaxed_u64(beat) + 1); /* it hung, and goes on */
        assert_int_equal(ivg_link_heartbeat_check(link), 0);
        ivg_region_unmap(&link->region);
}

/* One that beats seldom has said so; what it may say is bounded. */
static void a_slow_mediator_is_given_time(void **state)
{
        static const uint64_t told_ms[] = {IVG_HEARTBEAT_SLOW_LOST_MS, UINT64_MAX, 0, 1};
        const uint32_t usual = IVG_HEARTBEAT_LOST_MS * IVG_NS_PER_MS / IVG_HEARTBEAT_GAP_NS;
        const uint32_t slow = IVG_HEARTBEAT_SLOW_LOST_MS * IVG_NS_PER_MS / IVG_HEARTBEAT_GAP_NS;
        _Atomic(uint64_t) *beat;
        struct ivg_link *link = heartbeat_link(&beat);

        (void)state;
        for (size_t i = 0; i < sizeof(told_ms) / sizeof(told_ms[0]); i++) {
                const bool is_slow = told_ms[i] > IVG_HEARTBEAT_LOST_MS;

                ivg_store_relaxed_u64(&ivg_region_host_pages(&link->region)->silence_ms, told_ms[i]);
                ivg_store_relaxed_u64(beat, ivg_load_relaxed_u64(beat) + 1);
                assert_int_equal(ivg_link_heartbeat_check(link), 0);
                const uint32_t looks = looks_until_lost(link);
                /* A gap counts once at most, however late the look. */
                assert_true(looks <= (is_slow ? slow : usual));
                assert_true(!is_slow || looks > usual);
        }
        ivg_region_unmap(&link->region);
}

/* ---- waits ---- */

struct waiter {
        struct ivg_link *link;
        _Alignas(64) _Atomic(uint32_t) request;
        _Alignas(64) _Atomic(uint32_t) answer;
        int rc;
};

static bool waiter_done(void *arg)
{
        struct waiter *waiter = arg;

        return atomic_load(&waiter->answer) == atomic_load(&waiter->request);
}

static void *waiter_main(void *arg)
{
        struct waiter *waiter = arg;

        for (uint32_t round = 1; round <= ROUNDS && waiter->rc == 0; round++) {
                atomic_store(&waiter->request, round);
                waiter->rc = ivg_link_wait(waiter->link, waiter_done, waiter, WAIT_MS);
        }
        atomic_store(&waiter->request, UINT32_MAX);
        return NULL;
}

static void clocks_step(uint32_t step)
{
        static const int64_t monotonic_s[] = {1, 0, 7, 0}, realtime_s[] = {3600, -86400, -3600, 86400};

        if (atomic_load(&monotonic_ahead_ns) < 1800 * NS_PER_S)
                atomic_fetch_add(&monotonic_ahead_ns, monotonic_s[step % 4] * NS_PER_S);
        atomic_fetch_add(&realtime_ahead_ns, realtime_s[step % 4] * NS_PER_S);
}

/* Every thread that asks is answered between two steps of the clocks; ends when all have ended. */
static void answer_among_steps(struct fake_mediator *fake, struct waiter *waiters)
{
        const uint64_t one = 1, give_up_ns = real_ns() + 60 * (uint64_t)NS_PER_S;
        uint32_t ended = 0;

        for (uint32_t step = 0; ended < WAITERS && real_ns() < give_up_ns; step++) {
                ended = 0;
                clocks_step(step);
                for (uint32_t i = 0; i < WAITERS; i++) {
                        const uint32_t request = atomic_load(&waiters[i].request);

                        ended += request == UINT32_MAX;
                        if (request == UINT32_MAX || request == atomic_load(&waiters[i].answer))
                                continue;
                        atomic_store(&waiters[i].answer, request);
                        assert_int_equal(write(fake->interrupt, &one, sizeof(one)), sizeof(one));
                }
                usleep(200); /* some waiters sleep by now */
        }
}

static void waits_outlast_steps(uint64_t slice_ns)
{
        static struct fake_mediator fake;
        static struct waiter waiters[WAITERS];
        pthread_t threads[WAITERS];
        struct ivg_link *link;

        memset(waiters, 0, sizeof(waiters));
        atomic_store(&monotonic_ahead_ns, 0);
        fake_mediator_start(&fake, FAKE_READY);
        link = fake_mediator_link(&fake);
        link->wait_slice_ns = slice_ns;
        for (uint32_t i = 0; i < WAITERS; i++) {
                waiters[i].link = link;
                assert_int_equal(pthread_create(&threads[i], NULL, waiter_main, &waiters[i]), 0);
        }
        answer_among_steps(&fake, waiters);
        for (uint32_t i = 0; i < WAITERS; i++) {
                pthread_join(threads[i], NULL);
                assert_int_equal(waiters[i].rc, 0);
                assert_int_equal(atomic_load(&waiters[i].answer), ROUNDS);
        }
        ivg_link_close(link);
        fake_mediator_stop(&fake);
}

static void interrupts_alone_wake_while_clocks_step(void **state)
{
        (void)state;
        waits_outlast_steps(100000 * IVG_NS_PER_MS); /* no slice would hide a wake-up that a step had lost */
}

static void slices_look_again_while_clocks_step(void **state)
{
        (void)state;
        waits_outlast_steps(IVG_NS_PER_MS);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_clock_that_jumps_ends_no_heartbeat),
                cmocka_unit_test(a_silent_mediator_is_still_noticed),
                cmocka_unit_test(a_slow_mediator_is_given_time),
                cmocka_unit_test(interrupts_alone_wake_while_clocks_step),
                cmocka_unit_test(slices_look_again_while_clocks_step),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
