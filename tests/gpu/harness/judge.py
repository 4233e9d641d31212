"""One case on both sides, several times in turn, and what is to be thought of it.

Statuses: ok; FAILED (a side failed); DIFFERS (both ran, results differ); REFUSED (right results, but calls were
refused that the case does not list); MISSING (no program, no Python module); skipped (the machine lacks hardware: no
failure)."""

import os
import tempfile

from harness import cases as case_lists
from harness import output as outputs
from harness import process

REASONS_MAX = 12
GOOD = ("ok", "skipped")


class Sides:
    """How the two sides of a case are run."""

    def __init__(self, build, device, logs):
        self.build, self.device, self.logs = build, device, logs

    def _caches(self, side):
        """Compilers of kernels keep what they compiled; each side compiles for itself."""
        folder = os.path.join(self.logs, "cache-" + side)
        return {
            "TRITON_CACHE_DIR": os.path.join(folder, "triton"),
            "TORCHINDUCTOR_CACHE_DIR": os.path.join(folder, "inductor"),
            "CUPY_CACHE_DIR": os.path.join(folder, "cupy"),
            "CUDA_CACHE_PATH": os.path.join(folder, "cuda"),
        }

    def environment(self, case, side, limit_s):
        environment = dict(
            os.environ,
            PYTHONUNBUFFERED="1",
            PYTHONDONTWRITEBYTECODE="1",
            HF_HUB_OFFLINE="1",
            TOKENIZERS_PARALLELISM="false",
            XLA_PYTHON_CLIENT_PREALLOCATE="false",
            IVG_CASE_LIMIT_S=str(limit_s),
            **self._caches(side),
        )
        environment.setdefault("NCCL_NVLS_ENABLE", "0")  # multicast outlasts the process that used it badly
        environment.update(case.environment)
        if side == "native" and self.device == "soft":  # the soft GPU in the program itself: what the path must equal
            path = os.path.join(self.build, "lib/ivgpu-host/softgpu")
            environment["LD_LIBRARY_PATH"] = ":".join(filter(None, (path, os.environ.get("LD_LIBRARY_PATH"))))
        return environment

    def command(self, case, side):
        if side == "native":
            return case.command
        return [os.path.join(self.build, "bin/ivgpu-run"), "--device", self.device, "--", *case.command]

    def run(self, case, side, limit_s, number):
        log = os.path.join(self.logs, f"{case.name.replace('/', '-').replace(' ', '-')}.{side}.{number}")
        run = process.run_command(self.command(case, side), self.environment(case, side, limit_s), limit_s, log)
        if case.is_program:
            name = os.path.basename(case.command[0])
            run.output = outputs.program_output(
                run.stdout, case_lists.FIGURES.get(name, {}), name in case_lists.LAST_LINE_ONLY
            )
        else:
            run.output = outputs.Output(run.stdout)
        return run


def _side_reasons(side, run, limit_s):
    """Why this run is no success; empty: it is one."""
    output, reasons = run.output, []
    if run.timed_out:
        reasons.append(f"{side}: not within {limit_s:g} s {outputs.last_words(run.stderr)}")
    elif run.exit not in (0, 76, 77):
        how = f"signal {-run.exit}" if run.exit is not None and run.exit < 0 else f"exit code {run.exit}"
        words = "" if output.failed else outputs.last_words(run.stderr)
        reasons.append(f"{side}: {how} {words}".rstrip())
    elif output.failed:
        reasons.append(f"{side}: says failed, but ended with 0")
    reasons += [f"{side}: failed {words}" for words in output.failed] + [f"{side}: {words}" for words in output.errors]
    if run.exit == 0 and not reasons and not output.results:
        reasons.append(f"{side}: gave no result")
    return reasons


def _judge_results(case, native, ours):
    """Of two runs that each succeeded."""
    reasons = outputs.differences(native.output, ours.output)
    if reasons:
        return "DIFFERS", reasons
    refused = [name for name in outputs.refused_names(ours.stderr) if name not in case.refused_expected]
    if refused:
        return "REFUSED", [f"ours: {name} is not carried" for name in refused]
    return "ok", []


def _judge_round(case, native, ours, limit_s):
    if case.native_may_fail and native.exit not in (0, 77) and ours.exit == 0:
        reasons = _side_reasons("ours", ours, limit_s)
        return (
            ("FAILED", reasons)
            if reasons
            else ("ok", ["native: not by the soft GPU alone: " + outputs.last_words(native.stderr)])
        )
    for side, run in (("native", native), ("ours", ours)):
        if run.exit == 76 or run.output.missing:
            return "MISSING", [f"{side}: missing {words}" for words in run.output.missing or ["something"]]
    if native.exit == 77 and ours.exit == 77:
        return "skipped", native.output.skipped[:1]
    if 77 in (native.exit, ours.exit):
        side = "native" if native.exit == 77 else "ours"
        run = native if native.exit == 77 else ours
        return "FAILED", [f"only the {side} side skipped: {' '.join(run.output.skipped[:1])}"]
    reasons = _side_reasons("native", native, limit_s) + _side_reasons("ours", ours, limit_s)
    if reasons:
        reasons += [f"ours: {name} is not carried" for name in outputs.refused_names(ours.stderr)]
        reasons += [f"ours said: {line}" for line in outputs.noted_lines(ours.stderr)[:4]]
        return "FAILED", reasons
    return _judge_results(case, native, ours)


def _side_summary(runs):
    return {
        "seconds": sorted(run.seconds for run in runs)[len(runs) // 2],
        "exit": runs[-1].exit,
        "results": {key: value[0] for key, value in runs[-1].output.results.items()},
        "parts": runs[-1].output.parts,
    }


def _middle(values):
    return sorted(values)[len(values) // 2]


def _figures(natives, ours):
    figures = {}
    for key, first in natives[0].output.figures.items():
        theirs = [run.output.figures[key] for run in natives if key in run.output.figures]
        mine = [run.output.figures[key] for run in ours if key in run.output.figures]
        if theirs and mine:
            native = (_middle([value[0] for value in theirs]), *first[1:])
            own = (_middle([value[0] for value in mine]), *first[1:])
            figures[key] = {"native": native[0], "ours": own[0], "unit": first[1], "ratio": outputs.ratio(native, own)}
    return figures


def judge_case(case, sides, rounds, limit_s):
    """Both sides in turn; the side that goes first changes from round to round."""
    outcome = {
        "case": case.name,
        "status": "MISSING",
        "reasons": [f"{case.path} is not there"],
        "native": None,
        "ours": None,
        "figures": {},
        "refused": [],
        "refused_expected": [],
    }
    if case.is_missing:
        return outcome
    runs = {"native": [], "ours": []}
    for number in range(rounds):
        for side in ("native", "ours") if number % 2 == 0 else ("ours", "native"):
            runs[side].append(sides.run(case, side, limit_s, number))
        status, reasons = _judge_round(case, runs["native"][-1], runs["ours"][-1], limit_s)
        outcome["status"], outcome["reasons"] = status, reasons[:REASONS_MAX]
        if len(reasons) > REASONS_MAX:
            outcome["reasons"].append(f"and {len(reasons) - REASONS_MAX} more")
        if status != "ok":
            break
    outcome["native"], outcome["ours"] = _side_summary(runs["native"]), _side_summary(runs["ours"])
    outcome["figures"] = _figures(runs["native"], runs["ours"])
    refused = outputs.refused_names("\n".join(run.stderr for run in runs["ours"]))
    outcome["refused"] = [name for name in refused if name not in case.refused_expected]
    outcome["refused_expected"] = [name for name in refused if name in case.refused_expected]
    if outcome["refused_expected"]:
        outcome["reasons"] += [
            f"expected refusal: {name} ({case.refused_expected[name]})" for name in outcome["refused_expected"]
        ]
    return outcome


def make_logs(path):
    if path:
        os.makedirs(path, exist_ok=True)
        return os.path.abspath(path)
    return tempfile.mkdtemp(prefix="ivgpu-gpu-run.")
