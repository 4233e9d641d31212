/* Private tables: the one about where multiprocessors lie (ivgpu/layout_table.h), as it can be asked of a GPU. */
#include <stdlib.h>
#include <string.h>

#include "ivgpu/layout_table.h"
#include "softgpu.h"

#define SG_PAIRS_OF_GROUP 4u

typedef void (*sg_entry)(void);

static CUresult sg_layout_get(uint8_t **place, uint8_t **group)
{
        const size_t pairs = sg_processor_count() / 2;
        CUdevice device;
        const CUresult result = cuCtxGetDevice(&device);
        if (result != CUDA_SUCCESS)
                return result;
        *place = malloc(pairs);
        *group = malloc(pairs);
        if (*place == NULL || *group == NULL) {
                free(*place);
                free(*group);
                return CUDA_ERROR_OUT_OF_MEMORY;
        }
        for (size_t i = 0; i < pairs; i++) {
                (*place)[i] = (uint8_t)(i % SG_PAIRS_OF_GROUP);
                (*group)[i] = (uint8_t)(i / SG_PAIRS_OF_GROUP);
        }
        return CUDA_SUCCESS;
}

static CUresult sg_layout_free(uint8_t *place, uint8_t *group)
{
        free(place);
        free(group);
        return CUDA_SUCCESS;
}

static const sg_entry sg_layout_table[IVG_LAYOUT_TABLE_WORDS] = {
        [0] = (sg_entry)(uintptr_t)sizeof(sg_layout_table),
        [IVG_LAYOUT_GET] = (sg_entry)sg_layout_get,
        [IVG_LAYOUT_FREE] = (sg_entry)sg_layout_free,
};

SG_ENTRY(cuGetExportTable, const void **out, const CUuuid *uuid)
{
        static const uint8_t layout[] = IVG_LAYOUT_TABLE_UUID;
        if (out == NULL || uuid == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        *out = memcmp(uuid, layout, sizeof(layout)) == 0 ? sg_layout_table : NULL;
        return *out != NULL ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
}
