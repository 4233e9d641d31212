/* The memory calls of CUDA before 3.2, with addresses of 32 bits. Where the device has addresses below 4 GiB (reserved
 * there on request), all of them work on such memory; where it has not, they say that there is none. */
#include "check.h"

#define LOW_ADDRESS UINT64_C(0x40000000)
#define PITCH 256u

static uint8_t data[65536], back[65536];

static void nothing_fits(CUmodule module)
{
        unsigned int free_bytes = 0, total = 0, bytes = 0, pitch = 0;
        size_t all_free, all;
        CUdeviceptr_v1 address = 0;
        void *pinned = NULL;

        CU(cuMemGetInfo_v2(&all_free, &all));
        CU(cuMemGetInfo(&free_bytes, &total));
        CHECK(total == (all > UINT32_MAX ? UINT32_MAX : (unsigned int)all) || total == (unsigned int)all,
              "%u bytes in all, of %zu", total, all);
        if (getenv("IVGPU_CHANNEL") != NULL) { /* natively the driver's to judge */
                CU_EXPECT(CUDA_ERROR_OUT_OF_MEMORY, cuMemAlloc(&address, 1000));
                CU_EXPECT(CUDA_ERROR_OUT_OF_MEMORY, cuMemAllocPitch(&address, &pitch, 100, 10, 4));
                CU_EXPECT(CUDA_ERROR_OUT_OF_MEMORY, cuModuleGetGlobal(&address, &bytes, module, "global_word"));
                CU(cuModuleGetGlobal(NULL, &bytes, module, "global_word"));
                CHECK(bytes == 4, "a global of %u bytes", bytes);
                CU(cuMemAllocHost(&pinned, 1000));
                memset(pinned, 1, 1000);
                CU_EXPECT(CUDA_ERROR_OUT_OF_MEMORY, cuMemHostGetDevicePointer(&address, pinned, 0));
                CU(cuMemFreeHost(pinned));
                CU_EXPECT(CUDA_ERROR_INVALID_VALUE, cuMemFree(4096));
                CU_EXPECT(CUDA_ERROR_NOT_FOUND, cuMemGetAddressRange(&address, &bytes, 4096));
        }
}

static void expect(const char *what, CUdeviceptr_v1 address, unsigned int bytes)
{
        memset(back, 0, sizeof(back));
        CU(cuMemcpyDtoH(back, address, bytes));
        CHECK(memcmp(data, back, bytes) == 0, "%s: %u bytes differ", what, bytes);
}

static void on_low_memory(CUdeviceptr_v1 low)
{
        const CUdeviceptr_v1 second = low + (1u << 20);
        CUdeviceptr_v1 base = 0;
        unsigned int bytes = 0;
        uint16_t shorts[100];
        uint32_t words[100];

        CU(cuMemGetAddressRange(&base, &bytes, low + 77));
        CHECK(base == low && bytes >= 2u << 20, "0x%x of %u bytes", base, bytes);
        test_fill(data, sizeof(data), 1);
        CU(cuMemcpyHtoD(low, data, sizeof(data)));
        expect("cuMemcpyHtoD", low, sizeof(data));
        CU(cuMemcpyDtoD(second, low, sizeof(data)));
        expect("cuMemcpyDtoD", second, sizeof(data));
        test_fill(data, sizeof(data), 2);
        CU(cuMemcpyHtoDAsync(low, data, sizeof(data), NULL));
        CU(cuMemcpyDtoDAsync(second, low, sizeof(data), NULL));
        memset(back, 0, sizeof(back));
        CU(cuMemcpyDtoHAsync(back, second, sizeof(back), NULL));
        CU(cuStreamSynchronize(NULL));
        CHECK(memcmp(data, back, sizeof(back)) == 0, "copies in stream order differ");

        CU(cuMemsetD8(low, 0x5a, 1000));
        memset(data, 0x5a, 1000);
        expect("cuMemsetD8", low, sizeof(data));
        CU(cuMemsetD16(low, 0x1234, 100));
        for (size_t i = 0; i < 100; i++)
                shorts[i] = 0x1234;
        memcpy(data, shorts, sizeof(shorts));
        expect("cuMemsetD16", low, sizeof(data));
        CU(cuMemsetD32(low, 0x12345678, 100));
        for (size_t i = 0; i < 100; i++)
                words[i] = 0x12345678;
        memcpy(data, words, sizeof(words));
        expect("cuMemsetD32", low, sizeof(data));
        CU(cuMemsetD2D8(low, PITCH, 0x11, 100, 3));
        CU(cuMemsetD2D16(low + 3 * PITCH, PITCH, 0x1234, 100, 3));
        CU(cuMemsetD2D32(low + 6 * PITCH, PITCH, 0x12345678, 50, 3));
        for (size_t row = 0; row < 3; row++) {
                memset(data + row * PITCH, 0x11, 100);
                memcpy(data + (3 + row) * PITCH, shorts, sizeof(shorts));
                memcpy(data + (6 + row) * PITCH, words, 50 * sizeof(words[0]));
        }
        expect("sets of rows", low, sizeof(data));
}

int main(void)
{
        const CUmemAllocationProp prop = {.type = CU_MEM_ALLOCATION_TYPE_PINNED,
                                          .location = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = 0}};
        const CUmemAccessDesc access = {.location = prop.location, .flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
        CUmemGenericAllocationHandle handle = 0;
        CUdeviceptr address = 0;
        size_t bytes = 0;

        test_context();
        nothing_fits(test_module());
        CU(cuMemGetAllocationGranularity(&bytes, &prop, CU_MEM_ALLOC_GRANULARITY_RECOMMENDED));
        bytes = bytes < 2u << 20 ? 2u << 20 : bytes;
        CU(cuMemAddressReserve(&address, bytes, 0, LOW_ADDRESS, 0));
        if (address + bytes > UINT32_MAX) {
                puts("skipped on this device: it reserves no addresses below 4 GiB");
                return 0;
        }
        CU(cuMemCreate(&handle, bytes, &prop, 0));
        CU(cuMemMap(address, bytes, 0, handle, 0));
        CU(cuMemSetAccess(address, bytes, &access, 1));
        on_low_memory((CUdeviceptr_v1)address);
        CU(cuMemUnmap(address, bytes));
        CU(cuMemRelease(handle));
        CU(cuMemAddressFree(address, bytes));
        puts("old_names: ok");
        return 0;
}
