#!/usr/bin/env python3
"""SIGHUP: all of a good file holds, nothing of a bad one, and what runs goes on."""
import os
import signal
import socket
import unittest

from mediator_harness import (GUEST_CLOSED, HERE, MEDIATOR_UNAVAILABLE, QUEUE_FULL, READY, Mediator, wait_until)

SEVEN = """{{ vm_id = 7; name = "seven"; pool = "A"; socket = "{folder}/vm1.sock"; region_mib = 32; channels = 4;
            vectors = 5; {seven} }}"""


class Reload(Mediator):
    def write_config(self, ready_timeout_ms=10000, seven="", vms="", pools="", more="", first=SEVEN):
        path = os.path.join(self.folder, "ivgpud.conf")
        driver = os.path.join(self.folder, "driver")
        open(driver, "w").close()
        vms = ", ".join(part for part in (first.format(folder=self.folder, seven=seven) if first else "", vms) if part)
        with open(path, "w") as file:
            file.write(f"""mediator = {{ device = "soft"; driver = "{driver}"; executor = "{HERE}/fake_executor.py"; }};
pools = ( {{ name = "A"; gpus = [ 0, 2 ]; }} {pools} );
vms = ( {vms} );
local = {{ socket = "{self.local_path}"; region_mib = 16; }};
{more}""")
        return path

    def reload(self, words="ivgpud.conf holds", **config):
        seen = self.log().count(words)
        self.write_config(**config)
        self.process.send_signal(signal.SIGHUP)
        wait_until(lambda: self.log().count(words) > seen, words)

    def connects(self, name):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            try:
                sock.connect(os.path.join(self.folder, name))
                return True
            except OSError:
                return False

    def nine(self, name="vm9.sock", pool="A", more=""):
        return (f'{{ vm_id = 9; name = "nine"; pool = "{pool}"; socket = "{self.folder}/{name}"; region_mib = 16; '
                f'channels = 1; vectors = 2; {more} }}')

    def test_a_limit_holds_at_once_and_what_runs_goes_on(self):
        self.start()
        guest = self.attach_qemu(epoch=1)
        generation = guest.open(0)
        self.reload(seven="executors_max = 1;")
        self.refused(guest, 1, QUEUE_FULL)
        self.assertEqual(guest.region.host(0), (generation, READY))
        self.reload(seven="executors_max = 2;")
        guest.open(1)
        self.refused(guest, 2, QUEUE_FULL)
        guest.close()

    def test_nothing_of_a_bad_file_holds(self):
        self.start()
        guest = self.attach_qemu(epoch=1)
        self.reload("nothing changed: ", seven="executors_max = 1;", vms=self.nine(more="wieght = 3;"))
        self.assert_logged("ivgpud.conf:4: wieght: unknown key")
        guest.open(0)
        guest.open(1)
        self.assertFalse(self.connects("vm9.sock"))
        guest.close()

    def test_nothing_holds_when_a_socket_cannot_be(self):
        self.start()
        self.reload("nothing changed: ", vms=self.nine() + "," +
                    f'{{ vm_id = 10; name = "ten"; pool = "A"; socket = "{self.folder}/no/such/folder"; }}')
        self.assert_logged("VM 10 (ten)")
        self.assertFalse(os.path.exists(os.path.join(self.folder, "vm9.sock")))
        self.reload(vms=self.nine())
        self.assertTrue(self.connects("vm9.sock"))

    def test_a_vm_comes_and_goes(self):
        self.start()
        before = self.descriptors()
        for _ in range(3):
            self.reload(vms=self.nine())
            self.assertTrue(self.connects("vm9.sock"))
            self.reload("VM 9 (nine) is gone")
            self.assertFalse(os.path.exists(os.path.join(self.folder, "vm9.sock")))
        wait_until(lambda: self.descriptors() == before, "its descriptors closed")
        self.assertNotIn("VM 9", self.stats())

    def stats(self):
        seen = len(self.log())
        self.process.send_signal(signal.SIGUSR1)
        wait_until(lambda: "  Local" in self.log()[seen:], "statistics")
        return self.log()[seen:]

    def test_a_removed_vm_ends_with_its_last_program(self):
        self.start()
        guest = self.attach_qemu(epoch=1)
        generation = guest.open(0)
        self.reload("VM 7 (seven) goes when its last program has ended (1 run)", first="")
        self.assertFalse(os.path.exists(self.vm_path))
        self.refused(guest, 1, MEDIATOR_UNAVAILABLE)
        self.assertEqual(guest.region.host(0), (generation, READY))
        guest.ask(0, GUEST_CLOSED)
        wait_until(lambda: "VM 7 (seven) is gone" in self.log(), "its end")
        self.assertEqual(guest.socket.recv(1), b"")  # QEMU is told
        guest.close()

    def test_a_removed_vm_may_come_back(self):
        self.start()
        guest = self.attach_qemu(epoch=1)
        guest.open(0)
        self.reload("VM 7 (seven) goes when", first="")
        self.reload()
        guest.open(1)
        guest.close()
        wait_until(lambda: not self.children(), "its programs' end")
        self.attach_qemu(epoch=2).close()

    def test_a_pool_comes_and_goes(self):
        self.start()
        self.reload(pools=', { name = "B"; gpus = [ 1 ]; }', vms=self.nine(pool="B"))
        self.vm_path = os.path.join(self.folder, "vm9.sock")
        self.assertIn("Pool B processed: 0", self.stats())
        self.reload("pool B goes when its last program has ended")
        wait_until(lambda: "pool B is gone" in self.log(), "its end")
        self.assertNotIn("Pool B", self.stats())

    def test_what_must_wait_is_named(self):
        self.start()
        guest = self.attach_qemu(epoch=1)
        big = SEVEN.replace("region_mib = 32", "region_mib = 64").replace("vectors = 5", "vectors = 6")
        self.reload(first=big, more="images = { mib = 9; };")
        for words in ("VM 7 (seven): region_mib holds from its QEMU's next start", "vectors holds from its QEMU's",
                      "images holds from ivgpud's next start"):
            self.assert_logged(words)
        self.assertNotIn("channels holds", self.log())
        self.assertEqual(guest.region.bytes, 32 << 20)
        guest.open(0)
        guest.close()

    def test_a_socket_may_move(self):
        self.start()
        guest = self.attach_qemu(epoch=1)
        generation = guest.open(0)
        self.reload(first=SEVEN.replace("vm1.sock", "other.sock"))
        self.assertFalse(os.path.exists(self.vm_path))
        self.assertTrue(self.connects("other.sock"))
        self.assertEqual(guest.region.host(0), (generation, READY))
        guest.close()

    def local_of_seven(self, name):
        """A program of VM 7 that came in there, its executor ready; None: nobody listens."""
        path, self.local_path = self.local_path, os.path.join(self.folder, name)
        try:
            guest = self.attach_local(epoch=1)
        except OSError:
            return None
        finally:
            self.local_path = path
        self.addCleanup(guest.close)
        guest.open()
        return guest

    def test_a_local_socket_comes_moves_and_goes(self):
        self.start()
        self.assertIsNone(self.local_of_seven("seven.sock"))
        self.reload(seven=f'local_socket = "{self.folder}/seven.sock";')
        first = self.local_of_seven("seven.sock")
        self.reload(seven=f'local_socket = "{self.folder}/other.sock";')
        self.assertIsNone(self.local_of_seven("seven.sock"))
        self.assertFalse(os.path.exists(f"{self.folder}/seven.sock"))
        self.local_of_seven("other.sock")
        self.assertEqual(first.region.host(0)[1], READY, "what runs goes on")
        self.reload("nothing changed: ", seven=f'local_socket = "{self.folder}/lies/under.sock";')
        self.local_of_seven("other.sock")
        self.reload()
        self.assertIsNone(self.local_of_seven("other.sock"))

    def test_a_removed_vm_lets_idle_local_programs_go(self):
        self.start()
        self.reload(seven=f'local_socket = "{self.folder}/seven.sock";')
        path, self.local_path = self.local_path, os.path.join(self.folder, "seven.sock")
        idle = self.attach_local(epoch=1)  # connected, without a channel
        self.addCleanup(idle.close)
        self.local_path = path
        self.reload(first=None, vms=self.nine())
        wait_until(lambda: "VM 7 (seven) is gone" in self.log(), "the VM is gone")
        self.assertEqual(idle.socket.recv(1), b"", "its connection is closed")
        self.reload(first=None, vms=self.nine())

    def test_gpus_hold_for_programs_to_come(self):
        self.start()
        guest = self.attach_qemu(epoch=1)
        guest.open(0)
        path = self.write_config()
        with open(path) as file:
            text = file.read()
        with open(path, "w") as file:
            file.write(text.replace("gpus = [ 0, 2 ]", "gpus = [ 3 ]"))
        self.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "gpus hold for programs that start from now on" in self.log(), "reload")
        guest.open(1)
        self.assertEqual([note["visible"] for note in self.notes()], ["0,2", "3"])
        guest.close()


if __name__ == "__main__":
    unittest.main()
