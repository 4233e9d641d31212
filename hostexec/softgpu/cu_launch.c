/* Launches: arguments checked and packed at the call, the grid run in stream order. */
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "array.h"
#include "softgpu.h"

#define SG_GRID_X_MAX ((unsigned)INT_MAX)
#define SG_GRID_YZ_MAX 65535u
#define SG_BLOCK_Z_MAX 64u
#define SG_LAUNCH_ATTRIBUTES_MAX 64u
#define SG_EXTRA_WORDS_MAX 16u

/* What every form of launch comes down to. */
struct sg_shape {
        unsigned grid[3], block[3];
        unsigned dynamic_shared_bytes;
        bool cooperative;
        CUevent events[2]; /* to record behind it; NULL: none */
};

struct sg_launch_op {
        struct sg_op op;
        struct sg_function *function;
        struct sg_module *module; /* referenced: keeps the code and its variables */
        struct sg_shape shape;
        size_t param_bytes;
        void **pointers; /* to each of the parameters; behind them */
        unsigned char params[];
};

/* ---- running ---- */

static void sg_print(void *user, const char *text, size_t bytes)
{
        (void)user;
        fwrite(text, 1, bytes, stdout);
        fflush(stdout);
}

static void sg_fault_report(const struct sg_launch_op *launch, enum ptx_status status, const struct ptx_fault *fault)
{
        if (status == PTX_ABORTED)
                return; /* the fault that stopped it has been told */
        sg_report("kernel %s: %s at address 0x%llx, block (%u,%u,%u), thread (%u,%u,%u), PTX line %u: %.*s",
                  launch->function->info.name, ptx_status_name(status), (unsigned long long)fault->address,
                  fault->block[0], fault->block[1], fault->block[2], fault->thread[0], fault->thread[1],
                  fault->thread[2], fault->line, (int)sizeof(fault->detail), fault->detail);
}

static CUresult sg_launch_run(struct sg_op *op, struct sg_stream *stream)
{
        const struct sg_launch_op *launch = (const struct sg_launch_op *)op;
        struct sg_context *context = stream->context;
        struct sg_map *map = sg_map_acquire(context);
        if (map == NULL)
                return CUDA_ERROR_OUT_OF_MEMORY;
        struct ptx_fault fault;
        memset(&fault, 0, sizeof(fault));
        const struct ptx_launch arguments = {
                .function = launch->function->code,
                .grid = {launch->shape.grid[0], launch->shape.grid[1], launch->shape.grid[2]},
                .block = {launch->shape.block[0], launch->shape.block[1], launch->shape.block[2]},
                .dynamic_shared_bytes = launch->shape.dynamic_shared_bytes,
                .params = launch->params,
                .memory = &map->memory,
                .abort = &context->abort,
                .workers = 0,
                .cooperative = launch->shape.cooperative,
                .print = sg_print,
                .texture = sg_texture_view,
                .texture_user = context,
        };
        const enum ptx_status status = ptx_launch(&arguments, &fault);
        sg_map_release(map);
        if (status == PTX_OK) {
                sg_engine_run(context, (uint64_t)launch->shape.grid[0] * launch->shape.grid[1] * launch->shape.grid[2]);
                return CUDA_SUCCESS;
        }
        sg_fault_report(launch, status, &fault);
        return sg_result_of_ptx(status);
}

static void sg_launch_release(struct sg_op *op)
{
        sg_object_put(((struct sg_launch_op *)op)->module);
        sg_op_free(op);
}

static void sg_launch_describe(const struct sg_op *op, CUgraphNodeParams *params)
{
        const struct sg_launch_op *launch = (const struct sg_launch_op *)op;
        const struct sg_shape *shape = &launch->shape;
        params->kernel = (CUDA_KERNEL_NODE_PARAMS_v3){.func = (CUfunction)launch->function,
                                                      .gridDimX = shape->grid[0],
                                                      .gridDimY = shape->grid[1],
                                                      .gridDimZ = shape->grid[2],
                                                      .blockDimX = shape->block[0],
                                                      .blockDimY = shape->block[1],
                                                      .blockDimZ = shape->block[2],
                                                      .sharedMemBytes = shape->dynamic_shared_bytes,
                                                      .kernelParams = launch->pointers};
}

bool sg_launch_is_cooperative(const struct sg_op *op)
{
        return ((const struct sg_launch_op *)op)->shape.cooperative;
}

/* ---- checking ---- */

static CUresult sg_shape_check(const struct sg_function *function, const struct sg_shape *shape)
{
        const unsigned *grid = shape->grid, *block = shape->block;
        for (unsigned i = 0; i < 3; i++)
                if (grid[i] == 0 || block[i] == 0)
                        return CUDA_ERROR_INVALID_VALUE;
        if (grid[0] > SG_GRID_X_MAX || grid[1] > SG_GRID_YZ_MAX || grid[2] > SG_GRID_YZ_MAX)
                return CUDA_ERROR_INVALID_VALUE;
        if (block[0] > SG_THREADS_PER_BLOCK || block[1] > SG_THREADS_PER_BLOCK || block[2] > SG_BLOCK_Z_MAX)
                return CUDA_ERROR_INVALID_VALUE;
        const uint64_t threads = (uint64_t)block[0] * block[1] * block[2];
        if (threads > SG_THREADS_PER_BLOCK)
                return CUDA_ERROR_INVALID_VALUE;
        if (threads > sg_function_threads_max(&function->info))
                return function->info.max_threads < threads ? CUDA_ERROR_INVALID_VALUE
                                                            : CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES;
        if (shape->dynamic_shared_bytes > sg_shared_limit(function))
                return CUDA_ERROR_INVALID_VALUE;
        if (!shape->cooperative)
                return CUDA_SUCCESS;
        /* All blocks must be able to run at once. */
        const uint64_t blocks = (uint64_t)grid[0] * grid[1] * grid[2];
        return blocks <= sg_cooperative_blocks(function, (unsigned)threads, shape->dynamic_shared_bytes)
                       ? CUDA_SUCCESS
                       : CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE;
}

/* A list of (name, value) pairs that ends with CU_LAUNCH_PARAM_END. */
static CUresult sg_params_from_extra(void **extra, unsigned char *params, size_t param_bytes)
{
        const void *buffer = NULL;
        const size_t *buffer_bytes = NULL;
        unsigned at = 0;
        while (extra[at] != CU_LAUNCH_PARAM_END) {
                if (at + 2 > SG_EXTRA_WORDS_MAX)
                        return CUDA_ERROR_INVALID_VALUE;
                if (extra[at] == CU_LAUNCH_PARAM_BUFFER_POINTER)
                        buffer = extra[at + 1];
                else if (extra[at] == CU_LAUNCH_PARAM_BUFFER_SIZE)
                        buffer_bytes = extra[at + 1];
                else
                        return CUDA_ERROR_INVALID_VALUE;
                at += 2;
        }
        if (param_bytes == 0)
                return CUDA_SUCCESS;
        if (buffer == NULL || buffer_bytes == NULL || *buffer_bytes < param_bytes ||
            *buffer_bytes > SG_LAUNCH_PARAM_BYTES_MAX)
                return CUDA_ERROR_INVALID_VALUE;
        memcpy(params, buffer, param_bytes);
        return CUDA_SUCCESS;
}

static CUresult sg_params_from_pointers(const struct sg_function *function, void **pointers, unsigned char *params)
{
        for (size_t i = 0; i < function->info.param_count; i++) {
                size_t offset, bytes;
                if (pointers[i] == NULL || !ptx_function_param(function->code, i, &offset, &bytes))
                        return CUDA_ERROR_INVALID_VALUE;
                memcpy(params + offset, pointers[i], bytes);
        }
        return CUDA_SUCCESS;
}

static CUresult sg_params_pack(const struct sg_function *function, void **pointers, void **extra, unsigned char *params)
{
        if (pointers != NULL && extra != NULL)
                return CUDA_ERROR_INVALID_VALUE;
        if (extra != NULL)
                return sg_params_from_extra(extra, params, function->info.param_bytes);
        if (pointers == NULL)
                return function->info.param_count == 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
        return sg_params_from_pointers(function, pointers, params);
}

/* ---- submitting ---- */

static CUresult sg_launch_in(struct sg_stream *stream, CUfunction handle, const struct sg_shape *shape, void **pointers,
                             void **extra)
{
        struct sg_function *function;
        CUresult result = sg_function_resolve(handle, stream->context, &function);
        if (result == CUDA_SUCCESS && function->module->context != stream->context)
                result = CUDA_ERROR_INVALID_HANDLE;
        if (result == CUDA_SUCCESS)
                result = sg_shape_check(function, shape);
        if (result != CUDA_SUCCESS)
                return result;
        const size_t param_bytes = (function->info.param_bytes + 7) & ~(size_t)7;
        const size_t param_count = function->info.param_count;
        struct sg_launch_op *launch = sg_op_new(sizeof(*launch) + param_bytes + param_count * sizeof(void *),
                                                sg_launch_run, sg_launch_release);
        if (launch == NULL)
                return CUDA_ERROR_OUT_OF_MEMORY;
        launch->op.node_type = CU_GRAPH_NODE_TYPE_KERNEL;
        launch->function = function;
        launch->module = function->module;
        launch->shape = *shape;
        launch->param_bytes = function->info.param_bytes;
        launch->op.describe = sg_launch_describe;
        launch->pointers = (void **)(void *)(launch->params + param_bytes);
        for (size_t i = 0; i < param_count; i++) {
                size_t offset, bytes;
                if (ptx_function_param(function->code, i, &offset, &bytes))
                        launch->pointers[i] = launch->params + offset;
        }
        sg_object_get(launch->module);
        result = sg_params_pack(function, pointers, extra, launch->params);
        if (result != CUDA_SUCCESS) {
                sg_launch_release(&launch->op);
                return result;
        }
        return sg_submit(stream, &launch->op);
}

static CUresult sg_launch(CUstream handle, CUfunction function, const struct sg_shape *shape, void **pointers,
                          void **extra)
{
        struct sg_stream *stream;
        CUresult result = sg_stream_resolve(handle, &stream);
        if (result != CUDA_SUCCESS)
                return result;
        const bool events = shape->events[0] != NULL || shape->events[1] != NULL;
        CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
        if (events) /* edges of a graph carry no data here */
                result = cuStreamIsCapturing(handle, &status);
        if (result == CUDA_SUCCESS && status != CU_STREAM_CAPTURE_STATUS_NONE)
                result = CUDA_ERROR_NOT_SUPPORTED;
        if (result == CUDA_SUCCESS)
                result = sg_launch_in(stream, function, shape, pointers, extra);
        for (unsigned i = 0; events && i < 2 && result == CUDA_SUCCESS; i++)
                if (shape->events[i] != NULL)
                        result = cuEventRecord(shape->events[i], handle);
        sg_object_put(stream);
        return result;
}

SG_ENTRY(cuLaunchKernel, CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
         unsigned block_y, unsigned block_z, unsigned shared_bytes, CUstream stream, void **pointers, void **extra)
{
        const struct sg_shape shape = {
                {grid_x, grid_y, grid_z}, {block_x, block_y, block_z}, shared_bytes, .cooperative = false};
        return sg_launch(stream, function, &shape, pointers, extra);
}

SG_ENTRY(cuLaunchKernel_ptsz, CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
         unsigned block_y, unsigned block_z, unsigned shared_bytes, CUstream stream, void **pointers, void **extra)
{
        return cuLaunchKernel(function, grid_x, grid_y, grid_z, block_x, block_y, block_z, shared_bytes,
                              sg_per_thread(stream), pointers, extra);
}

SG_ENTRY(cuLaunchCooperativeKernel, CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z,
         unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared_bytes, CUstream stream, void **pointers)
{
        const struct sg_shape shape = {
                {grid_x, grid_y, grid_z}, {block_x, block_y, block_z}, shared_bytes, .cooperative = true};
        return sg_launch(stream, function, &shape, pointers, NULL);
}

SG_ENTRY(cuLaunchCooperativeKernel_ptsz, CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z,
         unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared_bytes, CUstream stream, void **pointers)
{
        return cuLaunchCooperativeKernel(function, grid_x, grid_y, grid_z, block_x, block_y, block_z, shared_bytes,
                                         sg_per_thread(stream), pointers);
}

/* ---- launches with attributes ---- */

static CUresult sg_launch_attribute(const CUlaunchAttribute *attribute, struct sg_shape *shape)
{
        switch (attribute->id) {
        case CU_LAUNCH_ATTRIBUTE_COOPERATIVE:
                shape->cooperative = attribute->value.cooperative != 0;
                return CUDA_SUCCESS;
        case CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION:
        case CU_LAUNCH_ATTRIBUTE_PREFERRED_CLUSTER_DIMENSION: {
                const unsigned blocks =
                        attribute->value.clusterDim.x | attribute->value.clusterDim.y | attribute->value.clusterDim.z;
                return blocks <= 1 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CLUSTER_SIZE;
        }
        /* What it says, that the kernel's blocks have begun or let others begin, is true when they have ended, too. */
        case CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_EVENT:
                shape->events[0] = attribute->value.programmaticEvent.event;
                return shape->events[0] != NULL ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
        case CU_LAUNCH_ATTRIBUTE_LAUNCH_COMPLETION_EVENT:
                shape->events[1] = attribute->value.launchCompletionEvent.event;
                return shape->events[1] != NULL ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
        /* Hints, and permissions that need not be used: a kernel that starts after its predecessor's end is what
         * programmatic serialization allows too. */
        case CU_LAUNCH_ATTRIBUTE_IGNORE:
        case CU_LAUNCH_ATTRIBUTE_ACCESS_POLICY_WINDOW:
        case CU_LAUNCH_ATTRIBUTE_SYNCHRONIZATION_POLICY:
        case CU_LAUNCH_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE:
        case CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION:
        case CU_LAUNCH_ATTRIBUTE_PRIORITY:
        case CU_LAUNCH_ATTRIBUTE_MEM_SYNC_DOMAIN_MAP:
        case CU_LAUNCH_ATTRIBUTE_MEM_SYNC_DOMAIN:
        case CU_LAUNCH_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT:
        case CU_LAUNCH_ATTRIBUTE_NVLINK_UTIL_CENTRIC_SCHEDULING:
                return CUDA_SUCCESS;
        default: /* device-updatable nodes: not there */
                return CUDA_ERROR_NOT_SUPPORTED;
        }
}

SG_ENTRY(cuLaunchKernelEx, const CUlaunchConfig *config, CUfunction function, void **pointers, void **extra)
{
        if (config == NULL || config->numAttrs > SG_LAUNCH_ATTRIBUTES_MAX ||
            (config->numAttrs != 0 && config->attrs == NULL))
                return CUDA_ERROR_INVALID_VALUE;
        struct sg_shape shape = {{config->gridDimX, config->gridDimY, config->gridDimZ},
                                 {config->blockDimX, config->blockDimY, config->blockDimZ},
                                 config->sharedMemBytes,
                                 .cooperative = false};
        for (unsigned i = 0; i < config->numAttrs; i++) {
                const CUresult result = sg_launch_attribute(&config->attrs[i], &shape);
                if (result != CUDA_SUCCESS)
                        return result;
        }
        return sg_launch(config->hStream, function, &shape, pointers, extra);
}

SG_ENTRY(cuLaunchKernelEx_ptsz, const CUlaunchConfig *config, CUfunction function, void **pointers, void **extra)
{
        if (config == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        CUlaunchConfig own = *config;
        own.hStream = sg_per_thread(own.hStream);
        return cuLaunchKernelEx(&own, function, pointers, extra);
}
