/* The producer's hot path, in the order of a record's life: reserve, write, commit, poll the answer.
 *
 * Inline because a launch should cost the guest tens of nanoseconds and the lengths are constants at most call sites.
 * Include ivgpu/ring.h, where the functions are described, not this.
 *
 * Who excludes whom:
 *                     producer (other)        consumer              recover (other owner dead)
 *   reserve     P2 orders: one wins a slot    P1/C3: reuse only     P0 tells it whose the claim is
 *                                             after the copy
 *   commit      disjoint slots                P4/C1: whole or not   only claims of the dead are completed
 *                                             at all
 * Linearisation points: a claim at P2, a record's publication at P4, an answer's at C6. */
#ifndef IVGPU_RING_PRODUCER_H
#define IVGPU_RING_PRODUCER_H

#ifndef IVGPU_RING_H
#error "include ivgpu/ring.h"
#endif

#include <assert.h>
#include <errno.h>
#include <string.h>

/* For every case but an open ring: out of line, the reserve path tests one word only. */
int ivg_ring_status_errno(uint64_t status, uint32_t generation);
/* The pieces of a write that crosses a slot's end, or more than one. */
void ivg_record_write_pieces(const struct ivg_producer *producer, const struct ivg_record *record, uint32_t offset,
                             const void *source, uint32_t bytes);

/* Where a producer may die. A test gets to know of each when IVG_POINT_HOOK is defined, and lets it happen. */
enum ivg_producer_point {
        IVG_POINT_POSITION_NOTED, /* in the middle of P0 */
        IVG_POINT_NOTED,          /* after P0 */
        IVG_POINT_CLAIMED,        /* after P2 */
        IVG_POINT_WRITTEN,        /* after a piece of P3 */
        IVG_POINT_CONTINUED,      /* before P4 */
        IVG_POINT_COMMITTED,      /* after P4, the doorbell not rung */
        IVG_POINT_LOOKED,         /* after P5, the doorbell not rung, the note still there */
        IVG_POINT_COUNT
};
#ifdef IVG_POINT_HOOK
void ivg_point_hook(enum ivg_producer_point point);
#else
#define ivg_point_hook(point) ((void)0)
#endif

static inline struct ivg_ring_producer *ivg_producer_line(const struct ivg_producer *producer)
{
        return producer->line;
}

static inline struct ivg_ring_waiter *ivg_producer_waiter(const struct ivg_producer *producer)
{
        return &producer->ring->guest->waiters[producer->index];
}

static inline struct ivg_ring_slot *ivg_ring_slot_at(const struct ivg_ring *ring, uint64_t position)
{
        return &ring->guest->slots[position & IVG_RING_SLOT_MASK];
}

static inline int ivg_ring_state_errno(const struct ivg_ring *ring)
{
        /* S2, pairs with S1 (ring_attach.c): who reads FAULT may read its reason, who reads OPEN sees formatted
         * mailboxes. */
        const uint64_t status = ivg_load_acquire_u64(&ring->host->status);

        if (status == ((uint64_t)ring->generation << 32 | IVG_RING_OPEN))
                return 0;
        return ivg_ring_status_errno(status, ring->generation);
}

/* What orders two producers' writes to a slot, lap after lap, is the consumer between them (C3, P1): often in another
 * process, where ThreadSanitizer does not see it. It is told here: who claims a slot comes after who committed it. */
static inline void ivg_slots_tsan_take(struct ivg_ring *ring, uint64_t position, uint32_t slots)
{
        for (uint32_t i = 0; i < slots; i++)
                ivg_tsan_acquire(ivg_ring_slot_at(ring, position + i));
}
static inline void ivg_slots_tsan_give(struct ivg_ring *ring, uint64_t position, uint32_t slots)
{
        for (uint32_t i = 0; i < slots; i++)
                ivg_tsan_release(ivg_ring_slot_at(ring, position + i));
}

#define IVG_LOOKS_PER_MAILBOX 8u /* each look there costs the next answer a line transfer, hidden behind it */
#define IVG_PREFETCH_SLOTS 8u    /* 2 halve what a posted record costs across core complexes, 8 take two thirds off */

/* Room for `slots` from `tail` on? Signed: a tail read before others moved it may lie behind head; P2 then refuses it.
 */
static inline bool ivg_producer_has_room(struct ivg_producer *producer, uint64_t tail, uint32_t slots)
{
        if ((int64_t)(tail + slots - producer->head_seen) <= (int64_t)IVG_RING_SLOTS)
                return true;
        /* P1, pairs with C3 (ring_consumer.c): the consumer's reads of the slots behind head are over, they may be
         * overwritten. Only when the private copy says full: head's line then moves once per many records. */
        producer->head_seen = ivg_load_acquire_u64(&producer->ring->host->head);
        return (int64_t)(tail + slots - producer->head_seen) <= (int64_t)IVG_RING_SLOTS;
}

__attribute__((always_inline)) static inline int ivg_producer_reserve(struct ivg_producer *producer,
                                                                      uint32_t payload_bytes, struct ivg_record *record)
{
        struct ivg_ring *ring = producer->ring;
        struct ivg_ring_producer *line = ivg_producer_line(producer);
        const uint32_t slots =
                payload_bytes == 0 ? 1 : (payload_bytes + IVG_SLOT_PAYLOAD_BYTES - 1) / IVG_SLOT_PAYLOAD_BYTES;
        uint64_t tail;
        int rc;

        if (payload_bytes > IVG_RECORD_PAYLOAD_BYTES_MAX)
                return -EMSGSIZE;
        rc = ivg_ring_state_errno(ring);
        if (rc != 0)
                return rc;

        /* Relaxed: a guess, which P2 verifies. */
        tail = ivg_load_relaxed_u64(&ring->guest->tail);
        /* No bound but the others' progress: a failed P2 means that another producer claimed, and after at most
         * IVG_RING_SLOTS of them without a consumer the ring is full. */
        do {
                if (!ivg_producer_has_room(producer, tail, slots)) {
                        ivg_store_release_u32(&line->slots, 0); /* P0 of a failed turn must not look like a claim */
                        return -EAGAIN;
                }
                /* P0, pairs with R1 (ring_recover.c): the note is there before the claim can succeed, for P2 releases
                 * it. Position first: until slots follows (0 between records) a note says "no claim". Release, so that
                 * who reads a new note knows the previous record committed. The line is private: no transfer. */
                ivg_store_release_u64(&line->position, tail);
                ivg_point_hook(IVG_POINT_POSITION_NOTED);
                ivg_store_release_u32(&line->slots, slots);
                ivg_point_hook(IVG_POINT_NOTED);
                /* P2, the claim; pairs with itself and R1. Failure leaves no trace but the note. */
        } while (!ivg_compare_exchange_acq_rel_u64(&ring->guest->tail, &tail, tail + slots));
        ivg_point_hook(IVG_POINT_CLAIMED);
        ivg_fence_release(); /* P2 before P3, for P10 */

        /* Who posts one record after another gets the lines of those to come while it writes this one: it would wait a
         * line transfer for each otherwise, at the barrier behind P4. Not before a synchronous request: the line would
         * be taken from a consumer that polls it. A hint, without a word read or written. */
        if (producer->sequence == producer->sequence_reserved)
                for (uint32_t i = 0; i < slots && i < IVG_PREFETCH_SLOTS; i++)
                        ivg_cpu_prefetch_for_write(ivg_ring_slot_at(ring, tail + IVG_PREFETCH_SLOTS + i));
        else {
                producer->sequence_reserved = producer->sequence;
                producer->awaited = tail;
        }
        ivg_slots_tsan_take(ring, tail, slots);
        record->position = tail;
        record->slots = slots;
        record->payload_bytes = payload_bytes;
        return 0;
}

static inline void ivg_record_fill(const struct ivg_producer *producer, const struct ivg_record *record,
                                   const void *source)
{
        struct ivg_ring_slot *const ring_slots = producer->ring->guest->slots;
        const uint8_t *from = (const uint8_t *)source;
        uint64_t position = record->position;
        uint32_t left = record->payload_bytes;

        /* P3: plain, ordered by P4. Of a whole slot the length is known: a few wide moves. */
        for (; left >= IVG_SLOT_PAYLOAD_BYTES; left -= IVG_SLOT_PAYLOAD_BYTES, from += IVG_SLOT_PAYLOAD_BYTES) {
                memcpy(ring_slots[position++ & IVG_RING_SLOT_MASK].payload, from, IVG_SLOT_PAYLOAD_BYTES);
                ivg_point_hook(IVG_POINT_WRITTEN);
        }
        if (left == 0)
                return;
        uint8_t *to = (uint8_t *)ring_slots[position & IVG_RING_SLOT_MASK].payload;
        for (; left >= sizeof(uint64_t); left -= (uint32_t)sizeof(uint64_t)) {
                memcpy(to, from, sizeof(uint64_t));
                to += sizeof(uint64_t);
                from += sizeof(uint64_t);
        }
        if (__builtin_expect(left != 0, 0))
                memcpy(to, from, left);
        ivg_point_hook(IVG_POINT_WRITTEN);
}

static inline void ivg_record_write(const struct ivg_producer *producer, const struct ivg_record *record,
                                    uint32_t offset, const void *source, uint32_t bytes)
{
        const uint32_t within = offset % IVG_SLOT_PAYLOAD_BYTES;

        assert(offset <= record->payload_bytes && bytes <= record->payload_bytes - offset);
        if (within + bytes <= IVG_SLOT_PAYLOAD_BYTES) {
                struct ivg_ring_slot *slot =
                        ivg_ring_slot_at(producer->ring, record->position + offset / IVG_SLOT_PAYLOAD_BYTES);

                /* P3: plain, ordered by P4. */
                if (bytes != 0)
                        memcpy((uint8_t *)slot->payload + within, source, bytes);
                ivg_point_hook(IVG_POINT_WRITTEN);
                return;
        }
        ivg_record_write_pieces(producer, record, offset, source, bytes);
}

/* Commit with any kind; recovery writes SKIP by the same steps. */
static inline bool ivg_ring_publish_record(struct ivg_ring *ring, uint64_t position, uint32_t slots,
                                           enum ivg_slot_kind kind, uint16_t opcode)
{
        struct ivg_ring_slot *const ring_slots = ring->guest->slots;

        /* P3: continuation words, relaxed, ordered by P4. Each slot has its own tag, so that no payload of an earlier
         * lap can ever be read as a commit word. */
        for (uint32_t i = 1; i < slots; i++)
                ivg_store_relaxed_u64(&ring_slots[(position + i) & IVG_RING_SLOT_MASK].commit,
                                      ivg_commit_word(position + i, 0, IVG_SLOT_CONT, 0));

        ivg_point_hook(IVG_POINT_CONTINUED);
        ivg_slots_tsan_give(ring, position, slots);
        /* P4, pairs with C1 (ring_consumer.h): the record is complete. Then the full barrier of the sleep handshake:
         * without it P5 may be served while P4 still waits in the store buffer, the consumer (C4, C5) misses the
         * record, this side misses the sleeper, and nobody rings. Not an exchange: that takes the line once more when a
         * polling consumer has taken it between payload and commit. */
        ivg_store_release_u64(&ring_slots[position & IVG_RING_SLOT_MASK].commit,
                              ivg_commit_word(position, slots, kind, opcode));
        ivg_fence_seq_cst();
        ivg_point_hook(IVG_POINT_COMMITTED);
        /* P5, pairs with C4: must not pass P4. The word names the awaited record, so that exactly one commit rings. */
        return ivg_load_seq_cst_u64(&ring->host->sleep_at) == position + 1;
}

static inline bool ivg_producer_commit(struct ivg_producer *producer, const struct ivg_record *record, uint16_t opcode)
{
        struct ivg_ring_producer *line = ivg_producer_line(producer);
        const bool asleep =
                ivg_ring_publish_record(producer->ring, record->position, record->slots, IVG_SLOT_DATA, opcode);

        ivg_point_hook(IVG_POINT_LOOKED);
        /* P0, the note's end: after P4 (release), pairs with R2 (ring_recover.c): who sees it gone sees the commit. */
        ivg_store_release_u32(&line->slots, 0);
        return asleep;
}

/* The next request may follow an answer at once, and the consumer polls the slot for it: its line is fetched while the
 * answer is used, in place of at the first store. Where the thread does something else first, the consumer takes the
 * line back and nothing is lost. */
static inline void ivg_producer_expect_request(const struct ivg_producer *producer, uint64_t tail)
{
        ivg_cpu_prefetch_for_write(ivg_ring_slot_at(producer->ring, tail));
}

static inline bool ivg_producer_poll_answer(const struct ivg_producer *producer, uint64_t sequence,
                                            struct ivg_answer_header *header,
                                            uint8_t payload[IVG_MAILBOX_PAYLOAD_BYTES])
{
        const struct ivg_ring_mailbox *mailbox = producer->mailbox;

        /* P6, pairs with C6 (ring_consumer.h): result, payload and answer area are complete. */
        if (ivg_load_acquire_u64(&mailbox->sequence) != sequence)
                return false;
        ivg_producer_expect_request(producer, ivg_load_relaxed_u64(&producer->ring->guest->tail)); /* a guess */
        header->result = mailbox->result;
        header->answer_bytes = mailbox->answer_bytes;
        /* The whole field, a constant length: two or three wide moves instead of a call. */
        if (payload && header->answer_bytes != 0 && header->answer_bytes <= IVG_MAILBOX_PAYLOAD_BYTES)
                memcpy(payload, mailbox->payload, IVG_MAILBOX_PAYLOAD_BYTES);
        return true;
}

static inline void ivg_producer_rest(struct ivg_producer *producer)
{
        ivg_rest_pass(&producer->rest);
}

/* What the slot holds behind its commit word. Another thread may write it meanwhile, which P10 finds out;
 * ThreadSanitizer need not say so. */
#ifdef IVG_TSAN
__attribute__((no_sanitize("thread"), noinline, unused)) static
#else
static inline
#endif
        uint64_t
        ivg_slot_copy_answer(const struct ivg_ring_slot *slot, uint8_t payload[IVG_MAILBOX_PAYLOAD_BYTES])
{
        const volatile uint64_t *const words = slot->payload;

        for (uint32_t i = 0; payload && i < IVG_MAILBOX_PAYLOAD_BYTES / 8; i++) {
                const uint64_t word = words[1 + i];

                memcpy(payload + (size_t)i * 8, &word, sizeof(word));
        }
        return words[0];
}

static inline bool ivg_producer_look_for_answer(const struct ivg_producer *producer, uint64_t sequence, uint32_t look,
                                                struct ivg_answer_header *header,
                                                uint8_t payload[IVG_MAILBOX_PAYLOAD_BYTES])
{
        const uint64_t position = producer->awaited;
        const struct ivg_ring_slot *slot = ivg_ring_slot_at(producer->ring, position);
        uint64_t word, tail;

        if (__builtin_expect(look % IVG_LOOKS_PER_MAILBOX == IVG_LOOKS_PER_MAILBOX - 1, 0) ||
            __builtin_expect(sequence != producer->sequence_reserved, 0))
                return ivg_producer_poll_answer(producer, sequence, header, payload);
        if (look == 0)
                ivg_cpu_finish_first();
        /* P9, pairs with C8 (ring_consumer.h): the answer is complete, and the answer area with it. */
        word = ivg_load_acquire_u64(&slot->commit);
        if (!ivg_commit_matches(word, position) || ivg_commit_kind(word) != IVG_SLOT_ANSWERED)
                return false;
        word = ivg_slot_copy_answer(slot, payload);
        ivg_fence_acquire();
        /* P10, pairs with P2: nobody had claimed the slot's next lap, or what was copied may be a record's bytes, and a
         * tag of 32 bits another lap's. The answer is in the mailbox then. */
        tail = ivg_load_relaxed_u64(&producer->ring->guest->tail);
        if (__builtin_expect(tail - position > IVG_RING_SLOTS, 0))
                return false;
        ivg_producer_expect_request(producer, tail);
        /* Relaxed: own line, whose next owner is ordered by close and open. */
        if (__builtin_expect(ivg_load_relaxed_u32(&producer->line->sequence_high) != (uint32_t)(sequence >> 32), 0))
                ivg_store_relaxed_u32(&producer->line->sequence_high, (uint32_t)(sequence >> 32));
        header->result = (uint32_t)word;
        header->answer_bytes = (uint32_t)(word >> 32);
        return true;
}

#endif
