/* Waiting and asking: what is synchronized has happened, by whichever way it was found out, also when other threads
 * send meanwhile, and for work that was sent by another thread. Pinned memory shows it without a copy. */
#include "check.h"
#include <pthread.h>
#include <stdatomic.h>

enum { ROUNDS = 2000, SLOW_ROUNDS = 2000000 };

static CUcontext context;
static CUfunction increment, spin;

static void launch_increment(CUstream stream, CUdeviceptr counter)
{
        void *parameters[] = {&counter};

        CU(cuLaunchKernel(increment, 1, 1, 1, 1, 1, 1, 0, stream, parameters, NULL));
}

/* Some milliseconds on hardware. */
static void launch_slow(CUstream stream, CUdeviceptr out)
{
        uint32_t seed = 1, rounds = SLOW_ROUNDS;
        void *parameters[] = {&out, &seed, &rounds};

        CU(cuLaunchKernel(spin, 1, 1, 1, 1, 1, 1, 0, stream, parameters, NULL));
}

static void streams_events_and_contexts(CUstream stream)
{
        CUdeviceptr device;
        volatile uint32_t *word = test_pinned_word(&device);
        CUevent event;
        uint32_t sent = 0;

        CU(cuEventCreate(&event, CU_EVENT_DISABLE_TIMING));
        for (int round = 0; round < 50; round++) {
                launch_increment(stream, device);
                CU(cuStreamSynchronize(stream));
                CHECK(*word == ++sent, "stream: %u of %u", *word, sent);
                CU(cuStreamSynchronize(stream)); /* nothing more */
                CU(cuStreamQuery(stream));
                launch_increment(stream, device);
                CU(cuEventRecord(event, stream));
                CU(cuEventSynchronize(event));
                CHECK(*word == ++sent, "event: %u of %u", *word, sent);
                CU(cuEventQuery(event));
                launch_increment(stream, device);
                CU(cuCtxSynchronize());
                CHECK(*word == ++sent, "context: %u of %u", *word, sent);
                CU(cuCtxSynchronize());
                launch_increment(stream, device);
                while (cuStreamQuery(stream) == CUDA_ERROR_NOT_READY)
                        ;
                CHECK(*word == ++sent, "query: %u of %u", *word, sent);
        }
        /* An event that is recorded again is not done because it was. */
        launch_slow(stream, device + 1024);
        launch_increment(stream, device);
        CU(cuEventRecord(event, stream));
        CU(cuEventSynchronize(event));
        CHECK(*word == ++sent, "recorded again: %u of %u", *word, sent);
        /* Nor is it where something was sent to its stream or to another one since. */
        launch_slow(stream, device + 1024);
        launch_increment(stream, device);
        CU(cuEventRecord(event, stream));
        launch_slow(stream, device + 1024);
        CU(cuEventSynchronize(event));
        CHECK(*word == ++sent, "with more behind it: %u of %u", *word, sent);
        launch_increment(stream, device);
        CU(cuEventRecord(event, stream));
        launch_slow(NULL, device + 1024);
        CU(cuEventSynchronize(event));
        CHECK(*word == ++sent, "with more beside it: %u of %u", *word, sent);
        CU(cuEventDestroy_v2(event));
        CU(cuMemFreeHost((void *)(uintptr_t)word));
}

/* Longer than anybody spins. */
static void slow_work(CUstream stream)
{
        CUdeviceptr device;
        volatile uint32_t *word = test_pinned_word(&device);

        for (uint32_t round = 1; round <= 3; round++) {
                launch_slow(stream, device + 1024);
                launch_increment(stream, device);
                if (round == 2)
                        CU(cuCtxSynchronize());
                else
                        CU(cuStreamSynchronize(stream));
                CHECK(*word == round, "%u of %u", *word, round);
        }
        CU(cuMemFreeHost((void *)(uintptr_t)word));
}

/* The context's synchronization waits for streams that do not wait for the legacy one. */
static void independent_stream(void)
{
        CUdeviceptr device;
        volatile uint32_t *word = test_pinned_word(&device);
        CUstream stream;

        CU(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
        for (uint32_t round = 1; round <= 20; round++) {
                launch_slow(stream, device + 1024);
                launch_increment(stream, device);
                CU(cuCtxSynchronize());
                CHECK(*word == round, "%u of %u", *word, round);
        }
        CU(cuStreamDestroy_v2(stream));
        CU(cuMemFreeHost((void *)(uintptr_t)word));
}

/* One thread launches and tells how far it is, the other waits for it on the same stream, and a third sends to a stream
 * of its own all the time. */
static struct {
        CUstream stream;
        CUdeviceptr device, other;
        volatile uint32_t *word;
        _Atomic(uint32_t) sent, seen, over;
} shared;

static void *launch_all(void *argument)
{
        (void)argument;
        CU(cuCtxSetCurrent(context));
        for (uint32_t i = 1; i <= ROUNDS; i++) {
                launch_increment(shared.stream, shared.device);
                atomic_store(&shared.sent, i);
                while (i % 7 == 0 && atomic_load(&shared.seen) < i)
                        ;
        }
        return NULL;
}

static void *send_elsewhere(void *argument)
{
        CUstream own;

        (void)argument;
        CU(cuCtxSetCurrent(context));
        CU(cuStreamCreate(&own, 0));
        while (!atomic_load(&shared.over)) {
                CU(cuMemsetD32Async(shared.other, 1, 16, own));
                CU(cuStreamSynchronize(own));
        }
        CU(cuStreamDestroy_v2(own));
        return NULL;
}

static void across_threads(void)
{
        pthread_t launcher, noise;
        uint32_t sent;

        shared.word = test_pinned_word(&shared.device);
        CU(cuMemAlloc_v2(&shared.other, 64));
        CU(cuStreamCreate(&shared.stream, 0));
        CHECK(pthread_create(&launcher, NULL, launch_all, NULL) == 0, "thread");
        CHECK(pthread_create(&noise, NULL, send_elsewhere, NULL) == 0, "thread");
        do {
                sent = atomic_load(&shared.sent);
                CU(cuStreamSynchronize(shared.stream));
                CHECK(*shared.word >= sent, "%u of %u", *shared.word, sent);
                atomic_store(&shared.seen, sent);
        } while (sent < ROUNDS);
        atomic_store(&shared.over, 1);
        CHECK(pthread_join(launcher, NULL) == 0 && pthread_join(noise, NULL) == 0, "join");
        CU(cuStreamDestroy_v2(shared.stream));
        CU(cuMemFree_v2(shared.other));
        CU(cuMemFreeHost((void *)(uintptr_t)shared.word));
}

/* A thread without a context of its own asks by handles, which have theirs (DataLoader's pinning thread does). */
static void *ask_without_context(void *argument)
{
        CUevent event = argument;
        CUcontext current;

        uint32_t value = 0;

        CU(cuCtxSetCurrent(NULL));
        launch_increment(shared.stream, shared.device);
        CU(cuMemcpyDtoDAsync_v2(shared.device + 64, shared.device, 4, shared.stream));
        CU(cuMemsetD32Async(shared.device, 40, 1, shared.stream));
        CU(cuMemcpyDtoHAsync_v2(&value, shared.device + 64, 4, shared.stream));
        CU(cuEventRecord(event, shared.stream));
        CU(cuStreamWaitEvent(shared.stream, event, 0));
        CU(cuStreamSynchronize(shared.stream));
        CHECK(value == *shared.word - 39, "%u copied, %u there", value, *shared.word);
        CU_EXPECT(CUDA_ERROR_INVALID_CONTEXT, cuMemsetD32_v2(shared.device, 1, 1));
        CU(cuEventSynchronize(event));
        CU(cuEventQuery(event));
        CU(cuStreamSynchronize(shared.stream));
        CU(cuStreamQuery(shared.stream));
        CU_EXPECT(CUDA_ERROR_INVALID_CONTEXT, cuStreamSynchronize(NULL));
        CU_EXPECT(CUDA_ERROR_INVALID_CONTEXT, cuCtxSynchronize());
        CU(cuCtxGetCurrent(&current));
        CHECK(current == NULL, "a context stayed behind");
        return NULL;
}

static void without_a_context(void)
{
        pthread_t thread;
        CUevent event;

        shared.word = test_pinned_word(&shared.device);
        CU(cuStreamCreate(&shared.stream, 0));
        CU(cuEventCreate(&event, 0));
        CU(cuEventRecord(event, shared.stream));
        CHECK(pthread_create(&thread, NULL, ask_without_context, event) == 0 && pthread_join(thread, NULL) == 0,
              "thread");
        CU(cuEventDestroy_v2(event));
        CU(cuStreamDestroy_v2(shared.stream));
        CU(cuMemFreeHost((void *)(uintptr_t)shared.word));
}

/* What was freed is free: the driver's own count says so at once. */
static void frees_are_seen(void)
{
        size_t before, with, after, total;
        CUdeviceptr memory[8];

        CU(cuMemGetInfo_v2(&before, &total));
        for (int i = 0; i < 8; i++)
                CU(cuMemAlloc_v2(&memory[i], 64 << 20));
        CU(cuMemGetInfo_v2(&with, &total));
        for (int i = 0; i < 8; i++)
                CU(cuMemFree_v2(memory[i]));
        CU(cuMemGetInfo_v2(&after, &total));
        CHECK(with + ((size_t)500 << 20) < before && after > with + ((size_t)500 << 20), "%zu, %zu, %zu free", before,
              with, after);
}

/* Last, as it breaks the context: the fault of a kernel comes to whoever waits, and stays. */
static void a_fault_is_told(CUmodule module)
{
        CUdeviceptr nowhere = 0x10;
        CUfunction fault = test_function(module, "write_out_of_bounds");
        CUresult first;
        CUstream stream;
        void *parameters[] = {&nowhere};

        CU(cuStreamCreate(&stream, 0));
        CU(cuStreamSynchronize(stream));
        CU(cuLaunchKernel(fault, 1, 1, 1, 1, 1, 1, 0, stream, parameters, NULL));
        first = cuStreamSynchronize(stream);
        CHECK(first == CUDA_ERROR_ILLEGAL_ADDRESS || first == CUDA_ERROR_LAUNCH_FAILED, "%d", (int)first);
        CU_EXPECT(first, cuStreamSynchronize(stream));
        CU_EXPECT(first, cuCtxSynchronize());
}

/* A kernel writes to the program's memory, late; an upload that comes behind it in its stream, or that waits for its
 * stream, returns when it has. Sizes for each way that the bytes may take. */
static void uploads_wait_for_what_came_before(CUstream stream)
{
        static const size_t sizes[] = {4, 3000, 3001, 65536, 65537, 1 << 20, 5 << 20};
        const size_t most = sizes[sizeof(sizes) / sizeof(sizes[0]) - 1];
        uint8_t *source = calloc(1, most);
        CUDA_MEMCPY2D pitched = {.srcMemoryType = CU_MEMORYTYPE_HOST,
                                 .srcHost = source,
                                 .srcPitch = 512,
                                 .dstMemoryType = CU_MEMORYTYPE_DEVICE,
                                 .dstPitch = 1024,
                                 .WidthInBytes = 300,
                                 .Height = 20};
        CUdeviceptr device, word_device;
        volatile uint32_t *word = test_pinned_word(&word_device);
        uint32_t sent = *word;

        CHECK(source != NULL, "out of memory");
        CU(cuMemAlloc_v2(&device, most));
        pitched.dstDevice = device;
        for (size_t i = 0; i <= sizeof(sizes) / sizeof(sizes[0]); i++) {
                launch_slow(stream, device);
                launch_increment(stream, word_device);
                if (i < sizeof(sizes) / sizeof(sizes[0]))
                        CU(cuMemcpyHtoD_v2(device, source, sizes[i]));
                else
                        CU(cuMemcpy2D_v2(&pitched));
                CHECK(*word == ++sent, "upload %zu: %u of %u", i, *word, sent);
                CU(cuMemcpyHtoD_v2(device, source, 4)); /* follows nothing but itself */
                CU(cuMemcpyDtoH_v2(source, device, 4));
                CU(cuStreamQuery(NULL));
                CU(cuMemcpyHtoD_v2(device, source, 4)); /* follows nothing at all */
                launch_increment(stream, word_device);
                CU(cuMemcpyHtoD_v2(device, source, 4));
                CHECK(*word == ++sent, "upload behind a read, %zu: %u of %u", i, *word, sent);
        }
        CU(cuMemFree_v2(device));
        CU(cuMemFreeHost((void *)word));
        free(source);
}

int main(void)
{
        CUmodule module;
        CUstream stream;

        context = test_context();
        module = test_module();
        increment = test_function(module, "increment");
        spin = test_function(module, "spin_rounds");
        CU(cuStreamCreate(&stream, 0));
        streams_events_and_contexts(stream);
        streams_events_and_contexts(NULL);
        streams_events_and_contexts(CU_STREAM_PER_THREAD);
        slow_work(stream);
        slow_work(NULL);
        uploads_wait_for_what_came_before(stream);
        uploads_wait_for_what_came_before(NULL);
        across_threads();
        independent_stream();
        uploads_wait_for_what_came_before(NULL);
        streams_events_and_contexts(NULL); /* now with a stream that goes its own way */
        CU(cuStreamDestroy_v2(stream));
        without_a_context();
        frees_are_seen();
        a_fault_is_told(module);
        puts("synchronize: right");
        return 0;
}
