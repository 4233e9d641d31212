/* A function's or kernel's attributes and parameter layout, in one answer. */
#include "exec_internal.h"
#include "host_args.h"

struct described {
        const struct ivg_driver *driver;
        CUfunction function; /* one of the two */
        CUkernel kernel;
        CUdevice device;
};

static CUresult get_attribute(const struct described *d, int32_t number, int32_t *value)
{
        const CUfunction_attribute attribute = (CUfunction_attribute)number;

        if (d->kernel)
                return d->driver->cuKernelGetAttribute
                               ? d->driver->cuKernelGetAttribute(value, attribute, d->kernel, d->device)
                               : CUDA_ERROR_NOT_SUPPORTED;
        return d->driver->cuFuncGetAttribute ? d->driver->cuFuncGetAttribute(value, attribute, d->function)
                                             : CUDA_ERROR_NOT_SUPPORTED;
}

static CUresult get_parameter(const struct described *d, size_t index, size_t *offset, size_t *bytes)
{
        if (d->kernel)
                return d->driver->cuKernelGetParamInfo
                               ? d->driver->cuKernelGetParamInfo(d->kernel, index, offset, bytes)
                               : CUDA_ERROR_NOT_SUPPORTED;
        return d->driver->cuFuncGetParamInfo ? d->driver->cuFuncGetParamInfo(d->function, index, offset, bytes)
                                             : CUDA_ERROR_NOT_SUPPORTED;
}

/* The layout, until the driver says that there is no such parameter. Any other failure is the call's. */
static CUresult copy_parameters(const struct described *d, struct ivg_wire_parameter *parameters, uint32_t capacity,
                                uint32_t *count)
{
        for (*count = 0; *count < IVG_KERNEL_PARAMETERS_MAX; ++*count) {
                size_t offset = 0, bytes = 0;
                const CUresult result = get_parameter(d, *count, &offset, &bytes);

                if (result == CUDA_ERROR_INVALID_VALUE)
                        return CUDA_SUCCESS;
                if (result != CUDA_SUCCESS)
                        return result;
                if (*count < capacity)
                        parameters[*count] =
                                (struct ivg_wire_parameter){.offset = (uint32_t)offset, .bytes = (uint32_t)bytes};
        }
        return CUDA_SUCCESS;
}

CUresult ivg_host_ivgFunctionDescribe(struct ivg_exec_call *call, const struct ivg_args_ivgFunctionDescribe *args)
{
        const struct described d = {.driver = ivg_exec_driver(call->exec),
                                    .function = args->function,
                                    .kernel = args->kernel,
                                    .device = args->device};
        struct ivg_wire_function *description = &args->answer->description;
        uint32_t told;
        CUresult result;

        if (!d.function == !d.kernel) /* exactly one */
                return ivg_exec_refuse(call, IVG_FAULT_ARGUMENTS, args->kernel_id);
        for (int32_t i = 0; i < (int32_t)IVG_FUNCTION_ATTRIBUTES; i++) {
                int32_t value = 0;

                result = get_attribute(&d, i, &value);
                if (result == CUDA_SUCCESS) {
                        description->attributes[i] = value;
                        description->known |= 1u << i;
                } else if (result != CUDA_ERROR_INVALID_VALUE && result != CUDA_ERROR_NOT_SUPPORTED) {
                        return result; /* the function itself is at fault, or the context */
                }
        }
        result = copy_parameters(&d, args->parameters, args->parameters_capacity, &description->parameters_count);
        told = description->parameters_count < args->parameters_capacity ? description->parameters_count
                                                                         : args->parameters_capacity;
        args->answer->parameters.bytes = told * (uint32_t)sizeof(struct ivg_wire_parameter);
        if (result == CUDA_SUCCESS && d.function && d.driver->cuFuncIsLoaded) {
                CUfunctionLoadingState state = CU_FUNCTION_LOADING_STATE_UNLOADED;

                if (d.driver->cuFuncIsLoaded(&state, d.function) == CUDA_SUCCESS)
                        description->loaded = state == CU_FUNCTION_LOADING_STATE_LOADED;
        }
        return result;
}

CUresult ivg_host_ivgFunctionParameters(struct ivg_exec_call *call, const struct ivg_args_ivgFunctionParameters *args)
{
        const struct described d = {
                .driver = ivg_exec_driver(call->exec), .function = args->function, .kernel = args->kernel};
        const uint32_t capacity = args->parameters ? args->parameters_bytes / sizeof(struct ivg_wire_parameter) : 0;

        if (!d.function == !d.kernel) /* exactly one */
                return ivg_exec_refuse(call, IVG_FAULT_ARGUMENTS, args->kernel_id);
        return copy_parameters(&d, args->parameters, capacity, &args->answer->count);
}
