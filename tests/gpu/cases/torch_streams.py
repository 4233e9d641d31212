"""Streams, events, record_stream: order where it is asked for, concurrency where it is not forbidden, times that make
sense."""

import support

torch = support.torch_or_leave()
SIDE = 1024


def _spin(rounds=30):
    """Keeps a stream busy for milliseconds."""
    x = torch.ones(4096, 4096, device="cuda")
    for _ in range(rounds):
        x = x @ x * 1e-4
    return x


def events_order_streams():
    first, second = torch.cuda.Stream(), torch.cuda.Stream()
    torch.cuda.synchronize()
    with torch.cuda.stream(first):
        _spin()
        x = torch.full((SIDE,), 5.0, device="cuda")
        done = torch.cuda.Event()
        done.record(first)
    with torch.cuda.stream(second):
        second.wait_event(done)
        x.record_stream(second)
        y = x * 2
    second.synchronize()
    support.check(done.query(), "an event before a finished stream is not done")
    support.result("ordered", y.sum().item())


def record_stream_keeps_memory():
    """Freed on one stream while another still reads: the block must not be used again before that is over."""
    side = torch.cuda.Stream()
    good = 0
    for number in range(20):
        x = torch.full((1 << 20,), float(number), device="cuda")
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            _spin(3)
            y = x.clone()
        x.record_stream(side)
        pointer = x.data_ptr()
        del x
        z = torch.full((1 << 20,), -1.0, device="cuda")
        side.synchronize()
        good += int(bool((y == number).all()))
        del z, pointer
    support.result("kept", good)
    support.check(good == 20, "overwritten while in use in", 20 - good, "of 20 rounds")


def timing():
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    _spin()
    torch.cuda.synchronize()
    import time

    clock = time.perf_counter()
    start.record()
    _spin(60)
    end.record()
    end.synchronize()
    wall_ms = (time.perf_counter() - clock) * 1e3
    device_ms = start.elapsed_time(end)
    support.check(0 < device_ms <= wall_ms * 1.05, "events say", device_ms, "ms, the clock", wall_ms, "ms")
    support.result("timing", "sane")
    support.figure("spin_60", device_ms, "ms")


def many_streams():
    streams = [torch.cuda.Stream() for _ in range(32)]
    outputs = []
    for number, stream in enumerate(streams):
        with torch.cuda.stream(stream):
            x = torch.full((1 << 16,), float(number), device="cuda")
            for _ in range(20):
                x = x + 1
            outputs.append(x)
    torch.cuda.synchronize()
    support.result("streams", [int(x[0].item()) for x in outputs])
    support.check(all(bool((x == number + 20).all()) for number, x in enumerate(outputs)), "a stream's result")


def priorities_and_queries():
    low, high = torch.cuda.Stream(priority=0), torch.cuda.Stream(priority=-1)
    support.result("priorities", (low.priority, high.priority))
    with torch.cuda.stream(high):
        _spin(60)
    busy = not high.query()
    high.synchronize()
    support.check(high.query(), "a synchronized stream is busy")
    support.result("was_busy", busy)
    support.result("default_stream", torch.cuda.default_stream().cuda_stream)


def an_external_stream():
    stream = torch.cuda.Stream()
    same = torch.cuda.ExternalStream(stream.cuda_stream)
    with torch.cuda.stream(same):
        x = torch.ones(1000, device="cuda") * 4
    stream.synchronize()
    support.result("external", x.sum().item())


support.run(
    events_order_streams, record_stream_keeps_memory, timing, many_streams, priorities_and_queries, an_external_stream
)
