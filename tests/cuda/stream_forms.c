/* What streams and events say and keep beside their work: attributes, copies of them, devices, flags; the names that
 * older programs call; profiling; tensor maps. */
#include "supported.h"

/* ---- attributes ---- */

static void attributes(void)
{
        CUstream first, second;
        CUstreamAttrValue set, got;
        CU(cuStreamCreate(&first, CU_STREAM_NON_BLOCKING));
        CU(cuStreamCreate(&second, CU_STREAM_NON_BLOCKING));
        memset(&set, 0, sizeof set);
        memset(&got, 0, sizeof got);
        set.syncPolicy = CU_SYNC_POLICY_YIELD;
        CU(cuStreamSetAttribute(first, CU_STREAM_ATTRIBUTE_SYNCHRONIZATION_POLICY, &set));
        CU(cuStreamGetAttribute(first, CU_STREAM_ATTRIBUTE_SYNCHRONIZATION_POLICY, &got));
        CHECK(got.syncPolicy == CU_SYNC_POLICY_YIELD, "policy %d", (int)got.syncPolicy);
        CU(cuStreamGetAttribute(second, CU_STREAM_ATTRIBUTE_SYNCHRONIZATION_POLICY, &got));
        CHECK(got.syncPolicy != CU_SYNC_POLICY_YIELD, "the other stream took the policy over");
        CU(cuStreamCopyAttributes(second, first));
        CU(cuStreamGetAttribute(second, CU_STREAM_ATTRIBUTE_SYNCHRONIZATION_POLICY, &got));
        CHECK(got.syncPolicy == CU_SYNC_POLICY_YIELD, "policy %d after it was copied", (int)got.syncPolicy);
        CHECK(cuStreamSetAttribute(first, (CUstreamAttrID)77, &set) != CUDA_SUCCESS, "attribute 77 exists");
        CU(cuStreamDestroy(first));
        CU(cuStreamDestroy_v2(second));
}

static void facts(CUcontext context)
{
        CUstream low, high;
        CUcontext found;
        CUgreenCtx green = (CUgreenCtx)(uintptr_t)1;
        CUdevice device = -1;
        int least, greatest, priority = 99;
        CU(cuCtxGetStreamPriorityRange(&least, &greatest));
        CU(cuStreamCreateWithPriority(&low, CU_STREAM_NON_BLOCKING, least + 50)); /* out of range: clamped */
        CU(cuStreamGetPriority(low, &priority));
        CHECK(priority == least, "priority %d, the least is %d", priority, least);
        CU(cuStreamCreateWithPriority(&high, CU_STREAM_NON_BLOCKING, greatest));
        CU(cuStreamGetPriority(high, &priority));
        CHECK(priority == greatest, "priority %d, the greatest is %d", priority, greatest);
        CU(cuStreamGetDevice(high, &device));
        CHECK(device == 0, "device %d", device);
        CU(cuStreamGetDevice(NULL, &device));
        CU(cuStreamGetCtx_v2(high, &found, &green));
        CHECK(found == context && green == NULL, "a stream's context");
        CU(cuStreamDestroy_v2(low));
        CU(cuStreamDestroy_v2(high));
}

/* ---- events ---- */

static void events(CUmodule module)
{
        CUevent start, end;
        CUstream stream;
        CUdeviceptr out;
        uint32_t seed = 1, rounds = 2000000;
        float first = -1, second = -1;
        CU(cuMemAlloc_v2(&out, 4096));
        CU(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
        CU(cuEventCreate(&start, CU_EVENT_DEFAULT));
        CU(cuEventCreate(&end, CU_EVENT_DEFAULT));
        void *parameters[] = {&out, &seed, &rounds};
        CU(cuEventRecordWithFlags(start, stream, CU_EVENT_RECORD_DEFAULT));
        CU(cuLaunchKernel(test_function(module, "spin_rounds"), 1, 1, 1, 32, 1, 1, 0, stream, parameters, NULL));
        CU(cuEventRecordWithFlags(end, stream, CU_EVENT_RECORD_DEFAULT));
        CU(cuEventSynchronize(end));
        CU(cuEventElapsedTime(&first, start, end));
        CU(cuEventElapsedTime_v2(&second, start, end));
        CHECK(first > 0 && first == second, "%g and %g ms", (double)first, (double)second);
        CU(cuEventDestroy(start));
        CU(cuEventDestroy_v2(end));
        CU(cuStreamDestroy_v2(stream));
        CU(cuMemFree_v2(out));
}

/* ---- profiling ---- */

static void profiler(CUmodule module)
{
        CUdeviceptr counter;
        uint32_t value = 0;
        CU(cuMemAlloc_v2(&counter, 4));
        CU(cuMemsetD32_v2(counter, 0, 1));
        void *parameters[] = {&counter};
        CU(cuProfilerStart());
        CU(cuLaunchKernel(test_function(module, "increment"), 1, 1, 1, 9, 1, 1, 0, NULL, parameters, NULL));
        CU(cuProfilerStop());
        CU(cuMemcpyDtoH_v2(&value, counter, 4));
        CHECK(value == 9, "%u while profiled", value);
        CU_EXPECT(CUDA_ERROR_NOT_SUPPORTED, cuProfilerInitialize("config", "output", CU_OUT_CSV)); /* since 12.0 */
        CU(cuMemFree_v2(counter));
}

/* ---- tensor maps ---- */

static int is_zero(const CUtensorMap *map)
{
        static const CUtensorMap zero;
        return memcmp(map, &zero, sizeof zero) == 0;
}

static void tensor_maps(void)
{
        int supported = 0, major = 0;
        static CUtensorMap map, moved, wide;
        CUdeviceptr memory;
        const cuuint64_t dims[4] = {256, 128, 32, 8};
        const cuuint64_t strides[3] = {256 * 4, 256 * 4 * 128, 256ull * 4 * 128 * 32};
        const cuuint32_t box[4] = {64, 8, 1, 1}, steps[4] = {1, 1, 1, 1};
        const int lower[2] = {-1, -1}, upper[2] = {1, 1};
        CU(cuDeviceGetAttribute(&supported, CU_DEVICE_ATTRIBUTE_TENSOR_MAP_ACCESS_SUPPORTED, 0));
        CU(cuDeviceGetAttribute(&major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, 0));
        CU(cuMemAlloc_v2(&memory, 64 << 20));
        void *const address = (void *)(uintptr_t)memory, *const other = (void *)(uintptr_t)(memory + 4096);
        const CUresult result =
                cuTensorMapEncodeTiled(&map, CU_TENSOR_MAP_DATA_TYPE_FLOAT32, 2, address, dims, strides, box, steps,
                                       CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_NONE,
                                       CU_TENSOR_MAP_L2_PROMOTION_NONE, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
        if (!supported) {
                CHECK(result != CUDA_SUCCESS && is_zero(&map), "a map on a device that has none");
                puts("skipped on this device: tensor maps");
                CU(cuMemFree_v2(memory));
                return;
        }
        CU(result);
        CHECK(!is_zero(&map), "an empty map");
        CU_EXPECT(CUDA_ERROR_INVALID_VALUE,
                  cuTensorMapEncodeTiled(&moved, CU_TENSOR_MAP_DATA_TYPE_FLOAT32, 9, address, dims, strides, box, steps,
                                         CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_NONE,
                                         CU_TENSOR_MAP_L2_PROMOTION_NONE, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE));
        /* A map with another address is what encoding with that address gives. */
        CU(cuTensorMapEncodeTiled(&moved, CU_TENSOR_MAP_DATA_TYPE_FLOAT32, 2, other, dims, strides, box, steps,
                                  CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_NONE,
                                  CU_TENSOR_MAP_L2_PROMOTION_NONE, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE));
        CHECK(memcmp(&map, &moved, sizeof map) != 0, "the address is not in the map");
        CU(cuTensorMapReplaceAddress(&map, other));
        CHECK(memcmp(&map, &moved, sizeof map) == 0, "replaced and encoded maps differ");
        CU(cuTensorMapEncodeIm2col(&wide, CU_TENSOR_MAP_DATA_TYPE_FLOAT32, 4, address, dims, strides, lower, upper, 64,
                                   16, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_NONE,
                                   CU_TENSOR_MAP_L2_PROMOTION_NONE, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE));
        CHECK(!is_zero(&wide) && memcmp(&wide, &map, sizeof map) != 0, "an im2col map");
        /* Of devices since 10.0 only. */
        const CUresult encoded = cuTensorMapEncodeIm2colWide(
                &wide, CU_TENSOR_MAP_DATA_TYPE_FLOAT32, 4, address, dims, strides, -1, 1, 64, 16, steps,
                CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_IM2COL_WIDE_MODE_W, CU_TENSOR_MAP_SWIZZLE_128B,
                CU_TENSOR_MAP_L2_PROMOTION_NONE, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
        CHECK(major >= 10 || encoded != CUDA_SUCCESS, "a wide map on capability %d answered %d", major, (int)encoded);
        CU(cuMemFree_v2(memory));
}

int main(void)
{
        CUcontext context = test_context();
        CUmodule module = test_module();
        attributes();
        facts(context);
        events(module);
        profiler(module);
        tensor_maps();
        puts("stream_forms: right");
        return 0;
}
