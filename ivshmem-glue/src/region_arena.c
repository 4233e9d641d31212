/* The arena: its window of address space, and the owner check of the executor's hot path. */
#include "glue_internal.h"
#include "ivgpu/region.h"
#include <assert.h>
#include <sys/mman.h>

/* Windows live where neither side's own mappings are likely: above 32 TiB, far below the stack and the top-down mmap
 * area (0x7f...), and away from executables and heap (0x55..., 0x56...), 2 TiB apart. The last candidates lie low, for
 * processes whose middle is taken, as ThreadSanitizer's shadow memory does. */
#define WINDOW_FIRST 0x200000000000ull
#define WINDOW_STRIDE 0x020000000000ull
#define WINDOW_LOW_FIRST 0x002000000000ull
#define WINDOW_LOW_STRIDE 0x001800000000ull
#define WINDOW_LOW_ATTEMPTS 4u
_Static_assert(WINDOW_LOW_STRIDE >= IVG_REGION_BYTES_MAX, "candidates do not overlap");
_Static_assert(WINDOW_FIRST + (IVG_WINDOW_ATTEMPTS_MAX - WINDOW_LOW_ATTEMPTS) * WINDOW_STRIDE < 0x550000000000ull,
               "the last high candidate ends below executables");

void *ivg_region_window_candidate(const struct ivg_region *region, uint32_t attempt)
{
        const uint32_t high = IVG_WINDOW_ATTEMPTS_MAX - WINDOW_LOW_ATTEMPTS;
        uint64_t address;

        assert(attempt < IVG_WINDOW_ATTEMPTS_MAX);
        (void)region;
        if (attempt < high)
                address = WINDOW_FIRST + attempt * WINDOW_STRIDE;
        else
                address = WINDOW_LOW_FIRST + (attempt - high) * WINDOW_LOW_STRIDE;
        return (void *)(uintptr_t)address;
}

int ivg_region_map_arena(const struct ivg_region *region, int fd, void *address)
{
        /* A hint and a comparison, not MAP_FIXED_NOREPLACE: a free range is taken just the same, nothing is ever
         * replaced, and ThreadSanitizer's mmap wrapper, which moves requests out of its shadow memory, is survived. */
        void *mapped = mmap(address, region->arena_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
                            (off_t)(region->file_offset + region->arena_offset));

        if (mapped == MAP_FAILED)
                return -errno;
        if (mapped != address) {
                munmap(mapped, region->arena_bytes);
                return -EEXIST;
        }
        /* Extents are as large as a huge page: fewer faults, fewer entries for the GPU's page tables. Where the kernel
         * does not do so for shared memory (shmem_enabled is `never`, or a BAR is mapped) nothing changes. */
        (void)madvise(mapped, region->arena_bytes, MADV_HUGEPAGE);
        return 0;
}

bool ivg_region_arena_owned(const struct ivg_region *region, uint32_t channel, uint64_t offset, uint64_t bytes)
{
        const struct ivg_guest_pages *pages = ivg_region_guest_pages(region);
        uint64_t last;

        if (bytes > region->arena_bytes || offset > region->arena_bytes - bytes)
                return false;
        if (bytes == 0)
                return true;
        last = (offset + bytes - 1) / IVG_EXTENT_BYTES;
        for (uint64_t i = offset / IVG_EXTENT_BYTES; i <= last; i++) {
                /* Relaxed: the word guards no data; the record that named the extent was ordered by the ring. The guest
                 * may change it right after: then it has lied to itself, the memory stays inside this VM's arena. */
                if (ivg_load_relaxed_u32(&pages->extent_owner[i]) != channel + 1)
                        return false;
        }
        return true;
}
