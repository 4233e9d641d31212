/* What a program hands to a module load: an image without a length. This file's functions find the length.
 *
 *   fatbin wrapper  u32 0x466243B1, u32 version, pointer to a fatbin, pointer (version 2: NULL-ended list of fatbins)
 *   fatbin          u32 0xBA55ED50, u16 version, u16 header bytes, u64 bytes that follow
 *   ELF (cubin)     64-bit ELF; ends where its furthest header, section or segment ends
 *   PTX             text up to its NUL
 * Nothing beyond what the format itself announces is read, and a format that announces too much is refused unread. */
#ifndef IVG_GUEST_IMAGE_H
#define IVG_GUEST_IMAGE_H

#include <stdint.h>

/* Larger than any fatbin of CUDA 13's own libraries; a length field of garbage exceeds it almost surely. */
#define IVG_IMAGE_BYTES_MAX (256ull << 20)
/* Fatbins of one device-linked program: one for each relocatable object in it. */
#define IVG_IMAGE_PARTS_MAX 1024u

struct ivg_image_part {
        const void *data;
        uint64_t bytes; /* 1 .. IVG_IMAGE_BYTES_MAX */
};

/* A plain image is one part. A device-linked one (wrapper version 2) is the linked fatbin followed by the fatbins it
 * was linked from, which the driver needs to link again for a GPU that the linked one does not hold. */
struct ivg_image {
        uint32_t parts_count;    /* >= 1 */
        uint32_t linked;         /* 1: wrapper version 2 */
        uint64_t bytes;          /* of all parts, each rounded up to IVG_IMAGE_PART_ALIGNMENT when there are several */
        const void *const *list; /* parts 1.. of a linked image */
        struct ivg_image_part first;
};
#define IVG_IMAGE_PART_ALIGNMENT 16u

/* Fails: -EINVAL not an image (bad fields), -E2BIG longer than the bounds above. Reads only; any thread. */
int ivg_image_measure(const void *image, struct ivg_image *out);
/* Part `index` < parts_count of a measured image. Same errors. */
int ivg_image_part(const struct ivg_image *image, uint32_t index, struct ivg_image_part *out);
/* Copies all parts to `destination` of image->bytes bytes, each at a multiple of IVG_IMAGE_PART_ALIGNMENT; `lengths`
 * gets parts_count numbers. */
int ivg_image_flatten(const struct ivg_image *image, uint8_t *destination, uint64_t *lengths);

/* An image as it travels: in place, or flattened. */
struct ivg_flat_image {
        const void *data;
        uint64_t bytes;
        uint64_t *parts; /* lengths of a linked image's parts; NULL: a plain image */
        uint32_t parts_count;
        uint8_t *memory; /* of a flattened one */
};
/* Measures and, where it must be, flattens. Same errors, and -ENOMEM. Ends with ivg_image_close, also after an error.
 */
int ivg_image_open(const void *image, struct ivg_flat_image *flat);
void ivg_image_close(struct ivg_flat_image *flat);

#endif
