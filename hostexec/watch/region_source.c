#include "region_source.h"
#include "region_image.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define SAVE_PIECE_BYTES (256u << 10)

#define NODE_PREFIX "/dev/ivgpu"
#define DRIVER_HAS_IT "; the guest's kernel driver has the device, look from the host: ivgpu-dump VM"

int ivg_region_source_open(struct ivg_region_source *source, int fd, struct ivg_error *error)
{
        struct stat status;
        uint8_t byte;

        *source = (struct ivg_region_source){.fd = fd};
        if (fstat(fd, &status) < 0 || !S_ISREG(status.st_mode)) {
                ivg_error_set(error, "not a file, a memory file, or a device's memory");
                close(fd);
                return -EINVAL;
        }
        source->bytes = (uint64_t)status.st_size;
        source->is_bar = source->bytes > 0 && pread(fd, &byte, 1, 0) < 0;
        return 0;
}

int ivg_region_source_open_path(struct ivg_region_source *source, const char *path, struct ivg_error *error)
{
        const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        int rc;

        if (fd < 0) {
                rc = -errno;
                ivg_error_set(error, "%s: %s%s", path, strerror(-rc),
                              strncmp(path, NODE_PREFIX, strlen(NODE_PREFIX)) == 0 ? DRIVER_HAS_IT : "");
                return rc;
        }
        rc = ivg_region_source_open(source, fd, error);
        if (rc < 0)
                ivg_error_prefix(error, "%s", path);
        return rc;
}

void ivg_region_source_close(struct ivg_region_source *source)
{
        if (source->fd >= 0)
                close(source->fd);
        source->fd = -1;
}

/* Device memory may take single, aligned accesses only. */
static int bar_read(const struct ivg_region_source *source, uint64_t offset, void *to, size_t bytes,
                    struct ivg_error *error)
{
        const uint64_t begin = offset & ~(uint64_t)(IVG_PAGE_BYTES - 1), within = offset - begin;
        const size_t words = (within % 8 + bytes + 7) / 8;
        const _Atomic(uint64_t) *from;
        uint64_t *copied;
        void *base;

        base = mmap(NULL, within + bytes, PROT_READ, MAP_SHARED, source->fd, (off_t)begin);
        copied = base == MAP_FAILED ? NULL : malloc(words * 8);
        if (!copied) {
                const int rc = base == MAP_FAILED ? -errno : -ENOMEM;

                ivg_error_set(error, "reading %zu bytes at %llu of a BAR: %s%s", bytes, (unsigned long long)offset,
                              strerror(-rc), rc == -EINVAL ? DRIVER_HAS_IT : "");
                return rc;
        }
        from = (const _Atomic(uint64_t) *)(const void *)((const char *)base + (within & ~7ull));
        for (size_t i = 0; i < words; i++) /* relaxed: nothing here orders anything */
                copied[i] = ivg_load_relaxed_u64(&from[i]);
        memcpy(to, (const char *)copied + within % 8, bytes);
        free(copied);
        munmap(base, within + bytes);
        return 0;
}

int ivg_region_source_read(const struct ivg_region_source *source, uint64_t offset, void *to, size_t bytes,
                           struct ivg_error *error)
{
        size_t done = 0;

        if (bytes > source->bytes || offset > source->bytes - bytes) {
                ivg_error_set(error, "%zu bytes at %llu: the file has %llu", bytes, (unsigned long long)offset,
                              (unsigned long long)source->bytes);
                return -EINVAL;
        }
        if (source->is_bar)
                return bar_read(source, offset, to, bytes, error);
        while (done < bytes) {
                const ssize_t got = pread(source->fd, (char *)to + done, bytes - done, (off_t)(offset + done));

                if (got < 0 && errno == EINTR)
                        continue;
                if (got <= 0) {
                        const int rc = got < 0 ? -errno : -ENODATA;

                        ivg_error_set(error, "reading %zu bytes at %llu: %s", bytes, (unsigned long long)offset,
                                      got < 0 ? strerror(-rc) : "the file has been cut");
                        return rc;
                }
                done += (size_t)got;
        }
        return 0;
}

/* ---- saving ---- */

static bool is_zero(const uint8_t *bytes, size_t count)
{
        return count == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, count - 1) == 0);
}

static int save_pieces(const struct ivg_region_source *source, uint64_t bytes, int fd, const char *path,
                       struct ivg_error *error)
{
        static uint8_t piece[SAVE_PIECE_BYTES];

        for (uint64_t at = 0; at < bytes; at += sizeof(piece)) {
                const size_t count = bytes - at < sizeof(piece) ? (size_t)(bytes - at) : sizeof(piece);
                int rc = ivg_region_source_read(source, at, piece, count, error);

                if (rc < 0)
                        return rc;
                if (!is_zero(piece, count) && pwrite(fd, piece, count, (off_t)at) != (ssize_t)count) {
                        rc = errno ? -errno : -EIO;
                        ivg_error_set(error, "%s: %s", path, strerror(-rc));
                        return rc;
                }
        }
        return 0;
}

int ivg_region_source_save(const struct ivg_region_source *source, const char *path, struct ivg_error *error)
{
        struct ivg_region_image image;
        int rc = ivg_region_image_read(source, &image, error), fd;

        if (rc < 0)
                return rc;
        rc = 0;
        fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (fd < 0 || ftruncate(fd, (off_t)image.region.region_bytes) < 0) {
                rc = -errno;
                ivg_error_set(error, "%s: %s", path, strerror(-rc));
        }
        if (rc == 0)
                rc = save_pieces(source, image.region.arena_offset, fd, path, error);
        if (fd >= 0 && close(fd) < 0 && rc == 0) {
                rc = -errno;
                ivg_error_set(error, "%s: %s", path, strerror(-rc));
        }
        if (rc < 0 && fd >= 0)
                unlink(path);
        ivg_region_image_free(&image);
        return rc;
}

/* ---- another process's ---- */

static bool is_region_file(const char *path)
{
        char name[64];
        const ssize_t length = readlink(path, name, sizeof(name) - 1);

        if (length < 0)
                return false;
        name[length] = '\0';
        return strncmp(name, "/memfd:ivgpu-region", strlen("/memfd:ivgpu-region")) == 0;
}

static bool is_known(const struct ivg_region_source *sources, uint32_t count, const struct stat *status)
{
        struct stat other;

        for (uint32_t i = 0; i < count; i++)
                if (fstat(sources[i].fd, &other) == 0 && other.st_ino == status->st_ino &&
                    other.st_dev == status->st_dev)
                        return true;
        return false;
}

int ivg_region_sources_of_process(int pid, struct ivg_region_source *sources, uint32_t max, struct ivg_error *error)
{
        char folder[32], path[sizeof(folder) + 272];
        const struct dirent *entry;
        struct stat status;
        uint32_t count = 0;
        DIR *directory;

        snprintf(folder, sizeof(folder), "/proc/%d/fd", pid);
        directory = opendir(folder);
        if (!directory) {
                const int rc = -errno;

                ivg_error_set(error, "%s: %s", folder, strerror(-rc));
                return rc;
        }
        while (count < max && (entry = readdir(directory)) != NULL) {
                snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
                if (!is_region_file(path) || stat(path, &status) < 0 || is_known(sources, count, &status))
                        continue;
                if (ivg_region_source_open_path(&sources[count], path, error) == 0)
                        count++;
        }
        closedir(directory);
        return (int)count;
}
