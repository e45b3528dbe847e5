"""Where a step computes: the device, the threads, and what memory it took."""

import contextlib
import os
import resource
import sys
from collections.abc import Iterator

import torch

from fedcli.errors import OutOfMemoryError, UsageError


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
        _be_deterministic()
    return device


def _be_deterministic() -> None:
    # Equal inputs must give equal bytes; cuBLAS reads its variable when it is first used.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(True, warn_only=True)


def set_threads(threads: int | None) -> int:
    """Use this many CPU threads, or all cores, and return how many are used."""
    if threads is not None:
        torch.set_num_threads(threads)
    return torch.get_num_threads()


def peak_memory(device: torch.device) -> int:
    """Return the most memory that was in use so far, in bytes: of the GPU, or of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


@contextlib.contextmanager
def out_of_memory_as_error(hint: str) -> Iterator[None]:
    """Turn torch's out-of-memory errors into ours, with what to try instead."""
    try:
        yield
    except RuntimeError as error:
        # The CPU's allocator raises a plain RuntimeError.
        own = isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)
        if not own:
            raise
        reason = str(error).splitlines()[0]
        raise OutOfMemoryError(f"out of memory: {reason}", hint=hint) from error
