/* What functions and kernels tell about themselves, mostly from their cached description. */
#include "cuda_api.h"
#include "function.h"
#include "guest_send.h"
#include <stdlib.h>

/* ---- a kernel's function in the current context ---- */

static struct ivg_object *instance_find(const struct ivg_function *kernel, const struct ivg_object *context)
{
        /* I1 acquire, pairs with I2: an entry that can be reached is complete. */
        const struct ivg_function_instance *instance = atomic_load_explicit(&kernel->instances, memory_order_acquire);
        /* A primary context keeps its number when it is reset, its functions do not. */
        while (instance != NULL && (instance->context != context->id || instance->function->id != instance->id))
                instance = instance->next;
        return instance != NULL ? instance->function : NULL;
}

static pthread_mutex_t instances_lock = PTHREAD_MUTEX_INITIALIZER; /* so that no function is made twice */

/* Lock held. */
static CUresult instance_make(struct ivg_object *kernel, struct ivg_object *context, struct ivg_object **function)
{
        struct ivg_function *description = ivg_function_of(kernel);
        struct ivg_function_instance *instance = calloc(1, sizeof *instance);
        if (instance == NULL)
                return CUDA_ERROR_OUT_OF_MEMORY;
        CUresult result = ivg_function_create_of_kernel(kernel, context, function);
        if (result == CUDA_SUCCESS) {
                result = ivg_send_cuKernelGetFunction(kernel->id, (*function)->id);
                if (result != CUDA_SUCCESS)
                        ivg_object_destroy(*function);
        }
        if (result != CUDA_SUCCESS) {
                free(instance);
                return result;
        }
        instance->context = context->id;
        instance->function = *function;
        instance->id = (*function)->id;
        instance->next = atomic_load_explicit(&description->instances, memory_order_relaxed); /* relaxed: the lock */
        atomic_store_explicit(&description->instances, instance, memory_order_release);       /* I2, pairs with I1 */
        return CUDA_SUCCESS;
}

CUresult cuKernelGetFunction(CUfunction *pFunc, CUkernel kernel)
{
        struct ivg_object *context;
        CUresult result = ivg_context_require(&context);
        if (result != CUDA_SUCCESS)
                return result;
        if (pFunc == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        struct ivg_object *object = ivg_object_of(IVG_KIND_KERNEL, kernel);
        if (object == NULL)
                return CUDA_ERROR_INVALID_HANDLE;
        struct ivg_object *function = instance_find(ivg_function_of(object), context);
        if (function != NULL) {
                ivg_count_local();
        } else {
                pthread_mutex_lock(&instances_lock);
                function = instance_find(ivg_function_of(object), context);
                if (function == NULL)
                        result = instance_make(object, context, &function);
                pthread_mutex_unlock(&instances_lock);
        }
        if (result == CUDA_SUCCESS)
                *pFunc = (CUfunction)function;
        return result;
}

/* ---- attributes ---- */

static CUresult get_attribute(struct ivg_object *object, int device, CUfunction_attribute attribute, int *value)
{
        const struct ivg_function_layout *layout;
        struct ivg_function_attributes *attributes;
        if (value == NULL || (unsigned int)attribute >= CU_FUNC_ATTRIBUTE_MAX)
                return CUDA_ERROR_INVALID_VALUE;
        const CUresult result = ivg_function_need(object, device, &layout, &attributes);
        if (result != CUDA_SUCCESS)
                return result;
        return ivg_function_value(attributes, (uint32_t)attribute, value) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuKernelGetAttribute(int *pi, CUfunction_attribute attrib, CUkernel kernel, CUdevice dev)
{
        CUresult result = ivg_process_check();
        if (result == CUDA_SUCCESS) {
                struct ivg_object *object = ivg_object_of(IVG_KIND_KERNEL, kernel);
                result = object != NULL ? get_attribute(object, dev, attrib, pi) : CUDA_ERROR_INVALID_HANDLE;
        }
        return ivg_local("cuKernelGetAttribute", result);
}

CUresult cuFuncGetAttribute(int *pi, CUfunction_attribute attrib, CUfunction hfunc)
{
        struct ivg_object *context;
        CUresult result = ivg_context_require(&context);
        if (result == CUDA_SUCCESS) {
                struct ivg_object *object = ivg_object_of_function(hfunc);
                result =
                        object != NULL ? get_attribute(object, context->device, attrib, pi) : CUDA_ERROR_INVALID_HANDLE;
        }
        return ivg_local("cuFuncGetAttribute", result);
}

/* The value that is set already costs nothing: libraries set the same shared memory size before every launch. */
static bool is_set_already(struct ivg_object *object, int device, CUfunction_attribute attribute, int value,
                           struct ivg_function_attributes **attributes)
{
        const struct ivg_function_layout *layout;
        int known = 0;
        *attributes = NULL;
        return ivg_function_need(object, device, &layout, attributes) == CUDA_SUCCESS &&
               ivg_function_value(*attributes, (uint32_t)attribute, &known) && known == value;
}

CUresult cuKernelSetAttribute(CUfunction_attribute attrib, int val, CUkernel kernel, CUdevice dev)
{
        struct ivg_function_attributes *attributes;
        CUresult result = ivg_process_check();
        if (result != CUDA_SUCCESS)
                return result;
        struct ivg_object *object = ivg_object_of(IVG_KIND_KERNEL, kernel);
        if (object == NULL)
                return CUDA_ERROR_INVALID_HANDLE;
        if ((unsigned int)attrib >= CU_FUNC_ATTRIBUTE_MAX)
                return CUDA_ERROR_INVALID_VALUE;
        if (is_set_already(object, dev, attrib, val, &attributes))
                return ivg_local("cuKernelSetAttribute", CUDA_SUCCESS);
        result = ivg_send_cuKernelSetAttribute((int32_t)attrib, val, object->id, dev);
        if (result == CUDA_SUCCESS && attributes != NULL)
                ivg_function_note_value(attributes, (uint32_t)attrib, val);
        return result;
}

CUresult cuFuncSetAttribute(CUfunction hfunc, CUfunction_attribute attrib, int value)
{
        struct ivg_object *context;
        struct ivg_function_attributes *attributes;
        CUresult result = ivg_context_require(&context);
        if (result != CUDA_SUCCESS)
                return result;
        struct ivg_object *object = ivg_object_of_function(hfunc);
        if (object == NULL)
                return CUDA_ERROR_INVALID_HANDLE;
        if ((unsigned int)attrib >= CU_FUNC_ATTRIBUTE_MAX)
                return CUDA_ERROR_INVALID_VALUE;
        if (is_set_already(object, context->device, attrib, value, &attributes))
                return ivg_local("cuFuncSetAttribute", CUDA_SUCCESS);
        result = ivg_send_cuFuncSetAttribute(object->id, (int32_t)attrib, value);
        if (result == CUDA_SUCCESS && attributes != NULL)
                ivg_function_note_value(attributes, (uint32_t)attrib, value);
        return result;
}

CUresult cuKernelSetCacheConfig(CUkernel kernel, CUfunc_cache config, CUdevice dev)
{
        const CUresult result = ivg_process_check();
        if (result != CUDA_SUCCESS)
                return result;
        const struct ivg_object *object = ivg_object_of(IVG_KIND_KERNEL, kernel);
        return object != NULL ? ivg_send_cuKernelSetCacheConfig(object->id, (int32_t)config, dev)
                              : CUDA_ERROR_INVALID_HANDLE;
}

CUresult cuFuncSetCacheConfig(CUfunction hfunc, CUfunc_cache config)
{
        struct ivg_object *context;
        const CUresult result = ivg_context_require(&context);
        if (result != CUDA_SUCCESS)
                return result;
        const struct ivg_object *object = ivg_object_of_function(hfunc);
        return object != NULL ? ivg_send_cuFuncSetCacheConfig(object->id, (int32_t)config) : CUDA_ERROR_INVALID_HANDLE;
}

CUresult cuFuncLoad(CUfunction function)
{
        struct ivg_object *context;
        const CUresult result = ivg_context_require(&context);
        if (result != CUDA_SUCCESS)
                return result;
        const struct ivg_object *object = ivg_object_of_function(function);
        return object != NULL ? ivg_send_cuFuncLoad(object->id) : CUDA_ERROR_INVALID_HANDLE;
}

CUresult cuFuncIsLoaded(CUfunctionLoadingState *state, CUfunction function)
{
        struct ivg_object *context;
        int32_t answer = 0;
        CUresult result = ivg_context_require(&context);
        if (result != CUDA_SUCCESS)
                return result;
        if (state == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        const struct ivg_object *object = ivg_object_of_function(function);
        if (object == NULL)
                return CUDA_ERROR_INVALID_HANDLE;
        result = ivg_send_cuFuncIsLoaded(object->id, &answer);
        if (result == CUDA_SUCCESS)
                *state = (CUfunctionLoadingState)answer;
        return result;
}

/* ---- parameters, names, owners ---- */

static CUresult get_parameter(struct ivg_object *object, int device, size_t index, size_t *offset, size_t *bytes)
{
        const struct ivg_function_layout *layout;
        struct ivg_function_attributes *attributes;
        if (offset == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        const CUresult result = ivg_function_need(object, device, &layout, &attributes);
        if (result != CUDA_SUCCESS)
                return result;
        if (index >= layout->count)
                return CUDA_ERROR_INVALID_VALUE;
        *offset = layout->parameters[index].offset;
        if (bytes != NULL)
                *bytes = layout->parameters[index].bytes;
        return CUDA_SUCCESS;
}

/* The layout is the same on every device: without a current context the first one describes it. */
static int any_device(void)
{
        const struct ivg_object *context = ivg_context_current();
        return context != NULL ? context->device : 0;
}

CUresult cuKernelGetParamInfo(CUkernel kernel, size_t paramIndex, size_t *paramOffset, size_t *paramSize)
{
        CUresult result = ivg_process_check();
        if (result == CUDA_SUCCESS) {
                struct ivg_object *object = ivg_object_of(IVG_KIND_KERNEL, kernel);
                result = object != NULL ? get_parameter(object, any_device(), paramIndex, paramOffset, paramSize)
                                        : CUDA_ERROR_INVALID_HANDLE;
        }
        return ivg_local("cuKernelGetParamInfo", result);
}

CUresult cuFuncGetParamInfo(CUfunction func, size_t paramIndex, size_t *paramOffset, size_t *paramSize)
{
        CUresult result = ivg_process_check();
        if (result == CUDA_SUCCESS) {
                struct ivg_object *object = ivg_object_of_function(func);
                result = object != NULL ? get_parameter(object, any_device(), paramIndex, paramOffset, paramSize)
                                        : CUDA_ERROR_INVALID_HANDLE;
        }
        return ivg_local("cuFuncGetParamInfo", result);
}

CUresult cuKernelGetName(const char **name, CUkernel hfunc)
{
        CUresult result = ivg_process_check();
        const struct ivg_object *object = ivg_object_of(IVG_KIND_KERNEL, hfunc);
        if (result == CUDA_SUCCESS && object == NULL)
                result = CUDA_ERROR_INVALID_HANDLE;
        if (result == CUDA_SUCCESS && name == NULL)
                result = CUDA_ERROR_INVALID_VALUE;
        if (result == CUDA_SUCCESS)
                *name = ivg_function_of(object)->name;
        return ivg_local("cuKernelGetName", result);
}

CUresult cuFuncGetName(const char **name, CUfunction hfunc)
{
        CUresult result = ivg_process_check();
        const struct ivg_object *object = ivg_object_of_function(hfunc);
        if (result == CUDA_SUCCESS && object == NULL)
                result = CUDA_ERROR_INVALID_HANDLE;
        if (result == CUDA_SUCCESS && name == NULL)
                result = CUDA_ERROR_INVALID_VALUE;
        if (result == CUDA_SUCCESS)
                *name = ivg_function_of(object)->name;
        return ivg_local("cuFuncGetName", result);
}

CUresult cuKernelGetLibrary(CUlibrary *pLib, CUkernel kernel)
{
        CUresult result = ivg_process_check();
        const struct ivg_object *object = ivg_object_of(IVG_KIND_KERNEL, kernel);
        if (result == CUDA_SUCCESS && object == NULL)
                result = CUDA_ERROR_INVALID_HANDLE;
        if (result == CUDA_SUCCESS && pLib == NULL)
                result = CUDA_ERROR_INVALID_VALUE;
        if (result == CUDA_SUCCESS)
                *pLib = (CUlibrary)ivg_function_of(object)->owner;
        return ivg_local("cuKernelGetLibrary", result);
}

CUresult cuFuncGetModule(CUmodule *hmod, CUfunction hfunc)
{
        struct ivg_object *context;
        CUresult result = ivg_context_require(&context);
        if (result != CUDA_SUCCESS)
                return ivg_local("cuFuncGetModule", result);
        const struct ivg_object *object = ivg_object_of_function(hfunc);
        if (object == NULL || hmod == NULL)
                return ivg_local("cuFuncGetModule",
                                 object == NULL ? CUDA_ERROR_INVALID_HANDLE : CUDA_ERROR_INVALID_VALUE);
        struct ivg_object *owner = ivg_function_of(object)->owner;
        if (ivg_function_of(object)->kernel != NULL)
                return cuLibraryGetModule(hmod, (CUlibrary)owner);
        *hmod = (CUmodule)owner;
        return ivg_local("cuFuncGetModule", CUDA_SUCCESS);
}
