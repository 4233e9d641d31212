/* A kernel fault: every later call on the context answers it, what was queued is dropped, other contexts go on. */
#include "softgpu_driver.h"

#include <signal.h>
#include <sys/wait.h>

static CUcontext victim;
static CUmodule module;
static CUdeviceptr word;

static void victim_open(void)
{
        OK(cuCtxCreate_v2(&victim, 0, device));
        module = module_load("kernels.ptx");
        OK(cuMemAlloc_v2(&word, 4));
        OK(cuMemsetD32_v2(word, 1, 1));
}

static void everything_answers(CUresult expected)
{
        CUdeviceptr pointer;
        CUstream stream;
        CUevent event;
        CUdevice ordinal;
        uint32_t value;
        CALL(expected, cuCtxSynchronize());
        CALL(expected, cuMemAlloc_v2(&pointer, 16));
        CALL(expected, cuMemcpyDtoH_v2(&value, word, 4));
        CALL(expected, cuMemsetD32_v2(word, 2, 1));
        CALL(expected, cuStreamCreate(&stream, 0));
        CALL(expected, cuEventCreate(&event, 0));
        CALL(expected, cuStreamQuery(NULL));
        CALL(expected, cuStreamSynchronize(NULL));
        OK(cuCtxGetDevice(&ordinal)); /* reading state still works */
}

static void victim_close(void)
{
        OK(cuCtxDestroy_v2(victim));
        OK(cuCtxSetCurrent(context));
        CUdeviceptr pointer;
        OK(cuMemAlloc_v2(&pointer, 16));
        OK(cuMemFree_v2(pointer));
        OK(cuCtxSynchronize());
}

/* Launches `name` with one parameter and expects the context to fail with it. */
static void fault_with(CUresult expected, const char *name, void *param)
{
        victim_open();
        CUfunction function = function_find(module, name);
        void *params[] = {param};
        assert_int_equal(launch(function, 1, 1, NULL, param != NULL ? params : NULL), CUDA_SUCCESS);
        everything_answers(expected);
        victim_close();
}

static void an_address_outside_all_memory_is_illegal(void **state)
{
        (void)state;
        CUdeviceptr nowhere = 0x10;
        fault_with(CUDA_ERROR_ILLEGAL_ADDRESS, "store_at", &nowhere);
        uintptr_t host = (uintptr_t)&nowhere; /* pageable memory is not the device's */
        fault_with(CUDA_ERROR_ILLEGAL_ADDRESS, "store_at", &host);
}

static void an_address_past_an_allocation_is_illegal(void **state)
{
        (void)state;
        victim_open();
        CUdeviceptr beyond = word + 4;
        void *params[] = {&beyond};
        assert_int_equal(launch(function_find(module, "store_at"), 1, 1, NULL, params), CUDA_SUCCESS);
        CALL(CUDA_ERROR_ILLEGAL_ADDRESS, cuCtxSynchronize());
        victim_close();
}

static void freed_memory_is_illegal(void **state)
{
        (void)state;
        victim_open();
        CUdeviceptr freed = word;
        void *params[] = {&freed};
        assert_int_equal(launch(function_find(module, "store_at"), 1, 1, NULL, params), CUDA_SUCCESS);
        OK(cuCtxSynchronize());
        OK(cuMemFree_v2(word));
        assert_int_equal(launch(function_find(module, "store_at"), 1, 1, NULL, params), CUDA_SUCCESS);
        CALL(CUDA_ERROR_ILLEGAL_ADDRESS, cuCtxSynchronize());
        victim_close();
}

static void another_contexts_memory_is_illegal(void **state)
{
        (void)state;
        CUdeviceptr foreign;
        OK(cuMemAlloc_v2(&foreign, 4));
        fault_with(CUDA_ERROR_ILLEGAL_ADDRESS, "store_at", &foreign);
        OK(cuMemFree_v2(foreign));
}

static void a_misaligned_store_faults(void **state)
{
        (void)state;
        victim_open();
        CUdeviceptr odd;
        OK(cuMemAlloc_v2(&odd, 16));
        odd += 2;
        void *params[] = {&odd};
        assert_int_equal(launch(function_find(module, "store_at"), 1, 1, NULL, params), CUDA_SUCCESS);
        everything_answers(CUDA_ERROR_MISALIGNED_ADDRESS);
        victim_close();
}

static void a_trap_fails_the_launch(void **state)
{
        (void)state;
        fault_with(CUDA_ERROR_LAUNCH_FAILED, "stop_here", NULL);
}

static void an_assertion_is_told_apart(void **state)
{
        (void)state;
        int value = -1;
        fault_with(CUDA_ERROR_ASSERT, "assert_positive", &value);
}

static atomic_int callback_status, host_function_ran;

static void callback_take(CUstream stream, CUresult status, void *data)
{
        (void)stream;
        (void)data;
        atomic_store(&callback_status, (int)status);
}

static void host_function_take(void *data)
{
        (void)data;
        atomic_store(&host_function_ran, 1);
}

static void queued_work_is_dropped(void **state)
{
        (void)state;
        CUstream stream, other;
        CUevent event;
        uint32_t *pinned;
        struct gate gate = {0};
        victim_open();
        OK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
        OK(cuStreamCreate(&other, CU_STREAM_NON_BLOCKING));
        OK(cuEventCreate(&event, 0));
        OK(cuMemHostAlloc((void **)&pinned, 12, 0));
        pinned[0] = pinned[1] = pinned[2] = 1;
        OK(cuLaunchHostFunc(stream, gate_wait, &gate));
        assert_int_equal(launch(function_find(module, "stop_here"), 1, 1, stream, NULL), CUDA_SUCCESS);
        OK(cuMemcpyDtoHAsync_v2(&pinned[0], word, 4, stream));
        OK(cuStreamWriteValue32_v2(stream, (uintptr_t)&pinned[1], 9, 0));
        OK(cuLaunchHostFunc(stream, host_function_take, NULL));
        OK(cuStreamAddCallback(stream, callback_take, NULL, 0));
        OK(cuEventRecord(event, stream));
        /* An endless wait in another stream of the context ends as well. */
        OK(cuStreamWaitValue32_v2(other, (uintptr_t)&pinned[2], 12345, CU_STREAM_WAIT_VALUE_EQ));
        atomic_store(&gate.open, 1);
        CALL(CUDA_ERROR_LAUNCH_FAILED, cuStreamSynchronize(stream));
        CALL(CUDA_ERROR_LAUNCH_FAILED, cuStreamSynchronize(other));
        CALL(CUDA_ERROR_LAUNCH_FAILED, cuEventQuery(event));
        CALL(CUDA_ERROR_LAUNCH_FAILED, cuEventSynchronize(event));
        assert_int_equal(pinned[1], 1);
        assert_int_equal(atomic_load(&host_function_ran), 0);
        assert_int_equal(atomic_load(&callback_status), CUDA_ERROR_LAUNCH_FAILED);
        OK(cuEventDestroy_v2(event));
        victim_close();
}

static void a_fault_stops_kernels_of_other_streams(void **state)
{
        (void)state;
        CUstream endless, fault;
        int *flag;
        victim_open();
        OK(cuStreamCreate(&endless, CU_STREAM_NON_BLOCKING));
        OK(cuStreamCreate(&fault, CU_STREAM_NON_BLOCKING));
        OK(cuMemHostAlloc((void **)&flag, 8, 0));
        flag[0] = 0;
        int *out = &flag[1];
        void *params[] = {&flag, &out};
        assert_int_equal(launch(function_find(module, "wait_for"), 1, 1, endless, params), CUDA_SUCCESS);
        assert_int_equal(launch(function_find(module, "stop_here"), 1, 1, fault, NULL), CUDA_SUCCESS);
        CALL(CUDA_ERROR_LAUNCH_FAILED, cuStreamSynchronize(endless));
        victim_close();
}

static void an_endless_kernel_does_not_outlive_its_context(void **state)
{
        (void)state;
        CUdeviceptr flag, out;
        victim_open();
        OK(cuMemAlloc_v2(&flag, 4));
        OK(cuMemsetD32_v2(flag, 0, 1));
        out = word;
        void *params[] = {&flag, &out};
        assert_int_equal(launch(function_find(module, "wait_for"), 1, 1, NULL, params), CUDA_SUCCESS);
        victim_close();
}

/* The other program of this test: ends while its kernel runs. */
static int end_while_a_kernel_runs(void)
{
        CUfunction function;
        CUdeviceptr flag;
        CHECK(ivg_driver_open(&cuda, SOFTGPU_LIBRARY) == 0);
        CHECK(cuda.cuInit(0) == CUDA_SUCCESS && cuda.cuDevicePrimaryCtxRetain(&context, 0) == CUDA_SUCCESS);
        CHECK(cuda.cuCtxSetCurrent(context) == CUDA_SUCCESS);
        char path[512];
        snprintf(path, sizeof(path), "%s/kernels.ptx", SOFTGPU_IMAGES);
        CHECK(cuda.cuModuleLoad(&module, path) == CUDA_SUCCESS);
        CHECK(cuda.cuModuleGetFunction(&function, module, "wait_for") == CUDA_SUCCESS);
        CHECK(cuda.cuMemAlloc_v2(&flag, 4) == CUDA_SUCCESS && cuda.cuMemsetD32_v2(flag, 0, 1) == CUDA_SUCCESS);
        void *params[] = {&flag, &flag};
        CHECK(cuda.cuLaunchKernel(function, 64, 1, 1, 1, 1, 1, 0, NULL, params, NULL) == CUDA_SUCCESS);
        usleep(50000); /* the engine's threads are at it */
        return 0;
}

static void a_process_ends_while_its_kernel_runs(void **state)
{
        (void)state;
        int status = -1;
        const pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
                execl("/proc/self/exe", "end", "end", (char *)NULL);
                _exit(127);
        }
        for (unsigned i = 0; i < WAIT_MS_MAX && waitpid(child, &status, WNOHANG) == 0; i++)
                usleep(1000);
        if (status == -1)
                kill(child, SIGKILL);
        assert_int_equal(status, 0);
}

static void resetting_the_primary_context_clears_the_fault(void **state)
{
        (void)state;
        CUmodule own = module_load("kernels.ptx");
        assert_int_equal(launch(function_find(own, "stop_here"), 1, 1, NULL, NULL), CUDA_SUCCESS);
        CALL(CUDA_ERROR_LAUNCH_FAILED, cuCtxSynchronize());
        OK(cuDevicePrimaryCtxReset_v2(device));
        CALL(CUDA_ERROR_CONTEXT_IS_DESTROYED, cuCtxSynchronize());
        OK(cuDevicePrimaryCtxRetain(&context, device));
        OK(cuCtxSetCurrent(context));
        OK(cuCtxSynchronize());
}

int main(int argc, char **argv)
{
        if (argc == 2 && strcmp(argv[1], "end") == 0)
                return end_while_a_kernel_runs();
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(an_address_outside_all_memory_is_illegal),
                cmocka_unit_test(an_address_past_an_allocation_is_illegal),
                cmocka_unit_test(freed_memory_is_illegal),
                cmocka_unit_test(another_contexts_memory_is_illegal),
                cmocka_unit_test(a_misaligned_store_faults),
                cmocka_unit_test(a_trap_fails_the_launch),
                cmocka_unit_test(an_assertion_is_told_apart),
                cmocka_unit_test(queued_work_is_dropped),
                cmocka_unit_test(a_fault_stops_kernels_of_other_streams),
                cmocka_unit_test(an_endless_kernel_does_not_outlive_its_context),
                cmocka_unit_test(a_process_ends_while_its_kernel_runs),
                cmocka_unit_test(resetting_the_primary_context_clears_the_fault),
        };
        return cmocka_run_group_tests(tests, driver_open, driver_close);
}
