/* A driver library for the executor as a process: what it needs to start, and two ways to misbehave.
 *
 * FAKE_DRIVER=init-fails: cuInit answers CUDA_ERROR_NO_DEVICE. =hangs: releasing a context never returns. */
#include "ivgpu/cuda_abi.h"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

static int misbehaves(const char *how)
{
        const char *value = getenv("FAKE_DRIVER");

        return value && strcmp(value, how) == 0;
}

#define ENTRY(name, ...)                   \
        EXPORT CUresult name(__VA_ARGS__); \
        EXPORT CUresult name(__VA_ARGS__)

ENTRY(cuInit, unsigned int flags)
{
        (void)flags;
        return misbehaves("init-fails") ? CUDA_ERROR_NO_DEVICE : CUDA_SUCCESS;
}

ENTRY(cuDriverGetVersion, int *version)
{
        *version = 13000;
        return CUDA_SUCCESS;
}

ENTRY(cuDeviceGetCount, int *count)
{
        *count = 1;
        return CUDA_SUCCESS;
}

ENTRY(cuDeviceGet, CUdevice *device, int ordinal)
{
        *device = ordinal;
        return CUDA_SUCCESS;
}

ENTRY(cuDevicePrimaryCtxRetain, CUcontext *context, CUdevice device)
{
        *context = (CUcontext)(uintptr_t)(16 + device);
        return CUDA_SUCCESS;
}

ENTRY(cuDevicePrimaryCtxRelease_v2, CUdevice device)
{
        (void)device;
        while (misbehaves("hangs"))
                pause();
        return CUDA_SUCCESS;
}

ENTRY(cuCtxSetCurrent, CUcontext context)
{
        (void)context;
        return CUDA_SUCCESS;
}

/* Needed at the start by name, never called by these tests. */
#define REFUSED(name)                            \
        EXPORT CUresult name(void);              \
        EXPORT CUresult name(void)               \
        {                                        \
                return CUDA_ERROR_NOT_SUPPORTED; \
        }
REFUSED(cuCtxDestroy_v2)
REFUSED(cuStreamCreate)
REFUSED(cuStreamDestroy_v2)
REFUSED(cuMemHostRegister_v2)
REFUSED(cuMemHostUnregister)
REFUSED(cuMemHostGetDevicePointer_v2)
REFUSED(cuMemGetAddressRange_v2)
REFUSED(cuMemcpyHtoDAsync_v2)
REFUSED(cuMemcpyDtoHAsync_v2)
REFUSED(cuStreamWriteValue64_v2)
REFUSED(cuLaunchKernel)
