"""FedBuff: rounds that end with a full buffer, and updates that come late."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.handmade import deliver_all, loaded, planned, snapshot, who
from support.runs import tensors

from fedcli.errors import NotReadyError, UsageError
from fedcli.formats.manifest import Absence
from fedcli.run import Run
from fedcli.steps.aggregate import AggregateResult, aggregate
from fedcli.steps.status import status

pytestmark = pytest.mark.usefixtures("unsynced")


def buffered(run: Run, **options: Any) -> AggregateResult:
    return aggregate(run, options={"strategy": "fedbuff", **options})


def test_a_buffer_that_is_not_full_is_not_ready(tmp_path: Path) -> None:
    run = planned(tmp_path, ("0", "1", "2", "3"))
    deliver_all(run, "0")
    before = snapshot(run)
    with pytest.raises(NotReadyError, match="1 of 2 updates that --buffer asks for"):
        buffered(run)  # half of the clients
    with pytest.raises(NotReadyError, match="1 of 3 updates"):
        buffered(run, buffer=3)
    assert snapshot(run) == before
    deliver_all(run, "3")
    result = buffered(run)
    assert (who(result), result.missing) == (["0", "3"], ())
    with pytest.raises(UsageError, match="--min-clients"):
        aggregate(run, round_number=1, options={"strategy": "fedbuff"}, min_clients=2)


def test_a_stale_update_counts_less_from_its_own_base_and_once(tmp_path: Path) -> None:
    """x + 1/n Σ (y_i - x_i) / sqrt(1 + s_i); buffers are averaged in the same proportions."""
    run = planned(tmp_path, ("0", "1", "2"))
    deliver_all(run, "01")
    buffered(run, buffer=2)
    deliver_all(run, "01", 2)
    buffered(run, buffer=2)
    deliver_all(run, "2")  # of round 1, for round 3
    deliver_all(run, "0", 3)
    result = buffered(run, buffer=2)
    assert [(c.client, c.round) for c in result.clients] == [("0", 3), ("2", 1)]
    factor = 1 / np.sqrt(3)
    assert [c.weight for c in result.clients] == pytest.approx([1 / 2, factor / 2], rel=1e-15)
    x0, x2, y0, y2 = (
        {name: values.astype(np.float64) for name, values in model.items()}
        for model in (
            loaded(run.round(0).global_model),
            loaded(run.round(2).global_model),
            tensors(30),
            tensors(12),
        )
    )
    found = loaded(result.path)
    for name in y0:
        expected = x2[name] + (y0[name] - x2[name] + factor * (y2[name] - x0[name])) / 2
        if name == "bn.running_mean":
            expected = (y0[name] + factor * y2[name]) / (1 + factor)
        if name == "bn.num_batches_tracked":
            expected = 30
        np.testing.assert_allclose(found[name], expected, rtol=1e-6, atol=1e-6)
    deliver_all(run, "1", 4)
    with pytest.raises(NotReadyError, match="1 of 2 updates"):
        buffered(run, buffer=2)  # what was used is used up
    assert buffered(run, buffer=1).late == ()


def test_a_newer_update_replaces_an_older_one(tmp_path: Path) -> None:
    run = planned(tmp_path, ("0", "1"))
    deliver_all(run, "0")
    buffered(run, buffer=1)
    deliver_all(run, "1")
    deliver_all(run, "1", 2)
    result = buffered(run, buffer=1)
    assert [(c.client, c.round) for c in result.clients] == [("1", 2)]
    assert result.late == (Absence("1", "replaced by its update of round 2", 1),)
    deliver_all(run, "0", 3)
    assert buffered(run, buffer=1).late == ()


def test_beyond_the_maximum_an_update_is_late(tmp_path: Path) -> None:
    run = planned(tmp_path, ("0", "1"))
    for number in (1, 2, 3):
        deliver_all(run, "0", number)
        buffered(run, buffer=1)
    deliver_all(run, "1")
    deliver_all(run, "0", 4)
    result = buffered(run, buffer=1, max_staleness=2)
    assert who(result) == ["0"]
    assert result.late == (Absence("1", "3 rounds late, more than --max-staleness 2", 1),)
    deliver_all(run, "0", 5)
    assert buffered(run, buffer=1, max_staleness=2).late == ()


def test_who_is_excluded_does_not_come_in_late(tmp_path: Path) -> None:
    run = planned(tmp_path, ("0", "1"))
    deliver_all(run, "0")
    buffered(run, buffer=1)
    deliver_all(run, "1")
    deliver_all(run, "0", 2)
    result = aggregate(run, options={"strategy": "fedbuff", "buffer": 1}, exclude=["1"])
    assert (who(result), result.late) == (["0"], ())
    assert result.rejected == (Absence("1", "excluded"), Absence("1", "excluded", 1))
    deliver_all(run, "0", 3)
    result = buffered(run, buffer=1)
    assert (who(result), result.rejected) == (["0"], ())  # it was told, and is done with


def test_a_round_whose_manifest_was_lost_counts_nothing_twice(tmp_path: Path) -> None:
    run = planned(tmp_path, ("0", "1"))
    deliver_all(run, "01")
    buffered(run, buffer=2)
    run.round(1).manifest.unlink()
    deliver_all(run, "0", 2)
    assert who(buffered(run, buffer=1)) == ["0"]


def test_a_late_update_that_a_lost_manifest_told_of_counts_only_once(tmp_path: Path) -> None:
    run = planned(tmp_path, ("0", "1"))
    deliver_all(run, "0")
    buffered(run, buffer=1)
    deliver_all(run, "1")  # of round 1, which round 2 takes up
    deliver_all(run, "0", 2)
    assert [(c.client, c.round) for c in buffered(run, buffer=2).clients] == [("0", 2), ("1", 1)]
    run.round(2).manifest.unlink()
    deliver_all(run, "0", 3)
    assert who(buffered(run, buffer=1)) == ["0"]


def test_status_says_aggregate_as_soon_as_the_buffer_is_full(tmp_path: Path) -> None:
    run = planned(tmp_path, ("0", "1", "2"), strategy="fedbuff", buffer=2)
    deliver_all(run, "0")
    assert status(run).next.startswith("fedcli train-client --id 1")
    deliver_all(run, "1")
    assert status(run).next.startswith("fedcli aggregate")
    assert who(aggregate(run)) == ["0", "1"]
    deliver_all(run, "2")  # of round 1
    deliver_all(run, "0", 2)
    assert status(run).next.startswith("fedcli aggregate")
    assert who(aggregate(run)) == ["0", "2"]
    deliver_all(run, "1", 3)
    assert not status(run).next.startswith("fedcli aggregate")
