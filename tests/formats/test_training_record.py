"""What an update says of its training: flat JSON, whose known keys have a type."""

import json
from typing import Any

import pytest
from support.runs import deliver, tensors

from fedcli.formats.checkpoint import Checkpoint
from fedcli.formats.metadata import Kind, Metadata
from fedcli.formats.training_record import InterruptedRecord, ServerRecord, TrainingRecord
from fedcli.run import Run
from fedcli.steps.aggregate import aggregate


def header(kind: str, training: object) -> str:
    values = {"format": 1, "kind": kind, "roles": {}, "run": "f" * 64, "training": training}
    return json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


STRANGE = {
    "lr": 0.1,
    "mu": "much",
    "note": [1, {"a": None}],
    "options": {"x": 1},
    "state": "7" * 64,
}


@pytest.mark.parametrize(
    ("kind", "training"),
    [
        ("update", STRANGE),
        ("update", {**STRANGE, "state": ["7" * 64, "8" * 64], "freeze": ["fc"], "compile": True}),
        ("client-state", STRANGE),
        ("partial", {"feddyn_alpha": 0.1, "freeze": ["fc"]}),
        ("server-state", {"options": {"server_lr": 1.0}, "server_optimizer": "adam"}),
        ("training", {"state": {"stage": 0}, "update": {"a": None}, "versions": {"torch": "2"}}),
    ],
    ids=str,
)
def test_a_header_is_written_as_it_was_read(kind: str, training: dict[str, Any]) -> None:
    text = header(kind, training)
    assert Metadata.decode(text).encode() == text


def test_each_kind_has_a_record_of_its_own_under_the_same_key() -> None:
    update = Metadata.decode(header("update", STRANGE))
    assert (update.training.lr, update.server, update.interrupted) == (0.1, None, None)
    assert update.training.started_from == ("7" * 64,)
    server = Metadata.decode(header("server-state", {"server_optimizer": "adam"}))
    assert server.server == ServerRecord("adam", {})
    kept = Metadata.decode(header("training", {"update": {}, "versions": {}, "state": {"a": 1}}))
    assert kept.interrupted == InterruptedRecord({}, {}, {"a": 1})
    assert server.training == kept.training == TrainingRecord()


def test_a_key_is_found_be_it_a_field_or_an_option() -> None:
    record = TrainingRecord().plus({"lr": 0.1, "mu": 0.5, "local_layers": ("fc",)})
    assert [record.get(key) for key in ("lr", "mu", "steps", "nothing")] == [0.1, 0.5, None, None]
    assert record.local_layers == ("fc",)
    assert record.options == {"mu": 0.5}


WRONG = {
    "algorithm": 1,
    "lr": "0.1",
    "momentum": True,
    "epochs": 1.5,
    "steps": "2",
    "initial_loss": True,
    "freeze": [1],
    "compile": "yes",
    "threads": [],
    "state": {},
    "server_state": 7,
}


@pytest.mark.parametrize("key", WRONG)
def test_a_known_key_of_another_type_makes_a_bad_update_and_no_failure(
    tiny_run: Run, key: str
) -> None:
    deliver(tiny_run, "0", tensors(0), training={key: WRONG[key]})
    for client in "12":
        deliver(tiny_run, client, tensors(1))
    (rejected,) = aggregate(tiny_run, min_clients=2).rejected
    assert rejected.client == "0"
    assert f"metadata.training.{key}" in rejected.reason
    assert "expected" in rejected.reason


def test_what_another_program_records_is_kept(tiny_run: Run) -> None:
    deliver(tiny_run, "0", tensors(0), training={"theirs": {"deep": [1, 2]}})
    with Checkpoint(tiny_run.round(1).update("0"), Kind.UPDATE) as update:
        assert update.metadata.training.options == {"theirs": {"deep": [1, 2]}}
