#!/usr/bin/env python3
"""docs/ordering.md against the labels in the code, both ways.

A label marks an ordered access: a comment that begins with one capital letter and one digit, then a blank or one of
",:;." (the page's first section). Its place is the file and the function around it.
usage: ordering_page_matches_the_code.py ROOT"""
import pathlib
import re
import sys

FOLDERS = ("ring", "ivshmem-glue", "guest", "hostexec")
SITE = re.compile(r"/\* ([A-Z][0-9])(?=[ ,:;.])")
MENTION = re.compile(r"\b[A-Z][0-9]\b")
COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
NOT_LABELS = set()
NOT_FUNCTIONS = {"_Atomic", "__attribute__", "_Alignas", "_Static_assert"}
ROW = re.compile(r"^\| ([A-Z][0-9]) \| (.+?) \|(.*)\|$")
FILES = {"model": "ring/models/{}.pml", "vm": "tests/vm/{}.bash", "cuda": "tests/cuda/{}.c"}  # of tests by kind
REASON = re.compile(r"none: (as [A-Z][0-9]$|(\S+ ){6})")  # why nothing can show it, in so many words at least
ORDERS = {"plain", "relaxed", "acquire", "release", "acq_rel", "seq_cst", "barrier", "lock"}


def functions_of(lines):
    """For each line, the function that it stands in or in front of."""
    starts = []
    for index, line in enumerate(lines):
        if line == "{":
            head = index - 1
            while head > 0 and not (lines[head][:1].isalpha() or lines[head][:1] == "_"):
                head -= 1
            names = [name for name in re.findall(r"(\w+)\(", lines[head]) if name not in NOT_FUNCTIONS]
            starts.append((head, lines.index("}", index), names[0] if names else "?"))
    names = []
    for index in range(len(lines)):
        names.append(next((name for _, end, name in starts if index <= end), "?"))
    return names


def sites_of(root):
    sites = set()
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*.[ch]")):
            lines = path.read_text(encoding="utf-8").splitlines()
            if not any(SITE.search(line) for line in lines):
                continue
            names = functions_of(lines)
            for index, line in enumerate(lines):
                for label in SITE.findall(line):
                    sites.add((label, f"{path.relative_to(root)}:{names[index]}"))
    return sites


def rows_of(page, wrong):
    rows = set()
    tests = set()
    for line in page.read_text(encoding="utf-8").splitlines():
        found = ROW.match(line)
        if not found:
            continue
        cells = [cell.strip() for cell in found.group(3).split("|")]
        places = re.findall(r"`([^`]+:[^`]+)`", found.group(2))
        if len(cells) != 4 or not all(cells) or not places:
            wrong.append(f"not a row of six filled columns: {line}")
            continue
        if not set(re.findall(r"[a-z_]+", cells[0])) & ORDERS:
            wrong.append(f"no order in: {line}")
        for place in places:
            if (found.group(1), place) in rows:
                wrong.append(f"{found.group(1)} at {place} has two rows")
            rows.add((found.group(1), place))
        tests.update(re.findall(r"`([^`]+)`", cells[3]))
        if "`" not in cells[3] and not REASON.match(cells[3]):
            wrong.append(f"names no test, and no reason why there is none: {line}")
    return rows, tests


def mentions_unknown(root, sites):
    """Labels that a comment of a labelled file speaks of and that no code carries."""
    known = {label for label, _ in sites}
    for name in sorted({place.split(":")[0] for _, place in sites}):
        for comment in COMMENT.findall((root / name).read_text(encoding="utf-8")):
            for label in set(MENTION.findall(comment)) - known - NOT_LABELS:
                yield f"{name} speaks of {label}, which labels no access"


def main():
    root = pathlib.Path(sys.argv[1])
    wrong = []
    sites = sites_of(root)
    rows, tests = rows_of(root / "docs" / "ordering.md", wrong)
    wrong += [f"{label} at {place} has no row" for label, place in sorted(sites - rows)]
    wrong += [f"the row {label} at {place} has no label in the code" for label, place in sorted(rows - sites)]
    wrong += mentions_unknown(root, sites)
    registered = "".join(path.read_text(encoding="utf-8") for path in (root / "tests" / "cmake").glob("*.cmake"))
    for test in sorted(tests):
        kind, _, name = test.partition("_")
        there = (root / FILES[kind].format(name)).is_file() if kind in FILES else re.search(
            rf"\b{re.escape(test)}\b", registered)
        if not there:
            wrong.append(f"no test or model is called {test}")
    if not sites or not rows:
        wrong.append("nothing to compare")
    for line in wrong:
        print(line)
    print(f"{len(sites)} labelled places, {len(rows)} rows, {len(wrong)} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
