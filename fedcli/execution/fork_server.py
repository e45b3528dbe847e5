"""A process that imports modules once and forks steps: ``-m fedcli.execution.fork_server``.

An entry point, like ``__main__``: ``fedcli.execution.local`` starts it. Its standard input is a
Unix socket. A request is one byte that carries three descriptors: the standard output and standard
error of a new process, and a socket from which that process reads its command, and on which this
one writes its exit status (minus the signal number if a signal ended it). When the other end of the
standard input is closed, all steps are ended.

Every step starts from the same state, that of a process that has just imported its modules: torch
has computed nothing, so it has no thread pool, which a fork would break, and CUDA, which a forked
process could no longer use, is not initialised.
"""

import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import sys
import time
import traceback
from typing import NoReturn

_GRACE = 10.0  # seconds for a step to end before it is killed


class _Children:
    """The running steps, each with the channel for its exit status."""

    def __init__(self) -> None:
        self._channels: dict[int, socket.socket] = {}
        self.woken, wake = socket.socketpair()  # readable once a child has ended
        for end in (self.woken, wake):
            end.setblocking(False)
        self._wake = wake
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)

    def start(self, out: int, err: int, channel: socket.socket) -> None:
        pid = os.fork()
        if pid == 0:
            try:
                self._leave_to_the_parent()
                _become(out, err, channel)
            except BaseException:
                traceback.print_exc()
                sys.stderr.flush()
            finally:
                os._exit(1)
        self._channels[pid] = channel

    def _leave_to_the_parent(self) -> None:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for end in (self.woken, self._wake, *self._channels.values()):
            end.close()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})

    def reap(self) -> None:
        """Report the exit status of children that have ended."""
        while True:
            try:
                self.woken.recv(4096)
            except BlockingIOError:
                break
        for pid in list(self._channels):
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                with self._channels.pop(pid) as channel:
                    _tell(channel, os.waitstatus_to_exitcode(status))

    def end(self) -> None:
        """End the remaining children."""
        for number, seconds in ((signal.SIGTERM, _GRACE), (signal.SIGKILL, _GRACE)):
            for pid in self._channels:
                os.kill(pid, number)
            deadline = time.monotonic() + seconds
            while self._channels and (left := deadline - time.monotonic()) > 0:
                select.select([self.woken], [], [], left)
                self.reap()


def _tell(channel: socket.socket, status: int) -> None:
    with contextlib.suppress(OSError):  # the requester may be gone
        channel.sendall(str(status).encode())


def _become(out: int, err: int, channel: socket.socket) -> NoReturn:
    """Run as ``python -m MODULE ARGUMENTS`` with these outputs."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    for descriptor, number in ((nothing, 0), (out, 1), (err, 2)):
        os.dup2(descriptor, number)
        os.close(descriptor)
    with channel, channel.makefile() as lines:
        request = json.loads(lines.readline())
    if request["folder"] is not None:
        os.chdir(request["folder"])
    if request["threads"] is not None:
        import torch  # it read the variable at import

        os.environ["OMP_NUM_THREADS"] = str(request["threads"])
        torch.set_num_threads(request["threads"])
    module, *arguments = request["words"]
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
    sys.stdout.flush()
    os._exit(0)


def serve(requests: socket.socket) -> None:
    """Start a step for every request until no more can come; then end the running ones."""
    # From here on, steps are ended one by one before this process.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    children = _Children()
    while True:
        ready, _, _ = select.select([requests, children.woken], [], [])
        if children.woken in ready:
            children.reap()
        if requests in ready:
            message, descriptors, _, _ = socket.recv_fds(requests, 1, 3)
            if not message:
                break
            out, err, channel = descriptors
            children.start(out, err, socket.socket(fileno=channel))
            os.close(out)
            os.close(err)
    children.end()


def main(arguments: list[str]) -> NoReturn:
    """Call ``preload`` of the named module, if any, with the other arguments; then serve."""
    if arguments:
        importlib.import_module(arguments[0]).preload(*arguments[1:])
    for stream in (sys.stdout, sys.stderr):
        stream.flush()  # every step would print what is left in there
    gc.collect()
    gc.freeze()  # a collection in a child would otherwise write to, and so copy, every page
    serve(socket.socket(fileno=0))
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
