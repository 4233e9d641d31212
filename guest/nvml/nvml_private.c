/* The private table that nvidia-smi of driver 580 asks for by UUID (c4fe3e6c-c98f-6c4e-a327-ee696e12f7c4, 270 words of
 * which the first is the length in bytes). Entries with a meaning are those that nvidia-smi was seen to call and whose
 * answers it printed; the others answer NVML_ERROR_NOT_SUPPORTED, which it prints as N/A, and are named on request. */
#include "nvml.h"
#include "nvml_api.h"
#include <pthread.h>
#include <stdio.h>
#include <string.h>

typedef void (*table_entry)(void);

#define TABLE_WORDS IVG_NVML_PRIVATE_WORDS
#define ENTRY_LOG 26
#define ENTRY_BUS_ID 81
#define ENTRY_COMPUTE_PROCESSES 213
#define ENTRY_GRAPHICS_PROCESSES 214
#define ENTRY_MPS_PROCESSES 215
#define PROCESSES_MAX 64u /* more processes than a region has channels cannot be there */

/* Of the generated file: one stranger per entry, which knows its own number. */
extern nvmlReturn_t (*const ivg_nvml_private_strangers[TABLE_WORDS])(void);

/* printf-like, of every line that nvidia-smi prints by itself too: for a log that we do not keep. */
static nvmlReturn_t private_log(const char *format, ...)
{
        (void)format;
        return NVML_SUCCESS;
}

static nvmlReturn_t private_bus_id(unsigned int index, char *text)
{
        nvmlDevice_t device;
        nvmlPciInfo_t pci;
        nvmlReturn_t result = nvmlDeviceGetHandleByIndex_v2(index, &device);

        if (result == NVML_SUCCESS)
                result = nvmlDeviceGetPciInfo_v3(device, &pci);
        if (result == NVML_SUCCESS && text == NULL)
                result = NVML_ERROR_INVALID_ARGUMENT;
        if (result == NVML_SUCCESS)
                strcpy(text, pci.busIdLegacy); /* "0000:00:06.0": 13 bytes, as the real one writes */
        return result;
}

/* As nvmlDeviceGetComputeRunningProcesses_v3, with the protected memory and the command beside it. */
struct private_process {
        unsigned int pid;
        unsigned long long bytes;
        unsigned int gpu_instance, compute_instance;
        unsigned long long protected_bytes;
        char command[4096];
};
_Static_assert(sizeof(struct private_process) == 4128, "the step between two entries, as measured");

static nvmlReturn_t private_compute_processes(nvmlDevice_t device, unsigned int *count, struct private_process *out)
{
        nvmlProcessInfo_v2_t list[PROCESSES_MAX];
        unsigned int found = PROCESSES_MAX;
        nvmlReturn_t result = nvmlDeviceGetComputeRunningProcesses_v3(device, &found, list);

        if (result == NVML_SUCCESS && (count == NULL || (*count != 0 && out == NULL)))
                result = NVML_ERROR_INVALID_ARGUMENT;
        if (result != NVML_SUCCESS)
                return result;
        if (found > *count)
                result = NVML_ERROR_INSUFFICIENT_SIZE;
        for (unsigned int i = 0; i < found && result == NVML_SUCCESS; i++) {
                out[i].pid = list[i].pid;
                out[i].bytes = list[i].usedGpuMemory;
                out[i].gpu_instance = list[i].gpuInstanceId;
                out[i].compute_instance = list[i].computeInstanceId;
                out[i].protected_bytes = 0;
                /* A process that has just ended has no name any more: the table's line stays without one. */
                if (nvmlSystemGetProcessName(list[i].pid, out[i].command, sizeof(out[i].command)) != NVML_SUCCESS)
                        out[i].command[0] = '\0';
        }
        *count = found;
        return result;
}

static nvmlReturn_t private_no_processes(nvmlDevice_t device, unsigned int *count, struct private_process *out)
{
        (void)out;
        return nvmlDeviceGetGraphicsRunningProcesses_v3(device, count, NULL);
}

static table_entry table[TABLE_WORDS];

static void table_fill(void)
{
        for (unsigned int i = 1; i < TABLE_WORDS; i++)
                table[i] = (table_entry)ivg_nvml_private_strangers[i];
        table[0] = (table_entry)(uintptr_t)sizeof(table);
        table[ENTRY_LOG] = (table_entry)private_log;
        table[ENTRY_BUS_ID] = (table_entry)private_bus_id;
        table[ENTRY_COMPUTE_PROCESSES] = (table_entry)private_compute_processes;
        table[ENTRY_GRAPHICS_PROCESSES] = (table_entry)private_no_processes;
        table[ENTRY_MPS_PROCESSES] = (table_entry)private_no_processes;
}

nvmlReturn_t nvmlInternalGetExportTable(const void **out, const void *uuid)
{
        static const unsigned char known[16] = {0xc4, 0xfe, 0x3e, 0x6c, 0xc9, 0x8f, 0x6c, 0x4e,
                                                0xa3, 0x27, 0xee, 0x69, 0x6e, 0x12, 0xf7, 0xc4};
        static pthread_once_t once = PTHREAD_ONCE_INIT;

        if (out == NULL || uuid == NULL)
                return NVML_ERROR_INVALID_ARGUMENT;
        *out = NULL;
        if (memcmp(uuid, known, sizeof(known)) != 0)
                return NVML_ERROR_INVALID_ARGUMENT; /* as the real one answers */
        pthread_once(&once, table_fill);
        *out = table;
        return NVML_SUCCESS;
}
