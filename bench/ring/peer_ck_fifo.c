/* Concurrency Kit's ck_fifo, single producer and consumer; several producers take its own enqueue lock. */
#include "nodes.h"
#include <ck_fifo.h>

struct ck_fifo_consumer {
        struct nodes *ring;
        bool has_stub; /* the last node taken stays the queue's stub until the next is taken */
        uint32_t stub_producer;
};

static inline bool ck_fifo_send(struct nodes_side *self, struct bench_worker *worker, uint64_t word)
{
        ck_fifo_spsc_t *fifo = self->ring->queue;
        ck_fifo_spsc_entry_t *entry = nodes_fill(self->ring, worker, word);

        if (!entry)
                return false;
        if (worker->run->is.producers == 1) {
                ck_fifo_spsc_enqueue(fifo, entry, entry);
                return true;
        }
        ck_fifo_spsc_enqueue_lock(fifo);
        ck_fifo_spsc_enqueue(fifo, entry, entry);
        ck_fifo_spsc_enqueue_unlock(fifo);
        return true;
}

static inline bool ck_fifo_answered(struct nodes_side *self, struct bench_worker *worker, uint64_t number)
{
        return answer_there(self->ring->answers, worker->index, number);
}

static inline uint32_t ck_fifo_receive(struct ck_fifo_consumer *self, struct bench_worker *worker)
{
        ck_fifo_spsc_entry_t *entry;
        uint64_t word;

        if (!ck_fifo_spsc_dequeue(self->ring->queue, &entry))
                return 0;
        word = nodes_read(worker, entry);
        if (self->has_stub)
                nodes_free(self->ring, worker, self->stub_producer);
        self->has_stub = true;
        self->stub_producer = bench_word_producer(word);
        nodes_note(self->ring, worker, word);
        return 1;
}

#define LOOPS_NAME ck_fifo
#define LOOPS_PRODUCER struct nodes_side
#define LOOPS_CONSUMER struct ck_fifo_consumer
#include "loops.h"

_Static_assert(sizeof(ck_fifo_spsc_entry_t) <= NODE_BYTES, "the entry fits before the payload");

static const char *refusal(const struct bench_case *is)
{
        return polled_only(is);
}
static const char *open_fifo(struct bench_run *run)
{
        struct nodes *shared = nodes_open(run);

        shared->queue = bench_memory(run, sizeof(ck_fifo_spsc_t), 128);
        ck_fifo_spsc_init(shared->queue, bench_memory(run, sizeof(ck_fifo_spsc_entry_t), 128));
        return NULL;
}
const struct bench_peer bench_peer_ck_fifo = {.name = "ck_fifo",
                                              .refusal = refusal,
                                              .open = open_fifo,
                                              .produce = ck_fifo_produce,
                                              .consume = ck_fifo_consume};
