/* Contexts: created by each version, their stacks, flags, limits and settings; usage counts; events of whole contexts.
 */
#include "supported.h"

static CUdevice device;

static CUcontext current(void)
{
        CUcontext context;
        CU(cuCtxGetCurrent(&context));
        return context;
}

/* Each creation pushes; a version's contexts say so; the stack is as it was at the end. */
static void versions(void)
{
        CUcontext context[3], popped;
        unsigned version[3];
        CUctxCreateParams none = {0};
        CHECK(current() == NULL, "a context is current before any was made");
        /* Not the first version's: natively a process with one of its contexts makes no others. */
        CU(cuCtxCreate_v2(&context[0], 0, device));
        CU(cuCtxCreate_v3(&context[1], NULL, 0, 0, device));
        CU(cuCtxCreate_v4(&context[2], &none, 0, device));
        for (int i = 2; i >= 0; i--) {
                unsigned long long id, other;
                CUdevice found = -1;
                CHECK(current() == context[i], "context %d is not on top", i);
                CU(cuCtxGetApiVersion(context[i], &version[i]));
                unsigned of_current = 0;
                CU(cuCtxGetApiVersion(NULL, &of_current));
                CHECK(of_current == version[i], "%u and %u", of_current, version[i]);
                CU(cuCtxGetDevice_v2(&found, context[i]));
                CHECK(found == device, "device %d", found);
                CU(cuCtxGetId(context[i], &id));
                CU(cuCtxGetId(context[(i + 1) % 3], &other));
                CHECK(id != other, "two contexts with id %llu", id);
                CU(cuCtxPopCurrent_v2(&popped));
                CHECK(popped == context[i], "popped another than %d", i);
        }
        CHECK(current() == NULL, "something is left on the stack");
        CHECK(version[0] <= version[1] && version[1] <= version[2] && version[0] >= 3020,
              "interface versions %u, %u, %u", version[0], version[1], version[2]);
        printf("contexts: interface versions %u, %u, %u\n", version[0], version[1], version[2]);
        CU(cuCtxPushCurrent(context[1]));
        CU(cuCtxPushCurrent_v2(context[2]));
        CU(cuCtxPopCurrent(&popped));
        CHECK(popped == context[2] && current() == context[1], "push and pop of the first interface");
        CU(cuCtxPopCurrent(NULL));
        CU(cuCtxDestroy(context[0]));
        for (int i = 1; i < 3; i++)
                CU(cuCtxDestroy_v2(context[i]));
        CU_EXPECT(CUDA_ERROR_INVALID_VALUE, cuCtxCreate_v2(NULL, 0, device));
        CU_EXPECT(CUDA_ERROR_INVALID_DEVICE, cuCtxCreate_v2(&popped, 0, 4711));
}

static void flags(CUcontext primary)
{
        CUcontext context;
        unsigned value = 0;
        int active = 0;
        CU(cuCtxCreate_v2(&context, CU_CTX_SCHED_YIELD, device));
        CU(cuCtxGetFlags(&value));
        CHECK((value & CU_CTX_SCHED_MASK) == CU_CTX_SCHED_YIELD, "flags %#x", value);
        CU(cuCtxSetFlags(CU_CTX_SCHED_BLOCKING_SYNC));
        CU(cuCtxGetFlags(&value));
        CHECK((value & CU_CTX_SCHED_MASK) == CU_CTX_SCHED_BLOCKING_SYNC, "flags %#x after they were set", value);
        CU_EXPECT(CUDA_ERROR_INVALID_VALUE, cuCtxSetFlags(0x40000000));
        CU_EXPECT(CUDA_ERROR_INVALID_VALUE, cuCtxSetFlags(CU_CTX_SCHED_SPIN | CU_CTX_SCHED_YIELD));
        CU(cuCtxDestroy_v2(context));

        CU(cuCtxSetCurrent(primary));
        CU_EXPECT(CUDA_ERROR_PRIMARY_CONTEXT_ACTIVE, cuDevicePrimaryCtxSetFlags(device, CU_CTX_SCHED_SPIN));
        CU(cuDevicePrimaryCtxSetFlags_v2(device, CU_CTX_SCHED_SPIN));
        CU(cuDevicePrimaryCtxGetState(device, &value, &active));
        CHECK((value & CU_CTX_SCHED_MASK) == CU_CTX_SCHED_SPIN && active == 1, "state %#x, %d", value, active);
        CU(cuDevicePrimaryCtxSetFlags_v2(device, CU_CTX_SCHED_AUTO));
        CU(cuDevicePrimaryCtxGetState(device, &value, &active));
        CHECK((value & CU_CTX_SCHED_MASK) == CU_CTX_SCHED_AUTO, "state %#x", value);
}

static void settings(void)
{
        size_t bytes;
        int least, greatest;
        CU(cuCtxSetLimit(CU_LIMIT_STACK_SIZE, 4096));
        CU(cuCtxGetLimit(&bytes, CU_LIMIT_STACK_SIZE));
        CHECK(bytes >= 4096, "stack of %zu bytes", bytes);
        CU(cuCtxSetLimit(CU_LIMIT_PRINTF_FIFO_SIZE, 2 << 20));
        CU(cuCtxGetLimit(&bytes, CU_LIMIT_PRINTF_FIFO_SIZE));
        CHECK(bytes >= 2 << 20, "%zu bytes for printf", bytes);
        CU(cuCtxGetLimit(&bytes, CU_LIMIT_MALLOC_HEAP_SIZE));
        CHECK(bytes > 0, "no heap");
        CHECK(cuCtxGetLimit(&bytes, (CUlimit)1000) != CUDA_SUCCESS, "limit 1000 exists");

        CUfunc_cache cache = CU_FUNC_CACHE_PREFER_NONE;
        CU(cuCtxSetCacheConfig(CU_FUNC_CACHE_PREFER_SHARED));
        CU(cuCtxGetCacheConfig(&cache));
        CHECK(cache == CU_FUNC_CACHE_PREFER_SHARED || cache == CU_FUNC_CACHE_PREFER_NONE, "cache %d", (int)cache);
        CU(cuCtxSetCacheConfig(CU_FUNC_CACHE_PREFER_NONE));
        CUsharedconfig shared = CU_SHARED_MEM_CONFIG_DEFAULT_BANK_SIZE;
        CU(cuCtxSetSharedMemConfig(CU_SHARED_MEM_CONFIG_FOUR_BYTE_BANK_SIZE));
        CU(cuCtxGetSharedMemConfig(&shared));
        CHECK((int)shared >= 0 && shared <= CU_SHARED_MEM_CONFIG_EIGHT_BYTE_BANK_SIZE, "banks %d", (int)shared);
        CU(cuCtxGetStreamPriorityRange(&least, &greatest));
        CHECK(least >= greatest, "priorities %d to %d", least, greatest);
        test_supported(cuCtxResetPersistingL2Cache(), "cuCtxResetPersistingL2Cache");

        CUexecAffinityParam affinity = {0};
        int supported = 0;
        CU(cuDeviceGetExecAffinitySupport(&supported, CU_EXEC_AFFINITY_TYPE_SM_COUNT, device));
        const CUresult asked = cuCtxGetExecAffinity(&affinity, CU_EXEC_AFFINITY_TYPE_SM_COUNT);
        if (supported)
                CHECK(asked == CUDA_SUCCESS && affinity.param.smCount.val >= 1, "%d, %u multiprocessors", (int)asked,
                      affinity.param.smCount.val);
        else
                CHECK(asked != CUDA_SUCCESS || affinity.type == CU_EXEC_AFFINITY_TYPE_SM_COUNT, "%d", (int)asked);
        CUexecAffinityParam wanted = {.type = CU_EXEC_AFFINITY_TYPE_SM_COUNT, .param.smCount.val = 1};
        CUcontext context;
        const CUresult made = cuCtxCreate_v3(&context, &wanted, 1, 0, device);
        CHECK(supported ? made == CUDA_SUCCESS : made == CUDA_ERROR_UNSUPPORTED_EXEC_AFFINITY,
              "execution affinity, supported %d: %d", supported, (int)made);
        if (made == CUDA_SUCCESS)
                CU(cuCtxDestroy_v2(context));

        int flushes = 0;
        CU(cuDeviceGetAttribute(&flushes, CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_FLUSH_WRITES_OPTIONS, device));
        if (getenv("IVGPU_CHANNEL") != NULL) /* a guest has no other device that could write there */
                CHECK(flushes == 0, "writes by RDMA can be flushed by 0x%x", (unsigned int)flushes);
        else if ((flushes & CU_FLUSH_GPU_DIRECT_RDMA_WRITES_OPTION_HOST) != 0)
                CU(cuFlushGPUDirectRDMAWrites(CU_FLUSH_GPU_DIRECT_RDMA_WRITES_TARGET_CURRENT_CTX,
                                              CU_FLUSH_GPU_DIRECT_RDMA_WRITES_TO_OWNER));
        else
                puts("skipped on this device: cuFlushGPUDirectRDMAWrites");
}

/* Attached as often as detached: it lives; once more: it ends. */
static void usage_counts(void)
{
        CUcontext context, attached;
        CUdeviceptr memory;
        CU(cuCtxCreate_v2(&context, 0, device));
        if (!test_supported(cuCtxAttach(&attached, 0), "cuCtxAttach")) {
                CU(cuCtxDestroy_v2(context));
                return;
        }
        CHECK(attached == context, "another context was attached");
        CU_EXPECT(CUDA_ERROR_INVALID_VALUE, cuCtxAttach(&attached, 1));
        CU(cuCtxDetach(context));
        CHECK(current() == context, "gone after one detach of two");
        CU(cuMemAlloc_v2(&memory, 4096));
        CU(cuMemsetD8_v2(memory, 1, 4096));
        CU(cuCtxSynchronize());
        CU(cuCtxDetach(context));
        CHECK(current() != context, "still there after the last detach");
}

/* ---- events of whole contexts ---- */

static CUdeviceptr flag;

static void hold(CUstream stream)
{
        CU(cuStreamWaitValue32_v2(stream, flag, 1, CU_STREAM_WAIT_VALUE_GEQ));
}

static void let_go(CUcontext from)
{
        CU(cuCtxPushCurrent_v2(from));
        CU(cuMemsetD32_v2(flag, 1, 1));
        CU(cuStreamSynchronize(NULL));
        CU(cuCtxPopCurrent_v2(NULL));
}

static void context_events(CUcontext primary)
{
        CUcontext context;
        CUstream a, b, late;
        CUevent event, foreign;
        CU(cuCtxSetCurrent(primary));
        CU(cuMemAlloc_v2(&flag, 4));
        CU(cuMemsetD32_v2(flag, 0, 1));
        CU(cuStreamSynchronize(NULL));
        CU(cuCtxCreate_v2(&context, 0, device));
        CU(cuStreamCreate(&a, CU_STREAM_NON_BLOCKING));
        CU(cuStreamCreate(&b, CU_STREAM_NON_BLOCKING));
        CU(cuEventCreate(&event, CU_EVENT_DISABLE_TIMING));
        CUdeviceptr gate, data;
        CU(cuMemAlloc_v2(&gate, 4));
        CU(cuMemAlloc_v2(&data, 4));
        CU(cuMemsetD32_v2(gate, 0, 1));
        CU(cuMemsetD32_v2(data, 0, 1));
        CU(cuCtxSynchronize());

        /* Recorded behind both streams, though only one is held. */
        CU(cuStreamWaitValue32_v2(a, gate, 1, CU_STREAM_WAIT_VALUE_GEQ));
        if (!test_supported(cuCtxRecordEvent(context, event), "cuCtxRecordEvent")) {
                CU(cuStreamWriteValue32_v2(b, gate, 1, CU_STREAM_WRITE_VALUE_DEFAULT));
                CU(cuCtxDestroy_v2(context));
                return;
        }
        CU_EXPECT(CUDA_ERROR_NOT_READY, cuEventQuery(event));
        CU(cuStreamWriteValue32_v2(b, gate, 1, CU_STREAM_WRITE_VALUE_DEFAULT));
        CU(cuEventSynchronize(event));
        CU(cuStreamQuery(a));

        /* An event of another stream holds up every stream of the context, also one that is made later. */
        CU(cuMemsetD32_v2(gate, 0, 1));
        CU(cuCtxSynchronize());
        CUstream holder;
        CU(cuCtxPushCurrent_v2(primary));
        CU(cuStreamCreate(&holder, CU_STREAM_NON_BLOCKING));
        CU(cuEventCreate(&foreign, CU_EVENT_DISABLE_TIMING));
        hold(holder);
        CU(cuEventRecord(foreign, holder));
        CU(cuCtxPopCurrent_v2(NULL));
        CU_EXPECT(CUDA_ERROR_INVALID_HANDLE, cuCtxRecordEvent(context, foreign));
        CU(cuCtxWaitEvent(context, foreign));
        CU(cuStreamCreate(&late, CU_STREAM_NON_BLOCKING));
        CU(cuMemsetD32Async(data, 5, 1, b));
        CU(cuMemsetD32Async(gate, 6, 1, late));
        CU_EXPECT(CUDA_ERROR_NOT_READY, cuStreamQuery(b));
        CU_EXPECT(CUDA_ERROR_NOT_READY, cuStreamQuery(late));
        let_go(primary);
        uint32_t seen[2] = {0, 0};
        CU(cuCtxSynchronize_v2(context));
        CU(cuMemcpyDtoH_v2(&seen[0], data, 4));
        CU(cuMemcpyDtoH_v2(&seen[1], gate, 4));
        CHECK(seen[0] == 5 && seen[1] == 6, "%u and %u behind the event", seen[0], seen[1]);
        CU(cuCtxDestroy_v2(context));
        CU(cuStreamDestroy_v2(holder));
        CU(cuEventDestroy_v2(foreign));
}

/* Reset ends what the context holds and forgets the retains (seen natively, driver 580, though cuda.h says that it does
 * not release): retained again it is fresh, and that retain's release ends it. */
static void resets(CUcontext primary)
{
        CUdeviceptr memory;
        unsigned state;
        int active;
        CUcontext again;
        CU(cuCtxSetCurrent(primary));
        CU(cuMemAlloc_v2(&memory, 1 << 20));
        CU(cuDevicePrimaryCtxReset(device));
        CU(cuDevicePrimaryCtxGetState(device, &state, &active));
        CHECK(active == 0, "active after a reset");
        CHECK(cuMemAlloc_v2(&memory, 4096) != CUDA_SUCCESS, "an allocation in a reset context");
        CU(cuDevicePrimaryCtxRetain(&again, device));
        CU(cuCtxSetCurrent(again));
        CU(cuMemAlloc_v2(&memory, 1 << 20));
        CU(cuMemsetD8_v2(memory, 1, 1 << 20));
        CU(cuCtxSynchronize());
        CU(cuDevicePrimaryCtxRelease(device));
        CU(cuDevicePrimaryCtxGetState(device, &state, &active));
        CHECK(active == 0, "active after the release of the only retain since the reset");
        /* "Safe" for whoever retained before the reset (cuda.h): what it answers is open, and nothing comes of it. */
        const CUresult late = cuDevicePrimaryCtxRelease(device);
        CHECK(late == CUDA_SUCCESS || late == CUDA_ERROR_INVALID_CONTEXT, "a release that comes late: %d", (int)late);
        CU(cuDevicePrimaryCtxGetState(device, &state, &active));
        CHECK(active == 0, "active after a release that came late");
}

int main(void)
{
        CUcontext primary;
        CU(cuInit(0));
        CU(cuDeviceGet(&device, 0));
        versions();
        CU(cuDevicePrimaryCtxRetain(&primary, device));
        flags(primary);
        settings();
        usage_counts();
        context_events(primary);
        resets(primary);
        puts("contexts: right");
        return 0;
}
