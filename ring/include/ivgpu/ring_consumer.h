/* The consumer's hot path: taking a record that comes alone, and its answer. Everything it reads from the guest part is
 * hostile: of it, it reads commit words and payload of the slots from the private head on, each word once, and the
 * waiter's line of a thread that it answers. Tail and producer lines are never used.
 *
 * Inline because between a record's arrival and its answer each nanosecond is waited for. Include ivgpu/ring.h, where
 * the functions are described, not this. */
#ifndef IVGPU_RING_CONSUMER_H
#define IVGPU_RING_CONSUMER_H

#ifndef IVGPU_RING_H
#error "include ivgpu/ring.h"
#endif

#include <errno.h>
#include <string.h>

/* All that is not one record of one slot that comes alone; `word` is the commit word at `position`. Out of line, so
 * that nothing of it is done for a look that finds nothing, or one record. */
int ivg_consumer_take_records(struct ivg_consumer *consumer, struct ivg_batch *batch, uint64_t position, uint64_t word);
/* Gives back the slots before `position`. */
void ivg_consumer_publish_until(struct ivg_consumer *consumer, uint64_t position);

static inline struct ivg_ring_slot *ivg_consumer_slot_at(const struct ivg_consumer *consumer, uint64_t position)
{
        return &consumer->guest->slots[position & IVG_RING_SLOT_MASK];
}

/* As a loop it is three times the instructions, between a record's arrival and its answer. */
#ifdef __clang__ /* does it unasked */
#define IVG_UNROLLED
#else
#define IVG_UNROLLED _Pragma("GCC unroll 8")
#endif

static inline void ivg_slot_copy_payload(uint8_t *to, const struct ivg_ring_slot *slot)
{
        /* C2: relaxed, ordered by C1; one fetch of each word. */
        IVG_UNROLLED
        for (uint32_t i = 0; i < IVG_SLOT_PAYLOAD_BYTES / 8; i++) {
                const uint64_t word = ivg_fetch_u64(&slot->payload[i]);

                memcpy(to + (size_t)i * 8, &word, sizeof(word));
        }
}

static inline void ivg_taken_describe(struct ivg_taken_record *record, uint64_t position, uint64_t word, uint32_t slots,
                                      const uint8_t *payload)
{
        record->position = position;
        record->opcode = ivg_commit_opcode(word);
        record->slots = (uint16_t)slots;
        record->payload_bytes = slots * IVG_SLOT_PAYLOAD_BYTES;
        record->payload = payload;
}

/* Past the slots from `begin` to `end`. They stay the consumer's until the next take, so that it may answer in them. */
static inline void ivg_consumer_advance(struct ivg_consumer *consumer, uint64_t begin, uint64_t end)
{
        ivg_store_relaxed_u64(&consumer->head, end); /* private; shared memory learns of it by C3 */
        if (__builtin_expect(begin - consumer->head_published >= IVG_HEAD_PUBLISH_SLOTS, 0))
                ivg_consumer_publish_until(consumer, begin);
}

static inline int ivg_consumer_take(struct ivg_consumer *consumer, struct ivg_batch *batch)
{
        const uint64_t position = ivg_load_relaxed_u64(&consumer->head); /* own word */
        const struct ivg_ring_slot *slot = ivg_consumer_slot_at(consumer, position);
        uint64_t word;

        batch->records_count = 0;
        /* Relaxed: one's own fault is seen in program order, another thread's end soon enough. */
        if (__builtin_expect(ivg_load_relaxed_u32(&consumer->state) == IVG_RING_FAULT, 0))
                return -EPROTO;
        /* C1, pairs with P4 (ring_producer.h): the payload behind a matching word is complete. */
        word = ivg_load_acquire_u64(&slot->commit);
        if (!ivg_commit_matches(word, position)) {
                consumer->next_alone = true;
                return 0;
        }
        /* Somebody waits for what comes alone: one slot of DATA, as nearly all are, takes the shortest way. */
        if (!consumer->next_alone || ivg_commit_slots(word) != 1 || ivg_commit_kind(word) != IVG_SLOT_DATA)
                return ivg_consumer_take_records(consumer, batch, position, word);
        ivg_slot_copy_payload(batch->bytes, slot);
        ivg_taken_describe(&batch->records[0], position, word, 1, batch->bytes);
        batch->records_count = 1;
        consumer->next_alone = false;
        ivg_consumer_advance(consumer, position, position + 1);
        return 1;
}

static inline int ivg_consumer_answer(struct ivg_consumer *consumer, uint32_t index, uint64_t sequence, uint32_t result,
                                      const void *payload, uint32_t answer_bytes)
{
        struct ivg_ring_mailbox *mailbox;

        if (index >= IVG_RING_PRODUCERS)
                return -EINVAL;
        mailbox = &consumer->host->mailboxes[index];
        mailbox->result = result;
        mailbox->answer_bytes = answer_bytes;
        if (answer_bytes != 0 && answer_bytes <= IVG_MAILBOX_PAYLOAD_BYTES)
                memcpy(mailbox->payload, payload, answer_bytes);
        /* C6, pairs with P6 and P8 (ring_producer.h, .c): the answer is complete; then a full barrier, for C7 must not
         * pass it. As P4: no exchange. */
        ivg_store_release_u64(&mailbox->sequence, sequence);
        ivg_fence_seq_cst();
        /* C7, pairs with P7: the guest's word decides about its own interrupt and about nothing else. */
        return ivg_load_seq_cst_u32(&consumer->guest->waiters[index].waiting) != 0;
}

static inline int ivg_consumer_answer_record(struct ivg_consumer *consumer, const struct ivg_taken_record *record,
                                             uint32_t index, uint64_t sequence, uint32_t result, const void *payload,
                                             uint32_t answer_bytes)
{
        struct ivg_ring_slot *slot = ivg_consumer_slot_at(consumer, record->position);

        if (index >= IVG_RING_PRODUCERS)
                return -EINVAL;
        /* Not if the slot was given back (C3): a producer may have it by now. */
        if (__builtin_expect((int64_t)(record->position - consumer->head_published) >= 0, 1)) {
                slot->payload[0] = (uint64_t)answer_bytes << 32 | result;
                if (answer_bytes != 0 && answer_bytes <= IVG_MAILBOX_PAYLOAD_BYTES)
                        memcpy(&slot->payload[1], payload, answer_bytes);
                /* C8, pairs with P9 (ring_producer.h): the answer is complete, and the answer area with it. */
                ivg_store_release_u64(&slot->commit, ivg_commit_word(record->position, record->slots, IVG_SLOT_ANSWERED,
                                                                     record->opcode));
                /* Whoever was answered comes again alone, if at once. */
                consumer->next_alone = true;
        }
        return ivg_consumer_answer(consumer, index, sequence, result, payload, answer_bytes);
}

static inline void ivg_consumer_rest(struct ivg_consumer *consumer, const struct ivg_batch *batch)
{
        if (batch->records_count == 1 && consumer->next_alone)
                ivg_rest_pass(&consumer->rest);
}

#endif
