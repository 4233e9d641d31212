/* The guest driver has its own copy of the region's layout, in kernel types. It is the same. */
#include "ivgpu/region_layout.h"

#define IVG_GUEST_FREE IVG_GUEST_CHANNEL_FREE
#define IVG_GUEST_OPEN IVG_GUEST_CHANNEL_OPEN
#define IVG_GUEST_CLOSED IVG_GUEST_CHANNEL_CLOSED
#define IVG_HOST_FREE IVG_HOST_CHANNEL_FREE
#define IVG_HOST_STARTING IVG_HOST_CHANNEL_STARTING
#define IVG_HOST_READY IVG_HOST_CHANNEL_READY
#define IVG_HOST_FAILED IVG_HOST_CHANNEL_FAILED
#define IVG_HOST_DEAD IVG_HOST_CHANNEL_DEAD
#define LIST kmod_layout_region
#define LIST_COUNT kmod_layout_region_count
#include "kmod_layout_list.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

extern const struct kmod_layout_entry kmod_layout_driver[];
extern const size_t kmod_layout_driver_count;

static void every_offset_and_number_is_the_same(void **state)
{
        (void)state;
        assert_int_equal(kmod_layout_driver_count, kmod_layout_region_count);
        assert_true(kmod_layout_region_count >= 60);
        for (size_t i = 0; i < kmod_layout_region_count; i++) {
                if (kmod_layout_driver[i].value != kmod_layout_region[i].value)
                        fail_msg("%s: %llu in the driver, %llu in the region", kmod_layout_region[i].name,
                                 kmod_layout_driver[i].value, kmod_layout_region[i].value);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {cmocka_unit_test(every_offset_and_number_is_the_same)};

        return cmocka_run_group_tests(tests, NULL, NULL);
}
