/* The linker: one PTX input, handed back as the "cubin" that a module load takes. Several inputs need real linking of
 * symbols between texts, which does not exist here and is refused. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "softgpu.h"

static CUresult sg_link_resolve(CUlinkState handle, struct sg_link **out)
{
        struct sg_context *context;
        const CUresult result = sg_context_current(&context);
        if (result != CUDA_SUCCESS)
                return result;
        *out = sg_object_from(handle, SG_LINK);
        return *out != NULL ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

void sg_link_finalize(struct sg_link *link)
{
        sg_image_close(&link->image);
        sg_object_put(link->context);
}

SG_ENTRY(cuLinkCreate_v2, unsigned count, CUjit_option *options, void **values, CUlinkState *out)
{
        struct sg_context *context;
        struct sg_jit_options jit;
        CUresult result = sg_context_current(&context);
        if (result == CUDA_SUCCESS && out == NULL)
                result = CUDA_ERROR_INVALID_VALUE;
        if (result == CUDA_SUCCESS)
                result = sg_jit_options_read(count, options, values, &jit);
        if (result != CUDA_SUCCESS)
                return result;
        struct sg_link *link = sg_object_new(SG_LINK);
        if (link == NULL)
                return CUDA_ERROR_OUT_OF_MEMORY;
        link->context = context;
        link->jit = jit;
        sg_object_get(context);
        *out = (CUlinkState)link;
        return CUDA_SUCCESS;
}
SG_ALIAS(cuLinkCreate, cuLinkCreate_v2);

static CUresult sg_link_refuse(struct sg_link *link, CUresult result, const char *why)
{
        snprintf(link->log, sizeof(link->log), "%s", why);
        const struct ptx_log log = {link->log, sizeof(link->log), strlen(link->log)};
        sg_jit_options_report(&link->jit, result, &log);
        sg_report("link: %s", why);
        return result;
}

static CUresult sg_link_take(struct sg_link *link, CUresult opened, struct sg_image *image)
{
        if (opened != CUDA_SUCCESS)
                return sg_link_refuse(link, opened, "the input holds no PTX text");
        if (link->image.text != NULL) {
                sg_image_close(image);
                return sg_link_refuse(link, CUDA_ERROR_NOT_SUPPORTED, "a second input: only one can be linked");
        }
        link->image = *image;
        return CUDA_SUCCESS;
}

static CUresult sg_link_input_check(struct sg_link *link, CUjitInputType type)
{
        if (type == CU_JIT_INPUT_PTX || type == CU_JIT_INPUT_FATBINARY)
                return CUDA_SUCCESS;
        if ((int)type < 0 || type >= CU_JIT_NUM_INPUT_TYPES)
                return CUDA_ERROR_INVALID_VALUE;
        return sg_link_refuse(link, CUDA_ERROR_NO_BINARY_FOR_GPU, "an input that is neither PTX nor a fatbin");
}

SG_ENTRY(cuLinkAddData_v2, CUlinkState handle, CUjitInputType type, void *data, size_t bytes, const char *name,
         unsigned count, CUjit_option *options, void **values)
{
        struct sg_link *link;
        struct sg_jit_options ignored;
        struct sg_image image;
        (void)name;
        CUresult result = sg_link_resolve(handle, &link);
        if (result == CUDA_SUCCESS)
                result = sg_jit_options_read(count, options, values, &ignored);
        if (result == CUDA_SUCCESS && (data == NULL || bytes == 0 || bytes > SG_IMAGE_BYTES_MAX))
                result = CUDA_ERROR_INVALID_VALUE;
        if (result == CUDA_SUCCESS)
                result = sg_link_input_check(link, type);
        if (result != CUDA_SUCCESS)
                return result;
        return sg_link_take(link, sg_image_open_bounded(data, bytes, &image), &image);
}
SG_ALIAS(cuLinkAddData, cuLinkAddData_v2);

SG_ENTRY(cuLinkAddFile_v2, CUlinkState handle, CUjitInputType type, const char *path, unsigned count,
         CUjit_option *options, void **values)
{
        struct sg_link *link;
        struct sg_jit_options ignored;
        struct sg_image image;
        CUresult result = sg_link_resolve(handle, &link);
        if (result == CUDA_SUCCESS)
                result = sg_jit_options_read(count, options, values, &ignored);
        if (result == CUDA_SUCCESS && path == NULL)
                result = CUDA_ERROR_INVALID_VALUE;
        if (result == CUDA_SUCCESS)
                result = sg_link_input_check(link, type);
        if (result != CUDA_SUCCESS)
                return result;
        return sg_link_take(link, sg_image_open_file(path, &image), &image);
}
SG_ALIAS(cuLinkAddFile, cuLinkAddFile_v2);

SG_ENTRY(cuLinkComplete, CUlinkState handle, void **out, size_t *bytes)
{
        struct sg_link *link;
        struct sg_module *module;
        CUresult result = sg_link_resolve(handle, &link);
        if (result == CUDA_SUCCESS && out == NULL)
                result = CUDA_ERROR_INVALID_VALUE;
        if (result != CUDA_SUCCESS)
                return result;
        if (link->image.text == NULL)
                return sg_link_refuse(link, CUDA_ERROR_INVALID_VALUE, "nothing was added");
        /* Loaded once for its errors, which belong to this call. */
        result = sg_module_load(link->context, &link->image, &link->jit, &module);
        if (result != CUDA_SUCCESS)
                return result;
        if (sg_object_retire(module))
                sg_module_close(module);
        /* Callers pass the image on without its length: end it. */
        char *text = realloc(link->image.text, link->image.bytes + 1);
        if (text == NULL)
                return CUDA_ERROR_OUT_OF_MEMORY;
        text[link->image.bytes] = '\0';
        link->image.text = text;
        *out = text;
        if (bytes != NULL)
                *bytes = link->image.bytes + 1;
        return CUDA_SUCCESS;
}

SG_ENTRY(cuLinkDestroy, CUlinkState handle)
{
        struct sg_link *link;
        const CUresult result = sg_link_resolve(handle, &link);
        if (result != CUDA_SUCCESS)
                return result;
        if (!sg_object_retire(link))
                return CUDA_ERROR_INVALID_HANDLE;
        sg_object_put(link);
        return CUDA_SUCCESS;
}
