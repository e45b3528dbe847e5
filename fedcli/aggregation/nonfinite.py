"""Find the updates and tensors to blame when a result is NaN or infinite."""

from collections.abc import Iterable

import numpy as np

from fedcli.aggregation.base_model import Base
from fedcli.aggregation.blocks import Block
from fedcli.aggregation.updates import Update
from fedcli.errors import UpdateError
from fedcli.formats.dtypes import Array, as_float


def nonfinite_error(
    base: Base, updates: Iterable[Update], block: Block, result: Array
) -> UpdateError:
    """Return why a block's result is not finite: values of updates are not, or it overflows."""
    return nonfinite_values(updates, block) or UpdateError(
        f"the result overflows in tensor {_overflowing(block, result)!r}",
        hint="aggregate with --max-norm leaves out updates that are far from their base model",
        path=base.round.path,
    )


def overflow_error(update: Update, block: Block, squares: Array) -> UpdateError:
    """Return why an update's squared differences to its base model are not finite."""
    return nonfinite_values([update], block) or update.error(
        f"tensor {_overflowing(block, squares)!r}: is so far from the base model that its norm"
        " overflows"
    )


def nonfinite_values(updates: Iterable[Update], block: Block) -> UpdateError | None:
    """Return which updates have values in a block that are not finite, or None."""
    found = [error for update in updates if (error := _nonfinite_values(update, block)) is not None]
    return UpdateError.together(found) if found else None


def _nonfinite_values(update: Update, block: Block) -> UpdateError | None:
    with update.reopened() as tensors:
        for name in (part.name for part in block.parts):
            values = as_float(tensors.tensor(name))
            count = values.size - np.count_nonzero(np.isfinite(values))
            if count:
                return update.error(nonfinite_reason(name, int(count), values.size))
    return None


def nonfinite_reason(name: str, count: int, size: int) -> str:
    """Say how many of a tensor's values are not finite."""
    return f"tensor {name!r}: {count} of {size} values are NaN or infinite"


def _overflowing(block: Block, values: Array) -> str:
    names = (part.name for part in block.parts if not np.isfinite(values[part.place]).all())
    return next(names, block.parts[0].name)
