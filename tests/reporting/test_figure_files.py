"""``report --figures``: every figure of the page as a file."""

import re
import sys
from pathlib import Path

import pytest
from support.made_reports import HOSPITALS, made_report
from support.sample_runs import make_run

from fedcli.errors import MissingDependencyError, UsageError
from fedcli.plan import Plan, TrainPlan
from fedcli.progress import Silence
from fedcli.reporting.diagrams import Curves
from fedcli.reporting.figure_files import drawn_files, named_figures
from fedcli.reporting.page import to_html
from fedcli.run import Run
from fedcli.steps.report import report


class Said(Silence):
    """Lines that a step reports."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


pytestmark = pytest.mark.usefixtures("unsynced")


@pytest.mark.parametrize("runs", [1, 3])
def test_are_as_many_as_the_page_has(runs: int) -> None:
    found = made_report(runs, classes=2)
    assert len(named_figures(found)) == to_html(found).count("<figure")


def test_are_named_by_what_they_show() -> None:
    every = {"accuracy-by-round", "accuracy-by-mb", "loss-by-round", "roc-curve"}
    single = {"label-distribution", "confusion-matrix", "update-norms", "clients"}
    assert named_figures(made_report(classes=2)).keys() == every | single
    two = named_figures(made_report(2, classes=2))
    folders = ("fedavg-alpha0.1-seed0", "fedavg-alpha0.3-seed0")
    assert two.keys() == every | {f"{run}/{name}" for run in folders for name in single}


def test_of_runs_with_strange_names_are_in_different_folders_within_the_directory() -> None:
    labels = ["../../up", "a/b", "A:B", "...", "x" * 300, "x" * 301, "\udcff"]
    names = [name for name in named_figures(made_report(7, labels=labels)) if "/" in name]
    folders = {name.rpartition("/")[0].casefold() for name in names}
    assert len(folders) == len(labels)
    assert all(re.fullmatch(r"[\w+-][\w.+-]{0,90}", folder) for folder in folders)


def runs_of(root: Path) -> list[Run]:
    """Two algorithms of three seeds."""
    plans = {"avg": TrainPlan.of(epochs=1), "prox": TrainPlan.of(algorithm="fedprox", epochs=1)}
    return [
        make_run(
            root / f"{name}-{seed}", plan=Plan(train), seed=seed, accuracies=(0.3 + seed / 10, 0.6)
        )
        for name, train in plans.items()
        for seed in range(3)
    ]


def test_seeds_are_one_labelled_band_unless_they_are_told_apart(tmp_path: Path) -> None:
    runs = runs_of(tmp_path)
    bands = named_figures(report(runs))["accuracy-by-round"]
    assert isinstance(bands, Curves)
    assert [line.label for line in bands.lines] == ["fedavg", "fedprox"]
    assert all(line.lower for line in bands.lines)
    each = named_figures(report(runs, group_by=["run"]))["accuracy-by-round"]
    assert isinstance(each, Curves)
    assert len(each.lines) == 6


def test_show_what_the_runs_are_judged_by(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    names = named_figures(report([run], metric="balanced-accuracy")).keys()
    assert {"balanced-accuracy-by-round", "balanced-accuracy-by-mb", "loss-by-round"} <= names
    names = named_figures(report([run], metric="loss")).keys()
    assert {"loss-by-round", "loss-by-mb"} <= names
    assert not any("accuracy" in name for name in names)


@pytest.mark.parametrize("kind", ["pdf", "svg"])
def test_are_written_once_and_each_is_said(tmp_path: Path, kind: str) -> None:
    run, said, folder = make_run(tmp_path / "run"), Said(), tmp_path / "figures"
    for _ in range(2):
        report([run], figures=folder, figure_format=kind, figure_width="two", progress=said)
    written = sorted(path.name for path in folder.iterdir())
    assert f"accuracy-by-round.{kind}" in written
    for name in written:
        first, second = (line for line in said.lines if name in line)
        assert first == f"wrote {folder / name}"
        assert second.endswith("already done, nothing changed")


def test_of_many_runs_are_said_in_one_line(tmp_path: Path) -> None:
    said, folder = Said(), tmp_path / "figures"
    report(runs_of(tmp_path), figures=folder, figure_format="svg", progress=said)
    count = len(list(folder.rglob("*.svg")))
    (line,) = said.lines
    assert line.startswith(f"wrote {count} figures: {folder}/{{accuracy-by-round, ")
    assert line.endswith("} and 6 folders")
    assert (folder / "prox-2" / "confusion-matrix.svg").is_file()


def test_of_a_run_without_scores_or_labels_are_none_and_it_says_so(tmp_path: Path) -> None:
    run, said = make_run(tmp_path / "run", clients=("0",), accuracies=(0.5,)), Said()
    run.round(1).evaluation.unlink()
    run.partition_file.unlink()
    report([run], figures=tmp_path / "figures", progress=said)
    assert said.lines == [
        f"{tmp_path / 'figures'}: nothing to draw yet: no scores, no label counts"
    ]
    assert not (tmp_path / "figures").exists()


def test_characters_that_a_font_lacks_are_said(tmp_path: Path) -> None:
    files = drawn_files(named_figures(made_report(clients=HOSPITALS)), tmp_path, "pdf", "one")
    assert "院" in {character for file in files for character in file.lacking}
    run, said = make_run(tmp_path / "run", classes=("猫", "犬")), Said()
    report([run], figures=tmp_path / "p", progress=said)
    assert "the font of pdf files lacks '犬猫'" in said.lines[-1]
    report([run], figures=tmp_path / "s", figure_format="svg", progress=said)
    assert "lacks" not in said.lines[-1]
    assert "猫" in (tmp_path / "s" / "confusion-matrix.svg").read_text(encoding="utf-8")


def test_need_matplotlib_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path / "run", accuracies=(0.5,))
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingDependencyError, match="matplotlib, which is not installed"):
        report([run], figures=tmp_path / "figures", csv=tmp_path / "values.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_what_cannot_be_drawn_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    run, file = make_run(tmp_path / "run"), tmp_path / "file"
    file.touch()
    for message, options in (
        ("--format: expected one of pdf, svg, png, found 'gif'", {"figure_format": "gif"}),
        ("--width: expected one of one, two, found 'three'", {"figure_width": "three"}),
    ):
        with pytest.raises(UsageError, match=message):
            report([run], figures=tmp_path / "figures", **options)
    with pytest.raises(UsageError, match="--figures: expected a directory, found a file"):
        report([run], figures=file)
    assert not (tmp_path / "figures").exists()
