/* Questions about a library whose answer would be an address of this process. Not found is the driver's own answer;
 * what is found is refused, since the program could not use it. And a tensor map's new address, which nobody follows.
 */
#include "exec_internal.h"
#include "host_args.h"
#include <string.h>

CUresult ivg_host_cuLibraryGetManaged(struct ivg_exec_call *call, const struct ivg_args_cuLibraryGetManaged *args)
{
        const struct ivg_driver *driver = ivg_exec_driver(call->exec);
        CUdeviceptr address;
        size_t bytes;
        CUresult result;

        if (!driver->cuLibraryGetManaged)
                return CUDA_ERROR_NOT_SUPPORTED;
        result = driver->cuLibraryGetManaged(&address, &bytes, args->library, args->name);
        return result == CUDA_SUCCESS ? CUDA_ERROR_NOT_SUPPORTED : result;
}

CUresult ivg_host_cuLibraryGetUnifiedFunction(struct ivg_exec_call *call,
                                              const struct ivg_args_cuLibraryGetUnifiedFunction *args)
{
        const struct ivg_driver *driver = ivg_exec_driver(call->exec);
        void *function;
        CUresult result;

        if (!driver->cuLibraryGetUnifiedFunction)
                return CUDA_ERROR_NOT_SUPPORTED;
        result = driver->cuLibraryGetUnifiedFunction(&function, args->library, args->symbol);
        return result == CUDA_SUCCESS ? CUDA_ERROR_NOT_SUPPORTED : result;
}

CUresult ivg_host_cuTensorMapReplaceAddress(struct ivg_exec_call *call,
                                            const struct ivg_args_cuTensorMapReplaceAddress *args)
{
        const struct ivg_driver *driver = ivg_exec_driver(call->exec);
        CUtensorMap map; /* the driver wants its own alignment */
        CUresult result;

        if (!driver->cuTensorMapReplaceAddress)
                return CUDA_ERROR_NOT_SUPPORTED;
        memcpy(&map, &args->tensorMap, sizeof(map));
        result = driver->cuTensorMapReplaceAddress(&map, (void *)(uintptr_t)args->globalAddress);
        if (result == CUDA_SUCCESS)
                memcpy(&args->answer->replaced, &map, sizeof(map));
        return result;
}
