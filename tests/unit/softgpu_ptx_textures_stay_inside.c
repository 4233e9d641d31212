/* What a kernel may do wrong with textures and surfaces, and what the launch then tells. That right fetches are right:
 * tests/cuda/textures.c. */
#include "softgpu_ptx.h"

enum { WIDTH = 8, HEIGHT = 4, POINTS = 4 };

static struct device *device;
static struct ptx_texture view;
static float *texels, (*at)[4], (*out)[4];

static int set_up(void **unused)
{
        (void)unused;
        device = device_open("../../cuda/textures.ptx");
        texels = device_buffer(device, WIDTH * HEIGHT * sizeof(*texels));
        at = device_buffer(device, POINTS * sizeof(*at));
        out = device_buffer(device, POINTS * sizeof(*out));
        for (int i = 0; i < WIDTH * HEIGHT; i++)
                texels[i] = (float)i;
        view = (struct ptx_texture){.dimensions = 2,
                                    .texel = PTX_TEXEL_FLOAT,
                                    .channels = 1,
                                    .level_count = 1,
                                    .address = {PTX_TEXTURE_CLAMP, PTX_TEXTURE_CLAMP, PTX_TEXTURE_CLAMP}};
        view.levels[0] = (struct ptx_texture_level){.data = (uint8_t *)texels,
                                                    .width = WIDTH,
                                                    .height = HEIGHT,
                                                    .depth = 1,
                                                    .pitch = WIDTH * sizeof(*texels),
                                                    .slice = WIDTH * HEIGHT * sizeof(*texels)};
        device->texture = &view;
        return 0;
}

static int tear_down(void **unused)
{
        (void)unused;
        device_close(device);
        return 0;
}

static enum ptx_status fetch(const char *kernel, uint64_t number)
{
        return LAUNCH(device, kernel, line(1, POINTS), number, ARGUMENT(at), ARGUMENT(out), POINTS);
}

static void refused(enum ptx_status expected, enum ptx_status status, const char *part)
{
        assert_int_equal(status, expected);
        if (!strstr(device->fault.detail, part))
                fail_msg("'%s' does not name '%s'", device->fault.detail, part);
        assert_true(device->fault.line > 0);
}

static void any_coordinate_is_some_texel(void **unused)
{
        static const float odd[POINTS] = {-__builtin_inff(), __builtin_inff(), __builtin_nanf(""), 3.0e38f};
        const float expected[POINTS] = {0, WIDTH - 1, 0, WIDTH - 1};

        (void)unused;
        for (int linear = 0; linear < 2; linear++)
                for (int normalized = 0; normalized < 2; normalized++)
                        for (int mode = PTX_TEXTURE_WRAP; mode <= PTX_TEXTURE_BORDER; mode++) {
                                view.filter_linear = linear;
                                view.normalized = normalized;
                                view.address[0] = view.address[1] = (enum ptx_texture_address)mode;
                                for (int i = 0; i < POINTS; i++) {
                                        at[i][0] = odd[i];
                                        at[i][1] = mode == PTX_TEXTURE_CLAMP ? 0.0f : odd[POINTS - 1 - i];
                                }
                                assert_int_equal(fetch("fetch_2d", ARGUMENT(&view)), PTX_OK);
                                for (int i = 0; i < POINTS && mode == PTX_TEXTURE_CLAMP; i++)
                                        assert_true(out[i][0] == expected[i]);
                                for (int i = 0; i < POINTS; i++)
                                        assert_true(out[i][0] >= 0 && out[i][0] < WIDTH * HEIGHT);
                        }
}

static void numbers_are_looked_up(void **unused)
{
        (void)unused;
        refused(PTX_ILLEGAL_ADDRESS, fetch("fetch_2d", 0), "is no texture");
        refused(PTX_ILLEGAL_ADDRESS, fetch("fetch_2d", ARGUMENT(&view) + 1), "is no texture");
        refused(PTX_ILLEGAL_ADDRESS, fetch("fetch_3d", ARGUMENT(&view)), "2 dimensions, the instruction 3");
        refused(PTX_ILLEGAL_ADDRESS, fetch("fetch_2d_layered", ARGUMENT(&view)), "and layers");
        refused(PTX_ILLEGAL_ADDRESS, LAUNCH(device, "surface_2d", line(1, WIDTH), ARGUMENT(&view), WIDTH, HEIGHT),
                "is no surface");
        view.surface = true;
        refused(PTX_ILLEGAL_ADDRESS, fetch("fetch_2d", ARGUMENT(&view)), "is no texture");
}

static void memory_is_checked(void **unused)
{
        (void)unused;
        view.in_memory = true;
        for (int i = 0; i < POINTS; i++) {
                at[i][0] = (float)(2 * i);
                at[i][1] = 3.5f;
        }
        assert_int_equal(fetch("fetch_2d", ARGUMENT(&view)), PTX_OK);
        assert_true(out[3][0] == 3 * WIDTH + 6);
        view.levels[0].height = HEIGHT + 1; /* one row more than there is memory */
        at[2][1] = 4.5f;
        refused(PTX_ILLEGAL_ADDRESS, fetch("fetch_2d", ARGUMENT(&view)), "memory that is not there");
        assert_int_equal(device->fault.address, ARGUMENT(texels + HEIGHT * WIDTH + 4));
        assert_int_equal(device->fault.thread[0], 2);
}

static void surfaces_end(void **unused)
{
        (void)unused;
        view.surface = true;
        view.texel = PTX_TEXEL_S32;
        assert_int_equal(LAUNCH(device, "surface_2d", line(1, WIDTH), ARGUMENT(&view), WIDTH, 1), PTX_OK);
        refused(PTX_ILLEGAL_ADDRESS, LAUNCH(device, "surface_2d", line(1, WIDTH + 1), ARGUMENT(&view), WIDTH + 1, 1),
                "outside of the surface");
        assert_int_equal(device->fault.thread[0], WIDTH);
        assert_int_equal(LAUNCH(device, "surface_outside", line(1, 1), ARGUMENT(&view), WIDTH, HEIGHT, ARGUMENT(out)),
                         PTX_OK);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(any_coordinate_is_some_texel, set_up, tear_down),
                cmocka_unit_test_setup_teardown(numbers_are_looked_up, set_up, tear_down),
                cmocka_unit_test_setup_teardown(memory_is_checked, set_up, tear_down),
                cmocka_unit_test_setup_teardown(surfaces_end, set_up, tear_down),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
