/* Graphs: what the generator cannot write, which is whatever gives out nodes or ends them. */
#include "exec_internal.h"
#include "host_args.h"
#include <stdlib.h>

/* ---- lists of nodes ---- */

enum node_list { NODES_ALL = 0, NODES_ROOT = 1, NODES_DEPENDENCIES = 2, NODES_DEPENDENT = 3 };

static CUresult list(struct ivg_exec_call *call, const struct ivg_args_ivgGraphNodes *args, CUgraphNode *nodes,
                     CUgraphEdgeData *edges, size_t *count)
{
        const struct ivg_driver *driver = ivg_exec_driver(call->exec);

        switch (args->which) {
        case NODES_ALL:
                if (!args->graph)
                        return CUDA_ERROR_INVALID_HANDLE;
                return driver->cuGraphGetNodes ? driver->cuGraphGetNodes(args->graph, nodes, count)
                                               : CUDA_ERROR_NOT_SUPPORTED;
        case NODES_ROOT:
                if (!args->graph)
                        return CUDA_ERROR_INVALID_HANDLE;
                return driver->cuGraphGetRootNodes ? driver->cuGraphGetRootNodes(args->graph, nodes, count)
                                                   : CUDA_ERROR_NOT_SUPPORTED;
        case NODES_DEPENDENCIES:
                if (!args->node)
                        return CUDA_ERROR_INVALID_HANDLE;
                if (driver->cuGraphNodeGetDependencies_v2)
                        return driver->cuGraphNodeGetDependencies_v2(args->node, nodes, edges, count);
                return driver->cuGraphNodeGetDependencies ? driver->cuGraphNodeGetDependencies(args->node, nodes, count)
                                                          : CUDA_ERROR_NOT_SUPPORTED;
        case NODES_DEPENDENT:
                if (!args->node)
                        return CUDA_ERROR_INVALID_HANDLE;
                if (driver->cuGraphNodeGetDependentNodes_v2)
                        return driver->cuGraphNodeGetDependentNodes_v2(args->node, nodes, edges, count);
                return driver->cuGraphNodeGetDependentNodes
                               ? driver->cuGraphNodeGetDependentNodes(args->node, nodes, count)
                               : CUDA_ERROR_NOT_SUPPORTED;
        default:
                return ivg_exec_refuse(call, IVG_FAULT_ARGUMENTS, args->which);
        }
}

/* Fills what the guest gave room for; `edges` is NULL where nobody asked. */
static CUresult number_nodes(struct ivg_exec_call *call, const struct ivg_args_ivgGraphNodes *args,
                             const CUgraphNode *nodes, const CUgraphEdgeData *edges, size_t count)
{
        uint32_t *numbers = args->nodes;
        CUgraphEdgeData *edges_out = args->edges;
        uint32_t used = 0;

        for (size_t i = 0; numbers && i < count && i < args->nodes_bytes / sizeof(*numbers); i++) {
                numbers[i] = ivg_graph_node_number(call, nodes[i], args->fresh, args->fresh_count, &used);
                if (call->fault != IVG_FAULT_NONE)
                        return CUDA_ERROR_UNKNOWN;
        }
        for (size_t i = 0; edges_out && i < count && i < args->edges_bytes / sizeof(*edges_out); i++)
                edges_out[i] = edges[i];
        return CUDA_SUCCESS;
}

CUresult ivg_host_ivgGraphNodes(struct ivg_exec_call *call, const struct ivg_args_ivgGraphNodes *args)
{
        CUgraphNode *nodes;
        CUgraphEdgeData *edges;
        size_t count = 0;
        CUresult result = list(call, args, NULL, NULL, &count);

        args->answer->count = count;
        if (result != CUDA_SUCCESS || count == 0 || !args->nodes)
                return result;
        nodes = calloc(count, sizeof(*nodes));
        edges = calloc(count, sizeof(*edges));
        result = CUDA_ERROR_OUT_OF_MEMORY;
        if (nodes && edges) {
                size_t got = count;

                result = list(call, args, nodes, args->edges ? edges : NULL, &got);
                args->answer->count = got;
                if (result == CUDA_SUCCESS)
                        result = number_nodes(call, args, nodes, edges, got < count ? got : count);
        }
        free(nodes);
        free(edges);
        return result;
}

CUresult ivg_host_cuGraphNodeFindInClone(struct ivg_exec_call *call, const struct ivg_args_cuGraphNodeFindInClone *args)
{
        const struct ivg_driver *driver = ivg_exec_driver(call->exec);
        CUgraphNode node = NULL;
        uint32_t used = 0;
        CUresult result;

        if (!driver->cuGraphNodeFindInClone)
                return CUDA_ERROR_NOT_SUPPORTED;
        result = driver->cuGraphNodeFindInClone(&node, args->hOriginalNode, args->hClonedGraph);
        if (result == CUDA_SUCCESS)
                args->answer->number = ivg_graph_node_number(call, node, &args->fresh, 1, &used);
        return result;
}

/* ---- ends ---- */

CUresult ivg_host_ivgGraphForget(struct ivg_exec_call *call, const struct ivg_args_ivgGraphForget *args)
{
        struct ivg_forgotten forgotten = {.numbers = args->numbers,
                                          .capacity = args->numbers_bytes / (uint32_t)sizeof(uint32_t)};

        if (!args->numbers || (!args->graph && !args->node))
                return CUDA_ERROR_INVALID_VALUE;
        if (args->graph)
                ivg_graph_forget(call->exec, args->graph, &forgotten);
        else
                ivg_graph_node_forget(call->exec, args->node, &forgotten);
        args->answer->count = forgotten.count;
        return CUDA_SUCCESS;
}

CUresult ivg_host_cuGraphDestroy(struct ivg_exec_call *call, const struct ivg_args_cuGraphDestroy *args)
{
        const struct ivg_driver *driver = ivg_exec_driver(call->exec);
        struct ivg_forgotten forgotten = {.numbers = NULL};
        CUresult result;

        if (!driver->cuGraphDestroy)
                return CUDA_ERROR_NOT_SUPPORTED;
        ivg_graph_forget(call->exec, args->hGraph, &forgotten);
        result = driver->cuGraphDestroy(args->hGraph);
        if (result == CUDA_SUCCESS)
                (void)ivg_handle_remove(call->exec, IVG_KIND_GRAPH, args->hGraph_id);
        return result;
}

CUresult ivg_host_cuGraphDestroyNode(struct ivg_exec_call *call, const struct ivg_args_cuGraphDestroyNode *args)
{
        const struct ivg_driver *driver = ivg_exec_driver(call->exec);
        struct ivg_forgotten forgotten = {.numbers = NULL};
        const CUgraphNode node = args->hNode;
        CUresult result;

        if (!driver->cuGraphDestroyNode)
                return CUDA_ERROR_NOT_SUPPORTED;
        ivg_graph_node_forget(call->exec, node, &forgotten);
        result = driver->cuGraphDestroyNode(node);
        if (result != CUDA_SUCCESS) /* it lives on, under its number */
                (void)ivg_graph_node_put(call, args->hNode_id, node);
        return result;
}

/* ---- update ---- */

CUresult ivg_host_ivgGraphExecUpdate(struct ivg_exec_call *call, const struct ivg_args_ivgGraphExecUpdate *args)
{
        const struct ivg_driver *driver = ivg_exec_driver(call->exec);
        CUgraphExecUpdateResultInfo info = {.result = CU_GRAPH_EXEC_UPDATE_ERROR};
        uint32_t used = 0;
        CUresult result;

        if (driver->cuGraphExecUpdate_v2)
                result = driver->cuGraphExecUpdate_v2(args->exec, args->graph, &info);
        else if (driver->cuGraphExecUpdate)
                result = driver->cuGraphExecUpdate(args->exec, args->graph, &info.errorNode, &info.result);
        else
                return CUDA_ERROR_NOT_SUPPORTED;
        args->answer->outcome = (int32_t)info.result;
        if (info.errorNode)
                args->answer->node = ivg_graph_node_number(call, info.errorNode, args->fresh, args->fresh_count, &used);
        if (info.errorFromNode)
                args->answer->from =
                        ivg_graph_node_number(call, info.errorFromNode, args->fresh, args->fresh_count, &used);
        return result;
}
