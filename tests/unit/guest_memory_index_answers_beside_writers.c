/* The memory index: exact bounds, overlaps refused, and readers that never see a torn or foreign range while others add
 * and remove. */
#include "guest_fake_host.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct ivg_memory_index *const index_ = &ivg_memory_of_device;

static int add(uint64_t base, uint64_t bytes)
{
        struct ivg_memory_range range = {.base = base, .bytes = bytes, .kind = IVG_MEMORY_DEVICE};
        return ivg_memory_add(index_, &range);
}

static void remove_all(const uint64_t *bases, size_t count)
{
        struct ivg_memory_range range;
        for (size_t i = 0; i < count; i++)
                assert_true(ivg_memory_remove(index_, bases[i], IVG_MEMORY_DEVICE, &range));
}

static void bounds_are_exact(void **state)
{
        (void)state;
        struct ivg_memory_range range;
        assert_false(ivg_memory_find(index_, 0x1000, &range)); /* nothing there yet, not even memory for entries */
        assert_int_equal(add(0x5000, 0x100), 0);
        assert_int_equal(add(0x1000, 0x100), 0);
        assert_int_equal(add(0x3000, 1), 0);
        assert_false(ivg_memory_find(index_, 0xfff, &range));
        assert_true(ivg_memory_find(index_, 0x1000, &range));
        assert_true(ivg_memory_find(index_, 0x10ff, &range));
        assert_int_equal(range.base, 0x1000);
        assert_int_equal(range.bytes, 0x100);
        assert_false(ivg_memory_find(index_, 0x1100, &range));
        assert_true(ivg_memory_find(index_, 0x3000, &range));
        assert_false(ivg_memory_find(index_, 0x3001, &range));
        assert_true(ivg_memory_find(index_, 0x50ff, &range));
        assert_false(ivg_memory_find(index_, UINT64_MAX, &range));
        remove_all((const uint64_t[]){0x1000, 0x3000, 0x5000}, 3);
        assert_false(ivg_memory_find(index_, 0x1000, &range));
}

static void overlaps_and_nonsense_are_refused(void **state)
{
        (void)state;
        struct ivg_memory_range range;
        assert_int_equal(add(0x1000, 0x1000), 0);
        assert_int_equal(add(0x1000, 0x1000), -EEXIST);
        assert_int_equal(add(0x1fff, 1), -EEXIST);
        assert_int_equal(add(0xfff, 2), -EEXIST);
        assert_int_equal(add(0x500, 0x10000), -EEXIST);
        assert_int_equal(add(0x2000, 1), 0); /* the neighbours are free */
        assert_int_equal(add(0xfff, 1), 0);
        assert_int_equal(add(0x9000, 0), -EINVAL);
        assert_int_equal(add(UINT64_MAX - 10, 11), -EINVAL);
        assert_false(ivg_memory_remove(index_, 0x1001, IVG_MEMORY_DEVICE, &range)); /* not its start */
        assert_false(ivg_memory_remove(index_, 0x1000, IVG_MEMORY_GLOBAL, &range)); /* not its kind */
        remove_all((const uint64_t[]){0xfff, 0x1000, 0x2000}, 3);
        assert_false(ivg_memory_remove(index_, 0x1000, IVG_MEMORY_DEVICE, &range)); /* a second time */
}

static void numbers_are_never_used_twice(void **state)
{
        (void)state;
        struct ivg_memory_range range = {.base = 0x1000, .bytes = 1, .kind = IVG_MEMORY_DEVICE}, removed;
        assert_int_equal(ivg_memory_add(index_, &range), 0);
        const uint64_t first = range.id;
        assert_true(ivg_memory_remove(index_, 0x1000, IVG_MEMORY_DEVICE, &removed));
        assert_int_equal(removed.id, first);
        range.id = 0;
        assert_int_equal(ivg_memory_add(index_, &range), 0);
        assert_true(range.id > first);
        remove_all((const uint64_t[]){0x1000}, 1);
}

static void ranges_go_with_their_context(void **state)
{
        (void)state;
        struct ivg_object one = {.id = 1}, two = {.id = 2};
        struct ivg_memory_range removed;
        for (uint64_t i = 0; i < 10; i++) {
                struct ivg_memory_range range = {.base = 0x1000 * (i + 1),
                                                 .bytes = 16,
                                                 .kind = IVG_MEMORY_DEVICE,
                                                 .context = i % 2 ? &one : &two};
                assert_int_equal(ivg_memory_add(index_, &range), 0);
        }
        int count = 0;
        while (ivg_memory_remove_of_context(index_, &one, IVG_MEMORY_DEVICE, &removed)) {
                assert_ptr_equal(removed.context, &one);
                count++;
        }
        assert_int_equal(count, 5);
        assert_false(ivg_memory_find(index_, 0x2000, &removed));
        assert_true(ivg_memory_find(index_, 0x1000, &removed));
        while (ivg_memory_remove_of_context(index_, &two, IVG_MEMORY_DEVICE, &removed))
                continue;
}

/* ---- readers beside writers ---- */

#define SLOTS 64u
#define STRIDE 0x10000u
#define ROUNDS 20000u        /* at least; */
#define ROUNDS_MAX 20000000u /* and until every reader has looked often enough while it went on */
#define LOOKS 5000u
static _Atomic(uint32_t) stop;
static _Atomic(uint32_t) readers_satisfied;

/* Every range says in its fields where it lies: a torn one contradicts itself. */
static struct ivg_memory_range stress_range(uint32_t slot)
{
        return (struct ivg_memory_range){.base = (uint64_t)STRIDE * (slot + 1),
                                         .bytes = 0x100 + slot,
                                         .kind = IVG_MEMORY_DEVICE,
                                         .flags = slot,
                                         .device = (int)slot};
}

static void *read_ranges(void *arg)
{
        uint64_t state = (uintptr_t)arg, found = 0;
        while (!ivg_load_acquire_u32(&stop)) {
                state = state * 6364136223846793005ull + 1442695040888963407ull;
                const uint32_t slot = (uint32_t)(state >> 33) % SLOTS;
                const struct ivg_memory_range expected = stress_range(slot);
                struct ivg_memory_range range;
                if (!ivg_memory_find(index_, expected.base + slot, &range)) {
                        if (slot % 4 == 0)
                                return (void *)(uintptr_t) "a range that is always there was not found";
                        continue;
                }
                if (++found == LOOKS)
                        atomic_fetch_add(&readers_satisfied, 1);
                if (range.base != expected.base || range.bytes != expected.bytes || range.flags != slot ||
                    range.device != (int)slot)
                        return (void *)(uintptr_t) "a range that contradicts itself";
        }
        return found > 0 ? NULL : (void *)(uintptr_t) "nothing was ever found";
}

static void readers_see_whole_ranges(void **unused)
{
        (void)unused;
        pthread_t readers[3];
        struct ivg_memory_range removed;
        for (uint32_t slot = 0; slot < SLOTS; slot += 4) { /* every fourth stays */
                struct ivg_memory_range range = stress_range(slot);
                assert_int_equal(ivg_memory_add(index_, &range), 0);
        }
        for (uintptr_t i = 0; i < 3; i++)
                assert_int_equal(pthread_create(&readers[i], NULL, read_ranges, (void *)(i * 7919 + 1)), 0);
        for (uint32_t round = 0; round < ROUNDS || atomic_load(&readers_satisfied) < 3; round++) {
                assert_true(round < ROUNDS_MAX);
                const uint32_t slot = round * 7 % SLOTS;
                struct ivg_memory_range range = stress_range(slot);
                if (slot % 4 == 0)
                        continue;
                if (!ivg_memory_remove(index_, range.base, IVG_MEMORY_DEVICE, &removed))
                        assert_int_equal(ivg_memory_add(index_, &range), 0);
        }
        ivg_store_release_u32(&stop, 1);
        for (int i = 0; i < 3; i++) {
                void *complaint;
                assert_int_equal(pthread_join(readers[i], &complaint), 0);
                if (complaint != NULL)
                        fail_msg("%s", (const char *)complaint);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(bounds_are_exact),
                cmocka_unit_test(overlaps_and_nonsense_are_refused),
                cmocka_unit_test(numbers_are_never_used_twice),
                cmocka_unit_test(ranges_go_with_their_context),
                cmocka_unit_test(readers_see_whole_ranges),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
