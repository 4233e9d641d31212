/* Batches of copies, prefetches and discards: each entry is the single call's work. A batch as a whole is in stream
 * order and promises no order inside; here its entries follow each other, each a record that nobody waits for. */
#include "cuda_api.h"
#include "guest_send.h"
#include "memory.h"

/* The stream must be named: a batch on the legacy default stream is an error. */
static CUresult batch_begin(struct ivg_copy *copy, CUstream stream, ivg_id null_stream)
{
        const CUresult result = ivg_copy_begin(copy, stream, null_stream, false);

        return result == CUDA_SUCCESS && copy->stream == IVG_ID_STREAM_LEGACY ? CUDA_ERROR_INVALID_VALUE : result;
}

/* Entry k of a table of attributes is for operations starts[k] up to starts[k + 1]: from 0 on, growing. */
static bool starts_are_valid(const size_t *starts, size_t starts_count, size_t count)
{
        bool valid = starts_count > 0 && starts_count <= count && starts[0] == 0;

        for (size_t i = 1; valid && i < starts_count; i++)
                valid = starts[i] > starts[i - 1] && starts[i] < count;
        return valid;
}

static bool order_is_valid(CUmemcpySrcAccessOrder order)
{
        return order == CU_MEMCPY_SRC_ACCESS_ORDER_STREAM || order == CU_MEMCPY_SRC_ACCESS_ORDER_DURING_API_CALL ||
               order == CU_MEMCPY_SRC_ACCESS_ORDER_ANY;
}

/* ---- copies ---- */

/* Pageable sources have been read when a copy returns; of others, which a stream reads later, the program may have
 * asked that they be done with. */
static CUresult batch_end(const struct ivg_copy *copy, bool during_call)
{
        return during_call && !copy->captured ? ivg_send_cuStreamSynchronize(copy->stream) : CUDA_SUCCESS;
}

static CUresult copy_batch(const CUdeviceptr *to, const CUdeviceptr *from, const size_t *sizes, size_t count,
                           const CUmemcpyAttributes *attributes, const size_t *starts, size_t starts_count,
                           size_t *failed, CUstream stream, ivg_id null_stream)
{
        struct ivg_copy copy;
        bool during_call = false;
        size_t at = 0;
        CUresult result = batch_begin(&copy, stream, null_stream);

        if (failed != NULL)
                *failed = SIZE_MAX; /* none in particular */
        if (result != CUDA_SUCCESS)
                return result;
        if (to == NULL || from == NULL || sizes == NULL || attributes == NULL || starts == NULL ||
            !starts_are_valid(starts, starts_count, count))
                return CUDA_ERROR_INVALID_VALUE;
        for (size_t i = 0; i < starts_count; i++) {
                if (!order_is_valid(attributes[i].srcAccessOrder))
                        return CUDA_ERROR_INVALID_VALUE;
                during_call |= attributes[i].srcAccessOrder == CU_MEMCPY_SRC_ACCESS_ORDER_DURING_API_CALL;
        }
        while (result == CUDA_SUCCESS && at < count) {
                result = ivg_copy_unified(&copy, to[at], from[at], sizes[at]);
                at++;
        }
        if (result != CUDA_SUCCESS && failed != NULL)
                *failed = at - 1;
        return result == CUDA_SUCCESS ? batch_end(&copy, during_call) : result;
}

CUresult cuMemcpyBatchAsync(CUdeviceptr *dsts, CUdeviceptr *srcs, size_t *sizes, size_t count,
                            CUmemcpyAttributes *attrs, size_t *attrsIdxs, size_t numAttrs, size_t *failIdx,
                            CUstream hStream)
{
        return copy_batch(dsts, srcs, sizes, count, attrs, attrsIdxs, numAttrs, failIdx, hStream, IVG_ID_STREAM_LEGACY);
}

CUresult cuMemcpyBatchAsync_v2(CUdeviceptr *dsts, CUdeviceptr *srcs, size_t *sizes, size_t count,
                               CUmemcpyAttributes *attrs, size_t *attrsIdxs, size_t numAttrs, CUstream hStream)
{
        return copy_batch(dsts, srcs, sizes, count, attrs, attrsIdxs, numAttrs, NULL, hStream, IVG_ID_STREAM_LEGACY);
}

CUresult cuMemcpyBatchAsync_ptsz(CUdeviceptr *dsts, CUdeviceptr *srcs, size_t *sizes, size_t count,
                                 CUmemcpyAttributes *attrs, size_t *attrsIdxs, size_t numAttrs, size_t *failIdx,
                                 CUstream hStream)
{
        return copy_batch(dsts, srcs, sizes, count, attrs, attrsIdxs, numAttrs, failIdx, hStream,
                          IVG_ID_STREAM_PER_THREAD);
}

CUresult cuMemcpyBatchAsync_v2_ptsz(CUdeviceptr *dsts, CUdeviceptr *srcs, size_t *sizes, size_t count,
                                    CUmemcpyAttributes *attrs, size_t *attrsIdxs, size_t numAttrs, CUstream hStream)
{
        return copy_batch(dsts, srcs, sizes, count, attrs, attrsIdxs, numAttrs, NULL, hStream,
                          IVG_ID_STREAM_PER_THREAD);
}

/* ---- boxes ---- */

/* One side in the form of a single copy; lengths that are 0 mean packed rows and layers. */
static CUresult operand(const CUmemcpy3DOperand *in, const CUextent3D *extent, CUdeviceptr *device, size_t *pitch,
                        size_t *height)
{
        if (in->type == CU_MEMCPY_OPERAND_TYPE_ARRAY)
                return ivg_refuse("cuMemcpy3DBatchAsync with arrays");
        if (in->type != CU_MEMCPY_OPERAND_TYPE_POINTER)
                return CUDA_ERROR_INVALID_VALUE;
        *device = in->op.ptr.ptr;
        *pitch = in->op.ptr.rowLength != 0 ? in->op.ptr.rowLength : extent->width;
        *height = in->op.ptr.layerHeight != 0 ? in->op.ptr.layerHeight : extent->height;
        return *pitch >= extent->width && *height >= extent->height ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

static CUresult box_of(const CUDA_MEMCPY3D_BATCH_OP *in, CUDA_MEMCPY3D *out)
{
        CUresult result = CUDA_ERROR_INVALID_VALUE;

        *out = (CUDA_MEMCPY3D){.srcMemoryType = CU_MEMORYTYPE_UNIFIED,
                               .dstMemoryType = CU_MEMORYTYPE_UNIFIED,
                               .WidthInBytes = in->extent.width,
                               .Height = in->extent.height,
                               .Depth = in->extent.depth};
        if (order_is_valid(in->srcAccessOrder) && in->extent.width != 0 && in->extent.height != 0 &&
            in->extent.depth != 0)
                result = operand(&in->src, &in->extent, &out->srcDevice, &out->srcPitch, &out->srcHeight);
        if (result == CUDA_SUCCESS)
                result = operand(&in->dst, &in->extent, &out->dstDevice, &out->dstPitch, &out->dstHeight);
        return result;
}

static CUresult box_batch(size_t count, const CUDA_MEMCPY3D_BATCH_OP *list, size_t *failed, unsigned long long flags,
                          CUstream stream, ivg_id null_stream)
{
        struct ivg_copy copy;
        bool during_call = false;
        size_t at = 0;
        CUresult result = batch_begin(&copy, stream, null_stream);

        if (failed != NULL)
                *failed = SIZE_MAX;
        if (result != CUDA_SUCCESS)
                return result;
        if (list == NULL || count == 0 || flags != 0)
                return CUDA_ERROR_INVALID_VALUE;
        while (result == CUDA_SUCCESS && at < count) {
                CUDA_MEMCPY3D box;

                during_call |= list[at].srcAccessOrder == CU_MEMCPY_SRC_ACCESS_ORDER_DURING_API_CALL;
                result = box_of(&list[at], &box);
                if (result == CUDA_SUCCESS)
                        result = null_stream == IVG_ID_STREAM_LEGACY ? cuMemcpy3DAsync_v2(&box, stream)
                                                                     : cuMemcpy3DAsync_v2_ptsz(&box, stream);
                at++;
        }
        if (result != CUDA_SUCCESS && failed != NULL)
                *failed = at - 1;
        return result == CUDA_SUCCESS ? batch_end(&copy, during_call) : result;
}

CUresult cuMemcpy3DBatchAsync(size_t numOps, CUDA_MEMCPY3D_BATCH_OP *opList, size_t *failIdx, unsigned long long flags,
                              CUstream hStream)
{
        return box_batch(numOps, opList, failIdx, flags, hStream, IVG_ID_STREAM_LEGACY);
}

CUresult cuMemcpy3DBatchAsync_v2(size_t numOps, CUDA_MEMCPY3D_BATCH_OP *opList, unsigned long long flags,
                                 CUstream hStream)
{
        return box_batch(numOps, opList, NULL, flags, hStream, IVG_ID_STREAM_LEGACY);
}

CUresult cuMemcpy3DBatchAsync_ptsz(size_t numOps, CUDA_MEMCPY3D_BATCH_OP *opList, size_t *failIdx,
                                   unsigned long long flags, CUstream hStream)
{
        return box_batch(numOps, opList, failIdx, flags, hStream, IVG_ID_STREAM_PER_THREAD);
}

CUresult cuMemcpy3DBatchAsync_v2_ptsz(size_t numOps, CUDA_MEMCPY3D_BATCH_OP *opList, unsigned long long flags,
                                      CUstream hStream)
{
        return box_batch(numOps, opList, NULL, flags, hStream, IVG_ID_STREAM_PER_THREAD);
}

/* ---- managed memory: nothing moves, so a discard only has to name what it may ---- */

static void leave(const struct ivg_advice *advice, void *nothing)
{
        (void)advice;
        (void)nothing;
}

/* A discard leaves what is there, which is as good as any other; with a prefetch it is one. */
static CUresult managed_batch(const CUdeviceptr *pointers, const size_t *sizes, size_t count,
                              const CUmemLocation *locations, const size_t *starts, size_t starts_count,
                              bool prefetches, unsigned long long flags, CUstream stream, ivg_id null_stream)
{
        struct ivg_copy copy;
        CUresult result = batch_begin(&copy, stream, null_stream);

        if (result != CUDA_SUCCESS)
                return result;
        if (pointers == NULL || sizes == NULL || count == 0 || flags != 0 ||
            (prefetches && (locations == NULL || starts == NULL || !starts_are_valid(starts, starts_count, count))))
                return CUDA_ERROR_INVALID_VALUE;
        for (size_t i = 0, entry = 0; result == CUDA_SUCCESS && i < count; i++) {
                while (prefetches && entry + 1 < starts_count && i >= starts[entry + 1])
                        entry++;
                if (!prefetches)
                        result = ivg_advice_read(pointers[i], sizes[i], leave, NULL);
                else if (null_stream == IVG_ID_STREAM_LEGACY)
                        result = cuMemPrefetchAsync_v2(pointers[i], sizes[i], locations[entry], 0, stream);
                else
                        result = cuMemPrefetchAsync_v2_ptsz(pointers[i], sizes[i], locations[entry], 0, stream);
        }
        return result;
}

CUresult cuMemPrefetchBatchAsync(CUdeviceptr *dptrs, size_t *sizes, size_t count, CUmemLocation *prefetchLocs,
                                 size_t *prefetchLocIdxs, size_t numPrefetchLocs, unsigned long long flags,
                                 CUstream hStream)
{
        return managed_batch(dptrs, sizes, count, prefetchLocs, prefetchLocIdxs, numPrefetchLocs, true, flags, hStream,
                             IVG_ID_STREAM_LEGACY);
}

CUresult cuMemDiscardAndPrefetchBatchAsync(CUdeviceptr *dptrs, size_t *sizes, size_t count, CUmemLocation *prefetchLocs,
                                           size_t *prefetchLocIdxs, size_t numPrefetchLocs, unsigned long long flags,
                                           CUstream hStream)
{
        return managed_batch(dptrs, sizes, count, prefetchLocs, prefetchLocIdxs, numPrefetchLocs, true, flags, hStream,
                             IVG_ID_STREAM_LEGACY);
}

CUresult cuMemDiscardBatchAsync(CUdeviceptr *dptrs, size_t *sizes, size_t count, unsigned long long flags,
                                CUstream hStream)
{
        return managed_batch(dptrs, sizes, count, NULL, NULL, 0, false, flags, hStream, IVG_ID_STREAM_LEGACY);
}

CUresult cuMemPrefetchBatchAsync_ptsz(CUdeviceptr *dptrs, size_t *sizes, size_t count, CUmemLocation *prefetchLocs,
                                      size_t *prefetchLocIdxs, size_t numPrefetchLocs, unsigned long long flags,
                                      CUstream hStream)
{
        return managed_batch(dptrs, sizes, count, prefetchLocs, prefetchLocIdxs, numPrefetchLocs, true, flags, hStream,
                             IVG_ID_STREAM_PER_THREAD);
}

CUresult cuMemDiscardAndPrefetchBatchAsync_ptsz(CUdeviceptr *dptrs, size_t *sizes, size_t count,
                                                CUmemLocation *prefetchLocs, size_t *prefetchLocIdxs,
                                                size_t numPrefetchLocs, unsigned long long flags, CUstream hStream)
{
        return managed_batch(dptrs, sizes, count, prefetchLocs, prefetchLocIdxs, numPrefetchLocs, true, flags, hStream,
                             IVG_ID_STREAM_PER_THREAD);
}

CUresult cuMemDiscardBatchAsync_ptsz(CUdeviceptr *dptrs, size_t *sizes, size_t count, unsigned long long flags,
                                     CUstream hStream)
{
        return managed_batch(dptrs, sizes, count, NULL, NULL, 0, false, flags, hStream, IVG_ID_STREAM_PER_THREAD);
}
