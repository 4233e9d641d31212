/* What the tests of ivshmem-glue share: cmocka, a region in memory, a private directory. */
#ifndef IVG_GLUE_FIXTURE_H
#define IVG_GLUE_FIXTURE_H

#include "link_internal.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define TEST_FINGERPRINT 0x1122334455667788ull
#define TEST_REGION_BYTES (64ull << 20)

/* Asserts that the words say what they must: a refusal for another reason is a failure. */
#define assert_words(error, expected)                                                   \
        do {                                                                            \
                if (strstr((error).text, (expected)) == NULL)                           \
                        fail_msg("words \"%s\" lack \"%s\"", (error).text, (expected)); \
        } while (0)

static inline int test_region(uint32_t channel_count, uint32_t vector_count)
{
        const struct ivg_region_config config = {
                .region_bytes = TEST_REGION_BYTES,
                .channel_count = channel_count,
                .vector_count = vector_count,
                .vm_id = 7,
                .vm_name = "test",
                .call_table_fingerprint = TEST_FINGERPRINT,
        };
        struct ivg_error error = {""};
        int fd = -1;

        if (ivg_region_create(&config, &fd, &error) != 0)
                fail_msg("ivg_region_create: %s", error.text);
        return fd;
}

/* A region of `fd`, checked and mapped as `side`. */
static inline struct ivg_region test_map(int fd, enum ivg_region_side side, uint32_t channel)
{
        struct ivg_error error = {""};
        struct ivg_region region;

        if (ivg_region_check_fd(fd, TEST_FINGERPRINT, &region, &error) != 0 ||
            ivg_region_map(&region, fd, side, channel, &error) != 0)
                fail_msg("region: %s", error.text);
        return region;
}

/* A new directory below $TMPDIR or /tmp; the test removes it with test_directory_remove(). */
static inline void test_directory(char path[64])
{
        strcpy(path, "/tmp/ivgpu-test-XXXXXX");
        assert_non_null(mkdtemp(path));
}

static inline uint64_t test_ms_since(uint64_t begin_ns)
{
        return (ivg_now_ns() - begin_ns) / IVG_NS_PER_MS;
}

#endif
