/* What the guest driver does when a producer's process is gone: complete what it had claimed and not committed.
 *
 * A claim is noted in the producer's line before it is made (P0 before P2) and until it is committed. So for each dead
 * line that notes a claim of n slots at t, exactly one of these holds:
 *
 *   tail <= t                       P2 did not happen: nothing to do
 *   slot t carries tag t + 1        committed, by the dead one or by the producer that won t
 *   head > t                        committed, and consumed since
 *   else another live line says t   that producer may have won t: it commits or moves on in a few instructions
 *   else another dead line says t   with the same n either may have won, SKIP serves for both; with another n the ring
 *                                   cannot be continued
 *   else                            the dead one won t: SKIP of n slots
 *
 * No step guesses how slow a live producer may be, and no live claim is ever touched. The dead process wrote the lines:
 * nonsense in them is refused, never followed. */
#include "ivgpu/ring.h"

struct dead_claim {
        uint32_t index; /* of its line */
        uint32_t slots;
        uint64_t position;
};

static bool claim_is_open(const struct ivg_ring *ring, uint64_t position)
{
        /* R1, pairs with P2: past `position`, every note (P0) of whoever could have claimed it is visible. */
        const uint64_t tail = ivg_load_acquire_u64(&ring->guest->tail);

        if ((int64_t)(tail - position) <= 0)
                return false;
        /* R3, pairs with P4. Before head: a word of a later lap was written by one who had seen head pass `position`,
         * so the load of head below sees it too. */
        if (ivg_commit_matches(ivg_load_acquire_u64(&ivg_ring_slot_at(ring, position)->commit), position))
                return false;
        return (int64_t)(ivg_load_acquire_u64(&ring->host->head) - position) <= 0; /* pairs with C3 */
}

/* 0: no other line says the same; -EAGAIN: a live one does; -ENOTRECOVERABLE: only dead ones do, with another length.
 */
static int look_for_rivals(const struct ivg_ring *ring, const struct dead_claim *claim)
{
        int rc = 0;

        for (uint32_t i = 0; i < IVG_RING_PRODUCERS; i++) {
                const struct ivg_ring_producer *line = &ring->guest->producers[i];
                /* R2, pairs with P0 and with the end of a note in commit: a note that is gone, or new, tells that what
                 * was noted before is committed and that the second look at the slot will see it. */
                const uint32_t slots = ivg_load_acquire_u32(&line->slots);
                const uint64_t position = ivg_load_acquire_u64(&line->position);
                const uint32_t owner = ivg_load_acquire_u32(&line->owner);

                if (i == claim->index || owner == 0 || slots == 0 || position != claim->position)
                        continue;
                if ((owner & IVG_OWNER_DEAD) == 0)
                        return -EAGAIN;
                if (slots != claim->slots)
                        rc = -ENOTRECOVERABLE;
        }
        return rc;
}

static int settle_claim(struct ivg_ring *ring, const struct dead_claim *claim)
{
        int rc;

        if (!claim_is_open(ring, claim->position))
                return 0;
        if (claim->slots > IVG_RECORD_SLOTS_MAX)
                return -ENOTRECOVERABLE;
        rc = look_for_rivals(ring, claim);
        if (rc == -EAGAIN)
                return rc;
        /* A rival may have committed between the two looks; it then had won, whatever the lengths. */
        if (!claim_is_open(ring, claim->position))
                return 0;
        if (rc != 0)
                return rc;
        (void)ivg_ring_publish_record(ring, claim->position, claim->slots, IVG_SLOT_SKIP, 0);
        return 0;
}

/* The dead may have committed (P4) without ringing. */
bool ivg_ring_consumer_missed_a_record(const struct ivg_ring *ring)
{
        /* R4, pairs with C4; behind our own P4 and its barrier, as P5 is. */
        const uint64_t sleep_at = ivg_load_seq_cst_u64(&ring->host->sleep_at);

        return sleep_at != 0 &&
               ivg_commit_matches(ivg_load_seq_cst_u64(&ivg_ring_slot_at(ring, sleep_at - 1)->commit), sleep_at - 1);
}

static void mark_dead(struct ivg_ring *ring, uint32_t owner)
{
        for (uint32_t i = 0; i < IVG_RING_PRODUCERS; i++) {
                uint32_t expected = owner;

                /* R5, pairs with R2: all lines first, for two dead producers that note the same position must know each
                 * other as dead. */
                (void)ivg_compare_exchange_acq_rel_u32(&ring->guest->producers[i].owner, &expected,
                                                       owner | IVG_OWNER_DEAD);
        }
}

int ivg_ring_recover(struct ivg_ring *ring, uint32_t owner, bool *doorbell)
{
        int worst = 0;

        *doorbell = false;
        if (owner == 0 || owner >= IVG_OWNER_DEAD)
                return -EINVAL;
        mark_dead(ring, owner);
        for (uint32_t i = 0; i < IVG_RING_PRODUCERS; i++) {
                struct ivg_ring_producer *line = &ring->guest->producers[i];
                struct dead_claim claim = {.index = i};
                int rc = 0;

                if (ivg_load_acquire_u32(&line->owner) != (owner | IVG_OWNER_DEAD))
                        continue;
                /* Relaxed: its writer is dead for certain, which whoever found that out has ordered. */
                claim.slots = ivg_load_relaxed_u32(&line->slots);
                claim.position = ivg_load_relaxed_u64(&line->position);
                if (claim.slots != 0)
                        rc = settle_claim(ring, &claim);
                if (rc == -ENOTRECOVERABLE || (rc != 0 && worst == 0))
                        worst = rc;
                if (rc != 0)
                        continue;                       /* the line stays dead and noted, for the next call */
                ivg_store_relaxed_u32(&line->slots, 0); /* ordered by the last */
                ivg_store_relaxed_u32(&ring->guest->waiters[i].waiting, 0);
                ivg_store_release_u32(&line->owner, 0); /* O1, pairs with O2 in ivg_producer_open */
        }
        *doorbell = ivg_ring_consumer_missed_a_record(ring);
        return worst;
}
