"""ResNet-50 training, bf16 autocast, batch 32: the same loss after five steps; time of a step."""

import support

ALONE = True
torch = support.torch_or_leave()
torchvision = support.need("torchvision")
dev = support.DEVICE
BATCH = 32 if dev == "cuda" else 2


def train():
    torch.manual_seed(0)
    model = torchvision.models.resnet50(weights=None).to(dev)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    images = torch.randn(BATCH, 3, 224, 224, device=dev)
    labels = torch.randint(0, 1000, (BATCH,), device=dev)

    def step():
        with torch.autocast(dev, dtype=torch.bfloat16):
            loss = torch.nn.functional.cross_entropy(model(images), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss

    losses = [step().item() for _ in range(5)]
    support.result("loss_first", losses[0], within=1e-2)
    support.result("loss_fifth", losses[-1], within=5e-2)
    support.check(all(loss == loss and loss < 50 for loss in losses), "losses", losses)
    support.latency("step_b32", step, 10, "ms")


def evaluate():
    torch.manual_seed(2)
    model = torchvision.models.resnet18(weights=None).to(dev).eval()
    images = torch.randn(4, 3, 224, 224, device=dev)
    torch.backends.cudnn.allow_tf32 = False
    with torch.no_grad():
        outputs = model(images)
        support.close("resnet18_fp32", outputs, model.double().cpu()(images.double().cpu()), 1e-4)


support.run(train, evaluate)
