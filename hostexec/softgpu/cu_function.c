/* Functions and kernels: attributes, names, parameters. A CUfunction belongs to a context's module, a CUkernel to a
 * library; wherever CUDA takes a function, both are accepted. */
#include <string.h>

#include "softgpu.h"

CUresult sg_function_resolve(CUfunction handle, struct sg_context *context, struct sg_function **out)
{
        struct sg_context *current;
        const CUresult result = sg_context_current(&current);
        if (result != CUDA_SUCCESS)
                return result;
        *out = sg_object_from(handle, SG_FUNCTION);
        if (*out != NULL)
                return CUDA_SUCCESS;
        struct sg_kernel *kernel = sg_object_from(handle, SG_KERNEL);
        if (kernel == NULL)
                return CUDA_ERROR_INVALID_HANDLE;
        struct sg_module *module;
        const CUresult loaded = sg_library_module(kernel->library, context != NULL ? context : current, &module);
        if (loaded != CUDA_SUCCESS)
                return loaded;
        /* The same text gives the same order. */
        for (size_t i = 0; i < module->function_count; i++)
                if (kernel->library->kernels[i] == kernel) {
                        *out = module->functions[i];
                        return CUDA_SUCCESS;
                }
        return CUDA_ERROR_NOT_FOUND;
}

static CUresult sg_kernel_resolve(CUkernel handle, struct sg_kernel **out)
{
        const CUresult ready = sg_ready();
        if (ready != CUDA_SUCCESS)
                return ready;
        *out = sg_object_from(handle, SG_KERNEL);
        return *out != NULL ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

/* ---- attributes ---- */

static size_t sg_dynamic_shared_default(const struct ptx_function_info *info)
{
        return info->shared_bytes < SG_SHARED_PER_BLOCK ? SG_SHARED_PER_BLOCK - info->shared_bytes : 0;
}

size_t sg_shared_limit(const struct sg_function *function)
{
        const int set = atomic_load(&function->settings->dynamic_shared_max);
        return set >= 0 ? (size_t)set : sg_dynamic_shared_default(&function->info);
}

static CUresult function_attribute(const struct ptx_function_info *info, const struct sg_function_settings *settings,
                                   CUfunction_attribute attribute, int *value)
{
        const int dynamic_max = atomic_load(&settings->dynamic_shared_max);
        switch (attribute) {
        case CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK:
                *value = (int)sg_function_threads_max(info);
                return CUDA_SUCCESS;
        case CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES:
                *value = (int)info->shared_bytes;
                return CUDA_SUCCESS;
        case CU_FUNC_ATTRIBUTE_CONST_SIZE_BYTES:
                *value = (int)info->const_bytes;
                return CUDA_SUCCESS;
        case CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES:
                *value = (int)info->local_bytes;
                return CUDA_SUCCESS;
        case CU_FUNC_ATTRIBUTE_NUM_REGS:
                *value = (int)info->registers;
                return CUDA_SUCCESS;
        case CU_FUNC_ATTRIBUTE_PTX_VERSION:
                *value = (int)info->target; /* the virtual architecture, as the driver reports it */
                return CUDA_SUCCESS;
        case CU_FUNC_ATTRIBUTE_BINARY_VERSION:
                *value = SG_PTX_TARGET_NATIVE;
                return CUDA_SUCCESS;
        case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES:
                *value = dynamic_max >= 0 ? dynamic_max : (int)sg_dynamic_shared_default(info);
                return CUDA_SUCCESS;
        case CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT:
                *value = atomic_load(&settings->carveout);
                return CUDA_SUCCESS;
        case CU_FUNC_ATTRIBUTE_CACHE_MODE_CA:
        case CU_FUNC_ATTRIBUTE_CLUSTER_SIZE_MUST_BE_SET:
        case CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_WIDTH:
        case CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_HEIGHT:
        case CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_DEPTH:
        case CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED:
        case CU_FUNC_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE:
                *value = 0;
                return CUDA_SUCCESS;
        default:
                return CUDA_ERROR_INVALID_VALUE;
        }
}

static CUresult function_attribute_set(const struct ptx_function_info *info, struct sg_function_settings *settings,
                                       CUfunction_attribute attribute, int value)
{
        switch (attribute) {
        case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES:
                if (value < 0 || info->shared_bytes > SG_SHARED_PER_BLOCK_OPTIN ||
                    (size_t)value > SG_SHARED_PER_BLOCK_OPTIN - info->shared_bytes)
                        return CUDA_ERROR_INVALID_VALUE;
                atomic_store(&settings->dynamic_shared_max, value);
                return CUDA_SUCCESS;
        case CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT:
                if (value < -1 || value > 100)
                        return CUDA_ERROR_INVALID_VALUE;
                atomic_store(&settings->carveout, value);
                return CUDA_SUCCESS;
        case CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_WIDTH:
        case CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_HEIGHT:
        case CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_DEPTH:
        case CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED:
        case CU_FUNC_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE:
                return CUDA_ERROR_NOT_SUPPORTED; /* no clusters before capability 9.0 */
        default:
                return CUDA_ERROR_INVALID_VALUE;
        }
}

SG_ENTRY(cuFuncGetAttribute, int *out, CUfunction_attribute attribute, CUfunction handle)
{
        struct sg_function *function;
        const CUresult result = sg_function_resolve(handle, NULL, &function);
        if (result != CUDA_SUCCESS)
                return result;
        return out == NULL ? CUDA_ERROR_INVALID_VALUE
                           : function_attribute(&function->info, function->settings, attribute, out);
}

SG_ENTRY(cuFuncSetAttribute, CUfunction handle, CUfunction_attribute attribute, int value)
{
        struct sg_function *function;
        const CUresult result = sg_function_resolve(handle, NULL, &function);
        if (result != CUDA_SUCCESS)
                return result;
        return function_attribute_set(&function->info, function->settings, attribute, value);
}

SG_ENTRY(cuFuncSetCacheConfig, CUfunction handle, CUfunc_cache config)
{
        struct sg_function *function;
        const CUresult result = sg_function_resolve(handle, NULL, &function);
        if (result != CUDA_SUCCESS)
                return result;
        if ((int)config < 0 || config > CU_FUNC_CACHE_PREFER_EQUAL)
                return CUDA_ERROR_INVALID_VALUE;
        atomic_store(&function->settings->cache_config, (uint32_t)config);
        return CUDA_SUCCESS;
}

SG_ENTRY(cuFuncSetSharedMemConfig, CUfunction handle, CUsharedconfig config)
{
        struct sg_function *function;
        const CUresult result = sg_function_resolve(handle, NULL, &function);
        if (result != CUDA_SUCCESS)
                return result;
        return (int)config < 0 || config > CU_SHARED_MEM_CONFIG_EIGHT_BYTE_BANK_SIZE ? CUDA_ERROR_INVALID_VALUE
                                                                                     : CUDA_SUCCESS;
}

/* ---- identity ---- */

SG_ENTRY(cuFuncGetModule, CUmodule *out, CUfunction handle)
{
        struct sg_function *function;
        const CUresult result = sg_function_resolve(handle, NULL, &function);
        if (result != CUDA_SUCCESS)
                return result;
        if (out == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        *out = (CUmodule)function->module;
        return CUDA_SUCCESS;
}

SG_ENTRY(cuFuncGetName, const char **out, CUfunction handle)
{
        struct sg_function *function;
        const CUresult result = sg_function_resolve(handle, NULL, &function);
        if (result != CUDA_SUCCESS)
                return result;
        if (out == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        *out = function->info.name;
        return CUDA_SUCCESS;
}

static CUresult sg_param_info(const struct ptx_function *code, size_t index, size_t *offset, size_t *bytes)
{
        size_t found_offset, found_bytes;
        if (offset == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        if (!ptx_function_param(code, index, &found_offset, &found_bytes))
                return CUDA_ERROR_INVALID_VALUE;
        *offset = found_offset;
        if (bytes != NULL)
                *bytes = found_bytes;
        return CUDA_SUCCESS;
}

SG_ENTRY(cuFuncGetParamInfo, CUfunction handle, size_t index, size_t *offset, size_t *bytes)
{
        struct sg_function *function;
        const CUresult result = sg_function_resolve(handle, NULL, &function);
        return result != CUDA_SUCCESS ? result : sg_param_info(function->code, index, offset, bytes);
}

SG_ENTRY(cuFuncIsLoaded, CUfunctionLoadingState *out, CUfunction handle)
{
        struct sg_function *function;
        const CUresult result = sg_function_resolve(handle, NULL, &function);
        if (result != CUDA_SUCCESS)
                return result;
        if (out == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        *out = CU_FUNCTION_LOADING_STATE_LOADED;
        return CUDA_SUCCESS;
}

SG_ENTRY(cuFuncLoad, CUfunction handle)
{
        struct sg_function *function;
        return sg_function_resolve(handle, NULL, &function); /* loading is eager */
}

/* ---- kernels ---- */

SG_ENTRY(cuKernelGetFunction, CUfunction *out, CUkernel handle)
{
        struct sg_kernel *kernel;
        struct sg_function *function;
        CUresult result = sg_kernel_resolve(handle, &kernel);
        if (result == CUDA_SUCCESS && out == NULL)
                result = CUDA_ERROR_INVALID_VALUE;
        if (result == CUDA_SUCCESS)
                result = sg_function_resolve((CUfunction)handle, NULL, &function);
        if (result == CUDA_SUCCESS)
                *out = (CUfunction)function;
        return result;
}

SG_ENTRY(cuKernelGetLibrary, CUlibrary *out, CUkernel handle)
{
        struct sg_kernel *kernel;
        const CUresult result = sg_kernel_resolve(handle, &kernel);
        if (result != CUDA_SUCCESS)
                return result;
        if (out == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        *out = (CUlibrary)kernel->library;
        return CUDA_SUCCESS;
}

SG_ENTRY(cuKernelGetName, const char **out, CUkernel handle)
{
        struct sg_kernel *kernel;
        const CUresult result = sg_kernel_resolve(handle, &kernel);
        if (result != CUDA_SUCCESS)
                return result;
        if (out == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        *out = kernel->info.name;
        return CUDA_SUCCESS;
}

SG_ENTRY(cuKernelGetParamInfo, CUkernel handle, size_t index, size_t *offset, size_t *bytes)
{
        struct sg_kernel *kernel;
        const CUresult result = sg_kernel_resolve(handle, &kernel);
        return result != CUDA_SUCCESS ? result : sg_param_info(kernel->code, index, offset, bytes);
}

SG_ENTRY(cuKernelGetAttribute, int *out, CUfunction_attribute attribute, CUkernel handle, CUdevice ordinal)
{
        struct sg_kernel *kernel;
        struct sg_device *device;
        CUresult result = sg_kernel_resolve(handle, &kernel);
        if (result == CUDA_SUCCESS)
                result = sg_device_find(ordinal, &device);
        if (result != CUDA_SUCCESS)
                return result;
        return out == NULL ? CUDA_ERROR_INVALID_VALUE
                           : function_attribute(&kernel->info, &kernel->settings[ordinal], attribute, out);
}

SG_ENTRY(cuKernelSetAttribute, CUfunction_attribute attribute, int value, CUkernel handle, CUdevice ordinal)
{
        struct sg_kernel *kernel;
        struct sg_device *device;
        CUresult result = sg_kernel_resolve(handle, &kernel);
        if (result == CUDA_SUCCESS)
                result = sg_device_find(ordinal, &device);
        if (result != CUDA_SUCCESS)
                return result;
        return function_attribute_set(&kernel->info, &kernel->settings[ordinal], attribute, value);
}

SG_ENTRY(cuKernelSetCacheConfig, CUkernel handle, CUfunc_cache config, CUdevice ordinal)
{
        struct sg_kernel *kernel;
        struct sg_device *device;
        CUresult result = sg_kernel_resolve(handle, &kernel);
        if (result == CUDA_SUCCESS)
                result = sg_device_find(ordinal, &device);
        if (result != CUDA_SUCCESS)
                return result;
        if ((int)config < 0 || config > CU_FUNC_CACHE_PREFER_EQUAL)
                return CUDA_ERROR_INVALID_VALUE;
        atomic_store(&kernel->settings[ordinal].cache_config, (uint32_t)config);
        return CUDA_SUCCESS;
}
