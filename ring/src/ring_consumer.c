/* The consumer: takes records out, sleeps, answers. Everything it reads from the guest part is hostile.
 *
 * The position is private; of the guest part it reads commit words and payload of the slots from there on, each word
 * once, and the waiter's line of a thread that it answers. Tail and producer lines are never used. */
#include "ivgpu/ring.h"

static const struct ivg_ring_slot *slot_at(const struct ivg_ring_guest_part *guest, uint64_t position)
{
        return &guest->slots[position & IVG_RING_SLOT_MASK];
}

/* As a loop it is three times the instructions, between a record's arrival and its answer. */
#ifdef __clang__ /* does it unasked */
#define UNROLLED
#else
#define UNROLLED _Pragma("GCC unroll 8")
#endif

static inline void copy_payload(uint8_t *to, const struct ivg_ring_slot *slot)
{
        /* C2: relaxed, ordered by C1; one fetch of each word. */
        UNROLLED
        for (uint32_t i = 0; i < IVG_SLOT_PAYLOAD_BYTES / 8; i++) {
                const uint64_t word = ivg_fetch_u64(&slot->payload[i]);

                memcpy(to + (size_t)i * 8, &word, sizeof(word));
        }
}

/* A broken rule of the first commit word, or NONE. Order: a continuation word at a record's place is a wrong kind. */
static enum ivg_ring_fault check_first_word(uint64_t word)
{
        const uint32_t kind = ivg_commit_kind(word);
        const uint32_t slots = ivg_commit_slots(word);

        if (kind != IVG_SLOT_DATA && kind != IVG_SLOT_SKIP)
                return IVG_FAULT_RECORD_KIND;
        if (slots < 1 || slots > IVG_RECORD_SLOTS_MAX)
                return IVG_FAULT_RECORD_SLOTS;
        return IVG_FAULT_NONE;
}

/* Copies the record's slots to `to`. Returns the position of the first bad continuation word, or UINT64_MAX. */
static uint64_t copy_record(const struct ivg_ring_guest_part *guest, uint64_t position, uint32_t slots, uint8_t *to)
{
        copy_payload(to, slot_at(guest, position));
        for (uint32_t i = 1; i < slots; i++) {
                const struct ivg_ring_slot *slot = slot_at(guest, position + i);

                /* C2: an honest producer wrote it before P4. */
                if (ivg_load_relaxed_u64(&slot->commit) != ivg_commit_word(position + i, 0, IVG_SLOT_CONT, 0))
                        return position + i;
                copy_payload(to + (size_t)i * IVG_SLOT_PAYLOAD_BYTES, slot);
        }
        return UINT64_MAX;
}

static int refuse(struct ivg_consumer *consumer, enum ivg_ring_fault fault, uint32_t value, uint64_t position)
{
        ivg_consumer_fault(consumer, fault, value, position);
        return -EPROTO;
}

static inline void describe_record(struct ivg_taken_record *record, uint64_t position, uint64_t word, uint32_t slots,
                                   const uint8_t *payload)
{
        record->position = position;
        record->opcode = ivg_commit_opcode(word);
        record->slots = (uint16_t)slots;
        record->payload_bytes = slots * IVG_SLOT_PAYLOAD_BYTES;
        record->payload = payload;
}

static inline void advance(struct ivg_consumer *consumer, uint64_t position)
{
        ivg_store_relaxed_u64(&consumer->head, position); /* private; shared memory learns of it by C3 */
        if (position - consumer->head_published >= IVG_HEAD_PUBLISH_SLOTS)
                ivg_consumer_publish(consumer);
}

/* The records from `position` on, whose commit word was `word`. Out of line, so that nothing of it is done for a look
 * that finds nothing, or one record. */
static __attribute__((noinline)) int take_records(struct ivg_consumer *consumer, struct ivg_batch *batch,
                                                  uint64_t position, uint64_t word)
{
        const struct ivg_ring_guest_part *guest = consumer->guest;
        const uint32_t records_max = consumer->found_nothing ? 1 : IVG_BATCH_SLOTS_MAX;
        uint32_t slots_taken = 0, records_count = 0;
        uint8_t *to = batch->bytes;
        int rc = 0;

        do {
                const uint32_t slots = ivg_commit_slots(word);
                const enum ivg_ring_fault fault = check_first_word(word);

                if (fault != IVG_FAULT_NONE) {
                        rc = refuse(consumer, fault, (uint32_t)(word >> 32), position);
                        break;
                }
                if (slots > IVG_BATCH_SLOTS_MAX - slots_taken)
                        break;
                if (ivg_commit_kind(word) == IVG_SLOT_DATA) {
                        const uint64_t bad = copy_record(guest, position, slots, to);

                        if (bad != UINT64_MAX) {
                                rc = refuse(consumer, IVG_FAULT_CONT_TAG, (uint32_t)(bad - position), bad);
                                break;
                        }
                        describe_record(&batch->records[records_count++], position, word, slots, to);
                        to += slots * IVG_SLOT_PAYLOAD_BYTES;
                }
                position += slots;
                slots_taken += slots;
                if (slots_taken == IVG_BATCH_SLOTS_MAX || records_count == records_max)
                        break;
                word = ivg_load_acquire_u64(&slot_at(guest, position)->commit); /* C1, of the next record */
        } while (ivg_commit_matches(word, position));

        batch->records_count = records_count;
        consumer->found_nothing = slots_taken == 0;
        advance(consumer, position);
        return rc != 0 ? rc : (int)records_count;
}

int ivg_consumer_take(struct ivg_consumer *consumer, struct ivg_batch *batch)
{
        const uint64_t position = ivg_load_relaxed_u64(&consumer->head); /* own word */
        const struct ivg_ring_slot *slot = slot_at(consumer->guest, position);
        uint64_t word;

        batch->records_count = 0;
        /* Relaxed: one's own fault is seen in program order, another thread's end soon enough. */
        if (__builtin_expect(ivg_load_relaxed_u32(&consumer->state) == IVG_RING_FAULT, 0))
                return -EPROTO;
        /* C1, pairs with P4 (ring_producer.h): the payload behind a matching word is complete. */
        word = ivg_load_acquire_u64(&slot->commit);
        if (!ivg_commit_matches(word, position)) {
                consumer->found_nothing = true;
                return 0;
        }
        /* Somebody waits for what comes alone: one slot of DATA, as nearly all are, takes the shortest way. */
        if (!consumer->found_nothing || ivg_commit_slots(word) != 1 || ivg_commit_kind(word) != IVG_SLOT_DATA)
                return take_records(consumer, batch, position, word);
        copy_payload(batch->bytes, slot);
        describe_record(&batch->records[0], position, word, 1, batch->bytes);
        batch->records_count = 1;
        consumer->found_nothing = false;
        advance(consumer, position + 1);
        return 1;
}

void ivg_consumer_publish(struct ivg_consumer *consumer)
{
        const uint64_t head = ivg_load_relaxed_u64(&consumer->head); /* own word */

        /* C3, pairs with P1 (ring_producer.h): the producers' licence to overwrite; release, so that every read of C1
         * and C2 before it is over. Rarely, because each store takes the line from all producers. */
        ivg_store_release_u64(&consumer->host->head, head);
        consumer->head_published = head;
}

bool ivg_consumer_sleep_begin(struct ivg_consumer *consumer)
{
        const uint64_t head = ivg_load_relaxed_u64(&consumer->head); /* own word */

        /* Before the sleep: a producer that waits for room has no doorbell in the other direction. */
        ivg_consumer_publish(consumer);
        /* The one position whose word would read "nobody sleeps": look again instead. */
        if (head == UINT64_MAX)
                return false;
        /* C4, pairs with P5: announce, full barrier, ... */
        (void)ivg_exchange_seq_cst_u64(&consumer->host->sleep_at, head + 1);
        /* C5, pairs with P4: ... look again. Must not pass C4, or both sides miss each other. A wake-up between here
         * and the block is latched by the doorbell's eventfd. */
        return !ivg_commit_matches(ivg_load_seq_cst_u64(&slot_at(consumer->guest, head)->commit), head);
}

void ivg_consumer_sleep_end(struct ivg_consumer *consumer)
{
        /* Relaxed: seen late, it costs a producer one doorbell too many, which is harmless. */
        ivg_store_relaxed_u64(&consumer->host->sleep_at, 0);
}

int ivg_consumer_answer(struct ivg_consumer *consumer, uint32_t index, uint64_t sequence, uint32_t result,
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
