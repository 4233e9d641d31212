/* cuLink*: inputs travel one by one, the driver links on the host, the cubin comes back. */
#include "cuda_api.h"
#include "function.h"
#include "guest_send.h"
#include "image.h"
#include <stdlib.h>
#include <string.h>

struct linker {             /* `data` of LINK objects */
        struct ivg_jit jit; /* of cuLinkCreate: its log buffers are the program's until cuLinkDestroy */
        uint8_t *cubin;     /* the program's until cuLinkDestroy */
};

static void linker_release(struct ivg_object *object)
{
        struct linker *linker = object->data;
        object->data = NULL;
        if (linker != NULL)
                free(linker->cubin);
        free(linker);
}

__attribute__((constructor)) static void set_release(void)
{
        ivg_object_set_release(IVG_KIND_LINK, linker_release);
}

static CUresult find(CUlinkState state, struct ivg_object **object, struct linker **linker)
{
        struct ivg_object *context;
        const CUresult result = ivg_context_require(&context);
        if (result != CUDA_SUCCESS)
                return result;
        *object = ivg_object_of(IVG_KIND_LINK, state);
        if (*object == NULL)
                return CUDA_ERROR_INVALID_HANDLE;
        *linker = (*object)->data;
        return CUDA_SUCCESS;
}

CUresult cuLinkCreate_v2(unsigned int numOptions, CUjit_option *options, void **optionValues, CUlinkState *stateOut)
{
        struct ivg_object *context, *object;
        CUresult result = ivg_context_require(&context);
        if (result != CUDA_SUCCESS)
                return result;
        if (stateOut == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        struct linker *linker = calloc(1, sizeof *linker);
        if (linker == NULL)
                return CUDA_ERROR_OUT_OF_MEMORY;
        result = ivg_jit_parse(&linker->jit, numOptions, options, optionValues);
        if (result == CUDA_SUCCESS)
                result = ivg_object_create(IVG_KIND_LINK, context, &object);
        if (result != CUDA_SUCCESS) {
                free(linker);
                return result;
        }
        object->data = linker;
        result = ivg_send_ivgLinkCreate(linker->jit.wire, linker->jit.wire_count, linker->jit.info_bytes,
                                        linker->jit.error_bytes, object->id);
        if (result != CUDA_SUCCESS) {
                ivg_object_destroy(object);
                return result;
        }
        *stateOut = (CUlinkState)object;
        return CUDA_SUCCESS;
}

CUresult cuLinkCreate(unsigned int numOptions, CUjit_option *options, void **optionValues, CUlinkState *stateOut)
{
        return cuLinkCreate_v2(numOptions, options, optionValues, stateOut);
}

static CUresult add_data(CUlinkState state, CUjitInputType type, const void *data, uint64_t bytes, const char *name,
                         unsigned int count, CUjit_option *options, void **values)
{
        struct ivg_object *object;
        struct linker *linker;
        struct ivg_jit own;
        struct ivg_jit_answer answer = {0};
        CUresult result = find(state, &object, &linker);
        if (result != CUDA_SUCCESS)
                return result;
        if (data == NULL || bytes == 0 || bytes > IVG_IMAGE_BYTES_MAX)
                return CUDA_ERROR_INVALID_VALUE;
        result = ivg_jit_parse(&own, count, options, values);
        if (result != CUDA_SUCCESS)
                return result;
        const struct ivg_jit *jit = &linker->jit;
        result = ivg_send_ivgLinkAddData(object->id, (int32_t)type, data, bytes, name, own.wire, own.wire_count,
                                         jit->info_log, jit->info_bytes, jit->error_log, jit->error_bytes,
                                         &answer.info_used, &answer.error_used);
        ivg_jit_store_logs(jit, &answer);
        return result;
}

CUresult cuLinkAddData_v2(CUlinkState state, CUjitInputType type, void *data, size_t size, const char *name,
                          unsigned int numOptions, CUjit_option *options, void **optionValues)
{
        return add_data(state, type, data, size, name, numOptions, options, optionValues);
}

CUresult cuLinkAddData(CUlinkState state, CUjitInputType type, void *data, size_t size, const char *name,
                       unsigned int numOptions, CUjit_option *options, void **optionValues)
{
        return add_data(state, type, data, size, name, numOptions, options, optionValues);
}

static CUresult add_file(CUlinkState state, CUjitInputType type, const char *path, unsigned int count,
                         CUjit_option *options, void **values)
{
        void *contents;
        uint64_t bytes;
        CUresult result = ivg_process_check();
        if (result != CUDA_SUCCESS)
                return result;
        if (path == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        result = ivg_file_read(path, &contents, &bytes);
        if (result != CUDA_SUCCESS)
                return result;
        /* PTX is text: the NUL behind it belongs to it. */
        result = add_data(state, type, contents, type == CU_JIT_INPUT_PTX ? bytes + 1 : bytes, path, count, options,
                          values);
        free(contents);
        return result;
}

CUresult cuLinkAddFile_v2(CUlinkState state, CUjitInputType type, const char *path, unsigned int numOptions,
                          CUjit_option *options, void **optionValues)
{
        return add_file(state, type, path, numOptions, options, optionValues);
}

CUresult cuLinkAddFile(CUlinkState state, CUjitInputType type, const char *path, unsigned int numOptions,
                       CUjit_option *options, void **optionValues)
{
        return add_file(state, type, path, numOptions, options, optionValues);
}

CUresult cuLinkComplete(CUlinkState state, void **cubinOut, size_t *sizeOut)
{
        struct ivg_object *object;
        struct linker *linker;
        struct ivg_jit_answer answer = {0};
        uint64_t bytes = 0;
        CUresult result = find(state, &object, &linker);
        if (result != CUDA_SUCCESS)
                return result;
        const struct ivg_jit *jit = &linker->jit;
        result = ivg_send_ivgLinkComplete(object->id, jit->info_log, jit->info_bytes, jit->error_log, jit->error_bytes,
                                          &bytes, &answer.info_used, &answer.error_used, &answer.wall_time);
        ivg_jit_store(jit, &answer);
        if (result != CUDA_SUCCESS)
                return result;
        if (bytes == 0 || bytes > IVG_IMAGE_BYTES_MAX)
                return CUDA_ERROR_UNKNOWN;
        uint8_t *cubin = malloc(bytes);
        if (cubin == NULL)
                return CUDA_ERROR_OUT_OF_MEMORY;
        result = ivg_send_ivgLinkFetch(object->id, 0, cubin, bytes);
        if (result != CUDA_SUCCESS) {
                free(cubin);
                return result;
        }
        free(linker->cubin); /* of an earlier completion: its pointer ends with this one */
        linker->cubin = cubin;
        if (cubinOut != NULL)
                *cubinOut = cubin;
        if (sizeOut != NULL)
                *sizeOut = bytes;
        return CUDA_SUCCESS;
}

CUresult cuLinkDestroy(CUlinkState state)
{
        struct ivg_object *object;
        struct linker *linker;
        CUresult result = find(state, &object, &linker);
        if (result == CUDA_SUCCESS)
                result = ivg_send_cuLinkDestroy(object->id);
        if (result == CUDA_SUCCESS)
                ivg_object_destroy(object);
        return result;
}
