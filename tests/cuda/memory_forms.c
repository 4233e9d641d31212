/* Memory beyond plain blocks and copies: pitched, set in every width and form, copied in rows and boxes, registered. */
#include "supported.h"

/* ---- pitch and sets ---- */

enum { WIDTH = 100, HEIGHT = 13 }; /* elements */

/* Each element inside is the value, each byte beside it is untouched. */
static void check_rows(CUdeviceptr memory, size_t pitch, unsigned element, uint32_t value, const char *what)
{
        uint8_t *rows = malloc(pitch * HEIGHT);
        CU(cuMemcpyDtoH_v2(rows, memory, pitch * HEIGHT));
        for (size_t y = 0; y < HEIGHT; y++)
                for (size_t x = 0; x < pitch; x++) {
                        const uint8_t expected =
                                x < (size_t)WIDTH * element ? (uint8_t)(value >> 8 * (x % element)) : 0x5a;
                        CHECK(rows[y * pitch + x] == expected, "%s: row %zu, byte %zu is %#x, expected %#x", what, y, x,
                              rows[y * pitch + x], expected);
                }
        free(rows);
}

static void pitched_sets(void)
{
        static const unsigned elements[] = {1, 2, 4};
        CUstream stream;
        CU(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
        for (int i = 0; i < 3; i++) {
                const unsigned element = elements[i];
                CUdeviceptr memory;
                size_t pitch = 0;
                CU(cuMemAllocPitch_v2(&memory, &pitch, WIDTH * element, HEIGHT, element == 4 ? 16 : 4));
                CHECK(pitch >= WIDTH * element && pitch % 16 == 0, "pitch %zu", pitch);
                for (int async = 0; async < 2; async++) {
                        const uint32_t value = 0xa1b2c3d4u + (uint32_t)async * 0x01010101u;
                        CU(cuMemsetD8_v2(memory, 0x5a, pitch * HEIGHT));
                        CU(cuCtxSynchronize());
                        if (element == 1 && async)
                                CU(cuMemsetD2D8Async(memory, pitch, (uint8_t)value, WIDTH, HEIGHT, stream));
                        else if (element == 1)
                                CU(cuMemsetD2D8_v2(memory, pitch, (uint8_t)value, WIDTH, HEIGHT));
                        else if (element == 2 && async)
                                CU(cuMemsetD2D16Async(memory, pitch, (uint16_t)value, WIDTH, HEIGHT, stream));
                        else if (element == 2)
                                CU(cuMemsetD2D16_v2(memory, pitch, (uint16_t)value, WIDTH, HEIGHT));
                        else if (async)
                                CU(cuMemsetD2D32Async(memory, pitch, value, WIDTH, HEIGHT, stream));
                        else
                                CU(cuMemsetD2D32_v2(memory, pitch, value, WIDTH, HEIGHT));
                        CU(cuCtxSynchronize());
                        check_rows(memory, pitch, element, value, async ? "async" : "sync");
                }
                CU(cuMemFree_v2(memory));
        }
        CUdeviceptr memory;
        size_t pitch;
        CU_EXPECT(CUDA_ERROR_INVALID_VALUE, cuMemAllocPitch_v2(&memory, &pitch, 100, 100, 3));
        CU_EXPECT(CUDA_ERROR_INVALID_VALUE, cuMemAllocPitch_v2(NULL, &pitch, 100, 100, 4));
        CU(cuStreamDestroy_v2(stream));
}

static void flat_sets(void)
{
        enum { COUNT = 1001 };
        CUstream stream;
        CUdeviceptr memory;
        uint8_t bytes[COUNT];
        uint16_t halves[COUNT];
        CU(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
        CU(cuMemAlloc_v2(&memory, COUNT * 2 + 64));
        CU(cuMemsetD8Async(memory, 0x77, COUNT, stream));
        CU(cuMemcpyDtoHAsync_v2(bytes, memory, COUNT, stream));
        CU(cuStreamSynchronize(stream));
        for (int i = 0; i < COUNT; i++)
                CHECK(bytes[i] == 0x77, "byte %d is %#x", i, bytes[i]);
        CU(cuMemsetD16Async(memory + 2, 0xbeef, COUNT - 1, stream));
        CU(cuMemcpyDtoHAsync_v2(halves, memory, sizeof halves, stream));
        CU(cuStreamSynchronize(stream));
        CHECK(halves[0] == 0x7777, "the word before is %#x", halves[0]);
        for (int i = 1; i < COUNT; i++)
                CHECK(halves[i] == 0xbeef, "word %d is %#x", i, halves[i]);
        CU(cuMemFree_v2(memory));
        CU(cuStreamDestroy_v2(stream));
}

/* ---- rows and boxes ---- */

/* A window of a picture up to the device, moved there, and down to another place, whose other bytes stay. */
static void rows(void)
{
        enum { PITCH = 333, ROWS = 40, BYTES = PITCH * ROWS };
        static uint8_t up[BYTES], down[BYTES], expected[BYTES];
        CUdeviceptr first, second;
        size_t pitch;
        test_fill(up, BYTES, 5);
        memset(down, 0x11, BYTES);
        memset(expected, 0x11, BYTES);
        CU(cuMemAllocPitch_v2(&first, &pitch, 256, 64, 4));
        CU(cuMemAlloc_v2(&second, pitch * 64));
        const size_t width = 101, height = 17;
        CUDA_MEMCPY2D copy = {
                .srcMemoryType = CU_MEMORYTYPE_HOST,
                .srcHost = up,
                .srcPitch = PITCH,
                .srcXInBytes = 7,
                .srcY = 3,
                .dstMemoryType = CU_MEMORYTYPE_DEVICE,
                .dstDevice = first,
                .dstPitch = pitch,
                .dstXInBytes = 13,
                .dstY = 2,
                .WidthInBytes = width,
                .Height = height,
        };
        CU(cuMemcpy2DUnaligned_v2(&copy));
        copy = (CUDA_MEMCPY2D){
                .srcMemoryType = CU_MEMORYTYPE_DEVICE,
                .srcDevice = first,
                .srcPitch = pitch,
                .srcXInBytes = 13,
                .srcY = 2,
                .dstMemoryType = CU_MEMORYTYPE_DEVICE,
                .dstDevice = second,
                .dstPitch = pitch,
                .dstXInBytes = 3,
                .dstY = 20,
                .WidthInBytes = width,
                .Height = height,
        };
        CU(cuMemcpy2DUnaligned_v2(&copy));
        copy = (CUDA_MEMCPY2D){
                .srcMemoryType = CU_MEMORYTYPE_DEVICE,
                .srcDevice = second,
                .srcPitch = pitch,
                .srcXInBytes = 3,
                .srcY = 20,
                .dstMemoryType = CU_MEMORYTYPE_HOST,
                .dstHost = down,
                .dstPitch = PITCH,
                .dstXInBytes = 31,
                .dstY = 9,
                .WidthInBytes = width,
                .Height = height,
        };
        CU(cuMemcpy2D_v2(&copy));
        for (size_t y = 0; y < height; y++)
                memcpy(expected + (9 + y) * PITCH + 31, up + (3 + y) * PITCH + 7, width);
        CHECK(memcmp(down, expected, BYTES) == 0, "a window of rows came back changed");
        CU(cuMemFree_v2(first));
        CU(cuMemFree_v2(second));
}

/* The same in three dimensions, asynchronously, from and to pinned memory. */
static void boxes(void)
{
        enum { PITCH = 96, ROWS = 12, SLICES = 7, BYTES = PITCH * ROWS * SLICES };
        const size_t width = 40, height = 5, depth = 4;
        CUstream stream;
        CUdeviceptr device;
        void *up, *down;
        CU(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
        CU(cuMemHostAlloc(&up, BYTES, 0));
        CU(cuMemHostAlloc(&down, BYTES, 0));
        CU(cuMemAlloc_v2(&device, BYTES));
        test_fill(up, BYTES, 8);
        memset(down, 0, BYTES);
        CUDA_MEMCPY3D copy = {
                .srcMemoryType = CU_MEMORYTYPE_HOST,
                .srcHost = up,
                .srcPitch = PITCH,
                .srcHeight = ROWS,
                .srcXInBytes = 8,
                .srcY = 2,
                .srcZ = 1,
                .dstMemoryType = CU_MEMORYTYPE_DEVICE,
                .dstDevice = device,
                .dstPitch = PITCH,
                .dstHeight = ROWS,
                .dstXInBytes = 16,
                .dstY = 4,
                .dstZ = 2,
                .WidthInBytes = width,
                .Height = height,
                .Depth = depth,
        };
        CU(cuMemcpy3DAsync_v2(&copy, stream));
        copy = (CUDA_MEMCPY3D){
                .srcMemoryType = CU_MEMORYTYPE_DEVICE,
                .srcDevice = device,
                .srcPitch = PITCH,
                .srcHeight = ROWS,
                .srcXInBytes = 16,
                .srcY = 4,
                .srcZ = 2,
                .dstMemoryType = CU_MEMORYTYPE_HOST,
                .dstHost = down,
                .dstPitch = PITCH,
                .dstHeight = ROWS,
                .dstXInBytes = 0,
                .dstY = 1,
                .dstZ = 3,
                .WidthInBytes = width,
                .Height = height,
                .Depth = depth,
        };
        CU(cuMemcpy3DAsync_v2(&copy, stream));
        CU(cuStreamSynchronize(stream));
        for (size_t z = 0; z < SLICES; z++)
                for (size_t y = 0; y < ROWS; y++)
                        for (size_t x = 0; x < PITCH; x++) {
                                const int inside = x < width && y >= 1 && y < 1 + height && z >= 3 && z < 3 + depth;
                                const uint8_t expected =
                                        inside ? ((uint8_t *)up)[((z - 2) * ROWS + y + 1) * PITCH + x + 8] : 0;
                                const uint8_t got = ((uint8_t *)down)[(z * ROWS + y) * PITCH + x];
                                CHECK(got == expected, "byte %zu,%zu,%zu is %u, expected %u", x, y, z, got, expected);
                        }
        CU(cuMemFree_v2(device));
        CU(cuMemFreeHost(up));
        CU(cuMemFreeHost(down));
        CU(cuStreamDestroy_v2(stream));
}

/* ---- registered and managed memory ---- */

static void registered(void)
{
        const size_t bytes = 1 << 20;
        uint8_t *host = NULL, *back = malloc(bytes);
        CUdeviceptr device;
        CHECK(posix_memalign((void **)&host, 4096, bytes) == 0 && back != NULL, "memory");
        CU(cuMemAlloc_v2(&device, bytes));
        for (int version = 0; version < 2; version++) {
                test_fill(host, bytes, (uint64_t)version + 50);
                CU(version == 0 ? cuMemHostRegister(host, bytes, CU_MEMHOSTREGISTER_PORTABLE)
                                : cuMemHostRegister_v2(host, bytes, CU_MEMHOSTREGISTER_PORTABLE));
                CU_EXPECT(CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED, cuMemHostRegister_v2(host, bytes, 0));
                CU(cuMemcpyHtoDAsync_v2(device, host, bytes, NULL));
                CU(cuMemcpyDtoHAsync_v2(back, device, bytes, NULL));
                CU(cuCtxSynchronize());
                CHECK(memcmp(host, back, bytes) == 0, "registered memory arrived changed");
                CU(cuMemHostUnregister(host));
                CU_EXPECT(CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED, cuMemHostUnregister(host));
        }
        CU(cuMemFree_v2(device));
        free(host);
        free(back);
}

/* Written by a kernel, read by the program, and the other way round. */
static void managed(CUmodule module)
{
        CUdeviceptr memory;
        const uint64_t count = 5000;
        uint64_t counted = count;
        uint32_t value = 3;
        CU(cuMemAllocManaged(&memory, count * 4, CU_MEM_ATTACH_GLOBAL));
        uint32_t *words = (uint32_t *)(uintptr_t)memory;
        void *parameters[] = {&memory, &value, &counted};
        CU(cuLaunchKernel(test_function(module, "fill_u32"), 4, 1, 1, 64, 1, 1, 0, NULL, parameters, NULL));
        CU(cuCtxSynchronize());
        for (uint32_t i = 0; i < count; i++)
                CHECK(words[i] == 3 + i, "word %u is %u", i, words[i]);
        words[0] = 41;
        void *counter[] = {&memory};
        CU(cuLaunchKernel(test_function(module, "increment"), 1, 1, 1, 1, 1, 1, 0, NULL, counter, NULL));
        CU(cuCtxSynchronize());
        CHECK(words[0] == 42, "the kernel saw %u", words[0]);
        CU_EXPECT(CUDA_ERROR_INVALID_VALUE, cuMemAllocManaged(&memory, 0, CU_MEM_ATTACH_GLOBAL));
        CU(cuMemFree_v2((uintptr_t)words));
}

int main(void)
{
        test_context();
        pitched_sets();
        flat_sets();
        rows();
        boxes();
        registered();
        managed(test_module());
        puts("memory_forms: right");
        return 0;
}
