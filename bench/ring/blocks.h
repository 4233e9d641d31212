/* Payload that does not travel in the ring itself: each producer's blocks in shared memory, used in turn, given back by
 * the consumer through one counter a producer. Ours stand for the arena; rings of pointers need them for everything. */
#ifndef IVG_RING_BENCH_BLOCKS_H
#define IVG_RING_BENCH_BLOCKS_H

#include "bench.h"

#define BLOCKS_BYTES_MAX (2u << 20) /* of one producer: about a processor's own cache */
#define BLOCKS_COUNT_MAX 4096u

struct blocks_line {
        _Alignas(128) _Atomic(uint64_t) taken; /* written by the consumer */
};

struct blocks {
        uint32_t count, block_bytes; /* of one producer */
        struct blocks_line *lines;
        uint8_t *memory;
};

static inline void blocks_open(struct bench_run *run, struct blocks *blocks, uint32_t header_bytes)
{
        uint32_t count = BLOCKS_COUNT_MAX;

        blocks->block_bytes = (header_bytes + run->is.payload_bytes + 63) / 64 * 64;
        while (count > 1 && (uint64_t)count * blocks->block_bytes > BLOCKS_BYTES_MAX)
                count /= 2;
        blocks->count = count;
        blocks->lines = bench_memory(run, run->is.producers * sizeof(blocks->lines[0]), 128);
        blocks->memory = bench_memory(run, (size_t)run->is.producers * count * blocks->block_bytes, 4096);
}

static inline uint8_t *blocks_at(const struct blocks *blocks, uint32_t producer, uint64_t number)
{
        return blocks->memory + ((size_t)producer * blocks->count + number % blocks->count) * blocks->block_bytes;
}

/* The producer's next block, number blocks_given, or NULL while none is free. blocks_sent() makes it used. */
static inline uint8_t *blocks_next(const struct blocks *blocks, struct bench_worker *worker)
{
        if (worker->blocks_given - worker->blocks_taken_seen >= blocks->count) {
                /* Acquire, pairs with blocks_give: the consumer has read it. */
                worker->blocks_taken_seen = ivg_load_acquire_u64(&blocks->lines[worker->index].taken);
                if (worker->blocks_given - worker->blocks_taken_seen >= blocks->count)
                        return NULL;
        }
        return blocks_at(blocks, worker->index, worker->blocks_given);
}

static inline void blocks_sent(struct bench_worker *worker)
{
        worker->blocks_given++;
}

/* The consumer gives the producer's oldest block back. */
static inline void blocks_give(const struct blocks *blocks, struct bench_worker *worker, uint32_t producer)
{
        /* Release, pairs with blocks_next. */
        ivg_store_release_u64(&blocks->lines[producer].taken, ++worker->blocks_taken[producer]);
}

/* A copy that the compiler must make, wherever it goes. */
static inline void bench_copy(void *to, const void *from, uint32_t bytes)
{
        memcpy(to, from, bytes);
        __asm__ volatile("" ::"r"(to) : "memory");
}

#endif
