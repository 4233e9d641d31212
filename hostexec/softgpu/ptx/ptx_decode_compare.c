/* setp, set, selp, slct, testp. */
#include "ptx_arith.h"
#include "ptx_build.h"

#define NONE PTX_REF_NONE

static const struct {
        enum ptx_flag flag;
        const char *name;
        bool float_only, unsigned_only;
} comparisons[] = {
        {PTX_FLAG_EQ, "eq", false, false},  {PTX_FLAG_NE, "ne", false, false},  {PTX_FLAG_LT, "lt", false, false},
        {PTX_FLAG_LE, "le", false, false},  {PTX_FLAG_GT, "gt", false, false},  {PTX_FLAG_GE, "ge", false, false},
        {PTX_FLAG_LO, "lt", false, true},   {PTX_FLAG_LS, "le", false, true},   {PTX_FLAG_HI, "gt", false, true},
        {PTX_FLAG_HS, "ge", false, true},   {PTX_FLAG_EQU, "equ", true, false}, {PTX_FLAG_NEU, "neu", true, false},
        {PTX_FLAG_LTU, "ltu", true, false}, {PTX_FLAG_LEU, "leu", true, false}, {PTX_FLAG_GTU, "gtu", true, false},
        {PTX_FLAG_GEU, "geu", true, false}, {PTX_FLAG_NUM, "num", true, false}, {PTX_FLAG_NAN_, "nan", true, false},
};

struct comparison {
        const char *name;
        bool unsigned_only;
        bool float_only;
        bool ftz;
        uint8_t combine;
};

static struct comparison take_comparison(struct ptx_builder *builder)
{
        struct ptx_statement *s = &builder->statement;
        struct comparison c = {0};

        for (unsigned i = 0; i < sizeof(comparisons) / sizeof(comparisons[0]); i++)
                if (ptx_take(s, comparisons[i].flag)) {
                        c.name = comparisons[i].name;
                        c.unsigned_only = comparisons[i].unsigned_only;
                        c.float_only = comparisons[i].float_only;
                        break;
                }
        if (!c.name)
                ptx_refuse(builder, "needs a comparison");
        c.ftz = ptx_take(s, PTX_FLAG_FTZ);
        if (ptx_take(s, PTX_FLAG_AND))
                c.combine = PTX_COMBINE_AND;
        else if (ptx_take(s, PTX_FLAG_OR))
                c.combine = PTX_COMBINE_OR;
        else if (ptx_take(s, PTX_FLAG_XOR))
                c.combine = PTX_COMBINE_XOR;
        return c;
}

/* `part` is "lo" or "hi" for a half of a packed pair, else empty. */
static ptx_handler comparison_handler(struct ptx_builder *builder, const struct comparison *c, enum ptx_type type,
                                      const char *part)
{
        char kind = ptx_types[type].kind;
        bool is_equality = c->name && (c->name[0] == 'e' || c->name[0] == 'n');

        if (builder->status != PTX_OK)
                return NULL;
        if (kind == 'f' && !c->unsigned_only) {
                const char *base = type == PTX_F16X2 ? "f16" : type == PTX_BF16X2 ? "bf16" : ptx_types[type].name;

                return ptx_arith(builder, "setp_%s_%s%s%s", c->name, c->ftz && type == PTX_F32 ? "ftz_" : "", base,
                                 part);
        }
        if (kind == 'f' || c->float_only || (kind == 'b' && !is_equality)) {
                ptx_refuse(builder, "comparison does not fit its type");
                return NULL;
        }
        if (is_equality)
                return ptx_arith(builder, "setp_%s_%u", c->name, ptx_types[type].bytes * 8u);
        return ptx_arith(builder, "setp_%s_%c%u", c->name, c->unsigned_only ? 'u' : kind, ptx_types[type].bytes * 8u);
}

static void emit_comparison(struct ptx_builder *builder, const struct comparison *c, ptx_handler run, ptx_ref d,
                            ptx_ref second, const ptx_ref source[3])
{
        struct ptx_insn *insn = ptx_emit(builder, run, d, source[0], source[1], source[2]);

        insn->mode = c->combine;
        insn->e = second;
        if (second != NONE)
                insn->roles |= PTX_ROLE_E;
}

static void take_sources(struct ptx_builder *builder, const struct comparison *c, enum ptx_type type, ptx_ref source[3])
{
        source[0] = ptx_source(builder, 1, type);
        source[1] = ptx_source(builder, 2, type);
        source[2] = c->combine == PTX_COMBINE_NONE ? NONE : ptx_source(builder, 3, PTX_PRED);
}

static void decode_setp(struct ptx_builder *builder)
{
        struct ptx_statement *s = &builder->statement;
        struct comparison c = take_comparison(builder);
        enum ptx_type type = ptx_take_type(builder);
        unsigned count = c.combine == PTX_COMBINE_NONE ? 3 : 4;
        ptx_ref source[3], p, q = NONE;

        if (!ptx_count_operands(builder, count, count))
                return;
        take_sources(builder, &c, type, source);
        p = ptx_destination(builder, 0, PTX_PRED);
        if (s->operands[0].second >= 0)
                q = ptx_destination_operand(builder, &s->elements[s->operands[0].second], PTX_PRED);
        if (type == PTX_F16X2 || type == PTX_BF16X2) {
                /* p is of the low halves, q of the high ones; p may be the c of the second comparison. */
                ptx_ref low = ptx_register_new(builder, PTX_PRED);

                emit_comparison(builder, &c, comparison_handler(builder, &c, type, "lo"), low, NONE, source);
                if (q != NONE)
                        emit_comparison(builder, &c, comparison_handler(builder, &c, type, "hi"), q, NONE, source);
                ptx_emit(builder, ptx_arith(builder, "mov_pred"), p, low, NONE, NONE);
                return;
        }
        emit_comparison(builder, &c, comparison_handler(builder, &c, type, ""), p, q, source);
}

/* set = setp into a temporary, then all ones or 1.0 where it holds. */
static void decode_set(struct ptx_builder *builder)
{
        struct comparison c = take_comparison(builder);
        enum ptx_type to = ptx_take_type(builder), type = ptx_take_type(builder);
        unsigned count = c.combine == PTX_COMBINE_NONE ? 3 : 4;
        ptx_ref source[3], temporary, one, zero;
        uint64_t value = ~0ull;

        if (!ptx_count_operands(builder, count, count))
                return;
        if (type == PTX_F16X2 || type == PTX_BF16X2) {
                ptx_refuse(builder, "packed set is not implemented");
                return;
        }
        take_sources(builder, &c, type, source);
        temporary = ptx_register_new(builder, PTX_PRED);
        emit_comparison(builder, &c, comparison_handler(builder, &c, type, ""), temporary, NONE, source);
        if (to == PTX_F32)
                value = 0x3f800000u;
        else if (to == PTX_F16)
                value = 0x3c00;
        else if (to == PTX_BF16)
                value = 0x3f80;
        one = ptx_constant(builder, value, ptx_types[to].bytes);
        zero = ptx_constant(builder, 0, ptx_types[to].bytes);
        ptx_emit(builder, ptx_arith(builder, "selp_%u", ptx_types[to].bytes * 8u), ptx_destination(builder, 0, to), one,
                 zero, temporary);
}

static void decode_selp(struct ptx_builder *builder)
{
        enum ptx_type type = ptx_take_type(builder);
        ptx_ref a, b, c;

        if (!ptx_count_operands(builder, 4, 4))
                return;
        a = ptx_source(builder, 1, type);
        b = ptx_source(builder, 2, type);
        c = ptx_source(builder, 3, PTX_PRED);
        ptx_emit(builder, ptx_arith(builder, "selp_%u", ptx_types[type].bytes * 8u), ptx_destination(builder, 0, type),
                 a, b, c);
}

static void decode_slct(struct ptx_builder *builder)
{
        bool ftz = ptx_take(&builder->statement, PTX_FLAG_FTZ);
        enum ptx_type type = ptx_take_type(builder), by = ptx_take_type(builder);
        ptx_ref a, b, c;

        if (!ptx_count_operands(builder, 4, 4))
                return;
        a = ptx_source(builder, 1, type);
        b = ptx_source(builder, 2, type);
        c = ptx_source(builder, 3, by);
        ptx_emit(builder,
                 ptx_arith(builder, "slct_%s%s_%u", ftz ? "ftz_" : "", ptx_types[by].name, ptx_types[type].bytes * 8u),
                 ptx_destination(builder, 0, type), a, b, c);
}

static void decode_testp(struct ptx_builder *builder)
{
        static const struct {
                enum ptx_flag flag;
                const char *name;
        } tests[] = {
                {PTX_FLAG_FINITE, "finite"},         {PTX_FLAG_INFINITE, "infinite"}, {PTX_FLAG_NUMBER, "number"},
                {PTX_FLAG_NOTANUMBER, "notanumber"}, {PTX_FLAG_NORMAL, "normal"},     {PTX_FLAG_SUBNORMAL, "subnormal"},
        };
        const struct comparison none = {0};
        const char *name = "";
        enum ptx_type type;
        ptx_ref source[3] = {NONE, NONE, NONE};

        for (unsigned i = 0; i < sizeof(tests) / sizeof(tests[0]); i++)
                if (ptx_take(&builder->statement, tests[i].flag))
                        name = tests[i].name;
        type = ptx_take_type(builder);
        if (!ptx_count_operands(builder, 2, 2))
                return;
        source[0] = source[1] = ptx_source(builder, 1, type);
        emit_comparison(builder, &none, ptx_arith(builder, "setp_%s_testp%u", name, ptx_types[type].bytes * 8u),
                        ptx_destination(builder, 0, PTX_PRED), NONE, source);
}

const struct ptx_decoder_entry ptx_decoders_compare[] = {
        {"setp", decode_setp}, {"set", decode_set},     {"selp", decode_selp},
        {"slct", decode_slct}, {"testp", decode_testp}, {NULL, NULL},
};
