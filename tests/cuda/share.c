/* A program that wants the GPU, for tests of who gets it. Says "ready", waits for a line (or the end of stdin), works
 * for argv[2] seconds, for one kernel at least, and tells what it got as JSON. argv[1]: "saturate" keeps kernels
 * queued; "closed" launches one, waits for it, sleeps for argv[4] microseconds, and measures from the launch to its
 * end; "rate" launches as fast as it may without looking, until a launch fails. argv[3]: blocks of a kernel, whose time
 * on the soft GPU is IVGPU_SOFT_BLOCK_NS each. argv[5], argv[6]: rounds of arithmetic in each thread, which is what
 * takes time on a real GPU (none: an empty kernel), and threads of a block.
 *
 * "saturate" tells how long it had the device, too: its kernels note by the device's clock when the first block began
 * and the last one ended, which then are what is measured. Its time is theirs, each with the median at most (whoever
 * took longer was interrupted), and the pauses between two of them that are too short for anybody else to have had the
 * device. */
#include "check.h"
#include <time.h>
#include <unistd.h>

#define QUEUED 8             /* kernels: one runs, enough wait */
#define TIMES_MAX (1u << 21) /* that are measured */
/* On an H200 the device goes to another context and comes back in 300. */
#define PAUSE_NS 200000u

/* "busy" stores what it has computed where that is one value of 2^32: no compiler can leave the rounds out. */
static const char ptx[] = ".version 6.3\n.target sm_75\n.address_size 64\n.visible .entry empty()\n{\n\tret;\n}\n"
                          ".visible .entry busy(.param .u32 rounds, .param .u64 sink, .param .u64 mark)\n{\n"
                          "\t.reg .pred %p<4>;\n\t.reg .b32 %r<5>;\n\t.reg .b64 %rd<4>;\n"
                          "\tld.param.u64 %rd2, [mark];\n\tmov.u32 %r2, %tid.x;\n\tsetp.ne.s32 %p3, %r2, 0;\n"
                          "\tsetp.eq.or.u64 %p3, %rd2, 0, %p3;\n\t@%p3 bra begin;\n"
                          "\tmov.u32 %r4, %ctaid.x;\n\tsetp.ne.s32 %p1, %r4, 0;\n\t@%p1 bra begin;\n"
                          "\tmov.u64 %rd3, %globaltimer;\n\tst.global.u64 [%rd2], %rd3;\n"
                          "\tst.global.u64 [%rd2+8], %rd3;\n"
                          "begin:\n\tld.param.u32 %r1, [rounds];\n\tmov.u32 %r3, 0;\n"
                          "again:\n\tmad.lo.s32 %r2, %r2, 1664525, 1013904223;\n\tadd.s32 %r3, %r3, 1;\n"
                          "\tsetp.lt.u32 %p1, %r3, %r1;\n\t@%p1 bra again;\n"
                          "\tsetp.ne.s32 %p2, %r2, 1592594996;\n\t@%p2 bra done;\n"
                          "\tld.param.u64 %rd1, [sink];\n\tst.global.u32 [%rd1], %r2;\n"
                          "done:\n\tbar.sync 0;\n\t@%p3 bra end;\n"
                          "\tmov.u64 %rd3, %globaltimer;\n\tred.global.max.u64 [%rd2+8], %rd3;\n"
                          "end:\n\tret;\n}\n";

struct mark {
        uint64_t begin_ns, end_ns;
};

struct work {
        CUfunction kernel;
        CUdeviceptr sink, marks; /* struct mark for each kernel; 0: none */
        CUstream stream;
        CUevent events[QUEUED];
        unsigned blocks, think_us, rounds, threads;
        uint64_t kernels, first_us;
        uint32_t times_count;
        double times_us[TIMES_MAX];
        struct mark marked[TIMES_MAX];
};

static double now_us(void)
{
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}

static CUresult launch_marked(struct work *work, CUdeviceptr mark)
{
        void *parameters[] = {&work->rounds, &work->sink, &mark};
        return cuLaunchKernel(work->kernel, work->blocks, 1, 1, work->threads, 1, 1, 0, work->stream,
                              work->rounds ? parameters : NULL, NULL);
}

static CUresult launch(struct work *work)
{
        return launch_marked(work, 0);
}

static void queue(struct work *work, uint64_t kernel)
{
        CHECK(kernel < TIMES_MAX, "more kernels than have a place to note their times");
        CU(launch_marked(work, work->marks + kernel * sizeof(struct mark)));
        CU(cuEventRecord(work->events[kernel % QUEUED], work->stream));
}

/* The next is queued when the oldest has run. Those that have run at the end are counted, waited for or not: of a small
 * share they are a good part. */
static void saturate(struct work *work, double end_us)
{
        uint64_t queued = 0;
        while (queued < QUEUED)
                queue(work, queued++);
        do {
                CU(cuEventSynchronize(work->events[work->kernels++ % QUEUED]));
                queue(work, queued++);
        } while (now_us() < end_us);
        while (work->kernels < queued && cuEventQuery(work->events[work->kernels % QUEUED]) == CUDA_SUCCESS)
                work->kernels++;
}

static void read_marks(struct work *work)
{
        CU(cuStreamSynchronize(work->stream));
        CU(cuMemcpyDtoH_v2(work->marked, work->marks, work->kernels * sizeof(struct mark)));
        for (; work->times_count < work->kernels; work->times_count++) {
                const struct mark *mark = &work->marked[work->times_count];
                CHECK(mark->begin_ns != 0 && mark->end_ns >= mark->begin_ns, "kernel %u noted no time",
                      work->times_count);
                work->times_us[work->times_count] = (double)(mark->end_ns - mark->begin_ns) * 1e-3;
        }
}

static void closed(struct work *work, double end_us)
{
        do {
                const double begin_us = now_us();
                CU(launch(work));
                CU(cuStreamSynchronize(work->stream));
                if (work->times_count < TIMES_MAX)
                        work->times_us[work->times_count++] = now_us() - begin_us;
                work->kernels++;
                usleep(work->think_us);
        } while (now_us() < end_us);
}

static CUresult rate(struct work *work, double end_us)
{
        CUresult result = CUDA_SUCCESS;
        while (now_us() < end_us && result == CUDA_SUCCESS) {
                for (int i = 0; i < 64 && result == CUDA_SUCCESS; i++) {
                        result = launch(work);
                        work->kernels += result == CUDA_SUCCESS;
                }
                if (result == CUDA_SUCCESS)
                        result = cuStreamSynchronize(work->stream);
        }
        return result;
}

static int compare(const void *a, const void *b)
{
        const double left = *(const double *)a, right = *(const double *)b;
        return left < right ? -1 : left > right;
}

static double part(const struct work *work, double of)
{
        return work->times_count ? work->times_us[(uint32_t)((work->times_count - 1) * of)] : 0;
}

static double device_ms(const struct work *work)
{
        const uint64_t usual_ns = (uint64_t)(part(work, 0.5) * 1e3);
        uint64_t sum_ns = 0, end_ns = 0;
        for (uint64_t i = 0; i < work->kernels; i++) {
                const struct mark *mark = &work->marked[i];
                const uint64_t ns = mark->end_ns - mark->begin_ns;
                const uint64_t pause_ns = i > 0 && mark->begin_ns > end_ns ? mark->begin_ns - end_ns : 0;
                sum_ns += (ns < usual_ns ? ns : usual_ns) + (pause_ns < PAUSE_NS ? pause_ns : 0);
                end_ns = mark->end_ns;
        }
        return (double)sum_ns * 1e-6;
}

int main(int argc, char **argv)
{
        static struct work work;
        char line[16];
        CUresult result = CUDA_SUCCESS;
        CHECK(argc >= 4, "usage: share saturate|closed|rate SECONDS BLOCKS [THINK_US [ROUNDS [THREADS]]]");
        test_context();
        CUmodule module;
        CU(cuModuleLoadData(&module, ptx));
        work.blocks = (unsigned)atoi(argv[3]);
        work.think_us = argc > 4 ? (unsigned)atoi(argv[4]) : 0;
        work.rounds = argc > 5 ? (unsigned)atoi(argv[5]) : 0;
        work.threads = argc > 6 ? (unsigned)atoi(argv[6]) : 1;
        if (strcmp(argv[1], "saturate") == 0) {
                CU(cuMemAlloc_v2(&work.marks, TIMES_MAX * sizeof(struct mark)));
                work.rounds += work.rounds == 0; /* an empty kernel notes nothing */
        }
        work.kernel = test_function(module, work.rounds ? "busy" : "empty");
        CU(cuMemAlloc_v2(&work.sink, 4));
        CU(cuStreamCreate(&work.stream, CU_STREAM_NON_BLOCKING));
        for (int i = 0; i < QUEUED; i++)
                CU(cuEventCreate(&work.events[i], CU_EVENT_DISABLE_TIMING));
        puts("ready");
        fflush(stdout);
        CHECK(fgets(line, sizeof line, stdin) != NULL || feof(stdin), "stdin");

        const double begin_us = now_us(), end_us = begin_us + atof(argv[2]) * 1e6;
        result = launch(&work);
        if (result == CUDA_SUCCESS)
                result = cuStreamSynchronize(work.stream);
        work.first_us = (uint64_t)(now_us() - begin_us);
        if (strcmp(argv[1], "rate") != 0)
                CU(result);
        if (strcmp(argv[1], "saturate") == 0)
                saturate(&work, end_us);
        else if (strcmp(argv[1], "closed") == 0)
                closed(&work, end_us);
        else if (result == CUDA_SUCCESS)
                result = rate(&work, end_us);
        const double seconds = (now_us() - begin_us) * 1e-6;
        if (work.marks)
                read_marks(&work);
        qsort(work.times_us, work.times_count, sizeof(double), compare);
        printf("{\"kernels\": %" PRIu64 ", \"seconds\": %.3f, \"first_us\": %" PRIu64
               ", \"p50_us\": %.1f, \"p95_us\": %.0f, "
               "\"p99_us\": %.0f, \"max_us\": %.0f, \"device_ms\": %.3f, \"result\": %d}\n",
               work.kernels, seconds, work.first_us, part(&work, 0.5), part(&work, 0.95), part(&work, 0.99),
               part(&work, 1), work.marks ? device_ms(&work) : 0, (int)result);
        return 0;
}
