/* cvt. The common pairs are handlers of ptx_arith.c; here are the decoder and one careful conversion for all others. */
#include <fenv.h>
#include <stdio.h>

#include "ptx_build.h"
#include "ptx_machine.h"

#define NONE PTX_REF_NONE

enum integer_rounding { INTEGER_NONE, INTEGER_NEAREST, INTEGER_ZERO, INTEGER_DOWN, INTEGER_UP };

struct conversion {
        enum ptx_type to, from;
        unsigned to_bytes, from_bytes; /* of the registers */
        enum ptx_rounding rounding;
        enum integer_rounding integer;
        bool sat, ftz, relu;
};

/* Between the two halves of a conversion a value is an integer or a double; both hold every source exactly. */
struct number {
        bool is_float;
        __int128 integer;
        double real;
};

static struct number read_number(const struct conversion *c, uint64_t bits)
{
        struct number n = {.is_float = ptx_types[c->from].kind == 'f'};
        unsigned shift = 64 - ptx_types[c->from].bytes * 8u;
        float narrow;

        switch (c->from) {
        case PTX_F16:
                n.real = (double)half_to_float((uint16_t)bits);
                break;
        case PTX_BF16:
                n.real = (double)bfloat_to_float((uint16_t)bits);
                break;
        case PTX_F32:
                narrow = float32((uint32_t)bits);
                n.real = (double)(c->ftz ? flush32(narrow) : narrow);
                break;
        case PTX_F64:
                n.real = float64(bits);
                break;
        default:
                if (ptx_types[c->from].kind == 's')
                        n.integer = (int64_t)(bits << shift) >> shift;
                else
                        n.integer = bits << shift >> shift;
                break;
        }
        return n;
}

static double round_to_integer(double x, enum integer_rounding rounding)
{
        switch (rounding) {
        case INTEGER_NEAREST:
                return rint(x);
        case INTEGER_ZERO:
                return trunc(x);
        case INTEGER_DOWN:
                return floor(x);
        case INTEGER_UP:
                return ceil(x);
        default:
                return x;
        }
}

static void integer_limits(enum ptx_type type, __int128 *min, __int128 *max)
{
        unsigned bits = ptx_types[type].bytes * 8u;

        if (ptx_types[type].kind == 's') {
                *max = ((__int128)1 << (bits - 1)) - 1;
                *min = -*max - 1;
        } else {
                *max = ((__int128)1 << bits) - 1;
                *min = 0;
        }
}

static uint64_t to_integer(const struct conversion *c, struct number n)
{
        __int128 min, max;

        integer_limits(c->to, &min, &max);
        if (n.is_float) {
                double real = round_to_integer(n.real, c->integer);

                if (real != real) {
                        /* What the ISA says of NaN: zero, but for the wide types the top bit alone. */
                        if (c->from != PTX_F64 && ptx_types[c->to].bytes != 8)
                                return 0;
                        return 1ull << (ptx_types[c->to].bytes * 8 - 1);
                }
                if (real >= 0x1p64)
                        n.integer = max;
                else if (real <= -0x1p64)
                        n.integer = min;
                else
                        n.integer = (__int128)real;
        } else if (!c->sat) {
                return (uint64_t)n.integer;
        }
        if (n.integer > max)
                n.integer = max;
        if (n.integer < min)
                n.integer = min;
        return (uint64_t)n.integer;
}

/* An integer as a double whose last bit is sticky: rounding it again to 51 bits or fewer is exact. */
static double integer_to_odd_double(__int128 integer)
{
        uint64_t magnitude = (uint64_t)(integer < 0 ? -integer : integer);
        int shift = magnitude >> 53 ? 11 - __builtin_clzll(magnitude) : 0;
        uint64_t top = magnitude >> shift;
        double real;

        if (shift > 0 && (magnitude & ((1ull << shift) - 1)))
                top |= 1;
        real = ldexp((double)top, shift);
        return integer < 0 ? -real : real;
}

static double integer_to_double(__int128 integer, enum ptx_rounding rounding)
{
        static const int modes[] = {FE_TONEAREST, FE_TOWARDZERO, FE_DOWNWARD, FE_UPWARD, FE_TONEAREST};
        int saved = fegetround();
        volatile int64_t as_signed = (int64_t)integer;
        volatile uint64_t as_unsigned = (uint64_t)integer;
        volatile double real;

        fesetround(modes[rounding]);
        real = integer < 0 ? (double)as_signed : (double)as_unsigned;
        fesetround(saved);
        return real;
}

static uint64_t to_float(const struct conversion *c, struct number n)
{
        double real = n.is_float         ? round_to_integer(n.real, c->integer)
                      : c->to == PTX_F64 ? integer_to_double(n.integer, c->rounding)
                                         : integer_to_odd_double(n.integer);
        float narrow;

        if (c->sat)
                real = saturate64(real);
        if (c->relu && real <= 0)
                real = 0;
        switch (c->to) {
        case PTX_F16:
                return double_to_half(real, c->rounding);
        case PTX_BF16:
                return double_to_bfloat(real, c->rounding);
        case PTX_TF32:
                return real != real ? 0x7fffffffu : bits32((float)ptx_round(real, 10, -126, 0x1.ffcp127, c->rounding));
        case PTX_F32:
                narrow = double_to_float(real, c->rounding);
                return bits32(c->ftz ? flush32(narrow) : narrow);
        default:
                return bits64(real);
        }
}

static uint64_t convert_one(const struct conversion *c, uint64_t bits)
{
        struct number n = read_number(c, bits);
        unsigned shift = 64 - ptx_types[c->to].bytes * 8u;
        uint64_t result;

        if (ptx_types[c->to].kind == 'f')
                return to_float(c, n);
        /* A wider register gets the value extended by the type's own sign. */
        result = to_integer(c, n);
        if (ptx_types[c->to].kind == 's')
                return (uint64_t)((int64_t)(result << shift) >> shift);
        return result << shift >> shift;
}

static uint64_t read_lane(const void *lanes, unsigned bytes, unsigned lane)
{
        switch (bytes) {
        case 2:
                return ((const lane_u16 *)lanes)[lane];
        case 4:
                return ((const lane_u32 *)lanes)[lane];
        default:
                return ((const lane_u64 *)lanes)[lane];
        }
}

static void write_lane(void *lanes, unsigned bytes, unsigned lane, uint64_t value)
{
        switch (bytes) {
        case 2:
                ((lane_u16 *)lanes)[lane] = (uint16_t)value;
                break;
        case 4:
                ((lane_u32 *)lanes)[lane] = (uint32_t)value;
                break;
        default:
                ((lane_u64 *)lanes)[lane] = value;
                break;
        }
}

static int op_convert(struct ptx_warp *warp, const struct ptx_insn *insn, uint32_t mask)
{
        const struct conversion *c = insn->extra;
        void *d = ptx_at(warp, insn->d);
        const void *a = ptx_at(warp, insn->a);

        for (uint32_t rest = mask; rest; rest &= rest - 1) {
                unsigned lane = (unsigned)__builtin_ctz(rest);

                write_lane(d, c->to_bytes, lane, convert_one(c, read_lane(a, c->from_bytes, lane)));
        }
        return 0;
}

/* d = {a, b}: a in the upper half. */
static int op_convert_pair(struct ptx_warp *warp, const struct ptx_insn *insn, uint32_t mask)
{
        const struct conversion *c = insn->extra;
        lane_u32 *d = ptx_at(warp, insn->d);
        const lane_u32 *a = ptx_at(warp, insn->a), *b = ptx_at(warp, insn->b);

        for (uint32_t rest = mask; rest; rest &= rest - 1) {
                unsigned lane = (unsigned)__builtin_ctz(rest);

                d[lane] = (uint32_t)(convert_one(c, a[lane]) << 16 | convert_one(c, b[lane]));
        }
        return 0;
}

/* cvt.pack.sat.T.s32 d, a, b{, c}: a and b clamped to T, b lowest, above them the low part of c. */
static int op_convert_pack(struct ptx_warp *warp, const struct ptx_insn *insn, uint32_t mask)
{
        const struct conversion *c = insn->extra;
        unsigned bits = ptx_types[c->to].bytes * 8u;
        uint64_t field = (1ull << bits) - 1;
        lane_u32 *d = ptx_at(warp, insn->d);
        const lane_u32 *a = ptx_at(warp, insn->a), *b = ptx_at(warp, insn->b);
        const lane_u32 *rest_of = insn->c == NONE ? NULL : ptx_at(warp, insn->c);

        for (uint32_t rest = mask; rest; rest &= rest - 1) {
                unsigned lane = (unsigned)__builtin_ctz(rest);
                uint64_t packed = (convert_one(c, b[lane]) & field) | (convert_one(c, a[lane]) & field) << bits;

                if (rest_of)
                        packed |= (uint64_t)rest_of[lane] << 2 * bits;
                d[lane] = (uint32_t)packed;
        }
        return 0;
}

static enum integer_rounding take_integer_rounding(struct ptx_statement *s)
{
        if (ptx_take(s, PTX_FLAG_RNI))
                return INTEGER_NEAREST;
        if (ptx_take(s, PTX_FLAG_RZI))
                return INTEGER_ZERO;
        if (ptx_take(s, PTX_FLAG_RMI))
                return INTEGER_DOWN;
        if (ptx_take(s, PTX_FLAG_RPI))
                return INTEGER_UP;
        return INTEGER_NONE;
}

static const struct conversion *keep(struct ptx_builder *builder, const struct conversion *c)
{
        struct conversion *kept = ptx_keep(builder, sizeof(*kept));

        if (kept)
                *kept = *c;
        return kept;
}

/* The key of a handler in ptx_arith.c for a plain conversion of full registers, or NULL. */
static ptx_handler quick_handler(const struct conversion *c)
{
        const struct ptx_type_info *to = &ptx_types[c->to], *from = &ptx_types[c->from];
        char key[40];

        if (c->sat || c->ftz || c->relu || c->to_bytes != to->bytes || c->from_bytes != from->bytes)
                return NULL;
        if (to->kind != 'f' && from->kind != 'f') {
                if (to->bytes == from->bytes)
                        snprintf(key, sizeof(key), "mov_%u", to->bytes * 8u);
                else if (to->bytes > from->bytes && from->kind == 's')
                        snprintf(key, sizeof(key), "cvt_s%u_%s", to->bytes * 8u, from->name);
                else
                        snprintf(key, sizeof(key), "cvt_u%u_u%u", to->bytes * 8u, from->bytes * 8u);
        } else if (c->rounding == PTX_ROUND_NEAREST && c->integer == INTEGER_NONE) {
                snprintf(key, sizeof(key), "cvt_%s_%s", to->name, from->name);
        } else if (c->integer == INTEGER_ZERO && to->kind != 'f') {
                snprintf(key, sizeof(key), "cvt_rzi_%s_%s", to->name, from->name);
        } else {
                return NULL;
        }
        return ptx_arith_find(key);
}

static void decode_pack(struct ptx_builder *builder)
{
        struct ptx_statement *s = &builder->statement;
        struct conversion c = {.sat = ptx_take(s, PTX_FLAG_SAT), .to_bytes = 4, .from_bytes = 4};
        struct ptx_insn *insn;
        ptx_ref a, b, rest = NONE;

        c.to = ptx_take_type(builder);
        c.from = ptx_take_type(builder);
        if (ptx_peek_type(builder) == PTX_B32)
                ptx_take_type(builder);
        if (!c.sat || c.from != PTX_S32 || ptx_types[c.to].bytes > 2 || ptx_types[c.to].kind == 'f') {
                ptx_refuse(builder, "this form is not implemented");
                return;
        }
        if (!ptx_count_operands(builder, 3, 4))
                return;
        a = ptx_source(builder, 1, PTX_S32);
        b = ptx_source(builder, 2, PTX_S32);
        if (s->operand_count == 4)
                rest = ptx_source(builder, 3, PTX_B32);
        insn = ptx_emit(builder, op_convert_pack, ptx_destination(builder, 0, PTX_B32), a, b, rest);
        insn->extra = keep(builder, &c);
}

static void decode_pair(struct ptx_builder *builder, struct conversion *c)
{
        ptx_handler quick = NULL;
        struct ptx_insn *insn;
        ptx_ref a, b;

        if (c->from != PTX_F32 || !ptx_count_operands(builder, 3, 3)) {
                ptx_refuse(builder, "this form is not implemented");
                return;
        }
        a = ptx_source(builder, 1, PTX_F32);
        b = ptx_source(builder, 2, PTX_F32);
        if (!c->relu && !c->sat && c->rounding == PTX_ROUND_NEAREST)
                quick = ptx_arith(builder, "cvt_%s_f32", ptx_types[c->to].name);
        insn = ptx_emit(builder, quick ? quick : op_convert_pair, ptx_destination(builder, 0, c->to), a, b, NONE);
        c->to = c->to == PTX_F16X2 ? PTX_F16 : PTX_BF16;
        insn->extra = quick ? NULL : keep(builder, c);
}

static bool is_convertible(enum ptx_type type)
{
        return type >= PTX_U8 && type <= PTX_F64 && type != PTX_U16X2 && type != PTX_S16X2 && type != PTX_F16X2 &&
               type != PTX_BF16X2;
}

static void decode_cvt(struct ptx_builder *builder)
{
        struct ptx_statement *s = &builder->statement;
        struct conversion c = {0};
        ptx_handler quick;
        struct ptx_insn *insn;
        ptx_ref a, d;

        if (ptx_take(s, PTX_FLAG_PACK)) {
                decode_pack(builder);
                return;
        }
        c.integer = take_integer_rounding(s);
        c.rounding = ptx_take_rounding(builder);
        c.sat = ptx_take(s, PTX_FLAG_SAT);
        c.ftz = ptx_take(s, PTX_FLAG_FTZ);
        c.relu = ptx_take(s, PTX_FLAG_RELU);
        c.to = ptx_take_type(builder);
        c.from = ptx_take_type(builder);
        if (c.to == PTX_F16X2 || c.to == PTX_BF16X2) {
                decode_pair(builder, &c);
                return;
        }
        if (!is_convertible(c.to) || !is_convertible(c.from) || c.from == PTX_TF32 ||
            (c.rounding == PTX_ROUND_AWAY && c.to != PTX_TF32)) {
                ptx_refuse(builder, "this form is not implemented");
                return;
        }
        if (!ptx_count_operands(builder, 2, 2))
                return;
        /* Float to integer without a rounding is refused by the ISA too; truncation would be a guess. */
        if (ptx_types[c.from].kind == 'f' && ptx_types[c.to].kind != 'f' && c.integer == INTEGER_NONE) {
                ptx_refuse(builder, "needs a rounding to integer");
                return;
        }
        a = ptx_source_wide(builder, &s->operands[1], c.from, &c.from_bytes);
        d = ptx_destination_wide(builder, &s->operands[0], c.to, &c.to_bytes);
        quick = quick_handler(&c);
        insn = ptx_emit(builder, quick ? quick : op_convert, d, a, NONE, NONE);
        insn->extra = quick ? NULL : keep(builder, &c);
}

const struct ptx_decoder_entry ptx_decoders_convert[] = {{"cvt", decode_cvt}, {NULL, NULL}};
