#include "work.h"
#include "context.h"
#include "guest_send.h"
#include "memory.h"
#include <sched.h>

/* Of `state`: how many threads send for a word just now, and */
#define LIVES 0x80000000u
#define LEAVES 0x40000000u
#define WAITS 0x20000000u /* for the legacy stream */
#define IS_LINES 0x10000000u
#define SENDERS (IS_LINES - 1)

#define LEAVE_SPINS_MAX 100u /* then a sender has lost its processor */
#define STREAM_GROUPS (IVG_WORK_STREAMS_MAX / 64)
#define GROUPS (STREAM_GROUPS + IVG_RING_PRODUCERS / 64)
_Static_assert(IVG_WORK_STREAMS_MAX % 64 == 0 && IVG_RING_PRODUCERS % 64 == 0, "whole groups");

static struct ivg_work places[GROUPS * 64]; /* the lines' behind the streams' */
struct ivg_work ivg_work_no_line;
static struct ivg_work rest;                   /* of all further streams */
static _Atomic(uint64_t) taken[STREAM_GROUPS]; /* a bit for each stream's */
static _Atomic(uint64_t) was_given[GROUPS];    /* since the process began: the others need no look */

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
        for (uint32_t i = 0; i < STREAM_GROUPS; i++) {
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

struct ivg_work *ivg_work_of_line(uint32_t line)
{
        struct ivg_work *work = &places[IVG_WORK_STREAMS_MAX + line];

        ivg_store_release_u32(&work->state, IS_LINES); /* before it is given anything, by this thread or an earlier */
        return work;
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

/* Never back: a thread that has waited longer may have asked earlier. */
static void note_done(struct ivg_work *work, uint64_t given)
{
        uint64_t seen = ivg_load_relaxed_u64(&work->done);

        while (seen < given && !ivg_compare_exchange_acq_rel_u64(&work->done, &seen, given)) /* N3 */
                continue;
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

static void look_at(struct ivg_work *work, const struct ivg_object *context, struct ivg_context_work *all)
{
        const uint32_t state = ivg_load_acquire_u32(&work->state);
        uint64_t given;

        if (!(state & (LIVES | IS_LINES)) || !has_work(work, &given) ||
            (state & LIVES && ivg_load_relaxed_u32(&work->context) != context->id))
                return;
        all->legacy = all->legacy || state & IS_LINES;
        if (all->count < IVG_WORK_AT_ONCE)
                all->of[all->count] = (struct ivg_work_place){work, given, state};
        all->count++;
}

/* Whether it is to be asked for one itself. */
static bool needs_word(const struct ivg_context_work *all, const struct ivg_work_place *place)
{
        return !(place->state & IS_LINES) && !(all->legacy && place->state & WAITS);
}

static bool words_tell(const struct ivg_context_work *all)
{
        uint32_t words = 0;

        for (uint32_t i = 0; i < all->count; i++) {
                if (!needs_word(all, &all->of[i]))
                        continue;
                if (all->of[i].state & LEAVES)
                        return false;
                words++;
        }
        return words <= IVG_WORK_WORDS_MAX;
}

bool ivg_context_work_find(const struct ivg_object *context, struct ivg_context_work *all)
{
        const struct ivg_context_state *state = ivg_context_state(context);
        bool whole = ivg_load_acquire_u64(&rest.given) == 0;

        all->legacy = false;
        all->count = 0;
        for (uint32_t i = 0; i < GROUPS; i++)
                /* Acquire, pairs with the release in ivg_work_first. */
                for (uint64_t left = ivg_load_acquire_u64(&was_given[i]); left != 0; left &= left - 1)
                        look_at(&places[i * 64 + (uint32_t)__builtin_ctzll(left)], context, all);
        /* After the looks: who gave another context something has made it before, who gave it to a stream that is gone
         * has counted that. */
        all->only_one = ivg_objects_live(IVG_KIND_CONTEXT) == 1;
        all->left = ivg_load_acquire_u64(&state->left);
        if (all->count > IVG_WORK_AT_ONCE) {
                all->count = IVG_WORK_AT_ONCE;
                whole = false;
        }
        return whole && all->left == ivg_load_acquire_u64(&state->left_done) && words_tell(all);
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
                if (needs_word(all, &all->of[i]))
                        come = ask_for_word(&words, all->of[i].work);
        if (all->legacy && come)
                come = ask_for_word(&words, NULL);
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
                if (all->only_one || !(all->of[i].state & IS_LINES))
                        note_done(all->of[i].work, all->of[i].given);
        if (by_driver)
                ivg_store_release_u64(&ivg_context_state(context)->left_done, all->left);
}
