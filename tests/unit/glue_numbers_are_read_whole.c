/* Numbers that people give: digits and nothing else, within the bounds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include "ivgpu/number.h"
#include <cmocka.h>

static void numbers_within_the_bounds_are_read(void **state)
{
        const struct {
                const char *text;
                uint64_t number;
        } given[] = {{"0", 0}, {"7", 7}, {"007", 7}, {"4294967296", 4294967296u}, {"18446744073709551615", UINT64_MAX}};
        uint64_t number;

        (void)state;
        for (size_t i = 0; i < sizeof(given) / sizeof(given[0]); i++) {
                number = 1;
                assert_true(ivg_number_read(given[i].text, 0, UINT64_MAX, &number));
                assert_true(number == given[i].number);
                number = 1;
                assert_true(ivg_number_read(given[i].text, given[i].number, given[i].number, &number));
                assert_true(number == given[i].number);
        }
}

static void all_else_is_refused_and_changes_nothing(void **state)
{
        static const char *const refused[] = {"",    " 1",  "+1", "-1", "-0",  "1 ",
                                              "1.5", "0x1", "1k", "x",  "1\n", "18446744073709551616"};
        uint64_t number = 77;

        (void)state;
        for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
                assert_false(ivg_number_read(refused[i], 0, UINT64_MAX, &number));
        assert_false(ivg_number_read("2", 3, 5, &number));
        assert_false(ivg_number_read("6", 3, 5, &number));
        assert_false(ivg_number_option("count", "6", 3, 5, &number));
        assert_true(number == 77);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(numbers_within_the_bounds_are_read),
                cmocka_unit_test(all_else_is_refused_and_changes_nothing),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
