/* Contexts that the program creates and destroys. (Primary contexts: context_primary.c.) */
#include "context.h"
#include "cuda_api.h"
#include "guest_send.h"

/* What a creation asks for beside the device. */
struct creation {
        uint32_t version; /* of the cuCtxCreate: what the context's interface version follows */
        uint32_t flags;
        const CUexecAffinityParam *affinity;
        uint32_t affinity_count;
};

static CUresult context_create(CUcontext *pctx, CUdevice device, const struct creation *creation)
{
        struct ivg_object *context;
        CUresult result = ivg_process_check();

        if (result != CUDA_SUCCESS)
                return result;
        if (pctx == NULL || (creation->affinity == NULL) != (creation->affinity_count == 0))
                return CUDA_ERROR_INVALID_VALUE;
        if (device < 0 || device >= ivg_process.device_count)
                return CUDA_ERROR_INVALID_DEVICE;
        result = ivg_context_flags_check(creation->flags, "cuCtxCreate with core dumps");
        if (result == CUDA_SUCCESS)
                result = ivg_context_new(device, &context);
        if (result != CUDA_SUCCESS)
                return result;
        result = ivg_send_ivgContextCreate(creation->version, creation->flags, device, creation->affinity,
                                           creation->affinity_count, context->id);
        if (result == CUDA_SUCCESS) {
                ivg_store_relaxed_u32(&ivg_context_state(context)->attached, 1);
                /* Release, pairs with the acquire in ivg_context_check. */
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
        return context_create(pctx, dev, &(struct creation){.version = 1, .flags = flags});
}

CUresult cuCtxCreate_v2(CUcontext *pctx, unsigned int flags, CUdevice dev)
{
        return context_create(pctx, dev, &(struct creation){.version = 2, .flags = flags});
}

CUresult cuCtxCreate_v3(CUcontext *pctx, CUexecAffinityParam *paramsArray, int numParams, unsigned int flags,
                        CUdevice dev)
{
        if (numParams < 0)
                return CUDA_ERROR_INVALID_VALUE;
        return context_create(pctx, dev, &(struct creation){3, flags, paramsArray, (uint32_t)numParams});
}

CUresult cuCtxCreate_v4(CUcontext *pctx, CUctxCreateParams *ctxCreateParams, unsigned int flags, CUdevice dev)
{
        struct creation creation = {.version = 4, .flags = flags};

        if (ctxCreateParams != NULL) {
                if (ctxCreateParams->cigParams != NULL)
                        return ivg_refuse("cuCtxCreate_v4 for graphics");
                if (ctxCreateParams->numExecAffinityParams < 0)
                        return CUDA_ERROR_INVALID_VALUE;
                creation.affinity = ctxCreateParams->execAffinityParams;
                creation.affinity_count = (uint32_t)ctxCreateParams->numExecAffinityParams;
        }
        return context_create(pctx, dev, &creation);
}

static CUresult context_destroy(CUcontext ctx)
{
        struct ivg_object *context = ivg_object_of(IVG_KIND_CONTEXT, ctx);
        CUresult result = ivg_process_check();

        if (result != CUDA_SUCCESS)
                return result;
        if (context == NULL || ivg_context_is_primary(context) || ivg_context_state(context)->green != NULL)
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

/* ---- usage counts, of before CUDA 4: a context lives until it was detached as often as created and attached ---- */

static CUresult context_attach(CUcontext *pctx, unsigned int flags)
{
        struct ivg_object *context;
        const CUresult result = ivg_context_require(&context);

        if (result != CUDA_SUCCESS)
                return result;
        if (pctx == NULL || flags != 0)
                return CUDA_ERROR_INVALID_VALUE;
        if (ivg_context_is_primary(context) || ivg_context_state(context)->green != NULL)
                return ivg_refuse("cuCtxAttach of a primary context");
        /* Relaxed: a counter; who may use the context is the program's to order. */
        atomic_fetch_add_explicit(&ivg_context_state(context)->attached, 1, memory_order_relaxed);
        *pctx = (CUcontext)context;
        return CUDA_SUCCESS;
}

CUresult cuCtxAttach(CUcontext *pctx, unsigned int flags)
{
        return ivg_local("cuCtxAttach", context_attach(pctx, flags));
}

CUresult cuCtxDetach(CUcontext ctx)
{
        struct ivg_object *context;
        const CUresult result = ivg_context_require(&context);

        if (result != CUDA_SUCCESS)
                return result;
        if ((CUcontext)context != ctx || ivg_context_is_primary(context) ||
            ivg_context_state(context)->green != NULL) /* it must be the current one */
                return CUDA_ERROR_INVALID_CONTEXT;
        if (atomic_fetch_sub_explicit(&ivg_context_state(context)->attached, 1, memory_order_relaxed) != 1)
                return ivg_local("cuCtxDetach", CUDA_SUCCESS);
        return context_destroy(ctx);
}
