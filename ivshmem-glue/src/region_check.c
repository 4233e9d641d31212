/* Checks a region page once and completely; everybody afterwards trusts the private copy made here. */
#include "glue_internal.h"
#include "ivgpu/region.h"
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define PAGE_WORDS (sizeof(struct ivg_region_page) / sizeof(uint64_t))
_Static_assert(sizeof(struct ivg_region_page) % sizeof(uint64_t) == 0, "the page is copied in whole words");

/* One load per word: the page may be rewritten while we look, the copy may not. Relaxed is enough: F2 came before. */
static void page_copy(const struct ivg_region_page *page, struct ivg_region_page *copy)
{
        const _Atomic(uint64_t) *words = (const _Atomic(uint64_t) *)(const void *)page;
        uint64_t copied[PAGE_WORDS];

        for (uint32_t i = 0; i < PAGE_WORDS; i++)
                copied[i] = ivg_load_relaxed_u64(&words[i]);
        memcpy(copy, copied, sizeof(copied));
}

static int check_identity(const struct ivg_region_page *page, uint64_t fingerprint, struct ivg_error *error)
{
        if (page->layout_version != IVG_LAYOUT_VERSION) {
                ivg_error_set(error, "layout version %u, this build knows %u", page->layout_version,
                              IVG_LAYOUT_VERSION);
                return -EPROTO;
        }
        if (page->page_bytes_used < sizeof(*page) || page->page_bytes_used > IVG_PAGE_BYTES) {
                ivg_error_set(error, "region page: %u bytes used, expected %zu..%u", page->page_bytes_used,
                              sizeof(*page), IVG_PAGE_BYTES);
                return -EINVAL;
        }
        if (page->call_table_fingerprint != fingerprint) {
                ivg_error_set(error, "call table fingerprint %016llx, this build has %016llx: update guest or host",
                              (unsigned long long)page->call_table_fingerprint, (unsigned long long)fingerprint);
                return -EPROTO;
        }
        if (page->host_instance == 0) {
                ivg_error_set(error, "host instance is 0");
                return -EINVAL;
        }
        if (memchr(page->vm_name, '\0', sizeof(page->vm_name)) == NULL) {
                ivg_error_set(error, "vm_name: no NUL in %u bytes", IVG_VM_NAME_BYTES);
                return -EINVAL;
        }
        for (const char *c = page->vm_name; *c != '\0'; c++) {
                if (*c < ' ' || *c > '~') {
                        ivg_error_set(error, "vm_name: byte 0x%02x is not printable", (unsigned char)*c);
                        return -EINVAL;
                }
        }
        return 0;
}

static int check_counts(const struct ivg_region_page *page, struct ivg_error *error)
{
        const struct {
                const char *name;
                uint32_t value, low, high;
        } limits[] = {
                {"channel_count", page->channel_count, 1, IVG_CHANNELS_MAX},
                {"vector_count", page->vector_count, 0, IVG_VECTORS_MAX},
                {"doorbell_peer", page->doorbell_peer, 0, UINT16_MAX},
                {"ring_slots", page->ring_slots, IVG_RING_SLOTS, IVG_RING_SLOTS},
                {"ring_producers", page->ring_producers, IVG_RING_PRODUCERS, IVG_RING_PRODUCERS},
                {"answer_area_bytes", page->answer_area_bytes, IVG_ANSWER_AREA_BYTES, IVG_ANSWER_AREA_BYTES},
                {"completion_words", page->completion_words, IVG_COMPLETION_WORDS, IVG_COMPLETION_WORDS},
        };

        for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
                if (limits[i].value < limits[i].low || limits[i].value > limits[i].high) {
                        ivg_error_set(error, "%s %u outside %u..%u", limits[i].name, limits[i].value, limits[i].low,
                                      limits[i].high);
                        return -EINVAL;
                }
        }
        if (page->vector_count == 1) {
                ivg_error_set(error, "vector_count 1: vector 0 is control, channels need at least one more");
                return -EINVAL;
        }
        return 0;
}

static int check_size(const struct ivg_region_page *page, uint64_t file_bytes, struct ivg_error *error)
{
        const uint64_t bytes = page->region_bytes;

        if (bytes < IVG_REGION_BYTES_MIN || bytes > IVG_REGION_BYTES_MAX || (bytes & (bytes - 1)) != 0) {
                ivg_error_set(error, "region_bytes %llu is not a power of two in %llu..%llu", (unsigned long long)bytes,
                              IVG_REGION_BYTES_MIN, IVG_REGION_BYTES_MAX);
                return -EINVAL;
        }
        if (bytes != file_bytes) {
                ivg_error_set(error, "region_bytes %llu, but the file or BAR has %llu", (unsigned long long)bytes,
                              (unsigned long long)file_bytes);
                return -EINVAL;
        }
        if (page->channel_stride < IVG_CHANNEL_STRIDE || page->channel_stride % IVG_PAGE_BYTES != 0 ||
            page->channel_stride > bytes / page->channel_count) {
                ivg_error_set(error, "channel_stride %llu: below %u, not page aligned, or %u times it exceeds %llu",
                              (unsigned long long)page->channel_stride, IVG_CHANNEL_STRIDE, page->channel_count,
                              (unsigned long long)bytes);
                return -EINVAL;
        }
        return 0;
}

struct part {
        const char *name;
        uint64_t offset, bytes, bytes_min, align;
};

static int check_part(const struct part *part, uint64_t region_bytes, struct ivg_error *error)
{
        const unsigned long long offset = part->offset, bytes = part->bytes;

        if (offset % part->align != 0 || bytes % part->align != 0) {
                ivg_error_set(error, "%s: offset %llu or size %llu is not aligned to %llu", part->name, offset, bytes,
                              (unsigned long long)part->align);
                return -EINVAL;
        }
        if (bytes < part->bytes_min) {
                ivg_error_set(error, "%s: size %llu, at least %llu needed", part->name, bytes,
                              (unsigned long long)part->bytes_min);
                return -EINVAL;
        }
        if (bytes > region_bytes || offset > region_bytes - bytes) {
                ivg_error_set(error, "%s: [%llu, +%llu) leaves the region of %llu bytes", part->name, offset, bytes,
                              (unsigned long long)region_bytes);
                return -EINVAL;
        }
        return 0;
}

/* Ends cannot overflow: check_part() has bounded every part before. */
static int check_overlap(const struct part *a, const struct part *b, struct ivg_error *error)
{
        if (a->offset >= b->offset + b->bytes || b->offset >= a->offset + a->bytes)
                return 0;
        ivg_error_set(error, "%s [%llu, +%llu) overlaps %s [%llu, +%llu)", a->name, (unsigned long long)a->offset,
                      (unsigned long long)a->bytes, b->name, (unsigned long long)b->offset,
                      (unsigned long long)b->bytes);
        return -EINVAL;
}

static int check_parts(const struct ivg_region_page *page, struct ivg_error *error)
{
        enum { PART_PAGE, PART_GUEST, PART_HOST, PART_CHANNELS, PART_ARENA, PARTS };
        const uint64_t extents = page->arena_bytes / IVG_EXTENT_BYTES; /* bounded below: arena_bytes <= region_bytes */
        const uint64_t guest_bytes_min = offsetof(struct ivg_guest_pages, extent_owner) + extents * sizeof(uint32_t);
        const struct part parts[PARTS] = {
                [PART_PAGE] = {"region page", 0, IVG_PAGE_BYTES, IVG_PAGE_BYTES, IVG_PAGE_BYTES},
                [PART_GUEST] = {"guest pages", page->guest_pages_offset, page->guest_pages_bytes, guest_bytes_min,
                                IVG_PAGE_BYTES},
                [PART_HOST] = {"host pages", page->host_pages_offset, page->host_pages_bytes,
                               sizeof(struct ivg_host_pages), IVG_PAGE_BYTES},
                [PART_CHANNELS] = {"channels", page->channels_offset, page->channel_count * page->channel_stride,
                                   IVG_CHANNEL_STRIDE, IVG_PAGE_BYTES},
                [PART_ARENA] = {"arena", page->arena_offset, page->arena_bytes, IVG_EXTENT_BYTES, IVG_EXTENT_BYTES},
        };

        /* The arena first: its size decides how large the guest pages must be. */
        for (int i = PARTS - 1; i >= 0; i--) {
                const int rc = check_part(&parts[i], page->region_bytes, error);
                if (rc < 0)
                        return rc;
        }
        for (int i = 0; i < PARTS; i++) {
                for (int j = i + 1; j < PARTS; j++) {
                        const int rc = check_overlap(&parts[i], &parts[j], error);
                        if (rc < 0)
                                return rc;
                }
        }
        for (int i = PART_GUEST; i < PART_ARENA; i++) {
                if (parts[i].offset > page->arena_offset) {
                        ivg_error_set(error, "%s at %llu lie above the arena at %llu", parts[i].name,
                                      (unsigned long long)parts[i].offset, (unsigned long long)page->arena_offset);
                        return -EINVAL;
                }
        }
        return 0;
}

static void region_fill(const struct ivg_region_page *page, struct ivg_region *out)
{
        *out = (struct ivg_region){
                .region_bytes = page->region_bytes,
                .arena_offset = page->arena_offset,
                .arena_bytes = page->arena_bytes,
                .guest_pages_offset = page->guest_pages_offset,
                .host_pages_offset = page->host_pages_offset,
                .guest_pages_bytes = page->guest_pages_bytes,
                .host_pages_bytes = page->host_pages_bytes,
                .channels_offset = page->channels_offset,
                .channel_stride = page->channel_stride,
                .host_instance = page->host_instance,
                .channel_count = page->channel_count,
                .extent_count = (uint32_t)(page->arena_bytes / IVG_EXTENT_BYTES),
                .vector_count = page->vector_count,
                .doorbell_peer = page->doorbell_peer,
                .vm_id = page->vm_id,
        };
        memcpy(out->vm_name, page->vm_name, sizeof(out->vm_name));
}

int ivg_region_check(const struct ivg_region_page *page, uint64_t file_bytes, uint64_t call_table_fingerprint,
                     struct ivg_region *out, struct ivg_error *error)
{
        /* F2, pairs with F1 (region_create.c): everything below is complete when the magic is there. */
        const uint64_t magic = ivg_load_acquire_u64(&page->magic);
        struct ivg_region_page copy;
        int rc;

        if (magic == 0) {
                ivg_error_set(error, "no magic yet: the host has not formatted this region");
                return -EAGAIN;
        }
        if (magic != IVG_REGION_MAGIC) {
                ivg_error_set(error, "magic %016llx is not ours (%016llx)", (unsigned long long)magic,
                              (unsigned long long)IVG_REGION_MAGIC);
                return -EPROTO;
        }
        page_copy(page, &copy);
        rc = check_identity(&copy, call_table_fingerprint, error);
        if (rc == 0)
                rc = check_counts(&copy, error);
        if (rc == 0)
                rc = check_size(&copy, file_bytes, error);
        if (rc == 0)
                rc = check_parts(&copy, error);
        if (rc == 0)
                region_fill(&copy, out);
        return rc;
}

int ivg_region_check_fd(int fd, uint64_t call_table_fingerprint, struct ivg_region *out, struct ivg_error *error)
{
        struct stat status;
        void *page;
        int rc;

        if (fstat(fd, &status) < 0) {
                ivg_error_set(error, "fstat of the region: %s", strerror(errno));
                return -errno;
        }
        if (status.st_size < (off_t)IVG_PAGE_BYTES) {
                ivg_error_set(error, "size %lld is below a region page", (long long)status.st_size);
                return -EINVAL;
        }
        page = mmap(NULL, IVG_PAGE_BYTES, PROT_READ, MAP_SHARED, fd, 0);
        if (page == MAP_FAILED) {
                ivg_error_set(error, "mapping the region page: %s", strerror(errno));
                return -errno;
        }
        rc = ivg_region_check(page, (uint64_t)status.st_size, call_table_fingerprint, out, error);
        munmap(page, IVG_PAGE_BYTES);
        return rc;
}
