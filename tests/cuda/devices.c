/* What a device says of itself, asked in every way there is: the ways agree; and what pointers say. */
#include "ivgpu/layout_table.h"
#include "supported.h"

static int attribute(CUdevice_attribute which)
{
        int value = -1;
        CU(cuDeviceGetAttribute(&value, which, 0));
        return value;
}

static void identity(CUdevice device)
{
        CUuuid first, second;
        char bus[32], small[4];
        CUdevice found = -1;
        size_t bytes;
        int major, minor;
        CUdevprop properties;
        CU(cuDeviceGetUuid(&first, device));
        CU(cuDeviceGetUuid_v2(&second, device));
        CHECK(memcmp(&first, &second, sizeof first) == 0, "two names of one device");
        CU(cuDeviceGetPCIBusId(bus, sizeof bus, device));
        CU(cuDeviceGetByPCIBusId(&found, bus));
        CHECK(found == device, "%s is device %d", bus, found);
        CHECK(cuDeviceGetPCIBusId(small, 0, device) == CUDA_ERROR_INVALID_VALUE, "no room, no error");
        CU(cuDeviceTotalMem_v2(&bytes, device));
        CHECK(bytes >= 64 << 20, "%zu bytes", bytes);
        CU(cuDeviceComputeCapability(&major, &minor, device));
        CHECK(major == attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR) &&
                      minor == attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR),
              "capability %d.%d", major, minor);
        CU(cuDeviceGetProperties(&properties, device));
        CHECK(properties.maxThreadsPerBlock == attribute(CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK) &&
                      properties.maxThreadsDim[2] == attribute(CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z) &&
                      properties.maxGridSize[0] == attribute(CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X) &&
                      properties.sharedMemPerBlock == attribute(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK) &&
                      properties.SIMDWidth == attribute(CU_DEVICE_ATTRIBUTE_WARP_SIZE) &&
                      properties.regsPerBlock == attribute(CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK) &&
                      properties.clockRate == attribute(CU_DEVICE_ATTRIBUTE_CLOCK_RATE),
              "properties and attributes differ");
        CU_EXPECT(CUDA_ERROR_INVALID_VALUE, cuDeviceGetAttribute(&major, (CUdevice_attribute)9999, device));
        CU_EXPECT(CUDA_ERROR_INVALID_DEVICE, cuDeviceGet(&found, 999));
        CU_EXPECT(CUDA_ERROR_INVALID_DEVICE, cuDeviceGet(&found, -1));
}

/* An attribute that says "yes" is a promise: what it names works. */
static void promises(void)
{
        CUdeviceptr memory;
        CUstream stream;
        void *host;
        CU(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
        CHECK(attribute(CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING) == 1, "no unified addressing");
        if (attribute(CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED)) {
                CU(cuMemAllocAsync(&memory, 4096, stream));
                CU(cuMemsetD8Async(memory, 3, 4096, stream));
                CU(cuMemFreeAsync(memory, stream));
                CU(cuStreamSynchronize(stream));
        }
        if (attribute(CU_DEVICE_ATTRIBUTE_MANAGED_MEMORY)) {
                CU(cuMemAllocManaged(&memory, 4096, CU_MEM_ATTACH_GLOBAL));
                if (attribute(CU_DEVICE_ATTRIBUTE_CONCURRENT_MANAGED_ACCESS))
                        ((volatile char *)(uintptr_t)memory)[4095] = 5;
                CU(cuMemFree_v2(memory));
        }
        if (attribute(CU_DEVICE_ATTRIBUTE_HOST_REGISTER_SUPPORTED)) {
                CHECK(posix_memalign(&host, 4096, 8192) == 0, "memory");
                CU(cuMemHostRegister_v2(host, 8192, CU_MEMHOSTREGISTER_PORTABLE));
                CU(cuMemHostUnregister(host));
                free(host);
        }
        if (attribute(CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED)) {
                CUdeviceptr address;
                CU(cuMemAddressReserve(&address, 64 << 20, 0, 0, 0));
                CU(cuMemAddressFree(address, 64 << 20));
        }
        if (attribute(CU_DEVICE_ATTRIBUTE_IPC_EVENT_SUPPORTED)) {
                CUevent event;
                CU(cuEventCreate(&event, CU_EVENT_INTERPROCESS | CU_EVENT_DISABLE_TIMING));
                CU(cuEventDestroy_v2(event));
        }
        int affinity = -1;
        CU(cuDeviceGetExecAffinitySupport(&affinity, CU_EXEC_AFFINITY_TYPE_SM_COUNT, 0));
        CHECK(affinity == 0 || affinity == 1, "affinity %d", affinity);
        size_t texels = 0;
        if (test_supported(cuDeviceGetTexture1DLinearMaxWidth(&texels, CU_AD_FORMAT_FLOAT, 1, 0),
                           "cuDeviceGetTexture1DLinearMaxWidth"))
                CHECK(texels >= 1 << 16, "%zu texels", texels);
        uint64_t used = 1;
        if (test_supported(cuDeviceGetGraphMemAttribute(0, CU_GRAPH_MEM_ATTR_USED_MEM_CURRENT, &used),
                           "cuDeviceGetGraphMemAttribute")) {
                CHECK(used == 0, "%" PRIu64 " bytes of graphs", used);
                CU(cuDeviceSetGraphMemAttribute(0, CU_GRAPH_MEM_ATTR_USED_MEM_HIGH, &(uint64_t){0}));
        }
        test_supported(cuDeviceGraphMemTrim(0), "cuDeviceGraphMemTrim");
        CU(cuStreamDestroy_v2(stream));
}

static void peers(int count)
{
        int can = -1, value = -1;
        CU(cuDeviceCanAccessPeer(&can, 0, 0));
        CHECK(can == 0, "a device is its own peer");
        if (count < 2) {
                puts("skipped on this device: two devices");
                return;
        }
        CU(cuDeviceCanAccessPeer(&can, 0, 1));
        CU(cuDeviceGetP2PAttribute(&value, CU_DEVICE_P2P_ATTRIBUTE_ACCESS_SUPPORTED, 0, 1));
        CHECK(can == value, "peer access: %d and %d", can, value);
        CU(cuDeviceGetP2PAttribute(&value, CU_DEVICE_P2P_ATTRIBUTE_NATIVE_ATOMIC_SUPPORTED, 0, 1));
        CHECK(value == 0 || value == 1, "atomics: %d", value);
}

static void atomics(int count)
{
        unsigned capabilities[2] = {~0u, ~0u};
        CUatomicOperation operations[2] = {CU_ATOMIC_OPERATION_INTEGER_ADD, CU_ATOMIC_OPERATION_CAS};
        if (test_supported(cuDeviceGetHostAtomicCapabilities(capabilities, operations, 2, 0),
                           "cuDeviceGetHostAtomicCapabilities"))
                CHECK(capabilities[0] != ~0u && capabilities[1] != ~0u, "nothing was written");
        if (count > 1 && test_supported(cuDeviceGetP2PAtomicCapabilities(capabilities, operations, 2, 0, 1),
                                        "cuDeviceGetP2PAtomicCapabilities"))
                CHECK(capabilities[0] != ~0u, "nothing was written");
}

/* ---- pointers ---- */

struct facts {
        unsigned type, managed, legacy_ipc, ordinal;
        CUdeviceptr base;
        size_t bytes;
        CUcontext context;
};

static struct facts facts_of(CUdeviceptr pointer)
{
        struct facts facts = {0};
        unsigned managed = ~0u, legacy = ~0u; /* booleans of four bytes */
        CU(cuPointerGetAttribute(&facts.type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, pointer));
        CU(cuPointerGetAttribute(&managed, CU_POINTER_ATTRIBUTE_IS_MANAGED, pointer));
        CU(cuPointerGetAttribute(&legacy, CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE, pointer));
        CU(cuPointerGetAttribute(&facts.ordinal, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, pointer));
        CU(cuPointerGetAttribute(&facts.base, CU_POINTER_ATTRIBUTE_RANGE_START_ADDR, pointer));
        CU(cuPointerGetAttribute(&facts.bytes, CU_POINTER_ATTRIBUTE_RANGE_SIZE, pointer));
        CU(cuPointerGetAttribute(&facts.context, CU_POINTER_ATTRIBUTE_CONTEXT, pointer));
        facts.managed = managed;
        facts.legacy_ipc = legacy;
        return facts;
}

static void pointers(CUcontext context)
{
        CUdeviceptr device, managed;
        void *pinned;
        CUipcMemHandle handle;
        CU(cuMemAlloc_v2(&device, 2 << 20));
        struct facts facts = facts_of(device + 12345);
        CHECK(facts.type == CU_MEMORYTYPE_DEVICE && !facts.managed && facts.base == device && facts.bytes == 2 << 20 &&
                      facts.context == context && facts.ordinal == 0,
              "device memory: type %u, managed %u, %zu bytes", facts.type, facts.managed, facts.bytes);
        /* The attribute and the call tell the same. */
        const CUresult exported = cuIpcGetMemHandle(&handle, device);
        CHECK(facts.legacy_ipc == (exported == CUDA_SUCCESS), "capable of IPC %u, cuIpcGetMemHandle answered %d",
              facts.legacy_ipc, (int)exported);
        CU(cuMemHostAlloc(&pinned, 8192, 0));
        facts = facts_of((uintptr_t)pinned + 100);
        CHECK(facts.type == CU_MEMORYTYPE_HOST && !facts.managed && !facts.legacy_ipc &&
                      facts.base == (uintptr_t)pinned,
              "pinned memory: type %u, managed %u, IPC %u", facts.type, facts.managed, facts.legacy_ipc);
        CU(cuMemAllocManaged(&managed, 8192, CU_MEM_ATTACH_GLOBAL));
        facts = facts_of(managed + 100);
        CHECK(facts.managed == 1 && !facts.legacy_ipc, "managed memory: %u, IPC %u", facts.managed, facts.legacy_ipc);
        CU(cuMemFree_v2(managed));
        CU(cuMemFreeHost(pinned));
        CU(cuMemFree_v2(device));
        unsigned type;
        CU_EXPECT(CUDA_ERROR_INVALID_VALUE,
                  cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, (uintptr_t)&type));
}

/* What cuBLASLt asks about the device behind cuGetExportTable. No two pairs of multiprocessors lie in one place. */
static void layout(CUdevice device)
{
        static const uint8_t bytes[] = IVG_LAYOUT_TABLE_UUID;
        bool seen[256][256] = {{false}};
        uint8_t *place = NULL, *group = NULL;
        ivg_layout_free give_back;
        ivg_layout_get get;
        const void *table;
        int multiprocessors;
        CUuuid uuid;

        memcpy(&uuid, bytes, sizeof(bytes));
        CU(cuGetExportTable(&table, &uuid));
        get = ((const ivg_layout_get *)table)[IVG_LAYOUT_GET];
        give_back = ((const ivg_layout_free *)table)[IVG_LAYOUT_FREE];
        CU(cuDeviceGetAttribute(&multiprocessors, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, device));
        const CUresult result = get(&place, &group);
        if (multiprocessors % 2 != 0) { /* the soft GPU may have any number */
                CHECK(result == CUDA_ERROR_NOT_SUPPORTED, "pairs of %d multiprocessors", multiprocessors);
                return;
        }
        CHECK(result == CUDA_SUCCESS, "no layout: %d", (int)result);
        for (int i = 0; i < multiprocessors / 2; i++) {
                CHECK(!seen[group[i]][place[i]], "pair %d is another's too: place %u of group %u", i, place[i],
                      group[i]);
                seen[group[i]][place[i]] = true;
        }
        CU(give_back(place, group));
}

int main(void)
{
        CUcontext context = test_context();
        CUdevice device;
        int count;
        CU(cuDeviceGet(&device, 0));
        CU(cuDeviceGetCount(&count));
        identity(device);
        promises();
        peers(count);
        atomics(count);
        pointers(context);
        layout(device);
        puts("devices: right");
        return 0;
}
