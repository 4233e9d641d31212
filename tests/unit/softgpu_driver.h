/* What the softgpu_driver_* tests share: the built libcuda.so.1, opened as the executor does it. */
#ifndef SOFTGPU_DRIVER_TEST_H
#define SOFTGPU_DRIVER_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ivgpu_driver.h"

#define WAIT_MS_MAX 10000u /* a condition that is not met by then never will be */

static struct ivg_driver cuda;
static CUcontext context;
static CUdevice device;

/* assert_* of cmocka must run on the test's own thread; helpers threads use CHECK. */
#define CALL(expected, call) assert_int_equal(cuda.call, expected)
#define OK(call) CALL(CUDA_SUCCESS, call)
#define CHECK(condition)                                                                \
        do {                                                                            \
                if (!(condition)) {                                                     \
                        fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
                        abort();                                                        \
                }                                                                       \
        } while (0)

/* A per-thread twin, which the executor's table does not hold: the same type as its legacy form. */
#define TWIN(legacy, name) ((__typeof__(cuda.legacy))dlsym(cuda.library, name))

static inline void driver_load(void)
{
        assert_int_equal(ivg_driver_open(&cuda, SOFTGPU_LIBRARY), 0);
}

static inline int driver_open(void **state)
{
        (void)state;
        driver_load();
        OK(cuInit(0));
        OK(cuDeviceGet(&device, 0));
        OK(cuDevicePrimaryCtxRetain(&context, device));
        OK(cuCtxSetCurrent(context));
        return 0;
}

static inline int driver_close(void **state)
{
        (void)state;
        OK(cuDevicePrimaryCtxRelease_v2(device));
        ivg_driver_close(&cuda);
        return 0;
}

/* A file of tests/unit/fatbin, with a NUL byte after its end. */
static inline char *image_read(const char *name, size_t *bytes)
{
        char path[512];
        snprintf(path, sizeof(path), "%s/%s", SOFTGPU_IMAGES, name);
        FILE *file = fopen(path, "rb");
        assert_non_null(file);
        assert_int_equal(fseek(file, 0, SEEK_END), 0);
        const long length = ftell(file);
        assert_true(length > 0);
        rewind(file);
        char *image = malloc((size_t)length + 1);
        assert_non_null(image);
        assert_int_equal(fread(image, 1, (size_t)length, file), length);
        image[length] = '\0';
        fclose(file);
        if (bytes != NULL)
                *bytes = (size_t)length;
        return image;
}

static inline CUmodule module_load(const char *name)
{
        CUmodule module = NULL;
        char *image = image_read(name, NULL);
        OK(cuModuleLoadData(&module, image));
        free(image);
        return module;
}

static inline CUfunction function_find(CUmodule module, const char *name)
{
        CUfunction function = NULL;
        OK(cuModuleGetFunction(&function, module, name));
        return function;
}

static inline CUresult launch(CUfunction function, unsigned blocks, unsigned threads, CUstream stream, void **params)
{
        return cuda.cuLaunchKernel(function, blocks, 1, 1, threads, 1, 1, 0, stream, params, NULL);
}

/* A gate in a stream: a host function that waits until the test opens it. */
struct gate {
        atomic_int entered, open;
};

static inline void gate_wait(void *data)
{
        struct gate *gate = data;
        atomic_store(&gate->entered, 1);
        for (unsigned i = 0; i < WAIT_MS_MAX && !atomic_load(&gate->open); i++)
                usleep(1000);
        CHECK(atomic_load(&gate->open));
}

#endif
