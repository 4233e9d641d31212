/* The table of device memory against a plain model: random additions and removals, then while readers look. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include "exec_internal.h"
#include "rcu.h"
#include <cmocka.h>
#include <errno.h>
#include <string.h>

#define CELLS 2048u /* of 4 KiB each, from BASE on */
#define CELL 4096ull
#define BASE 0x700000000000ull

struct model {
        uint32_t length[CELLS]; /* cells of a range that starts here; 0: none */
        ivg_id context[CELLS];
};

static uint32_t next_random(uint32_t *state)
{
        *state = *state * 1664525u + 1013904223u;
        return *state >> 8;
}

static bool model_free(const struct model *model, uint32_t start, uint32_t length)
{
        for (uint32_t at = 0; at < start + length; at++)
                if (model->length[at] && at + model->length[at] > start)
                        return false;
        return true;
}

static bool model_contains(const struct model *model, uint64_t address, uint64_t bytes)
{
        for (uint32_t at = 0; at < CELLS; at++) {
                const uint64_t start = BASE + at * CELL, length = model->length[at] * CELL;

                if (length && address >= start && address - start < length)
                        return bytes <= length - (address - start);
        }
        return false;
}

static void compare_everywhere(const struct ivg_ranges *ranges, const struct model *model, uint32_t *random)
{
        for (uint32_t i = 0; i < 64; i++) {
                const uint64_t address = BASE + next_random(random) % (CELLS * CELL);
                const uint64_t bytes = next_random(random) % (12 * CELL);

                assert_int_equal(ivg_ranges_contain(ranges, address, bytes), model_contains(model, address, bytes));
        }
}

static void random_changes_agree(void **state)
{
        struct ivg_ranges *ranges = ivg_ranges_create();
        static struct model model;
        uint32_t random = 42, live = 0, peak = 0;

        (void)state;
        memset(&model, 0, sizeof(model));
        for (uint32_t step = 0; step < 20000; step++) {
                const uint32_t start = next_random(&random) % (CELLS - 8), length = 1 + next_random(&random) % 4;

                if (model.length[start] && next_random(&random) % 2) {
                        assert_true(ivg_ranges_remove(ranges, BASE + start * CELL));
                        model.length[start] = 0;
                        live--;
                } else {
                        const bool fits = model_free(&model, start, length);
                        const ivg_id context = 100 + next_random(&random) % 2;

                        assert_int_equal(ivg_ranges_add(ranges, BASE + start * CELL, length * CELL, context),
                                         fits ? 0 : -EEXIST);
                        if (fits) {
                                model.length[start] = length;
                                model.context[start] = context;
                                live++;
                        }
                }
                peak = live > peak ? live : peak;
                if (step % 100 == 0)
                        compare_everywhere(ranges, &model, &random);
        }
        assert_true(peak > 300); /* several leaves */

        ivg_ranges_remove_context(ranges, 100);
        for (uint32_t at = 0; at < CELLS; at++)
                if (model.context[at] == 100)
                        model.length[at] = 0;
        for (uint32_t i = 0; i < 100; i++)
                compare_everywhere(ranges, &model, &random);
        ivg_ranges_remove_context(ranges, 101);
        assert_false(ivg_ranges_contain(ranges, BASE, 1));
        ivg_ranges_destroy(ranges);
}

static void impossible_ranges_are_refused(void **state)
{
        struct ivg_ranges *ranges = ivg_ranges_create();

        (void)state;
        assert_int_equal(ivg_ranges_add(ranges, BASE, 0, 1), -EINVAL);
        assert_int_equal(ivg_ranges_add(ranges, UINT64_MAX - 10, 100, 1), -EINVAL);
        assert_false(ivg_ranges_remove(ranges, BASE));
        assert_int_equal(ivg_ranges_add(ranges, BASE, CELL, 1), 0);
        assert_false(ivg_ranges_contain(ranges, BASE, UINT64_MAX));
        assert_false(ivg_ranges_contain(ranges, BASE + CELL - 1, 2));
        assert_true(ivg_ranges_contain(ranges, BASE + CELL - 1, 1));
        assert_false(ivg_ranges_contain(ranges, BASE + CELL, 0));
        assert_false(ivg_ranges_remove(ranges, BASE + 1));
        assert_true(ivg_ranges_remove(ranges, BASE));
        ivg_ranges_destroy(ranges);
}

/* ---- readers ---- */

struct reader {
        struct ivg_ranges *ranges;
        _Atomic(uint32_t) stop;
        uint32_t wrong, looks;
};

static void *read_steadily(void *argument)
{
        struct reader *reader = argument;

        urcu_memb_register_thread();
        while (!atomic_load(&reader->stop) || reader->looks < 1000) {
                /* The even ranges stay all the time, whatever happens to their neighbours. */
                const uint32_t even = reader->looks++ % 256 * 2;

                reader->wrong += !ivg_ranges_contain(reader->ranges, BASE + even * CELL, CELL);
                reader->wrong += ivg_ranges_contain(reader->ranges, BASE + even * CELL, CELL + 1);
        }
        urcu_memb_unregister_thread();
        return NULL;
}

static void readers_always_see_what_stays(void **state)
{
        struct reader reader = {.ranges = ivg_ranges_create()};
        pthread_t thread;

        (void)state;
        for (uint32_t even = 0; even < 512; even += 2)
                assert_int_equal(ivg_ranges_add(reader.ranges, BASE + even * CELL, CELL, 1), 0);
        assert_int_equal(pthread_create(&thread, NULL, read_steadily, &reader), 0);
        for (uint32_t round = 0; round < 10; round++) {
                for (uint32_t odd = 1; odd < 512; odd += 2)
                        assert_int_equal(ivg_ranges_add(reader.ranges, BASE + odd * CELL, CELL, 2), 0);
                for (uint32_t odd = 1; odd < 512; odd += 2)
                        assert_true(ivg_ranges_remove(reader.ranges, BASE + odd * CELL));
        }
        atomic_store(&reader.stop, 1);
        pthread_join(thread, NULL);
        assert_int_equal(reader.wrong, 0);
        assert_true(reader.looks >= 1000);
        ivg_rcu_drain();
        ivg_ranges_destroy(reader.ranges);
}

static int setup(void **state)
{
        (void)state;
        urcu_memb_register_thread();
        return 0;
}

static int teardown(void **state)
{
        (void)state;
        ivg_rcu_drain();
        urcu_memb_unregister_thread();
        return 0;
}

/* What nvidia-smi in the guest shows: every way out of the table counts down again. */
static void bytes_are_counted_by_device(void **state)
{
        _Atomic(uint64_t) shown[IVG_SHOWN_DEVICES_MAX];
        struct ivg_ranges *ranges = ivg_ranges_create();

        (void)state;
        for (uint32_t i = 0; i < IVG_SHOWN_DEVICES_MAX; i++)
                atomic_init(&shown[i], 77); /* an earlier process's */
        ivg_ranges_show(ranges, shown);
        assert_int_equal(ivg_load_relaxed_u64(&shown[0]), 0);
        assert_int_equal(ivg_ranges_add_on(ranges, BASE, CELL, 1, 0), 0);
        assert_int_equal(ivg_ranges_add_on(ranges, BASE + 2 * CELL, 2 * CELL, 2, 0), 0);
        assert_int_equal(ivg_ranges_add_on(ranges, BASE + 8 * CELL, CELL, 2, 3), 0);
        assert_int_equal(ivg_ranges_add_on(ranges, BASE + 2 * CELL, CELL, 2, 0), -EEXIST); /* not counted */
        assert_int_equal(ivg_ranges_add(ranges, BASE + 16 * CELL, CELL, 1), 0);            /* of no device */
        assert_int_equal(ivg_ranges_add_on(ranges, BASE + 20 * CELL, CELL, 1, IVG_SHOWN_DEVICES_MAX), 0);
        assert_int_equal(ivg_load_relaxed_u64(&shown[0]), 3 * CELL);
        assert_int_equal(ivg_load_relaxed_u64(&shown[3]), CELL);
        assert_true(ivg_ranges_remove(ranges, BASE));
        assert_int_equal(ivg_load_relaxed_u64(&shown[0]), 2 * CELL);
        ivg_ranges_remove_context(ranges, 2);
        assert_int_equal(ivg_load_relaxed_u64(&shown[0]), 0);
        assert_int_equal(ivg_load_relaxed_u64(&shown[3]), 0);
        ivg_ranges_destroy(ranges);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(random_changes_agree),
                cmocka_unit_test(impossible_ranges_are_refused),
                cmocka_unit_test(readers_always_see_what_stays),
                cmocka_unit_test(bytes_are_counted_by_device),
        };

        return cmocka_run_group_tests(tests, setup, teardown);
}
