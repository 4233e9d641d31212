/* Managed memory: one pointer for the program and the kernels, copies of every kind, advice and what is told of it. */
#include "check.h"

enum { COUNT = 300000 };
static CUmodule module;

static void fill(CUdeviceptr out, uint32_t value, uint64_t count, CUstream stream)
{
        void *parameters[] = {&out, &value, &count};
        CU(cuLaunchKernel(test_function(module, "fill_u32"), 16, 1, 1, 128, 1, 1, 0, stream, parameters, NULL));
}

static void both_sides_work_on_it(void)
{
        CUdeviceptr memory;
        CU(cuMemAllocManaged(&memory, COUNT * 4, CU_MEM_ATTACH_GLOBAL));
        uint32_t *words = (uint32_t *)(uintptr_t)memory;
        for (uint32_t round = 0; round < 5; round++) {
                fill(memory, round * 10, COUNT, NULL);
                CU(cuCtxSynchronize());
                for (uint32_t i = 0; i < COUNT; i++)
                        CHECK(words[i] == round * 10 + i, "round %u, word %u: %u", round, i, words[i]);
        }
        /* The program's own stores reach the next kernel. */
        words[7] = 1000;
        void *parameters[] = {&memory};
        CUdeviceptr at = memory + 28;
        parameters[0] = &at;
        CU(cuLaunchKernel(test_function(module, "increment"), 1, 1, 1, 32, 1, 1, 0, NULL, parameters, NULL));
        CU(cuCtxSynchronize());
        CHECK(words[7] == 1032, "word %u", words[7]);
        CU(cuMemFree_v2(memory));
        CU_EXPECT(CUDA_ERROR_INVALID_VALUE, cuMemAllocManaged(&memory, 0, CU_MEM_ATTACH_GLOBAL));
        CU_EXPECT(CUDA_ERROR_INVALID_VALUE, cuMemAllocManaged(&memory, 100, 7));
}

static void copies_take_it_on_either_side(void)
{
        static uint8_t source[100000], target[100000];
        CUdeviceptr managed, other, device;
        test_fill(source, sizeof(source), 3);
        CU(cuMemAllocManaged(&managed, sizeof(source), CU_MEM_ATTACH_GLOBAL));
        CU(cuMemAllocManaged(&other, sizeof(source), CU_MEM_ATTACH_HOST));
        CU(cuMemAlloc_v2(&device, sizeof(source)));
        CU(cuMemcpyHtoD_v2(managed, source, sizeof(source)));
        CU(cuCtxSynchronize());
        CHECK(memcmp((void *)(uintptr_t)managed, source, sizeof(source)) == 0, "to managed memory");
        CU(cuMemcpyDtoD_v2(device, managed, sizeof(source)));
        CU(cuMemcpyDtoH_v2(target, device, sizeof(source)));
        CHECK(memcmp(target, source, sizeof(source)) == 0, "managed, device, host");
        CU(cuMemcpyDtoD_v2(other, device, sizeof(source)));
        CU(cuCtxSynchronize());
        CHECK(memcmp((void *)(uintptr_t)other, source, sizeof(source)) == 0, "device to managed");
        memset((void *)(uintptr_t)managed, 0, sizeof(source));
        CU(cuMemcpy(managed, other, sizeof(source)));
        CU(cuCtxSynchronize());
        CHECK(memcmp((void *)(uintptr_t)managed, source, sizeof(source)) == 0, "managed to managed");
        CU(cuMemcpy(managed, (CUdeviceptr)(uintptr_t)target, 100));
        CU(cuMemsetD8_v2(managed, 0x5a, 5000));
        CU(cuCtxSynchronize());
        CHECK(*(uint8_t *)(uintptr_t)(managed + 4999) == 0x5a &&
                      *(uint8_t *)(uintptr_t)(managed + 5000) == source[5000],
              "cuMemset");
        CU(cuMemcpyDtoH_v2(target, managed, sizeof(source)));
        CHECK(target[4999] == 0x5a && target[99999] == source[99999], "managed to host");
        CU(cuMemFree_v2(managed));
        CU(cuMemFree_v2(other));
        CU(cuMemFree_v2(device));
}

static void pointers_say_what_they_are(void)
{
        CUdevice device;
        CUdeviceptr memory, start;
        size_t bytes;
        int value = 0;
        unsigned managed = 0; /* a boolean of four bytes */
        CUmemorytype type = (CUmemorytype)0;
        void *host = NULL;
        CU(cuCtxGetDevice(&device));
        CU(cuDeviceGetAttribute(&value, CU_DEVICE_ATTRIBUTE_MANAGED_MEMORY, device));
        CHECK(value == 1, "MANAGED_MEMORY is %d", value);
        CU(cuMemAllocManaged(&memory, 10000, CU_MEM_ATTACH_GLOBAL));
        CU(cuPointerGetAttribute(&managed, CU_POINTER_ATTRIBUTE_IS_MANAGED, memory + 100));
        CHECK(managed, "not managed");
        CU(cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, memory));
        CHECK(type == CU_MEMORYTYPE_DEVICE, "memory type %d", (int)type);
        CU(cuPointerGetAttribute(&host, CU_POINTER_ATTRIBUTE_HOST_POINTER, memory + 100));
        CHECK(host == (void *)(uintptr_t)(memory + 100), "host pointer %p", host);
        CU(cuMemGetAddressRange_v2(&start, &bytes, memory + 9999));
        CHECK(start == memory && bytes == 10000, "range of %zu bytes", bytes);
        CU(cuMemFree_v2(memory));
}

static int attribute(CUmem_range_attribute which, CUdeviceptr memory, size_t bytes)
{
        int value = -77;
        CU(cuMemRangeGetAttribute(&value, sizeof(value), which, memory, bytes));
        return value;
}

static void advice_is_kept(void)
{
        const size_t page = 65536, bytes = 8 * page; /* apart on machines with large pages too */
        CUdevice device;
        CUdeviceptr memory, plain;
        CUstream stream;
        int concurrent = 0, by[3] = {0, 0, 0}, read_mostly = -1, last = -77;
        CU(cuCtxGetDevice(&device));
        CU(cuDeviceGetAttribute(&concurrent, CU_DEVICE_ATTRIBUTE_CONCURRENT_MANAGED_ACCESS, device));
        if (!concurrent) {
                puts("managed: no concurrent access on this machine, so no prefetching");
                return;
        }
        CU(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
        CU(cuMemAllocManaged(&memory, bytes, CU_MEM_ATTACH_GLOBAL));
        CU(cuMemAlloc_v2(&plain, bytes));
        CHECK(attribute(CU_MEM_RANGE_ATTRIBUTE_PREFERRED_LOCATION, memory, bytes) == CU_DEVICE_INVALID, "at first");
        CU(cuMemAdvise(memory, bytes, CU_MEM_ADVISE_SET_READ_MOSTLY, device));
        CU(cuMemAdvise(memory + 2 * page, page, CU_MEM_ADVISE_UNSET_READ_MOSTLY, device));
        CHECK(attribute(CU_MEM_RANGE_ATTRIBUTE_READ_MOSTLY, memory, 2 * page) == 1, "the first two pages");
        CHECK(attribute(CU_MEM_RANGE_ATTRIBUTE_READ_MOSTLY, memory, bytes) == 0, "all pages");
        CHECK(attribute(CU_MEM_RANGE_ATTRIBUTE_READ_MOSTLY, memory + 3 * page, page) == 1, "the fourth page");
        CU(cuMemAdvise(memory, page, CU_MEM_ADVISE_SET_PREFERRED_LOCATION, CU_DEVICE_CPU));
        CU(cuMemAdvise(memory + page, page, CU_MEM_ADVISE_SET_PREFERRED_LOCATION, device));
        CHECK(attribute(CU_MEM_RANGE_ATTRIBUTE_PREFERRED_LOCATION, memory, page) == CU_DEVICE_CPU, "page 0");
        CHECK(attribute(CU_MEM_RANGE_ATTRIBUTE_PREFERRED_LOCATION, memory + page, page) == device, "page 1");
        CHECK(attribute(CU_MEM_RANGE_ATTRIBUTE_PREFERRED_LOCATION, memory, 2 * page) == CU_DEVICE_INVALID, "both");
        CU(cuMemAdvise(memory, bytes, CU_MEM_ADVISE_SET_ACCESSED_BY, device));
        CU(cuMemRangeGetAttribute(by, sizeof(by), CU_MEM_RANGE_ATTRIBUTE_ACCESSED_BY, memory, bytes));
        CHECK(by[0] == device && by[1] == CU_DEVICE_INVALID && by[2] == CU_DEVICE_INVALID, "accessed by %d %d", by[0],
              by[1]);
        CU(cuMemPrefetchAsync(memory, bytes, device, stream));
        fill(memory, 3, bytes / 4, stream);
        CU(cuMemPrefetchAsync(memory, page, CU_DEVICE_CPU, stream));
        CU(cuStreamSynchronize(stream));
        CHECK(((uint32_t *)(uintptr_t)memory)[bytes / 4 - 1] == 3 + bytes / 4 - 1, "after prefetching");
        CHECK(attribute(CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION, memory, page) == CU_DEVICE_CPU, "page 0");
        CHECK(attribute(CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION, memory + page, page) == device, "page 1");
        void *data[] = {&read_mostly, &last};
        size_t sizes[] = {sizeof(int), sizeof(int)};
        CUmem_range_attribute which[] = {CU_MEM_RANGE_ATTRIBUTE_READ_MOSTLY,
                                         CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION};
        CU(cuMemRangeGetAttributes(data, sizes, which, 2, memory, 2 * page));
        CHECK(read_mostly == 1 && last == CU_DEVICE_INVALID, "read mostly %d, prefetched to %d", read_mostly, last);
        CU_EXPECT(CUDA_ERROR_INVALID_DEVICE, cuMemPrefetchAsync(memory, bytes, 1000, stream));
        CU_EXPECT(CUDA_ERROR_INVALID_VALUE, cuMemPrefetchAsync(plain, bytes, device, stream));
        CU_EXPECT(CUDA_ERROR_INVALID_VALUE, cuMemAdvise(memory, 0, CU_MEM_ADVISE_SET_READ_MOSTLY, device));
        CU_EXPECT(CUDA_ERROR_INVALID_VALUE, cuMemAdvise(memory, bytes, (CUmem_advise)77, device));
        CU(cuStreamAttachMemAsync(stream, memory, 0, CU_MEM_ATTACH_SINGLE));
        CU(cuStreamAttachMemAsync(stream, memory, bytes, CU_MEM_ATTACH_GLOBAL));
        CU_EXPECT(CUDA_ERROR_INVALID_VALUE, cuStreamAttachMemAsync(stream, memory, 0, 8));
        CU(cuMemFree_v2(plain));
        CU(cuMemFree_v2(memory));
        CU(cuStreamDestroy_v2(stream));
}

/* More than fits at once, many times: what is freed comes back. */
static void freed_memory_comes_back(void)
{
        for (int round = 0; round < 100; round++) {
                CUdeviceptr memory;
                CU(cuMemAllocManaged(&memory, 20u << 20, CU_MEM_ATTACH_GLOBAL));
                fill(memory, 1, 1000, NULL);
                CU(cuMemFree_v2(memory));
        }
}

int main(void)
{
        test_context();
        module = test_module();
        both_sides_work_on_it();
        copies_take_it_on_either_side();
        pointers_say_what_they_are();
        advice_is_kept();
        freed_memory_comes_back();
        puts("managed: one memory for both");
        return 0;
}
