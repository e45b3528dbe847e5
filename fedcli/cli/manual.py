"""What a command's help says besides its options: those that one needs first, and examples."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(frozen=True)
class Manual:
    """The options that one needs first, in that order, and command lines that show them."""

    first: tuple[str, ...] = ()
    examples: tuple[str, ...] = ()


_MANUALS: dict[str, Manual] = {}


def shown(first: str, *examples: str) -> Callable[[Command], Command]:
    """Say what the help of a command shows first, and its examples."""

    def noted(command: Command) -> Command:
        _MANUALS[command.__name__.replace("_", "-")] = Manual(tuple(first.split()), examples)
        return command

    return noted


def manual_of(name: str) -> Manual:
    """Return what was said of a command, which has been imported."""
    return _MANUALS.get(name, Manual())


def page_of(name: str) -> str:
    """Return the address of a command's page: on the site of this release, or in its files."""
    from importlib.metadata import PackageNotFoundError, metadata  # slow, and only for help

    try:
        urls = metadata("fedcli").get_all("Project-URL", [])
    except PackageNotFoundError:  # run from its source
        urls = []
    sites = dict(url.split(", ", 1) for url in urls)
    if "Documentation" not in sites:
        return f"docs/commands/{name}.md"
    return f"{sites['Documentation'].rstrip('/')}/commands/{name}.html"
