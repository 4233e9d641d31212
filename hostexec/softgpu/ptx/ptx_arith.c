/* Handlers of arithmetic instructions: 32 lanes at a time, in loops that the compiler vectorises. This file is compiled
 * twice on x86-64, for the baseline and for AVX2 with FMA; PTX_ARITH_TABLE names the table of this copy. */
#include "ptx_arith.h"

#include <fenv.h>

#include "ptx_machine.h"
#include "ptx_numeric.h"

static inline int32_t clamp_s32(int64_t x)
{
        return x > INT32_MAX ? INT32_MAX : x < INT32_MIN ? INT32_MIN : (int32_t)x;
}

static inline int64_t mul_hi_s64(int64_t a, int64_t b)
{
        return (int64_t)(((__int128)a * b) >> 64);
}

static inline uint64_t mul_hi_u64(uint64_t a, uint64_t b)
{
        return (uint64_t)(((unsigned __int128)a * b) >> 64);
}

static inline int64_t sext24(uint32_t x)
{
        return (int32_t)(x << 8) >> 8;
}

static inline uint64_t zext24(uint32_t x)
{
        return x & 0xffffffu;
}

static inline uint32_t reverse32(uint32_t x)
{
        x = (x >> 1 & 0x55555555u) | (x & 0x55555555u) << 1;
        x = (x >> 2 & 0x33333333u) | (x & 0x33333333u) << 2;
        x = (x >> 4 & 0x0f0f0f0fu) | (x & 0x0f0f0f0fu) << 4;
        return __builtin_bswap32(x);
}

static inline uint32_t find_u32(uint32_t x)
{
        return x ? 31u - (uint32_t)__builtin_clz(x) : ~0u;
}

static inline uint32_t find_u64(uint64_t x)
{
        return x ? 63u - (uint32_t)__builtin_clzll(x) : ~0u;
}

static inline uint32_t shift_amount(uint32_t position, uint32_t top)
{
        return position == ~0u ? position : top - position;
}

/* bfe: bits past the top repeat the sign (or zero), also when position or length run over. */
static inline uint64_t extract(uint64_t a, uint32_t position, uint32_t length, unsigned width, int is_signed)
{
        uint64_t value, sign = 0;
        unsigned top;

        position &= 255;
        length &= 255;
        if (length == 0)
                return 0;
        top = position + length - 1 < width - 1 ? position + length - 1 : width - 1;
        if (is_signed)
                sign = 0 - (a >> top & 1);
        value = position < width ? a >> position : 0;
        if (position >= width)
                return sign;
        if (top - position < 63) {
                uint64_t kept = (2ull << (top - position)) - 1;

                value = (value & kept) | (sign & ~kept);
        }
        return value;
}

/* bfi: `length` low bits of a over those of b from `position` on. */
static inline uint64_t insert(uint64_t a, uint64_t b, uint32_t position, uint32_t length, unsigned width)
{
        uint64_t mask;

        position &= 255;
        length &= 255;
        if (length == 0 || position >= width)
                return b;
        mask = length >= 64 ? ~0ull : (1ull << length) - 1;
        mask <<= position;
        return (b & ~mask) | (a << position & mask);
}

/* Bit i of the table answers for the inputs (a, b, c) = the bits of i. */
static inline uint32_t logic3(uint32_t a, uint32_t b, uint32_t c, uint32_t table)
{
        uint32_t result = 0;

        for (unsigned i = 0; i < 8; i++) {
                uint32_t chosen = 0u - (table >> i & 1);

                result |= chosen & (i & 4 ? a : ~a) & (i & 2 ? b : ~b) & (i & 1 ? c : ~c);
        }
        return result;
}

static inline uint32_t pick_byte(uint64_t pair, unsigned selector)
{
        uint32_t byte = (uint32_t)(pair >> (selector & 7) * 8) & 255;

        return selector & 8 ? (byte & 128 ? 255 : 0) : byte;
}

/* The modes of prmt as the four selectors they stand for, from the lowest byte on. */
static inline uint32_t permute(uint32_t a, uint32_t b, uint32_t control, unsigned mode)
{
        uint64_t pair = (uint64_t)b << 32 | a;
        unsigned n = control & 3, s[4];

        for (unsigned i = 0; i < 4; i++) {
                switch (mode) {
                case PTX_PERMUTE_F4E:
                        s[i] = n + i;
                        break;
                case PTX_PERMUTE_B4E:
                        s[i] = (n - i) & 7;
                        break;
                case PTX_PERMUTE_RC8:
                        s[i] = n;
                        break;
                case PTX_PERMUTE_ECL:
                        s[i] = i > n ? i : n;
                        break;
                case PTX_PERMUTE_ECR:
                        s[i] = i < n ? i : n;
                        break;
                case PTX_PERMUTE_RC16:
                        s[i] = (n & 1) * 2 + (i & 1);
                        break;
                default:
                        s[i] = control >> i * 4 & 15;
                        break;
                }
        }
        return pick_byte(pair, s[0]) | pick_byte(pair, s[1]) << 8 | pick_byte(pair, s[2]) << 16 |
               pick_byte(pair, s[3]) << 24;
}

/* fns: the |offset|-th set bit of mask, counted from base up or down, base included. */
static inline uint32_t find_nth(uint32_t mask, uint32_t base, int32_t offset)
{
        int step = offset < 0 ? -1 : 1;
        int64_t wanted = offset < 0 ? -(int64_t)offset : offset;

        if (base > 31)
                return ~0u;
        if (offset == 0)
                return mask >> base & 1 ? base : ~0u;
        for (int at = (int)base; at >= 0 && at < 32; at += step)
                if ((mask >> at & 1) && --wanted == 0)
                        return (uint32_t)at;
        return ~0u;
}

static inline uint32_t bit_mask(uint32_t a, uint32_t b, int clamp)
{
        uint64_t mask;

        if (!clamp) {
                a &= 31;
                b &= 31;
        } else if (a >= 32) {
                return 0;
        }
        mask = b >= 32 ? 0xffffffffull : (1ull << b) - 1;
        return (uint32_t)(mask << a);
}

static inline uint32_t dot4(uint32_t a, uint32_t b, int a_signed, int b_signed)
{
        int32_t sum = 0;

        for (unsigned i = 0; i < 4; i++) {
                uint8_t x = (uint8_t)(a >> i * 8), y = (uint8_t)(b >> i * 8);

                sum += (a_signed ? (int8_t)x : x) * (b_signed ? (int8_t)y : y);
        }
        return (uint32_t)sum;
}

static inline uint32_t dot2(uint32_t a, uint32_t b, int a_signed, int b_signed)
{
        int32_t sum = 0;

        for (unsigned i = 0; i < 2; i++) {
                uint16_t x = (uint16_t)(a >> i * 16);
                uint8_t y = (uint8_t)(b >> i * 8);

                sum += (a_signed ? (int16_t)x : x) * (b_signed ? (int8_t)y : y);
        }
        return (uint32_t)sum;
}

static const int directions[] = {FE_TONEAREST, FE_TOWARDZERO, FE_DOWNWARD, FE_UPWARD};

/* Directed rounding is rare: the processor's mode is switched around each operation; volatile keeps it in between. */
static __attribute__((noinline)) float directed32(uint32_t operation, unsigned mode, float a, float b, float c)
{
        volatile float x = a, y = b, z = c, result = 0;
        int saved = fegetround();

        fesetround(directions[mode & 3]);
        switch (operation) {
        case PTX_DIRECTED_ADD:
                result = x + y;
                break;
        case PTX_DIRECTED_SUB:
                result = x - y;
                break;
        case PTX_DIRECTED_MUL:
                result = x * y;
                break;
        case PTX_DIRECTED_DIV:
                result = x / y;
                break;
        case PTX_DIRECTED_RCP:
                result = 1.0f / x;
                break;
        case PTX_DIRECTED_SQRT:
                result = sqrtf(x);
                break;
        default:
                result = fmaf(x, y, z);
                break;
        }
        fesetround(saved);
        return canonical32(result);
}

static __attribute__((noinline)) double directed64(uint32_t operation, unsigned mode, double a, double b, double c)
{
        volatile double x = a, y = b, z = c, result = 0;
        int saved = fegetround();

        fesetround(directions[mode & 3]);
        switch (operation) {
        case PTX_DIRECTED_ADD:
                result = x + y;
                break;
        case PTX_DIRECTED_SUB:
                result = x - y;
                break;
        case PTX_DIRECTED_MUL:
                result = x * y;
                break;
        case PTX_DIRECTED_DIV:
                result = x / y;
                break;
        case PTX_DIRECTED_RCP:
                result = 1.0 / x;
                break;
        case PTX_DIRECTED_SQRT:
                result = sqrt(x);
                break;
        default:
                result = fma(x, y, z);
                break;
        }
        fesetround(saved);
        return result;
}

static inline float half_add(float a, float b)
{
        return a + b;
}

static inline float half_sub(float a, float b)
{
        return a - b;
}

static inline float half_mul(float a, float b)
{
        return a * b;
}

static inline float half_relu(float a)
{
        return a != a || a > 0 ? a : 0;
}

static inline float half_min_xorsign(float a, float b)
{
        return copysignf(min32(fabsf(a), fabsf(b)), float32(bits32(a) ^ bits32(b)));
}

static inline float half_max_xorsign(float a, float b)
{
        return copysignf(max32(fabsf(a), fabsf(b)), float32(bits32(a) ^ bits32(b)));
}

#define HALF_1(E, WIDEN, NARROW, A) NARROW(E(WIDEN(A)))
#define HALF_2(E, WIDEN, NARROW, A, B) NARROW(E(WIDEN(A), WIDEN(B)))
#define BOTH_1(E, WIDEN, NARROW) \
        (HALF_1(E, WIDEN, NARROW, (uint16_t)a) | (uint32_t)HALF_1(E, WIDEN, NARROW, (uint16_t)(a >> 16)) << 16)
#define BOTH_2(E, WIDEN, NARROW)                              \
        (HALF_2(E, WIDEN, NARROW, (uint16_t)a, (uint16_t)b) | \
         (uint32_t)HALF_2(E, WIDEN, NARROW, (uint16_t)(a >> 16), (uint16_t)(b >> 16)) << 16)

#define HANDLER(NAME) static int op_##NAME(struct ptx_warp *warp, const struct ptx_insn *insn, uint32_t mask)

#define UNARY(N, S, D, A, E)                                                \
        HANDLER(N##_##S)                                                    \
        {                                                                   \
                lane_##D *dp = ptx_at(warp, insn->d);                       \
                const lane_##A *ap = ptx_at(warp, insn->a);                 \
                PTX_LANES_DO(mask, const lane_##A a = ap[i]; dp[i] = (E);); \
                return 0;                                                   \
        }
#define BINARY(N, S, D, A, B, E)                                                                      \
        HANDLER(N##_##S)                                                                              \
        {                                                                                             \
                lane_##D *dp = ptx_at(warp, insn->d);                                                 \
                const lane_##A *ap = ptx_at(warp, insn->a);                                           \
                const lane_##B *bp = ptx_at(warp, insn->b);                                           \
                PTX_LANES_DO(mask, const lane_##A a = ap[i]; const lane_##B b = bp[i]; dp[i] = (E);); \
                return 0;                                                                             \
        }
#define TERNARY(N, S, D, A, B, C, E)                                                                             \
        HANDLER(N##_##S)                                                                                         \
        {                                                                                                        \
                lane_##D *dp = ptx_at(warp, insn->d);                                                            \
                const lane_##A *ap = ptx_at(warp, insn->a);                                                      \
                const lane_##B *bp = ptx_at(warp, insn->b);                                                      \
                const lane_##C *cp = ptx_at(warp, insn->c);                                                      \
                PTX_LANES_DO(mask, const lane_##A a = ap[i]; const lane_##B b = bp[i]; const lane_##C c = cp[i]; \
                             dp[i] = (E););                                                                      \
                return 0;                                                                                        \
        }
#define QUATERNARY(N, S, D, A, B, C, F, E)                                                                       \
        HANDLER(N##_##S)                                                                                         \
        {                                                                                                        \
                lane_##D *dp = ptx_at(warp, insn->d);                                                            \
                const lane_##A *ap = ptx_at(warp, insn->a);                                                      \
                const lane_##B *bp = ptx_at(warp, insn->b);                                                      \
                const lane_##C *cp = ptx_at(warp, insn->c);                                                      \
                const lane_##F *ep = ptx_at(warp, insn->e);                                                      \
                PTX_LANES_DO(mask, const lane_##A a = ap[i]; const lane_##B b = bp[i]; const lane_##C c = cp[i]; \
                             const lane_##F e = ep[i]; dp[i] = (E););                                            \
                return 0;                                                                                        \
        }
#define FLUSHED_1(N, E)                                                                               \
        HANDLER(N##_ftz_f32)                                                                          \
        {                                                                                             \
                lane_f32 *dp = ptx_at(warp, insn->d);                                                 \
                const lane_f32 *ap = ptx_at(warp, insn->a);                                           \
                PTX_LANES_DO(mask, const float a = flush32(ap[i]); dp[i] = flush32(canonical32(E));); \
                return 0;                                                                             \
        }
#define FLUSHED_2(N, E)                                                                            \
        HANDLER(N##_ftz_f32)                                                                       \
        {                                                                                          \
                lane_f32 *dp = ptx_at(warp, insn->d);                                              \
                const lane_f32 *ap = ptx_at(warp, insn->a);                                        \
                const lane_f32 *bp = ptx_at(warp, insn->b);                                        \
                PTX_LANES_DO(mask, const float a = flush32(ap[i]); const float b = flush32(bp[i]); \
                             dp[i] = flush32(canonical32(E)););                                    \
                return 0;                                                                          \
        }
#define FLUSHED_3(N, E)                                                                            \
        HANDLER(N##_ftz_f32)                                                                       \
        {                                                                                          \
                lane_f32 *dp = ptx_at(warp, insn->d);                                              \
                const lane_f32 *ap = ptx_at(warp, insn->a);                                        \
                const lane_f32 *bp = ptx_at(warp, insn->b);                                        \
                const lane_f32 *cp = ptx_at(warp, insn->c);                                        \
                PTX_LANES_DO(mask, const float a = flush32(ap[i]); const float b = flush32(bp[i]); \
                             const float c = flush32(cp[i]); dp[i] = flush32(canonical32(E)););    \
                return 0;                                                                          \
        }
/* d = a where the predicate c is set, else b. */
#define SELECT(W, T)                                                                   \
        HANDLER(selp_##W)                                                              \
        {                                                                              \
                lane_##T *dp = ptx_at(warp, insn->d);                                  \
                const lane_##T *ap = ptx_at(warp, insn->a);                            \
                const lane_##T *bp = ptx_at(warp, insn->b);                            \
                const uint32_t chosen = *(const lane_u32 *)ptx_at(warp, insn->c);      \
                PTX_LANES_DO(mask, const lane_##T a = ap[i]; const lane_##T b = bp[i]; \
                             dp[i] = chosen >> i & 1 ? a : b;);                        \
                return 0;                                                              \
        }
/* Lanes where it holds, as bits; the OR-reduction of one-bit words vectorises. */
#define COMPARE(N, S, T, E)                                                                     \
        HANDLER(setp_##N##_##S)                                                                 \
        {                                                                                       \
                const lane_##T *ap = ptx_at(warp, insn->a);                                     \
                const lane_##T *bp = ptx_at(warp, insn->b);                                     \
                uint32_t holds = 0;                                                             \
                PTX_LANES_DO(mask, const lane_##T a = ap[i]; const lane_##T b = bp[i]; (void)b; \
                             holds |= (uint32_t)((E) ? 1u : 0u) << i;);                         \
                set_predicates(warp, insn, mask, holds);                                        \
                return 0;                                                                       \
        }

static inline uint32_t combine(unsigned mode, uint32_t holds, uint32_t other)
{
        switch (mode) {
        case PTX_COMBINE_AND:
                return holds & other;
        case PTX_COMBINE_OR:
                return holds | other;
        case PTX_COMBINE_XOR:
                return holds ^ other;
        default:
                return holds;
        }
}

static inline void set_lanes(struct ptx_warp *warp, ptx_ref ref, uint32_t mask, uint32_t value)
{
        lane_u32 *word = ptx_at(warp, ref);

        *word = (*word & ~mask) | (value & mask);
}

/* p = holds op c, q = !holds op c. */
static inline void set_predicates(struct ptx_warp *warp, const struct ptx_insn *insn, uint32_t mask, uint32_t holds)
{
        uint32_t other = insn->mode == PTX_COMBINE_NONE ? 0 : *(const lane_u32 *)ptx_at(warp, insn->c);

        set_lanes(warp, insn->d, mask, combine(insn->mode, holds, other));
        if (insn->e != PTX_REF_NONE)
                set_lanes(warp, insn->e, mask, combine(insn->mode, ~holds, other));
}

#include "ptx_arith_ops.def"

/* Predicates are words of lane bits: their logic is one word operation. */
#define PREDICATE(N, E)                                                                                    \
        HANDLER(N##_pred)                                                                                  \
        {                                                                                                  \
                const uint32_t a = *(const lane_u32 *)ptx_at(warp, insn->a);                               \
                const uint32_t b = insn->b == PTX_REF_NONE ? 0 : *(const lane_u32 *)ptx_at(warp, insn->b); \
                (void)b;                                                                                   \
                set_lanes(warp, insn->d, mask, (E));                                                       \
                return 0;                                                                                  \
        }
PREDICATE(and, a &b)
PREDICATE(or, a | b)
PREDICATE(xor, a ^ b)
PREDICATE(not, ~a)
PREDICATE(mov, a)

/* Extended precision: the carry (or borrow) of each lane travels in the warp's carry word. aux tells whether it comes
 * in (PTX_CARRY_IN) and whether it goes out (PTX_CARRY_OUT). For mad, the product is ready in a and b is zero. */
#define CARRY(N, W, T, WIDE, E)                                                 \
        HANDLER(N##_carry_##W)                                                  \
        {                                                                       \
                lane_##T *dp = ptx_at(warp, insn->d);                           \
                const lane_##T *ap = ptx_at(warp, insn->a);                     \
                const lane_##T *bp = ptx_at(warp, insn->b);                     \
                const uint32_t in = insn->aux & PTX_CARRY_IN ? warp->carry : 0; \
                uint32_t out = 0;                                               \
                for (uint32_t rest = mask; rest; rest &= rest - 1) {            \
                        unsigned i = (unsigned)__builtin_ctz(rest);             \
                        const WIDE sum = (E);                                   \
                        out |= (uint32_t)(sum >> W & 1) << i;                   \
                        dp[i] = (lane_##T)sum;                                  \
                }                                                               \
                if (insn->aux & PTX_CARRY_OUT)                                  \
                        warp->carry = (warp->carry & ~mask) | out;              \
                return 0;                                                       \
        }
CARRY(add, 32, u32, uint64_t, (uint64_t)ap[i] + bp[i] + (in >> i & 1))
CARRY(sub, 32, u32, uint64_t, (uint64_t)ap[i] - bp[i] - (in >> i & 1))
CARRY(add, 64, u64, unsigned __int128, (unsigned __int128)ap[i] + bp[i] + (in >> i & 1))
CARRY(sub, 64, u64, unsigned __int128, (unsigned __int128)ap[i] - bp[i] - (in >> i & 1))

#undef UNARY
#undef BINARY
#undef TERNARY
#undef QUATERNARY
#undef FLUSHED_1
#undef FLUSHED_2
#undef FLUSHED_3
#undef SELECT
#undef COMPARE
#define ENTRY(KEY) {#KEY, op_##KEY},
#define UNARY(N, S, D, A, E) ENTRY(N##_##S)
#define BINARY(N, S, D, A, B, E) ENTRY(N##_##S)
#define TERNARY(N, S, D, A, B, C, E) ENTRY(N##_##S)
#define QUATERNARY(N, S, D, A, B, C, F, E) ENTRY(N##_##S)
#define FLUSHED_1(N, E) ENTRY(N##_ftz_f32)
#define FLUSHED_2(N, E) ENTRY(N##_ftz_f32)
#define FLUSHED_3(N, E) ENTRY(N##_ftz_f32)
#define SELECT(W, T) ENTRY(selp_##W)
#define COMPARE(N, S, T, E) ENTRY(setp_##N##_##S)

const struct ptx_arith_entry PTX_ARITH_TABLE[] = {
#include "ptx_arith_ops.def"
        ENTRY(and_pred) ENTRY(or_pred) ENTRY(xor_pred) ENTRY(not_pred) ENTRY(mov_pred) ENTRY(add_carry_32)
                ENTRY(sub_carry_32) ENTRY(add_carry_64) ENTRY(sub_carry_64){NULL, NULL},
};
