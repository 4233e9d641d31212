/* Copies of every size class, pageable and pinned, both ways; sets; device to device; kernels on pinned memory. */
#include "check.h"

static const size_t sizes[] = {
        1, 3, 48, 56, 255, 1000, 2999, 3001, 4096, 65537, (1 << 20) - 1, 1 << 20, (5 << 20) + 13, 33 << 20};
#define SIZES (sizeof sizes / sizeof sizes[0])

static void round_trip(uint8_t *up, uint8_t *down, size_t bytes, CUstream stream, int async, const char *what)
{
        CUdeviceptr device;
        CU(cuMemAlloc_v2(&device, bytes + 16));
        test_fill(up, bytes, bytes + 1);
        memset(down, 0xa5, bytes);
        if (async) {
                CU(cuMemcpyHtoDAsync_v2(device + 16, up, bytes, stream));
                CU(cuMemcpyDtoHAsync_v2(down, device + 16, bytes, stream));
                CU(cuStreamSynchronize(stream));
        } else {
                CU(cuMemcpyHtoD_v2(device + 16, up, bytes));
                CU(cuMemcpyDtoH_v2(down, device + 16, bytes));
        }
        CHECK(memcmp(up, down, bytes) == 0, "%s, %zu bytes: not what was sent", what, bytes);
        CU(cuMemFree_v2(device));
}

static void host_copies(void)
{
        CUstream stream;
        CU(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
        for (size_t i = 0; i < SIZES; i++) {
                const size_t bytes = sizes[i];
                uint8_t *pageable[2] = {malloc(bytes), malloc(bytes)};
                void *pinned[2];
                CU(cuMemHostAlloc(&pinned[0], bytes, CU_MEMHOSTALLOC_PORTABLE));
                CU(cuMemAllocHost_v2(&pinned[1], bytes));
                round_trip(pageable[0], pageable[1], bytes, NULL, 0, "pageable");
                round_trip(pageable[0], pageable[1], bytes, stream, 1, "pageable, async");
                round_trip(pinned[0], pinned[1], bytes, NULL, 0, "pinned");
                round_trip(pinned[0], pinned[1], bytes, stream, 1, "pinned, async");
                round_trip(pinned[0], pageable[1], bytes, stream, 1, "pinned up, pageable down");
                CU(cuMemFreeHost(pinned[0]));
                CU(cuMemFreeHost(pinned[1]));
                free(pageable[0]);
                free(pageable[1]);
        }
        CU(cuStreamDestroy_v2(stream));
}

/* A pageable source may be overwritten as soon as the copy returns. */
static void source_is_read_on_return(void)
{
        const size_t bytes = 9u << 20;
        uint8_t *source = malloc(bytes), *back = malloc(bytes);
        CUdeviceptr device;
        CU(cuMemAlloc_v2(&device, bytes));
        for (int round = 0; round < 4; round++) {
                test_fill(source, bytes, (uint64_t)round);
                const uint64_t sum = test_checksum(source, bytes);
                CU(cuMemcpyHtoD_v2(device, source, bytes));
                memset(source, 0, bytes);
                CU(cuMemcpyDtoH_v2(back, device, bytes));
                CHECK(test_checksum(back, bytes) == sum, "round %d: the copy read its source too late", round);
        }
        CU(cuMemFree_v2(device));
        free(source);
        free(back);
}

static void sets(void)
{
        const size_t count = 100003;
        CUdeviceptr device;
        uint8_t *host = malloc(count * 4);
        CU(cuMemAlloc_v2(&device, count * 4));
        CU(cuMemsetD8_v2(device, 0x11, count * 4));
        CU(cuMemsetD8_v2(device + 1, 0xab, count));
        CU(cuMemcpyDtoH_v2(host, device, count * 4));
        CHECK(host[0] == 0x11 && host[1] == 0xab && host[count] == 0xab && host[count + 1] == 0x11,
              "cuMemsetD8 bounds");
        CU(cuMemsetD16_v2(device, 0xbeef, count));
        CU(cuMemcpyDtoH_v2(host, device, count * 4));
        CHECK(host[0] == 0xef && host[1] == 0xbe && host[2 * count - 1] == 0xbe && host[2 * count] != 0xef,
              "cuMemsetD16");
        CU(cuMemsetD32Async(device, 0x01020304, count, NULL));
        CU(cuMemcpyDtoH_v2(host, device, count * 4));
        for (size_t i = 0; i < count; i++)
                CHECK(((uint32_t *)(void *)host)[i] == 0x01020304, "cuMemsetD32Async, word %zu", i);
        CU(cuMemFree_v2(device));
        free(host);
}

static void device_copies(void)
{
        const size_t bytes = (3u << 20) + 5;
        uint8_t *up = malloc(bytes), *down = malloc(bytes);
        CUdeviceptr a, b;
        CU(cuMemAlloc_v2(&a, bytes));
        CU(cuMemAlloc_v2(&b, bytes));
        test_fill(up, bytes, 77);
        CU(cuMemcpyHtoD_v2(a, up, bytes));
        CU(cuMemcpyDtoD_v2(b, a, bytes));
        CU(cuMemcpyDtoH_v2(down, b, bytes));
        CHECK(memcmp(up, down, bytes) == 0, "cuMemcpyDtoD");
        memset(down, 0, bytes);
        CU(cuMemsetD8_v2(b, 0, bytes));
        CU(cuMemcpy(b, a, bytes));
        CU(cuMemcpy((CUdeviceptr)(uintptr_t)down, b, bytes));
        CHECK(memcmp(up, down, bytes) == 0, "cuMemcpy by unified addresses");
        CUdeviceptr base;
        size_t size;
        CU(cuMemGetAddressRange_v2(&base, &size, b + 12345));
        CHECK(base == b && size == bytes, "cuMemGetAddressRange: %#llx + %zu", (unsigned long long)base, size);
        CU(cuMemFree_v2(a));
        CU(cuMemFree_v2(b));
        free(up);
        free(down);
}

/* One address on both sides: a kernel reads and writes pinned memory through the host pointer. */
static void kernel_on_pinned_memory(CUmodule module)
{
        const uint64_t count = 5000;
        void *memory;
        CUdeviceptr device;
        CU(cuMemHostAlloc(&memory, count * 4, CU_MEMHOSTALLOC_DEVICEMAP));
        CU(cuMemHostGetDevicePointer_v2(&device, memory, 0));
        CHECK(device == (CUdeviceptr)(uintptr_t)memory, "device pointer %#llx of host pointer %p",
              (unsigned long long)device, memory);
        memset(memory, 0, count * 4);
        uint32_t value = 1000;
        uint64_t n = count;
        void *parameters[] = {&memory, &value, &n};
        CU(cuLaunchKernel(test_function(module, "fill_u32"), 4, 1, 1, 128, 1, 1, 0, NULL, parameters, NULL));
        CU(cuCtxSynchronize());
        for (uint32_t i = 0; i < count; i++)
                CHECK(((volatile uint32_t *)memory)[i] == 1000 + i, "word %u of pinned memory", i);
        CU(cuMemFreeHost(memory));
}

static void memory_figures(void)
{
        size_t free_before, free_after, total;
        CUdeviceptr device;
        CU(cuMemGetInfo_v2(&free_before, &total));
        CU(cuMemAlloc_v2(&device, 64u << 20));
        CU(cuMemGetInfo_v2(&free_after, &total));
        CHECK(free_before >= free_after + (64u << 20) && free_before <= total, "free memory %zu, then %zu of %zu",
              free_before, free_after, total);
        CU(cuMemFree_v2(device));
        CU_EXPECT(CUDA_ERROR_OUT_OF_MEMORY, cuMemAlloc_v2(&device, total * 2));
        CU_EXPECT(CUDA_ERROR_INVALID_VALUE, cuMemAlloc_v2(&device, 0));
        CU_EXPECT(CUDA_ERROR_INVALID_VALUE, cuMemAlloc_v2(NULL, 16));
        CU(cuMemAlloc_v2(&device, 1 << 20)); /* recovered */
        CU(cuMemFree_v2(device));
        CU_EXPECT(CUDA_ERROR_INVALID_VALUE, cuMemFreeHost((void *)8));
}

int main(void)
{
        test_context();
        CUmodule module = test_module();
        host_copies();
        source_is_read_on_return();
        sets();
        device_copies();
        kernel_on_pinned_memory(module);
        memory_figures();
        CU(cuModuleUnload(module));
        puts("memory: right");
        return 0;
}
