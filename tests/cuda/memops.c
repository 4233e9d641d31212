/* Stream memory operations: streams wait for words and write them, in device and pinned memory. */
#include "check.h"
#include <stdatomic.h>
#include <stdbool.h>
#include <time.h>

static CUdevice device;

static bool has(CUdevice_attribute attribute)
{
        int value = 0;
        CU(cuDeviceGetAttribute(&value, attribute, device));
        return value != 0;
}

static void sleep_ms(long ms)
{
        const struct timespec pause = {0, ms * 1000000};
        nanosleep(&pause, NULL);
}

/* A stream waits for a word of `memory` that this program writes, then writes one that this program reads. */
static void program_and_stream(uint64_t *words)
{
        CUstream stream;
        const CUdeviceptr at = (CUdeviceptr)(uintptr_t)words;
        atomic_store((_Atomic(uint64_t) *)&words[0], 0);
        atomic_store((_Atomic(uint64_t) *)&words[1], 0);
        atomic_store((_Atomic(uint64_t) *)&words[2], 0);
        CU(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
        CU(cuStreamWriteValue32_v2(stream, at + 16, 5, CU_STREAM_WRITE_VALUE_DEFAULT));
        CU(cuStreamWaitValue64_v2(stream, at, 1ull << 40, CU_STREAM_WAIT_VALUE_GEQ));
        CU(cuStreamWriteValue64_v2(stream, at + 8, 0x123456789abcull, CU_STREAM_WRITE_VALUE_DEFAULT));
        sleep_ms(20);
        CU_EXPECT(CUDA_ERROR_NOT_READY, cuStreamQuery(stream));
        CHECK(atomic_load((_Atomic(uint64_t) *)&words[1]) == 0, "the stream did not wait");
        atomic_store((_Atomic(uint64_t) *)&words[0], (1ull << 40) - 1); /* not yet */
        sleep_ms(5);
        CU_EXPECT(CUDA_ERROR_NOT_READY, cuStreamQuery(stream));
        atomic_store((_Atomic(uint64_t) *)&words[0], (1ull << 40) + 1);
        CU(cuStreamSynchronize(stream));
        CHECK(words[1] == 0x123456789abcull, "wrote 0x%" PRIx64, words[1]);
        CHECK((uint32_t)words[2] == 5 && words[2] >> 32 == 0, "wrote 0x%" PRIx64, words[2]);
        CU(cuStreamDestroy_v2(stream));
}

/* Two streams take turns through words of device memory. */
static void stream_and_stream(void)
{
        enum { TURNS = 50 };
        CUstream a, b;
        CUdeviceptr words;
        uint32_t result[2] = {0, 0};
        CU(cuStreamCreate(&a, CU_STREAM_NON_BLOCKING));
        CU(cuStreamCreate(&b, CU_STREAM_NON_BLOCKING));
        CU(cuMemAlloc_v2(&words, 4096));
        CU(cuMemsetD8_v2(words, 0, 4096));
        CU(cuCtxSynchronize());
        for (uint32_t turn = 1; turn <= TURNS; turn++) {
                CU(cuStreamWaitValue32_v2(b, words, turn, CU_STREAM_WAIT_VALUE_EQ));
                CU(cuStreamWriteValue32_v2(b, words + 4, turn, CU_STREAM_WRITE_VALUE_DEFAULT));
                CU(cuStreamWriteValue32_v2(a, words, turn, CU_STREAM_WRITE_VALUE_DEFAULT));
                CU(cuStreamWaitValue32_v2(a, words + 4, turn, CU_STREAM_WAIT_VALUE_GEQ));
        }
        CU(cuStreamSynchronize(a));
        CU(cuStreamSynchronize(b));
        CU(cuMemcpyDtoH_v2(result, words, sizeof(result)));
        CHECK(result[0] == TURNS && result[1] == TURNS, "after %d turns: %u and %u", TURNS, result[0], result[1]);
        CU(cuMemFree_v2(words));
        CU(cuStreamDestroy_v2(a));
        CU(cuStreamDestroy_v2(b));
}

/* Work in the legacy stream, then a wait in a blocking one: a third stream's work waits for the first alone, whatever
 * measures them. */
static void a_wait_delays_no_third_stream(uint32_t *pinned)
{
        enum { TURNS = 300 };
        CUstream waits, works;
        CUevent mark;
        CUdeviceptr memory;
        atomic_store((_Atomic(uint32_t) *)pinned, 0);
        CU(cuStreamCreate(&waits, CU_STREAM_DEFAULT));
        CU(cuStreamCreate(&works, CU_STREAM_DEFAULT));
        CU(cuEventCreate(&mark, CU_EVENT_DISABLE_TIMING));
        CU(cuMemAlloc_v2(&memory, 4096));
        for (uint32_t turn = 1; turn <= TURNS; turn++) {
                CU(cuMemsetD32Async(memory, turn, 1, NULL));
                CU(cuEventRecord(mark, NULL));
                CU(cuStreamWaitValue32_v2(waits, (CUdeviceptr)(uintptr_t)pinned, turn, CU_STREAM_WAIT_VALUE_GEQ));
                CU(cuMemsetD32Async(memory + 4, turn, 1, works));
                CU(cuStreamSynchronize(works));
                CU_EXPECT(CUDA_ERROR_NOT_READY, cuStreamQuery(waits));
                atomic_store((_Atomic(uint32_t) *)pinned, turn);
                CU(cuStreamSynchronize(waits));
        }
        CU(cuMemFree_v2(memory));
        CU(cuEventDestroy_v2(mark));
        CU(cuStreamDestroy_v2(waits));
        CU(cuStreamDestroy_v2(works));
}

static void conditions(uint32_t *pinned)
{
        CUstream stream;
        const CUdeviceptr at = (CUdeviceptr)(uintptr_t)pinned;
        CU(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
        *pinned = 8;
        CU(cuStreamWaitValue32_v2(stream, at, 0xc, CU_STREAM_WAIT_VALUE_AND));
        CU(cuStreamSynchronize(stream));
        *pinned = 0xffffffff; /* cyclic: "before" 3 */
        CU(cuStreamWaitValue32_v2(stream, at, 3, CU_STREAM_WAIT_VALUE_GEQ));
        sleep_ms(5);
        CU_EXPECT(CUDA_ERROR_NOT_READY, cuStreamQuery(stream));
        atomic_store((_Atomic(uint32_t) *)pinned, 4);
        CU(cuStreamSynchronize(stream));
        if (has(CU_DEVICE_ATTRIBUTE_CAN_USE_STREAM_WAIT_VALUE_NOR)) {
                *pinned = 0xfffffff0;
                CU(cuStreamWaitValue32_v2(stream, at, 0xe, CU_STREAM_WAIT_VALUE_NOR));
                CU(cuStreamSynchronize(stream)); /* the lowest bit is in neither */
        }
        CU(cuStreamDestroy_v2(stream));
}

static CUstreamBatchMemOpParams write_of(CUdeviceptr address, uint64_t value, bool wide)
{
        CUstreamBatchMemOpParams params;
        memset(&params, 0, sizeof(params));
        params.writeValue.operation = wide ? CU_STREAM_MEM_OP_WRITE_VALUE_64 : CU_STREAM_MEM_OP_WRITE_VALUE_32;
        params.writeValue.address = address;
        params.writeValue.value64 = value;
        return params;
}

static CUstreamBatchMemOpParams wait_of(CUdeviceptr address, uint32_t value)
{
        CUstreamBatchMemOpParams params;
        memset(&params, 0, sizeof(params));
        params.waitValue.operation = CU_STREAM_MEM_OP_WAIT_VALUE_32;
        params.waitValue.address = address;
        params.waitValue.value = value;
        params.waitValue.flags = CU_STREAM_WAIT_VALUE_GEQ;
        return params;
}

/* Batches: a short one that waits for the program, and one as long as they get. */
static void batches(uint64_t *pinned, bool wide)
{
        enum { MANY = 200 };
        static CUstreamBatchMemOpParams operations[MANY];
        static uint64_t result[MANY];
        CUstream stream;
        CUdeviceptr words;
        const CUdeviceptr at = (CUdeviceptr)(uintptr_t)pinned;
        memset(pinned, 0, 64);
        CU(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
        CU(cuMemAlloc_v2(&words, sizeof(result)));
        CU(cuMemsetD8_v2(words, 0, sizeof(result)));
        CU(cuCtxSynchronize());
        operations[0] = write_of(at + 8, 77, false);
        operations[1] = wait_of(at, 9);
        operations[2] = write_of(words, 0x1122334455667788ull, wide);
        operations[3] = write_of(at + 16, 78, false);
        CU(cuStreamBatchMemOp_v2(stream, 4, operations, 0));
        sleep_ms(10);
        CU_EXPECT(CUDA_ERROR_NOT_READY, cuStreamQuery(stream));
        CHECK(atomic_load((_Atomic(uint64_t) *)&pinned[2]) == 0, "the batch did not wait");
        atomic_store((_Atomic(uint64_t) *)&pinned[0], 9);
        CU(cuStreamSynchronize(stream));
        CU(cuMemcpyDtoH_v2(result, words, 8));
        CHECK(pinned[1] == 77 && pinned[2] == 78, "%" PRIu64 " and %" PRIu64, pinned[1], pinned[2]);
        CHECK(result[0] == (wide ? 0x1122334455667788ull : 0x55667788ull), "0x%" PRIx64, result[0]);
        for (uint32_t i = 0; i < MANY; i++)
                operations[i] = write_of(words + i * 8, i * 3 + 1, wide);
        CU(cuStreamBatchMemOp_v2(stream, MANY, operations, 0));
        CU(cuStreamSynchronize(stream));
        CU(cuMemcpyDtoH_v2(result, words, sizeof(result)));
        for (uint32_t i = 1; i < MANY; i++)
                CHECK(result[i] == i * 3 + 1, "word %u: %" PRIu64, i, result[i]);
        CU(cuMemFree_v2(words));
        CU(cuStreamDestroy_v2(stream));
}

/* The error comes from the call, or from the next synchronization. */
static CUresult told(CUresult result)
{
        const CUresult later = cuCtxSynchronize();
        return result != CUDA_SUCCESS ? result : later;
}

static void foreign_addresses_are_refused(void)
{
        static uint64_t mine;
        const CUdeviceptr at = (CUdeviceptr)(uintptr_t)&mine;
        CUstreamBatchMemOpParams operation = write_of(at, 1, false);
        if (has(CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS))
                return; /* not foreign there */
        CU_EXPECT(CUDA_ERROR_INVALID_VALUE, told(cuStreamWriteValue32_v2(NULL, at, 1, 0)));
        CU_EXPECT(CUDA_ERROR_INVALID_VALUE, told(cuStreamBatchMemOp_v2(NULL, 1, &operation, 0)));
        CHECK(mine == 0, "a word of the program's own was written");
        CU(cuCtxSynchronize());
}

int main(void)
{
        uint64_t *pinned;
        test_context();
        CU(cuCtxGetDevice(&device));
        const bool wide = has(CU_DEVICE_ATTRIBUTE_CAN_USE_64_BIT_STREAM_MEM_OPS);
        CU(cuMemHostAlloc((void **)&pinned, 4096, 0));
        if (wide)
                program_and_stream(pinned);
        stream_and_stream();
        a_wait_delays_no_third_stream((uint32_t *)pinned);
        conditions((uint32_t *)pinned);
        batches(pinned, wide);
        foreign_addresses_are_refused();
        CU(cuMemFreeHost(pinned));
        puts("memops: streams and program wait for each other");
        return 0;
}
