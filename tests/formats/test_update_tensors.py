"""Updates as values: hashed as they are read, in whichever way they are opened."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from fedcli.formats.checkpoint import Checkpoint, save
from fedcli.formats.metadata import Kind, Metadata, Role
from fedcli.formats.update_tensors import UpdateTensors, open_checkpoint, open_tensors

TENSORS = {
    "n": np.array(7, np.int64),
    "v": np.arange(300_000, dtype=np.float32),
    "w": np.arange(6, dtype=np.float32).reshape(2, 3),
}
SAID = Metadata(Kind.UPDATE, "r", round=1, client="0", num_examples=3, roles={"n": Role.COUNTER})


def write(path: Path, scale: float = 1) -> str:
    arrays = {name: (array * scale).astype(array.dtype) for name, array in TENSORS.items()}
    save(path, arrays, SAID)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_what_is_read_in_order_is_hashed_on_the_way(tmp_path: Path) -> None:
    sha256 = write(tmp_path / "a")
    with UpdateTensors(tmp_path / "a") as update:
        values, found = update.tensors_and_digest()
        assert not update.in_order
    assert found == sha256
    assert all((values[name] == TENSORS[name]).all() for name in TENSORS)


@pytest.mark.parametrize("names", [[], ["w"], ["n", "w"], ["w", "v", "n"], ["n", "n", "v", "w"]])
def test_the_digest_is_right_whatever_was_read(tmp_path: Path, names: list[str]) -> None:
    sha256 = write(tmp_path / "a")
    with UpdateTensors(tmp_path / "a") as update:
        for name in names:
            update.tensor(name)
        assert update.digest() == sha256


def test_reading_through_shows_every_byte_once(tmp_path: Path) -> None:
    sha256, seen = write(tmp_path / "a"), bytearray()

    def see(piece: memoryview, start: int) -> None:
        assert start == len(seen)
        seen.extend(piece)

    with UpdateTensors(tmp_path / "a") as update:
        assert update.read_through(see) == sha256
        assert bytes(seen) == (tmp_path / "a").read_bytes()[update.data_start :]


def test_updates_that_are_alike_share_what_they_say(tmp_path: Path) -> None:
    write(tmp_path / "a")
    write(tmp_path / "b", 2)
    with UpdateTensors(tmp_path / "a") as one, UpdateTensors(tmp_path / "b") as other:
        other.share(one)
        assert other.layout is one.layout
        assert other.metadata.roles is one.metadata.roles
        assert (other.tensor("w") == 2 * TENSORS["w"]).all()


def test_whoever_opens_an_update_gets_its_values(tmp_path: Path) -> None:
    write(tmp_path / "a")
    (tmp_path / "link").symlink_to("a")
    with open_checkpoint(tmp_path / "a", Kind.UPDATE) as update:
        assert type(update) is UpdateTensors
    with open_tensors(tmp_path / "link") as (found, said):
        assert type(found) is UpdateTensors
        assert said == SAID
    save(tmp_path / "g", TENSORS, Metadata(Kind.GLOBAL, "r", round=1))
    with open_checkpoint(tmp_path / "g", Kind.GLOBAL) as model:
        assert type(model) is Checkpoint
