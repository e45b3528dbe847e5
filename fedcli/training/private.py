"""DP-SGD (Abadi et al. 2016, algorithm 1): noisy sums of clipped gradients over Poisson batches.

A step divides by the batch size of the plan, never by the size of the batch that came, which would
tell who was in it. Everything random comes from secret streams.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedcli.algorithms.base import Term
from fedcli.errors import UsageError
from fedcli.plan import TrainPlan
from fedcli.plan.sampling_rate import sampling_rate
from fedcli.security.secret_streams import SecretStreams
from fedcli.training.augmentation import Targets
from fedcli.training.gradients import BatchResult, Gradients
from fedcli.training.layerwise import Layerwise
from fedcli.training.per_example import Functional, PerExample
from fedcli.training.secret_noise import add_noise, poisson

_MIXES = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm)


@dataclass(frozen=True)
class PoissonBatches:
    """Draws the batch of every step: each example with the same probability, in secret."""

    streams: SecretStreams
    batch_size: int

    def of(self, steps: range, count: int) -> list[Tensor]:
        """Return the batches of some steps over ``count`` examples; indices int64 (n,), n ≥ 0."""
        rate = sampling_rate(self.batch_size, count)
        return [poisson(self.streams, step, count, rate) for step in steps]


class PrivateGradients(Gradients):
    """Computes noisy gradients: (Σ gᵢ min(1, C/‖gᵢ‖) + N(0, σ²C² I)) / B.

    The norms are over all parameters together, B is the batch size of the plan, and C is infinite
    if the plan has none. Examples whose loss or gradient is not finite contribute nothing.
    """

    def __init__(
        self,
        plan: TrainPlan,
        device: torch.device,
        micro_batch: int | None,
        on_shrink: Callable[[int], None],
        streams: SecretStreams,
    ) -> None:
        super().__init__(plan, device, micro_batch, on_shrink)
        self.streams = streams
        self.clip = plan.clip or torch.inf
        self._per_example: dict[int, PerExample] = {}

    def _in_parts(
        self,
        module: nn.Module,
        parameters: Sequence[Tensor],
        inputs: Tensor,
        targets: Targets,
        terms: Sequence[Term],
    ) -> BatchResult:
        per_example = self._of_module(module, parameters)
        size = min(self.micro_batch or len(targets) or 1, per_example.most)
        total = None
        for part in range(0, len(targets) or 1, size):  # an empty batch is one empty part
            chosen = slice(part, part + size)
            with self._precision():
                found = per_example.clipped_sum(inputs[chosen], targets.labels[chosen], self.clip)
            total = found if total is None else total.plus(found)
        assert total is not None
        return BatchResult(self._noisy(total.gradients), total.loss, total.correct)

    def _of_module(self, module: nn.Module, parameters: Sequence[Tensor]) -> PerExample:
        if id(module) not in self._per_example:
            check_apart(module)
            kind = Layerwise if Layerwise.supports(module, parameters) else Functional
            smoothing = self.plan.label_smoothing or 0.0
            self._per_example[id(module)] = kind(module, parameters, smoothing)
        return self._per_example[id(module)]

    def _noisy(self, sums: list[Tensor]) -> list[Tensor]:
        sigma = self.plan.noise_multiplier or 0.0
        std = sigma * self.clip if sigma else 0.0  # without noise, C may be infinite
        return add_noise(sums, std, self.plan.batch_size, self.streams, self.step)


def check_apart(module: nn.Module) -> None:
    """Raise ``UsageError`` for a layer, in training, that normalises over the batch.

    One example would change the gradients of all others, and statistics get no noise.
    """
    for name, layer in module.named_modules():
        if isinstance(layer, _MIXES) and layer.training and _uses_batch(layer):
            raise UsageError(
                f"--dp example: layer {name} ({type(layer).__name__}) normalises over the batch, so"
                " that one example changes the gradients of all others",
                hint="use a run with --norm group, or freeze such layers: --freeze and --lora keep"
                " their statistics",
            )


def _uses_batch(layer: nn.Module) -> bool:
    over_batch = isinstance(layer, nn.modules.batchnorm._BatchNorm)
    return over_batch or bool(getattr(layer, "track_running_stats", False))
