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
from fedcli.codecs import Codec, parse_codec
from fedcli.codecs.base import Steps
from fedcli.codecs.feedback import decode_all, residual
from fedcli.errors import UsageError
from fedcli.formats.checkpoint import CheckpointWriter
from fedcli.formats.delta import HELD, held_tensors
from fedcli.formats.dtypes import Array, as_float
from fedcli.formats.encoded import BUFFERS, Parts, add_step, flat, others_of, tensors_of, vector_of
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
    parts = Parts.of(layout, base.roles)
    with base.open() as opened:
        old = {name: opened.tensor(name) for name in layout}
    new = {name: _written(model, name) for name in layout}
    steps = _steps(parts.parameters, new, old, before)
    vector = vector_of(layout, parts.parameters, base.metadata.seed or 0, base.round.number)
    try:
        encoded = downlink.codec.encode(steps, vector)
    except ValueError as error:
        raise UsageError(
            f"--encode-global {downlink.codec}: {error}",
            hint="use another encoding; --encode-global float32 sends the model as it is",
        ) from None
    sent = decode_all(downlink.codec, encoded, vector)
    others = others_of(parts, new, old)
    _replace(base, model, _split(sent, parts.parameters, layout), old)
    if parts.buffers:
        changes = others[BUFFERS].astype(np.float32)
        _replace(base, model, _split(changes, parts.buffers, layout), old)
    tensors = {**tensors_of(encoded, "encoded"), **others, HELD: held_tensors(base.whole, layout)}
    kept: dict[str, Array] = {}
    if downlink.feedback:
        left = _split(residual(steps, sent, downlink.feedback), parts.parameters, layout)
        kept = {f"{RESIDUAL}/{n}": v.astype(slot_dtype(old[n].dtype)) for n, v in left.items()}
    return EncodedStep(downlink.codec, tensors, kept)


def _sent(base: Base) -> Layout:
    """Return the layout of the model's tensors that updates change."""
    return layout_of(
        {
            name: (info.dtype, info.shape)
            for name, info in base.layout.items()
            if base.roles.get(name) != Role.CONTROL
        }
    )


def _written(model: CheckpointWriter, name: str) -> Array:
    info = model.layout[name]
    values = np.empty(info.shape, info.dtype)
    model.read_into(values.reshape(-1).view(np.uint8).data, info.start)
    return values


def _steps(names: tuple[str, ...], new: Values, old: Values, before: Values) -> Steps:
    """Return s = (x′ − x) + E as one float32 vector."""
    steps = np.concatenate([np.zeros(0, np.float32), *(_change(new[n], old[n]) for n in names)])
    if before:
        given = {n: before.get(n, np.zeros(old[n].shape, np.float32)) for n in names}
        steps += flat(given, names)
    return steps


def _change(new: Array, old: Array) -> Steps:
    y, x = as_float(new).reshape(-1), as_float(old).reshape(-1)
    with np.errstate(over="ignore"):  # the codec refuses what is infinite
        change: Steps = (y - x).astype(np.float32)
    return change


def _split(steps: Steps, names: tuple[str, ...], layout: Layout) -> dict[str, Array]:
    """Return a vector as the tensors that it consists of."""
    ends = np.cumsum([int(np.prod(layout[name].shape)) for name in names])
    pieces = np.split(steps, ends[:-1])
    return {n: p.reshape(layout[n].shape) for n, p in zip(names, pieces, strict=True)}


def _replace(base: Base, model: CheckpointWriter, steps: Values, old: Values) -> None:
    """Write x + c in place of tensors of the model, under all of their names."""
    names: dict[str, list[str]] = {name: [name] for name in steps}
    for alias, name in base.tied.items():
        names.get(name, []).append(alias)
    for name, step in steps.items():
        values = add_step(old[name], step)
        for one in names[name]:
            model.write(values, model.layout[one].start)
