/* Errors of asynchronous calls: the first is kept until an answer may carry it.
 *
 * CUDA lets such an error surface at a later call. One word for the process: a context's sticky error is not kept,
 * since the driver gives it at every call of that context, and another context must not be told. */
#include "exec_internal.h"

void ivg_deferred_note(struct ivg_exec *exec, CUresult result)
{
        uint32_t none = CUDA_SUCCESS;

        (void)ivg_compare_exchange_acq_rel_u32(&exec->deferred, &none, (uint32_t)result);
        /* E1, release, pairs with E2 (synchronize.c of the guest): after the error, so that whoever sees the count move
         * finds it. */
        atomic_fetch_add_explicit(&exec->completions[IVG_DEFERRED_NOTED], 1, memory_order_release);
}

CUresult ivg_deferred_take(struct ivg_exec *exec)
{
        /* Relaxed: the value is all there is; the look first spares a locked operation in the ordinary case. */
        if (ivg_load_relaxed_u32(&exec->deferred) == CUDA_SUCCESS)
                return CUDA_SUCCESS;
        return (CUresult)ivg_exchange_seq_cst_u32(&exec->deferred, CUDA_SUCCESS);
}

CUresult ivg_deferred_report(struct ivg_exec *exec, CUresult result)
{
        uint32_t told = (uint32_t)result;

        if (result == CUDA_SUCCESS)
                return ivg_deferred_take(exec);
        /* The call failed with the very error that is kept (a sticky one): told is told. */
        (void)ivg_compare_exchange_acq_rel_u32(&exec->deferred, &told, CUDA_SUCCESS);
        return result;
}
