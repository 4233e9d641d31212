/* mov: registers, constants, addresses, special registers, packing and unpacking; cvta and isspacep. */
#include "ptx_build.h"
#include "ptx_machine.h"
#include "ptx_memory.h"

#define NONE PTX_REF_NONE

static enum ptx_type bits_type(unsigned bytes)
{
        return bytes == 1 ? PTX_B8 : bytes == 2 ? PTX_B16 : bytes == 4 ? PTX_B32 : PTX_B64;
}

static void emit_pack(struct ptx_builder *builder, ptx_ref d, unsigned element_bytes, ptx_ref low, ptx_ref high)
{
        ptx_emit(builder, ptx_arith(builder, "pack_%u", element_bytes * 8), d, low, high, NONE);
}

/* mov.b64 d, {a, b, c, d}: pairs of neighbours, then pairs of pairs. */
static void decode_pack(struct ptx_builder *builder, enum ptx_type type, const struct ptx_operand *vector)
{
        const struct ptx_operand *elements = &builder->statement.elements[vector->first];
        unsigned bytes = vector->count ? ptx_types[type].bytes / vector->count : 0;
        ptx_ref parts[4];
        unsigned count = vector->count;

        if ((count != 2 && count != 4) || bytes * count != ptx_types[type].bytes || bytes == 0) {
                ptx_refuse(builder, "elements do not fill the destination");
                return;
        }
        for (unsigned i = 0; i < count; i++) {
                unsigned wide;

                parts[i] = bytes == 1 ? ptx_source_wide(builder, &elements[i], PTX_B8, &wide)
                                      : ptx_source_operand(builder, &elements[i], bits_type(bytes));
                if (bytes == 1 && builder->status == PTX_OK && wide != 2)
                        ptx_refuse(builder, "8-bit elements need 16-bit registers");
        }
        for (; count > 2; count /= 2, bytes *= 2)
                for (unsigned i = 0; i < count / 2; i++) {
                        ptx_ref pair = ptx_register_new(builder, bits_type(bytes * 2));

                        emit_pack(builder, pair, bytes, parts[2 * i], parts[2 * i + 1]);
                        parts[i] = pair;
                }
        emit_pack(builder, ptx_destination(builder, 0, type), bytes, parts[0], parts[1]);
}

static void decode_unpack(struct ptx_builder *builder, enum ptx_type type, const struct ptx_operand *vector)
{
        const struct ptx_operand *elements = &builder->statement.elements[vector->first];
        unsigned bytes = vector->count ? ptx_types[type].bytes / vector->count : 0;
        ptx_ref a = ptx_source(builder, 1, type);

        if (bytes * vector->count != ptx_types[type].bytes || vector->count < 2 || bytes == 0) {
                ptx_refuse(builder, "elements do not fill the source");
                return;
        }
        for (unsigned i = 0; i < vector->count; i++) {
                struct ptx_insn *insn;
                ptx_ref d;

                if (elements[i].kind == PTX_OPERAND_SINK)
                        continue;
                d = ptx_destination_operand(builder, &elements[i], bytes == 1 ? PTX_B16 : bits_type(bytes));
                insn = ptx_emit(builder, ptx_arith(builder, "extract_%u_%u", bytes * 8, ptx_types[type].bytes * 8u), d,
                                a, NONE, NONE);
                insn->aux = i * bytes * 8;
        }
}

static void decode_mov(struct ptx_builder *builder)
{
        struct ptx_statement *s = &builder->statement;
        enum ptx_type type = ptx_take_type(builder);
        uint32_t before = builder->code_count;
        ptx_handler run;
        ptx_ref a, d;

        if (!ptx_count_operands(builder, 2, 2))
                return;
        if (s->operands[1].kind == PTX_OPERAND_VECTOR) {
                decode_pack(builder, type, &s->operands[1]);
                return;
        }
        if (s->operands[0].kind == PTX_OPERAND_VECTOR) {
                decode_unpack(builder, type, &s->operands[0]);
                return;
        }
        a = ptx_source(builder, 1, type);
        d = ptx_destination(builder, 0, type);
        if (builder->status == PTX_OK && builder->code_count == before + 1 &&
            builder->code[before].run == ptx_op_special) {
                /* The temporary of a special register or address is the destination itself. */
                builder->code[before].d = d;
                builder->code[before].guard = s->guarded ? s->guard : PTX_REF_NONE;
                builder->code[before].negated = s->guarded && s->guard_negated;
                return;
        }
        run = type == PTX_PRED ? ptx_arith(builder, "mov_pred")
                               : ptx_arith(builder, "mov_%u", ptx_types[type].bytes * 8u);
        ptx_emit(builder, run, d, a, NONE, NONE);
}

static bool take_window(struct ptx_statement *s, enum ptx_space *space)
{
        static const struct {
                enum ptx_flag flag;
                enum ptx_space space;
        } spaces[] = {
                {PTX_FLAG_GLOBAL, PTX_SPACE_GLOBAL},     {PTX_FLAG_SHARED, PTX_SPACE_SHARED},
                {PTX_FLAG_SHARED_CTA, PTX_SPACE_SHARED}, {PTX_FLAG_LOCAL, PTX_SPACE_LOCAL},
                {PTX_FLAG_CONST, PTX_SPACE_CONST},       {PTX_FLAG_PARAM, PTX_SPACE_PARAM},
                {PTX_FLAG_PARAM_ENTRY, PTX_SPACE_PARAM},
        };

        for (unsigned i = 0; i < sizeof(spaces) / sizeof(spaces[0]); i++)
                if (ptx_take(s, spaces[i].flag)) {
                        *space = spaces[i].space;
                        return true;
                }
        return false;
}

static void decode_cvta(struct ptx_builder *builder)
{
        struct ptx_statement *s = &builder->statement;
        bool to = ptx_take(s, PTX_FLAG_TO);
        enum ptx_space space;
        enum ptx_type type;
        struct ptx_insn *insn;
        ptx_ref a, d;

        if (!take_window(s, &space)) {
                ptx_refuse(builder, "needs a state space");
                return;
        }
        if (space == PTX_SPACE_PARAM && !builder->function->is_entry)
                space = PTX_SPACE_LOCAL;
        type = ptx_take_type(builder);
        if (!ptx_count_operands(builder, 2, 2))
                return;
        if (ptx_types[type].bytes != 8) {
                ptx_refuse(builder, "32-bit generic addresses do not exist here");
                return;
        }
        a = ptx_source(builder, 1, type);
        d = ptx_destination(builder, 0, type);
        if (space == PTX_SPACE_GLOBAL || space == PTX_SPACE_CONST) {
                ptx_emit(builder, ptx_arith(builder, "mov_64"), d, a, NONE, NONE);
                return;
        }
        insn = ptx_emit(builder, to ? ptx_op_from_generic : ptx_op_to_generic, d, a, NONE, NONE);
        insn->space = (uint8_t)space;
}

static void decode_isspacep(struct ptx_builder *builder)
{
        struct ptx_statement *s = &builder->statement;
        enum ptx_space space;
        struct ptx_insn *insn;
        ptx_ref a;

        if (!take_window(s, &space)) {
                ptx_refuse(builder, "needs a state space");
                return;
        }
        if (!ptx_count_operands(builder, 2, 2))
                return;
        a = ptx_source(builder, 1, PTX_U64);
        insn = ptx_emit(builder, ptx_op_is_space, ptx_destination(builder, 0, PTX_PRED), a, NONE, NONE);
        insn->space = (uint8_t)space;
}

const struct ptx_decoder_entry ptx_decoders_move[] = {
        {"mov", decode_mov}, {"cvta", decode_cvta}, {"isspacep", decode_isspacep}, {NULL, NULL}};
