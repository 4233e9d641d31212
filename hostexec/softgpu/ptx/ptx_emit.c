/* Operands to references, and instructions into the function being built. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ptx_build.h"
#include "ptx_machine.h"

bool ptx_take(struct ptx_statement *statement, enum ptx_flag flag)
{
        bool present = statement->flags[flag];

        statement->flags[flag] = 0;
        return present;
}

enum ptx_type ptx_peek_type(const struct ptx_builder *builder)
{
        const struct ptx_statement *s = &builder->statement;

        return s->types_taken < s->type_count ? s->types[s->types_taken] : PTX_NONE;
}

enum ptx_type ptx_take_type(struct ptx_builder *builder)
{
        struct ptx_statement *s = &builder->statement;

        if (s->types_taken < s->type_count)
                return s->types[s->types_taken++];
        ptx_fail(builder, PTX_INVALID, s->line, "'%.*s' needs a type", (int)(s->text_bytes < 64 ? s->text_bytes : 64),
                 s->text);
        return PTX_NONE;
}

void ptx_refuse(struct ptx_builder *builder, const char *why)
{
        const struct ptx_statement *s = &builder->statement;

        ptx_fail(builder, PTX_UNSUPPORTED, s->line, "'%.*s': %s", (int)(s->text_bytes < 100 ? s->text_bytes : 100),
                 s->text, why);
}

bool ptx_count_operands(struct ptx_builder *builder, unsigned min, unsigned max)
{
        const struct ptx_statement *s = &builder->statement;

        if (s->operand_count >= min && s->operand_count <= max)
                return true;
        ptx_fail(builder, PTX_INVALID, s->line, "'%.*s' has %u operands, not %u to %u",
                 (int)(s->text_bytes < 64 ? s->text_bytes : 64), s->text, s->operand_count, min, max);
        return false;
}

struct ptx_insn *ptx_emit(struct ptx_builder *builder, ptx_handler run, ptx_ref d, ptx_ref a, ptx_ref b, ptx_ref c)
{
        const struct ptx_statement *s = &builder->statement;
        struct ptx_insn *insn;

        if (builder->code_count == PTX_FUNCTION_INSNS_MAX)
                ptx_fail(builder, PTX_UNSUPPORTED, s->line, "function of more than %u instructions",
                         PTX_FUNCTION_INSNS_MAX);
        if (builder->status != PTX_OK || !ptx_grow(builder, (void **)&builder->code, &builder->code_capacity,
                                                   builder->code_count + 1, sizeof(*builder->code)))
                return &builder->discarded;
        insn = &builder->code[builder->code_count++];
        *insn = (struct ptx_insn){.run = run,
                                  .kind = PTX_KIND_OP,
                                  .roles = d == PTX_REF_NONE ? 0 : PTX_ROLE_D,
                                  .guard = s->guarded ? s->guard : PTX_REF_NONE,
                                  .negated = s->guarded && s->guard_negated,
                                  .d = d,
                                  .a = a,
                                  .b = b,
                                  .c = c,
                                  .e = PTX_REF_NONE,
                                  .line = s->line};
        return insn;
}

/* Constants are stored as the 32 equal lanes a register would have, so that no handler tells them apart. */
static bool store_constant(struct ptx_builder *builder, uint64_t value, unsigned bytes, uint32_t *offset)
{
        uint32_t size = bytes == 1 ? 64 : (bytes * PTX_LANES + 63) & ~63u;

        if (builder->constants_bytes + size > PTX_CONSTANT_BYTES_MAX) {
                ptx_fail(builder, PTX_UNSUPPORTED, builder->statement.line, "function with over %u bytes of constants",
                         PTX_CONSTANT_BYTES_MAX);
                return false;
        }
        if (!ptx_grow(builder, (void **)&builder->constants, &builder->constants_capacity,
                      builder->constants_bytes + size, 1) ||
            !ptx_grow(builder, (void **)&builder->constant_chain, &builder->constant_chain_capacity,
                      (builder->constants_bytes + size) / 64, sizeof(*builder->constant_chain)))
                return false;
        *offset = builder->constants_bytes;
        builder->constants_bytes += size;
        if (bytes == 1) { /* a predicate: one word of lane bits */
                memset(builder->constants + *offset, value ? 0xff : 0, size);
                return true;
        }
        for (unsigned lane = 0; lane < PTX_LANES; lane++)
                memcpy(builder->constants + *offset + lane * bytes, &value, bytes);
        return true;
}

ptx_ref ptx_constant(struct ptx_builder *builder, uint64_t value, unsigned bytes)
{
        uint32_t offset, *bucket;

        if (builder->status != PTX_OK)
                return PTX_REF_NONE;
        if (!builder->constant_buckets) {
                builder->constant_buckets = calloc(PTX_CONSTANT_BUCKETS, sizeof(*builder->constant_buckets));
                if (!builder->constant_buckets) {
                        ptx_fail(builder, PTX_OUT_OF_MEMORY, builder->statement.line, "no memory for constants");
                        return PTX_REF_NONE;
                }
        }
        if (bytes == 1)
                value = value != 0;
        else if (bytes < 8)
                value &= (1ull << bytes * 8) - 1;
        bucket = &builder->constant_buckets[ptx_hash((const char *)&value, sizeof(value)) % PTX_CONSTANT_BUCKETS];
        for (uint32_t at = *bucket; at; at = builder->constant_chain[(at - 1) / 64]) {
                uint64_t there = 0;

                /* The size is part of the identity: it is kept in the low bits of the chained offset. */
                if (((at - 1) & 63) != bytes)
                        continue;
                memcpy(&there, builder->constants + ((at - 1) & ~63u), bytes);
                if (bytes == 1)
                        there = there != 0;
                if (there == value)
                        return ((at - 1) & ~63u) | PTX_REF_CONSTANT;
        }
        if (!store_constant(builder, value, bytes, &offset))
                return PTX_REF_NONE;
        builder->constant_chain[offset / 64] = *bucket;
        *bucket = (offset | bytes) + 1;
        return offset | PTX_REF_CONSTANT;
}

/* The offset of a shared variable becomes known when the module is complete: a constant of its own, filled in then. */
static ptx_ref shared_address(struct ptx_builder *builder, struct ptx_variable *variable, int64_t addend,
                              unsigned bytes)
{
        struct ptx_fixup *fixup;
        uint32_t offset;

        if (!ptx_grow(builder, (void **)&builder->fixups, &builder->fixup_capacity, builder->fixup_count + 1,
                      sizeof(*builder->fixups)) ||
            !store_constant(builder, 0, bytes, &offset))
                return PTX_REF_NONE;
        fixup = &builder->fixups[builder->fixup_count++];
        *fixup = (struct ptx_fixup){.variable = variable, .constant = offset, .bytes = bytes, .addend = addend};
        return offset | PTX_REF_CONSTANT;
}

/* An instruction that computes an address or reads a special register must run whatever the guard says: its result is a
 * temporary that only the guarded instruction reads. */
static ptx_ref emit_special(struct ptx_builder *builder, uint32_t special, enum ptx_type type, int64_t offset)
{
        bool guarded = builder->statement.guarded;
        ptx_ref temporary = ptx_register_new(builder, type);
        struct ptx_insn *insn;

        builder->statement.guarded = false;
        insn = ptx_emit(builder, ptx_op_special, temporary, PTX_REF_NONE, PTX_REF_NONE, PTX_REF_NONE);
        insn->aux = special;
        insn->bytes = ptx_types[type].bytes;
        insn->offset = offset;
        builder->statement.guarded = guarded;
        return temporary;
}

static void note_shared(struct ptx_builder *builder, struct ptx_variable *variable)
{
        if (builder->shared_count && builder->shared[builder->shared_count - 1] == variable)
                return;
        if (ptx_grow(builder, (void **)&builder->shared, &builder->shared_capacity, builder->shared_count + 1,
                     sizeof(*builder->shared)))
                builder->shared[builder->shared_count++] = variable;
}

static ptx_ref variable_address(struct ptx_builder *builder, const struct ptx_operand *operand, unsigned bytes)
{
        struct ptx_variable *variable = operand->variable;

        if (variable->space == PTX_SPACE_SHARED) {
                note_shared(builder, variable);
                if (variable->external)
                        return emit_special(builder, PTX_SPECIAL_DYNAMIC_SHARED, bytes == 4 ? PTX_U32 : PTX_U64,
                                            operand->offset);
                return shared_address(builder, variable, operand->offset, bytes);
        }
        if (variable->space == PTX_SPACE_LOCAL)
                return emit_special(builder, PTX_SPECIAL_LOCAL_BASE, bytes == 4 ? PTX_U32 : PTX_U64,
                                    operand->offset + (int64_t)variable->address);
        if (variable->type == PTX_TEXREF || variable->type == PTX_SURFREF) {
                ptx_refuse(builder, "the address of a texture or surface reference");
                return PTX_REF_NONE;
        }
        if (variable->external || bytes != 8) {
                ptx_fail(builder, PTX_INVALID, builder->statement.line,
                         variable->external ? "external variable '%s' is not defined in this module"
                                            : "address of '%s' does not fit its register",
                         variable->name);
                return PTX_REF_NONE;
        }
        return ptx_constant(builder, variable->address + (uint64_t)operand->offset, 8);
}

static void bad_operand(struct ptx_builder *builder, const struct ptx_operand *operand, enum ptx_type type)
{
        const struct ptx_statement *s = &builder->statement;

        if (operand->kind == PTX_OPERAND_NAME)
                ptx_fail(builder, PTX_INVALID, s->line, "'%.*s' is not declared",
                         (int)(operand->bytes < 200 ? operand->bytes : 200), operand->text);
        else
                ptx_fail(builder, PTX_INVALID, s->line, "'%.*s': operand '%.*s' does not fit .%s",
                         (int)(s->text_bytes < 64 ? s->text_bytes : 64), s->text,
                         (int)(operand->bytes < 64 ? operand->bytes : 64), operand->bytes ? operand->text : "",
                         ptx_types[type].name);
}

static bool immediate_bits(const struct ptx_operand *operand, enum ptx_type type, uint64_t *bits)
{
        bool is_float = ptx_types[type].kind == 'f';
        unsigned bytes = ptx_types[type].bytes;

        *bits = operand->value;
        if (operand->kind == PTX_OPERAND_INTEGER)
                return !is_float || bytes == 2 || type == PTX_F16X2 || type == PTX_BF16X2;
        if (operand->kind == PTX_OPERAND_FLOAT32) {
                if (type == PTX_F64) {
                        uint32_t low = (uint32_t)operand->value;
                        float narrow;
                        double wide;

                        memcpy(&narrow, &low, sizeof(narrow));
                        wide = narrow;
                        memcpy(bits, &wide, sizeof(wide));
                }
                return bytes >= 4;
        }
        if (type == PTX_F32) {
                double wide;
                float narrow;
                uint32_t low;

                memcpy(&wide, &operand->value, sizeof(wide));
                narrow = (float)wide;
                memcpy(&low, &narrow, sizeof(low));
                *bits = low;
        }
        return type == PTX_F32 || bytes == 8;
}

static ptx_ref negate_predicate(struct ptx_builder *builder, ptx_ref predicate)
{
        bool guarded = builder->statement.guarded;
        ptx_ref temporary = ptx_register_new(builder, PTX_PRED);

        builder->statement.guarded = false;
        ptx_emit(builder, ptx_arith(builder, "not_pred"), temporary, predicate, PTX_REF_NONE, PTX_REF_NONE);
        builder->statement.guarded = guarded;
        return temporary;
}

static unsigned register_bytes(enum ptx_type type)
{
        return type == PTX_PRED ? 1 : ptx_types[type].bytes == 1 ? 2 : ptx_types[type].bytes;
}

ptx_ref ptx_source_wide(struct ptx_builder *builder, const struct ptx_operand *operand, enum ptx_type type,
                        unsigned *bytes)
{
        uint64_t bits;

        *bytes = register_bytes(type);
        if (builder->status != PTX_OK)
                return PTX_REF_NONE;
        if (operand->is_address || (operand->negated && type != PTX_PRED) || operand->second >= 0) {
                bad_operand(builder, operand, type);
                return PTX_REF_NONE;
        }
        switch (operand->kind) {
        case PTX_OPERAND_REGISTER:
                if ((operand->type == PTX_PRED) != (type == PTX_PRED) || register_bytes(operand->type) < *bytes)
                        break;
                *bytes = register_bytes(operand->type);
                return operand->negated ? negate_predicate(builder, operand->ref) : operand->ref;
        case PTX_OPERAND_INTEGER:
        case PTX_OPERAND_FLOAT32:
        case PTX_OPERAND_FLOAT64:
                if (!immediate_bits(operand, type, &bits))
                        break;
                if (operand->negated)
                        bits = !bits;
                return ptx_constant(builder, bits, *bytes);
        case PTX_OPERAND_SPECIAL:
                if (type == PTX_PRED || register_bytes(operand->type) != *bytes)
                        break;
                return emit_special(builder, operand->special, operand->type, 0);
        case PTX_OPERAND_VARIABLE:
                if (*bytes != 4 && *bytes != 8)
                        break;
                return variable_address(builder, operand, *bytes);
        case PTX_OPERAND_FORMAL:
                if (*bytes != 4 && *bytes != 8)
                        break;
                return ptx_constant(builder, operand->formal->where + (uint64_t)operand->offset, *bytes);
        case PTX_OPERAND_FUNCTION:
                if (*bytes != 8)
                        break;
                operand->function->address_taken = true;
                return ptx_constant(builder,
                                    PTX_FUNCTION_ADDRESS + (uint64_t)operand->function->index * PTX_FUNCTION_STRIDE, 8);
        case PTX_OPERAND_VECTOR:
        case PTX_OPERAND_SINK:
        case PTX_OPERAND_NAME:
                break;
        }
        bad_operand(builder, operand, type);
        return PTX_REF_NONE;
}

ptx_ref ptx_source_operand(struct ptx_builder *builder, const struct ptx_operand *operand, enum ptx_type type)
{
        unsigned bytes;
        ptx_ref ref = ptx_source_wide(builder, operand, type, &bytes);

        if (builder->status == PTX_OK && bytes != register_bytes(type))
                bad_operand(builder, operand, type);
        return ref;
}

ptx_ref ptx_source(struct ptx_builder *builder, unsigned operand, enum ptx_type type)
{
        return ptx_source_operand(builder, &builder->statement.operands[operand], type);
}

ptx_ref ptx_destination_wide(struct ptx_builder *builder, const struct ptx_operand *operand, enum ptx_type type,
                             unsigned *bytes)
{
        *bytes = register_bytes(type);
        if (builder->status != PTX_OK)
                return PTX_REF_NONE;
        if (!operand->is_address && !operand->negated && operand->kind == PTX_OPERAND_SINK)
                return ptx_register_new(builder, type);
        if (operand->is_address || operand->negated || operand->kind != PTX_OPERAND_REGISTER ||
            (operand->type == PTX_PRED) != (type == PTX_PRED) || register_bytes(operand->type) < *bytes) {
                bad_operand(builder, operand, type);
                return PTX_REF_NONE;
        }
        *bytes = register_bytes(operand->type);
        return operand->ref;
}

ptx_ref ptx_destination_operand(struct ptx_builder *builder, const struct ptx_operand *operand, enum ptx_type type)
{
        unsigned bytes;
        ptx_ref ref = ptx_destination_wide(builder, operand, type, &bytes);

        if (builder->status == PTX_OK && bytes != register_bytes(type))
                bad_operand(builder, operand, type);
        return ref;
}

ptx_ref ptx_destination(struct ptx_builder *builder, unsigned operand, enum ptx_type type)
{
        return ptx_destination_operand(builder, &builder->statement.operands[operand], type);
}

void ptx_set_address(struct ptx_builder *builder, const struct ptx_operand *operand, ptx_ref *base, int64_t *offset,
                     bool *base32)
{
        struct ptx_operand address = *operand;

        if (operand->count)
                bad_operand(builder, operand, PTX_U64); /* coordinates */
        *base = PTX_REF_NONE;
        *offset = operand->offset;
        *base32 = false;
        address.is_address = false;
        if (!operand->is_address) {
                bad_operand(builder, operand, PTX_U64);
        } else if (operand->kind == PTX_OPERAND_REGISTER) {
                *base32 = register_bytes(operand->type) == 4;
                *base = ptx_source_operand(builder, &address, *base32 ? PTX_U32 : PTX_U64);
        } else if (operand->kind == PTX_OPERAND_INTEGER) {
                *offset += (int64_t)operand->value;
        } else if (operand->kind == PTX_OPERAND_FORMAL) {
                *offset += operand->formal->where;
        } else if (operand->kind == PTX_OPERAND_VARIABLE) {
                *offset = 0;
                *base = variable_address(builder, &address, 8);
        } else {
                bad_operand(builder, operand, PTX_U64);
        }
}

ptx_handler ptx_arith(struct ptx_builder *builder, const char *format, ...)
{
        char key[64];
        va_list arguments;
        ptx_handler handler;

        va_start(arguments, format);
        vsnprintf(key, sizeof(key), format, arguments);
        va_end(arguments);
        handler = ptx_arith_find(key);
        if (!handler)
                ptx_refuse(builder, "this form is not implemented");
        return handler;
}
