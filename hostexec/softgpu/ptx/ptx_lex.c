#include "ptx_lex.h"

#include <stdlib.h>
#include <string.h>

#include "ptx_limits.h"

static bool is_digit(char c)
{
        return c >= '0' && c <= '9';
}

static bool is_name_start(char c)
{
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == '$' || c == '%';
}

static bool is_name(char c)
{
        return is_name_start(c) || is_digit(c);
}

static int hex_digit(char c)
{
        if (is_digit(c))
                return c - '0';
        if (c >= 'a' && c <= 'f')
                return c - 'a' + 10;
        if (c >= 'A' && c <= 'F')
                return c - 'A' + 10;
        return -1;
}

void ptx_lexer_init(struct ptx_lexer *lexer, const char *text, size_t bytes)
{
        lexer->next = text;
        lexer->end = text + bytes;
        lexer->line = 1;
}

/* White space and comments; a comment that never ends runs to the end of the text. */
static void skip_blank(struct ptx_lexer *lexer)
{
        const char *p = lexer->next, *end = lexer->end;

        while (p < end) {
                if (*p == '\n') {
                        lexer->line++;
                        p++;
                } else if (*p == ' ' || *p == '\t' || *p == '\r' || *p == '\f' || *p == '\v') {
                        p++;
                } else if (*p == '/' && p + 1 < end && p[1] == '/') {
                        while (p < end && *p != '\n')
                                p++;
                } else if (*p == '/' && p + 1 < end && p[1] == '*') {
                        p += 2;
                        while (p < end && !(*p == '*' && p + 1 < end && p[1] == '/'))
                                lexer->line += *p++ == '\n';
                        p = p < end ? p + 2 : end;
                } else {
                        break;
                }
        }
        lexer->next = p;
}

static void take_bad(struct ptx_lexer *lexer, struct ptx_token *token, const char *end)
{
        token->kind = PTX_TOKEN_BAD;
        token->bytes = (size_t)(end - token->text);
        lexer->next = end;
}

/* 0fXXXXXXXX and 0dXXXXXXXXXXXXXXXX: exact bit patterns. */
static void take_bits(struct ptx_lexer *lexer, struct ptx_token *token, unsigned digits)
{
        const char *p = lexer->next + 2;
        uint64_t value = 0;

        for (unsigned i = 0; i < digits; i++, p++) {
                int digit = p < lexer->end ? hex_digit(*p) : -1;

                if (digit < 0) {
                        take_bad(lexer, token, p);
                        return;
                }
                value = value << 4 | (uint64_t)digit;
        }
        token->kind = digits == 8 ? PTX_TOKEN_FLOAT32 : PTX_TOKEN_FLOAT64;
        token->value = value;
        token->bytes = (size_t)(p - token->text);
        lexer->next = p;
}

static void take_decimal_float(struct ptx_lexer *lexer, struct ptx_token *token, const char *end)
{
        char buffer[64];
        size_t bytes = (size_t)(end - token->text);
        double value;

        if (bytes >= sizeof(buffer)) {
                take_bad(lexer, token, end);
                return;
        }
        memcpy(buffer, token->text, bytes);
        buffer[bytes] = '\0';
        value = strtod(buffer, NULL);
        memcpy(&token->value, &value, sizeof(value));
        token->kind = PTX_TOKEN_FLOAT64;
        token->bytes = bytes;
        lexer->next = end;
}

static const char *find_decimal_float(const char *p, const char *end)
{
        const char *digits = p;

        while (p < end && is_digit(*p))
                p++;
        if (p < end && *p == '.' && p + 1 < end && is_digit(p[1])) {
                p++;
                while (p < end && is_digit(*p))
                        p++;
        } else if (p >= end || (*p != 'e' && *p != 'E')) {
                return NULL;
        }
        if (p < end && (*p == 'e' || *p == 'E')) {
                const char *q = p + 1;

                if (q < end && (*q == '+' || *q == '-'))
                        q++;
                if (q < end && is_digit(*q)) {
                        while (q < end && is_digit(*q))
                                q++;
                        return q;
                }
                return memchr(digits, '.', (size_t)(p - digits)) ? p : NULL;
        }
        return p;
}

static void take_integer(struct ptx_lexer *lexer, struct ptx_token *token, unsigned base, const char *p)
{
        uint64_t value = 0;
        const char *start = p;

        for (; p < lexer->end; p++) {
                int digit = hex_digit(*p);

                if (digit < 0 || (unsigned)digit >= base)
                        break;
                if (value > (UINT64_MAX - (uint64_t)digit) / base) {
                        take_bad(lexer, token, p);
                        return;
                }
                value = value * base + (uint64_t)digit;
        }
        if (p == start || (p < lexer->end && (*p != 'U' && is_name(*p)))) {
                take_bad(lexer, token, p < lexer->end ? p + 1 : p);
                return;
        }
        if (p < lexer->end && *p == 'U')
                p++;
        token->kind = PTX_TOKEN_INTEGER;
        token->value = value;
        token->bytes = (size_t)(p - token->text);
        lexer->next = p;
}

static void take_number(struct ptx_lexer *lexer, struct ptx_token *token)
{
        const char *p = lexer->next;
        char second = p + 1 < lexer->end ? p[1] : '\0';
        const char *end;

        if (*p == '0') {
                if (second == 'f' || second == 'F') {
                        take_bits(lexer, token, 8);
                        return;
                }
                if (second == 'd' || second == 'D') {
                        take_bits(lexer, token, 16);
                        return;
                }
                if (second == 'x' || second == 'X') {
                        take_integer(lexer, token, 16, p + 2);
                        return;
                }
                if (second == 'b' || second == 'B') {
                        take_integer(lexer, token, 2, p + 2);
                        return;
                }
        }
        end = find_decimal_float(p, lexer->end);
        if (end)
                take_decimal_float(lexer, token, end);
        else if (*p == '0' && is_digit(second))
                take_integer(lexer, token, 8, p + 1);
        else
                take_integer(lexer, token, 10, p);
}

static void take_word(struct ptx_lexer *lexer, struct ptx_token *token, enum ptx_token_kind kind)
{
        const char *p = token->text, *end = lexer->end;

        while (p < end) {
                if (is_name(*p))
                        p++;
                else if (kind == PTX_TOKEN_DOT && *p == ':' && p + 2 < end && p[1] == ':' && is_name(p[2]))
                        p += 2;
                else
                        break;
        }
        token->bytes = (size_t)(p - token->text);
        token->kind = token->bytes <= PTX_NAME_BYTES_MAX ? kind : PTX_TOKEN_BAD;
        lexer->next = p;
}

static void take_string(struct ptx_lexer *lexer, struct ptx_token *token)
{
        const char *p = lexer->next + 1;

        while (p < lexer->end && *p != '"' && *p != '\n')
                p++;
        if (p >= lexer->end || *p != '"') {
                take_bad(lexer, token, p);
                return;
        }
        token->kind = PTX_TOKEN_STRING;
        token->text = lexer->next + 1;
        token->bytes = (size_t)(p - token->text);
        lexer->next = p + 1;
}

void ptx_lexer_next(struct ptx_lexer *lexer, struct ptx_token *token)
{
        char c;

        skip_blank(lexer);
        *token = (struct ptx_token){.kind = PTX_TOKEN_END, .line = lexer->line, .text = lexer->next};
        if (lexer->next >= lexer->end)
                return;
        c = *lexer->next;
        if (is_name_start(c)) {
                take_word(lexer, token, PTX_TOKEN_NAME);
        } else if (c == '.' && lexer->next + 1 < lexer->end && is_name(lexer->next[1])) {
                token->text++;
                take_word(lexer, token, PTX_TOKEN_DOT);
        } else if (is_digit(c)) {
                take_number(lexer, token);
        } else if (c == '"') {
                take_string(lexer, token);
        } else if (c != '\0' && strchr(",;[]{}()<>@!:+-~=|*", c)) {
                token->kind = PTX_TOKEN_PUNCT;
                token->punct = c;
                token->bytes = 1;
                lexer->next++;
        } else {
                take_bad(lexer, token, lexer->next + 1);
        }
}

bool ptx_token_is(const struct ptx_token *token, const char *text)
{
        return token->bytes == strlen(text) && !memcmp(token->text, text, token->bytes);
}
