/* The array calls of CUDA 3.1 and before, whose sizes and device addresses had 32 bits: widened, then as today. */
#include "cuda_api.h"
#include "guest.h"

/* ---- structures ---- */

#define WIDEN_DESCRIPTOR(p)                                                                                        \
        {                                                                                                          \
                .Width = (p)->Width, .Height = (p)->Height, .Format = (p)->Format, .NumChannels = (p)->NumChannels \
        }

/* One end of a copy: the members of `end`, from structure p. */
#define WIDEN_END(p, end)                                                                                    \
        .end##XInBytes = (p)->end##XInBytes, .end##Y = (p)->end##Y, .end##MemoryType = (p)->end##MemoryType, \
        .end##Host = (p)->end##Host, .end##Device = (p)->end##Device, .end##Array = (p)->end##Array,         \
        .end##Pitch = (p)->end##Pitch

static CUDA_MEMCPY2D widen_2d(const CUDA_MEMCPY2D_v1 *p)
{
        return (CUDA_MEMCPY2D){WIDEN_END(p, dst), WIDEN_END(p, src), .WidthInBytes = p->WidthInBytes,
                               .Height = p->Height};
}

static CUDA_MEMCPY3D widen_3d(const CUDA_MEMCPY3D_v1 *p)
{
        return (CUDA_MEMCPY3D){WIDEN_END(p, dst),         WIDEN_END(p, src),         .dstZ = p->dstZ,
                               .srcZ = p->srcZ,           .dstLOD = p->dstLOD,       .srcLOD = p->srcLOD,
                               .dstHeight = p->dstHeight, .srcHeight = p->srcHeight, .WidthInBytes = p->WidthInBytes,
                               .Height = p->Height,       .Depth = p->Depth};
}

/* ---- descriptors ---- */

CUresult cuArrayCreate(CUarray *pHandle, const CUDA_ARRAY_DESCRIPTOR_v1 *pAllocateArray)
{
        if (pAllocateArray == NULL)
                return cuArrayCreate_v2(pHandle, NULL);
        const CUDA_ARRAY_DESCRIPTOR wide = WIDEN_DESCRIPTOR(pAllocateArray);
        return cuArrayCreate_v2(pHandle, &wide);
}

CUresult cuArray3DCreate(CUarray *pHandle, const CUDA_ARRAY3D_DESCRIPTOR_v1 *pAllocateArray)
{
        if (pAllocateArray == NULL)
                return cuArray3DCreate_v2(pHandle, NULL);
        const CUDA_ARRAY3D_DESCRIPTOR wide = {.Width = pAllocateArray->Width,
                                              .Height = pAllocateArray->Height,
                                              .Depth = pAllocateArray->Depth,
                                              .Format = pAllocateArray->Format,
                                              .NumChannels = pAllocateArray->NumChannels,
                                              .Flags = pAllocateArray->Flags};
        return cuArray3DCreate_v2(pHandle, &wide);
}

/* No array is wider than 32 bits can say. */
CUresult cuArrayGetDescriptor(CUDA_ARRAY_DESCRIPTOR_v1 *pArrayDescriptor, CUarray hArray)
{
        CUDA_ARRAY_DESCRIPTOR wide;
        const CUresult result = cuArrayGetDescriptor_v2(pArrayDescriptor != NULL ? &wide : NULL, hArray);

        if (result == CUDA_SUCCESS)
                *pArrayDescriptor = (CUDA_ARRAY_DESCRIPTOR_v1){.Width = (unsigned int)wide.Width,
                                                               .Height = (unsigned int)wide.Height,
                                                               .Format = wide.Format,
                                                               .NumChannels = wide.NumChannels};
        return result;
}

CUresult cuArray3DGetDescriptor(CUDA_ARRAY3D_DESCRIPTOR_v1 *pArrayDescriptor, CUarray hArray)
{
        CUDA_ARRAY3D_DESCRIPTOR wide;
        const CUresult result = cuArray3DGetDescriptor_v2(pArrayDescriptor != NULL ? &wide : NULL, hArray);

        if (result == CUDA_SUCCESS)
                *pArrayDescriptor = (CUDA_ARRAY3D_DESCRIPTOR_v1){.Width = (unsigned int)wide.Width,
                                                                 .Height = (unsigned int)wide.Height,
                                                                 .Depth = (unsigned int)wide.Depth,
                                                                 .Format = wide.Format,
                                                                 .NumChannels = wide.NumChannels,
                                                                 .Flags = wide.Flags};
        return result;
}

/* ---- copies ---- */

CUresult cuMemcpyHtoA(CUarray dstArray, unsigned int dstOffset, const void *srcHost, unsigned int ByteCount)
{
        return cuMemcpyHtoA_v2(dstArray, dstOffset, srcHost, ByteCount);
}

CUresult cuMemcpyHtoAAsync(CUarray dstArray, unsigned int dstOffset, const void *srcHost, unsigned int ByteCount,
                           CUstream hStream)
{
        return cuMemcpyHtoAAsync_v2(dstArray, dstOffset, srcHost, ByteCount, hStream);
}

CUresult cuMemcpyAtoH(void *dstHost, CUarray srcArray, unsigned int srcOffset, unsigned int ByteCount)
{
        return cuMemcpyAtoH_v2(dstHost, srcArray, srcOffset, ByteCount);
}

CUresult cuMemcpyAtoHAsync(void *dstHost, CUarray srcArray, unsigned int srcOffset, unsigned int ByteCount,
                           CUstream hStream)
{
        return cuMemcpyAtoHAsync_v2(dstHost, srcArray, srcOffset, ByteCount, hStream);
}

CUresult cuMemcpyDtoA(CUarray dstArray, unsigned int dstOffset, CUdeviceptr_v1 srcDevice, unsigned int ByteCount)
{
        return cuMemcpyDtoA_v2(dstArray, dstOffset, srcDevice, ByteCount);
}

CUresult cuMemcpyAtoD(CUdeviceptr_v1 dstDevice, CUarray srcArray, unsigned int srcOffset, unsigned int ByteCount)
{
        return cuMemcpyAtoD_v2(dstDevice, srcArray, srcOffset, ByteCount);
}

CUresult cuMemcpyAtoA(CUarray dstArray, unsigned int dstOffset, CUarray srcArray, unsigned int srcOffset,
                      unsigned int ByteCount)
{
        return cuMemcpyAtoA_v2(dstArray, dstOffset, srcArray, srcOffset, ByteCount);
}

static CUresult copy_2d(const CUDA_MEMCPY2D_v1 *p, CUresult (*copy)(const CUDA_MEMCPY2D *))
{
        if (p == NULL)
                return copy(NULL);
        const CUDA_MEMCPY2D wide = widen_2d(p);
        return copy(&wide);
}

CUresult cuMemcpy2D(const CUDA_MEMCPY2D_v1 *pCopy)
{
        return copy_2d(pCopy, cuMemcpy2D_v2);
}

CUresult cuMemcpy2DUnaligned(const CUDA_MEMCPY2D_v1 *pCopy)
{
        return copy_2d(pCopy, cuMemcpy2DUnaligned_v2);
}

CUresult cuMemcpy2DAsync(const CUDA_MEMCPY2D_v1 *pCopy, CUstream hStream)
{
        if (pCopy == NULL)
                return cuMemcpy2DAsync_v2(NULL, hStream);
        const CUDA_MEMCPY2D wide = widen_2d(pCopy);
        return cuMemcpy2DAsync_v2(&wide, hStream);
}

CUresult cuMemcpy3D(const CUDA_MEMCPY3D_v1 *pCopy)
{
        if (pCopy == NULL)
                return cuMemcpy3D_v2(NULL);
        const CUDA_MEMCPY3D wide = widen_3d(pCopy);
        return cuMemcpy3D_v2(&wide);
}

CUresult cuMemcpy3DAsync(const CUDA_MEMCPY3D_v1 *pCopy, CUstream hStream)
{
        if (pCopy == NULL)
                return cuMemcpy3DAsync_v2(NULL, hStream);
        const CUDA_MEMCPY3D wide = widen_3d(pCopy);
        return cuMemcpy3DAsync_v2(&wide, hStream);
}

/* ---- texture references ---- */

CUresult cuTexRefSetAddress(unsigned int *ByteOffset, CUtexref hTexRef, CUdeviceptr_v1 dptr, unsigned int bytes)
{
        size_t offset = 0; /* below the texture alignment */
        const CUresult result = cuTexRefSetAddress_v2(ByteOffset != NULL ? &offset : NULL, hTexRef, dptr, bytes);

        if (result == CUDA_SUCCESS && ByteOffset != NULL)
                *ByteOffset = (unsigned int)offset;
        return result;
}

CUresult cuTexRefSetAddress2D(CUtexref hTexRef, const CUDA_ARRAY_DESCRIPTOR_v1 *desc, CUdeviceptr_v1 dptr,
                              unsigned int Pitch)
{
        if (desc == NULL)
                return cuTexRefSetAddress2D_v2(hTexRef, NULL, dptr, Pitch);
        const CUDA_ARRAY_DESCRIPTOR wide = WIDEN_DESCRIPTOR(desc);
        return cuTexRefSetAddress2D_v2(hTexRef, &wide, dptr, Pitch);
}

CUresult cuTexRefGetAddress(CUdeviceptr_v1 *pdptr, CUtexref hTexRef)
{
        CUdeviceptr wide = 0;
        const CUresult result = cuTexRefGetAddress_v2(pdptr != NULL ? &wide : NULL, hTexRef);

        if (result != CUDA_SUCCESS)
                return result;
        if (wide > UINT32_MAX)
                return ivg_refuse("cuTexRefGetAddress of an address beyond 32 bits");
        *pdptr = (CUdeviceptr_v1)wide;
        return CUDA_SUCCESS;
}
