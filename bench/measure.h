/* What the benchmarks share: a clock, the order of samples, and an end with a reason. */
#ifndef IVG_BENCH_MEASURE_H
#define IVG_BENCH_MEASURE_H

#include <time.h>

static inline double bench_now_ns(void)
{
        struct timespec now;

        clock_gettime(CLOCK_MONOTONIC, &now);
        return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

/* For qsort. */
static inline int bench_compare_double(const void *a, const void *b)
{
        const double x = *(const double *)a, y = *(const double *)b;

        return x < y ? -1 : x > y;
}

/* Ends the program: its name and the reason on stderr, exit status 1. */
_Noreturn void bench_die(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
