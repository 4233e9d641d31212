#include "sysfs_device.h"
#include "glue_internal.h"
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define IVSHMEM_VENDOR 0x1af4u
#define IVSHMEM_DEVICE 0x1110u
#define IVSHMEM_DOORBELL_OFFSET 12u
#define ATTRIBUTE_BYTES_MAX 2048u /* `resource` is the longest we read: 13 lines of 57 bytes */
#define DIRECTORY_ENTRIES_MAX 65536u

static int attribute_read(int directory, const char *name, char text[ATTRIBUTE_BYTES_MAX])
{
        int fd = openat(directory, name, O_RDONLY | O_CLOEXEC);
        ssize_t bytes;

        if (fd < 0)
                return -errno;
        bytes = read(fd, text, ATTRIBUTE_BYTES_MAX - 1);
        ivg_close_fd(&fd);
        if (bytes < 0)
                return -errno;
        text[bytes] = '\0';
        return 0;
}

static int attribute_number(int directory, const char *name, unsigned long long *value)
{
        char text[ATTRIBUTE_BYTES_MAX], *end;
        const int rc = attribute_read(directory, name, text);

        if (rc < 0)
                return rc;
        *value = strtoull(text, &end, 0);
        return end == text ? -EINVAL : 0;
}

static bool is_ivshmem(int directory)
{
        unsigned long long vendor, device;

        return attribute_number(directory, "vendor", &vendor) == 0 && vendor == IVSHMEM_VENDOR &&
               attribute_number(directory, "device", &device) == 0 && device == IVSHMEM_DEVICE;
}

/* Memory decoding may be off until a driver, or this, enables the device. The kernel counts enables; one is enough. */
static int device_enable(int directory, struct ivg_error *error)
{
        unsigned long long enabled = 0;
        int rc = attribute_number(directory, "enable", &enabled);
        int fd;

        if (rc == 0 && enabled > 0)
                return 0;
        fd = openat(directory, "enable", O_WRONLY | O_CLOEXEC);
        rc = fd < 0 || write(fd, "1", 1) != 1 ? -errno : 0;
        if (rc < 0)
                ivg_error_set(error, "enable: %s", strerror(-rc));
        ivg_close_fd(&fd);
        return rc;
}

/* A mapping of resource0 starts at the page that BAR0 lies in, not at BAR0: the address says where in the page. */
static int register_page_offset(int directory, uint32_t *offset, struct ivg_error *error)
{
        char text[ATTRIBUTE_BYTES_MAX], *end;
        unsigned long long start;
        const int rc = attribute_read(directory, "resource", text);

        if (rc < 0) {
                ivg_error_set(error, "resource: %s", strerror(-rc));
                return rc;
        }
        start = strtoull(text, &end, 16);
        *offset = (uint32_t)(start % IVG_PAGE_BYTES);
        if (end == text || start == 0 || *offset % sizeof(uint32_t) != 0 ||
            *offset > IVG_PAGE_BYTES - IVSHMEM_DOORBELL_OFFSET - sizeof(uint32_t)) {
                ivg_error_set(error, "resource: BAR0 at %llx is not placed", start);
                return -ENXIO;
        }
        return 0;
}

static int doorbell_map(int directory, struct ivg_sysfs_device *device, struct ivg_error *error)
{
        uint32_t offset;
        int rc = register_page_offset(directory, &offset, error);
        int fd;

        if (rc < 0)
                return rc;
        fd = openat(directory, "resource0", O_RDWR | O_CLOEXEC);
        device->register_page =
                fd < 0 ? MAP_FAILED : mmap(NULL, IVG_PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (device->register_page == MAP_FAILED) {
                device->register_page = NULL;
                rc = -errno;
                ivg_error_set(error, "resource0: %s", strerror(errno));
        } else {
                device->doorbell = (volatile uint32_t *)(void *)((uint8_t *)device->register_page + offset +
                                                                 IVSHMEM_DOORBELL_OFFSET);
        }
        ivg_close_fd(&fd);
        return rc;
}

static int region_open(int directory, uint64_t fingerprint, struct ivg_sysfs_device *device, struct ivg_error *error)
{
        int rc;

        device->region_fd = openat(directory, "resource2", O_RDWR | O_CLOEXEC);
        if (device->region_fd < 0) {
                ivg_error_set(error, "resource2: %s%s", strerror(errno),
                              errno == EACCES || errno == EPERM ? " (sysfs needs root and no kernel lockdown)" : "");
                return -errno;
        }
        rc = ivg_region_check_fd(device->region_fd, fingerprint, &device->region, error);
        if (rc == 0 && device->region.vector_count == 0) {
                ivg_error_set(error, "vector_count 0: a region for local attach, not for a device");
                rc = -EINVAL;
        }
        if (rc < 0)
                ivg_error_prefix(error, "BAR2");
        return rc;
}

static int device_open_in(int directory, uint64_t fingerprint, struct ivg_sysfs_device *device, struct ivg_error *error)
{
        struct stat status;
        int rc;

        if (!is_ivshmem(directory)) {
                ivg_error_set(error, "not an ivshmem device (%04x:%04x)", IVSHMEM_VENDOR, IVSHMEM_DEVICE);
                return -ENOENT;
        }
        if (fstatat(directory, "driver", &status, 0) == 0) {
                ivg_error_set(error, "a kernel driver has this device; its channels are not ours to claim");
                return -EBUSY;
        }
        rc = device_enable(directory, error);
        if (rc == 0)
                rc = region_open(directory, fingerprint, device, error);
        if (rc == 0)
                rc = doorbell_map(directory, device, error);
        return rc;
}

int ivg_sysfs_device_open(const char *root, const char *name, uint64_t call_table_fingerprint,
                          struct ivg_sysfs_device *device, struct ivg_error *error)
{
        char path[512];
        int directory, rc;

        *device = (struct ivg_sysfs_device){.region_fd = -1};
        if (name[0] == '\0' || name[0] == '.' || strchr(name, '/') != NULL ||
            snprintf(path, sizeof(path), "%s/%s", root, name) >= (int)sizeof(path)) {
                ivg_error_set(error, "\"%.64s\" is no device name like 0000:00:03.0", name);
                return -EINVAL;
        }
        directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (directory < 0) {
                rc = -errno;
                ivg_error_set(error, "%s", rc == -ENOENT ? "no such device" : strerror(errno));
                return rc;
        }
        rc = device_open_in(directory, call_table_fingerprint, device, error);
        ivg_close_fd(&directory);
        if (rc < 0)
                ivg_sysfs_device_close(device);
        return rc;
}

void ivg_sysfs_device_close(struct ivg_sysfs_device *device)
{
        if (device->register_page != NULL)
                munmap(device->register_page, IVG_PAGE_BYTES);
        device->register_page = NULL;
        device->doorbell = NULL;
        ivg_close_fd(&device->region_fd);
}

static int name_compare(const void *a, const void *b)
{
        return strcmp(a, b);
}

int ivg_sysfs_device_list(const char *root, char names[][IVG_SYSFS_NAME_BYTES], uint32_t capacity)
{
        DIR *entries = opendir(root);
        uint32_t count = 0;

        if (entries == NULL)
                return -errno;
        for (uint32_t i = 0; i < DIRECTORY_ENTRIES_MAX && count < capacity; i++) {
                const struct dirent *entry = readdir(entries);
                int directory;

                if (entry == NULL)
                        break;
                if (entry->d_name[0] == '.' || strlen(entry->d_name) >= IVG_SYSFS_NAME_BYTES)
                        continue;
                directory = openat(dirfd(entries), entry->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
                if (directory >= 0 && is_ivshmem(directory))
                        strcpy(names[count++], entry->d_name);
                ivg_close_fd(&directory);
        }
        closedir(entries);
        qsort(names, count, IVG_SYSFS_NAME_BYTES, name_compare);
        return (int)count;
}
