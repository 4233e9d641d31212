/* f16 and bf16 of ptx/half.cu, against exact arithmetic in __float128 that is rounded once; and what sm_80 added. */
#include <math.h>

#include "softgpu_ptx.h"

#define COUNT 4096u

typedef uint16_t u16;
typedef uint32_t u32;
typedef __float128 wide;

/* A format of 16 bits: how many of them are mantissa, and the bias. */
struct format {
        unsigned mantissa;
        int bias;
};
static const struct format half = {10, 15}, bfloat = {7, 127};

static double value(struct format f, u16 bits)
{
        unsigned exponent = (bits & 0x7fffu) >> f.mantissa, mantissa = bits & ((1u << f.mantissa) - 1);
        unsigned top = 0x7fffu >> f.mantissa;
        double x = exponent == top ? (mantissa ? NAN : INFINITY)
                   : exponent      ? ldexp((1u << f.mantissa) + mantissa, (int)exponent - f.bias - (int)f.mantissa)
                                   : ldexp(mantissa, 1 - f.bias - (int)f.mantissa);

        return bits & 0x8000 ? -x : x;
}

/* Nearest even, by bisection over the bit patterns, which are in the order of the magnitudes. */
/* `rest` is what x lost already: only its sign matters, and only in a tie. */
static u16 rounded_with_rest(struct format f, wide x, wide rest, bool negative_zero)
{
        u32 low = 0, top = 0x7fffu >> f.mantissa << f.mantissa, high = top;
        u16 sign = x < 0 || (x == 0 && negative_zero) ? 0x8000 : 0;
        wide magnitude = x < 0 ? -x : x, above, middle;

        if (x != x)
                return 0x7fff;
        if (magnitude > (wide)1e300)
                return (u16)(sign | top);
        while (high - low > 1) {
                u32 between = (low + high) / 2;

                if ((wide)value(f, (u16)between) <= magnitude)
                        low = between;
                else
                        high = between;
        }
        above = high == top ? (wide)ldexp(1, 0x7fff / (1 << f.mantissa) - f.bias) : (wide)value(f, (u16)high);
        middle = ((wide)value(f, (u16)low) + above) / 2;
        rest = x < 0 ? -rest : rest;
        if (magnitude > middle || (magnitude == middle && (rest > 0 || (rest == 0 && (low & 1)))))
                low = high;
        return (u16)(sign | low);
}

static u16 rounded(struct format f, wide x, bool negative_zero)
{
        return rounded_with_rest(f, x, 0, negative_zero);
}

static u16 fused(struct format f, u16 a, u16 b, u16 c)
{
        double x = value(f, a), y = value(f, b), z = value(f, c), plain = x * y + z;
        wide product, sum, part;

        if (!isfinite(plain) && !(isfinite(x) && isfinite(y) && isfinite(z)))
                return plain != plain ? 0x7fff : rounded(f, (wide)plain, false);
        product = (wide)x * (wide)y;
        sum = product + (wide)z;
        /* The exact error of the sum: what is left when the larger part is taken out again. */
        part = sum - product;
        return rounded_with_rest(f, sum, (product - (sum - part)) + ((wide)z - part), signbit(x * y) && signbit(z));
}

static u16 summed(struct format f, u16 a, u16 b)
{
        double sum = value(f, a) + value(f, b);

        if (!isfinite(sum))
                return sum != sum ? 0x7fff : rounded(f, (wide)sum, false);
        return rounded(f, (wide)value(f, a) + (wide)value(f, b), signbit(sum));
}

static u16 least(struct format f, u16 a, u16 b)
{
        double x = value(f, a), y = value(f, b);

        if (x != x || y != y)
                return x != x ? (y != y ? 0x7fff : b) : a;
        return x == y ? (a & 0x8000 ? a : b) : x < y ? a : b;
}

static u16 greatest(struct format f, u16 a, u16 b)
{
        double x = value(f, a), y = value(f, b);

        if (x != x || y != y)
                return x != x ? (y != y ? 0x7fff : b) : a;
        return x == y ? (a & 0x8000 ? b : a) : x > y ? a : b;
}

#define U __attribute__((unused))
#define OP16(NAME, EXPRESSION)                                     \
        static u16 NAME(u16 a U, u16 b U, u16 c U)                 \
        {                                                          \
                double x U = value(half, a), y U = value(half, b); \
                return (u16)(EXPRESSION);                          \
        }
OP16(h_add, summed(half, a, b))
OP16(h_sub, y != y ? 0x7fff : summed(half, a, b ^ 0x8000))
OP16(h_mul, isfinite(x) && isfinite(y) ? rounded(half, (wide)x *(wide)y, signbit(x *y))
            : x * y != x * y           ? 0x7fff
                                       : rounded(half, (wide)(x *y), false))
OP16(h_fma, fused(half, a, b, c))
static u16 h_fma_sat(u16 a, u16 b, u16 c)
{
        u16 r = fused(half, a, b, c);
        double x = value(half, r);

        return x != x || x <= 0 ? 0 : x > 1 ? 0x3c00 : r;
}
static u16 h_fma_relu(u16 a, u16 b, u16 c)
{
        u16 r = fused(half, a, b, c);

        return value(half, r) <= 0 ? 0 : r;
}
OP16(h_neg, a ^ 0x8000)
OP16(h_abs, a & 0x7fff)
OP16(h_min, least(half, a, b))
OP16(h_max_nan, x != x || y != y ? 0x7fff : greatest(half, a, b))
OP16(h_setp, x < y ? a : c)
OP16(h_to_int, x != x ? 0 : rint(x) > 32767 ? 32767 : rint(x) < -32768 ? -32768 : (int)rint(x))
OP16(h_from_int, rounded(half, (wide)(int16_t)a, false))
OP16(h_rint, x != x ? 0x7fff : isinf(x) ? a : rounded(half, (wide)rint(x), signbit(x)))
OP16(b_fma, fused(bfloat, a, b, c))
OP16(b_neg, a ^ 0x8000)
OP16(b_min, least(bfloat, a, b))

#define OP32(NAME, EXPRESSION)                                                                                 \
        static u32 NAME(u32 a U, u32 b U, u32 c U)                                                             \
        {                                                                                                      \
                float x U, y U;                                                                                \
                u16 al U = (u16)a, ah U = (u16)(a >> 16), bl U = (u16)b, bh U = (u16)(b >> 16), cl U = (u16)c, \
                       ch U = (u16)(c >> 16);                                                                  \
                memcpy(&x, &a, 4);                                                                             \
                memcpy(&y, &b, 4);                                                                             \
                return (u32)(EXPRESSION);                                                                      \
        }
#define PAIR(LOW, HIGH) ((u32)(u16)(LOW) | (u32)(u16)(HIGH) << 16)
static u16 narrow(struct format f, float x)
{
        return isinf(x) || x != x ? (x != x ? 0x7fff : rounded(f, (wide)x, false)) : rounded(f, (wide)x, signbit(x));
}
static long clamp(int x, long low, long high)
{
        return x < low ? low : x > high ? high : x;
}
OP32(h2_fma, PAIR(fused(half, al, bl, cl), fused(half, ah, bh, ch)))
OP32(h2_add, PAIR(summed(half, al, bl), summed(half, ah, bh)))
OP32(h2_max, PAIR(greatest(half, al, bl), greatest(half, ah, bh)))
OP32(h2_setp,
     PAIR(value(half, al) >= value(half, bl) ? cl ^ 0x8000 : cl, value(half, ah) >= value(half, bh) ? ch & 0x7fff : ch))
OP32(b2_fma, PAIR(fused(bfloat, al, bl, cl), fused(bfloat, ah, bh, ch)))
OP32(b2_from_f32, PAIR(narrow(bfloat, y), narrow(bfloat, x)))
OP32(h2_from_f32, PAIR(narrow(half, y), narrow(half, x)))
OP32(h2_from_f32_relu, PAIR(y <= 0 ? 0 : narrow(half, y), x <= 0 ? 0 : narrow(half, x)))
OP32(b_from_f32_rz, x != x ? 0x7fff : ah)
OP32(tf32_rna, x != x ? 0x7fffffffu : isinf(x) ? a : ((a & 0x7fffffffu) + 0x1000) >> 13 << 13 | (a & 0x80000000u))
OP32(min_nan_f32, x != x || y != y ? 0x7fffffffu : x == y ? (signbit(x) ? a : b) : x < y ? a : b)
OP32(pack_s8, (clamp((int)b, -128, 127) & 255) | (clamp((int)a, -128, 127) & 255) << 8 | (uint64_t)c << 16)
OP32(pack_u16, clamp((int)b, 0, 65535) | clamp((int)a, 0, 65535) << 16)

#define K(NAME)             \
        {                   \
#NAME, NAME \
        }
static const struct {
        const char *name;
        u16 (*expected)(u16, u16, u16);
} kernels16[] = {
        K(h_add),     K(h_sub),  K(h_mul),    K(h_fma),      K(h_fma_sat), K(h_fma_relu), K(h_neg), K(h_abs), K(h_min),
        K(h_max_nan), K(h_setp), K(h_to_int), K(h_from_int), K(h_rint),    K(b_fma),      K(b_neg), K(b_min),
};
static const struct {
        const char *name;
        u32 (*expected)(u32, u32, u32);
} kernels32[] = {
        K(h2_fma),           K(h2_add),        K(h2_max),   K(h2_setp),     K(b2_fma),  K(b2_from_f32), K(h2_from_f32),
        K(h2_from_f32_relu), K(b_from_f32_rz), K(tf32_rna), K(min_nan_f32), K(pack_s8), K(pack_u16),
};

static u16 operand16(uint64_t *state)
{
        static const u16 corners[] = {0,      0x8000, 1,      0x8001, 0x3ff,  0x400,  0x3c00, 0xbc00, 0x3800, 0x3555,
                                      0x7bff, 0xfbff, 0x7c00, 0xfc00, 0x7e00, 0x7c01, 0x3c01, 0x1400, 0x3f80, 0x4000,
                                      0x7f80, 0xff80, 0x7f7f, 0x0080, 0x007f, 0x6400, 0x6401, 0x7800};
        uint64_t r = next_random(state);

        return (r & 3) == 0 ? corners[(r >> 8) % (sizeof(corners) / sizeof(corners[0]))] : (u16)(r >> 16);
}

INSTRUCTIONS_TEST(every_16_bit_instruction, u16, "half.ptx", 30, kernels16, operand16(&state), SAME_BITS)

INSTRUCTIONS_TEST(every_32_bit_instruction, u32, "half.ptx", 31, kernels32,
                  operand16(&state) | (u32)operand16(&state) << 16, SAME_BITS)

/* The ISA bounds tanh to 2^-10.987 relative and ex2 to 2^-9.9: one unit of f16 is 2^-10. */
static void approximations_are_within_one_unit(void **unused)
{
        struct device *device = device_open("half.ptx");
        u16 *in = device_buffer(device, COUNT * 2), *out = device_buffer(device, COUNT * 2);
        uint64_t state = 32;

        (void)unused;
        for (unsigned i = 0; i < COUNT; i++)
                in[i] = (u16)(next_random(&state) & 0xcfff); /* |x| < 8, and more in the exponent */
        for (unsigned which = 0; which < 2; which++) {
                RUN(device, which ? "h_ex2" : "h_tanh", line(COUNT / 128, 128), ARGUMENT(in), ARGUMENT(in),
                    ARGUMENT(in), ARGUMENT(out));
                for (unsigned i = 0; i < COUNT; i++) {
                        double x = value(half, in[i]), wanted = which ? exp2(x) : tanh(x);
                        u16 nearest = rounded(half, (wide)wanted, signbit(x) && !which);

                        if (abs(out[i] - nearest) > 1)
                                fail_msg("%s(0x%x) = 0x%x, not 0x%x", which ? "ex2" : "tanh", in[i], out[i], nearest);
                }
        }
        device_close(device);
}

static void headers_compute_polynomials(void **unused)
{
        struct device *device = device_open("half.ptx");
        u16 *a = device_buffer(device, 512), *b = device_buffer(device, 512);
        float *out = device_buffer(device, 1024);

        (void)unused;
        for (int i = 0; i < 256; i++) {
                a[i] = rounded(half, (wide)(i * 0.03 - 3), false);
                b[i] = rounded(bfloat, (wide)(i * 0.02 - 1), false);
        }
        RUN(device, "half_polynomial", line(2, 128), ARGUMENT(a), ARGUMENT(b), ARGUMENT(out));
        for (int i = 0; i < 256; i++) {
                double x = value(half, a[i]), y = value(bfloat, b[i]), r = (0.5 * x - 1.25) * x + 1 / (fabs(x) + 1);
                double wanted = r + y * y + 0.75 - 3 * y + x * x + 0.125 + r * r + 0.125 + (x > r ? 64 : 0);

                if (fabs((double)out[i] - wanted) > 0.03 * (1 + fabs(wanted)) && fabs(x - r) > 0.01)
                        fail_msg("element %d: %f, not %f", i, (double)out[i], wanted);
        }
        device_close(device);
}

static void warps_reduce(void **unused)
{
        struct device *device = device_open("half.ptx");
        int *in = device_buffer(device, 256), *out = device_buffer(device, 5 * 256);

        (void)unused;
        for (int i = 0; i < 64; i++)
                in[i] = (i * 77) % 101 - 50;
        RUN(device, "reductions", line(1, 64), ARGUMENT(in), ARGUMENT(out));
        for (int t = 0; t < 64; t++) {
                int base = t & ~31, sum = 0, min = INT32_MAX, xor_all = 0, and_all = -1, or_all = 0;
                unsigned max = 0;

                for (int k = base; k < base + 32; k++) {
                        sum += in[k];
                        min = in[k] < min ? in[k] : min;
                        max = (unsigned)in[k] > max ? (unsigned)in[k] : max;
                        if ((k - base < 10) == (t - base < 10)) {
                                xor_all ^= in[k];
                                and_all &= in[k] | 0x100;
                                or_all |= in[k];
                        }
                }
                assert_int_equal(out[t * 5], sum);
                assert_int_equal(out[t * 5 + 1], min);
                assert_int_equal(out[t * 5 + 2], (int)max);
                assert_int_equal(out[t * 5 + 3], xor_all);
                assert_int_equal(out[t * 5 + 4], and_all + or_all);
        }
        device_close(device);
}

static void copies_and_scopes_reach_memory(void **unused)
{
        struct device *device = device_open("half.ptx");
        int *in = device_buffer(device, 1024), *out = device_buffer(device, 1024);

        (void)unused;
        for (int i = 0; i < 256; i++)
                in[i] = i * 3 + 1;
        RUN(device, "asynchronous_copy", line(1, 64), ARGUMENT(in), ARGUMENT(out));
        for (int t = 0; t < 64; t++)
                for (int k = 0; k < 4; k++) /* odd threads asked for the last four bytes to be zero */
                        assert_int_equal(out[t * 4 + k], (63 - t) & 1 && k == 3 ? 0 : in[(63 - t) * 4 + k]);
        for (int i = 0; i < 64; i++)
                in[i] = i;
        RUN(device, "scoped_memory", line(2, 32), ARGUMENT(in), ARGUMENT(out));
        for (int t = 0; t < 32; t++)
                assert_true(in[t] >= 17 && in[t] >= t + 6);
        assert_int_equal(in[40], 40);
        device_close(device);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(every_16_bit_instruction),
                cmocka_unit_test(every_32_bit_instruction),
                cmocka_unit_test(approximations_are_within_one_unit),
                cmocka_unit_test(headers_compute_polynomials),
                cmocka_unit_test(warps_reduce),
                cmocka_unit_test(copies_and_scopes_reach_memory),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
