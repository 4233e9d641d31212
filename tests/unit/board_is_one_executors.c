/* A board as ivgpud makes it and as an executor maps it: the same words, sealed in size; what is no board is refused.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include "exec_internal.h"
#include <cmocka.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* mediator.h and exec_internal.h name some things alike; these are all that is needed of the former. */
int ivg_board_create(struct ivg_board **board);
void ivg_board_close(struct ivg_board *board);

static void test_both_see_the_same_words(void **state)
{
        struct ivg_board *mediator = NULL, *executor;
        const int fd = ivg_board_create(&mediator);

        (void)state;
        assert_true(fd >= 0);
        executor = ivg_board_map(fd);
        assert_non_null(executor);
        assert_int_equal(ivg_load_relaxed_u64(&executor->grants[63].granted_ns), IVG_BOARD_NO_LIMIT);
        ivg_store_relaxed_u64(&mediator->grants[3].granted_ns, 77);
        ivg_store_relaxed_u64(&executor->uses[3].used_ns, 78);
        assert_int_equal(ivg_load_relaxed_u64(&executor->grants[3].granted_ns), 77);
        assert_int_equal(ivg_load_relaxed_u64(&mediator->uses[3].used_ns), 78);
        ivg_board_unmap(executor);
        ivg_board_close(mediator);
        close(fd);
}

static void test_its_size_is_sealed(void **state)
{
        struct ivg_board *board = NULL;
        const int fd = ivg_board_create(&board);

        (void)state;
        assert_true(fd >= 0);
        assert_int_equal(ftruncate(fd, 4096), -1);
        assert_int_equal(errno, EPERM);
        assert_int_equal(ftruncate(fd, 1 << 24), -1);
        assert_int_equal(errno, EPERM);
        ivg_board_close(board);
        close(fd);
}

static void test_other_files_are_refused(void **state)
{
        const int fd = memfd_create("no-board", MFD_CLOEXEC);

        (void)state;
        assert_int_equal(ftruncate(fd, 4096), 0);
        assert_null(ivg_board_map(fd));
        assert_int_equal(errno, EINVAL);
        assert_int_equal(ftruncate(fd, sizeof(struct ivg_board)), 0);
        assert_null(ivg_board_map(fd)); /* the size of one, and not its magic */
        assert_int_equal(errno, EPROTO);
        close(fd);
        assert_null(ivg_board_map(fd));
}

static void test_without_one_nothing_is_limited(void **state)
{
        struct ivg_board *board = ivg_board_map(-1);

        (void)state;
        assert_non_null(board);
        for (uint32_t i = 0; i < IVG_BOARD_DEVICES_MAX; i++)
                assert_int_equal(ivg_load_relaxed_u64(&board->grants[i].granted_ns), IVG_BOARD_NO_LIMIT);
        assert_int_equal(ivg_load_relaxed_u64(&board->orders.rate_calls_per_s), 0);
        ivg_board_unmap(board);
        ivg_board_unmap(NULL);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_both_see_the_same_words),
                cmocka_unit_test(test_its_size_is_sealed),
                cmocka_unit_test(test_other_files_are_refused),
                cmocka_unit_test(test_without_one_nothing_is_limited),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
