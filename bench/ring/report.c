/* What was measured: as a table, as JSON, and as distributions for the plots. */
#include "bench.h"
#include <errno.h>
#include <stdio.h>

const char *bench_mode_name(const struct bench_case *is, char name[64])
{
        snprintf(name, 64, "%s-%s-%s",
                 !is->peer->consume ? "guest"
                 : is->processes    ? "processes"
                                    : "threads",
                 is->sleeping ? "sleeping" : "polled", is->pinned ? "pinned" : "floating");
        return name;
}

void bench_table_head(void)
{
        printf("%-17s %-26s %3s %6s | %9s %9s %8s %6s | %10s | %9s | %s\n", "ring", "mode", "n", "bytes", "rtt p50",
               "p99", "floor", "ratio", "records", "doorbells", "runs (rejected)");
        printf("%-17s %-26s %3s %6s | %9s %9s %8s %6s | %10s | %9s |\n", "", "", "", "", "ns", "ns", "ns", "", "1/s",
               "");
        for (uint32_t i = 0; i < bench_absent_count; i++)
                printf("%-17s absent: %s\n", bench_absent[i].ring, bench_absent[i].reason);
}

void bench_table_row(const struct bench_case_result *result)
{
        const struct bench_figures *figures = &result->median;
        char mode[64];

        printf("%-17s %-26s %3u %6u | ", result->is.peer->name, bench_mode_name(&result->is, mode),
               result->is.producers, result->is.payload_bytes);
        if (result->refusal)
                printf("not run: %s\n", result->refusal);
        else
                printf("%9.0f %9.0f %8.1f %6.2f | %10.0f | %9llu | %u (%u)\n", figures->rtt_p50_ns, figures->rtt_p99_ns,
                       figures->floor_rtt_p50_ns, figures->rtt_p50_ns / figures->floor_rtt_p50_ns,
                       figures->records_per_s, (unsigned long long)figures->doorbells, result->runs, result->rejected);
        fflush(stdout);
}

static int close_file(FILE *file)
{
        const bool failed = ferror(file) != 0;

        return fclose(file) != 0 || failed ? -EIO : 0;
}

int bench_write_json(const char *path, const struct bench_case_result *results, uint32_t count)
{
        FILE *file = fopen(path, "we");
        const char *separator = "";
        char mode[64];

        if (!file)
                return -errno;
        fputs("{\"results\":[", file);
        for (uint32_t i = 0; i < count; i++) {
                const struct bench_figures *figures = &results[i].median;

                if (results[i].refusal)
                        continue;
                fprintf(file,
                        "%s\n{\"ring\":\"%s\",\"mode\":\"%s\",\"producers\":%u,\"payload_bytes\":%u,"
                        "\"rtt_p50_ns\":%.1f,\"rtt_p99_ns\":%.1f,\"floor_rtt_p50_ns\":%.1f,\"records_per_s\":%.0f,"
                        "\"doorbells\":%llu}",
                        separator, results[i].is.peer->name, bench_mode_name(&results[i].is, mode),
                        results[i].is.producers, results[i].is.payload_bytes, figures->rtt_p50_ns, figures->rtt_p99_ns,
                        figures->floor_rtt_p50_ns, figures->records_per_s, (unsigned long long)figures->doorbells);
                separator = ",";
        }
        fputs("\n],\n\"absent\":[", file);
        for (uint32_t i = 0; i < bench_absent_count; i++)
                fprintf(file, "%s\n{\"ring\":\"%s\",\"reason\":\"%s\"}", i == 0 ? "" : ",", bench_absent[i].ring,
                        bench_absent[i].reason);
        fputs("\n]}\n", file);
        return close_file(file);
}

int bench_write_distributions(const char *path, const struct bench_case_result *results, uint32_t count)
{
        FILE *file = fopen(path, "we");
        char mode[64];

        if (!file)
                return -errno;
        fputs("ring,mode,producers,payload_bytes,percent,ns\n", file);
        for (uint32_t i = 0; i < count; i++) {
                double beyond = 100;

                /* Half of what is left beyond the last percentile, as HdrHistogram's percentile plots. */
                while (!results[i].refusal && beyond > 0.0005) {
                        fprintf(file, "%s,%s,%u,%u,%.6f,%llu\n", results[i].is.peer->name,
                                bench_mode_name(&results[i].is, mode), results[i].is.producers,
                                results[i].is.payload_bytes, 100 - beyond,
                                (unsigned long long)ivg_histogram_percentile(results[i].rounds_ns, 100 - beyond));
                        beyond /= 1.4142135623730951;
                }
        }
        return close_file(file);
}
