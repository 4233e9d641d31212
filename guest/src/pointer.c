/* What a pointer is: cuPointerGetAttribute(s), cuMemGetAddressRange, answered from the memory index. */
#include "cuda_api.h"
#include "memory.h"
#include <string.h>

#define ATTRIBUTES_MAX 64u /* more than there are: a larger count is garbage */

static bool find(CUdeviceptr pointer, struct ivg_memory_range *range)
{
        return ivg_memory_find(&ivg_memory_of_host, pointer, range) ||
               ivg_memory_find(&ivg_memory_of_device, pointer, range);
}

static bool is_host(const struct ivg_memory_range *range)
{
        return range->kind == IVG_MEMORY_PINNED || range->kind == IVG_MEMORY_REGISTERED ||
               range->kind == IVG_MEMORY_MANAGED;
}

/* The attributes with a 64-bit answer; NOT_SUPPORTED: not one of them. */
static CUresult wide_attribute(const struct ivg_memory_range *range, CUpointer_attribute attribute, CUdeviceptr pointer,
                               uint64_t *value)
{
        switch (attribute) {
        case CU_POINTER_ATTRIBUTE_CONTEXT:
                *value = (uintptr_t)range->context;
                return CUDA_SUCCESS;
        case CU_POINTER_ATTRIBUTE_DEVICE_POINTER:
                if (range->kind == IVG_MEMORY_REGISTERED)
                        return CUDA_ERROR_INVALID_VALUE; /* the device does not see these pages */
                *value = pointer;
                return CUDA_SUCCESS;
        case CU_POINTER_ATTRIBUTE_HOST_POINTER:
                if (!is_host(range))
                        return CUDA_ERROR_INVALID_VALUE;
                *value = pointer;
                return CUDA_SUCCESS;
        case CU_POINTER_ATTRIBUTE_BUFFER_ID:
        case CU_POINTER_ATTRIBUTE_MEMORY_BLOCK_ID:
                *value = range->id;
                return CUDA_SUCCESS;
        case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR:
        case CU_POINTER_ATTRIBUTE_MAPPING_BASE_ADDR:
                *value = range->base;
                return CUDA_SUCCESS;
        case CU_POINTER_ATTRIBUTE_RANGE_SIZE:
        case CU_POINTER_ATTRIBUTE_MAPPING_SIZE:
                *value = range->bytes;
                return CUDA_SUCCESS;
        case CU_POINTER_ATTRIBUTE_ALLOWED_HANDLE_TYPES:
                *value = !is_host(range) && (range->flags & IVG_MEMORY_SHAREABLE) != 0
                                 ? CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR
                                 : CU_MEM_HANDLE_TYPE_NONE;
                return CUDA_SUCCESS;
        case CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE: /* no allocation of the index is from a pool */
                *value = 0;
                return CUDA_SUCCESS;
        default:
                return CUDA_ERROR_NOT_SUPPORTED;
        }
}

static CUresult narrow_attribute(const struct ivg_memory_range *range, CUpointer_attribute attribute, uint32_t *value)
{
        switch (attribute) {
        case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
                /* Managed memory counts as the device's; IS_MANAGED tells. */
                *value =
                        is_host(range) && range->kind != IVG_MEMORY_MANAGED ? CU_MEMORYTYPE_HOST : CU_MEMORYTYPE_DEVICE;
                return CUDA_SUCCESS;
        case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
                *value = (uint32_t)range->device;
                return CUDA_SUCCESS;
        case CU_POINTER_ATTRIBUTE_ACCESS_FLAGS:
                *value = CU_POINTER_ATTRIBUTE_ACCESS_FLAG_READWRITE;
                return CUDA_SUCCESS;
        default:
                return CUDA_ERROR_NOT_SUPPORTED;
        }
}

static CUresult boolean_attribute(const struct ivg_memory_range *range, CUpointer_attribute attribute, uint8_t *value)
{
        switch (attribute) {
        case CU_POINTER_ATTRIBUTE_MAPPED:
                *value = 1;
                return CUDA_SUCCESS;
        case CU_POINTER_ATTRIBUTE_IS_MANAGED:
                *value = range->kind == IVG_MEMORY_MANAGED;
                return CUDA_SUCCESS;
        case CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE: /* cuIpcGetMemHandle takes what cuMemAlloc gave */
                *value = range->kind == IVG_MEMORY_DEVICE;
                return CUDA_SUCCESS;
        case CU_POINTER_ATTRIBUTE_SYNC_MEMOPS:
                *value = (range->flags & IVG_MEMORY_SYNC_MEMOPS) != 0;
                return CUDA_SUCCESS;
        case CU_POINTER_ATTRIBUTE_IS_GPU_DIRECT_RDMA_CAPABLE:
        case CU_POINTER_ATTRIBUTE_IS_HW_DECOMPRESS_CAPABLE:
                *value = 0;
                return CUDA_SUCCESS;
        default:
                return CUDA_ERROR_NOT_SUPPORTED;
        }
}

/* Writes the attribute in the width that CUDA gives it. */
static CUresult attribute_store(const struct ivg_memory_range *range, CUpointer_attribute attribute,
                                CUdeviceptr pointer, void *data)
{
        uint64_t wide;
        uint32_t narrow;
        uint8_t boolean;
        CUresult result = wide_attribute(range, attribute, pointer, &wide);
        if (result == CUDA_SUCCESS)
                memcpy(data, &wide, sizeof wide);
        if (result != CUDA_ERROR_NOT_SUPPORTED)
                return result;
        result = narrow_attribute(range, attribute, &narrow);
        if (result == CUDA_SUCCESS)
                memcpy(data, &narrow, sizeof narrow);
        if (result != CUDA_ERROR_NOT_SUPPORTED)
                return result;
        result = boolean_attribute(range, attribute, &boolean);
        if (result == CUDA_SUCCESS)
                memcpy(data, &boolean, sizeof boolean);
        return result == CUDA_ERROR_NOT_SUPPORTED ? CUDA_ERROR_INVALID_VALUE : result;
}

static CUresult get_attribute(void *data, CUpointer_attribute attribute, CUdeviceptr pointer)
{
        struct ivg_memory_range range;
        const CUresult result = ivg_process_check();
        if (result != CUDA_SUCCESS)
                return result;
        if (data == NULL || !find(pointer, &range))
                return CUDA_ERROR_INVALID_VALUE;
        if (attribute == CU_POINTER_ATTRIBUTE_P2P_TOKENS)
                return ivg_refuse("cuPointerGetAttribute (CU_POINTER_ATTRIBUTE_P2P_TOKENS)");
        return attribute_store(&range, attribute, pointer, data);
}

CUresult cuPointerGetAttribute(void *data, CUpointer_attribute attribute, CUdeviceptr ptr)
{
        return ivg_local("cuPointerGetAttribute", get_attribute(data, attribute, ptr));
}

/* What cuPointerGetAttributes tells about memory that CUDA does not know, or has no answer for: zeros, no device. */
static void attribute_store_unknown(CUpointer_attribute attribute, void *data)
{
        const struct ivg_memory_range nothing = {.kind = IVG_MEMORY_DEVICE, .device = CU_DEVICE_INVALID};
        uint64_t wide;
        uint32_t narrow;
        if (wide_attribute(&nothing, attribute, 0, &wide) != CUDA_ERROR_NOT_SUPPORTED)
                memset(data, 0, sizeof wide);
        else if (narrow_attribute(&nothing, attribute, &narrow) != CUDA_ERROR_NOT_SUPPORTED)
                memset(data, 0, sizeof narrow);
        else
                memset(data, 0, sizeof(uint8_t));
        if (attribute == CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL)
                memcpy(data, &nothing.device, sizeof nothing.device);
}

static CUresult get_attributes(unsigned int count, const CUpointer_attribute *attributes, void **data,
                               CUdeviceptr pointer)
{
        struct ivg_memory_range range;
        const CUresult result = ivg_process_check();
        if (result != CUDA_SUCCESS)
                return result;
        if (count == 0 || count > ATTRIBUTES_MAX || attributes == NULL || data == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        const bool known = find(pointer, &range);
        for (unsigned int i = 0; i < count; i++) {
                if (data[i] == NULL || attributes[i] == CU_POINTER_ATTRIBUTE_P2P_TOKENS)
                        return CUDA_ERROR_INVALID_VALUE;
                if (!known || attribute_store(&range, attributes[i], pointer, data[i]) != CUDA_SUCCESS)
                        attribute_store_unknown(attributes[i], data[i]);
        }
        return CUDA_SUCCESS;
}

CUresult cuPointerGetAttributes(unsigned int numAttributes, CUpointer_attribute *attributes, void **data,
                                CUdeviceptr ptr)
{
        return ivg_local("cuPointerGetAttributes", get_attributes(numAttributes, attributes, data, ptr));
}

/* ---- what a program may set ---- */

/* Not 0 once any range has had CU_POINTER_ATTRIBUTE_SYNC_MEMOPS: until then copies need not look. Relaxed: a program
 * sets it before it relies on it. */
static _Atomic(uint32_t) sync_memops_used;

static CUresult set_attribute(const void *value, CUpointer_attribute attribute, CUdeviceptr pointer)
{
        unsigned int on;
        const CUresult result = ivg_process_check();
        if (result != CUDA_SUCCESS)
                return result;
        if (value == NULL || attribute != CU_POINTER_ATTRIBUTE_SYNC_MEMOPS)
                return CUDA_ERROR_INVALID_VALUE;
        memcpy(&on, value, sizeof on);
        ivg_store_relaxed_u32(&sync_memops_used, 1);
        return ivg_memory_flag(&ivg_memory_of_host, pointer, IVG_MEMORY_SYNC_MEMOPS, on != 0) ||
                               ivg_memory_flag(&ivg_memory_of_device, pointer, IVG_MEMORY_SYNC_MEMOPS, on != 0)
                       ? CUDA_SUCCESS
                       : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuPointerSetAttribute(const void *value, CUpointer_attribute attribute, CUdeviceptr ptr)
{
        return ivg_local("cuPointerSetAttribute", set_attribute(value, attribute, ptr));
}

bool ivg_memory_settles(uint64_t address)
{
        struct ivg_memory_range range;
        uint64_t offset;
        if (ivg_arena_offset((const void *)(uintptr_t)address, 1, &offset))
                return true;
        return ivg_load_relaxed_u32(&sync_memops_used) != 0 && find(address, &range) &&
               (range.flags & IVG_MEMORY_SYNC_MEMOPS) != 0;
}

static CUresult get_address_range(CUdeviceptr *base, size_t *bytes, CUdeviceptr pointer)
{
        struct ivg_memory_range range;
        const CUresult result = ivg_process_check();
        if (result != CUDA_SUCCESS)
                return result;
        if (!find(pointer, &range))
                return CUDA_ERROR_NOT_FOUND;
        if (base != NULL)
                *base = range.base;
        if (bytes != NULL)
                *bytes = range.bytes;
        return CUDA_SUCCESS;
}

CUresult cuMemGetAddressRange_v2(CUdeviceptr *pbase, size_t *psize, CUdeviceptr dptr)
{
        return ivg_local("cuMemGetAddressRange_v2", get_address_range(pbase, psize, dptr));
}
