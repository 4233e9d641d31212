/* A libcuda that does what ivgpu-doctor asks of one, on the CPU, and fails as the environment says:
 *
 *   FAKE_CUDA_FAILS=CALL=NUMBER   that call answers so
 *   FAKE_CUDA_SAYS=TEXT           printed by cuInit on stderr
 *   FAKE_CUDA_HANGS=CALL          that call does not come back
 *   FAKE_CUDA_WRONG=CALL          that one's bytes are wrong
 *   FAKE_CUDA_MODE=NUMBER         compute mode */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define NAMED(variable, name) (getenv(variable) && strcmp(getenv(variable), name) == 0)

static int outcome(const char *name)
{
        const char *fails = getenv("FAKE_CUDA_FAILS");
        const size_t bytes = strlen(name);

        if (NAMED("FAKE_CUDA_HANGS", name))
                for (;;)
                        pause();
        return fails && strncmp(fails, name, bytes) == 0 && fails[bytes] == '=' ? atoi(fails + bytes + 1) : 0;
}

EXPORT int cuInit(unsigned int flags);
EXPORT int cuInit(unsigned int flags)
{
        (void)flags;
        if (getenv("FAKE_CUDA_SAYS"))
                fprintf(stderr, "%s\n", getenv("FAKE_CUDA_SAYS"));
        return outcome("cuInit");
}

EXPORT int cuDriverGetVersion(int *version);
EXPORT int cuDriverGetVersion(int *version)
{
        *version = 12080;
        return outcome("cuDriverGetVersion");
}

EXPORT int cuDeviceGetCount(int *count);
EXPORT int cuDeviceGetCount(int *count)
{
        *count = 1;
        return outcome("cuDeviceGetCount");
}

EXPORT int cuDeviceGetName(char *name, int bytes, int device);
EXPORT int cuDeviceGetName(char *name, int bytes, int device)
{
        snprintf(name, (size_t)bytes, "fake %d", device);
        return outcome("cuDeviceGetName");
}

EXPORT int cuDeviceGetAttribute(int *value, int attribute, int device);
EXPORT int cuDeviceGetAttribute(int *value, int attribute, int device)
{
        (void)attribute;
        (void)device;
        *value = getenv("FAKE_CUDA_MODE") ? atoi(getenv("FAKE_CUDA_MODE")) : 0;
        return 0;
}

EXPORT int cuDevicePrimaryCtxRetain(void **context, int device);
EXPORT int cuDevicePrimaryCtxRetain(void **context, int device)
{
        (void)device;
        *context = NULL;
        return outcome("cuDevicePrimaryCtxRetain");
}

EXPORT int cuDevicePrimaryCtxRelease_v2(int device);
EXPORT int cuDevicePrimaryCtxRelease_v2(int device)
{
        (void)device;
        return 0;
}

EXPORT int cuCtxSetCurrent(void *context);
EXPORT int cuCtxSetCurrent(void *context)
{
        (void)context;
        return 0;
}

EXPORT int cuCtxSynchronize(void);
EXPORT int cuCtxSynchronize(void)
{
        return outcome("cuCtxSynchronize");
}

EXPORT int cuMemGetInfo_v2(size_t *free_bytes, size_t *total_bytes);
EXPORT int cuMemGetInfo_v2(size_t *free_bytes, size_t *total_bytes)
{
        static int calls; /* the first is the context's own */

        *free_bytes = *total_bytes = 64 << 20;
        return ++calls > 1 ? outcome("cuMemGetInfo") : 0;
}

EXPORT int cuMemAlloc_v2(unsigned long long *address, size_t bytes);
EXPORT int cuMemAlloc_v2(unsigned long long *address, size_t bytes)
{
        *address = (uintptr_t)malloc(bytes);
        return outcome("cuMemAlloc");
}

EXPORT int cuMemFree_v2(unsigned long long address);
EXPORT int cuMemFree_v2(unsigned long long address)
{
        free((void *)(uintptr_t)address);
        return 0;
}

EXPORT int cuMemcpyHtoD_v2(unsigned long long address, const void *from, size_t bytes);
EXPORT int cuMemcpyHtoD_v2(unsigned long long address, const void *from, size_t bytes)
{
        memcpy((void *)(uintptr_t)address, from, bytes);
        return 0;
}

EXPORT int cuMemcpyDtoH_v2(void *to, unsigned long long address, size_t bytes);
EXPORT int cuMemcpyDtoH_v2(void *to, unsigned long long address, size_t bytes)
{
        memcpy(to, (void *)(uintptr_t)address, bytes);
        if (bytes > 4 << 20 && NAMED("FAKE_CUDA_WRONG", "cuMemcpyDtoH"))
                ((uint32_t *)to)[bytes / 8] ^= 1;
        return outcome("cuMemcpyDtoH");
}

EXPORT int cuModuleLoadData(void **module, const void *image);
EXPORT int cuModuleLoadData(void **module, const void *image)
{
        (void)image;
        *module = NULL;
        return outcome("cuModuleLoadData");
}

EXPORT int cuModuleGetFunction(void **function, void *module, const char *name);
EXPORT int cuModuleGetFunction(void **function, void *module, const char *name)
{
        (void)module;
        (void)name;
        *function = NULL;
        return 0;
}

EXPORT int cuLaunchKernel(void *function, unsigned int grid_x, unsigned int grid_y, unsigned int grid_z,
                          unsigned int block_x, unsigned int block_y, unsigned int block_z, unsigned int shared,
                          void *stream, void **parameters, void **extra);
EXPORT int cuLaunchKernel(void *function, unsigned int grid_x, unsigned int grid_y, unsigned int grid_z,
                          unsigned int block_x, unsigned int block_y, unsigned int block_z, unsigned int shared,
                          void *stream, void **parameters, void **extra)
{
        uint32_t *words = (uint32_t *)(uintptr_t) * (unsigned long long *)parameters[0];
        const uint32_t count = *(uint32_t *)parameters[1];

        (void)function;
        (void)grid_x;
        (void)grid_y;
        (void)grid_z;
        (void)block_x;
        (void)block_y;
        (void)block_z;
        (void)shared;
        (void)stream;
        (void)extra;
        for (uint32_t i = 0; i < count; i++)
                words[i] = words[i] * 3 + i;
        if (NAMED("FAKE_CUDA_WRONG", "cuLaunchKernel"))
                words[count / 2]++;
        return outcome("cuLaunchKernel");
}
