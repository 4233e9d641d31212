/* A device's lasting properties, in one answer. */
#include "exec_internal.h"
#include "host_args.h"
#include <string.h>

static void copy_attributes(const struct ivg_driver *driver, CUdevice device, struct ivg_wire_device *snapshot)
{
        /* Number 0 is none. A driver that does not know a number says so; the guest is told which are known. */
        for (int32_t i = 1; i < (int32_t)IVG_DEVICE_ATTRIBUTES; i++)
                if (driver->cuDeviceGetAttribute(&snapshot->attributes[i], (CUdevice_attribute)i, device) ==
                    CUDA_SUCCESS)
                        snapshot->known[i / 64] |= 1ull << (i % 64);
                else
                        snapshot->attributes[i] = 0;
}

CUresult ivg_host_ivgDeviceSnapshot(struct ivg_exec_call *call, const struct ivg_args_ivgDeviceSnapshot *args)
{
        const struct ivg_driver *driver = ivg_exec_driver(call->exec);
        struct ivg_wire_device *snapshot = &args->answer->snapshot;
        size_t total = 0;
        CUuuid uuid;
        CUdevice device;
        CUresult result;

        if (!driver->cuDeviceGetName || !driver->cuDeviceGetAttribute || !driver->cuDeviceTotalMem_v2 ||
            !driver->cuDeviceGetUuid_v2 || !driver->cuDeviceGetPCIBusId)
                return CUDA_ERROR_NOT_SUPPORTED;
        result = driver->cuDeviceGet(&device, args->device);
        if (result == CUDA_SUCCESS)
                result = driver->cuDeviceGetName(snapshot->name, (int)sizeof(snapshot->name), device);
        if (result == CUDA_SUCCESS)
                result = driver->cuDeviceGetUuid_v2(&uuid, device);
        if (result == CUDA_SUCCESS)
                result = driver->cuDeviceGetPCIBusId(snapshot->pci_bus_id, (int)sizeof(snapshot->pci_bus_id), device);
        if (result == CUDA_SUCCESS)
                result = driver->cuDeviceTotalMem_v2(&total, device);
        if (result != CUDA_SUCCESS)
                return result;
        memcpy(snapshot->uuid, &uuid, sizeof(snapshot->uuid));
        snapshot->total_bytes = total;
        copy_attributes(driver, device, snapshot);
        return CUDA_SUCCESS;
}
