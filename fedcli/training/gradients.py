"""The gradients of a batch, in the precision asked for, and in as many parts as memory needs."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedcli.algorithms.base import Term
from fedcli.errors import DataError, FedcliError, OutOfMemoryError
from fedcli.plan import TrainPlan
from fedcli.training.augmentation import Normalize, Targets, channels_last
from fedcli.training.batches import Source, slices
from fedcli.training.devices import free_memory, is_out_of_memory, seed_layers

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
_SCALE = 2.0**16
_SMALLEST_SCALE = 2.0**-10
_STEPS_TO_GROW = 2000


@dataclass(frozen=True)
class BatchResult:
    """The gradients of a batch, the sum of its losses, and how many answers were right.

    ``gradients`` is None where fp16 overflowed and the step is to be left out.
    """

    gradients: list[Tensor] | None
    loss: Tensor
    correct: Tensor


@dataclass
class LossScale:
    """Keeps gradients of fp16 above its smallest number (Micikevicius et al. 2018, section 3.2).

    The scale is halved when they overflow, and doubled after 2000 steps without. Raises
    ``FedcliError`` when no scale keeps them from overflowing.
    """

    value: float = _SCALE
    good: int = 0

    def unscaled(self, gradients: list[Tensor]) -> list[Tensor] | None:
        """Return the gradients at their own scale, or None where they overflowed."""
        divided = list(torch._foreach_div(gradients, self.value))
        norms = torch.stack([norm.float() for norm in torch._foreach_norm(divided)])
        if bool(torch.isfinite(norms).all()):
            self.good += 1
            if self.good % _STEPS_TO_GROW == 0:
                self.value *= 2
            return divided
        self.value /= 2
        self.good = 0
        if self.value < _SMALLEST_SCALE:
            raise FedcliError(
                "training diverged: the gradients overflow in fp16 at any scale",
                hint="lower --lr, or --precision bf16",
            )
        return None


class Snapshot:
    """What an attempt changes beside gradients, and can be put back where it failed.

    These are a module's buffers, such as running statistics, and the random numbers that were
    drawn. The copies are made in the same memory every time.
    """

    def __init__(self, module: nn.Module, device: torch.device) -> None:
        self.module = module
        self.device = device
        self._buffers = [buffer.clone() for buffer in module.buffers()]
        self._random = self._random_states()

    def take(self) -> None:
        """Copy what there is now."""
        _copy(self._buffers, list(self.module.buffers()))
        self._random = self._random_states()

    def put_back(self) -> None:
        """Make it again what it was when it was last copied."""
        _copy(list(self.module.buffers()), self._buffers)
        torch.set_rng_state(self._random[0])
        for state in self._random[1:]:
            torch.cuda.set_rng_state(state, self.device)

    def _random_states(self) -> list[Tensor]:
        cuda = self.device.type == "cuda"
        return [torch.get_rng_state(), *([torch.cuda.get_rng_state(self.device)] if cuda else [])]


@torch.no_grad()
def _copy(to: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    # one call a dtype: on a GPU each call of a mixed list is one a tensor
    for dtype in {value.dtype for value in values}:
        chosen = [i for i, value in enumerate(values) if value.dtype == dtype]
        torch._foreach_copy_([to[i] for i in chosen], [values[i] for i in chosen])


class Gradients:
    """Computes them; where memory runs out, in smaller parts from then on.

    ``micro_batch`` is the number of examples that are put through at a time, None for all.
    ``on_shrink`` is told when it had to become smaller. Raises ``OutOfMemoryError`` when one
    example at a time is too many, ``DataError`` for one that BatchNorm cannot normalise.
    """

    def __init__(
        self,
        plan: TrainPlan,
        device: torch.device,
        micro_batch: int | None,
        on_shrink: Callable[[int], None],
        *,
        compiled: bool = False,
    ) -> None:
        self.plan = plan
        self.device = device
        self.micro_batch = self._asked = micro_batch
        self.on_shrink = on_shrink
        self.scale = LossScale() if plan.precision == "fp16" else None
        self._before: dict[int, Snapshot] = {}
        self._compiled: dict[int, Callable[[Tensor], Tensor]] | None = {} if compiled else None

    def of(
        self,
        module: nn.Module,
        parameters: Sequence[Tensor],
        inputs: Tensor,
        targets: Targets,
        terms: Sequence[Term],
    ) -> BatchResult:
        """Return the gradients of the mean loss of a batch, terms of the algorithms included."""
        if id(module) not in self._before:
            self._before[id(module)] = Snapshot(module, self.device)
        before = self._before[id(module)]
        before.take()
        while True:
            try:
                return self._in_parts(module, parameters, inputs, targets, terms)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
            # Only here, after the error and its frames are gone, is their memory free.
            self._shrink(len(targets))
            before.put_back()

    def of_all(
        self,
        module: nn.Module,
        parameters: Sequence[Tensor],
        source: Source,
        batches: Sequence[Tensor],
        normalize: Normalize,
        *,
        seed: int,
    ) -> list[Tensor]:
        """Return the gradients of the mean loss over all batches; buffers are left as they were.

        ``seed`` is for layers that draw, such as dropout.
        """
        before = Snapshot(module, self.device)
        seed_layers(seed, self.device)
        total = [torch.zeros_like(parameter) for parameter in parameters]
        for x, y in source.epoch(batches):
            inputs, targets = channels_last(normalize(x)), Targets(y)
            found = self.of(module, parameters, inputs, targets, ()).gradients
            while found is None:  # every overflow has made the scale smaller
                found = self.of(module, parameters, inputs, targets, ()).gradients
            torch._foreach_add_(total, found, alpha=len(y) / len(source))
        before.put_back()
        return total

    def _shrink(self, count: int) -> None:
        size = min(self.micro_batch or count, count)
        if size == 1:
            raise OutOfMemoryError(
                "out of memory with one example at a time",
                hint="a smaller --model or --image-size, or another --device",
            )
        free_memory(self.device)
        self.micro_batch = (size + 1) // 2
        self.on_shrink(self.micro_batch)

    def _in_parts(
        self,
        module: nn.Module,
        parameters: Sequence[Tensor],
        inputs: Tensor,
        targets: Targets,
        terms: Sequence[Term],
    ) -> BatchResult:
        count = len(targets)
        gradients: list[Tensor] = []
        loss_sum = torch.zeros((), device=self.device)
        correct = torch.zeros((), dtype=torch.int64, device=self.device)
        for part in slices(count, self.micro_batch or count):
            mine = targets[part]
            with self._precision():
                logits = self._forward(module, inputs[part])
                loss = objective = mine.loss(logits.float(), self.plan.label_smoothing or 0.0)
                for term in terms:
                    added = term.loss(logits)
                    objective = objective if added is None else objective + added
            if len(mine) != count:
                objective = objective * (len(mine) / count)
            if self.scale:
                objective = objective * self.scale.value
            new = torch.autograd.grad(objective, parameters, materialize_grads=True)
            if gradients:
                torch._foreach_add_(gradients, new)
            else:  # autograd may hand out one tensor for two parameters, and they are added to
                gradients = [g.clone() for g in new] if len(mine) != count else list(new)
            loss_sum += loss.detach() * len(mine)
            correct += (logits.detach().argmax(1) == mine.labels).sum()
        scaled = self.scale.unscaled(gradients) if self.scale else gradients
        return BatchResult(scaled, loss_sum, correct)

    def _precision(self) -> contextlib.AbstractContextManager[object]:
        dtype = _DTYPES.get(self.plan.precision)
        if dtype is None:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype)

    def _forward(self, module: nn.Module, inputs: Tensor) -> Tensor:
        try:
            logits = self._function(module)(inputs)
        except ValueError as error:
            if len(inputs) > 1 or "more than 1 value per channel" not in str(error):
                raise
            if self._asked == 1:
                raise DataError(
                    "--micro-batch 1: BatchNorm cannot normalise one example",
                    hint="--micro-batch 2, or a run with --norm group",
                ) from error
            if self.micro_batch == 1:
                raise OutOfMemoryError(
                    "out of memory with two examples at a time; BatchNorm cannot normalise one",
                    hint="a smaller --image-size, or a run with --norm group",
                ) from error
            raise DataError(
                "a batch of one example: BatchNorm cannot normalise it",
                hint="a larger --batch-size, more examples for this client, or a run with --norm"
                " group",
            ) from error
        return logits

    def _function(self, module: nn.Module) -> Callable[[Tensor], Tensor]:
        if self._compiled is None:
            return module
        if id(module) not in self._compiled:
            self._compiled[id(module)] = torch.compile(module)
        return self._compiled[id(module)]
