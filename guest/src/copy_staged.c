/* Copies between pageable memory and the device, through copy buffers in the arena: the processors move one chunk while
 * the device moves others. Large ones by several threads (copy_work.h, copy_helpers.c). */
#include "copy_work.h"
#include <sched.h>
#include <stdlib.h>

#define CHUNK_BYTES_MIN (64u << 10)
#define SPINS_PER_YIELD 1000u /* the helper that this thread waits for may need the processor */

/* What was found best, see docs/measurements.md; the variables are for finding it. */
static struct {
        uint64_t shared_from_bytes; /* copies from this size on are shared with helpers */
        uint64_t large_from_bytes;  /* and from this size on go in large chunks */
        uint64_t chunk_bytes, large_chunk_bytes, piece_bytes;
        uint64_t up_past_caches_from_bytes, down_past_caches_from_bytes;
        uint32_t depth;
} tuning = {
        .shared_from_bytes = 2u << 20,
        .large_from_bytes = 16u << 20,
        .chunk_bytes = IVG_COPY_CHUNK_BYTES,
        .large_chunk_bytes = IVG_COPY_LARGE_CHUNK_BYTES,
        .piece_bytes = 128u << 10,
        .up_past_caches_from_bytes = 64u << 10,
        .down_past_caches_from_bytes = 32u << 20,
        .depth = 16,
};
static pthread_once_t tuning_once = PTHREAD_ONCE_INIT;

static void tune(const char *name, uint64_t *value, uint64_t unit)
{
        const char *text = secure_getenv(name);

        if (text != NULL && *text != 0)
                *value = strtoull(text, NULL, 10) * unit;
}

static void tune_chunk(const char *name, uint64_t *bytes, uint64_t most)
{
        tune(name, bytes, 1024);
        if (*bytes > most || *bytes < CHUNK_BYTES_MIN)
                *bytes = most;
}

static void tuning_read(void)
{
        uint64_t depth = tuning.depth;

        tune("IVGPU_COPY_SHARED_FROM_KIB", &tuning.shared_from_bytes, 1024);
        tune("IVGPU_COPY_LARGE_FROM_KIB", &tuning.large_from_bytes, 1024);
        tune("IVGPU_COPY_PIECE_KIB", &tuning.piece_bytes, 1024);
        tune("IVGPU_COPY_UP_NT_FROM_KIB", &tuning.up_past_caches_from_bytes, 1024);
        tune("IVGPU_COPY_DOWN_NT_FROM_KIB", &tuning.down_past_caches_from_bytes, 1024);
        tune_chunk("IVGPU_COPY_CHUNK_KIB", &tuning.chunk_bytes, IVG_COPY_CHUNK_BYTES);
        tune_chunk("IVGPU_COPY_LARGE_CHUNK_KIB", &tuning.large_chunk_bytes, IVG_COPY_LARGE_CHUNK_BYTES);
        tune("IVGPU_COPY_DEPTH", &depth, 1);
        if (tuning.piece_bytes == 0 || tuning.piece_bytes > tuning.chunk_bytes)
                tuning.piece_bytes = tuning.chunk_bytes;
        if (depth > 0 && depth <= IVG_COPY_DEPTH_MAX)
                tuning.depth = (uint32_t)depth;
}

/* ---- the work and its buffers ---- */

struct staged {
        const struct ivg_copy *copy;
        struct ivg_copy_work *work, own;
        uint64_t device; /* address of the device's side, or an offset into the copy's array */
        uint64_t chunks;
};

static uint64_t round_up(uint64_t value, uint64_t unit)
{
        return (value + unit - 1) / unit * unit;
}

/* A part of the copy within the bounds: small enough that DMA starts early, large enough to be worth a record. */
static uint64_t chunk_bytes(uint64_t bytes, uint64_t parts, uint64_t most)
{
        const uint64_t part = round_up(bytes / parts, CHUNK_BYTES_MIN);

        if (part > most)
                return most;
        return part < CHUNK_BYTES_MIN ? CHUNK_BYTES_MIN : part;
}

/* Which buffers a copy that is cut wants. */
struct wanted {
        struct ivg_copy_buffers *of;
        uint32_t depth;    /* at most */
        uint32_t may_make; /* beside a few: pinning them must not take longer than the copy */
};

#define CHUNKS_FOR_NEW_BUFFER 16u

static struct wanted cut_alone(struct ivg_copy_work *work)
{
        work->chunk_bytes = chunk_bytes(work->bytes, IVG_COPY_DEPTH_ALONE, tuning.chunk_bytes);
        work->piece_bytes = work->chunk_bytes;
        work->helpers = 0;
        return (struct wanted){.of = &ivg_copy_buffers_for_dma, .depth = IVG_COPY_DEPTH_ALONE};
}

static struct wanted cut_shared(struct ivg_copy_work *work, bool large)
{
        const uint64_t pieces = work->bytes / CHUNK_BYTES_MIN, helpers = ivg_copy_threads() - 1;
        const uint64_t most = large ? tuning.large_chunk_bytes : tuning.chunk_bytes;

        work->chunk_bytes = chunk_bytes(work->bytes, IVG_COPY_DEPTH_ALONE * 2, most);
        /* Of several chunks, each a whole number of pieces. */
        work->piece_bytes = work->chunk_bytes % tuning.piece_bytes == 0 ? tuning.piece_bytes : CHUNK_BYTES_MIN;
        if (work->chunk_bytes % work->piece_bytes != 0)
                work->piece_bytes = work->chunk_bytes;
        work->helpers = (uint32_t)(pieces < helpers ? pieces : helpers);
        return (struct wanted){.of = large ? &ivg_copy_buffers_large : &ivg_copy_buffers_for_dma,
                               .depth = tuning.depth,
                               .may_make = (uint32_t)(work->bytes / most / CHUNKS_FOR_NEW_BUFFER)};
}

/* One buffer for certain, more when the copy is long enough to use them: free ones, and on the way up such as are
 * still read by the device, since each is waited for before it is written to. */
static CUresult buffers_take(struct staged *staged, struct wanted wanted)
{
        struct ivg_copy_work *work = staged->work;
        const CUresult result = ivg_copy_buffer_take(wanted.of, staged->copy, &work->buffers[0]);

        if (result != CUDA_SUCCESS)
                return result;
        staged->chunks = ivg_copy_work_chunks(work);
        for (work->depth = 1; work->depth < wanted.depth && work->depth < staged->chunks; work->depth++) {
                struct ivg_copy_buffer *buffer = ivg_copy_buffer_try(wanted.of, &wanted.may_make);

                if (buffer == NULL && work->to_device)
                        buffer = ivg_copy_buffer_try_pending(wanted.of, staged->copy);
                if (buffer == NULL)
                        break;
                work->buffers[work->depth] = buffer;
        }
        return CUDA_SUCCESS;
}

static CUresult staged_begin(struct staged *staged, const struct ivg_copy *copy, uint8_t *program, uint64_t device,
                             uint64_t bytes, bool to_device)
{
        pthread_once(&tuning_once, tuning_read);
        struct ivg_copy_work *work = bytes >= tuning.shared_from_bytes ? ivg_copy_helpers_take() : NULL;
        const bool shared = work != NULL;
        const bool large = shared && bytes >= tuning.large_from_bytes;
        CUresult result;

        if (!shared) {
                work = &staged->own;
                ivg_store_relaxed_u64(&work->next, 0);
                ivg_store_relaxed_u64(&work->opened, 0);
        }
        work->program = program;
        work->bytes = bytes;
        work->to_device = to_device;
        work->past_caches =
                bytes >= (to_device ? tuning.up_past_caches_from_bytes : tuning.down_past_caches_from_bytes);
        staged->copy = copy;
        staged->work = work;
        staged->device = device;
        result = buffers_take(staged, shared ? cut_shared(work, large) : cut_alone(work));
        if (result == CUDA_ERROR_OUT_OF_MEMORY && large) /* a small arena */
                result = buffers_take(staged, cut_shared(work, false));
        if (result != CUDA_SUCCESS && shared)
                ivg_copy_helpers_give();
        return result;
}

/* Also in the middle, after an error: helpers are let go of first, DMA under way is the buffers' next owners' concern.
 */
static void staged_end(const struct staged *staged)
{
        struct ivg_copy_buffer *buffers[IVG_COPY_DEPTH_MAX];
        const uint32_t count = staged->work->depth;

        for (uint32_t i = 0; i < count; i++)
                buffers[i] = staged->work->buffers[i];
        if (staged->work != &staged->own)
                ivg_copy_helpers_give();
        for (uint32_t i = 0; i < count; i++)
                ivg_copy_buffer_give(buffers[i]);
}

/* ---- one chunk ---- */

static struct ivg_copy_buffer *buffer_of(const struct staged *staged, uint64_t chunk)
{
        return staged->work->buffers[chunk % staged->work->depth];
}

static CUresult send_chunk(const struct staged *staged, uint64_t chunk)
{
        const struct ivg_copy_work *work = staged->work;
        struct ivg_copy_buffer *buffer = buffer_of(staged, chunk);
        const uint64_t device = staged->device + chunk * work->chunk_bytes;
        const uint64_t bytes = ivg_copy_work_chunk_bytes(work, chunk);
        const uint64_t value = ivg_completion_begin(&buffer->completion, staged->copy->stream, staged->copy->context);

        return ivg_completion_sent(&buffer->completion,
                                   ivg_copy_send(staged->copy, work->to_device, device, buffer->arena_offset, bytes,
                                                 buffer->completion.index, value));
}

/* Opens the next chunk if the device is done with its buffer. */
static bool open_if_done(const struct staged *staged, uint64_t chunk, CUresult *result)
{
        if (!ivg_completion_poll(&buffer_of(staged, chunk)->completion, result))
                return false;
        if (*result == CUDA_SUCCESS)
                ivg_copy_work_open(staged->work, chunk);
        return *result == CUDA_SUCCESS;
}

/* Nothing but the device can bring the copy forward. */
static CUresult open_waiting(const struct staged *staged, uint64_t chunk, uint64_t chunks_under_way)
{
        ivg_expect_dma(chunks_under_way * staged->work->chunk_bytes);
        const CUresult result = ivg_completion_wait(&buffer_of(staged, chunk)->completion);

        if (result == CUDA_SUCCESS)
                ivg_copy_work_open(staged->work, chunk);
        return result;
}

/* A helper has the last piece of a chunk. */
static void wait_for_helper(uint32_t *spins)
{
        ivg_cpu_relax();
        if (++*spins % SPINS_PER_YIELD == 0)
                sched_yield();
}

/* ---- both ways ---- */

static CUresult run_to_device(const struct staged *staged)
{
        struct ivg_copy_work *work = staged->work;
        CUresult result = CUDA_SUCCESS;
        uint64_t sent = 0, opened = 0;
        uint32_t spins = 0;

        while (result == CUDA_SUCCESS && sent < staged->chunks) {
                while (result == CUDA_SUCCESS && sent < opened && ivg_copy_work_moved(work, sent)) {
                        result = send_chunk(staged, sent);
                        sent += result == CUDA_SUCCESS;
                }
                while (opened < staged->chunks && opened < sent + work->depth && open_if_done(staged, opened, &result))
                        opened++;
                if (result != CUDA_SUCCESS || ivg_copy_work_one(work))
                        continue;
                if (sent < opened)
                        wait_for_helper(&spins);
                else if (opened < staged->chunks) {
                        result = open_waiting(staged, opened, work->depth);
                        opened += result == CUDA_SUCCESS;
                }
        }
        return result;
}

static CUresult run_from_device(const struct staged *staged)
{
        struct ivg_copy_work *work = staged->work;
        CUresult result = CUDA_SUCCESS;
        uint64_t sent = 0, opened = 0, arrived = 0;
        uint32_t spins = 0;

        while (result == CUDA_SUCCESS && arrived < staged->chunks) {
                while (arrived < opened && ivg_copy_work_moved(work, arrived))
                        arrived++;
                while (result == CUDA_SUCCESS && sent < staged->chunks && sent < arrived + work->depth) {
                        result = send_chunk(staged, sent);
                        sent += result == CUDA_SUCCESS;
                }
                while (result == CUDA_SUCCESS && opened < sent && open_if_done(staged, opened, &result))
                        opened++;
                if (result != CUDA_SUCCESS || ivg_copy_work_one(work))
                        continue;
                if (arrived < opened && !ivg_copy_work_moved(work, arrived))
                        wait_for_helper(&spins);
                else if (arrived == opened && opened < sent) {
                        result = open_waiting(staged, opened, sent - opened);
                        opened += result == CUDA_SUCCESS;
                }
        }
        return result;
}

/* A copy into an array may be found wrong by the driver only: a synchronous one answers that. Another one waits for its
 * last word, where it must wait (ivg_upload_waits). */
static CUresult settle(const struct staged *staged)
{
        const struct ivg_copy *copy = staged->copy;
        struct ivg_completion *last = &buffer_of(staged, staged->chunks - 1)->completion;
        CUresult result = CUDA_SUCCESS;

        if (!copy->synchronous)
                return CUDA_SUCCESS;
        if (copy->array == IVG_ID_NONE) {
                return ivg_memory_settles(staged->device) || ivg_upload_waits(copy) ? ivg_completion_wait(last)
                                                                                    : CUDA_SUCCESS;
        }
        for (uint32_t i = 0; i < staged->work->depth; i++) {
                const CUresult waited = ivg_completion_wait(&staged->work->buffers[i]->completion);
                result = result != CUDA_SUCCESS ? result : waited;
        }
        return result;
}

CUresult ivg_copy_staged(const struct ivg_copy *copy, uint64_t device, void *program, uint64_t bytes, bool to_device)
{
        const struct ivg_moment before = ivg_moment_now();
        struct staged staged;
        CUresult result = staged_begin(&staged, copy, program, device, bytes, to_device);

        if (result != CUDA_SUCCESS)
                return result;
        result = to_device ? run_to_device(&staged) : run_from_device(&staged);
        if (result == CUDA_SUCCESS && to_device)
                result = settle(&staged);
        else if (result == CUDA_SUCCESS)
                ivg_copy_has_waited(copy, &before);
        staged_end(&staged);
        return result;
}
