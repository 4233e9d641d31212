/* Memory pools and stream-ordered allocation.
 *
 * An allocation is real from the call on, earlier than the stream reaches it, which no program can tell: only the free
 * is ordered. A pool therefore is an account, not a cache: freed memory goes back to the device at once, and the
 * release threshold, accepted and reported, has nothing to hold. */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "softgpu.h"

CUresult sg_pool_open(struct sg_device *device, size_t bytes_max, int fd, struct sg_pool **out)
{
        struct sg_pool *pool = sg_object_new(SG_POOL);
        if (pool == NULL)
                return CUDA_ERROR_OUT_OF_MEMORY;
        pool->device = device;
        pool->bytes_max = bytes_max;
        pool->fd = fd;
        pool->access[device->ordinal] = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
        for (unsigned i = 0; i < 3; i++)
                pool->reuse[i] = 1;
        *out = pool;
        return CUDA_SUCCESS;
}

void sg_pool_finalize(struct sg_pool *pool)
{
        if (pool->fd >= 0) /* its allocations held it: none is left */
                close(pool->fd);
}

static CUresult sg_pool_resolve(CUmemoryPool handle, struct sg_pool **out)
{
        const CUresult ready = sg_ready();
        if (ready != CUDA_SUCCESS)
                return ready;
        *out = sg_object_from(handle, SG_POOL);
        return *out != NULL ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

/* ---- allocation ---- */

static CUresult sg_pool_allocate(struct sg_stream *stream, struct sg_pool *pool, size_t bytes, CUdeviceptr *out)
{
        struct sg_context *context = stream->context;
        struct sg_allocation *allocation;
        CUresult captured;
        if (atomic_load(&sg_captures) != 0 && sg_capture_allocate(stream, bytes, out, &captured))
                return captured;
        if (pool == NULL) {
                pthread_mutex_lock(&sg_state_lock);
                pool = context->device->current_pool;
                pthread_mutex_unlock(&sg_state_lock);
        }
        if (pool->device != context->device)
                return CUDA_ERROR_NOT_SUPPORTED;
        if (pool->fd >= 0) /* imported: only its exporter makes memory */
                return CUDA_ERROR_INVALID_VALUE;
        CUresult result = sg_device_allocate(context, bytes, SG_MEMORY_DEVICE, pool, &allocation);
        if (result == CUDA_ERROR_OUT_OF_MEMORY) {
                /* What earlier frees in this stream give back belongs to this call. */
                (void)sg_stream_drain(stream);
                result = sg_device_allocate(context, bytes, SG_MEMORY_DEVICE, pool, &allocation);
        }
        if (result == CUDA_SUCCESS)
                *out = allocation->start;
        return result;
}

SG_ENTRY(cuMemAllocFromPoolAsync, CUdeviceptr *out, size_t bytes, CUmemoryPool handle, CUstream stream_handle)
{
        struct sg_stream *stream;
        struct sg_pool *pool;
        CUresult result = sg_pool_resolve(handle, &pool);
        if (result == CUDA_SUCCESS)
                result = sg_stream_resolve(stream_handle, &stream);
        if (result != CUDA_SUCCESS)
                return result;
        result = out != NULL ? sg_pool_allocate(stream, pool, bytes, out) : CUDA_ERROR_INVALID_VALUE;
        sg_object_put(stream);
        return result;
}

SG_ENTRY(cuMemAllocFromPoolAsync_ptsz, CUdeviceptr *out, size_t bytes, CUmemoryPool pool, CUstream stream)
{
        return cuMemAllocFromPoolAsync(out, bytes, pool, sg_per_thread(stream));
}

SG_ENTRY(cuMemAllocAsync, CUdeviceptr *out, size_t bytes, CUstream stream_handle)
{
        struct sg_stream *stream;
        CUresult result = sg_stream_resolve(stream_handle, &stream);
        if (result != CUDA_SUCCESS)
                return result;
        result = out != NULL ? sg_pool_allocate(stream, NULL, bytes, out) : CUDA_ERROR_INVALID_VALUE;
        sg_object_put(stream);
        return result;
}

SG_ENTRY(cuMemAllocAsync_ptsz, CUdeviceptr *out, size_t bytes, CUstream stream)
{
        return cuMemAllocAsync(out, bytes, sg_per_thread(stream));
}

/* ---- freeing ---- */

struct sg_free_op {
        struct sg_op op;
        struct sg_allocation *allocation; /* referenced beside the registry */
};

static CUresult sg_free_run(struct sg_op *op, struct sg_stream *stream)
{
        (void)stream;
        sg_registry_remove(((struct sg_free_op *)op)->allocation);
        sg_contexts_forget_maps();
        return CUDA_SUCCESS;
}

static void sg_free_release(struct sg_op *op)
{
        sg_allocation_put(((struct sg_free_op *)op)->allocation);
        sg_op_free(op);
}

/* One free per allocation: the second one is the program's mistake. */
static bool sg_free_claim(struct sg_allocation *allocation, uint64_t address)
{
        pthread_mutex_lock(&sg_memory_lock);
        const bool mine = (allocation->kind == SG_MEMORY_DEVICE || allocation->kind == SG_MEMORY_IMPORTED) &&
                          allocation->start == address && !allocation->freeing;
        if (mine)
                allocation->freeing = true;
        pthread_mutex_unlock(&sg_memory_lock);
        return mine;
}

SG_ENTRY(cuMemFreeAsync, CUdeviceptr address, CUstream stream_handle)
{
        struct sg_stream *stream;
        CUresult result = sg_stream_resolve(stream_handle, &stream);
        if (result != CUDA_SUCCESS)
                return result;
        struct sg_allocation *allocation = address != 0 ? sg_registry_find(address) : NULL;
        struct sg_free_op *op = NULL;
        if (allocation != NULL && ((atomic_load(&sg_captures) != 0 && sg_capture_free(stream, address, &result)) ||
                                   sg_graph_memory_free(allocation, &result))) {
                sg_allocation_put(allocation);
                sg_object_put(stream);
                return result;
        }
        if (address != 0 && (allocation == NULL || !sg_free_claim(allocation, address)))
                result = CUDA_ERROR_INVALID_VALUE;
        else if (address != 0 && (op = sg_op_new(sizeof(*op), sg_free_run, sg_free_release)) == NULL)
                result = CUDA_ERROR_OUT_OF_MEMORY;
        if (op != NULL) {
                op->allocation = allocation;
                result = sg_submit(stream, &op->op);
        } else if (allocation != NULL) {
                sg_allocation_put(allocation);
        }
        sg_object_put(stream);
        return result;
}

SG_ENTRY(cuMemFreeAsync_ptsz, CUdeviceptr address, CUstream stream)
{
        return cuMemFreeAsync(address, sg_per_thread(stream));
}

/* ---- pools ---- */

SG_ENTRY(cuDeviceGetDefaultMemPool, CUmemoryPool *out, CUdevice ordinal)
{
        struct sg_device *device;
        const CUresult result = sg_device_find(ordinal, &device);
        if (result != CUDA_SUCCESS)
                return result;
        if (out == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        *out = (CUmemoryPool)device->default_pool;
        return CUDA_SUCCESS;
}

SG_ENTRY(cuDeviceGetMemPool, CUmemoryPool *out, CUdevice ordinal)
{
        struct sg_device *device;
        const CUresult result = sg_device_find(ordinal, &device);
        if (result != CUDA_SUCCESS)
                return result;
        if (out == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        pthread_mutex_lock(&sg_state_lock);
        *out = (CUmemoryPool)device->current_pool;
        pthread_mutex_unlock(&sg_state_lock);
        return CUDA_SUCCESS;
}

SG_ENTRY(cuDeviceSetMemPool, CUdevice ordinal, CUmemoryPool handle)
{
        struct sg_device *device;
        struct sg_pool *pool;
        CUresult result = sg_device_find(ordinal, &device);
        if (result == CUDA_SUCCESS)
                result = sg_pool_resolve(handle, &pool);
        if (result == CUDA_SUCCESS && pool->device != device)
                result = CUDA_ERROR_INVALID_VALUE;
        if (result != CUDA_SUCCESS)
                return result;
        pthread_mutex_lock(&sg_state_lock);
        device->current_pool = pool;
        pthread_mutex_unlock(&sg_state_lock);
        return CUDA_SUCCESS;
}

SG_ENTRY(cuMemPoolCreate, CUmemoryPool *out, const CUmemPoolProps *props)
{
        struct sg_device *device;
        struct sg_pool *pool;
        if (out == NULL || props == NULL)
                return sg_ready() != CUDA_SUCCESS ? CUDA_ERROR_NOT_INITIALIZED : CUDA_ERROR_INVALID_VALUE;
        if (props->allocType != CU_MEM_ALLOCATION_TYPE_PINNED)
                return CUDA_ERROR_INVALID_VALUE;
        if ((props->handleTypes != CU_MEM_HANDLE_TYPE_NONE &&
             props->handleTypes != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR) ||
            props->location.type != CU_MEM_LOCATION_TYPE_DEVICE)
                return CUDA_ERROR_NOT_SUPPORTED;
        CUresult result = sg_device_find(props->location.id, &device);
        if (result == CUDA_SUCCESS)
                result = sg_pool_open(device, props->maxSize, -1, &pool);
        if (result != CUDA_SUCCESS)
                return result;
        pool->handle_types = props->handleTypes;
        *out = (CUmemoryPool)pool;
        return CUDA_SUCCESS;
}

SG_ENTRY(cuMemPoolDestroy, CUmemoryPool handle)
{
        struct sg_pool *pool;
        const CUresult result = sg_pool_resolve(handle, &pool);
        if (result != CUDA_SUCCESS)
                return result;
        if (pool->is_default || !sg_object_retire(pool))
                return CUDA_ERROR_INVALID_VALUE;
        pthread_mutex_lock(&sg_state_lock);
        if (pool->device->current_pool == pool)
                pool->device->current_pool = pool->device->default_pool;
        pthread_mutex_unlock(&sg_state_lock);
        sg_object_put(pool); /* its allocations keep the account until they are freed */
        return CUDA_SUCCESS;
}

SG_ENTRY(cuMemPoolTrimTo, CUmemoryPool handle, size_t bytes)
{
        struct sg_pool *pool;
        (void)bytes; /* a pool keeps nothing that is not in use */
        return sg_pool_resolve(handle, &pool);
}

SG_ENTRY(cuMemPoolSetAttribute, CUmemoryPool handle, CUmemPool_attribute attribute, void *value)
{
        struct sg_pool *pool;
        CUresult result = sg_pool_resolve(handle, &pool);
        if (result != CUDA_SUCCESS)
                return result;
        if (value == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        pthread_mutex_lock(&sg_memory_lock);
        switch (attribute) {
        case CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES:
        case CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC:
        case CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES:
                memcpy(&pool->reuse[attribute - CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES], value, sizeof(int));
                break;
        case CU_MEMPOOL_ATTR_RELEASE_THRESHOLD:
                memcpy(&pool->release_threshold, value, sizeof(pool->release_threshold));
                break;
        case CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH:
        case CU_MEMPOOL_ATTR_USED_MEM_HIGH: { /* only a reset to zero is allowed */
                uint64_t zero;
                memcpy(&zero, value, sizeof(zero));
                if (zero == 0)
                        pool->used_high = pool->used;
                else
                        result = CUDA_ERROR_INVALID_VALUE;
                break;
        }
        default:
                result = CUDA_ERROR_INVALID_VALUE;
        }
        pthread_mutex_unlock(&sg_memory_lock);
        return result;
}

SG_ENTRY(cuMemPoolGetAttribute, CUmemoryPool handle, CUmemPool_attribute attribute, void *value)
{
        struct sg_pool *pool;
        CUresult result = sg_pool_resolve(handle, &pool);
        if (result != CUDA_SUCCESS)
                return result;
        if (value == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        uint64_t wide = 0;
        pthread_mutex_lock(&sg_memory_lock);
        switch (attribute) {
        case CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES:
        case CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC:
        case CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES:
                memcpy(value, &pool->reuse[attribute - CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES], sizeof(int));
                pthread_mutex_unlock(&sg_memory_lock);
                return CUDA_SUCCESS;
        case CU_MEMPOOL_ATTR_RELEASE_THRESHOLD:
                wide = pool->release_threshold;
                break;
        case CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT:
        case CU_MEMPOOL_ATTR_USED_MEM_CURRENT:
                wide = pool->used;
                break;
        case CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH:
        case CU_MEMPOOL_ATTR_USED_MEM_HIGH:
                wide = pool->used_high;
                break;
        default:
                result = CUDA_ERROR_INVALID_VALUE;
        }
        pthread_mutex_unlock(&sg_memory_lock);
        if (result == CUDA_SUCCESS)
                memcpy(value, &wide, sizeof(wide));
        return result;
}

SG_ENTRY(cuMemPoolSetAccess, CUmemoryPool handle, const CUmemAccessDesc *access, size_t count)
{
        struct sg_pool *pool;
        CUresult result = sg_pool_resolve(handle, &pool);
        if (result == CUDA_SUCCESS && access == NULL && count != 0)
                result = CUDA_ERROR_INVALID_VALUE;
        for (size_t i = 0; i < count && result == CUDA_SUCCESS; i++) {
                struct sg_device *device = NULL;
                if (access[i].location.type != CU_MEM_LOCATION_TYPE_DEVICE ||
                    (access[i].flags != CU_MEM_ACCESS_FLAGS_PROT_NONE &&
                     access[i].flags != CU_MEM_ACCESS_FLAGS_PROT_READWRITE))
                        result = CUDA_ERROR_INVALID_VALUE;
                else
                        result = sg_device_find(access[i].location.id, &device);
                /* A pool's own device always has access. */
                if (result == CUDA_SUCCESS && device == pool->device &&
                    access[i].flags != CU_MEM_ACCESS_FLAGS_PROT_READWRITE)
                        result = CUDA_ERROR_INVALID_VALUE;
        }
        if (result != CUDA_SUCCESS)
                return result;
        pthread_mutex_lock(&sg_memory_lock);
        for (size_t i = 0; i < count; i++)
                pool->access[access[i].location.id] = (uint8_t)access[i].flags;
        sg_registry_changed();
        pthread_mutex_unlock(&sg_memory_lock);
        return CUDA_SUCCESS;
}

SG_ENTRY(cuMemPoolGetAccess, CUmemAccess_flags *out, CUmemoryPool handle, CUmemLocation *location)
{
        struct sg_pool *pool;
        struct sg_device *device;
        CUresult result = sg_pool_resolve(handle, &pool);
        if (result != CUDA_SUCCESS)
                return result;
        if (out == NULL || location == NULL || location->type != CU_MEM_LOCATION_TYPE_DEVICE)
                return CUDA_ERROR_INVALID_VALUE;
        result = sg_device_find(location->id, &device);
        if (result != CUDA_SUCCESS)
                return result;
        pthread_mutex_lock(&sg_memory_lock);
        *out = (CUmemAccess_flags)pool->access[device->ordinal];
        pthread_mutex_unlock(&sg_memory_lock);
        return CUDA_SUCCESS;
}

/* ---- between processes ----
 * A pool's descriptor is that of its device's memory file: what lies where in it goes from exporter to importer pointer
 * by pointer. */

struct sg_pointer_share {
        uint64_t magic, nonce, offset, bytes;
        uint64_t zero[4];
};
#define SG_POINTER_MAGIC 0x5247504c4f4f5053ull
_Static_assert(sizeof(struct sg_pointer_share) == sizeof(CUmemPoolPtrExportData), "in its place");

SG_ENTRY(cuMemPoolExportToShareableHandle, void *out, CUmemoryPool handle, CUmemAllocationHandleType type,
         unsigned long long flags)
{
        struct sg_pool *pool;
        struct sg_share share;
        const CUresult result = sg_pool_resolve(handle, &pool);
        if (result != CUDA_SUCCESS)
                return result;
        if (out == NULL || flags != 0 || type == CU_MEM_HANDLE_TYPE_NONE || (pool->handle_types & type) != type)
                return CUDA_ERROR_INVALID_VALUE;
        const int fd = sg_heap_share(pool->device->heap, 0, &share) ? fcntl(share.fd, F_DUPFD_CLOEXEC, 0) : -1;
        if (fd < 0)
                return CUDA_ERROR_NOT_SUPPORTED;
        memcpy(out, &fd, sizeof(fd));
        return CUDA_SUCCESS;
}

SG_ENTRY(cuMemPoolImportFromShareableHandle, CUmemoryPool *out, void *os_handle, CUmemAllocationHandleType type,
         unsigned long long flags)
{
        uint64_t nonce;
        struct sg_pool *pool;
        const CUresult ready = sg_ready();
        if (ready != CUDA_SUCCESS)
                return ready;
        if (out == NULL || flags != 0 || type != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR ||
            !sg_share_file((int)(intptr_t)os_handle, &nonce))
                return CUDA_ERROR_INVALID_VALUE;
        const int fd = fcntl((int)(intptr_t)os_handle, F_DUPFD_CLOEXEC, 0);
        if (fd < 0)
                return CUDA_ERROR_OPERATING_SYSTEM;
        const CUresult result = sg_pool_open(sg_device_at(0), 0, fd, &pool);
        if (result != CUDA_SUCCESS) {
                close(fd);
                return result;
        }
        pool->nonce = nonce;
        *out = (CUmemoryPool)pool;
        return CUDA_SUCCESS;
}

SG_ENTRY(cuMemPoolExportPointer, CUmemPoolPtrExportData *out, CUdeviceptr address)
{
        struct sg_share share;
        const CUresult ready = sg_ready();
        if (ready != CUDA_SUCCESS)
                return ready;
        if (out == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        struct sg_allocation *allocation = sg_registry_find(address);
        if (allocation == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        const bool shareable = allocation->kind == SG_MEMORY_DEVICE && allocation->pool != NULL &&
                               allocation->pool->handle_types != CU_MEM_HANDLE_TYPE_NONE &&
                               sg_heap_share(allocation->device->heap, allocation->start, &share);
        if (shareable) {
                const struct sg_pointer_share data = {.magic = SG_POINTER_MAGIC,
                                                      .nonce = share.nonce,
                                                      .offset = share.offset,
                                                      .bytes = allocation->bytes};
                memcpy(out, &data, sizeof(data));
        }
        sg_allocation_put(allocation);
        return shareable ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

SG_ENTRY(cuMemPoolImportPointer, CUdeviceptr *out, CUmemoryPool handle, CUmemPoolPtrExportData *given)
{
        struct sg_context *context;
        struct sg_pool *pool;
        struct sg_pointer_share data;
        uint64_t address = 0;
        CUresult result = sg_context_current(&context);
        if (result == CUDA_SUCCESS)
                result = sg_pool_resolve(handle, &pool);
        if (result != CUDA_SUCCESS)
                return result;
        if (out == NULL || given == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        memcpy(&data, given, sizeof(data));
        if (data.magic != SG_POINTER_MAGIC || pool->fd < 0 || data.nonce != pool->nonce || data.bytes == 0)
                return CUDA_ERROR_INVALID_VALUE;
        result = sg_share_map(context, pool->fd, data.offset, data.bytes, SG_MEMORY_IMPORTED, pool, &address);
        if (result == CUDA_SUCCESS)
                *out = address;
        return result;
}
