/* Launches: the hot path of everything. One look-up, one pass over the parameters, one record; no lock, no allocation,
 * no system call once the function's description is here.
 *
 * What CUDA refuses at once without asking the device is refused here: shapes that cannot run, shared memory beyond the
 * function's limit. Before a refusal by a cached limit the limit is fetched again: errors are rare, a wrong one is not
 * allowed. Everything else surfaces later, as the interface allows for launches. */
#include "launch.h"
#include "context.h"
#include "cuda_api.h"
#include "guest_send.h"
#include <stdlib.h>
#include <string.h>

#define PARAMETERS_ON_STACK 4096u /* every kernel before CUDA 12.1, and nearly every one since */

struct shape {
        uint32_t grid_x, grid_y, grid_z, block_x, block_y, block_z, shared_bytes;
};

/* A launch as it crosses, with its parameters in the record: what every launch is whose parameters are that few. */
struct launch_record {
        struct ivg_request_ivgLaunch request;
        uint8_t parameters[IVG_RECORD_PAYLOAD_BYTES_MAX - sizeof(struct ivg_request_ivgLaunch)];
};
_Static_assert(sizeof(struct launch_record) == IVG_RECORD_PAYLOAD_BYTES_MAX, "parameters follow the fixed part");
_Static_assert(offsetof(struct ivg_request_ivgLaunch, reserved_1) - offsetof(struct ivg_request_ivgLaunch, grid_x) ==
                       sizeof(struct shape),
               "a request names its shape as struct shape does");

/* ---- checks ---- */

/* What a device allows of each number of a shape, in the order of struct shape. */
#define SHAPE_NUMBERS 6u
struct limits {
        _Atomic(uint32_t) known;
        _Atomic(uint32_t) most[SHAPE_NUMBERS]; /* UINT32_MAX where the device does not say */
};
static struct limits limits_of_device[IVG_DEVICES_MAX];

/* Relaxed stores before a release: whoever makes them stores the same. */
__attribute__((cold)) static CUresult fetch_limits(int device_number, struct limits *limits)
{
        static const CUdevice_attribute attributes[SHAPE_NUMBERS] = {
                CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X,  CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y,
                CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z,  CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X,
                CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y, CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z,
        };
        const struct ivg_device *device;
        const CUresult result = ivg_device_get(device_number, &device);

        if (result != CUDA_SUCCESS)
                return result;
        for (uint32_t i = 0; i < SHAPE_NUMBERS; i++)
                ivg_store_relaxed_u32(&limits->most[i], device->known[attributes[i]]
                                                                ? (uint32_t)device->attributes[attributes[i]]
                                                                : UINT32_MAX);
        ivg_store_release_u32(&limits->known, 1);
        return CUDA_SUCCESS;
}

/* Zero is not allowed either: less one it is the largest. */
static bool is_beyond(const struct limits *limits, uint32_t which, uint32_t number)
{
        return number - 1 >= ivg_load_relaxed_u32(&limits->most[which]);
}

static bool shape_exceeds_device(const struct limits *limits, const struct shape *shape)
{
        return is_beyond(limits, 0, shape->grid_x) || is_beyond(limits, 1, shape->grid_y) ||
               is_beyond(limits, 2, shape->grid_z) || is_beyond(limits, 3, shape->block_x) ||
               is_beyond(limits, 4, shape->block_y) || is_beyond(limits, 5, shape->block_z);
}

static inline bool shape_exceeds_function(const struct ivg_function_attributes *attributes, const struct shape *shape)
{
        int value;
        const uint64_t threads = (uint64_t)shape->block_x * shape->block_y * shape->block_z;
        if (ivg_function_value(attributes, CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK, &value) &&
            threads > (uint64_t)value)
                return true;
        return ivg_function_value(attributes, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, &value) &&
               shape->shared_bytes > (uint64_t)value;
}

__attribute__((cold, noinline)) static CUresult shape_check_again(struct ivg_object *function, int device,
                                                                  const struct shape *shape,
                                                                  struct ivg_function_attributes *attributes)
{
        const CUresult fetched = ivg_function_fetch(function, device, true);

        if (fetched != CUDA_SUCCESS)
                return fetched;
        return shape_exceeds_function(attributes, shape) ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}

/* After ivg_function_need, which has looked at the device's number. */
__attribute__((always_inline)) static inline CUresult shape_check(struct ivg_object *function,
                                                                  const struct ivg_object *context,
                                                                  const struct shape *shape,
                                                                  struct ivg_function_attributes *attributes)
{
        struct limits *limits = &limits_of_device[context->device];

        if (__builtin_expect(!ivg_load_acquire_u32(&limits->known), 0)) {
                const CUresult result = fetch_limits(context->device, limits);

                if (result != CUDA_SUCCESS)
                        return result;
        }
        if (shape_exceeds_device(limits, shape))
                return CUDA_ERROR_INVALID_VALUE;
        if (__builtin_expect(shape_exceeds_function(attributes, shape), 0))
                return shape_check_again(function, context->device, shape, attributes);
        return CUDA_SUCCESS;
}

/* ---- parameters ---- */

/* Nearly all are pointers, counts and floats: a length that the compiler knows is one move instead of a call. */
static inline void copy_parameter(uint8_t *to, const void *from, uint32_t bytes)
{
        switch (bytes) {
        case 8:
                memcpy(to, from, 8);
                return;
        case 4:
                memcpy(to, from, 4);
                return;
        default:
                memcpy(to, from, bytes);
        }
}

static inline void pack(const struct ivg_function_layout *layout, void *const *parameters, uint8_t *packed)
{
        const struct ivg_wire_parameter *parameter = layout->parameters, *const end = parameter + layout->count;

        for (; parameter != end; parameter++, parameters++)
                copy_parameter(packed + parameter->offset, *parameters, parameter->bytes);
}

/* The other way to give parameters: one buffer, packed by the caller. */
static CUresult find_buffer(void *const *extra, const void **buffer, uint64_t *bytes)
{
        *buffer = NULL;
        *bytes = 0;
        for (uint32_t i = 0; i < 4 && extra[i] != CU_LAUNCH_PARAM_END; i += 2) {
                if (extra[i] == CU_LAUNCH_PARAM_BUFFER_POINTER)
                        *buffer = extra[i + 1];
                else if (extra[i] == CU_LAUNCH_PARAM_BUFFER_SIZE && extra[i + 1] != NULL)
                        *bytes = *(const size_t *)extra[i + 1];
                else
                        return CUDA_ERROR_INVALID_VALUE;
        }
        return *buffer == NULL || *bytes == 0 || *bytes > IVG_PARAMETER_BYTES_MAX ? CUDA_ERROR_INVALID_VALUE
                                                                                  : CUDA_SUCCESS;
}

/* ---- sending ---- */

/* A launch that is ready to go but for its parameters. */
struct launch {
        const struct ivg_object *function;
        ivg_id stream;
        const struct shape *shape;
        bool extended; /* with attributes */
        const CUlaunchAttribute *attributes;
        uint32_t attributes_count;
};

static CUresult send(const struct launch *launch, const void *parameters, uint64_t bytes)
{
        const struct shape *s = launch->shape;
        if (!launch->extended)
                return ivg_send_ivgLaunch(launch->function->id, launch->stream, s->grid_x, s->grid_y, s->grid_z,
                                          s->block_x, s->block_y, s->block_z, s->shared_bytes, parameters, bytes);
        return ivg_send_ivgLaunchEx(launch->function->id, launch->stream, s->grid_x, s->grid_y, s->grid_z, s->block_x,
                                    s->block_y, s->block_z, s->shared_bytes, launch->attributes,
                                    launch->attributes_count, parameters, bytes);
}

static CUresult pack_and_send(const struct launch *launch, const struct ivg_function_layout *layout,
                              void *const *parameters)
{
        _Alignas(16) uint8_t packed[PARAMETERS_ON_STACK];
        if (layout->bytes <= sizeof packed) {
                pack(layout, parameters, packed);
                return send(launch, packed, layout->bytes);
        }
        uint8_t *longer = calloc(1, layout->bytes); /* beyond 4096 bytes: longer than a record, hence never hot */
        if (longer == NULL)
                return CUDA_ERROR_OUT_OF_MEMORY;
        pack(layout, parameters, longer);
        const CUresult result = send(launch, longer, layout->bytes);
        free(longer);
        return result;
}

/* All that is checked of a launch but its parameters; completes `launch`. */
__attribute__((always_inline)) static inline CUresult launch_check(struct launch *launch, CUfunction handle,
                                                                   CUstream stream, ivg_id null_stream,
                                                                   const struct ivg_function_layout **layout)
{
        struct ivg_object *context;
        struct ivg_function_attributes *attributes;
        CUresult result = ivg_context_require_inline(&context);
        if (result != CUDA_SUCCESS)
                return result;
        struct ivg_object *function = ivg_object_of_function(handle);
        if (function == NULL)
                return CUDA_ERROR_INVALID_HANDLE;
        result = ivg_stream_id(stream, null_stream, &launch->stream);
        if (result != CUDA_SUCCESS)
                return result;
        launch->function = function;
        result = ivg_function_need(function, context->device, layout, &attributes);
        return result == CUDA_SUCCESS ? shape_check(function, context, launch->shape, attributes) : result;
}

static CUresult send_with(const struct launch *launch, const struct ivg_function_layout *layout,
                          void *const *parameters, void *const *extra)
{
        if (parameters != NULL)
                return extra != NULL ? CUDA_ERROR_INVALID_VALUE : pack_and_send(launch, layout, parameters);
        if (extra != NULL) {
                const void *buffer;
                uint64_t bytes;
                const CUresult result = find_buffer(extra, &buffer, &bytes);
                return result != CUDA_SUCCESS ? result : send(launch, buffer, bytes);
        }
        return layout->count > 0 ? CUDA_ERROR_INVALID_VALUE : send(launch, "", 0); /* an empty range, not NULL */
}

static CUresult launch_with(struct launch *launch, CUfunction handle, CUstream stream, ivg_id null_stream,
                            void *const *parameters, void *const *extra)
{
        const struct ivg_function_layout *layout;
        const CUresult result = launch_check(launch, handle, stream, null_stream, &layout);

        return result == CUDA_SUCCESS ? send_with(launch, layout, parameters, extra) : result;
}

CUresult ivg_launch_packed(const struct ivg_packed_launch *packed)
{
        const struct shape shape = {packed->grid[0],  packed->grid[1],  packed->grid[2],     packed->block[0],
                                    packed->block[1], packed->block[2], packed->shared_bytes};
        size_t bytes = packed->bytes;
        void *extra[] = {CU_LAUNCH_PARAM_BUFFER_POINTER, (void *)(uintptr_t)packed->parameters,
                         CU_LAUNCH_PARAM_BUFFER_SIZE, &bytes, CU_LAUNCH_PARAM_END};
        struct launch launch = {.shape = &shape};

        return launch_with(&launch, packed->function, packed->stream, packed->null_stream, NULL,
                           bytes > 0 ? extra : NULL);
}

/* ---- nodes of graphs ---- */

CUresult ivg_launch_node(const struct ivg_node_launch *launch, ivg_id *id, void **packed, uint64_t *bytes)
{
        const struct shape shape = {launch->grid[0],  launch->grid[1],  launch->grid[2],     launch->block[0],
                                    launch->block[1], launch->block[2], launch->shared_bytes};
        struct ivg_object *context, *function = ivg_object_of_function(launch->function);
        const struct ivg_function_layout *layout;
        struct ivg_function_attributes *attributes;
        const void *buffer = NULL;
        CUresult result = ivg_context_require(&context);
        if (result != CUDA_SUCCESS)
                return result;
        if (function == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        result = ivg_function_need(function, context->device, &layout, &attributes);
        if (result == CUDA_SUCCESS)
                result = shape_check(function, context, &shape, attributes);
        if (result != CUDA_SUCCESS)
                return result;
        *bytes = layout->bytes;
        if (launch->parameters == NULL && launch->extra != NULL)
                result = find_buffer(launch->extra, &buffer, bytes);
        else if (launch->parameters == NULL && layout->count > 0)
                result = CUDA_ERROR_INVALID_VALUE;
        if (result != CUDA_SUCCESS)
                return result;
        *packed = calloc(1, *bytes + 1);
        if (*packed == NULL)
                return CUDA_ERROR_OUT_OF_MEMORY;
        if (buffer != NULL)
                memcpy(*packed, buffer, *bytes);
        else if (launch->parameters != NULL)
                pack(layout, launch->parameters, *packed);
        *id = function->id;
        return CUDA_SUCCESS;
}

/* ---- cuLaunchKernel ---- */

/* The hottest of all: parameters go where the record is made, without a copy between. */
__attribute__((always_inline)) static inline CUresult
send_packed(const struct launch *launch, const struct ivg_function_layout *layout, void *const *parameters)
{
        struct launch_record record;
        struct ivg_request_ivgLaunch *const request = &record.request;
        const uint32_t bytes = layout->bytes, padded = (bytes + 7) & ~7u;

        request->function = launch->function->id;
        request->stream = launch->stream;
        memcpy(&request->grid_x, launch->shape, sizeof(*launch->shape));
        memset(request->reserved_1, 0, sizeof(request->reserved_1));
        request->params = (struct ivg_wire_range){
                .bytes = bytes, .where = IVG_RANGE_INLINE, .offset = offsetof(struct launch_record, parameters)};
        if (padded != bytes)
                memset(record.parameters + padded - 8, 0, 8);
        pack(layout, parameters, record.parameters);
        return ivg_call_async(IVG_CALL_ivgLaunch, &record,
                              (uint32_t)offsetof(struct launch_record, parameters) + padded);
}

__attribute__((noinline)) static CUresult launch_kernel(CUfunction function, const struct shape *shape, CUstream stream,
                                                        ivg_id null_stream, void *const *parameters, void *const *extra)
{
        struct launch launch = {.shape = shape};
        const struct ivg_function_layout *layout;
        CUresult result = launch_check(&launch, function, stream, null_stream, &layout);

        if (__builtin_expect(result == CUDA_SUCCESS, 1)) {
                if (parameters != NULL && extra == NULL &&
                    layout->bytes <= sizeof(((struct launch_record *)0)->parameters))
                        result = send_packed(&launch, layout, parameters);
                else
                        result = send_with(&launch, layout, parameters, extra);
        }
        if (__builtin_expect(ivg_log_calls, 0))
                ivg_log("cuLaunchKernel(f=%p, grid=%u,%u,%u, block=%u,%u,%u, shared=%u, stream=%p) = %d",
                        (void *)function, shape->grid_x, shape->grid_y, shape->grid_z, shape->block_x, shape->block_y,
                        shape->block_z, shape->shared_bytes, (void *)stream, (int)result);
        return result;
}

CUresult cuLaunchKernel(CUfunction f, unsigned int gridDimX, unsigned int gridDimY, unsigned int gridDimZ,
                        unsigned int blockDimX, unsigned int blockDimY, unsigned int blockDimZ,
                        unsigned int sharedMemBytes, CUstream hStream, void **kernelParams, void **extra)
{
        const struct shape shape = {gridDimX, gridDimY, gridDimZ, blockDimX, blockDimY, blockDimZ, sharedMemBytes};
        return IVG_IN_CONTEXT_OF(IVG_KIND_STREAM, hStream,
                                 launch_kernel(f, &shape, hStream, IVG_ID_STREAM_LEGACY, kernelParams, extra));
}

CUresult cuLaunchKernel_ptsz(CUfunction f, unsigned int gridDimX, unsigned int gridDimY, unsigned int gridDimZ,
                             unsigned int blockDimX, unsigned int blockDimY, unsigned int blockDimZ,
                             unsigned int sharedMemBytes, CUstream hStream, void **kernelParams, void **extra)
{
        const struct shape shape = {gridDimX, gridDimY, gridDimZ, blockDimX, blockDimY, blockDimZ, sharedMemBytes};
        return IVG_IN_CONTEXT_OF(IVG_KIND_STREAM, hStream,
                                 launch_kernel(f, &shape, hStream, IVG_ID_STREAM_PER_THREAD, kernelParams, extra));
}

/* ---- cuLaunchCooperativeKernel: the same with one attribute ---- */

static CUresult launch_cooperative(CUfunction function, const struct shape *shape, CUstream stream, ivg_id null_stream,
                                   void *const *parameters)
{
        const CUlaunchAttribute cooperative = {.id = CU_LAUNCH_ATTRIBUTE_COOPERATIVE, .value.cooperative = 1};
        struct launch launch = {.shape = shape, .extended = true, .attributes = &cooperative, .attributes_count = 1};
        return launch_with(&launch, function, stream, null_stream, parameters, NULL);
}

CUresult cuLaunchCooperativeKernel(CUfunction f, unsigned int gridDimX, unsigned int gridDimY, unsigned int gridDimZ,
                                   unsigned int blockDimX, unsigned int blockDimY, unsigned int blockDimZ,
                                   unsigned int sharedMemBytes, CUstream hStream, void **kernelParams)
{
        const struct shape shape = {gridDimX, gridDimY, gridDimZ, blockDimX, blockDimY, blockDimZ, sharedMemBytes};
        return launch_cooperative(f, &shape, hStream, IVG_ID_STREAM_LEGACY, kernelParams);
}

CUresult cuLaunchCooperativeKernel_ptsz(CUfunction f, unsigned int gridDimX, unsigned int gridDimY,
                                        unsigned int gridDimZ, unsigned int blockDimX, unsigned int blockDimY,
                                        unsigned int blockDimZ, unsigned int sharedMemBytes, CUstream hStream,
                                        void **kernelParams)
{
        const struct shape shape = {gridDimX, gridDimY, gridDimZ, blockDimX, blockDimY, blockDimZ, sharedMemBytes};
        return launch_cooperative(f, &shape, hStream, IVG_ID_STREAM_PER_THREAD, kernelParams);
}

/* ---- cuLaunchKernelEx ---- */

/* An attribute of a newer interface: its value may be anything, an address too. Each number is named once. */
static CUresult attribute_unknown(CUlaunchAttributeID id)
{
        static _Atomic(uint64_t) told;
        const uint64_t bit = 1ull << ((unsigned int)id < 63 ? (unsigned int)id : 63);

        if (!(atomic_fetch_or_explicit(&told, bit, memory_order_relaxed) & bit)) /* only to tell it once */
                ivg_log("launch attribute %d is not known here", (int)id);
        return ivg_refuse("a launch attribute of a newer interface");
}

/* The event's number takes its place. */
static CUresult attribute_event(CUevent *event)
{
        struct ivg_object *object = ivg_object_of(IVG_KIND_EVENT, *event);

        if (object == NULL)
                return CUDA_ERROR_INVALID_HANDLE;
        ivg_signal_leave(object);
        *event = (CUevent)(uintptr_t)object->id;
        return CUDA_SUCCESS;
}

CUresult ivg_launch_attribute(CUlaunchAttribute *attribute)
{
        switch (attribute->id) {
        case CU_LAUNCH_ATTRIBUTE_ACCESS_POLICY_WINDOW:
        case CU_LAUNCH_ATTRIBUTE_COOPERATIVE:
        case CU_LAUNCH_ATTRIBUTE_SYNCHRONIZATION_POLICY:
        case CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION:
        case CU_LAUNCH_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE:
        case CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION:
        case CU_LAUNCH_ATTRIBUTE_PRIORITY:
        case CU_LAUNCH_ATTRIBUTE_MEM_SYNC_DOMAIN_MAP:
        case CU_LAUNCH_ATTRIBUTE_MEM_SYNC_DOMAIN:
        case CU_LAUNCH_ATTRIBUTE_PREFERRED_CLUSTER_DIMENSION:
        case CU_LAUNCH_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT:
        case CU_LAUNCH_ATTRIBUTE_NVLINK_UTIL_CENTRIC_SCHEDULING:
                return CUDA_SUCCESS;
        case CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_EVENT:
                return attribute_event(&attribute->value.programmaticEvent.event);
        case CU_LAUNCH_ATTRIBUTE_LAUNCH_COMPLETION_EVENT:
                return attribute_event(&attribute->value.launchCompletionEvent.event);
        case CU_LAUNCH_ATTRIBUTE_DEVICE_UPDATABLE_KERNEL_NODE:
                return ivg_refuse(
                        "CU_LAUNCH_ATTRIBUTE_DEVICE_UPDATABLE_KERNEL_NODE"); /* gives a handle of the host's */
        default:
                return attribute_unknown(attribute->id);
        }
}

CUresult ivg_launch_attributes(const CUlaunchAttribute *attributes, unsigned int count,
                               CUlaunchAttribute copies[IVG_LAUNCH_ATTRIBUTES_MAX], uint32_t *copies_count)
{
        *copies_count = 0;
        if (count > IVG_LAUNCH_ATTRIBUTES_MAX || (count > 0 && attributes == NULL))
                return CUDA_ERROR_INVALID_VALUE;
        for (unsigned int i = 0; i < count; i++) {
                if (attributes[i].id == CU_LAUNCH_ATTRIBUTE_IGNORE)
                        continue;
                copies[*copies_count] = attributes[i];
                const CUresult result = ivg_launch_attribute(&copies[*copies_count]);
                if (result != CUDA_SUCCESS)
                        return result;
                ++*copies_count;
        }
        return CUDA_SUCCESS;
}

static CUresult launch_ex(const CUlaunchConfig *config, CUfunction function, ivg_id null_stream,
                          void *const *parameters, void *const *extra)
{
        CUlaunchAttribute attributes[IVG_LAUNCH_ATTRIBUTES_MAX];
        uint32_t count;
        if (config == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        const struct shape shape = {config->gridDimX,  config->gridDimY,  config->gridDimZ,      config->blockDimX,
                                    config->blockDimY, config->blockDimZ, config->sharedMemBytes};
        const CUresult result = ivg_launch_attributes(config->attrs, config->numAttrs, attributes, &count);
        if (result != CUDA_SUCCESS)
                return result;
        struct launch launch = {
                .shape = &shape, .extended = count > 0, .attributes = attributes, .attributes_count = count};
        return launch_with(&launch, function, config->hStream, null_stream, parameters, extra);
}

CUresult cuLaunchKernelEx(const CUlaunchConfig *config, CUfunction f, void **kernelParams, void **extra)
{
        return launch_ex(config, f, IVG_ID_STREAM_LEGACY, kernelParams, extra);
}

CUresult cuLaunchKernelEx_ptsz(const CUlaunchConfig *config, CUfunction f, void **kernelParams, void **extra)
{
        return launch_ex(config, f, IVG_ID_STREAM_PER_THREAD, kernelParams, extra);
}
