"""NVIDIA's own nvidia-smi over whichever libnvidia-ml.so.1 the loader finds: plain, -q, and a query, with the
machine's names."""

import os
import re
import shutil
import subprocess

import support

LIMIT_S = 60
TOTAL_WITHIN = 0.02  # NVML counts what the driver keeps for itself, CUDA does not
PLACES = ("/usr/local/nvidia/bin/nvidia-smi", "/usr/bin/nvidia-smi")


def _ask(*arguments):
    program = shutil.which("nvidia-smi") or next((place for place in PLACES if os.access(place, os.X_OK)), None)
    if program is None:
        support.say("missing nvidia-smi")
        raise SystemExit(support.EXIT_MISSING)
    done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=LIMIT_S)
    words = (done.stdout.strip().splitlines() or [""])[-1] + " " + done.stderr.strip()[-200:]
    support.check(done.returncode == 0, "exit code", done.returncode, words)
    return done.stdout


def _field(text, name):
    match = re.search(rf"^\s*{re.escape(name)}\s*:\s*(.+?)\s*$", text, re.MULTILINE)
    support.check(match, name, "is not in the output")
    return match[1]


def plain():
    text = _ask()
    match = re.search(r"Driver Version:\s*(\S+)\s+CUDA Version:\s*(\S+)", text)
    support.check(match, "no versions in:", text[:200])
    support.result("versions", match[1] + " " + match[2])
    support.check(re.search(r"\d+MiB\s*/\s*\d+MiB", text), "no memory usage in the table")
    support.result("total_mib", re.search(r"MiB\s*/\s*(\d+)MiB", text)[1], within=TOTAL_WITHIN)


def everything():
    text = _ask("-q")
    for name in ("Product Name", "Product Architecture", "GPU UUID", "Driver Version", "CUDA Version", "Attached GPUs"):
        support.result(name.replace(" ", "_"), _field(text, name))
    block = text[text.index("FB Memory Usage") :][:400]
    support.result("fb_total_mib", _field(block, "Total").split()[0], within=TOTAL_WITHIN)


def query():
    text = _ask("--query-gpu=name,memory.total,memory.used", "--format=csv")
    lines = text.strip().splitlines()
    support.check(lines[0].startswith("name, memory.total"), "head", lines[0])
    support.result("lines", len(lines))
    name, total, used = [cell.strip() for cell in lines[1].split(",")]
    support.result("name", name)
    support.result("total_mib_asked", total.split()[0], within=TOTAL_WITHIN)
    support.check(re.fullmatch(r"\d+ MiB", used), "used", used)


def more_queries():
    text = _ask(
        "--query-gpu=index,uuid,driver_version,compute_cap,pci.bus_id,temperature.gpu,utilization.gpu,power.draw",
        "--format=csv,noheader,nounits",
    )
    cells = [cell.strip() for cell in text.strip().splitlines()[0].split(",")]
    support.result("identity", " ".join(cells[:4]))
    support.check(len(cells) == 8, "cells", cells)
    support.result("list", " ".join(_ask("-L").split())[:200])


support.run(plain, everything, query, more_queries)
