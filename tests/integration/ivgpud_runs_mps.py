#!/usr/bin/env python3
"""A pool's MPS control daemon: what it and the executors are given, what happens when it or its server dies, when it
cannot be had, and that nothing of it is left. The daemon is a fake one, so are the executors."""
import json
import os
import signal
import subprocess
import unittest

from mediator_harness import BIN, CUDA_ERROR, DEAD, HERE, MEDIATOR_UNAVAILABLE, WAIT_S, Mediator, process_is_there, wait_until


class Mps(Mediator):
    def setUp(self):
        super().setUp()
        self.mps_dir = os.path.join(self.folder, "mps")
        self.mps_notes_path = os.path.join(self.folder, "mps-notes")
        self.mps_mode_path = os.path.join(self.folder, "mps-mode")
        self.control_path = os.path.join(self.folder, "control.sock")
        self.mps_mode("ready")
        os.environ.update(FAKE_MPS_NOTES=self.mps_notes_path, FAKE_MPS_MODE=self.mps_mode_path)

    def mps_mode(self, word):
        with open(self.mps_mode_path, "w") as file:
            file.write(word)

    def mps_notes(self, key):
        try:
            with open(self.mps_notes_path) as file:
                return [note for note in map(json.loads, file) if key in note]
        except FileNotFoundError:
            return []

    def configure(self, mps, program=f"{HERE}/fake_mps_control.py", more="", gpus="0, 2"):
        path = os.path.join(self.folder, "ivgpud.conf")
        driver = os.path.join(self.folder, "driver")
        open(driver, "w").close()
        with open(path, "w") as file:
            file.write(f"""
mediator = {{ device = "soft"; driver = "{driver}"; executor = "{HERE}/fake_executor.py"; heartbeat_log_s = 0;
             mps_program = "{program}"; mps_dir = "{self.mps_dir}"; {more} }};
pools = ( {{ name = "A"; gpus = [ {gpus} ]; mps = {mps}; }} );
local = {{ socket = "{self.local_path}"; region_mib = 16; }};
control = {{ socket = "{self.control_path}"; }};
""")
        return ["--config", path, "--foreground"]

    def begin(self, *words, **keywords):
        open(self.log_path, "w").close()
        self.process = self.spawn(self.configure(*words, **keywords))
        self.addCleanup(self.end)
        wait_until(lambda: "ivgpuctl: listening on" in self.log() or self.process.poll() is not None, "start")
        self.assertIsNone(self.process.poll(), self.log())

    def refused_start(self, *words, **keywords):
        with open(self.log_path, "w") as log:
            ended = subprocess.run([os.path.join(BIN, "ivgpud"), *self.configure(*words, **keywords)], stderr=log,
                                   timeout=WAIT_S)
        self.assertEqual(ended.returncode, 3, self.log())
        return self.log()

    def word(self):
        return self.pool()["mps"]

    def pool(self):
        listed = subprocess.run([os.path.join(BIN, "ivgpuctl"), f"--socket={self.control_path}", "--json", "list"],
                                check=True, capture_output=True, text=True, timeout=WAIT_S)
        return json.loads(listed.stdout)["pools"][0]

    def program(self, epoch):
        """A program with its executor ready."""
        guest = self.attach_local(epoch)
        self.addCleanup(guest.close)
        return guest, guest.open()

    def dies_with(self, guest, generation, code):
        guest.wait_host(0, generation, DEAD)
        self.assertEqual(guest.region.reason(0), code)

    def wait_log(self, words):
        wait_until(lambda: words in self.log(), words)

    def wait_server(self, count):
        server = wait_until(lambda: len(self.mps_notes("server")) >= count and self.mps_notes("server")[-1]["server"],
                            f"server {count}")
        wait_until(lambda: f"server {server} serves" in self.log(), "the server is known")
        return server

    def test_its_own_daemon(self):
        self.begin('"on"')
        daemon, = self.mps_notes("pid")
        pipes = os.path.join(self.mps_dir, "0", "pipe")
        self.assertEqual((daemon["pipe"], daemon["log"], daemon["visible"], daemon["ours"], daemon["descriptors"]),
                         (pipes, os.path.join(self.mps_dir, "0", "log"), "0,2", [], [0, 1, 2]))
        self.assertEqual((self.word(), self.pool()["policy"]), ("on", "fair"))
        self.program(1)
        executor, = self.notes()
        self.assertEqual((executor["mps"], executor["visible"], executor["options"].get("mps")), (pipes, None, True))
        server = self.wait_server(1)
        self.end()
        self.assertEqual(self.process.returncode, 0)
        self.assertFalse(process_is_there(daemon["pid"]))
        wait_until(lambda: not process_is_there(server), "the server's end")  # its daemon has told it
        self.assertEqual(os.listdir(pipes), [])
        with open(os.path.join(self.mps_dir, "0", "log", "said")) as said:
            self.assertIn("hello from the control daemon", said.read())

    def test_a_server_dies(self):
        """Its clients end by name, the next ones start under another."""
        self.begin('"on"')
        server = self.wait_server(1)
        guest, generation = self.program(1)
        os.kill(server, signal.SIGKILL)
        self.dies_with(guest, generation, CUDA_ERROR)
        self.wait_log(f"the server (pid {server}) is gone: 1 programs end with error 5 (CUDA_ERROR)")
        self.wait_server(2)
        self.program(2)
        self.assertEqual(len(self.mps_notes("pid")), 1, "the daemon has stayed")
        self.assertEqual((self.pool()["mps_servers_lost"], self.pool()["mps_daemons_lost"]), (1, 0))

    def test_the_daemon_dies(self):
        """Its clients end, none starts without it, it comes again."""
        self.begin('"on"')
        self.wait_server(1)
        guest, generation = self.program(1)
        self.mps_mode("ends")
        os.kill(self.mps_notes("pid")[0]["pid"], signal.SIGKILL)
        self.dies_with(guest, generation, CUDA_ERROR)
        late = self.attach_local(2)
        self.addCleanup(late.close)
        self.refused(late, 0, MEDIATOR_UNAVAILABLE)
        self.wait_log("the MPS control daemon of pool A is ")
        self.mps_mode("ready")
        wait_until(lambda: self.word() == "on", "the daemon is there again")
        late.open()
        self.assertFalse(process_is_there(self.mps_notes("server")[0]["server"]), "the first one's server is gone")

    def test_it_comes_again_ever_later(self):
        self.begin('"on"')
        self.mps_mode("ends")
        os.kill(self.mps_notes("pid")[0]["pid"], signal.SIGKILL)
        wait_until(lambda: "is started again in 1000 ms" in self.log(), "the second pause")
        self.assert_logged("is started again in 500 ms")
        self.mps_mode("ready")
        wait_until(lambda: self.word() == "on", "the daemon is there again")

    def test_a_server_that_takes_nobody(self):
        """One client has faulted: those that run would keep the server from all others."""
        self.begin('"on"')
        guest, generation = self.program(1)
        self.mode("refused")
        late = self.attach_local(2)
        self.addCleanup(late.close)
        self.refused(late, 0, CUDA_ERROR)
        self.dies_with(guest, generation, CUDA_ERROR)
        self.wait_log("the server takes no new program")
        self.mode("ready")
        late.open()

    def test_without_the_program(self):
        words = self.refused_start('"on"', program="/nowhere/mps-control")
        self.assertIn("pool A: mps: /nowhere/mps-control: No such file", words)
        self.begin('"on"')
        self.assertIn("another ivgpud has it (mps_dir says where)", self.refused_start('"on"'))

    def test_a_daemon_that_ends_at_once(self):
        self.mps_mode("ends")
        words = self.refused_start('"on"')
        self.assertIn("ended with status 3", words)
        self.assertIn("does not stay", words)

    def test_auto(self):
        self.begin('"auto"')
        self.assert_logged('mps = "auto": none, the soft GPU has no servers')
        self.assertEqual((self.word(), self.pool()["policy"], self.mps_notes("pid")), ("off", "turns", []))
        self.program(1)
        executor, = self.notes()
        self.assertEqual((executor["mps"], executor["visible"]), (None, "0,2"))

    def test_pools_come_and_go(self):
        self.begin('"off"')
        path = os.path.join(self.folder, "ivgpud.conf")
        with open(path) as file:
            text = file.read()
        with open(path, "w") as file:
            file.write(text.replace("pools = (", 'pools = ( { name = "B"; gpus = [ 1 ]; mps = "on"; },'))
        self.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "pool B: control daemon" in self.log(), "the new pool's daemon")
        daemon, = self.mps_notes("pid")
        self.assertEqual(daemon["visible"], "1")
        with open(path, "w") as file:
            file.write(text)
        self.process.send_signal(signal.SIGHUP)
        wait_until(lambda: not process_is_there(daemon["pid"]), "the daemon of the pool that is gone")


if __name__ == "__main__":
    unittest.main(verbosity=2)
