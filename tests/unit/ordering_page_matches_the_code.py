#!/usr/bin/env python3
"""docs/ordering.md against the labels in the code, both ways.

A label marks an ordered access: a comment that begins with one capital letter and one digit, then a blank or one of
",:;." (the page's first section). Its place is the file and the function around it. Ordered accesses in functions without
any label are counted: a folder has at most as many as the page's last section says.
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
ACCESS = re.compile(r"\bivg_(?:load|store|exchange|compare_exchange|fence)_(?:acquire|release|acq_rel|seq_cst)\w*\("
                    r"|\batomic_(?:load|store|exchange|compare_exchange_\w+|fetch_\w+)\(|\bsmp_\w+\("
                    r"|\batomic_\w+_explicit\((?=[^;]*memory_order_(?:acquire|release|acq_rel|seq_cst))")
NOT_ACCESSES = {"ring/include/ivgpu/atomics.h", "ring/proofs/words.h"}  # what the accesses are made of
UNLABELLED = re.compile(r"^\| `([^`]+)` \| (\d+) \|")
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


def unlabelled_of(root, sites):
    """How many ordered accesses stand in functions without a label, by file."""
    labelled = {place for _, place in sites}
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*.[ch]")):
            name = str(path.relative_to(root))
            # Comments go, lines stay.
            text = COMMENT.sub(lambda comment: "\n" * comment.group().count("\n"), path.read_text(encoding="utf-8"))
            starts = [found.start() for found in ACCESS.finditer(text)]
            if not starts or name in NOT_ACCESSES:
                continue
            names = functions_of(text.splitlines())
            places = [f"{name}:{names[text.count(chr(10), 0, start)]}" for start in starts]
            yield name, sum(place not in labelled for place in places)


def check_unlabelled(root, page, sites, wrong):
    """At most as many as the page says, each file counted with the longest folder or name there that it begins with."""
    lines = page.read_text(encoding="utf-8").splitlines()
    limits = {found.group(1): int(found.group(2)) for found in map(UNLABELLED.match, lines) if found}
    counts = dict.fromkeys(limits, 0)
    for name, count in unlabelled_of(root, sites):
        places = [place for place in limits if name.startswith(place)]
        if places:
            counts[max(places, key=len)] += count
        elif count:
            wrong.append(f"{name}: {count} ordered accesses without a label, and no line of the page's that allows any")
    for place, count in counts.items():
        if count > limits[place]:
            wrong.append(f"{place}: {count} ordered accesses without a label, the page says at most {limits[place]}: "
                         "label what is new")
    return sum(counts.values())


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
    unlabelled = check_unlabelled(root, root / "docs" / "ordering.md", sites, wrong)
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
    print(f"{len(sites)} labelled places, {len(rows)} rows, {unlabelled} accesses without a label, {len(wrong)} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
