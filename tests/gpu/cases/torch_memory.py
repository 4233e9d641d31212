"""PyTorch's caching allocator: its statistics are the same through us, the device's memory moves as it says."""

import gc

import support

ALONE = True
torch = support.torch_or_leave()
GIB = 1 << 30
SLACK = 128 << 20  # what else of this process may come and go meanwhile (libraries' workspaces, modules)


def _empty():
    gc.collect()
    torch.cuda.synchronize()
    torch.cuda.empty_cache()


def statistics():
    torch.ones(1, device="cuda").item()
    _empty()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_stats()
    kept = [
        torch.empty(size, device="cuda", dtype=torch.uint8) for size in (100, 1 << 20, 3 << 20, 100 << 20, 700 << 20)
    ]
    del kept[3]
    after = torch.cuda.memory_stats()
    for key in (
        "allocated_bytes.all.current",
        "allocated_bytes.all.peak",
        "reserved_bytes.all.current",
        "segment.all.current",
        "active_bytes.all.peak",
        "inactive_split_bytes.all.current",
        "num_alloc_retries",
        "num_ooms",
    ):
        support.result(key, after[key] - (before[key] if "peak" not in key and "num" not in key else 0))
    support.check(
        after["allocated_bytes.all.current"] - before["allocated_bytes.all.current"] >= 704 << 20, "allocated bytes"
    )
    support.check("reserved" in torch.cuda.memory_summary().lower(), "memory_summary")
    support.result("snapshot_segments", len(torch.cuda.memory_snapshot()))
    del kept
    _empty()
    support.result("left", torch.cuda.memory_allocated())


def device_memory_moves():
    torch.ones(1, device="cuda").item()
    _empty()
    free_before, total = torch.cuda.mem_get_info()
    support.result("total", total)
    held = torch.empty(4 * GIB, device="cuda", dtype=torch.uint8)
    free_held, _ = torch.cuda.mem_get_info()
    moved = free_before - free_held
    support.check(4 * GIB <= moved <= 4 * GIB + SLACK, "4 GiB taken, free memory moved by", moved)
    del held
    _empty()
    free_after, _ = torch.cuda.mem_get_info()
    support.check(free_after >= free_before - SLACK, "after freeing", free_after, "before", free_before)
    support.check(total > free_before > 0, "free", free_before, "of", total)


def pool_is_used_again():
    pointers = set()
    for _ in range(50):
        x = torch.full((1 << 20,), 7.0, device="cuda")
        pointers.add(x.data_ptr())
        del x
    support.result("pointers", len(pointers))
    support.latency("empty_cached", lambda: torch.empty(1 << 20, device="cuda"), 1000)


def asynchronous_allocator():
    """cudaMallocAsync's pools, in a process of its own: the allocator is chosen before CUDA starts."""
    import os
    import subprocess
    import sys

    text = (
        "import torch\n"
        "assert torch.cuda.get_allocator_backend() == 'cudaMallocAsync'\n"
        "x = [torch.full((1 << 20,), float(i), device='cuda') for i in range(64)]\n"
        "s = sum(t.sum().item() for t in x); del x; torch.cuda.empty_cache(); print(int(s))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", text],
        capture_output=True,
        text=True,
        timeout=120,
        env=dict(os.environ, PYTORCH_CUDA_ALLOC_CONF="backend:cudaMallocAsync"),
    )
    support.check(done.returncode == 0, (done.stderr.strip().splitlines() or ["no words"])[-1])
    support.result("async_sum", done.stdout)
    support.check(int(done.stdout) == sum(range(64)) << 20, "sum", done.stdout)


support.run(statistics, device_memory_moves, pool_is_used_again, asynchronous_allocator)
