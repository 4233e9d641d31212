/* How a ring without a way back answers: a word for each producer, on a line of its own. The cheapest answer there is,
 * so that these rings are judged by their way there. */
#ifndef IVG_RING_BENCH_ANSWERS_H
#define IVG_RING_BENCH_ANSWERS_H

#include "bench.h"

struct answer_line {
        _Alignas(128) _Atomic(uint64_t) number;
};

static inline struct answer_line *answers_open(struct bench_run *run)
{
        return bench_memory(run, run->is.producers * sizeof(struct answer_line), 128);
}

static inline void answer_give(struct answer_line *lines, uint64_t word)
{
        ivg_store_release_u64(&lines[bench_word_producer(word)].number, bench_word_number(word)); /* pairs with below */
}

static inline bool answer_there(const struct answer_line *lines, uint32_t producer, uint64_t number)
{
        return ivg_load_acquire_u64(&lines[producer].number) == number;
}

static inline const char *polled_only(const struct bench_case *is)
{
        return is->sleeping ? "has no way to sleep" : NULL;
}

#endif
