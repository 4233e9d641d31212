/* Pinned host memory: arena memory, which host, device and this process see at the same address.
 *
 * cuMemHostRegister is another matter: the program's own pages cannot be shown to the host afterwards. The call is
 * accepted as the note that it is for most programs (copies from such memory are staged like any other, only slower
 * than they hoped), and what would need the mapping is refused: cuMemHostGetDevicePointer, I/O memory. A kernel that
 * dereferences such a pointer faults with CUDA_ERROR_ILLEGAL_ADDRESS, as it would for any unregistered memory. */
#include "cuda_api.h"
#include "guest_send.h"
#include "memory.h"
#include "paged.h"
#include <errno.h>
#include <stdlib.h>

#define HOST_ALLOC_FLAGS (CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP | CU_MEMHOSTALLOC_WRITECOMBINED)
#define HOST_REGISTER_FLAGS                                                                         \
        (CU_MEMHOSTREGISTER_PORTABLE | CU_MEMHOSTREGISTER_DEVICEMAP | CU_MEMHOSTREGISTER_IOMEMORY | \
         CU_MEMHOSTREGISTER_READ_ONLY)

struct ivg_arena_pool ivg_pinned_pool = IVG_ARENA_POOL("pinned", true, 0);

/* ---- freed while a stream captures ----
 *
 * Memory goes back when the device is done with it, and a context in which a stream captures cannot be waited for. So
 * what is freed meanwhile is put off until it can. */
static struct put_off {
        struct put_off *next;
        void *memory;
        uint64_t bytes;
} * put_off_first;
static pthread_mutex_t put_off_lock = PTHREAD_MUTEX_INITIALIZER;

static void put_off_add(struct put_off *entry)
{
        pthread_mutex_lock(&put_off_lock);
        entry->next = put_off_first;
        put_off_first = entry;
        pthread_mutex_unlock(&put_off_lock);
}

/* The context has been waited for. */
static void put_off_give(void)
{
        pthread_mutex_lock(&put_off_lock);
        struct put_off *entry = put_off_first;
        put_off_first = NULL;
        pthread_mutex_unlock(&put_off_lock);
        while (entry != NULL) {
                struct put_off *next = entry->next;
                (void)ivg_pool_give(&ivg_pinned_pool, entry->memory, entry->bytes); /* it logs */
                free(entry);
                entry = next;
        }
}

static void put_off_try(void)
{
        pthread_mutex_lock(&put_off_lock);
        const bool some = put_off_first != NULL;
        pthread_mutex_unlock(&put_off_lock);
        if (some && !ivg_capturing() && ivg_context_current() != NULL && ivg_send_cuCtxSynchronize() == CUDA_SUCCESS)
                put_off_give();
}

/* ---- allocated by the program ---- */

CUresult ivg_pinned_take(uint64_t bytes, void **memory)
{
        const CUresult result = ivg_pool_take(&ivg_pinned_pool, bytes, memory);
        if (result != CUDA_ERROR_OUT_OF_MEMORY)
                return result;
        put_off_try();
        ivg_paged_sweep();
        ivg_pool_trim(&ivg_staging_pool); /* extents it keeps for speed only */
        return ivg_pool_take(&ivg_pinned_pool, bytes, memory);
}

static CUresult host_alloc(void **pp, size_t bytes, unsigned int flags)
{
        struct ivg_object *context;
        CUresult result = ivg_context_require(&context);
        if (result != CUDA_SUCCESS)
                return result;
        if (pp == NULL || bytes == 0 || (flags & ~HOST_ALLOC_FLAGS) != 0)
                return CUDA_ERROR_INVALID_VALUE;
        void *memory = NULL;
        result = ivg_capture_allows();
        if (result == CUDA_SUCCESS)
                result = ivg_pinned_take(bytes, &memory);
        if (result != CUDA_SUCCESS)
                return result;
        struct ivg_memory_range range = {
                .base = (uintptr_t)memory,
                .bytes = bytes,
                .kind = IVG_MEMORY_PINNED,
                .flags = flags,
                .device = context->device,
                .context = ivg_context_owner(context),
        };
        if (ivg_memory_add(&ivg_memory_of_host, &range) != 0) {
                (void)ivg_pool_give(&ivg_pinned_pool, memory, bytes);
                return CUDA_ERROR_OUT_OF_MEMORY;
        }
        *pp = memory;
        return CUDA_SUCCESS;
}

CUresult cuMemHostAlloc(void **pp, size_t bytesize, unsigned int Flags)
{
        return host_alloc(pp, bytesize, Flags);
}

CUresult cuMemAllocHost_v2(void **pp, size_t bytesize)
{
        return host_alloc(pp, bytesize, 0);
}

/* Waits for the device, as on bare metal: a copy under way may still use the memory, and its next owner is near. */
CUresult cuMemFreeHost(void *p)
{
        struct ivg_memory_range range;
        CUresult result = ivg_process_check();
        if (result != CUDA_SUCCESS)
                return result;
        if (!ivg_memory_find(&ivg_memory_of_host, (uintptr_t)p, &range) || range.base != (uintptr_t)p ||
            range.kind != IVG_MEMORY_PINNED)
                return CUDA_ERROR_INVALID_VALUE;
        CUresult earlier = CUDA_SUCCESS;
        struct put_off *later = NULL;
        if (ivg_capturing()) {
                result = ivg_capture_allows();
                if (result == CUDA_SUCCESS && (later = malloc(sizeof(*later))) == NULL)
                        result = CUDA_ERROR_OUT_OF_MEMORY;
                if (result != CUDA_SUCCESS)
                        return result;
        } else if (ivg_context_current() != NULL) {
                earlier = ivg_send_cuCtxSynchronize();
        }
        if (!ivg_memory_remove(&ivg_memory_of_host, range.base, IVG_MEMORY_PINNED, &range)) {
                free(later);
                return CUDA_ERROR_INVALID_VALUE; /* another thread frees it too */
        }
        if (later != NULL) {
                *later = (struct put_off){.memory = p, .bytes = range.bytes};
                put_off_add(later);
                return CUDA_SUCCESS;
        }
        put_off_give();
        result = ivg_pool_give(&ivg_pinned_pool, p, range.bytes);
        return result != CUDA_SUCCESS ? result : earlier;
}

CUresult cuMemHostGetDevicePointer_v2(CUdeviceptr *pdptr, void *p, unsigned int Flags)
{
        struct ivg_memory_range range;
        const CUresult result = ivg_process_check();
        if (result != CUDA_SUCCESS)
                return ivg_local("cuMemHostGetDevicePointer_v2", result);
        if (pdptr == NULL || Flags != 0 || !ivg_memory_find(&ivg_memory_of_host, (uintptr_t)p, &range))
                return ivg_local("cuMemHostGetDevicePointer_v2", CUDA_ERROR_INVALID_VALUE);
        if (range.kind == IVG_MEMORY_REGISTERED)
                return ivg_refuse("cuMemHostGetDevicePointer_v2 (of memory registered by cuMemHostRegister)");
        *pdptr = (uintptr_t)p;
        return ivg_local("cuMemHostGetDevicePointer_v2", CUDA_SUCCESS);
}

CUresult cuMemHostGetFlags(unsigned int *pFlags, void *p)
{
        struct ivg_memory_range range;
        CUresult result = ivg_process_check();
        if (result == CUDA_SUCCESS && (pFlags == NULL || !ivg_memory_find(&ivg_memory_of_host, (uintptr_t)p, &range) ||
                                       range.kind != IVG_MEMORY_PINNED))
                result = CUDA_ERROR_INVALID_VALUE;
        if (result == CUDA_SUCCESS)
                *pFlags = range.flags & ~IVG_MEMORY_FLAGS;
        return ivg_local("cuMemHostGetFlags", result);
}

static CUresult host_register(void *p, size_t bytes, unsigned int flags)
{
        struct ivg_object *context;
        uint64_t offset;
        const CUresult result = ivg_context_require(&context);
        if (result != CUDA_SUCCESS)
                return result;
        if (p == NULL || bytes == 0 || (flags & ~HOST_REGISTER_FLAGS) != 0)
                return CUDA_ERROR_INVALID_VALUE;
        if (flags & CU_MEMHOSTREGISTER_IOMEMORY)
                return ivg_refuse("cuMemHostRegister_v2 (CU_MEMHOSTREGISTER_IOMEMORY)");
        if (ivg_arena_offset(p, 1, &offset))
                return CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED;
        struct ivg_memory_range range = {
                .base = (uintptr_t)p,
                .bytes = bytes,
                .kind = IVG_MEMORY_REGISTERED,
                .flags = flags,
                .device = context->device,
                .context = ivg_context_owner(context),
        };
        switch (ivg_memory_add(&ivg_memory_of_host, &range)) {
        case 0:
                return CUDA_SUCCESS;
        case -EEXIST:
                return CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED;
        case -EINVAL:
                return CUDA_ERROR_INVALID_VALUE;
        default:
                return CUDA_ERROR_OUT_OF_MEMORY;
        }
}

CUresult cuMemHostRegister_v2(void *p, size_t bytesize, unsigned int Flags)
{
        return ivg_local("cuMemHostRegister_v2", host_register(p, bytesize, Flags));
}

CUresult cuMemHostRegister(void *p, size_t bytesize, unsigned int Flags)
{
        return ivg_local("cuMemHostRegister", host_register(p, bytesize, Flags));
}

CUresult cuMemHostUnregister(void *p)
{
        struct ivg_memory_range range;
        CUresult result = ivg_process_check();
        if (result == CUDA_SUCCESS &&
            !ivg_memory_remove(&ivg_memory_of_host, (uintptr_t)p, IVG_MEMORY_REGISTERED, &range))
                result = CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED;
        return ivg_local("cuMemHostUnregister", result);
}

void ivg_memory_end_of_context(struct ivg_object *context)
{
        struct ivg_memory_range range;
        while (ivg_memory_remove_of_context(&ivg_memory_of_device, context, IVG_MEMORY_DEVICE, &range) ||
               ivg_memory_remove_of_context(&ivg_memory_of_device, context, IVG_MEMORY_POOLED, &range) ||
               ivg_memory_remove_of_context(&ivg_memory_of_device, context, IVG_MEMORY_GRAPH, &range) ||
               ivg_memory_remove_of_context(&ivg_memory_of_device, context, IVG_MEMORY_OPENED, &range) ||
               ivg_memory_remove_of_context(&ivg_memory_of_device, context, IVG_MEMORY_GLOBAL, &range) ||
               ivg_memory_remove_of_context(&ivg_memory_of_host, context, IVG_MEMORY_REGISTERED, &range))
                continue;
        while (ivg_memory_remove_of_context(&ivg_memory_of_host, context, IVG_MEMORY_PINNED, &range))
                (void)ivg_pool_give(&ivg_pinned_pool, (void *)(uintptr_t)range.base, range.bytes); /* it logs */
        ivg_managed_end_of_context(context);
}
