/* What stands in a ring: records that were taken and are still there, records that wait, and what is not a record.
 * Works on a private copy of the guest's part (region_image.h), of which nothing is believed. */
#ifndef IVG_RING_WALK_H
#define IVG_RING_WALK_H

#include "ivgpu/ring_layout.h"

enum ivg_ring_entry_kind {
        IVG_ENTRY_RECORD,
        IVG_ENTRY_SKIP,         /* a claim that was given up, or recovered */
        IVG_ENTRY_HALF_WRITTEN, /* claimed and not committed */
        IVG_ENTRY_BROKEN        /* the consumer would close the channel, or (taken already) has */
};

struct ivg_ring_entry {
        enum ivg_ring_entry_kind kind;
        uint64_t position;
        uint32_t slots;
        uint16_t call;
        bool taken;       /* before the head that the host shows, or before or at an answered one */
        bool answered;    /* in its slot: of `payload`, an answer has taken the place of the first bytes */
        bool owner_known; /* of a half-written one: `line` notes this claim */
        uint32_t line;    /* index of a producer line */
        const char *what; /* BROKEN: which rule */
        uint32_t bytes;   /* of a record's payload below */
        _Alignas(16) uint8_t payload[IVG_RECORD_PAYLOAD_BYTES_MAX];
};

struct ivg_ring_walk { /* begins as {.guest = ..., .head = ...}, then ivg_ring_walk_begin */
        const struct ivg_ring_guest_part *guest;
        uint64_t head, tail, next;
        bool impossible; /* the tail is before the head, or more than a ring behind it */
};
void ivg_ring_walk_begin(struct ivg_ring_walk *walk);
/* The next entry, oldest first; false: there is none. Ends after IVG_RING_SLOTS entries whatever the words are. */
bool ivg_ring_walk_next(struct ivg_ring_walk *walk, struct ivg_ring_entry *entry);

#endif
