"""What encodings stand for, and the bytes of ``round``, from their definitions, value by value."""

import math
from fractions import Fraction
from typing import Any

import numpy as np

from fedcli.codecs import CHUNK, Vector, parse_codec
from fedcli.codecs.feedback import decode_all


def reference(spec: str, p: Any, vector: Vector) -> Any:
    """The steps that an encoding of p stands for, in float32; no bits are written."""
    name, _, rest = spec.partition("=")
    if name == "float16":
        return p.astype(np.float16).astype(np.float32)
    if name == "sign":
        pieces = np.split(p, np.cumsum(vector.sizes)[:-1])
        means = [np.float32(np.abs(x).astype(np.float64).sum() / max(1, len(x))) for x in pieces]
        return np.concatenate([np.copysign(m, x) for m, x in zip(means, pieces, strict=True)])
    if name == "int8":
        return _int8(p)
    share, _, dtype = rest.partition(",")
    if name == "round":
        return _values(p, Fraction(share))
    result = np.zeros_like(p)
    kept = _drawn(spec, vector) if name == "randk" else _largest(p, Fraction(share))
    assert len(kept) == math.ceil(Fraction(share) * len(p))
    result[kept] = p[kept].astype(dtype or np.float32)
    return result


def _int8(p: Any) -> Any:
    result = []
    for first in range(0, len(p), 2048):
        group = p[first : first + 2048]
        scale = np.abs(group).max() / np.float32(127)
        result.append(np.rint(group / (scale or 1)).astype(np.int8) * scale)
    return np.concatenate(result)


def _drawn(spec: str, vector: Vector) -> list[int]:
    codec = parse_codec(spec, "--encode")
    assert codec is not None
    ones = codec.encode(np.ones(vector.size, np.float32), vector)
    return np.flatnonzero(decode_all(codec, ones, vector)).tolist()  # type: ignore[no-any-return]


def _largest(p: Any, share: Fraction) -> list[int]:
    """The positions of the ⌈F·N⌉ largest magnitudes, ties by lower position, ascending."""
    k = math.ceil(share * len(p))
    found: list[int] = np.sort(np.argsort(-np.abs(p), kind="stable")[:k]).tolist()
    return found


def _levels(p: Any, share: Fraction) -> tuple[np.float32, dict[int, int]]:
    """Δ, and the level max(1, rint(|p| / Δ)) of every position that is sent."""
    kept = [i for i in _largest(p, share) if p[i] != 0]
    if not kept:
        return np.float32(0), {}
    step = np.float32(2 * np.abs(p[kept]).min())
    return step, {i: max(1, int(np.rint(abs(p[i]) / step))) for i in kept}


def _values(p: Any, share: Fraction) -> Any:
    result = np.zeros_like(p)
    step, levels = _levels(p, share)
    for level in sorted(set(levels.values())):
        its = [i for i in levels if levels[i] == level]
        mean = np.float32(np.abs(p[its]).astype(np.float64).mean())
        value = mean if level <= 3 else np.float32(level) * step
        result[its] = np.copysign(value, p[its])
    return result


def round_tensors(p: Any, share: str) -> dict[str, Any]:
    """The table, the data and the scales of ``round=F`` in a file."""
    step, levels = _levels(p, Fraction(share))
    rows, data = [], b""
    for first in range(0, len(p), CHUNK):
        its = [i for i in levels if first <= i < first + CHUNK]
        row, streams = _chunk(its, first, p, levels)
        rows.append(row)
        data += streams
    scales = [step]
    for level in (1, 2, 3):
        magnitudes = [abs(float(p[i])) for i in levels if levels[i] == level]
        mean = sum(map(Fraction, magnitudes)) / len(magnitudes) if magnitudes else level * step
        scales.append(np.float32(mean))
    return {
        "table": np.array(rows, np.int32),
        "data": np.frombuffer(data, np.uint8),
        "scales": np.array(scales, np.float32),
    }


def _chunk(
    positions: list[int], first: int, p: Any, levels: dict[int, int]
) -> tuple[list[int], bytes]:
    before = [first - 1, *positions]
    gaps = [i - j - 1 for i, j in zip(positions, before, strict=False)]
    mean = sum(gaps) / max(1, len(gaps))
    b = max(0, round(math.log2(0.6931 * mean))) if mean else 0
    high = _packed("".join("0" * (g >> b) + "1" for g in gaps))
    low = _packed("".join(format(g % 2**b, f"0{b}b") for g in gaps) if b else "")
    heights = _packed("".join("0" * (levels[i] - 1) + "1" for i in positions))
    signs = _packed("".join("1" if np.signbit(p[i]) else "0" for i in positions))
    return [len(gaps), b, len(high), len(heights)], high + low + heights + signs


def _packed(bits: str) -> bytes:
    bits += "0" * (-len(bits) % 8)
    return bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits), 8))
