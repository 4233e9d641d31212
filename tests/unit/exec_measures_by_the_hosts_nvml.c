/* The executor's way to the host's NVML, with a library of the test's own in its place. */
#include "host_nvml.h"
#include "log.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static bool knows(const struct ivg_wire_device_status *status, unsigned int item)
{
        return (status->known >> item & 1) != 0;
}

/* First: the library is opened once per process, and a failure is remembered as well. */
static void figures_arrive_in_their_places(void **state)
{
        static const uint8_t uuid[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 0xff};
        struct ivg_wire_device_status status = {.known = 1ull << IVG_STATUS_FAN_SPEED};

        (void)state;
        status.values[IVG_STATUS_FAN_SPEED] = 7; /* known before: a refusal must not touch it */
        assert_true(ivg_host_nvml_measure(FAKE_NVML_FOLDER, uuid, &status));
        assert_int_equal(status.values[IVG_STATUS_TEMPERATURE], 41);
        assert_int_equal(status.values[IVG_STATUS_TEMPERATURE_SHUTDOWN], 90);
        assert_int_equal(status.values[IVG_STATUS_TEMPERATURE_SLOWDOWN], 91);
        assert_false(knows(&status, IVG_STATUS_TEMPERATURE_MEMORY_MAX));
        assert_int_equal(status.values[IVG_STATUS_UTILIZATION_GPU], 73);
        assert_int_equal(status.values[IVG_STATUS_UTILIZATION_MEMORY], 12);
        for (unsigned int clock = 0; clock < 4; clock++) {
                assert_true(knows(&status, IVG_STATUS_CLOCK_MAX + clock));
                assert_int_equal(status.values[IVG_STATUS_CLOCK_MAX + clock], 1000 + clock);
                assert_false(knows(&status, IVG_STATUS_CLOCK + clock)); /* not exported by this library */
        }
        assert_int_equal(status.values[IVG_STATUS_ECC], 1);
        assert_true(knows(&status, IVG_STATUS_ECC_PENDING));
        assert_int_equal(status.values[IVG_STATUS_ECC_PENDING], 0);
        assert_true(status.values[IVG_STATUS_ENERGY] == 1ull << 40);
        assert_int_equal(status.values[IVG_STATUS_FAN_SPEED], 7);
        assert_int_equal(status.values[IVG_STATUS_PCI_DEVICE], 0x233510deu);
        assert_int_equal(status.values[IVG_STATUS_PCI_SUBSYSTEM], 0x18be10deu);
        assert_string_equal(status.host_driver, "580.1.2");
        assert_string_equal(status.vbios, "");
}

static void links_tell_what_they_are_and_what_is_unknown(void **state)
{
        static const uint8_t uuid[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 0xff}, other[16] = {9};
        struct ivg_wire_device_link link = {0}, off = {0}, none = {0};

        (void)state;
        assert_true(ivg_host_nvml_link(FAKE_NVML_FOLDER, uuid, 3, &link));
        /* State, speed and place, five capabilities; this library has no version and no type. */
        assert_int_equal(link.known, 1u << IVG_LINK_STATE | 1u << IVG_LINK_SPEED | 1u << IVG_LINK_REMOTE_PCI |
                                             0x1fu << IVG_LINK_ITEMS);
        assert_int_equal(link.values[IVG_LINK_SPEED], 26562);
        assert_int_equal(link.values[IVG_LINK_STATE], 1);
        assert_int_equal(link.capabilities, 0xf);
        assert_int_equal(link.pci[1], 0x8a);
        assert_int_equal(link.pci[3], 0x22a310deu);
        assert_int_equal(link.pci[4], 0x179610deu);
        assert_string_equal(link.bus_id, "00000000:8A:00.0");
        assert_string_equal(link.bus_id_legacy, "0000:8A:00.0");
        assert_true(ivg_host_nvml_link(FAKE_NVML_FOLDER, uuid, 1, &off));
        assert_int_equal(off.values[IVG_LINK_STATE], 0);
        assert_int_equal(off.known >> IVG_LINK_REMOTE_PCI & 1, 0);
        assert_false(ivg_host_nvml_link(FAKE_NVML_FOLDER, uuid, 4, &none));
        assert_false(ivg_host_nvml_link(FAKE_NVML_FOLDER, other, 3, &none));
        assert_int_equal(none.known, 0);
}

static void a_device_that_nvml_does_not_know_is_left_alone(void **state)
{
        static const uint8_t uuid[16] = {9};
        struct ivg_wire_device_status status = {.known = 0};

        (void)state;
        assert_false(ivg_host_nvml_measure(FAKE_NVML_FOLDER, uuid, &status));
        assert_true(status.known == 0);
        assert_string_equal(status.host_driver, "");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(figures_arrive_in_their_places),
                cmocka_unit_test(links_tell_what_they_are_and_what_is_unknown),
                cmocka_unit_test(a_device_that_nvml_does_not_know_is_left_alone),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
