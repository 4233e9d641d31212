/* liburcu's wfcqueue: wait-free enqueue by exchange of the tail; taken one by one, or spliced off all at once. Inlined,
 * as its licence allows a program like this. */
#define _LGPL_SOURCE
#include "nodes.h"
#include <urcu/wfcqueue.h>

struct queue {
        _Alignas(128) struct __cds_wfcq_head head;
        _Alignas(128) struct cds_wfcq_tail tail;
        bool spliced;
        _Alignas(128) struct __cds_wfcq_head own_head; /* the consumer's: spliced off, not yet read */
        struct cds_wfcq_tail own_tail;
};

static inline bool wfcqueue_send(struct nodes_side *self, struct bench_worker *worker, uint64_t word)
{
        struct queue *queue = self->ring->queue;
        struct cds_wfcq_node *node = nodes_fill(self->ring, worker, word);

        if (!node)
                return false;
        cds_wfcq_node_init(node);
        (void)cds_wfcq_enqueue(&queue->head, &queue->tail, node);
        return true;
}

static inline bool wfcqueue_answered(struct nodes_side *self, struct bench_worker *worker, uint64_t number)
{
        return answer_there(self->ring->answers, worker->index, number);
}

static inline uint32_t take_from(struct nodes_side *self, struct bench_worker *worker, struct __cds_wfcq_head *head,
                                 struct cds_wfcq_tail *tail)
{
        struct cds_wfcq_node *node = __cds_wfcq_dequeue_nonblocking(head, tail);
        uint64_t word;

        if (!node || node == CDS_WFCQ_WOULDBLOCK)
                return 0;
        word = nodes_read(worker, node);
        nodes_free(self->ring, worker, bench_word_producer(word));
        nodes_note(self->ring, worker, word);
        return 1;
}

static inline uint32_t wfcqueue_receive(struct nodes_side *self, struct bench_worker *worker)
{
        struct queue *queue = self->ring->queue;
        uint32_t count = 0;

        if (!queue->spliced)
                return take_from(self, worker, &queue->head, &queue->tail);
        (void)__cds_wfcq_splice_nonblocking(&queue->own_head, &queue->own_tail, &queue->head, &queue->tail);
        while (take_from(self, worker, &queue->own_head, &queue->own_tail) != 0)
                count++;
        return count;
}

#define LOOPS_NAME wfcqueue
#define LOOPS_PRODUCER struct nodes_side
#define LOOPS_CONSUMER struct nodes_side
#include "loops.h"

_Static_assert(sizeof(struct cds_wfcq_node) <= NODE_BYTES, "the node fits before the payload");

static const char *open_queue(struct bench_run *run, bool spliced)
{
        struct nodes *shared = nodes_open(run);
        struct queue *queue = bench_memory(run, sizeof(*queue), 128);

        __cds_wfcq_init(&queue->head, &queue->tail);
        __cds_wfcq_init(&queue->own_head, &queue->own_tail);
        queue->spliced = spliced;
        shared->queue = queue;
        return NULL;
}
static const char *open_single(struct bench_run *run)
{
        return open_queue(run, false);
}
static const char *open_spliced(struct bench_run *run)
{
        return open_queue(run, true);
}
const struct bench_peer bench_peer_wfcqueue = {.name = "wfcqueue",
                                               .is_mpsc = true,
                                               .refusal = polled_only,
                                               .open = open_single,
                                               .produce = wfcqueue_produce,
                                               .consume = wfcqueue_consume};
const struct bench_peer bench_peer_wfcqueue_spliced = {.name = "wfcqueue spliced",
                                                       .is_mpsc = true,
                                                       .refusal = polled_only,
                                                       .open = open_spliced,
                                                       .produce = wfcqueue_produce,
                                                       .consume = wfcqueue_consume};
