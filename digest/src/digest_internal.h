/* What the tree (digest.c) and its compressions (compress.c, lanes.c) share. */
#ifndef IVG_DIGEST_INTERNAL_H
#define IVG_DIGEST_INTERNAL_H

#include "ivgpu/digest.h"

#define BLOCK_BYTES 64u
#define CHUNK_BLOCKS (IVG_DIGEST_CHUNK_BYTES / BLOCK_BYTES)

enum digest_flag { CHUNK_START = 1, CHUNK_END = 2, PARENT = 4, ROOT = 8 };

/* The specification's constants: the fractional parts of square roots. */
#define DIGEST_IV 0x6a09e667u, 0xbb67ae85u, 0x3c6ef372u, 0xa54ff53au, 0x510e527fu, 0x9b05688cu, 0x1f83d9abu, 0x5be0cd19u

/* The quarter-round on words a, b, c, d of v with message words x and y. Words may be vectors. */
#define DIGEST_ROTATE(word, bits) ((word) >> (bits) | (word) << (32 - (bits)))
#define DIGEST_G(a, b, c, d, x, y)                     \
        do {                                           \
                v[a] = v[a] + v[b] + m[x];             \
                v[d] = DIGEST_ROTATE(v[d] ^ v[a], 16); \
                v[c] = v[c] + v[d];                    \
                v[b] = DIGEST_ROTATE(v[b] ^ v[c], 12); \
                v[a] = v[a] + v[b] + m[y];             \
                v[d] = DIGEST_ROTATE(v[d] ^ v[a], 8);  \
                v[c] = v[c] + v[d];                    \
                v[b] = DIGEST_ROTATE(v[b] ^ v[c], 7);  \
        } while (0)
/* Columns, then diagonals, with the message words in the round's order. */
#define DIGEST_ROUND(m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15) \
        do {                                                                               \
                DIGEST_G(0, 4, 8, 12, m0, m1);                                             \
                DIGEST_G(1, 5, 9, 13, m2, m3);                                             \
                DIGEST_G(2, 6, 10, 14, m4, m5);                                            \
                DIGEST_G(3, 7, 11, 15, m6, m7);                                            \
                DIGEST_G(0, 5, 10, 15, m8, m9);                                            \
                DIGEST_G(1, 6, 11, 12, m10, m11);                                          \
                DIGEST_G(2, 7, 8, 13, m12, m13);                                           \
                DIGEST_G(3, 4, 9, 14, m14, m15);                                           \
        } while (0)
/* All on the arrays v and m; each round takes the last one's words permuted. */
#define DIGEST_ROUNDS()                                                             \
        do {                                                                        \
                DIGEST_ROUND(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15); \
                DIGEST_ROUND(2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8); \
                DIGEST_ROUND(3, 4, 10, 12, 13, 2, 7, 14, 6, 5, 9, 0, 11, 15, 8, 1); \
                DIGEST_ROUND(10, 7, 12, 9, 14, 3, 13, 15, 4, 0, 11, 2, 5, 8, 1, 6); \
                DIGEST_ROUND(12, 13, 9, 11, 15, 10, 14, 8, 7, 2, 5, 3, 0, 1, 6, 4); \
                DIGEST_ROUND(9, 14, 11, 5, 8, 12, 15, 1, 13, 3, 0, 10, 2, 6, 4, 7); \
                DIGEST_ROUND(11, 15, 5, 0, 1, 9, 8, 6, 14, 10, 2, 12, 3, 4, 7, 13); \
        } while (0)

/* One block of at most 64 bytes, padded with zeros: the chaining value `cv` becomes the next. */
void ivg_digest_compress(uint32_t cv[8], const uint8_t block[BLOCK_BYTES], uint32_t block_bytes, uint64_t counter,
                         uint32_t flags);

/* Many inputs of `blocks` whole blocks at once: `count` chaining values, input i at data + i * stride, counting from
 * `counter` by `step`; `first` and `last` are the flags of a first and a last block, `every` of each. */
struct digest_inputs {
        const uint8_t *data;
        uint64_t stride, counter, step;
        uint32_t count, blocks, every, first, last;
};
typedef void digest_lanes_fn(const struct digest_inputs *inputs, uint32_t (*out)[8]);
digest_lanes_fn ivg_digest_lanes_4, ivg_digest_lanes_8, ivg_digest_lanes_16;
/* The widest that this processor has. */
digest_lanes_fn *ivg_digest_lanes(void);

#endif
