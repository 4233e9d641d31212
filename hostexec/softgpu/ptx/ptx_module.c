/* Loading and the questions a driver asks of a loaded module. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "ptx_build.h"

static void parse_version(struct ptx_builder *builder)
{
        const struct ptx_token *token = &builder->token;
        uint32_t number[2] = {0, 0};
        unsigned part = 0;

        if (token->kind != PTX_TOKEN_FLOAT64) {
                ptx_fail_token(builder, "version");
                return;
        }
        for (size_t i = 0; i < token->bytes; i++) {
                if (token->text[i] == '.' && part == 0)
                        part = 1;
                else if (token->text[i] >= '0' && token->text[i] <= '9' && number[part] < 1000)
                        number[part] = number[part] * 10 + (uint32_t)(token->text[i] - '0');
        }
        builder->module->version = number[0] * 10 + number[1];
        ptx_advance(builder);
}

static void parse_target(struct ptx_builder *builder)
{
        const struct ptx_token *token = &builder->token;

        do {
                if (token->kind != PTX_TOKEN_NAME) {
                        ptx_fail_token(builder, "target");
                        return;
                }
                if (token->bytes > 3 && !memcmp(token->text, "sm_", 3)) {
                        uint32_t target = 0;

                        for (size_t i = 3; i < token->bytes && target < 10000; i++)
                                if (token->text[i] >= '0' && token->text[i] <= '9')
                                        target = target * 10 + (uint32_t)(token->text[i] - '0');
                        builder->module->target = target;
                } else if (!ptx_token_is(token, "debug")) {
                        ptx_fail(builder, PTX_UNSUPPORTED, token->line, "target '%.*s'",
                                 (int)(token->bytes < 64 ? token->bytes : 64), token->text);
                }
                ptx_advance(builder);
        } while (builder->status == PTX_OK && ptx_accept_punct(builder, ','));
        if (builder->status == PTX_OK && builder->module->target < 30)
                ptx_fail(builder, PTX_UNSUPPORTED, token->line, "target sm_%u", builder->module->target);
}

/* .section .debug_info { ... }: for debuggers. */
static void skip_section(struct ptx_builder *builder)
{
        unsigned depth = 0;

        ptx_advance(builder);
        do {
                if (builder->token.kind == PTX_TOKEN_END || builder->token.kind == PTX_TOKEN_BAD) {
                        ptx_fail_token(builder, "'}'");
                        return;
                }
                if (ptx_at_punct(builder, '{'))
                        depth++;
                else if (ptx_at_punct(builder, '}'))
                        depth--;
                ptx_advance(builder);
        } while (depth || (builder->status == PTX_OK && ptx_at_punct(builder, '{')));
}

/* .file 1 "name", 123, 456 */
static void skip_file(struct ptx_builder *builder)
{
        uint64_t ignored;

        ptx_expect_integer(builder, UINT32_MAX, &ignored);
        if (builder->status == PTX_OK && builder->token.kind != PTX_TOKEN_STRING)
                ptx_fail_token(builder, "name of a file");
        ptx_advance(builder);
        while (builder->status == PTX_OK && ptx_accept_punct(builder, ','))
                ptx_expect_integer(builder, UINT64_MAX, &ignored);
}

static void take_linkage(struct ptx_builder *builder, struct ptx_linkage *linkage)
{
        while (builder->token.kind == PTX_TOKEN_DOT) {
                if (ptx_token_is(&builder->token, "extern"))
                        linkage->external = true;
                else if (!ptx_token_is(&builder->token, "visible") && !ptx_token_is(&builder->token, "weak") &&
                         !ptx_token_is(&builder->token, "common"))
                        return;
                ptx_advance(builder);
        }
}

static void parse_directive(struct ptx_builder *builder)
{
        struct ptx_linkage linkage = {0};
        struct ptx_token directive;
        uint64_t value;

        take_linkage(builder, &linkage);
        directive = builder->token;
        if (directive.kind != PTX_TOKEN_DOT) {
                ptx_fail_token(builder, "directive");
                return;
        }
        if (ptx_token_is(&directive, "entry") || ptx_token_is(&directive, "func")) {
                ptx_advance(builder);
                ptx_parse_function(builder, &linkage, ptx_token_is(&directive, "entry"));
        } else if (ptx_token_is(&directive, "version")) {
                ptx_advance(builder);
                parse_version(builder);
        } else if (ptx_token_is(&directive, "target")) {
                ptx_advance(builder);
                parse_target(builder);
        } else if (ptx_token_is(&directive, "address_size")) {
                ptx_advance(builder);
                if (ptx_expect_integer(builder, UINT32_MAX, &value) && value != 64)
                        ptx_fail(builder, PTX_UNSUPPORTED, directive.line, "address size %" PRIu64, value);
        } else if (ptx_token_is(&directive, "file")) {
                ptx_advance(builder);
                skip_file(builder);
        } else if (ptx_token_is(&directive, "section")) {
                ptx_advance(builder);
                skip_section(builder);
        } else if (ptx_token_is(&directive, "pragma")) {
                ptx_advance(builder);
                ptx_advance(builder);
                ptx_expect_punct(builder, ';');
        } else {
                ptx_parse_variable(builder, &linkage);
        }
}

static void parse_module(struct ptx_builder *builder, const char *text, size_t bytes)
{
        /* Text of the driver may carry its terminator. */
        while (bytes && text[bytes - 1] == '\0')
                bytes--;
        if (bytes > PTX_TEXT_BYTES_MAX) {
                ptx_fail(builder, PTX_UNSUPPORTED, 0, "text of %zu bytes, limit %u", bytes, PTX_TEXT_BYTES_MAX);
                return;
        }
        ptx_lexer_init(&builder->lexer, text, bytes);
        ptx_advance(builder);
        if (builder->token.kind != PTX_TOKEN_DOT || !ptx_token_is(&builder->token, "version"))
                ptx_fail_token(builder, ".version");
        while (builder->status == PTX_OK && builder->token.kind != PTX_TOKEN_END)
                parse_directive(builder);
        if (builder->status == PTX_OK && !builder->module->target)
                ptx_fail(builder, PTX_INVALID, builder->token.line, "no .target");
        if (builder->status == PTX_OK)
                ptx_finish(builder);
}

enum ptx_status ptx_load(const char *text, size_t bytes, const struct ptx_allocator *allocator, struct ptx_log *log,
                         struct ptx_module **out)
{
        struct ptx_builder *builder = calloc(1, sizeof(*builder));
        struct ptx_module *module = calloc(1, sizeof(*module));
        enum ptx_status status = PTX_OUT_OF_MEMORY;

        *out = NULL;
        if (builder && module) {
                builder->module = module;
                builder->log = log;
                module->allocator = *allocator;
                module->functions_tail = &module->functions;
                parse_module(builder, text, bytes);
                status = builder->status;
                ptx_arena_release(&builder->scratch);
                free(builder->code);
                free(builder->register_bytes);
                free(builder->constants);
                free(builder->constant_buckets);
                free(builder->constant_chain);
                free(builder->fixups);
                free(builder->shared);
        }
        free(builder);
        if (status != PTX_OK)
                ptx_unload(module);
        else
                *out = module;
        return status;
}

void ptx_unload(struct ptx_module *module)
{
        if (!module)
                return;
        if (module->heap)
                ptx_heap_destroy(module, module->heap);
        for (struct ptx_variable *v = module->variables; v; v = v->next)
                module->allocator.release(module->allocator.user, (void *)(uintptr_t)v->address);
        for (struct ptx_function *f = module->functions; f; f = f->next)
                free(f->constants);
        ptx_arena_release(&module->arena);
        free(module);
}

size_t ptx_function_count(const struct ptx_module *module)
{
        return module->entry_count;
}

struct ptx_function *ptx_function_at(const struct ptx_module *module, size_t index)
{
        return index < module->entry_count ? module->entries[index] : NULL;
}

struct ptx_function *ptx_function_find(const struct ptx_module *module, const char *name)
{
        const struct ptx_symbol *symbol = ptx_module_lookup(module, name, strlen(name));

        if (!symbol || !symbol->function || !symbol->function->is_entry || !symbol->function->is_defined)
                return NULL;
        return symbol->function;
}

bool ptx_global_find(const struct ptx_module *module, const char *name, void **address, size_t *bytes)
{
        const struct ptx_symbol *symbol = ptx_module_lookup(module, name, strlen(name));
        const struct ptx_variable *v = symbol ? symbol->variable : NULL;

        if (!v || v->external || (v->space != PTX_SPACE_GLOBAL && v->space != PTX_SPACE_CONST) ||
            ptx_types[v->type].kind == 'o')
                return false;
        if (address)
                *address = (void *)(uintptr_t)v->address;
        if (bytes)
                *bytes = (size_t)v->bytes;
        return true;
}

bool ptx_reference_find(const struct ptx_module *module, const char *name, bool surface, uint64_t **slot)
{
        const struct ptx_symbol *symbol = ptx_module_lookup(module, name, strlen(name));
        const struct ptx_variable *v = symbol ? symbol->variable : NULL;

        if (!v || v->external || v->type != (surface ? PTX_SURFREF : PTX_TEXREF))
                return false;
        *slot = (uint64_t *)(uintptr_t)v->address;
        return true;
}

void ptx_function_query(const struct ptx_function *function, struct ptx_function_info *info)
{
        *info = (struct ptx_function_info){
                .name = function->name,
                .param_count = function->formal_count,
                .param_bytes = function->param_bytes,
                .shared_bytes = function->shared_bytes,
                .local_bytes = function->stack_bytes,
                .const_bytes = function->module->const_bytes,
                .registers = function->registers,
                .max_threads = function->max_threads,
                .ptx_version = function->module->version,
                .target = function->module->target,
        };
}

bool ptx_function_param(const struct ptx_function *function, size_t index, size_t *offset, size_t *bytes)
{
        if (index >= function->formal_count)
                return false;
        if (offset)
                *offset = function->formals[index].where;
        if (bytes)
                *bytes = function->formals[index].bytes;
        return true;
}

const char *ptx_status_name(enum ptx_status status)
{
        static const char *const names[] = {
                [PTX_OK] = "ok",
                [PTX_INVALID] = "invalid",
                [PTX_UNSUPPORTED] = "unsupported",
                [PTX_OUT_OF_MEMORY] = "out of memory",
                [PTX_ILLEGAL_ADDRESS] = "illegal address",
                [PTX_MISALIGNED] = "misaligned address",
                [PTX_TRAP] = "trap",
                [PTX_ASSERT] = "assertion failed",
                [PTX_OUT_OF_RESOURCES] = "out of resources",
                [PTX_BARRIER] = "barrier never completes",
                [PTX_ABORTED] = "aborted",
        };

        return (size_t)status < sizeof(names) / sizeof(names[0]) ? names[status] : "unknown";
}
