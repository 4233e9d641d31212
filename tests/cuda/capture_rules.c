/* Which calls a stream capture allows beside it, from the capturing thread and from another one, in each mode: a table
 * of what each answers and whether the capture goes on. What it must be is the driver's to say: natively and through
 * ivgpu the tables are compared. Fixed here: a relaxed thread's calls, and a call on a stream that captures nothing,
 * spoil no capture. */
#include "check.h"
#include <pthread.h>
#include <stdbool.h>

enum call {
        EVENT_CREATE,
        EVENT_DESTROY,
        EVENT_QUERY,
        EVENT_SYNCHRONIZE,
        EVENT_ELAPSED,
        EVENT_RECORD,
        STREAM_CREATE,
        STREAM_DESTROY,
        STREAM_QUERY,
        STREAM_SYNCHRONIZE,
        MEMSET_ELSEWHERE,
        MEM_ALLOC,
        MEM_FREE,
        MEM_HOST_ALLOC,
        MEM_HOST_FREE,
        MEM_GET_INFO,
        MEM_COPY_DOWN,
        MODULE_LOAD,
        CALLS
};
static const char *const names[CALLS] = {
        "cuEventCreate",    "cuEventDestroy", "cuEventQuery",     "cuEventSynchronize", "cuEventElapsedTime",
        "cuEventRecord",    "cuStreamCreate", "cuStreamDestroy",  "cuStreamQuery",      "cuStreamSynchronize",
        "cuMemsetD32Async", "cuMemAlloc",     "cuMemFree",        "cuMemHostAlloc",     "cuMemFreeHost",
        "cuMemGetInfo",     "cuMemcpyDtoH",   "cuModuleLoadData",
};

static CUcontext context;
static CUstream capturing, other;
static CUdeviceptr memory;
static CUevent done[2];

/* What a call ends, made before the capture; what it makes, ended after it. */
static struct {
        CUevent event;
        CUstream stream;
        CUdeviceptr memory;
        void *pinned;
        CUmodule module;
} thing;

static void prepare(enum call call)
{
        memset(&thing, 0, sizeof(thing));
        CU(cuStreamSynchronize(other)); /* a query is to find nothing pending */
        if (call == EVENT_DESTROY || call == EVENT_RECORD)
                CU(cuEventCreate(&thing.event, 0));
        if (call == STREAM_DESTROY)
                CU(cuStreamCreate(&thing.stream, CU_STREAM_NON_BLOCKING));
        if (call == MEM_FREE)
                CU(cuMemAlloc_v2(&thing.memory, 4096));
        if (call == MEM_HOST_FREE)
                CU(cuMemHostAlloc(&thing.pinned, 4096, 0));
}

static CUresult make(enum call call)
{
        static uint32_t word;
        size_t unused[2];
        float ms;

        switch (call) {
        case EVENT_CREATE:
                return cuEventCreate(&thing.event, 0);
        case EVENT_DESTROY:
                return cuEventDestroy_v2(thing.event);
        case EVENT_QUERY:
                return cuEventQuery(done[1]);
        case EVENT_SYNCHRONIZE:
                return cuEventSynchronize(done[1]);
        case EVENT_ELAPSED:
                return cuEventElapsedTime(&ms, done[0], done[1]);
        case EVENT_RECORD:
                return cuEventRecord(thing.event, other);
        case STREAM_CREATE:
                return cuStreamCreate(&thing.stream, CU_STREAM_NON_BLOCKING);
        case STREAM_DESTROY:
                return cuStreamDestroy_v2(thing.stream);
        case STREAM_QUERY:
                return cuStreamQuery(other);
        case STREAM_SYNCHRONIZE:
                return cuStreamSynchronize(other);
        case MEMSET_ELSEWHERE:
                return cuMemsetD32Async(memory, 1, 16, other);
        case MEM_ALLOC:
                return cuMemAlloc_v2(&thing.memory, 4096);
        case MEM_FREE:
                return cuMemFree_v2(thing.memory);
        case MEM_HOST_ALLOC:
                return cuMemHostAlloc(&thing.pinned, 4096, 0);
        case MEM_HOST_FREE:
                return cuMemFreeHost(thing.pinned);
        case MEM_GET_INFO:
                return cuMemGetInfo_v2(&unused[0], &unused[1]);
        case MEM_COPY_DOWN:
                return cuMemcpyDtoH_v2(&word, memory, sizeof(word));
        case MODULE_LOAD:
                return cuModuleLoadData(&thing.module, test_kernels_ptx);
        default:
                return CUDA_ERROR_INVALID_VALUE;
        }
}

/* Whatever is there afterwards. */
static void clean(enum call call, CUresult result)
{
        const bool ends = call == EVENT_DESTROY || call == STREAM_DESTROY || call == MEM_FREE || call == MEM_HOST_FREE;

        if (ends ? result == CUDA_SUCCESS : call != EVENT_RECORD && result != CUDA_SUCCESS)
                return;
        if (thing.event)
                CU(cuEventDestroy_v2(thing.event));
        if (thing.stream)
                CU(cuStreamDestroy_v2(thing.stream));
        if (thing.memory)
                CU(cuMemFree_v2(thing.memory));
        if (thing.pinned)
                CU(cuMemFreeHost(thing.pinned));
        if (thing.module)
                CU(cuModuleUnload(thing.module));
}

struct asked {
        enum call call;
        CUstreamCaptureMode mode; /* of the thread */
        CUresult result;
};

static void *make_in_mode(void *argument)
{
        struct asked *asked = argument;
        CUstreamCaptureMode mode = asked->mode;

        CU(cuCtxSetCurrent(context));
        CU(cuThreadExchangeStreamCaptureMode(&mode));
        asked->result = make(asked->call);
        CU(cuThreadExchangeStreamCaptureMode(&mode));
        return NULL;
}

static void one(enum call call, CUstreamCaptureMode capture_mode, bool another_thread, CUstreamCaptureMode thread_mode)
{
        struct asked asked = {.call = call, .mode = thread_mode};
        CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
        CUgraph graph = NULL;
        CUresult ended;
        pthread_t thread;

        prepare(call);
        CU(cuStreamBeginCapture_v2(capturing, capture_mode));
        CU(cuMemsetD32Async(memory, 7, 16, capturing));
        if (another_thread) {
                CHECK(pthread_create(&thread, NULL, make_in_mode, &asked) == 0, "no thread");
                CHECK(pthread_join(thread, NULL) == 0, "no end");
        } else {
                (void)make_in_mode(&asked);
        }
        CU(cuStreamIsCapturing(capturing, &status));
        ended = cuStreamEndCapture(capturing, &graph);
        printf("  %3d %s", (int)asked.result, status == CU_STREAM_CAPTURE_STATUS_ACTIVE ? "kept  " : "spoilt");
        CHECK((ended == CUDA_SUCCESS) == (status == CU_STREAM_CAPTURE_STATUS_ACTIVE), "capture status %d, its end %d",
              (int)status, (int)ended);
        CHECK(status == CU_STREAM_CAPTURE_STATUS_ACTIVE || thread_mode != CU_STREAM_CAPTURE_MODE_RELAXED,
              "%s of a relaxed thread spoilt the capture", names[call]);
        if (graph)
                CU(cuGraphDestroy(graph));
        clean(call, asked.result);
}

int main(void)
{
        static const CUstreamCaptureMode global = CU_STREAM_CAPTURE_MODE_GLOBAL,
                                         local = CU_STREAM_CAPTURE_MODE_THREAD_LOCAL,
                                         relaxed = CU_STREAM_CAPTURE_MODE_RELAXED;
        context = test_context();
        CU(cuStreamCreate(&capturing, CU_STREAM_NON_BLOCKING));
        CU(cuStreamCreate(&other, CU_STREAM_NON_BLOCKING));
        CU(cuMemAlloc_v2(&memory, 4096));
        for (int i = 0; i < 2; i++) {
                CU(cuEventCreate(&done[i], 0));
                CU(cuEventRecord(done[i], other));
        }
        CU(cuStreamSynchronize(other));
        printf("%-20s  %-10s  %-10s  %-10s  %-10s  %-10s\n", "capture:", "global", "local", "relaxed", "global",
               "global");
        printf("%-20s  %-10s  %-10s  %-10s  %-10s  %-10s\n", "called by:", "itself", "itself", "itself", "another",
               "a relaxed");
        for (int i = 0; i < CALLS; i++) {
                printf("%-20s", names[i]);
                one((enum call)i, global, false, global);
                one((enum call)i, local, false, global);
                one((enum call)i, relaxed, false, global);
                one((enum call)i, global, true, global);
                one((enum call)i, global, true, relaxed);
                puts("");
        }
        CU(cuMemFree_v2(memory));
        return 0;
}
