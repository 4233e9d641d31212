/* Addresses of one device's memory: a window of reserved address space, committed where it is in use.
 *
 * The window is divided into 2 MiB blocks. A large request takes whole blocks, and commits only the pages it needs:
 * what follows stays inaccessible. Small requests share a block, in granules marked in a bitmap. The window is larger
 * than the memory, so that fragments cost addresses and not memory; memory itself is counted by the caller. All under
 * sg_memory_lock. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#include "softgpu.h"

#define SG_BLOCK_BYTES ((size_t)2 << 20)
#define SG_GRANULE_BYTES ((size_t)512)
#define SG_BLOCK_GRANULES (SG_BLOCK_BYTES / SG_GRANULE_BYTES)
#define SG_BITMAP_WORDS (SG_BLOCK_GRANULES / 64)
#define SG_SMALL_BYTES_MAX (SG_BLOCK_BYTES / 2)
#define SG_PAGE_BYTES ((size_t)4096)

/* A run of free blocks. */
struct sg_run {
        size_t first, count;
};

/* A block cut into granules. */
struct sg_chunk {
        size_t block;
        size_t free;
        uint64_t used[SG_BITMAP_WORDS];
        struct sg_chunk *next;
};

struct sg_heap {
        char *base;
        uint64_t nonce; /* in the memfd's name: another process's descriptor of this number is not it */
        int fd;         /* memfd behind the window, so that parts of it can be shared; -1: private memory */
        size_t block_count;
        struct sg_run *runs; /* sorted, never adjacent */
        size_t run_count, run_capacity;
        struct sg_chunk *chunks;
};

/* Puts a sparse file behind the window: nothing is taken until it is used. Without one all works but sharing. */
static void sg_window_share(struct sg_heap *heap, size_t bytes)
{
        char name[SG_SHARE_NAME_BYTES];
        uint64_t nonce = 0;
        if (getrandom(&nonce, sizeof(nonce), 0) != (ssize_t)sizeof(nonce))
                nonce = (uint64_t)(uintptr_t)heap ^ (uint64_t)getpid();
        snprintf(name, sizeof(name), "ivgpu-soft-%016llx", (unsigned long long)nonce);
        heap->nonce = nonce;
        heap->fd = memfd_create(name, MFD_CLOEXEC);
        if (heap->fd >= 0 &&
            (ftruncate(heap->fd, (off_t)bytes) != 0 ||
             mmap(heap->base, bytes, PROT_NONE, MAP_SHARED | MAP_FIXED | MAP_NORESERVE, heap->fd, 0) == MAP_FAILED)) {
                close(heap->fd);
                heap->fd = -1;
        }
}

bool sg_heap_share(const struct sg_heap *heap, uint64_t address, struct sg_share *out)
{
        *out = (struct sg_share){.fd = heap->fd, .nonce = heap->nonce, .offset = address - sg_address(heap->base)};
        return heap->fd >= 0;
}

bool sg_share_file(int fd, uint64_t *nonce)
{
        char path[32], name[96];
        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        const ssize_t length = readlink(path, name, sizeof(name) - 1);
        if (length < 0)
                return false;
        name[length] = '\0';
        unsigned long long number;
        const bool ours = sscanf(name, "/memfd:ivgpu-soft-%16llx", &number) == 1;
        *nonce = ours ? number : 0;
        return ours;
}

struct sg_heap *sg_heap_open(size_t total_bytes)
{
        size_t bytes = SG_WINDOW_BYTES_MIN;
        while (bytes < total_bytes * 4)
                bytes *= 2;
        struct sg_heap *heap = calloc(1, sizeof(*heap));
        if (heap == NULL)
                return NULL;
        /* One block more, so that the base can be aligned; a crowded address space gets a smaller window. */
        char *base;
        do {
                base = mmap(NULL, bytes + SG_BLOCK_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
                            0);
        } while (base == MAP_FAILED && (bytes /= 2) >= total_bytes);
        heap->run_capacity = 16;
        heap->runs = calloc(heap->run_capacity, sizeof(*heap->runs));
        if (base == MAP_FAILED || heap->runs == NULL) {
                free(heap->runs);
                free(heap);
                return NULL;
        }
        heap->base = (char *)(((uintptr_t)base + SG_BLOCK_BYTES - 1) & ~(uintptr_t)(SG_BLOCK_BYTES - 1));
        heap->block_count = bytes / SG_BLOCK_BYTES;
        sg_window_share(heap, bytes);
        heap->runs[heap->run_count++] = (struct sg_run){0, heap->block_count};
        return heap;
}

bool sg_heap_contains(const struct sg_heap *heap, uint64_t address, size_t bytes)
{
        const uint64_t base = (uint64_t)(uintptr_t)heap->base, end = base + heap->block_count * SG_BLOCK_BYTES;
        return address < end && (address >= base || bytes > base - address);
}

static bool sg_pages_commit(void *address, size_t bytes)
{
        bytes = (bytes + SG_PAGE_BYTES - 1) & ~(SG_PAGE_BYTES - 1);
        return mprotect(address, bytes, PROT_READ | PROT_WRITE) == 0;
}

static void sg_pages_release(void *address, size_t bytes)
{
        bytes = (bytes + SG_PAGE_BYTES - 1) & ~(SG_PAGE_BYTES - 1);
        /* Of shared memory a hole must be made: DONTNEED would leave its pages in the file. */
        if ((madvise(address, bytes, MADV_REMOVE) != 0 && madvise(address, bytes, MADV_DONTNEED) != 0) ||
            mprotect(address, bytes, PROT_NONE) != 0)
                sg_report("%zu bytes at %p could not be given back", bytes, address);
}

/* ---- blocks ---- */

static bool sg_blocks_take(struct sg_heap *heap, size_t count, size_t *out)
{
        for (size_t i = 0; i < heap->run_count; i++) {
                struct sg_run *run = &heap->runs[i];
                if (run->count < count)
                        continue;
                *out = run->first;
                run->first += count;
                run->count -= count;
                if (run->count == 0)
                        memmove(run, run + 1, (--heap->run_count - i) * sizeof(*run));
                return true;
        }
        return false;
}

static void sg_blocks_give(struct sg_heap *heap, size_t first, size_t count)
{
        size_t at = 0;
        while (at < heap->run_count && heap->runs[at].first < first)
                at++;
        const bool joins_left = at > 0 && heap->runs[at - 1].first + heap->runs[at - 1].count == first;
        const bool joins_right = at < heap->run_count && first + count == heap->runs[at].first;
        if (joins_left && joins_right) {
                heap->runs[at - 1].count += count + heap->runs[at].count;
                memmove(&heap->runs[at], &heap->runs[at + 1], (--heap->run_count - at) * sizeof(heap->runs[0]));
        } else if (joins_left) {
                heap->runs[at - 1].count += count;
        } else if (joins_right) {
                heap->runs[at].first = first;
                heap->runs[at].count += count;
        } else {
                if (heap->run_count == heap->run_capacity) {
                        struct sg_run *larger = realloc(heap->runs, 2 * heap->run_capacity * sizeof(heap->runs[0]));
                        if (larger == NULL) {
                                sg_report("%zu blocks of address space lost: no memory for the list", count);
                                return;
                        }
                        heap->runs = larger;
                        heap->run_capacity *= 2;
                }
                memmove(&heap->runs[at + 1], &heap->runs[at], (heap->run_count++ - at) * sizeof(heap->runs[0]));
                heap->runs[at] = (struct sg_run){first, count};
        }
}

/* ---- granules ---- */

static bool sg_granule_used(const struct sg_chunk *chunk, size_t granule)
{
        return (chunk->used[granule / 64] >> (granule % 64)) & 1;
}

static void sg_granules_mark(struct sg_chunk *chunk, size_t first, size_t count, bool used)
{
        for (size_t i = first; i < first + count; i++)
                if (used)
                        chunk->used[i / 64] |= (uint64_t)1 << (i % 64);
                else
                        chunk->used[i / 64] &= ~((uint64_t)1 << (i % 64));
        chunk->free += used ? (size_t)0 - count : count;
}

static bool sg_granules_find(const struct sg_chunk *chunk, size_t count, size_t *out)
{
        size_t length = 0;
        for (size_t i = 0; i < SG_BLOCK_GRANULES; i++) {
                if (i % 64 == 0 && chunk->used[i / 64] == UINT64_MAX) {
                        length = 0;
                        i += 63;
                        continue;
                }
                length = sg_granule_used(chunk, i) ? 0 : length + 1;
                if (length == count) {
                        *out = i + 1 - count;
                        return true;
                }
        }
        return false;
}

static struct sg_chunk *sg_chunk_open(struct sg_heap *heap)
{
        struct sg_chunk *chunk = calloc(1, sizeof(*chunk));
        if (chunk == NULL)
                return NULL;
        if (!sg_blocks_take(heap, 1, &chunk->block)) {
                free(chunk);
                return NULL;
        }
        if (!sg_pages_commit(heap->base + chunk->block * SG_BLOCK_BYTES, SG_BLOCK_BYTES)) {
                sg_blocks_give(heap, chunk->block, 1);
                free(chunk);
                return NULL;
        }
        chunk->free = SG_BLOCK_GRANULES;
        chunk->next = heap->chunks;
        heap->chunks = chunk;
        return chunk;
}

static void *sg_small_take(struct sg_heap *heap, size_t bytes)
{
        const size_t count = (bytes + SG_GRANULE_BYTES - 1) / SG_GRANULE_BYTES;
        struct sg_chunk *chunk = heap->chunks;
        size_t first = 0;
        while (chunk != NULL && (chunk->free < count || !sg_granules_find(chunk, count, &first)))
                chunk = chunk->next;
        if (chunk == NULL) {
                chunk = sg_chunk_open(heap);
                if (chunk == NULL)
                        return NULL;
                first = 0;
        }
        sg_granules_mark(chunk, first, count, true);
        return heap->base + chunk->block * SG_BLOCK_BYTES + first * SG_GRANULE_BYTES;
}

static void sg_small_give(struct sg_heap *heap, size_t offset, size_t bytes)
{
        struct sg_chunk **link = &heap->chunks;
        while ((*link)->block != offset / SG_BLOCK_BYTES)
                link = &(*link)->next;
        struct sg_chunk *chunk = *link;
        sg_granules_mark(chunk, offset % SG_BLOCK_BYTES / SG_GRANULE_BYTES,
                         (bytes + SG_GRANULE_BYTES - 1) / SG_GRANULE_BYTES, false);
        if (chunk->free != SG_BLOCK_GRANULES)
                return;
        *link = chunk->next;
        sg_pages_release(heap->base + chunk->block * SG_BLOCK_BYTES, SG_BLOCK_BYTES);
        sg_blocks_give(heap, chunk->block, 1);
        free(chunk);
}

void *sg_heap_take(struct sg_heap *heap, size_t bytes)
{
        if (bytes <= SG_SMALL_BYTES_MAX)
                return sg_small_take(heap, bytes);
        const size_t count = (bytes + SG_BLOCK_BYTES - 1) / SG_BLOCK_BYTES;
        size_t first;
        if (!sg_blocks_take(heap, count, &first))
                return NULL;
        char *address = heap->base + first * SG_BLOCK_BYTES;
        if (sg_pages_commit(address, bytes))
                return address;
        sg_blocks_give(heap, first, count);
        return NULL;
}

void sg_heap_give(struct sg_heap *heap, void *address, size_t bytes)
{
        const size_t offset = (size_t)((char *)address - heap->base);
        if (bytes <= SG_SMALL_BYTES_MAX) {
                sg_small_give(heap, offset, bytes);
                return;
        }
        sg_pages_release(address, bytes);
        sg_blocks_give(heap, offset / SG_BLOCK_BYTES, (bytes + SG_BLOCK_BYTES - 1) / SG_BLOCK_BYTES);
}
