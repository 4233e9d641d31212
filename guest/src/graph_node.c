/* Nodes by hand: made, changed, tied by edges. What they do travels in one form (graph_node_params.c). */
#include "cuda_api.h"
#include "graph.h"
#include "guest_send.h"
#include "paged.h"
#include <stdlib.h>

#define DEPENDENCIES_MAX 256u

/* ---- adding ---- */

struct place { /* where a node goes */
        CUgraph graph;
        const CUgraphNode *dependencies;
        const CUgraphEdgeData *data;
        size_t count;
};

static void bodies_end(const ivg_id *bodies, uint32_t count)
{
        for (uint32_t i = 0; i < count; i++) {
                struct ivg_object *body = ivg_object_of_id(IVG_KIND_GRAPH, bodies[i]);

                if (body != NULL)
                        ivg_object_destroy(body);
        }
}

/* Numbers for the graphs that a conditional node has. */
static CUresult bodies_make(ivg_id *bodies, uint32_t count)
{
        for (uint32_t i = 0; i < count; i++) {
                struct ivg_object *body;
                const CUresult result = ivg_object_create(IVG_KIND_GRAPH, NULL, &body);

                if (result != CUDA_SUCCESS) {
                        bodies_end(bodies, i);
                        return result;
                }
                body->flags = IVG_GRAPH_OF_NODE;
                bodies[i] = body->id;
        }
        return CUDA_SUCCESS;
}

static CUresult add_send(const struct ivg_node *node, CUgraphNode *out, const struct ivg_object *graph,
                         const struct place *place, const ivg_id *bodies, uint32_t bodies_count, uint64_t *address)
{
        ivg_id ids[DEPENDENCIES_MAX];
        struct ivg_object *object;
        const size_t count = place->count;
        CUresult result = ivg_graph_node_ids(place->dependencies, count, IVG_NODE_AS_FROM, ids);

        if (result == CUDA_SUCCESS)
                result = ivg_object_create(IVG_KIND_GRAPH_NODE, NULL, &object);
        if (result != CUDA_SUCCESS)
                return result;
        result = ivg_send_ivgGraphAddNode(graph->id, count > 0 ? ids : NULL, count, count > 0 ? place->data : NULL,
                                          place->data != NULL ? count : 0, &node->wire,
                                          node->payload != NULL ? node->payload : "", node->payload_bytes, bodies,
                                          bodies_count, object->id, address);
        if (result == CUDA_SUCCESS)
                *out = (CUgraphNode)object;
        else
                ivg_object_destroy(object);
        return result;
}

/* ---- copies of pageable memory: two nodes ---- */

/* Arena memory for the copy, which takes the pageable side's place in it. */
static CUresult paged_make(struct ivg_node *node, ivg_id graph, struct ivg_paged **paged)
{
        const CUresult result = ivg_paged_of_graph(graph, &node->rows, paged);

        if (result != CUDA_SUCCESS)
                return result;
        if (node->paged == IVG_NODE_READS)
                node->wire.src = ivg_paged_address(*paged);
        else
                node->wire.dst = ivg_paged_address(*paged);
        return CUDA_SUCCESS;
}

static CUresult add_paged(struct ivg_node *node, CUgraphNode *out, const struct ivg_object *graph,
                          const struct place *place)
{
        const bool reads = node->paged == IVG_NODE_READS;
        struct ivg_node helper = {.payload = NULL};
        struct ivg_node *const first = reads ? &helper : node, *const second = reads ? node : &helper;
        CUgraphNode added[2];
        const struct place behind = {.graph = place->graph, .dependencies = &added[0], .count = 1};
        struct ivg_paged *paged;
        struct ivg_object *copy, *other;
        uint64_t address;
        CUresult result = paged_make(node, graph->id, &paged);

        if (result != CUDA_SUCCESS)
                return result;
        ivg_paged_node(paged, !reads, &helper.wire);
        result = add_send(first, &added[0], graph, place, NULL, 0, &address);
        if (result != CUDA_SUCCESS)
                return result;
        result = add_send(second, &added[1], graph, &behind, NULL, 0, &address);
        if (result != CUDA_SUCCESS) {
                (void)cuGraphDestroyNode(added[0]);
                return result;
        }
        copy = ivg_object_of(IVG_KIND_GRAPH_NODE, added[reads ? 1 : 0]);
        other = ivg_object_of(IVG_KIND_GRAPH_NODE, added[reads ? 0 : 1]);
        if (copy == NULL || other == NULL) /* another thread ended the graph meanwhile */
                return CUDA_ERROR_INVALID_VALUE;
        copy->values[reads ? IVG_NODE_READER : IVG_NODE_WRITER] = other->id;
        copy->values[IVG_NODE_GRAPH] = graph->id;
        *out = (CUgraphNode)copy;
        return CUDA_SUCCESS;
}

/* A copy with a host function's node beside it gets other parameters, or its copy in `exec` does: the function too. One
 * of an instance takes no new pageable memory, as nothing would say when that is over: graphs hold user objects only.
 */
static CUresult set_paged(struct ivg_node *node, const struct ivg_object *copy, ivg_id exec)
{
        const ivg_id reader = (ivg_id)copy->values[IVG_NODE_READER], writer = (ivg_id)copy->values[IVG_NODE_WRITER];
        struct ivg_wire_graph_node helper;
        struct ivg_paged *paged = NULL;

        if (node->paged != IVG_NODE_NOT_PAGED) {
                if (exec != IVG_ID_NONE)
                        return ivg_refuse("pageable memory in an instance's copy node");
                if ((node->paged == IVG_NODE_READS ? reader : writer) == IVG_ID_NONE)
                        return ivg_refuse("pageable memory on a side of a graph's copy node that had other memory");
                const CUresult result = paged_make(node, (ivg_id)copy->values[IVG_NODE_GRAPH], &paged);
                if (result != CUDA_SUCCESS)
                        return result;
        }
        if (reader == IVG_ID_NONE && writer == IVG_ID_NONE)
                return CUDA_SUCCESS;
        ivg_paged_node(paged, reader == IVG_ID_NONE, &helper);
        return ivg_send_ivgGraphNodeSetParams(exec, reader != IVG_ID_NONE ? reader : writer, &helper, "", 0);
}

/* `made` is what the parameters' conversion said; ends `node`. Bodies and address: what the node itself makes. */
static CUresult add_with(CUresult made, struct ivg_node *node, CUgraphNode *out, const struct place *place,
                         const ivg_id *bodies, uint32_t bodies_count, uint64_t *address)
{
        const struct ivg_object *graph = ivg_object_of(IVG_KIND_GRAPH, place->graph);
        struct ivg_object *context;
        CUresult result = made != CUDA_SUCCESS ? made : ivg_context_require(&context);

        if (result == CUDA_SUCCESS && (out == NULL || graph == NULL))
                result = CUDA_ERROR_INVALID_VALUE;
        if (result == CUDA_SUCCESS && place->count > DEPENDENCIES_MAX)
                result = ivg_refuse("a graph node with more than 256 dependencies");
        if (result == CUDA_SUCCESS)
                result = node->paged != IVG_NODE_NOT_PAGED
                                 ? add_paged(node, out, graph, place)
                                 : add_send(node, out, graph, place, bodies, bodies_count, address);
        ivg_node_end(node);
        return result;
}

static CUresult add(CUresult made, struct ivg_node *node, CUgraphNode *out, CUgraph graph,
                    const CUgraphNode *dependencies, size_t count)
{
        const struct place place = {graph, dependencies, NULL, count};
        uint64_t address;

        return add_with(made, node, out, &place, NULL, 0, &address);
}

/* The memory has its address from now on; a node that cannot be noted stays, and its memory is a stranger. */
static CUresult add_alloc(CUresult made, struct ivg_node *node, CUgraphNode *out, const struct place *place,
                          CUdeviceptr *address_out)
{
        const uint64_t bytes = node->wire.width;
        struct ivg_object *context;
        uint64_t address = 0;
        CUresult result = add_with(made, node, out, place, NULL, 0, &address);

        if (result == CUDA_SUCCESS)
                result = ivg_context_require(&context);
        if (result == CUDA_SUCCESS)
                result = ivg_graph_memory_note(context, address, bytes);
        if (result == CUDA_SUCCESS)
                *address_out = address;
        return result;
}

static CUresult add_conditional(CUresult made, struct ivg_node *node, CUgraphNode *out, const struct place *place,
                                CUgraph **bodies_out)
{
        /* The node owns the array of handles, as it owns all that it lends. */
        CUgraph *handles = made == CUDA_SUCCESS ? calloc(node->wire.count, sizeof(CUgraph)) : NULL;
        const uint32_t count = node->wire.count;
        ivg_id bodies[IVG_GRAPH_BODIES_MAX];
        uint64_t address;
        CUresult result = made;

        if (result == CUDA_SUCCESS && handles == NULL)
                result = CUDA_ERROR_OUT_OF_MEMORY;
        if (result == CUDA_SUCCESS)
                result = bodies_make(bodies, count);
        if (result != CUDA_SUCCESS) {
                free(handles);
                ivg_node_end(node);
                return result;
        }
        result = add_with(CUDA_SUCCESS, node, out, place, bodies, count, &address);
        if (result != CUDA_SUCCESS) {
                bodies_end(bodies, count);
                free(handles);
                return result;
        }
        for (uint32_t i = 0; i < count; i++)
                handles[i] = (CUgraph)ivg_object_of_id(IVG_KIND_GRAPH, bodies[i]);
        ((struct ivg_object *)*out)->data = handles; /* freed with the node */
        *bodies_out = handles;
        return CUDA_SUCCESS;
}

CUresult cuGraphAddKernelNode(CUgraphNode *phGraphNode, CUgraph hGraph, const CUgraphNode *dependencies,
                              size_t numDependencies, const CUDA_KERNEL_NODE_PARAMS_v1 *nodeParams)
{
        struct ivg_node node;
        const CUresult made = ivg_node_kernel_v1(&node, nodeParams);
        return add(made, &node, phGraphNode, hGraph, dependencies, numDependencies);
}

CUresult cuGraphAddKernelNode_v2(CUgraphNode *phGraphNode, CUgraph hGraph, const CUgraphNode *dependencies,
                                 size_t numDependencies, const CUDA_KERNEL_NODE_PARAMS *nodeParams)
{
        struct ivg_node node;
        const CUresult made = ivg_node_kernel(&node, nodeParams);
        return add(made, &node, phGraphNode, hGraph, dependencies, numDependencies);
}

CUresult cuGraphAddMemcpyNode(CUgraphNode *phGraphNode, CUgraph hGraph, const CUgraphNode *dependencies,
                              size_t numDependencies, const CUDA_MEMCPY3D *copyParams, CUcontext ctx)
{
        struct ivg_node node;
        const CUresult made = ivg_node_memcpy(&node, copyParams, ctx);
        return add(made, &node, phGraphNode, hGraph, dependencies, numDependencies);
}

CUresult cuGraphAddMemsetNode(CUgraphNode *phGraphNode, CUgraph hGraph, const CUgraphNode *dependencies,
                              size_t numDependencies, const CUDA_MEMSET_NODE_PARAMS *memsetParams, CUcontext ctx)
{
        struct ivg_node node;
        const CUresult made = ivg_node_memset(&node, memsetParams, ctx);
        return add(made, &node, phGraphNode, hGraph, dependencies, numDependencies);
}

CUresult cuGraphAddHostNode(CUgraphNode *phGraphNode, CUgraph hGraph, const CUgraphNode *dependencies,
                            size_t numDependencies, const CUDA_HOST_NODE_PARAMS *nodeParams)
{
        struct ivg_node node;
        const CUresult made = ivg_node_host(&node, nodeParams);
        return add(made, &node, phGraphNode, hGraph, dependencies, numDependencies);
}

CUresult cuGraphAddBatchMemOpNode(CUgraphNode *phGraphNode, CUgraph hGraph, const CUgraphNode *dependencies,
                                  size_t numDependencies, const CUDA_BATCH_MEM_OP_NODE_PARAMS *nodeParams)
{
        struct ivg_node node;
        const CUresult made = ivg_node_batch(&node, nodeParams);
        return add(made, &node, phGraphNode, hGraph, dependencies, numDependencies);
}

CUresult cuGraphAddMemAllocNode(CUgraphNode *phGraphNode, CUgraph hGraph, const CUgraphNode *dependencies,
                                size_t numDependencies, CUDA_MEM_ALLOC_NODE_PARAMS *nodeParams)
{
        const struct place place = {hGraph, dependencies, NULL, numDependencies};
        struct ivg_node node;
        const CUresult made = ivg_node_alloc(&node, nodeParams);
        return add_alloc(made, &node, phGraphNode, &place, nodeParams != NULL ? &nodeParams->dptr : NULL);
}

CUresult cuGraphAddMemFreeNode(CUgraphNode *phGraphNode, CUgraph hGraph, const CUgraphNode *dependencies,
                               size_t numDependencies, CUdeviceptr dptr)
{
        struct ivg_node node;
        const CUresult made = ivg_node_free(&node, dptr);
        return add(made, &node, phGraphNode, hGraph, dependencies, numDependencies);
}

CUresult cuGraphAddNode_v2(CUgraphNode *phGraphNode, CUgraph hGraph, const CUgraphNode *dependencies,
                           const CUgraphEdgeData *dependencyData, size_t numDependencies, CUgraphNodeParams *nodeParams)
{
        const struct place place = {hGraph, dependencies, dependencyData, numDependencies};
        struct ivg_node node;
        uint64_t address;
        const CUresult made = ivg_node_generic(&node, nodeParams);

        switch (node.wire.type) {
        case CU_GRAPH_NODE_TYPE_MEM_ALLOC:
                return add_alloc(made, &node, phGraphNode, &place, &nodeParams->alloc.dptr);
        case CU_GRAPH_NODE_TYPE_CONDITIONAL:
                return add_conditional(made, &node, phGraphNode, &place, &nodeParams->conditional.phGraph_out);
        default:
                return add_with(made, &node, phGraphNode, &place, NULL, 0, &address);
        }
}

CUresult cuGraphAddNode(CUgraphNode *phGraphNode, CUgraph hGraph, const CUgraphNode *dependencies,
                        size_t numDependencies, CUgraphNodeParams *nodeParams)
{
        return cuGraphAddNode_v2(phGraphNode, hGraph, dependencies, NULL, numDependencies, nodeParams);
}

/* ---- changing ---- */

/* `with_exec`: the node's copy in an instance, not the node. Ends `node`. */
static CUresult set(CUresult made, struct ivg_node *node, bool with_exec, CUgraphExec exec_handle, CUgraphNode handle)
{
        const struct ivg_object *exec = ivg_object_of(IVG_KIND_GRAPH_EXEC, exec_handle);
        const struct ivg_object *object = ivg_object_of(IVG_KIND_GRAPH_NODE, handle);
        struct ivg_object *context;
        CUresult result = made != CUDA_SUCCESS ? made : ivg_context_require(&context);

        if (result == CUDA_SUCCESS && (object == NULL || (with_exec && exec == NULL)))
                result = CUDA_ERROR_INVALID_VALUE;
        if (result == CUDA_SUCCESS && node->wire.type == CU_GRAPH_NODE_TYPE_MEMCPY)
                result = set_paged(node, object, with_exec ? exec->id : IVG_ID_NONE);
        if (result == CUDA_SUCCESS)
                result =
                        ivg_send_ivgGraphNodeSetParams(with_exec ? exec->id : IVG_ID_NONE, object->id, &node->wire,
                                                       node->payload != NULL ? node->payload : "", node->payload_bytes);
        ivg_node_end(node);
        return result;
}

CUresult cuGraphKernelNodeSetParams(CUgraphNode hNode, const CUDA_KERNEL_NODE_PARAMS_v1 *nodeParams)
{
        struct ivg_node node;
        const CUresult made = ivg_node_kernel_v1(&node, nodeParams);
        return set(made, &node, false, NULL, hNode);
}

CUresult cuGraphKernelNodeSetParams_v2(CUgraphNode hNode, const CUDA_KERNEL_NODE_PARAMS *nodeParams)
{
        struct ivg_node node;
        const CUresult made = ivg_node_kernel(&node, nodeParams);
        return set(made, &node, false, NULL, hNode);
}

CUresult cuGraphMemcpyNodeSetParams(CUgraphNode hNode, const CUDA_MEMCPY3D *nodeParams)
{
        struct ivg_node node;
        const CUresult made = ivg_node_memcpy(&node, nodeParams, NULL);
        return set(made, &node, false, NULL, hNode);
}

CUresult cuGraphMemsetNodeSetParams(CUgraphNode hNode, const CUDA_MEMSET_NODE_PARAMS *nodeParams)
{
        struct ivg_node node;
        const CUresult made = ivg_node_memset(&node, nodeParams, NULL);
        return set(made, &node, false, NULL, hNode);
}

CUresult cuGraphHostNodeSetParams(CUgraphNode hNode, const CUDA_HOST_NODE_PARAMS *nodeParams)
{
        struct ivg_node node;
        const CUresult made = ivg_node_host(&node, nodeParams);
        return set(made, &node, false, NULL, hNode);
}

CUresult cuGraphBatchMemOpNodeSetParams(CUgraphNode hNode, const CUDA_BATCH_MEM_OP_NODE_PARAMS *nodeParams)
{
        struct ivg_node node;
        const CUresult made = ivg_node_batch(&node, nodeParams);
        return set(made, &node, false, NULL, hNode);
}

CUresult cuGraphExecHostNodeSetParams(CUgraphExec hGraphExec, CUgraphNode hNode,
                                      const CUDA_HOST_NODE_PARAMS *nodeParams)
{
        struct ivg_node node;
        const CUresult made = ivg_node_host(&node, nodeParams);
        return set(made, &node, true, hGraphExec, hNode);
}

CUresult cuGraphExecBatchMemOpNodeSetParams(CUgraphExec hGraphExec, CUgraphNode hNode,
                                            const CUDA_BATCH_MEM_OP_NODE_PARAMS *nodeParams)
{
        struct ivg_node node;
        const CUresult made = ivg_node_batch(&node, nodeParams);
        return set(made, &node, true, hGraphExec, hNode);
}

static CUresult set_generic(bool with_exec, CUgraphExec exec, CUgraphNode handle, const CUgraphNodeParams *params)
{
        struct ivg_node node;
        CUresult made = ivg_node_generic(&node, params);

        if (made == CUDA_SUCCESS &&
            (params->type == CU_GRAPH_NODE_TYPE_MEM_ALLOC || params->type == CU_GRAPH_NODE_TYPE_MEM_FREE ||
             params->type == CU_GRAPH_NODE_TYPE_CONDITIONAL))
                made = ivg_refuse("cuGraphNodeSetParams of a node that allocates, frees or decides");
        return set(made, &node, with_exec, exec, handle);
}

CUresult cuGraphNodeSetParams(CUgraphNode hNode, CUgraphNodeParams *nodeParams)
{
        return set_generic(false, NULL, hNode, nodeParams);
}

CUresult cuGraphExecNodeSetParams(CUgraphExec hGraphExec, CUgraphNode hNode, CUgraphNodeParams *nodeParams)
{
        return set_generic(true, hGraphExec, hNode, nodeParams);
}

CUresult cuGraphExecKernelNodeSetParams(CUgraphExec hGraphExec, CUgraphNode hNode,
                                        const CUDA_KERNEL_NODE_PARAMS_v1 *nodeParams)
{
        struct ivg_node node;
        const CUresult made = ivg_node_kernel_v1(&node, nodeParams);
        return set(made, &node, true, hGraphExec, hNode);
}

CUresult cuGraphExecKernelNodeSetParams_v2(CUgraphExec hGraphExec, CUgraphNode hNode,
                                           const CUDA_KERNEL_NODE_PARAMS *nodeParams)
{
        struct ivg_node node;
        const CUresult made = ivg_node_kernel(&node, nodeParams);
        return set(made, &node, true, hGraphExec, hNode);
}

CUresult cuGraphExecMemcpyNodeSetParams(CUgraphExec hGraphExec, CUgraphNode hNode, const CUDA_MEMCPY3D *copyParams,
                                        CUcontext ctx)
{
        struct ivg_node node;
        const CUresult made = ivg_node_memcpy(&node, copyParams, ctx);
        return set(made, &node, true, hGraphExec, hNode);
}

CUresult cuGraphExecMemsetNodeSetParams(CUgraphExec hGraphExec, CUgraphNode hNode,
                                        const CUDA_MEMSET_NODE_PARAMS *memsetParams, CUcontext ctx)
{
        struct ivg_node node;
        const CUresult made = ivg_node_memset(&node, memsetParams, ctx);
        return set(made, &node, true, hGraphExec, hNode);
}

/* ---- edges ---- */

typedef CUresult (*send_edges)(ivg_id graph, const ivg_id *from, uint64_t from_count, const ivg_id *to,
                               uint64_t to_count, const CUgraphEdgeData *data, uint64_t data_count);

static CUresult change_edges(CUgraph handle, const CUgraphNode *from, const CUgraphNode *to,
                             const CUgraphEdgeData *data, size_t count, send_edges send)
{
        const struct ivg_object *graph = ivg_object_of(IVG_KIND_GRAPH, handle);
        ivg_id from_ids[DEPENDENCIES_MAX], to_ids[DEPENDENCIES_MAX];
        struct ivg_object *context;
        CUresult result = ivg_context_require(&context);

        if (result != CUDA_SUCCESS)
                return result;
        if (graph == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        if (count > DEPENDENCIES_MAX)
                return ivg_refuse("more than 256 edges at once");
        result = ivg_graph_node_ids(from, count, IVG_NODE_AS_FROM, from_ids);
        if (result == CUDA_SUCCESS)
                result = ivg_graph_node_ids(to, count, IVG_NODE_AS_TO, to_ids);
        return result == CUDA_SUCCESS && count > 0 ? send(graph->id, from_ids, count, to_ids, count, data, count)
                                                   : result;
}

CUresult cuGraphAddDependencies_v2(CUgraph hGraph, const CUgraphNode *from, const CUgraphNode *to,
                                   const CUgraphEdgeData *edgeData, size_t numDependencies)
{
        return edgeData == NULL
                       ? cuGraphAddDependencies(hGraph, from, to, numDependencies)
                       : change_edges(hGraph, from, to, edgeData, numDependencies, ivg_send_cuGraphAddDependencies_v2);
}

CUresult cuGraphRemoveDependencies_v2(CUgraph hGraph, const CUgraphNode *from, const CUgraphNode *to,
                                      const CUgraphEdgeData *edgeData, size_t numDependencies)
{
        return edgeData == NULL ? cuGraphRemoveDependencies(hGraph, from, to, numDependencies)
                                : change_edges(hGraph, from, to, edgeData, numDependencies,
                                               ivg_send_cuGraphRemoveDependencies_v2);
}

/* ---- instances ---- */

CUresult cuGraphInstantiateWithParams(CUgraphExec *phGraphExec, CUgraph hGraph,
                                      CUDA_GRAPH_INSTANTIATE_PARAMS *instantiateParams)
{
        const struct ivg_object *graph = ivg_object_of(IVG_KIND_GRAPH, hGraph);
        struct ivg_object *context, *exec;
        int32_t outcome = CUDA_GRAPH_INSTANTIATE_ERROR;
        ivg_id stream;
        CUresult result = ivg_context_require(&context);

        if (result != CUDA_SUCCESS)
                return result;
        if (phGraphExec == NULL || graph == NULL || instantiateParams == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        result = ivg_stream_id(instantiateParams->hUploadStream, IVG_ID_STREAM_LEGACY, &stream);
        if (result == CUDA_SUCCESS)
                result = ivg_object_create(IVG_KIND_GRAPH_EXEC, context, &exec);
        if (result != CUDA_SUCCESS)
                return result;
        result =
                ivg_send_ivgGraphInstantiateWithParams(graph->id, instantiateParams->flags, stream, exec->id, &outcome);
        instantiateParams->hErrNode_out = NULL;
        instantiateParams->result_out = (CUgraphInstantiateResult)outcome;
        if (result == CUDA_SUCCESS)
                *phGraphExec = (CUgraphExec)exec;
        else
                ivg_object_destroy(exec);
        return result;
}

CUresult cuGraphInstantiateWithParams_ptsz(CUgraphExec *phGraphExec, CUgraph hGraph,
                                           CUDA_GRAPH_INSTANTIATE_PARAMS *instantiateParams)
{
        if (instantiateParams != NULL && instantiateParams->hUploadStream == NULL) {
                CUDA_GRAPH_INSTANTIATE_PARAMS own = *instantiateParams;
                own.hUploadStream = CU_STREAM_PER_THREAD;
                const CUresult result = cuGraphInstantiateWithParams(phGraphExec, hGraph, &own);
                instantiateParams->hErrNode_out = own.hErrNode_out;
                instantiateParams->result_out = own.result_out;
                return result;
        }
        return cuGraphInstantiateWithParams(phGraphExec, hGraph, instantiateParams);
}
