/* Compiled twice: over our declaration, and over nvml.h. */
#include NVML_HEADER
#include <stddef.h>

struct ours {
        const char *what;
        long value;
};
extern const struct ours NVML_LIST[];

#define NUMBER(name)                \
        {                           \
#name, (long)(name) \
        }
#define SIZE(type)                                  \
        {                                           \
                "sizeof " #type, (long)sizeof(type) \
        }
#define PLACE(type, member)                                     \
        {                                                       \
#type "." #member, (long)offsetof(type, member) \
        }

const struct ours NVML_LIST[] = {
        NUMBER(NVML_SUCCESS),
        NUMBER(NVML_ERROR_UNINITIALIZED),
        NUMBER(NVML_ERROR_INVALID_ARGUMENT),
        NUMBER(NVML_ERROR_NOT_SUPPORTED),
        NUMBER(NVML_ERROR_NO_PERMISSION),
        NUMBER(NVML_ERROR_ALREADY_INITIALIZED),
        NUMBER(NVML_ERROR_NOT_FOUND),
        NUMBER(NVML_ERROR_INSUFFICIENT_SIZE),
        NUMBER(NVML_ERROR_INSUFFICIENT_POWER),
        NUMBER(NVML_ERROR_DRIVER_NOT_LOADED),
        NUMBER(NVML_ERROR_TIMEOUT),
        NUMBER(NVML_ERROR_IRQ_ISSUE),
        NUMBER(NVML_ERROR_LIBRARY_NOT_FOUND),
        NUMBER(NVML_ERROR_FUNCTION_NOT_FOUND),
        NUMBER(NVML_ERROR_CORRUPTED_INFOROM),
        NUMBER(NVML_ERROR_GPU_IS_LOST),
        NUMBER(NVML_ERROR_RESET_REQUIRED),
        NUMBER(NVML_ERROR_OPERATING_SYSTEM),
        NUMBER(NVML_ERROR_LIB_RM_VERSION_MISMATCH),
        NUMBER(NVML_ERROR_IN_USE),
        NUMBER(NVML_ERROR_MEMORY),
        NUMBER(NVML_ERROR_NO_DATA),
        NUMBER(NVML_ERROR_VGPU_ECC_NOT_SUPPORTED),
        NUMBER(NVML_ERROR_INSUFFICIENT_RESOURCES),
        NUMBER(NVML_ERROR_FREQ_NOT_SUPPORTED),
        NUMBER(NVML_ERROR_ARGUMENT_VERSION_MISMATCH),
        NUMBER(NVML_ERROR_DEPRECATED),
        NUMBER(NVML_ERROR_NOT_READY),
        NUMBER(NVML_ERROR_GPU_NOT_FOUND),
        NUMBER(NVML_ERROR_INVALID_STATE),
        NUMBER(NVML_ERROR_UNKNOWN),
        NUMBER(NVML_INIT_FLAG_NO_GPUS),
        NUMBER(NVML_CLOCK_COUNT),
        NUMBER(NVML_TEMPERATURE_GPU),
        NUMBER(NVML_TEMPERATURE_THRESHOLD_GPU_MAX),
        NUMBER(NVML_TEMPERATURE_THRESHOLD_COUNT),
        NUMBER(nvmlMemory_v2),
        SIZE(nvmlMemory_t),
        PLACE(nvmlMemory_t, free),
        PLACE(nvmlMemory_t, used),
        SIZE(nvmlMemory_v2_t),
        PLACE(nvmlMemory_v2_t, total),
        PLACE(nvmlMemory_v2_t, reserved),
        PLACE(nvmlMemory_v2_t, free),
        PLACE(nvmlMemory_v2_t, used),
        SIZE(nvmlPciInfo_t),
        PLACE(nvmlPciInfo_t, domain),
        PLACE(nvmlPciInfo_t, pciDeviceId),
        PLACE(nvmlPciInfo_t, pciSubSystemId),
        PLACE(nvmlPciInfo_t, busId),
        SIZE(nvmlUtilization_t),
        PLACE(nvmlUtilization_t, memory),
        SIZE(nvmlProcessInfo_v1_t),
        PLACE(nvmlProcessInfo_v1_t, usedGpuMemory),
        SIZE(nvmlProcessInfo_v2_t),
        PLACE(nvmlProcessInfo_v2_t, gpuInstanceId),
        PLACE(nvmlProcessInfo_v2_t, computeInstanceId),
        {NULL, 0},
};
