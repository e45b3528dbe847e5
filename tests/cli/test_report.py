"""``fedcli report`` as its users call it."""

import csv
import io
from pathlib import Path

import pytest
from support.runs import fedcli, python
from support.sample_runs import make_run

from fedcli.run import Run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return make_run(tmp_path / "fedrun")


def test_the_run_is_the_default_the_variable_the_option_or_the_argument(run: Run) -> None:
    make_run(run.root.parent / "other", accuracies=(0.25,))
    here = run.root.parent
    assert fedcli("report", "--json", cwd=here).json["summary"][0]["label"] == "fedrun"
    for result in (
        fedcli("report", "--json", cwd=here, FEDCLI_RUN="other"),
        fedcli("report", "--json", "-r", "other", cwd=here),
        fedcli("report", "--json", "other", cwd=here, FEDCLI_RUN="fedrun"),
    ):
        assert result.status == 0
        assert [row["label"] for row in result.json["summary"]] == ["other"]


def test_runs_and_their_labels_can_stand_in_files(run: Run) -> None:
    here = run.root.parent
    make_run(here / "other", accuracies=(0.25,))
    (here / "runs").write_text("fedrun\nother\n", encoding="utf-8")
    (here / "labels").write_text("first, of two\nsecond\n", encoding="utf-8")
    shown = fedcli("report", "@runs", "--label", "@labels", "--group-by", "run", "--json", cwd=here)
    assert [row["label"] for row in shown.json["summary"]] == ["first, of two", "second"]


def test_writes_what_is_asked_for_and_nothing_else(run: Run) -> None:
    here = run.root.parent
    before = sorted(run.root.rglob("*"))
    files = ("--html", "r.html", "--markdown", "r.md", "--csv", "r.csv")
    result = fedcli("report", *files, cwd=here)
    assert result.status == 0
    assert sorted(run.root.rglob("*")) == before
    assert sorted(path.name for path in here.iterdir()) == ["fedrun", "r.csv", "r.html", "r.md"]
    assert result.err.splitlines() == ["wrote r.html", "wrote r.md", "wrote r.csv"]
    assert "method" in result.out
    assert "communication (MB)" in result.out


def test_writes_figures_as_pdf_for_one_column_or_as_told(run: Run) -> None:
    here = run.root.parent
    for options, name in (([], "a"), (["--format", "svg", "--width", "two"], "b")):
        result = fedcli("report", "--figures", name, *options, cwd=here)
        assert result.status == 0, result.err
        assert f"wrote {name}/confusion-matrix.{'svg' if options else 'pdf'}" in result.err
    assert b"/MediaBox [ 0 0 244.8 " in (here / "a" / "confusion-matrix.pdf").read_bytes()
    assert 'width="504pt"' in (here / "b" / "confusion-matrix.svg").read_text()


def test_shows_names_as_they_are_and_commands_in_one_piece(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a directory whose name is so long that it needs a line of its own")
    run.round(3).evaluation.unlink()
    result = fedcli("report", "--label", "[red]x[/]", run.root.name, cwd=tmp_path)
    assert result.status == 0, result.err
    assert "[red]x[/]" in result.out
    command = f"fedcli evaluate --round latest --run '{run.root.name}'"
    assert command in map(str.strip, result.out.splitlines())


def test_a_dash_is_standard_output(run: Run) -> None:
    here = run.root.parent
    text = fedcli("report", "--csv", "-", cwd=here).out
    assert {row["run"] for row in csv.DictReader(io.StringIO(text))} == {"fedrun"}
    assert fedcli("report", "--markdown", "-", cwd=here).out.startswith("# ")
    both = fedcli("report", "--markdown", "-", "--csv", "-", cwd=here)
    assert (both.status, both.out) == (2, "")


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["nowhere"], 4, "nowhere: not a run directory"),
        (["fedrun", "--run", "fedrun"], 2, "not both"),
        (["fedrun", "--label", "a", "--label", "b"], 2, "--label: expected one for each of 1 run"),
        (["--csv", "-", "--json"], 2, "standard output takes one of"),
        (["--format", "svg"], 2, "--format: has no meaning without --figures"),
        (["--width", "two"], 2, "--width: has no meaning without --figures"),
        (["--figures", "fedrun/run.json"], 2, "--figures: expected a directory, found a file"),
        (["--figures", "-"], 2, "--figures: expected the name of a directory, found -"),
    ],
)
def test_wrong_use_is_one_line(run: Run, arguments: list[str], status: int, message: str) -> None:
    result = fedcli("report", *arguments, cwd=run.root.parent)
    assert result.status == status
    assert message in (result.json["error"]["message"] if "--json" in arguments else result.err)


@pytest.mark.parametrize("drawing", [False, True])
def test_imports_neither_torch_nor_matplotlib(run: Run, drawing: bool) -> None:
    arguments = ["report", "--quiet", *(["--html", "r.html"] if drawing else [])]
    program = (
        "import sys; from fedcli.cli import execute;"
        f"status = execute({arguments!r});"
        "print({'torch', 'matplotlib'} & set(sys.modules), file=sys.stderr); sys.exit(status)"
    )
    result = python(program, cwd=run.root.parent)
    assert result.status == 0
    assert result.err.splitlines()[-1] == "set()"
