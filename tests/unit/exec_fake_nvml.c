/* An NVML of the test's own: one device with known figures; what it lacks it does not export, or refuses. */
#include <stdio.h>
#include <string.h>

struct pci_info {
        char bus_id_legacy[16];
        unsigned int domain, bus, device, device_id, subsystem_id;
        char bus_id[32];
};
struct utilization {
        unsigned int gpu, memory;
};

#define FUNCTION(name, ...)    \
        int name(__VA_ARGS__); \
        __attribute__((visibility("default"))) int name(__VA_ARGS__)
#define THE_DEVICE ((void *)0x51)

FUNCTION(nvmlInit_v2, void)
{
        return 0;
}
FUNCTION(nvmlDeviceGetHandleByUUID, const char *uuid, void **device)
{
        *device = THE_DEVICE;
        return strcmp(uuid, "GPU-00010203-0405-0607-0809-0a0b0c0d0eff") == 0 ? 0 : 6;
}
FUNCTION(nvmlSystemGetDriverVersion, char *text, unsigned int length)
{
        return snprintf(text, length, "580.1.2") < (int)length ? 0 : 7;
}
FUNCTION(nvmlDeviceGetPciInfo_v3, void *device, struct pci_info *pci)
{
        pci->device_id = 0x233510deu;
        pci->subsystem_id = 0x18be10deu;
        return device == THE_DEVICE ? 0 : 2;
}
FUNCTION(nvmlDeviceGetTemperature, void *device, int sensor, unsigned int *value)
{
        *value = 41;
        return device == THE_DEVICE && sensor == 0 ? 0 : 2;
}
FUNCTION(nvmlDeviceGetTemperatureThreshold, void *device, int threshold, unsigned int *value)
{
        *value = 90u + (unsigned int)threshold;
        return device != THE_DEVICE ? 2 : threshold == 2 ? 3 : 0;
}
FUNCTION(nvmlDeviceGetUtilizationRates, void *device, struct utilization *rates)
{
        *rates = (struct utilization){73, 12};
        return device == THE_DEVICE ? 0 : 2;
}
FUNCTION(nvmlDeviceGetMaxClockInfo, void *device, int clock, unsigned int *mhz)
{
        *mhz = 1000u + (unsigned int)clock;
        return device == THE_DEVICE ? 0 : 2;
}
FUNCTION(nvmlDeviceGetEccMode, void *device, unsigned int *current, unsigned int *pending)
{
        *current = 1;
        *pending = 0;
        return device == THE_DEVICE ? 0 : 2;
}
FUNCTION(nvmlDeviceGetTotalEnergyConsumption, void *device, unsigned long long *value)
{
        *value = 1ull << 40;
        return device == THE_DEVICE ? 0 : 2;
}
FUNCTION(nvmlDeviceGetNvLinkState, void *device, unsigned int link, unsigned int *active)
{
        *active = link == 3;
        return device == THE_DEVICE && link < 4 ? 0 : 2;
}
struct field_value {
        unsigned int field, scope;
        long long timestamp, latency;
        unsigned int type, result;
        unsigned long long value;
};
FUNCTION(nvmlDeviceGetFieldValues, void *device, int count, struct field_value *values)
{
        values->result = values->field == 164 && values->scope < 4 ? 0 : 3; /* the speed alone */
        values->value = 26562;
        return device == THE_DEVICE && count == 1 ? 0 : 2;
}
FUNCTION(nvmlDeviceGetNvLinkCapability, void *device, unsigned int link, int capability, unsigned int *has)
{
        *has = capability != 4;
        return device != THE_DEVICE || link >= 4 ? 2 : capability == 5 ? 3 : 0;
}
FUNCTION(nvmlDeviceGetNvLinkRemotePciInfo_v2, void *device, unsigned int link, struct pci_info *pci)
{
        *pci = (struct pci_info){"0000:8A:00.0", 0, 0x8a, 0, 0x22a310deu, 0x179610deu, "00000000:8A:00.0"};
        return device == THE_DEVICE && link == 3 ? 0 : 3;
}
FUNCTION(nvmlDeviceGetFanSpeed, void *device, unsigned int *value)
{
        (void)device;
        *value = 99; /* not to be believed: a refused answer */
        return 3;
}
