/* What the ring is held to, on any machine with two processors, measured in one run. */
#include "bench.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define RTT_OVER_FLOOR_MAX 1.3
#define RECORDS_PER_S_MIN 10e6
#define SHARED_PROCESSOR_MIN 0.5 /* two producers on one processor, of one's rate */
#define PAYLOAD_BYTES 56u
/* The round trip is that of so many runs, each over the floor beside it. */
#define RUNS 15u
/* Two rings are compared by runs in pairs, one right after the other, of which those count that found the processors
 * equally far apart. */
#define PAIRS 15u
#define PAIRS_TRIED_MAX 60u
#define REJECTED_MAX 60u
#define FLOORS_ALIKE 1.25
#define WORK_ALONE 1.1

static int missed;

static void bar(bool holds, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void bar(bool holds, const char *format, ...)
{
        va_list arguments;

        printf("%s  ", holds ? "held  " : "MISSED");
        va_start(arguments, format);
        vprintf(format, arguments);
        va_end(arguments);
        printf("\n");
        fflush(stdout);
        missed += !holds;
}

static void measure(const struct bench_options *options, const struct bench_peer *peer, uint32_t producers,
                    struct bench_case_result *result)
{
        const struct bench_case is = {
                .peer = peer, .pinned = true, .producers = producers, .payload_bytes = PAYLOAD_BYTES};

        bench_measure(options, &is, result);
        bench_table_row(result);
}

/* One run, which is repeated where the machine changed under it; result->refusal when it did so each time. */
static void run_now(const struct bench_options *options, const struct bench_peer *peer,
                    struct bench_case_result *result)
{
        const struct bench_case is = {.peer = peer, .pinned = true, .producers = 1, .payload_bytes = PAYLOAD_BYTES};
        struct bench_options once = *options;

        once.passes = 1;
        bench_measure(&once, &is, result);
        free(result->rounds_ns);
}

/* Beside the verdict, which it does not change: whether the processors were whole ones. */
static void tell_neighbours(const double *works_ns, const double *ratios)
{
        double alone[RUNS], least_ns = works_ns[0];
        uint32_t count = 0;

        for (uint32_t i = 1; i < RUNS; i++)
                least_ns = works_ns[i] < least_ns ? works_ns[i] : least_ns;
        for (uint32_t i = 0; i < RUNS; i++)
                if (works_ns[i] <= WORK_ALONE * least_ns)
                        alone[count++] = ratios[i];
        qsort(alone, count, sizeof(alone[0]), bench_compare_double);
        printf("        work that fills a core took more than %.1f x the least of the runs behind %u of them (the "
               "core's other "
               "thread had work too); round trip of the others: %.2f x floor\n",
               WORK_ALONE, RUNS - count, alone[count / 2]);
}

static void check_round_trip(const struct bench_options *options, const struct bench_peer *ours)
{
        double ratios[RUNS], floors_ns[RUNS], round_trips_ns[RUNS], works_ns[RUNS];
        uint32_t runs = 0, rejected = 0;

        while (runs < RUNS && rejected < REJECTED_MAX) {
                struct bench_case_result now;

                run_now(options, ours, &now);
                rejected += now.rejected;
                if (now.refusal && now.rejected == 0)
                        bench_die("ours was not measured: %s", now.refusal);
                if (now.refusal)
                        continue;
                floors_ns[runs] = now.median.floor_rtt_p50_ns;
                round_trips_ns[runs] = now.median.rtt_p50_ns;
                ratios[runs] = round_trips_ns[runs] / floors_ns[runs];
                works_ns[runs] = bench_work_ns(options);
                runs++;
        }
        if (runs < RUNS) {
                bar(false, "round trip: the processors moved in %u of %u runs", rejected, rejected + runs);
                return;
        }
        printf("        round trips over floors, ns:");
        for (uint32_t i = 0; i < RUNS; i++)
                printf(" %.0f/%.0f", round_trips_ns[i], floors_ns[i]);
        printf("\n");
        tell_neighbours(works_ns, ratios);
        qsort(ratios, RUNS, sizeof(ratios[0]), bench_compare_double);
        bar(ratios[RUNS / 2] <= RTT_OVER_FLOOR_MAX,
            "round trip %.2f x floor (%.2f to %.2f in %u runs, %u more rejected; at most %.1f)", ratios[RUNS / 2],
            ratios[0], ratios[RUNS - 1], RUNS, rejected, RTT_OVER_FLOOR_MAX);
}

static void compare(const struct bench_options *options, const struct bench_peer *ours, const struct bench_peer *peer)
{
        const struct bench_peer *const both[2] = {ours, peer};
        double ratios[PAIRS];
        uint32_t pairs = 0, tried = 0;

        for (; pairs < PAIRS && tried < PAIRS_TRIED_MAX; tried++) {
                struct bench_figures now[2];

                for (uint32_t i = 0; i < 2; i++) {
                        const uint32_t which = (tried + i) % 2; /* each is first in turn */
                        struct bench_case_result result;

                        run_now(options, both[which], &result);
                        now[which] = result.median; /* zeros where it was refused */
                }
                if (now[0].floor_rtt_p50_ns > 0 && now[1].floor_rtt_p50_ns > 0 &&
                    now[0].floor_rtt_p50_ns <= FLOORS_ALIKE * now[1].floor_rtt_p50_ns &&
                    now[1].floor_rtt_p50_ns <= FLOORS_ALIKE * now[0].floor_rtt_p50_ns)
                        ratios[pairs++] = now[0].records_per_s / now[1].records_per_s;
        }
        qsort(ratios, pairs, sizeof(ratios[0]), bench_compare_double);
        if (pairs < PAIRS)
                bar(false, "one producer, beside %s: the processors moved in %u of %u pairs", peer->name, tried - pairs,
                    tried);
        else
                bar(ratios[PAIRS / 2] >= 1, "one producer: %.2f x %s (%.2f to %.2f in %u pairs)", ratios[PAIRS / 2],
                    peer->name, ratios[0], ratios[PAIRS - 1], PAIRS);
}

static void check_peers(const struct bench_options *options, const struct bench_case_result *one,
                        const struct bench_case_result *two, uint32_t count)
{
        for (uint32_t i = 1; i < count; i++)
                if (bench_peers[i]->is_mpsc && !one[i].refusal)
                        compare(options, bench_peers[0], bench_peers[i]);
        for (uint32_t i = 0; i < bench_absent_count; i++)
                printf("        not compared with %s\n", bench_absent[i].ring);
        for (uint32_t i = 0; i < count; i++)
                if (bench_peers[i]->is_mpsc && !one[i].refusal && !two[i].refusal)
                        printf("        two producers on one processor: %s %.2f of one's rate\n", bench_peers[i]->name,
                               two[i].median.records_per_s / one[i].median.records_per_s);
}

int bench_check_bars(const struct bench_options *options, uint64_t sleeps)
{
        struct bench_case_result *one = calloc(2 * (size_t)bench_peers_count, sizeof(*one)),
                                 *two = one + bench_peers_count;
        uint64_t doorbells, lost;
        double seconds;

        if (!one)
                bench_die("out of memory");
        bench_table_head();
        for (uint32_t i = 0; i < bench_peers_count; i++)
                if (bench_peers[i]->is_mpsc) {
                        measure(options, bench_peers[i], 1, &one[i]);
                        measure(options, bench_peers[i], 2, &two[i]);
                }
        if (one[0].refusal || two[0].refusal)
                bench_die("ours was not measured: %s", one[0].refusal ? one[0].refusal : two[0].refusal);

        check_round_trip(options, bench_peers[0]);
        bar(one[0].median.records_per_s >= RECORDS_PER_S_MIN,
            "one producer: %.1f M records/s of %u bytes (at least %.0f)", one[0].median.records_per_s / 1e6,
            PAYLOAD_BYTES, RECORDS_PER_S_MIN / 1e6);
        bar(two[0].median.records_per_s >= SHARED_PROCESSOR_MIN * one[0].median.records_per_s,
            "two producers on one processor: %.2f of one's rate (at least %.1f)",
            two[0].median.records_per_s / one[0].median.records_per_s, SHARED_PROCESSOR_MIN);
        check_peers(options, one, two, bench_peers_count);
        bar(one[0].median.doorbells + two[0].median.doorbells == 0, "doorbells while the consumer is awake: %llu",
            (unsigned long long)(one[0].median.doorbells + two[0].median.doorbells));
        lost = bench_count_lost_wakeups(options, sleeps, &doorbells, &seconds);
        bar(lost == 0, "lost wake-ups in %llu sleeps: %llu (%llu doorbells, %.1f s)", (unsigned long long)sleeps,
            (unsigned long long)lost, (unsigned long long)doorbells, seconds);
        for (uint32_t i = 0; i < 2 * bench_peers_count; i++)
                free(one[i].rounds_ns);
        free(one);
        return missed != 0;
}
