"""Pictures: the same figure is the same bytes, in any format, whatever the user's settings."""

import re
from pathlib import Path

import matplotlib
import pytest

from fedcli.errors import UsageError
from fedcli.reporting.plot_style import GRID, INK, PAPER, SERIES
from fedcli.reporting.plots import (
    Line,
    confusion_matrix,
    curves,
    label_distribution,
    save_figure,
    svg,
)

COUNTS = {"0": [5, 0, 12], "mercy-hospital": [0, 7, 1]}
CLASSES = ("<i>ant", "$bee_2$", "猫")
SIGNATURES = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}


@pytest.mark.parametrize("suffix", SIGNATURES)
def test_a_picture_is_the_same_bytes_whatever_the_settings(tmp_path: Path, suffix: str) -> None:
    first, second = (tmp_path / f"{name}{suffix}" for name in ("first", "second"))
    save_figure(label_distribution(COUNTS, CLASSES), first)
    with matplotlib.rc_context({"font.size": 30, "svg.fonttype": "path", "text.color": "red"}):
        save_figure(label_distribution(COUNTS, CLASSES), second)
    assert first.read_bytes() == second.read_bytes()
    assert first.read_bytes().startswith(SIGNATURES[suffix])


def test_an_unknown_suffix_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.png, \.svg, \.pdf"):
        save_figure(label_distribution(COUNTS, CLASSES), tmp_path / "labels.gif")
    assert list(tmp_path.iterdir()) == []


def test_label_distribution_shows_every_count_above_0_and_names_as_they_are() -> None:
    text = svg(label_distribution(COUNTS, CLASSES), "x", "labels")
    shown = re.findall(r"<text[^>]*>([^<]*)</text>", text)
    assert sorted(int(s) for s in shown if s.isdecimal() and s != "0") == [1, 5, 7, 12]
    assert {"&lt;i&gt;ant", "$bee_2$", "猫", "mercy-hospital"} <= set(shown)


def test_svg_has_only_the_colours_of_the_page_and_its_own_ids() -> None:
    lines = [Line(f"run {n}", [1, 2, 3], [10.0, None, 30.0 + n]) for n in range(len(SERIES))]
    text = svg(curves(lines, x="round", y="accuracy (%)"), "accuracy", "Accuracy <of> runs")
    assert not any(colour in text for colour in (INK, GRID, PAPER, *SERIES))
    for n in range(1, len(SERIES) + 1):
        assert f"var(--series-{n})" in text
    assert all(i.startswith("accuracy-") for i in re.findall(r' id="([^"]*)"', text))
    assert "<title>Accuracy &lt;of&gt; runs</title>" in text
    assert "<metadata" not in text


def test_a_confusion_matrix_of_empty_rows_can_be_drawn() -> None:
    text = svg(confusion_matrix([[0, 0], [1, 3]], ("a", "b")), "x", "confusion")
    assert {"1", "3"} <= set(re.findall(r"<text[^>]*>([^<]*)</text>", text))


def test_a_logarithmic_axis_has_plain_numbers_and_room_for_values_of_one_size() -> None:
    for values in ([0.002, 350.0], [3.0, 3.0]):
        figure = curves([], x="round", y="norm", log_y=True, others=[Line("", [1, 2], values)])
        shown = re.findall(r"<text[^>]*>([^<]*)</text>", svg(figure, "x", "norms"))
        ticks = [float(text) for text in shown if text not in ("round", "norm")]
        assert any(tick > 0 for tick in ticks)
        low, high = figure.axes[0].get_ylim()
        assert 0 < low < values[0]
        assert values[1] < high


def test_what_lies_behind_the_curves_is_not_in_the_legend() -> None:
    lines = [Line(name, [1, 2], [1.0, 2.0]) for name in ("three", "seven", "other")]
    figure = curves(lines[:1], x="x", y="y", others=lines[1:])
    assert "three" in svg(figure, "x", "norms")
    assert not {"seven", "other"} & set(re.findall(r">([^<]*)</text>", svg(figure, "x", "norms")))
