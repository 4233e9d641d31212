#!/usr/bin/env python3
"""ivgpu-dump against a running mediator: from the control socket, from a process's descriptors, from a file; who may."""
import json
import os
import struct
import subprocess
import unittest

from mediator_harness import BIN, Mediator

NOBODY = 65534


class Dump(Mediator):
    def setUp(self):
        super().setUp()
        self.control_path = os.path.join(self.folder, "control.sock")

    def write_config(self, ready_timeout_ms=10000, more=""):
        return super().write_config(ready_timeout_ms,
                                    more + f'control = {{ socket = "{self.control_path}"; socket_mode = "0666"; }};')

    def dump(self, *words, status=0, **keywords):
        result = subprocess.run([os.path.join(BIN, "ivgpu-dump"), f"--socket={self.control_path}", *words],
                                capture_output=True, text=True, timeout=60, **keywords)
        self.assertEqual(result.returncode, status, result.stdout + result.stderr)
        return result.stderr if status else result.stdout

    def json(self, *words):
        return [json.loads(line) for line in self.dump("--json", *words).splitlines()]

    def attach(self):
        self.start()
        guest = self.attach_qemu(epoch=0x1234)
        guest.open(2)
        # A claim that was never committed, of a thread that its line names: fields as in ring_layout.h.
        ring = guest.region.channels_offset + 2 * guest.region.stride
        struct.pack_into("<QII", guest.region.map, ring + 128 + 5 * 64, 0, 3, 4711)
        guest.region.store(ring, 3)
        return guest

    def test_live(self):
        guest = self.attach()
        for words in (("7",), ("seven",), ("--executor", str(self.notes()[0]["pid"])), ("--pid", str(self.process.pid)), ()):
            one, = self.json(*words)
            self.assertEqual((one["region"]["vm_id"], one["region"]["vm_name"], one["region"]["bytes"]), (7, "seven", 32 << 20))
            self.assertEqual(one["region"]["boot_epoch"], "0000000000001234")
            channel, = one["channels"]
            self.assertEqual((channel["channel"], channel["guest"], channel["host"]), (2, "OPEN", "READY"))
            half, = channel["ring"]["half_written"]
            self.assertEqual((half["position"], half["slots"], half["thread"], half["line"]), (0, 3, 4711, 5))
            self.assertGreaterEqual(half["ms_at_least"], 20)
        self.assertEqual(len(self.json("7", "--all")[0]["channels"]), 4)
        self.assertEqual(self.json("7", "--channel=1")[0]["channels"][0]["guest"], "FREE")
        text = self.dump("7")
        self.assertIn("channel 2   guest OPEN, host READY, generation 1", text)
        self.assertIn("half-written 3 slots at 0 by thread 4711, line 5, for 20 ms or longer", text)
        guest.close()

    def test_saved(self):
        guest = self.attach()
        path = os.path.join(self.folder, "saved")
        self.dump("7", f"--save={path}")
        self.assertEqual(os.stat(path).st_mode & 0o777, 0o600)
        live, saved = self.json("7")[0], self.json(path)[0]
        for one in (live, saved):
            del one["region"]["heartbeat"], one["source"]
        self.assertEqual(live, saved)
        self.assertIn("File exists", self.dump("7", f"--save={path}", status=1))
        guest.close()

    def test_refusals(self):
        guest = self.attach()
        other = subprocess.Popen(["sleep", "60"])
        self.addCleanup(other.wait)
        self.addCleanup(other.kill)
        for words, text in ((("8",), "unknown VM 8"), (("local",), "local: no region"), (("--executor=1",), "no executor 1"),
                            (("7", "--channel=4"), "no channel 4: there are 4"), (("/dev/null",), "not a file"),
                            ((__file__,), "no region"), ((f"--pid={other.pid}",), f"process {other.pid}: no region")):
            self.assertIn(text, self.dump(*words, status=1))
        for words in (("7", "8"), ("--pid=1", "7"), ("--channel=x",), ("--calls=4097",), ("--nonsense",)):
            self.dump(*words, status=2)
        self.assertIn("usage: ivgpu-dump", self.dump("--help"))
        if os.geteuid() == 0:
            os.chmod(self.folder, 0o755)
            self.assertIn("you may look only", self.dump("7", status=1, user=NOBODY, group=NOBODY, extra_groups=[]))
        guest.close()
        self.end()
        self.assertIn("no mediator at", self.dump(status=3))


if __name__ == "__main__":
    unittest.main()
