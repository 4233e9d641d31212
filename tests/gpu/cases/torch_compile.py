"""torch.compile: what Inductor and Triton generate gives what eager gives, forward and backward, also inside CUDA
graphs."""

import support

ALONE = True
torch = support.torch_or_leave()
nn = torch.nn
dev = support.DEVICE
TIMEOUT_S = 420


class Block(nn.Module):
    """A transformer's block, pre-norm."""

    def __init__(self, width=256, heads=4):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        b, t, c = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(b, t, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        a = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(a.transpose(1, 2).reshape(b, t, c))
        return x + self.down(nn.functional.gelu(self.up(self.norm2(x))))


def pointwise():
    torch.manual_seed(0)
    x = torch.randn(1 << 20, device=dev)

    def plain(t):
        return torch.sin(t) * 2 + t

    compiled = torch.compile(plain)
    support.close("pointwise", compiled(x), plain(x.double().cpu()), 1e-6)
    support.latency("fused", lambda: compiled(x), 200)


def reduction():
    torch.manual_seed(1)
    x = torch.randn(512, 1000, device=dev)
    compiled = torch.compile(lambda t: torch.softmax(t, -1).amax(-1) + t.var(-1))
    support.close("softmax", compiled(x), torch.softmax(x.double().cpu(), -1).amax(-1) + x.double().cpu().var(-1), 1e-5)


def block_trains():
    torch.manual_seed(2)
    eager = Block().to(dev)
    compiled = torch.compile(eager)
    x = torch.randn(4, 64, 256, device=dev)
    reference = Block().double()
    reference.load_state_dict({name: value.double().cpu() for name, value in eager.state_dict().items()})
    y, expected = compiled(x), reference(x.double().cpu())
    support.close("block", y, expected, 1e-4)
    y.square().mean().backward()
    expected.square().mean().backward()
    for name in ("qkv.weight", "down.weight", "norm1.weight"):
        support.close("grad_" + name, eager.get_parameter(name).grad, reference.get_parameter(name).grad, 1e-3)


def reduce_overhead():
    """Inductor's own CUDA graphs, with memory pools private to them."""
    torch.manual_seed(3)
    model = Block().to(dev).eval()
    x = torch.randn(4, 64, 256, device=dev)
    with torch.no_grad():
        expected = model(x)
        compiled = torch.compile(model, mode="reduce-overhead")
        for _ in range(4):
            y = compiled(x).clone()
        support.close("graphed_block", y, expected, 1e-5)
        support.latency("graphed_block", lambda: compiled(x), 100)


support.run(pointwise, reduction, block_trains, reduce_overhead)
