/* Makes a region: computes its geometry, backs it with a sealed memfd, formats it and stores the magic last. */
#include "glue_internal.h"
#include "ivgpu/region.h"
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008u /* since Linux 6.3 */
#endif

/* Generation 0 is never used: zeroed memory then matches no live channel. */
#define IVG_FIRST_GENERATION 1u

static int region_name_check(const char *name, struct ivg_error *error)
{
        const size_t bytes = strlen(name);

        if (bytes >= IVG_VM_NAME_BYTES) {
                ivg_error_set(error, "vm_name: %zu bytes, at most %u", bytes, IVG_VM_NAME_BYTES - 1);
                return -EINVAL;
        }
        for (size_t i = 0; i < bytes; i++) {
                if (name[i] < ' ' || name[i] > '~') {
                        ivg_error_set(error, "vm_name: byte 0x%02x at %zu is not printable", (unsigned char)name[i], i);
                        return -EINVAL;
                }
        }
        return 0;
}

static int region_config_check(const struct ivg_region_config *config, struct ivg_error *error)
{
        const uint64_t bytes = config->region_bytes;

        if (bytes < IVG_REGION_BYTES_MIN || bytes > IVG_REGION_BYTES_MAX || (bytes & (bytes - 1)) != 0) {
                ivg_error_set(error, "region_bytes %llu is not a power of two in %llu..%llu", (unsigned long long)bytes,
                              IVG_REGION_BYTES_MIN, IVG_REGION_BYTES_MAX);
                return -EINVAL;
        }
        if (config->channel_count < 1 || config->channel_count > IVG_CHANNELS_MAX) {
                ivg_error_set(error, "channel_count %u outside 1..%u", config->channel_count, IVG_CHANNELS_MAX);
                return -EINVAL;
        }
        if (config->vector_count == 1 || config->vector_count > IVG_VECTORS_MAX) {
                ivg_error_set(error, "vector_count %u is neither 0 (no vectors) nor in 2..%u", config->vector_count,
                              IVG_VECTORS_MAX);
                return -EINVAL;
        }
        return config->vm_name == NULL ? 0 : region_name_check(config->vm_name, error);
}

/* Places the parts one after another. Guest pages are sized for as many extents as the whole region could hold. */
static int region_geometry(const struct ivg_region_config *config, struct ivg_region_page *page,
                           struct ivg_error *error)
{
        const uint64_t extents_max = config->region_bytes / IVG_EXTENT_BYTES;

        page->guest_pages_offset = IVG_PAGE_BYTES;
        page->guest_pages_bytes = ivg_round_up(
                offsetof(struct ivg_guest_pages, extent_owner) + extents_max * sizeof(uint32_t), IVG_PAGE_BYTES);
        page->host_pages_offset = page->guest_pages_offset + page->guest_pages_bytes;
        page->host_pages_bytes = ivg_round_up(sizeof(struct ivg_host_pages), IVG_PAGE_BYTES);
        /* On a huge-page boundary, so that a channel can be one huge page where the host backs memfds with them. */
        page->channels_offset = ivg_round_up(page->host_pages_offset + page->host_pages_bytes, IVG_EXTENT_BYTES);
        page->channel_stride = IVG_CHANNEL_STRIDE;
        page->arena_offset = ivg_round_up(page->channels_offset + (uint64_t)config->channel_count * IVG_CHANNEL_STRIDE,
                                          IVG_EXTENT_BYTES);
        if (page->arena_offset >= config->region_bytes) {
                ivg_error_set(error, "%u channels need %llu bytes and an arena: region_bytes %llu is too small",
                              config->channel_count, (unsigned long long)page->arena_offset,
                              (unsigned long long)config->region_bytes);
                return -EINVAL;
        }
        page->arena_bytes = config->region_bytes - page->arena_offset;
        return 0;
}

static int region_page_fill(const struct ivg_region_config *config, struct ivg_region_page *page,
                            struct ivg_error *error)
{
        int rc = region_geometry(config, page, error);

        if (rc < 0)
                return rc;
        page->layout_version = IVG_LAYOUT_VERSION;
        page->page_bytes_used = sizeof(*page);
        page->region_bytes = config->region_bytes;
        page->call_table_fingerprint = config->call_table_fingerprint;
        page->doorbell_peer = 0; /* ivg_ivshmem_greet() makes the host peer 0 */
        page->vector_count = config->vector_count;
        page->channel_count = config->channel_count;
        page->vm_id = config->vm_id;
        page->ring_slots = IVG_RING_SLOTS;
        page->ring_producers = IVG_RING_PRODUCERS;
        page->answer_area_bytes = IVG_ANSWER_AREA_BYTES;
        page->completion_words = IVG_COMPLETION_WORDS;
        if (config->vm_name != NULL)
                strcpy(page->vm_name, config->vm_name); /* length checked by region_name_check() */
        if (getrandom(&page->host_instance, sizeof(page->host_instance), 0) != sizeof(page->host_instance)) {
                ivg_error_set(error, "host instance: getrandom: %s", strerror(errno));
                return -EIO;
        }
        page->host_instance |= 1; /* never 0 */
        return 0;
}

static int region_memfd(uint64_t bytes, struct ivg_error *error)
{
        const unsigned int flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
        int fd = memfd_create("ivgpu-region", flags | MFD_NOEXEC_SEAL);

        if (fd < 0 && errno == EINVAL)
                fd = memfd_create("ivgpu-region", flags);
        if (fd < 0) {
                ivg_error_set(error, "memfd_create: %s", strerror(errno));
                return -errno;
        }
        if (ftruncate(fd, (off_t)bytes) < 0) {
                ivg_error_set(error, "ftruncate to %llu: %s", (unsigned long long)bytes, strerror(errno));
                ivg_close_fd(&fd);
                return -errno;
        }
        /* Both QEMU and a local program hold this descriptor: without the seals either could shrink the file under the
         * mediator's feet (SIGBUS) or add size. */
        if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0) {
                ivg_error_set(error, "sealing the memfd: %s", strerror(errno));
                ivg_close_fd(&fd);
                return -errno;
        }
        return fd;
}

static int region_format(int fd, const struct ivg_region_page *content, struct ivg_error *error)
{
        const uint64_t bytes = content->channels_offset;
        void *base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        struct ivg_region_page *page = base;
        struct ivg_host_pages *host;

        if (base == MAP_FAILED) {
                ivg_error_set(error, "mapping %llu bytes to format them: %s", (unsigned long long)bytes,
                              strerror(errno));
                return -errno;
        }
        memcpy(page, content, sizeof(*page));
        host = (void *)((uint8_t *)base + content->host_pages_offset);
        for (uint32_t i = 0; i < IVG_CHANNELS_MAX; i++)
                ivg_store_relaxed_u64(&host->channels[i].state,
                                      ivg_channel_word(IVG_FIRST_GENERATION, IVG_HOST_CHANNEL_FREE));
        /* F1, pairs with F2 (region_check.c): all of the above is complete once the magic is seen. */
        ivg_store_release_u64(&page->magic, IVG_REGION_MAGIC);
        munmap(base, bytes);
        return 0;
}

int ivg_region_create(const struct ivg_region_config *config, int *memfd, struct ivg_error *error)
{
        struct ivg_region_page content = {0};
        int rc = region_config_check(config, error);
        int fd;

        if (rc == 0)
                rc = region_page_fill(config, &content, error);
        if (rc < 0) {
                ivg_error_prefix(error, "region");
                return rc;
        }
        fd = region_memfd(config->region_bytes, error);
        rc = fd < 0 ? fd : region_format(fd, &content, error);
        if (rc < 0) {
                ivg_close_fd(&fd);
                ivg_error_prefix(error, "region");
                return rc;
        }
        *memfd = fd;
        return 0;
}
