/* A driver is loaded in a child: one that is none, kills the child, or is our own shim is refused with the reason. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "driver_find.h"
#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void expect_refusal(const char *path, int expected, const char *why)
{
        char found[IVG_DRIVER_PATH_BYTES];
        struct ivg_error error = {""};

        assert_int_equal(ivg_driver_find(path, found, &error), expected);
        if (!strstr(error.text, why))
                fail_msg("\"%s\" does not say \"%s\"", error.text, why);
}

static void driver_is_found_by_its_real_path(void **state)
{
        char found[IVG_DRIVER_PATH_BYTES];
        struct ivg_error error = {""};
        char path[IVG_DRIVER_PATH_BYTES];

        (void)state;
        assert_int_equal(ivg_driver_find(FAKE_DRIVERS "/libfake_driver_0.so", found, &error), 0);
        assert_non_null(realpath(FAKE_DRIVERS "/libfake_driver_0.so", path));
        assert_string_equal(found, path);
}

static void each_refusal_has_its_reason(void **state)
{
        (void)state;
        expect_refusal(FAKE_DRIVERS "/libfake_driver_1.so", -ECHILD, "ended the process that tried it");
        expect_refusal(FAKE_DRIVERS "/libfake_driver_2.so", -ENODEV, "is ivgpu's own libcuda.so.1");
        expect_refusal(FAKE_DRIVERS "/libfake_driver_3.so", -ENODEV, "lacks cuInit");
        expect_refusal("/nonexistent/libcuda.so.1", -ENODEV, "No such file");
        expect_refusal("/etc/passwd", -ENODEV, "/etc/passwd");
}

static void shim_is_told_by_its_file(void **state)
{
        (void)state;
        assert_true(ivg_driver_is_shim(FAKE_DRIVERS "/libfake_driver_2.so"));
        assert_false(ivg_driver_is_shim(FAKE_DRIVERS "/libfake_driver_0.so"));
        assert_false(ivg_driver_is_shim("/nonexistent/libcuda.so.1"));
#ifdef SHIM_PATH
        assert_true(ivg_driver_is_shim(SHIM_PATH));
#endif
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(driver_is_found_by_its_real_path),
                cmocka_unit_test(each_refusal_has_its_reason),
                cmocka_unit_test(shim_is_told_by_its_file),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
