"""Compare private training with Opacus (Yousefpour et al. 2021), on the same network.

    pip install --no-deps opacus opt_einsum
    python examples/bench/against_opacus.py --model cnn --threads 1
    python examples/bench/against_opacus.py --model resnet18 --threads 1

Without noise, the sums of clipped gradients of one batch are compared with those of a loop over
single examples that only torch computes: the largest difference in units of the clip. Opacus has
two modes, hooks, which is its default, and ghost clipping. It runs twice, on contiguous activations
and on activations in channels-last layout, as convolutions on a CPU prefer them.

Then training steps with noise take turns: fedcli, and Opacus on contiguous activations. Both have
the same network (ResNet-18 with group norm), batch, optimizer and number of threads. Ratios are
medians, of fedcli's time to the other's: below 1, fedcli is faster.
"""

import argparse
import importlib
import importlib.metadata
import importlib.util
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from fedcli.models import build
from fedcli.plan import TrainPlan
from fedcli.run.info import ModelInfo
from fedcli.security.secret_streams import SecretStreams
from fedcli.training.augmentation import Targets
from fedcli.training.private import PrivateGradients

CPU = torch.device("cpu")
MODELS = {"cnn": ModelInfo("cnn"), "resnet18": ModelInfo("resnet18", norm="group")}
LR, CLIP, SIGMA = 0.01, 1.0, 1.0
MODES = ("hooks", "ghost")
LAYOUTS = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last}
Step = Callable[[Tensor, Tensor], None]


def network(model: str, layout: torch.memory_format = torch.channels_last) -> nn.Module:
    module = build(MODELS[model], 10, (3, 32, 32), own=None, seed=0)
    return module.to(memory_format=layout).train()


class Ours:
    """Steps of fedcli."""

    def __init__(self, model: str, batch: int, sigma: float) -> None:
        plan = TrainPlan.of(
            batch_size=batch, dp="example", clip=CLIP, noise_multiplier=sigma, lr=LR
        )
        streams = SecretStreams(bytes(32))
        self.module = network(model)
        self.parameters = list(self.module.parameters())
        self.of = PrivateGradients(plan, CPU, None, lambda size: None, streams)
        self.optimizer = torch.optim.SGD(self.parameters, lr=LR)

    def gradients(self, x: Tensor, y: Tensor) -> list[Tensor]:
        found = self.of.of(self.module, self.parameters, x, Targets(y), ()).gradients
        assert found is not None
        return found

    def step(self, x: Tensor, y: Tensor) -> None:
        for parameter, gradient in zip(self.parameters, self.gradients(x, y), strict=True):
            parameter.grad = gradient
        self.of.step += 1
        self.optimizer.step()


class Theirs:
    """Steps of Opacus; batches are given, and not drawn."""

    def __init__(
        self,
        model: str,
        batch: int,
        sigma: float,
        mode: str,
        layout: torch.memory_format = torch.contiguous_format,
    ) -> None:
        self.layout = layout
        module = network(model, layout)
        for layer in module.modules():
            if isinstance(layer, nn.ReLU):
                layer.inplace = False  # Opacus refuses it
            if isinstance(layer, nn.Conv2d):
                layer.__class__ = nn.Conv2d  # Opacus is slow with classes that it does not know
                layer.register_forward_pre_hook(self._laid_out)
        data = torch.utils.data.TensorDataset(torch.zeros(4 * batch, 3, 32, 32))
        made = (
            importlib.import_module("opacus")
            .PrivacyEngine(accountant="rdp")
            .make_private(
                module=module,
                optimizer=torch.optim.SGD(module.parameters(), lr=LR),
                criterion=nn.CrossEntropyLoss(),
                data_loader=torch.utils.data.DataLoader(data, batch_size=batch),
                noise_multiplier=sigma,
                max_grad_norm=CLIP,
                poisson_sampling=False,
                grad_sample_mode=mode,
            )
        )
        self.module, self.optimizer = made[:2]
        self.criterion: Any = made[2] if mode == "ghost" else nn.CrossEntropyLoss()

    def _laid_out(self, layer: nn.Module, given: tuple[Tensor]) -> Tensor:
        return given[0].contiguous(memory_format=self.layout)

    def step(self, x: Tensor, y: Tensor) -> None:
        self.optimizer.zero_grad()
        self.criterion(self.module(x), y).backward()
        self.optimizer.step()

    def gradients(self, x: Tensor, y: Tensor) -> list[Tensor]:
        self.step(x, y)
        return [parameter.grad for parameter in self.module.parameters()]


def drawn(batch: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn((batch, 3, 32, 32), generator=generator)
    return x.contiguous(memory_format=torch.channels_last), torch.arange(batch) % 10


def by_a_loop(model: str, x: Tensor, y: Tensor) -> list[Tensor]:
    """The sum of the clipped gradients, one example after another."""
    module = network(model).to(x.dtype)
    parameters = list(module.parameters())
    total = [torch.zeros_like(parameter) for parameter in parameters]
    for one, label in zip(x.split(1), y.split(1), strict=True):
        loss = nn.functional.cross_entropy(module(one), label)
        gradients = torch.autograd.grad(loss, parameters)
        length = torch.linalg.vector_norm(torch.stack([g.norm() for g in gradients]))
        factor = (CLIP / length).clamp(max=1)
        for added, gradient in zip(total, gradients, strict=True):
            added += factor * gradient
    return total


def difference(found: list[Tensor], expected: list[Tensor], batch: int) -> float:
    """The largest difference of sums of clipped gradients, in units of the clip."""
    pairs = zip(found, expected, strict=True)
    return max(float((batch * a - b).abs().max()) for a, b in pairs) / CLIP


def compare_gradients(model: str, batch: int) -> None:
    """Compare them in double precision, where rounding cannot switch a ReLU on or off."""
    x, y = drawn(batch)
    expected = by_a_loop(model, x.double(), y)
    ours = Ours(model, batch, 0.0)
    ours.module.double()
    found = difference(ours.gradients(x.double(), y), expected, batch)
    print(f"{model}: a loop and fedcli differ by {found:.0e}")
    for mode in MODES:
        for name, layout in LAYOUTS.items():
            theirs = Theirs(model, batch, 0.0, mode, layout)
            theirs.module.double()
            found = difference(theirs.gradients(x.double(), y), expected, batch)
            pair = Theirs(model, 2, 0.0, mode, layout).gradients(*_twice(x, y))
            length = torch.linalg.vector_norm(torch.stack([g.norm() for g in pair])) / CLIP
            print(
                f"{model}: a loop and Opacus, {mode}, {name}, differ by {found:.0e}; one clipped"
                f" gradient has the length {length:.3f}",
                flush=True,
            )


def _twice(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """A batch of the first example and a copy, whose mean gradient is that of the example."""
    return x[:1].repeat(2, 1, 1, 1), y[:1].repeat(2)


def seconds(step: Step, batch: int, steps: int) -> float:
    x, y = drawn(batch)
    started = time.perf_counter()
    for _ in range(steps):
        step(x, y)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=MODELS, default="cnn")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=7, help="number of turns")
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # of Opacus, that its noise is not that of a secure mode
    torch.set_num_threads(options.threads)
    model, batch = options.model, options.batch_size
    if importlib.util.find_spec("opacus") is None:
        print("Opacus is not installed: pip install --no-deps opacus opt_einsum")
        return
    print(f"Opacus {importlib.metadata.version('opacus')}, torch {torch.__version__}")
    compare_gradients(model, batch)
    sides: dict[str, Step] = {"fedcli": Ours(model, batch, SIGMA).step}
    for mode in MODES:
        sides[f"Opacus, {mode}"] = Theirs(model, batch, SIGMA, mode).step
    turns = [
        {name: seconds(step, batch, options.steps) for name, step in sides.items()}
        for _ in range(options.repeat + 1)
    ]
    for name in [name for name in sides if name != "fedcli"]:
        ratios = [turn["fedcli"] / turn[name] for turn in turns[1:]]  # the first one warms up
        print(
            f"{model}, batches of {batch}: fedcli / {name} = {statistics.median(ratios):.2f}"
            f" ({min(ratios):.2f} to {max(ratios):.2f}, {options.repeat} turns)",
            flush=True,
        )


if __name__ == "__main__":
    main()
