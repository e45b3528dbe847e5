"""Many runs are compared as methods, in tables that stay legible."""

import re
from pathlib import Path

import pytest
from support.grey_runs import Cli
from support.reports import terminal_text
from support.sample_runs import edit_manifest, make_run

from fedcli.plan import Plan, TrainPlan
from fedcli.reporting.comparison_columns import megabytes_spread
from fedcli.reporting.markdown import to_markdown
from fedcli.reporting.report import Spread
from fedcli.run import Run
from fedcli.steps.report import report

pytestmark = pytest.mark.usefixtures("unsynced")
PLANS = {
    "fedavg": Plan(TrainPlan.of(epochs=1)),
    "fedprox": Plan(TrainPlan.of(algorithm="fedprox", mu=0.3, epochs=1)),
    "moon": Plan(TrainPlan.of(algorithm="moon", epochs=1)),
}


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    """Three algorithms, two alphas, three seeds, in eight rounds."""
    root = tmp_path_factory.mktemp("runs")
    return [
        make_run(
            root / f"{name}-alpha{alpha}-seed{seed}",
            plan=plan,
            alpha=alpha,
            seed=seed,
            accuracies=tuple(0.4 + 0.01 * number + 0.02 * seed for number in range(8)),
        )
        for name, plan in PLANS.items()
        for alpha in (0.1, 0.5)
        for seed in range(3)
    ]


def table(text: str, title: str) -> list[list[str]]:
    """The cells of a table on a terminal, with names that hold single spaces."""
    lines = text.split(f"\n{title}\n")[1].split("\n\n")[0].splitlines()
    return [re.split(r"\s{2,}", line.strip()) for line in lines if "─" not in line]


@pytest.mark.parametrize("width", [80, 120])
def test_eighteen_runs_take_a_hundred_lines(product: list[Run], width: int) -> None:
    text = terminal_text(report(product), width)
    lines = text.splitlines()
    assert len(lines) <= 100
    assert max(map(len, lines)) <= width
    assert "…" not in text
    assert lines[0] == "18 runs of 6 methods"
    assert lines[-1] == "tables of each of the 18 runs: --details"


def test_the_main_table_has_mean_deviation_and_number_of_runs(product: list[Run]) -> None:
    text = terminal_text(report(product))
    assert re.search(
        r"^fedprox, alpha 0\.5 +3 +8 +49\.0 ± 2\.0 +49\.0 ± 2\.0 +\d", text, re.MULTILINE
    )
    markdown = to_markdown(report(product))
    assert "| fedprox, alpha 0.5 | 3 | 8 | 49.0 ± 2.0 | 49.0 ± 2.0 |" in markdown


def test_bytes_that_hardly_differ_have_no_deviation() -> None:
    assert megabytes_spread(Spread(7_400_000.0, 210.0, 3)) == "7.4"
    assert megabytes_spread(Spread(7_400_000.0, 210_000.0, 3)) == "7.4 ± 0.2"
    assert megabytes_spread(Spread(43_000.4, 21_000.0, 3)) == "0.043 ± 0.021"
    assert megabytes_spread(Spread(43_000.0, None, 1)) == "0.043"


def test_the_seeds_stand_side_by_side(product: list[Run]) -> None:
    rows = table(terminal_text(report(product)), "Accuracy (%) of the runs")
    assert rows[0] == ["method", "seed 0", "seed 1", "seed 2"]
    assert rows[1] == ["fedavg, alpha 0.1", "47.0", "49.0", "51.0"]


def test_a_test_set_in_common_is_named_once(tmp_path: Path) -> None:
    fixed = [{}, {"data_seed": 0}, {"data_seed": 0}]
    runs = [make_run(tmp_path / f"r{n}", seed=n, own_seeds=own) for n, own in enumerate(fixed)]
    text = terminal_text(report(runs))
    assert table(text, "Accuracy (%) of the runs")[0] == ["method", "seed 0", "seed 1", "seed 2"]
    assert table(text, "How they were made")[1][-1] == "0, 1, 2; data 0"


def test_rounds_are_thinned_from_the_first_to_the_last(product: list[Run]) -> None:
    text = terminal_text(report(product))
    rows = table(text, "Accuracy (%) by round")
    assert rows[0] == ["method", "round 1", "round 3", "round 6", "round 8"]
    assert rows[1][1] == "42.0 ± 2.0"
    assert "4 of 8 rounds; --csv has all" in text
    assert table(text, "Loss by round")[1][4] == "0.510 ± 0.020"


def test_only_what_differs_has_a_column_and_the_rest_is_one_line(product: list[Run]) -> None:
    text = terminal_text(report(product))
    rows = table(text, "How they were made")
    assert rows[0] == ["method", "algorithm", "alpha", "mu", "temperature", "seeds"]
    assert rows[3] == ["fedprox, alpha 0.1", "fedprox", "0.1", "0.3", "–", "0, 1, 2"]
    common = text.split("in common: ")[1].split("\n\n")[0]
    common = " ".join(common.split())
    for words in ("handmade", "4 classes", "linear", "lr 0.01", "epochs 1", "server lr 1"):
        assert words in common
    assert "mu" not in common
    assert "seed" not in common


def test_two_runs_have_their_own_tables_and_one_of_what_differs(product: list[Run]) -> None:
    text = terminal_text(report([product[0], product[6]]))
    assert "Clients of fedavg-alpha0.1-seed0" in text
    rows = table(text, "How they were made")
    assert rows[0] == ["method", "algorithm", "mu", "seeds"]
    assert "## How they were made" in to_markdown(report([product[0], product[6]]))


def test_details_add_the_tables_of_each_run(product: list[Run], cli: Cli) -> None:
    found = report(product[:3])
    for text in (terminal_text(found), to_markdown(found)):
        assert "Clients of fedavg" not in text
        assert "### Clients" not in text
    text = terminal_text(found, details=True)
    assert "Clients of fedavg-alpha0.1-seed1" in text
    assert "±" in text
    markdown = to_markdown(found, details=True)
    assert markdown.count("### How it was made") == 3
    assert "    fedcli partition --run fedavg-alpha0.1-seed1 " in markdown
    status, out, _ = cli("report", *(run.root for run in product[:3]), "--details")
    assert status == 0
    assert "Clients of fedavg-alpha0.1-seed1" in out


def test_a_note_on_many_runs_is_said_once_with_their_names(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / f"r{seed}", seed=seed) for seed in range(3)]
    for run in runs[:2]:
        edit_manifest(run.round(2), accepted={"2": {"departures": {"lr": 0.5}}})
    text = " ".join(terminal_text(report(runs)).split())
    assert text.count("left the plan in round 2: --lr 0.5 (plan: 0.01)") == 1
    assert "note: runs r0, r1: client 2 left the plan in round 2" in text


def test_the_report_of_one_run_says_how_it_was_made(product: list[Run]) -> None:
    text = terminal_text(report([product[6]]))
    rows = dict(row for row in table(text, "How it was made") if len(row) == 2)
    assert rows["model"].startswith("linear")
    assert rows["partition"] == "dirichlet, alpha 0.1, clients 3"
    assert rows["seeds"] == "seed 0"
    assert "fedprox, mu 0.3" in text
    assert "commands" not in rows
    assert "    fedcli partition --run fedprox-alpha0.1-seed0 " in to_markdown(report([product[6]]))


def test_what_was_asked_for_comes_before_the_rule(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / f"r{alpha}", alpha=alpha) for alpha in (0.1, 0.5)]
    for number in (1, 2, 3):
        edit_manifest(runs[1].round(number), strategy="median", reduce="median")
    rows = table(terminal_text(report(runs)), "How they were made")
    assert rows[0] == ["method", "alpha", "strategy", "reduce", "seeds"]
    assert rows[2] == ["r0.5", "0.5", "median", "median", "0"]


def test_one_note_names_all_runs_that_know_only_the_largest_class(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / f"r{s}", seed=s, accuracies=(0.25, 0.25)) for s in range(3)]
    notes = [note.text for note in report(runs).notes]
    assert len(notes) == 1
    assert notes[0].startswith("runs r0, r1, r2: the accuracy is the share of the largest class")
