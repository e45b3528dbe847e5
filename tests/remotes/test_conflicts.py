"""Other files at a remote than there should be: none is replaced, or placed unchecked."""

from collections.abc import Callable

import pytest
from support.places import Place
from support.remote_runs import COORDINATOR, Study, digests, signed_study

from fedcli.errors import (
    BadInputError,
    ConflictError,
    ExitStatus,
    FedcliError,
    NotReadyError,
    UpdateError,
)

each_place = pytest.mark.parametrize("place", ["folder", "bundle", "s3", "sftp"], indirect=True)
UPDATE = "rounds/0001/updates/0.safetensors"
MODEL = "rounds/0000/global.safetensors"


def trained(study: Study, place: Place, client: str = "0") -> None:
    """Let a client train for round 1 and send its update."""
    if not study.root(client).exists():
        study.pull(client, place.name)
    study.train(client)
    study.push(client, place.name)


def flipped(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


@each_place
def test_other_bytes_at_the_remote_are_a_conflict(study: Study, place: Place) -> None:
    study.push(COORDINATOR, place.name)
    trained(study, place)
    for party, path in (("0", UPDATE), (COORDINATOR, MODEL)):
        good = place.read(path)
        place.write(path, flipped(good))
        with pytest.raises(ConflictError, match="is another file than") as caught:
            study.push(party, place.name)
        assert caught.value.status == ExitStatus.CONFLICT
        assert place.read(path) == flipped(good)
        place.write(path, good)
    assert study.push("0", place.name).already_done


@each_place
def test_an_update_that_is_here_is_not_replaced_by_another(study: Study, place: Place) -> None:
    study.push(COORDINATOR, place.name)
    trained(study, place)
    study.pull(COORDINATOR, place.name)
    before = digests(study.root(COORDINATOR))
    place.write(UPDATE, flipped(place.read(UPDATE)))
    with pytest.raises(ConflictError, match="is another file than"):
        study.pull(COORDINATOR, place.name)
    assert digests(study.root(COORDINATOR)) == before


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


@each_place
@pytest.mark.parametrize("damage", [cut, flipped], ids=["truncated", "a flipped bit"])
def test_a_damaged_file_is_not_placed(
    study: Study, place: Place, damage: Callable[[bytes], bytes]
) -> None:
    study.push(COORDINATOR, place.name)
    trained(study, place)
    good = {path: place.read(path) for path in (MODEL, UPDATE)}
    for path in good:
        place.write(path, damage(good[path]))
    for party, path in ((COORDINATOR, UPDATE), ("1", MODEL)):
        with pytest.raises(BadInputError) as caught:
            study.pull(party, place.name)
        assert caught.value.status == ExitStatus.BAD_INPUT
        assert f"{place.name}/{path}" in str(caught.value)
        assert not (study.root(party) / path).exists()
        assert not list(study.root(party).rglob("*.tmp"))
        place.write(path, good[path])
        assert path in study.pull(party, place.name).placed


def test_every_bad_update_is_named_and_the_others_are_placed(study: Study, place: Place) -> None:
    study.push(COORDINATOR, place.name)
    for client in "012":
        trained(study, place, client)
    for client in "02":
        place.write(f"rounds/0001/updates/{client}.safetensors", b"not a model")
    with pytest.raises(UpdateError, match="2 updates cannot be used") as caught:
        study.pull(COORDINATOR, place.name)
    assert [part.client for part in caught.value.parts] == ["0", "2"]
    assert study.run(COORDINATOR).round(1).delivered() == ["1"]
    assert list(study.pull(COORDINATOR, place.name, clients=["1"]).missing) == []


@pytest.mark.parametrize(
    ("copied", "to", "reason"),
    [
        (("updates/0.safetensors", "updates/0.sig"), ("updates/1.safetensors", "updates/1.sig"),
         "belongs to client 0, expected 1"),
        (("updates/0.safetensors",), ("updates/1.safetensors",), "is not there"),
    ],
    ids=["under another client's name", "without its signature"],
)  # fmt: skip
def test_a_foreign_update_is_not_placed(
    study: Study, place: Place, copied: tuple[str, ...], to: tuple[str, ...], reason: str
) -> None:
    study.push(COORDINATOR, place.name)
    trained(study, place)
    for source, target in zip(copied, to, strict=True):
        place.write(f"rounds/0001/{target}", place.read(f"rounds/0001/{source}"))
    with pytest.raises(FedcliError, match=reason):
        study.pull(COORDINATOR, place.name)
    assert study.run(COORDINATOR).round(1).delivered() == ["0"]


def test_a_model_that_an_outsider_put_there_is_refused(study: Study, place: Place) -> None:
    """Whoever can write to the remote, but has no key, makes a next round of the run."""
    study.push(COORDINATOR, place.name)
    study.round(place.name)
    for name in ("global.sig", "global.safetensors", "aggregate.json"):
        place.write(f"rounds/0002/{name}", place.read(f"rounds/0001/{name}"))
    with pytest.raises(BadInputError, match="belongs to round 1, expected 2"):
        study.pull("1", place.name)
    assert study.run("1").latest_round().number == 0
    place.remove("rounds/0002/global.sig")
    with pytest.raises(NotReadyError, match=r"global\.sig: is not there"):
        study.pull("1", place.name)


@each_place
def test_another_run_at_the_remote(study: Study, place: Place) -> None:
    other = signed_study(study.folder / "other", seed=1)
    other.push(COORDINATOR, place.name)
    with pytest.raises(ConflictError, match=r"run\.json: is another file"):
        study.push(COORDINATOR, place.name)
    with pytest.raises(BadInputError, match=r"run\.json: belongs to run .*, expected"):
        study.pull(COORDINATOR, place.name)


def test_a_client_sends_nothing_to_where_no_run_is(study: Study, place: Place) -> None:
    study.push(COORDINATOR, place.name)
    trained(study, place)
    elsewhere = study.folder / "elsewhere"
    with pytest.raises(NotReadyError, match=r"has no run\.json"):
        study.push("0", elsewhere)
    assert not elsewhere.exists()


def test_a_copy_is_not_taken_for_the_coordinators_directory(study: Study, place: Place) -> None:
    """Only the directory where the run was made sends rounds, and only copies are behind."""
    study.push(COORDINATOR, place.name)
    study.pull("0", place.name)
    study.round(place.name, ("1", "2", "0"))
    (study.root("0") / "copy.json").unlink()
    with pytest.raises(ConflictError, match="this is not the directory in which the coordinator"):
        study.pull("0", place.name)
