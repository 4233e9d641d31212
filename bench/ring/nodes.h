/* Queues of linked nodes (ck_fifo, wfcqueue): the payload lies in the node's block, the first word first. */
#ifndef IVG_RING_BENCH_NODES_H
#define IVG_RING_BENCH_NODES_H

#include "answers.h"
#include "blocks.h"

#define NODE_BYTES 16u

struct nodes {
        struct answer_line *answers;
        struct blocks blocks;
        void *queue; /* the adapter's */
};

struct nodes_side {
        struct nodes *ring;
};

static inline struct nodes *nodes_open(struct bench_run *run)
{
        struct nodes *shared = bench_memory(run, sizeof(*shared), 128);

        shared->answers = answers_open(run);
        blocks_open(run, &shared->blocks, NODE_BYTES);
        run->ring = shared;
        return shared;
}

/* A node with its payload, to be enqueued; NULL: none is free. */
static inline void *nodes_fill(struct nodes *ring, struct bench_worker *worker, uint64_t word)
{
        uint8_t *node = blocks_next(&ring->blocks, worker);

        if (!node)
                return NULL;
        memcpy(worker->payload, &word, sizeof(word));
        bench_copy(node + NODE_BYTES, worker->payload, worker->run->is.payload_bytes);
        blocks_sent(worker);
        return node;
}

/* Copies the node's payload out and gives its word. */
static inline uint64_t nodes_read(struct bench_worker *worker, const void *node)
{
        uint64_t word;

        bench_copy(worker->payload, (const uint8_t *)node + NODE_BYTES, worker->run->is.payload_bytes);
        memcpy(&word, worker->payload, sizeof(word));
        return word;
}

static inline void nodes_note(struct nodes *ring, struct bench_worker *worker, uint64_t word)
{
        if (bench_note(worker, word))
                answer_give(ring->answers, word);
}

static inline void nodes_free(struct nodes *ring, struct bench_worker *worker, uint32_t producer)
{
        blocks_give(&ring->blocks, worker, producer);
}

#endif
