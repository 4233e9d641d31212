/* Stream memory operations: write a word, wait for a word, in stream order. */
#include <stdlib.h>
#include <string.h>

#include "softgpu.h"

#define SG_MEMOPS_MAX 256u /* operations in one batch */

struct sg_memop {
        bool is_wait, is_wide, is_barrier;
        unsigned condition;
        uint64_t address, value;
        struct sg_allocation *owner; /* referenced */
};

struct sg_memop_op {
        struct sg_op op;
        unsigned count;
        CUstreamBatchMemOpParams *given; /* behind the items: as the program gave them */
        struct sg_memop items[];
};

/* Sequentially consistent: the word publishes everything that the stream did before, and takes what its writer did. */
static uint64_t sg_word_load(const struct sg_memop *item)
{
        return item->is_wide ? atomic_load((_Atomic(uint64_t) *)sg_pointer(item->address))
                             : atomic_load((_Atomic(uint32_t) *)sg_pointer(item->address));
}

static void sg_word_store(const struct sg_memop *item)
{
        if (item->is_wide)
                atomic_store((_Atomic(uint64_t) *)sg_pointer(item->address), item->value);
        else
                atomic_store((_Atomic(uint32_t) *)sg_pointer(item->address), (uint32_t)item->value);
}

static bool sg_word_satisfies(const struct sg_memop *item, uint64_t word)
{
        switch (item->condition) {
        case CU_STREAM_WAIT_VALUE_GEQ: /* cyclic: the difference, read as signed, is not negative */
                return item->is_wide ? (int64_t)(word - item->value) >= 0
                                     : (int32_t)((uint32_t)word - (uint32_t)item->value) >= 0;
        case CU_STREAM_WAIT_VALUE_EQ:
                return word == item->value;
        case CU_STREAM_WAIT_VALUE_AND:
                return (word & item->value) != 0;
        default: { /* CU_STREAM_WAIT_VALUE_NOR: checked at the call */
                const uint64_t nor = ~(word | item->value);
                return (item->is_wide ? nor : (uint32_t)nor) != 0;
        }
        }
}

static CUresult sg_memop_run(struct sg_op *op, struct sg_stream *stream)
{
        struct sg_memop_op *batch = (struct sg_memop_op *)op;
        for (unsigned i = 0; i < batch->count; i++) {
                const struct sg_memop *item = &batch->items[i];
                if (item->is_barrier) {
                        atomic_thread_fence(memory_order_seq_cst);
                } else if (!item->is_wait) {
                        sg_word_store(item);
                } else {
                        unsigned round = 0;
                        while (!sg_word_satisfies(item, sg_word_load(item)))
                                if (!sg_poll_pause(stream->context, &round))
                                        return CUDA_SUCCESS; /* failed or closing: the rest is dropped */
                }
        }
        return CUDA_SUCCESS;
}

static void sg_memop_release(struct sg_op *op)
{
        struct sg_memop_op *batch = (struct sg_memop_op *)op;
        for (unsigned i = 0; i < batch->count; i++)
                if (batch->items[i].owner != NULL)
                        sg_allocation_put(batch->items[i].owner);
        sg_op_free(op);
}

static void sg_memop_describe(const struct sg_op *op, CUgraphNodeParams *params)
{
        const struct sg_memop_op *batch = (const struct sg_memop_op *)op;
        params->memOp = (CUDA_BATCH_MEM_OP_NODE_PARAMS_v2){.count = batch->count, .paramArray = batch->given};
}

/* Finds the word's owner; its width is known. */
static CUresult sg_memop_bind(struct sg_memop *item)
{
        const size_t bytes = item->is_wide ? 8 : 4;
        if (item->address % bytes != 0)
                return CUDA_ERROR_INVALID_VALUE;
        item->owner = sg_registry_find(item->address);
        if (item->owner == NULL || item->owner->bytes - (item->address - item->owner->start) < bytes)
                return CUDA_ERROR_INVALID_VALUE;
        if (!item->is_wait && item->owner->kind == SG_MEMORY_REGISTERED &&
            (item->owner->flags & CU_MEMHOSTREGISTER_READ_ONLY) != 0)
                return CUDA_ERROR_INVALID_VALUE;
        return CUDA_SUCCESS;
}

static CUresult sg_memop_read_wait(struct sg_memop *item, uint64_t address, uint64_t value, unsigned flags, bool wide)
{
        if ((flags & CU_STREAM_WAIT_VALUE_FLUSH) != 0)
                return CUDA_ERROR_NOT_SUPPORTED; /* CAN_FLUSH_REMOTE_WRITES is 0 */
        if (flags > CU_STREAM_WAIT_VALUE_NOR)
                return CUDA_ERROR_INVALID_VALUE;
        *item = (struct sg_memop){.is_wait = true,
                                  .is_wide = wide,
                                  .condition = flags,
                                  .address = address,
                                  .value = wide ? value : (uint32_t)value};
        return sg_memop_bind(item);
}

static CUresult sg_memop_read_write(struct sg_memop *item, uint64_t address, uint64_t value, unsigned flags, bool wide)
{
        /* NO_MEMORY_BARRIER is "not supported in the v2 API" (cuda.h); the error is that of driver 580. */
        if (flags != CU_STREAM_WRITE_VALUE_DEFAULT)
                return CUDA_ERROR_INVALID_VALUE;
        *item = (struct sg_memop){.is_wide = wide, .address = address, .value = value};
        return sg_memop_bind(item);
}

static CUresult sg_memop_read(struct sg_memop *item, const CUstreamBatchMemOpParams *params)
{
        const CUstreamBatchMemOpType operation = params->operation;
        const bool wide = operation == CU_STREAM_MEM_OP_WAIT_VALUE_64 || operation == CU_STREAM_MEM_OP_WRITE_VALUE_64;
        switch (operation) {
        case CU_STREAM_MEM_OP_WAIT_VALUE_32:
        case CU_STREAM_MEM_OP_WAIT_VALUE_64:
                return sg_memop_read_wait(item, params->waitValue.address, params->waitValue.value64,
                                          params->waitValue.flags, wide);
        case CU_STREAM_MEM_OP_WRITE_VALUE_32:
        case CU_STREAM_MEM_OP_WRITE_VALUE_64:
                return sg_memop_read_write(item, params->writeValue.address, params->writeValue.value64,
                                           params->writeValue.flags, wide);
        case CU_STREAM_MEM_OP_BARRIER:
                *item = (struct sg_memop){.is_barrier = true};
                return params->memoryBarrier.flags <= CU_STREAM_MEMORY_BARRIER_TYPE_GPU ? CUDA_SUCCESS
                                                                                        : CUDA_ERROR_INVALID_VALUE;
        case CU_STREAM_MEM_OP_FLUSH_REMOTE_WRITES:
                return CUDA_ERROR_NOT_SUPPORTED;
        default:
                return CUDA_ERROR_INVALID_VALUE;
        }
}

SG_ENTRY(cuStreamBatchMemOp_v2, CUstream handle, unsigned count, CUstreamBatchMemOpParams *params, unsigned flags)
{
        struct sg_stream *stream;
        CUresult result = sg_stream_resolve(handle, &stream);
        if (result != CUDA_SUCCESS)
                return result;
        struct sg_memop_op *batch = NULL;
        if (count == 0 || count > SG_MEMOPS_MAX || params == NULL || flags != 0)
                result = CUDA_ERROR_INVALID_VALUE;
        else if ((batch = sg_op_new(sizeof(*batch) + count * (sizeof(batch->items[0]) + sizeof(*params)), sg_memop_run,
                                    sg_memop_release)) == NULL)
                result = CUDA_ERROR_OUT_OF_MEMORY;
        if (batch != NULL) {
                batch->op.node_type = CU_GRAPH_NODE_TYPE_BATCH_MEM_OP;
                batch->op.describe = sg_memop_describe;
                batch->given = (CUstreamBatchMemOpParams *)(void *)&batch->items[count];
                memcpy(batch->given, params, count * sizeof(*params));
        }
        for (unsigned i = 0; i < count && result == CUDA_SUCCESS; i++) {
                result = sg_memop_read(&batch->items[i], &params[i]);
                batch->count = i + 1;
        }
        if (result == CUDA_SUCCESS)
                result = sg_submit(stream, &batch->op);
        else if (batch != NULL)
                sg_memop_release(&batch->op);
        sg_object_put(stream);
        return result;
}

SG_ENTRY(cuStreamBatchMemOp_v2_ptsz, CUstream handle, unsigned count, CUstreamBatchMemOpParams *params, unsigned flags)
{
        return cuStreamBatchMemOp_v2(sg_per_thread(handle), count, params, flags);
}
SG_ALIAS(cuStreamBatchMemOp, cuStreamBatchMemOp_v2);
SG_ALIAS(cuStreamBatchMemOp_ptsz, cuStreamBatchMemOp_v2_ptsz);

static CUresult sg_memop_one(CUstream handle, CUstreamBatchMemOpType operation, CUdeviceptr address, uint64_t value,
                             unsigned flags)
{
        CUstreamBatchMemOpParams params;
        memset(&params, 0, sizeof(params));
        params.operation = operation;
        if (operation == CU_STREAM_MEM_OP_WAIT_VALUE_32 || operation == CU_STREAM_MEM_OP_WAIT_VALUE_64) {
                params.waitValue.address = address;
                params.waitValue.value64 = value;
                params.waitValue.flags = flags;
        } else {
                params.writeValue.address = address;
                params.writeValue.value64 = value;
                params.writeValue.flags = flags;
        }
        return cuStreamBatchMemOp_v2(handle, 1, &params, 0);
}

#define SG_MEMOP_CALLS(call, operation, type)                                                      \
        SG_ENTRY(call##_v2, CUstream handle, CUdeviceptr address, type value, unsigned flags)      \
        {                                                                                          \
                return sg_memop_one(handle, operation, address, value, flags);                     \
        }                                                                                          \
        SG_ENTRY(call##_v2_ptsz, CUstream handle, CUdeviceptr address, type value, unsigned flags) \
        {                                                                                          \
                return sg_memop_one(sg_per_thread(handle), operation, address, value, flags);      \
        }                                                                                          \
        SG_ALIAS(call, call##_v2);                                                                 \
        SG_ALIAS(call##_ptsz, call##_v2_ptsz)

SG_MEMOP_CALLS(cuStreamWriteValue32, CU_STREAM_MEM_OP_WRITE_VALUE_32, cuuint32_t);
SG_MEMOP_CALLS(cuStreamWriteValue64, CU_STREAM_MEM_OP_WRITE_VALUE_64, cuuint64_t);
SG_MEMOP_CALLS(cuStreamWaitValue32, CU_STREAM_MEM_OP_WAIT_VALUE_32, cuuint32_t);
SG_MEMOP_CALLS(cuStreamWaitValue64, CU_STREAM_MEM_OP_WAIT_VALUE_64, cuuint64_t);
