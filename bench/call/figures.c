/* How figures are taken, kept and told. */
#include "bench.h"
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define FIGURES_MAX 1024u
#define DISTRIBUTIONS_MAX 64u
#define NAME_BYTES 64u
/* A pass of one cost ends at whichever comes first. */
#define PASS_NS 4e6
#define PASS_CALLS_MAX 200000u
#define PASS_SETTLED_CALLS_MAX 8192u /* a settled call costs the device's time as well */
#define TRIP_ROUNDS_MAX 2000u
#define TRIP_NS_MAX 120e6
#define TRIP_ROUNDS_AFTER_PAUSE 15u
#define TRIP_WARMUP_ROUNDS 3u

static const double percents[] = {1, 5, 10, 25, 50, 75, 90, 95, 99, 99.9, 100};
#define PERCENTS (sizeof(percents) / sizeof(percents[0]))

struct figure {
        char name[NAME_BYTES];
        char unit[8];
        double value, least, most;
};
struct distribution {
        char name[NAME_BYTES];
        double ns[PERCENTS];
};
struct skipped {
        char name[NAME_BYTES];
        char why[96];
};

static struct figure figures[FIGURES_MAX];
static struct distribution distributions[DISTRIBUTIONS_MAX];
static struct skipped skipped[FIGURES_MAX];
static uint32_t figures_kept, distributions_kept, skipped_kept;

void bench_require(CUresult result, const char *call, const char *file, int line)
{
        const char *name = NULL;

        if (result == CUDA_SUCCESS)
                return;
        (void)cuGetErrorName(result, &name);
        bench_die("%s:%d: %s answered %d (%s)", file, line, call, (int)result, name ? name : "no name");
}

bool bench_wants(const struct bench *bench, const char *name)
{
        return !bench->only || strncmp(name, bench->only, strlen(bench->only)) == 0;
}

/* ---- kept ---- */

static void keep(const char *name, const char *unit, double value, double least, double most)
{
        struct figure *figure = &figures[figures_kept];

        if (figures_kept++ == FIGURES_MAX)
                bench_die("more than %u figures", FIGURES_MAX);
        snprintf(figure->name, sizeof(figure->name), "%s", name);
        snprintf(figure->unit, sizeof(figure->unit), "%s", unit);
        figure->value = value;
        figure->least = least;
        figure->most = most;
        printf("%-40s %12.2f %-5s (%.2f .. %.2f)\n", name, value, unit, least, most);
        fflush(stdout);
}

void figure_add(const char *name, const char *unit, double *passes, uint32_t count)
{
        qsort(passes, count, sizeof(passes[0]), bench_compare_double);
        keep(name, unit, passes[count / 2], passes[0], passes[count - 1]);
}

static double percentile(const double *sorted, uint32_t count, double percent)
{
        const uint32_t index = (uint32_t)((double)count * percent / 100.0);

        return sorted[index < count ? index : count - 1];
}

void distribution_add(const char *name, double *rounds_ns, uint32_t count)
{
        struct distribution *distribution = &distributions[distributions_kept];
        char text[NAME_BYTES + 8];

        if (distributions_kept++ == DISTRIBUTIONS_MAX)
                bench_die("more than %u distributions", DISTRIBUTIONS_MAX);
        qsort(rounds_ns, count, sizeof(rounds_ns[0]), bench_compare_double);
        snprintf(distribution->name, sizeof(distribution->name), "%s", name);
        for (uint32_t i = 0; i < PERCENTS; i++)
                distribution->ns[i] = percentile(rounds_ns, count, percents[i]);
        for (uint32_t tail = 0; tail < 2; tail++) {
                snprintf(text, sizeof(text), "%s_p%s", name, tail ? "99" : "50");
                keep(text, "us", percentile(rounds_ns, count, tail ? 99 : 50) / 1e3, rounds_ns[0] / 1e3,
                     rounds_ns[count - 1] / 1e3);
        }
}

void figure_skip(const char *name, const char *why, CUresult result)
{
        struct skipped *one = &skipped[skipped_kept];

        if (skipped_kept++ == FIGURES_MAX)
                bench_die("more than %u figures", FIGURES_MAX);
        snprintf(one->name, sizeof(one->name), "%s", name);
        snprintf(one->why, sizeof(one->why), "%s answered %d", why, (int)result);
        printf("%-40s not measured: %s\n", one->name, one->why);
}

uint32_t figures_count(void)
{
        return figures_kept;
}

int figures_write_json(const char *path)
{
        FILE *out = fopen(path, "w");

        if (!out)
                return -errno;
        fputs("{\"results\":[", out);
        for (uint32_t i = 0; i < figures_kept; i++)
                fprintf(out, "%s\n{\"name\":\"%s\",\"unit\":\"%s\",\"value\":%.4f,\"least\":%.4f,\"most\":%.4f}",
                        i ? "," : "", figures[i].name, figures[i].unit, figures[i].value, figures[i].least,
                        figures[i].most);
        fputs("],\n\"distributions\":[", out);
        for (uint32_t i = 0; i < distributions_kept; i++) {
                fprintf(out, "%s\n{\"name\":\"%s\",\"unit\":\"ns\",\"percentiles\":[", i ? "," : "",
                        distributions[i].name);
                for (uint32_t p = 0; p < PERCENTS; p++)
                        fprintf(out, "%s[%g,%.1f]", p ? "," : "", percents[p], distributions[i].ns[p]);
                fputs("]}", out);
        }
        fputs("],\n\"not_measured\":[", out);
        for (uint32_t i = 0; i < skipped_kept; i++)
                fprintf(out, "%s\n{\"name\":\"%s\",\"why\":\"%s\"}", i ? "," : "", skipped[i].name, skipped[i].why);
        fputs("]}\n", out);
        if (fclose(out) != 0)
                return -errno;
        return 0;
}

/* ---- taken ---- */

/* The host has done what it was sent, on each of its threads: a call that waits for the earlier ones. Room for the
 * next calls is not what they are to wait for. */
static void settle(void)
{
        CUdeviceptr memory;

        CU(cuCtxSynchronize());
        CU(cuMemAlloc_v2(&memory, 4096));
        CU(cuMemFree_v2(memory));
}

static double cost_pass(struct bench *bench, const struct bench_cost *cost)
{
        const uint32_t calls_max = cost->settles ? PASS_SETTLED_CALLS_MAX : PASS_CALLS_MAX;
        const double end = bench_now_ns() + 20 * PASS_NS; /* settling included */
        double spent = 0;
        uint32_t calls = 0;

        do {
                const double start = bench_now_ns();

                for (uint32_t i = 0; i < cost->burst; i++)
                        cost->call(bench);
                spent += bench_now_ns() - start;
                calls += cost->burst;
                if (cost->settles)
                        settle();
        } while (spent < PASS_NS && calls < calls_max && bench_now_ns() < end);
        return spent / calls;
}

void bench_measure_costs(struct bench *bench, const struct bench_cost *costs, size_t count)
{
        double passes[BENCH_PASSES_MAX];

        for (size_t i = 0; i < count; i++) {
                if (!bench_wants(bench, costs[i].name))
                        continue;
                costs[i].call(bench); /* what is fetched once is there then */
                CU(cuCtxSynchronize());
                for (uint32_t pass = 0; pass < bench->passes; pass++)
                        passes[pass] = cost_pass(bench, &costs[i]);
                figure_add(costs[i].name, "ns", passes, bench->passes);
        }
}

void bench_measure_trips(struct bench *bench, const struct bench_trip *trips, size_t count)
{
        static double rounds_ns[TRIP_ROUNDS_MAX];

        for (size_t i = 0; i < count; i++) {
                const struct bench_trip *trip = &trips[i];
                const struct timespec pause = {.tv_nsec = trip->pause_ms * 1000000l};
                uint32_t rounds_max = trip->pause_ms ? TRIP_ROUNDS_AFTER_PAUSE : TRIP_ROUNDS_MAX, rounds = 0;
                double spent = 0;

                if (!bench_wants(bench, trip->name))
                        continue;
                if (bench->quick)
                        rounds_max = rounds_max > 100 ? 100 : 3;
                for (uint32_t warmup = 0; warmup < TRIP_WARMUP_ROUNDS; warmup++)
                        trip->round(bench);
                CU(cuCtxSynchronize());
                while (rounds < rounds_max && spent < TRIP_NS_MAX) {
                        if (trip->pause_ms)
                                nanosleep(&pause, NULL);
                        const double start = bench_now_ns();

                        trip->round(bench);
                        rounds_ns[rounds] = bench_now_ns() - start;
                        spent += rounds_ns[rounds++];
                }
                distribution_add(trip->name, rounds_ns, rounds);
        }
}
