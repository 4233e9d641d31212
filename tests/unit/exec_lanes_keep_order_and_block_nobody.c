/* Where calls run: a wait of one guest thread stops no other's launches; a thread's own calls stay in order. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include "exec_fixture.h"
#include <cmocka.h>
#include <errno.h>
#include <unistd.h>

static void send_synchronize(struct exec_fixture *f, struct ivg_producer *producer)
{
        struct ivg_request_cuStreamSynchronize request = {.hStream = FIXTURE_STREAM};

        request.header = fixture_header(producer, sizeof(request), true);
        fixture_send(f, producer, IVG_CALL_cuStreamSynchronize, &request, sizeof(request));
}

static void a_waiting_thread_stops_no_other(void **state)
{
        struct exec_fixture *f = *state;
        struct ivg_producer other;

        fixture_open_producer(f, &other);
        atomic_store(&fake.sync_blocks, 1);
        send_synchronize(f, &f->producer);
        assert_true(fixture_reaches(&fake.stream_in_sync, 1));
        for (int i = 0; i < 100; i++)
                fixture_launch(f, &other, FAKE_KERNEL_OK, FIXTURE_STREAM);
        assert_true(fixture_reaches(&fake.launches, 100));
        fixture_settle(f, &other); /* synchronous short calls go on too */
        assert_false(fixture_answered(f, &f->producer));
        atomic_store(&fake.sync_blocks, 0);
        sem_post(&fake.release);
        assert_int_equal(fixture_answer(f, &f->producer, NULL, 0), CUDA_SUCCESS);
        ivg_producer_close(&other);
}

static void two_threads_wait_at_once(void **state)
{
        struct exec_fixture *f = *state;
        struct ivg_producer other;

        fixture_open_producer(f, &other);
        atomic_store(&fake.sync_blocks, 1);
        send_synchronize(f, &f->producer);
        send_synchronize(f, &other);
        assert_true(fixture_reaches(&fake.stream_in_sync, 2));
        sem_post(&fake.release);
        sem_post(&fake.release);
        assert_int_equal(fixture_answer(f, &f->producer, NULL, 0), CUDA_SUCCESS);
        assert_int_equal(fixture_answer(f, &other, NULL, 0), CUDA_SUCCESS);
        ivg_producer_close(&other);
}

static void a_blocking_call_starts_after_the_threads_own_frees(void **state)
{
        struct exec_fixture *f = *state;
        uint64_t address;

        assert_int_equal(fixture_alloc(f, &f->producer, 4096, &address), CUDA_SUCCESS);
        atomic_store(&fake.free_blocks, 1);
        fixture_free_async(f, &f->producer, address);
        send_synchronize(f, &f->producer);
        /* The free is stuck in the driver, so the wait has not begun; launches of this thread go on all the same. */
        fixture_launch(f, &f->producer, FAKE_KERNEL_OK, FIXTURE_STREAM);
        assert_true(fixture_reaches(&fake.launches, 1));
        assert_int_equal(atomic_load(&fake.stream_in_sync), 0);
        assert_false(fixture_answered(f, &f->producer));
        atomic_store(&fake.free_blocks, 0);
        sem_post(&fake.release);
        assert_int_equal(fixture_answer(f, &f->producer, NULL, 0), CUDA_SUCCESS);
        assert_int_equal(atomic_load(&fake.frees), 1);
}

/* Who waits for a word calls again soon: the consumer stays awake for that, but not for ever. */
static void a_consumer_sleeps_at_last_where_a_word_never_comes(void **state)
{
        struct exec_fixture *f = *state;
        struct ivg_request_ivgStreamSignal request = {.stream = FIXTURE_STREAM, .completion_value = 1};

        atomic_store(&fake.words_held, 1);
        fixture_async(f, &f->producer, IVG_CALL_ivgStreamSignal, &request, sizeof(request));
        fixture_settle(f, &f->producer);
        for (int i = 0; i < 10000 && atomic_load(&f->ring.host->sleep_at) == 0; i++)
                usleep(1000);
        assert_int_not_equal(atomic_load(&f->ring.host->sleep_at), 0);
        atomic_store(&fake.words_held, 0);
}

static void frees_run_in_the_rings_order_whoever_sends_them(void **state)
{
        struct exec_fixture *f = *state;
        struct ivg_producer other;
        uint64_t address[20];

        fixture_open_producer(f, &other);
        for (int i = 0; i < 20; i++)
                assert_int_equal(fixture_alloc(f, &f->producer, 64, &address[i]), CUDA_SUCCESS);
        for (int i = 0; i < 20; i++)
                fixture_free_async(f, i % 2 ? &other : &f->producer, address[i]);
        assert_int_equal(fixture_synchronize(f, &f->producer), CUDA_SUCCESS);
        assert_int_equal(fixture_synchronize(f, &other), CUDA_SUCCESS);
        assert_int_equal(atomic_load(&fake.frees), 20);
        assert_int_equal(atomic_load(&fake.memory_used), 0);
        ivg_producer_close(&other);
}

static void an_allocation_waits_for_frees_of_other_threads_before_it_fails(void **state)
{
        struct exec_fixture *f = *state;
        struct ivg_producer other;
        uint64_t address, second;

        fixture_open_producer(f, &other);
        atomic_store(&fake.memory_limit, 4096);
        assert_int_equal(fixture_alloc(f, &f->producer, 4096, &address), CUDA_SUCCESS);
        assert_int_equal(fixture_alloc(f, &other, 4096, &second), CUDA_ERROR_OUT_OF_MEMORY);
        for (int i = 0; i < 50; i++) {
                fixture_free_async(f, &f->producer, address);
                /* The program passed a message from thread to thread here. */
                assert_int_equal(fixture_alloc(f, &other, 4096, &second), CUDA_SUCCESS);
                address = second;
        }
        fixture_free_async(f, &f->producer, address);
        ivg_producer_close(&other);
}

static void a_short_call_behind_a_lane_call_is_answered_in_order(void **state)
{
        struct exec_fixture *f = *state;

        /* Alternating at full speed, the lane is often not yet idle when the next call arrives. */
        for (int i = 0; i < 300; i++) {
                assert_int_equal(fixture_synchronize(f, &f->producer), CUDA_SUCCESS);
                fixture_settle(f, &f->producer);
        }
}

static void a_third_unanswered_call_of_one_thread_is_a_fault(void **state)
{
        struct exec_fixture *f = *state;

        atomic_store(&fake.sync_blocks, 1);
        send_synchronize(f, &f->producer);
        send_synchronize(f, &f->producer);
        send_synchronize(f, &f->producer);
        assert_true(fixture_faulted(f, IVG_FAULT_RECORD_HEADER));
        sem_post(&fake.release);
}

static void a_lane_ends_with_its_thread_and_starts_again(void **state)
{
        struct exec_fixture *f = *state;

        for (int i = 0; i < 20; i++) {
                struct ivg_producer thread;
                struct ivg_request_ivgThreadEnd end;

                fixture_open_producer(f, &thread);
                assert_int_equal(fixture_synchronize(f, &thread), CUDA_SUCCESS);
                fixture_async(f, &thread, IVG_CALL_ivgThreadEnd, &end, sizeof(end));
                ivg_producer_close(&thread); /* the next one gets the same line */
        }
        /* The first producer's lane (of the set-up's context) is the only one that may be left. */
        for (int i = 0; i < 2000 && atomic_load(&f->exec->threads_alive) > 1; i++)
                usleep(1000);
        assert_true(atomic_load(&f->exec->threads_alive) <= 1);
}

static void an_executor_stops_while_calls_are_queued(void **state)
{
        struct exec_fixture *f = *state;
        uint64_t address;

        assert_int_equal(fixture_alloc(f, &f->producer, 64, &address), CUDA_SUCCESS);
        atomic_store(&fake.free_blocks, 1);
        fixture_free_async(f, &f->producer, address);
        send_synchronize(f, &f->producer);
        assert_true(fixture_reaches(&fake.frees_begun, 1));
        /* Stuck in the driver: stop says so within its bound, and again succeeds when the driver lets go. */
        assert_int_equal(ivg_exec_stop(f->exec, IVG_RING_PEER_GONE, 50), -ETIMEDOUT);
        assert_int_equal(ivg_ring_state_errno(&f->ring), -EOWNERDEAD);
        atomic_store(&fake.free_blocks, 0);
        sem_post(&fake.release);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(a_waiting_thread_stops_no_other, fixture_setup, fixture_teardown),
                cmocka_unit_test_setup_teardown(two_threads_wait_at_once, fixture_setup, fixture_teardown),
                cmocka_unit_test_setup_teardown(a_blocking_call_starts_after_the_threads_own_frees, fixture_setup,
                                                fixture_teardown),
                cmocka_unit_test_setup_teardown(a_consumer_sleeps_at_last_where_a_word_never_comes, fixture_setup,
                                                fixture_teardown),
                cmocka_unit_test_setup_teardown(frees_run_in_the_rings_order_whoever_sends_them, fixture_setup,
                                                fixture_teardown),
                cmocka_unit_test_setup_teardown(an_allocation_waits_for_frees_of_other_threads_before_it_fails,
                                                fixture_setup, fixture_teardown),
                cmocka_unit_test_setup_teardown(a_short_call_behind_a_lane_call_is_answered_in_order, fixture_setup,
                                                fixture_teardown),
                cmocka_unit_test_setup_teardown(a_third_unanswered_call_of_one_thread_is_a_fault, fixture_setup,
                                                fixture_teardown),
                cmocka_unit_test_setup_teardown(a_lane_ends_with_its_thread_and_starts_again, fixture_setup,
                                                fixture_teardown),
                cmocka_unit_test_setup_teardown(an_executor_stops_while_calls_are_queued, fixture_setup,
                                                fixture_teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
