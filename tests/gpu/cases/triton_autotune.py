"""Triton: kernels compiled in the program, one chosen by measuring, against the CPU; atomics and a second launch from
its cache."""

import support

torch = support.torch_or_leave()
triton = support.need("triton")
tl = support.need("triton.language")
dev = support.DEVICE


@triton.jit
def add_kernel(x, y, out, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = offsets < n
    tl.store(out + offsets, tl.load(x + offsets, mask=inside) + tl.load(y + offsets, mask=inside), mask=inside)


@triton.jit
def histogram_kernel(x, counts, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = offsets < n
    tl.atomic_add(counts + tl.load(x + offsets, mask=inside, other=0), 1, mask=inside)


@triton.autotune(
    configs=[
        triton.Config({"BM": 32, "BN": 32, "BK": 32}, num_warps=2, num_stages=2),
        triton.Config({"BM": 64, "BN": 64, "BK": 32}, num_warps=4, num_stages=3),
        triton.Config({"BM": 128, "BN": 64, "BK": 64}, num_warps=8, num_stages=3),
    ],
    key=["m", "n", "k"],
)
@triton.jit
def product_kernel(a, b, c, m, n, k, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    rows = tl.program_id(0) * BM + tl.arange(0, BM)
    columns = tl.program_id(1) * BN + tl.arange(0, BN)
    total = tl.zeros((BM, BN), dtype=tl.float32)
    for start in range(0, k, BK):
        inner = start + tl.arange(0, BK)
        x = tl.load(a + rows[:, None] * k + inner[None, :], mask=(rows[:, None] < m) & (inner[None, :] < k), other=0.0)
        y = tl.load(
            b + inner[:, None] * n + columns[None, :], mask=(inner[:, None] < k) & (columns[None, :] < n), other=0.0
        )
        total += tl.dot(x, y)
    tl.store(c + rows[:, None] * n + columns[None, :], total, mask=(rows[:, None] < m) & (columns[None, :] < n))


def add():
    torch.manual_seed(0)
    x, y = torch.randn(98765, device=dev), torch.randn(98765, device=dev)
    out = torch.empty_like(x)

    def launch():
        add_kernel[(triton.cdiv(x.numel(), 1024),)](x, y, out, x.numel(), BLOCK=1024)

    launch()
    support.check(torch.equal(out, x + y), "sum")
    support.result("add", support.digest(out))
    support.latency("launch", launch, 500)


def atomics():
    x = torch.randint(0, 16, (100000,), device=dev, dtype=torch.int32, generator=torch.Generator(dev).manual_seed(3))
    counts = torch.zeros(16, dtype=torch.int32, device=dev)
    histogram_kernel[(triton.cdiv(x.numel(), 512),)](x, counts, x.numel(), BLOCK=512)
    support.check(torch.equal(counts.cpu().long(), torch.bincount(x.cpu(), minlength=16)), "histogram", counts.tolist())
    support.result("histogram", counts.tolist())


def product():
    m, n, k = 500, 384, 640
    a = torch.randint(-3, 4, (m, k), generator=torch.Generator().manual_seed(1)).half().to(dev)
    b = torch.randint(-3, 4, (k, n), generator=torch.Generator().manual_seed(2)).half().to(dev)
    c = torch.empty(m, n, device=dev)
    product_kernel[lambda meta: (triton.cdiv(m, meta["BM"]), triton.cdiv(n, meta["BN"]))](a, b, c, m, n, k)
    support.check(torch.equal(c.cpu().double(), a.double().cpu() @ b.double().cpu()), "product")
    support.result("product", support.digest(c))
    support.check(product_kernel.best_config is not None, "nothing was chosen")


support.run(add, atomics, product)
