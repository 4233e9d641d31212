"""The first things everybody asks PyTorch: devices, properties, a tensor there and back; and what small calls cost."""

import support

ALONE = True
torch = support.torch_or_leave()
dev = support.DEVICE


def device():
    properties = torch.cuda.get_device_properties(0)
    for name in (
        "name",
        "major",
        "minor",
        "total_memory",
        "multi_processor_count",
        "warp_size",
        "L2_cache_size",
        "max_threads_per_multi_processor",
        "shared_memory_per_block_optin",
        "regs_per_multiprocessor",
        "is_integrated",
    ):
        if hasattr(properties, name):
            support.result(name, getattr(properties, name))
    support.result("count", torch.cuda.device_count())
    support.result("capability", torch.cuda.get_device_capability(0))
    support.result("uuid", getattr(properties, "uuid", "none"))
    support.result("bf16", torch.cuda.is_bf16_supported())


def hello():
    support.result("doubled", (torch.arange(8.0, device=dev) * 2).tolist())
    x = torch.arange(1 << 20, device=dev, dtype=torch.int64)
    support.result("sum", x.sum().item())
    support.result("permuted", support.digest(x.flip(0).view(1024, 1024).t().contiguous()))
    torch.manual_seed(1)
    support.result("topk", torch.randn(100000, device=dev).topk(5).indices.tolist())
    support.result("sorted", support.digest(torch.randint(0, 1000, (100000,), device=dev).sort(stable=True).indices))


def small_calls():
    a, b = torch.randn(1024, device=dev), torch.randn(1024, device=dev)
    support.latency("add_1k", lambda: torch.add(a, b), 2000)
    one = a[:1]
    support.latency("item", one.item, 500)
    support.latency("synchronize", torch.cuda.synchronize, 500)
    m = torch.randn(4096, 4096, device=dev, dtype=torch.bfloat16)
    support.latency("mm_4096_bf16", lambda: m @ m, 50)


support.run(device, hello, small_calls)
