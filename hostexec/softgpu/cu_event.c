/* Events: a handle to the newest recorded mark in some stream. */
#include <stdlib.h>

#include "softgpu.h"

/* One record: where it stands in its stream, and when it was passed. */
struct sg_mark {
        _Atomic(uint32_t) references;
        struct sg_point point;
        _Atomic(uint64_t) passed_ns; /* 0: not passed, or dropped with a failed context */
};

static void sg_mark_put(struct sg_mark *mark)
{
        if (mark == NULL || atomic_fetch_sub_explicit(&mark->references, 1, memory_order_acq_rel) != 1)
                return;
        if (mark->point.stream != NULL)
                sg_object_put(mark->point.stream);
        free(mark);
}

/* The event's newest mark, referenced, or NULL when it was never recorded. */
static struct sg_mark *sg_event_mark(struct sg_event *event)
{
        pthread_mutex_lock(&sg_work_lock);
        struct sg_mark *mark = event->mark;
        if (mark != NULL)
                atomic_fetch_add_explicit(&mark->references, 1, memory_order_relaxed); /* under the owner's lock */
        pthread_mutex_unlock(&sg_work_lock);
        return mark;
}

static CUresult sg_event_resolve(CUevent handle, struct sg_event **out)
{
        struct sg_context *context;
        const CUresult result = sg_context_current(&context);
        if (result != CUDA_SUCCESS)
                return result;
        *out = sg_object_from(handle, SG_EVENT);
        return *out != NULL ? sg_context_check((*out)->context) : CUDA_ERROR_INVALID_HANDLE;
}

void sg_event_finalize(struct sg_event *event)
{
        sg_capture_forget_event(event);
        sg_mark_put(event->mark);
        sg_event_unshare(event);
        sg_object_put(event->context);
}

struct sg_event *sg_event_new(struct sg_context *context, unsigned flags)
{
        struct sg_event *event = sg_object_new(SG_EVENT);
        if (event == NULL)
                return NULL;
        event->context = context;
        event->flags = flags;
        sg_object_get(context);
        return event;
}

SG_ENTRY(cuEventCreate, CUevent *out, unsigned flags)
{
        struct sg_context *context;
        CUresult result = sg_context_current(&context);
        if (result != CUDA_SUCCESS)
                return result;
        const unsigned known = CU_EVENT_BLOCKING_SYNC | CU_EVENT_DISABLE_TIMING | CU_EVENT_INTERPROCESS;
        if (out == NULL || (flags & ~known) != 0 ||
            (flags & (CU_EVENT_INTERPROCESS | CU_EVENT_DISABLE_TIMING)) == CU_EVENT_INTERPROCESS)
                return CUDA_ERROR_INVALID_VALUE;
        struct sg_event *event = sg_event_new(context, flags);
        if (event == NULL)
                return CUDA_ERROR_OUT_OF_MEMORY;
        if ((flags & CU_EVENT_INTERPROCESS) != 0)
                result = sg_event_share(event);
        if (result != CUDA_SUCCESS) {
                if (sg_object_retire(event))
                        sg_object_put(event);
                return result;
        }
        *out = (CUevent)event;
        return CUDA_SUCCESS;
}

SG_ENTRY(cuEventDestroy_v2, CUevent handle)
{
        struct sg_context *context;
        const CUresult result = sg_context_peek(&context);
        if (result != CUDA_SUCCESS)
                return result;
        struct sg_event *event = sg_object_from(handle, SG_EVENT);
        if (event == NULL || !sg_object_retire(event))
                return CUDA_ERROR_INVALID_HANDLE;
        sg_object_put(event);
        return CUDA_SUCCESS;
}
SG_ALIAS(cuEventDestroy, cuEventDestroy_v2);

/* ---- recording ---- */

struct sg_record_op {
        struct sg_op op;
        struct sg_event *event;
        struct sg_mark *mark;
        struct sg_mark *replaced; /* put outside the lock */
        uint64_t shared_number;
};

static void sg_record_queued(struct sg_op *op, struct sg_stream *stream)
{
        struct sg_record_op *record = (struct sg_record_op *)op;
        record->mark->point = (struct sg_point){stream, op->sequence};
        sg_object_get(stream);
        record->shared_number = sg_shared_mark_record(record->event);
        record->replaced = record->event->mark;
        record->event->mark = record->mark;
        atomic_fetch_add_explicit(&record->mark->references, 1, memory_order_relaxed);
}

static CUresult sg_record_run(struct sg_op *op, struct sg_stream *stream)
{
        (void)stream;
        const struct sg_record_op *record = (const struct sg_record_op *)op;
        atomic_store(&record->mark->passed_ns, sg_now_ns());
        sg_shared_mark_pass(record->event, record->shared_number);
        return CUDA_SUCCESS;
}

static void sg_record_release(struct sg_op *op)
{
        struct sg_record_op *record = (struct sg_record_op *)op;
        sg_mark_put(record->replaced);
        sg_mark_put(record->mark);
        sg_object_put(record->event);
        sg_op_free(op);
}

CUresult sg_event_record(struct sg_event *event, struct sg_stream *stream)
{
        struct sg_record_op *record = sg_op_new(sizeof(*record), sg_record_run, sg_record_release);
        struct sg_mark *mark = calloc(1, sizeof(*mark));
        if (record == NULL || mark == NULL) {
                free(record);
                free(mark);
                return CUDA_ERROR_OUT_OF_MEMORY;
        }
        atomic_init(&mark->references, 1);
        record->op.queued = sg_record_queued;
        record->event = event;
        record->mark = mark;
        record->op.node_type = CU_GRAPH_NODE_TYPE_EVENT_RECORD;
        sg_capture_forget_event(event);
        sg_object_get(event);
        return sg_submit(stream, &record->op);
}

CUresult sg_op_add_event(struct sg_op *op, struct sg_event *event)
{
        struct sg_mark *mark = sg_event_mark(event);
        CUresult result = CUDA_SUCCESS;
        if (mark != NULL && !sg_point_reached(&mark->point))
                result = sg_op_add_point(op, &mark->point);
        sg_mark_put(mark);
        return result;
}

SG_ENTRY(cuEventRecordWithFlags, CUevent handle, CUstream stream_handle, unsigned flags)
{
        struct sg_event *event;
        struct sg_stream *stream;
        if ((flags & ~(unsigned)CU_EVENT_RECORD_EXTERNAL) != 0)
                return CUDA_ERROR_INVALID_VALUE;
        CUresult result = sg_event_resolve(handle, &event);
        if (result == CUDA_SUCCESS)
                result = sg_stream_resolve(stream_handle, &stream);
        if (result != CUDA_SUCCESS)
                return result;
        if (event->context != stream->context)
                result = CUDA_ERROR_INVALID_HANDLE;
        else if (atomic_load(&sg_captures) == 0 || (flags & CU_EVENT_RECORD_EXTERNAL) != 0 ||
                 !sg_capture_record(event, stream, &result))
                result = sg_event_record(event, stream);
        sg_object_put(stream);
        return result;
}

SG_ENTRY(cuEventRecordWithFlags_ptsz, CUevent handle, CUstream stream, unsigned flags)
{
        return cuEventRecordWithFlags(handle, sg_per_thread(stream), flags);
}

SG_ENTRY(cuEventRecord, CUevent handle, CUstream stream)
{
        return cuEventRecordWithFlags(handle, stream, 0);
}

SG_ENTRY(cuEventRecord_ptsz, CUevent handle, CUstream stream)
{
        return cuEventRecordWithFlags(handle, sg_per_thread(stream), 0);
}

/* ---- waiting ---- */

SG_ENTRY(cuEventQuery, CUevent handle)
{
        struct sg_event *event;
        CUresult result = sg_event_resolve(handle, &event);
        if (result == CUDA_SUCCESS)
                result = sg_capture_allows();
        if (result != CUDA_SUCCESS)
                return result;
        if (sg_event_is_captured(event))
                return CUDA_ERROR_CAPTURED_EVENT;
        if (event->shared != NULL && !sg_shared_mark_passed(event))
                return CUDA_ERROR_NOT_READY;
        struct sg_mark *mark = sg_event_mark(event);
        const bool reached = mark == NULL || sg_point_reached(&mark->point);
        sg_mark_put(mark);
        return reached ? sg_context_check(event->context) : CUDA_ERROR_NOT_READY;
}

SG_ENTRY(cuEventSynchronize, CUevent handle)
{
        struct sg_event *event;
        CUresult result = sg_event_resolve(handle, &event);
        if (result == CUDA_SUCCESS)
                result = sg_capture_allows();
        if (result != CUDA_SUCCESS)
                return result;
        if (sg_event_is_captured(event))
                return CUDA_ERROR_CAPTURED_EVENT;
        struct sg_mark *mark = sg_event_mark(event);
        if (mark != NULL)
                sg_point_wait(&mark->point);
        sg_mark_put(mark);
        if (event->shared != NULL)
                sg_shared_mark_wait(event);
        return sg_context_check(event->context);
}

SG_ENTRY(cuStreamWaitEvent, CUstream stream_handle, CUevent handle, unsigned flags)
{
        struct sg_event *event;
        struct sg_stream *stream;
        if ((flags & ~(unsigned)CU_EVENT_WAIT_EXTERNAL) != 0)
                return CUDA_ERROR_INVALID_VALUE;
        CUresult result = sg_event_resolve(handle, &event);
        if (result == CUDA_SUCCESS)
                result = sg_stream_resolve(stream_handle, &stream);
        if (result != CUDA_SUCCESS)
                return result;
        if (atomic_load(&sg_captures) != 0 && sg_capture_wait(stream, event, &result)) {
                sg_object_put(stream);
                return result;
        }
        if (event->shared != NULL && !sg_shared_mark_passed(event)) {
                result = sg_shared_mark_stream_waits(event, stream);
                sg_object_put(stream);
                return result;
        }
        struct sg_mark *mark = sg_event_mark(event);
        /* A stream is in order with itself, and an event never recorded is complete. */
        if (mark != NULL && mark->point.stream != stream && !sg_point_reached(&mark->point)) {
                struct sg_op *op = sg_op_new(sizeof(*op), sg_op_run_nothing, sg_op_free);
                result = op != NULL ? sg_op_add_point(op, &mark->point) : CUDA_ERROR_OUT_OF_MEMORY;
                if (result == CUDA_SUCCESS)
                        result = sg_submit(stream, op);
                else if (op != NULL)
                        sg_op_free(op);
        }
        sg_mark_put(mark);
        sg_object_put(stream);
        return result;
}

SG_ENTRY(cuStreamWaitEvent_ptsz, CUstream stream, CUevent handle, unsigned flags)
{
        return cuStreamWaitEvent(sg_per_thread(stream), handle, flags);
}

/* ---- time ---- */

static CUresult sg_elapsed(struct sg_mark *start, struct sg_mark *end, float *milliseconds)
{
        if (start == NULL || end == NULL)
                return CUDA_ERROR_INVALID_HANDLE;
        if (!sg_point_reached(&start->point) || !sg_point_reached(&end->point))
                return CUDA_ERROR_NOT_READY;
        const int64_t nanoseconds = (int64_t)(atomic_load(&end->passed_ns) - atomic_load(&start->passed_ns));
        *milliseconds = (float)((double)nanoseconds / 1e6);
        return CUDA_SUCCESS;
}

SG_ENTRY(cuEventElapsedTime_v2, float *out, CUevent start_handle, CUevent end_handle)
{
        struct sg_event *start, *end;
        CUresult result = sg_event_resolve(start_handle, &start);
        if (result == CUDA_SUCCESS)
                result = sg_event_resolve(end_handle, &end);
        if (result != CUDA_SUCCESS)
                return result;
        if (out == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        if (start->context != end->context || ((start->flags | end->flags) & CU_EVENT_DISABLE_TIMING) != 0)
                return CUDA_ERROR_INVALID_HANDLE;
        struct sg_mark *first = sg_event_mark(start), *second = sg_event_mark(end);
        result = sg_elapsed(first, second, out);
        sg_mark_put(first);
        sg_mark_put(second);
        return result;
}
SG_ALIAS(cuEventElapsedTime, cuEventElapsedTime_v2);
