"""What a rule is given of the clients, and what it may decide: the values themselves come later.

An update of client i is a model y_i that was trained from a base model x_i, most often the
current one, x. Norms, distances and clipping are of the differences Δ_i = y_i - x_i and see
parameters only: neither buffers nor counters.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np

from fedcli.formats.dtypes import Array, Values
from fedcli.formats.training_record import TrainingRecord

RuleOptions = Mapping[str, Any]


class Measures(IntEnum):
    """What has to be measured, in a pass of its own, before a rule can decide."""

    NOTHING = 0
    SQUARES = 1  # |Δ_i|²
    GRAM = 2  # Δ_i · Δ_j


@dataclass(frozen=True)
class Contributor:
    """What a rule may know of one update, or of a partial mean of ``clients`` updates.

    ``staleness`` counts the rounds that were completed since the update's own. ``training`` is
    what the client recorded: hyper-parameters, steps, the loss that it started from.
    """

    name: str
    path: Path
    num_examples: int
    clients: int = 1
    staleness: int = 0
    training: TrainingRecord = field(default_factory=TrainingRecord)


@dataclass(frozen=True)
class Shares:
    """Client i counts ``weights[i] / divisor``; these need not add up to 1.

    They are kept apart because the products of float32 values and whole weights are exact.
    """

    weights: Values
    divisor: float


@dataclass(frozen=True)
class Clients:
    """What a reducer decides from; arrays in client order.

    ``gram`` (n, n) are the inner products of the differences, ``squares`` (n,) its diagonal. With
    ``has_center`` the last row and column of ``gram`` are those of the result of the round before.
    """

    shares: Shares
    squares: Values | None = None
    gram: Values | None = None
    has_center: bool = False

    def __len__(self) -> int:
        return len(self.shares.weights)


@dataclass(frozen=True)
class LinearDecision:
    """The result is x + Σ c_i Δ_i + c·center, with c_i = weights_i / divisor.

    A client of weight 0 was not kept, and its values are not read. Buffers become the mean of the
    clients that were kept, in proportion to their weights; with ``median_buffers`` their
    coordinate-wise median, so that a rule which does not look at buffers cannot be led by them.
    """

    shares: Shares
    center: float = 0.0
    median_buffers: bool = True

    @property
    def kept(self) -> tuple[int, ...]:
        """The positions of the clients that count."""
        return tuple(np.flatnonzero(self.shares.weights).tolist())


@dataclass(frozen=True)
class CoordinateWiseDecision:
    """The result is ``combine`` of the models y_i of these clients, for each coordinate alone.

    ``combine`` takes a block (clients, coordinates) of float32 or float64, which it may write to,
    and returns float64 (coordinates). Buffers are treated as parameters are.
    """

    kept: tuple[int, ...]
    combine: Callable[[Array], Values]


Decision = LinearDecision | CoordinateWiseDecision


@dataclass(frozen=True)
class Step:
    """What a server optimizer knows of the step that it takes.

    ``number`` counts its steps from 1 on. ``share`` is |S| / N: the clients that take part, of
    all clients of the run; 1 where nobody knows how many these are.
    """

    number: int
    share: float = 1.0
