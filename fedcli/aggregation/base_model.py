"""The global models that updates were made from, and what of them the updates of a round hold.

Frozen tensors and layers that stay with the clients are withheld: they are in no update. Control
variates travel beside the model, as ``control/<parameter>``. All updates of a round have to hold
the same.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fedcli.errors import BadInputError
from fedcli.formats.checkpoint import Checkpoint
from fedcli.formats.dtypes import is_float
from fedcli.formats.metadata import Kind, Metadata, Role
from fedcli.formats.safetensors import Layout, layout_in_order, layout_of
from fedcli.plan.layer_patterns import check_patterns, withheld
from fedcli.run import Run
from fedcli.run.round import Round
from fedcli.security.global_model import check_global_model

CONTROL = "control"
PARTIAL_DTYPE = np.dtype(np.float64)


def slot_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype of what is kept for parameters of ``dtype``, and of their controls."""
    return dtype if dtype == np.float64 else np.dtype(np.float32)


@dataclass(frozen=True)
class Base:
    """What updates were trained from, and have to look like.

    ``whole`` lays out the model; ``layout`` and ``roles`` are of what its updates hold.
    """

    run: Run
    round: Round
    sha256: str
    metadata: Metadata
    whole: Layout
    layout: Layout
    roles: Mapping[str, Role]
    identity: tuple[int, ...] = ()  # of the file whose SHA-256 it is

    def open(self) -> Checkpoint:
        """Open the model again. Raises ``BadInputError`` where it is another file by now."""
        model = Checkpoint(self.path, Kind.GLOBAL)
        if model.file.identity != self.identity:
            model.close()
            raise BadInputError(
                "was replaced while it was used; repeat the command", path=self.path
            )
        return model

    @property
    def path(self) -> Path:
        """The global model of the round before."""
        return self.run.round(self.round.number - 1).global_model

    @property
    def withheld(self) -> list[str]:
        """The tensors that its updates do not hold, in the order of the model."""
        return [name for name in self.whole if name not in self.layout]

    def parameters(self) -> list[str]:
        """Return the parameters that its updates hold."""
        return [
            name
            for name, info in self.layout.items()
            if is_float(info.dtype) and self.roles.get(name, Role.PARAMETER) == Role.PARAMETER
        ]

    def controls(self) -> list[str]:
        """Return the control variates that come with its updates."""
        return [name for name, role in self.roles.items() if role == Role.CONTROL]

    def holding(self, away: Iterable[str], controls: Iterable[str]) -> "Base":
        """Return it with updates that hold neither more nor less than this."""
        away = frozenset(away)
        kept = {n: (i.dtype, i.shape) for n, i in self.whole.items() if n not in away}
        roles = {n: role for n, role in self.metadata.roles.items() if n not in away}
        for name in controls:
            info = self.whole[parameter_of(name)]
            kept[name], roles[name] = (slot_dtype(info.dtype), info.shape), Role.CONTROL
        return replace(self, layout=layout_of(kept), roles=roles)

    def partial_layout(self) -> Layout:
        """Lay out a partial mean: what an update holds, the floats of it as float64.

        The tensors keep the order of the update, in which they are read.
        """
        return layout_in_order(
            {
                name: (PARTIAL_DTYPE if is_float(info.dtype) else info.dtype, info.shape)
                for name, info in self.layout.items()
            }
        )


def parameter_of(control: str) -> str:
    """Return the parameter that a control variate belongs to."""
    return control.removeprefix(f"{CONTROL}/")


def read_base(run: Run, round_: Round) -> Base:
    """Read the header and the digest of the model that a round starts from.

    Raises what ``check_global_model`` does for one that is not what it should be.
    """
    before = run.round(round_.number - 1)
    with Checkpoint(before.global_model, Kind.GLOBAL) as model:
        layout = layout_of({name: (i.dtype, i.shape) for name, i in model.layout.items()})
        found, sha256, identity = model.metadata, model.digest(), model.file.identity
    check_global_model(run, before, found, sha256)
    return Base(run, round_, sha256, found, layout, layout, found.roles, identity)


@dataclass(frozen=True)
class Contents:
    """What an update says of what it holds: patterns of tensors withheld, names of controls."""

    freeze: tuple[str, ...]
    local_layers: tuple[str, ...]
    controls: frozenset[str]

    @classmethod
    def of(cls, found: Metadata) -> "Contents":
        """Read it; raise ``ValueError`` that says what is wrong."""
        training = found.training
        check_patterns(training.freeze, "freeze")
        check_patterns(training.local_layers, "local_layers")
        controls = (name for name, role in found.roles.items() if role == Role.CONTROL)
        return cls(training.freeze, training.local_layers, frozenset(controls))

    def applied_to(self, base: Base) -> Base:
        """Return the base with what its updates hold by this; raise ``ValueError``."""
        away = withheld(self.freeze, self.local_layers, base.whole)
        holding = base.holding(away, ())
        parameters = set(holding.parameters())
        if away and not parameters:
            raise ValueError("withholds every parameter of the model (freeze, local_layers)")
        for name in sorted(self.controls):
            if name in base.whole or f"{CONTROL}/{parameter_of(name)}" != name:
                raise ValueError(f"tensor {name!r}: has the role of a control, and not its name")
            if parameter_of(name) not in parameters:
                raise ValueError(f"has a control {name!r}, and no such parameter")
        return base.holding(away, self.controls) if self.controls else holding


@dataclass(frozen=True)
class Agreement:
    """What the updates of a round hold: ``bases`` by round, as ``whose`` updates have it.

    ``declared`` is what those say.
    """

    bases: Mapping[int, Base]
    declared: Contents | None = None
    whose: str = ""

    @classmethod
    def of(cls, bases: Mapping[int, Base], said: Sequence[tuple[str, Contents]]) -> "Agreement":
        """Decide by majority what updates hold; of equally many, the first tells.

        ``bases`` hold all tensors of the models, ``said`` is whose update says what. What cannot
        be of these models has no voice.
        """
        votes = Counter(declared for _, declared in said)
        for declared, _ in votes.most_common():
            with suppress(ValueError):
                agreed = {number: declared.applied_to(base) for number, base in bases.items()}
                first, its = said[0]
                return cls(agreed, declared, first if its == declared else "most of the updates")
        return cls(bases)

    def base_of(self, whole: Base, declared: Contents) -> Base:
        """Return the base of an update that was trained from ``whole``, with what updates hold.

        Raises ``ValueError`` where the update says that it holds something else.
        """
        base = self.bases[whole.round.number]
        if declared == self.declared:
            return base
        mine = declared.applied_to(whole)
        if other := sorted(mine.layout.keys() ^ base.layout.keys()):
            here, there = ("has", "is not") if other[0] in mine.layout else ("withholds", "is")
            raise ValueError(
                f"{here} tensor {other[0]!r}, which {there} in {self.whose}; the updates of a"
                " round have to be made with the same --freeze, --local-layers and --algorithm"
            )
        return base
