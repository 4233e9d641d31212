/* Errors, memory and token helpers of the loader. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ptx_build.h"

static void log_append(struct ptx_log *log, const char *text)
{
        size_t bytes = strlen(text);

        if (!log || !log->text || log->capacity == 0 || log->used >= log->capacity)
                return;
        if (bytes > log->capacity - 1 - log->used)
                bytes = log->capacity - 1 - log->used;
        memcpy(log->text + log->used, text, bytes);
        log->used += bytes;
        log->text[log->used] = '\0';
}

void ptx_fail(struct ptx_builder *builder, enum ptx_status status, uint32_t line, const char *format, ...)
{
        char message[512], text[640];
        va_list arguments;

        if (builder->status != PTX_OK)
                return;
        builder->status = status;
        va_start(arguments, format);
        vsnprintf(message, sizeof(message), format, arguments);
        va_end(arguments);
        snprintf(text, sizeof(text), "ptx line %" PRIu32 ": %s: %s\n", line, ptx_status_name(status), message);
        log_append(builder->log, text);
}

static void *checked(struct ptx_builder *builder, void *memory, size_t bytes)
{
        if (!memory)
                ptx_fail(builder, PTX_OUT_OF_MEMORY, builder->token.line, "no %zu bytes for the module", bytes);
        return memory;
}

void *ptx_scratch(struct ptx_builder *builder, size_t bytes)
{
        return checked(builder, ptx_arena_allocate(&builder->scratch, bytes), bytes);
}

void *ptx_keep(struct ptx_builder *builder, size_t bytes)
{
        return checked(builder, ptx_arena_allocate(&builder->module->arena, bytes), bytes);
}

bool ptx_grow(struct ptx_builder *builder, void **array, uint32_t *capacity, uint32_t wanted, size_t element_bytes)
{
        uint32_t grown = *capacity ? *capacity : 64;
        void *memory;

        if (wanted <= *capacity)
                return true;
        while (grown < wanted)
                grown *= 2;
        memory = realloc(*array, (size_t)grown * element_bytes);
        if (!checked(builder, memory, (size_t)grown * element_bytes))
                return false;
        *array = memory;
        *capacity = grown;
        return true;
}

void ptx_advance(struct ptx_builder *builder)
{
        ptx_lexer_next(&builder->lexer, &builder->token);
}

bool ptx_at_punct(const struct ptx_builder *builder, char punct)
{
        return builder->token.kind == PTX_TOKEN_PUNCT && builder->token.punct == punct;
}

bool ptx_accept_punct(struct ptx_builder *builder, char punct)
{
        if (!ptx_at_punct(builder, punct))
                return false;
        ptx_advance(builder);
        return true;
}

void ptx_fail_token(struct ptx_builder *builder, const char *expected)
{
        const struct ptx_token *token = &builder->token;
        int shown = token->bytes < 64 ? (int)token->bytes : 64;

        if (token->kind == PTX_TOKEN_END)
                ptx_fail(builder, PTX_INVALID, token->line, "%s expected, the text ends", expected);
        else if (token->kind == PTX_TOKEN_BAD && !(token->bytes && token->text[0] >= ' ' && token->text[0] <= '~'))
                ptx_fail(builder, PTX_INVALID, token->line, "%s expected, found byte 0x%02x", expected,
                         token->bytes ? (unsigned char)token->text[0] : 0u);
        else
                ptx_fail(builder, PTX_INVALID, token->line, "%s expected, found '%s%.*s'", expected,
                         token->kind == PTX_TOKEN_DOT ? "." : "", shown, token->text);
}

bool ptx_expect_punct(struct ptx_builder *builder, char punct)
{
        char expected[] = "' '";

        if (ptx_accept_punct(builder, punct))
                return true;
        expected[1] = punct;
        ptx_fail_token(builder, expected);
        return false;
}

bool ptx_expect_integer(struct ptx_builder *builder, uint64_t max, uint64_t *value)
{
        *value = 0;
        if (builder->token.kind != PTX_TOKEN_INTEGER) {
                ptx_fail_token(builder, "integer");
                return false;
        }
        if (builder->token.value > max) {
                ptx_fail(builder, PTX_INVALID, builder->token.line, "%" PRIu64 " is over the limit of %" PRIu64,
                         builder->token.value, max);
                return false;
        }
        *value = builder->token.value;
        ptx_advance(builder);
        return true;
}
