#include "path_walk.h"
#include "ivgpu/cuda_abi.h"
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define COPY_TRIES 3u /* the best counts: the first touches memory for the first time */

/* a[i] = a[i] * 3 + i, for 32-bit words */
static const char kernel_ptx[] = ".version 6.4\n"
                                 ".target sm_75\n"
                                 ".address_size 64\n"
                                 ".visible .entry ivgpu_doctor(.param .u64 words, .param .u32 count)\n"
                                 "{\n"
                                 "  .reg .pred %p1;\n"
                                 "  .reg .b32 %r<8>;\n"
                                 "  .reg .b64 %rd<4>;\n"
                                 "  ld.param.u64 %rd1, [words];\n"
                                 "  ld.param.u32 %r1, [count];\n"
                                 "  mov.u32 %r2, %ctaid.x;\n"
                                 "  mov.u32 %r3, %ntid.x;\n"
                                 "  mov.u32 %r4, %tid.x;\n"
                                 "  mad.lo.s32 %r5, %r2, %r3, %r4;\n"
                                 "  setp.ge.u32 %p1, %r5, %r1;\n"
                                 "  @%p1 bra end;\n"
                                 "  cvta.to.global.u64 %rd2, %rd1;\n"
                                 "  mul.wide.u32 %rd3, %r5, 4;\n"
                                 "  add.s64 %rd2, %rd2, %rd3;\n"
                                 "  ld.global.u32 %r6, [%rd2];\n"
                                 "  mad.lo.s32 %r7, %r6, 3, %r5;\n"
                                 "  st.global.u32 [%rd2], %r7;\n"
                                 "end:\n"
                                 "  ret;\n"
                                 "}\n";

static struct {
        CUresult (*cuInit)(unsigned int);
        CUresult (*cuDriverGetVersion)(int *);
        CUresult (*cuDeviceGetCount)(int *);
        CUresult (*cuDeviceGetName)(char *, int, CUdevice);
        CUresult (*cuDevicePrimaryCtxRetain)(CUcontext *, CUdevice);
        CUresult (*cuDevicePrimaryCtxRelease)(CUdevice);
        CUresult (*cuCtxSetCurrent)(CUcontext);
        CUresult (*cuCtxSynchronize)(void);
        CUresult (*cuMemGetInfo)(size_t *, size_t *);
        CUresult (*cuMemAlloc)(CUdeviceptr *, size_t);
        CUresult (*cuMemFree)(CUdeviceptr);
        CUresult (*cuMemcpyHtoD)(CUdeviceptr, const void *, size_t);
        CUresult (*cuMemcpyDtoH)(void *, CUdeviceptr, size_t);
        CUresult (*cuModuleLoadData)(CUmodule *, const void *);
        CUresult (*cuModuleGetFunction)(CUfunction *, CUmodule, const char *);
        CUresult (*cuLaunchKernel)(CUfunction, unsigned int, unsigned int, unsigned int, unsigned int, unsigned int,
                                   unsigned int, unsigned int, CUstream, void **, void **);
} api;

static const struct {
        const char *name;
        void *into; /* a pointer of `api` */
} api_names[] = {
        {"cuInit", &api.cuInit},
        {"cuDriverGetVersion", &api.cuDriverGetVersion},
        {"cuDeviceGetCount", &api.cuDeviceGetCount},
        {"cuDeviceGetName", &api.cuDeviceGetName},
        {"cuDevicePrimaryCtxRetain", &api.cuDevicePrimaryCtxRetain},
        {"cuDevicePrimaryCtxRelease_v2", &api.cuDevicePrimaryCtxRelease},
        {"cuCtxSetCurrent", &api.cuCtxSetCurrent},
        {"cuCtxSynchronize", &api.cuCtxSynchronize},
        {"cuMemGetInfo_v2", &api.cuMemGetInfo},
        {"cuMemAlloc_v2", &api.cuMemAlloc},
        {"cuMemFree_v2", &api.cuMemFree},
        {"cuMemcpyHtoD_v2", &api.cuMemcpyHtoD},
        {"cuMemcpyDtoH_v2", &api.cuMemcpyDtoH},
        {"cuModuleLoadData", &api.cuModuleLoadData},
        {"cuModuleGetFunction", &api.cuModuleGetFunction},
        {"cuLaunchKernel", &api.cuLaunchKernel},
};

/* Leaves the walk where a call fails. */
#define CALL(walk, name, ...)                                                  \
        do {                                                                   \
                snprintf((walk)->failed, sizeof((walk)->failed), "%s", #name); \
                (walk)->result = (int)api.name(__VA_ARGS__);                   \
                if ((walk)->result != 0)                                       \
                        return false;                                          \
                (walk)->failed[0] = '\0';                                      \
        } while (0)

static double now_s(void)
{
        struct timespec now;

        clock_gettime(CLOCK_MONOTONIC, &now);
        return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static bool walk_load(struct ivg_path_walk *walk)
{
        void *library;

        if (walk->channel[0] != '\0')
                setenv("IVGPU_CHANNEL", walk->channel, 1);
        unsetenv("IVGPU_LOG");
        library = dlopen(walk->shim, RTLD_NOW | RTLD_LOCAL);
        if (!library) {
                snprintf(walk->wrong, sizeof(walk->wrong), "%.190s", dlerror());
                return false;
        }
        for (size_t i = 0; i < sizeof(api_names) / sizeof(api_names[0]); i++) {
                void *symbol = dlsym(library, api_names[i].name);

                if (!symbol) {
                        snprintf(walk->wrong, sizeof(walk->wrong), "%.100s lacks %s", walk->shim, api_names[i].name);
                        return false;
                }
                memcpy(api_names[i].into, &symbol, sizeof(symbol));
        }
        walk->done = STEP_LOADED;
        return true;
}

static bool walk_start(struct ivg_path_walk *walk)
{
        const double begin = now_s();

        CALL(walk, cuInit, 0);
        walk->start_ms = (now_s() - begin) * 1e3;
        walk->done = STEP_STARTED;
        return true;
}

static bool walk_gpu(struct ivg_path_walk *walk)
{
        CUcontext context;
        double begin;

        CALL(walk, cuDriverGetVersion, &walk->driver_version);
        CALL(walk, cuDeviceGetCount, &walk->device_count);
        CALL(walk, cuDeviceGetName, walk->device, sizeof(walk->device), 0);
        begin = now_s();
        CALL(walk, cuDevicePrimaryCtxRetain, &context, 0);
        CALL(walk, cuCtxSetCurrent, context);
        CALL(walk, cuMemGetInfo, &walk->free_bytes, &walk->total_bytes);
        walk->context_ms = (now_s() - begin) * 1e3;
        walk->done = STEP_GPU;
        return true;
}

static int by_size(const void *a, const void *b)
{
        const double left = *(const double *)a, right = *(const double *)b;

        return left < right ? -1 : left > right;
}

/* A call that the executor must answer, and that costs the driver little. */
static bool walk_roundtrip(struct ivg_path_walk *walk)
{
        double times[IVG_WALK_ROUNDTRIPS];
        size_t free_bytes, total_bytes;

        for (uint32_t i = 0; i < IVG_WALK_ROUNDTRIPS; i++) {
                const double begin = now_s();

                CALL(walk, cuMemGetInfo, &free_bytes, &total_bytes);
                times[i] = (now_s() - begin) * 1e6;
        }
        qsort(times, IVG_WALK_ROUNDTRIPS, sizeof(times[0]), by_size);
        walk->roundtrip_us = times[IVG_WALK_ROUNDTRIPS / 2];
        walk->roundtrip_min_us = times[0];
        walk->done = STEP_ROUNDTRIP;
        return true;
}

/* Words that no run of zeros or repetition can fake. */
static void words_fill(uint32_t *words, size_t count, uint64_t seed)
{
        for (size_t i = 0; i < count; i++) {
                seed = seed * 6364136223846793005ull + 1442695040888963407ull;
                words[i] = (uint32_t)(seed >> 32);
        }
}

static bool walk_kernel(struct ivg_path_walk *walk, uint32_t *up, uint32_t *down, CUdeviceptr device)
{
        uint32_t count = IVG_WALK_KERNEL_WORDS;
        void *parameters[] = {&device, &count};
        CUmodule module;
        CUfunction function;
        double begin;

        words_fill(up, IVG_WALK_KERNEL_WORDS, 7);
        CALL(walk, cuModuleLoadData, &module, kernel_ptx);
        CALL(walk, cuModuleGetFunction, &function, module, "ivgpu_doctor");
        CALL(walk, cuMemcpyHtoD, device, up, IVG_WALK_KERNEL_WORDS * sizeof(*up));
        CALL(walk, cuCtxSynchronize);
        begin = now_s();
        CALL(walk, cuLaunchKernel, function, IVG_WALK_KERNEL_WORDS / 256, 1, 1, 256, 1, 1, 0, NULL, parameters, NULL);
        CALL(walk, cuCtxSynchronize);
        walk->kernel_us = (now_s() - begin) * 1e6;
        CALL(walk, cuMemcpyDtoH, down, device, IVG_WALK_KERNEL_WORDS * sizeof(*down));
        for (uint32_t i = 0; i < IVG_WALK_KERNEL_WORDS; i++)
                if (down[i] != up[i] * 3 + i) {
                        snprintf(walk->wrong, sizeof(walk->wrong), "word %u is %08x, must be %08x", i, down[i],
                                 up[i] * 3 + i);
                        return false;
                }
        walk->done = STEP_KERNEL;
        return true;
}

static bool walk_copies(struct ivg_path_walk *walk, uint32_t *up, uint32_t *down, CUdeviceptr device)
{
        for (uint32_t i = 0; i < COPY_TRIES; i++) {
                double begin, middle, end;

                words_fill(up, IVG_WALK_COPY_BYTES / sizeof(*up), i + 1);
                memset(down, 0x5a, IVG_WALK_COPY_BYTES);
                begin = now_s();
                CALL(walk, cuMemcpyHtoD, device, up, IVG_WALK_COPY_BYTES);
                middle = now_s();
                CALL(walk, cuMemcpyDtoH, down, device, IVG_WALK_COPY_BYTES);
                end = now_s();
                if (IVG_WALK_COPY_BYTES / (middle - begin) > walk->up_bytes_per_s)
                        walk->up_bytes_per_s = IVG_WALK_COPY_BYTES / (middle - begin);
                if (IVG_WALK_COPY_BYTES / (end - middle) > walk->down_bytes_per_s)
                        walk->down_bytes_per_s = IVG_WALK_COPY_BYTES / (end - middle);
                for (size_t word = 0; word < IVG_WALK_COPY_BYTES / sizeof(*up); word++)
                        if (up[word] != down[word]) {
                                snprintf(walk->wrong, sizeof(walk->wrong), "word %zu came back as %08x, was %08x", word,
                                         down[word], up[word]);
                                return false;
                        }
        }
        walk->done = STEP_COPIES;
        return true;
}

static bool walk_work(struct ivg_path_walk *walk)
{
        uint32_t *up = malloc(IVG_WALK_COPY_BYTES), *down = malloc(IVG_WALK_COPY_BYTES);
        CUdeviceptr device;
        bool all;

        if (!up || !down) {
                snprintf(walk->wrong, sizeof(walk->wrong), "no memory for %u bytes twice", IVG_WALK_COPY_BYTES);
                return false;
        }
        CALL(walk, cuMemAlloc, &device, IVG_WALK_COPY_BYTES);
        all = walk_kernel(walk, up, down, device) && walk_copies(walk, up, down, device);
        if (all) {
                CALL(walk, cuMemFree, device);
                CALL(walk, cuDevicePrimaryCtxRelease, 0);
        }
        free(up);
        free(down);
        return all;
}

void ivg_path_walk(void *argument)
{
        struct ivg_path_walk *walk = argument;

        if (walk_load(walk) && walk_start(walk) && walk_gpu(walk) && walk_roundtrip(walk))
                walk_work(walk);
        exit(0); /* the library ends the channel in order */
}
