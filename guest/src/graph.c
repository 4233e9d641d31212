/* Graphs: what gives out nodes, or ends them. */
#include "graph.h"
#include "cuda_api.h"
#include "guest_send.h"
#include <stdlib.h>

/* ---- nodes and numbers ---- */

CUresult ivg_fresh_nodes_take(uint32_t count, struct ivg_fresh_nodes *fresh)
{
        *fresh = (struct ivg_fresh_nodes){.ids = calloc(count + 1, sizeof(ivg_id))};
        if (fresh->ids == NULL)
                return CUDA_ERROR_OUT_OF_MEMORY;
        while (fresh->count < count) {
                struct ivg_object *node;
                const CUresult result = ivg_object_create(IVG_KIND_GRAPH_NODE, NULL, &node);

                if (result != CUDA_SUCCESS) {
                        ivg_fresh_nodes_settle(fresh, NULL, 0);
                        return result;
                }
                fresh->ids[fresh->count++] = node->id;
        }
        return CUDA_SUCCESS;
}

void ivg_fresh_nodes_settle(struct ivg_fresh_nodes *fresh, const ivg_id *numbers, uint64_t count)
{
        uint32_t used = 0;

        for (uint64_t i = 0; i < count && used < fresh->count; i++)
                if (numbers[i] == fresh->ids[used])
                        used++;
        for (; used < fresh->count; used++) {
                struct ivg_object *node = ivg_object_of_id(IVG_KIND_GRAPH_NODE, fresh->ids[used]);

                if (node != NULL)
                        ivg_object_destroy(node);
        }
        free(fresh->ids);
        *fresh = (struct ivg_fresh_nodes){.ids = NULL};
}

/* Where an edge touches the node. */
static ivg_id node_end(const struct ivg_object *node, enum ivg_node_end end)
{
        const ivg_id helper = (ivg_id)node->values[end == IVG_NODE_AS_FROM ? IVG_NODE_WRITER : IVG_NODE_READER];

        return helper != IVG_ID_NONE ? helper : node->id;
}

CUresult ivg_graph_node_ids(const CUgraphNode *nodes, size_t count, enum ivg_node_end end, ivg_id *ids)
{
        if (nodes == NULL && count > 0)
                return CUDA_ERROR_INVALID_VALUE;
        for (size_t i = 0; i < count; i++) {
                const struct ivg_object *node = ivg_object_of(IVG_KIND_GRAPH_NODE, nodes[i]);

                if (node == NULL)
                        return CUDA_ERROR_INVALID_HANDLE;
                ids[i] = node_end(node, end);
        }
        return CUDA_SUCCESS;
}

/* ---- lists ---- */

enum node_list { NODES_ALL = 0, NODES_ROOT = 1, NODES_DEPENDENCIES = 2, NODES_DEPENDENT = 3 };

static bool edges_are_plain(const CUgraphEdgeData *edges, uint64_t count)
{
        for (uint64_t i = 0; i < count; i++)
                if (edges[i].from_port != 0 || edges[i].to_port != 0 ||
                    edges[i].type != CU_GRAPH_DEPENDENCY_TYPE_DEFAULT)
                        return false;
        return true;
}

/* `room` nodes of the list, the rest of the program's array set to NULL as CUDA does; *count: how many were written. */
static CUresult list_fill(ivg_id graph, ivg_id node, enum node_list which, CUgraphNode *nodes, CUgraphEdgeData *edges,
                          size_t *count, uint64_t room)
{
        struct ivg_fresh_nodes fresh;
        uint64_t total = 0;
        ivg_id *numbers = calloc(room, sizeof(*numbers));
        CUgraphEdgeData *found = calloc(room, sizeof(*found));
        CUresult result = numbers != NULL && found != NULL ? ivg_fresh_nodes_take((uint32_t)room, &fresh)
                                                           : CUDA_ERROR_OUT_OF_MEMORY;

        if (result == CUDA_SUCCESS) {
                result = ivg_send_ivgGraphNodes(graph, node, which, fresh.ids, fresh.count, numbers,
                                                room * sizeof(*numbers), found, room * sizeof(*found), &total);
                ivg_fresh_nodes_settle(&fresh, numbers, result == CUDA_SUCCESS ? room : 0);
        }
        if (result == CUDA_SUCCESS && edges == NULL && !edges_are_plain(found, total < room ? total : room))
                result = CUDA_ERROR_LOSSY_QUERY;
        for (size_t i = 0; result == CUDA_SUCCESS && i < *count; i++) {
                const bool there = i < room && i < total;

                nodes[i] = there ? ivg_graph_node_of(numbers[i]) : NULL;
                if (there && nodes[i] == NULL)
                        result = CUDA_ERROR_UNKNOWN;
                if (there && edges != NULL)
                        edges[i] = found[i];
        }
        if (result == CUDA_SUCCESS && total < *count)
                *count = total;
        free(numbers);
        free(found);
        return result;
}

static CUresult list(ivg_id graph, ivg_id node, enum node_list which, CUgraphNode *nodes, CUgraphEdgeData *edges,
                     size_t *count)
{
        uint64_t total = 0, room;
        CUresult result;

        if (count == NULL || (nodes == NULL && edges != NULL))
                return CUDA_ERROR_INVALID_VALUE;
        result = ivg_send_ivgGraphNodes(graph, node, which, NULL, 0, NULL, 0, NULL, 0, &total);
        if (result != CUDA_SUCCESS)
                return result;
        if (nodes == NULL) {
                *count = total;
                return CUDA_SUCCESS;
        }
        room = total < *count ? total : *count;
        if (room > IVG_GRAPH_NODES_MAX)
                return ivg_refuse("a list of more than 65536 graph nodes");
        if (room == 0) {
                for (size_t i = 0; i < *count; i++)
                        nodes[i] = NULL;
                *count = 0;
                return CUDA_SUCCESS;
        }
        return list_fill(graph, node, which, nodes, edges, count, room);
}

static CUresult list_of_graph(CUgraph handle, enum node_list which, CUgraphNode *nodes, size_t *count)
{
        const struct ivg_object *graph = ivg_object_of(IVG_KIND_GRAPH, handle);
        struct ivg_object *context;
        const CUresult result = ivg_context_require(&context);

        if (result != CUDA_SUCCESS)
                return result;
        return graph != NULL ? list(graph->id, IVG_ID_NONE, which, nodes, NULL, count) : CUDA_ERROR_INVALID_VALUE;
}

static CUresult list_of_node(CUgraphNode handle, enum node_list which, CUgraphNode *nodes, CUgraphEdgeData *edges,
                             size_t *count)
{
        const struct ivg_object *node = ivg_object_of(IVG_KIND_GRAPH_NODE, handle);
        struct ivg_object *context;
        const CUresult result = ivg_context_require(&context);

        if (result != CUDA_SUCCESS)
                return result;
        return node != NULL ? list(IVG_ID_NONE, node->id, which, nodes, edges, count) : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuGraphGetNodes(CUgraph hGraph, CUgraphNode *nodes, size_t *numNodes)
{
        return list_of_graph(hGraph, NODES_ALL, nodes, numNodes);
}

CUresult cuGraphGetRootNodes(CUgraph hGraph, CUgraphNode *rootNodes, size_t *numRootNodes)
{
        return list_of_graph(hGraph, NODES_ROOT, rootNodes, numRootNodes);
}

CUresult cuGraphNodeGetDependencies(CUgraphNode hNode, CUgraphNode *dependencies, size_t *numDependencies)
{
        return list_of_node(hNode, NODES_DEPENDENCIES, dependencies, NULL, numDependencies);
}

CUresult cuGraphNodeGetDependencies_v2(CUgraphNode hNode, CUgraphNode *dependencies, CUgraphEdgeData *edgeData,
                                       size_t *numDependencies)
{
        return list_of_node(hNode, NODES_DEPENDENCIES, dependencies, edgeData, numDependencies);
}

CUresult cuGraphNodeGetDependentNodes(CUgraphNode hNode, CUgraphNode *dependentNodes, size_t *numDependentNodes)
{
        return list_of_node(hNode, NODES_DEPENDENT, dependentNodes, NULL, numDependentNodes);
}

CUresult cuGraphNodeGetDependentNodes_v2(CUgraphNode hNode, CUgraphNode *dependentNodes, CUgraphEdgeData *edgeData,
                                         size_t *numDependentNodes)
{
        return list_of_node(hNode, NODES_DEPENDENT, dependentNodes, edgeData, numDependentNodes);
}

static CUresult find_in_clone(ivg_id node, ivg_id clone, struct ivg_object **found)
{
        struct ivg_fresh_nodes fresh;
        uint32_t number = IVG_ID_NONE;
        CUresult result = ivg_fresh_nodes_take(1, &fresh);

        if (result != CUDA_SUCCESS)
                return result;
        result = ivg_send_cuGraphNodeFindInClone(node, clone, fresh.ids[0], &number);
        ivg_fresh_nodes_settle(&fresh, &number, 1);
        if (result != CUDA_SUCCESS)
                return result;
        *found = ivg_object_of_id(IVG_KIND_GRAPH_NODE, number);
        return *found != NULL ? CUDA_SUCCESS : CUDA_ERROR_UNKNOWN;
}

CUresult cuGraphNodeFindInClone(CUgraphNode *phNode, CUgraphNode hOriginalNode, CUgraph hClonedGraph)
{
        const struct ivg_object *node = ivg_object_of(IVG_KIND_GRAPH_NODE, hOriginalNode);
        const struct ivg_object *graph = ivg_object_of(IVG_KIND_GRAPH, hClonedGraph);
        struct ivg_object *context, *found, *helper;
        CUresult result = ivg_context_require(&context);

        if (result != CUDA_SUCCESS)
                return result;
        if (phNode == NULL || node == NULL || graph == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        result = find_in_clone(node->id, graph->id, &found);
        for (int i = IVG_NODE_READER; result == CUDA_SUCCESS && i <= IVG_NODE_WRITER; i++) {
                if (node->values[i] == IVG_ID_NONE)
                        continue;
                result = find_in_clone((ivg_id)node->values[i], graph->id, &helper);
                if (result == CUDA_SUCCESS) {
                        found->values[i] = helper->id;
                        found->values[IVG_NODE_GRAPH] = graph->id;
                }
        }
        if (result == CUDA_SUCCESS)
                *phNode = (CUgraphNode)found;
        return result;
}

/* ---- ends ---- */

/* Nodes end with their graph: takes their numbers back first. */
static CUresult forget(ivg_id graph, ivg_id node)
{
        /* Graphs of nodes are among them. */
        const uint32_t live = ivg_objects_live(IVG_KIND_GRAPH_NODE) + ivg_objects_live(IVG_KIND_GRAPH);
        const uint32_t room = live < IVG_GRAPH_NODES_MAX ? live : IVG_GRAPH_NODES_MAX;
        CUresult result = CUDA_SUCCESS;
        uint32_t count = room;
        ivg_id *numbers;

        if (ivg_objects_live(IVG_KIND_GRAPH_NODE) == 0)
                return CUDA_SUCCESS;
        numbers = calloc(room, sizeof(*numbers));
        if (numbers == NULL)
                return CUDA_ERROR_OUT_OF_MEMORY;
        while (result == CUDA_SUCCESS && count == room) { /* full: there may be more; each turn ends that many */
                result = ivg_send_ivgGraphForget(graph, node, numbers, room * sizeof(*numbers), &count);
                for (uint32_t i = 0; result == CUDA_SUCCESS && i < count && i < room; i++) {
                        struct ivg_object *object = ivg_object_of_id(IVG_KIND_GRAPH_NODE, numbers[i]);

                        if (object == NULL)
                                object = ivg_object_of_id(IVG_KIND_GRAPH, numbers[i]);
                        if (object != NULL)
                                ivg_object_destroy(object);
                }
        }
        free(numbers);
        return result;
}

CUresult cuGraphDestroy(CUgraph hGraph)
{
        struct ivg_object *graph = ivg_object_of(IVG_KIND_GRAPH, hGraph);
        struct ivg_object *context;
        CUresult result = ivg_context_require(&context);

        if (result != CUDA_SUCCESS)
                return result;
        if (graph == NULL || graph->flags == IVG_GRAPH_OF_NODE)
                return CUDA_ERROR_INVALID_VALUE;
        result = forget(graph->id, IVG_ID_NONE);
        if (result == CUDA_SUCCESS)
                result = ivg_send_cuGraphDestroy(graph->id);
        if (result == CUDA_SUCCESS)
                ivg_object_destroy(graph);
        return result;
}

static CUresult node_destroy(struct ivg_object *node)
{
        const CUresult result = ivg_send_cuGraphDestroyNode(node->id);

        if (result == CUDA_SUCCESS)
                ivg_object_destroy(node);
        return result;
}

CUresult cuGraphDestroyNode(CUgraphNode hNode)
{
        struct ivg_object *node = ivg_object_of(IVG_KIND_GRAPH_NODE, hNode);
        struct ivg_object *context;
        CUresult result = ivg_context_require(&context);

        if (result != CUDA_SUCCESS)
                return result;
        if (node == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        for (int i = IVG_NODE_READER; result == CUDA_SUCCESS && i <= IVG_NODE_WRITER; i++) {
                struct ivg_object *helper = ivg_object_of_id(IVG_KIND_GRAPH_NODE, (ivg_id)node->values[i]);

                node->values[i] = IVG_ID_NONE;
                if (helper != NULL)
                        result = node_destroy(helper);
        }
        return result == CUDA_SUCCESS ? node_destroy(node) : result;
}

/* ---- instances ---- */

CUresult cuGraphInstantiate_v2(CUgraphExec *phGraphExec, CUgraph hGraph, CUgraphNode *phErrorNode, char *logBuffer,
                               size_t bufferSize)
{
        const CUresult result = cuGraphInstantiateWithFlags(phGraphExec, hGraph, 0);

        /* The driver itself leaves both empty since CUDA 12. */
        if (phErrorNode != NULL)
                *phErrorNode = NULL;
        if (logBuffer != NULL && bufferSize > 0)
                *logBuffer = '\0';
        return result;
}

CUresult cuGraphInstantiate(CUgraphExec *phGraphExec, CUgraph hGraph, CUgraphNode *phErrorNode, char *logBuffer,
                            size_t bufferSize)
{
        return cuGraphInstantiate_v2(phGraphExec, hGraph, phErrorNode, logBuffer, bufferSize);
}

static CUresult exec_update(CUgraphExec exec_handle, CUgraph graph_handle, CUgraphExecUpdateResultInfo *info)
{
        const struct ivg_object *exec = ivg_object_of(IVG_KIND_GRAPH_EXEC, exec_handle);
        const struct ivg_object *graph = ivg_object_of(IVG_KIND_GRAPH, graph_handle);
        struct ivg_fresh_nodes fresh;
        struct ivg_object *context;
        ivg_id numbers[2] = {0};
        int32_t outcome = CU_GRAPH_EXEC_UPDATE_ERROR;
        CUresult result = ivg_context_require(&context);

        if (result != CUDA_SUCCESS)
                return result;
        if (exec == NULL || graph == NULL || info == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        result = ivg_fresh_nodes_take(2, &fresh);
        if (result != CUDA_SUCCESS)
                return result;
        result = ivg_send_ivgGraphExecUpdate(exec->id, graph->id, fresh.ids, fresh.count, &outcome, &numbers[0],
                                             &numbers[1]);
        ivg_fresh_nodes_settle(&fresh, numbers, 2);
        *info = (CUgraphExecUpdateResultInfo){.result = (CUgraphExecUpdateResult)outcome,
                                              .errorNode = ivg_graph_node_of(numbers[0]),
                                              .errorFromNode = ivg_graph_node_of(numbers[1])};
        return result;
}

CUresult cuGraphExecUpdate_v2(CUgraphExec hGraphExec, CUgraph hGraph, CUgraphExecUpdateResultInfo *resultInfo)
{
        return exec_update(hGraphExec, hGraph, resultInfo);
}

CUresult cuGraphExecUpdate(CUgraphExec hGraphExec, CUgraph hGraph, CUgraphNode *hErrorNode_out,
                           CUgraphExecUpdateResult *updateResult_out)
{
        CUgraphExecUpdateResultInfo info;
        CUresult result;

        if (updateResult_out == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        info.result = CU_GRAPH_EXEC_UPDATE_ERROR;
        info.errorNode = NULL;
        result = exec_update(hGraphExec, hGraph, &info);
        *updateResult_out = info.result;
        if (hErrorNode_out != NULL)
                *hErrorNode_out = info.errorNode;
        return result;
}

/* ---- edges ---- */

static CUresult edges_fill(ivg_id graph, CUgraphNode *from, CUgraphNode *to, CUgraphEdgeData *edges, size_t *count)
{
        const size_t room = *count;
        ivg_id *from_ids = calloc(room, sizeof(*from_ids)), *to_ids = calloc(room, sizeof(*to_ids));
        CUgraphEdgeData *found = calloc(room, sizeof(*found));
        uint64_t total = 0;
        CUresult result = from_ids != NULL && to_ids != NULL && found != NULL ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;

        if (result == CUDA_SUCCESS)
                result = ivg_send_ivgGraphEdges(graph, from_ids, room * sizeof(*from_ids), to_ids,
                                                room * sizeof(*to_ids), found, room * sizeof(*found), &total);
        if (result == CUDA_SUCCESS && edges == NULL && !edges_are_plain(found, total < room ? total : room))
                result = CUDA_ERROR_LOSSY_QUERY;
        for (size_t i = 0; result == CUDA_SUCCESS && i < room; i++) {
                from[i] = i < total ? ivg_graph_node_of(from_ids[i]) : NULL;
                to[i] = i < total ? ivg_graph_node_of(to_ids[i]) : NULL;
                if (edges != NULL)
                        edges[i] = found[i];
                if (i < total && (from[i] == NULL || to[i] == NULL))
                        result = CUDA_ERROR_UNKNOWN;
        }
        if (result == CUDA_SUCCESS && total < room)
                *count = total;
        free(from_ids);
        free(to_ids);
        free(found);
        return result;
}

/* So that each has its number: an answer about edges makes none. */
static CUresult number_all_nodes(CUgraph graph)
{
        size_t count = 0;
        CUgraphNode *nodes;
        CUresult result = cuGraphGetNodes(graph, NULL, &count);

        if (result != CUDA_SUCCESS || count == 0)
                return result;
        nodes = calloc(count, sizeof(CUgraphNode));
        if (nodes == NULL)
                return CUDA_ERROR_OUT_OF_MEMORY;
        result = cuGraphGetNodes(graph, nodes, &count);
        free(nodes);
        return result;
}

CUresult cuGraphGetEdges_v2(CUgraph hGraph, CUgraphNode *from, CUgraphNode *to, CUgraphEdgeData *edgeData,
                            size_t *numEdges)
{
        const struct ivg_object *graph = ivg_object_of(IVG_KIND_GRAPH, hGraph);
        struct ivg_object *context;
        uint64_t total = 0;
        CUresult result = ivg_context_require(&context);

        if (result != CUDA_SUCCESS)
                return result;
        if (graph == NULL || numEdges == NULL || (from == NULL) != (to == NULL) || (from == NULL && edgeData != NULL))
                return CUDA_ERROR_INVALID_VALUE;
        if (from == NULL) {
                result = ivg_send_ivgGraphEdges(graph->id, NULL, 0, NULL, 0, NULL, 0, &total);
                if (result == CUDA_SUCCESS)
                        *numEdges = total;
                return result;
        }
        if (*numEdges == 0)
                return CUDA_SUCCESS;
        if (*numEdges > IVG_GRAPH_NODES_MAX)
                return ivg_refuse("a list of more than 65536 graph edges");
        result = number_all_nodes(hGraph);
        return result == CUDA_SUCCESS ? edges_fill(graph->id, from, to, edgeData, numEdges) : result;
}

CUresult cuGraphGetEdges(CUgraph hGraph, CUgraphNode *from, CUgraphNode *to, size_t *numEdges)
{
        return cuGraphGetEdges_v2(hGraph, from, to, NULL, numEdges);
}
