/* What both machines must agree on about one ring: the layout of its two parts and of one record.
 *
 * A ring has a guest-written part and a host-written part, on different pages, so that each side maps the other's part
 * read-only. Every 64-byte line has one writing side, but for the slots: the host may answer in the slot of the
 * request, because a line that both write goes there and back with two transfers where two lines take up to four.
 * Positions count slots since the channel opened; they are 64 bits wide and never wrap in practice (10^9 slots a
 * second: 584 years). */
#ifndef IVGPU_RING_LAYOUT_H
#define IVGPU_RING_LAYOUT_H

#include "ivgpu/atomics.h"
#include <stdbool.h>
#include <stddef.h>

#define IVG_CACHELINE_BYTES 64u
#define IVG_PAGE_BYTES 4096u

#define IVG_RING_SLOTS 4096u /* a power of two; 256 KiB stays in L2 or L3 on both sides */
#define IVG_RING_SLOT_MASK (IVG_RING_SLOTS - 1u)
#define IVG_RING_PRODUCERS 128u /* guest threads with a line of their own */
#define IVG_SLOT_BYTES 64u
#define IVG_SLOT_PAYLOAD_BYTES 56u
#define IVG_RECORD_SLOTS_MAX 64u
#define IVG_RECORD_PAYLOAD_BYTES_MAX (IVG_RECORD_SLOTS_MAX * IVG_SLOT_PAYLOAD_BYTES) /* 3584 */
#define IVG_MAILBOX_PAYLOAD_BYTES 48u /* of an answer, in the mailbox or in a slot */

/* One line: a tagged commit word, then payload.
 * Commit word: bits 0-31 low half of (position + 1), the lap tag: a stale or zero slot never matches;
 * 32-39 slots in this record, 1..64 (0 in CONT words); 40-47 kind; 48-63 opcode. */
struct ivg_ring_slot {
        _Atomic(uint64_t) commit;
        uint64_t payload[IVG_SLOT_PAYLOAD_BYTES / 8];
};

/* ANSWERED is the host's word, in a record's first slot, when it has taken the record and not yet released the slot:
 * payload[0] then holds an answer's result (bits 0-31) and answer_bytes (above), payload[1..6] its bytes, as the
 * mailbox has them (below). The tag stays, and with it what recovery needs to know: committed. Never read by the host.
 */
enum ivg_slot_kind { IVG_SLOT_DATA = 1, IVG_SLOT_CONT = 2, IVG_SLOT_SKIP = 3, IVG_SLOT_ANSWERED = 4 };

static inline uint64_t ivg_commit_word(uint64_t position, uint32_t slots, enum ivg_slot_kind kind, uint16_t opcode)
{
        return (uint64_t)(uint32_t)(position + 1) | (uint64_t)slots << 32 | (uint64_t)kind << 40 |
               (uint64_t)opcode << 48;
}
/* Does the word belong to this very position of this lap? Compared for equality only: 32 bits that wrap are no order.
 */
static inline bool ivg_commit_matches(uint64_t word, uint64_t position)
{
        return (uint32_t)word == (uint32_t)(position + 1);
}
static inline uint32_t ivg_commit_slots(uint64_t word)
{
        return (uint32_t)(word >> 32) & 0xff;
}
static inline uint32_t ivg_commit_kind(uint64_t word)
{
        return (uint32_t)(word >> 40) & 0xff;
}
static inline uint16_t ivg_commit_opcode(uint64_t word)
{
        return (uint16_t)(word >> 48);
}

/* One guest thread's line. `position` and `slots` note a claim before it is made and until it is committed (exact
 * recovery after death); slots == 0: no claim. Written for each record and read by nobody else meanwhile: the host
 * never looks at it on its way. The counters are the guest's own claims: shown, never trusted. */
struct ivg_ring_producer {
        _Atomic(uint64_t) position;
        _Atomic(uint32_t) slots;
        _Atomic(uint32_t) owner; /* 0 free; else the owning process or thread as its side numbers them; see below */
        _Atomic(uint32_t) sequence_high;   /* of the last owner that had an answer in a slot: see ivg_producer_open */
        _Atomic(uint32_t) calls_local_low; /* calls answered without a record, modulo 2^32 */
        _Atomic(uint64_t) calls;
        _Atomic(uint64_t) doorbells;
        _Atomic(uint64_t) arena_bytes_to_host;
        _Atomic(uint64_t) arena_bytes_from_host;
        _Atomic(uint64_t) calls_sync; /* of `calls`, those that waited for an answer */
};

/* Non-zero while the thread of that index sleeps for its mailbox. The host reads it at every answer, the thread writes
 * it only to sleep: so it stays in both caches, apart from the line above, which the thread writes at every record. */
struct ivg_ring_waiter {
        _Atomic(uint32_t) waiting;
        uint32_t reserved[15];
};

/* Set in `owner` by ivg_ring_recover until the dead owner's claim is settled; owners themselves stay below it. */
#define IVG_OWNER_DEAD 0x80000000u

struct ivg_ring_guest_part {
        _Alignas(128) _Atomic(uint64_t) tail; /* slots claimed so far */
        _Alignas(128) struct ivg_ring_producer producers[IVG_RING_PRODUCERS];
        _Alignas(128) struct ivg_ring_waiter waiters[IVG_RING_PRODUCERS];
        _Alignas(IVG_PAGE_BYTES) struct ivg_ring_slot slots[IVG_RING_SLOTS];
};

/* One guest thread's answer. `sequence` is stored last and equals the request's sequence when the answer is complete.
 * Every answer comes here, also one that was given in a slot before: that is for a thread which spins at that moment.
 */
struct ivg_ring_mailbox {
        _Atomic(uint64_t) sequence;
        uint32_t result;       /* CUresult, or what the caller of the ring agreed on */
        uint32_t answer_bytes; /* <= 48: in `payload`; more: in the thread's answer area */
        uint8_t payload[IVG_MAILBOX_PAYLOAD_BYTES];
};

/* Status word: bits 0-31 enum ivg_ring_state, bits 32-63 the channel's generation. */
enum ivg_ring_state {
        IVG_RING_UNUSED = 0,
        IVG_RING_OPEN = 1,
        IVG_RING_CLOSED = 2,    /* closed in order; producers get -ESHUTDOWN */
        IVG_RING_PEER_GONE = 3, /* the consumer died or lost its mediator; producers get -EOWNERDEAD */
        IVG_RING_FAULT = 4,     /* the consumer saw a broken rule; producers get -EPROTO, `fault` names it */
};

struct ivg_ring_host_part {
        _Alignas(128) _Atomic(uint64_t) head;     /* slots released */
        _Alignas(128) _Atomic(uint64_t) sleep_at; /* 0, or awaited position + 1. The last of 2^64 positions cannot
                                                   * be awaited: the consumer stays awake there, and that record's
                                                   * producer rings once for nobody, which is harmless. */
        _Alignas(128) _Atomic(uint64_t) status;
        _Atomic(uint64_t) fault;          /* enum ivg_ring_fault in bits 0-31, the offending value's low half above */
        _Atomic(uint64_t) fault_position; /* the slot at which the rule was broken */
        _Alignas(128) uint64_t reserved[16];
        _Alignas(128) struct ivg_ring_mailbox mailboxes[IVG_RING_PRODUCERS];
};

/* Which rule a producer broke. Numbers are part of the layout: never reused. */
enum ivg_ring_fault {
        IVG_FAULT_NONE = 0,
        IVG_FAULT_RECORD_SLOTS = 1,  /* slot count outside 1..64 */
        IVG_FAULT_RECORD_KIND = 2,   /* first slot is neither DATA nor SKIP */
        IVG_FAULT_CONT_TAG = 3,      /* a continuation slot's word does not match its position */
        IVG_FAULT_RECORD_HEADER = 4, /* call header: length, producer or flags out of range */
        IVG_FAULT_OPCODE = 5,        /* unknown call number */
        IVG_FAULT_ARGUMENTS = 6,     /* a call's record is truncated, oversized or has an impossible field */
        IVG_FAULT_HANDLE = 7,        /* a new handle's number is taken or malformed */
        IVG_FAULT_ARENA = 8,         /* an arena reference is out of bounds or names an extent of another owner */
};

_Static_assert(sizeof(struct ivg_ring_slot) == IVG_SLOT_BYTES, "a slot is one cache line");
_Static_assert(sizeof(struct ivg_ring_producer) == IVG_CACHELINE_BYTES, "a producer owns exactly one line");
_Static_assert(sizeof(struct ivg_ring_waiter) == IVG_CACHELINE_BYTES, "a waiter owns exactly one line");
_Static_assert(sizeof(struct ivg_ring_mailbox) == IVG_CACHELINE_BYTES, "an answer moves one line");
_Static_assert(IVG_MAILBOX_PAYLOAD_BYTES + 8 == IVG_SLOT_PAYLOAD_BYTES, "a slot holds what a mailbox holds");
_Static_assert(offsetof(struct ivg_ring_guest_part, producers) == 128, "tail shares no line");
_Static_assert(offsetof(struct ivg_ring_guest_part, slots) % IVG_PAGE_BYTES == 0, "slots start on a page");
_Static_assert(offsetof(struct ivg_ring_host_part, sleep_at) == 128, "head shares no line");
_Static_assert(offsetof(struct ivg_ring_host_part, status) == 256, "sleep_at shares no line");
_Static_assert(offsetof(struct ivg_ring_host_part, mailboxes) == 512, "layout as documented");
_Static_assert((IVG_RING_SLOTS & (IVG_RING_SLOTS - 1)) == 0, "slot count is a power of two");

#endif
