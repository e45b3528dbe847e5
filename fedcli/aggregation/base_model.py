"""The base models that updates were trained from, and the tensors that a round's updates hold.

Frozen tensors and local layers are withheld: no update holds them. Control variates travel with
the model as ``control/<parameter>``. All updates of a round hold the same tensors.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from fedcli.errors import BadInputError, CheckpointError
from fedcli.formats.checkpoint import Checkpoint
from fedcli.formats.dtypes import is_float
from fedcli.formats.metadata import Kind, Metadata, Role
from fedcli.formats.safetensors import Layout, layout_in_order, layout_of
from fedcli.plan.layer_patterns import check_patterns, check_ties, withheld
from fedcli.run import Run
from fedcli.run.round import Round
from fedcli.security.global_model import check_global_model

CONTROL = "control"
PARTIAL_DTYPE = np.dtype(np.float64)


def slot_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype of the server state and the controls of parameters of ``dtype``."""
    return dtype if dtype == np.float64 else np.dtype(np.float32)


@dataclass(frozen=True)
class Base:
    """The model that updates were trained from, and the tensors that they must hold.

    ``whole`` is the layout of the model; ``layout`` and ``roles`` describe its updates.
    """

    run: Run
    round: Round
    sha256: str
    metadata: Metadata
    whole: Layout
    layout: Layout
    roles: Mapping[str, Role]
    identity: tuple[int, ...] = ()  # of the file with this SHA-256

    def open(self) -> Checkpoint:
        """Reopen the model. Raises ``BadInputError`` if the file was replaced."""
        model = Checkpoint(self.path, Kind.GLOBAL)
        if model.file.identity != self.identity:
            model.close()
            raise BadInputError("was replaced while in use; repeat the command", path=self.path)
        return model

    @property
    def path(self) -> Path:
        """The global model of the previous round."""
        return self.run.round(self.round.number - 1).global_model

    @cached_property
    def largest_update(self) -> int | None:
        """How many bytes its updates may have."""
        return self.run.largest_update(self.round.number)

    @property
    def tied(self) -> Mapping[str, str]:
        """The other names of tensors, under which updates do not hold them; see ``Metadata``."""
        return self.metadata.tied or {}

    @property
    def withheld(self) -> list[str]:
        """The tensors that its updates hold under no name, in model order."""
        return [name for name in self.whole if self.tied.get(name, name) not in self.layout]

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
        """Return this base for updates without the tensors ``away`` but with ``controls``."""
        away = {*away, *self.tied}
        kept = {n: (i.dtype, i.shape) for n, i in self.whole.items() if n not in away}
        roles = {n: role for n, role in self.metadata.roles.items() if n not in away}
        for name in controls:
            info = self.whole[parameter_of(name)]
            kept[name], roles[name] = (slot_dtype(info.dtype), info.shape), Role.CONTROL
        return replace(self, layout=layout_of(kept), roles=roles)

    def partial_layout(self) -> Layout:
        """Return the layout of a partial mean: an update's tensors in order, floats as float64."""
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
    """Read the header and the digest of a round's base model.

    Raises what ``check_global_model`` raises.
    """
    before = run.round(round_.number - 1)
    with Checkpoint(before.global_model, Kind.GLOBAL) as model:
        layout = layout_of({name: (i.dtype, i.shape) for name, i in model.layout.items()})
        _check_tied(model)
        found, sha256, identity = model.metadata, model.digest(), model.file.identity
    check_global_model(run, before, found, sha256)
    return Base(run, round_, sha256, found, layout, layout, found.roles, identity)


def _check_tied(model: Checkpoint) -> None:
    """Raise ``CheckpointError`` for ties that the model cannot have."""
    tied = model.metadata.tied or {}
    kinds = {name: (info.dtype, info.shape) for name, info in model.layout.items()}
    for alias, name in tied.items():
        if name in tied or alias not in kinds or kinds[alias] != kinds.get(name):
            raise CheckpointError(
                f"ties {alias!r} to {name!r}, which are not tensors of one shape", path=model.path
            )


@dataclass(frozen=True)
class Contents:
    """What an update declares: patterns of the tensors it withholds, and names of its controls."""

    freeze: tuple[str, ...]
    local_layers: tuple[str, ...]
    controls: frozenset[str]

    @classmethod
    def of(cls, found: Metadata) -> "Contents":
        """Read it from metadata. Raises ``ValueError``."""
        training = found.training
        check_patterns(training.freeze, "freeze")
        check_patterns(training.local_layers, "local_layers")
        controls = (name for name, role in found.roles.items() if role == Role.CONTROL)
        return cls(training.freeze, training.local_layers, frozenset(controls))

    def applied_to(self, base: Base) -> Base:
        """Return the base for updates with these contents. Raises ``ValueError``."""
        away = withheld(self.freeze, self.local_layers, base.whole)
        check_ties(away, base.tied, "freeze, local_layers")
        holding = base.holding(away, ())
        parameters = set(holding.parameters())
        if away and not parameters:
            raise ValueError("withholds every parameter of the model (freeze, local_layers)")
        for name in sorted(self.controls):
            if name in base.whole or f"{CONTROL}/{parameter_of(name)}" != name:
                raise ValueError(f"tensor {name!r}: has the role of a control but not its name")
            if parameter_of(name) not in parameters:
                raise ValueError(f"has a control {name!r} but no such parameter")
        return base.holding(away, self.controls) if self.controls else holding


@dataclass(frozen=True)
class Agreement:
    """The tensors that the updates of a round must hold, as ``whose`` updates declare them.

    ``bases`` are by round.
    """

    bases: Mapping[int, Base]
    declared: Contents | None = None
    whose: str = ""

    @classmethod
    def of(cls, bases: Mapping[int, Base], said: Sequence[tuple[str, Contents]]) -> "Agreement":
        """Decide by majority what updates hold; the first declaration breaks ties.

        ``bases`` have all tensors of the models; ``said`` pairs each update with its contents.
        Contents that do not fit the models are ignored.
        """
        votes = Counter(declared for _, declared in said)
        for declared, _ in votes.most_common():
            with suppress(ValueError):
                agreed = {number: declared.applied_to(base) for number, base in bases.items()}
                first, its = said[0]
                return cls(agreed, declared, first if its == declared else "most of the updates")
        return cls(bases)

    def base_of(self, whole: Base, declared: Contents) -> Base:
        """Return the agreed base of an update that was trained from ``whole``.

        Raises ``ValueError`` if the update declares other contents.
        """
        base = self.bases[whole.round.number]
        if declared == self.declared:
            return base
        mine = declared.applied_to(whole)
        if other := sorted(mine.layout.keys() ^ base.layout.keys()):
            here, there = ("has", "is not") if other[0] in mine.layout else ("withholds", "is")
            raise ValueError(
                f"{here} tensor {other[0]!r}, which {there} in {self.whose}; all updates of a"
                " round need the same --freeze, --local-layers and --algorithm"
            )
        return base
