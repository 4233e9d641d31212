#!/usr/bin/env python3
"""What the mediator ends programs for stands in the error line that they print: number and name."""
import json
import os
import signal
import subprocess
import unittest

from mediator_harness import BIN, HERE, WAIT_S, Mediator, wait_until

PROGRAM = os.path.join(BIN, "..", "tests", "cuda", "loop")
SHIM = os.path.join(BIN, "..", "lib", "ivgpu")
PROGRAM_S = 120


class Reasons(Mediator):
    def begin(self, mediator="", local="", more=""):
        self.control_path = os.path.join(self.folder, "control.sock")
        config = os.path.join(self.folder, "ivgpud.conf")
        with open(config, "w") as file:
            file.write(f"""mediator = {{ device = "soft"; {mediator} }};
local = {{ socket = "{self.local_path}"; region_mib = 64; {local} }};
control = {{ socket = "{self.control_path}"; }};
{more}""")
        open(self.log_path, "w").close()
        self.process = self.spawn(["--config", config, "--foreground"])
        self.addCleanup(self.end)
        wait_until(lambda: "listening on " + self.control_path in self.log() or self.process.poll() is not None, "start")

    def popen(self, seconds):
        environment = dict(os.environ, LD_LIBRARY_PATH=SHIM, IVGPU_SOCKET=self.local_path)
        return subprocess.Popen([PROGRAM, str(seconds)], env=environment, text=True, stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def ends_with(self, program, status, words):
        out, error = program.communicate(timeout=PROGRAM_S)
        self.assertEqual(program.returncode, status, out + error)
        self.assertIn(words, error)

    def ctl(self, *words):
        return subprocess.run([os.path.join(BIN, "ivgpuctl"), f"--socket={self.control_path}", *words], check=True,
                              capture_output=True, text=True, timeout=WAIT_S).stdout

    def wait_working(self):
        wait_until(lambda: json.loads(self.ctl("--json", "stats", "local"))["accounts"][0]["gpu_calls"] > 0
                   or json.loads(self.ctl("--json", "stats", "local"))["accounts"][0]["records"] > 100, "calls")

    def test_quarantine(self):
        self.begin()
        program = self.popen(PROGRAM_S)
        self.wait_working()
        self.ctl("quarantine", "local", "0")
        self.ends_with(program, 3, "ivgpu: error 11 (VM_QUARANTINED): ")
        self.ends_with(self.popen(1), 1, "ivgpu: error 11 (VM_QUARANTINED): ")
        self.ctl("release", "local")
        self.ends_with(self.popen(0), 0, "")

    def test_an_executor_that_stands_still(self):
        self.begin("silent_timeout_ms = 500;")
        program = self.popen(PROGRAM_S)
        self.wait_working()
        os.kill(json.loads(self.ctl("--json", "show", "local"))["executors"][0]["pid"], signal.SIGSTOP)
        self.ends_with(program, 3, "ivgpu: error 4 (TIMEOUT): ")
        self.assertEqual(json.loads(self.ctl("--json", "show", "local"))["faults"]["silent"], 1)

    def test_a_server_of_its_pool_that_dies(self):
        """The real executor refuses a driver without MPS, such as the soft GPU: here it is not told to look."""
        executor = os.path.join(self.folder, "executor")
        with open(executor, "w") as file:
            file.write('#!/bin/bash\nwords=()\nfor word in "$@"; do [[ $word == --mps ]] || words+=("$word"); done\n'
                       f'exec {BIN}/ivgpu-exec "${{words[@]}}"\n')
        os.chmod(executor, 0o755)
        mode = os.path.join(self.folder, "mps-mode")
        with open(mode, "w") as file:
            file.write("ready")
        os.environ.update(FAKE_MPS_NOTES=os.path.join(self.folder, "mps-notes"), FAKE_MPS_MODE=mode)
        self.begin(f'executor = "{executor}"; mps_program = "{HERE}/fake_mps_control.py"; mps_dir = "{self.folder}/mps";',
                   more='pools = ( { name = "A"; mps = "on"; } );')
        program = self.popen(PROGRAM_S)
        self.wait_working()
        wait_until(lambda: "serves its executors" in self.log(), "the server is known")
        with open(os.environ["FAKE_MPS_NOTES"]) as file:
            os.kill([note["server"] for note in map(json.loads, file) if "server" in note][-1], signal.SIGKILL)
        self.ends_with(program, 3, "ivgpu: error 5 (CUDA_ERROR): ")
        self.ends_with(self.popen(0), 0, "")

    def test_too_many_programs(self):
        self.begin(local="executors_max = 1;")
        program = self.popen(PROGRAM_S)
        self.wait_working()
        self.ends_with(self.popen(1), 1, "ivgpu: error 7 (QUEUE_FULL): ")
        program.kill()
        program.communicate()


if __name__ == "__main__":
    unittest.main()
