/* What may be said of events and streams without asking the host.
 *
 * The host is asked first. What is pending then gets a word: the executor asks its driver from then on, and stores the
 * word when the event (or what the stream had been given) is done. Until the word comes the answer is "not ready", from
 * here. An event whose word has come is done until it is recorded again; a stream is, if nothing was sent since.
 *
 * Why "done" is true. An event's `signal` holds the number of its record, and a word that stands for that one: whoever
 * sends for a word reads the number before and puts the word there if it is still the same. cuEventRecord moves the
 * number after its record is in the ring. So if the number was read before it moved, the word is not put there, or is
 * taken away; and if after, the word's record stands behind it in the ring, and so in the executor. A word is asked for
 * another value only after the last one has come, so that it never holds more than what was asked for. An event that a
 * graph or another process may record leaves all this for good.
 *
 * Why "not ready" is true. It was when the host was asked. From then on the program may know better only through this
 * library, which counts what it has told (ivg_progress): after that the host is asked again, and in any case after
 * IVG_UNASKED_MAX answers, so that errors are told and a word that does not come keeps nobody. A program that sees the
 * device's writes itself may be ahead of the word by the time that the executor takes for it, some microseconds.
 *
 *   R1 ivg_signal_recorded, release, pairs with Q1, acquire: a word asked for by who has seen the new number stands for
 *      the new record. Weaker, an event would be done before its work is.
 *   Q2 the word's or the answer's mark is put there, release, pairs with Q1: who finds an event done sees its bytes. */
#include "guest.h"
#include "guest_send.h"
#include "memory.h"
#include <time.h>

/* Who asks by a word. Relaxed: several threads that ask by one word count together. */
static struct {
        _Atomic(uint64_t) progress, clock_ns; /* when the host was asked last */
        _Atomic(uint32_t) unasked, most;      /* answers since, and how many it may be */
} places[IVG_SIGNAL_WORDS];

static uint32_t place_of(uint64_t signal)
{
        return ((uint32_t)signal >> 24) - 1;
}

enum ivg_signal_state ivg_signal_state(uint64_t signal)
{
        const uint32_t how = (uint32_t)signal & IVG_SIGNAL_HOW;

        if (how == 0)
                return IVG_SIGNAL_NONE;
        if (how == IVG_SIGNAL_HOW_DONE)
                return IVG_SIGNAL_DONE;
        if (how == IVG_SIGNAL_HOW_LEFT)
                return IVG_SIGNAL_LEFT;
        switch (ivg_completion_signal(place_of(signal), (uint32_t)signal & IVG_SIGNAL_VALUES)) {
        case IVG_COMPLETION_CAME:
                return IVG_SIGNAL_COME;
        case IVG_COMPLETION_NOT_YET:
                return IVG_SIGNAL_PENDING;
        default: /* a word that could not be had */
                return IVG_SIGNAL_NONE;
        }
}

/* Six nanoseconds. */
static uint64_t coarse_ns(void)
{
        struct timespec now;

        clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
        return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

bool ivg_signal_may_tell(uint64_t signal)
{
        const uint32_t place = place_of(signal), unasked = ivg_load_relaxed_u32(&places[place].unasked);

        ivg_store_relaxed_u32(&places[place].unasked, unasked + 1);
        return unasked < ivg_load_relaxed_u32(&places[place].most) &&
               ivg_load_relaxed_u64(&places[place].progress) == ivg_progress() &&
               ivg_load_relaxed_u64(&places[place].clock_ns) == coarse_ns();
}

static void asked(uint32_t place, uint64_t progress, uint32_t most)
{
        ivg_store_relaxed_u64(&places[place].progress, progress);
        ivg_store_relaxed_u64(&places[place].clock_ns, coarse_ns());
        ivg_store_relaxed_u32(&places[place].unasked, 0);
        ivg_store_relaxed_u32(&places[place].most, most);
}

static void asked_again(uint64_t signal, uint64_t progress)
{
        const uint32_t place = place_of(signal), most = ivg_load_relaxed_u32(&places[place].most);

        asked(place, progress, most < IVG_UNASKED_MAX ? 2 * most : most);
}

/* ---- sending for a word ---- */

static void put(_Atomic(uint64_t) *signal, uint64_t seen, uint64_t next)
{
        (void)ivg_compare_exchange_acq_rel_u64(signal, &seen, next); /* Q2; it differs: the word is nobody's */
}

/* A word of this thread's for one question. */
static struct ivg_completion *word_take(uint64_t progress)
{
        struct ivg_completion *word = ivg_completion_take_signal();

        if (word == NULL)
                return NULL;
        asked(ivg_completion_place(word), progress, IVG_UNASKED_FIRST);
        ivg_thread_asks();
        ivg_thread_local()->questions++;
        return word;
}

static uint64_t with_word(uint32_t tag, const struct ivg_completion *word)
{
        return (uint64_t)tag << 32 | (ivg_completion_place(word) + 1) << 24 | (word->value & IVG_SIGNAL_VALUES);
}

void ivg_signal_event_send(struct ivg_object *event, uint64_t seen, uint64_t progress)
{
        struct ivg_completion *word = word_take(progress);
        uint64_t value;

        if (word == NULL)
                return;
        value = ivg_completion_begin(word, IVG_ID_NONE, event->context);
        if (ivg_completion_sent(word, ivg_send_ivgEventWatch(event->id, word->index, value)) == CUDA_SUCCESS)
                put(&event->signal, seen, with_word(ivg_signal_tag(seen), word));
        ivg_completion_give(word);
}

void ivg_signal_event_pends(struct ivg_object *event, uint64_t seen, uint64_t progress)
{
        const enum ivg_signal_state state = ivg_signal_state(seen);

        if (state == IVG_SIGNAL_PENDING)
                asked_again(seen, progress);
        else if (state == IVG_SIGNAL_NONE && ivg_context_current() == event->context)
                ivg_signal_event_send(event, seen, progress);
}

static void stream_send(_Atomic(uint64_t) *signal, ivg_id stream, const struct ivg_object *context, uint64_t seen,
                        uint64_t progress)
{
        struct ivg_completion *word = word_take(progress);
        uint32_t tail;
        uint64_t value;

        if (word == NULL)
                return;
        value = ivg_completion_begin(word, stream, context);
        /* Of one slot; where others send meanwhile it fits no tail, and the word's coming says nothing. */
        tail = (uint32_t)ivg_ring_tail() + 1;
        if (ivg_completion_sent(word, ivg_send_ivgStreamWatch(stream, word->index, value)) == CUDA_SUCCESS)
                put(signal, seen, with_word(tail, word));
        ivg_completion_give(word);
}

void ivg_signal_stream_pends(_Atomic(uint64_t) *signal, ivg_id stream, const struct ivg_object *context, uint64_t seen,
                             uint64_t progress, uint64_t before, uint64_t after)
{
        if (ivg_signal_state(seen) == IVG_SIGNAL_PENDING) {
                asked_again(seen, progress);
                if (ivg_signal_tag(seen) == (uint32_t)before)
                        put(signal, seen, after << 32 | (uint32_t)seen);
        } else {
                stream_send(signal, stream, context, seen, progress);
        }
}

void ivg_signal_done(struct ivg_object *event, uint64_t seen)
{
        const uint64_t done = (seen & ~(uint64_t)UINT32_MAX) | IVG_SIGNAL_HOW_DONE;

        if (ivg_signal_state(seen) != IVG_SIGNAL_LEFT)
                (void)ivg_compare_exchange_acq_rel_u64(&event->signal, &seen, done); /* Q2 */
}

void ivg_signal_leave(struct ivg_object *event)
{
        ivg_store_release_u64(&event->signal, IVG_SIGNAL_HOW_LEFT);
}

/* ---- waiting for one ---- */

static bool is_over(void *argument)
{
        return ivg_signal_state(*(const uint64_t *)argument) != IVG_SIGNAL_PENDING;
}

bool ivg_signal_wait(uint64_t signal)
{
        return ivg_spin_for(ivg_spin_ns(IVG_COMPLETION_SPIN_NS), is_over, &signal) ||
               ivg_wait_yielding(is_over, &signal);
}
