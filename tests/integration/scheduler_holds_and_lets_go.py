#!/usr/bin/env python3
"""What holds programs back, in the whole path on the soft GPU: pause, closed gates, windows, the bound on waiting, and that
whatever ends a program ends it there too; and that the stamps of watchdog and latencies are of what happened. No figure
is held tightly: tests/integration/scheduler.py does that."""
import os
import signal
import subprocess
import time
import unittest

from mediator_harness import process_is_there, wait_until
from scheduler_harness import CUDA, WAIT_S, Machine, environment_of

LONG_S = 30  # of a program that is ended earlier
GONE_S = 10  # documented: within a second; a machine may be loaded


class Holds(Machine):
    def executors(self, vm):
        return [executor["pid"] for executor in self.ctl("show", str(vm + 1))["executors"]]

    def calls(self, vm):
        return self.stats(vm)["gpu_calls"]

    def wait_still(self, vm):
        """Until it gives the GPU nothing for 0.2 s."""
        def still():
            before = self.calls(vm)
            time.sleep(0.2)
            return self.calls(vm) == before
        wait_until(still, f"VM {vm} gives the GPU nothing", WAIT_S)

    def at_closed_gate(self):
        """A program whose launches wait at the gate of its paused VM."""
        self.start([{}, {}])
        program = self.program(0, "saturate", LONG_S, 5)
        program.go()
        wait_until(lambda: self.calls(0) > 0, "it works", WAIT_S)
        self.ctl("pause", "vm0")
        self.wait_still(0)
        wait_until(lambda: self.stats(0)["gates"] > 0, "it waits at its gate", WAIT_S)
        return program

    def works_again(self):
        self.ctl("resume", "vm0")
        (again,) = self.run_all([(0, "closed", 0.2, 1)])
        self.assertGreater(again["kernels"], 0)

    def test_pause_holds_one_vm_and_lets_it_go(self):
        self.start([{}, {}])
        held = self.program(0, "saturate", 1.5, 5)
        other = self.program(1, "closed", 1.5, 1)
        held.go()
        wait_until(lambda: self.calls(0) > 0, "it works", WAIT_S)
        self.ctl("pause", "vm0")
        self.wait_still(0)
        other.go()
        result = other.result()
        self.assertGreater(result["kernels"], 10, "the other VM works beside it")
        self.assertIsNone(held.process.poll())
        self.ctl("resume", "vm0")
        self.assertGreater(held.result()["kernels"], 0)

    def test_a_program_that_is_killed_at_a_closed_gate(self):
        program = self.at_closed_gate()
        executor, = self.executors(0)
        program.process.kill()
        wait_until(lambda: not process_is_there(executor), "its executor is gone", GONE_S)
        self.works_again()

    def test_a_program_that_is_ended_at_a_closed_gate(self):
        program = self.at_closed_gate()
        executor, = self.executors(0)
        self.ctl("kill", "vm0")
        wait_until(lambda: not process_is_there(executor), "its executor is gone", GONE_S)
        self.assertNotEqual(program.process.wait(GONE_S), 0)
        self.assertIn("ivgpu: error ", program.process.stderr.read())
        self.works_again()

    def test_an_executor_that_is_killed_at_a_closed_gate(self):
        program = self.at_closed_gate()
        os.kill(self.executors(0)[0], signal.SIGKILL)
        self.assertNotEqual(program.process.wait(GONE_S), 0)
        self.works_again()

    def test_a_window_is_kept(self):
        """Of 8 kernels that the program has queued never more than the window are on the GPU; more with a larger one."""
        self.start([{"inflight": 2}])
        program = self.program(0, "saturate", LONG_S, 100)  # 10 ms each
        program.go()
        wait_until(lambda: self.calls(0) > 0, "it works", WAIT_S)
        seen = [self.stats(0)["gpu_inflight"] for _ in range(100)]
        self.assertIn(max(seen), (1, 2), seen)
        self.ctl("set", "vm0", "inflight=6")
        wait_until(lambda: self.stats(0)["gpu_inflight"] > 2, "more with a larger window", WAIT_S)
        self.assertLessEqual(max(self.stats(0)["gpu_inflight"] for _ in range(100)), 6)

    def test_nobody_starves(self):
        """A low VM beside two high ones that never cease: 0.1 s, and a round and 5 quanta of 2 ms and a kernel for each that
        waits."""
        self.start([{"priority": "low"}, {"priority": "high"}, {"priority": "high"}])
        bound_us = 100000 + 3 * (24000 + 5 * (2000 + 1000))  # hostexec/sched/policy.h
        low, *_ = self.run_all([(0, "closed", 2, 10), (1, "saturate", 2, 10), (2, "saturate", 2, 10)])
        self.assertGreater(low["kernels"], 3)
        self.assertGreater(low["max_us"], 20000, "it is held back")  # not always: high ones that have no processor cease
        self.assertLess(low["max_us"], 10 * bound_us)  # a loaded machine; sched_shares_hold holds the bound itself

    def test_another_policy_while_they_run(self):
        self.start([{}, {}])
        programs = [self.program(vm, "saturate", 1, 5) for vm in (0, 1)]
        for program in programs:
            program.go()
        for policy in ("fair", "turns", "fair", "auto"):
            self.ctl("set", "pool:A", f"policy={policy}")
            calls = [self.calls(vm) for vm in (0, 1)]
            wait_until(lambda: all(self.calls(vm) > calls[vm] for vm in (0, 1)) or programs[0].process.poll() is not None,
                       f"both work on by {policy}", WAIT_S)
        for program in programs:
            self.assertGreater(program.result()["kernels"], 0)

    def test_what_is_measured_makes_no_stream_wait(self):
        """Where work is known of all the time, its ends are events in the program's streams."""
        self.start([{"kernel_timeout_ms": 60000}])
        for name in ("memops", "streams"):
            done = subprocess.run([os.path.join(CUDA, name)], env=environment_of(self.sockets[0]), capture_output=True,
                                  text=True, timeout=WAIT_S)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertGreater(self.stats(0)["gpu_seconds"], 0)

    def test_the_watchdog_knows_kernels(self):
        """Many short ones go on, one that is longer than the limit ends its program; another VM is not asked."""
        self.start([{"kernel_timeout_ms": 1000}, {}])
        (short,) = self.run_all([(0, "saturate", 2.5, 1000)])  # 0.1 s each
        self.assertGreater(short["kernels"], 0)
        long, other = self.program(0, "closed", LONG_S, 300000), self.program(1, "closed", 0.5, 1)  # 30 s
        long.go()
        self.assertNotEqual(long.process.wait(WAIT_S), 0)
        self.assertIn("ivgpu: error 4 (TIMEOUT)", long.process.stderr.read())
        self.assertEqual(self.ctl("show", "1")["faults"], dict(protocol=0, died=0, call=0, kernel=1, silent=0))
        other.go()
        self.assertGreater(other.result()["kernels"], 0)

    def test_the_watchdog_knows_calls_but_not_gates(self):
        """A consumer that waits at a closed gate is in no call."""
        self.start([{"call_timeout_ms": 500}, {}])
        program = self.program(0, "saturate", 1, 5)
        program.go()
        wait_until(lambda: self.calls(0) > 0, "it works", WAIT_S)
        self.ctl("pause", "vm0")
        time.sleep(1.5)
        self.assertIsNone(program.process.poll())
        self.ctl("resume", "vm0")
        self.assertGreater(program.result()["kernels"], 0)
        self.assertEqual(sum(self.ctl("show", "1")["faults"].values()), 0)

    def test_latencies_are_of_what_happened(self):
        """One VM waits at its gate for most of the time: its calls take long, the other's do not."""
        self.start([{"calls_per_s": 500}, {}])
        self.run_all([(0, "rate", 2, 1), (1, "rate", 2, 1)])
        slow, fast = self.stats(0), self.stats(1)
        for account in (slow, fast):
            for name in ("ring_wait", "execution", "total"):
                latency = account[name]
                self.assertGreater(latency["count"], 0, name)
                least = 0 if name == "ring_wait" else 1  # a call alone in its batch waits for none
                self.assertTrue(least <= latency["p50_ns"] <= latency["p95_ns"] <= latency["p99_ns"] < WAIT_S * 1e9, latency)
            self.assertGreaterEqual(account["total"]["p99_ns"], account["execution"]["p50_ns"])
        self.assertGreater(slow["throttled_seconds"], 0.5)
        self.assertEqual(fast["throttled_seconds"], 0)


if __name__ == "__main__":
    unittest.main(verbosity=2)
