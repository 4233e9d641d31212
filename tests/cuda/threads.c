/* Many threads of one program: each with its own stream and memory, all on one channel. argv[1]: thread count. */
#include "check.h"
#include <pthread.h>

static CUmodule module;
static CUcontext context;

static void *work(void *argument)
{
        const uint32_t number = (uint32_t)(uintptr_t)argument;
        enum { COUNT = 3000 };
        uint32_t *host = malloc(COUNT * 4);
        CUstream stream;
        CUdeviceptr data;
        CU(cuCtxSetCurrent(context));
        CU(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
        CU(cuMemAlloc_v2(&data, COUNT * 4));
        CUfunction function = test_function(module, "fill_u32");
        for (uint32_t round = 0; round < 6; round++) {
                uint32_t value = number * 100000 + round;
                uint64_t count = COUNT;
                void *parameters[] = {&data, &value, &count};
                CU(cuLaunchKernel(function, 2, 1, 1, 64, 1, 1, 0, stream, parameters, NULL));
                CU(cuMemcpyDtoHAsync_v2(host, data, COUNT * 4, stream));
                CU(cuStreamSynchronize(stream));
                for (uint32_t i = 0; i < COUNT; i++)
                        CHECK(host[i] == value + i, "thread %u, round %u, word %u is %u", number, round, i, host[i]);
        }
        CU(cuMemFree_v2(data));
        if (number % 2) /* every other thread ends without cleaning up its stream */
                CU(cuStreamDestroy_v2(stream));
        free(host);
        return NULL;
}

int main(int argc, char **argv)
{
        const int threads = argc > 1 ? atoi(argv[1]) : 8;
        CHECK(threads > 0 && threads <= 1000, "1 to 1000 threads, not %d", threads);
        context = test_context();
        module = test_module();
        pthread_t *thread = calloc((size_t)threads, sizeof *thread);
        for (int generation = 0; generation < 2; generation++) { /* lines of ended threads are used again */
                for (int i = 0; i < threads; i++)
                        CHECK(pthread_create(&thread[i], NULL, work, (void *)(uintptr_t)(i + 1)) == 0, "thread %d", i);
                for (int i = 0; i < threads; i++)
                        pthread_join(thread[i], NULL);
        }
        free(thread);
        CU(cuCtxSynchronize()); /* with the frees too: a trace of this program is whole */
        printf("threads: %d right\n", threads);
        return 0;
}
