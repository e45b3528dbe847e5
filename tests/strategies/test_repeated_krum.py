"""Bulyan's choices: those of Krum, repeated from the start for every choice."""

import time

import numpy as np
import pytest

from fedcli.formats.dtypes import Values
from fedcli.strategies.repeated_krum import bulyan_selection
from fedcli.strategies.selection import krum_scores, squared_distances


def chosen_slowly(distances: Values, byzantine: int) -> tuple[int, ...]:
    remaining = list(range(len(distances)))
    chosen = []
    for _ in range(len(distances) - 2 * byzantine):
        scores = krum_scores(distances[np.ix_(remaining, remaining)], byzantine)
        chosen.append(remaining.pop(int(np.argmin(scores))))
    return tuple(sorted(chosen))


def apart(steps: Values) -> Values:
    return squared_distances(steps @ steps.T)


@pytest.mark.parametrize("kind", ["normal", "whole", "same", "groups", "tiny", "far"])
@pytest.mark.parametrize(("count", "byzantine"), [(1, 0), (5, 0), (7, 1), (40, 9), (131, 32)])
def test_choices_are_those_of_krum_from_the_start(kind: str, count: int, byzantine: int) -> None:
    rng = np.random.default_rng(count)
    normal = rng.standard_normal((count, 6))
    steps = {
        "normal": normal,
        "whole": rng.integers(-2, 3, (count, 2)).astype(np.float64),  # many ties
        "same": np.ones((count, 3)),
        "groups": normal[rng.integers(0, 3, count)],
        "tiny": 1e-200 * normal,
        "far": normal * 10.0 ** rng.integers(0, 9, (count, 1)),
    }[kind]
    distances = apart(steps)
    expected = chosen_slowly(distances.copy(), byzantine)
    assert bulyan_selection(distances, byzantine) == expected


def test_choices_are_those_of_krum_where_distances_overflow() -> None:
    distances = apart(np.random.default_rng(0).standard_normal((12, 4)))
    distances[3:6] = distances[:, 3:6] = 1e308
    with np.errstate(over="ignore"):
        assert bulyan_selection(distances.copy(), 2) == chosen_slowly(distances, 2)


def seconds(count: int) -> float:
    distances = apart(np.random.default_rng(0).standard_normal((count, 8)))
    started = time.process_time()
    bulyan_selection(distances, count // 4 - 1)
    return time.process_time() - started


def test_time_grows_with_the_square_of_the_clients() -> None:
    assert seconds(1200) < 20 * seconds(300)  # 64 times, if every choice starts afresh
