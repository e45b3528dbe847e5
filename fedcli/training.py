"""Local training: SGD on a client's whole shard, held in memory and augmented in batches.

The pictures stay uint8 on the device and are normalised batch by batch. SGD is written with
``torch._foreach_*``, the calls that ``torch.optim`` makes itself: importing ``torch.optim``'s
optimizers costs 1.7 s a process, and later algorithms add terms to the step.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedcli.errors import DataError, FedcliError
from fedcli.plan import TrainPlan
from fedcli.run_info import DatasetInfo


@dataclass(frozen=True)
class Epoch:
    """The figures of one epoch: mean loss and accuracy over its examples, as they were trained."""

    epoch: int
    loss: float
    accuracy: float
    seconds: float


@dataclass(frozen=True)
class Normalize:
    """Turns a batch as it is stored into what a network is given."""

    mean: Tensor
    std: Tensor
    as_rgb: bool

    @classmethod
    def for_dataset(
        cls, dataset: DatasetInfo, *, as_rgb: bool, device: torch.device
    ) -> "Normalize":
        """Take the constants of a run; ``as_rgb`` repeats the one channel of grey pictures."""
        mean = torch.tensor(dataset.mean, device=device).view(-1, 1, 1)
        std = torch.tensor(dataset.std, device=device).view(-1, 1, 1)
        return cls(255 * mean, 255 * std, as_rgb and dataset.shape[0] == 1)

    def __call__(self, x: Tensor) -> Tensor:
        """Map uint8 (N, C, H, W) to float32; float32 examples are left as they are."""
        if x.dtype == torch.uint8:
            x = x.float().sub_(self.mean).div_(self.std)
        return x.expand(-1, 3, -1, -1) if self.as_rgb else x


def flip(x: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror each picture of (N, C, H, W) left to right with probability one half."""
    chosen = torch.rand(len(x), generator=generator) < 0.5
    return torch.where(chosen.to(x.device).view(-1, 1, 1, 1), x.flip(-1), x)


def crop(x: Tensor, generator: torch.Generator) -> Tensor:
    """Shift each picture of (N, C, H, W) by up to an eighth of its size, filling with zeros."""
    count, _, height, width = x.shape
    down, right = height // 8, width // 8
    padded = F.pad(x, (right, right, down, down))
    top = torch.randint(0, 2 * down + 1, (count, 1), generator=generator)
    left = torch.randint(0, 2 * right + 1, (count, 1), generator=generator)
    rows = (top + torch.arange(height)).to(x.device).view(count, 1, height, 1)
    columns = (left + torch.arange(width)).to(x.device).view(count, 1, 1, width)
    examples = torch.arange(count, device=x.device).view(count, 1, 1, 1)
    channels = torch.arange(x.shape[1], device=x.device).view(1, -1, 1, 1)
    return padded[examples, channels, rows, columns]


AUGMENT: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {"flip": flip, "crop": crop}


class SGD:
    """Stochastic gradient descent with momentum and weight decay, as ``torch.optim.SGD`` does it.

    ``v ← m v + (g + λ p)``, ``p ← p − η v``; the momentum starts from nothing every round.
    """

    def __init__(self, parameters: Sequence[Tensor], plan: TrainPlan) -> None:
        self.parameters = list(parameters)
        self._plan = plan
        self._velocity: list[Tensor] = []

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor]) -> None:
        """Move the parameters against the gradients."""
        # autograd may hand out one tensor for two parameters: gradients are not written to
        step = list(gradients)
        if self._plan.weight_decay:
            step = list(torch._foreach_add(step, self.parameters, alpha=self._plan.weight_decay))
        if self._plan.momentum and not self._velocity:
            self._velocity = [gradient.clone() for gradient in step]
        elif self._plan.momentum:
            torch._foreach_mul_(self._velocity, self._plan.momentum)
            torch._foreach_add_(self._velocity, step)
            step = self._velocity
        torch._foreach_add_(self.parameters, step, alpha=-self._plan.lr)


def batches(count: int, size: int) -> Iterator[slice]:
    """Cut ``count`` examples into slices of ``size``.

    A last batch of one joins the one before: BatchNorm cannot normalise over a single value.
    """
    start = 0
    while start < count:
        stop = start + size if count - start - size != 1 else count
        yield slice(start, min(stop, count))
        start = stop


def count_batches(count: int, size: int) -> int:
    """Return how many steps an epoch over ``count`` examples takes."""
    return sum(1 for _ in batches(count, size))


@torch.no_grad()
def mean_loss(
    module: nn.Module, x: Tensor, y: Tensor, *, normalize: Normalize, batch_size: int
) -> float:
    """Return the mean cross-entropy of a module, in evaluation mode, on stored examples.

    It is F_k of q-FedAvg (Li et al. 2020, equation 1), where the module is the global model.
    """
    module.eval()
    total = 0.0
    for part in batches(len(y), batch_size):
        logits = module(normalize(x[part]))
        total += F.cross_entropy(logits.double(), y[part], reduction="sum").item()
    return total / len(y)


def train(
    module: nn.Module,
    x: Tensor,
    y: Tensor,
    plan: TrainPlan,
    *,
    normalize: Normalize,
    seed: int,
    on_epoch: Callable[[Epoch], None],
) -> list[Epoch]:
    """Train ``module`` in place for the plan's epochs; x, y and module are on one device.

    ``x`` is (N, ...), uint8 or float32; ``y`` is int64 (N). The order of examples and the
    augmentation are drawn on the CPU from ``seed``. Raises ``FedcliError`` when the loss or the
    weights are not finite after an epoch, ``DataError`` for a batch of one that BatchNorm cannot
    normalise.
    """
    generator = torch.Generator().manual_seed(seed)
    parameters = [p for p in module.parameters() if p.requires_grad]
    optimizer = SGD(parameters, plan)
    module.train()
    epochs = []
    for number in range(1, plan.epochs + 1):
        started = time.perf_counter()
        loss, accuracy = _epoch(module, x, y, plan, normalize, generator, optimizer)
        epoch = Epoch(number, loss, accuracy, time.perf_counter() - started)
        if not math.isfinite(loss) or not _all_finite(module):
            raise FedcliError(
                f"training diverged: in epoch {number} the loss is {loss:g}, or weights overflow",
                hint=f"lower --lr (it was {plan.lr:g})",
            )
        on_epoch(epoch)
        epochs.append(epoch)
    return epochs


def _all_finite(module: nn.Module) -> bool:
    return all(bool(torch.isfinite(tensor).all()) for tensor in module.state_dict().values())


def _forward(module: nn.Module, inputs: Tensor) -> Tensor:
    try:
        logits: Tensor = module(inputs)
    except ValueError as error:
        if len(inputs) > 1 or "more than 1 value per channel" not in str(error):
            raise
        raise DataError(
            "a batch of one example: BatchNorm cannot normalise it",
            hint="a larger --batch-size, more examples for this client, or a run with --norm group",
        ) from error
    return logits


def _epoch(
    module: nn.Module,
    x: Tensor,
    y: Tensor,
    plan: TrainPlan,
    normalize: Normalize,
    generator: torch.Generator,
    optimizer: SGD,
) -> tuple[float, float]:
    parameters = optimizer.parameters
    order = torch.randperm(len(y), generator=generator).to(x.device)
    loss_sum = torch.zeros((), device=x.device)
    correct = torch.zeros((), dtype=torch.int64, device=x.device)
    for part in batches(len(y), plan.batch_size):
        chosen = order[part]
        inputs, labels = x[chosen], y[chosen]
        for name in plan.augment:
            inputs = AUGMENT[name](inputs, generator)
        logits = _forward(module, normalize(inputs))
        loss = F.cross_entropy(logits, labels)
        optimizer.step(torch.autograd.grad(loss, parameters, materialize_grads=True))
        loss_sum += loss.detach() * len(labels)
        correct += (logits.detach().argmax(1) == labels).sum()
    return loss_sum.item() / len(y), correct.item() / len(y)
