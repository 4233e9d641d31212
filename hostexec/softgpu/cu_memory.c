/* Device memory: allocation, freeing, and what is left. */
#include <stdlib.h>

#include "softgpu.h"

#define SG_PITCH_BYTES ((size_t)512)

CUresult sg_device_take(struct sg_context *context, size_t bytes, enum sg_memory_kind kind, struct sg_pool *pool,
                        struct sg_allocation **out)
{
        struct sg_device *device = context->device;
        if (bytes == 0)
                return CUDA_ERROR_INVALID_VALUE;
        if (bytes > device->total_bytes)
                return CUDA_ERROR_OUT_OF_MEMORY;
        struct sg_allocation *allocation = calloc(1, sizeof(*allocation));
        if (allocation == NULL)
                return CUDA_ERROR_OUT_OF_MEMORY;
        const size_t charged = sg_charged_bytes(bytes);
        void *address = NULL;
        pthread_mutex_lock(&sg_memory_lock);
        if (charged <= device->total_bytes - device->used_bytes &&
            (pool == NULL || pool->bytes_max == 0 || charged <= pool->bytes_max - pool->used))
                address = sg_heap_take(device->heap, bytes);
        if (address != NULL) {
                device->used_bytes += charged;
                if (pool != NULL) {
                        pool->used += charged;
                        pool->used_high = pool->used > pool->used_high ? pool->used : pool->used_high;
                }
        }
        pthread_mutex_unlock(&sg_memory_lock);
        if (address == NULL) {
                free(allocation);
                return CUDA_ERROR_OUT_OF_MEMORY;
        }
        allocation->start = sg_address(address);
        allocation->bytes = bytes;
        allocation->kind = kind;
        allocation->context = context;
        allocation->device = device;
        allocation->pool = pool;
        atomic_init(&allocation->references, 1);
        if (pool != NULL)
                sg_object_get(pool);
        *out = allocation;
        return CUDA_SUCCESS;
}

CUresult sg_device_allocate(struct sg_context *context, size_t bytes, enum sg_memory_kind kind, struct sg_pool *pool,
                            struct sg_allocation **out)
{
        struct sg_allocation *allocation;
        CUresult result = sg_device_take(context, bytes, kind, pool, &allocation);
        if (result == CUDA_SUCCESS) {
                result = sg_registry_insert(allocation);
                if (result != CUDA_SUCCESS)
                        sg_allocation_put(allocation);
                else
                        *out = allocation;
        }
        return result;
}

/* As on a GPU, a free waits for the work that may still use the memory. Work of other contexts that saw it keeps it
 * mapped through its snapshot. */
static void sg_allocation_drain(const struct sg_allocation *allocation)
{
        if (allocation->kind == SG_MEMORY_DEVICE && allocation->pool == NULL)
                (void)sg_context_drain(allocation->context);
        else
                sg_contexts_drain();
}

bool sg_allocation_free(uint64_t address, unsigned kind_mask)
{
        struct sg_allocation *allocation = sg_registry_find(address);
        if (allocation == NULL)
                return false;
        /* Before it leaves the registry: work that is queued and not yet started still takes its map from there. */
        if (allocation->start == address && (kind_mask >> allocation->kind & 1) != 0)
                sg_allocation_drain(allocation);
        sg_allocation_put(allocation);
        allocation = sg_registry_take(address, kind_mask);
        if (allocation == NULL)
                return false;
        sg_contexts_forget_maps();
        sg_allocation_put(allocation);
        return true;
}

SG_ENTRY(cuMemGetInfo_v2, size_t *free_bytes, size_t *total_bytes)
{
        struct sg_context *context;
        const CUresult result = sg_context_current(&context);
        if (result != CUDA_SUCCESS)
                return result;
        if (free_bytes == NULL || total_bytes == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        pthread_mutex_lock(&sg_memory_lock);
        *free_bytes = context->device->total_bytes - context->device->used_bytes;
        *total_bytes = context->device->total_bytes;
        pthread_mutex_unlock(&sg_memory_lock);
        return CUDA_SUCCESS;
}

SG_ENTRY(cuMemAlloc_v2, CUdeviceptr *out, size_t bytes)
{
        struct sg_context *context;
        struct sg_allocation *allocation;
        CUresult result = sg_context_current(&context);
        if (result == CUDA_SUCCESS && out == NULL)
                result = CUDA_ERROR_INVALID_VALUE;
        if (result == CUDA_SUCCESS)
                result = sg_capture_allows();
        if (result == CUDA_SUCCESS)
                result = sg_device_allocate(context, bytes, SG_MEMORY_DEVICE, NULL, &allocation);
        if (result == CUDA_SUCCESS)
                *out = allocation->start;
        return result;
}

SG_ENTRY(cuMemAllocPitch_v2, CUdeviceptr *out, size_t *pitch, size_t width, size_t height, unsigned element_bytes)
{
        if (out == NULL || pitch == NULL || width == 0 || height == 0)
                return CUDA_ERROR_INVALID_VALUE;
        if (element_bytes != 4 && element_bytes != 8 && element_bytes != 16)
                return CUDA_ERROR_INVALID_VALUE;
        size_t bytes;
        if (width > SIZE_MAX - SG_PITCH_BYTES)
                return CUDA_ERROR_OUT_OF_MEMORY;
        const size_t row = (width + SG_PITCH_BYTES - 1) & ~(SG_PITCH_BYTES - 1);
        if (__builtin_mul_overflow(row, height, &bytes))
                return CUDA_ERROR_OUT_OF_MEMORY;
        const CUresult result = cuMemAlloc_v2(out, bytes);
        if (result == CUDA_SUCCESS)
                *pitch = row;
        return result;
}

SG_ENTRY(cuMemFree_v2, CUdeviceptr address)
{
        struct sg_context *context;
        CUresult result = sg_context_current(&context);
        if (result == CUDA_SUCCESS && address != 0)
                result = sg_capture_allows();
        if (result != CUDA_SUCCESS)
                return result;
        if (address == 0)
                return CUDA_SUCCESS;
        struct sg_allocation *allocation = sg_registry_find(address);
        const bool of_graph = allocation != NULL && sg_graph_memory_free(allocation, &result);
        if (allocation != NULL)
                sg_allocation_put(allocation);
        if (of_graph)
                return result;
        if (!sg_allocation_free(address, 1u << SG_MEMORY_DEVICE | 1u << SG_MEMORY_MANAGED | 1u << SG_MEMORY_IMPORTED))
                return CUDA_ERROR_INVALID_VALUE;
        return sg_context_check(context);
}

SG_ENTRY(cuMemGetAddressRange_v2, CUdeviceptr *base, size_t *bytes, CUdeviceptr address)
{
        struct sg_context *context;
        const CUresult result = sg_context_current(&context);
        if (result != CUDA_SUCCESS)
                return result;
        struct sg_allocation *allocation = sg_registry_find(address);
        if (allocation == NULL)
                return CUDA_ERROR_NOT_FOUND;
        if (base != NULL)
                *base = allocation->start;
        if (bytes != NULL)
                *bytes = allocation->bytes;
        sg_allocation_put(allocation);
        return CUDA_SUCCESS;
}

SG_ENTRY(cuMemAllocManaged, CUdeviceptr *out, size_t bytes, unsigned flags)
{
        struct sg_context *context;
        struct sg_allocation *allocation;
        CUresult result = sg_context_current(&context);
        if (result == CUDA_SUCCESS && (out == NULL || bytes == 0))
                result = CUDA_ERROR_INVALID_VALUE;
        if (result == CUDA_SUCCESS && flags != CU_MEM_ATTACH_GLOBAL && flags != CU_MEM_ATTACH_HOST)
                result = CUDA_ERROR_INVALID_VALUE;
        if (result == CUDA_SUCCESS)
                result = sg_host_allocate(context, bytes, SG_MEMORY_MANAGED, flags, &allocation);
        if (result == CUDA_SUCCESS)
                *out = allocation->start;
        return result;
}

/* Host and device share managed memory, so prefetching and advice have nothing to do; their range must be managed. */
static CUresult sg_managed_check(CUdeviceptr address, size_t bytes)
{
        struct sg_allocation *allocation = sg_registry_find(address);
        if (allocation == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        const bool inside = allocation->kind == SG_MEMORY_MANAGED && bytes != 0 &&
                            bytes <= allocation->bytes - (address - allocation->start);
        sg_allocation_put(allocation);
        return inside ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

SG_ENTRY(cuMemPrefetchAsync_v2, CUdeviceptr address, size_t bytes, CUmemLocation location, unsigned flags,
         CUstream handle)
{
        struct sg_stream *stream;
        struct sg_device *device;
        CUresult result = sg_stream_resolve(handle, &stream);
        if (result != CUDA_SUCCESS)
                return result;
        sg_object_put(stream);
        if (flags != 0)
                return CUDA_ERROR_INVALID_VALUE;
        if (location.type == CU_MEM_LOCATION_TYPE_DEVICE && (result = sg_device_find(location.id, &device)) != 0)
                return result;
        return sg_managed_check(address, bytes);
}

SG_ENTRY(cuMemPrefetchAsync_v2_ptsz, CUdeviceptr address, size_t bytes, CUmemLocation location, unsigned flags,
         CUstream stream)
{
        return cuMemPrefetchAsync_v2(address, bytes, location, flags, sg_per_thread(stream));
}

SG_ENTRY(cuMemAdvise_v2, CUdeviceptr address, size_t bytes, CUmem_advise advice, CUmemLocation location)
{
        struct sg_context *context;
        struct sg_device *device;
        CUresult result = sg_context_current(&context);
        if (result == CUDA_SUCCESS &&
            ((int)advice < CU_MEM_ADVISE_SET_READ_MOSTLY || advice > CU_MEM_ADVISE_UNSET_ACCESSED_BY))
                result = CUDA_ERROR_INVALID_VALUE;
        if (result == CUDA_SUCCESS && location.type == CU_MEM_LOCATION_TYPE_DEVICE)
                result = sg_device_find(location.id, &device);
        return result != CUDA_SUCCESS ? result : sg_managed_check(address, bytes);
}
