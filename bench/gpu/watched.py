"""What is read from outside while a program runs: processor time while it idles, doorbells while it launches."""
import json
import os
import re
import subprocess
import time

SETTLE_S = 3  # what a start leaves behind; after one second without work the mediator looks seldom
THREADS_TOLD = 4
RING_FILLED_CALLS = 8192  # more than the ring holds
SAMPLES_MIN = 2


def _processes_below(root):
    parents = {}
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{entry}/stat", encoding="utf-8") as file:
                parents[int(entry)] = int(file.read().rsplit(")", 1)[1].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            pass
    found = {root}
    while more := {process for process, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def _name(process):
    with open(f"/proc/{process}/comm", encoding="utf-8") as file:
        return file.read().strip()


# ---- a program that idles ----

def _threads(root):
    """{(process, its name, thread, its name): (ns of processor time, times it has slept)} of a process and all below it.
    The scheduler's own count, which is finer than ticks."""
    seen = {}
    for process in _processes_below(root):
        try:
            name = _name(process)
            for thread in os.listdir(f"/proc/{process}/task"):
                with open(f"/proc/{process}/task/{thread}/schedstat", encoding="utf-8") as file:
                    run_ns = int(file.read().split()[0])
                with open(f"/proc/{process}/task/{thread}/status", encoding="utf-8") as file:
                    status = file.read()
                sleeps = int(re.search(r"^voluntary_ctxt_switches:\s*([0-9]+)", status, re.M)[1])
                seen[process, name, thread, re.search("Name:\t(.*)", status)[1]] = run_ns, sleeps
        except (FileNotFoundError, ProcessLookupError):
            pass  # it has just ended
    return seen


def _told(spent, seconds):
    parts = []
    for who in sorted(spent, key=lambda who: -spent[who][0])[:THREADS_TOLD]:
        run_ns, sleeps = spent[who]
        name = who[1] if who[1] == who[3] else f"{who[1]}/{who[3]}"
        parts.append(f"{name} {run_ns / 1e7 / seconds:.4f} % in {sleeps / seconds:.1f} wake-ups a second")
    return "; ".join(parts)


def run_idle(sides, figures, side, seconds):
    """Processor time while the program does nothing: natively its own, where the driver's threads wake by themselves;
    through ivgpu that of program, mediator and executor, where the same driver lies."""
    words = [sides.call_bench, "--idle", str(seconds + SETTLE_S + 5)]
    child = subprocess.Popen(words if side == "native" else sides.ivgpu_run() + words, stdout=subprocess.PIPE, text=True,
                             env=sides.environment(side))
    try:
        if child.stdout.readline() != "idle\n":
            figures.note(f"{side}: idle processor time not measured: the program did not start")
            return
        time.sleep(SETTLE_S)
        before = _threads(child.pid)
        begun = time.monotonic()
        time.sleep(seconds)
        after, took = _threads(child.pid), time.monotonic() - begun
        processes = {process for process, *_ in after}
        if side == "ivgpu" and len(processes) < 4:
            figures.note(f"idle processor time is that of {len(processes)} processes: not all were found")
        spent = {who: tuple(now - then for now, then in zip(after[who], before.get(who, (0, 0)))) for who in after}
        spent = {who: counts for who, counts in spent.items() if counts[0] > 0}
        figures.add(side, "idle_processor_time", "%", sum(run_ns for run_ns, _ in spent.values()) / 1e7 / took)
        figures.note(f"{side}: idle: {_told(spent, took) or 'no thread ran'}")
    finally:
        child.terminate()
        child.communicate()


# ---- a program that launches without a pause ----

def _sample(sides, mediator):
    """(calls, doorbells) of the program's one channel, or None."""
    done = subprocess.run([os.path.join(sides.bin, "ivgpu-dump"), "--json", "--age=0", "--calls=0", "--pid", str(mediator)],
                          capture_output=True, text=True, timeout=20, check=False)
    threads = [thread for line in done.stdout.splitlines() for channel in json.loads(line)["channels"]
               for thread in channel["threads"]]
    return (sum(t["calls"] for t in threads), sum(t["doorbells"] for t in threads)) if threads else None


def _mediator_below(root):
    for process in _processes_below(root):
        try:
            if _name(process) == "ivgpud":
                return process
        except (FileNotFoundError, ProcessLookupError):
            pass
    return None


def run_doorbells(sides, figures, launches):
    """Doorbells between two looks at a channel while its program launches: the first when more calls are through than the
    ring holds, the last before the last launch. What start and end ring is outside."""
    program = os.path.join(sides.build, "tests", "cuda", "launch_rate")
    if not os.access(program, os.X_OK):
        figures.note("doorbells under load not counted: there is no tests/cuda/launch_rate")
        return
    child = subprocess.Popen([*sides.ivgpu_run(), program, str(launches)], stdout=subprocess.DEVNULL,
                             env=sides.environment("ivgpu"))
    samples, mediator = [], None
    while child.poll() is None:
        mediator = mediator or _mediator_below(child.pid)
        sample = _sample(sides, mediator) if mediator else None
        if sample and RING_FILLED_CALLS <= sample[0] < launches:
            samples.append(sample)
        time.sleep(0.005)
    if child.returncode != 0 or len(samples) < SAMPLES_MIN:
        figures.note(f"doorbells under load not counted: launch_rate ended with {child.returncode}, {len(samples)} looks")
        return
    (first, rung_before), (last, rung) = samples[0], samples[-1]
    figures.add("ivgpu", "doorbells_under_load", "count", float(rung - rung_before))
    figures.note(f"ivgpu: {rung - rung_before} doorbells in {last - first} launches without a pause")
