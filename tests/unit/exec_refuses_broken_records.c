/* Every rule that a record can break: the channel is closed with that rule's name, nothing of the record is executed,
 * and the executor itself goes on until it is told to end (the fixture stops it in order). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include "exec_fixture.h"
#include <cmocka.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define EXTENT IVG_EXTENT_BYTES

/* A launch that would count, so that a wrong acceptance shows. */
static struct ivg_request_ivgLaunch launch_request(struct exec_fixture *f)
{
        struct ivg_request_ivgLaunch request = {.function = FIXTURE_KERNEL(FAKE_KERNEL_OK),
                                                .stream = FIXTURE_STREAM,
                                                .grid_x = 1,
                                                .grid_y = 1,
                                                .grid_z = 1,
                                                .block_x = 1,
                                                .block_y = 1,
                                                .block_z = 1};

        request.header = fixture_header(&f->producer, sizeof(request), false);
        return request;
}

static void expect_fault(struct exec_fixture *f, enum ivg_ring_fault fault)
{
        struct pollfd event = {.fd = f->exec->event_fd, .events = POLLIN};

        assert_true(fixture_faulted(f, fault));
        assert_int_equal(poll(&event, 1, 10000), 1); /* the owner is told */
        assert_int_equal(atomic_load(&fake.launches), 0);
}

static void send_launch(struct exec_fixture *f, const struct ivg_request_ivgLaunch *request, uint16_t number)
{
        fixture_send(f, &f->producer, number, request, sizeof(*request));
}

static void length_below_the_header(void **state)
{
        struct ivg_request_ivgLaunch request = launch_request(*state);

        request.header.bytes = sizeof(request.header) - 1;
        send_launch(*state, &request, IVG_CALL_ivgLaunch);
        expect_fault(*state, IVG_FAULT_RECORD_HEADER);
}

static void length_over_the_record(void **state)
{
        struct ivg_request_ivgLaunch request = launch_request(*state);

        request.header.bytes = 4000;
        send_launch(*state, &request, IVG_CALL_ivgLaunch);
        expect_fault(*state, IVG_FAULT_RECORD_HEADER);
}

static void producer_out_of_range(void **state)
{
        struct ivg_request_ivgLaunch request = launch_request(*state);

        request.header.producer = IVG_RING_PRODUCERS;
        send_launch(*state, &request, IVG_CALL_ivgLaunch);
        expect_fault(*state, IVG_FAULT_RECORD_HEADER);
}

static void unknown_flags(void **state)
{
        struct ivg_request_ivgLaunch request = launch_request(*state);

        request.header.flags = 0x80;
        send_launch(*state, &request, IVG_CALL_ivgLaunch);
        expect_fault(*state, IVG_FAULT_RECORD_HEADER);
}

static void reserved_field_used(void **state)
{
        struct ivg_request_ivgLaunch request = launch_request(*state);

        request.header.reserved = 1;
        send_launch(*state, &request, IVG_CALL_ivgLaunch);
        expect_fault(*state, IVG_FAULT_RECORD_HEADER);
}

static void synchronous_call_without_answer(void **state)
{
        struct exec_fixture *f = *state;
        struct ivg_request_cuStreamSynchronize request = {.hStream = FIXTURE_STREAM};

        fixture_async(f, &f->producer, IVG_CALL_cuStreamSynchronize, &request, sizeof(request));
        expect_fault(f, IVG_FAULT_RECORD_HEADER);
}

static void unknown_call_number(void **state)
{
        struct ivg_request_ivgLaunch request = launch_request(*state);

        send_launch(*state, &request, 0xffff);
        expect_fault(*state, IVG_FAULT_OPCODE);
}

static void call_number_zero(void **state)
{
        struct ivg_request_ivgLaunch request = launch_request(*state);

        send_launch(*state, &request, 0);
        expect_fault(*state, IVG_FAULT_OPCODE);
}

static void truncated_arguments(void **state)
{
        struct ivg_request_ivgLaunch request = launch_request(*state);

        request.header.bytes = sizeof(request) - 8;
        send_launch(*state, &request, IVG_CALL_ivgLaunch);
        expect_fault(*state, IVG_FAULT_ARGUMENTS);
}

static void range_behind_the_record(void **state)
{
        struct ivg_request_ivgLaunch request = launch_request(*state);

        request.params = (struct ivg_wire_range){.bytes = 64, .where = IVG_RANGE_INLINE, .offset = sizeof(request)};
        send_launch(*state, &request, IVG_CALL_ivgLaunch);
        expect_fault(*state, IVG_FAULT_ARGUMENTS);
}

static void range_of_unknown_place(void **state)
{
        struct ivg_request_ivgLaunch request = launch_request(*state);

        request.params = (struct ivg_wire_range){.bytes = 8, .where = 7};
        send_launch(*state, &request, IVG_CALL_ivgLaunch);
        expect_fault(*state, IVG_FAULT_ARGUMENTS);
}

/* ---- arena ---- */

static void send_params_in_arena(struct exec_fixture *f, uint64_t offset, uint32_t bytes)
{
        struct ivg_request_ivgLaunch request = launch_request(f);

        request.params = (struct ivg_wire_range){.bytes = bytes, .where = IVG_RANGE_ARENA, .offset = offset};
        send_launch(f, &request, IVG_CALL_ivgLaunch);
}

static void arena_range_in_a_free_extent(void **state)
{
        send_params_in_arena(*state, 0, 64);
        expect_fault(*state, IVG_FAULT_ARENA);
}

static void arena_range_in_another_channels_extent(void **state)
{
        fixture_own_extents(*state, 0, 1, FIXTURE_CHANNEL - 1);
        send_params_in_arena(*state, 0, 64);
        expect_fault(*state, IVG_FAULT_ARENA);
}

static void arena_range_that_leaves_its_extent(void **state)
{
        fixture_own_extents(*state, 0, 1, FIXTURE_CHANNEL);
        send_params_in_arena(*state, EXTENT - 32, 64);
        expect_fault(*state, IVG_FAULT_ARENA);
}

static void arena_range_past_the_end(void **state)
{
        struct exec_fixture *f = *state;

        fixture_own_extents(f, 0, f->guest_region.extent_count, FIXTURE_CHANNEL);
        send_params_in_arena(f, f->guest_region.arena_bytes - 8, 16);
        expect_fault(f, IVG_FAULT_ARENA);
}

static void arena_range_that_wraps(void **state)
{
        struct exec_fixture *f = *state;

        fixture_own_extents(f, 0, f->guest_region.extent_count, FIXTURE_CHANNEL);
        send_params_in_arena(f, UINT64_MAX - 7, 16);
        expect_fault(f, IVG_FAULT_ARENA);
}

static void a_copy_whose_length_wraps(void **state)
{
        struct exec_fixture *f = *state;
        struct ivg_request_ivgCopyHtoD request = {.dst = (uintptr_t)f->arena,
                                                  .arena_offset = 64,
                                                  .bytes = UINT64_MAX - 32,
                                                  .stream = FIXTURE_STREAM,
                                                  .completion_index = UINT32_MAX};

        fixture_own_extents(f, 0, f->guest_region.extent_count, FIXTURE_CHANNEL);
        fixture_async(f, &f->producer, IVG_CALL_ivgCopyHtoD, &request, sizeof(request));
        expect_fault(f, IVG_FAULT_ARENA);
}

static void registering_foreign_extents(void **state)
{
        struct exec_fixture *f = *state;
        struct ivg_request_ivgExtentsRegister request = {.offset = 0, .bytes = 2 * EXTENT};

        fixture_own_extents(f, 0, 1, FIXTURE_CHANNEL); /* the second is free */
        request.header = fixture_header(&f->producer, sizeof(request), true);
        fixture_send(f, &f->producer, IVG_CALL_ivgExtentsRegister, &request, sizeof(request));
        expect_fault(f, IVG_FAULT_ARENA);
        assert_int_equal(atomic_load(&fake.registered), 0);
}

static void a_completion_word_out_of_range(void **state)
{
        struct exec_fixture *f = *state;
        struct ivg_request_ivgCopyHtoD request = {.stream = FIXTURE_STREAM, .completion_index = IVG_COMPLETION_WORDS};

        fixture_own_extents(f, 0, 1, FIXTURE_CHANNEL);
        fixture_async(f, &f->producer, IVG_CALL_ivgCopyHtoD, &request, sizeof(request));
        expect_fault(f, IVG_FAULT_ARGUMENTS);
}

/* It would keep the consumer. */
static void a_long_copy_for_the_driver_to_read(void **state)
{
        struct exec_fixture *f = *state;
        struct ivg_request_ivgCopyHtoD request = {.bytes = IVG_COPY_READ_BYTES_MAX + 1,
                                                  .stream = FIXTURE_STREAM,
                                                  .completion_index = UINT32_MAX,
                                                  .read_on_return = 1};

        fixture_own_extents(f, 0, 1, FIXTURE_CHANNEL);
        fixture_async(f, &f->producer, IVG_CALL_ivgCopyHtoD, &request, sizeof(request));
        expect_fault(f, IVG_FAULT_ARGUMENTS);
}

/* ---- numbers ---- */

static void a_new_object_with_a_taken_number(void **state)
{
        struct exec_fixture *f = *state;
        struct ivg_request_cuStreamCreateWithPriority request = {.phStream = FIXTURE_STREAM};

        fixture_async(f, &f->producer, IVG_CALL_cuStreamCreateWithPriority, &request, sizeof(request));
        expect_fault(f, IVG_FAULT_HANDLE);
}

static void a_new_object_with_a_reserved_number(void **state)
{
        struct exec_fixture *f = *state;
        struct ivg_request_cuStreamCreateWithPriority request = {.phStream = IVG_ID_STREAM_LEGACY};

        fixture_async(f, &f->producer, IVG_CALL_cuStreamCreateWithPriority, &request, sizeof(request));
        expect_fault(f, IVG_FAULT_HANDLE);
}

/* ---- the ring's own rules reach the executor's owner too ---- */

static void a_first_slot_of_no_kind(void **state)
{
        struct exec_fixture *f = *state;
        struct ivg_record record = {0};

        assert_int_equal(ivg_producer_reserve(&f->producer, 16, &record), 0);
        ivg_store_release_u64(&f->ring.guest->slots[record.position % IVG_RING_SLOTS].commit,
                              (uint32_t)(record.position + 1) | 1ull << 32 | 9ull << 40);
        assert_int_equal(eventfd_write(f->doorbell_fd, 1), 0);
        expect_fault(f, IVG_FAULT_RECORD_KIND);
}

/* ---- and what is no fault ---- */

static void unknown_handles_are_an_answer(void **state)
{
        struct exec_fixture *f = *state;
        struct ivg_request_cuStreamSynchronize request = {.hStream = 4711};

        assert_int_equal(
                fixture_call(f, &f->producer, IVG_CALL_cuStreamSynchronize, &request, sizeof(request), NULL, 0),
                CUDA_ERROR_INVALID_HANDLE);
        request.hStream = FIXTURE_KERNEL(FAKE_KERNEL_OK); /* alive, of another kind */
        assert_int_equal(
                fixture_call(f, &f->producer, IVG_CALL_cuStreamSynchronize, &request, sizeof(request), NULL, 0),
                CUDA_ERROR_INVALID_HANDLE);
        assert_int_equal(ivg_ring_state_errno(&f->ring), 0);
}

static void an_unknown_context_is_an_answer(void **state)
{
        struct exec_fixture *f = *state;
        struct ivg_request_cuStreamSynchronize request = {.hStream = FIXTURE_STREAM};

        request.header = fixture_header(&f->producer, sizeof(request), true);
        request.header.context = 4711;
        fixture_send(f, &f->producer, IVG_CALL_cuStreamSynchronize, &request, sizeof(request));
        assert_int_equal(fixture_answer(f, &f->producer, NULL, 0), CUDA_ERROR_INVALID_CONTEXT);
        assert_int_equal(ivg_ring_state_errno(&f->ring), 0);
}

static void nothing_is_executed_after_a_fault(void **state)
{
        struct exec_fixture *f = *state;
        struct ivg_request_ivgLaunch bad = launch_request(f), good = launch_request(f);
        struct ivg_record records[2] = {{0}};

        /* Both committed before the consumer can have come to the first. */
        bad.header.reserved = 1;
        assert_int_equal(ivg_producer_reserve(&f->producer, sizeof(bad), &records[0]), 0);
        ivg_record_write(&f->producer, &records[0], 0, &bad, sizeof(bad));
        assert_int_equal(ivg_producer_reserve(&f->producer, sizeof(good), &records[1]), 0);
        ivg_record_write(&f->producer, &records[1], 0, &good, sizeof(good));
        (void)ivg_producer_commit(&f->producer, &records[1], IVG_CALL_ivgLaunch);
        (void)ivg_producer_commit(&f->producer, &records[0], IVG_CALL_ivgLaunch);
        assert_int_equal(eventfd_write(f->doorbell_fd, 1), 0);
        expect_fault(f, IVG_FAULT_RECORD_HEADER);
        usleep(20000);
        assert_int_equal(atomic_load(&fake.launches), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(length_below_the_header),
                TEST(length_over_the_record),
                TEST(producer_out_of_range),
                TEST(unknown_flags),
                TEST(reserved_field_used),
                TEST(synchronous_call_without_answer),
                TEST(unknown_call_number),
                TEST(call_number_zero),
                TEST(truncated_arguments),
                TEST(range_behind_the_record),
                TEST(range_of_unknown_place),
                TEST(arena_range_in_a_free_extent),
                TEST(arena_range_in_another_channels_extent),
                TEST(arena_range_that_leaves_its_extent),
                TEST(arena_range_past_the_end),
                TEST(arena_range_that_wraps),
                TEST(a_copy_whose_length_wraps),
                TEST(registering_foreign_extents),
                TEST(a_completion_word_out_of_range),
                TEST(a_long_copy_for_the_driver_to_read),
                TEST(a_new_object_with_a_taken_number),
                TEST(a_new_object_with_a_reserved_number),
                TEST(a_first_slot_of_no_kind),
                TEST(unknown_handles_are_an_answer),
                TEST(an_unknown_context_is_an_answer),
                TEST(nothing_is_executed_after_a_fault),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
