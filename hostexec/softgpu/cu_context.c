/* Contexts: their life, and each thread's stack of current ones. */
#include <string.h>

#include "array.h"
#include "softgpu.h"

#define SG_CONTEXTS_MAX 1024u
#define SG_STACK_BYTES_DEFAULT 1024u
#define SG_PRINTF_BYTES_DEFAULT (1u << 20)
#define SG_HEAP_BYTES_DEFAULT (8u << 20)
#define SG_PENDING_LAUNCHES_DEFAULT 2048u
#define SG_L2_FETCH_BYTES_DEFAULT 64u

pthread_mutex_t sg_state_lock = PTHREAD_MUTEX_INITIALIZER;

static struct sg_context *sg_contexts; /* open ones */
static _Atomic(uint64_t) sg_context_ids = 1;

/* A current context is remembered with its id: the slot of a destroyed one may serve a newer context. */
struct sg_current {
        struct sg_context *context;
        uint64_t id;
};
static __thread struct sg_current sg_stack[SG_CONTEXT_DEPTH_MAX];
static __thread unsigned sg_depth;
static __thread unsigned sg_callbacks;

void sg_callback_enter(void)
{
        sg_callbacks++;
}

void sg_callback_leave(void)
{
        sg_callbacks--;
}

CUresult sg_context_peek(struct sg_context **out)
{
        const CUresult ready = sg_ready();
        if (ready != CUDA_SUCCESS)
                return ready;
        if (sg_callbacks != 0)
                return CUDA_ERROR_NOT_PERMITTED;
        if (sg_depth == 0 || sg_stack[sg_depth - 1].context == NULL)
                return CUDA_ERROR_INVALID_CONTEXT;
        const struct sg_current *top = &sg_stack[sg_depth - 1];
        struct sg_context *context = sg_object_from(top->context, SG_CONTEXT);
        if (context == NULL || context->id != top->id)
                return CUDA_ERROR_CONTEXT_IS_DESTROYED;
        *out = context;
        return CUDA_SUCCESS;
}

CUresult sg_context_check(const struct sg_context *context)
{
        /* Relaxed: the code itself is all that is taken from it. */
        return (CUresult)atomic_load_explicit(&context->failure, memory_order_relaxed);
}

CUresult sg_context_current(struct sg_context **out)
{
        const CUresult result = sg_context_peek(out);
        return result != CUDA_SUCCESS ? result : sg_context_check(*out);
}

CUresult sg_context_lookup(CUcontext handle, struct sg_context **out)
{
        const CUresult ready = sg_ready();
        if (ready != CUDA_SUCCESS)
                return ready;
        *out = sg_object_from(handle, SG_CONTEXT);
        if (*out == NULL)
                *out = sg_green_context(handle);
        return *out != NULL ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CONTEXT;
}

void sg_context_fail(struct sg_context *context, CUresult error)
{
        uint32_t none = 0;
        if (atomic_compare_exchange_strong(&context->failure, &none, (uint32_t)error))
                atomic_store(&context->abort, 1);
}

CUresult sg_context_flags_check(unsigned flags)
{
        const unsigned scheduling = flags & CU_CTX_SCHED_MASK;
        if ((flags & ~(unsigned)CU_CTX_FLAGS_MASK) != 0)
                return CUDA_ERROR_INVALID_VALUE;
        if (scheduling != 0 && (scheduling & (scheduling - 1)) != 0)
                return CUDA_ERROR_INVALID_VALUE;
        return CUDA_SUCCESS;
}

void sg_contexts_abort(void)
{
        pthread_mutex_lock(&sg_state_lock);
        for (struct sg_context *context = sg_contexts; context != NULL; context = context->next) {
                sg_context_fail(context, CUDA_ERROR_DEINITIALIZED);
                atomic_store(&context->abort, 1);
        }
        pthread_mutex_unlock(&sg_state_lock);
}

CUresult sg_context_open(struct sg_device *device, unsigned flags, bool primary, struct sg_context **out)
{
        struct sg_context *context = sg_object_new(SG_CONTEXT);
        if (context == NULL)
                return CUDA_ERROR_OUT_OF_MEMORY;
        sg_context_pause();
        context->device = device;
        context->id = atomic_fetch_add(&sg_context_ids, 1);
        context->flags = flags;
        context->api_version = sg_driver_version();
        context->primary = primary;
        atomic_init(&context->limits[CU_LIMIT_STACK_SIZE], SG_STACK_BYTES_DEFAULT);
        atomic_init(&context->limits[CU_LIMIT_PRINTF_FIFO_SIZE], SG_PRINTF_BYTES_DEFAULT);
        atomic_init(&context->limits[CU_LIMIT_MALLOC_HEAP_SIZE], SG_HEAP_BYTES_DEFAULT);
        atomic_init(&context->limits[CU_LIMIT_DEV_RUNTIME_PENDING_LAUNCH_COUNT], SG_PENDING_LAUNCHES_DEFAULT);
        atomic_init(&context->limits[CU_LIMIT_MAX_L2_FETCH_GRANULARITY], SG_L2_FETCH_BYTES_DEFAULT);
        const CUresult result = sg_stream_open(context, SG_STREAM_LEGACY, 0, 0, &context->legacy);
        if (result != CUDA_SUCCESS) {
                sg_object_put(context);
                return result;
        }
        pthread_mutex_lock(&sg_state_lock);
        context->next = sg_contexts;
        sg_contexts = context;
        pthread_mutex_unlock(&sg_state_lock);
        *out = context;
        return CUDA_SUCCESS;
}

/* No context may reach into `gone` any longer; under sg_state_lock. */
static void sg_peers_forget(const struct sg_context *gone)
{
        pthread_mutex_lock(&sg_memory_lock);
        for (struct sg_context *context = sg_contexts; context != NULL; context = context->next)
                for (unsigned i = 0; i < context->peer_count; i++)
                        if (context->peers[i] == gone)
                                context->peers[i--] = context->peers[--context->peer_count];
        sg_registry_changed();
        pthread_mutex_unlock(&sg_memory_lock);
}

void sg_context_close(struct sg_context *context)
{
        sg_work_close(context);
        pthread_mutex_lock(&sg_state_lock);
        for (struct sg_context **link = &sg_contexts; *link != NULL; link = &(*link)->next)
                if (*link == context) {
                        *link = context->next;
                        break;
                }
        sg_peers_forget(context);
        pthread_mutex_unlock(&sg_state_lock);
        sg_library_forget_context(context);
        for (;;) {
                pthread_mutex_lock(&sg_state_lock);
                struct sg_module *module = context->modules;
                const bool mine = module != NULL && sg_object_retire(module);
                pthread_mutex_unlock(&sg_state_lock);
                if (!mine)
                        break;
                sg_module_close(module);
        }
        sg_resources_close(context);
        sg_registry_release_context(context);
        sg_map_forget(context);
        sg_object_put(context);
}

void sg_context_finalize(struct sg_context *context)
{
        sg_map_forget(context);
}

void sg_contexts_forget_maps(void)
{
        pthread_mutex_lock(&sg_state_lock);
        for (struct sg_context *context = sg_contexts; context != NULL; context = context->next)
                sg_map_forget(context);
        pthread_mutex_unlock(&sg_state_lock);
}

void sg_contexts_drain(void)
{
        struct sg_context *open[SG_CONTEXTS_MAX];
        unsigned count = 0;
        pthread_mutex_lock(&sg_state_lock);
        for (struct sg_context *context = sg_contexts; context != NULL && count < SG_CONTEXTS_MAX;
             context = context->next) {
                sg_object_get(context);
                open[count++] = context;
        }
        pthread_mutex_unlock(&sg_state_lock);
        for (unsigned i = 0; i < count; i++) {
                (void)sg_context_drain(open[i]);
                sg_object_put(open[i]);
        }
}

/* ---- current contexts ---- */

static CUresult context_push(struct sg_context *context)
{
        if (sg_depth == SG_CONTEXT_DEPTH_MAX)
                return CUDA_ERROR_OUT_OF_MEMORY;
        sg_stack[sg_depth++] = (struct sg_current){.context = context, .id = context != NULL ? context->id : 0};
        return CUDA_SUCCESS;
}

static CUresult sg_context_create(CUcontext *out, unsigned flags, CUdevice ordinal, unsigned api_version)
{
        struct sg_device *device;
        struct sg_context *context;
        CUresult result = sg_device_find(ordinal, &device);
        if (result == CUDA_SUCCESS && out == NULL)
                result = CUDA_ERROR_INVALID_VALUE;
        if (result == CUDA_SUCCESS)
                result = sg_context_flags_check(flags);
        if (result == CUDA_SUCCESS && sg_depth == SG_CONTEXT_DEPTH_MAX)
                result = CUDA_ERROR_OUT_OF_MEMORY;
        if (result == CUDA_SUCCESS)
                result = sg_context_open(device, flags, false, &context);
        if (result != CUDA_SUCCESS)
                return result;
        context->api_version = api_version;
        (void)context_push(context); /* the depth was checked above */
        *out = (CUcontext)context;
        return CUDA_SUCCESS;
}

SG_ENTRY(cuCtxCreate, CUcontext *out, unsigned flags, CUdevice ordinal)
{
        return sg_context_create(out, flags, ordinal, 3010);
}

SG_ENTRY(cuCtxCreate_v2, CUcontext *out, unsigned flags, CUdevice ordinal)
{
        return sg_context_create(out, flags, ordinal, 3020);
}

SG_ENTRY(cuCtxCreate_v3, CUcontext *out, CUexecAffinityParam *affinity, int count, unsigned flags, CUdevice ordinal)
{
        if (count != 0 || affinity != NULL)
                return CUDA_ERROR_UNSUPPORTED_EXEC_AFFINITY;
        return sg_context_create(out, flags, ordinal, 11040);
}

SG_ENTRY(cuCtxCreate_v4, CUcontext *out, CUctxCreateParams *params, unsigned flags, CUdevice ordinal)
{
        if (params != NULL && (params->numExecAffinityParams != 0 || params->execAffinityParams != NULL))
                return CUDA_ERROR_UNSUPPORTED_EXEC_AFFINITY;
        if (params != NULL && params->cigParams != NULL)
                return CUDA_ERROR_NOT_SUPPORTED;
        return sg_context_create(out, flags, ordinal, sg_driver_version());
}

SG_ENTRY(cuCtxDestroy_v2, CUcontext handle)
{
        struct sg_context *context;
        const CUresult result = sg_context_lookup(handle, &context);
        if (result != CUDA_SUCCESS)
                return result;
        if (sg_callbacks != 0)
                return CUDA_ERROR_NOT_PERMITTED;
        if (context->primary || !sg_object_retire(context))
                return CUDA_ERROR_INVALID_CONTEXT;
        if (sg_depth != 0 && sg_stack[sg_depth - 1].context == context)
                sg_depth--;
        sg_context_close(context);
        return CUDA_SUCCESS;
}
SG_ALIAS(cuCtxDestroy, cuCtxDestroy_v2);

SG_ENTRY(cuCtxPushCurrent_v2, CUcontext handle)
{
        struct sg_context *context;
        const CUresult result = sg_context_lookup(handle, &context);
        return result != CUDA_SUCCESS ? result : context_push(context);
}
SG_ALIAS(cuCtxPushCurrent, cuCtxPushCurrent_v2);

SG_ENTRY(cuCtxPopCurrent_v2, CUcontext *out)
{
        const CUresult ready = sg_ready();
        if (ready != CUDA_SUCCESS)
                return ready;
        if (sg_depth == 0)
                return CUDA_ERROR_INVALID_CONTEXT;
        sg_depth--;
        if (out != NULL)
                *out = (CUcontext)sg_stack[sg_depth].context;
        return CUDA_SUCCESS;
}
SG_ALIAS(cuCtxPopCurrent, cuCtxPopCurrent_v2);

SG_ENTRY(cuCtxSetCurrent, CUcontext handle)
{
        struct sg_context *context = NULL;
        const CUresult result = handle != NULL ? sg_context_lookup(handle, &context) : sg_ready();
        if (result != CUDA_SUCCESS)
                return result;
        /* NULL takes the top away; a context replaces it. */
        if (sg_depth != 0)
                sg_depth--;
        return context != NULL ? context_push(context) : CUDA_SUCCESS;
}

SG_ENTRY(cuCtxGetCurrent, CUcontext *out)
{
        const CUresult ready = sg_ready();
        if (ready != CUDA_SUCCESS)
                return ready;
        if (out == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        *out = sg_depth != 0 ? (CUcontext)sg_stack[sg_depth - 1].context : NULL;
        return CUDA_SUCCESS;
}

CUresult sg_context_or_current(CUcontext handle, struct sg_context **out)
{
        return handle != NULL ? sg_context_lookup(handle, out) : sg_context_peek(out);
}

/* ---- waiting for one ---- */

SG_ENTRY(cuCtxSynchronize, void)
{
        struct sg_context *context;
        CUresult result = sg_context_current(&context);
        if (result == CUDA_SUCCESS && atomic_load(&sg_captures) != 0)
                result = sg_capture_check_context(context);
        return result != CUDA_SUCCESS ? result : sg_context_drain(context);
}

SG_ENTRY(cuCtxSynchronize_v2, CUcontext handle)
{
        struct sg_context *context;
        CUresult result = sg_context_or_current(handle, &context);
        if (result == CUDA_SUCCESS && sg_callbacks != 0)
                result = CUDA_ERROR_NOT_PERMITTED;
        if (result == CUDA_SUCCESS)
                result = sg_context_check(context);
        if (result == CUDA_SUCCESS && atomic_load(&sg_captures) != 0)
                result = sg_capture_check_context(context);
        return result != CUDA_SUCCESS ? result : sg_context_drain(context);
}
