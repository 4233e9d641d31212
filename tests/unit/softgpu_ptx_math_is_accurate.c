/* CUDA's math library as nvcc inlines it into ptx/math.cu, against the C library in the next wider type. The bounds are
 * those of the CUDA programming guide, in units of the last place. */
#include <math.h>

#include "softgpu_ptx.h"

#define COUNT 4096u

#define ONE(NAME, CALL)                                       \
        static long double NAME(long double x, long double y) \
        {                                                     \
                (void)y;                                      \
                return CALL;                                  \
        }
ONE(w_sin, sinl(x))
ONE(w_cos, cosl(x))
ONE(w_tan, tanl(x))
ONE(w_exp, expl(x))
ONE(w_log, logl(fabsl(x)))
ONE(w_pow, powl(fabsl(x), y))
ONE(w_tanh, tanhl(x))
ONE(w_atan2, atan2l(x, y))
ONE(w_atan, atanl(x))
ONE(w_erf, erfl(x))
ONE(w_fmod, fmodl(x, y))
ONE(w_cbrt, cbrtl(x))
ONE(w_lgamma, lgammal(x))
ONE(w_div, (long double)((double)x / (double)y)) /* rounded once, as the kernel must */

struct kernel {
        const char *name;
        long double (*exact)(long double, long double);
        double ulps;
};

static double in_range(uint64_t *state)
{
        return (double)(int32_t)next_random(state) / (double)(1u << (20 + next_random(state) % 12));
}

static void floats_are_within_their_bounds(void **unused)
{
        static const struct kernel kernels[] = {
                {"m_sinf", w_sin, 2}, {"m_cosf", w_cos, 2},   {"m_tanf", w_tan, 4},   {"m_expf", w_exp, 2},
                {"m_logf", w_log, 1}, {"m_powf", w_pow, 4},   {"m_tanhf", w_tanh, 2}, {"m_atan2f", w_atan2, 3},
                {"m_erff", w_erf, 2}, {"m_fmodf", w_fmod, 0}, {"m_cbrtf", w_cbrt, 1},
        };
        struct device *device = device_open("math.ptx");
        float *x = device_buffer(device, COUNT * 4), *y = device_buffer(device, COUNT * 4);
        float *out = device_buffer(device, COUNT * 4);
        uint64_t state = 20;

        (void)unused;
        for (unsigned i = 0; i < COUNT; i++) {
                x[i] = (float)in_range(&state);
                y[i] = (float)in_range(&state);
        }
        x[0] = 1e6f; /* the slow path of the trigonometric functions */
        x[1] = 3e30f;
        x[2] = INFINITY;
        x[3] = NAN;
        for (size_t n = 0; n < sizeof(kernels) / sizeof(kernels[0]); n++) {
                RUN(device, kernels[n].name, line(COUNT / 128, 128), ARGUMENT(x), ARGUMENT(y), ARGUMENT(out));
                for (unsigned i = 0; i < COUNT; i++) {
                        float wanted = (float)kernels[n].exact((long double)x[i], (long double)y[i]);

                        if (ulps32(out[i], wanted) > kernels[n].ulps)
                                fail_msg("%s(%a, %a) = %a, not %a", kernels[n].name, (double)x[i], (double)y[i],
                                         (double)out[i], (double)wanted);
                }
        }
        device_close(device);
}

static void doubles_are_within_their_bounds(void **unused)
{
        static const struct kernel kernels[] = {
                {"m_sin", w_sin, 2},   {"m_exp", w_exp, 1}, {"m_log", w_log, 1}, {"m_pow", w_pow, 2},
                {"m_atan", w_atan, 2}, {"m_div", w_div, 0}, {"m_erf", w_erf, 2}, {"m_fmod", w_fmod, 0},
        };
        struct device *device = device_open("math.ptx");
        double *x = device_buffer(device, COUNT * 8), *y = device_buffer(device, COUNT * 8);
        double *out = device_buffer(device, COUNT * 8);
        uint64_t state = 21;

        (void)unused;
        for (unsigned i = 0; i < COUNT; i++) {
                x[i] = in_range(&state);
                y[i] = in_range(&state);
        }
        x[0] = 1e15;
        x[1] = 1e300;
        for (size_t n = 0; n < sizeof(kernels) / sizeof(kernels[0]); n++) {
                RUN(device, kernels[n].name, line(COUNT / 128, 128), ARGUMENT(x), ARGUMENT(y), ARGUMENT(out));
                for (unsigned i = 0; i < COUNT; i++) {
                        double wanted = (double)kernels[n].exact((long double)x[i], (long double)y[i]);

                        if (ulps64(out[i], wanted) > kernels[n].ulps)
                                fail_msg("%s(%a, %a) = %a, not %a", kernels[n].name, x[i], y[i], out[i], wanted);
                }
        }
        device_close(device);
}

/* No bound in ulps is given for these: sums of two results, and lgamma near its zeros. */
static void combinations_are_close(void **unused)
{
        struct device *device = device_open("math.ptx");
        float *x = device_buffer(device, COUNT * 4), *y = device_buffer(device, COUNT * 4);
        float *out = device_buffer(device, COUNT * 4);
        uint64_t state = 22;

        (void)unused;
        for (unsigned i = 0; i < COUNT; i++) {
                x[i] = (float)in_range(&state);
                y[i] = (float)in_range(&state);
        }
        RUN(device, "m_roundf", line(COUNT / 128, 128), ARGUMENT(x), ARGUMENT(y), ARGUMENT(out));
        for (unsigned i = 0; i < COUNT; i++)
                assert_true(out[i] == roundf(x[i]) + (float)lrintf(y[i]));
        RUN(device, "m_ldexpf", line(COUNT / 128, 128), ARGUMENT(x), ARGUMENT(y), ARGUMENT(out));
        for (unsigned i = 0; i < COUNT; i++)
                assert_true(out[i] == ldexpf(x[i], (int)y[i] % 40) + nextafterf(y[i], x[i]));
        RUN(device, "m_lgammaf", line(COUNT / 128, 128), ARGUMENT(x), ARGUMENT(y), ARGUMENT(out));
        for (unsigned i = 0; i < COUNT; i++) {
                double wanted = (double)w_lgamma((long double)x[i], 0);

                if (fabs((double)out[i] - wanted) > 1e-5 * (1 + fabs(wanted)) && x[i] > -10)
                        fail_msg("lgammaf(%a) = %a, not %a", (double)x[i], (double)out[i], wanted);
        }
        device_close(device);
}

static void fast_math_is_close(void **unused)
{
        struct device *device = device_open("fast_math.ptx");
        float *x = device_buffer(device, COUNT * 4), *y = device_buffer(device, COUNT * 4);
        float *out = device_buffer(device, COUNT * 8 * 4);
        uint64_t state = 23;

        (void)unused;
        for (unsigned i = 0; i < COUNT; i++) {
                x[i] = (float)((double)(int32_t)next_random(&state) / (1u << 29));
                y[i] = (float)in_range(&state);
        }
        RUN(device, "fast", line(COUNT / 256, 256), ARGUMENT(x), ARGUMENT(y), ARGUMENT(out));
        for (unsigned i = 0; i < COUNT; i++) {
                const float *r = &out[i * 8];
                double a = (double)x[i], b = (double)y[i];
                double wanted[8] = {sin(a),
                                    exp(a),
                                    log(fabs(b)),
                                    a / b,
                                    sqrt(fabs(a)),
                                    pow(fabs(a), 1.5),
                                    fmin(a, b) * 0.5 + fmax(a, b),
                                    a > b ? 1 / sqrt(fabs(a)) : a * b + 1};

                for (unsigned k = 0; k < 8; k++)
                        if (fabs((double)r[k] - wanted[k]) > 3e-6 * (1 + fabs(wanted[k])))
                                fail_msg("%u(%a, %a) = %a, not %a", k, a, b, (double)r[k], wanted[k]);
        }
        device_close(device);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(floats_are_within_their_bounds),
                cmocka_unit_test(doubles_are_within_their_bounds),
                cmocka_unit_test(combinations_are_close),
                cmocka_unit_test(fast_math_is_close),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
