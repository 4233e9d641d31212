#!/usr/bin/env python3
"""Lists what cuda_abi.h declares as a C table, to be compiled once against ours and once against NVIDIA's cuda.h.

usage: abi_list.py INCLUDE_DIRECTORY OUTPUT_DIRECTORY
"""

import os
import re
import sys


def enumerators(text):
    for block in re.findall(r"typedef enum \w* ?\{(.*?)\}", text, re.S):
        yield from re.findall(r"\b(\w+)\b(?:\s*=[^,]*)?(?:,|$)", block.strip())


def macros(text):
    for name, value in re.findall(r"^#define (CU\w+) (\S+)$", text.replace("\\\n", " "), re.M):
        if "void" not in value and "CUstream" not in value:
            yield name


def structures(text):
    """(type name, names of its direct members)."""
    for match in re.finditer(r"^typedef (?:struct|union) ?\w* \{\n(.*?)^\} (\w+);", text, re.S | re.M):
        members, depth = [], 0
        for line in match[1].splitlines():
            opened = depth
            depth += line.count("{") - line.count("}")
            if opened == 0 and depth == 0 or opened == 1 and depth == 0:
                found = re.search(r"\(\*(\w+)\)|(\w+)(?:\[[^\]]*\])*;$", line)
                if found and not line.strip() == "};":
                    members.append(found[1] or found[2])
        yield match[2], members


def main():
    include, out = sys.argv[1:]
    texts = {}
    for name in ("cuda_abi.h", "cuda_abi_enums.h", "cuda_abi_structs.h"):
        with open(os.path.join(include, "ivgpu", name), encoding="utf-8") as file:
            texts[name] = re.sub(r"/\*.*?\*/", "", file.read(), flags=re.S)
    entries = [(n, f"(long long)({n})") for n in enumerators(texts["cuda_abi_enums.h"])]
    entries += [(n, f"(long long)({n})") for n in macros(texts["cuda_abi.h"])]
    for name in re.findall(r"^typedef .*?\b(\w+);$", texts["cuda_abi.h"], re.M):
        entries.append((f"sizeof {name}", f"(long long)sizeof({name})"))
    for name, members in structures(texts["cuda_abi_structs.h"]):
        entries.append((f"sizeof {name}", f"(long long)sizeof({name})"))
        entries.append((f"align {name}", f"(long long)_Alignof({name})"))
        for member in members:
            entries.append((f"offset {name}.{member}", f"(long long)offsetof({name}, {member})"))
            entries.append((f"sizeof {name}.{member}", f"(long long)sizeof((({name} *)0)->{member})"))
    with open(os.path.join(out, "abi_list.h"), "w", encoding="utf-8") as file:
        file.write("".join(f'{{"{name}", {value}}},\n' for name, value in entries))


main()
