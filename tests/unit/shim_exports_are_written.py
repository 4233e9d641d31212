#!/usr/bin/env python3
"""No exported function of the shim, and no body in the executor, is a weak refusal that its hand-written function should
have replaced; the shim exports exactly the names of names.txt.

usage: shim_exports_are_written.py SOURCE_DIRECTORY libcuda.so.1 [EXECUTOR]
"""

import os
import subprocess
import sys


def symbols(path, *options):
    listing = subprocess.run(["nm", *options, path], check=True, capture_output=True, text=True).stdout
    for line in listing.splitlines():
        words = line.split()
        if len(words) == 3:
            yield words[1], words[2].split("@")[0]


def main():
    source, shim, executor = (sys.argv[1:] + [None])[:3]
    failures = []
    with open(os.path.join(source, "tools", "apigen", "names.txt"), encoding="utf-8") as file:
        wanted = {line.split()[0] for line in file if line.strip() and not line.startswith("#")}
    exported = {}
    for kind, name in symbols(shim, "-D", "--defined-only"):
        if kind in "TWtwV":
            exported[name] = kind
    failures += [f"{shim}: {name} is not exported" for name in sorted(wanted - set(exported))]
    failures += [f"{shim}: {name} should not be exported" for name in sorted(set(exported) - wanted)]
    failures += [f"{shim}: {name} is not written" for name, kind in sorted(exported.items()) if kind in "Ww"]
    failures += [f"{shim}: {name} is not written" for kind, name in sorted(symbols(shim))
                 if kind in "Ww" and name.startswith("ivg_hand_")]
    if executor:
        failures += [f"{executor}: {name} is not written" for kind, name in sorted(symbols(executor))
                     if kind in "Ww" and name.startswith("ivg_host_")]
    print("\n".join(failures) or f"{len(exported)} exported names, all written")
    return 1 if failures else 0


sys.exit(main())
