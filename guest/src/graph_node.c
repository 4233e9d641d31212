/* Nodes by hand: kernels, copies and sets in one form; edges. Nodes that run functions of the program are refused, and
 * so are those whose copies need the program's pageable memory at each launch. */
#include "cuda_api.h"
#include "graph.h"
#include "guest_send.h"
#include "launch.h"
#include "memory.h"
#include <stdlib.h>

#define DEPENDENCIES_MAX 256u

/* A node's parameters as they travel. */
struct node {
        struct ivg_wire_graph_node wire;
        void *packed; /* a kernel's parameters; freed by node_end */
        uint64_t packed_bytes;
};

static void node_end(struct node *node)
{
        free(node->packed);
}

static CUresult node_kernel(struct node *node, const CUDA_KERNEL_NODE_PARAMS *p)
{
        *node = (struct node){.wire.type = CU_GRAPH_NODE_TYPE_KERNEL};
        if (p == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        const struct ivg_node_launch launch = {.function = p->func != NULL ? p->func : (CUfunction)p->kern,
                                               .grid = {p->gridDimX, p->gridDimY, p->gridDimZ},
                                               .block = {p->blockDimX, p->blockDimY, p->blockDimZ},
                                               .shared_bytes = p->sharedMemBytes,
                                               .parameters = p->kernelParams,
                                               .extra = p->extra};
        for (int i = 0; i < 3; i++) {
                node->wire.grid[i] = launch.grid[i];
                node->wire.block[i] = launch.block[i];
        }
        node->wire.shared_bytes = launch.shared_bytes;
        return ivg_launch_node(&launch, &node->wire.function, &node->packed, &node->packed_bytes);
}

static CUresult node_kernel_v1(struct node *node, const CUDA_KERNEL_NODE_PARAMS_v1 *p)
{
        CUDA_KERNEL_NODE_PARAMS params;

        if (p == NULL)
                return node_kernel(node, NULL);
        params = (CUDA_KERNEL_NODE_PARAMS){.func = p->func,
                                           .gridDimX = p->gridDimX,
                                           .gridDimY = p->gridDimY,
                                           .gridDimZ = p->gridDimZ,
                                           .blockDimX = p->blockDimX,
                                           .blockDimY = p->blockDimY,
                                           .blockDimZ = p->blockDimZ,
                                           .sharedMemBytes = p->sharedMemBytes,
                                           .kernelParams = p->kernelParams,
                                           .extra = p->extra};
        return node_kernel(node, &params);
}

/* The host runs a node in the current context: another one's is refused. */
static CUresult context_is_current(CUcontext handle)
{
        struct ivg_object *context;
        const CUresult result = ivg_context_require(&context);

        if (result != CUDA_SUCCESS)
                return result;
        if (handle == NULL || handle == (CUcontext)context)
                return CUDA_SUCCESS;
        return ivg_object_of(IVG_KIND_CONTEXT, handle) != NULL
                       ? ivg_refuse("graph node of a context that is not current")
                       : CUDA_ERROR_INVALID_CONTEXT;
}

static CUresult node_memcpy(struct node *node, const CUDA_MEMCPY3D *p, CUcontext context)
{
        const CUresult result = context_is_current(context);

        *node = (struct node){.wire.type = CU_GRAPH_NODE_TYPE_MEMCPY};
        return result == CUDA_SUCCESS ? ivg_copy_node(p, &node->wire) : result;
}

static CUresult node_memset(struct node *node, const CUDA_MEMSET_NODE_PARAMS *p, CUcontext context)
{
        const CUresult result = context_is_current(context);

        *node = (struct node){.wire.type = CU_GRAPH_NODE_TYPE_MEMSET};
        if (result != CUDA_SUCCESS)
                return result;
        if (p == NULL || p->width == 0 || p->height == 0 ||
            (p->elementSize != 1 && p->elementSize != 2 && p->elementSize != 4))
                return CUDA_ERROR_INVALID_VALUE;
        node->wire.dst = p->dst;
        node->wire.dst_pitch = p->pitch;
        node->wire.value = p->value;
        node->wire.element_bytes = p->elementSize;
        node->wire.width = p->width;
        node->wire.height = p->height;
        return CUDA_SUCCESS;
}

/* By the generic structure; *other: of a type that is no node of ours. */
static CUresult node_generic(struct node *node, const CUgraphNodeParams *p, bool *other)
{
        *other = false;
        *node = (struct node){.packed = NULL};
        if (p == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        switch (p->type) {
        case CU_GRAPH_NODE_TYPE_KERNEL: {
                const CUDA_KERNEL_NODE_PARAMS_v3 *k = &p->kernel;
                const CUDA_KERNEL_NODE_PARAMS params = {k->func,         k->gridDimX,  k->gridDimY,  k->gridDimZ,
                                                        k->blockDimX,    k->blockDimY, k->blockDimZ, k->sharedMemBytes,
                                                        k->kernelParams, k->extra,     k->kern,      k->ctx};
                return node_kernel(node, &params);
        }
        case CU_GRAPH_NODE_TYPE_MEMCPY:
                return node_memcpy(node, &p->memcpy.copyParams, p->memcpy.copyCtx);
        case CU_GRAPH_NODE_TYPE_MEMSET: {
                const CUDA_MEMSET_NODE_PARAMS params = {p->memset.dst,         p->memset.pitch, p->memset.value,
                                                        p->memset.elementSize, p->memset.width, p->memset.height};
                return node_memset(node, &params, p->memset.ctx);
        }
        default:
                *other = true;
                return CUDA_SUCCESS;
        }
}

/* ---- adding ---- */

/* `made` is what the parameters' conversion said; ends `node`. */
static CUresult add(CUresult made, struct node *node, CUgraphNode *out, CUgraph graph_handle,
                    const CUgraphNode *dependencies, const CUgraphEdgeData *data, size_t count)
{
        const struct ivg_object *graph = ivg_object_of(IVG_KIND_GRAPH, graph_handle);
        struct ivg_object *context, *object;
        ivg_id ids[DEPENDENCIES_MAX];
        CUresult result = made != CUDA_SUCCESS ? made : ivg_context_require(&context);

        if (result == CUDA_SUCCESS && (out == NULL || graph == NULL))
                result = CUDA_ERROR_INVALID_VALUE;
        if (result == CUDA_SUCCESS && count > DEPENDENCIES_MAX)
                result = ivg_refuse("a graph node with more than 256 dependencies");
        if (result == CUDA_SUCCESS)
                result = ivg_graph_node_ids(dependencies, count, ids);
        if (result == CUDA_SUCCESS)
                result = ivg_object_create(IVG_KIND_GRAPH_NODE, NULL, &object);
        if (result == CUDA_SUCCESS) {
                result = ivg_send_ivgGraphAddNode(
                        graph->id, count > 0 ? ids : NULL, count, count > 0 ? data : NULL, data != NULL ? count : 0,
                        &node->wire, node->packed != NULL ? node->packed : "", node->packed_bytes, object->id);
                if (result == CUDA_SUCCESS)
                        *out = (CUgraphNode)object;
                else
                        ivg_object_destroy(object);
        }
        node_end(node);
        return result;
}

CUresult cuGraphAddKernelNode(CUgraphNode *phGraphNode, CUgraph hGraph, const CUgraphNode *dependencies,
                              size_t numDependencies, const CUDA_KERNEL_NODE_PARAMS_v1 *nodeParams)
{
        struct node node;
        const CUresult made = node_kernel_v1(&node, nodeParams);
        return add(made, &node, phGraphNode, hGraph, dependencies, NULL, numDependencies);
}

CUresult cuGraphAddKernelNode_v2(CUgraphNode *phGraphNode, CUgraph hGraph, const CUgraphNode *dependencies,
                                 size_t numDependencies, const CUDA_KERNEL_NODE_PARAMS *nodeParams)
{
        struct node node;
        const CUresult made = node_kernel(&node, nodeParams);
        return add(made, &node, phGraphNode, hGraph, dependencies, NULL, numDependencies);
}

CUresult cuGraphAddMemcpyNode(CUgraphNode *phGraphNode, CUgraph hGraph, const CUgraphNode *dependencies,
                              size_t numDependencies, const CUDA_MEMCPY3D *copyParams, CUcontext ctx)
{
        struct node node;
        const CUresult made = node_memcpy(&node, copyParams, ctx);
        return add(made, &node, phGraphNode, hGraph, dependencies, NULL, numDependencies);
}

CUresult cuGraphAddMemsetNode(CUgraphNode *phGraphNode, CUgraph hGraph, const CUgraphNode *dependencies,
                              size_t numDependencies, const CUDA_MEMSET_NODE_PARAMS *memsetParams, CUcontext ctx)
{
        struct node node;
        const CUresult made = node_memset(&node, memsetParams, ctx);
        return add(made, &node, phGraphNode, hGraph, dependencies, NULL, numDependencies);
}

static CUresult add_other(CUgraphNode *out, CUgraph graph, const CUgraphNode *dependencies, size_t count,
                          const CUgraphNodeParams *p)
{
        switch (p->type) {
        case CU_GRAPH_NODE_TYPE_EMPTY:
                return cuGraphAddEmptyNode(out, graph, dependencies, count);
        case CU_GRAPH_NODE_TYPE_GRAPH:
                if (p->graph.ownership != CU_GRAPH_CHILD_GRAPH_OWNERSHIP_CLONE)
                        return ivg_refuse("cuGraphAddNode with a child graph that moves");
                return cuGraphAddChildGraphNode(out, graph, dependencies, count, p->graph.graph);
        case CU_GRAPH_NODE_TYPE_EVENT_RECORD:
                return cuGraphAddEventRecordNode(out, graph, dependencies, count, p->eventRecord.event);
        case CU_GRAPH_NODE_TYPE_WAIT_EVENT:
                return cuGraphAddEventWaitNode(out, graph, dependencies, count, p->eventWait.event);
        case CU_GRAPH_NODE_TYPE_HOST:
                return ivg_refuse("cuGraphAddNode with a function of the program");
        default:
                return ivg_refuse("cuGraphAddNode with a node of another type");
        }
}

CUresult cuGraphAddNode_v2(CUgraphNode *phGraphNode, CUgraph hGraph, const CUgraphNode *dependencies,
                           const CUgraphEdgeData *dependencyData, size_t numDependencies, CUgraphNodeParams *nodeParams)
{
        struct node node;
        bool other;
        const CUresult made = node_generic(&node, nodeParams, &other);

        if (!other)
                return add(made, &node, phGraphNode, hGraph, dependencies, dependencyData, numDependencies);
        if (dependencyData != NULL)
                return ivg_refuse("cuGraphAddNode with edge data for such a node");
        return add_other(phGraphNode, hGraph, dependencies, numDependencies, nodeParams);
}

CUresult cuGraphAddNode(CUgraphNode *phGraphNode, CUgraph hGraph, const CUgraphNode *dependencies,
                        size_t numDependencies, CUgraphNodeParams *nodeParams)
{
        return cuGraphAddNode_v2(phGraphNode, hGraph, dependencies, NULL, numDependencies, nodeParams);
}

/* ---- changing ---- */

/* `with_exec`: the node's copy in an instance, not the node. Ends `node`. */
static CUresult set(CUresult made, struct node *node, bool with_exec, CUgraphExec exec_handle, CUgraphNode handle)
{
        const struct ivg_object *exec = ivg_object_of(IVG_KIND_GRAPH_EXEC, exec_handle);
        const struct ivg_object *object = ivg_object_of(IVG_KIND_GRAPH_NODE, handle);
        struct ivg_object *context;
        CUresult result = made != CUDA_SUCCESS ? made : ivg_context_require(&context);

        if (result == CUDA_SUCCESS && (object == NULL || (with_exec && exec == NULL)))
                result = CUDA_ERROR_INVALID_VALUE;
        if (result == CUDA_SUCCESS)
                result = ivg_send_ivgGraphNodeSetParams(with_exec ? exec->id : IVG_ID_NONE, object->id, &node->wire,
                                                        node->packed != NULL ? node->packed : "", node->packed_bytes);
        node_end(node);
        return result;
}

CUresult cuGraphKernelNodeSetParams(CUgraphNode hNode, const CUDA_KERNEL_NODE_PARAMS_v1 *nodeParams)
{
        struct node node;
        const CUresult made = node_kernel_v1(&node, nodeParams);
        return set(made, &node, false, NULL, hNode);
}

CUresult cuGraphKernelNodeSetParams_v2(CUgraphNode hNode, const CUDA_KERNEL_NODE_PARAMS *nodeParams)
{
        struct node node;
        const CUresult made = node_kernel(&node, nodeParams);
        return set(made, &node, false, NULL, hNode);
}

CUresult cuGraphMemcpyNodeSetParams(CUgraphNode hNode, const CUDA_MEMCPY3D *nodeParams)
{
        struct node node;
        const CUresult made = node_memcpy(&node, nodeParams, NULL);
        return set(made, &node, false, NULL, hNode);
}

CUresult cuGraphMemsetNodeSetParams(CUgraphNode hNode, const CUDA_MEMSET_NODE_PARAMS *nodeParams)
{
        struct node node;
        const CUresult made = node_memset(&node, nodeParams, NULL);
        return set(made, &node, false, NULL, hNode);
}

static CUresult set_generic(bool with_exec, CUgraphExec exec, CUgraphNode handle, const CUgraphNodeParams *params)
{
        struct node node;
        bool other;
        const CUresult made = node_generic(&node, params, &other);
        return other ? ivg_refuse("cuGraphNodeSetParams with a node of another type")
                     : set(made, &node, with_exec, exec, handle);
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
        struct node node;
        const CUresult made = node_kernel_v1(&node, nodeParams);
        return set(made, &node, true, hGraphExec, hNode);
}

CUresult cuGraphExecKernelNodeSetParams_v2(CUgraphExec hGraphExec, CUgraphNode hNode,
                                           const CUDA_KERNEL_NODE_PARAMS *nodeParams)
{
        struct node node;
        const CUresult made = node_kernel(&node, nodeParams);
        return set(made, &node, true, hGraphExec, hNode);
}

CUresult cuGraphExecMemcpyNodeSetParams(CUgraphExec hGraphExec, CUgraphNode hNode, const CUDA_MEMCPY3D *copyParams,
                                        CUcontext ctx)
{
        struct node node;
        const CUresult made = node_memcpy(&node, copyParams, ctx);
        return set(made, &node, true, hGraphExec, hNode);
}

CUresult cuGraphExecMemsetNodeSetParams(CUgraphExec hGraphExec, CUgraphNode hNode,
                                        const CUDA_MEMSET_NODE_PARAMS *memsetParams, CUcontext ctx)
{
        struct node node;
        const CUresult made = node_memset(&node, memsetParams, ctx);
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
        result = ivg_graph_node_ids(from, count, from_ids);
        if (result == CUDA_SUCCESS)
                result = ivg_graph_node_ids(to, count, to_ids);
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
