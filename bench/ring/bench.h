/* ivgpu-ring-bench: what its parts share.
 *
 * A case is one ring in one mode with so many producers and one payload; a run is one measurement of a case:
 *
 *   floor      one cache line there and back between two processors, nothing fetched ahead of need
 *   warm up    -> round trips, one in flight for each producer -> as many records as go through, nobody waits -> floor
 *
 * A run between whose two floors the machine changed is rejected, counted and repeated. A case is told by the median of
 * its runs.
 *
 * Producers and consumer are threads, or forked processes over one mapping; all else is the same for both. What each
 * ring needs to send, receive and answer stands in its own file (peer_*.c) as inline functions; the loops around them
 * (loops.h) are compiled into each, so that no ring pays for an indirect call that another does not. Rings of packages
 * that a machine may lack are modules, which peers.c loads. */
#ifndef IVG_RING_BENCH_H
#define IVG_RING_BENCH_H

#include "../measure.h"
#include "ivgpu/histogram.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define BENCH_PASSES_MAX 101u
#define BENCH_MILLISECONDS_MAX 10000u
#define BENCH_PRODUCERS_MAX 16u
#define BENCH_PAYLOAD_MAX 65536u
#define BENCH_ANSWERED_GROUP 16u  /* round trips timed together for the median: some clocks step by 10 ns and more */
#define BENCH_RUN_SECONDS_MAX 60u /* a run without an end is a defect of ring or bench: named, and the bench ends */

struct bench_case {
        const struct bench_peer *peer;
        bool processes; /* else threads */
        bool sleeping;  /* who finds nothing sleeps at once; else it looks again */
        bool pinned;    /* the consumer on one processor, all producers on the other */
        uint32_t producers;
        uint32_t payload_bytes;
};

struct bench_options {
        int processors[2]; /* producers', consumer's */
        uint32_t milliseconds;
        uint32_t passes;
        double ns_per_tick;                                           /* measured once */
        double (*floor_line_ns)(const struct bench_options *options); /* between whom the cases run */
        double floor_min_ns; /* a run with a shorter way of a line is rejected */
};

/* ---- what a run's workers share: in one mapping, also between processes ---- */

/* What one producer says of itself; written by it alone, read when it is done. */
struct bench_producer_result {
        _Alignas(128) _Atomic(uint64_t) sent; /* records of the throughput phase */
        _Atomic(uint64_t) start_ticks;        /* of that phase */
        _Atomic(uint64_t) end_ticks;          /* its last record was answered, and so all were taken */
        _Atomic(uint64_t) doorbells;
        struct ivg_histogram rounds_ns; /* single round trips: for the tail */
        struct ivg_histogram groups_ns; /* of BENCH_ANSWERED_GROUP in a row: for the median */
};

struct bench_shared {
        _Alignas(128) _Atomic(uint32_t) arrived; /* at the barriers, all workers, all barriers */
        struct bench_producer_result producers[BENCH_PRODUCERS_MAX];
};

struct bench_run {
        struct bench_case is;
        struct bench_options options;
        struct bench_shared *shared;
        uint8_t *memory; /* what is left of the mapping: bench_memory() */
        size_t memory_bytes;
        void *ring; /* the peer's own, made by its open() */
};

/* Zeroed shared memory that lies at the same address in all workers, on a line or page of its own. Ends the bench when
 * there is none. */
void *bench_memory(struct bench_run *run, size_t bytes, size_t alignment);

/* One side of a run. */
struct bench_worker {
        struct bench_run *run;
        uint32_t index;  /* of the producer */
        uint64_t number; /* of the last record sent; round trips and throughput count on */
        uint64_t doorbells;
        /* consumer */
        uint64_t received, answered;
        uint64_t expected[BENCH_PRODUCERS_MAX];
        uint32_t ended; /* producers */
        /* blocks.h */
        uint64_t blocks_given, blocks_taken_seen;   /* producer */
        uint64_t blocks_taken[BENCH_PRODUCERS_MAX]; /* consumer */
        uint8_t *payload;                           /* source or sink of BENCH_PAYLOAD_MAX bytes */
};

/* ---- a ring ---- */

struct bench_peer {
        const char *name;
        bool is_mpsc; /* takes several producers at once; those of one socket each do not count */
        bool is_ours;
        /* NULL when the case can be run, else why not. */
        const char *(*refusal)(const struct bench_case *is);
        /* Before the workers start. NULL or why it failed. */
        const char *(*open)(struct bench_run *run);
        void (*close)(struct bench_run *run); /* may be NULL: the mapping goes anyway */
        void (*produce)(struct bench_worker *worker);
        void (*consume)(struct bench_worker *worker); /* NULL: the consumer is elsewhere (--shm) */
};
/* All that can run here, ours first, and what cannot be loaded. */
struct bench_absent {
        const char *ring, *reason;
};
extern const struct bench_peer *bench_peers[];
extern uint32_t bench_peers_count;
extern struct bench_absent bench_absent[];
extern uint32_t bench_absent_count;
/* Before the first use of the four. Never fails: what a module lacks is absent. */
void bench_peers_load(void);

/* Rings whose libraries a machine may lack come in modules (peers.c), each with such a list, NULL behind the last. */
#define BENCH_MODULE_PEERS_MAX 3u
#define BENCH_MODULE_PEERS "bench_module_peers"
#define BENCH_DEFINE_MODULE(...)                                                                           \
        __attribute__((visibility("default"))) extern const struct bench_peer *const bench_module_peers[]; \
        const struct bench_peer *const bench_module_peers[] = {__VA_ARGS__, NULL}

/* The first word of every record. */
#define BENCH_WANTS_ANSWER 0x100u
#define BENCH_LAST 0x200u
static inline uint64_t bench_word(uint32_t producer, uint64_t number, uint32_t flags)
{
        return number << 16 | flags | producer;
}
static inline uint32_t bench_word_producer(uint64_t word)
{
        return (uint32_t)word & 0xff;
}
static inline uint64_t bench_word_number(uint64_t word)
{
        return word >> 16;
}

/* ---- machine.c ---- */

static inline uint64_t bench_ticks(void)
{
#if defined(__x86_64__)
        return __builtin_ia32_rdtsc();
#else
#error "a clock that costs a few nanoseconds and is the same on all processors is needed"
#endif
}
double bench_measure_ns_per_tick(void);
void bench_pin(int processor);
bool bench_choose_processors(int processors[2]);
/* Nanoseconds of one line there and back between the two processors, and of one copy. */
double bench_floor_line_ns(const struct bench_options *options);
/* What the slower of both processors takes for work that fills a core. More at one time than at another: the core's
 * other thread, which may be another machine's, has work too. A line's way shows nothing of that, a ring's round trip
 * does. */
double bench_work_ns(const struct bench_options *options);
/* Its two sides, for those who are not threads of one process: `words` are BENCH_FLOOR_LINES zeroed pages. */
#define BENCH_FLOOR_LINES 16u
uint64_t bench_floor_rounds(const struct bench_options *options);
void bench_floor_call(_Atomic(uint64_t) *words, uint64_t rounds, double ns_per_tick, struct ivg_histogram *groups_ns);
void bench_floor_answer(_Atomic(uint64_t) *words, uint64_t rounds);
double bench_floor_memcpy_ns(const struct bench_options *options, uint32_t bytes);
double bench_group_percentile_ns(const struct ivg_histogram *groups_ns, double percent);

/* ---- run.c ---- */

struct bench_figures {
        double rtt_p50_ns, rtt_p99_ns, floor_rtt_p50_ns, records_per_s;
        uint64_t doorbells;
};
/* Ends the bench, with words, when a ring loses records or a run does not end. */
struct bench_case_result {
        struct bench_case is;
        struct bench_figures median;
        uint32_t runs, rejected;
        const char *refusal;             /* not NULL: it was not run */
        struct ivg_histogram *rounds_ns; /* of all accepted runs */
};
void bench_measure(const struct bench_options *options, const struct bench_case *is, struct bench_case_result *result);

/* ---- report.c ---- */

const char *bench_mode_name(const struct bench_case *is, char name[64]);
/* With a line for each ring that is absent here. */
void bench_table_head(void);
void bench_table_row(const struct bench_case_result *result);
int bench_write_json(const char *path, const struct bench_case_result *results, uint32_t count);
/* One file for all: "ring mode producers payload percent nanoseconds" a line, for the plots. */
int bench_write_distributions(const char *path, const struct bench_case_result *results, uint32_t count);

/* ---- sleeps.c, bars.c ---- */

/* Lets the consumer sleep `sleeps` times. Returns how many wake-ups were lost; the rest through the pointers. */
uint64_t bench_count_lost_wakeups(const struct bench_options *options, uint64_t sleeps, uint64_t *doorbells,
                                  double *seconds);
/* Measures what the ring is held to and says so. 0 when all hold. */
int bench_check_bars(const struct bench_options *options, uint64_t sleeps);

/* The consumer's part in every record. Branches, for they are foreseen: what is stored here stands before the answer.
 * True: the producer waits for an answer. */
static inline bool bench_note(struct bench_worker *worker, uint64_t word)
{
        const uint32_t producer = bench_word_producer(word);

        if (producer >= worker->run->is.producers || bench_word_number(word) != ++worker->expected[producer])
                bench_die("%s: record lost, doubled or out of order: producer %u, number %llu, expected %llu",
                          worker->run->is.peer->name, producer, (unsigned long long)bench_word_number(word),
                          producer < BENCH_PRODUCERS_MAX ? (unsigned long long)worker->expected[producer] : 0ull);
        worker->received++;
        if (word & BENCH_LAST)
                worker->ended++;
        if (!(word & BENCH_WANTS_ANSWER))
                return false;
        worker->answered++;
        return true;
}

#endif
