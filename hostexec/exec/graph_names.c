/* Graph nodes, and graphs that nodes own, have numbers from the moment that the program sees them until their graph
 * ends.
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

ivg_id ivg_graph_of_node_number(struct ivg_exec_call *call, CUgraph graph, ivg_id fresh)
{
        const ivg_id id = ivg_handle_name_get(call->exec, graph);

        if (id != IVG_ID_NONE || fresh == IVG_ID_NONE || !ivg_handle_put(call, IVG_KIND_GRAPH, fresh, graph))
                return id;
        if (!ivg_handle_name_put(call->exec, graph, fresh)) {
                (void)ivg_handle_remove(call->exec, IVG_KIND_GRAPH, fresh);
                return IVG_ID_NONE;
        }
        atomic_fetch_add_explicit(&call->exec->graph_nodes, 1, memory_order_relaxed); /* as above */
        return fresh;
}

/* Of a node, or of a graph that a node owns. */
static void forget(struct ivg_exec *exec, enum ivg_kind kind, const void *thing, struct ivg_forgotten *forgotten)
{
        ivg_id id;

        if (forgotten->numbers && forgotten->count == forgotten->capacity)
                return;
        id = ivg_handle_name_remove(exec, thing);
        if (id == IVG_ID_NONE)
                return;
        (void)ivg_handle_remove(exec, kind, id);
        atomic_fetch_sub_explicit(&exec->graph_nodes, 1, memory_order_relaxed);
        if (forgotten->numbers)
                forgotten->numbers[forgotten->count++] = id;
}

static void forget_nodes(struct ivg_exec *exec, CUgraph graph, struct ivg_forgotten *forgotten, uint32_t depth);

static void forget_graph_of_node(struct ivg_exec *exec, CUgraph graph, struct ivg_forgotten *forgotten, uint32_t depth)
{
        if (depth < IVG_GRAPH_DEPTH_MAX)
                forget_nodes(exec, graph, forgotten, depth + 1);
        forget(exec, IVG_KIND_GRAPH, graph, forgotten);
}

static void forget_bodies(struct ivg_exec *exec, CUgraphNode node, struct ivg_forgotten *forgotten, uint32_t depth)
{
        uint64_t bodies[IVG_GRAPH_BODIES_MAX];
        const uint32_t count = ivg_graph_things_of(exec, node, IVG_GRAPH_BODY, bodies, IVG_GRAPH_BODIES_MAX);

        for (uint32_t i = 0; i < count; i++)
                forget_graph_of_node(exec, (CUgraph)(uintptr_t)bodies[i], forgotten, depth);
        if (!forgotten->numbers || forgotten->count < forgotten->capacity) /* else it is asked for again */
                ivg_graph_things_drop(exec, node);
}

static void forget_node(struct ivg_exec *exec, CUgraphNode node, struct ivg_forgotten *forgotten, uint32_t depth)
{
        const struct ivg_driver *driver = &exec->driver;
        CUgraphNodeType type = CU_GRAPH_NODE_TYPE_EMPTY;
        CUgraph child = NULL;

        if (driver->cuGraphNodeGetType)
                (void)driver->cuGraphNodeGetType(node, &type);
        if (type == CU_GRAPH_NODE_TYPE_GRAPH && driver->cuGraphChildGraphNodeGetGraph &&
            driver->cuGraphChildGraphNodeGetGraph(node, &child) == CUDA_SUCCESS)
                forget_graph_of_node(exec, child, forgotten, depth);
        else if (type == CU_GRAPH_NODE_TYPE_CONDITIONAL)
                forget_bodies(exec, node, forgotten, depth);
        forget(exec, IVG_KIND_GRAPH_NODE, node, forgotten);
}

static void forget_nodes(struct ivg_exec *exec, CUgraph graph, struct ivg_forgotten *forgotten, uint32_t depth)
{
        const struct ivg_driver *driver = &exec->driver;
        size_t count = 0;
        CUgraphNode *nodes;

        ivg_graph_things_drop(exec, graph);
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
