/* Contexts: primary ones, created ones, their ends.
 *
 * The guest counts retains; here a primary context is started by the first and ended by the last. All of this runs on
 * lanes, several guest threads at once: one mutex keeps starts and ends apart. The driver's own current-context stack
 * is not used: whatever a call pushes is popped, and records name their context. */
#include "exec_internal.h"
#include "host_args.h"
#include <string.h>

#define CONTEXT_AFFINITIES_MAX 16u /* as in the call table */

static pthread_mutex_t primary_mutex = PTHREAD_MUTEX_INITIALIZER;

void ivg_contexts_lock(void)
{
        pthread_mutex_lock(&primary_mutex);
}

void ivg_contexts_unlock(void)
{
        pthread_mutex_unlock(&primary_mutex);
}

static bool device_valid(const struct ivg_exec *exec, int32_t device)
{
        int count = 0;

        return exec->driver.cuDeviceGetCount(&count) == CUDA_SUCCESS && device >= 0 && device < count &&
               device < (int32_t)IVG_EXEC_DEVICES_MAX;
}

/* Frees and unloads of other guest threads that came before need the context that is about to end. Bounded; what is
 * late then finds no context, which is told as a deferred error. */
static void settle(struct ivg_exec_call *call)
{
        (void)ivg_exec_settle_frees(call);
}

/* ---- the warm context: no guest knows of it; the mutex is held ---- */

/* Gives back the reference of before the guest's time. The context ends, unless the guest has just retained it. */
static void warm_release(struct ivg_exec *exec)
{
        const CUresult result =
                exec->warm_device < 0 ? CUDA_SUCCESS : exec->driver.cuDevicePrimaryCtxRelease_v2(exec->warm_device);

        if (result != CUDA_SUCCESS)
                ivg_log(IVG_LOG_ERROR, "the warm context of device %d stays: CUDA error %d", exec->warm_device,
                        (int)result);
        exec->warm_device = -1;
}

void ivg_context_warm_end(struct ivg_exec *exec)
{
        pthread_mutex_lock(&primary_mutex);
        warm_release(exec);
        pthread_mutex_unlock(&primary_mutex);
}

/* ---- primary contexts; the mutex is held ---- */

static CUresult primary_start(struct ivg_exec_call *call, int32_t device, ivg_id id)
{
        struct ivg_exec *exec = call->exec;
        CUcontext context = NULL;
        CUresult result;

        if (!device_valid(exec, device))
                return CUDA_ERROR_INVALID_DEVICE;
        if (exec->primary[device] != IVG_ID_NONE) /* one number for one context: the guest counts */
                return ivg_exec_refuse(call, IVG_FAULT_HANDLE, id);
        if (exec->warm_device != device) /* natively nothing of that device would be held */
                warm_release(exec);
        result = exec->driver.cuDevicePrimaryCtxRetain(&context, device);
        if (result != CUDA_SUCCESS)
                return result;
        warm_release(exec);
        if (!ivg_handle_put(call, IVG_KIND_CONTEXT, id, context)) {
                exec->driver.cuDevicePrimaryCtxRelease_v2(device);
                return CUDA_ERROR_INVALID_VALUE;
        }
        exec->primary[device] = id;
        return ivg_context_begins(exec, id);
}

static CUresult primary_end(struct ivg_exec *exec, int32_t device)
{
        CUresult result;

        if (!device_valid(exec, device))
                return CUDA_ERROR_INVALID_DEVICE;
        if (exec->primary[device] == IVG_ID_NONE)
                return CUDA_ERROR_INVALID_CONTEXT;
        ivg_greens_forget(exec, exec->primary[device]);
        ivg_context_ends(exec, exec->primary[device]);
        exec->primary[device] = IVG_ID_NONE;
        result = exec->driver.cuDevicePrimaryCtxRelease_v2(device);
        ivg_context_forget();
        return result;
}

/* ---- created contexts ---- */

/* Such a context writes files where this process may write. */
static bool dumps_core(uint32_t flags)
{
        return (flags & (CU_CTX_COREDUMP_ENABLE | CU_CTX_USER_COREDUMP_ENABLE)) != 0;
}

/* By the driver's own function of the version that the program called. */
static CUresult create_version(const struct ivg_driver *driver, CUcontext *context,
                               const struct ivg_args_ivgContextCreate *args)
{
        CUexecAffinityParam affinity[CONTEXT_AFFINITIES_MAX];
        CUexecAffinityParam *const given = args->affinity_count != 0 ? affinity : NULL;
        const int count = (int)args->affinity_count;
        CUctxCreateParams params = {.execAffinityParams = given, .numExecAffinityParams = count};

        if (args->affinity_count > CONTEXT_AFFINITIES_MAX)
                return CUDA_ERROR_INVALID_VALUE;
        if (dumps_core(args->flags))
                return CUDA_ERROR_NOT_SUPPORTED;
        if (given)
                memcpy(affinity, args->affinity, args->affinity_count * sizeof(*affinity));
        switch (args->version) {
        case 1:
                return driver->cuCtxCreate ? driver->cuCtxCreate(context, args->flags, args->device)
                                           : CUDA_ERROR_NOT_SUPPORTED;
        case 2:
                return driver->cuCtxCreate_v2 ? driver->cuCtxCreate_v2(context, args->flags, args->device)
                                              : CUDA_ERROR_NOT_SUPPORTED;
        case 3:
                return driver->cuCtxCreate_v3 ? driver->cuCtxCreate_v3(context, given, count, args->flags, args->device)
                                              : CUDA_ERROR_NOT_SUPPORTED;
        case 4:
                return driver->cuCtxCreate_v4
                               ? driver->cuCtxCreate_v4(context, given ? &params : NULL, args->flags, args->device)
                               : CUDA_ERROR_NOT_SUPPORTED;
        default:
                return CUDA_ERROR_INVALID_VALUE;
        }
}

static CUresult create(struct ivg_exec_call *call, const struct ivg_args_ivgContextCreate *args)
{
        struct ivg_exec *exec = call->exec;
        CUcontext context = NULL, popped = NULL;
        CUresult result;

        if (!exec->driver.cuCtxPopCurrent_v2)
                return CUDA_ERROR_NOT_SUPPORTED;
        warm_release(exec);
        result = create_version(&exec->driver, &context, args);
        if (result != CUDA_SUCCESS)
                return result;
        exec->driver.cuCtxPopCurrent_v2(&popped);
        ivg_context_forget();
        if (!ivg_handle_put(call, IVG_KIND_CONTEXT, args->pctx, context)) {
                exec->driver.cuCtxDestroy_v2(context);
                return CUDA_ERROR_INVALID_VALUE;
        }
        return ivg_context_begins(exec, args->pctx);
}

static CUresult destroy(struct ivg_exec *exec, ivg_id id)
{
        CUcontext context;
        CUresult result;

        for (uint32_t i = 0; i < IVG_EXEC_DEVICES_MAX; i++)
                if (exec->primary[i] == id) /* primary contexts are released */
                        return CUDA_ERROR_INVALID_CONTEXT;
        if (ivg_context_is_green(exec, id)) /* goes with cuGreenCtxDestroy */
                return CUDA_ERROR_INVALID_CONTEXT;
        context = ivg_context_ends(exec, id);
        if (!context)
                return CUDA_ERROR_INVALID_CONTEXT;
        result = exec->driver.cuCtxDestroy_v2(context);
        ivg_context_forget();
        return result;
}

/* ---- the end of all: one thread is left ---- */

void ivg_context_close(struct ivg_exec *exec, ivg_id id)
{
        if (ivg_context_is_green(exec, id)) {
                ivg_green_close(exec, id);
                return;
        }
        for (uint32_t device = 0; device < IVG_EXEC_DEVICES_MAX; device++)
                if (exec->primary[device] == id) {
                        primary_end(exec, (int32_t)device);
                        return;
                }
        destroy(exec, id);
}

/* ---- rows ---- */

CUresult ivg_host_cuDevicePrimaryCtxRetain(struct ivg_exec_call *call,
                                           const struct ivg_args_cuDevicePrimaryCtxRetain *args)
{
        CUresult result;

        pthread_mutex_lock(&primary_mutex);
        result = primary_start(call, args->dev, args->pctx);
        pthread_mutex_unlock(&primary_mutex);
        return result;
}

CUresult ivg_host_cuDevicePrimaryCtxRelease_v2(struct ivg_exec_call *call,
                                               const struct ivg_args_cuDevicePrimaryCtxRelease_v2 *args)
{
        CUresult result;

        settle(call);
        pthread_mutex_lock(&primary_mutex);
        result = primary_end(call->exec, args->dev);
        if (result == CUDA_SUCCESS)
                ivg_context_ended(call->exec);
        pthread_mutex_unlock(&primary_mutex);
        return result;
}

/* The guest holds one reference here, so the release ends the context as a reset does; a context that something else of
 * this process holds does not exist. */
CUresult ivg_host_cuDevicePrimaryCtxReset_v2(struct ivg_exec_call *call,
                                             const struct ivg_args_cuDevicePrimaryCtxReset_v2 *args)
{
        CUresult result = CUDA_SUCCESS;

        settle(call);
        pthread_mutex_lock(&primary_mutex);
        if (!device_valid(call->exec, args->dev))
                result = CUDA_ERROR_INVALID_DEVICE;
        else if (call->exec->primary[args->dev] != IVG_ID_NONE)
                result = primary_end(call->exec, args->dev);
        if (result == CUDA_SUCCESS)
                ivg_context_ended(call->exec);
        pthread_mutex_unlock(&primary_mutex);
        return result;
}

CUresult ivg_host_ivgContextCreate(struct ivg_exec_call *call, const struct ivg_args_ivgContextCreate *args)
{
        CUresult result;

        pthread_mutex_lock(&primary_mutex);
        result = device_valid(call->exec, args->device) ? create(call, args) : CUDA_ERROR_INVALID_DEVICE;
        pthread_mutex_unlock(&primary_mutex);
        return result;
}

CUresult ivg_host_cuCtxDestroy_v2(struct ivg_exec_call *call, const struct ivg_args_cuCtxDestroy_v2 *args)
{
        CUresult result;

        settle(call);
        pthread_mutex_lock(&primary_mutex);
        result = destroy(call->exec, args->ctx_id);
        ivg_context_ended(call->exec);
        pthread_mutex_unlock(&primary_mutex);
        return result;
}

/* Flags count from a context's making on: the one that was made without them goes. */
CUresult ivg_host_cuDevicePrimaryCtxSetFlags_v2(struct ivg_exec_call *call,
                                                const struct ivg_args_cuDevicePrimaryCtxSetFlags_v2 *args)
{
        const struct ivg_driver *driver = ivg_exec_driver(call->exec);

        if (!driver->cuDevicePrimaryCtxSetFlags_v2 || dumps_core(args->flags))
                return CUDA_ERROR_NOT_SUPPORTED;
        if (args->flags != 0)
                ivg_context_warm_end(call->exec);
        return driver->cuDevicePrimaryCtxSetFlags_v2(args->dev, args->flags);
}

CUresult ivg_host_cuCtxSetFlags(struct ivg_exec_call *call, const struct ivg_args_cuCtxSetFlags *args)
{
        const struct ivg_driver *driver = ivg_exec_driver(call->exec);

        if (!driver->cuCtxSetFlags || dumps_core(args->flags))
                return CUDA_ERROR_NOT_SUPPORTED;
        return driver->cuCtxSetFlags(args->flags);
}
