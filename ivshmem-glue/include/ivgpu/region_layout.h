/* What host and guest must agree on about one region (BAR2 of a VM, or a local process's memfd).
 *
 *   offset 0            region page  host writes once, before the guest looks; magic is stored last
 *   guest_pages_offset  guest pages  guest driver (or who plays it) writes: epoch, channel states, extent owners
 *   host_pages_offset   host pages   mediator and executors write: heartbeat, channel states, counters
 *   channels_offset     channels     channel_count x channel_stride, see struct ivg_channel_offsets
 *   arena_offset        arena        extent_count x IVG_EXTENT_BYTES, aligned to IVG_EXTENT_BYTES
 *
 * All offsets are page aligned and come from the region page, checked once and completely by ivg_region_check(). */
#ifndef IVGPU_REGION_LAYOUT_H
#define IVGPU_REGION_LAYOUT_H

#include "ivgpu/ring_layout.h"
#include <stdbool.h>

#define IVG_REGION_MAGIC 0x3130555047564901ull /* "\1IVGPU01" little-endian, stored last with release */
#define IVG_LAYOUT_VERSION 2u
#define IVG_EXTENT_BYTES (2u << 20)
#define IVG_CHANNELS_MAX 64u
#define IVG_VECTORS_MAX \
        128u /* of one device: two interrupts' worth per channel; QEMU cannot mask vectors from 256 on */
#define IVG_REGION_BYTES_MIN (16ull << 20)
#define IVG_REGION_BYTES_MAX (64ull << 30)
#define IVG_REGION_BYTES_DEFAULT (1ull << 30)
#define IVG_EXTENTS_MAX (IVG_REGION_BYTES_MAX / IVG_EXTENT_BYTES)
#define IVG_ANSWER_AREA_BYTES 8192u /* per producer: answers longer than a mailbox's 48 bytes */
#define IVG_COMPLETION_WORDS 4096u  /* per channel: 64-bit words that the GPU or the executor writes */
#define IVG_VM_NAME_BYTES 32u
#define IVG_SHOWN_DEVICES_MAX 16u /* whose memory is shown by process: more than a host has */

struct ivg_region_page {
        _Atomic(uint64_t) magic;
        uint32_t layout_version;
        uint32_t page_bytes_used; /* sizeof this struct: a longer one is a later minor addition */
        uint64_t region_bytes;
        uint64_t call_table_fingerprint; /* of the generated call table: both sides must be of one build of the table */
        uint64_t host_instance;          /* random; another value means another mediator life */
        uint32_t doorbell_peer;          /* the host's ivshmem peer id */
        uint32_t vector_count;           /* that the host serves, see ivg_channel_vector(); 0: local mode */
        uint32_t channel_count;
        uint32_t vm_id;
        uint64_t guest_pages_offset, guest_pages_bytes;
        uint64_t host_pages_offset, host_pages_bytes;
        uint64_t channels_offset, channel_stride;
        uint64_t arena_offset, arena_bytes;
        uint32_t ring_slots, ring_producers, answer_area_bytes, completion_words; /* must equal the constants above */
        char vm_name[IVG_VM_NAME_BYTES];
};

/* Inside one channel; the same for all, fixed by the layout version. Guest-written first, host-written second. */
#define IVG_CHANNEL_RING_GUEST_OFFSET 0u
#define IVG_CHANNEL_GUEST_BYTES ((uint32_t)sizeof(struct ivg_ring_guest_part))
#define IVG_CHANNEL_RING_HOST_OFFSET (512u << 10)
#define IVG_CHANNEL_COMPLETION_OFFSET (IVG_CHANNEL_RING_HOST_OFFSET + (16u << 10))
#define IVG_CHANNEL_ANSWER_OFFSET (IVG_CHANNEL_COMPLETION_OFFSET + IVG_COMPLETION_WORDS * 8u)
#define IVG_CHANNEL_HOST_BYTES \
        (IVG_CHANNEL_ANSWER_OFFSET + IVG_RING_PRODUCERS * IVG_ANSWER_AREA_BYTES - IVG_CHANNEL_RING_HOST_OFFSET)
#define IVG_CHANNEL_STRIDE (2u << 20)

/* A channel's life. Both state words are (generation << 32) | state; the host owns the generation, which starts at 1.
 * A host word FREE always means claimable with its generation, whatever the guest word of an earlier claimant says; a
 * guest word of another generation than the host's means nothing to the host.
 *
 *   guest        host          who moves
 *   FREE         FREE          guest claims: guest := OPEN with the host's current generation, rings vector 0
 *   OPEN         STARTING      host starts an executor
 *   OPEN         READY         executor has opened the ring (or FAILED with `reason`: guest := CLOSED)
 *   CLOSED       READY         guest is done or dead (rings vector 0); host ends the executor
 *   CLOSED       FREE, gen+1   host has freed everything; guest := FREE (its driver, or the next claimant)
 *   OPEN         DEAD          executor ended or was killed; `reason` says why; guest := CLOSED when it noticed
 *
 * Every CLOSED of the host's generation is answered by FREE of the next one, also one that the host never saw OPEN. */
enum ivg_guest_channel_state { IVG_GUEST_CHANNEL_FREE = 0, IVG_GUEST_CHANNEL_OPEN = 1, IVG_GUEST_CHANNEL_CLOSED = 2 };
enum ivg_host_channel_state {
        IVG_HOST_CHANNEL_FREE = 0,
        IVG_HOST_CHANNEL_STARTING = 1,
        IVG_HOST_CHANNEL_READY = 2,
        IVG_HOST_CHANNEL_FAILED = 3,
        IVG_HOST_CHANNEL_DEAD = 4,
};
/* Why a channel FAILED or is DEAD: the prototype's error codes, kept (0 none ... 11 VM_QUARANTINED). */
enum ivg_error_code {
        IVG_ERROR_NONE = 0,
        IVG_ERROR_INVALID_REQUEST = 1,
        IVG_ERROR_REQUEST_TOO_LARGE = 2,
        IVG_ERROR_MEDIATOR_UNAVAILABLE = 3,
        IVG_ERROR_TIMEOUT = 4,
        IVG_ERROR_CUDA_ERROR = 5,
        IVG_ERROR_INVALID_POOL = 6,
        IVG_ERROR_QUEUE_FULL = 7,
        IVG_ERROR_UNSUPPORTED_OP = 8,
        IVG_ERROR_INVALID_LENGTH = 9,
        IVG_ERROR_RATE_LIMITED = 10,
        IVG_ERROR_VM_QUARANTINED = 11,
};
const char *ivg_error_code_name(enum ivg_error_code code); /* "MEDIATOR_UNAVAILABLE"; never NULL */

static inline uint64_t ivg_channel_word(uint32_t generation, uint32_t state)
{
        return (uint64_t)generation << 32 | state;
}
static inline uint32_t ivg_channel_word_generation(uint64_t word)
{
        return (uint32_t)(word >> 32);
}
static inline uint32_t ivg_channel_word_state(uint64_t word)
{
        return (uint32_t)word;
}

/* The vector of a channel, for doorbells and interrupts alike. Vector 0 is control; channels share the others when
 * there are not enough: because the host serves few, or because the guest, which says so in `vectors_used` with its
 * boot epoch, can have few. A vector does not say which of its channels is meant. To the host: the mediator passes a
 * doorbell on to the executor whose record is there. To the guest: a channel's state or its count of interrupts has
 * changed (H1, I1). */
static inline uint32_t ivg_vectors_usable(uint32_t vector_count, uint32_t vectors_used)
{
        return vectors_used >= 2 && vectors_used < vector_count ? vectors_used : vector_count;
}
static inline uint32_t ivg_channel_vector(uint32_t channel, uint32_t vectors_usable)
{
        return 1 + channel % (vectors_usable - 1);
}
static inline bool ivg_vectors_are_shared(uint32_t channel_count, uint32_t vectors_usable)
{
        return channel_count > vectors_usable - 1;
}

struct ivg_guest_channel { /* one line each */
        _Atomic(uint64_t) state;
        _Atomic(uint32_t) pid; /* as the guest sees it: shown, never trusted */
        uint32_t reserved0;
        char program[32];
        uint64_t reserved1[2];
};

struct ivg_guest_pages {
        _Alignas(128) _Atomic(uint64_t) boot_epoch; /* non-zero, new for every boot of the guest */
        _Atomic(uint32_t) vectors_used; /* stored before the epoch; 0 or too many: all, see ivg_channel_vector() */
        _Alignas(128) struct ivg_guest_channel channels[IVG_CHANNELS_MAX];
        /* extent_owner[i]: 0 free, else channel index + 1. Written by the guest driver alone. Follows in the same
         * pages. */
        _Alignas(IVG_PAGE_BYTES) _Atomic(uint32_t) extent_owner[];
};

struct ivg_host_channel {
        _Alignas(128) _Atomic(uint64_t) state;
        _Atomic(uint32_t) reason;       /* enum ivg_error_code */
        _Atomic(uint32_t) executor_pid; /* as the host sees it */
        /* written by the executor only; counters of this generation */
        _Atomic(uint64_t) records_consumed;
        _Atomic(uint64_t) batches;
        _Atomic(uint64_t) sleeps;
        _Atomic(uint64_t) interrupts; /* counted before each interrupt; a change says that it was for this channel */
        _Atomic(uint64_t) arena_bytes_from_guest;
        _Atomic(uint64_t) arena_bytes_to_guest;
        _Atomic(uint64_t) calls_failed;
        _Atomic(uint64_t) calls_unsupported;
        _Atomic(uint64_t) images_found;      /* loaded from what the host had */
        _Atomic(uint64_t) image_bytes_found; /* and so not sent */
        _Atomic(uint64_t) images_kept;       /* sent, and given to the host's store */
        uint64_t reserved[2];
};

struct ivg_host_pages {
        _Alignas(128) _Atomic(uint64_t) heartbeat; /* grows while the mediator lives: every IVG_HEARTBEAT_MS, seldom
                                                    * while nothing goes on */
        _Atomic(uint64_t) epoch_seen; /* the boot epoch that the host has adopted; older channels are gone */
        _Atomic(uint64_t) silence_ms; /* without a beat for so long the mediator counts as gone */
        _Alignas(128) struct ivg_host_channel channels[IVG_CHANNELS_MAX];
        /* device_bytes[c][d]: memory of device d that the process behind channel c holds. Written by its executor,
         * shown to all processes of this guest (nvidia-smi). */
        _Alignas(128) _Atomic(uint64_t) device_bytes[IVG_CHANNELS_MAX][IVG_SHOWN_DEVICES_MAX];
};
#define IVG_HEARTBEAT_MS 100u
#define IVG_HEARTBEAT_SLOW_MS 2000u /* while nothing goes on */
/* Values of silence_ms, for those two paces; a smaller one, and 0, means the first, a greater one the second. */
#define IVG_HEARTBEAT_LOST_MS 900u
#define IVG_HEARTBEAT_SLOW_LOST_MS 6000u

_Static_assert(sizeof(struct ivg_region_page) <= IVG_PAGE_BYTES, "the region page is one page");
_Static_assert(sizeof(struct ivg_guest_channel) == IVG_CACHELINE_BYTES, "one line per channel");
_Static_assert(sizeof(struct ivg_host_channel) == 128, "two lines per channel");
_Static_assert(IVG_CHANNEL_GUEST_BYTES <= IVG_CHANNEL_RING_HOST_OFFSET, "guest part ends before the host part");
_Static_assert(sizeof(struct ivg_ring_host_part) <= (16u << 10), "ring's host part fits before the completion words");
_Static_assert(IVG_CHANNEL_RING_HOST_OFFSET + IVG_CHANNEL_HOST_BYTES <= IVG_CHANNEL_STRIDE,
               "a channel fits its stride");

#endif
