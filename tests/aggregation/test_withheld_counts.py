"""Updates of private training, which withhold their number of examples."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from support.handmade import copied, edge, loaded
from support.runs import deliver, tensors, training_record

from fedcli.errors import ExitStatus, UpdateError
from fedcli.formats.ledger import Mechanism, PrivacyEvent, Relation
from fedcli.formats.manifest import Manifest
from fedcli.run import Run
from fedcli.steps.aggregate import aggregate
from fedcli.steps.verify import verify

pytestmark = pytest.mark.usefixtures("unsynced")
EVENT = PrivacyEvent(Mechanism.POISSON, 1.0, 1.0, 8.0, Relation.ADD_REMOVE, 0.25, 4)
CLIENTS = ("0", "1", "2")


def private(**more: Any) -> dict[str, Any]:
    facts = {"algorithm": "fedavg", "optimizer": "sgd", "momentum": 0.0, "lr": 0.1, "steps": 4}
    training = training_record({**facts, "epochs": 1, "batch_size": 8, "privacy": EVENT, **more})
    return {"num_examples": None, "training": training}


@pytest.fixture
def run(tiny_run: Run) -> Run:
    """Three updates, all private."""
    for number, client in enumerate(CLIENTS, 1):
        deliver(tiny_run, client, tensors(number), **private())
    return tiny_run


@pytest.mark.parametrize("strategy", ["fedavg", "fedadam", "median", "krum", "rfa", "fednova"])
def test_clients_count_alike(run: Run, tmp_path: Path, strategy: str) -> None:
    """As clients with the same number of examples do."""
    options = {"strategy": strategy, "weighting": _weighting(strategy)}
    told = copied(run, tmp_path / "told")
    shutil.rmtree(told.round(1).path)
    for number, client in enumerate(CLIENTS, 1):
        deliver(told, client, tensors(number), **{**private(), "num_examples": 7})
    ends = [aggregate(one, options=options).path for one in (run, told)]
    first, second = map(loaded, ends)
    assert {k: v.tobytes() for k, v in first.items()} == {k: v.tobytes() for k, v in second.items()}


def _weighting(strategy: str) -> str | None:
    return None if strategy in ("fednova", "krum") else "uniform"


def test_nothing_names_a_number(run: Run) -> None:
    result = aggregate(run, options={"weighting": "uniform"})
    manifest = Manifest.read(run.round(1).manifest)
    assert manifest is not None
    assert [one.num_examples for one in manifest.accepted] == [None] * 3
    assert json.loads(run.round(1).manifest.read_text())["accepted"][0]["num_examples"] is None
    assert "num_examples" not in str(result.path.read_bytes()[:5000])
    assert verify(run.root).sound


def test_weights_by_examples_are_refused_with_the_way_out(run: Run) -> None:
    for weighting in ("examples", None):
        with pytest.raises(UpdateError, match="withholds its number of examples") as caught:
            aggregate(run, options={"weighting": weighting})
        assert caught.value.client == "0"
        assert "--weighting uniform" in str(caught.value.hint)
        assert caught.value.status == ExitStatus.BAD_INPUT
    assert not run.round(1).global_model.exists()


def test_so_are_they_if_only_one_withholds_it(run: Run) -> None:
    deliver(run, "0", tensors(1), **{**private(), "num_examples": 5})
    deliver(run, "2", tensors(3), **{**private(), "num_examples": 5})
    for weighting in ("examples", "fednova"):
        with pytest.raises(UpdateError, match="withholds its number of examples") as caught:
            aggregate(run, options={"weighting": weighting})
        assert caught.value.client == "1"
    aggregate(run, options={"weighting": "uniform"})
    manifest = Manifest.read(run.round(1).manifest)
    assert manifest is not None
    assert [one.num_examples for one in manifest.accepted] == [5, None, 5]
    assert verify(run.root).sound


def test_an_update_that_is_not_private_must_name_it(run: Run) -> None:
    deliver(run, "1", tensors(1), num_examples=None)
    with pytest.raises(UpdateError, match="has num_examples None, expected 1 or more"):
        aggregate(run, options={"weighting": "uniform"})
    assert "num_examples None" in str(verify(run.root).findings)


def test_steps_are_bounded_by_the_others(run: Run) -> None:
    deliver(run, "1", tensors(1), **private(steps=4000))
    result = aggregate(run, options={"weighting": "fednova"})
    assert [(one.client, one.what, one.used) for one in result.bounded] == [("1", "steps", 40.0)]


def test_a_partial_mean_of_them_withholds_it_too(run: Run) -> None:
    alike = {"weighting": "uniform"}
    made = edge(run, "edge", "0", "1", options=alike)
    aggregate(run, members=["2", made], options=alike)
    manifest = Manifest.read(run.round(1).manifest)
    assert manifest is not None
    assert manifest.partials[0].num_examples is None
    assert verify(run.root).sound
