/* The histogram against exact models: sorted values, and the bucket layout worked out by counting it up. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "ivgpu/histogram.h"
#include <cmocka.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define VALUES 20000u

static struct ivg_histogram a, b, both;

static void empty_all(void)
{
        ivg_histogram_clear(&a);
        ivg_histogram_clear(&b);
        ivg_histogram_clear(&both);
}

static uint64_t next_random(uint64_t *state)
{
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        return *state;
}

static int compare(const void *x, const void *y)
{
        const uint64_t p = *(const uint64_t *)x, q = *(const uint64_t *)y;

        return p < q ? -1 : p > q;
}

/* As the layout is told in words: single values to 255, then 128 buckets for each power of two. */
static void buckets_follow_one_another(void **state)
{
        uint64_t lowest = 0, width = 1;

        (void)state;
        for (uint32_t bucket = 0; bucket < IVG_HISTOGRAM_BUCKETS; bucket++) {
                const uint64_t highest = lowest + width - 1;

                assert_int_equal(ivg_histogram_bucket_lowest(bucket), lowest);
                assert_int_equal(ivg_histogram_bucket_highest(bucket), highest);
                assert_int_equal(ivg_histogram_bucket(lowest), bucket);
                assert_int_equal(ivg_histogram_bucket(highest), bucket);
                assert_true((highest - lowest) * 128 <= lowest);
                lowest += width;
                if (bucket >= 255 && (bucket + 1) % 128 == 0)
                        width *= 2;
        }
        assert_int_equal(lowest, IVG_HISTOGRAM_VALUE_MAX + 1);
}

static uint64_t exact_percentile(const uint64_t *sorted, uint32_t count, double percent)
{
        const double rank = ceil((double)count * percent / 100.0);

        return sorted[rank < 1 ? 0 : (uint32_t)rank - 1];
}

static void percentiles_lie_within_one_part_in_128(void **state)
{
        static const double percents[] = {0, 0.01, 1, 10, 50, 90, 99, 99.9, 99.99, 100};
        static uint64_t values[VALUES];
        uint64_t random = 88172645463325252u;

        (void)state;
        for (uint32_t bits = 1; bits <= IVG_HISTOGRAM_VALUE_BITS; bits++) { /* narrow and wide distributions */
                double sum = 0;

                empty_all();
                for (uint32_t i = 0; i < VALUES; i++) {
                        const uint64_t wide = next_random(&random) & ((UINT64_C(1) << bits) - 1);

                        values[i] = wide >> next_random(&random) % bits;
                        sum += (double)values[i];
                        ivg_histogram_record(&a, values[i]);
                }
                qsort(values, VALUES, sizeof(values[0]), compare);
                assert_int_equal(ivg_histogram_count(&a), VALUES);
                assert_true(fabs(ivg_histogram_mean(&a) - sum / VALUES) <= sum / VALUES * 1e-9);
                for (size_t p = 0; p < sizeof(percents) / sizeof(percents[0]); p++) {
                        const uint64_t exact = exact_percentile(values, VALUES, percents[p]);
                        const uint64_t told = ivg_histogram_percentile(&a, percents[p]);

                        assert_true(told >= exact && (told - exact) * 128 <= exact);
                }
                assert_int_equal(ivg_histogram_percentile(&a, 100), values[VALUES - 1]);
                assert_int_equal(ivg_histogram_percentile(&a, 200), values[VALUES - 1]);
                assert_int_equal(ivg_histogram_percentile(&a, -1), ivg_histogram_percentile(&a, 0));
                assert_int_equal(ivg_load_relaxed_u64(&a.saturated), 0);
        }
}

static void merging_is_recording_both(void **state)
{
        uint64_t random = 1181783497276652981u;

        (void)state;
        empty_all();
        for (uint32_t i = 0; i < VALUES; i++) {
                const uint64_t value = next_random(&random) >> (20 + next_random(&random) % 40);
                const uint64_t times = 1 + next_random(&random) % 4;

                ivg_histogram_record_many(i % 3 == 0 ? &a : &b, value, times);
                for (uint64_t time = 0; time < times; time++)
                        ivg_histogram_record(&both, value);
        }
        assert_memory_not_equal(&a, &both, sizeof(a));
        ivg_histogram_merge(&a, &b);
        assert_memory_equal(&a, &both, sizeof(a));
}

static void what_is_too_large_is_counted(void **state)
{
        (void)state;
        empty_all();
        assert_int_equal(ivg_histogram_percentile(&a, 50), 0);
        assert_true(ivg_histogram_mean(&a) == 0);
        ivg_histogram_record(&a, IVG_HISTOGRAM_VALUE_MAX);
        assert_int_equal(ivg_load_relaxed_u64(&a.saturated), 0);
        ivg_histogram_record_many(&a, IVG_HISTOGRAM_VALUE_MAX + 1, 3);
        ivg_histogram_record(&a, UINT64_MAX);
        ivg_histogram_record(&a, 7);
        assert_int_equal(ivg_load_relaxed_u64(&a.saturated), 4);
        assert_int_equal(ivg_histogram_count(&a), 6);
        assert_int_equal(ivg_histogram_percentile(&a, 99), IVG_HISTOGRAM_VALUE_MAX);
        assert_int_equal(ivg_histogram_percentile(&a, 0), 7);
        assert_int_equal(ivg_load_relaxed_u64(&a.value_max), UINT64_MAX);
}

/* What a hostile writer leaves is nonsense and nothing worse: sanitizers watch. */
static void any_bytes_are_a_histogram(void **state)
{
        (void)state;
        memset((void *)&a, 0xff, sizeof(a));
        assert_true(ivg_histogram_percentile(&a, 50) <= IVG_HISTOGRAM_VALUE_MAX);
        (void)ivg_histogram_mean(&a);
        ivg_histogram_clear(&b);
        ivg_histogram_merge(&b, &a);
        assert_memory_equal(a.counts, b.counts, sizeof(a.counts));
}

#define SHARED_VALUES 400000u
static void *record_all(void *unused)
{
        (void)unused;
        for (uint32_t i = 1; i <= SHARED_VALUES; i++)
                ivg_histogram_record(&a, 1000 + i % 1000);
        return NULL;
}

static void readers_beside_the_writer_lose_nothing(void **state)
{
        pthread_t writer;
        uint64_t before = 0;

        (void)state;
        empty_all();
        assert_int_equal(pthread_create(&writer, NULL, record_all, NULL), 0);
        while (before != SHARED_VALUES) {
                uint64_t count, median;

                ivg_histogram_clear(&b);
                ivg_histogram_merge(&b, &a);
                count = ivg_histogram_count(&b);
                assert_in_range(count, before, SHARED_VALUES);
                median = ivg_histogram_percentile(&a, 50);
                if (count != 0)
                        assert_in_range(median, 1000, 2007);
                before = count;
        }
        pthread_join(writer, NULL);
        assert_int_equal(ivg_histogram_percentile(&b, 100), 1999);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(buckets_follow_one_another), cmocka_unit_test(percentiles_lie_within_one_part_in_128),
                cmocka_unit_test(merging_is_recording_both),  cmocka_unit_test(what_is_too_large_is_counted),
                cmocka_unit_test(any_bytes_are_a_histogram),  cmocka_unit_test(readers_beside_the_writer_lose_nothing),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
