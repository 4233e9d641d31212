/* Stream capture. The host's driver captures; here is what must be known without asking: whether anything captures at
 * all, each thread's interaction mode, and which graph a capture makes.
 *
 * A graph's number exists from the capture's beginning, since cuStreamGetCaptureInfo may ask for the graph. */
#include "cuda_api.h"
#include "graph.h"
#include "guest_send.h"
#include "memory.h"
#include "work.h"
#include <stdlib.h>

#define LEGACY IVG_ID_STREAM_LEGACY
#define PER_THREAD IVG_ID_STREAM_PER_THREAD
#define CAPTURE_DEPENDENCIES_MAX 256u

_Atomic(uint32_t) ivg_captures;

struct capture {
        struct capture *next;
        ivg_id stream;                   /* where it began */
        const struct ivg_thread *thread; /* PER_THREAD names another stream in each thread */
        struct ivg_object *graph;
        bool kept; /* the graph was the program's before */
        uint64_t id;
};
static struct {
        pthread_mutex_t lock;
        struct capture *first;
} captures = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* ---- captures under way ---- */

static bool capture_matches(const struct capture *capture, ivg_id stream)
{
        return capture->stream == stream && (stream != PER_THREAD || capture->thread == ivg_thread_local());
}

static bool capture_find(ivg_id stream, struct capture *copy)
{
        bool found = false;

        pthread_mutex_lock(&captures.lock);
        for (const struct capture *at = captures.first; at != NULL && !found; at = at->next)
                if (capture_matches(at, stream)) {
                        *copy = *at;
                        found = true;
                }
        pthread_mutex_unlock(&captures.lock);
        return found;
}

static struct ivg_object *capture_graph(uint64_t id)
{
        struct ivg_object *graph = NULL;

        pthread_mutex_lock(&captures.lock);
        for (const struct capture *at = captures.first; at != NULL && graph == NULL; at = at->next)
                if (at->id == id)
                        graph = at->graph;
        pthread_mutex_unlock(&captures.lock);
        return graph;
}

static void capture_add(struct capture *capture)
{
        capture->thread = ivg_thread_local();
        pthread_mutex_lock(&captures.lock);
        capture->next = captures.first;
        captures.first = capture;
        pthread_mutex_unlock(&captures.lock);
}

static struct capture *capture_take(ivg_id stream)
{
        struct capture *found = NULL;

        pthread_mutex_lock(&captures.lock);
        for (struct capture **at = &captures.first; *at != NULL; at = &(*at)->next)
                if (capture_matches(*at, stream)) {
                        found = *at;
                        *at = found->next;
                        break;
                }
        pthread_mutex_unlock(&captures.lock);
        return found;
}

/* The capture that began in `stream` is over; its graph stays if it came to be one. */
static void capture_over(ivg_id stream, bool graph_stays)
{
        struct capture *capture = capture_take(stream);

        if (capture == NULL)
                return;
        if (!graph_stays && !capture->kept)
                ivg_object_destroy(capture->graph);
        free(capture);
        atomic_fetch_sub_explicit(&ivg_captures, 1, memory_order_relaxed);
}

static void stream_release(struct ivg_object *stream)
{
        if (ivg_capturing())
                capture_over(stream->id, false);
        ivg_work_end(stream);
}

__attribute__((constructor)) static void set_release(void)
{
        ivg_object_set_release(IVG_KIND_STREAM, stream_release);
}

/* ---- questions ---- */

bool ivg_capture_takes(ivg_id stream)
{
        int32_t status = CU_STREAM_CAPTURE_STATUS_NONE;

        return ivg_capturing() && ivg_send_cuStreamIsCapturing(stream, &status) == CUDA_SUCCESS &&
               status != CU_STREAM_CAPTURE_STATUS_NONE;
}

/* The driver decides, by a call that it would refuse to this thread as well; what it gives goes back. */
CUresult ivg_capture_allows(void)
{
        uint64_t pointer = 0;

        if (!ivg_capturing())
                return CUDA_SUCCESS;
        const CUresult result = ivg_send_cuMemAlloc_v2(1, &pointer);
        if (result == CUDA_SUCCESS)
                return ivg_free_and_wait(pointer);
        return result == CUDA_ERROR_OUT_OF_MEMORY ? CUDA_SUCCESS : result;
}

static CUresult is_capturing(CUstream handle, ivg_id null_stream, CUstreamCaptureStatus *status)
{
        struct ivg_object *stream, *context;
        int32_t answer = CU_STREAM_CAPTURE_STATUS_NONE;
        ivg_id id;
        CUresult result = ivg_stream_given(handle, &stream, &context);

        if (result != CUDA_SUCCESS)
                return result;
        if (status == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        if (!ivg_capturing()) {
                *status = CU_STREAM_CAPTURE_STATUS_NONE;
                return ivg_local("cuStreamIsCapturing", CUDA_SUCCESS);
        }
        result = ivg_stream_id(handle, null_stream, &id);
        if (result == CUDA_SUCCESS)
                result = ivg_send_cuStreamIsCapturing(id, &answer);
        if (result == CUDA_SUCCESS)
                *status = (CUstreamCaptureStatus)answer;
        return result;
}

CUresult cuStreamIsCapturing(CUstream hStream, CUstreamCaptureStatus *captureStatus)
{
        return is_capturing(hStream, LEGACY, captureStatus);
}

CUresult cuStreamIsCapturing_ptsz(CUstream hStream, CUstreamCaptureStatus *captureStatus)
{
        return is_capturing(hStream, PER_THREAD, captureStatus);
}

struct info {
        CUstreamCaptureStatus *status;
        cuuint64_t *id;
        CUgraph *graph;
        const CUgraphNode **dependencies;
        const CUgraphEdgeData **edges;
        size_t *count;
};

static bool edge_is_plain(const CUgraphEdgeData *edge)
{
        return edge->from_port == 0 && edge->to_port == 0 && edge->type == CU_GRAPH_DEPENDENCY_TYPE_DEFAULT;
}

/* Nodes and edges are lent until the thread's next question: the interface promises no more. */
static CUresult lend_dependencies(const struct info *info, const ivg_id *numbers, const CUgraphEdgeData *edges,
                                  uint32_t count)
{
        static _Thread_local CUgraphNode lent_nodes[CAPTURE_DEPENDENCIES_MAX];
        static _Thread_local CUgraphEdgeData lent_edges[CAPTURE_DEPENDENCIES_MAX];

        for (uint32_t i = 0; i < count; i++) {
                lent_nodes[i] = ivg_graph_node_of(numbers[i]);
                lent_edges[i] = edges[i];
                if (lent_nodes[i] == NULL)
                        return CUDA_ERROR_UNKNOWN;
                if (info->edges == NULL && !edge_is_plain(&edges[i]))
                        return CUDA_ERROR_LOSSY_QUERY;
        }
        *info->dependencies = count > 0 ? lent_nodes : NULL;
        if (info->edges != NULL)
                *info->edges = count > 0 ? lent_edges : NULL;
        return CUDA_SUCCESS;
}

static CUresult capture_ask(const struct info *info, ivg_id stream)
{
        ivg_id numbers[CAPTURE_DEPENDENCIES_MAX] = {0};
        CUgraphEdgeData edges[CAPTURE_DEPENDENCIES_MAX];
        struct ivg_fresh_nodes fresh = {.count = 0};
        int32_t status = CU_STREAM_CAPTURE_STATUS_NONE;
        uint32_t count = 0, numbers_bytes = 0, edges_bytes = 0;
        uint64_t id = 0;
        CUresult result = CUDA_SUCCESS;

        if (info->dependencies != NULL)
                result = ivg_fresh_nodes_take(CAPTURE_DEPENDENCIES_MAX, &fresh);
        if (result != CUDA_SUCCESS)
                return result;
        result = ivg_send_ivgStreamCaptureInfo(stream, fresh.ids, fresh.count, &status, &count, &id, numbers,
                                               info->dependencies != NULL ? CAPTURE_DEPENDENCIES_MAX : 0,
                                               &numbers_bytes, edges,
                                               info->dependencies != NULL ? CAPTURE_DEPENDENCIES_MAX : 0, &edges_bytes);
        ivg_fresh_nodes_settle(&fresh, numbers, result == CUDA_SUCCESS ? CAPTURE_DEPENDENCIES_MAX : 0);
        if (result != CUDA_SUCCESS)
                return result;
        *info->status = (CUstreamCaptureStatus)status;
        if (info->id != NULL)
                *info->id = id;
        if (status != CU_STREAM_CAPTURE_STATUS_ACTIVE)
                return CUDA_SUCCESS;
        if (info->graph != NULL)
                *info->graph = (CUgraph)capture_graph(id);
        if (info->count != NULL)
                *info->count = count;
        if (info->dependencies == NULL)
                return CUDA_SUCCESS;
        if (count > CAPTURE_DEPENDENCIES_MAX)
                return ivg_refuse("cuStreamGetCaptureInfo with more than 256 dependencies");
        return lend_dependencies(info, numbers, edges, count);
}

static CUresult capture_info(const struct info *info, CUstream handle, ivg_id null_stream)
{
        struct ivg_object *stream, *context;
        ivg_id id;
        CUresult result = ivg_stream_given(handle, &stream, &context);

        if (result != CUDA_SUCCESS)
                return result;
        if (info->status == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        if (!ivg_capturing()) { /* the other outputs are only defined while a capture is under way */
                *info->status = CU_STREAM_CAPTURE_STATUS_NONE;
                if (info->id != NULL)
                        *info->id = 0;
                return ivg_local("cuStreamGetCaptureInfo", CUDA_SUCCESS);
        }
        result = ivg_stream_id(handle, null_stream, &id);
        return result == CUDA_SUCCESS ? capture_ask(info, id) : result;
}

CUresult cuStreamGetCaptureInfo(CUstream hStream, CUstreamCaptureStatus *captureStatus_out, cuuint64_t *id_out)
{
        const struct info info = {.status = captureStatus_out, .id = id_out};
        return capture_info(&info, hStream, LEGACY);
}

CUresult cuStreamGetCaptureInfo_ptsz(CUstream hStream, CUstreamCaptureStatus *captureStatus_out, cuuint64_t *id_out)
{
        const struct info info = {.status = captureStatus_out, .id = id_out};
        return capture_info(&info, hStream, PER_THREAD);
}

CUresult cuStreamGetCaptureInfo_v2(CUstream hStream, CUstreamCaptureStatus *captureStatus_out, cuuint64_t *id_out,
                                   CUgraph *graph_out, const CUgraphNode **dependencies_out,
                                   size_t *numDependencies_out)
{
        const struct info info = {captureStatus_out, id_out, graph_out, dependencies_out, NULL, numDependencies_out};
        return capture_info(&info, hStream, LEGACY);
}

CUresult cuStreamGetCaptureInfo_v2_ptsz(CUstream hStream, CUstreamCaptureStatus *captureStatus_out, cuuint64_t *id_out,
                                        CUgraph *graph_out, const CUgraphNode **dependencies_out,
                                        size_t *numDependencies_out)
{
        const struct info info = {captureStatus_out, id_out, graph_out, dependencies_out, NULL, numDependencies_out};
        return capture_info(&info, hStream, PER_THREAD);
}

CUresult cuStreamGetCaptureInfo_v3(CUstream hStream, CUstreamCaptureStatus *captureStatus_out, cuuint64_t *id_out,
                                   CUgraph *graph_out, const CUgraphNode **dependencies_out,
                                   const CUgraphEdgeData **edgeData_out, size_t *numDependencies_out)
{
        const struct info info = {captureStatus_out, id_out,       graph_out,
                                  dependencies_out,  edgeData_out, numDependencies_out};
        return capture_info(&info, hStream, LEGACY);
}

CUresult cuStreamGetCaptureInfo_v3_ptsz(CUstream hStream, CUstreamCaptureStatus *captureStatus_out, cuuint64_t *id_out,
                                        CUgraph *graph_out, const CUgraphNode **dependencies_out,
                                        const CUgraphEdgeData **edgeData_out, size_t *numDependencies_out)
{
        const struct info info = {captureStatus_out, id_out,       graph_out,
                                  dependencies_out,  edgeData_out, numDependencies_out};
        return capture_info(&info, hStream, PER_THREAD);
}

/* Goes along with each call while something captures (call.c). */
CUresult cuThreadExchangeStreamCaptureMode(CUstreamCaptureMode *mode)
{
        struct ivg_thread *thread = ivg_thread_local();
        const CUstreamCaptureMode before = (CUstreamCaptureMode)thread->capture_mode;
        const CUresult result = ivg_process_check();

        if (result != CUDA_SUCCESS)
                return result;
        if (mode == NULL || (unsigned int)*mode > CU_STREAM_CAPTURE_MODE_RELAXED)
                return CUDA_ERROR_INVALID_VALUE;
        thread->capture_mode = (uint32_t)*mode;
        *mode = before;
        return ivg_local("cuThreadExchangeStreamCaptureMode", CUDA_SUCCESS);
}

/* ---- beginning ---- */

/* `to` NULL: a new graph. */
static CUresult begin_in(struct capture *capture, struct ivg_object *context, struct ivg_object *to,
                         const ivg_id *dependencies, const CUgraphEdgeData *data, size_t count, uint32_t mode)
{
        CUresult result;

        if (to != NULL) {
                capture->graph = to;
                capture->kept = true;
                return ivg_send_ivgStreamBeginCaptureToGraph(capture->stream, to->id, dependencies, count, data,
                                                             data != NULL ? count : 0, (int32_t)mode, &capture->id);
        }
        result = ivg_object_create(IVG_KIND_GRAPH, context, &capture->graph);
        if (result != CUDA_SUCCESS)
                return result;
        result = ivg_send_ivgStreamBeginCapture(capture->stream, (int32_t)mode, capture->graph->id, &capture->id);
        if (result != CUDA_SUCCESS)
                ivg_object_destroy(capture->graph);
        return result;
}

static CUresult begin(CUstream handle, ivg_id null_stream, struct ivg_object *to, const ivg_id *dependencies,
                      const CUgraphEdgeData *data, size_t count, CUstreamCaptureMode mode)
{
        struct ivg_object *context;
        struct capture *capture;
        ivg_id stream;
        CUresult result = ivg_context_require(&context);

        if (result == CUDA_SUCCESS)
                result = ivg_stream_id(handle, null_stream, &stream);
        if (result != CUDA_SUCCESS)
                return result;
        if ((unsigned int)mode > CU_STREAM_CAPTURE_MODE_RELAXED)
                return CUDA_ERROR_INVALID_VALUE;
        capture = calloc(1, sizeof(*capture));
        if (capture == NULL)
                return CUDA_ERROR_OUT_OF_MEMORY;
        capture->stream = stream;
        atomic_fetch_add_explicit(&ivg_captures, 1, memory_order_relaxed);
        result = begin_in(capture, context, to, dependencies, data, count, (uint32_t)mode);
        if (result == CUDA_SUCCESS) {
                capture_add(capture);
                return CUDA_SUCCESS;
        }
        atomic_fetch_sub_explicit(&ivg_captures, 1, memory_order_relaxed);
        free(capture);
        return result;
}

CUresult cuStreamBeginCapture(CUstream hStream)
{
        return begin(hStream, LEGACY, NULL, NULL, NULL, 0, CU_STREAM_CAPTURE_MODE_GLOBAL);
}

CUresult cuStreamBeginCapture_ptsz(CUstream hStream)
{
        return begin(hStream, PER_THREAD, NULL, NULL, NULL, 0, CU_STREAM_CAPTURE_MODE_GLOBAL);
}

CUresult cuStreamBeginCapture_v2(CUstream hStream, CUstreamCaptureMode mode)
{
        return begin(hStream, LEGACY, NULL, NULL, NULL, 0, mode);
}

CUresult cuStreamBeginCapture_v2_ptsz(CUstream hStream, CUstreamCaptureMode mode)
{
        return begin(hStream, PER_THREAD, NULL, NULL, NULL, 0, mode);
}

static CUresult begin_to_graph(CUstream stream, ivg_id null_stream, CUgraph handle, const CUgraphNode *dependencies,
                               const CUgraphEdgeData *data, size_t count, CUstreamCaptureMode mode)
{
        struct ivg_object *graph = ivg_object_of(IVG_KIND_GRAPH, handle);
        ivg_id ids[CAPTURE_DEPENDENCIES_MAX];
        CUresult result = ivg_process_check();

        if (result != CUDA_SUCCESS)
                return result;
        if (graph == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        if (count > CAPTURE_DEPENDENCIES_MAX)
                return ivg_refuse("cuStreamBeginCaptureToGraph with more than 256 dependencies");
        result = ivg_graph_node_ids(dependencies, count, IVG_NODE_AS_FROM, ids);
        if (result != CUDA_SUCCESS)
                return result;
        return begin(stream, null_stream, graph, count > 0 ? ids : NULL, count > 0 ? data : NULL, count, mode);
}

CUresult cuStreamBeginCaptureToGraph(CUstream hStream, CUgraph hGraph, const CUgraphNode *dependencies,
                                     const CUgraphEdgeData *dependencyData, size_t numDependencies,
                                     CUstreamCaptureMode mode)
{
        return begin_to_graph(hStream, LEGACY, hGraph, dependencies, dependencyData, numDependencies, mode);
}

CUresult cuStreamBeginCaptureToGraph_ptsz(CUstream hStream, CUgraph hGraph, const CUgraphNode *dependencies,
                                          const CUgraphEdgeData *dependencyData, size_t numDependencies,
                                          CUstreamCaptureMode mode)
{
        return begin_to_graph(hStream, PER_THREAD, hGraph, dependencies, dependencyData, numDependencies, mode);
}

/* ---- ending ---- */

static CUresult end(CUstream handle, ivg_id null_stream, CUgraph *graph)
{
        struct ivg_object *context;
        struct capture capture = {.kept = true}; /* of another stream, or none: nothing of ours to drop */
        int32_t status = CU_STREAM_CAPTURE_STATUS_NONE;
        ivg_id stream;
        CUresult result = ivg_context_require(&context);

        if (result == CUDA_SUCCESS)
                result = ivg_stream_id(handle, null_stream, &stream);
        if (result != CUDA_SUCCESS)
                return result;
        if (graph == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        *graph = NULL;
        const bool origin = capture_find(stream, &capture);
        result = ivg_send_ivgStreamEndCapture(stream, origin ? capture.graph->id : IVG_ID_NONE, capture.kept);
        if (result == CUDA_SUCCESS) {
                if (origin)
                        *graph = (CUgraph)capture.graph;
                capture_over(stream, true);
        } else if (origin && (ivg_send_cuStreamIsCapturing(stream, &status) != CUDA_SUCCESS ||
                              status == CU_STREAM_CAPTURE_STATUS_NONE)) {
                capture_over(stream, false);
        }
        return result;
}

CUresult cuStreamEndCapture(CUstream hStream, CUgraph *phGraph)
{
        return end(hStream, LEGACY, phGraph);
}

CUresult cuStreamEndCapture_ptsz(CUstream hStream, CUgraph *phGraph)
{
        return end(hStream, PER_THREAD, phGraph);
}

/* ---- dependencies of what comes next ---- */

static CUresult update(CUstream handle, ivg_id null_stream, const CUgraphNode *dependencies,
                       const CUgraphEdgeData *data, size_t count, unsigned int flags)
{
        struct ivg_object *context;
        ivg_id stream, ids[CAPTURE_DEPENDENCIES_MAX];
        CUresult result = ivg_context_require(&context);

        if (result == CUDA_SUCCESS)
                result = ivg_stream_id(handle, null_stream, &stream);
        if (result != CUDA_SUCCESS)
                return result;
        if (count > CAPTURE_DEPENDENCIES_MAX)
                return ivg_refuse("cuStreamUpdateCaptureDependencies with more than 256 dependencies");
        result = ivg_graph_node_ids(dependencies, count, IVG_NODE_AS_FROM, ids);
        if (result != CUDA_SUCCESS)
                return result;
        return ivg_send_ivgStreamUpdateCaptureDependencies(stream, count > 0 ? ids : NULL, count,
                                                           count > 0 ? data : NULL, data != NULL ? count : 0, flags);
}

CUresult cuStreamUpdateCaptureDependencies(CUstream hStream, CUgraphNode *dependencies, size_t numDependencies,
                                           unsigned int flags)
{
        return update(hStream, LEGACY, dependencies, NULL, numDependencies, flags);
}

CUresult cuStreamUpdateCaptureDependencies_ptsz(CUstream hStream, CUgraphNode *dependencies, size_t numDependencies,
                                                unsigned int flags)
{
        return update(hStream, PER_THREAD, dependencies, NULL, numDependencies, flags);
}

CUresult cuStreamUpdateCaptureDependencies_v2(CUstream hStream, CUgraphNode *dependencies,
                                              const CUgraphEdgeData *dependencyData, size_t numDependencies,
                                              unsigned int flags)
{
        return update(hStream, LEGACY, dependencies, dependencyData, numDependencies, flags);
}

CUresult cuStreamUpdateCaptureDependencies_v2_ptsz(CUstream hStream, CUgraphNode *dependencies,
                                                   const CUgraphEdgeData *dependencyData, size_t numDependencies,
                                                   unsigned int flags)
{
        return update(hStream, PER_THREAD, dependencies, dependencyData, numDependencies, flags);
}
