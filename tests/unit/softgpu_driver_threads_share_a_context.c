/* Several threads at once: allocate, copy, launch, record, free, in their own streams and in the legacy one. */
#include "softgpu_driver.h"

#define THREADS 4u
#define ROUNDS 40u
#define COUNT 500

static CUfunction fill;

static void round_trip(CUstream stream, unsigned seed)
{
        int back[COUNT], n = COUNT, value = (int)seed;
        CUdeviceptr one, two;
        CUevent event;
        CHECK(cuda.cuMemAlloc_v2(&one, sizeof(back)) == CUDA_SUCCESS);
        CHECK(cuda.cuMemAllocAsync(&two, sizeof(back), stream) == CUDA_SUCCESS);
        CHECK(cuda.cuEventCreate(&event, CU_EVENT_DISABLE_TIMING) == CUDA_SUCCESS);
        void *params[] = {&one, &n, &value};
        CHECK(cuda.cuLaunchKernel(fill, 4, 1, 1, 128, 1, 1, 0, stream, params, NULL) == CUDA_SUCCESS);
        CHECK(cuda.cuMemcpyDtoDAsync_v2(two, one, sizeof(back), stream) == CUDA_SUCCESS);
        CHECK(cuda.cuEventRecord(event, stream) == CUDA_SUCCESS);
        CHECK(cuda.cuEventSynchronize(event) == CUDA_SUCCESS);
        CHECK(cuda.cuMemcpyDtoHAsync_v2(back, two, sizeof(back), stream) == CUDA_SUCCESS);
        CHECK(cuda.cuMemFreeAsync(two, stream) == CUDA_SUCCESS);
        for (int i = 0; i < COUNT; i++)
                CHECK(back[i] == 3 * value + i);
        CHECK(cuda.cuEventDestroy_v2(event) == CUDA_SUCCESS);
        CHECK(cuda.cuMemFree_v2(one) == CUDA_SUCCESS);
}

static void *thread_work(void *argument)
{
        const unsigned number = (unsigned)(uintptr_t)argument;
        CUstream stream;
        CHECK(cuda.cuCtxSetCurrent(context) == CUDA_SUCCESS);
        CHECK(cuda.cuStreamCreate(&stream, number % 2 != 0 ? CU_STREAM_NON_BLOCKING : 0) == CUDA_SUCCESS);
        for (unsigned i = 0; i < ROUNDS; i++) {
                CUstream used = i % 8 == 0 ? NULL : i % 8 == 1 ? CU_STREAM_PER_THREAD : stream;
                round_trip(used, number * 1000 + i);
        }
        CHECK(cuda.cuStreamDestroy_v2(stream) == CUDA_SUCCESS);
        return NULL;
}

static void threads_do_not_disturb_each_other(void **state)
{
        (void)state;
        pthread_t threads[THREADS];
        size_t before, after, total;
        CUmodule module = module_load("kernels.ptx");
        fill = function_find(module, "fill");
        OK(cuMemGetInfo_v2(&before, &total));
        for (unsigned i = 0; i < THREADS; i++)
                assert_int_equal(pthread_create(&threads[i], NULL, thread_work, (void *)(uintptr_t)i), 0);
        for (unsigned i = 0; i < THREADS; i++)
                assert_int_equal(pthread_join(threads[i], NULL), 0);
        OK(cuCtxSynchronize());
        OK(cuMemGetInfo_v2(&after, &total));
        assert_int_equal(before, after);
        OK(cuModuleUnload(module));
}

static void *context_churn(void *argument)
{
        (void)argument;
        for (unsigned i = 0; i < 20; i++) {
                CUcontext own;
                CUdeviceptr pointer;
                CUstream stream;
                CHECK(cuda.cuCtxCreate_v2(&own, 0, device) == CUDA_SUCCESS);
                CHECK(cuda.cuMemAlloc_v2(&pointer, 1 << 20) == CUDA_SUCCESS);
                CHECK(cuda.cuStreamCreate(&stream, 0) == CUDA_SUCCESS);
                CHECK(cuda.cuMemsetD8Async(pointer, 1, 1 << 20, stream) == CUDA_SUCCESS);
                CHECK(cuda.cuMemsetD8Async(pointer, 2, 1 << 20, NULL) == CUDA_SUCCESS);
                CHECK(cuda.cuCtxDestroy_v2(own) == CUDA_SUCCESS);
        }
        return NULL;
}

static void contexts_come_and_go_beside_each_other(void **state)
{
        (void)state;
        pthread_t threads[THREADS];
        size_t before, after, total;
        OK(cuMemGetInfo_v2(&before, &total));
        for (unsigned i = 0; i < THREADS; i++)
                assert_int_equal(pthread_create(&threads[i], NULL, context_churn, NULL), 0);
        for (unsigned i = 0; i < THREADS; i++)
                assert_int_equal(pthread_join(threads[i], NULL), 0);
        OK(cuMemGetInfo_v2(&after, &total));
        assert_int_equal(before, after);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(threads_do_not_disturb_each_other),
                cmocka_unit_test(contexts_come_and_go_beside_each_other),
        };
        return cmocka_run_group_tests(tests, driver_open, driver_close);
}
