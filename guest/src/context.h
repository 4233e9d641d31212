/* A context as the guest keeps it: what is answered without a trip hangs here. Shared by context*.c. */
#ifndef IVG_GUEST_CONTEXT_H
#define IVG_GUEST_CONTEXT_H

#include "guest.h"

/* A value that is fetched from the host once and then answered locally, until somebody sets it. */
struct ivg_cached {
        _Atomic(uint32_t) known;
        _Atomic(uint64_t) value;
};

/* Readable for ever, also after the context's end: taken from a pool and put back, never freed. A thread may still have
 * an ended context on its stack and must be able to look. */
struct ivg_context_state {
        _Atomic(uint32_t) active;   /* 0: ended (created ones), released or reset (primary ones) */
        _Atomic(uint32_t) attached; /* created ones: cuCtxAttach counts up, cuCtxDetach down */
        /* How often a stream of it ended that was not known to be done; and as of when all such work is (work.c).
         */
        _Atomic(uint64_t) left, left_done;
        struct ivg_object *green; /* a part of a device's: the object that cuGreenCtxDestroy ends; NULL: plain */
        uint64_t unique_id;
        struct ivg_context_storage *storage;
        struct ivg_cached interface_version, flags, priority_least, priority_greatest;
        struct ivg_cached limits[CU_LIMIT_MAX];
        struct ivg_context_state *next_free;
};

static inline struct ivg_context_state *ivg_context_state(const struct ivg_object *context)
{
        return context->data;
}

static inline bool ivg_context_lives(const struct ivg_object *context)
{
        const struct ivg_context_state *state;

        /* Acquire, pairs with the release in create or retain: the state is complete. */
        if (__builtin_expect(ivg_load_acquire_u32(&context->kind) != IVG_KIND_CONTEXT, 0))
                return false;
        state = ivg_context_state(context);
        return state != NULL && ivg_load_acquire_u32(&state->active) != 0;
}

/* ivg_context_require for the hottest calls. */
static inline CUresult ivg_context_require_inline(struct ivg_object **context)
{
        const struct ivg_thread *thread = ivg_thread_local();
        const CUresult result = ivg_process_check();
        const uint32_t depth = thread->context_depth;

        if (__builtin_expect(result != CUDA_SUCCESS, 0))
                return result;
        if (__builtin_expect(depth == 0, 0))
                return CUDA_ERROR_INVALID_CONTEXT;
        *context = thread->context_stack[depth - 1];
        /* Another number: its cell is another object's now. */
        return (*context)->id == thread->context_ids[depth - 1] && ivg_context_lives(*context)
                       ? CUDA_SUCCESS
                       : CUDA_ERROR_CONTEXT_IS_DESTROYED;
}

static inline bool ivg_cached_get(const struct ivg_cached *cached, uint64_t *value)
{
        /* Acquire, pairs with ivg_cached_set: the value belongs to the mark. */
        if (ivg_load_acquire_u32(&cached->known) == 0)
                return false;
        *value = ivg_load_relaxed_u64(&cached->value);
        return true;
}

static inline void ivg_cached_set(struct ivg_cached *cached, uint64_t value)
{
        ivg_store_relaxed_u64(&cached->value, value);
        ivg_store_release_u32(&cached->known, 1);
}

static inline void ivg_cached_drop(struct ivg_cached *cached)
{
        ivg_store_release_u32(&cached->known, 0);
}

/* `ctx`, or the current one for NULL; alive. */
CUresult ivg_context_given(CUcontext ctx, struct ivg_object **context);
/* The current context's range of stream priorities. */
CUresult ivg_context_priorities(struct ivg_object *context, int *least, int *greatest);
/* What a new stream tells of itself (stream.c). */
void ivg_stream_describe(struct ivg_object *stream, unsigned int flags, int priority);
/* A context object with fresh state, not yet active. */
CUresult ivg_context_new(int device, struct ivg_object **context);
/* The context's resources are gone: storage destructors have run, objects end, cached answers are forgotten. The object
 * itself stays (primary contexts). */
void ivg_context_deactivate(struct ivg_object *context);
/* Also the object and its state (created contexts). */
void ivg_context_free(struct ivg_object *context);
/* Primary contexts, retained and released as the program does. */
CUresult ivg_context_primary_release(int device);
bool ivg_context_is_primary(const struct ivg_object *context);
/* CUDA_SUCCESS, or the refusal of flags that let the driver write files; notes how threads are to wait. */
CUresult ivg_context_flags_check(uint32_t flags, const char *refusal);
/* What cuDevicePrimaryCtxGetState tells from now on. */
void ivg_context_primary_flags_set(int device, uint32_t flags);
/* The calling thread's stack. */
CUresult ivg_context_push(struct ivg_object *context);
struct ivg_object *ivg_context_pop(void); /* NULL: empty */

#endif
