// SPDX-License-Identifier: GPL-2.0
/*
 * Struct pages that outlive their device. Nobody maps a page of a device that goes, but direct I/O into the arena may be
 * under way: pages that the kernel holds for a pipe or a disk. A struct page that vanished under it would be the end of
 * the kernel, and waiting for it could take for ever. So the device goes after a bounded wait, its pages stay until they
 * are let go, and as long as they do so does the module. What such I/O still reads or writes is nobody's memory.
 */
#include "ivg.h"
#include <linux/delay.h>
#include <linux/list.h>
#include <linux/module.h>

static unsigned int unplug_wait_ms = IVG_UNPLUG_WAIT_MS;
module_param(unplug_wait_ms, uint, 0644);
MODULE_PARM_DESC(unplug_wait_ms, "How long a device that goes waits for direct I/O into its memory");

/* Its own queue: destroying it waits for the last line of a work that has let go of the module. */
static struct workqueue_struct *kept_queue;
static LIST_HEAD(kept_devices);
static DEFINE_MUTEX(kept_lock);

int ivg_kept_init(void)
{
	kept_queue = alloc_workqueue("ivgpu-kept", WQ_UNBOUND, 1);
	return kept_queue ? 0 : -ENOMEM;
}

void ivg_kept_exit(void)
{
	destroy_workqueue(kept_queue);
}

bool ivg_kept_overlaps(u64 start, u64 end)
{
	struct ivg_device *device;
	bool overlaps = false;

	mutex_lock(&kept_lock);
	list_for_each_entry(device, &kept_devices, kept)
		overlaps |= start <= device->kept_end && device->kept_start <= end;
	mutex_unlock(&kept_lock);
	return overlaps;
}

static u32 held_pages(struct ivg_device *device)
{
	return ivg_region_held_pages(device, 0, device->region.bytes);
}

static void kept_look(struct work_struct *work)
{
	struct ivg_device *device = container_of(to_delayed_work(work), struct ivg_device, kept_look);

	if (held_pages(device) != 0) {
		queue_delayed_work(kept_queue, &device->kept_look, msecs_to_jiffies(IVG_KEPT_LOOK_MS));
		return;
	}
	ivg_region_unmap(device);
	mutex_lock(&kept_lock);
	list_del(&device->kept);
	mutex_unlock(&kept_lock);
	pr_info(IVG_NAME ": %s: its pages have been let go\n", dev_name(&device->dev));
	put_device(&device->dev);
	module_put(THIS_MODULE);
}

static void keep(struct ivg_device *device, u32 held)
{
	pr_warn(IVG_NAME ": %s: direct I/O holds %u pages after %u ms: they are kept until the processes that use it end\n",
		dev_name(&device->dev), held, unplug_wait_ms);
	__module_get(THIS_MODULE);
	get_device(&device->dev);
	INIT_DELAYED_WORK(&device->kept_look, kept_look);
	device->kept_start = device->pagemap.range.start;
	device->kept_end = device->pagemap.range.end;
	mutex_lock(&kept_lock);
	list_add(&device->kept, &kept_devices);
	mutex_unlock(&kept_lock);
	queue_delayed_work(kept_queue, &device->kept_look, msecs_to_jiffies(IVG_KEPT_LOOK_MS));
}

void ivg_region_give_up(struct ivg_device *device)
{
	const unsigned long deadline = jiffies + msecs_to_jiffies(unplug_wait_ms);
	unsigned int step_ms = 1;
	u32 held;

	while ((held = held_pages(device)) != 0 && time_before(jiffies, deadline)) {
		msleep(step_ms);
		step_ms = min(step_ms * 2, 100u);
	}
	if (held == 0)
		ivg_region_unmap(device);
	else
		keep(device, held);
}
