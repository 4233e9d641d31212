/* What is said of events and streams without asking the host (signal.c): by words that this test writes, while its host
 * says "not ready" all the time. How often the host is asked hangs on a clock; that it is asked, or not, does not. */
#include "cuda_api.h"
#include "guest_played_host.h"

#define MANY (2 * IVG_SIGNAL_WORDS)

static struct played_host host;
static char said[8192];
static CUcontext context;
static CUstream stream;

static uint32_t calls(uint16_t number)
{
        return atomic_load(&host.calls[number]);
}

static void begin(void)
{
        played_host_start(&host);
        REQUIRE_RESULT(cuInit(0), CUDA_SUCCESS);
        REQUIRE_RESULT(cuCtxCreate_v2(&context, 0, 0), CUDA_SUCCESS);
        REQUIRE_RESULT(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING), CUDA_SUCCESS);
        atomic_store(&host.result, CUDA_ERROR_NOT_READY);
}

static CUevent recorded_event(void)
{
        CUevent event;

        REQUIRE_RESULT(cuEventCreate(&event, CU_EVENT_DISABLE_TIMING), CUDA_SUCCESS);
        REQUIRE_RESULT(cuEventRecord(event, stream), CUDA_SUCCESS);
        return event;
}

/* A word is asked for; the last question also waits until that record has been taken. */
static void event_pends(CUevent event)
{
        REQUIRE_RESULT(cuEventQuery(event), CUDA_ERROR_NOT_READY);
        REQUIRE_RESULT(cuCtxSynchronize(), CUDA_ERROR_NOT_READY);
}

/* What the executor says of the latest word that was asked for. */
static void say(uint64_t word)
{
        ivg_store_release_u64(&ivg_region_completions(&host.executor_region, 0)[atomic_load(&host.signal_index)], word);
}

static uint64_t value(void)
{
        return atomic_load(&host.signal_value);
}

static void an_event(void)
{
        CUevent event;
        uint32_t asked, index;

        begin();
        event = recorded_event();
        event_pends(event);
        REQUIRE(calls(IVG_CALL_ivgEventWatch) == 1 && value() == 1);
        REQUIRE_RESULT(cuEventQuery(event), CUDA_ERROR_NOT_READY);
        say(value() - 1);
        REQUIRE_RESULT(cuEventQuery(event), CUDA_ERROR_NOT_READY);
        asked = calls(IVG_CALL_cuEventQuery);
        index = atomic_load(&host.signal_index);
        say(value());
        REQUIRE_RESULT(cuEventQuery(event), CUDA_SUCCESS);
        REQUIRE_RESULT(cuCtxSynchronize(), CUDA_ERROR_NOT_READY); /* something is sent, which says nothing of it */
        REQUIRE_RESULT(cuEventQuery(event), CUDA_SUCCESS);
        REQUIRE_RESULT(cuEventSynchronize(event), CUDA_SUCCESS);
        REQUIRE(calls(IVG_CALL_cuEventQuery) == asked);

        /* Another record is another question; the word, which has come, serves it again. */
        REQUIRE_RESULT(cuEventRecord(event, stream), CUDA_SUCCESS);
        event_pends(event);
        REQUIRE(calls(IVG_CALL_ivgEventWatch) == 2 && value() == 2 && atomic_load(&host.signal_index) == index);
        /* Recorded again while it is pending: what comes then is of before. */
        REQUIRE_RESULT(cuEventRecord(event, stream), CUDA_SUCCESS);
        say(value());
        event_pends(event);
        REQUIRE(calls(IVG_CALL_ivgEventWatch) == 3 && value() == 3);
        say(value());
        REQUIRE_RESULT(cuEventQuery(event), CUDA_SUCCESS);
}

static void a_stream(void)
{
        uint32_t asked;

        begin();
        REQUIRE_RESULT(cuStreamQuery(stream), CUDA_SUCCESS); /* it was given nothing yet */
        (void)recorded_event();
        for (uint32_t round = 1; round <= 4; round++) {
                REQUIRE_RESULT(cuStreamQuery(stream), CUDA_ERROR_NOT_READY);
                REQUIRE_RESULT(cuStreamQuery(stream), CUDA_ERROR_NOT_READY);
                while (calls(IVG_CALL_ivgStreamWatch) != round)
                        sched_yield();
                say(value());
                if (round % 2) {
                        asked = calls(IVG_CALL_cuStreamQuery);
                        REQUIRE_RESULT(cuStreamQuery(stream), CUDA_SUCCESS);
                        REQUIRE_RESULT(cuStreamQuery(stream), CUDA_SUCCESS);
                        REQUIRE(calls(IVG_CALL_cuStreamQuery) == asked);
                }
                /* Something is sent, perhaps to this stream: what has come says nothing of it. */
                REQUIRE_RESULT(cuEventDestroy_v2(recorded_event()), CUDA_SUCCESS);
        }
        for (int i = 0; i < 8; i++) /* an event there would hold back other streams */
                REQUIRE_RESULT(cuStreamQuery(NULL), CUDA_ERROR_NOT_READY);
        REQUIRE(calls(IVG_CALL_ivgStreamWatch) == 4);
}

/* The program may have learnt more than the word says. */
static void after_a_wait_the_host_is_asked(void)
{
        CUevent event;
        uint32_t asked;

        begin();
        event = recorded_event();
        REQUIRE_RESULT(cuEventRecord(event, CU_STREAM_PER_THREAD), CUDA_SUCCESS); /* so that contexts tell nothing */
        event_pends(event);
        for (int i = 0; i < 20; i++) {
                REQUIRE_RESULT(cuEventQuery(event), CUDA_ERROR_NOT_READY);
                asked = calls(IVG_CALL_cuEventQuery);
                (void)recorded_event(); /* something to wait for */
                atomic_store(&host.result, CUDA_SUCCESS);
                REQUIRE_RESULT(cuCtxSynchronize(), CUDA_SUCCESS);
                atomic_store(&host.result, CUDA_ERROR_NOT_READY);
                REQUIRE_RESULT(cuEventQuery(event), CUDA_ERROR_NOT_READY);
                REQUIRE(calls(IVG_CALL_cuEventQuery) == asked + 1);
        }
        atomic_store(&host.result, CUDA_ERROR_ILLEGAL_ADDRESS);
        for (uint32_t i = 0; i <= 2 * IVG_UNASKED_MAX; i++) {
                const CUresult result = cuEventQuery(event);

                REQUIRE(result == CUDA_ERROR_NOT_READY || result == CUDA_ERROR_ILLEGAL_ADDRESS);
                if (result == CUDA_ERROR_ILLEGAL_ADDRESS)
                        break;
                REQUIRE(i < 2 * IVG_UNASKED_MAX);
        }
        for (int i = 0; i < 8; i++) /* and what follows is as it is natively */
                REQUIRE_RESULT(cuEventQuery(event), CUDA_ERROR_ILLEGAL_ADDRESS);
}

/* What a context has been synchronized for is done, by whichever call it is asked about, until something is sent. */
static void a_context_tells_of_its_events_and_streams(void)
{
        CUstream other;
        CUevent event;

        begin();
        REQUIRE_RESULT(cuStreamCreate(&other, CU_STREAM_NON_BLOCKING), CUDA_SUCCESS);
        event = recorded_event();
        event_pends(event);
        atomic_store(&host.result, CUDA_SUCCESS);
        REQUIRE_RESULT(cuCtxSynchronize(), CUDA_SUCCESS);
        atomic_store(&host.result, CUDA_ERROR_NOT_READY);
        for (int i = 0; i < 4; i++) {
                REQUIRE_RESULT(cuEventQuery(event), CUDA_SUCCESS);
                REQUIRE_RESULT(cuEventSynchronize(event), CUDA_SUCCESS);
                REQUIRE_RESULT(cuStreamQuery(stream), CUDA_SUCCESS);
                REQUIRE_RESULT(cuStreamQuery(other), CUDA_SUCCESS);
                REQUIRE_RESULT(cuStreamQuery(NULL), CUDA_SUCCESS);
        }
        (void)recorded_event();
        REQUIRE_RESULT(cuStreamQuery(stream), CUDA_ERROR_NOT_READY);
}

/* A word that could not be had is not taken for one that has come, now or later. */
static void words_fail(void)
{
        CUevent events[MANY];

        begin();
        for (uint32_t i = 0; i < MANY; i++) {
                events[i] = recorded_event();
                event_pends(events[i]);
                REQUIRE(calls(IVG_CALL_ivgEventWatch) == (i < IVG_SIGNAL_WORDS ? i + 1 : IVG_SIGNAL_WORDS));
                if (i < IVG_SIGNAL_WORDS)
                        say(ivg_completion_failure(value(), CUDA_ERROR_OUT_OF_MEMORY));
        }
        for (uint32_t round = 0; round < 3; round++)
                for (uint32_t i = 0; i < MANY; i++)
                        REQUIRE_RESULT(cuEventQuery(events[i]), CUDA_ERROR_NOT_READY);
        atomic_store(&host.result, CUDA_SUCCESS);
        for (uint32_t i = 0; i < MANY; i++)
                REQUIRE_RESULT(cuEventQuery(events[i]), CUDA_SUCCESS);
}

/* More questions than words; and those of a context that has ended serve the next one. */
static void words_run_out_and_come_back(void)
{
        CUevent event;

        begin();
        for (uint32_t i = 0; i < MANY; i++)
                event_pends(recorded_event());
        REQUIRE(calls(IVG_CALL_ivgEventWatch) == IVG_SIGNAL_WORDS);
        atomic_store(&host.result, CUDA_SUCCESS);
        REQUIRE_RESULT(cuCtxDestroy_v2(context), CUDA_SUCCESS);
        REQUIRE_RESULT(cuCtxCreate_v2(&context, 0, 0), CUDA_SUCCESS);
        REQUIRE_RESULT(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING), CUDA_SUCCESS);
        atomic_store(&host.result, CUDA_ERROR_NOT_READY);
        event = recorded_event();
        event_pends(event);
        REQUIRE(calls(IVG_CALL_ivgEventWatch) == IVG_SIGNAL_WORDS + 1 && value() == 2);
        say(value());
        REQUIRE_RESULT(cuEventQuery(event), CUDA_SUCCESS);
}

/* Where others record the event, nothing is known here. */
static void events_of_graphs_are_asked_for(void)
{
        CUevent event;
        CUgraph graph;
        CUgraphNode node;
        uint32_t asked;

        begin();
        atomic_store(&host.result, CUDA_SUCCESS);
        event = recorded_event();
        REQUIRE_RESULT(cuEventQuery(event), CUDA_SUCCESS);
        REQUIRE_RESULT(cuGraphCreate(&graph, 0), CUDA_SUCCESS);
        REQUIRE_RESULT(cuGraphAddEventRecordNode(&node, graph, NULL, 0, event), CUDA_SUCCESS);
        atomic_store(&host.result, CUDA_ERROR_NOT_READY);
        asked = calls(IVG_CALL_cuEventQuery);
        for (uint32_t i = 0; i < 8; i++)
                REQUIRE_RESULT(cuEventQuery(event), CUDA_ERROR_NOT_READY);
        REQUIRE_RESULT(cuEventRecord(event, stream), CUDA_SUCCESS);
        for (uint32_t i = 0; i < 8; i++)
                REQUIRE_RESULT(cuEventQuery(event), CUDA_ERROR_NOT_READY);
        REQUIRE(calls(IVG_CALL_cuEventQuery) == asked + 16 && calls(IVG_CALL_ivgEventWatch) == 0);
}

static void play(void (*scenario)(void))
{
        played_scenario(scenario, said, sizeof(said));
        assert_int_equal(played_lines(said), 0);
}

#define TEST(name)                            \
        static void test_##name(void **state) \
        {                                     \
                (void)state;                  \
                play(name);                   \
        }
TEST(an_event)
TEST(a_stream)
TEST(after_a_wait_the_host_is_asked)
TEST(a_context_tells_of_its_events_and_streams)
TEST(words_fail)
TEST(words_run_out_and_come_back)
TEST(events_of_graphs_are_asked_for)

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_an_event),
                cmocka_unit_test(test_a_stream),
                cmocka_unit_test(test_after_a_wait_the_host_is_asked),
                cmocka_unit_test(test_a_context_tells_of_its_events_and_streams),
                cmocka_unit_test(test_words_fail),
                cmocka_unit_test(test_words_run_out_and_come_back),
                cmocka_unit_test(test_events_of_graphs_are_asked_for),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
