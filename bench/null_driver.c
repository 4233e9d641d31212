/* A libcuda for the executor whose calls do nothing: what remains of a call's time is ours. Device memory is this
 * process's memory, so that copies are real; everything is done when its call returns.
 *
 * One kernel does something, `hold`: its launch returns when the word its parameter points to (pinned memory, which the
 * program has at the same address) is no longer zero. It plays a driver whose queue is full, and keeps the executor's
 * consumer awake and off the ring for as long as the program likes. NULL_DRIVER_LAUNCH_NS in the executor's environment
 * is the processor time of every launch, as a real driver takes some: what a launch takes beyond that is ours. */
#include "cuda_api.h"
#include "ivgpu/atomics.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define HOLD_SECONDS_MAX 60
#define BLOCKS_MAX 256u
#define NODES_MAX 64u
#define CALIBRATION_NS 20000000u

/* ---- the device ---- */

CUresult cuInit(unsigned int Flags)
{
        (void)Flags;
        return CUDA_SUCCESS;
}

CUresult cuDriverGetVersion(int *driverVersion)
{
        *driverVersion = 13000;
        return CUDA_SUCCESS;
}

CUresult cuDeviceGetCount(int *count)
{
        *count = 1;
        return CUDA_SUCCESS;
}

CUresult cuDeviceGet(CUdevice *device, int ordinal)
{
        *device = ordinal;
        return ordinal == 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

CUresult cuDeviceGetName(char *name, int len, CUdevice dev)
{
        (void)dev;
        snprintf(name, (size_t)len, "null device");
        return CUDA_SUCCESS;
}

CUresult cuDeviceGetUuid_v2(CUuuid *uuid, CUdevice dev)
{
        (void)dev;
        memset(uuid, 7, sizeof(*uuid));
        return CUDA_SUCCESS;
}

CUresult cuDeviceGetPCIBusId(char *pciBusId, int len, CUdevice dev)
{
        (void)dev;
        snprintf(pciBusId, (size_t)len, "0000:00:00.0");
        return CUDA_SUCCESS;
}

CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice dev)
{
        (void)dev;
        *bytes = (size_t)1 << 30;
        return CUDA_SUCCESS;
}

CUresult cuDeviceGetAttribute(int *pi, CUdevice_attribute attrib, CUdevice dev)
{
        (void)dev;
        switch (attrib) {
        case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X:
        case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y:
        case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z:
        case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X:
        case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y:
        case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z:
                *pi = 1024;
                return CUDA_SUCCESS;
        default:
                *pi = 1;
                return CUDA_SUCCESS;
        }
}

CUresult cuMemGetInfo_v2(size_t *free, size_t *total)
{
        *free = *total = (size_t)1 << 30;
        return CUDA_SUCCESS;
}

/* ---- contexts, streams, events: numbers ---- */

static CUresult number(void *out)
{
        static _Atomic(uint64_t) last = 0x1000;
        const uint64_t next = ++last;

        memcpy(out, &next, sizeof(next));
        return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRetain(CUcontext *pctx, CUdevice dev)
{
        (void)dev;
        return number(pctx);
}

CUresult cuStreamCreate(CUstream *phStream, unsigned int Flags)
{
        (void)Flags;
        return number(phStream);
}

CUresult cuStreamCreateWithPriority(CUstream *phStream, unsigned int flags, int priority)
{
        (void)flags;
        (void)priority;
        return number(phStream);
}

CUresult cuEventCreate(CUevent *phEvent, unsigned int Flags)
{
        (void)Flags;
        return number(phEvent);
}

/* What is done when it returns, with nothing to do. */
#define DOES_NOTHING_1(name, type)   \
        CUresult name(type argument) \
        {                            \
                (void)argument;      \
                return CUDA_SUCCESS; \
        }
DOES_NOTHING_1(cuDevicePrimaryCtxRelease_v2, CUdevice)
DOES_NOTHING_1(cuCtxDestroy_v2, CUcontext)
DOES_NOTHING_1(cuCtxSetCurrent, CUcontext)
DOES_NOTHING_1(cuStreamDestroy_v2, CUstream)
DOES_NOTHING_1(cuStreamSynchronize, CUstream)
DOES_NOTHING_1(cuStreamQuery, CUstream)
DOES_NOTHING_1(cuEventDestroy_v2, CUevent)
DOES_NOTHING_1(cuEventQuery, CUevent)
DOES_NOTHING_1(cuEventSynchronize, CUevent)
DOES_NOTHING_1(cuModuleUnload, CUmodule)
DOES_NOTHING_1(cuMemHostUnregister, void *)

CUresult cuCtxSynchronize(void)
{
        return CUDA_SUCCESS;
}

CUresult cuCtxGetDevice(CUdevice *device)
{
        *device = 0;
        return CUDA_SUCCESS;
}

CUresult cuEventRecord(CUevent hEvent, CUstream hStream)
{
        (void)hEvent;
        (void)hStream;
        return CUDA_SUCCESS;
}

CUresult cuStreamWaitEvent(CUstream hStream, CUevent hEvent, unsigned int Flags)
{
        (void)hStream;
        (void)hEvent;
        (void)Flags;
        return CUDA_SUCCESS;
}

CUresult cuStreamWriteValue64_v2(CUstream stream, CUdeviceptr addr, cuuint64_t value, unsigned int flags)
{
        (void)stream;
        (void)flags;
        ivg_store_release_u64((_Atomic(uint64_t) *)(uintptr_t)addr, value);
        return CUDA_SUCCESS;
}

/* ---- kernels: known by name ---- */

static const struct kernel {
        const char *name;
        uint32_t count;
        uint32_t bytes[6];
} kernels[] = {
        {"empty_0", 0, {0}},
        {"empty_1", 1, {8}},
        {"empty_6", 6, {8, 8, 8, 4, 4, 4}},
        {"hold", 1, {8}},
};
#define KERNEL_HOLD 3u

static const struct kernel *kernel_of(CUfunction function)
{
        return (const struct kernel *)(const void *)function;
}

CUresult cuModuleLoadDataEx(CUmodule *module, const void *image, unsigned int numOptions, CUjit_option *options,
                            void **optionValues)
{
        (void)image;
        (void)numOptions;
        (void)options;
        (void)optionValues;
        return number(module);
}

CUresult cuModuleGetFunction(CUfunction *hfunc, CUmodule hmod, const char *name)
{
        (void)hmod;
        for (size_t i = 0; i < sizeof(kernels) / sizeof(kernels[0]); i++)
                if (strcmp(kernels[i].name, name) == 0) {
                        *hfunc = (CUfunction)(uintptr_t)&kernels[i];
                        return CUDA_SUCCESS;
                }
        return CUDA_ERROR_NOT_FOUND;
}

CUresult cuFuncGetParamInfo(CUfunction func, size_t paramIndex, size_t *paramOffset, size_t *paramSize)
{
        const struct kernel *kernel = kernel_of(func);
        size_t offset = 0;

        if (paramIndex >= kernel->count)
                return CUDA_ERROR_INVALID_VALUE;
        for (size_t i = 0; i < paramIndex; i++)
                offset += kernel->bytes[i];
        *paramOffset = offset;
        *paramSize = kernel->bytes[paramIndex];
        return CUDA_SUCCESS;
}

CUresult cuFuncGetAttribute(int *pi, CUfunction_attribute attrib, CUfunction hfunc)
{
        (void)hfunc;
        *pi = attrib == CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_WIDTH ? 0 : 1024;
        return CUDA_SUCCESS;
}

/* Looks a thousand times a second: it holds for the program's sake, not for a figure. */
static CUresult hold(const _Atomic(uint32_t) *word)
{
        const struct timespec pause = {.tv_nsec = 1000000};

        for (uint32_t i = 0; i < HOLD_SECONDS_MAX * 1000u; i++) {
                if (ivg_load_acquire_u32(word) != 0)
                        return CUDA_SUCCESS;
                nanosleep(&pause, NULL);
        }
        return CUDA_ERROR_LAUNCH_TIMEOUT;
}

static uint64_t launch_cycles;

static uint64_t now_ns(void)
{
        struct timespec now;

        clock_gettime(CLOCK_MONOTONIC, &now);
        return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* In cycles of the time stamp counter: asking the clock takes a tenth of a microsecond on some machines. */
__attribute__((constructor)) static void read_environment(void)
{
        const char *text = getenv("NULL_DRIVER_LAUNCH_NS");
        const uint64_t begin_ns = now_ns(), begin = __builtin_ia32_rdtsc();
        uint64_t ns;

        if (!text)
                return;
        while ((ns = now_ns() - begin_ns) < CALIBRATION_NS)
                continue;
        launch_cycles = strtoull(text, NULL, 10) * (__builtin_ia32_rdtsc() - begin) / ns;
}

static CUresult take_time(void)
{
        for (const uint64_t end = __builtin_ia32_rdtsc() + launch_cycles; __builtin_ia32_rdtsc() < end;)
                continue;
        return CUDA_SUCCESS;
}

/* The word that a launch of `hold` waits for; NULL: another kernel. */
static const _Atomic(uint32_t) *held_word(CUfunction function, void *const *extra)
{
        const _Atomic(uint32_t) *word = NULL;

        if (kernel_of(function) == &kernels[KERNEL_HOLD])
                memcpy(&word, extra[1], sizeof(word));
        return word;
}

static inline CUresult run(const _Atomic(uint32_t) *word)
{
        if (word)
                return hold(word);
        return launch_cycles != 0 ? take_time() : CUDA_SUCCESS;
}

CUresult cuLaunchKernel(CUfunction f, unsigned int gridDimX, unsigned int gridDimY, unsigned int gridDimZ,
                        unsigned int blockDimX, unsigned int blockDimY, unsigned int blockDimZ,
                        unsigned int sharedMemBytes, CUstream hStream, void **kernelParams, void **extra)
{
        (void)gridDimX, (void)gridDimY, (void)gridDimZ, (void)blockDimX, (void)blockDimY, (void)blockDimZ;
        (void)sharedMemBytes, (void)hStream, (void)kernelParams;
        return run(held_word(f, extra));
}

/* ---- graphs of kernels: a node is its number from 1 on, an executable graph a copy ---- */

struct graph {
        uint32_t count;
        const _Atomic(uint32_t) *held[NODES_MAX];
};

CUresult cuGraphCreate(CUgraph *phGraph, unsigned int flags)
{
        (void)flags;
        *phGraph = calloc(1, sizeof(struct graph));
        return *phGraph ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult cuGraphDestroy(CUgraph hGraph)
{
        free(hGraph);
        return CUDA_SUCCESS;
}

CUresult cuGraphAddKernelNode_v2(CUgraphNode *phGraphNode, CUgraph hGraph, const CUgraphNode *dependencies,
                                 size_t numDependencies, const CUDA_KERNEL_NODE_PARAMS *nodeParams)
{
        struct graph *graph = (struct graph *)(void *)hGraph;

        (void)dependencies;
        (void)numDependencies;
        if (graph->count == NODES_MAX)
                return CUDA_ERROR_NOT_SUPPORTED;
        graph->held[graph->count++] = held_word(nodeParams->func, nodeParams->extra);
        *phGraphNode = (CUgraphNode)(uintptr_t)graph->count;
        return CUDA_SUCCESS;
}

CUresult cuGraphInstantiateWithFlags(CUgraphExec *phGraphExec, CUgraph hGraph, unsigned long long flags)
{
        struct graph *copy = malloc(sizeof(*copy));

        (void)flags;
        if (!copy)
                return CUDA_ERROR_OUT_OF_MEMORY;
        *copy = *(const struct graph *)(const void *)hGraph;
        *phGraphExec = (CUgraphExec)(void *)copy;
        return CUDA_SUCCESS;
}

CUresult cuGraphExecDestroy(CUgraphExec hGraphExec)
{
        free(hGraphExec);
        return CUDA_SUCCESS;
}

CUresult cuGraphExecKernelNodeSetParams_v2(CUgraphExec hGraphExec, CUgraphNode hNode,
                                           const CUDA_KERNEL_NODE_PARAMS *nodeParams)
{
        struct graph *graph = (struct graph *)(void *)hGraphExec;

        graph->held[(uintptr_t)hNode - 1] = held_word(nodeParams->func, nodeParams->extra);
        return CUDA_SUCCESS;
}

CUresult cuGraphLaunch(CUgraphExec hGraphExec, CUstream hStream)
{
        const struct graph *graph = (const struct graph *)(const void *)hGraphExec;
        CUresult result = CUDA_SUCCESS;

        (void)hStream;
        for (uint32_t i = 0; i < graph->count && result == CUDA_SUCCESS; i++)
                result = run(graph->held[i]);
        return result;
}

/* ---- memory ---- */

static struct {
        pthread_mutex_t mutex;
        struct {
                uint64_t start, bytes;
        } blocks[BLOCKS_MAX];
} memory = {.mutex = PTHREAD_MUTEX_INITIALIZER};

/* The block around an address; under the mutex. -1: none. With bytes 0: a free place. */
static int find_block(uint64_t address)
{
        for (int i = 0; i < (int)BLOCKS_MAX; i++)
                if (address ? address - memory.blocks[i].start < memory.blocks[i].bytes : !memory.blocks[i].bytes)
                        return i;
        return -1;
}

CUresult cuMemAlloc_v2(CUdeviceptr *dptr, size_t bytesize)
{
        void *block = malloc(bytesize);
        int place;

        if (!block)
                return CUDA_ERROR_OUT_OF_MEMORY;
        pthread_mutex_lock(&memory.mutex);
        place = find_block(0);
        if (place >= 0) {
                memory.blocks[place].start = (uintptr_t)block;
                memory.blocks[place].bytes = bytesize;
        }
        pthread_mutex_unlock(&memory.mutex);
        *dptr = (uintptr_t)block;
        if (place >= 0)
                return CUDA_SUCCESS;
        free(block);
        return CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult cuMemFree_v2(CUdeviceptr dptr)
{
        int place;

        pthread_mutex_lock(&memory.mutex);
        place = find_block(dptr);
        if (place >= 0)
                memory.blocks[place].bytes = 0;
        pthread_mutex_unlock(&memory.mutex);
        if (place < 0)
                return CUDA_ERROR_INVALID_VALUE;
        free((void *)(uintptr_t)dptr);
        return CUDA_SUCCESS;
}

CUresult cuMemGetAddressRange_v2(CUdeviceptr *pbase, size_t *psize, CUdeviceptr dptr)
{
        int place;

        pthread_mutex_lock(&memory.mutex);
        place = find_block(dptr);
        if (place >= 0) {
                *pbase = memory.blocks[place].start;
                *psize = memory.blocks[place].bytes;
        }
        pthread_mutex_unlock(&memory.mutex);
        return place >= 0 ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
}

CUresult cuMemHostRegister_v2(void *p, size_t bytesize, unsigned int Flags)
{
        (void)p;
        (void)bytesize;
        (void)Flags;
        return CUDA_SUCCESS;
}

CUresult cuMemHostGetDevicePointer_v2(CUdeviceptr *pdptr, void *p, unsigned int Flags)
{
        (void)Flags;
        *pdptr = (uintptr_t)p;
        return CUDA_SUCCESS;
}

CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr dstDevice, const void *srcHost, size_t ByteCount, CUstream hStream)
{
        (void)hStream;
        memcpy((void *)(uintptr_t)dstDevice, srcHost, ByteCount);
        return CUDA_SUCCESS;
}

CUresult cuMemcpyDtoHAsync_v2(void *dstHost, CUdeviceptr srcDevice, size_t ByteCount, CUstream hStream)
{
        (void)hStream;
        memcpy(dstHost, (const void *)(uintptr_t)srcDevice, ByteCount);
        return CUDA_SUCCESS;
}

CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr dstDevice, CUdeviceptr srcDevice, size_t ByteCount, CUstream hStream)
{
        (void)hStream;
        memcpy((void *)(uintptr_t)dstDevice, (const void *)(uintptr_t)srcDevice, ByteCount);
        return CUDA_SUCCESS;
}

CUresult cuMemsetD8Async(CUdeviceptr dstDevice, unsigned char uc, size_t N, CUstream hStream)
{
        (void)hStream;
        memset((void *)(uintptr_t)dstDevice, uc, N);
        return CUDA_SUCCESS;
}
