/* The primary context of each device: counted here, made and ended on the host by the first retain and last release. */
#include "context.h"
#include "cuda_api.h"
#include "guest_send.h"

/* What cuDevicePrimaryCtxSetFlags accepts. */
#define PRIMARY_FLAGS_KNOWN                                                                         \
        (CU_CTX_SCHED_MASK | CU_CTX_MAP_HOST | CU_CTX_LMEM_RESIZE_TO_MAX | CU_CTX_COREDUMP_ENABLE | \
         CU_CTX_USER_COREDUMP_ENABLE | CU_CTX_SYNC_MEMOPS)

struct primary {
        pthread_mutex_t lock;
        _Atomic(uintptr_t) context; /* struct ivg_object *; made by the first retain, the same handle ever after */
        _Atomic(uint32_t) flags;
        uint32_t retained; /* under the lock; above 0: it works on the host. A reset forgets it, as NVIDIA's driver does
                            */
};

static struct primary primaries[IVG_DEVICES_MAX] = {
        [0 ... IVG_DEVICES_MAX - 1] = {.lock = PTHREAD_MUTEX_INITIALIZER},
};

static CUresult primary_of(CUdevice device, struct primary **primary)
{
        const CUresult result = ivg_process_check();

        if (result != CUDA_SUCCESS)
                return result;
        if (device < 0 || device >= ivg_process.device_count)
                return CUDA_ERROR_INVALID_DEVICE;
        *primary = &primaries[device];
        return CUDA_SUCCESS;
}

static struct ivg_object *primary_context(const struct primary *primary)
{
        /* Acquire, pairs with the release in primary_start. */
        return (struct ivg_object *)atomic_load_explicit((_Atomic(uintptr_t) *)&primary->context, memory_order_acquire);
}

bool ivg_context_is_primary(const struct ivg_object *context)
{
        return primary_context(&primaries[context->device]) == context;
}

/* Under the lock, not retained: makes it work on the host. */
static CUresult primary_start(struct primary *primary, int device)
{
        struct ivg_object *context = primary_context(primary);
        CUresult result;

        if (context == NULL) {
                result = ivg_context_new(device, &context);
                if (result != CUDA_SUCCESS)
                        return result;
                atomic_store_explicit(&primary->context, (uintptr_t)context, memory_order_release);
        }
        result = ivg_send_cuDevicePrimaryCtxRetain(device, context->id);
        if (result == CUDA_SUCCESS)
                /* Release, pairs with the acquire in ivg_context_check. */
                ivg_store_release_u32(&ivg_context_state(context)->active, 1);
        return result;
}

CUresult ivg_context_primary_retain(int device, struct ivg_object **context)
{
        struct primary *primary;
        CUresult result = primary_of(device, &primary);

        if (result != CUDA_SUCCESS)
                return result;
        pthread_mutex_lock(&primary->lock);
        if (primary->retained == 0)
                result = primary_start(primary, device);
        if (result == CUDA_SUCCESS) {
                primary->retained++;
                *context = primary_context(primary);
        }
        pthread_mutex_unlock(&primary->lock);
        return result;
}

/* Under the lock, retained. The storage's destructors ran before, outside it: they may call anything. */
static CUresult primary_end(struct primary *primary, int device, CUresult (*send)(int32_t device))
{
        struct ivg_object *context = primary_context(primary);
        const CUresult result = send(device);

        if (result == CUDA_SUCCESS) {
                primary->retained = 0;
                ivg_context_primary_flags_set(device, 0); /* they end with it, as NVIDIA's driver has it */
                ivg_cached_drop(&ivg_context_state(context)->flags);
                ivg_context_deactivate(context);
        }
        return result;
}

CUresult cuDevicePrimaryCtxRetain(CUcontext *pctx, CUdevice dev)
{
        struct ivg_object *context;
        CUresult result;

        if (pctx == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        result = ivg_context_primary_retain(dev, &context);
        if (result == CUDA_SUCCESS)
                *pctx = (CUcontext)context;
        return ivg_local("cuDevicePrimaryCtxRetain", result);
}

CUresult ivg_context_primary_release(CUdevice device)
{
        struct primary *primary;
        CUresult result = primary_of(device, &primary);
        bool last;

        if (result != CUDA_SUCCESS)
                return result;
        pthread_mutex_lock(&primary->lock);
        if (primary->retained == 0)
                result = CUDA_ERROR_INVALID_CONTEXT;
        last = primary->retained == 1;
        if (primary->retained > 1)
                primary->retained--;
        pthread_mutex_unlock(&primary->lock);
        if (result != CUDA_SUCCESS || !last)
                return result;

        ivg_storage_end(ivg_context_storage(primary_context(primary)), (CUcontext)primary_context(primary));
        pthread_mutex_lock(&primary->lock);
        if (primary->retained == 1)
                result = primary_end(primary, device, ivg_send_cuDevicePrimaryCtxRelease_v2);
        else if (primary->retained > 1) /* another thread retained it meanwhile: it lives on */
                primary->retained--;
        pthread_mutex_unlock(&primary->lock);
        return result;
}

CUresult cuDevicePrimaryCtxRelease(CUdevice dev)
{
        return ivg_context_primary_release(dev);
}

CUresult cuDevicePrimaryCtxRelease_v2(CUdevice dev)
{
        return ivg_context_primary_release(dev);
}

static CUresult primary_reset(CUdevice device)
{
        struct primary *primary;
        CUresult result = primary_of(device, &primary);
        struct ivg_object *context;
        bool retained;

        if (result != CUDA_SUCCESS)
                return result;
        pthread_mutex_lock(&primary->lock);
        retained = primary->retained > 0;
        context = primary_context(primary);
        pthread_mutex_unlock(&primary->lock);
        if (!retained)
                return CUDA_SUCCESS;

        ivg_storage_end(ivg_context_storage(context), (CUcontext)context);
        pthread_mutex_lock(&primary->lock);
        if (primary->retained > 0)
                result = primary_end(primary, device, ivg_send_cuDevicePrimaryCtxReset_v2);
        pthread_mutex_unlock(&primary->lock);
        return result;
}

CUresult cuDevicePrimaryCtxReset(CUdevice dev)
{
        return primary_reset(dev);
}

CUresult cuDevicePrimaryCtxReset_v2(CUdevice dev)
{
        return primary_reset(dev);
}

static CUresult primary_set_flags(CUdevice device, unsigned int flags)
{
        struct primary *primary;
        CUresult result = primary_of(device, &primary);

        if (result != CUDA_SUCCESS)
                return result;
        if ((flags & ~(unsigned int)PRIMARY_FLAGS_KNOWN) != 0)
                return CUDA_ERROR_INVALID_VALUE;
        result = ivg_context_flags_check(flags, "cuDevicePrimaryCtxSetFlags with core dumps");
        if (result != CUDA_SUCCESS)
                return result;
        pthread_mutex_lock(&primary->lock);
        result = ivg_send_cuDevicePrimaryCtxSetFlags_v2(device, flags);
        if (result == CUDA_SUCCESS) {
                ivg_context_primary_flags_set(device, flags);
                if (primary_context(primary) != NULL)
                        ivg_cached_drop(&ivg_context_state(primary_context(primary))->flags);
        }
        pthread_mutex_unlock(&primary->lock);
        return result;
}

void ivg_context_primary_flags_set(int device, uint32_t flags)
{
        ivg_store_relaxed_u32(&primaries[device].flags, flags); /* a word by itself */
}

/* The first version's rule: not while the context is there. */
CUresult cuDevicePrimaryCtxSetFlags(CUdevice dev, unsigned int flags)
{
        unsigned int now;
        int active = 0;
        const CUresult result = cuDevicePrimaryCtxGetState(dev, &now, &active);

        if (result != CUDA_SUCCESS)
                return result;
        return active ? CUDA_ERROR_PRIMARY_CONTEXT_ACTIVE : primary_set_flags(dev, flags);
}

CUresult cuDevicePrimaryCtxSetFlags_v2(CUdevice dev, unsigned int flags)
{
        return primary_set_flags(dev, flags);
}

/* Hot: PyTorch asks before nearly every operation. */
CUresult cuDevicePrimaryCtxGetState(CUdevice dev, unsigned int *flags, int *active)
{
        struct primary *primary;
        const CUresult result = primary_of(dev, &primary);
        const struct ivg_object *context;

        if (result != CUDA_SUCCESS)
                return result;
        if (flags == NULL || active == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        context = primary_context(primary);
        *flags = ivg_load_relaxed_u32(&primary->flags);
        *active = context != NULL && ivg_load_acquire_u32(&ivg_context_state(context)->active) != 0;
        return ivg_local("cuDevicePrimaryCtxGetState", CUDA_SUCCESS);
}
