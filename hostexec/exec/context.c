/* The current context of the executor's threads.
 *
 * The guest's context is a property of the guest's thread and rides in each record; the driver's is one of the
 * executor's threads. A thread remembers what it made current last, by number, and asks the table again only when the
 * number differs or some context has ended since (numbers may come again). */
#include "exec_internal.h"
#include "vram.h"

struct ivg_current_context {
        ivg_id id; /* IVG_ID_NONE: nothing known */
        uint32_t epoch;
};
static _Thread_local struct ivg_current_context current;

CUresult ivg_context_enter(struct ivg_exec *exec, ivg_id context)
{
        /* E2, pairs with E1 in ivg_context_ends: who sees the old epoch may use the old context, whose end is then
         * concurrent with this call in the guest too. */
        const uint32_t epoch = ivg_load_acquire_u32(&exec->context_epoch);
        void *handle;
        CUresult result;

        if (current.id == context && current.epoch == epoch && context != IVG_ID_NONE)
                return CUDA_SUCCESS;
        if (ivg_handle_get(exec, IVG_KIND_CONTEXT, context, &handle))
                return CUDA_ERROR_INVALID_CONTEXT;
        current.id = IVG_ID_NONE;
        result = exec->driver.cuCtxSetCurrent(handle);
        if (result == CUDA_SUCCESS)
                current = (struct ivg_current_context){.id = context, .epoch = epoch};
        return result;
}

ivg_id ivg_context_current(void)
{
        return current.id;
}

void ivg_context_forget(void)
{
        current.id = IVG_ID_NONE;
}

CUresult ivg_context_begins(struct ivg_exec *exec, ivg_id context)
{
        const CUresult result = ivg_context_enter(exec, context);

        if (result == CUDA_SUCCESS)
                ivg_pinned_context_begins(exec, ivg_context_owner(exec, context));
        return result;
}

CUcontext ivg_context_ends(struct ivg_exec *exec, ivg_id context)
{
        CUcontext handle;

        if (ivg_context_enter(exec, context) == CUDA_SUCCESS) {
                ivg_pinned_context_ends(exec, context);
                ivg_meter_context_ends(exec, context);
        }
        ivg_thread_streams_context_ends(exec, context);
        ivg_ranges_remove_context(exec->ranges, context);
        ivg_vram_context_ends(context);
        ivg_handles_remove_context(exec, context);
        handle = ivg_handle_remove(exec, IVG_KIND_CONTEXT, context);
        /* E1, pairs with E2: after it no thread takes the number for current without finding it in the table. */
        atomic_fetch_add_explicit(&exec->context_epoch, 1, memory_order_acq_rel);
        ivg_context_forget();
        return handle;
}

struct any_context {
        ivg_id id;
};

static void take_first(void *arg, ivg_id id, void *handle)
{
        struct any_context *any = arg;

        (void)handle;
        if (any->id == IVG_ID_NONE)
                any->id = id;
}

void ivg_context_ended(struct ivg_exec *exec)
{
        struct any_context any = {.id = IVG_ID_NONE};

        ivg_handles_visit(exec, IVG_KIND_CONTEXT, take_first, &any);
        if (any.id != IVG_ID_NONE && ivg_context_begins(exec, any.id) != CUDA_SUCCESS)
                ivg_log(IVG_LOG_ERROR, "no context takes over the arena's registrations");
}
