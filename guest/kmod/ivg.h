/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Inside the driver: its objects, who guards what, and how its files use each other.
 *
 *   ivg_pci.c ──┬─ ivg_region.c    is this region ours and sound; its memory
 *               ├─ ivg_file.c ──┬─ ivg_channel.c   a channel's life
 *               │               ├─ ivg_extent.c    who owns which part of the arena
 *               │               └─ ivg_map.c       what a process may map
 *               ├─ ivg_kept.c      struct pages that outlive their device
 *               └─ ivg_sysfs.c     what an administrator may see
 *
 * Locks, outermost first:
 *   mmap_lock               the kernel's; held by our callers in fault, mmap and close of a mapping
 *   device->memory_lock     (rw) read: device memory is touched without device->lock; write: it is about to go
 *   device->lock            (mutex) channels, extents, files' links to them; every access to the region's words.
 *                           Never held while user memory is copied: a fault on our own mapping takes it
 *   vector->lock            (spin, irq) channel->file as the interrupt handler sees it, and that file's eventfd
 * The doorbell register is used under rcu_read_lock() after a look at device->gone.
 *
 * A file outlives its channel (a forked child may hold it), its device outlives the PCI device (an open file holds it).
 */
#ifndef IVG_H
#define IVG_H

#include "ivg_layout.h"
#include <linux/cdev.h>
#include <linux/device.h>
#include <linux/fs.h>
#include <linux/interrupt.h>
#include <linux/memremap.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/rwsem.h>
#include <linux/spinlock.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

#define IVG_NAME "ivgpu"
#define IVG_DEVICES_MAX 16
/* How long open() waits for the host to see a new boot, or to end an earlier owner's executor. */
#define IVG_OPEN_WAIT_MS 8000
/* Draining channels are looked at by interrupt; a lost one costs this, growing to the second. */
#define IVG_REAP_FIRST_MS 50
#define IVG_REAP_LAST_MS 2000
/*
 * How long a device that goes waits for direct I/O into its pages (parameter unplug_wait_ms), and how often pages that are
 * kept beyond that are looked at.
 */
#define IVG_UNPLUG_WAIT_MS 5000
#define IVG_KEPT_LOOK_MS 500

#define IVG_DOORBELL_REGISTER 12
#define IVG_CONTROL_VECTOR 0u
#define IVG_EXTENT_PAGES (IVG_EXTENT_BYTES / PAGE_SIZE)

struct ivg_device;

/* What the region page said, checked. */
struct ivg_region {
	u64 bytes;
	u64 guest_offset, guest_bytes;
	u64 host_offset, host_bytes;
	u64 channels_offset, channel_stride;
	u64 arena_offset, arena_bytes;
	u32 channel_count, extent_count, vector_count, doorbell_peer, vm_id;
	char vm_name[IVG_VM_NAME_BYTES];
};

/*
 * FREE ── open ──> OPEN ── ioctl, last ring mapping gone ──> CLOSED
 *  ^                 └─────── owner dead, released ────────┐   │
 *  └── host: FREE, later generation ── DRAINING <──────────┴───┘
 * OPEN and CLOSED have a file; DRAINING has none, its memory is reachable for nobody.
 */
enum ivg_channel_state { IVG_CHANNEL_FREE, IVG_CHANNEL_OPEN, IVG_CHANNEL_CLOSED, IVG_CHANNEL_DRAINING };

struct ivg_channel {
	u32 index;
	u32 generation;
	enum ivg_channel_state state; /* the interrupt handler reads it too */
	struct ivg_file *file;
	u32 extents_claimed;
	u32 claims_running; /* claims whose extents are being cleared, without device->lock */
	bool used;          /* its memory holds an earlier owner's data */
	pid_t pid;
	char program[TASK_COMM_LEN];
	u64 state_seen, interrupts_seen; /* the host's words, as the interrupt handler last saw them; its lock */
};

enum ivg_extent_state {
	IVG_EXTENT_FREE,
	IVG_EXTENT_CLEARING, /* claimed, not shown to anybody yet */
	IVG_EXTENT_CLAIMED,
	IVG_EXTENT_KEPT,   /* given back; only the same channel may have it until its executor is gone */
	IVG_EXTENT_PINNED, /* no owner, but the kernel still holds pages of it for somebody's I/O */
};

struct ivg_extent {
	u8 state;
	u8 channel; /* CLEARING, CLAIMED, KEPT */
	bool used;  /* holds data of some owner */
};

struct ivg_vector {
	struct ivg_device *device;
	u32 index;
	int irq; /* 0: none */
	spinlock_t lock;
	u64 interrupts;
	char name[24];
};

struct ivg_device {
	struct device dev;
	struct cdev cdev;
	struct pci_dev *pdev;
	void __iomem *registers;
	struct ivg_region region;
	struct page *pages; /* of the whole BAR 2 */
	struct ivg_guest_pages *guest;
	const struct ivg_host_pages *host;
	struct page *blank; /* what a read-only mapping shows once the device is gone */
	u64 boot_epoch;
	u32 copy_mib_per_s;

	struct rw_semaphore memory_lock;
	struct mutex lock;
	bool gone; /* under lock to set; sticky */
	bool epoch_seen;
	struct ivg_channel channels[IVG_CHANNELS_MAX];
	struct ivg_extent *extents;
	u32 extents_claimed, extents_kept, extents_pinned;

	wait_queue_head_t channel_freed;
	atomic_t channel_frees;
	struct delayed_work reap;
	unsigned int reap_ms;

	struct list_head kept; /* gone, its struct pages not: see ivg_kept.c */
	struct delayed_work kept_look;
	u64 kept_start, kept_end;

	struct ivg_vector *vectors; /* region.vector_count */
	u32 vectors_usable;	    /* the first ones of them; channels share those, and the host is told */

	struct dev_pagemap pagemap; /* ends in a flexible array */
};

struct ivg_file {
	struct ivg_device *device;
	struct ivg_channel *channel; /* NULL once detached; device->lock */
	u32 index, generation;       /* of that channel, also afterwards */
	struct pid *owner;
	struct address_space *mapping;
	struct page *blank; /* what a writable mapping shows once the channel is gone */
	bool gone;
	bool ring_mapped; /* at least once */
	u32 ring_mappings, arena_mappings;
	wait_queue_head_t wait;
	atomic64_t interrupts;
	struct eventfd_ctx *eventfd;
};

static inline u32 ivg_channel_vector(const struct ivg_device *device, u32 channel)
{
	return 1 + channel % (device->vectors_usable - 1);
}

static inline bool ivg_channel_has_interrupts(const struct ivg_device *device, u32 channel)
{
	return device->vectors[ivg_channel_vector(device, channel)].irq != 0;
}

static inline u64 ivg_channel_offset(const struct ivg_device *device, u32 channel)
{
	return device->region.channels_offset + channel * device->region.channel_stride;
}

/* ---- ivg_region.c ---- */

/* Copies the region page out of BAR 2 once and checks it completely. -ENODEV: not ours; others are told in words. */
int ivg_region_read(struct pci_dev *pdev, struct ivg_region *region);
int ivg_region_map(struct ivg_device *device);
void ivg_region_unmap(struct ivg_device *device);
/* Fills with zeroes. Callers hold memory_lock or lock, and the device is not gone. */
void ivg_region_clear(struct ivg_device *device, u64 offset, u64 bytes);
/* Pages of the range that somebody beside us holds (direct I/O under way). */
u32 ivg_region_held_pages(struct ivg_device *device, u64 offset, u64 bytes);
void ivg_region_measure(struct ivg_device *device);

/* ---- ivg_channel.c: callers hold device->lock ---- */

/* -EBUSY: all have living owners. -EAGAIN: some are draining. */
int ivg_channel_claim(struct ivg_file *file);
void ivg_channel_close(struct ivg_device *device, struct ivg_channel *channel);
/* The owner is dead, has let go, or the device goes: takes every mapping away and the channel from the file. */
void ivg_file_detach(struct ivg_file *file);
/* Frees a draining channel if the host is done with it. */
void ivg_channel_drain(struct ivg_device *device, struct ivg_channel *channel);
void ivg_channels_reap(struct work_struct *work); /* takes the lock itself */
/* New boot epoch: everything that an earlier one left is void. */
void ivg_epoch_begin(struct ivg_device *device);
bool ivg_epoch_is_seen(struct ivg_device *device);

/* ---- ivg_extent.c ---- */

int ivg_extents_claim(struct ivg_file *file, u32 count, u32 *first);    /* takes the locks itself */
int ivg_extents_release(struct ivg_file *file, u32 first, u32 count);   /* takes the locks itself */
void ivg_extents_abandon(struct ivg_device *device, struct ivg_file *file); /* all of its channel, KEPT; lock held */
void ivg_extents_free(struct ivg_device *device, u32 channel);          /* KEPT ones for everybody; lock held */

/* ---- ivg_map.c ---- */

int ivg_mmap(struct file *filp, struct vm_area_struct *vma);

/* ---- ivg_file.c ---- */

extern const struct file_operations ivg_file_operations;
/* True for the process that opened the file. */
bool ivg_file_is_own(const struct ivg_file *file);
void ivg_file_wake(struct ivg_file *file);

/* ---- ivg_pci.c ---- */

/* Rings the host's peer; nothing when the device is gone. Any context that may not sleep, too. */
void ivg_doorbell(struct ivg_device *device, u32 vector);

/* ---- ivg_kept.c ---- */

int ivg_kept_init(void);
void ivg_kept_exit(void);
/* True where an earlier device's pages are still held: BAR 2 cannot have pages now. */
bool ivg_kept_overlaps(u64 start, u64 end);
/* Unmaps the region now, or when the direct I/O into it has ended, if that takes longer than unplug_wait_ms. */
void ivg_region_give_up(struct ivg_device *device);

/* ---- ivg_sysfs.c ---- */

extern const struct attribute_group *ivg_attribute_groups[];

#endif
