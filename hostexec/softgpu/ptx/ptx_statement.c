/* The syntax of one instruction: guard, mnemonic with modifiers, operands. Meaning is given by ptx_decode*.c. */
#include <stdlib.h>
#include <string.h>

#include "ptx_build.h"

static const char *const flag_names[PTX_FLAGS] = {
#define PTX_FLAG(id, text) [PTX_FLAG_##id] = text,
#include "ptx_flags.def"
#undef PTX_FLAG
};

/* Modifiers by hash, types first: an open-addressed table of 1 + index, filled once. */
#define MODIFIER_BUCKETS 1024u

static uint16_t modifier_table[MODIFIER_BUCKETS];
static pthread_once_t modifier_once = PTHREAD_ONCE_INIT;

static const char *modifier_name(unsigned index)
{
        return index < PTX_TYPES ? ptx_types[index].name : flag_names[index - PTX_TYPES];
}

static void fill_modifier_table(void)
{
        for (unsigned i = PTX_PRED; i < (unsigned)PTX_TYPES + PTX_FLAGS; i++) {
                const char *name = modifier_name(i);
                uint32_t slot = ptx_hash(name, strlen(name)) % MODIFIER_BUCKETS;

                while (modifier_table[slot])
                        slot = (slot + 1) % MODIFIER_BUCKETS;
                modifier_table[slot] = (uint16_t)(i + 1);
        }
}

static void add_modifier(struct ptx_statement *s, const struct ptx_token *token)
{
        uint32_t slot = ptx_hash(token->text, token->bytes) % MODIFIER_BUCKETS;

        pthread_once(&modifier_once, fill_modifier_table);
        for (; modifier_table[slot]; slot = (slot + 1) % MODIFIER_BUCKETS) {
                unsigned index = modifier_table[slot] - 1u;

                if (!ptx_token_is(token, modifier_name(index)))
                        continue;
                if (index >= PTX_TYPES) {
                        s->flags[index - PTX_TYPES] = 1;
                        return;
                }
                if (s->type_count == sizeof(s->types) / sizeof(s->types[0]))
                        break;
                s->types[s->type_count++] = (enum ptx_type)index;
                return;
        }
        if (!s->unknown.bytes)
                s->unknown = *token;
}

static struct ptx_operand *new_elements(struct ptx_builder *builder, unsigned count)
{
        struct ptx_statement *s = &builder->statement;

        if (s->element_count + count > PTX_ELEMENTS_MAX) {
                ptx_fail(builder, PTX_UNSUPPORTED, s->line, "instruction with more than %u list elements",
                         PTX_ELEMENTS_MAX);
                return NULL;
        }
        s->element_count += count;
        return &s->elements[s->element_count - count];
}

/* What a name stands for, innermost scope first. */
static void resolve_name(struct ptx_builder *builder, struct ptx_operand *operand)
{
        const struct ptx_symbol *symbol;
        struct ptx_local *local;

        operand->kind = PTX_OPERAND_NAME;
        if (operand->bytes == 1 && operand->text[0] == '_') {
                operand->kind = PTX_OPERAND_SINK;
                return;
        }
        if (ptx_register_find(builder, operand->text, operand->bytes, &operand->ref, &operand->type)) {
                operand->kind = PTX_OPERAND_REGISTER;
                return;
        }
        if (operand->bytes == 7 && !memcmp(operand->text, "WARP_SZ", 7)) {
                operand->kind = PTX_OPERAND_INTEGER;
                operand->value = PTX_LANES;
                return;
        }
        local = ptx_local_find(builder, operand->text, operand->bytes);
        if (local && local->kind == PTX_LOCAL_VARIABLE) {
                operand->kind = PTX_OPERAND_VARIABLE;
                operand->variable = local->variable;
        } else if (local && local->kind == PTX_LOCAL_FORMAL) {
                operand->kind = PTX_OPERAND_FORMAL;
                operand->formal = local->formal;
        }
        if (local)
                return;
        symbol = ptx_module_lookup(builder->module, operand->text, operand->bytes);
        if (symbol && symbol->variable) {
                operand->kind = PTX_OPERAND_VARIABLE;
                operand->variable = symbol->variable;
        } else if (symbol) {
                operand->kind = PTX_OPERAND_FUNCTION;
                operand->function = symbol->function;
        }
}

/* %tid.x and its like; the part behind the dot is a token of its own. */
static void resolve_special(struct ptx_builder *builder, struct ptx_operand *operand)
{
        char name[48];
        size_t bytes = operand->bytes;

        if (bytes >= sizeof(name) - 3)
                return;
        memcpy(name, operand->text, bytes);
        if (builder->token.kind == PTX_TOKEN_DOT && builder->token.bytes == 1) {
                name[bytes++] = '.';
                name[bytes++] = builder->token.text[0];
                ptx_advance(builder);
        }
        if (ptx_special_find(name, bytes, &operand->special, &operand->type))
                operand->kind = PTX_OPERAND_SPECIAL;
        else
                ptx_fail(builder, PTX_INVALID, builder->token.line, "'%.*s' is no register, declared or special",
                         (int)bytes, name);
}

/* + 4, +-4, - 4 behind a symbol or an address register. */
static void parse_offset(struct ptx_builder *builder, struct ptx_operand *operand)
{
        bool negative;
        uint64_t value;

        if (ptx_accept_punct(builder, '-')) {
                negative = true;
        } else {
                if (!ptx_accept_punct(builder, '+'))
                        return;
                negative = ptx_accept_punct(builder, '-');
        }
        if (ptx_expect_integer(builder, INT64_MAX, &value))
                operand->offset = negative ? -(int64_t)value : (int64_t)value;
}

static void parse_number(struct ptx_builder *builder, struct ptx_operand *operand)
{
        bool negative = false, inverted = false;

        if (ptx_accept_punct(builder, '-'))
                negative = true;
        else if (ptx_accept_punct(builder, '~'))
                inverted = true;
        else
                ptx_accept_punct(builder, '+');
        operand->value = builder->token.value;
        if (builder->token.kind == PTX_TOKEN_INTEGER) {
                operand->kind = PTX_OPERAND_INTEGER;
                if (negative)
                        operand->value = 0 - operand->value;
                else if (inverted)
                        operand->value = ~operand->value;
        } else if (builder->token.kind == PTX_TOKEN_FLOAT32 && !inverted) {
                operand->kind = PTX_OPERAND_FLOAT32;
                operand->value ^= negative ? 1ull << 31 : 0;
        } else if (builder->token.kind == PTX_TOKEN_FLOAT64 && !inverted) {
                operand->kind = PTX_OPERAND_FLOAT64;
                operand->value ^= negative ? 1ull << 63 : 0;
        } else {
                ptx_fail_token(builder, "operand");
                return;
        }
        ptx_advance(builder);
}

/* A register, number, symbol or special register: what may stand in a vector, a list or an address. */
static void parse_simple(struct ptx_builder *builder, struct ptx_operand *operand)
{
        memset(operand, 0, sizeof(*operand));
        operand->second = -1;
        operand->ref = PTX_REF_NONE;
        if (ptx_accept_punct(builder, '!'))
                operand->negated = true;
        if (builder->token.kind != PTX_TOKEN_NAME) {
                parse_number(builder, operand);
                return;
        }
        operand->text = builder->token.text;
        operand->bytes = builder->token.bytes;
        ptx_advance(builder);
        resolve_name(builder, operand);
        if (operand->kind == PTX_OPERAND_NAME && operand->text[0] == '%')
                resolve_special(builder, operand);
}

static void parse_list(struct ptx_builder *builder, struct ptx_operand *operand, char close)
{
        memset(operand, 0, sizeof(*operand));
        operand->kind = PTX_OPERAND_VECTOR;
        operand->second = -1;
        operand->first = builder->statement.element_count;
        if (ptx_accept_punct(builder, close))
                return;
        do {
                struct ptx_operand *element = new_elements(builder, 1);

                if (!element)
                        return;
                parse_simple(builder, element);
                operand->count++;
        } while (builder->status == PTX_OK && ptx_accept_punct(builder, ','));
        if (builder->status == PTX_OK)
                ptx_expect_punct(builder, close);
}

/* Of a texture or surface. A separate sampler may stand before them in PTX of independent mode; not here. */
static void parse_coordinates(struct ptx_builder *builder, struct ptx_operand *operand)
{
        struct ptx_operand list;

        if (!ptx_expect_punct(builder, '{'))
                return;
        parse_list(builder, &list, '}');
        operand->first = list.first;
        operand->count = list.count;
}

static void parse_operand(struct ptx_builder *builder, struct ptx_operand *operand)
{
        if (ptx_accept_punct(builder, '{')) {
                parse_list(builder, operand, '}');
        } else if (ptx_accept_punct(builder, '(')) {
                parse_list(builder, operand, ')');
        } else if (ptx_accept_punct(builder, '[')) {
                parse_simple(builder, operand);
                parse_offset(builder, operand);
                operand->is_address = true;
                if (builder->status == PTX_OK && ptx_accept_punct(builder, ','))
                        parse_coordinates(builder, operand);
                if (builder->status == PTX_OK)
                        ptx_expect_punct(builder, ']');
        } else {
                parse_simple(builder, operand);
                if (operand->kind == PTX_OPERAND_VARIABLE || operand->kind == PTX_OPERAND_FORMAL)
                        parse_offset(builder, operand);
                if (builder->status == PTX_OK && ptx_accept_punct(builder, '|')) {
                        struct ptx_operand *second = new_elements(builder, 1);

                        if (!second)
                                return;
                        operand->second = (int32_t)(second - builder->statement.elements);
                        parse_simple(builder, second);
                }
        }
}

static void parse_guard(struct ptx_builder *builder, struct ptx_statement *s)
{
        enum ptx_type type = PTX_NONE;

        if (!ptx_accept_punct(builder, '@'))
                return;
        s->guard_negated = ptx_accept_punct(builder, '!');
        if (builder->token.kind != PTX_TOKEN_NAME ||
            !ptx_register_find(builder, builder->token.text, builder->token.bytes, &s->guard, &type) ||
            type != PTX_PRED) {
                ptx_fail_token(builder, "predicate register");
                return;
        }
        s->guarded = true;
        ptx_advance(builder);
}

void ptx_parse_instruction(struct ptx_builder *builder)
{
        struct ptx_statement *s = &builder->statement;

        /* The operand arrays are large and written before they are read: only the rest is cleared. */
        memset(s, 0, offsetof(struct ptx_statement, operands));
        s->operand_count = 0;
        s->element_count = 0;
        s->guard = PTX_REF_NONE;
        s->line = builder->token.line;
        parse_guard(builder, s);
        if (builder->status != PTX_OK)
                return;
        if (builder->token.kind != PTX_TOKEN_NAME) {
                ptx_fail_token(builder, "instruction");
                return;
        }
        s->name = s->text = builder->token.text;
        s->name_bytes = builder->token.bytes;
        s->text_bytes = s->name_bytes;
        ptx_advance(builder);
        for (unsigned i = 0; builder->token.kind == PTX_TOKEN_DOT; i++) {
                if (i == PTX_MODIFIERS_MAX) {
                        ptx_fail(builder, PTX_INVALID, s->line, "more than %u modifiers", PTX_MODIFIERS_MAX);
                        return;
                }
                add_modifier(s, &builder->token);
                s->text_bytes = (size_t)(builder->token.text + builder->token.bytes - s->text);
                ptx_advance(builder);
        }
        if (ptx_accept_punct(builder, ';'))
                return;
        do {
                if (s->operand_count == PTX_OPERANDS_MAX) {
                        ptx_fail(builder, PTX_INVALID, s->line, "more than %u operands", PTX_OPERANDS_MAX);
                        return;
                }
                parse_operand(builder, &s->operands[s->operand_count++]);
        } while (builder->status == PTX_OK && ptx_accept_punct(builder, ','));
        if (builder->status == PTX_OK)
                ptx_expect_punct(builder, ';');
}
