/* Contexts with streams that do not wait for the legacy one: their synchronization waits for what each was given, in
 * whatever way, also by other threads, while others wait too, and where the stream has ended meanwhile. Afterwards
 * every stream and event of the context is done. Gates, words that streams wait for, hold work back for as long as a
 * test likes; pinned memory shows what has happened. */
#include "check.h"
#include "management.h"
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>

enum {
        STREAMS_MAX = 40, /* more than a synchronization waits for by words */
        ROUNDS = 100,     /* of threads */
        THREADS = 3,
        SHORT_US = 3000, /* nobody can see that a thread waits, but after this it does as a rule */
        LONG_US = 60000  /* longer than anybody looks at a word */
};

static CUcontext context;
static CUfunction increment;
static const struct ivg_management *management; /* NULL: another driver */

struct line { /* a stream and the word that its kernels count in */
        CUstream stream;
        CUevent event;
        CUdeviceptr device;
        volatile uint32_t *word;
        uint32_t sent;
};

static struct line line_begin(unsigned int flags)
{
        struct line line = {.sent = 0};

        CU(cuStreamCreate(&line.stream, flags));
        CU(cuEventCreate(&line.event, CU_EVENT_DISABLE_TIMING));
        line.word = test_pinned_word(&line.device);
        return line;
}

static void line_end(const struct line *line)
{
        CU(cuEventDestroy_v2(line->event));
        CU(cuStreamDestroy_v2(line->stream));
        CU(cuMemFreeHost((void *)(uintptr_t)line->word));
}

static void line_send(struct line *line)
{
        void *parameters[] = {&line->device};

        CU(cuLaunchKernel(increment, 1, 1, 1, 1, 1, 1, 0, line->stream, parameters, NULL));
        CU(cuEventRecord(line->event, line->stream));
        line->sent++;
}

static void line_is_done(const struct line *line)
{
        CHECK(*line->word == line->sent, "%u of %u", *line->word, line->sent);
        CU(cuStreamQuery(line->stream));
        CU(cuEventQuery(line->event));
}

/* ---- gates ---- */

struct gate {
        _Atomic(uint32_t) *word;
        CUdeviceptr device;
        uint32_t after_us;
        pthread_t opener;
};

static struct gate gate_begin(void)
{
        struct gate gate = {.after_us = 0};

        gate.word = (void *)(uintptr_t)test_pinned_word(&gate.device);
        return gate;
}

static void gate_hold(const struct gate *gate, CUstream stream)
{
        CU(cuStreamWaitValue32_v2(stream, gate->device, 1, CU_STREAM_WAIT_VALUE_GEQ));
}

static void *gate_opens(void *argument)
{
        struct gate *gate = argument;

        usleep(gate->after_us);
        atomic_store(gate->word, 1);
        return NULL;
}

static void gate_open_after(struct gate *gate, uint32_t us)
{
        gate->after_us = us;
        CHECK(pthread_create(&gate->opener, NULL, gate_opens, gate) == 0, "thread");
}

static void gate_end(struct gate *gate)
{
        CHECK(pthread_join(gate->opener, NULL) == 0, "join");
        CU(cuMemFreeHost((void *)gate->word));
}

/* ---- one thread ---- */

static void several_streams(uint32_t count, uint32_t held_us)
{
        struct line lines[STREAMS_MAX];

        for (uint32_t i = 0; i < count; i++)
                lines[i] = line_begin(i % 5 == 4 ? CU_STREAM_DEFAULT : CU_STREAM_NON_BLOCKING);
        for (uint32_t round = 0; round < 5; round++) {
                struct gate gate = gate_begin();

                gate_hold(&gate, lines[round % count].stream);
                for (uint32_t i = 0; i < count; i++)
                        if (i % (round + 1) == 0) /* in some rounds some are given nothing */
                                line_send(&lines[i]);
                gate_open_after(&gate, held_us);
                CU(cuCtxSynchronize());
                CHECK(atomic_load(gate.word) == 1, "a held stream was not waited for");
                for (uint32_t i = 0; i < count; i++)
                        line_is_done(&lines[i]);
                CU(cuStreamQuery(NULL));
                gate_end(&gate);
        }
        for (uint32_t i = 0; i < count; i++)
                line_end(&lines[i]);
}

/* Its work goes on without it, and belongs to the context still. */
static void a_stream_that_has_ended(unsigned int flags)
{
        struct line line = line_begin(flags);
        struct gate gate = gate_begin();

        gate_hold(&gate, line.stream);
        line_send(&line);
        gate_open_after(&gate, SHORT_US);
        CU(cuStreamDestroy_v2(line.stream));
        CU(cuCtxSynchronize());
        CHECK(*line.word == 1, "the work of a stream that has ended was not waited for");
        CU(cuEventDestroy_v2(line.event));
        CU(cuMemFreeHost((void *)(uintptr_t)line.word));
        gate_end(&gate);
}

static void add_one(void *argument)
{
        ++*(uint32_t *)argument;
}

static CUgraphExec graph_of(CUstream stream, CUdeviceptr counter)
{
        void *parameters[] = {&counter};
        CUgraphExec exec;
        CUgraph graph;

        CU(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
        CU(cuLaunchKernel(increment, 1, 1, 1, 1, 1, 1, 0, stream, parameters, NULL));
        CU(cuStreamEndCapture(stream, &graph));
        CU(cuGraphInstantiateWithFlags(&exec, graph, 0));
        CU(cuGraphDestroy(graph));
        return exec;
}

/* Whatever is given to a stream behind a gate is waited for. */
static void every_kind_of_work(void)
{
        enum { LAUNCH, SET, COPY_UP, COPY_UP_PAGED, COPY_DOWN, COPY_ON_DEVICE, WAIT, GRAPH, FUNCTION, WRITE, KINDS };
        struct line line = line_begin(CU_STREAM_NON_BLOCKING), other = line_begin(CU_STREAM_DEFAULT);
        CUgraphExec graph = graph_of(line.stream, line.device + 64);
        volatile uint32_t *words = line.word;
        uint32_t paged = 7, functions = 0;
        CUdeviceptr memory;

        CU(cuMemAlloc_v2(&memory, 64));
        CU(cuMemsetD32_v2(memory, 5, 8));
        for (int kind = 0; kind < KINDS; kind++) {
                struct gate gate = gate_begin();
                void *parameters[] = {&line.device};

                words[0] = words[16] = 0;
                CU(cuMemsetD32_v2(memory + 32, 0, 8));
                CU(cuCtxSynchronize());
                gate_hold(&gate, kind == WAIT ? other.stream : line.stream);
                gate_open_after(&gate, SHORT_US); /* not later: a copy might wait for it */
                /* Of the gated stream alone is this the last that it is given. */
                switch (kind) {
                case LAUNCH:
                        CU(cuLaunchKernel(increment, 1, 1, 1, 1, 1, 1, 0, line.stream, parameters, NULL));
                        break;
                case SET:
                        CU(cuMemsetD32Async(line.device, 1, 1, line.stream));
                        break;
                case COPY_UP:
                        words[8] = 1;
                        CU(cuMemcpyHtoDAsync_v2(memory + 32, (const void *)(uintptr_t)(words + 8), 4, line.stream));
                        break;
                case COPY_UP_PAGED:
                        CU(cuMemcpyHtoDAsync_v2(memory + 32, &paged, 4, line.stream));
                        break;
                case COPY_DOWN:
                        CU(cuMemcpyDtoHAsync_v2((void *)(uintptr_t)words, memory, 4, line.stream));
                        break;
                case COPY_ON_DEVICE:
                        CU(cuMemcpyDtoDAsync_v2(memory + 32, memory, 4, line.stream));
                        break;
                case WAIT:
                        line_send(&other);
                        CU(cuStreamWaitEvent(line.stream, other.event, 0));
                        break;
                case GRAPH:
                        CU(cuGraphLaunch(graph, line.stream));
                        break;
                case FUNCTION:
                        CU(cuLaunchHostFunc(line.stream, add_one, &functions));
                        break;
                case WRITE:
                        CU(cuStreamWriteValue32_v2(line.stream, line.device, 1, 0));
                        break;
                }
                CU(cuCtxSynchronize());
                CHECK(atomic_load(gate.word) == 1, "work of kind %d was not waited for", kind);
                if (kind == COPY_UP || kind == COPY_UP_PAGED || kind == COPY_ON_DEVICE)
                        CU(cuMemcpyDtoH_v2((void *)(uintptr_t)words, memory + 32, 4));
                CHECK(kind == WAIT       ? *other.word == other.sent
                      : kind == FUNCTION ? functions == 1
                      : kind == GRAPH    ? words[16] == 1
                                         : words[0] != 0,
                      "work of kind %d has not happened", kind);
                CU(cuStreamQuery(line.stream));
                gate_end(&gate);
        }
        CU(cuGraphExecDestroy(graph));
        CU(cuMemFree_v2(memory));
        line_end(&line);
        line_end(&other);
}

/* A context that has been synchronized says nothing of another one's streams. */
static void two_contexts(void)
{
        struct line line;
        struct gate gate;
        CUcontext other;
        CUdevice device;
        CUmodule module;
        CUfunction here = increment;

        CU(cuCtxGetDevice(&device));
        CU(cuCtxCreate_v2(&other, 0, device));
        module = test_module();
        increment = test_function(module, "increment");
        line = line_begin(CU_STREAM_NON_BLOCKING);
        gate = gate_begin();
        gate_hold(&gate, line.stream);
        line_send(&line);
        CU(cuCtxSetCurrent(context));
        CU(cuCtxSynchronize());
        CU_EXPECT(CUDA_ERROR_NOT_READY, cuStreamQuery(line.stream));
        gate_open_after(&gate, SHORT_US);
        CU(cuStreamSynchronize(line.stream));
        CHECK(*line.word == 1, "another context's stream was not waited for");
        CU(cuCtxSetCurrent(other));
        gate_end(&gate);
        line_end(&line);
        CU(cuCtxDestroy_v2(other));
        CU(cuCtxSetCurrent(context));
        increment = here;
}

/* Waiting for streams that are done soon asks no driver. */
static void without_trips(void)
{
        struct line lines[4];
        uint64_t before, waits;

        for (uint32_t i = 0; i < 4; i++)
                lines[i] = line_begin(CU_STREAM_NON_BLOCKING);
        for (uint32_t i = 0; i < 4; i++)
                line_send(&lines[i]);
        CU(cuCtxSynchronize()); /* streams of earlier tests have ended */
        before = management != NULL ? management->waits() : 0;
        for (uint32_t round = 0; round < ROUNDS; round++) {
                for (uint32_t i = 0; i < round % 5; i++)
                        line_send(&lines[i % 4]);
                CU(cuCtxSynchronize());
                for (uint32_t i = 0; i < 4; i++)
                        line_is_done(&lines[i]);
        }
        waits = management != NULL ? management->waits() - before : 0;
        if (management != NULL) { /* and where nothing was given, nobody */
                CU(cuEventDestroy_v2(lines[0].event));
                CU(cuEventCreate(&lines[0].event, CU_EVENT_DISABLE_TIMING));
                const uint64_t records = management->records();
                CU(cuCtxSynchronize());
                CHECK(management->records() == records, "a context with nothing to do was asked for");
        }
        /* On a busy machine a word may take longer than anybody looks at it. */
        CHECK(management == NULL || waits < ROUNDS * 4 / 5, "each of %d rounds with work was a trip", ROUNDS * 4 / 5);
        for (uint32_t i = 0; i < 4; i++)
                line_end(&lines[i]);
}

/* ---- several threads ---- */

static struct line shared;

static void *wait_for_shared(void *argument)
{
        (void)argument;
        CU(cuCtxSetCurrent(context));
        CU(cuCtxSynchronize());
        line_is_done(&shared);
        return NULL;
}

/* Another thread waits for the same work already, and no word of it has come. */
static void threads_that_wait_for_one(uint32_t held_us)
{
        pthread_t threads[THREADS];
        struct gate gate;

        shared = line_begin(CU_STREAM_NON_BLOCKING);
        for (int round = 0; round < 3; round++) {
                gate = gate_begin();
                gate_hold(&gate, shared.stream);
                line_send(&shared);
                for (int i = 0; i < THREADS; i++) {
                        CHECK(pthread_create(&threads[i], NULL, wait_for_shared, NULL) == 0, "thread");
                        usleep(SHORT_US);
                }
                gate_open_after(&gate, held_us);
                for (int i = 0; i < THREADS; i++)
                        CHECK(pthread_join(threads[i], NULL) == 0, "join");
                gate_end(&gate);
        }
        line_end(&shared);
}

static void *wait_for_context(void *argument)
{
        CU(cuCtxSetCurrent(context));
        CU(cuCtxSynchronize());
        return argument;
}

/* Who waits for a context holds back no stream that another thread gives something meanwhile. */
static void others_go_on(unsigned int flags)
{
        struct line held = line_begin(flags), other = line_begin(CU_STREAM_DEFAULT);
        struct gate gate = gate_begin();
        pthread_t waiter;

        CU(cuCtxSynchronize());
        gate_hold(&gate, held.stream);
        line_send(&held);
        CHECK(pthread_create(&waiter, NULL, wait_for_context, NULL) == 0, "thread");
        for (int round = 0; round < 20; round++) {
                usleep(SHORT_US);
                line_send(&other);
                CU(cuStreamSynchronize(other.stream));
                line_is_done(&other);
        }
        gate_open_after(&gate, 0);
        CHECK(pthread_join(waiter, NULL) == 0, "join");
        line_is_done(&held);
        gate_end(&gate);
        line_end(&held);
        line_end(&other);
}

/* One thread sends to streams that come and go, and tells how far it is; the others wait for that. */
static struct {
        CUdeviceptr device;
        volatile uint32_t *word;
        _Atomic(uint32_t) sent, over;
} told;

static void *send_and_tell(void *argument)
{
        CUstream stream = NULL;
        void *parameters[] = {&told.device};

        (void)argument;
        CU(cuCtxSetCurrent(context));
        for (uint32_t i = 1; i <= 5 * ROUNDS; i++) {
                if (stream == NULL)
                        CU(cuStreamCreate(&stream, i % 3 ? CU_STREAM_NON_BLOCKING : CU_STREAM_DEFAULT));
                CU(cuLaunchKernel(increment, 1, 1, 1, 1, 1, 1, 0, stream, parameters, NULL));
                atomic_store(&told.sent, i);
                if (i % 10 == 0) { /* one stream's work at a time: the kernels count in one word */
                        CU(i % 20 ? cuStreamSynchronize(stream) : cuCtxSynchronize());
                        CU(cuStreamDestroy_v2(stream));
                        stream = NULL;
                }
        }
        atomic_store(&told.over, 1);
        return NULL;
}

static void *wait_for_told(void *argument)
{
        struct line line;
        uint32_t round = 0;

        (void)argument;
        CU(cuCtxSetCurrent(context));
        line = line_begin(CU_STREAM_NON_BLOCKING);
        do {
                const uint32_t sent = atomic_load(&told.sent);

                if (round++ % 2)
                        line_send(&line);
                CU(cuCtxSynchronize());
                CHECK(*told.word >= sent, "%u of %u", *told.word, sent);
                line_is_done(&line);
        } while (!atomic_load(&told.over));
        line_end(&line);
        return NULL;
}

static void threads_that_send_and_wait(void)
{
        pthread_t sender, waiters[THREADS];

        told.word = test_pinned_word(&told.device);
        CHECK(pthread_create(&sender, NULL, send_and_tell, NULL) == 0, "thread");
        for (int i = 0; i < THREADS; i++)
                CHECK(pthread_create(&waiters[i], NULL, wait_for_told, NULL) == 0, "thread");
        CHECK(pthread_join(sender, NULL) == 0, "join");
        for (int i = 0; i < THREADS; i++)
                CHECK(pthread_join(waiters[i], NULL) == 0, "join");
        CHECK(*told.word == 5 * ROUNDS, "%u", *told.word);
        CU(cuMemFreeHost((void *)(uintptr_t)told.word));
}

int main(void)
{
        const void *table = NULL;
        CUuuid uuid;

        context = test_context();
        increment = test_function(test_module(), "increment");
        memcpy(&uuid, ivg_management_uuid, sizeof uuid);
        if (cuGetExportTable(&table, &uuid) == CUDA_SUCCESS)
                management = table;
        several_streams(3, SHORT_US);
        several_streams(12, LONG_US);
        several_streams(STREAMS_MAX, SHORT_US);
        without_trips();
        a_stream_that_has_ended(CU_STREAM_NON_BLOCKING);
        a_stream_that_has_ended(CU_STREAM_DEFAULT);
        every_kind_of_work();
        two_contexts();
        others_go_on(CU_STREAM_NON_BLOCKING);
        others_go_on(CU_STREAM_DEFAULT);
        threads_that_wait_for_one(SHORT_US);
        threads_that_wait_for_one(LONG_US);
        threads_that_send_and_wait();
        puts("independent: right");
        return 0;
}
