"""cuSOLVER through PyTorch and CuPy: LU, QR, SVD, Cholesky, eigenvalues, solving, each put together again in double."""

import support

torch = support.torch_or_leave()
dev = support.DEVICE
TYPES = (("double", torch.float64, 1e-12), ("single", torch.float32, 1e-4))


def _matrix(rows, columns, dtype, batch=()):
    return (
        torch.randn(*batch, rows, columns, dtype=torch.float64, generator=torch.Generator().manual_seed(rows))
        .to(dtype)
        .to(dev)
    )


def _wide(x):
    return x.detach().cpu().to(torch.complex128 if x.is_complex() else torch.float64)


def start():
    if dev == "cuda":
        torch.backends.cuda.preferred_linalg_library("cusolver")
    support.result("library", "cusolver")


def lu():
    for name, dtype, bound in TYPES:
        for shape in ((300, 300), (500, 200)):
            a = _matrix(*shape, dtype)
            p, l, u = torch.linalg.lu(a)
            support.close(f"lu_{name}_{shape[0]}x{shape[1]}", _wide(p) @ _wide(l) @ _wide(u), _wide(a), bound)
        b = _matrix(40, 40, dtype, (16,))
        p, l, u = torch.linalg.lu(b)
        support.close(f"lu_{name}_batch", _wide(p) @ _wide(l) @ _wide(u), _wide(b), bound)


def qr():
    for name, dtype, bound in TYPES:
        a = _matrix(400, 250, dtype)
        q, r = torch.linalg.qr(a)
        support.close(f"qr_{name}", _wide(q) @ _wide(r), _wide(a), bound)
        support.close(f"qr_{name}_orthogonal", _wide(q).t() @ _wide(q), torch.eye(250, dtype=torch.float64), bound)


def svd():
    for name, dtype, bound in TYPES:
        a = _matrix(200, 120, dtype)
        for driver in ("gesvd", "gesvdj", "gesvda") if dev == "cuda" else (None,):
            u, s, v = torch.linalg.svd(a, full_matrices=False, driver=driver)
            allowed = 1e-2 if driver == "gesvda" else bound * 10  # that one is documented to be approximate
            support.close(f"svd_{name}_{driver}", _wide(u) @ torch.diag(_wide(s)) @ _wide(v), _wide(a), allowed)
            support.close(f"svd_{name}_{driver}_values", s, torch.linalg.svdvals(_wide(a)), allowed)


def cholesky():
    for name, dtype, bound in TYPES:
        for batch in ((), (8,)):
            a = _matrix(200, 200, dtype, batch)
            spd = a @ a.mT + 200 * torch.eye(200, dtype=dtype, device=dev)
            l = torch.linalg.cholesky(spd)
            support.close(f"cholesky_{name}_{len(batch)}", _wide(l) @ _wide(l).mT, _wide(spd), bound)


def eigenvalues():
    for name, dtype, bound in TYPES:
        a = _matrix(150, 150, dtype)
        symmetric = (a + a.t()) / 2
        values, vectors = torch.linalg.eigh(symmetric)
        support.close(
            f"eigh_{name}", _wide(vectors) @ torch.diag(_wide(values)) @ _wide(vectors).t(), _wide(symmetric), bound
        )
        support.close(f"eigh_{name}_values", values, torch.linalg.eigvalsh(_wide(symmetric)), bound)


def solve():
    for name, dtype, bound in TYPES:
        a, b = _matrix(300, 300, dtype) + 30 * torch.eye(300, dtype=dtype, device=dev), _matrix(300, 7, dtype)
        support.close(f"solve_{name}", _wide(a) @ _wide(torch.linalg.solve(a, b)), _wide(b), bound * 10)
        support.close(
            f"inverse_{name}", _wide(torch.linalg.inv(a)) @ _wide(a), torch.eye(300, dtype=torch.float64), bound * 10
        )
        support.close(
            f"determinant_{name}",
            torch.linalg.slogdet(a)[1].reshape(1),
            torch.linalg.slogdet(_wide(a))[1].reshape(1),
            bound,
        )
    triangle = torch.tril(_matrix(100, 100, torch.float64)) + 20 * torch.eye(100, dtype=torch.float64, device=dev)
    b = _matrix(100, 3, torch.float64)
    support.close(
        "triangular", _wide(triangle) @ _wide(torch.linalg.solve_triangular(triangle, b, upper=False)), _wide(b), 1e-12
    )


def complex_matrices():
    a = torch.complex(_matrix(120, 120, torch.float64), _matrix(120, 120, torch.float64).flip(0))
    q, r = torch.linalg.qr(a)
    support.close("qr_complex", _wide(q) @ _wide(r), _wide(a), 1e-12)
    values, vectors = torch.linalg.eigh(a + a.mH)
    support.close(
        "eigh_complex",
        _wide(vectors) @ torch.diag(_wide(values).to(torch.complex128)) @ _wide(vectors).mH,
        _wide(a + a.mH),
        1e-12,
    )


def singular_matrix_is_an_error():
    words = "none"
    try:
        torch.linalg.inv(torch.zeros(8, 8, device=dev))
    except torch.linalg.LinAlgError:
        words = "LinAlgError"
    support.result("singular", words)


def through_cupy():
    cupy, numpy = support.need("cupy"), support.need("numpy")
    a = cupy.asarray(numpy.random.RandomState(0).randn(150, 100))
    u, s, v = cupy.linalg.svd(a, full_matrices=False)
    support.close("cupy_svd", (u * s) @ v, a, 1e-12)
    q, r = cupy.linalg.qr(a)
    support.close("cupy_qr", q @ r, a, 1e-12)
    spd = a.T @ a + 10 * cupy.eye(100)
    l = cupy.linalg.cholesky(spd)
    support.close("cupy_cholesky", l @ l.T, spd, 1e-12)
    values, vectors = cupy.linalg.eigh(spd)
    support.close("cupy_eigh", (vectors * values) @ vectors.T, spd, 1e-12)
    support.close("cupy_solve", spd @ cupy.linalg.solve(spd, a.T), a.T, 1e-11)


def speed():
    a = _matrix(1024, 1024, torch.float64)
    support.latency("lu_1024_double", lambda: torch.linalg.lu_factor(a), 10, "ms")


support.run(
    start, lu, qr, svd, cholesky, eigenvalues, solve, complex_matrices, singular_matrix_is_an_error, through_cupy, speed
)
