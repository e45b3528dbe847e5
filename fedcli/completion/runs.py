"""Run directories, their clients and their rounds, as far as the Tab key may wait for them.

A stranger may have written what is read here: names that are no ids, and those that a terminal
would not show as they are, are left out.
"""

import json
import os
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

_MOST = 500  # entries of a directory that are looked at
_LARGEST = 4_000_000  # characters of run.json
_CLIENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def runs_like(start: str) -> list[str]:
    """Return the run directories beside this one, and the directories that hold some."""
    head, slash, _ = start.rpartition("/")
    place = Path(f"{head}{slash}" or ".")
    found = []
    for one in _directories(place):
        name = f"{head}{slash}{one.name}"
        if _is_run(one):
            found.append(name)
        elif any(map(_is_run, _directories(one))):
            found.append(f"{name}/")
    return sorted(found)


def _is_run(path: Path) -> bool:
    return os.access(path / "run.json", os.F_OK)


def clients_of(run: str) -> list[str]:
    """Return the ids of a run's clients, and ``all``; those that delivered if no list says more."""
    listed = _record(run).get("clients")
    ids = listed if isinstance(listed, list) and listed else _delivered(run)
    safe = dict.fromkeys(one for one in ids if isinstance(one, str) and _CLIENT.fullmatch(one))
    return ["all", *safe] if safe else []


def rounds_of(run: str) -> list[str]:
    """Return the numbers of a run's rounds, the last first."""
    names = [one.name for one in _directories(Path(run) / "rounds")]
    return [str(number) for number in sorted(map(int, filter(str.isdecimal, names)), reverse=True)]


def _record(run: str) -> dict[str, Any]:
    try:
        with (Path(run) / "run.json").open(encoding="utf-8") as file:
            found = json.loads(file.read(_LARGEST))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _delivered(run: str) -> Iterator[str]:
    for one in _directories(Path(run) / "rounds"):
        for update in islice((one / "updates").glob("*.safetensors"), _MOST):
            yield update.name.removesuffix(".safetensors")


def _directories(place: Path) -> list[Path]:
    """Return the directories in a place whose names can be shown as they are."""
    try:
        with os.scandir(place.expanduser()) as entries:
            names = [one.name for one in islice(entries, _MOST) if one.is_dir()]
    except OSError:
        return []
    return [place.expanduser() / name for name in sorted(names) if name.isprintable()]
