/* Maps the part of a region below the arena, with the rights each side may have, and says where things lie.
 *
 * One address range is reserved for everything below the arena and the permitted pieces are laid over it, so that an
 * offset of the region is an offset of the mapping and whatever is not permitted faults. */
#include "glue_internal.h"
#include "ivgpu/region.h"
#include <assert.h>
#include <string.h>
#include <sys/mman.h>

static int piece_map(const struct ivg_region *region, int fd, const char *name, uint64_t offset, uint64_t bytes,
                     int protection, struct ivg_error *error)
{
        if (mmap(region->base + offset, bytes, protection, MAP_SHARED | MAP_FIXED, fd,
                 (off_t)(region->file_offset + offset)) == MAP_FAILED) {
                const int rc = -errno;

                ivg_error_set(error, "mapping %s [%llu, +%llu): %s", name, (unsigned long long)offset,
                              (unsigned long long)bytes, strerror(errno));
                return rc;
        }
        return 0;
}

static int channel_map(const struct ivg_region *region, int fd, uint32_t channel, int guest_part, int host_part,
                       struct ivg_error *error)
{
        const uint64_t begin = region->channels_offset + channel * region->channel_stride;
        int rc = piece_map(region, fd, "a channel's guest part", begin + IVG_CHANNEL_RING_GUEST_OFFSET,
                           IVG_CHANNEL_GUEST_BYTES, guest_part, error);

        if (rc == 0)
                rc = piece_map(region, fd, "a channel's host part", begin + IVG_CHANNEL_RING_HOST_OFFSET,
                               IVG_CHANNEL_HOST_BYTES, host_part, error);
        return rc;
}

int ivg_region_map_channel(const struct ivg_region *region, int fd, enum ivg_region_side side, uint32_t channel,
                           struct ivg_error *error)
{
        const int read_write = PROT_READ | PROT_WRITE;

        if (channel >= region->channel_count) {
                ivg_error_set(error, "channel %u of %u", channel, region->channel_count);
                return -EINVAL;
        }
        switch (side) {
        case IVG_SIDE_GUEST:
        case IVG_SIDE_GUEST_BY_DRIVER:
                return channel_map(region, fd, channel, read_write, PROT_READ, error);
        case IVG_SIDE_HOST_MEDIATOR:
                return channel_map(region, fd, channel, PROT_READ, read_write, error);
        case IVG_SIDE_HOST_EXECUTOR:
                /* Writable until ivg_region_seal_guest_part(): opening the ring formats both parts. */
                return channel_map(region, fd, channel, read_write, read_write, error);
        }
        ivg_error_set(error, "side %d is unknown", (int)side);
        return -EINVAL;
}

static int pages_map(const struct ivg_region *region, int fd, enum ivg_region_side side, struct ivg_error *error)
{
        const int read_write = PROT_READ | PROT_WRITE;
        const bool guest = side == IVG_SIDE_GUEST || side == IVG_SIDE_GUEST_BY_DRIVER;
        int rc = piece_map(region, fd, "the region page", 0, IVG_PAGE_BYTES, PROT_READ, error);

        if (rc == 0 && side != IVG_SIDE_GUEST_BY_DRIVER)
                rc = piece_map(region, fd, "the guest pages", region->guest_pages_offset, region->guest_pages_bytes,
                               guest ? read_write : PROT_READ, error);
        if (rc == 0)
                rc = piece_map(region, fd, "the host pages", region->host_pages_offset, region->host_pages_bytes,
                               guest ? PROT_READ : read_write, error);
        return rc;
}

static int channels_map(const struct ivg_region *region, int fd, enum ivg_region_side side, uint32_t channel,
                        struct ivg_error *error)
{
        int rc = 0;

        if (side != IVG_SIDE_HOST_MEDIATOR)
                return channel == IVG_CHANNEL_NONE ? 0 : ivg_region_map_channel(region, fd, side, channel, error);
        for (uint32_t i = 0; i < region->channel_count && rc == 0; i++)
                rc = ivg_region_map_channel(region, fd, side, i, error);
        return rc;
}

int ivg_region_map(struct ivg_region *region, int fd, enum ivg_region_side side, uint32_t channel,
                   struct ivg_error *error)
{
        uint8_t *base = mmap(NULL, region->arena_offset, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        int rc;

        if (base == MAP_FAILED) {
                rc = -errno;
                ivg_error_set(error, "reserving %llu bytes of address space: %s",
                              (unsigned long long)region->arena_offset, strerror(errno));
                return rc;
        }
        region->base = base;
        region->mapped_bytes = region->arena_offset;
        rc = pages_map(region, fd, side, error);
        if (rc == 0)
                rc = channels_map(region, fd, side, channel, error);
        if (rc < 0)
                ivg_region_unmap(region);
        return rc;
}

void ivg_region_unmap(struct ivg_region *region)
{
        if (region->base != NULL)
                munmap(region->base, region->mapped_bytes);
        region->base = NULL;
        region->mapped_bytes = 0;
}

int ivg_region_seal_guest_part(const struct ivg_region *region, uint32_t channel)
{
        assert(region->base != NULL && channel < region->channel_count);
        _Static_assert(offsetof(struct ivg_ring_guest_part, slots) + IVG_RING_SLOTS * IVG_SLOT_BYTES ==
                               IVG_CHANNEL_GUEST_BYTES,
                       "the slots are the last");
        return mprotect(ivg_region_ring_guest(region, channel), offsetof(struct ivg_ring_guest_part, slots),
                        PROT_READ) < 0
                       ? -errno
                       : 0;
}

/* ---- where things lie ---- */

struct ivg_guest_pages *ivg_region_guest_pages(const struct ivg_region *region)
{
        assert(region->base != NULL);
        return (struct ivg_guest_pages *)(void *)(region->base + region->guest_pages_offset);
}

struct ivg_host_pages *ivg_region_host_pages(const struct ivg_region *region)
{
        assert(region->base != NULL);
        return (struct ivg_host_pages *)(void *)(region->base + region->host_pages_offset);
}

static uint8_t *channel_at(const struct ivg_region *region, uint32_t channel, uint64_t offset)
{
        assert(region->base != NULL && channel < region->channel_count);
        return region->base + region->channels_offset + channel * region->channel_stride + offset;
}

struct ivg_ring_guest_part *ivg_region_ring_guest(const struct ivg_region *region, uint32_t channel)
{
        return (struct ivg_ring_guest_part *)(void *)channel_at(region, channel, IVG_CHANNEL_RING_GUEST_OFFSET);
}

struct ivg_ring_host_part *ivg_region_ring_host(const struct ivg_region *region, uint32_t channel)
{
        return (struct ivg_ring_host_part *)(void *)channel_at(region, channel, IVG_CHANNEL_RING_HOST_OFFSET);
}

_Atomic(uint64_t) *ivg_region_completions(const struct ivg_region *region, uint32_t channel)
{
        return (_Atomic(uint64_t) *)(void *)channel_at(region, channel, IVG_CHANNEL_COMPLETION_OFFSET);
}

uint8_t *ivg_region_answer_area(const struct ivg_region *region, uint32_t channel, uint32_t producer)
{
        assert(producer < IVG_RING_PRODUCERS);
        return channel_at(region, channel, IVG_CHANNEL_ANSWER_OFFSET + (uint64_t)producer * IVG_ANSWER_AREA_BYTES);
}
