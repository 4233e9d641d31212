"""What Python's NVML bindings and PyTorch ask, through ctypes, in a process that never calls CUDA.

Every name of guest/nvml/names.txt given as argument 1 must be exported; what is not supported must say so.
"""

import ctypes
import sys

NOT_SUPPORTED, UNINITIALIZED = 3, 1


class Memory(ctypes.Structure):
    _fields_ = [("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong)]


def check(condition, *words):
    if not condition:
        sys.exit(" ".join(str(word) for word in words))


def main():
    library = ctypes.CDLL("libnvidia-ml.so.1")
    with open(sys.argv[1], encoding="utf-8") as file:
        rows = [line.split() for line in file if line.strip() and not line.startswith("#")]
    check(len(rows) > 400, "only", len(rows), "names")
    unsupported = [name for name, kind, *_ in rows if kind == "unsupported"]
    for name, *_ in rows:
        check(hasattr(library, name), name, "is not exported")
    for name in unsupported:
        check(getattr(library, name)(None, None, None) == UNINITIALIZED, name, "answers before nvmlInit")

    check(library.nvmlInit_v2() == 0, "nvmlInit_v2")
    for name in unsupported:
        check(getattr(library, name)(None, None, None) == NOT_SUPPORTED, name, "is not refused")
    count = ctypes.c_uint()
    check(library.nvmlDeviceGetCount_v2(ctypes.byref(count)) == 0 and count.value >= 1, "count", count.value)
    uuids = set()
    for index in range(count.value):
        device, memory, uuid = ctypes.c_void_p(), Memory(), ctypes.create_string_buffer(96)
        check(library.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(device)) == 0, "handle of", index)
        check(library.nvmlDeviceGetUUID(device, uuid, 96) == 0, "UUID of", index)
        check(library.nvmlDeviceGetMemoryInfo(device, ctypes.byref(memory)) == 0, "memory of", index)
        check(memory.total > 0 and memory.used == 0 and memory.free == memory.total, "memory", memory.total, memory.used)
        uuids.add(uuid.value)
    check(len(uuids) == count.value, "UUIDs repeat:", uuids)
    for wrong in (1, 0xdead):
        check(library.nvmlDeviceGetName(ctypes.c_void_p(wrong), uuid, 96) == 2, "a handle that is none")
    check(library.nvmlShutdown() == 0, "nvmlShutdown")
    library.nvmlErrorString.restype = ctypes.c_char_p
    check(library.nvmlErrorString(UNINITIALIZED) == b"Uninitialized", "text")
    print(f"{len(rows)} names, {count.value} device(s): ok")


main()
