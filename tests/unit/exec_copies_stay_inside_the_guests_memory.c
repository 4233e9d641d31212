/* Copies between arena and device: data, completion words, and every pointer that a guest must not name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include "exec_fixture.h"
#include "rcu.h"
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

static uint64_t word_reaches(struct exec_fixture *f, uint32_t index, uint64_t value)
{
        const _Atomic(uint64_t) *word = &ivg_region_completions(&f->guest_region, FIXTURE_CHANNEL)[index];
        const uint64_t end = ivg_clock_ns() + 20000000000ull;

        while (ivg_load_acquire_u64(word) != value && ivg_clock_ns() < end)
                sched_yield();
        ivg_tsan_acquire(&fake); /* pairs with the release in the driver's write: see there */
        return ivg_load_acquire_u64(word);
}

static void word_fails(struct exec_fixture *f, uint32_t index, uint64_t value, CUresult result)
{
        const uint64_t failure = ivg_completion_failure(value, result);

        assert_int_equal(word_reaches(f, index, failure), failure);
}

static void copy_in(struct exec_fixture *f, uint64_t dst, uint64_t offset, uint64_t bytes, uint32_t index,
                    uint64_t value)
{
        struct ivg_request_ivgCopyHtoD request = {.dst = dst,
                                                  .arena_offset = offset,
                                                  .bytes = bytes,
                                                  .stream = FIXTURE_STREAM,
                                                  .completion_index = index,
                                                  .completion_value = value};

        fixture_async(f, &f->producer, IVG_CALL_ivgCopyHtoD, &request, sizeof(request));
}

static void copy_out(struct exec_fixture *f, uint64_t offset, uint64_t src, uint64_t bytes, uint32_t index,
                     uint64_t value)
{
        struct ivg_request_ivgCopyDtoH request = {.src = src,
                                                  .arena_offset = offset,
                                                  .bytes = bytes,
                                                  .stream = FIXTURE_STREAM,
                                                  .completion_index = index,
                                                  .completion_value = value};

        fixture_async(f, &f->producer, IVG_CALL_ivgCopyDtoH, &request, sizeof(request));
}

static void bytes_travel_both_ways(void **state)
{
        struct exec_fixture *f = *state;
        uint64_t device;

        fixture_own_extents(f, 0, 2, FIXTURE_CHANNEL);
        assert_int_equal(fixture_alloc(f, &f->producer, 4096, &device), CUDA_SUCCESS);
        for (int i = 0; i < 4096; i++)
                f->arena[i] = (uint8_t)(i * 7);
        copy_in(f, device, 0, 4096, 5, 1);
        copy_out(f, IVG_EXTENT_BYTES, device, 4096, 5, 2);
        assert_int_equal(word_reaches(f, 5, 2), 2);
        assert_memory_equal(f->arena, f->arena + IVG_EXTENT_BYTES, 4096);
        assert_int_equal(atomic_load(&fake.registered), 1); /* the words' pages, once */
        assert_int_equal(ivg_load_relaxed_u64(&f->exec->host_channel->arena_bytes_from_guest), 4096);
        assert_int_equal(ivg_load_relaxed_u64(&f->exec->host_channel->arena_bytes_to_guest), 4096);
}

/* The executor says so itself, by the same word. */
static void copies_that_the_driver_reads_are_done_on_return(void **state)
{
        struct exec_fixture *f = *state;
        struct ivg_request_ivgCopyHtoD request = {.bytes = IVG_COPY_READ_BYTES_MAX,
                                                  .stream = FIXTURE_STREAM,
                                                  .completion_index = 6,
                                                  .completion_value = 1,
                                                  .read_on_return = 1};

        fixture_own_extents(f, 0, 1, FIXTURE_CHANNEL);
        assert_int_equal(fixture_alloc(f, &f->producer, IVG_COPY_READ_BYTES_MAX, &request.dst), CUDA_SUCCESS);
        for (uint32_t i = 0; i < IVG_COPY_READ_BYTES_MAX; i++)
                f->arena[i] = (uint8_t)(i * 11);
        fixture_async(f, &f->producer, IVG_CALL_ivgCopyHtoD, &request, sizeof(request));
        assert_int_equal(word_reaches(f, 6, 1), 1);
        copy_out(f, IVG_COPY_READ_BYTES_MAX, request.dst, IVG_COPY_READ_BYTES_MAX, 7, 1);
        assert_int_equal(word_reaches(f, 7, 1), 1);
        assert_memory_equal(f->arena, f->arena + IVG_COPY_READ_BYTES_MAX, IVG_COPY_READ_BYTES_MAX);
        request.dst += 1; /* one byte beyond: told by the word */
        request.completion_value = 2;
        fixture_async(f, &f->producer, IVG_CALL_ivgCopyHtoD, &request, sizeof(request));
        word_fails(f, 6, 2, CUDA_ERROR_INVALID_VALUE);
}

static void short_copies_travel_in_the_record(void **state)
{
        struct exec_fixture *f = *state;
        uint64_t device;
        struct {
                struct ivg_request_ivgCopyHtoDInline request;
                uint8_t data[104];
        } message;

        memset(&message, 0, sizeof(message));
        assert_int_equal(fixture_alloc(f, &f->producer, 100, &device), CUDA_SUCCESS);
        message.request.dst = device;
        message.request.stream = FIXTURE_STREAM;
        message.request.data =
                (struct ivg_wire_range){.bytes = 100, .where = IVG_RANGE_INLINE, .offset = sizeof(message.request)};
        memset(message.data, 'x', 100);
        fixture_async(f, &f->producer, IVG_CALL_ivgCopyHtoDInline, &message, sizeof(message));
        fixture_settle(f, &f->producer);
        assert_memory_equal((const void *)(uintptr_t)device, message.data, 100);
}

static void refused(struct exec_fixture *f, uint64_t address, uint64_t bytes)
{
        static uint32_t index = 100;

        index++;
        copy_in(f, address, 0, bytes, index, 1);
        word_fails(f, index, 1, CUDA_ERROR_INVALID_VALUE);
        index++;
        copy_out(f, 0, address, bytes, index, 1);
        word_fails(f, index, 1, CUDA_ERROR_INVALID_VALUE);
        assert_int_equal(ivg_ring_state_errno(&f->ring), 0); /* an error of the program, no broken rule */
}

static void the_executors_own_memory_is_refused(void **state)
{
        struct exec_fixture *f = *state;
        uint64_t device;
        uint8_t *own = malloc(64);
        uint8_t on_stack[64];

        memset(own, 0x5a, 64);
        memset(on_stack, 0x5a, 64);
        fixture_own_extents(f, 0, 1, FIXTURE_CHANNEL);
        memset(f->arena, 0, 8192);
        assert_int_equal(fixture_alloc(f, &f->producer, 4096, &device), CUDA_SUCCESS);
        refused(f, (uintptr_t)own, 64);
        refused(f, (uintptr_t)on_stack, 64);
        refused(f, (uintptr_t)f->exec, 64);
        refused(f, (uintptr_t)&fixture_setup, 8);
        refused(f, (uintptr_t)f->arena, 64); /* arena memory that is not registered */
        refused(f, device + 1, 4096);        /* one byte too far */
        refused(f, device - 1, 2);           /* one byte before */
        refused(f, UINT64_MAX - 8, 64);      /* wraps */
        refused(f, 0, 1);
        for (int i = 0; i < 64; i++)
                assert_int_equal(own[i] & on_stack[i], 0x5a);
        free(own);
}

/* Boxes with an array on a side: only the address is the guest's to get wrong. */
static _Atomic(uint32_t) boxes_copied;
static _Atomic(uint64_t) box_array;

static CUresult fake_box(const CUDA_MEMCPY3D *copy, CUstream stream)
{
        (void)stream;
        assert_int_equal(copy->srcMemoryType, CU_MEMORYTYPE_ARRAY);
        assert_int_equal(copy->dstMemoryType, CU_MEMORYTYPE_UNIFIED);
        assert_null(copy->reserved0);
        assert_null(copy->reserved1);
        atomic_store(&box_array, (uintptr_t)copy->srcArray);
        atomic_fetch_add(&boxes_copied, 1);
        return CUDA_SUCCESS;
}

#define BOX_ARRAY 7000u

static struct ivg_request_ivgCopyBox box_to(uint64_t address, uint64_t pitch, uint64_t rows, uint32_t index)
{
        return (struct ivg_request_ivgCopyBox){.box = {.to = {.address = address, .pitch = pitch, .height = rows},
                                                       .from = {.x = 16, .y = 1, .z = 2},
                                                       .width = 64,
                                                       .height = 4,
                                                       .depth = 2},
                                               .src_array = BOX_ARRAY,
                                               .stream = FIXTURE_STREAM,
                                               .completion_index = index,
                                               .completion_value = 1};
}

static void a_box_meets(struct exec_fixture *f, struct ivg_request_ivgCopyBox request, uint64_t word)
{
        fixture_async(f, &f->producer, IVG_CALL_ivgCopyBox, &request, sizeof(request));
        assert_int_equal(word_reaches(f, request.completion_index, word), word);
        assert_int_equal(ivg_ring_state_errno(&f->ring), 0);
}

static void boxes_with_arrays_are_bounded(void **state)
{
        const uint64_t invalid = ivg_completion_failure(1, CUDA_ERROR_INVALID_VALUE);
        struct exec_fixture *f = *state;
        struct ivg_exec_call call = {.exec = f->exec, .context = FIXTURE_CONTEXT};
        uint64_t device;
        uint8_t own[1024];

        atomic_store(&boxes_copied, 0);
        f->exec->driver.cuMemcpy3DAsync_v2 = fake_box;
        assert_true(ivg_handle_put(&call, IVG_KIND_ARRAY, BOX_ARRAY, &boxes_copied));
        /* Two slices of four rows of 64 bytes, rows 100 apart: the last byte is number 764. */
        assert_int_equal(fixture_alloc(f, &f->producer, 764, &device), CUDA_SUCCESS);
        a_box_meets(f, box_to(device, 100, 4, 200), 1);
        assert_int_equal(atomic_load(&boxes_copied), 1);
        assert_int_equal(atomic_load(&box_array), (uintptr_t)&boxes_copied);
        a_box_meets(f, box_to(device + 1, 100, 4, 201), invalid); /* one byte too far */
        a_box_meets(f, box_to(device, 101, 4, 202), invalid);
        a_box_meets(f, box_to(device, 100, 5, 203), invalid);
        a_box_meets(f, box_to(device, 63, 4, 204), invalid); /* rows that overlap */
        a_box_meets(f, box_to(device, 100, 3, 205), invalid);
        a_box_meets(f, box_to(device, UINT64_MAX, 4, 206), invalid); /* wraps */
        a_box_meets(f, box_to(device, UINT64_MAX / 4 + 26, 4, 207), invalid);
        a_box_meets(f, box_to((uintptr_t)own, 100, 4, 208), invalid);
        assert_int_equal(atomic_load(&boxes_copied), 1);
}

static void a_box_of_a_broken_form_is_a_fault(void **state)
{
        struct exec_fixture *f = *state;
        struct ivg_exec_call call = {.exec = f->exec, .context = FIXTURE_CONTEXT};
        struct ivg_request_ivgCopyBox request;
        uint64_t device;

        assert_true(ivg_handle_put(&call, IVG_KIND_ARRAY, BOX_ARRAY, &call));
        assert_int_equal(fixture_alloc(f, &f->producer, 764, &device), CUDA_SUCCESS);
        request = box_to(device, 100, 4, 210);
        request.box.to.x = 8; /* an address starts at the box */
        fixture_async(f, &f->producer, IVG_CALL_ivgCopyBox, &request, sizeof(request));
        assert_true(fixture_faulted(f, IVG_FAULT_ARGUMENTS));
}

static void freed_memory_is_refused(void **state)
{
        struct exec_fixture *f = *state;
        uint64_t device;

        fixture_own_extents(f, 0, 1, FIXTURE_CHANNEL);
        assert_int_equal(fixture_alloc(f, &f->producer, 4096, &device), CUDA_SUCCESS);
        copy_in(f, device, 0, 4096, 7, 1);
        assert_int_equal(word_reaches(f, 7, 1), 1);
        fixture_free_async(f, &f->producer, device);
        assert_int_equal(fixture_synchronize(f, &f->producer), CUDA_SUCCESS);
        refused(f, device, 16);
}

static void registered_arena_memory_is_device_memory_too(void **state)
{
        struct exec_fixture *f = *state;
        struct ivg_request_ivgExtentsRegister add = {.offset = 0, .bytes = IVG_EXTENT_BYTES};
        struct ivg_request_ivgExtentsUnregister drop = {.offset = 0};

        fixture_own_extents(f, 0, 2, FIXTURE_CHANNEL);
        assert_int_equal(fixture_call(f, &f->producer, IVG_CALL_ivgExtentsRegister, &add, sizeof(add), NULL, 0),
                         CUDA_SUCCESS);
        assert_int_equal(fixture_call(f, &f->producer, IVG_CALL_ivgExtentsRegister, &add, sizeof(add), NULL, 0),
                         CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED);
        memset(f->arena + IVG_EXTENT_BYTES, 'y', 64);
        copy_in(f, (uintptr_t)f->arena, IVG_EXTENT_BYTES, 64, 8, 1);
        assert_int_equal(word_reaches(f, 8, 1), 1);
        assert_memory_equal(f->arena, f->arena + IVG_EXTENT_BYTES, 64);
        assert_int_equal(fixture_call(f, &f->producer, IVG_CALL_ivgExtentsUnregister, &drop, sizeof(drop), NULL, 0),
                         CUDA_SUCCESS);
        assert_int_equal(fixture_call(f, &f->producer, IVG_CALL_ivgExtentsUnregister, &drop, sizeof(drop), NULL, 0),
                         CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED);
        refused(f, (uintptr_t)f->arena, 64);
        add.offset = 4096; /* not on an extent */
        assert_int_equal(fixture_call(f, &f->producer, IVG_CALL_ivgExtentsRegister, &add, sizeof(add), NULL, 0),
                         CUDA_ERROR_INVALID_VALUE);
}

static void registrations_move_when_their_context_ends(void **state)
{
        struct exec_fixture *f = *state;
        struct ivg_request_ivgExtentsRegister add = {.offset = 0, .bytes = IVG_EXTENT_BYTES};
        struct ivg_request_cuDevicePrimaryCtxRelease_v2 release = {.dev = 0};
        struct ivg_request_cuDevicePrimaryCtxRetain retain = {.dev = 0, .pctx = FIXTURE_CONTEXT};
        struct ivg_request_cuStreamCreateWithPriority stream = {.phStream = FIXTURE_STREAM};
        uint64_t device;

        fixture_own_extents(f, 0, 1, FIXTURE_CHANNEL);
        assert_int_equal(fixture_alloc(f, &f->producer, 64, &device), CUDA_SUCCESS);
        assert_int_equal(fixture_call(f, &f->producer, IVG_CALL_ivgExtentsRegister, &add, sizeof(add), NULL, 0),
                         CUDA_SUCCESS);
        copy_in(f, device, 0, 64, 9, 1);
        assert_int_equal(word_reaches(f, 9, 1), 1);
        assert_int_equal(atomic_load(&fake.registered), 2);

        assert_int_equal(fixture_call(f, &f->producer, IVG_CALL_cuDevicePrimaryCtxRelease_v2, &release, sizeof(release),
                                      NULL, 0),
                         CUDA_SUCCESS);
        assert_int_equal(atomic_load(&fake.unregistered), 2); /* extent and words */
        assert_int_equal(
                fixture_call(f, &f->producer, IVG_CALL_cuDevicePrimaryCtxRetain, &retain, sizeof(retain), NULL, 0),
                CUDA_SUCCESS);
        assert_int_equal(atomic_load(&fake.registered), 3); /* the extent at once, the words when they are needed */
        fixture_async(f, &f->producer, IVG_CALL_cuStreamCreateWithPriority, &stream, sizeof(stream));
        copy_in(f, (uintptr_t)f->arena + 4096, 0, 64, 9, 2);
        assert_int_equal(word_reaches(f, 9, 2), 2);
        assert_int_equal(atomic_load(&fake.registered), 4);
}

static void failures_reach_the_completion_word(void **state)
{
        struct exec_fixture *f = *state;
        uint64_t device;

        fixture_own_extents(f, 0, 1, FIXTURE_CHANNEL);
        assert_int_equal(fixture_alloc(f, &f->producer, 64, &device), CUDA_SUCCESS);
        atomic_store(&fake.sticky, CUDA_ERROR_ILLEGAL_ADDRESS);
        copy_in(f, device, 0, 64, 11, 1);
        word_fails(f, 11, 1, CUDA_ERROR_ILLEGAL_ADDRESS);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(bytes_travel_both_ways),
                TEST(copies_that_the_driver_reads_are_done_on_return),
                TEST(short_copies_travel_in_the_record),
                TEST(the_executors_own_memory_is_refused),
                TEST(boxes_with_arrays_are_bounded),
                TEST(a_box_of_a_broken_form_is_a_fault),
                TEST(freed_memory_is_refused),
                TEST(registered_arena_memory_is_device_memory_too),
                TEST(registrations_move_when_their_context_ends),
                TEST(failures_reach_the_completion_word),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
