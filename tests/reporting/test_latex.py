"""The tables for LaTeX compile, have the rows of the terminal, and show the best in bold."""

import re
import shutil
import subprocess
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.grey_runs import Cli
from support.sample_runs import make_run, score, write_evaluation

from fedcli.plan import Plan, TrainPlan
from fedcli.reporting.latex import escape, to_latex
from fedcli.reporting.method_tables import methods_table
from fedcli.reporting.report import Report
from fedcli.reporting.tables import summary_table
from fedcli.run import Run
from fedcli.steps.report import report
from fedcli.text import printable

pytestmark = pytest.mark.usefixtures("unsynced")
PROX = Plan(TrainPlan.of(algorithm="fedprox", mu=0.3, epochs=5))
HOSTILE = ("[a]&b", "*50%", r"x_y#--\$,,''", '{z}~^"<>|`ü –', "\\end{tabular}")
NAMES = {
    "textbackslash": "\\",
    "textasciitilde": "~",
    "textasciicircum": "^",
    "textless": "<",
    "textgreater": ">",
    "textbar": "|",
    "textquotedbl": '"',
    "textasciigrave": "`",
}


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    """Two algorithms, two alphas, two seeds; the accuracy grows with alpha alone."""
    root = tmp_path_factory.mktemp("runs")
    return [
        make_run(
            root / f"{name}-{alpha}-{seed}",
            plan=plan,
            alpha=alpha,
            seed=seed,
            accuracies=(0.3, alpha + 0.1 * seed),
        )
        for name, plan in (("fedavg", None), ("fedprox", PROX))
        for alpha in (0.4, 0.5)
        for seed in range(2)
    ]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = make_run(tmp_path_factory.mktemp("runs") / "a_b%#1", classes=HOSTILE)
    clients = run.info.clients
    of_clients = [score(run, 0.1, data="client-test", data_client=client) for client in clients]
    write_evaluation(run.round(3), [score(run, 0.5), *of_clients])
    return run


def rows(text: str, label: str) -> list[list[str]]:
    """The head and the rows of the table with a label."""
    table = text.split(rf"\label{{tab:{label}}}")[1].split(r"\end{tabular}")[0]
    lines = [line[4:] for line in table.splitlines() if line.endswith(r" \\")]
    return [re.split(r" (?<!\\)& ", line.removesuffix(r" \\")) for line in lines]


def check_structure(text: str) -> None:
    """Environments match, labels differ, and every row has a cell for each column."""
    assert text.count("\\begin{") == text.count("\\end{")
    bare = re.sub(r"\\[{}]", "", text)
    assert bare.count("{") == bare.count("}")
    labels = re.findall(r"\\label\{(.*?)\}", text)
    assert labels
    assert len(set(labels)) == len(labels) == text.count(r"\caption{")
    columns = re.findall(r"\\begin\{tabular\}\{((?:[lr]|p\{[^}]*\})*)\}", text)
    for label, spec in zip(labels, columns, strict=True):
        found = rows(text, label.removeprefix("tab:"))
        assert {len(row) for row in found} == {len(re.sub(r"p\{[^}]*\}", "p", spec))}
        assert not any(row[0].startswith(("[", "*")) for row in found)


def each_kind(product: list[Run], hostile: Run) -> dict[str, Report]:
    return {
        "one": report([hostile]),
        "two": report([hostile, product[0]], target=0.45),
        "methods": report([*product, hostile], target=0.45),
    }


@given(st.text())
def test_escaped_text_reads_as_it_was(text: str) -> None:
    escaped = escape(text)
    assert not re.search(r"--(?!-?$)|``|''|,,|<<", re.sub(r"(?<!\{)-{2,3}", "", escaped))
    read = re.sub(r"\\(text[a-z]+)\{\}", lambda found: f"\0{ord(NAMES[found[1]]):x};", escaped)
    read = re.sub(r"(?<!\\)\{\}", "", read)
    read = re.sub(r"\\([&%$#_{}])", lambda found: f"\0{ord(found[1]):x};", read)
    assert not re.search(r"(?<!\$)[\\&%#_{}~^](?![a-z]+\$)", re.sub(r"\$\\[a-z]+\$", "", read))
    shown = unicodedata.normalize("NFC", printable(text))
    if shown.isascii():
        assert re.sub("\0(.+?);", lambda found: chr(int(found[1], 16)), read) == shown


def test_every_report_is_whole(product: list[Run], hostile: Run) -> None:
    for found in each_kind(product, hostile).values():
        check_structure(to_latex(found))
    details = to_latex(report([*product, hostile]), details=True)
    check_structure(details)
    assert details.count(r"\caption{Clients of ") == 9


def test_one_line_at_the_top_names_the_packages(product: list[Run], tmp_path: Path) -> None:
    first, second, *_ = to_latex(report(product)).splitlines()
    assert first == r"% Needs \usepackage{booktabs}, and with pdfLaTeX \usepackage[T1]{fontenc}."
    assert second == ""
    other = make_run(tmp_path / "r", classes=("мир", "β", "é", "x"))
    first = to_latex(report([other])).splitlines()[0]
    assert first.endswith("; some names need LuaLaTeX or XeLaTeX, and a font that has them.")


def test_a_method_has_a_row_of_its_options_and_figures(product: list[Run]) -> None:
    text = to_latex(report(product))
    head, *body = rows(text, "methods")
    assert head[:5] == ["algorithm", "alpha", "runs", "rounds", r"accuracy (\%)"]
    assert body[0][:5] == ["fedavg", "0.4", "2", "2", r"45.0 $\pm$ 7.1"]
    shown = methods_table(report(product)).rows
    assert [escape(cell) for cell in shown[2][1:]] == body[2][2:]
    assert [row[:4] for row in rows(text, "options")[1:]][3] == [
        *("fedprox, alpha 0.5", "fedprox", "0.5", "0.3")
    ]


def test_the_best_is_bold_and_so_is_what_reads_the_same(product: list[Run]) -> None:
    _, *body = rows(to_latex(report(product)), "methods")
    accuracies = [row[4] for row in body]
    assert accuracies[1] == accuracies[3] == r"\textbf{55.0 $\pm$ 7.1}"
    assert not any("textbf" in cell for row in body[::2] for cell in row)
    assert not any("textbf" in cell for row in body for cell in (*row[:4], row[-1]))


def test_the_lowest_loss_is_best(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / f"r{a}", accuracies=(a,)) for a in (0.2, 0.8)]
    head, *body = rows(to_latex(report(runs, metric="loss")), "runs")
    place = head.index("loss")
    assert [row[place] for row in body] == ["0.800", r"\textbf{0.200}"]
    assert [row[place + 1] for row in body] == [r"20.0", r"\textbf{80.0}"]


def test_what_the_target_took_is_best_only_if_all_runs_reach_it(product: list[Run]) -> None:
    head, *body = rows(to_latex(report(product, target=0.45)), "target")
    assert head[:4] == ["algorithm", "alpha", "runs", "rounds"]
    assert [row[2] for row in body] == ["1 of 2", "2 of 2", "1 of 2", "2 of 2"]
    assert [row[3] for row in body] == ["2.0", r"\textbf{2.0 $\pm$ 0.0}"] * 2


def test_fairness_has_the_best_of_the_worst(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / name) for name in "ab"]
    for run, worst in zip(runs, (0.1, 0.3), strict=True):
        scores = [
            score(run, worst + 0.1 * i, data="client-test", data_client=client)
            for i, client in enumerate(run.info.clients)
        ]
        write_evaluation(run.round(3), [score(run, 0.5), *scores])
    head, *body = rows(to_latex(report(runs)), "fairness")
    assert [row[head.index("worst")] for row in body] == ["10.0 (0)", r"\textbf{30.0 (0)}"]
    assert {row[head.index("std")] for row in body} == {r"\textbf{8.2}"}


def test_methods_are_grouped_as_asked(product: list[Run]) -> None:
    found = report(product, group_by=["alpha"])
    head, *body = rows(to_latex(found), "methods")
    assert head[0] == "alpha"
    assert [row[:2] for row in body] == [["0.4", "4"], ["0.5", "4"]]
    by_run = to_latex(report(product, group_by=["run"]))
    assert [row[0] for row in rows(by_run, "methods")[1:3]] == ["fedavg-0.4-0", "fedavg-0.4-1"]


def test_one_run_has_its_scores_with_intervals_classes_and_clients(hostile: Run) -> None:
    text = to_latex(report([hostile]))
    assert r"\caption{a\_b\%\#1: global model on test}" in text
    scores = {row[0]: row[1:] for row in rows(text, "scores")}
    assert scores["score"] == ["value", "low", "high"]
    assert re.fullmatch(r"50\.0 4\d\.\d 5\d\.\d", " ".join(scores[r"accuracy (\%)"]))
    assert scores["loss"] == ["0.500", "--", "--"]
    assert [row[0] for row in rows(text, "classes")[1:]] == [
        r"{}[a]\&b",
        r"{}*50\%",
        r"x\_y\#-{}-\textbackslash{}\$,{},'{}'",
        r"\{z\}\textasciitilde{}\textasciicircum{}\textquotedbl{}\textless{}\textgreater{}"
        r"\textbar{}\textasciigrave{}ü --",
        r"\textbackslash{}end\{tabular\}",
    ]
    assert [row[0] for row in rows(text, "clients")] == ["client", "0", "1", "2"]
    assert "textbf" not in text


def test_the_rows_are_those_of_the_terminal(hostile: Run, product: list[Run]) -> None:
    found = report([hostile, product[0]])
    shown = [[cell.strip("{}") for cell in row] for row in rows(to_latex(found), "runs")[1:]]
    expected = [[escape(cell) for cell in row] for row in summary_table(found).rows]
    bold = re.compile(r"\\textbf\{?([^}]*)")
    assert [[bold.sub(r"\1", cell) for cell in row] for row in shown] == expected


def test_standard_output_has_the_tables_alone(product: list[Run], cli: Cli, tmp_path: Path) -> None:
    paths = [run.root for run in product]
    asked = ("--metric", "loss", "--target", "0.6", "--group-by", "alpha")
    status, out, _ = cli("report", *paths, "--latex", "-", *asked)
    assert status == 0
    assert cli("report", *paths, "--latex", tmp_path / "t.tex", *asked)[0] == 0
    assert (tmp_path / "t.tex").read_text() == out
    assert out.startswith("% Needs ")
    assert r"\caption{To reach loss: at most 0.600}" in out
    status, _, err = cli("report", *paths, "--latex", "-", "--csv", "-")
    assert status == 2
    assert "--latex -" in err


def test_a_table_with_many_rows_is_cut(tmp_path: Path) -> None:
    clients = tuple(map(str, range(30)))
    text = to_latex(report([make_run(tmp_path / "r", clients=clients)]))
    assert len(rows(text, "clients")) == 21
    assert "10 more; -{}-csv has all" in text


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_it_compiles_and_fits_the_line(product: list[Run], hostile: Run, tmp_path: Path) -> None:
    widest = {
        name: compiled_width(to_latex(found, details=True), tmp_path)
        for name, found in each_kind(product, hostile).items()
    }
    assert widest["one"] == 0
    assert max(widest.values()) < 50  # of a name that cannot be broken
    assert compiled_width(to_latex(report(product, target=0.45), details=True), tmp_path) < 3


def compiled_width(text: str, folder: Path) -> int:
    """How many points the widest line is too wide in an article of one column."""
    packages = r"\usepackage{booktabs}\usepackage[T1]{fontenc}"
    head, tail = rf"\documentclass{{article}}{packages}\begin{{document}}", r"\end{document}"
    (folder / "t.tex").write_text(f"{head}\n{text}\n{tail}")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True, check=False)
    said = done.stdout.decode(errors="replace")
    assert done.returncode == 0, said[-2000:]
    return max(map(int, re.findall(r"Overfull \\hbox \((\d+)", said)), default=0)
