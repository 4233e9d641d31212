"""What a PyTorch user waits for. usage: torch_workloads.py [NAME...]

Prints lines `name  value unit`, and lines `answer name …`: results that must not depend on what lies between program and
GPU. A workload whose package is not installed is named and left out; any other failure is the program's."""
import statistics
import sys
import time

try:
    import torch
except ModuleNotFoundError:
    print("left out: PyTorch is not installed")
    sys.exit(0)

DEVICE = "cuda"


def figure(name, value, unit):
    print(f"{name:<36} {value:14.4f} {unit}", flush=True)


def answer(name, value):
    print(f"answer {name} {value}", flush=True)


def seconds_each(step, count, warmup=3, passes=3, settle_s=0.0, spend_s=0.5):
    """Median over passes of the time of one step, the device's work included: at least so many passes, and for as long
    as `spend_s` lasts. settle_s: of steps before, for what fills the device: its clock falls by a tenth in the first
    moments of load, and whoever issues faster would be measured further down that slope."""
    def a_pass():
        start = time.perf_counter()
        for _ in range(count):
            step()
        torch.cuda.synchronize()
        return (time.perf_counter() - start) / count

    for _ in range(warmup):
        step()
    torch.cuda.synchronize()
    begin = time.perf_counter()
    while time.perf_counter() - begin < settle_s:
        a_pass()
    taken, begin = [], time.perf_counter()
    while len(taken) < passes or time.perf_counter() - begin < spend_s:
        taken.append(a_pass())
    return statistics.median(taken)


def add():
    a, b = torch.randn(1024, device=DEVICE), torch.randn(1024, device=DEVICE)
    figure("torch_add_1024", seconds_each(lambda: torch.add(a, b), 3000) * 1e6, "us")


def item():
    a = torch.full((1,), 3.5, device=DEVICE)
    figure("torch_item", seconds_each(lambda: a.item(), 1000) * 1e6, "us")
    answer("item", a.item())


def mm():
    a = torch.randn(4096, 4096, device=DEVICE, dtype=torch.bfloat16)
    figure("torch_mm_4096_bf16", seconds_each(lambda: a @ a, 50, settle_s=2.0, spend_s=1.0) * 1e6, "us")
    b = torch.randn(512, 512, device=DEVICE)
    exact = b.double() @ b.double()
    answer("mm_fp32_right", bool(((b @ b).double() - exact).norm() / exact.norm() < 1e-5))


def copies():
    pageable = torch.randn(64 << 20)
    pinned = pageable.pin_memory()
    there = pageable.to(DEVICE)
    gigabytes = pageable.numel() * 4 / 1e9
    for name, source in (("pageable", pageable), ("pinned", pinned)):
        seconds = seconds_each(lambda: there.copy_(source, non_blocking=name == "pinned"), 4, 1)
        figure(f"torch_to_device_256MiB_{name}", gigabytes / seconds, "GB/s")
        seconds = seconds_each(lambda: source.copy_(there, non_blocking=name == "pinned"), 4, 1)
        figure(f"torch_to_host_256MiB_{name}", gigabytes / seconds, "GB/s")
        answer(f"copy_{name}_right", bool((there.cpu() == source).all()))


def graph():
    a = torch.randn(256, 256, device=DEVICE)
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        for _ in range(3):
            (a @ a).relu()
    torch.cuda.synchronize()
    recorded = torch.cuda.CUDAGraph()
    with torch.cuda.graph(recorded):
        b = (a @ a).relu()
    figure("torch_graph_replay", seconds_each(recorded.replay, 1000, settle_s=0.5) * 1e6, "us")
    answer("graph_right", bool(torch.equal(b, (a @ a).relu())))


def gpt2():
    from transformers import GPT2Config, GPT2LMHeadModel
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config()).to(DEVICE).half().eval()
    prompt = torch.randint(0, 50000, (1, 32), device=DEVICE)
    tokens = 64

    def decode():
        with torch.no_grad():
            return model.generate(prompt, max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False, pad_token_id=0)

    figure("torch_gpt2_decode", tokens / seconds_each(decode, 1, warmup=1), "tok/s")
    answer("gpt2_tokens", decode()[0, -6:].tolist())


def resnet():
    import torchvision
    torch.manual_seed(0)
    model = torchvision.models.resnet50(weights=None).to(DEVICE)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    images = torch.randn(32, 3, 224, 224, device=DEVICE)
    labels = torch.randint(0, 1000, (32,), device=DEVICE)
    losses = []

    def step():
        with torch.autocast(DEVICE, dtype=torch.bfloat16):
            loss = torch.nn.functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())

    figure("torch_resnet50_train_b32", seconds_each(step, 10) * 1e3, "ms")
    answer("resnet_first_loss", round(losses[0].item(), 2))
    answer("resnet_loss_falls", bool(losses[-1] < losses[0]))


def compiled():
    function = torch.compile(lambda x: torch.sin(x) * 2 + x)
    x = torch.randn(1 << 20, device=DEVICE)
    figure("torch_compiled_pointwise", seconds_each(lambda: function(x), 300) * 1e6, "us")
    answer("compiled_right", bool(torch.allclose(function(x), torch.sin(x) * 2 + x, atol=1e-6)))


WORKLOADS = {f.__name__: f for f in (add, item, mm, copies, graph, gpt2, resnet, compiled)}


def main():
    failed = False
    for name in sys.argv[1:] or WORKLOADS:
        try:
            WORKLOADS[name]()
        except ModuleNotFoundError as error:
            print(f"left out: {name}: {error}", flush=True)
        except Exception as error:  # the others are still worth their figures
            print(f"failed: {name}: {type(error).__name__}: {str(error)[:300]}".replace("\n", " "), flush=True)
            failed = True
    sys.exit(failed)


if __name__ == "__main__":
    main()
