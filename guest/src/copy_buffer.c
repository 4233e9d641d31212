/* The staging buffers of pageable copies: chunks of registered arena memory, each with a completion word.
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

struct ivg_arena_pool ivg_copy_pool = IVG_ARENA_POOL("copy buffer", true, 2);

static struct ivg_copy_buffer buffers[IVG_COPY_BUFFERS_MAX];
static _Atomic(uint64_t) buffers_free;  /* one bit each */
static _Atomic(uint32_t) buffers_count; /* made so far; written under the lock */
static pthread_mutex_t buffers_lock = PTHREAD_MUTEX_INITIALIZER;

/* B1 acquire, pairs with B2: the last owner's notes in the buffer are complete. False: somebody was faster. */
static bool claim(uint32_t i)
{
        return atomic_fetch_and_explicit(&buffers_free, ~(1ull << i), memory_order_acq_rel) >> i & 1;
}

void ivg_copy_buffer_give(struct ivg_copy_buffer *buffer)
{
        /* B2 release, pairs with B1. */
        atomic_fetch_or_explicit(&buffers_free, 1ull << (buffer - buffers), memory_order_release);
}

static struct ivg_copy_buffer *claim_idle(void)
{
        /* Relaxed: only a hint of where to look; claim() decides. */
        for (uint64_t left = ivg_load_relaxed_u64(&buffers_free); left != 0; left &= left - 1) {
                const uint32_t i = (uint32_t)__builtin_ctzll(left);
                if (!claim(i))
                        continue;
                if (ivg_completion_done(&buffers[i].completion))
                        return &buffers[i];
                ivg_copy_buffer_give(&buffers[i]);
        }
        return NULL;
}

static CUresult make_buffer(struct ivg_copy_buffer **buffer)
{
        void *memory = NULL;
        pthread_mutex_lock(&buffers_lock);
        CUresult result = CUDA_ERROR_OUT_OF_MEMORY;
        const uint32_t i = ivg_load_relaxed_u32(&buffers_count); /* relaxed: under the lock */
        if (i < IVG_COPY_BUFFERS_MAX)
                result = ivg_pool_take(&ivg_copy_pool, IVG_COPY_CHUNK_BYTES, &memory);
        if (result == CUDA_SUCCESS) {
                ivg_store_relaxed_u32(&buffers_count, i + 1);
                buffers[i] = (struct ivg_copy_buffer){
                        .memory = memory,
                        .arena_offset = (uint64_t)((uint8_t *)memory - ivg_process.arena),
                        .completion = {.index = i},
                };
                *buffer = &buffers[i];
        }
        pthread_mutex_unlock(&buffers_lock);
        return result;
}

/* A free buffer whose copy is still under way, waited for. A buffer whose copy never ends (its context is gone with the
 * copy) is kept out of use for good: DMA into it cannot be excluded. */
static CUresult claim_pending(struct ivg_copy_buffer **buffer)
{
        for (uint64_t left = ivg_load_relaxed_u64(&buffers_free); left != 0; left &= left - 1) {
                const uint32_t i = (uint32_t)__builtin_ctzll(left);
                if (!claim(i))
                        continue;
                const CUresult result = ivg_completion_wait(&buffers[i].completion);
                if (!buffers[i].completion.pending) {
                        *buffer = &buffers[i];
                        return CUDA_SUCCESS; /* an error of the earlier copy is its context's business */
                }
                if (ivg_process_check() != CUDA_SUCCESS)
                        return ivg_process_check();
                if (result != CUDA_ERROR_LAUNCH_TIMEOUT) {
                        ivg_copy_buffer_give(&buffers[i]);
                        return result;
                }
                ivg_log("copy buffer %u: its copy did not end within %u ms; not used again", i, IVG_COMPLETION_POLL_MS);
        }
        return CUDA_ERROR_NOT_READY;
}

struct ivg_copy_buffer *ivg_copy_buffer_try(void)
{
        struct ivg_copy_buffer *buffer = claim_idle();
        if (buffer == NULL && make_buffer(&buffer) != CUDA_SUCCESS)
                buffer = NULL;
        return buffer;
}

CUresult ivg_copy_buffer_take(struct ivg_copy_buffer **buffer)
{
        const struct timespec pause = {.tv_nsec = TAKE_WAIT_STEP_NS};
        for (uint32_t step = 0; step < TAKE_WAIT_STEPS_MAX; step++) {
                *buffer = claim_idle();
                if (*buffer != NULL)
                        return CUDA_SUCCESS;
                const CUresult made = make_buffer(buffer);
                if (made == CUDA_SUCCESS)
                        return CUDA_SUCCESS;
                if (made != CUDA_ERROR_OUT_OF_MEMORY)
                        return made;
                const CUresult result = claim_pending(buffer);
                if (result != CUDA_ERROR_NOT_READY)
                        return result;
                if (ivg_load_relaxed_u32(&buffers_count) == 0)
                        return CUDA_ERROR_OUT_OF_MEMORY; /* the arena is full of other things: nothing will come */
                nanosleep(&pause, NULL);
        }
        return CUDA_ERROR_OUT_OF_MEMORY;
}
