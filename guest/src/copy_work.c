/* One copy's pieces: see copy_work.h. */
#include "copy_work.h"
#include <string.h>

static uint64_t pieces_per_chunk(const struct ivg_copy_work *work)
{
        return work->chunk_bytes / work->piece_bytes;
}

static uint64_t smaller(uint64_t a, uint64_t b)
{
        return a < b ? a : b;
}

uint64_t ivg_copy_work_chunk_bytes(const struct ivg_copy_work *work, uint64_t chunk)
{
        return smaller(work->chunk_bytes, work->bytes - chunk * work->chunk_bytes);
}

void ivg_copy_work_open(struct ivg_copy_work *work, uint64_t chunk)
{
        const uint64_t pieces = (ivg_copy_work_chunk_bytes(work, chunk) + work->piece_bytes - 1) / work->piece_bytes;

        /* Relaxed: W1 carries it. */
        ivg_store_relaxed_u32(&work->left[chunk % work->depth], (uint32_t)pieces);
        (void)ivg_exchange_seq_cst_u64(&work->opened, chunk * pieces_per_chunk(work) + pieces); /* W1 */
        if (work->helpers > 0)
                ivg_copy_helpers_call(work->helpers);
}

bool ivg_copy_work_is_there(const struct ivg_copy_work *work)
{
        /* Sequentially consistent: pairs with W1 for a helper that is about to sleep (copy_helpers.c, H4). */
        return ivg_load_relaxed_u64(&work->next) < ivg_load_seq_cst_u64(&work->opened);
}

static bool take_piece(struct ivg_copy_work *work, uint64_t *piece)
{
        const uint64_t opened = ivg_load_acquire_u64(&work->opened); /* W2 */

        *piece = ivg_load_relaxed_u64(&work->next); /* relaxed: a ticket, it orders nothing */
        while (*piece < opened)
                if (ivg_compare_exchange_acq_rel_u64(&work->next, piece, *piece + 1))
                        return true;
        return false;
}

static void move_piece(const struct ivg_copy_work *work, uint64_t piece)
{
        const uint64_t offset = piece * work->piece_bytes, chunk = piece / pieces_per_chunk(work);
        uint8_t *program = work->program + offset;
        uint8_t *buffer = work->buffers[chunk % work->depth]->memory + (offset - chunk * work->chunk_bytes);
        const uint64_t bytes = smaller(work->piece_bytes, work->bytes - offset);
        uint8_t *to = work->to_device ? buffer : program, *from = work->to_device ? program : buffer;

        if (work->past_caches)
                ivg_copy_bytes_past_caches(to, from, bytes);
        else
                memcpy(to, from, bytes);
}

bool ivg_copy_work_one(struct ivg_copy_work *work)
{
        uint64_t piece;

        if (!take_piece(work, &piece))
                return false;
        move_piece(work, piece);
        atomic_fetch_sub_explicit(&work->left[piece / pieces_per_chunk(work) % work->depth], 1,
                                  memory_order_release); /* W3 */
        return true;
}
