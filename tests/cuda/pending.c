/* Questions about what is under way. Gates, words that streams wait for, hold it back for as long as the program likes:
 * until then events and streams are "not ready", and soon after they are done, whoever else is held and however often
 * was asked before. What is done has happened: pinned memory shows it. */
#include "check.h"
#include "management.h"
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <time.h>

enum {
        ASKED = 200,   /* times in a row: more than are answered without the host at first */
        FEW = 4,       /* enough for a word */
        EVENTS = 40,   /* more than there are words for questions */
        ROUNDS = 3000, /* of threads that ask while others send */
        ASKERS = 3,
        SYNCED = 200,
        FREE = 3,
        FREE_MAX = 64,
        WAIT_S = 60 /* nothing here takes so long */
};

static CUcontext context;
static CUmodule module;
static CUfunction increment;
static const struct ivg_management *management; /* NULL: another driver */

struct gate {
        _Atomic(uint32_t) *word;
        CUdeviceptr device;
        uint32_t closed; /* how often */
};

static void pinned_free(volatile uint32_t *word)
{
        CU(cuMemFreeHost((void *)(uintptr_t)word));
}

static struct gate gate_make(void)
{
        struct gate gate = {NULL, 0, 0};

        gate.word = (void *)(uintptr_t)test_pinned_word(&gate.device);
        return gate;
}

static void gate_close(struct gate *gate, CUstream stream)
{
        CU(cuStreamWaitValue32_v2(stream, gate->device, ++gate->closed, CU_STREAM_WAIT_VALUE_GEQ));
}

static void gate_open(struct gate *gate)
{
        atomic_store(gate->word, gate->closed);
}

static void gate_end(struct gate *gate)
{
        CU(cuMemFreeHost((void *)gate->word));
}

static void launch_increment(CUstream stream, CUdeviceptr counter)
{
        void *parameters[] = {&counter};

        CU(cuLaunchKernel(increment, 1, 1, 1, 1, 1, 1, 0, stream, parameters, NULL));
}

static CUevent event_make(void)
{
        CUevent event;

        CU(cuEventCreate(&event, CU_EVENT_DISABLE_TIMING));
        return event;
}

static CUstream stream_make(unsigned flags)
{
        CUstream stream;

        CU(cuStreamCreate(&stream, flags));
        return stream;
}

static int wait_s = WAIT_S;

static time_t deadline(void)
{
        return time(NULL) + wait_s;
}

/* Asks until the answer is another one than "not ready". */
static CUresult event_end(CUevent event)
{
        const time_t end = deadline();
        CUresult result;

        while ((result = cuEventQuery(event)) == CUDA_ERROR_NOT_READY)
                CHECK(time(NULL) < end, "an event is never ready");
        return result;
}

static CUresult stream_end(CUstream stream)
{
        const time_t end = deadline();
        CUresult result;

        while ((result = cuStreamQuery(stream)) == CUDA_ERROR_NOT_READY)
                CHECK(time(NULL) < end, "a stream is never ready");
        return result;
}

static void event_pends(CUevent event)
{
        for (int i = 0; i < ASKED; i++)
                CU_EXPECT(CUDA_ERROR_NOT_READY, cuEventQuery(event));
}

static void stream_pends(CUstream stream)
{
        for (int i = 0; i < ASKED; i++)
                CU_EXPECT(CUDA_ERROR_NOT_READY, cuStreamQuery(stream));
}

/* ---- one after the other ---- */

static void from_pending_to_done(CUstream stream)
{
        struct gate gate = gate_make();
        CUdeviceptr device;
        volatile uint32_t *word = test_pinned_word(&device);
        CUevent event = event_make();

        for (uint32_t round = 1; round <= 10; round++) {
                gate_close(&gate, stream);
                launch_increment(stream, device);
                CU(cuEventRecord(event, stream));
                event_pends(event);
                stream_pends(stream);
                CHECK(*word == round - 1, "%u in round %u: the gate held nothing back", *word, round);
                gate_open(&gate);
                if (round % 2) {
                        CU(event_end(event));
                        CHECK(*word == round, "event: %u in round %u", *word, round);
                        CU(stream_end(stream));
                } else {
                        CU(stream_end(stream));
                        CHECK(*word == round, "stream: %u in round %u", *word, round);
                        CU(cuEventQuery(event));
                }
                for (int i = 0; i < ASKED; i++) {
                        CU(cuEventQuery(event));
                        CU(cuStreamQuery(stream));
                }
        }
        CU(cuEventDestroy_v2(event));
        pinned_free(word);
        gate_end(&gate);
}

/* The answers to `ASKED` questions after the first one come without the host, but for a few. */
static void pending_is_asked_for_seldom(CUstream stream)
{
        struct gate gate = gate_make();
        CUevent event = event_make();
        uint64_t before, sent;

        gate_close(&gate, stream);
        CU(cuEventRecord(event, stream));
        before = management != NULL ? management->records() : 0;
        event_pends(event);
        sent = management != NULL ? management->records() - before : 0;
        CHECK(sent <= ASKED / 2, "%d questions to an event sent %" PRIu64 " records", ASKED, sent);
        before = management != NULL ? management->records() : 0;
        stream_pends(stream);
        sent = management != NULL ? management->records() - before : 0;
        CHECK(sent <= ASKED / 2, "%d questions to a stream sent %" PRIu64 " records", ASKED, sent);
        gate_open(&gate);
        CU(event_end(event));
        CU(cuEventDestroy_v2(event));
        gate_end(&gate);
}

/* The end of an earlier record is not that of the event's latest one, and what was found done begins anew. */
static void recorded_again(void)
{
        struct gate first = gate_make(), second = gate_make();
        CUstream a = stream_make(CU_STREAM_NON_BLOCKING), b = stream_make(CU_STREAM_NON_BLOCKING);
        CUevent event = event_make();

        for (int round = 0; round < 20; round++) {
                gate_close(&first, a);
                CU(cuEventRecord(event, a));
                for (int i = 0; i < FEW; i++)
                        CU_EXPECT(CUDA_ERROR_NOT_READY, cuEventQuery(event));
                gate_close(&second, b);
                CU(cuEventRecord(event, b));
                gate_open(&first);
                CU(stream_end(a));
                event_pends(event);
                gate_open(&second);
                CU(event_end(event));
        }
        gate_close(&first, a);
        CU(cuEventRecord(event, a));
        event_pends(event);
        gate_open(&first);
        CU(cuEventSynchronize(event));
        CU(cuEventQuery(event));
        CU(cuEventDestroy_v2(event));
        CU(cuStreamDestroy_v2(a));
        CU(cuStreamDestroy_v2(b));
        gate_end(&first);
        gate_end(&second);
}

/* More in a stream after the question does not make it done, nor does the question's own word. */
static void more_in_the_stream(CUstream stream)
{
        struct gate first = gate_make(), second = gate_make();
        CUevent between = event_make();

        gate_close(&first, stream);
        for (int i = 0; i < FEW; i++)
                CU_EXPECT(CUDA_ERROR_NOT_READY, cuStreamQuery(stream));
        CU(cuEventRecord(between, stream));
        gate_close(&second, stream);
        gate_open(&first);
        CU(event_end(between));
        stream_pends(stream);
        CU(cuEventSynchronize(between)); /* with more behind it */
        gate_open(&second);
        CU(stream_end(stream));
        /* Not asked for before it is waited for. */
        CU(cuEventRecord(between, stream));
        gate_close(&second, stream);
        CU(cuEventSynchronize(between));
        CU(cuEventQuery(between));
        CU_EXPECT(CUDA_ERROR_NOT_READY, cuStreamQuery(stream));
        gate_open(&second);
        CU(cuStreamSynchronize(stream));
        CU(cuStreamQuery(stream));
        CU(cuEventDestroy_v2(between));
        gate_end(&first);
        gate_end(&second);
}

/* ---- many ---- */

/* What is asked of a held stream holds back no other one: neither streams of before nor later ones. */
static void free_streams_go_on(int count, CUdeviceptr device, volatile const uint32_t *word)
{
        CUstream streams[FREE_MAX];
        const uint32_t before = *word;

        for (int i = 0; i < count; i++) {
                streams[i] = stream_make(CU_STREAM_NON_BLOCKING);
                launch_increment(streams[i], device);
                CU(stream_end(streams[i]));
                CHECK(*word == before + (uint32_t)i + 1, "stream %d: %u, after %u", i, *word, before);
        }
        for (int i = 0; i < count; i++)
                CU(cuStreamDestroy_v2(streams[i]));
}

/* Nobody stands behind somebody who is held, however many are. */
static void held_beside_free(int free_streams)
{
        struct gate gate = gate_make();
        CUstream held = stream_make(CU_STREAM_NON_BLOCKING), free_one = stream_make(CU_STREAM_NON_BLOCKING);
        CUdeviceptr device;
        volatile uint32_t *word = test_pinned_word(&device);
        CUevent events[EVENTS], other = event_make();
        uint32_t sent = 0;

        gate_close(&gate, held);
        for (int i = 0; i < EVENTS; i++) {
                events[i] = event_make();
                CU(cuEventRecord(events[i], held));
                for (int k = 0; k < FEW; k++)
                        CU_EXPECT(CUDA_ERROR_NOT_READY, cuEventQuery(events[i]));
                launch_increment(free_one, device);
                CU(cuEventRecord(other, free_one));
                CU(event_end(other));
                CHECK(*word == ++sent, "%u of %u", *word, sent);
                CU(stream_end(free_one));
        }
        for (int i = 0; i < EVENTS; i++)
                event_pends(events[i]);
        free_streams_go_on(free_streams, device, word);
        gate_open(&gate);
        for (int i = 0; i < EVENTS; i++) {
                CU(event_end(events[i]));
                CU(cuEventDestroy_v2(events[i]));
        }
        CU(cuEventDestroy_v2(other));
        CU(cuStreamDestroy_v2(held));
        CU(cuStreamDestroy_v2(free_one));
        pinned_free(word);
        gate_end(&gate);
}

/* Events and streams that end while somebody has asked for them leave nothing behind. */
static void destroyed_while_pending(void)
{
        struct gate gate = gate_make();
        CUstream stream = stream_make(CU_STREAM_NON_BLOCKING);

        for (int round = 0; round < 3; round++) {
                gate_close(&gate, stream);
                for (int i = 0; i < EVENTS; i++) {
                        CUevent event = event_make();

                        CU(cuEventRecord(event, stream));
                        for (int k = 0; k < FEW; k++)
                                CU_EXPECT(CUDA_ERROR_NOT_READY, cuEventQuery(event));
                        CU(cuEventDestroy_v2(event));
                }
                for (int i = 0; i < 3; i++) {
                        CUstream other = stream_make(CU_STREAM_NON_BLOCKING);
                        CUevent event = event_make();

                        CU(cuEventRecord(event, stream));
                        CU(cuStreamWaitEvent(other, event, 0));
                        for (int k = 0; k < FEW; k++)
                                CU_EXPECT(CUDA_ERROR_NOT_READY, cuStreamQuery(other));
                        CU(cuStreamDestroy_v2(other));
                        CU(cuEventDestroy_v2(event));
                }
                gate_open(&gate);
                CU(cuStreamSynchronize(stream));
        }
        pending_is_asked_for_seldom(stream);
        CU(cuStreamDestroy_v2(stream));
        gate_end(&gate);
}

/* ---- what the program knows by other ways ---- */

static void note(void *data)
{
        atomic_store((_Atomic(uint32_t) *)data, 1);
}

/* A question after a wait finds done what was waited for, also where it was asked for while it was under way. */
static void known_by_waiting(CUstream stream)
{
        CUdeviceptr device;
        volatile uint32_t *word = test_pinned_word(&device);
        CUevent event = event_make(), behind = event_make();
        _Atomic(uint32_t) called;
        uint32_t value;

        for (uint32_t round = 1; round <= SYNCED; round++) {
                launch_increment(stream, device);
                CU(cuEventRecord(event, stream));
                for (uint32_t i = 0; i < round % (2 * FEW); i++) {
                        (void)cuEventQuery(event);
                        (void)cuStreamQuery(stream);
                }
                switch (round % 5) {
                case 0:
                        CU(cuStreamSynchronize(stream));
                        CU(cuStreamQuery(stream));
                        break;
                case 1:
                        CU(cuCtxSynchronize());
                        CU(cuStreamQuery(stream));
                        break;
                case 2:
                        CU(cuEventRecord(behind, stream));
                        CU(cuEventSynchronize(behind));
                        break;
                case 3:
                        CU(cuMemcpyDtoHAsync_v2(&value, device, 4, stream));
                        CU(cuStreamSynchronize(stream));
                        CHECK(value == round, "%u copied in round %u", value, round);
                        break;
                default:
                        atomic_store(&called, 0);
                        CU(cuLaunchHostFunc(stream, note, &called));
                        while (!atomic_load(&called))
                                sched_yield();
                        break;
                }
                CU(cuEventQuery(event));
                CHECK(*word == round, "%u in round %u", *word, round);
        }
        CU(cuStreamSynchronize(stream));
        CU(cuEventDestroy_v2(event));
        CU(cuEventDestroy_v2(behind));
        pinned_free(word);
}

/* A graph records an event at each launch: that it was done before says nothing. */
static void recorded_by_a_graph(void)
{
        struct gate gate = gate_make();
        CUstream stream = stream_make(CU_STREAM_NON_BLOCKING);
        CUevent event = event_make();
        CUgraph graph;
        CUgraphNode node;
        CUgraphExec exec;

        CU(cuEventRecord(event, stream));
        CU(event_end(event));
        CU(cuGraphCreate(&graph, 0));
        CU(cuGraphAddEventRecordNode(&node, graph, NULL, 0, event));
        CU(cuGraphInstantiateWithFlags(&exec, graph, 0));
        for (int round = 0; round < 3; round++) {
                gate_close(&gate, stream);
                CU(cuGraphLaunch(exec, stream));
                event_pends(event);
                gate_open(&gate);
                CU(event_end(event));
                CU(cuEventQuery(event));
        }
        CU(cuStreamSynchronize(stream));
        CU(cuGraphExecDestroy(exec));
        CU(cuGraphDestroy(graph));
        CU(cuEventDestroy_v2(event));
        CU(cuStreamDestroy_v2(stream));
        gate_end(&gate);
}

/* ---- several threads ---- */

/* One sends and tells how far it is; the others ask, and what they find done has happened. */
static struct {
        CUstream stream;
        CUevent event;
        CUdeviceptr device;
        volatile uint32_t *word;
        _Atomic(uint32_t) sent, over;
} shared;

static void *ask(void *argument)
{
        const uint32_t number = (uint32_t)(uintptr_t)argument;
        uint32_t asked = 0;

        CU(cuCtxSetCurrent(context));
        while (!atomic_load(&shared.over)) {
                const uint32_t sent = atomic_load(&shared.sent);
                const CUresult result =
                        (number + asked++) % 2 ? cuEventQuery(shared.event) : cuStreamQuery(shared.stream);

                CHECK(result == CUDA_SUCCESS || result == CUDA_ERROR_NOT_READY, "%d", (int)result);
                CHECK(result != CUDA_SUCCESS || *shared.word >= sent, "done, but %u of %u", *shared.word, sent);
        }
        return NULL;
}

static void asked_by_threads(void)
{
        pthread_t threads[ASKERS];

        shared.stream = stream_make(CU_STREAM_NON_BLOCKING);
        shared.event = event_make();
        shared.word = test_pinned_word(&shared.device);
        CU(cuEventRecord(shared.event, shared.stream));
        for (uintptr_t i = 0; i < ASKERS; i++)
                CHECK(pthread_create(&threads[i], NULL, ask, (void *)i) == 0, "thread");
        for (uint32_t round = 1; round <= ROUNDS; round++) {
                launch_increment(shared.stream, shared.device);
                CU(cuEventRecord(shared.event, shared.stream));
                atomic_store(&shared.sent, round);
                if (round % 16 == 0)
                        CU(event_end(shared.event));
                else if (round % 4 == 0)
                        CU(cuEventSynchronize(shared.event));
        }
        atomic_store(&shared.over, 1);
        for (int i = 0; i < ASKERS; i++)
                CHECK(pthread_join(threads[i], NULL) == 0, "join");
        CU(cuStreamSynchronize(shared.stream));
        CU(cuEventDestroy_v2(shared.event));
        CU(cuStreamDestroy_v2(shared.stream));
        pinned_free(shared.word);
}

/* ---- the context ---- */

static void *open_later(void *argument)
{
        const struct timespec pause = {.tv_nsec = 30000000};

        nanosleep(&pause, NULL);
        gate_open(argument);
        return NULL;
}

/* It waits for all streams, held or not, and for those that have been destroyed with work in them. */
static void context_waits_for_all(void)
{
        enum { STREAMS = 3 };
        struct gate gate = gate_make();
        CUstream streams[STREAMS];
        CUdeviceptr device;
        volatile uint32_t *words = test_pinned_word(&device);
        pthread_t thread;

        for (int i = 0; i < STREAMS; i++)
                streams[i] = stream_make(CU_STREAM_NON_BLOCKING);
        for (uint32_t round = 1; round <= 6; round++) {
                gate_close(&gate, streams[round % STREAMS]);
                for (uint32_t i = 0; i < STREAMS; i++)
                        launch_increment(streams[i], device + 4 * i);
                CU_EXPECT(CUDA_ERROR_NOT_READY, cuStreamQuery(streams[round % STREAMS]));
                if (round == 6) /* the held one */
                        CU(cuStreamDestroy_v2(streams[0]));
                CHECK(pthread_create(&thread, NULL, open_later, &gate) == 0, "thread");
                CU(cuCtxSynchronize());
                for (uint32_t i = 0; i < STREAMS; i++)
                        CHECK(words[i] == round, "stream %u: %u in round %u", i, words[i], round);
                CHECK(pthread_join(thread, NULL) == 0, "join");
        }
        CU(cuStreamDestroy_v2(streams[1]));
        CU(cuStreamDestroy_v2(streams[2]));
        pinned_free(words);
        gate_end(&gate);
}

/* Last, as it breaks the context: who asks for what will never be done is told why, whichever stream broke. */
static void a_fault_is_told(void)
{
        CUdeviceptr nowhere = 0x10;
        CUfunction fault = test_function(module, "write_out_of_bounds");
        struct gate gate = gate_make(), held = gate_make();
        CUstream breaks = stream_make(CU_STREAM_NON_BLOCKING), beside = stream_make(CU_STREAM_NON_BLOCKING);
        CUevent event = event_make(), other = event_make();
        void *parameters[] = {&nowhere};
        CUresult first;

        gate_close(&held, beside);
        CU(cuEventRecord(other, beside));
        gate_close(&gate, breaks);
        CU(cuLaunchKernel(fault, 1, 1, 1, 1, 1, 1, 0, breaks, parameters, NULL));
        CU(cuEventRecord(event, breaks));
        event_pends(event);
        stream_pends(breaks);
        event_pends(other);
        gate_open(&gate);
        first = event_end(event);
        CHECK(first == CUDA_ERROR_ILLEGAL_ADDRESS || first == CUDA_ERROR_LAUNCH_FAILED, "%d", (int)first);
        CU_EXPECT(first, event_end(other));
        CU_EXPECT(first, stream_end(breaks));
        CU_EXPECT(first, cuEventQuery(event));
        gate_open(&held);
}

/* argv[1]: so many streams beside a held one, and no other test. Not all of them go on natively either: some may share
 * a queue of the device with the held one. */
int main(int argc, char **argv)
{
        const int free_streams = argc > 1 ? atoi(argv[1]) : FREE;

        CUstream blocking, independent;
        const void *table = NULL;
        CUuuid uuid;

        context = test_context();
        module = test_module();
        increment = test_function(module, "increment");
        memcpy(&uuid, ivg_management_uuid, sizeof uuid);
        if (cuGetExportTable(&table, &uuid) == CUDA_SUCCESS)
                management = table;
        CHECK(free_streams >= 0 && free_streams <= FREE_MAX, "%d streams", free_streams);
        if (argc > 1) {
                wait_s = 3;
                held_beside_free(free_streams);
                printf("pending: %d streams beside a held one went on\n", free_streams);
                return 0;
        }
        blocking = stream_make(CU_STREAM_DEFAULT);
        independent = stream_make(CU_STREAM_NON_BLOCKING);
        from_pending_to_done(independent);
        from_pending_to_done(blocking);
        from_pending_to_done(NULL);
        from_pending_to_done(CU_STREAM_PER_THREAD);
        pending_is_asked_for_seldom(independent);
        recorded_again();
        more_in_the_stream(independent);
        more_in_the_stream(CU_STREAM_PER_THREAD);
        held_beside_free(free_streams);
        destroyed_while_pending();
        known_by_waiting(independent);
        known_by_waiting(NULL);
        recorded_by_a_graph();
        asked_by_threads();
        context_waits_for_all();
        CU(cuStreamDestroy_v2(blocking));
        CU(cuStreamDestroy_v2(independent));
        a_fault_is_told();
        puts("pending: right");
        return 0;
}
