/* Tensor maps are made by the driver from numbers alone; this one changes a map that the program holds. */
#include "cuda_api.h"
#include "guest.h"
#include "guest_send.h"
#include <string.h>

CUresult cuTensorMapReplaceAddress(CUtensorMap *tensorMap, void *globalAddress)
{
        struct ivg_wire_tensor_map map, replaced;
        CUresult result = ivg_process_check();

        if (result != CUDA_SUCCESS)
                return result;
        if (tensorMap == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        memcpy(&map, tensorMap, sizeof(map));
        result = ivg_send_cuTensorMapReplaceAddress(&map, (uintptr_t)globalAddress, &replaced);
        if (result == CUDA_SUCCESS)
                memcpy(tensorMap, &replaced, sizeof(replaced));
        return result;
}
