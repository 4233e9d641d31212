/* One case: its runs, each with its own mapping and workers, and their median. */
#include "bench.h"
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MEMORY_BYTES (128u << 20) /* of one run; touched only where used */
#define FLOORS_RATIO_MAX 1.5      /* between the two of one run: beyond, the machine changed under it */
#define RUNS_PER_PASS_MAX 4u      /* rejected ones are repeated, not for ever */

/* ---- workers ---- */

struct worker_start {
        struct bench_run *run;
        uint32_t index;
        bool is_consumer;
};

static void work(const struct worker_start *start)
{
        struct bench_run *run = start->run;
        struct bench_worker *worker = aligned_alloc(128, (sizeof(*worker) + 127) / 128 * 128);
        uint8_t *payload = aligned_alloc(4096, BENCH_PAYLOAD_MAX);

        if (!worker || !payload)
                bench_die("out of memory");
        if (run->is.pinned)
                bench_pin(run->options.processors[start->is_consumer]);
        memset(worker, 0, sizeof(*worker));
        memset(payload, (int)start->index + 1, BENCH_PAYLOAD_MAX);
        worker->run = run;
        worker->index = start->index;
        worker->payload = payload;
        if (start->is_consumer)
                run->is.peer->consume(worker);
        else
                run->is.peer->produce(worker);
        free(payload);
        free(worker);
}

static void *work_as_thread(void *argument)
{
        work(argument);
        return NULL;
}

static void run_threads(struct worker_start *starts, uint32_t count)
{
        pthread_t threads[BENCH_PRODUCERS_MAX + 1];
        struct timespec deadline;

        for (uint32_t i = 0; i < count; i++)
                if (pthread_create(&threads[i], NULL, work_as_thread, &starts[i]) != 0)
                        bench_die("no thread for a worker");
        clock_gettime(CLOCK_REALTIME, &deadline);
        deadline.tv_sec += BENCH_RUN_SECONDS_MAX;
        for (uint32_t i = 0; i < count; i++)
                if (pthread_timedjoin_np(threads[i], NULL, &deadline) != 0)
                        bench_die("%s: a run did not end within %u s", starts[i].run->is.peer->name,
                                  BENCH_RUN_SECONDS_MAX);
}

static void kill_all(const pid_t *pids, uint32_t count)
{
        for (uint32_t i = 0; i < count; i++)
                if (pids[i] > 0)
                        kill(pids[i], SIGKILL);
}

/* The children end on SIGALRM by themselves, so waiting for them is bounded. */
static void run_processes(struct worker_start *starts, uint32_t count)
{
        const char *name = starts[0].run->is.peer->name;
        pid_t pids[BENCH_PRODUCERS_MAX + 1] = {0};
        bool failed = false;

        fflush(stdout);
        for (uint32_t i = 0; i < count; i++) {
                pids[i] = fork();
                if (pids[i] == 0) {
                        alarm(BENCH_RUN_SECONDS_MAX);
                        work(&starts[i]);
                        _exit(0);
                }
                if (pids[i] < 0) {
                        kill_all(pids, i);
                        bench_die("no process for a worker: %s", strerror(errno));
                }
        }
        for (uint32_t i = 0; i < count; i++) {
                int status = 0;
                const pid_t pid = waitpid(-1, &status, 0);

                for (uint32_t j = 0; j < count; j++)
                        if (pids[j] == pid)
                                pids[j] = 0;
                if (!failed && status != 0) {
                        failed = true;
                        kill_all(pids, count); /* who waits for it would wait for ever */
                }
        }
        if (failed)
                bench_die("%s: a process failed, or a run did not end within %u s", name, BENCH_RUN_SECONDS_MAX);
}

/* ---- one run ---- */

static void add_up(const struct bench_run *run, struct bench_figures *figures, struct ivg_histogram *rounds_ns)
{
        struct bench_shared *shared = run->shared;
        struct ivg_histogram *groups = calloc(1, sizeof(*groups)), *rounds = calloc(1, sizeof(*rounds));
        uint64_t sent = 0, start = UINT64_MAX, end = 0;

        if (!groups || !rounds)
                bench_die("out of memory");
        for (uint32_t i = 0; i < run->is.producers; i++) {
                const struct bench_producer_result *producer = &shared->producers[i];
                /* All workers have ended. */
                const uint64_t its_start = ivg_load_relaxed_u64(&producer->start_ticks);
                const uint64_t its_end = ivg_load_relaxed_u64(&producer->end_ticks);

                sent += ivg_load_relaxed_u64(&producer->sent);
                figures->doorbells += ivg_load_relaxed_u64(&producer->doorbells);
                start = its_start < start ? its_start : start;
                end = its_end > end ? its_end : end;
                ivg_histogram_merge(groups, &producer->groups_ns);
                ivg_histogram_merge(rounds, &producer->rounds_ns);
        }
        /* Slow cases have fewer than one group a producer. */
        figures->rtt_p50_ns = ivg_histogram_count(groups) >= 32 ? bench_group_percentile_ns(groups, 50)
                                                                : (double)ivg_histogram_percentile(rounds, 50);
        figures->rtt_p99_ns = (double)ivg_histogram_percentile(rounds, 99);
        figures->records_per_s = (double)sent * 1e9 / ((double)(end - start) * run->options.ns_per_tick);
        ivg_histogram_merge(rounds_ns, rounds);
        free(groups);
        free(rounds);
}

/* NULL or why the ring cannot run the case here. */
static const char *run_once(struct bench_run *run, struct bench_figures *figures, struct ivg_histogram *rounds_ns)
{
        struct worker_start starts[BENCH_PRODUCERS_MAX + 1];
        uint8_t *mapping =
                mmap(NULL, MEMORY_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        const uint32_t count = run->is.producers + (run->is.peer->consume != NULL);
        const char *failure;

        if (mapping == MAP_FAILED)
                bench_die("no memory for a run: %s", strerror(errno));
        *figures = (struct bench_figures){0};
        run->memory = mapping;
        run->memory_bytes = MEMORY_BYTES;
        run->shared = bench_memory(run, sizeof(*run->shared), 128);
        failure = run->is.peer->open(run);
        if (!failure) {
                for (uint32_t i = 0; i < count; i++)
                        starts[i] =
                                (struct worker_start){.run = run, .index = i, .is_consumer = i == run->is.producers};
                if (run->is.processes)
                        run_processes(starts, count);
                else
                        run_threads(starts, count);
                add_up(run, figures, rounds_ns);
                if (run->is.peer->close)
                        run->is.peer->close(run);
        }
        munmap(mapping, MEMORY_BYTES);
        return failure;
}

/* ---- the case ---- */

static double median_of(const struct bench_figures *runs, uint32_t count, size_t offset)
{
        double values[BENCH_PASSES_MAX];

        for (uint32_t i = 0; i < count; i++)
                memcpy(&values[i], (const uint8_t *)&runs[i] + offset, sizeof(double));
        qsort(values, count, sizeof(values[0]), bench_compare_double);
        return values[count / 2];
}

static bool is_steady(const struct bench_options *options, double before_ns, double after_ns)
{
        return before_ns >= options->floor_min_ns && after_ns >= options->floor_min_ns &&
               before_ns <= after_ns * FLOORS_RATIO_MAX && after_ns <= before_ns * FLOORS_RATIO_MAX;
}

void bench_measure(const struct bench_options *options, const struct bench_case *is, struct bench_case_result *result)
{
        struct bench_figures runs[BENCH_PASSES_MAX];
        struct bench_run run = {.is = *is, .options = *options};
        double before_ns;

        *result = (struct bench_case_result){.is = *is, .refusal = is->peer->refusal(is)};
        result->rounds_ns = calloc(1, sizeof(*result->rounds_ns));
        if (!result->rounds_ns)
                bench_die("out of memory");
        if (result->refusal)
                return;
        before_ns = options->floor_line_ns(options);
        for (uint32_t i = 0; i < options->passes * RUNS_PER_PASS_MAX && result->runs < options->passes; i++) {
                struct bench_figures *figures = &runs[result->runs];
                struct ivg_histogram *rounds_ns;
                double after_ns;

                rounds_ns = calloc(1, sizeof(*rounds_ns));
                if (!rounds_ns)
                        bench_die("out of memory");
                result->refusal = run_once(&run, figures, rounds_ns);
                if (result->refusal) {
                        free(rounds_ns);
                        return;
                }
                after_ns = options->floor_line_ns(options);
                figures->floor_rtt_p50_ns = (before_ns + after_ns) / 2;
                if (is_steady(options, before_ns, after_ns)) {
                        ivg_histogram_merge(result->rounds_ns, rounds_ns);
                        result->median.doorbells += figures->doorbells;
                        result->runs++;
                } else {
                        result->rejected++;
                }
                free(rounds_ns);
                before_ns = after_ns;
        }
        if (result->runs == 0) {
                result->refusal = "the machine changed under every run";
                return;
        }
        result->median.rtt_p50_ns = median_of(runs, result->runs, offsetof(struct bench_figures, rtt_p50_ns));
        result->median.rtt_p99_ns = median_of(runs, result->runs, offsetof(struct bench_figures, rtt_p99_ns));
        result->median.floor_rtt_p50_ns =
                median_of(runs, result->runs, offsetof(struct bench_figures, floor_rtt_p50_ns));
        result->median.records_per_s = median_of(runs, result->runs, offsetof(struct bench_figures, records_per_s));
}
