"""Autograd across threads: fp32 backward passes 2048 wide in several threads at once, against double on the CPU."""

import threading

import support

torch = support.torch_or_leave()
dev = support.DEVICE
THREADS, WIDTH, BATCH = 8, 2048, 256


def _work(number, own_stream):
    generator = torch.Generator().manual_seed(number)
    weight = torch.randn(WIDTH, WIDTH, generator=generator) / WIDTH**0.5
    x = torch.randn(BATCH, WIDTH, generator=generator)
    stream = torch.cuda.Stream() if own_stream and dev == "cuda" else None
    with torch.cuda.stream(stream):
        layer = torch.nn.Linear(WIDTH, WIDTH, bias=False).to(dev)
        with torch.no_grad():
            layer.weight.copy_(weight)
        y = x.to(dev).requires_grad_()
        for _ in range(3):
            layer.zero_grad()
            y.grad = None
            torch.tanh(layer(y)).square().sum().backward()
        if stream:
            stream.synchronize()
    w, z = weight.double().requires_grad_(), x.detach().double().requires_grad_()
    torch.tanh(z @ w.t()).square().sum().backward()
    error = (layer.weight.grad.double().cpu() - w.grad).norm() / w.grad.norm()
    error_x = (y.grad.double().cpu() - z.grad).norm() / z.grad.norm()
    return max(error.item(), error_x.item())


def _threads(name, own_stream):
    errors, failures = [None] * THREADS, []

    def body(number):
        try:
            errors[number] = _work(number, own_stream)
        except Exception as error:  # told by the main thread
            failures.append(f"thread {number}: {support.exception_words(error)}")

    threads = [threading.Thread(target=body, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    support.check(not failures, len(failures), "threads failed;", *failures[:2])
    support.check(max(errors) < 1e-5, "errors", errors)
    support.result(name, max(errors), below=1e-5)


def one_thread():
    support.result("one_thread", _work(100, False), below=1e-5)


def threads_of_the_default_stream():
    _threads("default_stream", False)


def threads_with_streams():
    _threads("own_streams", True)


def many_short_threads():
    """More threads over time than there are producers' lines."""
    for generation in range(24):
        sums = []
        threads = [
            threading.Thread(target=lambda: sums.append((torch.arange(100.0, device=dev) * generation).sum().item()))
            for _ in range(16)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        support.check(sums == [4950.0 * generation] * 16, "generation", generation, "sums", sums)
    support.result("short_threads", 24 * 16)


support.run(one_thread, threads_of_the_default_stream, threads_with_streams, many_short_threads)
