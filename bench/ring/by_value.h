/* Rings of elements of a fixed size (ck_ring, rte_ring): payloads of 8 and 56 bytes travel in the ring, all others in
 * blocks, the first word of which is the record's; the ring then carries {word, block number}. */
#ifndef IVG_RING_BENCH_BY_VALUE_H
#define IVG_RING_BENCH_BY_VALUE_H

#include "answers.h"
#include "blocks.h"

#define BY_VALUE_SLOTS 4096u /* as many as ours has */
#define BY_VALUE_BURST 32u   /* that a consumer takes at once where the ring offers it */

struct element_8 {
        uint64_t words[1];
};
struct element_16 {
        uint64_t words[2]; /* word, given */
};
struct element_56 {
        uint64_t words[7];
};

enum element_kind { ELEMENT_8, ELEMENT_56, ELEMENT_BLOCK };
static inline enum element_kind element_kind_of(uint32_t payload_bytes)
{
        return payload_bytes == 8 ? ELEMENT_8 : payload_bytes == 56 ? ELEMENT_56 : ELEMENT_BLOCK;
}

struct by_value {
        enum element_kind kind;
        struct answer_line *answers;
        struct blocks blocks;
        void *queue; /* the adapter's */
};

struct by_value_side {
        struct by_value *ring;
};

static inline struct by_value *by_value_open(struct bench_run *run)
{
        struct by_value *shared = bench_memory(run, sizeof(*shared), 128);

        shared->kind = element_kind_of(run->is.payload_bytes);
        shared->answers = answers_open(run);
        if (shared->kind == ELEMENT_BLOCK)
                blocks_open(run, &shared->blocks, 0);
        run->ring = shared;
        return shared;
}

/* Fills the element to send; false: no block is free. */
static inline bool by_value_fill(struct by_value *ring, struct bench_worker *worker, uint64_t word,
                                 struct element_56 *element)
{
        uint8_t *block;

        element->words[0] = word;
        if (ring->kind == ELEMENT_8)
                return true;
        if (ring->kind == ELEMENT_56) {
                memcpy(element->words + 1, worker->payload + 8, 48);
                return true;
        }
        block = blocks_next(&ring->blocks, worker);
        if (!block)
                return false;
        bench_copy(block, worker->payload, worker->run->is.payload_bytes);
        element->words[1] = worker->blocks_given;
        return true;
}

static inline void by_value_sent(const struct by_value *ring, struct bench_worker *worker)
{
        if (ring->kind == ELEMENT_BLOCK)
                blocks_sent(worker);
}

static inline void by_value_take(struct by_value *ring, struct bench_worker *worker, const uint64_t *words)
{
        const uint64_t word = words[0];
        const uint32_t producer = bench_word_producer(word);

        if (ring->kind == ELEMENT_BLOCK) {
                bench_copy(worker->payload, blocks_at(&ring->blocks, producer, words[1]),
                           worker->run->is.payload_bytes);
                blocks_give(&ring->blocks, worker, producer);
        }
        if (bench_note(worker, word))
                answer_give(ring->answers, word);
}

#endif
