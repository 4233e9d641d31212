// SPDX-License-Identifier: GPL-2.0
/* The module, and the PCI device's coming and going. */
#include "ivg.h"
#include "ivg_compat.h"
#include <linux/idr.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

#define IVSHMEM_VENDOR 0x1af4
#define IVSHMEM_DEVICE 0x1110
#define IVSHMEM_REGISTER_BYTES 256
#define IVG_BARS (BIT(0) | BIT(2))

static struct class *ivg_class;
static dev_t ivg_first_number;
static DEFINE_IDA(ivg_minors);

/* ---- doorbells and interrupts ---- */

void ivg_doorbell(struct ivg_device *device, u32 vector)
{
	rcu_read_lock();
	if (!READ_ONCE(device->gone))
		iowrite32(device->region.doorbell_peer << 16 | vector, device->registers + IVG_DOORBELL_REGISTER);
	rcu_read_unlock();
}

/* Whom of the channels that share a vector the host means it does not say, but it has changed one of two words before. */
static bool channel_is_meant(struct ivg_device *device, struct ivg_channel *channel)
{
	const struct ivg_host_channel *host = &device->host->channels[channel->index];
	/*
	 * I2, acquire, pairs with I1 and H1: the state first, so that the count is of the same life or later. A count from
	 * before and a state from after would look like the new life's first interrupt, and hide it.
	 */
	const u64 state = smp_load_acquire(&host->state);
	const u64 interrupts = smp_load_acquire(&host->interrupts); /* I2 */

	if (state == channel->state_seen && interrupts == channel->interrupts_seen)
		return false;
	channel->state_seen = state;
	channel->interrupts_seen = interrupts;
	return true;
}

static irqreturn_t vector_handler(int irq, void *argument)
{
	struct ivg_vector *vector = argument;
	struct ivg_device *device = vector->device;
	bool draining = false;
	u32 i;

	spin_lock(&vector->lock);
	vector->interrupts++;
	for (i = vector->index - 1; i < device->region.channel_count; i += device->vectors_usable - 1) {
		struct ivg_channel *channel = &device->channels[i];

		if (!channel_is_meant(device, channel))
			continue;
		if (channel->file)
			ivg_file_wake(channel->file);
		draining |= READ_ONCE(channel->state) == IVG_CHANNEL_DRAINING;
	}
	spin_unlock(&vector->lock);
	if (draining)
		mod_delayed_work(system_wq, &device->reap, 0);
	return IRQ_HANDLED;
}

static void vectors_stop(struct ivg_device *device)
{
	u32 i;

	for (i = 0; i < device->region.vector_count; i++) {
		if (device->vectors[i].irq)
			free_irq(device->vectors[i].irq, &device->vectors[i]);
		device->vectors[i].irq = 0;
	}
	pci_free_irq_vectors(device->pdev);
}

/* The host interrupts for channels only; vector 0 is its own ear. Handlers may run as soon as theirs is requested. */
static u32 vectors_request(struct ivg_device *device, u32 count)
{
	u32 i;

	for (i = 0; i < count; i++) {
		struct ivg_vector *vector = &device->vectors[i];

		if (i == IVG_CONTROL_VECTOR)
			continue;
		if (request_irq(pci_irq_vector(device->pdev, i), vector_handler, 0, vector->name, vector) != 0)
			break;
		vector->irq = pci_irq_vector(device->pdev, i);
	}
	return i;
}

/*
 * Channels share what vectors can be had, if the device has fewer than the host serves or the guest's processors have few
 * left, and the host is told with the boot epoch. With none at all channels work, and their sleepers poll.
 */
static int vectors_start(struct ivg_device *device)
{
	struct pci_dev *pdev = device->pdev;
	const u32 wanted = device->region.vector_count;
	const int count = pci_alloc_irq_vectors(pdev, 2, wanted, PCI_IRQ_MSIX);
	u32 working, i;

	if (count < 0) {
		pci_err(pdev, "no MSI-X vectors: error %d\n", count);
		return count;
	}
	device->vectors = kcalloc(wanted, sizeof(*device->vectors), GFP_KERNEL);
	if (!device->vectors) {
		pci_free_irq_vectors(pdev);
		return -ENOMEM;
	}
	for (i = 0; i < wanted; i++) {
		struct ivg_vector *vector = &device->vectors[i];

		vector->device = device;
		vector->index = i;
		spin_lock_init(&vector->lock);
		snprintf(vector->name, sizeof(vector->name), "%s-%u", dev_name(&device->dev), i);
	}
	for (i = 0; i < device->region.channel_count; i++)
		device->channels[i].index = i;
	/* Nobody has a channel yet: what a handler does with too large a stride now, it does to nobody. */
	device->vectors_usable = (u32)count;
	working = vectors_request(device, (u32)count);
	device->vectors_usable = max(working, 2u);
	if (working < 2)
		pci_warn(pdev, "no interrupt vector is left: sleepers will poll\n");
	else if (working < wanted)
		pci_info(pdev, "%u of %u interrupt vectors\n", working, wanted);
	return 0;
}

/* ---- the device ---- */

static void device_release(struct device *dev)
{
	struct ivg_device *device = container_of(dev, struct ivg_device, dev);

	if (device->blank)
		__free_page(device->blank);
	kvfree(device->extents);
	kfree(device->vectors);
	ida_free(&ivg_minors, MINOR(dev->devt) - MINOR(ivg_first_number));
	kfree(device);
}

/* From here on put_device() undoes it. */
static struct ivg_device *device_new(struct pci_dev *pdev)
{
	struct ivg_device *device = kzalloc(sizeof(*device), GFP_KERNEL);
	int minor;

	if (!device)
		return ERR_PTR(-ENOMEM);
	minor = ida_alloc_max(&ivg_minors, IVG_DEVICES_MAX - 1, GFP_KERNEL);
	if (minor < 0) {
		pci_err(pdev, "more than %d devices\n", IVG_DEVICES_MAX);
		kfree(device);
		return ERR_PTR(minor);
	}
	device->pdev = pdev;
	init_rwsem(&device->memory_lock);
	mutex_init(&device->lock);
	init_waitqueue_head(&device->channel_freed);
	INIT_DELAYED_WORK(&device->reap, ivg_channels_reap);
	device_initialize(&device->dev);
	device->dev.class = ivg_class;
	device->dev.parent = &pdev->dev;
	device->dev.groups = ivg_attribute_groups;
	device->dev.release = device_release;
	device->dev.devt = MKDEV(MAJOR(ivg_first_number), MINOR(ivg_first_number) + minor);
	device->blank = alloc_page(GFP_KERNEL | __GFP_ZERO);
	if (!device->blank || dev_set_name(&device->dev, IVG_NAME "%d", minor) < 0) {
		put_device(&device->dev);
		return ERR_PTR(-ENOMEM);
	}
	cdev_init(&device->cdev, &ivg_file_operations);
	device->cdev.owner = THIS_MODULE;
	return device;
}

static int bars_take(struct ivg_device *device)
{
	struct pci_dev *pdev = device->pdev;
	int rc;

	if (pci_resource_len(pdev, 0) < IVSHMEM_REGISTER_BYTES || pci_resource_len(pdev, 2) < IVG_REGION_BYTES_MIN)
		return -ENODEV; /* somebody else's */
	rc = pci_enable_device_mem(pdev);
	if (rc < 0)
		return rc;
	/* Exclusive: while the driver has it, nobody maps BAR 2 around it. */
	rc = pci_request_selected_regions_exclusive(pdev, IVG_BARS, IVG_NAME);
	if (rc < 0) {
		pci_err(pdev, "BAR 0 or 2 is in use\n");
		goto disable;
	}
	device->registers = pci_iomap(pdev, 0, IVSHMEM_REGISTER_BYTES);
	if (!device->registers) {
		rc = -ENOMEM;
		goto release;
	}
	rc = ivg_region_read(pdev, &device->region);
	if (rc < 0)
		goto unmap;
	return 0;
unmap:
	pci_iounmap(pdev, device->registers);
release:
	pci_release_selected_regions(pdev, IVG_BARS);
disable:
	pci_disable_device(pdev);
	return rc;
}

static void bars_give_back(struct ivg_device *device)
{
	pci_iounmap(device->pdev, device->registers);
	pci_release_selected_regions(device->pdev, IVG_BARS);
	pci_disable_device(device->pdev);
}

static int region_start(struct ivg_device *device)
{
	int rc;

	if (ivg_kept_overlaps(pci_resource_start(device->pdev, 2), pci_resource_end(device->pdev, 2))) {
		pci_err(device->pdev, "direct I/O still holds pages of the device that was here before: end the processes that "
				      "use it, then bind this one\n");
		return -EBUSY;
	}
	device->extents = kvcalloc(device->region.extent_count, sizeof(*device->extents), GFP_KERNEL);
	if (!device->extents)
		return -ENOMEM;
	rc = ivg_region_map(device);
	if (rc < 0)
		return rc;
	ivg_region_measure(device);
	return 0;
}

static int ivg_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct ivg_device *device = device_new(pdev);
	int rc;

	if (IS_ERR(device))
		return PTR_ERR(device);
	rc = bars_take(device);
	if (rc < 0)
		goto put;
	rc = region_start(device);
	if (rc < 0)
		goto bars;
	pci_set_master(pdev); /* MSI-X messages are writes of the device */
	rc = vectors_start(device);
	if (rc < 0)
		goto region;
	ivg_epoch_begin(device);
	pci_set_drvdata(pdev, device);
	rc = cdev_device_add(&device->cdev, &device->dev);
	if (rc < 0)
		goto vectors;
	pci_info(pdev, "%s: VM %u (%s), %u channels, %u extents of 2 MiB, %u vectors, copies at %u MiB/s\n",
		 dev_name(&device->dev), device->region.vm_id, device->region.vm_name, device->region.channel_count,
		 device->region.extent_count, device->vectors_usable, device->copy_mib_per_s);
	return 0;
vectors:
	vectors_stop(device);
region:
	pci_clear_master(pdev);
	ivg_region_unmap(device);
bars:
	bars_give_back(device);
put:
	put_device(&device->dev);
	return rc;
}

/* ---- its end ---- */

/* Every process loses its channel; the host is told while it can be. Returns how many there were. */
static u32 channels_end(struct ivg_device *device)
{
	u32 ended = 0, i;

	mutex_lock(&device->lock);
	for (i = 0; i < device->region.channel_count; i++) {
		struct ivg_file *file = device->channels[i].file;

		if (!file)
			continue;
		ivg_file_detach(file);
		/* What its channel and extents do not cover: the region page and the host pages. */
		unmap_mapping_range(file->mapping, 0, 0, 1);
		ended++;
	}
	WRITE_ONCE(device->gone, true);
	mutex_unlock(&device->lock);
	wake_up_all(&device->channel_freed);
	return ended;
}

static void ivg_remove(struct pci_dev *pdev)
{
	struct ivg_device *device = pci_get_drvdata(pdev);
	u32 ended;

	cdev_device_del(&device->cdev, &device->dev);
	ended = channels_end(device);
	synchronize_rcu(); /* the doorbell register is nobody's */
	vectors_stop(device);
	cancel_delayed_work_sync(&device->reap);
	down_write(&device->memory_lock); /* who is clearing an extent is done */
	ivg_region_give_up(device);
	up_write(&device->memory_lock);
	pci_clear_master(pdev);
	bars_give_back(device);
	pci_info(pdev, "%s: gone, %u programs have lost it\n", dev_name(&device->dev), ended);
	put_device(&device->dev);
}

/* Reboot and kexec: the host learns at once, not with the next boot's epoch. */
static void ivg_shutdown(struct pci_dev *pdev)
{
	struct ivg_device *device = pci_get_drvdata(pdev);

	channels_end(device);
}

/* Neither the host's executors nor what they hold on the GPU can be put to sleep or into an image. */
static int __maybe_unused ivg_suspend(struct device *dev)
{
	dev_err(dev, "refuses to suspend: GPU work on the host cannot be suspended; unbind the driver first\n");
	return -EBUSY;
}

static const struct dev_pm_ops ivg_pm_ops = {
	SET_SYSTEM_SLEEP_PM_OPS(ivg_suspend, NULL)
};

static const struct pci_device_id ivg_ids[] = {
	{ PCI_DEVICE(IVSHMEM_VENDOR, IVSHMEM_DEVICE) },
	{}
};
MODULE_DEVICE_TABLE(pci, ivg_ids);

static struct pci_driver ivg_driver = {
	.name = IVG_NAME,
	.id_table = ivg_ids,
	.probe = ivg_probe,
	.remove = ivg_remove,
	.shutdown = ivg_shutdown,
	.driver.pm = &ivg_pm_ops,
};

static int __init ivg_init(void)
{
	int rc = ivg_kept_init();

	if (rc < 0)
		return rc;
	rc = alloc_chrdev_region(&ivg_first_number, 0, IVG_DEVICES_MAX, IVG_NAME);
	if (rc < 0)
		goto kept;
	ivg_class = ivg_class_create(IVG_NAME);
	if (IS_ERR(ivg_class)) {
		rc = PTR_ERR(ivg_class);
		goto numbers;
	}
	rc = pci_register_driver(&ivg_driver);
	if (rc < 0)
		goto class;
	return 0;
class:
	class_destroy(ivg_class);
numbers:
	unregister_chrdev_region(ivg_first_number, IVG_DEVICES_MAX);
kept:
	ivg_kept_exit();
	return rc;
}

static void __exit ivg_exit(void)
{
	pci_unregister_driver(&ivg_driver);
	class_destroy(ivg_class);
	unregister_chrdev_region(ivg_first_number, IVG_DEVICES_MAX);
	ivg_kept_exit();
}

module_init(ivg_init);
module_exit(ivg_exit);

MODULE_DESCRIPTION("ivgpu: channels to a GPU on the host, through ivshmem");
MODULE_AUTHOR("the ivgpu authors");
MODULE_LICENSE("GPL");
MODULE_VERSION("0.1.0");
