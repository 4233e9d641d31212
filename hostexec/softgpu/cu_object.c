/* Handles: slabs of objects that never change their kind, so that any 64-bit value can be checked as a handle. */
#include <string.h>
#include <sys/mman.h>

#include "array.h"
#include "graph.h"
#include "softgpu.h"

#ifdef IVG_ASAN
#include <sanitizer/lsan_interface.h>
#endif

#define SG_SLAB_ROOTS 64u /* objects that the leak checker learns of at a time */

struct sg_slab {
        char *base;
        size_t object_bytes;
        size_t count_max;
        size_t used; /* objects ever handed out */
        struct sg_object *free;
        void (*finalize)(void *object);
};

static pthread_mutex_t sg_slab_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t sg_slab_once = PTHREAD_ONCE_INIT;
static struct sg_slab sg_slabs[SG_KINDS];

static void sg_slab_open(enum sg_kind kind, size_t object_bytes, size_t count_max, void (*finalize)(void *))
{
        struct sg_slab *slab = &sg_slabs[kind];
        const size_t rounded = (object_bytes + 63) & ~(size_t)63;
        void *base = mmap(NULL, rounded * count_max, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (base == MAP_FAILED) {
                sg_report("no address space for %zu objects of kind %d", count_max, (int)kind);
                return; /* every creation of the kind answers out of memory */
        }
        *slab = (struct sg_slab){
                .base = base, .object_bytes = rounded, .count_max = count_max, .used = 0, .finalize = finalize};
}

#define SG_FINALIZER(kind)                           \
        static void sg_finalize_##kind(void *object) \
        {                                            \
                sg_##kind##_finalize(object);        \
        }
SG_FINALIZER(context)
SG_FINALIZER(stream)
SG_FINALIZER(event)
SG_FINALIZER(module)
SG_FINALIZER(library)
SG_FINALIZER(link)
SG_FINALIZER(pool)
SG_FINALIZER(physical)
SG_FINALIZER(graph)
SG_FINALIZER(node)
SG_FINALIZER(exec)
SG_FINALIZER(user)
SG_FINALIZER(array)
SG_FINALIZER(mipmap)
SG_FINALIZER(texture)
SG_FINALIZER(reference)

static void sg_slabs_open(void)
{
        sg_slab_open(SG_CONTEXT, sizeof(struct sg_context), 1024, sg_finalize_context);
        sg_slab_open(SG_STREAM, sizeof(struct sg_stream), 65536, sg_finalize_stream);
        sg_slab_open(SG_EVENT, sizeof(struct sg_event), 1u << 20, sg_finalize_event);
        sg_slab_open(SG_MODULE, sizeof(struct sg_module), 65536, sg_finalize_module);
        sg_slab_open(SG_FUNCTION, sizeof(struct sg_function), 1u << 20, NULL);
        sg_slab_open(SG_LIBRARY, sizeof(struct sg_library), 65536, sg_finalize_library);
        sg_slab_open(SG_KERNEL, sizeof(struct sg_kernel), 1u << 20, NULL);
        sg_slab_open(SG_LINK, sizeof(struct sg_link), 4096, sg_finalize_link);
        sg_slab_open(SG_POOL, sizeof(struct sg_pool), 4096, sg_finalize_pool);
        sg_slab_open(SG_PHYSICAL, sizeof(struct sg_physical), 1u << 20, sg_finalize_physical);
        sg_slab_open(SG_GRAPH, sizeof(struct sg_graph), 65536, sg_finalize_graph);
        sg_slab_open(SG_NODE, sizeof(struct sg_node), 1u << 20, sg_finalize_node);
        sg_slab_open(SG_USER, sizeof(struct sg_user), 65536, sg_finalize_user);
        sg_slab_open(SG_EXEC, sizeof(struct sg_exec), 65536, sg_finalize_exec);
        sg_slab_open(SG_GREEN, sg_green_bytes(), 1024, NULL);
        sg_slab_open(SG_DESC, sg_desc_bytes(), 65536, NULL);
        sg_slab_open(SG_ARRAY, sizeof(struct sg_array), 65536, sg_finalize_array);
        sg_slab_open(SG_MIPMAP, sizeof(struct sg_mipmap), 65536, sg_finalize_mipmap);
        sg_slab_open(SG_TEXTURE, sizeof(struct sg_texture), 65536, sg_finalize_texture);
        sg_slab_open(SG_REFERENCE, sizeof(struct sg_reference), 65536, sg_finalize_reference);
}

/* Mapped memory is no root for the leak checker: what objects point to would look lost in a program that ends without
 * destroying them. */
static void sg_slab_show(const struct sg_slab *slab)
{
#ifdef IVG_ASAN
        if (slab->used % SG_SLAB_ROOTS == 0)
                __lsan_register_root_region(slab->base + slab->object_bytes * slab->used,
                                            slab->object_bytes * SG_SLAB_ROOTS);
#else
        (void)slab;
#endif
}

static struct sg_object *sg_slab_take(struct sg_slab *slab)
{
        struct sg_object *object = slab->free;
        if (object != NULL) {
                slab->free = object->next_free;
        } else if (slab->base != NULL && slab->used < slab->count_max) {
                sg_slab_show(slab);
                object = (struct sg_object *)(void *)(slab->base + slab->object_bytes * slab->used++);
        }
        return object;
}

void *sg_object_new(enum sg_kind kind)
{
        pthread_once(&sg_slab_once, sg_slabs_open);
        struct sg_slab *slab = &sg_slabs[kind];
        pthread_mutex_lock(&sg_slab_lock);
        struct sg_object *object = sg_slab_take(slab);
        pthread_mutex_unlock(&sg_slab_lock);
        if (object == NULL)
                return NULL;
        /* Not memset over the header: another thread may be checking a stale handle to this very slot. */
        memset((char *)object + sizeof(*object), 0, slab->object_bytes - sizeof(*object));
        object->next_free = NULL;
        object->kind = (uint32_t)kind;
        atomic_store_explicit(&object->references, 1, memory_order_relaxed);
        /* Release, pairs with the acquire in sg_object_from: the zeroed body is seen by whoever finds it valid. */
        atomic_store_explicit(&object->valid, (uint32_t)kind, memory_order_release);
        return object;
}

void *sg_object_from(const void *handle, enum sg_kind kind)
{
        const struct sg_slab *slab = &sg_slabs[kind];
        const uintptr_t address = (uintptr_t)handle, base = (uintptr_t)slab->base;
        if (base == 0 || address < base || address - base >= slab->object_bytes * slab->count_max)
                return NULL;
        if ((address - base) % slab->object_bytes != 0)
                return NULL;
        struct sg_object *object = (struct sg_object *)address;
        return atomic_load_explicit(&object->valid, memory_order_acquire) == (uint32_t)kind ? object : NULL;
}

bool sg_object_retire(void *object)
{
        return atomic_exchange_explicit(&((struct sg_object *)object)->valid, 0, memory_order_acq_rel) != 0;
}

void sg_object_get(void *object)
{
        /* Relaxed: the caller holds a reference already, which orders everything before. */
        atomic_fetch_add_explicit(&((struct sg_object *)object)->references, 1, memory_order_relaxed);
}

void sg_object_put(void *object)
{
        struct sg_object *header = object;
        if (atomic_fetch_sub_explicit(&header->references, 1, memory_order_acq_rel) != 1)
                return;
        struct sg_slab *slab = &sg_slabs[header->kind];
        atomic_store_explicit(&header->valid, 0, memory_order_relaxed);
        if (slab->finalize != NULL)
                slab->finalize(object);
        pthread_mutex_lock(&sg_slab_lock);
        header->next_free = slab->free;
        slab->free = header;
        pthread_mutex_unlock(&sg_slab_lock);
}
