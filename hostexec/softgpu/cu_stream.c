/* Streams as the API sees them: default streams, creation, queries, host functions. */
#include <stdlib.h>

#include "softgpu.h"

#define SG_THREAD_STREAMS_MAX 64u /* contexts in which one thread may use its default stream */

/* ---- the per-thread default stream ---- */

/* This thread's default streams, one per context. The key's destructor closes them when the thread ends. */
struct sg_thread_streams {
        unsigned count;
        struct {
                struct sg_context *context;
                uint64_t context_id;
                struct sg_stream *stream;
        } entries[SG_THREAD_STREAMS_MAX];
};

static pthread_key_t sg_thread_key;
static pthread_once_t sg_thread_once = PTHREAD_ONCE_INIT;

static void sg_thread_end(void *argument)
{
        struct sg_thread_streams *mine = argument;
        for (unsigned i = 0; i < mine->count; i++) {
                if (sg_object_retire(mine->entries[i].stream))
                        sg_stream_close(mine->entries[i].stream);
                sg_object_put(mine->entries[i].stream);
        }
        free(mine);
}

static void sg_thread_key_create(void)
{
        if (pthread_key_create(&sg_thread_key, sg_thread_end) != 0)
                abort(); /* PTHREAD_KEYS_MAX exhausted before the first stream: nothing could be cleaned up */
}

static CUresult sg_thread_stream(struct sg_context *context, struct sg_stream **out)
{
        pthread_once(&sg_thread_once, sg_thread_key_create);
        struct sg_thread_streams *mine = pthread_getspecific(sg_thread_key);
        if (mine == NULL) {
                mine = calloc(1, sizeof(*mine));
                if (mine == NULL || pthread_setspecific(sg_thread_key, mine) != 0) {
                        free(mine);
                        return CUDA_ERROR_OUT_OF_MEMORY;
                }
        }
        for (unsigned i = 0; i < mine->count; i++) {
                if (mine->entries[i].context_id == context->id) {
                        *out = mine->entries[i].stream;
                        return CUDA_SUCCESS;
                }
                if (atomic_load(&mine->entries[i].stream->object.valid) == 0) {
                        /* Its context is gone. */
                        sg_object_put(mine->entries[i].stream);
                        mine->entries[i--] = mine->entries[--mine->count];
                }
        }
        if (mine->count == SG_THREAD_STREAMS_MAX)
                return CUDA_ERROR_OUT_OF_MEMORY;
        struct sg_stream *stream;
        const CUresult result = sg_stream_open(context, SG_STREAM_PER_THREAD, 0, 0, &stream);
        if (result != CUDA_SUCCESS)
                return result;
        sg_object_get(stream); /* one for this list, one for the handle, which the context's end may take */
        mine->entries[mine->count].context = context;
        mine->entries[mine->count].context_id = context->id;
        mine->entries[mine->count++].stream = stream;
        *out = stream;
        return CUDA_SUCCESS;
}

CUresult sg_stream_resolve(CUstream handle, struct sg_stream **out)
{
        struct sg_context *context;
        CUresult result = sg_context_current(&context);
        if (result != CUDA_SUCCESS)
                return result;
        if (handle == NULL || handle == CU_STREAM_LEGACY) {
                *out = context->legacy;
        } else if (handle == CU_STREAM_PER_THREAD) {
                result = sg_thread_stream(context, out);
        } else {
                *out = sg_object_from(handle, SG_STREAM);
                result = *out == NULL ? CUDA_ERROR_INVALID_HANDLE : sg_context_check((*out)->context);
        }
        if (result == CUDA_SUCCESS)
                sg_object_get(*out);
        return result;
}

/* ---- creation ---- */

SG_ENTRY(cuStreamCreateWithPriority, CUstream *out, unsigned flags, int priority)
{
        struct sg_context *context;
        struct sg_stream *stream;
        CUresult result = sg_context_current(&context);
        if (result == CUDA_SUCCESS && (out == NULL || (flags & ~(unsigned)CU_STREAM_NON_BLOCKING) != 0))
                result = CUDA_ERROR_INVALID_VALUE;
        if (result != CUDA_SUCCESS)
                return result;
        /* CUDA clamps a priority out of range. All streams are served alike: threads share the CPU by the kernel's
         * rule. */
        priority = priority > 0 ? 0 : priority < SG_PRIORITY_GREATEST ? SG_PRIORITY_GREATEST : priority;
        result = sg_stream_open(context, SG_STREAM_CREATED, flags, priority, &stream);
        if (result == CUDA_SUCCESS)
                *out = (CUstream)stream;
        return result;
}

SG_ENTRY(cuStreamCreate, CUstream *out, unsigned flags)
{
        return cuStreamCreateWithPriority(out, flags, 0);
}

SG_ENTRY(cuStreamDestroy_v2, CUstream handle)
{
        struct sg_context *context;
        CUresult result = sg_context_peek(&context);
        if (result != CUDA_SUCCESS)
                return result;
        struct sg_stream *stream = sg_object_from(handle, SG_STREAM);
        if (stream == NULL || stream->role != SG_STREAM_CREATED || !sg_object_retire(stream))
                return CUDA_ERROR_INVALID_HANDLE;
        result = sg_context_check(stream->context);
        sg_stream_close(stream);
        return result;
}
SG_ALIAS(cuStreamDestroy, cuStreamDestroy_v2);

/* ---- queries; each with its per-thread twin, where NULL names the thread's own stream ---- */

SG_ENTRY(cuStreamQuery, CUstream handle)
{
        struct sg_stream *stream;
        CUresult result = sg_stream_resolve(handle, &stream);
        if (result != CUDA_SUCCESS)
                return result;
        if (atomic_load(&sg_captures) != 0)
                result = sg_capture_check_wait(stream);
        if (result == CUDA_SUCCESS)
                result = sg_capture_allows();
        if (result == CUDA_SUCCESS)
                result = sg_stream_idle(stream) ? sg_context_check(stream->context) : CUDA_ERROR_NOT_READY;
        sg_object_put(stream);
        return result;
}

SG_ENTRY(cuStreamQuery_ptsz, CUstream handle)
{
        return cuStreamQuery(sg_per_thread(handle));
}

SG_ENTRY(cuStreamSynchronize, CUstream handle)
{
        struct sg_stream *stream;
        CUresult result = sg_stream_resolve(handle, &stream);
        if (result != CUDA_SUCCESS)
                return result;
        result = sg_capture_allows();
        if (result == CUDA_SUCCESS)
                result = sg_stream_drain(stream);
        sg_object_put(stream);
        return result;
}

SG_ENTRY(cuStreamSynchronize_ptsz, CUstream handle)
{
        return cuStreamSynchronize(sg_per_thread(handle));
}

SG_ENTRY(cuStreamGetPriority, CUstream handle, int *out)
{
        struct sg_stream *stream;
        const CUresult result = sg_stream_resolve(handle, &stream);
        if (result != CUDA_SUCCESS)
                return result;
        pthread_mutex_lock(&sg_work_lock);
        if (out != NULL)
                *out = stream->priority;
        pthread_mutex_unlock(&sg_work_lock);
        sg_object_put(stream);
        return out != NULL ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

SG_ENTRY(cuStreamGetPriority_ptsz, CUstream handle, int *out)
{
        return cuStreamGetPriority(sg_per_thread(handle), out);
}

SG_ENTRY(cuStreamGetFlags, CUstream handle, unsigned *out)
{
        struct sg_stream *stream;
        const CUresult result = sg_stream_resolve(handle, &stream);
        if (result != CUDA_SUCCESS)
                return result;
        if (out != NULL)
                *out = stream->flags;
        sg_object_put(stream);
        return out != NULL ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

SG_ENTRY(cuStreamGetFlags_ptsz, CUstream handle, unsigned *out)
{
        return cuStreamGetFlags(sg_per_thread(handle), out);
}

SG_ENTRY(cuStreamGetId, CUstream handle, unsigned long long *out)
{
        struct sg_stream *stream;
        const CUresult result = sg_stream_resolve(handle, &stream);
        if (result != CUDA_SUCCESS)
                return result;
        if (out != NULL)
                *out = stream->id;
        sg_object_put(stream);
        return out != NULL ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

SG_ENTRY(cuStreamGetId_ptsz, CUstream handle, unsigned long long *out)
{
        return cuStreamGetId(sg_per_thread(handle), out);
}

SG_ENTRY(cuStreamGetCtx, CUstream handle, CUcontext *out)
{
        struct sg_stream *stream;
        const CUresult result = sg_stream_resolve(handle, &stream);
        if (result != CUDA_SUCCESS)
                return result;
        if (out != NULL)
                *out = (CUcontext)stream->context;
        sg_object_put(stream);
        return out != NULL ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

SG_ENTRY(cuStreamGetCtx_ptsz, CUstream handle, CUcontext *out)
{
        return cuStreamGetCtx(sg_per_thread(handle), out);
}

SG_ENTRY(cuStreamGetCtx_v2, CUstream handle, CUcontext *out, CUgreenCtx *green)
{
        const CUresult result = cuStreamGetCtx(handle, out);
        if (result == CUDA_SUCCESS && green != NULL)
                *green = NULL;
        return result;
}

SG_ENTRY(cuStreamGetCtx_v2_ptsz, CUstream handle, CUcontext *out, CUgreenCtx *green)
{
        return cuStreamGetCtx_v2(sg_per_thread(handle), out, green);
}

SG_ENTRY(cuStreamGetDevice, CUstream handle, CUdevice *out)
{
        struct sg_stream *stream;
        const CUresult result = sg_stream_resolve(handle, &stream);
        if (result != CUDA_SUCCESS)
                return result;
        if (out != NULL)
                *out = stream->context->device->ordinal;
        sg_object_put(stream);
        return out != NULL ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

SG_ENTRY(cuStreamGetDevice_ptsz, CUstream handle, CUdevice *out)
{
        return cuStreamGetDevice(sg_per_thread(handle), out);
}

/* ---- host functions ---- */

struct sg_host_op {
        struct sg_op op;
        CUhostFn function;
        CUstreamCallback callback;
        CUstream handle;
        void *data;
};

static CUresult sg_host_op_run(struct sg_op *op, struct sg_stream *stream)
{
        struct sg_host_op *host = (struct sg_host_op *)op;
        sg_callback_enter();
        if (host->function != NULL)
                host->function(host->data);
        else
                host->callback(host->handle, sg_context_check(stream->context), host->data);
        sg_callback_leave();
        return CUDA_SUCCESS;
}

static void sg_host_op_describe(const struct sg_op *op, CUgraphNodeParams *params)
{
        const struct sg_host_op *host = (const struct sg_host_op *)op;
        params->host = (CUDA_HOST_NODE_PARAMS_v2){.fn = host->function, .userData = host->data};
}

static CUresult sg_host_op_submit(CUstream handle, CUhostFn function, CUstreamCallback callback, void *data)
{
        struct sg_stream *stream;
        CUresult result = sg_stream_resolve(handle, &stream);
        if (result != CUDA_SUCCESS)
                return result;
        struct sg_host_op *host = NULL;
        if (function == NULL && callback == NULL)
                result = CUDA_ERROR_INVALID_VALUE;
        else if ((host = sg_op_new(sizeof(*host), sg_host_op_run, sg_op_free)) == NULL)
                result = CUDA_ERROR_OUT_OF_MEMORY;
        if (host != NULL) {
                host->function = function;
                host->callback = callback;
                host->handle = handle;
                host->data = data;
                if (function != NULL) {
                        host->op.node_type = CU_GRAPH_NODE_TYPE_HOST;
                        host->op.describe = sg_host_op_describe;
                }
                host->op.always = callback != NULL; /* a callback is told of the error; a host function is dropped */
                result = sg_submit(stream, &host->op);
        }
        sg_object_put(stream);
        return result;
}

SG_ENTRY(cuLaunchHostFunc, CUstream handle, CUhostFn function, void *data)
{
        return sg_host_op_submit(handle, function, NULL, data);
}

SG_ENTRY(cuLaunchHostFunc_ptsz, CUstream handle, CUhostFn function, void *data)
{
        return cuLaunchHostFunc(sg_per_thread(handle), function, data);
}

SG_ENTRY(cuStreamAddCallback, CUstream handle, CUstreamCallback callback, void *data, unsigned flags)
{
        if (flags != 0)
                return CUDA_ERROR_INVALID_VALUE;
        return sg_host_op_submit(handle, NULL, callback, data);
}

SG_ENTRY(cuStreamAddCallback_ptsz, CUstream handle, CUstreamCallback callback, void *data, unsigned flags)
{
        return cuStreamAddCallback(sg_per_thread(handle), callback, data, flags);
}

SG_ENTRY(cuStreamAttachMemAsync, CUstream handle, CUdeviceptr address, size_t bytes, unsigned flags)
{
        struct sg_stream *stream;
        CUresult result = sg_stream_resolve(handle, &stream);
        if (result != CUDA_SUCCESS)
                return result;
        sg_object_put(stream);
        /* Host and device share managed memory: attaching changes nothing, so only the arguments are checked. */
        struct sg_allocation *allocation = sg_registry_find(address);
        const bool managed = allocation != NULL && allocation->kind == SG_MEMORY_MANAGED &&
                             (bytes == 0 || (allocation->start == address && bytes == allocation->bytes));
        if (allocation != NULL)
                sg_allocation_put(allocation);
        const bool known =
                flags == CU_MEM_ATTACH_GLOBAL || flags == CU_MEM_ATTACH_HOST || flags == CU_MEM_ATTACH_SINGLE;
        return managed && known ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

SG_ENTRY(cuStreamAttachMemAsync_ptsz, CUstream handle, CUdeviceptr address, size_t bytes, unsigned flags)
{
        return cuStreamAttachMemAsync(sg_per_thread(handle), address, bytes, flags);
}
