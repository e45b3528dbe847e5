"""Partial means that do not fit, and those that are there already."""

from pathlib import Path

import numpy as np
import pytest
from support.handmade import copied, edge, filled, snapshot, wide
from support.runs import deliver, tensors

from fedcli.errors import CheckpointError, ConflictError, FedcliError, NotReadyError, UpdateError
from fedcli.run import Run
from fedcli.steps.aggregate import aggregate
from fedcli.steps.partial import partial

CLIENTS = tuple("012345")
pytestmark = pytest.mark.usefixtures("unsynced")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return filled(tmp_path / "run", {client: wide(1 + int(client)) for client in CLIENTS})


# --- files that do not fit ---------------------------------------------------------------------


def test_of_another_round_run_base_or_weighting(tmp_path: Path, run: Run) -> None:
    first = edge(run, "first", "0", "1")
    with pytest.raises(UpdateError, match="weighting"):
        aggregate(run, members=[first], options={"weighting": "uniform"})
    other = filled(tmp_path / "other", {c: tensors(int(c)) for c in "01"})
    foreign = partial(other, [], tmp_path / "foreign.safetensors").path
    with pytest.raises(UpdateError, match=r"foreign\.safetensors: belongs to run"):
        aggregate(run, members=[str(foreign)])
    aggregate(run)
    for client in CLIENTS:
        deliver(run, client, wide(7), round_number=2)
    with pytest.raises(UpdateError, match=r"first\.safetensors: belongs to round 1, expected 2"):
        aggregate(run, members=[first])
    second = edge(run, "second", "0", "1")
    aggregate_again = copied(run, tmp_path / "again")
    for path in aggregate_again.round(2).updates.iterdir():
        path.unlink()
    aggregate(aggregate_again, round_number=1, options={"weighting": "uniform"}, force=True)
    with pytest.raises(UpdateError, match=r"second\.safetensors: .*another base model"):
        aggregate(aggregate_again, members=[second], min_clients=2)


def test_no_partial_mean_at_all(run: Run) -> None:
    path = Path(edge(run, "left", "0", "1"))
    whole = path.read_bytes()
    cases: list[tuple[bytes, type[FedcliError], str]] = [
        (whole[:-8], CheckpointError, "truncated"),
        (whole[:100], CheckpointError, "truncated"),
        (run.round(1).update("0").read_bytes(), CheckpointError, "expected a .* kind partial"),
    ]
    for data, error, message in cases:
        path.write_bytes(data)
        with pytest.raises(error, match=message):
            aggregate(run, members=[str(path)])
    path.unlink()
    with pytest.raises(NotReadyError, match=r"left\.safetensors: no such file"):
        aggregate(run, members=[str(path)])


def test_a_value_that_is_no_number(run: Run) -> None:
    values = wide(3)
    values["d.weight"][5] = np.inf
    deliver(run, "1", values)
    before = snapshot(run)
    with pytest.raises(UpdateError, match=r"/1\.safetensors: tensor 'd\.weight': 1 of"):
        edge(run, "left", "0", "1")
    assert snapshot(run) == before
    assert not (run.root.parent / "left.safetensors").exists()


# --- doing it again ----------------------------------------------------------------------------


def test_an_output_that_exists(run: Run) -> None:
    path = Path(edge(run, "left", "0", "1"))
    data = path.read_bytes()
    assert partial(run, ["1", "0"], path).already_done
    for members, options in ((["0", "2"], {}), (["0", "1"], {"weighting": "uniform"})):
        with pytest.raises(ConflictError, match=r"left\.safetensors: exists, and was made from"):
            partial(run, members, path, options=options)
    assert path.read_bytes() == data
    assert not partial(run, ["0", "2"], path, force=True).already_done
    path.write_text("hello")
    with pytest.raises(ConflictError, match="is not a partial mean"):
        partial(run, ["0", "1"], path)
    assert path.read_text() == "hello"
    partial(run, ["0", "1"], path, force=True)
    assert path.read_bytes() == data


def test_who_is_named_has_to_be_there(run: Run) -> None:
    run.round(1).update("3").unlink()
    with pytest.raises(NotReadyError, match="no update of 3"):
        edge(run, "left", "0", "3")
    assert (
        partial(run, [], run.root.parent / "all.safetensors", exclude=["0"]).clients[0].client
        == "1"
    )
