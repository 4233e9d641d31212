/* N asynchronous launches of an empty-handed kernel, then one synchronize; the count is checked. argv[1]: N. Prints the
 * cost of issuing one. Run it under strace to count system calls per launch. */
#include "check.h"
#include <time.h>

int main(int argc, char **argv)
{
        const long launches = argc > 1 ? atol(argv[1]) : 10000;
        test_context();
        CUmodule module = test_module();
        CUfunction increment = test_function(module, "increment");
        CUdeviceptr counter;
        uint32_t result;
        CU(cuMemAlloc_v2(&counter, 4));
        CU(cuMemsetD32_v2(counter, 0, 1));
        void *parameters[] = {&counter};
        CU(cuCtxSynchronize());
        struct timespec a, b;
        clock_gettime(CLOCK_MONOTONIC, &a);
        for (long i = 0; i < launches; i++)
                CU(cuLaunchKernel(increment, 1, 1, 1, 1, 1, 1, 0, NULL, parameters, NULL));
        clock_gettime(CLOCK_MONOTONIC, &b);
        CU(cuCtxSynchronize());
        CU(cuMemcpyDtoH_v2(&result, counter, 4));
        CHECK(result == (uint32_t)launches, "%u launches ran of %ld", result, launches);
        const double ns = ((double)(b.tv_sec - a.tv_sec) * 1e9 + (double)(b.tv_nsec - a.tv_nsec)) / (double)launches;
        printf("launch_rate: %ld launches, %.0f ns each to issue\n", launches, ns);
        return 0;
}
