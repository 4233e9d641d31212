"""Each case of tests/integration/hostile_guest.c beside an honest neighbour: its channel ends as the case says, with the
reason in the log; mediator and neighbour go on undisturbed; nothing is left of it."""
import os
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

from path_faults import BIN, PROGRAMS, SHIM, executors_of, wait_until

HOSTILE = os.path.join(os.path.dirname(BIN), "tests", "hostile_guest")
LEFT_S = 10.0  # the executor lingers after a fault, so that its guest can read the reason


def cases():
    listed = subprocess.run([HOSTILE, "--list"], capture_output=True, text=True, check=True).stdout
    return [line.split(" ", 2) for line in listed.splitlines()]


class HostileGuest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="ivgpu-hostile.")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.socket = os.path.join(self.folder, "local.sock")
        self.log_path = os.path.join(self.folder, "log")
        self.children = []
        self.addCleanup(self.end_children)
        read, write = os.pipe()
        with open(self.log_path, "w") as log:
            self.mediator = self.start([os.path.join(BIN, "ivgpud"), "--local", self.socket, "--device", "soft", "--foreground",
                                        "--quiet", "--ready-fd", str(write)], pass_fds=[write], stderr=log)
        os.close(write)
        with os.fdopen(read) as ready:
            self.assertEqual(ready.read(), "ready\n", "ivgpud did not get ready")

    def start(self, words, **keywords):
        environment = dict(os.environ, LD_LIBRARY_PATH=SHIM, IVGPU_CHANNEL=f"local:{self.socket}", IVGPU_SOCKET=self.socket)
        child = subprocess.Popen(words, env=environment, **keywords)
        self.children.append(child)
        return child

    def end_children(self):
        for child in self.children:
            if child.poll() is None:
                child.kill()
            child.communicate()

    def log(self):
        with open(self.log_path) as file:
            return file.read()

    def left(self):
        """What the mediator holds: executors, and descriptors with regions among them."""
        folder = f"/proc/{self.mediator.pid}/fd"
        return len(executors_of(self.mediator.pid)), len(os.listdir(folder))

    def start_neighbour(self):
        """An honest program that compares all its results, until its standard input ends."""
        neighbour = self.start([os.path.join(PROGRAMS, "loop"), "600", "check"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               stdin=subprocess.PIPE, text=True)
        self.assertEqual(neighbour.stdout.readline(), "loop: running\n")
        time.sleep(0.1)
        return neighbour

    def end_neighbour(self, neighbour):
        neighbour.stdin.close()
        neighbour.stdin = None
        out, err = neighbour.communicate(timeout=60)
        self.assertEqual(neighbour.returncode, 0, out + err)
        self.assertIn("nothing broke", out)
        wait_until(lambda: self.left()[0] == 0, "the neighbour's own end", LEFT_S)

    def attack(self, name, end, reason, before):
        logged = len(self.log())
        done = self.start([HOSTILE, name], stderr=subprocess.PIPE, text=True)
        _, err = done.communicate(timeout=60)
        self.assertEqual(done.returncode, 0, err)
        self.assertIsNone(self.mediator.poll(), "the mediator has ended")
        wait_until(lambda: self.left() == before, f"what it was before, {before}, is {self.left()}", LEFT_S)
        faults = [line for line in self.log()[logged:].splitlines() if "(fault " in line]
        if reason is None:
            self.assertEqual(faults, [])
        else:
            self.assertEqual(len(faults), 1, self.log()[logged:])
            self.assertIn(f"(fault {end})", faults[0])
            self.assertIn(f"{reason} broken", self.log()[logged:])

    def test_every_wrong_thing_ends_its_own_channel_only(self):
        neighbour = self.start_neighbour()
        before = self.left()
        self.assertEqual(before[0], 1)
        wanted = os.environ.get("HOSTILE_CASE")
        for name, end, *reason in cases():
            if wanted and name != wanted:
                continue
            with self.subTest(case=name):
                self.attack(name, end, reason[0] if reason else None, before)
                self.assertIsNone(neighbour.poll(), "the neighbour has ended")
        self.end_neighbour(neighbour)

    def test_many_at_once_leave_nothing(self):
        neighbour = self.start_neighbour()
        before = self.left()
        names = ["storm_of_doorbells", "call_number_65535", "host_words_flicker", "guest_words_of_no_state",
                 "boot_epochs_without_end", "many_unanswered_calls"]
        running = [self.start([HOSTILE, name], stderr=subprocess.PIPE, text=True) for name in names]
        killed = self.start([HOSTILE, "storm_of_doorbells"], stderr=subprocess.DEVNULL)
        time.sleep(0.2)
        killed.kill()
        for name, child in zip(names, running):
            _, err = child.communicate(timeout=60)
            self.assertEqual(child.returncode, 0, f"{name}: {err}")
        killed.wait()
        wait_until(lambda: self.left() == before, f"what it was before, {before}, is {self.left()}", LEFT_S)
        self.end_neighbour(neighbour)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], "-v", *sys.argv[1:]])
