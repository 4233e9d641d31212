/* Batches of stream memory operations: every address is checked as for the single ones, and nothing else of the guest's
 * gets into the driver's structure. */
#include "exec_internal.h"
#include "host_args.h"
#include <string.h>

#define IVG_MEMOPS_MAX 256u /* as in the call table */

CUresult ivg_memory_operation(struct ivg_exec_call *call, CUstreamBatchMemOpParams *to,
                              const CUstreamBatchMemOpParams *from)
{
        memset(to, 0, sizeof(*to)); /* `alias` too, which is the driver's own */
        to->operation = from->operation;
        switch (from->operation) {
        case CU_STREAM_MEM_OP_WAIT_VALUE_32:
        case CU_STREAM_MEM_OP_WAIT_VALUE_64:
                to->waitValue.address = from->waitValue.address;
                to->waitValue.value64 = from->waitValue.value64;
                to->waitValue.flags = from->waitValue.flags;
                return ivg_exec_device_range(call, from->waitValue.address,
                                             from->operation == CU_STREAM_MEM_OP_WAIT_VALUE_64 ? 8 : 4);
        case CU_STREAM_MEM_OP_WRITE_VALUE_32:
        case CU_STREAM_MEM_OP_WRITE_VALUE_64:
                to->writeValue.address = from->writeValue.address;
                to->writeValue.value64 = from->writeValue.value64;
                to->writeValue.flags = from->writeValue.flags;
                return ivg_exec_device_range(call, from->writeValue.address,
                                             from->operation == CU_STREAM_MEM_OP_WRITE_VALUE_64 ? 8 : 4);
        case CU_STREAM_MEM_OP_FLUSH_REMOTE_WRITES:
                to->flushRemoteWrites.flags = from->flushRemoteWrites.flags;
                return CUDA_SUCCESS;
        case CU_STREAM_MEM_OP_BARRIER:
                to->memoryBarrier.flags = from->memoryBarrier.flags;
                return CUDA_SUCCESS;
        default:
                return CUDA_ERROR_INVALID_VALUE;
        }
}

CUresult ivg_host_cuStreamBatchMemOp_v2(struct ivg_exec_call *call, const struct ivg_args_cuStreamBatchMemOp_v2 *args)
{
        const struct ivg_driver *driver = ivg_exec_driver(call->exec);
        CUstreamBatchMemOpParams operations[IVG_MEMOPS_MAX];

        if (!driver->cuStreamBatchMemOp_v2)
                return CUDA_ERROR_NOT_SUPPORTED;
        if (args->paramArray_count == 0 || args->paramArray_count > IVG_MEMOPS_MAX)
                return CUDA_ERROR_INVALID_VALUE;
        for (uint32_t i = 0; i < args->paramArray_count; i++) {
                const CUresult result = ivg_memory_operation(call, &operations[i], &args->paramArray[i]);

                if (result != CUDA_SUCCESS)
                        return result;
        }
        return driver->cuStreamBatchMemOp_v2(args->stream, args->paramArray_count, operations, args->flags);
}
