/* Parts of a device: resources, their descriptors, and the contexts made of them.
 *
 * A CUdevResource carries bytes of the driver's own. A guest never gives such bytes: the executor keeps each resource
 * that the driver gave, once, and the guest names it by number. */
#include "green.h"
#include "host_args.h"
#include <stdlib.h>
#include <string.h>

#define SPLIT_GROUPS_MAX 120u /* as in the call table */

static struct {
        pthread_mutex_t mutex;
        CUdevResource *seen; /* number n lies at n - 1; never changed once there */
        uint32_t count;
} resources = {.mutex = PTHREAD_MUTEX_INITIALIZER};

/* The number of a resource, the same for the same bytes; 0: too many, or no memory. */
static uint32_t resource_number(const CUdevResource *resource)
{
        uint32_t number = 0;

        pthread_mutex_lock(&resources.mutex);
        if (!resources.seen)
                resources.seen = calloc(IVG_DEV_RESOURCES_MAX, sizeof(*resources.seen));
        for (uint32_t i = 0; resources.seen && i < resources.count && number == 0; i++)
                if (memcmp(&resources.seen[i], resource, sizeof(*resource)) == 0)
                        number = i + 1;
        if (number == 0 && resources.seen && resources.count < IVG_DEV_RESOURCES_MAX) {
                resources.seen[resources.count++] = *resource;
                number = resources.count;
        }
        pthread_mutex_unlock(&resources.mutex);
        return number;
}

static bool resource_of(uint32_t number, CUdevResource *resource)
{
        bool found;

        pthread_mutex_lock(&resources.mutex);
        found = number >= 1 && number <= resources.count;
        if (found)
                *resource = resources.seen[number - 1];
        pthread_mutex_unlock(&resources.mutex);
        return found;
}

/* What the guest gets of it. */
static CUresult tell(const CUdevResource *resource, struct ivg_wire_dev_resource *told)
{
        _Static_assert(sizeof(resource->_oversize) == sizeof(told->words), "the public part travels whole");
        const uint32_t number = resource_number(resource);

        memset(told, 0, sizeof(*told));
        if (number == 0)
                return CUDA_ERROR_OUT_OF_MEMORY;
        told->type = (uint32_t)resource->type;
        told->number = number;
        memcpy(told->words, resource->_oversize, sizeof(told->words));
        return CUDA_SUCCESS;
}

CUresult ivg_host_cuDeviceGetDevResource(struct ivg_exec_call *call, const struct ivg_args_cuDeviceGetDevResource *args)
{
        const struct ivg_driver *driver = ivg_exec_driver(call->exec);
        CUdevResource resource;
        CUresult result;

        if (!driver->cuDeviceGetDevResource)
                return CUDA_ERROR_NOT_SUPPORTED;
        memset(&resource, 0, sizeof(resource));
        result = driver->cuDeviceGetDevResource(args->device, &resource, (CUdevResourceType)args->type);
        return result == CUDA_SUCCESS ? tell(&resource, &args->answer->resource) : result;
}

CUresult ivg_host_cuCtxGetDevResource(struct ivg_exec_call *call, const struct ivg_args_cuCtxGetDevResource *args)
{
        const struct ivg_driver *driver = ivg_exec_driver(call->exec);
        CUdevResource resource;
        CUresult result;

        if (!driver->cuCtxGetDevResource)
                return CUDA_ERROR_NOT_SUPPORTED;
        memset(&resource, 0, sizeof(resource));
        result = driver->cuCtxGetDevResource(args->hCtx, &resource, (CUdevResourceType)args->type);
        return result == CUDA_SUCCESS ? tell(&resource, &args->answer->resource) : result;
}

CUresult ivg_host_cuGreenCtxGetDevResource(struct ivg_exec_call *call,
                                           const struct ivg_args_cuGreenCtxGetDevResource *args)
{
        const struct ivg_driver *driver = ivg_exec_driver(call->exec);
        CUdevResource resource;
        CUresult result;

        if (!driver->cuGreenCtxGetDevResource)
                return CUDA_ERROR_NOT_SUPPORTED;
        memset(&resource, 0, sizeof(resource));
        result = driver->cuGreenCtxGetDevResource(args->hCtx, &resource, (CUdevResourceType)args->type);
        return result == CUDA_SUCCESS ? tell(&resource, &args->answer->resource) : result;
}

CUresult ivg_host_cuDevSmResourceSplitByCount(struct ivg_exec_call *call,
                                              const struct ivg_args_cuDevSmResourceSplitByCount *args)
{
        const struct ivg_driver *driver = ivg_exec_driver(call->exec);
        CUdevResource groups[SPLIT_GROUPS_MAX], remaining, input;
        unsigned int count = args->wanted;
        CUresult result;

        if (!driver->cuDevSmResourceSplitByCount)
                return CUDA_ERROR_NOT_SUPPORTED;
        if (!resource_of(args->input, &input) || args->wanted > SPLIT_GROUPS_MAX ||
            args->wanted > args->result_list_capacity)
                return CUDA_ERROR_INVALID_VALUE;
        memset(groups, 0, sizeof(groups));
        memset(&remaining, 0, sizeof(remaining));
        result = driver->cuDevSmResourceSplitByCount(args->wanted ? groups : NULL, &count, &input, &remaining,
                                                     args->useFlags, args->minCount);
        if (result != CUDA_SUCCESS)
                return result;
        args->answer->nbGroups = count;
        for (uint32_t i = 0; i < count && i < args->wanted && result == CUDA_SUCCESS; i++)
                result = tell(&groups[i], &args->result_list[i]);
        return result == CUDA_SUCCESS && args->wanted ? tell(&remaining, &args->answer->remaining) : result;
}

CUresult ivg_host_cuDevResourceGenerateDesc(struct ivg_exec_call *call,
                                            const struct ivg_args_cuDevResourceGenerateDesc *args)
{
        const struct ivg_driver *driver = ivg_exec_driver(call->exec);
        CUdevResource given[SPLIT_GROUPS_MAX];
        CUdevResourceDesc desc = NULL;
        CUresult result;

        if (!driver->cuDevResourceGenerateDesc)
                return CUDA_ERROR_NOT_SUPPORTED;
        if (args->numbers_count == 0 || args->numbers_count > SPLIT_GROUPS_MAX)
                return CUDA_ERROR_INVALID_VALUE;
        for (uint32_t i = 0; i < args->numbers_count; i++)
                if (!resource_of(args->numbers[i], &given[i]))
                        return CUDA_ERROR_INVALID_VALUE;
        result = driver->cuDevResourceGenerateDesc(&desc, given, args->numbers_count);
        if (result != CUDA_SUCCESS)
                return result;
        /* The interface has no call that would end it. */
        return ivg_handle_put(call, IVG_KIND_RESOURCE_DESC, args->phDesc, desc) ? CUDA_SUCCESS : CUDA_ERROR_UNKNOWN;
}

/* ---- contexts ---- */

/* With the lock; the primary context of `device` is there (the guest has retained it). */
static CUresult create(struct ivg_exec_call *call, const struct ivg_args_cuGreenCtxCreate *args)
{
        struct ivg_exec *exec = call->exec;
        const struct ivg_driver *driver = &exec->driver;
        const bool device_known = args->dev >= 0 && args->dev < (int32_t)IVG_EXEC_DEVICES_MAX;
        const ivg_id primary = device_known ? exec->primary[args->dev] : IVG_ID_NONE;
        CUgreenCtx green = NULL;
        CUcontext context = NULL;
        CUresult result;

        if (primary == IVG_ID_NONE)
                return device_known ? CUDA_ERROR_INVALID_CONTEXT : CUDA_ERROR_INVALID_DEVICE;
        result = driver->cuGreenCtxCreate(&green, args->desc, args->dev, args->flags);
        if (result != CUDA_SUCCESS)
                return result;
        result = driver->cuCtxFromGreenCtx(&context, green);
        if (result == CUDA_SUCCESS && !ivg_green_note(exec, args->pContext, primary))
                result = CUDA_ERROR_OUT_OF_MEMORY;
        if (result == CUDA_SUCCESS && (!ivg_handle_put(call, IVG_KIND_CONTEXT, args->pContext, context) ||
                                       !ivg_handle_put(call, IVG_KIND_GREEN_CONTEXT, args->phCtx, green)))
                result = CUDA_ERROR_UNKNOWN; /* a broken rule: the channel closes */
        if (result != CUDA_SUCCESS) {
                ivg_green_drop(exec, args->pContext);
                driver->cuGreenCtxDestroy(green);
        }
        return result;
}

CUresult ivg_host_cuGreenCtxCreate(struct ivg_exec_call *call, const struct ivg_args_cuGreenCtxCreate *args)
{
        const struct ivg_driver *driver = ivg_exec_driver(call->exec);
        CUresult result;

        if (!driver->cuGreenCtxCreate || !driver->cuCtxFromGreenCtx || !driver->cuGreenCtxDestroy)
                return CUDA_ERROR_NOT_SUPPORTED;
        ivg_contexts_lock();
        result = create(call, args);
        ivg_contexts_unlock();
        if (result == CUDA_SUCCESS) /* it has a reference of its own to what it is a part of */
                ivg_context_warm_end(call->exec);
        return result;
}

struct wanted_context {
        struct ivg_exec *exec;
        CUcontext driver_context;
        ivg_id id;
};

static void compare_context(void *arg, ivg_id id, void *handle)
{
        struct wanted_context *wanted = arg;

        if (handle == (void *)wanted->driver_context && ivg_context_is_green(wanted->exec, id))
                wanted->id = id;
}

/* With the lock: the number of the context that cuCtxFromGreenCtx gave. */
static ivg_id context_of_green(struct ivg_exec *exec, CUgreenCtx green)
{
        struct wanted_context wanted = {.exec = exec};

        if (exec->driver.cuCtxFromGreenCtx(&wanted.driver_context, green) != CUDA_SUCCESS)
                return IVG_ID_NONE;
        ivg_handles_visit(exec, IVG_KIND_CONTEXT, compare_context, &wanted);
        return wanted.id;
}

CUresult ivg_host_cuGreenCtxDestroy(struct ivg_exec_call *call, const struct ivg_args_cuGreenCtxDestroy *args)
{
        struct ivg_exec *exec = call->exec;
        CUresult result = CUDA_ERROR_INVALID_CONTEXT;
        CUgreenCtx green;

        (void)ivg_exec_settle_frees(call);
        ivg_contexts_lock();
        green = ivg_handle_remove(exec, IVG_KIND_GREEN_CONTEXT, args->hCtx_id);
        if (green) {
                ivg_green_drop(exec, context_of_green(exec, green));
                result = exec->driver.cuGreenCtxDestroy(green);
                ivg_context_forget();
        }
        ivg_contexts_unlock();
        return result;
}

CUresult ivg_host_cuGreenCtxStreamCreate(struct ivg_exec_call *call, const struct ivg_args_cuGreenCtxStreamCreate *args)
{
        const struct ivg_driver *driver = ivg_exec_driver(call->exec);
        CUstream stream = NULL;
        CUresult result;

        if (!driver->cuGreenCtxStreamCreate)
                return CUDA_ERROR_NOT_SUPPORTED;
        result = driver->cuGreenCtxStreamCreate(&stream, args->greenCtx, args->flags, args->priority);
        if (result != CUDA_SUCCESS)
                return result;
        /* It is of that context, whatever is current. */
        ivg_contexts_lock();
        call->context = context_of_green(call->exec, args->greenCtx);
        ivg_contexts_unlock();
        return ivg_handle_put(call, IVG_KIND_STREAM, args->phStream, stream) ? CUDA_SUCCESS : CUDA_ERROR_UNKNOWN;
}

/* The end of all: one thread is left. The driver's object goes with the primary context. */
void ivg_green_close(struct ivg_exec *exec, ivg_id context)
{
        ivg_green_drop(exec, context);
}
