"""What a rule knows about the clients, and what it may decide before values are combined.

The update of client i is a model y_i, trained from a base model x_i, usually the current model x.
Norms, distances and clipping apply to the differences Δ_i = y_i - x_i of parameters, never to
buffers or counters.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fedcli.formats.dtypes import Array, Values
from fedcli.formats.manifest import BoundedClaim
from fedcli.formats.training_record import TrainingRecord

RuleOptions = Mapping[str, Any]


class Measures(IntEnum):
    """What must be measured, in an extra pass, before a rule can decide."""

    NOTHING = 0
    SQUARES = 1  # |Δ_i|²
    DISTANCES = 2  # |Δ_i - Δ_j|², of many updates; of few, as GRAM
    GRAM = 3  # Δ_i · Δ_j


@dataclass(frozen=True)
class Contributor:
    """What a rule may know about one update, or about a partial mean of ``clients`` updates.

    ``num_examples`` is None if it is withheld. ``staleness`` is the number of rounds completed
    since the update's own. ``training`` is the
    client's record: hyper-parameters, steps, initial loss.
    """

    name: str
    path: Path
    num_examples: int | None
    clients: int = 1
    staleness: int = 0
    training: TrainingRecord = field(default_factory=TrainingRecord)


@dataclass(frozen=True)
class Shares:
    """The shares ``weights[i] / divisor`` of the clients, which need not add up to 1.

    Weights and divisor are separate because products of float32 values and integers are exact.
    ``bounded`` lists the claims that count less than clients say.
    """

    weights: Values
    divisor: float
    bounded: tuple[BoundedClaim, ...] = ()


class Distances(Protocol):
    """The squared distances |Δ_i - Δ_j|² of n updates, of which n² do not fit into memory."""

    def __len__(self) -> int:
        """Return n."""

    @property
    def panels(self) -> range:
        """The first rows of panels of rows."""

    @property
    def squares(self) -> Values:
        """The squares |Δ_i|² (n,), which bound the rounding of distances."""

    def rows(self, first: int) -> NDArray[np.float32]:
        """Return the panel of rows that begins with one, (rows, n), rounded to float32."""

    def exact_rows(self, which: Sequence[int]) -> Values:
        """Return some rows, (rows, n), in float64 and exact; this reads the updates again."""


@dataclass(frozen=True)
class Clients:
    """The inputs of a reducer's decision; arrays are in client order.

    ``gram`` (n, n) holds the inner products of the differences, and is the reducer's own, which may
    overwrite it; ``squares`` (n,) is its diagonal.
    With ``has_center``, the last row and column of ``gram`` belong to the previous result.
    ``distances`` are those of many updates, in place of ``gram``, if the rule needs no more.
    """

    shares: Shares
    squares: Values | None = None
    gram: Values | None = None
    has_center: bool = False
    distances: Distances | None = None

    def __len__(self) -> int:
        return len(self.shares.weights)


@dataclass(frozen=True)
class LinearDecision:
    """The result is x + Σ c_i Δ_i + c·center, with c_i = weights_i / divisor.

    Clients of weight 0 are dropped, and their parameters are not read. Buffers become the weighted
    mean of the kept clients or, with ``median_buffers``, the coordinate-wise median of all clients,
    so that buffers cannot be used to attack a rule that ignores them. ``settled`` is false if the
    weights are those of an iteration that was stopped.
    """

    shares: Shares
    center: float = 0.0
    median_buffers: bool = True
    settled: bool = True

    @property
    def kept(self) -> tuple[int, ...]:
        """The positions of the clients with weight."""
        return tuple(np.flatnonzero(self.shares.weights).tolist())


@dataclass(frozen=True)
class CoordinateWiseDecision:
    """The result is ``combine`` of the models y_i of the kept clients, coordinate by coordinate.

    ``combine`` takes a block (clients, coordinates) of float32 or float64, which it may overwrite,
    and returns float64 (coordinates,). Buffers are treated like parameters or, with
    ``median_buffers``, become the coordinate-wise median of all clients.
    """

    kept: tuple[int, ...]
    combine: Callable[[Array], Values]
    median_buffers: bool = True


@dataclass(frozen=True)
class GridNoise:
    """Integer noise, in units of ``grid``; ``draw`` returns that of a range of coordinates."""

    grid: float
    draw: Callable[[int, int], NDArray[np.int64]]


@dataclass(frozen=True)
class ClippedDecision:
    """The result is x + (1/D) [Σ f_i Δ_i + Z], for the constant ``divisor`` D, however many come.

    ``factors`` (n,) shorten the steps; a step with the factor 0 may have any values. With
    ``noise``, f_i Δ_i is rounded towards zero to its grid. Updates hold parameters only.
    """

    factors: Values
    divisor: float
    noise: GridNoise | None = None

    @property
    def kept(self) -> tuple[int, ...]:
        """The positions of all clients: which ones have the factor 0 depends on their data."""
        return tuple(range(len(self.factors)))


Decision = LinearDecision | CoordinateWiseDecision | ClippedDecision


@dataclass(frozen=True)
class Step:
    """What a server optimizer knows about its current step.

    ``number`` counts from 1. ``share`` is |S| / N, the share of all clients that take part, or 1
    if N is unknown.
    """

    number: int
    share: float = 1.0
