/* Memory and pools shared by descriptor among the processes of one tenant: the driver's descriptor stays with the
 * mediator, the guest gets a ticket (ipc.c), which its shim puts into a descriptor of the guest's own. */
#include "exec_internal.h"
#include "host_args.h"
#include "ipc_table.h"
#include <string.h>
#include <unistd.h>

#define HANDLE_TYPE CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR

/* A descriptor as the driver takes it for a handle. */
static void *os_handle(int fd)
{
        return (void *)(intptr_t)fd;
}

static CUresult publish_descriptor(struct ivg_exec *exec, uint32_t kind, uint64_t handle, int fd, void *ticket)
{
        const struct ivg_ipc_export object = {.kind = kind, .address = handle, .fd = fd};
        const CUresult result = ivg_ipc_publish(exec, &object, ticket);

        close(fd); /* the mediator has its own, or had one already */
        return result;
}

/* ---- memory of cuMemCreate ---- */

CUresult ivg_host_ivgMemExport(struct ivg_exec_call *call, const struct ivg_args_ivgMemExport *args)
{
        const struct ivg_driver *driver = ivg_exec_driver(call->exec);
        const uint64_t handle = (uintptr_t)args->handle;
        int fd = -1;
        CUresult result;

        if (!driver->cuMemExportToShareableHandle)
                return CUDA_ERROR_NOT_SUPPORTED;
        result = driver->cuMemExportToShareableHandle(&fd, handle, HANDLE_TYPE, 0);
        if (result != CUDA_SUCCESS)
                return result;
        return publish_descriptor(call->exec, IVG_IPC_SHARED_MEMORY, handle, fd, &args->answer->ticket);
}

CUresult ivg_host_ivgMemImport(struct ivg_exec_call *call, const struct ivg_args_ivgMemImport *args)
{
        const struct ivg_driver *driver = ivg_exec_driver(call->exec);
        CUmemGenericAllocationHandle handle = 0;
        CUmemAllocationProp prop;
        CUresult result;
        int fd;

        if (!driver->cuMemImportFromShareableHandle || !driver->cuMemRelease ||
            !driver->cuMemGetAllocationPropertiesFromHandle)
                return CUDA_ERROR_NOT_SUPPORTED;
        result = ivg_ipc_fetch(call->exec, IVG_IPC_SHARED_MEMORY, &args->ticket, &fd);
        if (result != CUDA_SUCCESS)
                return result;
        result = driver->cuMemImportFromShareableHandle(&handle, os_handle(fd), HANDLE_TYPE);
        close(fd);
        if (result != CUDA_SUCCESS)
                return result;
        memset(&prop, 0, sizeof(prop));
        if (driver->cuMemGetAllocationPropertiesFromHandle(&prop, handle) == CUDA_SUCCESS)
                args->answer->device = prop.location.id;
        /* Its exporter's memory: counted there. */
        return ivg_memory_number(call, args->handle, handle, 0, -1);
}

/* ---- pools ---- */

/* Of device memory, and not to be had by anything that goes past this host's table. */
CUresult ivg_host_cuMemPoolCreate(struct ivg_exec_call *call, const struct ivg_args_cuMemPoolCreate *args)
{
        const struct ivg_driver *driver = ivg_exec_driver(call->exec);
        const CUmemPoolProps *props = &args->poolProps;
        CUmemoryPool pool = NULL;
        CUresult result;

        if (!driver->cuMemPoolCreate || !driver->cuMemPoolDestroy ||
            (props->handleTypes != CU_MEM_HANDLE_TYPE_NONE && props->handleTypes != HANDLE_TYPE))
                return CUDA_ERROR_NOT_SUPPORTED;
        if (props->location.type != CU_MEM_LOCATION_TYPE_DEVICE)
                return CUDA_ERROR_INVALID_VALUE;
        result = driver->cuMemPoolCreate(&pool, props);
        if (result != CUDA_SUCCESS || ivg_handle_put(call, IVG_KIND_MEMORY_POOL, args->pool, pool))
                return result;
        (void)driver->cuMemPoolDestroy(pool);
        return CUDA_ERROR_INVALID_VALUE;
}

CUresult ivg_host_cuMemPoolDestroy(struct ivg_exec_call *call, const struct ivg_args_cuMemPoolDestroy *args)
{
        const struct ivg_driver *driver = ivg_exec_driver(call->exec);
        CUresult result;

        if (!driver->cuMemPoolDestroy)
                return CUDA_ERROR_NOT_SUPPORTED;
        if (!ivg_handle_remove(call->exec, IVG_KIND_MEMORY_POOL, args->pool_id))
                return CUDA_ERROR_INVALID_HANDLE;
        ivg_ipc_withdraw(call->exec, IVG_IPC_SHARED_POOL, (uintptr_t)args->pool);
        result = driver->cuMemPoolDestroy(args->pool);
        if (result != CUDA_SUCCESS) /* a device's own pool: it stays */
                (void)ivg_handle_put(call, IVG_KIND_MEMORY_POOL, args->pool_id, args->pool);
        return result;
}

CUresult ivg_host_ivgPoolExport(struct ivg_exec_call *call, const struct ivg_args_ivgPoolExport *args)
{
        const struct ivg_driver *driver = ivg_exec_driver(call->exec);
        int fd = -1;
        CUresult result;

        if (!driver->cuMemPoolExportToShareableHandle)
                return CUDA_ERROR_NOT_SUPPORTED;
        result = driver->cuMemPoolExportToShareableHandle(&fd, args->pool, HANDLE_TYPE, 0);
        if (result != CUDA_SUCCESS)
                return result;
        return publish_descriptor(call->exec, IVG_IPC_SHARED_POOL, (uintptr_t)args->pool, fd, &args->answer->ticket);
}

CUresult ivg_host_ivgPoolImport(struct ivg_exec_call *call, const struct ivg_args_ivgPoolImport *args)
{
        const struct ivg_driver *driver = ivg_exec_driver(call->exec);
        CUmemoryPool pool = NULL;
        CUresult result;
        int fd;

        if (!driver->cuMemPoolImportFromShareableHandle || !driver->cuMemPoolDestroy)
                return CUDA_ERROR_NOT_SUPPORTED;
        result = ivg_ipc_fetch(call->exec, IVG_IPC_SHARED_POOL, &args->ticket, &fd);
        if (result != CUDA_SUCCESS)
                return result;
        result = driver->cuMemPoolImportFromShareableHandle(&pool, os_handle(fd), HANDLE_TYPE, 0);
        close(fd);
        if (result != CUDA_SUCCESS)
                return result;
        if (ivg_handle_put(call, IVG_KIND_MEMORY_POOL, args->pool, pool))
                return CUDA_SUCCESS;
        (void)driver->cuMemPoolDestroy(pool);
        return CUDA_ERROR_INVALID_VALUE;
}

/* The start of the allocation that holds `pointer`; the ticket is withdrawn when that is freed. */
CUresult ivg_host_cuMemPoolExportPointer(struct ivg_exec_call *call, const struct ivg_args_cuMemPoolExportPointer *args)
{
        const struct ivg_driver *driver = ivg_exec_driver(call->exec);
        CUmemPoolPtrExportData data;
        CUdeviceptr base = 0;
        size_t bytes = 0;
        CUresult result;

        if (!driver->cuMemPoolExportPointer)
                return CUDA_ERROR_NOT_SUPPORTED;
        memset(&data, 0, sizeof(data));
        result = driver->cuMemPoolExportPointer(&data, args->ptr);
        if (result == CUDA_SUCCESS)
                result = driver->cuMemGetAddressRange_v2(&base, &bytes, args->ptr);
        if (result != CUDA_SUCCESS)
                return result;
        return ivg_ipc_publish(
                call->exec,
                &(struct ivg_ipc_export){
                        .kind = IVG_IPC_POINTER, .address = base, .bytes = bytes, .handle = &data, .fd = -1},
                &args->answer->shareData_out);
}

CUresult ivg_host_cuMemPoolImportPointer(struct ivg_exec_call *call, const struct ivg_args_cuMemPoolImportPointer *args)
{
        const struct ivg_driver *driver = ivg_exec_driver(call->exec);
        CUmemPoolPtrExportData data;
        CUdeviceptr pointer = 0, base = 0;
        size_t bytes = 0;
        CUresult result;

        if (!driver->cuMemPoolImportPointer)
                return CUDA_ERROR_NOT_SUPPORTED;
        result = ivg_ipc_find(call->exec, IVG_IPC_POINTER, &args->shareData, &data);
        if (result == CUDA_SUCCESS)
                result = driver->cuMemPoolImportPointer(&pointer, args->pool, &data);
        if (result == CUDA_SUCCESS)
                result = driver->cuMemGetAddressRange_v2(&base, &bytes, pointer);
        if (result != CUDA_SUCCESS)
                return result;
        args->answer->ptr_out = pointer;
        args->answer->bytes = bytes;
        /* Noted as the guest's, but counted nowhere: it is its exporter's. Imported twice, it is noted already. */
        (void)ivg_ranges_add(call->exec->ranges, base, bytes, call->context);
        return CUDA_SUCCESS;
}
