#!/usr/bin/env python3
"""Executors that wait for programs: taken, replaced, lost, hanging, too many; told by counts, words and pids."""
import os
import re
import signal
import time
import unittest

from mediator_harness import *  # noqa: F403


class Warm(Mediator):
    def start_warm(self, count, mode="ready", more_mediator="", **keywords):
        self.mode(mode)
        self.count = count
        self.start(**keywords)

    def write_config(self, ready_timeout_ms=10000, more=""):
        path = super().write_config(ready_timeout_ms, more)
        with open(path) as file:
            text = file.read()
        with open(path, "w") as file:  # pool A is the machine's, B the local programs'
            file.write(text.replace("heartbeat_log_s", f"warm_executors = {self.count}; heartbeat_log_s")
                       .replace('name = "B";', 'name = "B"; warm_executors = 0;'))
        return path

    def waiting(self):
        """Pids of all that have ever waited, in order."""
        try:
            with open(self.notes_path + ".waiting") as file:
                return [int(line) for line in file]
        except FileNotFoundError:
            return []

    def wait_waiting(self, count):
        # Told in two places, which a loaded machine writes some time apart.
        return wait_until(lambda: self.logged_waiting() >= count and len(self.waiting()) >= count and self.waiting(),
                          f"{count} that wait")

    def logged_waiting(self):
        return self.log().count("waits for a program")

    def executors_line(self, pool="A"):
        """(wait, warm up, taken, cold, lost) of the latest statistics."""
        before = self.log().count("[MEDIATOR STATS]")
        self.process.send_signal(signal.SIGUSR1)
        wait_until(lambda: self.log().count("[MEDIATOR STATS]") > before, "statistics")
        found = wait_until(lambda: re.findall(rf"Pool {pool} executors: (\d+) wait, (\d+) warm up; taken warm (\d+), "
                                              r"started cold (\d+), lost (\d+)",
                                              self.log().rsplit("[MEDIATOR STATS]", 1)[1]), "its line")
        return tuple(map(int, found[-1]))

    def wait_counts(self, *counts):
        wait_until(lambda: self.executors_line() == counts, f"counts {counts}, are {self.executors_line()}")

    def test_program_gets_the_waiting_one_and_another_comes(self):
        self.start_warm(1)
        first = self.wait_waiting(1)[0]
        self.assertEqual(self.notes(), [])  # it has no channel, nothing of anybody's
        guest = self.attach_qemu(epoch=3)
        generation = guest.open(2)
        note, = self.notes()
        self.assertEqual(note["pid"], first)
        self.assertEqual({key: note["options"][key] for key in ("channel", "generation", "vm-id")},
                         {"channel": "2", "generation": str(generation), "vm-id": "7"})
        self.assertEqual(note["visible"], "0,2")
        self.assertEqual(note["descriptors"], EXECUTOR_DESCRIPTORS)
        self.assertEqual(guest.region.word(guest.region.host_pages + 128 + 2 * 128 + 8) >> 32, first)
        self.assert_logged_like(rf"CUDA_CALL_INIT vm=7 .*pid {first}, .*, warm\)")
        second = self.wait_waiting(2)[1]
        self.assertNotEqual(second, first)
        guest.ask(2, GUEST_CLOSED)  # it serves one program, then ends
        guest.wait_host(2, generation + 1, FREE)
        self.assertFalse(process_is_there(first))
        guest.open(2)
        self.assertEqual(self.notes()[1]["pid"], second)
        self.assertEqual(self.executors_line()[2:], (2, 0, 0))
        guest.close()

    def test_pool_without_them_starts_cold(self):
        self.start_warm(1)
        pid, = self.wait_waiting(1)
        local = self.attach_local()  # pool B
        local.open()
        self.assertNotEqual(self.notes()[0]["pid"], pid)
        self.assert_logged_like(r"CUDA_CALL_INIT vm=0 .*, cold\)")
        self.assertEqual(self.executors_line("B"), (0, 0, 0, 1, 0))
        self.assertEqual(self.executors_line("A"), (1, 0, 0, 0, 0))
        local.close()

    def test_none_where_none_is_wanted(self):
        self.start_warm(0)
        guest = self.attach_qemu(epoch=3)
        guest.open(0)
        time.sleep(0.6)  # two ticks
        self.assertEqual(self.waiting(), [])
        self.assertEqual(self.executors_line(), (0, 0, 0, 1, 0))
        guest.close()

    def test_killed_while_waiting_is_replaced_later_each_time(self):
        self.start_warm(1)
        self.wait_waiting(1)
        os.kill(self.waiting()[0], signal.SIGKILL)
        wait_until(lambda: "before a program came; the next is started in 1000 ms" in self.log(), "its loss")
        guest = self.attach_qemu(epoch=3)
        guest.open(0)  # meanwhile: cold, not late
        self.assert_logged(", cold)")
        self.wait_waiting(2)
        self.wait_counts(1, 0, 0, 1, 1)
        guest.close()

    def test_stopped_while_waiting_is_found_to_hang_and_a_cold_one_comes(self):
        self.start_warm(1, "waiting-hangs")
        pid, = self.wait_waiting(1)
        self.mode("ready")
        guest = self.attach_qemu(epoch=3)
        generation = guest.open(1)
        self.assertFalse(process_is_there(pid))
        self.assertEqual(guest.region.host(1), (generation, READY))
        self.assert_logged(f"the executor (pid {pid}) hangs: it is killed")
        self.assert_logged("which had waited; a cold one is started")
        self.assert_logged_like(r"CUDA_CALL_INIT vm=7 .*, cold\)")
        self.assertEqual(self.executors_line()[2:], (1, 1, 1))
        guest.close()

    def test_one_that_dies_of_its_adoption_is_followed_by_a_cold_one(self):
        self.start_warm(1, "waiting-crashes")
        pid, = self.wait_waiting(1)
        self.mode("ready")
        guest = self.attach_qemu(epoch=3)
        guest.open(1)
        self.assert_logged_like(rf"channel 1: the executor \(pid {pid}\) was ended by signal 11 .*; a cold one")
        self.assertEqual(len(self.notes()), 1)
        self.assertNotIn("error 5", self.log())  # the program notices nothing
        guest.close()

    def test_program_that_leaves_while_its_warm_one_hangs_gets_no_cold_one(self):
        self.start_warm(1, "waiting-hangs")
        pid, = self.wait_waiting(1)
        self.mode("ready")
        guest = self.attach_qemu(epoch=3)
        generation = guest.ask(1, GUEST_OPEN)
        guest.wait_host(1, generation, STARTING)
        guest.ask(1, GUEST_CLOSED)
        guest.wait_host(1, generation + 1, FREE)
        self.assertFalse(process_is_there(pid))
        self.assertEqual(self.notes(), [])
        self.assertEqual(self.executors_line()[3], 0)
        guest.close()

    def never_waits(self, how, words):
        self.start_warm(1, how, ready_timeout_ms=3000)
        wait_until(lambda: words in self.log() and "the next is started in" in self.log(), words)
        self.assertEqual(self.logged_waiting(), 0)
        self.mode("ready")
        guest = self.attach_qemu(epoch=3)
        guest.open(0)
        guest.close()

    def test_one_that_crashes_at_its_start_does_no_harm(self):
        self.never_waits("waiting-crash", "signal 11")

    def test_one_that_fails_at_its_start_does_no_harm(self):
        self.never_waits("waiting-fail", "no driver today")

    def test_one_that_hangs_at_its_start_does_no_harm(self):
        self.never_waits("waiting-silent", "hangs: it is killed")

    def test_channel_may_come_before_it_waits(self):
        self.start_warm(1, "waiting-silent", ready_timeout_ms=3000)
        wait_until(lambda: os.path.exists(self.notes_path + ".begun"), "its start")
        self.mode("ready")
        guest = self.attach_qemu(epoch=3)
        guest.open(0)  # waits for the silent one, within its time, then for a cold one
        self.assertEqual(self.executors_line()[2:], (1, 1, 1))
        guest.close()

    def test_twenty_at_once_with_two(self):
        self.start_warm(2)
        self.wait_waiting(2)
        guests = []
        for round_number in range(5):  # a machine has four channels
            guest = self.attach_qemu(epoch=round_number + 1)
            generations = [guest.ask(channel, GUEST_OPEN) for channel in range(4)]
            for channel in range(4):
                guest.wait_host(channel, generations[channel], READY)
            guests.append(guest)
            guest.close()
        self.assertEqual(len({note["pid"] for note in self.notes()}), 20)
        _, _, taken, cold, lost = self.executors_line()
        self.assertEqual((taken + cold, lost), (20, 0))
        self.assertGreaterEqual(taken, 2)
        self.wait_counts(2, 0, taken, cold, 0)

    def test_many_leave_no_descriptors(self):
        self.start_warm(2)
        guest = self.attach_qemu(epoch=1)
        guest.open(0)
        guest.ask(0, GUEST_CLOSED)
        wait_until(lambda: len(self.children()) == 2 and self.executors_line()[0] == 2, "two that wait")
        before = self.descriptors()
        for _ in range(10):
            generations = [guest.ask(channel, GUEST_OPEN) for channel in range(4)]
            for channel in range(4):
                guest.wait_host(channel, generations[channel], READY)
                guest.ask(channel, GUEST_CLOSED)
            for channel in range(4):
                guest.wait_host(channel, generations[channel] + 1, FREE)
        for note in self.notes():
            self.assertEqual(note["descriptors"], EXECUTOR_DESCRIPTORS)
        wait_until(lambda: len(self.children()) == 2 and self.executors_line()[0] == 2, "two that wait")
        self.assertEqual(self.descriptors(), before)
        guest.close()

    def test_another_number_by_sighup(self):
        self.start_warm(1)
        self.wait_waiting(1)
        self.count = 3
        self.write_config()
        self.process.send_signal(signal.SIGHUP)
        self.wait_counts(3, 0, 0, 0, 0)
        self.assert_logged("pool A: 3 executors wait from now on, not 1")
        self.count = 0
        self.write_config()
        self.process.send_signal(signal.SIGHUP)
        self.wait_counts(0, 0, 0, 0, 0)
        wait_until(lambda: not self.children(), "their end")
        self.count = "many"
        self.write_config()
        self.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "SIGHUP: nothing changed: " in self.log(), "the mistake")
        self.assertEqual(self.executors_line(), (0, 0, 0, 0, 0))

    def ended_by(self, number, status):
        self.start_warm(3)
        self.wait_counts(3, 0, 0, 0, 0)
        pids = list(map(int, self.children()))
        self.assertEqual(len(pids), 3)
        self.process.send_signal(number)
        self.assertEqual(self.process.wait(WAIT_S), status)
        wait_until(lambda: not any(map(process_is_there, pids)), "their end")

    def test_its_end_leaves_none(self):
        self.ended_by(signal.SIGTERM, 0)

    def test_its_death_leaves_none(self):
        self.ended_by(signal.SIGKILL, -signal.SIGKILL)

    def test_once_is_once(self):
        self.process = self.spawn(["--local", self.local_path, "--device", "soft", "--driver", __file__, "--executor",
                                   f"{HERE}/fake_executor.py", "--foreground", "--warm-once", "1"])
        self.addCleanup(self.end)
        first = self.wait_waiting(1)[0]
        guests = [self.attach_local(), self.attach_local()]
        for guest in guests:
            guest.open()
        self.assertEqual(self.notes()[0]["pid"], first)
        time.sleep(0.6)  # two ticks
        self.assertEqual(self.waiting(), [first])
        self.assertEqual(self.executors_line(), (0, 0, 1, 1, 0))
        for guest in guests:
            guest.close()

    def test_mistakes_are_named(self):
        for arguments, words in ((["--warm", "x"], '--warm: "x" is no number'), (["--warm-once", "65"], "0 to 64")):
            self.assertEqual(self.spawn(["--local", self.local_path, "--device", "soft", *arguments]).wait(WAIT_S), 2)
            self.assert_logged(words)


if __name__ == "__main__":
    unittest.main()
