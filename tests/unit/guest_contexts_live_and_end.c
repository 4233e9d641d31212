/* Contexts, streams and events as the guest keeps them: stacks, counts, what is asked once, what ends with what. */
#include "cuda_api.h"
#include "guest_played_host.h"

static struct played_host host;
static char said[8192];

static uint32_t calls(uint16_t number)
{
        return atomic_load(&host.calls[number]);
}

static void start(void)
{
        played_host_start(&host);
        REQUIRE_RESULT(cuInit(0), CUDA_SUCCESS);
}

static void primary_counts(void)
{
        CUcontext first, second, current = NULL;
        unsigned int flags = 99;
        int active = 99;
        CUdevice device = 99;

        start();
        REQUIRE_RESULT(cuDevicePrimaryCtxGetState(0, &flags, &active), CUDA_SUCCESS);
        REQUIRE(flags == 0 && active == 0);
        REQUIRE_RESULT(cuDevicePrimaryCtxRelease_v2(0), CUDA_ERROR_INVALID_CONTEXT);
        REQUIRE_RESULT(cuDevicePrimaryCtxRetain(&first, 0), CUDA_SUCCESS);
        REQUIRE_RESULT(cuDevicePrimaryCtxRetain(&second, 0), CUDA_SUCCESS);
        REQUIRE(first == second && calls(IVG_CALL_cuDevicePrimaryCtxRetain) == 1);
        REQUIRE_RESULT(cuDevicePrimaryCtxRetain(&second, 1), CUDA_SUCCESS);
        REQUIRE(first != second);
        REQUIRE_RESULT(cuDevicePrimaryCtxRetain(&second, 2), CUDA_ERROR_INVALID_DEVICE);
        REQUIRE_RESULT(cuDevicePrimaryCtxGetState(0, &flags, &active), CUDA_SUCCESS);
        REQUIRE(active == 1);

        REQUIRE_RESULT(cuCtxGetDevice(&device), CUDA_ERROR_INVALID_CONTEXT); /* retained is not current */
        REQUIRE_RESULT(cuCtxSetCurrent(first), CUDA_SUCCESS);
        REQUIRE_RESULT(cuCtxGetCurrent(&current), CUDA_SUCCESS);
        REQUIRE(current == first);
        REQUIRE_RESULT(cuCtxGetDevice(&device), CUDA_SUCCESS);
        REQUIRE(device == 0);
        REQUIRE_RESULT(cuCtxGetDevice_v2(&device, second), CUDA_SUCCESS);
        REQUIRE(device == 1);
        REQUIRE_RESULT(cuCtxDestroy_v2(first), CUDA_ERROR_INVALID_CONTEXT); /* primary ones are released */

        REQUIRE_RESULT(cuDevicePrimaryCtxRelease_v2(0), CUDA_SUCCESS);
        REQUIRE_RESULT(cuCtxGetDevice(&device), CUDA_SUCCESS);
        REQUIRE_RESULT(cuDevicePrimaryCtxRelease_v2(0), CUDA_SUCCESS);
        REQUIRE(calls(IVG_CALL_cuDevicePrimaryCtxRelease_v2) == 1);
        REQUIRE_RESULT(cuCtxGetDevice(&device), CUDA_ERROR_CONTEXT_IS_DESTROYED);
        REQUIRE_RESULT(cuCtxSynchronize(), CUDA_ERROR_CONTEXT_IS_DESTROYED);
        REQUIRE_RESULT(cuDevicePrimaryCtxGetState(0, &flags, &active), CUDA_SUCCESS);
        REQUIRE(active == 0);
        /* The same handle lives again, also where it is current already. */
        REQUIRE_RESULT(cuDevicePrimaryCtxRetain(&second, 0), CUDA_SUCCESS);
        REQUIRE(second == first);
        REQUIRE_RESULT(cuCtxGetDevice(&device), CUDA_SUCCESS);
        REQUIRE_RESULT(cuDevicePrimaryCtxSetFlags_v2(0, CU_CTX_SCHED_BLOCKING_SYNC), CUDA_SUCCESS);
        REQUIRE_RESULT(cuDevicePrimaryCtxSetFlags_v2(0, 0x10000), CUDA_ERROR_INVALID_VALUE);
        REQUIRE_RESULT(cuDevicePrimaryCtxGetState(0, &flags, &active), CUDA_SUCCESS);
        REQUIRE(flags == CU_CTX_SCHED_BLOCKING_SYNC && active == 1);
        /* The driver's own answer, asked for once after each change. */
        REQUIRE_RESULT(cuCtxGetFlags(&flags), CUDA_SUCCESS);
        REQUIRE_RESULT(cuCtxGetFlags(&flags), CUDA_SUCCESS);
        REQUIRE(flags == 1);
        REQUIRE_RESULT(cuCtxSetFlags(CU_CTX_SCHED_YIELD), CUDA_SUCCESS);
        REQUIRE_RESULT(cuCtxGetFlags(&flags), CUDA_SUCCESS);
        REQUIRE(flags == 2);
        REQUIRE_RESULT(cuCtxSetFlags(CU_CTX_COREDUMP_ENABLE), CUDA_ERROR_NOT_SUPPORTED);
        REQUIRE(calls(IVG_CALL_cuCtxSetFlags) == 1);
        REQUIRE_RESULT(cuDevicePrimaryCtxGetState(0, &flags, &active), CUDA_SUCCESS);
        REQUIRE(flags == CU_CTX_SCHED_YIELD);
        REQUIRE_RESULT(cuDevicePrimaryCtxReset_v2(0), CUDA_SUCCESS);
        REQUIRE_RESULT(cuCtxGetDevice(&device), CUDA_ERROR_CONTEXT_IS_DESTROYED);
        REQUIRE_RESULT(cuDevicePrimaryCtxReset_v2(0), CUDA_SUCCESS); /* nothing left to do */
        REQUIRE(calls(IVG_CALL_cuDevicePrimaryCtxReset_v2) == 1);
        /* A reset forgets the retains: of those after it the last one's release ends the context. */
        REQUIRE_RESULT(cuDevicePrimaryCtxRelease_v2(0), CUDA_ERROR_INVALID_CONTEXT);
        REQUIRE(calls(IVG_CALL_cuDevicePrimaryCtxRelease_v2) == 1);
        REQUIRE_RESULT(cuDevicePrimaryCtxRetain(&second, 0), CUDA_SUCCESS);
        REQUIRE_RESULT(cuCtxGetDevice(&device), CUDA_SUCCESS);
        REQUIRE_RESULT(cuDevicePrimaryCtxRelease_v2(0), CUDA_SUCCESS);
        REQUIRE(calls(IVG_CALL_cuDevicePrimaryCtxRelease_v2) == 2);
        REQUIRE_RESULT(cuCtxGetDevice(&device), CUDA_ERROR_CONTEXT_IS_DESTROYED);
}

static void a_failing_host(void)
{
        CUcontext context = (CUcontext)7;
        unsigned int flags;
        int active;

        start();
        atomic_store(&host.result, CUDA_ERROR_OUT_OF_MEMORY);
        REQUIRE_RESULT(cuDevicePrimaryCtxRetain(&context, 0), CUDA_ERROR_OUT_OF_MEMORY);
        REQUIRE_RESULT(cuCtxCreate_v2(&context, 0, 0), CUDA_ERROR_OUT_OF_MEMORY);
        REQUIRE(context == (CUcontext)7);
        REQUIRE_RESULT(cuDevicePrimaryCtxGetState(0, &flags, &active), CUDA_SUCCESS);
        REQUIRE(active == 0);
        REQUIRE_RESULT(cuCtxGetCurrent(&context), CUDA_SUCCESS);
        REQUIRE(context == NULL);
        atomic_store(&host.result, CUDA_SUCCESS);
        REQUIRE_RESULT(cuDevicePrimaryCtxRetain(&context, 0), CUDA_SUCCESS);
}

static void primary_contexts_are_counted(void **state)
{
        (void)state;
        played_scenario(primary_counts, said, sizeof(said));
        played_scenario(a_failing_host, said, sizeof(said));
        assert_int_equal(played_lines(said), 0);
}

static void stack(void)
{
        CUcontext a, b, found;
        unsigned long long id_a, id_b;
        unsigned int version;

        start();
        REQUIRE_RESULT(cuCtxPopCurrent_v2(&found), CUDA_ERROR_INVALID_CONTEXT);
        REQUIRE_RESULT(cuCtxCreate_v2(&a, CU_CTX_SCHED_SPIN, 0), CUDA_SUCCESS);
        REQUIRE_RESULT(cuCtxCreate_v4(&b, NULL, 0, 1), CUDA_SUCCESS);
        REQUIRE_RESULT(cuCtxGetCurrent(&found), CUDA_SUCCESS);
        REQUIRE(found == b);
        REQUIRE_RESULT(cuCtxGetId(a, &id_a), CUDA_SUCCESS);
        REQUIRE_RESULT(cuCtxGetId(NULL, &id_b), CUDA_SUCCESS);
        REQUIRE(id_a != id_b);
        REQUIRE_RESULT(cuCtxGetApiVersion(b, &version), CUDA_SUCCESS);
        REQUIRE_RESULT(cuCtxPopCurrent_v2(&found), CUDA_SUCCESS);
        REQUIRE(found == b);
        REQUIRE_RESULT(cuCtxAttach(&found, 1), CUDA_ERROR_INVALID_VALUE);
        REQUIRE_RESULT(cuCtxAttach(&found, 0), CUDA_SUCCESS);
        REQUIRE(found == a);
        REQUIRE_RESULT(cuCtxDetach(b), CUDA_ERROR_INVALID_CONTEXT); /* not the current one */
        REQUIRE_RESULT(cuCtxDetach(a), CUDA_SUCCESS);
        REQUIRE(calls(IVG_CALL_cuCtxDestroy_v2) == 0);
        REQUIRE_RESULT(cuCtxPushCurrent_v2(b), CUDA_SUCCESS);
        REQUIRE_RESULT(cuCtxDestroy_v2(a), CUDA_SUCCESS); /* below the top: stays on the stack, dead */
        REQUIRE_RESULT(cuCtxDestroy_v2(a), CUDA_ERROR_INVALID_CONTEXT);
        REQUIRE_RESULT(cuCtxPushCurrent_v2(a), CUDA_ERROR_INVALID_CONTEXT);
        REQUIRE_RESULT(cuCtxDestroy_v2(b), CUDA_SUCCESS); /* the top: popped */
        REQUIRE_RESULT(cuCtxGetCurrent(&found), CUDA_SUCCESS);
        REQUIRE(found == a);
        REQUIRE_RESULT(cuCtxSynchronize(), CUDA_ERROR_CONTEXT_IS_DESTROYED);
        REQUIRE_RESULT(cuCtxSetCurrent(NULL), CUDA_SUCCESS);
        REQUIRE_RESULT(cuCtxSynchronize(), CUDA_ERROR_INVALID_CONTEXT);
        /* A new context may get the dead one's cell: a thread that still has the dead one on its stack must not be
         * let into the new one. */
        REQUIRE_RESULT(cuCtxSetCurrent((CUcontext)&a), CUDA_ERROR_INVALID_CONTEXT);
        REQUIRE_RESULT(cuCtxCreate_v2(&a, 0, 0), CUDA_SUCCESS);
        for (uint32_t i = 1; i < IVG_CONTEXT_STACK_MAX; i++)
                REQUIRE_RESULT(cuCtxPushCurrent_v2(a), CUDA_SUCCESS);
        REQUIRE_RESULT(cuCtxPushCurrent_v2(a), CUDA_ERROR_OUT_OF_MEMORY);
}

static void stacks_hold_what_was_pushed(void **state)
{
        (void)state;
        played_scenario(stack, said, sizeof(said));
        assert_int_equal(played_lines(said), 1); /* the overflow */
}

static void questions(void)
{
        CUcontext context;
        size_t first, second;
        int least = 9, greatest = 9;

        start();
        REQUIRE_RESULT(cuCtxCreate_v2(&context, 0, 0), CUDA_SUCCESS);
        REQUIRE_RESULT(cuCtxGetLimit(&first, CU_LIMIT_PRINTF_FIFO_SIZE), CUDA_SUCCESS);
        REQUIRE_RESULT(cuCtxGetLimit(&second, CU_LIMIT_PRINTF_FIFO_SIZE), CUDA_SUCCESS);
        REQUIRE(first == second && calls(IVG_CALL_cuCtxGetLimit) == 1);
        REQUIRE_RESULT(cuCtxSetLimit(CU_LIMIT_PRINTF_FIFO_SIZE, 1), CUDA_SUCCESS);
        REQUIRE_RESULT(cuCtxGetLimit(&second, CU_LIMIT_PRINTF_FIFO_SIZE), CUDA_SUCCESS);
        REQUIRE(first != second && calls(IVG_CALL_cuCtxGetLimit) == 2); /* asked again */
        REQUIRE_RESULT(cuCtxGetLimit(&second, CU_LIMIT_MAX), CUDA_ERROR_UNSUPPORTED_LIMIT);
        REQUIRE_RESULT(cuCtxGetStreamPriorityRange(&least, &greatest), CUDA_SUCCESS);
        REQUIRE_RESULT(cuCtxGetStreamPriorityRange(NULL, &greatest), CUDA_SUCCESS);
        REQUIRE(least == 0 && greatest == -5 && calls(IVG_CALL_cuCtxGetStreamPriorityRange) == 1);
}

static void streams(void)
{
        CUcontext context, found;
        CUstream stream, other;
        CUevent event;
        CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_ACTIVE;
        unsigned long long id, id_other;
        unsigned int flags;
        int priority = 9;

        start();
        REQUIRE_RESULT(cuStreamCreate(&stream, 0), CUDA_ERROR_INVALID_CONTEXT);
        REQUIRE_RESULT(cuCtxCreate_v2(&context, 0, 1), CUDA_SUCCESS);
        REQUIRE_RESULT(cuStreamCreate(&stream, 4), CUDA_ERROR_INVALID_VALUE);
        REQUIRE_RESULT(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING), CUDA_SUCCESS);
        REQUIRE_RESULT(cuStreamCreateWithPriority(&other, 0, -100), CUDA_SUCCESS);
        REQUIRE_RESULT(cuStreamGetPriority(other, &priority), CUDA_SUCCESS);
        REQUIRE(priority == -5); /* clamped */
        REQUIRE_RESULT(cuStreamGetPriority(NULL, &priority), CUDA_SUCCESS);
        REQUIRE(priority == 0);
        REQUIRE_RESULT(cuStreamGetFlags(stream, &flags), CUDA_SUCCESS);
        REQUIRE(flags == CU_STREAM_NON_BLOCKING);
        REQUIRE_RESULT(cuStreamGetCtx(stream, &found), CUDA_SUCCESS);
        REQUIRE(found == context);
        REQUIRE_RESULT(cuStreamGetId(stream, &id), CUDA_SUCCESS);
        REQUIRE_RESULT(cuStreamGetId(other, &id_other), CUDA_SUCCESS);
        REQUIRE(id != id_other);
        REQUIRE_RESULT(cuStreamGetId(NULL, &id), CUDA_SUCCESS);
        REQUIRE_RESULT(cuStreamGetId_ptsz(NULL, &id_other), CUDA_SUCCESS);
        REQUIRE(id != id_other);
        REQUIRE_RESULT(cuStreamIsCapturing(stream, &status), CUDA_SUCCESS);
        REQUIRE(status == CU_STREAM_CAPTURE_STATUS_NONE);
        REQUIRE_RESULT(cuStreamIsCapturing((CUstream)&status, &status), CUDA_ERROR_INVALID_HANDLE);
        REQUIRE_RESULT(cuEventCreate(&event, CU_EVENT_INTERPROCESS | CU_EVENT_DISABLE_TIMING),
                       CUDA_ERROR_NOT_SUPPORTED);
        REQUIRE_RESULT(cuEventCreate(&event, CU_EVENT_INTERPROCESS), CUDA_ERROR_INVALID_VALUE); /* with timing */
        REQUIRE_RESULT(cuEventCreate(&event, 0x80), CUDA_ERROR_INVALID_VALUE);
        REQUIRE_RESULT(cuEventCreate(&event, CU_EVENT_DISABLE_TIMING), CUDA_SUCCESS);
        REQUIRE_RESULT(cuEventRecord(event, stream), CUDA_SUCCESS);
        REQUIRE_RESULT(cuEventRecord((CUevent)stream, stream), CUDA_ERROR_INVALID_HANDLE);
        REQUIRE_RESULT(cuEventDestroy_v2(event), CUDA_SUCCESS);
        REQUIRE_RESULT(cuEventDestroy_v2(event), CUDA_ERROR_INVALID_HANDLE);
        REQUIRE_RESULT(cuStreamDestroy_v2(NULL), CUDA_ERROR_INVALID_HANDLE);
        REQUIRE_RESULT(cuStreamDestroy_v2(stream), CUDA_SUCCESS);
        REQUIRE_RESULT(cuStreamDestroy_v2(stream), CUDA_ERROR_INVALID_HANDLE);
        REQUIRE_RESULT(cuCtxDestroy_v2(context), CUDA_SUCCESS);
        REQUIRE_RESULT(cuStreamGetFlags(other, &flags), CUDA_ERROR_INVALID_HANDLE); /* ended with its context */
}

static void constant_answers_are_asked_for_once(void **state)
{
        (void)state;
        played_scenario(questions, said, sizeof(said));
        assert_int_equal(played_lines(said), 0);
        played_scenario(streams, said, sizeof(said));
        assert_int_equal(played_lines(said), 1); /* events for several processes: named once */
}

static uint32_t ended;
static void end_of_value(CUcontext context, void *key, void *value)
{
        CUdevice device;

        (void)context;
        REQUIRE(key == &ended && value == &host);
        REQUIRE_RESULT(cuCtxGetDevice(&device), CUDA_SUCCESS); /* the context still works */
        ended++;
}

static void storage_table(void)
{
        static const uint8_t uuid[16] = {0xc6, 0x93, 0x33, 0x6e, 0x11, 0x21, 0xdf, 0x11,
                                         0xa8, 0xc3, 0x68, 0xf3, 0x55, 0xd8, 0x95, 0x93};
        CUresult (*put)(CUcontext, void *, void *, ivg_storage_destructor);
        CUresult (*get)(void **, CUcontext, void *);
        const void *table = NULL;
        void *value = NULL;
        CUcontext context;
        CUuuid id;

        memcpy(id.bytes, uuid, sizeof(id.bytes));
        REQUIRE_RESULT(cuGetExportTable(&table, &id), CUDA_SUCCESS);
        put = (CUresult(*)(CUcontext, void *, void *, ivg_storage_destructor))((void *const *)table)[0];
        get = (CUresult(*)(void **, CUcontext, void *))((void *const *)table)[2];
        REQUIRE_RESULT(get(&value, NULL, &ended), CUDA_ERROR_NOT_INITIALIZED);
        start();
        REQUIRE_RESULT(get(&value, NULL, &ended), CUDA_ERROR_INVALID_CONTEXT);
        REQUIRE_RESULT(cuDevicePrimaryCtxRetain(&context, 0), CUDA_SUCCESS);
        REQUIRE_RESULT(cuCtxSetCurrent(context), CUDA_SUCCESS);
        REQUIRE_RESULT(get(&value, NULL, &ended), CUDA_ERROR_INVALID_HANDLE);
        REQUIRE_RESULT(put(NULL, &ended, &host, end_of_value), CUDA_SUCCESS);
        REQUIRE_RESULT(get(&value, context, &ended), CUDA_SUCCESS);
        REQUIRE(value == &host && ended == 0);
        REQUIRE_RESULT(cuDevicePrimaryCtxRelease_v2(0), CUDA_SUCCESS);
        REQUIRE(ended == 1);
        REQUIRE_RESULT(get(&value, NULL, &ended), CUDA_ERROR_CONTEXT_IS_DESTROYED);
        REQUIRE_RESULT(cuDevicePrimaryCtxRetain(&context, 0), CUDA_SUCCESS);
        REQUIRE_RESULT(get(&value, NULL, &ended), CUDA_ERROR_INVALID_HANDLE);
        REQUIRE_RESULT(put(NULL, &ended, &host, end_of_value), CUDA_SUCCESS);
        REQUIRE_RESULT(cuDevicePrimaryCtxReset_v2(0), CUDA_SUCCESS);
        REQUIRE(ended == 2);
}

static void storage_ends_before_its_context(void **state)
{
        (void)state;
        played_scenario(storage_table, said, sizeof(said));
        assert_int_equal(played_lines(said), 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(primary_contexts_are_counted),
                cmocka_unit_test(stacks_hold_what_was_pushed),
                cmocka_unit_test(constant_answers_are_asked_for_once),
                cmocka_unit_test(storage_ends_before_its_context),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
