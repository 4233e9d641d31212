/* Errors of asynchronous calls: the first is kept and told once, by the next call that reports; sticky ones stay. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include "exec_fixture.h"
#include <cmocka.h>

static int32_t take_error(struct exec_fixture *f)
{
        struct ivg_request_ivgTakeAsyncError request;
        struct ivg_answer_ivgTakeAsyncError answer = {.error = -1};

        assert_int_equal(fixture_call(f, &f->producer, IVG_CALL_ivgTakeAsyncError, &request, sizeof(request), &answer,
                                      sizeof(answer)),
                         CUDA_SUCCESS);
        return answer.error;
}

static void the_next_synchronize_tells_it_once(void **state)
{
        struct exec_fixture *f = *state;
        const uint64_t failed = ivg_load_relaxed_u64(&f->exec->host_channel->calls_failed); /* windows tried */

        fixture_launch(f, &f->producer, FAKE_KERNEL_FAILS, FIXTURE_STREAM);
        assert_int_equal(fixture_synchronize(f, &f->producer), CUDA_ERROR_INVALID_VALUE);
        assert_int_equal(fixture_synchronize(f, &f->producer), CUDA_SUCCESS);
        assert_int_equal(ivg_load_relaxed_u64(&f->exec->host_channel->calls_failed), failed + 1);
}

static void the_first_of_several_is_kept(void **state)
{
        struct exec_fixture *f = *state;

        fixture_launch(f, &f->producer, FAKE_KERNEL_FAILS, 4711); /* unknown stream */
        fixture_launch(f, &f->producer, FAKE_KERNEL_FAILS, FIXTURE_STREAM);
        assert_int_equal(take_error(f), CUDA_ERROR_INVALID_HANDLE);
        assert_int_equal(take_error(f), CUDA_SUCCESS);
        assert_int_equal(fixture_synchronize(f, &f->producer), CUDA_SUCCESS);
}

static void a_call_that_gives_something_does_not_tell_it(void **state)
{
        struct exec_fixture *f = *state;
        uint64_t address;

        fixture_launch(f, &f->producer, FAKE_KERNEL_FAILS, FIXTURE_STREAM);
        assert_int_equal(fixture_alloc(f, &f->producer, 64, &address), CUDA_SUCCESS);
        assert_int_equal(fixture_synchronize(f, &f->producer), CUDA_ERROR_INVALID_VALUE);
        fixture_free_async(f, &f->producer, address);
}

static void a_failed_free_is_told_too(void **state)
{
        struct exec_fixture *f = *state;

        fixture_free_async(f, &f->producer, 0x123456);
        /* A synchronize of the same thread starts after it. */
        assert_int_equal(fixture_synchronize(f, &f->producer), CUDA_ERROR_INVALID_VALUE);
}

static void a_sticky_error_stays_and_is_not_told_twice_as_deferred(void **state)
{
        struct exec_fixture *f = *state;

        fixture_launch(f, &f->producer, FAKE_KERNEL_STICKY, FIXTURE_STREAM);
        assert_int_equal(fixture_synchronize(f, &f->producer), CUDA_ERROR_ILLEGAL_ADDRESS);
        assert_int_equal(fixture_synchronize(f, &f->producer), CUDA_ERROR_ILLEGAL_ADDRESS);
        atomic_store(&fake.sticky, CUDA_SUCCESS); /* as after a reset of the context */
        assert_int_equal(fixture_synchronize(f, &f->producer), CUDA_SUCCESS);
}

static void an_asynchronous_call_that_wants_an_answer_gets_its_own_error(void **state)
{
        struct exec_fixture *f = *state;
        struct ivg_request_ivgLaunch request = {.function = FIXTURE_KERNEL(FAKE_KERNEL_FAILS),
                                                .stream = FIXTURE_STREAM,
                                                .grid_x = 1,
                                                .grid_y = 1,
                                                .grid_z = 1,
                                                .block_x = 1,
                                                .block_y = 1,
                                                .block_z = 1};

        assert_int_equal(fixture_call(f, &f->producer, IVG_CALL_ivgLaunch, &request, sizeof(request), NULL, 0),
                         CUDA_ERROR_INVALID_VALUE);
        assert_int_equal(take_error(f), CUDA_SUCCESS);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(the_next_synchronize_tells_it_once),
                TEST(the_first_of_several_is_kept),
                TEST(a_call_that_gives_something_does_not_tell_it),
                TEST(a_failed_free_is_told_too),
                TEST(a_sticky_error_stays_and_is_not_told_twice_as_deferred),
                TEST(an_asynchronous_call_that_wants_an_answer_gets_its_own_error),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
