/* The workers' loops around one ring, compiled into its own file: define before the inclusion
 *
 *   LOOPS_NAME      e.g. ck_ring: makes ck_ring_produce and ck_ring_consume
 *   LOOPS_PRODUCER, LOOPS_CONSUMER   the sides' own structs: zeroed, their member `ring` then set to the run's
 *   LOOPS_BEGIN, LOOPS_END           (both or neither) called with a producer and its worker
 * and, all static inline,
 *   bool NAME_send(LOOPS_PRODUCER *, struct bench_worker *, uint64_t word)
 *        sends a record of payload_bytes whose first word is `word`; false: no room now
 *   bool NAME_answered(LOOPS_PRODUCER *, struct bench_worker *, uint64_t number)
 *        true: the answer to record `number` has come. In a sleeping case it may sleep until something comes
 *   uint32_t NAME_receive(LOOPS_CONSUMER *, struct bench_worker *)
 *        takes what is there, copies each out, gives its first word to bench_note() and answers when that says so;
 *        returns how many. In a sleeping case it may sleep until something comes */
#ifndef IVG_RING_BENCH_LOOPS_H
#define IVG_RING_BENCH_LOOPS_H

#include "bench.h"
#include <sched.h>

#define BENCH_SPINS_BEFORE_YIELD 256u
#define BENCH_WORK_PAUSES 64u /* one or two microseconds */
#define BENCH_ROUNDS_MIN 16u  /* however short the time is and however slow the machine */
#define BENCH_WARM_UP_PART 2u /* of the time: a ring may have to find out how far its sides are apart */
#define BENCH_STAMPS 1025u    /* 8 KiB: stays in the nearest cache */
#define BENCH_CLOCK_EVERY 64u /* records between two looks at the clock */

/* While nothing goes on: producers that share a processor let each other run. */
static inline void bench_pause(const struct bench_worker *worker, uint32_t *spins)
{
        ivg_cpu_relax();
        if (++*spins % BENCH_SPINS_BEFORE_YIELD == 0 && worker->run->is.producers > 1)
                sched_yield();
}

/* Records are followed by work, during which nobody looks at the ring. A consumer that has drained it, owes no answer
 * and looks again at once would measure how much it disturbs those who are writing. */
static inline void bench_work(const struct bench_worker *worker)
{
        for (uint32_t i = 0; i < BENCH_WORK_PAUSES && !worker->run->is.sleeping; i++)
                ivg_cpu_relax();
}

/* Counted between rounds, a distribution costs each of them 50 to 100 ns: its stores are in the way of the ring's
 * barriers. So ends of rounds are noted, and counted now and then, out of their time. */
static inline void bench_count_rounds(struct bench_producer_result *result, const uint64_t *stamps, uint32_t count,
                                      double ns_per_tick)
{
        for (uint32_t i = 1; i < count; i++)
                ivg_histogram_record(&result->rounds_ns,
                                     (uint64_t)((double)(stamps[i] - stamps[i - 1]) * ns_per_tick + 0.5));
        for (uint32_t i = BENCH_ANSWERED_GROUP; i < count; i += BENCH_ANSWERED_GROUP)
                ivg_histogram_record(
                        &result->groups_ns,
                        (uint64_t)((double)(stamps[i] - stamps[i - BENCH_ANSWERED_GROUP]) * ns_per_tick + 0.5));
}

/* All producers arrive before any goes on. */
static inline void bench_barrier(const struct bench_worker *worker, uint32_t which)
{
        struct bench_shared *shared = worker->run->shared;
        uint32_t arrived = ivg_load_acquire_u32(&shared->arrived);

        while (!ivg_compare_exchange_acq_rel_u32(&shared->arrived, &arrived, arrived + 1))
                ;
        while (ivg_load_acquire_u32(&shared->arrived) < (which + 1) * worker->run->is.producers)
                sched_yield();
}

#endif

#define LOOPS_JOIN2(a, b) a##_##b
#define LOOPS_JOIN(a, b) LOOPS_JOIN2(a, b)
#define LOOPS(what) LOOPS_JOIN(LOOPS_NAME, what)

/* Inlined wherever it stands, as `send` is in a program that uses a ring: what a call puts on the stack would have to
 * reach the cache before the record can. */
__attribute__((always_inline)) static inline void LOOPS(send_surely)(LOOPS_PRODUCER *producer,
                                                                     struct bench_worker *worker, uint32_t flags)
{
        const uint64_t word = bench_word(worker->index, ++worker->number, flags);
        uint32_t spins = 0;

        while (!LOOPS(send)(producer, worker, word))
                bench_pause(worker, &spins);
}

__attribute__((always_inline)) static inline uint64_t LOOPS(round_trip)(LOOPS_PRODUCER *producer,
                                                                        struct bench_worker *worker)
{
        uint32_t spins = 0;

        LOOPS(send_surely)(producer, worker, BENCH_WANTS_ANSWER);
        while (!LOOPS(answered)(producer, worker, worker->number))
                bench_pause(worker, &spins);
        return bench_ticks();
}

static void LOOPS(round_trips)(LOOPS_PRODUCER *producer, struct bench_worker *worker, uint64_t ticks,
                               struct bench_producer_result *result)
{
        const uint64_t begin = bench_ticks();
        uint64_t stamps[BENCH_STAMPS];
        uint32_t count;

        do {
                /* The first after the counting below finds cold caches: its end only begins the next. */
                count = 0;
                do
                        stamps[count] = LOOPS(round_trip)(producer, worker);
                while (++count < BENCH_STAMPS && (count <= BENCH_ROUNDS_MIN || stamps[count - 1] - begin < ticks));
                if (result)
                        bench_count_rounds(result, stamps, count, worker->run->options.ns_per_tick);
        } while (stamps[count - 1] - begin < ticks);
}

static void LOOPS(produce)(struct bench_worker *worker)
{
        struct bench_producer_result *result = &worker->run->shared->producers[worker->index];
        const uint64_t ticks = (uint64_t)(worker->run->options.milliseconds * 1e6 / worker->run->options.ns_per_tick);
        LOOPS_PRODUCER producer;
        uint64_t begin, before;

        memset(&producer, 0, sizeof(producer));
        producer.ring = worker->run->ring;
#ifdef LOOPS_BEGIN
        LOOPS_BEGIN(&producer, worker);
#endif
        bench_barrier(worker, 0);
        LOOPS(round_trips)(&producer, worker, ticks / BENCH_WARM_UP_PART, NULL);
        bench_barrier(worker, 1);
        LOOPS(round_trips)(&producer, worker, ticks, result);
        bench_barrier(worker, 2);
        begin = bench_ticks();
        before = worker->number;
        do {
                for (uint32_t i = 0; i < BENCH_CLOCK_EVERY; i++)
                        LOOPS(send_surely)(&producer, worker, 0);
        } while (bench_ticks() - begin < ticks);
        LOOPS(send_surely)(&producer, worker, BENCH_LAST | BENCH_WANTS_ANSWER);
        for (uint32_t spins = 0; !LOOPS(answered)(&producer, worker, worker->number);)
                bench_pause(worker, &spins);
        /* Read when this worker has ended. */
        ivg_store_relaxed_u64(&result->start_ticks, begin);
        ivg_store_relaxed_u64(&result->end_ticks, bench_ticks());
        ivg_store_relaxed_u64(&result->sent, worker->number - before);
        ivg_store_relaxed_u64(&result->doorbells, worker->doorbells);
#ifdef LOOPS_END
        LOOPS_END(&producer, worker);
#endif
}

static void LOOPS(consume)(struct bench_worker *worker)
{
        LOOPS_CONSUMER consumer;
        uint64_t seen = 0, answered = 0; /* when nothing was found */

        memset(&consumer, 0, sizeof(consumer));
        consumer.ring = worker->run->ring;
        while (worker->ended < worker->run->is.producers) {
                if (LOOPS(receive)(&consumer, worker) != 0)
                        continue;
                if (worker->received != seen && worker->answered == answered)
                        bench_work(worker);
                ivg_cpu_relax();
                seen = worker->received;
                answered = worker->answered;
        }
}

#undef LOOPS
#undef LOOPS_JOIN
#undef LOOPS_JOIN2
#undef LOOPS_NAME
#undef LOOPS_PRODUCER
#undef LOOPS_CONSUMER
#undef LOOPS_BEGIN
#undef LOOPS_END
