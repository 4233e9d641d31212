/* What the parts of ivgpu-call-bench share: the options, the device's things that most figures use, and how a figure is
 * taken. A figure is the median of several passes; a distribution is made of single rounds. */
#ifndef IVG_CALL_BENCH_H
#define IVG_CALL_BENCH_H

#include "../measure.h"
#include "cuda_api.h" /* generated: prototypes over ivgpu/cuda_abi.h */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BENCH_PASSES_MAX 9u
#define BENCH_PINNED_BYTES 4096u

struct bench {
        /* options */
        bool quick;
        const char *only; /* a name's beginning, or NULL: everything */
        uint32_t passes;
        uint64_t copy_bytes_max;
        uint32_t start_pause_ms; /* before each start */
        /* made by bench_device_open */
        CUdevice device;
        CUcontext context;
        CUmodule module;
        CUfunction empty[3]; /* by parameters: 0, 1, 6 */
        CUstream stream;     /* non-blocking: nothing but the bench's own work is in it */
        CUevent event, event_done;
        CUdeviceptr memory; /* 1 MiB */
        void *pinned;       /* BENCH_PINNED_BYTES */
        CUgraphExec graph;  /* launches.c: of empty kernels in a row, or NULL */
};

/* What is to be done, beside what is measured. */
struct bench_options {
        const char *json; /* or NULL */
        uint32_t idle_s;  /* 0: measure */
        bool start_child;
};

/* ---- run.c, the module's only symbol ---- */

#define BENCH_RUN "bench_run"
extern int (*const bench_run)(struct bench *, const struct bench_options *);

/* The bench ends with a line that names call and answer: a figure of a call that failed means nothing. */
void bench_require(CUresult result, const char *call, const char *file, int line);
#define CU(call) bench_require((call), #call, __FILE__, __LINE__)

/* ---- device.c ---- */

void bench_device_open(struct bench *bench);
void bench_device_close(struct bench *bench);
extern const char bench_kernels_ptx[];
void bench_launch(const struct bench *bench, uint32_t kernel, CUstream stream); /* kernel: index of `empty` */

/* ---- figures.c ---- */

/* Whether the figure is asked for. */
bool bench_wants(const struct bench *bench, const char *name);
/* Notes and prints the median of `count` passes; sorts them. */
void figure_add(const char *name, const char *unit, double *passes, uint32_t count);
/* Notes the distribution of `count` rounds in nanoseconds and the figures NAME_p50 and NAME_p99; sorts them. */
void distribution_add(const char *name, double *rounds_ns, uint32_t count);
/* Notes why a figure is not there. */
void figure_skip(const char *name, const char *why, CUresult result);
/* 0, or -errno. */
int figures_write_json(const char *path);
uint32_t figures_count(void);

/* One call's cost for its caller: the mean of bursts of `burst` calls. What a burst leaves behind is waited for between
 * two bursts and not counted (`settles`). */
struct bench_cost {
        const char *name;
        void (*call)(struct bench *bench);
        uint32_t burst;
        bool settles;
};
void bench_measure_costs(struct bench *bench, const struct bench_cost *costs, size_t count);

/* A round from call to result, each timed alone. */
struct bench_trip {
        const char *name;
        void (*round)(struct bench *bench);
        uint32_t pause_ms; /* before each round, for what comes after idleness */
};
void bench_measure_trips(struct bench *bench, const struct bench_trip *trips, size_t count);

/* ---- the figures; each takes those that are wanted ---- */

/* cuInit and a primary context in processes of their own. cold: no other program uses the device; else `suffix` says.
 */
void bench_start(struct bench *bench, const char *suffix);
/* What such a process does; prints for its parent. */
int bench_start_child(void);
void bench_calls(struct bench *bench);
void bench_launches(struct bench *bench);
void bench_pending(struct bench *bench);
void bench_modules(struct bench *bench);
void bench_copies(struct bench *bench);

#endif
