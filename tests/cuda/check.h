/* What the CUDA programs of this folder share: checks that end the program, the kernels' PTX, a generator of data. */
#ifndef IVG_TEST_CHECK_H
#define IVG_TEST_CHECK_H

#include "cuda_api.h" /* generated: prototypes over ivgpu/cuda_abi.h */
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition, ...)                                                           \
        do {                                                                            \
                if (!(condition)) {                                                     \
                        fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #condition); \
                        fprintf(stderr, __VA_ARGS__);                                   \
                        fputc('\n', stderr);                                            \
                        exit(1);                                                        \
                }                                                                       \
        } while (0)

/* The call must answer `expected`. */
#define CU_EXPECT(expected, call)                                                                      \
        do {                                                                                           \
                const CUresult cu_result_ = (call);                                                    \
                CHECK(cu_result_ == (expected), "%s answered %d, expected %d", #call, (int)cu_result_, \
                      (int)(expected));                                                                \
        } while (0)
#define CU(call) CU_EXPECT(CUDA_SUCCESS, call)

extern const char test_kernels_ptx[]; /* NUL-terminated; kernels_ptx.c */

/* Defines `name` as the text of a file, NUL-terminated; `path` is a literal. */
#define PTX_FILE(name, path)                             \
        extern const char name[];                        \
        __asm__(".section .rodata\n"                     \
                ".global " #name "\n"                    \
                ".type " #name ", @object\n" #name ":\n" \
                ".incbin \"" path "\"\n"                 \
                ".byte 0\n"                              \
                ".size " #name ", .-" #name "\n"         \
                ".previous\n")

/* cuInit, device 0's primary context, made current. */
static inline CUcontext test_context(void)
{
        CUdevice device;
        CUcontext context;
        CU(cuInit(0));
        CU(cuDeviceGet(&device, 0));
        CU(cuDevicePrimaryCtxRetain(&context, device));
        CU(cuCtxSetCurrent(context));
        return context;
}

static inline CUfunction test_function(CUmodule module, const char *name)
{
        CUfunction function;
        CU(cuModuleGetFunction(&function, module, name));
        return function;
}

static inline CUmodule test_module(void)
{
        CUmodule module;
        CU(cuModuleLoadData(&module, test_kernels_ptx));
        return module;
}

/* An array that says of itself what was asked for. */
static inline CUarray test_array(size_t width, size_t height, size_t depth, CUarray_format format, unsigned channels,
                                 unsigned flags)
{
        CUarray array;
        CUDA_ARRAY3D_DESCRIPTOR back;
        const CUDA_ARRAY3D_DESCRIPTOR descriptor = {.Width = width,
                                                    .Height = height,
                                                    .Depth = depth,
                                                    .Format = format,
                                                    .NumChannels = channels,
                                                    .Flags = flags};
        CU(cuArray3DCreate_v2(&array, &descriptor));
        CU(cuArray3DGetDescriptor_v2(&back, array));
        CHECK(back.Width == width && back.Height == height && back.Depth == depth && back.Format == format &&
                      back.NumChannels == channels && back.Flags == flags,
              "%zu x %zu x %zu came back as %zu x %zu x %zu", width, height, depth, back.Width, back.Height,
              back.Depth);
        return array;
}

/* A page of zeros that host and device share, by its first word. */
static inline volatile uint32_t *test_pinned_word(CUdeviceptr *device)
{
        void *memory;
        CU(cuMemAllocHost_v2(&memory, 4096));
        memset(memory, 0, 4096);
        CU(cuMemHostGetDevicePointer_v2(device, memory, 0));
        return memory;
}

/* xorshift64*: data that no run of zeros or repetition can fake. */
static inline uint64_t test_random(uint64_t *state)
{
        *state ^= *state >> 12;
        *state ^= *state << 25;
        *state ^= *state >> 27;
        return *state * 0x2545F4914F6CDD1Dull;
}

static inline void test_fill(void *memory, size_t bytes, uint64_t seed)
{
        uint64_t state = seed * 2 + 1;
        uint8_t *out = memory;
        size_t i = 0;
        for (; i + 8 <= bytes; i += 8) {
                const uint64_t word = test_random(&state);
                memcpy(out + i, &word, 8);
        }
        for (; i < bytes; i++)
                out[i] = (uint8_t)test_random(&state);
}

/* Fletcher-like sum over 64-bit words: position matters, so a misplaced chunk shows. */
static inline uint64_t test_checksum(const void *memory, size_t bytes)
{
        const uint8_t *in = memory;
        uint64_t a = 1, b = 0;
        for (size_t i = 0; i + 8 <= bytes; i += 8) {
                uint64_t word;
                memcpy(&word, in + i, 8);
                a += word;
                b += a;
        }
        for (size_t i = bytes & ~(size_t)7; i < bytes; i++) {
                a += in[i];
                b += a;
        }
        return a ^ (b << 1 | b >> 63);
}

#endif
