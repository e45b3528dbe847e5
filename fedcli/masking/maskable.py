"""What the updates of a round can hold if nothing but their sum is to be known."""

from collections.abc import Mapping

from fedcli.errors import UsageError
from fedcli.formats.metadata import Role
from fedcli.plan import Plan, TrainPlan
from fedcli.plan.layer_patterns import withheld
from fedcli.plan.masked_noise import MaskedNoise


def check_held(plan: Plan, train: TrainPlan, roles: Mapping[str, Role], values: int) -> None:
    """Raise ``UsageError`` if updates of so many values cannot be hidden as a plan says.

    ``train`` is the plan of training with all layers that stay with the client.
    """
    if plan.secagg is not None:
        check_roles("--secagg", train, roles)
    if plan.aggregate.client_level:
        check_roles("--update-noise", train, roles)
    if noise := MaskedNoise.planned(plan):
        noise.before_rounding(values)


def check_roles(option: str, plan: TrainPlan, roles: Mapping[str, Role]) -> None:
    """Raise ``UsageError`` that names ``option`` if updates would hold anything but parameters.

    Buffers such as running variances leave every range that suits steps, and counters are combined
    by their maximum, which a sum does not tell and which gets no noise.
    """
    away = withheld(plan.freeze, plan.local_layers, roles)
    check_only_parameters(option, {n: role for n, role in roles.items() if n not in away})


def check_only_parameters(option: str, roles: Mapping[str, Role]) -> None:
    """Raise ``UsageError`` as ``check_roles`` for the roles of tensors that updates hold."""
    for name, role in roles.items():
        if role != Role.PARAMETER:
            raise UsageError(
                f"{option}: the tensor {name!r} of this model is a {role}, and only parameters are"
                f" {'masked' if option == '--secagg' else 'clipped and get noise'}",
                hint="--norm group has none; or keep such layers at the client with"
                " --algorithm fedbn, or --freeze them",
            )
