/* The executor's trace: every call that ran while it was on, with where and when, and nothing while it was off. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include "exec_fixture.h"
#include <cmocka.h>
#include <string.h>
#include <unistd.h>

#define EVENTS_MAX 64u

static void trace(struct exec_fixture *f, bool on)
{
        fixture_settle(f, &f->producer); /* the batch before is over */
        ivg_store_relaxed_u32(&f->exec->board->orders.trace, on);
}

/* Waits (bounded) for `count` events, in the ring's order then. */
static void take_events(struct ivg_trace_reader *reader, struct ivg_trace_event *events, uint32_t count)
{
        uint32_t got = 0;

        for (uint32_t turn = 0; got < count && turn < 10000; turn++) {
                if (ivg_trace_read(reader, &events[got], false))
                        got++;
                else
                        usleep(1000);
        }
        assert_int_equal(got, count);
        for (uint32_t i = 0; i < count; i++)
                for (uint32_t j = i + 1; j < count; j++)
                        if (events[j].position < events[i].position) {
                                const struct ivg_trace_event one = events[i];

                                events[i] = events[j];
                                events[j] = one;
                        }
}

static void calls_are_traced_with_where_and_when(void **state)
{
        struct exec_fixture *f = *state;
        struct ivg_trace_reader reader = {.ring = &f->exec->board->trace};
        struct ivg_trace_event events[EVENTS_MAX];
        static const struct {
                uint16_t call;
                enum ivg_trace_place place;
                uint32_t result;
        } expected[] = {
                {IVG_CALL_cuMemAlloc_v2, IVG_TRACE_LANE, CUDA_SUCCESS},
                {IVG_CALL_ivgLaunch, IVG_TRACE_CONSUMER, IVG_TRACE_NO_RESULT},
                {IVG_CALL_cuMemFree_v2, IVG_TRACE_REAPER, IVG_TRACE_NO_RESULT},
                {IVG_CALL_cuStreamSynchronize, IVG_TRACE_LANE, CUDA_ERROR_INVALID_HANDLE},
        };
        struct ivg_request_cuStreamSynchronize request = {.hStream = 999};
        const uint64_t begin_ns = ivg_clock_ns();
        uint64_t address;

        fixture_launch(f, &f->producer, FAKE_KERNEL_OK, FIXTURE_STREAM);
        trace(f, true);
        assert_int_equal(fixture_alloc(f, &f->producer, 4096, &address), CUDA_SUCCESS);
        fixture_launch(f, &f->producer, FAKE_KERNEL_OK, FIXTURE_STREAM);
        fixture_free_async(f, &f->producer, address);
        assert_int_equal(
                fixture_call(f, &f->producer, IVG_CALL_cuStreamSynchronize, &request, sizeof(request), NULL, 0),
                CUDA_ERROR_INVALID_HANDLE);
        take_events(&reader, events, 4);
        for (uint32_t i = 0; i < 4; i++) {
                assert_int_equal(events[i].call, expected[i].call);
                assert_int_equal(events[i].place, expected[i].place);
                assert_int_equal(events[i].result, expected[i].result);
                assert_int_equal(events[i].line, f->producer.index);
                assert_true(begin_ns <= events[i].taken_ns && events[i].taken_ns <= events[i].begin_ns &&
                            events[i].begin_ns <= events[i].end_ns && events[i].end_ns <= ivg_clock_ns());
        }
        assert_int_equal(events[3].request_bytes, sizeof(request));
        assert_memory_equal(events[3].request + offsetof(struct ivg_request_cuStreamSynchronize, hStream),
                            &request.hStream, sizeof(request.hStream));
        trace(f, false); /* whose own round trip is traced still */
        fixture_launch(f, &f->producer, FAKE_KERNEL_OK, FIXTURE_STREAM);
        fixture_settle(f, &f->producer);
        take_events(&reader, events, 1);
        assert_false(ivg_trace_read(&reader, &events[0], true));
        assert_int_equal(reader.lost, 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(calls_are_traced_with_where_and_when, fixture_setup, fixture_teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
