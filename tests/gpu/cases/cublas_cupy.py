"""cuBLAS through CuPy (its own handle, no cuBLASLt): products by type and shape, batched, exact and against double."""

import support

numpy = support.need("numpy")
cupy = support.need("cupy")


def _whole(*shape, seed=0):
    return numpy.random.RandomState(seed).randint(-3, 4, shape)


def exact():
    good = 0
    for dtype in ("float32", "float64", "float16"):
        for m, n, k in ((5, 7, 3), (64, 64, 64), (500, 300, 700), (2048, 2048, 2048), (1, 2048, 2048)):
            a, b = _whole(m, k), _whole(k, n, seed=1)
            output = cupy.matmul(cupy.asarray(a, dtype=dtype), cupy.asarray(b, dtype=dtype))
            expected = (a.astype("float64") @ b.astype("float64")).astype(dtype)
            support.check(numpy.array_equal(cupy.asnumpy(output), expected), dtype, m, n, k)
            good += 1
    support.result("exact", good)


def batched():
    a, b = _whole(17, 30, 40), _whole(17, 40, 20, seed=1)
    output = cupy.matmul(cupy.asarray(a, dtype="float32"), cupy.asarray(b, dtype="float32"))
    support.check(numpy.array_equal(cupy.asnumpy(output), a @ b), "batched")
    x = cupy.asarray(_whole(1000), dtype="float64")
    support.result("dot", float(cupy.dot(x, x)))
    support.result("batched", 17)


def low_level():
    from cupy import cublas

    a = cupy.asarray(_whole(60, 40), dtype="float64")
    x = cupy.asarray(_whole(40, seed=2), dtype="float64")
    y = cupy.zeros(60)
    cublas.gemv("N", 1.0, a, x, 0.0, y)
    support.check(bool((y == a @ x).all()), "gemv")
    support.check(float(cublas.nrm2(x)) > 0, "nrm2")
    support.result("asum", float(cublas.asum(x)))


def against_double():
    for dtype, bound in (("float32", 1e-5), ("complex64", 1e-5), ("complex128", 1e-13)):
        state = numpy.random.RandomState(3)
        a = (state.randn(700, 900) + (1j * state.randn(700, 900) if dtype[0] == "c" else 0)).astype(dtype)
        output = cupy.asarray(a) @ cupy.asarray(a.T.copy())
        wide = a.astype("complex128" if dtype[0] == "c" else "float64")
        support.close(dtype, output, wide @ wide.T, bound)


support.run(exact, batched, low_level, against_double)
