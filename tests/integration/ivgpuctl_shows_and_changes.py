#!/usr/bin/env python3
"""ivgpuctl against a running mediator: every command, who may, what is refused and how; and clients that are no ivgpuctl."""
import json
import mmap
import os
import shlex
import signal
import socket
import struct
import subprocess
import time
import unittest
import xml.etree.ElementTree

from mediator_harness import (BIN, DEAD, GUEST_CLOSED, MEDIATOR_UNAVAILABLE, READY, VM_QUARANTINED, WAIT_S, Mediator,
                              wait_until)

NOBODY = 65534


class Ivgpuctl(Mediator):
    def setUp(self):
        super().setUp()
        self.control_path = os.path.join(self.folder, "control.sock")
        self.control_more = ""

    def write_config(self, ready_timeout_ms=10000, more=""):
        return super().write_config(ready_timeout_ms, more +
                                    f'control = {{ socket = "{self.control_path}"; {self.control_more} }};')

    def ctl(self, *words, status=0, **keywords):
        result = subprocess.run([os.path.join(BIN, "ivgpuctl"), f"--socket={self.control_path}", *words],
                                capture_output=True, text=True, timeout=60, **keywords)
        self.assertEqual(result.returncode, status, result.stdout + result.stderr)
        return result.stderr if status else result.stdout

    def json(self, *words):
        return json.loads(self.ctl("--json", *words))

    def connect(self):
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.addCleanup(sock.close)
        sock.settimeout(WAIT_S)
        sock.connect(self.control_path)
        return sock

    # ---- looking ----

    def test_list_and_show(self):
        self.start()
        guest = self.attach_qemu(epoch=1)
        guest.open(2)
        answer = self.json("list")
        self.assertEqual([pool["name"] for pool in answer["pools"]], ["A", "B"])
        self.assertEqual(answer["pools"][0]["gpus"], [0, 2])
        seven, local = answer["members"]
        self.assertEqual((seven["vm_id"], seven["name"], seven["pool"], seven["state"], seven["programs"], seven["weight"]),
                         (7, "seven", "A", "running", 1, 10))
        self.assertEqual((local["kind"], local["pool"], local["programs"]), ("local", "B", 0))
        show = self.json("show", "7")
        self.assertEqual(show, self.json("show", "seven"))
        self.assertEqual([(e["channel"], e["pid"], e["phase"]) for e in show["executors"]],
                         [(2, self.notes()[0]["pid"], "ready")])
        self.assertEqual(show["limits"]["priority"], "medium")
        self.assertEqual(sum(show["faults"].values()), 0)
        text = self.ctl("list")
        self.assertIn("pool A: policy turns, mps off, GPUs 0, 2;", text)
        self.assertRegex(text, r"7 \(seven\) +A +running +1 +medium +10 +no cap")
        text = self.ctl("show", "7")
        self.assertRegex(text, r"state +running\nlimits\n  priority +medium\n")
        self.assertIn(f"pid {self.notes()[0]['pid']}", text)
        guest.close()

    # ---- what gives a VM its device ----

    def attached(self, *words):
        """QEMU's options as a shell splits them, values by key; commas inside values are doubled."""
        options = shlex.split(self.ctl("attach", *words))
        self.assertEqual(options[::2], ["-device", "-chardev", "-device"])
        values = [[part.replace("\0", ",") for part in option.replace(",,", "\0").split(",")] for option in options[1::2]]
        return [(first, dict(part.split("=", 1) for part in rest)) for first, *rest in values]

    def test_attach(self):
        self.start()
        (port, reserve), (socket_word, chardev), (device, values) = self.attached("7")
        self.assertEqual((port, socket_word, device), ("pcie-root-port", "socket", "ivshmem-doorbell"))
        self.assertEqual(chardev, {"id": values["chardev"], "path": self.vm_path})
        self.assertEqual((values["vectors"], values["bus"], reserve["pref64-reserve"]), ("5", reserve["id"], "4096M"))
        domain = xml.etree.ElementTree.fromstring(self.ctl("attach", "seven", "--format=libvirt"))
        shmem = domain.find("devices/shmem")
        self.assertEqual((shmem.find("model").get("type"), shmem.find("server").get("path"), shmem.find("msi").get("vectors")),
                         ("ivshmem-doorbell", self.vm_path, "5"))
        port = domain.find("devices/controller")
        self.assertEqual(int(shmem.find("address").get("bus"), 16), int(port.get("index")))
        override = domain.find("{*}override/{*}device")
        self.assertEqual(override.get("alias"), port.find("alias").get("name"))
        self.assertEqual(override.find("{*}frontend/{*}property").attrib,
                         {"name": "pref64-reserve", "type": "unsigned", "value": str(4 << 30)})
        self.assertRegex(self.ctl("show", "7"), f"device +32 MiB, 4 channels, 5 vectors; {self.vm_path}; no QEMU\n")
        self.assertIn("local has no socket for a QEMU", self.ctl("attach", "local", status=1))
        self.assertIn("unknown VM 8", self.ctl("attach", "8", status=1))
        self.assertIn('qemu or libvirt, not "xen"', self.ctl("attach", "7", "--format=xen", status=2))

    def test_attach_by_a_file(self):
        """Without a mediator; with a path that shell, QEMU and XML each write in their own way, and a large region."""
        path = "/run/o'neil & <sons>, ltd/vm.sock"
        config = os.path.join(self.folder, "other.conf")
        with open(config, "w") as file:
            file.write(f'pools = ( {{ name = "A"; }} ); vms = ( {{ vm_id = 9; name = "nine"; pool = "A"; socket = "{path}"; '
                       f'region_mib = 16384; vectors = 9; channels = 8; }} );')
        for name in ("9", "nine"):
            (_, reserve), (_, chardev), (_, values) = self.attached(name, f"--config={config}")
            self.assertEqual((chardev["path"], values["vectors"], reserve["pref64-reserve"]), (path, "9", "16384M"))
        domain = xml.etree.ElementTree.fromstring(self.ctl("attach", "9", "--format=libvirt", f"--config={config}"))
        self.assertEqual(domain.find("devices/shmem/server").get("path"), path)
        self.assertIn("unknown VM 8", self.ctl("attach", "8", f"--config={config}", status=1))
        self.assertIn("/nowhere", self.ctl("attach", "9", "--config=/nowhere", status=1))
        self.ctl("list", "--format=qemu", status=2)

    def test_stats(self):
        self.start()
        guest = self.attach_qemu(epoch=1)
        guest.open(0)
        accounts = {(one["kind"], one["name"]): one for one in self.json("stats")["accounts"]}
        self.assertEqual(set(accounts), {("pool", "A"), ("pool", "B"), ("vm", "seven"), ("local", "local")})
        seven = accounts[("vm", "seven")]
        self.assertEqual((seven["programs"], seven["programs_running"], seven["records"], seven["faults"]), (1, 1, 0, 0))
        self.assertEqual(set(seven["execution"]), {"count", "p50_ns", "p95_ns", "p99_ns"})
        self.assertEqual(len(self.json("stats", "7")["accounts"]), 1)
        self.assertRegex(self.ctl("stats", "7"), r"vm 7 \(seven\), pool A, running\n  programs +1\n")
        guest.close()

    def test_programs(self):
        self.start()
        self.assertEqual(self.json("programs")["programs"], [])
        guest = self.attach_qemu(epoch=1)
        guest.region.store(guest.region.guest_offset(1) + 8, 4711)
        name = guest.region.guest_offset(1) + 16
        guest.region.map[name:name + 32] = b"train\x1b" + b"x" * 26  # no NUL, and what a terminal should not get
        guest.open(1)
        one, = self.json("programs", "7")["programs"]
        self.assertEqual((one["vm_id"], one["pool"], one["channel"], one["guest_pid"], one["executor_pid"], one["phase"]),
                         (7, "A", 1, 4711, self.notes()[0]["pid"], "ready"))
        self.assertEqual((one["program"], one["records"]), ("train?" + "x" * 26, 0))
        self.assertEqual(self.json("programs", "local")["programs"], [])
        self.assertIn(" of VM 7 (seven), ready\n  guest_pid              4711\n", self.ctl("programs"))
        guest.close()

    def ask(self, sock, request):
        sock.send(json.dumps(request).encode() + b"\n")
        data, fds, _, _ = socket.recv_fds(sock, 65536, 16)
        while not data.endswith(b"\n"):
            data += sock.recv(65536)
        self.addCleanup(lambda: [os.close(fd) for fd in fds])
        return json.loads(data), fds

    def test_regions_come_as_descriptors_that_cannot_write(self):
        self.start()
        guest = self.attach_qemu(epoch=1)
        guest.open(2)
        with self.connect() as sock:
            self.ask(sock, {"command": "list"})  # it is accepted
            before = self.descriptors()
            for request, count in (({}, 1), ({"object": "7"}, 1), ({"pid": self.notes()[0]["pid"]}, 1), ({"object": "local"}, 0),
                                   ({"after": 1}, 0)):
                answer, fds = self.ask(sock, {"command": "regions", **request})
                self.assertEqual((answer["ok"], len(fds), [one["fd"] for one in answer["regions"]]), (True, count, [0] * count))
            self.assertEqual(self.descriptors(), before)  # the mediator keeps none
            answer, fds = self.ask(sock, {"command": "regions", "object": "7"})
            self.assertEqual((answer["regions"][0]["vm_id"], answer["regions"][0]["region_bytes"]), (7, 32 << 20))
            self.assertEqual(os.fstat(fds[0]).st_size, 32 << 20)
            self.assertEqual(os.pread(fds[0], 8, 0), struct.pack("<Q", guest.region.magic))
            with self.assertRaises(OSError):
                os.pwrite(fds[0], b"x", 0)
            with self.assertRaises(PermissionError):
                mmap.mmap(fds[0], 4096)
            answer, fds = self.ask(sock, {"command": "regions", "pid": 1})
            self.assertEqual((answer["ok"], answer["error"], fds), (False, "no executor 1", []))
        self.assert_logged(": regions 7  : done")
        guest.close()

    # ---- changing ----

    def test_set_holds_at_once_until_the_file_is_read_again(self):
        self.start()
        guest = self.attach_qemu(epoch=1)
        guest.open(0)
        self.ctl("set", "7", "executors_max=1", "weight=30", "priority=high")
        limits = self.json("show", "7")["limits"]
        self.assertEqual((limits["executors_max"], limits["weight"], limits["priority"]), (1, 30, "high"))
        self.refused(guest, 1, 7)
        self.ctl("set", "local", "weight=3")
        self.ctl("reload")
        self.assertEqual(self.json("show", "7")["limits"]["weight"], 10)
        guest.open(1)
        guest.close()

    def test_set_of_a_pool(self):
        self.start()
        self.ctl("set", "pool:A", "policy=fair", "warm_executors=1")
        wait_until(lambda: (self.json("list")["pools"][0]["policy"], self.json("list")["pools"][0]["executors_waiting"])
                   == ("fair", 1), "set, and one waits")
        self.assertIn('"auto", "turns", "fair"', self.ctl("set", "pool:A", "policy=chess", status=1))
        self.assertIn("unknown pool C", self.ctl("set", "pool:C", "policy=turns", status=1))
        self.assertIn('"gpus" is nothing of a pool that can be set', self.ctl("set", "pool:A", "gpus=1", status=1))
        self.ctl("reload")
        self.assertEqual(self.json("list")["pools"][0]["policy"], "turns")

    def test_drain_and_resume(self):
        self.start()
        guest = self.attach_qemu(epoch=1)
        generation = guest.open(0)
        self.ctl("drain", "7")
        self.assertEqual(self.json("show", "7")["state"], "draining")
        self.refused(guest, 1, MEDIATOR_UNAVAILABLE)
        self.assertEqual(guest.region.host(0), (generation, READY))
        self.assertIn("VM 7: 1 programs still run after 0 s", self.ctl("drain", "7", "--wait=0", status=4))
        guest.ask(0, GUEST_CLOSED)
        self.ctl("drain", "7", "--wait=10")
        self.ctl("resume", "7")
        guest.open(1)
        guest.close()

    def test_quarantine_and_release(self):
        self.start()
        guest = self.attach_qemu(epoch=1)
        generation = guest.open(0)
        self.ctl("quarantine", "seven", "0")
        guest.wait_host(0, generation, DEAD)
        self.assertEqual(guest.region.reason(0), VM_QUARANTINED)
        self.refused(guest, 1, VM_QUARANTINED)
        self.ctl("release", "seven")
        guest.open(1)
        self.assertIn("VM 7 (seven) is not in quarantine", self.ctl("release", "7", status=1))
        self.ctl("quarantine", "7", "300")
        self.assertIn(self.json("show", "7")["quarantine_s_left"], range(290, 301))
        self.assertEqual(self.json("stats", "7")["accounts"][0]["quarantines"], 2)
        guest.close()

    def test_kill_one_and_all(self):
        self.start()
        guest = self.attach_qemu(epoch=1)
        generations = [guest.open(channel) for channel in range(3)]
        pids = {e["channel"]: e["pid"] for e in self.json("show", "7")["executors"]}
        self.assertEqual(self.json("kill", "7", str(pids[1]))["killed"], 1)
        guest.wait_host(1, generations[1], DEAD)
        self.assertEqual(guest.region.host(0), (generations[0], READY))
        self.assertIn("VM 7 (seven) has no executor 1", self.ctl("kill", "7", "1", status=1))
        self.assertEqual(self.json("kill", "7")["killed"], 2)
        guest.wait_host(2, generations[2], DEAD)
        wait_until(lambda: not self.children(), "their end")
        self.assertEqual(self.json("show", "7")["programs"], 0)
        self.assertEqual(sum(self.json("show", "7")["faults"].values()), 0)
        guest.close()

    def test_pause_and_resume(self):
        self.start()
        self.ctl("pause", "7")
        self.assertEqual(self.json("show", "7")["state"], "paused")
        self.ctl("resume", "7")
        self.assertEqual(self.json("show", "7")["state"], "running")

    def test_reload_names_the_mistake(self):
        self.start()
        with open(os.path.join(self.folder, "ivgpud.conf"), "a") as file:
            file.write("\nnonsense = 1;")
        self.assertIn("nonsense: unknown key", self.ctl("reload", status=1))

    # ---- refusals ----

    def test_refusals_name_object_and_number(self):
        self.start()
        for words, text in ((("show", "8"), "unknown VM 8"), (("pause", "eight"), "unknown VM eight"),
                            (("set", "7", "weight=0"), "weight: 0 is outside 1..100"),
                            (("set", "7", "wieght=3"), '"wieght" is no limit'),
                            (("set", "7", "rate=often"), 'rate: "often" is none of "slow", "fail"'),
                            (("quarantine", "7", "90000"), "0 to 86400")):
            self.assertIn(text, self.ctl(*words, status=1))
        for words in ((), ("lsit",), ("show",), ("show", "7", "8"), ("set", "7"), ("set", "7", "weight"), ("kill", "7", "x"),
                      ("drain", "7", "--wait=x"), ("list", "--wait=3"), ("--nonsense",)):
            self.ctl(*words, status=2)

    def test_no_mediator_is_named(self):
        self.assertIn(f"no mediator at {self.control_path}: No such file", self.ctl("list", status=3))
        self.assertIn("usage: ivgpuctl", self.ctl("--help"))

    @unittest.skipUnless(os.geteuid() == 0, "needs another user")
    def test_others_may_look_only(self):
        self.control_more = 'socket_mode = "0666";'
        self.start()
        os.chmod(self.folder, 0o755)
        other = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
        self.assertIn("seven", self.ctl("list", **other))
        for words in (("pause", "7"), ("kill", "7"), ("reload",), ("set", "7", "weight=1")):
            self.assertIn("you may look only", self.ctl(*words, status=1, **other))
        self.assertEqual(json.loads(self.ctl("--json", "programs", **other))["programs"], [])
        self.assertEqual(self.json("show", "7")["state"], "running")

    @unittest.skipUnless(os.geteuid() == 0, "needs another user")
    def test_owners_may_change(self):
        for more, other in ((f"user = {NOBODY};", {"user": NOBODY, "group": 7, "extra_groups": []}),
                            (f"group = {NOBODY};", {"user": 77, "group": NOBODY, "extra_groups": []}),
                            (f"group = {NOBODY};", {"user": 77, "group": 7, "extra_groups": [NOBODY]})):
            self.control_more = more
            self.start()
            os.chmod(self.folder, 0o755)
            self.ctl("pause", "7", **other)
            self.end()

    # ---- clients that are no ivgpuctl ----

    def test_nonsense_is_answered_and_too_much_ends(self):
        self.start()
        sock = self.connect()
        for line in (b"\n", b"{\n", b"[]\n", b"3\n", b'{"command": 3}\n', b'{"command": "show"}\n', b'{"command": "show", '
                     b'"object": 7}\n', b'{"command": "kill", "object": "7", "pid": -1}\n', b"\xff\xfe\x00\n"):
            sock.send(line)
            answer = json.loads(self.line(sock))
            self.assertFalse(answer["ok"])
            self.assertTrue(answer["error"])
        sock.send(b"x" * 5000)
        self.assertTrue(self.is_over(sock))
        self.ctl("list")

    def is_over(self, sock):
        try:
            return sock.recv(1) == b""
        except ConnectionResetError:
            return True

    def line(self, sock):
        text = b""
        while not text.endswith(b"\n"):
            text += sock.recv(65536)
        return text

    def test_many_requests_at_once_are_answered_in_turn(self):
        self.start()
        sock = self.connect()
        sock.send(b'{"command": "list"}\n{"command": "show", "object": "7"}\n{"comm')
        sock.send(b'and": "show", "object": "local"}\n')
        with sock.makefile("rb") as lines:
            answers = [json.loads(lines.readline()) for _ in range(3)]
        self.assertEqual(answers[0]["pools"][0]["name"], "A")
        self.assertEqual([answer["name"] for answer in answers[1:]], ["seven", "local"])

    def test_who_does_not_read_hinders_nobody(self):
        self.start()
        deaf = self.connect()
        deaf.setblocking(False)
        try:
            while True:  # until neither the answers nor the requests have room
                deaf.send(b'{"command": "stats"}\n' * 50)
        except BlockingIOError:
            pass
        guest = self.attach_qemu(epoch=1)
        begin = time.monotonic()
        guest.open(0)
        self.ctl("list")
        self.assertLess(time.monotonic() - begin, WAIT_S)
        guest.close()

    def test_too_many_clients_are_refused(self):
        self.start()
        before = self.descriptors()
        clients = [self.connect() for _ in range(16)]
        wait_until(lambda: self.descriptors() == before + 16, "all are accepted")
        self.assertTrue(self.is_over(self.connect()))
        for sock in clients:
            sock.close()
        wait_until(lambda: self.descriptors() == before, "all are closed")
        self.ctl("list")

    def test_the_socket_goes_with_the_mediator(self):
        self.start()
        self.process.send_signal(signal.SIGTERM)
        self.assertEqual(self.process.wait(WAIT_S), 0)
        self.assertFalse(os.path.exists(self.control_path))


if __name__ == "__main__":
    unittest.main()
