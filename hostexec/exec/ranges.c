/* Which device memory the guest has obtained: disjoint address ranges, looked up without locks at each copy and set.
 *
 * Two levels, both sorted: a directory of leaves of at most IVG_LEAF_RANGES ranges. A reader takes the directory
 * pointer once, inside an RCU section, and finds its range by two binary searches; what it sees is one moment's
 * complete table. Writers hold a mutex, copy the leaf (and the directory) that changes, publish, and free the old after
 * a grace period. So an allocation costs a copy of some kilobytes, beside a driver call of tens of microseconds, and a
 * look-up under 50 ns.
 *
 *   W1 publish (store release of `directory`)   pairs with   W2 take (load acquire): the copied ranges are complete. */
#include "exec_internal.h"
#include "rcu.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define IVG_LEAF_RANGES 128u
/* Live allocations noted; more are still usable, the driver is asked about them. Bounds the executor's memory. */
#define IVG_RANGES_MAX (1u << 20)

struct ivg_range {
        uint64_t start, bytes;
        ivg_id context;
        int32_t device;                /* below 0: counted nowhere */
        struct ivg_physical *physical; /* of a mapping, else NULL */
};

struct ivg_leaf {
        struct ivg_rcu_header rcu; /* first: see rcu.h */
        uint32_t count;            /* at least 1, except in an empty table's only leaf */
        struct ivg_range ranges[IVG_LEAF_RANGES];
};

struct ivg_directory {
        struct ivg_rcu_header rcu;
        uint32_t count;
        struct ivg_leaf *leaves[];
};

struct ivg_ranges {
        _Atomic(uint64_t) directory; /* struct ivg_directory *, NULL: empty */
        pthread_mutex_t mutex;       /* writers */
        uint32_t count;
        _Atomic(uint64_t) *device_bytes; /* NULL: not shown; writers only */
};

static struct ivg_directory *directory_of(const struct ivg_ranges *ranges)
{
        return (struct ivg_directory *)(uintptr_t)ivg_load_acquire_u64(&ranges->directory); /* W2 */
}

static void publish(struct ivg_ranges *ranges, struct ivg_directory *directory)
{
        ivg_store_release_u64(&ranges->directory, (uint64_t)(uintptr_t)directory); /* W1 */
}

struct ivg_ranges *ivg_ranges_create(void)
{
        struct ivg_ranges *ranges = calloc(1, sizeof(*ranges));

        if (ranges)
                pthread_mutex_init(&ranges->mutex, NULL);
        return ranges;
}

void ivg_ranges_destroy(struct ivg_ranges *ranges)
{
        struct ivg_directory *directory;

        if (!ranges)
                return;
        directory = directory_of(ranges);
        for (uint32_t i = 0; directory && i < directory->count; i++)
                free(directory->leaves[i]);
        free(directory);
        pthread_mutex_destroy(&ranges->mutex);
        free(ranges);
}

/* ---- look-up ---- */

/* The last leaf whose first range starts at or below `address`; 0 when none does. directory->count > 0. */
static uint32_t leaf_index(const struct ivg_directory *directory, uint64_t address)
{
        uint32_t low = 0, high = directory->count;

        while (high - low > 1) {
                const uint32_t middle = low + (high - low) / 2;

                if (directory->leaves[middle]->ranges[0].start <= address)
                        low = middle;
                else
                        high = middle;
        }
        return low;
}

/* How many ranges of the leaf start at or below `address`. */
static uint32_t ranges_up_to(const struct ivg_leaf *leaf, uint64_t address)
{
        uint32_t low = 0, high = leaf->count;

        while (low < high) {
                const uint32_t middle = low + (high - low) / 2;

                if (leaf->ranges[middle].start <= address)
                        low = middle + 1;
                else
                        high = middle;
        }
        return low;
}

/* The range that holds `address`, or NULL. */
static const struct ivg_range *range_of(const struct ivg_directory *directory, uint64_t address)
{
        const struct ivg_leaf *leaf = directory->leaves[leaf_index(directory, address)];
        const uint32_t up_to = ranges_up_to(leaf, address);
        const struct ivg_range *range = up_to > 0 ? &leaf->ranges[up_to - 1] : NULL;

        return range && address - range->start < range->bytes ? range : NULL;
}

bool ivg_ranges_contain(const struct ivg_ranges *ranges, uint64_t address, uint64_t bytes)
{
        const struct ivg_directory *directory;
        bool inside = false, goes_on = true;

        ivg_rcu_read_lock();
        directory = directory_of(ranges);
        /* Mappings may lie in a row; the loop ends with the range's bytes, or the table's ranges. */
        while (directory && !inside && goes_on) {
                const struct ivg_range *range = range_of(directory, address);
                const uint64_t left = range ? range->bytes - (address - range->start) : 0;

                inside = range && bytes <= left;
                goes_on = range && range->physical;
                address += left;
                bytes -= inside ? 0 : left;
        }
        ivg_rcu_read_unlock();
        return inside;
}

/* ---- change; the writers' mutex is held ---- */

/* Relaxed: a figure to look at, written under the mutex alone. Never below nothing: see count_nothing. */
static void count_bytes(struct ivg_ranges *ranges, int32_t device, uint64_t bytes, bool added)
{
        if (ranges->device_bytes && device >= 0 && device < (int32_t)IVG_SHOWN_DEVICES_MAX) {
                const uint64_t before = ivg_load_relaxed_u64(&ranges->device_bytes[device]);
                const uint64_t after = added ? before + bytes : before > bytes ? before - bytes : 0;

                ivg_store_relaxed_u64(&ranges->device_bytes[device], after);
        }
}

void ivg_ranges_count(struct ivg_ranges *ranges, int32_t device, uint64_t bytes, bool added)
{
        pthread_mutex_lock(&ranges->mutex);
        count_bytes(ranges, device, bytes, added);
        pthread_mutex_unlock(&ranges->mutex);
}

/* A table that is emptied for want of memory: what is no longer noted cannot be counted down either. */
static void count_nothing(struct ivg_ranges *ranges)
{
        for (uint32_t i = 0; ranges->device_bytes && i < IVG_SHOWN_DEVICES_MAX; i++)
                ivg_store_relaxed_u64(&ranges->device_bytes[i], 0);
}

static struct ivg_directory *directory_new(uint32_t count)
{
        struct ivg_directory *directory = malloc(sizeof(*directory) + count * sizeof(directory->leaves[0]));

        if (directory)
                directory->count = count;
        return directory;
}

/* A directory in which leaves[at] is replaced by `count` new leaves (0..2). NULL: no memory. */
static struct ivg_directory *directory_replacing(const struct ivg_directory *old, uint32_t at, struct ivg_leaf **leaves,
                                                 uint32_t count)
{
        struct ivg_directory *directory = directory_new(old->count - 1 + count);

        if (!directory)
                return NULL;
        memcpy(directory->leaves, old->leaves, at * sizeof(old->leaves[0]));
        if (count)
                memcpy(directory->leaves + at, leaves, count * sizeof(leaves[0]));
        memcpy(directory->leaves + at + count, old->leaves + at + 1, (old->count - at - 1) * sizeof(old->leaves[0]));
        return directory;
}

/* `leaf` with `range` at place `at`, as one or two leaves. 0: no memory. */
static uint32_t leaf_with(const struct ivg_leaf *leaf, uint32_t at, const struct ivg_range *range,
                          struct ivg_leaf *result[2])
{
        struct ivg_range all[IVG_LEAF_RANGES + 1];
        const uint32_t total = leaf->count + 1;
        const uint32_t first = total > IVG_LEAF_RANGES ? total / 2 : total;
        const uint32_t count = total > IVG_LEAF_RANGES ? 2 : 1;

        memcpy(all, leaf->ranges, at * sizeof(all[0]));
        all[at] = *range;
        memcpy(all + at + 1, leaf->ranges + at, (leaf->count - at) * sizeof(all[0]));
        for (uint32_t i = 0; i < count; i++) {
                result[i] = malloc(sizeof(*result[i]));
                if (!result[i]) {
                        free(i ? result[0] : NULL);
                        return 0;
                }
        }
        result[0]->count = first;
        memcpy(result[0]->ranges, all, first * sizeof(all[0]));
        if (count == 2) {
                result[1]->count = total - first;
                memcpy(result[1]->ranges, all + first, (total - first) * sizeof(all[0]));
        }
        return count;
}

static int add_first(struct ivg_ranges *ranges, const struct ivg_range *range)
{
        struct ivg_directory *directory = directory_new(1);
        struct ivg_leaf *leaf = malloc(sizeof(*leaf));

        if (!directory || !leaf) {
                free(directory);
                free(leaf);
                return -ENOMEM;
        }
        leaf->count = 1;
        leaf->ranges[0] = *range;
        directory->leaves[0] = leaf;
        publish(ranges, directory);
        return 0;
}

/* Disjoint from its neighbours: what a driver's own answers always are. */
static bool fits_between(const struct ivg_directory *directory, uint32_t index, uint32_t at,
                         const struct ivg_range *range)
{
        const struct ivg_leaf *leaf = directory->leaves[index];
        const struct ivg_range *before = at > 0 ? &leaf->ranges[at - 1] : NULL;
        const struct ivg_range *after = NULL;

        if (at < leaf->count)
                after = &leaf->ranges[at];
        else if (index + 1 < directory->count)
                after = &directory->leaves[index + 1]->ranges[0];
        return (!before || range->start - before->start >= before->bytes) &&
               (!after || after->start - range->start >= range->bytes);
}

static int add_locked(struct ivg_ranges *ranges, const struct ivg_range *range)
{
        struct ivg_directory *old = directory_of(ranges);
        struct ivg_directory *directory;
        struct ivg_leaf *leaves[2] = {NULL, NULL};
        uint32_t index, at, count;

        if (ranges->count >= IVG_RANGES_MAX)
                return -ENOMEM;
        if (!old)
                return add_first(ranges, range);
        index = leaf_index(old, range->start);
        at = ranges_up_to(old->leaves[index], range->start);
        if (!fits_between(old, index, at, range))
                return -EEXIST;
        count = leaf_with(old->leaves[index], at, range, leaves);
        if (!count)
                return -ENOMEM;
        directory = directory_replacing(old, index, leaves, count);
        if (!directory) {
                free(leaves[0]);
                free(count == 2 ? leaves[1] : NULL);
                return -ENOMEM;
        }
        publish(ranges, directory);
        ivg_rcu_free(&old->leaves[index]->rcu);
        ivg_rcu_free(&old->rcu);
        return 0;
}

void ivg_ranges_show(struct ivg_ranges *ranges, _Atomic(uint64_t) *device_bytes)
{
        pthread_mutex_lock(&ranges->mutex);
        ranges->device_bytes = device_bytes;
        count_nothing(ranges);
        pthread_mutex_unlock(&ranges->mutex);
}

int ivg_ranges_add(struct ivg_ranges *ranges, uint64_t start, uint64_t bytes, ivg_id context)
{
        return ivg_ranges_add_on(ranges, start, bytes, context, -1);
}

static int add(struct ivg_ranges *ranges, const struct ivg_range *range)
{
        int error;

        if (range->bytes == 0 || range->start + range->bytes < range->start)
                return -EINVAL;
        pthread_mutex_lock(&ranges->mutex);
        error = add_locked(ranges, range);
        if (!error) {
                ranges->count++;
                count_bytes(ranges, range->device, range->bytes, true);
        }
        pthread_mutex_unlock(&ranges->mutex);
        return error;
}

int ivg_ranges_add_on(struct ivg_ranges *ranges, uint64_t start, uint64_t bytes, ivg_id context, int32_t device)
{
        return add(ranges, &(struct ivg_range){.start = start, .bytes = bytes, .context = context, .device = device});
}

int ivg_ranges_add_mapping(struct ivg_ranges *ranges, uint64_t start, uint64_t bytes, struct ivg_physical *physical)
{
        return add(ranges, &(struct ivg_range){.start = start,
                                               .bytes = bytes,
                                               .context = IVG_ID_NONE, /* it outlives every context */
                                               .device = -1,
                                               .physical = physical});
}

/* Takes range `at` out of leaf `index`. Shrinking must not fail for want of memory, or a freed range would stay valid:
 * then the table is emptied, and the driver is asked instead. */
static void remove_locked(struct ivg_ranges *ranges, uint32_t index, uint32_t at)
{
        struct ivg_directory *old = directory_of(ranges);
        struct ivg_leaf *old_leaf = old->leaves[index];
        struct ivg_leaf *leaf = old_leaf->count > 1 ? malloc(sizeof(*leaf)) : NULL;
        struct ivg_directory *directory = NULL;

        if (leaf) {
                leaf->count = old_leaf->count - 1;
                memcpy(leaf->ranges, old_leaf->ranges, at * sizeof(leaf->ranges[0]));
                memcpy(leaf->ranges + at, old_leaf->ranges + at + 1,
                       (old_leaf->count - at - 1) * sizeof(leaf->ranges[0]));
        }
        if (leaf || (old_leaf->count == 1 && old->count > 1))
                directory = directory_replacing(old, index, &leaf, leaf ? 1 : 0);
        ranges->count--;
        count_bytes(ranges, old_leaf->ranges[at].device, old_leaf->ranges[at].bytes, false);
        publish(ranges, directory);
        if (directory) {
                ivg_rcu_free(&old_leaf->rcu);
        } else {
                free(leaf);
                for (uint32_t i = 0; i < old->count; i++)
                        ivg_rcu_free(&old->leaves[i]->rcu);
                ranges->count = 0;
                count_nothing(ranges);
        }
        ivg_rcu_free(&old->rcu);
}

bool ivg_ranges_remove(struct ivg_ranges *ranges, uint64_t start)
{
        const struct ivg_directory *directory;
        bool found = false;

        pthread_mutex_lock(&ranges->mutex);
        directory = directory_of(ranges);
        if (directory) {
                const uint32_t index = leaf_index(directory, start);
                const uint32_t up_to = ranges_up_to(directory->leaves[index], start);

                found = up_to > 0 && directory->leaves[index]->ranges[up_to - 1].start == start;
                if (found)
                        remove_locked(ranges, index, up_to - 1);
        }
        pthread_mutex_unlock(&ranges->mutex);
        return found;
}

bool ivg_ranges_take_mapping(struct ivg_ranges *ranges, uint64_t start, uint64_t bytes, uint64_t *mapping_start,
                             uint64_t *mapping_bytes, struct ivg_physical **physical)
{
        const struct ivg_directory *directory;
        bool found = false;

        pthread_mutex_lock(&ranges->mutex);
        directory = directory_of(ranges);
        for (uint32_t index = directory ? leaf_index(directory, start) : 0;
             !found && directory && index < directory->count; index++) {
                const struct ivg_leaf *leaf = directory->leaves[index];

                for (uint32_t at = 0; !found && at < leaf->count; at++) {
                        const struct ivg_range *range = &leaf->ranges[at];

                        if (!range->physical || range->start < start || range->start - start >= bytes)
                                continue;
                        *mapping_start = range->start;
                        *mapping_bytes = range->bytes;
                        *physical = range->physical;
                        remove_locked(ranges, index, at);
                        found = true;
                }
        }
        pthread_mutex_unlock(&ranges->mutex);
        return found;
}

/* The first range of `context`. */
static bool find_context(const struct ivg_directory *directory, ivg_id context, uint32_t *index, uint32_t *at)
{
        for (*index = 0; directory && *index < directory->count; ++*index)
                for (*at = 0; *at < directory->leaves[*index]->count; ++*at)
                        if (directory->leaves[*index]->ranges[*at].context == context)
                                return true;
        return false;
}

void ivg_ranges_remove_context(struct ivg_ranges *ranges, ivg_id context)
{
        uint32_t index, at;

        pthread_mutex_lock(&ranges->mutex);
        while (find_context(directory_of(ranges), context, &index, &at)) /* at most IVG_RANGES_MAX times */
                remove_locked(ranges, index, at);
        pthread_mutex_unlock(&ranges->mutex);
}
