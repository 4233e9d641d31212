"""NCCL between two GPUs, one process each: all_reduce, broadcast, send and receive, a data parallel training step."""

import os
import tempfile

import support

torch = support.torch_or_leave()
RANKS, LIMIT_S = 2, 120


# Asked for first by the library, which then takes what there is.
REFUSED = {"cuMemCreate of host memory": "pinned memory is the arena's", "cuMemCreate with handles that are no descriptors": "not there natively on such a machine either"}


def worker(rank, store, answers):
    try:
        import torch.distributed as distributed

        os.environ.setdefault("NCCL_SOCKET_IFNAME", "lo")
        torch.cuda.set_device(rank)
        distributed.init_process_group("nccl", init_method=f"file://{store}", rank=rank, world_size=RANKS)
        x = torch.full((1 << 22,), float(rank + 1), device="cuda")
        distributed.all_reduce(x)
        y = torch.full((1000,), float(rank), device="cuda")
        distributed.broadcast(y, 1)
        z = torch.full((1000,), 10.0 + rank, device="cuda")
        if rank == 0:
            distributed.send(z, 1)
        else:
            distributed.recv(z, 0)
        torch.manual_seed(0)
        model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(256, 256).cuda(), device_ids=[rank])
        model(torch.full((8, 256), float(rank), device="cuda")).square().mean().backward()
        slope = model.module.weight.grad.double().sum().item()
        answers.put((rank, "", x.double().sum().item(), y.sum().item(), z.sum().item(), slope))
        distributed.barrier()
        distributed.destroy_process_group()
    except Exception as error:  # told by the parent
        answers.put((rank, support.exception_words(error)))


def two_ranks():
    context = torch.multiprocessing.get_context("spawn")
    answers = context.Queue()
    store = os.path.join(tempfile.mkdtemp(prefix="ivgpu-nccl."), "store")
    processes = [context.Process(target=worker, args=(rank, store, answers)) for rank in range(RANKS)]
    try:
        for process in processes:
            process.start()
        told = sorted(answers.get(timeout=LIMIT_S) for _ in processes)
        for answer in told:
            support.check(not answer[1], "rank", answer[0], answer[1])
        for process in processes:
            process.join(30)
    finally:
        for process in processes:
            if process.is_alive():
                process.kill()
    support.result("all_reduce", [answer[2] for answer in told])
    support.check(all(answer[2] == 3.0 * (1 << 22) for answer in told), "all_reduce", told)
    support.result("broadcast_send", [answer[3:5] for answer in told])
    support.check(abs(told[0][5] - told[1][5]) < 1e-9, "the ranks' gradients differ:", told[0][5], told[1][5])
    support.result("gradient", told[0][5], within=1e-5)


if __name__ == "__main__":
    if torch.cuda.device_count() < RANKS:
        support.skip("this machine has", torch.cuda.device_count(), "GPU")
    support.run(two_ranks)
