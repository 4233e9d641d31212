/* The memory pools that devices have by themselves, and pool attributes, whose width depends on which one it is. */
#include "cuda_api.h"
#include "guest.h"
#include "guest_send.h"
#include <string.h>

static struct {
        pthread_mutex_t lock;
        struct ivg_object *pools[IVG_DEVICES_MAX];  /* each device's default pool: asked for once, never ends */
        struct ivg_object *chosen[IVG_DEVICES_MAX]; /* what the program set instead; NULL: nothing */
        ivg_id chosen_ids[IVG_DEVICES_MAX];
} pools = {.lock = PTHREAD_MUTEX_INITIALIZER};

CUresult cuDeviceGetDefaultMemPool(CUmemoryPool *pool_out, CUdevice dev)
{
        struct ivg_object *pool;
        CUresult result = ivg_process_check();

        if (result != CUDA_SUCCESS)
                return result;
        if (pool_out == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        if (dev < 0 || dev >= ivg_process.device_count)
                return CUDA_ERROR_INVALID_DEVICE;
        pthread_mutex_lock(&pools.lock);
        pool = pools.pools[dev];
        if (pool == NULL) {
                result = ivg_object_create(IVG_KIND_MEMORY_POOL, NULL, &pool);
                if (result == CUDA_SUCCESS) {
                        pool->device = dev;
                        result = ivg_send_cuDeviceGetDefaultMemPool(dev, pool->id);
                        if (result == CUDA_SUCCESS)
                                pools.pools[dev] = pool;
                        else
                                ivg_object_destroy(pool);
                }
        }
        pthread_mutex_unlock(&pools.lock);
        if (result == CUDA_SUCCESS)
                *pool_out = (CUmemoryPool)pool;
        return result;
}

CUresult cuDeviceSetMemPool(CUdevice dev, CUmemoryPool pool)
{
        struct ivg_object *object = ivg_object_of(IVG_KIND_MEMORY_POOL, pool);
        CUresult result = ivg_process_check();

        if (result != CUDA_SUCCESS)
                return result;
        if (object == NULL)
                return CUDA_ERROR_INVALID_HANDLE;
        if (dev < 0 || dev >= ivg_process.device_count)
                return CUDA_ERROR_INVALID_DEVICE;
        result = ivg_send_cuDeviceSetMemPool(dev, object->id);
        if (result != CUDA_SUCCESS)
                return result;
        pthread_mutex_lock(&pools.lock);
        pools.chosen[dev] = object;
        pools.chosen_ids[dev] = object->id;
        pthread_mutex_unlock(&pools.lock);
        return CUDA_SUCCESS;
}

CUresult cuDeviceGetMemPool(CUmemoryPool *pool, CUdevice dev)
{
        struct ivg_object *chosen;
        CUresult result = ivg_process_check();

        if (result != CUDA_SUCCESS)
                return result;
        if (pool == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        if (dev < 0 || dev >= ivg_process.device_count)
                return CUDA_ERROR_INVALID_DEVICE;
        pthread_mutex_lock(&pools.lock);
        chosen = pools.chosen[dev];
        /* A pool that has ended gives way to the default, as in CUDA. */
        if (chosen != NULL &&
            (ivg_object_of(IVG_KIND_MEMORY_POOL, chosen) == NULL || chosen->id != pools.chosen_ids[dev]))
                chosen = pools.chosen[dev] = NULL;
        pthread_mutex_unlock(&pools.lock);
        if (chosen == NULL)
                return cuDeviceGetDefaultMemPool(pool, dev);
        *pool = (CUmemoryPool)chosen;
        return ivg_local("cuDeviceGetMemPool", CUDA_SUCCESS);
}

/* Bytes of an attribute's value at the interface; 0: no such attribute. */
static size_t attribute_bytes(CUmemPool_attribute attribute)
{
        switch (attribute) {
        case CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES:
        case CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC:
        case CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES:
                return sizeof(int);
        case CU_MEMPOOL_ATTR_RELEASE_THRESHOLD:
        case CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT:
        case CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH:
        case CU_MEMPOOL_ATTR_USED_MEM_CURRENT:
        case CU_MEMPOOL_ATTR_USED_MEM_HIGH:
                return sizeof(cuuint64_t);
        default:
                return 0;
        }
}

static CUresult pool_check(CUmemoryPool handle, CUmemPool_attribute attribute, const void *value,
                           struct ivg_object **pool)
{
        const CUresult result = ivg_process_check();

        if (result != CUDA_SUCCESS)
                return result;
        *pool = ivg_object_of(IVG_KIND_MEMORY_POOL, handle);
        if (*pool == NULL)
                return CUDA_ERROR_INVALID_HANDLE;
        return value == NULL || attribute_bytes(attribute) == 0 ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}

CUresult cuMemPoolSetAttribute(CUmemoryPool pool, CUmemPool_attribute attr, void *value)
{
        struct ivg_object *object;
        const CUresult result = pool_check(pool, attr, value, &object);
        uint64_t wire = 0;

        if (result != CUDA_SUCCESS)
                return result;
        memcpy(&wire, value, attribute_bytes(attr)); /* little-endian: the low bytes */
        return ivg_send_cuMemPoolSetAttribute(object->id, (int32_t)attr, wire);
}

CUresult cuMemPoolGetAttribute(CUmemoryPool pool, CUmemPool_attribute attr, void *value)
{
        struct ivg_object *object;
        CUresult result = pool_check(pool, attr, value, &object);
        uint64_t wire = 0;

        if (result != CUDA_SUCCESS)
                return result;
        result = ivg_send_cuMemPoolGetAttribute(object->id, (int32_t)attr, &wire);
        if (result == CUDA_SUCCESS)
                memcpy(value, &wire, attribute_bytes(attr));
        return result;
}
