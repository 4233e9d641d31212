/* A private table of libcuda, 1734dc26-800d-4745-8726-c0f1e7dd8bca behind cuGetExportTable: where a device's
 * multiprocessors lie. cuBLASLt asks it, and has neighbouring parts of a matrix product computed by neighbours then.
 * Where the table answers that it cannot tell, it does without, and the product takes 1 % longer
 * (docs/measurements.md).
 *
 * As measured with driver 580 on an H200: the first word is the table's length in bytes. Entry IVG_LAYOUT_GET gives two
 * arrays with a byte for each pair of multiprocessors (a TPC) of the current context's device: its place in its group
 * (a GPC), and the group. IVG_LAYOUT_FREE takes both back. A TPC has two multiprocessors in every GPU since compute
 * capability 7.0 (NVIDIA H100 Tensor Core GPU Architecture, "H100 GPU Architecture In-Depth", and those before it), so
 * that the arrays' length, which nobody tells, is half their number. */
#ifndef IVGPU_LAYOUT_TABLE_H
#define IVGPU_LAYOUT_TABLE_H

#include "ivgpu/cuda_abi.h"
#include <stdint.h>

#define IVG_LAYOUT_TABLE_UUID                                                                                  \
        {                                                                                                      \
                0x17, 0x34, 0xdc, 0x26, 0x80, 0x0d, 0x47, 0x45, 0x87, 0x26, 0xc0, 0xf1, 0xe7, 0xdd, 0x8b, 0xca \
        }
#define IVG_LAYOUT_TABLE_WORDS 17u
#define IVG_LAYOUT_GET 4u
#define IVG_LAYOUT_FREE 13u
#define IVG_LAYOUT_COMPUTE_CAPABILITY_MIN 7

typedef CUresult (*ivg_layout_get)(uint8_t **place, uint8_t **group);
typedef CUresult (*ivg_layout_free)(uint8_t *place, uint8_t *group);

#endif
