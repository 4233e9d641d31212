/* Our ring as the bench uses it: between workers of one machine (peer_ivgpu.c), or between a guest (shm_guest.c) and
 * its host (shm_host.c), which differ in where the parts lie and in how the other side is woken. */
#ifndef IVG_RING_BENCH_OURS_H
#define IVG_RING_BENCH_OURS_H

#include "blocks.h"
#include "ivgpu/ring.h"

struct ours {
        struct ivg_ring_guest_part *guest;
        struct ivg_ring_host_part *host;
        uint32_t generation;
        _Atomic(uint32_t) *lines; /* shared: the mailbox of each producer */
        struct blocks blocks;
        void (*wake_consumer)(struct ours *ours);
        void (*consumer_sleep)(struct ours *ours);
        void (*wake_producer)(struct ours *ours, uint32_t index);
        void (*producer_sleep)(struct ours *ours, uint32_t index, struct ivg_producer *producer, uint64_t number);
        void *way; /* of whoever set the four */
        int doorbell, interrupts[BENCH_PRODUCERS_MAX];
        _Alignas(128) struct ivg_consumer consumer;
};

enum bench_opcode {
        OPCODE_INLINE,
        OPCODE_BLOCK,
        /* From a guest to its host, between runs; answered when done. */
        OPCODE_CASE,
        OPCODE_FLOOR, /* answered before it begins */
};

/* What both sides of a case must share beside the ring, taken from run->memory: in the same order, so that it lies at
 * the same offsets on both sides. */
void bench_ours_share(struct bench_run *run, struct ours *ours);
void bench_ours_produce(struct bench_worker *worker);
void bench_ours_consume(struct bench_worker *worker);

/* ---- between guest and host ---- */

#define SHM_FINGERPRINT 0x726962656e636831ull /* stands where the call table's would */
#define SHM_EXTENTS 20u                       /* of the arena, for lines, floor and blocks */
#define SHM_CHANNELS 4u
#define SHM_VECTORS 5u

struct shm_case { /* with OPCODE_CASE */
        uint64_t sequence;
        uint64_t arena_offset;
        uint32_t producers, payload_bytes, sleeping, mailbox;
};
struct shm_floor { /* with OPCODE_FLOOR */
        uint64_t sequence;
        uint64_t arena_offset, rounds;
        uint32_t mailbox;
};

/* `place` as IVGPU_CHANNEL has it, or /dev/ivgpuN. Returns what runs the cases; ends the bench when there is no way. */
const struct bench_peer *bench_shm_open(const char *place, struct bench_options *options);
/* The host's half: serves one QEMU at `socket` and ends with it. */
_Noreturn void bench_shm_serve(const char *socket, const struct bench_options *options);

#endif
