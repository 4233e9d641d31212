/* Handles: one reserved window of address space in 128-byte cells, so that any pointer the program hands us can be
 * checked without a fault, without a lock and without a search.
 *
 *   create   mutex: takes the oldest free cell, or the next fresh one (committing its pages)
 *   look up  no lock: bounds, alignment, kind (acquire, pairs with the release at the end of create)
 *   destroy  mutex: kind NONE, generation on, to the end of the free queue
 *
 * A number is cell index and generation. The free queue is first-in first-out and holds back QUARANTINE_CELLS cells, so
 * that a cell's 256 generations come round only after tens of thousands of destroys: the executor has long carried out
 * the first of them when the number appears again. */
#include "guest.h"
#include <sys/mman.h>

#define CELL_BYTES ((uint64_t)sizeof(struct ivg_object))
#define CELLS_MAX (1u << IVG_ID_INDEX_BITS)
#define WINDOW_BYTES (CELL_BYTES * CELLS_MAX) /* 2 GiB of addresses; memory only for cells in use */
#define COMMIT_CELLS 8192u                    /* 1 MiB at a time */
#define QUARANTINE_CELLS 256u
#define GENERATIONS 256u

struct ivg_object_window ivg_object_window;

static struct {
        pthread_mutex_t lock;
        uint32_t committed;             /* cells with memory */
        uint32_t fresh;                 /* first cell never used */
        uint32_t free_first, free_last; /* queue through next_free(); 0: empty (cell 0 is never used) */
        uint32_t free_count;
        _Atomic(uint32_t) live[IVG_KIND_COUNT];
        void (*release[IVG_KIND_COUNT])(struct ivg_object *object);
} objects = {.lock = PTHREAD_MUTEX_INITIALIZER, .fresh = IVG_ID_FIRST};

/* Cells hold the only pointers to what hangs on objects; the leak checker of a sanitizer build does not search mappings
 * unless told. */
#ifdef IVG_ASAN
#include <sanitizer/lsan_interface.h>
#define leak_checker_looks_at(memory, bytes) __lsan_register_root_region(memory, bytes)
#else
#define leak_checker_looks_at(memory, bytes) ((void)0)
#endif

static struct ivg_object *cell_at(uint32_t index)
{
        /* Relaxed: the base is set before the first index exists. */
        return (struct ivg_object *)atomic_load_explicit(&ivg_object_window.base, memory_order_relaxed) + index;
}

static uint32_t cell_index(const struct ivg_object *object)
{
        return object->id & (CELLS_MAX - 1);
}

/* A free cell's link to the next; the number keeps the cell's next generation. */
static uint32_t *next_free(struct ivg_object *object)
{
        return &object->flags;
}

static bool reserve_window(void)
{
        void *window;

        if (atomic_load_explicit(&ivg_object_window.base, memory_order_relaxed) != 0) /* under the lock */
                return true;
        window = mmap(NULL, WINDOW_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (window == MAP_FAILED)
                return false;
        atomic_store_explicit(&ivg_object_window.base, (uintptr_t)window, memory_order_release);
        return true;
}

static bool commit_more(void)
{
        if (objects.committed == CELLS_MAX)
                return false;
        if (mprotect(cell_at(objects.committed), COMMIT_CELLS * CELL_BYTES, PROT_READ | PROT_WRITE) != 0)
                return false;
        leak_checker_looks_at(cell_at(objects.committed), COMMIT_CELLS * CELL_BYTES);
        objects.committed += COMMIT_CELLS;
        /* Release, pairs with the acquire in ivg_object_of: the pages are readable, the base is set. */
        ivg_store_release_u64(&ivg_object_window.usable_bytes, objects.committed * CELL_BYTES);
        return true;
}

/* Under the lock. 0: none left. */
static uint32_t take_cell(void)
{
        const bool fresh_left = objects.fresh < CELLS_MAX;

        if (objects.free_count > QUARANTINE_CELLS || (!fresh_left && objects.free_count != 0)) {
                const uint32_t index = objects.free_first;

                objects.free_first = *next_free(cell_at(index));
                if (--objects.free_count == 0)
                        objects.free_last = 0;
                return index;
        }
        if (!fresh_left || !reserve_window() || (objects.fresh >= objects.committed && !commit_more()))
                return 0;
        cell_at(objects.fresh)->id = objects.fresh; /* generation 0 */
        return objects.fresh++;
}

CUresult ivg_object_create(enum ivg_kind kind, struct ivg_object *context, struct ivg_object **out)
{
        struct ivg_object *object;
        uint32_t index;

        pthread_mutex_lock(&objects.lock);
        index = take_cell();
        pthread_mutex_unlock(&objects.lock);
        if (index == 0)
                return CUDA_ERROR_OUT_OF_MEMORY;

        object = cell_at(index);
        /* Of what is made in a part of a device only streams are the part's. */
        if (kind != IVG_KIND_STREAM && kind != IVG_KIND_CONTEXT)
                context = ivg_context_owner(context);
        object->context = context;
        object->device = context != NULL ? context->device : 0;
        object->flags = 0;
        object->data = NULL;
        for (size_t i = 0; i < sizeof(object->values) / sizeof(object->values[0]); i++)
                object->values[i] = 0;
        ivg_store_relaxed_u64(&object->recorded, 0);
        ivg_store_relaxed_u64(&object->signal, 0);
        ivg_store_relaxed_u64(&object->done_tail, 0);
        ivg_store_relaxed_u64(&object->legacy_done_tail, 0);
        atomic_fetch_add_explicit(&objects.live[kind], 1, memory_order_relaxed); /* a count for hints */
        /* Release, pairs with the acquire in ivg_object_of: who sees the kind sees the rest. */
        ivg_store_release_u32(&object->kind, kind);
        *out = object;
        return CUDA_SUCCESS;
}

void ivg_object_destroy(struct ivg_object *object)
{
        /* Exchange: of two threads that destroy one object (the program's mistake) one wins. */
        const uint32_t kind = ivg_exchange_seq_cst_u32(&object->kind, IVG_KIND_NONE);
        uint32_t index;

        if (kind == IVG_KIND_NONE || kind >= IVG_KIND_COUNT)
                return;
        atomic_fetch_sub_explicit(&objects.live[kind], 1, memory_order_relaxed);
        if (objects.release[kind] != NULL)
                objects.release[kind](object);

        pthread_mutex_lock(&objects.lock);
        index = cell_index(object);
        object->id = index | ((object->id >> IVG_ID_INDEX_BITS) + 1) % GENERATIONS << IVG_ID_INDEX_BITS;
        *next_free(object) = 0;
        if (objects.free_count++ == 0)
                objects.free_first = index;
        else
                *next_free(cell_at(objects.free_last)) = index;
        objects.free_last = index;
        pthread_mutex_unlock(&objects.lock);
}

void ivg_object_set_release(enum ivg_kind kind, void (*release)(struct ivg_object *object))
{
        objects.release[kind] = release;
}

void ivg_objects_destroy_of_context(const struct ivg_object *context)
{
        uint32_t end;

        pthread_mutex_lock(&objects.lock);
        end = objects.fresh;
        pthread_mutex_unlock(&objects.lock);
        /* Not under the lock: releases may destroy further objects. What other threads create meanwhile in a context
         * that ends is their mistake; it stays a cell whose calls the host refuses. */
        for (uint32_t index = IVG_ID_FIRST; index < end; index++) {
                struct ivg_object *object = cell_at(index);
                const uint32_t kind = ivg_load_acquire_u32(&object->kind);

                if (kind != IVG_KIND_NONE && kind != IVG_KIND_CONTEXT && object->context == context)
                        ivg_object_destroy(object);
        }
}

struct ivg_object *ivg_object_at(enum ivg_kind kind, uint32_t index)
{
        if (index * CELL_BYTES >= ivg_load_acquire_u64(&ivg_object_window.usable_bytes)) /* pairs with commit_more */
                return NULL;
        return ivg_object_of(kind, cell_at(index));
}

struct ivg_object *ivg_object_of_id(enum ivg_kind kind, ivg_id id)
{
        struct ivg_object *object = ivg_object_at(kind, id & (CELLS_MAX - 1));

        return object != NULL && object->id == id ? object : NULL;
}

uint32_t ivg_objects_live(enum ivg_kind kind)
{
        return atomic_load_explicit(&objects.live[kind], memory_order_relaxed);
}
