"""Pictures: the same figure is the same bytes, in any format, whatever the user's settings."""

import re
from pathlib import Path

import matplotlib
import pytest
from matplotlib.figure import Figure

from fedcli.errors import UsageError
from fedcli.reporting.plots import Line, confusion_matrix, curves, label_distribution, save_figure

COUNTS = {"0": [5, 0, 12], "mercy-hospital": [0, 7, 1]}
CLASSES = ("<i>ant", "$bee_2$", "猫")
SIGNATURES = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}


def drawn(figure: Figure, folder: Path) -> str:
    """The text of a figure's SVG file."""
    save_figure(figure, folder / "figure.svg")
    return (folder / "figure.svg").read_text(encoding="utf-8")


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


def test_label_distribution_shows_every_count_above_0_and_names_as_they_are(tmp_path: Path) -> None:
    text = drawn(label_distribution(COUNTS, CLASSES), tmp_path)
    shown = re.findall(r"<text[^>]*>([^<]*)</text>", text)
    assert sorted(int(s) for s in shown if s.isdecimal() and s != "0") == [1, 5, 7, 12]
    assert {"&lt;i&gt;ant", "$bee_2$", "猫", "mercy-hospital"} <= set(shown)


def test_a_confusion_matrix_of_empty_rows_can_be_drawn(tmp_path: Path) -> None:
    text = drawn(confusion_matrix([[0, 0], [1, 3]], ("a", "b")), tmp_path)
    assert {"1", "3"} <= set(re.findall(r"<text[^>]*>([^<]*)</text>", text))


def test_a_logarithmic_axis_has_plain_numbers_and_room_for_values_of_one_size(
    tmp_path: Path,
) -> None:
    for values in ([0.002, 350.0], [3.0, 3.0]):
        figure = curves([], x="round", y="norm", log_y=True, others=[Line("", [1, 2], values)])
        shown = re.findall(r"<text[^>]*>([^<]*)</text>", drawn(figure, tmp_path))
        ticks = [float(text) for text in shown if text not in ("round", "norm")]
        assert any(tick > 0 for tick in ticks)
        low, high = figure.axes[0].get_ylim()
        assert 0 < low < values[0]
        assert values[1] < high


def test_what_lies_behind_the_curves_is_not_in_the_legend(tmp_path: Path) -> None:
    lines = [Line(name, [1, 2], [1.0, 2.0]) for name in ("three", "seven", "other")]
    figure = curves(lines[:1], x="x", y="y", others=lines[1:])
    assert "three" in drawn(figure, tmp_path)
    assert not {"seven", "other"} & set(re.findall(r">([^<]*)</text>", drawn(figure, tmp_path)))
