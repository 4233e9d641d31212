/* What the tests of kept images share: images of a few bytes, in sealed memory. */
#ifndef IMAGES_FIXTURE_H
#define IMAGES_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include "image_control.h"
#include <cmocka.h>
#include <dirent.h>
#include <stdlib.h>
#include <sys/mman.h>

/* An image's name: of `bytes` bytes that `seed` decides. */
struct test_image {
        uint64_t bytes;
        uint8_t *data;
        struct ivg_digest digest;
};

static inline struct test_image test_image_make(uint64_t bytes, uint32_t seed)
{
        struct test_image image = {.bytes = bytes, .data = malloc(bytes + 1)};

        assert_non_null(image.data);
        for (uint64_t i = 0; i < bytes; i++)
                image.data[i] = (uint8_t)((i + seed) * 2654435761u >> 13);
        ivg_digest_of(image.data, bytes, &image.digest);
        return image;
}

static inline int test_image_file(const struct test_image *image, int seals)
{
        const int fd = memfd_create("test-image", MFD_CLOEXEC | MFD_ALLOW_SEALING);

        assert_true(fd >= 0);
        assert_int_equal(write(fd, image->data, image->bytes), image->bytes);
        assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
        return fd;
}

static inline void test_image_free(struct test_image *image)
{
        free(image->data);
}

static inline uint32_t test_descriptors(void)
{
        DIR *folder = opendir("/proc/self/fd");
        uint32_t count = 0;

        assert_non_null(folder);
        while (readdir(folder))
                count++;
        closedir(folder);
        return count;
}

#endif
