"""Figures as files: the same bytes, nothing over anything else, and every curve told apart."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from support.made_reports import HOSPITALS, made_report

from fedcli.errors import UsageError
from fedcli.reporting.curve_plots import spread
from fedcli.reporting.diagrams import (
    Bars,
    Curves,
    Diagram,
    Histograms,
    Line,
    confusion_map,
    label_map,
)
from fedcli.reporting.figures import comparison_figures, run_figures
from fedcli.reporting.plot_style import PAPER, chance_style, drawing, line_style
from fedcli.reporting.plots import (
    COLUMNS,
    FORMATS,
    encoded,
    label_distribution,
    plot,
    save_figure,
    shapeless,
)

COUNTS = {"0": [5, 0, 12], "mercy-hospital": [0, 7, 1]}
CLASSES = ("<i>ant", "$bee_2$", "猫")
SIGNATURES = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}
CHANCE = Line("chance: 10.0 %", [0], [10.0], level=True)
ANY = st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=1, max_size=6)


def curves(count: int, *, label: str = "fedprox, alpha 0.{}", log_y: bool = False) -> Curves:
    """Curves that rise to nearly the same level, with bands and a line of chance."""
    x = np.arange(21)
    lines = [
        Line(
            label.format(i),
            x.tolist(),
            (y := 10 + (70 + i / 4) * (1 - np.exp(-x / 4))).tolist(),
            lower=(y - 2).tolist(),
            upper=(y + 2).tolist(),
        )
        for i in range(count)
    ]
    return Curves(lines, "round", "accuracy (%)", True, log_y, CHANCE, (0, 100))


def texts(figure: Figure) -> dict[str, list[Bbox]]:
    """Where each text that is seen stands, in pixels."""
    with drawing():
        renderer = FigureCanvasAgg(figure).get_renderer()
        figure.draw_without_rendering()
        boxes: dict[str, list[Bbox]] = {}
        for found in figure.findobj(Text):
            assert isinstance(found, Text)
            if found.get_text().strip() and found.get_visible():
                boxes.setdefault(found.get_text(), []).append(found.get_window_extent(renderer))
        return boxes


def overlaps(found: dict[str, list[Bbox]]) -> Iterator[tuple[str, str]]:
    """Pairs of texts that stand over each other, by more than rounding."""
    each = [(name, box) for name, boxes in found.items() for box in boxes]
    for (one, a), (other, b) in combinations(each, 2):
        common = Bbox.intersection(a, b)
        if common is not None and common.width > 0.5 and common.height > 0.5:
            yield one, other


def check_geometry(figure: Figure, *, over_data: bool) -> dict[str, list[Bbox]]:
    """No text over another, or outside the figure, or (``over_data`` false) over the axes."""
    found = texts(figure)
    assert not list(overlaps(found))
    whole = figure.bbox.padded(1)
    for name, boxes in found.items():
        for box in boxes:
            assert whole.x0 <= box.x0 <= box.x1 <= whole.x1, name
            assert whole.y0 <= box.y0 <= box.y1 <= whole.y1, name
            for axes in figure.axes:
                inside = Bbox.intersection(box, axes.bbox)
                assert over_data or inside is None or min(inside.size) < 1, name
    return found


@pytest.mark.parametrize("count", [1, 2, 7, 18, 40])
@pytest.mark.parametrize("width", COLUMNS)
def test_every_curve_has_its_name_outside_the_data(count: int, width: str) -> None:
    for label in ("fedprox, alpha 0.{}", "{}", "a name that takes rather a lot of room, no {}"):
        shown = curves(count, label=label)
        figure = plot(shown, COLUMNS[width])
        assert figure.get_figwidth() == COLUMNS[width]
        found = check_geometry(figure, over_data=False)
        assert {line.label for line in shown.lines} | {CHANCE.label} <= found.keys()


@pytest.mark.parametrize("width", COLUMNS)
def test_names_that_are_too_long_are_cut_where_they_are_alike(width: str) -> None:
    figure = plot(curves(3, label="{0} " + 1000 * "long" + " {0}"), COLUMNS[width])
    found = check_geometry(figure, over_data=False)
    assert sum("…" in name for name in found) == 3


@pytest.mark.parametrize("width", COLUMNS)
@pytest.mark.parametrize(
    "made",
    [
        {"runs": 2},
        {"runs": 4, "classes": 2},
        {"clients": HOSPITALS},
        {"clients": 50},
        {"clients": 60},
        {"clients": 1000, "classes": 40},
    ],
    ids=str,
)
def test_no_text_of_any_figure_overlaps(made: dict[str, Any], width: str) -> None:
    report = made_report(**made)
    of_runs = [run_figures(run, report.headline) for run in report.runs[:1]]
    for figures in (comparison_figures(report), *of_runs):
        for _, shown, _ in figures:
            # the numbers of a heat map stand in its cells
            figure = plot(shown, COLUMNS[width])
            check_geometry(figure, over_data=not isinstance(shown, Curves))
            assert figure.get_figheight() < 9.5  # of a page


def test_names_at_the_ends_of_curves_are_in_the_order_of_their_ends() -> None:
    lines = [Line(name, [0, 1], [0, y]) for name, y in (("a", 50), ("b", 52), ("c", 90), ("d", 3))]
    found = texts(plot(Curves(lines, "round", "accuracy (%)"), COLUMNS["two"]))
    heights = {name: found[name][0].y0 for name in "abcd"}
    assert sorted("abcd", key=lambda name: heights[name]) == ["d", "a", "b", "c"]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_names_are_moved_apart_and_no_farther_than_needed(wanted: list[float]) -> None:
    places = spread(wanted, 0.1, 0, 1)
    assert all(-1e-9 <= place <= 1 + 1e-9 for place in places)
    inner = sorted(places)
    assert all(b - a >= 0.1 - 1e-9 for a, b in pairwise(inner))
    distances = np.abs(np.subtract.outer(wanted, wanted))[np.triu_indices(len(wanted), 1)]
    if min(distances, default=1) >= 0.1:
        shift = [min(max(w, 0), 1) - p for w, p in zip(wanted, places, strict=True)]
        assert np.allclose(shift, 0)


def test_curves_have_bands_and_the_line_of_chance() -> None:
    (axes,) = plot(curves(6), COLUMNS["one"]).axes
    bands = [found for found in axes.collections if isinstance(found, PolyCollection)]
    assert len(bands) == 6
    lower, upper = bands[0].get_paths()[0].get_extents().intervaly
    assert (lower, upper) == pytest.approx((8, 10 + 70 * (1 - np.exp(-5)) + 2))
    (chance,) = [line for line in axes.lines if set(np.ravel(line.get_ydata())) == {10.0}]
    assert chance.get_linestyle() != "-"


def test_a_loss_that_diverged_leaves_the_axis_with_an_arrow_and_the_others_are_seen() -> None:
    sound = [Line(str(i), [0, 1, 2], [2.3, 1.5, 0.9]) for i in range(8)]
    lost = Line("lost", [0, 1, 2], [2.3, 1e6, 1e12])
    figure = plot(Curves([*sound, lost], "round", "loss", log_y=True, ceiling=23), 3.4)
    (axes,) = figure.axes
    assert axes.get_ylim()[1] < 100
    assert {"lost ↑", "0", "7"} <= check_geometry(figure, over_data=False).keys()


def test_only_far_losses_leave_an_axis() -> None:
    report = made_report(18)
    for _, shown, _ in comparison_figures(report):
        assert isinstance(shown, Curves)
        (axes,) = plot(shown, 3.4).axes
        low, high = axes.get_ylim()
        values = [y for line in shown.lines for y in line.y if y is not None]
        assert low <= min(values) <= max(values) <= high
        assert high < 3 * max(values)


def test_a_level_is_named_at_its_height_and_what_costs_less_beside_the_axes() -> None:
    lines = [
        Line("short", [0, 10, 20], [10.0, 40.0, 50.0]),
        Line("long", [0, 20, 40], [10.0, 55.0, 65.0]),
        Line("centralised", [0, 0], [30.0, 75.0], level=True),
    ]
    figure = plot(Curves(lines, "communication (MB)", "accuracy (%)"), COLUMNS["two"])
    found = check_geometry(figure, over_data=False)
    (axes,) = figure.axes
    for name, end in (("short", 50), ("long", 65), ("centralised", 75)):
        _, height = axes.transData.transform((0, end))
        (box,) = found[name]
        assert box.y0 <= height <= box.y1
        assert box.x0 > axes.bbox.x1


def test_short_names_of_many_clients_lie_flat_and_long_ones_stand() -> None:
    for names, turn in (([str(i) for i in range(50)], 0), ([f"site {i}" for i in range(50)], 90)):
        (axes,) = plot(Bars({"seconds": [1.0] * 50}, names), 3.4).axes
        assert {label.get_rotation() for label in axes.get_xticklabels()} == {turn}


LINEAR = np.array(  # linear RGB to LMS; Viénot, Brettel and Mollon 1999
    [[17.8824, 43.5161, 4.11935], [3.45565, 27.1554, 3.86714], [0.0299566, 0.184309, 1.46709]]
)
MISSING = {
    "protanopia": [[0, 2.02344, -2.52581], [0, 1, 0], [0, 0, 1]],
    "deuteranopia": [[1, 0, 0], [0.494207, 0, 1.24827], [0, 0, 1]],
    "none": np.eye(3).tolist(),
}


def seen(colour: str, kind: str) -> np.ndarray[Any, Any]:
    """A colour as it is seen, in CIELAB."""
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    linear = np.linalg.inv(LINEAR) @ np.array(MISSING[kind]) @ LINEAR @ linear
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    xyz = np.array(to_xyz) @ linear.clip(0, 1) / [0.9505, 1, 1.089]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("kind", MISSING)
def test_the_first_styles_are_told_apart_with_colour_blindness(kind: str) -> None:
    for one, other in combinations(map(line_style, range(8)), 2):
        apart = np.linalg.norm(seen(one["color"], kind) - seen(other["color"], kind))
        in_shape = (one["linestyle"], one["marker"]) != (other["linestyle"], other["marker"])
        assert in_shape
        assert apart > 10 or one["linestyle"] != other["linestyle"]
    paper = seen(PAPER, kind)
    for index in range(6):
        assert np.linalg.norm(seen(line_style(index)["color"], kind) - paper) > 30


def test_all_of_forty_styles_differ_and_none_is_that_of_chance() -> None:
    kinds = ("color", "linestyle", "marker")
    styles = {tuple(str(line_style(i)[kind]) for kind in kinds) for i in range(144)}
    assert len(styles) == 144
    assert chance_style()["color"] not in {line_style(i)["color"] for i in range(40)}


def test_a_curve_is_drawn_in_the_style_that_stands_before_its_name() -> None:
    for count in (3, 40):
        figure = plot(curves(count), COLUMNS["two"])
        (axes,) = figure.axes
        pairs = zip(axes.lines[1::2], axes.lines[2::2], strict=True)  # after that of chance
        in_axes = [(*look(line)[:1], look(marks)[1], look(line)[2]) for line, marks in pairs]
        samples = [line for line in figure.findobj(Line2D) if line in figure.artists]
        marked = [
            line for line in samples if isinstance(line, Line2D) and len(line.get_xdata()) > 2
        ]
        assert in_axes == [look(line) for line in marked][:count]


def test_a_curve_that_another_one_hides_is_seen_by_its_markers() -> None:
    for points in (1, 2, 4, 11, 101):
        hidden = [Line(name, list(range(points)), [50.0] * points) for name in "abc"]
        (axes,) = plot(Curves(hidden, "round", "accuracy (%)"), 3.4).axes
        marked = []
        for line in axes.lines[1::2]:
            first, step = line.get_markevery()
            marked.append(set(range(points)[first::step]))
            assert marked[-1]
            assert line.get_zorder() > max(line.get_zorder() for line in axes.lines[::2])
        assert points < 3 or not marked[0] & marked[1] | marked[1] & marked[2]


def look(line: Any) -> tuple[Any, ...]:
    return line.get_color(), line.get_marker(), line._unscaled_dash_pattern


@given(ANY, st.booleans())
@settings(max_examples=15, deadline=None)
def test_any_values_are_drawn(values: list[float], log_y: bool) -> None:
    line = Line("a", list(range(len(values))), [v if v == v else None for v in values])
    for shown in (
        Curves([line, line], "round", "norm", log_y=log_y),
        Bars({"seconds": values}, [str(i) for i in range(len(values))]),
        Histograms({"seconds": values}, "clients"),
    ):
        assert encoded(plot(shown, 3.4), "svg")


ALL: list[Diagram] = [
    curves(7),
    curves(3, log_y=True),
    label_map(COUNTS, CLASSES),
    confusion_map([[0, 0], [1, 3]], ("a", "b")),
    Bars({"seconds": [1.0, None]}, ["0", "1"]),
    Histograms({"seconds": [1.0, 2.0, None]}, "clients"),
]


@pytest.mark.parametrize("kind", FORMATS)
def test_the_same_figure_is_the_same_bytes_at_any_time_in_any_process(
    kind: str, tmp_path: Path
) -> None:
    program = f"""
from pathlib import Path
import test_plots
for i, shown in enumerate(test_plots.ALL):
    data = test_plots.encoded(test_plots.plot(shown, 3.4), {kind!r})
    Path(f"{{i}}.{kind}").write_bytes(data)
"""
    variables = {
        **os.environ,
        "PYTHONHASHSEED": "7",
        "SOURCE_DATE_EPOCH": "86400",
        "TZ": "Asia/Tokyo",
    }
    paths = (Path(__file__).parent, Path(__file__).parents[1], Path(__file__).parents[2])
    variables["PYTHONPATH"] = os.pathsep.join(map(str, paths))
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=variables, check=True)
    for i, shown in enumerate(ALL):
        assert encoded(plot(shown, 3.4), kind) == (tmp_path / f"{i}.{kind}").read_bytes()


@pytest.mark.parametrize("suffix", SIGNATURES)
def test_a_picture_is_the_same_bytes_whatever_the_settings(tmp_path: Path, suffix: str) -> None:
    first, second = (tmp_path / f"{name}{suffix}" for name in ("first", "second"))
    save_figure(label_distribution(COUNTS, CLASSES), first)
    with matplotlib.rc_context({"font.size": 30, "svg.fonttype": "path", "text.color": "red"}):
        save_figure(label_distribution(COUNTS, CLASSES), second)
    assert first.read_bytes() == second.read_bytes()
    assert first.read_bytes().startswith(SIGNATURES[suffix])


def test_pdf_files_have_their_fonts_as_truetype_and_no_date() -> None:
    for shown in ALL:
        data = encoded(plot(shown, 3.4), "pdf")
        fonts = re.findall(rb"/Subtype /(\w+)", data)
        assert b"CIDFontType2" in fonts or b"TrueType" in fonts
        assert b"Type3" not in fonts
        assert b"/FontFile2" in data
        assert b"Date" not in data
        assert str(time.gmtime().tm_year).encode() not in re.sub(rb"stream.*?endstream", b"", data)


def test_svg_files_have_their_text_as_text() -> None:
    data = encoded(plot(curves(7), 3.4), "svg").decode()
    shown = re.findall(r"<text[^>]*>([^<]*)</text>", data)
    assert {"round", "accuracy (%)", "fedprox, alpha 0.6", CHANCE.label} <= set(shown)
    assert 'width="244.8pt"' in data


def test_characters_without_a_shape_are_known() -> None:
    assert shapeless(label_distribution(COUNTS, CLASSES)) == {"猫"}
    assert not shapeless(plot(curves(2), 3.4))


def test_an_unknown_suffix_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.pdf, \.svg, \.png"):
        save_figure(label_distribution(COUNTS, CLASSES), tmp_path / "labels.gif")
    assert list(tmp_path.iterdir()) == []


def drawn(shown: Diagram) -> set[str]:
    """The texts of a figure."""
    data = encoded(plot(shown, COLUMNS["two"]), "svg").decode()
    return set(re.findall(r"<text[^>]*>([^<]*)</text>", data))


def test_label_distribution_shows_every_count_above_0_and_names_as_they_are() -> None:
    shown = drawn(label_map(COUNTS, CLASSES))
    assert sorted(int(s) for s in shown if s.isdecimal() and s != "0") == [1, 5, 7, 12]
    assert {"&lt;i&gt;ant", "$bee_2$", "猫", "mercy-hospital"} <= shown


def test_a_confusion_matrix_of_empty_rows_can_be_drawn() -> None:
    assert {"1", "3"} <= drawn(confusion_map([[0, 0], [1, 3]], ("a", "b")))


def test_a_logarithmic_axis_has_plain_numbers_and_room_for_values_of_one_size() -> None:
    for values in ([0.002, 350.0], [3.0, 3.0]):
        figure = plot(Curves([Line("", [1, 2], values)], "round", "norm", log_y=True), 3.4)
        (axes,) = figure.axes
        assert any(float(label.get_text()) > 0 for label in axes.get_yticklabels())
        low, high = axes.get_ylim()
        assert 0 < low < values[0]
        assert values[1] < high
