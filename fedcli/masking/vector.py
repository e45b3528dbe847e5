"""What a masked vector holds: steps of parameters, changes of control variates, and examples."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedcli.codecs.base import Positions, Steps
from fedcli.codecs.randk import RandK
from fedcli.formats.dtypes import Array
from fedcli.formats.encoded import Parts, split, vector_of
from fedcli.formats.safetensors import Layout
from fedcli.masking.masks import Integers, Words
from fedcli.masking.quantise import Grid, Quantised
from fedcli.plan import Plan
from fedcli.run import Run
from fedcli.run.round import Round

CLIPS = ("--secagg-clip", "--secagg-control-clip")  # of parameters, of control variates


@dataclass(frozen=True)
class MaskedPart:
    """Parameters or control variates: values one after another in a masked vector, on one grid.

    ``positions`` are the coordinates that are sent, ascending, which are the same for all clients;
    None for all of them.
    """

    names: tuple[str, ...]
    layout: Layout
    grid: Grid
    positions: Positions | None
    is_of_controls: bool

    @property
    def size(self) -> int:
        """The number of values in the vector."""
        return self._whole if self.positions is None else self.positions.size

    @property
    def _whole(self) -> int:
        return sum(math.prod(self.layout[name].shape) for name in self.names)

    def quantise(self, steps: Steps, weight: float = 1.0) -> Quantised:
        """Return the values to send of all steps. Raises what ``Grid.quantise`` does."""
        sent = steps if self.positions is None else steps[self.positions]
        return self.grid.quantise(sent, weight)

    def tensors(self, integers: Array) -> dict[str, Array]:
        """Return integers of the vector by tensor; those that were not sent are 0."""
        if self.positions is not None:
            spread = np.zeros(self._whole, integers.dtype)
            spread[self.positions] = integers
            integers = spread
        return split(self.layout, self.names, integers)


@dataclass(frozen=True)
class VectorLayout:
    """The parts of a masked vector of ``clients``, and how clients are weighted.

    With ``most_examples``, M, a client of n examples sends its steps n/M times, and n as the last
    value, at most M of it; without it all clients count alike.
    """

    parts: tuple[MaskedPart, ...]
    clients: int
    most_examples: int | None

    @classmethod
    def of(cls, run: Run, round_: Round, grid: Grid, layout: Layout, held: Parts) -> "VectorLayout":
        """Return the layout of the updates of a round that hold these tensors.

        ``grid`` is that of parameters.
        """
        plan = run.info.plan
        secagg, codec = plan.secagg, plan.train.codec
        assert secagg is not None
        controls = Grid(secagg.control_clip or grid.clip, grid.bits, grid.clients)
        parts = []
        for tensors, its in ((held.parameters, grid), (held.controls, controls)):
            is_second = its is controls
            vector = vector_of(layout, tensors, run.info.seed, round_.number)
            drawn = codec.drawn(vector) if isinstance(codec, RandK) else None
            parts.append(MaskedPart(tensors, layout, its, drawn, is_second))
        return cls(tuple(part for part in parts if part.names), grid.clients, weighed_by(plan))

    @property
    def size(self) -> int:
        """The number of values in the vector."""
        return sum(part.size for part in self.parts) + (self.most_examples is not None)

    def counted(self, examples: int) -> int:
        """Return how many of a client's examples count."""
        return examples if self.most_examples is None else min(examples, self.most_examples)

    def weight(self, examples: int) -> float:
        """Return n/M, by which a client multiplies its steps; 1 if all count alike."""
        return 1.0 if self.most_examples is None else self.counted(examples) / self.most_examples

    def joined(self, parts: list[Integers], examples: int) -> Integers:
        """Return a client's integers as one vector."""
        count = [] if self.most_examples is None else [self.counted(examples)]
        return np.concatenate([*parts, np.array(count, np.int32)])

    def divided(self, total: Words) -> Iterator[tuple[MaskedPart, Integers]]:
        """Yield the parts with their sums."""
        first, values = 0, total.view(np.int32)
        for part in self.parts:
            yield part, values[first : first + part.size]
            first += part.size

    def weight_of(self, total: Words, clients: int) -> int:
        """Return what a sum is to be divided by: the examples of its clients, or their number."""
        return clients if self.most_examples is None else int(total.view(np.int32)[-1])

    @property
    def scale(self) -> int:
        """What a sum times the step of its grid is to be multiplied by: M, or 1."""
        return self.most_examples or 1


def weighed_by(plan: Plan) -> int | None:
    """Return M if clients are weighted by their examples, else None."""
    by_examples = plan.aggregate.weighting == "examples"
    return plan.aggregate.max_examples if by_examples else None


def said_of(plan: Plan) -> dict[str, Any]:
    """Return what a masked update says of its vector, besides the grid of its parameters."""
    controls = None if plan.secagg is None else plan.secagg.control_clip
    found = {"control_clip": controls, "examples": weighed_by(plan), "encode": plan.train.encode}
    return {key: value for key, value in found.items() if value is not None}
