#!/usr/bin/env python3
"""A VM whose programs break rules or lose their executors is shut out, for a time or until somebody lets it in, and its
neighbour notices nothing."""
import os
import time
import unittest

from mediator_harness import (DEAD, FREE, GUEST_CLOSED, GUEST_OPEN, HERE, READY, VM_QUARANTINED, Mediator, wait_until)


class Quarantine(Mediator):
    limits = "faults_max = 3; fault_window_s = 30; quarantine_s = 0;"

    def write_config(self, ready_timeout_ms=10000):
        path = os.path.join(self.folder, "ivgpud.conf")
        driver = os.path.join(self.folder, "driver")
        open(driver, "w").close()
        with open(path, "w") as file:
            file.write(f"""mediator = {{ device = "soft"; driver = "{driver}"; executor = "{HERE}/fake_executor.py"; }};
pools = ( {{ name = "A"; }} );
vms = ( {{ vm_id = 7; name = "seven"; pool = "A"; socket = "{self.vm_path}"; region_mib = 32; channels = 4; vectors = 5;
          {self.limits} }} );
local = {{ socket = "{self.local_path}"; region_mib = 16; }};""")
        return path

    def fault_once(self, guest, channel=0):
        self.mode("fault")
        generation = guest.ask(channel, GUEST_OPEN)
        guest.wait_host(channel, generation, DEAD)
        guest.ask(channel, GUEST_CLOSED)
        guest.wait_host(channel, generation + 1, FREE)
        self.mode("ready")

    def quarantined(self):
        return self.log().count("[WATCHDOG] VM 7 (seven): error 11 (VM_QUARANTINED)")

    def test_the_last_fault_ends_all_its_programs_and_no_other(self):
        self.start()
        guest, neighbour = self.attach_qemu(epoch=1), self.attach_local()
        of_neighbour = neighbour.open()
        running = guest.open(3)
        for _ in range(2):
            self.fault_once(guest)
        self.assertEqual(guest.region.host(3), (running, READY))
        self.fault_once(guest)
        guest.wait_host(3, running, DEAD)
        self.assertEqual(guest.region.reason(3), VM_QUARANTINED)
        self.assert_logged("3 faults within 30 s, the latest: protocol; no programs until it is released")
        self.refused(guest, 1, VM_QUARANTINED)
        self.assertEqual(neighbour.region.host(0), (of_neighbour, READY))
        another = self.attach_local()
        another.open()
        for one in (guest, neighbour, another):
            one.close()

    def test_a_new_start_of_the_vm_does_not_help(self):
        self.start()
        guest = self.attach_qemu(epoch=1)
        for _ in range(3):
            self.fault_once(guest)
        guest.close()
        wait_until(lambda: "QEMU is gone" in self.log(), "its end")
        guest = self.attach_qemu(epoch=2)
        self.refused(guest, 0, VM_QUARANTINED)
        guest.close()

    def test_an_executor_that_dies_is_a_fault_too(self):
        self.start()
        guest = self.attach_qemu(epoch=1)
        for number in range(3):
            generation = guest.open(number)
            os.kill(self.notes()[-1]["pid"], 11)
            guest.wait_host(number, generation, DEAD)
        wait_until(self.quarantined, "quarantine")
        self.assert_logged("the latest: died")
        self.refused(guest, 3, VM_QUARANTINED)
        guest.close()

    def test_one_that_is_told_to_end_is_none(self):
        self.start()
        guest = self.attach_qemu(epoch=1)
        for _ in range(4):
            generation = guest.open(0)
            guest.ask(0, GUEST_CLOSED)
            guest.wait_host(0, generation + 1, FREE)
        self.assertEqual(self.quarantined(), 0)
        guest.close()

    def test_time_ends_it(self):
        self.limits = "faults_max = 1; quarantine_s = 1;"
        self.start()
        guest = self.attach_qemu(epoch=1)
        self.fault_once(guest)
        self.refused(guest, 0, VM_QUARANTINED)
        wait_until(lambda: "quarantine ends: its time is over" in self.log(), "its end")
        guest.open(0)
        self.assertEqual(self.quarantined(), 1)
        guest.close()

    def test_old_faults_do_not_count(self):
        self.limits = "faults_max = 2; fault_window_s = 1; quarantine_s = 0;"
        self.start()
        guest = self.attach_qemu(epoch=1)
        self.fault_once(guest)
        time.sleep(1.1)
        self.fault_once(guest)
        guest.open(0)
        self.assertEqual(self.quarantined(), 0)
        guest.close()

    def test_none_without_a_limit(self):
        self.limits = "faults_max = 0;"
        self.start()
        guest = self.attach_qemu(epoch=1)
        for _ in range(8):
            self.fault_once(guest)
        guest.open(0)
        self.assertEqual(self.quarantined(), 0)
        guest.close()


if __name__ == "__main__":
    unittest.main()
