/* Stream capture. The driver captures; here graphs and nodes get their numbers. All of it runs on lanes. */
#include "exec_internal.h"
#include "host_args.h"
#include <string.h>

#define IVG_CAPTURE_DEPENDENCIES_MAX 256u

CUresult ivg_capture_graph(const struct ivg_driver *driver, CUstream stream, cuuint64_t *id, CUgraph *graph)
{
        CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
        const CUgraphNode *nodes;
        const CUgraphEdgeData *edges;
        size_t count;

        if (driver->cuStreamGetCaptureInfo_v3)
                return driver->cuStreamGetCaptureInfo_v3(stream, &status, id, graph, &nodes, &edges, &count);
        return driver->cuStreamGetCaptureInfo_v2
                       ? driver->cuStreamGetCaptureInfo_v2(stream, &status, id, graph, &nodes, &count)
                       : CUDA_ERROR_NOT_SUPPORTED;
}

static void begun(struct ivg_exec *exec)
{
        ivg_store_relaxed_u32(&exec->captures_begun, 1);
        ivg_thread_captures++;
}

CUresult ivg_host_ivgStreamBeginCapture(struct ivg_exec_call *call, const struct ivg_args_ivgStreamBeginCapture *args)
{
        const struct ivg_driver *driver = ivg_exec_driver(call->exec);
        CUgraph graph = NULL, ended = NULL;
        CUresult result;

        if (!driver->cuStreamBeginCapture_v2 || !driver->cuStreamEndCapture || !driver->cuStreamIsCapturing)
                return CUDA_ERROR_NOT_SUPPORTED;
        if (args->mode < 0 || args->mode > CU_STREAM_CAPTURE_MODE_RELAXED)
                return CUDA_ERROR_INVALID_VALUE;
        begun(call->exec);
        result = driver->cuStreamBeginCapture_v2(args->stream, (CUstreamCaptureMode)args->mode);
        if (result != CUDA_SUCCESS) {
                ivg_thread_captures--;
                return result;
        }
        result = ivg_capture_graph(driver, args->stream, (cuuint64_t *)&args->answer->id, &graph);
        if (result == CUDA_SUCCESS && ivg_handle_put(call, IVG_KIND_GRAPH, args->graph, graph))
                return CUDA_SUCCESS;
        ivg_thread_captures--;
        if (driver->cuStreamEndCapture(args->stream, &ended) == CUDA_SUCCESS && ended && driver->cuGraphDestroy)
                driver->cuGraphDestroy(ended);
        return result != CUDA_SUCCESS ? result : CUDA_ERROR_UNKNOWN;
}

/* The nodes behind numbers. */
static CUresult nodes_of(struct ivg_exec_call *call, const ivg_id *ids, uint32_t count, CUgraphNode *nodes)
{
        for (uint32_t i = 0; i < count; i++) {
                void *handle;
                const CUresult result = ivg_handle_get(call->exec, IVG_KIND_GRAPH_NODE, ids[i], &handle);

                if (result != CUDA_SUCCESS)
                        return result;
                nodes[i] = handle;
        }
        return CUDA_SUCCESS;
}

CUresult ivg_host_ivgStreamBeginCaptureToGraph(struct ivg_exec_call *call,
                                               const struct ivg_args_ivgStreamBeginCaptureToGraph *args)
{
        const struct ivg_driver *driver = ivg_exec_driver(call->exec);
        CUgraphNode nodes[IVG_CAPTURE_DEPENDENCIES_MAX];
        CUgraph graph = NULL;
        CUresult result;

        if (!driver->cuStreamBeginCaptureToGraph || !driver->cuStreamEndCapture || !driver->cuStreamIsCapturing)
                return CUDA_ERROR_NOT_SUPPORTED;
        if (args->mode < 0 || args->mode > CU_STREAM_CAPTURE_MODE_RELAXED ||
            (args->data_count && args->data_count != args->dependencies_count))
                return CUDA_ERROR_INVALID_VALUE;
        result = nodes_of(call, args->dependencies, args->dependencies_count, nodes);
        if (result != CUDA_SUCCESS)
                return result;
        begun(call->exec);
        result = driver->cuStreamBeginCaptureToGraph(args->stream, args->graph, args->dependencies_count ? nodes : NULL,
                                                     args->data_count ? args->data : NULL, args->dependencies_count,
                                                     (CUstreamCaptureMode)args->mode);
        if (result != CUDA_SUCCESS) {
                ivg_thread_captures--;
                return result;
        }
        return ivg_capture_graph(driver, args->stream, (cuuint64_t *)&args->answer->id, &graph);
}

CUresult ivg_host_ivgStreamEndCapture(struct ivg_exec_call *call, const struct ivg_args_ivgStreamEndCapture *args)
{
        struct ivg_exec *exec = call->exec;
        const struct ivg_driver *driver = ivg_exec_driver(exec);
        struct ivg_forgotten forgotten = {.numbers = NULL};
        CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
        CUgraph graph = NULL;
        void *known = NULL;
        CUresult result;

        if (!driver->cuStreamEndCapture || !driver->cuStreamIsCapturing)
                return CUDA_ERROR_NOT_SUPPORTED;
        if (args->graph != IVG_ID_NONE) {
                result = ivg_handle_get(exec, IVG_KIND_GRAPH, args->graph, &known);
                if (result != CUDA_SUCCESS)
                        return result;
        }
        result = driver->cuStreamEndCapture(args->stream, &graph);
        if (result != CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD && ivg_thread_captures > 0)
                ivg_thread_captures--;
        if (args->keeps)
                return result;
        if (result != CUDA_SUCCESS) {
                /* Not this stream's to end: the capture goes on, and so does its graph. */
                if (driver->cuStreamIsCapturing(args->stream, &status) == CUDA_SUCCESS &&
                    status != CU_STREAM_CAPTURE_STATUS_NONE)
                        return result;
                (void)ivg_handle_remove(exec, IVG_KIND_GRAPH, args->graph);
                return result;
        }
        if (graph == known)
                return CUDA_SUCCESS;
        (void)ivg_handle_remove(exec, IVG_KIND_GRAPH, args->graph);
        if (graph && ivg_handle_put(call, IVG_KIND_GRAPH, args->graph, graph))
                return CUDA_SUCCESS;
        ivg_graph_forget(exec, graph, &forgotten);
        if (graph && driver->cuGraphDestroy)
                driver->cuGraphDestroy(graph);
        return CUDA_ERROR_UNKNOWN;
}

CUresult ivg_host_ivgStreamCaptureInfo(struct ivg_exec_call *call, const struct ivg_args_ivgStreamCaptureInfo *args)
{
        const struct ivg_driver *driver = ivg_exec_driver(call->exec);
        CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
        const CUgraphNode *nodes = NULL;
        const CUgraphEdgeData *edges = NULL;
        CUgraph graph = NULL;
        size_t count = 0;
        cuuint64_t id = 0;
        uint32_t used = 0;
        CUresult result = CUDA_ERROR_NOT_SUPPORTED;

        if (driver->cuStreamGetCaptureInfo_v3)
                result = driver->cuStreamGetCaptureInfo_v3(args->stream, &status, &id, &graph, &nodes, &edges, &count);
        else if (driver->cuStreamGetCaptureInfo_v2)
                result = driver->cuStreamGetCaptureInfo_v2(args->stream, &status, &id, &graph, &nodes, &count);
        args->answer->status = (int32_t)status;
        args->answer->id = id;
        if (result != CUDA_SUCCESS || status != CU_STREAM_CAPTURE_STATUS_ACTIVE)
                return result;
        args->answer->count = (uint32_t)count;
        for (size_t i = 0; i < count && i < args->nodes_capacity; i++) {
                args->nodes[i] = ivg_graph_node_number(call, nodes[i], args->fresh, args->fresh_count, &used);
                if (call->fault != IVG_FAULT_NONE)
                        return CUDA_ERROR_UNKNOWN;
        }
        if (edges)
                for (size_t i = 0; i < count && i < args->edges_capacity; i++)
                        args->edges[i] = edges[i];
        return CUDA_SUCCESS;
}

CUresult ivg_host_ivgStreamUpdateCaptureDependencies(struct ivg_exec_call *call,
                                                     const struct ivg_args_ivgStreamUpdateCaptureDependencies *args)
{
        const struct ivg_driver *driver = ivg_exec_driver(call->exec);
        CUgraphNode nodes[IVG_CAPTURE_DEPENDENCIES_MAX];
        CUresult result = nodes_of(call, args->dependencies, args->dependencies_count, nodes);

        if (result != CUDA_SUCCESS)
                return result;
        if (args->data_count == 0 && driver->cuStreamUpdateCaptureDependencies)
                return driver->cuStreamUpdateCaptureDependencies(args->stream, nodes, args->dependencies_count,
                                                                 args->flags);
        if (args->data_count && args->data_count != args->dependencies_count)
                return CUDA_ERROR_INVALID_VALUE;
        if (!driver->cuStreamUpdateCaptureDependencies_v2)
                return CUDA_ERROR_NOT_SUPPORTED;
        return driver->cuStreamUpdateCaptureDependencies_v2(args->stream, nodes, args->data_count ? args->data : NULL,
                                                            args->dependencies_count, args->flags);
}
