"""Writes what the table's tests start from: call_samples.c, a valid request per call as the host sees it; and
send_samples.c, a call of every encoder as the guest makes it."""

from emit_calls import NOTICE


def samples_source(model):
    """A valid request per row: scalars 1, numbered objects, 8-byte ranges; for call_decode_sweep.c."""
    out = [NOTICE, '#include "call_samples.h"', "#include <string.h>", "",
           "static uint32_t sample_range(uint8_t *request, struct ivg_wire_range *range, uint32_t offset, uint32_t bytes)", "{",
           "        const uint32_t padded = (bytes + 7u) & ~7u;",
           "        *range = (struct ivg_wire_range){.bytes = bytes, .where = IVG_RANGE_INLINE, .offset = offset};",
           "        memset(request + offset, 0, padded);", "        return padded;", "}", ""]
    for row in model.wire_rows:
        symbol = row.symbol
        out += [f"static uint32_t sample_{symbol}(uint8_t *request)", "{",
                f"        struct ivg_request_{symbol} r;", "        uint32_t bytes = sizeof(r);",
                "        memset(&r, 0, sizeof(r));"]
        scalars = {p.name for p in row.ins if p.form == "scalar"}
        for param in row.params:
            name = param.name
            if param.form == "scalar" and not param.out:
                most = max([int(p.count_less[1:]) for p in row.ins if p.count == name and p.count_less], default=1)
                out.append(f"        r.{name} = {most};")
            elif param.form in ("handle", "new"):
                out.append(f"        r.{name} = IVG_ID_FIRST + {param.index};")
            elif param.out and param.ranged:
                size = f"sizeof({param.ctype})" if param.form == "array" else str(min(8, param.limit))
                out.append(f"        r.{name}_capacity = {size};")
            elif param.form == "outrange":
                out.append(f"        r.{name} = (struct ivg_wire_range){{.bytes = {min(8, param.limit)}, .where = IVG_RANGE_ARENA}};")
            elif param.count in scalars:  # the number that the call gives
                out += [f"        bytes += sample_range(request, &r.{name}, bytes, (r.{param.count} {param.count_less or ''}) * "
                        f"(uint32_t)sizeof({param.ctype}));"]
            elif param.ranged and not param.out:
                size = f"(uint32_t)sizeof({param.ctype})" if param.form == "array" else \
                    "(uint32_t)sizeof(ivg_id)" if param.form == "ids" else str(min(5, param.limit))
                if param.form in ("cstring",):
                    filling = [f"        memset(request + r.{name}.offset, 'a', {size} - 1u);"]
                elif param.form == "ids":
                    filling = [f"        memcpy(request + r.{name}.offset, &(ivg_id){{IVG_ID_FIRST + {param.index}}}, sizeof(ivg_id));"]
                else:
                    filling = []
                out += [f"        bytes += sample_range(request, &r.{name}, bytes, {size});"] + filling
        out += ["        memcpy(request, &r, sizeof(r));", "        return bytes;", "}", ""]
    out += ["const struct ivg_call_sample ivg_call_samples[] = {"]
    for row in model.wire_rows:
        ranges = [p for p in row.ins if p.ranged]
        offset = f"offsetof(struct ivg_request_{row.symbol}, {ranges[0].name})" if ranges else "0"
        out.append(f"        {{IVG_CALL_{row.symbol}, sample_{row.symbol}, {offset}, {len(ranges)}}},")
    out += ["};", "const uint32_t ivg_call_samples_count = sizeof(ivg_call_samples) / sizeof(ivg_call_samples[0]);", ""]
    return "\n".join(out)


def send_sample(row):
    """Calls ivg_send_<symbol> with ranges of n bytes or elements. Says whether n is within the row's limits."""
    symbol = row.symbol
    body, args, limits = [], [], []
    scalars = {p.name for p in row.ins if p.form == "scalar"}
    scaled = {p.count for p in row.ins if p.count in scalars}
    shared = {}
    for param in row.params:
        if param.count:
            shared.setdefault(param.count, []).append(param)

    def length(param):
        less = param.count_less.replace("-", " - ") if param.count_less else ""
        return f"n{less}"

    for param in row.ins:
        name = param.name
        if param.form == "scalar":
            args.append("n" if name in scaled else "1")
            continue
        if param.form == "handle":
            args.append("IVG_ID_FIRST")
            continue
        if param.form == "struct":
            body += [f"{param.ctype} {name};", f"memset(&{name}, 0, sizeof({name}));"]
            args.append(f"&{name}")
            continue
        limits.append(f"{length(param)} <= {param.limit}u")
        if param.form == "cstring":
            body += ["char *const text = sample_text(n);"]
            args.append("text")
        elif param.form in ("array", "ids"):
            ctype = param.ctype if param.form == "array" else "ivg_id"
            value = "IVG_ID_FIRST" if param.form == "ids" else None
            fill = [f"for (uint32_t i = 0; i < n; i++)", f"        {name}[i] = {value};"] if value else []
            body += [f"{ctype} *const {name} = calloc(n, sizeof(*{name}));"] + fill
            args += [name, length(param)]
        else:
            body += [f"uint8_t *const {name} = calloc(n, 1);"]
            args += [name, length(param)]
    for param in row.outs:
        name = param.name
        if param.form == "new":
            args.append("IVG_ID_FIRST")
        elif param.form in ("scalar", "struct"):
            body.append(f"{param.ctype} {name};")
            args.append(f"&{name}")
        else:
            ctype = {"array": param.ctype, "cstring": "char"}.get(param.form, "uint8_t")
            body += [f"{ctype} *const {name} = calloc(n, sizeof(*{name}));", f"uint32_t {name}_bytes = 0;"]
            args += [name, "n", f"&{name}_bytes"]
            limits.append(f"n <= {param.limit}u")
    lowest = max([int(p.count_less[1:]) for p in row.ins if p.count_less], default=0)
    if lowest:
        limits.append(f"n >= {lowest}u")
    body += [f"*allowed = {' && '.join(dict.fromkeys(limits)) or 'true'};"]
    if lowest:
        body += [f"if (n < {lowest}u)", "        goto end;"]
    body += [f"result = ivg_send_{symbol}({', '.join(args)});"]
    frees = [f"free({p.name});" for p in row.params if p.ranged and p.form != "cstring"]
    frees += ["free(text);" for p in row.ins if p.form == "cstring"]
    unused = [] if "n" in " ".join(args).split(", ") or any("n" in a.split() for a in args) or limits else ["(void)n;"]
    return ([f"static CUresult send_{symbol}(uint32_t n, bool *allowed)", "{", "        CUresult result = CUDA_SUCCESS;"] +
            ["        " + x for x in unused + body] + (["end:"] if lowest else []) +
            ["        " + x for x in frees] + ["        return result;", "}", ""])


def send_samples_source(model):
    out = [NOTICE, '#include "send_samples.h"', '#include "guest_send.h"', "#include <stdlib.h>", ""]
    if any(p.form == "cstring" for r in model.wire_rows for p in r.ins):
        out += ["static char *sample_text(uint32_t bytes)", "{", "        char *const text = calloc(bytes, 1);",
                "        memset(text, 'a', bytes - 1);", "        return text;", "}", ""]
    for row in model.wire_rows:
        out += send_sample(row)
    out += ["const struct ivg_send_sample ivg_send_samples[] = {"]
    out += [f"        {{IVG_CALL_{row.symbol}, {int(any(p.ranged for p in row.params))}, send_{row.symbol}}},"
            for row in model.wire_rows]
    out += ["};", "const uint32_t ivg_send_samples_count = sizeof(ivg_send_samples) / sizeof(ivg_send_samples[0]);", ""]
    return "\n".join(out)
