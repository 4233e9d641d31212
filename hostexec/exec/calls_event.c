/* Streams and events where the default bodies do not do. */
#include "exec_internal.h"
#include "host_args.h"

CUresult ivg_host_cuStreamDestroy_v2(struct ivg_exec_call *call, const struct ivg_args_cuStreamDestroy_v2 *args)
{
        CUstream stream = ivg_handle_remove(call->exec, IVG_KIND_STREAM, args->hStream_id);

        /* Out of the table first: the driver may give the same handle to a stream that is made meanwhile. */
        return stream ? call->exec->driver.cuStreamDestroy_v2(stream) : CUDA_ERROR_INVALID_HANDLE;
}

CUresult ivg_host_cuEventElapsedTime_v2(struct ivg_exec_call *call, const struct ivg_args_cuEventElapsedTime_v2 *args)
{
        const struct ivg_driver *driver = ivg_exec_driver(call->exec);

        /* The second version came with driver 12.8; it differs in what it says of unfinished events only. */
        if (driver->cuEventElapsedTime_v2)
                return driver->cuEventElapsedTime_v2(&args->answer->pMilliseconds, args->hStart, args->hEnd);
        if (driver->cuEventElapsedTime)
                return driver->cuEventElapsedTime(&args->answer->pMilliseconds, args->hStart, args->hEnd);
        return CUDA_ERROR_NOT_SUPPORTED;
}
