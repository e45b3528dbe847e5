"""Who takes part in a round: sampling, waiting, late updates, and asynchronous rounds."""

import threading
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.handmade import TEN, deliver_all, planned, snapshot, who
from support.runs import fedcli, run_info

from fedcli.errors import NotReadyError, UsageError
from fedcli.formats.manifest import Absence
from fedcli.plan import AggregatePlan, Plan
from fedcli.run import quorum as module
from fedcli.run.sampling import sampled_clients
from fedcli.steps.aggregate import aggregate
from fedcli.steps.status import status

pytestmark = pytest.mark.usefixtures("unsynced")


# --- sampling ----------------------------------------------------------------------------------


@given(st.integers(0, 2**63 - 1), st.integers(1, 10**6), st.integers(1, 10))
def test_who_is_drawn_follows_from_the_seed_and_the_round(seed: int, number: int, k: int) -> None:
    info = replace(run_info(TEN), seed=seed)
    drawn = sampled_clients(info, number, AggregatePlan(clients_per_round=k))
    assert drawn == sampled_clients(info, number, AggregatePlan(clients_per_round=k))
    assert len(set(drawn)) == k
    assert list(drawn) == [client for client in TEN if client in drawn]
    shuffled = replace(info, clients=TEN, plan=Plan(aggregate=AggregatePlan(clients_per_round=k)))
    assert drawn == sampled_clients(shuffled, number)


def test_rounds_and_seeds_draw_others_and_nobody_more_often() -> None:
    plan = AggregatePlan(clients_per_round=3)
    draws = [sampled_clients(run_info(TEN), number, plan) for number in range(1, 2001)]
    assert len(set(draws)) == 120  # all there are
    counts = [sum(client in drawn for drawn in draws) for client in TEN]
    assert all(500 < count < 700 for count in counts)  # 600 expected, standard deviation 20
    other = replace(run_info(TEN), seed=1)
    assert draws[:20] != [sampled_clients(other, number, plan) for number in range(1, 21)]


@pytest.mark.parametrize(
    ("fraction", "count"),
    [
        (1e-9, 1),
        (0.04, 1),
        (0.1, 1),
        (0.14, 1),
        (0.15, 2),
        (0.25, 3),
        (0.5, 5),
        (0.96, 10),
        (1, 10),
    ],
)
def test_a_fraction_is_rounded_and_at_least_one(fraction: float, count: int) -> None:
    drawn = sampled_clients(run_info(TEN), 1, AggregatePlan(fraction=fraction))
    assert len(drawn) == count


def test_more_than_there_are_is_refused(tmp_path: Path) -> None:
    run = planned(tmp_path, clients_per_round=11)
    with pytest.raises(UsageError, match="at most 10, found 11"):
        aggregate(run)
    with pytest.raises(UsageError, match="without a list of clients"):
        sampled_clients(run_info(()), 1, AggregatePlan(fraction=0.5))


def test_a_session_with_sampled_clients(tmp_path: Path) -> None:
    run = planned(tmp_path / "fedrun", clients_per_round=3)
    drawn = sampled_clients(run.info, 1)
    shown = fedcli("status", "--sampled", cwd=tmp_path)
    assert (shown.status, shown.out) == (0, ",".join(drawn) + "\n")
    later = fedcli("status", "--sampled", "--round", 7, cwd=tmp_path)
    assert later.out == ",".join(sampled_clients(run.info, 7)) + "\n"
    others = [client for client in TEN if client not in drawn]
    deliver_all(run, [*drawn[:2], others[0]])
    early = fedcli("aggregate", cwd=tmp_path)
    assert early.status == 3
    assert f"2 of 3 clients have delivered an update; missing: {drawn[2]}" in early.err
    deliver_all(run, [drawn[2]])
    done = fedcli("aggregate", "--json", cwd=tmp_path).json
    assert [entry["client"] for entry in done["clients"]] == list(drawn)
    (rejected,) = done["rejected"]
    assert (rejected["client"], rejected["reason"]) == (others[0], "not sampled")


def test_who_is_named_counts_though_not_sampled(tmp_path: Path) -> None:
    run = planned(tmp_path, clients_per_round=2)
    other = next(c for c in TEN if c not in sampled_clients(run.info, 1))
    deliver_all(run, TEN)
    result = aggregate(run, members=[other])
    assert who(result) == [other]
    assert {r.reason for r in result.rejected} == {"not named on the command line"}
    assert len(result.rejected) == 9
    assert aggregate(run, round_number=1, members=[other]).already_done


def test_who_is_named_and_missing_is_waited_for(tmp_path: Path) -> None:
    run = planned(tmp_path)
    deliver_all(run, "12")
    with pytest.raises(NotReadyError, match=r"1 of 2 .*missing: 7"):
        aggregate(run, members=["1", "7"])
    result = aggregate(run, members=["1", "7"], min_clients=1)
    assert (who(result), result.missing) == (["1"], (Absence("7", "has not delivered"),))
    for unknown in ("11", "x", "../1"):
        with pytest.raises(UsageError):
            aggregate(run, round_number=1, members=[unknown])


# --- waiting -----------------------------------------------------------------------------------


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_POLL_SECONDS", 0.01)


@pytest.mark.usefixtures("often")
def test_waiting_ends_as_soon_as_all_have_delivered(tmp_path: Path) -> None:
    run = planned(tmp_path, ("0", "1"))
    deliver_all(run, "0")
    late = threading.Timer(0.05, deliver_all, [run, "1"])
    late.start()
    assert who(aggregate(run, wait=3600)) == ["0", "1"]  # or this test does not end
    late.join()


@pytest.mark.usefixtures("often")
def test_at_the_deadline_a_quorum_is_enough_and_less_is_not(tmp_path: Path) -> None:
    run = planned(tmp_path, ("0", "1", "2"))
    deliver_all(run, "01")
    before = snapshot(run)
    with pytest.raises(NotReadyError, match=r"2 of 3 .*missing: 2"):
        aggregate(run, wait=0.05)
    assert snapshot(run) == before
    assert who(aggregate(run, wait=0.05, min_clients=2)) == ["0", "1"]


def test_nobody_is_waited_for_once_the_round_is_complete(tmp_path: Path) -> None:
    run = planned(tmp_path, ("0", "1"))
    deliver_all(run, "0")
    aggregate(run, min_clients=1)
    assert aggregate(run, round_number=1, min_clients=1, wait=3600).already_done


def test_what_cannot_be_met_is_not_waited_for(tmp_path: Path) -> None:
    run = planned(tmp_path, ("0", "1"))
    for options in ({"exclude": ["0-1"]}, {"options": {"strategy": "fedbuff"}, "min_clients": 1}):
        with pytest.raises(UsageError):
            aggregate(run, wait=3600, **options)


# --- late --------------------------------------------------------------------------------------


def test_a_late_update_is_told_once_with_its_round(tmp_path: Path) -> None:
    run = planned(tmp_path, ("0", "1", "2"))
    deliver_all(run, "01")
    aggregate(run, min_clients=2)
    deliver_all(run, "2")  # too late for round 1
    deliver_all(run, "01", 2)
    result = aggregate(run, min_clients=2)
    assert result.late == (Absence("2", "round 1 was complete when it arrived", 1),)
    assert result.missing == (Absence("2", "has not delivered"),)
    deliver_all(run, "012", 3)
    result = aggregate(run)
    assert (result.late, who(result)) == ((), ["0", "1", "2"])


def test_who_was_left_out_on_purpose_is_not_late(tmp_path: Path) -> None:
    run = planned(tmp_path, ("0", "1", "2"))
    deliver_all(run, "012")
    aggregate(run, exclude=["2"])
    deliver_all(run, "012", 2)
    assert aggregate(run).late == ()


def test_who_was_left_out_before_delivering_is_late_once(tmp_path: Path) -> None:
    run = planned(tmp_path, ("0", "1", "2"))
    deliver_all(run, "01")
    assert aggregate(run, exclude=["2"]).rejected == (Absence("2", "excluded", None),)
    deliver_all(run, "2")  # after all, but for round 1
    deliver_all(run, "012", 2)
    result = aggregate(run)
    assert result.late == (Absence("2", "round 1 was complete when it arrived", 1),)
    deliver_all(run, "012", 3)
    assert aggregate(run).late == ()


def test_what_is_too_late_is_late_whoever_counts_now(tmp_path: Path) -> None:
    run = planned(tmp_path, ("0", "1", "2"))
    deliver_all(run, "01")
    aggregate(run, min_clients=2)
    deliver_all(run, "2")
    deliver_all(run, "01", 2)
    result = aggregate(run, exclude=["2"])
    assert [(absence.client, absence.round) for absence in result.late] == [("2", 1)]
    assert result.rejected == (Absence("2", "excluded", None),)


# --- sampling that is typed ----------------------------------------------------------------------


@pytest.mark.parametrize("sampling", [{"clients_per_round": 2}, {"fraction": 0.7}])
def test_typed_sampling_is_the_same_for_status_and_aggregate(
    sampling: dict[str, float], tmp_path: Path
) -> None:
    run = planned(tmp_path, fraction=0.3)
    run.client_shard("0").parent.mkdir()
    for client in TEN:
        run.client_shard(client).touch()
    typed = [f"--{name.replace('_', '-')} {value}" for name, value in sampling.items()]
    before = status(run, sampling=sampling)
    with pytest.raises(NotReadyError) as raised:
        aggregate(run, options=sampling)
    assert raised.value.hint == before.next
    assert (typed[0] in before.next) == (len(before.sampled) > 5)  # then they are not listed
    deliver_all(run, before.sampled)
    then = status(run, sampling=sampling)
    assert (then.missing, then.next.split(" --run")[0]) == ((), f"fedcli aggregate {typed[0]}")
    assert who(aggregate(run, options=sampling)) == list(before.sampled)
    assert set(status(run, 1).sampled) != set(before.sampled)


def test_the_draw_can_be_asked_for_with_options(tmp_path: Path) -> None:
    run = planned(tmp_path / "fedrun")
    shown = fedcli("status", "--sampled", "--clients-per-round", 2, cwd=tmp_path)
    drawn = sampled_clients(run.info, 1, AggregatePlan(clients_per_round=2))
    assert (shown.status, shown.out) == (0, ",".join(drawn) + "\n")
    assert fedcli("status", "--clients-per-round", 11, cwd=tmp_path).status == 2
