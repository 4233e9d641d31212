#!/usr/bin/env python3
"""Each fault that ivgpu-doctor knows on a host is prepared, and it names it and what to do."""
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import unittest

from doctor_harness import FAKE_CUDA, SHIM, Doctor
from mediator_harness import BIN, HERE, WAIT_S, wait_until

NOBODY = "nobody"
LOCAL = 'local = { socket = "/nowhere/local.sock"; };\n'
# What stands in quotes with a hyphen in the doctor's sources and is no fault.
OTHER_WORDS = {"ivgpu-doctor", "ivshmem-plain", "ivshmem-doorbell", "libvirt-qemu", "nvidia-cuda-mps-control", "pref64-reserve",
               "qemu-user", "reconnect-ms", "vfio-pci", "write-back", "qemu-system"}


class FakeMediator:
    """Answers "list" and "regions" with one VM and a region of the test's making."""

    def __init__(self, path, region_fd=-1, pools=()):
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen()
        self.region_fd, self.pools = region_fd, list(pools)
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            with client:
                command = json.loads(client.makefile().readline())["command"]
                answer = {"ok": True, "pools": self.pools, "members": [{"kind": "vm", "vm_id": 7, "name": "seven", "state": "running"}]}
                if command == "regions":
                    answer["regions"] = [{"fd": 0}]
                    socket.send_fds(client, [json.dumps(answer).encode() + b"\n"], [self.region_fd])
                else:
                    client.send(json.dumps(answer).encode() + b"\n")

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join(WAIT_S)


class HostFaults(Doctor):
    def look(self, check, *more):
        return ("--config", self.config_path, f"--only={check}", *more)

    def ctl(self, *words):
        subprocess.run([os.path.join(BIN, "ivgpuctl"), f"--socket={self.control_path}", *words], check=True, timeout=WAIT_S)

    # ---- configuration, mediator, state ----

    def test_configuration(self):
        self.names("configuration-absent", "no file .*ivgpud.conf", "ivgpud.conf.example", *self.look("configuration"))
        with open(self.write_config(), "a") as file:
            file.write('\ndefaults = {\n wieght = 3; };')
        self.names("configuration-mistake", r"ivgpud.conf:\d+: .*wieght", "correct that line.*ivgpuctl reload",
                   *self.look("configuration"))
        self.write_config()
        self.names("configuration-lacks-vm", "has no VM 8", 'add it to "vms"', *self.look("configuration", "--vm=8"))
        self.finds_right(*self.look("configuration", "--vm=seven"))

    def test_mediator(self):
        self.write_config()
        self.names("mediator-absent", "No such file.*no process", "systemctl start ivgpud", *self.look("mediator"))
        self.start()
        pid = self.process.pid
        self.finds_right(*self.look("mediator"))
        self.names("control-absent", f"process {pid}.* without the control socket", "systemctl restart ivgpud",
                   *self.look("mediator", f"--control={self.folder}/other.sock"))
        self.process.send_signal(signal.SIGSTOP)
        self.names("mediator-hangs", f"process {pid}.* is stopped", f"kill -CONT {pid}", *self.look("mediator", "--patience=1"))
        self.process.kill()
        self.process.wait()
        self.names("mediator-dead", "nobody listens", "journalctl -u ivgpud.*systemctl restart", *self.look("mediator"))
        self.names("socket-stale", "Connection refused", "systemctl restart ivgpud", *self.look("socket"))

    def test_no_ivgpud_behind_the_control_socket(self):
        self.write_config()
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(self.control_path)
            listener.listen()
            self.names("mediator-does-not-start", "systemd holds the socket", "systemctl status ivgpud",
                       *self.look("mediator", "--patience=1"))
            listener.accept()[0].close()

            def answer():
                with listener.accept()[0] as client:
                    client.send(b"hello\n")

            threading.Thread(target=answer, daemon=True).start()
            self.names("mediator-strange", "is no ivgpud", "--control", *self.look("mediator"))

    def test_state_of_vms(self):
        self.start()
        self.assertEqual(len(self.finds_right(*self.look("state"))), 2)
        self.ctl("pause", "7")
        self.names("vm-paused", "paused", "ivgpuctl resume 7", *self.look("state"))
        self.ctl("resume", "7")
        self.ctl("drain", "local")
        self.names("vm-draining", "draining", "ivgpuctl resume local", *self.look("state"))
        self.ctl("resume", "local")
        self.ctl("quarantine", "7")
        self.names("vm-quarantined", "faults: none; an operator", "ivgpuctl release 7", *self.look("state", "--vm=seven"))
        self.ctl("release", "7")
        self.ctl("set", "7", "executors_max=1")
        guest = self.attach_qemu(epoch=1)
        guest.open(0)
        self.names("vm-full", "1 programs run, executors_max is 1", "ivgpuctl set 7 executors_max=2", *self.look("state"))
        guest.close()
        with open(self.config_path) as file:
            text = file.read().replace("vms = (", f'vms = ( {{ vm_id = 8; name = "late"; pool = "A"; '
                                                  f'socket = "{self.folder}/late.sock"; }},')
        self.file("ivgpud.conf", text)
        self.names("configuration-not-read", "does not have it", "ivgpuctl reload", *self.look("state"))
        self.names("socket-absent", "No such file", "ivgpuctl reload", *self.look("socket", "--vm=late"))

    # ---- sockets, denials ----

    def test_socket(self):
        self.write_config()
        self.names("socket-absent", "No such file", "start ivgpud", *self.look("socket"))
        self.file("vm1.sock", "")
        self.names("socket-is-none", "is no socket", "move that file away", *self.look("socket"))

    @unittest.skipUnless(os.geteuid() == 0, "needs another user")
    def test_socket_for_qemus_user(self):
        self.start()
        nobody = self.look("socket", f"--qemu-user={NOBODY}")
        self.names("socket-folder-permission", f"cannot enter {self.folder} .*mode 0700", rf"chmod o\+x {self.folder}", *nobody)
        os.chmod(self.folder, 0o711)
        self.names("socket-permission", f"{NOBODY} cannot connect to {self.vm_path} .root:root, mode 0660", "0666", *nobody)
        os.chown(self.vm_path, 0, 4242)
        self.names("socket-permission", "root:4242", f"usermod -aG 4242 {NOBODY}", *nobody)
        os.chmod(self.vm_path, 0o600)
        self.names("socket-permission", "mode 0600", 'socket_mode = "0660".*usermod -aG 4242', *nobody)
        os.chmod(self.vm_path, 0o666)
        self.finds_right(*nobody)
        self.names("qemu-user-absent", "no user nemo", "--qemu-user", *self.look("socket", "--qemu-user=nemo"))

    def test_denials(self):
        self.write_config()
        root = self.look("denials", f"--root={self.folder}")
        denied = (f'audit: type=1400 audit(1700000000.1:7): apparmor="DENIED" operation="connect" profile="libvirt-6a" '
                  f'name="{self.vm_path}" pid=9 comm="qemu-system-x86" requested_mask="wr" denied_mask="wr"\n')
        self.file("var/log/kern.log", denied.replace(self.vm_path, "/somebody/else"))
        self.finds_right(*root)
        self.file("var/log/kern.log", denied)
        self.names("apparmor-denies", 'profile="libvirt-6a"', f'"{self.vm_path}" rw,.*abstractions/libvirt-qemu', *root)
        self.file("var/log/kern.log", denied.replace("libvirt-6a", "ivgpu-exec").replace("qemu-system-x86", "ivgpu-exec")
                  .replace(self.vm_path, "/dev/nvidia0"))
        self.names("apparmor-denies", "nvidia0", '"/dev/nvidia0" rw,.*profile ivgpu-exec', *root)
        self.file("var/log/kern.log", "")
        self.file("var/log/audit/audit.log",
                  'type=AVC msg=audit(1700000000.1:7): avc:  denied  { write } for  pid=9 comm="qemu-kvm" name="vm1.sock" '
                  'dev="tmpfs" scontext=system_u:system_r:svirt_t:s0:c1 tclass=sock_file permissive=0\n')
        self.names("selinux-denies", "svirt_t", "audit2allow -M ivgpu", *root)

    # ---- QEMU ----

    def test_emulator(self):
        self.write_config()
        fake = self.file("qemu", '#!/bin/sh\necho \'name "virtio-net-pci", bus PCI\'\n')
        os.chmod(fake, 0o755)
        self.names("emulator-lacks-device", "does not list ivshmem-doorbell", "built with ivshmem",
                   *self.look("emulator", f"--emulator={fake}"))
        self.file("qemu", '#!/bin/sh\necho \'name "ivshmem-doorbell", bus PCI\'\n')
        self.finds_right(*self.look("emulator", f"--emulator={fake}"))

    def play_qemu(self, *options, connects=False):
        """A process that looks like QEMU in /proc."""
        code = (f"import socket, time\ns = socket.socket(socket.AF_UNIX)\n"
                f"{'s.connect(%r)' % self.vm_path if connects else ''}\nprint('up', flush=True)\ntime.sleep(600)\n")
        process = subprocess.Popen(["qemu-system-x86_64", "-c", code, *options], executable=sys.executable,
                                   stdout=subprocess.PIPE, text=True, env=dict(os.environ, PYTHONHOME=sys.base_prefix))
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        self.assertEqual(process.stdout.readline(), "up\n")
        return process

    def test_qemu(self):
        self.start()
        seven = self.look("qemu", "--vm=7")
        chardev = f"socket,id=iv,path={self.vm_path}"
        port = "pcie-root-port,id=rp1,pref64-reserve=64M"
        self.assertEqual(self.doctor(*self.look("qemu"))[0]["verdict"], "not applicable")
        self.names("qemu-absent", f"no QEMU has {self.vm_path}", "ivgpuctl attach 7", *seven)
        plain = self.play_qemu("-device", "ivshmem-plain,memdev=m")
        self.names("qemu-plain-device", "have ivshmem-plain", "ivgpuctl attach 7", *seven)
        plain.kill()
        for options, fault, seen, remedy in (
                ((chardev + ",reconnect=1", "ivshmem-doorbell,chardev=iv,vectors=5"), "qemu-reconnects", "has reconnect=",
                 "leave reconnect= out"),
                ((chardev, "virtio-serial-pci"), "qemu-lacks-device", "no device for it", "vectors=5: ivgpuctl attach 7"),
                ((chardev, "ivshmem-doorbell,chardev=iv"), "qemu-vectors", "vectors=1, the configuration vectors = 5",
                 "vectors=5"),
                ((chardev, '{"driver":"ivshmem-doorbell","chardev":"iv","vectors":4}'), "qemu-vectors", "vectors=4",
                 "vectors=5"),
                ((chardev, "ivshmem-doorbell,chardev=iv,vectors=5,bus=rp2", "-device",
                  "pcie-root-port,id=rp2,pref64-reserve=16M"), "qemu-window-small", "16M is below the region's 32 MiB",
                 "pref64-reserve=32M"),
                ((chardev, "ivshmem-doorbell,chardev=iv,vectors=5,bus=rp1", "-device", port), "qemu-not-connected",
                 "is not connected", "device_del, chardev-remove, chardev-add, device_add")):
            with self.subTest(fault):
                process = self.play_qemu("-chardev", options[0], "-device", *options[1:])
                self.names(fault, seen, remedy, *seven)
                process.kill()
                process.wait()
        self.play_qemu("-chardev", chardev, "-device", '{"driver":"ivshmem-doorbell","chardev":"iv","vectors":5}', connects=True)
        self.finds_right(*seven)

    # ---- region ----

    def test_region_and_former_configuration(self):
        self.start()
        self.assertEqual(self.doctor(*self.look("region"))[0]["verdict"], "not applicable")
        guest = self.attach_qemu()
        self.assertRegex(self.finds_right(*self.look("region"))[0]["seen"], "32 MiB, 4 channels, layout 2.*no guest")
        guest.begin_epoch(5)
        self.assertRegex(self.finds_right(*self.look("region"))[0]["seen"], "a guest uses it")
        with open(self.config_path) as file:
            text = file.read().replace("region_mib = 32", "region_mib = 64")
        self.file("ivgpud.conf", text)
        self.names("region-of-former-configuration", "32 MiB, 4 channels, 5 vectors; the configuration says 64, 4, 5",
                   "start it again", *self.look("region"))
        guest.close()

    def test_region_of_another_making(self):
        self.start()
        guest = self.attach_qemu()
        begin = guest.region.map[:1 << 20]
        guest.close()
        self.end()
        fd = os.memfd_create("region")
        os.truncate(fd, 32 << 20)
        fake = FakeMediator(self.control_path, fd)
        for offset, value, fault, seen, remedy in (
                (8, b"\x09\0\0\0", "region-of-another-build", "layout 9", "systemctl restart ivgpud"),
                (24, b"\x09\0\0\0", "region-of-another-build", "this installation's are 2", "same version in the guest"),
                (80, b"\xff" * 8, "region-broken", ".", "start the VM again"),
                (0, b"", "region-without-heartbeat", "stands still", 'see "mediator"')):
            with self.subTest(fault, offset=offset):
                os.pwrite(fd, begin, 0)
                os.pwrite(fd, value, offset)
                self.names(fault, seen, remedy, *self.look("region"))
        fake.close()
        os.close(fd)

    # ---- driver ----

    def test_driver(self):
        def config(driver, pool=""):
            self.file("ivgpud.conf", f'mediator = {{ device = "cuda"; driver = "{driver}"; }};\n'
                                     f'pools = ( {{ name = "A"; {pool} }} );\n{LOCAL}')

        driver = self.look("driver")
        config(self.folder + "/nowhere.so")
        self.names("driver-absent", "nowhere.so", 'device = "soft"', *driver)
        config(SHIM)
        self.names("driver-absent", "ivgpu's own", "driver = ", *driver)
        config(os.path.join(BIN, "../tests/fake_drivers/libfake_driver_0.so"))
        self.names("driver-unusable", "no CUDA driver", "name the right one", *driver)
        config(FAKE_CUDA)
        self.assertRegex(self.finds_right(*driver)[0]["seen"], "CUDA 12.8, GPUs: 0 fake 0")
        for answer, fault, remedy in ((100, "gpu-absent", "nvidia-smi -L"), (803, "driver-mismatch", "rmmod|reboot"),
                                      (802, "driver-not-ready", "nvidia-fabricmanager"), (804, "driver-compat", "compat folder"),
                                      (999, "driver-unknown-error", "modprobe nvidia-uvm"), (46, "driver-fails", "dmesg")):
            self.names(fault, f"cuInit answers {answer}", remedy, *driver, variables={"FAKE_CUDA_FAILS": f"cuInit={answer}"})
        self.names("driver-hangs", "does not come up", "dmesg", *driver, "--patience=1", variables={"FAKE_CUDA_HANGS": "cuInit"})
        config(FAKE_CUDA, "gpus = [ 0, 3 ];")
        self.names("pool-gpu-absent", "GPU 3 is none of the driver's 1", "from 0 to 0", *driver)

    def test_sharing(self):
        def config(pool, mediator=""):
            self.file("ivgpud.conf", f'mediator = {{ device = "cuda"; driver = "{FAKE_CUDA}"; {mediator} }};\n'
                                     f'pools = ( {{ name = "A"; {pool} }} );\n{LOCAL}')

        sharing = self.look("sharing")
        config("")
        self.finds_right(*sharing)
        self.names("gpu-exclusive", "EXCLUSIVE_PROCESS", 'nvidia-smi -i 0 -c DEFAULT.*mps = "on"', *sharing,
                   variables={"FAKE_CUDA_MODE": "3"})
        self.names("gpu-prohibited", "PROHIBITED", "nvidia-smi -i 0 -c DEFAULT", *sharing, variables={"FAKE_CUDA_MODE": "2"})
        config('mps = "on";', 'mps_program = "/nowhere/mps";')
        self.names("mps-absent", "/nowhere/mps is not there", "nvidia-cuda-mps", *sharing)
        config('mps = "on";')
        self.file("nvidia-cuda-mps-control", "#!/bin/sh\n")
        os.chmod(self.folder + "/nvidia-cuda-mps-control", 0o755)
        self.finds_right(*sharing, variables={"PATH": self.folder, "FAKE_CUDA_MODE": "3"})
        fake = FakeMediator(self.control_path, pools=[{"name": "A", "mps": "down"}])
        self.names("mps-down", "server is down", "grep MPS", *sharing, f"--control={self.control_path}")
        fake.close()

    # ---- a program's way ----

    def test_the_way_of_a_program(self):
        """Real executors on the soft GPU."""
        self.file("ivgpud.conf", f"""mediator = {{ device = "soft"; }};
local = {{ socket = "{self.local_path}"; region_mib = 128; executors_max = 1; }};
control = {{ socket = "{self.control_path}"; }};""")
        way = self.look("executor,gpu,roundtrip,kernel,copies")
        self.names("way-absent", "error 3 .MEDIATOR_UNAVAILABLE.*absent", "start ivgpud", *way)
        open(self.log_path, "w").close()
        self.process = self.spawn(["--config", self.config_path, "--foreground"])
        self.addCleanup(self.end)
        wait_until(lambda: "listening on " + self.control_path in self.log(), "start")
        findings = self.finds_right("--config", self.config_path)  # all checks: a healthy host
        by_check = {one["check"]: one for one in findings}
        for check, seen in (("executor", r"ready after \d+\.\d ms"), ("gpu", "ivgpu soft GPU, .*CUDA 13.0"),
                            ("roundtrip", r"^\d+\.\d\d us"), ("kernel", "1048576 words computed, every one right"),
                            ("copies", r"every word right: up \d+\.\d\d GB/s, down \d+\.\d\d GB/s")):
            self.assertEqual(by_check[check]["verdict"], "ok")
            self.assertRegex(by_check[check]["seen"], seen)
        self.ctl("quarantine", "local")
        self.names("vm-quarantined", "error 11 .VM_QUARANTINED", "ivgpuctl release VM", *way)
        self.ctl("release", "local")
        loop = subprocess.Popen([os.path.join(BIN, "../tests/cuda/loop"), "600"], stdout=subprocess.DEVNULL,
                                env=dict(os.environ, LD_LIBRARY_PATH=os.path.dirname(SHIM), IVGPU_SOCKET=self.local_path))
        try:
            wait_until(lambda: "CUDA_CALL_INIT" in self.log().rpartition("CONTROL")[2], "its executor")
            self.names("queue-full", "error 7 .QUEUE_FULL", "executors_max=N", *way)
        finally:
            loop.kill()
            loop.wait()
        self.process.kill()
        self.process.wait()
        self.names("mediator-dead", "error 3 .*refused", "systemctl restart ivgpud", *way)

    def test_no_local_programs(self):
        self.file("ivgpud.conf", f'''pools = ( {{ name = "A"; }} );
vms = ( {{ vm_id = 7; name = "seven"; pool = "A"; socket = "{self.vm_path}"; }} );''')
        findings = self.doctor(*self.look("executor,copies"))
        self.assertEqual([one["verdict"] for one in findings], ["not applicable"] * 2)

    def test_what_libcuda_says(self):
        self.write_config()
        for error, words, fault, remedy in (
                (1, "call table fingerprint: program has 1, mediator has 2", "builds-differ", "same version"),
                (3, "driver:/dev/ivgpu0: layout version 2, this build knows 1", "builds-differ", "same version"),
                (3, "call table fingerprint 2, this build has 1", "builds-differ", "same version"),
                (3, "local:/x: permission denied", "way-forbidden", 'group of the local socket|"node"'),
                (3, "VM 7 (web) is draining", "vm-draining", "ivgpuctl resume"),
                (3, "the host said no", "mediator-unavailable", "ivgpud's log"),
                (4, "no executor within 10 s", "executor-late", "ready_timeout_ms"),
                (5, "the executor has no device", "driver-fails", '"driver" on the host'),
                (6, "no such pool", "pool-absent", '"pool"'),
                (8, "IVGPU_CHANNEL=smoke:x", "way-unknown", "unset it"),
                (10, "calls_per_s = 5", "rate-limited", "calls_per_s=0")):
            with self.subTest(fault, error=error):
                self.names(fault, words.replace("(", r"\(").replace(")", r"\)"), remedy, *self.look("executor", f"--shim={FAKE_CUDA}"),
                           variables={"FAKE_CUDA_FAILS": "cuInit=100", "FAKE_CUDA_SAYS": f"ivgpu: error {error} (WORD): {words}"})

    def test_what_fails_on_the_way(self):
        self.write_config()
        way = self.look("executor,gpu,roundtrip,kernel,copies", f"--shim={FAKE_CUDA}")
        self.assertEqual({one["verdict"] for one in self.doctor(*way)}, {"ok"})
        for variables, fault, seen, remedy in (
                ({"FAKE_CUDA_FAILS": "cuInit=46"}, "start-fails", "cuInit answers CUDA error 46", "ivgpud's log"),
                ({"FAKE_CUDA_FAILS": "cuDevicePrimaryCtxRetain=46"}, "gpu-unusable", "Retain answers CUDA error 46", "log"),
                ({"FAKE_CUDA_FAILS": "cuMemGetInfo=700"}, "roundtrip-fails", "cuMemGetInfo answers CUDA error 700", "log"),
                ({"FAKE_CUDA_FAILS": "cuMemAlloc=2"}, "memory-full", "64 of 64 MiB are free", "vram_mib"),
                ({"FAKE_CUDA_FAILS": "cuModuleLoadData=218"}, "kernel-fails", "answers CUDA error 218", "log"),
                ({"FAKE_CUDA_WRONG": "cuLaunchKernel"}, "kernel-fails", "word 524288 is .*, must be", "report it"),
                ({"FAKE_CUDA_WRONG": "cuMemcpyDtoH"}, "copies-fail", "came back as", "report it")):
            with self.subTest(fault, **variables):
                self.names(fault, seen, remedy, *way, variables=variables)
        self.names("way-hangs", "no end within 1 s", "ivgpuctl resume", *way, "--patience=1",
                   variables={"FAKE_CUDA_HANGS": "cuModuleLoadData"})
        self.names("shim-absent", "nowhere/libcuda.so.1", "--shim", *self.look("executor", "--shim=/nowhere/libcuda.so.1"))

    # ---- the program itself ----

    def test_every_fault_is_prepared_in_a_test(self):
        known, tested = set(), ""
        sources = os.path.join(HERE, "../../doctor")
        for name in os.listdir(sources):
            if name.endswith(".c"):
                with open(os.path.join(sources, name)) as file:
                    known |= set(re.findall(r'"([a-z0-9]+(?:-[a-z0-9]+)+)"', file.read()))
        for name in ("doctor_names_host_faults.py", "doctor_names_guest_faults.py"):
            with open(os.path.join(HERE, name)) as file:
                tested += file.read()
        self.assertGreater(len(known), 70)
        self.assertEqual({word for word in known - OTHER_WORDS if f'"{word}"' not in tested}, set())

    def test_usage(self):
        def run(*words):
            return subprocess.run([os.path.join(BIN, "ivgpu-doctor"), *words], capture_output=True, text=True, timeout=WAIT_S)

        for words, text in ((("--only=nonsense",), '"nonsense" is no check'), (("--patience=x",), "no number from 1 to 3600"),
                            (("more",), '"more" is not expected'), (("--nonsense",), "usage")):
            result = run(*words)
            self.assertEqual(result.returncode, 2)
            self.assertIn(text, result.stderr)
        self.assertIn("Exit status: 0 nothing is wrong; 1 something is NOT OK; 2 usage.", run("--help").stdout)
        self.write_config()
        text = run("--host", "--config", self.config_path, "--only=mediator")
        self.assertRegex(text.stdout, "-- host\nNOT OK +mediator .*\n +-> start it: .*\n0 ok, 1 not ok, 0 unknown, 0 not applicable\n$")
        self.assertEqual(text.returncode, 1)


if __name__ == "__main__":
    unittest.main()
