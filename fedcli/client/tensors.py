"""Which tensors of a model a client trains, sends and keeps."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from fedcli.errors import UsageError
from fedcli.formats.metadata import Role
from fedcli.plan import TrainPlan
from fedcli.plan.layer_patterns import check_ties, checked


@dataclass(frozen=True)
class Tensors:
    """The tensors of a model that are frozen, and those that stay with the client.

    ``tied`` maps second names of a tensor to its first one, under which alone it is sent.
    """

    frozen: frozenset[str]
    local: frozenset[str]
    tied: Mapping[str, str] = field(default_factory=dict)

    @property
    def withheld(self) -> frozenset[str]:
        """The names that an update does not hold."""
        return self.frozen | self.local | self.tied.keys()

    @classmethod
    def of(
        cls,
        plan: TrainPlan,
        names: Mapping[str, Any],
        roles: Mapping[str, Role],
        tied: Mapping[str, str],
    ) -> "Tensors":
        """Resolve the plan's patterns.

        Raises ``UsageError`` for a pattern that matches nothing, for patterns that name a tied
        tensor by one of its names only, and if nothing is left to send.
        """
        frozen = checked(plan.freeze, names, "--freeze")
        local = checked(plan.local_layers, names, "--local-layers")
        for chosen, option in ((frozen, "--freeze"), (local, "--local-layers")):
            try:
                check_ties(chosen, tied, option)
            except ValueError as error:
                raise UsageError(str(error)) from None
        if both := sorted(frozen & local):
            raise UsageError(f"--freeze and --local-layers: both name {both[0]}")
        if (
            not {n for n in names if roles.get(n, Role.PARAMETER) == Role.PARAMETER}
            - frozen
            - local
        ):
            raise UsageError("--freeze and --local-layers: leave no parameter to train and send")
        return cls(frozen, local, tied)


def with_local_layers(plan: TrainPlan, module: nn.Module) -> TrainPlan:
    """Return the plan with the layers that its algorithm leaves with the client.

    Raises ``UsageError`` if the network lacks the layers that the algorithm needs.
    """
    layers = [*plan.local_layers, *plan.local.local_layers(module)]
    return replace(plan, local_layers=tuple(dict.fromkeys(layers)))
