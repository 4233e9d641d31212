/* A context's streams taken together: an event behind all of them, and all of them behind an event.
 *
 * Two streams that no program sees do it. `gather` holds an operation that waits for what all streams held at the
 * record, then the record. `gate` holds one that waits for the event; streams made later start behind it. Neither
 * orders with the legacy stream. */
#include <stdlib.h>

#include "softgpu.h"
#include "work.h"

static pthread_mutex_t sg_hidden_lock = PTHREAD_MUTEX_INITIALIZER;

static CUresult sg_hidden_stream(struct sg_context *context, struct sg_stream **place)
{
        CUresult result = CUDA_SUCCESS;
        pthread_mutex_lock(&sg_hidden_lock);
        if (*place == NULL) {
                struct sg_stream *stream;
                result = sg_stream_open(context, SG_STREAM_HIDDEN, CU_STREAM_NON_BLOCKING, 0, &stream);
                if (result == CUDA_SUCCESS) {
                        pthread_mutex_lock(&sg_work_lock);
                        *place = stream;
                        pthread_mutex_unlock(&sg_work_lock);
                }
        }
        pthread_mutex_unlock(&sg_hidden_lock);
        return result;
}

static CUresult sg_context_event_resolve(CUcontext context_handle, CUevent event_handle, struct sg_context **context,
                                         struct sg_event **event)
{
        CUresult result = sg_context_lookup(context_handle, context);
        if (result != CUDA_SUCCESS)
                return result;
        *event = sg_object_from(event_handle, SG_EVENT);
        if (*event == NULL)
                return CUDA_ERROR_INVALID_HANDLE;
        result = sg_context_check(*context);
        return result == CUDA_SUCCESS && atomic_load(&sg_captures) != 0 ? sg_capture_check_context(*context) : result;
}

SG_ENTRY(cuCtxRecordEvent, CUcontext context_handle, CUevent event_handle)
{
        struct sg_context *context;
        struct sg_event *event;
        CUresult result = sg_context_event_resolve(context_handle, event_handle, &context, &event);
        if (result == CUDA_SUCCESS && event->context != context)
                result = CUDA_ERROR_INVALID_HANDLE;
        if (result == CUDA_SUCCESS)
                result = sg_hidden_stream(context, &context->gather);
        if (result != CUDA_SUCCESS)
                return result;
        struct sg_op *all = sg_op_new(sizeof(*all), sg_op_run_nothing, sg_op_free);
        if (all == NULL)
                return CUDA_ERROR_OUT_OF_MEMORY;
        pthread_mutex_lock(&sg_work_lock);
        for (struct sg_stream *stream = context->streams; stream != NULL && result == CUDA_SUCCESS;
             stream = stream->next)
                if (stream != context->gather)
                        result = sg_op_add_newest(all, stream);
        pthread_mutex_unlock(&sg_work_lock);
        if (result != CUDA_SUCCESS) {
                sg_op_free(all);
                return result;
        }
        result = sg_submit(context->gather, all);
        return result == CUDA_SUCCESS ? sg_event_record(event, context->gather) : result;
}

/* The streams that a program sees, referenced. */
static CUresult sg_streams_list(struct sg_context *context, struct sg_stream ***out, size_t *count)
{
        struct sg_stream **streams = NULL;
        size_t found = 0, capacity;
        *count = 0;
        pthread_mutex_lock(&sg_work_lock);
        for (const struct sg_stream *stream = context->streams; stream != NULL; stream = stream->next)
                found++;
        capacity = found;
        streams = calloc(capacity + 1, sizeof(*streams)); /* bounded by the slab of streams */
        for (struct sg_stream *stream = context->streams; streams != NULL && stream != NULL; stream = stream->next)
                if (stream->role != SG_STREAM_HIDDEN && !stream->closing) {
                        sg_object_get(stream);
                        streams[(*count)++] = stream;
                }
        pthread_mutex_unlock(&sg_work_lock);
        *out = streams;
        return streams != NULL ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

static CUresult sg_wait_in(struct sg_stream *stream, struct sg_event *event)
{
        struct sg_op *op = sg_op_new(sizeof(*op), sg_op_run_nothing, sg_op_free);
        if (op == NULL)
                return CUDA_ERROR_OUT_OF_MEMORY;
        const CUresult result = sg_op_add_event(op, event);
        if (result == CUDA_SUCCESS)
                return sg_submit(stream, op);
        sg_op_free(op);
        return result;
}

SG_ENTRY(cuCtxWaitEvent, CUcontext context_handle, CUevent event_handle)
{
        struct sg_context *context;
        struct sg_event *event;
        struct sg_stream **streams;
        size_t count;
        CUresult result = sg_context_event_resolve(context_handle, event_handle, &context, &event);
        if (result == CUDA_SUCCESS)
                result = sg_hidden_stream(context, &context->gate);
        /* First the gate: a stream that is made meanwhile starts behind it. */
        if (result == CUDA_SUCCESS)
                result = sg_wait_in(context->gate, event);
        if (result == CUDA_SUCCESS)
                result = sg_streams_list(context, &streams, &count);
        if (result != CUDA_SUCCESS)
                return result;
        for (size_t i = 0; i < count; i++) {
                if (result == CUDA_SUCCESS)
                        result = sg_wait_in(streams[i], event);
                sg_object_put(streams[i]);
        }
        free(streams);
        return result;
}
