"""cuFFT through PyTorch and CuPy: one, two and three dimensions, real and complex, batches, odd and prime lengths,
against NumPy in double."""

import support

torch = support.torch_or_leave()
numpy = support.need("numpy")
dev = support.DEVICE


def _data(*shape, kind="complex"):
    state = numpy.random.RandomState(len(shape) + shape[-1])
    data = state.randn(*shape)
    return data + 1j * state.randn(*shape) if kind == "complex" else data


def _both(label, shape, dims, kind):
    data = _data(*shape, kind=kind)
    forward, backward = ("fftn", "ifftn") if kind == "complex" else ("rfftn", "irfftn")
    axes = tuple(range(-dims, 0))
    expected = getattr(numpy.fft, forward)(data, axes=axes)
    for precision, dtype, bound in (
        ("single", numpy.complex64 if kind == "complex" else numpy.float32, 1e-5),
        ("double", data.dtype, 1e-13),
    ):
        x = torch.from_numpy(data.astype(dtype)).to(dev)
        y = getattr(torch.fft, forward)(x, dim=axes)
        support.close(f"{label}_{kind}_{precision}", y, expected, bound)
        options = {"s": [shape[axis] for axis in axes]} if kind == "real" else {}
        support.close(
            f"{label}_{kind}_{precision}_back", getattr(torch.fft, backward)(y, dim=axes, **options), data, bound
        )


def one_dimension():
    for length in (8, 1000, 1021, 65536, 100003):
        for kind in ("complex", "real"):
            _both(f"1d_{length}", (length,), 1, kind)


def batches():
    for kind in ("complex", "real"):
        _both("batch_64x4096", (64, 4096), 1, kind)
        _both("batch_1000x30", (1000, 30), 1, kind)


def two_dimensions():
    for kind in ("complex", "real"):
        _both("2d_512x512", (512, 512), 2, kind)
        _both("2d_batch_5x60x77", (5, 60, 77), 2, kind)


def three_dimensions():
    for kind in ("complex", "real"):
        _both("3d_64", (64, 64, 64), 3, kind)
        _both("3d_batch_3x20x30x14", (3, 20, 30, 14), 3, kind)


def half_precision():
    data = _data(256, kind="real")
    if dev == "cuda":
        x = torch.from_numpy(data).half().to(dev)
        support.close("half", torch.fft.rfft(x).to(torch.complex64), numpy.fft.rfft(x.double().cpu().numpy()), 5e-3)


def gradients():
    x = torch.from_numpy(_data(128, kind="real")).to(dev).requires_grad_()
    torch.fft.rfft(x).abs().square().sum().backward()
    y = x.detach().cpu().requires_grad_()
    torch.fft.rfft(y).abs().square().sum().backward()
    support.close("gradient", x.grad, y.grad, 1e-12)


def through_cupy():
    cupy = support.need("cupy")
    data = _data(32, 1024)
    support.close("cupy_fft", cupy.fft.fft(cupy.asarray(data)), numpy.fft.fft(data), 1e-13)
    plan = cupy.cuda.cufft.Plan1d(1024, cupy.cuda.cufft.CUFFT_Z2Z, 32)
    with plan:
        support.close("cupy_plan", cupy.fft.fft(cupy.asarray(data)), numpy.fft.fft(data), 1e-13)
    real = _data(40, 50, 60, kind="real")
    support.close("cupy_rfftn", cupy.fft.rfftn(cupy.asarray(real)), numpy.fft.rfftn(real), 1e-13)
    support.close("cupy_ifft2", cupy.fft.ifft2(cupy.asarray(data)), numpy.fft.ifft2(data), 1e-13)


def speed():
    x = torch.randn(64, 65536, dtype=torch.complex64, device=dev)
    support.latency("fft_64x65536", lambda: torch.fft.fft(x), 50)


support.run(one_dimension, batches, two_dimensions, three_dimensions, half_precision, gradients, through_cupy, speed)
