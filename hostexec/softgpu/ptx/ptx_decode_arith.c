/* Integer and bit instructions. */
#include "ptx_arith.h"
#include "ptx_build.h"

#define NONE PTX_REF_NONE

static unsigned width(enum ptx_type type)
{
        return ptx_types[type].bytes * 8u;
}

static const char *name_of(enum ptx_type type)
{
        return ptx_types[type].name;
}

static bool is_float(enum ptx_type type)
{
        return ptx_types[type].kind == 'f';
}

static enum ptx_type twice(struct ptx_builder *builder, enum ptx_type type)
{
        switch (type) {
        case PTX_U16:
                return PTX_U32;
        case PTX_S16:
                return PTX_S32;
        case PTX_U32:
                return PTX_U64;
        case PTX_S32:
                return PTX_S64;
        default:
                ptx_refuse(builder, "no wide form of this type");
                return PTX_U32;
        }
}

static void emit2(struct ptx_builder *builder, ptx_handler run, enum ptx_type d, enum ptx_type a, enum ptx_type b)
{
        ptx_ref ra = ptx_source(builder, 1, a), rb = ptx_source(builder, 2, b);

        ptx_emit(builder, run, ptx_destination(builder, 0, d), ra, rb, NONE);
}

static void emit3(struct ptx_builder *builder, ptx_handler run, enum ptx_type d, enum ptx_type a, enum ptx_type b,
                  enum ptx_type c)
{
        ptx_ref ra = ptx_source(builder, 1, a), rb = ptx_source(builder, 2, b), rc = ptx_source(builder, 3, c);

        ptx_emit(builder, run, ptx_destination(builder, 0, d), ra, rb, rc);
}

static void emit_carry(struct ptx_builder *builder, const char *name, ptx_ref a, ptx_ref b, enum ptx_type type,
                       uint32_t carry)
{
        ptx_handler run = ptx_arith(builder, "%s_carry_%u", name, width(type));
        struct ptx_insn *insn = ptx_emit(builder, run, ptx_destination(builder, 0, type), a, b, NONE);

        insn->aux = carry;
}

static void decode_add_sub_carry(struct ptx_builder *builder, const char *name, uint32_t carry_in)
{
        uint32_t carry = carry_in | (ptx_take(&builder->statement, PTX_FLAG_CC) ? PTX_CARRY_OUT : 0);
        enum ptx_type type = ptx_take_type(builder);
        ptx_ref a, b;

        if (!ptx_count_operands(builder, 3, 3))
                return;
        a = ptx_source(builder, 1, type);
        b = ptx_source(builder, 2, type);
        emit_carry(builder, name, a, b, type, carry);
}

static void decode_add_sub_integer(struct ptx_builder *builder, const char *name)
{
        bool sat = ptx_take(&builder->statement, PTX_FLAG_SAT);
        enum ptx_type type;

        if (builder->statement.flags[PTX_FLAG_CC]) {
                decode_add_sub_carry(builder, name, 0);
                return;
        }
        type = ptx_take_type(builder);
        if (!ptx_count_operands(builder, 3, 3))
                return;
        if (sat)
                emit2(builder, ptx_arith(builder, "%s_sat_%s", name, name_of(type)), type, type, type);
        else if (type == PTX_U16X2 || type == PTX_S16X2)
                emit2(builder, ptx_arith(builder, "%s_16x2", name), type, type, type);
        else
                emit2(builder, ptx_arith(builder, "%s_%u", name, width(type)), type, type, type);
}

static void decode_addc(struct ptx_builder *builder)
{
        decode_add_sub_carry(builder, "add", PTX_CARRY_IN);
}

static void decode_subc(struct ptx_builder *builder)
{
        decode_add_sub_carry(builder, "sub", PTX_CARRY_IN);
}

static void decode_mul_integer(struct ptx_builder *builder)
{
        struct ptx_statement *s = &builder->statement;
        bool wide = ptx_take(s, PTX_FLAG_WIDE), hi = ptx_take(s, PTX_FLAG_HI), lo = ptx_take(s, PTX_FLAG_LO);
        enum ptx_type type = ptx_take_type(builder);

        if (!ptx_count_operands(builder, 3, 3))
                return;
        if (wide)
                emit2(builder, ptx_arith(builder, "mul_wide_%s", name_of(type)), twice(builder, type), type, type);
        else if (hi)
                emit2(builder, ptx_arith(builder, "mul_hi_%s", name_of(type)), type, type, type);
        else if (lo)
                emit2(builder, ptx_arith(builder, "mul_lo_%u", width(type)), type, type, type);
        else
                ptx_refuse(builder, "needs .lo, .hi or .wide");
}

static void decode_mad_carry(struct ptx_builder *builder, uint32_t carry)
{
        struct ptx_statement *s = &builder->statement;
        bool hi = ptx_take(s, PTX_FLAG_HI), lo = ptx_take(s, PTX_FLAG_LO);
        enum ptx_type type = ptx_take_type(builder);
        ptx_ref a, b, c, product;
        ptx_handler run;

        if (ptx_take(s, PTX_FLAG_CC))
                carry |= PTX_CARRY_OUT;
        if (!ptx_count_operands(builder, 4, 4))
                return;
        if (hi == lo) {
                ptx_refuse(builder, "needs .lo or .hi");
                return;
        }
        a = ptx_source(builder, 1, type);
        b = ptx_source(builder, 2, type);
        c = ptx_source(builder, 3, type);
        run = hi ? ptx_arith(builder, "mul_hi_%s", name_of(type)) : ptx_arith(builder, "mul_lo_%u", width(type));
        product = ptx_register_new(builder, type);
        ptx_emit(builder, run, product, a, b, NONE);
        emit_carry(builder, "add", product, c, type, carry);
}

static void decode_mad_integer(struct ptx_builder *builder)
{
        struct ptx_statement *s = &builder->statement;
        bool wide, hi, lo, sat;
        enum ptx_type type;

        if (s->flags[PTX_FLAG_CC]) {
                decode_mad_carry(builder, 0);
                return;
        }
        wide = ptx_take(s, PTX_FLAG_WIDE);
        hi = ptx_take(s, PTX_FLAG_HI);
        lo = ptx_take(s, PTX_FLAG_LO);
        sat = ptx_take(s, PTX_FLAG_SAT);
        type = ptx_take_type(builder);
        if (!ptx_count_operands(builder, 4, 4))
                return;
        if (wide)
                emit3(builder, ptx_arith(builder, "mad_wide_%s", name_of(type)), twice(builder, type), type, type,
                      twice(builder, type));
        else if (hi)
                emit3(builder, ptx_arith(builder, "mad_hi%s_%s", sat ? "_sat" : "", name_of(type)), type, type, type,
                      type);
        else if (lo && !sat)
                emit3(builder, ptx_arith(builder, "mad_lo_%u", width(type)), type, type, type, type);
        else
                ptx_refuse(builder, "needs .lo, .hi or .wide");
}

static void decode_madc(struct ptx_builder *builder)
{
        decode_mad_carry(builder, PTX_CARRY_IN);
}

static void decode_mul24(struct ptx_builder *builder)
{
        bool hi = ptx_take(&builder->statement, PTX_FLAG_HI);
        enum ptx_type type = ptx_take_type(builder);

        if (!hi && !ptx_take(&builder->statement, PTX_FLAG_LO))
                ptx_refuse(builder, "needs .lo or .hi");
        if (ptx_count_operands(builder, 3, 3))
                emit2(builder, ptx_arith(builder, "mul24_%s_%s", hi ? "hi" : "lo", name_of(type)), type, type, type);
}

static void decode_mad24(struct ptx_builder *builder)
{
        bool hi = ptx_take(&builder->statement, PTX_FLAG_HI);
        enum ptx_type type = ptx_take_type(builder);

        if (!hi && !ptx_take(&builder->statement, PTX_FLAG_LO))
                ptx_refuse(builder, "needs .lo or .hi");
        if (ptx_count_operands(builder, 4, 4))
                emit3(builder, ptx_arith(builder, "mad24_%s_%s", hi ? "hi" : "lo", name_of(type)), type, type, type,
                      type);
}

static void decode_sad(struct ptx_builder *builder)
{
        enum ptx_type type = ptx_take_type(builder);

        if (ptx_count_operands(builder, 4, 4))
                emit3(builder, ptx_arith(builder, "sad_%s", name_of(type)), type, type, type, type);
}

static void decode_rem(struct ptx_builder *builder)
{
        enum ptx_type type = ptx_take_type(builder);

        if (ptx_count_operands(builder, 3, 3))
                emit2(builder, ptx_arith(builder, "rem_%s", name_of(type)), type, type, type);
}

/* and, or, xor, not, cnot: b types, and predicates but for cnot. */
static void decode_logic2(struct ptx_builder *builder, const char *name)
{
        enum ptx_type type = ptx_take_type(builder);

        if (!ptx_count_operands(builder, 3, 3))
                return;
        if (type == PTX_PRED)
                emit2(builder, ptx_arith(builder, "%s_pred", name), type, type, type);
        else
                emit2(builder, ptx_arith(builder, "%s_%u", name, width(type)), type, type, type);
}

static void decode_and(struct ptx_builder *builder)
{
        decode_logic2(builder, "and");
}

static void decode_or(struct ptx_builder *builder)
{
        decode_logic2(builder, "or");
}

static void decode_xor(struct ptx_builder *builder)
{
        decode_logic2(builder, "xor");
}

static void decode_logic1(struct ptx_builder *builder, const char *name)
{
        enum ptx_type type = ptx_take_type(builder);
        ptx_handler run;
        ptx_ref a;

        if (!ptx_count_operands(builder, 2, 2))
                return;
        run = type == PTX_PRED ? ptx_arith(builder, "%s_pred", name) : ptx_arith(builder, "%s_%u", name, width(type));
        a = ptx_source(builder, 1, type);
        ptx_emit(builder, run, ptx_destination(builder, 0, type), a, NONE, NONE);
}

static void decode_not(struct ptx_builder *builder)
{
        decode_logic1(builder, "not");
}

static void decode_cnot(struct ptx_builder *builder)
{
        decode_logic1(builder, "cnot");
}

static void decode_shl(struct ptx_builder *builder)
{
        enum ptx_type type = ptx_take_type(builder);

        if (ptx_count_operands(builder, 3, 3))
                emit2(builder, ptx_arith(builder, "shl_%u", width(type)), type, type, PTX_U32);
}

static void decode_shr(struct ptx_builder *builder)
{
        enum ptx_type type = ptx_take_type(builder);
        char sign = ptx_types[type].kind == 's' ? 's' : 'u';

        if (ptx_count_operands(builder, 3, 3))
                emit2(builder, ptx_arith(builder, "shr_%c%u", sign, width(type)), type, type, PTX_U32);
}

static void decode_shf(struct ptx_builder *builder)
{
        struct ptx_statement *s = &builder->statement;
        bool left = ptx_take(s, PTX_FLAG_L), right = ptx_take(s, PTX_FLAG_R);
        bool wrap = ptx_take(s, PTX_FLAG_WRAP), clamp = ptx_take(s, PTX_FLAG_CLAMP);
        enum ptx_type type = ptx_take_type(builder);

        if (left == right || wrap == clamp)
                ptx_refuse(builder, "needs .l or .r and .clamp or .wrap");
        if (ptx_count_operands(builder, 4, 4))
                emit3(builder,
                      ptx_arith(builder, "shf_%c_%s_%u", left ? 'l' : 'r', wrap ? "wrap" : "clamp", width(type)), type,
                      type, type, PTX_U32);
}

static void decode_lop3(struct ptx_builder *builder)
{
        struct ptx_statement *s = &builder->statement;
        enum ptx_type type = ptx_take_type(builder);
        ptx_ref a, b, c;
        struct ptx_insn *insn;

        if (!ptx_count_operands(builder, 5, 5))
                return;
        if (s->operands[4].kind != PTX_OPERAND_INTEGER || s->operands[4].value > 255 || s->operands[0].second >= 0) {
                ptx_refuse(builder, "needs a table from 0 to 255 and one destination");
                return;
        }
        a = ptx_source(builder, 1, type);
        b = ptx_source(builder, 2, type);
        c = ptx_source(builder, 3, type);
        insn = ptx_emit(builder, ptx_arith(builder, "lop3_%u", width(type)), ptx_destination(builder, 0, type), a, b,
                        c);
        insn->aux = (uint32_t)s->operands[4].value;
}

static void decode_prmt(struct ptx_builder *builder)
{
        static const struct {
                enum ptx_flag flag;
                uint8_t mode;
        } modes[] = {
                {PTX_FLAG_F4E, PTX_PERMUTE_F4E}, {PTX_FLAG_B4E, PTX_PERMUTE_B4E}, {PTX_FLAG_RC8, PTX_PERMUTE_RC8},
                {PTX_FLAG_ECL, PTX_PERMUTE_ECL}, {PTX_FLAG_ECR, PTX_PERMUTE_ECR}, {PTX_FLAG_RC16, PTX_PERMUTE_RC16},
        };
        uint8_t mode = PTX_PERMUTE_INDEX;
        enum ptx_type type = ptx_take_type(builder);
        ptx_ref a, b, c;
        struct ptx_insn *insn;

        for (unsigned i = 0; i < sizeof(modes) / sizeof(modes[0]); i++)
                if (ptx_take(&builder->statement, modes[i].flag))
                        mode = modes[i].mode;
        if (!ptx_count_operands(builder, 4, 4))
                return;
        a = ptx_source(builder, 1, type);
        b = ptx_source(builder, 2, type);
        c = ptx_source(builder, 3, type);
        insn = ptx_emit(builder, ptx_arith(builder, "prmt_%u", width(type)), ptx_destination(builder, 0, type), a, b,
                        c);
        insn->mode = mode;
}

/* popc, clz: a 32-bit result whatever the operand. */
static void decode_count(struct ptx_builder *builder, const char *name)
{
        enum ptx_type type = ptx_take_type(builder);
        ptx_ref a;

        if (!ptx_count_operands(builder, 2, 2))
                return;
        a = ptx_source(builder, 1, type);
        ptx_emit(builder, ptx_arith(builder, "%s_%u", name, width(type)), ptx_destination(builder, 0, PTX_U32), a, NONE,
                 NONE);
}

static void decode_popc(struct ptx_builder *builder)
{
        decode_count(builder, "popc");
}

static void decode_clz(struct ptx_builder *builder)
{
        decode_count(builder, "clz");
}

static void decode_brev(struct ptx_builder *builder)
{
        decode_logic1(builder, "brev");
}

static void decode_bfind(struct ptx_builder *builder)
{
        bool shift = ptx_take(&builder->statement, PTX_FLAG_SHIFTAMT);
        enum ptx_type type = ptx_take_type(builder);
        ptx_ref a;

        if (!ptx_count_operands(builder, 2, 2))
                return;
        a = ptx_source(builder, 1, type);
        ptx_emit(builder, ptx_arith(builder, "bfind%s_%s", shift ? "_shiftamt" : "", name_of(type)),
                 ptx_destination(builder, 0, PTX_U32), a, NONE, NONE);
}

static void decode_bfe(struct ptx_builder *builder)
{
        enum ptx_type type = ptx_take_type(builder);

        if (ptx_count_operands(builder, 4, 4))
                emit3(builder, ptx_arith(builder, "bfe_%s", name_of(type)), type, type, PTX_U32, PTX_U32);
}

static void decode_bfi(struct ptx_builder *builder)
{
        enum ptx_type type = ptx_take_type(builder);
        ptx_ref a, b, c, e;
        struct ptx_insn *insn;

        if (!ptx_count_operands(builder, 5, 5))
                return;
        a = ptx_source(builder, 1, type);
        b = ptx_source(builder, 2, type);
        c = ptx_source(builder, 3, PTX_U32);
        e = ptx_source(builder, 4, PTX_U32);
        insn = ptx_emit(builder, ptx_arith(builder, "bfi_%u", width(type)), ptx_destination(builder, 0, type), a, b, c);
        insn->e = e;
}

static void decode_fns(struct ptx_builder *builder)
{
        enum ptx_type type = ptx_take_type(builder);

        if (ptx_count_operands(builder, 4, 4))
                emit3(builder, ptx_arith(builder, "fns_%u", width(type)), PTX_U32, PTX_U32, PTX_U32, PTX_S32);
}

static const char *take_clamp(struct ptx_builder *builder)
{
        if (ptx_take(&builder->statement, PTX_FLAG_CLAMP))
                return "clamp";
        if (!ptx_take(&builder->statement, PTX_FLAG_WRAP))
                ptx_refuse(builder, "needs .clamp or .wrap");
        return "wrap";
}

static void decode_szext(struct ptx_builder *builder)
{
        const char *mode = take_clamp(builder);
        enum ptx_type type = ptx_take_type(builder);

        if (ptx_count_operands(builder, 3, 3))
                emit2(builder, ptx_arith(builder, "szext_%s_%s", mode, name_of(type)), type, type, PTX_U32);
}

static void decode_bmsk(struct ptx_builder *builder)
{
        const char *mode = take_clamp(builder);
        enum ptx_type type = ptx_take_type(builder);

        if (ptx_count_operands(builder, 3, 3))
                emit2(builder, ptx_arith(builder, "bmsk_%s_%u", mode, width(type)), type, PTX_U32, PTX_U32);
}

static void decode_dp4a(struct ptx_builder *builder)
{
        enum ptx_type a = ptx_take_type(builder), b = ptx_take_type(builder);

        if (ptx_count_operands(builder, 4, 4))
                emit3(builder, ptx_arith(builder, "dp4a_%s_%s", name_of(a), name_of(b)), PTX_U32, a, b, PTX_U32);
}

static void decode_dp2a(struct ptx_builder *builder)
{
        bool hi = ptx_take(&builder->statement, PTX_FLAG_HI);
        enum ptx_type a = ptx_take_type(builder), b = ptx_take_type(builder);

        if (!hi && !ptx_take(&builder->statement, PTX_FLAG_LO))
                ptx_refuse(builder, "needs .lo or .hi");
        if (ptx_count_operands(builder, 4, 4))
                emit3(builder, ptx_arith(builder, "dp2a_%s_%s_%s", hi ? "hi" : "lo", name_of(a), name_of(b)), PTX_U32,
                      a, b, PTX_U32);
}

/* Names that integers and floats share: the type at the end decides. */
static void decode_add(struct ptx_builder *builder)
{
        if (is_float(ptx_peek_type(builder)))
                ptx_decode_float2(builder, "add", PTX_DIRECTED_ADD);
        else
                decode_add_sub_integer(builder, "add");
}

static void decode_sub(struct ptx_builder *builder)
{
        if (is_float(ptx_peek_type(builder)))
                ptx_decode_float2(builder, "sub", PTX_DIRECTED_SUB);
        else
                decode_add_sub_integer(builder, "sub");
}

static void decode_mul(struct ptx_builder *builder)
{
        if (is_float(ptx_peek_type(builder)))
                ptx_decode_float2(builder, "mul", PTX_DIRECTED_MUL);
        else
                decode_mul_integer(builder);
}

static void decode_mad(struct ptx_builder *builder)
{
        if (is_float(ptx_peek_type(builder)))
                ptx_decode_fma(builder);
        else
                decode_mad_integer(builder);
}

static void decode_div(struct ptx_builder *builder)
{
        enum ptx_type type = ptx_peek_type(builder);

        if (is_float(type)) {
                ptx_decode_float2(builder, "div", PTX_DIRECTED_DIV);
                return;
        }
        ptx_take_type(builder);
        if (ptx_count_operands(builder, 3, 3))
                emit2(builder, ptx_arith(builder, "div_%s", name_of(type)), type, type, type);
}

static void decode_min_max(struct ptx_builder *builder, const char *name)
{
        bool relu;
        enum ptx_type type = ptx_peek_type(builder);

        if (is_float(type)) {
                ptx_decode_float_min_max(builder, name);
                return;
        }
        relu = ptx_take(&builder->statement, PTX_FLAG_RELU);
        ptx_take_type(builder);
        if (ptx_count_operands(builder, 3, 3))
                emit2(builder, ptx_arith(builder, "%s%s_%s", name, relu ? "_relu" : "", name_of(type)), type, type,
                      type);
}

static void decode_min(struct ptx_builder *builder)
{
        decode_min_max(builder, "min");
}

static void decode_max(struct ptx_builder *builder)
{
        decode_min_max(builder, "max");
}

static void decode_neg_abs(struct ptx_builder *builder, const char *name, bool sign_matters)
{
        bool ftz = ptx_take(&builder->statement, PTX_FLAG_FTZ);
        enum ptx_type type = ptx_take_type(builder);
        ptx_handler run;
        ptx_ref a;

        if (!ptx_count_operands(builder, 2, 2))
                return;
        if (is_float(type))
                run = ptx_arith(builder, "%s_%s%s", name, ftz && type == PTX_F32 ? "ftz_" : "", name_of(type));
        else if (sign_matters)
                run = ptx_arith(builder, "%s_%s", name, name_of(type));
        else
                run = ptx_arith(builder, "%s_%u", name, width(type));
        a = ptx_source(builder, 1, type);
        if (ftz && (type == PTX_F16 || type == PTX_F16X2)) {
                ptx_ref flushed = ptx_register_new(builder, type);

                ptx_emit(builder, ptx_arith(builder, "flush_%s", name_of(type)), flushed, a, NONE, NONE);
                a = flushed;
        }
        ptx_emit(builder, run, ptx_destination(builder, 0, type), a, NONE, NONE);
}

static void decode_neg(struct ptx_builder *builder)
{
        decode_neg_abs(builder, "neg", false);
}

static void decode_abs(struct ptx_builder *builder)
{
        decode_neg_abs(builder, "abs", true);
}

const struct ptx_decoder_entry ptx_decoders_arith[] = {
        {"add", decode_add},     {"sub", decode_sub},
        {"mul", decode_mul},     {"mad", decode_mad},
        {"addc", decode_addc},   {"subc", decode_subc},
        {"madc", decode_madc},   {"mul24", decode_mul24},
        {"mad24", decode_mad24}, {"sad", decode_sad},
        {"div", decode_div},     {"rem", decode_rem},
        {"min", decode_min},     {"max", decode_max},
        {"neg", decode_neg},     {"abs", decode_abs},
        {"and", decode_and},     {"or", decode_or},
        {"xor", decode_xor},     {"not", decode_not},
        {"cnot", decode_cnot},   {"shl", decode_shl},
        {"shr", decode_shr},     {"shf", decode_shf},
        {"lop3", decode_lop3},   {"prmt", decode_prmt},
        {"popc", decode_popc},   {"clz", decode_clz},
        {"brev", decode_brev},   {"bfind", decode_bfind},
        {"bfe", decode_bfe},     {"bfi", decode_bfi},
        {"fns", decode_fns},     {"szext", decode_szext},
        {"bmsk", decode_bmsk},   {"dp4a", decode_dp4a},
        {"dp2a", decode_dp2a},   {NULL, NULL},
};
