"""What masked updates can hold."""

from collections.abc import Mapping

from fedcli.errors import UsageError
from fedcli.formats.metadata import Role
from fedcli.plan import TrainPlan
from fedcli.plan.layer_patterns import withheld


def check_roles(plan: TrainPlan, roles: Mapping[str, Role]) -> None:
    """Raise ``UsageError`` if updates of a masked run would hold anything but parameters.

    Buffers such as running variances leave every range that suits steps, and counters are combined
    by their maximum, which a sum does not tell.
    """
    away = withheld(plan.freeze, plan.local_layers, roles)
    for name, role in roles.items():
        if role != Role.PARAMETER and name not in away:
            raise UsageError(
                f"--secagg: the tensor {name!r} of this model is a {role}, and only parameters are"
                " masked",
                hint="--norm group has none; or keep such layers at the client with"
                " --algorithm fedbn, or --freeze them",
            )
