/* Each kernel of ptx/float.cu is one floating-point instruction. IEEE ones must match C bit for bit, directed roundings
 * against the C library's; approximations within the bounds that the ISA gives the hardware. */
#include <fenv.h>
#include <math.h>

#include "softgpu_ptx.h"

#define COUNT 8192u

typedef uint32_t u32;
typedef uint64_t u64;

static float f(u32 bits)
{
        float x;

        memcpy(&x, &bits, 4);
        return x;
}

static u32 b(float x)
{
        u32 bits;

        memcpy(&bits, &x, 4);
        /* The engine, as the hardware, has one NaN. */
        return x != x ? 0x7fffffffu : bits;
}

static double d(u64 bits)
{
        double x;

        memcpy(&x, &bits, 8);
        return x;
}

static u64 e(double x)
{
        u64 bits;

        memcpy(&bits, &x, 8);
        return bits;
}

static float flushed(float x)
{
        return fpclassify(x) == FP_SUBNORMAL ? copysignf(0, x) : x;
}

static float saturated(float x)
{
        return x != x || x < 0 ? 0 : x > 1 ? 1 : x == 0 ? 0 : x;
}

static u32 least(u32 x, u32 y)
{
        if (isnan(f(x)) || isnan(f(y)))
                return isnan(f(x)) ? b(f(y)) : b(f(x));
        if (f(x) == f(y))
                return signbit(f(x)) ? x : y;
        return f(x) < f(y) ? x : y;
}

static u32 greatest(u32 x, u32 y)
{
        if (isnan(f(x)) || isnan(f(y)))
                return isnan(f(x)) ? b(f(y)) : b(f(x));
        if (f(x) == f(y))
                return signbit(f(x)) ? y : x;
        return f(x) > f(y) ? x : y;
}

/* Arithmetic in another rounding mode; volatile keeps it between the two switches. */
#define ROUNDED(T, MODE, EXPRESSION)      \
        ({                                \
                volatile T result_;       \
                fesetround(MODE);         \
                result_ = (EXPRESSION);   \
                fesetround(FE_TONEAREST); \
                result_;                  \
        })

static u32 s32_limited(double x, double low, double high)
{
        return x != x ? 0 : (u32)(int64_t)(x < low ? low : x > high ? high : x);
}

/* f16 from the definition: the nearest of all 65536 would be slow, the nearest of two neighbours is enough. */
static double half_value(u32 h)
{
        u32 exponent = h >> 10 & 31, mantissa = h & 1023;
        double x = exponent == 31 ? (mantissa ? NAN : INFINITY)
                   : exponent     ? ldexp(1024 + mantissa, (int)exponent - 25)
                                  : ldexp(mantissa, -24);

        return h & 0x8000 ? -x : x;
}

static u32 to_half(double x, bool to_zero)
{
        u32 low = 0, high = 0x7c00, sign = signbit(x) ? 0x8000 : 0;
        double magnitude = fabs(x), middle;

        if (x != x)
                return 0x7fff;
        while (high - low > 1) { /* half_value(low) <= magnitude < half_value(high) */
                u32 between = (low + high) / 2;

                if (half_value(between) <= magnitude)
                        low = between;
                else
                        high = between;
        }
        if (isinf(magnitude))
                return sign | 0x7c00;
        if (to_zero)
                return sign | low;
        middle = (half_value(low) + (high == 0x7c00 ? 65536.0 : half_value(high))) / 2;
        if (magnitude > middle || (magnitude == middle && (low & 1)))
                low = high;
        return sign | low;
}

#define U __attribute__((unused))
#define F32(NAME, EXPRESSION)                                      \
        static u32 NAME(u32 p U, u32 q U, u32 r U)                 \
        {                                                          \
                volatile float x U = f(p), y U = f(q), z U = f(r); \
                return (EXPRESSION);                               \
        }
#define F64(NAME, EXPRESSION)                                       \
        static u64 NAME(u64 p U, u64 q U, u64 r U)                  \
        {                                                           \
                volatile double x U = d(p), y U = d(q), z U = d(r); \
                return (EXPRESSION);                                \
        }

F32(add_f32, b(x + y))
F32(sub_f32, b(x - y))
F32(mul_f32, b(x *y))
F32(fma_f32, b(fmaf(x, y, z)))
F32(div_f32, b(x / y))
F32(sqrt_f32, b(sqrtf(x)))
F32(rcp_f32, b(1 / x))
F32(min_f32, least(p, q))
F32(max_f32, greatest(p, q))
F32(abs_f32, p & 0x7fffffffu)
F32(neg_f32, p ^ 0x80000000u)
F32(add_ftz_f32, b(flushed(flushed(x) + flushed(y))))
F32(mul_ftz_f32, b(flushed(flushed(x) * flushed(y))))
F32(fma_ftz_f32, b(flushed(fmaf(flushed(x), flushed(y), flushed(z)))))
F32(add_sat_f32, b(saturated(x + y)))
F32(fma_sat_f32, b(saturated(fmaf(x, y, z))))
F32(add_rz_f32, b(ROUNDED(float, FE_TOWARDZERO, x + y)))
F32(add_rm_f32, b(ROUNDED(float, FE_DOWNWARD, x + y)))
F32(mul_rp_f32, b(ROUNDED(float, FE_UPWARD, x *y)))
F32(fma_rz_f32, b(ROUNDED(float, FE_TOWARDZERO, fmaf(x, y, z))))
F32(div_rp_f32, b(ROUNDED(float, FE_UPWARD, x / y)))
F32(sqrt_rm_f32, b(ROUNDED(float, FE_DOWNWARD, sqrtf(x))))
F32(copysign_f32, (q & 0x7fffffffu) | (p & 0x80000000u))
F32(setp_ltu, b(isnan(x) || isnan(y) || x < y ? 1 : 2))
F32(setp_ne, b(!isnan(x) && !isnan(y) && x != y ? 1 : 2))
F32(setp_neu, b(isnan(x) || isnan(y) || x != y ? 1 : 2))
F32(setp_nan, b(isnan(x) || isnan(y) ? 1 : 2))
F32(setp_ge_and, !isnan(z) && !(x >= y) ? r : !isnan(z) && x >= y ? p : q)
F32(set_gt_f32, b(x > y ? 1 : 0))
F32(testp_normal, fpclassify(x) == FP_SUBNORMAL ? p : b(fpclassify(x) == FP_NORMAL ? 1 : 0))
F32(testp_infinite, isnan(x) ? p : isinf(x) ? q : r)
F32(rint_f32, b(rintf(x)))
F32(trunc_f32, b(truncf(x)))
F32(floor_f32, b(floorf(x)))
F32(ceil_f32, b(ceilf(x)))
F32(sat_f32, b(saturated(x)))
F32(f32_to_s32, s32_limited(trunc((double)x), INT32_MIN, INT32_MAX))
F32(f32_to_u32, s32_limited(rint((double)x), 0, UINT32_MAX))
F32(f32_to_s8, s32_limited(floor((double)x), -128, 127))
F32(f32_to_u16, s32_limited(ceil((double)x), 0, 65535))
F32(s32_to_f32, b((float)(int32_t)p))
F32(u32_to_f32_rz, b(ROUNDED(float, FE_TOWARDZERO, (float)*(volatile u32 *)&p)))
F32(f32_to_f16, to_half((double)x, false))
F32(f32_to_f16_rz, to_half((double)x, true))
F32(f16_to_f32, b((float)half_value(p & 0xffff)))

F64(add_f64, e(x + y))
F64(mul_f64, e(x *y))
F64(fma_f64, e(fma(x, y, z)))
F64(div_f64, e(x / y))
F64(sqrt_f64, e(sqrt(x)))
F64(min_f64, isnan(x) ? q : isnan(y) ? p : x == y ? (signbit(x) ? p : q) : x < y ? p : q)
F64(max_f64, isnan(x) ? q : isnan(y) ? p : x == y ? (signbit(x) ? q : p) : x > y ? p : q)
F64(add_rp_f64, e(ROUNDED(double, FE_UPWARD, x + y)))
F64(mul_rz_f64, e(ROUNDED(double, FE_TOWARDZERO, x *y)))
F64(fma_rm_f64, e(ROUNDED(double, FE_DOWNWARD, fma(x, y, z))))
F64(setp_gtu_f64, isnan(x) || isnan(y) || x > y ? p : r)
F64(f64_to_f32, e((double)(float)x))
F64(f64_to_f32_rm, e((double)ROUNDED(float, FE_DOWNWARD, (float)x)))
F64(f64_to_f16, to_half(x, false))
F64(f64_to_s64, isnan(x) ? 1ull << 63 : x >= 0x1p63 ? (u64)INT64_MAX : x < -0x1p63 ? (u64)INT64_MIN : (u64)(int64_t)x)
F64(f64_to_u64, isnan(x) ? 1ull << 63 : rint(x) >= 0x1p64 ? UINT64_MAX : rint(x) <= 0 ? 0 : (u64)rint(x))
F64(f64_to_s32, (u64)(int64_t)(int32_t)(isnan(x) ? 0x80000000u : s32_limited(trunc(x), INT32_MIN, INT32_MAX)))
F64(s64_to_f64, e((double)(int64_t)p))
F64(u64_to_f64_rz, e(ROUNDED(double, FE_TOWARDZERO, (double)*(volatile u64 *)&p)))
F64(s64_to_f32, e((double)(float)(int64_t)p))
F64(u64_to_f32_rp, e((double)ROUNDED(float, FE_UPWARD, (float)*(volatile u64 *)&p)))
F64(f32_to_s64, f64_to_s64(e((double)(float)x), 0, 0))
F64(rint_f64, e(rint(x)))
F64(rcp_gross_f64, e(1 / d(p & ~0xffffffffull)) & ~0xffffffffull)

#define K(NAME)             \
        {                   \
#NAME, NAME \
        }
static const struct {
        const char *name;
        u32 (*expected)(u32, u32, u32);
} kernels32[] = {
        K(add_f32),        K(sub_f32),       K(mul_f32),     K(fma_f32),     K(div_f32),      K(sqrt_f32),
        K(rcp_f32),        K(min_f32),       K(max_f32),     K(abs_f32),     K(neg_f32),      K(add_ftz_f32),
        K(mul_ftz_f32),    K(fma_ftz_f32),   K(add_sat_f32), K(fma_sat_f32), K(add_rz_f32),   K(add_rm_f32),
        K(mul_rp_f32),     K(fma_rz_f32),    K(div_rp_f32),  K(sqrt_rm_f32), K(copysign_f32), K(setp_ltu),
        K(setp_ne),        K(setp_neu),      K(setp_nan),    K(setp_ge_and), K(set_gt_f32),   K(testp_normal),
        K(testp_infinite), K(rint_f32),      K(trunc_f32),   K(floor_f32),   K(ceil_f32),     K(sat_f32),
        K(f32_to_s32),     K(f32_to_u32),    K(f32_to_s8),   K(f32_to_u16),  K(s32_to_f32),   K(u32_to_f32_rz),
        K(f32_to_f16),     K(f32_to_f16_rz), K(f16_to_f32),
};
static const struct {
        const char *name;
        u64 (*expected)(u64, u64, u64);
} kernels64[] = {
        K(add_f64),       K(mul_f64),    K(fma_f64),       K(div_f64),    K(sqrt_f64),     K(min_f64),
        K(max_f64),       K(add_rp_f64), K(mul_rz_f64),    K(fma_rm_f64), K(setp_gtu_f64), K(f64_to_f32),
        K(f64_to_f32_rm), K(f64_to_f16), K(f64_to_s64),    K(f64_to_u64), K(f64_to_s32),   K(s64_to_f64),
        K(u64_to_f64_rz), K(s64_to_f32), K(u64_to_f32_rp), K(f32_to_s64), K(rint_f64),     K(rcp_gross_f64),
};

static u32 operand32(u64 *state)
{
        static const u32 corners[] = {0,          0x80000000, 1,          0x80000001, 0x007fffff, 0x00800000,
                                      0x33000000, 0x38800000, 0x387fc000, 0x3f000000, 0x3f800000, 0xbf800000,
                                      0x3fc00000, 0x40200000, 0x477fe000, 0x477ff000, 0x4effffff, 0x4f000000,
                                      0xcf000000, 0x4f800000, 0x5f000000, 0x7f7fffff, 0x7f800000, 0xff800000,
                                      0x7fc00000, 0x7f800001, 0x43000000, 0xc3010000, 0x477fff00};
        u64 r = next_random(state);

        switch (r & 7) {
        case 0:
        case 1:
                return corners[(r >> 8) % (sizeof(corners) / sizeof(corners[0]))];
        case 2:
                return (u32)(r >> 32); /* any bits */
        case 3:
                return (u32)(r >> 40) | (u32)(r & 0x80000000u); /* subnormals and tiny ones */
        default: {
                float x = ldexpf((float)(int32_t)(r >> 32), -(int)(r >> 3 & 63));
                u32 bits;

                memcpy(&bits, &x, 4);
                return bits;
        }
        }
}

static u64 operand64(u64 *state)
{
        static const u64 corners[] = {0,
                                      1ull << 63,
                                      1,
                                      0x000fffffffffffff,
                                      0x3ff0000000000000,
                                      0xbff0000000000000,
                                      0x3fe0000000000000,
                                      0x43e0000000000000,
                                      0xc3e0000000000000,
                                      0x43f0000000000000,
                                      0x41dfffffffc00000,
                                      0x41e0000000000000,
                                      0x40effe0000000000,
                                      0x40effffc00000000,
                                      0x7fefffffffffffff,
                                      0x7ff0000000000000,
                                      0xfff0000000000000,
                                      0x7ff8000000000000,
                                      0x36a0000000000000,
                                      0x3690000000000000,
                                      0x0010000000000000,
                                      0x3e70000000000000,
                                      0x7fffffffffffff00,
                                      0x00ffffff80000001};
        u64 r = next_random(state);

        switch (r & 7) {
        case 0:
        case 1:
                return corners[(r >> 8) % (sizeof(corners) / sizeof(corners[0]))];
        case 2:
                return next_random(state);
        case 3:
                return r >> 8; /* an integer, or a tiny number */
        default:
                return e(ldexp((double)(int64_t)next_random(state), -(int)(r >> 3 & 127)));
        }
}

INSTRUCTIONS_TEST(every_32_bit_instruction, u32, "float.ptx", 3, kernels32, operand32(&state), SAME_BITS)

static bool same64(u64 got, u64 wanted)
{
        return got == wanted || (isnan(d(got)) && isnan(d(wanted)));
}

INSTRUCTIONS_TEST(every_64_bit_instruction, u64, "float.ptx", 4, kernels64, operand64(&state), same64)

static double exact_sin(double x, double y U)
{
        return sin(x);
}
static double exact_cos(double x, double y U)
{
        return cos(x);
}
static double exact_ex2(double x, double y U)
{
        return exp2(x);
}
static double exact_lg2(double x, double y U)
{
        return log2(x);
}
static double exact_tanh(double x, double y U)
{
        return tanh(x);
}
static double exact_rsqrt(double x, double y U)
{
        return 1 / sqrt(x);
}
static double exact_rcp(double x, double y U)
{
        return 1 / x;
}
static double exact_sqrt(double x, double y U)
{
        return sqrt(x);
}
static double exact_div(double x, double y)
{
        return x / y;
}

/* The bounds of the ISA are 2 ulp or absolute 2^-20 and worse; a library function on the CPU has to do better. */
static void approximations_are_within_two_ulps(void **unused)
{
        static const struct {
                const char *name;
                double (*exact)(double, double);
        } kernels[] = {
                {"sin_approx", exact_sin}, {"cos_approx", exact_cos},   {"ex2_approx", exact_ex2},
                {"lg2_approx", exact_lg2}, {"tanh_approx", exact_tanh}, {"rsqrt_approx", exact_rsqrt},
                {"rcp_approx", exact_rcp}, {"sqrt_approx", exact_sqrt}, {"div_full", exact_div},
        };
        struct device *device = device_open("float.ptx");
        float *x = device_buffer(device, COUNT * 4), *y = device_buffer(device, COUNT * 4);
        float *out = device_buffer(device, COUNT * 4);
        u64 state = 5;

        (void)unused;
        for (unsigned i = 0; i < COUNT; i++) {
                x[i] = (float)((double)(int32_t)next_random(&state) / (1u << 28));
                y[i] = (float)((double)(int32_t)next_random(&state) / (1u << 20));
        }
        for (size_t n = 0; n < sizeof(kernels) / sizeof(kernels[0]); n++) {
                RUN(device, kernels[n].name, line(COUNT / 256, 256), ARGUMENT(x), ARGUMENT(y), ARGUMENT(y),
                    ARGUMENT(out));
                for (unsigned i = 0; i < COUNT; i++) {
                        float wanted = (float)kernels[n].exact((double)x[i], (double)y[i]);

                        if (ulps32(out[i], wanted) > 2)
                                fail_msg("%s(%a, %a) = %a, not %a", kernels[n].name, (double)x[i], (double)y[i],
                                         (double)out[i], (double)wanted);
                }
        }
        device_close(device);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(every_32_bit_instruction),
                cmocka_unit_test(every_64_bit_instruction),
                cmocka_unit_test(approximations_are_within_two_ulps),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
