"""cuBLAS and cuBLASLt as PyTorch calls them: many shapes and types. Small whole numbers make every sum exact, whatever
the order of additions, so each product must equal the CPU's to the last bit; random ones are held against double."""

import support

torch = support.torch_or_leave()
dev = support.DEVICE
# Partial sums of a product that is split are added in fp32: then the whole of it is rounded once.
torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
SHAPES = (
    (1, 1, 1),
    (7, 5, 3),
    (64, 64, 64),
    (128, 257, 511),
    (512, 512, 512),
    (2048, 2048, 2048),
    (256, 2048, 2048),
    (1, 2048, 2048),
    (2048, 1, 2048),
    (1000, 3000, 100),
    (4096, 1024, 64),
)
TYPES = {"sgemm": torch.float32, "dgemm": torch.float64, "hgemm": torch.float16, "bf16": torch.bfloat16}


def _whole(*shape, dtype=torch.float32, seed=0):
    return torch.randint(-3, 4, shape, generator=torch.Generator().manual_seed(seed + shape[-1])).to(dtype)


def _exact(label, output, expected, roundings=1):
    """`expected`: the exact product in double, rounded once to the output's type; some kernels round before adding."""
    off = (output.detach().cpu().double() - expected).abs()
    allowed = torch.finfo(output.dtype).eps * roundings * expected.abs() if roundings > 1 else None
    wrong = (output.detach().cpu() != expected.to(output.dtype)) if allowed is None else off > allowed
    wrong = wrong.sum().item()
    support.check(wrong == 0, label, "has", wrong, "wrong elements of", expected.numel())


def _products(name):
    dtype, good = TYPES[name], 0
    for m, n, k in SHAPES:
        a, b = _whole(m, k, dtype=dtype), _whole(k, n, dtype=dtype, seed=1)
        x, y = a.to(dev), b.to(dev)
        expected = a.double() @ b.double()
        _exact(f"{name} {m}x{n}x{k}", x @ y, expected)
        _exact(f"{name} {m}x{n}x{k} transposed", (y.t().contiguous().t().t() @ x.t()).t(), expected)
        bias = _whole(n, dtype=dtype, seed=2)
        if m > 1:
            _exact(f"{name} {m}x{n}x{k} with bias", torch.addmm(bias.to(dev), x, y), expected + bias.double(), roundings=2)
        good += 1
    support.result(name, good)


def sgemm():
    _products("sgemm")


def dgemm():
    _products("dgemm")


def hgemm():
    _products("hgemm")


def bf16():
    _products("bf16")


def tf32():
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        a, b = _whole(1024, 2048), _whole(2048, 512, seed=1)
        _exact("tf32", a.to(dev) @ b.to(dev), a.double() @ b.double())
    finally:
        torch.backends.cuda.matmul.allow_tf32 = False
    support.result("tf32", 1)


def int8():
    a, b = _whole(64, 128, dtype=torch.int8), _whole(128, 256, dtype=torch.int8, seed=1)
    output = torch._int_mm(a.to(dev), b.t().contiguous().t().to(dev))
    support.check(torch.equal(output.cpu().long(), a.long() @ b.long()), "int8 product")
    support.result("int8", 1)


def batched():
    for name, dtype in TYPES.items():
        a, b = _whole(33, 40, 70, dtype=dtype), _whole(33, 70, 50, dtype=dtype, seed=1)
        expected = a.double() @ b.double()
        _exact(name + " bmm", torch.bmm(a.to(dev), b.to(dev)), expected)
        _exact(name + " broadcast", torch.matmul(a.to(dev), b[0].to(dev)), a.double() @ b[0].double())
        _exact(name + " einsum", torch.einsum("bik,bkj->bij", a.to(dev), b.to(dev)), expected)
    support.result("batched", 12)


def complex_products():
    a = torch.complex(_whole(300, 200), _whole(300, 200, seed=5))
    b = torch.complex(_whole(200, 100), _whole(200, 100, seed=6))
    support.close("cgemm", a.to(dev) @ b.to(dev), a.to(torch.complex128) @ b.to(torch.complex128), 1e-7)


def vectors():
    x, y = _whole(100000), _whole(100000, seed=9)
    support.check(torch.dot(x.to(dev), y.to(dev)).item() == (x.double() @ y.double()).item(), "dot")
    a = _whole(2048, 1000)
    _exact("mv", a.to(dev) @ x[:1000].to(dev), a.double() @ x[:1000].double())
    _exact("ger", torch.outer(x[:500].to(dev), y[:700].to(dev)), torch.outer(x[:500].double(), y[:700].double()))
    _exact(
        "baddbmm",
        torch.baddbmm(_whole(4, 8, 8).to(dev), _whole(4, 8, 9).to(dev), _whole(4, 9, 8).to(dev)),
        _whole(4, 8, 8).double() + _whole(4, 8, 9).double() @ _whole(4, 9, 8).double(),
    )
    support.result("vectors", 4)


def random_against_double():
    torch.manual_seed(0)
    for name, dtype, bound in (
        ("float32", torch.float32, 1e-5),
        ("float64", torch.float64, 1e-13),
        ("float16", torch.float16, 1e-3),
        ("bfloat16", torch.bfloat16, 1e-2),
    ):
        a, b = torch.randn(2048, 2048).to(dtype), torch.randn(2048, 2048).to(dtype)
        output = a.to(dev) @ b.to(dev)
        support.close("random_" + name, output, a.double() @ b.double(), bound)
        support.result("bits_" + name, support.digest(output))


def backward_2048():
    """The products of a 2048-wide layer's backward pass run in autograd's own thread."""
    for name in ("sgemm", "dgemm", "hgemm", "bf16"):
        dtype = TYPES[name]
        layer = torch.nn.Linear(2048, 2048, dtype=dtype).to(dev)
        with torch.no_grad():
            layer.weight.copy_(_whole(2048, 2048, dtype=dtype))
            layer.bias.zero_()
        x = _whole(128, 2048, dtype=dtype, seed=3).to(dev).requires_grad_()
        g = _whole(128, 2048, dtype=dtype, seed=4).to(dev)
        layer(x).backward(g)
        _exact(name + " weight", layer.weight.grad, g.double().cpu().t() @ x.detach().double().cpu())
        _exact(name + " input", x.grad, g.double().cpu() @ layer.weight.detach().double().cpu())
    support.result("backward", 4)


def speed():
    for side in (512, 2048):
        a = torch.randn(side, side, device=dev)
        support.latency(f"sgemm_{side}", lambda: a @ a, 50)


support.run(
    sgemm,
    dgemm,
    hgemm,
    bf16,
    tf32,
    int8,
    batched,
    complex_products,
    vectors,
    random_against_double,
    backward_2048,
    speed,
)
