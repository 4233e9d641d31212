/* Host functions: they run in this process, in stream order, beside everything else the program does.
 *   callbacks         all but faults
 *   callbacks fault   what becomes of them when the context fails */
#include "check.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static CUmodule module;
static CUcontext context;

static void sleep_ms(unsigned ms)
{
        const struct timespec pause = {ms / 1000, (long)(ms % 1000) * 1000000};
        nanosleep(&pause, NULL);
}

static void spin(CUdeviceptr out, uint32_t rounds, CUstream stream)
{
        uint32_t seed = 1;
        void *parameters[] = {&out, &seed, &rounds};
        CU(cuLaunchKernel(test_function(module, "spin_rounds"), 1, 1, 1, 32, 1, 1, 0, stream, parameters, NULL));
}

/* Kernel, copy to the host, host function that reads and changes it, copy back: each sees the one before. */
struct relay {
        uint32_t *pinned;
        uint32_t expected;
        bool right;
};

static void relay_run(void *data)
{
        struct relay *relay = data;
        relay->right = true;
        for (uint32_t i = 0; i < 1024; i++) {
                relay->right = relay->right && relay->pinned[i] == relay->expected + i;
                relay->pinned[i] *= 3;
        }
}

static void functions_run_between_their_neighbours(void)
{
        static uint32_t result[1024];
        struct relay relay;
        CUstream stream;
        CUdeviceptr data, slow;
        CU(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
        CU(cuMemAlloc_v2(&data, sizeof(result)));
        CU(cuMemAlloc_v2(&slow, 4096));
        CU(cuMemHostAlloc((void **)&relay.pinned, sizeof(result), 0));
        for (uint32_t round = 0; round < 20; round++) {
                uint64_t count = 1024;
                relay.expected = round * 1000;
                relay.right = false;
                void *parameters[] = {&data, &relay.expected, &count};
                spin(slow, 100000, stream);
                CU(cuLaunchKernel(test_function(module, "fill_u32"), 4, 1, 1, 64, 1, 1, 0, stream, parameters, NULL));
                CU(cuMemcpyDtoHAsync_v2(relay.pinned, data, sizeof(result), stream));
                CU(cuLaunchHostFunc(stream, relay_run, &relay));
                CU(cuMemcpyHtoDAsync_v2(data, relay.pinned, sizeof(result), stream));
                CU(cuMemcpyDtoHAsync_v2(result, data, sizeof(result), stream));
                CU(cuStreamSynchronize(stream));
                CHECK(relay.right, "round %u: the host function ran before the copy", round);
                for (uint32_t i = 0; i < 1024; i++)
                        CHECK(result[i] == (round * 1000 + i) * 3, "round %u, word %u: %u", round, i, result[i]);
        }
        CU(cuMemFreeHost(relay.pinned));
        CU(cuMemFree_v2(data));
        CU(cuMemFree_v2(slow));
        CU(cuStreamDestroy_v2(stream));
}

/* Many functions in many streams: each stream's in order, none lost, none twice. */
enum { STREAMS = 16, FUNCTIONS = 200 };
static struct step {
        _Atomic(uint32_t) *next;
        uint32_t number;
        _Atomic(uint32_t) *wrong;
} steps[STREAMS][FUNCTIONS];

static void step_run(void *data)
{
        struct step *step = data;
        if (atomic_fetch_add(step->next, 1) != step->number)
                atomic_fetch_add(step->wrong, 1);
}

static void many_streams_keep_their_orders(void)
{
        static _Atomic(uint32_t) next[STREAMS], wrong;
        CUstream streams[STREAMS];
        for (int s = 0; s < STREAMS; s++)
                CU(cuStreamCreate(&streams[s], s % 2 ? CU_STREAM_NON_BLOCKING : CU_STREAM_DEFAULT));
        for (uint32_t i = 0; i < FUNCTIONS; i++)
                for (int s = 0; s < STREAMS; s++) {
                        steps[s][i] = (struct step){&next[s], i, &wrong};
                        CU(cuLaunchHostFunc(streams[s], step_run, &steps[s][i]));
                }
        for (int s = 0; s < STREAMS; s++)
                CU(cuStreamSynchronize(streams[s]));
        for (int s = 0; s < STREAMS; s++) {
                CHECK(next[s] == FUNCTIONS, "stream %d ran %u of %d functions", s, next[s], FUNCTIONS);
                CU(cuStreamDestroy_v2(streams[s]));
        }
        CHECK(wrong == 0, "%u functions ran out of order", wrong);
}

/* ---- stream callbacks ---- */

struct told {
        CUstream stream;
        CUresult status;
        pthread_t thread;
        _Atomic(int) runs; /* counted last */
};

static void callback_run(CUstream stream, CUresult status, void *data)
{
        struct told *told = data;
        told->stream = stream;
        told->status = status;
        told->thread = pthread_self();
        told->runs++;
}

static void callbacks_are_told_stream_and_status(void)
{
        struct told told[4] = {{.runs = 0}};
        CUstream stream;
        CU(cuStreamCreate(&stream, CU_STREAM_DEFAULT));
        CU(cuStreamAddCallback(stream, callback_run, &told[0], 0));
        CU(cuStreamAddCallback(NULL, callback_run, &told[1], 0));
        CU(cuStreamAddCallback_ptsz(NULL, callback_run, &told[2], 0));
        CU(cuStreamAddCallback(CU_STREAM_PER_THREAD, callback_run, &told[3], 0));
        CU(cuCtxSynchronize());
        for (int i = 0; i < 4; i++) {
                CHECK(told[i].runs == 1, "callback %d ran %d times", i, told[i].runs);
                CHECK(told[i].status == CUDA_SUCCESS, "callback %d was told %d", i, (int)told[i].status);
                CHECK(!pthread_equal(told[i].thread, pthread_self()), "callback %d ran on the program's thread", i);
        }
        CHECK(told[0].stream == stream, "stream %p instead of %p", (void *)told[0].stream, (void *)stream);
        CHECK(told[3].stream == CU_STREAM_PER_THREAD, "stream %p", (void *)told[3].stream);
        CU(cuStreamDestroy_v2(stream));
        CU_EXPECT(CUDA_ERROR_INVALID_VALUE, cuStreamAddCallback(NULL, callback_run, NULL, 1));
        CU_EXPECT(CUDA_ERROR_INVALID_VALUE, cuStreamAddCallback(NULL, NULL, NULL, 0));
        CU_EXPECT(CUDA_ERROR_INVALID_VALUE, cuLaunchHostFunc(NULL, NULL, NULL));
}

/* ---- what must not deadlock ---- */

static void sleep_run(void *data)
{
        sleep_ms(100);
        atomic_fetch_add((_Atomic(uint32_t) *)data, 1);
}

/* More work behind a slow function than any queue holds, then the next function. */
static void work_piles_up_behind_a_slow_function(void)
{
        _Atomic(uint32_t) ran = 0;
        uint32_t result = 1;
        CUstream stream;
        CUdeviceptr counter;
        CU(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
        CU(cuMemAlloc_v2(&counter, 4));
        CU(cuMemsetD32_v2(counter, 0, 1));
        CU(cuCtxSynchronize());
        CUfunction increment = test_function(module, "increment");
        void *parameters[] = {&counter};
        for (int round = 0; round < 3; round++) {
                CU(cuLaunchHostFunc(stream, sleep_run, &ran));
                for (int i = 0; i < 3000; i++)
                        CU(cuLaunchKernel(increment, 1, 1, 1, 1, 1, 1, 0, stream, parameters, NULL));
        }
        CU(cuLaunchHostFunc(stream, sleep_run, &ran));
        CU(cuStreamSynchronize(stream));
        CU(cuMemcpyDtoH_v2(&result, counter, 4));
        CHECK(ran == 4 && result == 9000, "%u functions ran, %u increments", ran, result);
        CU(cuMemFree_v2(counter));
        CU(cuStreamDestroy_v2(stream));
}

/* A function that waits for a lock which the program holds during other calls. */
static pthread_mutex_t program_lock = PTHREAD_MUTEX_INITIALIZER;
static void lock_run(void *data)
{
        pthread_mutex_lock(&program_lock);
        *(_Atomic(uint32_t) *)data += 1;
        pthread_mutex_unlock(&program_lock);
}

static void the_programs_locks_are_its_own(void)
{
        _Atomic(uint32_t) ran = 0;
        CUstream stream, other;
        CUdeviceptr memory;
        uint8_t bytes[4096] = {1};
        CU(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
        CU(cuStreamCreate(&other, CU_STREAM_NON_BLOCKING));
        CU(cuMemAlloc_v2(&memory, sizeof(bytes)));
        pthread_mutex_lock(&program_lock);
        CU(cuLaunchHostFunc(stream, lock_run, &ran));
        spin(memory, 1000, other);
        CU(cuMemcpyHtoDAsync_v2(memory, bytes, sizeof(bytes), other));
        CU(cuStreamSynchronize(other));
        CU_EXPECT(CUDA_ERROR_NOT_READY, cuStreamQuery(stream));
        CHECK(ran == 0, "the function passed a lock");
        pthread_mutex_unlock(&program_lock);
        CU(cuStreamSynchronize(stream));
        CHECK(ran == 1, "the function ran %u times", ran);
        CU(cuMemFree_v2(memory));
        CU(cuStreamDestroy_v2(stream));
        CU(cuStreamDestroy_v2(other));
}

static void forbidden_run(void *data)
{
        CUdeviceptr memory = 0;
        *(CUresult *)data = cuMemAlloc_v2(&memory, 4096);
}

static void calls_from_a_function_are_refused(void)
{
        CUresult result = CUDA_SUCCESS;
        CU(cuLaunchHostFunc(NULL, forbidden_run, &result));
        CU(cuCtxSynchronize());
        CHECK(result == CUDA_ERROR_NOT_PERMITTED || result == CUDA_ERROR_INVALID_CONTEXT, "cuMemAlloc answered %d",
              (int)result);
}

static void *thread_main(void *data)
{
        CU(cuCtxSetCurrent(context));
        for (int i = 0; i < 50; i++) {
                _Atomic(uint32_t) next = 0, wrong = 0;
                struct step step = {&next, 0, &wrong};
                CU(cuLaunchHostFunc(CU_STREAM_PER_THREAD, step_run, &step));
                CU(cuStreamSynchronize(CU_STREAM_PER_THREAD));
                CHECK(next == 1, "thread's function ran %u times", next);
                atomic_fetch_add((_Atomic(uint32_t) *)data, 1);
        }
        return NULL;
}

static void many_threads(void)
{
        _Atomic(uint32_t) done = 0;
        pthread_t threads[8];
        for (int i = 0; i < 8; i++)
                CHECK(pthread_create(&threads[i], NULL, thread_main, &done) == 0, "no thread");
        for (int i = 0; i < 8; i++)
                pthread_join(threads[i], NULL);
        CHECK(done == 400, "%u functions of threads", done);
}

/* Waiting for functions to come due costs no processor time. */
static void idle_costs_nothing(void)
{
        struct rusage before, after;
        getrusage(RUSAGE_SELF, &before);
        sleep_ms(1000);
        getrusage(RUSAGE_SELF, &after);
        const long used_us = (after.ru_utime.tv_sec - before.ru_utime.tv_sec) * 1000000l + after.ru_utime.tv_usec -
                             before.ru_utime.tv_usec + (after.ru_stime.tv_sec - before.ru_stime.tv_sec) * 1000000l +
                             after.ru_stime.tv_usec - before.ru_stime.tv_usec;
        CHECK(used_us < 20000, "an idle second cost %ld us of processor time", used_us);
}

/* A child of fork has no CUDA, and its end leaves the parent's functions alone. */
static void fork_disturbs_nothing(void)
{
        _Atomic(uint32_t) ran = 0;
        int status;
        (void)fflush(NULL);
        const pid_t child = fork();
        CHECK(child >= 0, "no child");
        if (child == 0)
                _exit(cuLaunchHostFunc(NULL, sleep_run, &ran) == CUDA_SUCCESS ? 1 : 0);
        CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child: %d",
              status);
        CU(cuLaunchHostFunc(NULL, sleep_run, &ran));
        CU(cuCtxSynchronize());
        CHECK(ran == 1, "after fork: %u", ran);
}

/* ---- a context that fails ---- */

static void never_run(void *data)
{
        *(_Atomic(uint32_t) *)data = 1;
}

static void failed_context(void)
{
        static struct told told; /* static: the callback may come when this function is over */
        static _Atomic(uint32_t) wrong;
        CUstream stream;
        CUdeviceptr data;
        CU(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
        CU(cuMemAlloc_v2(&data, 4096));
        void *parameters[] = {&data};
        spin(data, 5000000, stream); /* so that the callbacks are there before the context fails */
        CU(cuLaunchKernel(test_function(module, "write_out_of_bounds"), 1, 1, 1, 1, 1, 1, 0, stream, parameters, NULL));
        (void)cuLaunchHostFunc(stream, never_run, &wrong);
        const CUresult added = cuStreamAddCallback(stream, callback_run, &told, 0);
        CU_EXPECT(CUDA_ERROR_ILLEGAL_ADDRESS, cuStreamSynchronize(stream));
        for (int i = 0; i < 200 && added == CUDA_SUCCESS && told.runs == 0; i++)
                sleep_ms(5);
        CHECK(wrong == 0, "a host function ran behind a kernel that failed");
        CHECK(told.runs == 0 || told.status != CUDA_SUCCESS, "a callback was told success");
        printf("callbacks fault: callback %s, status %d\n", told.runs ? "ran" : "did not run", (int)told.status);
}

int main(int argc, char **argv)
{
        context = test_context();
        module = test_module();
        if (argc > 1 && strcmp(argv[1], "fault") == 0) {
                failed_context();
                return 0;
        }
        functions_run_between_their_neighbours();
        many_streams_keep_their_orders();
        callbacks_are_told_stream_and_status();
        work_piles_up_behind_a_slow_function();
        the_programs_locks_are_its_own();
        calls_from_a_function_are_refused();
        many_threads();
        idle_costs_nothing();
        fork_disturbs_nothing();
        puts("callbacks: all in order");
        return 0; /* with the callback thread asleep */
}
