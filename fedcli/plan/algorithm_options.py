"""Local algorithms in the section ``train`` of the plan: their options, and what they refuse."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fedcli.algorithms import ALGORITHMS, owners_of
from fedcli.errors import UsageError
from fedcli.options import Declared, Given, declared, option_of, owned
from fedcli.plan.sections import convert

if TYPE_CHECKING:
    from fedcli.plan.train import TrainPlan


def checked_options(own: Given, named: Callable[[str], str]) -> dict[str, Any]:
    """Return options of algorithms with the types they declare, without those that are None."""
    hints = {key: ALGORITHM_OPTIONS[key].hint for key in own}
    values = {key: convert(hints[key], value, named(key)) for key, value in own.items()}
    return {key: value for key, value in values.items() if value is not None}


def _algorithm_options() -> dict[str, Declared]:
    """Return the options of all algorithms, with the combined help of shared ones."""
    names = dict.fromkeys(name for row in ALGORITHMS.values() for name in declared(row))
    return {name: owned(dict(owners_of(name))) for name in names}


ALGORITHM_OPTIONS = _algorithm_options()


def check_algorithm_options(name: str, options: Given) -> None:
    """Raise ``UsageError`` for options of other algorithms, and for values out of range."""
    known = declared(ALGORITHMS[name])
    for key, value in options.items():
        if key not in known:
            owners = [owner for owner, _ in owners_of(key)]
            raise UsageError(
                f"{option_of(key)}: is not an option of {name}; it belongs to {', '.join(owners)}"
            )
        known[key].check(value)


def check_algorithm(plan: "TrainPlan") -> None:
    """Raise ``UsageError`` for settings that the plan's algorithm does not support."""
    name, row = plan.algorithm, plan.local
    for key, why in row.refuses.items():
        if getattr(plan, key):
            raise UsageError(f"{option_of(key)}: {name} {why}")
    if row.sgd_only and plan.optimizer != "sgd":
        raise UsageError(
            f"--optimizer {plan.optimizer}: {name} derives gradients from the steps of sgd"
        )
    if row.sgd_only and plan.precision == "fp16":
        raise UsageError(f"--precision fp16: skips steps that overflow, but {name} counts them")
    if plan.head_epochs and not plan.keeps_layers:
        raise UsageError(
            "--head-epochs: trains only the layers of --local-layers, and there are none"
        )
