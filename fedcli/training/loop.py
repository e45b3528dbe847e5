"""The training loop: stages of epochs of steps, which can be interrupted and resumed."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from fedcli.algorithms.base import Term
from fedcli.errors import FedcliError
from fedcli.formats.records import Count, decode
from fedcli.models.generators import seed_generators, seeded_generators
from fedcli.plan import TrainPlan
from fedcli.plan.sampling_rate import steps_per_epoch
from fedcli.randomness import stream_seed
from fedcli.training.augmentation import Normalize, prepare
from fedcli.training.batches import Source, count_batches, shuffled
from fedcli.training.gradients import BatchResult, Gradients
from fedcli.training.optimizers import OPTIMIZERS, Optimizer, clip
from fedcli.training.private import PoissonBatches


@dataclass(frozen=True)
class Epoch:
    """The figures of one epoch; loss and accuracy are means over its training batches."""

    epoch: int
    loss: float
    accuracy: float
    seconds: float
    examples: int


@dataclass(frozen=True)
class Stage:
    """Epochs that train the same parameters with the same terms.

    ``steps``, if given, ends it earlier. ``frozen`` lists the layers that do not change, not even
    their running statistics.
    """

    name: str
    module: nn.Module
    parameters: Sequence[Tensor]
    epochs: int
    steps: int | None = None
    terms: Sequence[Term] = ()
    frozen: Sequence[nn.Module] = ()


@dataclass(frozen=True)
class Task:
    """The inputs of all stages: the examples, the plan, this round's learning rate, the seed.

    ``poisson`` draws the batches of private training; else they are shuffled.
    """

    source: Source
    plan: TrainPlan
    lr: float
    normalize: Normalize
    seed: int
    device: torch.device
    poisson: PoissonBatches | None = None


def _ignore(stage: Stage, number: int, images_per_second: float) -> None:
    """Ignore a batch."""


@dataclass(frozen=True)
class Observer:
    """The callbacks after every epoch and every batch.

    ``on_batch`` receives the stage, the number of the epoch, and its images per second so far.
    """

    on_epoch: "Callable[[Trainer, Stage, Epoch], None]"
    on_batch: Callable[[Stage, int, float], None] = _ignore


@dataclass(frozen=True)
class TrainerState:
    """The part of ``Trainer.state`` that is not in tensors."""

    stage: Count
    steps: tuple[Count, ...]
    optimizer_steps: Count
    micro_batch: Count | None
    scale: tuple[float, ...] | None
    epochs: tuple[tuple[Epoch, ...], ...]


class Trainer:
    """Trains the stages one after another, in place.

    The order of examples and the augmentation are drawn on the CPU, from one stream of the seed
    for all stages. ``run`` raises ``FedcliError`` if the loss or the weights are not finite after
    an epoch, and what ``Gradients`` raises.
    """

    def __init__(
        self, task: Task, stages: Sequence[Stage], gradients: Gradients, observer: Observer
    ) -> None:
        self.task = task
        self.stages = stages
        self.gradients = gradients
        self.observer = observer
        self.generator = torch.Generator().manual_seed(task.seed)
        self.epochs: list[list[Epoch]] = [[] for _ in stages]
        self.steps = [0 for _ in stages]
        self.stage = 0
        self.optimizer = self._optimizer()

    def run(self) -> None:
        """Train from the current state to the end."""
        with seeded_generators(self.task.seed, self.task.device):
            while True:
                stage, done = self.stages[self.stage], self.epochs[self.stage]
                set_mode(stage.module, stage.frozen)
                while len(done) < stage.epochs:
                    done.append(self._epoch(stage, len(done) + 1))
                    self.observer.on_epoch(self, stage, done[-1])
                if self.stage + 1 == len(self.stages):
                    return
                self.stage += 1
                self.optimizer = self._optimizer()

    @property
    def epochs_done(self) -> int:
        """The number of epochs done in all stages."""
        return sum(map(len, self.epochs))

    @property
    def at_end(self) -> bool:
        """Whether training is finished."""
        return self.epochs_done == sum(stage.epochs for stage in self.stages)

    def _optimizer(self) -> Optimizer:
        plan = self.task.plan
        return OPTIMIZERS[plan.optimizer](self.stages[self.stage].parameters, plan, self.task.lr)

    def _epoch(self, stage: Stage, number: int) -> Epoch:
        task = self.task
        started = time.perf_counter()
        # Layers such as dropout use the global generators, which ``run`` puts back.
        seed_generators(stream_seed(task.seed, "layers", self.stage, number), task.device)
        batches = self._batches(stage)
        loss = torch.zeros((), device=task.device)
        correct = torch.zeros((), dtype=torch.int64, device=task.device)
        count = 0
        for x, y in task.source.epoch(batches):
            result = self._batch(stage, x, y)
            loss += result.loss
            correct += result.correct
            count += len(y)
            self.observer.on_batch(stage, number, count / (time.perf_counter() - started))
        self.steps[self.stage] += len(batches)
        mean, accuracy = (value.item() / max(1, count) for value in (loss, correct))
        epoch = Epoch(number, mean, accuracy, time.perf_counter() - started, count)
        if not math.isfinite(epoch.loss) or not _all_finite(stage.module):
            raise FedcliError(
                f"training diverged: in epoch {number} the loss is {epoch.loss:g}, or weights"
                " overflow",
                hint=f"lower --lr (it was {task.lr:g})",
            )
        return epoch

    def _batches(self, stage: Stage) -> list[Tensor]:
        """Return the batches of the next epoch."""
        task, done = self.task, self.steps[self.stage]
        left = None if stage.steps is None else stage.steps - done
        count, size = len(task.source), task.plan.batch_size
        if task.poisson is None:
            return shuffled(count, size, self.generator)[:left]
        steps = steps_per_epoch(count, size)
        return task.poisson.of(range(done, done + min(steps, left or steps)), count)

    def _batch(self, stage: Stage, x: Tensor, y: Tensor) -> BatchResult:
        task = self.task
        inputs, targets = prepare(x, y, task.plan, task.normalize, self.generator)
        self.gradients.step = self.optimizer.steps
        result = self.gradients.of(
            stage.module, self.optimizer.parameters, inputs, targets, stage.terms
        )
        if result.gradients is not None:
            self._step(stage, result.gradients)
        return replace(result, gradients=None)  # else they would last until the next are there

    def _step(self, stage: Stage, gradients: list[Tensor]) -> None:
        with torch.no_grad():
            for term in stage.terms:
                gradients = term.gradient(gradients, self.optimizer.parameters)
        if self.task.plan.clip_grad:
            gradients = clip(gradients, self.task.plan.clip_grad)
        self.optimizer.step(gradients)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the state that changes from epoch to epoch: copies of tensors, facts as JSON."""
        tensors = {"generator": self.generator.get_state()}
        for key, module in self._modules().items():
            tensors |= {f"{key}/{name}": value for name, value in module.state_dict().items()}
        for slot, values in self.optimizer.state.items():
            tensors |= {f"optimizer/{slot}/{i:06d}": value for i, value in enumerate(values)}
        scale = self.gradients.scale
        facts = {
            "stage": self.stage,
            "steps": list(self.steps),
            "optimizer_steps": self.optimizer.steps,
            "micro_batch": self.gradients.micro_batch,
            "scale": None if scale is None else [scale.value, scale.good],
            "epochs": [[asdict(epoch) for epoch in epochs] for epochs in self.epochs],
        }
        copies = {name: value.detach().to("cpu", copy=True) for name, value in tensors.items()}
        return copies, facts

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Resume from a ``state`` of the same task and stages.

        Raises ``ValueError`` for any other state; the trainer must not be used afterwards.
        """
        found = decode(TrainerState, facts)
        if not found.stage < len(self.stages) == len(found.steps) == len(found.epochs):
            raise ValueError("has other stages")
        generator = _like(self.generator.get_state(), tensors, "generator")
        try:
            self.generator.set_state(generator)
        except RuntimeError:
            raise ValueError("has no state of torch's generator") from None
        for key, module in self._modules().items():
            for name, value in module.state_dict().items():
                value.copy_(_like(value, tensors, f"{key}/{name}"))
        self.stage, self.steps = found.stage, list(found.steps)
        self.epochs = [list(epochs) for epochs in found.epochs]
        self.optimizer = self._optimizer()
        self.optimizer.steps = found.optimizer_steps
        slots = {name.split("/")[1] for name in tensors if name.startswith("optimizer/")}
        for slot in slots:
            self.optimizer.state[slot] = [
                torch.empty_like(value).copy_(_like(value, tensors, f"optimizer/{slot}/{i:06d}"))
                for i, value in enumerate(self.optimizer.parameters)
            ]
        self.gradients.micro_batch = found.micro_batch
        if self.gradients.scale is not None:
            if found.scale is None or len(found.scale) != 2:
                raise ValueError("has no scale of the loss")
            self.gradients.scale.value, good = found.scale
            self.gradients.scale.good = int(good)

    def _modules(self) -> dict[str, nn.Module]:
        modules = {id(stage.module): stage.module for stage in self.stages}
        return {f"module{number}": module for number, module in enumerate(modules.values())}


def _like(value: Tensor, tensors: Mapping[str, Tensor], name: str) -> Tensor:
    found = tensors.get(name)
    if found is None or (found.shape, found.dtype) != (value.shape, value.dtype):
        raise ValueError(f"has no tensor {name!r} of shape {list(value.shape)} and {value.dtype}")
    return found


def set_mode(module: nn.Module, frozen: Sequence[nn.Module]) -> None:
    """Put a module in training mode, except for frozen layers."""
    module.train()
    for layer in frozen:
        layer.eval()


def _all_finite(module: nn.Module) -> bool:
    return all(bool(torch.isfinite(tensor).all()) for tensor in module.state_dict().values())


def epochs_of(plan: TrainPlan, examples: int) -> int:
    """Return the number of epochs, where the plan's steps may end the last one early."""
    if plan.steps is None:
        return plan.epochs
    return math.ceil(plan.steps / _batches_of_epoch(plan, examples))


def steps_of(plan: TrainPlan, examples: int) -> int:
    """Return the number of steps of the shared model."""
    if plan.steps is not None:
        return plan.steps
    return plan.epochs * _batches_of_epoch(plan, examples)


def _batches_of_epoch(plan: TrainPlan, examples: int) -> int:
    count = count_batches if plan.dp is None else steps_per_epoch
    return count(examples, plan.batch_size)
