#include "vfio_device.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define DOORBELL_REGISTER 12u

static int fail(struct ivg_error *error, const char *what)
{
        const int rc = -errno;

        ivg_error_set(error, "%s: %s", what, strerror(errno));
        return rc;
}

static int group_open(const char *sysfs_root, const char *name, struct ivg_vfio_device *device, struct ivg_error *error)
{
        struct vfio_group_status status = {.argsz = sizeof(status)};
        char path[PATH_MAX], target[PATH_MAX];
        const char *number;
        ssize_t bytes;

        snprintf(path, sizeof(path), "%s/%s/driver", sysfs_root, name);
        bytes = readlink(path, target, sizeof(target) - 1);
        if (bytes > 0)
                target[bytes] = '\0';
        if (bytes <= 0 || strcmp(strrchr(target, '/') ? strrchr(target, '/') + 1 : target, "vfio-pci") != 0) {
                ivg_error_set(error, "vfio-pci does not have it");
                return -ENOENT;
        }
        snprintf(path, sizeof(path), "%s/%s/iommu_group", sysfs_root, name);
        bytes = readlink(path, target, sizeof(target) - 1);
        if (bytes <= 0)
                return fail(error, "no IOMMU group (QEMU: -device intel-iommu; guest: intel_iommu=on)");
        target[bytes] = '\0';
        number = strrchr(target, '/') ? strrchr(target, '/') + 1 : target;
        snprintf(path, sizeof(path), "/dev/vfio/%.16s", number);
        device->group_fd = open(path, O_RDWR | O_CLOEXEC);
        if (device->group_fd < 0)
                return fail(error, errno == EBUSY
                                           ? "its group in /dev/vfio: a program of an earlier broker still has it"
                                           : "its group in /dev/vfio");
        if (ioctl(device->group_fd, VFIO_GROUP_GET_STATUS, &status) < 0)
                return fail(error, "group status");
        if ((status.flags & VFIO_GROUP_FLAGS_VIABLE) == 0) {
                ivg_error_set(error, "IOMMU group %.16s: other devices of it have drivers of their own", number);
                return -EBUSY;
        }
        return 0;
}

static int device_open(const char *name, struct ivg_vfio_device *device, struct ivg_error *error)
{
        device->container_fd = open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC);
        if (device->container_fd < 0)
                return fail(error, "/dev/vfio/vfio");
        if (ioctl(device->container_fd, VFIO_GET_API_VERSION) != VFIO_API_VERSION) {
                ivg_error_set(error, "another version of vfio");
                return -EPROTO;
        }
        if (ioctl(device->group_fd, VFIO_GROUP_SET_CONTAINER, &device->container_fd) < 0)
                return fail(error, "group into container");
        if (ioctl(device->container_fd, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU) < 0)
                return fail(error, errno == EPERM ? "IOMMU (without interrupt remapping; QEMU: intremap=on)" : "IOMMU");
        device->device_fd = ioctl(device->group_fd, VFIO_GROUP_GET_DEVICE_FD, name);
        if (device->device_fd < 0)
                return fail(error, "device");
        return 0;
}

static int bar_find(const struct ivg_vfio_device *device, uint32_t index, struct vfio_region_info *bar,
                    struct ivg_error *error)
{
        *bar = (struct vfio_region_info){.argsz = sizeof(*bar), .index = index};
        if (ioctl(device->device_fd, VFIO_DEVICE_GET_REGION_INFO, bar) < 0)
                return fail(error, "BAR");
        return 0;
}

static int bars_find(struct ivg_vfio_device *device, struct ivg_error *error)
{
        struct vfio_region_info registers, memory;
        int rc = bar_find(device, VFIO_PCI_BAR0_REGION_INDEX, &registers, error);

        if (rc == 0)
                rc = bar_find(device, VFIO_PCI_BAR2_REGION_INDEX, &memory, error);
        if (rc < 0)
                return rc;
        if (registers.size < DOORBELL_REGISTER + 4 || (memory.flags & VFIO_REGION_INFO_FLAG_MMAP) == 0) {
                ivg_error_set(error, "BAR0 of %llu bytes, BAR2 of %llu with flags %x: no ivshmem device",
                              (unsigned long long)registers.size, (unsigned long long)memory.size, memory.flags);
                return -ENXIO;
        }
        device->register_file_offset = registers.offset;
        device->region_file_offset = memory.offset;
        device->region_bytes = memory.size;
        return 0;
}

/* MSI-X messages are writes of the device, and vfio has them off until its user asks. */
static int bus_master_enable(const struct ivg_vfio_device *device, struct ivg_error *error)
{
        struct vfio_region_info config = {.argsz = sizeof(config), .index = VFIO_PCI_CONFIG_REGION_INDEX};
        uint16_t command;

        if (ioctl(device->device_fd, VFIO_DEVICE_GET_REGION_INFO, &config) < 0 ||
            pread(device->device_fd, &command, sizeof(command), (off_t)config.offset + PCI_COMMAND) != sizeof(command))
                return fail(error, "reading the command register");
        command |= PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
        if (pwrite(device->device_fd, &command, sizeof(command), (off_t)config.offset + PCI_COMMAND) != sizeof(command))
                return fail(error, "writing the command register");
        return 0;
}

/* eventfds for `count` interrupts of one kind; 0, -errno, or how many at most can be had. */
static int irqs_set(const struct ivg_vfio_device *device, uint32_t index, const int *fds, uint32_t count)
{
        _Alignas(struct vfio_irq_set) uint8_t bytes[sizeof(struct vfio_irq_set) + IVG_VECTORS_MAX * sizeof(int)] = {0};
        struct vfio_irq_set *request = (void *)bytes;
        int rc;

        request->argsz = (uint32_t)(sizeof(*request) + count * sizeof(int));
        request->flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER;
        request->index = index;
        request->count = count;
        memcpy(request->data, fds, count * sizeof(int));
        rc = ioctl(device->device_fd, VFIO_DEVICE_SET_IRQS, request);
        return rc < 0 ? -errno : rc;
}

int ivg_vfio_device_interrupts(struct ivg_vfio_device *device, uint32_t wanted, struct ivg_error *error)
{
        struct vfio_irq_info info = {.argsz = sizeof(info), .index = VFIO_PCI_MSIX_IRQ_INDEX};
        uint32_t count;
        int rc;

        if (ioctl(device->device_fd, VFIO_DEVICE_GET_IRQ_INFO, &info) < 0)
                return fail(error, "interrupts");
        count = info.count < wanted ? info.count : wanted;
        for (uint32_t i = 0; i < count; i++) {
                device->vector_fds[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
                if (device->vector_fds[i] < 0)
                        return fail(error, "eventfd");
        }
        /* Every try is smaller than the one before. */
        while (count >= 2) {
                rc = irqs_set(device, VFIO_PCI_MSIX_IRQ_INDEX, device->vector_fds, count);
                if (rc == 0) {
                        device->vectors_count = count;
                        return 0;
                }
                count = rc > 0 && (uint32_t)rc < count ? (uint32_t)rc : count - 1;
        }
        ivg_error_set(error, "%u MSI-X vectors, and not two to be had", info.count);
        return -ENOSPC;
}

int ivg_vfio_device_open(const char *sysfs_root, const char *name, struct ivg_vfio_device *device,
                         struct ivg_error *error)
{
        int rc;

        *device = (struct ivg_vfio_device){.container_fd = -1, .group_fd = -1, .device_fd = -1, .request_fd = -1};
        for (uint32_t i = 0; i < IVG_VECTORS_MAX; i++)
                device->vector_fds[i] = -1;
        rc = group_open(sysfs_root, name, device, error);
        if (rc == 0)
                rc = device_open(name, device, error);
        if (rc == 0)
                rc = bars_find(device, error);
        if (rc == 0)
                rc = bus_master_enable(device, error);
        if (rc == 0) {
                device->request_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
                rc = device->request_fd < 0 ? -errno : irqs_set(device, VFIO_PCI_REQ_IRQ_INDEX, &device->request_fd, 1);
                if (rc < 0)
                        ivg_error_set(error, "asking to be told of an unplug: %s", strerror(-rc));
        }
        if (rc < 0)
                ivg_vfio_device_close(device);
        return rc;
}

uint64_t ivg_vfio_device_doorbell_offset(const struct ivg_vfio_device *device)
{
        return device->register_file_offset + DOORBELL_REGISTER;
}

int ivg_vfio_device_ring(const struct ivg_vfio_device *device, uint32_t peer, uint32_t vector)
{
        const uint32_t word = peer << 16 | vector;

        return pwrite(device->device_fd, &word, sizeof(word), (off_t)ivg_vfio_device_doorbell_offset(device)) < 0
                       ? -errno
                       : 0;
}

static void fd_close(int *fd)
{
        if (*fd >= 0)
                close(*fd);
        *fd = -1;
}

void ivg_vfio_device_close(struct ivg_vfio_device *device)
{
        for (uint32_t i = 0; i < IVG_VECTORS_MAX; i++)
                fd_close(&device->vector_fds[i]);
        fd_close(&device->request_fd);
        fd_close(&device->device_fd);
        fd_close(&device->group_fd);
        fd_close(&device->container_fd);
}
