"""Out of memory, caught: by PyTorch's own fraction and by the driver itself; after both, training goes on."""

import gc

import support

ALONE = True
torch = support.torch_or_leave()
GIB = 1 << 30


def _train_a_step():
    torch.manual_seed(0)
    model = torch.nn.Linear(512, 512).cuda()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x = torch.randn(64, 512, device="cuda")
    for _ in range(3):
        optimizer.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        optimizer.step()
    return loss.item()


def _collect():
    gc.collect()
    torch.cuda.empty_cache()


def fraction_of_pytorch():
    _, total = torch.cuda.mem_get_info()
    allowed = 4 * GIB / total
    torch.cuda.set_per_process_memory_fraction(allowed)
    held, words = [], ""
    try:
        for _ in range(64):
            held.append(torch.empty(GIB // 4, device="cuda", dtype=torch.uint8))
    except torch.cuda.OutOfMemoryError as error:
        words = str(error).splitlines()[0]
    support.result("held", len(held))
    support.check("out of memory" in words, "error text:", words or "none was raised")
    support.result("ooms", torch.cuda.memory_stats()["num_ooms"])
    held.clear()
    torch.cuda.set_per_process_memory_fraction(1.0)
    _collect()
    support.result("loss_after_fraction", _train_a_step(), within=1e-4)


def one_request_beyond_the_device():
    _, total = torch.cuda.mem_get_info()
    words = ""
    try:
        torch.empty(total + 8 * GIB, device="cuda", dtype=torch.uint8)
    except torch.cuda.OutOfMemoryError as error:
        words = str(error).splitlines()[0]
    support.check("out of memory" in words, "error text:", words or "none was raised")
    support.result("words", words.split(". ")[0])
    torch.cuda.synchronize()  # nothing sticks
    support.result("loss_after_driver", _train_a_step(), within=1e-4)


def until_the_driver_refuses():
    """In blocks of 8 GiB, none written: the driver's own limit."""
    held, words = [], ""
    free, _ = torch.cuda.mem_get_info()
    try:
        for _ in range(1024):
            held.append(torch.empty(8 * GIB, device="cuda", dtype=torch.uint8))
    except torch.cuda.OutOfMemoryError as error:
        words = str(error).splitlines()[0]
    support.check("out of memory" in words, "error text:", words or "none was raised")
    support.check(abs(len(held) - free // (8 * GIB)) <= 1, len(held), "blocks of 8 GiB, free were", free)
    del held
    _collect()
    after, _ = torch.cuda.mem_get_info()
    support.check(after > free - GIB, "free afterwards", after, "before", free)
    support.result("loss_after_full", _train_a_step(), within=1e-4)


def pinned_memory_that_is_not_there():
    """More than an address space: an error, and the next allocation works."""
    words = "none"
    try:
        torch.empty(1 << 50, dtype=torch.uint8, pin_memory=True)
    except RuntimeError as error:
        words = type(error).__name__
    support.check(words != "none", "1 PiB was pinned")
    x = torch.ones(1 << 20, pin_memory=True)
    support.result("pinned", x.to("cuda", non_blocking=True).sum().item())


support.run(
    fraction_of_pytorch, one_request_beyond_the_device, until_the_driver_refuses, pinned_memory_that_is_not_there
)
