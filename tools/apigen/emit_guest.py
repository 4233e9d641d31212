"""Writes the guest's half: guest_send.h (encoders), guest_stubs.c (exported functions), guest_hand.h (names of hand-written
ones), guest_symbols.c (names for cuGetProcAddress) and libcuda.map (version script)."""

import re

from emit_calls import NOTICE, guard, parameters, request_layout
from model import KINDS, NUMBER_KINDS

PRINT_POINTERS = {ctype for word, (_, ctype) in KINDS.items() if word not in NUMBER_KINDS} | {
    "CUhostFn", "CUasyncCallback", "CUstreamCallback", "CUoccupancyB2DSize", "CUlogsCallback", "CUgraphicsResource", "CUexternalMemory", "CUexternalSemaphore", "CUdevResourceDesc", "CUgreenCtx",
    "CUasyncCallbackHandle", "CUlogsCallbackHandle", "CUgraphDeviceNode"}
BY_VALUE_STRUCTS = {"CUmemLocation", "CUipcEventHandle", "CUipcMemHandle"}


# Lists of handles that stubs bring into numbers; all of them say where edges of a graph touch.
IDS_OF = {"graph_node": "ivg_graph_node_ids"}
NODE_END = {"to": "IVG_NODE_AS_TO"}

# ---- encoders ----

def send_parameters(row):
    out = []
    for param in row.ins:
        if param.form == "scalar":
            out.append(f"{param.ctype} {param.name}")
        elif param.form == "handle":
            out.append(f"ivg_id {param.name}")
        elif param.form == "struct":
            out.append(f"const {param.ctype} *{param.name}")
        elif param.form == "outrange":
            out += [f"void *{param.name}", f"uint64_t {param.name}_bytes"]
        elif param.form == "cstring":
            out.append(f"const char *{param.name}")
        elif param.form == "array":
            out += [f"const {param.ctype} *{param.name}", f"uint64_t {param.name}_count"]
        elif param.form == "ids":
            out += [f"const ivg_id *{param.name}", f"uint64_t {param.name}_count"]
        else:
            out += [f"const void *{param.name}", f"uint64_t {param.name}_bytes"]
    for param in row.outs:
        if param.form == "new":
            out.append(f"ivg_id {param.name}")
        elif param.form in ("scalar", "struct"):
            out.append(f"{param.ctype} *{param.name}")
        else:
            element = {"array": param.ctype, "cstring": "char"}.get(param.form, "void")
            out += [f"{element} *{param.name}", f"uint32_t {param.name}_capacity", f"uint32_t *{param.name}_bytes"]
    return out


def range_bytes(param):
    name = param.name
    if param.form == "cstring":
        return f"{name} ? strlen({name}) + 1 : 0", str(param.limit)
    if param.form == "array":
        return f"{name}_count * sizeof(*{name})", f"{param.limit}ull * sizeof(*{name})"
    if param.form == "ids":
        return f"{name}_count * sizeof(ivg_id)", f"{param.limit}ull * sizeof(ivg_id)"
    return f"{name}_bytes", f"{param.limit}ull"


def capacity(param):
    size = f" * sizeof(*{param.name})" if param.form == "array" else ""
    return f"{param.name}_capacity{size}", f"{param.limit}u{size}"


def sender(row):
    """static inline CUresult ivg_send_<symbol>(wire parameters)."""
    symbol, ranged = row.symbol, [p for p in row.ins if p.ranged]
    request = f"struct ivg_request_{symbol}"
    body = []
    if ranged:
        body += ["_Alignas(8) uint8_t record[IVG_RECORD_PAYLOAD_BYTES_MAX];",
                 f"{request} *const request = ({request} *)record;",
                 "struct ivg_encoder encoder = {.request = record, .bytes = sizeof(*request)};",
                 "CUresult result;"]
        body += [f"void *{p.name}_memory = NULL;" for p in ranged if p.form == "outrange"]
    else:
        body += [f"{request} storage;", f"{request} *const request = &storage;", "CUresult result;"]
    answers = [p for p in row.outs if p.ranged]
    if row.has_answer:
        if answers:
            body.append("_Alignas(8) uint8_t answer_area[IVG_ANSWER_AREA_BYTES];")
            body.append(f"struct ivg_answer_{symbol} answer;")
        else:
            body.append(f"struct ivg_answer_{symbol} answer;")
        body.append("uint32_t answer_bytes = 0;")
    body.append("memset(request, 0, sizeof(*request));")
    for param in row.ins:
        if param.form in ("scalar", "handle"):
            body.append(f"request->{param.name} = {param.name};")
        elif param.form == "struct":
            body.append(f"request->{param.name} = *{param.name};")
    for param in row.outs:
        if param.form == "new":
            body.append(f"request->{param.name} = {param.name};")
        elif param.ranged:
            want, limit = capacity(param)
            body.append(f"request->{param.name}_capacity = (uint32_t)({want} < {limit} ? {want} : {limit});")
    for param in ranged:
        length, limit = range_bytes(param)
        if param.form == "outrange":
            body += [f"result = ivg_encode_outrange(&encoder, &request->{param.name}, {length}, {limit}, "
                     f"&{param.name}_memory);"]
        else:
            body += [f"result = ivg_encode_range(&encoder, &request->{param.name}, {param.name}, {length}, {limit});"]
        body += ["if (result != CUDA_SUCCESS)", "        goto end;"]
    used = "encoder.bytes" if ranged else "sizeof(*request)"
    if row.has_answer:
        where = "answer_area, sizeof(answer), sizeof(answer_area)" if answers else \
            "&answer, sizeof(answer), sizeof(answer)"
        body.append(f"result = ivg_call_sync(IVG_CALL_{symbol}, request, {used}, {where}, &answer_bytes);")
    elif row.class_ == "sync":
        body.append(f"result = ivg_call_sync(IVG_CALL_{symbol}, request, {used}, NULL, 0, 0, NULL);")
    elif ranged:
        body += ["/* Staged bytes are lent until the call has run: then it goes with an answer. */",
                 "result = encoder.staged_count > 0",
                 f"                 ? ivg_call_sync(IVG_CALL_{symbol}, request, {used}, NULL, 0, 0, NULL)",
                 f"                 : ivg_call_async(IVG_CALL_{symbol}, request, {used});"]
    else:
        body.append(f"result = ivg_call_async(IVG_CALL_{symbol}, request, {used});")
    if row.has_answer:
        # Outputs of a failed call are only read where the row says so, and only when the host has sent them.
        done = "goto end;" if ranged else "return result;"
        keep = f"answer_bytes < sizeof(answer)" if "answer_on_error" in row.flags else "result != CUDA_SUCCESS"
        body += [f"if ({keep})", f"        {done}"]
        if answers:
            body.append("memcpy(&answer, answer_area, sizeof(answer));")
        for param in row.outs:
            if param.form in ("scalar", "struct"):
                body += [f"if ({param.name})", f"        *{param.name} = answer.{param.name};"]
            elif param.ranged:
                body += [f"if (!ivg_decode_answer_range(answer_area, answer_bytes, &answer.{param.name}, {param.name}, "
                         f"request->{param.name}_capacity, {param.name}_bytes))",
                         "        result = CUDA_ERROR_UNKNOWN;"]
    for param in ranged:
        if param.form == "outrange":
            body += [f"if ({param.name} && {param.name}_memory)",
                     f"        memcpy({param.name}, {param.name}_memory, {param.name}_bytes);"]
    if ranged:
        body += ["end:", "ivg_encode_end(&encoder);"]
    body.append("return result;")
    head = f"static inline CUresult ivg_send_{symbol}({', '.join(send_parameters(row)) or 'void'})"
    return "\n".join([head, "{"] + [("" if line == "end:" else "        ") + line for line in body] + ["}", ""])


def send_header(model):
    body = "\n".join(sender(row) for row in model.wire_rows)
    return guard("guest_send.h", body, ("call_encode.h",))


# ---- exported functions ----

def print_format(cparam):
    name, ctype = cparam.name, cparam.type
    if cparam.pointer or ctype in PRINT_POINTERS or "*" in ctype:
        return f"{name}=%p", f"(const void *){name}" if cparam.pointer else f"(const void *)(uintptr_t){name}"
    if ctype in BY_VALUE_STRUCTS:
        return f"{name}={{...}}", None
    if ctype == "float":
        return f"{name}=%g", f"(double){name}"
    if ctype.startswith("CUdeviceptr"):
        return f"{name}=0x%llx", f"(unsigned long long){name}"
    return f"{name}=%lld", f"(long long){name}"


def log_line(symbol, cparams, result="result"):
    formats = [print_format(p) for p in cparams]
    text = ", ".join(f for f, _ in formats)
    args = "".join(f", {a}" for _, a in formats if a)
    return [f"        if (__builtin_expect(ivg_log_calls, false))",
            f'                ivg_log("{symbol}({text}) = %d"{args}, (int){result});']


def bad_handle(kind):
    return "CUDA_ERROR_INVALID_CONTEXT" if kind == "context" else "CUDA_ERROR_INVALID_HANDLE"


def handle_lines(param, ctype):
    """Looks the caller's handle up; declares <name>_id."""
    name, kind = param.name, KINDS[param.kind][0]
    pointer = f"(const void *)(uintptr_t){name}" if param.kind in NUMBER_KINDS else name
    if param.kind == "stream" and not param.drop:
        return [f"ivg_id {name}_id;", f"result = ivg_stream_id({name}, null_stream, &{name}_id);",
                "if (result != CUDA_SUCCESS)", "        return result;"]
    look_up = f"ivg_object_of_function({pointer})" if param.kind == "launchable" else \
        f"ivg_object_of(IVG_KIND_{kind}, {pointer})"
    lines = [f"struct ivg_object *const {name}_object = {look_up};"]
    if param.optional:
        lines += [f"if ({name} && !{name}_object)", f"        return {bad_handle(param.kind)};",
                  f"const ivg_id {name}_id = {name}_object ? {name}_object->id : IVG_ID_NONE;"]
    else:
        lines += [f"if (!{name}_object)", f"        return {bad_handle(param.kind)};",
                  f"const ivg_id {name}_id = {name}_object->id;"]
    return lines


def stub(model, row):
    """The body shared by a row's exported names: static CUresult stub_<symbol>(C parameters, null_stream)."""
    cparams = {p.name: p for p in model.signatures[row.symbol]}
    body, after_ok, on_fail = ["CUresult result;"], [], []
    context = "nocontext" not in row.flags
    if context:
        body += ["struct ivg_object *context;", "result = ivg_context_require(&context);",
                 "if (result != CUDA_SUCCESS)", "        return result;"]
    else:
        body += ["result = ivg_process_check();", "if (result != CUDA_SUCCESS)", "        return result;"]
    args = []
    for param in row.params:
        cparam = cparams[param.name]
        if param.form in ("bytes", "array", "ids", "outrange") and param.count:
            body += [f"if (!{param.name} && {param.count} != 0)", "        return CUDA_ERROR_INVALID_VALUE;"]
        elif cparam.pointer and not param.optional and not (param.form == "scalar" and not param.out):
            body += [f"if (!{param.name})", "        return CUDA_ERROR_INVALID_VALUE;"]
    for param in row.ins:
        name, cparam = param.name, cparams[param.name]
        if param.form == "scalar":
            args.append(f"({param.ctype})(uintptr_t){name}" if cparam.pointer else f"({param.ctype}){name}")
        elif param.form == "handle":
            body += handle_lines(param, cparam.type)
            args.append(f"{name}_id")
            if param.kind == "event" and "records" in row.flags:
                body.append(f"ivg_signal_leave({name}_object);")
            if param.drop:
                after_ok.append(f"ivg_object_destroy({name}_object);")
        elif param.form == "struct":
            pointer = name if cparam.pointer else f"&{name}"
            access = f"{name}->" if cparam.pointer else f"{name}."
            for member in param.zero:
                body += [f"if ({access}{member})", f'        return ivg_refuse("{row.symbol} with {member}");']
            cast = f"(const {param.ctype} *)(const void *)" if param.ctype.startswith("struct ivg_wire") else ""
            args.append(cast + pointer)
        elif param.form == "cstring":
            args.append(name)
        elif param.form == "ids":
            body += [f"ivg_id {name}_ids[{param.limit}];",
                     f"if ({param.count} > {param.limit})",
                     f'        return ivg_refuse("{row.symbol} with more than {param.limit} {name}");',
                     f"result = {IDS_OF[param.kind]}({name}, {param.count}, {NODE_END.get(name, 'IVG_NODE_AS_FROM')}, {name}_ids);",
                     "if (result != CUDA_SUCCESS)", "        return result;"]
            args += [f"{name} ? {name}_ids : NULL", f"(uint64_t){param.count}"]
        else:
            less = param.count_less.replace("-", " - ") if param.count_less else ""
            if less:
                body += [f"if ({param.count} < {less[-1]})", "        return CUDA_ERROR_INVALID_VALUE;"]
            args += [name, f"(uint64_t){param.count}{less}"]
    finish = []
    for param in row.outs:
        name, cparam = param.name, cparams[param.name]
        if param.form == "new":
            kind = KINDS[param.kind][0]
            owner = "context" if context else "NULL"
            body += [f"struct ivg_object *{name}_object;",
                     f"result = ivg_object_create(IVG_KIND_{kind}, {owner}, &{name}_object);",
                     "if (result != CUDA_SUCCESS)", "        return result;"]
            args.append(f"{name}_object->id")
            on_fail.append(f"ivg_object_destroy({name}_object);")
            cast = "(uintptr_t)" if param.kind in NUMBER_KINDS else ""
            value = f"({KINDS[param.kind][1]}){cast}{name}_object"
            finish.append(f"*{name} = {value};")
        elif param.form == "scalar":
            body.append(f"{param.ctype} {name}_out = 0;")
            args.append(f"&{name}_out")
            store = f"*{name} = ({cparam.pointee}){name}_out;"
            finish += [f"if ({name})", "        " + store] if param.optional else [store]
        elif param.form == "struct":
            args.append(f"({param.ctype} *)(void *){name}" if param.ctype.startswith("struct ivg_") else name)
        else:
            args += [name, f"(uint32_t){param.count}" if param.count else f"{param.limit}u", "NULL"]
    body.append(f"result = ivg_send_{row.symbol}({', '.join(args)});")
    if on_fail:
        body += ["if (result != CUDA_SUCCESS) {"] + ["        " + x for x in on_fail] + ["        return result;", "}"]
    elif after_ok or finish:
        body += ["if (result != CUDA_SUCCESS)", "        return result;"]
    body += after_ok + finish + ["return result;"]
    null_stream = uses_null_stream(row)
    head = parameters(model.signatures[row.symbol])
    if null_stream:
        head = "ivg_id null_stream" if head == "void" else head + ", ivg_id null_stream"
    return [f"static CUresult stub_{row.symbol}({head})", "{"] + ["        " + x for x in body] + ["}", ""]


def uses_null_stream(row):
    return any(p.kind == "stream" and p.form == "handle" and not p.drop for p in row.ins)


# Whose context a call is in where none is current, first found first: as NVIDIA's driver was seen to do.
LENDERS = (("CUstream", "IVG_KIND_STREAM"), ("CUevent", "IVG_KIND_EVENT"), ("CUmodule", "IVG_KIND_MODULE"),
           ("CUfunction", "IVG_KIND_FUNCTION"))


def in_context(symbol, cparams, call):
    """`call`, or where it finds no current context, once more in that of its stream or other handle."""
    if symbol.startswith("cuOccupancy"):
        return call
    for type_, kind in LENDERS:
        for p in cparams:
            if p.type == type_:
                return f"IVG_IN_CONTEXT_OF({kind}, {p.name}, {call})"
    return call


def exported(model, row, symbol, null_stream):
    """One exported name of a generated row."""
    plain = re.sub(r"_pt[sd][sz]$", "", symbol) if model.names[symbol][2] else symbol
    cparams = model.signatures[plain]
    given = {p.name for p in cparams}
    args = [p.name if p.name in given else "NULL" for p in model.signatures[row.symbol]]
    if len(cparams) == len(args) and given != set(args):  # an older version that names its parameters differently
        args = [p.name for p in cparams]
    if uses_null_stream(row):
        args.append(null_stream)
    stub_call = in_context(symbol, cparams, f"stub_{row.symbol}({', '.join(args)})")
    call = [f"        const CUresult result = {stub_call};"]
    if row.settles and "NULL" in args:
        call = [f"        CUresult result = {stub_call};",
                "        if (result == CUDA_SUCCESS)",
                f"                result = ivg_write_settle({null_stream}, {row.settles});"]
    return [f"CUresult {symbol}({parameters(cparams)})", "{"] + call + log_line(symbol, cparams) + [
                "        return result;", "}", ""]


def stubs_source(model):
    out = [NOTICE, '#include "cuda_api.h"', '#include "graph.h"', '#include "guest_send.h"', ""]
    done = set()
    for row in model.wire_rows:
        if row.hand_guest:
            continue
        out += stub(model, row)
        for symbol in [row.symbol] + row.aliases:
            out += exported(model, row, symbol, "IVG_ID_STREAM_LEGACY")
            done.add(symbol)
            if symbol in model.variants:
                out += exported(model, row, model.variants[symbol], "IVG_ID_STREAM_PER_THREAD")
                done.add(model.variants[symbol])
    refused, printed = set(model.refused()), set(hand_printed(model))
    out += ["/* Refused names; and weak refusals of hand-written ones, replaced at link time by the real function", 
            " * (tests/unit/shim_exports_are_written.py finds those that are not). */"]
    for symbol in sorted(set(model.names) - done):
        cparams = model.signatures[plain_name(model, symbol)]
        weak = "" if symbol in refused else "__attribute__((weak)) "
        name = "ivg_hand_" + symbol if symbol in printed else symbol
        if symbol in printed:
            out += [f"CUresult {name}({parameters(cparams)});"]
        out += [f"{weak}CUresult {name}({parameters(cparams)})", "{"]
        out += [f"        (void){p.name};" for p in cparams]
        out += [f'        return ivg_refuse("{symbol}");', "}", ""]
        if symbol in printed:
            out += [f"CUresult {symbol}({parameters(cparams)})", "{",
                    "        const CUresult answered_ = "
                    + in_context(symbol, cparams, f"{name}({', '.join(p.name for p in cparams)})") + ";"]
            out += log_line(symbol, cparams, "answered_") + ["        return answered_;", "}", ""]
    return "\n".join(out)


def plain_name(model, symbol):
    return re.sub(r"_pt[sd][sz]$", "", symbol) if model.names[symbol][2] else symbol


def hand_printed(model):
    """Hand-written functions that cross: a function around each prints the call that the program made."""
    out = []
    for symbol in sorted(model.names):
        row = model.by_symbol.get(plain_name(model, symbol))
        if row and row.hand_guest and row.class_ in ("async", "sync") and "logs" not in row.flags:
            out.append(symbol)
    return out


def hand_header(model):
    """Read before each hand-written source of the guest, which writes and calls the functions by their plain names."""
    return guard("guest_hand.h", "\n".join(f"#define {s} ivg_hand_{s}" for s in hand_printed(model)))


def symbols_source(model):
    refused = set(model.refused())
    rows = sorted((base, version, per_thread, symbol)
                  for symbol, (base, version, per_thread) in model.names.items())
    out = [NOTICE, '#include "guest_symbols.h"', '#include "cuda_api.h"', "",
           "const struct ivg_symbol ivg_symbols[] = {"]
    for base, version, per_thread, symbol in rows:
        out.append(f'        {{"{base}", {version}, {int(per_thread)}, {int(symbol not in refused)}, '
                   f'(void (*)(void)){symbol}}},')
    out += ["};", "const uint32_t ivg_symbols_count = sizeof(ivg_symbols) / sizeof(ivg_symbols[0]);", ""]
    return "\n".join(out)


def version_script(model):
    return "{\nglobal:\n" + "".join(f"        {n};\n" for n in sorted(model.names)) + "local:\n        *;\n};\n"
