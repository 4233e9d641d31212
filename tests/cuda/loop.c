/* Works until something breaks: launches, copies, synchronizes for argv[1] seconds. When a call fails it must keep
 * failing (a lost executor is lost for good): exit code 3 and the error on stdout. argv[2] "sleep": sleeps in one long
 * wait instead; "check": compares every result with C's, and ends early when its standard input does. Exit code 0:
 * nothing broke. */
#include "check.h"
#include <poll.h>
#include <time.h>

static double now_s(void)
{
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int broken(CUresult result, const char *call)
{
        static char large[1 << 20];
        CUdeviceptr data;
        const char *name = "?";
        CU(cuGetErrorName(result, &name));
        CHECK(cuCtxSynchronize() != CUDA_SUCCESS, "%s failed with %s, but cuCtxSynchronize works", call, name);
        CHECK(cuMemAlloc_v2(&data, 64) != CUDA_SUCCESS, "%s failed with %s, but cuMemAlloc works", call, name);
        CHECK(cuMemcpyHtoD_v2(4096, large, sizeof large) != CUDA_SUCCESS, "%s failed with %s, but a copy works", call,
              name);
        printf("loop: %s answered %s, and so does what follows\n", call, name);
        return 3;
}

/* What spin_rounds leaves for thread `thread`. */
static uint32_t spun(uint32_t seed, uint32_t thread, uint32_t rounds)
{
        uint32_t x = seed + thread;
        for (uint32_t i = 0; i < rounds; i++)
                x = x * 1664525u + 1013904223u;
        return x;
}

static int input_has_ended(void)
{
        struct pollfd input = {.fd = 0, .events = POLLIN};
        return poll(&input, 1, 0) > 0;
}

int main(int argc, char **argv)
{
        const int checks = argc > 2 && strcmp(argv[2], "check") == 0;
        const double end = now_s() + (argc > 1 ? atof(argv[1]) : 5);
        const uint32_t rounds = argc > 2 && strcmp(argv[2], "sleep") == 0 ? 4000000000u : 1000u;
        static uint32_t host[4096];
        CUdeviceptr data;
        CUresult result;
        test_context();
        CUmodule module = test_module();
        CUfunction spin = test_function(module, "spin_rounds");
        CU(cuMemAlloc_v2(&data, sizeof host));
        puts("loop: running");
        fflush(stdout);
        while (now_s() < end && !(checks && input_has_ended())) {
                uint32_t seed = 1, count = rounds;
                void *parameters[] = {&data, &seed, &count};
                result = cuLaunchKernel(spin, 1, 1, 1, 64, 1, 1, 0, NULL, parameters, NULL);
                if (result != CUDA_SUCCESS)
                        return broken(result, "cuLaunchKernel");
                result = cuMemcpyDtoH_v2(host, data, sizeof host);
                if (result != CUDA_SUCCESS)
                        return broken(result, "cuMemcpyDtoH");
                for (uint32_t i = 0; checks && i < 64; i++)
                        CHECK(host[i] == spun(seed, i, count), "thread %u: %u", i, host[i]);
                memset(host, 0, 64 * sizeof host[0]);
        }
        puts("loop: nothing broke");
        return 0;
}
