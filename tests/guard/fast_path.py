"""What the fast path may cost, in units that no machine changes: instructions (callgrind) and system calls (strace)."""
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

BUILD = os.environ["IVGPU_BUILD"]
TESTS = os.path.join(BUILD, "tests")
RUN = [os.path.join(BUILD, "bin", "ivgpu-run"), "--device", "cuda", "--driver",
       os.path.join(TESTS, "libivgpu-null-driver.so"), "--stats", "--"]
CALLS = 1000
SECONDS_MAX = 120

# Instructions of one call at most. Beside each what gcc 12 -O2 needed when the bound was written; a bound is raised only
# for a reason, and lowered when the path gets shorter. The program's own loop and the driver's counting are in it.
GUEST_LAUNCH_MAX = 725  # 619
GUEST_RECORD_MAX = 395  # 374
EXEC_LAUNCH_MAX = 795  # 738
EXEC_RECORD_MAX = 585  # 489
EXEC_CHAINED_MAX = 1010  # 855, of launches that go as graphs


def run(words):
    done = subprocess.run(words, capture_output=True, text=True, timeout=SECONDS_MAX)
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(words)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


class FastPath(unittest.TestCase):
    def instructions(self, prefix, program, *arguments):
        """Each of CALLS calls, between the program's toggles."""
        self.assertTrue(shutil.which("valgrind"), "valgrind is missing (tools/setup installs it)")
        with tempfile.TemporaryDirectory(prefix="ivgpu-guard.") as folder:
            out = os.path.join(folder, "callgrind.out")
            run([*prefix, "valgrind", "--tool=callgrind", "--collect-atstart=no", f"--callgrind-out-file={out}",
                 os.path.join(TESTS, program), *arguments])
            with open(out, encoding="utf-8") as file:
                total = int(re.search(r"^(?:totals|summary): (\d+)", file.read(), re.MULTILINE).group(1))
        each = total / CALLS
        print(f"{program} {arguments[0]}: {each:.1f} instructions each")
        self.assertGreater(each, 20, "nothing was counted: built without valgrind/callgrind.h?")
        return each

    def test_a_launch_with_6_arguments_in_the_guest(self):
        self.assertLessEqual(self.instructions(RUN, "guest_burst", "launch", str(CALLS)), GUEST_LAUNCH_MAX)

    def test_an_event_record_in_the_guest(self):
        self.assertLessEqual(self.instructions(RUN, "guest_burst", "record", str(CALLS)), GUEST_RECORD_MAX)

    def test_a_launch_in_the_executor(self):
        self.assertLessEqual(self.instructions([], "exec_burst", "launch"), EXEC_LAUNCH_MAX)

    def test_a_launch_as_part_of_a_graph_in_the_executor(self):
        self.assertLessEqual(self.instructions([], "exec_burst", "chained"), EXEC_CHAINED_MAX)

    def test_an_event_record_in_the_executor(self):
        self.assertLessEqual(self.instructions([], "exec_burst", "record"), EXEC_RECORD_MAX)

    def system_calls(self, kind):
        """Of the guest between the marks, while the executor is awake."""
        self.assertTrue(shutil.which("strace"), "strace is missing (tools/setup installs it)")
        with tempfile.TemporaryDirectory(prefix="ivgpu-guard.") as folder:
            trace = os.path.join(folder, "trace")
            run([*RUN, "strace", "-f", "-o", trace, os.path.join(TESTS, "guest_burst"), kind, str(CALLS)])
            with open(trace, encoding="utf-8") as file:
                lines = [re.sub(r"^\d+ +", "", line.rstrip()) for line in file]
        begin = [i for i, line in enumerate(lines) if line.startswith('write(-1, "burst begins"')]
        end = [i for i, line in enumerate(lines) if line.startswith('write(-1, "burst ends"')]
        self.assertEqual((len(begin), len(end)), (1, 1), "the burst was not seen")
        return lines[begin[0] + 1:end[0]]

    def test_a_thousand_launches_make_no_system_call_and_ring_no_doorbell(self):
        self.assertEqual(self.system_calls("launch"), [])

    def test_a_thousand_event_records_make_no_system_call_and_ring_no_doorbell(self):
        self.assertEqual(self.system_calls("record"), [])

    def test_doorbells_do_not_grow_with_the_calls(self):
        """Each is a sleep's end: the program's few trips may ring, its 1,900 launches at a held executor may not."""
        told = run([*RUN, os.path.join(TESTS, "guest_burst"), "launch", "1900"])
        self.assertLess(int(re.search(r"doorbells (\d+)", told).group(1)), 60)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], "-v", *sys.argv[1:]])
