/* Memory made, mapped and unmapped by the guest. The driver follows addresses in copies only where the table of ranges
 * knows them, so mappings stand there; what is mapped is counted by physical.c. */
#include "exec_internal.h"
#include "host_args.h"
#include "ipc_table.h"
#include "vram.h"

/* A descriptor, or nothing: what a guest could export otherwise would reach beyond this host's table. */
static bool handle_types_carried(uint32_t types)
{
        return types == CU_MEM_HANDLE_TYPE_NONE || types == CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
}

CUresult ivg_host_cuMemCreate(struct ivg_exec_call *call, const struct ivg_args_cuMemCreate *args)
{
        const struct ivg_driver *driver = ivg_exec_driver(call->exec);
        CUmemGenericAllocationHandle handle = 0;
        CUresult result;

        if (!driver->cuMemCreate || !driver->cuMemRelease || !handle_types_carried(args->prop.requestedHandleTypes))
                return CUDA_ERROR_NOT_SUPPORTED;
        if (args->prop.location.type != CU_MEM_LOCATION_TYPE_DEVICE)
                return CUDA_ERROR_INVALID_VALUE;
        if (!ivg_vram_take(args->prop.location.id, args->size)) /* given back by physical.c */
                return CUDA_ERROR_OUT_OF_MEMORY;
        result = driver->cuMemCreate(&handle, args->size, &args->prop, args->flags);
        if (result != CUDA_SUCCESS) {
                ivg_vram_give(args->prop.location.id, args->size);
                return result;
        }
        return ivg_memory_number(call, args->handle, handle, args->size, args->prop.location.id);
}

CUresult ivg_memory_number(struct ivg_exec_call *call, ivg_id id, uint64_t handle, uint64_t bytes, int32_t device)
{
        if (!ivg_physical_add(call->exec, handle, bytes, device)) {
                ivg_vram_give(device, bytes);
                (void)ivg_exec_driver(call->exec)->cuMemRelease(handle);
                return CUDA_ERROR_OUT_OF_MEMORY;
        }
        if (ivg_handle_put(call, IVG_KIND_MEMORY_HANDLE, id, (void *)(uintptr_t)handle))
                return CUDA_SUCCESS;
        ivg_physical_release(call->exec, handle);
        (void)ivg_exec_driver(call->exec)->cuMemRelease(handle);
        return CUDA_ERROR_INVALID_VALUE;
}

CUresult ivg_host_cuMemRelease(struct ivg_exec_call *call, const struct ivg_args_cuMemRelease *args)
{
        const struct ivg_driver *driver = ivg_exec_driver(call->exec);
        const uint64_t handle = (uintptr_t)args->handle;

        if (!driver->cuMemRelease)
                return CUDA_ERROR_NOT_SUPPORTED;
        /* One of two threads that give it back takes it out. */
        if (!ivg_handle_remove(call->exec, IVG_KIND_MEMORY_HANDLE, args->handle_id))
                return CUDA_ERROR_INVALID_VALUE;
        ivg_ipc_withdraw(call->exec, IVG_IPC_SHARED_MEMORY, handle);
        ivg_physical_release(call->exec, handle);
        return driver->cuMemRelease(handle);
}

CUresult ivg_host_cuMemMap(struct ivg_exec_call *call, const struct ivg_args_cuMemMap *args)
{
        struct ivg_exec *exec = call->exec;
        const struct ivg_driver *driver = ivg_exec_driver(exec);
        const uint64_t handle = (uintptr_t)args->handle;
        struct ivg_physical *physical;
        CUresult result;

        if (!driver->cuMemMap || !driver->cuMemUnmap)
                return CUDA_ERROR_NOT_SUPPORTED;
        physical = ivg_physical_hold(exec, handle);
        if (!physical)
                return CUDA_ERROR_INVALID_VALUE;
        result = driver->cuMemMap(args->ptr, args->size, args->offset, handle, args->flags);
        if (result == CUDA_SUCCESS && ivg_ranges_add_mapping(exec->ranges, args->ptr, args->size, physical) == 0)
                return CUDA_SUCCESS;
        if (result == CUDA_SUCCESS) {
                (void)driver->cuMemUnmap(args->ptr, args->size);
                result = CUDA_ERROR_OUT_OF_MEMORY;
        }
        ivg_physical_let_go(exec, physical);
        return result;
}

CUresult ivg_host_cuMemUnmap(struct ivg_exec_call *call, const struct ivg_args_cuMemUnmap *args)
{
        struct ivg_exec *exec = call->exec;
        const struct ivg_driver *driver = ivg_exec_driver(exec);
        struct ivg_physical *physical;
        uint64_t start, bytes;
        CUresult result;

        if (!driver->cuMemUnmap)
                return CUDA_ERROR_NOT_SUPPORTED;
        result = driver->cuMemUnmap(args->ptr, args->size);
        /* After the driver: it knows whether the guest named whole mappings. Until the last line another thread of the
         * guest may still be told that the addresses are its own; then the driver refuses the copy. */
        while (result == CUDA_SUCCESS &&
               ivg_ranges_take_mapping(exec->ranges, args->ptr, args->size, &start, &bytes, &physical))
                ivg_physical_let_go(exec, physical);
        return result;
}
