"""The options that a result was made with, compared with those that are asked for now."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from fedcli.options import option_of
from fedcli.storage.atomic import canonical_json
from fedcli.text import brief


@dataclass(frozen=True)
class OtherOption:
    """An option that had another value ``then`` than it has ``now``; None is that it was off."""

    name: str
    then: Any
    now: Any

    def __str__(self) -> str:
        return f"{option_of(self.name)} {_shown(self.then)}, not {_shown(self.now)}"


def other_options(
    then: Mapping[str, Any], now: Mapping[str, Any], names: Collection[str]
) -> list[OtherOption]:
    """Return which of these options differ, in the order of ``names``."""
    return [
        OtherOption(name, then.get(name), now.get(name))
        for name in names
        if canonical_json(then.get(name)) != canonical_json(now.get(name))
    ]


def _shown(value: Any) -> str:
    if value is None or value in ((), []):
        return "none"
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) and value.isprintable() else brief(value)
