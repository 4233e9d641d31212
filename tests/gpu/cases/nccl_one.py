"""NCCL through torch.distributed with one rank: every collective that one rank can do."""

import os
import tempfile

import support

torch = support.torch_or_leave()
distributed = support.need("torch.distributed")


# Asked for first by the library, which then takes what there is.
REFUSED = {"cuMemCreate of host memory": "pinned memory is the arena's", "cuMemCreate with handles that are no descriptors": "not there natively on such a machine either"}


def one_rank():
    os.environ.setdefault("NCCL_SOCKET_IFNAME", "lo")
    folder = tempfile.mkdtemp(prefix="ivgpu-nccl.")
    torch.cuda.set_device(0)
    distributed.init_process_group("nccl", init_method=f"file://{folder}/store", rank=0, world_size=1)
    try:
        x = torch.arange(1 << 20, device="cuda", dtype=torch.float32)
        distributed.all_reduce(x)
        support.result("all_reduce", x.double().sum().item())
        distributed.broadcast(x, 0)
        gathered = [torch.empty_like(x)]
        distributed.all_gather(gathered, x)
        support.check(torch.equal(gathered[0], x), "all_gather")
        out = torch.empty(1 << 20, device="cuda")
        distributed.reduce_scatter_tensor(out, x)
        support.check(torch.equal(out, x), "reduce_scatter")
        distributed.barrier()
        torch.cuda.synchronize()
        support.result("nccl", ".".join(str(part) for part in torch.cuda.nccl.version()))
    finally:
        distributed.destroy_process_group()


support.run(one_rank)
