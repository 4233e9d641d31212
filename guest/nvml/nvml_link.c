/* NVLinks: what the host's NVML says of them. Programs (NCCL) learn from it how two devices reach each other; without
 * it they would take the way through host memory. */
#include "nvml.h"
#include "nvml_api.h"
#include <stdbool.h>
#include <string.h>
#include <time.h>

/* `bit`: of `known`, what must have been told. */
static nvmlReturn_t measure(nvmlDevice_t device, unsigned int link, unsigned int bit, bool arguments_hold,
                            struct ivg_wire_device_link *state)
{
        const struct ivg_management *management = ivg_nvml_library();
        nvmlReturn_t result = ivg_nvml_device_check(device);

        if (result == NVML_SUCCESS && (!arguments_hold || link >= NVML_NVLINK_MAX_LINKS))
                result = NVML_ERROR_INVALID_ARGUMENT;
        if (result == NVML_SUCCESS)
                result = ivg_nvml_from_cuda(management->link(device->index, link, state));
        if (result == NVML_SUCCESS && (state->known >> bit & 1) == 0)
                result = NVML_ERROR_NOT_SUPPORTED;
        return result;
}

static nvmlReturn_t item(nvmlDevice_t device, unsigned int link, enum ivg_link_item which, unsigned int *value)
{
        struct ivg_wire_device_link state;
        const nvmlReturn_t result = measure(device, link, which, value != NULL, &state);

        if (result == NVML_SUCCESS)
                *value = state.values[which];
        return result;
}

nvmlReturn_t nvmlDeviceGetNvLinkState(nvmlDevice_t device, unsigned int link, unsigned int *active)
{
        return item(device, link, IVG_LINK_STATE, active);
}

nvmlReturn_t nvmlDeviceGetNvLinkVersion(nvmlDevice_t device, unsigned int link, unsigned int *version)
{
        return item(device, link, IVG_LINK_VERSION, version);
}

nvmlReturn_t nvmlDeviceGetNvLinkRemoteDeviceType(nvmlDevice_t device, unsigned int link, unsigned int *type)
{
        return item(device, link, IVG_LINK_REMOTE_TYPE, type);
}

nvmlReturn_t nvmlDeviceGetNvLinkCapability(nvmlDevice_t device, unsigned int link, int capability, unsigned int *has)
{
        struct ivg_wire_device_link state;
        const bool hold = has != NULL && capability >= 0 && capability < (int)IVG_LINK_CAPABILITIES;
        const nvmlReturn_t result =
                measure(device, link, hold ? IVG_LINK_ITEMS + (unsigned int)capability : 0, hold, &state);

        if (result == NVML_SUCCESS)
                *has = state.capabilities >> capability & 1;
        return result;
}

nvmlReturn_t nvmlDeviceGetNvLinkRemotePciInfo_v2(nvmlDevice_t device, unsigned int link, nvmlPciInfo_t *pci)
{
        struct ivg_wire_device_link state;
        const nvmlReturn_t result = measure(device, link, IVG_LINK_REMOTE_PCI, pci != NULL, &state);

        if (result != NVML_SUCCESS)
                return result;
        *pci = (nvmlPciInfo_t){.domain = state.pci[0],
                               .bus = state.pci[1],
                               .device = state.pci[2],
                               .pciDeviceId = state.pci[3],
                               .pciSubSystemId = state.pci[4]};
        memcpy(pci->busIdLegacy, state.bus_id_legacy, sizeof(pci->busIdLegacy) - 1);
        memcpy(pci->busId, state.bus_id, sizeof(pci->busId) - 1);
        return NVML_SUCCESS;
}

/* Of a library before 9.0: the same but for what the structure did not have yet. */
nvmlReturn_t nvmlDeviceGetNvLinkRemotePciInfo(nvmlDevice_t device, unsigned int link, nvmlPciInfo_t *pci)
{
        nvmlPciInfo_t whole;
        const nvmlReturn_t result = nvmlDeviceGetNvLinkRemotePciInfo_v2(device, link, pci != NULL ? &whole : NULL);

        if (result == NVML_SUCCESS)
                memcpy(pci, &whole, offsetof(nvmlPciInfo_t, busId));
        return result;
}

/* ---- fields: a link is the field's scope ---- */

nvmlReturn_t nvmlDeviceGetFieldValues(nvmlDevice_t device, int count, nvmlFieldValue_t *values)
{
        static const struct {
                unsigned int field;
                enum ivg_link_item item;
        } fields[] = {
                {NVML_FI_DEV_NVLINK_GET_SPEED, IVG_LINK_SPEED},
                {NVML_FI_DEV_NVLINK_GET_STATE, IVG_LINK_STATE},
                {NVML_FI_DEV_NVLINK_GET_VERSION, IVG_LINK_VERSION},
        };
        const nvmlReturn_t result = ivg_nvml_device_check(device);

        if (result == NVML_SUCCESS && (values == NULL || count < 0))
                return NVML_ERROR_INVALID_ARGUMENT;
        for (int i = 0; result == NVML_SUCCESS && i < count; i++) {
                nvmlFieldValue_t *value = &values[i];
                struct timespec now;

                clock_gettime(CLOCK_REALTIME, &now);
                value->timestamp = (long long)now.tv_sec * 1000000 + now.tv_nsec / 1000;
                value->latencyUsec = 0;
                value->valueType = NVML_VALUE_TYPE_UNSIGNED_INT;
                value->value.ullVal = 0;
                value->nvmlReturn = NVML_ERROR_NOT_SUPPORTED; /* each field says for itself whether there is a value */
                for (size_t f = 0; f < sizeof(fields) / sizeof(fields[0]); f++)
                        if (fields[f].field == value->fieldId)
                                value->nvmlReturn = item(device, value->scopeId, fields[f].item, &value->value.uiVal);
        }
        return result;
}
