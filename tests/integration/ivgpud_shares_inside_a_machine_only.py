#!/usr/bin/env python3
"""Descriptors that executors leave with the mediator: kept by place, handed to executors of the same machine, gone with the
one that brought them; and executors that ask for what they may not."""
import errno
import os
import socket
import struct
import unittest

from mediator_harness import *  # noqa: F403

MAGIC, KEEP, LET_GO, FETCH = 0x53475649, 1, 2, 3
PLACES = 1024
MESSAGE = struct.Struct("<IIIIiI")


class Executor:
    """What a fake executor, told by us, says to the mediator and hears from it."""

    def __init__(self, path, pid):
        self.pid = pid
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(WAIT_S)
        wait_until(lambda: os.path.exists(f"{path}.{pid}"), "relay")
        wait_until(lambda: self.socket.connect_ex(f"{path}.{pid}") == 0, "relay")
        self.sequence = 0

    def raw(self, data, fds=()):
        socket.send_fds(self.socket, [data], list(fds))
        return receive(self.socket, 256)

    def ask(self, request, place, fds=()):
        """The answer's error, and its descriptors."""
        self.sequence += 1
        data, answer_fds = self.raw(MESSAGE.pack(MAGIC, request, place, self.sequence, 0, 0), fds)
        magic, same_request, same_place, sequence, error, _ = MESSAGE.unpack(data)
        assert (magic, same_request, same_place, sequence) == (MAGIC, request, place, self.sequence)
        return error, answer_fds


class Shares(Mediator):
    def setUp(self):
        super().setUp()
        self.mode("share")
        self.start()
        self.file = os.memfd_create("shared")
        self.inode = os.fstat(self.file).st_ino
        self.addCleanup(os.close, self.file)

    def executor_of(self, guest, channel=0):
        before = {note["pid"] for note in self.notes()}
        guest.open(channel)
        pid = ({note["pid"] for note in self.notes()} - before).pop()
        return Executor(self.notes_path, pid)

    def expect_descriptors(self, count):
        """What came with a request that was refused is closed after the answer."""
        wait_until(lambda: self.descriptors() == count, f"{count} descriptors, not {self.descriptors()}")

    def fetched(self, executor, place):
        """The inode behind a place, or the error."""
        error, fds = executor.ask(FETCH, place)
        self.assertEqual(len(fds), 0 if error else 1)
        if error:
            return error
        inode = os.fstat(fds[0]).st_ino
        os.close(fds[0])
        return inode

    def test_descriptor_reaches_the_machines_own_executors_only(self):
        local, other_local, qemu = self.attach_local(), self.attach_local(), self.attach_qemu(epoch=5)
        one, two = self.executor_of(local), self.executor_of(other_local)
        of_vm, beside = self.executor_of(qemu, 0), self.executor_of(qemu, 1)
        self.assertEqual(one.ask(KEEP, 3, [self.file]), (0, []))
        self.assertEqual(self.fetched(two, 3), self.inode)
        self.assertEqual(self.fetched(one, 3), self.inode)
        self.assertEqual(self.fetched(of_vm, 3), errno.ENOENT)
        other = os.memfd_create("other")
        self.assertEqual(of_vm.ask(KEEP, 3, [other]), (0, []))
        self.assertEqual(self.fetched(beside, 3), os.fstat(other).st_ino)
        self.assertEqual(self.fetched(two, 3), self.inode)
        os.close(other)
        for guest in (local, other_local, qemu):
            guest.close()

    def test_descriptor_goes_with_its_executor(self):
        qemu = self.attach_qemu(epoch=5)
        exporter, importer = self.executor_of(qemu, 0), self.executor_of(qemu, 1)
        count = self.descriptors()
        for place in (0, 77, PLACES - 1):
            self.assertEqual(exporter.ask(KEEP, place, [self.file])[0], 0)
        self.expect_descriptors(count + 3)
        self.assertEqual(exporter.ask(LET_GO, 77)[0], 0)
        self.assertEqual(self.fetched(importer, 77), errno.ENOENT)
        self.assertEqual(self.fetched(importer, PLACES - 1), self.inode)
        generation, _ = qemu.region.host(0)
        qemu.ask(0, GUEST_CLOSED)
        qemu.wait_host(0, generation + 1, FREE)
        self.assertEqual(self.fetched(importer, 0), errno.ENOENT)
        self.assertEqual(self.fetched(importer, PLACES - 1), errno.ENOENT)
        self.assertLess(self.descriptors(), count)
        qemu.close()

    def test_executor_gets_nothing_that_it_may_not(self):
        qemu = self.attach_qemu(epoch=5)
        one, two = self.executor_of(qemu, 0), self.executor_of(qemu, 1)
        count = self.descriptors()
        self.assertEqual(one.ask(KEEP, 5, [self.file, self.file, self.file])[0], 0)  # of several one is kept
        self.expect_descriptors(count + 1)
        self.assertEqual(two.ask(KEEP, 5, [self.file])[0], errno.EBUSY)
        self.assertEqual(two.ask(LET_GO, 5)[0], errno.ENOENT)
        self.assertEqual(one.ask(KEEP, 6)[0], errno.EBADF)
        for place in (PLACES, 0xffffffff):
            for request in (KEEP, LET_GO, FETCH):
                self.assertEqual(one.ask(request, place, [self.file])[0], errno.EINVAL)
        self.assertEqual(one.ask(99, 5, [self.file])[0], errno.EINVAL)
        self.expect_descriptors(count + 1)
        self.assertEqual(self.fetched(two, 5), self.inode)
        # Its own place may be filled anew.
        other = os.memfd_create("other")
        self.assertEqual(one.ask(KEEP, 5, [other])[0], 0)
        self.assertEqual(self.fetched(two, 5), os.fstat(other).st_ino)
        os.close(other)
        self.expect_descriptors(count + 1)
        # One that breaks the protocol is not heard again; the others are.
        self.assertEqual(two.raw(b"nonsense", [self.file]), (b"gone", []))
        self.assert_logged("is none of ours")
        self.assertEqual(one.ask(FETCH, 900)[0], errno.ENOENT)
        self.assertIsNone(self.process.poll())
        qemu.close()


if __name__ == "__main__":
    unittest.main()
