#!/usr/bin/env python3
"""Runs a program with NVIDIA's libcudart of a toolkit, which it gets once from the Python package index.

usage: with_runtime.py TOOLKIT COMMAND...    every word RUNTIME of the command becomes the library's path
       with_runtime.py --fetch               gets all of runtimes.txt

Packages are pinned by their hash and kept in $IVGPU_RUNTIMES, or in ivgpu/runtimes of the user's cache folder. Exits 77
(skipped), with words, when the library is neither there nor to be had."""

import os
import subprocess
import sys
import tempfile
import zipfile

LIST = os.path.join(os.path.dirname(os.path.abspath(__file__)), "runtimes.txt")
SKIPPED = 77
DOWNLOAD_S = 120


def toolkits():
    """{toolkit: (requirement, hash, library)}"""
    with open(LIST, encoding="utf-8") as file:
        rows = [line.split() for line in file if line.strip() and not line.startswith("#")]
    return {row[0]: tuple(row[1:]) for row in rows}


def folder():
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.environ.get("IVGPU_RUNTIMES") or os.path.join(cache, "ivgpu", "runtimes")


def download(requirement, hash_, library, target):
    """None, or why not. pip checks the hash; the library appears whole or not at all."""
    with tempfile.TemporaryDirectory() as work:
        wanted = os.path.join(work, "requirements.txt")
        with open(wanted, "w", encoding="utf-8") as file:
            file.write(f"{requirement} --hash={hash_}\n")
        try:
            result = subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-input",
                                     "--disable-pip-version-check", "--only-binary", ":all:", "--require-hashes",
                                     "--retries", "1", "--timeout", "15", "--dest", work, "--requirement", wanted],
                                    capture_output=True, text=True, timeout=DOWNLOAD_S, check=False)
        except subprocess.TimeoutExpired:
            return f"no answer of the package index within {DOWNLOAD_S} s"
        if result.returncode != 0:
            return (result.stderr.strip().splitlines() or ["pip failed"])[-1]
        (wheel,) = [name for name in os.listdir(work) if name.endswith(".whl")]
        with zipfile.ZipFile(os.path.join(work, wheel)) as package:
            (member,) = [name for name in package.namelist() if os.path.basename(name) == library]
            os.makedirs(os.path.dirname(target), exist_ok=True)
            part = f"{target}.{os.getpid()}"
            with open(part, "wb") as file:
                file.write(package.read(member))
    os.rename(part, target)
    return None


def library_of(toolkit):
    """(path, None) or (None, why not)"""
    requirement, hash_, library = toolkits()[toolkit]
    target = os.path.join(folder(), requirement, library)
    if os.path.exists(target):
        return target, None
    why = download(requirement, hash_, library, target)
    return (None, f"{requirement}: {why}") if why else (target, None)


def main():
    if sys.argv[1:] == ["--fetch"]:
        lacking = [why for _, why in map(library_of, toolkits()) if why]
        sys.exit("\n".join(lacking) or 0)
    if len(sys.argv) < 3 or sys.argv[1] not in toolkits():
        sys.exit(f"usage: with_runtime.py {'|'.join(toolkits())} COMMAND...")
    path, why = library_of(sys.argv[1])
    if why:
        print(f"SKIPPED: the runtime of toolkit {sys.argv[1]} cannot be had: {why}")
        sys.exit(SKIPPED)
    command = [path if word == "RUNTIME" else word for word in sys.argv[2:]]
    os.execvp(command[0], command)


main()
