"""PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True: segments that grow in place, freed and taken again, under
training."""

import support

ENVIRONMENT = {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}
# Asked for first by the library, which then takes what there is.
REFUSED = {"cuMemCreate with handles that are no descriptors": "not there natively on such a machine either"}
ALONE = True
torch = support.torch_or_leave()
GIB = 1 << 30


def growth():
    sums = []
    kept = []
    for number in range(12):
        kept.append(torch.full(((16 + number * 40) << 20,), number, device="cuda", dtype=torch.uint8))
    for number, tensor in enumerate(kept):
        support.check(bool((tensor == number).all()), "tensor", number, "was overwritten")
        sums.append(tensor.sum(dtype=torch.int64).item())
    support.result("sums", sums)
    segments = [segment for segment in torch.cuda.memory_snapshot() if segment.get("is_expandable")]
    support.result("expandable_segments", len(segments))
    support.check(segments, "no segment is expandable: the setting was not taken")
    del kept[::2]
    kept.append(torch.ones(GIB, device="cuda", dtype=torch.uint8))
    support.check(kept[-1].sum(dtype=torch.int64).item() == GIB, "sum of the new tensor")


def memory_comes_back():
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    free_before, _ = torch.cuda.mem_get_info()
    held = torch.empty(3 * GIB, device="cuda", dtype=torch.uint8)
    free_held, _ = torch.cuda.mem_get_info()
    del held
    torch.cuda.empty_cache()
    free_after, _ = torch.cuda.mem_get_info()
    support.check(free_before - free_held >= 3 * GIB, "taken", free_before - free_held)
    support.check(free_after - free_held >= 3 * GIB, "given back", free_after - free_held)


def train():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(1024, 4096), torch.nn.GELU(), torch.nn.Linear(4096, 1024)).cuda()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    x = torch.randn(256, 1024, device="cuda")
    for step in range(10):
        loss = (model(x[: 32 * (step % 8 + 1)]) - x[: 32 * (step % 8 + 1)]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    support.result("loss", loss.item(), within=1e-4)


support.run(growth, memory_comes_back, train)
