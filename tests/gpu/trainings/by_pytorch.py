"""A training for four_processes: argv seed, steps, GiB held. Says "ready", waits for a line, says "step N", at last "loss X"."""

import sys

import torch

SEED, STEPS, GIB = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
SAY_EVERY = 25


def main():
    torch.manual_seed(SEED)
    held = torch.ones(int(GIB * 2**30), dtype=torch.uint8, device="cuda")
    model = torch.nn.Sequential(torch.nn.Linear(2048, 2048), torch.nn.Tanh(), torch.nn.Linear(2048, 2048)).cuda()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    x = torch.randn(1024, 2048, device="cuda")
    y = torch.roll(x, 1, dims=1)

    def step():
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    for _ in range(3):  # libraries are loaded and workspaces taken before anybody looks at the memory
        step()
    torch.cuda.synchronize()
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range(1, STEPS + 1):
        loss = step()
        if number % SAY_EVERY == 0:
            torch.cuda.synchronize()
            print("step", number, flush=True)
    assert bool((held[:: 1 << 20] == 1).all()), "the held memory was overwritten"
    print("loss", float(loss.item()).hex(), flush=True)


main()
