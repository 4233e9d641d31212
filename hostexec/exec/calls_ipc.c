/* Memory and events shared by handle among the processes of one tenant: over the table of ipc.c. */
#include "exec_internal.h"
#include "host_args.h"
#include "ipc_table.h"

CUresult ivg_host_cuIpcGetMemHandle(struct ivg_exec_call *call, const struct ivg_args_cuIpcGetMemHandle *args)
{
        struct ivg_exec *exec = call->exec;
        CUipcMemHandle handle;
        CUdeviceptr base = 0;
        size_t bytes = 0;
        CUresult result;

        if (!exec->ipc || !exec->driver.cuIpcGetMemHandle)
                return CUDA_ERROR_NOT_SUPPORTED;
        /* The guest's own memory only: what it names must lie in what it obtained. */
        result = ivg_exec_device_range(call, args->dptr, 1);
        if (result == CUDA_SUCCESS)
                result = exec->driver.cuMemGetAddressRange_v2(&base, &bytes, args->dptr);
        if (result == CUDA_SUCCESS)
                result = exec->driver.cuIpcGetMemHandle(&handle, base);
        if (result != CUDA_SUCCESS)
                return result;
        return ivg_ipc_publish(
                exec,
                &(struct ivg_ipc_export){
                        .kind = IVG_IPC_MEMORY, .address = base, .bytes = bytes, .handle = &handle, .fd = -1},
                &args->answer->pHandle);
}

CUresult ivg_host_cuIpcOpenMemHandle_v2(struct ivg_exec_call *call, const struct ivg_args_cuIpcOpenMemHandle_v2 *args)
{
        struct ivg_exec *exec = call->exec;
        CUipcMemHandle handle;
        CUdeviceptr base = 0, pointer = 0;
        size_t bytes = 0;
        CUresult result;

        if (!exec->driver.cuIpcOpenMemHandle_v2)
                return CUDA_ERROR_NOT_SUPPORTED;
        result = ivg_ipc_find(exec, IVG_IPC_MEMORY, &args->handle, &handle);
        if (result == CUDA_SUCCESS)
                result = exec->driver.cuIpcOpenMemHandle_v2(&pointer, handle, args->Flags);
        if (result != CUDA_SUCCESS)
                return result;
        args->answer->pdptr = pointer;
        /* Noted as the guest's, but counted nowhere: it is its exporter's. Opened twice, it is noted already. */
        if (exec->driver.cuMemGetAddressRange_v2(&base, &bytes, pointer) == CUDA_SUCCESS)
                (void)ivg_ranges_add(exec->ranges, base, bytes, ivg_context_owner(exec, call->context));
        return CUDA_SUCCESS;
}

CUresult ivg_host_cuIpcCloseMemHandle(struct ivg_exec_call *call, const struct ivg_args_cuIpcCloseMemHandle *args)
{
        struct ivg_exec *exec = call->exec;
        CUdeviceptr base = 0;
        size_t bytes = 0;
        CUresult result;

        if (!exec->driver.cuIpcCloseMemHandle)
                return CUDA_ERROR_NOT_SUPPORTED;
        result = ivg_exec_device_range(call, args->dptr, 1);
        if (result != CUDA_SUCCESS)
                return result;
        /* Out of the table before the driver may give the address to another; back when it is still open elsewhere. */
        (void)ivg_ranges_remove(exec->ranges, args->dptr);
        result = exec->driver.cuIpcCloseMemHandle(args->dptr);
        if (exec->driver.cuMemGetAddressRange_v2(&base, &bytes, args->dptr) == CUDA_SUCCESS && base == args->dptr)
                (void)ivg_ranges_add(exec->ranges, base, bytes, ivg_context_owner(exec, call->context));
        return result;
}

CUresult ivg_host_cuIpcGetEventHandle(struct ivg_exec_call *call, const struct ivg_args_cuIpcGetEventHandle *args)
{
        struct ivg_exec *exec = call->exec;
        CUipcEventHandle handle;
        CUresult result;

        if (!exec->ipc || !exec->driver.cuIpcGetEventHandle)
                return CUDA_ERROR_NOT_SUPPORTED;
        result = exec->driver.cuIpcGetEventHandle(&handle, args->event);
        if (result != CUDA_SUCCESS)
                return result;
        return ivg_ipc_publish(
                exec,
                &(struct ivg_ipc_export){
                        .kind = IVG_IPC_EVENT, .address = (uintptr_t)args->event, .handle = &handle, .fd = -1},
                &args->answer->pHandle);
}

CUresult ivg_host_cuIpcOpenEventHandle(struct ivg_exec_call *call, const struct ivg_args_cuIpcOpenEventHandle *args)
{
        struct ivg_exec *exec = call->exec;
        CUipcEventHandle handle;
        CUevent event = NULL;
        CUresult result;

        if (!exec->driver.cuIpcOpenEventHandle)
                return CUDA_ERROR_NOT_SUPPORTED;
        result = ivg_ipc_find(exec, IVG_IPC_EVENT, &args->handle, &handle);
        if (result == CUDA_SUCCESS)
                result = exec->driver.cuIpcOpenEventHandle(&event, handle);
        if (result != CUDA_SUCCESS)
                return result;
        if (!ivg_handle_put(call, IVG_KIND_EVENT, args->phEvent, event)) {
                exec->driver.cuEventDestroy_v2(event);
                return CUDA_ERROR_INVALID_VALUE;
        }
        return CUDA_SUCCESS;
}
