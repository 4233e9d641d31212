/* Parts of a device: which multiprocessors belong to whom. A green context is a handle to its device's primary context
 * with a set of multiprocessors; the set is kept and told, and like stream priorities not acted on: the kernel's own
 * rule shares the processors. */
#include <string.h>

#include "softgpu.h"

#define SG_RESOURCE_MAGIC 0x50554753u
#define SG_SM_PARTITION                                                                              \
        2u /* least multiprocessors of a part, and their alignment, as compute capability 7.5 has it \
            */

/* What lies in a CUdevResource's own bytes: multiprocessors [first, first + count) of a device. */
struct sg_resource {
        uint32_t magic;
        int32_t device;
        uint32_t first, count;
};

struct sg_desc {
        struct sg_object object;
        struct sg_resource resource;
};

static CUresult sg_resource_of(const CUdevResource *from, struct sg_resource *out)
{
        if (from == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        if (from->type != CU_DEV_RESOURCE_TYPE_SM)
                return CUDA_ERROR_INVALID_RESOURCE_TYPE;
        memcpy(out, from->_internal_padding, sizeof(*out));
        return out->magic == SG_RESOURCE_MAGIC ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

static void sg_resource_tell(const struct sg_resource *resource, CUdevResource *out)
{
        memset(out, 0, sizeof(*out));
        out->type = resource->count != 0 ? CU_DEV_RESOURCE_TYPE_SM : CU_DEV_RESOURCE_TYPE_INVALID;
        memcpy(out->_internal_padding, resource, sizeof(*resource));
        out->sm.smCount = resource->count;
        out->sm.minSmPartitionSize = SG_SM_PARTITION;
        out->sm.smCoscheduledAlignment = SG_SM_PARTITION;
}

static CUresult sg_resource_of_device(CUdevice ordinal, CUdevResource *out, CUdevResourceType type)
{
        struct sg_device *device;
        const CUresult result = sg_device_find(ordinal, &device);
        if (result != CUDA_SUCCESS)
                return result;
        if (out == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        if (type != CU_DEV_RESOURCE_TYPE_SM)
                return CUDA_ERROR_INVALID_RESOURCE_TYPE;
        const struct sg_resource all = {SG_RESOURCE_MAGIC, ordinal, 0, sg_processor_count()};
        sg_resource_tell(&all, out);
        return CUDA_SUCCESS;
}

SG_ENTRY(cuDeviceGetDevResource, CUdevice ordinal, CUdevResource *out, CUdevResourceType type)
{
        return sg_resource_of_device(ordinal, out, type);
}

SG_ENTRY(cuDevSmResourceSplitByCount, CUdevResource *groups, unsigned *count, const CUdevResource *input,
         CUdevResource *remaining, unsigned flags, unsigned least)
{
        struct sg_resource all;
        const CUresult result = sg_resource_of(input, &all);
        const unsigned known =
                CU_DEV_SM_RESOURCE_SPLIT_IGNORE_SM_COSCHEDULING | CU_DEV_SM_RESOURCE_SPLIT_MAX_POTENTIAL_CLUSTER_SIZE;
        if (result != CUDA_SUCCESS)
                return result;
        if (count == NULL || (flags & ~known) != 0 || least > all.count || (groups != NULL && *count == 0))
                return CUDA_ERROR_INVALID_VALUE;
        unsigned each = least < SG_SM_PARTITION ? SG_SM_PARTITION : least;
        each = (each + SG_SM_PARTITION - 1) / SG_SM_PARTITION * SG_SM_PARTITION;
        unsigned made = all.count / each;
        if (made == 0)
                return CUDA_ERROR_INVALID_RESOURCE_CONFIGURATION;
        if (groups != NULL && made > *count)
                made = *count;
        for (unsigned i = 0; groups != NULL && i < made; i++) {
                const struct sg_resource part = {SG_RESOURCE_MAGIC, all.device, all.first + i * each, each};
                sg_resource_tell(&part, &groups[i]);
        }
        if (groups != NULL && remaining != NULL) {
                const struct sg_resource rest = {SG_RESOURCE_MAGIC, all.device, all.first + made * each,
                                                 all.count - made * each};
                sg_resource_tell(&rest, remaining);
        }
        *count = made;
        return CUDA_SUCCESS;
}

SG_ENTRY(cuDevResourceGenerateDesc, CUdevResourceDesc *out, CUdevResource *resources, unsigned count)
{
        struct sg_resource resource;
        if (out == NULL || count != 1) /* parts that lie apart are not joined */
                return count > 1 ? CUDA_ERROR_INVALID_RESOURCE_CONFIGURATION : CUDA_ERROR_INVALID_VALUE;
        const CUresult result = sg_resource_of(resources, &resource);
        if (result != CUDA_SUCCESS)
                return result;
        struct sg_desc *desc = sg_object_new(SG_DESC);
        if (desc == NULL)
                return CUDA_ERROR_OUT_OF_MEMORY;
        desc->resource = resource;
        *out = (CUdevResourceDesc)desc;
        return CUDA_SUCCESS;
}

/* ---- contexts ---- */

struct sg_green {
        struct sg_object object;
        struct sg_context *primary; /* retained by the device's count, as by any program */
        struct sg_resource resource;
        uint64_t id;
};

static _Atomic(uint64_t) sg_green_ids = 1;

size_t sg_green_bytes(void)
{
        return sizeof(struct sg_green);
}

size_t sg_desc_bytes(void)
{
        return sizeof(struct sg_desc);
}

struct sg_context *sg_green_context(const void *handle)
{
        const struct sg_green *green = sg_object_from(handle, SG_GREEN);
        return green != NULL ? sg_object_from(green->primary, SG_CONTEXT) : NULL;
}

static CUresult sg_green_resolve(CUgreenCtx handle, struct sg_green **out)
{
        const CUresult ready = sg_ready();
        if (ready != CUDA_SUCCESS)
                return ready;
        *out = sg_object_from(handle, SG_GREEN);
        return *out != NULL ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CONTEXT;
}

SG_ENTRY(cuGreenCtxCreate, CUgreenCtx *out, CUdevResourceDesc handle, CUdevice ordinal, unsigned flags)
{
        struct sg_device *device;
        CUcontext primary;
        CUresult result = sg_device_find(ordinal, &device);
        if (result != CUDA_SUCCESS)
                return result;
        const struct sg_desc *desc = sg_object_from(handle, SG_DESC);
        if (out == NULL || desc == NULL || flags != CU_GREEN_CTX_DEFAULT_STREAM || desc->resource.device != ordinal)
                return CUDA_ERROR_INVALID_VALUE;
        result = cuDevicePrimaryCtxRetain(&primary, ordinal);
        if (result != CUDA_SUCCESS)
                return result;
        struct sg_green *green = sg_object_new(SG_GREEN);
        if (green == NULL) {
                (void)cuDevicePrimaryCtxRelease_v2(ordinal);
                return CUDA_ERROR_OUT_OF_MEMORY;
        }
        green->primary = (struct sg_context *)primary;
        green->resource = desc->resource;
        green->id = atomic_fetch_add(&sg_green_ids, 1);
        *out = (CUgreenCtx)green;
        return CUDA_SUCCESS;
}

SG_ENTRY(cuGreenCtxDestroy, CUgreenCtx handle)
{
        struct sg_green *green;
        const CUresult result = sg_green_resolve(handle, &green);
        if (result != CUDA_SUCCESS)
                return result;
        const int ordinal = green->resource.device;
        if (!sg_object_retire(green))
                return CUDA_ERROR_INVALID_CONTEXT;
        sg_object_put(green);
        return cuDevicePrimaryCtxRelease_v2(ordinal);
}

SG_ENTRY(cuCtxFromGreenCtx, CUcontext *out, CUgreenCtx handle)
{
        struct sg_green *green;
        const CUresult result = sg_green_resolve(handle, &green);
        if (result != CUDA_SUCCESS)
                return result;
        if (out == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        *out = (CUcontext)green; /* sg_context_lookup takes it for its primary context */
        return CUDA_SUCCESS;
}

static CUresult sg_green_resource(const struct sg_green *green, CUdevResource *out, CUdevResourceType type)
{
        if (out == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        if (type != CU_DEV_RESOURCE_TYPE_SM)
                return CUDA_ERROR_INVALID_RESOURCE_TYPE;
        sg_resource_tell(&green->resource, out);
        return CUDA_SUCCESS;
}

SG_ENTRY(cuGreenCtxGetDevResource, CUgreenCtx handle, CUdevResource *out, CUdevResourceType type)
{
        struct sg_green *green;
        const CUresult result = sg_green_resolve(handle, &green);
        return result != CUDA_SUCCESS ? result : sg_green_resource(green, out, type);
}

SG_ENTRY(cuCtxGetDevResource, CUcontext handle, CUdevResource *out, CUdevResourceType type)
{
        struct sg_context *context;
        const struct sg_green *green = sg_object_from(handle, SG_GREEN);
        const CUresult result = sg_context_or_current(handle, &context);
        if (result != CUDA_SUCCESS)
                return result;
        return green != NULL ? sg_green_resource(green, out, type)
                             : sg_resource_of_device(context->device->ordinal, out, type);
}

SG_ENTRY(cuGreenCtxGetId, CUgreenCtx handle, unsigned long long *out)
{
        struct sg_green *green;
        const CUresult result = sg_green_resolve(handle, &green);
        if (result != CUDA_SUCCESS)
                return result;
        if (out == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        *out = green->id;
        return CUDA_SUCCESS;
}

SG_ENTRY(cuGreenCtxStreamCreate, CUstream *out, CUgreenCtx handle, unsigned flags, int priority)
{
        struct sg_green *green;
        CUresult result = sg_green_resolve(handle, &green);
        if (result == CUDA_SUCCESS && (out == NULL || flags != CU_STREAM_NON_BLOCKING))
                result = CUDA_ERROR_INVALID_VALUE;
        if (result == CUDA_SUCCESS)
                result = cuCtxPushCurrent_v2((CUcontext)green);
        if (result != CUDA_SUCCESS)
                return result;
        result = cuStreamCreateWithPriority(out, flags, priority);
        (void)cuCtxPopCurrent_v2(NULL);
        return result;
}

SG_ENTRY(cuGreenCtxRecordEvent, CUgreenCtx handle, CUevent event)
{
        struct sg_green *green;
        const CUresult result = sg_green_resolve(handle, &green);
        return result != CUDA_SUCCESS ? result : cuCtxRecordEvent((CUcontext)green, event);
}

SG_ENTRY(cuGreenCtxWaitEvent, CUgreenCtx handle, CUevent event)
{
        struct sg_green *green;
        const CUresult result = sg_green_resolve(handle, &green);
        return result != CUDA_SUCCESS ? result : cuCtxWaitEvent((CUcontext)green, event);
}
