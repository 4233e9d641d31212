#!/usr/bin/env python3
"""tests/gpu/run without a GPU: cases and an ivgpu-run of the test's own show that whatever goes wrong is told and
fails."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time
import unittest

RUN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../gpu/run")
WAIT_S = 60

# Plays ivgpu-run: the program's environment says on which side it is.
FAKE_IVGPU_RUN = """#!/bin/sh
[ "$1 $2 $3" = "--device cuda --" ] || { echo "fake ivgpu-run: $*" >&2; exit 125; }
shift 3
SIDE=ours exec "$@"
"""
FAKE_NVIDIA_SMI = "#!/bin/sh\necho 'Fake GPU, 1.2'\n"
HEAD = "import os, sys, time\nours = os.environ.get('SIDE') == 'ours'\n"


class GpuRun(unittest.TestCase):
    def setUp(self):
        self.root = tempfile.mkdtemp(prefix="ivgpu-gpu-run-test.")
        self.addCleanup(shutil.rmtree, self.root)
        for folder in ("cases", "programs", "build/bin", "build/tests/cuda", "bin", "tmp"):
            os.makedirs(os.path.join(self.root, folder))
        self.write("build/bin/ivgpu-run", FAKE_IVGPU_RUN, 0o755)
        self.write("bin/nvidia-smi", FAKE_NVIDIA_SMI, 0o755)
        self.environment = dict(
            os.environ,
            PATH=os.path.join(self.root, "bin") + ":" + os.environ["PATH"],
            TMPDIR=os.path.join(self.root, "tmp"),
        )
        self.environment.pop("SIDE", None)

    def path(self, *names):
        return os.path.join(self.root, *names)

    def write(self, name, text, mode=0o644):
        with open(self.path(name), "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(self.path(name), mode)

    def case(self, name, body, constants=""):
        self.write(f"cases/{name}.py", constants + HEAD + textwrap.dedent(body))

    def go(self, *arguments):
        """(exit code, output, the JSON's cases by name)"""
        done = subprocess.run(
            [
                sys.executable,
                "-B",
                RUN,
                "--build",
                self.path("build"),
                "--cases",
                self.path("cases"),
                "--programs",
                self.path("programs"),
                "--json",
                self.path("json"),
                *arguments,
            ],
            env=self.environment,
            text=True,
            capture_output=True,
            timeout=WAIT_S,
        )
        cases = {}
        if os.path.exists(self.path("json")):
            with open(self.path("json"), encoding="utf-8") as file:
                cases = {case["case"]: case for case in json.load(file)["cases"]}
        return done.returncode, done.stdout + done.stderr, cases

    def expect(self, status, *words, exit_code=1, arguments=()):
        """The one case that there is ends so, and the table says why."""
        code, out, cases = self.go(*arguments)
        self.assertEqual(code, exit_code, out)
        self.assertEqual([case["status"] for case in cases.values()], [status], out)
        for word in words:
            self.assertIn(word, out)
        return out, next(iter(cases.values()))

    def test_good_cases_pass(self):
        self.case(
            "good",
            """
            print("words for people")
            print("result text a b c")
            print("result loss", 2.0 + ours * 0.001, "within 0.01")
            print("result error", 1e-7 + ours * 1e-7, "below 1e-5")
            print("figure latency", 10 + ours * 5, "us")
            print("figure speed", 100 + ours * 100, "GB/s higher")
            print("part all 0.1")
            """,
        )
        out, case = self.expect("ok", "Fake GPU, 1.2", "1 cases: 1 ok", exit_code=0)
        self.assertAlmostEqual(case["figures"]["latency"]["ratio"], 1.5)
        self.assertAlmostEqual(case["figures"]["speed"]["ratio"], 0.5)
        self.assertEqual(case["native"]["results"]["text"], "a b c")
        self.assertIn("200 GB/s    0.50", out)
        self.assertEqual(os.listdir(self.path("tmp")), [], "logs of good runs stay behind")

    def test_one_bad_case_among_good_ones_fails_and_stops_nobody(self):
        self.case("a_bad", "print('result x 1')\nif ours: raise ValueError('the reason')")
        self.case("b_good", "print('result x 1')")
        code, out, cases = self.go()
        self.assertEqual((code, cases["a_bad"]["status"], cases["b_good"]["status"]), (1, "FAILED", "ok"), out)
        self.assertIn("ours: exit code 1 ValueError: the reason", out)
        self.assertIn("2 cases: 1 FAILED, 1 ok", out)

    def test_a_side_that_fails(self):
        self.case("native", "print('result x 1')\nif not ours: sys.exit(3)")
        self.expect("FAILED", "native: exit code 3")

    def test_a_failed_part_is_named(self):
        self.case("part", "print('result x 1')\nif ours: print('failed lu RuntimeError: CUSOLVER_STATUS'); sys.exit(1)")
        self.expect("FAILED", "ours: failed lu RuntimeError: CUSOLVER_STATUS")

    def test_a_failed_part_without_exit_code(self):
        self.case("part", "print('result x 1')\nif ours: print('failed lu words')")
        self.expect("FAILED", "says failed, but ended with 0")

    def test_a_signal_is_named(self):
        self.case("killed", "print('result x 1', flush=True)\nif ours: os.kill(os.getpid(), 11)")
        self.expect("FAILED", "ours: signal 11")

    def test_results_that_differ(self):
        for number, (native, ours) in enumerate(
            (
                ("1", "2"),
                ("1.00 within 0.01", "1.02 within 0.01"),
                ("1e-7 below 1e-5", "1e-4 below 1e-5"),
                ("nan below 1", "nan below 1"),
                ("1 within 0.5", "nan within 0.5"),
                ("1", "1 within 9"),
            )
        ):
            self.case("differs", f"print('result key', '{ours}' if ours else '{native}')")
            with self.subTest(number):
                self.expect("DIFFERS", "key: native")

    def test_a_result_of_one_side_only(self):
        self.case("only", "print('result x 1')\nif ours: print('result more 1')")
        self.expect("DIFFERS", "more: only through ivgpu (1)")

    def test_no_result_is_no_success(self):
        self.case("empty", "print('all well')")
        self.expect("FAILED", "native: gave no result")

    def test_a_broken_line_is_no_success(self):
        self.case("twice", "print('result x 1')\nprint('result x 1')")
        self.expect("FAILED", "x a second time")
        self.case("twice", "print('result x 1')\nprint('figure y 0 us')")
        self.expect("FAILED", "unreadable line 'figure y 0 us'")

    def test_time_out_ends_everything_that_was_started(self):
        self.case(
            "hangs",
            f"""
            import subprocess
            print("result x 1", flush=True)
            if ours:
                child = subprocess.Popen(["sleep", "600"])
                open({self.path("pid")!r}, "w").write(str(child.pid))
                time.sleep(600)
            """,
            "TIMEOUT_S = 500\n",
        )
        start = time.monotonic()
        self.expect("FAILED", "ours: not within 2 s", arguments=("--timeout", "2"))
        self.assertLess(time.monotonic() - start, 30)
        with open(self.path("pid"), encoding="utf-8") as file:
            child = file.read()
        with self.assertRaises(OSError, msg="the hung case's child is still there"):
            for _ in range(100):
                with open(f"/proc/{child}/stat", encoding="utf-8") as file:
                    if file.read().rsplit(")", 1)[1].split()[0] == "Z":
                        raise OSError("ended")
                time.sleep(0.05)

    def test_the_cases_own_limit_counts(self):
        self.case("hangs", "print('result x 1', flush=True)\nif ours: time.sleep(60)", "TIMEOUT_S = 1\n")
        self.expect("FAILED", "ours: not within 1 s")

    def test_missing_program(self):
        self.write("programs/there.c", "int main(void)\n{\n        return 0;\n}\n")
        self.write("programs/data.c", "int no_program;\n")
        self.expect("MISSING", "build/tests/cuda/there is not there")

    def test_missing_module(self):
        self.case("needs", "print('missing Python module torch')\nsys.exit(76)")
        self.expect("MISSING", "missing Python module torch")

    def test_hardware_that_is_not_there_is_skipped_on_both_sides_only(self):
        self.case("two", "print('skipped one GPU')\nsys.exit(77)")
        self.expect("skipped", "1 skipped", exit_code=0)
        self.case("two", "print('result x 1')\nif ours: print('skipped no GPU'); sys.exit(77)")
        self.expect("FAILED", "only the ours side skipped: no GPU")

    def test_refused_calls(self):
        line = "ivgpu: cuFoo is not carried: answered CUDA_ERROR_NOT_SUPPORTED"
        body = f"print('result x 1')\nif ours: print('{line}', file=sys.stderr)"
        self.case("refused", body)
        out, case = self.expect("REFUSED", "cuFoo is not carried")
        self.assertEqual(case["refused"], ["cuFoo"])
        self.case("refused", body, "REFUSED = {'cuFoo': 'it looks whether it may'}\n")
        self.expect("ok", "expected refusal: cuFoo (it looks whether it may)", exit_code=0)

    def test_programs_speak_in_lines(self):
        self.write("programs/speaks.c", "int main(void)\n{\n        return 0;\n}\n")
        self.write(
            "build/tests/cuda/speaks",
            '#!/bin/sh\necho "took ${SIDE:-7.5} ms"\necho "speaks: right"\n'.replace("${SIDE:-7.5}", "$$"),
            0o755,
        )
        self.expect("ok", exit_code=0)
        self.write("build/tests/cuda/speaks", '#!/bin/sh\necho "speaks: right ${SIDE}"\n', 0o755)
        self.expect("DIFFERS", "line0: native")

    def test_rounds_take_turns(self):
        self.case("turns", f"open({self.path('order')!r}, 'a').write('o' if ours else 'n')\nprint('result x 1')")
        self.expect("ok", exit_code=0, arguments=("--rounds", "3"))
        with open(self.path("order"), encoding="utf-8") as file:
            self.assertEqual(file.read(), "noonno")

    def test_a_round_that_fails_counts(self):
        self.case(
            "third",
            f"""
            path = {self.path("count")!r}
            count = int(open(path).read()) + 1 if os.path.exists(path) else 1
            open(path, "w").write(str(count))
            print("result x", 1 if count < 4 else 2)
            """,
        )
        self.expect("DIFFERS", arguments=("--rounds", "3"))

    def test_what_measures_runs_alone_and_last(self):
        body = f"""
            path = {self.path("running")!r} + str(os.getpid())
            open(path, "w").close()
            time.sleep(0.3)
            others = [name for name in os.listdir({self.root!r}) if name.startswith("running")]
            os.unlink(path)
            open({self.path("most")!r} + {{name!r}}, "a").write(f"{{{{len(others)}}}} ")
            print("result x 1")
            """
        for name in ("a_alone", "b", "c", "d"):
            self.case(name, body.format(name=name), "ALONE = True\n" if name == "a_alone" else "")
        code, out, cases = self.go("--jobs", "3")
        self.assertEqual((code, list(cases)[-1]), (0, "a_alone"), out)
        with open(self.path("mosta_alone"), encoding="utf-8") as file:
            self.assertEqual(file.read(), "1 1 ")

    def test_choosing(self):
        for name in ("alpha", "beta", "gamma"):
            self.case(name, "print('result x 1')")
        self.assertEqual(set(self.go("--only", "alp,b*")[2]), {"alpha", "beta"})
        self.assertEqual(set(self.go("--skip", "gam", "--jobs", "2")[2]), {"alpha", "beta"})
        code, out, _ = self.go("--only", "delta")
        self.assertEqual((code, out), (2, "gpu/run: no case matches\n"))

    def test_nothing_to_run_with(self):
        self.case("good", "print('result x 1')")
        self.write("bin/nvidia-smi", "#!/bin/sh\necho no devices\nexit 9\n", 0o755)
        code, out, _ = self.go()
        self.assertEqual((code, out), (2, "gpu/run: no NVIDIA GPU on this machine: no devices\n"))
        os.unlink(self.path("build/bin/ivgpu-run"))
        code, out, _ = self.go()
        self.assertEqual(code, 2)
        self.assertIn("bin/ivgpu-run is not built", out)


if __name__ == "__main__":
    unittest.main()
