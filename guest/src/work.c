#include "work.h"
#include "context.h"
#include "guest_send.h"
#include "memory.h"
#include <sched.h>

/* Of `state`: how many threads send for a word just now, and */
#define LIVES 0x80000000u
#define LEAVES 0x40000000u
#define WAITS 0x20000000u /* for the legacy stream */
#define SENDERS (WAITS - 1)

#define LEAVE_SPINS_MAX 100u /* then a sender has lost its processor */
#define GROUPS (IVG_WORK_STREAMS_MAX / 64)

static struct ivg_work places[IVG_WORK_STREAMS_MAX];
static struct ivg_work rest;                /* of all further streams */
static _Atomic(uint64_t) taken[GROUPS];     /* a bit for each place */
static _Atomic(uint64_t) was_given[GROUPS]; /* since the process began: the others need no look */

/* NULL: it has none of its own. */
static struct ivg_work *place_of(const struct ivg_object *stream)
{
        return stream->data != &rest ? stream->data : NULL;
}

void ivg_work_first(struct ivg_work *work)
{
        const uint32_t i = (uint32_t)(work - places);

        if (work != &rest)
                atomic_fetch_or_explicit(&was_given[i / 64], 1ull << i % 64, memory_order_release);
}

/* ---- streams begin and end ---- */

static struct ivg_work *take_place(void)
{
        for (uint32_t i = 0; i < GROUPS; i++) {
                /* Acquire, pairs with put_back: the last owner has left. */
                uint64_t seen = ivg_load_acquire_u64(&taken[i]);

                while (seen != UINT64_MAX) {
                        const uint32_t free = (uint32_t)__builtin_ctzll(~seen);

                        if (ivg_compare_exchange_acq_rel_u64(&taken[i], &seen, seen | 1ull << free))
                                return &places[i * 64 + free];
                }
        }
        return &rest;
}

static void put_back(const struct ivg_work *work)
{
        const uint32_t i = (uint32_t)(work - places);

        atomic_fetch_and_explicit(&taken[i / 64], ~(1ull << i % 64), memory_order_release);
}

void ivg_work_begin(struct ivg_object *stream)
{
        struct ivg_work *work = take_place();

        stream->data = work;
        if (work == &rest)
                return;
        ivg_store_relaxed_u32(&work->stream, stream->id);
        ivg_store_relaxed_u32(&work->context, stream->context->id);
        ivg_store_relaxed_u64(&work->done, ivg_load_relaxed_u64(&work->given));
        /* Release, pairs with the acquires of who looks: the rest is there. */
        atomic_fetch_or_explicit(&work->state, stream->flags & CU_STREAM_NON_BLOCKING ? LIVES : LIVES | WAITS,
                                 memory_order_release);
}

static void note_left(struct ivg_object *context)
{
        /* Release, pairs with the acquire in find: who sees no stream any more sees this. */
        atomic_fetch_add_explicit(&ivg_context_state(context)->left, 1, memory_order_release);
}

void ivg_work_leave_all(struct ivg_object *context)
{
        struct ivg_object *owner = ivg_context_owner(context);

        note_left(context);
        if (owner != context)
                note_left(owner);
}

static bool has_work(const struct ivg_work *work, uint64_t *given)
{
        *given = ivg_load_acquire_u64(&work->given);        /* N2 */
        return ivg_load_acquire_u64(&work->done) != *given; /* N4 */
}

/* Bounded by the others' progress: each sends one record. */
static void wait_for_senders(const struct ivg_work *work)
{
        for (uint32_t spin = 0; (ivg_load_acquire_u32(&work->state) & SENDERS) != 0; spin++)
                if (spin < LEAVE_SPINS_MAX)
                        ivg_cpu_relax();
                else
                        sched_yield();
}

void ivg_work_leave(const struct ivg_object *stream, bool is_done)
{
        struct ivg_work *work = place_of(stream);

        if (work != NULL) {
                atomic_fetch_or_explicit(&work->state, LEAVES, memory_order_acq_rel);
                wait_for_senders(work);
        }
        if (!is_done && !ivg_work_is_done(stream))
                ivg_work_leave_all(stream->context);
}

void ivg_work_stay(const struct ivg_object *stream)
{
        if (place_of(stream) != NULL)
                atomic_fetch_and_explicit(&place_of(stream)->state, ~LEAVES, memory_order_release);
}

void ivg_work_end(const struct ivg_object *stream)
{
        struct ivg_work *work = place_of(stream);

        if (work == NULL)
                return;
        atomic_fetch_and_explicit(&work->state, ~(LIVES | LEAVES | WAITS), memory_order_release);
        put_back(work);
}

/* ---- one stream ---- */

uint64_t ivg_work_given(const struct ivg_object *stream)
{
        return place_of(stream) != NULL ? ivg_load_acquire_u64(&place_of(stream)->given) : 0; /* N2 */
}

static void note_done(struct ivg_work *work, uint64_t given)
{
        ivg_store_release_u64(&work->done, given); /* N3 */
}

void ivg_work_done(const struct ivg_object *stream, uint64_t given)
{
        if (place_of(stream) != NULL)
                note_done(place_of(stream), given);
}

bool ivg_work_is_done(const struct ivg_object *stream)
{
        uint64_t given;

        return place_of(stream) != NULL && !has_work(place_of(stream), &given);
}

/* ---- a context ---- */

/* False: no word can be asked for. */
static bool look_at(struct ivg_work *work, const struct ivg_object *context, struct ivg_context_work *all)
{
        const uint32_t state = ivg_load_acquire_u32(&work->state);
        const bool waits = state & WAITS;
        uint64_t given;

        if (!(state & LIVES) || ivg_load_relaxed_u32(&work->context) != context->id || !has_work(work, &given))
                return true;
        if (!waits && (state & LEAVES || all->words == IVG_WORK_WORDS_MAX))
                return false;
        if (all->count == IVG_WORK_STREAMS_AT_ONCE) /* of one that waits only that it is done goes unnoted */
                return waits;
        all->of[all->count++] = (struct ivg_stream_work){work, given, waits};
        all->words += !waits;
        return true;
}

bool ivg_context_work_find(const struct ivg_object *context, struct ivg_context_work *all)
{
        const struct ivg_context_state *state = ivg_context_state(context);
        bool words = ivg_load_acquire_u64(&rest.given) == 0;

        all->count = all->words = 0;
        for (uint32_t i = 0; i < GROUPS; i++)
                /* Acquire, pairs with the release in ivg_work_first. */
                for (uint64_t left = ivg_load_acquire_u64(&was_given[i]); left != 0; left &= left - 1)
                        words = look_at(&places[i * 64 + (uint32_t)__builtin_ctzll(left)], context, all) && words;
        all->left = ivg_load_acquire_u64(&state->left); /* after the looks */
        return words && all->left == ivg_load_acquire_u64(&state->left_done);
}

static bool signal(struct ivg_completion *word, ivg_id stream, const struct ivg_object *context)
{
        const uint64_t value = ivg_completion_begin(word, stream, context);

        return ivg_completion_sent(word, ivg_send_ivgContextSignal(stream, word->index, value)) == CUDA_SUCCESS;
}

/* While this thread counts as a sender the stream does not end. */
static bool signal_at(struct ivg_completion *word, struct ivg_work *work, const struct ivg_object *context)
{
        bool sent = false;

        if ((atomic_fetch_add_explicit(&work->state, 1, memory_order_acq_rel) & (LIVES | LEAVES)) == LIVES)
                sent = signal(word, ivg_load_relaxed_u32(&work->stream), context);
        atomic_fetch_sub_explicit(&work->state, 1, memory_order_release);
        return sent;
}

struct words {
        const struct ivg_object *context;
        struct ivg_completion *of[IVG_WORK_WORDS_MAX + 1];
        uint32_t count;
};

/* `work` NULL: the legacy stream's. */
static bool ask_for_word(struct words *words, struct ivg_work *work)
{
        struct ivg_completion *word = ivg_completion_take();

        if (word == NULL)
                return false;
        words->of[words->count++] = word;
        return work != NULL ? signal_at(word, work, words->context)
                            : signal(word, IVG_ID_STREAM_LEGACY, words->context);
}

/* All are under way before the first is waited for. */
bool ivg_context_work_wait(const struct ivg_object *context, const struct ivg_context_work *all)
{
        struct words words = {.context = context, .count = 0};
        bool come = true;

        for (uint32_t i = 0; i < all->count && come; i++)
                if (!all->of[i].waits)
                        come = ask_for_word(&words, all->of[i].work);
        come = come && ask_for_word(&words, NULL);
        for (uint32_t i = 0; i < words.count && come; i++) {
                CUresult result;

                come = ivg_completion_comes(words.of[i], &result) && result == CUDA_SUCCESS;
        }
        while (words.count > 0)
                ivg_completion_give(words.of[--words.count]);
        return come;
}

void ivg_context_work_done(const struct ivg_object *context, const struct ivg_context_work *all, bool by_driver)
{
        for (uint32_t i = 0; i < all->count; i++)
                note_done(all->of[i].work, all->of[i].given);
        if (by_driver)
                ivg_store_release_u64(&ivg_context_state(context)->left_done, all->left);
}
