"""Copies between program and device: pinned and pageable, blocking and not, every byte; and their speed."""

import support

ALONE = True
torch = support.torch_or_leave()
BYTES = 256 << 20


def _random(count):
    return torch.randint(0, 256, (count,), dtype=torch.uint8, generator=torch.Generator().manual_seed(count))


def sizes():
    good = 0
    for count in (1, 3, 100, 4096, 65537, (1 << 20) + 1, (5 << 20) + 7, 33 << 20):
        host = _random(count)
        for source in (host, host.pin_memory()):
            device = source.to("cuda", non_blocking=source.is_pinned())
            support.check(torch.equal(device.cpu(), host), count, "bytes")
            back = torch.empty(count, dtype=torch.uint8, pin_memory=source.is_pinned())
            back.copy_(device, non_blocking=source.is_pinned())
            torch.cuda.synchronize()
            support.check(torch.equal(back, host), count, "bytes back")
            good += 1
    support.result("sizes", good)


def pinned_source_may_change_after_the_event():
    host = torch.empty(8 << 20, dtype=torch.uint8, pin_memory=True)
    stream, kept = torch.cuda.Stream(), []
    for number in range(16):
        host.fill_(number)
        with torch.cuda.stream(stream):
            kept.append(host.to("cuda", non_blocking=True))
            event = torch.cuda.Event()
            event.record()
        event.synchronize()
    support.result("kept", [int(x.sum(dtype=torch.int64).item() >> 23) for x in kept])


def pageable_source_may_change_at_once():
    host, kept = torch.empty(8 << 20, dtype=torch.uint8), []
    for number in range(16):
        host.fill_(number)
        kept.append(host.to("cuda", non_blocking=True))
    support.result("pageable", [int(x.sum(dtype=torch.int64).item() >> 23) for x in kept])


def strided():
    host = torch.arange(1000 * 1000, dtype=torch.float32).view(1000, 1000)
    device = host.to("cuda")
    support.check(torch.equal(device[::3, 5:700:2].cpu(), host[::3, 5:700:2]), "a strided read")
    target = torch.zeros(1000, 1000)
    target[:, 100:200].copy_(device[:, 300:400])
    support.result("strided", support.digest(target))


def kernels_reach_pinned_memory():
    host = torch.arange(1 << 20, dtype=torch.float32).pin_memory()
    device = torch.zeros(1 << 20, device="cuda")
    device.copy_(host, non_blocking=True)
    device.mul_(2)
    host.copy_(device, non_blocking=True)
    torch.cuda.synchronize()
    support.result("through", host.double().sum().item())


def speed():
    host = _random(BYTES)
    pinned, device = host.pin_memory(), torch.empty(BYTES, dtype=torch.uint8, device="cuda")
    for name, source in (("pageable", host), ("pinned", pinned)):
        asynchronous = source.is_pinned()
        up = support.median_seconds(
            lambda: device.copy_(source, non_blocking=asynchronous), 4, torch.cuda.synchronize, warm=1
        )
        down = support.median_seconds(
            lambda: source.copy_(device, non_blocking=asynchronous), 4, torch.cuda.synchronize, warm=1
        )
        support.figure(f"up_256MiB_{name}", BYTES / up / 1e9, "GB/s", "higher")
        support.figure(f"down_256MiB_{name}", BYTES / down / 1e9, "GB/s", "higher")
    fresh = support.median_seconds(lambda: host.to("cuda"), 4, torch.cuda.synchronize, warm=1)
    support.figure("to_cuda_256MiB_pageable", BYTES / fresh / 1e9, "GB/s", "higher")
    four = torch.ones(1, device="cuda")
    support.latency("down_4B", four.cpu, 500)


support.run(
    sizes,
    pinned_source_may_change_after_the_event,
    pageable_source_may_change_at_once,
    strided,
    kernels_reach_pinned_memory,
    speed,
)
