/* Functions of the guest that run in stream order (cuLaunchHostFunc, cuStreamAddCallback).
 *
 * The driver runs a host function of ours when the stream comes to it, and the stream's later work waits until that
 * returns. Ours hands the guest's function over and waits until the guest has run it: order, error rules and capture
 * are the driver's own.
 *
 *   driver's thread                                          guest's callback thread
 *   B1 queue words, then IVG_CALLBACK_DUE (release)    ->    G1 IVG_CALLBACK_DUE (acquire), then queue words
 *   interrupt                                                run
 *   B2 count in the arena (acquire)                    <-    G2 count (release) after the function
 * B2 and G2 also carry what the function wrote to pinned memory. The consumer has no part in it: it may be inside a
 * driver call that waits for room in this very stream. */
#include "exec_internal.h"
#include <stdlib.h>
#include <time.h>

#define IVG_CALLBACK_BUCKETS 1024u /* of those in graphs: a program updates a few functions again and again */

struct ivg_callback {
        struct ivg_callback *next; /* free list, or its bucket's */
        struct ivg_exec *exec;
        uint64_t function, data, stream_handle;
        uint32_t kind;
        bool again;
};

struct ivg_callbacks {
        pthread_mutex_t mutex; /* held for a few stores, never while waiting */
        struct ivg_callback *free_list;
        struct ivg_callback *again[IVG_CALLBACK_BUCKETS];
        uint32_t count;   /* made so far, free ones too */
        uint32_t waiting; /* due and not counted by the guest */
        uint64_t due;     /* handed over so far */
        bool started;     /* `count_offset` is set */
        uint64_t count_offset;
};

struct ivg_callbacks *ivg_callbacks_create(void)
{
        struct ivg_callbacks *callbacks = calloc(1, sizeof(*callbacks));

        if (callbacks)
                pthread_mutex_init(&callbacks->mutex, NULL);
        return callbacks;
}

static void free_all(struct ivg_callback *callback)
{
        while (callback) {
                struct ivg_callback *next = callback->next;

                free(callback);
                callback = next;
        }
}

void ivg_callbacks_destroy(struct ivg_callbacks *callbacks)
{
        if (!callbacks)
                return;
        free_all(callbacks->free_list);
        for (uint32_t i = 0; i < IVG_CALLBACK_BUCKETS; i++)
                free_all(callbacks->again[i]);
        pthread_mutex_destroy(&callbacks->mutex);
        free(callbacks);
}

CUresult ivg_callbacks_start(struct ivg_exec_call *call, uint64_t arena_offset)
{
        struct ivg_callbacks *callbacks = call->exec->callbacks;
        CUresult result = CUDA_SUCCESS;

        if (arena_offset % sizeof(uint64_t) != 0 || !ivg_exec_arena(call, arena_offset, sizeof(uint64_t)))
                return ivg_exec_refuse(call, IVG_FAULT_ARGUMENTS, 1);
        pthread_mutex_lock(&callbacks->mutex);
        if (callbacks->started)
                result = CUDA_ERROR_ALREADY_MAPPED;
        callbacks->count_offset = callbacks->started ? callbacks->count_offset : arena_offset;
        callbacks->started = true;
        pthread_mutex_unlock(&callbacks->mutex);
        return result;
}

/* A free one, or NULL. The mutex is held. */
static struct ivg_callback *callback_new(struct ivg_callbacks *callbacks)
{
        struct ivg_callback *callback = NULL;

        if (callbacks->started && callbacks->free_list) {
                callback = callbacks->free_list;
                callbacks->free_list = callback->next;
        } else if (callbacks->started && callbacks->count < IVG_CALLBACKS_MAX) {
                callback = malloc(sizeof(*callback));
                callbacks->count += callback != NULL;
        }
        return callback;
}

struct ivg_callback *ivg_callback_take(struct ivg_exec *exec, uint64_t function, uint64_t data, uint64_t stream_handle,
                                       enum ivg_callback_kind kind)
{
        struct ivg_callbacks *callbacks = exec->callbacks;
        struct ivg_callback *callback;

        pthread_mutex_lock(&callbacks->mutex);
        callback = callback_new(callbacks);
        pthread_mutex_unlock(&callbacks->mutex);
        if (callback)
                *callback = (struct ivg_callback){
                        .exec = exec, .function = function, .data = data, .stream_handle = stream_handle, .kind = kind};
        return callback;
}

/* Nothing but these tells a graph's functions apart, so nodes with the same share one. */
struct ivg_callback *ivg_callback_of_graph(struct ivg_exec *exec, uint64_t function, uint64_t data,
                                           uint64_t stream_handle, enum ivg_callback_kind kind)
{
        struct ivg_callbacks *callbacks = exec->callbacks;
        struct ivg_callback **bucket =
                &callbacks->again[((function ^ data) * 0x9e3779b97f4a7c15ull >> 32) % IVG_CALLBACK_BUCKETS];
        struct ivg_callback *callback;

        pthread_mutex_lock(&callbacks->mutex);
        for (callback = *bucket; callback; callback = callback->next)
                if (callback->function == function && callback->data == data &&
                    callback->stream_handle == stream_handle && callback->kind == kind)
                        break;
        if (!callback && (callback = callback_new(callbacks))) {
                *callback = (struct ivg_callback){.next = *bucket,
                                                  .exec = exec,
                                                  .function = function,
                                                  .data = data,
                                                  .stream_handle = stream_handle,
                                                  .kind = kind,
                                                  .again = true};
                *bucket = callback;
        }
        pthread_mutex_unlock(&callbacks->mutex);
        return callback;
}

void ivg_callback_give(struct ivg_callback *callback)
{
        struct ivg_callbacks *callbacks = callback->exec->callbacks;

        if (callback->again) /* other nodes may have it */
                return;
        pthread_mutex_lock(&callbacks->mutex);
        callback->next = callbacks->free_list;
        callbacks->free_list = callback;
        pthread_mutex_unlock(&callbacks->mutex);
}

void ivg_callback_describe(const struct ivg_callback *callback, uint64_t *function, uint64_t *data)
{
        *function = callback->function;
        *data = callback->data;
}

/* ---- running one: on a thread of the driver ---- */

static void pause_ns(uint64_t *pause)
{
        const struct timespec time = {.tv_nsec = (long)*pause};

        nanosleep(&time, NULL);
        *pause = *pause * 2 < IVG_CALLBACK_PAUSE_NS_MAX ? *pause * 2 : IVG_CALLBACK_PAUSE_NS_MAX;
}

/* Puts it into the queue. False: no room, the guest has IVG_CALLBACK_SLOTS before it. */
static bool hand_over(const struct ivg_callback *callback, CUresult status, uint64_t *ticket)
{
        struct ivg_exec *exec = callback->exec;
        struct ivg_callbacks *callbacks = exec->callbacks;
        _Atomic(uint64_t) *slot;
        bool room;

        pthread_mutex_lock(&callbacks->mutex);
        room = callbacks->waiting < IVG_CALLBACK_SLOTS;
        if (room) {
                slot = exec->completions + IVG_CALLBACK_QUEUE +
                       callbacks->due % IVG_CALLBACK_SLOTS * IVG_CALLBACK_WORDS;
                ivg_store_relaxed_u64(&slot[IVG_CALLBACK_FUNCTION], callback->function);
                ivg_store_relaxed_u64(&slot[IVG_CALLBACK_DATA], callback->data);
                ivg_store_relaxed_u64(&slot[IVG_CALLBACK_STREAM], callback->stream_handle);
                ivg_store_relaxed_u64(&slot[IVG_CALLBACK_STATUS], (uint32_t)status | (uint64_t)callback->kind << 32);
                *ticket = ++callbacks->due;
                callbacks->waiting++;
                /* Sequentially consistent, hence a release: the guest asks for it before it sleeps. */
                (void)ivg_exchange_seq_cst_u64(&exec->completions[IVG_CALLBACK_DUE], callbacks->due); /* B1 */
        }
        pthread_mutex_unlock(&callbacks->mutex);
        return room;
}

/* True when the guest has run it, or never will. A guest that gives the word's memory away, or counts what it has not
 * run, spoils its own order only. */
static bool is_over(struct ivg_exec *exec, uint64_t ticket)
{
        const uint64_t offset = exec->callbacks->count_offset; /* set before any callback was taken */
        const uint8_t *arena = (const uint8_t *)(uintptr_t)ivg_load_relaxed_u64(&exec->arena);

        if (ivg_load_acquire_u32(&exec->stop) || ivg_load_acquire_u32(&exec->fault) ||
            !ivg_region_arena_owned(&exec->region, exec->channel, offset, sizeof(uint64_t)))
                return true;
        return (int64_t)(ivg_load_acquire_u64((const _Atomic(uint64_t) *)(const void *)(arena + offset)) - ticket) >=
               0; /* B2 */
}

static void run_in_guest(struct ivg_callback *callback, CUresult status)
{
        struct ivg_exec *exec = callback->exec;
        struct ivg_callbacks *callbacks = exec->callbacks;
        uint64_t ticket, pause = IVG_CALLBACK_PAUSE_NS_MIN, begin;

        while (!hand_over(callback, status, &ticket)) {
                if (ivg_load_acquire_u32(&exec->stop) || ivg_load_acquire_u32(&exec->fault))
                        return; /* never again: the executor ends, and this goes with it */
                pause_ns(&pause);
        }
        ivg_exec_interrupt(exec);
        begin = ivg_clock_ns();
        pause = IVG_CALLBACK_PAUSE_NS_MIN;
        while (!is_over(exec, ticket)) {
                if (ivg_clock_ns() - begin < IVG_CALLBACK_SPIN_NS)
                        ivg_cpu_relax();
                else
                        pause_ns(&pause);
        }
        pthread_mutex_lock(&callbacks->mutex);
        callbacks->waiting--;
        pthread_mutex_unlock(&callbacks->mutex);
        ivg_callback_give(callback);
}

void ivg_callback_host_function(void *callback)
{
        run_in_guest(callback, CUDA_SUCCESS);
}

void ivg_callback_stream_callback(CUstream stream, CUresult status, void *callback)
{
        (void)stream;
        run_in_guest(callback, status);
}
