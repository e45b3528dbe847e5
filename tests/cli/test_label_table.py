"""The table of labels by client, on a terminal of 80 columns."""

import numpy as np
import pytest
from rich.console import Console

from fedcli.cli.render.label_table import grouped, label_table, short


def drawn(counts: dict[str, list[int]], classes: list[str], width: int) -> list[str]:
    console = Console(width=width)
    with console.capture() as capture:
        for part in label_table(counts, classes):
            console.print(part)
    return capture.get().splitlines()


def names(count: int) -> list[str]:
    return [f"a long class name {n}" for n in range(count)]


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize(("classes", "clients"), [(2, 3), (10, 10), (11, 2), (100, 50), (1000, 99)])
def test_the_table_fits_in_the_terminal(classes, clients, width):
    rng = np.random.default_rng(0)
    counts = {str(c): rng.integers(0, 9999, classes).tolist() for c in range(clients)}
    lines = drawn(counts, names(classes), width)
    assert max(map(len, lines)) <= width
    assert len(lines) == 1 + min(clients, 60) + (clients > 60)
    if classes * 6 + 20 <= width:
        for client, line in zip(counts, lines[1:], strict=True):
            assert all(str(count) in line for count in counts[client])


def test_a_wide_terminal_shows_more_classes_and_longer_names():
    counts = {"st-olavs-hospital-trondheim": [7] * 16, "mercy": [8] * 16}
    narrow, wide = (drawn(counts, names(16), width) for width in (80, 140))
    assert "classes" in narrow[0]
    assert all("st-olavs-hospital-trondheim" not in line for line in narrow)
    assert wide[2].startswith("st-olavs-hospital-trondheim")
    assert wide[2].count("7") == 16


def test_clients_are_drawn_in_natural_order():
    counts = {str(number): [1, 1] for number in (0, 1, 10, 11, 2)}
    first = [line.split()[0] for line in drawn(counts, ["a", "b"], 80)]
    assert first == ["client", "0", "1", "2", "10", "11"]


@pytest.mark.parametrize("classes", [1, 10, 50, 51, 100, 1000])
def test_grouping_classes_loses_no_example(classes):
    counts = list(range(classes))
    assert sum(grouped(counts)) == sum(counts)
    assert len(grouped(counts)) <= 50


@pytest.mark.parametrize("count", [0, 9999, 10_000, 999_499, 1_000_000, 123_456_789])
def test_a_short_count_has_at_most_four_characters(count):
    assert len(short(count)) <= 4
