// SPDX-License-Identifier: GPL-2.0
/*
 * Who owns which extent of the arena. The table here decides; the owner words in the guest pages, which the executor
 * checks, follow it and no process can write them.
 *
 * Two things must not follow an extent to its next owner. Data: it is cleared when another process claims it. Reach: the
 * first owner's executor may still be copying, so a released extent stays with its channel until the host has ended that
 * executor; and pages that the kernel holds for direct I/O keep the extent out of use until they are let go.
 */
#include "ivg.h"
#include <linux/bitmap.h>
#include <linux/mm.h>
#include <linux/sched/signal.h>

static u64 extent_offset(const struct ivg_device *device, u32 index)
{
	return device->region.arena_offset + (u64)index * IVG_EXTENT_BYTES;
}

static void owner_store(struct ivg_device *device, u32 index, u32 owner)
{
	/* E3, release: a record that names the extent comes later through the ring (P4), and finds it cleared. */
	smp_store_release(&device->guest->extent_owner[index], owner);
}

static bool extent_is_to_be_had(struct ivg_device *device, u32 index, u32 channel)
{
	struct ivg_extent *extent = &device->extents[index];

	if (extent->state == IVG_EXTENT_PINNED &&
	    ivg_region_held_pages(device, extent_offset(device, index), IVG_EXTENT_BYTES) == 0) {
		extent->state = IVG_EXTENT_FREE;
		device->extents_pinned--;
	}
	return extent->state == IVG_EXTENT_FREE || (extent->state == IVG_EXTENT_KEPT && extent->channel == channel);
}

static bool run_find(struct ivg_device *device, u32 channel, u32 count, u32 *first)
{
	u32 length = 0, i;

	for (i = 0; i < device->region.extent_count; i++) {
		length = extent_is_to_be_had(device, i, channel) ? length + 1 : 0;
		if (length == count) {
			*first = i + 1 - count;
			return true;
		}
	}
	return false;
}

/* CLEARING: taken, but shown to nobody yet. Sets `own` where the content is this process's already. */
static void run_take(struct ivg_device *device, u32 channel, u32 first, u32 count, unsigned long *own)
{
	u32 i;

	for (i = 0; i < count; i++) {
		struct ivg_extent *extent = &device->extents[first + i];

		if (extent->state == IVG_EXTENT_KEPT) {
			__set_bit(i, own);
			device->extents_kept--;
		}
		extent->state = IVG_EXTENT_CLEARING;
		extent->channel = (u8)channel;
	}
}

static void run_give_back(struct ivg_device *device, u32 first, u32 count, const unsigned long *own)
{
	u32 i;

	for (i = 0; i < count; i++) {
		const bool kept = test_bit(i, own);

		device->extents[first + i].state = kept ? IVG_EXTENT_KEPT : IVG_EXTENT_FREE;
		device->extents_kept += kept;
	}
}

static void run_show(struct ivg_device *device, struct ivg_channel *channel, u32 first, u32 count)
{
	u32 i;

	for (i = first; i < first + count; i++) {
		device->extents[i].state = IVG_EXTENT_CLAIMED;
		device->extents[i].used = true;
		owner_store(device, i, channel->index + 1);
	}
	channel->extents_claimed += count;
	device->extents_claimed += count;
}

/*
 * Zeroes where others' data may be; only we look at CLEARING extents. Takes no lock longer than one extent needs, so that a
 * kill or an unplug is not kept waiting.
 */
static int run_clear(struct ivg_device *device, u32 first, u32 count, const unsigned long *own)
{
	u32 i;

	for (i = 0; i < count; i++) {
		int rc = 0;

		if (test_bit(i, own) || !device->extents[first + i].used)
			continue;
		down_read(&device->memory_lock);
		if (READ_ONCE(device->gone))
			rc = -ENODEV;
		else if (fatal_signal_pending(current))
			rc = -EINTR;
		else
			ivg_region_clear(device, extent_offset(device, first + i), IVG_EXTENT_BYTES);
		up_read(&device->memory_lock);
		if (rc < 0)
			return rc;
		cond_resched();
	}
	return 0;
}

/* 0, or why this file may not claim now. */
static int file_errno(const struct ivg_file *file)
{
	if (!file->channel)
		return -ENODEV;
	return file->channel->state == IVG_CHANNEL_OPEN ? 0 : -ESHUTDOWN;
}

static int claim(struct ivg_file *file, u32 count, u32 *first, unsigned long *own)
{
	struct ivg_device *device = file->device;
	struct ivg_channel *channel;
	int rc;

	mutex_lock(&device->lock);
	rc = file_errno(file);
	if (rc == 0 && !run_find(device, file->index, count, first))
		rc = -ENOSPC;
	if (rc < 0) {
		mutex_unlock(&device->lock);
		return rc;
	}
	channel = file->channel;
	run_take(device, channel->index, *first, count, own);
	channel->claims_running++;
	mutex_unlock(&device->lock);

	rc = run_clear(device, *first, count, own);

	mutex_lock(&device->lock);
	channel->claims_running--; /* until here it could not become another's */
	if (rc == 0)
		rc = file_errno(file);
	if (rc == 0)
		run_show(device, channel, *first, count);
	else
		run_give_back(device, *first, count, own);
	ivg_channel_drain(device, channel);
	mutex_unlock(&device->lock);
	return rc;
}

int ivg_extents_claim(struct ivg_file *file, u32 count, u32 *first)
{
	unsigned long *own;
	int rc;

	if (count == 0)
		return -EINVAL;
	if (count > file->device->region.extent_count)
		return -ENOSPC;
	own = bitmap_zalloc(count, GFP_KERNEL);
	if (!own)
		return -ENOMEM;
	rc = claim(file, count, first, own);
	bitmap_free(own);
	return rc;
}

/* ---- back ---- */

static void run_keep(struct ivg_device *device, struct ivg_channel *channel, u32 first, u32 count)
{
	u32 i;

	for (i = first; i < first + count; i++) {
		owner_store(device, i, 0);
		device->extents[i].state = IVG_EXTENT_KEPT;
	}
	channel->extents_claimed -= count;
	device->extents_claimed -= count;
	device->extents_kept += count;
}

static bool extent_is_claimed_by(const struct ivg_device *device, u32 index, u32 channel)
{
	return device->extents[index].state == IVG_EXTENT_CLAIMED && device->extents[index].channel == channel;
}

int ivg_extents_release(struct ivg_file *file, u32 first, u32 count)
{
	struct ivg_device *device = file->device;
	int rc = 0;
	u32 i;

	if (count == 0 || count > device->region.extent_count || first > device->region.extent_count - count)
		return -EINVAL;
	mutex_lock(&device->lock);
	if (!file->channel)
		rc = -ENODEV;
	for (i = first; rc == 0 && i < first + count; i++) {
		if (!extent_is_claimed_by(device, i, file->index))
			rc = -ENXIO;
	}
	if (rc == 0) {
		run_keep(device, file->channel, first, count);
		unmap_mapping_range(file->mapping, extent_offset(device, first), (u64)count * IVG_EXTENT_BYTES, 1);
	}
	mutex_unlock(&device->lock);
	return rc;
}

void ivg_extents_abandon(struct ivg_device *device, struct ivg_file *file)
{
	struct ivg_channel *channel = &device->channels[file->index];
	u32 i = 0;

	while (i < device->region.extent_count && channel->extents_claimed != 0) {
		u32 length = 0;

		while (i + length < device->region.extent_count && extent_is_claimed_by(device, i + length, file->index))
			length++;
		if (length != 0) {
			run_keep(device, channel, i, length);
			unmap_mapping_range(file->mapping, extent_offset(device, i), (u64)length * IVG_EXTENT_BYTES, 1);
		}
		i += length + 1;
	}
}

void ivg_extents_free(struct ivg_device *device, u32 channel)
{
	u32 i;

	for (i = 0; i < device->region.extent_count; i++) {
		struct ivg_extent *extent = &device->extents[i];

		if (extent->state != IVG_EXTENT_KEPT || extent->channel != channel)
			continue;
		device->extents_kept--;
		extent->state = IVG_EXTENT_FREE;
		if (ivg_region_held_pages(device, extent_offset(device, i), IVG_EXTENT_BYTES) != 0) {
			extent->state = IVG_EXTENT_PINNED;
			device->extents_pinned++;
		}
	}
}
