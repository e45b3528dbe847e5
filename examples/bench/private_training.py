"""Compare private training with plain training of the same network, in pairs.

    python examples/bench/private_training.py --model cnn --threads 1
    python examples/bench/private_training.py --model resnet18 --threads 1
    python examples/bench/private_training.py --model cnn --threads 1 --one-by-one

Both are fedcli's, on noise of 32×32 pixels, with the same batch size and number of steps: the plain
one with shuffled batches, the private one with Poisson batches of that size in the mean, clipped
gradients of single examples and noise. ResNet-18 has group norm. With ``--one-by-one``, private
training uses ``torch.func`` as it does for networks that fedcli does not know.

Each is in a process of its own, and they take turns. What is printed for each micro-batch is the
median of the ratios of their times for as many examples (below 1: private training is faster), with
the smallest and the largest, and the peak memory of both processes.
"""

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedcli.models import build
from fedcli.plan import TrainPlan
from fedcli.run.info import DatasetInfo, ModelInfo
from fedcli.security.secret_streams import SecretStreams
from fedcli.training import private
from fedcli.training.augmentation import Normalize
from fedcli.training.batches import InMemory
from fedcli.training.devices import keep_heap, peak_memory
from fedcli.training.gradients import Gradients
from fedcli.training.layerwise import Layerwise
from fedcli.training.loop import Epoch, Observer, Stage, Task, Trainer, epochs_of

CPU = torch.device("cpu")
SHAPE = (3, 32, 32)
DATASET = DatasetInfo("noise", tuple(map(str, range(10))), SHAPE)
STREAMS = SecretStreams(bytes(32))
MODELS = {"cnn": ModelInfo("cnn"), "resnet18": ModelInfo("resnet18", norm="group")}


@dataclass(frozen=True)
class Work:
    """What a process trains, and how."""

    model: str
    plan: TrainPlan
    pictures: int
    threads: int
    micro_batch: int | None
    one_by_one: bool

    def network(self) -> nn.Module:
        module = build(MODELS[self.model], 10, SHAPE, own=None, seed=0)
        return module.to(memory_format=torch.channels_last)

    def gradients(self) -> Gradients:
        if self.plan.dp is None:
            return Gradients(self.plan, CPU, self.micro_batch, lambda size: None)
        return private.PrivateGradients(
            self.plan, CPU, self.micro_batch, lambda size: None, STREAMS
        )

    def trainer(self) -> Trainer:
        x = torch.randint(0, 256, (self.pictures, *SHAPE), dtype=torch.uint8)
        source = InMemory(x, torch.arange(self.pictures) % 10, CPU)
        normalize = Normalize.for_dataset(DATASET, as_rgb=True, device=CPU)
        module, plan = self.network(), self.plan
        batches = private.PoissonBatches(STREAMS, plan.batch_size) if plan.dp else None
        task = Task(source, plan, plan.lr, normalize, 0, CPU, batches)
        stage = Stage(
            "", module, list(module.parameters()), epochs_of(plan, self.pictures), plan.steps
        )
        return Trainer(task, [stage], self.gradients(), Observer(_ignore))


class Unknown(Layerwise):
    """Takes no network, so that all are computed one example at a time."""

    @classmethod
    def supports(cls, module: nn.Module, parameters: Sequence[Tensor]) -> bool:
        return False


def _ignore(trainer: Trainer, stage: Stage, epoch: Epoch) -> None:
    """Ignore an epoch."""


def prepare(threads: int) -> None:
    keep_heap()  # as train-client does
    torch.set_num_threads(threads)


def measure(work: Work) -> tuple[float, int]:
    """Return seconds per example, and the peak memory so far."""
    if work.one_by_one:
        private.Layerwise = Unknown
    trainer = work.trainer()
    started = time.perf_counter()
    trainer.run()
    seconds = time.perf_counter() - started
    return seconds / sum(one.examples for one in trainer.epochs[0]), peak_memory(CPU) or 0


class Side:
    """A process that does the same work again and again."""

    def __init__(self, work: Work) -> None:
        self.work = work
        context = multiprocessing.get_context("spawn")
        self._process = ProcessPoolExecutor(1, context, prepare, (work.threads,))

    def measure(self) -> tuple[float, int]:
        return self._process.submit(measure, self.work).result()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=MODELS, default="cnn")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--micro-batches", type=int, nargs="+", default=[64, 32, 16])
    parser.add_argument("--one-by-one", action="store_true")
    parser.add_argument("--repeat", type=int, default=5, help="number of turns")
    options = parser.parse_args()
    plan = TrainPlan.of(steps=options.steps, batch_size=options.batch_size)
    dp = plan.with_options({"dp": "example", "clip": 1.0, "noise_multiplier": 1.0})
    pictures = 4 * options.batch_size
    for size in options.micro_batches:
        sides = [
            Side(Work(options.model, one, pictures, options.threads, size, options.one_by_one))
            for one in (plan, dp)
        ]
        turns = [[side.measure() for side in sides] for _ in range(options.repeat + 1)]
        ratios = [ours[0] / plain[0] for plain, ours in turns[1:]]  # the first one warms up
        memory = " and ".join(f"{peak / 2**20:.0f}" for _, peak in turns[-1])
        print(
            f"{options.model}, micro-batch {size}: private / plain ="
            f" {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f},"
            f" {options.repeat} turns); peak memory of plain and private: {memory} MiB",
            flush=True,
        )


if __name__ == "__main__":
    main()
