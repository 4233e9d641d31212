#!/usr/bin/env python3
"""ivgpu-run --trace and ivgpuctl trace: well-formed for trace viewers, complete, in order, properly nested; what is missing is
said. Programs run on the soft GPU."""
import collections
import json
import os
import re
import signal
import subprocess
import unittest

from mediator_harness import BIN, WAIT_S, Mediator, wait_until

CUDA = os.path.join(BIN, "..", "tests", "cuda")
SHIM = os.path.join(BIN, "..", "lib", "ivgpu")


class Trace:
    """A trace file, its form checked."""

    def __init__(self, test, path):
        with open(path, encoding="utf-8") as file:
            whole = json.load(file)
        self.totals, events = whole["otherData"], whole["traceEvents"]
        names = {(e["name"], e["pid"], e["tid"]): e["args"]["name"] for e in events if e["ph"] == "M" and "name" in e["args"]}
        self.processes = {pid: name for (what, pid, _), name in names.items() if what == "process_name"}
        self.threads = {(pid, tid): name for (what, pid, tid), name in names.items() if what == "thread_name"}
        self.calls = [e for e in events if e["ph"] == "X"]
        self.missing = [e for e in events if e["ph"] == "i"]
        test.assertTrue({e["ph"] for e in events} <= {"M", "X", "i", "s", "f"})
        starts = {(call["pid"], call["tid"], call["ts"]) for call in self.calls}
        begins, ends = ({e["id"]: e for e in events if e["ph"] == phase} for phase in "sf")
        test.assertEqual(set(begins), set(ends))  # each arrow from a slice of the program's to one of its executor's
        for number, begin in begins.items():
            end = ends[number]
            test.assertEqual((end["pid"], end["ts"] >= begin["ts"]), (begin["pid"] + 1, True))
            test.assertLessEqual({(one["pid"], one["tid"], one["ts"]) for one in (begin, end)}, starts)
        for call in self.calls:
            test.assertIn(call["pid"], self.processes)
            test.assertIn((call["pid"], call["tid"]), self.threads)
            test.assertGreaterEqual(call["ts"], 0)
            test.assertGreaterEqual(call["dur"], 0)
            test.assertIn(call["cat"], ("sync", "async"))
        self.executed = [call for call in self.calls if call["pid"] % 2 == 0]
        self.waited = [call for call in self.calls if call["pid"] % 2 == 1]
        for call in self.executed:
            test.assertTrue(call["args"]["call"].startswith(call["name"] + "("), call)
            test.assertNotIn("(short", call["args"]["call"])

    def on(self, calls, name):
        """By process and thread."""
        found = collections.defaultdict(list)
        for call in calls:
            if re.match(name, self.threads[call["pid"], call["tid"]]):
                found[call["pid"], call["tid"]].append(call)
        return found

    def check_order(self, test):
        """Nothing overlaps on a thread, the ring's order is kept on each, and who waits waits at least until it has run."""
        for calls in [*self.on(self.executed, "").values(), *self.on(self.waited, "").values()]:
            calls.sort(key=lambda call: call["ts"])
            for before, after in zip(calls, calls[1:]):
                test.assertLess(before["args"]["position"], after["args"]["position"])
                test.assertLessEqual(before["ts"] + before["dur"], after["ts"] + 0.0011)
        ran = {(call["pid"], call["args"]["position"]): call for call in self.executed}
        test.assertEqual(len(ran), len(self.executed))
        for call in self.waited:
            own = ran.pop((call["pid"] + 1, call["args"]["position"]))
            test.assertEqual((own["name"], own["cat"], own["args"]["thread"], own["args"]["result"]),
                             (call["name"], "sync", call["tid"], call["args"]["result"]))
            test.assertLessEqual(call["ts"], own["ts"] + 0.0011)
            test.assertLessEqual(own["ts"] + own["dur"], call["ts"] + call["dur"] + 0.0011)
        test.assertEqual({call["cat"] for call in ran.values()}, {"async"})


class OfARun(Mediator):
    def run_traced(self, path, *program, status=0):
        result = subprocess.run([os.path.join(BIN, "ivgpu-run"), "--device", "soft", "--stats", "--trace", path, "--", *program],
                                capture_output=True, text=True, timeout=120)
        self.assertEqual(result.returncode, status, result.stdout + result.stderr)
        return result.stderr

    def all_are_there(self, trace, records):
        """But for one of each thread: one that runs when its program ends is taken, and has no end to be traced."""
        self.assertEqual(trace.totals, {"calls": len(trace.executed), "calls_lost": 0, "programs_lost": 0})
        self.assertLessEqual(len(trace.executed), records)
        self.assertGreaterEqual(len(trace.executed), records - len(trace.threads))

    def test_a_program_with_threads(self):
        path = os.path.join(self.folder, "trace.json")
        said = self.run_traced(path, os.path.join(CUDA, "threads"))
        trace = Trace(self, path)
        records = int(re.search(r"records (\d+) in", said)[1])
        self.all_are_there(trace, records)
        self.assertIn(f"{trace.totals['calls']} calls of 1 programs are in {path}", said)
        self.assertRegex(trace.processes[1], r"^threads \(pid \d+ of local program \d+\)$")
        self.assertRegex(trace.processes[2], r"^ivgpu-exec \d+ \(channel 0\)$")
        self.assertGreater(len(trace.on(trace.waited, r"thread \d+$")), 8)
        self.assertGreater(len(trace.on(trace.executed, r"lane of thread \d+$")), 8)
        trace.check_order(self)
        launch = next(call for call in trace.executed if call["name"] == "ivgLaunch")
        self.assertEqual((trace.threads[launch["pid"], launch["tid"]], launch["cat"]), ("consumer", "async"))
        self.assertRegex(launch["args"]["call"], r"^ivgLaunch\(function=.*grid_x=\d+.*params=\[\d+ bytes inline\]\)$")
        first = min(trace.executed, key=lambda call: call["ts"])
        self.assertEqual((first["name"], first["args"]["position"]), ("ivgHello", 0))

    def test_several_processes_and_a_failure(self):
        path = os.path.join(self.folder, "trace.json")
        said = self.run_traced(path, "sh", "-c", f"{CUDA}/launches & {CUDA}/launches; wait; exit 7", status=7)
        trace = Trace(self, path)
        self.all_are_there(trace, sum(map(int, re.findall(r"Total processed: +(\d+)", said))))
        self.assertEqual(sorted(trace.processes), [1, 2, 3, 4])
        trace.check_order(self)

    def test_a_file_that_cannot_be_written(self):
        said = self.run_traced("/nowhere/trace.json", "true", status=125)
        self.assertIn("/nowhere/trace.json: No such file or directory", said)


class Live(Mediator):
    def setUp(self):
        super().setUp()
        self.control_path = os.path.join(self.folder, "control.sock")
        self.path = os.path.join(self.folder, "trace.json")
        config = os.path.join(self.folder, "ivgpud.conf")
        with open(config, "w", encoding="utf-8") as file:
            file.write(f"""mediator = {{ device = "soft"; heartbeat_log_s = 0; }};
pools = ( {{ name = "A"; }} );
local = {{ socket = "{self.local_path}"; region_mib = 64; pool = "A"; }};
control = {{ socket = "{self.control_path}"; }};""")
        self.process = self.spawn(["--config", config, "--foreground"])
        self.addCleanup(self.end)
        wait_until(lambda: "listening on " + self.control_path in self.log(), "start")

    def program(self, *words):
        process = subprocess.Popen([os.path.join(CUDA, words[0]), *words[1:]], stdout=subprocess.DEVNULL,
                                   env=dict(os.environ, LD_LIBRARY_PATH=SHIM, IVGPU_CHANNEL=f"local:{self.local_path}"))
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def trace(self, *words):
        return subprocess.Popen([os.path.join(BIN, "ivgpuctl"), f"--socket={self.control_path}", "trace", "local", self.path,
                                 *words], stderr=subprocess.PIPE, text=True)

    def stats(self):
        return subprocess.run([os.path.join(BIN, "ivgpuctl"), f"--socket={self.control_path}", "stats", "local"], stdout=subprocess.PIPE,
                              text=True, check=True, timeout=WAIT_S).stdout

    def over(self, process, status=0):
        _, said = process.communicate(timeout=WAIT_S * 3)
        self.assertEqual(process.returncode, status, said)
        return said

    def test_programs_that_run_and_that_start(self):
        self.program("loop", "60")
        wait_until(lambda: re.search(r"^ +records +[1-9]", self.stats(), re.M), "a program's first call")
        tracer = self.trace()
        wait_until(lambda: ": trace local" in self.log(), "a trace")
        other = subprocess.run([os.path.join(BIN, "ivgpuctl"), f"--socket={self.control_path}", "trace", "local",
                                self.path + "2"], capture_output=True, text=True, timeout=WAIT_S)
        self.assertEqual(other.returncode, 1)
        self.assertIn("being traced: one trace at a time", other.stderr)
        self.program("launches").wait(WAIT_S * 3)
        tracer.send_signal(signal.SIGINT)
        said = self.over(tracer)
        self.assertIn("calls of 2 programs", said)
        trace = Trace(self, self.path)
        self.assertEqual(sorted(re.sub(r" .*", "", trace.processes[pid]) for pid in (1, 3)), ["launches", "loop"])
        trace.check_order(self)
        started = {call["args"]["position"] for call in trace.executed if call["pid"] == 4}
        self.assertIn(0, started)  # from its first call
        self.assertNotIn(0, {call["args"]["position"] for call in trace.executed if call["pid"] == 2})
        # Its end was noticed; a later one sees none of this one's calls.
        wait_until(lambda: "[TRACE] local programs: over" in self.log(), "its end")
        latest = max(call["args"]["position"] for call in trace.executed if call["pid"] == 2)
        self.over(self.trace("--calls=20"))
        trace = Trace(self, self.path)
        self.assertEqual(trace.totals["calls"], 20)
        self.assertGreater(min(call["args"]["position"] for call in trace.executed), latest)

    def test_for_seconds(self):
        self.program("loop", "60")
        said = self.over(self.trace("--seconds=1"))
        trace = Trace(self, self.path)
        self.assertGreater(trace.totals["calls"], 0, said)
        trace.check_order(self)

    def written(self, words):
        with open(self.path) as file:
            return words in file.read()

    def test_a_mediator_that_goes_away(self):
        self.program("loop", "60")
        tracer = self.trace()
        wait_until(lambda: ": trace local" in self.log(), "a trace")
        wait_until(lambda: self.written('"cat":"async"'), "calls of both kinds")
        self.end()
        self.assertIn(f"the mediator at {self.control_path}: ", self.over(tracer, 3))
        Trace(self, self.path).check_order(self)

    def test_usage(self):
        for words in (("trace", "local"), ("trace", "local", self.path, "--seconds=x"), ("list", "--seconds=1")):
            result = subprocess.run([os.path.join(BIN, "ivgpuctl"), f"--socket={self.control_path}", *words],
                                    capture_output=True, text=True, timeout=WAIT_S)
            self.assertEqual(result.returncode, 2, result.stderr)
        result = subprocess.run([os.path.join(BIN, "ivgpuctl"), f"--socket={self.control_path}", "trace", "8", self.path],
                                capture_output=True, text=True, timeout=WAIT_S)
        self.assertEqual((result.returncode, result.stderr), (1, "ivgpuctl: unknown VM 8\n"))


if __name__ == "__main__":
    unittest.main()
