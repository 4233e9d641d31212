"""What tests/gpu/shares looks at: a function for each kind of question, its answers as rows of the report.

Shares are of GPU time, as the programs' own kernels tell it by the device's clock (tests/cuda/share.c): they owe nothing
to ivgpu's measuring. What that says stands beside them, and progress: a program's kernels a second as a part of those
that it makes alone under the same policy. Progress lacks what a program loses of its own time, beside what others have."""

import os
import signal
import subprocess
import time

from harness import host_nvml, tenants

OK, MISSED, FIGURE, ABSENT = "ok", "MISSED", "figure", "absent"
MIB = 1 << 20
THREADS, BLOCKS = 1024, 264  # of a kernel that fills the GPU: an H200's 132 SMs hold so many
KERNEL_US = 500
CALIBRATE_ROUNDS = 20000
SOFT_BLOCK_NS = 100000
IDLE_US = 200000  # the pause of a program that mostly idles
CAP_MARGIN_MIB = 64  # of each program's own needs, once it runs
USED_SLACK_MIB = 64
RECOVER_S = 20  # an MPS server takes no new client (807) while one that had a part in a fault is there


class Bench:
    """What all questions share: the machine, times, lengths of kernels, the report."""

    def __init__(self, build, device, logs, report, seconds):
        self.build, self.device, self.logs, self.report, self.seconds = build, device, logs, report, seconds
        self.mps = tenants.mps_program() if device == "cuda" else None
        self.rounds, self.solo, self.machines = 0, {}, 0
        self.more = {}
        if device == "soft":
            self.more = {"IVGPU_SOFT_BLOCK_NS": str(SOFT_BLOCK_NS), "IVGPU_SOFT_ENGINE": os.path.join(logs, "engine")}

    def folder(self, name):
        self.machines += 1
        return os.path.join(self.logs, f"{self.machines:02d}-{name}")

    def plain(self, name, more=None):
        return tenants.Plain(self.build, self.device, self.folder(name), dict(self.more, **(more or {})))

    def vms(self, name, vms, policy, more=None):
        return tenants.Vms(self.build, self.device, self.folder(name), vms, policy, more=dict(self.more, **(more or {})))

    def work(self, kind, mode, seconds, think_us=0):
        """The load program's words: kind "kernel" fills the GPU for KERNEL_US, "tiny" hardly uses it."""
        if kind == "tiny":
            return ("share", mode, seconds, 1, think_us)
        if self.device == "soft":
            return ("share", mode, seconds, KERNEL_US * 1000 // SOFT_BLOCK_NS, think_us)
        return ("share", mode, seconds, BLOCKS, think_us, self.rounds, THREADS)

    def calibrate(self):
        """How many rounds take KERNEL_US."""
        self.rounds = CALIBRATE_ROUNDS
        with self.plain("calibrate") as machine:
            (result,) = machine.run([(0, *self.work("kernel", "closed", 0.3))])
            self.rounds = max(1, int(CALIBRATE_ROUNDS * KERNEL_US / result["p50_us"]))
            (again,) = machine.run([(0, *self.work("kernel", "closed", 0.3))])
        self.report.row(FIGURE, "a kernel that fills the GPU", f"{again['p50_us']:.0f} us", f"{self.rounds} rounds")

    def verdict(self, holds, at_all):
        """Of a promise. On the soft GPU a figure will do where something is seen at all: a program that gets no processor
        asks for no GPU. What the policy promises there, tests/integration/scheduler.py holds, with nothing beside it."""
        return OK if holds else FIGURE if self.device == "soft" and at_all else MISSED


def with_mps(bench, question, name):
    """Runs `question` with an MPS server's environment, or says why not."""
    if bench.mps is None:
        words = "the soft GPU has none" if bench.device == "soft" else f"no {tenants.MPS_PROGRAM} on this machine"
        bench.report.row(ABSENT, name, words)
        return
    with tenants.MpsServer(bench.mps, bench.folder("mps")) as server:
        try:
            question(server)
        finally:
            bench.report.note("MPS said: " + server.words())


# ---- shares ----


def rate(result):
    return result["kernels"] / result["seconds"]


def solo_rate(bench, machine, key, kind):
    """Kernels a second of a program that has the GPU for itself."""
    if (key, kind) not in bench.solo:
        (result,) = machine.run([(0, *bench.work(kind, "saturate", bench.seconds / 4))])
        bench.solo[key, kind] = rate(result)
        bench.report.row(FIGURE, f"{key}: {kind} kernels alone", f"{rate(result):.0f} 1/s")
    return bench.solo[key, kind]


MIXES = {"kernels": ("kernel", "kernel"), "launches": ("tiny", "tiny"), "mixed": ("kernel", "tiny")}


def shares(bench, key, policy, weights, mix, more=None, judged=True):
    """Programs of VMs with these weights, all wanting the GPU all the time."""
    kinds = [MIXES[mix][i % 2] for i in range(len(weights))]
    with bench.vms(f"{key}-{mix}", [{"weight": weight} for weight in weights], policy, more) as machine:
        alone = [solo_rate(bench, machine, key, kind) for kind in kinds]
        before = machine.gpu_seconds()
        results = machine.run([(i, *bench.work(kinds[i], "saturate", bench.seconds)) for i in range(len(weights))])
        gpu = [after - was for after, was in zip(machine.gpu_seconds(), before)]
    name = f"{key} {':'.join(map(str, weights))} {mix}"
    show_shares(bench, name, weights, results, alone, gpu, more is None, judged)


def parts(values):
    return [value / (sum(values) or 1) for value in values]


def in_words(values):
    return "/".join(f"{part:.3f}" for part in parts(values))


def show_shares(bench, name, weights, results, alone, gpu, apart, judged):
    """apart: one context at a time has the GPU, not several as under MPS."""
    progress, promised = [rate(r) / a for r, a in zip(results, alone)], parts(weights)
    # The soft GPU's kernels take their stated time after they have run: their clock does not tell it.
    by_clock = apart and bench.device != "soft"
    got = parts([result["device_ms"] for result in results] if by_clock else progress)
    off = max(abs(share / wanted - 1) for share, wanted in zip(got, promised))
    verdict = FIGURE
    if judged:
        verdict = bench.verdict(off <= 0.05, min(got) > 0)
    used = sum(result["device_ms"] / 1000 / result["seconds"] for result in results)
    words = f"off by {off:.1%} by {'the clock' if by_clock else 'progress'}; used in all {used:.2f}; progress {in_words(progress)}, sum {sum(progress):.2f}"
    if gpu:
        words += ", by ivgpu's events " + in_words(gpu)
    bench.report.row(verdict, name, in_words(got), words, in_words(promised))


def native_shares(bench, count, mix, more=None, key="native"):
    kinds = [MIXES[mix][i % 2] for i in range(count)]
    with bench.plain(f"{key}-{mix}", more) as machine:
        alone = [solo_rate(bench, machine, key, kind) for kind in kinds]
        results = machine.run([(i, *bench.work(kinds[i], "saturate", bench.seconds)) for i in range(count)])
    show_shares(bench, f"{key}, {count} processes, {mix}", [1] * count, results, alone, [], more is None, False)


# ---- latencies ----


def latency(result):
    return f"{result['p50_us']:.1f}/{result['p95_us']:.0f}/{result['p99_us']:.0f} us"


def high_vms(bench, name, policy, more=None):
    return bench.vms(name, [{"priority": "high"}, {"priority": "low"}, {"priority": "low"}], policy, more)


def high_beside_low(bench, key, machine, kind, lows, judged):
    """A high VM's launch to its end, alone and beside two low VMs that keep the GPU full."""
    with machine:
        (alone,) = machine.run([(0, *bench.work(kind, "closed", bench.seconds / 4))])
        high, *others = machine.run(
            [(0, *bench.work(kind, "closed", bench.seconds * 0.7))]
            + [(i, *bench.work(lows, "saturate", bench.seconds * 0.7)) for i in (1, 2)]
        )
    times = high["p50_us"] / max(alone["p50_us"], 0.1)
    verdict = FIGURE
    if judged and bench.device == "cuda":
        verdict = OK if times <= 2 else MISSED
    bench.report.row(
        verdict,
        f"{key}: launch to end, {kind}, beside 2 low {lows}",
        latency(high),
        f"{times:.1f} x alone ({latency(alone)}); low {' '.join(f'{rate(other):.0f}' for other in others)} 1/s",
        "p50 <= 2 x alone",
    )


def two_contexts(bench, key, machine):
    """What launching and waiting costs two at once."""
    with machine:
        (alone,) = machine.run([(0, *bench.work("tiny", "closed", bench.seconds / 5))])
        both = machine.run([(i, *bench.work("tiny", "closed", bench.seconds / 2)) for i in (0, 1)])
    rates = [rate(result) for result in both]
    bench.report.row(
        FIGURE,
        f"{key}: launch and wait, two at once",
        "  ".join(latency(result) for result in both),
        f"alone {latency(alone)}; less to more {min(rates) / max(rates):.2f}",
    )


def idle_share(bench, key, policy, more=None):
    """A VM of a hundredth of the weight uses what one leaves that mostly idles, and gives it back at once."""
    with bench.vms(f"{key}-idle", [{"weight": 1}, {"weight": 100}], policy, more) as machine:
        alone = solo_rate(bench, machine, key, "kernel")
        busy, idler = machine.run(
            [(0, *bench.work("kernel", "saturate", bench.seconds)),
             (1, *bench.work("kernel", "closed", bench.seconds, IDLE_US))])  # fmt: skip
    used = rate(busy) / alone
    bench.report.row(
        bench.verdict(used >= 0.9, used > 0), f"{key}: idle share used by another", f"{used:.2f} of alone", "", ">= 0.9")  # fmt: skip
    bench.report.row(
        bench.verdict(idler["p95_us"] <= 10000, idler["kernels"] > 0), f"{key}: and taken back: kernel after 0.2 s idle",
        latency(idler), f"max {idler['max_us']:.0f} us, {idler['kernels']} times", "p95 <= 10 ms")  # fmt: skip


# ---- faults ----


def new_one(bench, machine):
    """What a program gets that starts now; how many were refused before one was not, and for how long."""
    begin, refused = time.monotonic(), 0
    while True:
        try:
            (result,) = machine.run([(0, *bench.work("tiny", "closed", bench.seconds / 10))])
            return result, refused, time.monotonic() - begin
        except tenants.Failed:
            if time.monotonic() - begin > RECOVER_S:
                raise
            refused += 1
            time.sleep(0.2)


def fault_beside(bench, key, machine, judged):
    """What two working programs see of one that writes where it must not, and whether a new one starts."""
    with machine:
        others = [machine.start(i, *bench.work("tiny", "closed", bench.seconds)) for i in (0, 1)]
        for other in others:
            other.line(tenants.READY_S)
        for other in others:
            other.go()
        time.sleep(bench.seconds / 8)
        bad = machine.start(2, "fault")
        bad_exit = bad.end()
        if any(other.process.poll() == 0 for other in others):
            raise tenants.Failed("the others had ended before the fault: more --seconds")
        seen = []
        for other in others:
            try:
                other.result(bench.seconds + 10)
                seen.append("unharmed")
            except tenants.Failed:
                seen.append(f"ended ({other.errors()})")
        after, refused, waited = new_one(bench, machine)
    unharmed = seen == ["unharmed", "unharmed"]
    words = f"the faulting one: exit {bad_exit} {bad.errors() if bad_exit else ''}; a new one works ({after['kernels']} kernels)"
    if refused:
        words += f", {refused} were refused before, within {waited:.1f} s"
    verdict = FIGURE
    if judged:
        verdict = OK if unharmed and bad_exit == 0 and refused == 0 else MISSED
    bench.report.row(
        verdict, f"{key}: others beside a faulting one", "unharmed" if unharmed else "; ".join(seen), words, "unharmed")  # fmt: skip


def mps_by_ivgpud(bench):
    """A pool with mps = "on": its own control daemon serves; its server is killed, and programs start under the next."""
    if bench.mps is None:
        bench.report.row(ABSENT, "mps-by-ivgpud", "no MPS here")
        return
    folder = bench.folder("mps-by-ivgpud")
    keys = f'mps_program = "{bench.mps}";'
    machine = tenants.Vms(bench.build, bench.device, folder, [{}, {}], "fair", 'mps = "on";', bench.more, keys)
    with machine:
        (pool_told, *_) = machine.ctl("list")["pools"]
        (alone,) = machine.run([(0, *bench.work("tiny", "closed", bench.seconds / 8))])
        both = machine.run([(i, *bench.work("tiny", "closed", bench.seconds / 4)) for i in (0, 1)])
        found = [line for line in machine.mediator.log().splitlines() if "serves its executors" in line]
        bench.report.row(
            OK if pool_told["mps"] == "on" and found else MISSED, 'pool with mps = "on": two launch and wait',
            "  ".join(latency(result) for result in both),
            f"alone {latency(alone)}; mps {pool_told['mps']}; {found[-1].split('ivgpud: ')[-1] if found else 'no server seen'}",
            "a server of its own")  # fmt: skip
        if not found:
            raise tenants.Failed("log: " + " | ".join(machine.mediator.log().splitlines()[-6:])[-800:])
        victim = machine.start(0, *bench.work("tiny", "closed", bench.seconds * 2))
        victim.line(tenants.READY_S)
        victim.go()
        time.sleep(0.3)
        os.kill(int(found[-1].split("server ")[1].split()[0]), signal.SIGKILL)
        try:
            victim.result()
            seen = "went on"
        except tenants.Failed:
            seen = f"ended ({victim.errors()})"
        (after,) = machine.run([(1, *bench.work("tiny", "closed", bench.seconds / 10))])
        bench.report.row(
            OK if seen != "went on" else MISSED, "its server killed: the program that ran", seen[:200],
            f"a new one works ({after['kernels']} kernels)", "ended, by name")  # fmt: skip


# ---- memory ----


def card_memory(bench):
    """MiB that four programs of ours find free together when each has its context."""
    if bench.device == "soft":
        return 1024
    device = host_nvml.Device()
    with bench.vms("contexts", [{}] * 4, "fair") as machine:
        clients = [machine.start(i, *bench.work("tiny", "closed", 1)) for i in range(4)]
        for client in clients:
            client.line(tenants.READY_S)
        return (device.total() - device.used()) // MIB


def caps(bench):
    """Four caps that sum to what the card has, each hit to the byte, half given back and taken again, all back at the
    end."""
    device = host_nvml.Device() if bench.device == "cuda" else None
    used_before = device.used() if device else 0
    card = card_memory(bench)
    cap = card // 4 - (CAP_MARGIN_MIB if device else 0)
    with bench.vms("caps", [{"vram_mib": cap}] * 4, "fair") as machine:
        clients = [machine.start(i, "cap", "card") for i in range(4)]
        first = [client.told() for client in clients]
        for client in clients:
            client.go()
        second = [client.told() for client in clients]
        held = [account["vram_bytes"] // MIB for account in machine.ctl("stats")["accounts"] if account["kind"] == "vm"]
        for client in clients:
            if client.end() != 0:
                raise tenants.Failed(f"{client.name}: {client.errors()}")
    for name, told in (("hit exactly", first), ("half given back, hit again", second)):
        exact = all(answer == {"held": cap * MIB, "free": 0, "total": cap * MIB} for answer in told)
        bench.report.row(
            OK if exact else MISSED, f"four caps of {cap} MiB, {name}",
            "/".join(str(answer["held"] // MIB) for answer in told) + " MiB",
            "accounts " + "/".join(map(str, held)) if told is second else f"card: {card} MiB beside four contexts",
            f"4 x {cap}")  # fmt: skip
    if device:
        back_by, used = time.monotonic() + 10, device.used()
        while used > used_before + USED_SLACK_MIB * MIB and time.monotonic() < back_by:
            time.sleep(0.05)
            used = device.used()
        bench.report.row(
            OK if used <= used_before + USED_SLACK_MIB * MIB else MISSED, "the card's memory back at their end",
            f"{used // MIB} MiB in use", f"before {used_before // MIB}")  # fmt: skip


# ---- time slices ----


def slices(bench):
    """How long a context has the GPU, and how long others."""
    def show(name, results):
        for result in results:
            bench.report.row(
                FIGURE, f"time slices: {name}",
                f"own {result['run_p50_us']:.0f}/{result['run_p95_us']:.0f}/{result['run_max_us']:.0f} us",
                f"others' {result['away_p50_us']:.0f}/{result['away_p95_us']:.0f}/{result['away_max_us']:.0f} us, "
                f"{result['jumps']} times in {result['seconds']:.1f} s (p50/p95/max)")  # fmt: skip

    seconds = bench.seconds / 4
    with bench.plain("slices") as machine:
        show("alone, native", machine.run([(0, "slices", seconds / 2)]))
        show("two at once, native", machine.run([(0, "slices", seconds), (1, "slices", seconds)]))
        (one, _) = machine.run([(0, "slices", seconds), (1, *bench.work("kernel", "saturate", seconds))])
        show("beside saturating kernels, native", [one])
        four = machine.run([(i, "slices", seconds) for i in range(4)])
        show("four at once, native", four[:1])


# ---- what the machine is ----


def machine_words(device):
    if device == "soft":
        return f"soft GPU, {os.cpu_count()} processors"
    asked = subprocess.run(
        ["nvidia-smi", "--query-gpu=name,driver_version,compute_mode", "--format=csv,noheader"],
        capture_output=True, text=True, timeout=30)  # fmt: skip
    if asked.returncode != 0 or not asked.stdout.strip():
        raise tenants.Failed("no NVIDIA GPU on this machine: " + (asked.stdout + asked.stderr).strip()[-300:])
    return f"{asked.stdout.strip().splitlines()[0]}, {os.cpu_count()} processors"
