#!/usr/bin/env python3
"""Stands in for nvidia-cuda-mps-control. With -f it is the control daemon: notes what it was given in $FAKE_MPS_NOTES,
makes its socket, starts a server (a process that only sleeps), and another one some time after that has died (it looks
late: the dead one stays its child until then); it ends on SIGTERM.
Without it tells the daemon of its folder what it reads from stdin: "quit", which ends both.

$FAKE_MPS_MODE names a file with a word: ready, ends (at once), mute (never listens)."""
import json
import os
import signal
import socket
import subprocess
import sys
import time

PIPES = os.environ["CUDA_MPS_PIPE_DIRECTORY"]
CONTROL = os.path.join(PIPES, "control")
LOOK_S = 0.5  # the mediator looks several times meanwhile


def tell():
    words = sys.stdin.read()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.connect(CONTROL)
        client.sendall(words.encode())


def note(**words):
    with open(os.environ["FAKE_MPS_NOTES"], "a") as file:
        json.dump(words, file)
        file.write("\n")


def start_server():
    server = subprocess.Popen(["sleep", "1000"])
    note(server=server.pid)
    return server


def main():
    if sys.argv[1:] != ["-f"]:
        return tell()
    with open(os.environ["FAKE_MPS_MODE"]) as file:
        how = file.read().strip()
    note(pid=os.getpid(), pipe=PIPES, log=os.environ["CUDA_MPS_LOG_DIRECTORY"],
         visible=os.environ.get("CUDA_VISIBLE_DEVICES"), ours=[name for name in os.environ if name.startswith("IVGPU_")],
         descriptors=sorted(int(name) for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{name}")))
    print("hello from the control daemon", flush=True)
    if how == "ends":
        sys.exit(3)
    if how == "mute":
        time.sleep(1000)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(CONTROL)
    listener.listen()
    listener.settimeout(0.02)
    server = start_server()
    look_at = 0
    try:
        while True:
            if time.monotonic() >= look_at:
                if server.poll() is not None:
                    server = start_server()
                look_at = time.monotonic() + LOOK_S
            try:
                client, _ = listener.accept()
            except TimeoutError:
                continue
            if client.recv(256).startswith(b"quit"):
                return
    finally:
        server.kill()
        server.wait()


main()
