#!/usr/bin/env python3
"""What one mediator's guest exported, alive, means nothing under another mediator: handles, and descriptors of memory."""

import os
import subprocess
import sys

RUN = [os.path.join(os.environ["IVGPU_BIN"], "ivgpu-run"), "--device", "soft", "--"]


def refused(program, is_handle):
    exporter = subprocess.Popen(RUN + [program, "export"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        handle = exporter.stdout.readline().strip()
        if not is_handle(handle) or exporter.poll() is not None:
            sys.exit(f"no handle: '{handle}'")
        stranger = subprocess.run(RUN + [program, "stranger", handle], timeout=60, check=False)
        if stranger.returncode != 0:
            sys.exit(f"the stranger ended with {stranger.returncode}")
        exporter.communicate("\n", timeout=60)
        if exporter.returncode != 0:
            sys.exit(f"the exporter ended with {exporter.returncode}")
    finally:
        exporter.kill()
        exporter.wait()


refused(sys.argv[1], lambda text: len(text) == 128)
refused(sys.argv[2], lambda text: text.startswith("/proc/"))
print("ok")
