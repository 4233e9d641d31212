/* A distribution of unsigned values (nanoseconds, bytes, ...) in a fixed array of counters: HdrHistogram's bucket
 * layout with two significant digits.
 *
 * Values below 256 are counted exactly. Above, each power of two is divided into 128 equal buckets, so that a value is
 * known to 1/128 (0.8 %) of itself, whatever its size. Values of 2^40 and more (18 minutes, if they are nanoseconds)
 * are counted in the last bucket and in `saturated`.
 *
 * One writer, any number of readers, no lock: a histogram may lie in memory shared between processes, one records,
 * others read without stopping it. All zero is an empty histogram; any bytes at all are a histogram, so that a reader
 * need not trust the writer: what it gets may be nonsense, never an access out of bounds. No pointer, no allocation, no
 * system call. */
#ifndef IVGPU_HISTOGRAM_H
#define IVGPU_HISTOGRAM_H

#include "ivgpu/atomics.h"

#ifdef __cplusplus
extern "C" {
#endif

#define IVG_HISTOGRAM_HALF_BITS 7u /* 128 buckets for each power of two */
#define IVG_HISTOGRAM_VALUE_BITS 40u
#define IVG_HISTOGRAM_VALUE_MAX ((UINT64_C(1) << IVG_HISTOGRAM_VALUE_BITS) - 1)
#define IVG_HISTOGRAM_BUCKETS ((IVG_HISTOGRAM_VALUE_BITS - IVG_HISTOGRAM_HALF_BITS + 1) << IVG_HISTOGRAM_HALF_BITS)

struct ivg_histogram {
        _Atomic(uint64_t) sum;         /* of all values as given; modulo 2^64 */
        _Atomic(uint64_t) value_max;   /* as given; 0 while empty */
        _Atomic(uint64_t) saturated;   /* values above IVG_HISTOGRAM_VALUE_MAX */
        _Atomic(uint64_t) reserved[5]; /* the counters start a line */
        _Atomic(uint64_t) counts[IVG_HISTOGRAM_BUCKETS];
};

_Static_assert(IVG_HISTOGRAM_BUCKETS == 4352, "the layout is shared between processes");
_Static_assert(sizeof(struct ivg_histogram) == 64 + 4352 * 8, "the layout is shared between processes");

/* The bucket of a value, at most IVG_HISTOGRAM_VALUE_MAX, and the values that a bucket stands for. */
static inline uint32_t ivg_histogram_bucket(uint64_t value)
{
        const uint64_t two_halves = (UINT64_C(2) << IVG_HISTOGRAM_HALF_BITS) - 1;
        const uint32_t shift = 63u - (uint32_t)__builtin_clzll(value | two_halves) - IVG_HISTOGRAM_HALF_BITS;

        /* value >> shift lies in [128, 256), below 256 in [0, 256). */
        return (shift << IVG_HISTOGRAM_HALF_BITS) + (uint32_t)(value >> shift);
}
uint64_t ivg_histogram_bucket_lowest(uint32_t bucket);
uint64_t ivg_histogram_bucket_highest(uint32_t bucket);

/* Counts `value` `times` times (at least once). Callers: the one writer. Cost: three words, two lines; wait-free. */
static inline void ivg_histogram_record_many(struct ivg_histogram *histogram, uint64_t value, uint64_t times)
{
        const uint64_t counted = value <= IVG_HISTOGRAM_VALUE_MAX ? value : IVG_HISTOGRAM_VALUE_MAX;
        _Atomic(uint64_t) *count = &histogram->counts[ivg_histogram_bucket(counted)];

        /* Relaxed throughout, load and store in place of a locked addition: there is one writer, and a reader takes
         * each word as it finds it; no word tells of another. */
        ivg_store_relaxed_u64(count, ivg_load_relaxed_u64(count) + times);
        ivg_store_relaxed_u64(&histogram->sum, ivg_load_relaxed_u64(&histogram->sum) + value * times);
        if (value > ivg_load_relaxed_u64(&histogram->value_max))
                ivg_store_relaxed_u64(&histogram->value_max, value);
        if (value != counted)
                ivg_store_relaxed_u64(&histogram->saturated, ivg_load_relaxed_u64(&histogram->saturated) + times);
}
static inline void ivg_histogram_record(struct ivg_histogram *histogram, uint64_t value)
{
        ivg_histogram_record_many(histogram, value, 1);
}

/* Empties it. Callers: the one writer, or anyone while there is none. */
void ivg_histogram_clear(struct ivg_histogram *histogram);
/* Adds all of `from`, which may be written meanwhile, to `to`, whose writer the caller is. A copy to ask several things
 * of is made this way, from an empty one. */
void ivg_histogram_merge(struct ivg_histogram *to, const struct ivg_histogram *from);

/* Questions. Any thread or process, also while the writer records: a value recorded meanwhile is counted or not. To
 * relate several answers, ask a copy. */
uint64_t ivg_histogram_count(const struct ivg_histogram *histogram);
/* The smallest value that at least `percent` of the values do not exceed: the highest value of its bucket, not above
 * the largest given. 0 when empty. `percent` beyond 0..100 counts as the nearer end; 0 asks for the smallest. */
uint64_t ivg_histogram_percentile(const struct ivg_histogram *histogram, double percent);
double ivg_histogram_mean(const struct ivg_histogram *histogram); /* exact but for rounding; 0 when empty */

#ifdef __cplusplus
}
#endif

#endif
