/* What graph nodes do, brought into the form in which it travels. */
#include "graph.h"
#include "launch.h"
#include "memory.h"
#include <stdlib.h>
#include <string.h>

#define OPERATIONS_MAX 256u /* of one batch, as for streams */
#define ACCESSES_MAX 64u    /* of one allocation, as for pools */

void ivg_node_end(struct ivg_node *node)
{
        free(node->payload);
        node->payload = NULL;
}

static CUresult payload_copy(struct ivg_node *node, const void *items, size_t item_bytes, size_t count)
{
        node->payload_bytes = item_bytes * count;
        node->payload = malloc(node->payload_bytes + 1);
        if (node->payload == NULL)
                return CUDA_ERROR_OUT_OF_MEMORY;
        if (count > 0)
                memcpy(node->payload, items, node->payload_bytes);
        return CUDA_SUCCESS;
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

CUresult ivg_node_kernel(struct ivg_node *node, const CUDA_KERNEL_NODE_PARAMS *p)
{
        *node = (struct ivg_node){.wire.type = CU_GRAPH_NODE_TYPE_KERNEL};
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
        if (p->func == NULL) { /* beside `func`, `ctx` has no meaning */
                const CUresult result = context_is_current(p->ctx);
                if (result != CUDA_SUCCESS)
                        return result;
        }
        return ivg_launch_node(&launch, &node->wire.function, &node->payload, &node->payload_bytes);
}

CUresult ivg_node_kernel_v1(struct ivg_node *node, const CUDA_KERNEL_NODE_PARAMS_v1 *p)
{
        CUDA_KERNEL_NODE_PARAMS params;

        if (p == NULL)
                return ivg_node_kernel(node, NULL);
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
        return ivg_node_kernel(node, &params);
}

CUresult ivg_node_memcpy(struct ivg_node *node, const CUDA_MEMCPY3D *p, CUcontext context)
{
        const CUresult result = context_is_current(context);

        *node = (struct ivg_node){.wire.type = CU_GRAPH_NODE_TYPE_MEMCPY};
        return result == CUDA_SUCCESS ? ivg_copy_node(p, node) : result;
}

CUresult ivg_node_memset(struct ivg_node *node, const CUDA_MEMSET_NODE_PARAMS *p, CUcontext context)
{
        const CUresult result = context_is_current(context);

        *node = (struct ivg_node){.wire.type = CU_GRAPH_NODE_TYPE_MEMSET};
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

CUresult ivg_node_host(struct ivg_node *node, const CUDA_HOST_NODE_PARAMS *p)
{
        *node = (struct ivg_node){.wire.type = CU_GRAPH_NODE_TYPE_HOST};
        if (p == NULL || p->fn == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        node->wire.host_function = (uintptr_t)p->fn;
        node->wire.host_data = (uintptr_t)p->userData;
        return ivg_callbacks_require();
}

CUresult ivg_node_batch(struct ivg_node *node, const CUDA_BATCH_MEM_OP_NODE_PARAMS *p)
{
        const CUresult result = p != NULL ? context_is_current(p->ctx) : CUDA_ERROR_INVALID_VALUE;

        *node = (struct ivg_node){.wire.type = CU_GRAPH_NODE_TYPE_BATCH_MEM_OP};
        if (result != CUDA_SUCCESS)
                return result;
        if (p->count == 0 || p->paramArray == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        if (p->count > OPERATIONS_MAX)
                return ivg_refuse("a graph node with more than 256 memory operations");
        node->wire.count = p->count;
        node->wire.flags = p->flags;
        return payload_copy(node, p->paramArray, sizeof(*p->paramArray), p->count);
}

CUresult ivg_node_alloc(struct ivg_node *node, const CUDA_MEM_ALLOC_NODE_PARAMS *p)
{
        *node = (struct ivg_node){.wire.type = CU_GRAPH_NODE_TYPE_MEM_ALLOC};
        if (p == NULL || p->bytesize == 0 || p->poolProps.allocType != CU_MEM_ALLOCATION_TYPE_PINNED ||
            (p->accessDescCount > 0 && p->accessDescs == NULL))
                return CUDA_ERROR_INVALID_VALUE;
        if (p->poolProps.handleTypes != CU_MEM_HANDLE_TYPE_NONE || p->poolProps.win32SecurityAttributes != NULL)
                return CUDA_ERROR_INVALID_VALUE; /* as documented: graphs do not share their memory */
        if (p->accessDescCount > ACCESSES_MAX)
                return ivg_refuse("a graph's allocation with more than 64 access descriptions");
        node->wire.width = p->bytesize;
        node->wire.dst_type = p->poolProps.location.type;
        node->wire.which = p->poolProps.location.id;
        node->wire.count = (uint32_t)p->accessDescCount;
        return payload_copy(node, p->accessDescs, sizeof(*p->accessDescs), p->accessDescCount);
}

CUresult ivg_node_free(struct ivg_node *node, CUdeviceptr address)
{
        *node = (struct ivg_node){.wire.type = CU_GRAPH_NODE_TYPE_MEM_FREE, .wire.dst = address};
        return address != 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

/* A node that names one object. */
static CUresult node_of_object(struct ivg_node *node, CUgraphNodeType type, enum ivg_kind kind, const void *handle)
{
        const struct ivg_object *object = ivg_object_of(kind, handle);

        *node = (struct ivg_node){.wire.type = type};
        if (object == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        node->wire.object = object->id;
        return CUDA_SUCCESS;
}

static CUresult node_child(struct ivg_node *node, const CUDA_CHILD_GRAPH_NODE_PARAMS *p)
{
        const CUresult result = node_of_object(node, CU_GRAPH_NODE_TYPE_GRAPH, IVG_KIND_GRAPH, p->graph);

        if (result == CUDA_SUCCESS && p->ownership != CU_GRAPH_CHILD_GRAPH_OWNERSHIP_CLONE)
                return ivg_refuse("cuGraphAddNode with a child graph that moves");
        return result;
}

static CUresult node_conditional(struct ivg_node *node, const CUDA_CONDITIONAL_NODE_PARAMS *p)
{
        const CUresult result = context_is_current(p->ctx);

        *node = (struct ivg_node){.wire.type = CU_GRAPH_NODE_TYPE_CONDITIONAL};
        if (result != CUDA_SUCCESS)
                return result;
        if (p->size == 0)
                return CUDA_ERROR_INVALID_VALUE;
        if (p->size > IVG_GRAPH_BODIES_MAX)
                return ivg_refuse("a conditional node with more than 256 bodies");
        node->wire.handle = p->handle;
        node->wire.which = (int32_t)p->type;
        node->wire.count = p->size;
        return CUDA_SUCCESS;
}

CUresult ivg_node_generic(struct ivg_node *node, const CUgraphNodeParams *p)
{
        *node = (struct ivg_node){.payload = NULL};
        if (p == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        switch (p->type) {
        case CU_GRAPH_NODE_TYPE_KERNEL: {
                const CUDA_KERNEL_NODE_PARAMS_v3 *k = &p->kernel;
                const CUDA_KERNEL_NODE_PARAMS params = {k->func,         k->gridDimX,  k->gridDimY,  k->gridDimZ,
                                                        k->blockDimX,    k->blockDimY, k->blockDimZ, k->sharedMemBytes,
                                                        k->kernelParams, k->extra,     k->kern,      k->ctx};
                return ivg_node_kernel(node, &params);
        }
        case CU_GRAPH_NODE_TYPE_MEMCPY:
                return ivg_node_memcpy(node, &p->memcpy.copyParams, p->memcpy.copyCtx);
        case CU_GRAPH_NODE_TYPE_MEMSET: {
                const CUDA_MEMSET_NODE_PARAMS params = {p->memset.dst,         p->memset.pitch, p->memset.value,
                                                        p->memset.elementSize, p->memset.width, p->memset.height};
                return ivg_node_memset(node, &params, p->memset.ctx);
        }
        case CU_GRAPH_NODE_TYPE_HOST:
                return ivg_node_host(node, &(CUDA_HOST_NODE_PARAMS){p->host.fn, p->host.userData});
        case CU_GRAPH_NODE_TYPE_GRAPH:
                return node_child(node, &p->graph);
        case CU_GRAPH_NODE_TYPE_EMPTY:
                node->wire.type = CU_GRAPH_NODE_TYPE_EMPTY;
                return CUDA_SUCCESS;
        case CU_GRAPH_NODE_TYPE_WAIT_EVENT:
                return node_of_object(node, p->type, IVG_KIND_EVENT, p->eventWait.event);
        case CU_GRAPH_NODE_TYPE_EVENT_RECORD:
                if (ivg_object_of(IVG_KIND_EVENT, p->eventRecord.event) != NULL)
                        ivg_signal_leave(ivg_object_of(IVG_KIND_EVENT, p->eventRecord.event));
                return node_of_object(node, p->type, IVG_KIND_EVENT, p->eventRecord.event);
        case CU_GRAPH_NODE_TYPE_EXT_SEMAS_SIGNAL:
        case CU_GRAPH_NODE_TYPE_EXT_SEMAS_WAIT:
                return ivg_refuse("graph node of an external semaphore");
        case CU_GRAPH_NODE_TYPE_MEM_ALLOC: {
                const CUDA_MEM_ALLOC_NODE_PARAMS params = {.poolProps = p->alloc.poolProps,
                                                           .accessDescs = p->alloc.accessDescs,
                                                           .accessDescCount = p->alloc.accessDescCount,
                                                           .bytesize = p->alloc.bytesize};
                return ivg_node_alloc(node, &params);
        }
        case CU_GRAPH_NODE_TYPE_MEM_FREE:
                return ivg_node_free(node, p->free.dptr);
        case CU_GRAPH_NODE_TYPE_BATCH_MEM_OP: {
                const CUDA_BATCH_MEM_OP_NODE_PARAMS params = {p->memOp.ctx, p->memOp.count, p->memOp.paramArray,
                                                              p->memOp.flags};
                return ivg_node_batch(node, &params);
        }
        case CU_GRAPH_NODE_TYPE_CONDITIONAL:
                return node_conditional(node, &p->conditional);
        default:
                return CUDA_ERROR_INVALID_VALUE;
        }
}
