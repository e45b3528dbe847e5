"""What the system offers: its cores, and modules and calls that Windows lacks."""

import gc
import importlib
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import fedcli


def _module_if_any(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


fcntl = _module_if_any("fcntl")
resource = _module_if_any("resource")
# Binary (Windows alone has text files), and without waiting for, or becoming, somebody's terminal.
READ_FLAGS = os.O_RDONLY | sum(
    getattr(os, name, 0) for name in ("O_BINARY", "O_NOCTTY", "O_NONBLOCK")
)
_KEPT = 16 * 1024 * 1024  # bytes; it is not touched, and so takes no memory
_GROUP = Path("/sys/fs/cgroup")
NO_LINKS = getattr(os, "O_NOFOLLOW", 0)


def available_cores() -> int:
    """Return how many cores this process may use, which a job scheduler may limit."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def versions() -> dict[str, str]:
    """Return the versions of the programs that every step depends on."""
    import numpy as np  # here, as --help does without

    return {
        "fedcli": fedcli.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
    }


def keep_freed_memory() -> None:
    """Let the C library keep freed arrays for new ones: the system is slow to give fresh memory.

    glibc maps arrays above a threshold, and raises it to the largest of them that was freed.
    """
    bytearray(_KEPT)


_MANY_OBJECTS = 100_000  # Python's own 700 cost a sixth of the aggregation of 10,000 updates


@contextmanager
def rare_collection() -> Iterator[None]:
    """Search less often for objects that refer to each other and nobody else refers to.

    It is for reading the files of thousands of clients, whose objects stay, so that searches are in
    vain; not for training, where such objects may hold tensors.
    """
    before = gc.get_threshold()
    gc.set_threshold(max(before[0], _MANY_OBJECTS), *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def available_memory() -> int | None:
    """Return how many bytes a process can still take; None where the system does not say.

    A control group may allow less than the machine has.
    """
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free = next(line for line in lines if line.startswith("MemAvailable:"))
        found = int(free.split()[1]) * 1024
        left = _left_in_group()
        return found if left is None else min(found, left)
    return None


def _left_in_group() -> int | None:
    """Return how much memory the control group leaves; file caches do not count."""
    with suppress(OSError, ValueError, KeyError):
        most = int((_GROUP / "memory.max").read_text(encoding="ascii"))
        used = int((_GROUP / "memory.current").read_text(encoding="ascii"))
        text = (_GROUP / "memory.stat").read_text(encoding="ascii")
        figures = dict(line.split() for line in text.splitlines())
        return most - used + int(figures["inactive_file"]) + int(figures["active_file"])
    return None


@cache
def processor_name() -> str:
    """Return the model of the processor, or its architecture where the system does not say."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()


def read_at(descriptor: int, buffer: memoryview, offset: int) -> int:
    """Read into ``buffer`` from ``offset`` on; return the number of bytes, 0 at the end."""
    if hasattr(os, "preadv"):
        return os.preadv(descriptor, [buffer], offset)
    os.lseek(descriptor, offset, os.SEEK_SET)
    data = os.read(descriptor, len(buffer))
    buffer[: len(data)] = data
    return len(data)


def write_at(descriptor: int, data: memoryview, offset: int) -> int:
    """Write ``data`` at ``offset``; return the number of bytes, which may be fewer."""
    if hasattr(os, "pwrite"):
        return os.pwrite(descriptor, data, offset)
    os.lseek(descriptor, offset, os.SEEK_SET)
    return os.write(descriptor, data)
