/* Inside the guest's libnvidia-ml.so.1. It keeps nothing but each device's lasting properties; all else is asked
 * through libcuda.so.1 (guest/src/management.h) when the program asks. */
#ifndef IVG_NVML_H
#define IVG_NVML_H

#include "ivgpu/device_status.h"
#include "management.h"
#include "nvml_abi.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#pragma GCC visibility push(hidden)

#define IVG_NVML_DEVICES_MAX 64u

struct nvmlDevice_st {
        int index;
        bool known; /* `wire` is there; set once, under the library's lock */
        struct ivg_wire_device wire;
};

/* ---- nvml_library.c ---- */

/* Between nvmlInit and nvmlShutdown: libcuda's table; else NULL, which callers answer with NVML_ERROR_UNINITIALIZED. */
const struct ivg_management *ivg_nvml_library(void);
int ivg_nvml_device_count(void);
/* The device at `index`, with its properties. */
nvmlReturn_t ivg_nvml_device_at(unsigned int index, struct nvmlDevice_st **device);
/* SUCCESS for a handle that this library gave out; handles stay good until the process ends. */
nvmlReturn_t ivg_nvml_device_check(nvmlDevice_t device);
nvmlReturn_t ivg_nvml_from_cuda(CUresult result);
nvmlReturn_t ivg_nvml_unsupported(const char *name);
/* Copies with its NUL; INSUFFICIENT_SIZE as NVML has it. */
nvmlReturn_t ivg_nvml_text(char *out, unsigned int capacity, const char *text);

/* ---- nvml_private.c, and of the generated file one stranger per entry of its table ---- */

#define IVG_NVML_PRIVATE_WORDS 270

/* ---- nvml_status.c ---- */

nvmlReturn_t ivg_nvml_measure(nvmlDevice_t device, struct ivg_wire_device_status *status);
/* One item; NOT_SUPPORTED when the host does not know it. */
nvmlReturn_t ivg_nvml_status(nvmlDevice_t device, enum ivg_status_item item, unsigned int *value);

#pragma GCC visibility pop
#endif
