"""NVML through Python's bindings (nvidia-ml-py): the machine's names and figures, and this process among those that
compute."""

import os
import time

import support

ALONE = True
pynvml = support.need("pynvml")
GIB = 1 << 30
SEEN_WITHIN_S = 5


def _device():
    pynvml.nvmlInit()
    return pynvml.nvmlDeviceGetHandleByIndex(0)


def _text(value):
    return value.decode() if isinstance(value, bytes) else value


def identity():
    device = _device()
    support.result("driver", _text(pynvml.nvmlSystemGetDriverVersion()))
    support.result("cuda", pynvml.nvmlSystemGetCudaDriverVersion_v2())
    support.result("count", pynvml.nvmlDeviceGetCount())
    support.result("name", _text(pynvml.nvmlDeviceGetName(device)))
    support.result("uuid", _text(pynvml.nvmlDeviceGetUUID(device)))
    support.result("pci", _text(pynvml.nvmlDeviceGetPciInfo(device).busId))
    support.result("capability", pynvml.nvmlDeviceGetCudaComputeCapability(device))
    support.result("total", pynvml.nvmlDeviceGetMemoryInfo(device).total, within=0.01)
    support.result("index", pynvml.nvmlDeviceGetIndex(device))
    same = pynvml.nvmlDeviceGetHandleByUUID(pynvml.nvmlDeviceGetUUID(device))
    support.result("by_uuid", pynvml.nvmlDeviceGetIndex(same))
    pynvml.nvmlShutdown()


def _figure(key, ask, low, high):
    """Its range where the machine has it; that it has it must be the same on both sides."""
    try:
        value = ask()
    except pynvml.NVMLError as error:
        support.result(key, error)
        return
    support.check(low <= value <= high, key, value)
    support.result(key, "there")


def figures():
    device = _device()
    _figure("utilization", lambda: pynvml.nvmlDeviceGetUtilizationRates(device).gpu, 0, 100)
    _figure("temperature", lambda: pynvml.nvmlDeviceGetTemperature(device, pynvml.NVML_TEMPERATURE_GPU), 1, 130)
    _figure("power", lambda: pynvml.nvmlDeviceGetPowerUsage(device), 1, 2000000)
    _figure("power_limit", lambda: pynvml.nvmlDeviceGetEnforcedPowerLimit(device), 1, 2000000)
    _figure("clock", lambda: pynvml.nvmlDeviceGetClockInfo(device, pynvml.NVML_CLOCK_SM), 1, 10000)
    _figure("clock_max", lambda: pynvml.nvmlDeviceGetMaxClockInfo(device, pynvml.NVML_CLOCK_SM), 1, 10000)
    pynvml.nvmlShutdown()


def errors():
    pynvml.nvmlInit()
    words = "none"
    try:
        pynvml.nvmlDeviceGetHandleByIndex(99)
    except pynvml.NVMLError as error:
        words = str(error)
    support.result("index_99", words)
    pynvml.nvmlShutdown()


def this_process_is_seen():
    torch = support.torch_or_leave()
    held = torch.ones(2 * GIB, dtype=torch.uint8, device="cuda")
    torch.cuda.synchronize()
    device = _device()
    end = time.monotonic() + SEEN_WITHIN_S
    while True:
        mine = [
            process for process in pynvml.nvmlDeviceGetComputeRunningProcesses(device) if process.pid == os.getpid()
        ]
        if mine or time.monotonic() > end:
            break
        time.sleep(0.05)
    support.check(mine, "process", os.getpid(), "is not in the list")
    support.check(
        mine[0].usedGpuMemory is None or mine[0].usedGpuMemory >= 2 * GIB, "its memory is", mine[0].usedGpuMemory
    )
    used = pynvml.nvmlDeviceGetMemoryInfo(device).used
    support.check(used >= 2 * GIB, "the device's used memory is", used)
    support.result("seen", True)
    support.result(
        "pytorch_memory",
        torch.cuda.device_memory_used() >= 2 * GIB if hasattr(torch.cuda, "device_memory_used") else True,
    )
    del held
    pynvml.nvmlShutdown()


support.run(identity, figures, errors, this_process_is_seen)
