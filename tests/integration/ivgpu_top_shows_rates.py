#!/usr/bin/env python3
"""ivgpu-top: figures of two VMs that run on the soft GPU, as lines and on a terminal of any size."""
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
import unittest

from mediator_harness import BIN, Mediator, wait_until

LOOP = os.path.join(BIN, "..", "tests", "cuda", "loop")
SHIM = os.path.join(BIN, "..", "lib", "ivgpu")
TOP = os.path.join(BIN, "ivgpu-top")
SCREEN_S = 60


class Top(Mediator):
    def setUp(self):
        super().setUp()
        self.control_path = os.path.join(self.folder, "control.sock")
        config = os.path.join(self.folder, "ivgpud.conf")
        vms = ", ".join(f'{{ vm_id = {n}; name = "vm{n}"; pool = "A"; local_socket = "{self.folder}/{n}.sock"; weight = {w}; '
                        f'region_mib = 64; channels = 1; vram_mib = {n}; }}' for n, w in ((7, 30), (8, 10)))
        with open(config, "w", encoding="utf-8") as file:
            file.write(f"""mediator = {{ device = "soft"; heartbeat_log_s = 0; }};
pools = ( {{ name = "A"; }}, {{ name = "B"; }} );
vms = ( {vms} );
control = {{ socket = "{self.control_path}"; }};""")
        self.process = self.spawn(["--config", config, "--foreground"])
        self.addCleanup(self.end)
        wait_until(lambda: "listening on " + self.control_path in self.log(), "start")
        for vm in (7, 8):
            program = subprocess.Popen([LOOP, "120"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                       env=dict(os.environ, LD_LIBRARY_PATH=SHIM,
                                                IVGPU_CHANNEL=f"local:{self.folder}/{vm}.sock"))
            self.addCleanup(program.wait)
            self.addCleanup(program.kill)
        wait_until(lambda: self.log().count("CUDA_CALL_INIT") == 2, "programs")

    def batch(self, *words, status=0):
        result = subprocess.run([TOP, f"--socket={self.control_path}", "--batch", "--delay=0.5", *words], capture_output=True,
                                text=True, timeout=60)
        self.assertEqual(result.returncode, status, result.stdout + result.stderr)
        return result.stderr if status else result.stdout

    def rows(self, *words):
        """[{column: text}] in their order."""
        lines = self.batch(*words).splitlines()
        titles = ["name", "pool", "state", *re.findall(r"\S+(?: \S+)?(?=\s|$)", lines[0][49:].strip())]
        self.assertEqual(len(titles), 18, titles)
        return [dict(zip(titles, (line[:28].strip(), line[29:37].strip(), line[38:49].strip(), *line[49:].split())))
                for line in lines[1:]]

    def test_lines(self):
        rows = self.rows()
        self.assertEqual([row["name"] for row in rows[:2]], ["pool A", "pool B"])
        by_name = {row["name"]: row for row in rows}
        self.assertEqual(set(by_name) - {name for name in by_name if name.startswith("loop ")},
                         {"pool A", "pool B", "7 vm7", "8 vm8"} | ({"local"} & set(by_name)))
        self.assertEqual((by_name["7 vm7"]["due %"], by_name["8 vm8"]["due %"], by_name["7 vm7"]["cap MiB"]), ("75.0", "25.0", "7"))
        for name in ("7 vm7", "8 vm8"):
            for column in ("calls/s", "async/s", "GPU %", "share %", "p99 us"):
                self.assertGreater(float(by_name[name][column]), 0, (name, column))
        self.assertGreater(float(by_name["pool A"]["calls/s"]), float(by_name["7 vm7"]["calls/s"]))
        self.assertAlmostEqual(float(by_name["7 vm7"]["share %"]) + float(by_name["8 vm8"]["share %"]), 100, delta=5)
        self.assertEqual(float(by_name["pool B"]["calls/s"]), 0)
        programs = self.rows("--show=programs", "--sort=calls")
        self.assertEqual({re.sub(r"\d+ ", "N ", row["name"]) for row in programs}, {"loop N of vm7", "loop N of vm8"})
        rates = [float(row["calls/s"]) for row in programs]
        self.assertEqual(rates, sorted(rates, reverse=True))
        self.assertEqual([row["name"] for row in self.rows("--filter=vm8", "--show=vms")], ["8 vm8"])
        self.assertEqual(self.batch("--count=2", "--show=pools").count("NAME"), 2)

    def test_refusals(self):
        for words in (("--sort=nothing",), ("--show=all",), ("--delay=0",), ("--count=0",), ("x",)):
            self.batch(*words, status=2)
        self.assertIn("usage: ivgpu-top", subprocess.run([TOP, "--help"], capture_output=True, text=True, check=True).stdout)
        self.end()
        self.assertIn(f"the mediator at {self.control_path}", self.batch(status=3))

    # ---- a terminal ----

    def screen_of(self, fd, seconds):
        seen, end = b"", time.monotonic() + seconds
        while time.monotonic() < end:
            if select.select([fd], [], [], 0.05)[0]:
                try:
                    seen += os.read(fd, 65536)
                except OSError:
                    break
        return re.sub(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|[()].|[=>78])", " ", seen.decode(errors="replace"))

    def until(self, fd, pattern, keys=b""):
        """Presses the keys, and draws the whole screen anew, until the pattern is on it: otherwise a terminal gets what has
        changed. Keys are pressed again, since what they are to act on may not have been there yet."""
        seen, end = "", time.monotonic() + SCREEN_S
        while not re.search(pattern, seen):
            self.assertLess(time.monotonic(), end, f"no {pattern} in {seen[-2000:]}")
            os.write(fd, keys + b"\x0c")
            seen += self.screen_of(fd, 0.3)  # a screen may come in several parts
        return seen

    def test_a_terminal_of_any_size(self):
        pid, fd = pty.fork()
        if pid == 0:
            os.environ["TERM"] = "xterm"
            os.execv(TOP, ["ivgpu-top", f"--socket={self.control_path}", "--delay=0.1"])

        def resize(height, width):
            fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

        try:
            resize(24, 220)
            self.until(fd, r"pool A")
            for height, width in ((1, 1), (2, 20), (3, 5), (5, 80), (24, 220)):
                resize(height, width)
                self.screen_of(fd, 0.25)
                self.assertEqual(os.waitpid(pid, os.WNOHANG), (0, 0))
            os.write(fd, b"ss")
            self.until(fd, r"sync/s")
            os.write(fd, b"/vm8\n")
            self.until(fd, r"vm8")
            os.write(fd, b"p")
            self.screen_of(fd, 0.5)
            self.until(fd, r"thread \d+ +a?sync +\w+\(", b"\r")
            self.until(fd, r"NAME", b"\x1b")
            self.end()  # the mediator's: it says so, and stays
            self.until(fd, r"closed|No such file|refused")
            os.write(fd, b"q")
            end = time.monotonic() + SCREEN_S
            while (ended := os.waitpid(pid, os.WNOHANG)) == (0, 0):
                self.assertLess(time.monotonic(), end, "it does not end")
                self.screen_of(fd, 0.1)  # or it would wait for its terminal
            self.assertEqual(ended, (pid, 0))
            pid = 0
        finally:
            if pid:
                os.kill(pid, 9)
                os.waitpid(pid, 0)
            os.close(fd)


if __name__ == "__main__":
    unittest.main()
