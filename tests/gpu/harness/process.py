"""One run of one command: its own session, a time limit, everything it started ended with it."""

import os
import signal
import subprocess
import time

OUTPUT_KEPT_BYTES = 8 << 20  # of each of stdout and stderr
END_WAIT_S = 10  # after SIGKILL: only a process inside a driver's call takes so long


class Run:
    """exit: the exit code, negative for a signal; None: the command does not exist."""

    def __init__(self, exit_code, stdout, stderr, seconds, timed_out):
        self.exit, self.stdout, self.stderr = exit_code, stdout, stderr
        self.seconds, self.timed_out = seconds, timed_out


def _group_end(pid):
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def _kept_text(path):
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(max(0, size - OUTPUT_KEPT_BYTES))
        return file.read().decode(errors="replace")


def run_command(command, environment, limit_s, log_prefix):
    """Output goes to files: a full pipe stops nobody, and it is there after a crash of ours."""
    stdout_path, stderr_path = log_prefix + ".out", log_prefix + ".err"
    start = time.monotonic()
    with open(stdout_path, "wb") as stdout, open(stderr_path, "wb") as stderr:
        try:
            process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, start_new_session=True
            )
        except OSError as error:
            return Run(None, "", f"{command[0]}: {error.strerror}", 0.0, False)
        timed_out = False
        try:
            process.wait(limit_s)
        except subprocess.TimeoutExpired:
            timed_out = True
        finally:
            _group_end(process.pid)  # also what the program left behind
        try:
            process.wait(END_WAIT_S)
        except subprocess.TimeoutExpired:
            pass
    return Run(
        process.returncode, _kept_text(stdout_path), _kept_text(stderr_path), time.monotonic() - start, timed_out
    )
