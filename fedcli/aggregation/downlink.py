"""Encode the step to a round's global model, so that clients need only its delta.

The model of a round is the decoded one: x_r = fl32(x_(r−1) + d), where d is what the encoding
leaves of the step s = (x′ − x_(r−1)) + E, and E = λ(s − d) of the round before.
Tang et al. (2019), "DoubleSqueeze"; Sattler et al. (2019), "Sparse ternary compression".
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedcli.aggregation.base_model import Base, slot_dtype
from fedcli.codecs import Codec, Encoded, Vector, parse_codec
from fedcli.codecs.base import Steps
from fedcli.codecs.feedback import decode_all, residual
from fedcli.errors import UsageError
from fedcli.formats.checkpoint import CheckpointWriter
from fedcli.formats.delta import HELD, held_tensors
from fedcli.formats.dtypes import Array
from fedcli.formats.encoded import (
    BUFFERS,
    Parts,
    add_step,
    changes,
    others_of,
    split,
    tensors_of,
    vector_of,
)
from fedcli.formats.metadata import Role
from fedcli.formats.safetensors import Layout, layout_of

RESIDUAL = "residual"

Values = Mapping[str, Array]


@dataclass(frozen=True)
class Downlink:
    """How the step is encoded: the codec, and λ, the share of what it loses that is kept."""

    codec: Codec
    feedback: float = 0.0

    @classmethod
    def of(cls, options: Mapping[str, object]) -> "Downlink | None":
        """Build it from the plan's ``downlink``; None if models are sent as they are."""
        codec = parse_codec(str(options.get("encode_global", "float32")), "--encode-global")
        if codec is None:
            return None
        feedback = options.get("feedback_global")
        return cls(codec, float(feedback) if isinstance(feedback, int | float) else 0.0)

    def kept(self, base: Base) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
        """Return dtype and shape of the tensors of the residual that a round ends with."""
        kinds = {n: (slot_dtype(i.dtype), i.shape) for n, i in base.layout.items()}
        names = base.parameters() if self.feedback else []
        return {f"{RESIDUAL}/{name}": kinds[name] for name in names}


@dataclass(frozen=True)
class EncodedStep:
    """An encoded step: the tensors of the delta, and the residual by the state's tensor names."""

    codec: Codec
    tensors: dict[str, Array]
    residual: dict[str, Array]


def encode_step(
    downlink: Downlink, base: Base, model: CheckpointWriter, before: Values
) -> EncodedStep:
    """Encode the step to an unpublished model, and replace the model by the decoded one.

    ``before`` is the residual of the round before, by parameter. Raises ``UsageError`` for a step
    that the codec cannot hold.
    """
    layout = _sent(base)
    parts, old = Parts.of(layout, base.roles), _of_base(base, layout)
    new = {name: _written(model, name) for name in layout}
    steps = changes(parts.parameters, new, old, before)
    vector = vector_of(layout, parts.parameters, base.metadata.seed or 0, base.round.number)
    encoded = _encoded(downlink.codec, steps, vector)
    sent, others = decode_all(downlink.codec, encoded, vector), others_of(parts, new, old)
    moved = split(layout, parts.parameters, sent)
    if parts.buffers:
        moved |= split(layout, parts.buffers, others[BUFFERS].astype(np.float32))
    _replace(base, model, moved, old)
    tensors = {**tensors_of(encoded, "encoded"), **others, HELD: held_tensors(base.whole, layout)}
    left: Mapping[str, Array] = {}
    if downlink.feedback:
        left = split(layout, parts.parameters, residual(steps, sent, downlink.feedback))
    kept = {f"{RESIDUAL}/{n}": v.astype(slot_dtype(old[n].dtype)) for n, v in left.items()}
    return EncodedStep(downlink.codec, tensors, kept)


def _encoded(codec: Codec, steps: Steps, vector: Vector) -> Encoded:
    try:
        return codec.encode(steps, vector)
    except ValueError as error:
        raise UsageError(
            f"--encode-global {codec}: {error}",
            hint="use another encoding; --encode-global float32 sends the model as it is",
        ) from None


def _sent(base: Base) -> Layout:
    """Return the layout of the model's tensors that updates change."""
    return layout_of(
        {
            name: (info.dtype, info.shape)
            for name, info in base.layout.items()
            if base.roles.get(name) != Role.CONTROL
        }
    )


def _of_base(base: Base, layout: Layout) -> dict[str, Array]:
    with base.open() as model:
        return {name: model.tensor(name) for name in layout}


def _written(model: CheckpointWriter, name: str) -> Array:
    info = model.layout[name]
    values = np.empty(info.shape, info.dtype)
    model.read_into(values.reshape(-1).view(np.uint8).data, info.start)
    return values


def _replace(base: Base, model: CheckpointWriter, steps: Values, old: Values) -> None:
    """Write x + c in place of tensors of the model, under all of their names."""
    names: dict[str, list[str]] = {name: [name] for name in steps}
    for alias, name in base.tied.items():
        names.get(name, []).append(alias)
    for name, step in steps.items():
        values = add_step(old[name], step)
        for one in names[name]:
            model.write(values, model.layout[one].start)
