/* The launches of CUDA's first interface: shape, shared memory and parameters are set one by one and stay with the
 * function until the launch, which takes them as one packed buffer. */
#include "cuda_api.h"
#include "launch.h"
#include <stdlib.h>
#include <string.h>

#define PARAMETERS_MAX 4096u /* as much as kernels had while this was the interface */

/* What has been set. Made at the first setting, ends with the function's description. */
struct ivg_first_launch {
        uint32_t block[3], shared_bytes, bytes;
        _Alignas(16) uint8_t parameters[PARAMETERS_MAX];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* With the lock held when it succeeds. */
static CUresult settings_take(CUfunction handle, struct ivg_first_launch **settings)
{
        struct ivg_object *context, *object;
        struct ivg_function *function;
        CUresult result = ivg_context_require(&context);

        if (result != CUDA_SUCCESS)
                return result;
        object = ivg_object_of_function(handle);
        if (object == NULL)
                return CUDA_ERROR_INVALID_HANDLE;
        function = ivg_function_of(object);
        pthread_mutex_lock(&lock);
        if (function->first_launch == NULL)
                function->first_launch = calloc(1, sizeof(struct ivg_first_launch));
        *settings = function->first_launch;
        if (*settings == NULL) {
                pthread_mutex_unlock(&lock);
                return CUDA_ERROR_OUT_OF_MEMORY;
        }
        return CUDA_SUCCESS;
}

static CUresult give(const char *name, CUresult result)
{
        pthread_mutex_unlock(&lock);
        return ivg_local(name, result);
}

CUresult cuFuncSetBlockShape(CUfunction hfunc, int x, int y, int z)
{
        struct ivg_first_launch *settings;
        const CUresult result = settings_take(hfunc, &settings);

        if (result != CUDA_SUCCESS)
                return result;
        if (x <= 0 || y <= 0 || z <= 0)
                return give("cuFuncSetBlockShape", CUDA_ERROR_INVALID_VALUE);
        settings->block[0] = (uint32_t)x;
        settings->block[1] = (uint32_t)y;
        settings->block[2] = (uint32_t)z;
        return give("cuFuncSetBlockShape", CUDA_SUCCESS);
}

CUresult cuFuncSetSharedSize(CUfunction hfunc, unsigned int bytes)
{
        struct ivg_first_launch *settings;
        const CUresult result = settings_take(hfunc, &settings);

        if (result != CUDA_SUCCESS)
                return result;
        settings->shared_bytes = bytes;
        return give("cuFuncSetSharedSize", CUDA_SUCCESS);
}

CUresult cuParamSetSize(CUfunction hfunc, unsigned int numbytes)
{
        struct ivg_first_launch *settings;
        const CUresult result = settings_take(hfunc, &settings);

        if (result != CUDA_SUCCESS)
                return result;
        if (numbytes > PARAMETERS_MAX)
                return give("cuParamSetSize", CUDA_ERROR_INVALID_VALUE);
        settings->bytes = numbytes;
        return give("cuParamSetSize", CUDA_SUCCESS);
}

static CUresult set_bytes(const char *name, CUfunction function, int offset, const void *bytes, size_t count)
{
        struct ivg_first_launch *settings;
        const CUresult result = settings_take(function, &settings);

        if (result != CUDA_SUCCESS)
                return result;
        if (bytes == NULL || offset < 0 || count > PARAMETERS_MAX || (size_t)offset > PARAMETERS_MAX - count)
                return give(name, CUDA_ERROR_INVALID_VALUE);
        memcpy(settings->parameters + offset, bytes, count);
        return give(name, CUDA_SUCCESS);
}

CUresult cuParamSeti(CUfunction hfunc, int offset, unsigned int value)
{
        return set_bytes("cuParamSeti", hfunc, offset, &value, sizeof(value));
}

CUresult cuParamSetf(CUfunction hfunc, int offset, float value)
{
        return set_bytes("cuParamSetf", hfunc, offset, &value, sizeof(value));
}

CUresult cuParamSetv(CUfunction hfunc, int offset, void *ptr, unsigned int numbytes)
{
        return set_bytes("cuParamSetv", hfunc, offset, ptr, numbytes);
}

static CUresult launch(CUfunction function, int width, int height, CUstream stream, ivg_id null_stream)
{
        struct ivg_first_launch *settings, copy;
        struct ivg_packed_launch packed = {.function = function, .stream = stream, .null_stream = null_stream};
        const CUresult result = settings_take(function, &settings);

        if (result != CUDA_SUCCESS)
                return result;
        copy = *settings;
        pthread_mutex_unlock(&lock);
        if (width <= 0 || height <= 0)
                return CUDA_ERROR_INVALID_VALUE;
        packed.grid[0] = (uint32_t)width;
        packed.grid[1] = (uint32_t)height;
        packed.grid[2] = 1;
        memcpy(packed.block, copy.block, sizeof(packed.block));
        packed.shared_bytes = copy.shared_bytes;
        packed.parameters = copy.parameters;
        packed.bytes = copy.bytes;
        return ivg_launch_packed(&packed);
}

CUresult cuLaunch(CUfunction f)
{
        return launch(f, 1, 1, NULL, IVG_ID_STREAM_LEGACY);
}

CUresult cuLaunchGrid(CUfunction f, int grid_width, int grid_height)
{
        return launch(f, grid_width, grid_height, NULL, IVG_ID_STREAM_LEGACY);
}

CUresult cuLaunchGridAsync(CUfunction f, int grid_width, int grid_height, CUstream hStream)
{
        return launch(f, grid_width, grid_height, hStream, IVG_ID_STREAM_LEGACY);
}
