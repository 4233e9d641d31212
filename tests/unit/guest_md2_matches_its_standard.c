/* MD2 against the vectors of RFC 1319, and what is built on it: the HMAC and the runtime's check of its driver. */
#include "export_check.h"
#include "md2.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void hex_of(const uint8_t digest[IVG_MD2_BYTES], char text[33])
{
        for (uint32_t i = 0; i < IVG_MD2_BYTES; i++)
                sprintf(text + 2 * i, "%02x", digest[i]);
}

static void assert_md2(const char *message, const char *expected)
{
        const uint32_t bytes = (uint32_t)strlen(message);
        uint8_t digest[IVG_MD2_BYTES];
        struct ivg_md2 md2;
        char text[33];

        /* In one piece and in all pairs of pieces. */
        for (uint32_t cut = 0; cut <= bytes; cut++) {
                ivg_md2_begin(&md2);
                ivg_md2_add(&md2, message, cut);
                ivg_md2_add(&md2, message + cut, bytes - cut);
                ivg_md2_end(&md2, digest);
                hex_of(digest, text);
                assert_string_equal(text, expected);
        }
}

static void vectors_of_rfc_1319(void **state)
{
        (void)state;
        assert_md2("", "8350e5a3e24c153df2275c9f80692773");
        assert_md2("a", "32ec01ec4a6dac72c0ab96fb34c0b5d1");
        assert_md2("abc", "da853b0d3f88d99b30283a69e6ded6bb");
        assert_md2("message digest", "ab4f496bfb2a530b219ff33031fe06b0");
        assert_md2("abcdefghijklmnopqrstuvwxyz", "4e8ddff3650292ab5a4108c3aa47940b");
        assert_md2("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789",
                   "da33def2a42df13975352846c30338cd");
        assert_md2("12345678901234567890123456789012345678901234567890123456789012345678901234567890",
                   "d5976f79d83d3a0dc9806c3c66f3efd8");
}

/* By the definition of RFC 2104, with MD2 itself as the only means. */
static void hmac_is_md2_of_key_and_md2(void **state)
{
        uint8_t key[IVG_MD2_BYTES], expected[IVG_MD2_BYTES], digest[IVG_MD2_BYTES], message[61];
        struct ivg_hmac_md2 hmac;
        struct ivg_md2 md2;

        (void)state;
        for (uint32_t i = 0; i < sizeof(key); i++)
                key[i] = (uint8_t)(17 * i + 3);
        for (uint32_t i = 0; i < sizeof(message); i++)
                message[i] = (uint8_t)(i * i);

        ivg_md2_begin(&md2);
        for (uint32_t i = 0; i < sizeof(key); i++)
                ivg_md2_add(&md2, &(uint8_t){key[i] ^ 0x36}, 1);
        ivg_md2_add(&md2, message, sizeof(message));
        ivg_md2_end(&md2, expected);
        ivg_md2_begin(&md2);
        for (uint32_t i = 0; i < sizeof(key); i++)
                ivg_md2_add(&md2, &(uint8_t){key[i] ^ 0x5c}, 1);
        ivg_md2_add(&md2, expected, sizeof(expected));
        ivg_md2_end(&md2, expected);

        ivg_hmac_md2_begin(&hmac, key);
        ivg_hmac_md2_add(&hmac, message, 7);
        ivg_hmac_md2_add(&hmac, message + 7, sizeof(message) - 7);
        ivg_hmac_md2_end(&hmac, digest);
        assert_memory_equal(digest, expected, sizeof(digest));
}

static void check_has_constants_for_13_and_a_digest_for_12(void **state)
{
        struct ivg_export_check check = {.driver_version = 13000, .version = 13000, .process = 1, .thread = 2};
        struct ivg_export_check_device device = {.pci_bus = 2};
        uint64_t out[2], other[2];

        (void)state;
        ivg_export_check(&check, &device, 1, out);
        assert_true(out[0] == 0x3341181C03CB675C && out[1] == 0x8ED383AA1F4CD1E8);
        check.version = 13001;
        ivg_export_check(&check, &device, 1, out);
        assert_true(out[0] == 0x1841181C03CB675C && out[1] == 0x8ED383AA1F4CD1E8);

        /* Every word enters the digest. */
        check.version = 12082;
        ivg_export_check(&check, &device, 1, out);
        uint8_t *bytes = (uint8_t *)&check;
        for (uint32_t i = 0; i < sizeof(check); i++) {
                if (i >= 4 && i < 8)
                        continue; /* the version chooses the kind */
                bytes[i] ^= 1;
                ivg_export_check(&check, &device, 1, other);
                assert_memory_not_equal(out, other, sizeof(out));
                bytes[i] ^= 1;
        }
        bytes = (uint8_t *)&device;
        for (uint32_t i = 0; i < sizeof(device); i++) {
                bytes[i] ^= 1;
                ivg_export_check(&check, &device, 1, other);
                assert_memory_not_equal(out, other, sizeof(out));
                bytes[i] ^= 1;
        }
        ivg_export_check(&check, &device, 0, other);
        assert_memory_not_equal(out, other, sizeof(out));
        ivg_export_check(&check, &device, 1, other);
        assert_memory_equal(out, other, sizeof(out));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(vectors_of_rfc_1319),
                cmocka_unit_test(hmac_is_md2_of_key_and_md2),
                cmocka_unit_test(check_has_constants_for_13_and_a_digest_for_12),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
