/* Streams and events: order within and across streams, asynchrony, timing, special streams. */
#include "check.h"

static CUmodule module;

static void fill(CUdeviceptr out, uint32_t value, uint64_t count, CUstream stream)
{
        void *parameters[] = {&out, &value, &count};
        CU(cuLaunchKernel(test_function(module, "fill_u32"), 8, 1, 1, 64, 1, 1, 0, stream, parameters, NULL));
}

static void spin(CUdeviceptr out, uint32_t rounds, CUstream stream)
{
        uint32_t seed = 1;
        void *parameters[] = {&out, &seed, &rounds};
        CU(cuLaunchKernel(test_function(module, "spin_rounds"), 1, 1, 1, 32, 1, 1, 0, stream, parameters, NULL));
}

/* 2000 launches in one stream, each one adding: none lost, none twice. */
static void many_launches(void)
{
        CUdeviceptr counter;
        CUstream stream;
        uint32_t result;
        CU(cuMemAlloc_v2(&counter, 4));
        CU(cuMemsetD32_v2(counter, 0, 1));
        CU(cuStreamCreate(&stream, CU_STREAM_DEFAULT));
        CUfunction increment = test_function(module, "increment");
        void *parameters[] = {&counter};
        for (int i = 0; i < 2000; i++)
                CU(cuLaunchKernel(increment, 1, 1, 1, 32, 1, 1, 0, stream, parameters, NULL));
        CU(cuStreamSynchronize(stream));
        CU(cuMemcpyDtoH_v2(&result, counter, 4));
        CHECK(result == 2000 * 32, "%u increments of %u", result, 2000 * 32);
        CU(cuStreamDestroy_v2(stream));
        CU(cuMemFree_v2(counter));
}

/* Memory may be freed while queued kernels still use it: the free waits for them. */
static void free_behind_queued_work(void)
{
        CUstream stream;
        CUdeviceptr data;
        CU(cuStreamCreate(&stream, CU_STREAM_DEFAULT));
        CU(cuMemAlloc_v2(&data, 4096));
        for (int i = 0; i < 20; i++)
                spin(data, 200000, stream);
        CU(cuMemFree_v2(data));
        CU(cuStreamSynchronize(stream));
        CU(cuStreamDestroy_v2(stream));
}

/* Stream b waits for an event of stream a, behind a long kernel. */
static void wait_across_streams(void)
{
        enum { COUNT = 4096 };
        static uint32_t host[COUNT];
        CUstream a, b;
        CUevent event;
        CUdeviceptr slow, data, copy;
        CU(cuStreamCreate(&a, CU_STREAM_NON_BLOCKING));
        CU(cuStreamCreateWithPriority(&b, CU_STREAM_NON_BLOCKING, 0));
        CU(cuEventCreate(&event, CU_EVENT_DISABLE_TIMING));
        CU(cuMemAlloc_v2(&slow, 4096));
        CU(cuMemAlloc_v2(&data, COUNT * 4));
        CU(cuMemAlloc_v2(&copy, COUNT * 4));
        for (uint32_t round = 0; round < 5; round++) {
                spin(slow, 2000000, a);
                fill(data, round * 7, COUNT, a);
                CU(cuEventRecord(event, a));
                CU(cuStreamWaitEvent(b, event, 0));
                CU(cuMemcpyDtoDAsync_v2(copy, data, COUNT * 4, b));
                CU(cuMemcpyDtoHAsync_v2(host, copy, COUNT * 4, b));
                CU(cuStreamSynchronize(b));
                for (uint32_t i = 0; i < COUNT; i++)
                        CHECK(host[i] == round * 7 + i, "round %u, word %u is %u: b did not wait for a", round, i,
                              host[i]);
        }
        CU(cuEventDestroy_v2(event));
        CU(cuStreamDestroy_v2(a));
        CU(cuStreamDestroy_v2(b));
        CU(cuMemFree_v2(slow));
        CU(cuMemFree_v2(data));
        CU(cuMemFree_v2(copy));
}

static void events(void)
{
        CUevent start, end;
        CUdeviceptr out;
        float milliseconds = -1;
        CU(cuMemAlloc_v2(&out, 4096));
        CU(cuEventCreate(&start, CU_EVENT_DEFAULT));
        CU(cuEventCreate(&end, CU_EVENT_BLOCKING_SYNC));
        CU(cuEventQuery(start)); /* never recorded: complete */
        CU(cuEventRecord(start, NULL));
        spin(out, 3000000, NULL);
        CU(cuEventRecord(end, NULL));
        const CUresult busy = cuEventQuery(end);
        CHECK(busy == CUDA_SUCCESS || busy == CUDA_ERROR_NOT_READY, "cuEventQuery answered %d", (int)busy);
        CU(cuEventSynchronize(end));
        CU(cuEventQuery(end));
        CU(cuEventElapsedTime_v2(&milliseconds, start, end));
        CHECK(milliseconds > 0.01f && milliseconds < 60000, "elapsed time %g ms", (double)milliseconds);
        CU(cuEventDestroy_v2(start));
        CU(cuEventDestroy_v2(end));
        CU(cuMemFree_v2(out));
}

/* Legacy default stream orders with blocking streams; per-thread streams are streams of their own. */
static void default_streams(void)
{
        enum { COUNT = 1024 };
        static uint32_t host[COUNT];
        CUstream blocking;
        CUdeviceptr data, slow;
        CU(cuStreamCreate(&blocking, CU_STREAM_DEFAULT));
        CU(cuMemAlloc_v2(&data, COUNT * 4));
        CU(cuMemAlloc_v2(&slow, 4096));
        spin(slow, 2000000, blocking);
        fill(data, 5, COUNT, blocking);
        CU(cuMemcpyDtoH_v2(host, data, COUNT * 4)); /* on NULL: after the blocking stream's work */
        for (uint32_t i = 0; i < COUNT; i++)
                CHECK(host[i] == 5 + i, "word %u: the NULL stream overtook a blocking stream", i);
        fill(data, 9, COUNT, CU_STREAM_PER_THREAD);
        CU(cuStreamSynchronize(CU_STREAM_PER_THREAD));
        CU(cuMemcpyDtoH_v2(host, data, COUNT * 4));
        CHECK(host[3] == 12, "per-thread stream: %u", host[3]);
        fill(data, 20, COUNT, CU_STREAM_LEGACY);
        CU(cuStreamSynchronize(CU_STREAM_LEGACY));
        CU(cuStreamSynchronize(NULL));
        CU(cuMemcpyDtoH_v2(host, data, COUNT * 4));
        CHECK(host[0] == 20, "legacy stream: %u", host[0]);
        CU(cuStreamQuery(blocking));
        unsigned flags;
        int priority;
        CUcontext context, current;
        CU(cuStreamGetFlags(blocking, &flags));
        CHECK(flags == CU_STREAM_DEFAULT, "flags %u", flags);
        CU(cuStreamGetPriority(blocking, &priority));
        CU(cuStreamGetCtx(blocking, &context));
        CU(cuCtxGetCurrent(&current));
        CHECK(context == current, "a stream's context %p, current %p", (void *)context, (void *)current);
        CU(cuStreamDestroy_v2(blocking));
        CU(cuMemFree_v2(data));
        CU(cuMemFree_v2(slow));
}

int main(void)
{
        test_context();
        module = test_module();
        many_launches();
        free_behind_queued_work();
        wait_across_streams();
        events();
        default_streams();
        puts("streams: right");
        return 0;
}
