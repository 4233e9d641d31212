/* A region page every word of which changes right after it was fetched: what the check passes on is what it saw first.
 *
 * region_check.c is compiled here with IVG_LOAD_HOOK. Only the magic is looked at twice: alone, to know that the rest
 * is there, and with the rest, where it decides nothing more. */
#include "glue_fixture.h"
#include <sys/mman.h>

#define PAGE_WORDS (sizeof(struct ivg_region_page) / 8)

static struct ivg_region_page *hostile;
static uint32_t fetched[PAGE_WORDS];

void ivg_load_hook(const volatile void *address, uint32_t bytes)
{
        const uintptr_t offset = (uintptr_t)address - (uintptr_t)hostile;

        assert_non_null(hostile);
        assert_int_equal(bytes, 8);
        assert_true(offset < sizeof(*hostile) && offset % 8 == 0);
        fetched[offset / 8]++;
        memset((uint8_t *)hostile + offset, 0xee, bytes);
}

static void what_was_seen_first_is_what_counts(void **state)
{
        struct ivg_region_page *page =
                mmap(NULL, IVG_PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        struct ivg_region_page good;
        struct ivg_region region;
        struct ivg_error error = {""};
        const int fd = test_region(4, 5);

        (void)state;
        assert_ptr_not_equal(page, MAP_FAILED);
        assert_int_equal(pread(fd, page, sizeof(*page), 0), sizeof(*page));
        memcpy(&good, page, sizeof(good));
        hostile = page;
        if (ivg_region_check(page, TEST_REGION_BYTES, TEST_FINGERPRINT, &region, &error) != 0)
                fail_msg("%s", error.text);
        hostile = NULL;
        for (uint32_t i = 0; i < PAGE_WORDS; i++)
                assert_int_equal(fetched[i], i == 0 ? 2 : 1);
        assert_int_equal(region.region_bytes, good.region_bytes);
        assert_int_equal(region.arena_offset, good.arena_offset);
        assert_int_equal(region.arena_bytes, good.arena_bytes);
        assert_int_equal(region.guest_pages_offset, good.guest_pages_offset);
        assert_int_equal(region.guest_pages_bytes, good.guest_pages_bytes);
        assert_int_equal(region.host_pages_offset, good.host_pages_offset);
        assert_int_equal(region.host_pages_bytes, good.host_pages_bytes);
        assert_int_equal(region.channels_offset, good.channels_offset);
        assert_int_equal(region.channel_stride, good.channel_stride);
        assert_int_equal(region.channel_count, good.channel_count);
        assert_int_equal(region.vector_count, good.vector_count);
        assert_int_equal(region.doorbell_peer, good.doorbell_peer);
        assert_string_equal(region.vm_name, good.vm_name);
        /* The same page again: everything is different now. */
        hostile = page;
        assert_true(ivg_region_check(page, TEST_REGION_BYTES, TEST_FINGERPRINT, &region, &error) < 0);
        hostile = NULL;
        munmap(page, IVG_PAGE_BYTES);
        close(fd);
}

int main(void)
{
        const struct CMUnitTest tests[] = {cmocka_unit_test(what_was_seen_first_is_what_counts)};

        return cmocka_run_group_tests(tests, NULL, NULL);
}
