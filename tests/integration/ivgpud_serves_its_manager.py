#!/usr/bin/env python3
"""systemd's part is played here: it hands sockets over, hears news, watches, and keeps sockets and what it is given while ivgpud is
gone."""
import fcntl
import os
import random
import signal
import socket
import stat
import subprocess
import unittest

from mediator_harness import (BIN, DEAD, FREE, GUEST_CLOSED, GUEST_OPEN, MEDIATOR_UNAVAILABLE, READY, RING_PEER_GONE, WAIT_S, Mediator,
                              process_is_there, wait_until)

KEPT = {"vm7.qemu", "vm7.region"} | {f"vm7.{kind}{vector}" for kind in "hg" for vector in range(5)}


class Manager(Mediator):
    def setUp(self):
        super().setUp()
        self.control_path = os.path.join(self.folder, "control.sock")
        self.news = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.news.bind(os.path.join(self.folder, "notify"))
        self.news.settimeout(WAIT_S)
        self.addCleanup(self.news.close)
        self.kept = {}
        self.addCleanup(lambda: [os.close(fd) for fd in self.kept.values()])
        open(self.log_path, "w").close()

    def socket_at(self, path, kind):
        sock = socket.socket(socket.AF_UNIX, kind)
        sock.bind(path)
        os.chmod(path, 0o640)
        sock.listen(5)
        self.addCleanup(sock.close)
        return sock

    def start_by_manager(self, sockets, watchdog_ms=None):
        """With the sockets and with whatever is kept, in no certain order."""
        given = [("ivgpud.socket", sock.fileno()) for sock in sockets] + list(self.kept.items())
        random.shuffle(given)
        high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 200) for _, fd in given]  # above the numbers that they get
        config = self.write_config(more=f'control = {{ socket = "{self.control_path}"; user = "nobody"; }};')
        environment = dict(os.environ, FAKE_MODE_FILE=self.mode_path, FAKE_NOTES=self.notes_path,
                           NOTIFY_SOCKET=os.path.join(self.folder, "notify"))
        if given:
            environment.update(LISTEN_FDS=str(len(given)), LISTEN_FDNAMES=":".join(name for name, _ in given))
        if watchdog_ms:
            environment["WATCHDOG_USEC"] = str(watchdog_ms * 1000)
        moves = " ".join(f"{3 + i}<&{fd} {fd}<&-" for i, fd in enumerate(high))
        with open(self.log_path, "a") as log:
            self.process = subprocess.Popen(
                ["bash", "-c", f'export LISTEN_PID=$$; exec "$0" "$@" {moves}', os.path.join(BIN, "ivgpud"), "--config", config,
                 "--foreground"], stderr=log, env=environment, pass_fds=high)
        for fd in high:
            os.close(fd)
        self.addCleanup(self.end)

    def hear_next(self):
        data, fds, _, _ = socket.recv_fds(self.news, 4096, 1)
        lines = dict(line.split("=", 1) for line in data.decode().splitlines())
        name = lines.get("FDNAME")
        if "FDSTORE" in lines:
            self.kept[name], = fds
        elif "FDSTOREREMOVE" in lines and name in self.kept:
            os.close(self.kept.pop(name))
        return data.decode()

    def hear(self, word):
        while self.hear_next() != word:
            pass

    def hear_until(self, condition):
        while not condition():
            self.hear_next()

    def stop(self):
        self.process.terminate()
        self.assertEqual(self.process.wait(WAIT_S), 0, self.log())

    def test_sockets_outlive_it(self):
        control = self.socket_at(self.control_path, socket.SOCK_STREAM)
        # High numbers: what is passed lies where ivgpud keeps executors' places free.
        local = self.socket_at(self.local_path, socket.SOCK_SEQPACKET)
        self.start_by_manager([local, control])
        self.hear("READY=1")
        self.attach_local().close()
        self.stop()
        self.hear("STOPPING=1")
        self.assertTrue(stat.S_ISSOCK(os.stat(self.local_path).st_mode), "the manager's socket is removed")
        # Its owner and mode are the manager's business.
        self.assertEqual((os.stat(self.control_path).st_mode & 0o777, os.stat(self.control_path).st_uid), (0o640, os.getuid()))
        # Not the manager's: the VM's own.
        self.assertFalse(os.path.exists(self.vm_path))
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as early:
            early.settimeout(WAIT_S)
            early.connect(self.control_path)
            early.send(b'{"command":"list"}\n')
            self.start_by_manager([control, local])
            self.assertIn(b'"seven"', early.recv(65536), "who connected while it was away")
        self.attach_local().close()

    def test_executors_hear_nothing_of_it(self):
        self.start_by_manager([], watchdog_ms=300)
        self.hear("READY=1")
        guest = self.attach_local()
        guest.open()
        pid = wait_until(self.children, "an executor")[0]
        with open(f"/proc/{pid}/environ") as file:
            names = {line.split("=")[0] for line in file.read().split("\0")}
        self.assertFalse({name for name in names if name.startswith(("NOTIFY_", "LISTEN_", "WATCHDOG_"))}, names)
        guest.close()

    def test_watchdog_hears_of_the_loop(self):
        self.start_by_manager([], watchdog_ms=600)
        self.hear("READY=1")
        for _ in range(3):
            self.hear("WATCHDOG=1")
        self.process.send_signal(signal.SIGSTOP)
        self.news.settimeout(0.1)
        with self.assertRaises(TimeoutError):  # what was sent before, then nothing
            for _ in range(100):
                self.news.recv(4096)
        self.news.settimeout(WAIT_S)
        self.process.send_signal(signal.SIGCONT)
        self.hear("WATCHDOG=1")

    def test_a_socket_of_the_wrong_kind_is_named(self):
        self.start_by_manager([self.socket_at(self.local_path, socket.SOCK_STREAM)])
        self.assertEqual(self.process.wait(WAIT_S), 3)
        self.assertIn(f"{self.local_path}: the service manager holds a socket of type 1 there, of type 5 is needed "
                      "(ListenSequentialPacket=)", self.log())

    def test_what_is_no_listening_socket_is_named(self):
        for kind, listens in ((socket.AF_INET, True), (socket.AF_UNIX, False)):
            with socket.socket(kind, socket.SOCK_STREAM) as sock:
                if listens:
                    sock.listen(1)
                self.start_by_manager([sock])
                self.assertEqual(self.process.wait(WAIT_S), 3)
                self.assert_logged("descriptor 3 (ivgpud.socket) of the service manager is no listening UNIX socket")
                open(self.log_path, "w").close()

    def test_a_socket_that_nobody_wants_is_named(self):
        path = os.path.join(self.folder, "other.sock")
        self.start_by_manager([self.socket_at(path, socket.SOCK_STREAM)])
        self.hear("READY=1")
        self.assert_logged(f"{path} is the service manager's, but no configuration names it")

    # ---- its descriptor store ----

    def qemu_attach(self, epoch):
        guest = self.attach_qemu()
        self.addCleanup(guest.socket.close)
        self.hear_until(lambda: set(self.kept) == KEPT)
        guest.begin_epoch(epoch)
        wait_until(lambda: guest.region.epoch_seen() == epoch, "epoch")
        return guest

    def is_connected(self, guest):
        guest.socket.setblocking(False)
        try:
            return guest.socket.recv(1) != b""
        except BlockingIOError:
            return True
        finally:
            guest.socket.settimeout(WAIT_S)

    def start_again(self):
        self.start_by_manager([])
        self.hear("READY=1")

    def test_a_qemu_outlives_it(self):
        self.start_again()
        guest = self.qemu_attach(epoch=42)
        first = guest.open(0)
        second = guest.open(1)
        self.stop()
        self.hear("STOPPING=1")
        self.assertEqual(set(self.kept), KEPT)
        self.assertTrue(self.is_connected(guest))
        # One program ends while ivgpud is away, the next one comes; the other has not looked yet.
        self.assertEqual((guest.region.host(0), guest.region.host(1)), ((first, DEAD), (second, DEAD)))
        self.assertEqual(guest.region.reason(0), MEDIATOR_UNAVAILABLE)
        guest.ask(0, GUEST_CLOSED)
        third = guest.ask(2, GUEST_OPEN)
        beat = guest.region.heartbeat()

        self.start_again()
        guest.wait_host(2, third, READY)
        guest.wait_host(0, first + 1, FREE)
        self.assertEqual(guest.region.host(1), (second, DEAD))
        guest.ask(1, GUEST_CLOSED)
        guest.wait_host(1, second + 1, FREE)
        self.assertEqual(guest.open(1), second + 1)
        wait_until(lambda: guest.region.heartbeat() > beat, "a heartbeat")
        self.assertIn(f"VM 7 (seven): QEMU (pid {os.getpid()}) is connected as before ivgpud's start: 32 MiB, 4 channels, 5 vectors",
                      self.log())
        self.assertIsNone(self.attach_qemu(), "a second QEMU")

        guest.socket.close()
        self.hear_until(lambda: not self.kept)
        wait_until(lambda: not self.children(), "executors are gone")
        self.qemu_attach(epoch=43).open(0)

    def test_a_qemu_outlives_its_death(self):
        self.start_again()
        guest = self.qemu_attach(epoch=42)
        generation = guest.open(3)
        children = self.children() + self.keepers()
        self.process.kill()
        self.process.wait(WAIT_S)
        wait_until(lambda: not any(process_is_there(pid) for pid in children), "what it started is gone")
        guest.drain_interrupt(3)
        self.start_again()
        guest.wait_host(3, generation, DEAD)
        self.assertEqual(guest.region.reason(3), MEDIATOR_UNAVAILABLE)
        self.assertGreater(guest.drain_interrupt(3), 0, "its program sleeps on")
        guest.ask(3, GUEST_CLOSED)
        guest.wait_host(3, generation + 1, FREE)
        self.mode("open")  # its ring is the executor's again
        guest.open(3)
        self.assertEqual(guest.region.ring_status(3), generation + 1 << 32 | 1)

    def test_a_stopped_unit_lets_its_qemu_go(self):
        self.start_again()
        guest = self.qemu_attach(epoch=42)
        self.stop()
        for fd in self.kept.values():
            os.close(fd)
        self.kept.clear()
        self.assertFalse(self.is_connected(guest))

    def test_a_part_is_of_no_use(self):
        for lacks, words in (("vm7.g2", "is cut off: the service manager has kept a part of its descriptors only"),
                             ("vm7.region", "is cut off: the service manager has kept a part of its descriptors only"),
                             ("vm7.qemu", "VM 7 (seven): its QEMU has gone while ivgpud was away")):
            with self.subTest(lacks=lacks):
                self.start_again()
                guest = self.qemu_attach(epoch=42)
                self.stop()
                self.hear("STOPPING=1")
                os.close(self.kept.pop(lacks))
                self.start_again()
                self.assert_logged(words)
                self.assertEqual(self.kept, {})
                self.assertFalse(self.is_connected(guest))
                self.qemu_attach(epoch=43).socket.close()
                self.hear_until(lambda: not self.kept)
                self.stop()
                self.hear("STOPPING=1")

    def test_a_region_that_its_guest_has_broken_is_refused(self):
        self.start_again()
        guest = self.qemu_attach(epoch=42)
        guest.region.store(0, 1)
        self.stop()
        self.hear("STOPPING=1")
        self.start_again()
        self.assert_logged_like("VM 7 .*is cut off: magic 0*1 is not ours .*start the VM anew")
        self.assertEqual(self.kept, {})
        self.assertFalse(self.is_connected(guest))

    def test_an_executor_that_is_still_there_keeps_its_region(self):
        self.start_again()
        guest = self.qemu_attach(epoch=42)
        self.stop()
        self.hear("STOPPING=1")
        with subprocess.Popen(["sleep", "60"]) as stays:
            guest.region.store(guest.region.host_pages + 128 + 12, stays.pid)
            self.start_again()
            stays.kill()
        self.assert_logged(f"process {stays.pid}, an executor of channel 0, is still there")
        self.assertFalse(self.is_connected(guest))

    def test_what_is_kept_of_no_vm_is_let_go(self):
        ours, theirs = socket.socketpair()
        self.kept["vm8.qemu"] = ours.detach()
        self.start_again()
        self.assert_logged("1 descriptors that the service manager has kept (vm8.qemu, ...) are of no VM that is configured")
        self.assertEqual(self.kept, {})
        self.assertEqual(theirs.recv(1), b"")
        theirs.close()

    def test_without_a_manager_nothing_of_it_is_loaded(self):
        self.start()
        with open(f"/proc/{self.process.pid}/maps") as file:
            self.assertNotIn("libsystemd", file.read())


if __name__ == "__main__":
    unittest.main()
