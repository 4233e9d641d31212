/* Each kernel of ptx/integer.cu is one instruction or a short chain; here is the same in plain C, bit by bit where the
 * instruction is about bits, so that the two share no tricks. */
#include "softgpu_ptx.h"

#define COUNT 4096u

typedef uint32_t u32;
typedef uint64_t u64;
typedef int32_t s32;
typedef int64_t s64;
typedef __int128 s128;

static unsigned bit(u64 x, unsigned i)
{
        return i < 64 ? (unsigned)(x >> i & 1) : 0;
}

static s64 clamp(s128 x, s64 low, s64 high)
{
        return x < low ? low : x > high ? high : (s64)x;
}

static u32 add_u32(u32 a, u32 b, u32 c)
{
        (void)c;
        return a + b;
}
static u32 sub_u32(u32 a, u32 b, u32 c)
{
        (void)c;
        return a - b;
}
static u32 add_sat_s32(u32 a, u32 b, u32 c)
{
        (void)c;
        return (u32)clamp((s128)(s32)a + (s32)b, INT32_MIN, INT32_MAX);
}
static u32 sub_sat_s32(u32 a, u32 b, u32 c)
{
        (void)c;
        return (u32)clamp((s128)(s32)a - (s32)b, INT32_MIN, INT32_MAX);
}
static u32 mul_lo_s32(u32 a, u32 b, u32 c)
{
        (void)c;
        return a * b;
}
static u32 mul_hi_s32(u32 a, u32 b, u32 c)
{
        (void)c;
        return (u32)(((s64)(s32)a * (s32)b) >> 32);
}
static u32 mul_hi_u32(u32 a, u32 b, u32 c)
{
        (void)c;
        return (u32)(((u64)a * b) >> 32);
}
static u32 mad_lo_s32(u32 a, u32 b, u32 c)
{
        return a * b + c;
}
static u32 mad_hi_u32(u32 a, u32 b, u32 c)
{
        return mul_hi_u32(a, b, 0) + c;
}
static u32 mad_hi_sat_s32(u32 a, u32 b, u32 c)
{
        return (u32)clamp((s128)(s32)mul_hi_s32(a, b, 0) + (s32)c, INT32_MIN, INT32_MAX);
}
static s64 low24(u32 a)
{
        return (s64)(a & 0x7fffff) - (s64)(a & 0x800000);
}
static u32 mul24_lo_s32(u32 a, u32 b, u32 c)
{
        (void)c;
        return (u32)(low24(a) * low24(b));
}
static u32 mul24_hi_u32(u32 a, u32 b, u32 c)
{
        (void)c;
        return (u32)(((u64)(a & 0xffffff) * (b & 0xffffff)) >> 16);
}
static u32 mad24_lo_u32(u32 a, u32 b, u32 c)
{
        return (u32)((u64)(a & 0xffffff) * (b & 0xffffff)) + c;
}
static u32 sad_s32(u32 a, u32 b, u32 c)
{
        s64 x = (s64)(s32)a - (s32)b;
        return c + (u32)(x < 0 ? -x : x);
}
static u32 sad_u32(u32 a, u32 b, u32 c)
{
        s64 x = (s64)a - b;
        return c + (u32)(x < 0 ? -x : x);
}
static u32 div_s32(u32 a, u32 b, u32 c)
{
        (void)c;
        return b ? (u32)((s64)(s32)a / (s32)b) : ~0u;
}
static u32 div_u32(u32 a, u32 b, u32 c)
{
        (void)c;
        return b ? a / b : ~0u;
}
static u32 rem_s32(u32 a, u32 b, u32 c)
{
        (void)c;
        return b ? (u32)((s64)(s32)a % (s32)b) : a;
}
static u32 rem_u32(u32 a, u32 b, u32 c)
{
        (void)c;
        return b ? a % b : a;
}
static u32 min_s32(u32 a, u32 b, u32 c)
{
        (void)c;
        return (s32)a < (s32)b ? a : b;
}
static u32 max_u32(u32 a, u32 b, u32 c)
{
        (void)c;
        return a > b ? a : b;
}
static u32 abs_s32(u32 a, u32 b, u32 c)
{
        (void)b;
        (void)c;
        return (s32)a < 0 ? 0u - a : a;
}
static u32 neg_s32(u32 a, u32 b, u32 c)
{
        (void)b;
        (void)c;
        return 0u - a;
}
static u32 and_b32(u32 a, u32 b, u32 c)
{
        (void)c;
        return a & b;
}
static u32 or_b32(u32 a, u32 b, u32 c)
{
        (void)c;
        return a | b;
}
static u32 xor_b32(u32 a, u32 b, u32 c)
{
        (void)c;
        return a ^ b;
}
static u32 not_b32(u32 a, u32 b, u32 c)
{
        (void)b;
        (void)c;
        return ~a;
}
static u32 cnot_b32(u32 a, u32 b, u32 c)
{
        (void)b;
        (void)c;
        return a == 0;
}
static u32 shl_b32(u32 a, u32 b, u32 c)
{
        (void)c;
        return b > 31 ? 0 : a << b;
}
static u32 shr_u32(u32 a, u32 b, u32 c)
{
        (void)c;
        return b > 31 ? 0 : a >> b;
}
static u32 shr_s32(u32 a, u32 b, u32 c)
{
        (void)c;
        return (u32)((s32)a >> (b > 31 ? 31 : b));
}
static u32 funnel_left(u32 a, u32 b, unsigned n)
{
        return n == 0 ? b : n >= 32 ? a : b << n | a >> (32 - n);
}
static u32 funnel_right(u32 a, u32 b, unsigned n)
{
        return n == 0 ? a : n >= 32 ? b : b << (32 - n) | a >> n;
}
static u32 shf_l_wrap(u32 a, u32 b, u32 c)
{
        return funnel_left(a, b, c & 31);
}
static u32 shf_l_clamp(u32 a, u32 b, u32 c)
{
        return funnel_left(a, b, c > 32 ? 32 : c);
}
static u32 shf_r_wrap(u32 a, u32 b, u32 c)
{
        return funnel_right(a, b, c & 31);
}
static u32 shf_r_clamp(u32 a, u32 b, u32 c)
{
        return funnel_right(a, b, c > 32 ? 32 : c);
}
static u32 table3(u32 a, u32 b, u32 c, unsigned table)
{
        u32 r = 0;

        for (unsigned i = 0; i < 32; i++)
                r |= (u32)bit(table, bit(a, i) * 4 + bit(b, i) * 2 + bit(c, i)) << i;
        return r;
}
static u32 lop3_1e(u32 a, u32 b, u32 c)
{
        return table3(a, b, c, 0x1e);
}
static u32 lop3_e8(u32 a, u32 b, u32 c)
{
        return table3(a, b, c, 0xe8);
}
static u32 byte_of(u32 a, u32 b, unsigned i)
{
        return (i < 4 ? a >> 8 * i : b >> 8 * (i - 4)) & 0xff;
}
static u32 bytes4(u32 a, u32 b, unsigned i0, unsigned i1, unsigned i2, unsigned i3)
{
        return byte_of(a, b, i0) | byte_of(a, b, i1) << 8 | byte_of(a, b, i2) << 16 | byte_of(a, b, i3) << 24;
}
static u32 prmt_index(u32 a, u32 b, u32 c)
{
        u32 r = 0;

        for (unsigned i = 0; i < 4; i++) {
                u32 x = byte_of(a, b, c >> 4 * i & 7);

                if (c >> 4 * i & 8)
                        x = x & 0x80 ? 0xff : 0;
                r |= x << 8 * i;
        }
        return r;
}
/* The tables of the ISA's description, row by row. */
static u32 by_table(u32 a, u32 b, u32 c, const char *const rows[4])
{
        const char *row = rows[c & 3]; /* written b3 b2 b1 b0 */

        return bytes4(a, b, (unsigned)(row[3] - '0'), (unsigned)(row[2] - '0'), (unsigned)(row[1] - '0'),
                      (unsigned)(row[0] - '0'));
}
static u32 prmt_f4e(u32 a, u32 b, u32 c)
{
        static const char *const rows[4] = {"3210", "4321", "5432", "6543"};
        return by_table(a, b, c, rows);
}
static u32 prmt_b4e(u32 a, u32 b, u32 c)
{
        static const char *const rows[4] = {"5670", "6701", "7012", "0123"};
        return by_table(a, b, c, rows);
}
static u32 prmt_rc8(u32 a, u32 b, u32 c)
{
        static const char *const rows[4] = {"0000", "1111", "2222", "3333"};
        return by_table(a, b, c, rows);
}
static u32 prmt_ecl(u32 a, u32 b, u32 c)
{
        static const char *const rows[4] = {"3210", "3211", "3222", "3333"};
        return by_table(a, b, c, rows);
}
static u32 prmt_ecr(u32 a, u32 b, u32 c)
{
        static const char *const rows[4] = {"0000", "1110", "2210", "3210"};
        return by_table(a, b, c, rows);
}
static u32 prmt_rc16(u32 a, u32 b, u32 c)
{
        static const char *const rows[4] = {"1010", "3232", "1010", "3232"};
        return by_table(a, b, c, rows);
}
static u64 count_bits(u64 a)
{
        u64 n = 0;

        for (unsigned i = 0; i < 64; i++)
                n += bit(a, i);
        return n;
}
static u32 popc_b32(u32 a, u32 b, u32 c)
{
        (void)b;
        (void)c;
        return (u32)count_bits(a);
}
static u64 leading_zeros(u64 a, int width)
{
        int i = width - 1;

        while (i >= 0 && !bit(a, (unsigned)i))
                i--;
        return (u64)(width - 1 - i);
}
static u32 clz_b32(u32 a, u32 b, u32 c)
{
        (void)b;
        (void)c;
        return (u32)leading_zeros(a, 32);
}
static u64 reversed(u64 a, unsigned width)
{
        u64 r = 0;

        for (unsigned i = 0; i < width; i++)
                r |= (u64)bit(a, i) << (width - 1 - i);
        return r;
}
static u32 brev_b32(u32 a, u32 b, u32 c)
{
        (void)b;
        (void)c;
        return (u32)reversed(a, 32);
}
static u32 bfind_u32(u32 a, u32 b, u32 c)
{
        (void)b;
        (void)c;
        return (u32)(31 - (s64)leading_zeros(a, 32));
}
static u32 bfind_s32(u32 a, u32 b, u32 c)
{
        return bfind_u32((s32)a < 0 ? ~a : a, b, c);
}
static u32 bfind_shiftamt_s32(u32 a, u32 b, u32 c)
{
        u32 at = bfind_s32(a, b, c);

        return at == ~0u ? at : 31 - at;
}
/* As the ISA's pseudo code has it, bit by bit. */
static u64 field(u64 a, u32 b, u32 c, unsigned width, bool is_signed)
{
        unsigned position = b & 0xff, length = c & 0xff, msb = width - 1, sign;
        u64 d = 0;

        if (!is_signed || length == 0)
                sign = 0;
        else
                sign = bit(a, position + length - 1 < msb ? position + length - 1 : msb);
        for (unsigned i = 0; i <= msb; i++)
                d |= (u64)(i < length && position + i <= msb ? bit(a, position + i) : sign) << i;
        return d;
}
static u64 inserted(u64 a, u64 b, u32 c, u32 d, unsigned width)
{
        unsigned position = c & 0xff, length = d & 0xff;

        for (unsigned i = 0; i < length && position + i < width; i++)
                b = (b & ~(1ull << (position + i))) | (u64)bit(a, i) << (position + i);
        return b;
}
static u32 bfe_u32(u32 a, u32 b, u32 c)
{
        return (u32)field(a, b, c, 32, false);
}
static u32 bfe_s32(u32 a, u32 b, u32 c)
{
        return (u32)field(a, b, c, 32, true);
}
static u32 bfi_b32(u32 a, u32 b, u32 c)
{
        return (u32)inserted(a, b, c, 7, 32);
}
static u32 bfi_len(u32 a, u32 b, u32 c)
{
        return (u32)inserted(a, b, 5, c, 32);
}
static u32 fns_b32(u32 mask, u32 base, u32 c)
{
        s32 offset = (s32)c;

        if (base > 31)
                return ~0u;
        if (offset == 0)
                return bit(mask, base) ? base : ~0u;
        for (s32 i = (s32)base; i >= 0 && i<32; i += offset> 0 ? 1 : -1) {
                if (!bit(mask, (unsigned)i))
                        continue;
                offset += offset > 0 ? -1 : 1;
                if (offset == 0)
                        return (u32)i;
        }
        return ~0u;
}
static u32 bit_range(u32 a, u32 b)
{
        u32 r = 0;

        for (u64 i = a; i < (u64)a + b && i < 32; i++)
                r |= 1u << i;
        return r;
}
static u32 bmsk_clamp(u32 a, u32 b, u32 c)
{
        (void)c;
        return bit_range(a, b);
}
static u32 bmsk_wrap(u32 a, u32 b, u32 c)
{
        (void)c;
        return bit_range(a & 31, b & 31);
}
static u32 szext_clamp_s32(u32 a, u32 b, u32 c)
{
        (void)c;
        return b >= 32 ? a : (u32)field(a, 0, b, 32, true);
}
static u32 szext_wrap_u32(u32 a, u32 b, u32 c)
{
        (void)c;
        return (u32)field(a, 0, b & 31, 32, false);
}
static s32 signed_byte(u32 a, unsigned i)
{
        return (s32)(int8_t)(a >> 8 * i);
}
static s32 plain_byte(u32 a, unsigned i)
{
        return (s32)(uint8_t)(a >> 8 * i);
}
static u32 dp4a_s32_s32(u32 a, u32 b, u32 c)
{
        for (unsigned i = 0; i < 4; i++)
                c += (u32)(signed_byte(a, i) * signed_byte(b, i));
        return c;
}
static u32 dp4a_u32_s32(u32 a, u32 b, u32 c)
{
        for (unsigned i = 0; i < 4; i++)
                c += (u32)(plain_byte(a, i) * signed_byte(b, i));
        return c;
}
static u32 dp2a_lo_s32_u32(u32 a, u32 b, u32 c)
{
        return c + (u32)((s32)(int16_t)a * plain_byte(b, 0)) + (u32)((s32)(int16_t)(a >> 16) * plain_byte(b, 1));
}
static u32 dp2a_hi_u32_u32(u32 a, u32 b, u32 c)
{
        return c + (a & 0xffff) * (u32)plain_byte(b, 2) + (a >> 16) * (u32)plain_byte(b, 3);
}
static u32 carry_chain(u32 a, u32 b, u32 c)
{
        return (u32)((u64)a + b) + c + (u32)(((u64)a + b) >> 32);
}
static u32 borrow_chain(u32 a, u32 b, u32 c)
{
        return a - b - c - (a < b);
}
static u32 mad_chain(u32 a, u32 b, u32 c)
{
        u64 low = (u64)(a * b) + c;

        return mul_hi_u32(a, b, 0) + (u32)low + (u32)(low >> 32);
}
static u32 slct_s32(u32 a, u32 b, u32 c)
{
        return (s32)c >= 0 ? a : b;
}
static u32 selp_lo(u32 a, u32 b, u32 c)
{
        return a < b ? c : a;
}
static u32 set_le(u32 a, u32 b, u32 c)
{
        (void)c;
        return (s32)a <= (s32)b ? ~0u : 0;
}
static u32 set_and(u32 a, u32 b, u32 c)
{
        return a < b && (s32)c > 0 ? ~0u : 0;
}
static u32 setp_both(u32 a, u32 b, u32 c)
{
        (void)c;
        return (s32)a >= (s32)b ? 1 : 18;
}
static u32 setp_xor_not(u32 a, u32 b, u32 c)
{
        return (a != b) != !(c == 7) ? 11 : 22;
}
static u32 half_words(u32 a, u32 b, u32 c)
{
        u32 l = a & 0xffff, h = a >> 16;

        (void)b;
        (void)c;
        l = (l + h) & 0xffff;
        h = l * h & 0xffff;
        return h | l << 16;
}
static u32 bytes(u32 a, u32 b, u32 c)
{
        s32 h = (int8_t)(a >> 16);

        (void)b;
        (void)c;
        return (u32)(h * h) + (a & 0xffff);
}
static u32 guarded(u32 a, u32 b, u32 c)
{
        return (s32)a < (s32)b ? (c + 1) ^ 3 : 5 ^ 3;
}

static u64 add_u64(u64 a, u64 b, u64 c)
{
        (void)c;
        return a + b;
}
static u64 sub_s64(u64 a, u64 b, u64 c)
{
        (void)c;
        return a - b;
}
static u64 mul_lo_u64(u64 a, u64 b, u64 c)
{
        (void)c;
        return a * b;
}
static u64 mul_hi_u64(u64 a, u64 b, u64 c)
{
        (void)c;
        return (u64)(((unsigned __int128)a * b) >> 64);
}
static u64 mul_hi_s64(u64 a, u64 b, u64 c)
{
        (void)c;
        return (u64)(((s128)(s64)a * (s64)b) >> 64);
}
static u64 mad_lo_s64(u64 a, u64 b, u64 c)
{
        return a * b + c;
}
static u64 div_s64(u64 a, u64 b, u64 c)
{
        (void)c;
        return b ? (u64)((s128)(s64)a / (s64)b) : ~0ull;
}
static u64 rem_u64(u64 a, u64 b, u64 c)
{
        (void)c;
        return b ? a % b : a;
}
static u64 min_s64(u64 a, u64 b, u64 c)
{
        (void)c;
        return (s64)a < (s64)b ? a : b;
}
static u64 max_u64(u64 a, u64 b, u64 c)
{
        (void)c;
        return a > b ? a : b;
}
static u64 abs_s64(u64 a, u64 b, u64 c)
{
        (void)b;
        (void)c;
        return (s64)a < 0 ? 0 - a : a;
}
static u64 shl_b64(u64 a, u64 b, u64 c)
{
        (void)c;
        return (u32)b > 63 ? 0 : a << (u32)b;
}
static u64 shr_s64(u64 a, u64 b, u64 c)
{
        (void)c;
        return (u64)((s64)a >> ((u32)b > 63 ? 63 : (u32)b));
}
static u64 shr_u64(u64 a, u64 b, u64 c)
{
        (void)c;
        return (u32)b > 63 ? 0 : a >> (u32)b;
}
static u64 popc_b64(u64 a, u64 b, u64 c)
{
        (void)b;
        (void)c;
        return count_bits(a);
}
static u64 clz_b64(u64 a, u64 b, u64 c)
{
        (void)b;
        (void)c;
        return leading_zeros(a, 64);
}
static u64 brev_b64(u64 a, u64 b, u64 c)
{
        (void)b;
        (void)c;
        return reversed(a, 64);
}
static u64 bfind_s64(u64 a, u64 b, u64 c)
{
        (void)b;
        (void)c;
        return (u32)(63 - (s64)leading_zeros((s64)a < 0 ? ~a : a, 64));
}
static u64 bfe_s64(u64 a, u64 b, u64 c)
{
        return field(a, (u32)b, (u32)c, 64, true);
}
static u64 bfe_u64(u64 a, u64 b, u64 c)
{
        return field(a, (u32)b, (u32)c, 64, false);
}
static u64 bfi_b64(u64 a, u64 b, u64 c)
{
        return inserted(a, b, (u32)c, 9, 64);
}
static u64 mul_wide_s32(u64 a, u64 b, u64 c)
{
        (void)c;
        return (u64)((s64)(s32)a * (s32)b);
}
static u64 mul_wide_u32(u64 a, u64 b, u64 c)
{
        (void)c;
        return (u64)(u32)a * (u32)b;
}
static u64 mad_wide_u32(u64 a, u64 b, u64 c)
{
        return (u64)(u32)a * (u32)b + c;
}
static u64 sext_s8(u64 a, u64 b, u64 c)
{
        (void)b;
        (void)c;
        return (u64)(s64)(int8_t)a;
}
static u64 zext_u8(u64 a, u64 b, u64 c)
{
        (void)b;
        (void)c;
        return (uint8_t)a;
}
static u64 sext_s16(u64 a, u64 b, u64 c)
{
        (void)b;
        (void)c;
        return (u64)(s64)(int16_t)a;
}
static u64 sext_s32(u64 a, u64 b, u64 c)
{
        (void)b;
        (void)c;
        return (u64)(s64)(s32)a;
}
static u64 sat_s8_s64(u64 a, u64 b, u64 c)
{
        (void)b;
        (void)c;
        return (u64)clamp((s64)a, -128, 127);
}
static u64 sat_u16_s64(u64 a, u64 b, u64 c)
{
        (void)b;
        (void)c;
        return (u64)clamp((s64)a, 0, 65535);
}
static u64 sat_s32_u64(u64 a, u64 b, u64 c)
{
        (void)b;
        (void)c;
        return (u64)clamp((s128)a, INT32_MIN, INT32_MAX);
}
static u64 sat_u64_s32(u64 a, u64 b, u64 c)
{
        (void)b;
        (void)c;
        return (s32)a < 0 ? 0 : (u64)(s32)a;
}
static u64 s16_ops(u64 a, u64 b, u64 c)
{
        int h = (int16_t)a, g = (int16_t)b, k = h < g ? h : g;

        (void)c;
        h = (int16_t)((h * g) >> 16);
        h = (int16_t)(h - k);
        h >>= 3;
        g /= 7;
        return (u64)(s64)(int16_t)(h ^ g);
}
static u64 u16_ops(u64 a, u64 b, u64 c)
{
        u32 h = (uint16_t)a, g = (uint16_t)b, k = h > g ? h : g;

        (void)c;
        h = h * g >> 16;
        h = (uint16_t)(h + k);
        h >>= 2;
        g %= 11;
        return (h | g) * g;
}
static u64 pack_quarters(u64 a, u64 b, u64 c)
{
        u64 h = a & 0xffff, g = a >> 16 & 0xffff, k = a >> 32 & 0xffff;

        (void)b;
        (void)c;
        return k | h << 16 | g << 32 | h << 48;
}
static u64 pack_halves(u64 a, u64 b, u64 c)
{
        (void)b;
        (void)c;
        return a >> 32 | a << 32;
}
static u64 wide_carry(u64 a, u64 b, u64 c)
{
        return a + b + c + (a + b < a);
}
static u64 wide_borrow(u64 a, u64 b, u64 c)
{
        return c - (a - b) - (a < b);
}
static u64 cmp_u64(u64 a, u64 b, u64 c)
{
        return a > b ? c : b;
}
static u64 pred_logic(u64 a, u64 b, u64 c)
{
        bool p = (s64)a<(s64)b, q = b> c;

        p = p != q;
        q = !q;
        p = p || q;
        return p ? 1 & a : 0;
}

#define K(NAME)             \
        {                   \
#NAME, NAME \
        }
static const struct {
        const char *name;
        u32 (*expected)(u32, u32, u32);
} kernels32[] = {
        K(add_u32),      K(sub_u32),         K(add_sat_s32),     K(sub_sat_s32),    K(mul_lo_s32),
        K(mul_hi_s32),   K(mul_hi_u32),      K(mad_lo_s32),      K(mad_hi_u32),     K(mad_hi_sat_s32),
        K(mul24_lo_s32), K(mul24_hi_u32),    K(mad24_lo_u32),    K(sad_s32),        K(sad_u32),
        K(div_s32),      K(div_u32),         K(rem_s32),         K(rem_u32),        K(min_s32),
        K(max_u32),      K(abs_s32),         K(neg_s32),         K(and_b32),        K(or_b32),
        K(xor_b32),      K(not_b32),         K(cnot_b32),        K(shl_b32),        K(shr_u32),
        K(shr_s32),      K(shf_l_wrap),      K(shf_l_clamp),     K(shf_r_wrap),     K(shf_r_clamp),
        K(lop3_1e),      K(lop3_e8),         K(prmt_index),      K(prmt_f4e),       K(prmt_b4e),
        K(prmt_rc8),     K(prmt_ecl),        K(prmt_ecr),        K(prmt_rc16),      K(popc_b32),
        K(clz_b32),      K(brev_b32),        K(bfind_u32),       K(bfind_s32),      K(bfind_shiftamt_s32),
        K(bfe_u32),      K(bfe_s32),         K(bfi_b32),         K(bfi_len),        K(fns_b32),
        K(bmsk_clamp),   K(bmsk_wrap),       K(szext_clamp_s32), K(szext_wrap_u32), K(dp4a_s32_s32),
        K(dp4a_u32_s32), K(dp2a_lo_s32_u32), K(dp2a_hi_u32_u32), K(carry_chain),    K(borrow_chain),
        K(mad_chain),    K(slct_s32),        K(selp_lo),         K(set_le),         K(set_and),
        K(setp_both),    K(setp_xor_not),    K(half_words),      K(bytes),          K(guarded),
};
static const struct {
        const char *name;
        u64 (*expected)(u64, u64, u64);
} kernels64[] = {
        K(add_u64),     K(sub_s64),     K(mul_lo_u64), K(mul_hi_u64),   K(mul_hi_s64),    K(mad_lo_s64),
        K(div_s64),     K(rem_u64),     K(min_s64),    K(max_u64),      K(abs_s64),       K(shl_b64),
        K(shr_s64),     K(shr_u64),     K(popc_b64),   K(clz_b64),      K(brev_b64),      K(bfind_s64),
        K(bfe_s64),     K(bfe_u64),     K(bfi_b64),    K(mul_wide_s32), K(mul_wide_u32),  K(mad_wide_u32),
        K(sext_s8),     K(zext_u8),     K(sext_s16),   K(sext_s32),     K(sat_s8_s64),    K(sat_u16_s64),
        K(sat_s32_u64), K(sat_u64_s32), K(s16_ops),    K(u16_ops),      K(pack_quarters), K(pack_halves),
        K(wide_carry),  K(wide_borrow), K(cmp_u64),    K(pred_logic),
};

/* Corner values against each other first, then random ones, many of them small. */
static u64 operand(u64 *state, unsigned i, unsigned which)
{
        static const u64 corners[] = {0,
                                      1,
                                      2,
                                      5,
                                      7,
                                      31,
                                      32,
                                      33,
                                      63,
                                      64,
                                      100,
                                      255,
                                      256,
                                      0x7fff,
                                      0x8000,
                                      0xffff,
                                      0x10000,
                                      0x7fffff,
                                      0x800000,
                                      0x7fffffff,
                                      0x80000000,
                                      0xfffffffe,
                                      0xffffffff,
                                      0x7fffffffffffffff,
                                      0x8000000000000000,
                                      0xffffffffffffffff};
        const unsigned n = sizeof(corners) / sizeof(corners[0]);
        u64 r = next_random(state);

        if (i < n * n)
                return which == 0 ? corners[i % n] : which == 1 ? corners[i / n % n] : corners[r % n];
        switch (r & 3) {
        case 0:
                return corners[(r >> 8) % n];
        case 1:
                return r >> 58;
        default:
                return next_random(state);
        }
}

INSTRUCTIONS_TEST(every_32_bit_instruction, u32, "integer.ptx", 1, kernels32, (u32)operand(&state, i, k), SAME_BITS)

INSTRUCTIONS_TEST(every_64_bit_instruction, u64, "integer.ptx", 2, kernels64, operand(&state, i, k), SAME_BITS)

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(every_32_bit_instruction),
                cmocka_unit_test(every_64_bit_instruction),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
