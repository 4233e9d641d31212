/* Device memory ends exactly where it says, comes back when freed, and only live ranges can be copied. */
#include "softgpu_driver.h"

#include <sys/mman.h>

#define MEMORY_MIB 64u
#define MEMORY_BYTES ((size_t)MEMORY_MIB << 20)

static size_t free_bytes(void)
{
        size_t left, total;
        OK(cuMemGetInfo_v2(&left, &total));
        assert_int_equal(total, MEMORY_BYTES);
        return left;
}

static void nothing_works_before_init(void **state)
{
        (void)state;
        struct ivg_driver early;
        CUdeviceptr pointer;
        CUdevice ordinal;
        size_t left, total;
        int count;
        CUcontext made;
        assert_int_equal(ivg_driver_open(&early, SOFTGPU_LIBRARY), 0);
        assert_int_equal(early.cuMemAlloc_v2(&pointer, 16), CUDA_ERROR_NOT_INITIALIZED);
        assert_int_equal(early.cuDeviceGet(&ordinal, 0), CUDA_ERROR_NOT_INITIALIZED);
        assert_int_equal(early.cuDeviceGetCount(&count), CUDA_ERROR_NOT_INITIALIZED);
        assert_int_equal(early.cuMemGetInfo_v2(&left, &total), CUDA_ERROR_NOT_INITIALIZED);
        assert_int_equal(early.cuDevicePrimaryCtxRetain(&made, 0), CUDA_ERROR_NOT_INITIALIZED);
        assert_int_equal(early.cuInit(1), CUDA_ERROR_INVALID_VALUE);
        ivg_driver_close(&early);
}

static int open_small(void **state)
{
        setenv("IVGPU_SOFT_MEMORY_MIB", "64", 1);
        nothing_works_before_init(state);
        return driver_open(state);
}

static void memory_ends_exactly_at_its_size(void **state)
{
        (void)state;
        CUdeviceptr all, more;
        assert_int_equal(free_bytes(), MEMORY_BYTES);
        OK(cuMemAlloc_v2(&all, MEMORY_BYTES));
        assert_int_equal(all % (2u << 20), 0);
        assert_int_equal(free_bytes(), 0);
        CALL(CUDA_ERROR_OUT_OF_MEMORY, cuMemAlloc_v2(&more, 1));
        OK(cuMemsetD8_v2(all, 0xab, MEMORY_BYTES));
        unsigned char last;
        OK(cuMemcpyDtoH_v2(&last, all + MEMORY_BYTES - 1, 1));
        assert_int_equal(last, 0xab);
        OK(cuMemFree_v2(all));
        assert_int_equal(free_bytes(), MEMORY_BYTES);
        CALL(CUDA_ERROR_OUT_OF_MEMORY, cuMemAlloc_v2(&more, MEMORY_BYTES + 1));
        CALL(CUDA_ERROR_OUT_OF_MEMORY, cuMemAlloc_v2(&more, SIZE_MAX));
        CALL(CUDA_ERROR_INVALID_VALUE, cuMemAlloc_v2(&more, 0));
        OK(cuMemAlloc_v2(&all, MEMORY_BYTES));
        OK(cuMemFree_v2(all));
}

static void small_allocations_fill_the_memory_without_overlap(void **state)
{
        (void)state;
        enum { BYTES = 4096, COUNT = 64 * 256 };
        static CUdeviceptr pointers[COUNT];
        CUdeviceptr more;
        for (unsigned i = 0; i < COUNT; i++) {
                OK(cuMemAlloc_v2(&pointers[i], BYTES));
                assert_int_equal(pointers[i] % 256, 0);
        }
        CALL(CUDA_ERROR_OUT_OF_MEMORY, cuMemAlloc_v2(&more, 1));
        for (unsigned i = 0; i < COUNT; i += 97)
                OK(cuMemsetD32_v2(pointers[i], i, BYTES / 4));
        for (unsigned i = 0; i < COUNT; i += 97) {
                uint32_t ends[2];
                OK(cuMemcpyDtoH_v2(&ends[0], pointers[i], 4));
                OK(cuMemcpyDtoH_v2(&ends[1], pointers[i] + BYTES - 4, 4));
                assert_int_equal(ends[0], i);
                assert_int_equal(ends[1], i);
        }
        for (unsigned i = 0; i < COUNT; i++)
                OK(cuMemFree_v2(pointers[(i * 7919u) % COUNT]));
        assert_int_equal(free_bytes(), MEMORY_BYTES);
}

static void only_live_ranges_can_be_copied(void **state)
{
        (void)state;
        CUdeviceptr pointer, freed, base;
        size_t bytes;
        char host[64] = "0123456789";
        OK(cuMemAlloc_v2(&pointer, 64));
        OK(cuMemAlloc_v2(&freed, 64));
        OK(cuMemFree_v2(freed));
        CALL(CUDA_ERROR_INVALID_VALUE, cuMemFree_v2(freed));
        CALL(CUDA_ERROR_INVALID_VALUE, cuMemFree_v2(pointer + 1));
        CALL(CUDA_ERROR_INVALID_VALUE, cuMemcpyHtoD_v2(freed, host, 8));
        CALL(CUDA_ERROR_INVALID_VALUE, cuMemcpyDtoH_v2(host, freed, 8));
        CALL(CUDA_ERROR_INVALID_VALUE, cuMemcpyHtoD_v2(pointer, host, 65));
        CALL(CUDA_ERROR_INVALID_VALUE, cuMemcpyHtoD_v2(pointer + 60, host, 5));
        CALL(CUDA_ERROR_INVALID_VALUE, cuMemcpyHtoD_v2(pointer, host, SIZE_MAX));
        CALL(CUDA_ERROR_INVALID_VALUE, cuMemcpyHtoD_v2((CUdeviceptr)(uintptr_t)host, host, 8));
        CALL(CUDA_ERROR_INVALID_VALUE, cuMemcpyHtoD_v2(0, host, 8));
        CALL(CUDA_ERROR_INVALID_VALUE, cuMemcpyDtoD_v2(pointer, freed, 8));
        CALL(CUDA_ERROR_INVALID_VALUE, cuMemsetD8_v2(pointer, 0, 65));
        CALL(CUDA_ERROR_INVALID_VALUE, cuMemsetD32_v2(pointer + 2, 0, 1));
        CALL(CUDA_ERROR_INVALID_VALUE, cuMemsetD16_v2(pointer + 1, 0, 1));
        OK(cuMemcpyHtoD_v2(freed, host, 0));
        OK(cuMemFree_v2(0));
        OK(cuMemGetAddressRange_v2(&base, &bytes, pointer + 63));
        assert_int_equal(base, pointer);
        assert_int_equal(bytes, 64);
        CALL(CUDA_ERROR_NOT_FOUND, cuMemGetAddressRange_v2(&base, &bytes, pointer + 64));
        OK(cuMemFree_v2(pointer));
}

static void unified_copies_find_their_sides(void **state)
{
        (void)state;
        CUdeviceptr one, two;
        char from[4096], to[4096];
        for (size_t i = 0; i < sizeof(from); i++)
                from[i] = (char)(i * 7);
        OK(cuMemAlloc_v2(&one, sizeof(from)));
        OK(cuMemAlloc_v2(&two, sizeof(from)));
        OK(cuMemcpy(one, (CUdeviceptr)(uintptr_t)from, sizeof(from)));
        OK(cuMemcpyAsync(two, one, sizeof(from), NULL));
        OK(cuMemcpyDtoHAsync_v2(to, two, sizeof(to), NULL));
        assert_memory_equal(to, from, sizeof(from)); /* a pageable destination is written before the call returns */
        OK(cuMemsetD16_v2(one, 0x1234, sizeof(from) / 2));
        assert_int_equal(TWIN(cuMemcpyDtoH_v2, "cuMemcpyDtoH_v2_ptds")(to, one, 4), CUDA_SUCCESS);
        assert_memory_equal(to, "\x34\x12\x34\x12", 4);
        OK(cuMemFree_v2(one));
        OK(cuMemFree_v2(two));
}

static void boxes_are_copied_with_their_pitch(void **state)
{
        (void)state;
        CUdeviceptr device_box;
        size_t pitch;
        unsigned char source[6][10], back[6][10];
        for (unsigned y = 0; y < 6; y++)
                for (unsigned x = 0; x < 10; x++)
                        source[y][x] = (unsigned char)(10 * y + x);
        OK(cuMemAllocPitch_v2(&device_box, &pitch, 10, 6, 4));
        assert_int_equal(pitch % 512, 0);
        CUDA_MEMCPY2D down = {.srcMemoryType = CU_MEMORYTYPE_HOST,
                              .srcHost = source,
                              .srcPitch = 10,
                              .dstMemoryType = CU_MEMORYTYPE_DEVICE,
                              .dstDevice = device_box,
                              .dstPitch = pitch,
                              .WidthInBytes = 10,
                              .Height = 6};
        OK(cuMemcpy2D_v2(&down));
        OK(cuMemsetD2D8_v2(device_box + pitch + 2, pitch, 0xee, 3, 2));
        CUDA_MEMCPY2D up = {.srcMemoryType = CU_MEMORYTYPE_DEVICE,
                            .srcDevice = device_box,
                            .srcPitch = pitch,
                            .srcXInBytes = 1,
                            .srcY = 1,
                            .dstMemoryType = CU_MEMORYTYPE_HOST,
                            .dstHost = back,
                            .dstPitch = 10,
                            .dstXInBytes = 2,
                            .dstY = 3,
                            .WidthInBytes = 8,
                            .Height = 3};
        memset(back, 0x55, sizeof(back));
        OK(cuMemcpy2DAsync_v2(&up, NULL));
        OK(cuStreamSynchronize(NULL));
        for (unsigned y = 0; y < 6; y++)
                for (unsigned x = 0; x < 10; x++) {
                        unsigned char expected = 0x55;
                        if (x >= 2 && y >= 3) {
                                const unsigned sx = x - 1, sy = y - 2;
                                expected = sx >= 2 && sx < 5 && sy >= 1 && sy < 3 ? 0xee : source[sy][sx];
                        }
                        assert_int_equal(back[y][x], expected);
                }
        up.Height = 6; /* one row too many at the source */
        CALL(CUDA_ERROR_INVALID_VALUE, cuMemcpy2D_v2(&up));
        up.Height = 3;
        up.WidthInBytes = SIZE_MAX - 1;
        CALL(CUDA_ERROR_INVALID_VALUE, cuMemcpy2D_v2(&up));
        up.srcMemoryType = CU_MEMORYTYPE_ARRAY;
        up.WidthInBytes = 8;
        CALL(CUDA_ERROR_INVALID_HANDLE, cuMemcpy2D_v2(&up)); /* there is no array */
        OK(cuMemFree_v2(device_box));
}

static void volumes_are_copied_with_their_slices(void **state)
{
        (void)state;
        CUdeviceptr volume;
        uint16_t source[4][3][5], back[2][2][2];
        for (unsigned i = 0; i < 60; i++)
                (&source[0][0][0])[i] = (uint16_t)i;
        OK(cuMemAlloc_v2(&volume, sizeof(source)));
        CUDA_MEMCPY3D down = {.srcMemoryType = CU_MEMORYTYPE_HOST,
                              .srcHost = source,
                              .srcPitch = 10,
                              .srcHeight = 3,
                              .dstMemoryType = CU_MEMORYTYPE_DEVICE,
                              .dstDevice = volume,
                              .dstPitch = 10,
                              .dstHeight = 3,
                              .WidthInBytes = 10,
                              .Height = 3,
                              .Depth = 4};
        OK(cuMemcpy3D_v2(&down));
        CUDA_MEMCPY3D up = {.srcMemoryType = CU_MEMORYTYPE_UNIFIED,
                            .srcDevice = volume,
                            .srcPitch = 10,
                            .srcHeight = 3,
                            .srcXInBytes = 4,
                            .srcY = 1,
                            .srcZ = 2,
                            .dstMemoryType = CU_MEMORYTYPE_HOST,
                            .dstHost = back,
                            .WidthInBytes = 4,
                            .Height = 2,
                            .Depth = 2};
        OK(cuMemcpy3DAsync_v2(&up, NULL));
        for (unsigned z = 0; z < 2; z++)
                for (unsigned y = 0; y < 2; y++)
                        for (unsigned x = 0; x < 2; x++)
                                assert_int_equal(back[z][y][x], source[z + 2][y + 1][x + 2]);
        down.Depth = 5;
        CALL(CUDA_ERROR_INVALID_VALUE, cuMemcpy3D_v2(&down));
        OK(cuMemFree_v2(volume));
}

static void registered_pages_keep_their_address(void **state)
{
        (void)state;
        const size_t page = 4096;
        char *pages = mmap(NULL, 4 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        assert_ptr_not_equal(pages, MAP_FAILED);
        CUdeviceptr address;
        unsigned type;
        OK(cuMemHostRegister_v2(pages, 3 * page, CU_MEMHOSTREGISTER_DEVICEMAP));
        CALL(CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED, cuMemHostRegister_v2(pages + page, page, 0));
        CALL(CUDA_ERROR_INVALID_VALUE, cuMemHostRegister_v2(pages, 0, 0));
        OK(cuMemHostGetDevicePointer_v2(&address, pages + 100, 0));
        assert_int_equal(address, (uintptr_t)pages + 100);
        OK(cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, address));
        assert_int_equal(type, CU_MEMORYTYPE_HOST);
        OK(cuMemsetD8_v2(address, 0x77, 10));
        assert_int_equal(pages[109], 0x77);
        assert_int_equal(pages[110], 0);
        CALL(CUDA_ERROR_INVALID_VALUE, cuMemFreeHost(pages));
        OK(cuMemHostUnregister(pages));
        CALL(CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED, cuMemHostUnregister(pages));
        CALL(CUDA_ERROR_INVALID_VALUE, cuMemsetD8_v2(address, 0, 1));
        munmap(pages + page, page);
        CALL(CUDA_ERROR_INVALID_VALUE, cuMemHostRegister_v2(pages, 3 * page, 0)); /* a hole */
        OK(cuMemHostRegister_v2(pages, page, CU_MEMHOSTREGISTER_READ_ONLY));
        CALL(CUDA_ERROR_INVALID_VALUE, cuMemsetD8_v2((uintptr_t)pages, 0, 1));
        OK(cuMemHostUnregister(pages));
        munmap(pages, page);
        munmap(pages + 2 * page, 2 * page);
}

static void pinned_and_managed_memory_is_plain_memory(void **state)
{
        (void)state;
        void *pinned;
        CUdeviceptr managed;
        unsigned flags;
        int is_managed;
        OK(cuMemHostAlloc(&pinned, 100, CU_MEMHOSTALLOC_PORTABLE));
        OK(cuMemHostGetFlags(&flags, pinned));
        assert_true(flags & CU_MEMHOSTALLOC_PORTABLE);
        memset(pinned, 1, 100);
        OK(cuMemAllocManaged(&managed, 100, CU_MEM_ATTACH_GLOBAL));
        OK(cuMemcpyAsync(managed, (uintptr_t)pinned, 100, NULL));
        OK(cuCtxSynchronize());
        assert_int_equal(((char *)(uintptr_t)managed)[99], 1);
        OK(cuPointerGetAttribute(&is_managed, CU_POINTER_ATTRIBUTE_IS_MANAGED, managed));
        assert_int_equal(is_managed, 1);
        OK(cuMemFree_v2(managed));
        CALL(CUDA_ERROR_INVALID_VALUE, cuMemHostAlloc(&pinned, 0, 0));
        OK(cuMemFreeHost(pinned));
        CALL(CUDA_ERROR_INVALID_VALUE, cuMemFreeHost(pinned));
}

static void attributes_tell_whose_memory_it_is(void **state)
{
        (void)state;
        CUdeviceptr pointer, start;
        CUcontext owner;
        int ordinal = -7, stack_ordinal = -7;
        unsigned type = 99, unknown_type = 99;
        size_t bytes;
        unsigned long long first, second;
        OK(cuMemAlloc_v2(&pointer, 1000));
        CUpointer_attribute asked[] = {CU_POINTER_ATTRIBUTE_CONTEXT, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL,
                                       CU_POINTER_ATTRIBUTE_MEMORY_TYPE, CU_POINTER_ATTRIBUTE_RANGE_START_ADDR,
                                       CU_POINTER_ATTRIBUTE_RANGE_SIZE};
        void *answers[] = {&owner, &ordinal, &type, &start, &bytes};
        OK(cuPointerGetAttributes(5, asked, answers, pointer + 999));
        assert_ptr_equal(owner, context);
        assert_int_equal(ordinal, 0);
        assert_int_equal(type, CU_MEMORYTYPE_DEVICE);
        assert_int_equal(start, pointer);
        assert_int_equal(bytes, 1000);
        OK(cuPointerGetAttribute(&first, CU_POINTER_ATTRIBUTE_BUFFER_ID, pointer));
        OK(cuMemFree_v2(pointer));
        OK(cuMemAlloc_v2(&pointer, 1000));
        OK(cuPointerGetAttribute(&second, CU_POINTER_ATTRIBUTE_BUFFER_ID, pointer));
        assert_int_not_equal(first, second);
        OK(cuMemFree_v2(pointer));
        CALL(CUDA_ERROR_INVALID_VALUE, cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, pointer));
        CUpointer_attribute two[] = {CU_POINTER_ATTRIBUTE_MEMORY_TYPE, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL};
        void *both[] = {&unknown_type, &stack_ordinal};
        OK(cuPointerGetAttributes(2, two, both, (uintptr_t)&stack_ordinal));
        assert_int_equal(unknown_type, 0);
        assert_int_equal(stack_ordinal, CU_DEVICE_INVALID);
}

static void pools_allocate_and_free_in_stream_order(void **state)
{
        (void)state;
        CUmemoryPool pool, small;
        CUdeviceptr first, second;
        CUstream stream;
        uint64_t used;
        struct gate gate = {0};
        OK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
        OK(cuDeviceGetDefaultMemPool(&pool, device));
        OK(cuMemAllocAsync(&first, MEMORY_BYTES, stream));
        OK(cuMemPoolGetAttribute(pool, CU_MEMPOOL_ATTR_USED_MEM_CURRENT, &used));
        assert_int_equal(used, MEMORY_BYTES);
        OK(cuLaunchHostFunc(stream, gate_wait, &gate));
        OK(cuMemFreeAsync(first, stream));
        CALL(CUDA_ERROR_INVALID_VALUE, cuMemFreeAsync(first, stream));
        assert_int_equal(free_bytes(), 0); /* the stream has not come to the free */
        atomic_store(&gate.open, 1);
        OK(cuMemAllocAsync(&second, MEMORY_BYTES, stream)); /* waits for it instead of failing */
        OK(cuMemFreeAsync(second, stream));
        OK(cuStreamSynchronize(stream));
        assert_int_equal(free_bytes(), MEMORY_BYTES);
        CUmemPoolProps props = {.allocType = CU_MEM_ALLOCATION_TYPE_PINNED,
                                .location = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = 0},
                                .maxSize = 1u << 20};
        OK(cuMemPoolCreate(&small, &props));
        CALL(CUDA_ERROR_OUT_OF_MEMORY, cuMemAllocFromPoolAsync(&first, 2u << 20, small, stream));
        OK(cuMemAllocFromPoolAsync(&first, 1u << 20, small, stream));
        OK(cuMemPoolDestroy(small));
        CALL(CUDA_ERROR_INVALID_VALUE, cuMemPoolDestroy(small));
        CALL(CUDA_ERROR_INVALID_VALUE, cuMemPoolDestroy(pool));
        OK(cuMemFree_v2(first));
        OK(cuStreamDestroy_v2(stream));
        assert_int_equal(free_bytes(), MEMORY_BYTES);
}

static void a_destroyed_context_gives_everything_back(void **state)
{
        (void)state;
        CUcontext other;
        CUdeviceptr pointer;
        void *pinned;
        OK(cuCtxCreate_v2(&other, 0, device));
        OK(cuMemAlloc_v2(&pointer, MEMORY_BYTES / 2));
        OK(cuMemHostAlloc(&pinned, 100, 0));
        assert_int_equal(free_bytes(), MEMORY_BYTES / 2);
        OK(cuCtxDestroy_v2(other));
        OK(cuCtxSetCurrent(context));
        assert_int_equal(free_bytes(), MEMORY_BYTES);
        CALL(CUDA_ERROR_INVALID_VALUE, cuMemFreeHost(pinned));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(memory_ends_exactly_at_its_size),
                cmocka_unit_test(small_allocations_fill_the_memory_without_overlap),
                cmocka_unit_test(only_live_ranges_can_be_copied),
                cmocka_unit_test(unified_copies_find_their_sides),
                cmocka_unit_test(boxes_are_copied_with_their_pitch),
                cmocka_unit_test(volumes_are_copied_with_their_slices),
                cmocka_unit_test(registered_pages_keep_their_address),
                cmocka_unit_test(pinned_and_managed_memory_is_plain_memory),
                cmocka_unit_test(attributes_tell_whose_memory_it_is),
                cmocka_unit_test(pools_allocate_and_free_in_stream_order),
                cmocka_unit_test(a_destroyed_context_gives_everything_back),
        };
        return cmocka_run_group_tests(tests, open_small, driver_close);
}
