"""cuDNN: convolutions forward and backward in fp32, TF32 and bf16, recurrent layers, normalisation, pooling, against
double."""

import support

torch = support.torch_or_leave()
nn = torch.nn
dev = support.DEVICE
PRECISIONS = (
    ("fp32", torch.float32, False, 5e-5),
    ("tf32", torch.float32, True, 3e-3),
    ("bf16", torch.bfloat16, False, 2e-2),
    ("fp16", torch.float16, False, 5e-3),
)
LAYERS = (
    ("3x3", lambda: nn.Conv2d(64, 64, 3, padding=1), (4, 64, 32, 32)),
    ("stride2", lambda: nn.Conv2d(32, 64, 5, stride=2, padding=2), (4, 32, 33, 29)),
    ("1x1", lambda: nn.Conv2d(128, 256, 1), (4, 128, 14, 14)),
    ("depthwise", lambda: nn.Conv2d(64, 64, 3, padding=1, groups=64), (4, 64, 28, 28)),
    ("dilated", lambda: nn.Conv2d(16, 32, 3, padding=2, dilation=2), (2, 16, 40, 40)),
    ("transposed", lambda: nn.ConvTranspose2d(32, 16, 4, stride=2, padding=1), (2, 32, 20, 20)),
    ("1d", lambda: nn.Conv1d(16, 32, 9, padding=4), (8, 16, 500)),
    ("3d", lambda: nn.Conv3d(8, 16, 3, padding=1), (2, 8, 12, 14, 16)),
)


def _against_double(label, layer, shape, dtype, bound, channels_last=False):
    torch.manual_seed(0)
    x = torch.randn(*shape).to(dtype)
    module = layer().to(dtype)
    reference = layer().double()
    reference.load_state_dict({name: value.double() for name, value in module.state_dict().items()})
    y = x.double().requires_grad_()
    expected = reference(y)
    gradient = torch.randn(*expected.shape).to(dtype)
    expected.backward(gradient.double())
    module, z = module.to(dev), x.to(dev)
    if channels_last:
        module, z = module.to(memory_format=torch.channels_last), z.to(memory_format=torch.channels_last)
    z.requires_grad_()
    output = module(z)
    output.backward(gradient.to(dev))
    support.close(label, output, expected, bound)
    support.close(label + "_dx", z.grad, y.grad, bound)
    for (name, ours), (_, theirs) in zip(module.named_parameters(), reference.named_parameters()):
        support.close(f"{label}_d{name}", ours.grad, theirs.grad, bound)


def _convolutions(name):
    _, dtype, tf32, bound = next(row for row in PRECISIONS if row[0] == name)
    torch.backends.cudnn.allow_tf32 = tf32
    try:
        for layer_name, layer, shape in LAYERS:
            _against_double(f"{name}_{layer_name}", layer, shape, dtype, bound)
        _against_double(f"{name}_channels_last", LAYERS[0][1], LAYERS[0][2], dtype, bound, True)
    finally:
        torch.backends.cudnn.allow_tf32 = False


def fp32():
    support.check(dev != "cuda" or torch.backends.cudnn.is_available(), "no cuDNN")
    support.result("version", torch.backends.cudnn.version())
    _convolutions("fp32")


def tf32():
    _convolutions("tf32")


def bf16():
    _convolutions("bf16")


def fp16():
    _convolutions("fp16")


def chosen_by_measuring():
    torch.backends.cudnn.benchmark = True
    try:
        _against_double("benchmark", LAYERS[0][1], LAYERS[0][2], torch.float32, 5e-5)
    finally:
        torch.backends.cudnn.benchmark = False


def recurrent():
    """Forward and backward of LSTM and GRU, as cuDNN has them: against the CPU in double."""
    torch.backends.cudnn.allow_tf32 = False
    for name, kind in (("lstm", nn.LSTM), ("gru", nn.GRU)):
        torch.manual_seed(1)
        module, reference = (
            kind(64, 128, num_layers=2, bidirectional=True),
            kind(64, 128, num_layers=2, bidirectional=True).double(),
        )
        reference.load_state_dict({key: value.double() for key, value in module.state_dict().items()})
        x = torch.randn(30, 16, 64)
        module = module.to(dev)
        y, z = x.to(dev).requires_grad_(), x.detach().double().requires_grad_()
        output, expected = module(y)[0], reference(z)[0]
        output.square().sum().backward()
        expected.square().sum().backward()
        support.close(name, output, expected, 1e-4)
        support.close(name + "_dx", y.grad, z.grad, 1e-3)
        support.close(name + "_dw", module.weight_hh_l1.grad, reference.weight_hh_l1.grad, 1e-3)


def normalisation_and_pooling():
    for name, layer in (
        ("batchnorm", lambda: nn.BatchNorm2d(32)),
        ("maxpool", lambda: nn.MaxPool2d(3, 2)),
        ("avgpool", lambda: nn.AvgPool2d(2)),
        ("groupnorm", lambda: nn.GroupNorm(4, 32)),
    ):
        _against_double(name, layer, (8, 32, 24, 24), torch.float32, 1e-4)


def ctc():
    torch.manual_seed(2)
    log_probs = torch.randn(50, 4, 20).log_softmax(2)
    targets, lengths, target_lengths = (
        torch.randint(1, 20, (4 * 15,), dtype=torch.int32),
        torch.full((4,), 50, dtype=torch.int32),
        torch.full((4,), 15, dtype=torch.int32),
    )
    expected = nn.functional.ctc_loss(log_probs.double(), targets.long(), lengths.long(), target_lengths.long())
    actual = nn.functional.ctc_loss(log_probs.to(dev), targets.to(dev), lengths.to(dev), target_lengths.to(dev))
    support.close("ctc", actual.reshape(1), expected.reshape(1), 1e-4)


def speed():
    conv = nn.Conv2d(64, 64, 3, padding=1).to(dev)
    x = torch.randn(32, 64, 56, 56, device=dev)
    with torch.no_grad():
        support.latency("conv3x3", lambda: conv(x), 50)


support.run(fp32, tf32, bf16, fp16, chosen_by_measuring, recurrent, normalisation_and_pooling, ctc, speed)
