/* The devices: how many, how large, and what they are called. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "softgpu.h"

#define SG_START_MS_MAX 60000u
#define SG_PCI_DEVICE_ID 4u /* every device sits in slot 4 of its own bus */

static pthread_once_t sg_devices_once = PTHREAD_ONCE_INIT;
static struct sg_device sg_devices[SG_DEVICES_MAX];
static unsigned sg_devices_used;
static CUresult sg_devices_result;
static _Atomic(uint32_t) sg_initialized;

/* A number from the environment, or `fallback` when it is absent; false when it is not a number in range. */
static bool sg_environment_number(const char *name, unsigned long low, unsigned long high, unsigned long fallback,
                                  unsigned long *out)
{
        const char *text = getenv(name);
        *out = fallback;
        if (text == NULL || *text == '\0')
                return true;
        char *end;
        errno = 0;
        const unsigned long value = strtoul(text, &end, 10);
        if (errno != 0 || *end != '\0' || value < low || value > high) {
                sg_report("%s is \"%s\", not a number from %lu to %lu", name, text, low, high);
                return false;
        }
        *out = value;
        return true;
}

/* A forked child has the objects but not the threads behind them: nothing works in it, as on a GPU. */
static void sg_child(void)
{
        sg_devices_result = CUDA_ERROR_NOT_INITIALIZED;
        atomic_store(&sg_initialized, 0);
}

static void sg_end(void)
{
        if (sg_ready() == CUDA_SUCCESS)
                sg_contexts_abort();
}

static unsigned long sg_context_ms;

static void sg_pause_ms(unsigned long ms)
{
        const struct timespec pause = {.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000};
        if (ms != 0)
                (void)nanosleep(&pause, NULL); /* a signal's part is no matter */
}

void sg_context_pause(void)
{
        sg_pause_ms(sg_context_ms);
}

/* The machine's devices that the program sees, in its order: all, or what CUDA_VISIBLE_DEVICES lists up to the first
 * entry that names none, or one a second time. */
static unsigned sg_devices_choose(unsigned long count, int slots[SG_DEVICES_MAX])
{
        const char *text = getenv("CUDA_VISIBLE_DEVICES");
        unsigned chosen = 0;
        for (; text == NULL && chosen < count; chosen++)
                slots[chosen] = (int)chosen;
        for (; text != NULL && chosen < count; chosen++) {
                char *end;
                const unsigned long slot = strtoul(text, &end, 10);
                bool usable = end != text && slot < count && (*end == ',' || *end == '\0');
                for (unsigned i = 0; i < chosen && usable; i++)
                        usable = slots[i] != (int)slot;
                if (!usable)
                        break;
                slots[chosen] = (int)slot;
                text = *end == ',' ? end + 1 : end;
        }
        return chosen;
}

static void sg_devices_open(void)
{
        int slots[SG_DEVICES_MAX];
        unsigned long count, mib, init_ms, block_ns;
        if (!sg_environment_number("IVGPU_SOFT_INIT_MS", 0, SG_START_MS_MAX, 0, &init_ms) ||
            !sg_environment_number("IVGPU_SOFT_CONTEXT_MS", 0, SG_START_MS_MAX, 0, &sg_context_ms)) {
                sg_devices_result = CUDA_ERROR_NO_DEVICE;
                return;
        }
        sg_pause_ms(init_ms);
        if (!sg_environment_number("IVGPU_SOFT_DEVICES", 1, SG_DEVICES_MAX, 1, &count) ||
            !sg_environment_number("IVGPU_SOFT_MEMORY_MIB", 1, SG_MEMORY_MIB_MAX, SG_MEMORY_DEFAULT_MIB, &mib) ||
            !sg_environment_number("IVGPU_SOFT_BLOCK_NS", 0, SG_BLOCK_NS_MAX, 0, &block_ns) ||
            !sg_engine_open(block_ns)) {
                sg_devices_result = CUDA_ERROR_NO_DEVICE;
                return;
        }
        count = sg_devices_choose(count, slots);
        if (count == 0) {
                sg_devices_result = CUDA_ERROR_NO_DEVICE;
                return;
        }
        for (unsigned i = 0; i < count; i++) {
                struct sg_device *device = &sg_devices[i];
                device->ordinal = (int)i;
                device->slot = slots[i];
                device->total_bytes = (size_t)mib << 20;
                device->heap = sg_heap_open(device->total_bytes);
                if (device->heap == NULL || sg_pool_open(device, 0, -1, &device->default_pool) != CUDA_SUCCESS) {
                        sg_report("device %u: no address space for %lu MiB", i, mib);
                        sg_devices_result = CUDA_ERROR_OUT_OF_MEMORY;
                        return;
                }
                device->default_pool->is_default = true;
                device->current_pool = device->default_pool;
        }
        sg_devices_used = (unsigned)count;
        if (atexit(sg_end) != 0)
                sg_report("a kernel that runs at exit will be waited for");
        if (pthread_atfork(NULL, NULL, sg_child) != 0)
                sg_report("a forked child will not be told that its driver is gone");
}

SG_ENTRY(cuInit, unsigned flags)
{
        if (flags != 0)
                return CUDA_ERROR_INVALID_VALUE;
        pthread_once(&sg_devices_once, sg_devices_open);
        if (sg_devices_result == CUDA_SUCCESS)
                /* Release, pairs with sg_ready: whoever sees it initialised sees the devices. */
                atomic_store_explicit(&sg_initialized, 1, memory_order_release);
        return sg_devices_result;
}

CUresult sg_ready(void)
{
        return atomic_load_explicit(&sg_initialized, memory_order_acquire) ? CUDA_SUCCESS : CUDA_ERROR_NOT_INITIALIZED;
}

unsigned sg_device_count(void)
{
        return sg_devices_used;
}

struct sg_device *sg_device_at(unsigned index)
{
        return &sg_devices[index];
}

CUresult sg_device_find(CUdevice ordinal, struct sg_device **out)
{
        const CUresult ready = sg_ready();
        if (ready != CUDA_SUCCESS)
                return ready;
        if (ordinal < 0 || (unsigned)ordinal >= sg_devices_used)
                return CUDA_ERROR_INVALID_DEVICE;
        *out = &sg_devices[ordinal];
        return CUDA_SUCCESS;
}

unsigned sg_processor_count(void)
{
        const long online = sysconf(_SC_NPROCESSORS_ONLN);
        return online < 1 ? 1 : online > 128 ? 128 : (unsigned)online;
}

static int sg_claimed_version;

static void sg_version_read(void)
{
        unsigned long version;
        sg_claimed_version = sg_environment_number("IVGPU_SOFT_DRIVER_VERSION", SG_DRIVER_VERSION_MIN,
                                                   SG_DRIVER_VERSION_MAX, SG_DRIVER_VERSION, &version)
                                     ? (int)version
                                     : SG_DRIVER_VERSION;
}

int sg_driver_version(void)
{
        static pthread_once_t once = PTHREAD_ONCE_INIT;
        pthread_once(&once, sg_version_read);
        return sg_claimed_version;
}

SG_ENTRY(cuDriverGetVersion, int *out)
{
        if (out == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        *out = sg_driver_version();
        return CUDA_SUCCESS;
}

SG_ENTRY(cuDeviceGetCount, int *out)
{
        const CUresult ready = sg_ready();
        if (ready != CUDA_SUCCESS)
                return ready;
        if (out == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        *out = (int)sg_devices_used;
        return CUDA_SUCCESS;
}

/* What each question starts with: the device, and a place for the answer. */
static CUresult sg_device_asked(CUdevice ordinal, const void *out, struct sg_device **device)
{
        const CUresult result = sg_device_find(ordinal, device);
        return result == CUDA_SUCCESS && out == NULL ? CUDA_ERROR_INVALID_VALUE : result;
}

SG_ENTRY(cuDeviceGet, CUdevice *out, int ordinal)
{
        struct sg_device *device;
        const CUresult result = sg_device_asked(ordinal, out, &device);
        if (result != CUDA_SUCCESS)
                return result;
        *out = ordinal;
        return CUDA_SUCCESS;
}

SG_ENTRY(cuDeviceGetName, char *out, int capacity, CUdevice ordinal)
{
        struct sg_device *device;
        const CUresult result = sg_device_find(ordinal, &device);
        if (result != CUDA_SUCCESS)
                return result;
        if (out == NULL || capacity <= 0)
                return CUDA_ERROR_INVALID_VALUE;
        snprintf(out, (size_t)capacity, "ivgpu soft GPU");
        return CUDA_SUCCESS;
}

SG_ENTRY(cuDeviceGetUuid_v2, CUuuid *out, CUdevice ordinal)
{
        struct sg_device *device;
        const CUresult result = sg_device_asked(ordinal, out, &device);
        if (result != CUDA_SUCCESS)
                return result;
        /* The same in every process and on every machine: programs keep it to name the device again. */
        memcpy(out->bytes, "ivgpu-soft-dev-", 15);
        out->bytes[15] = (char)('0' + device->slot);
        return CUDA_SUCCESS;
}
SG_ALIAS(cuDeviceGetUuid, cuDeviceGetUuid_v2);

SG_ENTRY(cuDeviceTotalMem_v2, size_t *out, CUdevice ordinal)
{
        struct sg_device *device;
        const CUresult result = sg_device_asked(ordinal, out, &device);
        if (result != CUDA_SUCCESS)
                return result;
        *out = device->total_bytes;
        return CUDA_SUCCESS;
}

SG_ENTRY(cuDeviceGetPCIBusId, char *out, int capacity, CUdevice ordinal)
{
        struct sg_device *device;
        const CUresult result = sg_device_find(ordinal, &device);
        if (result != CUDA_SUCCESS)
                return result;
        if (out == NULL || capacity < 13)
                return CUDA_ERROR_INVALID_VALUE;
        snprintf(out, (size_t)capacity, "0000:%02x:%02x.0", (unsigned)device->slot + 1, SG_PCI_DEVICE_ID);
        return CUDA_SUCCESS;
}

SG_ENTRY(cuDeviceGetByPCIBusId, CUdevice *out, const char *text)
{
        const CUresult ready = sg_ready();
        if (ready != CUDA_SUCCESS)
                return ready;
        if (out == NULL || text == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        unsigned domain = 0, bus, slot, function = 0;
        if (sscanf(text, "%x:%x:%x.%x", &domain, &bus, &slot, &function) != 4) {
                domain = function = 0;
                if (sscanf(text, "%x:%x.%x", &bus, &slot, &function) != 3 && sscanf(text, "%x:%x", &bus, &slot) != 2)
                        return CUDA_ERROR_INVALID_VALUE;
        }
        if (domain != 0 || slot != SG_PCI_DEVICE_ID || function != 0 || bus < 1 || bus > sg_devices_used)
                return CUDA_ERROR_INVALID_DEVICE;
        *out = (CUdevice)(bus - 1);
        return CUDA_SUCCESS;
}

SG_ENTRY(cuDeviceGetAttribute, int *out, CUdevice_attribute attribute, CUdevice ordinal)
{
        struct sg_device *device;
        const CUresult result = sg_device_asked(ordinal, out, &device);
        if (result != CUDA_SUCCESS)
                return result;
        return sg_device_attribute(device, attribute, out);
}

SG_ENTRY(cuDeviceComputeCapability, int *major, int *minor, CUdevice ordinal)
{
        struct sg_device *device;
        const CUresult result = sg_device_find(ordinal, &device);
        if (result != CUDA_SUCCESS)
                return result;
        if (major == NULL || minor == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        *major = SG_PTX_TARGET_NATIVE / 10;
        *minor = SG_PTX_TARGET_NATIVE % 10;
        return CUDA_SUCCESS;
}

SG_ENTRY(cuDeviceGetProperties, CUdevprop *out, CUdevice ordinal)
{
        struct sg_device *device;
        const CUresult result = sg_device_asked(ordinal, out, &device);
        if (result != CUDA_SUCCESS)
                return result;
        const struct {
                CUdevice_attribute attribute;
                int *value;
        } fields[] = {
                {CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK, &out->maxThreadsPerBlock},
                {CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X, &out->maxThreadsDim[0]},
                {CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y, &out->maxThreadsDim[1]},
                {CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z, &out->maxThreadsDim[2]},
                {CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X, &out->maxGridSize[0]},
                {CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y, &out->maxGridSize[1]},
                {CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z, &out->maxGridSize[2]},
                {CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK, &out->sharedMemPerBlock},
                {CU_DEVICE_ATTRIBUTE_TOTAL_CONSTANT_MEMORY, &out->totalConstantMemory},
                {CU_DEVICE_ATTRIBUTE_WARP_SIZE, &out->SIMDWidth},
                {CU_DEVICE_ATTRIBUTE_MAX_PITCH, &out->memPitch},
                {CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK, &out->regsPerBlock},
                {CU_DEVICE_ATTRIBUTE_CLOCK_RATE, &out->clockRate},
                {CU_DEVICE_ATTRIBUTE_TEXTURE_ALIGNMENT, &out->textureAlign},
        };
        for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
                (void)sg_device_attribute(device, fields[i].attribute, fields[i].value);
        return CUDA_SUCCESS;
}

SG_ENTRY(cuDeviceGetExecAffinitySupport, int *out, CUexecAffinityType type, CUdevice ordinal)
{
        struct sg_device *device;
        const CUresult result = sg_device_find(ordinal, &device);
        if (result != CUDA_SUCCESS)
                return result;
        if (out == NULL || type != CU_EXEC_AFFINITY_TYPE_SM_COUNT)
                return CUDA_ERROR_INVALID_VALUE;
        *out = 0;
        return CUDA_SUCCESS;
}
