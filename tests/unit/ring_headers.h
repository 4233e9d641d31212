/* Facts about the layout, computed by each language for itself. */
#ifndef RING_HEADERS_H
#define RING_HEADERS_H

#include "ivgpu/ring.h"

#define RING_LAYOUT_FACTS                                                                                        \
        sizeof(struct ivg_ring_guest_part), sizeof(struct ivg_ring_host_part), sizeof(struct ivg_ring_producer), \
                offsetof(struct ivg_ring_guest_part, waiters), offsetof(struct ivg_ring_producer, calls),        \
                offsetof(struct ivg_ring_guest_part, producers), offsetof(struct ivg_ring_guest_part, slots),    \
                offsetof(struct ivg_ring_host_part, status), offsetof(struct ivg_ring_host_part, fault),         \
                offsetof(struct ivg_ring_host_part, mailboxes), offsetof(struct ivg_ring_mailbox, payload),      \
                sizeof(struct ivg_consumer), sizeof(struct ivg_producer), sizeof(struct ivg_batch),              \
                ivg_commit_word(5, 2, IVG_SLOT_DATA, 77)
#define RING_LAYOUT_FACTS_COUNT 15

#ifdef __cplusplus
extern "C"
#endif
        void
        ring_layout_facts_cxx(uint64_t facts[RING_LAYOUT_FACTS_COUNT]);

#endif
