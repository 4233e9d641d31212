#include "region_image.h"
#include "ivgpu_calls.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A region of another build's call table is looked at all the same, without decoding calls. */
static int page_check(struct ivg_region_page *page, uint64_t bytes, struct ivg_region_image *image,
                      struct ivg_error *error)
{
        image->fingerprint = page->call_table_fingerprint;
        image->is_own_table = image->fingerprint == IVG_CALL_TABLE_FINGERPRINT;
        page->call_table_fingerprint = IVG_CALL_TABLE_FINGERPRINT;
        return ivg_region_check(page, bytes, IVG_CALL_TABLE_FINGERPRINT, &image->region, error);
}

static void *part_read(const struct ivg_region_source *source, uint64_t offset, size_t bytes, size_t align,
                       struct ivg_error *error)
{
        void *part = aligned_alloc(align, (bytes + align - 1) / align * align);

        if (!part) {
                ivg_error_set(error, "no memory for %zu bytes", bytes);
                return NULL;
        }
        if (ivg_region_source_read(source, offset, part, bytes, error) < 0) {
                free(part);
                return NULL;
        }
        return part;
}

int ivg_region_image_read(const struct ivg_region_source *source, struct ivg_region_image *image,
                          struct ivg_error *error)
{
        _Alignas(64) struct ivg_region_page page;
        int rc;

        memset(image, 0, sizeof(*image));
        rc = ivg_region_source_read(source, 0, &page, sizeof(page), error);
        if (rc == 0)
                rc = page_check(&page, source->bytes, image, error);
        if (rc < 0) {
                ivg_error_prefix(error, "no region");
                return rc;
        }
        image->guest =
                part_read(source, image->region.guest_pages_offset,
                          sizeof(*image->guest) + image->region.extent_count * sizeof(image->guest->extent_owner[0]),
                          IVG_PAGE_BYTES, error);
        image->host = part_read(source, image->region.host_pages_offset, sizeof(*image->host), IVG_PAGE_BYTES, error);
        if (image->guest && image->host)
                return 0;
        ivg_region_image_free(image);
        return -EIO;
}

void ivg_region_image_free(struct ivg_region_image *image)
{
        free(image->guest);
        free(image->host);
        image->guest = NULL;
        image->host = NULL;
}

struct ivg_channel_image *ivg_channel_image_read(const struct ivg_region_source *source,
                                                 const struct ivg_region *region, uint32_t channel,
                                                 struct ivg_error *error)
{
        /* Bounded by ivg_region_check: all channels lie in the file. */
        const uint64_t begin = region->channels_offset + channel * region->channel_stride;
        struct ivg_channel_image *image = aligned_alloc(IVG_PAGE_BYTES, sizeof(*image));

        if (!image) {
                ivg_error_set(error, "no memory for channel %u", channel);
                return NULL;
        }
        /* The host's part first: what it has taken the guest's part then shows, and not the other way round. */
        if (ivg_region_source_read(source, begin + IVG_CHANNEL_RING_HOST_OFFSET, &image->host, sizeof(image->host),
                                   error) < 0 ||
            ivg_region_source_read(source, begin + IVG_CHANNEL_COMPLETION_OFFSET, image->completions,
                                   sizeof(image->completions), error) < 0 ||
            ivg_region_source_read(source, begin + IVG_CHANNEL_RING_GUEST_OFFSET, &image->guest, sizeof(image->guest),
                                   error) < 0) {
                free(image);
                return NULL;
        }
        return image;
}
