/* How long until a program has a context, and until it has its kernels. */
#include "bench.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define STARTS 3u
#define LOADS 5u

/* ---- a process's start ---- */

int bench_start_child(void)
{
        const double start = bench_now_ns();
        double after_init, after_context;
        CUcontext context;
        CUdevice device;

        CU(cuInit(0));
        after_init = bench_now_ns();
        CU(cuDeviceGet(&device, 0));
        CU(cuDevicePrimaryCtxRetain(&context, device));
        CU(cuCtxSetCurrent(context));
        CU(cuCtxSynchronize());
        after_context = bench_now_ns();
        printf("%.0f %.0f\n", after_init - start, after_context - start);
        return 0;
}

/* Runs this program again and reads what it prints. */
static void start_once(double *init_ms, double *context_ms)
{
        double init_ns = 0, context_ns = 0;
        int ends[2], status;
        FILE *from;
        pid_t child;

        if (pipe(ends) != 0 || (child = fork()) < 0)
                bench_die("no process for cuInit");
        if (child == 0) {
                dup2(ends[1], 1);
                close(ends[0]);
                close(ends[1]);
                execl("/proc/self/exe", "ivgpu-call-bench", "--start-child", (char *)NULL);
                _exit(127);
        }
        close(ends[1]);
        from = fdopen(ends[0], "r");
        if (!from || fscanf(from, "%lf %lf", &init_ns, &context_ns) != 2)
                bench_die("the process that calls cuInit gave no times");
        fclose(from);
        if (waitpid(child, &status, 0) != child || status != 0)
                bench_die("the process that calls cuInit failed (%d)", status);
        *init_ms = init_ns / 1e6;
        *context_ms = context_ns / 1e6;
}

void bench_start(struct bench *bench, const char *suffix)
{
        const uint32_t starts = bench->quick ? 1 : STARTS;
        double init_ms[STARTS], context_ms[STARTS];
        char init_name[64], context_name[64];

        snprintf(init_name, sizeof(init_name), "start_init_%s", suffix);
        snprintf(context_name, sizeof(context_name), "start_context_%s", suffix);
        if (!bench_wants(bench, init_name) && !bench_wants(bench, context_name))
                return;
        for (uint32_t i = 0; i < starts; i++) {
                usleep(bench->start_pause_ms * 1000u);
                start_once(&init_ms[i], &context_ms[i]);
        }
        figure_add(init_name, "ms", init_ms, starts);
        figure_add(context_name, "ms", context_ms, starts);
}

/* ---- modules ---- */

static double load_ms(const void *image)
{
        const double start = bench_now_ns();
        CUmodule module;
        CUfunction function;
        double end;

        CU(cuModuleLoadData(&module, image));
        CU(cuModuleGetFunction(&function, module, "empty_6"));
        end = bench_now_ns();
        CU(cuModuleUnload(module));
        return (end - start) / 1e6;
}

/* A text that no cache has seen: a comment of its own. */
static char *fresh_ptx(uint32_t number)
{
        const size_t bytes = strlen(bench_kernels_ptx) + 80;
        struct timespec now;
        char *text = malloc(bytes);

        if (!text)
                bench_die("no memory for a module's text");
        clock_gettime(CLOCK_REALTIME, &now);
        snprintf(text, bytes, "%s// %lld.%09ld %u %d\n", bench_kernels_ptx, (long long)now.tv_sec, now.tv_nsec, number,
                 (int)getpid());
        return text;
}

static void measure_text(uint32_t loads)
{
        double first_ms[LOADS], again_ms[LOADS];

        for (uint32_t i = 0; i < loads; i++) {
                char *text = fresh_ptx(i);

                first_ms[i] = load_ms(text);
                again_ms[i] = load_ms(text);
                free(text);
        }
        figure_add("module_load_ptx_first", "ms", first_ms, loads);
        figure_add("module_load_ptx_again", "ms", again_ms, loads);
}

/* Machine code: the driver's own linker makes it of the text. */
static void measure_code(uint32_t loads)
{
        double first_ms, again_ms[LOADS];
        CUlinkState link;
        void *code = NULL;
        size_t bytes = 0;

        CU(cuLinkCreate_v2(0, NULL, NULL, &link));
        CU(cuLinkAddData_v2(link, CU_JIT_INPUT_PTX, (void *)(uintptr_t)bench_kernels_ptx, strlen(bench_kernels_ptx) + 1,
                            "bench", 0, NULL, NULL));
        CU(cuLinkComplete(link, &code, &bytes));
        first_ms = load_ms(code);
        for (uint32_t i = 0; i < loads; i++)
                again_ms[i] = load_ms(code);
        CU(cuLinkDestroy(link));
        figure_add("module_load_code_first", "ms", &first_ms, 1);
        figure_add("module_load_code_again", "ms", again_ms, loads);
}

void bench_modules(struct bench *bench)
{
        const uint32_t loads = bench->quick ? 1 : LOADS;

        if (bench_wants(bench, "module_load_ptx_first") || bench_wants(bench, "module_load_ptx_again"))
                measure_text(loads);
        if (bench_wants(bench, "module_load_code_first") || bench_wants(bench, "module_load_code_again"))
                measure_code(loads);
}
