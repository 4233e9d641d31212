/* The store of images: what it holds, what goes when room is short, and whose. */
#include "image_store.h"
#include "images_fixture.h"

#define KIB 1024u

static bool put(struct ivg_image_store *store, uint32_t tenant, uint32_t space, uint32_t seed, uint64_t bytes)
{
        struct test_image image = test_image_make(bytes, seed);
        const bool kept = ivg_image_store_put(store, tenant, space, &image.digest, bytes,
                                              test_image_file(&image, IVG_IMAGES_SEALS));

        test_image_free(&image);
        return kept;
}

static bool has(struct ivg_image_store *store, uint32_t space, uint32_t seed, uint64_t bytes)
{
        struct test_image image = test_image_make(bytes, seed);
        const int fd = ivg_image_store_find(store, space, &image.digest, bytes);
        uint8_t *copy = malloc(bytes);

        if (fd >= 0) {
                assert_int_equal(pread(fd, copy, bytes, 0), bytes);
                assert_memory_equal(copy, image.data, bytes);
        }
        free(copy);
        test_image_free(&image);
        return fd >= 0;
}

static struct ivg_image_totals totals(const struct ivg_image_store *store)
{
        struct ivg_image_totals now;

        ivg_image_store_totals(store, &now);
        return now;
}

static void the_least_recently_used_goes_first(void **state)
{
        const struct ivg_image_limits limits = {.bytes_max = 30 * KIB, .tenant_bytes_max = 30 * KIB, .count_max = 100};
        struct ivg_image_store *store = ivg_image_store_create(&limits);

        (void)state;
        for (uint32_t seed = 0; seed < 3; seed++)
                assert_true(put(store, 1, 0, seed, 10 * KIB));
        assert_true(has(store, 0, 0, 10 * KIB)); /* now the newest */
        assert_true(put(store, 1, 0, 3, 10 * KIB));
        assert_false(has(store, 0, 1, 10 * KIB));
        assert_true(has(store, 0, 0, 10 * KIB));
        assert_true(put(store, 1, 0, 4, 30 * KIB)); /* all others go */
        assert_int_equal(totals(store).count, 1);
        assert_int_equal(totals(store).bytes, 30 * KIB);
        assert_int_equal(totals(store).evicted, 4);
        assert_false(put(store, 1, 0, 5, 30 * KIB + 1));
        assert_false(put(store, 1, 0, 5, 0));
        assert_true(has(store, 0, 4, 30 * KIB));
        assert_false(ivg_image_store_fits(store, UINT64_MAX));
        ivg_image_store_destroy(store);
}

static void a_tenant_replaces_its_own(void **state)
{
        const struct ivg_image_limits limits = {.bytes_max = 40 * KIB, .tenant_bytes_max = 20 * KIB, .count_max = 100};
        struct ivg_image_store *store = ivg_image_store_create(&limits);

        (void)state;
        assert_true(put(store, 1, 0, 1, 10 * KIB));
        assert_true(put(store, 2, 0, 2, 10 * KIB));
        for (uint32_t seed = 10; seed < 30; seed++)
                assert_true(put(store, 2, 0, seed, 10 * KIB));
        assert_true(has(store, 0, 1, 10 * KIB)); /* untouched by what the other did */
        assert_false(has(store, 0, 2, 10 * KIB));
        assert_true(has(store, 0, 28, 10 * KIB));
        assert_true(has(store, 0, 29, 10 * KIB));
        assert_int_equal(totals(store).count, 3);
        assert_false(put(store, 2, 0, 50, 20 * KIB + 1)); /* more than its share */
        assert_int_equal(totals(store).count, 3);
        ivg_image_store_destroy(store);
}

static void images_are_counted_too(void **state)
{
        const struct ivg_image_limits limits = {.bytes_max = 1 << 20, .tenant_bytes_max = 1 << 20, .count_max = 3};
        const struct ivg_image_limits none = {.bytes_max = 1 << 20, .tenant_bytes_max = 1 << 20, .count_max = 0};
        struct ivg_image_store *store = ivg_image_store_create(&limits);

        (void)state;
        for (uint32_t seed = 0; seed < 50; seed++)
                assert_true(put(store, seed, 0, seed, 100));
        assert_int_equal(totals(store).count, 3);
        assert_true(has(store, 0, 47, 100) && has(store, 0, 48, 100) && has(store, 0, 49, 100));
        ivg_image_store_destroy(store);
        store = ivg_image_store_create(&none);
        assert_false(put(store, 1, 0, 1, 100));
        ivg_image_store_destroy(store);
}

static void names_lengths_and_spaces_are_told_apart(void **state)
{
        const struct ivg_image_limits limits = {.bytes_max = 1 << 20, .tenant_bytes_max = 1 << 20, .count_max = 10};
        struct ivg_image_store *store = ivg_image_store_create(&limits);
        struct test_image image = test_image_make(500, 1), neighbour = test_image_make(500, 1);

        (void)state;
        assert_true(put(store, 1, 7, 1, 500));
        assert_false(put(store, 1, 7, 1, 500)); /* here already */
        assert_int_equal(totals(store).count, 1);
        assert_false(has(store, 0, 1, 500));
        assert_false(has(store, 8, 1, 500));
        assert_true(put(store, 2, 8, 1, 500)); /* the same in another space */
        assert_true(has(store, 7, 1, 500) && has(store, 8, 1, 500));
        assert_true(ivg_image_store_find(store, 7, &image.digest, 499) < 0);
        neighbour.digest.words[3] ^= 1; /* the same bucket */
        assert_true(ivg_image_store_find(store, 7, &neighbour.digest, 500) < 0);
        test_image_free(&image);
        test_image_free(&neighbour);
        ivg_image_store_destroy(store);
}

/* A long random life against the bounds, and no descriptor left behind. */
static void bounds_hold_whatever_comes(void **state)
{
        const struct ivg_image_limits limits = {.bytes_max = 64 * KIB, .tenant_bytes_max = 40 * KIB, .count_max = 12};
        const uint32_t before = test_descriptors();
        struct ivg_image_store *store = ivg_image_store_create(&limits);
        uint32_t random = 1, kept = 0;

        (void)state;
        for (uint32_t i = 0; i < 3000; i++) {
                random = random * 1664525 + 1013904223;
                const uint32_t seed = random >> 8 & 63, bytes = (seed * 977 + 1) % (48 * KIB) + 1;

                if (random >> 30)
                        kept += put(store, random >> 14 & 3, 0, seed, bytes);
                else
                        (void)has(store, 0, seed, bytes);
                assert_true(totals(store).bytes <= limits.bytes_max && totals(store).count <= limits.count_max);
        }
        assert_true(kept > 100);
        assert_int_equal(totals(store).evicted + totals(store).count, kept);
        ivg_image_store_destroy(store);
        assert_int_equal(test_descriptors(), before);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_least_recently_used_goes_first),
                cmocka_unit_test(a_tenant_replaces_its_own),
                cmocka_unit_test(images_are_counted_too),
                cmocka_unit_test(names_lengths_and_spaces_are_told_apart),
                cmocka_unit_test(bounds_hold_whatever_comes),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
