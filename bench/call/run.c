/* What the program does when its options have been read. */
#include "bench.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void stay_idle(struct bench *bench, uint32_t seconds)
{
        bench_device_open(bench);
        bench_launch(bench, 0, bench->stream);
        CU(cuStreamSynchronize(bench->stream));
        printf("idle\n");
        fflush(stdout);
        sleep(seconds);
        bench_device_close(bench);
}

/* At every end, so that what was measured before a failed call is not lost with it. */
static const char *json_path;

static void write_json(void)
{
        const int error = figures_write_json(json_path);

        if (error != 0) {
                fprintf(stderr, "ivgpu-call-bench: cannot write %s: %s\n", json_path, strerror(-error));
                _exit(1);
        }
}

static void write_at_exit(const char *path)
{
        json_path = path;
        if (path && atexit(write_json) != 0)
                bench_die("no room to write %s at the end", path);
}

static int run(struct bench *bench, const struct bench_options *options)
{
        if (options->start_child)
                return bench_start_child();
        if (options->idle_s) {
                stay_idle(bench, options->idle_s);
                return 0;
        }
        write_at_exit(options->json);
        bench_start(bench, "cold");
        bench_device_open(bench);
        bench_start(bench, "beside_another");
        bench_calls(bench);
        bench_launches(bench);
        bench_pending(bench);
        bench_modules(bench);
        bench_copies(bench);
        bench_device_close(bench);
        if (figures_count() == 0)
                bench_die("no figure's name begins with %s", bench->only);
        return 0;
}

/* A pointer's address, as dlsym gives objects' and not functions'. */
__attribute__((visibility("default"))) int (*const bench_run)(struct bench *, const struct bench_options *) = run;
