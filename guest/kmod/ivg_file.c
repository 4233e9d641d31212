// SPDX-License-Identifier: GPL-2.0
/* The character device: ivgpu_uapi.h says what each operation means. */
#include "ivg.h"
#include "ivg_compat.h"
#include "ivgpu_uapi.h"
#include <linux/compat.h>
#include <linux/delay.h>
#include <linux/poll.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#define EPOCH_STEP_MS 1

bool ivg_file_is_own(const struct ivg_file *file)
{
	return task_tgid(current) == file->owner;
}

/* Interrupt handler (vector's lock) or detach (device's lock, the handler does not know the file any more). */
void ivg_file_wake(struct ivg_file *file)
{
	atomic64_inc(&file->interrupts);
	if (file->eventfd)
		ivg_eventfd_signal(file->eventfd);
	/* A watcher that only waits for the end is not woken by every interrupt. */
	wake_up_poll(&file->wait, READ_ONCE(file->gone) ? EPOLLIN | EPOLLRDNORM | EPOLLHUP | EPOLLERR :
							  EPOLLIN | EPOLLRDNORM);
}

/* ---- open ---- */

static struct ivg_file *file_new(struct ivg_device *device, struct file *filp)
{
	struct ivg_file *file = kzalloc(sizeof(*file), GFP_KERNEL);

	if (!file)
		return NULL;
	file->blank = alloc_page(GFP_KERNEL | __GFP_ZERO);
	if (!file->blank) {
		kfree(file);
		return NULL;
	}
	file->device = device;
	file->mapping = filp->f_mapping;
	file->owner = get_pid(task_tgid(current));
	init_waitqueue_head(&file->wait);
	get_device(&device->dev);
	return file;
}

static void file_free(struct ivg_file *file)
{
	if (file->eventfd)
		eventfd_ctx_put(file->eventfd);
	put_pid(file->owner);
	__free_page(file->blank);
	put_device(&file->device->dev);
	kfree(file);
}

/* The host has no interrupt for this, and it happens once per boot. */
static int epoch_wait(struct ivg_device *device, unsigned long deadline)
{
	bool seen = false;

	for (;;) {
		mutex_lock(&device->lock);
		if (!device->gone)
			seen = ivg_epoch_is_seen(device);
		mutex_unlock(&device->lock);
		if (seen)
			return 0;
		if (READ_ONCE(device->gone))
			return -ENODEV;
		if (time_after(jiffies, deadline)) {
			dev_warn_ratelimited(&device->dev, "the host has not answered this boot within %d ms\n",
					     IVG_OPEN_WAIT_MS);
			return -ETIMEDOUT;
		}
		if (msleep_interruptible(EPOCH_STEP_MS) != 0)
			return -ERESTARTSYS;
	}
}

static int channel_wait(struct ivg_file *file, bool may_block, unsigned long deadline)
{
	struct ivg_device *device = file->device;

	for (;;) {
		const int frees = atomic_read(&device->channel_frees);
		const long left = (long)(deadline - jiffies);
		int rc;

		mutex_lock(&device->lock);
		rc = device->gone ? -ENODEV : ivg_channel_claim(file);
		mutex_unlock(&device->lock);
		if (rc != -EAGAIN || !may_block)
			return rc;
		if (left <= 0)
			return -ETIMEDOUT;
		rc = wait_event_interruptible_timeout(device->channel_freed,
						      READ_ONCE(device->gone) ||
							      atomic_read(&device->channel_frees) != frees,
						      left);
		if (rc < 0)
			return rc;
	}
}

static int ivg_open(struct inode *inode, struct file *filp)
{
	struct ivg_device *device = container_of(inode->i_cdev, struct ivg_device, cdev);
	const unsigned long deadline = jiffies + msecs_to_jiffies(IVG_OPEN_WAIT_MS);
	struct ivg_file *file;
	int rc;

	if ((filp->f_mode & (FMODE_READ | FMODE_WRITE)) != (FMODE_READ | FMODE_WRITE))
		return -EACCES;
	file = file_new(device, filp);
	if (!file)
		return -ENOMEM;
	rc = epoch_wait(device, deadline);
	if (rc == 0)
		rc = channel_wait(file, !(filp->f_flags & O_NONBLOCK), deadline);
	if (rc < 0) {
		file_free(file);
		return rc;
	}
	filp->private_data = file;
	return nonseekable_open(inode, filp);
}

/* ---- end ---- */

static void detach(struct ivg_file *file)
{
	mutex_lock(&file->device->lock);
	ivg_file_detach(file);
	mutex_unlock(&file->device->lock);
}

/* The owner's death, even when a forked child holds the descriptor; and even by SIGKILL. */
static int ivg_flush(struct file *filp, fl_owner_t id)
{
	struct ivg_file *file = filp->private_data;

	if (current->flags & PF_EXITING && ivg_file_is_own(file))
		detach(file);
	return 0;
}

static int ivg_release(struct inode *inode, struct file *filp)
{
	struct ivg_file *file = filp->private_data;

	detach(file);
	file_free(file);
	return 0;
}

/* ---- waiting ---- */

static __poll_t ivg_poll(struct file *filp, poll_table *wait)
{
	struct ivg_file *file = filp->private_data;
	__poll_t mask = 0;

	poll_wait(filp, &file->wait, wait);
	if (READ_ONCE(file->gone))
		mask |= EPOLLHUP | EPOLLERR;
	if (atomic64_read(&file->interrupts) != 0)
		mask |= EPOLLIN | EPOLLRDNORM;
	return mask;
}

static ssize_t ivg_read(struct file *filp, char __user *to, size_t bytes, loff_t *offset)
{
	struct ivg_file *file = filp->private_data;
	u64 interrupts;
	int rc;

	if (bytes < sizeof(interrupts))
		return -EINVAL;
	for (;;) {
		if (READ_ONCE(file->gone))
			return -ENODEV;
		interrupts = (u64)atomic64_xchg(&file->interrupts, 0);
		if (interrupts != 0)
			break;
		if (filp->f_flags & O_NONBLOCK)
			return -EAGAIN;
		rc = wait_event_interruptible(file->wait, READ_ONCE(file->gone) ||
								  atomic64_read(&file->interrupts) != 0);
		if (rc < 0)
			return rc;
	}
	return copy_to_user(to, &interrupts, sizeof(interrupts)) ? -EFAULT : (ssize_t)sizeof(interrupts);
}

/* ---- ioctl ---- */

static int ioctl_info(struct ivg_file *file, void __user *argument)
{
	struct ivg_device *device = file->device;
	struct ivgpu_info info = {
		.abi_version = IVGPU_ABI_VERSION,
		.channel = file->index,
		.generation = file->generation,
		.region_bytes = device->region.bytes,
		.vector = ivg_channel_vector(device, file->index),
		.boot_epoch = device->boot_epoch,
	};

	mutex_lock(&device->lock);
	if (file->channel) {
		info.extents_claimed = file->channel->extents_claimed;
		info.flags = ivg_channel_has_interrupts(device, file->index) ? IVGPU_INFO_INTERRUPTS : 0;
	}
	mutex_unlock(&device->lock);
	return copy_to_user(argument, &info, sizeof(info)) ? -EFAULT : 0;
}

static int ioctl_extents_claim(struct ivg_file *file, void __user *argument)
{
	struct ivgpu_extents extents;
	int rc;

	if (copy_from_user(&extents, argument, sizeof(extents)))
		return -EFAULT;
	if (extents.reserved != 0)
		return -EINVAL;
	rc = ivg_extents_claim(file, extents.count, &extents.first);
	if (rc == 0 && copy_to_user(argument, &extents, sizeof(extents))) {
		(void)ivg_extents_release(file, extents.first, extents.count);
		rc = -EFAULT;
	}
	return rc;
}

static int ioctl_extents_release(struct ivg_file *file, void __user *argument)
{
	struct ivgpu_extents extents;

	if (copy_from_user(&extents, argument, sizeof(extents)))
		return -EFAULT;
	if (extents.reserved != 0)
		return -EINVAL;
	return ivg_extents_release(file, extents.first, extents.count);
}

static int eventfd_set(struct ivg_file *file, struct eventfd_ctx **eventfd)
{
	struct ivg_device *device = file->device;
	struct ivg_vector *vector = &device->vectors[ivg_channel_vector(device, file->index)];
	int rc = 0;

	mutex_lock(&device->lock);
	if (!file->channel)
		rc = -ENODEV;
	else if (!ivg_channel_has_interrupts(device, file->index))
		rc = -EOPNOTSUPP;
	if (rc == 0) {
		spin_lock_irq(&vector->lock);
		swap(file->eventfd, *eventfd);
		spin_unlock_irq(&vector->lock);
	}
	mutex_unlock(&device->lock);
	return rc;
}

static int ioctl_eventfd(struct ivg_file *file, void __user *argument)
{
	struct eventfd_ctx *eventfd = NULL;
	struct ivgpu_eventfd request;
	int rc;

	if (copy_from_user(&request, argument, sizeof(request)))
		return -EFAULT;
	if (request.reserved != 0 || request.fd < -1)
		return -EINVAL;
	if (request.fd >= 0) {
		eventfd = eventfd_ctx_fdget(request.fd);
		if (IS_ERR(eventfd))
			return PTR_ERR(eventfd);
	}
	rc = eventfd_set(file, &eventfd);
	if (eventfd)
		eventfd_ctx_put(eventfd); /* the one before, or the one that was not taken */
	return rc;
}

static int ioctl_close(struct ivg_file *file)
{
	struct ivg_device *device = file->device;
	int rc = -ENODEV;

	mutex_lock(&device->lock);
	if (file->channel) {
		ivg_channel_close(device, file->channel);
		rc = 0;
	}
	mutex_unlock(&device->lock);
	return rc;
}

static long ivg_ioctl(struct file *filp, unsigned int command, unsigned long value)
{
	struct ivg_file *file = filp->private_data;
	void __user *argument = (void __user *)value;

	if (!ivg_file_is_own(file))
		return -EPERM;
	switch (command) {
	case IVGPU_IOC_DOORBELL:
		if (READ_ONCE(file->gone))
			return -ENODEV;
		ivg_doorbell(file->device, ivg_channel_vector(file->device, file->index));
		return 0;
	case IVGPU_IOC_INFO:
		return ioctl_info(file, argument);
	case IVGPU_IOC_EXTENTS_CLAIM:
		return ioctl_extents_claim(file, argument);
	case IVGPU_IOC_EXTENTS_RELEASE:
		return ioctl_extents_release(file, argument);
	case IVGPU_IOC_EVENTFD:
		return ioctl_eventfd(file, argument);
	case IVGPU_IOC_CLOSE:
		return ioctl_close(file);
	default:
		return -ENOTTY;
	}
}

const struct file_operations ivg_file_operations = {
	.owner = THIS_MODULE,
	.open = ivg_open,
	.flush = ivg_flush,
	.release = ivg_release,
	.mmap = ivg_mmap,
	.poll = ivg_poll,
	.read = ivg_read,
	.unlocked_ioctl = ivg_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
};
