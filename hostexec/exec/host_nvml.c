#include "host_nvml.h"
#include "log.h"
#include <dlfcn.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

typedef int nvml_result; /* nvmlReturn_t: 0 is success */
typedef struct nvml_device *nvml_device;

/* ---- the questions: one row each ---- */

enum shape {
        SHAPE_ONE,      /* (device, unsigned *) */
        SHAPE_ARGUMENT, /* (device, int, unsigned *) */
        SHAPE_TWO,      /* (device, unsigned *, unsigned *) */
        SHAPE_PAIR,     /* (device, struct of two unsigned *) */
        SHAPE_LONG,     /* (device, unsigned long long *) */
};

static const struct question {
        const char *symbol;
        enum shape shape;
        int argument;
        enum ivg_status_item item; /* of two: the first */
} questions[] = {
        {"nvmlDeviceGetTemperature", SHAPE_ARGUMENT, 0, IVG_STATUS_TEMPERATURE},
        {"nvmlDeviceGetTemperatureThreshold", SHAPE_ARGUMENT, 0, IVG_STATUS_TEMPERATURE_SHUTDOWN},
        {"nvmlDeviceGetTemperatureThreshold", SHAPE_ARGUMENT, 1, IVG_STATUS_TEMPERATURE_SLOWDOWN},
        {"nvmlDeviceGetTemperatureThreshold", SHAPE_ARGUMENT, 2, IVG_STATUS_TEMPERATURE_MEMORY_MAX},
        {"nvmlDeviceGetTemperatureThreshold", SHAPE_ARGUMENT, 3, IVG_STATUS_TEMPERATURE_GPU_MAX},
        {"nvmlDeviceGetUtilizationRates", SHAPE_PAIR, 0, IVG_STATUS_UTILIZATION_GPU},
        {"nvmlDeviceGetPowerUsage", SHAPE_ONE, 0, IVG_STATUS_POWER_USAGE},
        {"nvmlDeviceGetPowerManagementLimit", SHAPE_ONE, 0, IVG_STATUS_POWER_LIMIT},
        {"nvmlDeviceGetEnforcedPowerLimit", SHAPE_ONE, 0, IVG_STATUS_POWER_LIMIT_ENFORCED},
        {"nvmlDeviceGetPowerManagementDefaultLimit", SHAPE_ONE, 0, IVG_STATUS_POWER_LIMIT_DEFAULT},
        {"nvmlDeviceGetPowerManagementLimitConstraints", SHAPE_TWO, 0, IVG_STATUS_POWER_LIMIT_MIN},
        {"nvmlDeviceGetPowerManagementMode", SHAPE_ONE, 0, IVG_STATUS_POWER_MANAGEMENT},
        {"nvmlDeviceGetTotalEnergyConsumption", SHAPE_LONG, 0, IVG_STATUS_ENERGY},
        {"nvmlDeviceGetClockInfo", SHAPE_ARGUMENT, 0, IVG_STATUS_CLOCK},
        {"nvmlDeviceGetClockInfo", SHAPE_ARGUMENT, 1, IVG_STATUS_CLOCK_SM},
        {"nvmlDeviceGetClockInfo", SHAPE_ARGUMENT, 2, IVG_STATUS_CLOCK_MEMORY},
        {"nvmlDeviceGetClockInfo", SHAPE_ARGUMENT, 3, IVG_STATUS_CLOCK_VIDEO},
        {"nvmlDeviceGetMaxClockInfo", SHAPE_ARGUMENT, 0, IVG_STATUS_CLOCK_MAX},
        {"nvmlDeviceGetMaxClockInfo", SHAPE_ARGUMENT, 1, IVG_STATUS_CLOCK_MAX_SM},
        {"nvmlDeviceGetMaxClockInfo", SHAPE_ARGUMENT, 2, IVG_STATUS_CLOCK_MAX_MEMORY},
        {"nvmlDeviceGetMaxClockInfo", SHAPE_ARGUMENT, 3, IVG_STATUS_CLOCK_MAX_VIDEO},
        {"nvmlDeviceGetFanSpeed", SHAPE_ONE, 0, IVG_STATUS_FAN_SPEED},
        {"nvmlDeviceGetNumFans", SHAPE_ONE, 0, IVG_STATUS_FANS},
        {"nvmlDeviceGetPerformanceState", SHAPE_ONE, 0, IVG_STATUS_PERFORMANCE_STATE},
        {"nvmlDeviceGetCurrPcieLinkGeneration", SHAPE_ONE, 0, IVG_STATUS_PCIE_GENERATION},
        {"nvmlDeviceGetMaxPcieLinkGeneration", SHAPE_ONE, 0, IVG_STATUS_PCIE_GENERATION_MAX},
        {"nvmlDeviceGetCurrPcieLinkWidth", SHAPE_ONE, 0, IVG_STATUS_PCIE_WIDTH},
        {"nvmlDeviceGetMaxPcieLinkWidth", SHAPE_ONE, 0, IVG_STATUS_PCIE_WIDTH_MAX},
        {"nvmlDeviceGetEccMode", SHAPE_TWO, 0, IVG_STATUS_ECC},
        {"nvmlDeviceGetPersistenceMode", SHAPE_ONE, 0, IVG_STATUS_PERSISTENCE},
        {"nvmlDeviceGetComputeMode", SHAPE_ONE, 0, IVG_STATUS_COMPUTE_MODE},
        {"nvmlDeviceGetBrand", SHAPE_ONE, 0, IVG_STATUS_BRAND},
        {"nvmlDeviceGetArchitecture", SHAPE_ONE, 0, IVG_STATUS_ARCHITECTURE},
        {"nvmlDeviceGetNumGpuCores", SHAPE_ONE, 0, IVG_STATUS_CORES},
        {"nvmlDeviceGetMemoryBusWidth", SHAPE_ONE, 0, IVG_STATUS_MEMORY_BUS_WIDTH},
        {"nvmlDeviceGetDisplayMode", SHAPE_ONE, 0, IVG_STATUS_DISPLAY_MODE},
        {"nvmlDeviceGetDisplayActive", SHAPE_ONE, 0, IVG_STATUS_DISPLAY_ACTIVE},
        {"nvmlDeviceGetMultiGpuBoard", SHAPE_ONE, 0, IVG_STATUS_MULTI_GPU_BOARD},
};
#define QUESTIONS (sizeof(questions) / sizeof(questions[0]))

/* By a function, (device, link, unsigned *), and by a field, which recent devices answer where the function does not:
 * NVML_FI_DEV_NVLINK_GET_*. */
static const struct {
        const char *symbol;
        unsigned int field;
} link_questions[IVG_LINK_REMOTE_PCI] = {
        [IVG_LINK_STATE] = {"nvmlDeviceGetNvLinkState", 165},
        [IVG_LINK_VERSION] = {"nvmlDeviceGetNvLinkVersion", 166},
        [IVG_LINK_REMOTE_TYPE] = {"nvmlDeviceGetNvLinkRemoteDeviceType", 0},
        [IVG_LINK_SPEED] = {NULL, 164},
};

/* nvmlFieldValue_t */
struct field_value {
        unsigned int field, scope;
        long long timestamp, latency;
        unsigned int type, result;
        union {
                unsigned int number;
                unsigned long long wide;
        } value;
};
_Static_assert(sizeof(struct field_value) == 40, "as NVML writes it");

/* nvmlPciInfo_t, version 3. */
struct pci_info {
        char bus_id_legacy[16];
        unsigned int domain, bus, device, device_id, subsystem_id;
        char bus_id[32];
};
_Static_assert(sizeof(struct pci_info) == 68, "as NVML writes it");

/* ---- the library ---- */

static struct {
        pthread_mutex_t lock;
        bool tried, ready;
        void (*functions[QUESTIONS])(void);
        nvml_result (*device_by_uuid)(const char *, nvml_device *);
        nvml_result (*pci_info)(nvml_device, struct pci_info *);
        nvml_result (*driver_version)(char *, unsigned int);
        nvml_result (*vbios_version)(nvml_device, char *, unsigned int);
        nvml_result (*link_items[IVG_LINK_REMOTE_PCI])(nvml_device, unsigned int, unsigned int *);
        nvml_result (*field_values)(nvml_device, int, struct field_value *);
        nvml_result (*link_capability)(nvml_device, unsigned int, int, unsigned int *);
        nvml_result (*link_pci)(nvml_device, unsigned int, struct pci_info *);
} nvml = {.lock = PTHREAD_MUTEX_INITIALIZER};

static bool library_open(const char *driver_folder)
{
        char path[PATH_MAX];
        nvml_result (*init)(void);
        nvml_result result;
        void *library;

        if ((size_t)snprintf(path, sizeof(path), "%s/%s", driver_folder, IVG_HOST_NVML_NAME) >= sizeof(path))
                return false;
        library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        if (!library) {
                ivg_log(IVG_LOG_DEBUG, "%s: %s", path, dlerror());
                return false;
        }
        init = (nvml_result(*)(void))dlsym(library, "nvmlInit_v2");
        nvml.device_by_uuid = (nvml_result(*)(const char *, nvml_device *))dlsym(library, "nvmlDeviceGetHandleByUUID");
        nvml.pci_info = (nvml_result(*)(nvml_device, struct pci_info *))dlsym(library, "nvmlDeviceGetPciInfo_v3");
        nvml.driver_version = (nvml_result(*)(char *, unsigned int))dlsym(library, "nvmlSystemGetDriverVersion");
        nvml.vbios_version =
                (nvml_result(*)(nvml_device, char *, unsigned int))dlsym(library, "nvmlDeviceGetVbiosVersion");
        for (size_t i = 0; i < IVG_LINK_REMOTE_PCI; i++)
                if (link_questions[i].symbol)
                        nvml.link_items[i] = (nvml_result(*)(nvml_device, unsigned int, unsigned int *))dlsym(
                                library, link_questions[i].symbol);
        nvml.field_values =
                (nvml_result(*)(nvml_device, int, struct field_value *))dlsym(library, "nvmlDeviceGetFieldValues");
        nvml.link_capability = (nvml_result(*)(nvml_device, unsigned int, int, unsigned int *))dlsym(
                library, "nvmlDeviceGetNvLinkCapability");
        nvml.link_pci = (nvml_result(*)(nvml_device, unsigned int, struct pci_info *))dlsym(
                library, "nvmlDeviceGetNvLinkRemotePciInfo_v2");
        for (size_t i = 0; i < QUESTIONS; i++)
                nvml.functions[i] = (void (*)(void))dlsym(library, questions[i].symbol); /* NULL: an older driver */
        result = init && nvml.device_by_uuid ? init() : -1;
        if (result != 0) {
                ivg_log(IVG_LOG_WARNING, "%s: nvmlInit_v2 answered %d: figures come from CUDA alone", path, result);
                dlclose(library);
                return false;
        }
        return true;
}

static bool library_ready(const char *driver_folder)
{
        bool ready;

        pthread_mutex_lock(&nvml.lock);
        if (!nvml.tried)
                nvml.ready = library_open(driver_folder);
        nvml.tried = true;
        ready = nvml.ready;
        pthread_mutex_unlock(&nvml.lock);
        return ready;
}

/* ---- asking ---- */

static nvml_result ask(const struct question *question, void (*function)(void), nvml_device device, uint64_t values[2])
{
        unsigned int small[2] = {0, 0};
        unsigned long long large = 0;
        nvml_result result = -1;

        switch (question->shape) {
        case SHAPE_ONE:
                result = ((nvml_result(*)(nvml_device, unsigned int *))function)(device, small);
                break;
        case SHAPE_ARGUMENT:
                result =
                        ((nvml_result(*)(nvml_device, int, unsigned int *))function)(device, question->argument, small);
                break;
        case SHAPE_TWO:
                result = ((nvml_result(*)(nvml_device, unsigned int *, unsigned int *))function)(device, &small[0],
                                                                                                 &small[1]);
                break;
        case SHAPE_PAIR:
                result = ((nvml_result(*)(nvml_device, unsigned int(*)[2]))function)(device, &small);
                break;
        case SHAPE_LONG:
                result = ((nvml_result(*)(nvml_device, unsigned long long *))function)(device, &large);
                break;
        }
        values[0] = question->shape == SHAPE_LONG ? large : small[0];
        values[1] = small[1];
        return result;
}

static void note(struct ivg_wire_device_status *status, uint32_t item, uint64_t value)
{
        status->values[item] = value;
        status->known |= 1ull << item;
}

static void uuid_text(const uint8_t uuid[16], char text[48])
{
        int at = snprintf(text, 48, "GPU-");

        for (int i = 0; i < 16; i++)
                at += snprintf(text + at, 48 - (size_t)at, "%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "",
                               uuid[i]);
}

static bool device_find(const char *driver_folder, const uint8_t uuid[16], nvml_device *device)
{
        char text[48];

        if (!library_ready(driver_folder))
                return false;
        uuid_text(uuid, text);
        return nvml.device_by_uuid(text, device) == 0;
}

static bool link_item(nvml_device device, uint32_t link, uint32_t item, unsigned int *value)
{
        struct field_value field = {.field = link_questions[item].field, .scope = link};

        if (field.field != 0 && nvml.field_values && nvml.field_values(device, 1, &field) == 0 && field.result == 0) {
                *value = field.value.number;
                return true;
        }
        return nvml.link_items[item] && nvml.link_items[item](device, link, value) == 0;
}

bool ivg_host_nvml_link(const char *driver_folder, const uint8_t uuid[16], uint32_t link,
                        struct ivg_wire_device_link *state)
{
        nvml_device device = NULL;
        struct pci_info pci;
        unsigned int value;

        if (!device_find(driver_folder, uuid, &device))
                return false;
        for (uint32_t i = 0; i < IVG_LINK_REMOTE_PCI; i++)
                if (link_item(device, link, i, &value)) {
                        state->values[i] = value;
                        state->known |= 1u << i;
                }
        for (uint32_t i = 0; i < IVG_LINK_CAPABILITIES; i++)
                if (nvml.link_capability && nvml.link_capability(device, link, (int)i, &value) == 0) {
                        state->capabilities |= (value != 0 ? 1u : 0u) << i;
                        state->known |= 1u << (IVG_LINK_ITEMS + i);
                }
        memset(&pci, 0, sizeof(pci));
        if (nvml.link_pci && nvml.link_pci(device, link, &pci) == 0) {
                memcpy(state->pci, &pci.domain, sizeof(state->pci));
                memcpy(state->bus_id_legacy, pci.bus_id_legacy, sizeof(state->bus_id_legacy) - 1);
                memcpy(state->bus_id, pci.bus_id, sizeof(state->bus_id) - 1);
                state->known |= 1u << IVG_LINK_REMOTE_PCI;
        }
        return state->known != 0;
}

bool ivg_host_nvml_measure(const char *driver_folder, const uint8_t uuid[16], struct ivg_wire_device_status *status)
{
        nvml_device device = NULL;
        struct pci_info pci;

        if (!device_find(driver_folder, uuid, &device))
                return false;
        for (size_t i = 0; i < QUESTIONS; i++) {
                const bool two = questions[i].shape == SHAPE_TWO || questions[i].shape == SHAPE_PAIR;
                uint64_t values[2];

                if (!nvml.functions[i] || ask(&questions[i], nvml.functions[i], device, values) != 0)
                        continue;
                note(status, questions[i].item, values[0]);
                if (two)
                        note(status, questions[i].item + 1, values[1]);
        }
        memset(&pci, 0, sizeof(pci));
        if (nvml.pci_info && nvml.pci_info(device, &pci) == 0) {
                note(status, IVG_STATUS_PCI_DEVICE, pci.device_id);
                note(status, IVG_STATUS_PCI_SUBSYSTEM, pci.subsystem_id);
        }
        if (!nvml.driver_version || nvml.driver_version(status->host_driver, sizeof(status->host_driver)) != 0)
                status->host_driver[0] = '\0';
        if (!nvml.vbios_version || nvml.vbios_version(device, status->vbios, sizeof(status->vbios)) != 0)
                status->vbios[0] = '\0';
        return true;
}
