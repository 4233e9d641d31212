/* Where a device's multiprocessors lie: asked of the driver's private table, whose length is checked first, as another
 * driver's table may be another one. */
#include "exec_internal.h"
#include "host_args.h"
#include "ivgpu/layout_table.h"
#include <string.h>

static const void *const *layout_table(const struct ivg_driver *driver)
{
        static const uint8_t bytes[] = IVG_LAYOUT_TABLE_UUID;
        const void *table = NULL;
        uintptr_t table_bytes;
        CUuuid uuid;

        memcpy(&uuid, bytes, sizeof(uuid));
        if (!driver->cuGetExportTable || driver->cuGetExportTable(&table, &uuid) != CUDA_SUCCESS || !table)
                return NULL;
        memcpy(&table_bytes, table, sizeof(table_bytes));
        return table_bytes == IVG_LAYOUT_TABLE_WORDS * sizeof(void *) ? table : NULL;
}

/* 0: not known. */
static uint32_t pairs_of(const struct ivg_driver *driver)
{
        int major = 0, multiprocessors = 0;
        CUdevice device;

        if (!driver->cuCtxGetDevice || !driver->cuDeviceGetAttribute ||
            driver->cuCtxGetDevice(&device) != CUDA_SUCCESS ||
            driver->cuDeviceGetAttribute(&major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, device) !=
                    CUDA_SUCCESS ||
            driver->cuDeviceGetAttribute(&multiprocessors, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, device) !=
                    CUDA_SUCCESS ||
            major < IVG_LAYOUT_COMPUTE_CAPABILITY_MIN || multiprocessors % 2 != 0 ||
            multiprocessors > 2 * (int)IVG_LAYOUT_PAIRS_MAX)
                return 0;
        return (uint32_t)multiprocessors / 2;
}

CUresult ivg_host_ivgDeviceLayout(struct ivg_exec_call *call, const struct ivg_args_ivgDeviceLayout *args)
{
        const struct ivg_driver *driver = ivg_exec_driver(call->exec);
        struct ivg_wire_device_layout *layout = &args->answer->layout;
        const void *const *table = layout_table(driver);
        const uint32_t pairs = pairs_of(driver);
        uint8_t *place = NULL, *group = NULL;
        ivg_layout_get get;
        ivg_layout_free give_back;
        CUresult result;

        if (!table || pairs == 0)
                return CUDA_ERROR_NOT_SUPPORTED;
        memcpy(&get, &table[IVG_LAYOUT_GET], sizeof(get));
        memcpy(&give_back, &table[IVG_LAYOUT_FREE], sizeof(give_back));
        result = get(&place, &group);
        if (result != CUDA_SUCCESS)
                return result;
        if (place && group) {
                layout->pairs = pairs;
                memcpy(layout->place, place, pairs);
                memcpy(layout->group, group, pairs);
        } else {
                result = CUDA_ERROR_NOT_SUPPORTED;
        }
        (void)give_back(place, group);
        return result;
}
