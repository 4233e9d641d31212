"""The whole path in local mode with the soft GPU: what a program sees when a part of it is missing or dies."""
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

BIN = os.environ["IVGPU_BIN"]
ROOT = os.path.dirname(BIN)
PROGRAMS = os.path.join(ROOT, "tests", "cuda")
SHIM = os.path.join(ROOT, "lib", "ivgpu")
# The promise: a lost part is an error within a second. It takes 3 to 65 ms (docs/measurements.md); the rest is for a
# loaded machine.
LOST_S = 5.0


def wait_until(condition, what, seconds):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.005)


def process_state(pid):
    """(name, state, parent), or None when the process is gone; a zombie is gone."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            name, rest = file.read().rsplit(")", 1)
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, parent = rest.split()[:2]
    return None if state == "Z" else (name, state, int(parent))


def executors_of(mediator):
    """Process ids of the executors that this mediator has started."""
    states = {int(entry): process_state(entry) for entry in os.listdir("/proc") if entry.isdigit()}
    return [pid for pid, state in states.items() if state and state[2] == mediator and "ivgpu-exec" in state[0]]


class Path(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="ivgpu-faults.")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.socket = os.path.join(self.folder, "local.sock")
        self.children = []
        self.addCleanup(self.end_children)

    def end_children(self):
        for child in self.children:
            if child.poll() is None:
                child.kill()
            child.wait()
            for stream in (child.stdout, child.stderr):
                if stream:
                    stream.close()

    def start_mediator(self):
        read, write = os.pipe()
        child = subprocess.Popen([os.path.join(BIN, "ivgpud"), "--local", self.socket, "--device", "soft", "--foreground",
                                  "--quiet", "--ready-fd", str(write)], pass_fds=[write], stderr=subprocess.PIPE)
        self.children.append(child)
        os.close(write)
        with os.fdopen(read) as ready:
            self.assertEqual(ready.read(), "ready\n", "ivgpud did not get ready")
        return child

    def environment(self):
        return dict(os.environ, LD_LIBRARY_PATH=SHIM, IVGPU_CHANNEL=f"local:{self.socket}", IVGPU_SOCKET=self.socket)

    def start_program(self, *words, running=True):
        child = subprocess.Popen([os.path.join(PROGRAMS, words[0]), *words[1:]], env=self.environment(),
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.children.append(child)
        if running:
            self.assertEqual(child.stdout.readline(), "loop: running\n", "the program did not start")
            time.sleep(0.1)
        return child

    def run_program(self, *words):
        child = self.start_program(*words, running=False)
        out, err = child.communicate(timeout=60)
        return child.returncode, out, err

    def test_no_mediator_is_one_line_that_names_the_path_and_the_reason(self):
        code, _, err = self.run_program("demo")
        self.assertNotEqual(code, 0)
        lines = [line for line in err.splitlines() if line.startswith("ivgpu: error")]
        self.assertEqual(len(lines), 1, err)
        self.assertRegex(lines[0], r"^ivgpu: error 3 \(MEDIATOR_UNAVAILABLE\)")
        self.assertIn(self.socket, lines[0])
        self.assertIn("absent", lines[0])
        self.assertIn("answered 100", err)  # CUDA_ERROR_NO_DEVICE

    def test_a_socket_without_listener_is_refused(self):
        import socket
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as dead:
            dead.bind(self.socket)
        code, _, err = self.run_program("demo")
        self.assertNotEqual(code, 0)
        self.assertRegex(err, r"error 3 \(MEDIATOR_UNAVAILABLE\).*refused")

    def test_a_killed_program_leaves_no_executor_and_no_memory(self):
        mediator = self.start_mediator()
        program = self.start_program("loop", "60")
        self.executor_of(mediator)
        descriptors = len(os.listdir(f"/proc/{mediator.pid}/fd"))
        program.send_signal(signal.SIGKILL)
        wait_until(lambda: not executors_of(mediator.pid), "the executor's end", LOST_S)
        wait_until(lambda: len(os.listdir(f"/proc/{mediator.pid}/fd")) < descriptors, "the region's end", LOST_S)
        self.assertEqual(self.run_program("process")[0], 0, "the next program does not work")

    def test_a_killed_program_whose_kernel_never_ends_leaves_nothing_either(self):
        mediator = self.start_mediator()
        program = self.start_program("loop", "60", "sleep")
        program.send_signal(signal.SIGKILL)
        wait_until(lambda: not executors_of(mediator.pid), "the executor's end", LOST_S)

    def executor_of(self, mediator):
        """The one executor, once those of programs that have just ended are gone."""
        wait_until(lambda: len(executors_of(mediator.pid)) == 1, "one executor", LOST_S)
        return executors_of(mediator.pid)[0]

    def lose(self, program, kill):
        start = time.monotonic()
        kill()
        out, err = program.communicate(timeout=30)
        seconds = time.monotonic() - start
        self.assertEqual(program.returncode, 3, f"{out}{err}")
        self.assertRegex(out, r"answered CUDA_ERROR_\w+, and so does what follows")
        self.assertEqual(len([line for line in err.splitlines() if line.startswith("ivgpu:")]), 1, err)
        self.assertLess(seconds, LOST_S, "the error came late")

    def test_a_killed_executor_is_a_sticky_error_soon(self):
        mediator = self.start_mediator()
        for mode in ([], ["sleep"]):
            program = self.start_program("loop", "60", *mode)
            executor = self.executor_of(mediator)
            self.lose(program, lambda pid=executor: os.kill(pid, signal.SIGKILL))
        self.assertEqual(self.run_program("streams")[0], 0, "the next program does not work")

    def test_a_restarted_mediator_loses_running_programs_and_serves_new_ones(self):
        mediator = self.start_mediator()
        for mode in ([], ["sleep"]):
            program = self.start_program("loop", "60", *mode)
            executor = self.executor_of(mediator)
            self.lose(program, mediator.kill)
            wait_until(lambda pid=executor: process_state(pid) is None, "the executor's end", LOST_S)
            mediator.wait()
            mediator = self.start_mediator()
            self.assertEqual(self.run_program("modules")[0], 0, "a new program does not work")

    def test_a_faulting_kernel_ends_its_own_program_only(self):
        self.start_mediator()
        other = self.start_program("loop", "1.5")
        code, out, err = self.run_program("fault")
        self.assertEqual(code, 0, out + err)
        out, err = other.communicate(timeout=60)
        self.assertEqual(other.returncode, 0, out + err)

    @unittest.skipIf(os.environ.get("IVGPU_SANITIZED"), "a sanitizer's own calls would be counted")
    def test_asynchronous_launches_make_no_system_calls(self):
        self.assertTrue(shutil.which("strace"), "strace is missing (tools/setup installs it)")
        self.start_mediator()
        launches = 100000
        trace = os.path.join(self.folder, "trace")
        # Launches are what is counted, not the wait for the device behind them, which offers its processor again and again.
        done = subprocess.run(["strace", "-f", "-o", trace, os.path.join(PROGRAMS, "launch_rate"), str(launches)],
                              env=dict(self.environment(), IVGPU_WAIT="sleep"), capture_output=True, text=True, timeout=100)
        self.assertEqual(done.returncode, 0, done.stderr)
        with open(trace) as file:
            calls = [re.sub(r"^\d+ +", "", line).split("(")[0] for line in file]
        # What a launch may cost: a doorbell for a sleeping executor (write), waiting for room when the ring is full
        # because kernels run slower than launches come (clock_nanosleep). Start and end of a process are the rest.
        others = [name for name in calls if name not in ("clock_nanosleep", "write")]
        self.assertLess(len(others), 1000, f"{len(others)} system calls beside sleeps for room and doorbells")
        self.assertLess(calls.count("write"), launches // 100, "doorbells for an executor that is awake")
        self.assertLess(calls.count("clock_nanosleep"), launches // 10, "sleeps while the ring has room")


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], "-v", *sys.argv[1:]])
