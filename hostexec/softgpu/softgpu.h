/* The soft GPU's driver half, inside: objects, their lifetimes and the three locks.
 *
 * Objects.  A CUDA handle is the address of an object in a slab of its kind (cu_object.c). Slab memory is never given
 *           to another kind, so a stale or invented handle is recognised without touching foreign memory. An object
 *           lives while it is referenced; its handle is valid only from creation to destroy.
 * Work.     Each stream is a queue of operations and at most one worker thread, started by the first operation and
 *           gone after a second of idleness (cu_work.c). Order across streams is by points: (stream, sequence).
 * Memory.   Every range that a kernel or a copy may touch is an sg_allocation in one sorted registry (cu_registry.c).
 *           A kernel sees an immutable snapshot of it; a snapshot keeps its allocations mapped.
 * Failure.  A kernel fault sets context->failure once; from then on every call on the context answers it, queued
 *           operations are dropped and running kernels stop.
 *
 * Locks, outermost first; no call into the PTX engine and no user callback happens under any of them:
 *   sg_state_lock   contexts, primary state, module lists, pools
 *   sg_memory_lock  registry, heaps, snapshots
 *   sg_work_lock    stream queues, points, events
 */
#ifndef IVGPU_SOFTGPU_H
#define IVGPU_SOFTGPU_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cuda_api.h" /* generated: the compiler compares every definition here with the call table */
#include "ptx.h"

#define SG_API __attribute__((visibility("default")))
/* Opens the definition of one exported call. */
#define SG_ENTRY(name, ...) SG_API CUresult name(__VA_ARGS__)
/* A second exported name with the same meaning and the same ABI. */
#define SG_ALIAS(alias_name, target) \
        extern __typeof__(target) sg_alias_##alias_name __asm__(#alias_name) SG_API __attribute__((alias(#target)))

#define SG_DRIVER_VERSION 13000 /* unless IVGPU_SOFT_DRIVER_VERSION says another, so that tests see other drivers */
#define SG_DRIVER_VERSION_MIN 11000
#define SG_DRIVER_VERSION_MAX 99990
#define SG_DEVICES_MAX 8u
#define SG_MEMORY_DEFAULT_MIB 4096u
#define SG_MEMORY_MIB_MAX (1024u * 1024u)
#define SG_BLOCK_NS_MAX 1000000000ul
#define SG_WINDOW_BYTES_MIN ((size_t)64 << 30)
#define SG_CONTEXT_DEPTH_MAX 64u    /* pushed contexts per thread */
#define SG_LIBRARY_CONTEXTS_MAX 64u /* contexts one library may be loaded in */
#define SG_PRIORITY_GREATEST (-5)
#define SG_PEERS_MAX 16u                       /* contexts one context may reach into */
#define SG_STREAM_PENDING_MAX 4096u            /* a submitter waits beyond this, as it does on a GPU */
#define SG_STREAM_HINTS 4u                     /* stream attributes that are kept and reported, and change nothing */
#define SG_STREAM_IDLE_MS 1000                 /* an idle stream's thread goes after this */
#define SG_CLOSE_GRACE_MS 2000                 /* a closing context's kernels are stopped after this */
#define SG_IMAGE_BYTES_MAX ((size_t)512 << 20) /* one module image, compressed or not */
#define SG_LAUNCH_PARAM_BYTES_MAX 32764u
#define SG_STAGED_BYTES_MAX ((size_t)64 << 10) /* pageable sources up to this are copied at the call */

/* Limits of compute capability 7.5, which the device reports. */
#define SG_THREADS_PER_BLOCK 1024u
#define SG_THREADS_PER_SM 1024u
#define SG_BLOCKS_PER_SM 16u
#define SG_REGISTERS_PER_SM 65536u
#define SG_REGISTERS_PER_THREAD 255u
#define SG_SHARED_PER_BLOCK (48u << 10)
#define SG_SHARED_PER_BLOCK_OPTIN (64u << 10)
#define SG_SHARED_PER_SM (64u << 10)
#define SG_WARP 32u
#define SG_PTX_TARGET_NATIVE 75u

struct sg_allocation;
struct sg_array;
struct sg_context;
struct sg_device;
struct sg_event;
struct sg_function;
struct sg_library;
struct sg_mark;
struct sg_shared_marks;
struct sg_map;
struct sg_module;
struct sg_physical;
struct sg_pool;
struct sg_resource;
struct sg_stream;

/* ---- objects (cu_object.c) ---- */

enum sg_kind {
        SG_CONTEXT = 1,
        SG_STREAM,
        SG_EVENT,
        SG_MODULE,
        SG_FUNCTION,
        SG_LIBRARY,
        SG_KERNEL,
        SG_LINK,
        SG_POOL,
        SG_PHYSICAL,
        SG_GRAPH,
        SG_NODE,
        SG_EXEC,
        SG_USER,
        SG_GREEN,
        SG_DESC,
        SG_ARRAY,
        SG_MIPMAP,
        SG_TEXTURE, /* surfaces too */
        SG_REFERENCE,
        SG_KINDS
};

struct sg_object {
        _Atomic(uint32_t) valid; /* the kind while the handle may be used, else 0 */
        _Atomic(uint32_t) references;
        uint32_t kind;
        struct sg_object *next_free;
};

/* A zeroed object of `kind` with one reference, or NULL when the kind's slab is full. */
void *sg_object_new(enum sg_kind kind);
/* The object behind a handle if it is a valid one of `kind`, else NULL. Reads only slab memory. */
void *sg_object_from(const void *handle, enum sg_kind kind);
/* Takes the handle away; true for the one caller that did it. The reference stays the caller's. */
bool sg_object_retire(void *object);
void sg_object_get(void *object);
void sg_object_put(void *object);

/* ---- device (cu_device.c) ---- */

struct sg_primary {
        struct sg_context *context; /* NULL while inactive */
        unsigned retained;
        unsigned flags;
};

struct sg_heap; /* cu_heap.c */

struct sg_device {
        int ordinal; /* as the program counts */
        int slot;    /* as the machine does: CUDA_VISIBLE_DEVICES chooses */
        size_t total_bytes;
        size_t used_bytes; /* under sg_memory_lock */
        struct sg_heap *heap;
        struct sg_primary primary; /* under sg_state_lock */
        struct sg_pool *default_pool;
        struct sg_pool *current_pool;
};

/* CUDA_SUCCESS once cuInit has succeeded, else CUDA_ERROR_NOT_INITIALIZED. */
CUresult sg_ready(void);
CUresult sg_device_find(CUdevice ordinal, struct sg_device **out);
int sg_driver_version(void); /* what it claims to be */
unsigned sg_device_count(void);
void sg_context_pause(void); /* takes as long as the environment asks a context to take */
struct sg_device *sg_device_at(unsigned index);
unsigned sg_processor_count(void);
CUresult sg_device_attribute(const struct sg_device *device, CUdevice_attribute attribute, int *value);

/* ---- the device's time (cu_engine.c) ---- */

bool sg_engine_open(unsigned long block_ns); /* false: IVGPU_SOFT_ENGINE cannot be used */
/* Holds the context's device for as long as so many blocks are to take. */
void sg_engine_run(const struct sg_context *context, uint64_t blocks);

/* ---- context (cu_context.c, cu_primary.c) ---- */

struct sg_context {
        struct sg_object object;
        struct sg_device *device;
        uint64_t id;
        _Atomic(unsigned) flags;
        unsigned api_version;
        bool primary;
        _Atomic(uint32_t) failure; /* sticky CUresult of a kernel fault */
        _Atomic(uint32_t) abort;   /* seen by running kernels */
        _Atomic(uint32_t) closing; /* value waits end, nothing new starts */
        struct sg_stream *legacy;
        struct sg_stream *gather, *gate; /* cu_context_event.c; NULL until needed, set under sg_work_lock */
        struct sg_stream *streams;       /* under sg_work_lock; drained ones too until their last reference goes */
        struct sg_module *modules;       /* under sg_state_lock */
        struct sg_resource *resources;   /* arrays and what looks at them; under sg_state_lock */
        struct sg_context *peers[SG_PEERS_MAX]; /* under sg_memory_lock */
        unsigned peer_count;
        struct sg_map *map; /* newest snapshot, under sg_memory_lock */
        uint64_t map_generation;
        _Atomic(size_t) limits[CU_LIMIT_MAX];
        _Atomic(uint32_t) cache_config;
        _Atomic(uint32_t) shared_config;
        struct sg_context *next; /* all open contexts, under sg_state_lock */
};

extern pthread_mutex_t sg_state_lock;

/* The calling thread's context, ready for work: fails with NOT_INITIALIZED, INVALID_CONTEXT, CONTEXT_IS_DESTROYED,
 * NOT_PERMITTED (inside a host function) or the context's sticky error. */
CUresult sg_context_current(struct sg_context **out);
/* The same without the sticky error: for calls that only read state. */
CUresult sg_context_peek(struct sg_context **out);
CUresult sg_context_lookup(CUcontext handle, struct sg_context **out);
/* The context of a handle, NULL for the current one: for calls that take a context beside the current. */
CUresult sg_context_or_current(CUcontext handle, struct sg_context **out);
CUresult sg_context_check(const struct sg_context *context);
CUresult sg_context_open(struct sg_device *device, unsigned flags, bool primary, struct sg_context **out);
/* Drains or stops the context's work, then frees all it owns. The caller has retired the handle. */
void sg_context_close(struct sg_context *context);
void sg_context_fail(struct sg_context *context, CUresult error);
/* The primary context behind a green one's handle (cu_green.c), else NULL. */
struct sg_context *sg_green_context(const void *handle);
size_t sg_green_bytes(void);
size_t sg_desc_bytes(void);
CUresult sg_context_flags_check(unsigned flags);
/* Waits until every stream of every open context has done what was submitted before the call. */
void sg_contexts_drain(void);
/* At the process's end: kernels stop, since the engine's threads are joined then. */
void sg_contexts_abort(void);
void sg_callback_enter(void);
void sg_callback_leave(void);

/* ---- memory (cu_heap.c, cu_registry.c, cu_memory.c, cu_host.c) ---- */

enum sg_memory_kind {
        SG_MEMORY_DEVICE,     /* from a device window, freed by cuMemFree or cuMemFreeAsync */
        SG_MEMORY_MODULE,     /* a module's variable: as device memory, freed with the module */
        SG_MEMORY_PINNED,     /* cuMemHostAlloc */
        SG_MEMORY_REGISTERED, /* cuMemHostRegister: the program's own pages */
        SG_MEMORY_MANAGED,
        SG_MEMORY_OPENED,   /* cuIpcOpenMemHandle: another process's device memory */
        SG_MEMORY_IMPORTED, /* cuMemPoolImportPointer: likewise, freed as device memory is */
        SG_MEMORY_MAPPED,   /* cuMemMap: of no context, seen where cuMemSetAccess says */
};

struct sg_allocation {
        uint64_t start;
        size_t bytes;     /* as asked: the bound that copies and kernels see */
        size_t map_bytes; /* host mappings: what munmap takes back */
        enum sg_memory_kind kind;
        unsigned flags;
        struct sg_context *context; /* owner; not referenced: a closing context frees what it owns */
        struct sg_device *device;
        struct sg_pool *pool;         /* stream-ordered allocations, and imported ones */
        struct sg_physical *physical; /* mappings: what is mapped */
        struct sg_allocation *next_mapping;
        uint8_t access[SG_DEVICES_MAX]; /* mappings: CUmemAccess_flags by device, under sg_memory_lock */
        uint64_t id;
        _Atomic(bool) sync_memops;
        bool freeing; /* a stream-ordered free is queued */
        /* Under sg_memory_lock, of memory that a graph allocates: `held` by its node, `live` between an allocation and
         * a free, both counted when the work is given to a stream. It ends when it is neither. */
        bool held, live;
        _Atomic(uint32_t) references;
};

/* The immutable view a kernel runs with. */
struct sg_map {
        _Atomic(uint32_t) references;
        struct ptx_memory memory;
        struct sg_allocation **owners;
};

extern pthread_mutex_t sg_memory_lock;

/* What an allocation takes from the device's memory. */
static inline size_t sg_charged_bytes(size_t bytes)
{
        return (bytes + 511) & ~(size_t)511;
}
static inline void *sg_pointer(uint64_t address)
{
        return (void *)(uintptr_t)address; /* device addresses are addresses of this process */
}
static inline uint64_t sg_address(const void *pointer)
{
        return (uint64_t)(uintptr_t)pointer;
}

struct sg_heap *sg_heap_open(size_t total_bytes);
bool sg_heap_contains(const struct sg_heap *heap, uint64_t address, size_t bytes);
/* Both under sg_memory_lock. Addresses are 256-byte aligned, of large blocks 2 MiB aligned. */
void *sg_heap_take(struct sg_heap *heap, size_t bytes);
/* Where another process finds memory of a heap: descriptor of this process, and place in it. False: not shareable. */
#define SG_SHARE_NAME_BYTES 32
struct sg_share {
        int fd;
        uint64_t nonce, offset;
};
bool sg_heap_share(const struct sg_heap *heap, uint64_t address, struct sg_share *out);
/* True when the descriptor is that of a heap's memory file; its nonce. */
bool sg_share_file(int fd, uint64_t *nonce);
/* Maps another process's memory of that file and puts it into the registry (cu_ipc.c). `pool` may be NULL. */
CUresult sg_share_map(struct sg_context *context, int fd, uint64_t offset, size_t bytes, enum sg_memory_kind kind,
                      struct sg_pool *pool, uint64_t *address);
void sg_heap_give(struct sg_heap *heap, void *address, size_t bytes);

/* The registry's reference is the one that counts: `out` stays valid until the allocation is freed. `pool` may be NULL.
 */
CUresult sg_device_allocate(struct sg_context *context, size_t bytes, enum sg_memory_kind kind, struct sg_pool *pool,
                            struct sg_allocation **out);
/* The same without an entry in the registry: memory that has no address for the program. */
CUresult sg_device_take(struct sg_context *context, size_t bytes, enum sg_memory_kind kind, struct sg_pool *pool,
                        struct sg_allocation **out);
CUresult sg_host_allocate(struct sg_context *context, size_t bytes, enum sg_memory_kind kind, unsigned flags,
                          struct sg_allocation **out);
void sg_allocation_get(struct sg_allocation *allocation);
void sg_allocation_put(struct sg_allocation *allocation);
/* Adds to / takes from the registry; the registry holds one reference. Insert fails when it cannot grow or overlaps. */
CUresult sg_registry_insert(struct sg_allocation *allocation);
void sg_registry_remove(struct sg_allocation *allocation);
/* The allocation that holds `address`, referenced, or NULL. */
struct sg_allocation *sg_registry_find(uint64_t address);
/* The one that starts at `address`, if it is of a kind in the mask; removed, its reference now the caller's. */
struct sg_allocation *sg_registry_take(uint64_t address, unsigned kind_mask);
bool sg_registry_overlaps(uint64_t start, size_t bytes);
/* Under sg_memory_lock, and valid there: the allocation that holds `address`, or NULL. */
struct sg_allocation *sg_registry_at_locked(uint64_t address);
static inline bool sg_kind_is_device(enum sg_memory_kind kind)
{
        return kind == SG_MEMORY_DEVICE || kind == SG_MEMORY_MODULE || kind == SG_MEMORY_OPENED ||
               kind == SG_MEMORY_IMPORTED || kind == SG_MEMORY_MAPPED;
}
void sg_registry_release_context(struct sg_context *context);
bool sg_address_in_window(uint64_t address, size_t bytes);
/* Under sg_memory_lock: the set of ranges some context sees has changed. */
void sg_registry_changed(void);
struct sg_map *sg_map_acquire(struct sg_context *context);
void sg_map_release(struct sg_map *map);
void sg_map_forget(struct sg_context *context);
/* Lets go of every idle snapshot, and so of freed memory that only they held. */
void sg_contexts_forget_maps(void);
/* Waits for the work that may use the memory at exactly `address`, then ends it; false: nothing of those kinds is
 * there. */
bool sg_allocation_free(uint64_t address, unsigned kind_mask);

/* ---- memory without an address, addresses without memory (cu_physical.c, cu_virtual.c) ---- */

#define SG_MAPPING_BYTES ((size_t)2 << 20) /* granularity of both */

struct sg_physical {
        struct sg_object object;
        struct sg_device *device;
        int fd;
        size_t bytes, charged; /* charged: 0 for another process's */
        unsigned handle_types;
        unsigned handles, mappings; /* under sg_memory_lock */
};
struct sg_physical *sg_physical_of(CUmemGenericAllocationHandle handle);
/* Under sg_memory_lock: one of `handles` or `mappings` less; true: the caller calls sg_physical_end without it. */
bool sg_physical_drop_locked(struct sg_physical *physical, unsigned *holders);
void sg_physical_end(struct sg_physical *physical);
void sg_mapping_end(const struct sg_allocation *mapping); /* nobody uses it any more */
/* Some device has access to the whole range of mappings; *read_only: to some of it no device has more. */
bool sg_mappings_allow(uint64_t address, size_t bytes, bool *read_only);
bool sg_address_is_reserved(uint64_t address, size_t bytes);

/* ---- work (cu_work.c) ---- */

struct sg_point {
        struct sg_stream *stream; /* referenced */
        uint64_t sequence;
};

/* One queued operation; types of operations embed it first. `run` executes on the stream's thread (or on the caller's,
 * for synchronous calls that find the stream idle) without locks; its error fails the context. */
#define SG_NODE_TYPE_NONE (-1)
struct sg_op {
        struct sg_op *next;
        uint64_t sequence;
        CUresult (*run)(struct sg_op *op, struct sg_stream *stream);
        void (*release)(struct sg_op *op); /* drops references and frees the operation */
        /* Optional: called once the sequence is known, under sg_work_lock. */
        void (*queued)(struct sg_op *op, struct sg_stream *stream);
        bool always;   /* runs in a failed context too */
        int node_type; /* CUgraphNodeType of what a capture makes of it, or SG_NODE_TYPE_NONE: cannot be captured */
        /* Of operations that can: what a node of it does, in terms of the interface; what that points to stays with the
         * operation. */
        void (*describe)(const struct sg_op *op, CUgraphNodeParams *params);
        unsigned point_count;
        struct sg_point *points;
};

struct sg_capture;
struct sg_node;
/* Nodes that something to come depends on; referenced. */
struct sg_tips {
        struct sg_node **nodes;
        unsigned count;
};

enum sg_stream_role { SG_STREAM_CREATED, SG_STREAM_LEGACY, SG_STREAM_PER_THREAD, SG_STREAM_HIDDEN };

struct sg_stream {
        struct sg_object object;
        struct sg_context *context; /* referenced */
        enum sg_stream_role role;
        unsigned flags;
        int priority;
        uint64_t id;
        /* under sg_work_lock */
        CUstreamAttrValue hints[SG_STREAM_HINTS];
        struct sg_op *head, *tail;
        uint64_t submitted, completed;
        bool worker; /* a thread serves the queue */
        bool closing;
        struct sg_stream *next, **previous;
        pthread_cond_t wake;     /* its worker: work or closing */
        pthread_cond_t progress; /* anyone: completed has grown */
        /* under sg_graph_lock */
        struct sg_capture *capture; /* referenced; NULL: none */
        struct sg_tips tips;        /* what the next captured operation depends on */
};

extern pthread_mutex_t sg_work_lock;

CUresult sg_stream_open(struct sg_context *context, enum sg_stream_role role, unsigned flags, int priority,
                        struct sg_stream **out);
/* Takes the handle's reference: pending work still runs. */
void sg_stream_close(struct sg_stream *stream);
void sg_stream_finalize(struct sg_stream *stream);
/* NULL, CU_STREAM_LEGACY and CU_STREAM_PER_THREAD included; referenced. Fails as sg_context_current does. */
CUresult sg_stream_resolve(CUstream handle, struct sg_stream **out);
bool sg_stream_is_blocking(const struct sg_stream *stream);

void *sg_op_new(size_t bytes, CUresult (*run)(struct sg_op *, struct sg_stream *), void (*release)(struct sg_op *));
void sg_op_free(struct sg_op *op);
/* Queues; takes the operation in every case. */
CUresult sg_submit(struct sg_stream *stream, struct sg_op *op);
/* Where this thread's next operation goes instead of a queue: how a node gets the work that a call would do. */
extern _Thread_local struct sg_op **sg_submit_catch;
/* Queues and waits, on the caller's thread if the stream is idle; returns the context's error. */
CUresult sg_submit_wait(struct sg_stream *stream, struct sg_op *op);
/* Waits for all that is queued now; on the legacy stream, also for what the next operation there would wait for. */
CUresult sg_stream_drain(struct sg_stream *stream);
CUresult sg_context_drain(struct sg_context *context);
bool sg_stream_idle(struct sg_stream *stream);
/* An operation that only waits for its points. */
CUresult sg_op_run_nothing(struct sg_op *op, struct sg_stream *stream);
bool sg_point_reached(const struct sg_point *point);
void sg_point_wait(const struct sg_point *point);
CUresult sg_op_add_point(struct sg_op *op, const struct sg_point *point);
/* Waits for a closing context's threads, at most the grace time before kernels are stopped. */
void sg_work_close(struct sg_context *context);
/* Sleep of a polling wait, longer with each round; false when the context has failed or closes. */
bool sg_poll_pause(const struct sg_context *context, unsigned *round);
uint64_t sg_now_ns(void);

static inline CUstream sg_per_thread(CUstream stream)
{
        return stream == NULL ? CU_STREAM_PER_THREAD : stream;
}

/* ---- modules (cu_image.c, cu_module.c, cu_library.c, cu_function.c) ---- */

/* PTX text found in an image; owned. */
struct sg_image {
        char *text;
        size_t bytes;
        unsigned target;
};
CUresult sg_image_open(const void *image, struct sg_image *out);
CUresult sg_image_open_bounded(const void *image, size_t bytes, struct sg_image *out);
CUresult sg_image_open_file(const char *path, struct sg_image *out);
void sg_image_close(struct sg_image *image);

struct sg_function_settings {
        _Atomic(int) dynamic_shared_max; /* -1: not set */
        _Atomic(int) carveout;
        _Atomic(uint32_t) cache_config;
};

struct sg_function {
        struct sg_object object;
        struct sg_module *module; /* its functions live and die with it */
        struct ptx_function *code;
        struct ptx_function_info info;
        struct sg_function_settings own;
        struct sg_function_settings *settings; /* own, or the kernel's for library code */
};

struct sg_kernel {
        struct sg_object object;
        struct sg_library *library;
        struct ptx_function *code; /* the library's prototype: names and sizes, never run */
        struct ptx_function_info info;
        struct sg_function_settings settings[SG_DEVICES_MAX];
};

struct sg_module {
        struct sg_object object;
        struct sg_context *context;
        struct ptx_module *code;
        struct sg_function **functions;
        size_t function_count;
        struct sg_library *library; /* not owned; NULL for cuModuleLoad */
        struct sg_module *next, **previous;
};

/* Destination of a JIT log, from the options of a load. */
struct sg_jit_options {
        char *info_text, *error_text;
        size_t info_bytes, error_bytes;
        void **info_used, **error_used;
};
CUresult sg_jit_options_read(unsigned count, const CUjit_option *options, void **values, struct sg_jit_options *out);
void sg_jit_options_report(const struct sg_jit_options *options, CUresult result, const struct ptx_log *log);

CUresult sg_module_load(struct sg_context *context, const struct sg_image *image, const struct sg_jit_options *options,
                        struct sg_module **out);
void sg_module_close(struct sg_module *module);
CUresult sg_module_variable(const struct sg_module *module, const char *name, CUdeviceptr *address, size_t *bytes);
void sg_module_finalize(struct sg_module *module);
CUresult sg_result_of_ptx(enum ptx_status status);
/* The module of a library in one context, loaded at first use. */
CUresult sg_library_module(struct sg_library *library, struct sg_context *context, struct sg_module **out);
void sg_library_forget_context(struct sg_context *context);
void sg_library_finalize(struct sg_library *library);
/* A CUfunction or a CUkernel, as the function of `context` (of the current one when NULL). */
CUresult sg_function_resolve(CUfunction handle, struct sg_context *context, struct sg_function **out);
void sg_function_settings_init(struct sg_function_settings *settings);

/* ---- occupancy (cu_occupancy.c) ---- */

/* Dynamic shared memory a launch may ask for. */
size_t sg_shared_limit(const struct sg_function *function);
/* Blocks of a cooperative launch that are sure to run at the same time. */
uint64_t sg_cooperative_blocks(const struct sg_function *function, unsigned threads, size_t dynamic_shared_bytes);
/* Threads per block that the code's registers and its .maxntid allow. */
unsigned sg_function_threads_max(const struct ptx_function_info *info);

/* ---- the rest ---- */

struct sg_event {
        struct sg_object object;
        struct sg_context *context; /* referenced */
        unsigned flags;
        struct sg_mark *mark;           /* newest record, under sg_work_lock */
        struct sg_shared_marks *shared; /* of an event that other processes have too; else NULL */
        int shared_fd;
        uint64_t shared_nonce; /* in the file's name: another descriptor of this number is not it */
        /* under sg_graph_lock: the newest record was captured */
        struct sg_capture *capture; /* referenced */
        struct sg_tips tips;
};

struct sg_library {
        struct sg_object object;
        struct sg_image image;
        struct ptx_module *prototype; /* parsed once for names and sizes; its variables are plain host memory */
        struct sg_kernel **kernels;
        size_t kernel_count;
        struct sg_module *modules[SG_LIBRARY_CONTEXTS_MAX]; /* under sg_state_lock */
};

struct sg_pool {
        struct sg_object object;
        struct sg_device *device;
        bool is_default;
        unsigned handle_types;
        int fd;                         /* an imported pool's: the exporter's memory file; -1: one of this process */
        uint64_t nonce;                 /* of that file */
        uint8_t access[SG_DEVICES_MAX]; /* CUmemAccess_flags by device, under sg_memory_lock */
        size_t bytes_max;               /* 0: the device's memory is the bound */
        size_t used, used_high;         /* under sg_memory_lock */
        uint64_t release_threshold;
        int reuse[3]; /* accepted and reported: reuse needs no policy here, addresses are plentiful */
};

struct sg_link {
        struct sg_object object;
        struct sg_context *context; /* referenced */
        struct sg_jit_options jit;
        struct sg_image image;
        char log[256]; /* what was wrong with the input */
};

void sg_event_finalize(struct sg_event *event);
struct sg_event *sg_event_new(struct sg_context *context, unsigned flags); /* NULL: no memory */
/* Events of several processes (cu_event_ipc.c). All but the first two need event->shared. */
uint64_t sg_shared_mark_record(struct sg_event *event);            /* the record's number; 0: not such an event */
void sg_shared_mark_pass(struct sg_event *event, uint64_t number); /* the stream has come there */
bool sg_shared_mark_passed(const struct sg_event *event);
void sg_shared_mark_wait(const struct sg_event *event);
CUresult sg_shared_mark_stream_waits(struct sg_event *event, struct sg_stream *stream);
CUresult sg_event_share(struct sg_event *event); /* makes it one */
void sg_event_unshare(struct sg_event *event);
/* Another process's descriptor if it is the memory file of that name; -1. */
int sg_descriptor_of_process(int pid, int fd, const char *name);
void sg_pool_finalize(struct sg_pool *pool);
void sg_physical_finalize(struct sg_physical *physical);
void sg_link_finalize(struct sg_link *link);
void sg_context_finalize(struct sg_context *context);
/* `fd` -1: the device's own memory. */
CUresult sg_pool_open(struct sg_device *device, size_t bytes_max, int fd, struct sg_pool **out);

/* Of a launch's operation (cu_launch.c). */
bool sg_launch_is_cooperative(const struct sg_op *op);

/* ---- graphs and captures (cu_graph.c, cu_capture.c): graph.h ---- */

struct sg_graph;
struct sg_exec;
struct sg_user;
void sg_user_finalize(struct sg_user *user);
/* True when `allocation` is a graph's, and what a free leaves of it is done: the graph may allocate it again. */
bool sg_graph_memory_free(struct sg_allocation *allocation, CUresult *result);
/* True when a capture takes the allocation or the free, or refuses it. */
bool sg_capture_allocate(struct sg_stream *stream, size_t bytes, CUdeviceptr *out, CUresult *result);
bool sg_capture_free(struct sg_stream *stream, CUdeviceptr address, CUresult *result);
void sg_graph_finalize(struct sg_graph *graph);
void sg_node_finalize(struct sg_node *node);
void sg_exec_finalize(struct sg_exec *exec);
/* Captures under way in the process: what follows is only called when there are any. */
extern _Atomic(uint32_t) sg_captures;
/* True when a capture takes the operation, or refuses it; *result is then the call's. */
bool sg_capture_op(struct sg_stream *stream, struct sg_op *op, CUresult *result);
/* Before a call that waits for a stream or looks at it; spoils the capture that it would wait for. */
CUresult sg_capture_check_wait(struct sg_stream *stream);
CUresult sg_capture_check_context(struct sg_context *context);
/* Before a call that is unsafe while others capture, by the calling thread's mode. */
CUresult sg_capture_check_unsafe(void);
static inline CUresult sg_capture_allows(void)
{
        return atomic_load(&sg_captures) == 0 ? CUDA_SUCCESS : sg_capture_check_unsafe();
}
/* True when the record or the wait is part of a capture, or refused. */
bool sg_capture_record(struct sg_event *event, struct sg_stream *stream, CUresult *result);
bool sg_capture_wait(struct sg_stream *stream, struct sg_event *event, CUresult *result);
bool sg_event_is_captured(struct sg_event *event);
void sg_capture_forget_event(struct sg_event *event);
void sg_capture_forget_stream(struct sg_stream *stream);
CUresult sg_event_record(struct sg_event *event, struct sg_stream *stream);
/* Makes `op` wait for what the event's newest record stands behind. */
CUresult sg_op_add_event(struct sg_op *op, struct sg_event *event);

/* One line to stderr, as a driver's kernel log would carry it. */
void sg_report(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
