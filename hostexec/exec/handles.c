/* Numbers to driver handles: one liburcu hash table for all kinds, keyed by number, the kind checked at each look-up.
 *
 *              | get        put            remove         visit
 *   get        | -          sees old/new   sees old/none  -
 *   put        |            one wins       either order   may or may not be seen
 *   remove     |                           one wins       likewise
 * All are lock-free for the callers here (fixed bucket count, so no resize). A node is freed after a grace period; what
 * it names, the driver's object, is protected by the order of calls and not by RCU: see lane.c. Numbers of what no
 * guest numbers are made here: per-thread default streams (bit 63, the guest thread's producer index, the context), and
 * events for streams' positions (bit 61, their place, the context).
 *
 * Calls name the same few objects again and again: each thread keeps what it has found lately, until any handle ends.
 */
#include "exec_internal.h"
#include "rcu.h"
#include <stdlib.h>
#include <urcu/rculfhash.h>

/* Fixed: a resize would need a worker thread. 16384 chains (256 KiB) hold ten thousand objects at one compare each. */
#define IVG_HANDLE_BUCKETS 16384u
/* Live objects of one guest process; bounds the executor's memory (64 bytes each). */
#define IVG_HANDLES_MAX (1u << 20)
#define IVG_THREAD_STREAM_BIT (1ull << 63)
#define IVG_WATCH_BIT (1ull << 61)
#define IVG_FOUND_HANDLES 64u     /* kept by each thread, by the low part of the key: numbers are dense */
#define IVG_NAME_BIT (1ull << 62) /* of a key that is a driver handle, with a number for its value */

struct ivg_handle {
        struct ivg_rcu_header rcu; /* first: see rcu.h */
        struct cds_lfht_node node;
        /* Written before the table publishes the node, never changed afterwards. */
        uint64_t key;
        void *value;
        uint32_t kind;  /* enum ivg_kind */
        ivg_id context; /* that was current when it was made */
        ivg_id whole;   /* what it ends with; NONE: nothing */
};

struct ivg_handles {
        struct cds_lfht *table;
        _Atomic(uint32_t) count;
        _Atomic(uint32_t) parts; /* handles that end with another: as long as there are none, nobody looks for them */
        _Atomic(uint64_t) ended; /* how many have: no two tables of a process ever show the same number */
};

struct found_handle {
        const struct ivg_handles *handles; /* NULL: nothing was found yet */
        uint64_t ended;                    /* of the table, before it was asked */
        uint64_t key;
        void *value;
        uint32_t kind;
};
static _Thread_local struct found_handle found_here[IVG_FOUND_HANDLES];

static struct ivg_handle *handle_of(struct cds_lfht_node *node)
{
        struct ivg_handle *handle = ivg_container_of(node, struct ivg_handle, node);

        ivg_tsan_acquire(handle); /* pairs with the release in insert */
        return handle;
}

static unsigned long hash_of(uint64_t key)
{
        /* Numbers are dense and hostile ones gain nothing: a long chain slows only their own executor. */
        return (unsigned long)((key * 0x9e3779b97f4a7c15ull) >> 20);
}

static int match_key(struct cds_lfht_node *node, const void *key)
{
        return handle_of(node)->key == *(const uint64_t *)key;
}

struct ivg_handles *ivg_handles_create(void)
{
        static _Atomic(uint64_t) tables;
        struct ivg_handles *handles = calloc(1, sizeof(*handles));

        if (!handles)
                return NULL;
        /* Relaxed: numbers, before anybody has the table. */
        ivg_store_relaxed_u64(&handles->ended, atomic_fetch_add_explicit(&tables, 1, memory_order_relaxed) << 40);
        handles->table = cds_lfht_new(IVG_HANDLE_BUCKETS, IVG_HANDLE_BUCKETS, IVG_HANDLE_BUCKETS, 0, NULL);
        if (!handles->table) {
                free(handles);
                return NULL;
        }
        return handles;
}

void ivg_handles_destroy(struct ivg_handles *handles)
{
        struct cds_lfht_iter iter;
        struct cds_lfht_node *node;

        if (!handles)
                return;
        ivg_rcu_read_lock();
        for (cds_lfht_first(handles->table, &iter); (node = cds_lfht_iter_get_node(&iter));
             cds_lfht_next(handles->table, &iter))
                if (cds_lfht_del(handles->table, node) == 0)
                        ivg_rcu_free(&handle_of(node)->rcu);
        ivg_rcu_read_unlock();
        ivg_rcu_drain();
        cds_lfht_destroy(handles->table, NULL);
        free(handles);
}

/* ---- one key ---- */

static struct ivg_handle *find(const struct ivg_handles *handles, uint64_t key, struct cds_lfht_iter *iter)
{
        struct cds_lfht_node *node;

        cds_lfht_lookup(handles->table, hash_of(key), match_key, &key, iter);
        node = cds_lfht_iter_get_node(iter);
        return node ? handle_of(node) : NULL;
}

/* A set of kinds. */
#define KIND(kind) (1u << (kind))
_Static_assert(IVG_KIND_COUNT <= 32, "a kind is a bit");

static __attribute__((noinline)) bool lookup_in_table(const struct ivg_handles *handles, uint32_t kinds, uint64_t key,
                                                      uint64_t ended, struct found_handle *found)
{
        const struct ivg_handle *handle;
        struct cds_lfht_iter iter;
        bool is_there = false;

        ivg_rcu_read_lock();
        handle = find(handles, key, &iter);
        if (handle && KIND(handle->kind) & kinds) {
                *found = (struct found_handle){
                        .handles = handles, .ended = ended, .key = key, .value = handle->value, .kind = handle->kind};
                is_there = true;
        }
        ivg_rcu_read_unlock();
        return is_there;
}

static inline bool lookup(const struct ivg_handles *handles, uint32_t kinds, uint64_t key, void **driver_handle)
{
        struct found_handle *found = &found_here[key % IVG_FOUND_HANDLES];
        /* H1, pairs with H2: read before the table is asked, so that an answer is kept only until the next end. */
        const uint64_t ended = ivg_load_acquire_u64(&handles->ended);

        if (!(__builtin_expect(found->key == key && found->ended == ended && found->handles == handles, 1) &&
              KIND(found->kind) & kinds) &&
            !lookup_in_table(handles, kinds, key, ended, found))
                return false;
        *driver_handle = found->value;
        return true;
}

static void uncount(struct ivg_handles *handles, const struct ivg_handle *handle)
{
        atomic_fetch_sub_explicit(&handles->count, 1, memory_order_relaxed);
        if (handle->whole != IVG_ID_NONE)
                atomic_fetch_sub_explicit(&handles->parts, 1, memory_order_relaxed);
}

/* It is out of the table: nobody may find it again. */
static void handle_end(struct ivg_handles *handles, struct ivg_handle *handle)
{
        uncount(handles, handle);
        /* H2, release, pairs with H1: who sees the number asks a table that does not hold the handle any more. Who does
         * not, calls at the same time as what ends it, in the guest too. */
        atomic_fetch_add_explicit(&handles->ended, 1, memory_order_release);
        ivg_rcu_free(&handle->rcu);
}

/* 0, -EEXIST or -ENOMEM. */
static int insert_part(struct ivg_handles *handles, enum ivg_kind kind, uint64_t key, ivg_id context,
                       void *driver_handle, ivg_id whole)
{
        struct ivg_handle *handle;
        struct cds_lfht_node *present;

        /* A bound, not a count that anything hangs on: relaxed. */
        if (atomic_fetch_add_explicit(&handles->count, 1, memory_order_relaxed) >= IVG_HANDLES_MAX)
                goto none;
        handle = malloc(sizeof(*handle));
        if (!handle)
                goto none;
        cds_lfht_node_init(&handle->node);
        handle->key = key;
        handle->value = driver_handle;
        handle->kind = (uint32_t)kind;
        handle->context = context;
        handle->whole = whole;
        if (whole != IVG_ID_NONE) /* before it can be found, so that the count is never too low */
                atomic_fetch_add_explicit(&handles->parts, 1, memory_order_relaxed);
        ivg_tsan_release(handle);
        ivg_rcu_read_lock();
        present = cds_lfht_add_unique(handles->table, hash_of(key), match_key, &key, &handle->node);
        ivg_rcu_read_unlock();
        if (present == &handle->node)
                return 0;
        uncount(handles, handle);
        free(handle);
        return -EEXIST;
none:
        atomic_fetch_sub_explicit(&handles->count, 1, memory_order_relaxed);
        return -ENOMEM;
}

static int insert(struct ivg_handles *handles, enum ivg_kind kind, uint64_t key, ivg_id context, void *driver_handle)
{
        return insert_part(handles, kind, key, context, driver_handle, IVG_ID_NONE);
}

static void *take_out(struct ivg_handles *handles, enum ivg_kind kind, uint64_t key)
{
        struct cds_lfht_iter iter;
        struct ivg_handle *handle;
        void *value = NULL;

        ivg_rcu_read_lock();
        handle = find(handles, key, &iter);
        if (handle && handle->kind == (uint32_t)kind && cds_lfht_del(handles->table, &handle->node) == 0) {
                value = handle->value;
                handle_end(handles, handle);
        }
        ivg_rcu_read_unlock();
        return value;
}

/* ---- numbers of the guest ---- */

CUresult ivg_handle_get(struct ivg_exec *exec, enum ivg_kind kind, ivg_id id, void **driver_handle)
{
        return lookup(exec->handles, KIND(kind), id, driver_handle) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

bool ivg_handle_put(struct ivg_exec_call *call, enum ivg_kind kind, ivg_id id, void *driver_handle)
{
        return ivg_handle_put_part(call, kind, id, driver_handle, IVG_ID_NONE);
}

bool ivg_handle_put_part(struct ivg_exec_call *call, enum ivg_kind kind, ivg_id id, void *driver_handle, ivg_id whole)
{
        if ((id & ((1u << IVG_ID_INDEX_BITS) - 1)) < IVG_ID_FIRST || kind <= IVG_KIND_NONE || kind >= IVG_KIND_COUNT ||
            insert_part(call->exec->handles, kind, id,
                        kind == IVG_KIND_STREAM ? call->context : ivg_context_owner(call->exec, call->context),
                        driver_handle, whole)) {
                ivg_exec_refuse(call, IVG_FAULT_HANDLE, id);
                return false;
        }
        return true;
}

/* Looking for parts goes through the whole table: only for what the call table makes parts of. */
static bool may_have_parts(enum ivg_kind kind)
{
        return kind == IVG_KIND_ARRAY || kind == IVG_KIND_MIPMAP || kind == IVG_KIND_MODULE;
}

void *ivg_handle_remove(struct ivg_exec *exec, enum ivg_kind kind, ivg_id id)
{
        /* Relaxed: who puts a part and who ends the whole are ordered by the guest, or the guest has lost them. */
        if (may_have_parts(kind) && atomic_load_explicit(&exec->handles->parts, memory_order_relaxed) != 0)
                ivg_handles_remove_parts(exec, id);
        return take_out(exec->handles, kind, id);
}

/* ---- numbers by driver handle ---- */

static uint64_t name_key(const void *driver_handle)
{
        return IVG_NAME_BIT | (uint64_t)(uintptr_t)driver_handle;
}

bool ivg_handle_name_put(struct ivg_exec *exec, const void *driver_handle, ivg_id id)
{
        return insert(exec->handles, IVG_KIND_NONE, name_key(driver_handle), IVG_ID_NONE, (void *)(uintptr_t)id) == 0;
}

ivg_id ivg_handle_name_get(struct ivg_exec *exec, const void *driver_handle)
{
        void *number = NULL;

        return lookup(exec->handles, KIND(IVG_KIND_NONE), name_key(driver_handle), &number) ? (ivg_id)(uintptr_t)number
                                                                                            : IVG_ID_NONE;
}

ivg_id ivg_handle_name_remove(struct ivg_exec *exec, const void *driver_handle)
{
        return (ivg_id)(uintptr_t)take_out(exec->handles, IVG_KIND_NONE, name_key(driver_handle));
}

void ivg_handles_visit(struct ivg_exec *exec, enum ivg_kind kind, void (*visit)(void *arg, ivg_id id, void *handle),
                       void *arg)
{
        struct cds_lfht_iter iter;
        struct cds_lfht_node *node;

        ivg_rcu_read_lock();
        for (cds_lfht_first(exec->handles->table, &iter); (node = cds_lfht_iter_get_node(&iter));
             cds_lfht_next(exec->handles->table, &iter)) {
                const struct ivg_handle *handle = handle_of(node);
                const uint64_t key = handle->key;

                if (handle->kind == (uint32_t)kind && key <= UINT32_MAX) /* the guest's numbers */
                        visit(arg, (ivg_id)key, handle->value);
        }
        ivg_rcu_read_unlock();
}

/* What cuCtxDestroy takes with it. Libraries, kernels, graphs, pools and physical memory outlive contexts; a link is
 * our own structure. */
static bool dies_with_context(uint32_t kind)
{
        switch (kind) {
        case IVG_KIND_STREAM:
        case IVG_KIND_EVENT:
        case IVG_KIND_MODULE:
        case IVG_KIND_FUNCTION:
        case IVG_KIND_GRAPH_EXEC:
        case IVG_KIND_ARRAY:
        case IVG_KIND_MIPMAP:
        case IVG_KIND_TEXTURE:
        case IVG_KIND_SURFACE:
        case IVG_KIND_TEXREF:
        case IVG_KIND_SURFREF:
                return true;
        default:
                return false;
        }
}

static bool belongs_to_context(const struct ivg_handle *handle, ivg_id context)
{
        return handle->context == context && dies_with_context(handle->kind);
}

static bool belongs_to_whole(const struct ivg_handle *handle, ivg_id whole)
{
        return handle->whole == whole;
}

static void remove_those(struct ivg_handles *handles, bool (*belongs)(const struct ivg_handle *handle, ivg_id owner),
                         ivg_id owner)
{
        struct cds_lfht_iter iter;
        struct cds_lfht_node *node;

        ivg_rcu_read_lock();
        for (cds_lfht_first(handles->table, &iter); (node = cds_lfht_iter_get_node(&iter));
             cds_lfht_next(handles->table, &iter)) {
                struct ivg_handle *handle = handle_of(node);

                if (belongs(handle, owner) && cds_lfht_del(handles->table, node) == 0)
                        handle_end(handles, handle);
        }
        ivg_rcu_read_unlock();
}

void ivg_handles_remove_context(struct ivg_exec *exec, ivg_id context)
{
        remove_those(exec->handles, belongs_to_context, context);
}

void ivg_handles_remove_parts(struct ivg_exec *exec, ivg_id whole)
{
        if (whole != IVG_ID_NONE)
                remove_those(exec->handles, belongs_to_whole, whole);
}

CUresult ivg_handle_function(struct ivg_exec_call *call, ivg_id id, CUfunction *function)
{
        void *handle;

        /* The driver takes a CUkernel in a CUfunction's place at a launch. */
        if (!lookup(call->exec->handles, KIND(IVG_KIND_FUNCTION) | KIND(IVG_KIND_KERNEL), id, &handle))
                return CUDA_ERROR_INVALID_HANDLE;
        *function = handle;
        return CUDA_SUCCESS;
}

/* ---- per-thread default streams ---- */

static uint64_t thread_stream_key(uint32_t producer, ivg_id context)
{
        return IVG_THREAD_STREAM_BIT | (uint64_t)producer << 32 | context;
}

/* Notes the context with the producer, so that the stream is found again at the thread's end. */
static bool note_context(struct ivg_exec_producer *producer, ivg_id context)
{
        for (uint32_t i = 0; i < IVG_THREAD_STREAMS_MAX; i++) {
                uint32_t seen = 0;

                if (ivg_compare_exchange_acq_rel_u32(&producer->stream_contexts[i], &seen, context) || seen == context)
                        return true;
        }
        return false;
}

static CUresult make_thread_stream(struct ivg_exec_call *call, uint64_t key, CUstream *stream)
{
        const struct ivg_driver *driver = ivg_exec_driver(call->exec);
        void *present;
        CUresult result;

        if (!note_context(&call->exec->producers[call->producer], call->context))
                return CUDA_ERROR_OUT_OF_MEMORY;
        /* CU_STREAM_DEFAULT: it waits for the legacy stream, as the driver's own per-thread stream does. */
        result = driver->cuStreamCreate(stream, CU_STREAM_DEFAULT);
        if (result)
                return result;
        if (insert(call->exec->handles, IVG_KIND_STREAM, key, call->context, *stream) == 0)
                return CUDA_SUCCESS;
        /* The lane and the consumer may both be here for one guest thread: the other was first. */
        driver->cuStreamDestroy_v2(*stream);
        if (!lookup(call->exec->handles, KIND(IVG_KIND_STREAM), key, &present))
                return CUDA_ERROR_OUT_OF_MEMORY;
        *stream = present;
        return CUDA_SUCCESS;
}

/* ---- events of the executor's own ---- */

CUresult ivg_handle_watch_event(struct ivg_exec_call *call, uint32_t place, CUevent *event)
{
        const uint64_t key = IVG_WATCH_BIT | (uint64_t)place << 32 | call->context;
        struct ivg_handles *handles = call->exec->handles;
        void *made;
        CUresult result;

        if (lookup(handles, KIND(IVG_KIND_EVENT), key, &made)) {
                *event = made;
                return CUDA_SUCCESS;
        }
        result = call->exec->driver.cuEventCreate(event, CU_EVENT_DISABLE_TIMING);
        if (result != CUDA_SUCCESS || insert(handles, IVG_KIND_EVENT, key, call->context, *event) == 0)
                return result;
        call->exec->driver.cuEventDestroy_v2(*event);
        return CUDA_ERROR_OUT_OF_MEMORY;
}

/* ---- streams by number ---- */

/* What goes to another stream now may wait for the legacy stream's end, which must be recorded before. */
static CUresult stream_found(struct ivg_exec_call *call, CUstream found, CUstream *stream)
{
        if (call->metered && call->exec->gate.legacy_dirty && found != CU_STREAM_LEGACY)
                ivg_meter_flush_now(call->exec);
        *stream = call->stream = found;
        return CUDA_SUCCESS;
}

CUresult ivg_handle_stream(struct ivg_exec_call *call, ivg_id id, CUstream *stream)
{
        void *handle;

        if (id == IVG_ID_STREAM_LEGACY)
                return stream_found(call, CU_STREAM_LEGACY, stream);
        if (id == IVG_ID_STREAM_PER_THREAD) {
                const uint64_t key = thread_stream_key(call->producer, call->context);

                if (!lookup(call->exec->handles, KIND(IVG_KIND_STREAM), key, &handle)) {
                        const CUresult result = make_thread_stream(call, key, stream);

                        return result == CUDA_SUCCESS ? stream_found(call, *stream, stream) : result;
                }
        } else if (!lookup(call->exec->handles, KIND(IVG_KIND_STREAM), id, &handle)) {
                return CUDA_ERROR_INVALID_HANDLE;
        }
        return stream_found(call, handle, stream);
}

CUstream ivg_thread_stream(const struct ivg_exec *exec, uint32_t producer, uint32_t place)
{
        const ivg_id context = ivg_load_relaxed_u32(&exec->producers[producer].stream_contexts[place]);
        void *stream;

        return context && lookup(exec->handles, KIND(IVG_KIND_STREAM), thread_stream_key(producer, context), &stream)
                       ? stream
                       : NULL;
}

void ivg_thread_streams_end(struct ivg_exec *exec, uint32_t producer)
{
        struct ivg_exec_producer *line = &exec->producers[producer];

        for (uint32_t i = 0; i < IVG_THREAD_STREAMS_MAX; i++) {
                const ivg_id context = atomic_exchange_explicit(&line->stream_contexts[i], 0, memory_order_acq_rel);
                CUstream stream;

                if (!context)
                        continue;
                stream = take_out(exec->handles, IVG_KIND_STREAM, thread_stream_key(producer, context));
                /* Not waited for: the driver frees it when its work is done. A failure was the context's end. */
                if (stream && ivg_context_enter(exec, context) == CUDA_SUCCESS)
                        exec->driver.cuStreamDestroy_v2(stream);
        }
}

void ivg_thread_streams_context_ends(struct ivg_exec *exec, ivg_id context)
{
        for (uint32_t producer = 0; producer < IVG_RING_PRODUCERS; producer++)
                for (uint32_t i = 0; i < IVG_THREAD_STREAMS_MAX; i++) {
                        uint32_t seen = context;

                        if (ivg_compare_exchange_acq_rel_u32(&exec->producers[producer].stream_contexts[i], &seen, 0))
                                take_out(exec->handles, IVG_KIND_STREAM, thread_stream_key(producer, context));
                }
}
