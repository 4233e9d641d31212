/* DPDK's rte_ring, single consumer, with its three ways for several producers. The ring alone: no environment of DPDK
 * is started. */
#include "by_value.h"
#include <rte_ring.h>
#include <rte_ring_elem.h>

enum mode { MODE_MP, MODE_HTS, MODE_RTS };

struct ring {
        struct rte_ring *ring;
        enum mode mode;
};

struct rte_ring_consumer {
        struct by_value *ring;
        uint64_t burst[BY_VALUE_BURST * sizeof(struct element_56) / 8];
};

static inline bool enqueue(const struct ring *ring, const void *element, unsigned int bytes)
{
        switch (ring->mode) {
        case MODE_MP:
                return rte_ring_mp_enqueue_bulk_elem(ring->ring, element, bytes, 1, NULL) == 1;
        case MODE_HTS:
                return rte_ring_mp_hts_enqueue_bulk_elem(ring->ring, element, bytes, 1, NULL) == 1;
        default:
                return rte_ring_mp_rts_enqueue_bulk_elem(ring->ring, element, bytes, 1, NULL) == 1;
        }
}

/* A constant size at each call, so that the copies are inlined. */
static inline bool rte_ring_send(struct by_value_side *self, struct bench_worker *worker, uint64_t word)
{
        struct by_value *shared = self->ring;
        struct element_56 element;
        bool sent;

        if (!by_value_fill(self->ring, worker, word, &element))
                return false;
        switch (shared->kind) {
        case ELEMENT_8:
                sent = enqueue(shared->queue, &element, sizeof(struct element_8));
                break;
        case ELEMENT_56:
                sent = enqueue(shared->queue, &element, sizeof(struct element_56));
                break;
        default:
                sent = enqueue(shared->queue, &element, sizeof(struct element_16));
        }
        if (sent)
                by_value_sent(self->ring, worker);
        return sent;
}

static inline bool rte_ring_answered(struct by_value_side *self, struct bench_worker *worker, uint64_t number)
{
        return answer_there(self->ring->answers, worker->index, number);
}

static inline uint32_t take_burst(struct rte_ring_consumer *self, struct bench_worker *worker, unsigned int bytes)
{
        const struct ring *ring = self->ring->queue;
        const unsigned int count = rte_ring_sc_dequeue_burst_elem(ring->ring, self->burst, bytes, BY_VALUE_BURST, NULL);

        for (unsigned int i = 0; i < count; i++)
                by_value_take(self->ring, worker, self->burst + i * (bytes / 8));
        return count;
}

static inline uint32_t rte_ring_receive(struct rte_ring_consumer *self, struct bench_worker *worker)
{
        switch (self->ring->kind) {
        case ELEMENT_8:
                return take_burst(self, worker, sizeof(struct element_8));
        case ELEMENT_56:
                return take_burst(self, worker, sizeof(struct element_56));
        default:
                return take_burst(self, worker, sizeof(struct element_16));
        }
}

#define LOOPS_NAME rte_ring
#define LOOPS_PRODUCER struct by_value_side
#define LOOPS_CONSUMER struct rte_ring_consumer
#include "loops.h"

static const char *open_ring(struct bench_run *run, enum mode mode)
{
        static const unsigned int flags[] = {0, RING_F_MP_HTS_ENQ, RING_F_MP_RTS_ENQ};
        static const unsigned int element_bytes[] = {8, 56, 16};
        struct by_value *shared = by_value_open(run);
        struct ring *ring = bench_memory(run, sizeof(*ring), 128);
        const ssize_t bytes = rte_ring_get_memsize_elem(element_bytes[shared->kind], BY_VALUE_SLOTS);

        if (bytes <= 0)
                return "rte_ring_get_memsize_elem refuses";
        ring->ring = bench_memory(run, (size_t)bytes, 4096);
        ring->mode = mode;
        shared->queue = ring;
        return rte_ring_init(ring->ring, "bench", BY_VALUE_SLOTS, RING_F_SC_DEQ | flags[mode]) == 0
                       ? NULL
                       : "rte_ring_init refuses";
}
static const char *open_mp(struct bench_run *run)
{
        return open_ring(run, MODE_MP);
}
static const char *open_hts(struct bench_run *run)
{
        return open_ring(run, MODE_HTS);
}
static const char *open_rts(struct bench_run *run)
{
        return open_ring(run, MODE_RTS);
}
#define RTE_RING_PEER(variable, label, opener)                                  \
        static const struct bench_peer variable = {.name = label,               \
                                                   .is_mpsc = true,             \
                                                   .refusal = polled_only,      \
                                                   .open = opener,              \
                                                   .produce = rte_ring_produce, \
                                                   .consume = rte_ring_consume}
RTE_RING_PEER(bench_peer_rte_ring_mp, "rte_ring mp", open_mp);
RTE_RING_PEER(bench_peer_rte_ring_hts, "rte_ring hts", open_hts);
RTE_RING_PEER(bench_peer_rte_ring_rts, "rte_ring rts", open_rts);

BENCH_DEFINE_MODULE(&bench_peer_rte_ring_mp, &bench_peer_rte_ring_hts, &bench_peer_rte_ring_rts);
