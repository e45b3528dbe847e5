"""Ditto: a personal model in addition to the shared one.

Li et al. 2021, "Ditto: Fair and Robust Federated Learning Through Personalization", algorithm 1.
The shared model is trained as in FedAvg. Then the client trains its own model v_k, which minimises

    h_k(v; w_t) = F_k(v) + λ/2 ‖v − w_t‖²

where w_t is the global model of the round. v_k stays with the client and starts as the first
global model that the client receives.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from fedcli.algorithms.base import Kept, LocalAlgorithm, Personal, RoundStart, Term
from fedcli.algorithms.fedprox import Proximal
from fedcli.options import option


@dataclass(frozen=True)
class Ditto(LocalAlgorithm):
    """Minimise F_k(w), then F_k(v) + λ/2 ‖v − w_t‖²."""

    name = "ditto"
    summary = "an additional personal model, drawn towards the shared one"
    source = "Li et al. 2021 (Ditto), algorithm 1"
    refuses: ClassVar[Mapping[str, str]] = {"local_layers": "keeps a whole model with the client"}
    keeps = "personal"

    ditto_lambda: float = option(
        0.1, "How strongly the global model attracts the personal one.", "L", at_least=0
    )

    @property
    def exposes_examples(self) -> str:
        """It does."""
        return "trains a second model on the same examples"

    def begin(self, start: RoundStart) -> Term:
        """Return the personal model's term."""
        return PersonalModel(start, self.ditto_lambda)


class PersonalModel(Term):
    """Trains a personal model after the shared one, to which it adds nothing."""

    def __init__(self, start: RoundStart, pull: float) -> None:
        self.module = start.copied()
        parameters = dict(self.module.named_parameters())
        mine = [parameters[name] for name in start.shared]
        self.term = Proximal(pull, mine, start.shared.values())
        if start.kept:
            self.module.load_state_dict(dict(start.kept))

    def personal(self) -> Personal:
        """Return v_k with its proximal term."""
        return Personal(self.module, self.term)

    def finish(self, steps: int) -> Kept:
        """Keep v_k."""
        return Kept({k: v.detach().clone() for k, v in self.module.state_dict().items()})
