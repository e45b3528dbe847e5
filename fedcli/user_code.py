"""User code, named ``package.module:attribute`` on the command line only."""

import importlib
import sys
import sysconfig
import traceback
from pathlib import Path
from typing import Any

from fedcli.errors import UsageError

SHOW_WHERE = "--debug shows where in your code"
_NAMED: dict[str, str] = {}  # what was loaded in this command, and the option that named it


def load_attribute(name: str, option: str) -> Any:
    """Import ``package.module:attribute``; the current directory is searched first.

    Raises ``UsageError`` that names the option if the attribute does not exist, or if importing the
    module raises anything.
    """
    _NAMED[name] = option
    module_name, _, attribute = name.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        value: Any = importlib.import_module(module_name)
        for part in attribute.split("."):
            value = getattr(value, part)
    except (Exception, SystemExit) as error:
        raise UsageError(
            f"{option} {name}: cannot be imported: {with_place(error)}", hint=SHOW_WHERE
        ) from error
    return value


def forget() -> None:
    """Forget what was loaded, before another command."""
    _NAMED.clear()


def blamed(error: BaseException) -> UsageError | None:
    """Return the error to report if user code was loaded, and nothing else explains ``error``.

    Libraries raise errors of their own about a model that does not do what training needs. Ending
    the process is blamed only on code that did it.
    """
    if not _NAMED or (_own_place(error) is None and isinstance(error, SystemExit)):
        return None
    name, option = next(reversed(_NAMED.items()))
    what = "ended the process" if isinstance(error, SystemExit) else "failed"
    return UsageError(f"{option} {name}: {what}: {with_place(error)}", hint=SHOW_WHERE)


def with_place(error: BaseException) -> str:
    """Return ``in_one_line``, with the file and the line of the user's code if it failed there."""
    place = _own_place(error)
    return in_one_line(error) if place is None else f"{in_one_line(error)} ({place})"


def _own_place(error: BaseException) -> str | None:
    """Return file and line of the innermost call in code that is neither installed nor fedcli's."""
    others = (*sysconfig.get_paths().values(), str(Path(__file__).parent), "<")
    calls = traceback.extract_tb(error.__traceback__)
    own = [call for call in calls if not call.filename.startswith(others)]
    return f"{Path(own[-1].filename).name}, line {own[-1].lineno}" if own else None


def in_one_line(error: BaseException) -> str:
    """Return the type of an exception and the first line of its message."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
