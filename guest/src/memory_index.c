/* Which addresses belong to which allocation: a sorted array that readers search without a lock.
 *
 * One writer at a time (mutex), any number of readers, kept apart by a sequence word: odd while the array moves.
 *   reader  M1 sequence acquire, even -> M2 entries acquire -> M3 sequence relaxed, the same: what was read is true
 *   writer  M4 sequence odd, relaxed -> M5 entries release -> M6 sequence even, release
 * M2 pairs with M5: a reader that sees any moved entry also sees the odd sequence at M3 (or a later one) and throws its
 * result away. M1 pairs with M6: an even sequence comes with all entries of its time. M3 may be relaxed because the
 * acquire loads of M2 keep it behind them. Entries are atomic words, so a torn look is harmless and never undefined.
 * Insertion moves the tail: 10^4 allocations are 200 KiB in the mean, less than one allocation costs on the host. */
#include "memory.h"
#include <errno.h>
#include <sys/mman.h>

#define READ_ATTEMPTS_MAX 64u /* then the reader queues up behind the writers: bounded, whatever they do */

enum { WORD_BASE, WORD_BYTES, WORD_KIND_FLAGS, WORD_DEVICE, WORD_CONTEXT, WORD_ID, WORDS };

struct entry {
        _Atomic(uint64_t) words[WORDS];
};
struct ivg_memory_index {
        _Atomic(uint64_t) sequence;
        _Atomic(uint64_t) count;
        _Atomic(struct entry *) entries; /* reserved at the first add, never moved */
        pthread_mutex_t lock;
};
struct ivg_memory_index ivg_memory_of_device = {.lock = PTHREAD_MUTEX_INITIALIZER};
struct ivg_memory_index ivg_memory_of_host = {.lock = PTHREAD_MUTEX_INITIALIZER};

static _Atomic(uint64_t) last_id;

static uint64_t entry_word(const struct entry *entry, uint32_t word)
{
        return ivg_load_acquire_u64(&entry->words[word]); /* M2 */
}

static void entry_copy(struct entry *to, const struct entry *from)
{
        for (uint32_t i = 0; i < WORDS; i++)
                ivg_store_release_u64(&to->words[i], ivg_load_relaxed_u64(&from->words[i])); /* M5; relaxed: own data */
}

static void entry_write(struct entry *entry, const struct ivg_memory_range *range)
{
        const uint64_t words[WORDS] = {
                [WORD_BASE] = range->base,
                [WORD_BYTES] = range->bytes,
                [WORD_KIND_FLAGS] = (uint64_t)range->kind << 32 | range->flags,
                [WORD_DEVICE] = (uint32_t)range->device,
                [WORD_CONTEXT] = (uintptr_t)range->context,
                [WORD_ID] = range->id,
        };
        for (uint32_t i = 0; i < WORDS; i++)
                ivg_store_release_u64(&entry->words[i], words[i]); /* M5 */
}

static void entry_read(const struct entry *entry, struct ivg_memory_range *range)
{
        const uint64_t kind_flags = entry_word(entry, WORD_KIND_FLAGS);
        range->base = entry_word(entry, WORD_BASE);
        range->bytes = entry_word(entry, WORD_BYTES);
        range->kind = (uint32_t)(kind_flags >> 32);
        range->flags = (uint32_t)kind_flags;
        range->device = (int)(uint32_t)entry_word(entry, WORD_DEVICE);
        range->context = (struct ivg_object *)(uintptr_t)entry_word(entry, WORD_CONTEXT);
        range->id = entry_word(entry, WORD_ID);
}

/* Position of the first entry that starts beyond `address`. */
static uint64_t search(const struct entry *entries, uint64_t count, uint64_t address)
{
        uint64_t low = 0;
        while (count > 0) {
                const uint64_t half = count / 2;
                if (entry_word(&entries[low + half], WORD_BASE) <= address) {
                        low += half + 1;
                        count -= half + 1;
                } else {
                        count = half;
                }
        }
        return low;
}

static bool find_in(const struct ivg_memory_index *index, uint64_t address, struct ivg_memory_range *range)
{
        /* The pointer is set once, before the first count above 0 is stored (release, M5). */
        const uint64_t count = ivg_load_acquire_u64(&index->count); /* M2 */
        const struct entry *entries = atomic_load_explicit(&index->entries, memory_order_relaxed);
        const uint64_t position = count > 0 ? search(entries, count, address) : 0;
        if (position == 0)
                return false;
        entry_read(&entries[position - 1], range);
        return address - range->base < range->bytes;
}

bool ivg_memory_find(struct ivg_memory_index *index, uint64_t address, struct ivg_memory_range *range)
{
        for (uint32_t i = 0; i < READ_ATTEMPTS_MAX; i++) {
                const uint64_t sequence = ivg_load_acquire_u64(&index->sequence); /* M1 */
                if ((sequence & 1) == 0) {
                        const bool found = find_in(index, address, range);
                        if (ivg_load_relaxed_u64(&index->sequence) == sequence) /* M3 */
                                return found;
                }
                ivg_cpu_relax();
        }
        pthread_mutex_lock(&index->lock);
        const bool found = find_in(index, address, range);
        pthread_mutex_unlock(&index->lock);
        return found;
}

static void write_begin(struct ivg_memory_index *index)
{
        ivg_store_relaxed_u64(&index->sequence, ivg_load_relaxed_u64(&index->sequence) + 1); /* M4 */
}

static void write_end(struct ivg_memory_index *index)
{
        ivg_store_release_u64(&index->sequence, ivg_load_relaxed_u64(&index->sequence) + 1); /* M6 */
}

static int reserve_entries(struct ivg_memory_index *index)
{
        if (atomic_load_explicit(&index->entries, memory_order_relaxed) != NULL)
                return 0;
        void *memory = mmap(NULL, IVG_MEMORY_RANGES_MAX * sizeof(struct entry), PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (memory == MAP_FAILED)
                return -ENOMEM;
        atomic_store_explicit(&index->entries, (struct entry *)memory, memory_order_relaxed);
        return 0;
}

/* Lock held. */
static int add_locked(struct ivg_memory_index *index, struct ivg_memory_range *range)
{
        const int error = reserve_entries(index);
        if (error != 0)
                return error;
        struct entry *entries = atomic_load_explicit(&index->entries, memory_order_relaxed);
        const uint64_t count = ivg_load_relaxed_u64(&index->count);
        if (count == IVG_MEMORY_RANGES_MAX)
                return -ENOSPC;
        const uint64_t position = search(entries, count, range->base);
        if (position > 0) {
                struct ivg_memory_range before;
                entry_read(&entries[position - 1], &before);
                if (range->base - before.base < before.bytes)
                        return -EEXIST;
        }
        if (position < count && entry_word(&entries[position], WORD_BASE) - range->base < range->bytes)
                return -EEXIST;
        if (range->id == 0)
                range->id = atomic_fetch_add_explicit(&last_id, 1, memory_order_relaxed) + 1; /* only unique */
        write_begin(index);
        for (uint64_t i = count; i > position; i--)
                entry_copy(&entries[i], &entries[i - 1]);
        entry_write(&entries[position], range);
        ivg_store_release_u64(&index->count, count + 1); /* M5 */
        write_end(index);
        return 0;
}

/* Lock held. */
static void remove_at(struct ivg_memory_index *index, uint64_t position)
{
        struct entry *entries = atomic_load_explicit(&index->entries, memory_order_relaxed);
        const uint64_t count = ivg_load_relaxed_u64(&index->count);
        write_begin(index);
        for (uint64_t i = position; i + 1 < count; i++)
                entry_copy(&entries[i], &entries[i + 1]);
        ivg_store_release_u64(&index->count, count - 1); /* M5 */
        write_end(index);
}

/* Takes out one range of a graph that overlaps `range`; false when none does. Lock held. */
static bool give_way(struct ivg_memory_index *index, const struct ivg_memory_range *range)
{
        const struct entry *entries = atomic_load_explicit(&index->entries, memory_order_relaxed);
        uint64_t position = search(entries, ivg_load_relaxed_u64(&index->count), range->base + range->bytes - 1);
        while (position > 0) {
                struct ivg_memory_range other;
                entry_read(&entries[--position], &other);
                if (other.base < range->base && range->base - other.base >= other.bytes)
                        return false; /* it ends before, and so do all below */
                if (other.kind == IVG_MEMORY_GRAPH) {
                        remove_at(index, position);
                        return true;
                }
        }
        return false;
}

int ivg_memory_add(struct ivg_memory_index *index, struct ivg_memory_range *range)
{
        if (range->bytes == 0 || range->base > UINT64_MAX - range->bytes)
                return -EINVAL;
        pthread_mutex_lock(&index->lock);
        int error = add_locked(index, range);
        while (error == -EEXIST && give_way(index, range))
                error = add_locked(index, range);
        pthread_mutex_unlock(&index->lock);
        return error;
}

bool ivg_memory_remove(struct ivg_memory_index *index, uint64_t base, uint32_t kind, struct ivg_memory_range *removed)
{
        pthread_mutex_lock(&index->lock);
        const bool found = find_in(index, base, removed) && removed->base == base && removed->kind == kind;
        if (found)
                remove_at(index, search(atomic_load_explicit(&index->entries, memory_order_relaxed),
                                        ivg_load_relaxed_u64(&index->count), base) -
                                         1);
        pthread_mutex_unlock(&index->lock);
        return found;
}

bool ivg_memory_flag(struct ivg_memory_index *index, uint64_t address, uint32_t flag, bool on)
{
        struct ivg_memory_range range;
        pthread_mutex_lock(&index->lock);
        const bool found = find_in(index, address, &range);
        if (found) {
                struct entry *entries = atomic_load_explicit(&index->entries, memory_order_relaxed);
                range.flags = on ? range.flags | flag : range.flags & ~flag;
                write_begin(index);
                entry_write(&entries[search(entries, ivg_load_relaxed_u64(&index->count), address) - 1], &range);
                write_end(index);
        }
        pthread_mutex_unlock(&index->lock);
        return found;
}

bool ivg_memory_remove_of_context(struct ivg_memory_index *index, const struct ivg_object *context, uint32_t kind,
                                  struct ivg_memory_range *removed)
{
        bool found = false;
        pthread_mutex_lock(&index->lock);
        const struct entry *entries = atomic_load_explicit(&index->entries, memory_order_relaxed);
        for (uint64_t i = ivg_load_relaxed_u64(&index->count); i > 0 && !found; i--) {
                entry_read(&entries[i - 1], removed);
                found = removed->context == context && removed->kind == kind;
                if (found)
                        remove_at(index, i - 1);
        }
        pthread_mutex_unlock(&index->lock);
        return found;
}
