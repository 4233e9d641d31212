"""The host's NVML by ctypes: used memory of a device, and of each process on it. Never our libnvidia-ml."""

import ctypes
import os

NAMES = (
    "libnvidia-ml.so.1",
    "/usr/local/nvidia/lib64/libnvidia-ml.so.1",
    "/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1",
)
INSUFFICIENT_SIZE = 7
NOT_KNOWN = (1 << 64) - 1  # a process's memory, where the driver does not tell


class _Memory(ctypes.Structure):
    _fields_ = [("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong)]


class _Process(ctypes.Structure):
    _fields_ = [
        ("pid", ctypes.c_uint),
        ("used", ctypes.c_ulonglong),
        ("gpu", ctypes.c_uint),
        ("compute", ctypes.c_uint),
    ]


class Device:
    """Raises OSError where there is no NVML, RuntimeError with the call's name where one fails."""

    def __init__(self, index=0):
        self._library = self._load()
        self._call("nvmlInit_v2")
        self._handle = ctypes.c_void_p()
        self._call("nvmlDeviceGetHandleByIndex_v2", index, ctypes.byref(self._handle))

    @staticmethod
    def _load():
        errors = []
        for name in NAMES:
            try:
                return ctypes.CDLL(name)
            except OSError as error:
                errors.append(str(error))
        raise OSError("; ".join(errors))

    def _call(self, name, *arguments):
        code = getattr(self._library, name)(*arguments)
        if code != 0:
            raise RuntimeError(f"{name} answered {code}")

    def _memory(self):
        memory = _Memory()
        self._call("nvmlDeviceGetMemoryInfo", self._handle, ctypes.byref(memory))
        return memory

    def used(self):
        return self._memory().used

    def total(self):
        return self._memory().total

    def processes(self):
        """{pid: bytes, or None where the driver does not tell}"""
        count = ctypes.c_uint(64)
        while True:
            rows = (_Process * count.value)()
            code = self._library.nvmlDeviceGetComputeRunningProcesses_v3(self._handle, ctypes.byref(count), rows)
            if code == 0:
                return {row.pid: None if row.used == NOT_KNOWN else row.used for row in rows[: count.value]}
            if code != INSUFFICIENT_SIZE or count.value > 65536:
                raise RuntimeError(f"nvmlDeviceGetComputeRunningProcesses_v3 answered {code}")
            count.value *= 2


def device_or_none():
    try:
        return Device()
    except (OSError, RuntimeError, AttributeError):
        return None


def ours_is_first():
    """True where LD_LIBRARY_PATH would give our own NVML: figures read so would prove nothing."""
    return any(
        os.path.basename(os.path.normpath(path)) == "ivgpu" for path in os.environ.get("LD_LIBRARY_PATH", "").split(":")
    )
