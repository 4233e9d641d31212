/* Calls with their times, from an executor to whoever watches: a part of the executor's board (board.h).
 *
 * Several threads of the executor write, any number of others read, nobody waits. Who writes never looks at readers:
 * the ring holds the latest IVG_TRACE_EVENTS, a reader that is slower loses what it missed, and knows how much.
 *
 *   executor                                                    reader
 *   `state` = writing, then T1 words (release each)      ->     T4 words (acquire each), then `state` again
 *   T1, then T2 `state` = done (release)                 ->     T3 `state` (acquire), then words
 * So an event that is overwritten while it is copied is noticed (a sequence lock for each event). */
#ifndef IVG_TRACE_RING_H
#define IVG_TRACE_RING_H

#include "ivgpu/atomics.h"
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#define IVG_TRACE_EVENTS (1u << 15) /* a power of two; 10 MiB, there only while something was traced */
/* What the printer reads of a request: the fixed part of the longest. */
#define IVG_TRACE_REQUEST_BYTES 264u
#define IVG_TRACE_NO_RESULT UINT32_MAX /* the call has no answer */

enum ivg_trace_place { IVG_TRACE_CONSUMER, IVG_TRACE_LANE, IVG_TRACE_REAPER, IVG_TRACE_PLACES };

struct ivg_trace_event {
        uint64_t position; /* of the record: the order in the ring */
        /* ivg_clock_ns: when the consumer took its batch, when it began to run, when that was over. */
        uint64_t taken_ns, begin_ns, end_ns;
        uint32_t thread; /* as the guest numbers it */
        uint32_t result; /* CUresult; IVG_TRACE_NO_RESULT */
        uint16_t call;   /* enum ivg_call_number */
        uint8_t place;   /* enum ivg_trace_place */
        uint8_t line;    /* of the thread */
        uint16_t request_bytes;
        uint16_t reserved;
        uint8_t request[IVG_TRACE_REQUEST_BYTES]; /* its beginning */
};
#define IVG_TRACE_EVENT_WORDS (sizeof(struct ivg_trace_event) / 8)
_Static_assert(sizeof(struct ivg_trace_event) == 312, "with its state five lines");

struct ivg_trace_slot {
        _Atomic(uint64_t) state; /* 2n + 1 while the n-th event is written, then 2n + 2 */
        _Atomic(uint64_t) words[IVG_TRACE_EVENT_WORDS];
};
_Static_assert(sizeof(struct ivg_trace_slot) == 320, "five lines");

struct ivg_trace_ring {
        _Alignas(64) _Atomic(uint64_t) next; /* events begun so far */
        _Alignas(64) struct ivg_trace_slot slots[IVG_TRACE_EVENTS];
};

/* Any thread of the executor; wait-free. Bytes behind request_bytes stay what an earlier event left. */
static inline void ivg_trace_write(struct ivg_trace_ring *ring, const struct ivg_trace_event *event)
{
        const uint64_t n = atomic_fetch_add_explicit(&ring->next, 1, memory_order_relaxed);
        struct ivg_trace_slot *slot = &ring->slots[n & (IVG_TRACE_EVENTS - 1)];
        const size_t used = (offsetof(struct ivg_trace_event, request) + event->request_bytes + 7) / 8;
        uint64_t words[IVG_TRACE_EVENT_WORDS];

        memcpy(words, event, sizeof(words));
        ivg_store_relaxed_u64(&slot->state, 2 * n + 1);
        for (size_t i = 0; i < used && i < IVG_TRACE_EVENT_WORDS; i++)
                /* T1, pairs with T4: who sees a word of this event sees "writing", or later. */
                ivg_store_release_u64(&slot->words[i], words[i]);
        /* T2, pairs with T3: who sees "done" sees all words. */
        ivg_store_release_u64(&slot->state, 2 * n + 2);
}

struct ivg_trace_reader {
        const struct ivg_trace_ring *ring;
        uint64_t next; /* event to read */
        uint64_t lost; /* overwritten before they were read */
};

/* The next event; false: none is there (yet). One that its writer never finished is passed over only when `finish`,
 * which is for when no writer is left. Ends, whatever the ring's words are: each call moves on or returns false. */
static inline bool ivg_trace_read(struct ivg_trace_reader *reader, struct ivg_trace_event *event, bool finish)
{
        /* Relaxed: an event's own state says whether it is there. */
        const uint64_t begun = ivg_load_relaxed_u64(&reader->ring->next);

        if (begun < reader->next)
                return false; /* nonsense of a broken executor */
        if (begun - reader->next > IVG_TRACE_EVENTS) {
                reader->lost += begun - reader->next - IVG_TRACE_EVENTS;
                reader->next = begun - IVG_TRACE_EVENTS;
        }
        while (reader->next != begun) {
                const struct ivg_trace_slot *slot = &reader->ring->slots[reader->next & (IVG_TRACE_EVENTS - 1)];
                const uint64_t done = 2 * reader->next + 2;
                uint64_t words[IVG_TRACE_EVENT_WORDS];
                uint64_t state = ivg_load_acquire_u64(&slot->state); /* T3, pairs with T2 */

                if (state < done && !finish)
                        return false;
                for (size_t i = 0; i < IVG_TRACE_EVENT_WORDS; i++)
                        words[i] = ivg_load_acquire_u64(&slot->words[i]); /* T4, pairs with T1 */
                if (state == done)
                        state = ivg_load_relaxed_u64(&slot->state); /* after the words, by T4 */
                reader->next++;
                if (state == done) {
                        memcpy(event, words, sizeof(words));
                        return true;
                }
                reader->lost++;
        }
        return false;
}

#endif
