/* Questions about what is under way: what each costs while the stream is held, and how long after the gate has opened a
 * program that keeps asking is told "done". The stream waits for a word of pinned memory, so that this time begins with
 * a store of the program's own. */
#include "bench.h"
#include <stdatomic.h>
#include <stdlib.h>

#define GATE_OFFSET 1024u /* in the bench's pinned memory */
#define QUESTIONS 20000u
#define QUESTIONS_QUICK 500u
#define OPENINGS 2000u
#define OPENINGS_QUICK 20u
#define QUESTIONS_BEFORE 100u /* to a held stream before its gate opens */

static _Atomic(uint32_t) *gate_word(const struct bench *bench)
{
        return (_Atomic(uint32_t) *)(void *)((char *)bench->pinned + GATE_OFFSET);
}

static CUresult ask_event(const struct bench *bench)
{
        return cuEventQuery(bench->event);
}

static CUresult ask_stream(const struct bench *bench)
{
        return cuStreamQuery(bench->stream);
}

/* From here on the stream is held until the word is `value`. */
static CUresult hold(const struct bench *bench, uint32_t value)
{
        CUdeviceptr word;
        CUresult result;

        CU(cuMemHostGetDevicePointer_v2(&word, bench->pinned, 0));
        result = cuStreamWaitValue32_v2(bench->stream, word + GATE_OFFSET, value, CU_STREAM_WAIT_VALUE_EQ);
        if (result == CUDA_SUCCESS) {
                bench_launch(bench, 2, bench->stream);
                CU(cuEventRecord(bench->event, bench->stream));
        }
        return result;
}

static void open_gate(const struct bench *bench, uint32_t value)
{
        atomic_store_explicit(gate_word(bench), value, memory_order_release);
}

static double cost_of_asking(const struct bench *bench, CUresult (*ask)(const struct bench *bench), uint32_t value)
{
        const uint32_t questions = bench->quick ? QUESTIONS_QUICK : QUESTIONS;
        double start, spent;

        CU(hold(bench, value));
        start = bench_now_ns();
        for (uint32_t i = 0; i < questions; i++)
                if (ask(bench) != CUDA_ERROR_NOT_READY)
                        bench_die("a held stream's work is not \"not ready\"");
        spent = bench_now_ns() - start;
        open_gate(bench, value);
        CU(cuStreamSynchronize(bench->stream));
        return spent / questions;
}

/* From the opening to the answer. */
static double time_to_done(const struct bench *bench, CUresult (*ask)(const struct bench *bench), uint32_t value)
{
        CUresult result;
        double start, end;

        CU(hold(bench, value));
        for (uint32_t i = 0; i < QUESTIONS_BEFORE; i++)
                (void)ask(bench);
        start = bench_now_ns();
        open_gate(bench, value);
        while ((result = ask(bench)) == CUDA_ERROR_NOT_READY)
                continue;
        end = bench_now_ns();
        CU(result);
        CU(cuStreamSynchronize(bench->stream));
        return end - start;
}

static const struct question {
        const char *cost, *time;
        CUresult (*ask)(const struct bench *bench);
} questions[] = {
        {"pending_event_query", "opened_event_query", ask_event},
        {"pending_stream_query", "opened_stream_query", ask_stream},
};

void bench_pending(struct bench *bench)
{
        static double openings_ns[OPENINGS];
        const uint32_t openings = bench->quick ? OPENINGS_QUICK : OPENINGS;
        double passes[BENCH_PASSES_MAX];
        uint32_t value = 0;
        CUresult can;

        atomic_store(gate_word(bench), 0);
        can = hold(bench, ++value);
        /* A driver of which nothing can be pending has no such figures. */
        if (can == CUDA_SUCCESS && ask_stream(bench) == CUDA_SUCCESS)
                can = CUDA_ERROR_NOT_SUPPORTED;
        open_gate(bench, value);
        CU(cuStreamSynchronize(bench->stream));
        for (size_t i = 0; i < sizeof(questions) / sizeof(questions[0]); i++) {
                if (bench_wants(bench, questions[i].cost)) {
                        for (uint32_t pass = 0; pass < bench->passes && can == CUDA_SUCCESS; pass++)
                                passes[pass] = cost_of_asking(bench, questions[i].ask, ++value);
                        if (can == CUDA_SUCCESS)
                                figure_add(questions[i].cost, "ns", passes, bench->passes);
                        else
                                figure_skip(questions[i].cost, "cuStreamWaitValue32", can);
                }
                if (!bench_wants(bench, questions[i].time) || can != CUDA_SUCCESS)
                        continue;
                for (uint32_t opening = 0; opening < openings; opening++)
                        openings_ns[opening] = time_to_done(bench, questions[i].ask, ++value);
                distribution_add(questions[i].time, openings_ns, openings);
        }
}
