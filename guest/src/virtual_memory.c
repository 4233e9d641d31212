/* Address ranges and mappings: the host reserves and maps, the guest keeps its own mappings out of there and notes what
 * is mapped as device memory.
 *
 * Memory of cuMemCreate lives while the program has a handle, a mapping or a shareable handle of it. The guest counts
 * these (values of the object), and gives its number back to the host when all are gone. The handle stays what it was
 * as long as the memory lives: cuMemRetainAllocationHandle finds it by the mapping, whose range holds the object's
 * index. */
#include "cuda_api.h"
#include "guest_send.h"
#include "memory.h"

enum { VALUE_HANDLES, VALUE_MAPPINGS, VALUE_HANDLE_TYPES };

#define INDEX_MASK ((1u << IVG_ID_INDEX_BITS) - 1)

static pthread_mutex_t memory_lock = PTHREAD_MUTEX_INITIALIZER; /* the counts, and the list below */

/* Memory that this program has let go of, and a shareable handle still holds. Looked through when memory is made or
 * given back. */
#define LINGERING_MAX 1024u /* as many as one machine can share at a time: IVG_IPC_SLOTS of the host */
static struct ivg_object *lingering[LINGERING_MAX];
static uint32_t lingering_count;

static struct ivg_object *memory_of(CUmemGenericAllocationHandle handle)
{
        return ivg_object_of(IVG_KIND_MEMORY_HANDLE, (const void *)(uintptr_t)handle);
}

static CUmemGenericAllocationHandle handle_of(const struct ivg_object *memory)
{
        return (CUmemGenericAllocationHandle)(uintptr_t)memory;
}

static uint32_t shareable(const struct ivg_object *memory)
{
        return memory->values[VALUE_HANDLE_TYPES] != CU_MEM_HANDLE_TYPE_NONE ? IVG_MEMORY_SHAREABLE : 0;
}

/* ---- its life ---- */

static CUresult memory_end(struct ivg_object *memory)
{
        const CUresult result = ivg_send_cuMemRelease(memory->id);

        ivg_share_end(memory);
        ivg_object_destroy(memory);
        return result;
}

/* Ends one whose shareable handles are all closed by now; false: there is none. */
static bool lingering_end_one(void)
{
        struct ivg_object *memory = NULL;

        pthread_mutex_lock(&memory_lock);
        for (uint32_t i = 0; memory == NULL && i < lingering_count; i++) {
                if (ivg_share_held(lingering[i]))
                        continue;
                memory = lingering[i];
                lingering[i] = lingering[--lingering_count];
        }
        pthread_mutex_unlock(&memory_lock);
        if (memory != NULL)
                (void)memory_end(memory);
        return memory != NULL;
}

static void lingering_look(void)
{
        /* Each turn takes one out; programs without shared memory pay this look. Relaxed would do: it is only that. */
        while (__atomic_load_n(&lingering_count, __ATOMIC_RELAXED) != 0 && lingering_end_one())
                continue;
}

/* Under the lock: one handle or mapping less. True: the caller ends the memory, which nobody finds any more. */
static bool let_go(struct ivg_object *memory, int value)
{
        memory->values[value]--;
        if (memory->values[VALUE_HANDLES] != 0 || memory->values[VALUE_MAPPINGS] != 0)
                return false;
        if (!ivg_share_held(memory) || lingering_count == LINGERING_MAX)
                return true;
        lingering[lingering_count++] = memory;
        return false;
}

static CUresult memory_let_go(struct ivg_object *memory, int value)
{
        bool last;

        pthread_mutex_lock(&memory_lock);
        last = let_go(memory, value);
        pthread_mutex_unlock(&memory_lock);
        return last ? memory_end(memory) : CUDA_SUCCESS;
}

/* Counts one more handle or mapping of memory that the program has a handle of. */
static bool memory_hold(struct ivg_object *memory, int value)
{
        bool alive;

        pthread_mutex_lock(&memory_lock);
        alive = memory->values[VALUE_HANDLES] != 0;
        if (alive)
                memory->values[value]++;
        pthread_mutex_unlock(&memory_lock);
        return alive;
}

CUresult cuMemCreate(CUmemGenericAllocationHandle *handle, size_t size, const CUmemAllocationProp *prop,
                     unsigned long long flags)
{
        struct ivg_object *memory;
        CUresult result = ivg_process_check();

        if (result != CUDA_SUCCESS)
                return result;
        if (handle == NULL || prop == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        if (prop->requestedHandleTypes != CU_MEM_HANDLE_TYPE_NONE &&
            prop->requestedHandleTypes != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR)
                return ivg_refuse("cuMemCreate with handles that are no descriptors");
        if (ivg_location_is_host(prop->location.type))
                return ivg_refuse("cuMemCreate of host memory");
        if (prop->win32HandleMetaData != NULL)
                return ivg_refuse("cuMemCreate with win32HandleMetaData");
        lingering_look();
        result = ivg_object_create(IVG_KIND_MEMORY_HANDLE, NULL, &memory);
        if (result != CUDA_SUCCESS)
                return result;
        memory->device = prop->location.id;
        memory->values[VALUE_HANDLES] = 1;
        memory->values[VALUE_HANDLE_TYPES] = prop->requestedHandleTypes;
        result = ivg_send_cuMemCreate(size, prop, flags, memory->id);
        if (result == CUDA_SUCCESS)
                *handle = handle_of(memory);
        else
                ivg_object_destroy(memory);
        return result;
}

CUresult cuMemRelease(CUmemGenericAllocationHandle handle)
{
        struct ivg_object *memory;
        bool alive, last = false;
        const CUresult result = ivg_process_check();

        if (result != CUDA_SUCCESS)
                return result;
        memory = memory_of(handle);
        if (memory == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        lingering_look();
        pthread_mutex_lock(&memory_lock);
        alive = memory->values[VALUE_HANDLES] != 0;
        if (alive)
                last = let_go(memory, VALUE_HANDLES);
        pthread_mutex_unlock(&memory_lock);
        if (!alive)
                return CUDA_ERROR_INVALID_VALUE;
        return last ? memory_end(memory) : ivg_local("cuMemRelease", CUDA_SUCCESS);
}

static CUresult retain(CUmemGenericAllocationHandle *handle, uint64_t address)
{
        struct ivg_memory_range range;
        struct ivg_object *memory = NULL;
        const CUresult result = ivg_process_check();

        if (result != CUDA_SUCCESS)
                return result;
        if (handle == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        pthread_mutex_lock(&memory_lock);
        /* A range that is there is a mapping that is counted: its memory lives. */
        if (ivg_memory_find(&ivg_memory_of_device, address, &range) && range.kind == IVG_MEMORY_MAPPED)
                memory = ivg_object_at(IVG_KIND_MEMORY_HANDLE, range.flags & INDEX_MASK);
        if (memory != NULL)
                memory->values[VALUE_HANDLES]++;
        pthread_mutex_unlock(&memory_lock);
        if (memory == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        *handle = handle_of(memory);
        return CUDA_SUCCESS;
}

CUresult cuMemRetainAllocationHandle(CUmemGenericAllocationHandle *handle, void *addr)
{
        return ivg_local("cuMemRetainAllocationHandle", retain(handle, (uintptr_t)addr));
}

/* ---- shared with other processes ---- */

CUresult cuMemExportToShareableHandle(void *shareableHandle, CUmemGenericAllocationHandle handle,
                                      CUmemAllocationHandleType handleType, unsigned long long flags)
{
        struct ivg_object *memory;
        CUresult result = ivg_process_check();

        if (result != CUDA_SUCCESS)
                return result;
        memory = memory_of(handle);
        if (shareableHandle == NULL || memory == NULL || flags != 0)
                return CUDA_ERROR_INVALID_VALUE;
        if (handleType != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR)
                return ivg_refuse("cuMemExportToShareableHandle to what is no descriptor");
        if ((memory->values[VALUE_HANDLE_TYPES] & handleType) == 0 || !memory_hold(memory, VALUE_HANDLES))
                return CUDA_ERROR_INVALID_VALUE;
        result = ivg_share_export(memory, ivg_send_ivgMemExport, shareableHandle);
        (void)memory_let_go(memory, VALUE_HANDLES);
        return result;
}

CUresult cuMemImportFromShareableHandle(CUmemGenericAllocationHandle *handle, void *osHandle,
                                        CUmemAllocationHandleType shHandleType)
{
        struct ivg_wire_ticket ticket;
        struct ivg_object *memory;
        CUresult result = ivg_process_check();

        if (result != CUDA_SUCCESS)
                return result;
        if (shHandleType != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR)
                return ivg_refuse("cuMemImportFromShareableHandle of what is no descriptor");
        if (handle == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        result = ivg_share_read((int)(intptr_t)osHandle, &ticket);
        if (result == CUDA_SUCCESS)
                result = ivg_object_create(IVG_KIND_MEMORY_HANDLE, NULL, &memory);
        if (result != CUDA_SUCCESS)
                return result;
        memory->values[VALUE_HANDLES] = 1;
        memory->values[VALUE_HANDLE_TYPES] = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
        result = ivg_send_ivgMemImport(&ticket, memory->id, &memory->device);
        if (result == CUDA_SUCCESS)
                *handle = handle_of(memory);
        else
                ivg_object_destroy(memory);
        return result;
}

/* ---- addresses ---- */

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

/* A mapping belongs to no context. */
CUresult cuMemMap(CUdeviceptr ptr, size_t size, size_t offset, CUmemGenericAllocationHandle handle,
                  unsigned long long flags)
{
        struct ivg_object *memory;
        CUresult result = ivg_process_check();
        if (result != CUDA_SUCCESS)
                return result;
        memory = memory_of(handle);
        if (memory == NULL || !memory_hold(memory, VALUE_MAPPINGS))
                return CUDA_ERROR_INVALID_VALUE;
        result = ivg_send_cuMemMap(ptr, size, offset, memory->id, flags);
        if (result == CUDA_SUCCESS) {
                struct ivg_memory_range range = {.base = ptr,
                                                 .bytes = size,
                                                 .kind = IVG_MEMORY_MAPPED,
                                                 .flags = (memory->id & INDEX_MASK) | shareable(memory),
                                                 .device = memory->device};
                if (ivg_memory_add(&ivg_memory_of_device, &range) == 0)
                        return CUDA_SUCCESS;
                (void)ivg_send_cuMemUnmap(ptr, size); /* an overlap with something: it cannot be noted */
                result = CUDA_ERROR_OUT_OF_MEMORY;
        }
        (void)memory_let_go(memory, VALUE_MAPPINGS);
        return result;
}

CUresult cuMemUnmap(CUdeviceptr ptr, size_t size)
{
        struct ivg_memory_range range;
        CUresult result = ivg_process_check();
        if (result != CUDA_SUCCESS)
                return result;
        result = ivg_send_cuMemUnmap(ptr, size);
        /* One call may end several mappings, whole ones only. */
        for (uint64_t at = ptr; result == CUDA_SUCCESS && at - ptr < size; at += range.bytes) {
                struct ivg_object *memory;
                if (!ivg_memory_remove(&ivg_memory_of_device, at, IVG_MEMORY_MAPPED, &range))
                        break;
                memory = ivg_object_at(IVG_KIND_MEMORY_HANDLE, range.flags & INDEX_MASK);
                if (memory != NULL)
                        (void)memory_let_go(memory, VALUE_MAPPINGS);
        }
        return result;
}
