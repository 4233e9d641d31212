/* The lock-free ring: many producers in one process, one consumer elsewhere, records of 1 to 64 slots.
 *
 * A record's life: reserve (claim slots by CAS) -> write (payload) -> commit (release of the first commit word) ->
 * take (consumer copies it out) -> answer (mailbox). Nothing here knows CUDA, PCI or processes: a caller supplies the
 * two parts (ring_layout.h) and does the waking when a function says that the other side sleeps.
 *
 * Results: 0 or negative errno unless stated. No function allocates, locks, logs or makes a system call. Every ordered
 * access carries a label (P0..P10 producer, C1..C8 consumer); ring/README.md tabulates the pairs. */
#ifndef IVGPU_RING_H
#define IVGPU_RING_H

#include "ivgpu/ring_layout.h"
#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

enum ivg_rest_stage {
        IVG_REST_KEPT, /* no search */
        IVG_REST_COARSE,
        IVG_REST_FINE,
};
#define IVG_REST_LENGTHS 24u  /* tried in the first stage, more than in the second */
struct ivg_rest {             /* ring_rest.h */
        uint32_t length;      /* steps of ivg_cpu_pass() */
        uint32_t rounds_left; /* with that length */
        uint32_t rounds_kept; /* after the last search */
        enum ivg_rest_stage stage;
        uint32_t sweep, index;            /* of the stage's lengths */
        uint32_t before;                  /* length: when the search began */
        uint32_t middle;                  /* length: of those of the second stage */
        uint64_t begin_ticks;             /* of the trial */
        uint64_t least_ticks;             /* of a trial in this stage */
        uint64_t ticks[IVG_REST_LENGTHS]; /* of each length, its trials together */
};

/* ---- producer side ---- */

struct ivg_ring { /* one per process, read-only after ivg_ring_init, shared by its threads */
        struct ivg_ring_guest_part *guest;
        const struct ivg_ring_host_part *host;
        uint32_t generation;
};

struct ivg_producer { /* one per thread; owned by that thread. Keep apart from what other threads write: false sharing
                       * with a busy line more than doubles a round trip. The same holds for struct ivg_consumer. */
        struct ivg_ring *ring;
        struct ivg_ring_producer *line;
        const struct ivg_ring_mailbox *mailbox;
        uint32_t index;             /* of the two */
        uint64_t head_seen;         /* last value of head read: saves a line transfer per record */
        uint64_t sequence;          /* last sequence given to a synchronous request of this thread: use ++sequence */
        uint64_t sequence_reserved; /* what it was at the last reserve: who changed it since waits for an answer */
        uint64_t awaited;           /* the position of that one's record */
        struct ivg_rest rest;       /* before the first look for an answer */
};

struct ivg_record { /* a claim; lives on the producer's stack between reserve and commit */
        uint64_t position;
        uint32_t slots;
        uint32_t payload_bytes;
};

/* Formats the guest part for a new owner, first position `start` (0 in production; tests start near 2^32): every slot,
 * producer line and counter becomes zero, so that nothing an earlier owner left can be taken for a record. Called
 * before ivg_consumer_open, while nobody else uses the part: by the executor, whose guest waits until it is ready, or
 * by a guest driver that has just claimed the channel. */
void ivg_ring_format(struct ivg_ring_guest_part *guest, uint64_t start);

/* Binds `ring` to its mapped parts. Callers: one thread, before any producer. Fails: -ESTALE when the host part's
 * status is not OPEN with this generation. */
int ivg_ring_init(struct ivg_ring *ring, struct ivg_ring_guest_part *guest, const struct ivg_ring_host_part *host,
                  uint32_t generation);

/* 0 while the ring accepts records, else -ESHUTDOWN (closed), -EOWNERDEAD (peer gone), -EPROTO (fault), -ESTALE
 * (another generation, or not open yet). Callers: any thread. One load of a line that the host rarely writes. */
static inline int ivg_ring_state_errno(const struct ivg_ring *ring);

/* Takes a free producer line for `owner`. Fails: -EINVAL owner is 0 or not below IVG_OWNER_DEAD, -EBUSY all lines are
 * taken. Lock-free. The first sequence is later than any that the line's mailbox has shown. */
int ivg_producer_open(struct ivg_ring *ring, uint32_t owner, struct ivg_producer *producer);
/* Gives the line back; its counters stay. Callers: the owning thread, with no claim and no answer outstanding (a late
 * answer would land in the mailbox of the line's next owner). */
void ivg_producer_close(struct ivg_producer *producer);

/* Claims room for a record. Callers: the owning thread. Progress: lock-free, never blocks.
 * Fails: -EAGAIN full (nothing claimed), -EMSGSIZE payload_bytes over IVG_RECORD_PAYLOAD_BYTES_MAX, and
 * ivg_ring_state_errno()'s values. A successful claim must be committed or abandoned, soon: the consumer passes it only
 * then. A signal handler that interrupts this window must not use the same producer, and a thread must not be cancelled
 * in it (no cancellation point lies inside); nothing is masked here, for a system call would cost more than the record.
 */
static inline int ivg_producer_reserve(struct ivg_producer *producer, uint32_t payload_bytes,
                                       struct ivg_record *record);
/* Copies bytes into the claimed record at `offset`; offset + bytes <= payload_bytes (asserted: our own mistake). Bytes
 * of the last slot behind payload_bytes keep what the slot held before: records carry their own length. */
static inline void ivg_record_write(const struct ivg_producer *producer, const struct ivg_record *record,
                                    uint32_t offset, const void *source, uint32_t bytes);
/* The whole payload at once: payload_bytes of `source`. Fewer steps than ivg_record_write from 0 on. */
static inline void ivg_record_fill(const struct ivg_producer *producer, const struct ivg_record *record,
                                   const void *source);
/* Publishes the record. Returns true when the consumer sleeps for exactly this record: ring the doorbell once. */
static inline bool ivg_producer_commit(struct ivg_producer *producer, const struct ivg_record *record, uint16_t opcode);
/* Publishes the claim as SKIP instead: the consumer passes over it. Result as for commit. */
bool ivg_producer_abandon(struct ivg_producer *producer, const struct ivg_record *record);

/* This thread's answer, if the mailbox shows `sequence`: true and the payload copied when it is in the mailbox (bytes
 * behind answer_bytes are unspecified; a longer answer_bytes means "in the answer area" and copies nothing). `payload`
 * may be NULL when none is wanted. Never blocks. */
struct ivg_answer_header {
        uint32_t result;
        uint32_t answer_bytes;
};
static inline bool ivg_producer_poll_answer(const struct ivg_producer *producer, uint64_t sequence,
                                            struct ivg_answer_header *header,
                                            uint8_t payload[IVG_MAILBOX_PAYLOAD_BYTES]);
/* The same for a thread that looks again and again: `look` counts its looks for this sequence, from 0 on, with
 * ivg_cpu_relax() between them. It looks into the request's own slot, where the consumer answers first, and only at
 * each IVG_LOOKS_PER_MAILBOX-th time into the mailbox, where every answer comes: a false is final only after that many.
 */
static inline bool ivg_producer_look_for_answer(const struct ivg_producer *producer, uint64_t sequence, uint32_t look,
                                                struct ivg_answer_header *header,
                                                uint8_t payload[IVG_MAILBOX_PAYLOAD_BYTES]);
/* Between commit and the first look for an answer that is awaited by looking: rests for as long as that makes the
 * thread's rounds shortest (ring_rest.h), some 0.25 us at most. */
static inline void ivg_producer_rest(struct ivg_producer *producer);
/* Before sleeping for an answer: announces the sleep, then looks once more. True: the answer is there, do not sleep.
 * False: the consumer will see `waiting` and interrupt. ivg_producer_wait_end() follows in both cases. */
bool ivg_producer_wait_begin(struct ivg_producer *producer, uint64_t sequence);
void ivg_producer_wait_end(struct ivg_producer *producer);

/* Recovery by the guest driver's part once process or thread `owner` is dead for certain (ring/README.md; no time-out,
 * no guess about slow producers): completes each of its abandoned claims with a SKIP record and frees its lines.
 * Returns 0 when all is settled; -EAGAIN while a live producer notes the same position (a few instructions of theirs:
 * call again); -ENOTRECOVERABLE when two dead claims share a position and differ, or a dead line holds nonsense:
 * destroy the ring. *doorbell is set, whatever is returned, when the consumer sleeps for a record that is there, also
 * one that the dead had committed without ringing. Callers: one thread at a time. */
int ivg_ring_recover(struct ivg_ring *ring, uint32_t owner, bool *doorbell);
/* True when the consumer sleeps for a record that is there: it must be woken. Reads one word of the guest's. */
bool ivg_ring_consumer_missed_a_record(const struct ivg_ring *ring);

/* ---- consumer side ---- */

#define IVG_BATCH_SLOTS_MAX 64u /* at least IVG_RECORD_SLOTS_MAX: any record fits */
#define IVG_HEAD_PUBLISH_SLOTS (IVG_RING_SLOTS / 8)

struct ivg_consumer { /* host-private: never in shared memory */
        struct ivg_ring_guest_part *guest;
        struct ivg_ring_host_part *host;
        _Atomic(uint64_t) head; /* private position, written by the consumer thread alone; never read back from shared
                                 * memory. Atomic only so that another thread may close the ring and name it. */
        uint64_t head_published;
        uint32_t generation;
        bool next_alone;         /* the last take found nothing, or its record was answered: the next one goes alone */
        _Atomic(uint32_t) state; /* enum ivg_ring_state; decides which end of the ring is the first */
        struct ivg_rest rest;    /* behind an answer */
};

struct ivg_taken_record {
        uint64_t position;
        uint16_t opcode;
        uint16_t slots;
        uint32_t payload_bytes; /* slots * 56 */
        const uint8_t *payload; /* in the batch's private copy, 8-byte aligned, contiguous */
};

struct ivg_batch {
        uint32_t records_count;
        struct ivg_taken_record records[IVG_BATCH_SLOTS_MAX];
        _Alignas(64) uint8_t bytes[IVG_BATCH_SLOTS_MAX * IVG_SLOT_PAYLOAD_BYTES];
};

/* Formats the host part for a new generation and opens the ring (status stored last, with release). `start` is the
 * first position, as given to ivg_ring_format: 0 in production. Of the guest part nothing is written, but the slots by
 * ivg_consumer_answer_record: without that function it may be mapped read-only. Callers: one thread; no other may touch
 * `consumer` or the host part yet. Fails: -ESTALE when the guest part's tail is not `start`: nobody formatted it for
 * this generation (a zero part counts as formatted with start 0). */
int ivg_consumer_open(struct ivg_consumer *consumer, struct ivg_ring_guest_part *guest, struct ivg_ring_host_part *host,
                      uint32_t generation, uint64_t start);
/* Copies committed records, in order, into private memory: up to IVG_BATCH_SLOTS_MAX slots; a record that does not fit
 * any more is left for the next call. After a call that found nothing, or after an answer in a slot, the first record
 * comes alone: to look for the next would cost it a line transfer before its answer. SKIP records are passed over and
 * count. Returns the number of records (0: none now; ivg_consumer_sleep_begin decides whether to block), or -EPROTO
 * after a broken rule, from then on always: the ring's status is then FAULT and its reason stored; the records before
 * the offending one are in the batch (records_count), nothing of the offending one is. Callers: the one consumer
 * thread. Bounded by IVG_BATCH_SLOTS_MAX slots a call. */
static inline int ivg_consumer_take(struct ivg_consumer *consumer, struct ivg_batch *batch);
/* Gives consumed slots back to the producers at once. Take does so by itself every IVG_HEAD_PUBLISH_SLOTS, but for the
 * records that it hands out. */
void ivg_consumer_publish(struct ivg_consumer *consumer);
/* Before blocking: publishes head, announces the awaited position, looks once more. True: block on the doorbell.
 * False: a record is there. ivg_consumer_sleep_end() follows in both cases. */
bool ivg_consumer_sleep_begin(struct ivg_consumer *consumer);
void ivg_consumer_sleep_end(struct ivg_consumer *consumer);
/* Answers producer `index` (bounded here: -EINVAL). Up to IVG_MAILBOX_PAYLOAD_BYTES travel from `payload` (not NULL
 * unless answer_bytes is 0); a larger answer_bytes says that the caller has filled the answer area before, and
 * `payload` is not looked at. Returns 1 when that thread sleeps and must be interrupted, 0 when not. Callers: any host
 * thread, one at a time per producer index. */
static inline int ivg_consumer_answer(struct ivg_consumer *consumer, uint32_t index, uint64_t sequence, uint32_t result,
                                      const void *payload, uint32_t answer_bytes);
/* The same in the slot of the record first, when that was not given back yet, so that a thread which spins sees it
 * sooner. Callers: the consumer thread, while `record` is in its batch: before the next take. */
static inline int ivg_consumer_answer_record(struct ivg_consumer *consumer, const struct ivg_taken_record *record,
                                             uint32_t index, uint64_t sequence, uint32_t result, const void *payload,
                                             uint32_t answer_bytes);
/* Before a take by a consumer that has nothing else to do: if the last take, into `batch`, gave one record and that was
 * answered in its slot, rests for as long as makes such rounds shortest (ring_rest.h), some 0.25 us at most. */
static inline void ivg_consumer_rest(struct ivg_consumer *consumer, const struct ivg_batch *batch);
/* Ends the ring with `state` (CLOSED, PEER_GONE or FAULT with its reason, at the present head). The first end wins.
 * Producers see it at their next reserve; who sleeps must be woken by the caller. Any thread. */
void ivg_consumer_close(struct ivg_consumer *consumer, enum ivg_ring_state state, enum ivg_ring_fault fault,
                        uint32_t value);
/* ivg_consumer_close with FAULT for a rule that the record at `position` broke. Any thread. */
void ivg_consumer_fault(struct ivg_consumer *consumer, enum ivg_ring_fault fault, uint32_t value, uint64_t position);

/* What the mediator does once the consumer's process is dead for certain: an OPEN ring of `generation` becomes
 * PEER_GONE; any other status stays. Callers: one thread, no consumer left. */
void ivg_ring_mark_peer_gone(struct ivg_ring_host_part *host, uint32_t generation);

/* "record slots", "opcode", ... for messages; never NULL. */
const char *ivg_ring_fault_name(enum ivg_ring_fault fault);

#include "ivgpu/ring_rest.h"

#include "ivgpu/ring_consumer.h"
#include "ivgpu/ring_producer.h"

#ifdef __cplusplus
}
#endif

#endif
