"""Which values of section ``train`` of the plan make no sense together."""

from typing import TYPE_CHECKING

from fedcli.algorithms import ALGORITHMS, OPTIONS
from fedcli.errors import UsageError
from fedcli.options import option_of

if TYPE_CHECKING:
    from fedcli.plan.train import TrainPlan


def check_algorithm(plan: "TrainPlan") -> None:
    """Refuse (``UsageError``) what the plan's algorithm does not have, or cannot stand."""
    name, row = plan.algorithm, plan.local
    for key in OPTIONS:
        if getattr(plan, key) is not None and key not in row.options:
            owners = [other for other, its in ALGORITHMS.items() if key in its.options]
            raise UsageError(
                f"{option_of(key)}: no option of {name}; it belongs to {', '.join(owners)}"
            )
    for key, why in row.refuses.items():
        if getattr(plan, key):
            raise UsageError(f"{option_of(key)}: {name} {why}")
    if row.sgd_only:
        _check_plain_steps(plan)
    if plan.head_epochs and not plan.keeps_layers:
        raise UsageError(
            "--head-epochs: trains the layers of --local-layers alone, and there are none"
        )


def _check_plain_steps(plan: "TrainPlan") -> None:
    if plan.optimizer != "sgd":
        raise UsageError(
            f"--optimizer {plan.optimizer}: {plan.algorithm} reads gradients off the steps of sgd"
        )
    if plan.precision == "fp16":
        raise UsageError(
            f"--precision fp16: leaves out steps that overflow, and {plan.algorithm} counts them"
        )


def check_halves(plan: "TrainPlan", server_optimizer: str) -> None:
    """Refuse (``UsageError``) a rule that lacks the server's half of the plan's algorithm."""
    row = plan.local
    if row.needs_strategy and server_optimizer != row.strategy:
        raise UsageError(
            f"--algorithm {plan.algorithm}: its other half is the server optimizer {row.strategy},"
            f" and the rule has {server_optimizer}",
            hint=f"--strategy {row.strategy}",
        )
