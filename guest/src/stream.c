/* Streams: handles are minted here, so that creating one costs no trip; what never changes is kept and answered here.
 */
#include "context.h"
#include "cuda_api.h"
#include "guest_send.h"
#include "work.h"

/* Numbers for cuStreamGetId, unique in a process's life; CUDA's own special streams have 1 and 2. */
#define STREAM_UNIQUE_ID_LEGACY 1u
#define STREAM_UNIQUE_ID_PER_THREAD 2u
static _Atomic(uint64_t) stream_unique_ids = 2;

/* ---- creating and ending ---- */

void ivg_stream_describe(struct ivg_object *stream, unsigned int flags, int priority)
{
        stream->flags = flags;
        stream->values[IVG_VALUE_STREAM_PRIORITY] = (uint64_t)(int64_t)priority;
        /* Relaxed: only that each number is given once. */
        stream->values[IVG_VALUE_STREAM_UNIQUE_ID] =
                atomic_fetch_add_explicit(&stream_unique_ids, 1, memory_order_relaxed) + 1;
        ivg_work_begin(stream);
        if (flags & CU_STREAM_NON_BLOCKING)
                ivg_store_relaxed_u32(&ivg_independent_streams, 1);
}

static CUresult stream_create(CUstream *out, unsigned int flags, int priority)
{
        struct ivg_object *context, *stream;
        CUresult result = ivg_context_require(&context);
        int least, greatest;

        if (result != CUDA_SUCCESS)
                return result;
        if (out == NULL || (flags & ~(unsigned int)CU_STREAM_NON_BLOCKING) != 0)
                return CUDA_ERROR_INVALID_VALUE;
        if (priority != 0) { /* out of range is clamped, as the driver does; 0 is always in range */
                result = ivg_context_priorities(context, &least, &greatest);
                if (result != CUDA_SUCCESS)
                        return result;
                priority = priority > least ? least : priority < greatest ? greatest : priority;
        }
        result = ivg_object_create(IVG_KIND_STREAM, context, &stream);
        if (result != CUDA_SUCCESS)
                return result;
        ivg_stream_describe(stream, flags, priority);
        result = ivg_send_cuStreamCreateWithPriority(flags, priority, stream->id);
        if (result != CUDA_SUCCESS) {
                ivg_object_destroy(stream);
                return result;
        }
        *out = (CUstream)stream;
        return CUDA_SUCCESS;
}

CUresult cuStreamCreate(CUstream *phStream, unsigned int Flags)
{
        return stream_create(phStream, Flags, 0);
}

CUresult cuStreamCreateWithPriority(CUstream *phStream, unsigned int flags, int priority)
{
        return stream_create(phStream, flags, priority);
}

static CUresult stream_destroy(CUstream handle)
{
        struct ivg_object *stream = ivg_object_of(IVG_KIND_STREAM, handle);
        CUresult result = ivg_process_check();

        if (result != CUDA_SUCCESS)
                return result;
        if (stream == NULL)
                return CUDA_ERROR_INVALID_HANDLE; /* also the special streams: they cannot be destroyed */
        ivg_work_leave(stream, ivg_stream_is_done(stream));
        result = ivg_send_cuStreamDestroy_v2(stream->id);
        if (result == CUDA_SUCCESS)
                ivg_object_destroy(stream);
        else
                ivg_work_stay(stream);
        return result;
}

CUresult cuStreamDestroy(CUstream hStream)
{
        return stream_destroy(hStream);
}

CUresult cuStreamDestroy_v2(CUstream hStream)
{
        return stream_destroy(hStream);
}

/* ---- questions ---- */

CUresult ivg_stream_given(CUstream handle, struct ivg_object **stream, struct ivg_object **context)
{
        CUresult result;

        if (handle == NULL || handle == CU_STREAM_LEGACY || handle == CU_STREAM_PER_THREAD) {
                *stream = NULL;
                return ivg_context_require(context);
        }
        result = ivg_process_check();
        if (result != CUDA_SUCCESS)
                return result;
        *stream = ivg_object_of(IVG_KIND_STREAM, handle);
        if (*stream == NULL)
                return CUDA_ERROR_INVALID_HANDLE;
        *context = (*stream)->context;
        return ivg_context_check(*context);
}

CUresult cuStreamGetFlags(CUstream hStream, unsigned int *flags)
{
        struct ivg_object *stream, *context;
        const CUresult result = ivg_stream_given(hStream, &stream, &context);

        if (result != CUDA_SUCCESS)
                return result;
        if (flags == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        *flags = stream != NULL ? stream->flags : CU_STREAM_DEFAULT;
        return ivg_local("cuStreamGetFlags", CUDA_SUCCESS);
}

CUresult cuStreamGetPriority(CUstream hStream, int *priority)
{
        struct ivg_object *stream, *context;
        const CUresult result = ivg_stream_given(hStream, &stream, &context);

        if (result != CUDA_SUCCESS)
                return result;
        if (priority == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        *priority = stream != NULL ? (int)(int64_t)stream->values[IVG_VALUE_STREAM_PRIORITY] : 0;
        return ivg_local("cuStreamGetPriority", CUDA_SUCCESS);
}

CUresult cuStreamGetCtx(CUstream hStream, CUcontext *pctx)
{
        struct ivg_object *stream, *context;
        const CUresult result = ivg_stream_given(hStream, &stream, &context);

        if (result != CUDA_SUCCESS)
                return result;
        if (pctx == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        *pctx = (CUcontext)context;
        return ivg_local("cuStreamGetCtx", CUDA_SUCCESS);
}

/* Of a part of a device: its primary context, and the part. */
CUresult cuStreamGetCtx_v2(CUstream hStream, CUcontext *pCtx, CUgreenCtx *pGreenCtx)
{
        struct ivg_object *stream, *context;
        const CUresult result = ivg_stream_given(hStream, &stream, &context);

        if (result != CUDA_SUCCESS)
                return result;
        if (pCtx == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        if (hStream == CU_STREAM_PER_THREAD && ivg_context_state(context)->green != NULL)
                return CUDA_ERROR_INVALID_HANDLE;
        *pCtx = (CUcontext)ivg_context_owner(context);
        if (pGreenCtx != NULL)
                *pGreenCtx = (CUgreenCtx)ivg_context_state(context)->green;
        return ivg_local("cuStreamGetCtx_v2", CUDA_SUCCESS);
}

CUresult cuStreamGetGreenCtx(CUstream hStream, CUgreenCtx *phCtx)
{
        struct ivg_object *stream, *context;
        const CUresult result = ivg_stream_given(hStream, &stream, &context);

        if (result != CUDA_SUCCESS)
                return result;
        if (phCtx == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        *phCtx = (CUgreenCtx)ivg_context_state(context)->green;
        return ivg_local("cuStreamGetGreenCtx", CUDA_SUCCESS);
}

CUresult cuStreamGetDevice(CUstream hStream, CUdevice *device)
{
        struct ivg_object *stream, *context;
        const CUresult result = ivg_stream_given(hStream, &stream, &context);

        if (result != CUDA_SUCCESS)
                return result;
        if (device == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        *device = context->device;
        return ivg_local("cuStreamGetDevice", CUDA_SUCCESS);
}

static CUresult stream_id(CUstream handle, bool per_thread, unsigned long long *id)
{
        struct ivg_object *stream, *context;
        const CUresult result = ivg_stream_given(handle, &stream, &context);

        if (result != CUDA_SUCCESS)
                return result;
        if (id == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        if (stream != NULL)
                *id = stream->values[IVG_VALUE_STREAM_UNIQUE_ID];
        else if (handle == CU_STREAM_PER_THREAD || (handle == NULL && per_thread))
                *id = STREAM_UNIQUE_ID_PER_THREAD;
        else
                *id = STREAM_UNIQUE_ID_LEGACY;
        return CUDA_SUCCESS;
}

CUresult cuStreamGetId(CUstream hStream, unsigned long long *streamId)
{
        return ivg_local("cuStreamGetId", stream_id(hStream, false, streamId));
}

CUresult cuStreamGetId_ptsz(CUstream hStream, unsigned long long *streamId)
{
        return ivg_local("cuStreamGetId_ptsz", stream_id(hStream, true, streamId));
}

/* ---- the same questions by the names for a per-thread default stream: the answers do not differ ---- */

CUresult cuStreamGetFlags_ptsz(CUstream hStream, unsigned int *flags)
{
        return cuStreamGetFlags(hStream, flags);
}

CUresult cuStreamGetPriority_ptsz(CUstream hStream, int *priority)
{
        return cuStreamGetPriority(hStream, priority);
}

CUresult cuStreamGetCtx_ptsz(CUstream hStream, CUcontext *pctx)
{
        return cuStreamGetCtx(hStream, pctx);
}

CUresult cuStreamGetCtx_v2_ptsz(CUstream hStream, CUcontext *pCtx, CUgreenCtx *pGreenCtx)
{
        return cuStreamGetCtx_v2(hStream, pCtx, pGreenCtx);
}

CUresult cuStreamGetDevice_ptsz(CUstream hStream, CUdevice *device)
{
        return cuStreamGetDevice(hStream, device);
}
