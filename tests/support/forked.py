"""``fedcli`` in a process that was forked for it: what ``warm`` imports before, and becomes."""

import importlib
import json
import os
import pkgutil
import signal
import subprocess
import sys
from importlib.util import find_spec
from typing import Any, NoReturn, Self

import typer

from fedcli import cli
from fedcli.execution import fork_server, local
from fedcli.execution.preload import preload as preload_steps
from fedcli.system import available_cores


class _ForkedServer:
    """What ``fedcli run`` forks its steps from, itself a fork: it has imported torch already.

    It stands for the ``subprocess.Popen`` of ``fedcli.execution.local``.
    """

    kept: tuple[int, ...] = ()  # descriptors that all processes share

    def __init__(self, command: list[str], *, stdin: int, **_: Any) -> None:
        assert "fedcli.execution.fork_server" in command
        self.stderr = None
        self.pid = os.fork()
        if self.pid == 0:
            os.setsid()
            os.dup2(stdin, 0)
            self._become_new()
            fork_server.main([])

    def _become_new(self) -> None:
        """Close and reset what a new program would not get: above all, the end of its input."""
        first = 3
        for descriptor in sorted(self.kept):
            os.closerange(first, descriptor)
            first = descriptor + 1
        os.closerange(first, os.sysconf("SC_OPEN_MAX"))
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)

    def terminate(self) -> None:
        """As it is: nothing is being imported."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.waitpid(self.pid, 0)


class _Processes:
    Popen = _ForkedServer
    DEVNULL, PIPE = subprocess.DEVNULL, subprocess.PIPE


# What fedcli imports where it is needed, and nothing of which belongs to one process only.
_LATER = ("cryptography.hazmat.primitives.asymmetric.ed25519", "jinja2", "numpy.ma")
_ROOMS = ("cli", "exporting", "reporting", "steps", "verification")


def preload() -> None:
    """Import what the commands import; nothing is computed."""
    preload_steps("linear")
    for room in _ROOMS:
        package = importlib.import_module(f"fedcli.{room}")
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
    for name in ("support.faults", *filter(_is_installed, _LATER)):
        importlib.import_module(name)
    # typer would build the program anew in each of thousands of processes
    cli.app = typer.main.get_command(cli.app)
    for name in cli.COMMANDS:
        cli.command_of(name)


def _is_installed(name: str) -> bool:
    return find_spec(name.partition(".")[0]) is not None


def become(words: list[str], *kept: int) -> NoReturn:
    """Be ``fedcli WORDS``; ``kept`` are descriptors that the processes that come of it share."""
    sys.argv = ["fedcli", *words]
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored under nohup and the like
    _ForkedServer.kept = kept
    local.subprocess = _Processes  # its only use is Popen
    cli.main()


def main() -> NoReturn:
    """Be a command in a folder, with variables that a new process would have read at its start."""
    asked = json.loads(sys.argv[1])
    variables, folder = asked["variables"], asked["folder"]
    threads = variables.get("OMP_NUM_THREADS")
    if threads != os.environ.get("OMP_NUM_THREADS"):
        importlib.import_module("torch").set_num_threads(int(threads or available_cores()))
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(folder)
    path = [folder, *variables.get("PYTHONPATH", "").split(os.pathsep)]
    sys.path[:0] = [place for place in path if place and place not in sys.path]
    become(sys.argv[2:])
