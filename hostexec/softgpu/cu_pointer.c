/* What an address is: pointer attributes. */
#include <string.h>

#include "softgpu.h"

#define SG_POINTER_ATTRIBUTES_MAX 64u

/* Writes one attribute of a live allocation; its type depends on the attribute. */
#define SG_PUT(type, expression)                     \
        do {                                         \
                const type put = (type)(expression); \
                memcpy(out, &put, sizeof(put));      \
                return CUDA_SUCCESS;                 \
        } while (0)

static CUresult sg_pointer_attribute(const struct sg_allocation *allocation, CUpointer_attribute attribute,
                                     CUdeviceptr address, void *out)
{
        const bool device = sg_kind_is_device(allocation->kind);
        switch (attribute) {
        case CU_POINTER_ATTRIBUTE_CONTEXT:
                SG_PUT(CUcontext, allocation->context);
        case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
                SG_PUT(unsigned,
                       device || allocation->kind == SG_MEMORY_MANAGED ? CU_MEMORYTYPE_DEVICE : CU_MEMORYTYPE_HOST);
        case CU_POINTER_ATTRIBUTE_DEVICE_POINTER:
                SG_PUT(CUdeviceptr, address);
        case CU_POINTER_ATTRIBUTE_HOST_POINTER:
                if (device)
                        return CUDA_ERROR_INVALID_VALUE;
                SG_PUT(uint64_t, address);
        case CU_POINTER_ATTRIBUTE_SYNC_MEMOPS:
                SG_PUT(int, allocation->sync_memops);
        case CU_POINTER_ATTRIBUTE_BUFFER_ID:
                SG_PUT(unsigned long long, allocation->id);
        case CU_POINTER_ATTRIBUTE_IS_MANAGED:
                SG_PUT(int, allocation->kind == SG_MEMORY_MANAGED);
        case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
                SG_PUT(int, allocation->device->ordinal);
        case CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE:
        case CU_POINTER_ATTRIBUTE_IS_GPU_DIRECT_RDMA_CAPABLE:
        case CU_POINTER_ATTRIBUTE_IS_HW_DECOMPRESS_CAPABLE:
                SG_PUT(int, 0);
        case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR:
        case CU_POINTER_ATTRIBUTE_MAPPING_BASE_ADDR:
                SG_PUT(CUdeviceptr, allocation->start);
        case CU_POINTER_ATTRIBUTE_RANGE_SIZE:
        case CU_POINTER_ATTRIBUTE_MAPPING_SIZE:
                SG_PUT(size_t, allocation->bytes);
        case CU_POINTER_ATTRIBUTE_MAPPED:
                SG_PUT(int, 1);
        case CU_POINTER_ATTRIBUTE_ALLOWED_HANDLE_TYPES:
                SG_PUT(unsigned long long, 0);
        case CU_POINTER_ATTRIBUTE_ACCESS_FLAGS:
                SG_PUT(unsigned, (allocation->flags & CU_MEMHOSTREGISTER_READ_ONLY) != 0 &&
                                                 allocation->kind == SG_MEMORY_REGISTERED
                                         ? CU_POINTER_ATTRIBUTE_ACCESS_FLAG_READ
                                         : CU_POINTER_ATTRIBUTE_ACCESS_FLAG_READWRITE);
        case CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE:
                SG_PUT(CUmemoryPool, allocation->pool);
        case CU_POINTER_ATTRIBUTE_MEMORY_BLOCK_ID:
                SG_PUT(unsigned long long, allocation->id);
        default: /* P2P tokens, and what is newer than this list */
                return CUDA_ERROR_NOT_SUPPORTED;
        }
}

SG_ENTRY(cuPointerGetAttribute, void *out, CUpointer_attribute attribute, CUdeviceptr address)
{
        const CUresult ready = sg_ready();
        if (ready != CUDA_SUCCESS)
                return ready;
        if (out == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        struct sg_allocation *allocation = sg_registry_find(address);
        if (allocation == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        const CUresult result = sg_pointer_attribute(allocation, attribute, address, out);
        sg_allocation_put(allocation);
        return result;
}

static size_t sg_pointer_attribute_bytes(CUpointer_attribute attribute)
{
        switch (attribute) {
        case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
        case CU_POINTER_ATTRIBUTE_SYNC_MEMOPS:
        case CU_POINTER_ATTRIBUTE_IS_MANAGED:
        case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
        case CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE:
        case CU_POINTER_ATTRIBUTE_IS_GPU_DIRECT_RDMA_CAPABLE:
        case CU_POINTER_ATTRIBUTE_IS_HW_DECOMPRESS_CAPABLE:
        case CU_POINTER_ATTRIBUTE_MAPPED:
        case CU_POINTER_ATTRIBUTE_ACCESS_FLAGS:
                return 4;
        default:
                return 8;
        }
}

/* Asked about memory that is not ours, the batch form answers zeros (and ordinal -2) instead of an error. */
SG_ENTRY(cuPointerGetAttributes, unsigned count, CUpointer_attribute *attributes, void **values, CUdeviceptr address)
{
        const CUresult ready = sg_ready();
        if (ready != CUDA_SUCCESS)
                return ready;
        if (count > SG_POINTER_ATTRIBUTES_MAX || attributes == NULL || values == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        struct sg_allocation *allocation = sg_registry_find(address);
        CUresult result = CUDA_SUCCESS;
        for (unsigned i = 0; i < count && result == CUDA_SUCCESS; i++) {
                if (values[i] == NULL) {
                        result = CUDA_ERROR_INVALID_VALUE;
                        break;
                }
                const CUresult one = allocation != NULL
                                             ? sg_pointer_attribute(allocation, attributes[i], address, values[i])
                                             : CUDA_ERROR_INVALID_VALUE;
                if (one == CUDA_ERROR_NOT_SUPPORTED)
                        result = one;
                else if (one != CUDA_SUCCESS)
                        memset(values[i], 0, sg_pointer_attribute_bytes(attributes[i]));
                if (allocation == NULL && attributes[i] == CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL)
                        *(int *)values[i] = CU_DEVICE_INVALID;
        }
        if (allocation != NULL)
                sg_allocation_put(allocation);
        return result;
}

SG_ENTRY(cuPointerSetAttribute, const void *value, CUpointer_attribute attribute, CUdeviceptr address)
{
        struct sg_context *context;
        const CUresult result = sg_context_current(&context);
        if (result != CUDA_SUCCESS)
                return result;
        if (value == NULL || attribute != CU_POINTER_ATTRIBUTE_SYNC_MEMOPS)
                return CUDA_ERROR_INVALID_VALUE;
        struct sg_allocation *allocation = sg_registry_find(address);
        if (allocation == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        unsigned set;
        memcpy(&set, value, sizeof(set));
        allocation->sync_memops = set != 0; /* synchronous copies wait for their end in any case */
        sg_allocation_put(allocation);
        return CUDA_SUCCESS;
}
