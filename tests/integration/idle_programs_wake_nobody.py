#!/usr/bin/env python3
"""A program that does nothing wakes no thread of its own, of its executor or of the mediator more often than named here.
Wake-ups are counted, not time: threads that sleep do not wake more often because a machine is loaded."""
import os
import re
import signal
import subprocess
import sys
import time
import unittest

BIN = os.environ["IVGPU_BIN"]
WINDOW_S = 3
# Ticks and pings within the window, with what belongs to them (hostexec/ivgpud/loop.c); ten ticks a second were 30.
MEDIATOR_SLEEPS_MAX = 8
EXECUTOR_SLEEPS_MAX = 2  # pings, one in 5 s
WINDOWS_MAX = 6          # the first may see the end of the start


def processes_below(root):
    found, parents = {root}, {}
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{entry}/stat") as file:
                parents[int(entry)] = int(file.read().rsplit(")", 1)[1].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            pass
    while more := {process for process, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def sleeps(root):
    """{(process, its name, thread, its name): how often it has gone to sleep by itself}"""
    counts = {}
    for process in processes_below(root):
        with open(f"/proc/{process}/comm") as file:
            name = file.read().strip()
        for thread in os.listdir(f"/proc/{process}/task"):
            with open(f"/proc/{process}/task/{thread}/status") as file:
                status = file.read()
            counts[process, name, thread, re.search("Name:\t(.*)", status)[1]] = int(
                re.search("^voluntary_ctxt_switches:\t([0-9]+)", status, re.M)[1])
    return counts


def at_most(name):
    return {"ivgpud": MEDIATOR_SLEEPS_MAX, "ivgpu-exec": EXECUTOR_SLEEPS_MAX}.get(name, 0)


class Idle(unittest.TestCase):
    def test_an_idle_program(self):
        program = subprocess.Popen([os.path.join(BIN, "ivgpu-run"), "--device", "soft", "--",
                                    os.path.join(BIN, "ivgpu-call-bench"), "--idle", "120"], stdout=subprocess.PIPE, text=True)
        try:
            self.assertEqual(program.stdout.readline(), "idle\n")
            for _ in range(WINDOWS_MAX):
                before = sleeps(program.pid)
                time.sleep(WINDOW_S)
                more = {who: count - before.get(who, 0) for who, count in sleeps(program.pid).items()}
                too_many = {who: count for who, count in more.items() if count > at_most(who[1])}
                if not too_many:
                    break
            self.assertEqual(too_many, {})
            self.assertLessEqual({"ivgpu-run", "ivgpud", "ivgpu-exec", "ivgpu-call-benc"}, {name for _, name, _, _ in more})
            self.assertIn("ivgpu-consumer", {thread for _, _, _, thread in more})
        finally:
            program.send_signal(signal.SIGTERM)
            program.communicate()


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], "-v"])
