/* Device addresses are chosen on the host; nothing stops this process from having memory of its own there. Then a
 * program that passes a pointer without saying what it is (cuMemcpy, cuPointerGetAttribute) could not be understood.
 *
 * So each range of device memory is reserved here too, without access, before the program hears of it. Reservations
 * stay: drivers use the same addresses again, and address space without access costs next to nothing. The table holds
 * merged, sorted intervals; adjacent mappings without access merge in the kernel as well. */
#include "memory.h"
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SHADOW_GRANULE (2ull << 20) /* what the driver maps at once: smaller allocations share it */
#define SHADOW_INTERVALS_MAX 4096u  /* drivers allocate densely; beyond this nothing more is reserved */

struct interval {
        uint64_t begin, end;
};
static struct interval intervals[SHADOW_INTERVALS_MAX];
static uint32_t intervals_count;
static pthread_mutex_t shadow_lock = PTHREAD_MUTEX_INITIALIZER;

/* Index of the first interval that ends beyond `address`. */
static uint32_t interval_after(uint64_t address)
{
        uint32_t i = 0;
        while (i < intervals_count && intervals[i].end <= address)
                i++;
        return i;
}

/* Notes [begin, end), which touches no interval's inside. */
static bool interval_add(uint64_t begin, uint64_t end)
{
        uint32_t i = interval_after(begin);
        if (i > 0 && intervals[i - 1].end == begin) {
                intervals[--i].end = end;
        } else {
                if (intervals_count == SHADOW_INTERVALS_MAX)
                        return false;
                memmove(&intervals[i + 1], &intervals[i], (intervals_count - i) * sizeof intervals[0]);
                intervals[i] = (struct interval){begin, end};
                intervals_count++;
        }
        if (i + 1 < intervals_count && intervals[i + 1].begin == intervals[i].end) {
                intervals[i].end = intervals[i + 1].end;
                memmove(&intervals[i + 1], &intervals[i + 2], (intervals_count - i - 2) * sizeof intervals[0]);
                intervals_count--;
        }
        return true;
}

/* The system call itself: these are addresses on which no tool that watches this process's mmap() has an opinion. */
static void *reserve_at(void *address, uint64_t bytes)
{
        const long got = syscall(SYS_mmap, address, bytes, PROT_NONE,
                                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0L);
        return got == -1 ? MAP_FAILED : (void *)got;
}

static bool map_gap(uint64_t begin, uint64_t end)
{
        void *wanted = (void *)(uintptr_t)begin;
        void *got = reserve_at(wanted, end - begin);
        if (got == MAP_FAILED)
                return errno != EEXIST; /* an address that no mapping can have collides with none */
        if (got == wanted && interval_add(begin, end))
                return true;
        (void)syscall(SYS_munmap, got, end - begin);
        return got == wanted; /* a kernel before 4.17 takes the address as a hint: elsewhere means occupied */
}

bool ivg_shadow_reserve(uint64_t base, uint64_t bytes)
{
        bool clear = true;
        uint64_t begin = base & ~(SHADOW_GRANULE - 1);
        const uint64_t end = (base + bytes + SHADOW_GRANULE - 1) & ~(SHADOW_GRANULE - 1);
        pthread_mutex_lock(&shadow_lock);
        while (clear && begin < end) {
                const uint32_t i = interval_after(begin);
                if (i < intervals_count && intervals[i].begin <= begin) {
                        begin = intervals[i].end; /* ours already */
                        continue;
                }
                const uint64_t gap_end = i < intervals_count && intervals[i].begin < end ? intervals[i].begin : end;
                clear = map_gap(begin, gap_end);
                begin = gap_end;
        }
        pthread_mutex_unlock(&shadow_lock);
        return clear;
}
