/* The device's things that most figures use, and the empty kernels. */
#include "bench.h"

/* By hand: nothing to compile, and every device since 2018 takes it. */
const char bench_kernels_ptx[] = ".version 6.3\n.target sm_75\n.address_size 64\n"
                                 ".visible .entry empty_0()\n{\n\tret;\n}\n"
                                 ".visible .entry empty_1(.param .u64 a)\n{\n\tret;\n}\n"
                                 ".visible .entry empty_6(.param .u64 a, .param .u64 b, .param .u64 c, .param .u32 d,"
                                 " .param .u32 e, .param .f32 f)\n{\n\tret;\n}\n";

#define MEMORY_BYTES (1u << 20)

void bench_launch(const struct bench *bench, uint32_t kernel, CUstream stream)
{
        uint64_t a = bench->memory, b = bench->memory, c = bench->memory;
        uint32_t d = 4, e = 5;
        float f = 6;
        void *parameters[] = {&a, &b, &c, &d, &e, &f};

        CU(cuLaunchKernel(bench->empty[kernel], 1, 1, 1, 32, 1, 1, 0, stream, parameters, NULL));
}

void bench_device_open(struct bench *bench)
{
        static const char *const names[] = {"empty_0", "empty_1", "empty_6"};

        CU(cuInit(0));
        CU(cuDeviceGet(&bench->device, 0));
        CU(cuDevicePrimaryCtxRetain(&bench->context, bench->device));
        CU(cuCtxSetCurrent(bench->context));
        CU(cuModuleLoadData(&bench->module, bench_kernels_ptx));
        for (uint32_t i = 0; i < 3; i++)
                CU(cuModuleGetFunction(&bench->empty[i], bench->module, names[i]));
        CU(cuStreamCreate(&bench->stream, CU_STREAM_NON_BLOCKING));
        CU(cuEventCreate(&bench->event, CU_EVENT_DISABLE_TIMING));
        CU(cuEventCreate(&bench->event_done, CU_EVENT_DISABLE_TIMING));
        CU(cuMemAlloc_v2(&bench->memory, MEMORY_BYTES));
        CU(cuMemsetD8_v2(bench->memory, 0, MEMORY_BYTES));
        CU(cuMemHostAlloc(&bench->pinned, BENCH_PINNED_BYTES, 0));
        CU(cuEventRecord(bench->event_done, bench->stream));
        CU(cuStreamSynchronize(bench->stream));
}

void bench_device_close(struct bench *bench)
{
        CU(cuCtxSynchronize());
        CU(cuMemFreeHost(bench->pinned));
        CU(cuMemFree_v2(bench->memory));
        CU(cuEventDestroy_v2(bench->event));
        CU(cuEventDestroy_v2(bench->event_done));
        CU(cuStreamDestroy_v2(bench->stream));
        CU(cuModuleUnload(bench->module));
        CU(cuDevicePrimaryCtxRelease_v2(bench->device));
}
