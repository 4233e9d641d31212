/* The current context: each thread's stack, and the check that nearly every call starts with. No trips here. */
#include "context.h"
#include "cuda_api.h"
#include "memory.h"
#include <stdlib.h>

static struct {
        pthread_mutex_t lock;
        struct ivg_context_state *free;
        uint64_t ids; /* handed out so far: cuCtxGetId's are unique in a process's life */
} contexts = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* ---- the stack (hot) ---- */

CUresult ivg_context_check(struct ivg_object *context)
{
        return ivg_context_lives(context) ? CUDA_SUCCESS : CUDA_ERROR_CONTEXT_IS_DESTROYED;
}

CUresult ivg_context_require(struct ivg_object **context)
{
        return ivg_context_require_inline(context);
}

static void stack_set(struct ivg_thread *thread, uint32_t at, struct ivg_object *context)
{
        thread->context_stack[at] = context;
        thread->context_ids[at] = context->id;
}

CUresult ivg_context_push(struct ivg_object *context)
{
        struct ivg_thread *thread = ivg_thread_local();

        if (thread->context_depth == IVG_CONTEXT_STACK_MAX) {
                ivg_log("more than %u contexts pushed in one thread", IVG_CONTEXT_STACK_MAX);
                return CUDA_ERROR_OUT_OF_MEMORY;
        }
        stack_set(thread, thread->context_depth++, context);
        return CUDA_SUCCESS;
}

struct ivg_object *ivg_context_pop(void)
{
        struct ivg_thread *thread = ivg_thread_local();

        return thread->context_depth != 0 ? thread->context_stack[--thread->context_depth] : NULL;
}

/* ---- life ---- */

static struct ivg_context_state *state_take(void)
{
        struct ivg_context_state *state;

        pthread_mutex_lock(&contexts.lock);
        state = contexts.free;
        if (state != NULL)
                contexts.free = state->next_free;
        else
                state = calloc(1, sizeof(*state));
        if (state != NULL) {
                state->unique_id = ++contexts.ids;
                state->green = NULL;
                if (state->storage == NULL)
                        state->storage = ivg_storage_create();
                if (state->storage == NULL) { /* keep it for a better day */
                        state->next_free = contexts.free;
                        contexts.free = state;
                        state = NULL;
                }
        }
        pthread_mutex_unlock(&contexts.lock);
        return state;
}

CUresult ivg_context_new(int device, struct ivg_object **out)
{
        struct ivg_context_state *state = state_take();
        struct ivg_object *context;
        CUresult result;

        if (state == NULL)
                return CUDA_ERROR_OUT_OF_MEMORY;
        result = ivg_object_create(IVG_KIND_CONTEXT, NULL, &context);
        if (result != CUDA_SUCCESS) {
                pthread_mutex_lock(&contexts.lock);
                state->next_free = contexts.free;
                contexts.free = state;
                pthread_mutex_unlock(&contexts.lock);
                return result;
        }
        context->device = device;
        context->data = state;
        *out = context;
        return CUDA_SUCCESS;
}

CUresult ivg_context_flags_check(uint32_t flags, const char *refusal)
{
        if ((flags & CU_CTX_SCHED_MASK) == CU_CTX_SCHED_BLOCKING_SYNC)
                ivg_waits_block();
        return (flags & (CU_CTX_COREDUMP_ENABLE | CU_CTX_USER_COREDUMP_ENABLE)) == 0 ? CUDA_SUCCESS
                                                                                     : ivg_refuse(refusal);
}

void ivg_context_deactivate(struct ivg_object *context)
{
        struct ivg_context_state *state = ivg_context_state(context);

        ivg_store_release_u32(&state->active, 0);
        ivg_store_relaxed_u32(&ivg_faulted, 0); /* whoever has another dead context is told by its next answer */
        ivg_objects_destroy_of_context(context);
        ivg_completions_end_of_context(context);
        ivg_memory_end_of_context(context);
        ivg_cached_drop(&state->interface_version);
        ivg_cached_drop(&state->flags);
        ivg_cached_drop(&state->priority_least);
        ivg_cached_drop(&state->priority_greatest);
        for (int i = 0; i < CU_LIMIT_MAX; i++)
                ivg_cached_drop(&state->limits[i]);
}

void ivg_context_free(struct ivg_object *context)
{
        struct ivg_context_state *state = ivg_context_state(context);

        ivg_context_deactivate(context);
        ivg_object_destroy(context);
        pthread_mutex_lock(&contexts.lock);
        state->next_free = contexts.free;
        contexts.free = state;
        pthread_mutex_unlock(&contexts.lock);
}

uint64_t ivg_context_unique_id(const struct ivg_object *context)
{
        return ivg_context_state(context)->unique_id;
}

struct ivg_context_storage *ivg_context_storage(struct ivg_object *context)
{
        return ivg_context_state(context)->storage;
}

/* ---- exported ---- */

CUresult cuCtxGetCurrent(CUcontext *pctx)
{
        const CUresult result = ivg_process_check();

        if (result != CUDA_SUCCESS)
                return result;
        if (pctx == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        *pctx = (CUcontext)ivg_context_current();
        return ivg_local("cuCtxGetCurrent", CUDA_SUCCESS);
}

CUresult cuCtxSetCurrent(CUcontext ctx)
{
        struct ivg_thread *thread = ivg_thread_local();
        struct ivg_object *context = ivg_object_of(IVG_KIND_CONTEXT, ctx);
        const CUresult result = ivg_process_check();

        if (result != CUDA_SUCCESS)
                return result;
        if (ctx == NULL)
                (void)ivg_context_pop();
        else if (context == NULL)
                return CUDA_ERROR_INVALID_CONTEXT;
        else if (thread->context_depth == 0)
                return ivg_local("cuCtxSetCurrent", ivg_context_push(context));
        else
                stack_set(thread, thread->context_depth - 1, context);
        return ivg_local("cuCtxSetCurrent", CUDA_SUCCESS);
}

static CUresult push_current(CUcontext ctx)
{
        struct ivg_object *context = ivg_object_of(IVG_KIND_CONTEXT, ctx);
        const CUresult result = ivg_process_check();

        if (result != CUDA_SUCCESS)
                return result;
        return context == NULL ? CUDA_ERROR_INVALID_CONTEXT : ivg_context_push(context);
}

CUresult cuCtxPushCurrent(CUcontext ctx)
{
        return ivg_local("cuCtxPushCurrent", push_current(ctx));
}

CUresult cuCtxPushCurrent_v2(CUcontext ctx)
{
        return ivg_local("cuCtxPushCurrent_v2", push_current(ctx));
}

static CUresult pop_current(CUcontext *pctx)
{
        const CUresult result = ivg_process_check();
        struct ivg_object *context;

        if (result != CUDA_SUCCESS)
                return result;
        context = ivg_context_pop();
        if (context == NULL)
                return CUDA_ERROR_INVALID_CONTEXT;
        if (pctx != NULL)
                *pctx = (CUcontext)context;
        return CUDA_SUCCESS;
}

CUresult cuCtxPopCurrent(CUcontext *pctx)
{
        return ivg_local("cuCtxPopCurrent", pop_current(pctx));
}

CUresult cuCtxPopCurrent_v2(CUcontext *pctx)
{
        return ivg_local("cuCtxPopCurrent_v2", pop_current(pctx));
}

/* Asked before almost every runtime call: a million times in a decode run. */
CUresult cuCtxGetDevice(CUdevice *device)
{
        struct ivg_object *context;
        const CUresult result = ivg_context_require(&context);

        if (result != CUDA_SUCCESS)
                return result;
        if (device == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        *device = context->device;
        return ivg_local("cuCtxGetDevice", CUDA_SUCCESS);
}

bool ivg_context_borrow(enum ivg_kind kind, const void *handle)
{
        const struct ivg_object *object = ivg_object_of(kind, handle);

        return ivg_thread_local()->context_depth == 0 && object != NULL && object->context != NULL &&
               ivg_context_push(object->context) == CUDA_SUCCESS;
}

void ivg_context_return(void)
{
        (void)ivg_context_pop();
}

CUresult ivg_context_given(CUcontext ctx, struct ivg_object **context)
{
        CUresult result;

        if (ctx == NULL)
                return ivg_context_require(context);
        result = ivg_process_check();
        if (result != CUDA_SUCCESS)
                return result;
        *context = ivg_object_of(IVG_KIND_CONTEXT, ctx);
        return *context == NULL ? CUDA_ERROR_INVALID_CONTEXT : ivg_context_check(*context);
}

CUresult cuCtxGetDevice_v2(CUdevice *device, CUcontext ctx)
{
        struct ivg_object *context;
        const CUresult result = ivg_context_given(ctx, &context);

        if (result != CUDA_SUCCESS)
                return result;
        if (device == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        *device = context->device;
        return ivg_local("cuCtxGetDevice_v2", CUDA_SUCCESS);
}

CUresult cuCtxGetId(CUcontext ctx, unsigned long long *ctxId)
{
        struct ivg_object *context;
        const CUresult result = ivg_context_given(ctx, &context);

        if (result != CUDA_SUCCESS)
                return result;
        if (ctxId == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        *ctxId = ivg_context_unique_id(context);
        return ivg_local("cuCtxGetId", CUDA_SUCCESS);
}
