/* Waiting for streams, events and contexts, and asking whether they are done.
 *
 *   no trip   nothing at all was sent by this process since the object was last found done: it still is;
 *             or an earlier question's word has come, or has not (signal.c)
 *   a word    the stream writes a word behind its work, this thread watches it (completion.c): as soon as the GPU
 *   a trip    the driver's own synchronization on this thread's lane
 *
 * No trip: the ring's tail at that moment is the object's mark (`done_tail`), so the look costs one load and no call
 * but cuEventRecord marks anything. A trip is made when the word takes long, when a kernel may print (the driver shows
 * what was printed only when it synchronizes), in captures, and after errors of earlier calls.
 *
 * S1 done_tail, store release, pairs with S2, load acquire: a thread that learns from the mark that work is done sees
 * its bytes, as the thread that waited did. The tail itself orders nothing: a record that another thread sends
 * meanwhile moves it, and the mark no longer fits; one that happened before this call is in it, since program order or
 * whatever synchronised the threads brings the tail along. */
#include "cuda_api.h"
#include "guest.h"
#include "guest_send.h"
#include "memory.h"
#include "work.h"

#define QUERIES_AGAIN_MAX 16u /* half a microsecond each: longer than the driver takes to see what the GPU has told */
#define SETTLE_QUERIES_MAX 8192u /* about IVG_SETTLE_NS */
#define EVENT_POLLS_MAX 48u      /* questions of half a microsecond each before a thread waits on its lane */

static const _Atomic(uint64_t) *host_words(void)
{
        return ivg_region_completions(ivg_link_region(ivg_process.link), ivg_link_channel(ivg_process.link));
}

/* ---- marks ---- */

static bool is_done(const _Atomic(uint64_t) *done_tail)
{
        return ivg_load_acquire_u64(done_tail) == ivg_ring_tail(); /* S2 */
}

struct ivg_moment ivg_moment_now(void)
{
        struct ivg_moment moment = {.tail = ivg_ring_tail(), .line = ivg_thread_local()->line};

        if (moment.line != NULL)
                moment.calls = ivg_load_relaxed_u64(&moment.line->calls);
        return moment;
}

/* The tail after what this thread sent since `moment`. A record that another thread sent between makes the real one
 * differ from it, wherever it lies. */
static uint64_t tail_after(const struct ivg_moment *moment)
{
        return moment->tail + (moment->line != NULL ? ivg_load_relaxed_u64(&moment->line->calls) - moment->calls : 1);
}

static void mark_done_at(_Atomic(uint64_t) *done_tail, uint64_t tail)
{
        ivg_store_release_u64(done_tail, tail); /* S1 */
}

/* The object was found done by what was sent since. */
static void mark_done(_Atomic(uint64_t) *done_tail, const struct ivg_moment *moment)
{
        mark_done_at(done_tail, tail_after(moment));
}

static _Atomic(uint64_t) deferred_seen;

/* Errors of asynchronous calls that no call has reported yet. Whoever sees the count move has it reported. */
static bool errors_are_due(void)
{
        /* E2, acquire, pairs with E1 (deferred.c): the error can be asked for. */
        return ivg_load_acquire_u64(&host_words()[IVG_DEFERRED_NOTED]) != ivg_load_relaxed_u64(&deferred_seen);
}

static void errors_taken(void)
{
        /* E2: before the call that reports, so that one that comes meanwhile is not missed. */
        ivg_store_relaxed_u64(&deferred_seen, ivg_load_acquire_u64(&host_words()[IVG_DEFERRED_NOTED]));
}

_Atomic(uint32_t) ivg_frees_in_order;

/* Whether the host need not be asked what it would say beside the answer. */
static bool may_answer(void)
{
        return !ivg_capturing() && !errors_are_due() && ivg_load_relaxed_u32(&ivg_faulted) == 0;
}

static bool needs_trip(void)
{
        return !may_answer() || ivg_load_relaxed_u32(&ivg_frees_in_order) != 0 ||
               /* P2, acquire, pairs with P1 (image_prints.c): seen by who has the load's answer. */
               ivg_load_acquire_u64(&host_words()[IVG_MAY_PRINT]) != 0;
}

/* ---- what this thread did itself ----
 *
 * The GPU writes a word a moment before the driver counts the stream as done. Natively a thread that has synchronized a
 * stream and given nothing work since never hears that it is busy: nor may it here. */

static void note_synced(ivg_id stream, const struct ivg_object *context, uint64_t tail)
{
        struct ivg_thread *thread = ivg_thread_local();

        if (thread->line == NULL)
                return;
        thread->synced_stream = stream;
        thread->synced_context = context->id;
        thread->synced_calls = ivg_load_relaxed_u64(&thread->line->calls);
        thread->synced_work = thread->synced_calls - thread->questions;
        thread->synced_tail = tail;
}

static bool just_synced(ivg_id stream, const struct ivg_object *context)
{
        const struct ivg_thread *thread = ivg_thread_local();

        return thread->line != NULL && (thread->synced_stream == stream || thread->synced_stream == IVG_ID_NONE) &&
               thread->synced_context == context->id &&
               thread->synced_work == ivg_load_relaxed_u64(&thread->line->calls) - thread->questions;
}

/* Where this thread has just synchronized: nor has any other one sent something. */
static bool others_are_silent(uint64_t tail)
{
        const struct ivg_thread *thread = ivg_thread_local();

        return tail - thread->synced_tail == ivg_load_relaxed_u64(&thread->line->calls) - thread->synced_calls;
}

static CUresult ask_stream(ivg_id stream)
{
        ivg_thread_asks();
        ivg_thread_local()->questions++;
        return ivg_send_cuStreamQuery(stream);
}

/* ---- streams ---- */

/* A stream that is asked about or waited for. */
struct stream {
        struct ivg_object *current; /* context */
        struct ivg_object *context; /* its own one */
        struct ivg_object *object;  /* NULL: a special one */
        ivg_id id;
        /* NULL: the per-thread stream, which is another one in each thread: only its thread sends to it, so that
         * just_synced() tells the same. */
        _Atomic(uint64_t) *mark;
        uint64_t given; /* work.h; before it is asked */
};

static CUresult stream_begin(struct stream *stream, CUstream handle, ivg_id null_stream)
{
        CUresult result = ivg_context_require(&stream->current);

        if (result == CUDA_SUCCESS)
                result = ivg_stream_find(handle, null_stream, &stream->id, &stream->object);
        if (result != CUDA_SUCCESS)
                return result;
        stream->context = stream->current;
        stream->mark = NULL;
        if (stream->id == IVG_ID_STREAM_LEGACY) {
                stream->mark = &stream->context->legacy_done_tail;
        } else if (stream->object != NULL) {
                stream->context = stream->object->context;
                stream->mark = &stream->object->done_tail;
                stream->given = ivg_work_given(stream->object);
        }
        return CUDA_SUCCESS;
}

static bool stream_is_marked(const struct stream *stream)
{
        return is_done(stream->mark) || is_done(&stream->context->done_tail) ||
               (stream->object != NULL && ivg_work_is_done(stream->object));
}

static bool stream_is_known_done(const struct stream *stream)
{
        return stream->mark != NULL ? stream_is_marked(stream) : just_synced(stream->id, stream->context);
}

static void stream_is_done(const struct stream *stream, uint64_t tail)
{
        if (stream->mark != NULL)
                mark_done_at(stream->mark, tail);
        if (stream->object != NULL)
                ivg_work_done(stream->object, stream->given);
}

bool ivg_stream_is_done(const struct ivg_object *stream)
{
        return is_done(&stream->done_tail) || is_done(&stream->context->done_tail);
}

static CUresult synchronize_by_trip(ivg_id stream)
{
        errors_taken();
        ivg_thread_asks();
        return ivg_send_cuStreamSynchronize(stream);
}

static CUresult send_signal(struct ivg_completion *word, ivg_id stream, const struct ivg_object *context)
{
        const uint64_t value = ivg_completion_begin(word, stream, context);

        ivg_thread_asks();
        return ivg_completion_sent(word, ivg_send_ivgStreamSignal(stream, word->index, value));
}

/* A word behind what the stream was given, for so long; NOT_READY: it has not come. Gives the word back. */
static CUresult word_within(struct ivg_completion *word, ivg_id stream, const struct ivg_object *context, uint64_t ns)
{
        CUresult result = send_signal(word, stream, context);

        if (result == CUDA_SUCCESS)
                result = ivg_completion_wait_at_most(word, ns);
        if (result == CUDA_SUCCESS && word->pending)
                result = CUDA_ERROR_NOT_READY;
        ivg_completion_give(word);
        return result;
}

static CUresult synchronize_by_word(const struct stream *stream)
{
        struct ivg_completion *word = ivg_completion_take();
        const struct ivg_moment before = ivg_moment_now();
        CUresult result;

        if (word == NULL)
                return synchronize_by_trip(stream->id);
        result = send_signal(word, stream->id, stream->current);
        if (result == CUDA_SUCCESS)
                result = ivg_completion_wait(word);
        ivg_completion_give(word);
        if (result != CUDA_SUCCESS)
                return result;
        if (errors_are_due())
                return synchronize_by_trip(stream->id);
        stream_is_done(stream, tail_after(&before));
        note_synced(stream->id, stream->context, tail_after(&before));
        return CUDA_SUCCESS;
}

/* Where so many threads wait at once that all words are taken, and for errors. */
static CUresult settle_by_trips(ivg_id stream)
{
        CUresult result = CUDA_ERROR_NOT_READY;

        errors_taken();
        for (uint32_t ask = 0; ask < SETTLE_QUERIES_MAX && result == CUDA_ERROR_NOT_READY; ask++)
                result = ask_stream(stream);
        return result == CUDA_ERROR_NOT_READY ? CUDA_SUCCESS : result;
}

/* A word behind the write. What has not come by then may wait for what only the program can end. */
static CUresult settle_by_word(ivg_id stream, const struct ivg_object *context)
{
        struct ivg_completion *word = ivg_completion_take();
        CUresult result;

        if (word == NULL)
                return settle_by_trips(stream);
        result = word_within(word, stream, context, IVG_SETTLE_NS);
        if (result != CUDA_SUCCESS && result != CUDA_ERROR_NOT_READY)
                return result;
        return errors_are_due() ? settle_by_trips(stream) : CUDA_SUCCESS;
}

/* Whether a stream exists that does not wait for a write's, and no capture is under way. */
static bool writes_settle(void)
{
        /* Relaxed: a stream that another thread makes meanwhile may be thought of or not. */
        return ivg_load_relaxed_u32(&ivg_independent_streams) != 0 && !ivg_capturing();
}

CUresult ivg_write_settle(ivg_id stream, uint64_t address)
{
        const struct ivg_object *context = ivg_context_current();

        if (ivg_memory_settles(address))
                return ivg_send_cuStreamSynchronize(stream);
        return context != NULL && writes_settle() ? settle_by_word(stream, context) : CUDA_SUCCESS;
}

/* ---- synchronous copies, in the legacy stream or the per-thread one ---- */

static struct stream stream_of(const struct ivg_copy *copy)
{
        return (struct stream){
                .current = copy->context,
                .context = copy->context,
                .id = copy->stream,
                .mark = copy->stream == IVG_ID_STREAM_LEGACY ? &copy->context->legacy_done_tail : NULL,
        };
}

bool ivg_copy_follows_nothing(const struct ivg_copy *copy)
{
        const struct stream stream = stream_of(copy);

        return may_answer() && stream_is_known_done(&stream);
}

bool ivg_upload_waits(const struct ivg_copy *copy)
{
        return !ivg_capturing() && (!copy->follows_nothing || writes_settle());
}

CUresult ivg_upload_wait(const struct ivg_copy *copy)
{
        const struct stream stream = stream_of(copy);

        return synchronize_by_word(&stream);
}

void ivg_copy_has_waited(const struct ivg_copy *copy, const struct ivg_moment *before)
{
        const struct stream stream = stream_of(copy);

        if ((stream.id != IVG_ID_STREAM_LEGACY && stream.id != IVG_ID_STREAM_PER_THREAD) || !may_answer())
                return;
        stream_is_done(&stream, tail_after(before));
        note_synced(stream.id, stream.context, tail_after(before));
}

static CUresult stream_synchronize(CUstream handle, ivg_id null_stream)
{
        struct stream stream;
        const CUresult result = stream_begin(&stream, handle, null_stream);

        if (result != CUDA_SUCCESS)
                return result;
        if (needs_trip())
                return synchronize_by_trip(stream.id);
        if (stream_is_known_done(&stream))
                return ivg_local("cuStreamSynchronize", CUDA_SUCCESS);
        return synchronize_by_word(&stream);
}

/* Where what is known of a stream's questions stands; NULL: each is asked. So it is for the legacy stream, as an event
 * there would hold back what other streams are given later, and for streams of other contexts than the current one. */
static _Atomic(uint64_t) *stream_signal(const struct stream *stream)
{
        struct ivg_thread *thread = ivg_thread_local();

        if (stream->id == IVG_ID_STREAM_LEGACY || ivg_context_owner(stream->current) != stream->current)
                return NULL;
        if (stream->object != NULL)
                return stream->context == stream->current ? &stream->object->signal : NULL;
        if (thread->stream_signal_context != stream->context->id) {
                thread->stream_signal_context = stream->context->id;
                ivg_store_relaxed_u64(&thread->stream_signal, 0); /* this thread's alone */
        }
        return &thread->stream_signal;
}

/* What the host need not be asked. NOT_READY: the word has not come; UNKNOWN: ask. */
static CUresult stream_known(uint64_t signal, const struct ivg_moment *now)
{
        switch (ivg_signal_state(signal)) {
        case IVG_SIGNAL_COME: /* all that the stream was given, if nothing was sent since */
                return ivg_signal_tag(signal) == (uint32_t)now->tail && ivg_load_relaxed_u32(&ivg_frees_in_order) == 0
                               ? CUDA_SUCCESS
                               : CUDA_ERROR_UNKNOWN;
        case IVG_SIGNAL_PENDING:
                return ivg_signal_may_tell(signal) ? CUDA_ERROR_NOT_READY : CUDA_ERROR_UNKNOWN;
        default:
                return CUDA_ERROR_UNKNOWN;
        }
}

static CUresult stream_query(CUstream handle, ivg_id null_stream)
{
        struct stream stream;
        CUresult result = stream_begin(&stream, handle, null_stream);

        if (result != CUDA_SUCCESS)
                return result;
        _Atomic(uint64_t) *signal = stream_signal(&stream);
        const struct ivg_moment before = ivg_moment_now();
        const uint64_t seen = signal != NULL ? ivg_load_relaxed_u64(signal) : 0, progress = ivg_progress();
        const bool may = may_answer(), again = may && just_synced(stream.id, stream.context);
        if (may && (stream.mark != NULL ? stream_is_marked(&stream) : again))
                return ivg_local("cuStreamQuery", CUDA_SUCCESS);
        if (again && others_are_silent(before.tail))
                return ivg_local("cuStreamQuery", CUDA_SUCCESS);
        result = may ? stream_known(seen, &before) : CUDA_ERROR_UNKNOWN;
        if (result == CUDA_SUCCESS) {
                ivg_progress_note();
                note_synced(stream.id, stream.context, before.tail);
                stream_is_done(&stream, before.tail);
        }
        if (result != CUDA_ERROR_UNKNOWN)
                return ivg_local("cuStreamQuery", result);
        errors_taken();
        result = ask_stream(stream.id);
        /* Other threads sent something, to this stream or not; what this one waited for was done all the same. */
        for (uint32_t ask = 0; again && result == CUDA_ERROR_NOT_READY && ask < QUERIES_AGAIN_MAX; ask++)
                result = ask_stream(stream.id);
        if (result == CUDA_SUCCESS)
                stream_is_done(&stream, tail_after(&before));
        if (result == CUDA_ERROR_NOT_READY && may && signal != NULL)
                ivg_signal_stream_pends(signal, stream.id, stream.current, seen, progress, before.tail,
                                        tail_after(&before));
        return result;
}

/* ---- contexts ---- */

_Atomic(uint32_t) ivg_independent_streams;

/* The streams of a part of a device are the driver's to wait for, by both contexts. */
static bool has_parts(const struct ivg_object *context)
{
        return context->context != NULL || ivg_objects_live(IVG_KIND_GREEN_CONTEXT) != 0;
}

/* All work of the context, which is current. */
static CUresult context_synchronize(struct ivg_object *context)
{
        const struct ivg_moment before = ivg_moment_now();
        struct ivg_context_work work;
        CUresult result = CUDA_SUCCESS;
        bool come = false;

        if (!needs_trip()) {
                if (is_done(&context->done_tail))
                        return ivg_local("cuCtxSynchronize", CUDA_SUCCESS);
                ivg_thread_asks();
                come = ivg_context_work_find(context, &work) && !has_parts(context) &&
                       ivg_context_work_wait(context, &work) && !errors_are_due();
        } else {
                (void)ivg_context_work_find(context, &work);
        }
        if (!come) {
                errors_taken();
                ivg_thread_asks();
                result = ivg_send_cuCtxSynchronize();
        }
        if (result != CUDA_SUCCESS)
                return result;
        ivg_context_work_done(context, &work, !come);
        mark_done(&context->done_tail, &before);
        note_synced(IVG_ID_NONE, context, tail_after(&before));
        return CUDA_SUCCESS;
}

/* ---- events ---- */

/* Another process may record an event that it shares, which moves no tail of this one. */
static void mark_done_event(struct ivg_object *event, const struct ivg_moment *before)
{
        if (!(event->flags & CU_EVENT_INTERPROCESS))
                mark_done(&event->done_tail, before);
}

static CUresult event_is_done(struct ivg_object *event, const struct ivg_moment *before, uint64_t signal)
{
        mark_done_event(event, before);
        ivg_signal_done(event, signal);
        return CUDA_SUCCESS;
}

/* By its own mark; or, where its last record is known to be a plain one, by its context's. */
static bool event_is_marked(const struct ivg_object *event)
{
        return is_done(&event->done_tail) ||
               (ivg_load_relaxed_u64(&event->recorded) != 0 && is_done(&event->context->done_tail));
}

static CUresult event_poll(struct ivg_object *event)
{
        const struct ivg_moment before = ivg_moment_now();
        const uint64_t signal = ivg_load_acquire_u64(&event->signal), progress = ivg_progress(); /* Q1 */
        const bool may = may_answer();
        CUresult result;

        if (may) {
                const enum ivg_signal_state state = ivg_signal_state(signal);

                /* The driver gives memory back that was freed in order only when it sees the end itself. */
                if (state == IVG_SIGNAL_COME && ivg_load_relaxed_u32(&ivg_frees_in_order) == 0) {
                        ivg_progress_note();
                        ivg_signal_done(event, signal);
                        return ivg_local("cuEventQuery", CUDA_SUCCESS);
                }
                if (state == IVG_SIGNAL_DONE || event_is_marked(event))
                        return ivg_local("cuEventQuery", CUDA_SUCCESS);
                if (state == IVG_SIGNAL_PENDING && ivg_signal_may_tell(signal))
                        return ivg_local("cuEventQuery", CUDA_ERROR_NOT_READY);
        }
        errors_taken();
        ivg_thread_asks();
        ivg_thread_local()->questions++;
        result = ivg_send_cuEventQuery(event->id);
        if (result == CUDA_SUCCESS)
                return event_is_done(event, &before, signal);
        if (result == CUDA_ERROR_NOT_READY && may)
                ivg_signal_event_pends(event, signal, progress);
        return result;
}

/* Where the event's record is the last that was sent: its stream's end is the event's. Another thread may send between
 * the look and the word, which is behind that too: so not for long. NOT_READY: otherwise, then. */
static CUresult event_wait_by_word(const struct ivg_object *event)
{
        const struct ivg_object *context = ivg_context_current();
        const uint64_t recorded = ivg_load_relaxed_u64(&event->recorded);
        struct ivg_completion *word;
        CUresult result;

        if (recorded == 0 || (uint32_t)recorded != (uint32_t)ivg_ring_tail() || context != event->context)
                return CUDA_ERROR_NOT_READY;
        word = ivg_completion_take();
        if (word == NULL)
                return CUDA_ERROR_NOT_READY;
        result = word_within(word, (ivg_id)(recorded >> 32), context, ivg_spin_ns(IVG_COMPLETION_SPIN_NS));
        return result == CUDA_SUCCESS && errors_are_due() ? CUDA_ERROR_NOT_READY : result;
}

/* With more work behind it: by the event's own word. NOT_READY: it has none, or it takes long. */
static CUresult event_wait_by_signal(struct ivg_object *event)
{
        const uint64_t progress = ivg_progress();
        uint64_t signal = ivg_load_acquire_u64(&event->signal); /* Q1 */

        if (ivg_signal_state(signal) == IVG_SIGNAL_NONE && ivg_context_current() == event->context) {
                ivg_signal_event_send(event, signal, progress);
                signal = ivg_load_acquire_u64(&event->signal); /* Q1 */
        }
        if (ivg_signal_state(signal) == IVG_SIGNAL_PENDING)
                (void)ivg_signal_wait(signal);
        return event_poll(event);
}

static CUresult event_wait(struct ivg_object *event)
{
        CUresult result = CUDA_ERROR_NOT_READY;
        const struct ivg_moment before = ivg_moment_now();
        const uint64_t signal = ivg_load_acquire_u64(&event->signal); /* Q1 */

        if (!needs_trip()) {
                if (ivg_signal_state(signal) == IVG_SIGNAL_DONE || event_is_marked(event))
                        return ivg_local("cuEventSynchronize", CUDA_SUCCESS);
                result = event_wait_by_word(event);
                if (result == CUDA_SUCCESS)
                        return event_is_done(event, &before, signal);
                if (result == CUDA_ERROR_NOT_READY)
                        result = event_wait_by_signal(event);
                for (uint32_t poll = 0; poll < EVENT_POLLS_MAX && result == CUDA_ERROR_NOT_READY; poll++)
                        result = event_poll(event);
                if (result != CUDA_ERROR_NOT_READY)
                        return result;
        }
        errors_taken();
        ivg_thread_asks();
        result = ivg_send_cuEventSynchronize(event->id);
        return result == CUDA_SUCCESS ? event_is_done(event, &before, signal) : result;
}

static CUresult of_event(CUevent handle, CUresult (*ask)(struct ivg_object *event))
{
        struct ivg_object *context, *event;
        const CUresult result = ivg_context_require(&context);

        if (result != CUDA_SUCCESS)
                return result;
        event = ivg_object_of(IVG_KIND_EVENT, handle);
        return event != NULL ? ask(event) : CUDA_ERROR_INVALID_HANDLE;
}

/* ---- the exported functions ---- */

CUresult cuStreamSynchronize(CUstream hStream)
{
        return stream_synchronize(hStream, IVG_ID_STREAM_LEGACY);
}

CUresult cuStreamSynchronize_ptsz(CUstream hStream)
{
        return stream_synchronize(hStream, IVG_ID_STREAM_PER_THREAD);
}

CUresult cuStreamQuery(CUstream hStream)
{
        return stream_query(hStream, IVG_ID_STREAM_LEGACY);
}

CUresult cuStreamQuery_ptsz(CUstream hStream)
{
        return stream_query(hStream, IVG_ID_STREAM_PER_THREAD);
}

CUresult cuEventQuery(CUevent hEvent)
{
        return of_event(hEvent, event_poll);
}

CUresult cuEventSynchronize(CUevent hEvent)
{
        return of_event(hEvent, event_wait);
}

CUresult cuCtxSynchronize(void)
{
        struct ivg_object *context;
        const CUresult result = ivg_context_require(&context);

        return result == CUDA_SUCCESS ? context_synchronize(context) : result;
}
