#!/usr/bin/env python3
"""The mediator with executors that succeed, fail, hang, crash and cheat; programs, QEMUs and mediators that vanish."""
import os
import re
import signal
import socket
import subprocess
import sys
import time
import unittest

from mediator_harness import *  # noqa: F403


class LocalPrograms(Mediator):
    def test_program_gets_a_channel_and_gives_it_back(self):
        self.start()
        guest = self.attach_local()
        self.assertEqual(guest.region.channels, 1)
        self.assertEqual(guest.region.bytes, 16 << 20)
        generation = guest.open()
        self.assertGreater(guest.drain_interrupt(0), 0)
        note = self.notes()[0]
        self.assertEqual(note["options"]["generation"], str(generation))
        self.assertEqual(note["options"]["vm-id"], "0")
        self.assert_logged("CUDA_CALL_INIT vm=0 — pipeline live")
        guest.ask(0, GUEST_CLOSED)
        guest.wait_host(0, generation + 1, FREE)
        wait_until(lambda: not process_is_there(note["pid"]), "executor's end")
        self.assertEqual(guest.open(), generation + 1)
        guest.close()

    def test_executor_gets_exactly_its_descriptors_and_its_pool(self):
        self.start()
        local, qemu = self.attach_local(), self.attach_qemu(epoch=5)
        local.open()
        qemu.open(2)
        notes = {note["options"]["vm-id"]: note for note in self.notes()}
        for note in notes.values():
            self.assertEqual(note["descriptors"], EXECUTOR_DESCRIPTORS)
            self.assertEqual(note["pgid"], note["pid"])
            self.assertEqual(note["ours"], [])
        self.assertEqual(notes["7"]["visible"], "0,2")
        self.assertEqual(notes["7"]["options"]["channel"], "2")
        self.assertEqual(notes["0"]["visible"], os.environ.get("CUDA_VISIBLE_DEVICES"))
        local.close()
        qemu.close()

    def test_failed_start_carries_its_code(self):
        self.start()
        self.mode("fail")
        guest = self.attach_local()
        generation = guest.ask(0, GUEST_OPEN)
        guest.wait_host(0, generation, FAILED)
        self.assertEqual(guest.region.reason(0), INVALID_POOL)
        self.assert_logged("error 6 (INVALID_POOL): no such pool here")
        self.mode("ready")
        guest.ask(0, GUEST_CLOSED)
        guest.wait_host(0, generation + 1, FREE)
        guest.open()
        guest.close()

    def test_executor_that_crashes_at_start_is_a_failure(self):
        self.start()
        self.mode("crash")
        guest = self.attach_local()
        generation = guest.ask(0, GUEST_OPEN)
        wait_until(lambda: guest.region.host(0)[1] in (FAILED, DEAD), "an end")
        self.assertEqual(guest.region.host(0), (generation, FAILED))
        self.assertEqual(guest.region.reason(0), MEDIATOR_UNAVAILABLE)
        self.assert_logged("signal 11")
        guest.close()

    def test_executor_that_is_never_ready_is_killed(self):
        self.start(ready_timeout_ms=1500)
        self.mode("silent")
        guest = self.attach_local()
        generation = guest.ask(0, GUEST_OPEN)
        guest.wait_host(0, generation, FAILED)
        self.assertEqual(guest.region.reason(0), TIMEOUT)
        self.assert_logged_like(r"the executor \(pid \d+\) was not ready within 1500 ms")
        pid = int(re.search(r"the executor \(pid (\d+)\) was not ready", self.log()).group(1))
        wait_until(lambda: not process_is_there(pid), "executor's end")
        guest.close()

    def test_killed_executor_is_told_by_state_ring_and_interrupt(self):
        self.start()
        self.mode("open")
        guest = self.attach_local()
        generation = guest.open()
        guest.drain_interrupt(0)
        os.kill(self.notes()[0]["pid"], signal.SIGKILL)
        guest.wait_host(0, generation, DEAD)
        self.assertEqual(guest.region.reason(0), CUDA_ERROR)
        self.assertEqual(guest.region.ring_status(0), generation << 32 | RING_PEER_GONE)
        self.assertGreater(guest.drain_interrupt(0), 0)
        guest.ask(0, GUEST_CLOSED)
        guest.wait_host(0, generation + 1, FREE)
        guest.close()

    def test_fault_ends_that_channel_with_a_reason(self):
        self.start()
        self.mode("fault")
        guest = self.attach_local()
        generation = guest.ask(0, GUEST_OPEN)
        guest.wait_host(0, generation, DEAD)
        self.assertEqual(guest.region.reason(0), INVALID_REQUEST)
        wait_until(lambda: not process_is_there(self.notes()[0]["pid"]), "executor's end")
        self.assert_logged("the guest broke a rule: opcode (fault 5)")
        self.assertEqual(guest.region.host(0), (generation, DEAD))
        guest.close()

    def test_word_of_another_generation_means_nothing(self):
        self.start()
        guest = self.attach_local()
        generation, _ = guest.region.host(0)
        guest.region.set_guest(0, generation + 5, GUEST_OPEN)
        os.eventfd_write(guest.control, 1)
        time.sleep(0.1)
        self.assertEqual(guest.region.host(0), (generation, FREE))
        self.assertEqual(self.notes(), [])
        guest.close()

    def test_killed_program_costs_its_executor_soon(self):
        self.start()
        self.mode("stubborn")
        child = subprocess.Popen([sys.executable, "-c", f"""
import os, sys, time
sys.path.insert(0, {HERE!r})
import mediator_harness as harness
case = harness.Mediator()
case.local_path = {self.local_path!r}
guest = case.attach_local()
guest.open()
if os.fork() == 0:
    time.sleep({4 * WAIT_S})  # holds the socket open; the program's death must be seen all the same
print("ready", flush=True)
time.sleep({4 * WAIT_S})
"""], stdout=subprocess.PIPE, text=True, start_new_session=True)
        self.assertEqual(child.stdout.readline(), "ready\n")
        pid = self.notes()[0]["pid"]
        child.kill()
        child.wait()
        wait_until(lambda: not process_is_there(pid), "executor's end")
        wait_until(lambda: not self.children(), "reaping")
        os.killpg(child.pid, signal.SIGKILL)
        child.stdout.close()

    def test_silent_client_and_nonsense_do_no_harm(self):
        self.start()
        silent = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        silent.connect(self.local_path)
        for nonsense in (b"", b"x", b"y" * 500):
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            sock.connect(self.local_path)
            if nonsense:
                sock.send(nonsense)
            sock.close()
        guest = self.attach_local()
        guest.open()
        wait_until(lambda: "no hello within" in self.log(), "the silent one's end")
        self.assertEqual(silent.recv(1), b"")
        guest.close()
        silent.close()


class Machines(Mediator):
    def test_heart_beats(self):
        self.start()
        guest = self.attach_qemu()
        guest.open()
        first = guest.region.heartbeat()
        wait_until(lambda: guest.region.heartbeat() >= first + 5, "beats", 3)
        self.assertEqual(guest.region.silence_ms(), 900)
        wait_until(lambda: "[HEARTBEAT] alive" in self.log(), "a line", 3)
        guest.close()

    def test_second_qemu_is_refused_and_the_next_one_gets_fresh_memory(self):
        self.start()
        guest = self.attach_qemu(epoch=11)
        self.assertEqual((guest.region.vm_id, guest.region.channels, guest.region.vectors), (7, 4, 5))
        guest.open(0)
        guest.open(3)
        guest.region.store(guest.region.arena + 4096, 0x5ec2e7)
        self.assertIsNone(self.attach_qemu())
        self.assert_logged("a second QEMU")
        pids = [note["pid"] for note in self.notes()]
        self.assertEqual(len(pids), 2)
        instance = guest.region.instance
        guest.close()
        wait_until(lambda: not any(map(process_is_there, pids)), "executors' end")
        again = self.attach_qemu(epoch=12)
        self.assertNotEqual(again.region.instance, instance)
        self.assertEqual(again.region.word(again.region.arena + 4096), 0)
        again.open(0)
        again.close()

    def test_new_boot_ends_the_old_boots_channels(self):
        self.start()
        guest = self.attach_qemu(epoch=21)
        generation = guest.open(1)
        pid = self.notes()[0]["pid"]
        for channel in range(4):  # as a guest driver begins
            guest.region.set_guest(channel, 0, GUEST_FREE)
        guest.begin_epoch(22)
        wait_until(lambda: guest.region.epoch_seen() == 22, "epoch")
        self.assertFalse(process_is_there(pid))
        self.assertEqual(guest.region.host(1), (generation + 1, FREE))
        guest.open(1)
        guest.close()

    def test_qemu_that_talks_is_dropped(self):
        self.start()
        guest = self.attach_qemu(epoch=31)
        guest.socket.send(b"hello?")
        self.assertEqual(guest.socket.recv(1), b"")
        guest.close()

    def test_same_channel_many_times_at_once_leaks_nothing(self):
        self.start()
        guest = self.attach_qemu(epoch=41)
        guest.open(0)
        guest.ask(0, GUEST_CLOSED)
        wait_until(lambda: not self.children(), "reaping")
        before = self.descriptors()
        for _ in range(25):  # 100 executors
            generations = [guest.ask(channel, GUEST_OPEN) for channel in range(4)]
            for channel in range(4):
                guest.wait_host(channel, generations[channel], READY)
                guest.ask(channel, GUEST_CLOSED)
            for channel in range(4):
                guest.wait_host(channel, generations[channel] + 1, FREE)
        wait_until(lambda: not self.children(), "reaping")
        # The first look may have counted one of the opening's that was about to go.
        wait_until(lambda: self.descriptors() <= before, "descriptors")
        guest.close()

    def test_attaching_many_times_leaks_nothing(self):
        self.start()
        self.attach_qemu(epoch=1).close()
        self.attach_local().close()
        wait_until(lambda: "its socket is closed" in self.log(), "first end")
        time.sleep(0.05)
        before = self.descriptors()
        for _ in range(30):
            self.attach_qemu(epoch=1).close()
            self.attach_local().close()
        wait_until(lambda: self.descriptors() <= before, f"descriptors back to {before}, are {self.descriptors()}")


class Ends(Mediator):
    def test_sigterm_ends_everything_in_order(self):
        self.start()
        self.mode("open")
        local, qemu = self.attach_local(), self.attach_qemu(epoch=5)
        local.open()
        qemu.open(3)
        pids = [note["pid"] for note in self.notes()]
        self.process.send_signal(signal.SIGUSR1)
        wait_until(lambda: "[MEDIATOR STATS]" in self.log(), "statistics")
        self.process.terminate()
        self.assertEqual(self.process.wait(WAIT_S), 0)
        self.assertFalse(any(map(process_is_there, pids)))
        self.assertFalse(os.path.exists(self.local_path) or os.path.exists(self.vm_path))
        self.assertEqual(qemu.region.host(3)[1], DEAD)
        self.assertEqual(qemu.region.ring_status(3) & 0xffffffff, RING_PEER_GONE)
        self.assertEqual(self.log().count("[MEDIATOR STATS]"), 2)
        self.assert_logged_like(r"Total processed: +0\n  Pool A processed: 0\n  Pool B processed: 0\n")
        local.close()
        qemu.close()

    def test_executors_end_when_the_mediator_is_killed(self):
        self.start()
        guest = self.attach_local()
        guest.open()
        pid = self.notes()[0]["pid"]
        self.process.kill()
        self.process.wait()
        wait_until(lambda: not process_is_there(pid), "executor's end")
        self.assertEqual(guest.socket.recv(1), b"")
        guest.close()
        # What it left behind is replaced.
        self.start()
        self.attach_local().close()

    def test_live_socket_is_not_taken(self):
        self.start()
        second = self.spawn(["--local", self.local_path, "--device", "soft", "--driver", __file__, "--executor",
                             f"{HERE}/fake_executor.py", "--foreground"])
        self.assertEqual(second.wait(WAIT_S), 3)
        self.assert_logged("another server is listening there")
        self.attach_local().close()

    def test_mistakes_at_start_are_named(self):
        cases = [(["--foreground"], 2, "nothing to serve"),
                 (["--config", "/nonexistent/x"], 2, "/nonexistent/x: "),
                 (["--local", self.local_path, "--device", "tpu"], 2, '"tpu"'),
                 (["--local", self.local_path, "--device", "soft", "--driver", "/nonexistent"], 3, "/nonexistent"),
                 (["--local", self.local_path, "--executor", "/nonexistent/e"], 3, "/nonexistent/e"),
                 (["--local", "x" * 200, "--device", "soft"], 2, "200 bytes"),
                 (["--stats-fd", "x"], 2, '--stats-fd: "x" is no number')]
        for arguments, code, words in cases:
            with self.subTest(arguments):
                self.assertEqual(self.spawn(arguments).wait(WAIT_S), code)
                self.assert_logged(words)

    def test_starter_is_told_when_it_listens_and_gets_the_counters(self):
        ready, stats = os.pipe(), os.pipe()
        self.process = self.spawn(["--local", self.local_path, "--device", "soft", "--driver", __file__, "--executor",
                                   f"{HERE}/fake_executor.py", "--foreground", "--quiet", "--ready-fd", str(ready[1]),
                                   "--stats-fd", str(stats[1])], pass_fds=[ready[1], stats[1]])
        self.addCleanup(self.end)
        os.close(ready[1])
        os.close(stats[1])
        with open(ready[0]) as file:
            self.assertEqual(file.read(), "ready\n")  # and closed
        guest = self.attach_local()
        guest.open()
        # What ended is added up before its region is dropped.
        region = guest.region
        host = region.host_pages + 128
        for word, value in ((2, 11), (3, 5), (4, 3), (5, 2), (6, 1000), (7, 2000), (8, 1), (9, 4)):
            region.store(host + 8 * word, value)
        line = region.channels_offset + 128
        for offset, value in ((24, 20), (32, 6), (56, 12)):
            region.store(line + offset, value)
        guest.close()
        wait_until(lambda: not self.children(), "executor's end")
        self.process.terminate()
        self.assertEqual(self.process.wait(WAIT_S), 0)
        with open(stats[0]) as file:
            text = file.read()
        self.assertIn("[MEDIATOR STATS]\n  Total processed:  11\n  Pool A processed: 11\n", text)
        self.assertIn("Local: programs 1 (0 running), records 11 in 5 batches, sleeps 3, interrupts 2", text)
        self.assertIn("arena bytes from guest 1000, to guest 2000; failed 1, refused 4", text)
        self.assertIn("guest's own count: calls 20 (waited for 12), local 0, doorbells 6", text)
        self.assertNotIn("[MEDIATOR STATS]", self.log())  # quiet

    def test_signal_right_after_ready_ends_in_order(self):
        for _ in range(30):
            ready, stats = os.pipe(), os.pipe()
            process = self.spawn(["--local", self.local_path, "--device", "soft", "--driver", __file__, "--executor",
                                  f"{HERE}/fake_executor.py", "--foreground", "--quiet", "--ready-fd", str(ready[1]),
                                  "--stats-fd", str(stats[1])], pass_fds=[ready[1], stats[1]])
            os.close(ready[1])
            os.close(stats[1])
            os.read(ready[0], 6)
            process.terminate()
            self.assertEqual(process.wait(WAIT_S), 0)
            self.assertFalse(os.path.exists(self.local_path))
            with open(stats[0]) as file:
                self.assertTrue(file.read().startswith("[MEDIATOR STATS]"))
            os.close(ready[0])

    def test_failed_start_closes_the_ready_descriptor_unwritten(self):
        ready = os.pipe()
        process = self.spawn(["--local", self.local_path, "--device", "soft", "--driver", "/nonexistent", "--foreground",
                              "--ready-fd", str(ready[1])], pass_fds=[ready[1]])
        os.close(ready[1])
        with open(ready[0]) as file:
            self.assertEqual(file.read(), "")
        self.assertEqual(process.wait(WAIT_S), 3)

    def test_goes_to_the_background_when_ready(self):
        first = self.spawn(["--config", self.write_config()])
        self.assertEqual(first.wait(WAIT_S), 0)
        self.attach_local().close()  # at once: it listens already
        pid = next(int(name) for name in os.listdir("/proc") if name.isdigit() and self.is_ours(name))
        os.kill(pid, signal.SIGTERM)
        wait_until(lambda: not process_is_there(pid), "end")

    def is_ours(self, pid):
        try:
            with open(f"/proc/{pid}/cmdline") as file:
                return self.folder in file.read() and int(pid) != os.getpid()
        except (FileNotFoundError, ProcessLookupError):
            return False


if __name__ == "__main__":
    unittest.main()
