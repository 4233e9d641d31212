/* The processor's part of a staged copy, shared out among threads.
 *
 * A copy is a row of chunks, each of which goes through one copy buffer, and a chunk is a row of pieces. The copying
 * thread opens chunks in order, as their buffers become free (to the device) or full (from it); any thread takes open
 * pieces and moves them; when a chunk's last piece is moved, the copying thread goes on with its buffer. Only that
 * thread sends records, waits for the device, and knows of errors: helpers move bytes and nothing else.
 *
 *   W1 `opened`, store seq_cst, after the buffer is ready      W2 `opened`, load acquire, before its bytes are touched
 *   W3 `left`, decrement (release), after the bytes            W4 `left`, load acquire, before the buffer goes on
 *
 * Helpers' life and sleep: copy_helpers.c. */
#ifndef IVG_GUEST_COPY_WORK_H
#define IVG_GUEST_COPY_WORK_H

#include "memory.h"
#pragma GCC visibility push(hidden)

struct ivg_copy_work {
        /* Fixed while anybody works on it. */
        uint8_t *program; /* the program's memory: source or target */
        uint64_t bytes;
        uint64_t chunk_bytes, piece_bytes; /* the latter divides the former */
        uint32_t depth;                    /* chunk n goes through buffer n % depth */
        bool to_device;
        bool past_caches;
        uint32_t helpers; /* that may be woken for it; 0: it is not shared */
        struct ivg_copy_buffer *buffers[IVG_COPY_DEPTH_MAX];
        /* Moving. */
        _Alignas(64) _Atomic(uint64_t) next;                     /* piece that nobody has taken */
        _Alignas(64) _Atomic(uint64_t) opened;                   /* pieces below may be taken */
        _Alignas(64) _Atomic(uint32_t) left[IVG_COPY_DEPTH_MAX]; /* pieces of the chunk in that buffer */
};

/* ---- any thread that works on it ---- */

bool ivg_copy_work_is_there(const struct ivg_copy_work *work);
/* Takes a piece and moves it; false: none is open. */
bool ivg_copy_work_one(struct ivg_copy_work *work);

/* ---- the copying thread ---- */

static inline uint64_t ivg_copy_work_chunks(const struct ivg_copy_work *work)
{
        return (work->bytes + work->chunk_bytes - 1) / work->chunk_bytes;
}
uint64_t ivg_copy_work_chunk_bytes(const struct ivg_copy_work *work, uint64_t chunk); /* the last one may be shorter */
/* Opens the next chunk, `chunk`; wakes helpers that sleep. */
void ivg_copy_work_open(struct ivg_copy_work *work, uint64_t chunk);
/* Whether the chunk in this buffer, the last that was opened for it, is moved. */
static inline bool ivg_copy_work_moved(const struct ivg_copy_work *work, uint64_t chunk)
{
        return ivg_load_acquire_u32(&work->left[chunk % work->depth]) == 0; /* W4 */
}

/* ---- helpers (copy_helpers.c) ---- */

/* How many threads one copy has at most, the copying one counted: 1 means no helpers. Read once. */
uint32_t ivg_copy_threads(void);
/* The work that helpers look at, with nothing open; NULL: another thread's copy has it, or there are no helpers. */
struct ivg_copy_work *ivg_copy_helpers_take(void);
/* Something was opened: wakes up to `threads` of those that sleep. */
void ivg_copy_helpers_call(uint32_t threads);
/* Returns when no helper touches the work any more, whatever was still open. */
void ivg_copy_helpers_give(void);

#pragma GCC visibility pop
#endif
