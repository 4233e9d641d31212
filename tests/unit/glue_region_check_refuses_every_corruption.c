/* Each rule of a region page, broken alone, is refused with words of its own; a right page is not. */
#include "glue_fixture.h"
#include <fcntl.h>
#include <sys/mman.h>

static void good_page(struct ivg_region_page *page)
{
        int fd = test_region(4, 5);

        assert_int_equal(pread(fd, page, sizeof(*page), 0), sizeof(*page));
        close(fd);
}

static int check(const struct ivg_region_page *page, struct ivg_error *error)
{
        struct ivg_region region;

        error->text[0] = '\0';
        return ivg_region_check(page, TEST_REGION_BYTES, TEST_FINGERPRINT, &region, error);
}

#define CORRUPTIONS(X)                                                                                          \
        X(-EAGAIN, "no magic yet", page->magic = 0)                                                             \
        X(-EPROTO, "is not ours", page->magic ^= 1)                                                             \
        X(-EPROTO, "layout version 9, this build knows 2", page->layout_version = 9)                            \
        X(-EINVAL, "region page: 8 bytes used", page->page_bytes_used = 8)                                      \
        X(-EINVAL, "region page: 4097 bytes used", page->page_bytes_used = 4097)                                \
        X(-EPROTO, "0000000000000005, this build has 1122334455667788", page->call_table_fingerprint = 5)       \
        X(-EINVAL, "host instance is 0", page->host_instance = 0)                                               \
        X(-EINVAL, "no NUL", memset(page->vm_name, 'x', sizeof(page->vm_name)))                                 \
        X(-EINVAL, "byte 0x1b is not printable", page->vm_name[1] = 27)                                         \
        X(-EINVAL, "region_bytes 67108865 is not a power of two", page->region_bytes++)                         \
        X(-EINVAL, "is not a power of two in", page->region_bytes = IVG_REGION_BYTES_MIN / 2)                   \
        X(-EINVAL, "is not a power of two in", page->region_bytes = IVG_REGION_BYTES_MAX * 2)                   \
        X(-EINVAL, "is not a power of two in", page->region_bytes = 0)                                          \
        X(-EINVAL, "but the file or BAR has 67108864", page->region_bytes *= 2)                                 \
        X(-EINVAL, "channel_count 0", page->channel_count = 0)                                                  \
        X(-EINVAL, "channel_count 65", page->channel_count = 65)                                                \
        X(-EINVAL, "channel_count 4294967295", page->channel_count = UINT32_MAX)                                \
        X(-EINVAL, "vector_count 1:", page->vector_count = 1)                                                   \
        X(-EINVAL, "vector_count 129", page->vector_count = 129)                                                \
        X(-EINVAL, "doorbell_peer 65536", page->doorbell_peer = 65536)                                          \
        X(-EINVAL, "ring_slots", page->ring_slots *= 2)                                                         \
        X(-EINVAL, "ring_producers", page->ring_producers--)                                                    \
        X(-EINVAL, "answer_area_bytes", page->answer_area_bytes = 0)                                            \
        X(-EINVAL, "completion_words", page->completion_words++)                                                \
        X(-EINVAL, "channel_stride", page->channel_stride = IVG_CHANNEL_STRIDE - IVG_PAGE_BYTES)                \
        X(-EINVAL, "channel_stride", page->channel_stride += 1)                                                 \
        X(-EINVAL, "channel_stride", page->channel_stride = UINT64_MAX - IVG_PAGE_BYTES + 1)                    \
        X(-EINVAL, "channel_stride", page->channel_stride = 1ull << 62)                                         \
        X(-EINVAL, "guest pages: offset 4097", page->guest_pages_offset++)                                      \
        X(-EINVAL, "guest pages: offset 4096 or size 8193", page->guest_pages_bytes = 8193)                     \
        X(-EINVAL, "guest pages: size 8192, at least", page->guest_pages_bytes = 8192)                          \
        X(-EINVAL, "guest pages: [18446744073709547520, +12288) leaves",                                        \
          page->guest_pages_offset = UINT64_MAX - IVG_PAGE_BYTES + 1)                                           \
        X(-EINVAL, "guest pages: [4096, +18446744073709547520) leaves",                                         \
          page->guest_pages_bytes = UINT64_MAX - IVG_PAGE_BYTES + 1)                                            \
        X(-EINVAL, "region page [0, +4096) overlaps guest pages", page->guest_pages_offset = 0)                 \
        X(-EINVAL, "guest pages [4096, +12288) overlaps host pages", page->host_pages_offset -= IVG_PAGE_BYTES) \
        X(-EINVAL, "guest pages [4096, +12288) overlaps host pages [4096",                                      \
          page->host_pages_offset = page->guest_pages_offset)                                                   \
        X(-EINVAL, "host pages: size 8192, at least", page->host_pages_bytes = 8192)                            \
        X(-EINVAL, "overlaps channels", page->channels_offset = page->host_pages_offset)                        \
        X(-EINVAL, "channels [4194304, +8388608) overlaps arena", page->channels_offset *= 2)                   \
        X(-EINVAL, "channels: [", page->channels_offset = page->region_bytes)                                   \
        X(-EINVAL, "arena: offset 10489856", page->arena_offset += IVG_PAGE_BYTES)                              \
        X(-EINVAL, "arena: size 0", page->arena_bytes = 0)                                                      \
        X(-EINVAL, "arena: offset 10485760 or size", page->arena_bytes += IVG_PAGE_BYTES)                       \
        X(-EINVAL, "arena: [10485760", page->arena_bytes += IVG_EXTENT_BYTES)                                   \
        X(-EINVAL, "arena: [", page->arena_offset = UINT64_MAX - IVG_EXTENT_BYTES + 1)                          \
        X(-EINVAL, "overlaps arena", page->arena_offset = 0)                                                    \
        X(-EINVAL, "host pages at 65011712 lie above the arena", move_host_pages_above_arena(page))

static void move_host_pages_above_arena(struct ivg_region_page *page)
{
        page->arena_bytes -= IVG_EXTENT_BYTES;
        page->host_pages_offset = page->arena_offset + page->arena_bytes;
}

static void each_corruption_is_refused_by_name(void **state)
{
        uint32_t refused = 0;

        (void)state;
#define TRY(code, words, corruption)                              \
        {                                                         \
                struct ivg_region_page content, *page = &content; \
                struct ivg_error error;                           \
                int rc;                                           \
                good_page(page);                                  \
                assert_int_equal(check(page, &error), 0);         \
                corruption;                                       \
                rc = check(page, &error);                         \
                assert_words(error, words);                       \
                assert_int_equal(rc, code);                       \
                refused++;                                        \
        }
        CORRUPTIONS(TRY)
        assert_true(refused > 40);
}

static void a_good_page_is_copied_whole(void **state)
{
        struct ivg_region_page page;
        struct ivg_error error;
        struct ivg_region region;

        (void)state;
        good_page(&page);
        assert_int_equal(ivg_region_check(&page, TEST_REGION_BYTES, TEST_FINGERPRINT, &region, &error), 0);
        assert_null(region.base);
        assert_int_equal(region.channel_count, 4);
        assert_int_equal(region.vector_count, 5);
        assert_int_equal(region.vm_id, 7);
        assert_string_equal(region.vm_name, "test");
        assert_int_equal(region.arena_offset % IVG_EXTENT_BYTES, 0);
        assert_int_equal(region.arena_offset + region.arena_bytes, TEST_REGION_BYTES);
        assert_int_equal(region.extent_count, region.arena_bytes / IVG_EXTENT_BYTES);
        assert_int_not_equal(region.host_instance, 0);
}

static void files_below_a_page_or_without_a_region_are_refused(void **state)
{
        struct ivg_error error = {""};
        struct ivg_region region;
        int fd = memfd_create("small", MFD_CLOEXEC);

        (void)state;
        assert_int_equal(ftruncate(fd, 100), 0);
        assert_int_equal(ivg_region_check_fd(fd, TEST_FINGERPRINT, &region, &error), -EINVAL);
        assert_words(error, "size 100 is below a region page");
        assert_int_equal(ftruncate(fd, IVG_REGION_BYTES_MIN), 0);
        assert_int_equal(ivg_region_check_fd(fd, TEST_FINGERPRINT, &region, &error), -EAGAIN);
        close(fd);
        assert_int_equal(ivg_region_check_fd(fd, TEST_FINGERPRINT, &region, &error), -EBADF);
}

static void impossible_configurations_are_refused_by_name(void **state)
{
        const struct ivg_region_config good = {.region_bytes = TEST_REGION_BYTES, .channel_count = 1};
        const struct {
                struct ivg_region_config config;
                const char *words;
        } cases[] = {
                {{.region_bytes = 3 << 20, .channel_count = 1}, "region_bytes 3145728 is not a power of two"},
                {{.region_bytes = 8 << 20, .channel_count = 1},
                 "region_bytes 8388608 is not a power of two in 16777216"},
                {{.region_bytes = good.region_bytes, .channel_count = 0}, "channel_count 0"},
                {{.region_bytes = good.region_bytes, .channel_count = 65}, "channel_count 65"},
                {{.region_bytes = good.region_bytes, .channel_count = 1, .vector_count = 1}, "vector_count 1"},
                {{.region_bytes = good.region_bytes, .channel_count = 1, .vector_count = 129}, "vector_count 129"},
                {{.region_bytes = 16 << 20, .channel_count = 7}, "7 channels need 16777216 bytes and an arena"},
                {{.region_bytes = good.region_bytes, .channel_count = 1, .vm_name = "a\nb"}, "byte 0x0a at 1"},
                {{.region_bytes = good.region_bytes, .channel_count = 1, .vm_name = "a name that is one byte too long"},
                 "vm_name: 32 bytes, at most 31"},
        };

        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                struct ivg_error error = {""};
                int fd = -1;

                assert_int_equal(ivg_region_create(&cases[i].config, &fd, &error), -EINVAL);
                assert_words(error, cases[i].words);
                assert_int_equal(fd, -1);
        }
}

static void smallest_and_largest_regions_pass_their_own_check(void **state)
{
        const struct ivg_region_config configs[] = {
                {.region_bytes = IVG_REGION_BYTES_MIN, .channel_count = 1},
                {.region_bytes = IVG_REGION_BYTES_MIN, .channel_count = 6, .vector_count = 2},
                {.region_bytes = IVG_REGION_BYTES_DEFAULT, .channel_count = 64, .vector_count = 65},
                {.region_bytes = IVG_REGION_BYTES_MAX, .channel_count = 64, .vector_count = 128},
        };

        (void)state;
        for (size_t i = 0; i < sizeof(configs) / sizeof(configs[0]); i++) {
                struct ivg_error error = {""};
                struct ivg_region region;
                int fd = -1;

                assert_int_equal(ivg_region_create(&configs[i], &fd, &error), 0);
                assert_int_equal(ivg_region_check_fd(fd, 0, &region, &error), 0);
                assert_int_equal(region.channel_count, configs[i].channel_count);
                assert_true(region.extent_count >= 1 && region.extent_count <= IVG_EXTENTS_MAX);
                close(fd);
        }
}

static void error_words_are_cut_and_prefixed(void **state)
{
        struct ivg_error error;
        char longer[400];

        (void)state;
        memset(longer, 'x', sizeof(longer) - 1);
        longer[sizeof(longer) - 1] = '\0';
        errno = EXDEV;
        ivg_error_set(&error, "%s", longer);
        ivg_error_prefix(&error, "BAR %d", 2);
        assert_int_equal(errno, EXDEV);
        assert_int_equal(strlen(error.text), sizeof(error.text) - 1);
        assert_memory_equal(error.text, "BAR 2: xxxx", 11);
        ivg_error_set(NULL, "nowhere");
        ivg_error_prefix(NULL, "nowhere");
        assert_string_equal(ivg_error_code_name(IVG_ERROR_VM_QUARANTINED), "VM_QUARANTINED");
        assert_string_equal(ivg_error_code_name((enum ivg_error_code)12), "UNKNOWN_CODE");
        assert_string_equal(ivg_error_code_name((enum ivg_error_code) - 1), "UNKNOWN_CODE");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(each_corruption_is_refused_by_name),
                cmocka_unit_test(a_good_page_is_copied_whole),
                cmocka_unit_test(files_below_a_page_or_without_a_region_are_refused),
                cmocka_unit_test(impossible_configurations_are_refused_by_name),
                cmocka_unit_test(smallest_and_largest_regions_pass_their_own_check),
                cmocka_unit_test(error_words_are_cut_and_prefixed),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
