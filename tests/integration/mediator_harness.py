"""What the mediator's tests share: an ivgpud of their own, a guest's view of a region, QEMU's and a program's part."""
import json
import mmap
import os
import re
import shutil
import socket
import struct
import subprocess
import tempfile
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
BIN = os.environ["IVGPU_BIN"]

# enum ivg_guest_channel_state, enum ivg_host_channel_state, enum ivg_error_code
GUEST_FREE, GUEST_OPEN, GUEST_CLOSED = 0, 1, 2
FREE, STARTING, READY, FAILED, DEAD = range(5)
INVALID_REQUEST, MEDIATOR_UNAVAILABLE, TIMEOUT, CUDA_ERROR, INVALID_POOL, QUEUE_FULL, VM_QUARANTINED = 1, 3, 4, 5, 6, 7, 11
RING_PEER_GONE = 3
EXECUTOR_DESCRIPTORS = list(range(4 + 9))  # standard ones, the control socket, one of each slot (exec_control.h)
WAIT_S = 30  # for what takes milliseconds on an idle machine


def wait_until(condition, what, seconds=WAIT_S):
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.002)


def process_is_there(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def process_name(pid):
    try:
        with open(f"/proc/{pid}/comm") as file:
            return file.read().strip()
    except (FileNotFoundError, ProcessLookupError):
        return None


def times_slept(pid):
    """How often a process of one thread has gone to sleep by itself."""
    with open(f"/proc/{pid}/status") as file:
        return int(re.search(r"^voluntary_ctxt_switches:\s*([0-9]+)", file.read(), re.M)[1])


def receive(sock, size, fd_max=8):
    data, fds, _, _ = socket.recv_fds(sock, size, fd_max)
    return data, list(fds)


class Region:
    """A guest's mapping of a whole region, words by offset."""

    def __init__(self, fd):
        self.fd = fd
        self.map = mmap.mmap(fd, os.fstat(fd).st_size)
        page = struct.unpack_from("<QIIQQQIIIIQQQQQQQQ", self.map, 0)
        (self.magic, _, _, self.bytes, self.fingerprint, self.instance, _, self.vectors, self.channels, self.vm_id,
         self.guest_pages, _, self.host_pages, _, self.channels_offset, self.stride, self.arena, _) = page

    def word(self, offset):
        return struct.unpack_from("<Q", self.map, offset)[0]

    def store(self, offset, value):
        struct.pack_into("<Q", self.map, offset, value)

    def guest_offset(self, channel):
        return self.guest_pages + 128 + channel * 64

    def host(self, channel):
        """(generation, state)"""
        word = self.word(self.host_pages + 128 + channel * 128)
        return word >> 32, word & 0xffffffff

    def reason(self, channel):
        return struct.unpack_from("<I", self.map, self.host_pages + 128 + channel * 128 + 8)[0]

    def heartbeat(self):
        return self.word(self.host_pages)

    def silence_ms(self):
        return self.word(self.host_pages + 16)

    def store_sleep_at(self, channel, value):
        """In the executor's place."""
        self.store(self.channels_offset + channel * self.stride + (512 << 10) + 128, value)

    def epoch_seen(self):
        return self.word(self.host_pages + 8)

    def ring_status(self, channel):
        return self.word(self.channels_offset + channel * self.stride + (512 << 10) + 256)

    def set_guest(self, channel, generation, state):
        self.store(self.guest_offset(channel), generation << 32 | state)

    def close(self):
        self.map.close()
        os.close(self.fd)


class Guest:
    """A region with its control doorbell and each channel's interrupt."""

    def __init__(self, sock, region, control, interrupts):
        self.socket, self.region, self.control, self.interrupts = sock, region, control, interrupts

    def begin_epoch(self, epoch):
        self.region.store(self.region.guest_pages, epoch)
        os.eventfd_write(self.control, 1)

    def ask(self, channel, state):
        generation, _ = self.region.host(channel)
        self.region.set_guest(channel, generation, state)
        os.eventfd_write(self.control, 1)
        return generation

    def wait_host(self, channel, generation, state, seconds=WAIT_S):
        wait_until(lambda: self.region.host(channel) == (generation, state),
                   f"channel {channel}: {generation, state}, is {self.region.host(channel)}", seconds)

    def open(self, channel=0):
        generation = self.ask(channel, GUEST_OPEN)
        self.wait_host(channel, generation, READY)
        return generation

    def drain_interrupt(self, channel):
        os.set_blocking(self.interrupts[channel], False)
        try:
            return os.eventfd_read(self.interrupts[channel])
        except BlockingIOError:
            return 0

    def close(self):
        self.socket.close()
        self.region.close()
        for fd in {self.control, *self.interrupts}:
            os.close(fd)


class Mediator(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="ivgpud-test.")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.local_path = os.path.join(self.folder, "local.sock")
        self.vm_path = os.path.join(self.folder, "vm1.sock")
        self.notes_path = os.path.join(self.folder, "notes")
        self.mode_path = os.path.join(self.folder, "mode")
        self.log_path = os.path.join(self.folder, "log")
        self.process = None
        self.mode("ready")

    def mode(self, word):
        with open(self.mode_path, "w") as file:
            file.write(word)

    def notes(self):
        try:
            with open(self.notes_path) as file:
                return [json.loads(line) for line in file]
        except FileNotFoundError:
            return []

    def log(self):
        with open(self.log_path) as file:
            return file.read()

    def assert_logged(self, words):
        self.assert_logged_like(re.escape(words))

    def assert_logged_like(self, pattern):
        """What the mediator tells of a step comes after the step itself, which others see at once."""
        end = time.monotonic() + WAIT_S
        while not re.search(pattern, self.log()) and time.monotonic() < end:
            time.sleep(0.002)
        self.assertRegex(self.log(), pattern)

    def write_config(self, ready_timeout_ms=10000, more=""):
        path = os.path.join(self.folder, "ivgpud.conf")
        driver = os.path.join(self.folder, "driver")
        open(driver, "w").close()
        with open(path, "w") as file:
            file.write(f"""
mediator = {{ device = "soft"; driver = "{driver}"; executor = "{HERE}/fake_executor.py";
             ready_timeout_ms = {ready_timeout_ms}; heartbeat_log_s = 1; }};
pools = ( {{ name = "A"; gpus = [ 0, 2 ]; }}, {{ name = "B"; }} );
vms = ( {{ vm_id = 7; name = "seven"; pool = "A"; socket = "{self.vm_path}"; region_mib = 32; channels = 4;
          vectors = 5; }} );
local = {{ socket = "{self.local_path}"; region_mib = 16; pool = "B"; }};
{more}""")
        return path

    def spawn(self, arguments, **keywords):
        environment = dict(os.environ, FAKE_MODE_FILE=self.mode_path, FAKE_NOTES=self.notes_path, IVGPU_SOCKET="nowhere")
        with open(self.log_path, "a") as log:
            return subprocess.Popen([os.path.join(BIN, "ivgpud"), *arguments], stderr=log, env=environment, **keywords)

    def start(self, ready_timeout_ms=10000, **keywords):
        open(self.log_path, "w").close()
        self.process = self.spawn(["--config", self.write_config(ready_timeout_ms), "--foreground"], **keywords)
        self.addCleanup(self.end)
        wait_until(lambda: "listening on " + self.local_path in self.log() or self.process.poll() is not None, "start")
        self.assertIsNone(self.process.poll(), self.log())

    def end(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(WAIT_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    # ---- a local program's part ----

    def hello(self, fingerprint):
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sock.settimeout(WAIT_S)
        sock.connect(self.local_path)
        sock.send(struct.pack("<IIQ", 0x4c475649, 2, fingerprint))
        data, fds = receive(sock, 1024)
        self.assertEqual(len(data), 224)
        return sock, struct.unpack("<IIIIQQ192s", data), fds

    def fingerprint(self):
        """The refusal names both values."""
        sock, welcome, fds = self.hello(1)
        sock.close()
        self.assertEqual(fds, [])
        self.assertEqual(welcome[1], INVALID_REQUEST)
        return int(re.search(rb"mediator has ([0-9a-f]{16})", welcome[6])[1], 16)

    def attach_local(self, epoch=99):
        sock, welcome, fds = self.hello(self.fingerprint())
        self.assertEqual(welcome[1], 0, welcome[6])
        self.assertEqual(len(fds), 4)
        os.close(fds[2])
        guest = Guest(sock, Region(fds[0]), fds[1], [fds[3]])
        guest.begin_epoch(epoch)
        return guest

    # ---- QEMU's part ----

    def refused(self, guest, channel, code):
        """A program that asks for the channel gets none, for this reason, and gives it back."""
        generation = guest.ask(channel, GUEST_OPEN)
        guest.wait_host(channel, generation, FAILED)
        self.assertEqual(guest.region.reason(channel), code)
        guest.ask(channel, GUEST_CLOSED)
        guest.wait_host(channel, generation + 1, FREE)

    def attach_qemu(self, epoch=0):
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(WAIT_S)
        sock.connect(self.vm_path)
        messages = []
        for _ in range(3 + 2 * 5):
            data, fds = receive(sock, 8, 1)
            if not data:
                sock.close()
                return None
            self.assertEqual(len(data), 8)
            messages.append((struct.unpack("<q", data)[0], fds))
        self.assertEqual([value for value, _ in messages], [0, 1, -1] + 5 * [0] + 5 * [1])
        self.assertEqual([len(fds) for _, fds in messages], [0, 0] + 11 * [1])
        guest = Guest(sock, Region(messages[2][1][0]), messages[3][1][0], [fds[0] for _, fds in messages[9:13]])
        for fd in [fds[0] for _, fds in messages[4:9]]:
            os.close(fd)
        if epoch:
            guest.begin_epoch(epoch)
            wait_until(lambda: guest.region.epoch_seen() == epoch, "epoch")
        return guest

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def children(self):
        """Executors: the keeper of images, once started, stays."""
        with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children") as file:
            return [pid for pid in file.read().split() if pid not in self.keepers()]

    def keepers(self):
        with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children") as file:
            return [pid for pid in file.read().split() if process_name(pid) == "ivgpu-images"]
