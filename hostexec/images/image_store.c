/* See image_store.h. A table of chains for look-ups, one list in the order of use for evictions. */
#include "image_store.h"
#include <stdlib.h>
#include <unistd.h>

#define BUCKETS 4096u

struct image {
        struct image *chain;         /* next in the bucket */
        struct image *newer, *older; /* in the order of use */
        struct ivg_digest digest;
        uint64_t bytes;
        uint32_t tenant, space;
        int fd;
};

struct ivg_image_store {
        struct ivg_image_limits limits;
        struct ivg_image_totals totals;
        struct image *newest, *oldest;
        struct image *buckets[BUCKETS];
};

/* ---- the order of use ---- */

static void list_remove(struct ivg_image_store *store, struct image *image)
{
        *(image->newer ? &image->newer->older : &store->newest) = image->older;
        *(image->older ? &image->older->newer : &store->oldest) = image->newer;
}

static void list_add(struct ivg_image_store *store, struct image *image)
{
        image->newer = NULL;
        image->older = store->newest;
        *(store->newest ? &store->newest->newer : &store->oldest) = image;
        store->newest = image;
}

/* ---- the table ---- */

/* Where the image's chain link is, or the end of its bucket. A name is uniformly distributed by itself. */
static struct image **place(struct ivg_image_store *store, uint32_t space, const struct ivg_digest *digest)
{
        struct image **link = &store->buckets[digest->words[0] % BUCKETS];

        while (*link && ((*link)->space != space || !ivg_digest_equal(&(*link)->digest, digest)))
                link = &(*link)->chain;
        return link;
}

static void drop(struct ivg_image_store *store, struct image *image)
{
        *place(store, image->space, &image->digest) = image->chain;
        list_remove(store, image);
        store->totals.bytes -= image->bytes;
        store->totals.count--;
        close(image->fd);
        free(image);
}

static void evict(struct ivg_image_store *store, struct image *image)
{
        store->totals.evicted++;
        drop(store, image);
}

/* ---- room ---- */

static uint64_t tenant_bytes(const struct ivg_image_store *store, uint32_t tenant)
{
        uint64_t bytes = 0;

        for (const struct image *image = store->newest; image; image = image->older)
                bytes += image->tenant == tenant ? image->bytes : 0;
        return bytes;
}

/* A tenant at its limit makes room among its own; only then do all make room for it. */
static void make_room(struct ivg_image_store *store, uint32_t tenant, uint64_t bytes)
{
        uint64_t own = tenant_bytes(store, tenant);
        struct image *image = store->oldest;

        while (image && own > store->limits.tenant_bytes_max - bytes) {
                struct image *newer = image->newer;

                if (image->tenant == tenant) {
                        own -= image->bytes;
                        evict(store, image);
                }
                image = newer;
        }
        while (store->oldest && (store->totals.bytes > store->limits.bytes_max - bytes ||
                                 store->totals.count >= store->limits.count_max))
                evict(store, store->oldest);
}

/* ---- interface ---- */

struct ivg_image_store *ivg_image_store_create(const struct ivg_image_limits *limits)
{
        struct ivg_image_store *store = calloc(1, sizeof(*store));

        if (!store)
                return NULL;
        store->limits = *limits;
        if (store->limits.tenant_bytes_max > limits->bytes_max)
                store->limits.tenant_bytes_max = limits->bytes_max;
        return store;
}

void ivg_image_store_destroy(struct ivg_image_store *store)
{
        while (store && store->oldest)
                drop(store, store->oldest);
        free(store);
}

int ivg_image_store_find(struct ivg_image_store *store, uint32_t space, const struct ivg_digest *digest, uint64_t bytes)
{
        struct image *image = *place(store, space, digest);

        if (!image || image->bytes != bytes)
                return -1;
        list_remove(store, image);
        list_add(store, image);
        return image->fd;
}

bool ivg_image_store_fits(const struct ivg_image_store *store, uint64_t bytes)
{
        return bytes > 0 && bytes <= store->limits.tenant_bytes_max && store->limits.count_max > 0;
}

bool ivg_image_store_put(struct ivg_image_store *store, uint32_t tenant, uint32_t space,
                         const struct ivg_digest *digest, uint64_t bytes, int fd)
{
        struct image **link, *image;

        image = ivg_image_store_fits(store, bytes) && !*place(store, space, digest) ? malloc(sizeof(*image)) : NULL;
        if (!image) {
                close(fd);
                return false;
        }
        make_room(store, tenant, bytes);
        link = place(store, space, digest); /* the bucket's end may have moved with what was evicted */
        *image = (struct image){.digest = *digest, .bytes = bytes, .tenant = tenant, .space = space, .fd = fd};
        *link = image;
        list_add(store, image);
        store->totals.bytes += bytes;
        store->totals.count++;
        return true;
}

void ivg_image_store_totals(const struct ivg_image_store *store, struct ivg_image_totals *totals)
{
        *totals = store->totals;
}
