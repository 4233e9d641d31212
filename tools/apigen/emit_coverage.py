"""Writes docs/coverage.md: what each exported name does, said from the table and from the sources as they are."""

import os
import re


def read_all(root, folders, suffixes):
    texts = {}
    for folder in folders:
        for path, names, files in sorted(os.walk(os.path.join(root, folder))):
            names.sort()
            for name in sorted(files):
                if name.endswith(suffixes):
                    full = os.path.join(path, name)
                    with open(full, encoding="utf-8", errors="replace") as file:
                        texts[os.path.relpath(full, root)] = file.read()
    return texts


def defined(texts, name):
    """Whether some source defines a function of that name."""
    pattern = re.compile(r"^(?:IVG_EXPORT )?CUresult " + name + r"\(", re.M)
    return any(pattern.search(text) and not path.endswith(".h") for path, text in texts.items())


HELPER = re.compile(r"^static inline [^;{]*?(\w+)\([^;{]*\)\n\{\n(.*?)^\}", re.M | re.S)


def with_helpers(text, helpers):
    """The text and the bodies of the helpers that it names, and of those that they name."""
    known, more = set(), text
    while named := set(re.findall(r"\b([a-z]\w*)\(", more)) & (helpers.keys() - known):
        known |= named
        more = "".join(helpers[name] for name in sorted(named))
        text += more
    return text


class Coverage:
    def __init__(self, model, root):
        self.model = model
        self.guest = read_all(root, ["guest/src"], (".c",))
        self.host = read_all(root, ["hostexec/exec"], (".c",))
        # Tests of the types, of this table and of the soft GPU alone say nothing about the way of a call.
        self.tests = read_all(root, ["tests/cuda", "tests/unit"], (".c", ".cu"))
        helpers = {}  # of the tests' headers, by folder
        for path, text in read_all(root, ["tests/cuda", "tests/unit"], (".h",)).items():
            helpers.setdefault(os.path.dirname(path), {}).update(HELPER.findall(text))
        self.words = {path: set(re.findall(r"\b(cu[A-Z]\w*) *\(|\"(cu[A-Z]\w*)\"",
                                           with_helpers(text, helpers.get(os.path.dirname(path), {}))))
                      for path, text in self.tests.items()
                      if not os.path.basename(path).startswith(("abi_", "apigen_", "call_decode", "softgpu_"))}
        self.words = {path: {a or b for a, b in found} for path, found in self.words.items()}

    def tests_of(self, symbol):
        """Tests that call or look up the symbol, or its base name (which a source calls by the interface's macros),
        themselves or by a helper of their headers."""
        base = self.model.names[symbol][0]
        found = sorted(os.path.basename(p) for p, words in self.words.items() if symbol in words or base in words)
        return found

    def written(self, row, symbol):
        if row.hand_guest and not defined(self.guest, symbol):
            return False
        carriers = [self.model.by_symbol[v] for v in row.via or ()] or ([row] if row.number is not None else [])
        return all(defined(self.host, "ivg_host_" + c.symbol) for c in carriers if c.hand_host)

    def status(self, symbol):
        row = self.model.by_symbol.get(symbol)
        if row is None or row.class_ == "unsupported":
            return "refused"
        return row.class_ if self.written(row, symbol) else "refused (planned: %s)" % row.class_


def page(model, root):
    coverage = Coverage(model, root)
    plain = [s for s in sorted(model.names) if not model.names[s][2]]
    status = {s: coverage.status(s) for s in plain}
    tested = sum(1 for s in plain if not status[s].startswith("refused") and coverage.tests_of(s))
    kinds = {}
    for value in status.values():
        kinds[value.split(" ")[0]] = kinds.get(value.split(" ")[0], 0) + 1
    variants = sum(1 for s in model.names if model.names[s][2])
    done = len(plain) - kinds.get("refused", 0)
    out = ["# Coverage of the CUDA Driver API", "",
           "Written by `tools/apigen/apigen.py --coverage docs/coverage.md`; a test fails when it is not current.", "",
           f"libcuda.so.1 exports {len(model.names)} names: {len(plain)} and {variants} per-thread variants, which do what "
           "their plain names do.", f"Of the {len(plain)}, {done} have their meaning: "
           f"{kinds.get('local', 0)} are answered in the guest (local), {kinds.get('async', 0)} are recorded and returned "
           f"(async), {kinds.get('sync', 0)} wait for the host (sync). "
           f"{kinds.get('refused', 0)} answer CUDA_ERROR_NOT_SUPPORTED, are counted and named once in the log (refused).",
           f"{tested} of the {done} are named by a test under `tests/cuda` or `tests/unit`.", "",
           "A name counts as refused as long as a hand-written part of it is missing from the sources.", ""]
    listed = set()
    groups = {}
    for row in model.rows:
        if not row.internal:
            groups.setdefault(row.group, []).append(row)
    for group, rows in groups.items():
        out += [f"## {group}", "", "| name | class | tests | notes |", "| --- | --- | --- | --- |"]
        for row in rows:
            for symbol in [row.symbol] + row.aliases:
                listed.add(symbol)
                tests = coverage.tests_of(symbol)
                shown = ", ".join(tests[:2]) + (f" and {len(tests) - 2} more" if len(tests) > 2 else "")
                note = " ".join(row.prose).replace("|", "\\|") if symbol == row.symbol else f"as {row.symbol}"
                out.append(f"| {symbol} | {status[symbol]} | {shown} | {note} |")
        out.append("")
    rest = [s for s in plain if s not in listed]
    out += ["## Refused without a row", "", ", ".join(rest) + ".", ""]
    return "\n".join(out)
