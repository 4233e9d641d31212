/* The state words that a guest's driver writes, written by a process (states: region_layout.h).
 *
 * Labels: B1 boot epoch stored, B2 its answer read; G1 guest word stored, read by the mediator when control rings; H2
 * host word read, stored by the mediator (H1). Words carry the generation: one of an earlier life is never taken for
 * this. */
#include "ivgpu/guest_part.h"
#include <string.h>

void ivg_guest_epoch_begin(const struct ivg_region *region, uint64_t epoch, uint32_t vectors_used)
{
        struct ivg_guest_pages *guest = ivg_region_guest_pages(region);

        /* What an earlier boot left. Relaxed: B1 orders all of it for the mediator. */
        for (uint32_t i = 0; i < IVG_CHANNELS_MAX; i++)
                ivg_store_relaxed_u64(&guest->channels[i].state, ivg_channel_word(0, IVG_GUEST_CHANNEL_FREE));
        for (uint32_t i = 0; i < region->extent_count; i++)
                ivg_store_relaxed_u32(&guest->extent_owner[i], 0);
        ivg_store_relaxed_u32(&guest->vectors_used, vectors_used);
        ivg_store_release_u64(&guest->boot_epoch, epoch); /* B1, read by the mediator when control rings */
}

bool ivg_guest_epoch_is_seen(const struct ivg_region *region, uint64_t epoch)
{
        /* B2, pairs with the mediator's release: channels of older epochs have been ended. */
        return ivg_load_acquire_u64(&ivg_region_host_pages(region)->epoch_seen) == epoch;
}

uint64_t ivg_guest_channel_host_word(const struct ivg_region *region, uint32_t channel)
{
        return ivg_load_acquire_u64(&ivg_region_host_pages(region)->channels[channel].state); /* H2 */
}

uint32_t ivg_guest_channel_open(const struct ivg_region *region, uint32_t channel, uint32_t pid, const char *program)
{
        struct ivg_guest_channel *guest = &ivg_region_guest_pages(region)->channels[channel];
        const uint32_t generation = ivg_channel_word_generation(ivg_guest_channel_host_word(region, channel));

        ivg_store_relaxed_u32(&guest->pid, pid);
        memset(guest->program, 0, sizeof(guest->program));
        memcpy(guest->program, program, strnlen(program, sizeof(guest->program) - 1));
        /* pid and program are complete when the mediator sees OPEN. */
        ivg_guest_channel_store(region, channel, generation, IVG_GUEST_CHANNEL_OPEN);
        return generation;
}

void ivg_guest_channel_store(const struct ivg_region *region, uint32_t channel, uint32_t generation,
                             enum ivg_guest_channel_state state)
{
        /* G1, release: everything that was done in the channel comes before. */
        ivg_store_release_u64(&ivg_region_guest_pages(region)->channels[channel].state,
                              ivg_channel_word(generation, state));
}

bool ivg_guest_channel_is_done(const struct ivg_region *region, uint32_t channel, uint32_t generation)
{
        const uint64_t word = ivg_guest_channel_host_word(region, channel);

        /* FREE of a later generation says that the executor is gone. */
        return ivg_channel_word_state(word) == IVG_HOST_CHANNEL_FREE && ivg_channel_word_generation(word) != generation;
}

void ivg_guest_extents_release_all(const struct ivg_region *region, uint32_t channel)
{
        _Atomic(uint32_t) *owners = ivg_region_guest_pages(region)->extent_owner;

        for (uint32_t i = 0; i < region->extent_count; i++) {
                uint32_t owner = channel + 1;

                (void)ivg_compare_exchange_acq_rel_u32(&owners[i], &owner, 0); /* E2 (link_extents.c); others' stay */
        }
}
