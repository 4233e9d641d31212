/* A ring's beginning and end: formatting by each side, binding, closing, and the names of faults. */
#include "ivgpu/ring.h"

static uint64_t status_word(uint32_t generation, enum ivg_ring_state state)
{
        return (uint64_t)generation << 32 | (uint64_t)state;
}

void ivg_ring_format(struct ivg_ring_guest_part *guest, uint64_t start)
{
        /* Relaxed throughout: nobody else uses the part until the caller announces it, with release. */
        ivg_store_relaxed_u64(&guest->tail, start);
        for (uint32_t i = 0; i < IVG_RING_PRODUCERS; i++) {
                struct ivg_ring_producer *line = &guest->producers[i];

                ivg_store_relaxed_u64(&line->position, 0);
                ivg_store_relaxed_u32(&line->slots, 0);
                ivg_store_relaxed_u32(&line->owner, 0);
                ivg_store_relaxed_u32(&line->sequence_high, 0);
                ivg_store_relaxed_u32(&guest->waiters[i].waiting, 0);
                ivg_store_relaxed_u32(&line->calls_local_low, 0);
                ivg_store_relaxed_u64(&line->calls, 0);
                ivg_store_relaxed_u64(&line->doorbells, 0);
                ivg_store_relaxed_u64(&line->arena_bytes_to_host, 0);
                ivg_store_relaxed_u64(&line->arena_bytes_from_host, 0);
                ivg_store_relaxed_u64(&line->calls_sync, 0);
        }
        for (uint64_t position = start; position != start + IVG_RING_SLOTS; position++) {
                struct ivg_ring_slot *slot = &guest->slots[position & IVG_RING_SLOT_MASK];

                /* The tag of the lap before: zero would match where the low half of position + 1 is zero. */
                ivg_store_relaxed_u64(&slot->commit, start == 0 ? 0 : (uint32_t)(position + 1 - IVG_RING_SLOTS));
                memset(slot->payload, 0, sizeof(slot->payload));
        }
}

int ivg_ring_init(struct ivg_ring *ring, struct ivg_ring_guest_part *guest, const struct ivg_ring_host_part *host,
                  uint32_t generation)
{
        ring->guest = guest;
        ring->host = host;
        ring->generation = generation;
        return ivg_ring_state_errno(ring) == 0 ? 0 : -ESTALE;
}

int ivg_consumer_open(struct ivg_consumer *consumer, struct ivg_ring_guest_part *guest, struct ivg_ring_host_part *host,
                      uint32_t generation, uint64_t start)
{
        /* The guest's word, used only to notice a missing format; afterwards tail is never looked at. */
        if (ivg_load_acquire_u64(&guest->tail) != start)
                return -ESTALE;

        consumer->guest = guest;
        consumer->host = host;
        consumer->head_published = start;
        consumer->generation = generation;
        consumer->next_alone = false;
        consumer->rest = (struct ivg_rest){.length = IVG_REST_CONSUMER_LENGTH};
        ivg_store_relaxed_u64(&consumer->head, start); /* private until the caller hands the consumer on */
        ivg_store_relaxed_u32(&consumer->state, IVG_RING_OPEN);

        /* An earlier generation's process must not see half of this: UNUSED first, OPEN last. */
        (void)ivg_exchange_seq_cst_u64(&host->status, status_word(generation, IVG_RING_UNUSED));
        ivg_store_relaxed_u64(&host->head, start);
        ivg_store_relaxed_u64(&host->sleep_at, 0);
        ivg_store_relaxed_u64(&host->fault, 0);
        ivg_store_relaxed_u64(&host->fault_position, 0);
        for (uint32_t i = 0; i < IVG_RING_PRODUCERS; i++) {
                struct ivg_ring_mailbox *mailbox = &host->mailboxes[i];

                /* Also the payload: an earlier process's answers are none of the next one's business. */
                ivg_store_relaxed_u64(&mailbox->sequence, 0);
                mailbox->result = 0;
                mailbox->answer_bytes = 0;
                memset(mailbox->payload, 0, sizeof(mailbox->payload));
        }
        /* S1, pairs with S2 (ring_producer.h): who sees OPEN sees head and mailboxes in their first state. */
        ivg_store_release_u64(&host->status, status_word(generation, IVG_RING_OPEN));
        return 0;
}

static void end(struct ivg_consumer *consumer, enum ivg_ring_state state, enum ivg_ring_fault fault, uint32_t value,
                uint64_t position)
{
        uint32_t expected = IVG_RING_OPEN;

        /* S3, pairs with itself: the first end wins. The private word decides, for the guest might be able to write the
         * shared one. */
        if (!ivg_compare_exchange_acq_rel_u32(&consumer->state, &expected, state))
                return;
        if (state == IVG_RING_FAULT) {
                ivg_store_relaxed_u64(&consumer->host->fault, (uint64_t)value << 32 | (uint64_t)fault);
                ivg_store_relaxed_u64(&consumer->host->fault_position, position);
        }
        /* S1, pairs with S2 (ring_producer.h): the reason is there before the state. */
        ivg_store_release_u64(&consumer->host->status, status_word(consumer->generation, state));
}

void ivg_consumer_close(struct ivg_consumer *consumer, enum ivg_ring_state state, enum ivg_ring_fault fault,
                        uint32_t value)
{
        assert(state == IVG_RING_CLOSED || state == IVG_RING_PEER_GONE || state == IVG_RING_FAULT);
        /* Relaxed: a position to show, from any thread. */
        end(consumer, state, fault, value, ivg_load_relaxed_u64(&consumer->head));
}

void ivg_consumer_fault(struct ivg_consumer *consumer, enum ivg_ring_fault fault, uint32_t value, uint64_t position)
{
        end(consumer, IVG_RING_FAULT, fault, value, position);
}

void ivg_ring_mark_peer_gone(struct ivg_ring_host_part *host, uint32_t generation)
{
        uint64_t expected = status_word(generation, IVG_RING_OPEN);

        /* S1, pairs with S2 (ring_producer.h). An exchange: what the executor said before it died stays. */
        (void)ivg_compare_exchange_acq_rel_u64(&host->status, &expected, status_word(generation, IVG_RING_PEER_GONE));
}

const char *ivg_ring_fault_name(enum ivg_ring_fault fault)
{
        switch (fault) {
        case IVG_FAULT_NONE:
                return "none";
        case IVG_FAULT_RECORD_SLOTS:
                return "record slots";
        case IVG_FAULT_RECORD_KIND:
                return "record kind";
        case IVG_FAULT_CONT_TAG:
                return "continuation tag";
        case IVG_FAULT_RECORD_HEADER:
                return "record header";
        case IVG_FAULT_OPCODE:
                return "opcode";
        case IVG_FAULT_ARGUMENTS:
                return "arguments";
        case IVG_FAULT_HANDLE:
                return "handle";
        case IVG_FAULT_ARENA:
                return "arena reference";
        }
        return "unknown fault";
}
