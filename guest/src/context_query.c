/* What a program asks about its context: fetched once, kept, answered here. */
#include "context.h"
#include "cuda_api.h"
#include "guest_send.h"

CUresult cuCtxGetApiVersion(CUcontext ctx, unsigned int *version)
{
        struct ivg_object *context;
        CUresult result = ivg_context_given(ctx, &context);
        struct ivg_cached *cached;
        uint64_t value;

        if (result != CUDA_SUCCESS)
                return result;
        if (version == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        cached = &ivg_context_state(context)->interface_version;
        if (ivg_cached_get(cached, &value)) {
                *version = (unsigned int)value;
                return ivg_local("cuCtxGetApiVersion", CUDA_SUCCESS);
        }
        result = ivg_send_cuCtxGetApiVersion(context->id, version);
        if (result == CUDA_SUCCESS)
                ivg_cached_set(cached, *version);
        return result;
}

CUresult cuCtxGetFlags(unsigned int *flags)
{
        struct ivg_object *context;
        CUresult result = ivg_context_require(&context);
        struct ivg_cached *cached;
        uint64_t value;

        if (result != CUDA_SUCCESS)
                return result;
        if (flags == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        cached = &ivg_context_state(context)->flags;
        if (ivg_cached_get(cached, &value)) {
                *flags = (unsigned int)value;
                return ivg_local("cuCtxGetFlags", CUDA_SUCCESS);
        }
        result = ivg_send_cuCtxGetFlags(flags);
        if (result == CUDA_SUCCESS)
                ivg_cached_set(cached, *flags);
        return result;
}

CUresult cuCtxSetFlags(unsigned int flags)
{
        struct ivg_object *context;
        CUresult result = ivg_context_require(&context);

        if (result == CUDA_SUCCESS)
                result = ivg_context_flags_check(flags, "cuCtxSetFlags with core dumps");
        if (result != CUDA_SUCCESS)
                return result;
        result = ivg_send_cuCtxSetFlags(flags);
        /* The driver may add to them: asked for again, as with limits. */
        ivg_cached_drop(&ivg_context_state(context)->flags);
        if (result == CUDA_SUCCESS && ivg_context_is_primary(context))
                ivg_context_primary_flags_set(context->device, flags);
        return result;
}

CUresult cuCtxGetLimit(size_t *pvalue, CUlimit limit)
{
        struct ivg_object *context;
        CUresult result = ivg_context_require(&context);
        struct ivg_cached *cached;
        uint64_t value = 0;

        if (result != CUDA_SUCCESS)
                return result;
        if (pvalue == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        if ((unsigned int)limit >= CU_LIMIT_MAX)
                return CUDA_ERROR_UNSUPPORTED_LIMIT;
        cached = &ivg_context_state(context)->limits[limit];
        if (ivg_cached_get(cached, &value)) {
                *pvalue = value;
                return ivg_local("cuCtxGetLimit", CUDA_SUCCESS);
        }
        result = ivg_send_cuCtxGetLimit((int32_t)limit, &value);
        if (result != CUDA_SUCCESS)
                return result;
        ivg_cached_set(cached, value);
        *pvalue = value;
        return CUDA_SUCCESS;
}

CUresult cuCtxSetLimit(CUlimit limit, size_t value)
{
        struct ivg_object *context;
        CUresult result = ivg_context_require(&context);

        if (result != CUDA_SUCCESS)
                return result;
        if ((unsigned int)limit >= CU_LIMIT_MAX)
                return CUDA_ERROR_UNSUPPORTED_LIMIT;
        result = ivg_send_cuCtxSetLimit((int32_t)limit, value);
        /* The driver rounds: what it made of the value is asked for again. After the call, so that no other thread can
         * put the old value back for good. */
        ivg_cached_drop(&ivg_context_state(context)->limits[limit]);
        return result;
}

CUresult ivg_context_priorities(struct ivg_object *context, int *least, int *greatest)
{
        struct ivg_context_state *state = ivg_context_state(context);
        uint64_t low, high;
        CUresult result;

        if (!ivg_cached_get(&state->priority_least, &low) || !ivg_cached_get(&state->priority_greatest, &high)) {
                int32_t asked_least = 0, asked_greatest = 0;

                result = ivg_send_cuCtxGetStreamPriorityRange(&asked_least, &asked_greatest);
                if (result != CUDA_SUCCESS)
                        return result;
                low = (uint64_t)(int64_t)asked_least;
                high = (uint64_t)(int64_t)asked_greatest;
                ivg_cached_set(&state->priority_least, low);
                ivg_cached_set(&state->priority_greatest, high);
        }
        *least = (int)(int64_t)low;
        *greatest = (int)(int64_t)high;
        return CUDA_SUCCESS;
}

CUresult cuCtxGetStreamPriorityRange(int *leastPriority, int *greatestPriority)
{
        struct ivg_object *context;
        CUresult result = ivg_context_require(&context);
        int least = 0, greatest = 0;

        if (result == CUDA_SUCCESS)
                result = ivg_context_priorities(context, &least, &greatest);
        if (result != CUDA_SUCCESS)
                return result;
        if (leastPriority != NULL)
                *leastPriority = least;
        if (greatestPriority != NULL)
                *greatestPriority = greatest;
        return ivg_local("cuCtxGetStreamPriorityRange", CUDA_SUCCESS);
}

CUresult cuCtxSynchronize_v2(CUcontext ctx)
{
        struct ivg_object *context;
        CUresult result = ivg_context_given(ctx, &context);

        if (result != CUDA_SUCCESS || context == ivg_context_current())
                return result != CUDA_SUCCESS ? result : cuCtxSynchronize();
        result = ivg_context_push(context);
        if (result != CUDA_SUCCESS)
                return result;
        result = cuCtxSynchronize();
        (void)ivg_context_pop();
        return result;
}
