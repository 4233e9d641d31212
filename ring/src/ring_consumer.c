/* The consumer's side outside the hot path (that is ivgpu/ring_consumer.h): records that come in numbers or with
 * several slots, giving slots back, sleeping. */
#include "ivgpu/ring.h"

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
        ivg_slot_copy_payload(to, &guest->slots[position & IVG_RING_SLOT_MASK]);
        for (uint32_t i = 1; i < slots; i++) {
                const struct ivg_ring_slot *slot = &guest->slots[(position + i) & IVG_RING_SLOT_MASK];

                /* C2: an honest producer wrote it before P4. */
                if (ivg_load_relaxed_u64(&slot->commit) != ivg_commit_word(position + i, 0, IVG_SLOT_CONT, 0))
                        return position + i;
                ivg_slot_copy_payload(to + (size_t)i * IVG_SLOT_PAYLOAD_BYTES, slot);
        }
        return UINT64_MAX;
}

static int refuse(struct ivg_consumer *consumer, enum ivg_ring_fault fault, uint32_t value, uint64_t position)
{
        ivg_consumer_fault(consumer, fault, value, position);
        return -EPROTO;
}

int ivg_consumer_take_records(struct ivg_consumer *consumer, struct ivg_batch *batch, uint64_t position, uint64_t word)
{
        const uint32_t records_max = consumer->next_alone ? 1 : IVG_BATCH_SLOTS_MAX;
        const uint64_t begin = position;
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
                        const uint64_t bad = copy_record(consumer->guest, position, slots, to);

                        if (bad != UINT64_MAX) {
                                rc = refuse(consumer, IVG_FAULT_CONT_TAG, (uint32_t)(bad - position), bad);
                                break;
                        }
                        ivg_taken_describe(&batch->records[records_count++], position, word, slots, to);
                        to += slots * IVG_SLOT_PAYLOAD_BYTES;
                }
                position += slots;
                slots_taken += slots;
                if (slots_taken == IVG_BATCH_SLOTS_MAX || records_count == records_max)
                        break;
                word = ivg_load_acquire_u64(&ivg_consumer_slot_at(consumer, position)->commit); /* C1, of the next */
        } while (ivg_commit_matches(word, position));

        batch->records_count = records_count;
        consumer->next_alone = slots_taken == 0;
        ivg_consumer_advance(consumer, begin, position);
        return rc != 0 ? rc : (int)records_count;
}

void ivg_consumer_publish_until(struct ivg_consumer *consumer, uint64_t position)
{
        /* C3, pairs with P1 (ring_producer.h): the producers' licence to overwrite; release, so that every read of C1
         * and C2 before it is over, and every answer in those slots given. Rarely, because each store takes the line
         * from all producers. */
        ivg_store_release_u64(&consumer->host->head, position);
        consumer->head_published = position;
}

void ivg_consumer_publish(struct ivg_consumer *consumer)
{
        ivg_consumer_publish_until(consumer, ivg_load_relaxed_u64(&consumer->head)); /* own word */
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
        return !ivg_commit_matches(ivg_load_seq_cst_u64(&ivg_consumer_slot_at(consumer, head)->commit), head);
}

void ivg_consumer_sleep_end(struct ivg_consumer *consumer)
{
        /* Relaxed: seen late, it costs a producer one doorbell too many, which is harmless. */
        ivg_store_relaxed_u64(&consumer->host->sleep_at, 0);
}
