/* What CUDA calls cost their caller: a plain Driver API program. Run natively and through ivgpu-run, it shows what lies
 * between; tools/bench-gpu does that and compares with the budgets.
 *
 * All that calls CUDA is in a module, which is loaded when the options have been read: they can be asked for, and found
 * wrong, where no libcuda.so.1 is. */
#include "bench.h"
#include "ivgpu/number.h"
#include <dlfcn.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#define COPY_BYTES_MAX (1ull << 30) /* unless told */
#define COPY_BYTES_TOLD_MAX (1ull << 36)
#define COPY_BYTES_MAX_QUICK (1ull << 20)
#define START_PAUSE_MS_MAX 60000u
#define IDLE_S_MAX 86400u
#define MODULE "$ORIGIN/../lib/ivgpu-call-bench/cuda.so"

static void usage(FILE *out)
{
        fputs("usage: ivgpu-call-bench [--quick] [--only NAME] [--passes N] [--max-bytes N] [--json FILE]\n"
              "                        | --idle SECONDS\n"
              "  --quick        every figure, too few rounds to mean much\n"
              "  --only NAME    only figures whose names begin so\n"
              "  --passes N     passes, whose median is shown (5, at most 9)\n"
              "  --max-bytes N  largest copy (1 GiB)\n"
              "  --start-pause MS  before each start of a process: time for a host that prepares for the next\n"
              "  --json FILE    figures, distributions and what could not be measured\n"
              "  --idle SECONDS makes a context, launches once, and does nothing for so long\n",
              out);
}

/* Of an option that takes a number; 0: it takes none. */
static uint64_t numbers_max(int option)
{
        switch (option) {
        case 'p':
                return BENCH_PASSES_MAX;
        case 'm':
                return COPY_BYTES_TOLD_MAX;
        case 's':
                return START_PAUSE_MS_MAX;
        case 'i':
                return IDLE_S_MAX;
        default:
                return 0;
        }
}

static bool options_read(int argc, char **argv, struct bench *bench, struct bench_options *options)
{
        static const struct option names[] = {
                {"quick", no_argument, NULL, 'q'},
                {"only", required_argument, NULL, 'o'},
                {"passes", required_argument, NULL, 'p'},
                {"max-bytes", required_argument, NULL, 'm'},
                {"start-pause", required_argument, NULL, 's'},
                {"json", required_argument, NULL, 'j'},
                {"idle", required_argument, NULL, 'i'},
                {"start-child", no_argument, NULL, 'C'},
                {"help", no_argument, NULL, 'h'},
                {NULL, 0, NULL, 0},
        };
        uint64_t number = 0;
        int option, index = 0;

        *bench = (struct bench){.passes = 5};
        *options = (struct bench_options){.json = NULL};
        while ((option = getopt_long(argc, argv, "h", names, &index)) != -1) {
                if (numbers_max(option) != 0 &&
                    !ivg_number_option(names[index].name, optarg, 0, numbers_max(option), &number))
                        return false;
                switch (option) {
                case 'q':
                        bench->quick = true;
                        break;
                case 'o':
                        bench->only = optarg;
                        break;
                case 'p':
                        bench->passes = (uint32_t)number;
                        break;
                case 'm':
                        bench->copy_bytes_max = number;
                        break;
                case 's':
                        bench->start_pause_ms = (uint32_t)number;
                        break;
                case 'j':
                        options->json = optarg;
                        break;
                case 'i':
                        options->idle_s = (uint32_t)number;
                        break;
                case 'C':
                        options->start_child = true;
                        break;
                case 'h':
                        usage(stdout);
                        exit(0);
                default:
                        return false;
                }
        }
        if (bench->quick)
                bench->passes = 1;
        if (!bench->copy_bytes_max)
                bench->copy_bytes_max = bench->quick ? COPY_BYTES_MAX_QUICK : COPY_BYTES_MAX;
        return optind == argc && bench->passes >= 1 && bench->passes <= BENCH_PASSES_MAX;
}

int main(int argc, char **argv)
{
        struct bench bench;
        struct bench_options options;
        int (*const *run)(struct bench *, const struct bench_options *);
        void *module;

        if (!options_read(argc, argv, &bench, &options)) {
                usage(stderr);
                return 2;
        }
        module = dlopen(MODULE, RTLD_NOW | RTLD_LOCAL);
        run = module ? dlsym(module, BENCH_RUN) : NULL;
        if (!run)
                bench_die("%s", dlerror());
        return (*run)(&bench, &options);
}
