/* Which devices there are and what never changes about them. */
#include "nvml.h"
#include "nvml_api.h"
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define UUID_TEXT_BYTES 48

nvmlReturn_t nvmlDeviceGetCount_v2(unsigned int *count)
{
        if (ivg_nvml_library() == NULL)
                return NVML_ERROR_UNINITIALIZED;
        if (count == NULL)
                return NVML_ERROR_INVALID_ARGUMENT;
        *count = (unsigned int)ivg_nvml_device_count();
        return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetCount(unsigned int *count)
{
        return nvmlDeviceGetCount_v2(count);
}

/* ---- handles ---- */

nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned int index, nvmlDevice_t *device)
{
        struct nvmlDevice_st *found;
        nvmlReturn_t result;

        if (device == NULL)
                return ivg_nvml_library() == NULL ? NVML_ERROR_UNINITIALIZED : NVML_ERROR_INVALID_ARGUMENT;
        result = ivg_nvml_device_at(index, &found);
        if (result == NVML_SUCCESS)
                *device = found;
        return result;
}

nvmlReturn_t nvmlDeviceGetHandleByIndex(unsigned int index, nvmlDevice_t *device)
{
        return nvmlDeviceGetHandleByIndex_v2(index, device);
}

/* [domain:]bus:device[.function]; the function of a GPU is 0. */
static bool pci_parse(const char *text, unsigned int address[3])
{
        unsigned int function = 0;
        int used = 0;

        if (!(sscanf(text, "%x:%x:%x%n", &address[0], &address[1], &address[2], &used) == 3 && used > 0)) {
                address[0] = 0;
                used = 0;
                if (!(sscanf(text, "%x:%x%n", &address[1], &address[2], &used) == 2 && used > 0))
                        return false;
        }
        text += used;
        used = 0;
        return *text == '\0' || (sscanf(text, ".%x%n", &function, &used) == 1 && text[used] == '\0' && function == 0);
}

static void uuid_text(const struct nvmlDevice_st *device, char text[UUID_TEXT_BYTES])
{
        const uint8_t *uuid = device->wire.uuid;
        int at = snprintf(text, UUID_TEXT_BYTES, "GPU-");

        for (int i = 0; i < 16; i++)
                at += snprintf(text + at, UUID_TEXT_BYTES - (size_t)at, "%s%02x",
                               i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", uuid[i]);
}

static bool has_pci_address(const struct nvmlDevice_st *device, const void *wanted)
{
        unsigned int address[3];

        return pci_parse(device->wire.pci_bus_id, address) && memcmp(address, wanted, sizeof(address)) == 0;
}

static bool has_uuid(const struct nvmlDevice_st *device, const void *wanted)
{
        char text[UUID_TEXT_BYTES];

        uuid_text(device, text);
        return strcasecmp(text, wanted) == 0;
}

static nvmlReturn_t find(bool (*is)(const struct nvmlDevice_st *, const void *), const void *wanted, nvmlDevice_t *out)
{
        if (ivg_nvml_library() == NULL)
                return NVML_ERROR_UNINITIALIZED;
        for (unsigned int i = 0; i < (unsigned int)ivg_nvml_device_count(); i++) {
                struct nvmlDevice_st *device;
                const nvmlReturn_t result = ivg_nvml_device_at(i, &device);

                if (result != NVML_SUCCESS)
                        return result;
                if (is(device, wanted)) {
                        *out = device;
                        return NVML_SUCCESS;
                }
        }
        return NVML_ERROR_NOT_FOUND;
}

nvmlReturn_t nvmlDeviceGetHandleByPciBusId_v2(const char *bus_id, nvmlDevice_t *device)
{
        unsigned int address[3];

        if (bus_id == NULL || device == NULL || !pci_parse(bus_id, address))
                return ivg_nvml_library() == NULL ? NVML_ERROR_UNINITIALIZED : NVML_ERROR_INVALID_ARGUMENT;
        return find(has_pci_address, address, device);
}

nvmlReturn_t nvmlDeviceGetHandleByPciBusId(const char *bus_id, nvmlDevice_t *device)
{
        return nvmlDeviceGetHandleByPciBusId_v2(bus_id, device);
}

nvmlReturn_t nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *device)
{
        if (uuid == NULL || device == NULL)
                return ivg_nvml_library() == NULL ? NVML_ERROR_UNINITIALIZED : NVML_ERROR_INVALID_ARGUMENT;
        return find(has_uuid, uuid, device);
}

/* ---- properties ---- */

static nvmlReturn_t number(nvmlDevice_t device, unsigned int *out)
{
        const nvmlReturn_t result = ivg_nvml_device_check(device);

        if (result != NVML_SUCCESS)
                return result;
        if (out == NULL)
                return NVML_ERROR_INVALID_ARGUMENT;
        *out = (unsigned int)device->index;
        return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetIndex(nvmlDevice_t device, unsigned int *index)
{
        return number(device, index);
}

/* There is no /dev/nvidia* in the guest; tools want a number, which is the device's own. */
nvmlReturn_t nvmlDeviceGetMinorNumber(nvmlDevice_t device, unsigned int *minor)
{
        return number(device, minor);
}

nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t device, char *name, unsigned int length)
{
        const nvmlReturn_t result = ivg_nvml_device_check(device);

        return result == NVML_SUCCESS ? ivg_nvml_text(name, length, device->wire.name) : result;
}

nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t device, char *uuid, unsigned int length)
{
        const nvmlReturn_t result = ivg_nvml_device_check(device);
        char text[UUID_TEXT_BYTES];

        if (result != NVML_SUCCESS)
                return result;
        uuid_text(device, text);
        return ivg_nvml_text(uuid, length, text);
}

nvmlReturn_t nvmlDeviceGetCudaComputeCapability(nvmlDevice_t device, int *major, int *minor)
{
        const nvmlReturn_t result = ivg_nvml_device_check(device);

        if (result != NVML_SUCCESS)
                return result;
        if (major == NULL || minor == NULL)
                return NVML_ERROR_INVALID_ARGUMENT;
        *major = device->wire.attributes[CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR];
        *minor = device->wire.attributes[CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR];
        return NVML_SUCCESS;
}

/* ---- parts of devices (MIG) do not reach a guest: each device is whole ---- */

static nvmlReturn_t none(nvmlDevice_t device, unsigned int *out)
{
        const nvmlReturn_t result = ivg_nvml_device_check(device);

        if (result != NVML_SUCCESS)
                return result;
        if (out == NULL)
                return NVML_ERROR_INVALID_ARGUMENT;
        *out = 0;
        return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMaxMigDeviceCount(nvmlDevice_t device, unsigned int *count)
{
        return none(device, count);
}

nvmlReturn_t nvmlDeviceIsMigDeviceHandle(nvmlDevice_t device, unsigned int *is_part)
{
        return none(device, is_part);
}

/* ---- PCI: as on the host, where the device is; the guest's own bus does not have it ---- */

enum pci_version { PCI_V1 = 1, PCI_V2, PCI_V3 };

/* The structure grew: version 1 ends before the subsystem's number, version 2 has it and reserved words, which version
 * 3 made the long bus id. Of all three the size is the caller's: only its own part is written. */
static nvmlReturn_t pci_info(nvmlDevice_t device, nvmlPciInfo_t *out, enum pci_version version)
{
        const nvmlReturn_t result = ivg_nvml_device_check(device);
        struct ivg_wire_device_status status;
        nvmlPciInfo_t pci = {.busId = ""};
        unsigned int address[3];
        size_t bytes = sizeof(pci);

        if (result != NVML_SUCCESS)
                return result;
        if (out == NULL)
                return NVML_ERROR_INVALID_ARGUMENT;
        if (!pci_parse(device->wire.pci_bus_id, address))
                return NVML_ERROR_NOT_SUPPORTED;
        pci.domain = address[0];
        pci.bus = address[1];
        pci.device = address[2];
        snprintf(pci.busIdLegacy, sizeof(pci.busIdLegacy), "%04X:%02X:%02X.0", address[0] & 0xffff, address[1] & 0xff,
                 address[2] & 0xff);
        snprintf(pci.busId, sizeof(pci.busId), "%08X:%02X:%02X.0", address[0], address[1] & 0xff, address[2] & 0xff);
        if (ivg_nvml_measure(device, &status) == NVML_SUCCESS) {
                pci.pciDeviceId = (unsigned int)status.values[IVG_STATUS_PCI_DEVICE];
                pci.pciSubSystemId = (unsigned int)status.values[IVG_STATUS_PCI_SUBSYSTEM];
        }
        if (version == PCI_V1)
                bytes = offsetof(nvmlPciInfo_t, pciSubSystemId);
        else if (version == PCI_V2)
                bytes = offsetof(nvmlPciInfo_t, busId);
        memcpy(out, &pci, bytes);
        return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetPciInfo(nvmlDevice_t device, nvmlPciInfo_t *pci)
{
        return pci_info(device, pci, PCI_V1);
}

nvmlReturn_t nvmlDeviceGetPciInfo_v2(nvmlDevice_t device, nvmlPciInfo_t *pci)
{
        return pci_info(device, pci, PCI_V2);
}

nvmlReturn_t nvmlDeviceGetPciInfo_v3(nvmlDevice_t device, nvmlPciInfo_t *pci)
{
        return pci_info(device, pci, PCI_V3);
}
