/* Memory pools: those that devices have by themselves, those that the program makes, those that other processes share;
 * and pool attributes, whose width depends on which one it is. */
#include "cuda_api.h"
#include "guest_send.h"
#include "memory.h"
#include <string.h>

enum { VALUE_HANDLE_TYPES }; /* of a pool's object */

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

/* ---- the same by location; there are no other pools than those of devices ---- */

static CUresult location_device(const CUmemLocation *location, CUmemAllocationType type, CUdevice *device)
{
        const CUresult result = ivg_process_check();

        if (result != CUDA_SUCCESS)
                return result;
        if (location == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        if (location->type != CU_MEM_LOCATION_TYPE_DEVICE || type != CU_MEM_ALLOCATION_TYPE_PINNED)
                return ivg_refuse("memory pools of other than device memory");
        *device = location->id;
        return CUDA_SUCCESS;
}

CUresult cuMemGetDefaultMemPool(CUmemoryPool *pool_out, CUmemLocation *location, CUmemAllocationType type)
{
        CUdevice device = 0;
        const CUresult result = location_device(location, type, &device);

        return result == CUDA_SUCCESS ? cuDeviceGetDefaultMemPool(pool_out, device) : result;
}

CUresult cuMemGetMemPool(CUmemoryPool *pool, CUmemLocation *location, CUmemAllocationType type)
{
        CUdevice device = 0;
        const CUresult result = location_device(location, type, &device);

        return result == CUDA_SUCCESS ? cuDeviceGetMemPool(pool, device) : result;
}

CUresult cuMemSetMemPool(CUmemLocation *location, CUmemAllocationType type, CUmemoryPool pool)
{
        CUdevice device = 0;
        const CUresult result = location_device(location, type, &device);

        return result == CUDA_SUCCESS ? cuDeviceSetMemPool(device, pool) : result;
}

/* ---- the program's own ---- */

static CUresult pool_create(CUmemoryPool *pool, int device, uint32_t handle_types,
                            CUresult (*send)(const void *argument, ivg_id id), const void *argument)
{
        struct ivg_object *object;
        CUresult result = ivg_object_create(IVG_KIND_MEMORY_POOL, NULL, &object);

        if (result != CUDA_SUCCESS)
                return result;
        object->device = device;
        object->values[VALUE_HANDLE_TYPES] = handle_types;
        result = send(argument, object->id);
        if (result == CUDA_SUCCESS)
                *pool = (CUmemoryPool)object;
        else
                ivg_object_destroy(object);
        return result;
}

static CUresult send_create(const void *argument, ivg_id id)
{
        return ivg_send_cuMemPoolCreate(argument, id);
}

CUresult cuMemPoolCreate(CUmemoryPool *pool, const CUmemPoolProps *poolProps)
{
        const CUresult result = ivg_process_check();

        if (result != CUDA_SUCCESS)
                return result;
        if (pool == NULL || poolProps == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        if (poolProps->handleTypes != CU_MEM_HANDLE_TYPE_NONE &&
            poolProps->handleTypes != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR)
                return ivg_refuse("cuMemPoolCreate with handles that are no descriptors");
        if (poolProps->allocType == CU_MEM_ALLOCATION_TYPE_MANAGED || ivg_location_is_host(poolProps->location.type))
                return ivg_refuse("memory pools of other than device memory");
        if (poolProps->win32SecurityAttributes != NULL)
                return ivg_refuse("cuMemPoolCreate with win32SecurityAttributes");
        return pool_create(pool, poolProps->location.id, poolProps->handleTypes, send_create, poolProps);
}

CUresult cuMemPoolDestroy(CUmemoryPool pool)
{
        struct ivg_object *object = ivg_object_of(IVG_KIND_MEMORY_POOL, pool);
        CUresult result = ivg_process_check();

        if (result != CUDA_SUCCESS)
                return result;
        if (object == NULL)
                return CUDA_ERROR_INVALID_HANDLE;
        for (int device = 0; device < IVG_DEVICES_MAX; device++)
                if (object == pools.pools[device]) /* never changed once set, and the program got it from there */
                        return CUDA_ERROR_INVALID_VALUE;
        result = ivg_send_cuMemPoolDestroy(object->id);
        if (result == CUDA_SUCCESS) {
                ivg_share_end(object);
                ivg_object_destroy(object);
        }
        return result;
}

/* ---- shared with other processes ---- */

CUresult cuMemPoolExportToShareableHandle(void *handle_out, CUmemoryPool pool, CUmemAllocationHandleType handleType,
                                          unsigned long long flags)
{
        struct ivg_object *object = ivg_object_of(IVG_KIND_MEMORY_POOL, pool);
        const CUresult result = ivg_process_check();

        if (result != CUDA_SUCCESS)
                return result;
        if (object == NULL)
                return CUDA_ERROR_INVALID_HANDLE;
        if (handle_out == NULL || flags != 0)
                return CUDA_ERROR_INVALID_VALUE;
        if (handleType != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR)
                return ivg_refuse("cuMemPoolExportToShareableHandle to what is no descriptor");
        if ((object->values[VALUE_HANDLE_TYPES] & handleType) == 0)
                return CUDA_ERROR_INVALID_VALUE;
        return ivg_share_export(object, ivg_send_ivgPoolExport, handle_out);
}

static CUresult send_import(const void *argument, ivg_id id)
{
        return ivg_send_ivgPoolImport(argument, id);
}

CUresult cuMemPoolImportFromShareableHandle(CUmemoryPool *pool_out, void *handle, CUmemAllocationHandleType handleType,
                                            unsigned long long flags)
{
        struct ivg_wire_ticket ticket;
        CUresult result = ivg_process_check();

        if (result != CUDA_SUCCESS)
                return result;
        if (pool_out == NULL || flags != 0)
                return CUDA_ERROR_INVALID_VALUE;
        if (handleType != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR)
                return ivg_refuse("cuMemPoolImportFromShareableHandle of what is no descriptor");
        result = ivg_share_read((int)(intptr_t)handle, &ticket);
        /* What is imported cannot be exported again: no handle types. */
        return result == CUDA_SUCCESS ? pool_create(pool_out, 0, CU_MEM_HANDLE_TYPE_NONE, send_import, &ticket)
                                      : result;
}

CUresult cuMemPoolImportPointer(CUdeviceptr *ptr_out, CUmemoryPool pool, CUmemPoolPtrExportData *shareData)
{
        const struct ivg_object *object = ivg_object_of(IVG_KIND_MEMORY_POOL, pool);
        struct ivg_object *context;
        struct ivg_memory_range range = {.kind = IVG_MEMORY_POOLED};
        CUresult result = ivg_context_require(&context);

        if (result != CUDA_SUCCESS)
                return result;
        if (object == NULL)
                return CUDA_ERROR_INVALID_HANDLE;
        if (ptr_out == NULL || shareData == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        result = ivg_send_cuMemPoolImportPointer(object->id, shareData, &range.base, &range.bytes);
        if (result != CUDA_SUCCESS)
                return result;
        range.context = context;
        range.device = context->device;
        if (!ivg_shadow_reserve(range.base, range.bytes)) /* the exporter chose it: nothing else can be had */
                range.flags |= IVG_MEMORY_AMBIGUOUS;
        *ptr_out = range.base;
        (void)ivg_memory_add(&ivg_memory_of_device, &range); /* fails when it is imported twice: noted already */
        return CUDA_SUCCESS;
}

/* ---- attributes ---- */

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
