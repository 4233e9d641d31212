"""Writes the host's half: host_args.h (decoded calls) and host_dispatch.c (decoders, default bodies, descriptors)."""

import re

from emit_calls import NOTICE, guard, request_layout
from model import KINDS, NUMBER_KINDS


def kind_ctype(param):
    return "void *" if param.kind in NUMBER_KINDS else KINDS[param.kind][1]


def wire_cast(param, cparam):
    """Structures of our own stand for what CUDA has no name for, a color's four floats."""
    return f"({cparam.type})(void *)" if param.ctype.startswith("struct ivg_wire") else ""


def args_struct(row):
    """struct ivg_args_<symbol>: a call after its checks, handles looked up."""
    out = []
    for param in row.ins:
        name = param.name
        if param.form == "scalar":
            out.append(f"{param.ctype} {name};")
        elif param.form == "handle":
            out += [f"{kind_ctype(param)} {name};", f"ivg_id {name}_id;"]
        elif param.form == "struct":
            out.append(f"{param.ctype} {name};")
        elif param.form == "outrange":
            out += [f"void *{name}; /* arena memory, NULL when not wanted; opaque bytes only */", f"uint32_t {name}_bytes;"]
        elif param.form == "array":
            out += [f"const {param.ctype} *{name};", f"uint32_t {name}_count;"]
        elif param.form == "ids":
            out += [f"const ivg_id *{name};", f"uint32_t {name}_count;"]
        elif param.form == "cstring":
            out.append(f"const char *{name};")
        else:
            out += [f"const void *{name};", f"uint32_t {name}_bytes;"]
    for param in row.outs:
        if param.form == "new":
            out.append(f"ivg_id {param.name}; /* of the object to create */")
        elif param.ranged:
            element = {"array": param.ctype, "cstring": "char"}.get(param.form, "uint8_t")
            out += [f"{element} *{param.name}; /* room in the answer */", f"uint32_t {param.name}_capacity;"]
    if row.has_answer:
        out.append(f"struct ivg_answer_{row.symbol} *answer; /* zeroed */")
    if not out:
        out.append("uint32_t none;")
    return [f"struct ivg_args_{row.symbol} {{"] + ["        " + x for x in out] + ["};"]


def args_header(model):
    out = ["struct ivg_exec_call;", ""]
    for row in model.wire_rows:
        out += args_struct(row)
        if row.hand_host:
            out.append(f"CUresult ivg_host_{row.symbol}(struct ivg_exec_call *call, const struct ivg_args_{row.symbol} *args);")
        out.append("")
    return guard("host_args.h", "\n".join(out), ("ivgpu_calls.h",))


def look_up(param):
    name, kind = param.name, KINDS[param.kind][0]
    call = f"ivg_handle_get(call->exec, IVG_KIND_{kind}, request.{name}, &handle)"
    if param.kind == "stream" and not param.drop:
        return [f"result = ivg_handle_stream(call, request.{name}, &args->{name});",
                "if (result != CUDA_SUCCESS)", "        return result;"]
    if param.kind == "launchable":
        return [f"result = ivg_handle_function(call, request.{name}, &args->{name});",
                "if (result != CUDA_SUCCESS)", "        return result;"]
    lines = [f"result = {call};", "if (result != CUDA_SUCCESS)", "        return result;",
             f"args->{name} = handle;"]
    if param.optional:
        lines = [f"if (request.{name} != IVG_ID_NONE) {{"] + ["        " + x for x in lines] + ["}"]
    return lines


def limit_bytes(param):
    """(element size, limit in bytes) of a range, as C."""
    if param.form == "array":
        size = f"sizeof({param.ctype})"
    elif param.form == "ids":
        size = "sizeof(ivg_id)"
    else:
        return "1", str(param.limit)
    return size, f"{param.limit}ull * {size}"


def shared_counts(row):
    """Pairs of ranges whose C count is the same parameter."""
    by_count = {}
    for param in row.ins:
        if param.form in ("array", "ids") and param.count and not param.count_less:
            by_count.setdefault(param.count, []).append(param)
    return [(group[0], other) for group in by_count.values() for other in group[1:]]


def decoder(row):
    symbol = row.symbol
    layout = request_layout(row)
    out = [f"static CUresult decode_{symbol}(struct ivg_exec_call *call, struct ivg_args_{symbol} *args)", "{",
           f"        struct ivg_request_{symbol} request;"]
    body = []
    ranged = [p for p in row.ins if p.ranged]
    handles = [p for p in row.ins if p.form == "handle"]
    generic = [p for p in handles if not (p.kind == "launchable" or p.kind == "stream" and not p.drop)]
    out.append("        uint32_t cursor = sizeof(request);")
    if handles:
        out.append("        CUresult result;")
    if generic:
        out.append("        void *handle;")
    if any(p.form not in ("outrange",) for p in ranged):
        out.append("        const void *data;")
    body += ["memset(args, 0, sizeof(*args));",
             "if (call->request_bytes < sizeof(request))",
             "        return ivg_decode_refuse(call, 0);",
             "memcpy(&request, call->request, sizeof(request));"]
    for name in layout.reserved:
        body += [f"if (!ivg_decode_zero(call, request.{name}, sizeof(request.{name})))",
                 "        return CUDA_ERROR_UNKNOWN;"]
    for param in ranged:
        name, index = param.name, param.index
        if param.form == "outrange":
            body += [f"if (!ivg_decode_outrange(call, &request.{name}, {index}, {param.limit}, &args->{name}))",
                     "        return CUDA_ERROR_UNKNOWN;", f"args->{name}_bytes = request.{name}.bytes;"]
            continue
        element, limit = limit_bytes(param)
        optional = "true" if param.optional or param.form in ("array", "ids", "bytes") else "false"
        body += [f"if (!ivg_decode_range(call, &request.{name}, {index}, {optional}, {element}, {limit}, &cursor, &data))",
                 "        return CUDA_ERROR_UNKNOWN;"]
        if param.form == "cstring":
            body += [f"if (!ivg_decode_string(call, &request.{name}, {index}, data))",
                     "        return CUDA_ERROR_UNKNOWN;"]
        body.append(f"args->{name} = data;")
        if param.form in ("array", "ids"):
            body.append(f"args->{name}_count = (uint32_t)(request.{name}.bytes / {element});")
        elif param.form == "bytes":
            body.append(f"args->{name}_bytes = request.{name}.bytes;")
    body += ["if (cursor != call->request_bytes)", "        return ivg_decode_refuse(call, 0);"]
    scalars = {p.name for p in row.ins if p.form == "scalar"}
    for param in ranged:
        if param.count in scalars:  # the driver gets the number as it is: it must be the range's
            less = param.count_less.replace("-", " + ") if param.count_less else ""
            suffix = "bytes" if param.form == "bytes" else "count"
            body += [f"if ((uint64_t)args->{param.name}_{suffix}{less} != (uint64_t)request.{param.count})",
                     f"        return ivg_decode_refuse(call, {param.index});"]
    for first, other in shared_counts(row):
        body += [f"if (args->{first.name}_count != args->{other.name}_count)",
                 f"        return ivg_decode_refuse(call, {other.index});"]
    for param in row.params:
        name = param.name
        if param.form == "scalar" and not param.out:
            body.append(f"args->{name} = request.{name};")
        elif param.form == "struct" and not param.out:
            body.append(f"args->{name} = request.{name};")
            for member in param.zero:
                body += [f"if (args->{name}.{member})",
                         f"        return ivg_decode_refuse(call, {param.index});"]
        elif param.form == "new":
            body += [f"if (request.{name} == IVG_ID_NONE)",
                     f"        return ivg_decode_refuse(call, {param.index});",
                     f"args->{name} = request.{name};"]
        elif param.form == "handle":
            body.append(f"args->{name}_id = request.{name};")
        elif param.out and param.ranged:
            limit = param.limit
            body += [f"if (request.{name}_capacity > {limit}u{element_factor(param)})",
                     f"        return ivg_decode_refuse(call, {param.index});",
                     f"args->{name}_capacity = request.{name}_capacity{element_divisor(param)};"]
            for other in ranged:
                if param.count and other.count == param.count:  # one number for the driver, so one number here
                    body += [f"if (args->{name}_capacity != args->{other.name}_count)",
                             f"        return ivg_decode_refuse(call, {param.index});"]
    if row.has_answer:
        body += ["args->answer = ivg_exec_answer_room(call, sizeof(*args->answer));", "if (!args->answer)",
                 "        return CUDA_ERROR_UNKNOWN;", "memset(args->answer, 0, sizeof(*args->answer));"]
    for param in row.outs:
        if param.ranged:
            body += [f"args->{param.name} = ivg_decode_answer(call, &args->answer->{param.name}, request.{param.name}_capacity);",
                     f"if (!args->{param.name})", "        return CUDA_ERROR_UNKNOWN;",
                     f"memset(args->{param.name}, 0, request.{param.name}_capacity);"]
    for param in handles:
        body += look_up(param)
    for param in row.ins:
        if param.check:
            body += device_check(param)
    body.append("return CUDA_SUCCESS;")
    return out + ["        " + x for x in body] + ["}", ""]


def element_factor(param):
    return f" * sizeof({param.ctype})" if param.form == "array" else ""


def element_divisor(param):
    return f" / (uint32_t)sizeof({param.ctype})" if param.form == "array" else ""


def product(factors, prefix):
    """A device range's length: bytes = a * b * c, UINT64_MAX when it overflows. `prefix`: text, or text by parameter."""
    terms = [f if f.isdigit() else f"(uint64_t){prefix if isinstance(prefix, str) else prefix[f]}{f}" for f in factors]
    text = terms[0]
    for term in terms[1:]:
        text = f"ivg_multiply_saturated({text}, {term})"
    return text


def device_check(param):
    lengths = [product(part, "request.") for part in param.check]
    function = "ivg_exec_device_range" if len(lengths) == 1 else "ivg_exec_device_range_2d"
    return [f"if ({function}(call, request.{param.name}, {', '.join(lengths)}) != CUDA_SUCCESS)",
            "        return CUDA_ERROR_INVALID_VALUE;"]


def default_body(model, row):
    """Calls the driver with the decoded arguments, in the order of the C signature."""
    symbol, by_name = row.symbol, {p.name: p for p in row.params}
    counts = {p.count: p for p in reversed(row.params) if p.count}
    before, after, args = [], [], []
    prefix = {p.name: "args->answer->" if p.out else "args->" for p in row.params}
    after_memory = []
    for cparam in model.signatures[symbol]:
        param = by_name.get(cparam.name)
        if param is None:
            counted = counts[cparam.name]
            suffix = "_capacity" if counted.out else ("_bytes" if counted.form in ("bytes", "outrange") else "_count")
            args.append(f"({cparam.type})args->{counted.name}{suffix}")
        elif param.form == "scalar" and not param.out:
            if cparam.type == "CUmemGenericAllocationHandle":
                raise row.error(f"'{param.name}' is a handle")
            cast = "(void *)(uintptr_t)" if cparam.pointer else f"({cparam.type})"
            args.append(f"{cast}args->{param.name}")
        elif param.form == "handle":
            cast = f"({KINDS[param.kind][1]})(uintptr_t)" if param.kind in NUMBER_KINDS else ""
            args.append(f"{cast}args->{param.name}")
        elif param.form == "struct" and not param.out:
            if cparam.pointer and not cparam.type.startswith("const"):
                before.append(f"{param.ctype} {param.name} = args->{param.name};")
                args.append(f"{wire_cast(param, cparam)}&{param.name}")
            else:
                args.append(f"&args->{param.name}" if cparam.pointer else f"args->{param.name}")
        elif param.form == "ids":
            kind, ctype = KINDS[param.kind]
            before += [f"{ctype} {param.name}[{param.limit}];",
                       f"for (uint32_t i = 0; i < args->{param.name}_count; i++) {{", "        void *handle;",
                       f"        const CUresult found = ivg_handle_get(call->exec, IVG_KIND_{kind}, args->{param.name}[i], &handle);",
                       "        if (found != CUDA_SUCCESS)", "                return found;",
                       f"        {param.name}[i] = handle;", "}"]
            args.append(f"args->{param.name}_count ? {param.name} : NULL")
        elif param.form == "new":
            before.append(f"{KINDS[param.kind][1]} {param.name} = 0;")
            args.append(f"&{param.name}")
            value = f"(void *)(uintptr_t){param.name}" if param.kind in NUMBER_KINDS else param.name
            kind = f"IVG_KIND_{KINDS[param.kind][0]}"
            put = f"ivg_handle_put(call, {kind}, args->{param.name}, {value})"
            if param.kind == "graph_node":
                put = f"ivg_graph_node_put(call, args->{param.name}, {value})"
            elif param.parent:
                put = f"ivg_handle_put_part(call, {kind}, args->{param.name}, {value}, args->{param.parent}_id)"
            after += [f"if (!{put})",
                      "        return CUDA_ERROR_UNKNOWN;"]
        elif param.form == "scalar":
            before.append(f"{cparam.pointee} {param.name} = 0;")
            args.append(f"&{param.name}")
            after.append(f"args->answer->{param.name} = ({param.ctype}){param.name};")
            if param.memory == "alloc":
                after_memory.append(f"(void)ivg_exec_memory_add(call, {param.name}, {product(param.check[0], prefix)});")
        elif param.form == "struct" and param.ctype == "struct ivg_wire_tensor_map":
            # The driver wants its own alignment, which an answer does not have.
            before += [f"CUtensorMap {param.name};", f"memset(&{param.name}, 0, sizeof({param.name}));"]
            args.append(f"&{param.name}")
            after.append(f"memcpy(&args->answer->{param.name}, &{param.name}, sizeof({param.name}));")
        elif param.form == "struct":
            args.append(f"{wire_cast(param, cparam)}&args->answer->{param.name}")
        elif param.form == "array" and not cparam.type.startswith("const") and not param.out:
            args.append(f"({param.ctype} *)(uintptr_t)args->{param.name}")
        elif param.form == "bytes" and not cparam.type.startswith("const") and not param.out:
            args.append(f"({cparam.type})(uintptr_t)args->{param.name}")
        else:
            args.append(f"args->{param.name}")
    driver = f"ivg_exec_driver(call->exec)->{symbol}"
    body = before + [f"if (!{driver})", "        return CUDA_ERROR_NOT_SUPPORTED;"]
    freed = [p for p in row.ins if p.memory == "free"]
    for param in freed:
        body += [f"if (!ivg_exec_memory_known(call, args->{param.name}))",
                 "        return CUDA_ERROR_INVALID_VALUE;",
                 "/* Before the driver gives the addresses to somebody else. */",
                 f"ivg_exec_memory_remove(call, args->{param.name});"]
    drops = [p for p in row.ins if p.drop]
    removal = [f"ivg_handle_remove(call->exec, IVG_KIND_{KINDS[p.kind][0]}, args->{p.name}_id);" for p in drops]
    if drops and row.class_ == "async":
        body += ["/* The guest has forgotten the object whatever the driver says; and no other thread is to find it from here on. */"]
        body += removal
    after += after_memory + (removal if row.class_ != "async" else [])
    body.append(f"const CUresult result = {driver}({', '.join(args)});")
    if after:
        body += ["if (result != CUDA_SUCCESS)", "        return result;"] + after
    unused = ["        (void)args;"] if not any("args->" in x for x in body) else []
    return [f"static CUresult host_{symbol}(struct ivg_exec_call *call, const struct ivg_args_{symbol} *args)",
            "{"] + unused + ["        " + x for x in body] + ["        return result;", "}", ""]


def execute(row):
    symbol = row.symbol
    target = f"ivg_host_{symbol}" if row.hand_host else f"host_{symbol}"
    return [f"static CUresult execute_{symbol}(struct ivg_exec_call *call)", "{",
            f"        struct ivg_args_{symbol} args;",
            f"        const CUresult result = decode_{symbol}(call, &args);",
            f"        return result == CUDA_SUCCESS ? {target}(call, &args) : result;", "}", ""]


def request_bytes_max(row):
    """Longest record, as C: what a longer one holds cannot be inline. The decoder checks the exact length."""
    size = f"sizeof(struct ivg_request_{row.symbol})"
    ranged = [p for p in row.ins if p.ranged and p.form != "outrange"]
    if not ranged:
        return size
    if any(p.form == "array" for p in ranged):
        return "IVG_RECORD_PAYLOAD_BYTES_MAX"
    longest = sum((p.limit * (4 if p.form == "ids" else 1) + 7) & ~7 for p in ranged)
    return f"{size} + {longest}u" if longest < 3200 else "IVG_RECORD_PAYLOAD_BYTES_MAX"


def flag(on):
    return "true" if on else "false"


def dispatch_source(model):
    out = [NOTICE, '#include "call_decode.h"', '#include "call_print.h"', '#include "host_args.h"', "",
           "static inline uint64_t ivg_multiply_saturated(uint64_t a, uint64_t b)", "{", "        uint64_t bytes;",
           "        return __builtin_mul_overflow(a, b, &bytes) ? UINT64_MAX : bytes;", "}", ""]
    if not any(any(len(part) > 1 for part in p.check or ()) for row in model.wire_rows for p in row.params):
        del out[-6:]
    for row in model.wire_rows:
        out += decoder(row)
        if row.hand_host:
            out += [f"/* Replaced at link time by the hand-written body; finding this one there is a mistake that a test looks for. */",
                    f"__attribute__((weak)) CUresult ivg_host_{row.symbol}(struct ivg_exec_call *call, const struct ivg_args_{row.symbol} *args)",
                    "{", "        (void)call;", "        (void)args;", "        return CUDA_ERROR_NOT_SUPPORTED;", "}", ""]
        else:
            out += default_body(model, row)
        out += execute(row)
    out += ["static const struct ivg_call_descriptor descriptors[] = {"]
    for row in model.wire_rows:
        symbol = row.symbol
        out.append(f"        {{.number = IVG_CALL_{symbol}, .class_ = IVG_CLASS_{row.class_.upper()}, "
                   f".lane = {flag('lane' in row.flags)}, .needs_context = {flag('nocontext' not in row.flags)}, "
                   f".reports_async = {flag('reports' in row.flags)}, .gpu = {flag('gpu' in row.flags)}, "
                   f".orders_streams = {flag(row.orders_streams)}, .unchains = {flag(row.unchains)}, "
                   f".request_bytes_min = sizeof(struct ivg_request_{symbol}), .request_bytes_max = {request_bytes_max(row)}, "
                   f'.name = "{symbol}", .execute = execute_{symbol}, .print = ivg_print_{symbol}}},')
    out += ["};", "", "/* 1 + index into descriptors; 0: no such call. */",
            "static const uint16_t index_of_number[IVG_CALL_NUMBER_MAX + 1] = {"]
    out += [f"        [IVG_CALL_{row.symbol}] = {index}," for index, row in enumerate(model.wire_rows, 1)]
    out += ["};", "", "const uint32_t ivg_call_count = IVG_CALL_COUNT;", "",
            "const struct ivg_call_descriptor *ivg_call_find(uint16_t number)", "{",
            "        const uint16_t index = number <= IVG_CALL_NUMBER_MAX ? index_of_number[number] : 0;",
            "        return index ? &descriptors[index - 1] : NULL;", "}", "",
            "const struct ivg_call_descriptor *ivg_call_at(uint32_t index)", "{",
            "        return index < IVG_CALL_COUNT ? &descriptors[index] : NULL;", "}", ""]
    return "\n".join(out)
