#!/usr/bin/env python3
"""Prometheus' text: well-formed, over a port and over a UNIX socket, and its figures are those of ivgpuctl and of the
[MEDIATOR STATS] block, after real programs on the soft GPU; clients that do not behave hinder nobody."""
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import unittest

from mediator_harness import BIN, WAIT_S, Mediator, wait_until

PROGRAM = os.path.join(BIN, "..", "tests", "cuda", "launches")
SHIM = os.path.join(BIN, "..", "lib", "ivgpu")
SAMPLE = re.compile(r'^([a-z_]+)(?:\{((?:[a-z_]+="(?:[^"\\]|\\.)*",?)*)\})? ([0-9.e+-]+)$')


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=WAIT_S)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(WAIT_S)
        self.sock.connect(self.path)


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class Metrics(Mediator):
    def begin(self, metrics, words="metrics: listening"):
        self.control_path = os.path.join(self.folder, "control.sock")
        config = os.path.join(self.folder, "ivgpud.conf")
        with open(config, "w") as file:
            file.write(f"""mediator = {{ device = "soft"; heartbeat_log_s = 0; }};
pools = ( {{ name = "A"; }}, {{ name = "a \\"b\\\\c"; }} );
vms = ( {{ vm_id = 7; name = "seven"; pool = "a \\"b\\\\c"; socket = "{self.vm_path}"; region_mib = 16; vram_mib = 5;
          channels = 1; vectors = 2; }} );
local = {{ socket = "{self.local_path}"; region_mib = 64; pool = "A"; }};
control = {{ socket = "{self.control_path}"; }};
metrics = {{ {metrics} }};""")
        open(self.log_path, "w").close()
        self.process = self.spawn(["--config", config, "--foreground"])
        self.addCleanup(self.end)
        wait_until(lambda: words in self.log() or self.process.poll() is not None, words)

    def ask(self, connection, method="GET", url="/metrics"):
        connection.request(method, url)
        response = connection.getresponse()
        body = response.read().decode()
        connection.close()
        return response.status, body

    def samples(self, connection):
        """{(name, labels): value} of a text that is checked."""
        status, text = self.ask(connection)
        self.assertEqual(status, 200, text)
        found, families, family = {}, {}, None
        for line in text.splitlines():
            if line.startswith("# HELP "):
                self.assertTrue(line.endswith("."), line)
                continue
            if line.startswith("# TYPE "):
                _, _, family, kind = line.split(" ")
                self.assertNotIn(family, families, "its samples are not together")
                families[family] = kind
                continue
            match = SAMPLE.match(line)
            self.assertTrue(match, line)
            name = match[1]
            self.assertIn(name, {family, family + "_sum", family + "_count"}, line)
            self.assertEqual(name.endswith("_total"), families[family] == "counter", line)
            self.assertNotIn((name, match[2]), found, line)
            found[name, match[2]] = float(match[3])
        return found

    def run_program(self):
        environment = dict(os.environ, LD_LIBRARY_PATH=SHIM, IVGPU_SOCKET=self.local_path)
        result = subprocess.run([PROGRAM], env=environment, capture_output=True, text=True, timeout=120, check=False)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)

    def test_figures_are_those_of_ivgpuctl_and_of_the_block(self):
        port = free_port()
        self.begin(f"port = {port};")
        self.run_program()
        wait_until(lambda: not self.children(), "its end")
        stats = json.loads(subprocess.run([os.path.join(BIN, "ivgpuctl"), f"--socket={self.control_path}", "--json", "stats"],
                                          check=True, capture_output=True, text=True, timeout=WAIT_S).stdout)
        local = [one for one in stats["accounts"] if one["kind"] == "local"][0]
        self.assertGreater(local["records"], 100)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_S)
        labels = 'vm="local",name="local",pool="A"'
        wait_until(lambda: self.samples(connection)["ivgpu_vm_records_total", labels] == local["records"],
                   "a snapshot of it")
        samples = self.samples(connection)
        for name, sample, more in (("batches", "batches_total", ""), ("programs", "programs_total", ""),
                                   ("bytes_to_guest", "copied_bytes_total", ',direction="to_guest"'),
                                   ("run_lane", "calls_run_total", ',class="lane"'), ("calls_failed", "calls_failed_total", ""),
                                   ("gpu_seconds", "gpu_seconds_total", ""), ("vram_bytes", "vram_bytes", "")):
            self.assertAlmostEqual(samples["ivgpu_vm_" + sample, labels + more], local[name], places=6, msg=name)
        self.assertEqual(samples["ivgpu_pool_records_total", 'pool="A"'], local["records"])
        seven = 'vm="7",name="seven",pool="a \\"b\\\\c"'
        self.assertEqual(samples["ivgpu_vm_vram_limit_bytes", seven], 5 << 20)
        self.assertEqual(samples["ivgpu_vm_state", seven + ',state="running"'], 1)
        self.assertEqual(samples["ivgpu_vm_latency_seconds_count", labels + ',stage="execution"'],
                         local["execution"]["count"])
        self.assertLess(samples["ivgpu_snapshot_age_seconds", None], 5)
        self.process.send_signal(signal.SIGUSR1)
        wait_until(lambda: "  Local: " in self.log(), "the block")
        self.assert_logged(f"Total processed:  {local['records']}\n")
        self.assert_logged(f"Pool A processed: {local['records']}\n")

    def test_unix_socket_and_refusals(self):
        path = os.path.join(self.folder, "metrics.sock")
        self.begin(f'socket = "{path}"; socket_mode = "0600";')
        self.assertEqual(os.stat(path).st_mode & 0o777, 0o600)
        self.assertTrue(self.samples(UnixConnection(path)))
        self.assertEqual(self.ask(UnixConnection(path), url="/etc/passwd")[0], 404)
        self.assertEqual(self.ask(UnixConnection(path), method="POST")[0], 405)
        self.process.send_signal(signal.SIGTERM)
        self.assertEqual(self.process.wait(WAIT_S), 0)
        self.assertFalse(os.path.exists(path))

    def test_clients_that_do_not_behave_hinder_nobody(self):
        path = os.path.join(self.folder, "metrics.sock")
        self.begin(f'socket = "{path}";')
        clients = []
        for words in (b"", b"GET /metr", b"GET /metrics HTTP/1.1\r\n\r\n", b"\x00\xff\r\n\r\n", b"GET / HTTP/1.1\r\nA: " +
                      b"a" * 100000):
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.addCleanup(sock.close)
            sock.connect(path)
            sock.setblocking(False)
            try:
                sock.send(words)
            except BlockingIOError:
                pass
            clients.append(sock)
        self.assertTrue(self.samples(UnixConnection(path)))
        self.run_program()
        self.process.send_signal(signal.SIGTERM)  # and its end waits for none of them
        self.assertEqual(self.process.wait(WAIT_S), 0)

    def test_a_port_in_use_is_named(self):
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            sock.listen()
            port = sock.getsockname()[1]
            self.begin(f"port = {port};", "Address already in use")
            self.assertEqual(self.process.wait(WAIT_S), 3)
            self.assert_logged(f"metrics: 127.0.0.1 port {port}: Address already in use")


if __name__ == "__main__":
    unittest.main()
