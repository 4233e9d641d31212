/* Private copies of a region's words, as they were when they were read. Every word is the other's claim: what is used
 * as an index, a length or a text is checked here or where it is used. */
#ifndef IVG_REGION_IMAGE_H
#define IVG_REGION_IMAGE_H

#include "region_source.h"

struct ivg_region_image {
        struct ivg_region region; /* checked; not mapped */
        uint64_t fingerprint;
        bool is_own_table;             /* calls can be decoded */
        struct ivg_guest_pages *guest; /* with extent_count owners */
        struct ivg_host_pages *host;
};
/* The region page, checked completely, and both sides' pages. -errno with words. */
int ivg_region_image_read(const struct ivg_region_source *source, struct ivg_region_image *image,
                          struct ivg_error *error);
void ivg_region_image_free(struct ivg_region_image *image);

struct ivg_channel_image {
        struct ivg_ring_guest_part guest;
        struct ivg_ring_host_part host;
        _Atomic(uint64_t) completions[IVG_COMPLETION_WORDS];
};
/* To be freed. NULL with words. */
struct ivg_channel_image *ivg_channel_image_read(const struct ivg_region_source *source,
                                                 const struct ivg_region *region, uint32_t channel,
                                                 struct ivg_error *error);

#endif
