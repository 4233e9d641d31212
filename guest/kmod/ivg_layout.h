/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The region as the kernel sees it: the same layout as ivshmem-glue/include/ivgpu/region_layout.h, in kernel types.
 * tests/unit/kmod_layout_is_the_regions.c compares every offset and number of both.
 */
#ifndef IVG_LAYOUT_H
#define IVG_LAYOUT_H

#include <linux/types.h>

#define IVG_REGION_MAGIC 0x3130555047564901ull
#define IVG_LAYOUT_VERSION 2u
#define IVG_PAGE_BYTES 4096u
#define IVG_EXTENT_BYTES (2u << 20)
#define IVG_CHANNELS_MAX 64u
#define IVG_VECTORS_MAX 128u
#define IVG_REGION_BYTES_MIN (16ull << 20)
#define IVG_REGION_BYTES_MAX (64ull << 30)
#define IVG_VM_NAME_BYTES 32u

#define IVG_RING_SLOTS 4096u
#define IVG_RING_PRODUCERS 128u
#define IVG_ANSWER_AREA_BYTES 8192u
#define IVG_COMPLETION_WORDS 4096u

#define IVG_CHANNEL_RING_GUEST_OFFSET 0u
#define IVG_CHANNEL_GUEST_BYTES 282624u
#define IVG_CHANNEL_RING_HOST_OFFSET (512u << 10)
#define IVG_CHANNEL_HOST_BYTES 1097728u
#define IVG_CHANNEL_STRIDE (2u << 20)

struct ivg_region_page {
	__u64 magic;
	__u32 layout_version;
	__u32 page_bytes_used;
	__u64 region_bytes;
	__u64 call_table_fingerprint;
	__u64 host_instance;
	__u32 doorbell_peer;
	__u32 vector_count;
	__u32 channel_count;
	__u32 vm_id;
	__u64 guest_pages_offset, guest_pages_bytes;
	__u64 host_pages_offset, host_pages_bytes;
	__u64 channels_offset, channel_stride;
	__u64 arena_offset, arena_bytes;
	__u32 ring_slots, ring_producers, answer_area_bytes, completion_words;
	char vm_name[IVG_VM_NAME_BYTES];
};

/* State words: (generation << 32) | state; see the table in region_layout.h. */
#define IVG_GUEST_FREE 0u
#define IVG_GUEST_OPEN 1u
#define IVG_GUEST_CLOSED 2u
#define IVG_HOST_FREE 0u
#define IVG_HOST_STARTING 1u
#define IVG_HOST_READY 2u
#define IVG_HOST_FAILED 3u
#define IVG_HOST_DEAD 4u

struct ivg_guest_channel {
	__u64 state;
	__u32 pid;
	__u32 reserved0;
	char program[32];
	__u64 reserved1[2];
};

struct ivg_guest_pages {
	__u64 boot_epoch;
	__u32 vectors_used; /* stored before the epoch; 0: all */
	__u32 pad0[29];
	struct ivg_guest_channel channels[IVG_CHANNELS_MAX];
	__u8 pad1[IVG_PAGE_BYTES - (128 + IVG_CHANNELS_MAX * 64) % IVG_PAGE_BYTES];
	__u32 extent_owner[];
};

struct ivg_host_channel {
	__u64 state;
	__u32 reason;
	__u32 executor_pid;
	__u64 counters0[3];
	__u64 interrupts; /* counted before each interrupt */
	__u64 counters1[10];
};

#define IVG_SHOWN_DEVICES_MAX 16u

struct ivg_host_pages {
	__u64 heartbeat;
	__u64 epoch_seen;
	__u64 silence_ms;
	__u64 pad0[13];
	struct ivg_host_channel channels[IVG_CHANNELS_MAX];
	__u64 device_bytes[IVG_CHANNELS_MAX][IVG_SHOWN_DEVICES_MAX];
};

#define IVG_HEARTBEAT_MS 100u

static inline __u64 ivg_word(__u32 generation, __u32 state)
{
	return (__u64)generation << 32 | state;
}

static inline __u32 ivg_word_generation(__u64 word)
{
	return (__u32)(word >> 32);
}

static inline __u32 ivg_word_state(__u64 word)
{
	return (__u32)word;
}

#endif
