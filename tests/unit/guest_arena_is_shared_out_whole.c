/* Pinned memory and staging out of one small arena: blocks do not overlap, everything comes back, full is an error and
 * nothing else, and no extent is given away while the device may use it. */
#include "cuda_api.h"
#include "guest_fake_host.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define EXTENTS 8u

static int start(void **state)
{
        (void)state;
        fake_host_start(EXTENTS, 0);
        return 0;
}

static uint64_t state_ = 88172645463325252ull;
static uint32_t random_below(uint32_t bound)
{
        state_ ^= state_ << 13;
        state_ ^= state_ >> 7;
        state_ ^= state_ << 17;
        return (uint32_t)(state_ >> 32) % bound;
}

static void blocks_are_aligned_and_apart(void **state)
{
        (void)state;
        struct {
                uint8_t *memory;
                size_t bytes;
        } blocks[64] = {{0}};
        for (int round = 0; round < 3000; round++) {
                const uint32_t i = random_below(64);
                if (blocks[i].memory != NULL) {
                        for (size_t at = 0; at < blocks[i].bytes; at += 4095) /* still its own: nobody wrote there */
                                assert_int_equal(blocks[i].memory[at], (uint8_t)i);
                        assert_int_equal(cuMemFreeHost(blocks[i].memory), CUDA_SUCCESS);
                        blocks[i].memory = NULL;
                        continue;
                }
                blocks[i].bytes = 1 + random_below(random_below(8) == 0 ? 3u << 20 : 200000);
                void *memory = NULL;
                const CUresult result = cuMemHostAlloc(&memory, blocks[i].bytes, 0);
                if (result == CUDA_ERROR_OUT_OF_MEMORY)
                        continue;
                assert_int_equal(result, CUDA_SUCCESS);
                assert_int_equal((uintptr_t)memory % 4096, 0);
                uint64_t offset;
                assert_true(ivg_pinned_offset(memory, blocks[i].bytes, &offset));
                assert_true(offset + blocks[i].bytes <= EXTENTS * (uint64_t)IVG_EXTENT_BYTES);
                blocks[i].memory = memory;
                memset(memory, (int)i, blocks[i].bytes);
        }
        for (int i = 0; i < 64; i++)
                if (blocks[i].memory != NULL)
                        assert_int_equal(cuMemFreeHost(blocks[i].memory), CUDA_SUCCESS);
        assert_true(fake_host_count().extents_owned <= IVG_POOL_EMPTY_EXTENTS_KEPT);
        ivg_pool_trim(&ivg_pinned_pool);
        assert_int_equal(fake_host_count().extents_owned, 0);
        assert_int_equal(fake_host_count().extents_registered, 0);
}

static void the_whole_arena_can_be_one_block(void **state)
{
        (void)state;
        void *small, *memory;
        const size_t all = EXTENTS * (size_t)IVG_EXTENT_BYTES;
        /* An empty extent kept by the pool, and one kept by the staging pool, must not be in the way. */
        assert_int_equal(cuMemAllocHost_v2(&small, 100), CUDA_SUCCESS);
        assert_int_equal(cuMemFreeHost(small), CUDA_SUCCESS);
        void *staged = ivg_staging_take(5000);
        assert_non_null(staged);
        ivg_staging_give(staged, 5000);
        assert_int_equal(fake_host_count().extents_owned, 2);
        assert_int_equal(cuMemAllocHost_v2(&memory, all), CUDA_SUCCESS);
        memset(memory, 0x5a, all);
        assert_int_equal(cuMemAllocHost_v2(&small, 1), CUDA_ERROR_OUT_OF_MEMORY);
        assert_null(ivg_staging_take(1));
        assert_int_equal(cuMemFreeHost(memory), CUDA_SUCCESS);
        assert_int_equal(cuMemAllocHost_v2(&memory, all + 1), CUDA_ERROR_OUT_OF_MEMORY);
        assert_int_equal(cuMemAllocHost_v2(&memory, SIZE_MAX), CUDA_ERROR_OUT_OF_MEMORY);
        assert_int_equal(fake_host_count().extents_owned, 0);
}

static void staging_keeps_to_its_share(void **state)
{
        (void)state;
        void *half = ivg_staging_take(EXTENTS / 2 * (uint64_t)IVG_EXTENT_BYTES);
        assert_non_null(half);
        assert_null(ivg_staging_take(1)); /* its half is used up, though the arena is not full */
        assert_int_equal(fake_host_count().extents_registered, 0); /* the device has no business there */
        void *pinned;
        assert_int_equal(cuMemAllocHost_v2(&pinned, 4096), CUDA_SUCCESS);
        assert_int_equal(cuMemFreeHost(pinned), CUDA_SUCCESS);
        ivg_staging_give(half, EXTENTS / 2 * (uint64_t)IVG_EXTENT_BYTES);
        ivg_pool_trim(&ivg_pinned_pool);
        assert_int_equal(fake_host_count().extents_owned, 0);
}

static void a_refused_registration_leaks_nothing(void **state)
{
        (void)state;
        void *memory = NULL;
        fake_host_fail_next_register(CUDA_ERROR_INVALID_CONTEXT);
        assert_int_equal(cuMemAllocHost_v2(&memory, 100), CUDA_ERROR_INVALID_CONTEXT);
        fake_host_fail_next_register(CUDA_ERROR_INVALID_CONTEXT);
        assert_int_equal(cuMemAllocHost_v2(&memory, 3u << 20), CUDA_ERROR_INVALID_CONTEXT);
        assert_null(memory);
        assert_int_equal(fake_host_count().extents_owned, 0);
        assert_int_equal(cuMemAllocHost_v2(&memory, EXTENTS * (size_t)IVG_EXTENT_BYTES), CUDA_SUCCESS);
        assert_int_equal(cuMemFreeHost(memory), CUDA_SUCCESS);
}

static void wrong_uses_are_refused(void **state)
{
        (void)state;
        void *memory;
        unsigned int flags;
        CUdeviceptr device;
        uint64_t offset;
        uint8_t own[64];
        assert_int_equal(cuMemHostAlloc(NULL, 100, 0), CUDA_ERROR_INVALID_VALUE);
        assert_int_equal(cuMemHostAlloc(&memory, 0, 0), CUDA_ERROR_INVALID_VALUE);
        assert_int_equal(cuMemHostAlloc(&memory, 100, 8), CUDA_ERROR_INVALID_VALUE);
        assert_int_equal(cuMemHostAlloc(&memory, 100, CU_MEMHOSTALLOC_PORTABLE), CUDA_SUCCESS);
        assert_int_equal(cuMemHostGetFlags(&flags, (uint8_t *)memory + 99), CUDA_SUCCESS);
        assert_int_equal(flags, CU_MEMHOSTALLOC_PORTABLE);
        assert_int_equal(cuMemHostGetFlags(&flags, (uint8_t *)memory + 100), CUDA_ERROR_INVALID_VALUE);
        assert_int_equal(cuMemHostGetDevicePointer_v2(&device, (uint8_t *)memory + 8, 0), CUDA_SUCCESS);
        assert_int_equal(device, (uintptr_t)memory + 8);
        assert_int_equal(cuMemHostGetDevicePointer_v2(&device, memory, 1), CUDA_ERROR_INVALID_VALUE);
        assert_int_equal(cuMemHostGetDevicePointer_v2(&device, own, 0), CUDA_ERROR_INVALID_VALUE);
        assert_false(ivg_pinned_offset(memory, 101, &offset)); /* beyond the block, though inside the arena */
        assert_int_equal(cuMemFreeHost((uint8_t *)memory + 1), CUDA_ERROR_INVALID_VALUE);
        assert_int_equal(cuMemFreeHost(own), CUDA_ERROR_INVALID_VALUE);
        assert_int_equal(cuMemHostRegister_v2(memory, 100, 0), CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED);
        assert_int_equal(cuMemFreeHost(memory), CUDA_SUCCESS);
        assert_int_equal(cuMemFreeHost(memory), CUDA_ERROR_INVALID_VALUE);
}

static void registered_memory_is_a_note(void **state)
{
        (void)state;
        static uint8_t own[8192];
        CUdeviceptr device;
        CUmemorytype type = 0;
        assert_int_equal(cuMemHostRegister_v2(own, sizeof own, CU_MEMHOSTREGISTER_DEVICEMAP), CUDA_SUCCESS);
        assert_int_equal(cuMemHostRegister_v2(own + 100, 1, 0), CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED);
        assert_int_equal(cuMemHostGetDevicePointer_v2(&device, own, 0), CUDA_ERROR_NOT_SUPPORTED);
        assert_int_equal(cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, (uintptr_t)own), CUDA_SUCCESS);
        assert_int_equal(type, CU_MEMORYTYPE_HOST);
        assert_int_equal(cuMemFreeHost(own), CUDA_ERROR_INVALID_VALUE); /* not allocated here */
        assert_int_equal(cuMemHostUnregister(own + 1), CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED);
        assert_int_equal(cuMemHostUnregister(own), CUDA_SUCCESS);
        assert_int_equal(cuMemHostUnregister(own), CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED);
        assert_int_equal(cuMemHostRegister_v2(own, sizeof own, CU_MEMHOSTREGISTER_IOMEMORY), CUDA_ERROR_NOT_SUPPORTED);
        assert_int_equal(cuMemHostRegister_v2(own, sizeof own, 16), CUDA_ERROR_INVALID_VALUE);
}

static void pinned_memory_goes_with_its_context(void **state)
{
        (void)state;
        struct ivg_object *context;
        void *small, *large;
        assert_int_equal(ivg_context_require(&context), CUDA_SUCCESS);
        assert_int_equal(cuMemAllocHost_v2(&small, 100), CUDA_SUCCESS);
        assert_int_equal(cuMemAllocHost_v2(&large, 3u << 20), CUDA_SUCCESS);
        ivg_memory_end_of_context(context);
        assert_int_equal(cuMemFreeHost(small), CUDA_ERROR_INVALID_VALUE);
        assert_int_equal(cuMemFreeHost(large), CUDA_ERROR_INVALID_VALUE);
        ivg_pool_trim(&ivg_pinned_pool);
        assert_int_equal(fake_host_count().extents_owned, 0);
}

/* ---- device memory ---- */

static void device_memory_is_told_apart_from_the_programs_own(void **state)
{
        (void)state;
        CUdeviceptr device, base;
        size_t bytes;
        int type = 0;
        /* Twice the host's driver picks addresses that this process uses: the program gets the third. */
        fake_host_collide(2);
        assert_int_equal(cuMemAlloc_v2(&device, 1000), CUDA_SUCCESS);
        assert_int_equal(fake_host_count().allocations_live, 1);
        assert_int_equal(cuMemGetAddressRange_v2(&base, &bytes, device + 999), CUDA_SUCCESS);
        assert_int_equal(base, device);
        assert_int_equal(bytes, 1000);
        assert_int_equal(cuMemGetAddressRange_v2(&base, &bytes, device + 1000), CUDA_ERROR_NOT_FOUND);
        assert_int_equal(cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, device), CUDA_SUCCESS);
        assert_int_equal(type, CU_MEMORYTYPE_DEVICE);
        /* No mapping of the program's can come to lie there: the address is taken. */
        assert_false(ivg_shadow_reserve((uintptr_t)&type, 1));
        assert_true(ivg_shadow_reserve(device, 1000));
        assert_int_equal(cuMemFree_v2(device + 8), CUDA_ERROR_INVALID_VALUE);
        assert_int_equal(cuMemFree_v2(device), CUDA_SUCCESS);
        assert_int_equal(cuMemFree_v2(device), CUDA_ERROR_INVALID_VALUE);
        assert_int_equal(cuMemFree_v2(0), CUDA_SUCCESS);
        assert_int_equal(fake_host_count().allocations_live, 0);
        assert_int_equal(cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, device),
                         CUDA_ERROR_INVALID_VALUE);
}

static void colliding_memory_is_used_when_there_is_no_other(void **state)
{
        (void)state;
        CUdeviceptr device;
        uint8_t byte;
        struct ivg_memory_range range;
        fake_host_collide(4);
        assert_int_equal(cuMemAlloc_v2(&device, 1000), CUDA_SUCCESS);
        assert_int_equal(fake_host_count().allocations_live, 1); /* the three set aside went back */
        assert_true(ivg_memory_find(&ivg_memory_of_device, device, &range));
        assert_true(range.flags & IVG_MEMORY_AMBIGUOUS);
        /* A pointer there is taken for the program's own where the call says so: its bytes are read. */
        memset(&byte, 0, sizeof byte);
        assert_int_equal(cuMemcpyHtoD_v2((uintptr_t)&byte, (const void *)(uintptr_t)device, 1), CUDA_SUCCESS);
        assert_int_equal(fake_host_count().inline_copies, 1);
        fake_host_settle();
        assert_int_equal(cuMemFree_v2(device), CUDA_SUCCESS);
        /* From now on there is no searching: the first address is taken. */
        fake_host_collide(1);
        assert_int_equal(cuMemAlloc_v2(&device, 1000), CUDA_SUCCESS);
        assert_true(ivg_memory_find(&ivg_memory_of_device, device, &range));
        assert_true(range.flags & IVG_MEMORY_AMBIGUOUS);
        assert_int_equal(cuMemFree_v2(device), CUDA_SUCCESS);
        assert_int_equal(fake_host_count().allocations_live, 0);
}

static void attributes_of_unknown_pointers_are_zeros(void **state)
{
        (void)state;
        int type = -1, ordinal = -1;
        void *context = &type;
        bool managed = true;
        CUpointer_attribute attributes[] = {CU_POINTER_ATTRIBUTE_MEMORY_TYPE, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL,
                                            CU_POINTER_ATTRIBUTE_CONTEXT, CU_POINTER_ATTRIBUTE_IS_MANAGED};
        void *data[] = {&type, &ordinal, &context, &managed};
        assert_int_equal(cuPointerGetAttributes(4, attributes, data, (uintptr_t)&type), CUDA_SUCCESS);
        assert_int_equal(type, 0);
        assert_int_equal(ordinal, CU_DEVICE_INVALID);
        assert_null(context);
        assert_false(managed);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(blocks_are_aligned_and_apart),
                cmocka_unit_test(the_whole_arena_can_be_one_block),
                cmocka_unit_test(staging_keeps_to_its_share),
                cmocka_unit_test(a_refused_registration_leaks_nothing),
                cmocka_unit_test(wrong_uses_are_refused),
                cmocka_unit_test(registered_memory_is_a_note),
                cmocka_unit_test(pinned_memory_goes_with_its_context),
                cmocka_unit_test(device_memory_is_told_apart_from_the_programs_own),
                cmocka_unit_test(colliding_memory_is_used_when_there_is_no_other),
                cmocka_unit_test(attributes_of_unknown_pointers_are_zeros),
        };
        return cmocka_run_group_tests(tests, start, NULL);
}
