#!/usr/bin/env python3
"""Stands in for ivgpu-exec: speaks its control protocol and does what the file $FAKE_MODE_FILE says.

Modes, read when it has its channel: ready, open (ready, ring opened), fail, refused (by an MPS server), silent, crash, fault, stubborn (ready, ignores
SIGTERM), says (ready, after words on standard error, and more at SIGTERM), share (ready, and passes on what the test at the socket $FAKE_NOTES.PID asks the mediator, and its answers).
Modes of one that is started with --warm, read at its start: those that begin with "waiting-": -crash and -fail end before
it waits, -silent never waits, -crashes and -hangs do so when given a channel; all others wait.
At SIGUSR1 it kicks the mediator. Notes what it was given and its descriptors in $FAKE_NOTES when it has a channel, one JSON object a line; its pid in
$FAKE_NOTES.begun when it has read a warm one's mode, in $FAKE_NOTES.waiting when it waits."""
import json
import os
import signal
import socket
import struct
import sys
import threading
import time

READY, FAILED, FAULT, WAITING, ADOPT, PING, PONG = range(1, 8)
MESSAGE = struct.Struct("<IIIIii232s")
ADOPTION = struct.Struct("<IIIIIIII")
MAGIC = 0x45475649
SLOTS = ("region", "doorbell", "interrupt", "ipc", "share", "images", "board", "kick", "vram")


def message(kind, code=0, fault=0, text=b""):
    return MESSAGE.pack(MAGIC, kind, code, fault, 13000, 1, text)


def options():
    return dict(word[2:].split("=", 1) if "=" in word else (word[2:], True) for word in sys.argv[1:])


def mode():
    with open(os.environ["FAKE_MODE_FILE"]) as file:
        return file.read().strip()


def receive_channel(control):
    """What the mediator gives: names and numbers as texts, descriptors by slot."""
    data, fds, _, _ = socket.recv_fds(control, 256, 16)
    if not data:
        os._exit(0)
    magic, kind, channel, generation, vm_id, given, _, _ = ADOPTION.unpack(data)
    if (magic, kind) != (MAGIC, ADOPT) or bin(given).count("1") != len(fds):
        os._exit(9)
    there = [name for bit, name in enumerate(SLOTS) if given >> bit & 1]
    return {"channel": str(channel), "generation": str(generation), "vm-id": str(vm_id), **dict(zip(there, fds))}


def open_ring(given):
    """Stores OPEN with our generation where the guest looks for it."""
    page = os.pread(given["region"], 256, 0)
    channels_offset, stride = struct.unpack_from("<QQ", page, 88)
    status = channels_offset + int(given["channel"]) * stride + (512 << 10) + 256
    os.pwrite(given["region"], struct.pack("<Q", int(given["generation"]) << 32 | 1), status)


def wait_warm(control):
    """Until there is a channel to be had."""
    how = mode()
    with open(os.environ["FAKE_NOTES"] + ".begun", "a") as file:
        file.write(f"{os.getpid()}\n")
    if how == "waiting-crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if how == "waiting-fail":
        control.send(message(FAILED, code=5, text=b"no driver today"))
        os._exit(3)
    if how == "waiting-silent":
        control.recv(1, socket.MSG_PEEK)
        time.sleep(1000)
    control.send(message(WAITING))
    with open(os.environ["FAKE_NOTES"] + ".waiting", "a") as file:
        file.write(f"{os.getpid()}\n")
    if how in ("waiting-crashes", "waiting-hangs"):
        if not control.recv(1, socket.MSG_PEEK):
            os._exit(0)
        if how == "waiting-crashes":
            os.kill(os.getpid(), signal.SIGSEGV)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(1000)


def relay(given):
    share = socket.socket(fileno=given["share"])
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
    control = socket.socket(fileno=int(given["control-fd"]))
    control.setblocking(True)
    if "warm" in given:
        wait_warm(control)
    given.update(receive_channel(control))
    how = mode()
    inherited = sorted(int(name) for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{name}"))
    with open(os.environ["FAKE_NOTES"], "a") as file:
        json.dump({"pid": os.getpid(), "options": given, "descriptors": inherited, "pgid": os.getpgrp(),
                   "visible": os.environ.get("CUDA_VISIBLE_DEVICES"),
                   "mps": os.environ.get("CUDA_MPS_PIPE_DIRECTORY"),
                   "ours": [name for name in os.environ if name.startswith("IVGPU_")]}, file)
        file.write("\n")
    if how == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    elif how == "says":
        vm, channel = given["vm-id"], given["channel"]
        os.write(2, (f"ivgpu-exec[vm={vm} channel={channel} pid={os.getpid()}]: WARNING of this\na driver's own words\n"
                     + 1000 * "x" + "\n").encode())
        signal.signal(signal.SIGTERM, lambda *_: os._exit(os.write(2, b"the end") - len("the end")))
    elif how != "silent":
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    signal.signal(signal.SIGUSR1, lambda *_: os.eventfd_write(given["kick"], 1))
    if how == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if how == "fail":
        control.send(message(FAILED, code=6, text=b"no such pool here"))
        os._exit(3)
    if how == "refused":
        control.send(message(FAILED, code=5, fault=807, text=b"cuInit: CUDA error 807"))
        os._exit(3)
    if how in ("open", "stubborn"):
        open_ring(given)
    if how != "silent":
        control.send(message(READY))
    if how == "fault":
        control.send(message(FAULT, code=1, fault=5, text=b"the guest broke a rule: opcode"))
    if how == "share":
        threading.Thread(target=relay, args=(given,), daemon=True).start()
    if how == "stubborn":
        while True:
            time.sleep(1)
    while True:  # pings, and the end
        data = control.recv(256)
        if not data:
            os._exit(0)
        if MESSAGE.unpack(data)[1] == PING and how != "mute":
            control.send(message(PONG))


main()
