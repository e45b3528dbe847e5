"""One file that is a remote: what is in it, and what strangers can put into it."""

import contextlib
import random
import zipfile
from pathlib import Path

import pytest
from support.remote_runs import CLIENTS, COORDINATOR, Study, names
from support.thorough import times

from fedcli.errors import BadInputError, FedcliError, NotReadyError
from fedcli.remotes import bundle as bundles_there
from fedcli.steps.verify import verify

MODEL = ["run.json", "rounds/0000/global.sig", "rounds/0000/global.safetensors"]


def contents(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        return archive.namelist()


def bundles(study: Study, number: int) -> tuple[Path, dict[str, Path]]:
    """The names of the bundle of a round for all, and of those that clients send."""
    sent = {c: study.folder / f"from-{c}-{number}.zip" for c in CLIENTS}
    return study.folder / f"round-{number}.zip", sent


def test_three_rounds_by_three_commands_each(study: Study) -> None:
    for number in (1, 2, 3):
        given, sent = bundles(study, number)
        study.push(COORDINATOR, given)
        for client in CLIENTS:
            study.pull(client, given)
            study.train(client)
            study.push(client, sent[client])
        first = study.pull(COORDINATOR, sent["1"])
        assert (first.round, first.missing) == (number, ("0", "2"))
        assert study.pull(COORDINATOR, *sent.values()).missing == ()
        study.aggregate()
    assert verify(study.root(COORDINATOR)).sound
    assert all(verify(study.root(client)).sound for client in CLIENTS)


def test_a_bundle_holds_what_a_party_needs_and_nothing_else(study: Study) -> None:
    given, sent = bundles(study, 1)
    study.push(COORDINATOR, given)
    assert contents(given) == MODEL
    study.push(COORDINATOR, study.folder / "share")
    study.round(study.folder / "share")
    study.push(COORDINATOR, study.folder / "for-0.zip", clients=["0"])
    newest = [f"rounds/0001/global.{what}" for what in ("sig", "safetensors")]
    assert contents(study.folder / "for-0.zip") == ["run.json", *newest]
    study.pull("0", study.folder / "share")
    study.train("0")
    study.push("0", sent["0"])
    update = [f"rounds/0002/updates/0.{what}" for what in ("json", "sig", "safetensors")]
    assert contents(sent["0"]) == update


def test_a_bundle_has_the_same_bytes_each_time_and_is_not_written_again(study: Study) -> None:
    one, two = study.folder / "one.zip", study.folder / "two.zip"
    study.push(COORDINATOR, one)
    study.push(COORDINATOR, two)
    assert one.read_bytes() == two.read_bytes()
    before = one.stat()
    again = study.push(COORDINATOR, one)
    assert (again.bytes, again.already_done) == (0, True)
    assert one.stat().st_mtime_ns == before.st_mtime_ns


def test_a_bundle_grows_by_what_is_new(study: Study) -> None:
    bundle = study.folder / "study.zip"
    study.push(COORDINATOR, bundle)
    study.round(bundle)
    assert contents(bundle)[: len(MODEL)] == MODEL
    assert "rounds/0001/global.safetensors" in contents(bundle)
    assert study.pull("2", bundle).placed[-1] == "rounds/0001/global.safetensors"


def test_a_bundle_that_another_program_packed_again_is_read(study: Study) -> None:
    given, _ = bundles(study, 1)
    study.push(COORDINATOR, given)
    packed = study.folder / "packed.zip"
    with zipfile.ZipFile(given) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        new.mkdir("__MACOSX")
        new.writestr("__MACOSX/._run.json", b"notes")
        for name in old.namelist():
            new.writestr(name, old.read(name))
    assert list(study.pull("0", packed).placed) == MODEL


def trained(study: Study) -> Path:
    """A bundle with the update of client 0."""
    given, sent = bundles(study, 1)
    study.push(COORDINATOR, given)
    study.pull("0", given)
    study.train("0")
    study.push("0", sent["0"])
    return sent["0"]


def spoilt(data: bytes, rng: random.Random) -> bytes:
    """Cut off the end, change some bytes, many of them in the directory at the end, or both."""
    found = bytearray(data[: rng.choice((len(data), rng.randrange(1, len(data))))])
    for _ in range(rng.choice((0, 1, 3, 30))):
        end = len(found) if rng.random() < 0.5 else min(len(found), 400)
        found[-1 - rng.randrange(end)] ^= rng.randrange(1, 256)
    return bytes(found)


def test_no_damaged_bundle_is_used_or_ends_in_a_mistake(study: Study) -> None:
    bundle = trained(study)
    data, rng = bundle.read_bytes(), random.Random(0)
    root, broken = study.root(COORDINATOR), study.folder / "broken.zip"
    before = names(root)
    for _ in range(times(2000, 60)):
        broken.write_bytes(spoilt(data, rng))
        with contextlib.suppress(BadInputError, NotReadyError):
            study.pull(COORDINATOR, broken)
        for name in set(names(root)) - set(before):
            if name.endswith((".sig", ".safetensors")):
                assert (root / name).read_bytes() == (study.root("0") / name).read_bytes()
            (root / name).unlink()


@pytest.mark.parametrize(
    "name",
    [
        "../escaped.json",
        "/escaped.json",
        "rounds/0001/updates/../../../escaped.json",
        "rounds/0001/updates/9.safetensors",
        "rounds/0001/updates/CON.safetensors",
        "data/client-0.safetensors",
        "rounds/0001/client_state/0.safetensors",
    ],
)
def test_files_under_other_names_are_left_in_the_bundle(study: Study, name: str) -> None:
    bundle = trained(study)
    with zipfile.ZipFile(bundle, "a") as archive:
        archive.writestr(name, b"{}")
    study.pull(COORDINATOR, bundle)
    assert not list(study.folder.rglob("escaped.json"))
    assert study.run(COORDINATOR).round(1).delivered() == ["0"]
    assert names(study.root(COORDINATOR) / "rounds" / "0001") == [
        f"updates/0.{what}" for what in ("json", "safetensors", "sig")
    ]


def test_two_files_of_one_name_are_refused(study: Study) -> None:
    bundle = trained(study)
    with zipfile.ZipFile(bundle, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("rounds/0001/updates/0.safetensors", b"another")
    with pytest.raises(BadInputError, match="two files have one name"):
        study.pull(COORDINATOR, bundle)


def test_a_file_that_unpacks_to_more_than_a_model_is_not_read(study: Study) -> None:
    bundle, name = study.folder / "bomb.zip", "rounds/0001/updates/0.safetensors"
    with zipfile.ZipFile(bundle, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("rounds/0001/updates/0.sig", b"{}")
        archive.writestr(name, bytes(20_000_000))
    with pytest.raises(BadInputError, match=r"expected at most [0-9]+; it was not read"):
        study.pull(COORDINATOR, bundle)


def test_what_is_no_bundle(study: Study) -> None:
    missing, text = study.folder / "missing.zip", study.folder / "text.zip"
    text.write_text("not a zip archive")
    with pytest.raises(NotReadyError, match=r"missing\.zip: is not there, or empty"):
        study.pull("0", missing)
    assert not study.root("0").exists()
    for party in (COORDINATOR, "0"):
        with pytest.raises(BadInputError, match="is truncated: File is not a zip file"):
            study.pull(party, text)
    with pytest.raises(BadInputError, match="is not a bundle"):
        study.push(COORDINATOR, text)
    assert text.read_text() == "not a zip archive"


def test_a_foreign_archive_is_refused(study: Study) -> None:
    foreign = study.folder / "holiday.zip"
    with zipfile.ZipFile(foreign, "w") as archive:
        archive.writestr("photo.jpg", b"")
    for party in (COORDINATOR, "0"):
        with pytest.raises(BadInputError, match=r"expected a bundle with run\.json"):
            study.pull(party, foreign)


def test_a_bundle_is_written_whole_or_not_at_all(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = study.folder / "round-1.zip"

    def fail(*_: object) -> None:
        raise OSError("the stick was pulled out")

    monkeypatch.setattr(bundles_there, "pieces_of", fail)
    with pytest.raises(FedcliError, match="the stick was pulled out"):
        study.push(COORDINATOR, bundle)
    assert [path.name for path in study.folder.glob("*round-1*")] == []


def test_a_pattern_that_no_shell_has_expanded(study: Study, tmp_path: Path) -> None:
    given, sent = bundles(study, 1)
    study.push(COORDINATOR, given)
    pattern = tmp_path / "from-*-1.zip"
    with pytest.raises(NotReadyError, match=r"from-\*-1\.zip: no file has such a name"):
        study.pull(COORDINATOR, pattern)
    for client in CLIENTS:
        study.pull(client, given)
        study.train(client)
        study.push(client, sent[client])
    assert {path.parent for path in sent.values()} == {tmp_path}
    assert study.pull(COORDINATOR, pattern).missing == ()


def test_a_bundle_at_the_wrong_party_or_with_less_than_belongs_together(study: Study) -> None:
    given, sent = bundles(study, 1)
    study.push(COORDINATOR, given)
    for client in "01":
        study.pull(client, given)
    study.train("0")
    study.push("0", sent["0"])
    with pytest.raises(BadInputError, match=r"expected a bundle with run\.json"):
        study.pull("1", sent["0"])
    with zipfile.ZipFile(sent["0"], "a") as archive:
        archive.writestr("rounds/0001/updates/1.safetensors", b"")
    with pytest.raises(BadInputError, match=r"1\.sig: is not there") as caught:
        study.pull(COORDINATOR, sent["0"])
    assert "repeat fedcli push" in str(caught.value.hint)
    assert study.run(COORDINATOR).round(1).delivered() == ["0"]
