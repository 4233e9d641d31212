#!/usr/bin/env python3
"""ivgpu-ring-bench --serve and --shm: the two halves of a measurement between a guest and its host, without a machine
between them. The test is QEMU (it takes region and doorbells from --serve) and the guest's kernel (a folder that looks
like the device in sysfs). Every record is checked by the bench itself; how fast is not asked here. A real guest is tried
by hand: bench/README.md."""
import json
import os
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

BENCH = os.environ["IVGPU_RING_BENCH"]
DUMP = os.path.join(os.path.dirname(BENCH), "ivgpu-dump")
VECTORS = 5
DEVICE = "0000:00:05.0"
START_S = 30
RUN_S = 120


def connect(path, server):
    end = time.monotonic() + START_S
    while True:
        qemu = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            qemu.connect(path)
            return qemu
        except OSError:
            qemu.close()
            assert server.poll() is None, "--serve has ended"
            assert time.monotonic() < end, "--serve does not listen"
            time.sleep(0.01)


def greet(qemu):
    """As QEMU's ivshmem device: protocol version, own number, region, then each peer's vectors, the host's first."""
    qemu.settimeout(START_S)
    fds = []
    for _ in range(3 + 2 * VECTORS):
        data, new, _, _ = socket.recv_fds(qemu, 8, 1)
        assert len(data) == 8, data
        fds += new
    assert len(fds) == 1 + 2 * VECTORS, fds
    return fds[0], fds[1:1 + VECTORS]


def make_device(folder, region):
    """BAR2 is the region itself; BAR0 a page that nobody looks at, see ring_steadily()."""
    path = os.path.join(folder, DEVICE)
    os.mkdir(path)
    for name, text in (("vendor", "0x1af4\n"), ("device", "0x1110\n"), ("enable", "1\n"),
                       ("resource", "0x00000000febf1100 0x00000000febf11ff 0x0000000000040200\n"),
                       ("resource0", "\0" * 4096)):
        with open(os.path.join(path, name), "w", encoding="ascii") as file:
            file.write(text)
    os.symlink(f"/proc/{os.getpid()}/fd/{region}", os.path.join(path, "resource2"))


def ring_steadily(doorbells, ended):
    """In the place of the doorbell register: every vector, often enough for all that may have been written there."""
    while not ended.wait(0.001):
        for fd in doorbells:
            os.eventfd_write(fd, 1)


def main():
    with tempfile.TemporaryDirectory() as folder:
        path, told = os.path.join(folder, "vm.sock"), os.path.join(folder, "figures.json")
        with subprocess.Popen([BENCH, "--serve", path], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:
            qemu = connect(path, server)
            region, doorbells = greet(qemu)
            make_device(folder, region)
            ended = threading.Event()
            kernel = threading.Thread(target=ring_steadily, args=(doorbells, ended))
            kernel.start()
            try:
                guest = subprocess.run([BENCH, "--shm", f"sysfs:{folder}/{DEVICE}", "--quick", "--consumer",
                                        "polled,sleeping", "--payloads", "56,4096", "--producers", "1,2", "--json", told],
                                       capture_output=True, text=True, timeout=RUN_S, check=False)
                dumped = subprocess.run([DUMP, "--json", "--all", f"/proc/{os.getpid()}/fd/{region}"], capture_output=True,
                                        text=True, timeout=START_S, check=False)
            finally:
                ended.set()
                kernel.join()
                qemu.close()  # the machine is off: so is the server
            words = server.communicate(timeout=START_S)[0]
        assert guest.returncode == 0, f"{guest.returncode}\n{guest.stdout}{guest.stderr}\nthe host: {words}"
        assert server.returncode == 0, f"{server.returncode}\n{words}"
        assert f"over sysfs:{DEVICE}" in guest.stdout, guest.stdout
        with open(told, encoding="utf-8") as file:
            results = json.load(file)["results"]
        assert {result["ring"] for result in results} == {"ivgpu"}, guest.stdout
        seen = {(result["mode"].split("-")[1], result["producers"], result["payload_bytes"]) for result in results}
        assert {("polled", 1, 56), ("polled", 2, 56), ("polled", 1, 4096), ("sleeping", 1, 56)} <= seen, guest.stdout
        for result in results:
            assert result["rtt_p50_ns"] > 0 and result["records_per_s"] > 0, result
            assert result["doorbells"] == 0 or "sleeping" in result["mode"], f"rung for nobody: {result}"
        # Without a count beside its interrupt the guest's driver would take it for another channel's, and wake nobody.
        assert dumped.returncode == 0, dumped.stderr
        counters = [channel["counters"]["interrupts"] for channel in json.loads(dumped.stdout)["channels"]]
        assert sum(counters) > 0, counters
        print(guest.stdout)
    return 0


sys.exit(main())
