/* What graph nodes do, asked of the host: nodes that a capture made are known there only. What a structure points to
 * belongs to the node, as in CUDA: it is kept with the node's object, at one place while its size stays. */
#include "cuda_api.h"
#include "function.h"
#include "graph.h"
#include "guest_send.h"
#include "paged.h"
#include <stdlib.h>
#include <string.h>

/* `data` of a GRAPH_NODE object, where it is not a conditional node's array of bodies. */
struct lent {
        uint64_t bytes;
        _Alignas(16) uint8_t memory[];
};

static void node_release(struct ivg_object *object)
{
        free(object->data);
        object->data = NULL;
}

__attribute__((constructor)) static void set_release(void)
{
        ivg_object_set_release(IVG_KIND_GRAPH_NODE, node_release);
}

/* The node's memory of that size: what it lent before stays where it is, unless it has got another size. */
static uint8_t *lend(struct ivg_object *node, uint64_t bytes)
{
        struct lent *lent = node->data;

        if (lent != NULL && lent->bytes == bytes)
                return lent->memory;
        free(lent);
        lent = calloc(1, sizeof(*lent) + bytes);
        node->data = lent;
        if (lent == NULL)
                return NULL;
        lent->bytes = bytes;
        return lent->memory;
}

/* ---- asking ---- */

struct answer {
        struct ivg_object *node;
        struct ivg_wire_graph_node wire;
        uint8_t *payload; /* freed by answer_end */
        uint32_t payload_used;
};

static void answer_end(struct answer *answer)
{
        free(answer->payload);
}

/* answer_end afterwards, whatever the result. */
static CUresult ask(struct answer *answer, CUgraphNode handle, CUgraphNodeType type, const void *out, ivg_id fresh)
{
        struct ivg_object *context;
        CUresult result = ivg_context_require(&context);

        *answer = (struct answer){.node = ivg_object_of(IVG_KIND_GRAPH_NODE, handle)};
        if (result != CUDA_SUCCESS)
                return result;
        if (answer->node == NULL || out == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        answer->payload = malloc(IVG_NODE_PAYLOAD_BYTES_MAX);
        if (answer->payload == NULL)
                return CUDA_ERROR_OUT_OF_MEMORY;
        result = ivg_send_ivgGraphNodeGetParams(answer->node->id, fresh, answer->payload, IVG_NODE_PAYLOAD_BYTES_MAX,
                                                &answer->wire, &answer->payload_used);
        if (result == CUDA_SUCCESS && answer->wire.type != (uint32_t)type)
                result = CUDA_ERROR_INVALID_VALUE;
        /* What the host says bounds copies on this side. */
        if (result == CUDA_SUCCESS && answer->payload_used > IVG_NODE_PAYLOAD_BYTES_MAX)
                result = CUDA_ERROR_UNKNOWN;
        return result;
}

/* `count` items of the payload, in the node's memory. */
static CUresult lend_items(const struct answer *answer, uint64_t item_bytes, const void **items)
{
        const uint64_t bytes = answer->wire.count * item_bytes;
        uint8_t *memory;

        *items = NULL;
        if (bytes > answer->payload_used)
                return CUDA_ERROR_UNKNOWN;
        if (bytes == 0)
                return CUDA_SUCCESS;
        memory = lend(answer->node, bytes);
        if (memory == NULL)
                return CUDA_ERROR_OUT_OF_MEMORY;
        memcpy(memory, answer->payload, bytes);
        *items = memory;
        return CUDA_SUCCESS;
}

/* ---- kernels ---- */

/* Pointers to the parameters first, then the parameters as they are packed. */
static CUresult lend_parameters(const struct answer *answer, const struct ivg_function_layout *layout, void ***out)
{
        const uint64_t table = (layout->count * sizeof(void *) + 15) & ~(uint64_t)15;
        void **pointers;
        uint8_t *memory;

        *out = NULL;
        if (layout->bytes > answer->payload_used)
                return CUDA_ERROR_UNKNOWN;
        if (layout->count == 0)
                return CUDA_SUCCESS;
        memory = lend(answer->node, table + layout->bytes);
        if (memory == NULL)
                return CUDA_ERROR_OUT_OF_MEMORY;
        memcpy(memory + table, answer->payload, layout->bytes);
        pointers = (void **)(void *)memory;
        for (uint32_t i = 0; i < layout->count; i++)
                pointers[i] = memory + table + layout->parameters[i].offset;
        *out = pointers;
        return CUDA_SUCCESS;
}

/* As the node has it: a function, a kernel, or both. */
static CUresult kernel_handles(const struct answer *answer, CUDA_KERNEL_NODE_PARAMS *p, struct ivg_object **launchable)
{
        struct ivg_object *function = ivg_object_of_id(IVG_KIND_FUNCTION, answer->wire.function);
        struct ivg_object *kernel = ivg_object_of_id(IVG_KIND_KERNEL, answer->wire.object);
        CUresult result = CUDA_SUCCESS;

        if (function == NULL)
                function = ivg_object_of_id(IVG_KIND_KERNEL, answer->wire.function);
        p->kern = (CUkernel)kernel;
        p->func = (CUfunction)function;
        if (function != NULL && answer->wire.flags & IVG_NODE_FUNCTION_OF_KERNEL)
                result = cuKernelGetFunction(&p->func, (CUkernel)function);
        p->ctx = (CUcontext)ivg_object_of_id(IVG_KIND_CONTEXT, answer->wire.context);
        *launchable = function != NULL ? function : kernel;
        return result == CUDA_SUCCESS && *launchable == NULL ? CUDA_ERROR_INVALID_HANDLE : result;
}

static CUresult kernel_params(const struct answer *answer, CUDA_KERNEL_NODE_PARAMS *p)
{
        const struct ivg_wire_graph_node *wire = &answer->wire;
        const struct ivg_function_layout *layout;
        struct ivg_function_attributes *attributes;
        struct ivg_object *context, *launchable;
        CUresult result = ivg_context_require(&context);

        *p = (CUDA_KERNEL_NODE_PARAMS){.gridDimX = wire->grid[0],
                                       .gridDimY = wire->grid[1],
                                       .gridDimZ = wire->grid[2],
                                       .blockDimX = wire->block[0],
                                       .blockDimY = wire->block[1],
                                       .blockDimZ = wire->block[2],
                                       .sharedMemBytes = wire->shared_bytes};
        if (result == CUDA_SUCCESS)
                result = kernel_handles(answer, p, &launchable);
        if (result == CUDA_SUCCESS)
                result = ivg_function_need(launchable, context->device, &layout, &attributes);
        return result == CUDA_SUCCESS ? lend_parameters(answer, layout, &p->kernelParams) : result;
}

CUresult cuGraphKernelNodeGetParams_v2(CUgraphNode hNode, CUDA_KERNEL_NODE_PARAMS *nodeParams)
{
        CUDA_KERNEL_NODE_PARAMS params;
        struct answer answer;
        CUresult result = ask(&answer, hNode, CU_GRAPH_NODE_TYPE_KERNEL, nodeParams, IVG_ID_NONE);

        if (result == CUDA_SUCCESS)
                result = kernel_params(&answer, &params);
        if (result == CUDA_SUCCESS)
                *nodeParams = params;
        answer_end(&answer);
        return result;
}

CUresult cuGraphKernelNodeGetParams(CUgraphNode hNode, CUDA_KERNEL_NODE_PARAMS_v1 *nodeParams)
{
        CUDA_KERNEL_NODE_PARAMS p;
        const CUresult result =
                nodeParams != NULL ? cuGraphKernelNodeGetParams_v2(hNode, &p) : CUDA_ERROR_INVALID_VALUE;

        if (result != CUDA_SUCCESS)
                return result;
        /* This version has no place for a kernel; calls take one in a function's. */
        *nodeParams = (CUDA_KERNEL_NODE_PARAMS_v1){.func = p.func != NULL ? p.func : (CUfunction)p.kern,
                                                   .gridDimX = p.gridDimX,
                                                   .gridDimY = p.gridDimY,
                                                   .gridDimZ = p.gridDimZ,
                                                   .blockDimX = p.blockDimX,
                                                   .blockDimY = p.blockDimY,
                                                   .blockDimZ = p.blockDimZ,
                                                   .sharedMemBytes = p.sharedMemBytes,
                                                   .kernelParams = p.kernelParams};
        return CUDA_SUCCESS;
}

/* ---- copies and sets ---- */

struct side { /* one end of a copy, as the interface's structure has it */
        CUmemorytype type;
        CUarray array;
        void *host;
        CUdeviceptr device;
        size_t x, y, z, pitch, rows;
};

/* False: there is no such array. What is copied by way of the arena is told as the program's memory. */
static bool side_of(uint32_t type, ivg_id array, uint64_t at, uint64_t pitch, uint64_t rows, struct side *side)
{
        struct ivg_paged_box box;

        *side = (struct side){.type = (CUmemorytype)type};
        if (type == CU_MEMORYTYPE_ARRAY) {
                side->array = (CUarray)ivg_object_of_id(IVG_KIND_ARRAY, array);
                side->x = at;
                side->y = pitch;
                side->z = rows;
                return side->array != NULL;
        }
        const bool paged = ivg_paged_find(at, &box);
        if (paged)
                side->type = CU_MEMORYTYPE_HOST;
        if (paged || type == CU_MEMORYTYPE_HOST)
                side->host = (void *)(uintptr_t)(paged ? box.address : at);
        else
                side->device = at;
        side->pitch = paged ? box.pitch : pitch;
        side->rows = paged && box.slice_pitch != 0 ? box.slice_pitch / box.pitch : rows;
        return true;
}

CUresult cuGraphMemcpyNodeGetParams(CUgraphNode hNode, CUDA_MEMCPY3D *nodeParams)
{
        struct answer answer;
        const struct ivg_wire_graph_node *wire = &answer.wire;
        struct side to, from;
        const CUresult result = ask(&answer, hNode, CU_GRAPH_NODE_TYPE_MEMCPY, nodeParams, IVG_ID_NONE);

        answer_end(&answer);
        if (result != CUDA_SUCCESS)
                return result;
        if (!side_of(wire->src_type, wire->src_array, wire->src, wire->src_pitch, wire->src_height, &from) ||
            !side_of(wire->dst_type, wire->dst_array, wire->dst, wire->dst_pitch, wire->dst_height, &to))
                return CUDA_ERROR_INVALID_VALUE; /* destroyed since */
        *nodeParams = (CUDA_MEMCPY3D){.srcMemoryType = from.type,
                                      .srcHost = from.host,
                                      .srcDevice = from.device,
                                      .srcArray = from.array,
                                      .srcXInBytes = from.x,
                                      .srcY = from.y,
                                      .srcZ = from.z,
                                      .srcPitch = from.pitch,
                                      .srcHeight = from.rows,
                                      .dstMemoryType = to.type,
                                      .dstHost = to.host,
                                      .dstDevice = to.device,
                                      .dstArray = to.array,
                                      .dstXInBytes = to.x,
                                      .dstY = to.y,
                                      .dstZ = to.z,
                                      .dstPitch = to.pitch,
                                      .dstHeight = to.rows,
                                      .WidthInBytes = wire->width,
                                      .Height = wire->height,
                                      .Depth = wire->depth};
        return CUDA_SUCCESS;
}

CUresult cuGraphMemsetNodeGetParams(CUgraphNode hNode, CUDA_MEMSET_NODE_PARAMS *nodeParams)
{
        struct answer answer;
        const struct ivg_wire_graph_node *wire = &answer.wire;
        const CUresult result = ask(&answer, hNode, CU_GRAPH_NODE_TYPE_MEMSET, nodeParams, IVG_ID_NONE);

        answer_end(&answer);
        if (result == CUDA_SUCCESS)
                *nodeParams = (CUDA_MEMSET_NODE_PARAMS){.dst = wire->dst,
                                                        .pitch = wire->dst_pitch,
                                                        .value = wire->value,
                                                        .elementSize = wire->element_bytes,
                                                        .width = wire->width,
                                                        .height = wire->height};
        return result;
}

/* ---- host functions, graphs, events ---- */

CUresult cuGraphHostNodeGetParams(CUgraphNode hNode, CUDA_HOST_NODE_PARAMS *nodeParams)
{
        struct answer answer;
        const CUresult result = ask(&answer, hNode, CU_GRAPH_NODE_TYPE_HOST, nodeParams, IVG_ID_NONE);

        answer_end(&answer);
        if (result == CUDA_SUCCESS)
                *nodeParams = (CUDA_HOST_NODE_PARAMS){.fn = (CUhostFn)(uintptr_t)answer.wire.host_function,
                                                      .userData = (void *)(uintptr_t)answer.wire.host_data};
        return result;
}

CUresult cuGraphChildGraphNodeGetGraph(CUgraphNode hNode, CUgraph *phGraph)
{
        struct ivg_object *fresh, *graph;
        struct answer answer;
        CUresult result = ivg_object_create(IVG_KIND_GRAPH, NULL, &fresh);

        if (result != CUDA_SUCCESS)
                return result;
        fresh->flags = IVG_GRAPH_OF_NODE;
        result = ask(&answer, hNode, CU_GRAPH_NODE_TYPE_GRAPH, phGraph, fresh->id);
        answer_end(&answer);
        graph = result == CUDA_SUCCESS ? ivg_object_of_id(IVG_KIND_GRAPH, answer.wire.object) : NULL;
        if (graph != fresh)
                ivg_object_destroy(fresh);
        if (result != CUDA_SUCCESS)
                return result;
        *phGraph = (CUgraph)graph;
        return graph != NULL ? CUDA_SUCCESS : CUDA_ERROR_UNKNOWN;
}

static CUresult get_event(CUgraphNode node, CUgraphNodeType type, CUevent *out)
{
        struct ivg_object *event;
        struct answer answer;
        const CUresult result = ask(&answer, node, type, out, IVG_ID_NONE);

        answer_end(&answer);
        if (result != CUDA_SUCCESS)
                return result;
        event = ivg_object_of_id(IVG_KIND_EVENT, answer.wire.object);
        if (event == NULL) /* destroyed since */
                return CUDA_ERROR_INVALID_VALUE;
        *out = (CUevent)event;
        return CUDA_SUCCESS;
}

CUresult cuGraphEventRecordNodeGetEvent(CUgraphNode hNode, CUevent *event_out)
{
        return get_event(hNode, CU_GRAPH_NODE_TYPE_EVENT_RECORD, event_out);
}

CUresult cuGraphEventWaitNodeGetEvent(CUgraphNode hNode, CUevent *event_out)
{
        return get_event(hNode, CU_GRAPH_NODE_TYPE_WAIT_EVENT, event_out);
}

/* ---- memory ---- */

CUresult cuGraphMemAllocNodeGetParams(CUgraphNode hNode, CUDA_MEM_ALLOC_NODE_PARAMS *params_out)
{
        struct answer answer;
        const void *items = NULL;
        CUresult result = ask(&answer, hNode, CU_GRAPH_NODE_TYPE_MEM_ALLOC, params_out, IVG_ID_NONE);

        if (result == CUDA_SUCCESS)
                result = lend_items(&answer, sizeof(CUmemAccessDesc), &items);
        answer_end(&answer);
        if (result != CUDA_SUCCESS)
                return result;
        *params_out = (CUDA_MEM_ALLOC_NODE_PARAMS){
                .poolProps = {.allocType = CU_MEM_ALLOCATION_TYPE_PINNED,
                              .handleTypes = CU_MEM_HANDLE_TYPE_NONE,
                              .location = {.type = (CUmemLocationType)answer.wire.dst_type, .id = answer.wire.which}},
                .accessDescs = items,
                .accessDescCount = answer.wire.count,
                .bytesize = answer.wire.width,
                .dptr = answer.wire.dst};
        return CUDA_SUCCESS;
}

CUresult cuGraphMemFreeNodeGetParams(CUgraphNode hNode, CUdeviceptr *dptr_out)
{
        struct answer answer;
        const CUresult result = ask(&answer, hNode, CU_GRAPH_NODE_TYPE_MEM_FREE, dptr_out, IVG_ID_NONE);

        answer_end(&answer);
        if (result == CUDA_SUCCESS)
                *dptr_out = answer.wire.dst;
        return result;
}

CUresult cuGraphBatchMemOpNodeGetParams(CUgraphNode hNode, CUDA_BATCH_MEM_OP_NODE_PARAMS *nodeParams_out)
{
        struct answer answer;
        const void *items = NULL;
        CUresult result = ask(&answer, hNode, CU_GRAPH_NODE_TYPE_BATCH_MEM_OP, nodeParams_out, IVG_ID_NONE);

        if (result == CUDA_SUCCESS)
                result = lend_items(&answer, sizeof(CUstreamBatchMemOpParams), &items);
        answer_end(&answer);
        if (result != CUDA_SUCCESS)
                return result;
        *nodeParams_out = (CUDA_BATCH_MEM_OP_NODE_PARAMS){
                .ctx = (CUcontext)ivg_object_of_id(IVG_KIND_CONTEXT, answer.wire.context),
                .count = answer.wire.count,
                .paramArray = (CUstreamBatchMemOpParams *)(uintptr_t)items,
                .flags = answer.wire.flags};
        return CUDA_SUCCESS;
}
