/* Memory of graphs: nodes that allocate and free.
 *
 * The memory is there, and has its address, from the node's making on, as with stream-ordered allocation (cu_pool.c);
 * what a program can tell, a launch that finds it still allocated and a free too many, is counted when work is given to
 * a stream. It ends when no graph or instance has the node any more and it is free. */
#include <stdlib.h>
#include <string.h>

#include "graph.h"

/* Per device, under sg_memory_lock. */
static struct {
        uint64_t used, used_high, reserved, reserved_high;
} sg_graph_memory[SG_DEVICES_MAX];

static void sg_count_used(const struct sg_allocation *allocation, bool more)
{
        const int device = allocation->device->ordinal;
        sg_graph_memory[device].used += more ? allocation->bytes : -allocation->bytes;
        if (sg_graph_memory[device].used > sg_graph_memory[device].used_high)
                sg_graph_memory[device].used_high = sg_graph_memory[device].used;
}

static void sg_count_reserved(const struct sg_allocation *allocation, bool more)
{
        const int device = allocation->device->ordinal;
        sg_graph_memory[device].reserved += more ? allocation->bytes : -allocation->bytes;
        if (sg_graph_memory[device].reserved > sg_graph_memory[device].reserved_high)
                sg_graph_memory[device].reserved_high = sg_graph_memory[device].reserved;
}

/* ---- work of nodes ---- */

static CUresult sg_memory_check(const struct sg_context *context, const CUDA_MEM_ALLOC_NODE_PARAMS_v2 *params)
{
        if (params->bytesize == 0 || params->poolProps.allocType != CU_MEM_ALLOCATION_TYPE_PINNED ||
            params->poolProps.handleTypes != CU_MEM_HANDLE_TYPE_NONE ||
            (params->accessDescCount != 0 && params->accessDescs == NULL))
                return CUDA_ERROR_INVALID_VALUE;
        if (params->poolProps.location.type != CU_MEM_LOCATION_TYPE_DEVICE ||
            params->poolProps.location.id != context->device->ordinal)
                return CUDA_ERROR_NOT_SUPPORTED;
        for (size_t i = 0; i < params->accessDescCount; i++)
                if (params->accessDescs[i].location.type != CU_MEM_LOCATION_TYPE_DEVICE ||
                    params->accessDescs[i].location.id != context->device->ordinal)
                        return CUDA_ERROR_NOT_SUPPORTED;
        return CUDA_SUCCESS;
}

CUresult sg_graph_memory_work(struct sg_context *context, const CUDA_MEM_ALLOC_NODE_PARAMS_v2 *params,
                              struct sg_graph_work **out)
{
        struct sg_allocation *allocation;
        CUresult result = sg_memory_check(context, params);
        if (result != CUDA_SUCCESS)
                return result;
        struct sg_graph_work *work = sg_graph_work_new(NULL, NULL, NULL);
        if (work == NULL)
                return CUDA_ERROR_OUT_OF_MEMORY;
        if (params->accessDescCount != 0) {
                work->access = calloc(params->accessDescCount, sizeof(*work->access));
                if (work->access == NULL) {
                        sg_graph_work_put(work);
                        return CUDA_ERROR_OUT_OF_MEMORY;
                }
                memcpy(work->access, params->accessDescs, params->accessDescCount * sizeof(*work->access));
                work->access_count = params->accessDescCount;
        }
        result = sg_device_allocate(context, params->bytesize, SG_MEMORY_DEVICE, NULL, &allocation);
        if (result != CUDA_SUCCESS) {
                sg_graph_work_put(work);
                return result;
        }
        pthread_mutex_lock(&sg_memory_lock);
        allocation->held = true;
        sg_allocation_get(allocation);
        sg_count_reserved(allocation, true);
        pthread_mutex_unlock(&sg_memory_lock);
        work->memory = allocation;
        *out = work;
        return CUDA_SUCCESS;
}

CUresult sg_graph_free_work(CUdeviceptr address, struct sg_graph_work **out)
{
        struct sg_allocation *allocation = sg_registry_find(address);
        if (allocation == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        pthread_mutex_lock(&sg_memory_lock);
        const bool known = allocation->start == address && (allocation->held || allocation->live);
        pthread_mutex_unlock(&sg_memory_lock);
        sg_allocation_put(allocation);
        if (!known)
                return CUDA_ERROR_INVALID_VALUE;
        struct sg_graph_work *work = sg_graph_work_new(NULL, NULL, NULL);
        if (work == NULL)
                return CUDA_ERROR_OUT_OF_MEMORY;
        work->freed = address;
        *out = work;
        return CUDA_SUCCESS;
}

/* The node is gone everywhere. What is still allocated is the program's to free, like any other memory. */
void sg_graph_memory_release(struct sg_graph_work *work)
{
        struct sg_allocation *allocation = work->memory;
        free(work->access);
        if (allocation == NULL)
                return;
        pthread_mutex_lock(&sg_memory_lock);
        allocation->held = false;
        const bool over = !allocation->live;
        sg_count_reserved(allocation, false);
        pthread_mutex_unlock(&sg_memory_lock);
        if (over) {
                sg_registry_remove(allocation);
                sg_contexts_forget_maps();
        }
        sg_allocation_put(allocation);
}

/* ---- launches and frees ---- */

static void sg_memory_mark(struct sg_allocation *allocation, bool live)
{
        if (allocation->live != live)
                sg_count_used(allocation, live);
        allocation->live = live;
}

/* In the order of the steps: what is freed before it is allocated was allocated by another launch. */
CUresult sg_graph_memory_launch(const struct sg_plan *plan, bool free_before)
{
        CUresult result = CUDA_SUCCESS;
        pthread_mutex_lock(&sg_memory_lock);
        for (uint32_t i = 0; i < plan->count && result == CUDA_SUCCESS && !free_before; i++)
                if (plan->steps[i].work->memory != NULL && plan->steps[i].work->memory->live)
                        result = CUDA_ERROR_INVALID_VALUE;
        pthread_mutex_unlock(&sg_memory_lock);
        for (uint32_t i = 0; i < plan->count && result == CUDA_SUCCESS; i++) {
                const struct sg_graph_work *work = plan->steps[i].work;
                struct sg_allocation *allocation = work->memory;
                if (work->freed != 0 && (allocation = sg_registry_find(work->freed)) == NULL)
                        result = CUDA_ERROR_INVALID_VALUE;
                if (allocation == NULL)
                        continue;
                pthread_mutex_lock(&sg_memory_lock);
                sg_memory_mark(allocation, work->memory != NULL);
                pthread_mutex_unlock(&sg_memory_lock);
                if (work->freed != 0)
                        sg_allocation_put(allocation);
        }
        return result;
}

bool sg_graph_memory_free(struct sg_allocation *allocation, CUresult *result)
{
        pthread_mutex_lock(&sg_memory_lock);
        const bool held = allocation->held, live = allocation->live;
        if (live)
                sg_memory_mark(allocation, false);
        pthread_mutex_unlock(&sg_memory_lock);
        *result = held && !live ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
        return held;
}

/* ---- captured ---- */

bool sg_capture_allocate(struct sg_stream *stream, size_t bytes, CUdeviceptr *out, CUresult *result)
{
        const CUDA_MEM_ALLOC_NODE_PARAMS_v2 params = {
                .poolProps = {.allocType = CU_MEM_ALLOCATION_TYPE_PINNED,
                              .location = {.type = CU_MEM_LOCATION_TYPE_DEVICE,
                                           .id = stream->context->device->ordinal}},
                .bytesize = bytes};
        struct sg_graph_work *work;
        sg_graph_lock_take();
        const bool taken = stream->capture != NULL;
        if (taken) {
                *result = sg_graph_memory_work(stream->context, &params, &work);
                if (*result == CUDA_SUCCESS) {
                        const CUdeviceptr address = work->memory->start;
                        *result = sg_capture_work(stream, CU_GRAPH_NODE_TYPE_MEM_ALLOC, work);
                        if (*result == CUDA_SUCCESS)
                                *out = address;
                }
        }
        sg_graph_lock_give();
        return taken;
}

bool sg_capture_free(struct sg_stream *stream, CUdeviceptr address, CUresult *result)
{
        struct sg_graph_work *work;
        sg_graph_lock_take();
        const bool taken = stream->capture != NULL;
        if (taken) {
                *result = sg_graph_free_work(address, &work);
                if (*result == CUDA_SUCCESS)
                        *result = sg_capture_work(stream, CU_GRAPH_NODE_TYPE_MEM_FREE, work);
        }
        sg_graph_lock_give();
        return taken;
}

/* ---- what a device's graphs have ---- */

SG_ENTRY(cuDeviceGraphMemTrim, CUdevice ordinal)
{
        struct sg_device *device;
        return sg_device_find(ordinal, &device); /* nothing is kept that no graph has */
}

SG_ENTRY(cuDeviceGetGraphMemAttribute, CUdevice ordinal, CUgraphMem_attribute attribute, void *value)
{
        struct sg_device *device;
        CUresult result = sg_device_find(ordinal, &device);
        cuuint64_t wide = 0;
        if (result == CUDA_SUCCESS && value == NULL)
                result = CUDA_ERROR_INVALID_VALUE;
        if (result != CUDA_SUCCESS)
                return result;
        pthread_mutex_lock(&sg_memory_lock);
        switch (attribute) {
        case CU_GRAPH_MEM_ATTR_USED_MEM_CURRENT:
                wide = sg_graph_memory[ordinal].used;
                break;
        case CU_GRAPH_MEM_ATTR_USED_MEM_HIGH:
                wide = sg_graph_memory[ordinal].used_high;
                break;
        case CU_GRAPH_MEM_ATTR_RESERVED_MEM_CURRENT:
                wide = sg_graph_memory[ordinal].reserved;
                break;
        case CU_GRAPH_MEM_ATTR_RESERVED_MEM_HIGH:
                wide = sg_graph_memory[ordinal].reserved_high;
                break;
        default:
                result = CUDA_ERROR_INVALID_VALUE;
        }
        pthread_mutex_unlock(&sg_memory_lock);
        if (result == CUDA_SUCCESS)
                memcpy(value, &wide, sizeof(wide));
        return result;
}

/* Only a reset to zero is allowed. */
SG_ENTRY(cuDeviceSetGraphMemAttribute, CUdevice ordinal, CUgraphMem_attribute attribute, void *value)
{
        struct sg_device *device;
        cuuint64_t zero = 1;
        CUresult result = sg_device_find(ordinal, &device);
        if (result != CUDA_SUCCESS)
                return result;
        if (value != NULL)
                memcpy(&zero, value, sizeof(zero));
        if (zero != 0)
                return CUDA_ERROR_INVALID_VALUE;
        pthread_mutex_lock(&sg_memory_lock);
        if (attribute == CU_GRAPH_MEM_ATTR_USED_MEM_HIGH)
                sg_graph_memory[ordinal].used_high = sg_graph_memory[ordinal].used;
        else if (attribute == CU_GRAPH_MEM_ATTR_RESERVED_MEM_HIGH)
                sg_graph_memory[ordinal].reserved_high = sg_graph_memory[ordinal].reserved;
        else
                result = CUDA_ERROR_INVALID_VALUE;
        pthread_mutex_unlock(&sg_memory_lock);
        return result;
}
