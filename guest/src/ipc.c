/* Memory and events of other processes of this guest. A handle is a ticket that the executor wrote (calls_ipc.c of the
 * executor); the guest reads its length only, to know the range that it opened. */
#include "cuda_api.h"
#include "guest_send.h"
#include "memory.h"
#include <errno.h>
#include <string.h>

#define TICKET_BYTES_OFFSET 32 /* of the length in a ticket */

/* Opens and closes of one process, one at a time: a handle opened twice is one range, counted. */
static pthread_mutex_t opened_lock = PTHREAD_MUTEX_INITIALIZER;

/* The lock is held. */
static CUresult note_opened(struct ivg_object *context, uint64_t base, uint64_t bytes)
{
        struct ivg_memory_range range;
        int error;

        if (ivg_memory_remove(&ivg_memory_of_device, base, IVG_MEMORY_OPENED, &range)) {
                range.flags++;
        } else {
                range = (struct ivg_memory_range){.base = base,
                                                  .bytes = bytes,
                                                  .kind = IVG_MEMORY_OPENED,
                                                  .flags = 1,
                                                  .device = context->device,
                                                  .context = ivg_context_owner(context)};
                /* The exporter's executor chose the address; nothing else can be had for this memory. */
                if (!ivg_shadow_reserve(base, bytes))
                        range.flags |= IVG_MEMORY_AMBIGUOUS;
        }
        error = ivg_memory_add(&ivg_memory_of_device, &range);
        if (error != 0)
                ivg_log("opened memory 0x%llx, %llu bytes: cannot be noted: error %d", (unsigned long long)base,
                        (unsigned long long)bytes, error);
        return error == 0 ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

static CUresult open_memory(CUdeviceptr *pointer, const CUipcMemHandle *handle, unsigned int flags)
{
        struct ivg_object *context;
        uint64_t bytes, base = 0;
        CUresult result = ivg_context_require(&context);

        if (result != CUDA_SUCCESS)
                return result;
        memcpy(&bytes, handle->reserved + TICKET_BYTES_OFFSET, sizeof(bytes));
        if (pointer == NULL || flags != CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS || bytes == 0)
                return CUDA_ERROR_INVALID_VALUE;
        pthread_mutex_lock(&opened_lock);
        result = ivg_send_cuIpcOpenMemHandle_v2(handle, flags, &base);
        if (result == CUDA_SUCCESS) {
                result = note_opened(context, base, bytes);
                if (result != CUDA_SUCCESS)
                        (void)ivg_send_cuIpcCloseMemHandle(base);
        }
        pthread_mutex_unlock(&opened_lock);
        if (result == CUDA_SUCCESS)
                *pointer = base;
        return result;
}

CUresult cuIpcOpenMemHandle_v2(CUdeviceptr *pdptr, CUipcMemHandle handle, unsigned int Flags)
{
        return open_memory(pdptr, &handle, Flags);
}

CUresult cuIpcOpenMemHandle(CUdeviceptr *pdptr, CUipcMemHandle handle, unsigned int Flags)
{
        return open_memory(pdptr, &handle, Flags);
}

CUresult cuIpcCloseMemHandle(CUdeviceptr dptr)
{
        struct ivg_object *context;
        struct ivg_memory_range range;
        CUresult result = ivg_context_require(&context);

        if (result != CUDA_SUCCESS)
                return result;
        pthread_mutex_lock(&opened_lock);
        if (!ivg_memory_remove(&ivg_memory_of_device, dptr, IVG_MEMORY_OPENED, &range)) {
                result = CUDA_ERROR_INVALID_VALUE;
        } else {
                range.flags--;
                if ((range.flags & ~IVG_MEMORY_FLAGS) != 0)
                        (void)ivg_memory_add(&ivg_memory_of_device, &range); /* it just was there */
                result = ivg_send_cuIpcCloseMemHandle(dptr);
        }
        pthread_mutex_unlock(&opened_lock);
        return result;
}

CUresult cuIpcOpenEventHandle(CUevent *phEvent, CUipcEventHandle handle)
{
        struct ivg_object *context, *event;
        CUresult result = ivg_context_require(&context);

        if (result != CUDA_SUCCESS)
                return result;
        if (phEvent == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        result = ivg_object_create(IVG_KIND_EVENT, context, &event);
        if (result != CUDA_SUCCESS)
                return result;
        event->flags = CU_EVENT_INTERPROCESS | CU_EVENT_DISABLE_TIMING;
        ivg_signal_leave(event);
        result = ivg_send_cuIpcOpenEventHandle(&handle, event->id);
        if (result != CUDA_SUCCESS) {
                ivg_object_destroy(event);
                return result;
        }
        *phEvent = (CUevent)event;
        return CUDA_SUCCESS;
}
