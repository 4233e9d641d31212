/* Graphs and their nodes. */
#include "graph.h"

#include <stdlib.h>
#include <string.h>

pthread_mutex_t sg_graph_lock;
static pthread_once_t sg_graph_once = PTHREAD_ONCE_INIT;
static uint64_t sg_graph_ids;

static void sg_graph_lock_open(void)
{
        pthread_mutexattr_t attributes;
        pthread_mutexattr_init(&attributes);
        pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_RECURSIVE);
        pthread_mutex_init(&sg_graph_lock, &attributes);
        pthread_mutexattr_destroy(&attributes);
}

void sg_graph_lock_take(void)
{
        pthread_once(&sg_graph_once, sg_graph_lock_open);
        pthread_mutex_lock(&sg_graph_lock);
}

void sg_graph_lock_give(void)
{
        pthread_mutex_unlock(&sg_graph_lock);
}

/* ---- sets of nodes ---- */

CUresult sg_tips_add(struct sg_tips *tips, struct sg_node *node)
{
        for (unsigned i = 0; i < tips->count; i++)
                if (tips->nodes[i] == node)
                        return CUDA_SUCCESS;
        struct sg_node **more = realloc(tips->nodes, (tips->count + 1) * sizeof(*more));
        if (more == NULL)
                return CUDA_ERROR_OUT_OF_MEMORY;
        tips->nodes = more;
        tips->nodes[tips->count++] = node;
        sg_object_get(node);
        return CUDA_SUCCESS;
}

CUresult sg_tips_merge(struct sg_tips *tips, const struct sg_tips *more)
{
        CUresult result = CUDA_SUCCESS;
        for (unsigned i = 0; i < more->count && result == CUDA_SUCCESS; i++)
                result = sg_tips_add(tips, more->nodes[i]);
        return result;
}

void sg_tips_clear(struct sg_tips *tips)
{
        struct sg_tips old = *tips;
        *tips = (struct sg_tips){NULL, 0};
        for (unsigned i = 0; i < old.count; i++)
                sg_object_put(old.nodes[i]);
        free(old.nodes);
}

/* ---- work ---- */

struct sg_graph_work *sg_graph_work_new(struct sg_op *op, struct sg_event *event, struct sg_graph *child)
{
        struct sg_graph_work *work = calloc(1, sizeof(*work));
        if (work == NULL)
                return NULL;
        atomic_init(&work->references, 1);
        work->op = op;
        work->event = event;
        work->child = child;
        if (event != NULL)
                sg_object_get(event);
        return work;
}

void sg_graph_work_get(struct sg_graph_work *work)
{
        if (work != NULL)
                atomic_fetch_add(&work->references, 1);
}

void sg_graph_work_put(struct sg_graph_work *work)
{
        if (work == NULL || atomic_fetch_sub(&work->references, 1) != 1)
                return;
        if (work->op != NULL)
                work->op->release(work->op);
        if (work->event != NULL)
                sg_object_put(work->event);
        if (work->child != NULL)
                sg_graph_close(work->child);
        sg_graph_memory_release(work);
        free(work);
}

/* ---- graphs ---- */

CUresult sg_graph_new(struct sg_graph **out)
{
        struct sg_graph *graph = sg_object_new(SG_GRAPH);
        if (graph == NULL)
                return CUDA_ERROR_OUT_OF_MEMORY;
        graph->id = graph->origin_id = ++sg_graph_ids;
        *out = graph;
        return CUDA_SUCCESS;
}

void sg_graph_close(struct sg_graph *graph)
{
        sg_graph_lock_take();
        (void)sg_object_retire(graph);
        for (uint32_t i = 0; i < graph->count; i++) {
                struct sg_node *node = graph->nodes[i];
                (void)sg_object_retire(node);
                node->graph = NULL;
                sg_tips_clear(&node->dependencies);
        }
        for (uint32_t i = 0; i < graph->count; i++)
                sg_object_put(graph->nodes[i]);
        graph->count = 0;
        sg_user_holds_release(&graph->users);
        sg_object_put(graph);
        sg_graph_lock_give();
}

void sg_graph_finalize(struct sg_graph *graph)
{
        free(graph->nodes);
}

void sg_node_finalize(struct sg_node *node)
{
        sg_tips_clear(&node->dependencies);
        sg_graph_work_put(node->work);
}

static bool sg_graph_grow(struct sg_graph *graph)
{
        if (graph->count < graph->capacity)
                return true;
        const uint32_t capacity = graph->capacity != 0 ? 2 * graph->capacity : 16;
        struct sg_node **more = capacity <= SG_GRAPH_NODES_MAX ? realloc(graph->nodes, capacity * sizeof(*more)) : NULL;
        if (more == NULL)
                return false;
        graph->nodes = more;
        graph->capacity = capacity;
        return true;
}

CUresult sg_graph_add(struct sg_graph *graph, CUgraphNodeType type, struct sg_graph_work *work,
                      struct sg_node *const *dependencies, size_t count, struct sg_node **out)
{
        struct sg_node *node = sg_graph_grow(graph) ? sg_object_new(SG_NODE) : NULL;
        CUresult result = CUDA_SUCCESS;
        if (node == NULL) {
                sg_graph_work_put(work);
                return CUDA_ERROR_OUT_OF_MEMORY;
        }
        node->graph = graph;
        node->type = type;
        node->work = work;
        node->index = graph->count;
        node->id = node->origin_id = ++sg_graph_ids;
        for (size_t i = 0; i < count && result == CUDA_SUCCESS; i++)
                result = sg_tips_add(&node->dependencies, dependencies[i]);
        if (result != CUDA_SUCCESS) {
                sg_object_put(node);
                return result;
        }
        graph->nodes[graph->count++] = node;
        *out = node;
        return CUDA_SUCCESS;
}

CUresult sg_graph_copy(const struct sg_graph *graph, struct sg_graph **out)
{
        CUresult result = sg_graph_new(out);
        if (result != CUDA_SUCCESS)
                return result;
        (*out)->origin_id = graph->id;
        for (uint32_t i = 0; i < graph->count && result == CUDA_SUCCESS; i++) {
                struct sg_node *node;
                sg_graph_work_get(graph->nodes[i]->work);
                result = sg_graph_add(*out, graph->nodes[i]->type, graph->nodes[i]->work, NULL, 0, &node);
                if (result == CUDA_SUCCESS) {
                        node->origin_id = graph->nodes[i]->id;
                        memcpy(node->hints, graph->nodes[i]->hints, sizeof(node->hints));
                }
        }
        if (result == CUDA_SUCCESS)
                result = sg_user_holds_copy(&(*out)->users, &graph->users);
        for (uint32_t i = 0; i < graph->count && result == CUDA_SUCCESS; i++) {
                const struct sg_tips *from = &graph->nodes[i]->dependencies;
                for (unsigned k = 0; k < from->count && result == CUDA_SUCCESS; k++)
                        result = sg_tips_add(&(*out)->nodes[i]->dependencies, (*out)->nodes[from->nodes[k]->index]);
        }
        if (result != CUDA_SUCCESS)
                sg_graph_close(*out);
        return result;
}

bool sg_node_precedes(const struct sg_node *from, const struct sg_node *node)
{
        const uint32_t count = node->graph != NULL ? node->graph->count : 0;
        bool *seen = calloc(count + 1, sizeof(*seen)), found = false;
        const struct sg_node **queue = calloc(count + 1, sizeof(*queue));
        if (seen != NULL && queue != NULL) {
                uint32_t first = 0, last = 0;
                queue[last++] = node;
                seen[node->index] = true;
                while (first < last && !found) {
                        const struct sg_node *at = queue[first++];
                        found = at == from;
                        for (unsigned i = 0; i < at->dependencies.count; i++) {
                                const struct sg_node *before = at->dependencies.nodes[i];
                                if (before->index < count && !seen[before->index]) {
                                        seen[before->index] = true;
                                        queue[last++] = before;
                                }
                        }
                }
        }
        free(seen);
        free(queue);
        return found;
}

bool sg_graph_resolve(CUgraph handle, struct sg_graph **out)
{
        *out = sg_object_from(handle, SG_GRAPH);
        return *out != NULL;
}

/* ---- calls ---- */

SG_ENTRY(cuGraphCreate, CUgraph *out, unsigned flags)
{
        struct sg_graph *graph;
        CUresult result = sg_ready();
        if (result == CUDA_SUCCESS && (out == NULL || flags != 0))
                result = CUDA_ERROR_INVALID_VALUE;
        if (result != CUDA_SUCCESS)
                return result;
        sg_graph_lock_take();
        result = sg_graph_new(&graph);
        sg_graph_lock_give();
        if (result == CUDA_SUCCESS)
                *out = (CUgraph)graph;
        return result;
}

SG_ENTRY(cuGraphDestroy, CUgraph handle)
{
        struct sg_graph *graph;
        CUresult result = CUDA_ERROR_INVALID_VALUE;
        sg_graph_lock_take();
        if (sg_graph_resolve(handle, &graph) && !graph->owned) {
                sg_graph_close(graph);
                result = CUDA_SUCCESS;
        }
        sg_graph_lock_give();
        return result;
}

SG_ENTRY(cuGraphClone, CUgraph *out, CUgraph handle)
{
        struct sg_graph *graph, *copy;
        CUresult result = CUDA_ERROR_INVALID_VALUE;
        sg_graph_lock_take();
        if (out != NULL && sg_graph_resolve(handle, &graph))
                result = sg_graph_copy(graph, &copy);
        sg_graph_lock_give();
        if (result == CUDA_SUCCESS)
                *out = (CUgraph)copy;
        return result;
}

CUresult sg_graph_add_handles(CUgraphNode *out, CUgraph handle, const CUgraphNode *dependencies, size_t count,
                              CUgraphNodeType type, struct sg_graph_work *work)
{
        struct sg_graph *graph;
        struct sg_node *node;
        if (out == NULL || !sg_graph_resolve(handle, &graph) || (count != 0 && dependencies == NULL)) {
                sg_graph_work_put(work);
                return CUDA_ERROR_INVALID_VALUE;
        }
        for (size_t i = 0; i < count; i++) {
                node = sg_object_from(dependencies[i], SG_NODE);
                if (node == NULL || node->graph != graph) {
                        sg_graph_work_put(work);
                        return CUDA_ERROR_INVALID_VALUE;
                }
        }
        const CUresult result =
                sg_graph_add(graph, type, work, (struct sg_node *const *)(const void *)dependencies, count, &node);
        if (result == CUDA_SUCCESS)
                *out = (CUgraphNode)node;
        return result;
}

SG_ENTRY(cuGraphAddEmptyNode, CUgraphNode *out, CUgraph graph, const CUgraphNode *dependencies, size_t count)
{
        sg_graph_lock_take();
        const CUresult result = sg_graph_add_handles(out, graph, dependencies, count, CU_GRAPH_NODE_TYPE_EMPTY, NULL);
        sg_graph_lock_give();
        return result;
}

CUresult sg_graph_child_work(CUgraph handle, struct sg_graph_work **out)
{
        struct sg_graph *child, *copy;
        if (!sg_graph_resolve(handle, &child))
                return CUDA_ERROR_INVALID_VALUE;
        const CUresult result = sg_graph_copy(child, &copy);
        if (result != CUDA_SUCCESS)
                return result;
        copy->owned = true;
        *out = sg_graph_work_new(NULL, NULL, copy);
        if (*out == NULL)
                sg_graph_close(copy);
        return *out != NULL ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

SG_ENTRY(cuGraphAddChildGraphNode, CUgraphNode *out, CUgraph graph, const CUgraphNode *dependencies, size_t count,
         CUgraph child)
{
        struct sg_graph_work *work;
        sg_graph_lock_take();
        CUresult result = sg_graph_child_work(child, &work);
        if (result == CUDA_SUCCESS)
                result = sg_graph_add_handles(out, graph, dependencies, count, CU_GRAPH_NODE_TYPE_GRAPH, work);
        sg_graph_lock_give();
        return result;
}

SG_ENTRY(cuGraphChildGraphNodeGetGraph, CUgraphNode handle, CUgraph *out)
{
        CUresult result = CUDA_ERROR_INVALID_VALUE;
        sg_graph_lock_take();
        const struct sg_node *node = sg_object_from(handle, SG_NODE);
        if (node != NULL && out != NULL && node->type == CU_GRAPH_NODE_TYPE_GRAPH) {
                *out = (CUgraph)node->work->child;
                result = CUDA_SUCCESS;
        }
        sg_graph_lock_give();
        return result;
}

static CUresult sg_graph_add_event(CUgraphNode *out, CUgraph graph, const CUgraphNode *dependencies, size_t count,
                                   CUevent handle, CUgraphNodeType type)
{
        struct sg_event *event = sg_object_from(handle, SG_EVENT);
        if (event == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        sg_graph_lock_take();
        struct sg_graph_work *work = sg_graph_work_new(NULL, event, NULL);
        const CUresult result = work != NULL ? sg_graph_add_handles(out, graph, dependencies, count, type, work)
                                             : CUDA_ERROR_OUT_OF_MEMORY;
        sg_graph_lock_give();
        return result;
}

SG_ENTRY(cuGraphAddEventRecordNode, CUgraphNode *out, CUgraph graph, const CUgraphNode *dependencies, size_t count,
         CUevent event)
{
        return sg_graph_add_event(out, graph, dependencies, count, event, CU_GRAPH_NODE_TYPE_EVENT_RECORD);
}

SG_ENTRY(cuGraphAddEventWaitNode, CUgraphNode *out, CUgraph graph, const CUgraphNode *dependencies, size_t count,
         CUevent event)
{
        return sg_graph_add_event(out, graph, dependencies, count, event, CU_GRAPH_NODE_TYPE_WAIT_EVENT);
}

SG_ENTRY(cuGraphAddDependencies, CUgraph handle, const CUgraphNode *from, const CUgraphNode *to, size_t count)
{
        struct sg_graph *graph;
        CUresult result = CUDA_SUCCESS;
        if (count != 0 && (from == NULL || to == NULL))
                return CUDA_ERROR_INVALID_VALUE;
        sg_graph_lock_take();
        if (!sg_graph_resolve(handle, &graph))
                result = CUDA_ERROR_INVALID_VALUE;
        for (size_t i = 0; i < count && result == CUDA_SUCCESS; i++) {
                struct sg_node *first = sg_object_from(from[i], SG_NODE), *then = sg_object_from(to[i], SG_NODE);
                if (first == NULL || then == NULL || first->graph != graph || then->graph != graph ||
                    sg_node_precedes(then, first)) /* a circle */
                        result = CUDA_ERROR_INVALID_VALUE;
                else
                        result = sg_tips_add(&then->dependencies, first);
        }
        sg_graph_lock_give();
        return result;
}

SG_ENTRY(cuGraphNodeGetType, CUgraphNode handle, CUgraphNodeType *type)
{
        CUresult result = CUDA_ERROR_INVALID_VALUE;
        sg_graph_lock_take();
        const struct sg_node *node = sg_object_from(handle, SG_NODE);
        if (node != NULL && type != NULL) {
                *type = node->type;
                result = CUDA_SUCCESS;
        }
        sg_graph_lock_give();
        return result;
}

SG_ENTRY(cuGraphNodeFindInClone, CUgraphNode *out, CUgraphNode original, CUgraph clone)
{
        struct sg_graph *graph;
        CUresult result = CUDA_ERROR_INVALID_VALUE;
        sg_graph_lock_take();
        const struct sg_node *node = sg_object_from(original, SG_NODE);
        if (out != NULL && node != NULL && sg_graph_resolve(clone, &graph))
                for (uint32_t i = 0; i < graph->count && result != CUDA_SUCCESS; i++)
                        if (graph->nodes[i]->origin_id == node->id) {
                                *out = (CUgraphNode)graph->nodes[i];
                                result = CUDA_SUCCESS;
                        }
        sg_graph_lock_give();
        return result;
}

/* ---- lists ---- */

/* Writes at most *count of `nodes`, fills up with NULL; *count: how many there are, or were written. */
static CUresult sg_nodes_give(struct sg_node *const *nodes, size_t total, CUgraphNode *out, size_t *count)
{
        const size_t room = *count;
        if (out == NULL) {
                *count = total;
                return CUDA_SUCCESS;
        }
        for (size_t i = 0; i < room; i++)
                out[i] = i < total ? (CUgraphNode)nodes[i] : NULL;
        *count = total < room ? total : room;
        return CUDA_SUCCESS;
}

SG_ENTRY(cuGraphGetNodes, CUgraph handle, CUgraphNode *nodes, size_t *count)
{
        struct sg_graph *graph;
        CUresult result = CUDA_ERROR_INVALID_VALUE;
        sg_graph_lock_take();
        if (count != NULL && sg_graph_resolve(handle, &graph))
                result = sg_nodes_give(graph->nodes, graph->count, nodes, count);
        sg_graph_lock_give();
        return result;
}

SG_ENTRY(cuGraphNodeGetDependencies, CUgraphNode handle, CUgraphNode *nodes, size_t *count)
{
        CUresult result = CUDA_ERROR_INVALID_VALUE;
        sg_graph_lock_take();
        const struct sg_node *node = sg_object_from(handle, SG_NODE);
        if (node != NULL && count != NULL)
                result = sg_nodes_give(node->dependencies.nodes, node->dependencies.count, nodes, count);
        sg_graph_lock_give();
        return result;
}

static bool sg_node_depends_on(const struct sg_node *node, const struct sg_node *on)
{
        for (unsigned i = 0; i < node->dependencies.count; i++)
                if (node->dependencies.nodes[i] == on)
                        return true;
        return false;
}

/* Those of the graph that depend on `on`; NULL: on nothing. */
static CUresult sg_nodes_filter(const struct sg_graph *graph, const struct sg_node *on, CUgraphNode *out, size_t *count)
{
        struct sg_node **found = calloc((size_t)graph->count + 1, sizeof(*found));
        size_t total = 0;
        if (found == NULL)
                return CUDA_ERROR_OUT_OF_MEMORY;
        for (uint32_t i = 0; i < graph->count; i++)
                if (on == NULL ? graph->nodes[i]->dependencies.count == 0 : sg_node_depends_on(graph->nodes[i], on))
                        found[total++] = graph->nodes[i];
        const CUresult result = sg_nodes_give(found, total, out, count);
        free(found);
        return result;
}

SG_ENTRY(cuGraphGetRootNodes, CUgraph handle, CUgraphNode *nodes, size_t *count)
{
        struct sg_graph *graph;
        CUresult result = CUDA_ERROR_INVALID_VALUE;
        sg_graph_lock_take();
        if (count != NULL && sg_graph_resolve(handle, &graph))
                result = sg_nodes_filter(graph, NULL, nodes, count);
        sg_graph_lock_give();
        return result;
}

SG_ENTRY(cuGraphNodeGetDependentNodes, CUgraphNode handle, CUgraphNode *nodes, size_t *count)
{
        CUresult result = CUDA_ERROR_INVALID_VALUE;
        sg_graph_lock_take();
        const struct sg_node *node = sg_object_from(handle, SG_NODE);
        if (node != NULL && node->graph != NULL && count != NULL)
                result = sg_nodes_filter(node->graph, node, nodes, count);
        sg_graph_lock_give();
        return result;
}
