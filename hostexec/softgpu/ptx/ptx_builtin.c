/* Functions that the CUDA runtime provides on the device: printf, assert, malloc and free. Their arguments are the
 * .param variables of the call, in the local memory of each lane. */
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "ptx_machine.h"
#include "ptx_memory.h"

static uint64_t argument(const struct ptx_warp *warp, const struct ptx_call *call, uint32_t index, unsigned lane)
{
        const struct ptx_actual *actual = &call->arguments[index];
        uint64_t value = 0;

        memcpy(&value, (const uint8_t *)(uintptr_t)ptx_local_window(warp, lane) + warp->local_base + actual->where,
               actual->bytes);
        return value;
}

static void give_result(const struct ptx_warp *warp, const struct ptx_call *call, unsigned lane, uint64_t value)
{
        if (call->result_count)
                memcpy((uint8_t *)(uintptr_t)ptx_local_window(warp, lane) + warp->local_base + call->results[0].where,
                       &value, call->results[0].bytes);
}

/* The string at a device address, up to `capacity` - 1 bytes of it; NULL: not readable. */
static const char *read_string(struct ptx_warp *warp, unsigned lane, uint64_t address, char *buffer, size_t capacity)
{
        uint64_t room;
        const uint8_t *text = ptx_resolve_generic(warp, lane, address, 1, false, &room);
        size_t i = 0;

        if (!text)
                return NULL;
        for (; i < capacity - 1 && i < room && text[i]; i++)
                buffer[i] = (char)text[i];
        buffer[i] = '\0';
        return buffer;
}

struct printer {
        struct ptx_warp *warp;
        unsigned lane;
        uint64_t next; /* address of the next argument */
        char *out;
        size_t used;
};

static void put(struct printer *p, const char *text, size_t bytes)
{
        if (bytes > PTX_PRINT_BYTES_MAX - 1 - p->used)
                bytes = PTX_PRINT_BYTES_MAX - 1 - p->used;
        memcpy(p->out + p->used, text, bytes);
        p->used += bytes;
}

/* Arguments lie one after the other as in a C struct: ints in 4 bytes, the rest in 8. */
static bool next_argument(struct printer *p, unsigned bytes, uint64_t *value)
{
        const uint8_t *place;

        p->next = (p->next + bytes - 1) & ~(uint64_t)(bytes - 1);
        place = ptx_resolve_generic(p->warp, p->lane, p->next, bytes, false, NULL);
        if (!place)
                return false;
        *value = 0;
        memcpy(value, place, bytes);
        p->next += bytes;
        return true;
}

/* A conversion of the format: flags, width, precision, length, letter. Only what was checked here reaches snprintf. */
struct directive {
        char flags[8];
        int width, precision; /* -1: none */
        bool is_long;
        char letter;
};

static const char *read_number(struct printer *p, const char *f, int *number)
{
        uint64_t value;

        if (*f == '*') {
                *number = next_argument(p, 4, &value) ? (int)(int32_t)value : 0;
                return f + 1;
        }
        *number = 0;
        while (isdigit((unsigned char)*f)) {
                if (*number < 100000)
                        *number = *number * 10 + (*f - '0');
                f++;
        }
        return f;
}

static const char *read_directive(struct printer *p, const char *f, struct directive *d)
{
        size_t flags = 0;

        memset(d, 0, sizeof(*d));
        d->width = d->precision = -1;
        while (*f && strchr("-+ #0", *f)) {
                if (flags < sizeof(d->flags) - 2 && !strchr(d->flags, *f))
                        d->flags[flags++] = *f;
                f++;
        }
        if (*f == '*' || isdigit((unsigned char)*f))
                f = read_number(p, f, &d->width);
        if (*f == '.')
                f = read_number(p, f + 1, &d->precision);
        while (*f && strchr("hlLqjzt", *f)) {
                d->is_long |= *f != 'h';
                f++;
        }
        d->letter = *f;
        return *f ? f + 1 : f;
}

static bool print_text(struct printer *p, const struct directive *d, uint64_t address)
{
        char text[PTX_PRINT_BYTES_MAX];
        char padded[PTX_PRINT_BYTES_MAX];
        int width = d->width < 0 ? 0 : d->width < (int)sizeof(padded) ? d->width : (int)sizeof(padded) - 1;
        int bytes;

        if (!read_string(p->warp, p->lane, address, text, sizeof(text)))
                return false;
        bytes = snprintf(padded, sizeof(padded), strchr(d->flags, '-') ? "%-*.*s" : "%*.*s", width,
                         d->precision < 0 ? (int)sizeof(text) : d->precision, text);
        put(p, padded, bytes < (int)sizeof(padded) ? (size_t)bytes : sizeof(padded) - 1);
        return true;
}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral" /* built below from checked parts */
static void print_value(struct printer *p, const struct directive *d, uint64_t value)
{
        char format[32], text[512];
        int width = d->width < 0 ? 0 : d->width < 400 ? d->width : 400;
        int precision = d->precision > 400 ? 400 : d->precision;
        int bytes;
        double real;

        if (strchr("eEfFgGaA", d->letter)) {
                snprintf(format, sizeof(format), "%%%s*.*%c", d->flags, d->letter);
                memcpy(&real, &value, sizeof(real));
                bytes = snprintf(text, sizeof(text), format, width, precision, real);
        } else if (d->letter == 'c') {
                snprintf(format, sizeof(format), "%%%s*c", d->flags);
                bytes = snprintf(text, sizeof(text), format, width, (int)(unsigned char)value);
        } else if (d->letter == 'p') {
                bytes = snprintf(text, sizeof(text), "%*p", width, (void *)(uintptr_t)value);
        } else {
                bool is_signed = d->letter == 'd' || d->letter == 'i';

                snprintf(format, sizeof(format), "%%%s*.*ll%c", d->flags, d->letter);
                if (is_signed && !d->is_long)
                        value = (uint64_t)(int64_t)(int32_t)value;
                bytes = snprintf(text, sizeof(text), format, width, precision, (unsigned long long)value);
        }
        if (bytes > 0)
                put(p, text, bytes < (int)sizeof(text) ? (size_t)bytes : sizeof(text) - 1);
}
#pragma GCC diagnostic pop

static bool print_directive(struct printer *p, const struct directive *d)
{
        uint64_t value;

        switch (d->letter) {
        case '%':
                put(p, "%", 1);
                return true;
        case 's':
                return next_argument(p, 8, &value) && print_text(p, d, value);
        case 'd':
        case 'i':
        case 'u':
        case 'x':
        case 'X':
        case 'o':
        case 'c':
                if (!next_argument(p, d->is_long && d->letter != 'c' ? 8 : 4, &value))
                        return false;
                print_value(p, d, value);
                return true;
        case 'p':
        case 'e':
        case 'E':
        case 'f':
        case 'F':
        case 'g':
        case 'G':
        case 'a':
        case 'A':
                if (!next_argument(p, 8, &value))
                        return false;
                print_value(p, d, value);
                return true;
        default:
                /* CUDA prints what it does not know as it stands. */
                put(p, "%", 1);
                if (d->letter)
                        put(p, &d->letter, 1);
                return true;
        }
}

static bool print_format(struct printer *p, const char *f)
{
        while (*f) {
                const char *plain = f;
                struct directive d;

                while (*f && *f != '%')
                        f++;
                put(p, plain, (size_t)(f - plain));
                if (*f != '%')
                        break;
                f = read_directive(p, f + 1, &d);
                if (!print_directive(p, &d))
                        return false;
        }
        return true;
}

static int op_printf(struct ptx_warp *warp, const struct ptx_insn *insn, uint32_t mask)
{
        struct ptx_run *run = warp->block->run;
        const struct ptx_call *call = insn->extra;
        char format[PTX_PRINT_BYTES_MAX], text[PTX_PRINT_BYTES_MAX];

        for (uint32_t rest = mask; rest; rest &= rest - 1) {
                unsigned i = (unsigned)__builtin_ctz(rest);
                struct printer p = {.warp = warp, .lane = i, .out = text};
                uint64_t address = argument(warp, call, 0, i);

                p.next = argument(warp, call, 1, i);
                if (!read_string(warp, i, address, format, sizeof(format)))
                        return ptx_fault_at(warp, PTX_ILLEGAL_ADDRESS, i, address,
                                            "printf format at 0x%" PRIx64 " is out of bounds", address);
                if (!print_format(&p, format))
                        return ptx_fault_at(warp, PTX_ILLEGAL_ADDRESS, i, p.next,
                                            "printf argument at 0x%" PRIx64 " is out of bounds", p.next);
                text[p.used] = '\0';
                if (run->launch->print) {
                        pthread_mutex_lock(&run->lock);
                        run->launch->print(run->launch->print_user, text, p.used);
                        pthread_mutex_unlock(&run->lock);
                }
                give_result(warp, call, i, p.used);
        }
        return 0;
}

/* __assertfail(message, file, line, function, character size) */
static int op_assertfail(struct ptx_warp *warp, const struct ptx_insn *insn, uint32_t mask)
{
        const struct ptx_call *call = insn->extra;
        unsigned i = (unsigned)__builtin_ctz(mask);
        char message[96], file[96];

        if (!read_string(warp, i, argument(warp, call, 0, i), message, sizeof(message)))
                strcpy(message, "?");
        if (!read_string(warp, i, argument(warp, call, 1, i), file, sizeof(file)))
                strcpy(file, "?");
        return ptx_fault_at(warp, PTX_ASSERT, i, 0, "%.48s:%u: assertion `%.60s` failed", file,
                            (unsigned)argument(warp, call, 2, i), message);
}

static int op_malloc(struct ptx_warp *warp, const struct ptx_insn *insn, uint32_t mask)
{
        const struct ptx_call *call = insn->extra;

        for (uint32_t rest = mask; rest; rest &= rest - 1) {
                unsigned i = (unsigned)__builtin_ctz(rest);

                give_result(warp, call, i, ptx_heap_take(warp->block->run->module->heap, argument(warp, call, 0, i)));
        }
        return 0;
}

static int op_free(struct ptx_warp *warp, const struct ptx_insn *insn, uint32_t mask)
{
        const struct ptx_call *call = insn->extra;
        struct ptx_heap *heap = warp->block->run->module->heap;

        for (uint32_t rest = mask; rest; rest &= rest - 1) {
                unsigned i = (unsigned)__builtin_ctz(rest);
                uint64_t address = argument(warp, call, 0, i);

                if (address && (!heap || ptx_heap_give(heap, address)))
                        return ptx_fault_at(warp, PTX_ILLEGAL_ADDRESS, i, address,
                                            "free of 0x%" PRIx64 ", which malloc did not give", address);
        }
        return 0;
}

ptx_handler ptx_builtin_find(const char *name, uint32_t *argument_count, uint32_t *result_count)
{
        static const struct {
                const char *name;
                ptx_handler run;
                uint32_t arguments, results;
        } builtins[] = {
                {"vprintf", op_printf, 2, 1},
                {"__assertfail", op_assertfail, 5, 0},
                {"malloc", op_malloc, 1, 1},
                {"free", op_free, 1, 0},
        };

        for (unsigned i = 0; i < sizeof(builtins) / sizeof(builtins[0]); i++)
                if (!strcmp(builtins[i].name, name)) {
                        *argument_count = builtins[i].arguments;
                        *result_count = builtins[i].results;
                        return builtins[i].run;
                }
        return NULL;
}
