/* Address ranges and mappings: the host reserves and maps, the guest keeps its own mappings out of there and notes what
 * is mapped as device memory. */
#include "cuda_api.h"
#include "guest_send.h"
#include "memory.h"

CUresult cuMemAddressReserve(CUdeviceptr *ptr, size_t size, size_t alignment, CUdeviceptr addr,
                             unsigned long long flags)
{
        uint64_t address = 0;
        CUresult result = ivg_process_check();
        if (result != CUDA_SUCCESS)
                return result;
        if (ptr == NULL || size == 0)
                return CUDA_ERROR_INVALID_VALUE;
        result = ivg_send_cuMemAddressReserve(size, alignment, addr, flags, &address);
        if (result != CUDA_SUCCESS)
                return result;
        if (!ivg_shadow_reserve(address, size))
                ivg_log("device addresses at 0x%llx lie where this program has memory of its own",
                        (unsigned long long)address);
        *ptr = address;
        return CUDA_SUCCESS;
}

CUresult cuMemAddressFree(CUdeviceptr ptr, size_t size)
{
        const CUresult result = ivg_process_check();
        return result != CUDA_SUCCESS ? result : ivg_send_cuMemAddressFree(ptr, size);
}

/* A mapping belongs to no context: it is noted with the one that is current, for the pointer attributes. */
CUresult cuMemMap(CUdeviceptr ptr, size_t size, size_t offset, CUmemGenericAllocationHandle handle,
                  unsigned long long flags)
{
        struct ivg_object *current;
        CUresult result = ivg_process_check();
        if (result != CUDA_SUCCESS)
                return result;
        const struct ivg_object *memory = ivg_object_of(IVG_KIND_MEMORY_HANDLE, (const void *)(uintptr_t)handle);
        if (memory == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        result = ivg_send_cuMemMap(ptr, size, offset, memory->id, flags);
        if (result != CUDA_SUCCESS)
                return result;
        current = ivg_context_current();
        struct ivg_memory_range range = {
                .base = ptr, .bytes = size, .kind = IVG_MEMORY_MAPPED, .device = current != NULL ? current->device : 0};
        if (ivg_memory_add(&ivg_memory_of_device, &range) == 0)
                return CUDA_SUCCESS;
        (void)ivg_send_cuMemUnmap(ptr, size); /* the host accepted an overlap with something: it cannot be noted */
        return CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult cuMemUnmap(CUdeviceptr ptr, size_t size)
{
        struct ivg_memory_range range;
        CUresult result = ivg_process_check();
        if (result != CUDA_SUCCESS)
                return result;
        result = ivg_send_cuMemUnmap(ptr, size);
        /* One call may end several mappings, whole ones only. */
        for (uint64_t at = ptr; result == CUDA_SUCCESS && at - ptr < size; at += range.bytes)
                if (!ivg_memory_remove(&ivg_memory_of_device, at, IVG_MEMORY_MAPPED, &range))
                        break;
        return result;
}
