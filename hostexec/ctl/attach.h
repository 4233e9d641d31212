/* What gives a VM its device: QEMU's options, or libvirt's elements. */
#ifndef IVG_ATTACH_H
#define IVG_ATTACH_H

#include <stdbool.h>
#include <stdint.h>

struct ivg_attachment {
        uint32_t vm_id, region_mib, vectors;
        const char *socket;
};

/* Prints them on stdout. False: there is no such format. */
bool ivg_attach_print(const struct ivg_attachment *vm, const char *format);

#endif
