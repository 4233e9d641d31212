/* Nodes by hand, of every type but external semaphores; edges; instances with parameters. */
#include "exec_internal.h"
#include "host_args.h"
#include <stdlib.h>
#include <string.h>

#define IVG_NODE_DEPENDENCIES_MAX 256u

#define IVG_NODE_OPERATIONS_MAX 256u /* of one batch */

/* A node's parameters in the driver's form; some point into it, so it stays where it is. */
struct node_params {
        CUgraphNodeParams driver;
        size_t packed_bytes;
        void *extra[5];
        CUstreamBatchMemOpParams operations[IVG_NODE_OPERATIONS_MAX];
};

/* Bytes from the first to behind the last one of a box; UINT64_MAX: it wraps. */
static uint64_t box_span(const struct ivg_wire_graph_node *wire, uint64_t pitch, uint64_t slice_height)
{
        uint64_t rows, span;

        if (wire->width == 0 || wire->height == 0 || wire->depth == 0 || pitch < wire->width ||
            __builtin_mul_overflow(wire->depth - 1, slice_height, &rows) ||
            __builtin_add_overflow(rows, wire->height - 1, &rows) || __builtin_mul_overflow(rows, pitch, &span) ||
            __builtin_add_overflow(span, wire->width, &span))
                return UINT64_MAX;
        return span;
}

static CUresult params_kernel(struct ivg_exec_call *call, const struct ivg_wire_graph_node *wire, const void *packed,
                              uint32_t packed_bytes, struct node_params *params)
{
        CUDA_KERNEL_NODE_PARAMS_v3 *kernel = &params->driver.kernel;
        void *handle = NULL;

        if (ivg_handle_get(call->exec, IVG_KIND_FUNCTION, wire->function, &handle) == CUDA_SUCCESS)
                kernel->func = handle;
        else if (ivg_handle_get(call->exec, IVG_KIND_KERNEL, wire->function, &handle) == CUDA_SUCCESS)
                kernel->kern = handle;
        else
                return CUDA_ERROR_INVALID_VALUE;
        kernel->gridDimX = wire->grid[0];
        kernel->gridDimY = wire->grid[1];
        kernel->gridDimZ = wire->grid[2];
        kernel->blockDimX = wire->block[0];
        kernel->blockDimY = wire->block[1];
        kernel->blockDimZ = wire->block[2];
        kernel->sharedMemBytes = wire->shared_bytes;
        params->packed_bytes = packed_bytes;
        params->extra[0] = CU_LAUNCH_PARAM_BUFFER_POINTER;
        params->extra[1] = (void *)(uintptr_t)packed;
        params->extra[2] = CU_LAUNCH_PARAM_BUFFER_SIZE;
        params->extra[3] = &params->packed_bytes;
        params->extra[4] = CU_LAUNCH_PARAM_END;
        kernel->extra = packed_bytes ? params->extra : NULL;
        return CUDA_SUCCESS;
}

/* A copy's side: an array, which checks the box by itself, or memory, which must be the guest's for the whole box; host
 * memory is the arena's, at the guest's addresses. */
static CUresult check_side(struct ivg_exec_call *call, const struct ivg_wire_graph_node *wire, uint32_t type,
                           uint64_t address, uint64_t span, ivg_id number, CUarray *array)
{
        void *handle = NULL;
        CUresult result;

        *array = NULL;
        switch (type) {
        case CU_MEMORYTYPE_ARRAY:
                result = ivg_handle_get(call->exec, IVG_KIND_ARRAY, number, &handle);
                *array = handle;
                return wire->width && wire->height && wire->depth ? result : CUDA_ERROR_INVALID_VALUE;
        case CU_MEMORYTYPE_HOST:
        case CU_MEMORYTYPE_DEVICE:
        case CU_MEMORYTYPE_UNIFIED:
                return span != UINT64_MAX && ivg_exec_device_range(call, address, span) == CUDA_SUCCESS
                               ? CUDA_SUCCESS
                               : CUDA_ERROR_INVALID_VALUE;
        default:
                return CUDA_ERROR_INVALID_VALUE;
        }
}

static CUresult params_memcpy(struct ivg_exec_call *call, const struct ivg_wire_graph_node *wire, CUcontext context,
                              struct node_params *params)
{
        CUDA_MEMCPY3D *copy = &params->driver.memcpy.copyParams;
        CUarray to, from;
        CUresult result = check_side(call, wire, wire->dst_type, wire->dst,
                                     box_span(wire, wire->dst_pitch, wire->dst_height), wire->dst_array, &to);

        if (result == CUDA_SUCCESS)
                result = check_side(call, wire, wire->src_type, wire->src,
                                    box_span(wire, wire->src_pitch, wire->src_height), wire->src_array, &from);
        if (result != CUDA_SUCCESS)
                return result;
        params->driver.memcpy.copyCtx = context;
        *copy = (CUDA_MEMCPY3D){.srcMemoryType = (CUmemorytype)wire->src_type,
                                .srcHost = (const void *)(uintptr_t)wire->src,
                                .srcDevice = wire->src,
                                .srcPitch = wire->src_pitch,
                                .srcHeight = wire->src_height,
                                .srcArray = from,
                                .srcXInBytes = from ? wire->src : 0,
                                .srcY = from ? wire->src_pitch : 0,
                                .srcZ = from ? wire->src_height : 0,
                                .dstMemoryType = (CUmemorytype)wire->dst_type,
                                .dstHost = (void *)(uintptr_t)wire->dst,
                                .dstDevice = wire->dst,
                                .dstPitch = wire->dst_pitch,
                                .dstHeight = wire->dst_height,
                                .dstArray = to,
                                .dstXInBytes = to ? wire->dst : 0,
                                .dstY = to ? wire->dst_pitch : 0,
                                .dstZ = to ? wire->dst_height : 0,
                                .WidthInBytes = wire->width,
                                .Height = wire->height,
                                .Depth = wire->depth};
        return CUDA_SUCCESS;
}

static CUresult params_memset(struct ivg_exec_call *call, const struct ivg_wire_graph_node *wire, CUcontext context,
                              struct node_params *params)
{
        struct ivg_wire_graph_node box = *wire;
        uint64_t span;

        if ((wire->element_bytes != 1 && wire->element_bytes != 2 && wire->element_bytes != 4) ||
            __builtin_mul_overflow(wire->width, (uint64_t)wire->element_bytes, &box.width))
                return CUDA_ERROR_INVALID_VALUE;
        box.depth = 1;
        span = box_span(&box, wire->height > 1 ? wire->dst_pitch : box.width, 0);
        if (span == UINT64_MAX || ivg_exec_device_range(call, wire->dst, span) != CUDA_SUCCESS)
                return CUDA_ERROR_INVALID_VALUE;
        params->driver.memset = (CUDA_MEMSET_NODE_PARAMS_v2){.dst = wire->dst,
                                                             .pitch = wire->dst_pitch,
                                                             .value = wire->value,
                                                             .elementSize = wire->element_bytes,
                                                             .width = wire->width,
                                                             .height = wire->height,
                                                             .ctx = context};
        return CUDA_SUCCESS;
}

static CUresult params_host(struct ivg_exec_call *call, const struct ivg_wire_graph_node *wire,
                            struct node_params *params)
{
        struct ivg_callback *callback =
                ivg_callback_of_graph(call->exec, wire->host_function, wire->host_data, 0, IVG_CALLBACK_HOST_FUNCTION);

        if (!callback)
                return CUDA_ERROR_OUT_OF_MEMORY;
        params->driver.host = (CUDA_HOST_NODE_PARAMS_v2){.fn = ivg_callback_host_function, .userData = callback};
        return CUDA_SUCCESS;
}

static CUresult params_batch(struct ivg_exec_call *call, const struct ivg_wire_graph_node *wire, const void *payload,
                             uint32_t payload_bytes, CUcontext context, struct node_params *params)
{
        if (wire->count == 0 || wire->count > IVG_NODE_OPERATIONS_MAX ||
            payload_bytes != wire->count * sizeof(CUstreamBatchMemOpParams))
                return CUDA_ERROR_INVALID_VALUE;
        for (uint32_t i = 0; i < wire->count; i++) {
                CUstreamBatchMemOpParams given;
                CUresult result;

                memcpy(&given, (const uint8_t *)payload + i * sizeof(given), sizeof(given));
                result = ivg_memory_operation(call, &params->operations[i], &given);
                if (result != CUDA_SUCCESS)
                        return result;
        }
        params->driver.memOp = (CUDA_BATCH_MEM_OP_NODE_PARAMS_v2){
                .ctx = context, .count = wire->count, .paramArray = params->operations, .flags = wire->flags};
        return CUDA_SUCCESS;
}

/* Private memory of the record holds the access descriptions. */
static CUresult params_alloc(const struct ivg_wire_graph_node *wire, const void *payload, uint32_t payload_bytes,
                             struct node_params *params)
{
        if (wire->width == 0 || payload_bytes / sizeof(CUmemAccessDesc) != wire->count ||
            payload_bytes % sizeof(CUmemAccessDesc) != 0)
                return CUDA_ERROR_INVALID_VALUE;
        params->driver.alloc.poolProps.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
        params->driver.alloc.poolProps.location.type = (CUmemLocationType)wire->dst_type;
        params->driver.alloc.poolProps.location.id = wire->which;
        params->driver.alloc.accessDescs = wire->count ? payload : NULL;
        params->driver.alloc.accessDescCount = wire->count;
        params->driver.alloc.bytesize = wire->width;
        return CUDA_SUCCESS;
}

/* What names one object: a child graph, an event. */
static CUresult params_object(struct ivg_exec_call *call, const struct ivg_wire_graph_node *wire,
                              struct node_params *params)
{
        const enum ivg_kind kind = wire->type == CU_GRAPH_NODE_TYPE_GRAPH ? IVG_KIND_GRAPH : IVG_KIND_EVENT;
        void *handle = NULL;
        const CUresult result = ivg_handle_get(call->exec, kind, wire->object, &handle);

        if (result != CUDA_SUCCESS)
                return result;
        if (wire->type == CU_GRAPH_NODE_TYPE_GRAPH) {
                params->driver.graph.graph = handle;
                params->driver.graph.ownership = CU_GRAPH_CHILD_GRAPH_OWNERSHIP_CLONE;
        } else if (wire->type == CU_GRAPH_NODE_TYPE_WAIT_EVENT) {
                params->driver.eventWait.event = handle;
        } else {
                params->driver.eventRecord.event = handle;
        }
        return CUDA_SUCCESS;
}

static CUresult params_conditional(struct ivg_exec_call *call, const struct ivg_wire_graph_node *wire,
                                   CUcontext context, struct node_params *params)
{
        if (wire->count == 0 || wire->count > IVG_GRAPH_BODIES_MAX ||
            !ivg_graph_thing_holds(call->exec, IVG_GRAPH_CONDITION, wire->handle, 1))
                return CUDA_ERROR_INVALID_VALUE;
        params->driver.conditional = (CUDA_CONDITIONAL_NODE_PARAMS){.handle = wire->handle,
                                                                    .type = (CUgraphConditionalNodeType)wire->which,
                                                                    .size = wire->count,
                                                                    .ctx = context};
        return CUDA_SUCCESS;
}

static CUresult params_of(struct ivg_exec_call *call, const struct ivg_wire_graph_node *wire, const void *payload,
                          uint32_t payload_bytes, struct node_params *params)
{
        void *context = NULL;
        const CUresult result = ivg_handle_get(call->exec, IVG_KIND_CONTEXT, call->context, &context);

        memset(&params->driver, 0, sizeof(params->driver));
        if (result != CUDA_SUCCESS)
                return result;
        params->driver.type = (CUgraphNodeType)wire->type;
        switch (wire->type) {
        case CU_GRAPH_NODE_TYPE_KERNEL:
                return params_kernel(call, wire, payload, payload_bytes, params);
        case CU_GRAPH_NODE_TYPE_MEMCPY:
                return params_memcpy(call, wire, context, params);
        case CU_GRAPH_NODE_TYPE_MEMSET:
                return params_memset(call, wire, context, params);
        case CU_GRAPH_NODE_TYPE_HOST:
                return params_host(call, wire, params);
        case CU_GRAPH_NODE_TYPE_EMPTY:
                return CUDA_SUCCESS;
        case CU_GRAPH_NODE_TYPE_GRAPH:
        case CU_GRAPH_NODE_TYPE_WAIT_EVENT:
        case CU_GRAPH_NODE_TYPE_EVENT_RECORD:
                return params_object(call, wire, params);
        case CU_GRAPH_NODE_TYPE_MEM_ALLOC:
                return params_alloc(wire, payload, payload_bytes, params);
        case CU_GRAPH_NODE_TYPE_MEM_FREE:
                params->driver.free.dptr = wire->dst;
                return ivg_exec_memory_known(call, wire->dst) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
        case CU_GRAPH_NODE_TYPE_BATCH_MEM_OP:
                return params_batch(call, wire, payload, payload_bytes, context, params);
        case CU_GRAPH_NODE_TYPE_CONDITIONAL:
                return params_conditional(call, wire, context, params);
        default:
                return ivg_exec_refuse(call, IVG_FAULT_ARGUMENTS, wire->type);
        }
}

/* ---- what a new node brings along ---- */

/* The driver's graphs of a conditional node get the guest's numbers, and are noted to lose them with the node. */
static CUresult name_bodies(struct ivg_exec_call *call, CUgraphNode node, const CUDA_CONDITIONAL_NODE_PARAMS *given,
                            const uint32_t *fresh)
{
        for (uint32_t i = 0; i < given->size; i++) {
                const CUgraph body = given->phGraph_out[i];

                if (!ivg_graph_thing_add(call->exec, node, IVG_GRAPH_BODY, (uintptr_t)body, 1))
                        return CUDA_ERROR_OUT_OF_MEMORY;
                if (ivg_graph_of_node_number(call, body, fresh[i]) != fresh[i])
                        return call->fault != IVG_FAULT_NONE ? CUDA_ERROR_INVALID_VALUE : CUDA_ERROR_OUT_OF_MEMORY;
        }
        return CUDA_SUCCESS;
}

static CUresult note_outputs(struct ivg_exec_call *call, const struct ivg_args_ivgGraphAddNode *args, CUgraphNode node,
                             const struct node_params *params)
{
        switch (args->params.type) {
        case CU_GRAPH_NODE_TYPE_MEM_ALLOC:
                args->answer->address = params->driver.alloc.dptr;
                return ivg_graph_thing_add(call->exec, args->graph, IVG_GRAPH_MEMORY, params->driver.alloc.dptr,
                                           args->params.width)
                               ? CUDA_SUCCESS
                               : CUDA_ERROR_OUT_OF_MEMORY;
        case CU_GRAPH_NODE_TYPE_CONDITIONAL:
                return params->driver.conditional.phGraph_out
                               ? name_bodies(call, node, &params->driver.conditional, args->fresh)
                               : CUDA_ERROR_UNKNOWN;
        default:
                return CUDA_SUCCESS;
        }
}

CUresult ivg_host_ivgGraphAddNode(struct ivg_exec_call *call, const struct ivg_args_ivgGraphAddNode *args)
{
        const struct ivg_driver *driver = ivg_exec_driver(call->exec);
        CUgraphNode dependencies[IVG_NODE_DEPENDENCIES_MAX], node = NULL;
        struct node_params params;
        CUresult result;

        if (!driver->cuGraphAddNode_v2)
                return CUDA_ERROR_NOT_SUPPORTED;
        if ((args->data_count && args->data_count != args->dependencies_count) ||
            (args->params.type == CU_GRAPH_NODE_TYPE_CONDITIONAL && args->fresh_count != args->params.count))
                return CUDA_ERROR_INVALID_VALUE;
        for (uint32_t i = 0; i < args->dependencies_count; i++) {
                void *handle;

                result = ivg_handle_get(call->exec, IVG_KIND_GRAPH_NODE, args->dependencies[i], &handle);
                if (result != CUDA_SUCCESS)
                        return result;
                dependencies[i] = handle;
        }
        result = params_of(call, &args->params, args->payload, args->payload_bytes, &params);
        if (result == CUDA_SUCCESS)
                result = driver->cuGraphAddNode_v2(&node, args->graph, args->dependencies_count ? dependencies : NULL,
                                                   args->data_count ? args->data : NULL, args->dependencies_count,
                                                   &params.driver);
        if (result == CUDA_SUCCESS)
                result = note_outputs(call, args, node, &params);
        if (result == CUDA_SUCCESS && !ivg_graph_node_put(call, args->node, node))
                return CUDA_ERROR_UNKNOWN;
        return result;
}

CUresult ivg_host_ivgGraphNodeSetParams(struct ivg_exec_call *call, const struct ivg_args_ivgGraphNodeSetParams *args)
{
        const struct ivg_driver *driver = ivg_exec_driver(call->exec);
        struct node_params params;
        CUresult result;

        switch (args->params.type) {
        case CU_GRAPH_NODE_TYPE_MEM_ALLOC:
        case CU_GRAPH_NODE_TYPE_MEM_FREE:
        case CU_GRAPH_NODE_TYPE_CONDITIONAL:
                return CUDA_ERROR_NOT_SUPPORTED;
        default:
                break;
        }
        result = params_of(call, &args->params, args->payload, args->payload_bytes, &params);
        if (result != CUDA_SUCCESS)
                return result;
        if (args->exec_id != IVG_ID_NONE)
                return driver->cuGraphExecNodeSetParams
                               ? driver->cuGraphExecNodeSetParams(args->exec, args->node, &params.driver)
                               : CUDA_ERROR_NOT_SUPPORTED;
        return driver->cuGraphNodeSetParams ? driver->cuGraphNodeSetParams(args->node, &params.driver)
                                            : CUDA_ERROR_NOT_SUPPORTED;
}

CUresult ivg_host_cuGraphConditionalHandleCreate(struct ivg_exec_call *call,
                                                 const struct ivg_args_cuGraphConditionalHandleCreate *args)
{
        const struct ivg_driver *driver = ivg_exec_driver(call->exec);
        CUgraphConditionalHandle handle = 0;
        CUresult result;

        if (!driver->cuGraphConditionalHandleCreate)
                return CUDA_ERROR_NOT_SUPPORTED;
        result = driver->cuGraphConditionalHandleCreate(&handle, args->hGraph, args->ctx, args->defaultLaunchValue,
                                                        args->flags);
        if (result != CUDA_SUCCESS)
                return result;
        args->answer->pHandle_out = handle;
        return ivg_graph_thing_add(call->exec, args->hGraph, IVG_GRAPH_CONDITION, handle, 1) ? CUDA_SUCCESS
                                                                                             : CUDA_ERROR_OUT_OF_MEMORY;
}

/* ---- edges ---- */

static CUresult edges_of(const struct ivg_driver *driver, CUgraph graph, CUgraphNode *from, CUgraphNode *to,
                         CUgraphEdgeData *edges, size_t *count)
{
        if (driver->cuGraphGetEdges_v2)
                return driver->cuGraphGetEdges_v2(graph, from, to, edges, count);
        return driver->cuGraphGetEdges ? driver->cuGraphGetEdges(graph, from, to, count) : CUDA_ERROR_NOT_SUPPORTED;
}

CUresult ivg_host_ivgGraphEdges(struct ivg_exec_call *call, const struct ivg_args_ivgGraphEdges *args)
{
        const struct ivg_driver *driver = ivg_exec_driver(call->exec);
        uint32_t *from_out = args->from, *to_out = args->to;
        CUgraphEdgeData *edges_out = args->edges;
        CUgraphNode *from, *to;
        CUgraphEdgeData *edges;
        size_t count = 0, room;
        CUresult result = edges_of(driver, args->graph, NULL, NULL, NULL, &count);

        args->answer->count = count;
        if (result != CUDA_SUCCESS || count == 0 || !from_out || !to_out || !edges_out)
                return result;
        room = args->from_bytes / sizeof(*from_out);
        if (room > args->to_bytes / sizeof(*to_out) || room > args->edges_bytes / sizeof(*edges_out))
                return CUDA_ERROR_INVALID_VALUE;
        from = calloc(count, sizeof(*from));
        to = calloc(count, sizeof(*to));
        edges = calloc(count, sizeof(*edges));
        result =
                from && to && edges ? edges_of(driver, args->graph, from, to, edges, &count) : CUDA_ERROR_OUT_OF_MEMORY;
        for (size_t i = 0; result == CUDA_SUCCESS && i < count && i < room; i++) {
                from_out[i] = ivg_handle_name_get(call->exec, from[i]);
                to_out[i] = ivg_handle_name_get(call->exec, to[i]);
                edges_out[i] = edges[i];
        }
        free(from);
        free(to);
        free(edges);
        return result;
}

/* ---- instances ---- */

CUresult ivg_host_ivgGraphInstantiateWithParams(struct ivg_exec_call *call,
                                                const struct ivg_args_ivgGraphInstantiateWithParams *args)
{
        const struct ivg_driver *driver = ivg_exec_driver(call->exec);
        CUDA_GRAPH_INSTANTIATE_PARAMS params = {.flags = args->flags, .hUploadStream = args->stream};
        CUgraphExec exec = NULL;
        CUresult result;

        if (!driver->cuGraphInstantiateWithParams)
                return CUDA_ERROR_NOT_SUPPORTED;
        if (!(args->flags & CUDA_GRAPH_INSTANTIATE_FLAG_UPLOAD))
                params.hUploadStream = NULL;
        result = driver->cuGraphInstantiateWithParams(&exec, args->graph, &params);
        args->answer->outcome = (int32_t)params.result_out;
        if (result == CUDA_SUCCESS && !ivg_handle_put(call, IVG_KIND_GRAPH_EXEC, args->exec, exec))
                return CUDA_ERROR_UNKNOWN;
        return result;
}
