/* Knowing that a copy is done: a word in the channel that the GPU writes after the copy, in stream order.
 *
 *   D1 the word's acquire load
 *
 * It pairs with the GPU's (or, for a failure, the executor's) store after the copied bytes: a thread that sees the
 * value sees the bytes. Weaker, a device-to-host copy could be read before it has landed. The guest maps the words
 * read-only and the host is believed about them as it is about every answer: a wrong word spoils this process's own
 * data and nothing else. */
#include "guest_send.h"
#include "memory.h"
#include <time.h>

/* The first words belong to the copy buffers of all kinds, the next 64 to synchronous copies in place. */
#define FIRST_SYNC_WORD (2 * IVG_COPY_BUFFERS_MAX + IVG_COPY_DEPTH_MAX)
#define SYNC_WORDS 64u

static struct ivg_completion sync_words[SYNC_WORDS];
static _Atomic(uint64_t) sync_words_taken; /* one bit each */
static _Atomic(uint64_t) sync_words_left;  /* of those: given back while their value was still to come */

_Static_assert(FIRST_SYNC_WORD + SYNC_WORDS <= IVG_COMPLETION_COPY_WORDS, "a word for each");

/* The orders are those of take and give: the word's fields go from owner to owner. */
static void reclaim_left(void)
{
        for (uint64_t left = ivg_load_relaxed_u64(&sync_words_left); left != 0; left &= left - 1) {
                const uint32_t i = (uint32_t)__builtin_ctzll(left);
                if (!(atomic_fetch_and_explicit(&sync_words_left, ~(1ull << i), memory_order_acq_rel) >> i & 1))
                        continue; /* another thread looks at it */
                (void)ivg_completion_done(&sync_words[i]);
                ivg_completion_give(&sync_words[i]);
        }
}

struct ivg_completion *ivg_completion_take(void)
{
        reclaim_left();
        /* Acquire pairs with the release of ivg_completion_give: the last owner's `value` and `failed` are here. */
        uint64_t taken = ivg_load_acquire_u64(&sync_words_taken);
        while (taken != UINT64_MAX) {
                const uint32_t i = (uint32_t)__builtin_ctzll(~taken);
                if (!ivg_compare_exchange_acq_rel_u64(&sync_words_taken, &taken, taken | 1ull << i))
                        continue;
                sync_words[i].index = FIRST_SYNC_WORD + i;
                return &sync_words[i];
        }
        return NULL;
}

void ivg_completion_give(struct ivg_completion *completion)
{
        const uint64_t bit = 1ull << (completion->index - FIRST_SYNC_WORD);
        if (completion->pending)
                atomic_fetch_or_explicit(&sync_words_left, bit, memory_order_release);
        else
                atomic_fetch_and_explicit(&sync_words_taken, ~bit, memory_order_release);
}

uint64_t ivg_completion_begin(struct ivg_completion *completion, ivg_id stream, const struct ivg_object *context)
{
        completion->stream = stream;
        completion->context = context->id;
        completion->pending = true;
        return ++completion->value;
}

CUresult ivg_completion_sent(struct ivg_completion *completion, CUresult result)
{
        if (result != CUDA_SUCCESS)
                completion->pending = false;
        return result;
}

static uint64_t completion_word(const struct ivg_completion *completion)
{
        const struct ivg_region *region = ivg_link_region(ivg_process.link);
        return ivg_load_acquire_u64(ivg_region_completions(region, ivg_link_channel(ivg_process.link)) +
                                    completion->index); /* D1 */
}

static CUresult failure_of(struct ivg_completion *completion, uint64_t word)
{
        const CUresult result = (CUresult)(uint32_t)word;
        completion->failed = word;
        return result != CUDA_SUCCESS ? result : CUDA_ERROR_UNKNOWN;
}

/* One look. True: done, with its result. A failure word equal to the last one may be just that one: not done yet. */
static bool look(struct ivg_completion *completion, CUresult *result)
{
        const uint64_t word = completion_word(completion);
        if (word & IVG_COMPLETION_FAILED) {
                if (word == completion->failed)
                        return false;
                *result = failure_of(completion, word);
        } else {
                if (word < completion->value)
                        return false;
                *result = CUDA_SUCCESS;
        }
        completion->pending = false;
        return true;
}

bool ivg_completion_done(struct ivg_completion *completion)
{
        CUresult result;
        return !completion->pending || look(completion, &result);
}

static uint64_t now_ns(void)
{
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static bool spin(struct ivg_completion *completion, uint64_t ns, CUresult *result)
{
        const uint64_t end_ns = now_ns() + ns;
        do {
                for (uint32_t i = 0; i < 64; i++) {
                        if (look(completion, result))
                                return true;
                        ivg_cpu_relax();
                }
        } while (now_ns() < end_ns);
        return false;
}

struct waited {
        struct ivg_completion *completion;
        CUresult *result;
};

static bool look_again(void *argument)
{
        const struct waited *waited = argument;

        return look(waited->completion, waited->result);
}

/* The stream has been synchronized without an error: every word that was to come is there. */
static CUresult settle(struct ivg_completion *completion)
{
        CUresult result;
        if (look(completion, &result))
                return result;
        const uint64_t word = completion_word(completion);
        completion->pending = false;
        if (word & IVG_COMPLETION_FAILED)
                return failure_of(completion, word); /* the same failure as last time, but a new one */
        ivg_log("completion word %u holds %llu after its stream was synchronized; %llu was due", completion->index,
                (unsigned long long)word, (unsigned long long)completion->value);
        return CUDA_ERROR_UNKNOWN;
}

/* The stream of a copy of another context: its handle means nothing here. Sleeps in growing steps. */
static CUresult poll_foreign(struct ivg_completion *completion)
{
        CUresult result;
        const uint64_t end_ns = now_ns() + IVG_COMPLETION_POLL_MS * 1000000ull;
        struct timespec pause = {.tv_nsec = 10000};
        while (!look(completion, &result)) {
                if (ivg_process_check() != CUDA_SUCCESS)
                        return ivg_process_check();
                if (now_ns() > end_ns)
                        return CUDA_ERROR_LAUNCH_TIMEOUT;
                nanosleep(&pause, NULL);
                pause.tv_nsec = pause.tv_nsec < 500000 ? pause.tv_nsec * 2 : 1000000;
        }
        return result;
}

/* The word's failure is also the executor's deferred error, for copies that nobody waits for. Here somebody did: it is
 * told now and must not come again. An earlier error that stands there instead is told first, as CUDA does. */
static CUresult tell(CUresult failure)
{
        int32_t deferred = CUDA_SUCCESS;
        if (ivg_send_ivgTakeAsyncError(&deferred) == CUDA_SUCCESS && deferred != CUDA_SUCCESS) {
                if ((CUresult)deferred == IVG_RESULT_RATE_LIMITED)
                        ivg_call_rate_limited();
                return (CUresult)deferred;
        }
        return failure;
}

/* The executor comes to the record in any case: the stream, which may wait for anything, is not asked. */
static CUresult poll_executor(struct ivg_completion *completion)
{
        CUresult result;
        struct timespec pause = {.tv_nsec = 10000};
        while (!look(completion, &result)) { /* bounded by the peer's life */
                const int alive = ivg_link_alive(ivg_process.link);
                if (alive != 0)
                        return ivg_process_lose(alive, "waiting for a copy to be read");
                nanosleep(&pause, NULL);
                pause.tv_nsec = pause.tv_nsec < 500000 ? pause.tv_nsec * 2 : 1000000;
        }
        return result == CUDA_SUCCESS ? result : tell(result);
}

bool ivg_completion_poll(struct ivg_completion *completion, CUresult *result)
{
        *result = CUDA_SUCCESS;
        if (!completion->pending)
                return true;
        if (!look(completion, result))
                return false;
        if (*result != CUDA_SUCCESS)
                *result = tell(*result);
        return true;
}

bool ivg_completion_done_within(struct ivg_completion *completion, uint64_t ns)
{
        CUresult result;
        return !completion->pending || spin(completion, ns, &result);
}

CUresult ivg_completion_wait_at_most(struct ivg_completion *completion, uint64_t ns)
{
        CUresult result = CUDA_SUCCESS;
        if (completion->pending && spin(completion, ns, &result) && result != CUDA_SUCCESS)
                return tell(result);
        return CUDA_SUCCESS;
}

CUresult ivg_completion_wait(struct ivg_completion *completion)
{
        CUresult result = CUDA_SUCCESS;
        if (!completion->pending)
                return CUDA_SUCCESS;
        struct waited waited = {completion, &result};
        if (spin(completion, ivg_spin_ns(IVG_COMPLETION_SPIN_NS), &result) || ivg_wait_yielding(look_again, &waited))
                return result == CUDA_SUCCESS ? result : tell(result);
        if (completion->by_executor)
                return poll_executor(completion);
        const struct ivg_object *context = ivg_context_current();
        /* Nor may a stream be synchronized that captures, or while another does. */
        if (context == NULL || context->id != completion->context || ivg_capturing())
                return poll_foreign(completion);
        result = ivg_send_cuStreamSynchronize(completion->stream);
        if (result == CUDA_SUCCESS) {
                result = settle(completion);
                return result == CUDA_SUCCESS ? result : tell(result);
        }
        if (ivg_process_check() != CUDA_SUCCESS)
                return result;
        if (result == CUDA_ERROR_INVALID_HANDLE)
                return poll_foreign(completion); /* the stream has been destroyed; its work goes on */
        /* The error of this copy or of something earlier in the context: either way the stream has come to its end, and
         * nothing is under way any more. */
        completion->pending = false;
        const uint64_t word = completion_word(completion);
        if (word & IVG_COMPLETION_FAILED)
                completion->failed = word;
        return result;
}
