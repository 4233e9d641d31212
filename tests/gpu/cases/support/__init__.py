"""What every case shares: how it says what came out, how it compares with a reference, how its parts are run.

A case prints lines that the runner reads; everything else on stdout is for people.
  result KEY VALUE                 must be the same natively and through ivgpu
  result KEY VALUE within R        the same but for a relative difference of R
  result KEY VALUE below B         both below B (errors against a reference)
  figure KEY VALUE UNIT [lower|higher]   a speed; which is better
  part NAME SECONDS | failed NAME WORDS | missing WORDS | skipped WORDS
This module imports neither torch nor anything else that a case may want to configure first.
"""

import faulthandler
import hashlib
import importlib
import os
import sys
import time
import traceback

EXIT_FAILED, EXIT_MISSING, EXIT_SKIPPED = 1, 76, 77
WORDS_MAX = 400  # of an exception, on the line that the table shows
# Where the arithmetic of a case is tried without a GPU: "cpu". Nothing measured so means anything.
DEVICE = os.environ.get("IVG_CASE_DEVICE", "cuda")

# A case that hangs says where, before the runner's limit ends it.
_limit_s = float(os.environ.get("IVG_CASE_LIMIT_S", "0"))
if _limit_s > 10:
    faulthandler.dump_traceback_later(_limit_s - 4)


def say(*words):
    print(*words, flush=True)


def _text(value):
    if isinstance(value, float):
        return f"{value:.9g}"
    return " ".join(str(value).split())


def result(key, value, within=None, below=None):
    rule = f" within {within:g}" if within is not None else f" below {below:g}" if below is not None else ""
    say(f"result {key} {_text(value)}{rule}")


def figure(key, value, unit, better="lower"):
    say(f"figure {key} {value:.6g} {unit} {better}")


def check(condition, *words):
    if not condition:
        raise AssertionError(" ".join(_text(word) for word in words))


def need(name):
    """The module `name`; a machine that lacks it shows the case as missing, which is no success."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        say(f"missing Python module {name}: {_text(error)[:WORDS_MAX]}")
        sys.exit(EXIT_MISSING)


def skip(*words):
    """Only for hardware that the machine does not have."""
    say("skipped", *words)
    sys.exit(EXIT_SKIPPED)


def torch_or_leave():
    torch = need("torch")
    if DEVICE == "cuda" and not torch.cuda.is_available():
        say("failed start torch.cuda.is_available() is False")
        sys.exit(EXIT_FAILED)
    if DEVICE != "cuda":
        torch.cuda.synchronize = lambda: None
    return torch


def digest(array):
    """Of the exact bits: a torch tensor, a cupy or a numpy array."""
    if hasattr(array, "detach"):
        array = array.detach().cpu().contiguous()
        if "bfloat16" in str(array.dtype):
            array = array.view(need("torch").int16)
        array = array.numpy()
    elif hasattr(array, "get"):
        array = array.get()
    return hashlib.sha256(need("numpy").ascontiguousarray(array).tobytes()).hexdigest()[:16]


def as_double(array):
    """A numpy array of double or complex double."""
    numpy = need("numpy")
    if hasattr(array, "detach"):
        array = array.detach().cpu()
        array = (array.to(need("torch").complex128) if array.is_complex() else array.double()).numpy()
    elif hasattr(array, "get"):
        array = array.get()
    array = numpy.asarray(array)
    return array.astype(numpy.complex128 if array.dtype.kind == "c" else numpy.float64)


def close(key, actual, reference, bound):
    """The relative error in norm against a reference of the CPU must be below `bound`."""
    numpy = need("numpy")
    actual, reference = as_double(actual), as_double(reference)
    check(actual.shape == reference.shape, key, "has shape", actual.shape, "expected", reference.shape)
    norm = float(numpy.linalg.norm(reference.ravel()))
    error = float(numpy.linalg.norm((actual - reference).ravel())) / (norm or 1.0)
    check(error < bound, f"{key}: relative error {error:.3g}, allowed {bound:g}")
    result(key, error, below=bound)


def median_seconds(function, calls, synchronize, warm=3, passes=5):
    """Of one call, over `passes` runs of `calls` each."""
    for _ in range(warm):
        function()
    synchronize()
    seconds = []
    for _ in range(passes):
        start = time.perf_counter()
        for _ in range(calls):
            function()
        synchronize()
        seconds.append((time.perf_counter() - start) / calls)
    return sorted(seconds)[passes // 2]


def latency(key, function, calls, unit="us", **options):
    """The figure of one call of PyTorch's."""
    seconds = median_seconds(function, calls, need("torch").cuda.synchronize, **options)
    figure(key, seconds * {"us": 1e6, "ms": 1e3}[unit], unit)


def exception_words(error):
    """Its type and the line that says why: the first, and the next after a heading."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    words = " ".join(lines[:2] if lines[0].endswith(":") else lines[:1])
    return f"{type(error).__name__}: {words}"[:WORDS_MAX]


def run(*parts):
    """Runs every part (or those named by the arguments), a failed one does not stop the others; ends the process."""
    named = sys.argv[1:]
    failed = 0
    for part in parts:
        if named and part.__name__ not in named:
            continue
        start = time.perf_counter()
        try:
            part()
        except Exception as error:  # whatever it is, the other parts are to run
            failed += 1
            traceback.print_exc()
            say(f"failed {part.__name__} {exception_words(error)}")
        else:
            say(f"part {part.__name__} {time.perf_counter() - start:.2f}")
    sys.stdout.flush()
    sys.stderr.flush()
    sys.exit(EXIT_FAILED if failed else 0)
