/* Memory pools: the device's own, the program's, by location, their attributes, and one shared with another process,
 * pointer by pointer. */
#include "pass.h"
#include <sys/wait.h>
#include <unistd.h>

#define BYTES ((size_t)3 << 20)
#define WORD UINT32_C(0x0b00b1e5)

static const CUmemLocation here = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = 0};

static CUmemoryPool pool_new(CUmemAllocationHandleType types)
{
        const CUmemPoolProps props = {
                .allocType = CU_MEM_ALLOCATION_TYPE_PINNED, .handleTypes = types, .location = here};
        CUmemoryPool pool = NULL;

        CU(cuMemPoolCreate(&pool, &props));
        return pool;
}

static uint64_t pool_figure(CUmemoryPool pool, CUmemPool_attribute attribute)
{
        uint64_t value = UINT64_MAX;

        CU(cuMemPoolGetAttribute(pool, attribute, &value));
        return value;
}

static void expect_words(CUdeviceptr address, uint32_t word)
{
        uint32_t *have = malloc(BYTES);

        CHECK(have != NULL, "no memory");
        CU(cuMemcpyDtoH_v2(have, address, BYTES));
        for (size_t i = 0; i < BYTES / 4; i++)
                CHECK(have[i] == word, "word %zu is 0x%x, not 0x%x", i, have[i], word);
        free(have);
}

/* ---- in one process ---- */

static void pools_of_the_device(void)
{
        CUmemLocation location = here;
        CUmemoryPool own = NULL, same = NULL, current = NULL, mine = pool_new(CU_MEM_HANDLE_TYPE_NONE);

        CU(cuDeviceGetDefaultMemPool(&own, 0));
        CU(cuMemGetDefaultMemPool(&same, &location, CU_MEM_ALLOCATION_TYPE_PINNED));
        CHECK(own == same, "two default pools of one device");
        CU(cuMemSetMemPool(&location, CU_MEM_ALLOCATION_TYPE_PINNED, mine));
        CU(cuDeviceGetMemPool(&current, 0));
        CHECK(current == mine, "the pool that was set is not the current one");
        CU(cuMemGetMemPool(&same, &location, CU_MEM_ALLOCATION_TYPE_PINNED));
        CHECK(same == mine, "nor by location");
        CU(cuDeviceSetMemPool(0, own));
        CU(cuMemPoolDestroy(mine));
        CU(cuMemGetMemPool(&same, &location, CU_MEM_ALLOCATION_TYPE_PINNED));
        CHECK(same == own, "the default pool is not back");
}

static void figures_follow_allocations(void)
{
        CUmemoryPool pool = pool_new(CU_MEM_HANDLE_TYPE_NONE);
        CUmemLocation location = here;
        CUmemAccess_flags access = CU_MEM_ACCESS_FLAGS_PROT_NONE;
        CUdeviceptr memory = 0;
        CUstream stream;
        uint64_t keep = 1u << 20, zero = 0;
        int on = 0;

        CU(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
        CU(cuMemPoolSetAttribute(pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, &keep));
        CHECK(pool_figure(pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD) == keep, "the threshold is not what was set");
        CU(cuMemPoolSetAttribute(pool, CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC, &on));
        on = 7;
        CU(cuMemPoolGetAttribute(pool, CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC, &on));
        CHECK(on == 0, "reuse is %d, not what was set", on);
        CU(cuMemPoolGetAccess(&access, pool, &location));
        CHECK(access == CU_MEM_ACCESS_FLAGS_PROT_READWRITE, "access %d to its own device", (int)access);

        CHECK(pool_figure(pool, CU_MEMPOOL_ATTR_USED_MEM_CURRENT) == 0, "a new pool is used");
        CU(cuMemAllocFromPoolAsync(&memory, BYTES, pool, stream));
        CHECK(pool_figure(pool, CU_MEMPOOL_ATTR_USED_MEM_CURRENT) >= BYTES, "an allocation is not counted");
        CU(cuMemsetD32Async(memory, WORD, BYTES / 4, stream));
        CU(cuStreamSynchronize(stream));
        expect_words(memory, WORD);
        CU(cuMemFreeAsync(memory, stream));
        CU(cuStreamSynchronize(stream));
        CHECK(pool_figure(pool, CU_MEMPOOL_ATTR_USED_MEM_CURRENT) == 0, "a free is not counted");
        CHECK(pool_figure(pool, CU_MEMPOOL_ATTR_USED_MEM_HIGH) >= BYTES, "the high mark forgot");
        CU(cuMemPoolSetAttribute(pool, CU_MEMPOOL_ATTR_USED_MEM_HIGH, &zero));
        CHECK(pool_figure(pool, CU_MEMPOOL_ATTR_USED_MEM_HIGH) == 0, "the high mark was not reset");
        CU(cuMemPoolTrimTo(pool, 0));
        CHECK(pool_figure(pool, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT) == 0, "a trimmed pool keeps memory");
        CU(cuMemPoolDestroy(pool));
        CU(cuStreamDestroy_v2(stream));
}

/* ---- between processes ---- */

static void importer(int socket)
{
        const CUmemAccessDesc all = {.location = here, .flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
        CUmemLocation location = here;
        CUmemAccess_flags access = CU_MEM_ACCESS_FLAGS_PROT_NONE;
        CUmemPoolPtrExportData data;
        CUmemoryPool pool = NULL;
        CUdeviceptr memory = 0;
        char byte = 1;
        const int fd = test_receive_fd(socket, &data, sizeof(data));

        test_context();
        CU(cuMemPoolImportFromShareableHandle(&pool, (void *)(intptr_t)fd, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR,
                                              0));
        close(fd);
        CU(cuMemPoolGetAccess(&access, pool, &location));
        if (access != CU_MEM_ACCESS_FLAGS_PROT_READWRITE)
                CU(cuMemPoolSetAccess(pool, &all, 1));
        CU(cuMemPoolImportPointer(&memory, pool, &data));
        expect_words(memory, WORD);
        CU(cuMemsetD32_v2(memory, WORD + 1, BYTES / 4));
        CU(cuCtxSynchronize());
        CU(cuMemFreeAsync(memory, NULL)); /* before the exporter does */
        CU(cuStreamSynchronize(NULL));
        CU(cuMemPoolDestroy(pool));
        CHECK(write(socket, &byte, 1) == 1, "write");
        if (getenv("IVGPU_CHANNEL") != NULL) {
                /* The exporter has freed the memory: its ticket names nothing. Natively the driver's to judge. */
                CHECK(read(socket, &byte, 1) == 1, "read");
                pool = pool_new(CU_MEM_HANDLE_TYPE_NONE);
                CU_EXPECT(CUDA_ERROR_INVALID_VALUE, cuMemPoolImportPointer(&memory, pool, &data));
                CU(cuMemPoolDestroy(pool));
        }
        exit(0);
}

static void shared_with(int socket)
{
        CUmemoryPool pool = pool_new(CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
        CUmemPoolPtrExportData data;
        CUdeviceptr memory = 0;
        int fd = -1;
        char byte = 1;

        CU(cuMemAllocFromPoolAsync(&memory, BYTES, pool, NULL));
        CU(cuMemsetD32Async(memory, WORD, BYTES / 4, NULL));
        CU(cuStreamSynchronize(NULL));
        CU(cuMemPoolExportToShareableHandle(&fd, pool, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0));
        CU(cuMemPoolExportPointer(&data, memory));
        test_send_fd(socket, fd, &data, sizeof(data));
        close(fd);
        CHECK(read(socket, &byte, 1) == 1, "the importer is gone");
        expect_words(memory, WORD + 1);
        CU(cuMemFreeAsync(memory, NULL));
        CU(cuStreamSynchronize(NULL));
        CU(cuMemPoolDestroy(pool));
        if (getenv("IVGPU_CHANNEL") != NULL)
                CHECK(write(socket, &byte, 1) == 1, "write");
}

int main(void)
{
        int pair[2], status, types = 0;
        pid_t child;

        CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0, "socketpair");
        child = fork(); /* before either has called CUDA */
        CHECK(child >= 0, "fork");
        if (child == 0) {
                close(pair[0]);
                importer(pair[1]);
        }
        close(pair[1]);
        test_context();
        CU(cuDeviceGetAttribute(&types, CU_DEVICE_ATTRIBUTE_MEMPOOL_SUPPORTED_HANDLE_TYPES, 0));
        CHECK((types & CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR) != 0, "handle types 0x%x", types);
        pools_of_the_device();
        figures_follow_allocations();
        shared_with(pair[0]);
        CHECK(waitpid(child, &status, 0) == child && status == 0, "the importer ended with status 0x%x", status);
        puts("pools: ok");
        return 0;
}
