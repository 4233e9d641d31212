/* Module and library loads; the names in them. All on lanes: they compile. */
#include "exec_internal.h"
#include "host_args.h"
#include "image_control.h"
#include "jit.h"
#include <stdlib.h>
#include <string.h>

/* Functions of one module whose names are listed. */
#define IVG_NAMES_MAX 65536u

/* ---- images ---- */

#define IVG_IMAGE_PARTS_MAX 1024u

/* What the driver gets for a device-linked image: a wrapper with pointers, made here, over checked parts. */
struct linked_image {
        struct {
                uint32_t magic, version;
                const void *data;
                const void *const *list;
        } wrapper;
        const void *list[IVG_IMAGE_PARTS_MAX]; /* parts 1.., ended by NULL */
};

/* The image as the driver may see it: itself, or `linked` over its parts. NULL: something of it does not stay inside.
 */
static const void *image_for_driver(const void *image, uint32_t image_bytes, const uint64_t *parts,
                                    uint32_t parts_count, struct linked_image *linked)
{
        uint64_t offset = 0;

        if (!parts || parts_count == 0)
                return ivg_image_contained(image, image_bytes) ? image : NULL;
        if (parts_count > IVG_IMAGE_PARTS_MAX)
                return NULL;
        memset(linked->list, 0, sizeof(linked->list));
        for (uint32_t i = 0; i < parts_count; i++) {
                const uint8_t *part = (const uint8_t *)image + offset;

                if (offset > image_bytes || parts[i] == 0 || parts[i] > image_bytes - offset ||
                    !ivg_image_contained(part, (uint32_t)parts[i]))
                        return NULL;
                if (i == 0)
                        linked->wrapper.data = part;
                else
                        linked->list[i - 1] = part;
                offset += (parts[i] + IVG_IMAGE_PART_ALIGNMENT - 1) & ~(uint64_t)(IVG_IMAGE_PART_ALIGNMENT - 1);
        }
        linked->wrapper.magic = 0x466243B1u;
        linked->wrapper.version = 2;
        linked->wrapper.list = linked->list;
        return &linked->wrapper;
}

/* ---- loads ---- */

/* Where a load's image is: it came with the call, or the host has kept it. */
struct source {
        const void *data;
        uint32_t bytes;
        struct ivg_image_view kept; /* data NULL: it came */
        uint32_t wanted;            /* enum ivg_image_wanted; not LOADED: there is no image yet */
};

/* A guest that breaks the rules of names loses its channel; whether the content has the name is the keeper's to see. */
static CUresult source_open(struct ivg_exec_call *call, const void *image, uint32_t image_bytes,
                            const struct ivg_wire_image_name *name, struct source *source)
{
        struct ivg_images *images = call->exec->images;

        *source = (struct source){.data = image, .bytes = image_bytes, .wanted = IVG_IMAGE_LOADED};
        if (image && (name->bytes == 0 || name->bytes == image_bytes))
                return CUDA_SUCCESS;
        if (image || name->bytes == 0 || name->bytes > IVG_IMAGES_BYTES_MAX)
                return ivg_exec_refuse(call, IVG_FAULT_ARGUMENTS, (uint32_t)name->bytes);
        if (!ivg_images_usable(images)) {
                source->wanted = IVG_IMAGE_SEND_ALWAYS;
        } else if (!ivg_images_find(images, name, &source->kept)) {
                source->wanted = IVG_IMAGE_SEND;
        } else {
                source->data = source->kept.data;
                source->bytes = (uint32_t)source->kept.bytes;
                ivg_exec_count(&call->exec->counters.images_found, &call->exec->host_channel->images_found, 1);
                ivg_exec_count(&call->exec->counters.image_bytes_found, &call->exec->host_channel->image_bytes_found,
                               name->bytes);
        }
        return CUDA_SUCCESS;
}

/* After the load: what came with a name, and was good for something, is offered to others. */
static void source_close(struct ivg_exec_call *call, const struct ivg_wire_image_name *name, struct source *source,
                         CUresult result)
{
        if (source->kept.data)
                ivg_images_unmap(&source->kept);
        else if (result == CUDA_SUCCESS && source->wanted == IVG_IMAGE_LOADED && name->bytes != 0 &&
                 ivg_images_keep(call, name, source->data))
                ivg_exec_count(&call->exec->counters.images_kept, &call->exec->host_channel->images_kept, 1);
}

struct load {
        struct ivg_jit jit;
        char *logs; /* info log, then error log; private, zeroed */
};

static CUresult load_begin(struct load *load, const struct ivg_wire_jit_option *options, uint32_t options_count,
                           uint32_t info_bytes, uint32_t error_bytes)
{
        CUresult result = ivg_jit_begin(&load->jit, options, options_count);

        load->logs = NULL;
        if (result != CUDA_SUCCESS)
                return result;
        load->logs = calloc(1, (size_t)info_bytes + error_bytes + 1);
        if (!load->logs)
                return CUDA_ERROR_OUT_OF_MEMORY;
        ivg_jit_add_logs(&load->jit, load->logs, info_bytes, load->logs + info_bytes, error_bytes);
        return CUDA_SUCCESS;
}

static CUresult module_load(struct ivg_exec_call *call, const struct ivg_args_ivgModuleLoad *args,
                            const struct source *source)
{
        const struct ivg_driver *driver = ivg_exec_driver(call->exec);
        struct ivg_answer_ivgModuleLoad *answer = args->answer;
        CUmodule module = NULL;
        struct linked_image linked;
        struct load load;
        const void *image;
        CUresult result;

        if (!driver->cuModuleLoadDataEx)
                return CUDA_ERROR_NOT_SUPPORTED;
        image = image_for_driver(source->data, source->bytes, args->parts, args->parts_count, &linked);
        if (!image)
                return CUDA_ERROR_INVALID_IMAGE;
        result = load_begin(&load, args->options, args->options_count, args->info_log_bytes, args->error_log_bytes);
        if (result == CUDA_SUCCESS) {
                result = driver->cuModuleLoadDataEx(&module, image, load.jit.count, load.jit.options, load.jit.values);
                answer->info_log_used = ivg_jit_copy_log(args->info_log, args->info_log_bytes, load.jit.info_log,
                                                         load.jit.info_log_bytes);
                answer->error_log_used = ivg_jit_copy_log(args->error_log, args->error_log_bytes, load.jit.error_log,
                                                          load.jit.error_log_bytes);
                answer->wall_time = ivg_jit_wall_time(&load.jit);
                answer->threads_per_block = ivg_jit_threads_per_block(&load.jit);
        }
        free(load.logs);
        if (result == CUDA_SUCCESS)
                ivg_image_note_printing(call->exec, source->data, source->bytes, args->parts, args->parts_count);
        if (result == CUDA_SUCCESS && !ivg_handle_put(call, IVG_KIND_MODULE, args->module, module))
                driver->cuModuleUnload(module);
        return result;
}

CUresult ivg_host_ivgModuleLoad(struct ivg_exec_call *call, const struct ivg_args_ivgModuleLoad *args)
{
        struct source source;
        CUresult result = source_open(call, args->image, args->image_bytes, &args->name, &source);

        args->answer->wanted = source.wanted;
        if (result == CUDA_SUCCESS && source.wanted == IVG_IMAGE_LOADED)
                result = module_load(call, args, &source);
        source_close(call, &args->name, &source, result);
        return result;
}

static CUresult library_load(struct ivg_exec_call *call, const struct ivg_args_ivgLibraryLoad *args,
                             const struct source *source)
{
        const struct ivg_driver *driver = ivg_exec_driver(call->exec);
        struct ivg_answer_ivgLibraryLoad *answer = args->answer;
        CUlibraryOption library_options[16];
        void *library_values[16];
        CUlibrary library = NULL;
        struct linked_image linked;
        struct load load;
        const void *image;
        CUresult result;

        if (!driver->cuLibraryLoadData)
                return CUDA_ERROR_NOT_SUPPORTED;
        image = image_for_driver(source->data, source->bytes, args->parts, args->parts_count, &linked);
        if (!image)
                return CUDA_ERROR_INVALID_IMAGE;
        if (args->library_options_count > 16)
                return CUDA_ERROR_INVALID_VALUE;
        for (uint32_t i = 0; i < args->library_options_count; i++) {
                /* BINARY_IS_PRESERVED would let the driver keep a pointer into this call's copy: the driver copies
                 * when it is not told so, and the program cannot see the difference. */
                if (args->library_options[i].option == CU_LIBRARY_BINARY_IS_PRESERVED) {
                        library_options[i] = CU_LIBRARY_BINARY_IS_PRESERVED;
                        library_values[i] = (void *)(uintptr_t)0;
                } else {
                        return CUDA_ERROR_NOT_SUPPORTED;
                }
        }
        result = load_begin(&load, args->options, args->options_count, args->info_log_bytes, args->error_log_bytes);
        if (result == CUDA_SUCCESS) {
                result = driver->cuLibraryLoadData(&library, image, load.jit.options, load.jit.values, load.jit.count,
                                                   library_options, library_values, args->library_options_count);
                answer->info_log_used = ivg_jit_copy_log(args->info_log, args->info_log_bytes, load.jit.info_log,
                                                         load.jit.info_log_bytes);
                answer->error_log_used = ivg_jit_copy_log(args->error_log, args->error_log_bytes, load.jit.error_log,
                                                          load.jit.error_log_bytes);
                answer->wall_time = ivg_jit_wall_time(&load.jit);
        }
        free(load.logs);
        if (result == CUDA_SUCCESS)
                ivg_image_note_printing(call->exec, source->data, source->bytes, args->parts, args->parts_count);
        if (result == CUDA_SUCCESS && !ivg_handle_put(call, IVG_KIND_LIBRARY, args->library, library))
                driver->cuLibraryUnload(library);
        return result;
}

CUresult ivg_host_ivgLibraryLoad(struct ivg_exec_call *call, const struct ivg_args_ivgLibraryLoad *args)
{
        struct source source;
        CUresult result = source_open(call, args->image, args->image_bytes, &args->name, &source);

        args->answer->wanted = source.wanted;
        if (result == CUDA_SUCCESS && source.wanted == IVG_IMAGE_LOADED)
                result = library_load(call, args, &source);
        source_close(call, &args->name, &source, result);
        return result;
}

/* ---- names ---- */

/* Appends a name with its NUL while there is room; counts what all need. */
static void append_name(char *names, uint32_t capacity, uint64_t *total, const char *name)
{
        const size_t bytes = strlen(name) + 1;

        if (names && *total + bytes <= capacity)
                memcpy(names + *total, name, bytes);
        *total += bytes;
}

CUresult ivg_host_ivgModuleFunctionNames(struct ivg_exec_call *call, const struct ivg_args_ivgModuleFunctionNames *args)
{
        const struct ivg_driver *driver = ivg_exec_driver(call->exec);
        CUfunction *functions;
        unsigned int count = 0;
        uint64_t total = 0;
        CUresult result;

        if (!driver->cuModuleGetFunctionCount || !driver->cuModuleEnumerateFunctions || !driver->cuFuncGetName)
                return CUDA_ERROR_NOT_SUPPORTED;
        result = driver->cuModuleGetFunctionCount(&count, args->module);
        if (result != CUDA_SUCCESS)
                return result;
        if (count > IVG_NAMES_MAX)
                return CUDA_ERROR_NOT_SUPPORTED;
        functions = calloc(count ? count : 1, sizeof(*functions));
        if (!functions)
                return CUDA_ERROR_OUT_OF_MEMORY;
        result = driver->cuModuleEnumerateFunctions(functions, count, args->module);
        for (unsigned int i = 0; i < count && result == CUDA_SUCCESS; i++) {
                const char *name = NULL;

                result = driver->cuFuncGetName(&name, functions[i]);
                if (result == CUDA_SUCCESS)
                        append_name(args->names, args->names_bytes, &total, name);
        }
        free(functions);
        args->answer->count = count;
        args->answer->total_bytes = total;
        return result;
}

CUresult ivg_host_ivgLibraryKernelNames(struct ivg_exec_call *call, const struct ivg_args_ivgLibraryKernelNames *args)
{
        const struct ivg_driver *driver = ivg_exec_driver(call->exec);
        CUkernel *kernels;
        unsigned int count = 0;
        uint64_t total = 0;
        CUresult result;

        if (!driver->cuLibraryGetKernelCount || !driver->cuLibraryEnumerateKernels || !driver->cuKernelGetName)
                return CUDA_ERROR_NOT_SUPPORTED;
        result = driver->cuLibraryGetKernelCount(&count, args->library);
        if (result != CUDA_SUCCESS)
                return result;
        if (count > IVG_NAMES_MAX)
                return CUDA_ERROR_NOT_SUPPORTED;
        kernels = calloc(count ? count : 1, sizeof(*kernels));
        if (!kernels)
                return CUDA_ERROR_OUT_OF_MEMORY;
        result = driver->cuLibraryEnumerateKernels(kernels, count, args->library);
        for (unsigned int i = 0; i < count && result == CUDA_SUCCESS; i++) {
                const char *name = NULL;

                result = driver->cuKernelGetName(&name, kernels[i]);
                if (result == CUDA_SUCCESS)
                        append_name(args->names, args->names_bytes, &total, name);
        }
        free(kernels);
        args->answer->count = count;
        args->answer->total_bytes = total;
        return result;
}
