"""Writes call_print.h/.c: records as text, for logs of both sides."""

from emit_calls import NOTICE, guard


def print_header(model):
    out = ["#include <stddef.h>", "",
           "/* Each writes at most `capacity` bytes, NUL included, and reads at most `request_bytes` of the request.",
           " * Returns the length of the text, cut to capacity - 1. */"]
    out += [f"int ivg_print_{r.symbol}(char *text, size_t capacity, const uint8_t *request, uint32_t request_bytes);"
            for r in model.wire_rows]
    out += ["/* The same by call number; an unknown one is printed as such. */",
            "int ivg_print_call(uint16_t number, char *text, size_t capacity, const uint8_t *request, uint32_t request_bytes);"]
    return guard("call_print.h", "\n".join(out), ("ivgpu_calls.h",))


def printer(row):
    symbol = row.symbol
    formats, args = [], []
    for param in row.params:
        name = param.name
        if param.form == "scalar" and not param.out:
            if param.ctype == "float":
                formats.append(f"{name}=%g")
                args.append(f"(double)r.{name}")
            elif param.ctype.startswith("int"):
                formats.append(f"{name}=%lld")
                args.append(f"(long long)r.{name}")
            else:
                wide = param.ctype == "uint64_t"
                formats.append(f"{name}={'0x%llx' if wide else '%llu'}")
                args.append(f"(unsigned long long)r.{name}")
        elif param.form in ("handle", "new"):
            formats.append(f"{name}={param.kind}#%x")
            args.append(f"r.{name}")
        elif param.form == "struct" and not param.out:
            formats.append(f"{name}={{%zu bytes}}")
            args.append(f"sizeof(r.{name})")
        elif param.ranged and not param.out:
            formats.append(f"{name}=[%u bytes %s]")
            args += [f"r.{name}.bytes", f"where_name(r.{name}.where)"]
        elif param.out and param.ranged:
            formats.append(f"{name}_capacity=%u")
            args.append(f"r.{name}_capacity")
    text = f"{symbol}({', '.join(formats)})"
    lines = [f"int ivg_print_{symbol}(char *text, size_t capacity, const uint8_t *request, uint32_t request_bytes)", "{",
             f"        struct ivg_request_{symbol} r;",
             "        if (request_bytes < sizeof(r))",
             f'                return finish(text, capacity, snprintf(text, capacity, "{symbol}(short: %u bytes)", request_bytes));',
             "        memcpy(&r, request, sizeof(r));",
             f'        return finish(text, capacity, snprintf(text, capacity, "{text}"{"".join(", " + a for a in args)}));',
             "}", ""]
    return lines


def print_source(model):
    ranged = any(p.ranged and not p.out for r in model.wire_rows for p in r.params)
    out = [NOTICE, '#include "call_print.h"', "#include <stdio.h>", "#include <string.h>", "",
           "static int finish(const char *text, size_t capacity, int length)", "{", "        (void)text;",
           "        if (length < 0 || capacity == 0)", "                return 0;",
           "        return (size_t)length < capacity ? length : (int)(capacity - 1);", "}", ""]
    if ranged:
        out += ["static const char *where_name(uint32_t where)", "{",
                '        return where == IVG_RANGE_NULL ? "null" : where == IVG_RANGE_INLINE ? "inline" :',
                '               where == IVG_RANGE_ARENA ? "arena" : "?";', "}", ""]
    for row in model.wire_rows:
        out += printer(row)
    out += ["int ivg_print_call(uint16_t number, char *text, size_t capacity, const uint8_t *request, uint32_t request_bytes)",
            "{", "        switch (number) {"]
    for row in model.wire_rows:
        out += [f"        case IVG_CALL_{row.symbol}:",
                f"                return ivg_print_{row.symbol}(text, capacity, request, request_bytes);"]
    out += ["        default:",
            '                return finish(text, capacity, snprintf(text, capacity, "call 0x%04x (unknown)", number));',
            "        }", "}", ""]
    return "\n".join(out)
