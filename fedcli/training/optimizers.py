"""Local optimizers, written with the ``torch._foreach_*`` calls that ``torch.optim`` uses.

Importing the optimizers of ``torch.optim`` takes 1.7 s per process. Optimizer state starts empty
every round. Gradients are never overwritten: autograd may return one tensor for two parameters.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from fedcli.plan import TrainPlan


class Optimizer(ABC):
    """Parameters, plan, and the state: lists of tensors by name, and the number of steps."""

    def __init__(self, parameters: Sequence[Tensor], plan: TrainPlan, lr: float) -> None:
        self.parameters = list(parameters)
        self.plan = plan
        self.lr = lr
        self.state: dict[str, list[Tensor]] = {}
        self.steps = 0

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor]) -> None:
        """Move the parameters against the gradients."""
        self.steps += 1
        step = list(gradients)
        if self.plan.weight_decay and self.plan.optimizer != "adamw":
            step = list(torch._foreach_add(step, self.parameters, alpha=self.plan.weight_decay))
        self._move(step)

    @abstractmethod
    def _move(self, step: list[Tensor]) -> None:
        """Move the parameters by a step, which includes weight decay except for ``adamw``."""

    def _moment(self, name: str) -> list[Tensor]:
        if name not in self.state:
            self.state[name] = [torch.zeros_like(parameter) for parameter in self.parameters]
        return self.state[name]


class SGD(Optimizer):
    """``v ← m v + (g + λ p)``, ``p ← p − η v``, as in ``torch.optim.SGD``."""

    def _move(self, step: list[Tensor]) -> None:
        if self.plan.momentum and not self.state:
            self.state["momentum"] = [gradient.clone() for gradient in step]
        elif self.plan.momentum:
            velocity = self.state["momentum"]
            torch._foreach_mul_(velocity, self.plan.momentum)
            torch._foreach_add_(velocity, step)
            step = velocity
        torch._foreach_add_(self.parameters, step, alpha=-self.lr)


class Adam(Optimizer):
    """Kingma & Ba 2015, algorithm 1, with β₁ the plan's momentum, β₂ 0.999 and ε 1e-8.

    ``adamw`` shrinks the parameters by ``1 − η λ`` first (Loshchilov & Hutter 2019, algorithm 2).
    """

    _BETA2 = 0.999
    _EPSILON = 1e-8

    def _move(self, step: list[Tensor]) -> None:
        beta1, beta2 = self.plan.momentum, self._BETA2
        if self.plan.optimizer == "adamw":
            torch._foreach_mul_(self.parameters, 1 - self.lr * self.plan.weight_decay)
        mean, variance = self._moment("mean"), self._moment("variance")
        torch._foreach_lerp_(mean, step, 1 - beta1)
        torch._foreach_mul_(variance, beta2)
        torch._foreach_addcmul_(variance, step, step, 1 - beta2)
        scale = torch._foreach_sqrt(variance)
        torch._foreach_div_(scale, (1 - beta2**self.steps) ** 0.5)
        torch._foreach_add_(scale, self._EPSILON)
        rate = self.lr / (1 - beta1**self.steps)
        torch._foreach_addcdiv_(self.parameters, mean, scale, -rate)


OPTIMIZERS: dict[str, type[Optimizer]] = {"sgd": SGD, "adam": Adam, "adamw": Adam}


def clip(gradients: Sequence[Tensor], norm: float) -> list[Tensor]:
    """Scale the gradients down to this total norm, like ``clip_grad_norm_``."""
    total = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(list(gradients))))
    return list(torch._foreach_mul(list(gradients), torch.clamp(norm / (total + 1e-6), max=1.0)))
