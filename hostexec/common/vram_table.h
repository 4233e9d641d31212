/* What device memory a member of a pool (a VM, or all local programs) holds: a memory file that ivgpud makes for it and
 * hands to each of its executors, so that one cap holds for all of them.
 *
 * Each executor has a place, and adds to its own figures only. Whether there is room is decided by the sum of all,
 * under a lock that is one word: the place that holds it. A taker changes nothing but one figure by one store, so an
 * executor that dies leaves figures that hold; the mediator, which knows that it is gone, then clears its figures and
 * the lock if it was its own. The mediator never waits for the lock. There is no pointer in here, so that an executor
 * which its guest process has taken over can make another's allocations fail or its own pass, and no more; it could as
 * well call the driver past all this.
 *
 *   V1 lock taken (compare-exchange, acquire)    pairs with V2 lock given back (release): the sum counts whoever had it
 *   V3 figures cleared, lock cleared (release), by the mediator, pair with V1 likewise */
#ifndef IVG_VRAM_TABLE_H
#define IVG_VRAM_TABLE_H

#include "ivgpu/atomics.h"
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define IVG_VRAM_MAGIC 0x314d5256u /* "VRM1" */
#define IVG_VRAM_PLACES 256u     /* executors of one member at once: IVG_LOCAL_PROGRAMS_MAX; a VM has fewer channels */
#define IVG_VRAM_DEVICES_MAX 64u /* IVG_EXEC_DEVICES_MAX */
#define IVG_VRAM_NO_LIMIT UINT64_MAX
/* The lock is held for one sum. So long, on the most loaded machine, means that its holder stands still: then there is
 * no memory to be had. */
#define IVG_VRAM_LOCK_MS 1000u

struct ivg_vram_table {
        uint32_t magic, bytes;
        _Atomic(uint64_t) limit_bytes;       /* on each device; the mediator's word */
        _Alignas(64) _Atomic(uint32_t) lock; /* 0: free; else the holder's place + 1 */
        /* Side by side for the sum. Each place's are its executor's alone, until it is gone. */
        _Alignas(64) _Atomic(uint64_t) held[IVG_VRAM_DEVICES_MAX][IVG_VRAM_PLACES];
};

/* A descriptor, sealed in its size, and its mapping; or -errno. */
static inline int ivg_vram_table_create(struct ivg_vram_table **out)
{
        struct ivg_vram_table *table = MAP_FAILED;
        int fd = memfd_create("ivgpu-vram", MFD_CLOEXEC | MFD_ALLOW_SEALING), error;

        if (fd < 0)
                return -errno;
        if (ftruncate(fd, sizeof(*table)) == 0 &&
            fcntl(fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) == 0)
                table = mmap(NULL, sizeof(*table), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (table == MAP_FAILED) {
                error = -errno;
                close(fd);
                return error;
        }
        table->magic = IVG_VRAM_MAGIC;
        table->bytes = sizeof(*table);
        /* Relaxed: whoever hands the descriptor on orders it. */
        ivg_store_relaxed_u64(&table->limit_bytes, IVG_VRAM_NO_LIMIT);
        *out = table;
        return fd;
}

/* NULL: not one of ours. */
static inline struct ivg_vram_table *ivg_vram_table_map(int fd)
{
        struct ivg_vram_table *table = NULL;

        if (fd >= 0 && lseek(fd, 0, SEEK_END) == (off_t)sizeof(*table))
                table = mmap(NULL, sizeof(*table), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (table == MAP_FAILED || !table)
                return NULL;
        if (table->magic == IVG_VRAM_MAGIC && table->bytes == sizeof(*table))
                return table;
        munmap(table, sizeof(*table));
        return NULL;
}

/* What all hold of a device. Relaxed: exact under the lock, a figure to look at without. */
static inline uint64_t ivg_vram_table_sum(const struct ivg_vram_table *table, uint32_t device)
{
        uint64_t sum = 0;

        for (uint32_t place = 0; place < IVG_VRAM_PLACES; place++)
                sum += ivg_load_relaxed_u64(&table->held[device][place]);
        return sum;
}

/* False: somebody has it. */
static inline bool ivg_vram_table_try_lock(struct ivg_vram_table *table, uint32_t place)
{
        uint32_t nobody = 0;

        return ivg_compare_exchange_acq_rel_u32(&table->lock, &nobody, place + 1); /* V1 */
}

static inline bool ivg_vram_table_lock(struct ivg_vram_table *table, uint32_t place)
{
        struct timespec begin, now;

        if (ivg_vram_table_try_lock(table, place))
                return true;
        clock_gettime(CLOCK_MONOTONIC, &begin);
        do {
                sched_yield();
                if (ivg_vram_table_try_lock(table, place))
                        return true;
                clock_gettime(CLOCK_MONOTONIC, &now);
        } while ((now.tv_sec - begin.tv_sec) * 1000 + (now.tv_nsec - begin.tv_nsec) / 1000000 < (long)IVG_VRAM_LOCK_MS);
        return false;
}

static inline bool ivg_vram_table_take_by(bool (*lock)(struct ivg_vram_table *, uint32_t), struct ivg_vram_table *table,
                                          uint32_t place, uint32_t device, uint64_t bytes)
{
        _Atomic(uint64_t) *own = &table->held[device][place];
        uint64_t limit, sum;
        bool there;

        if (ivg_load_relaxed_u64(&table->limit_bytes) == IVG_VRAM_NO_LIMIT) { /* nothing to be exact about */
                ivg_store_relaxed_u64(own, ivg_load_relaxed_u64(own) + bytes);
                return true;
        }
        if (!lock(table, place))
                return false;
        limit = ivg_load_relaxed_u64(&table->limit_bytes); /* relaxed: a moment earlier or later is as good */
        sum = ivg_vram_table_sum(table, device);
        there = sum <= limit && bytes <= limit - sum;
        if (there)
                ivg_store_relaxed_u64(own, ivg_load_relaxed_u64(own) + bytes); /* relaxed: V2 orders it */
        ivg_store_release_u32(&table->lock, 0);                                /* V2 */
        return there;
}

/* False: the cap does not allow it. Callers: the executor of that place, one thread at a time. */
static inline bool ivg_vram_table_take(struct ivg_vram_table *table, uint32_t place, uint32_t device, uint64_t bytes)
{
        return ivg_vram_table_take_by(ivg_vram_table_lock, table, place, device, bytes);
}

/* The same without a wait. False: the cap does not allow it, or somebody has the lock. */
static inline bool ivg_vram_table_try_take(struct ivg_vram_table *table, uint32_t place, uint32_t device,
                                           uint64_t bytes)
{
        return ivg_vram_table_take_by(ivg_vram_table_try_lock, table, place, device, bytes);
}

/* Gives back, or (`more`) counts what is there already, over the cap if need be. Callers: as above. */
static inline void ivg_vram_table_change(struct ivg_vram_table *table, uint32_t place, uint32_t device, uint64_t bytes,
                                         bool more)
{
        _Atomic(uint64_t) *own = &table->held[device][place];
        const uint64_t before = ivg_load_relaxed_u64(own);

        /* Relaxed, without the lock: a sum made meanwhile counts it or not, as if it came later or earlier. */
        ivg_store_relaxed_u64(own, more ? before + bytes : before > bytes ? before - bytes : 0);
}

/* The executor of that place is gone. Callers: the mediator. */
static inline void ivg_vram_table_clear(struct ivg_vram_table *table, uint32_t place)
{
        uint32_t holder = place + 1;

        for (uint32_t device = 0; device < IVG_VRAM_DEVICES_MAX; device++)
                ivg_store_release_u64(&table->held[device][place], 0);    /* V3 */
        (void)ivg_compare_exchange_acq_rel_u32(&table->lock, &holder, 0); /* V3 */
}

#endif
