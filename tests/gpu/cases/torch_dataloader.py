"""DataLoader with workers and pinned memory: every sample once, right on the device; workers are forked after CUDA
started."""

import support

torch = support.torch_or_leave()
dev = support.DEVICE
SAMPLES, WIDTH, BATCH = 4096, 512, 64


class Numbers(torch.utils.data.Dataset):
    def __len__(self):
        return SAMPLES

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        return torch.randint(-8, 9, (WIDTH,), generator=generator, dtype=torch.int32).float(), index


def _pass(**options):
    seen = torch.zeros(SAMPLES, dtype=torch.int64, device=dev)
    total = torch.zeros(WIDTH, dtype=torch.float64, device=dev)
    for samples, numbers in torch.utils.data.DataLoader(Numbers(), batch_size=BATCH, **options):
        support.check(not options.get("pin_memory") or dev != "cuda" or samples.is_pinned(), "a batch is not pinned")
        samples, numbers = samples.to(dev, non_blocking=True), numbers.to(dev, non_blocking=True)
        seen.index_add_(0, numbers, torch.ones_like(numbers))
        total += samples.double().sum(0)
    support.check(bool((seen == 1).all()), "samples were not seen once each")
    return support.digest(total)


def workers():
    torch.ones(1, device=dev).item()  # CUDA is up before the workers are forked
    plain = _pass()
    support.result("sum", plain)
    support.check(_pass(num_workers=4, pin_memory=dev == "cuda") == plain, "workers' sum differs")
    support.check(
        _pass(num_workers=2, pin_memory=dev == "cuda", persistent_workers=True, shuffle=True) == plain,
        "shuffled sum differs",
    )


def children_may_not_use_cuda():
    """PyTorch itself says so in a forked child; the parent goes on."""
    import multiprocessing

    x = torch.ones(4, device=dev)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()

    def child():
        try:
            queue.put(str(torch.ones(1, device=dev).item()))
        except RuntimeError as error:
            queue.put(type(error).__name__ + " " + str(error).splitlines()[0][:60])

    process = context.Process(target=child)
    process.start()
    words = queue.get(timeout=60)
    process.join(60)
    support.result("child", words)
    support.check(x.sum().item() == 4, "the parent's tensor")


support.run(workers, children_may_not_use_cuda)
