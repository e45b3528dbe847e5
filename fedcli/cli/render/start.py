"""What ``init`` and ``partition`` show of the weights that a run starts from."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from fedcli.models.start_weights import StartReport

_MOST = 4  # tensors that are named


class Started(Protocol):
    """The result of a command that makes a run."""

    @property
    def mean(self) -> tuple[float, ...]:
        """Mean of pixels."""

    @property
    def std(self) -> tuple[float, ...]:
        """Standard deviation of pixels."""

    @property
    def transform_input(self) -> bool:
        """Whether the network renormalises its inputs."""

    @property
    def start_weights(self) -> "StartReport | None":
        """What became of given weights."""


def start_lines(result: Started) -> list[str]:
    """Say what became of given weights, and what pixels become; nothing without given weights."""
    report = result.start_weights
    if report is None:
        return []
    where = f", under {report.prefix!r}" if report.prefix else ""
    also = f"; {', '.join(map(repr, report.others))} would fit too" if report.others else ""
    total = len(report.taken) + len(report.drawn)
    renormalised = "; the network renormalises them (--transform-input)"
    return [
        f"start weights ({report.origin}): {len(report.taken)} of {total} tensors"
        f" taken{where}{also}",
        *([f"drawn anew: {_named(report.drawn)}"] if report.drawn else []),
        *([f"left over in the file: {_named(report.left_over)}"] if report.left_over else []),
        f"pixels: mean {_numbers(result.mean)}; std {_numbers(result.std)}"
        f"{renormalised if result.transform_input else ''}",
    ]


def _named(names: Sequence[str]) -> str:
    more = len(names) - _MOST
    return ", ".join([*names[:_MOST], *([f"and {more} more"] if more > 0 else [])])


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)
