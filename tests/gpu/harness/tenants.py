"""Several tenants of one GPU: an ivgpud with a VM for each (programs of this machine, by local_socket), or plain processes
without ivgpu; the load programs of tests/cuda as clients of either; an MPS server of the run's own."""

import glob
import json
import os
import shutil
import subprocess
import tempfile
import time

from harness import mediator

READY_S, END_S, DAEMON_S = 40, 40, 10
MPS_PROGRAM = "nvidia-cuda-mps-control"
MPS_FOLDERS = ("/usr/local/nvidia/bin", "/usr/local/cuda/bin", "/usr/bin", "/opt/bin")
REGION_MIB = 64


class Failed(Exception):
    pass


def mps_program():
    """Where the driver's control program is; None: nowhere."""
    path = os.pathsep.join([os.environ.get("PATH", ""), *MPS_FOLDERS])
    return shutil.which(MPS_PROGRAM, path=path)


class Client:
    """A load program: started, ready, sent off, asked what it got."""

    def __init__(self, name, command, environment, logs):
        self.name, self.error_path = name, os.path.join(logs, name + ".err")
        self.command = " ".join(os.path.basename(word) for word in command)
        with open(self.error_path, "wb") as errors:
            self.process = subprocess.Popen(
                command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors
            )
        os.set_blocking(self.process.stdout.fileno(), False)
        self._text = ""

    def errors(self):
        with open(self.error_path, encoding="utf-8", errors="replace") as file:
            return " | ".join(file.read().splitlines()[-3:])[-300:]

    def _died(self, what):
        return Failed(f"{self.name} ({self.command}): {what}, exit {self.process.poll()}: {self.errors()}")

    def line(self, limit_s):
        """The next line of its output."""
        end = time.monotonic() + limit_s
        while "\n" not in self._text:
            data = self.process.stdout.read()
            if data == b"":
                raise self._died("ended without a line")
            self._text += (data or b"").decode(errors="replace")
            if time.monotonic() > end:
                raise self._died(f"no line within {limit_s} s")
            if not data:
                time.sleep(0.002)
        line, self._text = self._text.split("\n", 1)
        return line

    def go(self):
        try:
            self.process.stdin.write(b"go\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise self._died("gone before its start") from None

    def told(self, limit_s=END_S):
        """Its next line, which is JSON."""
        return json.loads(self.line(limit_s))

    def result(self, limit_s=END_S):
        """What it tells at its end."""
        found = self.told(limit_s)
        if self.end(limit_s) != 0:
            raise self._died("failed after its result")
        return found

    def end(self, limit_s=END_S):
        """Its exit code, when it has ended by itself."""
        self.process.stdin.close()
        try:
            return self.process.wait(limit_s)
        except subprocess.TimeoutExpired:
            raise self._died(f"does not end within {limit_s} s") from None

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


class Machine:
    """What clients of one scenario have in common; `with`: whatever is left of them ends with it."""

    def __init__(self, build, device, folder):
        self.build, self.device, self.folder = os.path.abspath(build), device, folder
        self.clients = []
        os.makedirs(folder, exist_ok=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for client in self.clients:
            client.kill()

    def environment(self, _tenant):
        raise NotImplementedError

    def start(self, tenant, program, *words):
        name = f"{len(self.clients)}-{program}-{words[0] if words else ''}"
        command = [os.path.join(self.build, "tests/cuda", program), *[str(word) for word in words]]
        client = Client(name, command, self.environment(tenant), self.folder)
        self.clients.append(client)
        return client

    def run(self, works):
        """Results of programs that begin at once; each work: tenant, program, its words."""
        clients = [self.start(*work) for work in works]
        for client in clients:
            if client.line(READY_S) != "ready":
                raise Failed(f"{client.name}: not ready: {client.errors()}")
        for client in clients:
            client.go()
        return [client.result() for client in clients]


class Plain(Machine):
    """Processes that have the driver for themselves."""

    def __init__(self, build, device, folder, more=None):
        super().__init__(build, device, folder)
        self.more = dict(more or {})

    def environment(self, _tenant):
        environment = dict(os.environ, **self.more)
        if self.device == "soft":
            environment["LD_LIBRARY_PATH"] = os.path.join(self.build, "lib/ivgpu-host/softgpu")
        return environment


class Vms(Machine):
    """An ivgpud with a VM for each dict of keys."""

    def __init__(self, build, device, folder, vms, policy="fair", pool="", more=None, keys=""):
        super().__init__(build, device, folder)
        self.short = tempfile.mkdtemp(prefix="ivgpu-vms.")  # sockets' paths have 108 bytes, whatever `folder` is
        self.sockets = [os.path.join(self.short, f"vm{i}.sock") for i in range(len(vms))]
        self.control = os.path.join(self.short, "control.sock")
        groups = ",\n".join(
            f'{{ vm_id = {i + 1}; name = "vm{i}"; pool = "A"; local_socket = "{self.sockets[i]}"; region_mib = {REGION_MIB}; '
            + " ".join(f"{key} = {json.dumps(value)};" for key, value in vm.items())
            + " }"
            for i, vm in enumerate(vms)
        )
        config = os.path.join(folder, "ivgpud.conf")
        with open(config, "w", encoding="utf-8") as file:
            file.write(
                f'mediator = {{ device = "{device}"; heartbeat_log_s = 0; warm_executors = 0; {keys}'
                f' mps_dir = "{self.short}/mps"; }};\n'
                f'pools = ( {{ name = "A"; policy = "{policy}"; {pool} }} );\n'
                f'control = {{ socket = "{self.control}"; }};\nvms = (\n{groups}\n);\n'
            )
        self.mediator = mediator.Mediator(
            build, device, ["--config", config], environment=more, log_path=os.path.join(folder, "ivgpud.log")
        )

    def __enter__(self):
        self.mediator.__enter__()
        return self

    def __exit__(self, *reason):
        super().__exit__(*reason)
        self.mediator.__exit__(*reason)
        for folder in glob.glob(os.path.join(self.short, "mps/*/log")):  # what MPS said
            shutil.copytree(folder, os.path.join(self.folder, "mps-log"), dirs_exist_ok=True)
        shutil.rmtree(self.short, ignore_errors=True)

    def environment(self, tenant):
        environment = self.mediator.environment()
        environment["IVGPU_SOCKET"] = self.sockets[tenant]
        environment.pop("IVGPU_CHANNEL")
        return environment

    def ctl(self, *words):
        """ivgpuctl's answer, as JSON."""
        command = [os.path.join(self.build, "bin/ivgpuctl"), f"--socket={self.control}", "--json", *words]
        asked = subprocess.run(command, capture_output=True, text=True, timeout=END_S)
        if asked.returncode != 0:
            raise Failed(f"ivgpuctl {' '.join(words)}: exit {asked.returncode}: {asked.stderr.strip()[-300:]}")
        return json.loads(asked.stdout)

    def gpu_seconds(self):
        """Of each VM, as its executors measured."""
        accounts = {account["name"]: account for account in self.ctl("stats")["accounts"] if account["kind"] == "vm"}
        return [accounts[f"vm{i}"]["gpu_seconds"] for i in range(len(self.sockets))]


class MpsServer:
    """A control daemon with folders of its own, for clients with `environment`."""

    def __init__(self, program, folder):
        self.program, self.pipes, self.logs = program, tempfile.mkdtemp(prefix="ivgpu-mps."), folder
        self.environment = {"CUDA_MPS_PIPE_DIRECTORY": self.pipes, "CUDA_MPS_LOG_DIRECTORY": self.logs}

    def __enter__(self):
        os.makedirs(self.logs, exist_ok=True)
        asked = subprocess.run(
            [self.program, "-d"], env=self._all(), capture_output=True, text=True, timeout=DAEMON_S, stdin=subprocess.DEVNULL
        )
        if asked.returncode != 0:
            raise Failed(f"{self.program} -d: exit {asked.returncode}: {(asked.stdout + asked.stderr).strip()[-300:]}")
        return self

    def _all(self):
        return dict(os.environ, **self.environment)

    def ask(self, words):
        asked = subprocess.run(
            [self.program], env=self._all(), input=words + "\n", capture_output=True, text=True, timeout=DAEMON_S
        )
        return (asked.stdout + asked.stderr).strip()

    def words(self):
        """The last of what the server has logged."""
        found = []
        for name in ("control.log", "server.log"):
            try:
                with open(os.path.join(self.logs, name), encoding="utf-8", errors="replace") as file:
                    found += [f"{name}: {line}" for line in file.read().splitlines()[-3:]]
            except OSError:
                found.append(f"{name}: none")
        return " | ".join(found)[-600:]

    def __exit__(self, *_):
        try:
            self.ask("quit -t 5")
        except (subprocess.TimeoutExpired, OSError):
            pass  # told by whatever needed it
        shutil.rmtree(self.pipes, ignore_errors=True)
