/* The table of device memory: what is taken never passes the limit, whoever takes at the same time; who dies with the
 * lock makes others wait for a bounded time only, and leaves nothing when the mediator has cleared his place. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "vram_table.h"
#include <cmocka.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

#define TAKERS 4u
#define ROUNDS 20000u
#define LIMIT 1000u
#define PIECE 7u

static struct ivg_vram_table *table;

static int table_new(void **state)
{
        const int fd = ivg_vram_table_create(&table);

        (void)state;
        assert_true(fd >= 0);
        assert_true(ivg_vram_table_map(fd) != NULL);
        assert_null(ivg_vram_table_map(-1));
        close(fd);
        return 0;
}

static void a_limit_is_hit_exactly(void **state)
{
        (void)state;
        assert_true(ivg_vram_table_take(table, 0, 3, UINT64_MAX)); /* no limit yet */
        ivg_vram_table_change(table, 0, 3, UINT64_MAX, false);
        ivg_store_relaxed_u64(&table->limit_bytes, LIMIT);
        assert_false(ivg_vram_table_take(table, 0, 3, LIMIT + 1));
        assert_true(ivg_vram_table_take(table, 0, 3, LIMIT - 1));
        assert_false(ivg_vram_table_take(table, 9, 3, 2));
        assert_true(ivg_vram_table_take(table, 9, 3, 1));
        assert_true(ivg_vram_table_take(table, 9, 3, 0));
        assert_false(ivg_vram_table_take(table, 9, 3, UINT64_MAX));
        assert_true(ivg_vram_table_take(table, 9, 4, LIMIT)); /* of each device */
        assert_int_equal(ivg_vram_table_sum(table, 3), LIMIT);
        ivg_vram_table_change(table, 9, 3, 50, true); /* over it, by force */
        assert_false(ivg_vram_table_take(table, 0, 3, 0));
        ivg_vram_table_change(table, 9, 3, 60, false); /* never below nothing */
        assert_int_equal(ivg_vram_table_sum(table, 3), LIMIT - 1);
        ivg_vram_table_clear(table, 0);
        ivg_vram_table_clear(table, 9);
        assert_int_equal(ivg_vram_table_sum(table, 3) + ivg_vram_table_sum(table, 4), 0);
}

/* Exact with the lock only: without it a sum may count what moves twice. */
static bool is_within_limit(uint32_t place)
{
        bool within;

        if (!ivg_vram_table_lock(table, place))
                return true; /* a loaded machine */
        within = ivg_vram_table_sum(table, 0) <= LIMIT;
        ivg_store_release_u32(&table->lock, 0);
        return within;
}

static void *take_and_give(void *argument)
{
        const uint32_t place = (uint32_t)(uintptr_t)argument;

        for (uint32_t i = 0; i < ROUNDS; i++) {
                if (!ivg_vram_table_take(table, place, 0, PIECE))
                        continue;
                if (!is_within_limit(place))
                        return argument;
                ivg_vram_table_change(table, place, 0, PIECE, false);
        }
        return NULL;
}

/* Gets all there is in the end: the others give theirs back. */
static void *take_and_keep(void *argument)
{
        for (uint32_t taken = 0; taken < LIMIT / PIECE;)
                if (ivg_vram_table_take(table, 0, 0, PIECE))
                        taken++;
                else
                        sched_yield();
        return is_within_limit(0) ? NULL : argument;
}

static void takers_at_once_stay_below_it(void **state)
{
        pthread_t threads[TAKERS];
        void *wrong;

        (void)state;
        ivg_store_relaxed_u64(&table->limit_bytes, LIMIT);
        for (uintptr_t i = 0; i < TAKERS; i++)
                assert_int_equal(
                        pthread_create(&threads[i], NULL, i == 0 ? take_and_keep : take_and_give, (void *)(i + 1)), 0);
        for (uint32_t i = 0; i < TAKERS; i++) {
                assert_int_equal(pthread_join(threads[i], &wrong), 0);
                assert_null(wrong);
        }
        assert_int_equal(ivg_vram_table_sum(table, 0), LIMIT / PIECE * PIECE);
        ivg_vram_table_clear(table, 0);
        assert_int_equal(ivg_vram_table_sum(table, 0), 0);
}

static void a_dead_holder_is_cleared(void **state)
{
        (void)state;
        ivg_store_relaxed_u64(&table->limit_bytes, LIMIT);
        assert_true(ivg_vram_table_take(table, 5, 0, 10));
        assert_true(ivg_vram_table_lock(table, 5)); /* and there it died */
        assert_false(ivg_vram_table_take(table, 6, 0, 1));
        assert_false(ivg_vram_table_try_take(table, 6, 0, 1));
        ivg_vram_table_clear(table, 6); /* another's end does not free it */
        assert_false(ivg_vram_table_lock(table, 6));
        ivg_vram_table_clear(table, 5);
        assert_true(ivg_vram_table_take(table, 6, 0, 1));
        assert_true(ivg_vram_table_try_take(table, 6, 0, 1));
        assert_false(ivg_vram_table_try_take(table, 6, 0, LIMIT));
        assert_int_equal(ivg_vram_table_sum(table, 0), 2);
}

static void a_file_of_another_kind_is_none(void **state)
{
        const int fd = memfd_create("other", MFD_CLOEXEC);

        (void)state;
        assert_null(ivg_vram_table_map(fd));
        assert_int_equal(ftruncate(fd, sizeof(*table)), 0);
        assert_null(ivg_vram_table_map(fd)); /* no magic */
        close(fd);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup(a_limit_is_hit_exactly, table_new),
                cmocka_unit_test_setup(takers_at_once_stay_below_it, table_new),
                cmocka_unit_test_setup(a_dead_holder_is_cleared, table_new),
                cmocka_unit_test(a_file_of_another_kind_is_none),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
