/* The producer's side outside the hot path (that is ivgpu/ring_producer.h): lines, long writes, sleeping for an answer.
 */
#include "ivgpu/ring.h"

int ivg_ring_status_errno(uint64_t status, uint32_t generation)
{
        if ((uint32_t)(status >> 32) != generation)
                return -ESTALE;
        switch ((uint32_t)status) {
        case IVG_RING_OPEN:
                return 0;
        case IVG_RING_CLOSED:
                return -ESHUTDOWN;
        case IVG_RING_PEER_GONE:
                return -EOWNERDEAD;
        case IVG_RING_FAULT:
                return -EPROTO;
        default: /* UNUSED, or a state of a later layout: not a ring of ours */
                return -ESTALE;
        }
}

/* The upper half counts the line's owners that had an answer, so that none to an earlier one can match. The mailbox
 * knows it, but for an owner that saw its only answer in the slot and left before it was in the mailbox: the line does.
 */
static uint64_t first_sequence(const struct ivg_producer *producer)
{
        /* P6, pairs with C6: of the line's last owner that had an answer. */
        const uint32_t shown = (uint32_t)(ivg_load_acquire_u64(&producer->mailbox->sequence) >> 32);
        const uint32_t noted = ivg_load_relaxed_u32(&producer->line->sequence_high); /* ordered by the exchange */

        return ((uint64_t)(shown > noted ? shown : noted) + 1) << 32;
}

int ivg_producer_open(struct ivg_ring *ring, uint32_t owner, struct ivg_producer *producer)
{
        if (owner == 0 || owner >= IVG_OWNER_DEAD)
                return -EINVAL;
        for (uint32_t i = 0; i < IVG_RING_PRODUCERS; i++) {
                struct ivg_ring_producer *line = &ring->guest->producers[i];
                uint32_t free_owner = 0;

                /* O2, acquire in the exchange, pairs with O1: the previous owner's last stores to the line are over.
                 * Relaxed look first: a failed exchange would take the line away from its owner's core. */
                if (ivg_load_relaxed_u32(&line->owner) != 0 ||
                    !ivg_compare_exchange_acq_rel_u32(&line->owner, &free_owner, owner))
                        continue;
                producer->ring = ring;
                producer->line = line;
                producer->mailbox = &ring->host->mailboxes[i];
                producer->index = i;
                producer->head_seen = ivg_load_acquire_u64(&ring->host->head); /* P1 */
                producer->sequence = first_sequence(producer);
                producer->sequence_reserved = producer->sequence;
                producer->awaited = 0; /* of no sequence in use yet */
                producer->rest =
                        (struct ivg_rest){.length = IVG_REST_PRODUCER_LENGTH, .rounds_left = IVG_REST_PRODUCER_BEGINS};
                return 0;
        }
        return -EBUSY;
}

void ivg_producer_close(struct ivg_producer *producer)
{
        struct ivg_ring_producer *line = ivg_producer_line(producer);

        assert(ivg_load_relaxed_u32(&line->slots) == 0); /* own line; a claim would be lost for ever */
        ivg_store_relaxed_u32(&ivg_producer_waiter(producer)->waiting, 0); /* ordered by the next store */
        ivg_store_release_u32(&line->owner, 0);                            /* O1, pairs with O2 in open */
        producer->ring = NULL;
}

void ivg_record_write_pieces(const struct ivg_producer *producer, const struct ivg_record *record, uint32_t offset,
                             const void *source, uint32_t bytes)
{
        uint64_t position = record->position + offset / IVG_SLOT_PAYLOAD_BYTES;
        uint32_t within = offset % IVG_SLOT_PAYLOAD_BYTES;
        const uint8_t *from = source;

        while (bytes != 0) { /* at most IVG_RECORD_SLOTS_MAX turns: the caller checked the length */
                const uint32_t room = IVG_SLOT_PAYLOAD_BYTES - within;
                const uint32_t piece = bytes < room ? bytes : room;

                memcpy((uint8_t *)ivg_ring_slot_at(producer->ring, position)->payload + within, from, piece); /* P3 */
                ivg_point_hook(IVG_POINT_WRITTEN);
                from += piece;
                bytes -= piece;
                position++;
                within = 0;
        }
}

bool ivg_producer_abandon(struct ivg_producer *producer, const struct ivg_record *record)
{
        const bool asleep = ivg_ring_publish_record(producer->ring, record->position, record->slots, IVG_SLOT_SKIP, 0);

        ivg_store_release_u32(&ivg_producer_line(producer)->slots, 0); /* P0, the note's end, as in commit */
        return asleep;
}

bool ivg_producer_wait_begin(struct ivg_producer *producer, uint64_t sequence)
{
        /* P7, pairs with C7 (ring_consumer.h): announce, full barrier, ... */
        (void)ivg_exchange_seq_cst_u32(&ivg_producer_waiter(producer)->waiting, 1);
        /* P8, pairs with C6: ... look again. Either this sees the answer or the consumer sees `waiting`. */
        return ivg_load_seq_cst_u64(&producer->mailbox->sequence) == sequence;
}

void ivg_producer_wait_end(struct ivg_producer *producer)
{
        /* Relaxed: seen late, it costs one interrupt too many, which is harmless. */
        ivg_store_relaxed_u32(&ivg_producer_waiter(producer)->waiting, 0);
}
