#!/usr/bin/env python3
"""The watchdog: calls, kernels and executors that take too long end with error 4 and count as faults, those that keep to
the limits go on, and none of it delays the mediator or a neighbour."""
import os
import signal
import struct
import subprocess
import time
import unittest

from mediator_harness import (BIN, DEAD, FREE, GUEST_CLOSED, GUEST_OPEN, HERE, READY, TIMEOUT, VM_QUARANTINED, Mediator,
                              times_slept, wait_until)

WORDS = dict(line.split() for line in subprocess.run([os.path.join(BIN, "..", "tests", "board_words")], check=True,
                                                     capture_output=True, text=True).stdout.splitlines())
LIMIT_MS = 400
DELAY_S_MAX = 1.0  # by another's faults (docs/operations.md); a tick is 0.1 s
LOADED_S = 4.0     # and so much for a loaded machine
IDLE_S, IDLE_SLEEPS_MAX = 3, 6  # one in 2 s, and what the turn to that pace leaves behind; a tick each 0.1 s were 30


class Watchdog(Mediator):
    limits, silent_ms = "", 0

    def write_config(self, ready_timeout_ms=10000):
        path = os.path.join(self.folder, "ivgpud.conf")
        driver = os.path.join(self.folder, "driver")
        open(driver, "w").close()
        with open(path, "w") as file:
            file.write(f"""mediator = {{ device = "soft"; driver = "{driver}"; executor = "{HERE}/fake_executor.py";
             silent_timeout_ms = {self.silent_ms}; }};
pools = ( {{ name = "A"; }} );
vms = ( {{ vm_id = 7; name = "seven"; pool = "A"; socket = "{self.vm_path}"; region_mib = 32; channels = 4; vectors = 5;
          {self.limits} }} );
local = {{ socket = "{self.local_path}"; region_mib = 16; }};""")
        return path

    def begin(self, limits="", silent_ms=0):
        self.limits, self.silent_ms = limits, silent_ms
        self.start()
        self.guest = self.attach_qemu(epoch=1)
        self.addCleanup(self.guest.close)
        return self.guest.open(0)

    def write(self, word, seconds_ago, channel=0):
        """As the executor would: a moment on the monotonic clock."""
        note = [note for note in self.notes() if note["options"]["channel"] == str(channel)][-1]
        moment = time.monotonic_ns() - int(seconds_ago * 1e9) if seconds_ago is not None else 0
        with open(f"/proc/{note['pid']}/fd/{note['options']['board']}", "r+b", buffering=0) as board:
            os.pwrite(board.fileno(), struct.pack("<Q", moment), int(WORDS[word]))

    def board_word(self, word, channel=0):
        note = [note for note in self.notes() if note["options"]["channel"] == str(channel)][-1]
        with open(f"/proc/{note['pid']}/fd/{note['options']['board']}", "rb", buffering=0) as board:
            return struct.unpack("<I", os.pread(board.fileno(), 4, int(WORDS[word])))[0]

    def ended(self, generation, words, channel=0):
        self.guest.wait_host(channel, generation, DEAD)
        self.assertEqual(self.guest.region.reason(channel), TIMEOUT)
        self.assert_logged(words)
        wait_until(lambda: not self.children(), "its end")

    def goes_on(self, generation, seconds=3 * LIMIT_MS / 1000):
        time.sleep(seconds)
        self.assertEqual(self.guest.region.host(0), (generation, READY))

    def test_a_call_on_the_consumer(self):
        generation = self.begin(f"call_timeout_ms = {LIMIT_MS};")
        self.goes_on(generation)
        self.write("counters.call_since_ns", 0)
        self.ended(generation, "VM 7 (seven), channel 0: error 4 (TIMEOUT): a call runs for ")
        self.assert_logged(f"call_timeout_ms = {LIMIT_MS}")

    def test_a_call_on_a_lane(self):
        generation = self.begin(f"call_timeout_ms = {LIMIT_MS};")
        self.write("counters.lane_since_ns[5]", 0)
        self.ended(generation, "a call runs for ")

    def test_short_calls_go_on(self):
        generation = self.begin("call_timeout_ms = 2000;")
        for _ in range(5):  # as calls that follow each other
            self.write("counters.call_since_ns", 0.5)
            self.goes_on(generation, 0.5)
        self.write("counters.call_since_ns", None)
        self.goes_on(generation, 0.5)

    def test_a_kernel_without_progress(self):
        generation = self.begin(f"kernel_timeout_ms = {LIMIT_MS};")
        self.write("uses[2].busy_since_ns", 100)
        for _ in range(5):  # work of long, with signs of progress
            self.write("uses[2].progress_ns", 0)
            self.goes_on(generation, LIMIT_MS / 4000)
        self.ended(generation, "the GPU is with its work without progress for ")

    def test_none_without_limits(self):
        generation = self.begin()
        for word in WORDS:
            self.write(word, 100)
        self.goes_on(generation)

    def test_one_that_does_nothing_is_looked_at_seldom(self):
        """Until it kicks. An executor whose consumer is awake is none."""
        generation = self.begin(f"call_timeout_ms = {LIMIT_MS};")
        self.goes_on(generation, 2)
        self.assertEqual((self.board_word("orders.unwatched"), self.guest.region.silence_ms()), (0, 900))
        self.guest.region.store_sleep_at(0, 1)
        wait_until(lambda: self.board_word("orders.unwatched") == 1, "seldom looks at it")
        wait_until(lambda: self.guest.region.silence_ms() == 6000, "the slow pace")
        beat, slept = self.guest.region.heartbeat(), times_slept(self.process.pid)
        time.sleep(IDLE_S)
        self.assertLessEqual(times_slept(self.process.pid) - slept, IDLE_SLEEPS_MAX)
        wait_until(lambda: self.guest.region.heartbeat() > beat, "a beat")
        self.guest.region.store_sleep_at(0, 0)
        self.write("counters.call_since_ns", 0)
        os.kill(self.notes()[0]["pid"], signal.SIGUSR1)
        self.ended(generation, "a call runs for ")

    def test_a_kick_makes_it_look_again(self):
        generation = self.begin(f"call_timeout_ms = {LIMIT_MS};")
        self.guest.region.store_sleep_at(0, 1)
        wait_until(lambda: self.board_word("orders.unwatched") == 1, "seldom looks at it")
        os.kill(self.notes()[0]["pid"], signal.SIGUSR1)
        wait_until(lambda: self.board_word("orders.unwatched") == 0, "looks at it")
        self.assertEqual(self.guest.region.host(0), (generation, READY))

    def test_moments_that_cannot_be_are_none(self):
        generation = self.begin(f"call_timeout_ms = {LIMIT_MS}; kernel_timeout_ms = {LIMIT_MS};")
        for word in WORDS:
            self.write(word, -1000000)
        self.goes_on(generation)

    def test_one_that_does_not_answer(self):
        self.mode("mute")
        generation = self.begin(silent_ms=LIMIT_MS)
        self.ended(generation, "error 4 (TIMEOUT): the executor does not answer for ")

    def test_one_that_is_stopped(self):
        generation = self.begin(silent_ms=2000)
        self.goes_on(generation, 3)  # answers
        os.kill(self.notes()[0]["pid"], signal.SIGSTOP)
        self.ended(generation, "the executor does not answer for ")

    def test_time_in_which_the_mediator_stood_still_is_nobodys_fault(self):
        """Stopped for longer than all limits have left: what others did or answered meanwhile it could not know."""
        generation = self.begin("call_timeout_ms = 8000; kernel_timeout_ms = 8000;", silent_ms=2000)
        self.write("counters.call_since_ns", 7)
        self.write("uses[2].busy_since_ns", 7)
        self.process.send_signal(signal.SIGSTOP)
        time.sleep(2.5)
        self.process.send_signal(signal.SIGCONT)
        self.goes_on(generation, 2)
        self.assertNotIn("TIMEOUT", self.log())

    def test_each_is_a_fault(self):
        self.begin(f"call_timeout_ms = {LIMIT_MS}; faults_max = 2; quarantine_s = 0;")
        victim = self.guest.open(3)
        for channel in range(2):
            generation = self.guest.open(channel) if channel else self.guest.region.host(0)[0]
            self.write("counters.lane_since_ns[5]", 0, channel)
            self.guest.wait_host(channel, generation, DEAD)
        self.guest.wait_host(3, victim, DEAD)
        self.assertEqual(self.guest.region.reason(3), VM_QUARANTINED)
        self.assert_logged("2 faults within 60 s, the latest: call")

    def test_faults_delay_no_neighbour(self):
        """Broken rules, executors that ignore their end, and stopped ones, all the time: the loop goes on for others."""
        self.begin("faults_max = 0;", silent_ms=LIMIT_MS)
        neighbour = self.attach_local()
        self.addCleanup(neighbour.close)
        generation = neighbour.open()
        end, last, beat, longest = time.monotonic() + 3, time.monotonic(), neighbour.region.heartbeat(), 0
        turn = 0
        while time.monotonic() < end:
            if turn % 10 == 0:
                for channel in range(1, 4):
                    of_channel, state = self.guest.region.host(channel)
                    if state == FREE:
                        self.mode(("fault", "stubborn", "mute")[channel - 1])
                        self.guest.ask(channel, GUEST_OPEN)
                    else:
                        self.guest.region.set_guest(channel, of_channel, GUEST_CLOSED)
                        os.eventfd_write(self.guest.control, 1)
            turn += 1
            now = time.monotonic()
            if neighbour.region.heartbeat() != beat:
                beat, last = neighbour.region.heartbeat(), now
            longest = max(longest, now - last)
            time.sleep(0.005)
        self.mode("ready")
        self.assertLess(longest, DELAY_S_MAX + LOADED_S)
        self.assertEqual(neighbour.region.host(0), (generation, READY))


if __name__ == "__main__":
    unittest.main()
