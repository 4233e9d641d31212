#!/usr/bin/env python3
"""The journal's part is played here: its socket, in a mount namespace of ivgpud's own, and its native protocol."""
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import unittest

from mediator_harness import BIN, HERE, WAIT_S, Mediator, wait_until

ROOT = os.path.join(HERE, "../..")


def events():
    """{name: (identifier, level, meaning)} of log_events.h"""
    with open(os.path.join(ROOT, "hostexec/ivgpud/log_events.h")) as file:
        rows = re.findall(r'X\((\w+), "([0-9a-f]{32})", (\w+), \\\s+"([^"]*)"\)', file.read())
    return {name: (identifier, level, meaning) for name, identifier, level, meaning in rows}


def parse(datagram):
    """systemd's native protocol: KEY=value, or KEY, a length and a value of several lines."""
    entry = {}
    while datagram:
        head, datagram = datagram.split(b"\n", 1)
        if b"=" in head:
            key, value = head.split(b"=", 1)
        else:
            key, length = head, struct.unpack_from("<Q", datagram)[0]
            value, datagram = datagram[8:8 + length], datagram[8 + length + 1:]
        entry[key.decode()] = value.decode()
    return entry


class Table(unittest.TestCase):
    def test_identifiers_are_unique(self):
        table = events()
        self.assertGreater(len(table), 30)
        self.assertEqual(len({identifier for identifier, _, _ in table.values()}), len(table))

    def test_events_are_documented(self):
        with open(os.path.join(ROOT, "docs/operations.md")) as file:
            rows = re.findall(r"^\| `(\w+)` \| `([0-9a-f]{32})` \| (\w+) \| (.*) \|$", file.read(), re.M)
        documented = {name: (identifier, level, meaning) for name, identifier, level, meaning in rows}
        self.assertEqual(documented, {name: (i, level.lower(), meaning) for name, (i, level, meaning) in events().items()})


@unittest.skipUnless(os.geteuid() == 0 and shutil.which("unshare"), "a mount namespace needs root")
class Journal(Mediator):
    def setUp(self):
        super().setUp()
        self.journal_folder = tempfile.mkdtemp(prefix="journal.")
        self.addCleanup(shutil.rmtree, self.journal_folder)
        self.journal = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.journal.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        self.journal.bind(os.path.join(self.journal_folder, "socket"))
        self.addCleanup(self.journal.close)
        self.seen = []
        threading.Thread(target=self.read, daemon=True).start()

    def spawn(self, arguments, **keywords):
        environment = dict(os.environ, FAKE_MODE_FILE=self.mode_path, FAKE_NOTES=self.notes_path)
        program = 'mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/journal && mount --bind "$1" /run/systemd/journal && shift && exec "$@"'
        if not arguments[-1].startswith("--log"):
            # As systemd says that standard error is the journal's.
            program = program.replace("exec", 'export JOURNAL_STREAM=$(stat -Lc %d:%i /proc/self/fd/2) && exec')
        with open(self.log_path, "a") as log:
            return subprocess.Popen(["unshare", "--mount", "bash", "-c", program, "-", self.journal_folder,
                                     os.path.join(BIN, "ivgpud"), *arguments], stderr=log, env=environment, **keywords)

    def start(self, *more, config=""):
        open(self.log_path, "w").close()
        self.process = self.spawn(["--config", self.write_config(more=config), "--foreground", *more])
        self.addCleanup(self.end)

    def read(self):
        """All the time, as the journal does: its socket holds few datagrams, and who writes waits."""
        try:
            while True:
                self.seen.append(parse(self.journal.recv(1 << 20)))
        except OSError:  # the test is over
            pass

    def entries(self, event):
        return [entry for entry in list(self.seen) if entry.get("IVGPU_EVENT") == event]

    def entry(self, event, count=1):
        return wait_until(lambda: len(self.entries(event)) >= count and self.entries(event), f"{count} entries {event}")[count - 1]

    def test_entries_say_what_and_of_whom(self):
        self.start()
        self.entry("LISTENING", 2)
        guest = self.attach_qemu(epoch=5)
        guest.open(1)
        entry = self.entry("PROGRAM_STARTED")
        identifier, _, _ = events()["PROGRAM_STARTED"]
        executor = self.notes()[-1]["pid"]
        self.assertEqual({key: entry[key] for key in entry if key in ("MESSAGE_ID", "PRIORITY", "SYSLOG_IDENTIFIER", "IVGPU_VM",
                                                                      "IVGPU_VM_NAME", "IVGPU_CHANNEL", "IVGPU_EXECUTOR")},
                         {"MESSAGE_ID": identifier, "PRIORITY": "6", "SYSLOG_IDENTIFIER": "ivgpud", "IVGPU_VM": "7",
                          "IVGPU_VM_NAME": "seven", "IVGPU_CHANNEL": "1", "IVGPU_EXECUTOR": str(executor)})
        self.assertTrue(entry["MESSAGE"].startswith("[cuda-executor] CUDA_CALL_INIT vm=7 "), entry)
        os.kill(executor, signal.SIGKILL)
        entry = self.entry("PROGRAM_FAILED")
        self.assertEqual((entry["PRIORITY"], entry["IVGPU_ERROR"], entry["IVGPU_VM"]), ("3", "5", "7"))
        self.attach_local().close()
        self.assertEqual(self.entry("DETACHED")["IVGPU_VM"], "local")
        guest.close()
        self.process.send_signal(signal.SIGUSR1)
        block = self.entry("STATS")["MESSAGE"]
        self.assertTrue(block.startswith("[MEDIATOR STATS]\n  Total processed: "), block)
        self.assertIn("VM 7 (seven)", block)
        # Each is of the table, and none is text besides.
        for entry in self.seen:
            self.assertEqual(entry["MESSAGE_ID"], events()[entry["IVGPU_EVENT"]][0])
        self.assertEqual(self.log(), "")

    def test_executors_words_are_entries_of_their_vm(self):
        self.mode("says")
        self.start()
        self.entry("LISTENING", 2)
        guest = self.attach_qemu(epoch=5)
        guest.open(2)
        wait_until(lambda: len(self.entries("EXECUTOR_SAYS")) >= 3, "three lines")
        lines = [(entry["MESSAGE"], entry["PRIORITY"], entry["IVGPU_VM"], entry["IVGPU_CHANNEL"]) for entry in self.entries("EXECUTOR_SAYS")]
        pid = self.notes()[-1]["pid"]
        self.assertEqual(lines[:3], [(f"ivgpu-exec[vm=7 channel=2 pid={pid}]: WARNING of this", "4", "7", "2"),
                                     ("a driver's own words", "6", "7", "2"), ("x" * 767, "6", "7", "2")])
        guest.close()
        wait_until(lambda: "the end" in [entry["MESSAGE"] for entry in self.entries("EXECUTOR_SAYS")], "last words")

    def test_a_flood_is_counted_not_shown(self):
        self.start("--log=journal")
        self.entry("LISTENING", 2)
        for _ in range(250):
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
                sock.connect(self.local_path)
        self.attach_qemu(epoch=5).close()  # another's lines are not held back
        self.assertIn("IVGPU_VM", self.entry("ATTACHED"))
        shown = wait_until(lambda: len(self.entries("CONNECTED")) >= 201 and self.entries("CONNECTED"), "connections")
        self.assertEqual(len([entry for entry in shown if entry["IVGPU_VM"] == "local"]), 200)
        entry = wait_until(lambda: self.entries("SUPPRESSED"), "what was not shown", 3 * WAIT_S)[0]
        self.assertRegex(entry["MESSAGE"], r"^\[LOG\] local programs: \d+ more lines of (CONNECTED|REFUSED) were not shown$")
        self.assertEqual(entry["IVGPU_VM"], "local")
        hidden = {entry["MESSAGE"].split()[-4]: int(entry["MESSAGE"].split()[3]) for entry in self.entries("SUPPRESSED")}
        self.assertEqual(hidden["CONNECTED"], 50)

    def test_a_vms_lines_are_hidden_by_its_level(self):
        self.start(config=f'control = {{ socket = "{self.folder}/control.sock"; }};')
        self.entry("LISTENING", 3)
        subprocess.run([os.path.join(BIN, "ivgpuctl"), f"--socket={self.folder}/control.sock", "set", "7", "log_level=error"],
                       check=True, timeout=WAIT_S, stdout=subprocess.DEVNULL)
        guest = self.attach_qemu(epoch=5)
        guest.open(0)
        os.kill(self.notes()[-1]["pid"], signal.SIGKILL)
        self.entry("PROGRAM_FAILED")
        self.assertEqual({entry["IVGPU_EVENT"] for entry in self.seen if entry.get("IVGPU_VM") == "7"} - {"LISTENING"}, {"PROGRAM_FAILED"})
        guest.close()


if __name__ == "__main__":
    unittest.main()
