"""Encoded updates of runs made by hand: written from plain ones, and what they stand for."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fedcli.codecs import Codec, parse_codec
from fedcli.codecs.feedback import decode_all
from fedcli.formats.checkpoint import Checkpoint, save
from fedcli.formats.dtypes import as_float, from_float
from fedcli.formats.encoded import Parts, flat, others_of, tensors_of, vector_of
from fedcli.formats.metadata import Role
from fedcli.run import Run

Tensors = dict[str, Any]


def codec_of(spec: str) -> Codec:
    found = parse_codec(spec, "--encode")
    assert found is not None
    return found


def encode_update(run: Run, path: Path, spec: str) -> Tensors:
    """Replace a plain update by an encoded one; return the values that it stands for now."""
    with Checkpoint(path) as update:
        values, metadata, layout = update.tensors(), update.metadata, update.layout
    assert metadata.round is not None
    with Checkpoint(run.round(metadata.round - 1).global_model) as model:
        base = model.tensors()
    codec, parts = codec_of(spec), Parts.of(layout, metadata.roles)
    tensors, meant = others_of(parts, values, base), dict(values)
    for prefix, names in parts.groups.items():
        vector = vector_of(layout, names, run.info.seed, metadata.round)
        steps = flat(values, names)
        if prefix == "encoded":
            with np.errstate(over="ignore"):
                steps = steps - flat(base, names)
        encoded = codec.encode(steps, vector)
        tensors |= tensors_of(encoded, prefix)
        meant |= _moved(layout, names, base, decode_all(codec, encoded, vector))
    if parts.buffers:
        meant |= _moved(layout, parts.buffers, base, tensors["encoded/buffers"])
    controls = {name: role for name, role in metadata.roles.items() if role == Role.CONTROL}
    training = replace(metadata.training, encode=str(codec))
    said = replace(metadata, encoding=codec.as_json(), roles=controls, training=training)
    save(path, tensors, said)
    return meant


def _moved(layout: Any, names: tuple[str, ...], base: Tensors, steps: Any) -> Tensors:
    """Base values plus steps, each rounded once to the tensor's dtype; controls have no base."""
    found, first = {}, 0
    for name in names:
        info = layout[name]
        size = int(np.prod(info.shape))
        own = steps[first : first + size].astype(np.float64)
        if name in base:
            own = own + as_float(base[name]).reshape(-1).astype(np.float64)
        found[name] = from_float(own, info.dtype).reshape(info.shape)
        first += size
    return found
