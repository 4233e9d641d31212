/* The name of bytes by their content: BLAKE3, 256 bits.
 *
 * Guests name module images by it, and what one VM has sent another may be given: so it must be infeasible to make two
 * images of one name, which a fast non-cryptographic hash does not promise. BLAKE3 is a tree of 1 KiB leaves that are
 * independent of each other, so 4, 8 or 16 of them are computed at once, and it is as fast as copying where SHA-256
 * has no instructions of its own.
 *
 * No allocation, no global state; any thread. */
#ifndef IVGPU_DIGEST_H
#define IVGPU_DIGEST_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define IVG_DIGEST_BYTES 32u
#define IVG_DIGEST_CHUNK_BYTES 1024u
#define IVG_DIGEST_DEPTH_MAX 54u /* of the tree over 2^64 bytes */

struct ivg_digest {
        uint64_t words[4]; /* the 32 bytes as they lie */
};

struct ivg_digest_state {
        uint32_t stack[IVG_DIGEST_DEPTH_MAX + 1][8]; /* finished subtrees from the left, larger ones first */
        uint32_t stack_count;
        uint32_t tail_bytes; /* in `tail` */
        uint64_t chunks;     /* of the finished subtrees */
        uint8_t tail[IVG_DIGEST_CHUNK_BYTES];
};

/* begin, then add pieces of any length, in order, then end: the name of all of them. None fails. After end more may be
 * added, for the name of the longer content. */
void ivg_digest_begin(struct ivg_digest_state *state);
void ivg_digest_add(struct ivg_digest_state *state, const void *data, uint64_t bytes);
void ivg_digest_end(const struct ivg_digest_state *state, struct ivg_digest *digest);
/* All three over one piece. */
void ivg_digest_of(const void *data, uint64_t bytes, struct ivg_digest *digest);

static inline bool ivg_digest_equal(const struct ivg_digest *a, const struct ivg_digest *b)
{
        return memcmp(a, b, sizeof(*a)) == 0;
}
/* All zero: "no name". No content has it. */
static inline bool ivg_digest_is_none(const struct ivg_digest *digest)
{
        return (digest->words[0] | digest->words[1] | digest->words[2] | digest->words[3]) == 0;
}

#endif
