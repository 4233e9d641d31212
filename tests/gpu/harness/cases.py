"""Which cases there are: the Python files of a folder, and every program of tests/cuda."""

import ast
import glob
import os
import re
import sys

LIMIT_S = 240  # of one side of a case; TIMEOUT_S in the case's file says otherwise
PROGRAM_LIMIT_S = 120

# Programs whose arguments are not none, each line a case. Not here: run once, without arguments.
ARGUMENTS = {
    "threads": ["8", "160"],
    "semantics": ["per_thread", "per_thread_twins", "legacy", "errors", "forks", "fork_nvml", "reopened", "short_threads",
                  "thread_exit", "atexit"],
    "callbacks": ["", "fault"],
    "printf": ["", "assert"],
    "launch_rate": ["100000"],
    "loop": ["3"],
}
# Natively these would be undefined: NVIDIA's driver does not check handles, and takes the names of before CUDA 3.2 in
# contexts of their own only.
NOT_NATIVE = {"handles", "old_names"}
# Loads that tests/integration/scheduler.py and tests/gpu/shares drive: what they print is what they got of the GPU.
DRIVEN = {"share", "slices"}
# What a program asks for to see it refused.
REFUSED = {
    "batches": {
        "cuMemHostGetDevicePointer_v2 (of memory registered by cuMemHostRegister)": "the host does not see such memory"
    },
    "stream_forms": {"cuProfilerInitialize": "deprecated; the driver answers the same"},
    "launches": {"a launch attribute of a newer interface": "the program asks for one that there is not"},
    "vmm": {
        "cuMemCreate with handles that are no descriptors": "fabric handles are not carried",
        "cuMulticastCreate": "multicast memory is not carried",
    },
}
# What the soft GPU does not have, and programs ask for all the same, to see it refused.
REFUSED_ON_SOFT = {"ipc": {"cuEventCreate for several processes": "the soft GPU's attribute says that it has none"}}
# Others' memory would spoil what they see.
LOOKS_AT_FREE_MEMORY = {"memory", "peers", "synchronize", "graph_nodes", "vmm"}
# What else they print is the machine's own (whether host and device may use managed memory at once).
LAST_LINE_ONLY = {"managed"}
FIGURES = {
    "launch_rate": {"issue": (r"(\d+) ns each to issue", "ns")},
    "demo": {"up_256MiB": (r"\(up (\d+) ms", "ms"), "down_256MiB": (r"down (\d+) ms\)", "ms")},
}


class Case:
    def __init__(self, name, command, limit_s, path):
        self.name, self.command, self.limit_s, self.path = name, command, limit_s, path
        self.is_program = False
        self.refused_expected = {}  # name: why the case asks for it all the same
        self.native_may_fail = False
        self.environment = {}
        self.alone = False  # with --jobs: it measures, or takes the whole device

    @property
    def is_missing(self):
        return not os.path.exists(self.path)


def _constants(path):
    """The literal upper-case names of a case's file, read without running it."""
    with open(path, encoding="utf-8") as file:
        tree = ast.parse(file.read(), path)
    found = {}
    for node in tree.body:
        if (
            isinstance(node, ast.Assign)
            and len(node.targets) == 1
            and isinstance(node.targets[0], ast.Name)
            and node.targets[0].id in ("TIMEOUT_S", "REFUSED", "ENVIRONMENT", "ALONE")
        ):
            found[node.targets[0].id] = ast.literal_eval(node.value)
    return found


def python_cases(folder):
    cases = []
    for path in sorted(glob.glob(os.path.join(folder, "*.py"))):
        constants = _constants(path)
        case = Case(
            os.path.basename(path)[:-3], [sys.executable, "-B", path], constants.get("TIMEOUT_S", LIMIT_S), path
        )
        case.refused_expected = constants.get("REFUSED", {})
        case.alone = constants.get("ALONE", False)
        case.environment = constants.get("ENVIRONMENT", {})
        cases.append(case)
    return cases


def _program_names(source_folder):
    """What must be built: from the sources, so that a program that is not there is missed."""
    names = []
    for path in sorted(glob.glob(os.path.join(source_folder, "*.c")) + glob.glob(os.path.join(source_folder, "*.cu"))):
        with open(path, encoding="utf-8") as file:
            if not re.search(r"^int main\(", file.read(), re.MULTILINE):
                continue
        name, suffix = os.path.splitext(os.path.basename(path))
        names += [name] if suffix == ".c" else [f"{name}_static", f"{name}_shared"]
    return names


def program_cases(source_folder, build, device):
    cases = []
    for name in _program_names(source_folder):
        if name in NOT_NATIVE | DRIVEN:
            continue
        path = os.path.join(build, "tests/cuda", name)
        for words in ARGUMENTS.get(name, [""]):
            case = Case(("cuda/" + name + " " + words).strip(), [path, *words.split()], PROGRAM_LIMIT_S, path)
            case.is_program = True
            case.alone = name in FIGURES or name in LOOKS_AT_FREE_MEMORY
            # The soft GPU by itself is no driver for cudart: some names and tables are answered by our libcuda.
            case.native_may_fail = device == "soft"
            case.refused_expected = dict(REFUSED.get(name, {}))
            if device == "soft":
                case.refused_expected.update(REFUSED_ON_SOFT.get(name, {}))
            cases.append(case)
    return cases
