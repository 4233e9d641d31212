#!/usr/bin/env python3
"""ivgpu-ring-bench measures every ring of this build between threads and between processes, polled and asleep, loses no
record (it checks that itself), and writes what it says it writes, also where a module cannot be loaded. How fast is not
asked here: machines differ."""
import csv
import json
import os
import shutil
import subprocess
import sys
import tempfile

BENCH = os.environ["IVGPU_RING_BENCH"]
KEYS = ["ring", "mode", "producers", "payload_bytes", "rtt_p50_ns", "rtt_p99_ns", "floor_rtt_p50_ns", "records_per_s",
        "doorbells"]
ALWAYS = {"ivgpu", "wfcqueue", "unix stream", "unix seqpacket", "pipe"}
PAYLOADS = (8, 56, 4096)


def run(*words, expected=0, bench=BENCH):
    done = subprocess.run([bench, *words], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == expected, f"{words}: {done.returncode}, expected {expected}\n{done.stdout}{done.stderr}"
    return done.stdout


def check_sweep(folder, workers, consumer, *rings):
    told, spread = os.path.join(folder, "figures.json"), os.path.join(folder, "spread.csv")
    table = run("--quick", "--workers", workers, "--consumer", consumer, *rings, "--json", told, "--distributions", spread)
    with open(told, encoding="utf-8") as file:
        results = json.load(file)["results"]
    assert rings or ALWAYS <= {r["ring"] for r in results}, table
    seen = set()
    for result in results:
        assert list(result) == KEYS, result
        assert result["mode"] == f"{workers}-{consumer}-pinned", result
        assert result["rtt_p50_ns"] > 0 and result["rtt_p99_ns"] > 0 and result["records_per_s"] > 0, result
        assert result["floor_rtt_p50_ns"] > 1, result
        if result["ring"] != "ivgpu" or consumer == "polled":
            assert result["doorbells"] == 0, f"rung for nobody: {result}"
        else:
            assert result["doorbells"] > 0, f"slept without being woken: {result}"
        seen.add((result["ring"], result["producers"], result["payload_bytes"]))
    for payload in PAYLOADS:
        assert ("ivgpu", 1, payload) in seen, table
    assert ("ivgpu", 2, 56) in seen, table
    for ring in {r["ring"] for r in results}:
        assert ring in table
    with open(spread, encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["ring"] for row in rows} == {r["ring"] for r in results}
    for before, after in zip(rows, rows[1:]):
        if float(after["percent"]) > float(before["percent"]):
            assert int(after["ns"]) >= int(before["ns"]), (before, after)


def check_absent_modules(folder):
    """One module is missing and another is none: the program runs, and names their rings."""
    os.makedirs(os.path.join(folder, "bin"))
    os.makedirs(os.path.join(folder, "lib", "ivgpu-ring-bench"))
    with open(os.path.join(folder, "lib", "ivgpu-ring-bench", "ck.so"), "w", encoding="utf-8") as file:
        file.write("no library")
    told = os.path.join(folder, "absent.json")
    table = run("--quick", "--rings", "ivgpu,rte_ring mp,ck_ring", "--payloads", "56", "--json", told,
                bench=shutil.copy(BENCH, os.path.join(folder, "bin")))
    with open(told, encoding="utf-8") as file:
        figures = json.load(file)
    assert {r["ring"] for r in figures["results"]} == {"ivgpu"}, table
    reasons = {a["ring"]: a["reason"] for a in figures["absent"]}
    assert set(reasons) == {"ck_ring", "ck_ring spsc", "ck_fifo", "rte_ring mp", "rte_ring hts", "rte_ring rts"}, reasons
    for ring, reason in reasons.items():
        assert reason and any(line.startswith(ring) and line.endswith(f"absent: {reason}") for line in table.splitlines()), table


def main():
    with tempfile.TemporaryDirectory() as folder:
        check_sweep(folder, "threads", "polled")
        for workers, consumer in (("threads", "sleeping"), ("processes", "polled"), ("processes", "sleeping")):
            check_sweep(folder, workers, consumer, "--rings", "ivgpu,wfcqueue,unix seqpacket,mqueue")
        check_absent_modules(folder)
    for option, text in (("--floor-min", "low"), ("--ratio-max", "0"), ("--ratio-max", "1.3x"), ("--processors", "0,0"),
                         ("--processors", "0,1,2"), ("--rings", "no such ring")):
        run(option, text, expected=2)
    run("--payloads", "7", expected=2)
    run("--workers", "threads,fibres", expected=2)
    run("--json", "/nonexistent/figures.json", "--quick", "--rings", "ivgpu", "--payloads", "8", "--producers", "1",
        expected=1)
    return 0


sys.exit(main())
