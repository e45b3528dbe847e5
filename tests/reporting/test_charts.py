"""Charts of the page: what they draw of any values and names, and how large a page becomes."""

import json
import re
import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.made_reports import made_report

from fedcli.reporting.chart_parts import Chart
from fedcli.reporting.charts import chart_of
from fedcli.reporting.compare import compare
from fedcli.reporting.diagrams import Bars, Curves, Histograms, Line, confusion_map, label_map
from fedcli.reporting.page import to_html
from fedcli.reporting.svg import linear_axis, log_axis, shortened, text_width

ANY = st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=1, max_size=6)
SOUND = re.compile(r"<(?:path|text|g)(?: [a-z-]+=\"[^\"<>]*\")*/?>|</(?:path|text|g)>")


def is_sound(chart: Chart) -> bool:
    """Whether the drawing has only the elements that charts consist of, and finite numbers."""
    json.dumps(chart.data, allow_nan=False)
    rest = SOUND.sub("", chart.drawing)
    return "<" not in rest and not re.search(r'="[^"]*(nan|inf)', chart.drawing)


@given(ANY, st.booleans())
def test_curves_of_any_values_are_drawn(values: list[float], log_y: bool) -> None:
    line = Line("a", list(range(len(values))), [v if v == v else None for v in values])
    assert is_sound(chart_of(Curves([line], x="round", y="norm", log_y=log_y)))


@given(ANY)
def test_clients_of_any_values_are_drawn(values: list[float]) -> None:
    panels = {"seconds": values}
    assert is_sound(chart_of(Bars(panels, [str(i) for i in range(len(values))])))
    assert is_sound(chart_of(Histograms(panels, "clients")))


@given(st.lists(st.floats(-1e30, 1e30), min_size=1, max_size=5), st.booleans())
def test_an_axis_shows_every_value(values: list[float], whole: bool) -> None:
    axis, ticks = linear_axis(values, 0, 100, whole=whole)
    assert axis.low <= min(values) <= max(values) <= axis.high
    assert 1 <= len(ticks) <= 12
    assert all(0 <= axis.place(value) <= 100 for value in values)


def test_axes_have_round_ticks() -> None:
    assert linear_axis([0.1, 83.2], 0, 1, limits=(0, 100))[1] == [0, 20, 40, 60, 80, 100]
    assert linear_axis([96.0, 98.0], 0, 1, limits=(0, 100))[1] == [96, 96.5, 97, 97.5, 98]
    assert linear_axis([1, 2, 3], 0, 1, whole=True)[1] == [0, 1, 2, 3]
    assert log_axis([0.2, 3], 0, 1)[1] == [0.2, 0.5, 1, 2]


@given(st.text(min_size=1, max_size=60), st.floats(12, 200))
def test_a_name_is_cut_in_its_middle(name: str, width: float) -> None:
    short = shortened(name, width)
    assert text_width(short) <= width
    if text_width(name) <= width:
        assert short == name
    elif len(short) > 2:
        assert name.startswith(short.split("…")[0]) or "…" in name


def test_names_are_escaped() -> None:
    evil = "<script>\"'&"
    charts = [
        chart_of(Curves([Line(evil, [0, 1], [1, 2])], x=evil, y=evil)),
        chart_of(label_map({evil: [1, 2]}, [evil, "b"])),
        chart_of(confusion_map([[1, 0], [0, 1]], [evil, "b"])),
        chart_of(Bars({evil: [1.0]}, [evil])),
        chart_of(Histograms({evil: [1.0, 2.0]}, evil)),
    ]
    for chart in charts:
        assert is_sound(chart)
        assert "&lt;script&gt;" in chart.drawing or "…" in chart.drawing


def test_forty_curves_have_forty_looks_and_a_legend_below() -> None:
    lines = [Line(f"run {i}", [0, 1], [i, i + 1.0]) for i in range(40)]
    drawing = chart_of(Curves(lines, x="round", y="loss")).drawing
    looks = re.findall(r'<g class="entry"[^>]*><path class="(.*?)".*?d="M[\d. ]+(m.*?)"', drawing)
    assert len(set(looks)) == 40
    lowest = max(float(y) for y in re.findall(r'class="curve".*?d="M[\d.]+ ([\d.]+)', drawing))
    entries = re.findall(r'class="entry".*?<text x="[\d.]+" y="([\d.]+)"', drawing)
    assert min(map(float, entries)) > lowest


def test_a_level_and_chance_go_across() -> None:
    chance = Line("chance: 10 %", [0.0], [10.0], level=True)
    central = Line("central", [0.0], [80.0], level=True)
    chart = chart_of(Curves([central, Line("a", [0, 5], [10, 70])], x="MB", y="%", chance=chance))
    assert re.search(r'class="chance" d="M[\d.]+ ([\d.]+)L410 \1"', chart.drawing)
    assert re.search(r'class="line s1 d0" d="M[\d.]+ ([\d.]+)L410 \1"', chart.drawing)
    assert chart.data["x"][:2] == [0, 5]


def test_a_confusion_matrix_of_empty_rows_can_be_drawn() -> None:
    assert is_sound(chart_of(confusion_map([[0, 0], [1, 3]], ("a", "b"))))


@pytest.mark.parametrize(
    "options",
    [
        {"runs": 40, "rounds": 50},
        {"runs": 40, "rounds": 100, "clients": 30},
        {"clients": 10_000, "rounds": 2},
    ],
    ids=str,
)
def test_a_page_is_small_and_written_soon(options: dict[str, int]) -> None:
    report = made_report(**options)
    start = time.process_time()
    page = to_html(report)
    assert time.process_time() - start < 5
    assert len(page.encode()) < 2_000_000
    assert page == to_html(report)


def test_a_page_that_would_be_too_large_says_which_figures_it_lacks() -> None:
    page = to_html(made_report(12, classes=100, clients=50, rounds=2))
    drawn = [i for i in range(1, 13) if f'<figure id="run-{i}-confusion">' in page]
    assert drawn == list(range(1, len(drawn) + 1))
    assert 0 < len(drawn) < 12
    assert page.count("figures of this run are left out") == 12 - len(drawn)
    assert len(page.encode()) < 2_000_000


@pytest.mark.parametrize(
    ("clients", "curves", "says"),
    [(10, 10, ""), (20, 1, "The band holds 80 % of them."), (1, 0, "")],
)
def test_of_many_clients_the_norms_are_a_band(clients: int, curves: int, says: str) -> None:
    page = to_html(made_report(clients=clients))
    own = page.partition('<figure id="run-1-norms">')[2].split("</figure>")[0]
    assert own.count('class="curve"') == curves
    assert says in own


def test_long_tables_of_clients_are_cut_and_say_so() -> None:
    page = to_html(made_report(clients=1000, rounds=2))
    assert page.count("900 more; --csv has all") == 2  # updates, clients
    rounds = to_html(made_report(clients=2, rounds=200))
    assert "100 of 201 rounds; --csv has all" in rounds
    assert '<th scope="row">200</th>' in rounds
    assert "how many of 1000 clients have which value" in page


@pytest.mark.parametrize(
    ("last", "ticks"),
    [(0.03, ["0.05", "0.1", "0.2", "0.5", "1", "2"]), (1.0, ["0", "1", "2", "3"])],
)
def test_an_axis_of_losses_that_fall_far_is_logarithmic(last: float, ticks: list[str]) -> None:
    report = made_report(rounds=1)
    first, second = report.runs[0].rounds
    losses = [(first, 3.0), (second, last)]
    rounds = [replace(r, scores=(replace(r.scores[0], loss=loss),)) for r, loss in losses]
    page = to_html(compare([replace(report.runs[0], rounds=tuple(rounds))]))
    drawing = page[page.index('<figure id="loss">') :].split("</svg>")[0]
    assert re.findall(r'text-anchor="end">([\d.]+)<', drawing) == ticks


def test_values_close_together_have_ticks_on_a_logarithmic_axis() -> None:
    chart = chart_of(Curves([Line("a", [0, 1], [3.1, 3.4])], x="round", y="norm", log_y=True))
    assert re.findall(r'text-anchor="end">([\d.]+)<', chart.drawing) == ["3.1", "3.2", "3.3", "3.4"]
