// SPDX-License-Identifier: GPL-2.0
/*
 * What a process may map: offsets of a mapping are offsets of the region.
 *
 * Pages are inserted by the fault handler under device->lock, which is also held where they are taken away: after a
 * detach or a release no fault can bring them back. One fault fills its whole 2 MiB, so that an extent costs one.
 */
#include "ivg.h"
#include "ivg_compat.h"
#include <linux/mm.h>

#define PAGES_PER_BATCH 64

enum part { PART_REGION_PAGE, PART_HOST_PAGES, PART_RING, PART_CHANNEL_HOST, PART_ARENA };

static struct ivg_file *vma_file(const struct vm_area_struct *vma)
{
	return vma->vm_file->private_data;
}

static enum part vma_part(const struct vm_area_struct *vma)
{
	return (enum part)(uintptr_t)vma->vm_private_data;
}

/* ---- mappings come and go ---- */

static void mappings_count(const struct vm_area_struct *vma, int change)
{
	struct ivg_file *file = vma_file(vma);

	if (vma_part(vma) == PART_RING)
		file->ring_mappings += change;
	else if (vma_part(vma) == PART_ARENA)
		file->arena_mappings += change;
}

/* A part of a mapping that is cut in two, or moved. */
static void vma_open(struct vm_area_struct *vma)
{
	struct ivg_device *device = vma_file(vma)->device;

	mutex_lock(&device->lock);
	mappings_count(vma, 1);
	mutex_unlock(&device->lock);
}

/*
 * Also when the process ends, whatever else still holds its descriptors: without its ring it can have no more calls, and
 * without its extents it has nothing left that anybody could reach.
 */
static void vma_close(struct vm_area_struct *vma)
{
	struct ivg_file *file = vma_file(vma);
	struct ivg_device *device = file->device;

	mutex_lock(&device->lock);
	mappings_count(vma, -1);
	if (file->channel && file->ring_mapped && file->ring_mappings == 0) {
		ivg_channel_close(device, file->channel);
		if (file->arena_mappings == 0)
			ivg_file_detach(file);
	}
	mutex_unlock(&device->lock);
}

/* ---- faults ---- */

static vm_fault_t insert_blank(struct vm_area_struct *vma, unsigned long address, struct ivg_file *file)
{
	struct page *page = vma->vm_flags & VM_WRITE ? file->blank : file->device->blank;
	const int rc = vm_insert_page(vma, address, page);

	if (rc == 0 || rc == -EBUSY) /* another thread's fault was first */
		return VM_FAULT_NOPAGE;
	return rc == -ENOMEM ? VM_FAULT_OOM : VM_FAULT_SIGBUS;
}

/* Pages [first, first + count) of the region at `address`; those that are there already stay. */
static int insert_pages(struct vm_area_struct *vma, unsigned long address, struct page *first, unsigned long count)
{
	struct page *batch[PAGES_PER_BATCH];
	unsigned long done = 0;

	while (done < count) {
		const unsigned long wanted = min(count - done, (unsigned long)PAGES_PER_BATCH);
		unsigned long left = wanted, i;
		int rc;

		for (i = 0; i < wanted; i++)
			batch[i] = first + done + i;
		rc = vm_insert_pages(vma, address + done * PAGE_SIZE, batch, &left);
		if (rc < 0 && rc != -EBUSY)
			return rc;
		done += wanted - left;
		if (rc == -EBUSY)
			done++;
	}
	return 0;
}

static vm_fault_t insert_around(struct vm_area_struct *vma, unsigned long address, u64 offset)
{
	struct ivg_file *file = vma_file(vma);
	const u64 vma_begin = (u64)vma->vm_pgoff << PAGE_SHIFT;
	const u64 vma_end = vma_begin + (vma->vm_end - vma->vm_start);
	const u64 block = round_down(offset, (u64)IVG_EXTENT_BYTES);
	const u64 begin = max(block, vma_begin);
	const u64 end = min(block + IVG_EXTENT_BYTES, vma_end);
	const int rc = insert_pages(vma, address - (unsigned long)(offset - begin),
				    file->device->pages + (begin >> PAGE_SHIFT), (end - begin) >> PAGE_SHIFT);

	if (rc == 0)
		return VM_FAULT_NOPAGE;
	return rc == -ENOMEM ? VM_FAULT_OOM : VM_FAULT_SIGBUS;
}

static bool arena_is_own(const struct ivg_file *file, u64 offset)
{
	const struct ivg_device *device = file->device;
	const struct ivg_extent *extent = &device->extents[(offset - device->region.arena_offset) / IVG_EXTENT_BYTES];

	return extent->state == IVG_EXTENT_CLAIMED && extent->channel == file->index;
}

static vm_fault_t vma_fault(struct vm_fault *vmf)
{
	struct vm_area_struct *vma = vmf->vma;
	struct ivg_file *file = vma_file(vma);
	const unsigned long address = vmf->address & PAGE_MASK;
	const u64 offset = (u64)vmf->pgoff << PAGE_SHIFT;
	vm_fault_t result;

	mutex_lock(&file->device->lock);
	if (!file->channel)
		result = insert_blank(vma, address, file);
	else if (vma_part(vma) == PART_ARENA && !arena_is_own(file, offset))
		result = VM_FAULT_SIGBUS;
	else
		result = insert_around(vma, address, offset);
	mutex_unlock(&file->device->lock);
	return result;
}

static const struct vm_operations_struct vma_operations = {
	.open = vma_open,
	.close = vma_close,
	.fault = vma_fault,
};

/* ---- mmap ---- */

static bool lies_in(u64 offset, u64 bytes, u64 part_offset, u64 part_bytes)
{
	return offset >= part_offset && bytes <= part_bytes && offset - part_offset <= part_bytes - bytes;
}

static int part_find(const struct ivg_file *file, u64 offset, u64 bytes, enum part *part, bool *writable)
{
	const struct ivg_region *region = &file->device->region;
	const u64 channel = ivg_channel_offset(file->device, file->index);
	const struct {
		u64 offset, bytes;
		bool writable;
	} parts[] = {
		[PART_REGION_PAGE] = { 0, IVG_PAGE_BYTES, false },
		[PART_HOST_PAGES] = { region->host_offset, region->host_bytes, false },
		[PART_RING] = { channel + IVG_CHANNEL_RING_GUEST_OFFSET, IVG_CHANNEL_GUEST_BYTES, true },
		[PART_CHANNEL_HOST] = { channel + IVG_CHANNEL_RING_HOST_OFFSET, IVG_CHANNEL_HOST_BYTES, false },
		[PART_ARENA] = { region->arena_offset, region->arena_bytes, true },
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(parts); i++) {
		if (lies_in(offset, bytes, parts[i].offset, parts[i].bytes)) {
			*part = i;
			*writable = parts[i].writable;
			return 0;
		}
	}
	return -EACCES;
}

int ivg_mmap(struct file *filp, struct vm_area_struct *vma)
{
	struct ivg_file *file = filp->private_data;
	const u64 offset = (u64)vma->vm_pgoff << PAGE_SHIFT;
	bool writable;
	enum part part;
	int rc;

	if (!ivg_file_is_own(file))
		return -EPERM;
	if (!(vma->vm_flags & VM_SHARED) || vma->vm_flags & VM_EXEC)
		return -EINVAL;
	if (vma->vm_pgoff > U64_MAX >> PAGE_SHIFT)
		return -EINVAL;
	rc = part_find(file, offset, vma->vm_end - vma->vm_start, &part, &writable);
	if (rc < 0)
		return rc;
	if (vma->vm_flags & VM_WRITE && !writable)
		return -EACCES;

	mutex_lock(&file->device->lock);
	if (!file->channel)
		rc = -ENODEV;
	else if (file->channel->state != IVG_CHANNEL_OPEN)
		rc = -ESHUTDOWN;
	if (rc == 0) {
		vma->vm_ops = &vma_operations;
		vma->vm_private_data = (void *)(uintptr_t)part;
		/* MIXEDMAP: pages by vm_insert_page. The arena allows direct I/O, what is not data does not (VM_IO). */
		ivg_vma_flags_change(vma,
				     VM_MIXEDMAP | VM_DONTEXPAND | VM_DONTCOPY | VM_DONTDUMP |
					     (part == PART_ARENA ? 0 : VM_IO),
				     VM_MAYEXEC | (writable ? 0 : VM_MAYWRITE));
		file->ring_mapped |= part == PART_RING;
		mappings_count(vma, 1);
	}
	mutex_unlock(&file->device->lock);
	return rc;
}
