"""Documents from templates, which are in the directory ``templates`` of a package."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment


def environment(package: str, finalize: Callable[[Any], Any] | None = None) -> "Environment":
    """Return the templates of a package. They escape HTML and refuse undefined names.

    ``finalize`` is applied to each value before it is escaped. jinja2 is imported here, so that
    only commands that write a document wait for it.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader(package),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=finalize,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
