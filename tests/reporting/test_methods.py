"""Runs that differ in nothing but their seeds are one method, with mean and deviation."""

import math
import statistics
from pathlib import Path

import pytest
from support.sample_runs import edit_manifest, make_run

from fedcli.errors import UsageError
from fedcli.plan import Plan, TrainPlan
from fedcli.reporting.methods import method_lines
from fedcli.reporting.metric import METRICS
from fedcli.reporting.report import Report
from fedcli.run import Run
from fedcli.steps.report import report

pytestmark = pytest.mark.usefixtures("unsynced")
FEDAVG = Plan(TrainPlan.of(epochs=1))
FEDPROX = Plan(TrainPlan.of(algorithm="fedprox", mu=0.3, epochs=1))
ACCURACIES = [(0.4, 0.55, 0.5), (0.42, 0.6, 0.56), (0.2, 0.5, 0.53)]


def runs_of(root: Path, name: str, plan: Plan, alpha: float, seeds: int = 3) -> list[Run]:
    return [
        make_run(
            root / f"{name}-{alpha}-{seed}",
            plan=plan,
            alpha=alpha,
            seed=seed,
            accuracies=ACCURACIES[seed],
        )
        for seed in range(seeds)
    ]


@pytest.fixture
def product(tmp_path: Path) -> list[Run]:
    """Two algorithms, two alphas, three seeds."""
    return [
        run
        for name, plan in (("avg", FEDAVG), ("prox", FEDPROX))
        for alpha in (0.1, 0.5)
        for run in runs_of(tmp_path, name, plan, alpha)
    ]


def labels(found: Report) -> list[str]:
    return [method.label for method in found.methods]


def test_are_called_by_what_they_differ_in(product: list[Run]) -> None:
    found = report(product)
    assert labels(found) == [
        "fedavg, alpha 0.1",
        "fedavg, alpha 0.5",
        "fedprox, alpha 0.1",
        "fedprox, alpha 0.5",
    ]
    assert [method.n for method in found.methods] == [3] * 4
    assert found.methods[0].runs == ("avg-0.1-0", "avg-0.1-1", "avg-0.1-2")
    assert found.methods[2].differs == {"algorithm": "fedprox", "alpha": 0.1, "mu": 0.3}


def test_have_the_mean_and_the_sample_deviation_of_final_best_and_each_round(
    product: list[Run],
) -> None:
    method = report(product).methods[0]
    for found, values in (
        (method.final, [a[-1] for a in ACCURACIES]),
        (method.best, [max(a) for a in ACCURACIES]),
        (method.rounds[0].scores, [a[0] for a in ACCURACIES]),
    ):
        one = found["accuracy"]
        assert one.n == 3
        assert math.isclose(one.mean, statistics.mean(values))
        assert one.std is not None
        assert math.isclose(one.std, statistics.stdev(values))
    lowest = [min(1 - value for value in own) for own in ACCURACIES]
    assert math.isclose(method.best["loss"].mean, statistics.mean(lowest))


def test_of_one_run_has_no_deviation_and_keeps_the_name_of_the_run(tmp_path: Path) -> None:
    runs = [*runs_of(tmp_path, "avg", FEDAVG, 0.1, 1), *runs_of(tmp_path, "prox", FEDPROX, 0.1, 1)]
    found = report(runs)
    assert labels(found) == ["avg-0.1-0", "prox-0.1-0"]
    assert found.methods[0].final["accuracy"].std is None
    (line, _) = method_lines(found, METRICS["accuracy"])
    assert (line.lower, line.upper) == ((), ())


def test_lines_have_a_band_of_one_deviation_in_the_units_of_the_axis(product: list[Run]) -> None:
    found = report(product)
    line = method_lines(found, METRICS["accuracy"])[0]
    first = [a[0] for a in ACCURACIES]
    mean, std = 100 * statistics.mean(first), 100 * statistics.stdev(first)
    assert line.x == [1, 2, 3]
    assert line.lower[0] is not None
    assert line.upper[0] is not None
    assert math.isclose(line.y[0] or 0, mean)
    assert math.isclose(line.lower[0], mean - std)
    assert math.isclose(line.upper[0], mean + std)
    exchanged = method_lines(found, METRICS["accuracy"], "bytes_total")[0]
    total = found.runs[0].rounds[1].bytes_total
    assert total
    assert math.isclose(exchanged.x[0], total / 1e6)


def test_a_round_that_one_run_lacks_counts_the_others(tmp_path: Path) -> None:
    long, short = runs_of(tmp_path, "avg", FEDAVG, 0.1, 2)
    (short.round(3).global_model).unlink()
    (method,) = report([long, short]).methods
    assert [round_.scores["accuracy"].n for round_ in method.rounds] == [2, 2, 1]
    assert method.last_round == (2, 3)
    assert labels(report([long, short])) == ["fedavg"]
    line = method_lines(report([long, short]), METRICS["accuracy"])[0]
    assert line.lower[2] is None


def test_runs_with_clients_that_left_the_plan_differently_are_not_one(tmp_path: Path) -> None:
    first, second, third = runs_of(tmp_path, "avg", FEDAVG, 0.1)
    for number in (1, 2, 3):
        edit_manifest(second.round(number), accepted={"2": {"departures": {"lr": 0.5}}})
    found = report([first, second, third])
    assert [method.runs for method in found.methods] == [
        (first.root.name, third.root.name),
        (second.root.name,),
    ]
    assert "client 2: lr 0.5" in found.methods[1].label
    edit_manifest(third.round(2), accepted={"2": {"departures": {"lr": 0.5}}})
    assert len(report([first, second, third]).methods) == 3
    for number in (1, 3):
        edit_manifest(third.round(number), accepted={"2": {"departures": {"lr": 0.5}}})
    assert len(report([first, second, third]).methods) == 2


def test_a_departure_of_all_clients_is_how_the_run_was_made(tmp_path: Path) -> None:
    first, second, third = runs_of(tmp_path, "avg", FEDAVG, 0.1)
    for number in (1, 2, 3):
        entries = {client: {"departures": {"lr": 0.5}} for client in "012"}
        edit_manifest(second.round(number), accepted=entries)
    found = report([first, second, third])
    assert labels(found) == ["lr 0.01", "lr 0.5"]
    assert found.runs[1].recipe.departures == ()


def test_another_rule_in_earlier_rounds_is_another_method(tmp_path: Path) -> None:
    first, second, third = runs_of(tmp_path, "avg", FEDAVG, 0.1)
    edit_manifest(second.round(1), strategy="median", reduce="median", options={})
    found = report([first, second, third])
    assert [method.n for method in found.methods] == [2, 1]
    assert "median in round 1" in found.methods[1].label


def test_runs_of_the_same_seed_are_no_repetitions(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / name, seed=seed) for name, seed in (("a", 0), ("b", 0), ("c", 1))]
    found = report(runs)
    assert labels(found) == ["a", "b", "c"]
    assert any("have the same seeds" in note.text for note in found.notes)


class TestGroupBy:
    def test_options_merges_what_differs_in_others(self, product: list[Run]) -> None:
        found = report(product, group_by=["algorithm"])
        assert labels(found) == ["fedavg", "fedprox"]
        assert [method.n for method in found.methods] == [6, 6]

    def test_run_keeps_every_run_by_itself(self, product: list[Run]) -> None:
        found = report(product, group_by=["run"])
        assert labels(found) == [run.root.name for run in product]

    def test_a_seed_is_an_option_too(self, product: list[Run]) -> None:
        assert labels(report(product, group_by=["seed"])) == ["seed 0", "seed 1", "seed 2"]

    def test_an_option_that_no_run_has_is_refused(self, product: list[Run]) -> None:
        with pytest.raises(UsageError, match=r"no run has an option 'alhpa'") as caught:
            report(product, group_by=["alhpa"])
        assert caught.value.hint == "did you mean --group-by alpha?"
