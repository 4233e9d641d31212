/* What every test of the PTX engine needs: a module from tests/unit/ptx, buffers in a memory map, launches by name. */
#ifndef IVGPU_TESTS_SOFTGPU_PTX_H
#define IVGPU_TESTS_SOFTGPU_PTX_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ptx.h"

#define RANGES_MAX 64u

/* A device of one module. Every allocation is a range of its own, so that a stray access cannot land in another. */
struct device {
        struct ptx_module *module;
        struct ptx_range ranges[RANGES_MAX];
        size_t range_count;
        struct ptx_memory memory;
        char printed[65536];
        size_t printed_bytes;
        char log_text[2048];
        struct ptx_fault fault;
        const struct ptx_texture *texture; /* the one object that numbers may name: by its address */
};

static inline const struct ptx_texture *device_texture(void *user, uint64_t number)
{
        const struct device *device = user;

        return device->texture && number == (uint64_t)(uintptr_t)device->texture ? device->texture : NULL;
}

static inline void *device_allocate(void *user, size_t bytes, size_t alignment)
{
        struct device *device = user;
        size_t at = device->range_count;
        void *memory;

        assert_true(device->range_count < RANGES_MAX);
        memory = aligned_alloc(alignment < 16 ? 16 : alignment, (bytes + 4095) & ~(size_t)4095);
        assert_non_null(memory);
        memset(memory, 0, (bytes + 4095) & ~(size_t)4095);
        while (at > 0 && device->ranges[at - 1].start > (uint64_t)(uintptr_t)memory) {
                device->ranges[at] = device->ranges[at - 1];
                at--;
        }
        device->ranges[at] = (struct ptx_range){(uint64_t)(uintptr_t)memory, bytes, true};
        device->range_count++;
        return memory;
}

static inline void device_release(void *user, void *memory)
{
        struct device *device = user;
        size_t at = 0;

        while (at < device->range_count && device->ranges[at].start != (uint64_t)(uintptr_t)memory)
                at++;
        assert_true(at < device->range_count);
        memmove(&device->ranges[at], &device->ranges[at + 1],
                (device->range_count - at - 1) * sizeof(device->ranges[0]));
        device->range_count--;
        free(memory);
}

static inline void device_print(void *user, const char *text, size_t bytes)
{
        struct device *device = user;

        assert_int_equal(text[bytes], '\0');
        assert_true(device->printed_bytes + bytes < sizeof(device->printed));
        memcpy(device->printed + device->printed_bytes, text, bytes + 1);
        device->printed_bytes += bytes;
}

static inline char *read_text(const char *path, size_t *bytes)
{
        FILE *file = fopen(path, "rb");
        char *text;
        long size;

        if (!file)
                fail_msg("cannot open %s", path);
        fseek(file, 0, SEEK_END);
        size = ftell(file);
        rewind(file);
        text = malloc((size_t)size + 1);
        assert_non_null(text);
        *bytes = fread(text, 1, (size_t)size, file);
        fclose(file);
        return text;
}

static inline enum ptx_status device_load_text(struct device *device, const char *text, size_t bytes)
{
        const struct ptx_allocator allocator = {device_allocate, device_release, device};
        struct ptx_log log = {device->log_text, sizeof(device->log_text), 0};

        device->log_text[0] = '\0';
        return ptx_load(text, bytes, &allocator, &log, &device->module);
}

static inline struct device *device_open(const char *name)
{
        struct device *device = calloc(1, sizeof(*device));
        char path[512];
        size_t bytes;
        char *text;
        enum ptx_status status;

        assert_non_null(device);
        snprintf(path, sizeof(path), "%s/%s", SOFTGPU_PTX, name);
        text = read_text(path, &bytes);
        status = device_load_text(device, text, bytes);
        free(text);
        if (status != PTX_OK)
                fail_msg("%s: %s", name, device->log_text);
        return device;
}

static inline void device_close(struct device *device)
{
        ptx_unload(device->module);
        while (device->range_count)
                device_release(device, (void *)(uintptr_t)device->ranges[0].start);
        free(device);
}

struct shape {
        uint32_t grid[3], block[3], shared;
        bool cooperative;
        unsigned workers;
};

/* Arguments: all of eight bytes, given as such; smaller ones are cut to the parameter's size. */
static inline enum ptx_status device_launch(struct device *device, const char *name, struct shape shape, size_t count,
                                            const uint64_t *arguments)
{
        struct ptx_launch launch = {0};
        struct ptx_function_info info;
        uint8_t *params;
        enum ptx_status status;

        launch.function = ptx_function_find(device->module, name);
        if (!launch.function)
                fail_msg("no kernel %s", name);
        ptx_function_query(launch.function, &info);
        assert_int_equal(info.param_count, count);
        params = calloc(1, info.param_bytes + 1);
        assert_non_null(params);
        for (size_t i = 0; i < count; i++) {
                size_t offset, bytes;

                assert_true(ptx_function_param(launch.function, i, &offset, &bytes));
                if (bytes > 8) /* a structure: the argument is its address */
                        memcpy(params + offset, (const void *)(uintptr_t)arguments[i], bytes);
                else
                        memcpy(params + offset, &arguments[i], bytes);
        }
        for (unsigned i = 0; i < 3; i++) {
                launch.grid[i] = shape.grid[i] ? shape.grid[i] : 1;
                launch.block[i] = shape.block[i] ? shape.block[i] : 1;
        }
        launch.dynamic_shared_bytes = shape.shared;
        launch.cooperative = shape.cooperative;
        launch.workers = shape.workers;
        launch.params = params;
        device->memory = (struct ptx_memory){device->ranges, device->range_count};
        launch.memory = &device->memory;
        launch.print = device_print;
        launch.print_user = device;
        launch.texture = device_texture;
        launch.texture_user = device;
        status = ptx_launch(&launch, &device->fault);
        free(params);
        return status;
}

#define ARGUMENT(X) ((uint64_t)(uintptr_t)(X))
#define LAUNCH(DEVICE, NAME, SHAPE, ...) \
        device_launch(DEVICE, NAME, SHAPE, sizeof((uint64_t[]){__VA_ARGS__}) / 8, (uint64_t[]){__VA_ARGS__})
#define RUN(DEVICE, NAME, SHAPE, ...)                                                                         \
        do {                                                                                                  \
                enum ptx_status status_ = LAUNCH(DEVICE, NAME, SHAPE, __VA_ARGS__);                           \
                if (status_ != PTX_OK)                                                                        \
                        fail_msg("%s: %s: line %u: %s", NAME, ptx_status_name(status_), (DEVICE)->fault.line, \
                                 (DEVICE)->fault.detail);                                                     \
        } while (0)
static inline struct shape line(uint32_t blocks, uint32_t threads)
{
        struct shape shape = {.grid = {blocks, 1, 1}, .block = {threads, 1, 1}};

        return shape;
}

static inline void *device_buffer(struct device *device, size_t bytes)
{
        return device_allocate(device, bytes, 256);
}

/* A small generator of our own: tests must not depend on the C library's. */
static inline uint64_t next_random(uint64_t *state)
{
        uint64_t z = *state += 0x9e3779b97f4a7c15ull;

        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
        z = (z ^ z >> 27) * 0x94d049bb133111ebull;
        return z ^ z >> 31;
}

/* To the bit. */
#define SAME_BITS(GOT, WANTED) ((GOT) == (WANTED))

/* Defines the test NAME: each kernel of a table of {name, expected}, run over COUNT times three operands of TYPE, gives
 * what `expected` does. OPERAND draws one from `state`, for index `i` and place `k`; SAME(got, wanted) judges. */
#define INSTRUCTIONS_TEST(NAME, TYPE, FILE, SEED, KERNELS, OPERAND, SAME)                                            \
        static void NAME(void **unused)                                                                              \
        {                                                                                                            \
                struct device *device = device_open(FILE);                                                           \
                TYPE *in[3], *out = device_buffer(device, COUNT * sizeof(TYPE));                                     \
                uint64_t state = SEED;                                                                               \
                                                                                                                     \
                (void)unused;                                                                                        \
                for (unsigned k = 0; k < 3; k++)                                                                     \
                        in[k] = device_buffer(device, COUNT * sizeof(TYPE));                                         \
                for (unsigned i = 0; i < COUNT; i++)                                                                 \
                        for (unsigned k = 0; k < 3; k++)                                                             \
                                in[k][i] = OPERAND;                                                                  \
                for (size_t n = 0; n < sizeof(KERNELS) / sizeof(KERNELS[0]); n++) {                                  \
                        RUN(device, KERNELS[n].name, line(COUNT / 128, 128), ARGUMENT(in[0]), ARGUMENT(in[1]),       \
                            ARGUMENT(in[2]), ARGUMENT(out));                                                         \
                        for (unsigned i = 0; i < COUNT; i++) {                                                       \
                                const TYPE wanted = KERNELS[n].expected(in[0][i], in[1][i], in[2][i]);               \
                                                                                                                     \
                                if (!SAME(out[i], wanted))                                                           \
                                        fail_msg("%s(0x%llx, 0x%llx, 0x%llx) = 0x%llx, not 0x%llx", KERNELS[n].name, \
                                                 (unsigned long long)in[0][i], (unsigned long long)in[1][i],         \
                                                 (unsigned long long)in[2][i], (unsigned long long)out[i],           \
                                                 (unsigned long long)wanted);                                        \
                        }                                                                                            \
                }                                                                                                    \
                device_close(device);                                                                                \
        }

/* How far two floats are apart, in units of the last place; equal NaNs and equal infinities are zero apart. */
static inline double ulps32(float got, float wanted)
{
        int32_t x, y;

        if (got != got || wanted != wanted)
                return (got != got) == (wanted != wanted) ? 0 : 1e30;
        memcpy(&x, &got, 4);
        memcpy(&y, &wanted, 4);
        x = x < 0 ? (int32_t)(0x80000000u - (uint32_t)x) : x;
        y = y < 0 ? (int32_t)(0x80000000u - (uint32_t)y) : y;
        return (double)x > (double)y ? (double)x - (double)y : (double)y - (double)x;
}

static inline double ulps64(double got, double wanted)
{
        int64_t x, y;

        if (got != got || wanted != wanted)
                return (got != got) == (wanted != wanted) ? 0 : 1e30;
        memcpy(&x, &got, 8);
        memcpy(&y, &wanted, 8);
        x = x < 0 ? (int64_t)(0x8000000000000000ull - (uint64_t)x) : x;
        y = y < 0 ? (int64_t)(0x8000000000000000ull - (uint64_t)y) : y;
        return x > y ? (double)((uint64_t)x - (uint64_t)y) : (double)((uint64_t)y - (uint64_t)x);
}

#endif
