/* Tokens of PTX text. The lexer never copies: a token is a slice of the text. */
#ifndef IVGPU_SOFTGPU_PTX_LEX_H
#define IVGPU_SOFTGPU_PTX_LEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum ptx_token_kind {
        PTX_TOKEN_END,
        PTX_TOKEN_NAME,    /* identifiers, with % and $ */
        PTX_TOKEN_DOT,     /* .word, with :: inside; text is the word without its dot */
        PTX_TOKEN_INTEGER, /* value; negative numbers are '-' and a number */
        PTX_TOKEN_FLOAT32, /* 0f: value is the bit pattern */
        PTX_TOKEN_FLOAT64, /* 0d and decimal: value is the bit pattern */
        PTX_TOKEN_STRING,  /* text without quotes */
        PTX_TOKEN_PUNCT,   /* one character: punct */
        PTX_TOKEN_BAD,     /* what no token starts with, or a name over PTX_NAME_BYTES_MAX; text shows it */
};

struct ptx_token {
        enum ptx_token_kind kind;
        char punct;
        uint32_t line;
        const char *text;
        size_t bytes;
        uint64_t value;
};

struct ptx_lexer {
        const char *next;
        const char *end;
        uint32_t line;
};

void ptx_lexer_init(struct ptx_lexer *lexer, const char *text, size_t bytes);
void ptx_lexer_next(struct ptx_lexer *lexer, struct ptx_token *token);
bool ptx_token_is(const struct ptx_token *token, const char *text);

#endif
