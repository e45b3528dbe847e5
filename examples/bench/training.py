"""Compare ``train-client``'s training with what people write in PyTorch, in pairs.

    python examples/bench/training.py --model resnet18 --threads 2
    python examples/bench/training.py --model resnet18 --threads 2 --precision bf16
    python examples/bench/training.py --model cnn --threads 2 --against dataloader

``--against plain`` is the best plain loop that there is: pictures as one tensor in memory,
channels last, ``torch.optim``'s SGD in its foreach form, in float32. ``--against dataloader`` is
the usual one: a folder of JPEG pictures, decoded by PIL in torchvision's ``ImageFolder`` when they
are needed, and a ``DataLoader``; ``--workers`` processes decode for it. fedcli gets the same
pictures as a client's shard holds them, and ``--precision``.

Both start from the same weights, with the same batches, learning rate and momentum, in turns, each
in a process of its own; fedcli with its own ResNet-18, the others with torchvision's. What is
printed is the median of the ratios of their speeds (above 1: fedcli is faster) with the smallest
and the largest.
"""

import argparse
import atexit
import multiprocessing
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision import datasets, models, transforms

from fedcli.models import build
from fedcli.plan import TrainPlan
from fedcli.run.info import DatasetInfo, ModelInfo
from fedcli.training import train
from fedcli.training.augmentation import Normalize
from fedcli.training.devices import keep_heap

SHAPE = (3, 32, 32)
DATASET = DatasetInfo("noise", tuple(map(str, range(10))), SHAPE)
Loop = Callable[[nn.Module], None]


@dataclass(frozen=True)
class Work:
    """What both loops do, on noise, which takes as long as pictures."""

    model: str
    pictures: int
    plan: TrainPlan
    threads: int
    workers: int

    def data(self) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(0)
        shape = (self.pictures, *SHAPE)
        x = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
        return x, torch.arange(self.pictures) % 10

    def network(self, loop: str) -> nn.Module:
        own = build(ModelInfo(self.model), 10, SHAPE, own=None, seed=0)
        if self.model != "resnet18" or loop == "fedcli":
            return own
        module = models.resnet18(num_classes=10)
        module.load_state_dict(own.state_dict())
        return module

    def optimizer(self, module: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.SGD(module.parameters(), self.plan.lr, self.plan.momentum, foreach=True)


def with_fedcli(work: Work) -> Loop:
    keep_heap()  # as train-client does
    x, y = work.data()
    normalize = Normalize.for_dataset(DATASET, as_rgb=True, device=x.device)

    def loop(module: nn.Module) -> None:
        train(module, x, y, work.plan, normalize=normalize, seed=0, on_epoch=lambda epoch: None)

    return loop


def plain(work: Work) -> Loop:
    x, y = work.data()

    def loop(module: nn.Module) -> None:
        optimizer = work.optimizer(module)
        module.train().to(memory_format=torch.channels_last)
        for _ in range(work.plan.epochs):
            for chosen in torch.randperm(len(y)).split(work.plan.batch_size):
                inputs = x[chosen].float().sub_(127.5).div_(63.75)
                inputs = inputs.contiguous(memory_format=torch.channels_last)
                step(module, optimizer, inputs, y[chosen])

    return loop


def dataloader(work: Work) -> Loop:
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    for number, (x, label) in enumerate(zip(*work.data(), strict=True)):
        path = folder / str(int(label)) / f"{number}.jpg"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.ascontiguousarray(x.permute(1, 2, 0))).save(path, quality=90)
    scale = transforms.Normalize([0.5, 0.5, 0.5], [0.25, 0.25, 0.25])
    data = datasets.ImageFolder(folder, transforms.Compose([transforms.ToTensor(), scale]))
    loader = torch.utils.data.DataLoader(
        data,
        work.plan.batch_size,
        shuffle=True,
        num_workers=work.workers,
        persistent_workers=work.workers > 0,
    )

    def loop(module: nn.Module) -> None:
        optimizer = work.optimizer(module)
        module.train()
        for _ in range(work.plan.epochs):
            for inputs, labels in loader:
                step(module, optimizer, inputs, labels)

    return loop


def step(
    module: nn.Module, optimizer: torch.optim.Optimizer, inputs: Tensor, labels: Tensor
) -> None:
    optimizer.zero_grad()
    nn.functional.cross_entropy(module(inputs), labels).backward()
    optimizer.step()


LOOPS = {"fedcli": with_fedcli, "plain": plain, "dataloader": dataloader}


class Side:
    """A process that trains in one way, again and again."""

    def __init__(self, name: str, work: Work) -> None:
        self.name, self.work = name, work
        context = multiprocessing.get_context("spawn")
        self._process = ProcessPoolExecutor(1, context, prepare, (name, work))

    def speed(self) -> float:
        """Return pictures a second."""
        return self._process.submit(measure, self.name, self.work).result()


PREPARED: dict[str, Loop] = {}


def prepare(name: str, work: Work) -> None:
    torch.set_num_threads(work.threads)
    PREPARED["loop"] = LOOPS[name](work)


def measure(name: str, work: Work) -> float:
    module = work.network(name)
    started = time.perf_counter()
    PREPARED["loop"](module)
    return work.pictures * work.plan.epochs / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--against", choices=["plain", "dataloader"], default="plain")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--pictures", type=int, default=640)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--repeat", type=int, default=5, help="number of turns")
    options = parser.parse_args()
    plan = TrainPlan(
        epochs=options.epochs, batch_size=options.batch_size, precision=options.precision
    )
    work = Work(options.model, options.pictures, plan, options.threads, options.workers)
    other, ours = Side(options.against, work), Side("fedcli", work)
    ratios = []
    for turn in range(options.repeat + 1):
        speeds = other.speed(), ours.speed()
        if turn:  # the first one warms up
            ratios.append(speeds[1] / speeds[0])
            print(f"{options.against} {speeds[0]:.0f} images/s, fedcli {speeds[1]:.0f} images/s")
    print(
        f"{options.model}, {options.precision}: fedcli / {options.against} ="
        f" {statistics.median(ratios):.2f}"
        f" ({min(ratios):.2f} to {max(ratios):.2f}, {options.repeat} turns)"
    )


if __name__ == "__main__":
    main()
