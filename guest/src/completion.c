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

/* The first words belong to the copy buffers of all kinds, the next 64 to who waits for a copy in place or a stream,
 * the next to questions. */
#define FIRST_SYNC_WORD (2 * IVG_COPY_BUFFERS_MAX + IVG_COPY_DEPTH_MAX)
#define SYNC_WORDS 64u
#define FIRST_SIGNAL_WORD (FIRST_SYNC_WORD + SYNC_WORDS)

_Atomic(uint64_t) ivg_progress_count;

static struct pool {
        uint32_t first;
        _Atomic(uint64_t) taken; /* one bit each */
        _Atomic(uint64_t) left;  /* of those: given back while their value was still to come */
        struct ivg_completion words[64];
} sync_pool = {.first = FIRST_SYNC_WORD},
  signal_pool = {.first = FIRST_SIGNAL_WORD, .taken = ~((1ull << IVG_SIGNAL_WORDS) - 1)};

_Static_assert(FIRST_SIGNAL_WORD + IVG_SIGNAL_WORDS <= IVG_COMPLETION_COPY_WORDS, "a word for each");

static bool look(struct ivg_completion *completion, CUresult *result);

/* Of those left, the word becomes this thread's. The orders are those of take and give: the word's fields go from owner
 * to owner. */
static bool pick_up(struct pool *pool, uint32_t i)
{
        return atomic_fetch_and_explicit(&pool->left, ~(1ull << i), memory_order_acq_rel) >> i & 1;
}

static void give(struct pool *pool, struct ivg_completion *completion)
{
        const uint64_t bit = 1ull << (completion->index - pool->first);

        if (completion->pending)
                atomic_fetch_or_explicit(&pool->left, bit, memory_order_release);
        else
                atomic_fetch_and_explicit(&pool->taken, ~bit, memory_order_release);
}

static void reclaim_left(struct pool *pool)
{
        for (uint64_t left = ivg_load_relaxed_u64(&pool->left); left != 0; left &= left - 1) {
                const uint32_t i = (uint32_t)__builtin_ctzll(left);
                CUresult result = CUDA_SUCCESS;

                if (!pick_up(pool, i)) /* another thread looks at it */
                        continue;
                /* A question's word that failed stays so, for good: somebody may still ask by it. */
                if (!look(&pool->words[i], &result) || result == CUDA_SUCCESS || pool != &signal_pool)
                        give(pool, &pool->words[i]);
        }
}

static struct ivg_completion *take(struct pool *pool)
{
        reclaim_left(pool);
        /* Acquire pairs with the release of give: the last owner's `value` is here. */
        uint64_t taken = ivg_load_acquire_u64(&pool->taken);
        while (taken != UINT64_MAX) {
                const uint32_t i = (uint32_t)__builtin_ctzll(~taken);
                if (!ivg_compare_exchange_acq_rel_u64(&pool->taken, &taken, taken | 1ull << i))
                        continue;
                pool->words[i].index = pool->first + i;
                return &pool->words[i];
        }
        return NULL;
}

struct ivg_completion *ivg_completion_take(void)
{
        return take(&sync_pool);
}

struct ivg_completion *ivg_completion_take_signal(void)
{
        return take(&signal_pool);
}

uint32_t ivg_completion_place(const struct ivg_completion *completion)
{
        return completion->index - FIRST_SIGNAL_WORD;
}

void ivg_completion_give(struct ivg_completion *completion)
{
        give(completion->index < FIRST_SIGNAL_WORD ? &sync_pool : &signal_pool, completion);
}

static void end_of_context(struct pool *pool, const struct ivg_object *context)
{
        for (uint64_t left = ivg_load_relaxed_u64(&pool->left); left != 0; left &= left - 1) {
                struct ivg_completion *completion = &pool->words[__builtin_ctzll(left)];

                if (!pick_up(pool, (uint32_t)__builtin_ctzll(left)))
                        continue;
                if (completion->context == context->id)
                        completion->pending = false;
                give(pool, completion);
        }
}

void ivg_completions_end_of_context(const struct ivg_object *context)
{
        end_of_context(&sync_pool, context);
        end_of_context(&signal_pool, context);
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

static uint64_t word_at(uint32_t index)
{
        const struct ivg_region *region = ivg_link_region(ivg_process.link);
        return ivg_load_acquire_u64(ivg_region_completions(region, ivg_link_channel(ivg_process.link)) +
                                    index); /* D1 */
}

static CUresult failure_of(uint64_t word)
{
        const CUresult result = (CUresult)(uint32_t)word;
        return result != CUDA_SUCCESS ? result : CUDA_ERROR_UNKNOWN;
}

/* One look. True: done, with its result. */
static bool look(struct ivg_completion *completion, CUresult *result)
{
        const uint64_t word = word_at(completion->index);
        if (word & IVG_COMPLETION_FAILED) {
                if (word != ivg_completion_failure(completion->value, (uint32_t)word)) /* of an earlier value */
                        return false;
                *result = failure_of(word);
        } else {
                if (word < completion->value)
                        return false;
                *result = CUDA_SUCCESS;
        }
        completion->pending = false;
        ivg_progress_note();
        return true;
}

/* By the number of the value that the word holds, or failed to get; at most half of those behind. */
enum ivg_completion_said ivg_completion_signal(uint32_t place, uint32_t value)
{
        const uint64_t word = word_at(FIRST_SIGNAL_WORD + place);
        const uint32_t said = (uint32_t)(word & IVG_COMPLETION_FAILED ? word >> 32 : word);
        const uint32_t ahead = (said - value) & IVG_SIGNAL_VALUES;

        if (ahead == 0 && word & IVG_COMPLETION_FAILED)
                return IVG_COMPLETION_FAILS;
        return ahead <= IVG_SIGNAL_VALUES / 2 ? IVG_COMPLETION_CAME : IVG_COMPLETION_NOT_YET;
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

bool ivg_spin_for(uint64_t ns, bool (*look_at)(void *argument), void *argument)
{
        const uint64_t end_ns = now_ns() + ns;
        do {
                for (uint32_t i = 0; i < 64; i++) {
                        if (look_at(argument))
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

static bool spin(struct ivg_completion *completion, uint64_t ns, CUresult *result)
{
        struct waited waited = {completion, result};

        return ivg_spin_for(ns, look_again, &waited);
}

/* The stream has been synchronized without an error: every word that was to come is there. */
static CUresult settle(struct ivg_completion *completion)
{
        CUresult result;
        if (look(completion, &result))
                return result;
        const uint64_t word = word_at(completion->index);
        completion->pending = false;
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

bool ivg_completion_comes(struct ivg_completion *completion, CUresult *result)
{
        struct waited waited = {completion, result};

        return spin(completion, ivg_spin_ns(IVG_COMPLETION_SPIN_NS), result) || ivg_wait_yielding(look_again, &waited);
}

CUresult ivg_completion_wait(struct ivg_completion *completion)
{
        CUresult result = CUDA_SUCCESS;
        if (!completion->pending)
                return CUDA_SUCCESS;
        if (ivg_completion_comes(completion, &result))
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
        return result;
}
