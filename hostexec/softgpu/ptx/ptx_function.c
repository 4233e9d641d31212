/* Function headers and bodies. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "ptx_build.h"

static struct ptx_function *function_declare(struct ptx_builder *builder, const struct ptx_token *name)
{
        struct ptx_module *module = builder->module;
        struct ptx_symbol *symbol = ptx_module_lookup(module, name->text, name->bytes);
        struct ptx_function *function;
        struct ptx_symbol **bucket;

        if (symbol) {
                if (!symbol->function)
                        ptx_fail(builder, PTX_INVALID, name->line, "'%s' is a variable, not a function", symbol->name);
                return symbol->function;
        }
        if (module->function_count == PTX_FUNCTIONS_MAX) {
                ptx_fail(builder, PTX_UNSUPPORTED, name->line, "more than %u functions", PTX_FUNCTIONS_MAX);
                return NULL;
        }
        function = ptx_keep(builder, sizeof(*function));
        symbol = ptx_keep(builder, sizeof(*symbol));
        if (!function || !symbol)
                return NULL;
        function->name = ptx_arena_copy(&module->arena, name->text, name->bytes);
        if (!function->name) {
                ptx_fail(builder, PTX_OUT_OF_MEMORY, name->line, "no memory for a name");
                return NULL;
        }
        function->module = module;
        function->index = module->function_count++;
        function->line = name->line;
        function->max_threads = PTX_BLOCK_THREADS_MAX;
        *module->functions_tail = function;
        module->functions_tail = &function->next;
        symbol->name = function->name;
        symbol->hash = ptx_hash(name->text, name->bytes);
        symbol->function = function;
        bucket = &module->buckets[symbol->hash % PTX_MODULE_BUCKETS];
        symbol->next = *bucket;
        *bucket = symbol;
        return function;
}

struct formals {
        struct ptx_formal *items;
        struct ptx_token *names;
        uint32_t count, capacity, names_capacity;
};

/* .ptr .global .align 8: says what the pointer points to, which the engine need not know. */
static void skip_pointer_attributes(struct ptx_builder *builder)
{
        static const char *const spaces[] = {"global", "const", "shared", "local", "generic"};
        uint64_t ignored;

        if (builder->token.kind != PTX_TOKEN_DOT || !ptx_token_is(&builder->token, "ptr"))
                return;
        ptx_advance(builder);
        for (unsigned i = 0; i < sizeof(spaces) / sizeof(spaces[0]); i++)
                if (builder->token.kind == PTX_TOKEN_DOT && ptx_token_is(&builder->token, spaces[i])) {
                        ptx_advance(builder);
                        break;
                }
        if (builder->token.kind == PTX_TOKEN_DOT && ptx_token_is(&builder->token, "align")) {
                ptx_advance(builder);
                ptx_expect_integer(builder, 1u << 30, &ignored);
        }
}

static bool parse_formal_dimension(struct ptx_builder *builder, uint64_t *elements)
{
        uint64_t size = 0;

        *elements = 1;
        if (!ptx_accept_punct(builder, '['))
                return true;
        if (ptx_at_punct(builder, ']')) {
                ptx_fail(builder, PTX_UNSUPPORTED, builder->token.line, "parameter array without a size");
                return false;
        }
        if (!ptx_expect_integer(builder, PTX_LOCAL_BYTES_MAX, &size) || !ptx_expect_punct(builder, ']'))
                return false;
        *elements = size;
        return true;
}

static void parse_formal(struct ptx_builder *builder, struct ptx_formal *formal, struct ptx_token *name)
{
        uint64_t elements, align = 0;

        memset(formal, 0, sizeof(*formal));
        formal->in_register = ptx_token_is(&builder->token, "reg");
        if (builder->token.kind != PTX_TOKEN_DOT || !(formal->in_register || ptx_token_is(&builder->token, "param"))) {
                ptx_fail_token(builder, ".param or .reg");
                return;
        }
        ptx_advance(builder);
        if (builder->token.kind == PTX_TOKEN_DOT && ptx_token_is(&builder->token, "align")) {
                ptx_advance(builder);
                if (!ptx_expect_integer(builder, 4096, &align))
                        return;
                if (align & (align - 1)) {
                        ptx_fail(builder, PTX_INVALID, builder->token.line, "alignment %" PRIu64, align);
                        return;
                }
        }
        if (!ptx_accept_type(builder, &formal->type)) {
                if (builder->token.kind == PTX_TOKEN_DOT)
                        ptx_fail(builder, PTX_UNSUPPORTED, builder->token.line, "parameter of type '.%.*s'",
                                 (int)(builder->token.bytes < 64 ? builder->token.bytes : 64), builder->token.text);
                else
                        ptx_fail_token(builder, "type");
                return;
        }
        skip_pointer_attributes(builder);
        if (builder->token.kind == PTX_TOKEN_DOT && ptx_token_is(&builder->token, "align")) {
                ptx_advance(builder);
                if (!ptx_expect_integer(builder, 4096, &align))
                        return;
        }
        *name = builder->token;
        if (name->kind != PTX_TOKEN_NAME) {
                ptx_fail_token(builder, "name of a parameter");
                return;
        }
        ptx_advance(builder);
        if (!parse_formal_dimension(builder, &elements))
                return;
        formal->align =
                (uint32_t)align > ptx_types[formal->type].bytes ? (uint32_t)align : ptx_types[formal->type].bytes;
        formal->bytes = (uint32_t)(elements * ptx_types[formal->type].bytes);
        if (formal->align & (formal->align - 1))
                ptx_fail(builder, PTX_INVALID, name->line, "alignment %u", formal->align);
        if (formal->type == PTX_PRED && !formal->in_register)
                ptx_fail(builder, PTX_INVALID, name->line, "predicate in .param space");
}

static void parse_formals(struct ptx_builder *builder, struct formals *list)
{
        if (!ptx_expect_punct(builder, '(') || ptx_accept_punct(builder, ')'))
                return;
        do {
                if (!ptx_grow(builder, (void **)&list->items, &list->capacity, list->count + 1, sizeof(*list->items)) ||
                    !ptx_grow(builder, (void **)&list->names, &list->names_capacity, list->count + 1,
                              sizeof(*list->names)))
                        return;
                parse_formal(builder, &list->items[list->count], &list->names[list->count]);
                if (builder->status != PTX_OK)
                        return;
                list->count++;
        } while (ptx_accept_punct(builder, ','));
        ptx_expect_punct(builder, ')');
}

static struct ptx_formal *keep_formals(struct ptx_builder *builder, const struct formals *list)
{
        struct ptx_formal *kept = ptx_keep(builder, (list->count + 1) * sizeof(*kept));

        if (!kept)
                return NULL;
        if (list->count)
                memcpy(kept, list->items, list->count * sizeof(*kept));
        for (uint32_t i = 0; i < list->count; i++) {
                kept[i].name = ptx_arena_copy(&builder->module->arena, list->names[i].text, list->names[i].bytes);
                if (!kept[i].name)
                        ptx_fail(builder, PTX_OUT_OF_MEMORY, list->names[i].line, "no memory for a name");
        }
        return kept;
}

/* .maxntid x, y, z: the product of up to three numbers. */
static void parse_extents(struct ptx_builder *builder, uint32_t extents[3])
{
        uint64_t value;

        extents[0] = extents[1] = extents[2] = 1;
        for (unsigned i = 0; i < 3; i++) {
                if (!ptx_expect_integer(builder, 1u << 20, &value))
                        return;
                extents[i] = (uint32_t)value;
                if (!ptx_accept_punct(builder, ','))
                        return;
        }
}

static void parse_tuning(struct ptx_builder *builder, struct ptx_function *function)
{
        static const char *const one_number[] = {"maxnreg", "minnctapersm", "maxnctapersm", "maxclusterrank"};
        uint32_t extents[3];
        uint64_t ignored;

        while (builder->status == PTX_OK && builder->token.kind == PTX_TOKEN_DOT) {
                struct ptx_token directive = builder->token;

                ptx_advance(builder);
                if (ptx_token_is(&directive, "maxntid") || ptx_token_is(&directive, "reqntid")) {
                        uint64_t threads;

                        parse_extents(builder, extents);
                        threads = (uint64_t)extents[0] * extents[1];
                        threads = threads > PTX_BLOCK_THREADS_MAX ? threads : threads * extents[2];
                        if (threads < function->max_threads)
                                function->max_threads = (uint32_t)threads;
                        if (ptx_token_is(&directive, "reqntid"))
                                memcpy(function->reqntid, extents, sizeof(extents));
                        continue;
                }
                if (ptx_token_is(&directive, "noreturn") || ptx_token_is(&directive, "abi_preserve_control"))
                        continue;
                if (ptx_token_is(&directive, "pragma")) {
                        ptx_advance(builder);
                        ptx_expect_punct(builder, ';');
                        continue;
                }
                for (unsigned i = 0; i <= 4; i++) {
                        if (i == 4) {
                                ptx_fail(builder, PTX_UNSUPPORTED, directive.line, "function directive '.%.*s'",
                                         (int)(directive.bytes < 64 ? directive.bytes : 64), directive.text);
                        } else if (ptx_token_is(&directive, one_number[i])) {
                                ptx_expect_integer(builder, UINT32_MAX, &ignored);
                                break;
                        }
                }
        }
}

/* Kernel parameters are packed as a C struct would be; device function parameters are places in the frame. */
static void place_formals(struct ptx_builder *builder, struct ptx_function *function, struct ptx_formal *items,
                          uint32_t count, uint64_t *top)
{
        for (uint32_t i = 0; i < count && builder->status == PTX_OK; i++) {
                uint32_t limit = function->is_entry ? PTX_PARAM_BYTES_MAX : PTX_LOCAL_BYTES_MAX;

                if (items[i].in_register)
                        continue;
                *top = (*top + items[i].align - 1) & ~((uint64_t)items[i].align - 1);
                items[i].where = (uint32_t)*top;
                *top += items[i].bytes;
                if (*top > limit)
                        ptx_fail(builder, PTX_UNSUPPORTED, function->line, "parameters of '%s' exceed %u bytes",
                                 function->name, limit);
        }
}

static void declare_formals(struct ptx_builder *builder, struct ptx_formal *items, const struct formals *list)
{
        for (uint32_t i = 0; i < list->count && builder->status == PTX_OK; i++) {
                struct ptx_local *local;
                enum ptx_local_kind kind = items[i].in_register          ? PTX_LOCAL_REGISTER
                                           : builder->function->is_entry ? PTX_LOCAL_FORMAL
                                                                         : PTX_LOCAL_VARIABLE;

                if (ptx_token_is(&list->names[i], "_"))
                        continue;
                local = ptx_local_add(builder, &list->names[i], kind);
                if (!local)
                        return;
                local->type = items[i].type;
                local->formal = &items[i];
                if (kind == PTX_LOCAL_REGISTER) {
                        local->ref = items[i].where = ptx_register_new(builder, items[i].type);
                } else if (kind == PTX_LOCAL_VARIABLE) {
                        struct ptx_variable *variable = ptx_keep(builder, sizeof(*variable));

                        if (!variable)
                                return;
                        variable->name = items[i].name;
                        variable->space = PTX_SPACE_LOCAL;
                        variable->bytes = items[i].bytes;
                        variable->address = items[i].where;
                        local->variable = variable;
                }
        }
}

static bool is_list_directive(const struct ptx_token *token)
{
        return token->kind == PTX_TOKEN_DOT &&
               (ptx_token_is(token, "branchtargets") || ptx_token_is(token, "callprototype") ||
                ptx_token_is(token, "calltargets"));
}

/* name: .branchtargets a, b;   name: .callprototype ...;   name: .calltargets ...;   name: */
static void parse_label(struct ptx_builder *builder, const struct ptx_token *name)
{
        struct ptx_local *label;

        if (!is_list_directive(&builder->token)) {
                label = ptx_local_add(builder, name, PTX_LOCAL_LABEL);
                if (label)
                        label->target = builder->code_count;
                return;
        }
        if (ptx_token_is(&builder->token, "branchtargets")) {
                struct ptx_branch_table *table = ptx_keep(builder, sizeof(*table));
                struct ptx_token *names = NULL;
                uint32_t capacity = 0, count = 0;

                label = ptx_local_add(builder, name, PTX_LOCAL_TARGETS);
                do {
                        ptx_advance(builder);
                        if (builder->status == PTX_OK && builder->token.kind != PTX_TOKEN_NAME)
                                ptx_fail_token(builder, "label");
                        if (builder->status != PTX_OK ||
                            !ptx_grow(builder, (void **)&names, &capacity, count + 1, sizeof(*names)))
                                break;
                        names[count++] = builder->token;
                        ptx_advance(builder);
                } while (ptx_at_punct(builder, ','));
                ptx_expect_punct(builder, ';');
                if (builder->status == PTX_OK)
                        table->targets = ptx_keep(builder, count * sizeof(*table->targets));
                if (builder->status == PTX_OK) {
                        table->count = count;
                        label->table = table;
                        builder->statement.line = name->line;
                        for (uint32_t i = 0; i < count; i++) {
                                struct ptx_operand target = {.text = names[i].text, .bytes = names[i].bytes};

                                ptx_label_use(builder, &target, i, table, false);
                        }
                }
                free(names);
                return;
        }
        /* The arguments of an indirect call are checked against the callee itself, so the prototype says nothing new.
         */
        ptx_local_add(builder, name, PTX_LOCAL_PROTOTYPE);
        while (builder->status == PTX_OK && !ptx_accept_punct(builder, ';')) {
                if (builder->token.kind == PTX_TOKEN_END || builder->token.kind == PTX_TOKEN_BAD)
                        ptx_fail_token(builder, "';'");
                ptx_advance(builder);
        }
}

/* .loc 1 5 3, function_name $L, inlined_at 1 2 3: numbers, names and commas up to what cannot belong to it. */
static void skip_location(struct ptx_builder *builder)
{
        uint64_t ignored;

        ptx_advance(builder);
        for (unsigned i = 0; i < 3; i++)
                ptx_expect_integer(builder, UINT32_MAX, &ignored);
        while (builder->status == PTX_OK && ptx_accept_punct(builder, ',')) {
                if (ptx_token_is(&builder->token, "function_name")) {
                        ptx_advance(builder);
                        ptx_advance(builder);
                        if (ptx_accept_punct(builder, '+'))
                                ptx_expect_integer(builder, UINT32_MAX, &ignored);
                } else if (ptx_token_is(&builder->token, "inlined_at")) {
                        ptx_advance(builder);
                        for (unsigned i = 0; i < 3; i++)
                                ptx_expect_integer(builder, UINT32_MAX, &ignored);
                } else {
                        ptx_fail_token(builder, "function_name or inlined_at");
                }
        }
}

static void parse_body_directive(struct ptx_builder *builder)
{
        static const struct ptx_linkage none = {0}, external = {.external = true};

        if (ptx_token_is(&builder->token, "loc")) {
                skip_location(builder);
        } else if (ptx_token_is(&builder->token, "pragma")) {
                ptx_advance(builder);
                ptx_advance(builder);
                ptx_expect_punct(builder, ';');
        } else if (ptx_token_is(&builder->token, "extern")) {
                ptx_advance(builder);
                ptx_parse_variable(builder, &external);
        } else {
                ptx_parse_variable(builder, &none);
        }
}

static void parse_statement(struct ptx_builder *builder)
{
        if (ptx_accept_punct(builder, '{')) {
                ptx_scope_open(builder);
        } else if (ptx_accept_punct(builder, ';')) {
                return;
        } else if (builder->token.kind == PTX_TOKEN_DOT) {
                parse_body_directive(builder);
        } else if (ptx_at_punct(builder, '@')) {
                ptx_parse_instruction(builder);
                if (builder->status == PTX_OK)
                        ptx_decode(builder);
        } else if (builder->token.kind == PTX_TOKEN_NAME) {
                struct ptx_lexer saved = builder->lexer;
                struct ptx_token name = builder->token;

                ptx_advance(builder);
                if (ptx_accept_punct(builder, ':')) {
                        parse_label(builder, &name);
                        return;
                }
                builder->lexer = saved;
                builder->token = name;
                ptx_parse_instruction(builder);
                if (builder->status == PTX_OK)
                        ptx_decode(builder);
        } else {
                ptx_fail_token(builder, "instruction");
        }
}

static void reset_function_state(struct ptx_builder *builder)
{
        ptx_arena_release(&builder->scratch);
        memset(builder->buckets, 0, sizeof(builder->buckets));
        if (builder->constant_buckets)
                memset(builder->constant_buckets, 0, PTX_CONSTANT_BUCKETS * sizeof(*builder->constant_buckets));
        builder->depth = 0;
        builder->code_count = 0;
        builder->register_count = 0;
        builder->declared_count = 0;
        builder->constants_bytes = 0;
        builder->fixup_count = 0;
        builder->shared_count = 0;
}

static void *keep_copy(struct ptx_builder *builder, const void *from, size_t bytes)
{
        void *copy = ptx_keep(builder, bytes ? bytes : 1);

        if (copy && bytes)
                memcpy(copy, from, bytes);
        return copy;
}

static void finish_function(struct ptx_builder *builder)
{
        struct ptx_function *f = builder->function;

        ptx_allocate_registers(builder);
        f->local_bytes = (f->local_bytes + 15) & ~15u;
        f->code = keep_copy(builder, builder->code, builder->code_count * sizeof(*builder->code));
        f->code_count = builder->code_count;
        f->fixups = keep_copy(builder, builder->fixups, builder->fixup_count * sizeof(*builder->fixups));
        f->fixup_count = builder->fixup_count;
        f->shared = keep_copy(builder, builder->shared, builder->shared_count * sizeof(*builder->shared));
        f->shared_count = builder->shared_count;
        f->constants_bytes = builder->constants_bytes;
        if (builder->status == PTX_OK && builder->constants_bytes) {
                f->constants = aligned_alloc(64, (builder->constants_bytes + 63u) & ~63u);
                if (!f->constants)
                        ptx_fail(builder, PTX_OUT_OF_MEMORY, f->line, "no %u bytes for constants", f->constants_bytes);
                else
                        memcpy(f->constants, builder->constants, builder->constants_bytes);
        }
        f->is_defined = builder->status == PTX_OK;
}

static void parse_body(struct ptx_builder *builder, const struct formals *results, const struct formals *arguments)
{
        struct ptx_function *f = builder->function;

        reset_function_state(builder);
        if (!ptx_scope_open(builder))
                return;
        declare_formals(builder, f->results, results);
        declare_formals(builder, f->formals, arguments);
        builder->scopes[0].local_top = f->local_bytes;
        ptx_expect_punct(builder, '{');
        while (builder->status == PTX_OK && builder->depth) {
                if (!ptx_at_punct(builder, '}')) {
                        parse_statement(builder);
                        continue;
                }
                if (builder->depth == 1) {
                        /* Falling off the end returns; also what a label before the brace branches to. */
                        builder->statement.line = builder->token.line;
                        builder->statement.guarded = false;
                        ptx_emit(builder, NULL, PTX_REF_NONE, PTX_REF_NONE, PTX_REF_NONE, PTX_REF_NONE);
                        if (builder->status == PTX_OK)
                                builder->code[builder->code_count - 1].kind = PTX_KIND_RETURN;
                }
                ptx_advance(builder);
                ptx_scope_close(builder);
        }
        if (builder->status == PTX_OK)
                finish_function(builder);
}

void ptx_parse_function(struct ptx_builder *builder, const struct ptx_linkage *linkage, bool is_entry)
{
        struct formals results = {0}, arguments = {0};
        struct ptx_function *f = NULL;
        uint64_t top = 0;

        if (!is_entry && ptx_at_punct(builder, '('))
                parse_formals(builder, &results);
        if (builder->status == PTX_OK && builder->token.kind != PTX_TOKEN_NAME)
                ptx_fail_token(builder, "name of a function");
        if (builder->status == PTX_OK)
                f = function_declare(builder, &builder->token);
        if (!f)
                goto out;
        ptx_advance(builder);
        if (ptx_at_punct(builder, '('))
                parse_formals(builder, &arguments);
        if (builder->status != PTX_OK)
                goto out;
        if (f->is_defined) {
                /* A declaration may follow the definition; another body may not. */
                parse_tuning(builder, f);
                if (!ptx_accept_punct(builder, ';'))
                        ptx_fail(builder, PTX_INVALID, builder->token.line, "'%s' is defined twice", f->name);
                goto out;
        }
        f->is_entry = is_entry;
        parse_tuning(builder, f);
        f->results = keep_formals(builder, &results);
        f->result_count = results.count;
        f->formals = keep_formals(builder, &arguments);
        f->formal_count = arguments.count;
        f->local_bytes = 0;
        if (builder->status != PTX_OK)
                goto out;
        place_formals(builder, f, f->formals, f->formal_count, &top);
        f->param_bytes = is_entry ? (uint32_t)top : 0;
        place_formals(builder, f, f->results, f->result_count, &top);
        f->local_bytes = is_entry ? 0 : (uint32_t)top;
        if (builder->status != PTX_OK || ptx_accept_punct(builder, ';'))
                goto out;
        if (linkage->external) {
                ptx_fail(builder, PTX_INVALID, builder->token.line, "external function '%s' has a body", f->name);
                goto out;
        }
        builder->function = f;
        parse_body(builder, &results, &arguments);
        builder->function = NULL;
out:
        free(results.items);
        free(results.names);
        free(arguments.items);
        free(arguments.names);
}
