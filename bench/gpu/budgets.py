"""The budgets of the design, and what the figures say about them."""
from sides import HIGHER_IS_BETTER

MIB_256 = 256 << 20


def at_most(name, limit):
    """ivgpu's own figure."""
    def judge(figures):
        seen = figures.get("ivgpu", name)
        return None if seen is None else (f"{seen:.3g} {figures.units[name]}", seen <= limit, seen - limit)
    return judge


def above_native(name, limit):
    def judge(figures):
        native, ivgpu = figures.get("native", name), figures.get("ivgpu", name)
        if native is None or ivgpu is None:
            return None
        return f"native {ivgpu - native:+.4g} {figures.units[name]}", ivgpu - native <= limit, ivgpu - native - limit
    return judge


def rate_of_native(name, share):
    def judge(figures):
        ratio = figures.ratio(name)
        return None if ratio is None else (f"{ratio:.3f} x native", ratio >= share, share - ratio)
    return judge


def no_slower(name):
    def judge(figures):
        ratio = figures.ratio(name)
        if ratio is None:
            return None
        time = 1 / ratio if figures.units[name] in HIGHER_IS_BETTER else ratio
        spread = figures.spread(name)
        beside = "" if spread is None else f" (native runs: {spread:.3f})"
        return f"{time:.3f} x native time{beside}", time <= 1, time - 1
    return judge


BUDGETS = [
    ("ring round trip", "1.3 x a line's", at_most("ring_round_trip_over_line", 1.3)),
    ("guest cost of a 6-argument launch", "150 ns", at_most("launch_issue_6", 150)),
    ("guest cost of an event record", "150 ns", at_most("async_event_record", 150)),
    ("executor on top of the driver, per launch", "150 ns", above_native("launch_sustained_1_thread", 150)),
    ("launch + cuStreamSynchronize, p50", "native + 1 us", above_native("launch_stream_sync_p50", 1)),
    ("launch + cuCtxSynchronize, p50", "native + 1 us", above_native("launch_ctx_sync_p50", 1)),
    ("launch + cuEventSynchronize, p50", "native + 1 us", above_native("launch_event_sync_p50", 1)),
    ("pinned 256 MiB up", "0.98 x native", rate_of_native(f"copy_htod_pinned_async_{MIB_256}", 0.98)),
    ("pinned 256 MiB down", "0.98 x native", rate_of_native(f"copy_dtoh_pinned_async_{MIB_256}", 0.98)),
    ("pageable 256 MiB up", "1.5 x native", rate_of_native(f"copy_htod_pageable_sync_{MIB_256}", 1.5)),
    ("pageable 256 MiB down", "1.5 x native", rate_of_native(f"copy_dtoh_pageable_sync_{MIB_256}", 1.5)),
    ("PyTorch's pinned 256 MiB up", "0.98 x native", rate_of_native("torch_to_device_256MiB_pinned", 0.98)),
    ("PyTorch's pinned 256 MiB down", "0.98 x native", rate_of_native("torch_to_host_256MiB_pinned", 0.98)),
    ("PyTorch's pageable 256 MiB up", "1.5 x native", rate_of_native("torch_to_device_256MiB_pageable", 1.5)),
    ("PyTorch's pageable 256 MiB down", "1.5 x native", rate_of_native("torch_to_host_256MiB_pageable", 1.5)),
    ("cuInit + primary context, executor waiting", "10 ms", at_most("start_context_waiting", 10)),
    ("an idle program, both sides", "native + 0 % (0.02)", above_native("idle_processor_time", 0.02)),
    ("doorbells while both sides are busy", "0", at_most("doorbells_under_load", 0)),
]


def verdicts(figures):
    """(what, budget, seen, met or None, by how much not) for each budget, PyTorch's steps behind. Its copies are copies."""
    torch = [(name, "native or less", no_slower(name)) for name in figures.values
             if name.startswith("torch") and not name.startswith("torch_to_")]
    rows = []
    for what, budget, judge in BUDGETS + torch:
        judged = judge(figures)
        rows.append((what, budget, "not measured", None, None) if judged is None else (what, budget, *judged))
    return rows
