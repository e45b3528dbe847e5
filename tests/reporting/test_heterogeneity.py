"""How the clients' examples differ, in every form of the report."""

import csv
import html
import io
import json

import pytest
from rich.console import Console
from support.sample_runs import make_run

from fedcli.reporting.markdown import to_markdown
from fedcli.reporting.terminal import render
from fedcli.reporting.tidy import to_csv
from fedcli.steps.report import report
from fedcli.storage.atomic import write_json

FIGURES = {"jensen_shannon_distance": 0.8125, "earth_movers_distance": 0.5, "gini_of_sizes": 0.25}


def with_figures(path, **changes):
    run = make_run(path, **changes)
    values = json.loads(run.partition_file.read_text())
    write_json(run.partition_file, {**values, "heterogeneity": FIGURES})
    return run


def shown(found):
    console = Console(width=80)
    with console.capture() as capture:
        for part in render(found):
            console.print(part)
    return capture.get()


def test_the_figures_are_in_the_tables_and_in_the_csv(tmp_path):
    found = report([with_figures(tmp_path / "skewed")])
    row = ["skewed", "dirichlet", "3", "0.812", "0.500", "0.250"]
    assert row in [line.split() for line in shown(found).splitlines()]
    assert f"| {' | '.join(row)} |" in to_markdown(found)
    rows = csv.DictReader(io.StringIO(to_csv(found)))
    values = {r["measure"]: float(r["value"]) for r in rows if r["measure"] in FIGURES}
    assert values == FIGURES


def test_they_are_in_the_page(tmp_path):
    from fedcli.reporting.page import to_html

    page = to_html(report([with_figures(tmp_path / "skewed")]))
    assert "How the clients' examples differ" in html.unescape(page)
    assert "<td>0.812</td>" in page


def test_runs_side_by_side_have_a_row_each_that_fits(tmp_path):
    names = [f"a run with a long name, number {number}, of several words" for number in range(2)]
    found = report([with_figures(tmp_path / name) for name in names])
    text = shown(found)
    assert text.count("0.812") == 2
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("kind", ["older", "centralised"])
def test_what_has_no_figures_has_no_table(tmp_path, kind):
    if kind == "older":
        run = make_run(tmp_path / "run")
    else:
        run = with_figures(tmp_path / "run", clients=("0",))
    found = report([run])
    for text in (shown(found), to_markdown(found)):
        assert "examples differ" not in text
