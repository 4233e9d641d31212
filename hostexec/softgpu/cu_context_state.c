/* What a context tells of itself, and its settings. */
#include "softgpu.h"

#define SG_STACK_BYTES_MAX (512u << 10)
#define SG_L2_FETCH_BYTES_MAX 128u

/* What each question starts with: the context (NULL: the current one), and a place for the answer. */
static CUresult sg_context_asked(CUcontext handle, const void *out, struct sg_context **context)
{
        const CUresult result = sg_context_or_current(handle, context);
        return result == CUDA_SUCCESS && out == NULL ? CUDA_ERROR_INVALID_VALUE : result;
}

SG_ENTRY(cuCtxGetDevice, CUdevice *out)
{
        struct sg_context *context;
        const CUresult result = sg_context_asked(NULL, out, &context);
        if (result != CUDA_SUCCESS)
                return result;
        *out = context->device->ordinal;
        return CUDA_SUCCESS;
}

SG_ENTRY(cuCtxGetDevice_v2, CUdevice *out, CUcontext handle)
{
        struct sg_context *context;
        const CUresult result = sg_context_asked(handle, out, &context);
        if (result != CUDA_SUCCESS)
                return result;
        *out = context->device->ordinal;
        return CUDA_SUCCESS;
}

SG_ENTRY(cuCtxGetId, CUcontext handle, unsigned long long *out)
{
        struct sg_context *context;
        const CUresult result = sg_context_asked(handle, out, &context);
        if (result != CUDA_SUCCESS)
                return result;
        *out = context->id;
        return CUDA_SUCCESS;
}

SG_ENTRY(cuCtxGetApiVersion, CUcontext handle, unsigned *out)
{
        struct sg_context *context;
        const CUresult result = sg_context_asked(handle, out, &context);
        if (result != CUDA_SUCCESS)
                return result;
        *out = context->api_version;
        return CUDA_SUCCESS;
}

SG_ENTRY(cuCtxGetFlags, unsigned *out)
{
        struct sg_context *context;
        const CUresult result = sg_context_asked(NULL, out, &context);
        if (result != CUDA_SUCCESS)
                return result;
        *out = context->flags;
        return CUDA_SUCCESS;
}

SG_ENTRY(cuCtxSetFlags, unsigned flags)
{
        struct sg_context *context;
        CUresult result = sg_context_peek(&context);
        if (result == CUDA_SUCCESS)
                result = sg_context_flags_check(flags);
        if (result == CUDA_SUCCESS)
                context->flags = flags;
        return result;
}

SG_ENTRY(cuCtxGetStreamPriorityRange, int *least, int *greatest)
{
        struct sg_context *context;
        const CUresult result = sg_context_peek(&context);
        if (result != CUDA_SUCCESS)
                return result;
        if (least != NULL)
                *least = 0;
        if (greatest != NULL)
                *greatest = SG_PRIORITY_GREATEST;
        return CUDA_SUCCESS;
}

SG_ENTRY(cuCtxGetLimit, size_t *out, CUlimit limit)
{
        struct sg_context *context;
        const CUresult result = sg_context_asked(NULL, out, &context);
        if (result != CUDA_SUCCESS)
                return result;
        if ((int)limit < 0 || limit >= CU_LIMIT_MAX)
                return CUDA_ERROR_INVALID_VALUE;
        if (limit == CU_LIMIT_DEV_RUNTIME_SYNC_DEPTH)
                return CUDA_ERROR_UNSUPPORTED_LIMIT;
        *out = atomic_load(&context->limits[limit]);
        return CUDA_SUCCESS;
}

SG_ENTRY(cuCtxSetLimit, CUlimit limit, size_t value)
{
        struct sg_context *context;
        const CUresult result = sg_context_current(&context);
        if (result != CUDA_SUCCESS)
                return result;
        switch (limit) {
        case CU_LIMIT_STACK_SIZE:
                if (value > SG_STACK_BYTES_MAX)
                        return CUDA_ERROR_INVALID_VALUE;
                value = (value + 15) & ~(size_t)15;
                break;
        case CU_LIMIT_PRINTF_FIFO_SIZE:
        case CU_LIMIT_MALLOC_HEAP_SIZE:
                if (value > context->device->total_bytes)
                        return CUDA_ERROR_OUT_OF_MEMORY;
                break;
        case CU_LIMIT_DEV_RUNTIME_PENDING_LAUNCH_COUNT:
                break;
        case CU_LIMIT_MAX_L2_FETCH_GRANULARITY:
                if (value > SG_L2_FETCH_BYTES_MAX)
                        return CUDA_ERROR_INVALID_VALUE;
                break;
        default:
                return (int)limit < 0 || limit >= CU_LIMIT_MAX ? CUDA_ERROR_INVALID_VALUE
                                                               : CUDA_ERROR_UNSUPPORTED_LIMIT;
        }
        atomic_store(&context->limits[limit], value);
        return CUDA_SUCCESS;
}

SG_ENTRY(cuCtxGetCacheConfig, CUfunc_cache *out)
{
        struct sg_context *context;
        const CUresult result = sg_context_asked(NULL, out, &context);
        if (result != CUDA_SUCCESS)
                return result;
        *out = (CUfunc_cache)atomic_load(&context->cache_config);
        return CUDA_SUCCESS;
}

SG_ENTRY(cuCtxSetCacheConfig, CUfunc_cache config)
{
        struct sg_context *context;
        const CUresult result = sg_context_current(&context);
        if (result != CUDA_SUCCESS)
                return result;
        if ((int)config < 0 || config > CU_FUNC_CACHE_PREFER_EQUAL)
                return CUDA_ERROR_INVALID_VALUE;
        atomic_store(&context->cache_config, (uint32_t)config);
        return CUDA_SUCCESS;
}

SG_ENTRY(cuCtxGetSharedMemConfig, CUsharedconfig *out)
{
        struct sg_context *context;
        const CUresult result = sg_context_asked(NULL, out, &context);
        if (result != CUDA_SUCCESS)
                return result;
        *out = (CUsharedconfig)atomic_load(&context->shared_config);
        return CUDA_SUCCESS;
}

SG_ENTRY(cuCtxSetSharedMemConfig, CUsharedconfig config)
{
        struct sg_context *context;
        const CUresult result = sg_context_current(&context);
        if (result != CUDA_SUCCESS)
                return result;
        if ((int)config < 0 || config > CU_SHARED_MEM_CONFIG_EIGHT_BYTE_BANK_SIZE)
                return CUDA_ERROR_INVALID_VALUE;
        atomic_store(&context->shared_config, (uint32_t)config);
        return CUDA_SUCCESS;
}

SG_ENTRY(cuCtxResetPersistingL2Cache, void)
{
        struct sg_context *context;
        return sg_context_current(&context); /* nothing persists in a cache that is not there */
}

SG_ENTRY(cuCtxGetExecAffinity, CUexecAffinityParam *out, CUexecAffinityType type)
{
        struct sg_context *context;
        const CUresult result = sg_context_peek(&context);
        if (result != CUDA_SUCCESS)
                return result;
        if (out == NULL || type != CU_EXEC_AFFINITY_TYPE_SM_COUNT)
                return CUDA_ERROR_INVALID_VALUE;
        return CUDA_ERROR_UNSUPPORTED_EXEC_AFFINITY;
}

SG_ENTRY(cuProfilerStart, void)
{
        struct sg_context *context;
        return sg_context_current(&context); /* no profiler is attached: there is nothing to switch */
}

SG_ENTRY(cuProfilerStop, void)
{
        struct sg_context *context;
        return sg_context_current(&context);
}
