/* Everything that is neither a launch nor a copy: what a call costs its caller, by kind. */
#include "bench.h"

/* ---- answered where they are asked, natively too ---- */

static void get_device(struct bench *bench)
{
        CUdevice device;

        (void)bench;
        CU(cuCtxGetDevice(&device));
}

static void get_current(struct bench *bench)
{
        CUcontext context;

        (void)bench;
        CU(cuCtxGetCurrent(&context));
}

static void device_attribute(struct bench *bench)
{
        int value;

        CU(cuDeviceGetAttribute(&value, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, bench->device));
}

static void function_attribute(struct bench *bench)
{
        int value;

        CU(cuFuncGetAttribute(&value, CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK, bench->empty[0]));
}

static void is_capturing(struct bench *bench)
{
        CUstreamCaptureStatus status;

        CU(cuStreamIsCapturing(bench->stream, &status));
}

/* ---- recorded and returned ---- */

static void event_record(struct bench *bench)
{
        CU(cuEventRecord(bench->event, bench->stream));
}

static void stream_wait(struct bench *bench)
{
        CU(cuStreamWaitEvent(bench->stream, bench->event_done, 0));
}

static void set_4_kib(struct bench *bench)
{
        CU(cuMemsetD8Async(bench->memory, 1, 4096, bench->stream));
}

static void stream_life(struct bench *bench)
{
        CUstream stream;

        (void)bench;
        CU(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
        CU(cuStreamDestroy_v2(stream));
}

static void event_life(struct bench *bench)
{
        CUevent event;

        (void)bench;
        CU(cuEventCreate(&event, CU_EVENT_DISABLE_TIMING));
        CU(cuEventDestroy_v2(event));
}

/* ---- with nothing pending ---- */

static void stream_query(struct bench *bench)
{
        CU(cuStreamQuery(bench->stream));
}

static void event_query(struct bench *bench)
{
        CU(cuEventQuery(bench->event_done));
}

static void event_wait(struct bench *bench)
{
        CU(cuEventSynchronize(bench->event_done));
}

static void stream_wait_idle(struct bench *bench)
{
        CU(cuStreamSynchronize(bench->stream));
}

static void context_wait_idle(struct bench *bench)
{
        (void)bench;
        CU(cuCtxSynchronize());
}

static const struct bench_cost costs[] = {
        {"local_ctx_get_device", get_device, 10000, false},
        {"local_ctx_get_current", get_current, 10000, false},
        {"local_device_attribute", device_attribute, 10000, false},
        {"local_function_attribute", function_attribute, 10000, false},
        {"local_stream_is_capturing", is_capturing, 10000, false},
        {"async_event_record", event_record, 256, true},
        {"async_stream_wait_event", stream_wait, 256, true},
        {"async_memset_4KiB", set_4_kib, 256, true},
        {"stream_create_destroy", stream_life, 32, true},
        {"event_create_destroy", event_life, 64, true},
        {"idle_stream_query", stream_query, 100, false},
        {"idle_event_query", event_query, 100, false},
        {"idle_event_synchronize", event_wait, 100, false},
        {"idle_stream_synchronize", stream_wait_idle, 100, false},
        {"idle_ctx_synchronize", context_wait_idle, 100, false},
};

/* ---- round trips ---- */

static void memory_info(struct bench *bench)
{
        size_t free_bytes, total_bytes;

        (void)bench;
        CU(cuMemGetInfo_v2(&free_bytes, &total_bytes));
}

static void allocate_and_free(struct bench *bench)
{
        CUdeviceptr memory;

        (void)bench;
        CU(cuMemAlloc_v2(&memory, 1u << 20));
        CU(cuMemFree_v2(memory));
}

/* What tensor.item() does. */
static void read_4_bytes(struct bench *bench)
{
        CU(cuMemcpyDtoHAsync_v2(bench->pinned, bench->memory, 4, bench->stream));
        CU(cuStreamSynchronize(bench->stream));
}

static void write_4_bytes(struct bench *bench)
{
        CU(cuMemcpyHtoDAsync_v2(bench->memory, bench->pinned, 4, bench->stream));
        CU(cuStreamSynchronize(bench->stream));
}

static const struct bench_trip trips[] = {
        {"read_pinned_4_stream_sync", read_4_bytes, 0},
        {"write_pinned_4_stream_sync", write_4_bytes, 0},
        {"sync_mem_get_info", memory_info, 0},
        {"sync_alloc_free_1MiB", allocate_and_free, 0},
};

void bench_calls(struct bench *bench)
{
        bench_measure_costs(bench, costs, sizeof(costs) / sizeof(costs[0]));
        bench_measure_trips(bench, trips, sizeof(trips) / sizeof(trips[0]));
}
