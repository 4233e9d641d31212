"""Sends one command to a QEMU monitor (QMP): qmp.py SOCKET COMMAND. Exit code 1 and QEMU's words if it refuses."""
import json
import socket
import sys

path, command = sys.argv[1:3]
monitor = socket.socket(socket.AF_UNIX)
monitor.settimeout(5)
monitor.connect(path)
lines = monitor.makefile("rw")
lines.readline()  # the greeting
for request in ("qmp_capabilities", command):
    lines.write(json.dumps({"execute": request}) + "\n")
    lines.flush()
    answer = json.loads(lines.readline())
    while "event" in answer:
        answer = json.loads(lines.readline())
    if "return" not in answer:
        sys.exit(f"qmp: {request}: {answer}")
