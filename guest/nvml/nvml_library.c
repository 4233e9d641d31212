/* Beginning and end, errors, and what concerns the whole system. */
#include "nvml.h"
#include "nvml_api.h"
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LIBCUDA "libcuda.so.1"

static struct {
        pthread_mutex_t lock;
        unsigned int users; /* nvmlInit calls not yet undone */
        const struct ivg_management *management;
        int driver_version, device_count;
        struct nvmlDevice_st devices[IVG_NVML_DEVICES_MAX];
        bool failure_told;
} library = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* ---- libcuda ---- */

/* The one beside this library; the loader gives the copy that the program uses already, if it does. */
static void *libcuda_open(void)
{
        char path[4096];
        Dl_info self;
        const char *slash;

        if (!dladdr((void *)(uintptr_t)&libcuda_open, &self) || !(slash = strrchr(self.dli_fname, '/')) ||
            (size_t)snprintf(path, sizeof(path), "%.*s/%s", (int)(slash - self.dli_fname), self.dli_fname, LIBCUDA) >=
                    sizeof(path))
                return dlopen(LIBCUDA, RTLD_NOW | RTLD_LOCAL);
        return dlopen(path, RTLD_NOW | RTLD_LOCAL);
}

static void tell(const char *text)
{
        if (!library.failure_told)
                fprintf(stderr, "ivgpu: libnvidia-ml.so.1: %s\n", text);
        library.failure_told = true;
}

static nvmlReturn_t management_find(const struct ivg_management **out)
{
        void *libcuda = libcuda_open();
        CUresult (*get_table)(const void **, const CUuuid *);
        const void *table = NULL;
        CUuuid uuid;

        if (libcuda == NULL) {
                tell(dlerror());
                return NVML_ERROR_LIBRARY_NOT_FOUND;
        }
        get_table = (CUresult(*)(const void **, const CUuuid *))dlsym(libcuda, "cuGetExportTable");
        memcpy(uuid.bytes, ivg_management_uuid, sizeof(uuid.bytes));
        if (get_table == NULL || get_table(&table, &uuid) != CUDA_SUCCESS || table == NULL ||
            ((const struct ivg_management *)table)->bytes != sizeof(struct ivg_management)) {
                tell("the libcuda.so.1 beside it is of another build");
                return NVML_ERROR_LIB_RM_VERSION_MISMATCH;
        }
        *out = table;
        return NVML_SUCCESS;
}

/* The lock is held. */
static nvmlReturn_t begin(unsigned int flags)
{
        nvmlReturn_t result = NVML_SUCCESS;

        if (library.users == 0) {
                if (library.management == NULL)
                        result = management_find(&library.management);
                if (result == NVML_SUCCESS)
                        result = ivg_nvml_from_cuda(
                                library.management->connect(&library.driver_version, &library.device_count));
                if (result == NVML_SUCCESS && library.device_count <= 0 && !(flags & NVML_INIT_FLAG_NO_GPUS))
                        result = NVML_ERROR_DRIVER_NOT_LOADED;
                if (library.device_count > (int)IVG_NVML_DEVICES_MAX)
                        library.device_count = (int)IVG_NVML_DEVICES_MAX;
        }
        if (result == NVML_SUCCESS)
                library.users++;
        return result;
}

nvmlReturn_t nvmlInitWithFlags(unsigned int flags)
{
        nvmlReturn_t result;

        pthread_mutex_lock(&library.lock);
        result = begin(flags);
        pthread_mutex_unlock(&library.lock);
        return result;
}

nvmlReturn_t nvmlInit_v2(void)
{
        return nvmlInitWithFlags(0);
}

nvmlReturn_t nvmlInit(void)
{
        return nvmlInitWithFlags(0);
}

/* The channel stays: it is the process's, and goes with it. */
nvmlReturn_t nvmlShutdown(void)
{
        nvmlReturn_t result = NVML_ERROR_UNINITIALIZED;

        pthread_mutex_lock(&library.lock);
        if (library.users > 0) {
                library.users--;
                result = NVML_SUCCESS;
        }
        pthread_mutex_unlock(&library.lock);
        return result;
}

const struct ivg_management *ivg_nvml_library(void)
{
        const struct ivg_management *management;

        pthread_mutex_lock(&library.lock);
        management = library.users > 0 ? library.management : NULL;
        pthread_mutex_unlock(&library.lock);
        return management;
}

int ivg_nvml_device_count(void)
{
        return library.device_count;
}

/* ---- devices ---- */

nvmlReturn_t ivg_nvml_device_at(unsigned int index, struct nvmlDevice_st **out)
{
        nvmlReturn_t result = NVML_SUCCESS;
        struct nvmlDevice_st *device;

        if (ivg_nvml_library() == NULL)
                return NVML_ERROR_UNINITIALIZED;
        if (index >= (unsigned int)library.device_count)
                return NVML_ERROR_INVALID_ARGUMENT;
        pthread_mutex_lock(&library.lock);
        device = &library.devices[index];
        if (!device->known) {
                result = ivg_nvml_from_cuda(library.management->device((int)index, &device->wire));
                device->index = (int)index;
                device->wire.name[sizeof(device->wire.name) - 1] = '\0';
                device->wire.pci_bus_id[sizeof(device->wire.pci_bus_id) - 1] = '\0';
                device->known = result == NVML_SUCCESS;
        }
        pthread_mutex_unlock(&library.lock);
        *out = device;
        return result;
}

nvmlReturn_t ivg_nvml_device_check(nvmlDevice_t device)
{
        const uintptr_t into = (uintptr_t)device - (uintptr_t)library.devices;

        if (ivg_nvml_library() == NULL)
                return NVML_ERROR_UNINITIALIZED;
        if (into >= sizeof(library.devices) || into % sizeof(library.devices[0]) != 0 || !device->known)
                return NVML_ERROR_INVALID_ARGUMENT;
        return NVML_SUCCESS;
}

/* ---- errors ---- */

nvmlReturn_t ivg_nvml_from_cuda(CUresult result)
{
        switch (result) {
        case CUDA_SUCCESS:
                return NVML_SUCCESS;
        case CUDA_ERROR_INVALID_VALUE:
        case CUDA_ERROR_INVALID_DEVICE:
                return NVML_ERROR_INVALID_ARGUMENT;
        case CUDA_ERROR_NOT_SUPPORTED:
                return NVML_ERROR_NOT_SUPPORTED;
        case CUDA_ERROR_OUT_OF_MEMORY:
                return NVML_ERROR_MEMORY;
        case CUDA_ERROR_NO_DEVICE:
                return NVML_ERROR_DRIVER_NOT_LOADED;
        case CUDA_ERROR_SYSTEM_DRIVER_MISMATCH:
                return NVML_ERROR_LIB_RM_VERSION_MISMATCH;
        case CUDA_ERROR_DEVICE_UNAVAILABLE: /* the executor or the mediator is gone */
                return NVML_ERROR_GPU_IS_LOST;
        case CUDA_ERROR_TIMEOUT:
                return NVML_ERROR_TIMEOUT;
        case CUDA_ERROR_NOT_PERMITTED:
                return NVML_ERROR_NO_PERMISSION;
        default:
                return NVML_ERROR_UNKNOWN;
        }
}

nvmlReturn_t ivg_nvml_unsupported(const char *name)
{
        const char *log = getenv("IVGPU_LOG");

        if (ivg_nvml_library() == NULL)
                return NVML_ERROR_UNINITIALIZED;
        /* What a device does not have is an ordinary answer here, which tools print as N/A: named on request only. */
        if (log != NULL && strstr(log, "calls") != NULL)
                fprintf(stderr, "ivgpu: %s: not supported\n", name);
        return NVML_ERROR_NOT_SUPPORTED;
}

const char *nvmlErrorString(nvmlReturn_t result)
{
        static const char *const texts[] = {
                [NVML_SUCCESS] = "Success",
                [NVML_ERROR_UNINITIALIZED] = "Uninitialized",
                [NVML_ERROR_INVALID_ARGUMENT] = "Invalid Argument",
                [NVML_ERROR_NOT_SUPPORTED] = "Not Supported",
                [NVML_ERROR_NO_PERMISSION] = "Insufficient Permissions",
                [NVML_ERROR_ALREADY_INITIALIZED] = "Already Initialized",
                [NVML_ERROR_NOT_FOUND] = "Not Found",
                [NVML_ERROR_INSUFFICIENT_SIZE] = "Insufficient Size",
                [NVML_ERROR_INSUFFICIENT_POWER] = "Insufficient External Power",
                [NVML_ERROR_DRIVER_NOT_LOADED] = "Driver Not Loaded",
                [NVML_ERROR_TIMEOUT] = "Timeout",
                [NVML_ERROR_IRQ_ISSUE] = "Interrupt Request Issue",
                [NVML_ERROR_LIBRARY_NOT_FOUND] = "NVML Shared Library Not Found",
                [NVML_ERROR_FUNCTION_NOT_FOUND] = "Function Not Found",
                [NVML_ERROR_CORRUPTED_INFOROM] = "Corrupted infoROM",
                [NVML_ERROR_GPU_IS_LOST] = "GPU is lost",
                [NVML_ERROR_RESET_REQUIRED] = "GPU requires reset",
                [NVML_ERROR_OPERATING_SYSTEM] = "The operating system has blocked the request",
                [NVML_ERROR_LIB_RM_VERSION_MISMATCH] = "Driver/library version mismatch",
                [NVML_ERROR_IN_USE] = "In use by another client",
                [NVML_ERROR_MEMORY] = "Insufficient Memory",
                [NVML_ERROR_NO_DATA] = "No data",
                [NVML_ERROR_VGPU_ECC_NOT_SUPPORTED] = "vGPU ECC not supported",
                [NVML_ERROR_INSUFFICIENT_RESOURCES] = "Insufficient resources",
                [NVML_ERROR_FREQ_NOT_SUPPORTED] = "Requested frequency is not supported",
                [NVML_ERROR_ARGUMENT_VERSION_MISMATCH] = "Argument version mismatch",
                [NVML_ERROR_DEPRECATED] = "Deprecated",
                [NVML_ERROR_NOT_READY] = "Not ready",
                [NVML_ERROR_GPU_NOT_FOUND] = "No GPU found",
                [NVML_ERROR_INVALID_STATE] = "Invalid state",
                [NVML_ERROR_RESET_TYPE_NOT_SUPPORTED] = "Reset type not supported",
        };

        if ((unsigned int)result < sizeof(texts) / sizeof(texts[0]))
                return texts[result];
        return "Unknown Error";
}

/* ---- the system ---- */

nvmlReturn_t ivg_nvml_text(char *out, unsigned int capacity, const char *text)
{
        const size_t bytes = strlen(text) + 1;

        if (out == NULL)
                return NVML_ERROR_INVALID_ARGUMENT;
        if (capacity < bytes)
                return NVML_ERROR_INSUFFICIENT_SIZE;
        memcpy(out, text, bytes);
        return NVML_SUCCESS;
}

/* The host's driver, by its own name where its NVML tells it. Without one (the soft GPU) the CUDA version is what there
 * is to tell: "13.0". */
nvmlReturn_t nvmlSystemGetDriverVersion(char *version, unsigned int length)
{
        const struct ivg_management *management = ivg_nvml_library();
        struct ivg_wire_device_status status;
        char text[24];

        if (management == NULL)
                return NVML_ERROR_UNINITIALIZED;
        if (library.device_count > 0 && management->status(0, &status) == CUDA_SUCCESS &&
            status.host_driver[0] != '\0') {
                status.host_driver[sizeof(status.host_driver) - 1] = '\0';
                return ivg_nvml_text(version, length, status.host_driver);
        }
        snprintf(text, sizeof(text), "%d.%d", library.driver_version / 1000, library.driver_version % 1000 / 10);
        return ivg_nvml_text(version, length, text);
}

/* NVML's library is versioned with its driver: "13.580.95.05" in front of which stands the CUDA version it came with.
 */
nvmlReturn_t nvmlSystemGetNVMLVersion(char *version, unsigned int length)
{
        char driver[80], text[96];
        const nvmlReturn_t result = nvmlSystemGetDriverVersion(driver, sizeof(driver));

        if (result != NVML_SUCCESS)
                return result;
        snprintf(text, sizeof(text), "%d.%s", library.driver_version / 1000, driver);
        return ivg_nvml_text(version, length, text);
}

nvmlReturn_t nvmlSystemGetCudaDriverVersion_v2(int *version)
{
        if (ivg_nvml_library() == NULL)
                return NVML_ERROR_UNINITIALIZED;
        if (version == NULL)
                return NVML_ERROR_INVALID_ARGUMENT;
        *version = library.driver_version;
        return NVML_SUCCESS;
}

nvmlReturn_t nvmlSystemGetCudaDriverVersion(int *version)
{
        return nvmlSystemGetCudaDriverVersion_v2(version);
}

/* /proc of this guest: what it does not show is not there. */
nvmlReturn_t nvmlSystemGetProcessName(unsigned int pid, char *name, unsigned int length)
{
        char path[40], text[4096];
        size_t bytes;
        FILE *file;

        if (ivg_nvml_library() == NULL)
                return NVML_ERROR_UNINITIALIZED;
        if (name == NULL || length == 0)
                return NVML_ERROR_INVALID_ARGUMENT;
        snprintf(path, sizeof(path), "/proc/%u/cmdline", pid);
        file = fopen(path, "re");
        if (file == NULL)
                return NVML_ERROR_NOT_FOUND;
        bytes = fread(text, 1, sizeof(text) - 1, file);
        fclose(file);
        text[bytes] = '\0'; /* the first argument ends by itself */
        snprintf(name, length, "%s", text);
        return NVML_SUCCESS;
}
