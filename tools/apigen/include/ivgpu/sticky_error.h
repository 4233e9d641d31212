/* Errors that kill a context: every later call in it gives the same one, until it is destroyed or reset. */
#ifndef IVGPU_STICKY_ERROR_H
#define IVGPU_STICKY_ERROR_H

#include "ivgpu/cuda_abi.h"
#include <stdbool.h>

static inline bool ivg_error_is_sticky(CUresult result)
{
        switch (result) {
        case CUDA_ERROR_ECC_UNCORRECTABLE:
        case CUDA_ERROR_NVLINK_UNCORRECTABLE:
        case CUDA_ERROR_CONTAINED:
        case CUDA_ERROR_ILLEGAL_ADDRESS:
        case CUDA_ERROR_LAUNCH_TIMEOUT:
        case CUDA_ERROR_ASSERT:
        case CUDA_ERROR_HARDWARE_STACK_ERROR:
        case CUDA_ERROR_ILLEGAL_INSTRUCTION:
        case CUDA_ERROR_MISALIGNED_ADDRESS:
        case CUDA_ERROR_INVALID_ADDRESS_SPACE:
        case CUDA_ERROR_INVALID_PC:
        case CUDA_ERROR_LAUNCH_FAILED:
        case CUDA_ERROR_TENSOR_MEMORY_LEAK:
                return true;
        default:
                return false;
        }
}

#endif
