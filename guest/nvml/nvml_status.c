/* What changes: the host's figures of the device, and the guest's own view of its memory. */
#include "nvml.h"
#include "nvml_api.h"
#include <string.h>

/* More processes than a region has channels cannot be there. */
#define PROCESSES_MAX 64u

nvmlReturn_t ivg_nvml_measure(nvmlDevice_t device, struct ivg_wire_device_status *status)
{
        const struct ivg_management *management = ivg_nvml_library();
        const nvmlReturn_t result = ivg_nvml_device_check(device);

        if (result != NVML_SUCCESS)
                return result;
        return ivg_nvml_from_cuda(management->status(device->index, status));
}

static bool knows(const struct ivg_wire_device_status *status, unsigned int item)
{
        return (status->known >> item & 1) != 0;
}

/* `count` items in a row, all or none. */
static nvmlReturn_t items(nvmlDevice_t device, unsigned int first, unsigned int count, unsigned long long *values)
{
        struct ivg_wire_device_status status;
        const nvmlReturn_t result = ivg_nvml_measure(device, &status);

        if (result != NVML_SUCCESS)
                return result;
        for (unsigned int i = 0; i < count; i++) {
                if (!knows(&status, first + i))
                        return NVML_ERROR_NOT_SUPPORTED;
                values[i] = status.values[first + i];
        }
        return NVML_SUCCESS;
}

static nvmlReturn_t two_items(nvmlDevice_t device, unsigned int first, unsigned int *one, unsigned int *two)
{
        unsigned long long values[2];
        nvmlReturn_t result = ivg_nvml_device_check(device);

        if (result == NVML_SUCCESS && (one == NULL || two == NULL))
                return NVML_ERROR_INVALID_ARGUMENT;
        if (result == NVML_SUCCESS)
                result = items(device, first, 2, values);
        if (result == NVML_SUCCESS) {
                *one = (unsigned int)values[0];
                *two = (unsigned int)values[1];
        }
        return result;
}

nvmlReturn_t ivg_nvml_status(nvmlDevice_t device, enum ivg_status_item item, unsigned int *value)
{
        unsigned long long wide;
        nvmlReturn_t result = ivg_nvml_device_check(device);

        if (result == NVML_SUCCESS && value == NULL)
                return NVML_ERROR_INVALID_ARGUMENT;
        if (result == NVML_SUCCESS)
                result = items(device, item, 1, &wide);
        if (result == NVML_SUCCESS)
                *value = (unsigned int)wide;
        return result;
}

/* ---- single figures whose question has a parameter ---- */

nvmlReturn_t nvmlDeviceGetTemperature(nvmlDevice_t device, int sensor, unsigned int *degrees)
{
        const nvmlReturn_t result = ivg_nvml_device_check(device);

        if (result == NVML_SUCCESS && sensor != NVML_TEMPERATURE_GPU)
                return NVML_ERROR_INVALID_ARGUMENT;
        return result == NVML_SUCCESS ? ivg_nvml_status(device, IVG_STATUS_TEMPERATURE, degrees) : result;
}

nvmlReturn_t nvmlDeviceGetTemperatureV(nvmlDevice_t device, nvmlTemperature_t *temperature)
{
        nvmlReturn_t result = ivg_nvml_device_check(device);
        unsigned int degrees;

        if (result == NVML_SUCCESS && temperature == NULL)
                result = NVML_ERROR_INVALID_ARGUMENT;
        if (result == NVML_SUCCESS && temperature->version != nvmlTemperature_v1)
                result = NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
        if (result == NVML_SUCCESS)
                result = nvmlDeviceGetTemperature(device, temperature->sensorType, &degrees);
        if (result == NVML_SUCCESS)
                temperature->temperature = (int)degrees;
        return result;
}

nvmlReturn_t nvmlDeviceGetTemperatureThreshold(nvmlDevice_t device, int threshold, unsigned int *degrees)
{
        const nvmlReturn_t result = ivg_nvml_device_check(device);

        if (result != NVML_SUCCESS)
                return result;
        if (threshold < 0 || threshold >= NVML_TEMPERATURE_THRESHOLD_COUNT)
                return NVML_ERROR_INVALID_ARGUMENT;
        if (threshold > NVML_TEMPERATURE_THRESHOLD_GPU_MAX)
                return NVML_ERROR_NOT_SUPPORTED;
        return ivg_nvml_status(device, (enum ivg_status_item)(IVG_STATUS_TEMPERATURE_SHUTDOWN + threshold), degrees);
}

static nvmlReturn_t clock_item(nvmlDevice_t device, unsigned int first, int clock, unsigned int *mhz)
{
        const nvmlReturn_t result = ivg_nvml_device_check(device);

        if (result == NVML_SUCCESS && (clock < 0 || clock >= NVML_CLOCK_COUNT))
                return NVML_ERROR_INVALID_ARGUMENT;
        return result == NVML_SUCCESS
                       ? ivg_nvml_status(device, (enum ivg_status_item)(first + (unsigned int)clock), mhz)
                       : result;
}

nvmlReturn_t nvmlDeviceGetClockInfo(nvmlDevice_t device, int clock, unsigned int *mhz)
{
        return clock_item(device, IVG_STATUS_CLOCK, clock, mhz);
}

nvmlReturn_t nvmlDeviceGetMaxClockInfo(nvmlDevice_t device, int clock, unsigned int *mhz)
{
        return clock_item(device, IVG_STATUS_CLOCK_MAX, clock, mhz);
}

nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t device, nvmlUtilization_t *utilization)
{
        return two_items(device, IVG_STATUS_UTILIZATION_GPU, utilization != NULL ? &utilization->gpu : NULL,
                         utilization != NULL ? &utilization->memory : NULL);
}

nvmlReturn_t nvmlDeviceGetPowerManagementLimitConstraints(nvmlDevice_t device, unsigned int *min, unsigned int *max)
{
        return two_items(device, IVG_STATUS_POWER_LIMIT_MIN, min, max);
}

nvmlReturn_t nvmlDeviceGetEccMode(nvmlDevice_t device, unsigned int *current, unsigned int *pending)
{
        return two_items(device, IVG_STATUS_ECC, current, pending);
}

nvmlReturn_t nvmlDeviceGetTotalEnergyConsumption(nvmlDevice_t device, unsigned long long *millijoules)
{
        const nvmlReturn_t result = ivg_nvml_device_check(device);

        if (result == NVML_SUCCESS && millijoules == NULL)
                return NVML_ERROR_INVALID_ARGUMENT;
        return result == NVML_SUCCESS ? items(device, IVG_STATUS_ENERGY, 1, millijoules) : result;
}

nvmlReturn_t nvmlDeviceGetVbiosVersion(nvmlDevice_t device, char *version, unsigned int length)
{
        struct ivg_wire_device_status status;
        const nvmlReturn_t result = ivg_nvml_measure(device, &status);

        if (result != NVML_SUCCESS)
                return result;
        status.vbios[sizeof(status.vbios) - 1] = '\0';
        return status.vbios[0] != '\0' ? ivg_nvml_text(version, length, status.vbios) : NVML_ERROR_NOT_SUPPORTED;
}

/* ---- between two devices ---- */

/* A device reads and writes its own memory. Between two the host's driver decides; it does not tell by which way. */
nvmlReturn_t nvmlDeviceGetP2PStatus(nvmlDevice_t one, nvmlDevice_t two, nvmlGpuP2PCapsIndex_t index,
                                    nvmlGpuP2PStatus_t *status)
{
        const struct ivg_management *management = ivg_nvml_library();
        nvmlReturn_t result = ivg_nvml_device_check(one);
        int attribute = CU_DEVICE_P2P_ATTRIBUTE_ACCESS_SUPPORTED, supported = 1;

        if (result == NVML_SUCCESS)
                result = ivg_nvml_device_check(two);
        if (result != NVML_SUCCESS)
                return result;
        if (status == NULL || (int)index < 0 || index >= NVML_P2P_CAPS_INDEX_UNKNOWN)
                return NVML_ERROR_INVALID_ARGUMENT;
        if (index == NVML_P2P_CAPS_INDEX_NVLINK || index == NVML_P2P_CAPS_INDEX_PCI)
                return NVML_ERROR_NOT_SUPPORTED;
        if (index == NVML_P2P_CAPS_INDEX_ATOMICS)
                attribute = CU_DEVICE_P2P_ATTRIBUTE_NATIVE_ATOMIC_SUPPORTED;
        if (one != two)
                result = ivg_nvml_from_cuda(management->peer(one->index, two->index, attribute, &supported));
        if (result == NVML_SUCCESS)
                *status = supported ? NVML_P2P_STATUS_OK : NVML_P2P_STATUS_NOT_SUPPORTED;
        return result;
}

/* ---- memory and processes: this guest's, not the whole device's ---- */

static nvmlReturn_t held(nvmlDevice_t device, struct ivg_management_process *list, unsigned int capacity,
                         unsigned int *count, uint64_t *total)
{
        const struct ivg_management *management = ivg_nvml_library();
        const nvmlReturn_t result = ivg_nvml_device_check(device);
        uint32_t found = 0;

        if (result != NVML_SUCCESS)
                return result;
        const CUresult answer = management->processes(device->index, list, capacity, &found, total);

        *count = found;
        return ivg_nvml_from_cuda(answer);
}

static nvmlReturn_t memory_info(nvmlDevice_t device, nvmlMemory_t *memory)
{
        unsigned int count;
        uint64_t used = 0;
        const nvmlReturn_t result = held(device, NULL, 0, &count, &used);

        if (result != NVML_SUCCESS)
                return result;
        memory->total = device->wire.total_bytes;
        memory->used = used < memory->total ? used : memory->total; /* figures of several moments */
        memory->free = memory->total - memory->used;
        return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t *memory)
{
        const nvmlReturn_t result = ivg_nvml_device_check(device);

        if (result == NVML_SUCCESS && memory == NULL)
                return NVML_ERROR_INVALID_ARGUMENT;
        return result == NVML_SUCCESS ? memory_info(device, memory) : result;
}

nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, nvmlMemory_v2_t *memory)
{
        nvmlMemory_t plain;
        nvmlReturn_t result = ivg_nvml_device_check(device);

        if (result == NVML_SUCCESS && memory == NULL)
                return NVML_ERROR_INVALID_ARGUMENT;
        if (result == NVML_SUCCESS && memory->version != nvmlMemory_v2)
                return NVML_ERROR_FUNCTION_NOT_FOUND; /* as driver 580 does */
        if (result == NVML_SUCCESS)
                result = memory_info(device, &plain);
        if (result == NVML_SUCCESS) {
                memory->total = plain.total;
                memory->reserved = 0; /* the driver's own part is the host's */
                memory->free = plain.free;
                memory->used = plain.used;
        }
        return result;
}

/* INSUFFICIENT_SIZE with the count needed, also for a count of 0 and no array, as programs ask first. */
static nvmlReturn_t process_list(nvmlDevice_t device, unsigned int *count, void *infos, bool with_instances)
{
        struct ivg_management_process list[PROCESSES_MAX];
        unsigned int found = 0;
        uint64_t total;
        nvmlReturn_t result = ivg_nvml_device_check(device);

        if (result == NVML_SUCCESS && (count == NULL || (*count != 0 && infos == NULL)))
                return NVML_ERROR_INVALID_ARGUMENT;
        if (result == NVML_SUCCESS)
                result = held(device, list, PROCESSES_MAX, &found, &total);
        if (result != NVML_SUCCESS)
                return result;
        if (found > PROCESSES_MAX)
                found = PROCESSES_MAX;
        if (found > *count) {
                *count = found;
                return NVML_ERROR_INSUFFICIENT_SIZE;
        }
        for (unsigned int i = 0; i < found; i++)
                if (with_instances)
                        ((nvmlProcessInfo_v2_t *)infos)[i] =
                                (nvmlProcessInfo_v2_t){list[i].pid, list[i].bytes, 0xffffffffu, 0xffffffffu};
                else
                        ((nvmlProcessInfo_v1_t *)infos)[i] = (nvmlProcessInfo_v1_t){list[i].pid, list[i].bytes};
        *count = found;
        return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetComputeRunningProcesses(nvmlDevice_t device, unsigned int *count, nvmlProcessInfo_v1_t *infos)
{
        return process_list(device, count, infos, false);
}

nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v2(nvmlDevice_t device, unsigned int *count,
                                                     nvmlProcessInfo_v2_t *infos)
{
        return process_list(device, count, infos, true);
}

nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v3(nvmlDevice_t device, unsigned int *count,
                                                     nvmlProcessInfo_v2_t *infos)
{
        return process_list(device, count, infos, true);
}

/* No process of a guest draws, and none is behind an MPS server of its own. */
static nvmlReturn_t no_process(nvmlDevice_t device, unsigned int *count)
{
        const nvmlReturn_t result = ivg_nvml_device_check(device);

        if (result == NVML_SUCCESS && count == NULL)
                return NVML_ERROR_INVALID_ARGUMENT;
        if (result == NVML_SUCCESS)
                *count = 0;
        return result;
}

#define NO_PROCESS(name, type)                                                   \
        nvmlReturn_t name(nvmlDevice_t device, unsigned int *count, type *infos) \
        {                                                                        \
                (void)infos;                                                     \
                return no_process(device, count);                                \
        }
NO_PROCESS(nvmlDeviceGetGraphicsRunningProcesses, nvmlProcessInfo_v1_t)
NO_PROCESS(nvmlDeviceGetGraphicsRunningProcesses_v2, nvmlProcessInfo_v2_t)
NO_PROCESS(nvmlDeviceGetGraphicsRunningProcesses_v3, nvmlProcessInfo_v2_t)
NO_PROCESS(nvmlDeviceGetMPSComputeRunningProcesses, nvmlProcessInfo_v1_t)
NO_PROCESS(nvmlDeviceGetMPSComputeRunningProcesses_v2, nvmlProcessInfo_v2_t)
NO_PROCESS(nvmlDeviceGetMPSComputeRunningProcesses_v3, nvmlProcessInfo_v2_t)
