/* What programs rely on beyond single calls. Each case is a process of its own: semantics CASE. */
#include "check.h"
#include <dlfcn.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Long enough that what follows it in another stream would be seen to overtake it. */
#define SLOW_ROUNDS 3000000u

static CUfunction fill_function, spin_function;

static void functions_load(void)
{
        CUmodule module = test_module();
        fill_function = test_function(module, "fill_u32");
        spin_function = test_function(module, "spin_rounds");
}

static CUdeviceptr words(uint64_t count)
{
        CUdeviceptr memory;
        CU(cuMemAlloc_v2(&memory, count * 4));
        CU(cuMemsetD8_v2(memory, 0xee, count * 4));
        CU(cuCtxSynchronize());
        return memory;
}

static void fill(CUdeviceptr out, uint32_t value, CUstream stream)
{
        uint64_t count = 1;
        void *parameters[] = {&out, &value, &count};
        CU(cuLaunchKernel(fill_function, 1, 1, 1, 1, 1, 1, 0, stream, parameters, NULL));
}

static void spin(CUdeviceptr out, CUstream stream)
{
        uint32_t seed = 1, rounds = SLOW_ROUNDS;
        void *parameters[] = {&out, &seed, &rounds};
        CU(cuLaunchKernel(spin_function, 1, 1, 1, 1, 1, 1, 0, stream, parameters, NULL));
}

static uint32_t word(CUdeviceptr memory)
{
        static _Thread_local uint32_t value;
        CU(cuMemcpyDtoH_v2(&value, memory, 4));
        return value;
}

/* ---- default streams ---- */

/* NULL of a _ptsz name is the thread's stream, which CU_STREAM_PER_THREAD names too; in order with the legacy stream.
 */
static void per_thread(void)
{
        CUdeviceptr slow = words(1), data = words(1);
        unsigned long long by_name, by_handle, legacy;
        CU(cuStreamGetId_ptsz(NULL, &by_name));
        CU(cuStreamGetId(CU_STREAM_PER_THREAD, &by_handle));
        CU(cuStreamGetId(NULL, &legacy));
        CHECK(by_name == by_handle && by_name != legacy, "ids %llu, %llu, %llu", by_name, by_handle, legacy);
        for (uint32_t i = 1; i <= 20; i++) {
                uint64_t count = 1;
                void *parameters[] = {&data, &i, &count};
                spin(slow, CU_STREAM_PER_THREAD);
                CU(cuLaunchKernel_ptsz(fill_function, 1, 1, 1, 1, 1, 1, 0, NULL, parameters, NULL));
                const uint32_t seen = word(data); /* the plain name's copy: the legacy stream, behind all of it */
                CHECK(seen == i, "round %u: the legacy stream saw %u of the thread's stream", i, seen);
                spin(slow, NULL);
                fill(data, 1000 + i, NULL);
                CU(cuMemcpyDtoDAsync_v2_ptsz(slow, data, 4, NULL)); /* the thread's stream, behind the legacy one */
                CU(cuStreamSynchronize_ptsz(NULL));
                CHECK(word(slow) == 1000 + i, "round %u: the thread's stream overtook the legacy one", i);
        }
}

struct twin {
        CUcontext context;
        CUdeviceptr slow, data;
        uint32_t value;
};

static void *twin_main(void *argument)
{
        struct twin *twin = argument;
        CU(cuCtxSetCurrent(twin->context));
        for (uint32_t i = 0; i < 50; i++) {
                fill(twin->data, twin->value + i, CU_STREAM_PER_THREAD);
                CU(cuStreamSynchronize(CU_STREAM_PER_THREAD));
                uint32_t seen = 0;
                CU(cuMemcpyDtoHAsync_v2(&seen, twin->data, 4, CU_STREAM_PER_THREAD));
                CU(cuStreamSynchronize(CU_STREAM_PER_THREAD));
                CHECK(seen == twin->value + i, "%u, expected %u", seen, twin->value + i);
        }
        return NULL;
}

/* Two threads' own streams do not wait for each other: one holds still until the other is through. */
static void per_thread_twins(CUcontext context)
{
        struct twin twin = {context, words(1), words(1), 77000};
        CUdeviceptr flag = words(1);
        pthread_t thread;
        int supported = 0;
        CU(cuMemsetD32_v2(flag, 0, 1));
        CU(cuDeviceGetAttribute(&supported, CU_DEVICE_ATTRIBUTE_CAN_USE_STREAM_WAIT_VALUE_NOR, 0));
        CU(cuStreamWaitValue32_v2(CU_STREAM_PER_THREAD, flag, 1, CU_STREAM_WAIT_VALUE_GEQ));
        CHECK(pthread_create(&thread, NULL, twin_main, &twin) == 0, "no thread");
        CHECK(pthread_join(thread, NULL) == 0, "no join");
        CU_EXPECT(CUDA_ERROR_NOT_READY, cuStreamQuery(CU_STREAM_PER_THREAD));
        CUstream other;
        CU(cuStreamCreate(&other, CU_STREAM_NON_BLOCKING));
        CU(cuStreamWriteValue32_v2(other, flag, 1, CU_STREAM_WRITE_VALUE_DEFAULT));
        CU(cuStreamSynchronize(CU_STREAM_PER_THREAD));
}

/* The legacy stream waits for blocking streams and they for it; non-blocking ones go their own way. */
static void legacy(void)
{
        CUstream blocking, free_running;
        CUdeviceptr flag = words(1), data = words(1), slow = words(1);
        CU(cuMemsetD32_v2(flag, 0, 1));
        CU(cuStreamCreate(&blocking, CU_STREAM_DEFAULT));
        CU(cuStreamCreate(&free_running, CU_STREAM_NON_BLOCKING));
        spin(slow, blocking);
        fill(data, 1, blocking);
        CHECK(word(data) == 1, "the legacy stream overtook a blocking one");
        spin(slow, NULL);
        fill(data, 2, NULL);
        CU(cuMemcpyDtoDAsync_v2(slow, data, 4, blocking));
        CU(cuStreamSynchronize(blocking));
        CHECK(word(slow) == 2, "a blocking stream overtook the legacy one");

        /* A non-blocking stream held still holds up neither; and runs while both are held. */
        CU(cuStreamWaitValue32_v2(free_running, flag, 1, CU_STREAM_WAIT_VALUE_GEQ));
        fill(data, 3, free_running);
        fill(data, 4, NULL);
        CHECK(word(data) == 4, "the legacy stream waited for a non-blocking one, or lost its work");
        CU(cuStreamSynchronize(blocking));
        CU_EXPECT(CUDA_ERROR_NOT_READY, cuStreamQuery(free_running));
        CUstream opener;
        CU(cuStreamCreate(&opener, CU_STREAM_NON_BLOCKING));
        CU(cuStreamWriteValue32_v2(opener, flag, 1, CU_STREAM_WRITE_VALUE_DEFAULT));
        CU(cuStreamSynchronize(free_running));
        CHECK(word(data) == 3, "the non-blocking stream's work is lost");

        CU(cuMemsetD32_v2(flag, 0, 1));
        CU(cuStreamSynchronize(NULL));
        CU(cuStreamWaitValue32_v2(blocking, flag, 1, CU_STREAM_WAIT_VALUE_GEQ));
        fill(data, 5, NULL); /* behind the blocking stream: waits with it */
        CU_EXPECT(CUDA_ERROR_NOT_READY, cuStreamQuery(NULL));
        fill(slow, 6, free_running);
        CU(cuStreamSynchronize(free_running));
        CU_EXPECT(CUDA_ERROR_NOT_READY, cuStreamQuery(NULL));
        CU(cuStreamWriteValue32_v2(opener, flag, 1, CU_STREAM_WRITE_VALUE_DEFAULT));
        CU(cuStreamSynchronize(NULL));
        CHECK(word(data) == 5 && word(slow) == 6, "%u and %u", word(data), word(slow));
}

/* ---- errors ---- */

static int child_status(pid_t child)
{
        int status;
        CHECK(waitpid(child, &status, 0) == child, "no child %d", (int)child);
        return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* Every call that needs the context's device gives the error of the fault; another process does not see it. */
static int faulting_child(void)
{
        CUstream stream;
        CUevent event;
        uint32_t host = 0;
        test_context();
        CUmodule module = test_module();
        CUdeviceptr data;
        CU(cuMemAlloc_v2(&data, 4096));
        CU(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
        CU(cuEventCreate(&event, CU_EVENT_DEFAULT));
        void *parameters[] = {&data};
        CUfunction writer = test_function(module, "write_out_of_bounds");
        CU(cuLaunchKernel(writer, 1, 1, 1, 1, 1, 1, 0, stream, parameters, NULL));
        CU_EXPECT(CUDA_ERROR_ILLEGAL_ADDRESS, cuStreamSynchronize(stream));
        for (int i = 0; i < 3; i++) {
                CU_EXPECT(CUDA_ERROR_ILLEGAL_ADDRESS, cuCtxSynchronize());
                CU_EXPECT(CUDA_ERROR_ILLEGAL_ADDRESS, cuStreamSynchronize(NULL));
                CU_EXPECT(CUDA_ERROR_ILLEGAL_ADDRESS, cuStreamQuery(stream));
                CU_EXPECT(CUDA_ERROR_ILLEGAL_ADDRESS, cuMemcpyDtoH_v2(&host, data, 4));
                CU_EXPECT(CUDA_ERROR_ILLEGAL_ADDRESS, cuMemcpyHtoD_v2(data, &host, 4));
                CU_EXPECT(CUDA_ERROR_ILLEGAL_ADDRESS, cuMemsetD32_v2(data, 1, 1));
                CU_EXPECT(CUDA_ERROR_ILLEGAL_ADDRESS,
                          cuLaunchKernel(writer, 1, 1, 1, 1, 1, 1, 0, NULL, parameters, NULL));
                CU_EXPECT(CUDA_ERROR_ILLEGAL_ADDRESS, cuEventRecord(event, stream));
        }
        CUdeviceptr more;
        CU_EXPECT(CUDA_ERROR_ILLEGAL_ADDRESS, cuMemAlloc_v2(&more, 4096));
        return 0;
}

static void errors(void)
{
        CUdeviceptr data = words(1);
        char name[] = "semantics";
        char *const arguments[] = {name, (char[]){"faulting"}, NULL};
        fill(data, 5, NULL);
        fflush(NULL);
        const pid_t child = fork();
        CHECK(child >= 0, "fork");
        if (child == 0) {
                execv("/proc/self/exe", arguments);
                _exit(99);
        }
        for (uint32_t i = 0; i < 200; i++) {
                fill(data, i, NULL);
                CHECK(word(data) == i, "%u beside a faulting process", i);
        }
        const int status = child_status(child);
        CHECK(status == 0, "the faulting process ended with %d", status);
        fill(data, 6, NULL);
        CHECK(word(data) == 6, "this process after another's fault");
        /* An error of one call does not stick. */
        CUstream stream;
        CU_EXPECT(CUDA_ERROR_INVALID_VALUE, cuStreamCreate(&stream, 0x7fff));
        CU_EXPECT(CUDA_ERROR_INVALID_VALUE, cuMemAlloc_v2(&data, 0));
        CU(cuCtxSynchronize());
}

/* ---- fork ---- */

static void child_asks_everything(CUcontext context, CUdeviceptr data, CUstream stream)
{
        CUdevice device;
        CUcontext found;
        CUdeviceptr more;
        int number;
        void *host;
        size_t size;
        CUevent event;
        CUmodule module;
        CU_EXPECT(CUDA_ERROR_NOT_INITIALIZED, cuInit(0));
        CU_EXPECT(CUDA_ERROR_NOT_INITIALIZED, cuDeviceGet(&device, 0));
        CU_EXPECT(CUDA_ERROR_NOT_INITIALIZED, cuDeviceGetCount(&number));
        CU_EXPECT(CUDA_ERROR_NOT_INITIALIZED, cuDeviceGetAttribute(&number, CU_DEVICE_ATTRIBUTE_WARP_SIZE, 0));
        CU_EXPECT(CUDA_ERROR_NOT_INITIALIZED, cuDevicePrimaryCtxRetain(&found, 0));
        CU_EXPECT(CUDA_ERROR_NOT_INITIALIZED, cuCtxGetCurrent(&found));
        CU_EXPECT(CUDA_ERROR_NOT_INITIALIZED, cuCtxSetCurrent(context));
        CU_EXPECT(CUDA_ERROR_NOT_INITIALIZED, cuCtxGetDevice(&device));
        CU_EXPECT(CUDA_ERROR_NOT_INITIALIZED, cuCtxSynchronize());
        CU_EXPECT(CUDA_ERROR_NOT_INITIALIZED, cuCtxDestroy_v2(context));
        CU_EXPECT(CUDA_ERROR_NOT_INITIALIZED, cuMemAlloc_v2(&more, 1000));
        CU_EXPECT(CUDA_ERROR_NOT_INITIALIZED, cuMemAllocHost_v2(&host, 1000));
        CU_EXPECT(CUDA_ERROR_NOT_INITIALIZED, cuMemFree_v2(data));
        CU_EXPECT(CUDA_ERROR_NOT_INITIALIZED, cuMemGetInfo_v2(&size, &size));
        CU_EXPECT(CUDA_ERROR_NOT_INITIALIZED, cuMemsetD32_v2(data, 0, 1));
        CU_EXPECT(CUDA_ERROR_NOT_INITIALIZED, cuMemcpyDtoH_v2(&number, data, 4));
        CU_EXPECT(CUDA_ERROR_NOT_INITIALIZED, cuModuleLoadData(&module, test_kernels_ptx));
        CU_EXPECT(CUDA_ERROR_NOT_INITIALIZED, cuStreamCreate(&stream, 0));
        CU_EXPECT(CUDA_ERROR_NOT_INITIALIZED, cuEventCreate(&event, 0));
        CU_EXPECT(CUDA_ERROR_NOT_INITIALIZED, cuStreamSynchronize(NULL));
        CU_EXPECT(CUDA_ERROR_NOT_INITIALIZED, cuLaunchKernel(fill_function, 1, 1, 1, 1, 1, 1, 0, NULL, NULL, NULL));
        CU_EXPECT(CUDA_ERROR_NOT_INITIALIZED, cuProfilerStart());
        CU_EXPECT(CUDA_ERROR_NOT_INITIALIZED, cuDevicePrimaryCtxRelease_v2(0));
}

/* Children that end by exit(), by _exit(), by a signal; while the parent keeps launching. */
static void forks(CUcontext context)
{
        CUdeviceptr data = words(1);
        CUstream stream;
        CU(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
        for (uint32_t round = 0; round < 12; round++) {
                fill(data, round, stream); /* in flight across the fork */
                fflush(NULL);
                const pid_t child = fork();
                CHECK(child >= 0, "fork");
                if (child == 0) {
                        child_asks_everything(context, data, stream);
                        if (round % 3 == 0)
                                exit(7);
                        if (round % 3 == 1)
                                _exit(7);
                        abort();
                }
                for (uint32_t i = 0; i < 50; i++)
                        fill(data, round * 1000 + i, stream);
                CU(cuStreamSynchronize(stream));
                CHECK(word(data) == round * 1000 + 49, "round %u: %u", round, word(data));
                const int status = child_status(child);
                CHECK(status == (round % 3 == 2 ? 128 + SIGABRT : 7), "round %u: the child ended with %d", round,
                      status);
        }
        CHECK(word(data) == 11049, "after the children: %u", word(data));
}

/* NVML's library does survive a fork natively; through libcuda it would use the parent's channel. */
static void fork_nvml(void)
{
        void *nvml = dlopen("libnvidia-ml.so.1", RTLD_NOW);
        CHECK(nvml != NULL, "%s", dlerror());
        int (*init)(void), (*count)(unsigned *);
        *(void **)&init = dlsym(nvml, "nvmlInit_v2");
        *(void **)&count = dlsym(nvml, "nvmlDeviceGetCount_v2");
        unsigned devices = 0, in_child = 0;
        CHECK(init != NULL && count != NULL, "names of NVML are missing");
        CHECK(init() == 0 && count(&devices) == 0 && devices >= 1, "NVML does not start: %u devices", devices);
        CUdeviceptr data = words(1);
        fflush(NULL);
        const pid_t child = fork();
        CHECK(child >= 0, "fork");
        if (child == 0) {
                const int result = count(&in_child);
                CHECK(result != 0 || in_child == devices, "NVML in the child: %d, %u devices", result, in_child);
                exit(0);
        }
        const int status = child_status(child);
        CHECK(status == 0, "the child ended with %d", status);
        fill(data, 9, NULL);
        CHECK(word(data) == 9 && count(&devices) == 0, "the parent after its child's NVML");
}

/* ---- dlopen, dlclose ---- */

static void *symbol(void *library, const char *name)
{
        void *found = dlsym(library, name);
        CHECK(found != NULL, "%s", dlerror());
        return found;
}

/* Through dlopen alone, as the runtime does it; closed and opened again the driver is as it was. */
static void reopened(void)
{
        CUdeviceptr first = 0, second = 0;
        for (int round = 0; round < 3; round++) {
                void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
                CUcontext context;
                CHECK(library != NULL, "%s", dlerror());
                CUresult (*init)(unsigned), (*retain)(CUcontext *, CUdevice), (*set)(CUcontext);
                CUresult (*allocate)(CUdeviceptr *, size_t), (*fill_words)(CUdeviceptr, unsigned, size_t);
                CUresult (*read_back)(void *, CUdeviceptr, size_t);
                *(void **)&init = symbol(library, "cuInit");
                *(void **)&retain = symbol(library, "cuDevicePrimaryCtxRetain");
                *(void **)&set = symbol(library, "cuCtxSetCurrent");
                *(void **)&allocate = symbol(library, "cuMemAlloc_v2");
                *(void **)&fill_words = symbol(library, "cuMemsetD32_v2");
                *(void **)&read_back = symbol(library, "cuMemcpyDtoH_v2");
                uint32_t value = 0;
                CU(init(0));
                CU(retain(&context, 0));
                CU(set(context));
                CU(allocate(round == 0 ? &first : &second, 4096));
                CU(fill_words(round == 0 ? first : second, 40 + (unsigned)round, 1024));
                CU(read_back(&value, round == 0 ? first : second, 4));
                CHECK(value == 40 + (uint32_t)round, "round %d: %u", round, value);
                CHECK(dlclose(library) == 0, "%s", dlerror());
        }
}

/* ---- threads ---- */

static void *short_main(void *argument)
{
        struct twin *twin = argument;
        CUstream stream; /* left behind, as the context on this thread's stack is */
        uint32_t seen = 0;
        CU(cuCtxSetCurrent(twin->context));
        CU(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
        fill(twin->data, twin->value, stream);
        CU(cuMemcpyDtoHAsync_v2(&seen, twin->data, 4, stream));
        CU(cuStreamSynchronize(stream));
        CHECK(seen == twin->value, "thread %u read %u", twin->value, seen);
        if (twin->value % 2 != 0)
                CU(cuStreamDestroy_v2(stream));
        return NULL;
}

/* A thousand threads, eight at a time, none of which tidies up. */
static void short_threads(CUcontext context)
{
        enum { AT_ONCE = 8, ROUNDS = 125 };
        struct twin twins[AT_ONCE];
        pthread_t threads[AT_ONCE];
        for (int i = 0; i < AT_ONCE; i++)
                twins[i] = (struct twin){.context = context, .data = words(1)};
        for (uint32_t round = 0; round < ROUNDS; round++) {
                for (uint32_t i = 0; i < AT_ONCE; i++) {
                        twins[i].value = round * AT_ONCE + i;
                        CHECK(pthread_create(&threads[i], NULL, short_main, &twins[i]) == 0, "no thread");
                }
                for (uint32_t i = 0; i < AT_ONCE; i++)
                        CHECK(pthread_join(threads[i], NULL) == 0, "no join");
        }
}

static CUdeviceptr exit_data;
static CUcontext exit_context;
static sem_t exit_started;

static void *launching_main(void *argument)
{
        (void)argument;
        CU(cuCtxSetCurrent(exit_context));
        for (uint64_t i = 0;; i++) { /* until the process is gone */
                uint64_t count = 1;
                uint32_t value = 1;
                void *parameters[] = {&exit_data, &value, &count};
                const CUresult result =
                        cuLaunchKernel(fill_function, 1, 1, 1, 1, 1, 1, 0, CU_STREAM_PER_THREAD, parameters, NULL);
                if (result != CUDA_SUCCESS) { /* the process ends */
                        CHECK(result == CUDA_ERROR_DEINITIALIZED, "a launch at exit answered %d", (int)result);
                        pause();
                }
                if (i == 100)
                        sem_post(&exit_started);
        }
        return NULL;
}

static void *exiting_main(void *argument)
{
        (void)argument;
        for (int i = 0; i < 4; i++)
                sem_wait(&exit_started);
        puts("semantics: exit from a thread");
        exit(0);
}

/* exit() in a thread that is not the first, while four others launch. */
static void thread_exit(CUcontext context)
{
        pthread_t thread;
        exit_context = context;
        exit_data = words(1);
        CHECK(sem_init(&exit_started, 0, 0) == 0, "no semaphore");
        for (int i = 0; i < 4; i++)
                CHECK(pthread_create(&thread, NULL, launching_main, NULL) == 0, "no thread");
        CHECK(pthread_create(&thread, NULL, exiting_main, NULL) == 0, "no thread");
        for (;;)
                pause();
}

static void at_exit(void)
{
        uint32_t value = 0;
        const CUresult set = cuMemsetD32_v2(exit_data, 123, 1), copied = cuMemcpyDtoH_v2(&value, exit_data, 4);
        /* A handler made before cuInit may find the driver gone; one that finds it finds it whole. */
        if (copied == CUDA_SUCCESS && value == 123) {
                CU(cuMemFree_v2(exit_data));
                CU(cuCtxSynchronize());
                CU(cuDevicePrimaryCtxRelease_v2(0));
        } else {
                fprintf(stderr, "atexit: set answered %d, copy %d, value %u\n", (int)set, (int)copied, value);
                _exit(copied == CUDA_ERROR_DEINITIALIZED ? 0 : 1);
        }
}

/* ---- main ---- */

static void run(const char *name, CUcontext context)
{
        if (strcmp(name, "per_thread") == 0)
                per_thread();
        else if (strcmp(name, "per_thread_twins") == 0)
                per_thread_twins(context);
        else if (strcmp(name, "legacy") == 0)
                legacy();
        else if (strcmp(name, "errors") == 0)
                errors();
        else if (strcmp(name, "forks") == 0)
                forks(context);
        else if (strcmp(name, "fork_nvml") == 0)
                fork_nvml();
        else if (strcmp(name, "short_threads") == 0)
                short_threads(context);
        else if (strcmp(name, "thread_exit") == 0)
                thread_exit(context);
        else
                CHECK(strcmp(name, "atexit") == 0, "no case %s", name);
}

int main(int count, char **arguments)
{
        const char *name = count > 1 ? arguments[1] : "";
        if (strcmp(name, "faulting") == 0)
                return faulting_child();
        if (strcmp(name, "reopened") == 0) {
                reopened();
                puts("semantics: reopened");
                return 0;
        }
        CUcontext context = test_context();
        functions_load();
        if (strcmp(name, "atexit") == 0) {
                exit_data = words(1);
                CHECK(atexit(at_exit) == 0, "atexit");
        }
        run(name, context);
        printf("semantics: %s\n", name);
        return 0;
}
