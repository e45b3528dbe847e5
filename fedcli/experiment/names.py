"""Names of the runs of a sweep, made of what differs between them."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_LONGEST = 100  # characters; file systems allow 255 bytes
_UNSAFE = re.compile(r"[^A-Za-z0-9.+_-]+")


def case_names(cases: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return one name per case: ``fedprox-alpha0.1-seed0``.

    A name depends on the case alone, so that it stays when others are added. It is safe as the
    name of a folder; cases whose names would be the same on some file system get a digest.
    """
    names = [_name(case) for case in cases]
    count = Counter(name.casefold() for name in names)
    return [
        name if count[name.casefold()] == 1 else f"{name}-{_digest(case)}"
        for name, case in zip(names, cases, strict=True)
    ]


def _name(case: Mapping[str, Any]) -> str:
    name = "-".join(_part(key, value) for key, value in case.items()).strip(".-") or "run"
    return name if len(name) <= _LONGEST else f"{name[:_LONGEST]}-{_digest(case)}"


def _part(key: str, value: Any) -> str:
    key = key.rpartition(".")[2].replace("_", "-")
    if isinstance(value, bool):
        return key if value else f"no-{key}"
    if isinstance(value, str | Path):
        return _safe(Path(value).name)
    if isinstance(value, tuple):
        return f"{key}-{'+'.join(_safe(str(item)) for item in value) or 'none'}"
    return f"{key}{_safe(_number(value))}"


def _number(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _safe(text: str) -> str:
    return _UNSAFE.sub("_", text)


def _digest(case: Mapping[str, Any]) -> str:
    text = json.dumps({key: str(value) for key, value in case.items()}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]
