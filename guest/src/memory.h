/* Memory in the guest's shim: what copy.c, pinned.c, staging.c and their neighbours share.
 *
 *   arena_pool.c   blocks out of the arena's extents: pinned memory, copy buffers, long ranges
 *   memory_index.c which addresses are device memory, which are pinned: lock-free look-up
 *   completion.c   words that the GPU writes when a copy is done, and waiting for them
 *   copy_buffer.c  the staging buffers of pageable copies
 *   copy_staged.c  those copies, by one thread or with helpers (copy_work.c, copy_helpers.c)
 *   share.c        descriptors that stand for memory of the host, in any process of this machine
 *   shadow.c       keeps the guest's own mappings out of the addresses of device memory */
#ifndef IVG_GUEST_MEMORY_H
#define IVG_GUEST_MEMORY_H

#include "guest.h"
#pragma GCC visibility push(hidden)

/* ---- arena_pool.c ---- */

#define IVG_POOL_PAGES_PER_EXTENT (IVG_EXTENT_BYTES / IVG_PAGE_BYTES)
/* From this size on a block has extents of its own. */
#define IVG_POOL_LARGE_BYTES (1u << 20)
/* Wholly free shared extents that a pool keeps: a program that allocates and frees one block does not register anew. */
#define IVG_POOL_EMPTY_EXTENTS_KEPT 2u

struct ivg_pool_extent;
struct ivg_arena_pool {
        pthread_mutex_t lock;
        const char *name;     /* for messages */
        bool registered;      /* its extents are pinned for the device (ivgExtentsRegister) as long as it has them */
        uint32_t share_shift; /* at most 1 / 2^shift of the arena's extents, but always at least one */
        uint32_t extents_held;
        uint32_t extents_empty;
        struct ivg_pool_extent *extents; /* shared ones, each with free pages or without */
};
#define IVG_ARENA_POOL(pool_name, is_registered, shift)                                                \
        {                                                                                              \
                .lock = PTHREAD_MUTEX_INITIALIZER, .name = (pool_name), .registered = (is_registered), \
                .share_shift = (shift)                                                                 \
        }

/* `bytes` > 0, in pages or, from IVG_POOL_LARGE_BYTES on, in extents, contiguous. OUT_OF_MEMORY when no run of free
 * extents is long enough or the pool has its share; a registration's own error. Any thread; takes the pool's lock. */
CUresult ivg_pool_take(struct ivg_arena_pool *pool, uint64_t bytes, void **memory);
/* `bytes` as taken. The result is that of unregistering; the memory is the pool's again in any case. */
CUresult ivg_pool_give(struct ivg_arena_pool *pool, void *memory, uint64_t bytes);

/* Gives wholly free extents back at once: another pool needs them. */
void ivg_pool_trim(struct ivg_arena_pool *pool);

/* Pins arena memory for the device, and back. Both in whole extents; need a current context. */
CUresult ivg_extents_register(uint64_t arena_offset, uint64_t bytes);
CUresult ivg_extents_unregister(uint64_t arena_offset);

/* ---- memory_index.c ---- */

enum ivg_memory_kind {
        IVG_MEMORY_DEVICE = 1, /* allocated by the driver */
        IVG_MEMORY_POOLED,     /* allocated in stream order, from a pool */
        IVG_MEMORY_GRAPH,      /* allocated by a graph, at each launch at the same address: it outlives its frees, and
                                  gives way to an allocation at its address, as the driver knows when it has ended */
        IVG_MEMORY_MAPPED,     /* mapped by cuMemMap */
        IVG_MEMORY_OPENED,     /* another process's, opened by its handle; flags count how often */
        IVG_MEMORY_GLOBAL,     /* a module's or library's variable */
        IVG_MEMORY_PINNED,     /* arena memory given to the program */
        IVG_MEMORY_MANAGED,    /* the same, by cuMemAllocManaged */
        IVG_MEMORY_REGISTERED, /* the program's own pages, noted by cuMemHostRegister; the host cannot see them */
};
/* Flags of a device range; below them lies an opened range's count, or the index of what is mapped. */
#define IVG_MEMORY_AMBIGUOUS (1u << 31) /* the program's own memory is there too, shadow.c could not prevent it */
#define IVG_MEMORY_SHAREABLE (1u << 30) /* by descriptor */
#define IVG_MEMORY_SYNC_MEMOPS (1u << 29)
#define IVG_MEMORY_FLAGS (7u << 29)
struct ivg_memory_range {
        uint64_t base, bytes;
        uint32_t kind; /* enum ivg_memory_kind */
        uint32_t flags;
        int device;
        struct ivg_object *context;
        uint64_t id; /* CU_POINTER_ATTRIBUTE_BUFFER_ID: never used twice */
};
/* Addresses of the device and of this process are two worlds: the host chose the former, and they may coincide. */
struct ivg_memory_index;
extern struct ivg_memory_index ivg_memory_of_device;
extern struct ivg_memory_index ivg_memory_of_host;

#define IVG_MEMORY_RANGES_MAX (1u << 20) /* per index; 40 bytes each, of reserved address space */
/* A graph's memory at its place gives way. Fails: -EINVAL empty or wrapping, -EEXIST overlaps one that is there,
 * -ENOSPC, -ENOMEM. Fills range->id when 0. */
int ivg_memory_add(struct ivg_memory_index *index, struct ivg_memory_range *range);
/* The range that holds `address`. Any thread, also beside writers; lock-free unless a writer is busy for long. */
bool ivg_memory_find(struct ivg_memory_index *index, uint64_t address, struct ivg_memory_range *range);
/* Sets or clears one of IVG_MEMORY_FLAGS of the range that holds `address`; false: there is none. */
bool ivg_memory_flag(struct ivg_memory_index *index, uint64_t address, uint32_t flag, bool on);
/* Takes out the range that starts at `base` and has `kind`. False: there is none. */
bool ivg_memory_remove(struct ivg_memory_index *index, uint64_t base, uint32_t kind, struct ivg_memory_range *removed);
/* Takes out one range of `kind` and `context`, any; false when there is none left. */
bool ivg_memory_remove_of_context(struct ivg_memory_index *index, const struct ivg_object *context, uint32_t kind,
                                  struct ivg_memory_range *removed);

/* ---- shadow.c ---- */

/* Reserves [base, base + bytes) in this process without access, so that no later mapping of the program gets an address
 * which is device memory. False: something of the program's is there already (what is ours from before is fine). */
bool ivg_shadow_reserve(uint64_t base, uint64_t bytes);

/* Host memory of cuMemCreate and of pools would be the host's: refused. */
static inline bool ivg_location_is_host(CUmemLocationType type)
{
        return type == CU_MEM_LOCATION_TYPE_HOST || type == CU_MEM_LOCATION_TYPE_HOST_NUMA ||
               type == CU_MEM_LOCATION_TYPE_HOST_NUMA_CURRENT;
}

/* ---- share.c ---- */

/* A new descriptor for the object, whose `data` this file uses; `send` asks the host for its ticket, once. */
CUresult ivg_share_export(struct ivg_object *object, CUresult (*send)(ivg_id id, struct ivg_wire_ticket *ticket),
                          int *descriptor);
CUresult ivg_share_read(int descriptor, struct ivg_wire_ticket *ticket); /* INVALID_VALUE: not such a descriptor */
bool ivg_share_held(const struct ivg_object *object);                    /* some process has a descriptor of it */
void ivg_share_end(struct ivg_object *object);

/* ---- completion.c ---- */

#define IVG_COMPLETION_NONE 0xffffffffu /* index: nobody waits */
#define IVG_COMPLETION_SPIN_NS 50000u   /* about five DMA round trips; then a thread had better sleep */
#define IVG_COMPLETION_POLL_MS 2000u    /* for a buffer of another context, which cannot be synchronized */

/* One word's guest side. Owned by whoever took it; at most one copy is under way for it. */
struct ivg_completion {
        uint32_t index;
        ivg_id stream, context; /* of the copy under way */
        bool pending;
        bool by_executor; /* which writes the word itself: no matter how far the stream is */
        uint64_t value;   /* awaited; grows */
};
/* A word for one synchronous copy; NULL when all are in use (then synchronize the stream instead). Lock-free. */
struct ivg_completion *ivg_completion_take(void);
/* A word for a question, of which there are IVG_SIGNAL_WORDS; NULL: the values of all are still to come. */
struct ivg_completion *ivg_completion_take_signal(void);
uint32_t ivg_completion_place(const struct ivg_completion *completion); /* which one it is */
/* What the place's word says of a value, of which IVG_SIGNAL_VALUES is known. Any thread, and without taking it. */
#define IVG_SIGNAL_VALUES 0xffffffu
enum ivg_completion_said { IVG_COMPLETION_NOT_YET, IVG_COMPLETION_CAME, IVG_COMPLETION_FAILS };
enum ivg_completion_said ivg_completion_signal(uint32_t place, uint32_t value);
/* A pending one is out of use until its value has come. */
void ivg_completion_give(struct ivg_completion *completion);
/* The context has ended, on the host too: nothing writes its words any more. */
void ivg_completions_end_of_context(const struct ivg_object *context);
/* Notes the next copy and returns the value that it is to write. */
uint64_t ivg_completion_begin(struct ivg_completion *completion, ivg_id stream, const struct ivg_object *context);
/* After it: with what sending said, which is the result. What never left is not awaited. */
CUresult ivg_completion_sent(struct ivg_completion *completion, CUresult result);
bool ivg_completion_done(struct ivg_completion *completion); /* one look, no wait; a failure counts as done */
bool ivg_completion_done_within(struct ivg_completion *completion, uint64_t ns); /* looks for so long */
/* One look with the result, told as ivg_completion_wait does. */
bool ivg_completion_poll(struct ivg_completion *completion, CUresult *result);
/* Looks again and again, for so long; true: it was. */
bool ivg_spin_for(uint64_t ns, bool (*look_at)(void *argument), void *argument);
/* Waits: spins, then synchronizes the stream. Returns the copy's error or one that the synchronization brought. */
CUresult ivg_completion_wait(struct ivg_completion *completion);
/* Looks as long as a wait does before it sleeps. True: it has come, with its result. */
bool ivg_completion_comes(struct ivg_completion *completion, CUresult *result);
/* Looks for so long, and leaves it pending when that was too short: no error either. */
CUresult ivg_completion_wait_at_most(struct ivg_completion *completion, uint64_t ns);

/* ---- copy_buffer.c ---- */

#define IVG_COPY_CHUNK_BYTES (512u << 10)
#define IVG_COPY_LARGE_CHUNK_BYTES (2u << 20) /* a copy's end and its word take the bus 2 us: less of them */
#define IVG_COPY_TO_READ_BYTES (8u << 10)     /* beyond it DMA and its word cost less */
_Static_assert(IVG_COPY_TO_READ_BYTES <= IVG_COPY_READ_BYTES_MAX, "the executor takes no more");
#define IVG_COPY_BUFFERS_MAX 64u /* of a kind; one bit each; 32 MiB, and never more than a quarter of the arena */
#define IVG_COPY_DEPTH_MAX 16u   /* of one copy with helpers: each of them has one, the others are in DMA */
#define IVG_COPY_DEPTH_ALONE 4u  /* one filled, the others in DMA; more would only leave the cache */
struct ivg_copy_buffers;         /* of one kind */
struct ivg_copy_buffer {
        struct ivg_copy_buffers *kind;
        uint8_t *memory;
        uint64_t arena_offset;
        _Atomic(uint64_t) given; /* which give it was: the oldest copy is the first to end */
        struct ivg_completion completion;
};
extern struct ivg_copy_buffers ivg_copy_buffers_for_dma; /* of IVG_COPY_CHUNK_BYTES; registered */
extern struct ivg_copy_buffers ivg_copy_buffers_large; /* IVG_COPY_DEPTH_MAX of IVG_COPY_LARGE_CHUNK_BYTES; the same */
extern struct ivg_copy_buffers ivg_copy_buffers_to_read; /* of IVG_COPY_TO_READ_BYTES; the executor's driver reads */
struct ivg_copy;
/* A buffer without a copy under way, for this one. Waits, bounded, when other threads have them all; for the oldest
 * copy first. */
CUresult ivg_copy_buffer_take(struct ivg_copy_buffers *kind, const struct ivg_copy *copy,
                              struct ivg_copy_buffer **buffer);
/* The same, but NULL instead of waiting; once there are a few it makes one only where *may_make, which is
 * counted down, is not 0. */
struct ivg_copy_buffer *ivg_copy_buffer_try(struct ivg_copy_buffers *kind, uint32_t *may_make);
/* The free buffer whose copy, of this stream and under way, was sent first: to be waited for by its completion before
 * it is written to. NULL: there is none. */
struct ivg_copy_buffer *ivg_copy_buffer_try_pending(struct ivg_copy_buffers *kind, const struct ivg_copy *copy);
void ivg_copy_buffer_give(struct ivg_copy_buffer *buffer); /* a copy may still be under way */

/* ---- pinned.c, staging.c, copy.c ---- */

extern struct ivg_arena_pool ivg_pinned_pool;
extern struct ivg_arena_pool ivg_staging_pool;
/* True when the whole of [pointer, pointer + bytes) is one piece of pinned memory, with its place in the arena. */
bool ivg_pinned_offset(const void *pointer, uint64_t bytes, uint64_t *offset);

/* Arena memory pinned for the device; gives way to nobody but takes what staging keeps for speed only. */
CUresult ivg_pinned_take(uint64_t bytes, void **memory);
/* Device memory, with the answer (allocate.c). */
CUresult ivg_free_and_wait(uint64_t pointer);

/* ---- managed.c, managed_advice.c ---- */

/* Whether `pointer` was managed memory; then it is freed and *result says how. */
bool ivg_managed_free(uint64_t pointer, CUresult *result);
void ivg_managed_end_of_context(const struct ivg_object *context);

/* What a program has said about a piece of managed memory. Locations: type INVALID is "none". */
struct ivg_advice {
        bool read_mostly, accessed_by_host;
        uint64_t accessed_by; /* one bit for each device */
        CUmemLocation preferred, prefetched;
};
/* From address to address, in whole pages. One lock, cold. */
CUresult ivg_advice_begin(uint64_t start, uint64_t end); /* new memory, nothing said yet; OUT_OF_MEMORY */
void ivg_advice_end(uint64_t start, uint64_t end);
/* Changes or reads every piece of a range; CUDA_ERROR_INVALID_VALUE when not all of it is managed, nothing is visited
 * then. */
CUresult ivg_advice_change(uint64_t address, uint64_t bytes, void (*change)(struct ivg_advice *advice, const void *arg),
                           const void *arg);
CUresult ivg_advice_read(uint64_t address, uint64_t bytes, void (*read)(const struct ivg_advice *advice, void *arg),
                         void *arg);

/* As memcpy, by stores that leave the caches alone; complete for other threads and devices after a release. */
void ivg_copy_bytes_past_caches(uint8_t *to, const uint8_t *from, size_t bytes);

/* What a copy works on: the caller's context and stream, and whether it returns only after the copy. */
struct ivg_copy {
        struct ivg_object *context;
        ivg_id stream;
        ivg_id array; /* the device's side is this array, its addresses are offsets there; NONE: device memory */
        bool synchronous;
        bool follows_nothing; /* synchronous: all that the stream was given before is known to be done */
        bool captured;        /* the copy becomes part of a graph: no staging, nobody waits */
};
CUresult ivg_copy_to_device(const struct ivg_copy *copy, uint64_t destination, const void *source, uint64_t bytes);
CUresult ivg_copy_from_device(const struct ivg_copy *copy, void *destination, uint64_t source, uint64_t bytes);
/* The record of one copy between arena and device; `device` is an address, or an offset into the copy's array. */
CUresult ivg_copy_send(const struct ivg_copy *copy, bool to_device, uint64_t device, uint64_t arena_offset,
                       uint64_t bytes, uint32_t index, uint64_t value);
/* Pageable memory only, `bytes` > 0, not captured. */
CUresult ivg_copy_staged(const struct ivg_copy *copy, uint64_t device, void *program, uint64_t bytes, bool to_device);
CUresult ivg_copy_on_device(const struct ivg_copy *copy, uint64_t destination, uint64_t source, uint64_t bytes);
/* Between host memory and an array of one dimension. */
CUresult ivg_copy_array(struct ivg_copy *copy, ivg_id array, uint64_t array_offset, void *host, uint64_t bytes,
                        bool to_array);
/* Boxes; `null_stream` is what a NULL stream means. */
CUresult ivg_copy_2d(const CUDA_MEMCPY2D *copy, CUstream stream, ivg_id null_stream, bool synchronous);
CUresult ivg_copy_3d(const CUDA_MEMCPY3D *copy, CUstream stream, ivg_id null_stream, bool synchronous);
CUresult ivg_copy_3d_peer(const CUDA_MEMCPY3D_PEER *copy, CUstream stream, ivg_id null_stream, bool synchronous);
/* The same as a node of a graph; refuses pageable memory on both sides by name. */
struct ivg_node;
CUresult ivg_copy_node(const CUDA_MEMCPY3D *copy, struct ivg_node *node);
/* By what the addresses are. */
CUresult ivg_copy_unified(const struct ivg_copy *copy, uint64_t destination, uint64_t source, uint64_t bytes);
/* Fills `copy` from the current context and the handle. */
CUresult ivg_copy_begin(struct ivg_copy *copy, CUstream stream, ivg_id null_stream, bool synchronous);

#pragma GCC visibility pop
#endif
