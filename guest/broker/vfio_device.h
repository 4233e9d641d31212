/* An ivshmem device that vfio-pci has, behind an IOMMU: opening it, its two BARs, its interrupts as eventfds. */
#ifndef IVG_VFIO_DEVICE_H
#define IVG_VFIO_DEVICE_H

#include "ivgpu/region.h"

struct ivg_vfio_device {
        int container_fd, group_fd, device_fd;
        uint64_t register_file_offset; /* BAR 0 in the device's file */
        uint64_t region_file_offset;   /* BAR 2 */
        uint64_t region_bytes;
        uint32_t vectors_count; /* that work, vector 0 included */
        int vector_fds[IVG_VECTORS_MAX];
        int request_fd; /* readable once the kernel wants the device back */
};

/* Opens the device called `name` ("0000:01:00.0") below `sysfs_root`. Needs no more rights than those of its group's
 * node in /dev/vfio. -ENOENT: no such device, or another driver has it; -EACCES; -EBUSY: somebody holds its group. */
int ivg_vfio_device_open(const char *sysfs_root, const char *name, struct ivg_vfio_device *device,
                         struct ivg_error *error);
/* Turns vectors 1.. on, `wanted` with vector 0, or as many as the device has and this guest can give. */
int ivg_vfio_device_interrupts(struct ivg_vfio_device *device, uint32_t wanted, struct ivg_error *error);
int ivg_vfio_device_ring(const struct ivg_vfio_device *device, uint32_t peer, uint32_t vector);
uint64_t ivg_vfio_device_doorbell_offset(const struct ivg_vfio_device *device);
void ivg_vfio_device_close(struct ivg_vfio_device *device);

#endif
