/* Events: handles are minted here, records go out; waiting and asking are generated calls. */
#include "context.h"
#include "cuda_api.h"
#include "guest_send.h"
#include <string.h>

#define EVENT_FLAGS_KNOWN (CU_EVENT_BLOCKING_SYNC | CU_EVENT_DISABLE_TIMING | CU_EVENT_INTERPROCESS)

CUresult cuEventCreate(CUevent *phEvent, unsigned int Flags)
{
        struct ivg_object *context, *event;
        CUresult result = ivg_context_require(&context);

        if (result != CUDA_SUCCESS)
                return result;
        if (phEvent == NULL || (Flags & ~(unsigned int)EVENT_FLAGS_KNOWN) != 0)
                return CUDA_ERROR_INVALID_VALUE;
        if ((Flags & CU_EVENT_INTERPROCESS) != 0) {
                if ((Flags & CU_EVENT_DISABLE_TIMING) == 0)
                        return CUDA_ERROR_INVALID_VALUE; /* CUDA's own rule */
                int supported = 0;

                /* Creation is answered here, so what the device lacks must be known here. */
                if (ivg_device_attribute(context->device, CU_DEVICE_ATTRIBUTE_IPC_EVENT_SUPPORTED, &supported) !=
                            CUDA_SUCCESS ||
                    supported == 0)
                        return ivg_refuse("cuEventCreate for several processes");
        }
        result = ivg_object_create(IVG_KIND_EVENT, context, &event);
        if (result != CUDA_SUCCESS)
                return result;
        event->flags = Flags;
        if (Flags & CU_EVENT_INTERPROCESS)
                ivg_signal_leave(event);
        result = ivg_send_cuEventCreate(Flags, event->id);
        if (result != CUDA_SUCCESS) {
                ivg_object_destroy(event);
                return result;
        }
        *phEvent = (CUevent)event;
        return CUDA_SUCCESS;
}

static CUresult event_destroy(CUevent handle)
{
        struct ivg_object *event = ivg_object_of(IVG_KIND_EVENT, handle);
        CUresult result = ivg_process_check();

        if (result != CUDA_SUCCESS)
                return result;
        if (event == NULL)
                return CUDA_ERROR_INVALID_HANDLE;
        result = ivg_send_cuEventDestroy_v2(event->id);
        if (result == CUDA_SUCCESS)
                ivg_object_destroy(event);
        return result;
}

CUresult cuEventDestroy(CUevent hEvent)
{
        return event_destroy(hEvent);
}

CUresult cuEventDestroy_v2(CUevent hEvent)
{
        return event_destroy(hEvent);
}

/* ---- records ---- */

/* What synchronize.c and signal.c may do instead of asking for the event. `tail` is the ring's from before the record,
 * of one slot: if another thread sent something meanwhile, the mark fits no tail. Relaxed: a thread that waits for this
 * record knows of it, and with it of the mark. Not what a name means that is another stream elsewhere, and nothing of
 * captures. */
static void mark_record(struct ivg_object *event, const struct ivg_object *context, ivg_id stream, unsigned int flags,
                        uint64_t tail)
{
        const bool plain = flags == 0 && stream != IVG_ID_STREAM_PER_THREAD && context == event->context;

        ivg_store_relaxed_u64(&event->recorded,
                              plain && !ivg_capturing() ? (uint64_t)stream << 32 | (uint32_t)(tail + 1) : 0);
        if (flags == 0)
                ivg_signal_recorded(event);
        else /* what it means in a capture */
                ivg_signal_leave(event);
}

static CUresult record(CUevent handle, CUstream stream, unsigned int flags, ivg_id null_stream)
{
        struct ivg_object *context;
        struct ivg_object *event;
        struct ivg_request_cuEventRecordWithFlags request;
        ivg_id stream_id;
        CUresult result = ivg_context_require_inline(&context);

        if (result != CUDA_SUCCESS)
                return result;
        event = ivg_object_of(IVG_KIND_EVENT, handle);
        if (event == NULL)
                return CUDA_ERROR_INVALID_HANDLE;
        result = ivg_stream_id(stream, null_stream, &stream_id);
        if (result != CUDA_SUCCESS)
                return result;
        if ((event->flags & CU_EVENT_INTERPROCESS) == 0) {
                const uint64_t tail = ivg_ring_tail();

                result = flags == 0 ? ivg_send_cuEventRecord(event->id, stream_id)
                                    : ivg_send_cuEventRecordWithFlags(event->id, stream_id, flags);
                if (result == CUDA_SUCCESS)
                        mark_record(event, context, stream_id, flags, tail);
                return result;
        }
        /* The program may tell another process of the record at once, which then must find it. */
        memset(&request, 0, sizeof(request));
        request.hEvent = event->id;
        request.hStream = stream_id;
        request.flags = flags;
        return ivg_call_sync(IVG_CALL_cuEventRecordWithFlags, &request, sizeof(request), NULL, 0, 0, NULL);
}

CUresult cuEventRecord(CUevent hEvent, CUstream hStream)
{
        return record(hEvent, hStream, 0, IVG_ID_STREAM_LEGACY);
}

CUresult cuEventRecord_ptsz(CUevent hEvent, CUstream hStream)
{
        return record(hEvent, hStream, 0, IVG_ID_STREAM_PER_THREAD);
}

CUresult cuEventRecordWithFlags(CUevent hEvent, CUstream hStream, unsigned int flags)
{
        return record(hEvent, hStream, flags, IVG_ID_STREAM_LEGACY);
}

CUresult cuEventRecordWithFlags_ptsz(CUevent hEvent, CUstream hStream, unsigned int flags)
{
        return record(hEvent, hStream, flags, IVG_ID_STREAM_PER_THREAD);
}
