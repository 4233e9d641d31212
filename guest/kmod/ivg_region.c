// SPDX-License-Identifier: GPL-2.0
/*
 * The region: its one complete check, its memory as the kernel sees it, clearing and measuring.
 *
 * Struct pages for the whole BAR make user mappings write-back whatever the firmware's MTRRs say. The kernel's own linear
 * map does follow the MTRRs, so what is used often is mapped once more with vmap(), which does not look at them.
 */
#include "ivg.h"
#include <linux/ktime.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>
#include <asm/hypervisor.h>

#define MEASURED_BYTES SZ_2M
#define MEASURED_ROUNDS 4
#define SLOW_MIB_PER_S 1000

/* ---- check ---- */

static int check_identity(struct pci_dev *pdev, const struct ivg_region_page *page)
{
	u32 i;

	if (page->layout_version != IVG_LAYOUT_VERSION) {
		pci_err(pdev, "layout version %u, this driver knows %u\n", page->layout_version, IVG_LAYOUT_VERSION);
		return -EPROTO;
	}
	if (page->page_bytes_used < sizeof(*page) || page->page_bytes_used > IVG_PAGE_BYTES) {
		pci_err(pdev, "region page: %u bytes used, expected %zu..%u\n", page->page_bytes_used, sizeof(*page),
			IVG_PAGE_BYTES);
		return -EINVAL;
	}
	if (page->host_instance == 0) {
		pci_err(pdev, "host instance is 0\n");
		return -EINVAL;
	}
	for (i = 0; i < IVG_VM_NAME_BYTES && page->vm_name[i] != '\0'; i++) {
		if (page->vm_name[i] < ' ' || page->vm_name[i] > '~') {
			pci_err(pdev, "vm_name: byte 0x%02x at %u is not printable\n", (u8)page->vm_name[i], i);
			return -EINVAL;
		}
	}
	if (i == IVG_VM_NAME_BYTES) {
		pci_err(pdev, "vm_name: no NUL in %u bytes\n", IVG_VM_NAME_BYTES);
		return -EINVAL;
	}
	return 0;
}

static int check_counts(struct pci_dev *pdev, const struct ivg_region_page *page)
{
	const struct {
		const char *name;
		u32 value, low, high;
	} limits[] = {
		{ "channel_count", page->channel_count, 1, IVG_CHANNELS_MAX },
		{ "vector_count", page->vector_count, 2, IVG_VECTORS_MAX },
		{ "doorbell_peer", page->doorbell_peer, 0, U16_MAX },
		{ "ring_slots", page->ring_slots, IVG_RING_SLOTS, IVG_RING_SLOTS },
		{ "ring_producers", page->ring_producers, IVG_RING_PRODUCERS, IVG_RING_PRODUCERS },
		{ "answer_area_bytes", page->answer_area_bytes, IVG_ANSWER_AREA_BYTES, IVG_ANSWER_AREA_BYTES },
		{ "completion_words", page->completion_words, IVG_COMPLETION_WORDS, IVG_COMPLETION_WORDS },
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(limits); i++) {
		if (limits[i].value < limits[i].low || limits[i].value > limits[i].high) {
			pci_err(pdev, "%s %u outside %u..%u\n", limits[i].name, limits[i].value, limits[i].low,
				limits[i].high);
			return -EINVAL;
		}
	}
	return 0;
}

static int check_size(struct pci_dev *pdev, const struct ivg_region_page *page)
{
	const u64 bar_bytes = pci_resource_len(pdev, 2);
	const u64 bytes = page->region_bytes;

	if (bytes < IVG_REGION_BYTES_MIN || bytes > IVG_REGION_BYTES_MAX || (bytes & (bytes - 1)) != 0) {
		pci_err(pdev, "region_bytes %llu is not a power of two in %llu..%llu\n", bytes, IVG_REGION_BYTES_MIN,
			IVG_REGION_BYTES_MAX);
		return -EINVAL;
	}
	if (bytes != bar_bytes) {
		pci_err(pdev, "region_bytes %llu, but BAR 2 has %llu\n", bytes, bar_bytes);
		return -EINVAL;
	}
	if (page->channel_stride < IVG_CHANNEL_STRIDE || page->channel_stride % IVG_PAGE_BYTES != 0 ||
	    page->channel_stride > bytes / page->channel_count) {
		pci_err(pdev, "channel_stride %llu: below %u, not page aligned, or %u times it exceeds %llu\n",
			page->channel_stride, IVG_CHANNEL_STRIDE, page->channel_count, bytes);
		return -EINVAL;
	}
	return 0;
}

struct part {
	const char *name;
	u64 offset, bytes, bytes_min, align;
};

static int check_part(struct pci_dev *pdev, const struct part *part, u64 region_bytes)
{
	if (part->offset % part->align != 0 || part->bytes % part->align != 0 || part->bytes < part->bytes_min ||
	    part->bytes > region_bytes || part->offset > region_bytes - part->bytes) {
		pci_err(pdev, "%s [%llu, +%llu): not aligned to %llu, below %llu bytes, or outside %llu\n", part->name,
			part->offset, part->bytes, part->align, part->bytes_min, region_bytes);
		return -EINVAL;
	}
	return 0;
}

static int check_parts(struct pci_dev *pdev, const struct ivg_region_page *page)
{
	const u64 extents = page->arena_bytes / IVG_EXTENT_BYTES;
	const struct part parts[] = {
		/* The arena first: its size decides how large the guest pages must be. */
		{ "arena", page->arena_offset, page->arena_bytes, IVG_EXTENT_BYTES, IVG_EXTENT_BYTES },
		{ "guest pages", page->guest_pages_offset, page->guest_pages_bytes,
		  offsetof(struct ivg_guest_pages, extent_owner) + extents * sizeof(u32), IVG_PAGE_BYTES },
		{ "host pages", page->host_pages_offset, page->host_pages_bytes, sizeof(struct ivg_host_pages),
		  IVG_PAGE_BYTES },
		{ "channels", page->channels_offset, page->channel_count * page->channel_stride, IVG_CHANNEL_STRIDE,
		  IVG_PAGE_BYTES },
		{ "region page", 0, IVG_PAGE_BYTES, IVG_PAGE_BYTES, IVG_PAGE_BYTES },
	};
	size_t i, j;

	for (i = 0; i < ARRAY_SIZE(parts); i++) {
		const int rc = check_part(pdev, &parts[i], page->region_bytes);

		if (rc < 0)
			return rc;
	}
	/* Ends cannot overflow: every part has been bounded. */
	for (i = 0; i < ARRAY_SIZE(parts); i++) {
		if (parts[i].offset > page->arena_offset) {
			pci_err(pdev, "%s at %llu above the arena at %llu\n", parts[i].name, parts[i].offset,
				page->arena_offset);
			return -EINVAL;
		}
		for (j = i + 1; j < ARRAY_SIZE(parts); j++) {
			if (parts[i].offset < parts[j].offset + parts[j].bytes &&
			    parts[j].offset < parts[i].offset + parts[i].bytes) {
				pci_err(pdev, "%s at %llu overlaps %s at %llu\n", parts[i].name, parts[i].offset,
					parts[j].name, parts[j].offset);
				return -EINVAL;
			}
		}
	}
	return 0;
}

int ivg_region_read(struct pci_dev *pdev, struct ivg_region *region)
{
	void __iomem *base = pci_iomap_range(pdev, 2, 0, IVG_PAGE_BYTES);
	struct ivg_region_page page;
	int rc;

	if (!base)
		return -ENOMEM;
	/* The copy is what is checked and used. The host has stored the magic last, long before this guest ran. */
	memcpy_fromio(&page, base, sizeof(page));
	pci_iounmap(pdev, base);
	if (page.magic != IVG_REGION_MAGIC) {
		pci_dbg(pdev, "magic %016llx: somebody else's ivshmem device\n", page.magic);
		return -ENODEV;
	}
	rc = check_identity(pdev, &page);
	if (rc == 0)
		rc = check_counts(pdev, &page);
	if (rc == 0)
		rc = check_size(pdev, &page);
	if (rc == 0)
		rc = check_parts(pdev, &page);
	if (rc < 0)
		return rc;
	*region = (struct ivg_region){
		.bytes = page.region_bytes,
		.guest_offset = page.guest_pages_offset,
		.guest_bytes = page.guest_pages_bytes,
		.host_offset = page.host_pages_offset,
		.host_bytes = page.host_pages_bytes,
		.channels_offset = page.channels_offset,
		.channel_stride = page.channel_stride,
		.arena_offset = page.arena_offset,
		.arena_bytes = page.arena_bytes,
		.channel_count = page.channel_count,
		.extent_count = (u32)(page.arena_bytes / IVG_EXTENT_BYTES),
		.vector_count = page.vector_count,
		.doorbell_peer = page.doorbell_peer,
		.vm_id = page.vm_id,
	};
	memcpy(region->vm_name, page.vm_name, sizeof(region->vm_name));
	return 0;
}

/* ---- memory ---- */

static void *range_vmap(struct ivg_device *device, u64 offset, u64 bytes, pgprot_t protection)
{
	const unsigned long count = bytes >> PAGE_SHIFT;
	struct page *first = device->pages + (offset >> PAGE_SHIFT);
	struct page **pages = kvmalloc_array(count, sizeof(*pages), GFP_KERNEL);
	unsigned long i;
	void *address;

	if (!pages)
		return NULL;
	for (i = 0; i < count; i++)
		pages[i] = first + i;
	address = vmap(pages, count, VM_MAP, protection);
	kvfree(pages);
	return address;
}

int ivg_region_map(struct ivg_device *device)
{
	void *linear;

	BUILD_BUG_ON(PAGE_SIZE != IVG_PAGE_BYTES);
	BUILD_BUG_ON(offsetof(struct ivg_guest_pages, extent_owner) % IVG_PAGE_BYTES != 0);
	device->pagemap.type = MEMORY_DEVICE_GENERIC;
	device->pagemap.range.start = pci_resource_start(device->pdev, 2);
	device->pagemap.range.end = pci_resource_end(device->pdev, 2);
	device->pagemap.nr_range = 1;
	linear = memremap_pages(&device->pagemap, dev_to_node(&device->pdev->dev));
	if (IS_ERR(linear)) {
		pci_err(device->pdev, "struct pages for BAR 2 (%llu MiB, %llu MiB of them): error %ld\n",
			device->region.bytes >> 20, (device->region.bytes >> PAGE_SHIFT) * sizeof(struct page) >> 20,
			PTR_ERR(linear));
		return PTR_ERR(linear);
	}
	device->pages = virt_to_page(linear);
	device->guest = range_vmap(device, device->region.guest_offset, device->region.guest_bytes, PAGE_KERNEL);
	device->host = range_vmap(device, device->region.host_offset, device->region.host_bytes, PAGE_KERNEL_RO);
	if (!device->guest || !device->host) {
		ivg_region_unmap(device);
		return -ENOMEM;
	}
	return 0;
}

void ivg_region_unmap(struct ivg_device *device)
{
	vunmap(device->guest);
	vunmap((void *)device->host);
	device->guest = NULL;
	device->host = NULL;
	memunmap_pages(&device->pagemap);
	device->pages = NULL;
}

void ivg_region_clear(struct ivg_device *device, u64 offset, u64 bytes)
{
	void *address = range_vmap(device, offset, bytes, PAGE_KERNEL);

	/* Without memory for a mapping the linear one serves, perhaps uncached: slower, as right. */
	memset(address ? address : page_address(device->pages + (offset >> PAGE_SHIFT)), 0, bytes);
	vunmap(address);
}

u32 ivg_region_held_pages(struct ivg_device *device, u64 offset, u64 bytes)
{
	struct page *first = device->pages + (offset >> PAGE_SHIFT);
	const unsigned long count = bytes >> PAGE_SHIFT;
	unsigned long i;
	u32 held = 0;

	/* One reference is the device's own. */
	for (i = 0; i < count; i++)
		held += page_count(first + i) > 1;
	return held;
}

void ivg_region_measure(struct ivg_device *device)
{
	void *from = range_vmap(device, device->region.arena_offset, MEASURED_BYTES, PAGE_KERNEL_RO);
	void *to = kvmalloc(MEASURED_BYTES, GFP_KERNEL);
	u64 best_ns = U64_MAX;
	int round;

	if (from && to) {
		for (round = 0; round < MEASURED_ROUNDS; round++) {
			const u64 begin_ns = ktime_get_ns();

			memcpy(to, from, MEASURED_BYTES);
			best_ns = min(best_ns, max(ktime_get_ns() - begin_ns, 1ull));
			cond_resched();
		}
		device->copy_mib_per_s = (u32)min(div64_u64((u64)(MEASURED_BYTES >> 20) * NSEC_PER_SEC, best_ns),
						  (u64)U32_MAX);
		if (device->copy_mib_per_s < SLOW_MIB_PER_S && hypervisor_is_type(X86_HYPER_KVM))
			pci_warn(device->pdev, "copies from the region at %u MiB/s: is it mapped uncached?\n",
				 device->copy_mib_per_s);
	}
	kvfree(to);
	vunmap(from);
}
