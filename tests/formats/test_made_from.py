"""Headers of models stay short: a long list of updates is in the manifest, by its SHA-256."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.handmade import deliver_all, new_run, planned
from support.runs import deliver, tensors
from support.tampering import rewrite

from fedcli.client.existing_update import check_not_used
from fedcli.errors import CheckpointError, ConflictError
from fedcli.formats import made_from
from fedcli.formats.checkpoint import Checkpoint, digest
from fedcli.formats.delta import rebuild
from fedcli.formats.made_from import MOST_NAMED, MadeFrom
from fedcli.formats.manifest import Manifest
from fedcli.formats.metadata import Kind, Metadata
from fedcli.run import Run
from fedcli.run.late_updates import is_late, was_left_out
from fedcli.run.used_updates import origin_of, used_updates
from fedcli.steps.aggregate import aggregate
from fedcli.steps.gc import gc
from fedcli.steps.partial import partial
from fedcli.steps.verify import verify
from fedcli.verification.replay_sandbox import UserCode

pytestmark = pytest.mark.usefixtures("unsynced")
MANY = tuple(map(str, range(MOST_NAMED + 1)))
FOUR = ("0", "1", "2", "3")


def header(path: Path) -> Metadata:
    with Checkpoint(path) as found:
        return found.metadata


@pytest.fixture
def unnamed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two updates are too many for a header."""
    monkeypatch.setattr(made_from, "MOST_NAMED", 1)


def wrong(run: Run, **options: Any) -> dict[str, str]:
    found = verify(run.root, **options)
    return {f.file: f.message for f in reversed(found.findings) if f.wrong}


# --- what is written ---------------------------------------------------------------------------


def test_many_updates_are_named_by_the_digest_of_their_list(tmp_path: Path) -> None:
    """The digest is that of plain canonical JSON, so that anybody can compute it."""
    run = planned(tmp_path, MANY, strategy="fedavgm")
    deliver_all(run, MANY)
    result = aggregate(run)
    listed = {
        "late": {},
        "partials": {},
        "updates": {client: digest(run.round(1).update(client)) for client in MANY},
    }
    text = json.dumps(listed, sort_keys=True, separators=(",", ":"))
    expected = hashlib.sha256(text.encode()).hexdigest()
    for path in (result.path, run.round(1).server_state):
        found = header(path)
        assert (found.updates, found.late, found.partials) == (None, None, None)
        assert (found.list_sha256, found.format) == (expected, 2)
    assert result.path.stat().st_size < run.round(0).global_model.stat().st_size + 300
    assert not wrong(run)
    assert not wrong(run, replay=UserCode())


def test_few_updates_are_named_one_by_one(tmp_path: Path) -> None:
    """Then clients can see what became of their update, and files are as ever."""
    run = planned(tmp_path, MANY[1:])
    deliver_all(run, MANY[1:])
    found = header(aggregate(run).path)
    assert (len(found.updates or {}), found.list_sha256, found.format) == (MOST_NAMED, None, 1)


def test_a_late_update_and_a_partial_mean_are_in_the_list() -> None:
    one = MadeFrom({"0": "a"})
    for other in (
        MadeFrom({"0": "b"}),
        MadeFrom({"1": "a"}),
        MadeFrom({"0": "a"}, {"0": 1}),
        MadeFrom({"0": "a"}, {}, {"north": "c"}),
    ):
        assert other.sha256 != one.sha256


# --- runs of older versions --------------------------------------------------------------------


def test_models_that_name_every_update_stay_readable_and_replayable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = planned(tmp_path, MANY)
    deliver_all(run, MANY)
    with monkeypatch.context() as old:
        old.setattr(made_from, "MOST_NAMED", 10**9)
        path = aggregate(run).path
    before = path.read_bytes()
    assert set(header(path).updates or {}) == set(MANY)
    assert not wrong(run, replay=UserCode())
    assert aggregate(run, round_number=1).already_done
    run.round(1).server_state.unlink(missing_ok=True)
    deliver_all(run, MANY[:3], 2)
    run.round(1).manifest.unlink()
    aggregate(run, round_number=1, force=True)  # restores the manifest, and the same model
    assert path.read_bytes() == before


def test_what_a_version_cannot_read_it_refuses(tmp_path: Path) -> None:
    run = planned(tmp_path, FOUR)
    path = run.round(0).global_model
    path.write_bytes(path.read_bytes().replace(rb"\"format\":1", rb"\"format\":3"))
    with pytest.raises(CheckpointError, match="format 3; this fedcli reads format 2"):
        header(path)


# --- the list must be the one ------------------------------------------------------------------


def two_rounds(root: Path, **plan: Any) -> Run:
    run = planned(root, FOUR, **plan)
    for number in (1, 2):
        deliver_all(run, FOUR[:3], number)
        aggregate(run, min_clients=3)
    return run


def other_sha256(manifest: dict[str, Any]) -> None:
    manifest["accepted"][1]["sha256"] = "1" * 64


def without_one(manifest: dict[str, Any]) -> None:
    del manifest["accepted"][0]


def of_round_zero(manifest: dict[str, Any]) -> None:
    manifest["accepted"][2]["round"] = 0


@pytest.mark.usefixtures("unnamed")
@pytest.mark.parametrize("change", [other_sha256, without_one, of_round_zero])
def test_another_list_in_the_manifest_is_named(tmp_path: Path, change: Callable[..., None]) -> None:
    run = two_rounds(tmp_path)
    rewrite(run.round(1).manifest, change)
    found = wrong(run)
    assert set(found) == {"rounds/0001/aggregate.json"}
    expected = "lists other updates than the header of rounds/0001/global.safetensors"
    assert found["rounds/0001/aggregate.json"] == expected
    with pytest.raises(ConflictError, match=r"aggregate\.json lists other updates than its header"):
        aggregate(run, round_number=1, min_clients=3)


@pytest.mark.usefixtures("unnamed")
def test_an_update_that_is_not_in_the_list_is_named(tmp_path: Path) -> None:
    run = two_rounds(tmp_path)
    deliver(run, "1", tensors(99))
    found = wrong(run)
    assert set(found) == {"rounds/0001/updates/1.safetensors"}
    assert "does not have the SHA-256 that" in found["rounds/0001/updates/1.safetensors"]


@pytest.mark.usefixtures("unnamed")
def test_without_its_list_a_model_may_have_used_everything(tmp_path: Path) -> None:
    run = two_rounds(tmp_path)
    sha256 = deliver(run, "3", tensors(5))
    used = {(client, 1) for client in FOUR[:3]}
    assert used_updates(run, 1, 2) == used
    assert is_late(run, run.round(1), "3", sha256)
    assert was_left_out(run, 1, "3", 3)
    check_not_used(run, run.round(1), "3")
    with pytest.raises(ConflictError, match="is gone, and a global model was made from it"):
        check_not_used(run, run.round(1), "2")
    rewrite(run.round(1).manifest, other_sha256)
    assert origin_of(run.round(1)) is None
    assert used_updates(run, 1, 2) == {*used, ("3", 1)}
    assert not is_late(run, run.round(1), "3", sha256)
    assert not was_left_out(run, 1, "3", 3)


@pytest.mark.usefixtures("unnamed")
def test_gc_keeps_updates_while_nobody_can_say_what_they_are_for(tmp_path: Path) -> None:
    run = two_rounds(tmp_path)
    manifest = run.round(1).manifest
    before = manifest.read_text()
    rewrite(manifest, without_one)
    gc(run, 1)
    assert len(run.round(1).delivered()) == 3
    manifest.write_text(before)
    gc(run, 1)
    assert run.round(1).delivered() == []


@pytest.mark.usefixtures("unnamed")
def test_late_updates_count_once(tmp_path: Path) -> None:
    run = planned(tmp_path, FOUR, strategy="fedbuff", buffer=2)
    deliver_all(run, "01")
    aggregate(run)
    deliver_all(run, "2")
    deliver_all(run, "0", 2)
    aggregate(run)
    made = origin_of(run.round(2))
    assert made is not None
    assert dict(made.late) == {"2": 1}
    assert ("2", 1) in used_updates(run, 1, 3)
    assert not wrong(run, replay=UserCode())


@pytest.mark.usefixtures("unnamed")
def test_partial_means_are_in_the_list(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run", tensors(0), FOUR)
    deliver_all(run, FOUR)
    files = [run.root / "north.safetensors", run.root / "south.safetensors"]
    partial(run, ["0", "1"], files[0])
    partial(run, ["2", "3"], files[1])
    found = header(aggregate(run, members=list(map(str, files))).path)
    manifest = Manifest.read(run.round(1).manifest)
    assert manifest is not None
    assert found.list_sha256 == MadeFrom.of(manifest).sha256
    assert not wrong(run, replay=UserCode())
    rewrite(run.round(1).manifest, lambda m: m["partials"][0].update(sha256="1" * 64))
    assert "lists other updates" in wrong(run)["rounds/0001/aggregate.json"]


@pytest.mark.usefixtures("unnamed")
def test_a_delta_leads_to_the_same_short_header(tmp_path: Path) -> None:
    run = planned(tmp_path / "run", FOUR, encode_global="int8")
    deliver_all(run, FOUR)
    path = aggregate(run).path
    again = tmp_path / "again.safetensors"
    with (
        Checkpoint(run.round(1).delta, Kind.DELTA) as delta,
        Checkpoint(run.round(0).global_model) as base,
    ):
        assert delta.metadata.list_sha256 is not None
        rebuild(delta, base, again)
    assert again.read_bytes() == path.read_bytes()
