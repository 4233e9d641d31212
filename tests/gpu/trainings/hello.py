"""PyTorch's first words: which device, numbers doubled there; what of it is slow is told."""
import time

start = time.perf_counter()
import torch  # noqa: E402

print(f"torch {torch.__version__} imported in {time.perf_counter() - start:.1f} s", flush=True)
numbers = torch.arange(8.0, device="cuda")
print(torch.cuda.get_device_name(0), (numbers * 2).tolist(), f"after {time.perf_counter() - start:.1f} s", flush=True)
