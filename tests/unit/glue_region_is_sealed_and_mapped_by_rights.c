/* The file cannot change size, each side writes only its own pages, and the arena appears where asked or not at all. */
#include "glue_fixture.h"
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

static void the_file_cannot_change_size(void **state)
{
        int fd = test_region(2, 3);
        struct stat status;

        (void)state;
        assert_int_equal(ftruncate(fd, 4096), -1);
        assert_int_equal(errno, EPERM);
        assert_int_equal(ftruncate(fd, 2 * TEST_REGION_BYTES), -1);
        assert_int_equal(errno, EPERM);
        assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
        assert_int_equal(errno, EPERM);
        assert_int_equal(fstat(fd, &status), 0);
        assert_int_equal(status.st_size, TEST_REGION_BYTES);
        assert_true(status.st_blocks * 512 < (2 << 20)); /* sparse */
        assert_true((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
        close(fd);
}

enum access { NONE, READ, WRITE };

/* Tries in a child: the fault is the answer. */
static enum access access_of(volatile uint8_t *byte)
{
        enum access got = NONE;

        for (int write = 0; write < 2; write++) {
                int status;
                const pid_t child = fork();

                assert_true(child >= 0);
                if (child == 0) {
                        const struct rlimit no_core = {0};

                        setrlimit(RLIMIT_CORE, &no_core);
                        signal(SIGSEGV, SIG_DFL); /* a sanitizer's handler would turn it into an exit */
                        const uint8_t value = *byte;
                        if (write)
                                *byte = value;
                        _exit(0);
                }
                assert_int_equal(waitpid(child, &status, 0), child);
                if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
                        got = write ? WRITE : READ;
                else
                        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
        }
        return got;
}

struct rights {
        enum access page, guest_pages, host_pages, own_guest, own_slots, own_host, own_answers, other_guest, other_host;
};

static void assert_rights(int fd, enum ivg_region_side side, bool sealed, const struct rights *expected)
{
        struct ivg_region region = test_map(fd, side, 1);
        const uint64_t other = region.channels_offset;
        const uint64_t own = other + region.channel_stride;

        if (sealed)
                assert_int_equal(ivg_region_seal_guest_part(&region, 1), 0);
        assert_int_equal(region.mapped_bytes, region.arena_offset);
        assert_int_equal(access_of(region.base), expected->page);
        assert_int_equal(access_of(region.base + region.guest_pages_offset), expected->guest_pages);
        assert_int_equal(access_of(region.base + region.guest_pages_offset + region.guest_pages_bytes - 1),
                         expected->guest_pages);
        assert_int_equal(access_of(region.base + region.host_pages_offset), expected->host_pages);
        assert_int_equal(access_of(region.base + region.host_pages_offset + region.host_pages_bytes - 1),
                         expected->host_pages);
        assert_int_equal(access_of(region.base + own), expected->own_guest);
        assert_int_equal(access_of(region.base + own + offsetof(struct ivg_ring_guest_part, slots) - 1),
                         expected->own_guest);
        assert_int_equal(access_of(region.base + own + offsetof(struct ivg_ring_guest_part, slots)),
                         expected->own_slots);
        assert_int_equal(access_of(region.base + own + IVG_CHANNEL_GUEST_BYTES - 1), expected->own_slots);
        assert_int_equal(access_of(region.base + own + IVG_CHANNEL_RING_HOST_OFFSET), expected->own_host);
        assert_int_equal(
                access_of(ivg_region_answer_area(&region, 1, IVG_RING_PRODUCERS - 1) + IVG_ANSWER_AREA_BYTES - 1),
                expected->own_answers);
        assert_int_equal(access_of(region.base + other), expected->other_guest);
        assert_int_equal(access_of(region.base + other + IVG_CHANNEL_RING_HOST_OFFSET), expected->other_host);
        assert_int_equal(access_of(region.base + own + IVG_CHANNEL_GUEST_BYTES), NONE); /* between the parts */
        ivg_region_unmap(&region);
        assert_null(region.base);
        ivg_region_unmap(&region); /* twice is harmless */
}

static void each_side_writes_only_its_own_pages(void **state)
{
        int fd = test_region(2, 3);

        (void)state;
        assert_rights(fd, IVG_SIDE_GUEST, false,
                      &(struct rights){READ, WRITE, READ, WRITE, WRITE, READ, READ, NONE, NONE});
        assert_rights(fd, IVG_SIDE_HOST_MEDIATOR, false,
                      &(struct rights){READ, READ, WRITE, READ, READ, WRITE, WRITE, READ, WRITE});
        assert_rights(fd, IVG_SIDE_HOST_EXECUTOR, false,
                      &(struct rights){READ, READ, WRITE, WRITE, WRITE, WRITE, WRITE, NONE, NONE});
        assert_rights(fd, IVG_SIDE_HOST_EXECUTOR, true,
                      &(struct rights){READ, READ, WRITE, READ, WRITE, WRITE, WRITE, NONE, NONE});
        close(fd);
}

static void a_guest_may_map_its_channel_later(void **state)
{
        int fd = test_region(2, 3);
        struct ivg_region region = test_map(fd, IVG_SIDE_GUEST, IVG_CHANNEL_NONE);
        struct ivg_error error = {""};
        uint8_t *own = region.base + region.channels_offset;

        (void)state;
        assert_int_equal(access_of(own), NONE);
        assert_int_equal(ivg_region_map_channel(&region, fd, IVG_SIDE_GUEST, 0, &error), 0);
        assert_int_equal(access_of(own), WRITE);
        assert_int_equal(ivg_region_map_channel(&region, fd, IVG_SIDE_GUEST, 2, &error), -EINVAL);
        assert_words(error, "channel 2 of 2");
        ivg_region_unmap(&region);
        close(fd);
}

static void both_sides_see_one_memory(void **state)
{
        int fd = test_region(2, 3);
        struct ivg_region guest = test_map(fd, IVG_SIDE_GUEST, 1);
        struct ivg_region host = test_map(fd, IVG_SIDE_HOST_MEDIATOR, 0);

        (void)state;
        ivg_store_release_u64(&ivg_region_guest_pages(&guest)->boot_epoch, 42);
        assert_int_equal(ivg_load_acquire_u64(&ivg_region_guest_pages(&host)->boot_epoch), 42);
        ivg_store_release_u64(&ivg_region_completions(&host, 1)[4095], 43);
        assert_int_equal(ivg_load_acquire_u64(&ivg_region_completions(&guest, 1)[4095]), 43);
        for (uint32_t i = 0; i < 2; i++)
                assert_int_equal(ivg_load_acquire_u64(&ivg_region_host_pages(&guest)->channels[i].state),
                                 ivg_channel_word(1, IVG_HOST_CHANNEL_FREE));
        ivg_region_unmap(&guest);
        ivg_region_unmap(&host);
        close(fd);
}

static void the_arena_lies_where_asked_or_not_at_all(void **state)
{
        int fd = test_region(1, 0);
        struct ivg_region region = test_map(fd, IVG_SIDE_GUEST, 0);
        uint32_t mapped = 0;

        (void)state;
        for (uint32_t i = 0; i < IVG_WINDOW_ATTEMPTS_MAX; i++) {
                uint8_t *window = ivg_region_window_candidate(&region, i);
                uint8_t back;

                assert_int_equal((uintptr_t)window % (1ull << 30), 0);
                for (uint32_t j = 0; j < i; j++) {
                        const uintptr_t other = (uintptr_t)ivg_region_window_candidate(&region, j);
                        const uintptr_t here = (uintptr_t)window;

                        assert_true((here > other ? here - other : other - here) >= IVG_REGION_BYTES_MAX);
                }
                if (ivg_region_map_arena(&region, fd, window) != 0)
                        continue; /* a sanitizer's shadow lies there */
                mapped++;
                window[region.arena_bytes - 1] = (uint8_t)(i + 1);
                assert_int_equal(pread(fd, &back, 1, (off_t)(region.region_bytes - 1)), 1);
                assert_int_equal(back, i + 1);
                assert_int_equal(ivg_region_map_arena(&region, fd, window), -EEXIST);
                assert_int_equal(munmap(window, region.arena_bytes), 0);
        }
        assert_true(mapped >= 4);
        ivg_region_unmap(&region);
        close(fd);
}

static void owned_ranges_are_bounded(void **state)
{
        int fd = test_region(2, 0);
        struct ivg_region region = test_map(fd, IVG_SIDE_GUEST, 0);
        struct ivg_guest_pages *pages = ivg_region_guest_pages(&region);
        const uint64_t extent = IVG_EXTENT_BYTES;
        const struct {
                uint64_t offset, bytes;
                bool owned;
        } cases[] = {
                {2 * extent, 1, true},
                {2 * extent, 2 * extent, true},
                {4 * extent - 1, 1, true},
                {4 * extent - 1, 2, false},
                {2 * extent - 1, 1, false},
                {2 * extent - 1, 2, false},
                {0, 0, true},
                {region.arena_bytes, 0, true},
                {region.arena_bytes, 1, false},
                {region.arena_bytes + 1, 0, false},
                {UINT64_MAX, 1, false},
                {2 * extent, UINT64_MAX, false},
                {2 * extent, UINT64_MAX - 2 * extent + 1, false},
                {UINT64_MAX - 10, 20, false},
                {5 * extent, 1, false}, /* channel 1's */
                {region.arena_bytes - 1, 1, true},
        };

        (void)state;
        ivg_store_release_u32(&pages->extent_owner[2], 1);
        ivg_store_release_u32(&pages->extent_owner[3], 1);
        ivg_store_release_u32(&pages->extent_owner[5], 2);
        ivg_store_release_u32(&pages->extent_owner[region.extent_count - 1], 1);
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
                assert_int_equal(ivg_region_arena_owned(&region, 0, cases[i].offset, cases[i].bytes), cases[i].owned);
        assert_true(ivg_region_arena_owned(&region, 1, 5 * extent, extent));
        ivg_region_unmap(&region);
        close(fd);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_file_cannot_change_size),
                cmocka_unit_test(each_side_writes_only_its_own_pages),
                cmocka_unit_test(a_guest_may_map_its_channel_later),
                cmocka_unit_test(both_sides_see_one_memory),
                cmocka_unit_test(the_arena_lies_where_asked_or_not_at_all),
                cmocka_unit_test(owned_ranges_are_bounded),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
