/* Memory of cuMemCreate: a memory file each, without an address until it is mapped (cu_virtual.c).
 *
 * A shareable handle is a descriptor of that file, so what other processes import is the same memory, and it lives
 * until the last of them lets go. The file's name says which device it belongs to. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "softgpu.h"

#define SG_PHYSICAL_NAME "ivgpu-soft-memory-"

/* Handles and mappings; under sg_memory_lock. */
struct sg_physical *sg_physical_of(CUmemGenericAllocationHandle handle)
{
        return sg_object_from((const void *)(uintptr_t)handle, SG_PHYSICAL);
}

/* True for the one who took the last holder away, who then ends it without the lock. */
bool sg_physical_drop_locked(struct sg_physical *physical, unsigned *holders)
{
        --*holders;
        return physical->handles == 0 && physical->mappings == 0;
}

void sg_physical_end(struct sg_physical *physical)
{
        if (sg_object_retire(physical))
                sg_object_put(physical);
}

void sg_physical_finalize(struct sg_physical *physical)
{
        if (physical->fd >= 0)
                close(physical->fd);
        if (physical->charged == 0)
                return;
        pthread_mutex_lock(&sg_memory_lock);
        physical->device->used_bytes -= physical->charged;
        pthread_mutex_unlock(&sg_memory_lock);
}

/* Takes the descriptor in every case. */
static CUresult sg_physical_open(struct sg_device *device, int fd, size_t bytes, unsigned handle_types,
                                 struct sg_physical **out)
{
        struct sg_physical *physical = fd >= 0 ? sg_object_new(SG_PHYSICAL) : NULL;
        if (physical == NULL) {
                if (fd >= 0)
                        close(fd);
                return CUDA_ERROR_OUT_OF_MEMORY;
        }
        physical->device = device;
        physical->fd = fd;
        physical->bytes = bytes;
        physical->handle_types = handle_types;
        physical->handles = 1;
        *out = physical;
        return CUDA_SUCCESS;
}

static bool sg_device_charge(struct sg_device *device, size_t bytes)
{
        pthread_mutex_lock(&sg_memory_lock);
        const bool fits = bytes <= device->total_bytes - device->used_bytes;
        if (fits)
                device->used_bytes += bytes;
        pthread_mutex_unlock(&sg_memory_lock);
        return fits;
}

/* The device of valid properties. */
static CUresult sg_physical_device(const CUmemAllocationProp *prop, struct sg_device **device)
{
        if (prop == NULL || prop->type != CU_MEM_ALLOCATION_TYPE_PINNED ||
            prop->location.type != CU_MEM_LOCATION_TYPE_DEVICE)
                return sg_ready() != CUDA_SUCCESS ? CUDA_ERROR_NOT_INITIALIZED : CUDA_ERROR_INVALID_VALUE;
        if (prop->requestedHandleTypes != CU_MEM_HANDLE_TYPE_NONE &&
            prop->requestedHandleTypes != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR)
                return CUDA_ERROR_NOT_SUPPORTED;
        return sg_device_find(prop->location.id, device);
}

SG_ENTRY(cuMemCreate, CUmemGenericAllocationHandle *out, size_t bytes, const CUmemAllocationProp *prop,
         unsigned long long flags)
{
        struct sg_device *device;
        struct sg_physical *physical;
        char name[48];
        CUresult result = sg_physical_device(prop, &device);
        if (result != CUDA_SUCCESS)
                return result;
        if (out == NULL || bytes == 0 || bytes % SG_MAPPING_BYTES != 0 || flags != 0)
                return CUDA_ERROR_INVALID_VALUE;
        if (!sg_device_charge(device, bytes))
                return CUDA_ERROR_OUT_OF_MEMORY;
        snprintf(name, sizeof(name), SG_PHYSICAL_NAME "%d", device->slot);
        const int fd = memfd_create(name, MFD_CLOEXEC);
        result = fd >= 0 && ftruncate(fd, (off_t)bytes) != 0 ? CUDA_ERROR_OUT_OF_MEMORY : CUDA_SUCCESS;
        if (result != CUDA_SUCCESS)
                close(fd);
        else
                result = sg_physical_open(device, fd, bytes, prop->requestedHandleTypes, &physical);
        if (result != CUDA_SUCCESS) {
                pthread_mutex_lock(&sg_memory_lock);
                device->used_bytes -= bytes;
                pthread_mutex_unlock(&sg_memory_lock);
                return result;
        }
        physical->charged = bytes;
        *out = (CUmemGenericAllocationHandle)sg_address(physical);
        return CUDA_SUCCESS;
}

SG_ENTRY(cuMemRelease, CUmemGenericAllocationHandle handle)
{
        bool valid, last = false;
        const CUresult ready = sg_ready();
        if (ready != CUDA_SUCCESS)
                return ready;
        struct sg_physical *physical = sg_physical_of(handle);
        if (physical == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        pthread_mutex_lock(&sg_memory_lock);
        valid = physical->handles != 0;
        if (valid)
                last = sg_physical_drop_locked(physical, &physical->handles);
        pthread_mutex_unlock(&sg_memory_lock);
        if (last)
                sg_physical_end(physical);
        return valid ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

/* ---- between processes ---- */

SG_ENTRY(cuMemExportToShareableHandle, void *out, CUmemGenericAllocationHandle handle, CUmemAllocationHandleType type,
         unsigned long long flags)
{
        const CUresult ready = sg_ready();
        if (ready != CUDA_SUCCESS)
                return ready;
        const struct sg_physical *physical = sg_physical_of(handle);
        if (physical == NULL || out == NULL || flags != 0)
                return CUDA_ERROR_INVALID_VALUE;
        if (type != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR)
                return CUDA_ERROR_NOT_SUPPORTED;
        if ((physical->handle_types & type) == 0)
                return CUDA_ERROR_INVALID_VALUE;
        const int fd = fcntl(physical->fd, F_DUPFD_CLOEXEC, 0);
        if (fd < 0)
                return CUDA_ERROR_OPERATING_SYSTEM;
        memcpy(out, &fd, sizeof(fd));
        return CUDA_SUCCESS;
}

/* The device whose memory the file is; false: it is no such file. */
static bool sg_physical_file(int fd, struct sg_device **device, size_t *bytes)
{
        char path[32], name[96];
        struct stat status;
        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        const ssize_t length = readlink(path, name, sizeof(name) - 1);
        if (length < 0 || fstat(fd, &status) != 0)
                return false;
        name[length] = '\0';
        static const char wanted[] = "/memfd:" SG_PHYSICAL_NAME;
        if (strncmp(name, wanted, sizeof(wanted) - 1) != 0)
                return false;
        *bytes = (size_t)status.st_size;
        const int slot = (int)strtol(name + sizeof(wanted) - 1, NULL, 10);
        for (unsigned i = 0; i < sg_device_count(); i++)
                if (sg_device_at(i)->slot == slot) {
                        *device = sg_device_at(i);
                        return true;
                }
        return false;
}

SG_ENTRY(cuMemImportFromShareableHandle, CUmemGenericAllocationHandle *out, void *os_handle,
         CUmemAllocationHandleType type)
{
        struct sg_device *device;
        struct sg_physical *physical;
        size_t bytes;
        const int fd = (int)(intptr_t)os_handle;
        const CUresult ready = sg_ready();
        if (ready != CUDA_SUCCESS)
                return ready;
        if (type != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR)
                return CUDA_ERROR_NOT_SUPPORTED;
        if (out == NULL || !sg_physical_file(fd, &device, &bytes))
                return CUDA_ERROR_INVALID_VALUE;
        const CUresult result = sg_physical_open(device, fcntl(fd, F_DUPFD_CLOEXEC, 0), bytes, type, &physical);
        if (result == CUDA_SUCCESS)
                *out = (CUmemGenericAllocationHandle)sg_address(physical);
        return result;
}

/* ---- properties ---- */

SG_ENTRY(cuMemGetAllocationPropertiesFromHandle, CUmemAllocationProp *out, CUmemGenericAllocationHandle handle)
{
        const CUresult ready = sg_ready();
        if (ready != CUDA_SUCCESS)
                return ready;
        const struct sg_physical *physical = sg_physical_of(handle);
        if (physical == NULL || out == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        *out = (CUmemAllocationProp){
                .type = CU_MEM_ALLOCATION_TYPE_PINNED,
                .requestedHandleTypes = (CUmemAllocationHandleType)physical->handle_types,
                .location = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = physical->device->ordinal}};
        return CUDA_SUCCESS;
}

SG_ENTRY(cuMemGetAllocationGranularity, size_t *out, const CUmemAllocationProp *prop,
         CUmemAllocationGranularity_flags option)
{
        struct sg_device *device;
        const CUresult result = sg_physical_device(prop, &device);
        if (result != CUDA_SUCCESS)
                return result;
        if (out == NULL ||
            (option != CU_MEM_ALLOC_GRANULARITY_MINIMUM && option != CU_MEM_ALLOC_GRANULARITY_RECOMMENDED))
                return CUDA_ERROR_INVALID_VALUE;
        *out = SG_MAPPING_BYTES;
        return CUDA_SUCCESS;
}
