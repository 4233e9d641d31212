/* Event sets, of which monitors make one at their start. No event of the host's device reaches a guest: a set holds
 * none, devices say that they have no types to register, and waiting ends with its time. */
#include "nvml.h"
#include "nvml_api.h"
#include <errno.h>
#include <stdlib.h>
#include <time.h>

struct nvmlEventSet_st {
        unsigned int magic;
};
#define EVENT_SET_MAGIC 0x5e7e5e7eu

static nvmlReturn_t set_check(nvmlEventSet_t set)
{
        if (ivg_nvml_library() == NULL)
                return NVML_ERROR_UNINITIALIZED;
        return set != NULL && set->magic == EVENT_SET_MAGIC ? NVML_SUCCESS : NVML_ERROR_INVALID_ARGUMENT;
}

nvmlReturn_t nvmlEventSetCreate(nvmlEventSet_t *set)
{
        if (ivg_nvml_library() == NULL)
                return NVML_ERROR_UNINITIALIZED;
        if (set == NULL)
                return NVML_ERROR_INVALID_ARGUMENT;
        *set = malloc(sizeof(**set));
        if (*set == NULL)
                return NVML_ERROR_MEMORY;
        (*set)->magic = EVENT_SET_MAGIC;
        return NVML_SUCCESS;
}

nvmlReturn_t nvmlEventSetFree(nvmlEventSet_t set)
{
        const nvmlReturn_t result = set_check(set);

        if (result != NVML_SUCCESS)
                return result;
        set->magic = 0;
        free(set);
        return NVML_SUCCESS;
}

nvmlReturn_t nvmlEventSetWait(nvmlEventSet_t set, void *data, unsigned int timeout_ms)
{
        struct timespec left = {timeout_ms / 1000, (long)(timeout_ms % 1000) * 1000000};
        const nvmlReturn_t result = set_check(set);

        if (result != NVML_SUCCESS)
                return result;
        if (data == NULL)
                return NVML_ERROR_INVALID_ARGUMENT;
        while (nanosleep(&left, &left) != 0 && errno == EINTR)
                ;
        return NVML_ERROR_TIMEOUT;
}

nvmlReturn_t nvmlEventSetWait_v2(nvmlEventSet_t set, void *data, unsigned int timeout_ms)
{
        return nvmlEventSetWait(set, data, timeout_ms);
}

nvmlReturn_t nvmlDeviceGetSupportedEventTypes(nvmlDevice_t device, unsigned long long *types)
{
        const nvmlReturn_t result = ivg_nvml_device_check(device);

        if (result != NVML_SUCCESS)
                return result;
        if (types == NULL)
                return NVML_ERROR_INVALID_ARGUMENT;
        *types = 0;
        return NVML_SUCCESS;
}
