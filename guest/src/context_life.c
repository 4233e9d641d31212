/* Contexts that the program creates and destroys. (Primary contexts: context_primary.c.) */
#include "context.h"
#include "cuda_api.h"
#include "guest_send.h"

static CUresult context_create(CUcontext *pctx, unsigned int flags, CUdevice device)
{
        struct ivg_object *context;
        CUresult result = ivg_process_check();

        if (result != CUDA_SUCCESS)
                return result;
        if (pctx == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        if (device < 0 || device >= ivg_process.device_count)
                return CUDA_ERROR_INVALID_DEVICE;
        result = ivg_context_new(device, &context);
        if (result != CUDA_SUCCESS)
                return result;
        result = ivg_send_cuCtxCreate_v2(flags, device, context->id);
        if (result == CUDA_SUCCESS) {
                /* Release, pairs with the acquire in ivg_context_check. */
                ivg_cached_set(&ivg_context_state(context)->flags, flags);
                ivg_store_release_u32(&ivg_context_state(context)->active, 1);
                result = ivg_context_push(context);
                if (result != CUDA_SUCCESS)
                        (void)ivg_send_cuCtxDestroy_v2(context->id);
        }
        if (result != CUDA_SUCCESS) {
                ivg_context_free(context);
                return result;
        }
        *pctx = (CUcontext)context;
        return CUDA_SUCCESS;
}

CUresult cuCtxCreate(CUcontext *pctx, unsigned int flags, CUdevice dev)
{
        return context_create(pctx, flags, dev);
}

CUresult cuCtxCreate_v2(CUcontext *pctx, unsigned int flags, CUdevice dev)
{
        return context_create(pctx, flags, dev);
}

CUresult cuCtxCreate_v3(CUcontext *pctx, CUexecAffinityParam *paramsArray, int numParams, unsigned int flags,
                        CUdevice dev)
{
        if (paramsArray != NULL || numParams != 0)
                return ivg_refuse("cuCtxCreate_v3 with execution affinity");
        return context_create(pctx, flags, dev);
}

CUresult cuCtxCreate_v4(CUcontext *pctx, CUctxCreateParams *ctxCreateParams, unsigned int flags, CUdevice dev)
{
        if (ctxCreateParams != NULL && ctxCreateParams->execAffinityParams != NULL)
                return ivg_refuse("cuCtxCreate_v4 with execution affinity");
        if (ctxCreateParams != NULL && ctxCreateParams->cigParams != NULL)
                return ivg_refuse("cuCtxCreate_v4 for graphics");
        return context_create(pctx, flags, dev);
}

static CUresult context_destroy(CUcontext ctx)
{
        struct ivg_object *context = ivg_object_of(IVG_KIND_CONTEXT, ctx);
        CUresult result = ivg_process_check();

        if (result != CUDA_SUCCESS)
                return result;
        if (context == NULL || ivg_context_is_primary(context))
                return CUDA_ERROR_INVALID_CONTEXT;
        /* First, while the context still works: destructors may unload modules. */
        ivg_storage_end(ivg_context_storage(context), ctx);
        result = ivg_send_cuCtxDestroy_v2(context->id);
        if (result != CUDA_SUCCESS)
                return result;
        if (ivg_context_current() == context)
                (void)ivg_context_pop();
        ivg_context_free(context);
        return CUDA_SUCCESS;
}

CUresult cuCtxDestroy(CUcontext ctx)
{
        return context_destroy(ctx);
}

CUresult cuCtxDestroy_v2(CUcontext ctx)
{
        return context_destroy(ctx);
}

/* Usage counts went with CUDA 4: attaching is refused (calls.txt), detaching is destroying. */
CUresult cuCtxDetach(CUcontext ctx)
{
        return context_destroy(ctx);
}
