"""FedNova: updates are divided by the length of their local steps.

Wang et al. 2020, "Tackling the Objective Inconsistency Problem in Heterogeneous Federated
Optimization", section 4. A client trains as in FedAvg; the strategy ``fednova`` divides.
"""

from dataclasses import dataclass
from typing import Any

from fedcli.algorithms.base import LocalAlgorithm


@dataclass(frozen=True)
class FedNova(LocalAlgorithm):
    """Minimise F_k(w), and record the length of the steps."""

    name = "fednova"
    summary = "updates are divided by the length of their local steps"
    source = "Wang et al. 2020 (FedNova), section 4"
    strategy = "fednova"
    sgd_only = True
    divides_by_length = True

    def recorded(self, length: float) -> dict[str, Any]:
        """Record ‖a‖₁."""
        return {"normalized_steps": length}
