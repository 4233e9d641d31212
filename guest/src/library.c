/* Libraries: modules that belong to no context. Their kernels are made into functions where they are launched. */
#include "cuda_api.h"
#include "function.h"
#include "guest_send.h"
#include "image.h"
#include "memory.h"
#include <stdlib.h>

#define LIBRARY_OPTIONS_MAX 16u

/* The program's promise to keep the image is dropped: the driver gets a copy that the executor does not keep. */
static CUresult parse_library_options(unsigned int count, const CUlibraryOption *options)
{
        /* cuBLASLt gives BINARY_IS_PRESERVED without values, and the driver takes it: that option has none. */
        if (count > LIBRARY_OPTIONS_MAX || (count > 0 && options == NULL))
                return CUDA_ERROR_INVALID_VALUE;
        for (unsigned int i = 0; i < count; i++) {
                switch (options[i]) {
                case CU_LIBRARY_BINARY_IS_PRESERVED:
                        break;
                case CU_LIBRARY_HOST_UNIVERSAL_FUNCTION_AND_DATA_TABLE:
                        return ivg_refuse("library option CU_LIBRARY_HOST_UNIVERSAL_FUNCTION_AND_DATA_TABLE");
                default:
                        return CUDA_ERROR_INVALID_VALUE;
                }
        }
        return CUDA_SUCCESS;
}

struct library_load {
        const struct ivg_jit *jit;
        struct ivg_jit_answer answer;
        ivg_id library;
};

static CUresult send_load(const struct ivg_image_load *load, void *argument, uint32_t *wanted)
{
        const struct ivg_wire_jit_option no_options = {0}; /* the empty range has an address */
        struct library_load *own = argument;
        const struct ivg_flat_image *image = load->image;
        const struct ivg_jit *jit = own->jit;

        return ivg_send_ivgLibraryLoad(load->data, load->bytes, &load->name, image->parts, image->parts_count,
                                       jit->wire, jit->wire_count, &no_options, 0, jit->info_log, jit->info_bytes,
                                       jit->error_log, jit->error_bytes, own->library, wanted, &own->answer.info_used,
                                       &own->answer.error_used, &own->answer.wall_time);
}

static CUresult load_flat(CUlibrary *library, const struct ivg_flat_image *image, const struct ivg_jit *jit)
{
        struct library_load load = {.jit = jit};
        struct ivg_object *object;
        CUresult result = ivg_module_create(IVG_KIND_LIBRARY, NULL, &object);
        if (result != CUDA_SUCCESS)
                return result;
        load.library = object->id;
        result = ivg_image_send(image, send_load, &load);
        ivg_jit_store(jit, &load.answer);
        if (result != CUDA_SUCCESS) {
                ivg_object_destroy(object);
                return result;
        }
        *library = (CUlibrary)object;
        return CUDA_SUCCESS;
}

CUresult cuLibraryLoadData(CUlibrary *library, const void *code, CUjit_option *jitOptions, void **jitOptionsValues,
                           unsigned int numJitOptions, CUlibraryOption *libraryOptions, void **libraryOptionValues,
                           unsigned int numLibraryOptions)
{
        struct ivg_flat_image flat;
        struct ivg_jit jit;
        CUresult result = ivg_process_check();
        if (result != CUDA_SUCCESS)
                return result;
        if (library == NULL || code == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        result = parse_library_options(numLibraryOptions, libraryOptions);
        (void)libraryOptionValues; /* no option that is carried has one */
        if (result == CUDA_SUCCESS)
                result = ivg_jit_parse(&jit, numJitOptions, jitOptions, jitOptionsValues);
        if (result != CUDA_SUCCESS)
                return result;
        result = ivg_image_load(code, &flat);
        if (result == CUDA_SUCCESS)
                result = load_flat(library, &flat, &jit);
        ivg_image_close(&flat);
        return result;
}

CUresult cuLibraryLoadFromFile(CUlibrary *library, const char *fileName, CUjit_option *jitOptions,
                               void **jitOptionsValues, unsigned int numJitOptions, CUlibraryOption *libraryOptions,
                               void **libraryOptionValues, unsigned int numLibraryOptions)
{
        void *contents;
        uint64_t bytes;
        CUresult result = ivg_process_check();
        if (result != CUDA_SUCCESS)
                return result;
        if (library == NULL || fileName == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        result = ivg_file_read(fileName, &contents, &bytes);
        if (result != CUDA_SUCCESS)
                return result;
        result = cuLibraryLoadData(library, contents, jitOptions, jitOptionsValues, numJitOptions, libraryOptions,
                                   libraryOptionValues, numLibraryOptions);
        free(contents);
        return result;
}

/* What each call about a library starts with: a process that may call, complete arguments, the handle. */
static CUresult library_asked(CUlibrary handle, bool complete, struct ivg_object **library)
{
        const CUresult result = ivg_process_check();
        if (result != CUDA_SUCCESS)
                return result;
        if (!complete)
                return CUDA_ERROR_INVALID_VALUE;
        *library = ivg_object_of(IVG_KIND_LIBRARY, handle);
        return *library != NULL ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

CUresult cuLibraryUnload(CUlibrary library)
{
        struct ivg_object *object;
        CUresult result = library_asked(library, true, &object);
        if (result != CUDA_SUCCESS)
                return result;
        result = ivg_send_cuLibraryUnload(object->id);
        if (result == CUDA_SUCCESS)
                ivg_object_destroy(object);
        return result;
}

/* ---- kernels, modules, variables ---- */

static CUresult get_kernel(struct ivg_object *library, const char *name, struct ivg_object **kernel)
{
        return ivg_module_function(library, IVG_KIND_KERNEL, name, ivg_send_cuLibraryGetKernel, kernel);
}

CUresult cuLibraryGetKernel(CUkernel *pKernel, CUlibrary library, const char *name)
{
        struct ivg_object *kernel, *object;
        CUresult result = library_asked(library, pKernel != NULL && name != NULL, &object);
        if (result != CUDA_SUCCESS)
                return result;
        result = get_kernel(object, name, &kernel);
        if (result == CUDA_SUCCESS)
                *pKernel = (CUkernel)kernel;
        return result;
}

CUresult cuLibraryEnumerateKernels(CUkernel *kernels, unsigned int numKernels, CUlibrary lib)
{
        struct ivg_object *library;
        const CUresult result = library_asked(lib, kernels != NULL && numKernels != 0, &library);
        return result != CUDA_SUCCESS
                       ? result
                       : ivg_module_functions(library, ivg_send_ivgLibraryKernelNames, get_kernel, kernels, numKernels);
}

static CUresult get_module(struct ivg_object *library, struct ivg_object *context, struct ivg_object **module)
{
        struct ivg_names *modules = &ivg_module_of(library)->modules;
        CUresult result = CUDA_SUCCESS;
        pthread_mutex_lock(&modules->lock);
        struct ivg_name *entry = ivg_names_find(modules, "", context->id);
        if (entry != NULL && entry->object->id == entry->id) { /* a reset primary context keeps its number */
                *module = entry->object;
        } else {
                result = ivg_module_create(IVG_KIND_MODULE, context, module);
                if (result == CUDA_SUCCESS) {
                        ivg_module_of(*module)->library = library;
                        result = ivg_send_cuLibraryGetModule(library->id, (*module)->id);
                        if (result == CUDA_SUCCESS && entry == NULL)
                                entry = ivg_names_add(modules, "", context->id);
                        if (result == CUDA_SUCCESS && entry == NULL)
                                result = CUDA_ERROR_OUT_OF_MEMORY;
                        if (result != CUDA_SUCCESS)
                                ivg_object_destroy(*module);
                }
                if (result == CUDA_SUCCESS) {
                        entry->object = *module;
                        entry->id = (*module)->id;
                }
        }
        pthread_mutex_unlock(&modules->lock);
        return result;
}

CUresult cuLibraryGetModule(CUmodule *pMod, CUlibrary library)
{
        struct ivg_object *context, *module, *object;
        CUresult result = ivg_context_require(&context);
        if (result == CUDA_SUCCESS)
                result = library_asked(library, pMod != NULL, &object);
        if (result != CUDA_SUCCESS)
                return result;
        result = get_module(object, context, &module);
        if (result == CUDA_SUCCESS)
                *pMod = (CUmodule)module;
        return result;
}

CUresult cuLibraryGetGlobal(CUdeviceptr *dptr, size_t *bytes, CUlibrary library, const char *name)
{
        struct ivg_object *context, *object;
        CUresult result = ivg_context_require(&context);
        if (result == CUDA_SUCCESS)
                result = library_asked(library, name != NULL, &object);
        if (result != CUDA_SUCCESS)
                return result;
        return ivg_module_variable(object, context, name, ivg_send_cuLibraryGetGlobal, dptr, bytes);
}

/* ---- what would be an address of the executor's ---- */

static CUresult ask_address(const void *out, CUlibrary library, const char *name,
                            CUresult (*send)(ivg_id library, const char *name), const char *refusal)
{
        struct ivg_object *context, *object;
        CUresult result = ivg_context_require(&context);
        if (result == CUDA_SUCCESS)
                result = library_asked(library, out != NULL && name != NULL, &object);
        if (result != CUDA_SUCCESS)
                return result;
        result = send(object->id, name);
        return result == CUDA_ERROR_NOT_SUPPORTED ? ivg_refuse(refusal) : result;
}

/* A kernel reads and writes the variable; the program would have to, too, and has no such memory. */
CUresult cuLibraryGetManaged(CUdeviceptr *dptr, size_t *bytes, CUlibrary library, const char *name)
{
        return ask_address(dptr != NULL ? (const void *)dptr : (const void *)bytes, library, name,
                           ivg_send_cuLibraryGetManaged, "cuLibraryGetManaged: a __managed__ variable");
}

CUresult cuLibraryGetUnifiedFunction(void **fptr, CUlibrary library, const char *symbol)
{
        return ask_address(fptr, library, symbol, ivg_send_cuLibraryGetUnifiedFunction, "cuLibraryGetUnifiedFunction");
}
