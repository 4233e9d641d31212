/* Waiting threads share one eventfd. The slice that would paper over a lost wake-up is made longer than the test. */
#include "glue_fake_mediator.h"
#include <poll.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#define WAITERS 8u
#ifdef IVG_TSAN
#define ROUNDS 800u
#else
#define ROUNDS 4000u
#endif
#define LOOKS_PER_DELAY 3
#define NO_SLICE_NS (100000 * IVG_NS_PER_MS)
#define WAIT_MS 20000u

struct wait_fixture {
        struct fake_mediator fake;
        struct ivg_link *link;
};

static int wait_setup(void **state)
{
        struct wait_fixture *fixture = calloc(1, sizeof(*fixture));

        fake_mediator_start(&fixture->fake, FAKE_READY);
        fixture->link = fake_mediator_link(&fixture->fake);
        fixture->link->wait_slice_ns = NO_SLICE_NS;
        *state = fixture;
        return 0;
}

static int wait_teardown(void **state)
{
        struct wait_fixture *fixture = *state;

        ivg_link_close(fixture->link);
        fake_mediator_stop(&fixture->fake);
        free(fixture);
        return 0;
}

static void interrupt(struct wait_fixture *fixture)
{
        const uint64_t one = 1;

        assert_int_equal(write(fixture->fake.interrupt, &one, sizeof(one)), sizeof(one));
}

/* ---- stress: requests and answers through words, as mailboxes are ---- */

struct waiter {
        struct wait_fixture *fixture;
        _Alignas(64) _Atomic(uint32_t) request;
        _Alignas(64) _Atomic(uint32_t) answer;
        uint32_t rounds_done, looks;
        int rc;
};

static bool waiter_done(void *arg)
{
        struct waiter *waiter = arg;

        if (atomic_load(&waiter->answer) == atomic_load(&waiter->request))
                return true;
        /* Widens the gap between the look and the sleep, in which a wake-up must not be lost, from some nanoseconds to
         * one that an answer, its interrupt and a change of leader often fit in. */
        if (waiter->looks++ % LOOKS_PER_DELAY == 0)
                usleep(50);
        return false;
}

static void *waiter_main(void *arg)
{
        struct waiter *waiter = arg;

        for (uint32_t round = 1; round <= ROUNDS && waiter->rc == 0; round++) {
                atomic_store(&waiter->request, round);
                waiter->rc = ivg_link_wait(waiter->fixture->link, waiter_done, waiter, WAIT_MS);
                waiter->rounds_done += waiter->rc == 0;
        }
        atomic_store(&waiter->request, UINT32_MAX);
        return NULL;
}

/* Answers whoever asks, one interrupt per answer; ends when every waiter has. */
static void answer_all(struct wait_fixture *fixture, struct waiter *waiters, uint64_t deadline_ns)
{
        uint32_t ended = 0;

        while (ended < WAITERS && ivg_now_ns() < deadline_ns) {
                bool idle = true;

                ended = 0;
                for (uint32_t i = 0; i < WAITERS; i++) {
                        const uint32_t request = atomic_load(&waiters[i].request);

                        ended += request == UINT32_MAX;
                        if (request == UINT32_MAX || request == atomic_load(&waiters[i].answer))
                                continue;
                        atomic_store(&waiters[i].answer, request);
                        interrupt(fixture);
                        idle = false;
                }
                if (idle)
                        sched_yield();
        }
}

static void eight_threads_get_every_answer(void **state)
{
        struct wait_fixture *fixture = *state;
        struct waiter *waiters = aligned_alloc(64, WAITERS * sizeof(*waiters));
        pthread_t threads[WAITERS];

        memset(waiters, 0, WAITERS * sizeof(*waiters));
        for (uint32_t i = 0; i < WAITERS; i++) {
                waiters[i].fixture = fixture;
                assert_int_equal(pthread_create(&threads[i], NULL, waiter_main, &waiters[i]), 0);
        }
        answer_all(fixture, waiters, ivg_now_ns() + 60000 * IVG_NS_PER_MS);
        for (uint32_t i = 0; i < WAITERS; i++) {
                pthread_join(threads[i], NULL);
                assert_int_equal(waiters[i].rc, 0);
                assert_int_equal(waiters[i].rounds_done, ROUNDS);
        }
        assert_int_equal(atomic_load(&fixture->link->wait_leader), 0);
        assert_int_equal(atomic_load(&fixture->link->wait_followers), 0);
        free(waiters);
}

/* ---- single states ---- */

struct lockstep {
        struct wait_fixture *fixture;
        struct waiter *waiter;
};

/* Answers the one waiter, and nobody else: no later interrupt can make up for a wake-up that was lost. */
static void *lockstep_main(void *arg)
{
        struct lockstep *lockstep = arg;
        const uint64_t deadline_ns = ivg_now_ns() + 60000 * IVG_NS_PER_MS;
        uint32_t request;

        while ((request = atomic_load(&lockstep->waiter->request)) != UINT32_MAX && ivg_now_ns() < deadline_ns) {
                if (request == atomic_load(&lockstep->waiter->answer)) {
                        sched_yield();
                        continue;
                }
                atomic_store(&lockstep->waiter->answer, request);
                interrupt(lockstep->fixture);
        }
        return NULL;
}

static bool flag_done(void *arg)
{
        return atomic_load((_Atomic(uint32_t) *)arg) != 0;
}

struct flag_waiter {
        struct ivg_link *link;
        _Atomic(uint32_t) flag;
        uint32_t timeout_ms;
        _Atomic(uint32_t) tid, ended;
        int rc;
};

static void *flag_waiter_main(void *arg)
{
        struct flag_waiter *waiter = arg;

        atomic_store(&waiter->tid, (uint32_t)syscall(SYS_gettid));
        waiter->rc = ivg_link_wait(waiter->link, flag_done, &waiter->flag, waiter->timeout_ms);
        atomic_store(&waiter->ended, 1);
        return NULL;
}

static void wait_until(_Atomic(uint32_t) *word, uint32_t value)
{
        const uint64_t deadline_ns = ivg_now_ns() + 10000 * IVG_NS_PER_MS;

        while (atomic_load(word) != value && ivg_now_ns() < deadline_ns)
                usleep(500);
        assert_int_equal(atomic_load(word), value);
}

static void a_follower_is_woken_by_its_only_interrupt(void **state)
{
        struct wait_fixture *fixture = *state;
        struct flag_waiter leader = {.link = fixture->link, .timeout_ms = 4 * WAIT_MS};
        struct waiter *follower = aligned_alloc(64, sizeof(*follower));
        struct lockstep lockstep = {fixture, follower};
        pthread_t threads[2];

        memset(follower, 0, sizeof(*follower));
        follower->fixture = fixture;
        assert_int_equal(pthread_create(&threads[0], NULL, flag_waiter_main, &leader), 0);
        while (atomic_load(&fixture->link->wait_leader) == 0)
                usleep(500);
        assert_int_equal(pthread_create(&threads[1], NULL, lockstep_main, &lockstep), 0);
        waiter_main(follower);
        pthread_join(threads[1], NULL);
        assert_int_equal(follower->rc, 0);
        assert_int_equal(follower->rounds_done, ROUNDS);
        atomic_store(&leader.flag, 1);
        interrupt(fixture);
        pthread_join(threads[0], NULL);
        assert_int_equal(leader.rc, 0);
        free(follower);
}

static void timeouts_are_kept_and_done_needs_no_interrupt(void **state)
{
        struct wait_fixture *fixture = *state;
        _Atomic(uint32_t) flag = 0;
        const uint64_t begin_ns = ivg_now_ns();

        assert_int_equal(ivg_link_wait(fixture->link, flag_done, &flag, 50), -ETIMEDOUT);
        assert_true(test_ms_since(begin_ns) >= 50);
        assert_true(test_ms_since(begin_ns) < 5000);
        assert_int_equal(ivg_link_wait(fixture->link, flag_done, &flag, 0), -ETIMEDOUT);
        atomic_store(&flag, 1);
        assert_int_equal(ivg_link_wait(fixture->link, flag_done, &flag, 0), 0);
        assert_int_equal(atomic_load(&fixture->link->wait_leader), 0);
}

static void spurious_interrupts_end_no_wait(void **state)
{
        struct wait_fixture *fixture = *state;
        struct flag_waiter waiters[2] = {{.link = fixture->link, .timeout_ms = WAIT_MS},
                                         {.link = fixture->link, .timeout_ms = WAIT_MS}};
        pthread_t threads[2];

        for (int i = 0; i < 2; i++)
                assert_int_equal(pthread_create(&threads[i], NULL, flag_waiter_main, &waiters[i]), 0);
        wait_until(&fixture->link->wait_followers, 1);
        for (int i = 0; i < 20; i++) {
                interrupt(fixture);
                usleep(500);
        }
        assert_int_equal(atomic_load(&waiters[0].ended) + atomic_load(&waiters[1].ended), 0);
        atomic_store(&waiters[0].flag, 1);
        interrupt(fixture);
        wait_until(&waiters[0].ended, 1);
        assert_int_equal(atomic_load(&waiters[1].ended), 0);
        atomic_store(&waiters[1].flag, 1);
        interrupt(fixture);
        for (int i = 0; i < 2; i++) {
                pthread_join(threads[i], NULL);
                assert_int_equal(waiters[i].rc, 0);
        }
}

static void a_leader_that_leaves_hands_over(void **state)
{
        struct wait_fixture *fixture = *state;
        struct flag_waiter first = {.link = fixture->link, .timeout_ms = 60};
        struct flag_waiter second = {.link = fixture->link, .timeout_ms = WAIT_MS};
        pthread_t threads[2];

        assert_int_equal(pthread_create(&threads[0], NULL, flag_waiter_main, &first), 0);
        wait_until(&first.tid, atomic_load(&first.tid));
        assert_int_equal(pthread_create(&threads[1], NULL, flag_waiter_main, &second), 0);
        pthread_join(threads[0], NULL);
        assert_int_equal(first.rc, -ETIMEDOUT);
        wait_until(&second.tid, atomic_load(&second.tid));
        wait_until(&fixture->link->wait_leader, atomic_load(&second.tid));
        atomic_store(&second.flag, 1);
        interrupt(fixture);
        pthread_join(threads[1], NULL);
        assert_int_equal(second.rc, 0);
}

static void *tid_main(void *arg)
{
        atomic_store((_Atomic(uint32_t) *)arg, (uint32_t)syscall(SYS_gettid));
        return NULL;
}

static void the_lead_of_a_dead_thread_is_taken_over(void **state)
{
        struct wait_fixture *fixture = *state;
        struct flag_waiter waiter = {.link = fixture->link, .timeout_ms = WAIT_MS};
        _Atomic(uint32_t) dead = 0;
        pthread_t thread;

        assert_int_equal(pthread_create(&thread, NULL, tid_main, &dead), 0);
        pthread_join(thread, NULL);
        atomic_store(&fixture->link->wait_leader, atomic_load(&dead)); /* as if it had ended while it led */
        fixture->link->wait_slice_ns = 5 * IVG_NS_PER_MS;
        assert_int_equal(pthread_create(&thread, NULL, flag_waiter_main, &waiter), 0);
        wait_until(&waiter.tid, atomic_load(&waiter.tid));
        while (atomic_load(&waiter.tid) == 0)
                usleep(500);
        wait_until(&fixture->link->wait_leader, atomic_load(&waiter.tid));
        atomic_store(&waiter.flag, 1);
        interrupt(fixture);
        pthread_join(thread, NULL);
        assert_int_equal(waiter.rc, 0);
}

static void cancellation_does_not_take_the_leader(void **state)
{
        struct wait_fixture *fixture = *state;
        struct flag_waiter waiter = {.link = fixture->link, .timeout_ms = WAIT_MS};
        pthread_t thread;
        void *result;

        assert_int_equal(pthread_create(&thread, NULL, flag_waiter_main, &waiter), 0);
        while (atomic_load(&fixture->link->wait_leader) == 0)
                usleep(500);
        assert_int_equal(pthread_cancel(thread), 0);
        usleep(20000);
        assert_int_equal(atomic_load(&waiter.ended), 0);
        atomic_store(&waiter.flag, 1);
        interrupt(fixture);
        pthread_join(thread, &result);
        assert_int_equal(atomic_load(&waiter.ended), 1);
        assert_int_equal(waiter.rc, 0);
        assert_int_equal(atomic_load(&fixture->link->wait_leader), 0);
}

static void the_mediators_end_wakes_all(void **state)
{
        struct wait_fixture *fixture = *state;
        struct flag_waiter waiters[4];
        pthread_t threads[4];

        for (int i = 0; i < 4; i++) {
                waiters[i] = (struct flag_waiter){.link = fixture->link, .timeout_ms = WAIT_MS};
                assert_int_equal(pthread_create(&threads[i], NULL, flag_waiter_main, &waiters[i]), 0);
        }
        wait_until(&fixture->link->wait_followers, 3);
        fake_mediator_hang_up(&fixture->fake);
        for (int i = 0; i < 4; i++) {
                pthread_join(threads[i], NULL);
                assert_int_equal(waiters[i].rc, -EPIPE);
        }
}

static void an_answer_goes_before_the_peers_end(void **state)
{
        struct wait_fixture *fixture = *state;
        _Atomic(uint32_t) flag = 1;

        ivg_store_release_u64(&ivg_region_ring_host(&fixture->fake.region, 0)->status,
                              ivg_channel_word(1, IVG_RING_PEER_GONE));
        assert_int_equal(ivg_link_wait(fixture->link, flag_done, &flag, 1000), 0);
        atomic_store(&flag, 0);
        assert_int_equal(ivg_link_wait(fixture->link, flag_done, &flag, 1000), -EOWNERDEAD);
}

static void waiting_costs_no_processor_time(void **state)
{
        struct wait_fixture *fixture = *state;
        _Atomic(uint32_t) flag = 0;
        struct rusage before, after;
        int64_t used_us;

        fixture->link->wait_slice_ns = IVG_LINK_WAIT_SLICE_NS;
        getrusage(RUSAGE_SELF, &before);
        assert_int_equal(ivg_link_wait(fixture->link, flag_done, &flag, 500), -ETIMEDOUT);
        getrusage(RUSAGE_SELF, &after);
        used_us = (after.ru_utime.tv_sec - before.ru_utime.tv_sec) * 1000000 + after.ru_utime.tv_usec -
                  before.ru_utime.tv_usec + (after.ru_stime.tv_sec - before.ru_stime.tv_sec) * 1000000 +
                  after.ru_stime.tv_usec - before.ru_stime.tv_usec;
        assert_true(used_us < 50000); /* a spin would use 500000 */
}

int main(void)
{
#define WAIT_TEST(name) cmocka_unit_test_setup_teardown(name, wait_setup, wait_teardown)
        const struct CMUnitTest tests[] = {
                WAIT_TEST(timeouts_are_kept_and_done_needs_no_interrupt),
                WAIT_TEST(spurious_interrupts_end_no_wait),
                WAIT_TEST(a_leader_that_leaves_hands_over),
                WAIT_TEST(the_lead_of_a_dead_thread_is_taken_over),
                WAIT_TEST(cancellation_does_not_take_the_leader),
                WAIT_TEST(the_mediators_end_wakes_all),
                WAIT_TEST(an_answer_goes_before_the_peers_end),
                WAIT_TEST(waiting_costs_no_processor_time),
                WAIT_TEST(a_follower_is_woken_by_its_only_interrupt),
                WAIT_TEST(eight_threads_get_every_answer),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
