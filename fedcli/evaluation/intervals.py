"""95 % intervals of the scores that a confusion matrix determines, by the bootstrap."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 1000
MOST_CELLS = 100_000  # that are not 0; more take a minute
_LARGEST = 2**40  # examples; larger claims overflow
_AT_ONCE = 4_000_000  # counts, 32 MB
_CHEAP = 20  # a binomial draw costs as much as this many examples
_SEED = 0

Interval = tuple[float, float]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Totals(NamedTuple):
    """Examples of each true class, of each predicted class, and those that agree: (n, K) each."""

    true: Ints
    predicted: Ints
    right: Ints


def bootstrap_intervals(confusion: Sequence[Sequence[int]]) -> dict[str, Interval]:
    """Return the intervals of accuracy, balanced accuracy and macro F1, by name.

    For two classes there are those of sensitivity and specificity too. ``confusion`` is K×K: rows
    are true classes, columns predicted ones. Examples are drawn with replacement (Efron 1979);
    the bounds are the percentiles 2.5 and 97.5 of ``RESAMPLES`` draws, with a fixed seed. Empty
    without examples, or if the matrix is too large.
    """
    total = sum(map(sum, confusion))
    if not 0 < total <= _LARGEST:
        return {}
    matrix = np.array(confusion, np.int64)
    cells = int(np.count_nonzero(matrix))
    if cells > MOST_CELLS:
        return {}
    draw = _draws_of_examples if total < _CHEAP * cells else _draws_of_cells
    parts = [_scores(totals) for totals in draw(matrix, np.random.default_rng(_SEED))]
    values = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    known = {name: found[~np.isnan(found)] for name, found in values.items()}
    return {name: _percentiles(found) for name, found in known.items() if len(found)}


def _draws_of_cells(matrix: Ints, generator: np.random.Generator) -> Iterator[Totals]:
    """Draw the counts of all cells at once, from a multinomial distribution."""
    rows, columns = np.nonzero(matrix)
    counts, right = matrix[rows, columns], rows == columns
    total, classes = int(counts.sum()), len(matrix)
    step = max(1, _AT_ONCE // len(counts))
    for start in range(0, RESAMPLES, step):
        size = min(step, RESAMPLES - start)
        draws = generator.multinomial(total, counts / total, size=size)
        yield Totals(
            _sums(draws, rows, classes),
            _sums(draws, columns, classes),
            _sums(draws[:, right], rows[right], classes),
        )


def _sums(draws: Ints, group: Ints, classes: int) -> Ints:
    """Return the sums (n, K) of the columns of each group; 0 for one without columns."""
    sums = np.zeros((len(draws), classes), np.int64)
    if len(group):
        order = np.argsort(group, kind="stable")
        names, starts = np.unique(group[order], return_index=True)
        sums[:, names] = np.add.reduceat(draws[:, order], starts, axis=1)
    return sums


def _draws_of_examples(matrix: Ints, generator: np.random.Generator) -> Iterator[Totals]:
    """Draw example by example, which is faster for few examples in many cells."""
    rows, columns = np.nonzero(matrix)
    counts, classes = matrix[rows, columns], len(matrix)
    true, predicted = np.repeat(rows, counts), np.repeat(columns, counts)
    for _ in range(RESAMPLES):
        chosen = generator.integers(0, len(true), len(true))
        drawn, taken_for = true[chosen], predicted[chosen]
        sides = (drawn, taken_for, drawn[drawn == taken_for])
        yield Totals(*(np.bincount(side, minlength=classes)[None] for side in sides))


def _scores(totals: Totals) -> dict[str, Floats]:
    """Return the scores of each draw; a score that a draw has no examples for is NaN."""
    true, predicted, right = totals
    there = true > 0
    with np.errstate(invalid="ignore"):
        recall = right / true
    f1 = 2 * right / np.maximum(true + predicted, 1)
    scores = {
        "accuracy": right.sum(1) / true.sum(1),
        "balanced_accuracy": np.nansum(recall, 1) / there.sum(1),
        "macro_f1": np.where(there, f1, 0).sum(1) / there.sum(1),
    }
    if true.shape[1] == 2:
        scores |= {"specificity": recall[:, 0], "sensitivity": recall[:, 1]}
    return scores


def _percentiles(values: Floats) -> Interval:
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)
