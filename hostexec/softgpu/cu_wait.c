/* Waiting for work: for a stream, a point, a context, and for a context's threads to end. */
#include <errno.h>

#include "softgpu.h"
#include "work.h"

/* The newest operation of the stream, and of those that the next one in it would wait for; under sg_work_lock. */
static CUresult sg_stream_points(struct sg_op *all, struct sg_stream *stream)
{
        const CUresult result = sg_op_add_newest(all, stream);
        return result == CUDA_SUCCESS && stream->role == SG_STREAM_LEGACY ? sg_op_order(all, stream) : result;
}

CUresult sg_stream_drain(struct sg_stream *stream)
{
        const CUresult captured = atomic_load(&sg_captures) != 0 ? sg_capture_check_wait(stream) : CUDA_SUCCESS;
        if (captured != CUDA_SUCCESS)
                return captured;
        struct sg_op *all = sg_op_new(sizeof(*all), NULL, NULL);
        if (all == NULL)
                return CUDA_ERROR_OUT_OF_MEMORY;
        pthread_mutex_lock(&sg_work_lock);
        const CUresult result = sg_stream_points(all, stream);
        if (result == CUDA_SUCCESS)
                sg_points_wait(all, NULL);
        pthread_mutex_unlock(&sg_work_lock);
        sg_op_free(all);
        return result != CUDA_SUCCESS ? result : sg_context_check(stream->context);
}

bool sg_stream_idle(struct sg_stream *stream)
{
        pthread_mutex_lock(&sg_work_lock);
        bool idle = stream->completed == stream->submitted;
        if (stream->role == SG_STREAM_LEGACY)
                for (const struct sg_stream *other = stream->context->streams; other != NULL; other = other->next)
                        if (sg_stream_is_blocking(other) && other->completed != other->submitted)
                                idle = false;
        pthread_mutex_unlock(&sg_work_lock);
        return idle;
}

bool sg_point_reached(const struct sg_point *point)
{
        pthread_mutex_lock(&sg_work_lock);
        const bool reached = point->stream->completed >= point->sequence;
        pthread_mutex_unlock(&sg_work_lock);
        return reached;
}

void sg_point_wait(const struct sg_point *point)
{
        pthread_mutex_lock(&sg_work_lock);
        while (point->stream->completed < point->sequence)
                pthread_cond_wait(&point->stream->progress, &sg_work_lock);
        pthread_mutex_unlock(&sg_work_lock);
}

/* The points after all that the context's streams hold now. */
static struct sg_op *sg_context_points(struct sg_context *context)
{
        struct sg_op *all = sg_op_new(sizeof(*all), NULL, NULL);
        if (all == NULL)
                return NULL;
        CUresult result = CUDA_SUCCESS;
        pthread_mutex_lock(&sg_work_lock);
        for (struct sg_stream *stream = context->streams; stream != NULL && result == CUDA_SUCCESS;
             stream = stream->next)
                result = sg_op_add_newest(all, stream);
        pthread_mutex_unlock(&sg_work_lock);
        if (result == CUDA_SUCCESS)
                return all;
        sg_op_free(all);
        return NULL;
}

CUresult sg_context_drain(struct sg_context *context)
{
        struct sg_op *all = sg_context_points(context);
        if (all == NULL)
                return CUDA_ERROR_OUT_OF_MEMORY;
        pthread_mutex_lock(&sg_work_lock);
        sg_points_wait(all, NULL);
        pthread_mutex_unlock(&sg_work_lock);
        sg_op_free(all);
        return sg_context_check(context);
}

/* Waits until the stream's queue is empty and its thread is gone; after the grace time kernels are told to stop. */
static void sg_stream_join(struct sg_stream *stream)
{
        const struct timespec deadline = sg_deadline(SG_CLOSE_GRACE_MS);
        bool graceful = true;
        pthread_mutex_lock(&sg_work_lock);
        while (stream->worker || stream->completed != stream->submitted) {
                if (!graceful)
                        pthread_cond_wait(&stream->progress, &sg_work_lock);
                else if (pthread_cond_timedwait(&stream->progress, &sg_work_lock, &deadline) == ETIMEDOUT) {
                        graceful = false;
                        sg_report("context %llu closes with work running: it is stopped",
                                  (unsigned long long)stream->context->id);
                        sg_context_fail(stream->context, CUDA_ERROR_CONTEXT_IS_DESTROYED);
                }
        }
        pthread_mutex_unlock(&sg_work_lock);
}

void sg_work_close(struct sg_context *context)
{
        atomic_store(&context->closing, 1);
        /* Newest first; each join may wait for older ones, which close meanwhile. The legacy stream goes last, since
         * the others' rule names it. */
        for (;;) {
                pthread_mutex_lock(&sg_work_lock);
                struct sg_stream *stream = context->streams;
                while (stream != NULL && stream == context->legacy)
                        stream = stream->next;
                if (stream == NULL)
                        stream = context->streams;
                if (stream != NULL) {
                        sg_object_get(stream);
                        stream->closing = true;
                        pthread_cond_signal(&stream->wake);
                }
                pthread_mutex_unlock(&sg_work_lock);
                if (stream == NULL)
                        return;
                sg_stream_join(stream);
                pthread_mutex_lock(&sg_work_lock);
                sg_stream_unlink(stream);
                pthread_mutex_unlock(&sg_work_lock);
                if (sg_object_retire(stream))
                        sg_object_put(stream); /* the handle's */
                sg_object_put(stream);
        }
}
