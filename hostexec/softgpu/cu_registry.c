/* The registry: every range that kernels and copies may touch, and the snapshots that kernels run with.
 *
 * One array sorted by address, under sg_memory_lock. Ranges are disjoint: device windows are ours, and host ranges are
 * refused when they overlap. A snapshot is built when a kernel starts and something has changed since the last one;
 * it references its allocations, so that memory freed meanwhile stays mapped until the last kernel that saw it ends. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "softgpu.h"

#define SG_ALLOCATIONS_MAX (1u << 20)

pthread_mutex_t sg_memory_lock = PTHREAD_MUTEX_INITIALIZER;

static struct sg_allocation **sg_registry;
static size_t sg_registry_count, sg_registry_capacity;
static uint64_t sg_registry_generation = 1;
static uint64_t sg_allocation_ids = 1;

/* Index of the first allocation that starts above `address`. */
static size_t sg_registry_after(uint64_t address)
{
        size_t low = 0, high = sg_registry_count;
        while (low < high) {
                const size_t middle = low + (high - low) / 2;
                if (sg_registry[middle]->start <= address)
                        low = middle + 1;
                else
                        high = middle;
        }
        return low;
}

static bool sg_registry_overlaps_locked(uint64_t start, size_t bytes)
{
        const size_t after = sg_registry_after(start);
        if (after > 0 && start - sg_registry[after - 1]->start < sg_registry[after - 1]->bytes)
                return true;
        return after < sg_registry_count && sg_registry[after]->start - start < bytes;
}

bool sg_registry_overlaps(uint64_t start, size_t bytes)
{
        pthread_mutex_lock(&sg_memory_lock);
        const bool overlaps = sg_registry_overlaps_locked(start, bytes);
        pthread_mutex_unlock(&sg_memory_lock);
        return overlaps;
}

void sg_registry_changed(void)
{
        sg_registry_generation++;
}

static CUresult sg_registry_insert_locked(struct sg_allocation *allocation)
{
        if (sg_registry_count == SG_ALLOCATIONS_MAX ||
            sg_registry_overlaps_locked(allocation->start, allocation->bytes))
                return CUDA_ERROR_OUT_OF_MEMORY;
        if (sg_registry_count == sg_registry_capacity) {
                const size_t capacity = sg_registry_capacity != 0 ? 2 * sg_registry_capacity : 256;
                struct sg_allocation **larger = realloc(sg_registry, capacity * sizeof(*larger));
                if (larger == NULL)
                        return CUDA_ERROR_OUT_OF_MEMORY;
                sg_registry = larger;
                sg_registry_capacity = capacity;
        }
        const size_t at = sg_registry_after(allocation->start);
        memmove(&sg_registry[at + 1], &sg_registry[at], (sg_registry_count++ - at) * sizeof(*sg_registry));
        sg_registry[at] = allocation;
        allocation->id = sg_allocation_ids++;
        sg_registry_changed();
        return CUDA_SUCCESS;
}

CUresult sg_registry_insert(struct sg_allocation *allocation)
{
        pthread_mutex_lock(&sg_memory_lock);
        const CUresult result = sg_registry_insert_locked(allocation);
        pthread_mutex_unlock(&sg_memory_lock);
        return result;
}

static void sg_registry_remove_at(size_t at)
{
        memmove(&sg_registry[at], &sg_registry[at + 1], (--sg_registry_count - at) * sizeof(*sg_registry));
        sg_registry_changed();
}

void sg_registry_remove(struct sg_allocation *allocation)
{
        bool found = false;
        pthread_mutex_lock(&sg_memory_lock);
        const size_t after = sg_registry_after(allocation->start);
        if (after > 0 && sg_registry[after - 1] == allocation) {
                sg_registry_remove_at(after - 1);
                found = true;
        }
        pthread_mutex_unlock(&sg_memory_lock);
        if (found)
                sg_allocation_put(allocation);
}

struct sg_allocation *sg_registry_at_locked(uint64_t address)
{
        const size_t after = sg_registry_after(address);
        return after > 0 && address - sg_registry[after - 1]->start < sg_registry[after - 1]->bytes
                       ? sg_registry[after - 1]
                       : NULL;
}

struct sg_allocation *sg_registry_find(uint64_t address)
{
        pthread_mutex_lock(&sg_memory_lock);
        struct sg_allocation *found = sg_registry_at_locked(address);
        if (found != NULL)
                sg_allocation_get(found);
        pthread_mutex_unlock(&sg_memory_lock);
        return found;
}

struct sg_allocation *sg_registry_take(uint64_t address, unsigned kind_mask)
{
        struct sg_allocation *found = NULL;
        pthread_mutex_lock(&sg_memory_lock);
        const size_t after = sg_registry_after(address);
        if (after > 0 && sg_registry[after - 1]->start == address &&
            (kind_mask >> sg_registry[after - 1]->kind & 1) != 0) {
                found = sg_registry[after - 1];
                sg_registry_remove_at(after - 1);
        }
        pthread_mutex_unlock(&sg_memory_lock);
        return found;
}

bool sg_address_in_window(uint64_t address, size_t bytes)
{
        for (unsigned i = 0; i < sg_device_count(); i++)
                if (sg_heap_contains(sg_device_at(i)->heap, address, bytes))
                        return true;
        return sg_address_is_reserved(address, bytes);
}

void sg_registry_release_context(struct sg_context *context)
{
        /* Backwards and one at a time: the put may take the lock. */
        for (;;) {
                struct sg_allocation *owned = NULL;
                pthread_mutex_lock(&sg_memory_lock);
                for (size_t at = sg_registry_count; at-- > 0 && owned == NULL;)
                        if (sg_registry[at]->context == context) {
                                owned = sg_registry[at];
                                sg_registry_remove_at(at);
                        }
                pthread_mutex_unlock(&sg_memory_lock);
                if (owned == NULL)
                        return;
                sg_allocation_put(owned);
        }
}

/* ---- allocations ---- */

void sg_allocation_get(struct sg_allocation *allocation)
{
        atomic_fetch_add_explicit(&allocation->references, 1, memory_order_relaxed); /* the caller holds one */
}

void sg_allocation_put(struct sg_allocation *allocation)
{
        if (atomic_fetch_sub_explicit(&allocation->references, 1, memory_order_acq_rel) != 1)
                return;
        void *address = sg_pointer(allocation->start);
        switch (allocation->kind) {
        case SG_MEMORY_DEVICE:
        case SG_MEMORY_MODULE:
                pthread_mutex_lock(&sg_memory_lock);
                sg_heap_give(allocation->device->heap, address, allocation->bytes);
                allocation->device->used_bytes -= sg_charged_bytes(allocation->bytes);
                if (allocation->pool != NULL)
                        allocation->pool->used -= sg_charged_bytes(allocation->bytes);
                pthread_mutex_unlock(&sg_memory_lock);
                break;
        case SG_MEMORY_OPENED: /* mapped from its page's start on */
        case SG_MEMORY_IMPORTED:
                munmap(sg_pointer(allocation->start & ~(uint64_t)4095), allocation->map_bytes);
                break;
        case SG_MEMORY_PINNED:
        case SG_MEMORY_MANAGED:
                munmap(address, allocation->map_bytes);
                break;
        case SG_MEMORY_MAPPED:
                sg_mapping_end(allocation);
                break;
        case SG_MEMORY_REGISTERED:
                break;
        }
        if (allocation->pool != NULL)
                sg_object_put(allocation->pool);
        free(allocation);
}

/* ---- snapshots ---- */

/* Device memory is seen by its own context and those with peer access to it, pools' memory and mappings where they say;
 * host memory by all. */
static bool sg_context_sees(const struct sg_context *context, const struct sg_allocation *allocation)
{
        if (allocation->kind == SG_MEMORY_MAPPED)
                return allocation->access[context->device->ordinal] != CU_MEM_ACCESS_FLAGS_PROT_NONE;
        if (allocation->kind != SG_MEMORY_DEVICE && allocation->kind != SG_MEMORY_MODULE)
                return true;
        if (allocation->context == context)
                return true;
        if (allocation->pool != NULL)
                return allocation->pool->access[context->device->ordinal] != CU_MEM_ACCESS_FLAGS_PROT_NONE;
        for (unsigned i = 0; i < context->peer_count; i++)
                if (context->peers[i] == allocation->context)
                        return true;
        return false;
}

static struct sg_map *sg_map_build(const struct sg_context *context)
{
        struct sg_map *map = malloc(sizeof(*map));
        struct ptx_range *ranges = malloc((sg_registry_count + 1) * sizeof(*ranges));
        struct sg_allocation **owners = malloc((sg_registry_count + 1) * sizeof(struct sg_allocation *));
        if (map == NULL || ranges == NULL || owners == NULL) {
                free(map);
                free(ranges);
                free(owners);
                return NULL;
        }
        size_t count = 0;
        for (size_t i = 0; i < sg_registry_count; i++) {
                struct sg_allocation *allocation = sg_registry[i];
                if (!sg_context_sees(context, allocation))
                        continue;
                const bool read_only =
                        allocation->kind == SG_MEMORY_MAPPED
                                ? allocation->access[context->device->ordinal] == CU_MEM_ACCESS_FLAGS_PROT_READ
                                : allocation->kind == SG_MEMORY_REGISTERED &&
                                          (allocation->flags & CU_MEMHOSTREGISTER_READ_ONLY) != 0;
                ranges[count] = (struct ptx_range){allocation->start, allocation->bytes, !read_only};
                owners[count++] = allocation;
                sg_allocation_get(allocation);
        }
        atomic_init(&map->references, 1);
        map->memory = (struct ptx_memory){ranges, count};
        map->owners = owners;
        return map;
}

struct sg_map *sg_map_acquire(struct sg_context *context)
{
        struct sg_map *stale = NULL;
        pthread_mutex_lock(&sg_memory_lock);
        struct sg_map *map = context->map;
        if (map == NULL || context->map_generation != sg_registry_generation) {
                map = sg_map_build(context);
                if (map != NULL) {
                        stale = context->map;
                        context->map = map;
                        context->map_generation = sg_registry_generation;
                }
        }
        if (map != NULL)
                atomic_fetch_add_explicit(&map->references, 1, memory_order_relaxed); /* under the lock that owns one */
        pthread_mutex_unlock(&sg_memory_lock);
        if (stale != NULL)
                sg_map_release(stale);
        return map;
}

void sg_map_release(struct sg_map *map)
{
        if (atomic_fetch_sub_explicit(&map->references, 1, memory_order_acq_rel) != 1)
                return;
        for (size_t i = 0; i < map->memory.count; i++)
                sg_allocation_put(map->owners[i]);
        free((void *)map->memory.ranges);
        free(map->owners);
        free(map);
}

void sg_map_forget(struct sg_context *context)
{
        pthread_mutex_lock(&sg_memory_lock);
        struct sg_map *map = context->map;
        context->map = NULL;
        pthread_mutex_unlock(&sg_memory_lock);
        if (map != NULL)
                sg_map_release(map);
}
