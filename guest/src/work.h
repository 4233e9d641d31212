/* What streams were given to do, and whether it is known to be done, stream by stream: so the answer to who asks about
 * one, or waits for it, does not depend on what others are given meanwhile, and who waits for a context knows which
 * streams to ask for words.
 *
 * Each stream that the program has made has a place, and each thread's line one for the legacy stream and the
 * per-thread ones. Whoever sends a record notes its position as what the place was `given`; positions are never the
 * same twice. Who knows the stream to be done copies what it had read there, before it asked, to `done`. So where the
 * two are equal the stream is done, however many threads send, wait and end streams meanwhile; whatever comes between
 * makes them differ.
 *
 *   N1 `given`, store release, pairs with N2, load acquire: a word that is asked for by who has read it stands behind
 *      the record in the ring. Weaker, work would be called done that is not.
 *   N3 `done`, compare and exchange acq_rel, pairs with N4, load acquire: who waits for no word, as another thread's
 *      has come, sees what that one saw. */
#ifndef IVG_WORK_H
#define IVG_WORK_H

#include "guest.h"

#pragma GCC visibility push(hidden)

/* Nothing is known of further streams; once one of those was given something, contexts are the driver's to wait for. */
#define IVG_WORK_STREAMS_MAX 1024u

struct ivg_work { /* a line each: streams of two threads share none */
        _Alignas(64) _Atomic(uint64_t) given;
        _Atomic(uint64_t) done;
        _Atomic(uint32_t) state; /* work.c */
        _Atomic(ivg_id) stream, context;
};
void ivg_work_first(struct ivg_work *work);

/* This thread has sent the record at `position` for the stream that it has named last, which has this place. */
static inline void ivg_work_gave(struct ivg_work *work, uint64_t position)
{
        /* Acquire: whoever was first has listed the place, which therefore is when this thread's call returns. */
        if (__builtin_expect(ivg_load_acquire_u64(&work->given) == 0, 0))
                ivg_work_first(work);
        ivg_store_release_u64(&work->given, position + 1); /* N1 */
}

struct ivg_work *ivg_work_of_line(uint32_t line);
extern struct ivg_work ivg_work_no_line; /* of threads that have none yet; never given anything */
/* A new stream gets its place. Any thread. */
void ivg_work_begin(struct ivg_object *stream);
/* Before the record that ends a stream: no word is asked of it any more, and what it may still be doing its context's
 * next synchronization asks the driver for. `is_done`: it is known to do nothing. */
void ivg_work_leave(const struct ivg_object *stream, bool is_done);
void ivg_work_stay(const struct ivg_object *stream); /* it did not end */
void ivg_work_end(const struct ivg_object *stream);  /* it is gone: its place is free */
/* `context`, part of a device, ends with all its streams. */
void ivg_work_leave_all(struct ivg_object *context);

/* What the stream was given so far; that this is done; whether all is. */
uint64_t ivg_work_given(const struct ivg_object *stream);
void ivg_work_done(const struct ivg_object *stream, uint64_t given);
bool ivg_work_is_done(const struct ivg_object *stream);

/* ---- a context's ---- */

/* With more than that to be asked, or to be looked at, the driver is. */
#define IVG_WORK_WORDS_MAX 16u
#define IVG_WORK_AT_ONCE 64u

struct ivg_context_work {
        uint64_t left; /* how often a stream ended that was not known to be done */
        bool legacy;   /* a line's place has work: the legacy stream's word tells of all that wait for it */
        bool only_one; /* context, so that what lines were given is its */
        uint32_t count;
        struct ivg_work_place {
                struct ivg_work *work;
                uint64_t given;
                uint32_t state;
        } of[IVG_WORK_AT_ONCE];
};
/* What of the context is not known to be done. False: there is more than words can be asked for. */
bool ivg_context_work_find(const struct ivg_object *context, struct ivg_context_work *all);
/* Lets each of these streams write a word, and waits for them. False: one has failed, or takes long; the driver tells.
 */
bool ivg_context_work_wait(const struct ivg_object *context, const struct ivg_context_work *all);
/* It is done. `by_driver`: with what ended streams were doing. */
void ivg_context_work_done(const struct ivg_object *context, const struct ivg_context_work *all, bool by_driver);

#pragma GCC visibility pop
#endif
