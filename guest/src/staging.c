/* Arena memory for the length of one call: images, tables and other ranges too long for a record. Not registered with
 * the device: the executor copies it away or writes into it, the driver never keeps it. */
#include "guest_send.h"
#include "memory.h"

/* Half of the arena: one module image of the largest size fits in the default region beside the pinned memory. */
struct ivg_arena_pool ivg_staging_pool = IVG_ARENA_POOL("staging", false, 1);

void *ivg_staging_take(uint64_t bytes)
{
        void *memory = NULL;
        return ivg_pool_take(&ivg_staging_pool, bytes, &memory) == CUDA_SUCCESS ? memory : NULL;
}

void ivg_staging_give(void *memory, uint64_t bytes)
{
        if (memory != NULL)
                (void)ivg_pool_give(&ivg_staging_pool, memory, bytes); /* cannot fail: nothing to unregister */
}

bool ivg_arena_offset(const void *pointer, uint64_t bytes, uint64_t *offset)
{
        const uint64_t distance = (uintptr_t)pointer - (uintptr_t)ivg_process.arena;
        *offset = distance;
        return distance < ivg_process.arena_bytes && bytes <= ivg_process.arena_bytes - distance;
}

CUresult ivg_extents_register(uint64_t arena_offset, uint64_t bytes)
{
        return ivg_send_ivgExtentsRegister(arena_offset, bytes, 0);
}

CUresult ivg_extents_unregister(uint64_t arena_offset)
{
        return ivg_send_ivgExtentsUnregister(arena_offset);
}
