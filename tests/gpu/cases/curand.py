"""cuRAND through CuPy, and PyTorch's Philox: the same seed gives the same stream on both sides, and its moments are
right."""

import math

import support

torch = support.torch_or_leave()
dev = support.DEVICE
COUNT = 1 << 20


def _moments(label, values, mean, deviation):
    """Within five standard errors."""
    values = support.as_double(values)
    error = deviation / math.sqrt(values.size)
    support.check(abs(values.mean() - mean) < 5 * error, label, "mean", values.mean())
    support.check(abs(values.std() - deviation) < 5 * error * 1.5, label, "deviation", values.std())


def pytorch():
    torch.manual_seed(1234)
    for label, values, mean, deviation in (
        ("rand", torch.rand(COUNT, device=dev), 0.5, 12**-0.5),
        ("randn", torch.randn(COUNT, device=dev), 0, 1),
        ("exponential", torch.empty(COUNT, device=dev).exponential_(2.0), 0.5, 0.5),
        ("bernoulli", torch.empty(COUNT, device=dev).bernoulli_(0.25), 0.25, math.sqrt(3) / 4),
    ):
        _moments(label, values, mean, deviation)
        support.result("torch_" + label, support.digest(values))
    support.result("torch_randint", support.digest(torch.randint(0, 1 << 30, (COUNT,), device=dev)))
    support.result("torch_randperm", support.digest(torch.randperm(100000, device=dev)))
    state = torch.cuda.get_rng_state()
    first = torch.rand(100, device=dev)
    torch.cuda.set_rng_state(state)
    support.check(torch.equal(first, torch.rand(100, device=dev)), "a state put back gives other numbers")


def cupy_host_library():
    cupy = support.need("cupy")
    state = cupy.random.RandomState(99)  # libcurand's XORWOW
    for label, values, mean, deviation in (
        ("uniform", state.random_sample(COUNT), 0.5, 12**-0.5),
        ("normal", state.normal(3, 2, COUNT), 3, 2),
        (
            "lognormal",
            state.lognormal(0, 0.25, COUNT),
            math.exp(0.03125),
            math.exp(0.03125) * math.sqrt(math.exp(0.0625) - 1),
        ),
    ):
        _moments(label, values, mean, deviation)
        support.result("curand_" + label, support.digest(values))
    support.result("curand_integers", support.digest(state.randint(0, 1000, COUNT)))


def generators():
    cupy = support.need("cupy")
    from cupy.cuda import curand

    for label, kind in (
        ("xorwow", curand.CURAND_RNG_PSEUDO_XORWOW),
        ("mrg32k3a", curand.CURAND_RNG_PSEUDO_MRG32K3A),
        ("philox", curand.CURAND_RNG_PSEUDO_PHILOX4_32_10),
        ("mtgp32", curand.CURAND_RNG_PSEUDO_MTGP32),
    ):
        values = cupy.empty(COUNT, dtype=cupy.float32)
        generator = curand.createGenerator(kind)
        try:
            curand.setPseudoRandomGeneratorSeed(generator, 7)
            curand.generateUniform(generator, values.data.ptr, COUNT)
            cupy.cuda.runtime.deviceSynchronize()
        finally:
            curand.destroyGenerator(generator)
        _moments(label, values, 0.5, 12**-0.5)
        support.result("generator_" + label, support.digest(values))


def cupy_device_library():
    """curand_kernel.h compiled by NVRTC or ahead of time: Philox in a kernel."""
    cupy = support.need("cupy")
    generator = cupy.random.Generator(cupy.random.Philox4x3210(42))
    values = generator.standard_normal(COUNT)
    _moments("device", values, 0, 1)
    support.result("device_normal", support.digest(values))


support.run(pytorch, cupy_host_library, generators, cupy_device_library)
