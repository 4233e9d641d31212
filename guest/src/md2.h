/* MD2 (RFC 1319) and HMAC (RFC 2104) over it: only for the check that 12.x runtimes make of their driver
 * (export_check.c). Not for anything that needs a safe hash. */
#ifndef IVG_GUEST_MD2_H
#define IVG_GUEST_MD2_H

#include <stdint.h>

#define IVG_MD2_BYTES 16u /* of a digest and of a block */

struct ivg_md2 {
        uint8_t state[48]; /* the digest is in the first 16 bytes */
        uint8_t checksum[IVG_MD2_BYTES];
        uint8_t block[IVG_MD2_BYTES];
        uint32_t block_bytes;
};

void ivg_md2_begin(struct ivg_md2 *md2);
void ivg_md2_add(struct ivg_md2 *md2, const void *data, uint32_t bytes);
void ivg_md2_end(struct ivg_md2 *md2, uint8_t digest[IVG_MD2_BYTES]);

/* The key is exactly one block, as in the only use. */
struct ivg_hmac_md2 {
        struct ivg_md2 inner;
        uint8_t key[IVG_MD2_BYTES];
};
void ivg_hmac_md2_begin(struct ivg_hmac_md2 *hmac, const uint8_t key[IVG_MD2_BYTES]);
void ivg_hmac_md2_add(struct ivg_hmac_md2 *hmac, const void *data, uint32_t bytes);
void ivg_hmac_md2_end(struct ivg_hmac_md2 *hmac, uint8_t digest[IVG_MD2_BYTES]);

#endif
