/* hostexec/exec/image_prints.c over images of nvcc 13.0 (tests/unit/prints): what may print is told from what cannot,
 * in every form; damage is answered "may print". */
#include "exec_internal.h"
#include "jit.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { TURING = 75, AMPERE = 80, HOPPER = 90 };

static uint8_t *image_read(const char *name, size_t *bytes)
{
        char path[512];
        uint8_t *image = malloc(1 << 20);
        FILE *file;

        snprintf(path, sizeof(path), "%s/%s", PRINTING_IMAGES, name);
        file = fopen(path, "rb");
        assert_non_null(file);
        assert_non_null(image);
        *bytes = fread(image, 1, 1 << 20, file);
        fclose(file);
        assert_true(*bytes > 0 && *bytes < 1 << 20);
        return image;
}

static void loud_and_quiet(void **state)
{
        static const char *const forms[] = {"-size.fatbin", "-speed.fatbin", "-none.fatbin", ".cubin", ".ptx"};

        (void)state;
        for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++)
                for (int loud = 0; loud < 2; loud++) {
                        char name[64];
                        size_t bytes;
                        uint8_t *image;

                        snprintf(name, sizeof(name), "%s%s", loud ? "loud" : "quiet", forms[i]);
                        image = image_read(name, &bytes);
                        assert_int_equal(ivg_image_prints(image, bytes, TURING), loud); /* machine code */
                        assert_int_equal(ivg_image_prints(image, bytes, HOPPER), loud); /* of a fatbin the PTX */
                        free(image);
                }
}

static void nothing_for_the_device(void **state)
{
        size_t bytes;
        uint8_t *image = image_read("quiet-size.fatbin", &bytes);

        (void)state;
        assert_true(ivg_image_prints(image, bytes, 50)); /* neither part is for it: not for us to say */
        free(image);
}

/* Every length cut short, and every byte of the headers and the frame damaged: an answer, and never "quiet" for a loud
 * image that lost nothing but its compressed part's health. */
static void damage(void **state)
{
        static const char *const names[] = {"loud-size.fatbin", "loud-speed.fatbin"};

        (void)state;
        for (size_t n = 0; n < 2; n++) {
                size_t bytes;
                uint8_t *image = image_read(names[n], &bytes);

                for (size_t cut = 1; cut < bytes; cut++) {
                        uint8_t *exact = malloc(cut); /* a sanitizer sees a byte too far */

                        assert_non_null(exact);
                        memcpy(exact, image, cut);
                        if (cut >= 4)
                                assert_true(ivg_image_prints(exact, cut, TURING));
                        free(exact);
                }
                for (size_t i = 0; i < bytes; i++) {
                        image[i] ^= 0x5a;
                        (void)ivg_image_prints(image, bytes, TURING);
                        image[i] ^= 0x5a;
                }
                assert_true(ivg_image_prints(image, bytes, TURING));
                free(image);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(loud_and_quiet),
                cmocka_unit_test(nothing_for_the_device),
                cmocka_unit_test(damage),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
