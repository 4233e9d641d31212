#!/usr/bin/env python3
"""ivgpu-run: exit codes, signals, environment, and nothing left behind. The executor is a fake; no GPU, no soft GPU."""
import glob
import os
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

from mediator_harness import BIN, HERE, WAIT_S, process_is_there, wait_until


class Run(unittest.TestCase):
    def setUp(self):
        self.root = tempfile.mkdtemp(prefix="ivgpu-run-test.")
        self.addCleanup(shutil.rmtree, self.root)
        for folder in ("bin", "lib/ivgpu", "lib/ivgpu-host/softgpu", "run"):
            os.makedirs(os.path.join(self.root, folder))
        for program in ("ivgpu-run", "ivgpud"):
            shutil.copy(os.path.join(BIN, program), os.path.join(self.root, "bin"))
        shutil.copy(os.path.join(HERE, "fake_executor.py"), os.path.join(self.root, "bin/ivgpu-exec"))
        with open(os.path.join(self.root, "lib/ivgpu-host/softgpu/libcuda.so.1"), "w") as file:
            file.write("not a library")
        self.run_folder = os.path.join(self.root, "run")
        self.environment = dict(os.environ, XDG_RUNTIME_DIR=self.run_folder, LD_LIBRARY_PATH="/first:/second")

    def start(self, arguments):
        """In a process group of its own, which a failed test takes down as a whole."""
        process = subprocess.Popen([os.path.join(self.root, "bin/ivgpu-run"), *arguments], env=self.environment,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
        self.addCleanup(self.take_down, process)
        return process

    def take_down(self, process):
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        process.stdout.close()
        process.stderr.close()

    def go(self, *arguments):
        process = self.start(arguments)
        out, err = process.communicate(timeout=3 * WAIT_S)
        return process.returncode, out, err

    def assert_clean(self):
        self.assertEqual(os.listdir(self.run_folder), [])
        self.assertEqual(self.mediators(), [])

    def mediators(self):
        found = []
        for path in glob.glob("/proc/[0-9]*/exe"):
            try:
                if os.readlink(path) == os.path.join(self.root, "bin/ivgpud"):
                    found.append(path)
            except OSError:
                pass
        return found

    def test_exit_code_is_the_programs(self):
        self.assertEqual(self.go("--device", "soft", "--", "sh", "-c", "echo out; echo err >&2; exit 42"),
                         (42, "out\n", "err\n"))
        self.assertEqual(self.go("--device", "soft", "sh", "-c", "kill -9 $$")[0], 128 + 9)
        self.assertEqual(self.go("--device=soft", "true")[0], 0)
        self.assert_clean()

    def test_program_finds_our_library_and_socket(self):
        code, out, _ = self.go("--device", "soft", "--log=calls", "--", "sh", "-c",
                               'echo "$LD_LIBRARY_PATH"; echo "$IVGPU_CHANNEL"; echo "$IVGPU_LOG"; '
                               'test -S "$IVGPU_SOCKET" && stat -c %a "$(dirname "$IVGPU_SOCKET")"')
        lines = out.splitlines()
        self.assertEqual(code, 0)
        self.assertEqual(lines[0], os.path.join(self.root, "lib/ivgpu") + ":/first:/second")
        self.assertTrue(lines[1].startswith("local:" + self.run_folder))
        self.assertEqual(lines[2:], ["calls", "700"])

    def test_mistakes_are_named(self):
        for arguments, words in (((), "usage:"), (("--device", "tpu", "true"), "'tpu'"), (("--log=all", "true"), "'all'")):
            code, _, err = self.go(*arguments)
            self.assertEqual(code, 125)
            self.assertIn(words, err)
        code, _, err = self.go("--device", "soft", "/nonexistent/program")
        self.assertEqual(code, 127)
        self.assertIn("/nonexistent/program: No such file", err)
        self.assertEqual(self.go("--device", "soft", "/etc/passwd")[0], 126)
        os.unlink(os.path.join(self.root, "lib/ivgpu-host/softgpu/libcuda.so.1"))
        code, _, err = self.go("--device", "soft", "true")
        self.assertEqual(code, 125)
        self.assertIn("lib/ivgpu-host/softgpu/libcuda.so.1: No such file", err)
        self.assert_clean()

    def test_cuda_that_is_not_there_is_an_error_when_asked_for(self):
        code, _, err = self.go("--device", "cuda", "--driver", os.path.join(self.root, "lib/ivgpu-host/softgpu/libcuda.so.1"), "true")
        self.assertEqual(code, 125)
        self.assertIn("no CUDA driver: ", err)
        self.assert_clean()

    def test_statistics_come_last(self):
        code, _, err = self.go("--device", "soft", "--stats", "--", "sh", "-c", "echo mine >&2")
        self.assertEqual(code, 0)
        self.assertTrue(err.startswith("mine\n[MEDIATOR STATS]\n"), err)
        self.assertIn("Local: programs 0 (0 running), records 0 in 0 batches", err)

    def test_signal_reaches_the_program(self):
        process = self.start(["--device", "soft", "--", "sh", "-c",
                              "trap 'echo caught; exit 9' TERM; echo ready; while :; do sleep 0.02; done"])
        self.assertEqual(process.stdout.readline(), "ready\n")
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=WAIT_S)
        self.assertEqual((out, process.returncode), ("caught\n", 9))
        self.assert_clean()

    def test_terminals_interrupt_reaches_the_program_once_and_not_the_mediator(self):
        process = self.start(["--device", "soft", "--", "sh", "-c",
                              'n=0; trap "n=\\$((n+1))" INT; echo ready; '
                              'i=0; while [ $i -lt 25 ]; do sleep 0.02; i=$((i+1)); done; echo $n'])
        self.assertEqual(process.stdout.readline(), "ready\n")
        wait_until(lambda: len(self.mediators()) == 1, "the mediator's start")  # program and mediator start together
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        time.sleep(0.1)
        self.assertEqual(len(self.mediators()), 1)
        out, _ = process.communicate(timeout=WAIT_S)
        self.assertEqual(out, "1\n")
        self.assert_clean()

    def test_mediator_ends_when_ivgpu_run_is_killed(self):
        process = self.start(["--device", "soft", "--", "sh", "-c", "echo $$; exec sleep 30"])
        program = int(process.stdout.readline())
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()
        wait_until(lambda: not self.mediators(), "the mediator's end")
        os.kill(program, signal.SIGKILL)
        wait_until(lambda: not process_is_there(program), "the program's end")


if __name__ == "__main__":
    unittest.main()
