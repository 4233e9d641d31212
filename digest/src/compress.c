/* The compression of one block, and the choice among those of many. */
#include "digest_internal.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "words are read as they lie");

void ivg_digest_compress(uint32_t cv[8], const uint8_t block[BLOCK_BYTES], uint32_t block_bytes, uint64_t counter,
                         uint32_t flags)
{
        static const uint32_t iv[8] = {DIGEST_IV};
        uint32_t v[16], m[16];

        memcpy(m, block, sizeof(m));
        memcpy(v, cv, 8 * sizeof(v[0]));
        memcpy(v + 8, iv, 4 * sizeof(v[0]));
        v[12] = (uint32_t)counter;
        v[13] = (uint32_t)(counter >> 32);
        v[14] = block_bytes;
        v[15] = flags;
        DIGEST_ROUNDS();
        for (uint32_t i = 0; i < 8; i++)
                cv[i] = v[i] ^ v[i + 8];
}

digest_lanes_fn *ivg_digest_lanes(void)
{
        __builtin_cpu_init();
        if (__builtin_cpu_supports("avx512f"))
                return ivg_digest_lanes_16;
        return __builtin_cpu_supports("avx2") ? ivg_digest_lanes_8 : ivg_digest_lanes_4;
}
