/* The images that this host keeps, by name: bounded in bytes and number, the least recently used goes first.
 *
 * Knows neither sockets nor hashing: what is put here has been found to have its name. One thread. */
#ifndef IVG_IMAGE_STORE_H
#define IVG_IMAGE_STORE_H

#include "ivgpu/digest.h"

struct ivg_image_limits {
        uint64_t bytes_max;        /* of all */
        uint64_t tenant_bytes_max; /* that one tenant brought: it replaces its own first, and leaves others' alone */
        uint32_t count_max;
};

struct ivg_image_store;

struct ivg_image_store *ivg_image_store_create(const struct ivg_image_limits *limits); /* NULL: no memory */
void ivg_image_store_destroy(struct ivg_image_store *store);

/* The image's descriptor, which stays the store's; -1: not here. Makes it the most recently used. */
int ivg_image_store_find(struct ivg_image_store *store, uint32_t space, const struct ivg_digest *digest,
                         uint64_t bytes);
/* Whether an image of so many bytes could be kept at all. */
bool ivg_image_store_fits(const struct ivg_image_store *store, uint64_t bytes);
/* Takes the descriptor over in any case; it is closed when the image goes, or at once when it is here already or does
 * not fit. True: kept. */
bool ivg_image_store_put(struct ivg_image_store *store, uint32_t tenant, uint32_t space,
                         const struct ivg_digest *digest, uint64_t bytes, int fd);

struct ivg_image_totals {
        uint64_t bytes, evicted;
        uint32_t count;
};
void ivg_image_store_totals(const struct ivg_image_store *store, struct ivg_image_totals *totals);

#endif
