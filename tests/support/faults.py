"""A layer between the program and the file system, which lets a chosen call go wrong.

``python -m support faults SPEC ARGUMENTS…`` is ``fedcli ARGUMENTS…`` in ``root``, behind this
layer. It sees the system calls below ``root`` that change the file system, and numbers them across
all processes that come of the command. Which of them goes wrong, and how, says SPEC, a ``Fault`` as
JSON.
"""

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

from support.forked import become

_OF_DESCRIPTORS = ("write", "pwrite", "writev", "pwritev", "fsync", "fdatasync", "ftruncate")
_OF_PATHS = (
    *("open", "rename", "replace", "unlink", "remove", "mkdir", "rmdir", "link", "symlink"),
    *("truncate", "chmod", "utime", "mknod", "mkfifo"),
)
_TO_A_NAME = ("rename", "replace", "link", "symlink")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_ON_A_FULL_DISK = ("rename", "replace", "unlink", "remove", "rmdir")  # these still work
# What Python tells of these calls, whoever in the process makes them.
_AUDITED = {f"os.{name}" for name in _OF_PATHS} | {"shutil.move", "shutil.chown"}
_RECORD = 256  # bytes of the log for one call


@dataclass(frozen=True)
class Fault:
    """What happens below ``root``; ``log`` is the file of all calls that the layer has seen.

    Call number ``at``, from 0 on, goes wrong. ``how``: the process is killed ``before`` or
    ``after`` it, or with ``half`` of its bytes written; it fails with ``number`` (``error``), and
    so do the later ones that take space (``full``), those of ``names`` (``broken``), or all
    (``denied``); the signal ``number`` is sent to the first process (``signal``), or SIGKILL to all
    of them (``all``).

    ``slow`` is how many seconds a rename takes at most. ``lag`` is how many seconds pass before a
    new name is listed; every other listing is then an old one.
    """

    root: str
    log: str
    at: int | None = None
    how: str = ""
    number: int = 0
    names: tuple[str, ...] = ()
    slow: float = 0.0
    lag: float = 0.0

    def as_json(self) -> str:
        """Return it as the program takes it."""
        return json.dumps(asdict(self))


class Layer:
    """The layer in one process, and in those that are forked from it."""

    log = -1  # the descriptor of the log

    def __init__(self, fault: Fault) -> None:
        self._fault = fault
        self._first = os.getpid()
        Layer.log = os.open(fault.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._inside = False
        self._random = random.Random(self._first)
        self._listed: dict[str, list[str]] = {}

    def install(self) -> None:
        """TrainerState before the functions of ``os``."""
        self._tell, self._place = os.write, os.lseek
        for names, where in ((_OF_DESCRIPTORS, self._of_descriptor), (_OF_PATHS, self._of_path)):
            for name in names:
                setattr(os, name, self._watched(name, getattr(os, name), where))
        if self._fault.lag:
            os.listdir = self._old_names(os.listdir)
        sys.addaudithook(self._audit)

    def _of_descriptor(self, name: str, arguments: Any, named: Any) -> str:
        return str(Path(f"/proc/self/fd/{arguments[0]}").readlink())

    def _of_path(self, name: str, arguments: Any, named: Any) -> str:
        if name == "open" and not arguments[1] & _WRITING:
            return ""
        path = Path(os.fsdecode(arguments[1 if name in _TO_A_NAME else 0]))
        if named.get("dir_fd") is not None:
            path = Path(f"/proc/self/fd/{named['dir_fd']}").readlink() / path
        return str(path.absolute())

    def _is_below(self, path: str) -> bool:
        return f"{path}/".startswith(f"{self._fault.root}/")

    def _watched(
        self, name: str, real: Callable[..., Any], where: Callable[..., str]
    ) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            path = where(name, arguments, named)
            if self._inside or not self._is_below(path):
                return real(*arguments, **named)
            self._inside = True
            try:
                return self._do(name, path, real, arguments, named)
            finally:
                self._inside = False

        return call

    def _do(self, name: str, path: str, real: Callable[..., Any], given: Any, named: Any) -> Any:
        fault, number = self._fault, self._write_down(name, path)
        if number == fault.at:
            self._go_wrong(name, real, given)
        if fault.at is not None and number >= fault.at and self._fails(name, number):
            raise OSError(fault.number, os.strerror(fault.number), path)
        if fault.slow and name in _TO_A_NAME:
            time.sleep(self._random.uniform(0, fault.slow))
        # What was killed loses nothing that the system has; only the disk is spared.
        try:
            return None if name in ("fsync", "fdatasync") else real(*given, **named)
        finally:
            if fault.at == number and fault.how == "after":
                os.kill(os.getpid(), signal.SIGKILL)

    def _go_wrong(self, name: str, real: Callable[..., Any], given: Any) -> None:
        fault = self._fault
        if fault.how in ("half", "full") and name == "pwrite":
            descriptor, data, offset = given
            real(descriptor, data[: len(data) // 2], offset)
        if fault.how in ("before", "half"):
            os.kill(os.getpid(), signal.SIGKILL)
        elif fault.how == "signal":
            os.kill(self._first, fault.number)
        elif fault.how == "all":
            os.kill(self._first, signal.SIGKILL)
            os.killpg(os.getpgrp(), signal.SIGKILL)

    def _fails(self, name: str, number: int) -> bool:
        """Say whether a call fails, from the one that goes wrong on."""
        match self._fault.how:
            case "error":
                return number == self._fault.at
            case "full":
                return name not in _ON_A_FULL_DISK
            case "broken":
                return name in self._fault.names
            case _:
                return self._fault.how == "denied"

    def _write_down(self, name: str, path: str) -> int:
        """Log a call and return its number."""
        place = path.removeprefix(self._fault.root).lstrip("/") or "."
        line = f"{name} {place}".encode()[: _RECORD - 1]
        self._tell(Layer.log, line.ljust(_RECORD - 1) + b"\n")
        return self._place(Layer.log, 0, os.SEEK_CUR) // _RECORD - 1

    def _audit(self, event: str, arguments: Any) -> None:
        """Log a call that did not come through here: then the layer has a hole."""
        if self._inside or not (event in _AUDITED or event == "open"):
            return
        path, flags = arguments[0], arguments[2] if event == "open" else _WRITING
        if isinstance(path, str | bytes) and isinstance(flags, int) and flags & _WRITING:
            name = str(Path(os.fsdecode(path)).absolute())
            if self._is_below(name):
                self._write_down(f"UNSEEN {event}", name)

    def _old_names(self, real: Callable[..., list[str]]) -> Callable[..., list[str]]:
        def listed(path: Any = ".") -> list[str]:
            key, now = os.fsdecode(path), time.time()
            before = self._listed.pop(key, None)
            if before is not None:
                return before
            names = [name for name in real(path) if _age(Path(key) / name, now) > self._fault.lag]
            self._listed[key] = names
            return names

        return listed


def _age(path: Path, now: float) -> float:
    try:
        return now - path.lstat().st_ctime
    except OSError:
        return 0.0


def main() -> NoReturn:
    """Be ``fedcli`` behind the layer."""
    fault = Fault(**json.loads(sys.argv[1]))
    os.chdir(fault.root)
    Layer(fault).install()
    become(sys.argv[2:], Layer.log)
