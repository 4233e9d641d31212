/* Completion words of copies: how the guest learns that one is done. */
#include "exec_internal.h"

CUresult ivg_exec_completion_prepare(struct ivg_exec_call *call, struct ivg_exec_completion *completion, uint32_t index,
                                     uint64_t value)
{
        *completion = (struct ivg_exec_completion){.index = index, .value = value};
        if (index == IVG_COMPLETION_NONE)
                return CUDA_SUCCESS;
        if (index >= IVG_COMPLETION_COPY_WORDS || value & IVG_COMPLETION_FAILED)
                return ivg_exec_refuse(call, IVG_FAULT_ARGUMENTS, index);
        return ivg_pinned_completion_word(call->exec, ivg_context_owner(call->exec, call->context), index,
                                          &completion->address);
}

static void store(struct ivg_exec *exec, const struct ivg_exec_completion *completion, uint64_t value)
{
        /* D2, release, pairs with D1 (completion.c of the guest): only so that a waiting guest sees what this thread
         * did before; the data is the device's. */
        ivg_store_release_u64(&exec->completions[completion->index], value);
}

CUresult ivg_exec_completion_finish(struct ivg_exec_call *call, const struct ivg_exec_completion *completion,
                                    CUstream stream, CUresult result)
{
        struct ivg_exec *exec = call->exec;

        if (call->fault != IVG_FAULT_NONE || completion->index == IVG_COMPLETION_NONE)
                return result;
        if (result == CUDA_SUCCESS)
                result = exec->driver.cuStreamWriteValue64_v2(stream, completion->address, completion->value,
                                                              CU_STREAM_WRITE_VALUE_DEFAULT);
        if (result == CUDA_SUCCESS && !ivg_thread_may_wait)
                exec->awaited = (struct ivg_exec_awaited){.index = completion->index, .value = completion->value};
        if (result != CUDA_SUCCESS)
                store(exec, completion, ivg_completion_failure(completion->value, (uint32_t)result));
        return result;
}

CUresult ivg_exec_completion_finish_read(struct ivg_exec_call *call, const struct ivg_exec_completion *completion,
                                         CUresult result)
{
        if (call->fault == IVG_FAULT_NONE && completion->index != IVG_COMPLETION_NONE)
                store(call->exec, completion,
                      result == CUDA_SUCCESS ? completion->value
                                             : ivg_completion_failure(completion->value, (uint32_t)result));
        return result;
}
