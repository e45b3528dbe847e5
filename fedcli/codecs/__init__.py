"""Encodings of updates and global models, one a file; see ``docs/compression.md``."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from fedcli.codecs.base import CHUNK, Chunk, Codec, Encoded, Vector
from fedcli.codecs.floats import FLOATS, Float16
from fedcli.codecs.int8 import Int8
from fedcli.codecs.randk import RandK
from fedcli.codecs.round import Round
from fedcli.codecs.sign import Sign
from fedcli.codecs.sparse import SparseCodec
from fedcli.codecs.topk import TopK
from fedcli.errors import UsageError
from fedcli.spelling import nearest
from fedcli.text import brief

__all__ = [
    "CHUNK",
    "CODECS",
    "PLAIN",
    "Chunk",
    "Codec",
    "Encoded",
    "SparseCodec",
    "Vector",
    "codec_from",
    "parse_codec",
    "spellings",
]

_MOST_SPEC = 60  # characters
PLAIN = "float32"  # no encoding
CODECS: dict[str, type[Codec]] = {
    codec.name: codec for codec in (Float16, Int8, Round, TopK, RandK, Sign)
}


def parse_codec(spec: str, option: str) -> Codec | None:
    """Return the codec that a text such as ``topk=0.03,float16`` names; None for ``float32``.

    Raises ``UsageError`` that names ``option``.
    """
    name, _, rest = spec.partition("=")
    if spec == PLAIN:
        return None
    if name not in CODECS:
        known = spellings()
        near = nearest(name, known)
        raise UsageError(
            f"{option}: unknown encoding {brief(spec)}; known: {', '.join(known.values())}",
            hint=None if near is None else f"did you mean {known[near]}?",
        )
    takes = [field.name for field in fields(CODECS[name])]
    words = rest.split(",") if rest else []
    if ("=" in spec) != bool(takes) or len(words) > max(1, len(takes)):
        raise UsageError(f"{option}: expected {_spelled(CODECS[name])}, found {brief(spec)}")
    values: dict[str, float | str] = {}
    if takes:
        values["share"] = _share(words[0] if words else "", spec, option)
    if len(words) > 1:
        values["dtype"] = _dtype(words[1], spec, option)
    return CODECS[name](**values)


def spellings() -> dict[str, str]:
    """Return how encodings are typed, by their names: ``topk=SHARE[,float16]``."""
    return {PLAIN: PLAIN, **{name: _spelled(codec) for name, codec in CODECS.items()}}


def codec_from(values: Mapping[str, Any] | None) -> Codec | None:
    """Build a codec from its JSON; None for None. Raises ``ValueError`` for other values."""
    if values is None:
        return None
    spec = str(values.get("name"))
    if "share" in values:
        spec += f"={values['share']}" + (f",{values['dtype']}" if "dtype" in values else "")
    unknown = ValueError(f"encoding: found {brief(dict(values))}, which is not a known encoding")
    if len(spec) > _MOST_SPEC or not spec.isprintable():  # a stranger may have written it
        raise unknown
    try:
        codec = parse_codec(spec, "encoding")
    except UsageError as error:
        raise ValueError(error.message) from None
    if codec is None or codec.as_json() != dict(values):
        raise unknown
    return codec


def _share(text: str, spec: str, option: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 < share <= 1:
        raise UsageError(f"{option} {spec}: expected a share above 0, at most 1, found {text!r}")
    return share


def _dtype(text: str, spec: str, option: str) -> str:
    if text not in FLOATS:
        raise UsageError(f"{option} {spec}: expected {' or '.join(FLOATS)}, found {text!r}")
    return text


def _spelled(codec: type[Codec]) -> str:
    takes = [field.name for field in fields(codec)]
    text = codec.name + ("=SHARE" if "share" in takes else "")
    return text + ("[,float16]" if "dtype" in takes else "")
