"""What a person sees of a transfer on a terminal, and that a log file sees nothing of it."""

import fcntl
import os
import pty
import re
import struct
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest
from support import warm
from support.remote_runs import COORDINATOR, Study

BAR = "━"
_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@contextmanager
def terminal(columns: int) -> Iterator[tuple[int, IO[bytes]]]:
    """A terminal of so many columns: what a person reads, and what a program writes to."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    try:
        with os.fdopen(slave, "wb", buffering=0) as written:
            yield master, written
    finally:
        os.close(master)


def shown(folder: Path, *words: object, columns: int = 80) -> list[str]:
    """Return the lines that a command draws on a terminal, one over the other."""
    own = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    with terminal(columns) as (master, written), (folder / "out").open("wb") as out:
        warm.run([str(word) for word in words], folder, {**own, "TERM": "xterm"}, out, written)
        seen = os.read(master, 1_000_000).decode()
    return [line for line in re.split(r"[\r\n]+", _ESCAPE.sub("", seen)) if line.strip()]


def logged(folder: Path, *words: object) -> str:
    """Return what the same command writes to a file."""
    with (folder / "err").open("w+b") as err, (folder / "out").open("wb") as out:
        warm.run([str(word) for word in words], folder, os.environ, out, err)
        err.seek(0)
        return err.read().decode()


@pytest.mark.parametrize("columns", [80, 120])
def test_a_bar_is_drawn_on_a_terminal_and_nowhere_else(study: Study, columns: int) -> None:
    share, here = study.folder / "share", ("--run", study.root(COORDINATOR))
    commands = {
        r"sending 1 file: [0-9.]+ of [0-9.]+ MB ": ("push", share, *here),
        r"sending 3 files: [0-9.]+ of [0-9.]+ MB ": ("push", study.folder / "all.zip", *here),
        r"fetching 2 files: [0-9.]+ of [0-9.]+ MB ": ("pull", share, "--run", "copy", "--id", 0),
        "waiting: [0-9] s left ": ("pull", share, *here, "--wait", "0.3"),
    }
    for pattern, words in commands.items():
        lines = shown(study.folder, *words, columns=columns)
        drawn = [line for line in lines if re.fullmatch(pattern + f"{BAR}+", line)]
        assert {len(line) for line in drawn} == {columns}, lines
    assert "waiting for 0, 1, 2" in lines
    said = logged(study.folder, *commands["waiting: [0-9] s left "])
    assert said.splitlines()[0] == "waiting for 0, 1, 2"
    quiet = ("push", study.folder / "other.zip", *here)
    assert logged(study.folder, *quiet) == ""
    assert not re.search(rf"{BAR}|\x1b|sending|fetching|left", said)
