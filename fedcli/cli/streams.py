"""The standard streams of the process, which may be closed, full, a closed pipe, or ASCII only."""

import codecs
import contextlib
import errno
import io
import logging
import os
import select
import signal
import sys
import warnings
from pathlib import Path
from typing import TextIO

from fedcli.errors import ExitStatus
from fedcli.text import printable

_STREAMS = ("stdin", "stdout", "stderr")  # by descriptor
_PLAINER = "fedcli.plainer"
_PLAIN = str.maketrans(
    {
        **dict.fromkeys("‐‑‒–—−─", "-"),
        **dict(zip("▁▂▃▄▅▆▇█", "12345678", strict=True)),
        "·": ".",
        "×": "x",
        "…": "...",
        "≤": "<=",
        "≥": ">=",
        "±": "+-",
        "→": "->",
        "„": '"',
        "‘": "'",
        "’": "'",
        "“": '"',
        "”": '"',
        "μ": "mu",
        "α": "alpha",
        "λ": "lambda",
    }
)
_MOST_WARNINGS = 20  # different ones; a damaged file may cause any number


def prepare(*, debug: bool) -> None:
    """Make the streams usable: what is closed leads nowhere, what cannot be encoded is spelled out.

    Warnings of libraries become single lines, with their place in the source only with ``debug``.
    """
    codecs.register_error(_PLAINER, _plainer)
    for number, name in enumerate(_STREAMS):
        if getattr(sys, name) is None:
            _open_nowhere(number, name)
    for stream in (sys.stdout, sys.stderr):
        _spell_out(stream)
    if not debug:
        printed = _Warnings()
        warnings.showwarning = printed.show
        logging.lastResort = printed
        # read by torch's C++ part, which writes to the descriptor
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")


def _plainer(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end].translate(_PLAIN)
    return text.encode("ascii", "backslashreplace").decode(), error.end


def _spell_out(stream: TextIO) -> None:
    if isinstance(stream, io.TextIOWrapper) and stream.errors != _PLAINER:
        # In a process that was forked with another stream behind this descriptor, the new handler
        # is set before the position, which a pipe does not have, is asked for.
        with contextlib.suppress(OSError):
            stream.reconfigure(errors=_PLAINER)


def _open_nowhere(number: int, name: str) -> None:
    """Put the null device in place of a closed stream, or the next opened file would be there."""
    try:
        os.fstat(number)
    except OSError:
        nowhere = os.open(os.devnull, os.O_RDWR)
        if nowhere != number:
            os.dup2(nowhere, number)
            os.close(nowhere)
    mode = "r" if name == "stdin" else "w"
    setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))


class _Warnings(logging.Handler):
    """Prints each warning of a library once, as a line that names the library."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._printed: set[str] = set()

    def show(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        """Take the place of ``warnings.showwarning``."""
        self._print(_library(filename), str(message))

    def emit(self, record: logging.LogRecord) -> None:
        """Take the place of ``logging.lastResort``."""
        self._print(record.name.partition(".")[0], record.getMessage())

    def _print(self, library: str, message: str) -> None:
        text = f"warning: {library}: {printable(' '.join(message.split()), 300)}"
        if text not in self._printed and len(self._printed) < _MOST_WARNINGS:
            self._printed.add(text)
            with contextlib.suppress(OSError):
                print(text, file=sys.stderr)


def _library(filename: str) -> str:
    """Return the top package of an installed module, or the name of a file elsewhere."""
    parts = Path(filename).parts
    if "site-packages" in parts:
        last = len(parts) - 1 - parts[::-1].index("site-packages")
        return Path(parts[last + 1]).stem if last + 1 < len(parts) else "a library"
    return Path(filename).name


class EndedByUserError(Exception):
    """Ctrl-C has ended a command that has no other end: nothing went wrong."""


def stop_like_an_interrupt() -> None:
    """Treat what schedulers and closed terminals send like Ctrl-C."""
    for number in (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
        if signal.getsignal(number) != signal.SIG_IGN:  # nohup sets this for SIGHUP
            signal.signal(number, signal.default_int_handler)


def reader_has_gone() -> bool:
    """Return whether standard output is a pipe that nobody reads any more."""
    if not hasattr(select, "poll"):
        return False
    asked = select.poll()
    try:
        asked.register(sys.stdout, 0)
        return any(event & select.POLLERR for _, event in asked.poll(0))
    except (OSError, ValueError):  # not a stream of the system
        return False


def is_of_stream(error: OSError) -> bool:
    """Return whether an error comes from printing: those of files carry a name."""
    return error.filename is None and error.errno in (errno.ENOSPC, errno.EIO, errno.EDQUOT)


def abandon(stream: TextIO) -> None:
    """Let the rest of a stream go nowhere, after writing to it has failed."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def finish(status: int) -> int:
    """Flush the streams and return the exit status, which is 1 if that fails after success."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError as error:
            status = status or ExitStatus.FAILED
            abandon(stream)
            if stream is sys.stdout and not isinstance(error, BrokenPipeError):
                complain(f"error: standard output: cannot write: {error.strerror}")
    return status


def complain(line: str) -> None:
    """Print a line on standard error, if that is possible."""
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr, flush=True)
