/* The facts as our declarations have them. */
#include "abi_entry.h"
#include "ivgpu/cuda_abi.h"

const struct abi_entry abi_ours[] = {
#include "abi_list.h"
};
const size_t abi_ours_count = sizeof(abi_ours) / sizeof(abi_ours[0]);
