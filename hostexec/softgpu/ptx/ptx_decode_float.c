/* Floating-point instructions, f16 and bf16 included. .ftz of f16, .sat and .relu become instructions of their own
 * around the operation: rare ones need no handlers of their own. */
#include <stdio.h>

#include "ptx_arith.h"
#include "ptx_build.h"

#define NONE PTX_REF_NONE
#define NOT_DIRECTED -1

struct float_form {
        enum ptx_type type;
        enum ptx_rounding rounding;
        bool ftz, sat, relu;
};

static bool is_half(enum ptx_type type)
{
        return type == PTX_F16 || type == PTX_F16X2 || type == PTX_BF16 || type == PTX_BF16X2;
}

static struct float_form take_form(struct ptx_builder *builder)
{
        struct ptx_statement *s = &builder->statement;
        struct float_form form;

        form.rounding = ptx_take_rounding(builder);
        form.ftz = ptx_take(s, PTX_FLAG_FTZ);
        form.sat = ptx_take(s, PTX_FLAG_SAT);
        form.relu = ptx_take(s, PTX_FLAG_RELU);
        ptx_take(s, PTX_FLAG_APPROX);
        ptx_take(s, PTX_FLAG_FULL);
        form.type = ptx_take_type(builder);
        if (ptx_types[form.type].kind != 'f' || form.type == PTX_TF32 || form.rounding == PTX_ROUND_AWAY ||
            (is_half(form.type) && form.rounding != PTX_ROUND_NEAREST) || (form.type == PTX_F64 && form.sat))
                ptx_refuse(builder, "this form is not implemented");
        return form;
}

static ptx_ref take_source(struct ptx_builder *builder, unsigned operand, const struct float_form *form)
{
        ptx_ref ref = ptx_source(builder, operand, form->type);
        ptx_ref flushed;

        if (!form->ftz || (form->type != PTX_F16 && form->type != PTX_F16X2))
                return ref;
        flushed = ptx_register_new(builder, form->type);
        ptx_emit(builder, ptx_arith(builder, "flush_%s", ptx_types[form->type].name), flushed, ref, NONE, NONE);
        return flushed;
}

/* What follows the operation in place. */
static void finish(struct ptx_builder *builder, const struct float_form *form, ptx_ref d)
{
        const char *type = ptx_types[form->type].name;

        if (form->ftz && (form->type == PTX_F16 || form->type == PTX_F16X2))
                ptx_emit(builder, ptx_arith(builder, "flush_%s", type), d, d, NONE, NONE);
        if (form->sat)
                ptx_emit(builder, ptx_arith(builder, "sat_%s", type), d, d, NONE, NONE);
        if (form->relu)
                ptx_emit(builder, ptx_arith(builder, "relu_%s", type), d, d, NONE, NONE);
}

static void emit_float(struct ptx_builder *builder, const struct float_form *form, const char *name, int directed,
                       const ptx_ref source[3])
{
        ptx_ref d = ptx_destination(builder, 0, form->type);
        const char *ftz = form->ftz && form->type == PTX_F32 ? "ftz_" : "";
        const char *type = ptx_types[form->type].name;
        struct ptx_insn *insn;

        if (form->rounding == PTX_ROUND_NEAREST) {
                ptx_emit(builder, ptx_arith(builder, "%s_%s%s", name, ftz, type), d, source[0], source[1], source[2]);
        } else if (directed == NOT_DIRECTED) {
                ptx_refuse(builder, "no directed rounding");
        } else {
                ptx_ref a = source[0];

                insn = ptx_emit(builder, ptx_arith(builder, "directed_%s%s", ftz, type), d, a,
                                source[1] == NONE ? a : source[1], source[2] == NONE ? a : source[2]);
                insn->mode = (uint8_t)form->rounding;
                insn->aux = (uint32_t)directed;
        }
        finish(builder, form, d);
}

static void decode_float1(struct ptx_builder *builder, const char *name, int directed)
{
        struct float_form form = take_form(builder);
        ptx_ref source[3] = {NONE, NONE, NONE};

        if (!ptx_count_operands(builder, 2, 2))
                return;
        source[0] = take_source(builder, 1, &form);
        emit_float(builder, &form, name, directed, source);
}

void ptx_decode_float2(struct ptx_builder *builder, const char *name, int directed)
{
        struct float_form form = take_form(builder);
        ptx_ref source[3] = {NONE, NONE, NONE};

        if (!ptx_count_operands(builder, 3, 3))
                return;
        source[0] = take_source(builder, 1, &form);
        source[1] = take_source(builder, 2, &form);
        emit_float(builder, &form, name, directed, source);
}

void ptx_decode_fma(struct ptx_builder *builder)
{
        struct float_form form = take_form(builder);
        ptx_ref source[3];

        if (!ptx_count_operands(builder, 4, 4))
                return;
        for (unsigned i = 0; i < 3; i++)
                source[i] = take_source(builder, i + 1, &form);
        emit_float(builder, &form, "fma", PTX_DIRECTED_FMA, source);
}

void ptx_decode_float_min_max(struct ptx_builder *builder, const char *name)
{
        struct ptx_statement *s = &builder->statement;
        bool nan = ptx_take(s, PTX_FLAG_NANP), xorsign = ptx_take(s, PTX_FLAG_XORSIGN);
        char form[32];

        if (xorsign && (!ptx_take(s, PTX_FLAG_ABS) || nan)) {
                ptx_refuse(builder, "this combination of modifiers is not implemented");
                return;
        }
        snprintf(form, sizeof(form), "%s%s", name, xorsign ? "_xorsign" : nan ? "_nan" : "");
        ptx_decode_float2(builder, form, NOT_DIRECTED);
}

static void decode_fma(struct ptx_builder *builder)
{
        ptx_decode_fma(builder);
}

static void decode_rcp(struct ptx_builder *builder)
{
        bool gross = builder->statement.flags[PTX_FLAG_APPROX] && ptx_peek_type(builder) == PTX_F64;

        decode_float1(builder, gross ? "rcp_approx" : "rcp", PTX_DIRECTED_RCP);
}

static void decode_sqrt(struct ptx_builder *builder)
{
        decode_float1(builder, "sqrt", PTX_DIRECTED_SQRT);
}

static void decode_rsqrt(struct ptx_builder *builder)
{
        bool gross = builder->statement.flags[PTX_FLAG_FTZ] && ptx_peek_type(builder) == PTX_F64;

        decode_float1(builder, gross ? "rsqrt_approx" : "rsqrt", NOT_DIRECTED);
}

static void decode_sin(struct ptx_builder *builder)
{
        decode_float1(builder, "sin", NOT_DIRECTED);
}

static void decode_cos(struct ptx_builder *builder)
{
        decode_float1(builder, "cos", NOT_DIRECTED);
}

static void decode_ex2(struct ptx_builder *builder)
{
        decode_float1(builder, "ex2", NOT_DIRECTED);
}

static void decode_lg2(struct ptx_builder *builder)
{
        decode_float1(builder, "lg2", NOT_DIRECTED);
}

static void decode_tanh(struct ptx_builder *builder)
{
        decode_float1(builder, "tanh", NOT_DIRECTED);
}

static void decode_copysign(struct ptx_builder *builder)
{
        ptx_decode_float2(builder, "copysign", NOT_DIRECTED);
}

const struct ptx_decoder_entry ptx_decoders_float[] = {
        {"fma", decode_fma},   {"rcp", decode_rcp},           {"sqrt", decode_sqrt}, {"rsqrt", decode_rsqrt},
        {"sin", decode_sin},   {"cos", decode_cos},           {"ex2", decode_ex2},   {"lg2", decode_lg2},
        {"tanh", decode_tanh}, {"copysign", decode_copysign}, {NULL, NULL},
};
