/* Launches: both ways of passing parameters, limits of shape, shared memory and co-residency, occupancy, device printf.
 */
#include "softgpu_driver.h"

static CUmodule module;

static int open_kernels(void **state)
{
        const int result = driver_open(state);
        module = module_load("kernels.ptx");
        return result;
}

static int close_kernels(void **state)
{
        OK(cuModuleUnload(module));
        return driver_close(state);
}

struct mixed {
        char letter;
        double number;
        short words[3];
};

static void parameters_are_checked(const CUdeviceptr out)
{
        int64_t values[6];
        OK(cuMemcpyDtoH_v2(values, out, sizeof(values)));
        assert_int_equal(values[0], -5);
        assert_int_equal(values[1], 9);
        assert_int_equal(values[2], 'x');
        assert_int_equal(values[3], -30);
        assert_int_equal(values[4], 10 + 20 * 100 + 30 * 10000);
        assert_int_equal(values[5], 5);
        OK(cuMemsetD8_v2(out, 0, sizeof(values)));
}

static void parameters_pass_as_pointers_and_as_a_buffer(void **state)
{
        (void)state;
        CUfunction function = function_find(module, "take_params");
        CUdeviceptr out;
        char a = -5;
        double b = 2.25;
        struct mixed c = {'x', -7.5, {10, 20, 30}};
        float d = 1.25f;
        OK(cuMemAlloc_v2(&out, 48));
        void *pointers[] = {&a, &b, &c, &d, &out};
        assert_int_equal(launch(function, 1, 1, NULL, pointers), CUDA_SUCCESS);
        parameters_are_checked(out);

        struct {
                char a;
                double b;
                struct mixed c;
                float d;
                CUdeviceptr out;
        } packed = {a, b, c, d, out};
        size_t bytes = sizeof(packed);
        void *extra[] = {CU_LAUNCH_PARAM_BUFFER_POINTER, &packed, CU_LAUNCH_PARAM_BUFFER_SIZE, &bytes,
                         CU_LAUNCH_PARAM_END};
        OK(cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, NULL, NULL, extra));
        parameters_are_checked(out);

        bytes--;
        CALL(CUDA_ERROR_INVALID_VALUE, cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, NULL, NULL, extra));
        bytes = 40000;
        CALL(CUDA_ERROR_INVALID_VALUE, cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, NULL, NULL, extra));
        CALL(CUDA_ERROR_INVALID_VALUE, cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, NULL, pointers, extra));
        CALL(CUDA_ERROR_INVALID_VALUE, cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, NULL, NULL, NULL));
        pointers[2] = NULL;
        CALL(CUDA_ERROR_INVALID_VALUE, cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, NULL, pointers, NULL));
        OK(cuMemFree_v2(out));
}

static void parameters_are_taken_at_the_call(void **state)
{
        (void)state;
        CUfunction fill = function_find(module, "fill");
        CUdeviceptr out;
        CUstream stream;
        struct gate gate = {0};
        int n = 100, value = 4, back[100];
        OK(cuMemAlloc_v2(&out, sizeof(back)));
        OK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
        OK(cuLaunchHostFunc(stream, gate_wait, &gate));
        void *params[] = {&out, &n, &value};
        assert_int_equal(launch(fill, 4, 32, stream, params), CUDA_SUCCESS);
        n = 0;
        value = 0;
        atomic_store(&gate.open, 1);
        OK(cuStreamSynchronize(stream));
        OK(cuMemcpyDtoH_v2(back, out, sizeof(back)));
        for (int i = 0; i < 100; i++)
                assert_int_equal(back[i], 12 + i);
        OK(cuStreamDestroy_v2(stream));
        OK(cuMemFree_v2(out));
}

static void a_launch_does_not_block_its_caller(void **state)
{
        (void)state;
        CUfunction function = function_find(module, "wait_for");
        CUstream stream;
        int *flag, *out;
        OK(cuMemHostAlloc((void **)&flag, 4, 0));
        OK(cuMemHostAlloc((void **)&out, 4, 0));
        *flag = 0;
        *out = 0;
        OK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
        void *params[] = {&flag, &out};
        assert_int_equal(launch(function, 1, 1, stream, params), CUDA_SUCCESS);
        CALL(CUDA_ERROR_NOT_READY, cuStreamQuery(stream));
        CUstream helper;
        OK(cuStreamCreate(&helper, CU_STREAM_NON_BLOCKING));
        OK(cuStreamWriteValue32_v2(helper, (uintptr_t)flag, 1, 0));
        OK(cuStreamSynchronize(stream));
        assert_int_equal(*out, 1);
        OK(cuStreamDestroy_v2(stream));
        OK(cuStreamDestroy_v2(helper));
        OK(cuMemFreeHost(flag));
        OK(cuMemFreeHost(out));
}

static void registered_memory_is_reached_by_kernels(void **state)
{
        (void)state;
        CUfunction fill = function_find(module, "fill");
        int n = 1000, value = 1;
        int *host = aligned_alloc(4096, 8192);
        assert_non_null(host);
        OK(cuMemHostRegister_v2(host, 8192, 0));
        void *params[] = {&host, &n, &value};
        assert_int_equal(launch(fill, 8, 128, NULL, params), CUDA_SUCCESS);
        OK(cuCtxSynchronize());
        for (int i = 0; i < n; i++)
                assert_int_equal(host[i], 3 + i);
        OK(cuMemHostUnregister(host));
        free(host);
}

static void shapes_have_limits(void **state)
{
        (void)state;
        CUfunction empty = function_find(module, "empty");
        OK(cuLaunchKernel(empty, 1, 1, 1, 1024, 1, 1, 0, NULL, NULL, NULL));
        OK(cuLaunchKernel(empty, 2, 3, 4, 2, 8, 64, 0, NULL, NULL, NULL));
        CALL(CUDA_ERROR_INVALID_VALUE, cuLaunchKernel(empty, 0, 1, 1, 1, 1, 1, 0, NULL, NULL, NULL));
        CALL(CUDA_ERROR_INVALID_VALUE, cuLaunchKernel(empty, 1, 1, 1, 1, 0, 1, 0, NULL, NULL, NULL));
        CALL(CUDA_ERROR_INVALID_VALUE, cuLaunchKernel(empty, 1, 1, 1, 1025, 1, 1, 0, NULL, NULL, NULL));
        CALL(CUDA_ERROR_INVALID_VALUE, cuLaunchKernel(empty, 1, 1, 1, 1, 1, 65, 0, NULL, NULL, NULL));
        CALL(CUDA_ERROR_INVALID_VALUE, cuLaunchKernel(empty, 1, 1, 1, 64, 64, 1, 0, NULL, NULL, NULL));
        CALL(CUDA_ERROR_INVALID_VALUE, cuLaunchKernel(empty, 1, 65536, 1, 1, 1, 1, 0, NULL, NULL, NULL));
        CALL(CUDA_ERROR_INVALID_VALUE, cuLaunchKernel(empty, 0x80000000u, 1, 1, 1, 1, 1, 0, NULL, NULL, NULL));
        CALL(CUDA_ERROR_INVALID_VALUE, cuLaunchKernel(empty, 1, 1, 1, 1, 1, 1, 49153, NULL, NULL, NULL));
        CALL(CUDA_ERROR_INVALID_HANDLE, cuLaunchKernel(NULL, 1, 1, 1, 1, 1, 1, 0, NULL, NULL, NULL));
        CALL(CUDA_ERROR_INVALID_HANDLE, cuLaunchKernel((CUfunction)module, 1, 1, 1, 1, 1, 1, 0, NULL, NULL, NULL));
        OK(cuCtxSynchronize());
}

static void dynamic_shared_memory_grows_by_attribute(void **state)
{
        (void)state;
        CUfunction reverse = function_find(module, "reverse_in_shared");
        CUdeviceptr data;
        int values[256];
        for (int i = 0; i < 256; i++)
                values[i] = i;
        OK(cuMemAlloc_v2(&data, sizeof(values)));
        OK(cuMemcpyHtoD_v2(data, values, sizeof(values)));
        void *params[] = {&data};
        OK(cuLaunchKernel(reverse, 1, 1, 1, 256, 1, 1, 1024, NULL, params, NULL));
        OK(cuMemcpyDtoH_v2(values, data, sizeof(values)));
        for (int i = 0; i < 256; i++)
                assert_int_equal(values[i], 255 - i);
        CALL(CUDA_ERROR_INVALID_VALUE, cuLaunchKernel(reverse, 1, 1, 1, 256, 1, 1, 65536, NULL, params, NULL));
        OK(cuFuncSetAttribute(reverse, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 65536));
        OK(cuLaunchKernel(reverse, 1, 1, 1, 256, 1, 1, 65536, NULL, params, NULL));
        OK(cuMemcpyDtoH_v2(values, data, sizeof(values)));
        for (int i = 0; i < 256; i++)
                assert_int_equal(values[i], i);
        CALL(CUDA_ERROR_INVALID_VALUE,
             cuFuncSetAttribute(reverse, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 65537));
        OK(cuMemFree_v2(data));
}

static void launch_attributes_are_taken_or_refused(void **state)
{
        (void)state;
        CUfunction empty = function_find(module, "empty");
        CUlaunchAttribute attributes[2];
        memset(attributes, 0, sizeof(attributes));
        CUlaunchConfig config = {.gridDimX = 1,
                                 .gridDimY = 1,
                                 .gridDimZ = 1,
                                 .blockDimX = 32,
                                 .blockDimY = 1,
                                 .blockDimZ = 1,
                                 .attrs = attributes,
                                 .numAttrs = 2};
        attributes[0].id = CU_LAUNCH_ATTRIBUTE_PRIORITY;
        attributes[1].id = CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION;
        attributes[1].value.programmaticStreamSerializationAllowed = 1;
        OK(cuLaunchKernelEx(&config, empty, NULL, NULL));
        attributes[1].id = CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION;
        attributes[1].value.clusterDim.x = attributes[1].value.clusterDim.y = attributes[1].value.clusterDim.z = 1;
        OK(cuLaunchKernelEx(&config, empty, NULL, NULL));
        attributes[1].value.clusterDim.x = 2;
        CALL(CUDA_ERROR_INVALID_CLUSTER_SIZE, cuLaunchKernelEx(&config, empty, NULL, NULL));
        attributes[1].id = CU_LAUNCH_ATTRIBUTE_DEVICE_UPDATABLE_KERNEL_NODE;
        CALL(CUDA_ERROR_NOT_SUPPORTED, cuLaunchKernelEx(&config, empty, NULL, NULL));
        config.numAttrs = 65;
        CALL(CUDA_ERROR_INVALID_VALUE, cuLaunchKernelEx(&config, empty, NULL, NULL));
        OK(cuLaunchCooperativeKernel(empty, 1, 1, 1, 32, 1, 1, 0, NULL, NULL));
        CALL(CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE,
             cuLaunchCooperativeKernel(empty, 1000000, 1, 1, 1024, 1, 1, 0, NULL, NULL));
        OK(cuCtxSynchronize());
}

static void cooperative_grids_meet_at_their_barrier(void **state)
{
        (void)state;
        CUfunction sum = function_find(module, "sum_over_grid");
        CUdeviceptr cells, sums;
        int processors, back[64];
        OK(cuDeviceGetAttribute(&processors, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, device));
        const unsigned blocks = processors >= 4 ? 64 : 16 * (unsigned)processors; /* 16 fit on each */
        OK(cuMemAlloc_v2(&cells, sizeof(back)));
        OK(cuMemAlloc_v2(&sums, sizeof(back)));
        void *params[] = {&cells, &sums};
        OK(cuLaunchCooperativeKernel(sum, blocks, 1, 1, 1, 1, 1, 0, NULL, params));
        OK(cuMemcpyDtoH_v2(back, sums, sizeof(back)));
        for (unsigned i = 0; i < blocks; i++)
                assert_int_equal(back[i], blocks * (blocks + 1) / 2);
        CALL(CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE,
             cuLaunchCooperativeKernel(sum, 16 * (unsigned)processors + 1, 1, 1, 1, 1, 1, 0, NULL, params));
        OK(cuMemFree_v2(cells));
        OK(cuMemFree_v2(sums));
}

static void occupancy_follows_the_limits(void **state)
{
        (void)state;
        CUfunction empty = function_find(module, "empty");
        int blocks, grid, block, processors;
        size_t bytes;
        OK(cuDeviceGetAttribute(&processors, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, device));
        OK(cuOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, empty, 256, 0));
        assert_int_equal(blocks, 4); /* 1024 threads */
        OK(cuOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, empty, 32, 0));
        assert_int_equal(blocks, 16); /* the limit of blocks */
        OK(cuOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, empty, 32, 20000));
        assert_int_equal(blocks, 3); /* 64 KiB of shared memory */
        OK(cuOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, empty, 32, 70000));
        assert_int_equal(blocks, 0);
        OK(cuOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, empty, 1000, 0));
        assert_int_equal(blocks, 1);
        CALL(CUDA_ERROR_INVALID_VALUE, cuOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, empty, 0, 0));
        OK(cuOccupancyMaxPotentialBlockSize(&grid, &block, empty, NULL, 0, 0));
        assert_int_equal(block, 1024);
        assert_int_equal(grid, processors);
        OK(cuOccupancyMaxPotentialBlockSize(&grid, &block, empty, NULL, 0, 100));
        assert_int_equal(block, 64); /* 16 blocks of 64 fill the processor; 8 of 100, 10 of 96 do not */
        assert_int_equal(grid, 16 * processors);
        OK(cuOccupancyAvailableDynamicSMemPerBlock(&bytes, empty, 4, 256));
        assert_int_equal(bytes, 16384);
        CALL(CUDA_ERROR_INVALID_VALUE, cuOccupancyAvailableDynamicSMemPerBlock(&bytes, empty, 5, 256));
}

static void printf_reaches_standard_output(void **state)
{
        (void)state;
        CUfunction say = function_find(module, "say");
        int value = 4711, ends[2];
        char text[64] = "";
        assert_int_equal(pipe(ends), 0);
        fflush(stdout);
        const int saved = dup(1);
        assert_int_equal(dup2(ends[1], 1), 1);
        void *params[] = {&value};
        const CUresult launched = launch(say, 1, 1, NULL, params), synchronized = cuda.cuCtxSynchronize();
        fflush(stdout);
        assert_int_equal(dup2(saved, 1), 1);
        close(saved);
        close(ends[1]);
        assert_int_equal(launched, CUDA_SUCCESS);
        assert_int_equal(synchronized, CUDA_SUCCESS);
        assert_true(read(ends[0], text, sizeof(text) - 1) > 0);
        close(ends[0]);
        assert_string_equal(text, "value 4711\n");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(parameters_pass_as_pointers_and_as_a_buffer),
                cmocka_unit_test(parameters_are_taken_at_the_call),
                cmocka_unit_test(a_launch_does_not_block_its_caller),
                cmocka_unit_test(registered_memory_is_reached_by_kernels),
                cmocka_unit_test(shapes_have_limits),
                cmocka_unit_test(dynamic_shared_memory_grows_by_attribute),
                cmocka_unit_test(launch_attributes_are_taken_or_refused),
                cmocka_unit_test(cooperative_grids_meet_at_their_barrier),
                cmocka_unit_test(occupancy_follows_the_limits),
                cmocka_unit_test(printf_reaches_standard_output),
        };
        return cmocka_run_group_tests(tests, open_kernels, close_kernels);
}
