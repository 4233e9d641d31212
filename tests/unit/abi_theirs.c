/* The facts as NVIDIA's headers have them. Declaring every exported function of ours on top of theirs makes the
 * compiler compare the signatures: a difference does not compile. */
#define __CUDA_API_VERSION_INTERNAL
#include <cuda.h>
#include <cudaProfiler.h>
#define IVGPU_CUDA_ABI_H /* theirs stand in for ours */
#include "cuda_api.h"

#include "abi_entry.h"

const struct abi_entry abi_theirs[] = {
#include "abi_list.h"
};
const size_t abi_theirs_count = sizeof(abi_theirs) / sizeof(abi_theirs[0]);
