/* The exported one-dimensional copies, over copy.c. The per-thread variants differ in what the NULL stream means. */
#include "cuda_api.h"
#include "guest_send.h"
#include "memory.h"

/* Copies that the plain symbols do on the NULL stream are on the thread's own stream in the _ptds symbols. */
#define LEGACY IVG_ID_STREAM_LEGACY
#define PER_THREAD IVG_ID_STREAM_PER_THREAD

static CUresult copy_h2d(CUdeviceptr destination, const void *source, size_t bytes, CUstream stream, ivg_id null_stream,
                         bool synchronous)
{
        struct ivg_copy copy;
        const CUresult result = ivg_copy_begin(&copy, stream, null_stream, synchronous);
        return result != CUDA_SUCCESS ? result : ivg_copy_to_device(&copy, destination, source, bytes);
}

static CUresult copy_d2h(void *destination, CUdeviceptr source, size_t bytes, CUstream stream, ivg_id null_stream,
                         bool synchronous)
{
        struct ivg_copy copy;
        const CUresult result = ivg_copy_begin(&copy, stream, null_stream, synchronous);
        return result != CUDA_SUCCESS ? result : ivg_copy_from_device(&copy, destination, source, bytes);
}

static CUresult copy_d2d(CUdeviceptr destination, CUdeviceptr source, size_t bytes, CUstream stream, ivg_id null_stream,
                         bool synchronous)
{
        struct ivg_copy copy;
        const CUresult result = ivg_copy_begin(&copy, stream, null_stream, synchronous);
        return result != CUDA_SUCCESS ? result : ivg_copy_on_device(&copy, destination, source, bytes);
}

static CUresult copy_any(CUdeviceptr destination, CUdeviceptr source, size_t bytes, CUstream stream, ivg_id null_stream,
                         bool synchronous)
{
        struct ivg_copy copy;
        const CUresult result = ivg_copy_begin(&copy, stream, null_stream, synchronous);
        return result != CUDA_SUCCESS ? result : ivg_copy_unified(&copy, destination, source, bytes);
}

CUresult cuMemcpyHtoD_v2(CUdeviceptr dstDevice, const void *srcHost, size_t ByteCount)
{
        return copy_h2d(dstDevice, srcHost, ByteCount, NULL, LEGACY, true);
}

CUresult cuMemcpyHtoD_v2_ptds(CUdeviceptr dstDevice, const void *srcHost, size_t ByteCount)
{
        return copy_h2d(dstDevice, srcHost, ByteCount, NULL, PER_THREAD, true);
}

CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr dstDevice, const void *srcHost, size_t ByteCount, CUstream hStream)
{
        return copy_h2d(dstDevice, srcHost, ByteCount, hStream, LEGACY, false);
}

CUresult cuMemcpyHtoDAsync_v2_ptsz(CUdeviceptr dstDevice, const void *srcHost, size_t ByteCount, CUstream hStream)
{
        return copy_h2d(dstDevice, srcHost, ByteCount, hStream, PER_THREAD, false);
}

CUresult cuMemcpyDtoH_v2(void *dstHost, CUdeviceptr srcDevice, size_t ByteCount)
{
        return copy_d2h(dstHost, srcDevice, ByteCount, NULL, LEGACY, true);
}

CUresult cuMemcpyDtoH_v2_ptds(void *dstHost, CUdeviceptr srcDevice, size_t ByteCount)
{
        return copy_d2h(dstHost, srcDevice, ByteCount, NULL, PER_THREAD, true);
}

CUresult cuMemcpyDtoHAsync_v2(void *dstHost, CUdeviceptr srcDevice, size_t ByteCount, CUstream hStream)
{
        return copy_d2h(dstHost, srcDevice, ByteCount, hStream, LEGACY, false);
}

CUresult cuMemcpyDtoHAsync_v2_ptsz(void *dstHost, CUdeviceptr srcDevice, size_t ByteCount, CUstream hStream)
{
        return copy_d2h(dstHost, srcDevice, ByteCount, hStream, PER_THREAD, false);
}

CUresult cuMemcpyDtoD_v2(CUdeviceptr dstDevice, CUdeviceptr srcDevice, size_t ByteCount)
{
        return copy_d2d(dstDevice, srcDevice, ByteCount, NULL, LEGACY, true);
}

CUresult cuMemcpyDtoD_v2_ptds(CUdeviceptr dstDevice, CUdeviceptr srcDevice, size_t ByteCount)
{
        return copy_d2d(dstDevice, srcDevice, ByteCount, NULL, PER_THREAD, true);
}

CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr dstDevice, CUdeviceptr srcDevice, size_t ByteCount, CUstream hStream)
{
        return copy_d2d(dstDevice, srcDevice, ByteCount, hStream, LEGACY, false);
}

CUresult cuMemcpyDtoDAsync_v2_ptsz(CUdeviceptr dstDevice, CUdeviceptr srcDevice, size_t ByteCount, CUstream hStream)
{
        return copy_d2d(dstDevice, srcDevice, ByteCount, hStream, PER_THREAD, false);
}

CUresult cuMemcpy(CUdeviceptr dst, CUdeviceptr src, size_t ByteCount)
{
        return copy_any(dst, src, ByteCount, NULL, LEGACY, true);
}

CUresult cuMemcpy_ptds(CUdeviceptr dst, CUdeviceptr src, size_t ByteCount)
{
        return copy_any(dst, src, ByteCount, NULL, PER_THREAD, true);
}

CUresult cuMemcpyAsync(CUdeviceptr dst, CUdeviceptr src, size_t ByteCount, CUstream hStream)
{
        return copy_any(dst, src, ByteCount, hStream, LEGACY, false);
}

CUresult cuMemcpyAsync_ptsz(CUdeviceptr dst, CUdeviceptr src, size_t ByteCount, CUstream hStream)
{
        return copy_any(dst, src, ByteCount, hStream, PER_THREAD, false);
}

/* ---- between contexts ---- */

/* `ordered`: with the work of both contexts; else with that of the stream. */
static CUresult copy_peer(CUdeviceptr destination, CUcontext to, CUdeviceptr source, CUcontext from, size_t bytes,
                          CUstream stream, ivg_id null_stream, bool ordered)
{
        struct ivg_copy copy;
        const CUresult result = ivg_copy_begin(&copy, stream, null_stream, false);
        if (result != CUDA_SUCCESS)
                return result;
        const struct ivg_object *to_context = ivg_object_of(IVG_KIND_CONTEXT, to);
        const struct ivg_object *from_context = ivg_object_of(IVG_KIND_CONTEXT, from);
        if (to_context == NULL || from_context == NULL)
                return CUDA_ERROR_INVALID_CONTEXT;
        if (bytes == 0)
                return CUDA_SUCCESS;
        if (destination == 0 || source == 0)
                return CUDA_ERROR_INVALID_VALUE;
        return ordered ? ivg_send_cuMemcpyPeer(destination, to_context->id, source, from_context->id, bytes)
                       : ivg_send_cuMemcpyPeerAsync(destination, to_context->id, source, from_context->id, bytes,
                                                    copy.stream);
}

CUresult cuMemcpyPeer(CUdeviceptr dstDevice, CUcontext dstContext, CUdeviceptr srcDevice, CUcontext srcContext,
                      size_t ByteCount)
{
        return copy_peer(dstDevice, dstContext, srcDevice, srcContext, ByteCount, NULL, LEGACY, true);
}

/* On the legacy stream too, which the threads' own wait for. */
CUresult cuMemcpyPeer_ptds(CUdeviceptr dstDevice, CUcontext dstContext, CUdeviceptr srcDevice, CUcontext srcContext,
                           size_t ByteCount)
{
        return copy_peer(dstDevice, dstContext, srcDevice, srcContext, ByteCount, NULL, LEGACY, true);
}

CUresult cuMemcpyPeerAsync(CUdeviceptr dstDevice, CUcontext dstContext, CUdeviceptr srcDevice, CUcontext srcContext,
                           size_t ByteCount, CUstream hStream)
{
        return copy_peer(dstDevice, dstContext, srcDevice, srcContext, ByteCount, hStream, LEGACY, false);
}

CUresult cuMemcpyPeerAsync_ptsz(CUdeviceptr dstDevice, CUcontext dstContext, CUdeviceptr srcDevice,
                                CUcontext srcContext, size_t ByteCount, CUstream hStream)
{
        return copy_peer(dstDevice, dstContext, srcDevice, srcContext, ByteCount, hStream, PER_THREAD, false);
}
