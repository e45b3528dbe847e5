"""What a step needs of the machine that it runs on: ``gpu=1,mem=8GB,cpus=4,time=30m``."""

import re
from dataclasses import dataclass, fields
from typing import Self

from fedcli.errors import UsageError

_OPTION = "--resources"
_EXAMPLE = "gpu=1,mem=8GB,cpus=4,time=30m"
_DECIMAL = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_BINARY = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_UNITS = {"gpu": {"": 1}, "cpus": {"": 1}, "mem": _DECIMAL | _BINARY, "time": _SECONDS}


@dataclass(frozen=True)
class Resources:
    """What each step needs; None where nobody said.

    ``mem`` is in bytes, ``time`` in seconds.
    """

    gpu: int | None = None
    mem: int | None = None
    cpus: int | None = None
    time: int | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``KEY=VALUE,…``; an empty text asks for nothing. Raises ``UsageError``."""
        found: dict[str, int] = {}
        for part in text.split(",") if text else ():
            key, _, value = part.partition("=")
            key = key.strip()
            if key not in _UNITS or key in found:
                raise UsageError(
                    f"{_OPTION}: expected each of {', '.join(_UNITS)} at most once, found {text!r}",
                    hint=f"for example {_OPTION} {_EXAMPLE}",
                )
            found[key] = _number(key, value.strip())
        return cls(**found)

    @property
    def given(self) -> dict[str, int]:
        """The resources that somebody asked for."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    def check_known(self, known: tuple[str, ...], engine: str, hint: str) -> None:
        """Raise ``UsageError`` for one that an engine cannot give."""
        for name in self.given:
            if name not in known:
                raise UsageError(
                    f"{_OPTION} {name}: the engine {engine} has no such limit", hint=hint
                )


def _number(key: str, value: str) -> int:
    units = {unit.casefold(): factor for unit, factor in _UNITS[key].items()}
    match = re.fullmatch(r"(\d{1,12})\s*([A-Za-z]*)", value)
    if match is None or match[2].casefold() not in units or not int(match[1]):
        raise UsageError(
            f"{_OPTION} {key}: expected {_expected(key)}, found {value!r}",
            hint=f"for example {_OPTION} {_EXAMPLE}",
        )
    return int(match[1]) * units[match[2].casefold()]


def _expected(key: str) -> str:
    units = [unit for unit in _UNITS[key] if unit]
    return f"a number with {', '.join(units)}" if units else "a number of at least 1"
