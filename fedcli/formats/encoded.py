"""Encoded updates: flat tensors in place of the model's, decoded against the base model.

The parameters are one vector, in the order of the update's layout, and the control variates of an
algorithm another. Names, shapes and roles come from the base model, which the update names by its
SHA-256. An encoded update stands for the values fl(x + c): base model plus decoded step.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fedcli.codecs import Encoded, Vector
from fedcli.codecs.base import Steps
from fedcli.formats.dtypes import Array, as_float, from_float, is_float
from fedcli.formats.metadata import Role
from fedcli.formats.safetensors import Layout
from fedcli.randomness import stream_seed

BUFFERS = "encoded/buffers"
COUNTERS = "encoded/counters"
CONTROLS = "encoded/control"
PARAMETERS = "encoded"
HALF, SINGLE = np.dtype("<f2"), np.dtype("<f4")

Values = Mapping[str, Array]


@dataclass(frozen=True)
class Parts:
    """The tensors of an update by what is done with them, in the order of its layout."""

    parameters: tuple[str, ...]
    controls: tuple[str, ...]
    buffers: tuple[str, ...]
    counters: tuple[str, ...]

    @classmethod
    def of(cls, layout: Layout, roles: Mapping[str, Role]) -> "Parts":
        """Sort the tensors of a layout."""
        floats = [name for name, info in layout.items() if is_float(info.dtype)]
        role = {name: roles.get(name, Role.PARAMETER) for name in layout}

        def those(wanted: Role) -> tuple[str, ...]:
            return tuple(name for name in floats if role[name] == wanted)

        return cls(
            those(Role.PARAMETER),
            those(Role.CONTROL),
            tuple(n for n in floats if role[n] not in (Role.PARAMETER, Role.CONTROL)),
            tuple(name for name, info in layout.items() if not is_float(info.dtype)),
        )

    @property
    def groups(self) -> dict[str, tuple[str, ...]]:
        """The tensors that are encoded as one vector, by the start of its tensors' names."""
        return {PARAMETERS: self.parameters} | ({CONTROLS: self.controls} if self.controls else {})


def vector_of(layout: Layout, names: tuple[str, ...], run_seed: int, round_number: int) -> Vector:
    """Return the vector of some tensors of an update of a round."""
    sizes = tuple(math.prod(layout[name].shape) for name in names)
    return Vector(sizes, stream_seed(run_seed, round_number, "encoding"))


def flat(values: Values, names: tuple[str, ...]) -> Steps:
    """Return tensors as one float32 vector."""
    pieces = [as_float(values[name]).astype(np.float32).reshape(-1) for name in names]
    return np.concatenate([np.zeros(0, np.float32), *pieces])


def changes(names: tuple[str, ...], new: Values, old: Values, left: Values) -> Steps:
    """Return (y − x) + e as one float32 vector, rounded after each operation.

    ``left`` holds residuals e by tensor; those that are missing are 0. Values that are not finite
    stay so, without a warning.
    """
    pieces = [_change(new[name], old[name], left.get(name)) for name in names]
    return np.concatenate([np.zeros(0, np.float32), *pieces])


def _change(new: Array, old: Array, left: Array | None) -> Steps:
    y, x = as_float(new).reshape(-1), as_float(old).reshape(-1)
    wide = np.result_type(y.dtype, np.float32)  # half precision is subtracted in single
    with np.errstate(over="ignore", invalid="ignore"):
        change: Steps = (y.astype(wide) - x.astype(wide)).astype(np.float32)
        if left is not None:
            change += as_float(left).reshape(-1).astype(np.float32)
    return change


def split(layout: Layout, names: tuple[str, ...], steps: Steps) -> dict[str, Array]:
    """Return a vector as the tensors that it consists of, by name."""
    ends = np.cumsum([math.prod(layout[name].shape) for name in names])
    pieces = np.split(steps, ends[:-1])
    return {n: p.reshape(layout[n].shape) for n, p in zip(names, pieces, strict=True)}


def tensors_of(encoded: Encoded, prefix: str) -> dict[str, Array]:
    """Return the tensors of an encoded vector, without empty ones."""
    found: dict[str, Array] = {f"{prefix}/data": encoded.data}
    if encoded.table.size:
        found[f"{prefix}/table"] = encoded.table
    if encoded.scales.size:
        found[f"{prefix}/scales"] = encoded.scales
    return found


def others_of(parts: Parts, values: Values, base: Values) -> dict[str, Array]:
    """Return what no codec encodes: changes of buffers in half precision, and counters.

    Buffers whose change overflows half precision are sent in single precision.
    """
    found: dict[str, Array] = {}
    if parts.buffers:
        change = flat(values, parts.buffers) - flat(base, parts.buffers)
        with np.errstate(over="ignore"):
            half = change.astype(HALF)
        found[BUFFERS] = half if np.isfinite(half).all() else change
    if parts.counters:
        numbers = [values[name].astype(np.int64).reshape(-1) for name in parts.counters]
        found[COUNTERS] = np.concatenate(numbers)
    return found


def add_step(base: Array, steps: Steps) -> Array:
    """Return fl(x + c) in the dtype of the base; a float32 addition for float32."""
    values = np.empty_like(base)
    write_step(values, base, steps)
    return values


def write_step(into: Array, base: Array | None, steps: Steps) -> None:
    """Fill ``into`` with fl(x + c) in its dtype, the dtype of the base; with c without a base."""
    with np.errstate(over="ignore", invalid="ignore"):  # whoever uses it refuses what is not finite
        if base is None:
            into[...] = from_float(steps.astype(np.float64), into.dtype)
        elif into.dtype == np.float32:
            np.add(base, steps, out=into)
        else:
            into[...] = from_float(as_float(base).astype(np.float64) + steps, into.dtype)
