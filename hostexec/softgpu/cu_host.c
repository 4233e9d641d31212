/* Host memory that kernels may touch: pinned, and registered pages of the program's own. */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "softgpu.h"

#define SG_PAGE_BYTES ((size_t)4096)
#define SG_HOST_BYTES_MAX ((size_t)1 << 46)
#define SG_PROBE_PAGES 1024u /* pages asked of mincore at a time */

static struct sg_allocation *sg_host_allocation_new(struct sg_context *context, void *address, size_t bytes,
                                                    enum sg_memory_kind kind, unsigned flags)
{
        struct sg_allocation *allocation = calloc(1, sizeof(*allocation));
        if (allocation == NULL)
                return NULL;
        allocation->start = sg_address(address);
        allocation->bytes = bytes;
        allocation->kind = kind;
        allocation->flags = flags;
        allocation->context = context;
        allocation->device = context->device;
        atomic_init(&allocation->references, 1);
        return allocation;
}

CUresult sg_host_allocate(struct sg_context *context, size_t bytes, enum sg_memory_kind kind, unsigned flags,
                          struct sg_allocation **out)
{
        if (bytes == 0)
                return CUDA_ERROR_INVALID_VALUE;
        if (bytes > SG_HOST_BYTES_MAX)
                return CUDA_ERROR_OUT_OF_MEMORY;
        const size_t map_bytes = (bytes + SG_PAGE_BYTES - 1) & ~(SG_PAGE_BYTES - 1);
        void *address = mmap(NULL, map_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (address == MAP_FAILED)
                return CUDA_ERROR_OUT_OF_MEMORY;
        struct sg_allocation *allocation = sg_host_allocation_new(context, address, bytes, kind, flags);
        if (allocation == NULL) {
                munmap(address, map_bytes);
                return CUDA_ERROR_OUT_OF_MEMORY;
        }
        allocation->map_bytes = map_bytes;
        const CUresult result = sg_registry_insert(allocation);
        if (result != CUDA_SUCCESS)
                sg_allocation_put(allocation);
        else
                *out = allocation;
        return result;
}

SG_ENTRY(cuMemHostAlloc, void **out, size_t bytes, unsigned flags)
{
        struct sg_context *context;
        struct sg_allocation *allocation;
        CUresult result = sg_context_current(&context);
        if (result == CUDA_SUCCESS && out == NULL)
                result = CUDA_ERROR_INVALID_VALUE;
        if (result == CUDA_SUCCESS &&
            (flags & ~(CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP | CU_MEMHOSTALLOC_WRITECOMBINED)) != 0)
                result = CUDA_ERROR_INVALID_VALUE;
        if (result == CUDA_SUCCESS)
                result = sg_capture_allows();
        if (result == CUDA_SUCCESS)
                result = sg_host_allocate(context, bytes, SG_MEMORY_PINNED, flags, &allocation);
        if (result == CUDA_SUCCESS)
                *out = sg_pointer(allocation->start);
        return result;
}

SG_ENTRY(cuMemAllocHost_v2, void **out, size_t bytes)
{
        return cuMemHostAlloc(out, bytes, 0);
}

SG_ENTRY(cuMemFreeHost, void *pointer)
{
        struct sg_context *context;
        CUresult result = sg_context_current(&context);
        if (result == CUDA_SUCCESS)
                result = sg_capture_allows();
        if (result != CUDA_SUCCESS)
                return result;
        if (!sg_allocation_free(sg_address(pointer), 1u << SG_MEMORY_PINNED))
                return CUDA_ERROR_INVALID_VALUE;
        return sg_context_check(context);
}

/* Every page of the range is mapped: mincore answers ENOMEM otherwise. */
static bool sg_range_is_mapped(uint64_t start, size_t bytes)
{
        unsigned char resident[SG_PROBE_PAGES];
        uint64_t page = start & ~(uint64_t)(SG_PAGE_BYTES - 1);
        const uint64_t end = start + bytes;
        while (page < end) {
                const uint64_t left = end - page, chunk = (uint64_t)SG_PROBE_PAGES * SG_PAGE_BYTES;
                if (mincore(sg_pointer(page), left < chunk ? left : chunk, resident) != 0)
                        return false;
                page += chunk;
        }
        return true;
}

SG_ENTRY(cuMemHostRegister_v2, void *pointer, size_t bytes, unsigned flags)
{
        const uint64_t start = sg_address(pointer);
        struct sg_context *context;
        const CUresult result = sg_context_current(&context);
        if (result != CUDA_SUCCESS)
                return result;
        if (pointer == NULL || bytes == 0 || bytes > SG_HOST_BYTES_MAX || start > UINT64_MAX - bytes)
                return CUDA_ERROR_INVALID_VALUE;
        if ((flags & ~(CU_MEMHOSTREGISTER_PORTABLE | CU_MEMHOSTREGISTER_DEVICEMAP | CU_MEMHOSTREGISTER_IOMEMORY |
                       CU_MEMHOSTREGISTER_READ_ONLY)) != 0)
                return CUDA_ERROR_INVALID_VALUE;
        if ((flags & CU_MEMHOSTREGISTER_IOMEMORY) != 0)
                return CUDA_ERROR_NOT_SUPPORTED;
        if (sg_address_in_window(start, bytes) || !sg_range_is_mapped(start, bytes))
                return CUDA_ERROR_INVALID_VALUE;
        if (sg_registry_overlaps(start, bytes))
                return CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED;
        struct sg_allocation *allocation = sg_host_allocation_new(context, pointer, bytes, SG_MEMORY_REGISTERED, flags);
        if (allocation == NULL)
                return CUDA_ERROR_OUT_OF_MEMORY;
        const CUresult inserted = sg_registry_insert(allocation);
        if (inserted != CUDA_SUCCESS)
                sg_allocation_put(allocation);
        return inserted;
}
SG_ALIAS(cuMemHostRegister, cuMemHostRegister_v2);

SG_ENTRY(cuMemHostUnregister, void *pointer)
{
        struct sg_context *context;
        const CUresult result = sg_context_current(&context);
        if (result != CUDA_SUCCESS)
                return result;
        if (!sg_allocation_free(sg_address(pointer), 1u << SG_MEMORY_REGISTERED))
                return CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED;
        return sg_context_check(context);
}

SG_ENTRY(cuMemHostGetDevicePointer_v2, CUdeviceptr *out, void *pointer, unsigned flags)
{
        struct sg_context *context;
        const CUresult result = sg_context_current(&context);
        if (result != CUDA_SUCCESS)
                return result;
        if (out == NULL || flags != 0)
                return CUDA_ERROR_INVALID_VALUE;
        struct sg_allocation *allocation = sg_registry_find(sg_address(pointer));
        const bool host = allocation != NULL &&
                          (allocation->kind == SG_MEMORY_PINNED || allocation->kind == SG_MEMORY_REGISTERED);
        if (allocation != NULL)
                sg_allocation_put(allocation);
        if (!host)
                return CUDA_ERROR_INVALID_VALUE;
        *out = sg_address(pointer);
        return CUDA_SUCCESS;
}

SG_ENTRY(cuMemHostGetFlags, unsigned *out, void *pointer)
{
        struct sg_context *context;
        const CUresult result = sg_context_current(&context);
        if (result != CUDA_SUCCESS)
                return result;
        if (out == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        struct sg_allocation *allocation = sg_registry_find(sg_address(pointer));
        const bool pinned = allocation != NULL && allocation->kind == SG_MEMORY_PINNED;
        if (pinned)
                /* With unified addressing every pinned range is portable and mapped, whatever was asked. */
                *out = allocation->flags | CU_MEMHOSTALLOC_DEVICEMAP | CU_MEMHOSTALLOC_PORTABLE;
        if (allocation != NULL)
                sg_allocation_put(allocation);
        return pinned ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}
