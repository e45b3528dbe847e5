"""The tidy table is read by pandas in one line: CSV and Parquet alike, and as the report has it."""

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.sample_runs import make_run, score, write_evaluation

from fedcli.errors import MissingDependencyError
from fedcli.plan import Plan, TrainPlan
from fedcli.reporting.report import Report
from fedcli.reporting.tidy import to_csv, to_parquet
from fedcli.run import Run
from fedcli.steps.report import report

pandas = pytest.importorskip("pandas", reason="pandas is not installed")
pytestmark = pytest.mark.usefixtures("unsynced")
# What a reader of CSV takes for numbers, missing values and truth values.
TRAPS = ("007", "NA", "1e5", "None")
CLASSES = ("0", "1", "nan", "True")


def from_csv(found: Report) -> Any:
    return pandas.read_csv(io.StringIO(to_csv(found)))


def from_parquet(found: Report) -> Any:
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    return pandas.read_parquet(io.BytesIO(to_parquet(found)))


each_format = pytest.mark.parametrize("read", [from_csv, from_parquet])


@pytest.fixture
def trapped(tmp_path: Path) -> Run:
    run = make_run(tmp_path / "NA", clients=TRAPS, classes=CLASSES)
    of_clients = [score(run, 0.5, data="client-test", data_client=client) for client in TRAPS]
    write_evaluation(run.round(3), [score(run, 0.5), *of_clients])
    return run


@each_format
def test_names_that_look_like_other_things_stay_text(trapped: Run, read: Any) -> None:
    table = read(report([trapped], labels=["007"]))
    assert not table.isna().any().any()
    assert set(table.client) == {"all", *(f"client {client}" for client in TRAPS)}
    assert set(table["class"]) == {"all", *(f"class {name}" for name in CLASSES)}
    assert set(table.run) == {"run 007"}
    of_clients = table.query("subject == 'global on client-test' and measure == 'loss'")
    assert list(of_clients.client) == [f"client {client}" for client in TRAPS]


@each_format
def test_columns_have_the_types_of_what_they_hold(trapped: Run, read: Any) -> None:
    table = read(report([trapped]))
    kinds = {name: column.dtype.kind for name, column in table.items() if column.dtype.kind in "if"}
    assert kinds == {"alpha": "f", "clients": "i", "seed": "i", "round": "i", "value": "f"}


def test_a_long_table_is_read_in_pieces_and_means_the_same(trapped: Run) -> None:
    found = report([trapped])
    header, *lines = to_csv(found).splitlines()
    lines = [line for line in lines if "client 007" in line] * 9000  # several of pandas' chunks
    table = pandas.read_csv(io.StringIO("\n".join([header, *lines])), low_memory=True)
    assert set(table.client) == {"client 007"}
    assert table["round"].dtype.kind == "i"


@each_format
def test_every_score_is_that_of_the_report(tmp_path: Path, read: Any) -> None:
    runs = [
        make_run(tmp_path / name, accuracies=accuracies)
        for name, accuracies in (("a", (0.1, 1 / 3)), ("b", (0.7,)))
    ]
    found = report(runs)
    table = read(found)
    for measure in ("accuracy", "loss", "macro_f1"):
        curves = table[(table.subject == "global on test") & (table["class"] == "all")]
        curves = curves[curves.measure == measure].pivot(
            index="round", columns="run", values="value"
        )
        expected = {
            (run.label, round_.number): getattr(score, measure)
            for run in found.runs
            for round_ in run.rounds
            for score in round_.scores
        }
        assert curves.unstack().dropna().to_dict() == pytest.approx(expected, rel=1e-15)
    sizes = table[table.measure == "bytes_total"].set_index(["run", "round"]).value
    assert sizes.to_dict() == {
        (run.label, round_.number): round_.bytes_total
        for run in found.runs
        for round_ in run.rounds
    }


@each_format
def test_runs_that_differ_in_seeds_alone_have_one_method(tmp_path: Path, read: Any) -> None:
    plans = {"a": 0.1, "b": 0.1, "c": 0.2}
    runs = [
        make_run(tmp_path / name, plan=Plan(TrainPlan(lr=lr)), accuracies=(0.5 + lr,), seed=seed)
        for seed, (name, lr) in enumerate(plans.items())
    ]
    table = read(report(runs))
    made = table.drop_duplicates("run").set_index("run")
    assert dict(made.method) == {"a": "lr 0.1", "b": "lr 0.1", "c": "lr 0.2"}
    assert dict(made.seed) == {"a": 0, "b": 1, "c": 2}
    rows = table.query("subject == 'global on test' and measure == 'accuracy'")
    rows = rows[rows["class"] == "all"]
    found = rows.groupby("method").value.agg(["mean", "count"])
    assert found.loc["lr 0.1"].to_list() == pytest.approx([0.6, 2])


@each_format
def test_a_setting_that_one_run_lacks_is_missing_only_if_it_is_a_number(
    tmp_path: Path, read: Any
) -> None:
    with_alpha, without = make_run(tmp_path / "a"), make_run(tmp_path / "b")
    without.partition_file.unlink()
    table = read(report([with_alpha, without])).drop_duplicates("run").set_index("run")
    assert table.alpha["a"] == 0.5
    assert pandas.isna(table.alpha["b"])
    assert dict(table.scheme) == {"a": "dirichlet", "b": "not set"}


def test_parquet_and_csv_are_one_table(trapped: Run) -> None:
    found = report([trapped])
    one, other = from_parquet(found), from_csv(found)
    pandas.testing.assert_frame_equal(one, other, check_dtype=False, rtol=1e-15)


def test_parquet_is_the_same_bytes_each_time(trapped: Run) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    assert to_parquet(report([trapped])) == to_parquet(report([trapped]))


def test_without_pyarrow_it_says_what_to_install(
    trapped: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingDependencyError) as caught:
        report([trapped], parquet=tmp_path / "r.parquet")
    assert caught.value.hint == "pip install 'fedcli[parquet]'"


def test_the_command_writes_the_file(
    trapped: Run, tmp_path: Path, cli: Callable[..., tuple[int, str, str]]
) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    file = tmp_path / "r.parquet"
    status, _, err = cli("report", trapped.root, "--parquet", file)
    assert (status, err) == (0, f"wrote {file}\n")
    assert len(pandas.read_parquet(file)) == len(from_csv(report([trapped])))
    status, _, err = cli("report", trapped.root, "--parquet", file)
    assert (status, err) == (0, f"{file}: already done, nothing changed\n")
    status, _, err = cli("report", trapped.root, "--parquet", "-")
    assert (status, err) == (2, "error: --parquet: expected the name of a file, found -\n")


@each_format
def test_what_is_off_is_false_and_not_missing(tmp_path: Path, read: Any) -> None:
    runs = [make_run(tmp_path / "one", clients=("0",)), make_run(tmp_path / "many")]
    table = read(report(runs)).drop_duplicates("run").set_index("run")
    assert table.centralised.dtype.kind == "b"
    assert dict(table.centralised) == {"one": True, "many": False}


@each_format
def test_what_the_target_took_is_there_and_whether_it_was_reached(
    tmp_path: Path, read: Any
) -> None:
    runs = [make_run(tmp_path / "a", accuracies=(0.4, 0.6, 0.7)), make_run(tmp_path / "b")]
    found = report(runs, target=0.6)
    table = read(found)
    rows = table[table.subject == "target accuracy 0.6"]
    values = rows.pivot(index="run", columns="measure", values="value")
    assert values.target_reached.to_dict() == {"a": 1, "b": 0}
    one = found.attainments[0]
    assert values.loc["a"].to_dict() == {
        "target_reached": 1,
        "rounds_to_target": 2,
        "bytes_to_target": one.bytes_total,
        "seconds_to_target": pytest.approx(one.seconds),
    }
    assert values.loc["b"].count() == 1
    assert rows.groupby("run")["round"].first().to_dict() == {"a": 2, "b": 3}
    assert not read(report(runs)).subject.str.startswith("target").any()


@each_format
def test_fairness_is_about_all_clients(trapped: Run, read: Any) -> None:
    values = {"007": 0.2, "NA": 0.4, "1e5": 0.6, "None": 0.8}
    of_clients = [score(trapped, v, data="client-test", data_client=c) for c, v in values.items()]
    write_evaluation(trapped.round(3), [score(trapped, 0.5), *of_clients])
    for metric in ("accuracy", "balanced_accuracy"):
        table = read(report([trapped], metric=metric))
        table = table.query("subject == 'global on client-test' and client == 'all'")
        assert set(table["round"]) == {3}
        assert table.set_index("measure").value.to_dict() == pytest.approx(
            {
                f"{metric}_mean": 0.5,
                f"{metric}_std": 0.05**0.5,
                f"{metric}_worst_tenth": 0.2,
                f"{metric}_worst": 0.2,
            }
        )
