#!/usr/bin/env python3
"""Manual pages and completions: each installed program has a page; pages are clean roff; every option of --help is in the page
and completed by bash; nothing that no --help knows. usage: pages.py BUILD_FOLDER"""
import glob
import os
import re
import subprocess
import sys
import unittest

BUILD = sys.argv.pop(1)
MAN = os.path.join(BUILD, "packaging/man")
COMPLETIONS = os.path.join(BUILD, "packaging/completions")
LIBRARIES = dict(os.environ, LD_LIBRARY_PATH=os.path.join(BUILD, "lib/ivgpu"))
# As bash asks: a line and the word under the cursor.
COMPLETE = """
source /usr/share/bash-completion/bash_completion 2> /dev/null
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}
_$(echo "${1##*/}" | tr - _)
printf '%s\\n' "${COMPREPLY[@]}"
"""


def run(*command):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=30, check=False, env=LIBRARIES)


def options(text):
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text))


def complete(program, *words):
    done = run("bash", "-c", COMPLETE, "-", os.path.join(COMPLETIONS, program), program, *words)
    assert done.returncode == 0, done.stdout
    return set(done.stdout.split())


class Pages(unittest.TestCase):
    def pages(self):
        found = sorted(glob.glob(os.path.join(MAN, "*.[1-8]")))
        self.assertGreater(len(found), 10)
        return found

    def test_pages_are_clean(self):
        for page in self.pages():
            done = run("mandoc", "-T", "lint", "-W", "warning", page)
            self.assertEqual((done.returncode, done.stdout), (0, ""), page)
            done = subprocess.run(["man", "--warnings", "--local-file", "-Tutf8", page], capture_output=True, text=True, timeout=30, check=False)
            self.assertEqual((done.returncode, done.stderr), (0, ""), page)
            self.assertNotRegex(done.stdout, r"@[A-Z]", f"{page}: a line that was not replaced")

    def test_every_program_has_its_options(self):
        programs = 0
        for page in self.pages():
            name = os.path.basename(page)[:-2]
            program = os.path.join(BUILD, "bin", name)
            if not os.path.exists(program):
                continue
            programs += 1
            help_text = run(program, "--help").stdout
            text = run("mandoc", "-T", "ascii", "-O", "width=200", page).stdout
            text = re.sub(r".\x08", "", text)
            self.assertLessEqual(options(help_text), options(text) | {"--help", "--version"}, name)
            self.assertLessEqual(options(text), options(help_text), name)
            if os.path.exists(os.path.join(COMPLETIONS, name)):
                self.assertEqual(complete(name, "--"), options(help_text) | {"--help"}, name)
        self.assertGreater(programs, 8)

    def test_pages_that_are_named_exist(self):
        names = {os.path.basename(page) for page in self.pages()}
        for page in self.pages():
            with open(page) as file:
                for name, section in re.findall(r"^\.Xr (\S+) (\d)", file.read(), re.M):
                    self.assertIn(f"{name}.{section}", names, page)

    def test_completion_knows_words(self):
        self.assertEqual(complete("ivgpu-run", "--device", ""), {"soft", "cuda"})
        self.assertIn("quarantine", complete("ivgpuctl", "q"))
        self.assertIn("drain", complete("ivgpuctl", "--json", "d"))
        self.assertEqual(complete("ivgpuctl", "list", "--"), set())


if __name__ == "__main__":
    unittest.main()
