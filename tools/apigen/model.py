"""The call table in memory: reads names.txt, signatures.txt and calls.txt and refuses what does not fit together.

Every refusal is a TableError that names file and line. Nothing here writes C.
"""

import re

KINDS = {  # table word -> (enum ivg_kind suffix, C type of the handle)
    "context": ("CONTEXT", "CUcontext"),
    "stream": ("STREAM", "CUstream"),
    "event": ("EVENT", "CUevent"),
    "module": ("MODULE", "CUmodule"),
    "function": ("FUNCTION", "CUfunction"),
    "library": ("LIBRARY", "CUlibrary"),
    "kernel": ("KERNEL", "CUkernel"),
    "link": ("LINK", "CUlinkState"),
    "graph": ("GRAPH", "CUgraph"),
    "graph_node": ("GRAPH_NODE", "CUgraphNode"),
    "graph_exec": ("GRAPH_EXEC", "CUgraphExec"),
    "pool": ("MEMORY_POOL", "CUmemoryPool"),
    "memory": ("MEMORY_HANDLE", "CUmemGenericAllocationHandle"),
    "cuarray": ("ARRAY", "CUarray"),
    "mipmap": ("MIPMAP", "CUmipmappedArray"),
    "texture": ("TEXTURE", "CUtexObject"),
    "surface": ("SURFACE", "CUsurfObject"),
    "texref": ("TEXREF", "CUtexref"),
    "surfref": ("SURFREF", "CUsurfref"),
    "user_object": ("USER_OBJECT", "CUuserObject"),
    "green_context": ("GREEN_CONTEXT", "CUgreenCtx"),
    "resource_desc": ("RESOURCE_DESC", "CUdevResourceDesc"),
    "launchable": ("FUNCTION", "CUfunction"),
}
NUMBER_KINDS = ("memory", "texture", "surface")  # whose C type is an integer
SCALARS = {  # table word -> (C type on the wire, bytes)
    "u8": ("uint8_t", 1), "u16": ("uint16_t", 2), "u32": ("uint32_t", 4), "u64": ("uint64_t", 8),
    "i32": ("int32_t", 4), "i64": ("int64_t", 8), "f32": ("float", 4), "size": ("uint64_t", 8),
    "devptr": ("uint64_t", 8),
}
CLASSES = ("local", "async", "sync", "unsupported")
RESERVED = ("result", "request", "storage", "record", "answer", "answer_area", "answer_bytes", "encoder", "header",
            "context", "null_stream", "call", "args", "cursor", "data_", "handle_")
ROW_FLAGS = ("lane", "gpu", "mark", "unchains", "records", "nocontext", "reports", "answer_on_error", "guest=hand",
             "host=hand", "logs")
NUMBER_MAX = 0x0FFF  # the executor's index by number has that many entries
RANGE_BYTES_MAX = 1 << 28  # the longest range a row may allow
ANSWER_INLINE_BYTES_MAX = 7168  # of IVG_ANSWER_AREA_BYTES (8192), all ranges of an answer together


class TableError(Exception):
    """A line of a table that cannot be used."""

    def __init__(self, path, line, text):
        super().__init__(f"{path}:{line}: {text}")


class CParam:
    """One parameter of a C signature."""

    def __init__(self, text):
        match = re.fullmatch(r"(.*?)(\w+)", text.strip())
        self.type, self.name = match.group(1).strip(), match.group(2)
        self.pointer = self.type.endswith("*")
        self.pointee = re.sub(r"^const |\s*\*$", "", self.type).strip() if self.pointer else None

    def declare(self):
        return self.type + ("" if self.pointer else " ") + self.name


class Param:
    """One parameter of a row: what crosses the wire, and how.

    form: scalar, handle, new, struct, bytes, cstring, array, ids, outrange
    """

    def __init__(self, name, form, out):
        self.name, self.form, self.out = name, form, out
        self.kind = None  # handle, new, ids
        self.ctype = None  # scalar: on the wire; struct, array: the element's
        self.optional = False  # NULL allowed
        self.drop = False  # the call ends the object
        self.parent = None  # new: in handle whose end takes this object with it
        self.count = None  # name of the C parameter that is the length or count
        self.count_less = None  # "-1", "-2": so much less than that
        self.limit = None  # most elements (array, ids) or bytes (others)
        self.zero = ()  # struct members that must be zero: they would be addresses of the other machine
        self.check = None  # device range that is read or written: [[factors]], or three such lists: pitch, width, height
        self.memory = None  # "alloc" or "free": the executor's table of device ranges learns of it
        self.index = 0  # 1-based, in table order: names the parameter in a fault

    @property
    def ranged(self):
        return self.form in ("bytes", "cstring", "array", "ids", "outrange")


class Row:
    """One call."""

    def __init__(self, path, line, symbol, class_):
        self.path, self.line, self.symbol, self.class_ = path, line, symbol, class_
        self.number = None
        self.flags = set()
        self.aliases = []
        self.via = None
        self.settles = None  # in parameter: aliases without a stream wait when it points into pinned memory
        self.ins, self.outs = [], []
        self.prose = []
        self.group = ""

    @property
    def internal(self):
        return self.symbol.startswith("ivg")

    @property
    def params(self):
        return self.ins + self.outs

    @property
    def hand_guest(self):
        return self.internal or "guest=hand" in self.flags or self.number is None

    @property
    def hand_host(self):
        return self.internal or "host=hand" in self.flags

    @property
    def orders_streams(self):
        """May make one stream wait for others, or be waited for: names streams, or contexts with theirs."""
        return "mark" not in self.flags and any(p.kind in ("stream", "context", "green_context") for p in self.ins)

    @property
    def unchains(self):
        """Ends or changes what the executor's graphs of launches use."""
        ends = ("module", "library", "stream", "context", "green_context")
        return "unchains" in self.flags or any(p.drop and p.kind in ends for p in self.ins)

    @property
    def has_answer(self):
        return any(p.form != "new" for p in self.outs)

    def error(self, text):
        return TableError(self.path, self.line, f"{self.symbol}: {text}")


TYPE = re.compile(
    r"(?P<drop>!)?(?P<new>new\.)?(?P<memory>alloc|free)?(?P<word>[a-z]\w*|)"
    r"(?:\((?P<ctype>[^)]*)\))?(?:\.(?P<kind>\w+))?(?:\[(?P<bracket>[^\]]*)\])?"
    r"(?:\{(?P<zero>[\w,.]*)\})?(?P<optional>\?)?")

WORDS = re.compile(r"[^\s(]+(?:\([^)]*\)\S*)?")  # a type in parentheses may hold spaces


def parse_param(row, text, out):
    name, colon, kind = text.partition(":")
    match = TYPE.fullmatch(kind)
    if not colon or not re.fullmatch(r"[A-Za-z]\w*", name) or not match:
        raise row.error(f"cannot read parameter '{text}'")
    word, bracket = match["word"], match["bracket"]
    if match["memory"]:
        word = "devptr"
    if word in SCALARS:
        param = Param(name, "scalar", out)
        param.ctype = SCALARS[word][0]
        param.memory = match["memory"]
        if bracket is not None:
            if word != "devptr":
                raise row.error(f"'{name}': only device pointers have a range")
            param.check = [part.split("*") for part in bracket.split(";")]
            if len(param.check) not in (1, 3):
                raise row.error(f"'{name}': a range is [bytes] or [pitch;width;height]")
        if match["memory"] == "alloc" and (not out or not param.check):
            raise row.error(f"'{name}': alloc needs an out parameter and its bytes in brackets")
    elif word in KINDS:
        param = Param(name, "new" if match["new"] else "handle", out)
        param.kind = word
        param.drop = bool(match["drop"])
        param.parent = match["ctype"]
        if out != bool(match["new"]):
            raise row.error(f"'{name}': out handles are new, in handles are not")
        if param.parent and param.form != "new":
            raise row.error(f"'{name}': only what a call makes belongs to something")
        if word == "launchable" and (out or param.drop):
            raise row.error(f"'{name}': launchable is for in parameters that stay")
    elif word == "struct":
        param = Param(name, "struct", out)
        param.ctype = match["ctype"]
        param.zero = tuple(f for f in (match["zero"] or "").split(",") if f)
    elif word in ("bytes", "cstring", "array", "ids", "outrange"):
        param = Param(name, word, out)
        param.ctype, param.kind = match["ctype"], match["kind"]
        limits = re.fullmatch(r"(?:(\w+?)(-[12])?)?<=(\w+)", bracket or "")
        if limits is None:
            raise row.error(f"'{name}': a range needs its limit, as in {word}[count<=64]")
        count, param.count_less, limit = limits.groups()
        try:
            param.count, param.limit = count, int(limit, 0)
        except ValueError:
            raise row.error(f"'{name}': limit '{limit}' is not a number") from None
        if not 0 < param.limit <= RANGE_BYTES_MAX:
            raise row.error(f"'{name}': limit {param.limit} is outside 1..{RANGE_BYTES_MAX}")
        if word == "ids" and (out or param.kind not in KINDS):
            raise row.error(f"'{name}': ids needs a kind and is for in parameters")
        if word == "outrange" and param.count_less:
            raise row.error(f"'{name}': an outrange's length is a parameter as it is")
        if word == "outrange" and out:
            raise row.error(f"'{name}': outrange is reserved by the caller: list it before the arrow")
    else:
        raise row.error(f"'{name}': unknown type '{kind}'")
    if param.drop and param.form != "handle":
        raise row.error(f"'{name}': only handles can be dropped")
    param.optional = bool(match["optional"])
    return param


def parse_row(path, line, text):
    head, _, body = text.partition(" : ") if " : " in text else (text.rstrip(" :"), "", "")
    words = head.split()
    if len(words) < 3:
        raise TableError(path, line, "a row is: number symbol class [flags] : parameters")
    number, symbol, class_ = words[:3]
    row = Row(path, line, symbol, class_)
    if class_ not in CLASSES:
        raise row.error(f"unknown class '{class_}'")
    if number != "-":
        if not re.fullmatch(r"0x[0-9a-f]{4}", number):
            raise row.error(f"number '{number}' is not of the form 0x0123")
        row.number = int(number, 16)
        if not 0 < row.number <= NUMBER_MAX:
            raise row.error(f"number {number} is outside 1..{NUMBER_MAX:#06x}")
        if class_ not in ("async", "sync"):
            raise row.error(f"a {class_} call does not cross: its number must be '-'")
    for word in words[3:]:
        if word.startswith("alias="):
            row.aliases += word[6:].split(",")
        elif word.startswith("via="):
            row.via = word[4:].split(",")
        elif word.startswith("settles="):
            row.settles = word[8:]
        elif word in ROW_FLAGS:
            row.flags.add(word)
        else:
            raise row.error(f"unknown flag '{word}'")
    if row.number is None and body:
        raise row.error("a row without a number has no parameters: nothing crosses")
    if row.number is None and class_ in ("async", "sync") and not row.via:
        raise row.error("needs a number, or via= and the rows that carry it")
    ins, _, outs = body.partition("->")
    row.ins = [parse_param(row, word, False) for word in WORDS.findall(ins)]
    row.outs = [parse_param(row, word, True) for word in WORDS.findall(outs)]
    for index, param in enumerate(row.params, 1):
        param.index = index
    names = [p.name for p in row.params]
    for param in row.params:
        if param.parent and not any(p.name == param.parent and p.form == "handle" for p in row.ins):
            raise row.error(f"'{param.name}' belongs to '{param.parent}', which is no handle of this row")
    for name in names:
        if name in RESERVED:
            raise row.error(f"parameter name '{name}' is used by the generated code")
    if len(set(names)) != len(names):
        raise row.error("a parameter is listed twice")
    if class_ == "async" and row.has_answer:
        raise row.error("an async call has no answer: only new handles may be out")
    if class_ == "async" and any(p.form == "outrange" for p in row.ins):
        raise row.error("an async call has no answer: no outrange")
    inline = sum(p.limit for p in row.outs if p.form in ("bytes", "cstring"))
    if inline > ANSWER_INLINE_BYTES_MAX:
        raise row.error(f"answers {inline} bytes inline, over {ANSWER_INLINE_BYTES_MAX}: use outrange")
    return row


def logical_lines(path):
    """(line number, text) of rows, continuation lines joined; ('##' headings and '#' prose come through)."""
    pending = None
    with open(path, encoding="utf-8") as file:
        for number, raw in enumerate(file, 1):
            text = raw.rstrip()
            if pending and (raw[:1] in " \t") and text:
                pending = (pending[0], pending[1] + " " + text.strip())
                continue
            if pending:
                yield pending
                pending = None
            if text.startswith("#") or not text:
                yield number, text
            elif raw[:1] in " \t":
                raise TableError(path, number, "a continuation line without a row before it")
            else:
                pending = (number, text)
    if pending:
        yield pending


class Model:
    """Everything the emitters need."""

    def __init__(self, names_path, signatures_path, calls_path):
        self.calls_path = calls_path
        self.names = self._read_names(names_path)  # symbol -> (base, version, per_thread)
        self.signatures = self._read_signatures(signatures_path)  # symbol -> [CParam]
        self.rows = self._read_calls(calls_path)
        self.by_symbol = {}
        for row in self.rows:
            for symbol in [row.symbol] + row.aliases:
                if symbol in self.by_symbol:
                    raise row.error(f"{symbol} has a row already, line {self.by_symbol[symbol].line}")
                self.by_symbol[symbol] = row
        self.wire_rows = sorted((r for r in self.rows if r.number is not None), key=lambda r: r.number)
        seen = {}
        for row in self.wire_rows:
            if row.number in seen:
                raise row.error(f"number {row.number:#06x} belongs to {seen[row.number].symbol}, "
                                f"line {seen[row.number].line}; numbers are never reused")
            seen[row.number] = row
        for row in self.rows:
            self._check(row)
        self.variants = {}  # plain symbol -> per-thread symbol
        for symbol, (_, _, per_thread) in self.names.items():
            if per_thread:
                plain = re.sub(r"_pt[sd][sz]$", "", symbol)
                self.variants[plain] = symbol

    @staticmethod
    def _read_names(path):
        names = {}
        for line, text in logical_lines(path):
            if text.startswith("#") or not text:
                continue
            words = text.split()
            if len(words) not in (3, 4) or not words[2].isdigit() or words[3:] not in ([], ["per-thread"]):
                raise TableError(path, line, "a name is: symbol base version [per-thread]")
            if words[0] in names:
                raise TableError(path, line, f"{words[0]} is listed twice")
            names[words[0]] = (words[1], int(words[2]), len(words) == 4)
        return names

    def _read_signatures(self, path):
        signatures = {}
        for line, text in logical_lines(path):
            if text.startswith("#") or not text:
                continue
            match = re.fullmatch(r"(\w+)\((.*)\)", text)
            if not match or match[1] not in self.names:
                raise TableError(path, line, f"not a signature of an exported name: '{text[:60]}'")
            signatures[match[1]] = [] if match[2] == "void" else [CParam(p) for p in match[2].split(",")]
        for symbol, (_, _, per_thread) in self.names.items():
            if not per_thread and symbol not in signatures:
                raise TableError(path, 1, f"no signature of {symbol}")
        return signatures

    @staticmethod
    def _read_calls(path):
        rows, prose, group = [], [], ""
        for line, text in logical_lines(path):
            if text.startswith("## "):
                group, prose = text[3:], []
            elif text.startswith("#"):
                prose.append(text[1:].strip())
            elif not text:
                prose = []
            else:
                row = parse_row(path, line, text)
                row.prose, row.group = prose, group
                prose = []
                rows.append(row)
        return rows

    def _check(self, row):
        for via in row.via or ():
            if via not in self.by_symbol or self.by_symbol[via].number is None:
                raise row.error(f"via={via}: no such row")
        if row.internal:
            if row.number is None or row.aliases:
                raise row.error("an internal row has a number and no aliases")
            for param in row.params:
                if param.form in ("struct", "array") and not param.ctype:
                    raise row.error(f"'{param.name}': an internal row names the C type: {param.form}(T)")
            return
        for symbol in [row.symbol] + row.aliases:
            if symbol not in self.signatures:
                raise row.error(f"{symbol} is not an exported name (per-thread variants need no row)")
        if row.number is None:
            return
        self._bind(row, row.symbol)
        for alias in row.aliases:
            names = [p.name for p in self.signatures[alias]]
            if any(p.drop and p.kind == "stream" for p in row.ins):
                continue
            for cparam in self.signatures[row.symbol]:
                stream = any(p.name == cparam.name and p.kind == "stream" for p in row.ins)
                if cparam.name not in names and not stream:
                    raise row.error(f"alias {alias} has no parameter '{cparam.name}'")

    def _bind(self, row, symbol):
        cparams = {p.name: p for p in self.signatures[symbol]}
        counts = {p.count for p in row.params if p.count}
        for param in row.params:
            cparam = cparams.get(param.name)
            if cparam is None:
                if row.hand_guest and row.hand_host:
                    if param.form in ("struct", "array") and not param.ctype:
                        raise row.error(f"'{param.name}': name the C type: {param.form}(T)")
                    continue
                raise row.error(f"{symbol} has no parameter '{param.name}'")
            if param.form in ("struct", "array") and not param.ctype:
                param.ctype = cparam.pointee or cparam.type
            if row.hand_guest and row.hand_host:
                continue
            if param.out and not cparam.pointer:
                raise row.error(f"'{param.name}' cannot be out: it is a {cparam.type}")
            if param.form in ("scalar", "handle") and not param.out and cparam.pointer and cparam.type != "void *":
                raise row.error(f"'{param.name}' is a {cparam.type}: its direction and length are missing")
            if param.ranged and not cparam.pointer:
                raise row.error(f"'{param.name}' cannot be a range: it is a {cparam.type}")
            if param.form in ("bytes", "array", "ids", "outrange") and not param.count:
                raise row.error(f"'{param.name}': name the parameter that gives its length")
        if row.hand_guest and row.hand_host:
            return
        listed = {p.name for p in row.params}
        for count in counts - listed:
            if count not in cparams:
                raise row.error(f"length '{count}' is not a parameter of {symbol}")
        for name in cparams:
            if name not in listed and name not in counts:
                raise row.error(f"parameter '{name}' of {symbol} is missing")
        for param in row.params:
            for factor in (f for part in param.check or () for f in part):
                if not factor.isdigit() and factor not in listed:
                    raise row.error(f"'{param.name}': '{factor}' is neither a number nor a parameter")

    def refused(self):
        """Exported names that answer CUDA_ERROR_NOT_SUPPORTED, variants included."""
        out = []
        for symbol in sorted(self.names):
            plain = re.sub(r"_pt[sd][sz]$", "", symbol) if self.names[symbol][2] else symbol
            row = self.by_symbol.get(plain)
            if row is None or row.class_ == "unsupported":
                out.append(symbol)
        return out
