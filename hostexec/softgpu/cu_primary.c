/* Primary contexts: one per device, counted. */
#include "softgpu.h"

SG_ENTRY(cuDevicePrimaryCtxRetain, CUcontext *out, CUdevice ordinal)
{
        struct sg_device *device;
        CUresult result = sg_device_find(ordinal, &device);
        if (result != CUDA_SUCCESS)
                return result;
        if (out == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        struct sg_primary *primary = &device->primary;
        pthread_mutex_lock(&sg_state_lock);
        const bool absent = primary->context == NULL;
        const unsigned flags = primary->flags;
        if (!absent) {
                primary->retained++;
                *out = (CUcontext)primary->context;
        }
        pthread_mutex_unlock(&sg_state_lock);
        if (!absent)
                return CUDA_SUCCESS;

        /* Opened outside the lock; when two threads race, the later one throws its own away. */
        struct sg_context *context;
        result = sg_context_open(device, flags, true, &context);
        if (result != CUDA_SUCCESS)
                return result;
        pthread_mutex_lock(&sg_state_lock);
        const bool lost = primary->context != NULL;
        if (!lost)
                primary->context = context;
        primary->retained++;
        *out = (CUcontext)primary->context;
        pthread_mutex_unlock(&sg_state_lock);
        if (lost && sg_object_retire(context))
                sg_context_close(context);
        return CUDA_SUCCESS;
}

/* Takes the context out of the device under the lock; the caller closes it outside. */
static struct sg_context *sg_primary_detach(struct sg_primary *primary)
{
        struct sg_context *context = primary->context;
        primary->context = NULL;
        primary->flags = 0; /* they end with it, as NVIDIA's driver has it */
        return context != NULL && sg_object_retire(context) ? context : NULL;
}

SG_ENTRY(cuDevicePrimaryCtxRelease_v2, CUdevice ordinal)
{
        struct sg_device *device;
        const CUresult result = sg_device_find(ordinal, &device);
        if (result != CUDA_SUCCESS)
                return result;
        struct sg_context *last = NULL;
        pthread_mutex_lock(&sg_state_lock);
        const bool active = device->primary.retained != 0;
        if (active && --device->primary.retained == 0)
                last = sg_primary_detach(&device->primary);
        pthread_mutex_unlock(&sg_state_lock);
        if (last != NULL)
                sg_context_close(last);
        return active ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CONTEXT;
}
SG_ALIAS(cuDevicePrimaryCtxRelease, cuDevicePrimaryCtxRelease_v2);

SG_ENTRY(cuDevicePrimaryCtxReset_v2, CUdevice ordinal)
{
        struct sg_device *device;
        const CUresult result = sg_device_find(ordinal, &device);
        if (result != CUDA_SUCCESS)
                return result;
        pthread_mutex_lock(&sg_state_lock);
        struct sg_context *context = sg_primary_detach(&device->primary);
        device->primary.retained = 0; /* forgotten, as NVIDIA's driver does */
        pthread_mutex_unlock(&sg_state_lock);
        if (context != NULL)
                sg_context_close(context);
        return CUDA_SUCCESS;
}
SG_ALIAS(cuDevicePrimaryCtxReset, cuDevicePrimaryCtxReset_v2);

SG_ENTRY(cuDevicePrimaryCtxSetFlags_v2, CUdevice ordinal, unsigned flags)
{
        struct sg_device *device;
        CUresult result = sg_device_find(ordinal, &device);
        if (result == CUDA_SUCCESS)
                result = sg_context_flags_check(flags);
        if (result != CUDA_SUCCESS)
                return result;
        pthread_mutex_lock(&sg_state_lock);
        device->primary.flags = flags;
        if (device->primary.context != NULL)
                device->primary.context->flags = flags;
        pthread_mutex_unlock(&sg_state_lock);
        return CUDA_SUCCESS;
}

/* The first version's rule: not while the context is there. */
SG_ENTRY(cuDevicePrimaryCtxSetFlags, CUdevice ordinal, unsigned flags)
{
        struct sg_device *device;
        const CUresult result = sg_device_find(ordinal, &device);
        if (result != CUDA_SUCCESS)
                return result;
        pthread_mutex_lock(&sg_state_lock);
        const bool active = device->primary.context != NULL;
        pthread_mutex_unlock(&sg_state_lock);
        return active ? CUDA_ERROR_PRIMARY_CONTEXT_ACTIVE : cuDevicePrimaryCtxSetFlags_v2(ordinal, flags);
}

SG_ENTRY(cuDevicePrimaryCtxGetState, CUdevice ordinal, unsigned *flags, int *active)
{
        struct sg_device *device;
        const CUresult result = sg_device_find(ordinal, &device);
        if (result != CUDA_SUCCESS)
                return result;
        if (flags == NULL || active == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        pthread_mutex_lock(&sg_state_lock);
        *flags = device->primary.flags;
        *active = device->primary.context != NULL;
        pthread_mutex_unlock(&sg_state_lock);
        return CUDA_SUCCESS;
}
