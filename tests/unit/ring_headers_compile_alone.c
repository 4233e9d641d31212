/* Each public header of ring/ stands alone, from C and from C++, and both languages see one layout. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "ring_headers.h"
#include <cmocka.h>
#include <string.h>

static void both_languages_see_one_layout(void **state)
{
        const uint64_t c[] = {RING_LAYOUT_FACTS};
        uint64_t cxx[RING_LAYOUT_FACTS_COUNT];

        (void)state;
        assert_int_equal(sizeof(c) / sizeof(c[0]), RING_LAYOUT_FACTS_COUNT);
        memset(cxx, 0xff, sizeof(cxx));
        ring_layout_facts_cxx(cxx);
        for (size_t i = 0; i < RING_LAYOUT_FACTS_COUNT; i++)
                assert_int_equal(c[i], cxx[i]);
}

int main(void)
{
        const struct CMUnitTest tests[] = {cmocka_unit_test(both_languages_see_one_layout)};

        return cmocka_run_group_tests(tests, NULL, NULL);
}
