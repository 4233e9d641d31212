/* The machine itself: its clock, its processors, and what no ring can be faster than. */
#include "bench.h"
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <time.h>

#define FLOOR_ROUNDS_MAX 20000u /* of one line: a FLOOR_LINES-th */
#define FLOOR_ROUNDS_PER_MS 500u
#define WORK_STEPS 500u
#define WORK_TIMES 1000u           /* about a millisecond */
#define COPY_BYTES_MIN (64u << 20) /* copied for one figure */

double bench_measure_ns_per_tick(void)
{
        const struct timespec pause = {.tv_nsec = 50000000};
        struct timespec begin, end;
        uint64_t ticks;

        clock_gettime(CLOCK_MONOTONIC, &begin);
        ticks = bench_ticks();
        nanosleep(&pause, NULL);
        clock_gettime(CLOCK_MONOTONIC, &end);
        ticks = bench_ticks() - ticks;
        return ((double)(end.tv_sec - begin.tv_sec) * 1e9 + (double)(end.tv_nsec - begin.tv_nsec)) / (double)ticks;
}

void bench_pin(int processor)
{
        cpu_set_t set;

        CPU_ZERO(&set);
        CPU_SET(processor, &set);
        if (sched_setaffinity(0, sizeof(set), &set) != 0)
                bench_die("cannot pin to processor %d", processor);
}

bool bench_choose_processors(int processors[2])
{
        cpu_set_t set;
        int found = 0;

        if (sched_getaffinity(0, sizeof(set), &set) != 0)
                return false;
        for (int i = 0; i < CPU_SETSIZE && found < 2; i++)
                if (CPU_ISSET(i, &set))
                        processors[found++] = i;
        return found == 2;
}

double bench_group_percentile_ns(const struct ivg_histogram *groups_ns, double percent)
{
        return (double)ivg_histogram_percentile(groups_ns, percent) / BENCH_ANSWERED_GROUP;
}

/* One cache line there and back: an exchange and a wait, as a ring does them, and nothing else. Many lines in turn,
 * since how far a line has to go depends on its address, and a ring uses lines of all kinds. */
static _Atomic(uint64_t) *floor_word(_Atomic(uint64_t) *words, uint64_t round, uint64_t rounds)
{
        const uint64_t line = round * BENCH_FLOOR_LINES / (rounds + 1);

        return &words[line * 512 + line * 5 % 64 * 8]; /* another line of each page */
}

uint64_t bench_floor_rounds(const struct bench_options *options)
{
        const uint64_t wanted = options->milliseconds * FLOOR_ROUNDS_PER_MS;

        return wanted < FLOOR_ROUNDS_MAX ? wanted : FLOOR_ROUNDS_MAX;
}

void bench_floor_answer(_Atomic(uint64_t) *words, uint64_t rounds)
{
        for (uint64_t round = 1; round <= rounds; round++) {
                _Atomic(uint64_t) *word = floor_word(words, round, rounds);

                while (ivg_load_acquire_u64(word) != 2 * round - 1)
                        ivg_cpu_relax();
                (void)ivg_exchange_seq_cst_u64(word, 2 * round);
        }
}

void bench_floor_call(_Atomic(uint64_t) *words, uint64_t rounds, double ns_per_tick, struct ivg_histogram *groups_ns)
{
        uint64_t begin = bench_ticks(), now;

        for (uint64_t round = 1; round <= rounds; round++) {
                _Atomic(uint64_t) *word = floor_word(words, round, rounds);

                (void)ivg_exchange_seq_cst_u64(word, 2 * round - 1);
                while (ivg_load_acquire_u64(word) != 2 * round)
                        ivg_cpu_relax();
                now = bench_ticks(); /* in every round, as round trips have it: it may cost 25 ns */
                __asm__ volatile("" : : "r"(now));
                if (round % BENCH_ANSWERED_GROUP == 0) {
                        ivg_histogram_record(groups_ns, (uint64_t)((double)(now - begin) * ns_per_tick + 0.5));
                        begin = now;
                }
        }
}

/* Between two threads of this process. */
struct floor {
        _Alignas(4096) _Atomic(uint64_t) words[BENCH_FLOOR_LINES * 512];
        const struct bench_options *options;
        struct ivg_histogram groups_ns;
};

static void *floor_peer(void *argument)
{
        struct floor *floor = argument;

        bench_pin(floor->options->processors[1]);
        bench_floor_answer(floor->words, bench_floor_rounds(floor->options));
        return NULL;
}

static void *floor_caller(void *argument)
{
        struct floor *floor = argument;

        bench_pin(floor->options->processors[0]);
        bench_floor_call(floor->words, bench_floor_rounds(floor->options), floor->options->ns_per_tick,
                         &floor->groups_ns);
        return NULL;
}

double bench_floor_line_ns(const struct bench_options *options)
{
        static struct floor floor;
        pthread_t caller, peer;

        ivg_histogram_clear(&floor.groups_ns);
        memset((void *)floor.words, 0, sizeof(floor.words)); /* before the threads start */
        floor.options = options;
        if (pthread_create(&peer, NULL, floor_peer, &floor) != 0 ||
            pthread_create(&caller, NULL, floor_caller, &floor) != 0)
                bench_die("no thread for the floor");
        pthread_join(caller, NULL);
        pthread_join(peer, NULL);
        return bench_group_percentile_ns(&floor.groups_ns, 50);
}

/* ---- work that fills a core ---- */

struct work {
        const struct bench_options *options;
        int processor;
        double ns; /* out */
};

static uint64_t work_once(void)
{
        uint64_t a = 1, b = 2, c = 3, d = 4, e = 5, f = 6;
        const uint64_t begin = bench_ticks();

        for (uint32_t i = 0; i < WORK_STEPS; i++) { /* six chains, more than a core does at once */
                a += i, b += i, c += i, d += i, e += i, f += i;
                __asm__ volatile("" : "+r"(a), "+r"(b), "+r"(c), "+r"(d), "+r"(e), "+r"(f)); /* each step is made */
                a ^= i, b ^= i, c ^= i, d ^= i, e ^= i, f ^= i;
                __asm__ volatile("" : "+r"(a), "+r"(b), "+r"(c), "+r"(d), "+r"(e), "+r"(f));
        }
        return bench_ticks() - begin;
}

static void *work_on(void *argument)
{
        struct work *work = argument;
        double taken[WORK_TIMES];

        bench_pin(work->processor);
        for (uint32_t i = 0; i < WORK_TIMES; i++)
                taken[i] = (double)work_once();
        qsort(taken, WORK_TIMES, sizeof(taken[0]), bench_compare_double);
        work->ns = taken[WORK_TIMES / 2] * work->options->ns_per_tick;
        return NULL;
}

double bench_work_ns(const struct bench_options *options)
{
        struct work works[2];
        pthread_t threads[2];

        for (uint32_t i = 0; i < 2; i++) {
                works[i] = (struct work){.options = options, .processor = options->processors[i]};
                if (pthread_create(&threads[i], NULL, work_on, &works[i]) != 0)
                        bench_die("no thread for a processor's work");
        }
        for (uint32_t i = 0; i < 2; i++)
                pthread_join(threads[i], NULL);
        return works[0].ns > works[1].ns ? works[0].ns : works[1].ns;
}

double bench_floor_memcpy_ns(const struct bench_options *options, uint32_t bytes)
{
        uint8_t *from = calloc(2, bytes), *to = from + bytes;
        const uint32_t copies = COPY_BYTES_MIN / bytes / 8 + 1;
        uint64_t begin;

        if (!from)
                bench_die("out of memory");
        for (uint32_t i = 0; i < copies / 8 + 1; i++)
                memcpy(to, from, bytes);
        begin = bench_ticks();
        for (uint32_t i = 0; i < copies; i++) {
                memcpy(to, from, bytes);
                __asm__ volatile("" ::"r"(to) : "memory"); /* each is made */
        }
        begin = bench_ticks() - begin;
        free(from);
        return (double)begin * options->ns_per_tick / copies;
}
