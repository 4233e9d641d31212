/* Process life: calls before cuInit, fork, a child of its own, exit with work in flight. */
#include "check.h"
#include <sys/wait.h>
#include <unistd.h>

static int child_status(pid_t child)
{
        int status;
        CHECK(waitpid(child, &status, 0) == child, "no child %d", (int)child);
        return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int main(void)
{
        int count;
        CUdeviceptr data;
        CU_EXPECT(CUDA_ERROR_NOT_INITIALIZED, cuDeviceGetCount(&count));
        pid_t child = fork(); /* before cuInit: the child may use CUDA by itself */
        CHECK(child >= 0, "fork");
        if (child == 0) {
                test_context();
                CU(cuMemAlloc_v2(&data, 1000));
                _exit(0);
        }
        int status = child_status(child);
        CHECK(status == 0, "a child forked before cuInit ended with %d", status);

        test_context();
        CU_EXPECT(CUDA_ERROR_INVALID_VALUE, cuDeviceGetCount(NULL));
        CU(cuDeviceGetCount(&count));
        CHECK(count >= 1, "%d devices", count);
        CU(cuMemAlloc_v2(&data, 1 << 20));
        CU(cuMemsetD32_v2(data, 7, 1 << 18));
        child = fork(); /* after cuInit: the child has no CUDA, and does not disturb the parent */
        CHECK(child >= 0, "fork");
        if (child == 0) {
                CU_EXPECT(CUDA_ERROR_NOT_INITIALIZED, cuMemAlloc_v2(&data, 1000));
                CU_EXPECT(CUDA_ERROR_NOT_INITIALIZED, cuCtxSynchronize());
                exit(0); /* runs the library's destructors in the child */
        }
        status = child_status(child);
        CHECK(status == 0, "a child forked after cuInit ended with %d", status);
        static uint32_t host[1 << 18];
        CU(cuMemcpyDtoH_v2(host, data, sizeof host));
        for (size_t i = 0; i < sizeof host / 4; i++)
                CHECK(host[i] == 7, "word %zu is %u after the child's end", i, host[i]);

        CUmodule module = test_module(); /* work in flight at exit */
        uint32_t seed = 1, rounds = 100000;
        void *parameters[] = {&data, &seed, &rounds};
        for (int i = 0; i < 50; i++)
                CU(cuLaunchKernel(test_function(module, "spin_rounds"), 4, 1, 1, 64, 1, 1, 0, NULL, parameters, NULL));
        puts("process: right");
        return 0;
}
