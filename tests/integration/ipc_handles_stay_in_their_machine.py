#!/usr/bin/env python3
"""A handle that one mediator's guest exported, alive, means nothing under another mediator; under its own it does."""

import os
import subprocess
import sys

PROGRAM = sys.argv[1]
RUN = [os.path.join(os.environ["IVGPU_BIN"], "ivgpu-run"), "--device", "soft", "--"]


def main():
    exporter = subprocess.Popen(RUN + [PROGRAM, "export"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        handle = exporter.stdout.readline().strip()
        if len(handle) != 128 or exporter.poll() is not None:
            sys.exit(f"no handle: '{handle}'")
        stranger = subprocess.run(RUN + [PROGRAM, "stranger", handle], timeout=60, check=False)
        if stranger.returncode != 0:
            sys.exit(f"the stranger ended with {stranger.returncode}")
        exporter.communicate("\n", timeout=60)
        if exporter.returncode != 0:
            sys.exit(f"the exporter ended with {exporter.returncode}")
    finally:
        exporter.kill()
        exporter.wait()
    print("ok")


main()
