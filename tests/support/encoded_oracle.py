"""Encoded files read a second time, from the definition of the format, bit by bit."""

import json
from typing import Any

import numpy as np
import safetensors.numpy

from fedcli.codecs import CHUNK, Vector, parse_codec
from fedcli.codecs.feedback import decode_all

Tensors = dict[str, Any]
GROUP = 2048


def stands_for(data: bytes, base: Tensors, roles: dict[str, str], seed: int) -> Tensors:
    """The float32 parameters, float32 buffers and int64 counters that an update stands for.

    ``base`` has the tensors of the update in their order, ``seed`` is that of the vector.
    """
    found = safetensors.numpy.load(data)
    length = int.from_bytes(data[:8], "little")
    own = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["fedcli"])
    kinds: dict[str | None, list[str]] = {None: [], "buffer": [], "counter": []}
    for name in base:
        kinds[roles.get(name)].append(name)
    sizes = [base[name].size for name in kinds[None]]
    steps = _steps(found, own["encoding"], sizes, seed)
    with np.errstate(all="ignore"):
        meant = _placed(kinds[None], base, steps)
        meant |= _placed(kinds["buffer"], base, found.get("encoded/buffers"))
    at = 0
    for name in kinds["counter"]:
        size = base[name].size
        meant[name] = found["encoded/counters"][at : at + size].reshape(base[name].shape)
        at += size
    return {name: meant[name] for name in base}


def _placed(names: list[str], base: Tensors, steps: Any) -> Tensors:
    placed, at = {}, 0
    for name in names:
        own = steps[at : at + base[name].size].astype(np.float32).reshape(base[name].shape)
        placed[name] = np.add(base[name], own)
        at += base[name].size
    return placed


def _steps(found: Tensors, codec: dict[str, Any], sizes: list[int], seed: int) -> Any:
    size, data = sum(sizes), found["encoded/data"].tobytes()
    scales = found.get("encoded/scales", np.zeros(0, np.float32))
    name, dtype = codec["name"], codec.get("dtype")
    if name == "float16":
        return np.frombuffer(data, "<f2").astype(np.float32)
    if name == "int8":
        each = [np.float32(level) for level in np.frombuffer(data, np.int8).tolist()]
        return np.array([level * scales[i // GROUP] for i, level in enumerate(each)], np.float32)
    if name == "sign":
        return _signed(data, scales, sizes)
    steps = np.zeros(size, np.float32)
    if name == "randk":
        one = parse_codec(f"randk={codec['share']},{dtype}", "")
        assert one is not None
        vector = Vector(tuple(sizes), seed)
        drawn = decode_all(one, one.encode(np.ones(size, np.float32), vector), vector)
        steps[np.flatnonzero(drawn)] = np.frombuffer(data, _code(dtype))
        return steps
    first = 0
    for row in found["encoded/table"].tolist():
        if name == "topk":
            data = _floats(data, row, dtype, steps[first : first + CHUNK])
        else:
            data = _levels(data, row, scales, steps[first : first + CHUNK])
        first += CHUNK
    assert not data
    return steps


def _code(dtype: Any) -> str:
    return "<f2" if dtype == "float16" else "<f4"


def _bits(data: bytes) -> str:
    return "".join(format(byte, "08b") for byte in data)


def _signed(data: bytes, scales: Any, sizes: list[int]) -> Any:
    whole = sum(sizes)
    signs = ""
    for first in range(0, whole, CHUNK):
        count = min(CHUNK, whole - first)
        signs += _bits(data[: -(-count // 8)])[:count]
        data = data[-(-count // 8) :]
    each = np.repeat(scales, sizes)
    return np.array([-m if s == "1" else m for m, s in zip(each, signs, strict=True)], np.float32)


def _unary(bits: str) -> list[int]:
    return [len(zeros) for zeros in bits.split("1")[:-1]]


def _positions(data: bytes, row: list[int]) -> tuple[list[int], bytes]:
    count, b, high = row[:3]
    low = -(-count * b // 8)
    quotients, bits = _unary(_bits(data[:high])), _bits(data[high : high + low])
    position, found = -1, []
    for i, quotient in enumerate(quotients):
        rest = int(bits[i * b : (i + 1) * b], 2) if b else 0
        position += (quotient << b) + rest + 1
        found.append(position)
    assert len(found) == count
    return found, data[high + low :]


def _floats(data: bytes, row: list[int], dtype: Any, into: Any) -> bytes:
    positions, data = _positions(data, row)
    end = len(positions) * np.dtype(_code(dtype)).itemsize
    into[positions] = np.frombuffer(data[:end], _code(dtype))
    return data[end:]


def _levels(data: bytes, row: list[int], scales: Any, into: Any) -> bytes:
    positions, data = _positions(data, row)
    levels = [1 + height for height in _unary(_bits(data[: row[3]]))]
    data = data[row[3] :]
    end = -(-len(positions) // 8)
    for position, level, sign in zip(positions, levels, _bits(data[:end]), strict=False):
        value = scales[level] if level <= 3 else np.float32(level) * scales[0]
        into[position] = -value if sign == "1" else value
    return data[end:]
