/* The staging buffers of pageable copies: pieces of arena memory, each with a completion word. Two kinds
 * are registered for DMA; the third the driver reads at once, and the executor says when.
 *
 * A buffer is free (its bit is set), or owned by one copying thread. A copy to the device gives its buffers back while
 * the DMA may still read them (`pending`): the next owner waits for it, usually for nothing. */
#include "memory.h"
#include <sched.h>
#include <string.h>
#include <time.h>

/* How long a thread waits for buffers that other threads hold: each gives them back within its own copy. */
#define TAKE_WAIT_STEP_NS 20000
#define TAKE_WAIT_STEPS_MAX 500000u /* 10 s and more */
#define IDLE_LOOKS 8u
/* Pinning a new buffer takes the host half a millisecond for each MiB. Before that, once there are a few
 * (made_at_once), the stream's copy that was sent first gets about as long to end. */
#define MAKE_AFTER_NS 500000u

struct ivg_copy_buffers {
        struct ivg_arena_pool pool;
        uint64_t bytes; /* of each */
        uint32_t count_max, made_at_once;
        uint32_t first_word; /* completion word of the first */
        struct ivg_copy_buffer buffers[IVG_COPY_BUFFERS_MAX];
        _Atomic(uint64_t) free;  /* one bit each */
        _Atomic(uint64_t) gives; /* so far */
        _Atomic(uint32_t) count; /* made so far; written under the lock */
        pthread_mutex_t lock;
};

struct ivg_copy_buffers ivg_copy_buffers_for_dma = {
        .pool = IVG_ARENA_POOL("copy buffer", true, 2),
        .bytes = IVG_COPY_CHUNK_BYTES,
        .count_max = IVG_COPY_BUFFERS_MAX,
        .made_at_once = 8,
        .first_word = 0,
        .lock = PTHREAD_MUTEX_INITIALIZER,
};
struct ivg_copy_buffers ivg_copy_buffers_large = {
        .pool = IVG_ARENA_POOL("large copy buffer", true, 2),
        .bytes = IVG_COPY_LARGE_CHUNK_BYTES,
        .count_max = IVG_COPY_DEPTH_MAX,
        .made_at_once = 2,
        .first_word = 2 * IVG_COPY_BUFFERS_MAX,
        .lock = PTHREAD_MUTEX_INITIALIZER,
};
struct ivg_copy_buffers ivg_copy_buffers_to_read = {
        .pool = IVG_ARENA_POOL("small copy buffer", false, 3),
        .bytes = IVG_COPY_TO_READ_BYTES,
        .count_max = IVG_COPY_BUFFERS_MAX,
        .made_at_once = IVG_COPY_BUFFERS_MAX, /* there is nothing to pin */
        .first_word = IVG_COPY_BUFFERS_MAX,
        .lock = PTHREAD_MUTEX_INITIALIZER,
};

/* B1 acquire, pairs with B2: the last owner's notes in the buffer are complete. False: somebody was faster. */
static bool claim(struct ivg_copy_buffers *kind, uint32_t i)
{
        return atomic_fetch_and_explicit(&kind->free, ~(1ull << i), memory_order_acq_rel) >> i & 1;
}

/* As it was taken, its age with it. */
static void put_back(struct ivg_copy_buffer *buffer)
{
        /* B2 release, pairs with B1. */
        atomic_fetch_or_explicit(&buffer->kind->free, 1ull << (buffer - buffer->kind->buffers), memory_order_release);
}

void ivg_copy_buffer_give(struct ivg_copy_buffer *buffer)
{
        /* Relaxed: an order of age, for whoever has to wait. */
        ivg_store_relaxed_u64(&buffer->given, atomic_fetch_add_explicit(&buffer->kind->gives, 1, memory_order_relaxed));
        put_back(buffer);
}

/* Which of the buffers in `left`, not 0, was given back first. */
static uint32_t oldest(const struct ivg_copy_buffers *kind, uint64_t left)
{
        uint32_t found = (uint32_t)__builtin_ctzll(left);

        for (; left != 0; left &= left - 1) {
                const uint32_t i = (uint32_t)__builtin_ctzll(left);
                if (ivg_load_relaxed_u64(&kind->buffers[i].given) < ivg_load_relaxed_u64(&kind->buffers[found].given))
                        found = i;
        }
        return found;
}

/* The next of `left`, the oldest first, that nobody else takes meanwhile; NULL: that was all. */
static struct ivg_copy_buffer *claim_oldest(struct ivg_copy_buffers *kind, uint64_t *left)
{
        while (*left != 0) {
                const uint32_t i = oldest(kind, *left);
                *left &= ~(1ull << i);
                if (claim(kind, i))
                        return &kind->buffers[i];
        }
        return NULL;
}

static struct ivg_copy_buffer *claim_if_idle(struct ivg_copy_buffers *kind, uint32_t i)
{
        if (!claim(kind, i))
                return NULL;
        if (ivg_completion_done(&kind->buffers[i].completion))
                return &kind->buffers[i];
        put_back(&kind->buffers[i]);
        return NULL;
}

/* Among the first few, which a processor's caches still hold, then the one whose copy is likeliest to be over. */
static struct ivg_copy_buffer *claim_idle(struct ivg_copy_buffers *kind)
{
        struct ivg_copy_buffer *buffer = NULL;
        /* Relaxed: only a hint of where to look; claim() decides. */
        uint64_t left = ivg_load_relaxed_u64(&kind->free);

        for (uint32_t looks = 0; left != 0 && buffer == NULL && looks < IDLE_LOOKS; looks++, left &= left - 1)
                buffer = claim_if_idle(kind, (uint32_t)__builtin_ctzll(left));
        return buffer == NULL && left != 0 ? claim_if_idle(kind, oldest(kind, left)) : buffer;
}

static CUresult make_buffer(struct ivg_copy_buffers *kind, struct ivg_copy_buffer **buffer)
{
        void *memory = NULL;
        pthread_mutex_lock(&kind->lock);
        CUresult result = CUDA_ERROR_OUT_OF_MEMORY;
        const uint32_t i = ivg_load_relaxed_u32(&kind->count); /* relaxed: under the lock */
        if (i < kind->count_max)
                result = ivg_pool_take(&kind->pool, kind->bytes, &memory);
        if (result == CUDA_SUCCESS) {
                ivg_store_relaxed_u32(&kind->count, i + 1);
                kind->buffers[i] = (struct ivg_copy_buffer){
                        .kind = kind,
                        .memory = memory,
                        .arena_offset = (uint64_t)((uint8_t *)memory - ivg_process.arena),
                        .completion = {.index = kind->first_word + i, .by_executor = !kind->pool.registered},
                };
                *buffer = &kind->buffers[i];
        }
        pthread_mutex_unlock(&kind->lock);
        return result;
}

static bool is_of_current_context(const struct ivg_completion *completion)
{
        const struct ivg_object *context = ivg_context_current();

        return context != NULL && context->id == completion->context;
}

/* A free buffer whose copy is still under way, waited for. A buffer whose copy never ends (its context is gone with the
 * copy) is kept out of use for good: DMA into it cannot be excluded. */
static CUresult claim_pending(struct ivg_copy_buffers *kind, struct ivg_copy_buffer **claimed)
{
        uint64_t left = ivg_load_relaxed_u64(&kind->free);
        struct ivg_copy_buffer *buffer;
        while ((buffer = claim_oldest(kind, &left)) != NULL) {
                const CUresult result = ivg_completion_wait(&buffer->completion);
                if (!buffer->completion.pending) {
                        *claimed = buffer;
                        if (result == CUDA_SUCCESS || !is_of_current_context(&buffer->completion))
                                return CUDA_SUCCESS; /* an error elsewhere is that context's business */
                        put_back(buffer);
                        return result; /* taken from where later calls would have found it, so told here */
                }
                if (ivg_process_check() != CUDA_SUCCESS)
                        return ivg_process_check();
                if (result != CUDA_ERROR_LAUNCH_TIMEOUT) {
                        put_back(buffer);
                        return result;
                }
                ivg_log("%s %u: its copy did not end within %u ms; not used again", kind->pool.name,
                        (uint32_t)(buffer - kind->buffers), IVG_COMPLETION_POLL_MS);
        }
        return CUDA_ERROR_NOT_READY;
}

/* Relaxed: it grows, and one more or less does no harm. */
static bool has_enough(const struct ivg_copy_buffers *kind)
{
        return ivg_load_relaxed_u32(&kind->count) >= kind->made_at_once;
}

struct ivg_copy_buffer *ivg_copy_buffer_try(struct ivg_copy_buffers *kind, uint32_t *may_make)
{
        struct ivg_copy_buffer *buffer = claim_idle(kind);

        if (buffer != NULL)
                return buffer;
        if (has_enough(kind)) {
                if (*may_make == 0)
                        return NULL;
                --*may_make;
        }
        return make_buffer(kind, &buffer) == CUDA_SUCCESS ? buffer : NULL;
}

struct ivg_copy_buffer *ivg_copy_buffer_try_pending(struct ivg_copy_buffers *kind, const struct ivg_copy *copy)
{
        uint64_t left = ivg_load_relaxed_u64(&kind->free);
        struct ivg_copy_buffer *buffer;
        while ((buffer = claim_oldest(kind, &left)) != NULL) {
                if (buffer->completion.context == copy->context->id && buffer->completion.stream == copy->stream)
                        return buffer;
                put_back(buffer);
        }
        return NULL;
}

/* Of this stream, whose next copy comes after it anyway. NULL: none that ends soon. */
static struct ivg_copy_buffer *claim_soon_idle(struct ivg_copy_buffers *kind, const struct ivg_copy *copy)
{
        struct ivg_copy_buffer *buffer = has_enough(kind) ? ivg_copy_buffer_try_pending(kind, copy) : NULL;

        if (buffer == NULL || ivg_completion_done_within(&buffer->completion, MAKE_AFTER_NS))
                return buffer;
        put_back(buffer);
        return NULL;
}

CUresult ivg_copy_buffer_take(struct ivg_copy_buffers *kind, const struct ivg_copy *copy,
                              struct ivg_copy_buffer **buffer)
{
        const struct timespec pause = {.tv_nsec = TAKE_WAIT_STEP_NS};
        for (uint32_t step = 0; step < TAKE_WAIT_STEPS_MAX; step++) {
                *buffer = claim_idle(kind);
                if (*buffer == NULL)
                        *buffer = claim_soon_idle(kind, copy);
                if (*buffer != NULL)
                        return CUDA_SUCCESS;
                const CUresult made = make_buffer(kind, buffer);
                if (made == CUDA_SUCCESS)
                        return CUDA_SUCCESS;
                if (made != CUDA_ERROR_OUT_OF_MEMORY)
                        return made;
                const CUresult result = claim_pending(kind, buffer);
                if (result != CUDA_ERROR_NOT_READY)
                        return result;
                if (ivg_load_relaxed_u32(&kind->count) == 0)
                        return CUDA_ERROR_OUT_OF_MEMORY; /* the arena is full of other things: nothing will come */
                nanosleep(&pause, NULL);
        }
        return CUDA_ERROR_OUT_OF_MEMORY;
}
