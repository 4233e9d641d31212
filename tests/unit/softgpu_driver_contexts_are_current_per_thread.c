/* Devices, contexts and symbols: what is current where, what ends with what, and how the library describes itself. */
#include "softgpu_driver.h"

#include <sys/wait.h>

static int open_two(void **state)
{
        setenv("IVGPU_SOFT_DEVICES", "2", 1);
        return driver_open(state);
}

static void devices_describe_themselves(void **state)
{
        (void)state;
        int count, version, value, major, minor;
        char name[64], bus[32];
        CUuuid first, second;
        CUdevice found;
        size_t bytes;
        OK(cuDeviceGetCount(&count));
        assert_int_equal(count, 2);
        OK(cuDriverGetVersion(&version));
        assert_int_equal(version, 13000);
        OK(cuDeviceGetName(name, sizeof(name), 0));
        assert_string_equal(name, "ivgpu soft GPU");
        OK(cuDeviceGetUuid_v2(&first, 0));
        OK(cuDeviceGetUuid_v2(&second, 1));
        assert_memory_not_equal(&first, &second, sizeof(first));
        OK(cuDeviceTotalMem_v2(&bytes, 1));
        assert_true(bytes == (size_t)4096 << 20);
        OK(cuDeviceGetPCIBusId(bus, sizeof(bus), 1));
        OK(cuDeviceGetByPCIBusId(&found, bus));
        assert_int_equal(found, 1);
        CALL(CUDA_ERROR_INVALID_DEVICE, cuDeviceGetByPCIBusId(&found, "0000:7f:04.0"));
        CALL(CUDA_ERROR_INVALID_VALUE, cuDeviceGetByPCIBusId(&found, "none"));
        OK(cuDeviceComputeCapability(&major, &minor, 0));
        assert_int_equal(major * 10 + minor, 75);
        OK(cuDeviceGetAttribute(&value, CU_DEVICE_ATTRIBUTE_WARP_SIZE, 0));
        assert_int_equal(value, 32);
        OK(cuDeviceGetAttribute(&value, CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING, 0));
        assert_int_equal(value, 1);
        OK(cuDeviceGetAttribute(&value, CU_DEVICE_ATTRIBUTE_CLUSTER_LAUNCH, 0));
        assert_int_equal(value, 0);
        OK(cuDeviceGetAttribute(&value, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, 0));
        assert_true(value >= 1);
        for (int i = 1; i < CU_DEVICE_ATTRIBUTE_MAX; i++)
                OK(cuDeviceGetAttribute(&value, (CUdevice_attribute)i, 0));
        CALL(CUDA_ERROR_INVALID_VALUE, cuDeviceGetAttribute(&value, CU_DEVICE_ATTRIBUTE_MAX, 0));
        CALL(CUDA_ERROR_INVALID_VALUE, cuDeviceGetAttribute(&value, (CUdevice_attribute)0, 0));
        CALL(CUDA_ERROR_INVALID_DEVICE, cuDeviceGetAttribute(&value, CU_DEVICE_ATTRIBUTE_WARP_SIZE, 2));
        CALL(CUDA_ERROR_INVALID_DEVICE, cuDeviceGet(&found, -1));
}

static void errors_have_names(void **state)
{
        (void)state;
        const char *text;
        OK(cuGetErrorName(CUDA_ERROR_ILLEGAL_ADDRESS, &text));
        assert_string_equal(text, "CUDA_ERROR_ILLEGAL_ADDRESS");
        OK(cuGetErrorName(CUDA_SUCCESS, &text));
        assert_string_equal(text, "CUDA_SUCCESS");
        OK(cuGetErrorName(CUDA_ERROR_UNKNOWN, &text));
        assert_string_equal(text, "CUDA_ERROR_UNKNOWN");
        OK(cuGetErrorString(CUDA_ERROR_OUT_OF_MEMORY, &text));
        assert_string_equal(text, "out of memory");
        CALL(CUDA_ERROR_INVALID_VALUE, cuGetErrorName((CUresult)998, &text));
        assert_null(text);
}

static void primary_contexts_are_counted(void **state)
{
        (void)state;
        CUcontext one, two;
        unsigned flags;
        int active;
        CUdeviceptr pointer;
        OK(cuDevicePrimaryCtxGetState(1, &flags, &active));
        assert_int_equal(active, 0);
        OK(cuDevicePrimaryCtxSetFlags_v2(1, CU_CTX_SCHED_BLOCKING_SYNC));
        CALL(CUDA_ERROR_INVALID_VALUE, cuDevicePrimaryCtxSetFlags_v2(1, 3));
        OK(cuDevicePrimaryCtxRetain(&one, 1));
        OK(cuDevicePrimaryCtxRetain(&two, 1));
        assert_ptr_equal(one, two);
        OK(cuDevicePrimaryCtxGetState(1, &flags, &active));
        assert_int_equal(active, 1);
        assert_int_equal(flags, CU_CTX_SCHED_BLOCKING_SYNC);
        CALL(CUDA_ERROR_INVALID_CONTEXT, cuCtxDestroy_v2(one));
        OK(cuCtxPushCurrent_v2(one));
        OK(cuMemAlloc_v2(&pointer, 100));
        OK(cuDevicePrimaryCtxRelease_v2(1));
        OK(cuMemFree_v2(pointer));
        OK(cuMemAlloc_v2(&pointer, 100));
        OK(cuDevicePrimaryCtxRelease_v2(1));
        CALL(CUDA_ERROR_CONTEXT_IS_DESTROYED, cuMemFree_v2(pointer));
        CALL(CUDA_ERROR_INVALID_CONTEXT, cuDevicePrimaryCtxRelease_v2(1));
        CALL(CUDA_ERROR_INVALID_CONTEXT, cuCtxPushCurrent_v2(one));
        OK(cuDevicePrimaryCtxRetain(&two, 1));
        OK(cuDevicePrimaryCtxReset_v2(1));
        OK(cuDevicePrimaryCtxGetState(1, &flags, &active));
        assert_int_equal(active, 0);
        CALL(CUDA_ERROR_INVALID_CONTEXT, cuDevicePrimaryCtxRelease_v2(1)); /* a reset forgets the retains */
        OK(cuCtxPopCurrent_v2(NULL));
        OK(cuCtxSetCurrent(context));
}

static void *other_thread(void *argument)
{
        (void)argument;
        CUcontext current = context;
        CUdevice ordinal;
        CUdeviceptr pointer;
        CHECK(cuda.cuCtxGetCurrent(&current) == CUDA_SUCCESS && current == NULL);
        CHECK(cuda.cuCtxGetDevice(&ordinal) == CUDA_ERROR_INVALID_CONTEXT);
        CHECK(cuda.cuMemAlloc_v2(&pointer, 16) == CUDA_ERROR_INVALID_CONTEXT);
        CHECK(cuda.cuCtxPopCurrent_v2(&current) == CUDA_ERROR_INVALID_CONTEXT);
        CHECK(cuda.cuCtxSetCurrent(NULL) == CUDA_SUCCESS);
        return NULL;
}

static void a_thread_has_a_stack_of_contexts(void **state)
{
        (void)state;
        CUcontext created, current;
        CUdevice ordinal;
        unsigned version;
        unsigned long long id, other_id;
        pthread_t thread;
        OK(cuCtxCreate_v2(&created, 0, 1));
        OK(cuCtxGetDevice(&ordinal));
        assert_int_equal(ordinal, 1);
        OK(cuCtxGetApiVersion(created, &version));
        assert_int_equal(version, 3020);
        OK(cuCtxGetId(created, &id));
        OK(cuCtxGetId(context, &other_id));
        assert_int_not_equal(id, other_id);
        OK(cuCtxPushCurrent_v2(context));
        OK(cuCtxGetCurrent(&current));
        assert_ptr_equal(current, context);
        OK(cuCtxPopCurrent_v2(&current));
        assert_ptr_equal(current, context);
        OK(cuCtxGetCurrent(&current));
        assert_ptr_equal(current, created);
        OK(cuCtxDestroy_v2(created)); /* pops it */
        OK(cuCtxGetCurrent(&current));
        assert_ptr_equal(current, context);
        CALL(CUDA_ERROR_INVALID_CONTEXT, cuCtxDestroy_v2(created));
        CALL(CUDA_ERROR_INVALID_CONTEXT, cuCtxSetCurrent(created));
        assert_int_equal(pthread_create(&thread, NULL, other_thread, NULL), 0);
        assert_int_equal(pthread_join(thread, NULL), 0);
        for (unsigned i = 0; i < 63; i++)
                OK(cuCtxPushCurrent_v2(context));
        CALL(CUDA_ERROR_OUT_OF_MEMORY, cuCtxPushCurrent_v2(context));
        for (unsigned i = 0; i < 63; i++)
                OK(cuCtxPopCurrent_v2(NULL));
}

static void a_forked_child_has_no_driver(void **state)
{
        (void)state;
        int status = -1, count;
        CUdeviceptr pointer;
        const pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
                const bool refused = cuda.cuMemAlloc_v2(&pointer, 16) == CUDA_ERROR_NOT_INITIALIZED &&
                                     cuda.cuInit(0) == CUDA_ERROR_NOT_INITIALIZED;
                _exit(refused ? 0 : 1);
        }
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_int_equal(status, 0);
        OK(cuDeviceGetCount(&count));
}

static void limits_are_kept(void **state)
{
        (void)state;
        size_t value;
        CUfunc_cache cache;
        OK(cuCtxGetLimit(&value, CU_LIMIT_STACK_SIZE));
        assert_int_equal(value, 1024);
        OK(cuCtxSetLimit(CU_LIMIT_STACK_SIZE, 5000));
        OK(cuCtxGetLimit(&value, CU_LIMIT_STACK_SIZE));
        assert_true(value >= 5000);
        OK(cuCtxGetLimit(&value, CU_LIMIT_PRINTF_FIFO_SIZE));
        assert_int_equal(value, 1u << 20);
        CALL(CUDA_ERROR_UNSUPPORTED_LIMIT, cuCtxGetLimit(&value, CU_LIMIT_DEV_RUNTIME_SYNC_DEPTH));
        CALL(CUDA_ERROR_INVALID_VALUE, cuCtxGetLimit(&value, (CUlimit)77));
        CALL(CUDA_ERROR_INVALID_VALUE, cuCtxSetLimit(CU_LIMIT_MAX_L2_FETCH_GRANULARITY, 129));
        OK(cuCtxSetCacheConfig(CU_FUNC_CACHE_PREFER_L1));
        OK(cuCtxGetCacheConfig(&cache));
        assert_int_equal(cache, CU_FUNC_CACHE_PREFER_L1);
        CALL(CUDA_ERROR_INVALID_VALUE, cuCtxSetCacheConfig((CUfunc_cache)9));
}

static void peers_reach_each_other_when_enabled(void **state)
{
        (void)state;
        CUcontext other;
        CUdeviceptr here, there;
        int can, value;
        uint32_t word = 0;
        OK(cuDeviceCanAccessPeer(&can, 0, 1));
        assert_int_equal(can, 1);
        OK(cuDeviceCanAccessPeer(&can, 0, 0));
        assert_int_equal(can, 0);
        OK(cuDeviceGetP2PAttribute(&value, CU_DEVICE_P2P_ATTRIBUTE_ACCESS_SUPPORTED, 0, 1));
        assert_int_equal(value, 1);
        OK(cuMemAlloc_v2(&here, 4));
        OK(cuDevicePrimaryCtxRetain(&other, 1));
        OK(cuCtxPushCurrent_v2(other));
        OK(cuMemAlloc_v2(&there, 4));
        OK(cuMemsetD32_v2(there, 77, 1));
        OK(cuCtxPopCurrent_v2(NULL));
        OK(cuMemcpyPeer(here, context, there, other, 4));
        OK(cuMemcpyDtoH_v2(&word, here, 4));
        assert_int_equal(word, 77);

        /* A kernel needs more than a copy: peer access. */
        CUmodule module = module_load("kernels.ptx");
        CUfunction fill = function_find(module, "fill");
        int n = 1, v = 5;
        void *params[] = {&there, &n, &v};
        OK(cuCtxEnablePeerAccess(other, 0));
        CALL(CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED, cuCtxEnablePeerAccess(other, 0));
        CALL(CUDA_ERROR_INVALID_CONTEXT, cuCtxEnablePeerAccess(context, 0));
        assert_int_equal(launch(fill, 1, 32, NULL, params), CUDA_SUCCESS);
        OK(cuCtxSynchronize());
        OK(cuMemcpyDtoH_v2(&word, there, 4));
        assert_int_equal(word, 15);
        OK(cuCtxDisablePeerAccess(other));
        CALL(CUDA_ERROR_PEER_ACCESS_NOT_ENABLED, cuCtxDisablePeerAccess(other));
        OK(cuModuleUnload(module));
        OK(cuMemFree_v2(here));
        OK(cuDevicePrimaryCtxRelease_v2(1));
        CALL(CUDA_ERROR_INVALID_VALUE, cuMemcpyDtoH_v2(&word, there, 4));
}

static void symbols_are_found_by_version(void **state)
{
        (void)state;
        void *found, *expected;
        CUdriverProcAddressQueryResult status;
        expected = dlsym(cuda.library, "cuMemAlloc_v2");
        OK(cuGetProcAddress_v2("cuMemAlloc", &found, 13000, 0, &status));
        assert_ptr_equal(found, expected);
        assert_int_equal(status, CU_GET_PROC_ADDRESS_SUCCESS);
        expected = dlsym(cuda.library, "cuMemcpyHtoDAsync_v2_ptsz");
        assert_non_null(expected);
        OK(cuGetProcAddress_v2("cuMemcpyHtoDAsync", &found, 12000, 2, &status));
        assert_ptr_equal(found, expected);
        expected = dlsym(cuda.library, "cuMemFree_v2"); /* no per-thread twin */
        OK(cuGetProcAddress_v2("cuMemFree", &found, 12000, 2, &status));
        assert_ptr_equal(found, expected);
        OK(cuGetProcAddress_v2("cuNoSuchThing", &found, 13000, 0, &status));
        assert_null(found);
        assert_int_equal(status, CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND);
        OK(cuGetProcAddress_v2("cuLibraryLoadData", &found, 11000, 0, &status));
        assert_null(found);
        assert_int_equal(status, CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT);
        OK(cuGetProcAddress_v2("cuGraphicsUnmapResources", &found, 13000, 0, &status)); /* real, but not here */
        assert_null(found);
        assert_int_equal(status, CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND);
        OK(cuGetProcAddress_v2("cuNoSuchThing", &found, 13000, 0, NULL));
        CALL(CUDA_ERROR_NOT_FOUND, cuGetProcAddress("cuNoSuchThing", &found, 13000, 0));
        CALL(CUDA_ERROR_INVALID_VALUE, cuGetProcAddress_v2("cuInit", &found, 13010, 0, &status));
        OK(cuGetProcAddress_v2("cuLaunchKernel", &found, 6000, 3, &status)); /* per-thread forms are of 7.0 */
        assert_int_equal(status, CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT);
        CALL(CUDA_ERROR_INVALID_VALUE, cuGetProcAddress_v2("cuInit", &found, 13000, 4, &status));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(devices_describe_themselves),
                cmocka_unit_test(errors_have_names),
                cmocka_unit_test(primary_contexts_are_counted),
                cmocka_unit_test(a_thread_has_a_stack_of_contexts),
                cmocka_unit_test(a_forked_child_has_no_driver),
                cmocka_unit_test(limits_are_kept),
                cmocka_unit_test(peers_reach_each_other_when_enabled),
                cmocka_unit_test(symbols_are_found_by_version),
        };
        return cmocka_run_group_tests(tests, open_two, driver_close);
}
