"""torch.cuda.graphs: a whole training step captured and replayed equals the eager one; random numbers, shared pools."""

import copy

import support

ALONE = True
torch = support.torch_or_leave()
nn = torch.nn
STEPS = 20


def _model(dropout=0.0):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(256, 512), nn.ReLU(), nn.Dropout(dropout), nn.Linear(512, 64)).cuda()


def _data():
    generator = torch.Generator().manual_seed(1)
    return [
        (torch.randn(64, 256, generator=generator).cuda(), torch.randn(64, 64, generator=generator).cuda())
        for _ in range(STEPS)
    ]


def _step(model, optimizer, x, y):
    optimizer.zero_grad(set_to_none=True)
    loss = nn.functional.mse_loss(model(x), y)
    loss.backward()
    optimizer.step()
    return loss


def _train(optimizer_of, captured):
    model, data = _model(), _data()
    optimizer = optimizer_of(model.parameters())
    x, y = torch.zeros_like(data[0][0]), torch.zeros_like(data[0][1])
    x.copy_(data[0][0])
    y.copy_(data[0][1])
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            _step(model, optimizer, x, y)
    torch.cuda.current_stream().wait_stream(side)
    graph = None
    if captured:
        graph = torch.cuda.CUDAGraph()
        optimizer.zero_grad(set_to_none=True)
        with torch.cuda.graph(graph):
            loss = _step(model, optimizer, x, y)
    losses = []
    for xs, ys in data:
        x.copy_(xs)
        y.copy_(ys)
        if graph:
            graph.replay()
        else:
            loss = _step(model, optimizer, x, y)
        losses.append(loss.item())
    return losses, graph


def _compare(key, optimizer_of):
    eager, _ = _train(optimizer_of, False)
    graphed, graph = _train(optimizer_of, True)
    for number, (a, b) in enumerate(zip(eager, graphed)):
        support.check(abs(a - b) <= 1e-4 * abs(a), key, "step", number, "eager", a, "captured", b)
    support.result(key + "_loss", graphed[-1], within=1e-4)
    support.latency(key + "_replay", graph.replay, 200)


def training_step_sgd():
    _compare("sgd", lambda parameters: torch.optim.SGD(parameters, lr=0.1))


def training_step_adam():
    _compare("adam", lambda parameters: torch.optim.Adam(parameters, lr=0.01, capturable=True))


def small_replay():
    a = torch.randn(256, 256, device="cuda")
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        for _ in range(3):
            b = (a @ a).relu()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        b = (a @ a).relu()
    a.copy_(torch.eye(256, device="cuda") * 3)
    graph.replay()
    support.check(bool((b == torch.eye(256, device="cuda") * 9).all()), "a replay with new input")
    support.latency("replay", graph.replay, 500)
    support.result("small", support.digest(b))


def dropout_differs_from_replay_to_replay():
    model, x = _model(0.5), torch.ones(64, 256, device="cuda")
    with torch.no_grad():
        model(x)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            y = model(x)
        torch.manual_seed(5)
        outputs = []
        for _ in range(3):
            graph.replay()
            outputs.append(y.clone())
        torch.manual_seed(5)
        graph.replay()
    support.check(not torch.equal(outputs[0], outputs[1]), "two replays drop the same")
    support.check(torch.equal(outputs[0], y), "the same seed drops differently")
    support.result("dropout", support.digest(outputs[2]))


def two_graphs_of_one_pool():
    x = torch.arange(1024.0, device="cuda")
    pool = torch.cuda.graph_pool_handle()
    first, second = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
    with torch.cuda.graph(first, pool=pool):
        y = x * 2
    with torch.cuda.graph(second, pool=pool):
        z = y + 1
    x.add_(1)
    first.replay()
    second.replay()
    support.result("pooled", z.sum().item())
    support.check(z[10].item() == 23, "second graph's output", z[10].item())


def callables():
    model = _model()
    plain = copy.deepcopy(model)
    x = torch.randn(64, 256, device="cuda", requires_grad=True)
    graphed = torch.cuda.make_graphed_callables(model, (x,))
    a, b = torch.randn(64, 256, device="cuda", requires_grad=True), None
    b = a.detach().clone().requires_grad_()
    graphed(a).square().sum().backward()
    plain(b).square().sum().backward()
    support.close("callable_grad", a.grad, b.grad, 1e-5)


def a_forbidden_call_ends_the_capture_only():
    x = torch.ones(16, device="cuda")
    graph = torch.cuda.CUDAGraph()
    words = "none"
    try:
        with torch.cuda.graph(graph):
            (x + 1).sum().item()  # synchronizes
    except RuntimeError as error:
        words = "captur" in str(error)
    support.result("forbidden", words)
    torch.cuda.synchronize()
    torch.cuda.set_stream(torch.cuda.default_stream())  # a failed capture may leave its own
    support.check((x * 3).sum().item() == 48, "work after a failed capture")


support.run(
    training_step_sgd,
    training_step_adam,
    small_replay,
    dropout_differs_from_replay_to_replay,
    two_graphs_of_one_pool,
    callables,
    a_forbidden_call_ends_the_capture_only,
)
