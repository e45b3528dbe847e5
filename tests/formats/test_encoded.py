"""Encoded updates in files: they are read as what they stand for, or refused by name."""

import random
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.encoded import encode_update
from support.encoded_oracle import stands_for
from support.handmade import ALL_ROLES, controls_of, new_run, of_every_kind, same_bits, wide
from support.mutations import mutate
from support.runs import ROLES, deliver, tensors
from support.thorough import times

from fedcli.aggregation.admission import open_updates
from fedcli.aggregation.base_model import read_base
from fedcli.aggregation.encodings import decoded
from fedcli.errors import BadInputError, UpdateError
from fedcli.formats.checkpoint import Checkpoint, digest, save
from fedcli.formats.dtypes import BFLOAT16
from fedcli.formats.encoded import PARAMETERS, Parts, vector_of
from fedcli.formats.metadata import Role
from fedcli.formats.update_tensors import UpdateTensors
from fedcli.run import Run
from fedcli.steps.aggregate import aggregate

SPECS = (
    *("float16", "int8", "sign", "round=0.07", "round=1", "topk=0.1", "topk=0.03,float16"),
    *("randk=0.1", "randk=0.3,float16"),
)
MOST_MEMORY = (
    6_000_000  # bytes: a chunk as floats and as bits; models and files have 300 kB at most
)
MUTANTS = times(5_000, 700)
pytestmark = pytest.mark.usefixtures("unsynced")


@contextmanager
def opened(run: Run, client: str = "0") -> Iterator[UpdateTensors]:
    with UpdateTensors(run.round(1).update(client)) as update, decoded(update, run):
        yield update


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A model with every dtype and role, and a client that has trained it."""
    made = new_run(tmp_path / "run", of_every_kind(0), roles=ALL_ROLES)
    deliver(made, "0", of_every_kind(1), roles=ALL_ROLES)
    return made


# --- what is read --------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", [spec for spec in SPECS if spec != "round=1"])
def test_a_file_is_read_as_what_it_stands_for_bit_for_bit(run: Run, spec: str) -> None:
    path = run.round(1).update("0")
    meant = encode_update(run, path, spec)
    with opened(run) as update:
        assert list(update.layout) == list(read_base(run, run.round(1)).layout)
        assert dict(update.metadata.roles) == ALL_ROLES
        same_bits(update.tensors(), meant)
        assert {values.dtype for values in update.tensors().values()} >= {
            BFLOAT16,
            np.dtype("<f2"),
            np.dtype("<f8"),
            np.dtype("?"),
            np.dtype("<i8"),
        }
        assert update.digest() == digest(path)


@pytest.mark.parametrize("spec", ["round=0.07", "int8", "randk=0.1"])
def test_pieces_of_any_size_in_any_order_are_those_of_the_whole(run: Run, spec: str) -> None:
    path, rng = run.round(1).update("0"), random.Random(5)
    meant = encode_update(run, path, spec)
    whole = b"".join(values.tobytes() for values in meant.values())
    with opened(run) as update:
        starts = sorted({info.start for info in update.layout.values()})
        places = [(start, rng.choice((8, 80, 5000))) for start in rng.sample(starts, 12)]
        places += [
            (8 * rng.randrange(len(whole) // 8 - 1), 8 * rng.randrange(1, 60_000))
            for _ in range(25)
        ]
        for start, size in places:
            start -= start % 8
            buffer = memoryview(bytearray(min(size, len(whole) - start)))
            update.read_into(buffer, start)
            assert bytes(buffer) == whole[start : start + size]
        assert update.digest() == digest(path)
        again = update.reopened()
        same_bits(again.tensors(), meant)
        again.close()


def test_reading_in_order_hashes_the_file_without_a_second_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = new_run(tmp_path / "run", wide(0))
    deliver(run, "0", wide(1))
    path = run.round(1).update("0")
    encode_update(run, path, "round=0.07")
    with opened(run) as update:
        update.tensors()
        assert not update.in_order
        monkeypatch.setattr(update.file, "digest", None)
        assert update.digest() == digest(path)


def test_buffers_are_changes_in_half_or_single_precision(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run", tensors(0))
    for change, dtype in ((1.0, "<f2"), (1e6, "<f4")):
        values = tensors(1)
        base = tensors(0)["bn.running_mean"]
        values["bn.running_mean"] = base + np.float32(change)
        deliver(run, "0", values)
        encode_update(run, run.round(1).update("0"), "sign")
        with Checkpoint(run.round(1).update("0")) as stored:
            kept = stored.tensor("encoded/buffers")
        assert kept.dtype == np.dtype(dtype)
        with opened(run) as update:
            found = update.tensor("bn.running_mean")
        assert found.tobytes() == (base + kept.astype(np.float32)).tobytes()
        assert update.tensors()["bn.num_batches_tracked"] == 1


@pytest.mark.parametrize("spec", ["round=0.07", "float16", "sign"])
def test_controls_are_a_vector_of_their_own(tmp_path: Path, spec: str) -> None:
    run = new_run(tmp_path / "run", wide(0))
    controls = controls_of(wide(0), ROLES, 3)
    roles = {**ROLES, **dict.fromkeys(controls, Role.CONTROL)}
    deliver(run, "0", {**wide(1), **controls}, roles=roles)
    path = run.round(1).update("0")
    meant = encode_update(run, path, spec)
    with Checkpoint(path) as stored:
        assert "encoded/control/data" in stored.layout
        assert set(stored.metadata.roles.values()) == {Role.CONTROL}
    with opened(run) as update:
        assert dict(update.metadata.roles) == roles
        same_bits(update.tensors(), meant)
        assert update.digest() == digest(path)
    assert meant["control/a.weight"].any()


def test_a_model_without_buffers_or_of_empty_tensors_is_read(tmp_path: Path) -> None:
    base = {"w": np.ones(5, np.float32), "none": np.zeros((0, 3), np.float32)}
    run = new_run(tmp_path / "run", base, roles={})
    for spec in ("round=0.5", "topk=0.2", "randk=0.2", "int8", "sign", "float16"):
        deliver(run, "0", {**base, "w": np.arange(5, dtype=np.float32)}, roles={})
        meant = encode_update(run, run.round(1).update("0"), spec)
        with opened(run) as update:
            same_bits(update.tensors(), meant)


# --- files of strangers --------------------------------------------------------------------------


def rewritten(path: Path, **changes: Any) -> None:
    """Write an encoded file again with other tensors, by the end of their names."""
    with Checkpoint(path) as update:
        found, said = update.tensors(), update.metadata
    save(path, {**found, **{f"encoded/{k}": v for k, v in changes.items()}}, said)


HOSTILE: dict[str, tuple[str, dict[str, Any], str]] = {
    "more values than coordinates": (
        "round=0.1",
        {"table": np.array([[2**31 - 1, 0, 1, 1]], np.int32)},
        "more values than coordinates",
    ),
    "negative counts": (
        "round=0.1",
        {"table": np.array([[-1, 0, 1, 1]], np.int32)},
        "more values than coordinates",
    ),
    "a long stream": (
        "topk=0.1",
        {"table": np.array([[10, 0, 2**31 - 1]], np.int32)},
        "a row of the table of its encoding is impossible",
    ),
    "long levels": (
        "round=0.1",
        {"table": np.array([[10, 0, 2, 2**31 - 1]], np.int32)},
        "a row of the table of its encoding is impossible",
    ),
    "a large parameter": (
        "topk=0.1",
        {"table": np.array([[10, 40, 2]], np.int32)},
        "a row of the table of its encoding is impossible",
    ),
    "infinite scale": ("sign", {"scales": np.full(3, np.inf, np.float32)}, "a scale is NaN"),
    "negative scale": ("int8", {"scales": np.full(1, -1, np.float32)}, "infinite or negative"),
    "no scale": ("round=0.1", {"scales": np.full(4, np.nan, np.float32)}, "a scale is NaN"),
    "a lowest level": (
        "int8",
        {"data": np.full(252, 128, np.uint8)},
        "a level of its encoding is out of range",
    ),
    "halves that are infinite": (
        "float16",
        {"data": np.full(252, np.inf, "<f2").view(np.uint8)},
        "NaN or infinite",
    ),
    "more data": (
        "float16",
        {"data": np.zeros(10**6, np.uint8)},
        r"'encoded/data': expected \[504\] of uint8, found \[1000000\] of uint8",
    ),
    "more buffers": (
        "sign",
        {"buffers": np.zeros(10**6, "<f2")},
        r"'encoded/buffers': expected \[8\] of float16 or float32, found \[1000000\]",
    ),
    "floats as counters": (
        "sign",
        {"counters": np.zeros(1, np.float64)},
        r"'encoded/counters': expected \[1\] of int64, found \[1\] of float64",
    ),
    "infinite buffers": (
        "sign",
        {"buffers": np.full(8, np.inf, "<f2")},
        r"tensor 'bn.running_mean': 8 of 8 values are NaN or infinite",
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_file_is_refused_by_name(tmp_path: Path, case: str) -> None:
    spec, changes, reason = HOSTILE[case]
    base = {name: value for name, value in tensors(0).items() if name != "scale"}
    run = new_run(tmp_path / "run", base, ("0",))
    deliver(run, "0", {name: tensors(1)[name] for name in base})
    path = run.round(1).update("0")
    encode_update(run, path, spec)
    rewritten(path, **changes)
    with pytest.raises(UpdateError, match=reason) as e:
        aggregate(run, strict=True)
    assert (e.value.path, e.value.client) == (path, "0")
    assert "\n" not in e.value.message


def test_a_file_larger_than_its_base_allows_is_not_read(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run", tensors(0), ("0",))
    deliver(run, "0", tensors(1))
    path = run.round(1).update("0")
    encode_update(run, path, "sign")
    with path.open("r+b") as file:
        file.truncate(10**11)
    found, most = outcome(run)
    assert isinstance(found, UpdateError)
    assert "has 100000000000 bytes, expected at most 160" in found.message
    assert "it was not read" in found.message
    assert most < 10**6


def accepted(run: Run) -> dict[str, Any]:
    """The values of the one update, as a round reads them."""
    with (
        open_updates(run, run.round(1), [(1, "0")]) as found,
        found.updates[0].reopened() as update,
    ):
        return update.tensors()


def outcome(run: Run) -> tuple[dict[str, Any] | BadInputError, int]:
    """What reading the update gives, and how many bytes of memory it took."""
    tracemalloc.start()
    try:
        found: dict[str, Any] | BadInputError = accepted(run)
    except BadInputError as error:
        found = error.with_traceback(None)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return found, most


MODEL = {
    "bn.num_batches_tracked": np.array(3, np.int64),
    "bn.running_mean": np.linspace(-1, 1, 6, dtype=np.float32),
    "conv.weight": np.linspace(-2, 2, 400, dtype=np.float32).reshape(20, 20),
    "fc.weight": np.linspace(3, -3, 180, dtype=np.float32).reshape(9, 20),
}
LARGE = {**MODEL, "fc.weight": np.linspace(3, -3, 70_000, dtype=np.float32)}


def trained(base: dict[str, Any]) -> dict[str, Any]:
    rng = np.random.default_rng(2)
    return {
        name: (x + rng.standard_normal(x.shape) * rng.exponential(size=x.shape)).astype(x.dtype)
        for name, x in base.items()
    }


def flipped(rng: random.Random, data: bytes) -> bytes:
    """Flip bits of the tensors, or replace a byte of them."""
    start = 8 + int.from_bytes(data[:8], "little")
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5))):
        place = rng.randrange(start, len(data))
        changed[place] = changed[place] ^ 1 << rng.randrange(8) if rng.random() < 0.8 else 255
    return bytes(changed)


class Campaign:
    """Encoded files of one encoding, and what became of their mutants."""

    def __init__(self, root: Path, spec: str, base: dict[str, Any]) -> None:
        self.run = new_run(root, base, ("0",))
        deliver(self.run, "0", trained(base))
        self.path = self.run.round(1).update("0")
        encode_update(self.run, self.path, spec)
        self.data = self.path.read_bytes()
        found = read_base(self.run, self.run.round(1))
        self.base = {name: base[name] for name in found.layout}
        names = Parts.of(found.layout, found.roles).groups[PARAMETERS]
        self.seed = vector_of(found.layout, names, self.run.info.seed, 1).seed

    def meet(self, data: bytes) -> str:
        """Read a mutant: ``refused``, or ``read`` as what it stands for."""
        self.path.write_bytes(data)
        found, most = outcome(self.run)
        assert most < MOST_MEMORY
        if isinstance(found, BadInputError):
            assert (found.path, found.status) == (self.path, 4)
            assert "\n" not in found.message
            return "refused"
        roles = {name: str(role) for name, role in ROLES.items()}
        expected = stands_for(data, self.base, roles, self.seed)
        same_bits(found, expected)
        return "unchanged" if data == self.data else "read"


def test_mutants_are_refused_by_name_or_read_as_they_are(tmp_path: Path) -> None:
    specs = [*SPECS, "round=0.02"]
    campaigns = [
        Campaign(tmp_path / str(i), spec, LARGE if spec == "round=0.02" else MODEL)
        for i, spec in enumerate(specs)
    ]
    ended: Counter[tuple[str, str]] = Counter()
    others = [campaign.data for campaign in campaigns]
    for number in range(MUTANTS):
        rng, campaign = random.Random(f"encoded/{number}"), campaigns[number % len(campaigns)]
        structured = rng.random() < 0.5
        data = mutate(rng, campaign.data, others) if structured else flipped(rng, campaign.data)
        ended[specs[number % len(specs)], campaign.meet(data)] += 1
    for spec in specs:
        for how in ("refused", "read"):
            assert ended[spec, how] > 0.02 * MUTANTS / len(specs), (spec, how)
