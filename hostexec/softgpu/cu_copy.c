/* Copies of plain ranges. Every form ends in sg_copy: two ranges that were checked and are kept, and when to return. */
#include <stdlib.h>
#include <string.h>

#include "copy.h"
#include "softgpu.h"

CUresult sg_span_open(uint64_t address, size_t bytes, enum sg_side side, struct sg_span *out)
{
        *out = (struct sg_span){.address = sg_pointer(address)};
        if (address > UINT64_MAX - bytes)
                return CUDA_ERROR_INVALID_VALUE;
        struct sg_allocation *owner = sg_registry_find(address);
        if (owner != NULL) {
                const bool inside = owner->kind == SG_MEMORY_MAPPED ? sg_mappings_allow(address, bytes, &out->read_only)
                                                                    : bytes <= owner->bytes - (address - owner->start);
                if (!inside || (sg_kind_is_device(owner->kind) && side == SG_SIDE_HOST)) {
                        sg_allocation_put(owner);
                        return CUDA_ERROR_INVALID_VALUE;
                }
                out->owner = owner;
                return CUDA_SUCCESS;
        }
        /* Not ours, so only the program's own pageable memory is left; never a hole in a device's window. */
        if (side == SG_SIDE_DEVICE || address == 0 || sg_address_in_window(address, bytes))
                return CUDA_ERROR_INVALID_VALUE;
        out->pageable = true;
        return CUDA_SUCCESS;
}

void sg_span_close(struct sg_span *span)
{
        if (span->owner != NULL)
                sg_allocation_put(span->owner);
        span->owner = NULL;
}

bool sg_span_is_read_only(const struct sg_span *span)
{
        return span->read_only || (span->owner != NULL && span->owner->kind == SG_MEMORY_REGISTERED &&
                                   (span->owner->flags & CU_MEMHOSTREGISTER_READ_ONLY) != 0);
}

CUmemorytype sg_span_type(const struct sg_span *span)
{
        switch (span->owner != NULL ? span->owner->kind : SG_MEMORY_PINNED) {
        case SG_MEMORY_PINNED:
        case SG_MEMORY_REGISTERED:
                return CU_MEMORYTYPE_HOST;
        default:
                return CU_MEMORYTYPE_DEVICE;
        }
}

struct sg_copy_op {
        struct sg_op op;
        struct sg_span destination, source;
        size_t bytes;
        char staged[];
};

static CUresult sg_copy_run(struct sg_op *op, struct sg_stream *stream)
{
        struct sg_copy_op *copy = (struct sg_copy_op *)op;
        (void)stream;
        memmove(copy->destination.address, copy->source.address, copy->bytes);
        return CUDA_SUCCESS;
}

static void sg_copy_release(struct sg_op *op)
{
        struct sg_copy_op *copy = (struct sg_copy_op *)op;
        sg_span_close(&copy->destination);
        sg_span_close(&copy->source);
        sg_op_free(op);
}

static void sg_copy_describe(const struct sg_op *op, CUgraphNodeParams *params)
{
        const struct sg_copy_op *copy = (const struct sg_copy_op *)op;
        params->memcpy.copyParams = (CUDA_MEMCPY3D){.srcMemoryType = sg_span_type(&copy->source),
                                                    .srcHost = copy->source.address,
                                                    .srcDevice = sg_address(copy->source.address),
                                                    .srcPitch = copy->bytes,
                                                    .srcHeight = 1,
                                                    .dstMemoryType = sg_span_type(&copy->destination),
                                                    .dstHost = copy->destination.address,
                                                    .dstDevice = sg_address(copy->destination.address),
                                                    .dstPitch = copy->bytes,
                                                    .dstHeight = 1,
                                                    .WidthInBytes = copy->bytes,
                                                    .Height = 1,
                                                    .Depth = 1};
}

/* Takes the spans. An asynchronous copy whose pageable side outlives the call only as CUDA promises: a source is read
 * before the call returns, a destination is written before it. */
static CUresult sg_copy_submit(struct sg_stream *stream, struct sg_span *destination, struct sg_span *source,
                               size_t bytes, bool synchronous)
{
        const bool stage = !synchronous && source->pageable && !destination->pageable && bytes <= SG_STAGED_BYTES_MAX;
        struct sg_copy_op *copy = sg_op_new(sizeof(*copy) + (stage ? bytes : 0), sg_copy_run, sg_copy_release);
        if (copy == NULL) {
                sg_span_close(destination);
                sg_span_close(source);
                return CUDA_ERROR_OUT_OF_MEMORY;
        }
        copy->destination = *destination;
        copy->source = *source;
        copy->bytes = bytes;
        /* Pageable memory: the graph would need it at each launch, when nothing keeps it. */
        copy->op.node_type = source->pageable || destination->pageable ? SG_NODE_TYPE_NONE : CU_GRAPH_NODE_TYPE_MEMCPY;
        copy->op.describe = sg_copy_describe;
        if (stage) {
                memcpy(copy->staged, source->address, bytes);
                copy->source.address = copy->staged;
        } else if (source->pageable || destination->pageable) {
                synchronous = true;
        }
        return synchronous ? sg_submit_wait(stream, &copy->op) : sg_submit(stream, &copy->op);
}

static CUresult sg_copy(CUstream handle, uint64_t destination, enum sg_side destination_side, uint64_t source,
                        enum sg_side source_side, size_t bytes, bool synchronous)
{
        struct sg_stream *stream;
        struct sg_span to, from;
        CUresult result = sg_stream_resolve(handle, &stream);
        if (result != CUDA_SUCCESS)
                return result;
        if (bytes != 0) {
                result = sg_span_open(destination, bytes, destination_side, &to);
                if (result == CUDA_SUCCESS &&
                    (result = sg_span_open(source, bytes, source_side, &from)) != CUDA_SUCCESS)
                        sg_span_close(&to);
                if (result == CUDA_SUCCESS && sg_span_is_read_only(&to)) {
                        sg_span_close(&to);
                        sg_span_close(&from);
                        result = CUDA_ERROR_INVALID_VALUE;
                }
                if (result == CUDA_SUCCESS)
                        result = sg_copy_submit(stream, &to, &from, bytes, synchronous);
        }
        sg_object_put(stream);
        return result;
}

/* One kind of copy in its four forms: legacy and per-thread stream, waiting and not. */
#define SG_COPY_CALLS(call, suffix, to_type, to_side, from_type, from_side)                                       \
        SG_ENTRY(call##suffix, to_type to, from_type from, size_t bytes)                                          \
        {                                                                                                         \
                return sg_copy(NULL, SG_AS_ADDRESS(to), to_side, SG_AS_ADDRESS(from), from_side, bytes, true);    \
        }                                                                                                         \
        SG_ENTRY(call##suffix##_ptds, to_type to, from_type from, size_t bytes)                                   \
        {                                                                                                         \
                return sg_copy(CU_STREAM_PER_THREAD, SG_AS_ADDRESS(to), to_side, SG_AS_ADDRESS(from), from_side,  \
                               bytes, true);                                                                      \
        }                                                                                                         \
        SG_ENTRY(call##Async##suffix, to_type to, from_type from, size_t bytes, CUstream stream)                  \
        {                                                                                                         \
                return sg_copy(stream, SG_AS_ADDRESS(to), to_side, SG_AS_ADDRESS(from), from_side, bytes, false); \
        }                                                                                                         \
        SG_ENTRY(call##Async##suffix##_ptsz, to_type to, from_type from, size_t bytes, CUstream stream)           \
        {                                                                                                         \
                return call##Async##suffix(to, from, bytes, sg_per_thread(stream));                               \
        }
#define SG_AS_ADDRESS(value) ((uint64_t)(uintptr_t)(value))

SG_COPY_CALLS(cuMemcpy, , CUdeviceptr, SG_SIDE_ANY, CUdeviceptr, SG_SIDE_ANY)
SG_COPY_CALLS(cuMemcpyHtoD, _v2, CUdeviceptr, SG_SIDE_DEVICE, const void *, SG_SIDE_HOST)
SG_COPY_CALLS(cuMemcpyDtoH, _v2, void *, SG_SIDE_HOST, CUdeviceptr, SG_SIDE_DEVICE)
SG_COPY_CALLS(cuMemcpyDtoD, _v2, CUdeviceptr, SG_SIDE_DEVICE, CUdeviceptr, SG_SIDE_DEVICE)

/* Between contexts. Addresses are unique among devices, so the contexts only have to exist. */
static CUresult sg_copy_peer(CUstream handle, CUdeviceptr to, CUcontext to_context, CUdeviceptr from,
                             CUcontext from_context, size_t bytes, bool synchronous)
{
        struct sg_context *ends[2];
        CUresult result = sg_context_lookup(to_context, &ends[0]);
        if (result == CUDA_SUCCESS)
                result = sg_context_lookup(from_context, &ends[1]);
        for (unsigned i = 0; i < 2 && result == CUDA_SUCCESS; i++)
                result = sg_context_check(ends[i]);
        /* Without a stream it is in order with the work of both. */
        for (unsigned i = 0; i < 2 && synchronous && result == CUDA_SUCCESS; i++)
                result = sg_context_drain(ends[i]);
        if (result != CUDA_SUCCESS)
                return result;
        return sg_copy(handle, to, SG_SIDE_DEVICE, from, SG_SIDE_DEVICE, bytes, synchronous);
}

SG_ENTRY(cuMemcpyPeer, CUdeviceptr to, CUcontext to_context, CUdeviceptr from, CUcontext from_context, size_t bytes)
{
        return sg_copy_peer(NULL, to, to_context, from, from_context, bytes, true);
}

SG_ENTRY(cuMemcpyPeer_ptds, CUdeviceptr to, CUcontext to_context, CUdeviceptr from, CUcontext from_context,
         size_t bytes)
{
        return sg_copy_peer(CU_STREAM_PER_THREAD, to, to_context, from, from_context, bytes, true);
}

SG_ENTRY(cuMemcpyPeerAsync, CUdeviceptr to, CUcontext to_context, CUdeviceptr from, CUcontext from_context,
         size_t bytes, CUstream stream)
{
        return sg_copy_peer(stream, to, to_context, from, from_context, bytes, false);
}

SG_ENTRY(cuMemcpyPeerAsync_ptsz, CUdeviceptr to, CUcontext to_context, CUdeviceptr from, CUcontext from_context,
         size_t bytes, CUstream stream)
{
        return sg_copy_peer(sg_per_thread(stream), to, to_context, from, from_context, bytes, false);
}
