#include "ivgpu/histogram.h"

#define HALF (1u << IVG_HISTOGRAM_HALF_BITS)

static uint32_t shift_of(uint32_t bucket)
{
        return bucket < 2 * HALF ? 0 : (bucket >> IVG_HISTOGRAM_HALF_BITS) - 1;
}

uint64_t ivg_histogram_bucket_lowest(uint32_t bucket)
{
        const uint32_t shift = shift_of(bucket);

        return (uint64_t)(bucket - (shift << IVG_HISTOGRAM_HALF_BITS)) << shift;
}

uint64_t ivg_histogram_bucket_highest(uint32_t bucket)
{
        return ivg_histogram_bucket_lowest(bucket) + (UINT64_C(1) << shift_of(bucket)) - 1;
}

/* Relaxed here and below as in the header: each word stands for itself. */
static void add(_Atomic(uint64_t) *to, const _Atomic(uint64_t) *from)
{
        const uint64_t more = ivg_load_relaxed_u64(from);

        if (more != 0)
                ivg_store_relaxed_u64(to, ivg_load_relaxed_u64(to) + more);
}

void ivg_histogram_clear(struct ivg_histogram *histogram)
{
        ivg_store_relaxed_u64(&histogram->sum, 0);
        ivg_store_relaxed_u64(&histogram->value_max, 0);
        ivg_store_relaxed_u64(&histogram->saturated, 0);
        for (uint32_t bucket = 0; bucket < IVG_HISTOGRAM_BUCKETS; bucket++)
                ivg_store_relaxed_u64(&histogram->counts[bucket], 0);
}

void ivg_histogram_merge(struct ivg_histogram *to, const struct ivg_histogram *from)
{
        const uint64_t value_max = ivg_load_relaxed_u64(&from->value_max);

        add(&to->sum, &from->sum);
        add(&to->saturated, &from->saturated);
        if (value_max > ivg_load_relaxed_u64(&to->value_max))
                ivg_store_relaxed_u64(&to->value_max, value_max);
        for (uint32_t bucket = 0; bucket < IVG_HISTOGRAM_BUCKETS; bucket++)
                add(&to->counts[bucket], &from->counts[bucket]);
}

uint64_t ivg_histogram_count(const struct ivg_histogram *histogram)
{
        uint64_t count = 0;

        for (uint32_t bucket = 0; bucket < IVG_HISTOGRAM_BUCKETS; bucket++)
                count += ivg_load_relaxed_u64(&histogram->counts[bucket]);
        return count;
}

/* How many values, of `count`, must not exceed the answer: at least one. */
static uint64_t rank_of(uint64_t count, double percent)
{
        const double share = (double)count * percent / 100.0;
        uint64_t rank;

        if (!(percent > 0)) /* also not a number */
                return 1;
        if (percent >= 100 || share >= (double)count)
                return count;
        rank = (uint64_t)share;
        if ((double)rank < share)
                rank++;
        return rank != 0 ? rank : 1;
}

uint64_t ivg_histogram_percentile(const struct ivg_histogram *histogram, double percent)
{
        const uint64_t count = ivg_histogram_count(histogram);
        const uint64_t rank = rank_of(count, percent);
        uint64_t value_max, seen = 0;

        if (count == 0)
                return 0;
        for (uint32_t bucket = 0; bucket < IVG_HISTOGRAM_BUCKETS; bucket++) {
                seen += ivg_load_relaxed_u64(&histogram->counts[bucket]);
                if (seen >= rank) {
                        const uint64_t highest = ivg_histogram_bucket_highest(bucket);

                        value_max = ivg_load_relaxed_u64(&histogram->value_max);
                        /* A reader between the writer's two stores sees the count before the largest. */
                        return value_max < highest && value_max >= ivg_histogram_bucket_lowest(bucket) ? value_max
                                                                                                       : highest;
                }
        }
        return ivg_load_relaxed_u64(&histogram->value_max); /* emptied meanwhile */
}

double ivg_histogram_mean(const struct ivg_histogram *histogram)
{
        const uint64_t count = ivg_histogram_count(histogram);

        return count == 0 ? 0 : (double)ivg_load_relaxed_u64(&histogram->sum) / (double)count;
}
