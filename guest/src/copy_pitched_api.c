/* The exported copies in two and three dimensions, over copy_pitched.c. The per-thread variants differ in what the NULL
 * stream means. */
#include "cuda_api.h"
#include "memory.h"

CUresult cuMemcpy2D_v2(const CUDA_MEMCPY2D *pCopy)
{
        return ivg_copy_2d(pCopy, NULL, IVG_ID_STREAM_LEGACY, true);
}

CUresult cuMemcpy2D_v2_ptds(const CUDA_MEMCPY2D *pCopy)
{
        return ivg_copy_2d(pCopy, NULL, IVG_ID_STREAM_PER_THREAD, true);
}

CUresult cuMemcpy2DUnaligned_v2(const CUDA_MEMCPY2D *pCopy)
{
        return ivg_copy_2d(pCopy, NULL, IVG_ID_STREAM_LEGACY, true);
}

CUresult cuMemcpy2DUnaligned_v2_ptds(const CUDA_MEMCPY2D *pCopy)
{
        return ivg_copy_2d(pCopy, NULL, IVG_ID_STREAM_PER_THREAD, true);
}

CUresult cuMemcpy2DAsync_v2(const CUDA_MEMCPY2D *pCopy, CUstream hStream)
{
        return ivg_copy_2d(pCopy, hStream, IVG_ID_STREAM_LEGACY, false);
}

CUresult cuMemcpy2DAsync_v2_ptsz(const CUDA_MEMCPY2D *pCopy, CUstream hStream)
{
        return ivg_copy_2d(pCopy, hStream, IVG_ID_STREAM_PER_THREAD, false);
}

CUresult cuMemcpy3D_v2(const CUDA_MEMCPY3D *pCopy)
{
        return ivg_copy_3d(pCopy, NULL, IVG_ID_STREAM_LEGACY, true);
}

CUresult cuMemcpy3D_v2_ptds(const CUDA_MEMCPY3D *pCopy)
{
        return ivg_copy_3d(pCopy, NULL, IVG_ID_STREAM_PER_THREAD, true);
}

CUresult cuMemcpy3DAsync_v2(const CUDA_MEMCPY3D *pCopy, CUstream hStream)
{
        return ivg_copy_3d(pCopy, hStream, IVG_ID_STREAM_LEGACY, false);
}

CUresult cuMemcpy3DAsync_v2_ptsz(const CUDA_MEMCPY3D *pCopy, CUstream hStream)
{
        return ivg_copy_3d(pCopy, hStream, IVG_ID_STREAM_PER_THREAD, false);
}

CUresult cuMemcpy3DPeer(const CUDA_MEMCPY3D_PEER *pCopy)
{
        return ivg_copy_3d_peer(pCopy, NULL, IVG_ID_STREAM_LEGACY, true);
}

CUresult cuMemcpy3DPeer_ptds(const CUDA_MEMCPY3D_PEER *pCopy)
{
        return ivg_copy_3d_peer(pCopy, NULL, IVG_ID_STREAM_PER_THREAD, true);
}

CUresult cuMemcpy3DPeerAsync(const CUDA_MEMCPY3D_PEER *pCopy, CUstream hStream)
{
        return ivg_copy_3d_peer(pCopy, hStream, IVG_ID_STREAM_LEGACY, false);
}

CUresult cuMemcpy3DPeerAsync_ptsz(const CUDA_MEMCPY3D_PEER *pCopy, CUstream hStream)
{
        return ivg_copy_3d_peer(pCopy, hStream, IVG_ID_STREAM_PER_THREAD, false);
}
