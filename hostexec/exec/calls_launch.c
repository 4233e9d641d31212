/* Kernel launches: the hot path. Parameters come packed and go to the driver as they are. */
#include "chain.h"
#include "exec_internal.h"
#include "host_args.h"
#include <string.h>

#define IVG_LAUNCH_ATTRIBUTES_MAX 32u

CUresult ivg_host_ivgLaunch(struct ivg_exec_call *call, const struct ivg_args_ivgLaunch *args)
{
        size_t bytes = args->params_bytes;
        void *extra[] = IVG_PACKED_PARAMS(args->params, bytes);
        CUresult result;

        if (ivg_chain_launch(call, args))
                return CUDA_SUCCESS;
        result = ivg_exec_driver(call->exec)
                         ->cuLaunchKernel(args->function, args->grid_x, args->grid_y, args->grid_z, args->block_x,
                                          args->block_y, args->block_z, args->shared_bytes, args->stream, NULL,
                                          bytes ? extra : NULL);
        if (result == CUDA_SUCCESS)
                ivg_chain_launched(call, args);
        return result;
}

/* An event's number stands where its handle does. */
static CUresult translate_event(struct ivg_exec_call *call, CUevent *event)
{
        void *handle = NULL;
        const uintptr_t id = (uintptr_t)*event;
        const CUresult result = id > UINT32_MAX ? CUDA_ERROR_INVALID_HANDLE
                                                : ivg_handle_get(call->exec, IVG_KIND_EVENT, (ivg_id)id, &handle);

        *event = handle;
        return result;
}

/* Attributes are unions; only those whose members are known not to hold addresses of this process pass. */
CUresult ivg_launch_attribute(struct ivg_exec_call *call, CUlaunchAttribute *attribute)
{
        switch (attribute->id) {
        case CU_LAUNCH_ATTRIBUTE_IGNORE:
        case CU_LAUNCH_ATTRIBUTE_ACCESS_POLICY_WINDOW: /* an address for the device's cache, which nobody follows here
                                                        */
        case CU_LAUNCH_ATTRIBUTE_COOPERATIVE:
        case CU_LAUNCH_ATTRIBUTE_SYNCHRONIZATION_POLICY:
        case CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION:
        case CU_LAUNCH_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE:
        case CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION:
        case CU_LAUNCH_ATTRIBUTE_PRIORITY:
        case CU_LAUNCH_ATTRIBUTE_MEM_SYNC_DOMAIN_MAP:
        case CU_LAUNCH_ATTRIBUTE_MEM_SYNC_DOMAIN:
        case CU_LAUNCH_ATTRIBUTE_PREFERRED_CLUSTER_DIMENSION:
        case CU_LAUNCH_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT:
        case CU_LAUNCH_ATTRIBUTE_NVLINK_UTIL_CENTRIC_SCHEDULING:
                return CUDA_SUCCESS;
        case CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_EVENT:
                return translate_event(call, &attribute->value.programmaticEvent.event);
        case CU_LAUNCH_ATTRIBUTE_LAUNCH_COMPLETION_EVENT:
                return translate_event(call, &attribute->value.launchCompletionEvent.event);
        default: /* a handle that the driver would return into the attribute, or unknown */
                return CUDA_ERROR_NOT_SUPPORTED;
        }
}

static CUresult translate_attributes(struct ivg_exec_call *call, CUlaunchAttribute *to, const CUlaunchAttribute *from,
                                     uint32_t count)
{
        CUresult result = CUDA_SUCCESS;

        if (count > IVG_LAUNCH_ATTRIBUTES_MAX)
                return CUDA_ERROR_INVALID_VALUE;
        if (count)
                memcpy(to, from, count * sizeof(*to));
        for (uint32_t i = 0; i < count && result == CUDA_SUCCESS; i++)
                result = ivg_launch_attribute(call, &to[i]);
        return result;
}

/* The arguments' members of different calls have the same names. */
#define LAUNCH_CONFIG(args, attributes)                                                                   \
        {                                                                                                 \
                .gridDimX = (args)->grid_x, .gridDimY = (args)->grid_y, .gridDimZ = (args)->grid_z,       \
                .blockDimX = (args)->block_x, .blockDimY = (args)->block_y, .blockDimZ = (args)->block_z, \
                .sharedMemBytes = (args)->shared_bytes, .hStream = (args)->stream, .attrs = (attributes), \
                .numAttrs = (args)->attributes_count                                                      \
        }

CUresult ivg_host_ivgLaunchEx(struct ivg_exec_call *call, const struct ivg_args_ivgLaunchEx *args)
{
        const struct ivg_driver *driver = ivg_exec_driver(call->exec);
        CUlaunchAttribute attributes[IVG_LAUNCH_ATTRIBUTES_MAX];
        const CUlaunchConfig config = LAUNCH_CONFIG(args, attributes);
        size_t bytes = args->params_bytes;
        void *extra[] = IVG_PACKED_PARAMS(args->params, bytes);
        CUresult result;

        if (!driver->cuLaunchKernelEx)
                return CUDA_ERROR_NOT_SUPPORTED;
        result = translate_attributes(call, attributes, args->attributes, args->attributes_count);
        if (result != CUDA_SUCCESS)
                return result;
        return driver->cuLaunchKernelEx(&config, args->function, NULL, bytes ? extra : NULL);
}

/* A stream that captures puts the function into its graph, where it stays as long as the graph. Nobody tells when that
 * ends, so it stays as long as the executor, and is counted by IVG_CALLBACKS_MAX. */
static bool stream_captures(const struct ivg_driver *driver, CUstream stream)
{
        CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;

        return driver->cuStreamIsCapturing && driver->cuStreamIsCapturing(stream, &status) == CUDA_SUCCESS &&
               status == CU_STREAM_CAPTURE_STATUS_ACTIVE;
}

CUresult ivg_host_ivgHostFunction(struct ivg_exec_call *call, const struct ivg_args_ivgHostFunction *args)
{
        const struct ivg_driver *driver = ivg_exec_driver(call->exec);
        struct ivg_callback *callback;
        CUresult result;

        if (args->kind > IVG_CALLBACK_STREAM_CALLBACK)
                return ivg_exec_refuse(call, IVG_FAULT_ARGUMENTS, args->kind);
        if (!driver->cuLaunchHostFunc || !driver->cuStreamAddCallback)
                return CUDA_ERROR_NOT_SUPPORTED;
        callback = (stream_captures(driver, args->stream) ? ivg_callback_of_graph : ivg_callback_take)(
                call->exec, args->function, args->data, args->stream_handle, (enum ivg_callback_kind)args->kind);
        if (!callback)
                return CUDA_ERROR_OUT_OF_MEMORY;
        if (args->kind == IVG_CALLBACK_HOST_FUNCTION)
                result = driver->cuLaunchHostFunc(args->stream, ivg_callback_host_function, callback);
        else
                result = driver->cuStreamAddCallback(args->stream, ivg_callback_stream_callback, callback, 0);
        if (result != CUDA_SUCCESS)
                ivg_callback_give(callback);
        return result;
}

CUresult ivg_host_ivgOccupancyClusters(struct ivg_exec_call *call, const struct ivg_args_ivgOccupancyClusters *args)
{
        const struct ivg_driver *driver = ivg_exec_driver(call->exec);
        CUlaunchAttribute attributes[IVG_LAUNCH_ATTRIBUTES_MAX];
        const CUlaunchConfig config = LAUNCH_CONFIG(args, attributes);
        CUresult result = translate_attributes(call, attributes, args->attributes, args->attributes_count);

        if (result != CUDA_SUCCESS)
                return result;
        switch (args->which) {
        case 0:
                return driver->cuOccupancyMaxActiveClusters
                               ? driver->cuOccupancyMaxActiveClusters(&args->answer->value, args->function, &config)
                               : CUDA_ERROR_NOT_SUPPORTED;
        case 1:
                return driver->cuOccupancyMaxPotentialClusterSize
                               ? driver->cuOccupancyMaxPotentialClusterSize(&args->answer->value, args->function,
                                                                            &config)
                               : CUDA_ERROR_NOT_SUPPORTED;
        default:
                return ivg_exec_refuse(call, IVG_FAULT_ARGUMENTS, args->which);
        }
}
