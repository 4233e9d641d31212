/* Instances of graphs: an order for the nodes, launches, updates. */
#include <stdlib.h>

#include "graph.h"

/* ---- plans ---- */

void sg_plan_put(struct sg_plan *plan)
{
        if (plan == NULL || atomic_fetch_sub(&plan->references, 1) != 1)
                return;
        for (uint32_t i = 0; i < plan->count; i++)
                sg_graph_work_put(plan->steps[i].work);
        sg_user_holds_release(&plan->users);
        free(plan);
}

static CUresult sg_plan_append(struct sg_plan **plan, const struct sg_graph *graph, unsigned depth);

static CUresult sg_plan_step(struct sg_plan **plan, const struct sg_node *node, unsigned depth)
{
        if (node->type == CU_GRAPH_NODE_TYPE_EMPTY || node->disabled)
                return CUDA_SUCCESS;
        if (node->type == CU_GRAPH_NODE_TYPE_GRAPH)
                return sg_plan_append(plan, node->work->child, depth + 1);
        if ((*plan)->count == (*plan)->capacity) {
                const uint32_t capacity = 2 * (*plan)->capacity;
                struct sg_plan *more = realloc(*plan, sizeof(**plan) + capacity * sizeof((*plan)->steps[0]));
                if (more == NULL)
                        return CUDA_ERROR_OUT_OF_MEMORY;
                more->capacity = capacity;
                *plan = more;
        }
        sg_graph_work_get(node->work);
        (*plan)->steps[(*plan)->count].type = node->type;
        (*plan)->steps[(*plan)->count++].work = node->work;
        return CUDA_SUCCESS;
}

/* Each round takes the nodes whose dependencies are done: captured graphs need one. */
static CUresult sg_plan_append(struct sg_plan **plan, const struct sg_graph *graph, unsigned depth)
{
        bool *done = calloc((size_t)graph->count + 1, sizeof(*done));
        CUresult result = done != NULL && depth < SG_GRAPH_DEPTH_MAX ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
        if (result == CUDA_SUCCESS)
                result = sg_user_holds_copy(&(*plan)->users, &graph->users);
        uint32_t left = graph->count, before = left + 1;
        while (result == CUDA_SUCCESS && left != 0 && left < before) {
                before = left;
                for (uint32_t i = 0; i < graph->count && result == CUDA_SUCCESS; i++) {
                        const struct sg_tips *needs = &graph->nodes[i]->dependencies;
                        bool ready = !done[i];
                        for (unsigned k = 0; k < needs->count && ready; k++)
                                ready = done[needs->nodes[k]->index];
                        if (!ready)
                                continue;
                        done[i] = true;
                        left--;
                        result = sg_plan_step(plan, graph->nodes[i], depth);
                }
        }
        free(done);
        return result == CUDA_SUCCESS && left != 0 ? CUDA_ERROR_INVALID_VALUE : result; /* a circle */
}

CUresult sg_plan_make(const struct sg_graph *graph, struct sg_plan **out)
{
        struct sg_plan *plan = calloc(1, sizeof(*plan) + 16 * sizeof(plan->steps[0]));
        if (plan == NULL)
                return CUDA_ERROR_OUT_OF_MEMORY;
        atomic_init(&plan->references, 1);
        plan->capacity = 16;
        const CUresult result = sg_plan_append(&plan, graph, 0);
        if (result != CUDA_SUCCESS)
                sg_plan_put(plan);
        else
                *out = plan;
        return result;
}

/* ---- instances ---- */

void sg_exec_finalize(struct sg_exec *exec)
{
        sg_plan_put(exec->plan);
        if (exec->graph != NULL)
                sg_graph_close(exec->graph);
        if (exec->context != NULL)
                sg_object_put(exec->context);
}

static CUresult sg_exec_make(struct sg_context *context, const struct sg_graph *graph, unsigned long long flags,
                             struct sg_exec **out)
{
        struct sg_exec *exec = sg_object_new(SG_EXEC);
        if (exec == NULL)
                return CUDA_ERROR_OUT_OF_MEMORY;
        exec->flags = flags;
        exec->context = context;
        sg_object_get(context);
        CUresult result = sg_graph_copy(graph, &exec->graph);
        if (result == CUDA_SUCCESS)
                result = sg_plan_make(exec->graph, &exec->plan);
        else
                exec->graph = NULL;
        if (result != CUDA_SUCCESS)
                sg_object_put(exec);
        else
                *out = exec;
        return result;
}

SG_ENTRY(cuGraphInstantiateWithFlags, CUgraphExec *out, CUgraph handle, unsigned long long flags)
{
        const unsigned long long known = CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH |
                                         CUDA_GRAPH_INSTANTIATE_FLAG_UPLOAD |
                                         CUDA_GRAPH_INSTANTIATE_FLAG_USE_NODE_PRIORITY;
        struct sg_context *context;
        struct sg_graph *graph;
        struct sg_exec *exec;
        CUresult result = sg_context_current(&context);
        if (result != CUDA_SUCCESS)
                return result;
        if (out == NULL || (flags & ~known) != 0)
                return CUDA_ERROR_INVALID_VALUE;
        sg_graph_lock_take();
        result = sg_graph_resolve(handle, &graph) ? sg_exec_make(context, graph, flags, &exec)
                                                  : CUDA_ERROR_INVALID_VALUE;
        sg_graph_lock_give();
        if (result == CUDA_SUCCESS)
                *out = (CUgraphExec)exec;
        return result;
}

SG_ENTRY(cuGraphExecDestroy, CUgraphExec handle)
{
        struct sg_exec *exec = sg_object_from(handle, SG_EXEC);
        if (exec == NULL || !sg_object_retire(exec))
                return CUDA_ERROR_INVALID_VALUE;
        sg_object_put(exec);
        return CUDA_SUCCESS;
}

SG_ENTRY(cuGraphExecGetFlags, CUgraphExec handle, cuuint64_t *flags)
{
        const struct sg_exec *exec = sg_object_from(handle, SG_EXEC);
        if (exec == NULL || flags == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        *flags = exec->flags;
        return CUDA_SUCCESS;
}

/* ---- launches ---- */

/* Steps of a plan between two that concern events, which are operations of their own. */
struct sg_plan_op {
        struct sg_op op;
        struct sg_plan *plan; /* referenced */
        uint32_t first, end;
};

static CUresult sg_plan_run(struct sg_op *op, struct sg_stream *stream)
{
        const struct sg_plan_op *run = (const struct sg_plan_op *)op;
        CUresult result = CUDA_SUCCESS;
        for (uint32_t i = run->first; i < run->end && result == CUDA_SUCCESS; i++) {
                struct sg_op *step = run->plan->steps[i].work->op;
                if (step != NULL) /* else memory, which is there already */
                        result = step->run(step, stream);
        }
        return result;
}

static void sg_plan_release(struct sg_op *op)
{
        sg_plan_put(((struct sg_plan_op *)op)->plan);
        sg_op_free(op);
}

static CUresult sg_plan_submit(struct sg_stream *stream, struct sg_plan *plan, uint32_t first, uint32_t end)
{
        if (first == end)
                return CUDA_SUCCESS;
        struct sg_plan_op *run = sg_op_new(sizeof(*run), sg_plan_run, sg_plan_release);
        if (run == NULL)
                return CUDA_ERROR_OUT_OF_MEMORY;
        atomic_fetch_add(&plan->references, 1);
        run->plan = plan;
        run->first = first;
        run->end = end;
        return sg_submit(stream, &run->op);
}

static CUresult sg_plan_launch(struct sg_stream *stream, struct sg_plan *plan)
{
        CUresult result = CUDA_SUCCESS;
        uint32_t first = 0;
        for (uint32_t i = 0; i < plan->count && result == CUDA_SUCCESS; i++) {
                struct sg_event *event = plan->steps[i].work->event;
                if (event == NULL)
                        continue;
                result = sg_plan_submit(stream, plan, first, i);
                if (result == CUDA_SUCCESS)
                        result = plan->steps[i].type == CU_GRAPH_NODE_TYPE_EVENT_RECORD
                                         ? sg_event_record(event, stream)
                                         : cuStreamWaitEvent((CUstream)stream, (CUevent)event, 0);
                first = i + 1;
        }
        return result == CUDA_SUCCESS ? sg_plan_submit(stream, plan, first, plan->count) : result;
}

SG_ENTRY(cuGraphLaunch, CUgraphExec handle, CUstream stream_handle)
{
        struct sg_stream *stream;
        struct sg_plan *plan = NULL;
        CUresult result = sg_stream_resolve(stream_handle, &stream);
        if (result != CUDA_SUCCESS)
                return result;
        sg_graph_lock_take();
        const struct sg_exec *exec = sg_object_from(handle, SG_EXEC);
        if (exec == NULL || exec->context != stream->context) {
                result = CUDA_ERROR_INVALID_VALUE;
        } else {
                plan = exec->plan;
                atomic_fetch_add(&plan->references, 1);
                result = sg_graph_memory_launch(plan,
                                                (exec->flags & CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH) != 0);
        }
        sg_graph_lock_give();
        if (result == CUDA_SUCCESS)
                result = sg_plan_launch(stream, plan);
        sg_plan_put(plan);
        sg_object_put(stream);
        return result;
}

SG_ENTRY(cuGraphLaunch_ptsz, CUgraphExec handle, CUstream stream)
{
        return cuGraphLaunch(handle, sg_per_thread(stream));
}

/* Nothing to bring anywhere: only the arguments are checked. */
SG_ENTRY(cuGraphUpload, CUgraphExec handle, CUstream stream_handle)
{
        struct sg_stream *stream;
        CUresult result = sg_stream_resolve(stream_handle, &stream);
        if (result != CUDA_SUCCESS)
                return result;
        if (sg_object_from(handle, SG_EXEC) == NULL)
                result = CUDA_ERROR_INVALID_VALUE;
        sg_object_put(stream);
        return result;
}

/* ---- update ---- */

static CUgraphExecUpdateResult sg_node_differs(const struct sg_node *old, const struct sg_node *new)
{
        if (old->type != new->type)
                return CU_GRAPH_EXEC_UPDATE_ERROR_NODE_TYPE_CHANGED;
        if (old->dependencies.count != new->dependencies.count)
                return CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED;
        for (unsigned i = 0; i < old->dependencies.count; i++)
                if (old->dependencies.nodes[i]->index != new->dependencies.nodes[i]->index)
                        return CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED;
        return CU_GRAPH_EXEC_UPDATE_SUCCESS;
}

CUgraphExecUpdateResult sg_graph_differs(const struct sg_graph *old, const struct sg_graph *new, CUgraphNode *first)
{
        CUgraphExecUpdateResult result =
                new->count == old->count ? CU_GRAPH_EXEC_UPDATE_SUCCESS : CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED;
        *first = NULL;
        for (uint32_t i = 0; i < new->count &&result == CU_GRAPH_EXEC_UPDATE_SUCCESS; i++) {
                result = sg_node_differs(old->nodes[i], new->nodes[i]);
                if (result != CU_GRAPH_EXEC_UPDATE_SUCCESS)
                        *first = (CUgraphNode) new->nodes[i];
        }
        return result;
}

static CUresult sg_exec_update(struct sg_exec *exec, const struct sg_graph *graph, CUgraphExecUpdateResultInfo *info)
{
        struct sg_graph *copy;
        struct sg_plan *plan;
        info->errorFromNode = NULL;
        info->result = sg_graph_differs(exec->graph, graph, &info->errorNode);
        if (info->result != CU_GRAPH_EXEC_UPDATE_SUCCESS)
                return CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE;
        CUresult result = sg_graph_copy(graph, &copy);
        if (result != CUDA_SUCCESS)
                return result;
        result = sg_plan_make(copy, &plan);
        if (result != CUDA_SUCCESS) {
                sg_graph_close(copy);
                return result;
        }
        sg_graph_close(exec->graph);
        sg_plan_put(exec->plan);
        exec->graph = copy;
        exec->plan = plan;
        return CUDA_SUCCESS;
}

SG_ENTRY(cuGraphExecUpdate_v2, CUgraphExec handle, CUgraph graph_handle, CUgraphExecUpdateResultInfo *info)
{
        struct sg_graph *graph;
        CUresult result = CUDA_ERROR_INVALID_VALUE;
        sg_graph_lock_take();
        struct sg_exec *exec = sg_object_from(handle, SG_EXEC);
        if (exec != NULL && info != NULL && sg_graph_resolve(graph_handle, &graph))
                result = sg_exec_update(exec, graph, info);
        sg_graph_lock_give();
        return result;
}

SG_ENTRY(cuGraphInstantiateWithParams, CUgraphExec *out, CUgraph graph, CUDA_GRAPH_INSTANTIATE_PARAMS *params)
{
        if (params == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        const CUresult result = cuGraphInstantiateWithFlags(out, graph, params->flags);
        params->hErrNode_out = NULL;
        params->result_out = result == CUDA_SUCCESS ? CUDA_GRAPH_INSTANTIATE_SUCCESS : CUDA_GRAPH_INSTANTIATE_ERROR;
        return result;
}
