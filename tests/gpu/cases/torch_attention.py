"""scaled_dot_product_attention by every backend, forward and backward, against double on the CPU."""

import support

torch = support.torch_or_leave()
nn = torch.nn
dev = support.DEVICE
B, H, T, D = 2, 8, 512, 64


def _reference(inputs, weight, causal):
    q, k, v = (x.detach().double().cpu().requires_grad_() for x in inputs)
    scores = q @ k.transpose(-1, -2) / D**0.5
    if causal:
        scores = scores.masked_fill(torch.ones(T, T, dtype=torch.bool).triu(1), float("-inf"))
    output = torch.softmax(scores, -1) @ v
    output.backward(weight.double().cpu())
    return output.detach(), [x.grad for x in (q, k, v)]


def _attention(name, backend, dtype, bound):
    from torch.nn.attention import sdpa_kernel

    for causal in (False, True):
        torch.manual_seed(3)
        inputs = [torch.randn(B, H, T, D, dtype=dtype).to(dev).requires_grad_() for _ in range(3)]
        weight = torch.randn(B, H, T, D, dtype=dtype).to(dev)
        with sdpa_kernel(backend):
            output = nn.functional.scaled_dot_product_attention(*inputs, is_causal=causal)
            output.backward(weight)
        expected, gradients = _reference(inputs, weight, causal)
        label = f"{name}{'_causal' if causal else ''}"
        support.close(label, output, expected, bound)
        for letter, x, gradient in zip("qkv", inputs, gradients):
            support.close(f"{label}_grad_{letter}", x.grad, gradient, bound)


def flash():
    _attention("flash", torch.nn.attention.SDPBackend.FLASH_ATTENTION, torch.bfloat16, 2e-2)


def efficient():
    _attention("efficient", torch.nn.attention.SDPBackend.EFFICIENT_ATTENTION, torch.float16, 5e-3)


def cudnn():
    _attention("cudnn", torch.nn.attention.SDPBackend.CUDNN_ATTENTION, torch.bfloat16, 2e-2)


def math():
    _attention("math", torch.nn.attention.SDPBackend.MATH, torch.float32, 1e-4)


def speed():
    q = torch.randn(8, 16, 2048, 64, device=dev, dtype=torch.bfloat16)
    call = lambda: nn.functional.scaled_dot_product_attention(q, q, q, is_causal=True)  # noqa: E731
    support.latency("flash_2048", call, 20)


support.run(flash, efficient, cudnn, math, speed)
