"""Where the steps of ``run`` and ``sweep`` are executed: the options that say so."""

import json
import os
from dataclasses import dataclass
from typing import Any

from fedcli.errors import UsageError
from fedcli.execution.resources import Resources
from fedcli.options import check, option

LOCAL = "local"
_LAG = 120  # seconds within which network file systems show what others wrote


@dataclass(frozen=True)
class Place:
    """Where clients train and models are scored; by default on this machine."""

    executor: str = option(
        LOCAL,
        "Where clients train and models are scored: `local`, `dask:ADDRESS`,"
        " `dask:SCHEDULER.json`, `slurm`, or `package.module:factory` for an executor of your own.",
        "WHERE",
        names=lambda: (LOCAL, "dask:", "slurm"),
    )
    resources: str | None = option(
        None,
        "What each step needs there, such as `gpu=1,mem=8GB,cpus=4,time=30m`.",
        "K=V,…",
        unset="what the engine gives",
    )
    executor_option: tuple[str, ...] = option(
        (), "Pass an option on to the engine; can be repeated.", "K=V", repeat=True
    )
    retries: int = option(
        2, "Submit a step N more times if its worker or its job died.", "N", at_least=0
    )
    wait: int | None = option(
        None,
        "Wait so long for files that other machines have written.",
        "SECONDS",
        at_least=0,
        unset=f"{_LAG}, for a network file system",
    )

    def __post_init__(self) -> None:
        """Raise ``UsageError`` for values out of range, or that steps on this machine ignore."""
        check(self)
        if self.is_here:
            self._check_here()
        Resources.parse(self.resources or "")
        dict(map(_pair, self.executor_option))

    @property
    def is_here(self) -> bool:
        """Whether steps run on this machine, as children of this process."""
        return self.executor == LOCAL

    @property
    def limits(self) -> Resources:
        """What each step needs. Raises ``UsageError``."""
        return Resources.parse(self.resources or "")

    @property
    def seconds(self) -> int:
        """How long to wait for files that other machines have written."""
        return _LAG if self.wait is None else self.wait

    @property
    def threads(self) -> int | None:
        """The threads of a step that nobody says otherwise of; on this machine the caller's."""
        if self.is_here:
            return None
        return self.limits.cpus or _number(os.environ.get("OMP_NUM_THREADS", "")) or 1

    @property
    def engine_options(self) -> dict[str, Any]:
        """The options of the engine: numbers and true or false as such, else text."""
        return dict(map(_pair, self.executor_option))

    def _check_here(self) -> None:
        usual = Place.__dataclass_fields__
        for name in ("resources", "executor_option", "retries", "wait"):
            if getattr(self, name) != usual[name].default:
                words = f"--{name.replace('_', '-')}"
                raise UsageError(
                    f"{words}: has no meaning with --executor {LOCAL}",
                    hint="on this machine --jobs, --threads and --gpu-memory-fraction share it out",
                )


def _number(text: str) -> int | None:
    first = text.split(",")[0]
    return int(first) if first.isdecimal() and int(first) else None


def _pair(text: str) -> tuple[str, Any]:
    key, is_pair, value = text.partition("=")
    if not is_pair or not key.isidentifier():
        raise UsageError(f"--executor-option: expected KEY=VALUE, found {text!r}")
    try:
        found = json.loads(value)
    except ValueError:
        return key, value
    return key, found if isinstance(found, int | float | bool) else value
