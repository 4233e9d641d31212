/* Device malloc: one arena per module, first fit, neighbours joined when freed. A launch's threads share it, so a lock
 * guards it; CUDA's own is no faster in spirit. Headers are kept outside the arena: kernels can overwrite what is in
 * it. */
#include <errno.h>
#include <stdlib.h>

#include "ptx_program.h"

#define HEAP_ALIGNMENT 16u

struct heap_piece {
        struct heap_piece *previous, *next; /* by address */
        uint64_t start, bytes;
        bool used;
};

struct ptx_heap {
        pthread_mutex_t lock;
        void *memory;
        struct heap_piece *pieces;
};

struct ptx_heap *ptx_heap_create(struct ptx_module *module)
{
        struct ptx_heap *heap = calloc(1, sizeof(*heap));
        struct heap_piece *all = calloc(1, sizeof(*all));

        if (heap && all)
                heap->memory = module->allocator.allocate(module->allocator.user, PTX_HEAP_BYTES, 256);
        if (!heap || !all || !heap->memory) {
                free(heap);
                free(all);
                return NULL;
        }
        all->start = (uint64_t)(uintptr_t)heap->memory;
        all->bytes = PTX_HEAP_BYTES;
        heap->pieces = all;
        pthread_mutex_init(&heap->lock, NULL);
        return heap;
}

void ptx_heap_destroy(struct ptx_module *module, struct ptx_heap *heap)
{
        while (heap->pieces) {
                struct heap_piece *next = heap->pieces->next;

                free(heap->pieces);
                heap->pieces = next;
        }
        module->allocator.release(module->allocator.user, heap->memory);
        pthread_mutex_destroy(&heap->lock);
        free(heap);
}

static uint64_t take_from(struct heap_piece *piece, uint64_t bytes)
{
        struct heap_piece *rest;

        if (piece->bytes > bytes) {
                rest = calloc(1, sizeof(*rest));
                if (!rest)
                        return 0;
                *rest = (struct heap_piece){.previous = piece,
                                            .next = piece->next,
                                            .start = piece->start + bytes,
                                            .bytes = piece->bytes - bytes};
                if (rest->next)
                        rest->next->previous = rest;
                piece->next = rest;
                piece->bytes = bytes;
        }
        piece->used = true;
        return piece->start;
}

uint64_t ptx_heap_take(struct ptx_heap *heap, uint64_t bytes)
{
        uint64_t address = 0;

        if (bytes > PTX_HEAP_BYTES)
                return 0;
        bytes = bytes ? (bytes + HEAP_ALIGNMENT - 1) & ~(uint64_t)(HEAP_ALIGNMENT - 1) : HEAP_ALIGNMENT;
        pthread_mutex_lock(&heap->lock);
        for (struct heap_piece *piece = heap->pieces; piece && !address; piece = piece->next)
                if (!piece->used && piece->bytes >= bytes)
                        address = take_from(piece, bytes);
        pthread_mutex_unlock(&heap->lock);
        return address;
}

/* Joins `piece` with the free one behind it. */
static void join_next(struct heap_piece *piece)
{
        struct heap_piece *next = piece->next;

        if (!next || next->used || piece->used)
                return;
        piece->bytes += next->bytes;
        piece->next = next->next;
        if (piece->next)
                piece->next->previous = piece;
        free(next);
}

int ptx_heap_give(struct ptx_heap *heap, uint64_t address)
{
        struct heap_piece *piece;

        pthread_mutex_lock(&heap->lock);
        for (piece = heap->pieces; piece; piece = piece->next)
                if (piece->used && piece->start == address)
                        break;
        if (piece) {
                piece->used = false;
                join_next(piece);
                if (piece->previous)
                        join_next(piece->previous);
        }
        pthread_mutex_unlock(&heap->lock);
        return piece ? 0 : -EINVAL;
}
