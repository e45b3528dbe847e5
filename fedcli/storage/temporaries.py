"""Names of temporary files, and the removal of those whose process is gone.

A name identifies the writing process and the scope of its process id: the boot of the machine and,
on Linux, the container. Two containers may share the host name and process ids, but nothing else.
"""

import contextlib
import hashlib
import os
import re
import secrets
import shutil
import socket
import time
from functools import cache
from pathlib import Path

_BACKUP = "before"
_TEMPORARY = re.compile(
    r"\.(?P<stem>.+)\.(?P<place>[A-Za-z0-9-]+)\.(?P<pid>[0-9]+)-[0-9a-f]{8}\.tmp", re.DOTALL
)
_MANY = 1000  # names in a folder; looking at them takes half a millisecond
_SHARE = 0.02  # largest share of the time spent looking at more
_DUE: dict[Path, float] = {}  # when to look at a folder of many again
_LARGEST_PID = 2**31 - 1  # no system counts further, and kill() takes no larger number


@cache
def _place() -> str:
    """Return the scope in which a process id is unique: the host name and a digest of the rest."""
    host = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())[:64] or "localhost"
    facts = []
    with contextlib.suppress(OSError):  # missing on other systems
        facts.append(Path("/proc/sys/kernel/random/boot_id").read_text())
        facts.append(str(Path("/proc/self/ns/pid").stat().st_ino))
    return f"{host}-{hashlib.sha256(''.join(facts).encode()).hexdigest()[:8]}"


def temporary(path: Path) -> Path:
    """Return a name in the directory of ``path`` that no other call returns, in any process."""
    writer = f"{os.getpid()}-{secrets.token_hex(4)}"
    return path.with_name(f".{path.name}.{_place()}.{writer}.tmp")


def backup_of(path: Path) -> Path:
    """Return a name for what is at ``path``, which may become its only copy.

    ``remove_leftovers`` removes it only once there is a file at ``path`` again.
    """
    return temporary(path.with_name(f"{path.name}.{_BACKUP}"))


def _is_only_copy(directory: Path, stem: str) -> bool:
    name = stem.removesuffix(f".{_BACKUP}")
    return name != stem and not (directory / name).exists()


def is_running(pid: int) -> bool:
    """Return whether this process exists on this host; where that cannot be asked, True.

    A number from a file may be any.
    """
    if not 0 < pid <= _LARGEST_PID:
        return False
    if os.name == "nt":  # there, signal 0 is Ctrl-C
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def remove_leftovers(directory: Path) -> None:
    """Delete temporary files of killed processes of this host and container.

    A folder of many files is looked at only from time to time: where each of thousands of clients
    writes one, the work would grow with the square of their number. Anybody may have put files
    there under any name; whatever they are called, nothing is raised.
    """
    started = time.monotonic()
    if started < _DUE.get(directory, started):
        return
    seen = _remove_all(directory)
    if seen > _MANY:
        ended = time.monotonic()
        _DUE[directory] = ended + (ended - started) / _SHARE


def _remove_all(directory: Path) -> int:
    """Delete the leftovers; return how many names there are."""
    seen = 0
    with contextlib.suppress(OSError):
        for entry in os.scandir(directory):
            seen += 1
            match = _TEMPORARY.fullmatch(entry.name)
            if match is None or match["place"] != _place() or is_running(int(match["pid"])):
                continue
            if not _is_only_copy(directory, match["stem"]):
                _remove(entry)
    return seen


def _remove(entry: "os.DirEntry[str]") -> None:
    # a stranger may nest folders more deeply than Python's stack
    with contextlib.suppress(OSError, RecursionError):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        else:
            Path(entry.path).unlink()
