/* A device's figures of the moment, for the guest's NVML: what CUDA knows, and over it what the host's NVML measures.
 */
#include "exec_internal.h"
#include "host_args.h"
#include "host_nvml.h"
#include <dlfcn.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* Where the driver in use lies; false: unknown. */
static bool driver_folder(const struct ivg_driver *driver, char folder[PATH_MAX])
{
        Dl_info found;
        char *slash;

        if (!dladdr((void *)(uintptr_t)driver->cuInit, &found) || !realpath(found.dli_fname, folder))
                return false;
        slash = strrchr(folder, '/');
        if (slash)
                *slash = '\0';
        return slash != NULL;
}

/* nvmlDeviceArchitecture_t by compute capability; 0: a chip that this table does not know. */
static uint64_t architecture_of(int major, int minor)
{
        switch (major) {
        case 3:
                return 2;
        case 5:
                return 3;
        case 6:
                return 4;
        case 7:
                return minor < 5 ? 5 : 6;
        case 8:
                return minor < 9 ? 7 : 8;
        case 9:
                return 9;
        case 10:
        case 12:
                return 10;
        default:
                return 0;
        }
}

static void note(struct ivg_wire_device_status *status, uint32_t item, uint64_t value)
{
        status->values[item] = value;
        status->known |= 1ull << item;
}

static void measure_by_cuda(const struct ivg_driver *driver, CUdevice device, struct ivg_wire_device_status *status)
{
        static const struct {
                CUdevice_attribute attribute;
                uint32_t item, divisor;
        } from[] = {
                {CU_DEVICE_ATTRIBUTE_CLOCK_RATE, IVG_STATUS_CLOCK_MAX, 1000}, /* kHz */
                {CU_DEVICE_ATTRIBUTE_CLOCK_RATE, IVG_STATUS_CLOCK_MAX_SM, 1000},
                {CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE, IVG_STATUS_CLOCK_MAX_MEMORY, 1000},
                {CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH, IVG_STATUS_MEMORY_BUS_WIDTH, 1},
                {CU_DEVICE_ATTRIBUTE_COMPUTE_MODE, IVG_STATUS_COMPUTE_MODE, 1},
        };
        int value = 0, minor = 0;

        for (size_t i = 0; i < sizeof(from) / sizeof(from[0]); i++)
                if (driver->cuDeviceGetAttribute(&value, from[i].attribute, device) == CUDA_SUCCESS && value >= 0)
                        note(status, from[i].item, (uint64_t)value / from[i].divisor);
        if (driver->cuDeviceGetAttribute(&value, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, device) ==
                    CUDA_SUCCESS &&
            driver->cuDeviceGetAttribute(&minor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, device) ==
                    CUDA_SUCCESS &&
            architecture_of(value, minor) != 0)
                note(status, IVG_STATUS_ARCHITECTURE, architecture_of(value, minor));
}

static CUresult device_uuid(const struct ivg_driver *driver, int32_t ordinal, CUdevice *device, CUuuid *uuid)
{
        CUresult result;

        if (!driver->cuDeviceGetUuid_v2 || !driver->cuDeviceGetAttribute)
                return CUDA_ERROR_NOT_SUPPORTED;
        result = driver->cuDeviceGet(device, ordinal);
        return result == CUDA_SUCCESS ? driver->cuDeviceGetUuid_v2(uuid, *device) : result;
}

CUresult ivg_host_ivgDeviceLink(struct ivg_exec_call *call, const struct ivg_args_ivgDeviceLink *args)
{
        const struct ivg_driver *driver = ivg_exec_driver(call->exec);
        char folder[PATH_MAX];
        CUdevice device;
        CUuuid uuid;
        const CUresult result = device_uuid(driver, args->device, &device, &uuid);

        if (result != CUDA_SUCCESS)
                return result;
        memset(&args->answer->state, 0, sizeof(args->answer->state));
        return driver_folder(driver, folder) &&
                               ivg_host_nvml_link(folder, (const uint8_t *)uuid.bytes, args->link, &args->answer->state)
                       ? CUDA_SUCCESS
                       : CUDA_ERROR_NOT_SUPPORTED;
}

CUresult ivg_host_ivgDeviceStatus(struct ivg_exec_call *call, const struct ivg_args_ivgDeviceStatus *args)
{
        const struct ivg_driver *driver = ivg_exec_driver(call->exec);
        struct ivg_wire_device_status *status = &args->answer->status;
        char folder[PATH_MAX];
        CUdevice device;
        CUuuid uuid;
        const CUresult result = device_uuid(driver, args->device, &device, &uuid);

        if (result != CUDA_SUCCESS)
                return result;
        memset(status, 0, sizeof(*status));
        measure_by_cuda(driver, device, status);
        if (driver_folder(driver, folder))
                (void)ivg_host_nvml_measure(folder, (const uint8_t *)uuid.bytes,
                                            status); /* else: CUDA's figures stand */
        return CUDA_SUCCESS;
}
