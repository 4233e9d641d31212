/* What programs ask constantly is answered without a record: a thousand of each, counted by the library's own counter.
 * Natively there is no such counter, and only the answers are checked. */
#include "check.h"
#include "management.h"

enum { TIMES = 1000 };

static const struct ivg_management *management; /* NULL: another driver */

static uint64_t records(void)
{
        return management != NULL ? management->records() : 0;
}

/* The first of each may ask the host; then `TIMES` more send nothing. */
#define NO_RECORDS(call)                                                                                             \
        do {                                                                                                         \
                CU(call);                                                                                            \
                const uint64_t before_ = records();                                                                  \
                for (int i_ = 0; i_ < TIMES; i_++)                                                                   \
                        CU(call);                                                                                    \
                CHECK(records() == before_, "%d of %s sent %" PRIu64 " records", TIMES, #call, records() - before_); \
        } while (0)

static void contexts(CUcontext context)
{
        CUdevice device;
        CUcontext current;
        unsigned flags, version;
        int active, driver, value, least, greatest;
        size_t limit;
        unsigned long long id;
        NO_RECORDS(cuCtxGetDevice(&device));
        NO_RECORDS(cuCtxGetDevice_v2(&device, context));
        NO_RECORDS(cuDevicePrimaryCtxGetState(0, &flags, &active));
        NO_RECORDS(cuCtxGetCurrent(&current));
        CHECK(device == 0 && active == 1 && current == context, "device %d, active %d", device, active);
        NO_RECORDS(cuCtxSetCurrent(context));
        const uint64_t before = records();
        for (int i = 0; i < TIMES; i++) {
                CU(cuCtxPushCurrent_v2(context));
                CU(cuCtxPopCurrent_v2(&current));
        }
        CHECK(records() == before, "pushing and popping sent records");
        NO_RECORDS(cuCtxGetLimit(&limit, CU_LIMIT_STACK_SIZE));
        NO_RECORDS(cuCtxGetLimit(&limit, CU_LIMIT_MALLOC_HEAP_SIZE));
        NO_RECORDS(cuCtxGetFlags(&flags));
        NO_RECORDS(cuCtxGetApiVersion(context, &version));
        NO_RECORDS(cuCtxGetId(context, &id));
        NO_RECORDS(cuCtxGetStreamPriorityRange(&least, &greatest));
        NO_RECORDS(cuDriverGetVersion(&driver));
        NO_RECORDS(cuDeviceGet(&device, 0));
        NO_RECORDS(cuDeviceGetCount(&value));
        NO_RECORDS(cuDeviceGetAttribute(&value, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, 0));
        CHECK(value >= 1 && driver >= 11000, "%d multiprocessors, driver %d", value, driver);
}

static void kernels(void)
{
        CUlibrary library;
        CUkernel kernel;
        CUfunction function;
        CUmodule module = test_module();
        const char *text;
        int value;
        size_t offset, bytes;
        CU(cuLibraryLoadData(&library, test_kernels_ptx, NULL, NULL, 0, NULL, NULL, 0));
        CU(cuLibraryGetKernel(&kernel, library, "shared_reverse"));
        NO_RECORDS(cuKernelGetAttribute(&value, CU_FUNC_ATTRIBUTE_NUM_REGS, kernel, 0));
        NO_RECORDS(cuKernelGetFunction(&function, kernel));
        NO_RECORDS(cuKernelSetAttribute(CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 32768, kernel, 0));
        NO_RECORDS(cuKernelGetAttribute(&value, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, kernel, 0));
        CHECK(value == 32768, "the attribute is %d after it was set to 32768", value);
        NO_RECORDS(cuKernelGetParamInfo(kernel, 0, &offset, &bytes));
        NO_RECORDS(cuFuncGetParamInfo(function, 0, &offset, &bytes));
        NO_RECORDS(cuFuncGetAttribute(&value, CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK, function));
        NO_RECORDS(cuLibraryGetKernel(&kernel, library, "shared_reverse"));
        NO_RECORDS(cuModuleGetFunction(&function, module, "increment"));
        NO_RECORDS(cuOccupancyMaxActiveBlocksPerMultiprocessor(&value, function, 128, 0));
        NO_RECORDS(cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(&value, function, 128, 1024,
                                                                        CU_OCCUPANCY_DEFAULT));
        CHECK(value >= 1, "%d blocks", value);
        NO_RECORDS(cuGetErrorName(CUDA_ERROR_INVALID_VALUE, &text));
        CHECK(strcmp(text, "CUDA_ERROR_INVALID_VALUE") == 0, "%s", text);
        NO_RECORDS(cuGetErrorString(CUDA_ERROR_OUT_OF_MEMORY, &text));
        CHECK(strlen(text) > 5, "%s", text);
}

static void streams_and_memory(void)
{
        CUstream stream;
        CUstreamCaptureStatus status;
        CUcontext context;
        CUdeviceptr memory, base;
        size_t bytes;
        unsigned flags;
        int priority, ordinal;
        unsigned long long id;
        CU(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
        CU(cuMemAlloc_v2(&memory, 1 << 16));
        NO_RECORDS(cuStreamIsCapturing(stream, &status));
        NO_RECORDS(cuStreamIsCapturing(NULL, &status));
        NO_RECORDS(cuStreamGetFlags(stream, &flags));
        NO_RECORDS(cuStreamGetPriority(stream, &priority));
        NO_RECORDS(cuStreamGetCtx(stream, &context));
        NO_RECORDS(cuStreamGetId(stream, &id));
        NO_RECORDS(cuPointerGetAttribute(&ordinal, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, memory + 100));
        NO_RECORDS(cuMemGetAddressRange_v2(&base, &bytes, memory + 100));
        CHECK(status == CU_STREAM_CAPTURE_STATUS_NONE && flags == CU_STREAM_NON_BLOCKING, "%d, %u", (int)status, flags);
        CHECK(base == memory && bytes == 1 << 16 && ordinal == 0, "%zu bytes", bytes);
        CU(cuStreamDestroy_v2(stream));
        CU(cuMemFree_v2(memory));
}

/* One record each, and none of them waits: creation is the guest's, and the host hears of it in order. */
static void creation(void)
{
        static CUstream streams[TIMES];
        static CUevent events[TIMES];
        const uint64_t before = records();
        const uint64_t waits = management != NULL ? management->waits() : 0;
        for (int i = 0; i < TIMES; i++) {
                CU(cuStreamCreate(&streams[i], CU_STREAM_NON_BLOCKING));
                CU(cuEventCreate(&events[i], CU_EVENT_DISABLE_TIMING));
        }
        CHECK(management == NULL || (records() - before == 2 * TIMES && management->waits() == waits),
              "%d streams and events: %" PRIu64 " records", TIMES, records() - before);
        for (int i = 0; i < TIMES; i++) {
                CU(cuEventRecord(events[i], streams[i]));
                CU(cuStreamDestroy_v2(streams[i]));
                CU(cuEventDestroy_v2(events[i]));
        }
        CHECK(management == NULL || management->waits() == waits, "recording or destroying waited");
        CU(cuCtxSynchronize());
}

int main(void)
{
        CUcontext context = test_context();
        const void *table = NULL;
        CUuuid uuid;
        memcpy(&uuid, ivg_management_uuid, sizeof uuid);
        if (cuGetExportTable(&table, &uuid) == CUDA_SUCCESS)
                management = table;
        CHECK(management == NULL || management->bytes == sizeof *management, "a table of %zu bytes", management->bytes);
        contexts(context);
        kernels();
        streams_and_memory();
        creation();
        puts("queries: right, and where records are counted, without one");
        return 0;
}
