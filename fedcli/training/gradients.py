"""The gradients of a batch, in the requested precision, with gradient accumulation if needed."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedcli.algorithms.base import Term
from fedcli.errors import DataError, FedcliError, OutOfMemoryError
from fedcli.models.generators import GeneratorStates, seed_generators
from fedcli.plan import TrainPlan
from fedcli.training.augmentation import Normalize, Targets, channels_last
from fedcli.training.batches import Source, slices
from fedcli.training.devices import free_memory, is_out_of_memory

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
_SCALE = 2.0**16
_SMALLEST_SCALE = 2.0**-10
_STEPS_TO_GROW = 2000


@dataclass(frozen=True)
class BatchResult:
    """The gradients of a batch, the sum of its losses, and the number of correct predictions.

    ``gradients`` is None if fp16 overflowed and the step must be skipped.
    """

    gradients: list[Tensor] | None
    loss: Tensor
    correct: Tensor


@dataclass
class LossScale:
    """Dynamic loss scaling for fp16 (Micikevicius et al. 2018, section 3.2).

    An overflow halves the scale; 2000 steps without overflow double it. Raises ``FedcliError`` if
    gradients overflow at every scale.
    """

    value: float = _SCALE
    good: int = 0

    def unscaled(self, gradients: list[Tensor]) -> list[Tensor] | None:
        """Return the unscaled gradients, or None if they overflowed."""
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
                hint="lower --lr, or use --precision bf16",
            )
        return None


class Snapshot:
    """A copy of the buffers and random states that a failed attempt changes, to restore them.

    Buffers are, for example, running statistics. Every copy reuses the same memory.
    """

    def __init__(self, module: nn.Module, device: torch.device) -> None:
        self.module = module
        self.device = device
        self._buffers = [buffer.clone() for buffer in module.buffers()]
        self._random = GeneratorStates.now(self.device)

    def take(self) -> None:
        """Copy the current state."""
        _copy(self._buffers, list(self.module.buffers()))
        self._random = GeneratorStates.now(self.device)

    def restore(self) -> None:
        """Restore the state of the last copy."""
        _copy(list(self.module.buffers()), self._buffers)
        self._random.restore()


@torch.no_grad()
def _copy(to: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    # One call per dtype: on a GPU, a list of mixed dtypes is copied tensor by tensor.
    for dtype in {value.dtype for value in values}:
        chosen = [i for i, value in enumerate(values) if value.dtype == dtype]
        torch._foreach_copy_([to[i] for i in chosen], [values[i] for i in chosen])


class Gradients:
    """Computes gradients, in smaller micro-batches once memory runs out.

    ``micro_batch`` is the number of examples per forward pass, None for the whole batch.
    ``on_shrink`` is called with a smaller one. ``step`` is the number of steps before this one, for
    what is drawn anew in each. Raises ``OutOfMemoryError`` if a single example
    does not fit, ``DataError`` for a single example that BatchNorm cannot normalise.
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
        self.step = 0
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
        """Return the gradients of a batch's mean loss, including the algorithm's terms."""
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
            # Free memory only here, where the error and its frames are gone.
            self._shrink(len(targets))
            before.restore()

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
        """Return the gradients of the mean loss over all batches; buffers stay unchanged.

        ``seed`` is for random layers such as dropout.
        """
        before = Snapshot(module, self.device)
        seed_generators(seed, self.device)
        total = [torch.zeros_like(parameter) for parameter in parameters]
        for x, y in source.epoch(batches):
            inputs, targets = channels_last(normalize(x)), Targets(y)
            found = self.of(module, parameters, inputs, targets, ()).gradients
            while found is None:  # every overflow halves the scale
                found = self.of(module, parameters, inputs, targets, ()).gradients
            torch._foreach_add_(total, found, alpha=len(y) / len(source))
        before.restore()
        return total

    def _shrink(self, count: int) -> None:
        size = min(self.micro_batch or count, count)
        if size == 1:
            raise OutOfMemoryError(
                "out of memory with one example at a time",
                hint="use a smaller --model or --image-size, or another --device",
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
            else:  # autograd may return one tensor for two parameters; accumulation needs copies
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
                    hint="use --micro-batch 2, or a run with --norm group",
                ) from error
            if self.micro_batch == 1:
                raise OutOfMemoryError(
                    "out of memory with two examples at a time; BatchNorm cannot normalise one",
                    hint="use a smaller --image-size, or a run with --norm group",
                ) from error
            raise DataError(
                "a batch of one example: BatchNorm cannot normalise it",
                hint="use a larger --batch-size, more examples for this client, or a run with"
                " --norm group",
            ) from error
        return logits

    def _function(self, module: nn.Module) -> Callable[[Tensor], Tensor]:
        if self._compiled is None:
            return module
        if id(module) not in self._compiled:
            self._compiled[id(module)] = torch.compile(module)
        return self._compiled[id(module)]
