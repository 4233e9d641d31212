/* Context-local storage: what runtimes hang on a context under keys of their own. Read before nearly every runtime
 * call (tens of thousands of times a second), written a few times in a process's life.
 *
 * Readers take no lock: a sequence word tells them that no writer was at work while they probed (odd: one is). Writers
 * exclude each other by a mutex. Tables that were outgrown stay allocated, for a reader may still look at them; each is
 * half the next, so together they are smaller than the live one. */
#include "guest.h"
#include <stdlib.h>

#define STORAGE_ENTRIES_FIRST 16u /* a power of two */
#define READ_ATTEMPTS_MAX 64u     /* then the mutex: a writer was descheduled */

struct storage_entry {          /* words are atomics only for those who read during a write */
        _Atomic(uintptr_t) key; /* 0: empty, and the end of a probe */
        _Atomic(uintptr_t) value;
        ivg_storage_destructor destructor; /* writers only */
        uint64_t order;                    /* of the put; writers only */
};

struct storage_table {
        struct storage_table *previous; /* the outgrown one, kept for late readers */
        uint32_t entries_max;           /* a power of two; at most half is used */
        struct storage_entry entries[];
};

struct ivg_context_storage {
        _Atomic(uint32_t) sequence;
        _Atomic(struct storage_table *) table;
        pthread_mutex_t lock;
        uint32_t used;
        uint64_t puts;
};

static struct storage_table *table_create(uint32_t entries_max)
{
        struct storage_table *table = calloc(1, sizeof(*table) + (size_t)entries_max * sizeof(struct storage_entry));

        if (table != NULL)
                table->entries_max = entries_max;
        return table;
}

struct ivg_context_storage *ivg_storage_create(void)
{
        struct ivg_context_storage *storage = calloc(1, sizeof(*storage));
        struct storage_table *table = table_create(STORAGE_ENTRIES_FIRST);

        if (storage == NULL || table == NULL || pthread_mutex_init(&storage->lock, NULL) != 0) {
                free(storage);
                free(table);
                return NULL;
        }
        atomic_store_explicit(&storage->table, table, memory_order_release);
        return storage;
}

static uint32_t key_slot(const struct storage_table *table, uintptr_t key)
{
        /* Keys are addresses: the multiplier brings the middle bits to the top, where they are taken from. */
        return (uint32_t)((key * 0x9e3779b97f4a7c15ull) >> 40) & (table->entries_max - 1);
}

/* The entry with `key`, or the empty one where it would go; NULL: every entry was looked at, which only a reader beside
 * a writer can see. */
static struct storage_entry *entry_find(struct storage_table *table, uintptr_t key)
{
        uint32_t at = key_slot(table, key);

        for (uint32_t i = 0; i < table->entries_max; i++) {
                struct storage_entry *entry = &table->entries[at];
                /* S2, pairs with W2. */
                const uintptr_t there = atomic_load_explicit(&entry->key, memory_order_acquire);

                if (there == key || there == 0)
                        return entry;
                at = (at + 1) & (table->entries_max - 1);
        }
        return NULL;
}

static bool entry_read(const struct ivg_context_storage *storage, uintptr_t key, uintptr_t *value)
{
        struct storage_table *table =
                atomic_load_explicit((_Atomic(struct storage_table *) *)&storage->table, memory_order_acquire);
        const struct storage_entry *entry = entry_find(table, key);

        /* S2, both, pairs with W2: nothing after them is read before them. */
        if (entry == NULL || atomic_load_explicit((_Atomic(uintptr_t) *)&entry->key, memory_order_acquire) != key)
                return false;
        *value = atomic_load_explicit((_Atomic(uintptr_t) *)&entry->value, memory_order_acquire);
        return true;
}

CUresult ivg_storage_get(struct ivg_context_storage *storage, void *key, void **value)
{
        uintptr_t found = 0;
        bool there = false;

        if (key == NULL)
                return CUDA_ERROR_INVALID_HANDLE;
        for (uint32_t attempt = 0;; attempt++) {
                if (attempt == READ_ATTEMPTS_MAX) {
                        pthread_mutex_lock(&storage->lock);
                        there = entry_read(storage, (uintptr_t)key, &found);
                        pthread_mutex_unlock(&storage->lock);
                        break;
                }
                /* S1, pairs with W3: an even value means that everything the last writer did is visible. */
                const uint32_t before = ivg_load_acquire_u32(&storage->sequence);

                if (before % 2 == 0) {
                        there = entry_read(storage, (uintptr_t)key, &found);
                        /* S3, pairs with W1: had any word that S2 read come from a later writer, that writer's odd
                         * sequence, stored before it, would be seen here. Relaxed: S2 comes before. */
                        if (ivg_load_relaxed_u32(&storage->sequence) == before)
                                break;
                }
                ivg_cpu_relax();
        }
        if (!there)
                return CUDA_ERROR_INVALID_HANDLE;
        *value = (void *)found;
        return CUDA_SUCCESS;
}

static void write_begin(struct ivg_context_storage *storage)
{
        /* W1, pairs with S3: odd before any change; each change (W2) is a release. */
        ivg_store_relaxed_u32(&storage->sequence, ivg_load_relaxed_u32(&storage->sequence) + 1);
}

static void write_end(struct ivg_context_storage *storage)
{
        /* W3, pairs with S1: even after every change. */
        ivg_store_release_u32(&storage->sequence, ivg_load_relaxed_u32(&storage->sequence) + 1);
}

static void entry_set(struct storage_entry *entry, uintptr_t key, uintptr_t value, ivg_storage_destructor destructor,
                      uint64_t order)
{
        /* W2, both, pairs with S2: who sees the new word sees W1. */
        atomic_store_explicit(&entry->value, value, memory_order_release);
        atomic_store_explicit(&entry->key, key, memory_order_release);
        entry->destructor = destructor;
        entry->order = order;
}

static uintptr_t entry_key(const struct storage_entry *entry)
{
        return atomic_load_explicit((_Atomic(uintptr_t) *)&entry->key, memory_order_relaxed); /* writers: the mutex */
}

static uintptr_t entry_value(const struct storage_entry *entry)
{
        return atomic_load_explicit((_Atomic(uintptr_t) *)&entry->value, memory_order_relaxed); /* writers: the mutex */
}

/* Under the mutex: a table of `entries_max` with the same entries but `without`. NULL: no memory. */
static struct storage_table *table_copy(const struct storage_table *from, uint32_t entries_max, uintptr_t without)
{
        struct storage_table *table = table_create(entries_max);

        for (uint32_t i = 0; table != NULL && i < from->entries_max; i++) {
                const struct storage_entry *entry = &from->entries[i];
                const uintptr_t key = entry_key(entry);

                if (key != 0 && key != without)
                        entry_set(entry_find(table, key), key, entry_value(entry), entry->destructor, entry->order);
        }
        return table;
}

CUresult ivg_storage_put(struct ivg_context_storage *storage, void *key, void *value, ivg_storage_destructor destructor)
{
        CUresult result = CUDA_SUCCESS;
        struct storage_table *table;
        struct storage_entry *entry;

        if (key == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        pthread_mutex_lock(&storage->lock);
        table = atomic_load_explicit(&storage->table, memory_order_relaxed); /* writers change it under the mutex */
        entry = entry_find(table, (uintptr_t)key);
        if (entry_key(entry) == 0 && storage->used + 1 > table->entries_max / 2) {
                table = storage->used >= IVG_STORAGE_ENTRIES_MAX ? NULL : table_copy(table, table->entries_max * 2, 0);
                if (table == NULL) {
                        result = CUDA_ERROR_OUT_OF_MEMORY;
                        goto out;
                }
                table->previous = atomic_load_explicit(&storage->table, memory_order_relaxed);
                atomic_store_explicit(&storage->table, table, memory_order_release);
                entry = entry_find(table, (uintptr_t)key);
        }
        storage->used += entry_key(entry) == 0;
        write_begin(storage);
        entry_set(entry, (uintptr_t)key, (uintptr_t)value, destructor, storage->puts++);
        write_end(storage);
out:
        pthread_mutex_unlock(&storage->lock);
        return result;
}

/* Under the mutex and between W1 and W3: closes the gap at `hole`, so that no probe ends too early (linear probing,
 * deletion by moving back). */
static void entry_close_gap(struct storage_table *table, uint32_t hole)
{
        const uint32_t mask = table->entries_max - 1;
        uint32_t at = hole;

        for (uint32_t i = 0; i < table->entries_max; i++) {
                at = (at + 1) & mask;
                const struct storage_entry *entry = &table->entries[at];
                const uintptr_t key = entry_key(entry);

                if (key == 0)
                        break;
                /* It may move to the hole when its own place is not between hole (excluded) and here. */
                if (((at - key_slot(table, key)) & mask) < ((at - hole) & mask))
                        continue;
                entry_set(&table->entries[hole], key, entry_value(entry), entry->destructor, entry->order);
                hole = at;
        }
        entry_set(&table->entries[hole], 0, 0, NULL, 0);
}

CUresult ivg_storage_delete(struct ivg_context_storage *storage, void *key)
{
        struct storage_table *table;
        struct storage_entry *entry;
        bool there;

        if (key == NULL)
                return CUDA_ERROR_INVALID_HANDLE;
        pthread_mutex_lock(&storage->lock);
        table = atomic_load_explicit(&storage->table, memory_order_relaxed);
        entry = entry_find(table, (uintptr_t)key);
        there = entry_key(entry) != 0;
        if (there) {
                write_begin(storage);
                entry_close_gap(table, (uint32_t)(entry - table->entries));
                write_end(storage);
                storage->used--;
        }
        pthread_mutex_unlock(&storage->lock);
        return there ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

/* Takes out the entry that was put first; false: empty. */
static bool take_oldest(struct ivg_context_storage *storage, struct storage_entry *oldest)
{
        struct storage_entry *first = NULL;
        struct storage_table *table;

        pthread_mutex_lock(&storage->lock);
        table = atomic_load_explicit(&storage->table, memory_order_relaxed);
        for (uint32_t i = 0; storage->used != 0 && i < table->entries_max; i++) {
                struct storage_entry *entry = &table->entries[i];

                if (entry_key(entry) != 0 && (first == NULL || entry->order < first->order))
                        first = entry;
        }
        if (first != NULL) {
                entry_set(oldest, entry_key(first), entry_value(first), first->destructor, first->order);
                write_begin(storage);
                entry_close_gap(table, (uint32_t)(first - table->entries));
                write_end(storage);
                storage->used--;
        }
        pthread_mutex_unlock(&storage->lock);
        return first != NULL;
}

void ivg_storage_end(struct ivg_context_storage *storage, CUcontext context)
{
        struct storage_entry entry;

        /* One at a time and outside the lock: a destructor may call anything, also put. Bounded, should it always do.
         */
        for (uint32_t i = 0; i < 2 * IVG_STORAGE_ENTRIES_MAX && take_oldest(storage, &entry); i++)
                if (entry.destructor != NULL)
                        entry.destructor(context, (void *)entry_key(&entry), (void *)entry_value(&entry));
}
