/* Descriptions of functions and kernels: fetched once, then answered here. See function.h. */
#include "function.h"
#include "guest_send.h"
#include <stdlib.h>
#include <string.h>

CUresult ivg_function_create(enum ivg_kind kind, struct ivg_object *context, struct ivg_object *owner, const char *name,
                             struct ivg_object **object)
{
        struct ivg_function *function = calloc(1, sizeof *function);
        char *copy = strdup(name);
        CUresult result = CUDA_ERROR_OUT_OF_MEMORY;
        if (function != NULL && copy != NULL)
                result = ivg_object_create(kind, context, object);
        if (result != CUDA_SUCCESS) {
                free(function);
                free(copy);
                return result;
        }
        function->owner = owner;
        function->name = copy;
        (*object)->data = function;
        return CUDA_SUCCESS;
}

CUresult ivg_function_create_of_kernel(struct ivg_object *kernel, struct ivg_object *context,
                                       struct ivg_object **object)
{
        const CUresult result = ivg_object_create(IVG_KIND_FUNCTION, context, object);
        if (result != CUDA_SUCCESS)
                return result;
        (*object)->data = kernel->data; /* borrowed: see function_release */
        return CUDA_SUCCESS;
}

static void description_free(struct ivg_function *function)
{
        free(atomic_load_explicit(&function->layout, memory_order_relaxed)); /* relaxed: the last user */
        for (uint32_t i = 0; i < IVG_DEVICES_MAX; i++)
                free(atomic_load_explicit(&function->attributes[i], memory_order_relaxed));
        free(function->first_launch);
        free(function->name);
        free(function);
}

static void kernel_release(struct ivg_object *object)
{
        struct ivg_function *function = ivg_function_of(object);
        if (function == NULL)
                return;
        struct ivg_function_instance *instance = atomic_load_explicit(&function->instances, memory_order_relaxed);
        while (instance != NULL) {
                struct ivg_function_instance *next = instance->next;
                ivg_object_destroy_if(instance->function, instance->id);
                free(instance);
                instance = next;
        }
        object->data = NULL;
        description_free(function);
}

/* A kernel's function borrows the kernel's description: only a module's own functions have one to free. */
static void function_release(struct ivg_object *object)
{
        struct ivg_function *function = ivg_function_of(object);
        object->data = NULL;
        if (function != NULL && function->kernel == NULL)
                description_free(function);
}

__attribute__((constructor)) static void set_releases(void)
{
        ivg_object_set_release(IVG_KIND_FUNCTION, function_release);
        ivg_object_set_release(IVG_KIND_KERNEL, kernel_release);
}

void ivg_function_note_value(struct ivg_function_attributes *attributes, uint32_t attribute, int value)
{
        ivg_store_relaxed_u32(&attributes->values[attribute], (uint32_t)value);
        atomic_fetch_or_explicit(&attributes->known, 1u << attribute, memory_order_relaxed);
        /* Whatever was computed from the old value is wrong now. */
        for (uint32_t i = 0; i < IVG_OCCUPANCY_CACHE; i++)
                ivg_store_relaxed_u64(&attributes->occupancy[i], 0);
}

/* The answer of one ivgFunctionDescribe, and of ivgFunctionParameters where that was too short. */
struct description {
        struct ivg_wire_function function;
        struct ivg_wire_parameter first[IVG_FUNCTION_PARAMETERS_MAX];
        struct ivg_wire_parameter *parameters; /* `first`, or allocated */
};

static void description_end(struct description *description)
{
        if (description->parameters != description->first)
                free(description->parameters);
        free(description);
}

static CUresult layout_make(const struct description *description, struct ivg_function_layout **layout)
{
        const uint32_t count = description->function.parameters_count;
        *layout = calloc(1, sizeof **layout + count * sizeof(struct ivg_wire_parameter));
        if (*layout == NULL)
                return CUDA_ERROR_OUT_OF_MEMORY;
        (*layout)->count = count;
        for (uint32_t i = 0; i < count; i++) {
                const struct ivg_wire_parameter parameter = description->parameters[i];
                /* What the host says bounds copies on this side: check it once, here. */
                if (parameter.bytes > IVG_PARAMETER_BYTES_MAX ||
                    parameter.offset > IVG_PARAMETER_BYTES_MAX - parameter.bytes) {
                        free(*layout);
                        return CUDA_ERROR_UNKNOWN;
                }
                (*layout)->parameters[i] = parameter;
                if (parameter.offset + parameter.bytes > (*layout)->bytes)
                        (*layout)->bytes = parameter.offset + parameter.bytes;
        }
        return CUDA_SUCCESS;
}

/* F2: release, pairs with F1 in function.h. Of two threads that fetched at once the first wins. */
static CUresult layout_publish(struct ivg_function *function, const struct description *description)
{
        struct ivg_function_layout *layout, *none = NULL;
        if (atomic_load_explicit(&function->layout, memory_order_acquire) != NULL)
                return CUDA_SUCCESS;
        const CUresult result = layout_make(description, &layout);
        if (result != CUDA_SUCCESS)
                return result;
        if (!atomic_compare_exchange_strong_explicit(&function->layout, &none, layout, memory_order_release,
                                                     memory_order_acquire))
                free(layout);
        return CUDA_SUCCESS;
}

static void values_store(struct ivg_function_attributes *attributes, const struct description *description)
{
        for (uint32_t i = 0; i < IVG_FUNCTION_ATTRIBUTES; i++) {
                if (description->function.known >> i & 1)
                        ivg_function_note_value(attributes, i, description->function.attributes[i]);
        }
}

static CUresult attributes_publish(struct ivg_function *function, int device, const struct description *description)
{
        struct ivg_function_attributes *attributes, *none = NULL;
        attributes = atomic_load_explicit(&function->attributes[device], memory_order_acquire);
        if (attributes != NULL) {
                values_store(attributes, description);
                return CUDA_SUCCESS;
        }
        attributes = calloc(1, sizeof *attributes);
        if (attributes == NULL)
                return CUDA_ERROR_OUT_OF_MEMORY;
        values_store(attributes, description);
        if (!atomic_compare_exchange_strong_explicit(&function->attributes[device], &none, attributes,
                                                     memory_order_release, memory_order_acquire))
                free(attributes);
        return CUDA_SUCCESS;
}

/* More parameters than fit into the answer: all of them by way of the arena. */
static CUresult description_ask_rest(struct description *description, ivg_id function, ivg_id kernel)
{
        const uint32_t count = description->function.parameters_count;
        uint32_t told = 0;
        if (count > IVG_KERNEL_PARAMETERS_MAX)
                return CUDA_ERROR_UNKNOWN;
        description->parameters = calloc(count, sizeof(struct ivg_wire_parameter));
        if (description->parameters == NULL)
                return CUDA_ERROR_OUT_OF_MEMORY;
        const CUresult result = ivg_send_ivgFunctionParameters(function, kernel, description->parameters,
                                                               count * sizeof(struct ivg_wire_parameter), &told);
        return result == CUDA_SUCCESS && told != count ? CUDA_ERROR_UNKNOWN : result;
}

static CUresult description_ask(const struct ivg_object *object, int device, struct description *description)
{
        const bool is_kernel = ivg_load_relaxed_u32(&object->kind) == IVG_KIND_KERNEL; /* relaxed: checked before */
        const ivg_id function = is_kernel ? IVG_ID_NONE : object->id, kernel = is_kernel ? object->id : IVG_ID_NONE;
        uint32_t bytes = 0;
        const CUresult result = ivg_send_ivgFunctionDescribe(function, kernel, device, &description->function,
                                                             description->first, IVG_FUNCTION_PARAMETERS_MAX, &bytes);
        if (result != CUDA_SUCCESS)
                return result;
        if (description->function.parameters_count > IVG_FUNCTION_PARAMETERS_MAX)
                return description_ask_rest(description, function, kernel);
        if (bytes != description->function.parameters_count * sizeof(struct ivg_wire_parameter))
                return CUDA_ERROR_UNKNOWN;
        return CUDA_SUCCESS;
}

CUresult ivg_function_fetch(struct ivg_object *object, int device, bool again)
{
        struct ivg_function *function = ivg_function_of(object);
        if (device < 0 || device >= IVG_DEVICES_MAX)
                return CUDA_ERROR_INVALID_DEVICE;
        if (!again && atomic_load_explicit(&function->attributes[device], memory_order_acquire) != NULL)
                return CUDA_SUCCESS;
        struct description *description = malloc(sizeof *description);
        if (description == NULL)
                return CUDA_ERROR_OUT_OF_MEMORY;
        description->parameters = description->first;
        CUresult result = description_ask(object, device, description);
        if (result == CUDA_SUCCESS)
                result = layout_publish(function, description);
        if (result == CUDA_SUCCESS)
                result = attributes_publish(function, device, description);
        description_end(description);
        return result;
}
