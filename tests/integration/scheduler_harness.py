"""An ivgpud with several VMs on one soft GPU whose kernels take stated time and no processor, and programs of theirs."""
import json
import os
import shutil
import subprocess
import tempfile
import unittest

BIN = os.environ["IVGPU_BIN"]
BUILD = os.path.dirname(BIN)
CUDA = os.path.join(BUILD, "tests", "cuda")
WAIT_S = 60
BLOCK_NS = 100000  # a kernel of 10 blocks takes 1 ms


def environment_of(socket):
    """Of a program that is to belong to the VM of that socket."""
    environment = dict(os.environ, IVGPU_SOCKET=socket, LD_LIBRARY_PATH=os.path.join(BUILD, "lib", "ivgpu"))
    environment.pop("IVGPU_CHANNEL", None)
    return environment


class Program:
    """tests/cuda/share with these words; or another one of that folder."""

    def __init__(self, socket, words, name="share"):
        self.process = subprocess.Popen([os.path.join(CUDA, name), *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True, env=environment_of(socket))
        line = self.process.stdout.readline()
        if line != "ready\n":
            raise AssertionError(f"{words}: {line}{self.process.stderr.read()}")

    def end(self):
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            pipe.close()

    def go(self):
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def result(self):
        out, err = self.process.communicate(timeout=WAIT_S)
        if self.process.returncode != 0:
            raise AssertionError(f"ended with {self.process.returncode}: {out}{err}")
        return dict(json.loads(out), stderr=err)


class Machine(unittest.TestCase):
    def start(self, vms, policy=None):
        """vms: a dict of keys for each VM. Without a policy: the default."""
        self.folder = tempfile.mkdtemp(prefix="ivgpu-sched.")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.sockets = [os.path.join(self.folder, f"{i}.sock") for i in range(len(vms))]
        groups = ", ".join("{ " + f'vm_id = {i + 1}; name = "vm{i}"; pool = "A"; local_socket = "{self.sockets[i]}"; '
                           "region_mib = 16; " + " ".join(f"{key} = {json.dumps(value)};" for key, value in vm.items()) + " }"
                           for i, vm in enumerate(vms))
        policy_key = f'policy = "{policy}";' if policy else ""
        self.control = os.path.join(self.folder, "control.sock")
        config = os.path.join(self.folder, "ivgpud.conf")
        with open(config, "w", encoding="utf-8") as file:
            file.write(f'mediator = {{ device = "soft"; heartbeat_log_s = 0; }};\n'
                       f'pools = ( {{ name = "A"; {policy_key} }} );\nvms = ( {groups} );\n'
                       f'control = {{ socket = "{self.control}"; }};\n')
        self.log = open(os.path.join(self.folder, "log"), "w+", encoding="utf-8")
        self.addCleanup(self.log.close)
        ready, told = os.pipe()
        environment = dict(os.environ, IVGPU_SOFT_BLOCK_NS=str(BLOCK_NS), IVGPU_SOFT_ENGINE=os.path.join(self.folder, "engine"))
        self.mediator = subprocess.Popen([os.path.join(BIN, "ivgpud"), "--config", config, "--foreground", "--ready-fd",
                                          str(told)], stderr=self.log, env=environment, pass_fds=[told])
        os.close(told)
        self.addCleanup(self.end)
        with os.fdopen(ready) as file:
            self.assertEqual(file.readline(), "ready\n")

    def end(self):
        self.mediator.terminate()
        try:
            self.mediator.wait(WAIT_S)
        except subprocess.TimeoutExpired:
            self.mediator.kill()
            self.mediator.wait()

    def ctl(self, *words):
        """ivgpuctl's answer."""
        asked = subprocess.run([os.path.join(BIN, "ivgpuctl"), f"--socket={self.control}", "--json", *words],
                               capture_output=True, text=True, timeout=WAIT_S)
        self.assertEqual(asked.returncode, 0, asked.stderr)
        return json.loads(asked.stdout)

    def stats(self, vm):
        return self.ctl("stats", str(vm + 1))["accounts"][0]

    def program(self, vm, *words):
        """Ready, and ended with the test if not before."""
        program = Program(self.sockets[vm], [str(word) for word in words])
        self.addCleanup(program.end)
        return program

    def run_all(self, works):
        programs = [self.program(vm, *work) for vm, *work in works]
        for program in programs:
            program.go()
        return [program.result() for program in programs]
