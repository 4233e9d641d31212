#!/usr/bin/env python3
"""systemd's part is played here: it hands sockets over, hears news, watches, and keeps the sockets while ivgpud is gone."""
import os
import signal
import socket
import stat
import subprocess
import unittest

from mediator_harness import BIN, WAIT_S, Mediator, wait_until


class Manager(Mediator):
    def setUp(self):
        super().setUp()
        self.control_path = os.path.join(self.folder, "control.sock")
        self.news = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.news.bind(os.path.join(self.folder, "notify"))
        self.news.settimeout(WAIT_S)
        self.addCleanup(self.news.close)
        open(self.log_path, "w").close()

    def socket_at(self, path, kind):
        sock = socket.socket(socket.AF_UNIX, kind)
        sock.bind(path)
        os.chmod(path, 0o640)
        sock.listen(5)
        self.addCleanup(sock.close)
        return sock

    def start_by_manager(self, sockets, watchdog_ms=None):
        config = self.write_config(more=f'control = {{ socket = "{self.control_path}"; user = "nobody"; }};')
        environment = dict(os.environ, FAKE_MODE_FILE=self.mode_path, FAKE_NOTES=self.notes_path,
                           NOTIFY_SOCKET=os.path.join(self.folder, "notify"))
        if sockets:
            environment.update(LISTEN_FDS=str(len(sockets)), LISTEN_FDNAMES=":".join("ivgpud.socket" for _ in sockets))
        if watchdog_ms:
            environment["WATCHDOG_USEC"] = str(watchdog_ms * 1000)
        moves = " ".join(f"{3 + i}<&{sock.fileno()}" for i, sock in enumerate(sockets))
        with open(self.log_path, "a") as log:
            self.process = subprocess.Popen(
                ["bash", "-c", f'export LISTEN_PID=$$; exec "$0" "$@" {moves}', os.path.join(BIN, "ivgpud"), "--config", config,
                 "--foreground"], stderr=log, env=environment, pass_fds=[sock.fileno() for sock in sockets])
        self.addCleanup(self.end)

    def hear(self, word):
        while True:
            text = self.news.recv(4096).decode()
            if text == word:
                return

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
                self.assertIn("descriptor 3 (ivgpud.socket) of the service manager is no listening UNIX socket", self.log())
                open(self.log_path, "w").close()

    def test_a_socket_that_nobody_wants_is_named(self):
        path = os.path.join(self.folder, "other.sock")
        self.start_by_manager([self.socket_at(path, socket.SOCK_STREAM)])
        self.hear("READY=1")
        self.assertIn(f"{path} is the service manager's, but no configuration names it", self.log())

    def test_without_a_manager_nothing_of_it_is_loaded(self):
        self.start()
        with open(f"/proc/{self.process.pid}/maps") as file:
            self.assertNotIn("libsystemd", file.read())


if __name__ == "__main__":
    unittest.main()
