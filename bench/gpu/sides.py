"""Runs programs on the two sides that are compared, natively and through ivgpu-run, and reads their figures."""
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile

SIDES = ("native", "ivgpu")
RUN_SECONDS_MAX = 150
FIGURE = re.compile(r"^(\S.*?)\s+([0-9]+(?:\.[0-9]+)?)\s+(ns|us|ms|s|GB/s|tok/s)$")
HIGHER_IS_BETTER = ("GB/s", "tok/s")


def order_of(number):
    """A round starts with the other side than the one before, so that what drifts favours neither."""
    return SIDES if number % 2 == 0 else SIDES[::-1]


class Sides:
    """Where the programs are and how each side runs them. Device "soft" compares the soft GPU with itself, for tests."""

    def __init__(self, build, device):
        self.build, self.device = os.path.abspath(build), device
        self.bin = os.path.join(self.build, "bin")
        self.call_bench = os.path.join(self.bin, "ivgpu-call-bench")

    def missing(self):
        return [p for p in (os.path.join(self.bin, n) for n in ("ivgpu-run", "ivgpu-call-bench", "ivgpu-ring-bench"))
                if not os.access(p, os.X_OK)]

    def ivgpu_run(self, *options):
        return [os.path.join(self.bin, "ivgpu-run"), "--device", self.device, *options, "--"]

    def environment(self, side):
        environment = dict(os.environ)
        if side == "native" and self.device == "soft":
            environment["LD_LIBRARY_PATH"] = os.path.join(self.build, "lib", "ivgpu-host", "softgpu")
        return environment

    def run(self, side, command, options=()):
        """The finished program, or None after its end was told on stderr."""
        words = list(command) if side == "native" else self.ivgpu_run(*options) + list(command)
        try:
            done = subprocess.run(words, env=self.environment(side), capture_output=True, text=True,
                                  timeout=RUN_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            print(f"bench-gpu: {side}: {os.path.basename(command[0])} did not end in {RUN_SECONDS_MAX} s", file=sys.stderr)
            return None
        if done.returncode != 0:
            print(f"bench-gpu: {side}: {' '.join(command)} ended with {done.returncode}", file=sys.stderr)
            for line in (done.stdout + done.stderr).splitlines()[-6:]:
                print(f"    {line}", file=sys.stderr)
        return done


class Figures:
    """Medians over runs, by name and side."""

    def __init__(self):
        self.units, self.values, self.curves, self.answers, self.notes = {}, {}, {}, {}, []

    def add(self, side, name, unit, value):
        self.units[name] = unit
        self.values.setdefault(name, {}).setdefault(side, []).append(value)

    def get(self, side, name):
        values = self.values.get(name, {}).get(side)
        return statistics.median(values) if values else None

    def ratio(self, name):
        native, ivgpu = self.get("native", name), self.get("ivgpu", name)
        return ivgpu / native if native and ivgpu is not None else None

    def spread(self, name):
        """By what share of their median native runs differ; None for one run."""
        values = self.values.get(name, {}).get("native", [])
        return (max(values) - min(values)) / statistics.median(values) if len(values) > 1 else None

    def curve(self, name, side):
        """(percent, ns), each percent the median over runs."""
        runs = self.curves.get((name, side), [])
        return [(points[0][0], statistics.median(p[1] for p in points)) for points in zip(*runs)]

    def results(self):
        return [{"name": name, "unit": self.units[name], "native": self.get("native", name),
                 "ivgpu": self.get("ivgpu", name), "ratio": self.ratio(name)} for name in self.values]

    def note(self, text):
        if text not in self.notes:
            self.notes.append(text)


def run_calls(sides, figures, side, options, run_options=(), name_of=str):
    """One run of ivgpu-call-bench. name_of: what a figure of its is to be called."""
    with tempfile.TemporaryDirectory(prefix="ivgpu-bench.") as folder:
        path = os.path.join(folder, "figures.json")
        done = sides.run(side, [sides.call_bench, "--json", path, *options], run_options)
        if not done or done.returncode != 0:
            figures.note(f"{side}: ivgpu-call-bench failed: figures after that are missing")
        if not os.path.exists(path):
            figures.note(f"{side}: ivgpu-call-bench gave no figures")
            return
        with open(path, encoding="utf-8") as file:
            told = json.load(file)
    for one in told["results"]:
        figures.add(side, name_of(one["name"]), one["unit"], one["value"])
    for one in told["distributions"]:
        figures.curves.setdefault((one["name"], side), []).append(one["percentiles"])
    for one in told["not_measured"]:
        figures.note(f"{side}: {one['name']} not measured: {one['why']}")


PROCESSES = 6


def run_sustained(sides, figures, flags):
    """Sustained launches in processes of their own, in turn: what one takes differs from process to process by a fifth,
    natively too, and by less within one."""
    for number in range(PROCESSES):
        for side in order_of(number):
            run_calls(sides, figures, side, [*flags, "--only", "launch_sustained_1_thread"])


def run_torch(sides, figures, side, script, *workloads):
    """One run of a script that prints `name  value unit` lines, and `answer name …` lines to be compared."""
    done = sides.run(side, [sys.executable, script, *workloads])
    for line in done.stdout.splitlines() if done else []:
        match = FIGURE.match(line)
        if match:
            figures.add(side, match.group(1), match.group(3), float(match.group(2)))
        elif line.startswith("answer "):
            _, name, value = line.split(" ", 2)
            figures.answers.setdefault(name, {}).setdefault(side, value)
        elif line.startswith(("left out: ", "failed: ", "FAIL ")):
            figures.note(f"{side}: {line}")
    if not done or done.returncode != 0:
        figures.note(f"{side}: {os.path.basename(script)} failed")


def run_torch_processes(sides, figures, script, *workloads):
    """The same for what differs from process to process as sustained launches do."""
    for number in range(PROCESSES):
        for side in order_of(number):
            run_torch(sides, figures, side, script, *workloads)


# ---- what only ivgpu has ----

def run_ring(sides, figures):
    with tempfile.NamedTemporaryFile(suffix=".json") as told:
        done = subprocess.run([os.path.join(sides.bin, "ivgpu-ring-bench"), "--rings", "ivgpu", "--producers", "1", "--payloads",
                               "56", "--json", told.name], capture_output=True, text=True, timeout=RUN_SECONDS_MAX, check=False)
        results = json.load(told)["results"] if done.returncode == 0 else []
    if results:
        figures.add("ivgpu", "ring_round_trip_over_line", "x", results[0]["rtt_p50_ns"] / results[0]["floor_rtt_p50_ns"])
    else:
        figures.note(f"ivgpu-ring-bench gave no figure: {done.stdout.strip()} {done.stderr.strip()}")


WAITING, PAUSE_MS = 2, 1500  # contexts ready, and how long one takes to be replaced, at most


def run_start_waiting(sides, figures, quick):
    """cuInit and a primary context where executors wait with theirs."""
    options = ["--only", "start_context_cold", "--start-pause", str(PAUSE_MS), *(["--quick"] if quick else [])]
    run_calls(sides, figures, "ivgpu", options, ["--warm", str(WAITING)], lambda name: name.replace("_cold", "_waiting"))
