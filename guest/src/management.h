/* Between our libnvidia-ml.so.1 and our libcuda.so.1: both are installed from one build, side by side. NVML's library
 * has no channel of its own; it asks through the process's one, by this table behind cuGetExportTable, which adds no
 * exported name. A process that only ever calls NVML gets its executor by the first question, and no CUDA context. */
#ifndef IVG_MANAGEMENT_H
#define IVG_MANAGEMENT_H

#include "ivgpu/call_wire.h"
#include "ivgpu/cuda_abi.h"
#include <stddef.h>

static const unsigned char ivg_management_uuid[16] = {0x1f, 0x9a, 0x55, 0xc3, 0x7d, 0x02, 0x4b, 0xe6,
                                                      0x91, 0x6e, 0x30, 0xd8, 0x49, 0xb7, 0x0c, 0xa5};

struct ivg_management_process {
        uint32_t pid; /* as the guest sees it */
        uint64_t bytes;
};

struct ivg_management {
        size_t bytes; /* of this table: another build has another */
        CUresult (*connect)(int *driver_version, int *device_count);
        CUresult (*device)(int device, struct ivg_wire_device *out);
        CUresult (*status)(int device, struct ivg_wire_device_status *out);
        CUresult (*link)(int device, unsigned int link, struct ivg_wire_device_link *out);
        /* Writes at most `capacity` of this guest's processes that hold memory of `device`; *count: how many there are;
         * *total: what they hold together. */
        CUresult (*processes)(int device, struct ivg_management_process *out, uint32_t capacity, uint32_t *count,
                              uint64_t *total);
        /* As cuDeviceGetP2PAttribute on the host: what `device` may do with memory of `other`. */
        CUresult (*peer)(int device, int other, int attribute, int *value);
        /* Records that this process has sent so far: what a test of local answers counts. 0: not connected. */
        uint64_t (*records)(void);
        uint64_t (*waits)(void); /* of these, those that waited for an answer */
};

extern const struct ivg_management ivg_management __attribute__((visibility("hidden"))); /* libcuda's: management.c */

#endif
