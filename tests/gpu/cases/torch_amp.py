"""Mixed precision: fp16 with GradScaler, bf16 without; the scale falls when a gradient overflows and rises again."""

import support

torch = support.torch_or_leave()
nn = torch.nn
dev = support.DEVICE


def _model():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.Flatten(), nn.Linear(32 * 16 * 16, 10)
    ).to(dev)


def _train(dtype, scaler, steps=20):
    model = _model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(64, 3, 16, 16, generator=generator).to(dev)
    y = torch.randint(0, 10, (64,), generator=generator).to(dev)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        with torch.autocast(dev, dtype=dtype, enabled=dtype != torch.float32):
            output = model(x)
            loss = nn.functional.cross_entropy(output, y)
        support.check(output.dtype == dtype, "the output is", output.dtype)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        losses.append(loss.item())
    support.check(losses[-1] < losses[0] * 0.7, "loss", losses[0], "to", losses[-1])
    return losses[-1]


def single():
    support.result("fp32_loss", _train(torch.float32, torch.amp.GradScaler(dev, enabled=False)), within=2e-2)


def half():
    scaler = torch.amp.GradScaler(dev, init_scale=1024.0)
    support.result("fp16_loss", _train(torch.float16, scaler), within=5e-2)
    support.result("fp16_scale", scaler.get_scale())


def brain_float():
    support.result("bf16_loss", _train(torch.bfloat16, torch.amp.GradScaler(dev, enabled=False)), within=5e-2)


def overflow_lowers_the_scale():
    scaler = torch.amp.GradScaler(dev, init_scale=2.0**20, growth_interval=2)
    weight = nn.Parameter(torch.ones(8, device=dev))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    scales = []
    for factor in (1.0, float("inf"), 1.0, 1.0, 1.0):
        optimizer.zero_grad()
        scaler.scale((weight * factor).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        scales.append(scaler.get_scale())
    support.result("scales", scales)
    support.check(scales[1] == scales[0] / 2 and scales[-1] > scales[1], "scales", scales)
    support.check(abs(weight[0].item() - (1 - 0.1 * 4)) < 1e-5, "the step with infinity was taken:", weight[0].item())


support.run(single, half, brain_float, overflow_lowers_the_scale)
