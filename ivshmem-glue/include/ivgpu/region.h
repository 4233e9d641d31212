/* A region in one process's address space: creation (host), complete check on attach (both), and where things lie.
 *
 * Offsets of a checked `struct ivg_region` are trusted afterwards; they were copied out of the region page once. */
#ifndef IVGPU_REGION_H
#define IVGPU_REGION_H

#include "ivgpu/region_layout.h"
#include <stdbool.h>
#include <stdio.h>

/* An error's words, gathered on the way up; always NUL-terminated. A NULL error takes no words; errno is kept. */
struct ivg_error {
        char text[320];
};
/* Replaces what is there; cut to the field. */
void ivg_error_set(struct ivg_error *error, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Puts "context: " before what is there. */
void ivg_error_prefix(struct ivg_error *error, const char *format, ...) __attribute__((format(printf, 2, 3)));

struct ivg_region {
        uint8_t *base; /* mapping of everything below the arena; NULL: not mapped */
        uint64_t mapped_bytes;
        uint64_t file_offset; /* where the region begins in the file that is mapped; 0 but for a vfio device */
        uint64_t region_bytes, arena_offset, arena_bytes;
        uint64_t guest_pages_offset, host_pages_offset, channels_offset, channel_stride;
        uint64_t guest_pages_bytes, host_pages_bytes;
        uint64_t host_instance;
        uint32_t channel_count, extent_count, vector_count, doorbell_peer, vm_id;
        char vm_name[IVG_VM_NAME_BYTES];
};

/* Geometry for a region of `region_bytes` (a power of two in IVG_REGION_BYTES_MIN..MAX) with `channel_count` channels.
 * Fails -EINVAL with words when they do not fit together. */
struct ivg_region_config {
        uint64_t region_bytes;
        uint32_t channel_count;
        uint32_t vector_count; /* 2..IVG_VECTORS_MAX where doorbells are vectors (channels may share them); local: 0 */
        uint32_t vm_id;
        const char *vm_name; /* printable, shorter than IVG_VM_NAME_BYTES; NULL: empty */
        uint64_t call_table_fingerprint;
};
/* Host: makes a memfd sealed against shrink, grow and further seals, formats it, stores the magic last. Every host
 * channel word starts as FREE of generation 1. The caller owns *memfd. */
int ivg_region_create(const struct ivg_region_config *config, int *memfd, struct ivg_error *error);

/* Checks a region page completely: magic, version, fingerprint (both values named in the message), power of two, every
 * begin and end, overlap, alignment, caps, constants; `file_bytes` is what the descriptor or BAR really has. Copies
 * each word once. -EAGAIN: no magic yet. -EPROTO: another layout or table version. -EINVAL: impossible geometry. */
int ivg_region_check(const struct ivg_region_page *page, uint64_t file_bytes, uint64_t call_table_fingerprint,
                     struct ivg_region *out, struct ivg_error *error);

/* The same for a memfd or BAR file: takes its real size and maps its first page for the check. */
int ivg_region_check_fd(int fd, uint64_t call_table_fingerprint, struct ivg_region *out, struct ivg_error *error);

enum ivg_region_side { IVG_SIDE_GUEST, IVG_SIDE_HOST_MEDIATOR, IVG_SIDE_HOST_EXECUTOR, IVG_SIDE_GUEST_BY_DRIVER };
/* Maps everything below the arena from `fd` (memfd, BAR file, or a vfio device) after ivg_region_check. The other
 * side's pages are read-only: a guest process maps region and host pages, and the host part of channel `channel`,
 * read-only, and other channels not at all; an executor maps its own channel only and guest-written pages read-only,
 * except for its ring's guest part, which ivg_consumer_open() formats: call ivg_region_seal_guest_part() right after;
 * the mediator maps all channels, guest-written parts read-only; a guest process whose kernel has our driver maps the
 * guest pages not at all. IVG_CHANNEL_NONE (guest, executor): no channel yet. -errno with words, and nothing is mapped.
 */
#define IVG_CHANNEL_NONE UINT32_MAX
int ivg_region_map(struct ivg_region *region, int fd, enum ivg_region_side side, uint32_t channel,
                   struct ivg_error *error);
/* Adds one more channel to a mapped region. */
int ivg_region_map_channel(const struct ivg_region *region, int fd, enum ivg_region_side side, uint32_t channel,
                           struct ivg_error *error);
/* Makes a channel's guest part read-only in this process, but for the ring's slots, which take answers: from then on a
 * stray write of the executor to any other word of it faults. */
int ivg_region_seal_guest_part(const struct ivg_region *region, uint32_t channel);
/* All but the arena; what was checked stays. An unmapped region is left alone. */
void ivg_region_unmap(struct ivg_region *region);

/* Maps the whole arena read-write at exactly `address`, replacing nothing. -EEXIST: the address is not to be had, try
 * the next candidate. Undone by munmap(address, arena_bytes). */
int ivg_region_map_arena(const struct ivg_region *region, int fd, void *address);
/* A candidate address for the arena window, `attempt` < IVG_WINDOW_ATTEMPTS_MAX, spread so that a process rarely
 * collides with its own mappings; aligned to 1 GiB; candidates do not overlap. The same for every process. */
#define IVG_WINDOW_ATTEMPTS_MAX 16u
void *ivg_region_window_candidate(const struct ivg_region *region, uint32_t attempt);

/* Where things lie (region must be mapped; channel < channel_count). */
struct ivg_guest_pages *ivg_region_guest_pages(const struct ivg_region *region);
struct ivg_host_pages *ivg_region_host_pages(const struct ivg_region *region);
struct ivg_ring_guest_part *ivg_region_ring_guest(const struct ivg_region *region, uint32_t channel);
struct ivg_ring_host_part *ivg_region_ring_host(const struct ivg_region *region, uint32_t channel);
_Atomic(uint64_t) *ivg_region_completions(const struct ivg_region *region, uint32_t channel);
/* IVG_ANSWER_AREA_BYTES of one producer line. */
uint8_t *ivg_region_answer_area(const struct ivg_region *region, uint32_t channel, uint32_t producer);

/* True when [offset, offset + bytes), counted from the arena's start, lies in the arena and every extent it touches is
 * owned by `channel` (one load of each owner word). The overflow-safe form; bytes may be 0. Callers: executor, hot
 * path. */
bool ivg_region_arena_owned(const struct ivg_region *region, uint32_t channel, uint64_t offset, uint64_t bytes);

#endif
