/* See export_check.h. Versions ending in 0 or 1 (13.0: 13000) expect constants; others, of 12.x, an HMAC-MD2. */
#include "export_check.h"
#include "md2.h"
#include <string.h>

_Static_assert(sizeof(struct ivg_export_check) == 48, "enters the digest as it lies");
_Static_assert(sizeof(struct ivg_export_check_device) == 28, "enters the digest as it lies");

static const uint8_t check_key[IVG_MD2_BYTES] = {0x14, 0x6a, 0xdd, 0xae, 0x53, 0xa9, 0xa7, 0x52,
                                                 0xaa, 0x08, 0x41, 0x36, 0x0b, 0xf5, 0x5a, 0x9f};

void ivg_export_check(const struct ivg_export_check *check, const struct ivg_export_check_device *devices,
                      uint32_t device_count, uint64_t out[2])
{
        uint8_t digest[IVG_MD2_BYTES];
        struct ivg_hmac_md2 hmac;

        if (!ivg_export_check_is_digest(check->version)) {
                out[0] = check->version % 10 == 0 ? 0x3341181c03cb675cull : 0x1841181c03cb675cull;
                out[1] = 0x8ed383aa1f4cd1e8ull;
                return;
        }
        ivg_hmac_md2_begin(&hmac, check_key);
        ivg_hmac_md2_add(&hmac, check, sizeof(*check));
        for (uint32_t i = 0; i < device_count; i++)
                ivg_hmac_md2_add(&hmac, &devices[i], sizeof(devices[i]));
        ivg_hmac_md2_end(&hmac, digest);
        memcpy(out, digest, sizeof(digest));
}
