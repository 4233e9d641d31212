"""ivgpu-call-bench and tools/bench-gpu, on the soft GPU alone and through ivgpu: every figure is taken on both sides, and
a side that answers otherwise or fails is told. The figures themselves mean nothing here."""
import json
import os
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree

BUILD = os.environ["IVGPU_BUILD"]
TOOL = os.environ["IVGPU_BENCH_GPU"]
CALL_BENCH = os.path.join(BUILD, "bin", "ivgpu-call-bench")

SCRIPT_BOTH = """
import os
print("torch_one   2.5000 us")
print("torch two words   7.0 tok/s")
print("answer same 1")
"""
SCRIPT_DIFFERS = """
import os
print("answer place", "softgpu" if "softgpu" in os.environ.get("LD_LIBRARY_PATH", "") else "elsewhere")
"""


class BenchGpu(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory(prefix="ivgpu-bench-test.")
        self.addCleanup(self.folder.cleanup)

    def bench(self, *options):
        done = subprocess.run([sys.executable, "-B", TOOL, "--build", BUILD, "--device", "soft", "--quick", "--rounds", "1",
                               "--out", self.folder.name, *options], capture_output=True, text=True, timeout=200)
        path = os.path.join(self.folder.name, "bench-gpu.json")
        self.assertTrue(os.path.exists(path), done.stdout + done.stderr)
        with open(path, encoding="utf-8") as file:
            return done, json.load(file)

    def script(self, name, text):
        path = os.path.join(self.folder.name, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def test_every_figure_has_both_sides_and_the_plots_are_drawn(self):
        done, told = self.bench("--torch", self.script("both.py", SCRIPT_BOTH))
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertEqual(list(told), ["results"])
        names = {row["name"]: row for row in told["results"]}
        self.assertEqual(len(names), len(told["results"]), "a name twice")
        ours_alone = {"ring_round_trip_over_line", "doorbells_under_load", "idle_processor_time", "start_init_waiting",
                      "start_context_waiting"}
        for name, row in names.items():
            self.assertEqual(list(row), ["name", "unit", "native", "ivgpu", "ratio"])
            if name not in ours_alone:
                self.assertGreater(row["native"], 0, name)
                self.assertGreater(row["ivgpu"], 0, name)
                self.assertAlmostEqual(row["ratio"], row["ivgpu"] / row["native"])
        for kind in ("pageable", "pinned", "registered"):
            for way in ("htod", "dtoh"):
                for how in ("sync", "async"):
                    for size in (4, 1 << 20):
                        self.assertIn(f"copy_{way}_{kind}_{how}_{size}", names)
        self.assertLessEqual({"launch_issue_6", "launch_sustained_8_threads", "launch_stream_sync_p99", "start_context_cold",
                              "start_context_waiting", "start_context_beside_another", "module_load_ptx_first", "module_load_code_again",
                              "graph_launch_issue_20", "sync_alloc_free_1MiB_p50", "torch_one", "torch two words",
                              "copy_dtod_async_4", "launch_stream_sync_after_100ms_p50"}, set(names))
        self.assertIn("torch_one                                    native or less   1.000 x native time                        yes",
                      done.stdout)
        for name in ("bandwidth.svg", "latency.svg"):
            root = xml.etree.ElementTree.parse(os.path.join(self.folder.name, name)).getroot()
            self.assertGreater(len(root.findall(".//{http://www.w3.org/2000/svg}polyline")), 3, name)

    def test_a_side_that_answers_otherwise_or_fails_is_told(self):
        scripts = [self.script("differs.py", SCRIPT_DIFFERS), self.script("fails.py", "import sys; sys.exit(3)")]
        done, _ = self.bench("--only", "local", "--torch", *scripts)
        self.assertEqual(done.returncode, 1)
        self.assertIn("ANSWER DIFFERS: place: native softgpu, ivgpu elsewhere", done.stdout)
        self.assertIn("note: ivgpu: fails.py failed", done.stdout)

    def test_its_options_need_no_library(self):
        library = os.path.join(self.folder.name, "libcuda.so.1")  # stands before any other, and is none
        open(library, "w").close()
        environment = dict(os.environ, LD_LIBRARY_PATH=self.folder.name)
        for option, code, where in (("--help", 0, "stdout"), ("--passes=0", 2, "stderr"), ("--no-such", 2, "stderr")):
            done = subprocess.run([CALL_BENCH, option], env=environment, capture_output=True, text=True, timeout=60)
            self.assertEqual((done.returncode, getattr(done, where).count("usage: ivgpu-call-bench")), (code, 1), done)
        done = subprocess.run([CALL_BENCH, "--quick"], env=environment, capture_output=True, text=True, timeout=60)
        self.assertEqual((done.returncode, done.stdout), (1, ""), done)
        self.assertIn("ivgpu-call-bench: " + library, done.stderr)

    def test_names_that_no_figure_has_are_refused(self):
        done = subprocess.run([os.path.join(BUILD, "bin", "ivgpu-run"), "--device", "soft", "--",
                               CALL_BENCH, "--only", "nothing_so_called"],
                              capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 1)
        self.assertIn("no figure's name begins with nothing_so_called", done.stderr)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], "-v", *sys.argv[1:]])
