/* Many launches in a row: whatever an implementation makes of them, they happen in their streams' order, with the
 * parameters that they were given, once; each failure is its launch's alone; and streams do not wait for each other. */
#include "check.h"
#include <stdbool.h>

/* *out = *out * 31 + number (+ more), which tells the order. */
static const char ptx[] = ".version 8.1\n.target sm_75\n.address_size 64\n"
                          ".visible .entry fold(.param .u64 out, .param .u64 number)\n{\n"
                          ".reg .b64 %rd<6>;\n"
                          "ld.param.u64 %rd1, [out];\nld.param.u64 %rd2, [number];\n"
                          "cvta.to.global.u64 %rd3, %rd1;\nld.global.u64 %rd4, [%rd3];\n"
                          "mad.lo.s64 %rd5, %rd4, 31, %rd2;\nst.global.u64 [%rd3], %rd5;\nret;\n}\n"
                          ".visible .entry fold_more(.param .u64 out, .param .u64 number, .param .u64 more)\n{\n"
                          ".reg .b64 %rd<8>;\n"
                          "ld.param.u64 %rd1, [out];\nld.param.u64 %rd2, [number];\nld.param.u64 %rd6, [more];\n"
                          "cvta.to.global.u64 %rd3, %rd1;\nld.global.u64 %rd4, [%rd3];\n"
                          "add.s64 %rd7, %rd2, %rd6;\n"
                          "mad.lo.s64 %rd5, %rd4, 31, %rd7;\nst.global.u64 [%rd3], %rd5;\nret;\n}\n";

enum { STREAMS = 5, WORDS = 8, ROUNDS = 1500 };

static CUmodule module;
static CUfunction fold, fold_more;
static CUdeviceptr memory;
static uint64_t expected[WORDS], seed = 7;

static void functions_get(void)
{
        CU(cuModuleLoadData(&module, ptx));
        fold = test_function(module, "fold");
        fold_more = test_function(module, "fold_more");
}

static CUresult launch(CUfunction function, CUstream stream, uint64_t address, uint64_t number, uint64_t more)
{
        void *parameters[] = {&address, &number, &more};
        return cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, stream, parameters, NULL);
}

/* One of two kernels, with a number of its own. */
static void fold_next(CUstream stream, unsigned word)
{
        const uint64_t number = test_random(&seed) >> 8, more = number % 3 == 0 ? test_random(&seed) >> 8 : 0;
        CU(launch(more != 0 ? fold_more : fold, stream, memory + 8 * word, number, more));
        expected[word] = expected[word] * 31 + number + more;
}

static void compare(const char *what)
{
        uint64_t seen[WORDS];
        CU(cuCtxSynchronize());
        CU(cuMemcpyDtoH_v2(seen, memory, sizeof(seen)));
        for (unsigned i = 0; i < WORDS; i++)
                CHECK(seen[i] == expected[i], "%s: word %u is 0x%" PRIx64 ", not 0x%" PRIx64, what, i, seen[i],
                      expected[i]);
}

/* Streams that know nothing of each other, each with its word; runs of all lengths, now and then something else. */
static void each_stream_keeps_its_order(void)
{
        CUstream streams[STREAMS];
        for (unsigned i = 0; i < STREAMS; i++)
                CU(cuStreamCreate(&streams[i], i % 2 == 0 ? CU_STREAM_NON_BLOCKING : CU_STREAM_DEFAULT));
        for (unsigned round = 0; round < ROUNDS; round++) {
                const unsigned which = (unsigned)(test_random(&seed) % STREAMS);
                const unsigned length = (unsigned)(test_random(&seed) % (round % 50 == 0 ? 100 : 4));
                for (unsigned i = 0; i < length; i++)
                        fold_next(streams[which], which);
                if (round % 97 == 0) {
                        CU(cuMemsetD32Async(memory + 8 * which, 5, 2, streams[which]));
                        expected[which] = 5 | 5ull << 32;
                }
                if (round % 301 == 0)
                        CU(cuStreamSynchronize(streams[which]));
        }
        compare("streams");
        for (unsigned i = 0; i < STREAMS; i++)
                CU(cuStreamDestroy_v2(streams[i]));
}

/* All to one word: the legacy stream comes between whatever blocking streams do. */
static void the_legacy_stream_orders_blocking_ones(void)
{
        CUstream a, b;
        CU(cuStreamCreate(&a, CU_STREAM_DEFAULT));
        CU(cuStreamCreate(&b, CU_STREAM_DEFAULT));
        for (unsigned round = 0; round < ROUNDS / 5; round++) {
                for (unsigned i = 0; i <= round % 3; i++)
                        fold_next(a, 5);
                fold_next(CU_STREAM_LEGACY, 5);
                for (unsigned i = 0; i <= round % 4; i++)
                        fold_next(b, 5);
                fold_next(NULL, 5);
        }
        compare("legacy stream");
        CU(cuStreamDestroy_v2(a));
        CU(cuStreamDestroy_v2(b));
}

/* A launch that cannot be is told later, and the others around it happen. */
static void a_failed_launch_fails_alone(CUstream stream)
{
        for (unsigned round = 0; round < 20; round++) {
                uint64_t address = memory + 8 * 6, number = 1;
                void *parameters[] = {&address, &number};
                for (unsigned i = 0; i < 10; i++)
                        fold_next(stream, 6);
                CUresult result = cuLaunchKernel(fold, 1, 1, 1, 1, 1, 1, 64u << 20, stream, parameters, NULL);
                for (unsigned i = 0; i < 10; i++)
                        fold_next(stream, 6);
                /* Told at once, or by what waits. */
                if (result == CUDA_SUCCESS)
                        result = cuStreamSynchronize(stream);
                CHECK(result == CUDA_ERROR_INVALID_VALUE, "64 MiB of shared memory: %d", (int)result);
        }
        compare("failures");
}

/* A stream that is held holds no other. */
static void no_stream_waits_for_another(CUstream a)
{
        CUstream b;
        CU(cuStreamCreate(&b, CU_STREAM_NON_BLOCKING));
        for (unsigned i = 0; i < 200; i++) { /* both have launched much */
                fold_next(a, 0);
                fold_next(b, 1);
        }
        compare("two streams");
        for (uint32_t round = 1; round <= 20; round++) {
                CU(cuStreamWaitValue32_v2(a, memory + 8 * 7, round, CU_STREAM_WAIT_VALUE_GEQ));
                for (unsigned i = 0; i < round; i++) {
                        fold_next(a, 0);
                        fold_next(b, 1);
                }
                CU(cuStreamSynchronize(b));
                CU_EXPECT(CUDA_ERROR_NOT_READY, cuStreamQuery(a));
                CU(cuStreamWriteValue32_v2(b, memory + 8 * 7, round, CU_STREAM_WRITE_VALUE_DEFAULT));
                expected[7] = round;
        }
        compare("a held stream");
        CU(cuStreamDestroy_v2(b));
}

/* One thread that goes from context to context, with kernels that know no context. */
static void contexts_take_turns(void)
{
        CUcontext second;
        CUdevice device;
        CUlibrary library;
        CUkernel kernel;
        CUdeviceptr there;
        uint64_t seen, wanted = 0;
        CU(cuCtxGetDevice(&device));
        CU(cuLibraryLoadData(&library, ptx, NULL, NULL, 0, NULL, NULL, 0));
        CU(cuLibraryGetKernel(&kernel, library, "fold"));
        CU(cuCtxCreate_v2(&second, 0, device));
        CU(cuMemAlloc_v2(&there, 8));
        CU(cuMemsetD8_v2(there, 0, 8));
        CU(cuCtxSynchronize());
        for (unsigned round = 0; round < 150; round++) {
                const uint64_t number = test_random(&seed) >> 8;
                for (unsigned i = 0; i <= round % 3; i++) {
                        CU(launch((CUfunction)kernel, CU_STREAM_LEGACY, there, number, 0));
                        wanted = wanted * 31 + number;
                }
                CU(cuCtxPopCurrent_v2(NULL));
                for (unsigned i = 0; i <= round % 2; i++) {
                        CU(launch((CUfunction)kernel, CU_STREAM_LEGACY, memory + 8 * 3, number, 0));
                        expected[3] = expected[3] * 31 + number;
                }
                CU(cuCtxPushCurrent_v2(second));
        }
        CU(cuCtxSynchronize());
        CU(cuMemcpyDtoH_v2(&seen, there, 8));
        CHECK(seen == wanted, "the second context's word is 0x%" PRIx64 ", not 0x%" PRIx64, seen, wanted);
        CU(cuCtxDestroy_v2(second));
        compare("contexts");
        CU(cuLibraryUnload(library));
}

/* Streams and code that end between: what comes after has nothing of theirs. */
static void what_ends_leaves_nothing(void)
{
        for (unsigned round = 0; round < 6; round++) {
                CUstream stream;
                CU(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
                for (unsigned i = 0; i < 150; i++)
                        fold_next(stream, 2);
                CU(cuStreamDestroy_v2(stream)); /* its work goes on */
                CU(cuCtxSynchronize());
                if (round % 2 == 0) {
                        CU(cuModuleUnload(module));
                        functions_get();
                }
        }
        compare("ends");
}

int main(void)
{
        CUstream stream;
        test_context();
        functions_get();
        CU(cuMemAlloc_v2(&memory, 8 * WORDS));
        CU(cuMemsetD8_v2(memory, 0, 8 * WORDS));
        CU(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
        CU(cuCtxSynchronize());
        each_stream_keeps_its_order();
        the_legacy_stream_orders_blocking_ones();
        a_failed_launch_fails_alone(stream);
        no_stream_waits_for_another(stream);
        contexts_take_turns();
        what_ends_leaves_nothing();
        CU(cuStreamDestroy_v2(stream));
        CU(cuMemFree_v2(memory));
        CU(cuModuleUnload(module));
        printf("launch_chains OK\n");
        return 0;
}
