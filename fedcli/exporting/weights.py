"""Weights as the bytes of a plain safetensors file. Equal weights give equal bytes."""

from collections.abc import Mapping

import numpy as np

from fedcli.formats.dtypes import Array, as_float, from_float
from fedcli.formats.safetensors import encode_header, layout_of

Weights = Mapping[str, Array]
A, B = ".lora_a", ".lora_b"


def merged_adapters(weights: Weights, scale: float) -> dict[str, Array]:
    """Return the weights of the plain network that computes the same: W + (α / r) B A.

    They are computed in float64 and rounded once (Hu et al. 2022, section 4.1, equation 3).
    Weights without adapters are returned unchanged.
    """
    plain = {name: values for name, values in weights.items() if not name.endswith((A, B))}
    for name in weights:
        if name.endswith(A):
            layer = name.removesuffix(A)
            a, b = (as_float(weights[layer + end]).astype(np.float64) for end in (A, B))
            old = plain[f"{layer}.weight"]
            change = np.tensordot(b.reshape(len(b), -1), a, 1)
            new = as_float(old).astype(np.float64) + scale * change
            plain[f"{layer}.weight"] = from_float(new, old.dtype)
    return plain


def as_safetensors(weights: Weights, notes: Mapping[str, str]) -> bytes:
    """Return a safetensors file with the names of the ``state_dict``, and plain metadata."""
    layout = layout_of({name: (array.dtype, array.shape) for name, array in weights.items()})
    parts = [encode_header(layout, {"format": "pt", **notes})]
    parts += [np.asarray(weights[name], order="C").tobytes() for name in layout]
    return b"".join(parts)
