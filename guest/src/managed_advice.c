/* What the program has said about its managed memory: advice and prefetches, piece by piece.
 *
 * A sorted array of pieces covers all managed memory without overlaps; a change splits pieces at its ends. Nothing here
 * is hot: programs advise once per buffer. */
#include "memory.h"
#include <stdlib.h>
#include <string.h>

#define PIECES_MAX (1u << 20) /* far above any program's advice; 48 bytes each */

struct piece {
        uint64_t start, end;
        struct ivg_advice advice;
};

static struct {
        pthread_mutex_t lock;
        struct piece *pieces;
        uint32_t count, capacity;
} table = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* The first piece that ends behind `address`. */
static uint32_t piece_at(uint64_t address)
{
        uint32_t low = 0, high = table.count;

        while (low < high) {
                const uint32_t middle = low + (high - low) / 2;

                if (table.pieces[middle].end <= address)
                        low = middle + 1;
                else
                        high = middle;
        }
        return low;
}

/* Room for two more: what one change may need. */
static bool make_room(void)
{
        const uint32_t capacity = table.capacity ? table.capacity * 2 : 64;
        struct piece *pieces;

        if (table.count + 2 <= table.capacity)
                return true;
        if (capacity > PIECES_MAX)
                return false;
        pieces = realloc(table.pieces, capacity * sizeof(*pieces));
        if (pieces == NULL)
                return false;
        table.pieces = pieces;
        table.capacity = capacity;
        return true;
}

static void insert(uint32_t at, const struct piece *piece)
{
        memmove(&table.pieces[at + 1], &table.pieces[at], (table.count - at) * sizeof(*piece));
        table.pieces[at] = *piece;
        table.count++;
}

/* Makes a piece begin at `address`, which lies in one or at its start or end. */
static void split(uint64_t address)
{
        const uint32_t at = piece_at(address);
        struct piece rest;

        if (at == table.count || table.pieces[at].start >= address)
                return;
        rest = table.pieces[at];
        rest.start = address;
        table.pieces[at].end = address;
        insert(at + 1, &rest);
}

CUresult ivg_advice_begin(uint64_t start, uint64_t end)
{
        const struct piece piece = {.start = start, .end = end}; /* locations of type INVALID, which is 0 */
        bool room;

        pthread_mutex_lock(&table.lock);
        room = make_room();
        if (room)
                insert(piece_at(start), &piece);
        pthread_mutex_unlock(&table.lock);
        return room ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

void ivg_advice_end(uint64_t start, uint64_t end)
{
        uint32_t first, last;

        pthread_mutex_lock(&table.lock);
        first = last = piece_at(start);
        while (last < table.count && table.pieces[last].start < end)
                last++;
        if (last > first)
                memmove(&table.pieces[first], &table.pieces[last], (table.count - last) * sizeof(*table.pieces));
        table.count -= last - first;
        pthread_mutex_unlock(&table.lock);
}

/* Whole pages around the range, and whether all of them are managed. Under the lock. */
static bool range_covered(uint64_t address, uint64_t bytes, uint64_t *start, uint64_t *end)
{
        uint64_t at;

        if (bytes == 0 || address + bytes < address || address + bytes > UINT64_MAX - IVG_PAGE_BYTES)
                return false;
        *start = address & ~(uint64_t)(IVG_PAGE_BYTES - 1);
        *end = (address + bytes + IVG_PAGE_BYTES - 1) & ~(uint64_t)(IVG_PAGE_BYTES - 1);
        at = *start;
        for (uint32_t i = piece_at(at); at < *end; i++) {
                if (i == table.count || table.pieces[i].start > at)
                        return false;
                at = table.pieces[i].end;
        }
        return true;
}

CUresult ivg_advice_change(uint64_t address, uint64_t bytes, void (*change)(struct ivg_advice *advice, const void *arg),
                           const void *arg)
{
        CUresult result = CUDA_ERROR_INVALID_VALUE;
        uint64_t start, end;

        pthread_mutex_lock(&table.lock);
        if (range_covered(address, bytes, &start, &end))
                result = make_room() ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
        if (result == CUDA_SUCCESS) {
                split(start);
                split(end);
                for (uint32_t i = piece_at(start); i < table.count && table.pieces[i].start < end; i++)
                        change(&table.pieces[i].advice, arg);
        }
        pthread_mutex_unlock(&table.lock);
        return result;
}

CUresult ivg_advice_read(uint64_t address, uint64_t bytes, void (*read)(const struct ivg_advice *advice, void *arg),
                         void *arg)
{
        CUresult result = CUDA_ERROR_INVALID_VALUE;
        uint64_t start, end;

        pthread_mutex_lock(&table.lock);
        if (range_covered(address, bytes, &start, &end)) {
                for (uint32_t i = piece_at(start); i < table.count && table.pieces[i].start < end; i++)
                        read(&table.pieces[i].advice, arg);
                result = CUDA_SUCCESS;
        }
        pthread_mutex_unlock(&table.lock);
        return result;
}
