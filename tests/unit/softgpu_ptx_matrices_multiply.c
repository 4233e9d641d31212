/* Tensor core instructions of ptx/matrix.cu. Inputs are small integers and eighths, so that every order of summation
 * gives the same exact result. */
#include <math.h>

#include "softgpu_ptx.h"

#define ROWS 16
#define COLUMNS 8

static uint16_t half_of(double x)
{
        int exponent;
        double mantissa = frexp(fabs(x), &exponent);

        if (x == 0)
                return 0;
        return (uint16_t)((x < 0 ? 0x8000 : 0) | (exponent + 14) << 10 | ((int)ldexp(mantissa, 11) & 1023));
}

static uint16_t bfloat_of(double x)
{
        float narrow = (float)x;
        uint32_t bits;

        memcpy(&bits, &narrow, 4);
        return (uint16_t)(bits >> 16);
}

static double a_value(int row, int k)
{
        return (row * 5 + k * 3) % 17 - 8 + (k & 1) * 0.125;
}

static double b_value(int k, int column)
{
        return (k * 7 + column * 11) % 13 - 6;
}

static double c_value(int row, int column)
{
        return row * 8 + column - 50;
}

static double product(int row, int column, int depth)
{
        double sum = c_value(row, column);

        for (int k = 0; k < depth; k++)
                sum += a_value(row, k) * b_value(k, column);
        return sum;
}

static void multiply(struct device *device, const char *name, int depth, uint16_t (*convert)(double))
{
        uint16_t *a = device_buffer(device, 1024), *b = device_buffer(device, 1024);
        float *c = device_buffer(device, 1024), *d = device_buffer(device, 1024);

        for (int k = 0; k < depth; k++) {
                for (int row = 0; row < ROWS; row++)
                        a[row * depth + k] = convert(a_value(row, k));
                for (int column = 0; column < COLUMNS; column++)
                        b[column * depth + k] = convert(b_value(k, column));
        }
        for (int i = 0; i < ROWS * COLUMNS; i++)
                c[i] = (float)c_value(i / COLUMNS, i % COLUMNS);
        RUN(device, name, line(1, 32), ARGUMENT(a), ARGUMENT(b), ARGUMENT(c), ARGUMENT(d));
        for (int i = 0; i < ROWS * COLUMNS; i++)
                if ((double)d[i] != product(i / COLUMNS, i % COLUMNS, depth))
                        fail_msg("%s: element %d is %f, not %f", name, i, (double)d[i],
                                 product(i / COLUMNS, i % COLUMNS, depth));
}

static void narrow_floats(void **unused)
{
        struct device *device = device_open("matrix.ptx");

        (void)unused;
        multiply(device, "mma_f16_k8", 8, half_of);
        multiply(device, "mma_f16_k16", 16, half_of);
        multiply(device, "mma_bf16_k16", 16, bfloat_of);
        device_close(device);
}

static void half_results(void **unused)
{
        struct device *device = device_open("matrix.ptx");
        uint16_t *a = device_buffer(device, 1024), *b = device_buffer(device, 1024);
        uint16_t *c = device_buffer(device, 1024), *d = device_buffer(device, 1024);

        (void)unused;
        for (int k = 0; k < 16; k++) {
                for (int row = 0; row < ROWS; row++)
                        a[row * 16 + k] = half_of(a_value(row, k));
                for (int column = 0; column < COLUMNS; column++)
                        b[column * 16 + k] = half_of(b_value(k, column));
        }
        for (int i = 0; i < ROWS * COLUMNS; i++)
                c[i] = half_of(c_value(i / COLUMNS, i % COLUMNS));
        RUN(device, "mma_f16_f16", line(1, 32), ARGUMENT(a), ARGUMENT(b), ARGUMENT(c), ARGUMENT(d));
        for (int i = 0; i < ROWS * COLUMNS; i++) {
                double wanted = product(i / COLUMNS, i % COLUMNS, 16);

                /* Results below 256 in eighths are exact in f16; larger ones may be rounded. */
                if (fabs(wanted) < 256)
                        assert_int_equal(d[i], half_of(wanted));
        }
        device_close(device);
}

static void tf32_values(void **unused)
{
        struct device *device = device_open("matrix.ptx");
        float *a = device_buffer(device, 1024), *b = device_buffer(device, 1024);
        float *c = device_buffer(device, 1024), *d = device_buffer(device, 1024);

        (void)unused;
        for (int k = 0; k < 8; k++) {
                for (int row = 0; row < ROWS; row++) /* the rounding to tf32 takes the tiny part away */
                        a[row * 8 + k] = (float)a_value(row, k) * (1 + 0x1p-20f);
                for (int column = 0; column < COLUMNS; column++)
                        b[column * 8 + k] = (float)b_value(k, column);
        }
        for (int i = 0; i < ROWS * COLUMNS; i++)
                c[i] = (float)c_value(i / COLUMNS, i % COLUMNS);
        RUN(device, "mma_tf32_k8", line(1, 32), ARGUMENT(a), ARGUMENT(b), ARGUMENT(c), ARGUMENT(d));
        for (int i = 0; i < ROWS * COLUMNS; i++)
                assert_true((double)d[i] == product(i / COLUMNS, i % COLUMNS, 8));
        device_close(device);
}

static void bytes(void **unused)
{
        struct device *device = device_open("matrix.ptx");
        int8_t *a = device_buffer(device, 1024), *b = device_buffer(device, 1024);
        int32_t *c = device_buffer(device, 1024), *d = device_buffer(device, 1024);
        uint64_t state = 50;

        (void)unused;
        for (int i = 0; i < ROWS * 32; i++)
                a[i] = (int8_t)next_random(&state);
        for (int i = 0; i < COLUMNS * 32; i++)
                b[i] = (int8_t)next_random(&state);
        for (int i = 0; i < ROWS * COLUMNS; i++)
                c[i] = (int32_t)next_random(&state) / 4;
        RUN(device, "mma_s8_k32", line(1, 32), ARGUMENT(a), ARGUMENT(b), ARGUMENT(c), ARGUMENT(d));
        for (int i = 0; i < ROWS * COLUMNS; i++) {
                int32_t sum = c[i];

                for (int k = 0; k < 32; k++)
                        sum += a[i / COLUMNS * 32 + k] * b[i % COLUMNS * 32 + k];
                assert_int_equal(d[i], sum);
        }
        device_close(device);
}

static void loads_and_transposes(void **unused)
{
        struct device *device = device_open("matrix.ptx");
        uint16_t *in = device_buffer(device, 512);
        uint32_t *out = device_buffer(device, 7 * 128);

        (void)unused;
        for (int i = 0; i < 256; i++)
                in[i] = (uint16_t)(i * 257 + 3);
        RUN(device, "load_matrices", line(1, 32), ARGUMENT(in), ARGUMENT(out));
        for (int lane = 0; lane < 32; lane++) {
                int i = lane / 4, j = lane % 4 * 2;

                for (int k = 0; k < 4; k++)
                        assert_int_equal(out[k * 32 + lane],
                                         in[k * 64 + i * 8 + j] | (uint32_t)in[k * 64 + i * 8 + j + 1] << 16);
                for (int k = 0; k < 2; k++)
                        assert_int_equal(out[128 + k * 32 + lane],
                                         in[k * 64 + j * 8 + i] | (uint32_t)in[k * 64 + (j + 1) * 8 + i] << 16);
                assert_int_equal(out[192 + lane], in[j * 8 + i] | (uint32_t)in[(j + 1) * 8 + i] << 16);
        }
        device_close(device);
}

static void half_a_warp_is_refused(void **unused)
{
        struct device *device = device_open("matrix.ptx");
        uint16_t *in = device_buffer(device, 512);
        uint32_t *out = device_buffer(device, 7 * 128);

        (void)unused;
        assert_int_equal(LAUNCH(device, "load_matrices", line(1, 16), ARGUMENT(in), ARGUMENT(out)), PTX_BARRIER);
        assert_non_null(strstr(device->fault.detail, "lanes 0x0000ffff only"));
        device_close(device);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(narrow_floats),        cmocka_unit_test(half_results),
                cmocka_unit_test(tf32_values),          cmocka_unit_test(bytes),
                cmocka_unit_test(loads_and_transposes), cmocka_unit_test(half_a_warp_is_refused),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
