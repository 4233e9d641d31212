/* The length of a GPU's time slices, as a kernel sees them that runs all the time: its clock jumps where another
 * context had the GPU. Says "ready", waits for a line (or the end of stdin), looks for argv[1] seconds, and tells as
 * JSON how often that was, how long others had it, and how long it ran between. */
#include "check.h"
#include <time.h>

#define JUMP_NS 20000u        /* and longer: its own loop takes less than a microsecond */
#define KERNEL_NS 100000000ul /* of one launch */
#define JUMPS 4096u           /* noted of one launch */

/* slices(out, jumps, for_ns, jump_ns): out[0] their number, then from out[2] on for each when it began and its length,
 * in nanoseconds from the kernel's beginning; the last one ends the kernel. */
static const char ptx[] =
        ".version 6.3\n.target sm_75\n.address_size 64\n"
        ".visible .entry slices(.param .u64 out, .param .u32 jumps, .param .u64 for_ns, .param .u64 jump_ns)\n{\n"
        "\t.reg .pred %p<4>;\n\t.reg .b32 %r<4>;\n\t.reg .b64 %rd<12>;\n"
        "\tld.param.u64 %rd1, [out];\n\tld.param.u32 %r1, [jumps];\n\tld.param.u64 %rd2, [for_ns];\n"
        "\tld.param.u64 %rd3, [jump_ns];\n\tmov.u32 %r2, 0;\n\tadd.u64 %rd4, %rd1, 16;\n"
        "\tmov.u64 %rd5, %globaltimer;\n\tmov.u64 %rd6, %rd5;\n"
        "again:\n\tmov.u64 %rd7, %globaltimer;\n\tsub.u64 %rd8, %rd7, %rd6;\n\tsub.u64 %rd9, %rd6, %rd5;\n"
        "\tmov.u64 %rd6, %rd7;\n\tsetp.lt.u64 %p1, %rd8, %rd3;\n\t@%p1 bra on;\n"
        "\tst.global.u64 [%rd4], %rd9;\n\tst.global.u64 [%rd4+8], %rd8;\n\tadd.u64 %rd4, %rd4, 16;\n"
        "\tadd.u32 %r2, %r2, 1;\n\tsetp.ge.u32 %p2, %r2, %r1;\n\t@%p2 bra done;\n"
        "on:\n\tsub.u64 %rd10, %rd7, %rd5;\n\tsetp.lt.u64 %p3, %rd10, %rd2;\n\t@%p3 bra again;\n"
        "done:\n\tst.global.u32 [%rd1], %r2;\n\tret;\n}\n";

static struct {
        size_t count;
        double us[1 << 20];
} jumps, runs;

static double now_s(void)
{
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int compare(const void *a, const void *b)
{
        const double left = *(const double *)a, right = *(const double *)b;
        return left < right ? -1 : left > right;
}

static void note(const uint64_t *out)
{
        uint64_t since = 0;
        CHECK(out[0] <= JUMPS, "%" PRIu64 " jumps", out[0]);
        for (uint64_t i = 0; i < out[0]; i++) {
                const uint64_t begin = out[2 + 2 * i], length = out[3 + 2 * i];
                if (jumps.count < sizeof jumps.us / sizeof *jumps.us)
                        jumps.us[jumps.count++] = (double)length * 1e-3;
                if (i > 0 && runs.count < sizeof runs.us / sizeof *runs.us)
                        runs.us[runs.count++] = (double)(begin - since) * 1e-3;
                since = begin + length;
        }
}

static double part(const double *sorted, size_t count, double of)
{
        return count ? sorted[(size_t)((double)(count - 1) * of)] : 0;
}

int main(int argc, char **argv)
{
        static uint64_t out[2 + 2 * JUMPS];
        char line[16];
        uint32_t jumps_max = JUMPS;
        uint64_t for_ns = KERNEL_NS, jump_ns = JUMP_NS;
        CUmodule module;
        CUdeviceptr memory;
        CHECK(argc == 2, "usage: slices SECONDS");
        test_context();
        CU(cuModuleLoadData(&module, ptx));
        const CUfunction kernel = test_function(module, "slices");
        CU(cuMemAlloc_v2(&memory, sizeof out));
        puts("ready");
        fflush(stdout);
        CHECK(fgets(line, sizeof line, stdin) != NULL || feof(stdin), "stdin");

        const double begin_s = now_s(), end_s = begin_s + atof(argv[1]);
        void *parameters[] = {&memory, &jumps_max, &for_ns, &jump_ns};
        do {
                CU(cuMemsetD8_v2(memory, 0, 16));
                CU(cuLaunchKernel(kernel, 1, 1, 1, 1, 1, 1, 0, NULL, parameters, NULL));
                CU(cuMemcpyDtoH_v2(out, memory, sizeof out));
                note(out);
        } while (now_s() < end_s);
        qsort(jumps.us, jumps.count, sizeof(double), compare);
        qsort(runs.us, runs.count, sizeof(double), compare);
        printf("{\"seconds\": %.3f, \"jumps\": %zu, \"away_p50_us\": %.0f, \"away_p95_us\": %.0f, \"away_max_us\": "
               "%.0f, "
               "\"run_p50_us\": %.0f, \"run_p95_us\": %.0f, \"run_max_us\": %.0f}\n",
               now_s() - begin_s, jumps.count, part(jumps.us, jumps.count, 0.5), part(jumps.us, jumps.count, 0.95),
               part(jumps.us, jumps.count, 1), part(runs.us, runs.count, 0.5), part(runs.us, runs.count, 0.95),
               part(runs.us, runs.count, 1));
        return 0;
}
