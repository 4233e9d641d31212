"""Sends one command to a QEMU monitor (QMP): qmp.py SOCKET COMMAND [ARGUMENTS as JSON]. Exit code 1 and QEMU's words if it refuses."""
import json
import socket
import sys

path, command = sys.argv[1:3]
arguments = json.loads(sys.argv[3]) if len(sys.argv) > 3 else {}
monitor = socket.socket(socket.AF_UNIX)
monitor.settimeout(5)
monitor.connect(path)
lines = monitor.makefile("rw")
lines.readline()  # the greeting
for request, values in (("qmp_capabilities", {}), (command, arguments)):
    lines.write(json.dumps({"execute": request, "arguments": values}) + "\n")
    lines.flush()
    answer = json.loads(lines.readline())
    while "event" in answer:
        answer = json.loads(lines.readline())
    if "return" not in answer:
        sys.exit(f"qmp: {request}: {answer}")
