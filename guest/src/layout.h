/* Two entries of the private table in ivgpu/layout_table.h. */
#ifndef IVGPU_GUEST_LAYOUT_H
#define IVGPU_GUEST_LAYOUT_H

#include "ivgpu/cuda_abi.h"
#include <stdint.h>

/* Two arrays from malloc(), of as many bytes as the current context's device has pairs of multiprocessors.
 * INVALID_CONTEXT: none is current; INVALID_VALUE; NOT_SUPPORTED: the host's driver does not tell; OUT_OF_MEMORY; or
 * why the call failed. Any thread. */
CUresult ivg_layout_entry_get(uint8_t **place, uint8_t **group);
/* Takes them back; either may be NULL. Any thread. */
CUresult ivg_layout_entry_free(uint8_t *place, uint8_t *group);

#endif
