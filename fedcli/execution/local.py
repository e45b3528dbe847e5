"""Steps as processes of this machine: started in parallel, stopped together.

On Linux, steps are forked from a process that has imported torch once (``fork_server``). Elsewhere
each step is a new interpreter: the frameworks that torch uses on macOS do not work in a forked
process. Either way, a step has the environment, current directory and module path of ``fedcli``
typed here, and makes the same bytes.

``multiprocessing`` has such a server too, but only one per process, with the environment at its
start; its children import the ``__main__`` of the caller, which runs a user's script again, and
outlive both.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from fedcli.errors import ClientFailedError
from fedcli.execution.engine import Ending, last_line, stopped

_GRACE = 10.0  # seconds for a process to end before it is killed
_SERVER_GRACE = 3 * _GRACE  # of the fork server, which grants it to others


@dataclass(frozen=True)
class Launch:
    """A process to start: ``python -m WORDS``, and the files that it writes to.

    ``threads`` sets ``OMP_NUM_THREADS``, and ``folder`` is the current directory; None keeps those
    of this process.
    """

    words: Sequence[str]
    out: IO[bytes]
    err: IO[bytes]
    threads: int | None = None
    folder: str | None = None


class Starter(Protocol):
    """A way to start processes."""

    def run(self, launch: Launch) -> int:
        """Run a process to its end and return its exit status.

        The status is minus the signal number if a signal ended the process. Raises
        ``ClientFailedError`` when it cannot be started or is lost.
        """

    def stop(self) -> None:
        """End all processes and start no more."""


def interpreter() -> list[str]:
    """Return the command that runs a module, with the module path of this process.

    ``-m`` alone searches the current directory first, where a user may have a ``queue.py``.
    """
    looks_here = {"", str(Path.cwd())} & set(sys.path)
    return [sys.executable, *([] if looks_here else ["-P"]), "-m"]


class NewProcesses:
    """Starts each step as a new interpreter."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[bytes]] = set()
        self._stopping = False
        self._lock = threading.Lock()

    def run(self, launch: Launch) -> int:
        """See ``Starter``."""
        shared = {} if launch.threads is None else {"OMP_NUM_THREADS": str(launch.threads)}
        with self._lock:
            if self._stopping:
                raise stopped()
            process = subprocess.Popen(
                [*interpreter(), *launch.words],
                stdin=subprocess.DEVNULL,
                stdout=launch.out,
                stderr=launch.err,
                cwd=launch.folder,
                env={**os.environ, **shared},
                # Ctrl-C in a terminal reaches this process only, which then stops the others.
                start_new_session=True,
            )
            self._running.add(process)
        status = process.wait()  # after an interrupt, stop finds it among the running
        with self._lock:
            self._running.discard(process)
        return status

    def stop(self) -> None:
        """See ``Starter``."""
        with self._lock:
            self._stopping = True
            running = list(self._running)
        for process in running:
            process.terminate()
        deadline = time.monotonic() + _GRACE
        for process in running:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


class ForkServer:
    """Forks each step from one process, which starts with the first step.

    ``preload`` is a module whose function ``preload`` it calls first, and the arguments.
    """

    def __init__(self, *preload: str) -> None:
        self._preload = preload
        self._server: subprocess.Popen[bytes] | None = None
        self._requests, self._served = socket.socketpair()
        self._stopping = False
        self._lock = threading.Lock()

    def run(self, launch: Launch) -> int:
        """See ``Starter``."""
        asked = {"words": launch.words, "threads": launch.threads, "folder": launch.folder}
        ours, theirs = socket.socketpair()
        with ours:
            try:
                with theirs:
                    self._ask(launch.out.fileno(), launch.err.fileno(), theirs.fileno())
                ours.sendall(json.dumps(asked).encode() + b"\n")
                status = b"".join(iter(lambda: ours.recv(16), b""))
            except ConnectionError:
                status = b""
        if not status:
            raise self._lost()
        return int(status)

    def _ask(self, *descriptors: int) -> None:
        with self._lock:
            if self._stopping:
                raise stopped()
            if self._server is None:
                self._server = subprocess.Popen(
                    [*interpreter(), "fedcli.execution.fork_server", *self._preload],
                    stdin=self._served.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    env=dict(os.environ),  # without additions of C libraries
                    # Ctrl-C in a terminal does not reach it; stop ends its process group with the
                    # steps.
                    start_new_session=True,
                )
                self._served.close()
            socket.send_fds(self._requests, [b"."], descriptors)

    def _lost(self) -> ClientFailedError:
        """Return the error for a step without exit status."""
        with self._lock:
            if self._stopping:
                return stopped()
            assert self._server is not None
            assert self._server.stderr is not None
            last = last_line(self._server.stderr.read()) or "it may have been killed"
        return ClientFailedError(f"the process that forks steps has ended: {last}")

    def stop(self) -> None:
        """See ``Starter``."""
        with self._lock:
            if self._stopping:
                return
            self._stopping = True
        with self._requests, self._served:
            if self._server is not None:
                with self._server:  # waits for it at the end
                    self._server.terminate()  # ends it at once only while it imports
                    self._end_all(self._server.pid)

    def _end_all(self, group: int) -> None:
        with contextlib.suppress(OSError):
            self._requests.shutdown(socket.SHUT_WR)
            self._requests.settimeout(_SERVER_GRACE)
            self._requests.recv(1)  # end of stream: the server has ended, after its steps
        # If the server was killed, its steps may still run.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)


def starter_for(*models: str) -> Starter:
    """Return what starts the steps of runs with these models."""
    if sys.platform == "linux":
        return ForkServer("fedcli.execution.preload", *models)
    return NewProcesses()


def light_starter() -> Starter:
    """Return what starts steps that neither train nor score, and so need no torch."""
    if sys.platform == "linux":
        return ForkServer("fedcli.execution.preload_light")
    return NewProcesses()


def finish(
    starter: Starter, words: Sequence[str], threads: int | None, folder: str | None = None
) -> Ending:
    """Run a step to its end and return it with what it wrote. Raises ``ClientFailedError``."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        status = starter.run(Launch(words, out, err, threads, folder))
        out.seek(0)
        err.seek(0)
        return Ending(status, out.read(), err.read())
