#!/usr/bin/env python3
"""The grep lines of the prototype's operators, on the log of a real session: a program of VM 111, a QEMU that connects,
statistics. Words that were kept answer; those that were not find nothing (docs/operations.md says what answers instead)."""
import os
import signal
import subprocess
import unittest

from doctor_harness import SHIM
from mediator_harness import BIN, Mediator, wait_until

PROGRAM_S = 120
# The pattern as it was typed with grep -E (or grep), and what it must find, each line by line.
KEPT = (
    (r"\[cuda-executor\]|cuMemAlloc|CUDA_CALL_MEM_ALLOC", (r"\[cuda-executor\] CUDA_CALL_INIT vm=111 — pipeline live",)),
    (r"\[cuda-executor\]|cuMemAlloc|cuMemcpy|cuLaunchKernel|CUDA_CALL_MEM", (r"\[cuda-executor\] CUDA_CALL_INIT vm=111",)),
    (r"CUDA_CALL|vm_id=111|vm=111|Total processed", (r"CUDA_CALL_INIT vm=111 — pipeline live", r"Total processed: +[1-9]")),
    (r"SOCKET|CONNECTION|PERSIST|vm_id=111", (r"\[SOCKET\] New connection on /\S+vm1\.sock \(fd=\d+", r"\[CONNECTION\] VM 111 .*QEMU")),
    (r"CUDA_CALL|vm_id=111|vm=111|Total processed|SOCKET|CONNECTION", (r"CUDA_CALL_INIT vm=111", r"\[SOCKET\] New connection")),
    (r"CUDA|vm_id=111|processed|SOCKET|CONNECTION", (r"CUDA_CALL_INIT", r"Total processed: +[1-9]", r"Pool A processed: [1-9]")),
    (r"CUDA|vm_id=111|processed", (r"CUDA_CALL_INIT vm=111", r"Total processed: +[1-9]")),
    (r"SOCKET", (r"\[SOCKET\] New connection on ",)),
    (r"CONNECTION", (r"\[CONNECTION\] VM 111 ",)),
    (r"HEARTBEAT", (r"\[HEARTBEAT\] alive",)),
    (r"MEDIATOR STATS", (r"\[MEDIATOR STATS\]",)),
)
NOT_KEPT = (r"\[vgpu\].*CUDA|\[vgpu\].*DOORBELL", r"vgpu-stub", r"CUDA executor ready", r"\[PERSIST\]", r"\[ENQUEUE\]")


class Greps(Mediator):
    def session(self):
        config, local = os.path.join(self.folder, "ivgpud.conf"), os.path.join(self.folder, "local111.sock")
        with open(config, "w") as file:
            file.write(f"""mediator = {{ device = "soft"; heartbeat_log_s = 1; }};
pools = ( {{ name = "A"; }} );
vms = ( {{ vm_id = 111; name = "test-11"; pool = "A"; socket = "{self.vm_path}"; local_socket = "{local}"; region_mib = 64;
          channels = 4; vectors = 5; }} );""")
        open(self.log_path, "w").close()
        self.process = self.spawn(["--config", config, "--foreground"])
        self.addCleanup(self.end)
        wait_until(lambda: "listening on " + self.vm_path in self.log(), "start")
        self.attach_qemu().close()
        subprocess.run([os.path.join(BIN, "../tests/cuda/loop"), "0"], check=True, timeout=PROGRAM_S, stdout=subprocess.DEVNULL,
                       env=dict(os.environ, LD_LIBRARY_PATH=os.path.dirname(SHIM), IVGPU_SOCKET=local))
        self.process.send_signal(signal.SIGUSR1)
        wait_until(lambda: "Total processed:" in self.log() and "[HEARTBEAT]" in self.log(), "statistics and a heartbeat")
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(PROGRAM_S)

    def grep(self, pattern):
        return subprocess.run(["grep", "-E", pattern, self.log_path], capture_output=True, text=True, check=False).stdout

    def test_greps(self):
        self.session()
        for pattern, answers in KEPT:
            for answer in answers:
                with self.subTest(pattern):
                    self.assertRegex(self.grep(pattern), answer)
        for pattern in NOT_KEPT:
            self.assertEqual(self.grep(pattern), "", pattern)


if __name__ == "__main__":
    unittest.main()
