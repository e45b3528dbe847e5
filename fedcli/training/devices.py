"""Devices, threads and memory."""

import contextlib
import ctypes
import gc
import os
import sys
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch

from fedcli.errors import OutOfMemoryError, UsageError, is_memory_error
from fedcli.system import processor_name, resource

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h


def choose_device(name: str) -> torch.device:
    """Resolve ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.

    ``auto`` is the first GPU, or the CPU if there is none. Raises ``UsageError`` for a device that
    does not exist here.
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
        raise UsageError(f"--device {name}: no such device here", hint="use --device auto")
    if device.type == "cuda":
        # Lets torch merge the memory that batches of several sizes fragment; read at first use.
        os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
        _be_deterministic()
    return device


def limit_memory(device: torch.device, fraction: float | None) -> None:
    """Limit this process to a fraction of a GPU's memory.

    Beyond it, the process is out of memory. Raises ``UsageError`` for other devices.
    """
    if fraction is None:
        return
    if device.type != "cuda":
        raise UsageError(
            f"--gpu-memory-fraction: needs an NVIDIA or AMD GPU; this client trains on {device}"
        )
    torch.cuda.set_per_process_memory_fraction(fraction, device)


def _be_deterministic() -> None:
    # Equal inputs must give equal bytes; cuBLAS reads this variable at its first use.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cudnn.benchmark = False
    # fp32 means float32: TF32 has 10 of its 23 mantissa bits, and is convolutions' default.
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.use_deterministic_algorithms(True, warn_only=True)


def set_threads(threads: int | None) -> int:
    """Use this many CPU threads, or all cores, and return the number in use."""
    if threads is not None:
        torch.set_num_threads(threads)
    return torch.get_num_threads()


def keep_heap() -> None:
    """Make glibc keep the memory that this process frees; other C libraries are left alone.

    Each training step allocates and frees the same hundreds of megabytes. Memory returned to the
    system must be cleared before its next use, which takes a sixth of the time of a small network
    on a CPU. Only for processes that end with their training.
    """
    with contextlib.suppress(OSError, AttributeError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def reset_peak_memory(device: torch.device) -> None:
    """Reset ``peak_memory`` of a GPU; that of a process cannot be reset."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)  # also initialises CUDA, without which there are no stats
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory(device: torch.device) -> int | None:
    """Return the peak memory so far in bytes, of the GPU or of the process; None if unknown."""
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device)  # reserved: other processes cannot use it
    if resource is None:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * unit


def device_memory(device: torch.device) -> int | None:
    """Return the total memory of a GPU in bytes, None for other devices."""
    if device.type != "cuda":
        return None
    return torch.cuda.get_device_properties(device).total_memory


_ONEDNN = "could not create a primitive"  # unsupported operations say "primitive descriptor"


def processor_of(device: torch.device) -> str:
    """Return the model of a device as its system calls it, such as ``NVIDIA H100``."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return processor_name()


def is_out_of_memory(error: RuntimeError) -> bool:
    """Return whether an error means that a device or the CPU is out of memory."""
    known = is_memory_error(error) or str(error) == _ONEDNN
    return isinstance(error, torch.OutOfMemoryError) or known


def free_memory(device: torch.device) -> None:
    """Free unreferenced memory after memory ran out."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


@contextlib.contextmanager
def out_of_memory_as_error(hint: str) -> Iterator[None]:
    """Turn torch's out-of-memory errors into ``OutOfMemoryError`` with a hint."""
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        reason = str(error).splitlines()[0]
        raise OutOfMemoryError(f"out of memory: {reason}", hint=hint) from error


T = TypeVar("T")


class Portions:
    """Applies a function to examples in portions, which shrink when memory runs out."""

    def __init__(self, size: int, device: torch.device) -> None:
        self.size = size
        self.device = device

    def of(self, count: int, function: Callable[[slice], T]) -> Iterator[T]:
        """Yield the function's values for slices that cover ``count`` examples in order.

        Raises torch's error if a single example does not fit.
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
            # Free memory only here, where the error and its frames are gone.
            self.size = (min(self.size, count) + 1) // 2
            free_memory(self.device)
