/* Launches: what issuing one costs, how many a second get through, and how long until its end is known. */
#include "bench.h"
#include <pthread.h>
#include <stdio.h>

#define THREADS_MAX 8u
#define SUSTAINED_LAUNCHES 20000u
#define IDLE_MS 100u
#define GRAPH_KERNELS 20

/* ---- a graph of empty kernels in a row ---- */

/* At its first use: a driver without graphs can be measured for all else. */
static void need_graph(struct bench *bench)
{
        CUgraph graph;

        if (bench->graph)
                return;
        CU(cuStreamBeginCapture_v2(bench->stream, CU_STREAM_CAPTURE_MODE_RELAXED));
        for (uint32_t i = 0; i < GRAPH_KERNELS; i++)
                bench_launch(bench, 0, bench->stream);
        CU(cuStreamEndCapture(bench->stream, &graph));
        CU(cuGraphInstantiateWithFlags(&bench->graph, graph, 0));
        CU(cuGraphDestroy(graph));
}

/* ---- issue ---- */

static void launch_no_argument(struct bench *bench)
{
        bench_launch(bench, 0, bench->stream);
}

static void launch_1_argument(struct bench *bench)
{
        bench_launch(bench, 1, bench->stream);
}

static void launch_6_arguments(struct bench *bench)
{
        bench_launch(bench, 2, bench->stream);
}

static void launch_graph(struct bench *bench)
{
        need_graph(bench);
        CU(cuGraphLaunch(bench->graph, bench->stream));
}

static const struct bench_cost costs[] = {
        {"launch_issue_0", launch_no_argument, 256, true},
        {"launch_issue_1", launch_1_argument, 256, true},
        {"launch_issue_6", launch_6_arguments, 256, true},
        {"graph_launch_issue_20", launch_graph, 32, true},
};

/* ---- round trips ---- */

static void launch_stream_wait(struct bench *bench)
{
        bench_launch(bench, 2, bench->stream);
        CU(cuStreamSynchronize(bench->stream));
}

static void launch_context_wait(struct bench *bench)
{
        bench_launch(bench, 2, bench->stream);
        CU(cuCtxSynchronize());
}

static void launch_event_wait(struct bench *bench)
{
        bench_launch(bench, 2, bench->stream);
        CU(cuEventRecord(bench->event, bench->stream));
        CU(cuEventSynchronize(bench->event));
}

/* Not the stream's end, which another launch is behind. */
static void launch_middle_wait(struct bench *bench)
{
        bench_launch(bench, 2, bench->stream);
        CU(cuEventRecord(bench->event, bench->stream));
        bench_launch(bench, 2, bench->stream);
        CU(cuEventSynchronize(bench->event));
}

static void launch_event_poll(struct bench *bench)
{
        CUresult result;

        bench_launch(bench, 2, bench->stream);
        CU(cuEventRecord(bench->event, bench->stream));
        while ((result = cuEventQuery(bench->event)) == CUDA_ERROR_NOT_READY)
                continue;
        CU(result);
}

static void launch_stream_poll(struct bench *bench)
{
        CUresult result;

        bench_launch(bench, 2, bench->stream);
        while ((result = cuStreamQuery(bench->stream)) == CUDA_ERROR_NOT_READY)
                continue;
        CU(result);
}

static void graph_stream_wait(struct bench *bench)
{
        launch_graph(bench);
        CU(cuStreamSynchronize(bench->stream));
}

static const struct bench_trip trips[] = {
        {"launch_stream_sync", launch_stream_wait, 0},  {"launch_ctx_sync", launch_context_wait, 0},
        {"launch_event_sync", launch_event_wait, 0},    {"launch_event_sync_launch_behind", launch_middle_wait, 0},
        {"launch_event_query", launch_event_poll, 0},   {"launch_stream_query", launch_stream_poll, 0},
        {"graph_launch_sync_20", graph_stream_wait, 0}, {"launch_stream_sync_after_100ms", launch_stream_wait, IDLE_MS},
};

/* ---- throughput ---- */

struct launcher {
        const struct bench *bench;
        pthread_barrier_t *barrier;
        pthread_t thread;
        uint32_t launches;
        double start_ns, end_ns;
};

static void *launcher_main(void *argument)
{
        struct launcher *launcher = argument;
        CUstream stream;

        CU(cuCtxSetCurrent(launcher->bench->context));
        CU(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
        bench_launch(launcher->bench, 2, stream);
        CU(cuStreamSynchronize(stream));
        pthread_barrier_wait(launcher->barrier);
        launcher->start_ns = bench_now_ns();
        for (uint32_t i = 0; i < launcher->launches; i++)
                bench_launch(launcher->bench, 2, stream);
        CU(cuStreamSynchronize(stream));
        launcher->end_ns = bench_now_ns();
        CU(cuStreamDestroy_v2(stream));
        return NULL;
}

/* Nanoseconds from the first launch to the last kernel's end. */
static double run_launchers(const struct bench *bench, uint32_t threads, uint32_t launches)
{
        struct launcher launchers[THREADS_MAX];
        pthread_barrier_t barrier;
        double start_ns, end_ns;

        pthread_barrier_init(&barrier, NULL, threads);
        for (uint32_t i = 0; i < threads; i++) {
                launchers[i] = (struct launcher){.bench = bench, .barrier = &barrier, .launches = launches / threads};
                if (pthread_create(&launchers[i].thread, NULL, launcher_main, &launchers[i]) != 0)
                        bench_die("no thread");
        }
        for (uint32_t i = 0; i < threads; i++)
                pthread_join(launchers[i].thread, NULL);
        pthread_barrier_destroy(&barrier);
        start_ns = launchers[0].start_ns;
        end_ns = launchers[0].end_ns;
        for (uint32_t i = 1; i < threads; i++) {
                start_ns = launchers[i].start_ns < start_ns ? launchers[i].start_ns : start_ns;
                end_ns = launchers[i].end_ns > end_ns ? launchers[i].end_ns : end_ns;
        }
        return end_ns - start_ns;
}

static void measure_throughput(struct bench *bench)
{
        const uint32_t launches = bench->quick ? SUSTAINED_LAUNCHES / 20 : SUSTAINED_LAUNCHES;
        double passes[BENCH_PASSES_MAX];
        char name[64];

        for (uint32_t threads = 1; threads <= THREADS_MAX; threads *= 2) {
                snprintf(name, sizeof(name), "launch_sustained_%u_thread%s", threads, threads > 1 ? "s" : "");
                if (!bench_wants(bench, name))
                        continue;
                for (uint32_t pass = 0; pass < bench->passes; pass++)
                        passes[pass] = run_launchers(bench, threads, launches) / launches;
                figure_add(name, "ns", passes, bench->passes);
        }
}

void bench_launches(struct bench *bench)
{
        bench_measure_costs(bench, costs, sizeof(costs) / sizeof(costs[0]));
        bench_measure_trips(bench, trips, sizeof(trips) / sizeof(trips[0]));
        measure_throughput(bench);
        if (bench->graph)
                CU(cuGraphExecDestroy(bench->graph));
}
