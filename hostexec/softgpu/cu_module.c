/* Modules: one PTX text, loaded into one context. Its variables are device memory of that context. */
#include <stdlib.h>
#include <string.h>

#include "array.h"
#include "softgpu.h"

#define SG_LOG_BYTES 4096u
#define SG_JIT_OPTIONS_MAX 64u
#define SG_FILE_BYTES_MAX SG_IMAGE_BYTES_MAX

CUresult sg_result_of_ptx(enum ptx_status status)
{
        switch (status) {
        case PTX_OK:
                return CUDA_SUCCESS;
        case PTX_OUT_OF_MEMORY:
                return CUDA_ERROR_OUT_OF_MEMORY;
        case PTX_UNSUPPORTED:
                return CUDA_ERROR_NO_BINARY_FOR_GPU;
        case PTX_ILLEGAL_ADDRESS:
                return CUDA_ERROR_ILLEGAL_ADDRESS;
        case PTX_MISALIGNED:
                return CUDA_ERROR_MISALIGNED_ADDRESS;
        case PTX_ASSERT:
                return CUDA_ERROR_ASSERT;
        case PTX_OUT_OF_RESOURCES:
                return CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES;
        case PTX_TRAP:
        case PTX_BARRIER:
        case PTX_ABORTED:
                return CUDA_ERROR_LAUNCH_FAILED;
        case PTX_INVALID:
                break;
        }
        return CUDA_ERROR_INVALID_PTX;
}

/* ---- JIT options ---- */

CUresult sg_jit_options_read(unsigned count, const CUjit_option *options, void **values, struct sg_jit_options *out)
{
        *out = (struct sg_jit_options){0};
        if (count > SG_JIT_OPTIONS_MAX || (count != 0 && (options == NULL || values == NULL)))
                return CUDA_ERROR_INVALID_VALUE;
        for (unsigned i = 0; i < count; i++) {
                switch (options[i]) {
                case CU_JIT_INFO_LOG_BUFFER:
                        out->info_text = values[i];
                        break;
                case CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES:
                        out->info_bytes = (unsigned)(uintptr_t)values[i];
                        out->info_used = &values[i];
                        break;
                case CU_JIT_ERROR_LOG_BUFFER:
                        out->error_text = values[i];
                        break;
                case CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES:
                        out->error_bytes = (unsigned)(uintptr_t)values[i];
                        out->error_used = &values[i];
                        break;
                default: /* how to generate code for a chip: nothing is generated here */
                        if ((int)options[i] < 0 || options[i] >= CU_JIT_NUM_OPTIONS)
                                return CUDA_ERROR_INVALID_VALUE;
                }
        }
        return CUDA_SUCCESS;
}

static void sg_jit_fill(char *text, size_t capacity, void **used, const char *source, size_t bytes)
{
        if (text == NULL || capacity == 0)
                bytes = 0;
        else if (bytes >= capacity)
                bytes = capacity - 1;
        if (text != NULL && capacity != 0) {
                memcpy(text, source, bytes);
                text[bytes] = '\0';
        }
        if (used != NULL)
                *used = (void *)(uintptr_t)bytes;
}

void sg_jit_options_report(const struct sg_jit_options *options, CUresult result, const struct ptx_log *log)
{
        const size_t used = log->used < log->capacity ? strnlen(log->text, log->capacity) : log->capacity - 1;
        const bool failed = result != CUDA_SUCCESS;
        sg_jit_fill(options->error_text, options->error_bytes, options->error_used, log->text, failed ? used : 0);
        sg_jit_fill(options->info_text, options->info_bytes, options->info_used, log->text, failed ? 0 : used);
}

/* ---- loading ---- */

static void *sg_variable_allocate(void *user, size_t bytes, size_t alignment)
{
        struct sg_module *module = user;
        struct sg_allocation *allocation;
        /* The heap aligns to 512 bytes; PTX allows no more than 128. */
        if (alignment > 256 || bytes == 0 ||
            sg_device_allocate(module->context, bytes, SG_MEMORY_MODULE, NULL, &allocation) != CUDA_SUCCESS)
                return NULL;
        void *address = sg_pointer(allocation->start);
        memset(address, 0, bytes);
        return address;
}

static void sg_variable_release(void *user, void *address)
{
        (void)user;
        struct sg_allocation *allocation = sg_registry_take(sg_address(address), 1u << SG_MEMORY_MODULE);
        if (allocation != NULL) { /* NULL: the context's end has freed it already */
                sg_contexts_forget_maps();
                sg_allocation_put(allocation);
        }
}

void sg_function_settings_init(struct sg_function_settings *settings)
{
        atomic_init(&settings->dynamic_shared_max, -1);
        atomic_init(&settings->carveout, -1);
        atomic_init(&settings->cache_config, 0);
}

static CUresult sg_module_functions(struct sg_module *module)
{
        const size_t count = ptx_function_count(module->code);
        module->functions = calloc(count + 1, sizeof(struct sg_function *));
        if (module->functions == NULL)
                return CUDA_ERROR_OUT_OF_MEMORY;
        for (size_t i = 0; i < count; i++) {
                struct sg_function *function = sg_object_new(SG_FUNCTION);
                if (function == NULL)
                        return CUDA_ERROR_OUT_OF_MEMORY;
                module->functions[module->function_count++] = function;
                function->module = module;
                function->code = ptx_function_at(module->code, i);
                ptx_function_query(function->code, &function->info);
                sg_function_settings_init(&function->own);
                function->settings = &function->own;
        }
        return CUDA_SUCCESS;
}

static void sg_module_link(struct sg_module *module)
{
        struct sg_context *context = module->context;
        pthread_mutex_lock(&sg_state_lock);
        module->next = context->modules;
        module->previous = &context->modules;
        if (module->next != NULL)
                module->next->previous = &module->next;
        context->modules = module;
        pthread_mutex_unlock(&sg_state_lock);
}

CUresult sg_module_load(struct sg_context *context, const struct sg_image *image, const struct sg_jit_options *options,
                        struct sg_module **out)
{
        char text[SG_LOG_BYTES] = "";
        struct ptx_log log = {text, sizeof(text), 0};
        struct sg_module *module = sg_object_new(SG_MODULE);
        if (module == NULL)
                return CUDA_ERROR_OUT_OF_MEMORY;
        module->context = context;
        sg_object_get(context);
        /* The engine keeps the allocator: the module is where it lives. */
        const struct ptx_allocator allocator = {sg_variable_allocate, sg_variable_release, module};
        CUresult result = sg_result_of_ptx(ptx_load(image->text, image->bytes, &allocator, &log, &module->code));
        if (options != NULL)
                sg_jit_options_report(options, result, &log);
        if (result != CUDA_SUCCESS)
                sg_report("PTX not loaded: %s", text);
        else
                result = sg_module_functions(module);
        if (result != CUDA_SUCCESS) {
                sg_object_put(module);
                return result;
        }
        sg_module_link(module);
        *out = module;
        return CUDA_SUCCESS;
}

void sg_module_close(struct sg_module *module)
{
        pthread_mutex_lock(&sg_state_lock);
        if (module->previous != NULL) {
                *module->previous = module->next;
                if (module->next != NULL)
                        module->next->previous = module->previous;
                module->previous = NULL;
        }
        pthread_mutex_unlock(&sg_state_lock);
        for (size_t i = 0; i < module->function_count; i++)
                (void)sg_object_retire(module->functions[i]);
        sg_references_close(module);
        sg_object_put(module); /* launches that are queued hold it until they are done */
}

void sg_module_finalize(struct sg_module *module)
{
        for (size_t i = 0; i < module->function_count; i++)
                sg_object_put(module->functions[i]);
        free(module->functions);
        if (module->code != NULL)
                ptx_unload(module->code);
        sg_object_put(module->context);
}

/* ---- calls ---- */

SG_ENTRY(cuModuleLoadDataEx, CUmodule *out, const void *data, unsigned count, CUjit_option *options, void **values)
{
        struct sg_context *context;
        struct sg_jit_options jit;
        struct sg_image image;
        struct sg_module *module;
        CUresult result = sg_context_current(&context);
        if (result == CUDA_SUCCESS && (out == NULL || data == NULL))
                result = CUDA_ERROR_INVALID_VALUE;
        if (result == CUDA_SUCCESS)
                result = sg_jit_options_read(count, options, values, &jit);
        if (result == CUDA_SUCCESS)
                result = sg_image_open(data, &image);
        if (result != CUDA_SUCCESS)
                return result;
        result = sg_module_load(context, &image, &jit, &module);
        sg_image_close(&image);
        if (result == CUDA_SUCCESS)
                *out = (CUmodule)module;
        return result;
}

SG_ENTRY(cuModuleLoadData, CUmodule *out, const void *data)
{
        return cuModuleLoadDataEx(out, data, 0, NULL, NULL);
}

SG_ENTRY(cuModuleLoadFatBinary, CUmodule *out, const void *data)
{
        return cuModuleLoadDataEx(out, data, 0, NULL, NULL);
}

SG_ENTRY(cuModuleLoad, CUmodule *out, const char *path)
{
        struct sg_context *context;
        struct sg_image image;
        struct sg_module *module;
        CUresult result = sg_context_current(&context);
        if (result == CUDA_SUCCESS && (out == NULL || path == NULL))
                result = CUDA_ERROR_INVALID_VALUE;
        if (result == CUDA_SUCCESS)
                result = sg_image_open_file(path, &image);
        if (result != CUDA_SUCCESS)
                return result;
        const struct sg_jit_options none = {0};
        result = sg_module_load(context, &image, &none, &module);
        sg_image_close(&image);
        if (result == CUDA_SUCCESS)
                *out = (CUmodule)module;
        return result;
}

static CUresult sg_module_resolve(CUmodule handle, struct sg_module **out)
{
        struct sg_context *context;
        const CUresult result = sg_context_current(&context);
        if (result != CUDA_SUCCESS)
                return result;
        *out = sg_object_from(handle, SG_MODULE);
        return *out != NULL ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

SG_ENTRY(cuModuleUnload, CUmodule handle)
{
        struct sg_module *module;
        const CUresult result = sg_module_resolve(handle, &module);
        if (result != CUDA_SUCCESS)
                return result;
        /* A library's module goes with its library. */
        if (module->library != NULL || !sg_object_retire(module))
                return CUDA_ERROR_INVALID_HANDLE;
        (void)sg_context_drain(module->context);
        sg_module_close(module);
        return CUDA_SUCCESS;
}

SG_ENTRY(cuModuleGetLoadingMode, CUmoduleLoadingMode *out)
{
        const CUresult ready = sg_ready();
        if (ready != CUDA_SUCCESS)
                return ready;
        if (out == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        *out = CU_MODULE_EAGER_LOADING;
        return CUDA_SUCCESS;
}

SG_ENTRY(cuModuleGetFunction, CUfunction *out, CUmodule handle, const char *name)
{
        struct sg_module *module;
        const CUresult result = sg_module_resolve(handle, &module);
        if (result != CUDA_SUCCESS)
                return result;
        if (out == NULL || name == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        for (size_t i = 0; i < module->function_count; i++)
                if (strcmp(module->functions[i]->info.name, name) == 0) {
                        *out = (CUfunction)module->functions[i];
                        return CUDA_SUCCESS;
                }
        return CUDA_ERROR_NOT_FOUND;
}

SG_ENTRY(cuModuleGetFunctionCount, unsigned *out, CUmodule handle)
{
        struct sg_module *module;
        const CUresult result = sg_module_resolve(handle, &module);
        if (result != CUDA_SUCCESS)
                return result;
        if (out == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        *out = (unsigned)module->function_count;
        return CUDA_SUCCESS;
}

SG_ENTRY(cuModuleEnumerateFunctions, CUfunction *out, unsigned capacity, CUmodule handle)
{
        struct sg_module *module;
        const CUresult result = sg_module_resolve(handle, &module);
        if (result != CUDA_SUCCESS)
                return result;
        if (out == NULL || capacity == 0)
                return CUDA_ERROR_INVALID_VALUE;
        for (size_t i = 0; i < module->function_count && i < capacity; i++)
                out[i] = (CUfunction)module->functions[i];
        return CUDA_SUCCESS;
}

CUresult sg_module_variable(const struct sg_module *module, const char *name, CUdeviceptr *address, size_t *bytes)
{
        void *found;
        size_t found_bytes;
        if (name == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        if (!ptx_global_find(module->code, name, &found, &found_bytes))
                return CUDA_ERROR_NOT_FOUND;
        if (address != NULL)
                *address = sg_address(found);
        if (bytes != NULL)
                *bytes = found_bytes;
        return CUDA_SUCCESS;
}

SG_ENTRY(cuModuleGetGlobal_v2, CUdeviceptr *address, size_t *bytes, CUmodule handle, const char *name)
{
        struct sg_module *module;
        const CUresult result = sg_module_resolve(handle, &module);
        return result != CUDA_SUCCESS ? result : sg_module_variable(module, name, address, bytes);
}
