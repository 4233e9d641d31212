/* Streams: asynchronous to the caller, in order within, ordered across by events and by the legacy stream. */
#include "softgpu_driver.h"

#include <time.h>

static uint64_t now_ns(void)
{
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* A step appends its number to a list when the stream comes to it. */
struct list {
        atomic_uint count;
        unsigned steps[4096];
};
struct step {
        struct list *list;
        unsigned number;
};

static void step_take(void *data)
{
        const struct step *step = data;
        step->list->steps[atomic_fetch_add(&step->list->count, 1)] = step->number;
}

static void work_does_not_block_its_caller(void **state)
{
        (void)state;
        CUstream stream;
        CUevent event;
        struct gate gate = {0};
        OK(cuStreamCreate(&stream, 0));
        OK(cuEventCreate(&event, CU_EVENT_DISABLE_TIMING));
        OK(cuEventQuery(event)); /* never recorded: complete */
        OK(cuLaunchHostFunc(stream, gate_wait, &gate));
        OK(cuEventRecord(event, stream));
        CALL(CUDA_ERROR_NOT_READY, cuStreamQuery(stream));
        CALL(CUDA_ERROR_NOT_READY, cuEventQuery(event));
        CALL(CUDA_ERROR_NOT_READY, cuStreamQuery(NULL)); /* the legacy stream would wait for it */
        atomic_store(&gate.open, 1);
        OK(cuEventSynchronize(event));
        OK(cuEventQuery(event));
        OK(cuStreamSynchronize(stream));
        OK(cuStreamQuery(stream));
        OK(cuEventDestroy_v2(event));
        CALL(CUDA_ERROR_INVALID_HANDLE, cuEventDestroy_v2(event));
        OK(cuStreamDestroy_v2(stream));
        CALL(CUDA_ERROR_INVALID_HANDLE, cuStreamDestroy_v2(stream));
        CALL(CUDA_ERROR_INVALID_HANDLE, cuStreamQuery(stream));
}

static void a_stream_runs_in_order(void **state)
{
        (void)state;
        enum { COUNT = 1000 };
        static struct list list;
        static struct step steps[COUNT];
        CUstream stream;
        OK(cuStreamCreateWithPriority(&stream, CU_STREAM_NON_BLOCKING, -3));
        for (unsigned i = 0; i < COUNT; i++) {
                steps[i] = (struct step){&list, i};
                OK(cuLaunchHostFunc(stream, step_take, &steps[i]));
        }
        OK(cuStreamSynchronize(stream));
        assert_int_equal(atomic_load(&list.count), COUNT);
        for (unsigned i = 0; i < COUNT; i++)
                assert_int_equal(list.steps[i], i);
        OK(cuStreamDestroy_v2(stream));
}

static void events_order_streams(void **state)
{
        (void)state;
        static struct list list;
        static struct step steps[3] = {{&list, 0}, {&list, 1}, {&list, 2}};
        CUstream one, two;
        CUevent event;
        struct gate gate = {0};
        OK(cuStreamCreate(&one, CU_STREAM_NON_BLOCKING));
        OK(cuStreamCreate(&two, CU_STREAM_NON_BLOCKING));
        OK(cuEventCreate(&event, 0));
        OK(cuLaunchHostFunc(one, gate_wait, &gate));
        OK(cuLaunchHostFunc(one, step_take, &steps[0]));
        OK(cuEventRecord(event, one));
        OK(cuStreamWaitEvent(two, event, 0));
        OK(cuEventRecord(event, two)); /* the wait keeps the first record */
        OK(cuLaunchHostFunc(two, step_take, &steps[1]));
        usleep(20000);
        assert_int_equal(atomic_load(&list.count), 0);
        atomic_store(&gate.open, 1);
        OK(cuStreamSynchronize(two));
        assert_int_equal(atomic_load(&list.count), 2);
        assert_int_equal(list.steps[0], 0);
        assert_int_equal(list.steps[1], 1);
        OK(cuEventDestroy_v2(event));
        OK(cuStreamDestroy_v2(one));
        OK(cuStreamDestroy_v2(two));
}

static void the_legacy_stream_orders_blocking_streams(void **state)
{
        (void)state;
        static struct list list;
        static struct step steps[3] = {{&list, 0}, {&list, 1}, {&list, 2}};
        CUstream before, after, apart;
        struct gate gate = {0};
        OK(cuStreamCreate(&before, 0));
        OK(cuStreamCreate(&after, 0));
        OK(cuStreamCreate(&apart, CU_STREAM_NON_BLOCKING));
        OK(cuLaunchHostFunc(before, gate_wait, &gate));
        OK(cuLaunchHostFunc(NULL, step_take, &steps[0]));
        OK(cuLaunchHostFunc(after, step_take, &steps[1]));
        OK(cuLaunchHostFunc(apart, step_take, &steps[2]));
        OK(cuStreamSynchronize(apart));
        usleep(20000);
        assert_int_equal(atomic_load(&list.count), 1); /* only the one apart */
        assert_int_equal(list.steps[0], 2);
        atomic_store(&gate.open, 1);
        OK(cuCtxSynchronize());
        assert_int_equal(atomic_load(&list.count), 3);
        assert_int_equal(list.steps[1], 0);
        assert_int_equal(list.steps[2], 1);
        OK(cuStreamDestroy_v2(before));
        OK(cuStreamDestroy_v2(after));
        OK(cuStreamDestroy_v2(apart));
}

static void synchronous_copies_wait_for_blocking_streams(void **state)
{
        (void)state;
        CUstream stream;
        CUdeviceptr pointer;
        uint32_t *pinned, value = 0;
        OK(cuStreamCreate(&stream, 0));
        OK(cuMemAlloc_v2(&pointer, 4));
        OK(cuMemHostAlloc((void **)&pinned, 4, 0));
        *pinned = 0;
        OK(cuMemsetD32_v2(pointer, 1, 1));
        OK(cuStreamWaitValue32_v2(stream, (uintptr_t)pinned, 1, CU_STREAM_WAIT_VALUE_EQ));
        OK(cuMemsetD32Async(pointer, 2, 1, stream));
        CUstream helper;
        OK(cuStreamCreate(&helper, CU_STREAM_NON_BLOCKING));
        OK(cuStreamWriteValue32_v2(helper, (uintptr_t)pinned, 1, 0));
        OK(cuMemcpyDtoH_v2(&value, pointer, 4));
        assert_int_equal(value, 2);
        OK(cuStreamDestroy_v2(helper));
        OK(cuStreamDestroy_v2(stream));
        OK(cuMemFreeHost(pinned));
        OK(cuMemFree_v2(pointer));
}

static void values_are_waited_for_and_written(void **state)
{
        (void)state;
        CUstream stream;
        _Atomic(uint64_t) *words;
        OK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
        OK(cuMemHostAlloc((void **)&words, 64, 0));
        memset((void *)words, 0, 64);
        const CUdeviceptr at = (uintptr_t)words;
        OK(cuStreamWaitValue64_v2(stream, at, 5, CU_STREAM_WAIT_VALUE_GEQ));
        OK(cuStreamWriteValue64_v2(stream, at + 8, 0x1122334455667788u, 0));
        OK(cuStreamWaitValue32_v2(stream, at + 16, 6, CU_STREAM_WAIT_VALUE_AND));
        OK(cuStreamWriteValue32_v2(stream, at + 24, 9, 0));
        usleep(20000);
        assert_int_equal(atomic_load(&words[1]), 0);
        atomic_store(&words[0], 6);
        for (unsigned i = 0; i < WAIT_MS_MAX && atomic_load(&words[1]) == 0; i++)
                usleep(1000);
        assert_true(atomic_load(&words[1]) == 0x1122334455667788u);
        CALL(CUDA_ERROR_NOT_READY, cuStreamQuery(stream));
        atomic_store(&words[2], 2);
        OK(cuStreamSynchronize(stream));
        assert_int_equal(atomic_load(&words[3]), 9);
        CUstreamBatchMemOpParams batch[2];
        memset(batch, 0, sizeof(batch));
        batch[0].writeValue.operation = CU_STREAM_MEM_OP_WRITE_VALUE_32;
        batch[0].writeValue.address = at + 32;
        batch[0].writeValue.value = 3;
        batch[1].waitValue.operation = CU_STREAM_MEM_OP_WAIT_VALUE_32;
        batch[1].waitValue.address = at + 32;
        batch[1].waitValue.value = 3;
        batch[1].waitValue.flags = CU_STREAM_WAIT_VALUE_EQ;
        OK(cuStreamBatchMemOp_v2(stream, 2, batch, 0));
        OK(cuStreamSynchronize(stream));
        CALL(CUDA_ERROR_INVALID_VALUE, cuStreamWriteValue64_v2(stream, at + 4, 1, 0));
        CALL(CUDA_ERROR_INVALID_VALUE, cuStreamWriteValue64_v2(stream, at + 64, 1, 0));
        CALL(CUDA_ERROR_INVALID_VALUE, cuStreamWriteValue64_v2(stream, at, 1, 2));
        CALL(CUDA_ERROR_INVALID_VALUE, cuStreamWriteValue64_v2(stream, at, 1, CU_STREAM_WRITE_VALUE_NO_MEMORY_BARRIER));
        CALL(CUDA_ERROR_INVALID_VALUE, cuStreamBatchMemOp_v2(stream, 257, batch, 0));
        OK(cuStreamDestroy_v2(stream));
        OK(cuMemFreeHost((void *)words));
}

static void events_measure_time(void **state)
{
        (void)state;
        CUevent start, end, untimed;
        float milliseconds = -1;
        struct gate gate = {0};
        OK(cuEventCreate(&start, 0));
        OK(cuEventCreate(&end, 0));
        OK(cuEventCreate(&untimed, CU_EVENT_DISABLE_TIMING));
        CALL(CUDA_ERROR_INVALID_HANDLE, cuEventElapsedTime(&milliseconds, start, end));
        OK(cuEventRecord(start, NULL));
        OK(cuEventSynchronize(start)); /* it has its time before the pause */
        OK(cuLaunchHostFunc(NULL, gate_wait, &gate));
        OK(cuEventRecord(end, NULL));
        const uint64_t began = now_ns();
        CALL(CUDA_ERROR_NOT_READY, cuEventElapsedTime(&milliseconds, start, end));
        usleep(30000);
        atomic_store(&gate.open, 1);
        OK(cuEventSynchronize(end));
        OK(cuEventElapsedTime(&milliseconds, start, end));
        assert_true(milliseconds >= 29.0f);
        assert_true((double)milliseconds <= (double)(now_ns() - began) / 1e6 + 1000.0);
        OK(cuEventRecord(untimed, NULL));
        OK(cuCtxSynchronize());
        CALL(CUDA_ERROR_INVALID_HANDLE, cuEventElapsedTime(&milliseconds, start, untimed));
        CALL(CUDA_ERROR_INVALID_VALUE, cuEventCreate(&start, CU_EVENT_INTERPROCESS));
        CALL(CUDA_ERROR_INVALID_VALUE, cuEventCreate(&start, 0x80));
        OK(cuEventDestroy_v2(start));
        OK(cuEventDestroy_v2(end));
        OK(cuEventDestroy_v2(untimed));
}

static atomic_int inner_result, callback_status;

static void calls_from_inside(void *data)
{
        (void)data;
        CUdeviceptr pointer;
        atomic_store(&inner_result, (int)cuda.cuMemAlloc_v2(&pointer, 16));
}

static void callback_take(CUstream stream, CUresult status, void *data)
{
        CHECK(stream == data);
        atomic_store(&callback_status, (int)status + 1);
}

static void host_functions_may_not_call_back(void **state)
{
        (void)state;
        CUstream stream;
        OK(cuStreamCreate(&stream, 0));
        OK(cuLaunchHostFunc(stream, calls_from_inside, NULL));
        OK(cuStreamAddCallback(stream, callback_take, stream, 0));
        OK(cuStreamSynchronize(stream));
        assert_int_equal(atomic_load(&inner_result), CUDA_ERROR_NOT_PERMITTED);
        assert_int_equal(atomic_load(&callback_status), 1 + CUDA_SUCCESS);
        CALL(CUDA_ERROR_INVALID_VALUE, cuStreamAddCallback(stream, callback_take, NULL, 1));
        CALL(CUDA_ERROR_INVALID_VALUE, cuLaunchHostFunc(stream, NULL, NULL));
        OK(cuStreamDestroy_v2(stream));
}

static void a_destroyed_stream_finishes_its_work(void **state)
{
        (void)state;
        static struct list list;
        static struct step step = {&list, 1};
        CUstream stream;
        struct gate gate = {0};
        OK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
        OK(cuLaunchHostFunc(stream, gate_wait, &gate));
        OK(cuLaunchHostFunc(stream, step_take, &step));
        OK(cuStreamDestroy_v2(stream));
        assert_int_equal(atomic_load(&list.count), 0);
        atomic_store(&gate.open, 1);
        OK(cuCtxSynchronize());
        assert_int_equal(atomic_load(&list.count), 1);
}

static void streams_tell_what_they_are(void **state)
{
        (void)state;
        CUstream stream;
        CUcontext owner;
        CUdevice ordinal;
        CUstreamCaptureStatus capture = CU_STREAM_CAPTURE_STATUS_ACTIVE;
        unsigned flags;
        int least, greatest, priority;
        unsigned long long id, other;
        OK(cuCtxGetStreamPriorityRange(&least, &greatest));
        assert_true(greatest < least);
        OK(cuStreamCreateWithPriority(&stream, CU_STREAM_NON_BLOCKING, greatest - 10));
        OK(cuStreamGetPriority(stream, &priority));
        assert_int_equal(priority, greatest);
        OK(cuStreamGetFlags(stream, &flags));
        assert_int_equal(flags, CU_STREAM_NON_BLOCKING);
        OK(cuStreamGetCtx(stream, &owner));
        assert_ptr_equal(owner, context);
        OK(cuStreamGetDevice(stream, &ordinal));
        assert_int_equal(ordinal, device);
        OK(cuStreamGetId(stream, &id));
        OK(cuStreamGetId(NULL, &other));
        assert_int_not_equal(id, other);
        OK(cuStreamIsCapturing(stream, &capture));
        assert_int_equal(capture, CU_STREAM_CAPTURE_STATUS_NONE);
        CUstreamAttrValue value;
        memset(&value, 0, sizeof(value));
        value.priority = -1;
        OK(cuStreamSetAttribute(stream, CU_LAUNCH_ATTRIBUTE_PRIORITY, &value));
        value.syncPolicy = CU_SYNC_POLICY_YIELD;
        OK(cuStreamSetAttribute(stream, CU_LAUNCH_ATTRIBUTE_SYNCHRONIZATION_POLICY, &value));
        memset(&value, 0, sizeof(value));
        OK(cuStreamGetAttribute(stream, CU_LAUNCH_ATTRIBUTE_SYNCHRONIZATION_POLICY, &value));
        assert_int_equal(value.syncPolicy, CU_SYNC_POLICY_YIELD);
        OK(cuStreamCopyAttributes(NULL, stream));
        OK(cuStreamGetPriority(NULL, &priority));
        assert_int_equal(priority, -1);
        CALL(CUDA_ERROR_INVALID_VALUE, cuStreamSetAttribute(stream, CU_LAUNCH_ATTRIBUTE_COOPERATIVE, &value));
        CALL(CUDA_ERROR_INVALID_VALUE, cuStreamCreate(&stream, 8));
        OK(cuStreamDestroy_v2(stream));
        CALL(CUDA_ERROR_INVALID_HANDLE, cuStreamDestroy_v2(NULL));
        CALL(CUDA_ERROR_INVALID_HANDLE, cuStreamQuery((CUstream)(uintptr_t)0x123456789a0));
}

static void *other_thread(void *argument)
{
        unsigned long long *id = argument;
        CHECK(cuda.cuCtxSetCurrent(context) == CUDA_SUCCESS);
        CHECK(TWIN(cuStreamGetId, "cuStreamGetId_ptsz")(NULL, id) == CUDA_SUCCESS);
        CHECK(TWIN(cuStreamSynchronize, "cuStreamSynchronize_ptsz")(NULL) == CUDA_SUCCESS);
        return NULL;
}

static void each_thread_has_its_own_default_stream(void **state)
{
        (void)state;
        unsigned long long mine, again, legacy, other;
        pthread_t thread;
        OK(cuStreamGetId(CU_STREAM_PER_THREAD, &mine));
        assert_int_equal(TWIN(cuStreamGetId, "cuStreamGetId_ptsz")(NULL, &again), CUDA_SUCCESS);
        OK(cuStreamGetId(CU_STREAM_LEGACY, &legacy));
        assert_int_equal(pthread_create(&thread, NULL, other_thread, &other), 0);
        assert_int_equal(pthread_join(thread, NULL), 0);
        assert_int_equal(mine, again);
        assert_int_not_equal(mine, legacy);
        assert_int_not_equal(mine, other);
}

static void a_closing_context_ends_what_waits_for_values(void **state)
{
        (void)state;
        CUcontext other;
        CUstream stream;
        CUdeviceptr word;
        OK(cuCtxCreate_v2(&other, 0, device));
        OK(cuStreamCreate(&stream, 0));
        OK(cuMemAlloc_v2(&word, 8));
        OK(cuMemsetD32_v2(word, 0, 2));
        OK(cuStreamWaitValue64_v2(stream, word, 1, CU_STREAM_WAIT_VALUE_EQ));
        OK(cuCtxDestroy_v2(other));
        OK(cuCtxSetCurrent(context));
        CALL(CUDA_ERROR_INVALID_HANDLE, cuStreamQuery(stream));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(work_does_not_block_its_caller),
                cmocka_unit_test(a_stream_runs_in_order),
                cmocka_unit_test(events_order_streams),
                cmocka_unit_test(the_legacy_stream_orders_blocking_streams),
                cmocka_unit_test(synchronous_copies_wait_for_blocking_streams),
                cmocka_unit_test(values_are_waited_for_and_written),
                cmocka_unit_test(events_measure_time),
                cmocka_unit_test(host_functions_may_not_call_back),
                cmocka_unit_test(a_destroyed_stream_finishes_its_work),
                cmocka_unit_test(streams_tell_what_they_are),
                cmocka_unit_test(each_thread_has_its_own_default_stream),
                cmocka_unit_test(a_closing_context_ends_what_waits_for_values),
        };
        return cmocka_run_group_tests(tests, driver_open, driver_close);
}
