/* An ivshmem device as sysfs shows it. Root only; no interrupts; blocked by kernel lockdown. */
#ifndef IVG_SYSFS_DEVICE_H
#define IVG_SYSFS_DEVICE_H

#include "ivgpu/region.h"

#define IVG_SYSFS_NAME_BYTES 64u  /* "0000:00:03.0", with room for longer domains */
#define IVG_SYSFS_DEVICES_MAX 32u /* ivshmem devices in one guest */

struct ivg_sysfs_device {
        int region_fd;               /* BAR2, as a file that can be mapped in pieces */
        struct ivg_region region;    /* checked, not mapped */
        void *register_page;         /* one page that holds BAR0, and perhaps other devices' registers */
        volatile uint32_t *doorbell; /* the register in it: (peer << 16) | vector */
};

/* Opens ROOT/NAME: it must be an ivshmem device without a driver; enables it; checks its BAR2 as a region; maps BAR0.
 * -ENOENT: no such device, or another kind of device. -EACCES, -EPERM: not root, or lockdown. -EBUSY: a driver has it.
 */
int ivg_sysfs_device_open(const char *root, const char *name, uint64_t call_table_fingerprint,
                          struct ivg_sysfs_device *device, struct ivg_error *error);
void ivg_sysfs_device_close(struct ivg_sysfs_device *device);

/* Names of all ivshmem devices under ROOT, sorted; returns how many, or -errno. */
int ivg_sysfs_device_list(const char *root, char names[][IVG_SYSFS_NAME_BYTES], uint32_t capacity);

#endif
