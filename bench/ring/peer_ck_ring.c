/* Concurrency Kit's ck_ring: producers claim by compare-and-swap and publish in the order of their claims. */
#include "by_value.h"
#include <ck_ring.h>

CK_RING_PROTOTYPE(bench_8, element_8)
CK_RING_PROTOTYPE(bench_16, element_16)
CK_RING_PROTOTYPE(bench_56, element_56)

struct ring {
        ck_ring_t ring;
        bool single; /* one producer, without the claim */
        _Alignas(64) union {
                struct element_8 *of_8;
                struct element_16 *of_16;
                struct element_56 *of_56;
        } elements;
};

static inline bool enqueue(struct ring *ring, enum element_kind kind, struct element_56 *element)
{
        struct element_8 of_8 = {{element->words[0]}};
        struct element_16 of_16 = {{element->words[0], element->words[1]}};

        switch (kind) {
        case ELEMENT_8:
                return ring->single ? ck_ring_enqueue_spsc_bench_8(&ring->ring, ring->elements.of_8, &of_8)
                                    : ck_ring_enqueue_mpsc_bench_8(&ring->ring, ring->elements.of_8, &of_8);
        case ELEMENT_56:
                return ring->single ? ck_ring_enqueue_spsc_bench_56(&ring->ring, ring->elements.of_56, element)
                                    : ck_ring_enqueue_mpsc_bench_56(&ring->ring, ring->elements.of_56, element);
        default:
                return ring->single ? ck_ring_enqueue_spsc_bench_16(&ring->ring, ring->elements.of_16, &of_16)
                                    : ck_ring_enqueue_mpsc_bench_16(&ring->ring, ring->elements.of_16, &of_16);
        }
}

/* Both namespaces take out the same way. */
static inline bool dequeue(struct ring *ring, enum element_kind kind, struct element_56 *element)
{
        switch (kind) {
        case ELEMENT_8:
                return ck_ring_dequeue_mpsc_bench_8(&ring->ring, ring->elements.of_8, (struct element_8 *)element);
        case ELEMENT_56:
                return ck_ring_dequeue_mpsc_bench_56(&ring->ring, ring->elements.of_56, element);
        default:
                return ck_ring_dequeue_mpsc_bench_16(&ring->ring, ring->elements.of_16, (struct element_16 *)element);
        }
}

static inline bool ck_ring_send(struct by_value_side *self, struct bench_worker *worker, uint64_t word)
{
        struct element_56 element;

        if (!by_value_fill(self->ring, worker, word, &element) ||
            !enqueue(self->ring->queue, self->ring->kind, &element))
                return false;
        by_value_sent(self->ring, worker);
        return true;
}

static inline bool ck_ring_answered(struct by_value_side *self, struct bench_worker *worker, uint64_t number)
{
        return answer_there(self->ring->answers, worker->index, number);
}

static inline uint32_t ck_ring_receive(struct by_value_side *self, struct bench_worker *worker)
{
        struct element_56 element;

        if (!dequeue(self->ring->queue, self->ring->kind, &element))
                return 0;
        by_value_take(self->ring, worker, element.words);
        return 1;
}

#define LOOPS_NAME ck_ring
#define LOOPS_PRODUCER struct by_value_side
#define LOOPS_CONSUMER struct by_value_side
#include "loops.h"

static const char *open_ring(struct bench_run *run, bool single)
{
        struct by_value *shared = by_value_open(run);
        struct ring *ring = bench_memory(run, sizeof(*ring), 128);

        ring->elements.of_56 = bench_memory(run, BY_VALUE_SLOTS * sizeof(struct element_56), 4096);
        ring->single = single;
        ck_ring_init(&ring->ring, BY_VALUE_SLOTS);
        shared->queue = ring;
        return NULL;
}
static const char *open_mpsc(struct bench_run *run)
{
        return open_ring(run, false);
}
static const char *open_spsc(struct bench_run *run)
{
        return open_ring(run, true);
}
static const char *one_producer(const struct bench_case *is)
{
        return is->producers > 1 ? "takes one producer" : polled_only(is);
}

const struct bench_peer bench_peer_ck_ring = {.name = "ck_ring",
                                              .is_mpsc = true,
                                              .refusal = polled_only,
                                              .open = open_mpsc,
                                              .produce = ck_ring_produce,
                                              .consume = ck_ring_consume};
const struct bench_peer bench_peer_ck_ring_spsc = {.name = "ck_ring spsc",
                                                   .refusal = one_producer,
                                                   .open = open_spsc,
                                                   .produce = ck_ring_produce,
                                                   .consume = ck_ring_consume};
