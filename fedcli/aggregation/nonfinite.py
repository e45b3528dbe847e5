"""Tell whose values, and which tensor, are to blame where a result is no number."""

from collections.abc import Iterable

import numpy as np

from fedcli.aggregation.base_model import Base
from fedcli.aggregation.blocks import Block
from fedcli.aggregation.updates import Update
from fedcli.errors import UpdateError
from fedcli.formats.dtypes import Array, as_float


def not_finite(base: Base, updates: Iterable[Update], block: Block, result: Array) -> UpdateError:
    """Tell why the result for a block is not finite: which update's values are not, or else where
    they are finite and the result overflows.
    """
    return bad_values(updates, block) or UpdateError(
        f"the result overflows in tensor {_overflown(block, result)!r}",
        hint="aggregate with --max-norm leaves out updates that are far from their base model",
        path=base.round.path,
    )


def too_far(update: Update, block: Block, squares: Array) -> UpdateError:
    """Tell why the squared differences of an update to its base model are not finite."""
    return bad_values([update], block) or update.error(
        f"tensor {_overflown(block, squares)!r}: is so far from the base model that its norm"
        " overflows"
    )


def bad_values(updates: Iterable[Update], block: Block) -> UpdateError | None:
    """Tell which updates have values in a block that are not finite; None where none has."""
    found = [error for update in updates if (error := _bad_values(update, block)) is not None]
    return UpdateError.together(found) if found else None


def _bad_values(update: Update, block: Block) -> UpdateError | None:
    with update.reopened() as tensors:
        for name in (part.name for part in block.parts):
            values = as_float(tensors.tensor(name))
            count = values.size - np.count_nonzero(np.isfinite(values))
            if count:
                return update.error(
                    f"tensor {name!r}: {count} of {values.size} values are NaN or infinite"
                )
    return None


def _overflown(block: Block, values: Array) -> str:
    names = (part.name for part in block.parts if not np.isfinite(values[part.place]).all())
    return next(names, block.parts[0].name)
