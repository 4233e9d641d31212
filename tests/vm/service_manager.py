#!/usr/bin/env python3
"""Plays systemd for one service: starts COMMAND, keeps the descriptors that it gives to the store, and hands them over when it starts
it anew: each time that it has ended and the file FOLDER/again is there, which is removed. FOLDER/pid holds its process number.
SIGTERM ends both. usage: service_manager.py FOLDER COMMAND..."""
import os
import signal
import socket
import sys

folder, command = sys.argv[1], sys.argv[2:]
again = os.path.join(folder, "again")
kept = []  # (name, descriptor)


def start():
    # Above the numbers that they get, which then overwrite nothing.
    high = [os.dup2(fd, 1000 + i) for i, (_, fd) in enumerate(kept)]
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        for i, fd in enumerate(high):
            os.dup2(fd, 3 + i)
            os.close(fd)
        environment = dict(os.environ, NOTIFY_SOCKET=os.path.join(folder, "notify"))
        if kept:
            environment.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(kept)), LISTEN_FDNAMES=":".join(name for name, _ in kept))
        os.execve(command[0], command, environment)
    for fd in high:
        os.close(fd)
    with open(os.path.join(folder, "pid.new"), "w") as file:
        file.write(f"{child}\n")
    os.rename(os.path.join(folder, "pid.new"), os.path.join(folder, "pid"))
    return child


def end(*_):
    if child:
        os.kill(child, signal.SIGTERM)
        os.waitpid(child, 0)
    sys.exit(0)


os.makedirs(folder, exist_ok=True)
news = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
news.bind(os.path.join(folder, "notify"))
news.settimeout(0.05)
child = start()
signal.signal(signal.SIGTERM, end)
while True:
    try:
        data, fds, _, _ = socket.recv_fds(news, 4096, 1)
        lines = dict(line.split("=", 1) for line in data.decode().splitlines())
        kept += [(lines["FDNAME"], fd) for fd in fds]
        if "FDSTOREREMOVE" in lines:
            for name, fd in [one for one in kept if one[0] == lines["FDNAME"]]:
                os.close(fd)
                kept.remove((name, fd))
        continue
    except TimeoutError:
        pass
    if child and os.waitpid(child, os.WNOHANG)[0]:
        child = 0
    if not child and os.path.exists(again):
        os.remove(again)
        child = start()
