"""What a command prints: results on standard output, progress and logs on standard error."""

import contextlib
import copy
import dataclasses
import json
import operator
import sys
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from functools import cache, cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from fedcli.cli.options.shared import OutputOptions
from fedcli.progress import Label
from fedcli.text import printable

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.progress import Progress as ProgressBar

SCHEMA = 1


def plain(value: Any) -> Any:
    """Convert a result to the types of JSON: dataclasses, paths, enums and tuples included."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Path):
        return str(value)
    return value


def print_json(values: Mapping[str, Any]) -> None:
    """Print the one JSON object of a command; escape what is not printable, as JSON does."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    in_ascii = not encoding.lower().startswith("utf")
    text = json.dumps({"schema": SCHEMA, **plain(values)}, ensure_ascii=in_ascii)
    if not text.isprintable():
        text = "".join(c if c.isprintable() else _json_escape(c) for c in text)
    print(text)


def _json_escape(character: str) -> str:
    return "\\u007f" if character == "\x7f" else json.dumps(character)[1:-1]


def escaped(value: Any) -> Any:
    """Return a result whose text is safe to show on a terminal; see ``printable``.

    What is safe already is the same object: a report of many clients has a million values.
    """
    if value is None or isinstance(value, int | float | Enum):
        return value
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, Path):
        return Path(printable(str(value)))
    if isinstance(value, Mapping):
        items = {escaped(key): escaped(item) for key, item in value.items()}
        return (
            value if _same(value.keys(), items) and _same(value.values(), items.values()) else items
        )
    if isinstance(value, list | tuple):
        shown = [escaped(item) for item in value]
        return value if _same(value, shown) else type(value)(shown)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _escaped_fields(value)
    return value


def _escaped_fields(value: Any) -> Any:
    names = _field_names(value.__class__)
    before = [getattr(value, name) for name in names]
    after = [escaped(item) for item in before]
    if _same(before, after):
        return value
    shown = copy.copy(value)
    for name, item in zip(names, after, strict=True):
        object.__setattr__(shown, name, item)
    return shown


@cache
def _field_names(kind: type) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(kind))


def _same(before: Iterable[Any], after: Iterable[Any]) -> bool:
    return all(map(operator.is_, before, after))


class Output:
    """One command's output; it is also the ``Progress`` that its step reports to.

    A bar is drawn on a terminal only; elsewhere each line of ``say`` is all that is seen. rich is
    imported when there is something to draw: long after the step's work has started, if ever.
    """

    def __init__(self, command: str, options: OutputOptions) -> None:
        self.command = command
        self.json = options.json
        self.quiet = options.quiet
        self._bar: ProgressBar | None = None

    @cached_property
    def console(self) -> "Console":
        """Standard output."""
        return _console()

    @cached_property
    def log(self) -> "Console":
        """Standard error, whose lines are wrapped by the terminal alone."""
        return _console(stderr=True)

    def start(self, label: Label, total: int) -> None:
        """Begin ``total`` units of work, with a bar if this is a terminal."""
        self._stop_bar()
        if self.quiet or not sys.stderr.isatty():
            return
        from fedcli.cli.render.progress_bar import started_bar  # many commands draw none

        self._bar = started_bar(label, total, self.log)

    def advance(self, count: int = 1) -> None:
        """Report that ``count`` more units are done."""
        if self._bar is not None:
            self._bar.advance(self._bar.task_ids[0], count)

    def say(self, line: str) -> None:
        """Print a line on standard error, unless ``--quiet``."""
        if not self.quiet:
            # the work goes on if nobody listens; rich ends the process if a pipe is closed
            with contextlib.suppress(OSError, SystemExit):
                self.log.print(printable(line))

    def draw(self, part: "RenderableType") -> None:
        """Draw a part on standard error, unless ``--quiet``."""
        if not self.quiet:
            with contextlib.suppress(OSError, SystemExit):
                self.log.print(part)

    def result(self, result: Any, render: "Callable[[Any], list[RenderableType]]") -> None:
        """Print a step's result: as JSON, or as ``render`` draws it."""
        self._stop_bar()
        if self.json:
            print_json({"command": self.command, **plain(result)})
            return
        for part in render(escaped(result)):
            # A line of text may be a command to copy, so only the terminal wraps it.
            self.console.print(part, soft_wrap=isinstance(part, str))

    def _stop_bar(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop_bar()


def _console(*, stderr: bool = False) -> "Console":
    """Return a console; names of classes and files, which may look like markup, are kept."""
    from rich.console import Console

    return Console(stderr=stderr, soft_wrap=stderr, highlight=False, markup=False, emoji=False)


def seconds(value: float) -> str:
    """Write a duration: ``0.8 s``, ``12 s``, ``3 min 20 s``."""
    if value < 10:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def size_of(value: int) -> str:
    """Write a number of bytes in MB (10^6 bytes), or kB (10^3 bytes) if it is small."""
    return f"{value / 1e6:.1f} MB" if value >= 100_000 else f"{value / 1e3:.1f} kB"
