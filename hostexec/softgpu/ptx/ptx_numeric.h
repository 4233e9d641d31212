/* Number formats that C lacks, and the corner cases in which PTX differs from C. */
#ifndef IVGPU_SOFTGPU_PTX_NUMERIC_H
#define IVGPU_SOFTGPU_PTX_NUMERIC_H

#include <math.h>
#include <stdint.h>
#include <string.h>

static inline uint32_t bits32(float x)
{
        uint32_t u;

        memcpy(&u, &x, sizeof(u));
        return u;
}

static inline float float32(uint32_t u)
{
        float x;

        memcpy(&x, &u, sizeof(x));
        return x;
}

static inline uint64_t bits64(double x)
{
        uint64_t u;

        memcpy(&u, &x, sizeof(u));
        return u;
}

static inline double float64(uint64_t u)
{
        double x;

        memcpy(&x, &u, sizeof(x));
        return x;
}

/* f32 arithmetic gives one NaN only. */
static inline float canonical32(float x)
{
        return x != x ? float32(0x7fffffffu) : x;
}

/* .ftz: subnormals become zero of the same sign. */
static inline float flush32(float x)
{
        uint32_t u = bits32(x);

        return float32((u & 0x7f800000u) == 0 ? u & 0x80000000u : u);
}

/* .sat: [0, 1], NaN to 0. */
static inline float saturate32(float x)
{
        return x > 0.0f ? (x < 1.0f ? x : 1.0f) : 0.0f;
}

static inline double saturate64(double x)
{
        return x > 0.0 ? (x < 1.0 ? x : 1.0) : 0.0;
}

/* A number beats NaN; -0 is less than +0. */
static inline float min32(float a, float b)
{
        if (a != a)
                return canonical32(b);
        if (b != b)
                return a;
        if (a == b)
                return float32(bits32(a) | (a == 0 ? bits32(b) : 0));
        return a < b ? a : b;
}

static inline float max32(float a, float b)
{
        if (a != a)
                return canonical32(b);
        if (b != b)
                return a;
        if (a == b)
                return float32(bits32(a) & (a == 0 ? bits32(b) : ~0u));
        return a > b ? a : b;
}

static inline float min_nan32(float a, float b)
{
        return a != a || b != b ? float32(0x7fffffffu) : min32(a, b);
}

static inline float max_nan32(float a, float b)
{
        return a != a || b != b ? float32(0x7fffffffu) : max32(a, b);
}

static inline double min64(double a, double b)
{
        if (a != a)
                return b;
        if (b != b)
                return a;
        if (a == b)
                return float64(bits64(a) | (a == 0 ? bits64(b) : 0));
        return a < b ? a : b;
}

static inline double max64(double a, double b)
{
        if (a != a)
                return b;
        if (b != b)
                return a;
        if (a == b)
                return float64(bits64(a) & (a == 0 ? bits64(b) : ~0ull));
        return a > b ? a : b;
}

/* f16 to f32 is exact: shift the fields into place, rebias, and let the subtraction normalise subnormals. */
static inline float half_to_float(uint16_t h)
{
        uint32_t sign = (uint32_t)(h & 0x8000u) << 16;
        uint32_t bits = (uint32_t)(h & 0x7fffu) << 13;
        uint32_t exponent = bits & 0x0f800000u;

        if (exponent == 0x0f800000u)
                return float32(sign | (bits + 0x70000000u));
        if (exponent == 0)
                return float32(sign | bits32(float32(bits + 0x38800000u) - float32(0x38800000u)));
        return float32(sign | (bits + 0x38000000u));
}

/* Round to nearest even. For subnormal results the addition of 0.5 does the rounding: its ulp is theirs. */
static inline uint16_t float_to_half(float x)
{
        uint32_t u = bits32(x);
        uint32_t sign = u >> 16 & 0x8000u;

        u &= 0x7fffffffu;
        if (u > 0x7f800000u)
                return 0x7fff;
        if (u >= 0x477ff000u)
                return (uint16_t)(sign | 0x7c00u);
        if (u < 0x38800000u)
                return (uint16_t)(sign | (bits32(float32(u) + 0.5f) - 0x3f000000u));
        return (uint16_t)(sign | (u - 0x38000000u + 0xfffu + (u >> 13 & 1)) >> 13);
}

static inline float bfloat_to_float(uint16_t h)
{
        return float32((uint32_t)h << 16);
}

static inline uint16_t float_to_bfloat(float x)
{
        uint32_t u = bits32(x);

        if ((u & 0x7fffffffu) > 0x7f800000u)
                return 0x7fff;
        return (uint16_t)((u + 0x7fffu + (u >> 16 & 1)) >> 16);
}

enum ptx_rounding { PTX_ROUND_NEAREST, PTX_ROUND_ZERO, PTX_ROUND_DOWN, PTX_ROUND_UP, PTX_ROUND_AWAY };

/* Rounds a double once into a format with `mantissa` explicit bits and least normal exponent `least` (as a power of
 * two), in any mode; the result is exact in double. Values over `largest` go to infinity or stay at `largest`, as the
 * mode says. */
static inline double ptx_round(double x, int mantissa, int least, double largest, enum ptx_rounding mode)
{
        int exponent;
        double scaled, floored, rest, magnitude;

        if (x == 0 || x != x || isinf(x))
                return x;
        magnitude = frexp(fabs(x), &exponent); /* |x| = magnitude * 2^exponent, magnitude in [1/2, 1) */
        exponent -= 1;
        if (exponent < least)
                exponent = least;
        scaled = ldexp(fabs(x), mantissa - exponent); /* one unit of the target is 1 */
        floored = floor(scaled);
        rest = scaled - floored;
        if (mode == PTX_ROUND_NEAREST)
                floored += rest > 0.5 || (rest == 0.5 && fmod(floored, 2.0) != 0.0) ? 1.0 : 0.0;
        else if (mode == PTX_ROUND_AWAY)
                floored += rest >= 0.5 ? 1.0 : 0.0;
        else if ((mode == PTX_ROUND_DOWN && x < 0) || (mode == PTX_ROUND_UP && x > 0))
                floored += rest > 0 ? 1.0 : 0.0;
        magnitude = ldexp(floored, exponent - mantissa);
        if (magnitude > largest)
                magnitude =
                        mode == PTX_ROUND_ZERO || (mode == PTX_ROUND_DOWN && x > 0) || (mode == PTX_ROUND_UP && x < 0)
                                ? largest
                                : (double)INFINITY;
        return copysign(magnitude, x);
}

static inline uint16_t double_to_half(double x, enum ptx_rounding mode)
{
        return x != x ? 0x7fff : float_to_half((float)ptx_round(x, 10, -14, 65504.0, mode));
}

static inline uint16_t double_to_bfloat(double x, enum ptx_rounding mode)
{
        return x != x ? 0x7fff : float_to_bfloat((float)ptx_round(x, 7, -126, 0x1.fep127, mode));
}

static inline float double_to_float(double x, enum ptx_rounding mode)
{
        if (mode == PTX_ROUND_NEAREST)
                return canonical32((float)x);
        return canonical32((float)ptx_round(x, 23, -126, 0x1.fffffep127, mode));
}

/* a * b + c of narrow formats: the product is exact in double, the sum is rounded to odd there, and a second rounding
 * to the narrow format then errs never (the sum keeps two bits more than the result, and sticky ones). */
static inline double fma_round_odd(double a, double b, double c)
{
        double product = a * b;
        double sum = product + c;
        double part = sum - product;
        double error = (product - (sum - part)) + (c - part);

        if (error != 0 && !isinf(sum) && sum == sum) {
                uint64_t u = bits64(sum);

                if (!(u & 1)) {
                        /* Toward the error: away from zero keeps the magnitude's floor, else one below; both are odd.
                         */
                        u = (error > 0) == (sum > 0) ? u + 1 : u - 1;
                        sum = float64(u);
                }
        }
        return sum;
}

static inline uint16_t half_fma(uint16_t a, uint16_t b, uint16_t c)
{
        double sum = fma_round_odd((double)half_to_float(a), (double)half_to_float(b), (double)half_to_float(c));

        return double_to_half(sum, PTX_ROUND_NEAREST);
}

static inline uint16_t bfloat_fma(uint16_t a, uint16_t b, uint16_t c)
{
        double sum = fma_round_odd((double)bfloat_to_float(a), (double)bfloat_to_float(b), (double)bfloat_to_float(c));

        return double_to_bfloat(sum, PTX_ROUND_NEAREST);
}

#endif
