#!/usr/bin/env python3
"""ivgpu-run with the soft GPU: which processes get an executor that has waited, by ivgpud's own counts."""
import os
import re
import subprocess
import unittest

BIN = os.environ["IVGPU_BIN"]
PRIMARY = os.path.join(os.path.dirname(BIN), "tests", "cuda", "primary")


def run(arguments, command, **environment):
    """(exit code, warm, cold, lost, standard error)"""
    done = subprocess.run([os.path.join(BIN, "ivgpu-run"), "--device", "soft", "--stats", *arguments, "--", "sh", "-c",
                           command], env=dict(os.environ, PRIMARY=PRIMARY, **environment), stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, timeout=120, check=False)
    found = re.search(r"Pool A executors: 0 wait, 0 warm up; taken warm (\d+), started cold (\d+), lost (\d+)", done.stderr)
    if not found:
        raise AssertionError(f"no counts in: {done.stderr}")
    return (done.returncode, *map(int, found.groups()), done.stderr)


class Run(unittest.TestCase):
    def test_the_first_process_is_expected_others_are_not(self):
        self.assertEqual(run([], "$PRIMARY && $PRIMARY plain && $PRIMARY created")[:4], (0, 1, 2, 0))

    def test_none_when_none_is_wanted(self):
        self.assertEqual(run(["--warm", "0"], "$PRIMARY && $PRIMARY plain && $PRIMARY created")[:4], (0, 0, 3, 0))

    def test_a_driver_that_still_starts_is_waited_for(self):
        code, warm, cold, lost, text = run([], "$PRIMARY", IVGPU_SOFT_INIT_MS="400", IVGPU_SOFT_CONTEXT_MS="100")
        self.assertEqual((code, warm, cold, lost), (0, 1, 0, 0), text)

    def test_a_program_without_cuda_takes_none_and_leaves_none(self):
        self.assertEqual(run([], "exit 7", IVGPU_SOFT_INIT_MS="60000")[:4], (7, 0, 0, 0))

    def test_eight_at_once_with_two(self):
        code, warm, cold, lost, text = run(["--warm", "2"], 'sleep 0.5; pids=; for i in 1 2 3 4 5 6 7 8; do '
                                           '$PRIMARY >/dev/null & pids="$pids $!"; done; '
                                           'for pid in $pids; do wait $pid || exit 1; done')
        self.assertEqual((code, warm + cold, lost), (0, 8, 0), text)
        self.assertGreaterEqual(warm, 2)

    def test_a_driver_that_cannot_start_is_told_once_by_each_way(self):
        code, warm, cold, lost, text = run([], "sleep 0.3; $PRIMARY", IVGPU_SOFT_DEVICES="99")
        self.assertEqual((code, warm, cold), (1, 0, 1), text)
        self.assertEqual(lost, 1)
        self.assertIn("cuInit: CUDA error 100", text)

    def test_no_number_is_named(self):
        done = subprocess.run([os.path.join(BIN, "ivgpu-run"), "--device", "soft", "--warm", "some", "true"],
                              stderr=subprocess.PIPE, text=True, timeout=60, check=False)
        self.assertEqual(done.returncode, 125)
        self.assertIn('--warm: "some" is no number from 0 to 64', done.stderr)


if __name__ == "__main__":
    unittest.main()
