/* The host's own NVML, asked about one device. Beside the driver it lies, or it is not used: the one by that name in a
 * library path could be our guest's, which would start an executor to answer an executor. */
#ifndef IVG_HOST_NVML_H
#define IVG_HOST_NVML_H

#include "ivgpu/device_status.h"
#include <stdbool.h>

#define IVG_HOST_NVML_NAME "libnvidia-ml.so.1"

/* Measures the device with this UUID into `status`, whose known items stay where NVML does not know better. False: no
 * NVML in `driver_folder`, or it does not know the device. Opens the library at the first call and keeps it. Any
 * thread; may take tens of milliseconds. */
bool ivg_host_nvml_measure(const char *driver_folder, const uint8_t uuid[16], struct ivg_wire_device_status *status);
/* The same for one of its NVLinks; false also for a link that is not there. */
bool ivg_host_nvml_link(const char *driver_folder, const uint8_t uuid[16], uint32_t link,
                        struct ivg_wire_device_link *state);

#endif
