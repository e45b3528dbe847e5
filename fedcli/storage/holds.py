"""Holding a name for oneself, across processes and machines that share a file system."""

import os
from pathlib import Path
from typing import Self

from fedcli.storage.atomic import storage_errors
from fedcli.system import fcntl


class Hold:
    """An exclusive hold on a lock file, until the ``with`` block or the process ends."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Let go, once."""
        os.close(self._descriptor)


def hold(path: Path) -> Hold | None:
    """Hold a lock file, which is created if needed; return None if somebody else holds it.

    The file stays, since another process may be waiting for it. A system or file system without
    locks holds for everybody. Raises ``StorageError``.
    """
    with storage_errors("write", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        # a network file system locks only what is open for writing
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
    if fcntl is None:
        return Hold(descriptor)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError:
        return Hold(descriptor)
    return Hold(descriptor)
