#!/usr/bin/env python3
"""Runs the Spin models of the ring, each as it is (must hold) and in each of its variants (must fail as it says).

A model names its variants in its head comment, one a line:
     * variant NAME: assertion EXPRESSION
NAME is the macro that takes a barrier, a check or an order away; EXPRESSION is what pan reports as violated.
usage: run.py [--list] [MODEL ...]     MODEL: file name without .pml; all without one"""
import argparse
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
VARIANT = re.compile(r"^ \* variant ([A-Z0-9_]+): assertion (.+)$", re.MULTILINE)
SECONDS_MAX = 120  # a search needs under 5 on one idle core
MEMORY_MAX_MIB = 1024
DEPTH_MAX = 20000  # a few hundred are reached


class Wrong(Exception):
    pass


def command(words, folder):
    """Output of a command that must end by itself and with 0."""
    try:
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=SECONDS_MAX, check=False)
    except subprocess.TimeoutExpired as late:
        raise Wrong(f"{words[0]} was not done after {SECONDS_MAX} s") from late
    if done.returncode != 0:
        raise Wrong(f"{' '.join(map(str, words))} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def number(pattern, output, what):
    found = re.search(pattern, output)
    if not found:
        raise Wrong(f"pan said nothing about {what}:\n{output}")
    return found.group(1)


def explore(model, macros):
    """What pan prints about the model, searched with these macros."""
    with tempfile.TemporaryDirectory(prefix="ivgpu-model.") as folder:
        for source in HERE.glob("*.pml"):
            shutil.copy(source, folder)
        said = command(["spin", *[f"-D{macro}" for macro in macros], "-a", model.name], folder)
        if "Error" in said or "error:" in said:
            raise Wrong(said)
        # Compiling takes the time: clang without optimisation is done first. A million states fit without compression.
        command(["clang", "-O0", "-w", "-DSAFETY", f"-DMEMLIM={MEMORY_MAX_MIB}", "-o", "pan", "pan.c"], folder)
        # -E: the models themselves assert what must hold once nothing can move (timeout).
        return command(["./pan", "-E", f"-m{DEPTH_MAX}", "-w20"], folder)


def check_complete(output):
    """Searched to the end, without an error, and no statement of the model that never ran."""
    if number(r"errors: (\d+)", output, "errors") != "0":  # ends the search, too
        raise Wrong(f"the model does not hold:\n{output}")
    for limit in ("max search depth too small", "Search not completed", "out of memory", "memory limit"):
        if limit in output:
            raise Wrong(f"the search is not complete ({limit}):\n{output}")
    for lines in re.findall(r"^unreached in (?:proctype|init) .*\n((?:\t.*\n)*)", output, re.MULTILINE):
        for line in lines.splitlines():
            if '"-end-"' not in line and re.match(r"\t\S+:\d+, state", line):
                raise Wrong(f"a statement was never reached, so the model shows nothing about it:\n{output}")


def bare(text):
    """pan drops some blanks and brackets of an expression and keeps others."""
    return re.sub(r"[ ()]", "", text)


def check_fails(model, output, expression):
    defined = dict(re.findall(r"^#define ([A-Z_]+) (\d+)\b", model.read_text(encoding="utf-8"), re.MULTILINE))
    expanded = re.sub(r"\b[A-Z_]+\b", lambda name: defined.get(name.group(), name.group()), expression)
    wanted = bare(f"assertion violated ({expanded}) (at depth")
    if number(r"errors: (\d+)", output, "errors") == "0":
        raise Wrong("the variant holds: the model does not see the fault")
    if wanted not in bare(output):
        raise Wrong(f"another failure than ({expression}):\n{output}")


def run(model, variant, expression):
    begin = time.monotonic()
    output = explore(model, [variant] if variant else [])
    if variant:
        check_fails(model, output, expression)
    else:
        check_complete(output)
    states = number(r"(\d+) states, stored", output, "states")
    mib = float(number(r"([\d.]+)\s+total actual memory usage", output, "memory"))
    verdict = f"fails: {expression}" if variant else "holds"
    name = model.stem + (f" {variant}" if variant else "")
    print(f"{name:<44} {int(states):>9} states {mib:7.0f} MiB {time.monotonic() - begin:5.1f} s  {verdict}", flush=True)


def runs_of(model):
    text = model.read_text(encoding="utf-8")
    variants = VARIANT.findall(text)
    tested = set(re.findall(r"#ifn?def ([A-Z0-9_]+)|defined\(([A-Z0-9_]+)\)", text))
    tested = {first or second for first, second in tested}
    if not variants or tested != {name for name, _ in variants}:
        raise Wrong(f"{model.name}: variants named {sorted(n for n, _ in variants)}, tested in the text {sorted(tested)}")
    return [(None, None), *variants]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="print models and variants, run nothing")
    parser.add_argument("models", nargs="*")
    arguments = parser.parse_args()
    models = sorted(path for path in HERE.glob("*.pml") if path.name != "memory.pml")
    unknown = set(arguments.models) - {model.stem for model in models}
    if unknown:
        parser.error(f"no such model: {', '.join(sorted(unknown))}")
    if not shutil.which("spin"):
        print("spin is missing (tools/setup installs it)", file=sys.stderr)
        return 1
    failures = 0
    for model in models:
        if arguments.models and model.stem not in arguments.models:
            continue
        try:
            runs = runs_of(model)
        except Wrong as wrong:
            print(f"WRONG {wrong}", file=sys.stderr)
            failures += 1
            continue
        for variant, expression in runs:
            if arguments.list:
                print(model.stem, variant or "")
                continue
            try:
                run(model, variant, expression)
            except Wrong as wrong:
                failures += 1
                print(f"WRONG {model.stem} {variant or ''}: {wrong}", file=sys.stderr, flush=True)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
