/* What a graph's node does, told in the guest's terms: numbers for handles, its own addresses for host functions. All
 * of it asks the driver, as captures make nodes that nobody else knows of. Attributes and the drawing of graphs. */
#include "exec_internal.h"
#include "host_args.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define IVG_NODE_OPERATIONS_MAX 256u
#define IVG_NODE_PARAMETERS_MAX 32764u /* bytes of a kernel's parameters, and so the most there are of them */

struct get {
        struct ivg_exec_call *call;
        const struct ivg_driver *driver;
        CUgraphNode node;
        struct ivg_wire_graph_node *wire;
        uint8_t *payload;
        uint32_t payload_bytes, used;
};

/* ---- numbers of handles ---- */

struct search {
        const void *handle;
        ivg_id id;
};

static void search_visit(void *argument, ivg_id id, void *handle)
{
        struct search *search = argument;

        if (handle == search->handle)
                search->id = id;
}

/* By the driver's handle; IVG_ID_NONE. A pass over the table: for calls that nobody makes often. */
static ivg_id number_of(struct ivg_exec *exec, enum ivg_kind kind, const void *handle)
{
        struct search search = {.handle = handle, .id = IVG_ID_NONE};

        if (handle)
                ivg_handles_visit(exec, kind, search_visit, &search);
        return search.id;
}

struct kernels {
        uint32_t count, capacity;
        struct {
                ivg_id id;
                CUkernel kernel;
        } * items;
};

static void kernels_visit(void *argument, ivg_id id, void *handle)
{
        struct kernels *kernels = argument;

        if (kernels->count == kernels->capacity) {
                const uint32_t capacity = kernels->capacity ? 2 * kernels->capacity : 256;
                void *more = realloc(kernels->items, capacity * sizeof(kernels->items[0]));

                if (!more)
                        return;
                kernels->items = more;
                kernels->capacity = capacity;
        }
        kernels->items[kernels->count].id = id;
        kernels->items[kernels->count++].kernel = handle;
}

/* The kernel whose function in this context this is. Names first: asking a kernel for its function loads its code. */
static ivg_id kernel_of_function(struct ivg_exec *exec, CUfunction function)
{
        const struct ivg_driver *driver = &exec->driver;
        struct kernels kernels = {.count = 0};
        const char *name = NULL;
        ivg_id id = IVG_ID_NONE;

        if (!driver->cuFuncGetName || !driver->cuKernelGetName || !driver->cuKernelGetFunction ||
            driver->cuFuncGetName(&name, function) != CUDA_SUCCESS || !name)
                return IVG_ID_NONE;
        ivg_handles_visit(exec, IVG_KIND_KERNEL, kernels_visit, &kernels);
        for (uint32_t i = 0; i < kernels.count && id == IVG_ID_NONE; i++) {
                const char *other = NULL;
                CUfunction own = NULL;

                if (driver->cuKernelGetName(&other, kernels.items[i].kernel) == CUDA_SUCCESS && other &&
                    strcmp(name, other) == 0 &&
                    driver->cuKernelGetFunction(&own, kernels.items[i].kernel) == CUDA_SUCCESS && own == function)
                        id = kernels.items[i].id;
        }
        free(kernels.items);
        return id;
}

/* ---- kernels ---- */

static CUresult parameter_at(const struct get *get, const CUDA_KERNEL_NODE_PARAMS_v2 *p, size_t index, size_t *offset,
                             size_t *bytes)
{
        if (p->func)
                return get->driver->cuFuncGetParamInfo ? get->driver->cuFuncGetParamInfo(p->func, index, offset, bytes)
                                                       : CUDA_ERROR_NOT_SUPPORTED;
        return get->driver->cuKernelGetParamInfo ? get->driver->cuKernelGetParamInfo(p->kern, index, offset, bytes)
                                                 : CUDA_ERROR_NOT_SUPPORTED;
}

static CUresult pack_pointers(struct get *get, const CUDA_KERNEL_NODE_PARAMS_v2 *p)
{
        for (size_t i = 0; i <= IVG_NODE_PARAMETERS_MAX; i++) {
                size_t offset = 0, bytes = 0;
                const CUresult result = parameter_at(get, p, i, &offset, &bytes);

                if (result == CUDA_ERROR_INVALID_VALUE) /* no such parameter: that was all */
                        return CUDA_SUCCESS;
                if (result != CUDA_SUCCESS)
                        return result;
                if (bytes > get->payload_bytes || offset > get->payload_bytes - bytes || !p->kernelParams[i])
                        return CUDA_ERROR_INVALID_VALUE;
                memcpy(get->payload + offset, p->kernelParams[i], bytes);
                if (get->used < offset + bytes)
                        get->used = (uint32_t)(offset + bytes);
        }
        return CUDA_ERROR_UNKNOWN;
}

static CUresult pack_extra(struct get *get, void *const *extra)
{
        const void *buffer = NULL;
        size_t bytes = 0;

        for (uint32_t i = 0; i < 4 && extra[i] != CU_LAUNCH_PARAM_END; i += 2) {
                if (extra[i] == CU_LAUNCH_PARAM_BUFFER_POINTER)
                        buffer = extra[i + 1];
                else if (extra[i] == CU_LAUNCH_PARAM_BUFFER_SIZE && extra[i + 1])
                        bytes = *(const size_t *)extra[i + 1];
        }
        if (bytes > get->payload_bytes || (bytes && !buffer))
                return CUDA_ERROR_INVALID_VALUE;
        if (bytes)
                memcpy(get->payload, buffer, bytes);
        get->used = (uint32_t)bytes;
        return CUDA_SUCCESS;
}

static CUresult kernel_numbers(struct get *get, const CUDA_KERNEL_NODE_PARAMS_v2 *p)
{
        struct ivg_exec *exec = get->call->exec;

        get->wire->object = number_of(exec, IVG_KIND_KERNEL, p->kern);
        get->wire->context = number_of(exec, IVG_KIND_CONTEXT, p->ctx);
        if (p->func) {
                get->wire->function = number_of(exec, IVG_KIND_FUNCTION, p->func);
                if (get->wire->function == IVG_ID_NONE) /* launched as a kernel, which calls take in its place */
                        get->wire->function = number_of(exec, IVG_KIND_KERNEL, p->func);
                if (get->wire->function == IVG_ID_NONE) {
                        get->wire->function = kernel_of_function(exec, p->func);
                        get->wire->flags = IVG_NODE_FUNCTION_OF_KERNEL;
                }
        }
        return get->wire->function != IVG_ID_NONE || get->wire->object != IVG_ID_NONE ? CUDA_SUCCESS
                                                                                      : CUDA_ERROR_INVALID_HANDLE;
}

static CUresult get_kernel(struct get *get)
{
        CUDA_KERNEL_NODE_PARAMS_v2 p;
        CUresult result;

        memset(&p, 0, sizeof(p));
        if (!get->driver->cuGraphKernelNodeGetParams_v2)
                return CUDA_ERROR_NOT_SUPPORTED;
        result = get->driver->cuGraphKernelNodeGetParams_v2(get->node, &p);
        if (result == CUDA_SUCCESS)
                result = kernel_numbers(get, &p);
        if (result != CUDA_SUCCESS)
                return result;
        get->wire->grid[0] = p.gridDimX;
        get->wire->grid[1] = p.gridDimY;
        get->wire->grid[2] = p.gridDimZ;
        get->wire->block[0] = p.blockDimX;
        get->wire->block[1] = p.blockDimY;
        get->wire->block[2] = p.blockDimZ;
        get->wire->shared_bytes = p.sharedMemBytes;
        if (p.kernelParams)
                return pack_pointers(get, &p);
        return p.extra ? pack_extra(get, p.extra) : CUDA_SUCCESS;
}

/* ---- copies and sets ---- */

/* One end of a copy, as the driver's structure has it. */
struct end {
        CUmemorytype type;
        CUarray array;
        uint64_t address, x, y, z, pitch, rows;
};

/* Where the box begins: an address, or a place in an array. */
static void get_end(const struct get *get, const struct end *end, uint32_t *type, ivg_id *array, uint64_t *at,
                    uint64_t *pitch, uint64_t *rows)
{
        const bool is_array = end->type == CU_MEMORYTYPE_ARRAY;

        *type = end->type;
        *array = is_array ? number_of(get->call->exec, IVG_KIND_ARRAY, end->array) : IVG_ID_NONE;
        *at = is_array ? end->x : end->address + end->x + (end->y + end->z * end->rows) * end->pitch;
        *pitch = is_array ? end->y : end->pitch;
        *rows = is_array ? end->z : end->rows;
}

static CUresult get_memcpy(struct get *get)
{
        CUDA_MEMCPY3D p;
        CUresult result;

        memset(&p, 0, sizeof(p));
        if (!get->driver->cuGraphMemcpyNodeGetParams)
                return CUDA_ERROR_NOT_SUPPORTED;
        result = get->driver->cuGraphMemcpyNodeGetParams(get->node, &p);
        if (result != CUDA_SUCCESS)
                return result;
        const struct end from = {.type = p.srcMemoryType,
                                 .array = p.srcArray,
                                 .address = p.srcMemoryType == CU_MEMORYTYPE_HOST ? (uintptr_t)p.srcHost : p.srcDevice,
                                 .x = p.srcXInBytes,
                                 .y = p.srcY,
                                 .z = p.srcZ,
                                 .pitch = p.srcPitch,
                                 .rows = p.srcHeight};
        const struct end to = {.type = p.dstMemoryType,
                               .array = p.dstArray,
                               .address = p.dstMemoryType == CU_MEMORYTYPE_HOST ? (uintptr_t)p.dstHost : p.dstDevice,
                               .x = p.dstXInBytes,
                               .y = p.dstY,
                               .z = p.dstZ,
                               .pitch = p.dstPitch,
                               .rows = p.dstHeight};
        get_end(get, &from, &get->wire->src_type, &get->wire->src_array, &get->wire->src, &get->wire->src_pitch,
                &get->wire->src_height);
        get_end(get, &to, &get->wire->dst_type, &get->wire->dst_array, &get->wire->dst, &get->wire->dst_pitch,
                &get->wire->dst_height);
        get->wire->width = p.WidthInBytes;
        get->wire->height = p.Height;
        get->wire->depth = p.Depth;
        return CUDA_SUCCESS;
}

static CUresult get_memset(struct get *get)
{
        CUDA_MEMSET_NODE_PARAMS_v1 p;
        CUresult result;

        memset(&p, 0, sizeof(p));
        if (!get->driver->cuGraphMemsetNodeGetParams)
                return CUDA_ERROR_NOT_SUPPORTED;
        result = get->driver->cuGraphMemsetNodeGetParams(get->node, &p);
        get->wire->dst = p.dst;
        get->wire->dst_pitch = p.pitch;
        get->wire->value = p.value;
        get->wire->element_bytes = p.elementSize;
        get->wire->width = p.width;
        get->wire->height = p.height;
        return result;
}

/* ---- what names one thing ---- */

static CUresult get_host(struct get *get)
{
        CUDA_HOST_NODE_PARAMS_v1 p = {.fn = NULL};
        CUresult result;

        if (!get->driver->cuGraphHostNodeGetParams)
                return CUDA_ERROR_NOT_SUPPORTED;
        result = get->driver->cuGraphHostNodeGetParams(get->node, &p);
        if (result != CUDA_SUCCESS)
                return result;
        if (p.fn != ivg_callback_host_function) /* the driver's own, for a stream callback */
                return CUDA_ERROR_NOT_SUPPORTED;
        ivg_callback_describe(p.userData, &get->wire->host_function, &get->wire->host_data);
        return CUDA_SUCCESS;
}

static CUresult get_graph(struct get *get, ivg_id fresh)
{
        CUgraph graph = NULL;
        CUresult result;

        if (!get->driver->cuGraphChildGraphNodeGetGraph)
                return CUDA_ERROR_NOT_SUPPORTED;
        result = get->driver->cuGraphChildGraphNodeGetGraph(get->node, &graph);
        if (result == CUDA_SUCCESS)
                get->wire->object = ivg_graph_of_node_number(get->call, graph, fresh);
        return result;
}

static CUresult get_event(struct get *get, CUresult (*ask)(CUgraphNode, CUevent *))
{
        CUevent event = NULL;
        const CUresult result = ask ? ask(get->node, &event) : CUDA_ERROR_NOT_SUPPORTED;

        if (result == CUDA_SUCCESS)
                get->wire->object = number_of(get->call->exec, IVG_KIND_EVENT, event);
        return result;
}

/* ---- memory ---- */

static CUresult give_items(struct get *get, const void *items, size_t item_bytes, size_t count)
{
        if (count > get->payload_bytes / item_bytes)
                return CUDA_ERROR_INVALID_VALUE;
        if (count)
                memcpy(get->payload, items, count * item_bytes);
        get->used = (uint32_t)(count * item_bytes);
        get->wire->count = (uint32_t)count;
        return CUDA_SUCCESS;
}

static CUresult get_alloc(struct get *get)
{
        CUDA_MEM_ALLOC_NODE_PARAMS_v1 p;
        CUresult result;

        memset(&p, 0, sizeof(p));
        if (!get->driver->cuGraphMemAllocNodeGetParams)
                return CUDA_ERROR_NOT_SUPPORTED;
        result = get->driver->cuGraphMemAllocNodeGetParams(get->node, &p);
        if (result != CUDA_SUCCESS)
                return result;
        get->wire->width = p.bytesize;
        get->wire->dst = p.dptr;
        get->wire->dst_type = p.poolProps.location.type;
        get->wire->which = p.poolProps.location.id;
        return give_items(get, p.accessDescs, sizeof(CUmemAccessDesc), p.accessDescs ? p.accessDescCount : 0);
}

static CUresult get_free(struct get *get)
{
        CUdeviceptr address = 0;
        const CUresult result = get->driver->cuGraphMemFreeNodeGetParams
                                        ? get->driver->cuGraphMemFreeNodeGetParams(get->node, &address)
                                        : CUDA_ERROR_NOT_SUPPORTED;

        get->wire->dst = address;
        return result;
}

static CUresult get_batch(struct get *get)
{
        CUDA_BATCH_MEM_OP_NODE_PARAMS_v1 p = {.ctx = NULL};
        CUresult result;

        if (!get->driver->cuGraphBatchMemOpNodeGetParams)
                return CUDA_ERROR_NOT_SUPPORTED;
        result = get->driver->cuGraphBatchMemOpNodeGetParams(get->node, &p);
        if (result != CUDA_SUCCESS)
                return result;
        if (p.count > IVG_NODE_OPERATIONS_MAX || !p.paramArray)
                return CUDA_ERROR_INVALID_VALUE;
        get->wire->flags = p.flags;
        get->wire->context = number_of(get->call->exec, IVG_KIND_CONTEXT, p.ctx);
        result = give_items(get, p.paramArray, sizeof(*p.paramArray), p.count);
        /* `alias` is the driver's own. */
        for (uint32_t i = 0; result == CUDA_SUCCESS && i < p.count; i++) {
                CUstreamBatchMemOpParams item;

                memcpy(&item, get->payload + i * sizeof(item), sizeof(item));
                item.waitValue.alias = 0; /* at one place in both forms that have it */
                memcpy(get->payload + i * sizeof(item), &item, sizeof(item));
        }
        return result;
}

static CUresult get_by_type(struct get *get, ivg_id fresh)
{
        switch (get->wire->type) {
        case CU_GRAPH_NODE_TYPE_KERNEL:
                return get_kernel(get);
        case CU_GRAPH_NODE_TYPE_MEMCPY:
                return get_memcpy(get);
        case CU_GRAPH_NODE_TYPE_MEMSET:
                return get_memset(get);
        case CU_GRAPH_NODE_TYPE_HOST:
                return get_host(get);
        case CU_GRAPH_NODE_TYPE_GRAPH:
                return get_graph(get, fresh);
        case CU_GRAPH_NODE_TYPE_WAIT_EVENT:
                return get_event(get, get->driver->cuGraphEventWaitNodeGetEvent);
        case CU_GRAPH_NODE_TYPE_EVENT_RECORD:
                return get_event(get, get->driver->cuGraphEventRecordNodeGetEvent);
        case CU_GRAPH_NODE_TYPE_MEM_ALLOC:
                return get_alloc(get);
        case CU_GRAPH_NODE_TYPE_MEM_FREE:
                return get_free(get);
        case CU_GRAPH_NODE_TYPE_BATCH_MEM_OP:
                return get_batch(get);
        default: /* nothing that a getter gives */
                return CUDA_SUCCESS;
        }
}

CUresult ivg_host_ivgGraphNodeGetParams(struct ivg_exec_call *call, const struct ivg_args_ivgGraphNodeGetParams *args)
{
        /* The payload is made here and copied as it is at last: the guest may write to its own memory meanwhile. */
        struct get get = {.call = call,
                          .driver = ivg_exec_driver(call->exec),
                          .node = args->node,
                          .wire = &args->answer->params,
                          .payload = calloc(1, IVG_NODE_PAYLOAD_BYTES_MAX),
                          .payload_bytes = IVG_NODE_PAYLOAD_BYTES_MAX};
        CUgraphNodeType type = CU_GRAPH_NODE_TYPE_EMPTY;
        CUresult result = get.payload ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;

        if (result == CUDA_SUCCESS)
                result = get.driver->cuGraphNodeGetType ? get.driver->cuGraphNodeGetType(get.node, &type)
                                                        : CUDA_ERROR_NOT_SUPPORTED;
        get.wire->type = type;
        if (result == CUDA_SUCCESS)
                result = get_by_type(&get, args->fresh);
        args->answer->payload_used = get.used;
        if (result == CUDA_SUCCESS && get.used) {
                if (args->payload && args->payload_bytes >= get.used)
                        memcpy(args->payload, get.payload, get.used);
                else
                        result = CUDA_ERROR_INVALID_VALUE;
        }
        free(get.payload);
        return result;
}

/* ---- attributes of kernel nodes ---- */

CUresult ivg_host_cuGraphKernelNodeGetAttribute(struct ivg_exec_call *call,
                                                const struct ivg_args_cuGraphKernelNodeGetAttribute *args)
{
        const struct ivg_driver *driver = ivg_exec_driver(call->exec);
        CUlaunchAttribute attribute = {.id = (CUlaunchAttributeID)args->attr};
        CUresult result;

        if (attribute.id == CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_EVENT ||
            attribute.id == CU_LAUNCH_ATTRIBUTE_LAUNCH_COMPLETION_EVENT)
                return CUDA_ERROR_INVALID_VALUE; /* of launches, not of nodes */
        result = ivg_launch_attribute(call, &attribute);
        if (result != CUDA_SUCCESS)
                return result;
        if (!driver->cuGraphKernelNodeGetAttribute)
                return CUDA_ERROR_NOT_SUPPORTED;
        result = driver->cuGraphKernelNodeGetAttribute(args->hNode, attribute.id, &attribute.value);
        args->answer->value_out = attribute.value;
        return result;
}

CUresult ivg_host_cuGraphKernelNodeSetAttribute(struct ivg_exec_call *call,
                                                const struct ivg_args_cuGraphKernelNodeSetAttribute *args)
{
        const struct ivg_driver *driver = ivg_exec_driver(call->exec);
        CUlaunchAttribute attribute = {.id = (CUlaunchAttributeID)args->attr, .value = args->value};
        const CUresult result = ivg_launch_attribute(call, &attribute);

        if (result != CUDA_SUCCESS)
                return result;
        return driver->cuGraphKernelNodeSetAttribute
                       ? driver->cuGraphKernelNodeSetAttribute(args->hNode, attribute.id, &attribute.value)
                       : CUDA_ERROR_NOT_SUPPORTED;
}

/* ---- drawing ---- */

/* The text of the file, as much of it as there is room for. */
static CUresult read_drawing(int fd, const struct ivg_args_ivgGraphDebugDot *args)
{
        struct stat status;
        size_t done = 0;

        if (fstat(fd, &status) < 0)
                return CUDA_ERROR_OPERATING_SYSTEM;
        args->answer->bytes = (uint64_t)status.st_size;
        while (args->text && done < args->text_bytes && done < (uint64_t)status.st_size) {
                const ssize_t got = pread(fd, (uint8_t *)args->text + done, args->text_bytes - done, (off_t)done);

                if (got < 0 && errno == EINTR)
                        continue;
                if (got <= 0)
                        return CUDA_ERROR_OPERATING_SYSTEM;
                done += (size_t)got;
        }
        return CUDA_SUCCESS;
}

/* Into memory, by a path of the executor's own: the guest names none. */
CUresult ivg_host_ivgGraphDebugDot(struct ivg_exec_call *call, const struct ivg_args_ivgGraphDebugDot *args)
{
        const struct ivg_driver *driver = ivg_exec_driver(call->exec);
        char path[64];
        CUresult result;
        int fd;

        if (!driver->cuGraphDebugDotPrint)
                return CUDA_ERROR_NOT_SUPPORTED;
        fd = memfd_create("ivgpu-drawing", MFD_CLOEXEC);
        if (fd < 0)
                return CUDA_ERROR_OPERATING_SYSTEM;
        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        result = driver->cuGraphDebugDotPrint(args->graph, path, args->flags);
        if (result == CUDA_SUCCESS)
                result = read_drawing(fd, args);
        close(fd);
        return result;
}
