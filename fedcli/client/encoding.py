"""Encode a client's update: its step, plus what the encoding of earlier steps has lost."""

from dataclasses import dataclass, replace

import numpy as np

from fedcli.client.local_training import Trained
from fedcli.client.session import Session
from fedcli.client.starting_state import StartingState
from fedcli.codecs import Codec, Encoded, Vector
from fedcli.codecs.base import Steps
from fedcli.codecs.feedback import decode_all, residual
from fedcli.errors import FedcliError, UsageError
from fedcli.formats.dtypes import as_float
from fedcli.formats.encoded import (
    Parts,
    Values,
    add_step,
    changes,
    flat,
    others_of,
    split,
    tensors_of,
    vector_of,
)
from fedcli.formats.metadata import Metadata
from fedcli.formats.safetensors import Layout, layout_of
from fedcli.run.client_state import RESIDUAL


@dataclass(frozen=True)
class Group:
    """Tensors of a client's update that are encoded as one vector.

    ``layout`` is that of the update as it is decoded, ``seed`` is run seed and round, and
    ``prefix`` starts the names of the encoded tensors.
    """

    client: str
    codec: Codec
    layout: Layout
    names: tuple[str, ...]
    prefix: str
    seed: tuple[int, int]

    @property
    def vector(self) -> Vector:
        """The vector of all values, in the order of ``names``."""
        return vector_of(self.layout, self.names, *self.seed)

    def encode(self, steps: Steps) -> Encoded:
        """Encode steps.

        Raises ``FedcliError`` for steps that are NaN or infinite, and ``UsageError`` for those
        that the codec cannot hold.
        """
        self._check_finite(steps)
        try:
            return self.codec.encode(steps, self.vector)
        except ValueError as error:
            raise UsageError(
                f"--encode {self.codec}: client {self.client}: {error}",
                hint="a smaller share or another encoding may do; float32 holds everything",
            ) from None

    def _check_finite(self, steps: Steps) -> None:
        if np.isfinite(steps).all():
            return
        pieces = split(self.layout, self.names, steps)
        name = next(n for n, piece in pieces.items() if not np.isfinite(piece).all())
        raise FedcliError(
            f"client {self.client}: tensor {name!r}: its change is NaN or infinite, which"
            f" --encode {self.codec} cannot send",
            hint="lower --lr, or train the rounds of this client's residual again",
            client=self.client,
        )

    def decode(self, encoded: Encoded) -> Steps:
        """Return the steps that everybody decodes."""
        return decode_all(self.codec, encoded, self.vector)


def encoded(session: Session, update: Metadata, start: StartingState, trained: Trained) -> Trained:
    """Return what a training sends, encoded as planned, and what it keeps, with the residual.

    ``update`` has the roles of control variates. Raises what ``Group.encode`` raises.
    """
    codec, client = session.plan.codec, update.client or ""
    if codec is None:
        return trained
    base = session.base.read()
    layout = layout_of({name: (a.dtype, a.shape) for name, a in trained.sent.items()})
    parts = Parts.of(layout, {**session.base.roles, **update.roles})
    seed = (session.run.info.seed, session.round.number)
    sent, kept = others_of(parts, trained.sent, base), dict(trained.kept)
    for prefix, names in parts.groups.items():
        group = Group(client, codec, layout, names, prefix, seed)
        if names == parts.controls:
            tensors, state = _controls(group, trained, start.kept)
        else:
            steps = changes(names, trained.sent, base, start.residual)
            tensors, state = _parameters(group, steps, session.plan.feedback or 0.0)
        sent |= tensors
        kept |= state
    return replace(trained, sent=sent, kept=kept)


def _parameters(group: Group, steps: Steps, feedback: float) -> tuple[Values, Values]:
    """Return the encoded steps, and the residuals to keep."""
    sent = group.encode(steps)
    if not feedback:
        return tensors_of(sent, group.prefix), {}
    left = residual(steps, group.decode(sent), feedback)
    pieces = split(group.layout, group.names, left)
    return tensors_of(sent, group.prefix), {f"{RESIDUAL}/{n}": v for n, v in pieces.items()}


def _controls(group: Group, trained: Trained, before: Values) -> tuple[Values, Values]:
    """Return the encoded changes of control variates, and the client's own, changed by as much.

    So the server's is the mean of the clients' own, whatever the encoding loses, and the next
    change makes up for it. Richtárik, Sokolov, Fatkhullin (2021), "EF21", algorithm 2.
    """
    sent = group.encode(flat(trained.sent, group.names))
    own, none = {}, np.zeros((), np.float32)
    for name, step in split(group.layout, group.names, group.decode(sent)).items():
        start = as_float(before.get(name.partition("/")[2], none))
        own[name] = add_step(np.full(step.shape, start, group.layout[name].dtype), step)
    return tensors_of(sent, group.prefix), own
