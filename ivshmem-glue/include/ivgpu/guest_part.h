/* The guest driver's part, for who plays it without one: a broker, or programs that share sysfs. One at a time; whoever
 * calls rings control afterwards. The region's guest pages must be mapped writable. */
#ifndef IVGPU_GUEST_PART_H
#define IVGPU_GUEST_PART_H

#include "ivgpu/region.h"

/* A new boot epoch: all channels and extents of an earlier one are void. `vectors_used`: 0, all that the host serves.
 */
void ivg_guest_epoch_begin(const struct ivg_region *region, uint64_t epoch, uint32_t vectors_used);
/* True when the host has adopted `epoch`: no executor of an older one runs. */
bool ivg_guest_epoch_is_seen(const struct ivg_region *region, uint64_t epoch);

/* Claims `channel`, whose host word is FREE, for a process: guest := OPEN. Returns the generation, the host's. */
uint32_t ivg_guest_channel_open(const struct ivg_region *region, uint32_t channel, uint32_t pid, const char *program);
/* guest := CLOSED or FREE. */
void ivg_guest_channel_store(const struct ivg_region *region, uint32_t channel, uint32_t generation,
                             enum ivg_guest_channel_state state);
/* True when the host is done with `generation`: its executor is gone, the channel may be claimed again. */
bool ivg_guest_channel_is_done(const struct ivg_region *region, uint32_t channel, uint32_t generation);
/* The host's word: (generation << 32) | enum ivg_host_channel_state. */
uint64_t ivg_guest_channel_host_word(const struct ivg_region *region, uint32_t channel);

/* Frees every extent of `channel`. Only when its executor is gone for certain: DMA may be under way before. */
void ivg_guest_extents_release_all(const struct ivg_region *region, uint32_t channel);

#endif
