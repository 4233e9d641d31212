/* Libraries: an image that belongs to no context, and is loaded into each one that uses it. */
#include <stdlib.h>
#include <string.h>

#include "softgpu.h"

#define SG_LOG_BYTES 4096u
#define SG_LIBRARY_OPTIONS_MAX 16u

/* The prototype's variables are never touched by a kernel: plain memory. */
static void *sg_prototype_allocate(void *user, size_t bytes, size_t alignment)
{
        (void)user;
        void *address;
        if (alignment < sizeof(void *))
                alignment = sizeof(void *);
        if (posix_memalign(&address, alignment, bytes != 0 ? bytes : 1) != 0)
                return NULL;
        memset(address, 0, bytes);
        return address;
}

static void sg_prototype_release(void *user, void *address)
{
        (void)user;
        free(address);
}

static CUresult sg_library_kernels(struct sg_library *library)
{
        const size_t count = ptx_function_count(library->prototype);
        library->kernels = calloc(count + 1, sizeof(struct sg_kernel *));
        if (library->kernels == NULL)
                return CUDA_ERROR_OUT_OF_MEMORY;
        for (size_t i = 0; i < count; i++) {
                struct sg_kernel *kernel = sg_object_new(SG_KERNEL);
                if (kernel == NULL)
                        return CUDA_ERROR_OUT_OF_MEMORY;
                library->kernels[library->kernel_count++] = kernel;
                kernel->library = library;
                kernel->code = ptx_function_at(library->prototype, i);
                ptx_function_query(kernel->code, &kernel->info);
                for (unsigned device = 0; device < SG_DEVICES_MAX; device++)
                        sg_function_settings_init(&kernel->settings[device]);
        }
        return CUDA_SUCCESS;
}

/* Takes the image. */
static CUresult sg_library_open(struct sg_image *image, const struct sg_jit_options *jit, struct sg_library **out)
{
        static const struct ptx_allocator allocator = {sg_prototype_allocate, sg_prototype_release, NULL};
        char text[SG_LOG_BYTES] = "";
        struct ptx_log log = {text, sizeof(text), 0};
        struct sg_library *library = sg_object_new(SG_LIBRARY);
        if (library == NULL) {
                sg_image_close(image);
                return CUDA_ERROR_OUT_OF_MEMORY;
        }
        library->image = *image;
        CUresult result = sg_result_of_ptx(
                ptx_load(library->image.text, library->image.bytes, &allocator, &log, &library->prototype));
        sg_jit_options_report(jit, result, &log);
        if (result != CUDA_SUCCESS)
                sg_report("PTX not loaded: %s", text);
        else
                result = sg_library_kernels(library);
        if (result != CUDA_SUCCESS)
                sg_object_put(library);
        else
                *out = library;
        return result;
}

void sg_library_finalize(struct sg_library *library)
{
        for (size_t i = 0; i < library->kernel_count; i++)
                sg_object_put(library->kernels[i]);
        free(library->kernels);
        if (library->prototype != NULL)
                ptx_unload(library->prototype);
        sg_image_close(&library->image);
}

/* ---- its modules ---- */

/* The library's slot for a context, or a free one when `context` is NULL; under sg_state_lock. */
static struct sg_module **sg_library_slot(struct sg_library *library, const struct sg_context *context)
{
        for (size_t i = 0; i < SG_LIBRARY_CONTEXTS_MAX; i++) {
                const struct sg_module *module = library->modules[i];
                if (context == NULL ? module == NULL : module != NULL && module->context == context)
                        return &library->modules[i];
        }
        return NULL;
}

CUresult sg_library_module(struct sg_library *library, struct sg_context *context, struct sg_module **out)
{
        pthread_mutex_lock(&sg_state_lock);
        struct sg_module **slot = sg_library_slot(library, context);
        struct sg_module *module = slot != NULL ? *slot : NULL;
        pthread_mutex_unlock(&sg_state_lock);
        if (module != NULL) {
                *out = module;
                return CUDA_SUCCESS;
        }
        const CUresult result = sg_module_load(context, &library->image, NULL, &module);
        if (result != CUDA_SUCCESS)
                return result;
        module->library = library;
        for (size_t i = 0; i < module->function_count; i++)
                module->functions[i]->settings = &library->kernels[i]->settings[context->device->ordinal];

        pthread_mutex_lock(&sg_state_lock);
        slot = sg_library_slot(library, context);
        struct sg_module *other = slot != NULL ? *slot : NULL; /* another thread was faster */
        if (other == NULL && (slot = sg_library_slot(library, NULL)) != NULL)
                *slot = module;
        pthread_mutex_unlock(&sg_state_lock);
        if (slot != NULL && other == NULL) {
                *out = module;
                return CUDA_SUCCESS;
        }
        if (sg_object_retire(module))
                sg_module_close(module);
        *out = other;
        return other != NULL ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

/* Takes a module out of its library's list, if its handle is still there to take. */
static void sg_library_module_close(struct sg_module *module)
{
        if (sg_object_retire(module))
                sg_module_close(module);
}

void sg_library_forget_context(struct sg_context *context)
{
        for (;;) {
                struct sg_module *found = NULL;
                pthread_mutex_lock(&sg_state_lock);
                for (struct sg_module *module = context->modules; module != NULL && found == NULL;
                     module = module->next) {
                        struct sg_module **slot =
                                module->library != NULL ? sg_library_slot(module->library, context) : NULL;
                        if (slot != NULL) {
                                found = *slot;
                                *slot = NULL;
                        }
                }
                pthread_mutex_unlock(&sg_state_lock);
                if (found == NULL)
                        return;
                sg_library_module_close(found);
        }
}

static void sg_library_close(struct sg_library *library)
{
        for (size_t i = 0; i < SG_LIBRARY_CONTEXTS_MAX; i++) {
                pthread_mutex_lock(&sg_state_lock);
                struct sg_module *module = library->modules[i];
                library->modules[i] = NULL;
                pthread_mutex_unlock(&sg_state_lock);
                if (module == NULL)
                        continue;
                (void)sg_context_drain(module->context);
                sg_library_module_close(module);
        }
        for (size_t i = 0; i < library->kernel_count; i++)
                (void)sg_object_retire(library->kernels[i]);
        sg_object_put(library);
}

/* ---- calls ---- */

static CUresult sg_library_options_check(unsigned count, const CUlibraryOption *options, void **values)
{
        if (count > SG_LIBRARY_OPTIONS_MAX || (count != 0 && options == NULL))
                return CUDA_ERROR_INVALID_VALUE;
        (void)values;
        for (unsigned i = 0; i < count; i++) {
                if (options[i] == CU_LIBRARY_HOST_UNIVERSAL_FUNCTION_AND_DATA_TABLE)
                        return CUDA_ERROR_NOT_SUPPORTED;
                if (options[i] != CU_LIBRARY_BINARY_IS_PRESERVED) /* the text is copied all the same */
                        return CUDA_ERROR_INVALID_VALUE;
        }
        return CUDA_SUCCESS;
}

/* Of an image, or of a file that holds one. */
static CUresult sg_library_load(CUlibrary *out, const void *code, const char *path, CUjit_option *jit_options,
                                void **jit_values, unsigned jit_count, CUlibraryOption *options, void **values,
                                unsigned count)
{
        struct sg_jit_options jit;
        struct sg_image image;
        struct sg_library *library;
        CUresult result = sg_ready();
        if (result == CUDA_SUCCESS && (out == NULL || (code == NULL && path == NULL)))
                result = CUDA_ERROR_INVALID_VALUE;
        if (result == CUDA_SUCCESS)
                result = sg_jit_options_read(jit_count, jit_options, jit_values, &jit);
        if (result == CUDA_SUCCESS)
                result = sg_library_options_check(count, options, values);
        if (result == CUDA_SUCCESS)
                result = code != NULL ? sg_image_open(code, &image) : sg_image_open_file(path, &image);
        if (result == CUDA_SUCCESS)
                result = sg_library_open(&image, &jit, &library);
        if (result == CUDA_SUCCESS)
                *out = (CUlibrary)library;
        return result;
}

SG_ENTRY(cuLibraryLoadData, CUlibrary *out, const void *code, CUjit_option *jit_options, void **jit_values,
         unsigned jit_count, CUlibraryOption *options, void **values, unsigned count)
{
        return sg_library_load(out, code, NULL, jit_options, jit_values, jit_count, options, values, count);
}

SG_ENTRY(cuLibraryLoadFromFile, CUlibrary *out, const char *path, CUjit_option *jit_options, void **jit_values,
         unsigned jit_count, CUlibraryOption *options, void **values, unsigned count)
{
        return sg_library_load(out, NULL, path, jit_options, jit_values, jit_count, options, values, count);
}

static CUresult sg_library_resolve(CUlibrary handle, struct sg_library **out)
{
        const CUresult ready = sg_ready();
        if (ready != CUDA_SUCCESS)
                return ready;
        *out = sg_object_from(handle, SG_LIBRARY);
        return *out != NULL ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

SG_ENTRY(cuLibraryUnload, CUlibrary handle)
{
        struct sg_library *library;
        const CUresult result = sg_library_resolve(handle, &library);
        if (result != CUDA_SUCCESS)
                return result;
        if (!sg_object_retire(library))
                return CUDA_ERROR_INVALID_HANDLE;
        sg_library_close(library);
        return CUDA_SUCCESS;
}

static CUresult sg_library_current_module(CUlibrary handle, struct sg_module **out)
{
        struct sg_library *library;
        struct sg_context *context;
        CUresult result = sg_library_resolve(handle, &library);
        if (result == CUDA_SUCCESS)
                result = sg_context_current(&context);
        return result != CUDA_SUCCESS ? result : sg_library_module(library, context, out);
}

SG_ENTRY(cuLibraryGetModule, CUmodule *out, CUlibrary handle)
{
        struct sg_module *module;
        const CUresult result = sg_library_current_module(handle, &module);
        if (result != CUDA_SUCCESS)
                return result;
        if (out == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        *out = (CUmodule)module;
        return CUDA_SUCCESS;
}

SG_ENTRY(cuLibraryGetGlobal, CUdeviceptr *address, size_t *bytes, CUlibrary handle, const char *name)
{
        struct sg_module *module;
        const CUresult result = sg_library_current_module(handle, &module);
        return result != CUDA_SUCCESS ? result : sg_module_variable(module, name, address, bytes);
}

/* No device here has unified function pointers. */
SG_ENTRY(cuLibraryGetUnifiedFunction, void **out, CUlibrary handle, const char *name)
{
        struct sg_library *library;
        const CUresult result = sg_library_resolve(handle, &library);
        if (result != CUDA_SUCCESS)
                return result;
        (void)out;
        (void)name;
        return CUDA_ERROR_INVALID_VALUE; /* as NVIDIA's driver answers for a name that the library does not have */
}

SG_ENTRY(cuLibraryGetKernel, CUkernel *out, CUlibrary handle, const char *name)
{
        struct sg_library *library;
        const CUresult result = sg_library_resolve(handle, &library);
        if (result != CUDA_SUCCESS)
                return result;
        if (out == NULL || name == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        for (size_t i = 0; i < library->kernel_count; i++)
                if (strcmp(library->kernels[i]->info.name, name) == 0) {
                        *out = (CUkernel)library->kernels[i];
                        return CUDA_SUCCESS;
                }
        return CUDA_ERROR_NOT_FOUND;
}

SG_ENTRY(cuLibraryGetKernelCount, unsigned *out, CUlibrary handle)
{
        struct sg_library *library;
        const CUresult result = sg_library_resolve(handle, &library);
        if (result != CUDA_SUCCESS)
                return result;
        if (out == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        *out = (unsigned)library->kernel_count;
        return CUDA_SUCCESS;
}

SG_ENTRY(cuLibraryEnumerateKernels, CUkernel *out, unsigned capacity, CUlibrary handle)
{
        struct sg_library *library;
        const CUresult result = sg_library_resolve(handle, &library);
        if (result != CUDA_SUCCESS)
                return result;
        if (out == NULL || capacity == 0)
                return CUDA_ERROR_INVALID_VALUE;
        for (size_t i = 0; i < library->kernel_count && i < capacity; i++)
                out[i] = (CUkernel)library->kernels[i];
        return CUDA_SUCCESS;
}
