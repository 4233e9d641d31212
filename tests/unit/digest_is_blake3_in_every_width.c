/* Content names against BLAKE3's published input (bytes counting modulo 251), in every width that this processor has.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include "digest_internal.h"
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

/* Made with the reference implementation: around every border of block, leaf, lane count and subtree. */
static const struct {
        uint32_t bytes;
        const char *hex;
} known[] = {
        {0, "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"},
        {1, "2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213"},
        {63, "e9bc37a594daad83be9470df7f7b3798297c3d834ce80ba85d6e207627b7db7b"},
        {64, "4eed7141ea4a5cd4b788606bd23f46e212af9cacebacdc7d1f4c6dc7f2511b98"},
        {65, "de1e5fa0be70df6d2be8fffd0e99ceaa8eb6e8c93a63f2d8d1c30ecb6b263dee"},
        {1023, "10108970eeda3eb932baac1428c7a2163b0e924c9a9e25b35bba72b28f70bd11"},
        {1024, "42214739f095a406f3fc83deb889744ac00df831c10daa55189b5d121c855af7"},
        {1025, "d00278ae47eb27b34faecf67b4fe263f82d5412916c1ffd97c8cb7fb814b8444"},
        {2048, "e776b6028c7cd22a4d0ba182a8bf62205d2ef576467e838ed6f2529b85fba24a"},
        {2049, "5f4d72f40d7a5f82b15ca2b2e44b1de3c2ef86c426c95c1af0b6879522563030"},
        {3072, "b98cb0ff3623be03326b373de6b9095218513e64f1ee2edd2525c7ad1e5cffd2"},
        {3073, "7124b49501012f81cc7f11ca069ec9226cecb8a2c850cfe644e327d22d3e1cd3"},
        {4096, "015094013f57a5277b59d8475c0501042c0b642e531b0a1c8f58d2163229e969"},
        {4097, "9b4052b38f1c5fc8b1f9ff7ac7b27cd242487b3d890d15c96a1c25b8aa0fb995"},
        {5120, "9cadc15fed8b5d854562b26a9536d9707cadeda9b143978f319ab34230535833"},
        {8192, "aae792484c8efe4f19e2ca7d371d8c467ffb10748d8a5a1ae579948f718a2a63"},
        {8193, "bab6c09cb8ce8cf459261398d2e7aef35700bf488116ceb94a36d0f5f1b7bc3b"},
        {16384, "f875d6646de28985646f34ee13be9a576fd515f76b5b0a26bb324735041ddde4"},
        {31744, "62b6960e1a44bcc1eb1a611a8d6235b6b4b78f32e7abc4fb4c6cdcce94895c47"},
        {65536, "68d647e619a930e7b1082f74f334b0c65a315725569bdc123f0ee11881717bfe"},
        {65537, "7c99f9840a73dfcb6e5bfe4ff6d1558acab7e015640790c26411818bdbe17eca"},
        {131072, "306baba93b1a393cbd35172837c98b0f59a41f64e1b2682ae102d8b2534b9e1c"},
        {131073, "f837d4254d24ba3d50fe3743d46e4af6db5f5d6ab0469197d94e7ba1e906c4d8"},
        {262144, "d57dc906e20d3fd326ffaa85535500486f46a0979f5a323f028dcabfd381fd4a"},
        {393217, "23793d665bd3c0b578269cc6d66b30eab4b66ab17f38524d1501e5c5fbf707bb"},
        {1000003, "cd5a3272e01b1a2f47bb4565d8d202db0f95704d32550a2da61a0fd363d4c90d"},
};
#define KNOWN (sizeof(known) / sizeof(known[0]))

static uint8_t *input_make(uint32_t bytes)
{
        uint8_t *input = malloc(bytes + 1);

        assert_non_null(input);
        for (uint32_t i = 0; i < bytes; i++)
                input[i] = (uint8_t)(i % 251);
        return input;
}

static void assert_name(const struct ivg_digest *digest, const char *hex)
{
        char text[2 * IVG_DIGEST_BYTES + 1];

        for (uint32_t i = 0; i < IVG_DIGEST_BYTES; i++)
                sprintf(text + 2 * i, "%02x", ((const uint8_t *)digest)[i]);
        assert_string_equal(text, hex);
}

static void whole(void **state)
{
        (void)state;
        for (size_t i = 0; i < KNOWN; i++) {
                uint8_t *input = input_make(known[i].bytes);
                struct ivg_digest digest;

                ivg_digest_of(input, known[i].bytes, &digest);
                assert_name(&digest, known[i].hex);
                assert_false(ivg_digest_is_none(&digest));
                free(input);
        }
}

/* Pieces of every kind of length, none of them kind to the tree. */
static void in_pieces(void **state)
{
        static const uint32_t pieces[] = {1, 63, 64, 1000, 1024, 1025, 4096, 99991, 131072};

        (void)state;
        for (size_t i = 0; i < KNOWN; i++)
                for (size_t p = 0; p < sizeof(pieces) / sizeof(pieces[0]); p++) {
                        uint8_t *input = input_make(known[i].bytes);
                        struct ivg_digest_state tree;
                        struct ivg_digest digest;

                        ivg_digest_begin(&tree);
                        for (uint32_t at = 0; at < known[i].bytes; at += pieces[p]) {
                                const uint32_t left = known[i].bytes - at;

                                ivg_digest_add(&tree, input + at, left < pieces[p] ? left : pieces[p]);
                        }
                        ivg_digest_end(&tree, &digest);
                        assert_name(&digest, known[i].hex);
                        free(input);
                }
}

/* The widths do the same, with full and with half-empty lanes. */
static void every_width(void **state)
{
        digest_lanes_fn *const widths[] = {ivg_digest_lanes_4,
                                           __builtin_cpu_supports("avx2") ? ivg_digest_lanes_8 : NULL,
                                           __builtin_cpu_supports("avx512f") ? ivg_digest_lanes_16 : NULL};
        uint8_t *input = input_make(40 * IVG_DIGEST_CHUNK_BYTES);
        uint32_t tried = 0;

        (void)state;
        for (uint32_t count = 1; count <= 40; count++) {
                const struct digest_inputs inputs = {.data = input,
                                                     .stride = IVG_DIGEST_CHUNK_BYTES,
                                                     .counter = UINT32_MAX - 3, /* carries into the upper half */
                                                     .step = 1,
                                                     .count = count,
                                                     .blocks = CHUNK_BLOCKS,
                                                     .first = CHUNK_START,
                                                     .last = CHUNK_END};

                for (size_t w = 0; w < 3; w++) {
                        uint32_t out[41][8] = {{0}};

                        if (!widths[w])
                                continue;
                        tried++;
                        widths[w](&inputs, out);
                        for (uint32_t i = 0; i < count; i++) {
                                uint32_t cv[8] = {DIGEST_IV};

                                for (uint32_t block = 0; block < CHUNK_BLOCKS; block++)
                                        ivg_digest_compress(cv,
                                                            input + i * IVG_DIGEST_CHUNK_BYTES + block * BLOCK_BYTES,
                                                            BLOCK_BYTES, inputs.counter + i,
                                                            (block == 0 ? CHUNK_START : 0) |
                                                                    (block + 1 == CHUNK_BLOCKS ? CHUNK_END : 0));
                                assert_memory_equal(out[i], cv, sizeof(cv));
                        }
                        for (uint32_t word = 0; word < 8; word++) /* nothing beyond what was asked for */
                                assert_int_equal(out[count][word], 0);
                }
        }
        assert_true(tried >= 40);
        free(input);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(whole),
                cmocka_unit_test(in_pieces),
                cmocka_unit_test(every_width),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
