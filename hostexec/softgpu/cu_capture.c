/* Stream capture: operations given to a capturing stream become nodes, with the stream's tips as dependencies. */
#include <stdlib.h>
#include <string.h>

#include "graph.h"
#include "softgpu.h"

struct sg_capture {
        _Atomic(uint32_t) references;
        uint64_t id;
        struct sg_graph *graph; /* owned until the end, unless `given` */
        bool given;
        bool invalid;
        CUstreamCaptureMode mode;
        pthread_t thread;
        struct sg_stream *origin;
        struct sg_stream **streams; /* that have joined, the origin too */
        unsigned stream_count;
        struct sg_capture *next;
};

_Atomic(uint32_t) sg_captures;
static struct sg_capture *sg_capture_first; /* under sg_graph_lock */
static uint64_t sg_capture_ids;
static _Thread_local CUstreamCaptureMode sg_thread_mode = CU_STREAM_CAPTURE_MODE_GLOBAL;

static void sg_capture_put(struct sg_capture *capture)
{
        if (capture == NULL || atomic_fetch_sub(&capture->references, 1) != 1)
                return;
        free(capture->streams);
        free(capture);
}

static CUresult sg_capture_join(struct sg_capture *capture, struct sg_stream *stream)
{
        struct sg_stream **more = realloc(capture->streams, (capture->stream_count + 1) * sizeof(*more));
        if (more == NULL)
                return CUDA_ERROR_OUT_OF_MEMORY;
        capture->streams = more;
        capture->streams[capture->stream_count++] = stream;
        atomic_fetch_add(&capture->references, 1);
        stream->capture = capture;
        return CUDA_SUCCESS;
}

static void sg_capture_leave(struct sg_stream *stream)
{
        struct sg_capture *capture = stream->capture;
        for (unsigned i = 0; i < capture->stream_count; i++)
                if (capture->streams[i] == stream)
                        capture->streams[i--] = capture->streams[--capture->stream_count];
        stream->capture = NULL;
        sg_tips_clear(&stream->tips);
        sg_capture_put(capture);
}

/* Ends it for all streams; the graph is the caller's business. */
static void sg_capture_end(struct sg_capture *capture)
{
        atomic_fetch_add(&capture->references, 1);
        while (capture->stream_count != 0)
                sg_capture_leave(capture->streams[0]);
        for (struct sg_capture **at = &sg_capture_first; *at != NULL; at = &(*at)->next)
                if (*at == capture) {
                        *at = capture->next;
                        atomic_fetch_sub(&sg_captures, 1);
                        sg_capture_put(capture);
                        break;
                }
        sg_capture_put(capture);
}

/* ---- what is refused ---- */

static CUresult sg_capture_spoil(struct sg_capture *capture, CUresult result)
{
        capture->invalid = true;
        return result;
}

/* The legacy stream would wait for a capturing stream of its context. Under the lock. */
static CUresult sg_capture_check_implicit(const struct sg_stream *stream)
{
        CUresult result = CUDA_SUCCESS;
        if (stream->role != SG_STREAM_LEGACY)
                return CUDA_SUCCESS;
        for (struct sg_capture *capture = sg_capture_first; capture != NULL; capture = capture->next)
                for (unsigned i = 0; i < capture->stream_count; i++)
                        if (capture->streams[i]->context == stream->context &&
                            sg_stream_is_blocking(capture->streams[i]))
                                result = sg_capture_spoil(capture, CUDA_ERROR_STREAM_CAPTURE_IMPLICIT);
        return result;
}

CUresult sg_capture_check_wait(struct sg_stream *stream)
{
        sg_graph_lock_take();
        CUresult result = sg_capture_check_implicit(stream);
        if (stream->capture != NULL)
                result = sg_capture_spoil(stream->capture, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
        sg_graph_lock_give();
        return result;
}

CUresult sg_capture_check_context(struct sg_context *context)
{
        CUresult result = CUDA_SUCCESS;
        sg_graph_lock_take();
        for (struct sg_capture *capture = sg_capture_first; capture != NULL; capture = capture->next)
                if (capture->origin->context == context)
                        result = sg_capture_spoil(capture, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
        sg_graph_lock_give();
        return result;
}

CUresult sg_capture_check_unsafe(void)
{
        CUresult result = CUDA_SUCCESS;
        sg_graph_lock_take();
        for (struct sg_capture *capture = sg_capture_first; capture != NULL; capture = capture->next) {
                const bool own = pthread_equal(capture->thread, pthread_self()) &&
                                 capture->mode != CU_STREAM_CAPTURE_MODE_RELAXED;
                const bool others = sg_thread_mode == CU_STREAM_CAPTURE_MODE_GLOBAL &&
                                    capture->mode == CU_STREAM_CAPTURE_MODE_GLOBAL;
                if (sg_thread_mode != CU_STREAM_CAPTURE_MODE_RELAXED && (own || others))
                        result = sg_capture_spoil(capture, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
        }
        sg_graph_lock_give();
        return result;
}

/* ---- what is taken ---- */

static CUresult sg_capture_add(struct sg_stream *stream, CUgraphNodeType type, struct sg_graph_work *work)
{
        struct sg_node *node;
        CUresult result =
                sg_graph_add(stream->capture->graph, type, work, stream->tips.nodes, stream->tips.count, &node);
        if (result != CUDA_SUCCESS)
                return sg_capture_spoil(stream->capture, result);
        sg_tips_clear(&stream->tips);
        return sg_tips_add(&stream->tips, node);
}

CUresult sg_capture_work(struct sg_stream *stream, CUgraphNodeType type, struct sg_graph_work *work)
{
        if (!stream->capture->invalid)
                return sg_capture_add(stream, type, work);
        sg_graph_work_put(work);
        return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
}

bool sg_capture_op(struct sg_stream *stream, struct sg_op *op, CUresult *result)
{
        sg_graph_lock_take();
        *result = sg_capture_check_implicit(stream);
        const bool taken = stream->capture != NULL || *result != CUDA_SUCCESS;
        if (stream->capture != NULL && stream->capture->invalid) {
                *result = CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
        } else if (stream->capture != NULL && op->node_type == SG_NODE_TYPE_NONE) {
                *result = sg_capture_spoil(stream->capture, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
        } else if (stream->capture != NULL) {
                struct sg_graph_work *work = sg_graph_work_new(op, NULL, NULL);
                op = work != NULL ? NULL : op; /* the work's now */
                *result = work != NULL ? sg_capture_add(stream, (CUgraphNodeType)work->op->node_type, work)
                                       : CUDA_ERROR_OUT_OF_MEMORY;
        }
        sg_graph_lock_give();
        if (taken && op != NULL)
                op->release(op);
        return taken;
}

bool sg_capture_record(struct sg_event *event, struct sg_stream *stream, CUresult *result)
{
        sg_graph_lock_take();
        *result = sg_capture_check_implicit(stream);
        const bool taken = stream->capture != NULL || *result != CUDA_SUCCESS;
        if (stream->capture != NULL && stream->capture->invalid) {
                *result = CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
        } else if (stream->capture != NULL) {
                struct sg_capture *capture = stream->capture;
                atomic_fetch_add(&capture->references, 1);
                sg_capture_forget_event(event);
                event->capture = capture;
                *result = sg_tips_merge(&event->tips, &stream->tips);
        }
        sg_graph_lock_give();
        return taken;
}

bool sg_capture_wait(struct sg_stream *stream, struct sg_event *event, CUresult *result)
{
        sg_graph_lock_take();
        struct sg_capture *to = stream->capture, *from = event->capture;
        *result = sg_capture_check_implicit(stream);
        const bool taken = to != NULL || from != NULL || *result != CUDA_SUCCESS;
        if (*result != CUDA_SUCCESS || !taken) {
                ;
        } else if ((to != NULL && to->invalid) || (from != NULL && from->invalid)) {
                *result = CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
        } else if (from == NULL || (to != NULL && to != from)) {
                if (from != NULL)
                        from->invalid = true;
                *result = sg_capture_spoil(to, from == NULL ? CUDA_ERROR_STREAM_CAPTURE_ISOLATION
                                                            : CUDA_ERROR_STREAM_CAPTURE_MERGE);
        } else if (stream->role == SG_STREAM_LEGACY) {
                *result = sg_capture_spoil(from, CUDA_ERROR_STREAM_CAPTURE_IMPLICIT);
        } else if (to == NULL && from->stream_count == 0) { /* its capture is over */
                *result = CUDA_ERROR_CAPTURED_EVENT;
        } else {
                *result = to == NULL ? sg_capture_join(from, stream) : CUDA_SUCCESS;
                if (*result == CUDA_SUCCESS)
                        *result = sg_tips_merge(&stream->tips, &event->tips);
        }
        sg_graph_lock_give();
        return taken;
}

bool sg_event_is_captured(struct sg_event *event)
{
        sg_graph_lock_take();
        const bool captured = event->capture != NULL;
        if (captured && event->capture->stream_count != 0)
                event->capture->invalid = true;
        sg_graph_lock_give();
        return captured;
}

void sg_capture_forget_event(struct sg_event *event)
{
        sg_graph_lock_take();
        sg_tips_clear(&event->tips);
        sg_capture_put(event->capture);
        event->capture = NULL;
        sg_graph_lock_give();
}

void sg_capture_forget_stream(struct sg_stream *stream)
{
        sg_graph_lock_take();
        if (stream->capture != NULL && stream->capture->origin == stream) {
                struct sg_capture *capture = stream->capture;
                if (!capture->given)
                        sg_graph_close(capture->graph);
                sg_capture_end(capture);
        } else if (stream->capture != NULL) {
                stream->capture->invalid = true;
                sg_capture_leave(stream);
        }
        sg_graph_lock_give();
}

/* ---- begin, end ---- */

static CUresult sg_capture_begin(struct sg_stream *stream, struct sg_graph *to, const struct sg_tips *dependencies,
                                 CUstreamCaptureMode mode)
{
        if (stream->role == SG_STREAM_LEGACY)
                return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
        if (stream->capture != NULL)
                return CUDA_ERROR_ILLEGAL_STATE;
        struct sg_capture *capture = calloc(1, sizeof(*capture));
        if (capture == NULL)
                return CUDA_ERROR_OUT_OF_MEMORY;
        atomic_init(&capture->references, 1);
        capture->id = ++sg_capture_ids;
        capture->mode = mode;
        capture->thread = pthread_self();
        capture->origin = stream;
        capture->graph = to;
        capture->given = to != NULL;
        CUresult result = to == NULL ? sg_graph_new(&capture->graph) : CUDA_SUCCESS;
        if (result == CUDA_SUCCESS)
                result = sg_capture_join(capture, stream);
        if (result == CUDA_SUCCESS)
                result = sg_tips_merge(&stream->tips, dependencies);
        if (result != CUDA_SUCCESS) {
                if (capture->graph != NULL && to == NULL)
                        sg_graph_close(capture->graph);
                if (stream->capture == capture)
                        sg_capture_leave(stream);
                sg_capture_put(capture);
                return result;
        }
        capture->next = sg_capture_first;
        sg_capture_first = capture;
        atomic_fetch_add(&sg_captures, 1);
        return CUDA_SUCCESS;
}

SG_ENTRY(cuStreamBeginCapture_v2, CUstream handle, CUstreamCaptureMode mode)
{
        const struct sg_tips none = {NULL, 0};
        struct sg_stream *stream;
        if ((unsigned)mode > CU_STREAM_CAPTURE_MODE_RELAXED)
                return CUDA_ERROR_INVALID_VALUE;
        CUresult result = sg_stream_resolve(handle, &stream);
        if (result != CUDA_SUCCESS)
                return result;
        sg_graph_lock_take();
        result = sg_capture_begin(stream, NULL, &none, mode);
        sg_graph_lock_give();
        sg_object_put(stream);
        return result;
}

SG_ENTRY(cuStreamBeginCapture_v2_ptsz, CUstream handle, CUstreamCaptureMode mode)
{
        return cuStreamBeginCapture_v2(sg_per_thread(handle), mode);
}

SG_ENTRY(cuStreamBeginCaptureToGraph, CUstream handle, CUgraph graph_handle, const CUgraphNode *dependencies,
         const CUgraphEdgeData *data, size_t count, CUstreamCaptureMode mode)
{
        struct sg_stream *stream;
        struct sg_graph *graph;
        struct sg_tips tips = {NULL, 0};
        if ((unsigned)mode > CU_STREAM_CAPTURE_MODE_RELAXED || (count != 0 && dependencies == NULL) || data != NULL)
                return CUDA_ERROR_INVALID_VALUE;
        CUresult result = sg_stream_resolve(handle, &stream);
        if (result != CUDA_SUCCESS)
                return result;
        sg_graph_lock_take();
        if (!sg_graph_resolve(graph_handle, &graph))
                result = CUDA_ERROR_INVALID_VALUE;
        for (size_t i = 0; result == CUDA_SUCCESS && i < count; i++) {
                struct sg_node *node = sg_object_from(dependencies[i], SG_NODE);
                result = node != NULL && node->graph == graph ? sg_tips_add(&tips, node) : CUDA_ERROR_INVALID_VALUE;
        }
        if (result == CUDA_SUCCESS)
                result = sg_capture_begin(stream, graph, &tips, mode);
        sg_tips_clear(&tips);
        sg_graph_lock_give();
        sg_object_put(stream);
        return result;
}

/* Every stream's work must have come back to the origin. */
static bool sg_capture_is_joined(const struct sg_capture *capture)
{
        for (unsigned i = 0; i < capture->stream_count; i++) {
                const struct sg_tips *tips = &capture->streams[i]->tips;
                for (unsigned k = 0; k < tips->count; k++) {
                        bool joined = false;
                        for (unsigned o = 0; o < capture->origin->tips.count && !joined; o++)
                                joined = sg_node_precedes(tips->nodes[k], capture->origin->tips.nodes[o]);
                        if (!joined)
                                return false;
                }
        }
        return true;
}

static CUresult sg_capture_finish(struct sg_stream *stream, CUgraph *out)
{
        struct sg_capture *capture = stream->capture;
        if (capture == NULL)
                return CUDA_ERROR_ILLEGAL_STATE;
        if (capture->origin != stream)
                return sg_capture_spoil(capture, CUDA_ERROR_STREAM_CAPTURE_UNMATCHED);
        CUresult result = capture->invalid ? CUDA_ERROR_STREAM_CAPTURE_INVALIDATED : CUDA_SUCCESS;
        if (capture->mode != CU_STREAM_CAPTURE_MODE_RELAXED && !pthread_equal(capture->thread, pthread_self()))
                result = CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD; /* ends it all the same (seen with driver 580) */
        if (result == CUDA_SUCCESS && !sg_capture_is_joined(capture))
                result = CUDA_ERROR_STREAM_CAPTURE_UNJOINED;
        if (result == CUDA_SUCCESS)
                *out = (CUgraph)capture->graph;
        else if (!capture->given)
                sg_graph_close(capture->graph);
        sg_capture_end(capture);
        return result;
}

SG_ENTRY(cuStreamEndCapture, CUstream handle, CUgraph *out)
{
        struct sg_stream *stream;
        CUresult result = sg_stream_resolve(handle, &stream);
        if (result != CUDA_SUCCESS)
                return result;
        if (out == NULL) {
                result = CUDA_ERROR_INVALID_VALUE;
        } else {
                *out = NULL;
                sg_graph_lock_take();
                result = sg_capture_finish(stream, out);
                sg_graph_lock_give();
        }
        sg_object_put(stream);
        return result;
}

SG_ENTRY(cuStreamEndCapture_ptsz, CUstream handle, CUgraph *out)
{
        return cuStreamEndCapture(sg_per_thread(handle), out);
}

/* ---- questions ---- */

SG_ENTRY(cuStreamIsCapturing, CUstream handle, CUstreamCaptureStatus *status)
{
        struct sg_stream *stream;
        CUresult result = sg_stream_resolve(handle, &stream);
        if (result != CUDA_SUCCESS)
                return result;
        sg_graph_lock_take();
        const struct sg_capture *capture = stream->capture;
        for (const struct sg_capture *other = sg_capture_first; other != NULL; other = other->next)
                for (unsigned i = 0; i < other->stream_count && stream->role == SG_STREAM_LEGACY; i++)
                        if (other->streams[i]->context == stream->context && sg_stream_is_blocking(other->streams[i]))
                                result = CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
        if (status == NULL)
                result = CUDA_ERROR_INVALID_VALUE;
        else if (result == CUDA_SUCCESS)
                *status = capture == NULL    ? CU_STREAM_CAPTURE_STATUS_NONE
                          : capture->invalid ? CU_STREAM_CAPTURE_STATUS_INVALIDATED
                                             : CU_STREAM_CAPTURE_STATUS_ACTIVE;
        sg_graph_lock_give();
        sg_object_put(stream);
        return result;
}

SG_ENTRY(cuStreamIsCapturing_ptsz, CUstream handle, CUstreamCaptureStatus *status)
{
        return cuStreamIsCapturing(sg_per_thread(handle), status);
}

SG_ENTRY(cuStreamGetCaptureInfo_v2, CUstream handle, CUstreamCaptureStatus *status, cuuint64_t *id, CUgraph *graph,
         const CUgraphNode **dependencies, size_t *count)
{
        struct sg_stream *stream;
        CUresult result = cuStreamIsCapturing(handle, status);
        if (result != CUDA_SUCCESS || *status != CU_STREAM_CAPTURE_STATUS_ACTIVE)
                return result;
        result = sg_stream_resolve(handle, &stream);
        if (result != CUDA_SUCCESS)
                return result;
        sg_graph_lock_take();
        if (stream->capture != NULL) {
                if (id != NULL)
                        *id = stream->capture->id;
                if (graph != NULL)
                        *graph = (CUgraph)stream->capture->graph;
                if (dependencies != NULL)
                        *dependencies = (const CUgraphNode *)(const void *)stream->tips.nodes;
                if (count != NULL)
                        *count = stream->tips.count;
        }
        sg_graph_lock_give();
        sg_object_put(stream);
        return CUDA_SUCCESS;
}

SG_ENTRY(cuStreamGetCaptureInfo_v2_ptsz, CUstream handle, CUstreamCaptureStatus *status, cuuint64_t *id, CUgraph *graph,
         const CUgraphNode **dependencies, size_t *count)
{
        return cuStreamGetCaptureInfo_v2(sg_per_thread(handle), status, id, graph, dependencies, count);
}

/* Every edge is a plain one, which an absent list says too. */
SG_ENTRY(cuStreamGetCaptureInfo_v3, CUstream handle, CUstreamCaptureStatus *status, cuuint64_t *id, CUgraph *graph,
         const CUgraphNode **dependencies, const CUgraphEdgeData **edges, size_t *count)
{
        if (edges != NULL)
                *edges = NULL;
        return cuStreamGetCaptureInfo_v2(handle, status, id, graph, dependencies, count);
}

SG_ENTRY(cuStreamGetCaptureInfo_v3_ptsz, CUstream handle, CUstreamCaptureStatus *status, cuuint64_t *id, CUgraph *graph,
         const CUgraphNode **dependencies, const CUgraphEdgeData **edges, size_t *count)
{
        return cuStreamGetCaptureInfo_v3(sg_per_thread(handle), status, id, graph, dependencies, edges, count);
}

SG_ENTRY(cuStreamUpdateCaptureDependencies, CUstream handle, CUgraphNode *dependencies, size_t count, unsigned flags)
{
        struct sg_stream *stream;
        if (flags > CU_STREAM_SET_CAPTURE_DEPENDENCIES || (count != 0 && dependencies == NULL))
                return CUDA_ERROR_INVALID_VALUE;
        CUresult result = sg_stream_resolve(handle, &stream);
        if (result != CUDA_SUCCESS)
                return result;
        sg_graph_lock_take();
        if (stream->capture == NULL || stream->capture->invalid)
                result = CUDA_ERROR_ILLEGAL_STATE;
        for (size_t i = 0; result == CUDA_SUCCESS && i < count; i++) {
                const struct sg_node *node = sg_object_from(dependencies[i], SG_NODE);
                if (node == NULL || node->graph != stream->capture->graph)
                        result = CUDA_ERROR_INVALID_VALUE;
        }
        if (result == CUDA_SUCCESS && flags == CU_STREAM_SET_CAPTURE_DEPENDENCIES)
                sg_tips_clear(&stream->tips);
        for (size_t i = 0; result == CUDA_SUCCESS && i < count; i++)
                result = sg_tips_add(&stream->tips, (struct sg_node *)dependencies[i]);
        sg_graph_lock_give();
        sg_object_put(stream);
        return result;
}

SG_ENTRY(cuThreadExchangeStreamCaptureMode, CUstreamCaptureMode *mode)
{
        const CUresult result = sg_ready();
        if (result != CUDA_SUCCESS)
                return result;
        if (mode == NULL || (unsigned)*mode > CU_STREAM_CAPTURE_MODE_RELAXED)
                return CUDA_ERROR_INVALID_VALUE;
        const CUstreamCaptureMode before = sg_thread_mode;
        sg_thread_mode = *mode;
        *mode = before;
        return CUDA_SUCCESS;
}
