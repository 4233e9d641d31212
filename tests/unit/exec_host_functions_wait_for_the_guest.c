/* A function of the guest in a stream: handed over whole, the driver's thread waits for the guest's count, and nothing
 * waits for a guest that has gone. The driver here runs each host function on a thread of its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include "exec_fixture.h"
#include <cmocka.h>
#include <stdlib.h>
#include <sys/eventfd.h>

#define COUNT_OFFSET 4096u
#define FLOOD (IVG_CALLBACK_SLOTS + 40u)

static _Atomic(uint32_t) begun, returned;
static _Atomic(CUresult) callback_status = CUDA_SUCCESS;
static uint64_t
        effect; /* plain, of the guest's latest function; only B2 (callbacks.c) lets the driver's thread see it */
static _Atomic(uint64_t) effect_wanted;

struct run {
        CUhostFn function;
        CUstreamCallback callback;
        void *data;
};

static void *run_main(void *argument)
{
        struct run *run = argument;

        atomic_fetch_add(&begun, 1);
        if (run->function)
                run->function(run->data);
        else
                run->callback(NULL, callback_status, run->data);
        if (ivg_load_relaxed_u64(&effect_wanted) != 0 && effect != ivg_load_relaxed_u64(&effect_wanted))
                abort();
        atomic_fetch_add(&returned, 1);
        free(run);
        return NULL;
}

static CUresult start(CUhostFn function, CUstreamCallback callback, void *data)
{
        struct run *run = malloc(sizeof(*run));
        pthread_t thread;

        *run = (struct run){function, callback, data};
        if (pthread_create(&thread, NULL, run_main, run) != 0)
                abort();
        pthread_detach(thread);
        return CUDA_SUCCESS;
}

static CUresult fake_host_function(CUstream stream, CUhostFn function, void *data)
{
        (void)stream;
        return start(function, NULL, data);
}

static CUresult fake_stream_callback(CUstream stream, CUstreamCallback callback, void *data, unsigned int flags)
{
        (void)stream;
        assert_int_equal(flags, 0);
        return start(NULL, callback, data);
}

static int setup(void **state)
{
        struct exec_fixture *f;

        atomic_store(&begun, 0);
        atomic_store(&returned, 0);
        if (fixture_setup(state) != 0)
                return -1;
        f = *state;
        f->exec->driver.cuLaunchHostFunc = fake_host_function;
        f->exec->driver.cuStreamAddCallback = fake_stream_callback;
        fixture_own_extents(f, 0, 1, FIXTURE_CHANNEL);
        return 0;
}

/* The threads of this driver must have left before the executor's memory goes. */
static int teardown(void **state)
{
        struct exec_fixture *f = *state;

        (void)ivg_exec_stop(f->exec, IVG_RING_CLOSED, 20000);
        assert_true(fixture_reaches(&returned, atomic_load(&begun)));
        return fixture_teardown(state);
}

static CUresult start_callbacks(struct exec_fixture *f, uint64_t offset)
{
        struct ivg_request_ivgCallbacksStart request = {.arena_offset = offset};

        return fixture_call(f, &f->producer, IVG_CALL_ivgCallbacksStart, &request, sizeof(request), NULL, 0);
}

static CUresult enqueue(struct exec_fixture *f, uint32_t kind, uint64_t function)
{
        struct ivg_request_ivgHostFunction request = {.stream = FIXTURE_STREAM,
                                                      .kind = kind,
                                                      .function = function,
                                                      .data = function + 1,
                                                      .stream_handle = function + 2};

        return fixture_call(f, &f->producer, IVG_CALL_ivgHostFunction, &request, sizeof(request), NULL, 0);
}

static _Atomic(uint64_t) *word(struct exec_fixture *f, uint32_t index)
{
        return ivg_region_completions(&f->guest_region, FIXTURE_CHANNEL) + index;
}

static bool due_reaches(struct exec_fixture *f, uint64_t due)
{
        const uint64_t end = ivg_clock_ns() + 10000000000ull;

        while (ivg_load_seq_cst_u64(word(f, IVG_CALLBACK_DUE)) != due)
                if (ivg_clock_ns() >= end)
                        return false;
        return true;
}

static void count(struct exec_fixture *f, uint64_t ran)
{
        ivg_store_release_u64((_Atomic(uint64_t) *)(void *)(f->arena + COUNT_OFFSET), ran);
}

static void it_is_handed_over_and_waited_for(void **state)
{
        struct exec_fixture *f = *state;
        _Atomic(uint64_t) *slot = word(f, IVG_CALLBACK_QUEUE);
        uint64_t interrupts;

        assert_int_equal(start_callbacks(f, COUNT_OFFSET), CUDA_SUCCESS);
        assert_int_equal(start_callbacks(f, COUNT_OFFSET), CUDA_ERROR_ALREADY_MAPPED);
        callback_status = CUDA_ERROR_LAUNCH_FAILED;
        assert_int_equal(enqueue(f, IVG_CALLBACK_STREAM_CALLBACK, 0x1000), CUDA_SUCCESS);
        assert_true(due_reaches(f, 1));
        assert_int_equal(ivg_load_relaxed_u64(&slot[IVG_CALLBACK_FUNCTION]), 0x1000);
        assert_int_equal(ivg_load_relaxed_u64(&slot[IVG_CALLBACK_DATA]), 0x1001);
        assert_int_equal(ivg_load_relaxed_u64(&slot[IVG_CALLBACK_STREAM]), 0x1002);
        assert_int_equal(ivg_load_relaxed_u64(&slot[IVG_CALLBACK_STATUS]),
                         (uint64_t)IVG_CALLBACK_STREAM_CALLBACK << 32 | CUDA_ERROR_LAUNCH_FAILED);
        fixture_settle(f, &f->producer); /* others go on */
        assert_int_equal(atomic_load(&returned), 0);
        ivg_store_relaxed_u64(&effect_wanted, 1);
        effect = 1;
        count(f, 1);
        assert_true(fixture_reaches(&returned, 1));
        assert_int_equal(eventfd_read(f->interrupt_fd, &interrupts), 0);
        assert_int_equal(enqueue(f, IVG_CALLBACK_HOST_FUNCTION, 0x2000), CUDA_SUCCESS);
        assert_true(due_reaches(f, 2));
        slot += IVG_CALLBACK_WORDS;
        assert_int_equal(ivg_load_relaxed_u64(&slot[IVG_CALLBACK_FUNCTION]), 0x2000);
        assert_int_equal(ivg_load_relaxed_u64(&slot[IVG_CALLBACK_STATUS]), 0);
        ivg_store_relaxed_u64(&effect_wanted, 2);
        effect = 2;
        count(f, 2);
        assert_true(fixture_reaches(&returned, 2));
        ivg_store_relaxed_u64(&effect_wanted, 0);
}

/* More at once than the queue has places: the rest waits, none is lost. */
static void a_full_queue_is_waited_for(void **state)
{
        struct exec_fixture *f = *state;

        assert_int_equal(start_callbacks(f, COUNT_OFFSET), CUDA_SUCCESS);
        for (uint32_t i = 0; i < FLOOD; i++)
                assert_int_equal(enqueue(f, IVG_CALLBACK_HOST_FUNCTION, 0x1000), CUDA_SUCCESS);
        assert_true(fixture_reaches(&begun, FLOOD));
        assert_true(due_reaches(f, IVG_CALLBACK_SLOTS));
        count(f, IVG_CALLBACK_SLOTS);
        assert_true(due_reaches(f, FLOOD));
        count(f, FLOOD);
        assert_true(fixture_reaches(&returned, FLOOD));
}

static void nobody_waits_for_a_guest_that_is_gone(void **state)
{
        struct exec_fixture *f = *state;

        assert_int_equal(start_callbacks(f, COUNT_OFFSET), CUDA_SUCCESS);
        assert_int_equal(enqueue(f, IVG_CALLBACK_HOST_FUNCTION, 0x1000), CUDA_SUCCESS);
        assert_true(due_reaches(f, 1));
        assert_int_equal(atomic_load(&returned), 0);
        assert_int_equal(ivg_exec_stop(f->exec, IVG_RING_CLOSED, 20000), 0);
        assert_true(fixture_reaches(&returned, 1));
}

static void without_a_count_there_is_none(void **state)
{
        struct exec_fixture *f = *state;

        assert_int_equal(enqueue(f, IVG_CALLBACK_HOST_FUNCTION, 0x1000), CUDA_ERROR_OUT_OF_MEMORY);
        assert_int_equal(atomic_load(&begun), 0);
}

static void a_count_in_foreign_memory_is_refused(void **state)
{
        struct exec_fixture *f = *state;
        struct ivg_request_ivgCallbacksStart request = {.arena_offset = IVG_EXTENT_BYTES};

        request.header = fixture_header(&f->producer, sizeof(request), true);
        fixture_send(f, &f->producer, IVG_CALL_ivgCallbacksStart, &request, sizeof(request));
        assert_true(fixture_faulted(f, IVG_FAULT_ARENA));
}

static void a_crooked_count_is_refused(void **state)
{
        struct exec_fixture *f = *state;
        struct ivg_request_ivgCallbacksStart request = {.arena_offset = COUNT_OFFSET + 4};

        request.header = fixture_header(&f->producer, sizeof(request), true);
        fixture_send(f, &f->producer, IVG_CALL_ivgCallbacksStart, &request, sizeof(request));
        assert_true(fixture_faulted(f, IVG_FAULT_ARGUMENTS));
}

static void an_unknown_kind_is_refused(void **state)
{
        struct exec_fixture *f = *state;
        struct ivg_request_ivgHostFunction request = {.stream = FIXTURE_STREAM, .kind = 2};

        assert_int_equal(start_callbacks(f, COUNT_OFFSET), CUDA_SUCCESS);
        request.header = fixture_header(&f->producer, sizeof(request), true);
        fixture_send(f, &f->producer, IVG_CALL_ivgHostFunction, &request, sizeof(request));
        assert_true(fixture_faulted(f, IVG_FAULT_ARGUMENTS));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(it_is_handed_over_and_waited_for),
                TEST(a_full_queue_is_waited_for),
                TEST(nobody_waits_for_a_guest_that_is_gone),
                TEST(without_a_count_there_is_none),
                TEST(a_count_in_foreign_memory_is_refused),
                TEST(a_crooked_count_is_refused),
                TEST(an_unknown_kind_is_refused),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
