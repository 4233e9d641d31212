/* The driver of the executor's tests: memory is host memory, streams are numbers, kernels are counters. */
#include "exec_fixture.h"
#include "rcu.h"
#include <stdlib.h>
#include <string.h>

struct fake_driver fake;

struct block {
        uint64_t start, bytes;
};
static struct block blocks[512]; /* what cuMemGetAddressRange knows */
static pthread_mutex_t blocks_mutex = PTHREAD_MUTEX_INITIALIZER;

static void block_add(uint64_t start, uint64_t bytes)
{
        pthread_mutex_lock(&blocks_mutex);
        for (size_t i = 0; i < sizeof(blocks) / sizeof(blocks[0]); i++)
                if (!blocks[i].bytes) {
                        blocks[i] = (struct block){start, bytes};
                        break;
                }
        pthread_mutex_unlock(&blocks_mutex);
}

static uint64_t block_remove(uint64_t start)
{
        uint64_t bytes = 0;

        pthread_mutex_lock(&blocks_mutex);
        for (size_t i = 0; i < sizeof(blocks) / sizeof(blocks[0]); i++)
                if (blocks[i].bytes && blocks[i].start == start) {
                        bytes = blocks[i].bytes;
                        blocks[i].bytes = 0;
                }
        pthread_mutex_unlock(&blocks_mutex);
        return bytes;
}

bool fake_any_block(CUdeviceptr *start, size_t *bytes)
{
        bool found = false;

        pthread_mutex_lock(&blocks_mutex);
        for (size_t i = 0; i < sizeof(blocks) / sizeof(blocks[0]) && !found; i++)
                if (blocks[i].bytes) {
                        *start = blocks[i].start;
                        *bytes = blocks[i].bytes;
                        found = true;
                }
        pthread_mutex_unlock(&blocks_mutex);
        return found;
}

static CUresult fake_sticky(void)
{
        return (CUresult)atomic_load(&fake.sticky);
}

static CUresult fake_version(int *version)
{
        ivg_tsan_release(&fake); /* asked after the arena was mapped: see greet() */
        *version = 13000;
        return CUDA_SUCCESS;
}

static CUresult fake_count(int *count)
{
        *count = 1;
        return CUDA_SUCCESS;
}

static CUresult fake_set_current(CUcontext context)
{
        (void)context;
        atomic_fetch_add(&fake.contexts_set, 1);
        return CUDA_SUCCESS;
}

static CUresult fake_retain(CUcontext *context, CUdevice device)
{
        *context = (CUcontext)(uintptr_t)(0xc000 + device);
        return CUDA_SUCCESS;
}

static CUresult fake_release(CUdevice device)
{
        (void)device;
        return CUDA_SUCCESS;
}

static CUresult fake_context_destroy(CUcontext context)
{
        (void)context;
        return CUDA_SUCCESS;
}

static CUresult fake_stream_create(CUstream *stream, unsigned int flags)
{
        (void)flags;
        *stream = (CUstream)(uintptr_t)(0x5000 + atomic_fetch_add(&fake.streams_made, 1));
        return CUDA_SUCCESS;
}

static CUresult fake_stream_create_priority(CUstream *stream, unsigned int flags, int priority)
{
        (void)priority;
        return fake_stream_create(stream, flags);
}

static CUresult fake_stream_destroy(CUstream stream)
{
        (void)stream;
        atomic_fetch_add(&fake.streams_destroyed, 1);
        return CUDA_SUCCESS;
}

static CUresult fake_stream_synchronize(CUstream stream)
{
        (void)stream;
        atomic_fetch_add(&fake.stream_in_sync, 1);
        if (atomic_load(&fake.sync_blocks))
                sem_wait(&fake.release);
        atomic_fetch_sub(&fake.stream_in_sync, 1);
        return fake_sticky();
}

static CUresult fake_alloc(CUdeviceptr *address, size_t bytes)
{
        void *memory;
        const uint64_t limit = atomic_load(&fake.memory_limit);

        if (limit && atomic_load(&fake.memory_used) + bytes > limit)
                return CUDA_ERROR_OUT_OF_MEMORY;
        memory = calloc(1, bytes);
        if (!memory)
                return CUDA_ERROR_OUT_OF_MEMORY;
        atomic_fetch_add(&fake.memory_used, bytes);
        *address = (uintptr_t)memory;
        block_add(*address, bytes);
        return CUDA_SUCCESS;
}

static CUresult fake_free(CUdeviceptr address)
{
        uint64_t bytes;

        atomic_fetch_add(&fake.frees_begun, 1);
        if (atomic_load(&fake.free_blocks))
                sem_wait(&fake.release);
        bytes = block_remove(address);
        if (!bytes)
                return CUDA_ERROR_INVALID_VALUE;
        free((void *)(uintptr_t)address);
        atomic_fetch_sub(&fake.memory_used, bytes);
        atomic_fetch_add(&fake.frees, 1);
        return CUDA_SUCCESS;
}

static CUresult fake_address_range(CUdeviceptr *start, size_t *bytes, CUdeviceptr address)
{
        CUresult result = CUDA_ERROR_NOT_FOUND;

        pthread_mutex_lock(&blocks_mutex);
        for (size_t i = 0; i < sizeof(blocks) / sizeof(blocks[0]); i++)
                if (blocks[i].bytes && address - blocks[i].start < blocks[i].bytes && address >= blocks[i].start) {
                        *start = blocks[i].start;
                        *bytes = blocks[i].bytes;
                        result = CUDA_SUCCESS;
                }
        pthread_mutex_unlock(&blocks_mutex);
        return result;
}

static CUresult fake_register(void *memory, size_t bytes, unsigned int flags)
{
        (void)memory;
        (void)bytes;
        (void)flags;
        atomic_fetch_add(&fake.registered, 1);
        return CUDA_SUCCESS;
}

static CUresult fake_unregister(void *memory)
{
        (void)memory;
        atomic_fetch_add(&fake.unregistered, 1);
        return CUDA_SUCCESS;
}

static CUresult fake_device_pointer(CUdeviceptr *address, void *memory, unsigned int flags)
{
        (void)flags;
        *address = (uintptr_t)memory;
        return CUDA_SUCCESS;
}

static CUresult fake_copy_to_device(CUdeviceptr to, const void *from, size_t bytes, CUstream stream)
{
        (void)stream;
        memcpy((void *)(uintptr_t)to, from, bytes);
        return fake_sticky();
}

static CUresult fake_copy_to_host(void *to, CUdeviceptr from, size_t bytes, CUstream stream)
{
        (void)stream;
        memcpy(to, (const void *)(uintptr_t)from, bytes);
        return fake_sticky();
}

static CUresult fake_write_value(CUstream stream, CUdeviceptr address, cuuint64_t value, unsigned int flags)
{
        (void)stream;
        (void)flags;
        if (atomic_load(&fake.words_held))
                return CUDA_SUCCESS;
        /* The guest reads the word through another mapping, which ThreadSanitizer takes for another word. */
        ivg_tsan_release(&fake);
        atomic_store((_Atomic(uint64_t) *)(uintptr_t)address, value);
        return CUDA_SUCCESS;
}

static CUresult fake_launch(CUfunction function, unsigned int gx, unsigned int gy, unsigned int gz, unsigned int bx,
                            unsigned int by, unsigned int bz, unsigned int shared, CUstream stream, void **params,
                            void **extra)
{
        (void)gx, (void)gy, (void)gz, (void)bx, (void)by, (void)bz, (void)shared, (void)params, (void)extra;
        atomic_store(&fake.last_stream, (uintptr_t)stream);
        atomic_fetch_add(&fake.launches, 1);
        if ((uintptr_t)function == FAKE_KERNEL_FAILS)
                return CUDA_ERROR_INVALID_VALUE;
        if ((uintptr_t)function == FAKE_KERNEL_STICKY)
                atomic_store(&fake.sticky, CUDA_ERROR_ILLEGAL_ADDRESS);
        return fake_sticky();
}

static CUresult fake_mem_info(size_t *free_bytes, size_t *total_bytes)
{
        *free_bytes = 1;
        *total_bytes = 2;
        return CUDA_SUCCESS;
}

void fake_driver_fill(struct ivg_driver *driver)
{
        memset(&fake, 0, sizeof(fake));
        sem_init(&fake.release, 0, 0);
        driver->cuDriverGetVersion = fake_version;
        driver->cuDeviceGetCount = fake_count;
        driver->cuCtxSetCurrent = fake_set_current;
        driver->cuDevicePrimaryCtxRetain = fake_retain;
        driver->cuDevicePrimaryCtxRelease_v2 = fake_release;
        driver->cuCtxDestroy_v2 = fake_context_destroy;
        driver->cuStreamCreate = fake_stream_create;
        driver->cuStreamCreateWithPriority = fake_stream_create_priority;
        driver->cuStreamDestroy_v2 = fake_stream_destroy;
        driver->cuStreamSynchronize = fake_stream_synchronize;
        driver->cuMemAlloc_v2 = fake_alloc;
        driver->cuMemFree_v2 = fake_free;
        driver->cuMemGetAddressRange_v2 = fake_address_range;
        driver->cuMemHostRegister_v2 = fake_register;
        driver->cuMemHostUnregister = fake_unregister;
        driver->cuMemHostGetDevicePointer_v2 = fake_device_pointer;
        driver->cuMemcpyHtoDAsync_v2 = fake_copy_to_device;
        driver->cuMemcpyDtoHAsync_v2 = fake_copy_to_host;
        driver->cuStreamWriteValue64_v2 = fake_write_value;
        driver->cuLaunchKernel = fake_launch;
        driver->cuMemGetInfo_v2 = fake_mem_info;
}
