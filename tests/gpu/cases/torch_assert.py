"""A device-side assert (an index out of range) ends the process that caused it, with the right words; a neighbour
works on."""

import os
import select
import subprocess
import sys
import time

import support

ROLE = os.environ.get("IVG_CASE_ROLE")
NEIGHBOUR_LIMIT_S, END_LIMIT_S, VICTIM_LIMIT_S = 150, 60, 90


def victim():
    torch = support.torch_or_leave()
    table = torch.nn.Embedding(10, 4).cuda()
    support.say("before", table(torch.tensor([1, 9], device="cuda")).shape[0])
    errors = []
    for attempt in (
        lambda: table(torch.tensor([3, 12345], device="cuda")).sum().item(),
        torch.cuda.synchronize,
        lambda: torch.ones(4, device="cuda").sum().item(),
    ):
        try:
            attempt()
            errors.append("none")
        except RuntimeError as error:
            errors.append("assert" if "device-side assert triggered" in str(error) else str(error).splitlines()[0])
    support.say("errors", *errors)


def neighbour():
    torch = support.torch_or_leave()
    x = torch.arange(512 * 512, device="cuda", dtype=torch.float32).view(512, 512) % 7
    expected = (x @ x).clone()
    support.say("ready")
    rounds, end = 0, time.monotonic() + NEIGHBOUR_LIMIT_S
    while not select.select([sys.stdin], [], [], 0)[0] and time.monotonic() < end:
        support.check(torch.equal(x @ x, expected), "round", rounds, "differs")
        rounds += 1
    for _ in range(100):  # the other has failed by now
        support.check(torch.equal(x @ x, expected), "after the assert a result differs")
    support.say("rounds", rounds)


def _start(role):
    return subprocess.Popen(
        [sys.executable, "-B", os.path.abspath(__file__)],
        env=dict(os.environ, IVG_CASE_ROLE=role),
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def an_assert_ends_one_process_only():
    beside = _start("neighbour")
    try:
        support.check(beside.stdout.readline().strip() == "ready", "the neighbour did not start:", beside.poll())
        wrong = _start("victim")
        out, err = wrong.communicate(timeout=VICTIM_LIMIT_S)
        was_running = beside.poll() is None
        beside_out, beside_err = beside.communicate("end\n", timeout=END_LIMIT_S)
    finally:
        beside.kill()
    lines = dict(line.split(" ", 1) for line in out.splitlines() if " " in line)
    support.check("errors" in lines, "the process with the assert ended with", wrong.returncode, err.strip()[-300:])
    support.result("errors", lines["errors"])
    support.check(lines["errors"].split() == ["assert"] * 3, "errors:", lines["errors"])
    told = [line for line in err.splitlines() if "Assertion" in line and "failed" in line]
    support.check(told, "no line of the assertion on stderr")
    support.result("assertion", told[0].split("Assertion")[1])
    support.check(was_running, "the neighbour ended before the assert: nothing shown")
    support.check(beside.returncode == 0, "the neighbour ended with", beside.returncode, beside_err.strip()[-300:])
    rounds = int(beside_out.split("rounds ")[1])
    support.check(rounds > 10, "the neighbour did", rounds, "rounds")
    support.result("neighbour", "went on")


if ROLE:
    {"victim": victim, "neighbour": neighbour}[ROLE]()
    sys.stdout.flush()
    os._exit(0)  # a destructor of PyTorch may end a process whose context is broken
support.run(an_assert_ends_one_process_only)
