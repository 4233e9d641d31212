/* Graph nodes have numbers from the moment that the program sees them until their graph ends.
 *
 *   number -> node   like every object
 *   node -> number   so that a node that is listed twice is the same to the program
 * Nodes of a graph are destroyed with it, without a call for each: before that, their numbers are taken back here. */
#include "exec_internal.h"
#include <stdlib.h>

#define IVG_GRAPH_DEPTH_MAX \
        32u /* child graphs in child graphs; deeper ones keep their numbers until the executor ends */

bool ivg_graph_node_put(struct ivg_exec_call *call, ivg_id id, CUgraphNode node)
{
        if (!ivg_handle_put(call, IVG_KIND_GRAPH_NODE, id, node))
                return false;
        /* A stale name can only be of a node that the driver has destroyed by itself. */
        if (!ivg_handle_name_put(call->exec, node, id)) {
                (void)ivg_handle_name_remove(call->exec, node);
                (void)ivg_handle_name_put(call->exec, node, id);
        }
        atomic_fetch_add_explicit(&call->exec->graph_nodes, 1, memory_order_relaxed); /* says only whether to look */
        return true;
}

ivg_id ivg_graph_node_number(struct ivg_exec_call *call, CUgraphNode node, const uint32_t *fresh, uint32_t fresh_count,
                             uint32_t *used)
{
        const ivg_id id = ivg_handle_name_get(call->exec, node);

        if (id != IVG_ID_NONE)
                return id;
        if (*used >= fresh_count || !ivg_graph_node_put(call, fresh[*used], node))
                return IVG_ID_NONE;
        return fresh[(*used)++];
}

static void forget(struct ivg_exec *exec, CUgraphNode node, struct ivg_forgotten *forgotten)
{
        ivg_id id;

        if (forgotten->numbers && forgotten->count == forgotten->capacity)
                return;
        id = ivg_handle_name_remove(exec, node);
        if (id == IVG_ID_NONE)
                return;
        (void)ivg_handle_remove(exec, IVG_KIND_GRAPH_NODE, id);
        atomic_fetch_sub_explicit(&exec->graph_nodes, 1, memory_order_relaxed);
        if (forgotten->numbers)
                forgotten->numbers[forgotten->count++] = id;
}

static void forget_nodes(struct ivg_exec *exec, CUgraph graph, struct ivg_forgotten *forgotten, uint32_t depth);

static void forget_node(struct ivg_exec *exec, CUgraphNode node, struct ivg_forgotten *forgotten, uint32_t depth)
{
        const struct ivg_driver *driver = &exec->driver;
        CUgraphNodeType type = CU_GRAPH_NODE_TYPE_EMPTY;
        CUgraph child = NULL;

        if (driver->cuGraphNodeGetType && driver->cuGraphNodeGetType(node, &type) == CUDA_SUCCESS &&
            type == CU_GRAPH_NODE_TYPE_GRAPH && driver->cuGraphChildGraphNodeGetGraph &&
            driver->cuGraphChildGraphNodeGetGraph(node, &child) == CUDA_SUCCESS && depth < IVG_GRAPH_DEPTH_MAX)
                forget_nodes(exec, child, forgotten, depth + 1);
        forget(exec, node, forgotten);
}

static void forget_nodes(struct ivg_exec *exec, CUgraph graph, struct ivg_forgotten *forgotten, uint32_t depth)
{
        const struct ivg_driver *driver = &exec->driver;
        size_t count = 0;
        CUgraphNode *nodes;

        if (ivg_load_relaxed_u32(&exec->graph_nodes) == 0 || !driver->cuGraphGetNodes ||
            driver->cuGraphGetNodes(graph, NULL, &count) != CUDA_SUCCESS || count == 0)
                return;
        nodes = calloc(count, sizeof(*nodes));
        if (nodes && driver->cuGraphGetNodes(graph, nodes, &count) == CUDA_SUCCESS)
                for (size_t i = 0; i < count; i++)
                        forget_node(exec, nodes[i], forgotten, depth);
        free(nodes);
}

void ivg_graph_forget(struct ivg_exec *exec, CUgraph graph, struct ivg_forgotten *forgotten)
{
        forget_nodes(exec, graph, forgotten, 0);
}

void ivg_graph_node_forget(struct ivg_exec *exec, CUgraphNode node, struct ivg_forgotten *forgotten)
{
        forget_node(exec, node, forgotten, 0);
}
