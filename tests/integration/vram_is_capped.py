#!/usr/bin/env python3
"""A VM's programs get its vram_mib of device memory and not a byte more, together, by every call that takes some; what
they are told of it is the cap; and what one held is there for the others however it ends."""
import json
import os
import signal
import subprocess
import unittest
import unittest.mock

from mediator_harness import BIN, WAIT_S, Mediator, wait_until

PROGRAM = os.path.join(BIN, "..", "tests", "cuda", "cap")
SHIM = os.path.join(BIN, "..", "lib", "ivgpu")
CAP_MIB = 64
GRAPHS_KIB = 320  # IVG_CHAIN_STREAM_BYTES
PROGRAM_S = 120


class Cap(Mediator):
    def setUp(self):
        super().setUp()
        self.control_path = os.path.join(self.folder, "control.sock")
        self.config = os.path.join(self.folder, "ivgpud.conf")
        with open(self.config, "w") as file:
            file.write(f"""mediator = {{ device = "soft"; }};
local = {{ socket = "{self.local_path}"; region_mib = 64; vram_mib = {CAP_MIB}; }};
control = {{ socket = "{self.control_path}"; }};""")
        self.start_soft()

    def start_soft(self):
        open(self.log_path, "w").close()
        self.process = self.spawn(["--config", self.config, "--foreground"])
        self.addCleanup(self.end)
        wait_until(lambda: "listening on " + self.control_path in self.log() or self.process.poll() is not None, "start")

    def popen(self, *words):
        environment = dict(os.environ, LD_LIBRARY_PATH=SHIM, IVGPU_SOCKET=self.local_path)
        program = subprocess.Popen([PROGRAM, *words], env=environment, text=True, stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE)
        self.addCleanup(self.finish, program)
        return program

    @staticmethod
    def finish(program):
        program.kill()
        program.wait()
        program.stdin.close()
        program.stdout.close()

    def count(self, program):
        return int(program.stdout.readline())

    def more(self, program):
        program.stdin.write("\n")
        program.stdin.flush()
        return self.count(program)

    def ctl(self, *words):
        return subprocess.run([os.path.join(BIN, "ivgpuctl"), f"--socket={self.control_path}", *words], check=True,
                              capture_output=True, text=True, timeout=WAIT_S).stdout

    def stats(self):
        return json.loads(self.ctl("--json", "stats", "local"))["accounts"][0]

    def wait_held(self, mib):
        wait_until(lambda: self.stats()["vram_bytes"] == mib << 20, f"{mib} MiB held, not {self.stats()['vram_bytes']}")

    def test_every_form_hits_it_exactly(self):
        program = self.popen("forms", str(CAP_MIB))
        out, _ = program.communicate(timeout=PROGRAM_S)
        self.assertEqual((program.returncode, out.splitlines()[-1]), (0, "right"), out + self.log())
        self.wait_held(0)

    def test_graphs_of_launches_stay_below(self):
        self.end()
        with unittest.mock.patch.dict(os.environ, IVGPU_LAUNCHES="chained"):
            self.start_soft()
        program = self.popen("launches", str(CAP_MIB), str(GRAPHS_KIB))
        out, _ = program.communicate(timeout=PROGRAM_S)
        self.assertEqual((program.returncode, out.splitlines()[-1:]), (0, ["right"]), out + self.log())
        self.wait_held(0)

    def test_processes_share_it_exactly(self):
        programs = [self.popen("hold") for _ in range(3)]
        counts = [self.count(program) for program in programs]
        self.assertEqual(sum(counts), CAP_MIB, counts)
        self.assertEqual(self.stats()["vram_bytes"], CAP_MIB << 20)
        self.assertEqual(self.stats()["vram_limit_bytes"], CAP_MIB << 20)
        programs[0].stdin.close()
        self.assertEqual(programs[0].wait(PROGRAM_S), 0)
        self.wait_held(CAP_MIB - counts[0])
        self.assertEqual(self.more(programs[1]), counts[1] + counts[0])

    def test_one_that_is_killed_leaves_it(self):
        victim, other = self.popen("hold"), None
        self.assertEqual(self.count(victim), CAP_MIB)
        other = self.popen("hold")
        self.assertEqual(self.count(other), 0)
        victim.send_signal(signal.SIGKILL)
        self.wait_held(0)
        self.assertEqual(self.more(other), CAP_MIB)

    def test_an_executor_that_is_killed_leaves_it(self):
        victim = self.popen("hold")
        self.assertEqual(self.count(victim), CAP_MIB)
        os.kill(json.loads(self.ctl("--json", "show", "local"))["executors"][0]["pid"], signal.SIGKILL)
        self.wait_held(0)
        self.assertEqual(self.count(self.popen("crash")), CAP_MIB)
        self.wait_held(0)

    def test_it_may_change_under_running_programs(self):
        program = self.popen("hold")
        self.assertEqual(self.count(program), CAP_MIB)
        self.ctl("set", "local", f"vram_mib={CAP_MIB + 10}")
        self.assertEqual(self.more(program), CAP_MIB + 10)
        self.ctl("set", "local", "vram_mib=8")  # what it has, it keeps
        self.assertEqual(self.more(program), CAP_MIB + 10)
        self.assertEqual(self.count(self.popen("hold")), 0)
        program.stdin.close()
        program.wait(PROGRAM_S)
        self.wait_held(0)
        self.assertEqual(self.count(self.popen("hold")), 8)


if __name__ == "__main__":
    unittest.main()
