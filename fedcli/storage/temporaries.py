"""The names of files that are being written, and what becomes of those that nobody writes any more.

A name says which process writes the file, and where that process can be asked for: on which start
of which machine and, on Linux, in which container. Two containers can have the name of the host
and their process ids in common, and no more.
"""

import contextlib
import hashlib
import os
import re
import secrets
import shutil
import socket
from functools import cache
from pathlib import Path

_TEMPORARY = re.compile(r"^\..+\.(?P<place>[A-Za-z0-9-]+)\.(?P<pid>\d+)-[0-9a-f]{8}\.tmp$")


@cache
def _place() -> str:
    """Return where a process id means a process: the host's name, and a digest of the rest."""
    host = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())[:64] or "localhost"
    facts = []
    with contextlib.suppress(OSError):  # what other systems do not have
        facts.append(Path("/proc/sys/kernel/random/boot_id").read_text())
        facts.append(str(Path("/proc/self/ns/pid").stat().st_ino))
    return f"{host}-{hashlib.sha256(''.join(facts).encode()).hexdigest()[:8]}"


def temporary(path: Path) -> Path:
    """Return a name beside ``path`` that no other call gives, in this process or elsewhere."""
    writer = f"{os.getpid()}-{secrets.token_hex(4)}"
    return path.with_name(f".{path.name}.{_place()}.{writer}.tmp")


def is_running(pid: int) -> bool:
    """Say whether there is such a process on this host."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def remove_leftovers(directory: Path) -> None:
    """Delete what processes of this place left behind aside when they were killed."""
    with contextlib.suppress(OSError):
        for entry in os.scandir(directory):
            match = _TEMPORARY.match(entry.name)
            if match and match["place"] == _place() and not is_running(int(match["pid"])):
                with contextlib.suppress(OSError):
                    if entry.is_dir(follow_symlinks=False):
                        shutil.rmtree(entry.path)
                    else:
                        Path(entry.path).unlink()
