/* The check that runtimes make of the driver they find: a keyed digest over what both can see of the process. */
#ifndef IVG_GUEST_EXPORT_CHECK_H
#define IVG_GUEST_EXPORT_CHECK_H

#include "ivgpu/call_wire.h"
#include <stdbool.h>
#include <stdint.h>

/* In the order and widths in which they enter the digest. */
struct ivg_export_check {
        uint32_t driver_version;
        uint32_t version; /* the runtime's, its last digit choosing the kind of check */
        uint32_t process;
        uint32_t thread;                                  /* low half of pthread_self() */
        uint64_t runtime_table, check_table, check_entry; /* addresses */
        uint64_t unix_seconds;
};

struct ivg_export_check_device {
        uint8_t uuid[16];
        int32_t pci_domain, pci_bus, pci_device;
};

/* Whether a runtime of this version expects a digest: else constants, and nothing of `devices` is looked at. */
static inline bool ivg_export_check_is_digest(uint32_t version)
{
        return version % 10 > 1;
}
void ivg_export_check(const struct ivg_export_check *check, const struct ivg_export_check_device *devices,
                      uint32_t device_count, uint64_t out[2]);

#endif
