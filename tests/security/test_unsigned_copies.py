"""Nothing is decided by an unsigned file that a signed or hashed one says too."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.handmade import Tensors, deliver_all, loaded, planned, same_bits
from support.runs import accepted, tensors
from support.signing import Signed, flip, keys, signed_run

from fedcli.aggregation.server_state import read_slot
from fedcli.errors import BadInputError, LostError
from fedcli.formats.checkpoint import Checkpoint, digest, save
from fedcli.run.client_state import StateStore
from fedcli.run.used_updates import used_updates
from fedcli.steps.aggregate import AggregateResult, aggregate
from fedcli.steps.gc import gc
from fedcli.steps.report import report
from fedcli.steps.verify import verify
from fedcli.storage.atomic import write_json

pytestmark = pytest.mark.usefixtures("unsynced")
BUFFERED = {"strategy": "fedbuff", "buffer": 1}


@pytest.fixture
def signed(tmp_path: Path) -> Signed:
    return signed_run(tmp_path / "fedrun", keys(tmp_path))


def finish(signed: Signed, **options: Any) -> AggregateResult:
    options = options or BUFFERED
    return aggregate(signed.run, options=options, key=signed.coordinator.path)


def change(path: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    """Change a JSON file as anybody can who may write into the directory."""
    values = json.loads(path.read_text())
    edit(values)
    write_json(path, values)


def without(client: str) -> Callable[[dict[str, Any]], None]:
    def edit(values: dict[str, Any]) -> None:
        values["accepted"] = [one for one in values["accepted"] if one["client"] != client]

    return edit


def two_of_round_one(signed: Signed) -> None:
    signed.deliver("0", tensors(1))
    signed.deliver("1", tensors(2))
    assert accepted(finish(signed)) == ["0", "1"]
    signed.deliver("1", tensors(3), round_number=2)


def also_used(client: str, number: int) -> Callable[[dict[str, Any]], None]:
    def edit(values: dict[str, Any]) -> None:
        values["accepted"] += [{**values["accepted"][0], "client": client, "round": number}]

    return edit


def other_rounds(values: dict[str, Any]) -> None:
    for entry in values["accepted"]:
        entry["round"] = 0


def test_a_used_update_is_not_averaged_again_whatever_the_manifest_says(signed: Signed) -> None:
    two_of_round_one(signed)
    change(signed.run.round(1).manifest, without("0"))
    assert accepted(finish(signed)) == ["1"]


@pytest.mark.parametrize("spoil", [lambda path: path.unlink(), lambda path: path.write_text("{}")])
def test_nor_if_there_is_no_manifest(signed: Signed, spoil: Callable[[Path], None]) -> None:
    two_of_round_one(signed)
    spoil(signed.run.round(1).manifest)
    assert accepted(finish(signed)) == ["1"]


def test_nor_if_it_gives_the_updates_other_rounds(signed: Signed) -> None:
    two_of_round_one(signed)
    change(signed.run.round(1).manifest, other_rounds)
    assert accepted(finish(signed)) == ["1"]


def test_a_late_update_counts_though_the_manifest_says_that_it_did(signed: Signed) -> None:
    signed.deliver("0", tensors(1))
    finish(signed)
    signed.deliver("1", tensors(2))  # of round 1, late
    change(signed.run.round(1).manifest, also_used("1", 1))
    signed.deliver("0", tensors(3), round_number=2)
    assert accepted(finish(signed)) == ["0", "1"]


def test_an_update_that_was_used_late_is_used_up(signed: Signed) -> None:
    """The header says of which round it was: another one of that client still counts."""
    signed.deliver("0", tensors(1))
    finish(signed)
    signed.deliver("1", tensors(2))
    signed.deliver("0", tensors(3), round_number=2)
    finish(signed)
    with Checkpoint(signed.run.round(2).global_model) as model:
        assert model.metadata.late == {"1": 1}
    for number in (1, 2):
        change(signed.run.round(number).manifest, lambda values: values.update(accepted=[]))
    signed.deliver("1", tensors(4), round_number=2)
    signed.deliver("0", tensors(5), round_number=3)
    result = finish(signed)
    assert [(c.client, c.round) for c in result.clients] == [("0", 3), ("1", 2)]


def test_a_model_that_the_next_was_not_made_from_is_named(signed: Signed) -> None:
    """An older model with another header would free the updates in it."""
    two_of_round_one(signed)
    finish(signed)
    signed.deliver("1", tensors(6), round_number=3)
    model = signed.run.round(1).global_model
    with Checkpoint(model) as found:
        values, metadata = found.tensors(), found.metadata
    updates = {"1": (metadata.updates or {})["1"]}
    save(model, values, replace(metadata, updates=updates))
    with pytest.raises(BadInputError, match=r"0001/global\.safetensors: is not the model that"):
        finish(signed)


def test_a_lost_model_frees_no_update(signed: Signed) -> None:
    two_of_round_one(signed)
    finish(signed)
    signed.run.round(1).global_model.unlink()
    assert {("0", 1), ("1", 1), ("1", 2)} <= used_updates(signed.run, 1, 3)


def test_the_mismatch_is_named(signed: Signed, cli: Callable[..., tuple[int, str, str]]) -> None:
    two_of_round_one(signed)
    change(signed.run.round(1).manifest, without("0"))
    words = ("--run", signed.run.root, "--strategy", "fedbuff", "--buffer", "1")
    status, _, err = cli("aggregate", *words, "--key", signed.coordinator.path)
    assert status == 0
    assert "aggregate.json names other updates than the global model" in err
    (found,) = report([signed.run]).runs
    expected = "rounds/0001/aggregate.json is left out of this report: names other updates"
    assert found.notes[0].text.startswith(expected)
    assert [client.client for client in found.rounds[1].clients] == ["0", "1"]
    assert not verify(signed.run.root).sound


def test_a_repeated_aggregation_does_not_confirm_a_changed_manifest(signed: Signed) -> None:
    signed.deliver("0", tensors(1))
    finish(signed)
    change(
        signed.run.round(1).manifest, lambda values: values["accepted"][0].update(sha256="0" * 64)
    )
    with pytest.raises(LostError, match=r"aggregate\.json names other updates than its header"):
        aggregate(signed.run, round_number=1, options=BUFFERED, key=signed.coordinator.path)


@pytest.mark.parametrize("how", ["another model", "broken", "missing"])
def test_a_changed_manifest_stops_nobody_where_the_model_is_signed(
    signed: Signed, how: str
) -> None:
    two_of_round_one(signed)
    manifest = signed.run.round(1).manifest
    if how == "another model":
        change(manifest, lambda values: values.update({"global": "f" * 64}))
    elif how == "broken":
        manifest.write_text("[]")
    else:
        manifest.unlink()
    assert accepted(finish(signed)) == ["1"]


@pytest.mark.parametrize("claim", [None, "0" * 64])
def test_the_signature_says_which_server_state_goes_with_a_model(
    signed: Signed, claim: str | None
) -> None:
    """Without its moments, Adam would start anew; nothing would say so."""
    for client in "012":
        signed.deliver(client, tensors(int(client) + 1))
    finish(signed, strategy="fedadam")
    kept = digest(signed.run.round(1).server_state)
    change(signed.run.round(1).manifest, lambda values: values.update(server_state=claim))
    assert read_slot(signed.run, 2, "momentum")[1] == kept
    for client in "012":
        signed.deliver(client, tensors(int(client) + 5), round_number=2)
    finish(signed, strategy="fedadam")
    with Checkpoint(signed.run.round(2).server_state) as state:
        assert state.metadata.steps == 2
    flip(signed.run.round(2).server_state, 8 * 3000)
    with pytest.raises(BadInputError, match=r"is not the state that .*global\.sig names"):
        read_slot(signed.run, 3, "momentum")


def test_a_client_finds_its_state_by_the_model_that_used_its_update(tmp_path: Path) -> None:
    from support.small_runs import play, small_run

    run = small_run(tmp_path / "run")
    play(run, 1, {"algorithm": "scaffold"}, {"strategy": "scaffold"})

    def forge(values: dict[str, Any]) -> None:
        without("0")(values)
        values["server_optimizer"] = "sgd"

    change(run.round(1).manifest, forge)
    found = StateStore(run).round_before(2, "0", "control", server_optimizer="scaffold")
    assert found == 1


def test_gc_keeps_what_proves_who_delivered_a_used_update(signed: Signed) -> None:
    two_of_round_one(signed)
    finish(signed)
    signed.deliver("1", tensors(6), round_number=3)
    finish(signed)
    for number in (1, 2):
        change(signed.run.round(number).manifest, lambda values: values.update(accepted=[]))
    gc(signed.run, 1)
    for client in "01":
        assert signed.run.round(1).signature(client).exists()


def test_gc_keeps_a_late_update_that_only_the_manifest_calls_used(signed: Signed) -> None:
    signed.deliver("0", tensors(1))
    finish(signed)
    signed.deliver("1", tensors(2))
    change(signed.run.round(1).manifest, also_used("1", 1))
    signed.deliver("0", tensors(3), round_number=2)
    aggregate(signed.run, exclude=["1", "2"], key=signed.coordinator.path)
    change(signed.run.round(2).manifest, lambda values: values.update(rejected=[], late=[]))
    gc(signed.run, 1)
    assert signed.run.round(1).update("1").exists()


def test_force_restores_the_model_that_the_next_one_names(tmp_path: Path) -> None:
    run = planned(tmp_path, ("0", "1"))
    deliver_all(run, "01")
    aggregate(run)
    before: Tensors = loaded(run.round(1).global_model)
    deliver_all(run, "01", 2)
    aggregate(run)
    # the same inputs restore the model, though its manifest is lost
    run.round(1).manifest.unlink()
    model = run.round(1).global_model
    flip(model, 8 * (model.stat().st_size - 9))
    aggregate(run, round_number=1, force=True)
    same_bits(loaded(run.round(1).global_model), before)


def test_unsigned_runs_decide_by_the_headers_too(tmp_path: Path) -> None:
    run = planned(tmp_path, ("0", "1"))
    deliver_all(run, "01")
    aggregate(run, options={**BUFFERED, "buffer": 2})
    change(run.round(1).manifest, without("0"))
    deliver_all(run, "1", 2)
    assert accepted(aggregate(run, options=BUFFERED)) == ["1"]
