"""An ivgpud of the caller's own for programs of this machine, and the environment of a program that uses it."""

import os
import select
import shutil
import signal
import subprocess
import tempfile

READY_S, END_S = 10, 10


class Mediator:
    """with Mediator(build, "cuda") as mediator: subprocess.Popen(..., env=mediator.environment())"""

    def __init__(self, build, device, arguments=(), environment=None, log_path=None):
        """environment: what it has beside ours; log_path: keeps its log there."""
        self.build, self.device, self.arguments = os.path.abspath(build), device, list(arguments)
        self.more, self.log_path = dict(environment or {}), log_path

    def __enter__(self):
        self.folder = tempfile.mkdtemp(prefix="ivgpu-mediator.")
        self.socket = os.path.join(self.folder, "local.sock")
        self.log_path = self.log_path or os.path.join(self.folder, "log")
        ready, theirs = os.pipe()
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                [os.path.join(self.build, "bin/ivgpud"), "--local", self.socket, "--device", self.device,
                 "--foreground", "--ready-fd", str(theirs), *self.arguments],
                stderr=log, stdin=subprocess.DEVNULL, pass_fds=(theirs,), env=dict(os.environ, **self.more))  # fmt: skip
        os.close(theirs)
        try:
            if not select.select([ready], [], [], READY_S)[0] or not os.read(ready, 16):
                raise RuntimeError("ivgpud did not start: " + self.log()[-500:])
        except Exception:
            self.__exit__()
            raise
        finally:
            os.close(ready)
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(END_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def environment(self):
        path = ":".join(filter(None, (os.path.join(self.build, "lib/ivgpu"), os.environ.get("LD_LIBRARY_PATH"))))
        return dict(os.environ, LD_LIBRARY_PATH=path, IVGPU_SOCKET=self.socket, IVGPU_CHANNEL="local:" + self.socket)

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as file:
            return file.read()

    def executors(self):
        """Process ids; an executor that has ended but is not waited for does not count."""
        with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children", encoding="ascii") as file:
            return [int(pid) for pid in file.read().split() if is_running(int(pid))]


def is_running(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            return file.read().rsplit(")", 1)[1].split()[0] not in ("Z", "X")
    except (FileNotFoundError, ProcessLookupError):
        return False
