/* Blocks out of the arena. Small ones share extents, page by page; large ones have extents of their own.
 *
 * A pool is a list of shared extents with a bitmap of used pages each. First fit by runs of pages: blocks are whole
 * pages, as callers of pinned memory expect, and nothing is rounded up further. All book-keeping is private memory:
 * what the host could change decides nothing here. */
#include "memory.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PAGES IVG_POOL_PAGES_PER_EXTENT
#define BITMAP_WORDS (PAGES / 64u)

struct ivg_pool_extent {
        struct ivg_pool_extent *next;
        uint32_t extent;
        uint32_t pages_used;
        uint64_t used[BITMAP_WORDS];
};

static uint64_t extent_offset(uint32_t extent)
{
        return (uint64_t)extent * IVG_EXTENT_BYTES;
}

static bool page_is_used(const struct ivg_pool_extent *extent, uint32_t page)
{
        return extent->used[page / 64] >> (page % 64) & 1;
}

static void pages_mark(struct ivg_pool_extent *extent, uint32_t first, uint32_t count, bool used)
{
        for (uint32_t page = first; page < first + count; page++) {
                const uint64_t bit = 1ull << (page % 64);
                extent->used[page / 64] = used ? extent->used[page / 64] | bit : extent->used[page / 64] & ~bit;
        }
        extent->pages_used = used ? extent->pages_used + count : extent->pages_used - count;
}

/* First page of a free run of `count`, or PAGES. */
static uint32_t find_run(const struct ivg_pool_extent *extent, uint32_t count)
{
        uint32_t run = 0;
        if (PAGES - extent->pages_used < count)
                return PAGES;
        for (uint32_t page = 0; page < PAGES; page++) {
                run = page_is_used(extent, page) ? 0 : run + 1;
                if (run == count)
                        return page + 1 - count;
        }
        return PAGES;
}

static uint32_t pool_extents_max(const struct ivg_arena_pool *pool)
{
        const uint32_t all = (uint32_t)(ivg_process.arena_bytes / IVG_EXTENT_BYTES);
        const uint32_t share = all >> pool->share_shift;
        return share > 0 ? share : 1;
}

/* Claims `count` contiguous extents and registers them as one range, if the pool's are. Lock held. */
static CUresult extents_claim(struct ivg_arena_pool *pool, uint32_t count, uint32_t *first)
{
        if (count > pool_extents_max(pool) - pool->extents_held)
                return CUDA_ERROR_OUT_OF_MEMORY;
        const int error = ivg_link_extents_claim(ivg_process.link, count, first);
        if (error != 0)
                return error == -ENOSPC ? CUDA_ERROR_OUT_OF_MEMORY : ivg_result_from_errno(error);
        if (pool->registered) {
                const CUresult result = ivg_extents_register(extent_offset(*first), extent_offset(count));
                if (result != CUDA_SUCCESS) {
                        ivg_link_extents_release(ivg_process.link, *first, count);
                        return result;
                }
        }
        pool->extents_held += count;
        return CUDA_SUCCESS;
}

/* An extent whose unregistration failed is not given back: the device may still write to it, and its next owner would
 * be another process. It stays with this process until the channel ends. Lock held. */
static CUresult extents_release(struct ivg_arena_pool *pool, uint32_t first, uint32_t count)
{
        const CUresult result = pool->registered ? ivg_extents_unregister(extent_offset(first)) : CUDA_SUCCESS;
        if (result == CUDA_SUCCESS) {
                ivg_link_extents_release(ivg_process.link, first, count);
                pool->extents_held -= count;
        } else {
                ivg_log("%s memory: unregistering extent %u (%u extents): error %d; kept until exit", pool->name, first,
                        count, (int)result);
        }
        return result;
}

/* Lock held. */
static void trim_locked(struct ivg_arena_pool *pool)
{
        for (struct ivg_pool_extent **link = &pool->extents; *link != NULL;) {
                struct ivg_pool_extent *extent = *link;
                if (extent->pages_used > 0) {
                        link = &extent->next;
                        continue;
                }
                *link = extent->next;
                pool->extents_empty--;
                (void)extents_release(pool, extent->extent, 1); /* it logs; nobody else could act on it */
                free(extent);
        }
}

void ivg_pool_trim(struct ivg_arena_pool *pool)
{
        pthread_mutex_lock(&pool->lock);
        trim_locked(pool);
        pthread_mutex_unlock(&pool->lock);
}

static CUresult take_large(struct ivg_arena_pool *pool, uint64_t bytes, void **memory)
{
        if (bytes > ivg_process.arena_bytes)
                return CUDA_ERROR_OUT_OF_MEMORY;
        uint32_t first = 0;
        const uint32_t count = (uint32_t)((bytes + IVG_EXTENT_BYTES - 1) / IVG_EXTENT_BYTES);
        pthread_mutex_lock(&pool->lock);
        CUresult result = extents_claim(pool, count, &first);
        if (result == CUDA_ERROR_OUT_OF_MEMORY && pool->extents_empty > 0) {
                trim_locked(pool);
                result = extents_claim(pool, count, &first);
        }
        pthread_mutex_unlock(&pool->lock);
        if (result == CUDA_SUCCESS)
                *memory = ivg_process.arena + extent_offset(first);
        return result;
}

/* Lock held. */
static CUresult shared_extent_add(struct ivg_arena_pool *pool, struct ivg_pool_extent **added)
{
        struct ivg_pool_extent *extent = calloc(1, sizeof *extent);
        if (extent == NULL)
                return CUDA_ERROR_OUT_OF_MEMORY;
        const CUresult result = extents_claim(pool, 1, &extent->extent);
        if (result != CUDA_SUCCESS) {
                free(extent);
                return result;
        }
        extent->next = pool->extents;
        pool->extents = extent;
        pool->extents_empty++;
        *added = extent;
        return CUDA_SUCCESS;
}

/* Lock held. */
static CUresult take_small(struct ivg_arena_pool *pool, uint32_t pages, void **memory)
{
        struct ivg_pool_extent *extent = pool->extents;
        uint32_t page = PAGES;
        while (extent != NULL && (page = find_run(extent, pages)) == PAGES)
                extent = extent->next;
        if (extent == NULL) {
                const CUresult result = shared_extent_add(pool, &extent);
                if (result != CUDA_SUCCESS)
                        return result;
                page = 0;
        }
        if (extent->pages_used == 0)
                pool->extents_empty--;
        pages_mark(extent, page, pages, true);
        *memory = ivg_process.arena + extent_offset(extent->extent) + (uint64_t)page * IVG_PAGE_BYTES;
        return CUDA_SUCCESS;
}

CUresult ivg_pool_take(struct ivg_arena_pool *pool, uint64_t bytes, void **memory)
{
        if (bytes == 0)
                return CUDA_ERROR_INVALID_VALUE;
        if (bytes >= IVG_POOL_LARGE_BYTES)
                return take_large(pool, bytes, memory);
        pthread_mutex_lock(&pool->lock);
        const CUresult result = take_small(pool, (uint32_t)((bytes + IVG_PAGE_BYTES - 1) / IVG_PAGE_BYTES), memory);
        pthread_mutex_unlock(&pool->lock);
        return result;
}

/* Lock held. */
static CUresult give_small(struct ivg_arena_pool *pool, uint64_t offset, uint32_t pages)
{
        struct ivg_pool_extent **link = &pool->extents;
        while (*link != NULL && (*link)->extent != offset / IVG_EXTENT_BYTES)
                link = &(*link)->next;
        struct ivg_pool_extent *extent = *link;
        if (extent == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        pages_mark(extent, (uint32_t)(offset % IVG_EXTENT_BYTES / IVG_PAGE_BYTES), pages, false);
        if (extent->pages_used > 0)
                return CUDA_SUCCESS;
        pool->extents_empty++;
        if (pool->extents_empty <= IVG_POOL_EMPTY_EXTENTS_KEPT)
                return CUDA_SUCCESS;
        pool->extents_empty--;
        *link = extent->next;
        const CUresult result = extents_release(pool, extent->extent, 1);
        free(extent);
        return result;
}

CUresult ivg_pool_give(struct ivg_arena_pool *pool, void *memory, uint64_t bytes)
{
        const uint64_t offset = (uint64_t)((uint8_t *)memory - ivg_process.arena);
        CUresult result;
        pthread_mutex_lock(&pool->lock);
        if (bytes >= IVG_POOL_LARGE_BYTES)
                result = extents_release(pool, (uint32_t)(offset / IVG_EXTENT_BYTES),
                                         (uint32_t)((bytes + IVG_EXTENT_BYTES - 1) / IVG_EXTENT_BYTES));
        else
                result = give_small(pool, offset, (uint32_t)((bytes + IVG_PAGE_BYTES - 1) / IVG_PAGE_BYTES));
        pthread_mutex_unlock(&pool->lock);
        return result;
}
