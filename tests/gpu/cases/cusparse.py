"""cuSPARSE through PyTorch and CuPy: sparse times dense, times vector, times sparse, conversions, against SciPy in
double."""

import support

torch = support.torch_or_leave()
numpy = support.need("numpy")
scipy_sparse = support.need("scipy.sparse")
dev = support.DEVICE


def _matrix(rows, columns, seed=0, density=0.02):
    return scipy_sparse.random(rows, columns, density=density, format="csr", random_state=seed, dtype=numpy.float64)


def _torch_csr(matrix, dtype):
    return torch.sparse_csr_tensor(
        torch.from_numpy(matrix.indptr.astype("int64")),
        torch.from_numpy(matrix.indices.astype("int64")),
        torch.from_numpy(matrix.data).to(dtype),
        size=matrix.shape,
        device=dev,
    )


def torch_products():
    for name, dtype, bound in (("double", torch.float64, 1e-13), ("single", torch.float32, 1e-5)):
        matrix = _matrix(2000, 1500)
        dense = numpy.random.RandomState(1).randn(1500, 64)
        sparse = _torch_csr(matrix, dtype)
        x = torch.from_numpy(dense).to(dtype).to(dev)
        support.close(f"spmm_{name}", sparse @ x, matrix @ dense, bound)
        support.close(f"spmv_{name}", sparse @ x[:, 0].contiguous(), matrix @ dense[:, 0], bound)
        coo = sparse.to_sparse_coo().coalesce()
        support.close(f"coo_{name}", torch.sparse.mm(coo, x), matrix @ dense, bound)


def torch_sparse_by_sparse():
    a, b = _matrix(600, 700, 2), _matrix(700, 500, 3)
    product = torch.sparse.mm(
        _torch_csr(a, torch.float64).to_sparse_coo(), _torch_csr(b, torch.float64).to_sparse_coo()
    )
    support.close("spgemm", product.to_dense(), (a @ b).toarray(), 1e-13)


def torch_gradient():
    matrix = _matrix(300, 200, 4)
    sparse = _torch_csr(matrix, torch.float64).to_sparse_coo().coalesce()
    x = torch.from_numpy(numpy.random.RandomState(5).randn(200, 8)).to(dev).requires_grad_()
    torch.sparse.mm(sparse, x).square().sum().backward()
    expected = 2 * matrix.T @ (matrix @ x.detach().cpu().numpy())
    support.close("gradient", x.grad, expected, 1e-12)


def cupy_products():
    cupy, sparse = support.need("cupy"), support.need("cupyx.scipy.sparse")
    matrix = _matrix(2000, 1500, 6)
    dense = numpy.random.RandomState(7).randn(1500, 32)
    a = sparse.csr_matrix(matrix)
    support.close("cupy_spmm", a @ cupy.asarray(dense), matrix @ dense, 1e-13)
    support.close("cupy_spmv", a @ cupy.asarray(dense[:, 0].copy()), matrix @ dense[:, 0], 1e-13)
    support.close("cupy_transposed", a.T.tocsr() @ cupy.asarray(numpy.ones(2000)), matrix.T @ numpy.ones(2000), 1e-13)
    other = _matrix(1500, 400, 8)
    support.close("cupy_spgemm", (a @ sparse.csr_matrix(other)).toarray(), (matrix @ other).toarray(), 1e-13)
    support.close("cupy_csc", a.tocsc().toarray(), matrix.toarray(), 1e-15)


support.run(torch_products, torch_sparse_by_sparse, torch_gradient, cupy_products)
