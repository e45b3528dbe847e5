"""Where a step computes: the device, the threads, and what memory it took."""

import contextlib
import ctypes
import gc
import os
import resource
import sys
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch

from fedcli.errors import OutOfMemoryError, UsageError

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h


def choose_device(name: str) -> torch.device:
    """Resolve ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.

    ``auto`` is the first GPU that there is, else the CPU. Raises ``UsageError`` for a device
    that does not exist here.
    """
    if name == "auto":
        if torch.cuda.is_available():
            name = "cuda"
        else:
            name = "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(
            f"--device: expected auto, cpu, cuda, cuda:N or mps, found {name!r}"
        ) from None
    available = {
        "cpu": True,
        "cuda": (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not available.get(device.type, False):
        raise UsageError(f"--device {name}: there is no such device here", hint="--device auto")
    if device.type == "cuda":
        # What several batch sizes leave in pieces can be put together again; read at first use.
        os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
        _be_deterministic()
    return device


def limit_memory(device: torch.device, fraction: float | None) -> None:
    """Let this process take no more than a fraction of a GPU's memory.

    What it may not take counts as memory that ran out. Raises ``UsageError`` for other devices.
    """
    if fraction is None:
        return
    if device.type != "cuda":
        raise UsageError(
            f"--gpu-memory-fraction: is for an NVIDIA or AMD GPU; this client trains on {device}"
        )
    torch.cuda.set_per_process_memory_fraction(fraction, device)


def _be_deterministic() -> None:
    # Equal inputs must give equal bytes; cuBLAS reads its variable when it is first used.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cudnn.benchmark = False
    # fp32 means float32: TF32 has 10 bits of its 23, and convolutions would use it unasked.
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.use_deterministic_algorithms(True, warn_only=True)


def set_threads(threads: int | None) -> int:
    """Use this many CPU threads, or all cores, and return how many are used."""
    if threads is not None:
        torch.set_num_threads(threads)
    return torch.get_num_threads()


def keep_heap() -> None:
    """Let this process keep memory that it has freed, where that can be said to glibc.

    Every step of training takes and frees the same hundreds of megabytes. Given back to the
    system, they come back as pages to be cleared at the next touch: a sixth of the time of a small
    network on a CPU. It is for processes that end with their training.
    """
    with contextlib.suppress(OSError, AttributeError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def seed_layers(seed: int, device: torch.device) -> None:
    """Seed the global generators that layers such as dropout draw from on a device.

    ``torch.manual_seed`` seeds those of all devices there may be, and takes a millisecond.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)


def reset_peak_memory(device: torch.device) -> None:
    """Begin to count ``peak_memory`` of a GPU anew; that of a process cannot be."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)  # it also wakes CUDA, which has nothing to count before
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory(device: torch.device) -> int:
    """Return the most memory that was taken so far, in bytes: of the GPU, or by the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device)  # what the others cannot have
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def device_memory(device: torch.device) -> int | None:
    """Return all the memory that a GPU has, in bytes; None for others."""
    if device.type != "cuda":
        return None
    return torch.cuda.get_device_properties(device).total_memory


# How torch, the CPU's allocator, C++, cuBLAS and cuDNN put it; only the first has its own class.
_OUT_OF_MEMORY = ("out of memory", "DefaultCPUAllocator", "bad_alloc", "STATUS_ALLOC_FAILED")
_ONEDNN = "could not create a primitive"  # what cannot be computed has no "descriptor", it says


def is_out_of_memory(error: RuntimeError) -> bool:
    """Say whether an error is that of a device, or the CPU, that has no memory left."""
    text = str(error)
    known = any(words in text for words in _OUT_OF_MEMORY) or text == _ONEDNN
    return isinstance(error, torch.OutOfMemoryError) or known


def free_memory(device: torch.device) -> None:
    """Give back what nothing refers to any more, after memory ran out."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


@contextlib.contextmanager
def out_of_memory_as_error(hint: str) -> Iterator[None]:
    """Turn errors of memory that ran out into ours, with what to try instead."""
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        reason = str(error).splitlines()[0]
        raise OutOfMemoryError(f"out of memory: {reason}", hint=hint) from error


T = TypeVar("T")


class Portions:
    """Puts examples through a function in portions, smaller ones once memory runs out."""

    def __init__(self, size: int, device: torch.device) -> None:
        self.size = size
        self.device = device

    def of(self, count: int, function: Callable[[slice], T]) -> Iterator[T]:
        """Yield the function's values for slices that cover ``count`` examples in order.

        Raises torch's error when one example at a time does not fit.
        """
        start = 0
        while start < count:
            part = slice(start, min(start + self.size, count))
            try:
                value = function(part)
            except RuntimeError as error:
                if self.size == 1 or not is_out_of_memory(error):
                    raise
            else:
                yield value
                start = part.stop
                continue
            # Only here, after the error and its frames are gone, is their memory free.
            self.size = (min(self.size, count) + 1) // 2
            free_memory(self.device)
