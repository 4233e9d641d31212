/* What nodes do, told in the interface's terms; attributes of kernel nodes; graphs drawn. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "graph.h"

/* ---- parameters ---- */

/* Under the lock: what is pointed to stays with the node. */
static CUresult sg_node_describe(CUgraphNode handle, CUgraphNodeType type, CUgraphNodeParams *params)
{
        const struct sg_node *node = sg_object_from(handle, SG_NODE);
        if (node == NULL || node->type != type || node->work == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        memset(params, 0, sizeof(*params));
        params->type = type;
        if (node->work->op != NULL && node->work->op->describe != NULL)
                node->work->op->describe(node->work->op, params);
        else if (node->work->event != NULL && type == CU_GRAPH_NODE_TYPE_EVENT_RECORD)
                params->eventRecord.event = (CUevent)node->work->event;
        else if (node->work->event != NULL)
                params->eventWait.event = (CUevent)node->work->event;
        else if (node->work->memory != NULL)
                params->alloc = (CUDA_MEM_ALLOC_NODE_PARAMS_v2){
                        .poolProps = {.allocType = CU_MEM_ALLOCATION_TYPE_PINNED,
                                      .location = {.type = CU_MEM_LOCATION_TYPE_DEVICE,
                                                   .id = node->work->memory->device->ordinal}},
                        .accessDescs = node->work->access,
                        .accessDescCount = node->work->access_count,
                        .bytesize = node->work->memory->bytes,
                        .dptr = node->work->memory->start};
        else if (node->work->freed != 0)
                params->free.dptr = node->work->freed;
        else
                return CUDA_ERROR_NOT_SUPPORTED;
        return CUDA_SUCCESS;
}

static CUresult sg_node_get(CUgraphNode handle, CUgraphNodeType type, const void *out, CUgraphNodeParams *params)
{
        if (out == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        sg_graph_lock_take();
        const CUresult result = sg_node_describe(handle, type, params);
        sg_graph_lock_give();
        return result;
}

SG_ENTRY(cuGraphKernelNodeGetParams_v2, CUgraphNode node, CUDA_KERNEL_NODE_PARAMS *out)
{
        CUgraphNodeParams params;
        const CUresult result = sg_node_get(node, CU_GRAPH_NODE_TYPE_KERNEL, out, &params);
        const CUDA_KERNEL_NODE_PARAMS_v3 *k = &params.kernel;
        if (result == CUDA_SUCCESS)
                *out = (CUDA_KERNEL_NODE_PARAMS){k->func,         k->gridDimX,  k->gridDimY,  k->gridDimZ,
                                                 k->blockDimX,    k->blockDimY, k->blockDimZ, k->sharedMemBytes,
                                                 k->kernelParams, k->extra,     k->kern,      k->ctx};
        return result;
}

SG_ENTRY(cuGraphMemcpyNodeGetParams, CUgraphNode node, CUDA_MEMCPY3D *out)
{
        CUgraphNodeParams params;
        const CUresult result = sg_node_get(node, CU_GRAPH_NODE_TYPE_MEMCPY, out, &params);
        if (result == CUDA_SUCCESS)
                *out = params.memcpy.copyParams;
        return result;
}

SG_ENTRY(cuGraphMemsetNodeGetParams, CUgraphNode node, CUDA_MEMSET_NODE_PARAMS *out)
{
        CUgraphNodeParams params;
        const CUresult result = sg_node_get(node, CU_GRAPH_NODE_TYPE_MEMSET, out, &params);
        const CUDA_MEMSET_NODE_PARAMS_v2 *m = &params.memset;
        if (result == CUDA_SUCCESS)
                *out = (CUDA_MEMSET_NODE_PARAMS){m->dst, m->pitch, m->value, m->elementSize, m->width, m->height};
        return result;
}

SG_ENTRY(cuGraphHostNodeGetParams, CUgraphNode node, CUDA_HOST_NODE_PARAMS *out)
{
        CUgraphNodeParams params;
        const CUresult result = sg_node_get(node, CU_GRAPH_NODE_TYPE_HOST, out, &params);
        if (result == CUDA_SUCCESS)
                *out = (CUDA_HOST_NODE_PARAMS){params.host.fn, params.host.userData};
        return result;
}

SG_ENTRY(cuGraphMemAllocNodeGetParams, CUgraphNode node, CUDA_MEM_ALLOC_NODE_PARAMS *out)
{
        CUgraphNodeParams params;
        const CUresult result = sg_node_get(node, CU_GRAPH_NODE_TYPE_MEM_ALLOC, out, &params);
        if (result == CUDA_SUCCESS)
                *out = (CUDA_MEM_ALLOC_NODE_PARAMS){.poolProps = params.alloc.poolProps,
                                                    .accessDescs = params.alloc.accessDescs,
                                                    .accessDescCount = params.alloc.accessDescCount,
                                                    .bytesize = params.alloc.bytesize,
                                                    .dptr = params.alloc.dptr};
        return result;
}

SG_ENTRY(cuGraphMemFreeNodeGetParams, CUgraphNode node, CUdeviceptr *out)
{
        CUgraphNodeParams params;
        const CUresult result = sg_node_get(node, CU_GRAPH_NODE_TYPE_MEM_FREE, out, &params);
        if (result == CUDA_SUCCESS)
                *out = params.free.dptr;
        return result;
}

SG_ENTRY(cuGraphBatchMemOpNodeGetParams, CUgraphNode node, CUDA_BATCH_MEM_OP_NODE_PARAMS *out)
{
        CUgraphNodeParams params;
        const CUresult result = sg_node_get(node, CU_GRAPH_NODE_TYPE_BATCH_MEM_OP, out, &params);
        if (result == CUDA_SUCCESS)
                *out = (CUDA_BATCH_MEM_OP_NODE_PARAMS){params.memOp.ctx, params.memOp.count, params.memOp.paramArray,
                                                       params.memOp.flags};
        return result;
}

SG_ENTRY(cuGraphEventRecordNodeGetEvent, CUgraphNode node, CUevent *out)
{
        CUgraphNodeParams params;
        const CUresult result = sg_node_get(node, CU_GRAPH_NODE_TYPE_EVENT_RECORD, out, &params);
        if (result == CUDA_SUCCESS)
                *out = params.eventRecord.event;
        return result;
}

SG_ENTRY(cuGraphEventWaitNodeGetEvent, CUgraphNode node, CUevent *out)
{
        CUgraphNodeParams params;
        const CUresult result = sg_node_get(node, CU_GRAPH_NODE_TYPE_WAIT_EVENT, out, &params);
        if (result == CUDA_SUCCESS)
                *out = params.eventWait.event;
        return result;
}

static CUresult sg_node_set_event(CUgraphNode node, CUgraphNodeType type, CUevent event)
{
        CUgraphNodeParams params = {.type = type};
        if (type == CU_GRAPH_NODE_TYPE_EVENT_RECORD)
                params.eventRecord.event = event;
        else
                params.eventWait.event = event;
        return cuGraphNodeSetParams(node, &params);
}

SG_ENTRY(cuGraphEventRecordNodeSetEvent, CUgraphNode node, CUevent event)
{
        return sg_node_set_event(node, CU_GRAPH_NODE_TYPE_EVENT_RECORD, event);
}

SG_ENTRY(cuGraphEventWaitNodeSetEvent, CUgraphNode node, CUevent event)
{
        return sg_node_set_event(node, CU_GRAPH_NODE_TYPE_WAIT_EVENT, event);
}

/* ---- attributes ---- */

static CUlaunchAttribute *sg_node_hint(struct sg_node *node, CUlaunchAttributeID id, bool make)
{
        CUlaunchAttribute *vacant = NULL;
        for (unsigned i = 0; i < SG_NODE_HINTS; i++) {
                if (node->hints[i].id == id)
                        return &node->hints[i];
                if (node->hints[i].id == CU_LAUNCH_ATTRIBUTE_IGNORE && vacant == NULL)
                        vacant = &node->hints[i];
        }
        return make ? vacant : NULL;
}

static bool sg_attribute_is_hint(CUlaunchAttributeID id)
{
        return id == CU_LAUNCH_ATTRIBUTE_ACCESS_POLICY_WINDOW || id == CU_LAUNCH_ATTRIBUTE_PRIORITY ||
               id == CU_LAUNCH_ATTRIBUTE_MEM_SYNC_DOMAIN_MAP || id == CU_LAUNCH_ATTRIBUTE_MEM_SYNC_DOMAIN ||
               id == CU_LAUNCH_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE ||
               id == CU_LAUNCH_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT;
}

static CUresult sg_kernel_node(CUgraphNode handle, struct sg_node **out)
{
        *out = sg_object_from(handle, SG_NODE);
        return *out != NULL && (*out)->type == CU_GRAPH_NODE_TYPE_KERNEL ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

SG_ENTRY(cuGraphKernelNodeGetAttribute, CUgraphNode handle, CUkernelNodeAttrID id, CUkernelNodeAttrValue *out)
{
        struct sg_node *node;
        sg_graph_lock_take();
        CUresult result = out != NULL ? sg_kernel_node(handle, &node) : CUDA_ERROR_INVALID_VALUE;
        if (result == CUDA_SUCCESS) {
                const CUlaunchAttribute *hint = sg_node_hint(node, id, false);
                memset(out, 0, sizeof(*out));
                if (id == CU_LAUNCH_ATTRIBUTE_COOPERATIVE)
                        out->cooperative = sg_launch_is_cooperative(node->work->op);
                else if (sg_attribute_is_hint(id) && hint != NULL)
                        *out = hint->value;
                else if (!sg_attribute_is_hint(id) && id != CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION)
                        result = CUDA_ERROR_INVALID_VALUE;
        }
        sg_graph_lock_give();
        return result;
}

SG_ENTRY(cuGraphKernelNodeSetAttribute, CUgraphNode handle, CUkernelNodeAttrID id, const CUkernelNodeAttrValue *value)
{
        struct sg_node *node;
        sg_graph_lock_take();
        CUresult result = value != NULL ? sg_kernel_node(handle, &node) : CUDA_ERROR_INVALID_VALUE;
        if (result == CUDA_SUCCESS && !sg_attribute_is_hint(id)) {
                /* The kernel's operation is shared: what would change it is not there. */
                const bool same = id == CU_LAUNCH_ATTRIBUTE_COOPERATIVE &&
                                  (value->cooperative != 0) == sg_launch_is_cooperative(node->work->op);
                result = same ? CUDA_SUCCESS : CUDA_ERROR_NOT_SUPPORTED;
        } else if (result == CUDA_SUCCESS) {
                CUlaunchAttribute *hint = sg_node_hint(node, id, true);
                result = hint != NULL ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
                if (hint != NULL)
                        *hint = (CUlaunchAttribute){.id = id, .value = *value};
        }
        sg_graph_lock_give();
        return result;
}

SG_ENTRY(cuGraphKernelNodeCopyAttributes, CUgraphNode to_handle, CUgraphNode from_handle)
{
        struct sg_node *to, *from;
        sg_graph_lock_take();
        CUresult result = sg_kernel_node(to_handle, &to);
        if (result == CUDA_SUCCESS)
                result = sg_kernel_node(from_handle, &from);
        if (result == CUDA_SUCCESS &&
            sg_launch_is_cooperative(to->work->op) != sg_launch_is_cooperative(from->work->op))
                result = CUDA_ERROR_NOT_SUPPORTED;
        if (result == CUDA_SUCCESS && to != from)
                memcpy(to->hints, from->hints, sizeof(to->hints));
        sg_graph_lock_give();
        return result;
}

/* ---- drawing ---- */

static const char *sg_type_name(CUgraphNodeType type)
{
        static const char *const names[] = {
                "KERNEL",       "MEMCPY",       "MEMSET",           "HOST",           "GRAPH",     "EMPTY",
                "EVENT_WAIT",   "EVENT_RECORD", "EXT_SEMAS_SIGNAL", "EXT_SEMAS_WAIT", "MEM_ALLOC", "MEM_FREE",
                "BATCH_MEM_OP", "CONDITIONAL"};
        return (unsigned)type < sizeof(names) / sizeof(names[0]) ? names[type] : "UNKNOWN";
}

static void sg_graph_draw(FILE *file, const struct sg_graph *graph)
{
        fprintf(file, "digraph graph_%llu {\n", (unsigned long long)graph->id);
        for (uint32_t i = 0; i < graph->count; i++)
                fprintf(file, "\"graph_%llu_node_%u\" [label=\"%u\\n%s\"];\n", (unsigned long long)graph->id, i, i,
                        sg_type_name(graph->nodes[i]->type));
        for (uint32_t i = 0; i < graph->count; i++)
                for (unsigned k = 0; k < graph->nodes[i]->dependencies.count; k++)
                        fprintf(file, "\"graph_%llu_node_%u\" -> \"graph_%llu_node_%u\";\n",
                                (unsigned long long)graph->id, graph->nodes[i]->dependencies.nodes[k]->index,
                                (unsigned long long)graph->id, i);
        fputs("}\n", file);
}

SG_ENTRY(cuGraphDebugDotPrint, CUgraph handle, const char *path, unsigned flags)
{
        struct sg_graph *graph;
        CUresult result = CUDA_ERROR_INVALID_VALUE;
        (void)flags; /* each asks for more than this draws */
        if (path == NULL)
                return result;
        FILE *file = fopen(path, "we");
        if (file == NULL)
                return CUDA_ERROR_OPERATING_SYSTEM;
        sg_graph_lock_take();
        if (sg_graph_resolve(handle, &graph)) {
                sg_graph_draw(file, graph);
                result = CUDA_SUCCESS;
        }
        sg_graph_lock_give();
        if (fclose(file) != 0 && result == CUDA_SUCCESS)
                result = CUDA_ERROR_OPERATING_SYSTEM;
        return result;
}
