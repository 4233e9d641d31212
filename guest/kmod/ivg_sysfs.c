// SPDX-License-Identifier: GPL-2.0
/* /sys/class/ivgpu/ivgpuN: what an administrator may see. One value per file, but for the table of channels. */
#include "ivg.h"
#include <linux/mm.h>

static struct ivg_device *to_ivg(struct device *dev)
{
	return container_of(dev, struct ivg_device, dev);
}

static ssize_t vm_name_show(struct device *dev, struct device_attribute *attribute, char *text)
{
	return sysfs_emit(text, "%s\n", to_ivg(dev)->region.vm_name);
}
static DEVICE_ATTR_RO(vm_name);

static ssize_t boot_epoch_show(struct device *dev, struct device_attribute *attribute, char *text)
{
	return sysfs_emit(text, "%016llx\n", to_ivg(dev)->boot_epoch);
}
static DEVICE_ATTR_RO(boot_epoch);

static ssize_t channels_total_show(struct device *dev, struct device_attribute *attribute, char *text)
{
	return sysfs_emit(text, "%u\n", to_ivg(dev)->region.channel_count);
}
static DEVICE_ATTR_RO(channels_total);

static u32 channels_count(struct ivg_device *device, bool draining)
{
	u32 count = 0, i;

	mutex_lock(&device->lock);
	for (i = 0; i < device->region.channel_count; i++) {
		const enum ivg_channel_state state = device->channels[i].state;

		count += state != IVG_CHANNEL_FREE && (state == IVG_CHANNEL_DRAINING) == draining;
	}
	mutex_unlock(&device->lock);
	return count;
}

static ssize_t channels_in_use_show(struct device *dev, struct device_attribute *attribute, char *text)
{
	return sysfs_emit(text, "%u\n", channels_count(to_ivg(dev), false));
}
static DEVICE_ATTR_RO(channels_in_use);

static ssize_t channels_draining_show(struct device *dev, struct device_attribute *attribute, char *text)
{
	return sysfs_emit(text, "%u\n", channels_count(to_ivg(dev), true));
}
static DEVICE_ATTR_RO(channels_draining);

static ssize_t extents_total_show(struct device *dev, struct device_attribute *attribute, char *text)
{
	return sysfs_emit(text, "%u\n", to_ivg(dev)->region.extent_count);
}
static DEVICE_ATTR_RO(extents_total);

static ssize_t extents_in_use_show(struct device *dev, struct device_attribute *attribute, char *text)
{
	return sysfs_emit(text, "%u\n", READ_ONCE(to_ivg(dev)->extents_claimed));
}
static DEVICE_ATTR_RO(extents_in_use);

static ssize_t extents_kept_show(struct device *dev, struct device_attribute *attribute, char *text)
{
	return sysfs_emit(text, "%u\n", READ_ONCE(to_ivg(dev)->extents_kept));
}
static DEVICE_ATTR_RO(extents_kept);

static ssize_t extents_pinned_show(struct device *dev, struct device_attribute *attribute, char *text)
{
	return sysfs_emit(text, "%u\n", READ_ONCE(to_ivg(dev)->extents_pinned));
}
static DEVICE_ATTR_RO(extents_pinned);

static ssize_t interrupts_show(struct device *dev, struct device_attribute *attribute, char *text)
{
	struct ivg_device *device = to_ivg(dev);
	u64 interrupts = 0;
	u32 i;

	for (i = 0; i < device->region.vector_count; i++)
		interrupts += READ_ONCE(device->vectors[i].interrupts);
	return sysfs_emit(text, "%llu\n", interrupts);
}
static DEVICE_ATTR_RO(interrupts);

static ssize_t vectors_show(struct device *dev, struct device_attribute *attribute, char *text)
{
	struct ivg_device *device = to_ivg(dev);
	u32 working = 0, i;

	for (i = 0; i < device->region.vector_count; i++)
		working += device->vectors[i].irq != 0;
	return sysfs_emit(text, "%u\n", working);
}
static DEVICE_ATTR_RO(vectors);

/* The type that user mappings get from their page protection; struct pages keep MTRRs out of it. */
static ssize_t mapping_show(struct device *dev, struct device_attribute *attribute, char *text)
{
	const bool write_back = (pgprot_val(vm_get_page_prot(VM_READ | VM_WRITE | VM_SHARED)) & _PAGE_CACHE_MASK) == 0;

	return sysfs_emit(text, "%s\n", write_back ? "write-back" : "not write-back");
}
static DEVICE_ATTR_RO(mapping);

static ssize_t copy_mib_per_s_show(struct device *dev, struct device_attribute *attribute, char *text)
{
	return sysfs_emit(text, "%u\n", to_ivg(dev)->copy_mib_per_s);
}
static DEVICE_ATTR_RO(copy_mib_per_s);

/* Channels in use: index, generation, state, the host's state, extents, process, program. */
static ssize_t channels_show(struct device *dev, struct device_attribute *attribute, char *text)
{
	static const char *const guest_states[] = { "free", "open", "closed", "draining" };
	static const char *const host_states[] = { "free", "starting", "ready", "failed", "dead" };
	struct ivg_device *device = to_ivg(dev);
	int bytes = 0;
	u32 i;

	mutex_lock(&device->lock);
	for (i = 0; i < device->region.channel_count && !device->gone; i++) {
		const struct ivg_channel *channel = &device->channels[i];
		const u32 host = ivg_word_state(READ_ONCE(device->host->channels[i].state));

		if (channel->state == IVG_CHANNEL_FREE)
			continue;
		bytes += sysfs_emit_at(text, bytes, "%u %u %s %s %u %d %s\n", i, channel->generation,
				       guest_states[channel->state],
				       host < ARRAY_SIZE(host_states) ? host_states[host] : "unknown",
				       channel->extents_claimed, channel->pid, channel->program);
	}
	mutex_unlock(&device->lock);
	return bytes;
}
static DEVICE_ATTR(channels, 0400, channels_show, NULL);

static struct attribute *ivg_attributes[] = {
	&dev_attr_vm_name.attr,
	&dev_attr_boot_epoch.attr,
	&dev_attr_channels_total.attr,
	&dev_attr_channels_in_use.attr,
	&dev_attr_channels_draining.attr,
	&dev_attr_extents_total.attr,
	&dev_attr_extents_in_use.attr,
	&dev_attr_extents_kept.attr,
	&dev_attr_extents_pinned.attr,
	&dev_attr_interrupts.attr,
	&dev_attr_vectors.attr,
	&dev_attr_mapping.attr,
	&dev_attr_copy_mib_per_s.attr,
	&dev_attr_channels.attr,
	NULL,
};

static const struct attribute_group ivg_attribute_group = {
	.attrs = ivg_attributes,
};

const struct attribute_group *ivg_attribute_groups[] = {
	&ivg_attribute_group,
	NULL,
};
