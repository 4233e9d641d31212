#!/usr/bin/env python3
"""Module images cross once: among processes of one mediator, among VMs as configured, within the store's bounds, and
programs are right whatever becomes of the store. Counts decide, never times.

With --measure instead: prints how long loads take, for docs/measurements.md."""

import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import mediator_harness as harness  # pylint: disable=wrong-import-position

BIN = harness.BIN
PROGRAM = os.path.join(BIN, "..", "tests", "cuda", "images")
SHIM = os.path.join(BIN, "..", "lib", "ivgpu")
KIB = 1024
PROGRAM_S = 120
LOCAL_MAGIC = 0x4c475649
COUNTS = re.compile(r"^  (Local|VM \d+ \([^)]*\)): .*?images found (\d+) \((\d+) bytes not sent\), brought (\d+)",
                    re.MULTILINE | re.DOTALL)


def counts(text):
    """{who: (found, bytes not sent, brought)}"""
    return {match[1]: tuple(map(int, match.groups()[1:])) for match in COUNTS.finditer(text)}


class Machine:
    """A VM as ivgpud sees one: plays its QEMU, and lends region and doorbells to programs of this machine."""

    def __init__(self, folder, name, qemu_path):
        self.qemu_path, self.path = qemu_path, os.path.join(folder, name + ".local")
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.bind(self.path)
        self.listener.listen()
        self.boot()
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def boot(self):
        self.qemu = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.qemu.settimeout(harness.WAIT_S)
        self.qemu.connect(self.qemu_path)
        values, fds = [], []
        for _ in range(3 + 2 * 3):  # version, id, region; three vectors of the host, three of the guest
            data, received = harness.receive(self.qemu, 8, 1)
            values.append(struct.unpack("<q", data)[0])
            fds += received
        assert values == [0, 1, -1, 0, 0, 0, 1, 1, 1], values
        self.region, self.control, self.doorbell, self.interrupt = fds[0], fds[1], fds[2], fds[5]
        self.fds = fds
        self.words = harness.Region(os.dup(self.region))

    def serve(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            magic, layout, fingerprint = struct.unpack("<IIQ", sock.recv(16))
            assert magic == LOCAL_MAGIC
            # As a guest's driver does: the channel's last program must be gone on the host too.
            harness.wait_until(lambda: self.words.host(0)[1] == harness.FREE, "channel 0 free")
            welcome = struct.pack("<IIIIQQ192s", magic, 0, layout, 0, fingerprint, os.fstat(self.region).st_size, b"")
            socket.send_fds(sock, [welcome], [self.region, self.control, self.doorbell, self.interrupt])
            sock.recv(1)  # the program's end
            sock.close()

    def run(self, *arguments):
        environment = dict(os.environ, LD_LIBRARY_PATH=SHIM, IVGPU_CHANNEL="local:" + self.path)
        return subprocess.run([PROGRAM, *map(str, arguments)], env=environment, timeout=PROGRAM_S, check=False,
                              capture_output=True, text=True)

    def close(self):
        self.listener.close()
        self.qemu.close()
        self.words.close()
        for fd in self.fds:
            os.close(fd)


class Programs(unittest.TestCase):
    """Of one ivgpu-run, which is a mediator of its own."""

    def run_all(self, *programs):
        script = " && ".join(" ".join(["\"$0\"", *map(str, program)]) for program in programs)
        result = subprocess.run([os.path.join(BIN, "ivgpu-run"), "--device", "soft", "--stats", "--", "sh", "-c",
                                 script, PROGRAM], timeout=PROGRAM_S, check=False, capture_output=True, text=True)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        return counts(result.stderr)["Local"]

    def test_a_second_process_sends_nothing(self):
        self.assertEqual(self.run_all((1024, 1, 7)), (0, 0, 1))
        # Twice the same image, in processes that know nothing of each other; verified while the first one ends.
        found, spared, brought = self.run_all((1024, 4, 7), (1024, 2, 7))
        self.assertGreaterEqual(found, 2)
        self.assertEqual((found + brought, spared), (6, found * KIB * KIB))

    def test_parts_of_a_linked_image_are_one(self):
        found, spared, brought = self.run_all(("linked", 3), ("linked", 3))
        self.assertGreaterEqual(found, 4)
        self.assertEqual(found + brought, 8)
        self.assertGreater(spared, found * 168 * KIB)

    def test_a_small_image_is_sent(self):
        self.assertEqual(self.run_all((63, 3, 1)), (0, 0, 0))

    def test_a_change_in_place_is_seen(self):
        self.assertEqual(self.run_all(("stale", 1)), (0, 0, 2))

    def test_a_program_may_want_none_of_it(self):
        os.environ["IVGPU_IMAGES"] = "send"
        try:
            self.assertEqual(self.run_all((256, 3, 1)), (0, 0, 0))
        finally:
            del os.environ["IVGPU_IMAGES"]


class Machines(harness.Mediator):
    def write_config(self, ready_timeout_ms=10000, more=""):
        path = os.path.join(self.folder, "ivgpud.conf")
        vms = "".join(f"""{", " if number else ""}{{ vm_id = {number}; name = "m{number}"; pool = "A";
            socket = "{self.folder}/vm{number}.sock"; region_mib = 256; channels = 2; vectors = 3; }}"""
                      for number in range(2))
        with open(path, "w") as file:
            file.write(f"""mediator = {{ device = "soft"; heartbeat_log_s = 0; }};
pools = ( {{ name = "A"; }} );
vms = ( {vms} );
local = {{ socket = "{self.local_path}"; region_mib = 256; }};
{self.images}""")
        return path

    def begin(self, images=""):
        self.images = images
        self.start()
        machines = [Machine(self.folder, f"m{i}", f"{self.folder}/vm{i}.sock") for i in range(2)]
        for machine in machines:
            self.addCleanup(machine.close)
        return machines

    def right(self, machine, *arguments):
        result = machine.run(*arguments)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr + self.log())
        return self.now()

    def now(self):
        """Counts of both VMs. A program's executor may still be ending: its counters are read all the same."""
        before = self.log().count("[MEDIATOR STATS]")
        self.process.send_signal(signal.SIGUSR1)
        harness.wait_until(lambda: self.log().count("[MEDIATOR STATS]") > before and
                           self.log().rsplit("[MEDIATOR STATS]", 1)[1].count("images found") == 3, "statistics")
        seen = counts(self.log().rsplit("[MEDIATOR STATS]", 1)[1])
        return seen["VM 0 (m0)"], seen["VM 1 (m1)"]

    def settled(self):
        """What was brought is verified by the keeper while nobody waits for it: here we do, by its use of the CPU."""
        (keeper,) = self.keepers()

        def ticks():
            with open(f"/proc/{keeper}/schedstat") as file:
                return file.read()

        last = None
        while last != (last := ticks()):
            time.sleep(0.1)

    def test_another_vm_sends_nothing(self):
        first, second = self.begin()
        self.assertEqual(self.right(first, 1024, 1, 11), ((0, 0, 1), (0, 0, 0)))
        self.settled()
        self.assertEqual(self.right(second, 1024, 1, 11), ((0, 0, 1), (1, KIB * KIB, 0)))
        self.assertEqual(self.right(second, 1024, 1, 12), ((0, 0, 1), (1, KIB * KIB, 1)))

    def test_vms_may_be_kept_apart(self):
        first, second = self.begin('images = { share = "vm"; };')
        self.right(first, 1024, 1, 11)
        self.settled()
        self.assertEqual(self.right(second, 1024, 1, 11), ((0, 0, 1), (0, 0, 1)))
        self.settled()
        self.assertEqual(self.right(first, 1024, 1, 11), ((1, KIB * KIB, 1), (0, 0, 1)))
        self.assertEqual(self.right(second, 1024, 1, 11), ((1, KIB * KIB, 1), (1, KIB * KIB, 1)))

    def test_nothing_may_be_kept(self):
        first, _ = self.begin('images = { share = "off"; };')
        self.assertEqual(self.right(first, 1024, 3, 11), ((0, 0, 0), (0, 0, 0)))
        self.assertEqual(self.keepers(), [])

    def test_the_oldest_goes_first_and_a_vm_replaces_its_own(self):
        first, second = self.begin("images = { mib = 4; vm_mib = 2; };")
        self.right(second, 900, 1, 1)
        self.settled()
        for seed in (2, 3, 4):  # the third takes the place of the first
            self.right(first, 900, 1, seed)
            self.settled()
        self.assertEqual(self.right(first, 900, 1, 3)[0], (1, 900 * KIB, 3))
        self.assertEqual(self.right(first, 900, 1, 2)[0], (1, 900 * KIB, 4))
        self.assertEqual(self.right(second, 900, 1, 1)[1], (1, 900 * KIB, 1))
        # Too large for the VM's share: right, and sent each time.
        self.assertEqual(self.right(second, 3000, 2, 9)[1][:2], (1, 900 * KIB))

    def test_the_keepers_death_costs_nothing_but_sending(self):
        first, second = self.begin()
        self.right(first, 1024, 1, 11)
        (keeper,) = self.keepers()
        os.kill(int(keeper), signal.SIGKILL)
        harness.wait_until(lambda: "the keeper of images" in self.log(), "a word about it")
        time.sleep(1.1)  # IVG_IMAGES_RESTART_MS
        self.assertEqual(self.right(second, 1024, 1, 11)[1], (0, 0, 1))
        self.assertNotEqual(self.keepers(), [keeper])
        self.settled()
        self.assertEqual(self.right(first, 1024, 1, 11)[0], (1, KIB * KIB, 1))

    def test_a_stopped_keeper_is_not_waited_for(self):
        first, _ = self.begin()
        self.right(first, 1024, 1, 11)
        (keeper,) = self.keepers()
        os.kill(int(keeper), signal.SIGSTOP)
        try:
            self.right(first, 1024, 3, 12)
            self.assert_logged("does not answer")
        finally:
            os.kill(int(keeper), signal.SIGCONT)

    def test_the_keeper_ends_with_its_mediator(self):
        first, _ = self.begin()
        self.right(first, 1024, 1, 11)
        (keeper,) = self.keepers()
        self.end()
        self.assertFalse(harness.process_is_there(int(keeper)))


def measure():
    """Medians over mediators of their own: loads of an image that costs the driver next to nothing."""
    passes, loads = 5, 8

    def times(machine, kib, count):
        result = machine.run("time", kib, count)
        assert result.returncode == 0, result.stdout + result.stderr
        return [float(word) for word in result.stdout.splitlines()[0].split()[:-1]]

    def median(values):
        return f"{sorted(values)[len(values) // 2]:.2f}"

    print("KiB: first, again, another process, another VM, always sent (first, again); ms")
    for kib in (64, 1024, 65536):
        rows = []
        for _ in range(passes):
            case = Machines()
            case.setUp()
            first, second = case.begin()
            own = times(first, kib, loads)
            case.settled()
            row = [own[0], sorted(own[-3:])[1], times(first, kib, 1)[0], times(second, kib, 1)[0]]
            os.environ["IVGPU_IMAGES"] = "send"
            sent = times(first, kib, loads)
            del os.environ["IVGPU_IMAGES"]
            rows.append(row + [sent[0], sorted(sent[-3:])[1]])
            case.doCleanups()
        print(f"{kib}:", ", ".join(map(median, zip(*rows))))


if __name__ == "__main__":
    if sys.argv[1:] == ["--measure"]:
        measure()
    else:
        unittest.main(verbosity=2)
