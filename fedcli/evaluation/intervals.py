"""95 % intervals of the scores that a confusion matrix determines, by the bootstrap."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 1000
MOST_CELLS = 100_000  # that are not 0; more take a minute
_LARGEST = 2**40  # examples; larger claims overflow
_AT_ONCE = 4_000_000  # counts, 32 MB
_SEED = 0

Interval = tuple[float, float]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def bootstrap_intervals(confusion: Sequence[Sequence[int]]) -> dict[str, Interval]:
    """Return the intervals of accuracy, balanced accuracy and macro F1, by name.

    For two classes there are those of sensitivity and specificity too. ``confusion`` is K×K: rows
    are true classes, columns predicted ones. Examples are drawn with replacement (Efron 1979),
    which is a draw of counts from a multinomial distribution; the bounds are the percentiles 2.5
    and 97.5 of ``RESAMPLES`` draws, with a fixed seed. Empty without examples, or if the matrix is
    too large.
    """
    total = sum(map(sum, confusion))
    if not 0 < total <= _LARGEST:
        return {}
    matrix = np.array(confusion, np.int64)
    rows, columns = np.nonzero(matrix)
    if len(rows) > MOST_CELLS:
        return {}
    parts = [
        _scores(draws, rows, columns, len(matrix))
        for draws in _resampled(matrix[rows, columns], total)
    ]
    values = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    known = {name: found[~np.isnan(found)] for name, found in values.items()}
    return {name: _percentiles(found) for name, found in known.items() if len(found)}


def _resampled(counts: Ints, total: int) -> Iterator[Ints]:
    """Yield draws (n, M) of the counts (M,) of cells, ``RESAMPLES`` together."""
    generator = np.random.default_rng(_SEED)
    step = max(1, _AT_ONCE // len(counts))
    for start in range(0, RESAMPLES, step):
        size = min(step, RESAMPLES - start)
        yield generator.multinomial(total, counts / total, size=size)


def _scores(draws: Ints, rows: Ints, columns: Ints, classes: int) -> dict[str, Floats]:
    """Return the scores of each draw; a score that a draw has no examples for is NaN."""
    true, predicted = _sums(draws, rows, classes), _sums(draws, columns, classes)
    right = rows == columns
    hits = _sums(draws[:, right], rows[right], classes)
    there = true > 0
    with np.errstate(invalid="ignore"):
        recall = hits / true
    f1 = 2 * hits / np.maximum(true + predicted, 1)
    scores = {
        "accuracy": hits.sum(1) / draws.sum(1),
        "balanced_accuracy": np.nansum(recall, 1) / there.sum(1),
        "macro_f1": np.where(there, f1, 0).sum(1) / there.sum(1),
    }
    if classes == 2:
        scores |= {"specificity": recall[:, 0], "sensitivity": recall[:, 1]}
    return scores


def _sums(draws: Ints, group: Ints, classes: int) -> Ints:
    """Return the sums (n, K) of the columns of each group; 0 for one without columns."""
    sums = np.zeros((len(draws), classes), np.int64)
    if len(group):
        order = np.argsort(group, kind="stable")
        names, starts = np.unique(group[order], return_index=True)
        sums[:, names] = np.add.reduceat(draws[:, order], starts, axis=1)
    return sums


def _percentiles(values: Floats) -> Interval:
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)
