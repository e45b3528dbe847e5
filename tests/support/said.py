"""What the files of a run may say, checked by other means than fedcli's own readers.

The formats are written down a second time here, and checkpoints are read by the safetensors
library.
"""

import dataclasses
import hashlib
import json
import math
import re
from collections import defaultdict
from typing import Any

import safetensors

from fedcli.formats.dtypes import DTYPES

Json = Any


class Maybe:
    """Of a kind, or null, or not there."""

    def __init__(self, kind: Any) -> None:
        self.kind = kind


def is_text(value: Json) -> bool:
    return type(value) is str and value == value.encode("utf-8", "replace").decode()


CLIENT_ID = re.compile("[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
KINDS: dict[str, Any] = {
    "count": lambda value: type(value) is int and 0 <= value < 2**63,
    "number": lambda value: type(value) in (int, float) and math.isfinite(value),
    "text": is_text,
    "id": lambda value: type(value) is str and CLIENT_ID.fullmatch(value) is not None,
    "flag": lambda value: type(value) is bool,
    "object": lambda value: type(value) is dict,
}


def of(words: str, **nested: Any) -> dict[str, Any]:
    """Describe an object: the kind of each of its fields, with ``?`` where it may be missing."""
    fields = dict(nested)
    for name, kind in (word.split(":") for word in words.split()):
        one: Any = KINDS[kind.strip("?[]")]
        one = [one] if "[" in kind else one
        fields[name] = Maybe(one) if kind.endswith("?") else one
    return fields


ABSENCE = of("client:id reason:text round:count?")
CONTRIBUTION = of(
    "client:id sha256:text num_examples:count? weight:number bytes:count? round:count"
    " norm:number? cosine:number? distance:number? kept:flag?"
)
PARTIAL = of("name:text sha256:text clients:count num_examples:count weight:number bytes:count")
MANIFEST = of(
    "round:count strategy:text reduce:text server_optimizer:text weighting:text options:object"
    " base:text global:text server_state:text? sampled:id[]? seconds:number",
    accepted=[CONTRIBUTION],
    partials=[PARTIAL],
    missing=[ABSENCE],
    late=[ABSENCE],
    rejected=[ABSENCE],
)
TELEMETRY = of(
    "sha256:text num_examples:count? bytes:count? seconds:number? device:text?",
    epochs=Maybe([of("epoch:count loss:number? accuracy:number?")]),
)
SCORE = of(
    "model:text data:text examples:count accuracy:number client:id? data_client:id?"
    " classes:text[]? loss:number? auc:number? sensitivity:number? specificity:number?",
    confusion=Maybe([[KINDS["count"]]]),
    auc_interval=Maybe([KINDS["number"]]),
    roc=Maybe(of("false_positives:count[] true_positives:count[]")),
)
EVALUATION = of("", results=[SCORE])
PARTITION = of("classes:text[] label_counts:object test_label_counts:count[]?")
RUN = of(
    "seed:count clients:id[] origin:object plan:object format:count id:text",
    dataset=of("name:text classes:text[] shape:count[]"),
    model=of("name:text"),
)
METADATA = of(
    "format:count kind:text run:text round:count? client:id? num_examples:count? base:text?"
    " roles:object? training:object? seed:count? updates:object? weighting:text? steps:count?"
)


def fault(kind: Any, value: Json, where: str = "") -> str | None:
    """Say what of a value is not of a kind; None where all is."""
    if isinstance(kind, Maybe):
        return None if value is None else fault(kind.kind, value, where)
    if isinstance(kind, list):
        items = enumerate(value) if type(value) is list else ()
        found = [fault(kind[0], item, f"{where}[{number}]") for number, item in items]
        return next(filter(None, found), None if type(value) is list else f"{where} is not a list")
    if isinstance(kind, dict):
        if type(value) is not dict:
            return f"{where} is not an object"
        found = [fault(one, value.get(key), f"{where}.{key}") for key, one in kind.items()]
        return next(filter(None, found), None)
    return None if kind(value) else f"{where} is {value!r:.80}"


def same(read: Any, said: Json) -> bool:
    """Say whether what was read is what a file says: a record, its fields, and types."""
    if dataclasses.is_dataclass(read):
        return type(said) is dict and same_record(read, said)
    if isinstance(read, tuple | list):
        return len(read) == len(said) and all(map(same, read, said))
    if isinstance(read, dict):
        return read.keys() == said.keys() and all(same(read[key], said[key]) for key in read)
    if type(read) is float:
        return KINDS["number"](said) and read == float(said)
    return read == said and isinstance(read, type(said))


def same_record(record: Any, said: dict[str, Json]) -> bool:
    """Say whether every key is read into a field; one may be read into either of several."""
    fields = defaultdict[str, list[Any]](list)
    for field in dataclasses.fields(record):
        fields[field.metadata.get("key", field.name)].append(field)
    rest = [f.name for (f, *_) in fields.values() if f.metadata.get("rest")]
    more = {key: value for key, value in said.items() if key not in fields.keys() - rest}
    if not all(same(getattr(record, name), more) for name in rest):
        return False
    for key in fields.keys() - rest:
        values = [(getattr(record, field.name), field) for field in fields[key]]
        given = [value for value, field in values if not is_default(value, field)]
        given = given or [values[0][0]] * (said.get(key) is not None)
        if len(given) > 1 or not all(same(value, said.get(key)) for value in given):
            return False
    return True


def is_default(value: Any, field: Any) -> bool:
    made = field.default_factory
    return bool(value == (field.default if made is dataclasses.MISSING else made()))


def strict(data: bytes) -> Json:
    """Read JSON; raise ``ValueError`` for what is none, and for a name that comes twice."""

    def once(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
        names = [name for name, _ in pairs]
        if len(names) != len(set(names)):
            raise ValueError("a name twice")
        return dict(pairs)

    def refuse(text: str) -> Json:
        raise ValueError(text)

    return json.loads(data.decode(), object_pairs_hook=once, parse_constant=refuse)


def checkpoint_fault(data: bytes, metadata: Any, tensors: dict[str, Any]) -> str | None:
    """Compare a checkpoint that was taken with what the safetensors library makes of it."""
    theirs = dict(safetensors.deserialize(data))
    if theirs.keys() != tensors.keys():
        return "other tensors"
    for name, entry in theirs.items():
        mine = tensors[name]
        if (DTYPES[entry["dtype"]], entry["shape"]) != (mine.dtype, list(mine.shape)):
            return f"{name}: another dtype or shape"
        if bytes(entry["data"]) != mine.tobytes():
            return f"{name}: other values"
    said = metadata_of(data)
    return fault(METADATA, said) if same(metadata, said) else "metadata is not what the file says"


def metadata_of(data: bytes) -> Json:
    """Return what a checkpoint says of itself."""
    length = int.from_bytes(data[:8], "little")
    return strict(strict(data[8 : 8 + length])["__metadata__"]["fedcli"].encode())


def run_fault(data: bytes, run: Any) -> str | None:
    """Compare a run that was opened with what its file says."""
    said = strict(data)
    content = {key: value for key, value in said.items() if key != "id"}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    if not said["id"] == run.id == hashlib.sha256(text.encode()).hexdigest():
        return "the id is not that of the content"
    info = run.info
    pairs = [(getattr(info, key), said[key]) for key in ("seed", "clients", "origin", "format")]
    pairs += [(getattr(info.dataset, key), value) for key, value in said["dataset"].items()]
    pairs += [(getattr(info.model, key), value) for key, value in said["model"].items()]
    for name, section in said["plan"].items():
        pairs += [(getattr(getattr(info.plan, name), key), v) for key, v in section.items()]
    wrong = [said for read, said in pairs if not same(read, said)]
    return f"{wrong[0]!r} was read otherwise" if wrong else fault(RUN, said)


def record_fault(kind: Any, data: bytes, record: Any) -> str | None:
    """Compare a record that was taken with what its file says."""
    said = strict(data)
    return fault(kind, said) if same(record, said) else "was read otherwise"
