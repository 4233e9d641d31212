/* Parts of a device: resources that name them, and the contexts made of them ("green").
 *
 * A CUdevResource is a value that programs copy about. Ours holds, in the bytes that are the driver's, the number under
 * which the executor keeps the driver's own. Two objects stand for a green context: the CUgreenCtx, and the CUcontext
 * that cuCtxFromGreenCtx gives, which is current like any other. The latter's `context` is the primary one, which is
 * retained as long; memory and code made in it are that one's. */
#include "context.h"
#include "cuda_api.h"
#include "guest_send.h"
#include "work.h"
#include <string.h>

#define SPLIT_GROUPS_MAX 120u /* as in the call table */

/* ---- resources ---- */

static void resource_store(CUdevResource *to, const struct ivg_wire_dev_resource *from)
{
        memset(to, 0, sizeof(*to));
        to->type = (CUdevResourceType)from->type;
        memcpy(to->_internal_padding, &from->number, sizeof(from->number));
        memcpy(to->_oversize, from->words, sizeof(to->_oversize));
}

static uint32_t resource_number(const CUdevResource *resource)
{
        uint32_t number;

        memcpy(&number, resource->_internal_padding, sizeof(number));
        return number;
}

CUresult cuDeviceGetDevResource(CUdevice device, CUdevResource *resource, CUdevResourceType type)
{
        struct ivg_wire_dev_resource told;
        CUresult result = ivg_process_check();

        if (result != CUDA_SUCCESS)
                return result;
        if (resource == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        result = ivg_send_cuDeviceGetDevResource(device, (int32_t)type, &told);
        if (result == CUDA_SUCCESS)
                resource_store(resource, &told);
        return result;
}

CUresult cuCtxGetDevResource(CUcontext hCtx, CUdevResource *resource, CUdevResourceType type)
{
        struct ivg_wire_dev_resource told;
        struct ivg_object *context;
        CUresult result = ivg_context_given(hCtx, &context);

        if (result != CUDA_SUCCESS)
                return result;
        if (resource == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        result = ivg_send_cuCtxGetDevResource(context->id, (int32_t)type, &told);
        if (result == CUDA_SUCCESS)
                resource_store(resource, &told);
        return result;
}

CUresult cuDevSmResourceSplitByCount(CUdevResource *result, unsigned int *nbGroups, const CUdevResource *input,
                                     CUdevResource *remaining, unsigned int useFlags, unsigned int minCount)
{
        struct ivg_wire_dev_resource groups[SPLIT_GROUPS_MAX], rest;
        CUresult answer = ivg_process_check();
        uint32_t wanted, count = 0, bytes = 0;

        if (answer != CUDA_SUCCESS)
                return answer;
        if (nbGroups == NULL || input == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        wanted = result != NULL ? *nbGroups : 0;
        if (result != NULL && wanted == 0)
                return CUDA_ERROR_INVALID_VALUE;
        if (wanted > SPLIT_GROUPS_MAX) /* more than any device has parts: the driver makes fewer */
                wanted = SPLIT_GROUPS_MAX;
        answer = ivg_send_cuDevSmResourceSplitByCount(resource_number(input), wanted, useFlags, minCount, &count, &rest,
                                                      groups, SPLIT_GROUPS_MAX, &bytes);
        if (answer != CUDA_SUCCESS)
                return answer;
        for (uint32_t i = 0; i < count && i < wanted; i++)
                resource_store(&result[i], &groups[i]);
        if (remaining != NULL && result != NULL)
                resource_store(remaining, &rest);
        *nbGroups = count;
        return CUDA_SUCCESS;
}

CUresult cuDevResourceGenerateDesc(CUdevResourceDesc *phDesc, CUdevResource *resources, unsigned int nbResources)
{
        uint32_t numbers[SPLIT_GROUPS_MAX];
        struct ivg_object *desc;
        CUresult result = ivg_process_check();

        if (result != CUDA_SUCCESS)
                return result;
        if (phDesc == NULL || resources == NULL || nbResources == 0 || nbResources > SPLIT_GROUPS_MAX)
                return CUDA_ERROR_INVALID_VALUE;
        for (unsigned int i = 0; i < nbResources; i++)
                numbers[i] = resource_number(&resources[i]);
        result = ivg_object_create(IVG_KIND_RESOURCE_DESC, NULL, &desc);
        if (result != CUDA_SUCCESS)
                return result;
        result = ivg_send_cuDevResourceGenerateDesc(numbers, nbResources, desc->id);
        if (result != CUDA_SUCCESS) {
                ivg_object_destroy(desc);
                return result;
        }
        *phDesc = (CUdevResourceDesc)desc;
        return CUDA_SUCCESS;
}

/* ---- contexts ---- */

static struct ivg_object *context_of(const struct ivg_object *green)
{
        return green->data;
}

/* With the primary context retained. */
static CUresult green_create(struct ivg_object *primary, const struct ivg_object *desc, CUdevice device,
                             unsigned int flags, struct ivg_object **out)
{
        struct ivg_object *green, *context;
        CUresult result = ivg_context_new(device, &context);

        if (result != CUDA_SUCCESS)
                return result;
        result = ivg_object_create(IVG_KIND_GREEN_CONTEXT, NULL, &green);
        if (result == CUDA_SUCCESS) {
                green->device = device;
                green->data = context;
                context->context = primary;
                ivg_context_state(context)->green = green;
                result = ivg_send_cuGreenCtxCreate(desc->id, device, flags, green->id, context->id);
                if (result != CUDA_SUCCESS)
                        ivg_object_destroy(green);
        }
        if (result != CUDA_SUCCESS) {
                ivg_context_free(context);
                return result;
        }
        /* Release, pairs with the acquire in ivg_context_check. */
        ivg_store_release_u32(&ivg_context_state(context)->active, 1);
        *out = green;
        return CUDA_SUCCESS;
}

CUresult cuGreenCtxCreate(CUgreenCtx *phCtx, CUdevResourceDesc desc, CUdevice dev, unsigned int flags)
{
        const struct ivg_object *description = ivg_object_of(IVG_KIND_RESOURCE_DESC, desc);
        struct ivg_object *primary, *green;
        CUresult result = ivg_process_check();

        if (result != CUDA_SUCCESS)
                return result;
        if (phCtx == NULL || description == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        result = ivg_context_primary_retain(dev, &primary);
        if (result != CUDA_SUCCESS)
                return result;
        result = green_create(primary, description, dev, flags, &green);
        if (result != CUDA_SUCCESS) {
                (void)ivg_context_primary_release(dev);
                return result;
        }
        *phCtx = (CUgreenCtx)green;
        return CUDA_SUCCESS;
}

static CUresult green_given(CUgreenCtx handle, struct ivg_object **green)
{
        const CUresult result = ivg_process_check();

        if (result != CUDA_SUCCESS)
                return result;
        *green = ivg_object_of(IVG_KIND_GREEN_CONTEXT, handle);
        return *green != NULL ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CONTEXT;
}

CUresult cuGreenCtxDestroy(CUgreenCtx hCtx)
{
        struct ivg_object *green, *context;
        CUresult result = green_given(hCtx, &green);
        int device;

        if (result != CUDA_SUCCESS)
                return result;
        context = context_of(green);
        device = green->device;
        ivg_storage_end(ivg_context_storage(context), (CUcontext)context);
        result = ivg_send_cuGreenCtxDestroy(green->id);
        if (result != CUDA_SUCCESS)
                return result;
        ivg_work_leave_all(context);
        ivg_object_destroy(green);
        ivg_context_free(context);
        return ivg_context_primary_release(device);
}

CUresult cuCtxFromGreenCtx(CUcontext *pContext, CUgreenCtx hCtx)
{
        struct ivg_object *green;
        const CUresult result = green_given(hCtx, &green);

        if (result != CUDA_SUCCESS)
                return result;
        if (pContext == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        *pContext = (CUcontext)context_of(green);
        return ivg_local("cuCtxFromGreenCtx", CUDA_SUCCESS);
}

CUresult cuGreenCtxGetDevResource(CUgreenCtx hCtx, CUdevResource *resource, CUdevResourceType type)
{
        struct ivg_wire_dev_resource told;
        struct ivg_object *green;
        CUresult result = green_given(hCtx, &green);

        if (result != CUDA_SUCCESS)
                return result;
        if (resource == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        result = ivg_send_cuGreenCtxGetDevResource(green->id, (int32_t)type, &told);
        if (result == CUDA_SUCCESS)
                resource_store(resource, &told);
        return result;
}

/* NULL: the part that is current. */
CUresult cuGreenCtxGetId(CUgreenCtx greenCtx, unsigned long long *greenCtxId)
{
        struct ivg_object *green = NULL, *context;
        CUresult result = greenCtx != NULL ? green_given(greenCtx, &green) : ivg_context_require(&context);

        if (result == CUDA_SUCCESS && greenCtx == NULL)
                green = ivg_context_state(context)->green;
        if (result == CUDA_SUCCESS && green == NULL)
                result = CUDA_ERROR_INVALID_CONTEXT;
        if (result != CUDA_SUCCESS)
                return result;
        if (greenCtxId == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        *greenCtxId = ivg_context_unique_id(context_of(green));
        return ivg_local("cuGreenCtxGetId", CUDA_SUCCESS);
}

CUresult cuGreenCtxStreamCreate(CUstream *phStream, CUgreenCtx greenCtx, unsigned int flags, int priority)
{
        struct ivg_object *green, *stream;
        CUresult result = green_given(greenCtx, &green);

        if (result != CUDA_SUCCESS)
                return result;
        if (phStream == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        result = ivg_object_create(IVG_KIND_STREAM, context_of(green), &stream);
        if (result != CUDA_SUCCESS)
                return result;
        result = ivg_send_cuGreenCtxStreamCreate(green->id, flags, priority, stream->id);
        if (result != CUDA_SUCCESS) {
                ivg_object_destroy(stream);
                return result;
        }
        ivg_stream_describe(stream, flags, priority);
        *phStream = (CUstream)stream;
        return CUDA_SUCCESS;
}
