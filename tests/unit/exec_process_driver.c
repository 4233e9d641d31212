/* A driver library for the executor as a process: what it needs to start, and some ways to misbehave.
 *
 * FAKE_DRIVER=init-fails: cuInit answers CUDA_ERROR_NO_DEVICE. =hangs: releasing a context never returns. =two: there
 * are two devices. =exclusive: a device is for one process.
 * =mps-absent: no MPS server serves it. =mps-faulted: one does, and takes no new contexts. What makes and ends contexts
 * goes to the file FAKE_DRIVER_NOTES, a line for each call. */
#include "ivgpu/cuda_abi.h"
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

static int misbehaves(const char *how)
{
        const char *value = getenv("FAKE_DRIVER");

        return value && strcmp(value, how) == 0;
}

static void note(const char *format, ...) __attribute__((format(printf, 1, 2)));

static void note(const char *format, ...)
{
        const char *path = getenv("FAKE_DRIVER_NOTES");
        const int fd = path ? open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600) : -1;
        char line[80];
        va_list arguments;
        int bytes;

        if (fd < 0)
                return;
        va_start(arguments, format);
        bytes = vsnprintf(line, sizeof(line), format, arguments);
        va_end(arguments);
        if (write(fd, line, (size_t)bytes) != bytes)
                abort();
        close(fd);
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
        *count = misbehaves("two") ? 2 : 1;
        return CUDA_SUCCESS;
}

ENTRY(cuDeviceGet, CUdevice *device, int ordinal)
{
        *device = ordinal;
        return CUDA_SUCCESS;
}

ENTRY(cuDevicePrimaryCtxRetain, CUcontext *context, CUdevice device)
{
        note("retain %d\n", device);
        if (misbehaves("mps-faulted"))
                return CUDA_ERROR_MPS_SERVER_NOT_READY;
        *context = (CUcontext)(uintptr_t)(16 + device);
        return CUDA_SUCCESS;
}

ENTRY(cuDevicePrimaryCtxRelease_v2, CUdevice device)
{
        note("release %d\n", device);
        while (misbehaves("hangs"))
                pause();
        return CUDA_SUCCESS;
}

ENTRY(cuCtxSetCurrent, CUcontext context)
{
        (void)context;
        return CUDA_SUCCESS;
}

ENTRY(cuDevicePrimaryCtxSetFlags_v2, CUdevice device, unsigned int flags)
{
        note("flags %d %u\n", device, flags);
        return CUDA_SUCCESS;
}

ENTRY(cuCtxCreate_v2, CUcontext *context, unsigned int flags, CUdevice device)
{
        (void)flags;
        note("create %d\n", device);
        *context = (CUcontext)(uintptr_t)(32 + device);
        return CUDA_SUCCESS;
}

ENTRY(cuCtxPopCurrent_v2, CUcontext *context)
{
        *context = NULL;
        return CUDA_SUCCESS;
}

ENTRY(cuDeviceGetAttribute, int *value, CUdevice_attribute attribute, CUdevice device)
{
        (void)device;
        if (attribute == CU_DEVICE_ATTRIBUTE_MPS_ENABLED) {
                *value = !misbehaves("mps-absent");
                return CUDA_SUCCESS;
        }
        if (attribute != CU_DEVICE_ATTRIBUTE_COMPUTE_MODE)
                return CUDA_ERROR_INVALID_VALUE;
        *value = misbehaves("exclusive") ? CU_COMPUTEMODE_EXCLUSIVE_PROCESS : CU_COMPUTEMODE_DEFAULT;
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
