#!/usr/bin/env python3
"""Stands in for ivgpu-exec: speaks its control protocol and does what the file $FAKE_MODE_FILE says.

Modes: ready, open (ready, ring opened), fail, silent, crash, fault, stubborn (ready, ignores SIGTERM), share (ready, and
passes on what the test at the socket $FAKE_NOTES.PID asks the mediator, and its answers). Notes its arguments
and descriptors in $FAKE_NOTES, one JSON object a line."""
import json
import os
import signal
import socket
import struct
import sys
import threading
import time

READY, FAILED, FAULT = 1, 2, 3
MESSAGE = struct.Struct("<IIIIii232s")


def message(kind, code=0, fault=0, text=b""):
    return MESSAGE.pack(0x45475649, kind, code, fault, 13000, 1, text)


def options():
    return dict(word[2:].split("=", 1) for word in sys.argv[1:])


def open_ring(given):
    """Stores OPEN with our generation where the guest looks for it."""
    fd = int(given["region-fd"])
    page = os.pread(fd, 256, 0)
    channels_offset, stride = struct.unpack_from("<QQ", page, 88)
    status = channels_offset + int(given["channel"]) * stride + (512 << 10) + 256
    os.pwrite(fd, struct.pack("<Q", int(given["generation"]) << 32 | 1), status)


def relay(given):
    share = socket.socket(fileno=int(given["share-fd"]))
    share.setblocking(True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(f"{os.environ['FAKE_NOTES']}.{os.getpid()}")
    listener.listen()
    while True:
        test, _ = listener.accept()
        while True:
            data, fds, _, _ = socket.recv_fds(test, 256, 4)
            if not data:
                break
            socket.send_fds(share, [data], fds)
            for fd in fds:
                os.close(fd)
            data, fds, _, _ = socket.recv_fds(share, 256, 4)
            socket.send_fds(test, [data or b"gone"], fds)
            for fd in fds:
                os.close(fd)


def main():
    given = options()
    with open(os.environ["FAKE_MODE_FILE"]) as file:
        mode = file.read().strip()
    inherited = sorted(int(name) for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{name}"))
    with open(os.environ["FAKE_NOTES"], "a") as file:
        json.dump({"pid": os.getpid(), "options": given, "descriptors": inherited, "pgid": os.getpgrp(),
                   "visible": os.environ.get("CUDA_VISIBLE_DEVICES"),
                   "ours": [name for name in os.environ if name.startswith("IVGPU_")]}, file)
        file.write("\n")
    control = socket.socket(fileno=int(given["control-fd"]))
    control.setblocking(True)
    if mode == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    elif mode != "silent":
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    if mode == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if mode == "fail":
        control.send(message(FAILED, code=6, text=b"no such pool here"))
        os._exit(3)
    if mode in ("open", "stubborn"):
        open_ring(given)
    if mode != "silent":
        control.send(message(READY))
    if mode == "fault":
        control.send(message(FAULT, code=1, fault=5, text=b"the guest broke a rule: opcode"))
    if mode == "share":
        threading.Thread(target=relay, args=(given,), daemon=True).start()
    if mode == "stubborn":
        while True:
            time.sleep(1)
    control.recv(1)  # nothing comes but the end
    os._exit(0)


main()
