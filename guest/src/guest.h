/* Inside the guest's libcuda.so.1: what its files share. Nothing here is exported (see libcuda.map, generated).
 *
 *   generated stubs ─┐                      ┌─ objects.c   handles
 *   memory.c ────────┤                      ├─ context.c   current context, primary contexts
 *   module.c ────────┼─> call.c (records) ──┼─ thread.c    producer line, mailbox, waiting
 *   launch.c ────────┤                      └─ staging.c   arena memory for bulk and long ranges
 *   stream.c ... ────┘
 * Errors: CUresult everywhere in this folder; errno values of ring and glue are mapped in ivg_result_from_errno(). */
#ifndef IVG_GUEST_H
#define IVG_GUEST_H

#include "ivgpu/call_wire.h"
#include "ivgpu/cuda_abi.h"
#include "ivgpu/link.h"
#include "ivgpu/ring.h"
#include "ivgpu_calls.h" /* generated: call numbers, request and answer structs, fingerprint */
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define IVG_HIDDEN __attribute__((visibility("hidden")))
#pragma GCC visibility push(hidden)

/* ---- process state (process.c) ---- */

/* The connection to the executor, made by the first cuInit; lives until exit. */
struct ivg_process {
        struct ivg_link *link;
        struct ivg_ring ring;
        uint8_t *arena; /* window: pinned memory and staging, same address in the executor */
        uint64_t arena_bytes;
        _Atomic(uint32_t) state; /* enum ivg_process_state */
        _Atomic(uint32_t) lost;  /* sticky CUresult once the executor or mediator is gone; 0 before */
        int driver_version;      /* the host driver's, but at most the interface that we carry */
        int device_count;
};
/*   NEW ──> CONNECTING ──> CONNECTED ──cuInit──> READY ──exit()──> ENDED
 *    ^           │            (asked for the driver's version only)
 *    └─ FAILED <─┘
 * Calls answer NOT_INITIALIZED before READY and in FORKED, DEINITIALIZED in ENDED, and the sticky error once `lost` is
 * set. A fork()ed child of a READY process is FORKED for ever: CUDA does not survive fork() either. */
enum ivg_process_state {
        IVG_PROCESS_NEW,
        IVG_PROCESS_CONNECTING,
        IVG_PROCESS_CONNECTED,
        IVG_PROCESS_READY,
        IVG_PROCESS_FAILED,
        IVG_PROCESS_FORKED,
        IVG_PROCESS_ENDED
};
extern struct ivg_process ivg_process;

CUresult ivg_process_connect(void); /* idempotent; cuInit's work. Any thread */
/* Runs `ask` in a process that is connected, whether or not it ever calls cuInit: for NVML (management.c). Any thread.
 */
CUresult ivg_process_ask(CUresult (*ask)(void *argument), void *argument);
/* The driver's version as programs see it: the host driver's, but never above the interface that we carry, so that no
 * program is promised what is not there. The first question asks the host; without one it is our interface's. */
int ivg_process_driver_version(void);
CUresult ivg_process_refusal(void); /* why calls may not go out now (not READY, or lost) */
/* CUDA_SUCCESS when calls may go out. Hot: two loads. Acquire pairs with the release at the end of connecting. */
static inline CUresult ivg_process_check(void)
{
        /* `lost` is relaxed: an error word that stands by itself; whoever misses it meets the dead ring instead. */
        if (ivg_load_acquire_u32(&ivg_process.state) == IVG_PROCESS_READY &&
            ivg_load_relaxed_u32(&ivg_process.lost) == 0)
                return CUDA_SUCCESS;
        return ivg_process_refusal();
}
/* The executor or mediator is gone, or the ring broke: the first caller fixes the sticky error and logs the cause in
 * one line. Returns the sticky error. Any thread. */
CUresult ivg_process_lose(int negative_errno, const char *where);
CUresult ivg_result_from_errno(int negative_errno); /* -EOWNERDEAD, -EPIPE, -EPROTO, -ENOSPC ... */

/* Log: one line on stderr, "ivgpu: ...". LOG_CALLS prints every call (IVGPU_LOG=calls). Never on a hot path unless on.
 */
extern bool ivg_log_calls;
void ivg_log(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Counts a refused name, and names it once on stderr. Returns CUDA_ERROR_NOT_SUPPORTED. `name` is a literal. */
CUresult ivg_refuse(const char *name);
/* Counts an entry of a private export table that nobody is known to call, and names it once. Returns 0. */
CUresult ivg_count_unknown_entry(const char *name);
/* How often `name` was refused or counted so far (tests, IVGPU_LOG=summary). */
uint64_t ivg_refused_count(const char *name);
/* Counts a call answered without a record. */
void ivg_count_local(void);
void ivg_log_local(const char *name, CUresult result);
/* What a locally answered exported function returns through: counted, printed under IVGPU_LOG=calls. */
static inline CUresult ivg_local(const char *name, CUresult result)
{
        ivg_count_local();
        if (__builtin_expect(ivg_log_calls, 0))
                ivg_log_local(name, result);
        return result;
}

/* ---- calls (call.c) ---- */

/* `request` starts with struct ivg_call_header, which these fill. A full ring is waited for (bounded by the peer's
 * life). sync: waits for the answer; its first `answer_bytes_max` bytes are copied to `answer`; returns the call's
 * CUresult. A shorter answer than answer_bytes_min with CUDA_SUCCESS is a broken host: CUDA_ERROR_UNKNOWN. async:
 * returns once committed: CUDA_SUCCESS, or the sticky error of a lost executor. Callers: any thread; neither allocates
 * nor locks. */
CUresult ivg_call_sync(uint16_t number, void *request, uint32_t request_bytes, void *answer, uint32_t answer_bytes_min,
                       uint32_t answer_bytes_max, uint32_t *answer_bytes);
CUresult ivg_call_async(uint16_t number, void *request, uint32_t request_bytes);
/* Says once what IVG_RESULT_RATE_LIMITED means: whoever hands it to the program calls this. */
void ivg_call_rate_limited(void);

/* A call has told an error that kills its context. From then on every call waits for its answer, so that each one gives
 * the error as the driver does; until a context ends, which is how a program goes on. A word by itself. */
extern _Atomic(uint32_t) ivg_faulted;

/* ---- threads (thread.c) ---- */
#define IVG_CONTEXT_STACK_MAX 32u
struct ivg_thread { /* thread-local; its line is taken at the thread's first call and given back at its end */
        struct ivg_producer producer;
        bool open;                      /* has a line of its own */
        struct ivg_ring_producer *line; /* its own, for counting; NULL: none */
        bool connecting;                /* this thread connects, or asks for NVML: it may call before READY */
        bool in_callback;               /* runs the program's host functions, which may make no calls */
        bool fetching_output;
        /* What this thread synchronized last, how many records it had sent then, in all and without questions, and
         * the ring's tail then (synchronize.c). */
        ivg_id synced_stream, synced_context;
        uint64_t synced_calls, synced_work, synced_tail;
        struct ivg_work *work;           /* of the stream that it has named last (work.h); NULL: it only asks */
        struct ivg_work *own_work;       /* of its line: for the streams that each context or thread has */
        uint64_t questions;              /* records that it has sent and that give no stream work of the program's */
        _Atomic(uint64_t) stream_signal; /* of its default stream in the context `stream_signal_context` */
        ivg_id stream_signal_context;
        bool rang;       /* the last record rang the doorbell: its answer comes after a wake-up */
        uint64_t dma_ns; /* what the copies that it has sent since it last waited may take */
        bool shared;     /* no line was free: calls go through the process's shared line, one at a time, for good */
        uint32_t capture_mode; /* CUstreamCaptureMode of cuThreadExchangeStreamCaptureMode */
        uint32_t context_depth;
        struct ivg_object *context_stack[IVG_CONTEXT_STACK_MAX]; /* current = top; depth 0 = none */
        ivg_id context_ids[IVG_CONTEXT_STACK_MAX];               /* as pushed: a reused cell has another number */
};
extern _Thread_local struct ivg_thread ivg_thread_here;
static inline struct ivg_thread *ivg_thread_local(void) /* this thread's, with or without a line; never NULL */
{
        struct ivg_thread *thread = &ivg_thread_here;

        __asm__("" : "+r"(thread)); /* keeps it: a compiler would ask the thread's block again for each use */
        return thread;
}
/* First call of a thread, or the first since its line was given back. False: the process is not READY. */
bool ivg_thread_take_line(struct ivg_thread *thread);
/* With a line, its own or the shared one; NULL: the process is not READY. */
static inline struct ivg_thread *ivg_thread_self(void)
{
        struct ivg_thread *thread = ivg_thread_local();

        if (__builtin_expect(thread->open || thread->shared, 1))
                return thread;
        return ivg_thread_take_line(thread) ? thread : NULL;
}
/* The producer to send with, and back. Own line: free of charge. Shared line: a mutex is held between the two. */
struct ivg_producer *ivg_thread_shared_take(void);
void ivg_thread_shared_give(void);
static inline struct ivg_producer *ivg_thread_producer_take(struct ivg_thread *thread)
{
        return __builtin_expect(!thread->shared, 1) ? &thread->producer : ivg_thread_shared_take();
}
static inline void ivg_thread_producer_give(struct ivg_thread *thread)
{
        if (__builtin_expect(thread->shared, 0))
                ivg_thread_shared_give();
}
CUresult ivg_threads_start(void); /* process.c, once, when the ring is bound: takes the shared line */
void ivg_thread_forked(void);     /* process.c, in a fork()ed child: this thread has no line any more */

/* ---- stream capture (capture.c) ---- */

/* Captures under way in this process. While there are any, every call wants an answer and runs on its thread's lane
 * (IVG_CALL_CAPTURING): so the driver tells each mistake to the call that made it. Relaxed: between threads the program
 * itself orders a capture's begin and what belongs to it. */
extern _Atomic(uint32_t) ivg_captures;
static inline bool ivg_capturing(void)
{
        return __builtin_expect(ivg_load_relaxed_u32(&ivg_captures) != 0, 0);
}
/* True when work given to the stream now becomes part of a graph. Costs nothing while nothing captures. */
bool ivg_capture_takes(ivg_id stream);
/* For calls that are answered here, but which the driver forbids to this thread while certain captures are under way,
 * and which then spoil them (CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED). */
CUresult ivg_capture_allows(void);

/* ---- objects (objects.c): every handle the program holds points at one of these ---- */

/* Objects live in one reserved window of address space, in 128-byte cells, so that any pointer can be checked without a
 * fault: inside the window, on a cell, alive, of the kind. Numbers sent to the host are cell index and generation. */
struct ivg_object {
        _Atomic(uint32_t) kind; /* enum ivg_kind; NONE: free cell */
        ivg_id id;
        struct ivg_object *context; /* the context it belongs to; NULL for libraries and contexts, but of a part of a
                                     * device's context (green.c) its primary one */
        int device;
        uint32_t flags;
        void *data;         /* kind-specific, owned by the kind's file; of streams: their place (work.h) */
        uint64_t values[8]; /* kind-specific; of streams and events: enum ivg_object_value */
        /* Of events: the stream of the last record in the upper half, the ring's tail behind that record in the lower;
         * 0: it is not to be waited for by them. */
        _Atomic(uint64_t) recorded;
        _Atomic(uint64_t) signal; /* of events and streams: what is known without asking (signal.c) */
        /* Of streams, events and contexts: the ring's tail when all their work was last seen done (synchronize.c); 0:
         * never. And of a context's legacy stream. */
        _Atomic(uint64_t) done_tail, legacy_done_tail;
};
#define IVG_SIGNAL_HOW 0xff000000u /* of `signal`: a word's number from 1 on, or */
#define IVG_SIGNAL_HOW_DONE 0xfe000000u
#define IVG_SIGNAL_HOW_LEFT 0xff000000u
enum ivg_object_value {
        IVG_VALUE_STREAM_PRIORITY = 0,
        IVG_VALUE_STREAM_UNIQUE_ID = 1,
        IVG_VALUE_CONTEXT_UNIQUE_ID = 1
};
_Static_assert(sizeof(struct ivg_object) == 128, "one cell");

/* A cell of that kind, of `context` (NULL: none), all else zero; streams and contexts alone may be of a part of a
 * device, others are of the context that the part is of. OUT_OF_MEMORY: all cells are taken. Any thread; a mutex. */
CUresult ivg_object_create(enum ivg_kind kind, struct ivg_object *context, struct ivg_object **object);
void ivg_object_destroy(struct ivg_object *object); /* the number's generation moves on */
/* Called by ivg_object_destroy for every object of `kind`, before the cell is free: gives back `data`. May destroy
 * further objects. Set by the kind's file at load time (constructor), never changed. */
void ivg_object_set_release(enum ivg_kind kind, void (*release)(struct ivg_object *object));
/* Ends every object that belongs to `context`, without telling the host, which ends them with the context. */
void ivg_objects_destroy_of_context(const struct ivg_object *context);
/* Where objects lie: objects.c writes both words, the base first. */
struct ivg_object_window {
        _Atomic(uintptr_t) base;        /* 0: not reserved yet */
        _Atomic(uint64_t) usable_bytes; /* cells below are readable; only grows */
};
extern struct ivg_object_window ivg_object_window;
/* The cell behind a pointer, alive or not; NULL: not one of ours. */
static inline struct ivg_object *ivg_object_cell(const void *handle)
{
        /* Acquire, pairs with commit_more. 0 before the first object: nothing is inside. */
        const uint64_t usable = ivg_load_acquire_u64(&ivg_object_window.usable_bytes);
        const uint64_t offset = (uintptr_t)handle - atomic_load_explicit(&ivg_object_window.base, memory_order_relaxed);

        return offset < usable && offset % sizeof(struct ivg_object) == 0 ? (struct ivg_object *)handle : NULL;
}
/* The live object of `kind` behind a handle, else NULL. Lock-free; hot. */
static inline struct ivg_object *ivg_object_of(enum ivg_kind kind, const void *handle)
{
        struct ivg_object *object = ivg_object_cell(handle);

        /* Acquire, pairs with the release in ivg_object_create. */
        return object != NULL && ivg_load_acquire_u32(&object->kind) == (uint32_t)kind ? object : NULL;
}
/* A stream handle as a number: NULL and special handles too. `null_stream` is IVG_ID_STREAM_LEGACY or _PER_THREAD.
 * `object` NULL: a special one. INVALID_HANDLE: no stream. Hot. */
static inline CUresult ivg_stream_find(CUstream stream, ivg_id null_stream, ivg_id *id, struct ivg_object **object)
{
        *object = NULL;
        if (stream == NULL) {
                *id = null_stream;
                return CUDA_SUCCESS;
        }
        if (stream == CU_STREAM_LEGACY || stream == CU_STREAM_PER_THREAD) {
                *id = stream == CU_STREAM_LEGACY ? IVG_ID_STREAM_LEGACY : IVG_ID_STREAM_PER_THREAD;
                return CUDA_SUCCESS;
        }
        *object = ivg_object_of(IVG_KIND_STREAM, stream);
        if (*object == NULL)
                return CUDA_ERROR_INVALID_HANDLE;
        *id = (*object)->id;
        return CUDA_SUCCESS;
}
/* The same for who gives it something: what the thread sends from then on counts as given to this stream (call.c),
 * until it names another one. */
static inline CUresult ivg_stream_id(CUstream stream, ivg_id null_stream, ivg_id *id)
{
        struct ivg_object *object;
        const CUresult result = ivg_stream_find(stream, null_stream, id, &object);
        struct ivg_thread *thread = ivg_thread_local();

        if (result == CUDA_SUCCESS)
                thread->work = object != NULL ? object->data : thread->own_work;
        return result;
}
/* This thread's next records give no stream anything: questions, waits. */
static inline void ivg_thread_asks(void)
{
        ivg_thread_local()->work = NULL;
}
/* What a stream handle stands for: *stream is NULL for the special ones, whose context is the current one. */
CUresult ivg_stream_given(CUstream handle, struct ivg_object **stream, struct ivg_object **context);
/* The live object of `kind` with this number, else NULL. */
struct ivg_object *ivg_object_of_id(enum ivg_kind kind, ivg_id id);
/* The same with an index, the low part of a number: for who knows that the object lives. */
struct ivg_object *ivg_object_at(enum ivg_kind kind, uint32_t index);
/* Live objects of `kind`; of graph nodes: whether a graph's end has any to look for. */
uint32_t ivg_objects_live(enum ivg_kind kind);
/* Function or kernel handle (CUDA accepts both at a launch). */
static inline struct ivg_object *ivg_object_of_function(const void *handle)
{
        struct ivg_object *object = ivg_object_cell(handle);
        uint32_t kind;

        if (object == NULL)
                return NULL;
        kind = ivg_load_acquire_u32(&object->kind); /* as in ivg_object_of */
        return kind == IVG_KIND_FUNCTION || kind == IVG_KIND_KERNEL ? object : NULL;
}

/* ---- contexts (context.c) ---- */
/* NULL: none. It may have ended: see ivg_context_require. */
static inline struct ivg_object *ivg_context_current_of(const struct ivg_thread *thread)
{
        return thread->context_depth != 0 ? thread->context_stack[thread->context_depth - 1] : NULL;
}
static inline struct ivg_object *ivg_context_current(void)
{
        return ivg_context_current_of(ivg_thread_local());
}
/* The context that owns memory and code made in `context`: the primary one for that of a part of a device. */
static inline struct ivg_object *ivg_context_owner(struct ivg_object *context)
{
        return context != NULL && context->context != NULL ? context->context : context;
}
CUresult ivg_context_check(struct ivg_object *context); /* CUDA_SUCCESS, or CUDA_ERROR_CONTEXT_IS_DESTROYED */
uint64_t ivg_context_unique_id(const struct ivg_object *context);
struct ivg_context_storage *ivg_context_storage(struct ivg_object *context);
/* Primary context of `device`, retained; what cuDevicePrimaryCtxRetain does. */
CUresult ivg_context_primary_retain(int device, struct ivg_object **context);
/* The current context or CUDA_ERROR_INVALID_CONTEXT; and ivg_process_check(). What most calls start with. */
CUresult ivg_context_require(struct ivg_object **context);

/* ---- context-local storage (storage.c): values that libraries hang on a context ---- */

#define IVG_STORAGE_ENTRIES_MAX 4096u /* far above the handful of keys that runtimes use */
typedef void (*ivg_storage_destructor)(CUcontext context, void *key, void *value);
struct ivg_context_storage; /* one per context, lives as long as the process */
struct ivg_context_storage *ivg_storage_create(void);
/* Replaces what is there under `key`. INVALID_VALUE: a NULL key; OUT_OF_MEMORY. Any thread. */
CUresult ivg_storage_put(struct ivg_context_storage *storage, void *key, void *value,
                         ivg_storage_destructor destructor);
CUresult ivg_storage_delete(struct ivg_context_storage *storage, void *key); /* INVALID_HANDLE: missing */
/* INVALID_HANDLE: missing. Lock-free, hot. Any thread, also while another puts or deletes. */
CUresult ivg_storage_get(struct ivg_context_storage *storage, void *key, void **value);
/* Empties it and then runs the destructors, in the order of the puts, with no lock held. */
void ivg_storage_end(struct ivg_context_storage *storage, CUcontext context);

/* ---- devices (device.c) ---- */

#define IVG_DEVICES_MAX 64
struct ivg_device {                                /* fetched once, by one call; constant afterwards */
        int32_t attributes[IVG_DEVICE_ATTRIBUTES]; /* as a guest must see them (device_attribute.c) */
        bool known[IVG_DEVICE_ATTRIBUTES];         /* false: the host's driver does not know this attribute */
        uint64_t total_bytes;
        CUuuid uuid;
        char name[256];
        char pci_bus_id[32];
};
/* INVALID_DEVICE, or why the call failed. Any thread; lock-free once fetched. */
CUresult ivg_device_get(int device, const struct ivg_device **out);
/* As cuDeviceGetAttribute. */
CUresult ivg_device_attribute(int device, CUdevice_attribute attribute, int *value);
/* Corrects the attributes that would promise what we do not carry. */
void ivg_device_apply_rules(struct ivg_device *device);

/* ---- symbols (proc_address.c over the generated guest_symbols.c) ---- */

/* True when the newest symbol behind `name` ("cuMemCreate") is carried, not refused. Any thread. */
bool ivg_symbol_carried(const char *name);

/* ---- a call without a current context (context.c) ----
 *
 * The driver then takes the context of the stream, event, module or function that the call is about (as measured). */

/* Makes the handle's context current where none is; false: there is one, or the handle is no such object. */
bool ivg_context_borrow(enum ivg_kind kind, const void *handle);
/* After it said true: none is current again. */
void ivg_context_return(void);
/* The value of `call`, an expression that begins with ivg_context_require(): once more in the handle's context when it
 * found none. Costs a compare where there is one. */
#define IVG_IN_CONTEXT_OF(kind, handle, call)                                                \
        ({                                                                                   \
                CUresult in_context_result_ = (call);                                        \
                if (__builtin_expect(in_context_result_ == CUDA_ERROR_INVALID_CONTEXT, 0) && \
                    ivg_context_borrow(kind, handle)) {                                      \
                        in_context_result_ = (call);                                         \
                        ivg_context_return();                                                \
                }                                                                            \
                in_context_result_;                                                          \
        })

/* ---- waiting (synchronize.c) ---- */

/* The stream is known to be done. */
bool ivg_stream_is_done(const struct ivg_object *stream);
/* What this process has sent so far, as a place to compare with. Relaxed: it orders nothing (synchronize.c). */
static inline uint64_t ivg_ring_tail(void)
{
        return ivg_load_relaxed_u64(&ivg_process.ring.guest->tail);
}

/* Non-zero once there was a stream that does not wait for the legacy stream (CU_STREAM_NON_BLOCKING). */
extern _Atomic(uint32_t) ivg_independent_streams;
/* After a synchronous form that wrote to `address` and natively is done but for a moment (a set): waits for it where
 * the program may look at once (ivg_memory_settles). Else, where a stream exists that does not wait for `stream`, gives
 * that moment, so that the program's next launch there finds it done; bounded, as it may wait for what only the program
 * can end. CUDA_SUCCESS, or an error that was due. */
CUresult ivg_write_settle(ivg_id stream, uint64_t address);
/* That moment, some microseconds, but for other contexts of the device, whose slices (2 ms on an H200) may come before.
 */
#define IVG_SETTLE_NS 20000000u
/* What this thread has sent; taken before what is waited for then. `calls` counts its records, each of which is one
 * slot where this is used: of a larger one nothing is learnt. */
struct ivg_moment {
        uint64_t tail;
        const struct ivg_ring_producer *line; /* NULL: the line is shared, one record is assumed */
        uint64_t calls;
};
struct ivg_moment ivg_moment_now(void);

/* A synchronous copy from pageable memory to the device returns when its stream has done what it was given before
 * (CUDA Driver API, "API synchronization behavior": "a stream sync is performed before the copy is initiated"): the
 * program may look then at what a kernel wrote to its memory. */
struct ivg_copy;
/* Before the copy is sent: whether there is nothing of that. */
bool ivg_copy_follows_nothing(const struct ivg_copy *copy);
/* Behind it: whether it must be waited for, for that, or as streams exist that do not wait for its own one (natively it
 * is done when it returns). Not beside captures. */
bool ivg_upload_waits(const struct ivg_copy *copy);
/* Waits for all that its stream was given. CUDA_SUCCESS, or an error that was due. */
CUresult ivg_upload_wait(const struct ivg_copy *copy);
/* A copy that came back with data, synchronous or not, has been waited for: so has all before it. */
void ivg_copy_has_waited(const struct ivg_copy *copy, const struct ivg_moment *before);
/* Non-zero once memory was freed in stream order: the driver gives such memory back when it synchronizes itself. */
extern _Atomic(uint32_t) ivg_frees_in_order;

/* ---- words for questions (signal.c) ---- */

/* So many times the answer may be "not ready" without asking the host, which tells errors too: twice as often each time
 * that it was asked, and in any case not longer than the kernel's coarse clock takes to move, some milliseconds. */
#define IVG_UNASKED_FIRST 64u
#define IVG_UNASKED_MAX 4096u

enum ivg_signal_state {
        IVG_SIGNAL_NONE,    /* nobody has asked for a word */
        IVG_SIGNAL_PENDING, /* the word has not come */
        IVG_SIGNAL_COME,    /* of an event: it is done; of a stream: what it had been given by then */
        IVG_SIGNAL_DONE,    /* of an event: known without a word */
        IVG_SIGNAL_LEFT /* of an event: it is recorded by others than cuEventRecord, so that nothing is known here */
};
enum ivg_signal_state ivg_signal_state(uint64_t signal);
/* Where the word is pending: whether "not ready" is true without asking. Counts. */
bool ivg_signal_may_tell(uint64_t signal);
/* The host has said that it is pending: asks for a word, where there is none. `seen`, and ivg_progress(), are from
 * before it was asked. */
void ivg_signal_event_pends(struct ivg_object *event, uint64_t seen, uint64_t progress);
/* A stream's tag then says which tail means that nothing but questions was sent since: `before` and `after` are those
 * around this one, if nobody else has sent something meanwhile. */
void ivg_signal_stream_pends(_Atomic(uint64_t) *signal, ivg_id stream, const struct ivg_object *context, uint64_t seen,
                             uint64_t progress, uint64_t before, uint64_t after);
/* Asks for a word at once, where there is none. */
void ivg_signal_event_send(struct ivg_object *event, uint64_t seen, uint64_t progress);
static inline uint32_t ivg_signal_tag(uint64_t signal)
{
        return (uint32_t)(signal >> 32);
}
/* The event, as it was when its word was `seen`, is done. */
void ivg_signal_done(struct ivg_object *event, uint64_t seen);
/* Looks for so long as a thread does that waits for the device. True: it is not pending any more. */
bool ivg_signal_wait(uint64_t signal);
/* For good: cuEventRecord is not, or no more, all that records the event. */
void ivg_signal_leave(struct ivg_object *event);
/* After a record has been sent: what was known was of the one before. Release, pairs with the acquire of who asks: what
 * it sends then comes behind this record. */
static inline void ivg_signal_recorded(struct ivg_object *event)
{
        const uint64_t seen = ivg_load_relaxed_u64(&event->signal);

        if (__builtin_expect((seen & IVG_SIGNAL_HOW) != IVG_SIGNAL_HOW_LEFT, 1))
                ivg_store_release_u64(&event->signal, ((seen >> 32) + 1) << 32); /* R1 */
}
/* Moves whenever this process may have learnt that the device has come further: from then on a pending word may be
 * behind what the program knows, and the host is asked. */
extern _Atomic(uint64_t) ivg_progress_count;
static inline uint64_t ivg_progress(void)
{
        return ivg_load_relaxed_u64(&ivg_progress_count);
}
static inline void ivg_progress_note(void)
{
        /* Relaxed: who is told of the progress has it from this thread, and this with it. */
        atomic_fetch_add_explicit(&ivg_progress_count, 1, memory_order_relaxed);
}

/* A peer that slept wakes within this time where processors are free: until then a waiting thread spins on. */
#define IVG_WAKE_SPIN_NS 300000u
/* A copy's time is known from its length, unlike a kernel's: who waits for it next had better look so long, rather than
 * be woken, by the lane and the interrupt, a hundred microseconds after it is done. Slower than any bus that matters;
 * a gigabyte at most. */
#define IVG_DMA_BYTES_PER_NS 20u
#define IVG_DMA_SPIN_NS_MAX 54000000u
void ivg_expect_dma(uint64_t bytes); /* this thread has sent a copy of so many bytes */
/* How long this thread had better spin now: `usual`, or longer once after it rang the doorbell or sent copies. After a
 * ring it offers its processor first. */
uint64_t ivg_spin_ns(uint64_t usual);
/* A thread that waits for the device natively holds its processor until the device is done (CU_CTX_SCHED_AUTO). Here it
 * spins for one wake-up's cost, then looks on for so long between offers of its processor, and only then sleeps: being
 * woken costs 50 to 100 us where processors idle deeply. At most half of the processors' number of threads at once, and
 * none once the program has asked for CU_CTX_SCHED_BLOCKING_SYNC. */
#define IVG_WAIT_YIELD_NS 20000000u
/* True: `look` was. False: the time is over, or this thread had better sleep at once. */
bool ivg_wait_yielding(bool (*look)(void *argument), void *argument);
void ivg_waits_block(void); /* from here on they sleep */

/* ---- what kernels print (output.c) ---- */

/* How much of it this process has seen; moves only while text is fetched. */
extern _Atomic(uint64_t) ivg_output_seen;
void ivg_output_fetch(void); /* writes what is there to stdout and stderr. Any thread */
static inline bool ivg_output_is_there(void)
{
        const _Atomic(uint64_t) *words =
                ivg_region_completions(ivg_link_region(ivg_process.link), ivg_link_channel(ivg_process.link));

        /* Relaxed: the answer that this thread has just taken came after the word (acquired with the mailbox). */
        return ivg_load_relaxed_u64(&words[IVG_OUTPUT_PRINTED]) != ivg_load_relaxed_u64(&ivg_output_seen);
}

/* ---- host functions (callback.c) ---- */

/* Starts the thread that runs the program's host functions; before the first one is sent. Idempotent. */
CUresult ivg_callbacks_require(void);

/* ---- bulk memory (staging.c, pinned.c) ---- */

/* Temporary arena memory for one call's long ranges: any size, waits never; NULL when the arena is full. */
void *ivg_staging_take(uint64_t bytes);
/* With the length that was asked for; NULL is fine. */
void ivg_staging_give(void *memory, uint64_t bytes);
/* Offset of a pointer into the arena window, or false. Pinned memory lies there. */
bool ivg_arena_offset(const void *pointer, uint64_t bytes, uint64_t *offset);
/* Sets and copies that touch this address wait for their end, when they name no stream: it is memory that the program
 * reads itself, or has CU_POINTER_ATTRIBUTE_SYNC_MEMOPS. */
bool ivg_memory_settles(uint64_t address);
/* The context's memory is gone on the host (context destroyed, primary context reset or released for the last time):
 * forgets its device memory and variables, and takes back its pinned memory. */
void ivg_memory_end_of_context(struct ivg_object *context);

#pragma GCC visibility pop
#endif
