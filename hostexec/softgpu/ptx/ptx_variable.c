/* Variable declarations of every state space, with initialisers. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "ptx_build.h"

const struct ptx_type_info ptx_types[PTX_TYPES] = {
        [PTX_NONE] = {"none", 0, 'b'},     [PTX_PRED] = {"pred", 1, 'p'},       [PTX_B8] = {"b8", 1, 'b'},
        [PTX_B16] = {"b16", 2, 'b'},       [PTX_B32] = {"b32", 4, 'b'},         [PTX_B64] = {"b64", 8, 'b'},
        [PTX_B128] = {"b128", 16, 'b'},    [PTX_U8] = {"u8", 1, 'u'},           [PTX_U16] = {"u16", 2, 'u'},
        [PTX_U32] = {"u32", 4, 'u'},       [PTX_U64] = {"u64", 8, 'u'},         [PTX_S8] = {"s8", 1, 's'},
        [PTX_S16] = {"s16", 2, 's'},       [PTX_S32] = {"s32", 4, 's'},         [PTX_S64] = {"s64", 8, 's'},
        [PTX_U16X2] = {"u16x2", 4, 'u'},   [PTX_S16X2] = {"s16x2", 4, 's'},     [PTX_F16] = {"f16", 2, 'f'},
        [PTX_F16X2] = {"f16x2", 4, 'f'},   [PTX_BF16] = {"bf16", 2, 'f'},       [PTX_BF16X2] = {"bf16x2", 4, 'f'},
        [PTX_TF32] = {"tf32", 4, 'f'},     [PTX_F32] = {"f32", 4, 'f'},         [PTX_F64] = {"f64", 8, 'f'},
        [PTX_TEXREF] = {"texref", 8, 'o'}, [PTX_SURFREF] = {"surfref", 8, 'o'},
};

struct declaration {
        enum ptx_space space;
        bool is_register;
        bool is_param;
        enum ptx_type type;
        uint32_t vector; /* 1, 2 or 4 */
        uint32_t align;
        bool aligned;
        struct ptx_token name;
        uint64_t elements; /* of `type`, all dimensions */
        bool open;         /* first dimension is [] */
};

static bool accept_type(struct ptx_builder *builder, unsigned first, unsigned end, enum ptx_type *type)
{
        if (builder->token.kind != PTX_TOKEN_DOT)
                return false;
        for (unsigned t = first; t < end; t++)
                if (ptx_token_is(&builder->token, ptx_types[t].name)) {
                        *type = (enum ptx_type)t;
                        ptx_advance(builder);
                        return true;
                }
        return false;
}

bool ptx_accept_type(struct ptx_builder *builder, enum ptx_type *type)
{
        return accept_type(builder, PTX_PRED, PTX_TEXREF, type);
}

/* (.managed) and the like: a soft GPU's memory is host memory anyway. */
static void skip_attribute(struct ptx_builder *builder)
{
        if (!ptx_expect_punct(builder, '('))
                return;
        while (builder->status == PTX_OK && !ptx_accept_punct(builder, ')')) {
                if (builder->token.kind == PTX_TOKEN_END || builder->token.kind == PTX_TOKEN_BAD) {
                        ptx_fail_token(builder, "')'");
                        return;
                }
                ptx_advance(builder);
        }
}

static void parse_alignment(struct ptx_builder *builder, struct declaration *d)
{
        uint64_t align;

        ptx_advance(builder);
        if (!ptx_expect_integer(builder, 4096, &align))
                return;
        if (align == 0 || (align & (align - 1)))
                ptx_fail(builder, PTX_INVALID, builder->token.line, "alignment %" PRIu64 " is no power of two", align);
        d->align = (uint32_t)align;
        d->aligned = true;
}

/* .align, .attribute, .v2, type: in any order the grammar allows, up to the name. */
static void parse_qualifiers(struct ptx_builder *builder, struct declaration *d)
{
        d->vector = 1;
        while (builder->status == PTX_OK && builder->token.kind == PTX_TOKEN_DOT) {
                if (ptx_token_is(&builder->token, "align")) {
                        parse_alignment(builder, d);
                } else if (ptx_token_is(&builder->token, "attribute")) {
                        ptx_advance(builder);
                        skip_attribute(builder);
                } else if (ptx_token_is(&builder->token, "v2") || ptx_token_is(&builder->token, "v4")) {
                        d->vector = (uint32_t)(builder->token.text[1] - '0');
                        ptx_advance(builder);
                } else if (!ptx_accept_type(builder, &d->type) &&
                           !accept_type(builder, PTX_TEXREF, PTX_TYPES, &d->type)) {
                        ptx_fail(builder, PTX_UNSUPPORTED, builder->token.line, "variable type '.%.*s'",
                                 (int)(builder->token.bytes < 64 ? builder->token.bytes : 64), builder->token.text);
                }
        }
        if (builder->status == PTX_OK && d->type == PTX_NONE)
                ptx_fail_token(builder, "type");
}

static void parse_dimensions(struct ptx_builder *builder, struct declaration *d)
{
        d->elements = d->vector;
        d->open = false;
        for (unsigned i = 0; builder->status == PTX_OK && ptx_accept_punct(builder, '['); i++) {
                uint64_t size = 0;

                if (i == PTX_DIMENSIONS_MAX) {
                        ptx_fail(builder, PTX_INVALID, builder->token.line, "array of more than %u dimensions",
                                 PTX_DIMENSIONS_MAX);
                } else if (i == 0 && ptx_at_punct(builder, ']')) {
                        d->open = true;
                } else if (ptx_expect_integer(builder, PTX_VARIABLE_BYTES_MAX, &size)) {
                        if (size && d->elements > PTX_VARIABLE_BYTES_MAX / size)
                                ptx_fail(builder, PTX_INVALID, builder->token.line, "array over %llu bytes",
                                         PTX_VARIABLE_BYTES_MAX);
                        else
                                d->elements *= size;
                }
                ptx_expect_punct(builder, ']');
        }
        if (d->elements > PTX_VARIABLE_BYTES_MAX / 16)
                ptx_fail(builder, PTX_INVALID, builder->token.line, "array over %llu bytes", PTX_VARIABLE_BYTES_MAX);
}

/* The address an initialiser or operand names; false and a failed builder when there is none. */
static bool symbol_address(struct ptx_builder *builder, const struct ptx_token *name, uint64_t *address)
{
        const struct ptx_symbol *symbol = ptx_module_lookup(builder->module, name->text, name->bytes);

        if (symbol && symbol->function) {
                symbol->function->address_taken = true;
                *address = PTX_FUNCTION_ADDRESS + (uint64_t)symbol->function->index * PTX_FUNCTION_STRIDE;
                return true;
        }
        if (symbol && symbol->variable && symbol->variable->space != PTX_SPACE_SHARED && symbol->variable->address) {
                *address = symbol->variable->address;
                return true;
        }
        ptx_fail(builder, PTX_INVALID, name->line, "initialiser names '%.*s', which has no address",
                 (int)(name->bytes < 200 ? name->bytes : 200), name->text);
        return false;
}

/* generic(x), x, x + 4: the number an address stands for. */
static bool parse_address(struct ptx_builder *builder, uint64_t *value)
{
        struct ptx_token name = builder->token;
        bool wrapped = ptx_token_is(&name, "generic");
        uint64_t offset = 0;

        if (name.kind != PTX_TOKEN_NAME) {
                ptx_fail_token(builder, "initialiser");
                return false;
        }
        ptx_advance(builder);
        if (wrapped) {
                ptx_expect_punct(builder, '(');
                name = builder->token;
                ptx_advance(builder);
                ptx_expect_punct(builder, ')');
        }
        if (builder->status != PTX_OK || !symbol_address(builder, &name, value))
                return false;
        if (ptx_accept_punct(builder, '+')) {
                if (!ptx_expect_integer(builder, PTX_VARIABLE_BYTES_MAX, &offset))
                        return false;
                *value += offset;
        }
        return true;
}

/* 0xFF00(x): the byte of an address that the mask selects. */
static bool parse_masked_address(struct ptx_builder *builder, uint64_t mask, uint64_t *value)
{
        ptx_expect_punct(builder, '(');
        if (!parse_address(builder, value) || !ptx_expect_punct(builder, ')'))
                return false;
        *value = mask ? (*value & mask) >> __builtin_ctzll(mask) : 0;
        return true;
}

static void store_number(uint8_t *place, enum ptx_type type, enum ptx_token_kind kind, uint64_t bits)
{
        if (kind == PTX_TOKEN_FLOAT64 && type == PTX_F32) {
                double wide;
                float narrow;

                memcpy(&wide, &bits, sizeof(wide));
                narrow = (float)wide;
                memcpy(place, &narrow, sizeof(narrow));
        } else if (kind == PTX_TOKEN_FLOAT32 && type == PTX_F64) {
                float narrow;
                double wide;
                uint32_t low = (uint32_t)bits;

                memcpy(&narrow, &low, sizeof(narrow));
                wide = narrow;
                memcpy(place, &wide, sizeof(wide));
        } else {
                memcpy(place, &bits, ptx_types[type].bytes);
        }
}

static void parse_initial_value(struct ptx_builder *builder, uint8_t *place, enum ptx_type type)
{
        bool negative = ptx_accept_punct(builder, '-');
        struct ptx_token number = builder->token;
        uint64_t value = number.value;

        if (number.kind == PTX_TOKEN_NAME && !negative) {
                number.kind = PTX_TOKEN_INTEGER;
                if (!parse_address(builder, &value))
                        return;
        } else if (number.kind == PTX_TOKEN_INTEGER || number.kind == PTX_TOKEN_FLOAT32 ||
                   number.kind == PTX_TOKEN_FLOAT64) {
                ptx_advance(builder);
                if (number.kind == PTX_TOKEN_INTEGER && ptx_at_punct(builder, '(')) {
                        if (!parse_masked_address(builder, number.value, &value))
                                return;
                } else if (number.kind == PTX_TOKEN_INTEGER && ptx_types[type].kind == 'f') {
                        ptx_fail(builder, PTX_INVALID, number.line, "integer initialises a .%s", ptx_types[type].name);
                        return;
                }
                if (negative && number.kind == PTX_TOKEN_INTEGER)
                        value = 0 - value;
                else if (negative)
                        value ^= number.kind == PTX_TOKEN_FLOAT32 ? 1ull << 31 : 1ull << 63;
        } else {
                ptx_fail_token(builder, "initialiser");
                return;
        }
        store_number(place, type, number.kind, value);
}

/* Nested braces only group: rows must be complete but for the last, as compilers write them. */
static void parse_initialiser(struct ptx_builder *builder, const struct declaration *d, uint8_t *bytes)
{
        uint64_t index = 0;
        unsigned depth = 0, size = ptx_types[d->type].bytes;

        if (!ptx_at_punct(builder, '{')) {
                parse_initial_value(builder, bytes, d->type);
                return;
        }
        do {
                while (ptx_accept_punct(builder, '{'))
                        if (++depth > PTX_DIMENSIONS_MAX) {
                                ptx_fail(builder, PTX_INVALID, builder->token.line, "initialiser nested over %u deep",
                                         PTX_DIMENSIONS_MAX);
                                return;
                        }
                if (!ptx_at_punct(builder, '}')) {
                        if (index == d->elements) {
                                ptx_fail(builder, PTX_INVALID, builder->token.line,
                                         "more than %" PRIu64 " initialisers", d->elements);
                                return;
                        }
                        parse_initial_value(builder, bytes + index++ * size, d->type);
                }
                while (depth && ptx_accept_punct(builder, '}'))
                        depth--;
                if (depth && !ptx_at_punct(builder, '}') && !ptx_expect_punct(builder, ','))
                        return;
        } while (builder->status == PTX_OK && depth);
}

static struct ptx_variable *new_variable(struct ptx_builder *builder, const struct declaration *d)
{
        struct ptx_variable *variable = ptx_keep(builder, sizeof(*variable));
        uint32_t natural = ptx_types[d->type].bytes * d->vector;

        if (!variable)
                return NULL;
        variable->name = ptx_arena_copy(&builder->module->arena, d->name.text, d->name.bytes);
        variable->space = d->space;
        variable->type = d->type;
        variable->bytes = d->open ? 0 : d->elements * ptx_types[d->type].bytes;
        variable->align = d->align > natural ? d->align : natural;
        if (ptx_types[d->type].kind == 'o' && (d->space != PTX_SPACE_GLOBAL || d->elements != 1))
                ptx_fail(builder, PTX_UNSUPPORTED, d->name.line, "'%s': a reference is one .global variable",
                         variable->name ? variable->name : "");
        if (!variable->name || d->type == PTX_PRED)
                ptx_fail(builder, variable->name ? PTX_INVALID : PTX_OUT_OF_MEMORY, d->name.line,
                         "no predicate can be a variable");
        return variable;
}

static struct ptx_symbol *add_symbol(struct ptx_builder *builder, struct ptx_variable *variable)
{
        struct ptx_symbol *symbol = ptx_keep(builder, sizeof(*symbol));
        struct ptx_symbol **bucket;

        if (!symbol)
                return NULL;
        symbol->name = variable->name;
        symbol->hash = ptx_hash(symbol->name, strlen(symbol->name));
        symbol->variable = variable;
        bucket = &builder->module->buckets[symbol->hash % PTX_MODULE_BUCKETS];
        symbol->next = *bucket;
        *bucket = symbol;
        return symbol;
}

static void give_storage(struct ptx_builder *builder, struct ptx_variable *variable, const struct declaration *d)
{
        const struct ptx_allocator *allocator = &builder->module->allocator;
        size_t bytes = variable->bytes ? variable->bytes : 1;
        void *memory;

        memory = allocator->allocate(allocator->user, bytes, variable->align > 16 ? variable->align : 16);
        if (!memory) {
                ptx_fail(builder, PTX_OUT_OF_MEMORY, d->name.line, "no %zu bytes for variable '%s'", bytes,
                         variable->name);
                return;
        }
        variable->address = (uint64_t)(uintptr_t)memory;
        variable->next = builder->module->variables;
        builder->module->variables = variable;
        if (variable->space == PTX_SPACE_CONST)
                builder->module->const_bytes += bytes;
        if (ptx_accept_punct(builder, '='))
                parse_initialiser(builder, d, memory);
}

static void add_shared(struct ptx_builder *builder, struct ptx_variable *variable, const struct declaration *d)
{
        if (variable->bytes > PTX_SHARED_BYTES_MAX)
                ptx_fail(builder, PTX_INVALID, d->name.line, "shared variable '%s' of %" PRIu64 " bytes, limit %u",
                         variable->name, variable->bytes, PTX_SHARED_BYTES_MAX);
        variable->index = builder->module->shared_count++;
        variable->next = builder->module->shared;
        builder->module->shared = variable;
}

static void define_module_variable(struct ptx_builder *builder, const struct declaration *d,
                                   const struct ptx_linkage *linkage)
{
        struct ptx_symbol *symbol = ptx_module_lookup(builder->module, d->name.text, d->name.bytes);
        struct ptx_variable *variable = symbol ? symbol->variable : NULL;
        bool is_dynamic = d->space == PTX_SPACE_SHARED && linkage->external;

        if (symbol && (!variable || !(variable->external || linkage->external) || variable->space != d->space)) {
                ptx_fail(builder, PTX_INVALID, d->name.line, "'%s' is declared twice", symbol->name);
                return;
        }
        if (d->space == PTX_SPACE_LOCAL) {
                ptx_fail(builder, PTX_UNSUPPORTED, d->name.line, ".local variable at module scope");
                return;
        }
        if (symbol && linkage->external)
                return;
        if (!variable) {
                variable = new_variable(builder, d);
                if (!variable || !add_symbol(builder, variable))
                        return;
        }
        variable->bytes = d->open ? 0 : d->elements * ptx_types[d->type].bytes;
        variable->external = linkage->external;
        if (d->space == PTX_SPACE_SHARED) {
                if (!is_dynamic && d->open)
                        ptx_fail(builder, PTX_INVALID, d->name.line, "array '%s' has no size", variable->name);
                else
                        add_shared(builder, variable, d);
        } else if (!linkage->external) {
                give_storage(builder, variable, d);
        }
}

static void declare_register(struct ptx_builder *builder, const struct declaration *d)
{
        struct ptx_local *local;
        uint64_t count;

        if (d->vector != 1 || d->type == PTX_B128 || ptx_types[d->type].kind == 'o') {
                ptx_fail(builder, PTX_UNSUPPORTED, d->name.line, "vector, opaque or 128-bit register");
                return;
        }
        if (!ptx_accept_punct(builder, '<')) {
                local = ptx_local_add(builder, &d->name, PTX_LOCAL_REGISTER);
                if (local) {
                        local->type = d->type;
                        local->ref = ptx_register_new(builder, d->type);
                }
                return;
        }
        if (!ptx_expect_integer(builder, PTX_DECLARED_REGISTERS_MAX, &count) || !ptx_expect_punct(builder, '>'))
                return;
        builder->declared_count += count;
        if (builder->declared_count > PTX_DECLARED_REGISTERS_MAX) {
                ptx_fail(builder, PTX_UNSUPPORTED, d->name.line, "function declares more than %u registers",
                         PTX_DECLARED_REGISTERS_MAX);
                return;
        }
        local = ptx_local_add(builder, &d->name, PTX_LOCAL_RANGE);
        if (!local)
                return;
        local->type = d->type;
        local->count = (uint32_t)count;
        local->refs = ptx_scratch(builder, (count ? count : 1) * sizeof(*local->refs));
}

/* .local and .param variables of a body: places in the frame's local memory, reused when their scope closes. */
static void declare_local(struct ptx_builder *builder, const struct declaration *d)
{
        struct ptx_scope *scope = &builder->scopes[builder->depth - 1];
        struct ptx_variable *variable = new_variable(builder, d);
        struct ptx_local *local = ptx_local_add(builder, &d->name, PTX_LOCAL_VARIABLE);
        uint64_t start;

        if (!variable || !local)
                return;
        variable->space = PTX_SPACE_LOCAL;
        start = (scope->local_top + (uint64_t)variable->align - 1) & ~((uint64_t)variable->align - 1);
        if (d->open || start + variable->bytes > PTX_LOCAL_BYTES_MAX) {
                ptx_fail(builder, PTX_UNSUPPORTED, d->name.line, "local memory of '%s' exceeds %u bytes",
                         builder->function->name, PTX_LOCAL_BYTES_MAX);
                return;
        }
        variable->address = start;
        scope->local_top = (uint32_t)(start + variable->bytes);
        if (scope->local_top > builder->function->local_bytes)
                builder->function->local_bytes = scope->local_top;
        local->variable = variable;
        local->type = d->type;
}

static void declare_in_body(struct ptx_builder *builder, const struct declaration *d, const struct ptx_linkage *linkage)
{
        struct ptx_local *local;
        struct ptx_variable *variable;

        if (d->is_register) {
                declare_register(builder, d);
                return;
        }
        if (d->space == PTX_SPACE_LOCAL) {
                declare_local(builder, d);
                return;
        }
        if (linkage->external) {
                define_module_variable(builder, d, linkage);
                return;
        }
        variable = new_variable(builder, d);
        local = ptx_local_add(builder, &d->name, PTX_LOCAL_VARIABLE);
        if (!variable || !local)
                return;
        local->variable = variable;
        local->type = d->type;
        if (d->space == PTX_SPACE_SHARED && d->open)
                ptx_fail(builder, PTX_INVALID, d->name.line, "array '%s' has no size", variable->name);
        else if (d->space == PTX_SPACE_SHARED)
                add_shared(builder, variable, d);
        else
                give_storage(builder, variable, d);
}

static bool parse_space(struct ptx_builder *builder, struct declaration *d)
{
        static const struct {
                const char *name;
                enum ptx_space space;
        } spaces[] = {
                {"global", PTX_SPACE_GLOBAL}, {"const", PTX_SPACE_CONST},        {"shared", PTX_SPACE_SHARED},
                {"local", PTX_SPACE_LOCAL},   {"shared::cta", PTX_SPACE_SHARED}, {"param", PTX_SPACE_LOCAL},
        };

        d->is_register = ptx_token_is(&builder->token, "reg");
        d->is_param = ptx_token_is(&builder->token, "param");
        if (d->is_register) {
                ptx_advance(builder);
                return true;
        }
        for (unsigned i = 0; i < sizeof(spaces) / sizeof(spaces[0]); i++)
                if (ptx_token_is(&builder->token, spaces[i].name)) {
                        d->space = spaces[i].space;
                        ptx_advance(builder);
                        return true;
                }
        ptx_fail(builder, PTX_UNSUPPORTED, builder->token.line, "directive '.%.*s'",
                 (int)(builder->token.bytes < 64 ? builder->token.bytes : 64), builder->token.text);
        return false;
}

void ptx_parse_variable(struct ptx_builder *builder, const struct ptx_linkage *linkage)
{
        struct declaration d = {0};

        if (!parse_space(builder, &d))
                return;
        if (builder->depth == 0 && (d.is_register || d.is_param)) {
                ptx_fail(builder, PTX_UNSUPPORTED, builder->token.line, ".reg or .param at module scope");
                return;
        }
        parse_qualifiers(builder, &d);
        do {
                if (builder->status != PTX_OK)
                        return;
                d.name = builder->token;
                if (d.name.kind != PTX_TOKEN_NAME) {
                        ptx_fail_token(builder, "name of a variable");
                        return;
                }
                ptx_advance(builder);
                parse_dimensions(builder, &d);
                if (builder->status != PTX_OK)
                        return;
                if (builder->depth)
                        declare_in_body(builder, &d, linkage);
                else
                        define_module_variable(builder, &d, linkage);
        } while (builder->status == PTX_OK && ptx_accept_punct(builder, ','));
        if (builder->status == PTX_OK)
                ptx_expect_punct(builder, ';');
}
