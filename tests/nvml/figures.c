/* libnvidia-ml.so.1 as a program meets it: found by name, without CUDA at first; then beside CUDA, and across fork().
 * Holds natively too, where a device has no other user while it runs. */
#include "../cuda/check.h"
#include "nvml_abi.h"
#include "nvml_api.h"
#include <dlfcn.h>
#include <strings.h>
#include <sys/wait.h>
#include <unistd.h>

#define ML(call) ML_EXPECT(NVML_SUCCESS, call)
#define ML_EXPECT(expected, call)                                                                      \
        do {                                                                                           \
                const nvmlReturn_t ml_result_ = (call);                                                \
                CHECK(ml_result_ == (expected), "%s answered %d, expected %d", #call, (int)ml_result_, \
                      (int)(expected));                                                                \
        } while (0)

static struct {
        __typeof__(&nvmlInit_v2) init;
        __typeof__(&nvmlShutdown) shutdown;
        __typeof__(&nvmlErrorString) error_string;
        __typeof__(&nvmlSystemGetDriverVersion) driver_version;
        __typeof__(&nvmlSystemGetCudaDriverVersion_v2) cuda_version;
        __typeof__(&nvmlSystemGetProcessName) process_name;
        __typeof__(&nvmlDeviceGetCount_v2) count;
        __typeof__(&nvmlDeviceGetHandleByIndex_v2) by_index;
        __typeof__(&nvmlDeviceGetHandleByUUID) by_uuid;
        __typeof__(&nvmlDeviceGetHandleByPciBusId_v2) by_pci;
        __typeof__(&nvmlDeviceGetName) name;
        __typeof__(&nvmlDeviceGetUUID) uuid;
        __typeof__(&nvmlDeviceGetPciInfo_v3) pci;
        __typeof__(&nvmlDeviceGetCudaComputeCapability) capability;
        __typeof__(&nvmlDeviceGetMemoryInfo) memory;
        __typeof__(&nvmlDeviceGetMemoryInfo_v2) memory_v2;
        __typeof__(&nvmlDeviceGetComputeRunningProcesses_v3) processes;
        __typeof__(&nvmlDeviceGetUtilizationRates) utilization;
        __typeof__(&nvmlDeviceGetMaxClockInfo) max_clock;
        __typeof__(&nvmlDeviceGetP2PStatus) p2p;
        __typeof__(&nvmlDeviceGetNvLinkState) link_state;
        __typeof__(&nvmlDeviceGetFieldValues) fields;
        __typeof__(&nvmlDeviceGetTemperature) temperature;
        __typeof__(&nvmlDeviceGetTemperatureV) temperature_v;
        __typeof__(&nvmlEventSetCreate) event_set_create;
        __typeof__(&nvmlEventSetFree) event_set_free;
        __typeof__(&nvmlEventSetWait_v2) event_set_wait;
        __typeof__(&nvmlInternalGetExportTable) export_table;
        nvmlReturn_t (*bridge_chips)(nvmlDevice_t, void *);
} ml;

static void load(void)
{
        void *library = dlopen("libnvidia-ml.so.1", RTLD_NOW);

        CHECK(library != NULL, "%s", dlerror());
#define LOAD(member, symbol)                           \
        *(void **)&ml.member = dlsym(library, symbol); \
        CHECK(ml.member != NULL, "%s is not exported", symbol)
        LOAD(init, "nvmlInit_v2");
        LOAD(shutdown, "nvmlShutdown");
        LOAD(error_string, "nvmlErrorString");
        LOAD(driver_version, "nvmlSystemGetDriverVersion");
        LOAD(cuda_version, "nvmlSystemGetCudaDriverVersion_v2");
        LOAD(process_name, "nvmlSystemGetProcessName");
        LOAD(count, "nvmlDeviceGetCount_v2");
        LOAD(by_index, "nvmlDeviceGetHandleByIndex_v2");
        LOAD(by_uuid, "nvmlDeviceGetHandleByUUID");
        LOAD(by_pci, "nvmlDeviceGetHandleByPciBusId_v2");
        LOAD(name, "nvmlDeviceGetName");
        LOAD(uuid, "nvmlDeviceGetUUID");
        LOAD(pci, "nvmlDeviceGetPciInfo_v3");
        LOAD(capability, "nvmlDeviceGetCudaComputeCapability");
        LOAD(memory, "nvmlDeviceGetMemoryInfo");
        LOAD(memory_v2, "nvmlDeviceGetMemoryInfo_v2");
        LOAD(processes, "nvmlDeviceGetComputeRunningProcesses_v3");
        LOAD(utilization, "nvmlDeviceGetUtilizationRates");
        LOAD(max_clock, "nvmlDeviceGetMaxClockInfo");
        LOAD(p2p, "nvmlDeviceGetP2PStatus");
        LOAD(link_state, "nvmlDeviceGetNvLinkState");
        LOAD(fields, "nvmlDeviceGetFieldValues");
        LOAD(temperature, "nvmlDeviceGetTemperature");
        LOAD(temperature_v, "nvmlDeviceGetTemperatureV");
        LOAD(event_set_create, "nvmlEventSetCreate");
        LOAD(event_set_free, "nvmlEventSetFree");
        LOAD(event_set_wait, "nvmlEventSetWait_v2");
        LOAD(export_table, "nvmlInternalGetExportTable");
        LOAD(bridge_chips, "nvmlDeviceGetBridgeChipInfo");
}

static void lasting_figures_agree_with_cuda(nvmlDevice_t device)
{
        char text[96], short_text[4], cuda_text[96];
        nvmlPciInfo_t pci;
        nvmlDevice_t same;
        CUuuid uuid;
        size_t total;
        int version, cuda_version, major, minor, value;
        char *at = text + 4;

        CU(cuDriverGetVersion(&cuda_version));
        ML(ml.cuda_version(&version));
        CHECK(version == cuda_version, "%d, CUDA says %d", version, cuda_version);
        ML(ml.driver_version(text, sizeof(text)));
        CHECK(text[0] >= '1' && text[0] <= '9', "driver version '%s'", text);
        ML_EXPECT(NVML_ERROR_INSUFFICIENT_SIZE, ml.name(device, short_text, sizeof(short_text)));
        ML(ml.name(device, text, sizeof(text)));
        CU(cuDeviceGetName(cuda_text, sizeof(cuda_text), 0));
        CHECK(strcmp(text, cuda_text) == 0, "'%s', CUDA says '%s'", text, cuda_text);
        ML(ml.capability(device, &major, &minor));
        CU(cuDeviceGetAttribute(&value, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, 0));
        CHECK(major == value && minor >= 0, "capability %d.%d", major, minor);
        ML(ml.uuid(device, text, sizeof(text)));
        CU(cuDeviceGetUuid_v2(&uuid, 0));
        CHECK(strncmp(text, "GPU-", 4) == 0 && strlen(text) == 40, "UUID '%s'", text);
        for (int i = 0; i < 16; i++) {
                unsigned int byte;

                at += *at == '-';
                CHECK(sscanf(at, "%2x", &byte) == 1 && byte == (uint8_t)uuid.bytes[i], "byte %d of '%s'", i, text);
                at += 2;
        }
        ML(ml.by_uuid(text, &same));
        CHECK(same == device, "another device by UUID");
        ML_EXPECT(NVML_ERROR_NOT_FOUND, ml.by_uuid("GPU-00000000-0000-0000-0000-000000000001", &same));
        ML(ml.pci(device, &pci));
        ML(ml.by_pci(pci.busId, &same));
        CHECK(same == device, "another device by '%s'", pci.busId);
        CU(cuDeviceGetAttribute(&value, CU_DEVICE_ATTRIBUTE_PCI_BUS_ID, 0));
        CHECK(pci.bus == (unsigned int)value, "bus %u, CUDA says %d", pci.bus, value);
        CU(cuDeviceTotalMem_v2(&total, 0));
}

/* What nvidia-smi calls behind nvmlInternalGetExportTable, as seen of driver 580. */
static void private_table_answers(nvmlDevice_t device)
{
        enum { ENTRY_BUS_ID = 81, ENTRY_PROCESSES = 213, PROCESSES = 64 };
        static const unsigned char id[16] = {0xc4, 0xfe, 0x3e, 0x6c, 0xc9, 0x8f, 0x6c, 0x4e,
                                             0xa3, 0x27, 0xee, 0x69, 0x6e, 0x12, 0xf7, 0xc4};
        static const unsigned char nobody[16] = {1};
        struct process {
                unsigned int pid;
                unsigned long long bytes;
                unsigned int instances[2];
                unsigned long long rest;
                char command[4096];
        } *processes = calloc(PROCESSES, sizeof(*processes));
        unsigned int count = PROCESSES, seen = 0;
        const uintptr_t *table;
        char text[32] = "";
        nvmlPciInfo_t pci;

        ML_EXPECT(NVML_ERROR_INVALID_ARGUMENT, ml.export_table((const void **)&table, nobody));
        ML(ml.export_table((const void **)&table, id));
        CHECK(table[0] >= 270 * sizeof(void *), "%zu bytes", (size_t)table[0]);
        ML(ml.pci(device, &pci));
        ML(((nvmlReturn_t(*)(unsigned int, char *))table[ENTRY_BUS_ID])(0, text));
        CHECK(strcasecmp(text, pci.busIdLegacy) == 0, "'%s', PCI says '%s'", text, pci.busIdLegacy);
        ML(((nvmlReturn_t(*)(nvmlDevice_t, unsigned int *, void *))table[ENTRY_PROCESSES])(device, &count, processes));
        for (unsigned int i = 0; i < count; i++)
                if (processes[i].pid == (unsigned int)getpid()) {
                        seen++;
                        CHECK(strstr(processes[i].command, "figures") != NULL, "command '%s'", processes[i].command);
                }
        CHECK(seen == 1, "this process is listed %u times among %u", seen, count);
        free(processes);
}

static void memory_is_counted(nvmlDevice_t device)
{
        enum { BYTES = 64 << 20 };
        nvmlMemory_t before, with, after;
        nvmlMemory_v2_t wide = {.version = nvmlMemory_v2};
        nvmlProcessInfo_v2_t infos[64];
        unsigned int count = 64, seen = 0;
        CUdeviceptr memory;
        char name[64];

        ML(ml.memory(device, &before));
        CHECK(before.total > 0 && before.used + before.free <= before.total, "total %llu", before.total);
        CU(cuMemAlloc_v2(&memory, BYTES));
        ML(ml.memory(device, &with));
        CHECK(with.used >= before.used + BYTES, "used %llu, before %llu", with.used, before.used);
        ML(ml.memory_v2(device, &wide));
        CHECK(wide.used >= BYTES && wide.total == with.total, "v2: used %llu of %llu", wide.used, wide.total);
        wide.version = 0;
        ML_EXPECT(NVML_ERROR_FUNCTION_NOT_FOUND, ml.memory_v2(device, &wide));
        ML(ml.processes(device, &count, infos));
        for (unsigned int i = 0; i < count; i++)
                if (infos[i].pid == (unsigned int)getpid()) {
                        seen++;
                        CHECK(infos[i].usedGpuMemory >= BYTES, "%llu bytes", infos[i].usedGpuMemory);
                }
        CHECK(seen == 1, "this process is listed %u times among %u", seen, count);
        ML(ml.process_name((unsigned int)getpid(), name, sizeof(name)));
        CHECK(strstr(name, "nvml") != NULL || strstr(name, "figures") != NULL, "name '%s'", name);
        count = 0;
        ML_EXPECT(NVML_ERROR_INSUFFICIENT_SIZE, ml.processes(device, &count, NULL));
        CHECK(count >= 1, "%u wanted", count);
        private_table_answers(device);
        CU(cuMemFree_v2(memory));
        CU(cuCtxSynchronize());
        ML(ml.memory(device, &after));
        CHECK(after.used <= with.used - BYTES, "used %llu after the free", after.used);
}

static void device_reaches_itself(nvmlDevice_t device)
{
        nvmlGpuP2PStatus_t status = NVML_P2P_STATUS_NOT_SUPPORTED;

        ML(ml.p2p(device, device, NVML_P2P_CAPS_INDEX_READ, &status)); /* NCCL asks, and gives up without */
        CHECK(status == NVML_P2P_STATUS_OK, "status %d", (int)status);
        ML_EXPECT(NVML_ERROR_INVALID_ARGUMENT, ml.p2p(device, device, NVML_P2P_CAPS_INDEX_UNKNOWN, &status));
}

static void links_are_told_or_unsupported(nvmlDevice_t device)
{
        unsigned int active = 2;
        const nvmlReturn_t result = ml.link_state(device, 0, &active);

        CHECK(result == NVML_ERROR_NOT_SUPPORTED || (result == NVML_SUCCESS && active <= 1), "answered %d, state %u",
              (int)result, active);
        ML_EXPECT(NVML_ERROR_INVALID_ARGUMENT, ml.link_state(device, NVML_NVLINK_MAX_LINKS, &active));

        nvmlFieldValue_t field = {.fieldId = NVML_FI_DEV_NVLINK_GET_STATE, .scopeId = 0};
        ML(ml.fields(device, 1, &field)); /* what there is not the field itself says */
        CHECK(field.nvmlReturn != NVML_SUCCESS || field.value.uiVal <= 1, "state %u", field.value.uiVal);
        ML_EXPECT(NVML_ERROR_INVALID_ARGUMENT, ml.fields(device, 1, NULL));
}

static void temperature_has_two_ways(nvmlDevice_t device)
{
        nvmlTemperature_t wide = {.version = nvmlTemperature_v1, .sensorType = NVML_TEMPERATURE_GPU};
        unsigned int degrees = 0;
        const nvmlReturn_t plain = ml.temperature(device, NVML_TEMPERATURE_GPU, &degrees);

        CHECK(ml.temperature_v(device, &wide) == plain, "one way answers %d", (int)plain);
        CHECK(plain != NVML_SUCCESS || abs(wide.temperature - (int)degrees) < 10, "%d and %u degrees", wide.temperature,
              degrees);
}

static void an_event_set_waits(void)
{
        struct {
                char room[256];
        } data;
        nvmlEventSet_t set;

        ML(ml.event_set_create(&set));
        ML_EXPECT(NVML_ERROR_TIMEOUT, ml.event_set_wait(set, &data, 10));
        ML(ml.event_set_free(set));
}

static unsigned long long own_memory(nvmlDevice_t device)
{
        nvmlProcessInfo_v2_t infos[64];
        unsigned int count = 64;

        ML(ml.processes(device, &count, infos));
        for (unsigned int i = 0; i < count; i++)
                if (infos[i].pid == (unsigned int)getpid())
                        return infos[i].usedGpuMemory;
        return 0;
}

/* Memory of cuMemCreate is this process's while a handle, then while a mapping holds it; mapped twice it counts once.
 */
static void memory_without_a_context_is_counted(nvmlDevice_t device)
{
        enum { BYTES = 64 << 20 };
        const CUmemAllocationProp prop = {.type = CU_MEM_ALLOCATION_TYPE_PINNED,
                                          .requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR,
                                          .location = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = 0}};
        const unsigned long long before = own_memory(device);
        CUmemGenericAllocationHandle handle = 0;
        CUdeviceptr address = 0;

        CU(cuMemCreate(&handle, BYTES, &prop, 0));
        CHECK(own_memory(device) - before == BYTES, "%llu bytes made", own_memory(device) - before);
        CU(cuMemAddressReserve(&address, 2 * (size_t)BYTES, 0, 0, 0));
        CU(cuMemMap(address, BYTES, 0, handle, 0));
        CU(cuMemMap(address + BYTES, BYTES, 0, handle, 0));
        CU(cuMemRelease(handle));
        CHECK(own_memory(device) - before == BYTES, "%llu bytes mapped twice", own_memory(device) - before);
        CU(cuMemUnmap(address, BYTES));
        CHECK(own_memory(device) - before == BYTES, "%llu bytes mapped once", own_memory(device) - before);
        CU(cuMemUnmap(address + BYTES, BYTES));
        CHECK(own_memory(device) == before, "%llu bytes left", own_memory(device) - before);
        CU(cuMemAddressFree(address, 2 * (size_t)BYTES));
}

/* As a monitor forks its workers before anything used CUDA. */
static void a_forked_child_begins_anew(void)
{
        const pid_t child = fork();
        int status;

        CHECK(child >= 0, "fork");
        if (child == 0) {
                nvmlDevice_t device;
                nvmlMemory_t memory;

                ML(ml.init());
                ML(ml.by_index(0, &device));
                ML(ml.memory(device, &memory));
                CU(cuInit(0));
                ML(ml.shutdown());
                exit(0);
        }
        CHECK(waitpid(child, &status, 0) == child && status == 0, "the child ended with status 0x%x", status);
}

int main(void)
{
        unsigned int count = 0;
        nvmlDevice_t device;
        nvmlUtilization_t utilization;
        nvmlReturn_t result;
        int cuda_count;

        load();
        ML_EXPECT(NVML_ERROR_UNINITIALIZED, ml.count(&count));
        ML_EXPECT(NVML_ERROR_UNINITIALIZED, ml.shutdown());
        ML(ml.init());
        ML(ml.init()); /* counted */
        ML(ml.shutdown());
        ML(ml.count(&count));
        CHECK(count >= 1, "no device");
        CU_EXPECT(CUDA_ERROR_NOT_INITIALIZED, cuDeviceGetCount(&cuda_count)); /* NVML does not initialise CUDA */
        ML(ml.by_index(0, &device));
        ML_EXPECT(NVML_ERROR_INVALID_ARGUMENT, ml.by_index(count, &device));
        a_forked_child_begins_anew();

        test_context();
        CU(cuDeviceGetCount(&cuda_count));
        CHECK((unsigned int)cuda_count <= count, "%d devices, NVML has %u", cuda_count, count);
        ML(ml.by_index(0, &device));
        lasting_figures_agree_with_cuda(device);
        memory_is_counted(device);
        device_reaches_itself(device);
        links_are_told_or_unsupported(device);
        temperature_has_two_ways(device);
        an_event_set_waits();
        memory_without_a_context_is_counted(device);
        result = ml.utilization(device, &utilization);
        CHECK(result == NVML_ERROR_NOT_SUPPORTED || (result == NVML_SUCCESS && utilization.gpu <= 100), "%d, %u%%",
              (int)result, utilization.gpu);
        ML_EXPECT(NVML_ERROR_INVALID_ARGUMENT, ml.max_clock(device, 9, &count));
        CHECK(strcmp(ml.error_string(NVML_ERROR_NOT_SUPPORTED), "Not Supported") == 0, "text");
        CHECK(strcmp(ml.error_string((nvmlReturn_t)12345), "Unknown Error") == 0, "text of no error");
        ML(ml.shutdown());
        ML_EXPECT(NVML_ERROR_UNINITIALIZED, ml.by_index(0, &device));
        puts("nvml figures: ok");
        return 0;
}
