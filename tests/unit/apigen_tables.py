#!/usr/bin/env python3
"""The call table's generator: bad tables are refused with file and line, output is deterministic and golden for a small
table, names resolve as the real driver resolves them, every hand-written part exists.

usage: apigen_tables.py SOURCE_DIRECTORY [unittest arguments]
"""

import os
import re
import subprocess
import sys
import tempfile
import unittest

SOURCE = os.path.abspath(sys.argv.pop(1))
APIGEN = os.path.join(SOURCE, "tools", "apigen")
sys.dont_write_bytecode = True
sys.path.insert(0, APIGEN)

import emit_calls  # noqa: E402
import emit_coverage  # noqa: E402
import emit_guest  # noqa: E402
import emit_host  # noqa: E402
from model import Model, TableError  # noqa: E402

NAMES = """cuProbe cuProbe 2000
cuProbe_v2 cuProbe 3020
cuProbe_v2_ptsz cuProbe 7000 per-thread
cuStart cuStart 2000
"""
SIGNATURES = """cuProbe(unsigned int *value, CUstream stream)
cuProbe_v2(size_t *value, const char *name, CUstream stream)
cuStart(unsigned int flags)
"""
CALLS = """## Probes
# Reads something.
0x0010 cuProbe_v2 sync lane reports : name:cstring[<=64] stream:stream -> value:size
- cuStart local
"""


def model_of(calls=CALLS, names=NAMES, signatures=SIGNATURES):
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for name, text in (("names.txt", names), ("signatures.txt", signatures), ("calls.txt", calls)):
            paths.append(os.path.join(folder, name))
            with open(paths[-1], "w", encoding="utf-8") as file:
                file.write(text)
        return Model(*paths)


def real_model():
    return Model(*(os.path.join(APIGEN, n) for n in ("names.txt", "signatures.txt", "calls.txt")))


class BadTablesAreRefusedWithTheirLine(unittest.TestCase):
    def refused(self, line, text, **tables):
        with self.assertRaises(TableError) as caught:
            model_of(**tables)
        message = str(caught.exception)
        self.assertRegex(message, rf"\.txt:{line}: ")
        self.assertIn(text, message)

    def row(self, row, text, line=1):
        self.refused(line, text, calls=row)

    def test_rows(self):
        good = "name:cstring[<=64] stream:stream -> value:size"
        for row, text in (
                ("0x0010 cuProbe_v2", "a row is"),
                ("16 cuStart sync : flags:u32", "not of the form"),
                ("0x1000 cuStart sync : flags:u32", "outside"),
                ("0x0000 cuStart sync : flags:u32", "outside"),
                ("0x0010 cuStart slow : flags:u32", "unknown class"),
                ("0x0010 cuStart sync fast : flags:u32", "unknown flag 'fast'"),
                ("0x0010 cuStart sync : flags:u33", "unknown type"),
                ("0x0010 cuStart sync : flags", "cannot read"),
                ("0x0010 cuStart sync : flags:u32 flags:u32", "listed twice"),
                ("0x0010 cuStart sync : flag:u32", "no parameter 'flag'"),
                ("0x0010 cuStart sync :", "'flags' of cuStart is missing"),
                ("0x0010 cuStart sync : result:u32", "used by the generated code"),
                ("0x0010 cuStart local : flags:u32", "does not cross"),
                ("- cuStart sync", "needs a number"),
                ("- cuStart local : flags:u32", "nothing crosses"),
                ("- cuStart sync via=cuProbe", "no such row"),
                ("0x0010 cuNothing sync :", "not an exported name"),
                ("0x0010 cuProbe_v2 async : " + good, "no answer"),
                ("0x0010 cuProbe_v2 sync : name:cstring stream:stream -> value:size", "needs its limit"),
                ("0x0010 cuProbe_v2 sync : name:cstring[<=x] stream:stream -> value:size", "not a number"),
                ("0x0010 cuProbe_v2 sync : name:cstring[<=0x20000000] stream:stream -> value:size", "outside 1.."),
                ("0x0010 cuProbe_v2 sync : name:bytes[<=64] stream:stream -> value:size", "gives its length"),
                ("0x0010 cuProbe_v2 sync : name:u64 stream:stream -> value:size", "direction and length"),
                ("0x0010 cuProbe_v2 sync : name:cstring[<=64] stream:u64[8] -> value:size", "only device pointers"),
                ("0x0010 cuProbe_v2 sync : name:cstring[<=64] stream:new.stream -> value:size", "out handles are new"),
                ("0x0010 cuProbe_v2 sync : name:cstring[<=64] -> value:size stream:u64", "cannot be out"),
                ("0x0010 cuProbe_v2 sync : name:cstring[<=64] stream:stream -> value:bytes[n<=9999]", "use outrange"),
                ("0x0010 ivgThing sync : x:ids[<=4]", "ids needs a kind"),
                ("0x0010 ivgThing sync : x:array[<=4]", "names the C type"),
                ("0x0010 ivgThing sync : -> x:outrange[<=4]", "before the arrow"),
                ("0x0010 ivgThing sync : -> x:alloc", "needs an out parameter and its bytes"),
                ("0x0010 ivgThing sync : m:module -> x:new.function(n)", "'x' belongs to 'n', which is no handle"),
                ("0x0010 ivgThing sync : m:u32 -> x:new.function(m)", "'x' belongs to 'm', which is no handle"),
                ("0x0010 ivgThing sync : m:module f:function(m)", "only what a call makes"),
                ("- ivgThing local", "internal row has a number"),
        ):
            with self.subTest(row=row):
                self.row(row + "\n", text)

    def test_line_number_counts_comments_and_continuations(self):
        self.row("# one\n\n0x0001 ivgA sync : a:u32\n    b:u32\n0x0002 ivgB sync : c:u33\n", "unknown type", line=5)
        self.row("    b:u32\n", "without a row", line=1)

    def test_a_number_or_name_used_twice(self):
        self.row("0x0001 ivgA sync : a:u32\n0x0001 ivgB sync : a:u32\n", "never reused", line=2)
        self.row("0x0001 ivgA sync : a:u32\n0x0002 ivgA sync : a:u32\n", "has a row already, line 1", line=2)

    def test_names_and_signatures(self):
        self.refused(2, "listed twice", names="cuA cuA 1\ncuA cuA 2\n", signatures="", calls="")
        self.refused(1, "a name is", names="cuA cuA one\n", signatures="", calls="")
        self.refused(1, "no signature of cuA", names="cuA cuA 1\n", signatures="", calls="")
        self.refused(1, "not a signature", names="cuA cuA 1\n", signatures="cuB(void)\n", calls="")


class SmallTableHasGoldenOutput(unittest.TestCase):
    def setUp(self):
        self.model = model_of()

    def test_wire(self):
        text = emit_calls.calls_header(self.model)
        self.assertIn("""struct ivg_request_cuProbe_v2 {
        _Alignas(8) struct ivg_call_header header;
        ivg_id stream;
        uint8_t reserved_1[4];
        _Alignas(8) struct ivg_wire_range name;
};
_Static_assert(sizeof(struct ivg_request_cuProbe_v2) == 40, "cuProbe_v2");
struct ivg_answer_cuProbe_v2 {
        uint64_t value;
};
""", text)
        self.assertIn("        IVG_CALL_cuProbe_v2 = 0x0010,\n", text)

    def test_guest(self):
        stubs = emit_guest.stubs_source(self.model)
        self.assertIn("CUresult cuProbe_v2(size_t *value, const char *name, CUstream stream)\n{\n        const CUresult "
                      "result = IVG_IN_CONTEXT_OF(IVG_KIND_STREAM, stream, stub_cuProbe_v2(value, name, stream, "
                      "IVG_ID_STREAM_LEGACY));\n", stubs)
        self.assertIn("stub_cuProbe_v2(value, name, stream, IVG_ID_STREAM_PER_THREAD));", stubs)
        self.assertIn("\nCUresult cuProbe(unsigned int *value, CUstream stream)\n{\n        (void)value;\n"
                      '        (void)stream;\n        return ivg_refuse("cuProbe");\n}\n', stubs)
        self.assertIn("__attribute__((weak)) CUresult cuStart(unsigned int flags)", stubs)
        self.assertEqual("{\nglobal:\n        cuProbe;\n        cuProbe_v2;\n        cuProbe_v2_ptsz;\n"
                         "        cuStart;\nlocal:\n        *;\n};\n", emit_guest.version_script(self.model))
        self.assertEqual(["cuProbe"], self.model.refused())

    def test_host(self):
        text = emit_host.dispatch_source(self.model)
        self.assertIn("if (!ivg_decode_range(call, &request.name, 1, false, 1, 64, &cursor, &data))", text)
        self.assertIn("if (!ivg_decode_zero(call, request.reserved_1, sizeof(request.reserved_1)))", text)
        self.assertIn(".number = IVG_CALL_cuProbe_v2, .class_ = IVG_CLASS_SYNC, .lane = true, .needs_context = true, "
                      ".reports_async = true", text)

    def test_fingerprint_follows_the_wire_and_nothing_else(self):
        base = emit_calls.fingerprint(self.model)
        self.assertEqual(base, emit_calls.fingerprint(model_of(CALLS.replace("Reads something", "Other words"))))
        for old, new in (("0x0010", "0x0011"), ("<=64", "<=65"), ("value:size", "value:i64"), ("sync", "sync nocontext")):
            changed = emit_calls.fingerprint(model_of(CALLS.replace(old, new)))
            (self.assertEqual if "nocontext" in new else self.assertNotEqual)(base, changed)


class RealTable(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.model = real_model()

    def test_exports_are_the_637_names(self):
        self.assertEqual(637, len(self.model.names))

    def test_output_is_deterministic(self):
        outputs = []
        for seed in ("0", "1"):
            with tempfile.TemporaryDirectory() as out:
                subprocess.run([sys.executable, os.path.join(APIGEN, "apigen.py"), "--out", out], check=True,
                               env=dict(os.environ, PYTHONHASHSEED=seed))
                outputs.append({})
                for name in os.listdir(out):
                    with open(os.path.join(out, name), encoding="utf-8") as file:
                        outputs[-1][name] = file.read()
        self.assertEqual(outputs[0], outputs[1])
        self.assertEqual(15, len(outputs[0]))

    def resolve(self, base, version, per_thread=False):
        entries = [(v, s) for s, (b, v, p) in self.model.names.items() if b == base and p == per_thread]
        if per_thread and not entries:
            return self.resolve(base, version)
        return max((e for e in entries if e[0] <= version), default=(0, None))[1]

    def test_names_resolve_as_the_driver_resolves_them(self):
        for base, version, per_thread, symbol in (
                ("cuMemAlloc", 3020, False, "cuMemAlloc_v2"), ("cuMemAlloc", 2000, False, "cuMemAlloc"),
                ("cuMemcpyHtoD", 3020, False, "cuMemcpyHtoD_v2"), ("cuMemcpyHtoD", 7000, True, "cuMemcpyHtoD_v2_ptds"),
                ("cuMemcpyHtoDAsync", 7000, True, "cuMemcpyHtoDAsync_v2_ptsz"),
                ("cuCtxGetDevice", 2000, False, "cuCtxGetDevice"), ("cuCtxGetDevice", 13000, False, "cuCtxGetDevice_v2"),
                ("cuCtxCreate", 3020, False, "cuCtxCreate_v2"), ("cuCtxCreate", 11040, False, "cuCtxCreate_v3"),
                ("cuDevicePrimaryCtxRelease", 7000, False, "cuDevicePrimaryCtxRelease"),
                ("cuDevicePrimaryCtxRelease", 11000, False, "cuDevicePrimaryCtxRelease_v2"),
                ("cuGetProcAddress", 12000, False, "cuGetProcAddress_v2"),
                ("cuStreamBeginCapture", 10010, True, "cuStreamBeginCapture_v2_ptsz"),
                ("cuLaunchKernel", 4000, False, "cuLaunchKernel"), ("cuInit", 7000, True, "cuInit"),
                ("cuEventElapsedTime", 12080, False, "cuEventElapsedTime_v2"), ("cuMemAlloc", 1000, False, None),
                ("cuGLInit", 2000, False, None)):
            with self.subTest(base=base, version=version):
                self.assertEqual(symbol, self.resolve(base, version, per_thread))

    def test_every_call_that_programs_were_seen_to_make_is_carried(self):
        coverage, seen = emit_coverage.Coverage(self.model, SOURCE), 0
        with open(os.path.join(SOURCE, "tests", "unit", "data", "calls_seen.txt"), encoding="utf-8") as file:
            for line in file:
                if line.startswith("#"):
                    continue
                name, version = line.split()
                symbol = name if version == "linked" else self.resolve(name, int(version))
                with self.subTest(name=name, version=version):
                    self.assertIn(coverage.status(symbol), ("local", "async", "sync"))
                    self.assertTrue(coverage.tests_of(symbol), f"no test calls {symbol}")
                seen += 1
        self.assertGreater(seen, 90)

    def test_a_helper_calls_for_who_calls_it(self):
        helpers = {"outer": "        CU(cuInit(0));\n        inner();\n", "inner": "        cuCtxGetId(c, &id);\n",
                   "other": "        cuDeviceGet(&d, 0);\n"}  # fmt: skip
        header = "".join(f"static inline int {name}(int a,\n            int b)\n{{\n{body}}}\n\n" for name, body in helpers.items())
        self.assertEqual(dict(emit_coverage.HELPER.findall(header)), helpers)
        text = emit_coverage.with_helpers("        outer(1, 2); no_other(3);", helpers)
        self.assertEqual([call in text for call in ("cuInit(", "cuCtxGetId(", "cuDeviceGet(")], [True, True, False])

    def test_what_orders_streams_is_told_from_marks(self):
        rows = {row.symbol: row.orders_streams for row in self.model.wire_rows}
        for symbol, orders in (("ivgStreamSignal", False), ("cuEventRecord", False), ("cuEventRecordWithFlags", False),
                               ("cuMemGetInfo_v2", False), ("cuEventDestroy_v2", False), ("cuStreamWaitEvent", True),
                               ("cuStreamWaitValue32_v2", True), ("cuStreamBatchMemOp_v2", True), ("ivgHostFunction", True),
                               ("cuMemAllocAsync", True), ("cuMemFreeAsync", True), ("cuCtxRecordEvent", True),
                               ("cuCtxWaitEvent", True), ("cuGreenCtxWaitEvent", True), ("cuGraphUpload", True)):  # fmt: skip
            with self.subTest(symbol=symbol):
                self.assertEqual(orders, rows[symbol])

    def test_generated_symbols_are_sorted(self):
        rows = re.findall(r'\{"(\w+)", (\d+), (\d), (\d), \(void \(\*\)\(void\)\)(\w+)\}',
                          emit_guest.symbols_source(self.model))
        self.assertEqual(637, len(rows))
        keys = [(b, int(v), int(p)) for b, v, p, _, _ in rows]
        self.assertEqual(sorted(keys), keys)
        self.assertEqual(len(set(keys)), len(keys))

    def test_per_thread_variants_share_the_fate_of_their_plain_name(self):
        refused = set(self.model.refused())
        for plain, variant in self.model.variants.items():
            self.assertEqual(plain in refused, variant in refused, variant)


if __name__ == "__main__":
    unittest.main()
