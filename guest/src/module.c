/* Modules: loading images, functions and variables by name. */
#include "cuda_api.h"
#include "function.h"
#include "guest_send.h"
#include "image.h"
#include "memory.h"
#include <stdlib.h>
#include <string.h>

/* ---- what modules and libraries share ---- */

CUresult ivg_module_create(enum ivg_kind kind, struct ivg_object *context, struct ivg_object **object)
{
        struct ivg_module *module = calloc(1, sizeof *module);
        if (module == NULL)
                return CUDA_ERROR_OUT_OF_MEMORY;
        const CUresult result = ivg_object_create(kind, context, object);
        if (result != CUDA_SUCCESS) {
                free(module);
                return result;
        }
        ivg_names_init(&module->functions);
        ivg_names_init(&module->variables);
        ivg_names_init(&module->textures);
        ivg_names_init(&module->surfaces);
        ivg_names_init(&module->modules);
        (*object)->data = module;
        return CUDA_SUCCESS;
}

/* Gone already when its context went first. */
static void end_variable(struct ivg_name *name)
{
        struct ivg_memory_range range;
        if (name->range_id != 0 && ivg_memory_find(&ivg_memory_of_device, name->address, &range) &&
            range.id == name->range_id)
                (void)ivg_memory_remove(&ivg_memory_of_device, name->address, IVG_MEMORY_GLOBAL, &range);
}

static void module_release(struct ivg_object *object)
{
        struct ivg_module *module = ivg_module_of(object);
        if (module == NULL)
                return;
        object->data = NULL;
        ivg_names_end(&module->functions, ivg_name_end_object);
        ivg_names_end(&module->modules, ivg_name_end_object);
        ivg_names_end(&module->textures, ivg_name_end_object);
        ivg_names_end(&module->surfaces, ivg_name_end_object);
        ivg_names_end(&module->variables, end_variable);
        free(module);
}

__attribute__((constructor)) static void set_releases(void)
{
        ivg_object_set_release(IVG_KIND_MODULE, module_release);
        ivg_object_set_release(IVG_KIND_LIBRARY, module_release);
}

/* Notes a variable's memory, so that copies know its address for the device's. Variables without memory (empty arrays)
 * and ones that another name covers get no entry, and are asked for each time. */
static void note_variable(struct ivg_name *entry, struct ivg_object *context)
{
        struct ivg_memory_range range = {
                .base = entry->address,
                .bytes = entry->bytes,
                .kind = IVG_MEMORY_GLOBAL,
                .device = context->device,
                .context = ivg_context_owner(context),
        };
        entry->range_id = 0;
        if (range.bytes == 0)
                return;
        if (!ivg_shadow_reserve(range.base, range.bytes))
                range.flags |= IVG_MEMORY_AMBIGUOUS;
        if (ivg_memory_add(&ivg_memory_of_device, &range) == 0)
                entry->range_id = range.id;
}

/* A primary context keeps its number when it is reset, but its variables are others then: their ranges are gone. */
static bool variable_is_current(const struct ivg_name *entry)
{
        struct ivg_memory_range range;
        return entry->range_id != 0 && ivg_memory_find(&ivg_memory_of_device, entry->address, &range) &&
               range.id == entry->range_id;
}

/* Lock held. */
static CUresult variable_ask(struct ivg_object *owner, struct ivg_object *context, const char *name,
                             ivg_ask_variable ask, struct ivg_name **entry)
{
        uint64_t address = 0, bytes = 0;
        const CUresult result = ask(owner->id, name, &address, &bytes);
        if (result != CUDA_SUCCESS)
                return result;
        if (*entry == NULL)
                *entry = ivg_names_add(&ivg_module_of(owner)->variables, name, context->id);
        if (*entry == NULL)
                return CUDA_ERROR_OUT_OF_MEMORY;
        (*entry)->address = address;
        (*entry)->bytes = bytes;
        note_variable(*entry, context);
        return CUDA_SUCCESS;
}

CUresult ivg_module_variable(struct ivg_object *owner, struct ivg_object *context, const char *name,
                             ivg_ask_variable ask, CUdeviceptr *address, size_t *bytes)
{
        struct ivg_names *variables = &ivg_module_of(owner)->variables;
        CUresult result = CUDA_SUCCESS;
        pthread_mutex_lock(&variables->lock);
        struct ivg_name *entry = ivg_names_find(variables, name, context->id);
        if (entry == NULL || !variable_is_current(entry))
                result = variable_ask(owner, context, name, ask, &entry);
        if (result == CUDA_SUCCESS && address != NULL)
                *address = entry->address;
        if (result == CUDA_SUCCESS && bytes != NULL)
                *bytes = entry->bytes;
        pthread_mutex_unlock(&variables->lock);
        return result;
}

/* Lock held. */
static CUresult function_ask(struct ivg_object *owner, enum ivg_kind kind, const char *name, ivg_ask_function ask,
                             struct ivg_name **entry)
{
        struct ivg_object *function;
        CUresult result = ivg_function_create(kind, owner->context, owner, name, &function);
        if (result != CUDA_SUCCESS)
                return result;
        if (kind == IVG_KIND_KERNEL)
                ivg_function_of(function)->kernel = function;
        result = ask(owner->id, name, function->id);
        if (result == CUDA_SUCCESS) {
                *entry = ivg_names_add(&ivg_module_of(owner)->functions, name, IVG_ID_NONE);
                if (*entry == NULL)
                        result = CUDA_ERROR_OUT_OF_MEMORY;
        }
        if (result != CUDA_SUCCESS) {
                ivg_object_destroy(function);
                return result;
        }
        (*entry)->object = function;
        (*entry)->id = function->id;
        return CUDA_SUCCESS;
}

CUresult ivg_module_function(struct ivg_object *owner, enum ivg_kind kind, const char *name, ivg_ask_function ask,
                             struct ivg_object **function)
{
        struct ivg_names *functions = &ivg_module_of(owner)->functions;
        CUresult result = CUDA_SUCCESS;
        pthread_mutex_lock(&functions->lock);
        struct ivg_name *entry = ivg_names_find(functions, name, IVG_ID_NONE);
        if (entry == NULL)
                result = function_ask(owner, kind, name, ask, &entry);
        if (result == CUDA_SUCCESS)
                *function = entry->object;
        pthread_mutex_unlock(&functions->lock);
        return result;
}

CUresult ivg_module_functions(struct ivg_object *owner, ivg_ask_names ask, ivg_get_function get, void *handles,
                              unsigned int most)
{
        char *names;
        uint32_t count;
        CUresult result = ivg_names_fetch(ask, owner->id, &names, &count);
        if (result != CUDA_SUCCESS)
                return result;
        const char *name = names;
        for (uint32_t i = 0; i < most && i < count && result == CUDA_SUCCESS; i++) {
                struct ivg_object *function;
                result = get(owner, name, &function);
                if (result == CUDA_SUCCESS) /* as an object or a kind of handle of the driver's */
                        memcpy((char *)handles + i * sizeof(function), &function, sizeof(function));
                name += strlen(name) + 1;
        }
        free(names);
        return result;
}

/* ---- loading ---- */

struct module_load {
        const struct ivg_jit *jit;
        struct ivg_jit_answer answer;
        ivg_id module;
};

static CUresult send_load(const struct ivg_image_load *load, void *argument, uint32_t *wanted)
{
        struct module_load *own = argument;
        const struct ivg_flat_image *image = load->image;
        const struct ivg_jit *jit = own->jit;

        return ivg_send_ivgModuleLoad(load->data, load->bytes, &load->name, image->parts, image->parts_count, jit->wire,
                                      jit->wire_count, jit->info_log, jit->info_bytes, jit->error_log, jit->error_bytes,
                                      own->module, wanted, &own->answer.info_used, &own->answer.error_used,
                                      &own->answer.wall_time, &own->answer.threads);
}

static CUresult load_flat(CUmodule *module, struct ivg_object *context, const struct ivg_flat_image *image,
                          const struct ivg_jit *jit)
{
        struct module_load load = {.jit = jit};
        struct ivg_object *object;
        CUresult result = ivg_module_create(IVG_KIND_MODULE, context, &object);
        if (result != CUDA_SUCCESS)
                return result;
        load.module = object->id;
        result = ivg_image_send(image, send_load, &load);
        ivg_jit_store(jit, &load.answer);
        if (result != CUDA_SUCCESS) {
                ivg_object_destroy(object);
                return result;
        }
        *module = (CUmodule)object;
        return CUDA_SUCCESS;
}

static CUresult load(CUmodule *module, const void *image, unsigned int count, const CUjit_option *options,
                     void **values)
{
        struct ivg_object *context;
        struct ivg_flat_image flat;
        struct ivg_jit jit;
        CUresult result = ivg_context_require(&context);
        if (result != CUDA_SUCCESS)
                return result;
        if (module == NULL || image == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        result = ivg_jit_parse(&jit, count, options, values);
        if (result != CUDA_SUCCESS)
                return result;
        result = ivg_image_load(image, &flat);
        if (result == CUDA_SUCCESS)
                result = load_flat(module, context, &flat, &jit);
        ivg_image_close(&flat);
        return result;
}

CUresult cuModuleLoadData(CUmodule *module, const void *image)
{
        return load(module, image, 0, NULL, NULL);
}

CUresult cuModuleLoadDataEx(CUmodule *module, const void *image, unsigned int numOptions, CUjit_option *options,
                            void **optionValues)
{
        return load(module, image, numOptions, options, optionValues);
}

CUresult cuModuleLoadFatBinary(CUmodule *module, const void *fatCubin)
{
        return load(module, fatCubin, 0, NULL, NULL);
}

CUresult cuModuleLoad(CUmodule *module, const char *fname)
{
        void *contents;
        uint64_t bytes;
        CUresult result = ivg_process_check();
        if (result != CUDA_SUCCESS)
                return result;
        if (module == NULL || fname == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        result = ivg_file_read(fname, &contents, &bytes);
        if (result != CUDA_SUCCESS)
                return result;
        result = load(module, contents, 0, NULL, NULL);
        free(contents);
        return result;
}

/* What each call about a module starts with: a context, complete arguments, the handle. */
static CUresult module_asked(CUmodule handle, bool complete, struct ivg_object **module)
{
        struct ivg_object *context;
        const CUresult result = ivg_context_require(&context);
        if (result != CUDA_SUCCESS)
                return result;
        if (!complete)
                return CUDA_ERROR_INVALID_VALUE;
        *module = ivg_object_of(IVG_KIND_MODULE, handle);
        return *module != NULL ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

CUresult cuModuleUnload(CUmodule hmod)
{
        struct ivg_object *object;
        CUresult result = module_asked(hmod, true, &object);
        if (result != CUDA_SUCCESS)
                return result;
        if (ivg_module_of(object)->library != NULL) /* a library's module goes with the library */
                return CUDA_ERROR_INVALID_HANDLE;
        result = ivg_send_cuModuleUnload(object->id);
        if (result == CUDA_SUCCESS)
                ivg_object_destroy(object);
        return result;
}

CUresult cuModuleGetLoadingMode(CUmoduleLoadingMode *mode)
{
        CUresult result = ivg_process_check();
        if (result == CUDA_SUCCESS && mode == NULL)
                result = CUDA_ERROR_INVALID_VALUE;
        if (result == CUDA_SUCCESS)
                *mode = CU_MODULE_LAZY_LOADING; /* the driver's own mode since CUDA 12; nothing here forces another */
        return ivg_local("cuModuleGetLoadingMode", result);
}

/* ---- functions and variables ---- */

static CUresult get_function(struct ivg_object *module, const char *name, struct ivg_object **function)
{
        return ivg_module_function(module, IVG_KIND_FUNCTION, name, ivg_send_cuModuleGetFunction, function);
}

CUresult cuModuleGetFunction(CUfunction *hfunc, CUmodule hmod, const char *name)
{
        struct ivg_object *module, *function;
        CUresult result = module_asked(hmod, hfunc != NULL && name != NULL, &module);
        if (result != CUDA_SUCCESS)
                return result;
        result = get_function(module, name, &function);
        if (result == CUDA_SUCCESS)
                *hfunc = (CUfunction)function;
        return result;
}

CUresult cuModuleGetGlobal_v2(CUdeviceptr *dptr, size_t *bytes, CUmodule hmod, const char *name)
{
        struct ivg_object *module;
        const CUresult result = module_asked(hmod, name != NULL, &module);
        if (result != CUDA_SUCCESS)
                return result;
        return ivg_module_variable(module, module->context, name, ivg_send_cuModuleGetGlobal_v2, dptr, bytes);
}

CUresult cuModuleEnumerateFunctions(CUfunction *functions, unsigned int numFunctions, CUmodule mod)
{
        struct ivg_object *module;
        const CUresult result = module_asked(mod, functions != NULL && numFunctions != 0, &module);
        return result != CUDA_SUCCESS ? result
                                      : ivg_module_functions(module, ivg_send_ivgModuleFunctionNames, get_function,
                                                             functions, numFunctions);
}
