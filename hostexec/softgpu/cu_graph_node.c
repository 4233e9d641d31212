/* Nodes by hand, and their change. A node's work is what the call of the same meaning would queue. */
#include <stdlib.h>

#include "graph.h"

/* ---- from parameters to work ---- */

static CUresult sg_node_kernel(const CUDA_KERNEL_NODE_PARAMS_v3 *p)
{
        return cuLaunchKernel(p->func != NULL ? p->func : (CUfunction)p->kern, p->gridDimX, p->gridDimY, p->gridDimZ,
                              p->blockDimX, p->blockDimY, p->blockDimZ, p->sharedMemBytes, NULL, p->kernelParams,
                              p->extra);
}

static CUresult sg_node_memset(const CUDA_MEMSET_NODE_PARAMS_v2 *p)
{
        const size_t pitch = p->height > 1 ? p->pitch : p->width * p->elementSize;
        switch (p->elementSize) {
        case 1:
                return cuMemsetD2D8Async(p->dst, pitch, (unsigned char)p->value, p->width, p->height, NULL);
        case 2:
                return cuMemsetD2D16Async(p->dst, pitch, (unsigned short)p->value, p->width, p->height, NULL);
        case 4:
                return cuMemsetD2D32Async(p->dst, pitch, p->value, p->width, p->height, NULL);
        default:
                return CUDA_ERROR_INVALID_VALUE;
        }
}

/* What a call would queue. */
static CUresult sg_node_op(const CUgraphNodeParams *params, struct sg_graph_work **out)
{
        struct sg_op *op = NULL;
        CUresult result;
        sg_submit_catch = &op;
        switch (params->type) {
        case CU_GRAPH_NODE_TYPE_KERNEL:
                result = sg_node_kernel(&params->kernel);
                break;
        case CU_GRAPH_NODE_TYPE_MEMCPY:
                result = cuMemcpy3DAsync_v2(&params->memcpy.copyParams, NULL);
                break;
        case CU_GRAPH_NODE_TYPE_MEMSET:
                result = sg_node_memset(&params->memset);
                break;
        case CU_GRAPH_NODE_TYPE_HOST:
                result = cuLaunchHostFunc(NULL, params->host.fn, params->host.userData);
                break;
        case CU_GRAPH_NODE_TYPE_BATCH_MEM_OP:
                result =
                        cuStreamBatchMemOp_v2(NULL, params->memOp.count, params->memOp.paramArray, params->memOp.flags);
                break;
        default: /* conditional nodes, external semaphores: not there */
                result = CUDA_ERROR_NOT_SUPPORTED;
        }
        sg_submit_catch = NULL;
        if (result != CUDA_SUCCESS)
                return result;
        if (op == NULL) /* of no bytes */
                return CUDA_ERROR_INVALID_VALUE;
        *out = sg_graph_work_new(op, NULL, NULL);
        if (*out == NULL)
                op->release(op);
        return *out != NULL ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

static CUresult sg_node_event(CUevent handle, struct sg_graph_work **out)
{
        struct sg_event *event = sg_object_from(handle, SG_EVENT);
        if (event == NULL)
                return CUDA_ERROR_INVALID_HANDLE;
        *out = sg_graph_work_new(NULL, event, NULL);
        return *out != NULL ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

static CUresult sg_node_alloc(CUDA_MEM_ALLOC_NODE_PARAMS_v2 *params, struct sg_graph_work **out)
{
        struct sg_context *context;
        CUresult result = sg_context_current(&context);
        if (result == CUDA_SUCCESS)
                result = sg_graph_memory_work(context, params, out);
        if (result == CUDA_SUCCESS)
                params->dptr = (*out)->memory->start;
        return result;
}

static CUresult sg_node_work(CUgraphNodeParams *params, struct sg_graph_work **out)
{
        switch (params->type) {
        case CU_GRAPH_NODE_TYPE_EMPTY:
                *out = NULL;
                return CUDA_SUCCESS;
        case CU_GRAPH_NODE_TYPE_EVENT_RECORD:
                return sg_node_event(params->eventRecord.event, out);
        case CU_GRAPH_NODE_TYPE_WAIT_EVENT:
                return sg_node_event(params->eventWait.event, out);
        case CU_GRAPH_NODE_TYPE_MEM_ALLOC:
                return sg_node_alloc(&params->alloc, out);
        case CU_GRAPH_NODE_TYPE_MEM_FREE:
                return sg_graph_free_work(params->free.dptr, out);
        default:
                return sg_node_op(params, out);
        }
}

/* All edges are plain here. */
static bool sg_edges_are_plain(const CUgraphEdgeData *data, size_t count)
{
        for (size_t i = 0; data != NULL && i < count; i++)
                if (data[i].from_port != 0 || data[i].to_port != 0 || data[i].type != CU_GRAPH_DEPENDENCY_TYPE_DEFAULT)
                        return false;
        return true;
}

SG_ENTRY(cuGraphAddNode_v2, CUgraphNode *out, CUgraph graph, const CUgraphNode *dependencies,
         const CUgraphEdgeData *data, size_t count, CUgraphNodeParams *params)
{
        struct sg_graph_work *work;
        if (params == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        if (!sg_edges_are_plain(data, count))
                return CUDA_ERROR_NOT_SUPPORTED;
        if (params->type == CU_GRAPH_NODE_TYPE_GRAPH)
                return params->graph.ownership == CU_GRAPH_CHILD_GRAPH_OWNERSHIP_CLONE
                               ? cuGraphAddChildGraphNode(out, graph, dependencies, count, params->graph.graph)
                               : CUDA_ERROR_NOT_SUPPORTED;
        CUresult result = sg_node_work(params, &work);
        if (result != CUDA_SUCCESS)
                return result;
        sg_graph_lock_take();
        result = sg_graph_add_handles(out, graph, dependencies, count, params->type, work);
        sg_graph_lock_give();
        return result;
}

/* ---- change ---- */

/* Other graphs and instances keep the old work. Under the lock; takes `work` when it succeeds. */
static CUresult sg_node_change(struct sg_node *node, CUgraphNodeType type, struct sg_graph_work *work)
{
        if (node == NULL || node->type != type)
                return CUDA_ERROR_INVALID_VALUE;
        sg_graph_work_put(node->work);
        node->work = work;
        return CUDA_SUCCESS;
}

/* What allocates and frees stays as it was made. */
static bool sg_node_is_fixed(const CUgraphNodeParams *params)
{
        return params->type == CU_GRAPH_NODE_TYPE_MEM_ALLOC || params->type == CU_GRAPH_NODE_TYPE_MEM_FREE ||
               params->type == CU_GRAPH_NODE_TYPE_GRAPH;
}

SG_ENTRY(cuGraphNodeSetParams, CUgraphNode handle, CUgraphNodeParams *params)
{
        struct sg_graph_work *work;
        if (params == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        if (sg_node_is_fixed(params))
                return CUDA_ERROR_NOT_SUPPORTED;
        CUresult result = sg_node_work(params, &work);
        if (result != CUDA_SUCCESS)
                return result;
        sg_graph_lock_take();
        result = sg_node_change(sg_object_from(handle, SG_NODE), params->type, work);
        if (result != CUDA_SUCCESS)
                sg_graph_work_put(work);
        sg_graph_lock_give();
        return result;
}

/* The instance's copy of a node of the graph that it was made of, or updated from. */
static struct sg_node *sg_exec_node(const struct sg_exec *exec, const struct sg_node *node)
{
        for (uint32_t i = 0; i < exec->graph->count; i++)
                if (exec->graph->nodes[i]->origin_id == node->id)
                        return exec->graph->nodes[i];
        return NULL;
}

static CUresult sg_exec_resolve(CUgraphExec exec_handle, CUgraphNode handle, struct sg_exec **exec,
                                struct sg_node **node)
{
        const struct sg_node *original = sg_object_from(handle, SG_NODE);
        *exec = sg_object_from(exec_handle, SG_EXEC);
        *node = *exec != NULL && original != NULL ? sg_exec_node(*exec, original) : NULL;
        return *node != NULL ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

/* Launches under way keep the old plan. On failure the change shows with the next one. */
static void sg_exec_plan_anew(struct sg_exec *exec)
{
        struct sg_plan *plan;
        if (sg_plan_make(exec->graph, &plan) != CUDA_SUCCESS)
                return;
        sg_plan_put(exec->plan);
        exec->plan = plan;
}

static CUresult sg_exec_change(CUgraphExec exec_handle, CUgraphNode handle, CUgraphNodeType type,
                               struct sg_graph_work *work)
{
        struct sg_exec *exec;
        struct sg_node *node;
        CUresult result = sg_exec_resolve(exec_handle, handle, &exec, &node);
        if (result == CUDA_SUCCESS)
                result = sg_node_change(node, type, work);
        if (result == CUDA_SUCCESS)
                sg_exec_plan_anew(exec);
        return result;
}

SG_ENTRY(cuGraphExecNodeSetParams, CUgraphExec exec, CUgraphNode node, CUgraphNodeParams *params)
{
        struct sg_graph_work *work;
        if (params == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        if (sg_node_is_fixed(params))
                return CUDA_ERROR_NOT_SUPPORTED;
        CUresult result = sg_node_work(params, &work);
        if (result != CUDA_SUCCESS)
                return result;
        sg_graph_lock_take();
        result = sg_exec_change(exec, node, params->type, work);
        if (result != CUDA_SUCCESS)
                sg_graph_work_put(work);
        sg_graph_lock_give();
        return result;
}

/* ---- the older forms for kernels ---- */

static CUgraphNodeParams sg_kernel_params(const CUDA_KERNEL_NODE_PARAMS *p)
{
        return (CUgraphNodeParams){.type = CU_GRAPH_NODE_TYPE_KERNEL,
                                   .kernel = {.func = p->func,
                                              .gridDimX = p->gridDimX,
                                              .gridDimY = p->gridDimY,
                                              .gridDimZ = p->gridDimZ,
                                              .blockDimX = p->blockDimX,
                                              .blockDimY = p->blockDimY,
                                              .blockDimZ = p->blockDimZ,
                                              .sharedMemBytes = p->sharedMemBytes,
                                              .kernelParams = p->kernelParams,
                                              .extra = p->extra,
                                              .kern = p->kern,
                                              .ctx = p->ctx}};
}

SG_ENTRY(cuGraphAddKernelNode_v2, CUgraphNode *out, CUgraph graph, const CUgraphNode *dependencies, size_t count,
         const CUDA_KERNEL_NODE_PARAMS *params)
{
        CUgraphNodeParams all;
        if (params == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        all = sg_kernel_params(params);
        return cuGraphAddNode_v2(out, graph, dependencies, NULL, count, &all);
}

SG_ENTRY(cuGraphExecKernelNodeSetParams_v2, CUgraphExec exec, CUgraphNode node, const CUDA_KERNEL_NODE_PARAMS *params)
{
        CUgraphNodeParams all;
        if (params == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        all = sg_kernel_params(params);
        return cuGraphExecNodeSetParams(exec, node, &all);
}

/* ---- events of nodes ---- */

static CUresult sg_exec_event(CUgraphExec exec, CUgraphNode node, CUgraphNodeType type, CUevent event)
{
        struct sg_graph_work *work;
        CUresult result = sg_node_event(event, &work);
        if (result != CUDA_SUCCESS)
                return result;
        sg_graph_lock_take();
        result = sg_exec_change(exec, node, type, work);
        if (result != CUDA_SUCCESS)
                sg_graph_work_put(work);
        sg_graph_lock_give();
        return result;
}

SG_ENTRY(cuGraphExecEventRecordNodeSetEvent, CUgraphExec exec, CUgraphNode node, CUevent event)
{
        return sg_exec_event(exec, node, CU_GRAPH_NODE_TYPE_EVENT_RECORD, event);
}

SG_ENTRY(cuGraphExecEventWaitNodeSetEvent, CUgraphExec exec, CUgraphNode node, CUevent event)
{
        return sg_exec_event(exec, node, CU_GRAPH_NODE_TYPE_WAIT_EVENT, event);
}

SG_ENTRY(cuGraphExecChildGraphNodeSetParams, CUgraphExec exec_handle, CUgraphNode handle, CUgraph child)
{
        struct sg_exec *exec;
        struct sg_node *node;
        struct sg_graph_work *work = NULL;
        CUgraphNode first;
        sg_graph_lock_take();
        CUresult result = sg_exec_resolve(exec_handle, handle, &exec, &node);
        if (result == CUDA_SUCCESS && node->type != CU_GRAPH_NODE_TYPE_GRAPH)
                result = CUDA_ERROR_INVALID_VALUE;
        if (result == CUDA_SUCCESS)
                result = sg_graph_child_work(child, &work);
        if (result == CUDA_SUCCESS &&
            sg_graph_differs(node->work->child, work->child, &first) != CU_GRAPH_EXEC_UPDATE_SUCCESS)
                result = CUDA_ERROR_INVALID_VALUE;
        if (result == CUDA_SUCCESS)
                result = sg_exec_change(exec_handle, handle, CU_GRAPH_NODE_TYPE_GRAPH, work);
        if (result != CUDA_SUCCESS && work != NULL)
                sg_graph_work_put(work);
        sg_graph_lock_give();
        return result;
}

/* Kernels, sets and copies only. */
static CUresult sg_exec_switch(CUgraphExec exec_handle, CUgraphNode handle, struct sg_exec **exec,
                               struct sg_node **node)
{
        const CUresult result = sg_exec_resolve(exec_handle, handle, exec, node);
        if (result != CUDA_SUCCESS)
                return result;
        return (*node)->type == CU_GRAPH_NODE_TYPE_KERNEL || (*node)->type == CU_GRAPH_NODE_TYPE_MEMSET ||
                               (*node)->type == CU_GRAPH_NODE_TYPE_MEMCPY
                       ? CUDA_SUCCESS
                       : CUDA_ERROR_INVALID_VALUE;
}

SG_ENTRY(cuGraphNodeSetEnabled, CUgraphExec exec_handle, CUgraphNode handle, unsigned enabled)
{
        struct sg_exec *exec;
        struct sg_node *node;
        sg_graph_lock_take();
        const CUresult result = sg_exec_switch(exec_handle, handle, &exec, &node);
        if (result == CUDA_SUCCESS) {
                node->disabled = enabled == 0;
                sg_exec_plan_anew(exec);
        }
        sg_graph_lock_give();
        return result;
}

SG_ENTRY(cuGraphNodeGetEnabled, CUgraphExec exec_handle, CUgraphNode handle, unsigned *enabled)
{
        struct sg_exec *exec;
        struct sg_node *node;
        if (enabled == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        sg_graph_lock_take();
        const CUresult result = sg_exec_switch(exec_handle, handle, &exec, &node);
        if (result == CUDA_SUCCESS)
                *enabled = !node->disabled;
        sg_graph_lock_give();
        return result;
}

/* ---- edges ---- */

SG_ENTRY(cuGraphGetEdges, CUgraph handle, CUgraphNode *from, CUgraphNode *to, size_t *count)
{
        struct sg_graph *graph;
        size_t total = 0;
        if (count == NULL || (from == NULL) != (to == NULL))
                return CUDA_ERROR_INVALID_VALUE;
        const size_t room = from != NULL ? *count : 0;
        sg_graph_lock_take();
        const bool known = sg_graph_resolve(handle, &graph);
        for (uint32_t i = 0; known && i < graph->count; i++) {
                const struct sg_tips *needs = &graph->nodes[i]->dependencies;
                for (unsigned k = 0; k < needs->count; k++, total++)
                        if (total < room) {
                                from[total] = (CUgraphNode)needs->nodes[k];
                                to[total] = (CUgraphNode)graph->nodes[i];
                        }
        }
        sg_graph_lock_give();
        for (size_t i = total; i < room; i++)
                from[i] = to[i] = NULL;
        if (from == NULL || total < room)
                *count = total;
        return known ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

static bool sg_tips_remove(struct sg_tips *tips, const struct sg_node *node)
{
        for (unsigned i = 0; i < tips->count; i++)
                if (tips->nodes[i] == node) {
                        struct sg_node *gone = tips->nodes[i];
                        tips->nodes[i] = tips->nodes[--tips->count];
                        sg_object_put(gone);
                        return true;
                }
        return false;
}

SG_ENTRY(cuGraphRemoveDependencies, CUgraph handle, const CUgraphNode *from, const CUgraphNode *to, size_t count)
{
        struct sg_graph *graph;
        CUresult result = CUDA_SUCCESS;
        if (count != 0 && (from == NULL || to == NULL))
                return CUDA_ERROR_INVALID_VALUE;
        sg_graph_lock_take();
        if (!sg_graph_resolve(handle, &graph))
                result = CUDA_ERROR_INVALID_VALUE;
        for (size_t i = 0; i < count && result == CUDA_SUCCESS; i++) {
                struct sg_node *then = sg_object_from(to[i], SG_NODE);
                if (then == NULL || then->graph != graph ||
                    !sg_tips_remove(&then->dependencies, sg_object_from(from[i], SG_NODE)))
                        result = CUDA_ERROR_INVALID_VALUE;
        }
        sg_graph_lock_give();
        return result;
}

SG_ENTRY(cuGraphDestroyNode, CUgraphNode handle)
{
        CUresult result = CUDA_ERROR_INVALID_VALUE;
        sg_graph_lock_take();
        struct sg_node *node = sg_object_from(handle, SG_NODE);
        if (node != NULL && node->graph != NULL && sg_object_retire(node)) {
                struct sg_graph *graph = node->graph;
                for (uint32_t i = node->index + 1; i < graph->count; i++) {
                        graph->nodes[i - 1] = graph->nodes[i];
                        graph->nodes[i - 1]->index = i - 1;
                }
                graph->count--;
                for (uint32_t i = 0; i < graph->count; i++)
                        (void)sg_tips_remove(&graph->nodes[i]->dependencies, node);
                node->graph = NULL;
                sg_tips_clear(&node->dependencies);
                sg_object_put(node);
                result = CUDA_SUCCESS;
        }
        sg_graph_lock_give();
        return result;
}
