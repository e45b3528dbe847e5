"""Combine the values of many clients, block by block: FedAvg (McMahan et al. 2017, algorithm 1).

A reducer is given one block of values of every client, one after another in client order, and
returns the block of the global model. It never sees a file, and never more than one client's
block at a time, so the memory that it needs does not grow with the clients or the model.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from fedcli.dtypes import Array, as_float

Weights = NDArray[np.float64]


def client_weights(num_examples: Sequence[int], weighting: str) -> Weights:
    """Return the share of each client in the mean: ``n_i / sum(n)``, or ``1 / len(n)``.

    ``weighting`` is one of ``plan.WEIGHTINGS``.
    """
    counts = [1] * len(num_examples) if weighting == "uniform" else num_examples
    total = sum(counts)
    return np.array([count / total for count in counts], np.float64)


def weighted_mean(blocks: Iterable[Array], weights: Weights) -> NDArray[np.float64]:
    """Return ``sum(w_i * x_i)`` in float64, added up in the order of the blocks.

    Each block is an array of one float dtype or ``BFLOAT16``, and all are of one shape. A value
    that is not finite, in any block, makes the sum not finite: no weight is able to hide it.
    """
    total = term = np.empty(0)
    with np.errstate(all="ignore"):
        for index, (weight, block) in enumerate(zip(weights, blocks, strict=True)):
            if index == 0:
                # The first product is not added to 0, which would turn -0 into 0.
                total = as_float(block).astype(np.float64)
                total *= weight
                term = np.empty_like(total)
            else:
                # Widened before it is multiplied; faster than to let numpy do both at once.
                np.copyto(term, as_float(block))
                term *= weight
                total += term
    return total


def largest(blocks: Iterable[Array]) -> Array:
    """Return the largest value over the clients, element by element, in the blocks' own dtype.

    This is how integers are combined. A counter such as BatchNorm's ``num_batches_tracked`` says
    how many batches a tensor has seen. It is no quantity to average: a mean would have to be
    rounded, and a float64 cannot hold every int64. The largest never runs backwards from round
    to round, and is the client's own value where there is one client.
    """
    result = np.empty(0)
    for index, block in enumerate(blocks):
        result = block.copy() if index == 0 else np.maximum(result, block, out=result)
    return result
