/* Devices: one call brings everything about one, which is constant; all questions are answered from that. */
#include "cuda_api.h"
#include "guest.h"
#include "guest_send.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct {
        pthread_mutex_t lock;
        _Atomic(uintptr_t) snapshots[IVG_DEVICES_MAX]; /* struct ivg_device *; set once */
} devices = {.lock = PTHREAD_MUTEX_INITIALIZER};

static CUresult device_fetch(int device, struct ivg_device *out)
{
        struct ivg_wire_device wire = {.name = ""};
        const CUresult result = ivg_send_ivgDeviceSnapshot(device, &wire);

        if (result != CUDA_SUCCESS)
                return result;
        for (uint32_t i = 0; i < IVG_DEVICE_ATTRIBUTES; i++) {
                out->attributes[i] = wire.attributes[i];
                out->known[i] = (wire.known[i / 64] >> i % 64 & 1) != 0;
        }
        out->total_bytes = wire.total_bytes;
        memcpy(out->uuid.bytes, wire.uuid, sizeof(out->uuid.bytes));
        /* The last byte of either text is the NUL that calloc() left. */
        memcpy(out->name, wire.name, sizeof(out->name) - 1);
        memcpy(out->pci_bus_id, wire.pci_bus_id, sizeof(out->pci_bus_id) - 1);
        ivg_device_apply_rules(out);
        return CUDA_SUCCESS;
}

CUresult ivg_device_get(int device, const struct ivg_device **out)
{
        CUresult result = ivg_process_check();
        struct ivg_device *snapshot;

        if (result != CUDA_SUCCESS)
                return result;
        if (device < 0 || device >= ivg_process.device_count)
                return CUDA_ERROR_INVALID_DEVICE;
        /* Acquire, pairs with the release below: a snapshot that is there is complete. */
        *out = (const struct ivg_device *)atomic_load_explicit(&devices.snapshots[device], memory_order_acquire);
        if (__builtin_expect(*out != NULL, 1))
                return CUDA_SUCCESS;

        pthread_mutex_lock(&devices.lock);
        snapshot = (struct ivg_device *)atomic_load_explicit(&devices.snapshots[device], memory_order_acquire);
        if (snapshot == NULL) {
                snapshot = calloc(1, sizeof(*snapshot));
                result = snapshot == NULL ? CUDA_ERROR_OUT_OF_MEMORY : device_fetch(device, snapshot);
                if (result == CUDA_SUCCESS) {
                        atomic_store_explicit(&devices.snapshots[device], (uintptr_t)snapshot, memory_order_release);
                } else {
                        free(snapshot);
                        snapshot = NULL;
                }
        }
        pthread_mutex_unlock(&devices.lock);
        *out = snapshot;
        return result;
}

CUresult ivg_device_attribute(int device, CUdevice_attribute attribute, int *value)
{
        const struct ivg_device *snapshot;
        const CUresult result = ivg_device_get(device, &snapshot);

        if (result != CUDA_SUCCESS)
                return result;
        if ((unsigned int)attribute >= IVG_DEVICE_ATTRIBUTES || !snapshot->known[attribute])
                return CUDA_ERROR_INVALID_VALUE;
        *value = snapshot->attributes[attribute];
        return CUDA_SUCCESS;
}

/* ---- exported ---- */

CUresult cuDeviceGetCount(int *count)
{
        const CUresult result = ivg_process_check();

        if (result != CUDA_SUCCESS)
                return result;
        if (count == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        *count = ivg_process.device_count;
        return ivg_local("cuDeviceGetCount", CUDA_SUCCESS);
}

CUresult cuDeviceGet(CUdevice *device, int ordinal)
{
        const CUresult result = ivg_process_check();

        if (result != CUDA_SUCCESS)
                return result;
        if (device == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        if (ordinal < 0 || ordinal >= ivg_process.device_count)
                return ivg_local("cuDeviceGet", CUDA_ERROR_INVALID_DEVICE);
        *device = ordinal;
        return ivg_local("cuDeviceGet", CUDA_SUCCESS);
}

CUresult cuDeviceGetName(char *name, int len, CUdevice dev)
{
        const struct ivg_device *device;
        const CUresult result = ivg_device_get(dev, &device);

        if (result != CUDA_SUCCESS)
                return result;
        if (name == NULL || len <= 0)
                return CUDA_ERROR_INVALID_VALUE;
        snprintf(name, (size_t)len, "%s", device->name);
        return ivg_local("cuDeviceGetName", CUDA_SUCCESS);
}

static CUresult device_uuid(CUuuid *uuid, CUdevice dev)
{
        const struct ivg_device *device;
        const CUresult result = ivg_device_get(dev, &device);

        if (result != CUDA_SUCCESS)
                return result;
        if (uuid == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        *uuid = device->uuid;
        return CUDA_SUCCESS;
}

CUresult cuDeviceGetUuid(CUuuid *uuid, CUdevice dev)
{
        return ivg_local("cuDeviceGetUuid", device_uuid(uuid, dev));
}

CUresult cuDeviceGetUuid_v2(CUuuid *uuid, CUdevice dev)
{
        return ivg_local("cuDeviceGetUuid_v2", device_uuid(uuid, dev));
}

CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice dev)
{
        const struct ivg_device *device;
        const CUresult result = ivg_device_get(dev, &device);

        if (result != CUDA_SUCCESS)
                return result;
        if (bytes == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        *bytes = device->total_bytes;
        return ivg_local("cuDeviceTotalMem_v2", CUDA_SUCCESS);
}

CUresult cuDeviceTotalMem(unsigned int *bytes, CUdevice dev)
{
        size_t all;
        const CUresult result = cuDeviceTotalMem_v2(&all, dev);

        if (result != CUDA_SUCCESS)
                return result;
        if (bytes == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        *bytes = all > UINT32_MAX ? UINT32_MAX : (unsigned int)all; /* the 32-bit interface of CUDA 2 */
        return CUDA_SUCCESS;
}

CUresult cuDeviceGetAttribute(int *pi, CUdevice_attribute attrib, CUdevice dev)
{
        if (pi == NULL)
                return ivg_process_check() == CUDA_SUCCESS ? CUDA_ERROR_INVALID_VALUE : ivg_process_refusal();
        return ivg_local("cuDeviceGetAttribute", ivg_device_attribute(dev, attrib, pi));
}

CUresult cuDeviceComputeCapability(int *major, int *minor, CUdevice dev)
{
        CUresult result;

        if (major == NULL || minor == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        result = ivg_device_attribute(dev, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, major);
        if (result == CUDA_SUCCESS)
                result = ivg_device_attribute(dev, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, minor);
        return ivg_local("cuDeviceComputeCapability", result);
}

static CUresult pci_address(CUdevice dev, int *domain, int *bus, int *device)
{
        CUresult result = ivg_device_attribute(dev, CU_DEVICE_ATTRIBUTE_PCI_DOMAIN_ID, domain);

        if (result == CUDA_SUCCESS)
                result = ivg_device_attribute(dev, CU_DEVICE_ATTRIBUTE_PCI_BUS_ID, bus);
        if (result == CUDA_SUCCESS)
                result = ivg_device_attribute(dev, CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID, device);
        return result;
}

CUresult cuDeviceGetPCIBusId(char *pciBusId, int len, CUdevice dev)
{
        const struct ivg_device *device;
        const CUresult result = ivg_device_get(dev, &device);

        if (result != CUDA_SUCCESS)
                return result;
        if (pciBusId == NULL || len <= 0)
                return CUDA_ERROR_INVALID_VALUE;
        snprintf(pciBusId, (size_t)len, "%s", device->pci_bus_id);
        return ivg_local("cuDeviceGetPCIBusId", CUDA_SUCCESS);
}

/* [domain:]bus:device[.function], in hexadecimal. */
static bool pci_parse(const char *text, unsigned int *domain, unsigned int *bus, unsigned int *device)
{
        unsigned int function = 0;
        int used = 0;

        if ((sscanf(text, "%x:%x:%x%n", domain, bus, device, &used) == 3 && used > 0) ||
            (*domain = 0, used = 0, sscanf(text, "%x:%x%n", bus, device, &used) == 2 && used > 0)) {
                text += used;
                used = 0;
                return *text == '\0' || (sscanf(text, ".%x%n", &function, &used) == 1 && text[used] == '\0');
        }
        return false;
}

CUresult cuDeviceGetByPCIBusId(CUdevice *dev, const char *pciBusId)
{
        unsigned int domain = 0, bus = 0, device = 0;
        const CUresult state = ivg_process_check();

        if (state != CUDA_SUCCESS)
                return state;
        if (dev == NULL || pciBusId == NULL || !pci_parse(pciBusId, &domain, &bus, &device))
                return CUDA_ERROR_INVALID_VALUE;
        for (int i = 0; i < ivg_process.device_count; i++) {
                int its_domain, its_bus, its_device;
                const CUresult result = pci_address(i, &its_domain, &its_bus, &its_device);

                if (result != CUDA_SUCCESS)
                        return result;
                if ((int)domain == its_domain && (int)bus == its_bus && (int)device == its_device) {
                        *dev = i;
                        return ivg_local("cuDeviceGetByPCIBusId", CUDA_SUCCESS);
                }
        }
        return ivg_local("cuDeviceGetByPCIBusId", CUDA_ERROR_INVALID_DEVICE);
}

/* The legacy summary: every member is an attribute. */
CUresult cuDeviceGetProperties(CUdevprop *prop, CUdevice dev)
{
        static const CUdevice_attribute wanted[] = {
                CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK,
                CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X,
                CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y,
                CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z,
                CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X,
                CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y,
                CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z,
                CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK,
                CU_DEVICE_ATTRIBUTE_TOTAL_CONSTANT_MEMORY,
                CU_DEVICE_ATTRIBUTE_WARP_SIZE,
                CU_DEVICE_ATTRIBUTE_MAX_PITCH,
                CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK,
                CU_DEVICE_ATTRIBUTE_CLOCK_RATE,
                CU_DEVICE_ATTRIBUTE_TEXTURE_ALIGNMENT,
        };
        int values[sizeof(wanted) / sizeof(wanted[0])];

        if (prop == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
                const CUresult result = ivg_device_attribute(dev, wanted[i], &values[i]);

                if (result != CUDA_SUCCESS)
                        return result;
        }
        *prop = (CUdevprop){
                .maxThreadsPerBlock = values[0],
                .maxThreadsDim = {values[1], values[2], values[3]},
                .maxGridSize = {values[4], values[5], values[6]},
                .sharedMemPerBlock = values[7],
                .totalConstantMemory = values[8],
                .SIMDWidth = values[9],
                .memPitch = values[10],
                .regsPerBlock = values[11],
                .clockRate = values[12],
                .textureAlign = values[13],
        };
        return ivg_local("cuDeviceGetProperties", CUDA_SUCCESS);
}
