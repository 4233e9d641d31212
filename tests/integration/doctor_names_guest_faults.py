#!/usr/bin/env python3
"""Each fault that ivgpu-doctor knows in a guest is prepared, in a tree that looks like a guest's /sys and /dev, and it
names it and what to do. tests/vm/programs.bash runs it in a real one."""
import os
import shutil
import socket
import subprocess
import unittest

from doctor_harness import SHIM, Doctor

DEVICE = "0000:01:00.0"
MIB = 1 << 20
ATTRIBUTES = {"channels_total": 15, "channels_in_use": 1, "channels_draining": 0, "extents_total": 511, "extents_in_use": 8,
              "extents_kept": 0, "extents_pinned": 0, "vectors": 16, "mapping": "write-back", "copy_mib_per_s": 9000}


class GuestFaults(Doctor):
    side = "--guest"

    def look(self, check, *more):
        return (f"--root={self.folder}", f"--only={check}", *more)

    def device(self, bar1=4096, bar2=1024 * MIB, start=0x4000000000, driver=None):
        folder = f"sys/bus/pci/devices/{DEVICE}"
        self.file(f"{folder}/vendor", "0x1af4\n")
        self.file(f"{folder}/device", "0x1110\n")
        bars = [(0xfea00000, 256), (0xfea01000, bar1), (start, bar2)] + 3 * [(0, 0)]
        self.file(f"{folder}/resource", "".join(f"0x{at if size else 0:016x} 0x{at + size - 1 if size else 0:016x} "
                                                f"0x{0x40200:016x}\n" for at, size in bars))
        link = os.path.join(self.folder, folder, "driver")
        if os.path.islink(link):
            os.unlink(link)
        if driver:
            os.symlink(f"../../../bus/pci/drivers/{driver}", link)

    def attributes(self, **changed):
        for name, value in {**ATTRIBUTES, **changed}.items():
            self.file(f"sys/class/ivgpu/ivgpu0/{name}", f"{value}\n")

    # ---- device and kernel driver ----

    def test_device(self):
        os.makedirs(os.path.join(self.folder, "sys/bus/pci/devices"))
        self.names("device-absent", "1af4:1110", "ivgpuctl attach VM", *self.look("device"))
        self.device(bar1=0)
        self.names("device-without-doorbell", "ivshmem-plain", "ivshmem-doorbell: ivgpuctl attach", *self.look("device"))
        self.device(start=0)
        self.names("device-not-placed", "not placed", "pref64-reserve", *self.look("device"))
        self.device(bar2=4 * MIB)
        self.names("device-of-another-server", "4194304 bytes", "VM's socket", *self.look("device"))
        self.device()
        self.assertRegex(self.finds_right(*self.look("device"))[0]["seen"], "BAR 2 of 1024 MiB at 4000000000$")

    def test_module(self):
        module = self.look("module")
        self.assertEqual(self.doctor(*module)[0]["verdict"], "not applicable")
        self.device()
        self.file("proc/sys/kernel/osrelease", "6.1.0-7-cloud-amd64\n")
        self.names("module-not-built", "for 6.1.0-7-cloud-amd64", "ivgpu-guest-dkms and linux-headers-6.1.0-7-cloud-amd64", *module)
        self.file("lib/modules/6.1.0-7-cloud-amd64/updates/dkms/ivgpu.ko.xz", "")
        self.names("module-not-loaded", "is built for 6.1.0-7", "^modprobe ivgpu$", *module)
        self.file("sys/kernel/security/lockdown", "none [integrity] confidentiality\n")
        self.names("module-not-loaded", "is built for 6.1.0-7", "mokutil --import", *module)
        self.file("sys/module/ivgpu/version", "0.0.1\n")
        self.names("module-of-another-version", "kernel driver is 0.0.1", "modprobe -r ivgpu", *module)
        self.file("sys/module/ivgpu/version", "0.1.0\n")
        self.file("var/log/kern.log", f"ivgpu {DEVICE}: layout version 2, this driver knows 1\n")
        self.names("module-refuses-device", "layout version 2", "drivers_probe", *module)
        self.device(driver="ivgpu")
        self.finds_right(*module)
        self.device(driver="vfio-pci")
        self.names("device-held-by-another-driver", "vfio-pci .*no ivgpu-broker", f"unbind; .*{DEVICE}.*or start ivgpu-broker",
                   *module)
        self.file("proc/net/unix", "Num       RefCount Protocol Flags    Type St Inode Path\n"
                                   "0000000000000000: 00000002 00000000 00010000 0005 01 4711 /run/ivgpu/broker.sock\n")
        self.finds_right(*module)
        self.device(driver="uio_pci_generic")
        self.names("device-held-by-another-driver", "uio_pci_generic has the device", "unbind", *module)

    # ---- node and channels ----

    @unittest.skipUnless(os.geteuid() == 0, "needs another user")
    def test_node(self):
        node = self.look("node", "--user=nobody")
        self.assertEqual(self.doctor(*node)[0]["verdict"], "not applicable")
        self.attributes()
        self.names("node-absent", "is not there", "--device /dev/ivgpu0", *node)
        path = self.file("dev/ivgpu0", "")
        os.chmod(self.folder, 0o755)
        os.chmod(path, 0o600)
        self.names("node-permission", "root:root, mode 0600.*nobody", "udevadm trigger -s ivgpu; usermod -aG ivgpu nobody", *node)
        os.chown(path, 0, 4242)
        os.chmod(path, 0o660)
        self.names("node-permission", "root:4242", "usermod -aG 4242 nobody", *node)
        os.chmod(path, 0o666)
        self.finds_right(*node)
        self.assertEqual(self.doctor(*self.look("node", "--user=nemo"))[0]["verdict"], "unknown")

    def test_channels(self):
        channels = self.look("channels")
        self.assertEqual(self.doctor(*channels)[0]["verdict"], "not applicable")
        for changed, fault, seen, remedy in (
                ({"channels_in_use": 14, "channels_draining": 1}, "channels-full", "all 15 channels", "channels = N"),
                ({"channels_in_use": 0, "channels_draining": 15}, "channels-not-freed", "15 of programs that have ended",
                 "ivgpu-doctor there"),
                ({"vectors": 0}, "no-interrupts", "poll", "vectors="),
                ({"extents_in_use": 500, "extents_kept": 11}, "arena-full", "all 511 extents", "region_mib"),
                ({"mapping": "not write-back"}, "mapping-uncached", "not write-back", "nopat")):
            with self.subTest(fault):
                self.attributes(**changed)
                self.names(fault, seen, remedy, *channels)
        self.attributes()
        self.assertRegex(self.finds_right(*channels)[0]["seen"], "14 of 15 channels free, 1006 of 1022 MiB, 16 vectors, write-back")

    # ---- which library ----

    def build(self, output, *options):
        source = self.file("made.c", "int cuInit(unsigned int f); int cuInit(unsigned int f) { return (int)f; }\n"
                                     "int main(void) { return cuInit(0); }\n")
        subprocess.run(["gcc", "-o", os.path.join(self.folder, output), source, *options], check=True)
        return os.path.join(self.folder, output)

    def test_loader(self):
        other, ours = os.path.join(self.folder, "other"), os.path.dirname(SHIM)
        os.makedirs(other)
        self.build("other/libcuda.so.1", "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1")
        plain = self.build("plain")
        runpath = self.build("runpath", f"-Wl,-rpath,{other}", "-Wl,--enable-new-dtags")
        rpath = self.build("rpath", f"-Wl,-rpath,{other}", "-Wl,--disable-new-dtags")
        script = self.file("script", f"#!/usr/bin/env -S {plain} -x\n")

        def of(program):
            return self.look("loader", f"--program={program}")

        nothing, both = {"LD_LIBRARY_PATH": ""}, {"LD_LIBRARY_PATH": f"{other}:{ours}"}
        self.names("libcuda-absent", "finds no libcuda.so.1", f"echo {ours} > /etc/ld.so.conf.d/zz-ivgpu.conf; ldconfig", *of(plain),
                   variables=nothing)
        self.names("libcuda-of-another", f"{other}/libcuda.so.1, by LD_LIBRARY_PATH", f"LD_LIBRARY_PATH={ours}:", *of(plain),
                   variables=both)
        self.names("libcuda-of-another", f"{other}/libcuda.so.1, by RUNPATH from file", f"export LD_LIBRARY_PATH={ours}",
                   *of(runpath), variables=nothing)
        self.names("libcuda-of-another", f"{other}/libcuda.so.1, by RPATH from file", f"patchelf --remove-rpath {rpath}",
                   *of(rpath), variables={"LD_LIBRARY_PATH": ours})
        for program in (plain, runpath, script):
            findings = self.finds_right(*of(program), variables={"LD_LIBRARY_PATH": ours})
            self.assertRegex(findings[0]["seen"], f"gets ivgpu's {ours}/libcuda.so.1, by LD_LIBRARY_PATH")
        findings = self.finds_right(*self.look("loader"), variables={"LD_LIBRARY_PATH": ours})
        self.assertRegex(findings[0]["seen"], f"gets ivgpu's {ours}/libcuda.so.1")
        self.names("program-unusable", "No such file", "--program", *of("/nowhere"))
        self.names("program-unusable", "is no program", "--program", *of(self.file("text", "not a program, but long enough for "
                                                                                           "the head of one, as it seems to be")))
        self.assertEqual(self.doctor(*of(self.build("static", "-static")))[0]["verdict"], "unknown")

    def test_shim_of_another_build(self):
        copy = os.path.join(self.folder, "libcuda.so.1")
        shim = self.look("shim", f"--shim={copy}")
        self.names("shim-absent", "No such file", "install ivgpu-guest", *shim)
        shutil.copy(SHIM, copy)
        self.assertRegex(self.finds_right(*shim)[0]["seen"], "version 0.1.0, calls 0x[0-9a-f]{16}")
        with open(copy, "r+b") as file:
            data = file.read()
            at = data.index(b"ivgpu build: ")
            calls = data.index(b"calls 0x", at) + 8
            file.seek(calls)
            file.write(b"0123456789abcdef")
        self.names("shim-of-another-build", "calls 0x0123456789abcdef.*this program", "one version", *shim)
        with open(copy, "r+b") as file:
            file.seek(at)
            file.write(b"another")
        self.names("shim-of-another-build", "not ivgpu's", "one version", *shim)

    # ---- the way ----

    def test_no_way(self):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            listener.bind(self.local_path)  # nobody listens: a mediator that died
            self.names("mediator-dead", "error 3 .*refused", "systemctl restart ivgpud", *self.look("executor"),
                       variables={"IVGPU_CHANNEL": "local:" + self.local_path})
        self.names("way-unknown", "error 8 .*smoke", "unset it", *self.look("executor"), variables={"IVGPU_CHANNEL": "smoke:x"})
        findings = self.doctor(*self.look("executor,kernel"), status=1)
        self.assertEqual([one["verdict"] for one in findings], ["not ok", "not applicable"])


if __name__ == "__main__":
    unittest.main()
