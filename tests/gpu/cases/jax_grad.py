"""JAX: jit, a matrix product, gradients, random numbers, a scan, against NumPy; memory is not taken beforehand."""

import support

numpy = support.need("numpy")
jax = support.need("jax")
jnp = jax.numpy


# Asked for first by the library, which then takes what there is.
REFUSED = {"cuMemCreate of host memory": "pinned memory is the arena's", "cuMemCreate with handles that are no descriptors": "not there natively on such a machine either"}


def device():
    found = jax.devices()[0]
    support.check(support.DEVICE != "cuda" or found.platform in ("gpu", "cuda"), "JAX runs on", found.platform)
    support.result("kind", found.device_kind)


def product():
    state = numpy.random.RandomState(0)
    a, b = state.randn(1024, 512).astype("float32"), state.randn(512, 2048).astype("float32")
    product_of = jax.jit(lambda x, y: jnp.tanh(jnp.matmul(x, y, precision="highest") / 16))
    support.close(
        "matmul", numpy.asarray(product_of(a, b)), numpy.tanh(a.astype("float64") @ b.astype("float64") / 16), 1e-5
    )
    whole = state.randint(-3, 4, (300, 300)).astype("float32")
    support.check(
        numpy.array_equal(numpy.asarray(jax.jit(lambda x: x @ x)(whole)), whole @ whole), "a product of whole numbers"
    )


def gradient():
    state = numpy.random.RandomState(1)
    w, x, y = state.randn(64, 32), state.randn(256, 64), state.randn(256, 32)

    def loss(weights):
        return jnp.mean((jnp.matmul(x.astype("float32"), weights, precision="highest") - y.astype("float32")) ** 2)

    value, slope = jax.jit(jax.value_and_grad(loss))(w.astype("float32"))
    difference = x @ w - y
    support.close("loss", numpy.asarray(value).reshape(1), numpy.asarray([(difference**2).mean()]), 1e-5)
    support.close("grad", numpy.asarray(slope), 2 * x.T @ difference / difference.size, 1e-5)


def training():
    """Two hundred steps inside one scan."""
    state = numpy.random.RandomState(2)
    x, target = state.randn(128, 16).astype("float32"), state.randn(16, 1).astype("float32")
    y = x @ target

    def step(weights, _):
        slope = jax.grad(lambda w: jnp.mean((jnp.matmul(x, w, precision="highest") - y) ** 2))(weights)
        return weights - 0.1 * slope, None

    weights, _ = jax.jit(lambda w: jax.lax.scan(step, w, None, length=200))(jnp.zeros((16, 1)))
    support.close("scan", numpy.asarray(weights), target, 1e-2)


def random_numbers():
    key = jax.random.PRNGKey(7)
    support.result("uniform_bits", support.digest(numpy.asarray(jax.random.bits(key, (100000,)))))
    support.close(
        "normal_mean",
        numpy.asarray([1 + float(jnp.mean(jax.random.normal(key, (1 << 20,))))]),
        numpy.asarray([1.0]),
        1e-2,
    )


def sorting_and_fft():
    data = numpy.random.RandomState(3).randn(1 << 16).astype("float32")
    support.check(numpy.array_equal(numpy.asarray(jnp.sort(data)), numpy.sort(data)), "sort")
    support.close("fft", numpy.asarray(jnp.fft.fft(data)), numpy.fft.fft(data.astype("float64")), 1e-5)
    support.close("cumsum", numpy.asarray(jnp.cumsum(data)), numpy.cumsum(data.astype("float64")), 1e-4)


def convolution_and_solve():
    state = numpy.random.RandomState(4)
    image, kernel = state.randn(2, 8, 20, 20).astype("float32"), state.randn(16, 8, 3, 3).astype("float32")
    output = jax.lax.conv_general_dilated(image, kernel, (1, 1), "VALID", precision="highest")
    windows = numpy.lib.stride_tricks.sliding_window_view(image.astype("float64"), (3, 3), axis=(2, 3))
    support.close(
        "conv", numpy.asarray(output), numpy.einsum("nchwij,ocij->nohw", windows, kernel.astype("float64")), 1e-5
    )
    a = state.randn(100, 100).astype("float32") + 10 * numpy.eye(100, dtype="float32")
    b = state.randn(100, 3).astype("float32")
    support.close("solve", a.astype("float64") @ numpy.asarray(jnp.linalg.solve(a, b)).astype("float64"), b, 1e-4)


support.run(device, product, gradient, training, random_numbers, sorting_and_fft, convolution_and_solve)
