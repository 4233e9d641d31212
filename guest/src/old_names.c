/* The memory calls of CUDA before 3.2: sizes and device addresses of 32 bits. Today's headers give their names to the
 * _v2 functions, so only programs built back then call these. An address that does not fit is no memory for them;
 * figures are cut. */
#include "cuda_api.h"
#include "guest_send.h"

static unsigned int cut(size_t figure)
{
        return figure > UINT32_MAX ? UINT32_MAX : (unsigned int)figure;
}

/* Hands an address of today over, or says that there is none. */
static bool narrow(CUdeviceptr address, CUdeviceptr_v1 *out)
{
        if (address > UINT32_MAX)
                return false;
        *out = (CUdeviceptr_v1)address;
        return true;
}

CUresult cuMemAlloc(CUdeviceptr_v1 *dptr, unsigned int bytesize)
{
        CUdeviceptr address;
        const CUresult result = dptr != NULL ? cuMemAlloc_v2(&address, bytesize) : CUDA_ERROR_INVALID_VALUE;

        if (result != CUDA_SUCCESS || narrow(address, dptr))
                return result;
        (void)cuMemFree_v2(address);
        return CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult cuMemAllocPitch(CUdeviceptr_v1 *dptr, unsigned int *pPitch, unsigned int WidthInBytes, unsigned int Height,
                         unsigned int ElementSizeBytes)
{
        CUdeviceptr address;
        size_t pitch;
        const CUresult result = dptr != NULL && pPitch != NULL
                                        ? cuMemAllocPitch_v2(&address, &pitch, WidthInBytes, Height, ElementSizeBytes)
                                        : CUDA_ERROR_INVALID_VALUE;

        if (result != CUDA_SUCCESS)
                return result;
        *pPitch = cut(pitch);
        if (pitch <= UINT32_MAX && narrow(address, dptr))
                return CUDA_SUCCESS;
        (void)cuMemFree_v2(address);
        return CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult cuMemFree(CUdeviceptr_v1 dptr)
{
        return cuMemFree_v2(dptr);
}

CUresult cuMemAllocHost(void **pp, unsigned int bytesize)
{
        return cuMemAllocHost_v2(pp, bytesize);
}

CUresult cuMemGetInfo(unsigned int *free, unsigned int *total)
{
        size_t free_bytes, total_bytes;
        const CUresult result =
                free != NULL && total != NULL ? cuMemGetInfo_v2(&free_bytes, &total_bytes) : CUDA_ERROR_INVALID_VALUE;

        if (result != CUDA_SUCCESS)
                return result;
        *free = cut(free_bytes);
        *total = cut(total_bytes);
        return CUDA_SUCCESS;
}

CUresult cuMemGetAddressRange(CUdeviceptr_v1 *pbase, unsigned int *psize, CUdeviceptr_v1 dptr)
{
        CUdeviceptr base;
        size_t bytes;
        const CUresult result = cuMemGetAddressRange_v2(&base, &bytes, dptr);

        if (result != CUDA_SUCCESS)
                return result;
        if (pbase != NULL)
                *pbase = (CUdeviceptr_v1)base; /* below dptr */
        if (psize != NULL)
                *psize = cut(bytes);
        return CUDA_SUCCESS;
}

CUresult cuMemHostGetDevicePointer(CUdeviceptr_v1 *pdptr, void *p, unsigned int Flags)
{
        CUdeviceptr address;
        const CUresult result =
                pdptr != NULL ? cuMemHostGetDevicePointer_v2(&address, p, Flags) : CUDA_ERROR_INVALID_VALUE;

        return result == CUDA_SUCCESS && !narrow(address, pdptr) ? CUDA_ERROR_OUT_OF_MEMORY : result;
}

CUresult cuModuleGetGlobal(CUdeviceptr_v1 *dptr, unsigned int *bytes, CUmodule hmod, const char *name)
{
        CUdeviceptr address = 0;
        size_t length = 0;
        const CUresult result = cuModuleGetGlobal_v2(&address, &length, hmod, name);

        if (result != CUDA_SUCCESS)
                return result;
        if (bytes != NULL)
                *bytes = cut(length);
        return dptr != NULL && !narrow(address, dptr) ? CUDA_ERROR_OUT_OF_MEMORY : CUDA_SUCCESS;
}

/* ---- copies and sets: arguments of 32 bits are arguments of 64 ---- */

CUresult cuMemcpyHtoD(CUdeviceptr_v1 dstDevice, const void *srcHost, unsigned int ByteCount)
{
        return cuMemcpyHtoD_v2(dstDevice, srcHost, ByteCount);
}

CUresult cuMemcpyDtoH(void *dstHost, CUdeviceptr_v1 srcDevice, unsigned int ByteCount)
{
        return cuMemcpyDtoH_v2(dstHost, srcDevice, ByteCount);
}

CUresult cuMemcpyDtoD(CUdeviceptr_v1 dstDevice, CUdeviceptr_v1 srcDevice, unsigned int ByteCount)
{
        return cuMemcpyDtoD_v2(dstDevice, srcDevice, ByteCount);
}

CUresult cuMemcpyHtoDAsync(CUdeviceptr_v1 dstDevice, const void *srcHost, unsigned int ByteCount, CUstream hStream)
{
        return cuMemcpyHtoDAsync_v2(dstDevice, srcHost, ByteCount, hStream);
}

CUresult cuMemcpyDtoHAsync(void *dstHost, CUdeviceptr_v1 srcDevice, unsigned int ByteCount, CUstream hStream)
{
        return cuMemcpyDtoHAsync_v2(dstHost, srcDevice, ByteCount, hStream);
}

CUresult cuMemcpyDtoDAsync(CUdeviceptr_v1 dstDevice, CUdeviceptr_v1 srcDevice, unsigned int ByteCount, CUstream hStream)
{
        return cuMemcpyDtoDAsync_v2(dstDevice, srcDevice, ByteCount, hStream);
}

CUresult cuMemsetD8(CUdeviceptr_v1 dstDevice, unsigned char uc, unsigned int N)
{
        return cuMemsetD8_v2(dstDevice, uc, N);
}

CUresult cuMemsetD16(CUdeviceptr_v1 dstDevice, unsigned short us, unsigned int N)
{
        return cuMemsetD16_v2(dstDevice, us, N);
}

CUresult cuMemsetD32(CUdeviceptr_v1 dstDevice, unsigned int ui, unsigned int N)
{
        return cuMemsetD32_v2(dstDevice, ui, N);
}

CUresult cuMemsetD2D8(CUdeviceptr_v1 dstDevice, unsigned int dstPitch, unsigned char uc, unsigned int Width,
                      unsigned int Height)
{
        return cuMemsetD2D8_v2(dstDevice, dstPitch, uc, Width, Height);
}

CUresult cuMemsetD2D16(CUdeviceptr_v1 dstDevice, unsigned int dstPitch, unsigned short us, unsigned int Width,
                       unsigned int Height)
{
        return cuMemsetD2D16_v2(dstDevice, dstPitch, us, Width, Height);
}

CUresult cuMemsetD2D32(CUdeviceptr_v1 dstDevice, unsigned int dstPitch, unsigned int ui, unsigned int Width,
                       unsigned int Height)
{
        return cuMemsetD2D32_v2(dstDevice, dstPitch, ui, Width, Height);
}
