"""A report says what it compares: the algorithm, its options, and who left the plan."""

import csv
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.runs import training_record
from support.sample_runs import edit_manifest, make_run, score, without, write_evaluation
from support.small_runs import small_run

from fedcli.formats.manifest import Manifest
from fedcli.plan import AggregatePlan, Plan, TrainPlan
from fedcli.plan.departures import Departures
from fedcli.reporting.page import to_html
from fedcli.reporting.tidy import to_csv
from fedcli.run import Run
from fedcli.run.sampling import sampled_clients
from fedcli.steps.aggregate import aggregate
from fedcli.steps.report import report
from fedcli.steps.train_client import train_client

pytestmark = pytest.mark.usefixtures("unsynced")
FEDPROX = TrainPlan.of(algorithm="fedprox", mu=0.3, epochs=1, batch_size=16, lr=0.05)
Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def trained(tmp_path: Path) -> Run:
    """FedProx in one round; client 2 trains with options of its own."""
    run = small_run(tmp_path / "fedrun", Plan(FEDPROX))
    train_client(run, ["0,1"])
    train_client(run, ["2"], options={"lr": 0.1, "epochs": 4})
    aggregate(run)
    return run


def texts(run: Run) -> list[str]:
    (found,) = report([run]).runs
    return [note.text for note in found.notes]


def test_the_heading_names_the_algorithm_and_what_sets_runs_apart(trained: Run, cli: Cli) -> None:
    status, out, _ = cli("report", trained.root)
    assert status == 0
    heading = " ".join(out.split("method")[0].split())
    for words in ("fedprox (mu 0.3)", "combined by fedavg", "lr 0.05", "seed 0"):
        assert words in heading, heading
    assert "fedprox (mu 0.3)" in to_html(report([trained]))
    (found,) = report([trained]).runs
    assert (found.algorithm, found.seed) == ("fedprox (mu 0.3)", 0)
    assert (found.training["mu"], found.training["lr"]) == (0.3, 0.05)


def test_the_csv_has_what_sets_runs_apart(trained: Run, tmp_path: Path) -> None:
    other = small_run(tmp_path / "other", Plan(TrainPlan(lr=0.01)))
    rows = list(csv.DictReader(io.StringIO(to_csv(report([trained, other])))))
    first, last = rows[0], rows[-1]
    assert (first["algorithm"], first["rule"], first["seed"]) == ("fedprox", "fedavg", "0")
    assert (first["mu"], last["mu"]) == ("0.3", "")
    assert (first["lr"], last["lr"]) == ("0.05", "0.01")
    assert "momentum" not in first  # alike


def test_what_was_typed_for_all_is_what_was_used(tmp_path: Path) -> None:
    run = small_run(tmp_path / "fedrun")
    train_client(run, ["all"], options={"algorithm": "fedprox", "mu": 0.7})
    aggregate(run)
    (found,) = report([run]).runs
    assert found.algorithm == "fedprox (mu 0.7)"
    assert any(
        note.text.startswith("clients 0, 1, 2 left the plan in round 1: --algorithm fedprox (plan:")
        for note in found.notes
    )


def test_who_left_the_plan_is_named_with_both_values(trained: Run) -> None:
    expected = "client 2 left the plan in round 1: --epochs 4 (plan: 1), --lr 0.1 (plan: 0.05)"
    assert expected in texts(trained)
    manifest = Manifest.read(trained.round(1).manifest)
    assert manifest is not None
    assert [entry.departures for entry in manifest.accepted] == [{}, {}, {"epochs": 4, "lr": 0.1}]
    assert [entry.steps for entry in manifest.accepted] == [3, 3, 12]


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ({}, {}),
        ({"momentum": 0.5}, {"momentum": 0.5}),
        ({"augment": ("flip",)}, {"augment": "flip"}),
        ({"mixup": 0.2, "proximal": 0.1}, {"mixup": 0.2, "proximal": 0.1}),
        ({"steps": 3}, {"epochs": None, "steps": 3}),
        ({"algorithm": "moon"}, {"algorithm": "moon", "mu": 1.0, "temperature": 0.5}),
        ({"initial_loss": True}, {}),
    ],
)
def test_departures_are_those_of_the_plan(typed: dict[str, Any], found: dict[str, Any]) -> None:
    plan = TrainPlan.of(lr_schedule="exponential", lr_decay=0.5)
    own = plan.with_options(typed).resolved().as_json()
    record = {**own, "lr": plan.learning_rate(3), "device": "cpu", "threads": 2}
    record.pop("initial_loss", None)
    assert Departures(plan, 3).of(training_record(record)) == found


def test_what_clients_record_is_kept_short() -> None:
    record = {"optimizer": "x" * 5000, "augment": ["y" * 5000] * 9, "lr": 1.0, "freeze": ("z",)}
    found = Departures(TrainPlan(), 1).of(training_record(record))
    assert len(str(found)) < 500


def test_an_honest_client_with_more_steps_does_not_stand_out(tmp_path: Path) -> None:
    clients = tuple("0123456789")
    run = make_run(tmp_path / "r", clients=clients)
    for number in (1, 2, 3):
        entries: dict[str, dict[str, Any]] = {c: {"norm": 1.0, "steps": 10} for c in clients}
        entries["3"] = {"norm": 9.0, "distance": 9.0, "steps": 90}
        entries["4"] = {"norm": 9.0, "distance": 9.0, "steps": 10}
        entries["5"] = {"norm": 100.0, "distance": 100.0, "steps": 10**6, "num_examples": 10**9}
        edit_manifest(run.round(number), accepted=entries)
    standing_out = [text for text in texts(run) if "stands out" in text]
    assert [text.split()[1] for text in standing_out] == ["4", "5"]


def test_a_client_that_stands_out_by_its_own_options_is_explained(tmp_path: Path) -> None:
    clients = tuple("0123456789")
    run = make_run(tmp_path / "r", clients=clients)
    for number in (1, 2, 3):
        entries: dict[str, dict[str, Any]] = {c: {"norm": 1.0} for c in clients}
        entries["3"] = {"norm": 9.0, "departures": {"lr": 0.9} if number > 1 else {}}
        entries["4"] = {"norm": 9.0}
        edit_manifest(run.round(number), accepted=entries)
    third, fourth = (text for text in texts(run) if "stands out" in text)
    assert third.endswith("; it trained otherwise than planned (rounds 2-3), see below")
    assert "planned" not in fourth


def test_claimed_examples_hide_nobody(tmp_path: Path) -> None:
    clients = tuple("0123456789")
    run = make_run(tmp_path / "r", clients=clients)
    entries = {c: {"norm": 1.0} for c in clients} | {"3": {"norm": 10.0, "num_examples": 10**9}}
    edit_manifest(run.round(3), accepted=entries)
    assert any(text.startswith("client 3 stands out") for text in texts(run))


def test_a_bound_and_a_remark_of_a_round_are_in_the_notes(tmp_path: Path) -> None:
    run = make_run(tmp_path / "r")
    bounded = [{"client": "1", "what": "steps", "found": 1e6, "used": 26.0}]
    for number in (1, 2):
        edit_manifest(run.round(number), bounded=bounded, remarks=["rfa has not settled"])
    assert "client 1: steps 1e+06 counted only within a bound (rounds 1-2)" in texts(run)
    assert "rounds 1-2: rfa has not settled" in texts(run)


TWO = ("benign", "malignant")


def of_two(run: Run, accuracy: float, **values: Any) -> dict[str, Any]:
    counts = ((0, 180), (1, 20))
    classes = [
        {"class": TWO[index], "examples": count, "accuracy": 1.0 - index, "f1": 0.5}
        for index, count in counts
    ]
    return {
        **score(run, accuracy),
        "per_class": classes,
        "confusion": [[180, 0], [20, 0]],
        **values,
    }


def test_two_classes_are_judged_by_more_than_accuracy(tmp_path: Path, cli: Cli) -> None:
    run = make_run(tmp_path / "r", classes=TWO)
    write_evaluation(run.round(3), [of_two(run, 0.9, balanced_accuracy=0.5, auc=0.72)])
    found = report([run])
    assert (found.summary[0].balanced_accuracy, found.summary[0].auc) == (0.5, 0.72)
    status, out, _ = cli("report", run.root)
    assert status == 0
    table, _ = out.split("note: ", 1)
    assert "AUC" in table, out
    assert "0.720" in table
    assert "the accuracy is the share of the largest class, benign" in " ".join(out.split())


def test_an_accuracy_above_that_share_needs_no_note(tmp_path: Path) -> None:
    run = make_run(tmp_path / "r", classes=TWO)
    write_evaluation(run.round(3), [of_two(run, 0.95, auc=0.99)])
    assert not [note for note in report([run]).notes if "largest class" in note.text]


def test_a_schedule_that_was_left_is_one_note(tmp_path: Path) -> None:
    """Whether the same clients left it in all rounds, or all clients of a sample of each."""
    plan = Plan(TrainPlan.of(lr=0.5, lr_schedule="exponential", lr_decay=0.5))
    run = make_run(tmp_path / "r", plan=plan, accuracies=(0.4,) * 5)
    for number in range(1, 6):
        own = {"departures": {"lr": 2 * 0.5**number, "momentum": 0.3}}
        edit_manifest(run.round(number), accepted={"0": own, "2": own})
    expected = (
        "left the plan in rounds 1-5: --lr 1 to 0.0625 (plan: 0.5 to 0.03125), --momentum 0.3"
    )
    assert [text for text in texts(run) if "left the plan" in text] == [
        f"clients 0, 2 {expected} (plan: 0.9)"
    ]
    for number in range(1, 6):
        own = {"departures": {"lr": 2 * 0.5**number, "momentum": 0.3}}
        edit_manifest(run.round(number), accepted={"1": own})
        if number % 2:
            without(run.round(number), "0")
    assert [text for text in texts(run) if "left the plan" in text] == [
        f"clients 0, 1, 2 {expected} (plan: 0.9)"
    ]


def rounds_that_left(run: Run) -> list[str]:
    return [text for text in texts(run) if text.startswith("round") and "left the plan" in text]


def test_rounds_that_were_combined_otherwise_are_named(tmp_path: Path) -> None:
    run = make_run(tmp_path / "r", plan=Plan(aggregate=AggregatePlan(server_momentum=0.5)))
    assert rounds_that_left(run) == ["rounds 1-3 left the plan: --server-momentum 0 (plan: 0.5)"]
    options = {"server_lr": 1.0, "server_momentum": 0.5}
    for number in (1, 2, 3):
        edit_manifest(run.round(number), options=options)
    assert rounds_that_left(run) == []
    edit_manifest(run.round(2), strategy="median", reduce="median", options={"server_lr": 9.0})
    edit_manifest(run.round(3), weighting="uniform", sampled=["0", "2"])
    assert rounds_that_left(run) == [
        "round 2 left the plan: --strategy median (plan: fedavg)",
        "round 3 left the plan: --weighting uniform (plan: examples), 2 clients drawn (plan: 3)",
    ]


@pytest.mark.parametrize(
    "planned",
    [
        {"strategy": "krum"},
        {"strategy": "fedadam", "server_lr": 0.1},
        {"strategy": "trimmed-mean", "trim": 0.3},
        {"strategy": "multi-krum", "byzantine": 1},
        {"clients_per_round": 2},
        {"fraction": 0.5},
    ],
)
def test_a_round_that_follows_the_plan_is_not_named(
    tmp_path: Path, planned: dict[str, Any]
) -> None:
    clients = tuple("01234")
    run = small_run(tmp_path / "r", Plan(aggregate=AggregatePlan(**planned)), clients=clients)
    train_client(run, [client for client in clients if client in sampled_clients(run.info, 1)])
    aggregate(run)
    assert [text for text in texts(run) if "left the plan" in text] == []


def test_a_client_that_follows_the_plan_is_not_named(trained: Run) -> None:
    """Nor is one that trains on another device, with other threads or in smaller portions."""
    departed = [text for text in texts(trained) if "left the plan" in text]
    assert [text.split(" left")[0] for text in departed] == ["client 2"]
    plan = TrainPlan.of(lr=0.1)
    record = {**plan.resolved().as_json(), "device": "cuda", "threads": 7, "micro_batch": 4}
    record |= {"compile": True, "examples": "0" * 64}
    assert Departures(plan, 1).of(training_record(record)) == {}


def test_many_departures_are_cut_short(tmp_path: Path) -> None:
    clients = tuple(str(number) for number in range(30))
    run = make_run(tmp_path / "r", clients=clients)
    edit_manifest(run.round(1), accepted={c: {"departures": {"lr": float(c) + 1}} for c in clients})
    assert len([text for text in texts(run) if "left the plan" in text]) == 10
    assert "20 more departures from the plan are in --json" in texts(run)
    assert replace(report([run]).runs[0]).rounds[1].clients[4].departures == {"lr": 5.0}
