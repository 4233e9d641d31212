// SPDX-License-Identifier: GPL-2.0
/*
 * A channel's life. The state words and who moves them: region_layout.h.
 *
 * Labels, as in the host's sources: G1 guest word stored here, read by the mediator when control rings; H2 host word read
 * here, stored there (H1). B1, B2: the same for boot epoch and its answer.
 *
 * No answer is missed: D1 stores DRAINING, then D2 reads the host's word; the host stores its word, then interrupts, and
 * the handler reads DRAINING. One of the two sees the other.
 */
#include "ivg.h"
#include <linux/eventfd.h>
#include <linux/mm.h>
#include <linux/random.h>
#include <linux/sched.h>

static u64 host_word(const struct ivg_device *device, u32 channel)
{
	return smp_load_acquire(&device->host->channels[channel].state); /* H2 */
}

static void guest_word_store(struct ivg_device *device, const struct ivg_channel *channel, u32 state)
{
	/* G1, release: whatever the state speaks of is complete. */
	smp_store_release(&device->guest->channels[channel->index].state, ivg_word(channel->generation, state));
}

/* The interrupt handler sees file and state change together. */
static void file_set(struct ivg_device *device, struct ivg_channel *channel, struct ivg_file *file,
		     enum ivg_channel_state state)
{
	struct ivg_vector *vector = &device->vectors[ivg_channel_vector(device, channel->index)];

	spin_lock_irq(&vector->lock);
	channel->file = file;
	WRITE_ONCE(channel->state, state);
	spin_unlock_irq(&vector->lock);
}

/* ---- boot epoch ---- */

void ivg_epoch_begin(struct ivg_device *device)
{
	const bool used = READ_ONCE(device->guest->boot_epoch) != 0;
	u32 i;

	for (i = 0; i < device->region.channel_count; i++) {
		device->channels[i].index = i;
		device->channels[i].used = used;
	}
	for (i = 0; i < IVG_CHANNELS_MAX; i++)
		WRITE_ONCE(device->guest->channels[i].state, ivg_word(0, IVG_GUEST_FREE));
	for (i = 0; i < device->region.extent_count; i++) {
		WRITE_ONCE(device->guest->extent_owner[i], 0);
		device->extents[i].used = used;
	}
	WRITE_ONCE(device->guest->vectors_used, device->vectors_usable);
	device->boot_epoch = get_random_u64() | 1;
	/* B1, release: what an earlier boot left is void when the mediator sees the epoch. */
	smp_store_release(&device->guest->boot_epoch, device->boot_epoch);
	ivg_doorbell(device, IVG_CONTROL_VECTOR);
}

bool ivg_epoch_is_seen(struct ivg_device *device)
{
	/* B2, acquire: no executor of an older epoch runs any more. */
	if (!device->epoch_seen && smp_load_acquire(&device->host->epoch_seen) == device->boot_epoch)
		device->epoch_seen = true;
	return device->epoch_seen;
}

/* ---- claim ---- */

static void channel_open(struct ivg_file *file, struct ivg_channel *channel)
{
	struct ivg_device *device = file->device;
	struct ivg_guest_channel *guest = &device->guest->channels[channel->index];

	/* The host's word is FREE: only we write here now. */
	if (channel->used) {
		const u64 offset = ivg_channel_offset(device, channel->index);

		ivg_region_clear(device, offset + IVG_CHANNEL_RING_GUEST_OFFSET, IVG_CHANNEL_GUEST_BYTES);
		ivg_region_clear(device, offset + IVG_CHANNEL_RING_HOST_OFFSET, IVG_CHANNEL_HOST_BYTES);
	}
	channel->used = true;
	channel->generation = ivg_word_generation(host_word(device, channel->index));
	channel->pid = task_tgid_nr(current);
	get_task_comm(channel->program, current);
	file_set(device, channel, file, IVG_CHANNEL_OPEN);
	file->channel = channel;
	file->index = channel->index;
	file->generation = channel->generation;

	WRITE_ONCE(guest->pid, (u32)channel->pid);
	memset(guest->program, 0, sizeof(guest->program));
	memcpy(guest->program, channel->program, strnlen(channel->program, sizeof(guest->program) - 1));
	guest_word_store(device, channel, IVG_GUEST_OPEN);
	ivg_doorbell(device, IVG_CONTROL_VECTOR);
}

int ivg_channel_claim(struct ivg_file *file)
{
	struct ivg_device *device = file->device;
	bool ending = false;
	u32 i;

	for (i = 0; i < device->region.channel_count; i++) {
		struct ivg_channel *channel = &device->channels[i];

		ivg_channel_drain(device, channel);
		if (channel->state == IVG_CHANNEL_FREE &&
		    ivg_word_state(host_word(device, i)) == IVG_HOST_FREE) {
			channel_open(file, channel);
			return 0;
		}
		ending |= channel->state == IVG_CHANNEL_FREE || channel->state == IVG_CHANNEL_DRAINING;
	}
	return ending ? -EAGAIN : -EBUSY;
}

/* ---- end ---- */

void ivg_channel_close(struct ivg_device *device, struct ivg_channel *channel)
{
	if (channel->state != IVG_CHANNEL_OPEN)
		return;
	WRITE_ONCE(channel->state, IVG_CHANNEL_CLOSED);
	guest_word_store(device, channel, IVG_GUEST_CLOSED);
	ivg_doorbell(device, IVG_CONTROL_VECTOR);
}

static void channel_zap(struct ivg_file *file)
{
	const u64 offset = ivg_channel_offset(file->device, file->index);

	unmap_mapping_range(file->mapping, offset + IVG_CHANNEL_RING_GUEST_OFFSET, IVG_CHANNEL_GUEST_BYTES, 1);
	unmap_mapping_range(file->mapping, offset + IVG_CHANNEL_RING_HOST_OFFSET, IVG_CHANNEL_HOST_BYTES, 1);
}

void ivg_file_detach(struct ivg_file *file)
{
	struct ivg_device *device = file->device;
	struct ivg_channel *channel = file->channel;

	if (!channel)
		return;
	ivg_channel_close(device, channel);
	/* Before the mappings go: a fault that comes now shows the blank page, one that was before us is undone. */
	WRITE_ONCE(file->gone, true);
	file_set(device, channel, NULL, IVG_CHANNEL_DRAINING); /* D1 */
	file->channel = NULL;
	channel_zap(file);
	ivg_extents_abandon(device, file);
	ivg_file_wake(file);
	device->reap_ms = IVG_REAP_FIRST_MS;
	ivg_channel_drain(device, channel);
	if (channel->state == IVG_CHANNEL_DRAINING && !device->gone)
		mod_delayed_work(system_wq, &device->reap, msecs_to_jiffies(device->reap_ms));
}

void ivg_channel_drain(struct ivg_device *device, struct ivg_channel *channel)
{
	u64 word;

	if (channel->state != IVG_CHANNEL_DRAINING || channel->claims_running != 0 || device->gone)
		return;
	smp_mb(); /* D1 before D2 */
	word = host_word(device, channel->index); /* D2 */
	if (ivg_word_state(word) != IVG_HOST_FREE || ivg_word_generation(word) == channel->generation)
		return;
	ivg_extents_free(device, channel->index);
	guest_word_store(device, channel, IVG_GUEST_FREE);
	WRITE_ONCE(channel->state, IVG_CHANNEL_FREE);
	atomic_inc(&device->channel_frees);
	wake_up_all(&device->channel_freed);
}

void ivg_channels_reap(struct work_struct *work)
{
	struct ivg_device *device = container_of(to_delayed_work(work), struct ivg_device, reap);
	bool draining = false;
	u32 i;

	mutex_lock(&device->lock);
	for (i = 0; i < device->region.channel_count; i++) {
		ivg_channel_drain(device, &device->channels[i]);
		draining |= device->channels[i].state == IVG_CHANNEL_DRAINING;
	}
	if (draining && !device->gone) {
		device->reap_ms = min(device->reap_ms * 2, (unsigned int)IVG_REAP_LAST_MS);
		/* Not mod_: an interrupt may have queued it for now. */
		queue_delayed_work(system_wq, &device->reap, msecs_to_jiffies(device->reap_ms));
	}
	mutex_unlock(&device->lock);
}
