/* What the fuzz targets share: what must hold is checked in every build, and ends the run with its words. */
#ifndef IVG_TESTS_FUZZ_H
#define IVG_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(condition, ...)                                              \
        do {                                                              \
                if (!(condition)) {                                       \
                        fprintf(stderr, "%s:%d: ", __FILE__, __LINE__);   \
                        fprintf(stderr, __VA_ARGS__);                     \
                        fprintf(stderr, "; must hold: %s\n", #condition); \
                        abort();                                          \
                }                                                         \
        } while (0)

/* An input read from its beginning; past its end everything is zero. */
struct fuzz_input {
        const uint8_t *at;
        size_t left;
};

static inline void fuzz_take(struct fuzz_input *input, void *to, size_t bytes)
{
        const size_t there = bytes < input->left ? bytes : input->left;

        memset(to, 0, bytes);
        if (there)
                memcpy(to, input->at, there);
        input->at += there;
        input->left -= there;
}

static inline uint64_t fuzz_take_number(struct fuzz_input *input, size_t bytes)
{
        uint64_t value = 0;
        uint8_t raw[8];

        fuzz_take(input, raw, bytes);
        memcpy(&value, raw, bytes); /* little-endian */
        return value;
}

#endif
