/* Our declaration of the CUDA types has the values, sizes and offsets of NVIDIA's. Built where a toolkit is installed.
 */
#include "abi_entry.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void every_value_size_and_offset_is_theirs(void **state)
{
        (void)state;
        assert_int_equal(abi_ours_count, abi_theirs_count);
        assert_true(abi_ours_count >= 2000); /* the list is not empty by accident */
        for (size_t i = 0; i < abi_ours_count; i++) {
                assert_string_equal(abi_ours[i].name, abi_theirs[i].name);
                if (abi_ours[i].value != abi_theirs[i].value)
                        fail_msg("%s: %lld here, %lld there", abi_ours[i].name, abi_ours[i].value, abi_theirs[i].value);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {cmocka_unit_test(every_value_size_and_offset_is_theirs)};
        return cmocka_run_group_tests(tests, NULL, NULL);
}
