/* Linking. The driver keeps the log buffers of cuLinkCreate until the link is destroyed and hands out a cubin that dies
 * with it, so a link's number names a structure of ours that owns both. All on lanes, one guest thread at a time: a
 * program that uses one link from two threads at once has no defined result natively either; `mutex` keeps it safe
 * here. */
#include "exec_internal.h"
#include "host_args.h"
#include "jit.h"
#include <stdlib.h>
#include <string.h>

struct ivg_link_state {
        pthread_mutex_t mutex;
        CUlinkState state;
        struct ivg_jit jit;
        void *cubin; /* the driver's, valid until the link is destroyed */
        size_t cubin_bytes;
        char logs[]; /* info log, then error log */
};

static struct ivg_link_state *link_of(CUlinkState handle)
{
        return (struct ivg_link_state *)(void *)handle; /* what ivg_host_ivgLinkCreate put into the table */
}

CUresult ivg_host_ivgLinkCreate(struct ivg_exec_call *call, const struct ivg_args_ivgLinkCreate *args)
{
        const struct ivg_driver *driver = ivg_exec_driver(call->exec);
        struct ivg_link_state *link;
        CUresult result;

        if (!driver->cuLinkCreate_v2 || !driver->cuLinkAddData_v2 || !driver->cuLinkComplete || !driver->cuLinkDestroy)
                return CUDA_ERROR_NOT_SUPPORTED;
        if (args->info_log_bytes > IVG_JIT_LOG_BYTES_MAX || args->error_log_bytes > IVG_JIT_LOG_BYTES_MAX)
                return CUDA_ERROR_INVALID_VALUE;
        link = calloc(1, sizeof(*link) + args->info_log_bytes + args->error_log_bytes + 1);
        if (!link)
                return CUDA_ERROR_OUT_OF_MEMORY;
        pthread_mutex_init(&link->mutex, NULL);
        result = ivg_jit_begin(&link->jit, args->options, args->options_count);
        if (result == CUDA_SUCCESS) {
                ivg_jit_add_logs(&link->jit, link->logs, args->info_log_bytes, link->logs + args->info_log_bytes,
                                 args->error_log_bytes);
                result = driver->cuLinkCreate_v2(link->jit.count, link->jit.options, link->jit.values, &link->state);
        }
        if (result == CUDA_SUCCESS && ivg_handle_put(call, IVG_KIND_LINK, args->link, link))
                return CUDA_SUCCESS;
        if (result == CUDA_SUCCESS)
                driver->cuLinkDestroy(link->state);
        pthread_mutex_destroy(&link->mutex);
        free(link);
        return result;
}

static void copy_logs(const struct ivg_link_state *link, void *info, uint32_t info_bytes, void *error,
                      uint32_t error_bytes, uint32_t *info_used, uint32_t *error_used)
{
        *info_used = ivg_jit_copy_log(info, info_bytes, link->jit.info_log, link->jit.info_log_bytes);
        *error_used = ivg_jit_copy_log(error, error_bytes, link->jit.error_log, link->jit.error_log_bytes);
}

/* What has its own lengths must keep to them, as a module's image; archives and NVVM's have none that are followed
 * before they are checked. */
static bool input_contained(CUjitInputType type, const void *data, uint32_t bytes)
{
        return type == CU_JIT_INPUT_LIBRARY || type == CU_JIT_INPUT_NVVM || ivg_image_contained(data, bytes);
}

/* Programs give PTX with or without the NUL behind it; the driver wants one there. NULL: no memory. */
static char *terminated_text(const void *data, uint32_t bytes)
{
        char *text = malloc((size_t)bytes + 1);

        if (text) {
                memcpy(text, data, bytes);
                text[bytes] = '\0';
        }
        return text;
}

CUresult ivg_host_ivgLinkAddData(struct ivg_exec_call *call, const struct ivg_args_ivgLinkAddData *args)
{
        struct ivg_link_state *link = link_of(args->link);
        const CUjitInputType type = (CUjitInputType)args->type;
        struct ivg_jit jit;
        CUresult result = ivg_jit_begin(&jit, args->options, args->options_count);
        char *text = NULL;

        if (result != CUDA_SUCCESS)
                return result;
        if (!args->data || args->data_bytes == 0 || args->type < 0 || args->type >= CU_JIT_NUM_INPUT_TYPES)
                return CUDA_ERROR_INVALID_VALUE;
        if (type == CU_JIT_INPUT_PTX) {
                text = terminated_text(args->data, args->data_bytes);
                if (!text)
                        return CUDA_ERROR_OUT_OF_MEMORY;
        } else if (!input_contained(type, args->data, args->data_bytes)) {
                return CUDA_ERROR_INVALID_IMAGE;
        }
        pthread_mutex_lock(&link->mutex);
        result = call->exec->driver.cuLinkAddData_v2(link->state, type, text ? text : (void *)(uintptr_t)args->data,
                                                     args->data_bytes, args->name, jit.count, jit.options, jit.values);
        copy_logs(link, args->info_log, args->info_log_bytes, args->error_log, args->error_log_bytes,
                  &args->answer->info_log_used, &args->answer->error_log_used);
        pthread_mutex_unlock(&link->mutex);
        free(text);
        return result;
}

CUresult ivg_host_ivgLinkComplete(struct ivg_exec_call *call, const struct ivg_args_ivgLinkComplete *args)
{
        struct ivg_link_state *link = link_of(args->link);
        CUresult result;

        pthread_mutex_lock(&link->mutex);
        link->cubin = NULL;
        link->cubin_bytes = 0;
        result = call->exec->driver.cuLinkComplete(link->state, &link->cubin, &link->cubin_bytes);
        if (result != CUDA_SUCCESS)
                link->cubin_bytes = 0;
        copy_logs(link, args->info_log, args->info_log_bytes, args->error_log, args->error_log_bytes,
                  &args->answer->info_log_used, &args->answer->error_log_used);
        args->answer->cubin_bytes = link->cubin_bytes;
        args->answer->wall_time = ivg_jit_wall_time(&link->jit);
        pthread_mutex_unlock(&link->mutex);
        return result;
}

CUresult ivg_host_ivgLinkFetch(struct ivg_exec_call *call, const struct ivg_args_ivgLinkFetch *args)
{
        struct ivg_link_state *link = link_of(args->link);
        CUresult result = CUDA_ERROR_INVALID_VALUE;

        (void)call;
        pthread_mutex_lock(&link->mutex);
        if (args->data && args->offset <= link->cubin_bytes && args->data_bytes <= link->cubin_bytes - args->offset) {
                memcpy(args->data, (const uint8_t *)link->cubin + args->offset, args->data_bytes);
                result = CUDA_SUCCESS;
        }
        pthread_mutex_unlock(&link->mutex);
        return result;
}

CUresult ivg_host_cuLinkDestroy(struct ivg_exec_call *call, const struct ivg_args_cuLinkDestroy *args)
{
        struct ivg_link_state *link = ivg_handle_remove(call->exec, IVG_KIND_LINK, args->state_id);
        CUresult result;

        if (!link)
                return CUDA_ERROR_INVALID_HANDLE;
        result = call->exec->driver.cuLinkDestroy(link->state);
        pthread_mutex_destroy(&link->mutex);
        free(link);
        return result;
}
