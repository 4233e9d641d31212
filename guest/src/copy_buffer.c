/* The staging buffers of pageable copies: pieces of arena memory, each with a completion word. One kind is
 * registered for DMA; the other the driver reads at once, and the executor says when.
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

struct ivg_copy_buffers {
        struct ivg_arena_pool pool;
        uint64_t bytes;      /* of each */
        uint32_t first_word; /* completion word of the first */
        struct ivg_copy_buffer buffers[IVG_COPY_BUFFERS_MAX];
        _Atomic(uint64_t) free;  /* one bit each */
        _Atomic(uint32_t) count; /* made so far; written under the lock */
        pthread_mutex_t lock;
};

struct ivg_copy_buffers ivg_copy_buffers_for_dma = {
        .pool = IVG_ARENA_POOL("copy buffer", true, 2),
        .bytes = IVG_COPY_CHUNK_BYTES,
        .first_word = 0,
        .lock = PTHREAD_MUTEX_INITIALIZER,
};
struct ivg_copy_buffers ivg_copy_buffers_to_read = {
        .pool = IVG_ARENA_POOL("small copy buffer", false, 3),
        .bytes = IVG_COPY_READ_BYTES_MAX,
        .first_word = IVG_COPY_BUFFERS_MAX,
        .lock = PTHREAD_MUTEX_INITIALIZER,
};

/* B1 acquire, pairs with B2: the last owner's notes in the buffer are complete. False: somebody was faster. */
static bool claim(struct ivg_copy_buffers *kind, uint32_t i)
{
        return atomic_fetch_and_explicit(&kind->free, ~(1ull << i), memory_order_acq_rel) >> i & 1;
}

void ivg_copy_buffer_give(struct ivg_copy_buffer *buffer)
{
        struct ivg_copy_buffers *kind = buffer->kind;

        /* B2 release, pairs with B1. */
        atomic_fetch_or_explicit(&kind->free, 1ull << (buffer - kind->buffers), memory_order_release);
}

static struct ivg_copy_buffer *claim_idle(struct ivg_copy_buffers *kind)
{
        /* Relaxed: only a hint of where to look; claim() decides. */
        for (uint64_t left = ivg_load_relaxed_u64(&kind->free); left != 0; left &= left - 1) {
                const uint32_t i = (uint32_t)__builtin_ctzll(left);
                if (!claim(kind, i))
                        continue;
                if (ivg_completion_done(&kind->buffers[i].completion))
                        return &kind->buffers[i];
                ivg_copy_buffer_give(&kind->buffers[i]);
        }
        return NULL;
}

static CUresult make_buffer(struct ivg_copy_buffers *kind, struct ivg_copy_buffer **buffer)
{
        void *memory = NULL;
        pthread_mutex_lock(&kind->lock);
        CUresult result = CUDA_ERROR_OUT_OF_MEMORY;
        const uint32_t i = ivg_load_relaxed_u32(&kind->count); /* relaxed: under the lock */
        if (i < IVG_COPY_BUFFERS_MAX)
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
static CUresult claim_pending(struct ivg_copy_buffers *kind, struct ivg_copy_buffer **buffer)
{
        for (uint64_t left = ivg_load_relaxed_u64(&kind->free); left != 0; left &= left - 1) {
                const uint32_t i = (uint32_t)__builtin_ctzll(left);
                if (!claim(kind, i))
                        continue;
                const CUresult result = ivg_completion_wait(&kind->buffers[i].completion);
                if (!kind->buffers[i].completion.pending) {
                        *buffer = &kind->buffers[i];
                        if (result == CUDA_SUCCESS || !is_of_current_context(&kind->buffers[i].completion))
                                return CUDA_SUCCESS; /* an error elsewhere is that context's business */
                        ivg_copy_buffer_give(*buffer);
                        return result; /* taken from where later calls would have found it, so told here */
                }
                if (ivg_process_check() != CUDA_SUCCESS)
                        return ivg_process_check();
                if (result != CUDA_ERROR_LAUNCH_TIMEOUT) {
                        ivg_copy_buffer_give(&kind->buffers[i]);
                        return result;
                }
                ivg_log("%s %u: its copy did not end within %u ms; not used again", kind->pool.name, i,
                        IVG_COMPLETION_POLL_MS);
        }
        return CUDA_ERROR_NOT_READY;
}

struct ivg_copy_buffer *ivg_copy_buffer_try(struct ivg_copy_buffers *kind)
{
        struct ivg_copy_buffer *buffer = claim_idle(kind);
        if (buffer == NULL && make_buffer(kind, &buffer) != CUDA_SUCCESS)
                buffer = NULL;
        return buffer;
}

CUresult ivg_copy_buffer_take(struct ivg_copy_buffers *kind, struct ivg_copy_buffer **buffer)
{
        const struct timespec pause = {.tv_nsec = TAKE_WAIT_STEP_NS};
        for (uint32_t step = 0; step < TAKE_WAIT_STEPS_MAX; step++) {
                *buffer = claim_idle(kind);
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
