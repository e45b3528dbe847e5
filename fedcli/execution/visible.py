"""Files that another machine has written, and that a network file system does not show yet."""

import os
import time
from collections.abc import Iterable
from pathlib import Path

_INTERVAL = 0.2  # seconds between two looks


def missing_after(paths: Iterable[Path], seconds: float) -> list[Path]:
    """Wait until files are visible, at most so many seconds; return those that are not."""
    deadline = time.monotonic() + seconds
    missing = [path for path in paths if not path.exists()]
    while missing and (left := deadline - time.monotonic()) > 0:
        time.sleep(min(_INTERVAL, left))
        missing = [path for path in missing if not _is_listed(path)]
    return missing


def _is_listed(path: Path) -> bool:
    """Return whether a file exists; opening its folder makes NFS ask the server."""
    try:
        with os.scandir(path.parent):
            return path.exists()
    except OSError:
        return False
