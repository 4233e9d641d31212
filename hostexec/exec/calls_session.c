/* Internal calls: greeting, arena memory, deferred errors, a guest thread's end. */
#include "exec_internal.h"
#include "host_args.h"
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

CUresult ivg_host_ivgHello(struct ivg_exec_call *call, const struct ivg_args_ivgHello *args)
{
        struct ivg_exec *exec = call->exec;
        void *window = (void *)(uintptr_t)args->window;
        int error;

        if (args->flags != 0 || args->window == 0 || args->window % IVG_EXTENT_BYTES != 0)
                return CUDA_ERROR_INVALID_VALUE;
        if (ivg_load_acquire_u64(&exec->arena) != 0) /* greeted before: the window stays where it is */
                return CUDA_ERROR_ALREADY_MAPPED;
        error = ivg_region_map_arena(&exec->region, exec->region_fd, window);
        if (error == -EEXIST)
                return CUDA_ERROR_ALREADY_MAPPED; /* the guest tries its next candidate */
        if (error)
                return error == -ENOMEM ? CUDA_ERROR_OUT_OF_MEMORY : CUDA_ERROR_INVALID_VALUE;
        (void)madvise(window, exec->region.arena_bytes, MADV_DONTDUMP);
        /* Pairs with the acquire loads of lanes and of the next greeting. */
        ivg_store_release_u64(&exec->arena, args->window);
        exec->driver.cuDriverGetVersion(&args->answer->driver_version);
        exec->driver.cuDeviceGetCount(&args->answer->device_count);
        args->answer->executor_pid = (uint32_t)getpid();
        ivg_log(IVG_LOG_INFO, "guest process %u, arena of %llu MiB at %p", args->pid,
                (unsigned long long)(exec->region.arena_bytes >> 20), window);
        return CUDA_SUCCESS;
}

CUresult ivg_host_ivgExtentsRegister(struct ivg_exec_call *call, const struct ivg_args_ivgExtentsRegister *args)
{
        if (args->flags != 0 || args->bytes == 0 || (args->offset | args->bytes) % IVG_EXTENT_BYTES != 0)
                return CUDA_ERROR_INVALID_VALUE;
        if (!ivg_exec_arena(call, args->offset, args->bytes))
                return CUDA_ERROR_INVALID_VALUE;
        /* How the arena is used is no part of what the program captures. */
        const uint32_t mode = ivg_capture_mode_relax(call->exec);
        const CUresult result = ivg_pinned_register(call->exec, ivg_context_owner(call->exec, call->context),
                                                    args->offset, args->bytes);

        ivg_capture_mode_enter(call->exec, mode);
        return result;
}

CUresult ivg_host_ivgExtentsUnregister(struct ivg_exec_call *call, const struct ivg_args_ivgExtentsUnregister *args)
{
        const uint32_t mode = ivg_capture_mode_relax(call->exec);
        const CUresult result = ivg_pinned_unregister(call->exec, args->offset);

        ivg_capture_mode_enter(call->exec, mode);
        return result;
}

CUresult ivg_host_ivgTakeAsyncError(struct ivg_exec_call *call, const struct ivg_args_ivgTakeAsyncError *args)
{
        args->answer->error = (int32_t)ivg_deferred_take(call->exec);
        return CUDA_SUCCESS;
}

CUresult ivg_host_ivgCallbacksStart(struct ivg_exec_call *call, const struct ivg_args_ivgCallbacksStart *args)
{
        return ivg_callbacks_start(call, args->arena_offset);
}

CUresult ivg_host_ivgThreadEnd(struct ivg_exec_call *call, const struct ivg_args_ivgThreadEnd *args)
{
        (void)args;
        if (!ivg_thread_may_wait) /* the consumer: the thread's streams end */
                ivg_meter_flush(call->exec);
        ivg_thread_streams_end(call->exec, call->producer);
        ivg_lane_end(call->exec, call->producer);
        return CUDA_SUCCESS;
}
