"""The table of labels by client, on a terminal of 80 columns."""

import numpy as np
import pytest

from fedcli.cli.render.label_table import grouped, label_table, short


@pytest.mark.parametrize(("classes", "clients"), [(2, 3), (10, 10), (11, 2), (100, 50), (1000, 99)])
def test_the_table_fits_in_80_columns(classes, clients):
    from rich.console import Console

    rng = np.random.default_rng(0)
    counts = {str(c): rng.integers(0, 9999, classes).tolist() for c in range(clients)}
    console = Console(width=80)
    with console.capture() as capture:
        for part in label_table(counts, [f"a long class name {n}" for n in range(classes)]):
            console.print(part)
    lines = capture.get().splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) == 1 + min(clients, 60) + (clients > 60)
    if classes <= 10:
        for client, line in zip(counts, lines[1:], strict=True):
            assert all(str(count) in line for count in counts[client])


@pytest.mark.parametrize("classes", [1, 10, 50, 51, 100, 1000])
def test_grouping_classes_loses_no_example(classes):
    counts = list(range(classes))
    assert sum(grouped(counts)) == sum(counts)
    assert len(grouped(counts)) <= 50


@pytest.mark.parametrize("count", [0, 9999, 10_000, 999_499, 1_000_000, 123_456_789])
def test_a_short_count_has_at_most_four_characters(count):
    assert len(short(count)) <= 4
